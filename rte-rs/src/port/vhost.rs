//! Ports of virtual machines by vhost-user: librte_vhost connects or listens, the rings are served by ourselves. Checksums and
//! segments of 64 KiB are left to whoever comes last, as far as the guest has negotiated.

use super::handle::{Link, Stats};
use crate::counters::Counters;
use crate::error::{Errno, Error};
use crate::mempool::{HEADROOM, Mempool};
use crate::queue::{RxQueue, TxQueue};
pub use crate::vhost::VhostGuest;
use crate::vhost::{Shared, VRINGS, VhostRx, VhostTx};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most pairs of queues.
pub const MAX_QUEUES: u16 = (VRINGS / 2) as u16;
/// Shortest data room that headers are read from.
const MIN_ROOM: u16 = HEADROOM + 512;

/// Who makes the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VhostMode {
    /// The hypervisor: the switch connects as soon as somebody listens, and again.
    Client,
    /// The switch: hypervisors connect, one at a time.
    Server,
}

/// How to open a port of a virtual machine.
#[derive(Clone, Debug)]
pub struct VhostConfig {
    /// The socket.
    pub path: String,
    /// Who makes it.
    pub mode: VhostMode,
    /// Pairs of an RX and a TX queue, at least 1. The guest may use another number: each of its queues is served.
    pub queues: u16,
    /// Where received packets go.
    pub pool: Mempool,
    /// Offer checksums and segmentation.
    pub offloads: bool,
}

impl VhostConfig {
    /// One pair of queues, with offloads.
    pub fn new(path: &str, mode: VhostMode, pool: Mempool) -> VhostConfig {
        VhostConfig { path: path.to_owned(), mode, queues: 1, pool, offloads: true }
    }
}

/// An open port, for everything but packets. The socket is closed with it; queues that are left carry nothing.
pub struct VhostPort {
    path: String,
    mode: VhostMode,
    shared: Arc<Shared>,
    rx: Vec<Arc<Counters>>,
    tx: Vec<Arc<Counters>>,
}

impl VhostPort {
    /// Opens a port.
    ///
    /// # Errors
    /// [`Error::Queues`]; [`Error::SmallBuffers`]; [`Error::BadString`] for a path that is too long; [`Error::Port`] with the
    /// step and librte_vhost's reason.
    pub fn open(config: &VhostConfig) -> Result<(VhostPort, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let (name, queues) = (config.path.clone(), config.queues);
        if queues == 0 || queues > MAX_QUEUES {
            let (max_rx, max_tx) = (MAX_QUEUES, MAX_QUEUES);
            return Err(Error::Queues { name, rx: queues, tx: queues, max_rx, max_tx });
        }
        let room = config.pool.data_room();
        if room < MIN_ROOM {
            return Err(Error::SmallBuffers { name, room: room.into(), min: MIN_ROOM.into() });
        }
        if let Ok(found) = std::fs::metadata(&config.path)
            && !found.file_type().is_socket()
        {
            let said = "expected a socket of vhost-user, found another kind of file".to_owned();
            return Err(Error::Port { name, step: "opening", reason: Errno(libc::ENOTSOCK), said });
        }
        if config.mode == VhostMode::Server {
            remove_stale(Path::new(&config.path));
        }
        let shared = Shared::open(&config.path, config.mode == VhostMode::Client, config.offloads)?;
        let mut port = VhostPort { path: name, mode: config.mode, shared, rx: Vec::new(), tx: Vec::new() };
        let (mut rx, mut tx) = (Vec::new(), Vec::new());
        for number in 0..queues {
            let receive = VhostRx::new(Arc::clone(&port.shared), (number, queues), config.pool.clone());
            let send = VhostTx::new(Arc::clone(&port.shared), number);
            port.rx.push(Arc::clone(&receive.counters));
            port.tx.push(Arc::clone(&send.counters));
            rx.push(RxQueue::vhost(receive, number));
            tx.push(TxQueue::vhost(send, number));
        }
        Ok((port, rx, tx))
    }

    /// The socket.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Who makes it.
    pub fn mode(&self) -> VhostMode {
        self.mode
    }

    /// What may be asked of packets to send (`capability`). It changes with each guest, and with each of its drivers.
    pub fn tx_offloads(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.tx_offloads)
    }

    /// The link: whether the guest's driver is there.
    pub fn link(&self) -> Link {
        Link { up: self.shared.is_up(), speed: None, full_duplex: true }
    }

    /// Whether the guest's master has made the file of its memory shorter. It is said once; the connection ends then, and the
    /// next one is served.
    pub fn finds_memory_gone(&self) -> bool {
        self.shared.finds_memory_gone()
    }

    /// What the guest has set up; `None` when it is not there.
    pub fn guest(&self) -> Option<VhostGuest> {
        self.shared.guest()
    }

    /// The port's counters, from our side: received is what the guest sent.
    pub fn stats(&self) -> Stats {
        Counters::stats(&self.rx, &self.tx)
    }
}

/// Removes a socket on which nobody listens, as a switch that was killed leaves it.
fn remove_stale(path: &Path) {
    let is_socket = path.symlink_metadata().is_ok_and(|data| data.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        // If it stays, opening it says so.
        let _ = std::fs::remove_file(path);
    }
}

impl Drop for VhostPort {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for VhostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VhostPort({:?}, {:?})", self.path, self.mode)
    }
}
