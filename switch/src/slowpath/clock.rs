//! Where the slow path has the time from: the system, or the hand of a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A clock. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Manual>);

#[derive(Debug, Clone)]
struct Manual {
    start: Instant,
    /// Nanoseconds since `start`.
    elapsed: Arc<AtomicU64>,
    /// How far each reading takes it on, in nanoseconds.
    step: Arc<AtomicU64>,
}

impl Clock {
    /// The system's monotonic clock.
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that stands still until it is [advanced](Clock::advance).
    pub fn manual() -> Clock {
        Clock(Some(Manual { start: Instant::now(), elapsed: Arc::default(), step: Arc::default() }))
    }

    /// The time.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => {
                let step = manual.step.load(Relaxed);
                manual.start + Duration::from_nanos(manual.elapsed.fetch_add(step, Relaxed))
            }
        }
    }

    /// Lets time pass on a manual clock.
    ///
    /// # Panics
    /// When it is the system's.
    pub fn advance(&self, by: Duration) {
        let manual = self.0.as_ref().expect("a manual clock");
        manual.elapsed.fetch_add(by.as_nanos() as u64, Relaxed);
    }

    /// From now on each reading of a manual clock takes so long: work that looks at the clock takes time.
    ///
    /// # Panics
    /// When it is the system's.
    pub fn set_step(&self, step: Duration) {
        let manual = self.0.as_ref().expect("a manual clock");
        manual.step.store(step.as_nanos() as u64, Relaxed);
    }
}
