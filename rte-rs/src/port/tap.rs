//! Taps without a driver in between: our own poll-mode port over `/dev/net/tun`. Frames cross with a virtio header, so
//! that checksums and segmentation are left to whoever comes last: a segment of 64 KiB passes in one piece, also inside
//! VXLAN or Geneve where the kernel can do that (6.17 and later).
//!
//! The queues are [`crate::RxQueue`] and [`crate::TxQueue`]; a worker sees no difference. What it may ask on
//! transmission stands in [`TapPort::tx_offloads`], and received packets may ask for as much, see [`crate::offload`].

use super::handle::{Link, Stats};
use crate::counters::Counters;
use crate::error::{Errno, Error};
use crate::ethtool::LinkSettings;
use crate::mempool::{HEADROOM, Mempool};
use crate::offload::capability;
use crate::queue::{RxQueue, TxQueue};
pub use crate::tap::kernel::MAX_NAME;
use crate::tap::kernel::{self, Features, Interface, failed};
use crate::tap::queue::{TapRx, TapTx};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most queues that the kernel gives a tap.
pub const MAX_QUEUES: u16 = 256;

/// How to open a tap.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Name of the kernel's interface, which is made unless it is there; `%d` in it is a number that the kernel chooses.
    pub name: String,
    /// Pairs of an RX and a TX queue, at least 1.
    pub queues: u16,
    /// Where received packets go: one pool for all RX queues, or one each.
    pub pools: Vec<Mempool>,
    /// MTU of the interface; `None` leaves it.
    pub mtu: Option<u16>,
    /// MAC address of the interface; `None` leaves it.
    pub mac: Option<[u8; 6]>,
    /// The interface lives on when the port is closed. One that was there before does in any case.
    pub persist: bool,
    /// Set the interface up.
    pub up: bool,
    /// Let the kernel leave checksums and segmentation to us. Without, every frame is complete and at most an MTU long.
    pub offloads: bool,
    /// Queues of the interface that are open already, as another process left them; further ones are opened by name.
    pub opened: Vec<Arc<File>>,
}

impl TapConfig {
    /// One pair of queues, with offloads; nothing set, nothing left behind.
    pub fn new(name: &str, pool: Mempool) -> TapConfig {
        TapConfig {
            name: name.to_owned(),
            queues: 1,
            pools: vec![pool],
            mtu: None,
            mac: None,
            persist: false,
            up: false,
            offloads: true,
            opened: Vec::new(),
        }
    }
}

/// An open tap, for everything but packets. The interface is closed when this and all queues are gone.
pub struct TapPort {
    name: String,
    interface: Interface,
    features: Features,
    gone: Arc<AtomicBool>,
    queues: Vec<Arc<File>>,
    rx: Vec<Arc<Counters>>,
    tx: Vec<Arc<Counters>>,
}

