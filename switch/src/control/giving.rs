//! How this process gives its place to another: what the API's handler and the control thread agree on.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Where the other process is told that everything is closed, or why not.
pub type Closed = oneshot::Sender<Result<(), String>>;

/// A handover, from its request to its end.
#[derive(Debug, Default)]
pub struct Giving {
    /// Where the confirmation is awaited, while a handover is under way.
    confirm: Mutex<Option<oneshot::Sender<Closed>>>,
    /// The socket on which the metrics endpoint listens.
    metrics: AtomicI32,
    /// The other process has all it needs: only the API is served from here on.
    pub confirmed: Notify,
    /// Nothing but the API is served any more.
    pub alone: Notify,
    /// The other process has been told.
    pub done: Notify,
}

impl Giving {
    /// Begins a handover; `None` while another is under way.
    pub fn begin(&self) -> Option<oneshot::Receiver<Closed>> {
        let mut confirm = self.confirm();
        if confirm.as_ref().is_some_and(|sender| !sender.is_closed()) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        *confirm = Some(sender);
        Some(receiver)
    }

    /// The other process confirms; `None` when nothing is under way.
    pub fn confirm_by(&self, closed: Closed) -> Option<()> {
        self.confirm().take()?.send(closed).ok()
    }

    /// The metrics endpoint listens on this socket.
    pub fn set_metrics(&self, socket: RawFd) {
        self.metrics.store(socket, Relaxed);
    }

    /// The socket on which the metrics endpoint listens.
    pub fn metrics(&self) -> RawFd {
        self.metrics.load(Relaxed)
    }

    fn confirm(&self) -> MutexGuard<'_, Option<oneshot::Sender<Closed>>> {
        self.confirm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
