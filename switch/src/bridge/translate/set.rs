//! What actions keep for later: the action set of `write_actions`, and the stack of `push` and `pop`.

use super::Translator;
use crate::bridge::{Bridge, Port};
use flow::ofp::{Action, PacketReason, Subfield};

/// Most values on the stack, as many as Open vSwitch's 64 KB have of the largest.
const MAX_STACK: usize = 4096;

/// An action set in the order in which OpenFlow does it: a tag off, a tag on, TTL, each once; then every change of a
/// field; then the group, or without one the last output, or without that the last resubmit. Without any of them the
/// packet goes nowhere.
fn in_order(set: &[Action]) -> Vec<Action> {
    let last = |wanted: fn(&Action) -> bool| set.iter().rev().find(|action| wanted(action)).cloned();
    let mut list: Vec<Action> = [
        last(|action| matches!(action, Action::PopVlan)),
        last(|action| matches!(action, Action::PushVlan(_))),
        last(|action| matches!(action, Action::DecTtl | Action::DecTtlTo(_))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let changes = set.iter().filter(|action| {
        matches!(
            action,
            Action::SetField { .. }
                | Action::Load { .. }
                | Action::Move { .. }
                | Action::SetTunnel(_)
                | Action::ModVlanVid(_)
                | Action::ModVlanPcp(_)
        )
    });
    list.extend(changes.cloned());
    let end = last(|action| matches!(action, Action::Group(_)))
        .or_else(|| last(|action| matches!(action, Action::Output(_) | Action::OutputField(_))))
        .or_else(|| last(|action| matches!(action, Action::Resubmit { .. })));
    match end {
        Some(end) => list.push(end),
        None => list.clear(),
    }
    list
}

impl<'w> Translator<'w> {
    /// Does what `write_actions` has collected, when the packet has gone through its tables.
    pub(super) fn finish_action_set(&mut self, bridge: &'w Bridge, port: &'w Port) {
        let set = std::mem::take(&mut self.at.action_set);
        if set.is_empty() || self.aborted {
            return;
        }
        self.note(|| "action set:".into());
        let outer = self.sends_as(PacketReason::ActionSet);
        self.depth += 1;
        self.actions(bridge, port, &in_order(&set));
        self.depth -= 1;
        self.sent_as = outer;
    }

    /// `push`.
    pub(super) fn push_bits(&mut self, bits: Subfield) {
        if self.at.stack.len() == MAX_STACK {
            return self.abort(|| format!("more than {MAX_STACK} values on the stack"));
        }
        let value = self.read(bits);
        self.at.stack.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::ofp::parse_flow;

    fn ordered(actions: &str) -> String {
        let spec = parse_flow(&format!("ip,actions={actions}"), &()).expect("actions");
        flow::ofp::format_actions(&in_order(&spec.actions), &())
    }

    #[test]
    fn an_action_set_is_done_in_openflow_s_order() {
        assert_eq!(
            ordered("output:1,load:5->reg0,dec_ttl,output:2,push_vlan:0x8100,dec_ttl,load:6->reg0"),
            "push_vlan:0x8100,dec_ttl,load:0x5->NXM_NX_REG0[],load:0x6->NXM_NX_REG0[],output:2"
        );
        assert_eq!(ordered("output:1,group:7,resubmit(,3)"), "group:7");
        assert_eq!(ordered("resubmit(,3),dec_ttl"), "dec_ttl,resubmit(,3)");
        assert_eq!(ordered("dec_ttl,load:5->reg0"), "drop", "it goes nowhere");
    }
}
