//! Revalidation: when something changes, every megaflow that it concerns is made true again before the
//! change counts as done. The others are not touched.

use super::SlowPath;
use super::flows::Megaflow;
use crate::bridge::rules::RuleChanges;
use crate::bridge::translate::{Dependency, LearnedRule, TableDep, Translation};
use crate::bridge::{BridgeId, SwitchState};
use datapath::message::Command;
use flow::ofp::Match;
use flow::program::{PortId, ProgramId};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;
use wire::key::FRAG_ANY;

/// Time in which a change reaches every megaflow that it concerns. They are translated again as long as there is time
/// left to remove the others, which is as true and takes a fraction of the time; their packets ask anew.
const BUDGET: Duration = Duration::from_millis(85);
/// What the removal of a megaflow takes, as measured with 200,000 of them.
const REMOVAL: Duration = Duration::from_nanos(500);
/// Megaflows between two looks at the clock.
const LOOK_EVERY: usize = 128;

/// What has changed since the megaflows were last made true.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Something that any megaflow may depend on: ports, VLANs, mirrors, bridges.
    everything: bool,
    /// Megaflows, as worker and slot, that depend on an entry or group that has changed.
    stale: Vec<(usize, u32)>,
}

impl SlowPath {
    /// Something that any megaflow may depend on has changed; the next [`SlowPath::settle`] looks at all.
    pub(super) fn everything_changed(&mut self) {
        self.changes.everything = true;
    }

    pub(super) fn depended_on_changed(&mut self, dependency: &Dependency) {
        for worker in 0..self.workers.len() {
            let dependents = self.workers[worker].flows.dependents(dependency);
            self.changes.stale.extend(dependents.into_iter().map(|slot| (worker, slot)));
        }
    }

    /// The FDB entry of an address has come, moved or gone.
    pub(super) fn fdb_changed(&mut self, bridge: BridgeId, vlan: u16, mac: MacAddr) {
        let dependency = Dependency::Fdb(bridge, vlan, mac);
        self.depended_on_changed(&dependency);
        self.rebuild_dependents(&dependency);
    }

    /// A group, or the liveness of what one watches, has changed.
    pub(super) fn group_changed(&mut self, bridge: BridgeId, id: u32) {
        self.depended_on_changed(&Dependency::Group(bridge, id));
        self.underlay_changed = true;
    }

    /// Rules have changed: makes megaflows true at once.
    pub fn rules_changed(&mut self) {
        self.rule_timeouts = self.state.bridges().any(|(_, b)| b.tables.has_timeouts());
        self.underlay_changed = true;
        self.revalidate_changed();
    }

    /// Makes every megaflow true that what has changed concerns.
    pub(super) fn revalidate_changed(&mut self) {
        let start = self.now();
        let changes = std::mem::take(&mut self.changes);
        let mut rules: Vec<(BridgeId, RuleChanges)> = Vec::new();
        for (id, bridge) in self.state.bridges_mut() {
            let changed = bridge.tables.take_changes();
            if !changed.is_empty() {
                rules.push((id, changed));
            }
        }
        let mut concerned = changes.stale;
        if changes.everything || !rules.is_empty() {
            for worker in 0..self.workers.len() {
                let flows = &self.workers[worker].flows;
                let state = &self.state;
                let is_concerned = |slot: &u32| {
                    changes.everything
                        || flows.get(*slot).is_some_and(|flow| {
                            rules.iter().any(|r| rules_concern(state, r, flow) || unlearn(r, flow))
                        })
                };
                concerned.extend(flows.slots().filter(is_concerned).map(|slot| (worker, slot)));
            }
        }
        concerned.sort_unstable();
        concerned.dedup();
        for (at, (worker, slot)) in concerned.iter().enumerate() {
            let rest = u32::try_from(concerned.len() - at).unwrap_or(u32::MAX);
            if at % LOOK_EVERY == 0 && self.now() - start + REMOVAL * rest > BUDGET {
                for (worker, slot) in &concerned[at..] {
                    self.remove_flow(*worker, *slot);
                }
                return;
            }
            self.revalidate(*worker, *slot, start);
        }
    }

    /// Translates a megaflow again. It stays if a packet of it would be treated the same by everything that
    /// it looks at, perhaps with another program; otherwise it goes, and the next packet asks anew.
    fn revalidate(&mut self, worker: usize, slot: u32, now: Instant) {
        let Some(flow) = self.workers[worker].flows.get(slot) else { return };
        let (key, mask) = (flow.key, flow.mask);
        self.revalidated += 1;
        let translation = self.translate(&key);
        // A megaflow must look at everything that the decision now depends on. It may look at more.
        let mut both = translation.mask;
        both.or(&mask);
        // And its packets must teach nothing that is not known: a megaflow cannot learn.
        let settled = translation.learn.iter().all(|learn| {
            self.state.bridge(learn.bridge).is_some_and(|b| b.fdb.is_settled(learn.vlan, learn.mac, learn.at))
        });
        let learned = translation.effects.iter().flat_map(|effects| &effects.learned);
        let known = |new: &LearnedRule| {
            self.state.bridge(new.bridge).is_some_and(|bridge| bridge.tables.knows(&new.spec))
        };
        if both != mask || !settled || !learned.into_iter().all(known) {
            return self.remove_flow(worker, slot);
        }
        match self.acquire(&translation.program) {
            Some(program) => self.set_program(worker, slot, program, translation, now),
            None => self.remove_flow(worker, slot),
        }
    }

