//! What workers and the slow path tell each other. All queues are bounded; a worker never waits on one.
//!
//! - [`Command`]s go down. The slow path waits when a worker's queue is full: the worker drains a bounded
//!   number a loop and never depends on the slow path, so that always ends.
//! - [`Upcall`]s come up and may be lost when the queue is full: the packet behind one is then dropped and counted.
//! - [`Return`]s come up and are never lost: a worker stops taking commands while there is no room for
//!   what they give back. They carry everything that must be freed, because a worker does not free.

use crate::adjacency::Adjacency;
use crate::termination::Termination;
use crate::tx::PortTx;
use crossbeam_queue::ArrayQueue;
use flow::program::{AdjacencyId, PortId, Program, ProgramId, PuntReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use wire::key::{FlowKey, FlowMask};

/// Number of an entry in a worker's table of flows that wait for a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PendingId(pub u32);

/// Bytes of a packet on their way between a worker and the slow path. Buffers are made once and go round.
#[derive(Debug)]
pub struct PacketBuffer {
    len: usize,
    bytes: [u8; PacketBuffer::SIZE],
    /// Port that the packet came from, or is to be treated as having come from.
    pub in_port: PortId,
    /// What the slow path wants it for.
    pub reason: PuntReason,
    /// The packet's key: the tunnel that it came through is not in its bytes.
    pub key: FlowKey,
}

impl PacketBuffer {
    /// Longest packet that fits.
    pub const SIZE: usize = 9728;

    /// An empty buffer.
    pub fn new() -> Box<PacketBuffer> {
        Box::new(PacketBuffer {
            len: 0,
            bytes: [0; Self::SIZE],
            in_port: PortId(0),
            reason: PuntReason::Local(PortId(0)),
            key: FlowKey::ZERO,
        })
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Copies the first bytes of a packet in, `most` at most.
    pub fn set_head<'a>(&mut self, packet: impl IntoIterator<Item = &'a [u8]>, most: usize) {
        self.len = 0;
        for segment in packet {
            let here = segment.len().min(most.min(Self::SIZE) - self.len);
            self.bytes[self.len..self.len + here].copy_from_slice(&segment[..here]);
            self.len += here;
        }
    }

    /// Copies a packet in, segment by segment; false, with no packet in it, when it is too long.
    pub fn set<'a>(&mut self, packet: impl IntoIterator<Item = &'a [u8]>) -> bool {
        self.len = 0;
        let mut len = 0;
        for segment in packet {
            let Some(room) = self.bytes.get_mut(len..len + segment.len()) else { return false };
            room.copy_from_slice(segment);
            len += segment.len();
        }
        self.len = len;
        true
    }
}

/// A device port as one worker sees it: the RX queues that it polls, its way to transmit.
#[derive(Debug)]
pub struct PortIo {
    /// Datapath port number.
    pub port: PortId,
    /// Queues of this worker, possibly none.
    pub rx: Vec<rte::RxQueue>,
    /// Way out, with the staging for it. The worker takes it and puts it back.
    pub tx: Option<PortTx>,
    /// Whether TCP segments that it receives are coalesced.
    pub gro: bool,
}

/// Slow path to worker.
#[allow(
    clippy::large_enum_variant,
    reason = "the queue's cells have room for the largest; a box would be an allocation"
)]
#[derive(Debug)]
pub enum Command {
    /// Put a megaflow into a slot, then let the packets that wait for it go.
    Install {
        /// Slot of the slab, free.
        slot: u32,
        /// Masked key.
        key: FlowKey,
        /// Mask.
        mask: FlowMask,
        /// What to do with matching packets.
        program: ProgramId,
        /// Whose packets wait for this.
        pending: Option<PendingId>,
    },
    /// Run a program for the packets that wait, without a megaflow.
    Resolve {
        /// Whose packets.
        pending: PendingId,
        /// What to do with them.
        program: ProgramId,
    },
    /// Let waiting packets look again: what they need is installed by now.
    Retry {
        /// Whose packets.
        pending: PendingId,
    },
    /// Give a megaflow another program.
    SetProgram {
        /// Slot in use.
        slot: u32,
        /// New program.
        program: ProgramId,
    },
    /// Take a megaflow out. Answered by [`Return::Removed`].
    Remove {
        /// Slot in use.
        slot: u32,
    },
    /// Put a program into the program table. What was there comes back.
    DefineProgram(ProgramId, Box<Program>),
    /// Put an adjacency into the adjacency table. What was there comes back; packets held for it go or drop.
    DefineAdjacency(AdjacencyId, Box<Adjacency>),
    /// Which packets on which ports are tunnel packets, and for which tunnel port.
    SetTermination(Box<Termination>),
    /// Start to poll and to transmit on a port.
    AddPort(Box<PortIo>),
    /// Stop with it. Answered by [`Return::Port`].
    RemovePort(PortId),
    /// Stop to poll an RX queue of a port. Answered by [`Return::RxQueue`].
    TakeRxQueue(PortId, u16),
    /// Poll an RX queue of a port, too.
    GiveRxQueue(PortId, rte::RxQueue),
    /// Set a port's MTU: bytes behind Ethernet header and tag.
    SetMtu(PortId, u16),
    /// Say whether a port's link is up. While it is not, nothing is tried there.
    SetLink(PortId, bool),
    /// Send a packet that the slow path made, by a program. The buffer comes back.
    PacketOut(Box<PacketBuffer>, ProgramId),
    /// All commands before this one have been carried out: store the number in [`Link::acknowledged`].
    Barrier(u64),
}

