//! Room for the connections of a socket. Where there is none left, the connection that has been idle longest gives way to a
//! new one, so that idle ones lock nobody out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Time that a connection is left alone after it did something: tools pause between two requests.
const GRACE: Duration = Duration::from_secs(1);
/// Evictions are in the log once in this time.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// What a connection does, who gives way first in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    /// Nothing.
    Idle,
    /// It waits for what it has asked to hear of.
    Listening,
    /// It has asked for something, and has not got all of it yet.
    Answered,
}

/// A connection's place in a [`Room`].
#[derive(Debug)]
pub(super) struct Place {
    doing: Mutex<(Doing, Instant)>,
    leave: Notify,
}

impl Default for Place {
    fn default() -> Place {
        Place { doing: Mutex::new((Doing::Idle, Instant::now())), leave: Notify::new() }
    }
}

impl Place {
    /// What the connection does from now on.
    pub fn set(&self, doing: Doing) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
    }

    fn doing(&self) -> (Doing, Instant) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the connection must give way.
    pub async fn evicted(&self) {
        self.leave.notified().await;
    }
}

/// The connections of a socket. Dropped, they end.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    places: Vec<Arc<Place>>,
    tasks: JoinSet<()>,
    /// Evictions that are not in the log yet, and when the last of them was.
    evicted: u64,
    said: Option<Instant>,
}

impl Room {
    /// Room for so many.
    pub fn new(most: usize) -> Room {
        Room { most, places: Vec::new(), tasks: JoinSet::new(), evicted: 0, said: None }
    }

    /// Waits until there is room, which it makes where nobody leaves; `socket` is for the log. The place is the new
    /// connection's: [`Room::serve`] it.
    pub async fn place(&mut self, socket: &str) -> Arc<Place> {
        loop {
            while self.tasks.try_join_next().is_some() {}
            // A connection that has ended has dropped its own.
            self.places.retain(|place| Arc::strong_count(place) > 1);
            let first = self.places.iter().min_by_key(|place| place.doing()).map(Arc::clone);
            let Some(first) = first.filter(|_| self.places.len() >= self.most) else { break };
            let from = first.doing().1 + GRACE;
            if from > Instant::now() {
                // Somebody may leave before.
                let _ = timeout_at(from, self.tasks.join_next()).await;
                continue;
            }
            first.leave.notify_one();
            drop(first);
            self.say(socket);
            self.tasks.join_next().await;
        }
        let place = Arc::new(Place::default());
        self.places.push(Arc::clone(&place));
        place
    }

    /// Runs a connection to its end; it holds its place until then.
    pub fn serve(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(connection);
    }

    fn say(&mut self, socket: &str) {
        self.evicted += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            let (most, evicted) = (self.most, std::mem::take(&mut self.evicted));
            tracing::warn!(%socket, most, evicted, "no room for more OpenFlow connections: the one idle longest is closed for a new one");
            self.said = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    async fn enter(room: &mut Room, doing: Doing) -> (Arc<Place>, tokio::sync::oneshot::Receiver<()>) {
        let (gone, is_gone) = tokio::sync::oneshot::channel();
        let place = room.place("br0.mgmt").await;
        place.set(doing);
        let (mine, watched) = (Arc::clone(&place), Arc::clone(&place));
        drop(place);
        room.serve(async move {
            mine.evicted().await;
            let _ = gone.send(());
        });
        (watched, is_gone)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_idle_longest_gives_way_and_no_other() {
        let mut room = Room::new(4);
        let mut gone = Vec::new();
        for doing in [Doing::Answered, Doing::Listening, Doing::Idle, Doing::Idle] {
            gone.push(enter(&mut room, doing).await.1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut open = |room: &mut Room| {
            let left: Vec<bool> =
                gone.iter_mut().map(|gone| gone.try_recv() == Err(TryRecvError::Empty)).collect();
            assert!(room.places.len() <= 4);
            left
        };
        let before = Instant::now();
        enter(&mut room, Doing::Answered).await;
        assert!(before.elapsed() >= Duration::from_millis(900), "nobody had been idle long");
        assert_eq!(open(&mut room), [true, true, false, true], "the first idle one went");
        enter(&mut room, Doing::Answered).await;
        enter(&mut room, Doing::Answered).await;
        assert_eq!(open(&mut room), [true, false, false, false], "then the other, then who only listens");
    }
}
