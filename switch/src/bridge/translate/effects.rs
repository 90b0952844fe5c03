//! What packets do to rules: `learn` and `fin_timeout`.

use super::{BridgeId, Rule, TableDep, Translator};
use crate::bridge::{Bridge, BridgePorts};
use flow::ofp::{FlowSpec, Learn, Prerequisite, format_flow};
use std::sync::Arc;
use wire::key::FlowMask;

/// TCP flags that end a connection: FIN and RST.
const ENDS: u16 = 0x001 | 0x004;

/// A rule that `learn` makes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearnedRule {
    /// The bridge that gets it.
    pub bridge: BridgeId,
    /// The rule.
    pub spec: FlowSpec,
}

/// Timeouts that `fin_timeout` lowers to these, seconds; 0: as it is.
#[derive(Debug, Clone)]
pub struct Shortened {
    /// Whose rule it is.
    pub bridge: BridgeId,
    /// The rule with the action.
    pub rule: Arc<Rule>,
    /// Its idle timeout.
    pub idle: u16,
    /// Its hard timeout.
    pub hard: u16,
}

/// What each packet of a megaflow does to rules.
#[derive(Debug, Clone, Default)]
pub struct RuleEffects {
    /// What it learns, in order.
    pub learned: Vec<LearnedRule>,
    /// Whose timeouts it lowers.
    pub shortened: Vec<Shortened>,
}

impl<'w> Translator<'w> {
    fn effects(&mut self) -> &mut RuleEffects {
        self.effects.get_or_insert_default()
    }

    /// `learn`: notes the rule. Whoever has the packet adds it afterwards, so that this packet does not see it, as in Open
    /// vSwitch.
    pub(super) fn learn_rule(&mut self, bridge: &'w Bridge, id: BridgeId, learn: &Learn) {
        let spec = learn.flow(|bits| self.read(bits));
        let new = LearnedRule { bridge: id, spec };
        let pending = |effects: &RuleEffects| {
            let of_learn = |other: &&LearnedRule| {
                let spec = &other.spec;
                other.bridge == id
                    && (spec.table, spec.cookie) == (learn.table, learn.cookie)
                    && **other != new
            };
            effects.learned.iter().filter(of_learn).filter(|other| !bridge.tables.knows(&other.spec)).count()
        };
        let is_there = bridge.tables.at(new.spec.table, new.spec.priority, &new.spec.matches).is_some();
        let pending = self.effects.as_deref().map_or(0, pending);
        let learns = is_there || bridge.tables.has_room(learn, pending);
        if learn.limit != 0 || !learns {
            // It may have room, or none, when rules come and go.
            let dep = TableDep { bridge: id, table: learn.table, pristine: false };
            if !self.tables.contains(&dep) {
                self.tables.push(dep);
            }
        }
        self.note(|| {
            let text = format_flow(&new.spec, None, &BridgePorts { state: self.state, bridge: id });
            let what = if learns { "learned" } else { "not learned, for there is no room" };
            format!("    {what}: {}", text.trim_start())
        });
        if learns {
            self.effects().learned.push(new);
        }
        if let Some(to) = learn.result_dst {
            self.load(learns.into(), to);
        }
    }

    /// `fin_timeout`: packets with FIN or RST have megaflows of their own.
    pub(super) fn fin_timeout(&mut self, bridge: BridgeId, idle: u16, hard: u16) {
        if !self.meets(Prerequisite::Tcp) {
            return;
        }
        self.look_flow(&FlowMask { tcp_flags: ENDS.into(), ..FlowMask::ZERO });
        if self.at.key.flow.tcp_flags.get() & ENDS != 0
            && let Some(rule) = self.acting.clone()
        {
            self.effects().shortened.push(Shortened { bridge, rule, idle, hard });
        }
    }
}
