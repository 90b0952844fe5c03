//! Packets that workers have dropped, given to captures of drops and to monitors.

use super::SlowPath;
use datapath::dropped::Dropped;

/// Copies of one worker that are taken in a turn.
const PER_TURN: usize = 64;

impl SlowPath {
    /// Takes what workers have dropped, if somebody wants that; says whether there was anything.
    pub(super) fn take_dropped(&mut self) -> bool {
        if !self.drops_wanted {
            return false;
        }
        let mut any = false;
        for worker in 0..self.workers.len() {
            for _ in 0..PER_TURN {
                let Some(dropped) = self.workers[worker].counters.drop_copies.next() else { break };
                any = true;
                self.captured_drop(&dropped);
                self.monitored_drop(&dropped);
                let Dropped { packet, .. } = dropped;
                self.workers[worker].counters.drop_copies.give_back(packet);
            }
        }
        any
    }
}
