//! A rule with its statistics, ages and timeouts.

use crate::bridge::BridgePorts;
use flow::ofp::{Action, Conjunction, FlowSpec, format_flow};
use flow::stats::PacketStats;
use flow::stats::SharedStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A rule with its statistics.
#[derive(Debug)]
pub struct Rule {
    /// Table, priority, match, actions, and the timeouts that it began with.
    pub spec: Arc<FlowSpec>,
    /// When it was added.
    pub created: Instant,
    /// An action `learn` made it: it is in no document.
    pub is_learned: bool,
    /// The conjunctions of which it is part.
    pub(super) parts: Box<[Conjunction]>,
    stats: SharedStats,
    /// The packets of all rules of its table.
    matched: Arc<SharedStats>,
    /// Milliseconds between `created` and the last packet seen.
    used: AtomicU64,
    /// Milliseconds between `created` and the last time that it was made, changed or learned again.
    modified: AtomicU64,
    idle_timeout: AtomicU16,
    hard_timeout: AtomicU16,
}

/// Why a rule is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// No packet for so long.
    IdleTimeout,
    /// Its time was over.
    HardTimeout,
    /// Somebody removed it.
    Deleted,
    /// It made room for another.
    Evicted,
}

impl Rule {
    pub(super) fn new(
        spec: Arc<FlowSpec>,
        is_learned: bool,
        matched: Arc<SharedStats>,
        now: Instant,
    ) -> Rule {
        Rule {
            created: now,
            is_learned,
            parts: parts_of(&spec.actions),
            stats: SharedStats::default(),
            matched,
            used: 0.into(),
            modified: 0.into(),
            idle_timeout: spec.idle_timeout.into(),
            hard_timeout: spec.hard_timeout.into(),
            spec,
        }
    }

    /// The same with other actions and another cookie: statistics and idle age stay.
    pub(super) fn modified(&self, actions: &[Action], cookie: u64, now: Instant) -> Rule {
        let spec = FlowSpec { actions: actions.to_vec(), cookie, ..FlowSpec::clone(&self.current()) };
        let new = Rule::new(spec.into(), self.is_learned, Arc::clone(&self.matched), self.created);
        new.renew(now);
        new.used.store(self.used.load(Relaxed), Relaxed);
        Rule { stats: self.stats().into(), ..new }
    }

    /// What it is now: with its timeouts, which `fin_timeout` may have lowered.
    pub fn current(&self) -> Arc<FlowSpec> {
        let (idle_timeout, hard_timeout) = self.timeouts();
        if (idle_timeout, hard_timeout) == (self.spec.idle_timeout, self.spec.hard_timeout) {
            return Arc::clone(&self.spec);
        }
        Arc::new(FlowSpec { idle_timeout, hard_timeout, ..FlowSpec::clone(&self.spec) })
    }

    /// Idle and hard timeout, seconds; 0: none.
    pub fn timeouts(&self) -> (u16, u16) {
        (self.idle_timeout.load(Relaxed), self.hard_timeout.load(Relaxed))
    }

    /// Whether it goes by itself.
    pub fn is_timed(&self) -> bool {
        self.timeouts() != (0, 0)
    }

    /// Lowers its timeouts to these, where they are longer or there are none; 0 leaves one as it is. Says whether that was so.
    pub fn shorten(&self, idle: u16, hard: u16) -> bool {
        let lower = |timeout: &AtomicU16, to: u16| {
            let longer = to != 0 && (timeout.load(Relaxed) == 0 || timeout.load(Relaxed) > to);
            if longer {
                timeout.store(to, Relaxed);
            }
            longer
        };
        lower(&self.idle_timeout, idle) | lower(&self.hard_timeout, hard)
    }

    /// Its hard timeout begins anew: it was learned again.
    pub fn renew(&self, now: Instant) {
        self.modified.store(self.millis(now), Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.created).as_millis() as u64
    }

    /// Packets and bytes of the megaflows made from it, as of their last collection.
    pub fn stats(&self) -> PacketStats {
        self.stats.get()
    }

    /// Adds what a megaflow counted.
    pub fn count(&self, new: PacketStats, now: Instant) {
        self.stats.add(new);
        self.matched.add(new);
        self.used.store(self.millis(now), Relaxed);
    }

    /// How long ago the last packet seen was, or else the rule was added.
    pub fn idle_age(&self, now: Instant) -> Duration {
        self.since(&self.used, now)
    }

    /// How long ago it was added, changed or learned again.
    pub fn hard_age(&self, now: Instant) -> Duration {
        self.since(&self.modified, now)
    }

    fn since(&self, then: &AtomicU64, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.created);
        age.saturating_sub(Duration::from_millis(then.load(Relaxed)))
    }

    /// Which of its timeouts has passed.
    pub(super) fn over(&self, now: Instant) -> Option<Gone> {
        let (idle, hard) = self.timeouts();
        let passed = |limit: u16, time: Duration| limit != 0 && time >= Duration::from_secs(limit.into());
        if passed(hard, self.hard_age(now)) {
            Some(Gone::HardTimeout)
        } else {
            passed(idle, self.idle_age(now)).then_some(Gone::IdleTimeout)
        }
    }

    /// When it has to be looked at next, for one of its timeouts; `None` without any.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let left = |limit: u16, time: Duration| {
            (limit != 0).then(|| now + Duration::from_secs(limit.into()).saturating_sub(time))
        };
        let (idle, hard) = self.timeouts();
        [left(idle, self.idle_age(now)), left(hard, self.hard_age(now))].into_iter().flatten().min()
    }

    /// The rule as a user would type it.
    pub fn describe(&self, ports: &BridgePorts<'_>) -> String {
        format_flow(&self.spec.without_mod_flags(), None, ports)
    }
}

/// The conjunctions that actions say the rule is part of.
fn parts_of(actions: &[Action]) -> Box<[Conjunction]> {
    let part = |action: &Action| match action {
        Action::Conjunction(part) => Some(*part),
        _ => None,
    };
    actions.iter().filter_map(part).collect()
}