/// Worker to slow path; may be lost.
#[allow(clippy::large_enum_variant, reason = "it is passed in a ring, without an allocation by the worker")]
#[derive(Debug)]
pub enum Upcall {
    /// No megaflow matches this key. Packets wait under `pending`; every such upcall is answered by
    /// exactly one [`Command::Install`], [`Command::Resolve`] or [`Command::Retry`] for it.
    Miss {
        /// Where the packets wait.
        pending: PendingId,
        /// Key of the first of them.
        key: FlowKey,
        /// When the worker asked, by the time-stamp counter.
        asked: u64,
    },
    /// A packet waits for this adjacency's neighbour.
    Neighbour(AdjacencyId),
    /// Bytes of a packet for the switch itself.
    Punt(Box<PacketBuffer>),
    /// A packet was too long for a tunnel, and its sender may want to know: its first bytes, and how it would have gone.
    TooBig(Box<PacketBuffer>, AdjacencyId, u32),
}

/// Worker to slow path; never lost.
#[derive(Debug)]
pub enum Return {
    /// A megaflow is gone; these are its final statistics.
    Removed {
        /// Slot, free from now on.
        slot: u32,
        /// Packets that it matched.
        packets: u64,
        /// Bytes of these packets.
        bytes: u64,
    },
    /// A megaflow could not be installed: the slot is free.
    NotInstalled {
        /// Slot, free from now on.
        slot: u32,
        /// Why.
        error: flow::megaflow::InsertError,
    },
    /// The worker has let go of a port.
    Port(Box<PortIo>),
    /// The worker has let go of an RX queue.
    RxQueue(PortId, rte::RxQueue),
    /// A program to be freed.
    Program(Box<Program>),
    /// An adjacency to be freed.
    Adjacency(Box<Adjacency>),
    /// Termination tables to be freed.
    Termination(Box<Termination>),
    /// A buffer to be used again.
    Buffer(Box<PacketBuffer>),
}

/// The queues between the slow path and one worker.
#[derive(Debug)]
pub struct Link {
    /// Down.
    pub commands: ArrayQueue<Command>,
    /// Up, lossy.
    pub upcalls: ArrayQueue<Upcall>,
    /// Up, lossless.
    pub returns: ArrayQueue<Return>,
    /// Empty buffers for punted packets.
    pub buffers: ArrayQueue<Box<PacketBuffer>>,
    /// Number of the last [`Command::Barrier`] that the worker passed.
    pub acknowledged: AtomicU64,
    /// How long the worker may sleep at a time when it finds nothing to do, microseconds; 0: it polls on.
    pub sleep_max: AtomicU32,
    /// The worker has ended: nothing sent to it will be carried out.
    pub closed: AtomicBool,
}

impl Link {
    /// Buffers that go round between a worker and the slow path.
    pub const BUFFERS: usize = 128;

    /// Queues with room for `upcalls` flow misses.
    pub fn new(upcalls: usize) -> Arc<Link> {
        let link = Link {
            commands: ArrayQueue::new(4096),
            upcalls: ArrayQueue::new(upcalls),
            returns: ArrayQueue::new(8192),
            buffers: ArrayQueue::new(Self::BUFFERS),
            acknowledged: AtomicU64::new(0),
            sleep_max: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        };
        while link.buffers.push(PacketBuffer::new()).is_ok() {}
        Arc::new(link)
    }
}
