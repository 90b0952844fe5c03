//! What the slow path tells a worker to do, carried out between two bursts.

use crate::MAX_ADJACENCIES;
use crate::adjacency::{Adjacency, Reach};
use crate::hold::List;
use crate::message::{Command, PacketBuffer, PendingId, PortIo, Return, Upcall};
use crate::parse::inner;
use crate::pipeline::Pipeline;
use crate::programs::Compiled;
use crate::worker::{Source, Worker};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, PortId, Program, ProgramId};
use std::sync::atomic::Ordering::Release;
use wire::key::FlowKey;

/// Commands carried out a loop: enough for a million new flows a second, few enough not to delay packets.
const COMMANDS_PER_LOOP: usize = 32;
/// The same when a great change is coming down: a hundred thousand megaflows are done in milliseconds, and packets
/// wait for a few microseconds, which an RX ring bridges.
const COMMANDS_PER_BUSY_LOOP: usize = 256;
/// Commands waiting that make a change a great one.
const MANY_COMMANDS: usize = 64;
/// The most that one command gives back.
const RETURNS_PER_COMMAND: usize = 3;

impl Worker {
    /// Carries out a bounded number of commands; says whether there were any.
    #[inline]
    pub(crate) fn commands(&mut self) -> bool {
        if self.pipeline.link.commands.is_empty() {
            return false;
        }
        self.some_commands()
    }

    #[cold]
    #[inline(never)]
    fn some_commands(&mut self) -> bool {
        let mut any = false;
        let many = self.pipeline.link.commands.len() > MANY_COMMANDS;
        let most = if many { COMMANDS_PER_BUSY_LOOP } else { COMMANDS_PER_LOOP };
        for _ in 0..most {
            let returns = &self.pipeline.link.returns;
            if returns.capacity() - returns.len() < RETURNS_PER_COMMAND {
                break;
            }
            let Some(command) = self.pipeline.link.commands.pop() else { break };
            any = true;
            self.command(command);
            if !self.pipeline.recirculation.is_empty() {
                self.recirculate();
            }
        }
        any
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Install { slot, key, mask, program, pending } => {
                let result = self.pipeline.lookup.table.insert(slot, &key, &mask, program.0);
                match (result, pending) {
                    (Ok(()), Some(pending)) => self.pipeline.release(pending),
                    (Ok(()), None) => {}
                    (Err(error), pending) => {
                        self.pipeline.give_back(Return::NotInstalled { slot, error });
                        if let Some(pending) = pending {
                            self.pipeline.resolve(pending, program);
                        }
                    }
                }
            }
            Command::Resolve { pending, program } => self.pipeline.resolve(pending, program),
            Command::Retry { pending } => self.pipeline.release(pending),
            Command::SetProgram { slot, program } => {
                self.pipeline.lookup.table.set_program(slot, program.0);
            }
            Command::Remove { slot } => {
                let (packets, bytes) = self.pipeline.lookup.table.remove(slot).unwrap_or((0, 0));
                self.pipeline.give_back(Return::Removed { slot, packets, bytes });
            }
            Command::DefineProgram(id, program) => self.pipeline.define_program(id, program),
            Command::DefineAdjacency(id, adjacency) => self.pipeline.define_adjacency(id, adjacency),
            Command::SetTermination(termination) => {
                let old = std::mem::replace(&mut self.termination, termination);
                self.pipeline.give_back(Return::Termination(old));
            }
            Command::AddPort(io) => self.add_port(io),
            Command::RemovePort(port) => self.remove_port(port),
            Command::TakeRxQueue(port, queue) => self.take_rx_queue(port, queue),
            Command::GiveRxQueue(port, queue) => {
                self.rx.push(Source { port, queue, begins_as: Some(port) });
            }
            Command::SetMtu(port, mtu) => self.pipeline.tx.set_mtu(port, u32::from(mtu)),
            Command::SetLink(port, up) => self.pipeline.tx.set_link(port, up),
            Command::PacketOut(buffer, program) => self.pipeline.packet_out(buffer, program),
            Command::Barrier(number) => self.pipeline.link.acknowledged.store(number, Release),
        }
    }

    fn add_port(&mut self, mut io: Box<PortIo>) {
        let port = io.port;
        // The vectors were made with room for all ports and queues.
        for queue in io.rx.drain(..) {
            self.rx.push(Source { port, queue, begins_as: Some(port) });
        }
        if let Some(tx) = io.tx.take() {
            self.pipeline.tx.add(port, tx);
        }
        self.coalesces[port.index()] = io.gro;
        self.spare_io[port.index()] = Some(io);
    }

    fn take_rx_queue(&mut self, port: PortId, queue: u16) {
        let is_it = |source: &Source| source.port == port && source.queue.queue_id() == queue;
        if let Some(at) = self.rx.iter().position(is_it) {
            let Source { queue, .. } = self.rx.swap_remove(at);
            self.pipeline.give_back(Return::RxQueue(port, queue));
        }
    }

    /// Packets staged for the port leave first; then its queues go back in the box that they came in.
    fn remove_port(&mut self, port: PortId) {
        let Some(mut io) = self.spare_io[port.index()].take() else { return };
        let mut at = 0;
        while at < self.rx.len() {
            if self.rx[at].port == port {
                // The box's vector kept its capacity, so this does not allocate.
                io.rx.push(self.rx.swap_remove(at).queue);
            } else {
                at += 1;
            }
        }
        io.tx = self.pipeline.tx.remove(port, &self.pipeline.counters);
        self.pipeline.give_back(Return::Port(io));
    }
}

