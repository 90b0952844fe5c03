//! Forgets what packets for controllers came with, when no program names it any more.

use super::SlowPath;
use flow::program::{ControllerMessageId, Op, PuntReason};
use rustc_hash::FxHashSet;

impl SlowPath {
    /// Forgets messages that are not in use, where there are many.
    pub(super) fn sweep_controller_messages(&self) {
        if !self.state.controller_messages.is_crowded() {
            return;
        }
        let mut named = FxHashSet::default();
        self.programs.all().for_each(|program| add_named(&program.ops, &mut named));
        self.tunnels.egress_ops().for_each(|ops| add_named(ops, &mut named));
        self.state.controller_messages.sweep(&named);
    }
}

/// Adds the messages that ops name.
fn add_named(ops: &[Op], named: &mut FxHashSet<ControllerMessageId>) {
    for op in ops {
        match op {
            Op::Punt(PuntReason::Controller { message, .. }) => {
                named.insert(*message);
            }
            Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => add_named(ops, named),
            op => op.branches().iter().for_each(|ops| add_named(ops, named)),
        }
    }
}
