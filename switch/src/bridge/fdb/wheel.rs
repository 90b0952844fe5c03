//! Ageing: a wheel of seconds, each with the entries to be looked at then. An entry that is seen again stays where it
//! is; when its second comes, it is put where it belongs by then.

use super::Slot;
use super::list::List;
use std::time::{Duration, Instant};

/// Seconds of the wheel; longer ageing times take several turns.
const SECONDS: u64 = 4096;

/// The wheel. Its first second begins when it is made.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    slots: Box<[List]>,
    /// The second that is to be looked at next.
    hand: u64,
}

impl Wheel {
    /// An empty wheel.
    pub(super) fn new(now: Instant) -> Wheel {
        Wheel { start: now, slots: vec![List::EMPTY; SECONDS as usize].into(), hand: 0 }
    }

    /// The first second that begins at `at` or later.
    fn second_from(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        since.as_secs() + u64::from(since.subsec_nanos() > 0)
    }

    /// Puts an entry that is not on the wheel to where it ends at `due`.
    pub(super) fn add(&mut self, slab: &mut [Slot], at: u32, due: Instant) {
        let second = self.second_from(due).clamp(self.hand, self.hand + SECONDS - 1);
        slab[at as usize].second = second;
        self.slots[(second % SECONDS) as usize].push_back(slab, at, |slot| &mut slot.due);
    }

    /// Takes an entry off.
    pub(super) fn remove(&mut self, slab: &mut [Slot], at: u32) {
        let second = slab[at as usize].second;
        self.slots[(second % SECONDS) as usize].remove(slab, at, |slot| &mut slot.due);
    }

    /// Looks at the present second once more, for entries that are put there because they are to end earlier than was
    /// thought.
    pub(super) fn step_back(&mut self) {
        self.hand = self.hand.saturating_sub(1);
    }

    /// Takes the next entry off whose time has come; `age` is the ageing time. At most `most` entries are looked at,
    /// which is counted down.
    pub(super) fn next_due(
        &mut self,
        slab: &mut [Slot],
        age: Duration,
        now: Instant,
        most: &mut usize,
    ) -> Option<u32> {
        let second = now.saturating_duration_since(self.start).as_secs();
        while *most > 0 && self.hand <= second {
            let Some(at) = self.slots[(self.hand % SECONDS) as usize].front() else {
                self.hand += 1;
                continue;
            };
            *most -= 1;
            self.remove(slab, at);
            let due = slab[at as usize].used + age;
            if self.second_from(due) <= self.hand {
                return Some(at);
            }
            self.add(slab, at, due);
        }
        None
    }
}