impl Pipeline {
    /// Room was checked before the command was taken.
    fn give_back(&self, what: Return) {
        let full = self.link.returns.push(what).is_err();
        debug_assert!(!full, "a command gave back more than RETURNS_PER_COMMAND");
    }

    /// Lets the first packet of a flow go by a program, and those behind it that have the same key.
    fn resolve(&mut self, pending: PendingId, program: ProgramId) {
        let mut list = std::mem::replace(self.pending.list(pending), List::EMPTY);
        let mut first: Option<FlowKey> = None;
        while let Some(front) = self.cells.front(&list) {
            if first.is_some_and(|key| key != front.key) {
                break;
            }
            first = Some(front.key);
            if let Some(held) = self.cells.pop(&mut list) {
                self.unhold();
                self.run(program, held.mbuf, &held.key, &held.info);
            }
        }
        *self.pending.list(pending) = list;
        self.release(pending);
    }

    /// The slow path has decided: the flow's packets go, in order. A packet behind the first that still
    /// matches nothing (same flow hash, other fields) starts an upcall of its own, and those behind it wait on.
    fn release(&mut self, pending: PendingId) {
        let mut list = std::mem::replace(self.pending.list(pending), List::EMPTY);
        while let Some(front) = self.cells.front(&list) {
            let key = front.key;
            let Some(slot) = self.lookup.table.lookup(&key) else {
                if self.link.upcalls.push(Upcall::Miss { pending, key, asked: rte::cycles() }).is_ok() {
                    self.counters.upcalls.add(1);
                    *self.pending.list(pending) = list;
                    return;
                }
                if let Some(held) = self.cells.pop(&mut list) {
                    self.unhold();
                    self.free(&held.key, DropReason::UpcallQueueFull, held.mbuf);
                }
                continue;
            };
            if let Some(held) = self.cells.pop(&mut list) {
                self.unhold();
                self.lookup.table.account(slot, 1, u64::from(held.info.len));
                let program = ProgramId(self.lookup.table.program(slot));
                self.run(program, held.mbuf, &held.key, &held.info);
            }
        }
        self.counters.setup_times.observe(rte::cycles().saturating_sub(self.pending.since(pending)));
        self.pending.remove(pending);
    }

    fn define_program(&mut self, id: ProgramId, program: Box<Program>) {
        let (compiled, spare) = Compiled::new(program);
        if let Some(spare) = spare {
            self.give_back(Return::Program(spare));
        }
        if let Some(Compiled::Ops(old)) = self.programs.define(id.0, compiled) {
            self.give_back(Return::Program(old));
        }
    }

    /// Packets that wait for the old adjacency go by the new one, or drop when it leads nowhere.
    fn define_adjacency(&mut self, id: AdjacencyId, mut adjacency: Box<Adjacency>) {
        let mut held = List::EMPTY;
        if let Some(old) = self.adjacencies.get_mut(id) {
            held = std::mem::replace(&mut old.held, List::EMPTY);
            if matches!(adjacency.reach, Reach::Resolving) && !held.is_empty() {
                // Still waiting, and the slow path knows.
                adjacency.held = std::mem::replace(&mut held, List::EMPTY);
                adjacency.asked = old.asked;
            }
        }
        if let Some(old) = self.adjacencies.define(id, adjacency) {
            // New remotes come all the time; they leave the headers of the others alone.
            if old.is_ready() {
                self.programs.adjacencies_changed();
            }
            self.give_back(Return::Adjacency(old));
        }
        while let Some(waiting) = self.cells.pop(&mut held) {
            self.unhold();
            self.encap((id, waiting.vni, waiting.metadata), waiting.mbuf, &waiting.key, &waiting.info);
        }
    }

    /// Sends a packet that the slow path made.
    fn packet_out(&mut self, buffer: Box<PacketBuffer>, program: ProgramId) {
        let mut key = FlowKey::ZERO;
        let mut mbuf = self.pool.alloc();
        let room = mbuf.as_mut().and_then(|m| m.append(buffer.bytes().len()));
        let filled = room.map(|room| room.copy_from_slice(buffer.bytes())).is_some();
        self.counters.injected.add(1);
        match (mbuf, inner::read_packet_out(buffer.bytes(), buffer.in_port, &mut key)) {
            (Some(mbuf), Some(info)) if filled => self.run(program, mbuf, &key, &info),
            (Some(_), None) if filled => {
                self.counters.count_drop(buffer.in_port, DropReason::EthernetTruncated, 1);
            }
            _ => self.counters.count_drop(buffer.in_port, DropReason::NoMbuf, 1),
        }
        self.give_back(Return::Buffer(buffer));
    }

    /// Drops all that waits; for the end.
    pub(crate) fn drop_held(&mut self) {
        while let Some(pending) = self.pending.any() {
            let mut list = std::mem::replace(self.pending.list(pending), List::EMPTY);
            self.drop_list(&mut list);
            self.pending.remove(pending);
        }
        for at in 0..MAX_ADJACENCIES as u32 {
            if let Some(adjacency) = self.adjacencies.get_mut(AdjacencyId(at)) {
                let mut list = std::mem::replace(&mut adjacency.held, List::EMPTY);
                self.drop_list(&mut list);
            }
        }
    }

    fn drop_list(&mut self, list: &mut List) {
        while let Some(held) = self.cells.pop(list) {
            self.unhold();
            self.free(&held.key, DropReason::Shutdown, held.mbuf);
        }
    }
}
