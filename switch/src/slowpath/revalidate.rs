//! Revalidation: when something changes, every megaflow that it concerns is made true again before the
//! change counts as done.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::translate::{Dependency, Translation, translate};
use crate::datapath::message::Command;
use flow::program::{PortId, ProgramId};
use std::time::Instant;
use wire::addr::MacAddr;

impl SlowPath {
    /// The FDB entry of an address has come, moved or gone.
    pub(super) fn fdb_changed(&mut self, bridge: BridgeId, vlan: u16, mac: MacAddr) {
        let dependency = Dependency::Fdb(bridge, vlan, mac);
        for worker in 0..self.workers.len() {
            for slot in self.workers[worker].flows.dependents(&dependency) {
                self.revalidate(worker, slot);
            }
        }
        self.rebuild_dependents(&dependency);
    }

    /// Rules have changed.
    pub fn rules_changed(&mut self) {
        self.rule_timeouts = self.world.bridges().any(|(_, b)| b.tables.has_timeouts());
        self.underlay_changed = true;
        self.revalidate_all();
    }

    /// A group, or the liveness of a port that one watches, has changed.
    pub fn groups_changed(&mut self) {
        self.underlay_changed = true;
        self.revalidate_all();
    }

    /// Looks at every megaflow again.
    pub fn revalidate_all(&mut self) {
        for worker in 0..self.workers.len() {
            let slots: Vec<u32> = self.workers[worker].flows.slots().collect();
            for slot in slots {
                self.revalidate(worker, slot);
            }
        }
    }

    /// Translates a megaflow again. It stays if a packet of it would be treated the same by everything that
    /// it looks at, perhaps with another program; otherwise it goes, and the next packet asks anew.
    fn revalidate(&mut self, worker: usize, slot: u32) {
        let Some(flow) = self.workers[worker].flows.get(slot) else { return };
        let (key, mask) = (flow.key, flow.mask);
        let translation = translate(&self.world, &key);
        // A megaflow must look at everything that the decision now depends on. It may look at more.
        let mut both = translation.mask;
        both.or(&mask);
        // And its packets must teach nothing that is not known: a megaflow cannot learn.
        let settled = translation.learn.is_none_or(|learn| {
            self.world.bridge(learn.bridge).is_some_and(|b| b.fdb.is_settled(learn.vlan, learn.mac, learn.at))
        });
        if both != mask || !settled {
            return self.remove_flow(worker, slot);
        }
        match self.acquire(&translation.program) {
            Some(program) => self.set_program(worker, slot, program, translation, Instant::now()),
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
        side.flows.update(slot, program, translation.learn, translation.rules, translation.tags, now);
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
