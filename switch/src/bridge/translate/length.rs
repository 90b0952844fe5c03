//! `check_pkt_larger`: what is behind it is translated for longer packets and for others, and the worker chooses.

use super::{Bridge, Op, Port, Translator};
use flow::ofp::{Action, Subfield};
use flow::program::CheckLength;

impl<'w> Translator<'w> {
    /// Does the `rest` of a list of actions, with the bit set for packets longer than this and cleared for others. The packet's
    /// way through the tables ends with it, and the action set is done: what follows a `resubmit` to here sees the packet as it
    /// was, as in Open vSwitch.
    pub(super) fn check_length(
        &mut self,
        bridge: &'w Bridge,
        port: &'w Port,
        (length, to): (u16, Subfield),
        rest: &[Action],
    ) {
        // The length is that of the packet as it is now.
        self.commit();
        let branches = self.branches(&[0, 1], |t, longer: &u128| {
            t.note(|| format!("{} {length} bytes:", if *longer == 1 { "more than" } else { "up to" }));
            t.depth += 1;
            t.load(*longer, to);
            t.actions(bridge, port, rest);
            t.finish_action_set(bridge, port);
            t.depth -= 1;
        });
        self.at.action_set.clear();
        if let Ok(branches) = <[Box<[Op]>; 2]>::try_from(branches) {
            self.push(Op::CheckLength(Box::new(CheckLength { length, branches })));
        }
    }
}
