//! Upcalls: a worker has packets that no megaflow matches.

use super::flows::Megaflow;
use super::{SlowPath, UPCALLS_PER_TURN};
use crate::bridge::fdb::Learned;
use crate::bridge::translate::{Learn, Translation, translate};
use datapath::message::{Command, PendingId, Return, Upcall};
use flow::megaflow::InsertError;
use flow::program::{Program, ProgramId, PuntReason};
use flow::stats::PacketStats;
use std::time::Instant;
use wire::key::FlowKey;

impl SlowPath {
    /// Takes what a worker gave back.
    pub(super) fn returns(&mut self, worker: usize, now: Instant) -> bool {
        let mut any = false;
        while let Some(item) = self.workers[worker].next_return() {
            any = true;
            match item {
                Return::Removed { slot, packets, bytes } => {
                    self.workers[worker].flows.removed(slot, PacketStats::new(packets, bytes), now);
                }
                Return::NotInstalled { slot, error } => {
                    tracing::debug!(slot, %error, "megaflow not installed");
                    // A slot that is leaving already is freed by the answer to its removal.
                    if let Some(program) = self.workers[worker].flows.leave(slot) {
                        self.programs.release(program);
                        self.workers[worker].flows.removed(slot, PacketStats::default(), now);
                    }
                    // There is no room for another mask: masks go with their megaflows.
                    if error == InsertError::SubtablesFull {
                        self.evict(worker, now);
                    }
                }
                Return::Port(io) => self.port_came_back(io),
                Return::Buffer(buffer) => self.recycle(worker, buffer),
                // Freed here, because a worker does not free.
                Return::Program(_) | Return::Adjacency(_) | Return::Termination(_) => {}
            }
        }
        any
    }

    /// Answers a bounded number of a worker's upcalls.
    pub(super) fn upcalls(&mut self, worker: usize, now: Instant) -> bool {
        for n in 0..UPCALLS_PER_TURN {
            let Some(upcall) = self.workers[worker].link.upcalls.pop() else { return n > 0 };
            match upcall {
                Upcall::Miss { pending, key } => self.miss(worker, pending, &key, now),
                Upcall::Neighbour(adjacency) => self.packet_waits(adjacency, now),
                Upcall::Punt(buffer) => {
                    match buffer.reason {
                        PuntReason::Local(local) => self.punted(local, &buffer, now),
                        _ => self.captured(&buffer),
                    }
                    self.recycle(worker, buffer);
                }
            }
        }
        true
    }

    /// Decides about a flow, and tells the worker.
    fn miss(&mut self, worker: usize, pending: PendingId, key: &FlowKey, now: Instant) {
        self.upcalls += 1;
        let mut translation = self.translate(key);
        let mut news = false;
        for learn in &translation.learn {
            news |= self.learn(learn, now);
        }
        if news {
            self.revalidate_changed();
            // What the packet taught may concern itself: in a full FDB its destination may have made room.
            translation = self.translate(key);
        }
        let masked = key.masked(&translation.mask);
        let Some(program) = self.acquire(&translation.program) else {
            // No number for the program. The packets must not wait for ever: let them look again, and ask again.
            self.flow_limit_hits += 1;
            self.evict(worker, now);
            return self.workers[worker].send(Command::Retry { pending });
        };
        let place = match self.workers[worker].flows.find(&masked, &translation.mask) {
            Err(place) => place,
            Ok(slot) => {
                // Another flow's upcall has brought the same megaflow meanwhile.
                self.set_program(worker, slot, program, translation, now);
                return self.workers[worker].send(Command::Retry { pending });
            }
        };
        let flow = Megaflow {
            key: masked,
            mask: translation.mask,
            program,
            learn: translation.learn,
            rules: translation.rules,
            groups: translation.groups,
            tables: translation.tables,
            deps: translation.deps,
            created: now,
            used: now,
            stats: PacketStats::default(),
        };
        let (key, mask) = (flow.key, flow.mask);
        match self.workers[worker].flows.insert(place, flow) {
            Ok(slot) => {
                let install = Command::Install { slot, key, mask, program, pending: Some(pending) };
                self.workers[worker].send(install);
            }
            Err(flow) => {
                // The table is full: this packet goes its way, and the least used megaflows make room.
                self.flow_limit_hits += 1;
                for rule in &flow.rules {
                    rule.count(PacketStats::new(1, 0), now);
                }
                self.workers[worker].send(Command::Resolve { pending, program });
                self.programs.release(program);
            }
        }
        self.make_room(worker, now);
    }

    /// Translates a key, and makes the adjacencies to remotes that actions chose for it.
    pub(super) fn translate(&mut self, key: &FlowKey) -> Translation {
        let translation = translate(&self.state, key);
        if self.resolve_missing(&translation.missing) { translate(&self.state, key) } else { translation }
    }

    /// The number of a program, which the workers know from here on.
    pub(super) fn acquire(&mut self, program: &Program) -> Option<ProgramId> {
        let (id, is_new) = self.programs.acquire(program)?;
        if is_new {
            for worker in &mut self.workers {
                worker.send(Command::DefineProgram(id, Box::new(program.clone())));
            }
        }
        Some(id)
    }

    /// Notes where an address is. Says whether that was news: then the caller brings megaflows up to date that
    /// believed otherwise.
    pub(super) fn learn(&mut self, learn: &Learn, now: Instant) -> bool {
        let Some(bridge) = self.state.bridge_mut(learn.bridge) else { return false };
        match bridge.fdb.learn(learn.vlan, learn.mac, learn.at, now) {
            Learned::Refreshed | Learned::Fixed => return false,
            Learned::New { evicted } => {
                if let Some((vlan, mac)) = evicted {
                    self.fdb_changed(learn.bridge, vlan, mac);
                }
                self.fdb_changed(learn.bridge, learn.vlan, learn.mac);
            }
            Learned::Moved { .. } => self.fdb_changed(learn.bridge, learn.vlan, learn.mac),
        }
        true
    }

    /// Keeps a little room in a worker's table, so that a new flow finds a slot at once.
    fn make_room(&mut self, worker: usize, now: Instant) {
        let flows = &self.workers[worker].flows;
        if flows.room() < flows.capacity() / 64 {
            self.evict(worker, now);
        }
    }

    /// Removes the least recently used of a sample of megaflows.
    fn evict(&mut self, worker: usize, now: Instant) {
        const AT_A_TIME: usize = 64;
        let victims = self.workers[worker].flows.victims(self.victims_from, AT_A_TIME, now);
        self.victims_from =
            self.victims_from.wrapping_add(AT_A_TIME * 8) % self.workers[worker].flows.capacity().max(1);
        for slot in victims {
            self.remove_flow(worker, slot);
        }
    }
}
