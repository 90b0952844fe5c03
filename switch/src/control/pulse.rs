//! Whether each thread moves: every one counts its turns somewhere, and who counts nothing for a while stands still.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A thread that has not moved for so long stands still. Longer than any single job of the slow path takes.
pub const STILL: Duration = Duration::from_secs(3);
/// When nobody has looked for so long, the process itself did not run, and nothing is known of its threads.
const BLIND: Duration = Duration::from_secs(1);
/// Name of the thread that looks.
pub const WATCH: &str = "watch";

/// A thread.
struct Thread {
    name: String,
    turns: Box<dyn Fn() -> u64 + Send>,
    last: u64,
    moved: Instant,
    still: bool,
}

/// All threads that are watched.
pub struct Pulses {
    threads: Mutex<Vec<Thread>>,
    looked: Mutex<Option<Instant>>,
}

impl fmt::Debug for Pulses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulses").finish_non_exhaustive()
    }
}

/// A thread has come to a halt, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub thread: String,
    /// Whether it stands still now.
    pub still: bool,
}

impl Default for Pulses {
    fn default() -> Self {
        Pulses { threads: Mutex::default(), looked: Mutex::new(None) }
    }
}

impl Pulses {
    /// Watches a thread from now on. `turns` is how often it has gone round.
    pub fn add(&self, name: impl Into<String>, turns: impl Fn() -> u64 + Send + 'static) {
        let thread = Thread {
            name: name.into(),
            last: turns(),
            turns: Box::new(turns),
            moved: Instant::now(),
            still: false,
        };
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    /// A thread has ended as it should.
    pub fn gone(&self, name: &str) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).retain(|thread| thread.name != name);
    }

    /// Looks at every thread. Returns what is new.
    pub fn look(&self, now: Instant) -> Vec<Change> {
        let last_look = self.looked.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        let blind = last_look.is_none_or(|then| now.saturating_duration_since(then) > BLIND);
        let mut changes = Vec::new();
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let turns = (thread.turns)();
            if turns != thread.last || blind {
                (thread.last, thread.moved) = (turns, now);
            }
            let still = now.saturating_duration_since(thread.moved) >= STILL;
            if still != thread.still {
                thread.still = still;
                changes.push(Change { thread: thread.name.clone(), still });
            }
        }
        changes
    }

    /// The threads that stand still, as the last look found them, and the looking one itself.
    pub fn still(&self, now: Instant) -> Vec<String> {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|thread| thread.still)
            .map(|thread| thread.name.clone())
            .collect();
        if looked.is_some_and(|then| now.saturating_duration_since(then) >= STILL) {
            names.push(WATCH.to_owned());
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn who_counts_nothing_stands_still_and_goes_on_again() {
        let pulses = Pulses::default();
        let turns: [Arc<AtomicU64>; 2] = Default::default();
        for (name, turns) in ["a", "b"].into_iter().zip(&turns) {
            let turns = Arc::clone(turns);
            pulses.add(name, move || turns.load(Relaxed));
        }
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let mut changes = Vec::new();
        for tenths in 0..40 {
            turns[0].fetch_add(1, Relaxed);
            changes.extend(pulses.look(at(tenths)));
        }
        assert_eq!(changes, [Change { thread: "b".into(), still: true }]);
        assert_eq!(pulses.still(at(40)), ["b"]);
        turns[1].fetch_add(1, Relaxed);
        assert_eq!(pulses.look(at(41)), [Change { thread: "b".into(), still: false }]);
        assert!(pulses.still(at(42)).is_empty());
        assert_eq!(pulses.still(at(90)), [WATCH], "nobody looks any more");
    }

    #[test]
    fn a_process_that_was_stopped_starts_over() {
        let pulses = Pulses::default();
        pulses.add("a", || 7);
        let start = Instant::now();
        assert!(pulses.look(start).is_empty());
        assert!(pulses.look(start + Duration::from_mins(1)).is_empty());
        assert!(pulses.look(start + Duration::from_mins(1) + STILL / 4).is_empty());
    }
}
