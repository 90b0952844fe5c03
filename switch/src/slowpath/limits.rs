//! Limits that are reached: one message when it begins, and not again before it has been over for a while.

use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// Time without reaching a limit after which reaching it is news again.
const OVER: Duration = Duration::from_mins(1);

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Limit {
    /// Megaflows of a worker.
    Megaflows,
    /// Masks of an in-port.
    Masks,
    /// Addresses of a bridge's FDB.
    Fdb,
    /// New addresses of a bridge in a second.
    Learning,
    /// Next hops that rules ask for, of a tunnel port.
    NextHops,
}

/// When each limit was last reached, by whose it is.
#[derive(Debug, Default)]
pub(super) struct Limits(FxHashMap<(Limit, u32), Instant>);

impl Limits {
    /// Notes that a limit is reached; says whether that is news.
    pub fn reached(&mut self, limit: Limit, of: u32, now: Instant) -> bool {
        let before = self.0.insert((limit, of), now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= OVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_news_when_it_begins_to_be_reached() {
        let mut limits = Limits::default();
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        assert!(limits.reached(Limit::Fdb, 1, t0));
        assert!((0..100).all(|s| !limits.reached(Limit::Fdb, 1, at(s))), "it goes on");
        assert!(limits.reached(Limit::Fdb, 2, at(100)) && limits.reached(Limit::Masks, 1, at(100)), "others");
        assert!(!limits.reached(Limit::Fdb, 1, at(158)));
        assert!(limits.reached(Limit::Fdb, 1, at(218)));
    }
}
