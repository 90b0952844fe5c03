//! Upcalls: a worker has packets that no megaflow matches.

use super::backlog::Waiting;
use super::flows::{Megaflow, encaps};
use super::limits::Limit;
use super::traffic::TunnelSource;
use super::workers::WorkerSide;
use super::{SlowPath, UPCALLS_AT_ONCE, UPCALLS_PER_TURN};
use crate::bridge::fdb::Learned;
use crate::bridge::rules::Rule;
use crate::bridge::translate::{Learn, Translation, translate};
use crate::tunnel::Underlay;
use datapath::counters::TIME_BOUNDS;
use datapath::message::{Command, PendingId, Return, Upcall};
use flow::megaflow::InsertError;
use flow::program::{PortId, Program, ProgramId, PuntReason};
use flow::stats::PacketStats;
use prometheus::{Histogram, HistogramOpts};
use std::sync::Arc;
use std::time::Instant;
use wire::key::FlowKey;

/// Distribution of the times that workers wait for the answers to their upcalls.
pub(super) fn answer_times() -> Histogram {
    let name = "vxswitch_upcall_answer_seconds";
    let options =
        HistogramOpts::new(name, "Time from a worker's upcall to its answer.").buckets(TIME_BOUNDS.into());
    Histogram::with_opts(options).expect("a valid name and rising bounds")
}