    /// Gives a megaflow the result of a new translation. Takes over one use of `program`.
    pub(super) fn set_program(
        &mut self,
        worker: usize,
        slot: u32,
        program: ProgramId,
        translation: Translation,
        now: Instant,
    ) {
        let side = &mut self.workers[worker];
        let Some(old) = side.flows.get(slot).map(|flow| flow.program) else {
            return self.programs.release(program);
        };
        side.flows.update(slot, program, translation, now);
        if old != program {
            side.send(Command::SetProgram { slot, program });
        }
        self.programs.release(old);
    }

    /// Takes a megaflow out of a worker.
    pub(super) fn remove_flow(&mut self, worker: usize, slot: u32) {
        let side = &mut self.workers[worker];
        if let Some(program) = side.flows.leave(slot) {
            side.send(Command::Remove { slot });
            self.programs.release(program);
        }
    }

    /// Takes the megaflows of one input port out of all workers.
    pub(super) fn flush_port(&mut self, port: PortId) {
        for worker in 0..self.workers.len() {
            let flows = &self.workers[worker].flows;
            let of_port =
                |slot: &u32| flows.get(*slot).is_some_and(|flow| flow.key.in_port == u32::from(port.0));
            let slots: Vec<u32> = flows.slots().filter(of_port).collect();
            for slot in slots {
                self.remove_flow(worker, slot);
            }
        }
    }

    /// Lets each worker have so many megaflows at most; those beyond it go. Returns how many that are: no more than it has
    /// slots for.
    pub fn set_flow_limit(&mut self, limit: usize) -> usize {
        for worker in 0..self.workers.len() {
            let flows = &mut self.workers[worker].flows;
            flows.set_limit(limit);
            let beyond = flows.len().saturating_sub(limit);
            let slots: Vec<u32> = flows.slots().take(beyond).collect();
            for slot in slots {
                self.remove_flow(worker, slot);
            }
        }
        self.workers.iter().map(|worker| worker.flows.limit()).max().unwrap_or(0)
    }

    /// Takes all megaflows out of all workers.
    pub fn flush_flows(&mut self) {
        for worker in 0..self.workers.len() {
            let slots: Vec<u32> = self.workers[worker].flows.slots().collect();
            for slot in slots {
                self.remove_flow(worker, slot);
            }
        }
    }
}

/// Whether changed rules of a bridge can concern a megaflow.
fn rules_concern(state: &SwitchState, (bridge, changed): &(BridgeId, RuleChanges), flow: &Megaflow) -> bool {
    flow.tables.iter().filter(|dep| dep.bridge == *bridge).any(|dep| {
        changed.many
            || changed
                .rules
                .iter()
                .any(|(table, what)| *table == dep.table && can_match(state, *dep, what, flow))
    })
}

/// Whether a rule that packets of a megaflow learn is among those that have changed.
fn unlearn((bridge, changed): &(BridgeId, RuleChanges), flow: &Megaflow) -> bool {
    let learned = flow.effects.iter().flat_map(|effects| &effects.learned);
    learned.filter(|new| new.bridge == *bridge).any(|new| {
        let is_it = |(table, what): &(u8, Match)| *table == new.spec.table && *what == new.spec.matches;
        changed.many || changed.rules.iter().any(is_it)
    })
}

/// Whether some packet of the megaflow could match a rule when it was looked up in this table. A packet that actions had
/// changed by then can match anything, for all that is known.
fn can_match(state: &SwitchState, dep: TableDep, what: &Match, flow: &Megaflow) -> bool {
    if !dep.pristine {
        return true;
    }
    let (key, mask) = (&what.key().flow, &what.mask().flow);
    let ofport = state.port(PortId(flow.key.in_port as u16)).map(|port| port.ofport);
    if ofport.is_some_and(|ofport| (ofport ^ key.in_port) & mask.in_port != 0) {
        return false;
    }
    let mut mask = *mask;
    // Another number in rules than in megaflows, and compared above.
    mask.in_port = 0;
    // Rules see ports of a fragment as 0, whatever they are.
    if flow.mask.nw_frag & FRAG_ANY == 0 || flow.key.nw_frag & FRAG_ANY != 0 {
        (mask.tp_src, mask.tp_dst) = (0.into(), 0.into());
    }
    let both = mask.masked(&flow.mask);
    key.matches(&flow.key, &both)
}
