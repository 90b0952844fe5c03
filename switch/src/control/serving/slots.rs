//! Places for connections: bounded, and given up by who does not use his.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All places of a socket.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    taken: Mutex<Vec<Weak<Slot>>>,
    freed: Arc<Notify>,
}

/// The place of one connection, for as long as it lives.
#[derive(Debug)]
pub(super) struct Slot {
    /// Requests in work, and since when there are none.
    state: Mutex<(usize, Instant)>,
    leave: Notify,
    freed: Arc<Notify>,
}

/// A request in work.
#[derive(Debug)]
pub(super) struct Busy(Arc<Slot>);

impl Slots {
    pub(super) fn new(most: usize) -> Slots {
        Slots { most, taken: Mutex::default(), freed: Arc::default() }
    }

    /// A place, if there is one.
    pub(super) fn take(&self) -> Option<Arc<Slot>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|slot| slot.strong_count() > 0);
        if taken.len() >= self.most {
            return None;
        }
        let slot = Arc::new(Slot {
            state: Mutex::new((0, Instant::now())),
            leave: Notify::new(),
            freed: Arc::clone(&self.freed),
        });
        taken.push(Arc::downgrade(&slot));
        Some(slot)
    }

    /// Asks the connection that has been idle for longest to close, and waits until one has, so long at most. False
    /// when all are busy, or none closes.
    pub(super) async fn close_longest_idle(&self, within: Duration) -> bool {
        let longest = {
            let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let idle =
                taken.iter().filter_map(Weak::upgrade).filter_map(|slot| Some((slot.idle_since()?, slot)));
            idle.min_by_key(|(since, _)| *since).map(|(_, slot)| slot)
        };
        let Some(slot) = longest else { return false };
        let freed = self.freed.notified();
        slot.leave.notify_one();
        drop(slot);
        tokio::time::timeout(within, freed).await.is_ok()
    }
}

impl Slot {
    fn idle_since(&self) -> Option<Instant> {
        let (requests, since) = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (requests == 0).then_some(since)
    }

    /// Whether a request is in work.
    pub(super) fn is_busy(&self) -> bool {
        self.idle_since().is_none()
    }

    /// Marks the connection busy for as long as the guard lives.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Busy(Arc::clone(self))
    }

    /// Returns when this connection has to make room for another.
    pub(super) async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0 - 1, Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.freed.notify_waiters();
    }
}
