//! Devices of the kernel by packet sockets: our own poll-mode port on any network interface, a veth's end or a NIC of the
//! kernel's. As with a tap, segments of up to 64 KiB and partial checksums cross it as they are.
//!
//! The interface stays the kernel's: it has its addresses, and hears what comes by it as well.

use super::handle::Stats;
use crate::counters::Counters;
use crate::error::{Errno, Error};
use crate::ethtool::LinkSettings;
use crate::mempool::{HEADROOM, Mempool};
use crate::offload::capability;
use crate::packet::socket::{self, Failed};
use crate::queue::{RxQueue, TxQueue};
use crate::tap::kernel::{Features, failed};
use crate::tap::{TapRx, TapTx};
use crate::virtio::header::SHORT_LEN;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most queues of a kind: sockets that the kernel shares frames out over.
pub const MAX_QUEUES: u16 = 64;

/// How to open a port on an interface.
#[derive(Clone, Debug)]
pub struct SystemConfig {
    /// Name of the interface, in the network namespace of the calling thread.
    pub interface: String,
    /// RX queues, at least 1.
    pub rx_queues: u16,
    /// TX queues, at least 1.
    pub tx_queues: u16,
    /// Where received packets go.
    pub pool: Mempool,
}

/// A port on an interface, for everything but packets.
pub struct SystemPort {
    interface: String,
    index: u32,
    gone: Arc<AtomicBool>,
    rx: Vec<Arc<Counters>>,
    tx: Vec<Arc<Counters>>,
}

impl SystemPort {
    /// Opens a port on an interface that is there.
    ///
    /// # Errors
    /// [`Error::Queues`]; [`Error::SmallBuffers`]; [`Error::Port`] with the step and the kernel's reason.
    pub fn open(config: &SystemConfig) -> Result<(SystemPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let SystemConfig { interface, rx_queues, tx_queues, pool } = config;
        let (rx_queues, tx_queues) = (*rx_queues, *tx_queues);
        if !(1..=MAX_QUEUES).contains(&rx_queues) || !(1..=MAX_QUEUES).contains(&tx_queues) {
            return Err(Error::Queues {
                name: interface.clone(),
                rx: rx_queues,
                tx: tx_queues,
                max_rx: MAX_QUEUES,
                max_tx: MAX_QUEUES,
            });
        }
        // Headers are read from the first segment.
        let min = usize::from(HEADROOM) + 512;
        if usize::from(pool.data_room()) < min {
            return Err(Error::SmallBuffers { name: interface.clone(), room: pool.data_room().into(), min });
        }
        let fail = |(step, reason): Failed| failed(interface, step)(reason);
        let index =
            socket::interface_index(interface).map_err(|reason| fail(("finding the interface", reason)))?;
        let open = |count: u16, receives: bool| -> Result<Vec<File>, Failed> {
            (0..count).map(|_| socket::open(index, receives)).collect()
        };
        let receivers = open(rx_queues, true).map_err(fail)?;
        socket::spread(&receivers).map_err(fail)?;
        let senders = open(tx_queues, false).map_err(fail)?;
        let gone = Arc::new(AtomicBool::new(false));
        let mut port = SystemPort {
            interface: interface.clone(),
            index,
            gone: Arc::clone(&gone),
            rx: Vec::new(),
            tx: Vec::new(),
        };
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for (number, file) in receivers.into_iter().enumerate() {
            let queue = TapRx::on_socket(Arc::new(file), FEATURES, pool.clone(), Arc::clone(&gone));
            port.rx.push(Arc::clone(&queue.counters));
            rx.push(RxQueue::tap(queue, number as u16));
        }
        for (number, file) in senders.into_iter().enumerate() {
            let queue = TapTx::new(Arc::new(file), FEATURES, Arc::clone(&gone));
            port.tx.push(Arc::clone(&queue.counters));
            tx.push(TxQueue::tap(queue, number as u16));
        }
        Ok((port, rx, tx))
    }

    /// Name that the interface had when it was opened.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The interface's number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// MTU in bytes, without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn mtu(&self) -> Result<u16, Error> {
        socket::mtu(self.index).map_err(failed(&self.interface, "reading the MTU"))
    }

    /// Sets the MTU of the interface, in bytes without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        socket::set_mtu(self.index, mtu).map_err(failed(&self.interface, "setting the MTU"))
    }

    /// MAC address of the interface.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        socket::mac(self.index).map_err(failed(&self.interface, "reading the MAC address"))
    }

    /// What the interface says of its link.
    pub fn settings(&self) -> Option<LinkSettings> {
        socket::settings(self.index)
    }

    /// What may be asked of packets to send (`capability`).
    pub fn tx_offloads(&self) -> u64 {
        capability::MULTI_SEGS | capability::TCP_CKSUM | capability::UDP_CKSUM | capability::TCP_TSO
    }

    /// Whether a queue found that the interface was deleted, or moved elsewhere.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || socket::interface_index(&self.interface) == Err(Errno::ENODEV)
    }

    /// The port's counters.
    pub fn stats(&self) -> Stats {
        Counters::stats(&self.rx, &self.tx)
    }
}

/// What virtio headers of packet sockets can say: nothing of tunnels. UDP segments only since Linux 6.2, which nothing tells.
const FEATURES: Features =
    Features { header_len: SHORT_LEN, checksum: true, tso: true, uso: false, tunnel: false };

impl std::fmt::Debug for SystemPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SystemPort({:?}, {})", self.interface, self.index)
    }
}
