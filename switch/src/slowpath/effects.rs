//! What packets do to rules, done: `learn` and `fin_timeout`.

use super::SlowPath;
use crate::bridge::translate::RuleEffects;
use crate::bridge::{Bridge, BridgeId, PortKind, SwitchState};
use std::time::Instant;

/// What packets have done to rules and megaflows have not been looked at for.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// Rules have come or are others.
    rules: bool,
    /// Of bridges that tunnel packets go through.
    underlay: bool,
}

/// Does to rules what packets of a megaflow do.
pub(super) fn affect(state: &mut SwitchState, effects: &RuleEffects, affected: &mut Affected, now: Instant) {
    for new in &effects.learned {
        let changed = state.bridge_mut(new.bridge).is_some_and(|bridge| bridge.tables.learn(&new.spec, now));
        if changed {
            affected.rules = true;
            affected.underlay |=
                state.bridge(new.bridge).is_some_and(|bridge| carries_tunnels(state, bridge));
        }
    }
    for short in &effects.shortened {
        if let Some(bridge) = state.bridge_mut(short.bridge) {
            bridge.tables.shorten(&short.rule, short.idle, short.hard, now);
        }
    }
}

/// Whether tunnel packets may go through a bridge: it is an underlay, or patch ports may lead there from one.
fn carries_tunnels(state: &SwitchState, bridge: &Bridge) -> bool {
    let is_patch = |port| state.port(port).is_some_and(|port| matches!(port.kind, PortKind::Patch(_)));
    bridge.is_underlay() || bridge.ports.values().any(|port| is_patch(*port))
}

impl SlowPath {
    /// Does to rules what a packet does. Says whether any rule is another one now: [`SlowPath::settle_learned`] makes megaflows
    /// true again.
    pub(super) fn affect_rules(&mut self, effects: &RuleEffects, now: Instant) -> bool {
        let before = std::mem::take(&mut self.affected);
        affect(&mut self.state, effects, &mut self.affected, now);
        let changed = self.affected.rules;
        self.affected.rules |= before.rules;
        self.affected.underlay |= before.underlay;
        self.rule_timeouts |= !effects.shortened.is_empty();
        changed
    }

    /// Makes megaflows true after changes of a bridge's rules, and waits for the workers as [`SlowPath::commit`] does. Tunnels
    /// are looked at only where their packets may go through the bridge.
    pub fn commit_rules(&mut self, id: BridgeId) -> bool {
        if self.state.bridge(id).is_some_and(|bridge| carries_tunnels(&self.state, bridge)) {
            return self.commit();
        }
        self.rule_timeouts = self.state.bridges().any(|(_, bridge)| bridge.tables.has_timeouts());
        self.revalidate_changed();
        self.barrier()
    }

    /// Makes megaflows true after what packets have done to rules: once for several packets, as it looks at every megaflow.
    pub(super) fn settle_learned(&mut self) {
        let Affected { rules, underlay } = std::mem::take(&mut self.affected);
        if rules {
            self.rule_timeouts |= self.state.bridges().any(|(_, bridge)| bridge.tables.has_timeouts());
            self.underlay_changed |= underlay;
            self.revalidate_changed();
        }
    }
}