/// What an address that a packet shows was to the FDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Nothing.
    None,
    /// News: the caller brings megaflows up to date that believed otherwise.
    Learned,
    /// News that the FDB does not take now.
    Limited,
}

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
                Return::RxQueue(port, queue) => self.returned_queues.push((port, queue)),
                Return::Buffer(buffer) => self.recycle(worker, buffer),
                // Freed here, because a worker does not free.
                Return::Program(_) | Return::Adjacency(_) | Return::Termination(_) => {}
            }
        }
        any
    }

    /// Answers a bounded number of upcalls; says whether there were any.
    pub(super) fn answer_upcalls(&mut self, now: Instant) -> bool {
        for n in 0..UPCALLS_PER_TURN {
            // Who has just come must not wait for those whose turn is later.
            if n % UPCALLS_AT_ONCE == 0 {
                self.settle_learned();
                self.take_upcalls();
            }
            let Some(Waiting { worker, upcall }) = self.backlog.pop() else { return n > 0 };
            self.answer(worker, upcall, now);
        }
        true
    }

    fn take_upcalls(&mut self) {
        for (worker, side) in self.workers.iter().enumerate() {
            // As many as there are now: a worker may be as fast as this loop.
            for _ in 0..side.link.upcalls.len() {
                let Some(upcall) = side.link.upcalls.pop() else { break };
                self.backlog.push(Waiting { worker, upcall });
            }
        }
    }

    fn answer(&mut self, worker: usize, upcall: Upcall, now: Instant) {
        match upcall {
            Upcall::Miss { pending, key, asked } => {
                self.miss(worker, pending, &key, now);
                self.answered(asked);
            }
            Upcall::Neighbour(adjacency) => self.packet_waits(adjacency, now),
            Upcall::TooBig(buffer, adjacency, vni) => {
                self.too_big(buffer.bytes(), adjacency, vni);
                self.recycle(worker, buffer);
            }
            Upcall::Punt(buffer) => {
                match buffer.reason {
                    PuntReason::Local(local) => self.punted(local, &buffer, now),
                    PuntReason::Solicit { at, vlan } => self.host_asked_for((at, vlan), &buffer, now),
                    PuntReason::Snoop { at, vlan } => self.host_snooped((at, vlan), &buffer, now),
                    PuntReason::Membership { at, vlan } => self.membership_seen((at, vlan), &buffer, now),
                    PuntReason::Bfd(at) => self.bfd_received(at, &buffer, now),
                    _ => self.captured(&buffer),
                }
                self.recycle(worker, buffer);
            }
        }
    }

    /// The answer to an upcall is on its way.
    fn answered(&mut self, asked: u64) {
        let hz = rte::tsc_hz();
        if hz > 0 {
            // Counters of two CPUs may differ by a few ticks.
            let ticks = rte::cycles().saturating_sub(asked);
            self.answer_times.observe(ticks as f64 / hz as f64);
        }
    }

    /// Upcalls that wait for an answer here.
    pub fn upcalls_waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Decides about a flow, and tells the worker.
    fn miss(&mut self, worker: usize, pending: PendingId, key: &FlowKey, now: Instant) {
        self.upcalls += 1;
        if key.in_port == u32::from(PortId::TUNNEL_MISS.0) {
            self.state.merge_unknown_tunnels = self.unknown_tunnels.note(key, now);
        }
        let mut translation = self.translate(key);
        let (mut news, mut limited) = (false, false);
        for learn in &translation.learn {
            match self.learn(learn, now) {
                News::None => {}
                News::Learned => news = true,
                News::Limited => limited = true,
            }
        }
        if news {
            self.revalidate_changed();
            // What the packet taught may concern itself: in a full FDB its destination may have made room.
            translation = self.translate(key);
        }
        // The packet goes by the rules that there were when it came.
        let effects = translation.effects.take();
        let taught = effects.as_deref().is_some_and(|effects| self.affect_rules(effects, now));
        translation.effects = effects;
        let Some(program) = self.acquire(&translation.program) else {
            // No number for the program. The packets must not wait for ever: let them look again, and ask again.
            self.flow_limit_hits += 1;
            self.evict(worker, now);
            return self.workers[worker].send(Command::Retry { pending });
        };
        if taught {
            // What comes after it goes by the rules that it has made.
            return self.resolve(worker, pending, program, &translation.rules, now);
        }
        if limited {
            // What the packet shows could not be learned now. It goes its way, and a later one may teach it: a
            // megaflow would keep the next ones from the slow path.
            return self.resolve(worker, pending, program, &translation.rules, now);
        }
        let bound = self.config.masks;
        let (mask, outgrown) = self.workers[worker].flows.fit_mask(key.in_port, &translation.mask, bound);
        if mask != translation.mask {
            self.masks_widened += 1;
            if self.limits.reached(Limit::Masks, key.in_port, now) {
                let port = self.state.port(PortId(key.in_port as u16)).map_or("", |port| &*port.name);
                tracing::warn!(target: "vxswitch::megaflow", port, masks = bound, "the port's megaflows have all masks that they may have: new ones match more fields");
            }
        }
        for slot in outgrown {
            self.remove_flow(worker, slot);
        }
        let (masked, in_port) = (key.masked(&mask), PortId(key.in_port as u16));
        let place = match self.workers[worker].flows.find(&masked, &mask) {
            Err(place) => place,
            Ok(slot) => {
                // Another flow's upcall has brought the same megaflow meanwhile.
                self.set_program(worker, slot, program, translation, now);
                return self.workers[worker].send(Command::Retry { pending });
            }
        };
        let flow = Megaflow {
            key: masked,
            mask,
            program,
            learn: translation.learn,
            effects: translation.effects,
            rules: translation.rules,
            groups: translation.groups,
            source: self.state.tunnel_port(in_port).map(|port| TunnelSource::new(in_port, port, key, &mask)),
            encaps: encaps(&translation.program.ops),
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
                self.resolve(worker, pending, program, &flow.rules, now);
            }
        }
        self.make_room(worker, now);
    }

    /// Lets the packets that wait go by a program, without a megaflow. Takes over one use of the program.
    fn resolve(
        &mut self,
        worker: usize,
        pending: PendingId,
        program: ProgramId,
        rules: &[Arc<Rule>],
        now: Instant,
    ) {
        for rule in rules {
            rule.count(PacketStats::new(1, 0), now);
        }
        self.workers[worker].send(Command::Resolve { pending, program });
        self.programs.release(program);
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

    /// Notes where an address is.
    fn learn(&mut self, learn: &Learn, now: Instant) -> News {
        let Some(bridge) = self.state.bridge_mut(learn.bridge) else { return News::None };
        let of = learn.bridge.0.into();
        let learned = bridge.fdb.learn(learn.vlan, learn.mac, learn.at, now);
        match learned {
            Learned::NoRoom | Learned::New { evicted: Some(_) } | Learned::Moved { evicted: Some(_), .. }
                if self.limits.reached(Limit::Fdb, of, now) =>
            {
                tracing::warn!(target: "vxswitch::fdb", bridge = %bridge.name, entries = bridge.fdb.len(), "the FDB is full: learned addresses make room, see mac-table-size");
            }
            Learned::Limited if self.limits.reached(Limit::Learning, of, now) => {
                let port = self.state.port(learn.at.port).map_or("", |port| &*port.name);
                tracing::warn!(target: "vxswitch::fdb", port, "the port shows new addresses faster than they are learned");
            }
            _ => {}
        }
        let evicted = match learned {
            Learned::Refreshed | Learned::Fixed | Learned::NoRoom => return News::None,
            Learned::Limited => {
                self.learning_limited += 1;
                return News::Limited;
            }
            Learned::New { evicted } | Learned::Moved { evicted, .. } => evicted,
        };
        if let Some((vlan, mac)) = evicted {
            self.fdb_changed(learn.bridge, vlan, mac);
        }
        self.fdb_changed(learn.bridge, learn.vlan, learn.mac);
        News::Learned
    }

    /// Keeps a little room in a worker's table, so that a new flow finds a slot at once.
    fn make_room(&mut self, worker: usize, now: Instant) {
        let flows = &self.workers[worker].flows;
        if flows.room() < flows.limit() / 64 {
            self.evict(worker, now);
        }
    }

    /// Removes the least recently used of a sample of megaflows.
    fn evict(&mut self, worker: usize, now: Instant) {
        const AT_A_TIME: usize = 64;
        if self.limits.reached(Limit::Megaflows, worker as u32, now) {
            let WorkerSide { lcore, flows, .. } = &self.workers[worker];
            tracing::warn!(target: "vxswitch::megaflow", lcore, megaflows = flows.len(), "the megaflow table is full: the least recently used make room");
        }
        let victims = self.workers[worker].flows.victims(self.victims_from, AT_A_TIME, now);
        self.victims_from =
            self.victims_from.wrapping_add(AT_A_TIME * 8) % self.workers[worker].flows.capacity().max(1);
        for slot in victims {
            self.remove_flow(worker, slot);
        }
    }
}