impl TapPort {
    /// Opens a tap.
    ///
    /// # Errors
    /// [`Error::BadString`] for a name that the kernel does not take; [`Error::Queues`]; [`Error::Pools`]; [`Error::Port`]
    /// with the step and the kernel's reason.
    pub fn open(config: &TapConfig) -> Result<(TapPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let (name, queues) = (config.name.as_str(), config.queues);
        let good = |c: char| !c.is_whitespace() && c != '/' && c != '\0';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(good) || matches!(name, "." | "..") {
            return Err(Error::BadString { what: "interface name", value: name.to_owned(), max: MAX_NAME });
        }
        if queues == 0 || queues > MAX_QUEUES {
            return Err(Error::Queues {
                name: name.to_owned(),
                rx: queues,
                tx: queues,
                max_rx: MAX_QUEUES,
                max_tx: MAX_QUEUES,
            });
        }
        let pools = config.pools.len();
        if pools != 1 && pools != usize::from(queues) {
            return Err(Error::Pools { name: name.to_owned(), pools, queues });
        }
        // Headers are read from the first segment.
        if let Some(small) = config.pools.iter().find(|pool| pool.data_room() < HEADROOM + 512) {
            let room = usize::from(small.data_room());
            return Err(Error::SmallBuffers {
                name: name.to_owned(),
                room,
                min: usize::from(HEADROOM) + 512,
            });
        }
        let fail = |(step, reason): (&'static str, Errno)| failed(name, step)(reason);
        let mut files: Vec<Arc<File>> = config.opened.iter().take(queues.into()).cloned().collect();
        // Without tunnel GSO packets come to the kernel one by one.
        let mut napi = !config.offloads;
        let actual = if let Some(first) = files.first() {
            Interface::new(first)
                .map_err(|e| Errno(e.raw_os_error().unwrap_or(0)))
                .and_then(|interface| interface.name())
                .map_err(failed(name, "reading the name"))?
        } else {
            let (mut first, mut actual) = kernel::open_queue(name, queues > 1, napi).map_err(fail)?;
            if !napi && !kernel::negotiate(&first, config.offloads).map_err(fail)?.tunnel {
                napi = true;
                drop(first);
                (first, actual) = kernel::open_queue(name, queues > 1, napi).map_err(fail)?;
            }
            files.push(Arc::new(first));
            actual
        };
        while files.len() < usize::from(queues) {
            files.push(Arc::new(kernel::open_queue(&actual, true, napi).map_err(fail)?.0));
        }
        let mut features = kernel::negotiate(&files[0], config.offloads).map_err(fail)?;
        for file in &files[1..] {
            // The header's length and the offloads are the interface's.
            features = kernel::negotiate(file, config.offloads).map_err(fail)?;
        }
        let interface = Interface::new(&files[0])
            .map_err(|e| fail(("duplicating a descriptor", Errno(e.raw_os_error().unwrap_or(0)))))?;
        if napi {
            kernel::receive_by_thread(&actual, &files[0])
                .and_then(|()| interface.lengthen_queues())
                .map_err(failed(&actual, "making room for packets of the MTU's size"))?;
        }
        if config.persist {
            kernel::persist(&files[0], true).map_err(failed(&actual, "making it persistent"))?;
        }
        if let Some(mac) = config.mac {
            interface.set_mac(mac).map_err(failed(&actual, "setting the MAC address"))?;
        }
        if let Some(mtu) = config.mtu {
            interface.set_mtu(mtu).map_err(failed(&actual, "setting the MTU"))?;
        }
        if config.up {
            interface.set_up().map_err(failed(&actual, "setting it up"))?;
        }
        let gone = Arc::new(AtomicBool::new(false));
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        let mut port = TapPort {
            name: actual,
            interface,
            features,
            gone: Arc::clone(&gone),
            queues: files.clone(),
            rx: Vec::new(),
            tx: Vec::new(),
        };
        for (number, file) in files.into_iter().enumerate() {
            let pool = config.pools.get(number).unwrap_or(&config.pools[0]).clone();
            let receive = TapRx::new(Arc::clone(&file), features, pool, Arc::clone(&gone));
            let send = TapTx::new(file, features, Arc::clone(&gone));
            port.rx.push(Arc::clone(&receive.counters));
            port.tx.push(Arc::clone(&send.counters));
            rx.push(RxQueue::tap(receive, number as u16));
            tx.push(TxQueue::tap(send, number as u16));
        }
        Ok((port, rx, tx))
    }

    /// Name that the interface had when it was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the interface now, in whichever network namespace it is.
    ///
    /// # Errors
    /// [`Error::Port`] with `ENODEV` when it is gone.
    pub fn interface(&self) -> Result<String, Error> {
        self.interface.name().map_err(failed(&self.name, "reading the name"))
    }

    /// Descriptors of its queues, by which another process can take the interface over.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.queues.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// What may be asked of packets to send (`capability`).
    pub fn tx_offloads(&self) -> u64 {
        let segments = if self.features.header_len > 0 { capability::MULTI_SEGS } else { 0 };
        let plain = capability::TCP_CKSUM | capability::UDP_CKSUM | capability::TCP_TSO;
        let udp = if self.features.uso { capability::UDP_TSO } else { 0 };
        let tunnels = capability::VXLAN_TNL_TSO
            | capability::GENEVE_TNL_TSO
            | capability::UDP_TNL_TSO
            | capability::OUTER_UDP_CKSUM;
        segments | plain | udp | if self.features.tunnel { tunnels } else { 0 }
    }

    /// The link: whether the interface exists, is up, and runs, wherever it is.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn link(&self) -> Result<Link, Error> {
        let up = match self.interface.up() {
            Err(Errno::ENODEV) => false,
            other => other.map_err(failed(&self.name, "reading the link"))?,
        };
        Ok(Link { up, speed: None, full_duplex: true })
    }

    /// What the interface says of its link.
    pub fn settings(&self) -> Option<LinkSettings> {
        self.interface.settings()
    }

    /// Whether a queue found that the interface was deleted: the port will never carry a packet again.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.interface.name() == Err(Errno::ENODEV)
    }

    /// MTU in bytes, without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn mtu(&self) -> Result<u16, Error> {
        self.interface.mtu().map_err(failed(&self.name, "reading the MTU"))
    }

    /// Sets the MTU, in bytes without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.interface.set_mtu(mtu).map_err(failed(&self.name, "setting the MTU"))
    }

    /// MAC address of the kernel's interface.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        self.interface.mac().map_err(failed(&self.name, "reading the MAC address"))
    }

    /// Sets the MAC address of the kernel's interface.
    ///
    /// # Errors
    /// [`Error::Port`] with the kernel's reason.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<(), Error> {
        self.interface.set_mac(mac).map_err(failed(&self.name, "setting the MAC address"))
    }

    /// The port's counters, from our side: received is what the kernel sent.
    pub fn stats(&self) -> Stats {
        Counters::stats(&self.rx, &self.tx)
    }
}

impl std::fmt::Debug for TapPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TapPort({:?}, {:?})", self.name, self.features)
    }
}
