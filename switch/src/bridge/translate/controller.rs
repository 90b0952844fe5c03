//! Packets for controllers: `CONTROLLER`, `controller(...)`, and a TTL that has run out.

use super::{BridgeId, NO_RULE, Op, Translator};
use crate::bridge::controller::ControllerMessage;
use crate::bridge::rules::Rule;
use flow::ofp::{Action, Controller, Field, Layer, Match, MatchKey, PacketReason};
use flow::program::PuntReason;

impl Translator<'_> {
    /// Sends the packet to controllers as the action says.
    pub(super) fn send_to_controllers(&mut self, to: &Controller) {
        self.commit();
        self.push_message(to);
        self.delivered = true;
    }

    /// Sends a packet that no rule of a table matches to controllers: those without a number.
    pub(super) fn tell_no_match(&mut self, table: u8) {
        // As in Open vSwitch, where a rule of its own does this, there is a cookie.
        let outer = std::mem::replace(&mut self.rule, (table, 0));
        self.send_to_controllers(&Controller { reason: PacketReason::NoMatch, ..Controller::default() });
        self.rule = outer;
    }

    /// From here on packets for controllers come for this reason. As in Open vSwitch a packet-out counts before a group, and
    /// a group before an action set, which is the order of their numbers. Returns the reason until now.
    pub(super) fn sends_as(&mut self, reason: PacketReason) -> PacketReason {
        let inner = self.sent_as.max(reason);
        std::mem::replace(&mut self.sent_as, inner)
    }

    /// A packet goes no further, as its TTL has run out: those controllers hear of it that the action names. Without names
    /// they are those without a number, and it is copied for them only if there are any.
    pub(super) fn tell_ttl_exceeded(&mut self, bridge: BridgeId, action: &Action) {
        let unnamed = [0];
        let ids = match action {
            Action::DecTtlTo(ids) => &ids[..],
            _ if self.state.observed.controllers.contains(&bridge) => &unnamed[..],
            _ => return,
        };
        self.commit();
        for id in ids {
            let reason = PacketReason::InvalidTtl;
            self.push_message(&Controller { reason, id: *id, ..Controller::default() });
        }
    }

    fn push_message(&mut self, to: &Controller) {
        let (table, cookie) = self.rule;
        let is_miss = |rule: &Rule| rule.spec.priority == 0 && rule.spec.matches == Match::ANY;
        let reason = match to.reason {
            PacketReason::Action if self.acting.as_deref().is_some_and(is_miss) => PacketReason::ExplicitMiss,
            reason => reason,
        };
        let message = self.state.controller_messages.id_of(ControllerMessage {
            reason,
            controller: to.id,
            table,
            cookie: (cookie != NO_RULE.1).then_some(cookie),
            userdata: to.userdata.clone(),
            metadata: self.metadata_set(),
        });
        self.push(Op::Punt(PuntReason::Controller { max_len: to.max_len, at: self.in_port, message }));
    }

    /// The port that the packet came in by, as rules see it, and the registers, metadata and tunnel fields that actions have given
    /// a value.
    fn metadata_set(&self) -> Match {
        let (mut key, mut mask) = (MatchKey::ZERO, MatchKey::ZERO);
        Field::InPort.set(&mut key, self.at.key.flow.in_port.into());
        Field::InPort.set(&mut mask, Field::InPort.info().exact());
        for field in Field::all() {
            let info = field.info();
            let is_metadata = match info.layer {
                // The wider registers are the same bits again, and `conj_id` is the rules' own.
                Layer::Register => info.match_name.is_some() && field != Field::ConjId,
                Layer::Tunnel => info.writable,
                _ => false,
            };
            let (value, exact) = (field.get(&self.at.key), info.exact());
            if is_metadata && value != 0 && field.get(&self.at.set) == exact {
                field.set(&mut key, value);
                field.set(&mut mask, exact);
            }
        }
        Match::new(&key, &mask)
    }
}
