//! What the stages behind rx share: tables, the output side, packets that wait, counters.

use crate::BURST;
use crate::adjacency::Adjacencies;
use crate::counters::WorkerCounters;
use crate::hold::{Cells, PendingFlows};
use crate::message::{Link, Upcall};
use crate::meter::Meters;
use crate::programs::Programs;
use crate::too_big::ReportLimit;
use crate::tx::TxStage;
use crate::{gso, offload};
use flow::cache::Lookup;
use flow::drop::DropReason;
use flow::hash::FlowHasher;
use flow::program::{PortId, PuntReason};
use rte::{Burst, Mbuf, Mempool};
use std::sync::Arc;
use wire::key::FlowKey;

/// Tunnels that may lie in each other: a packet that enters a bridge again more often is dropped.
pub(crate) const MAX_DEPTH: u8 = 8;

/// How a packet enters a bridge a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reentry {
    /// It has reached the LOCAL port of a bridge with a VTEP: its outer headers come off.
    Terminate(PortId),
    /// A tunnel has put outer headers on it: it comes out of the LOCAL port of the underlay bridge, whose rules look at
    /// more than all packets of the tunnel have in common.
    FromLocal(PortId),
}

/// Packets that go through the stages again: from the reader of outer headers on, or from lookup on.
#[derive(Debug, Default)]
pub(crate) struct Recirculation {
    mbufs: Burst<{ 4 * BURST }>,
    /// How each enters, and how often it has.
    entries: Vec<(Reentry, u8)>,
}

impl Recirculation {
    fn new() -> Recirculation {
        Recirculation { mbufs: Burst::new(), entries: Vec::with_capacity(4 * BURST) }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.mbufs.is_empty()
    }

    /// Moves the first packets that enter alike to `batch`, [`BURST`] at most; says how they enter, and how often they
    /// have.
    pub(crate) fn take(&mut self, batch: &mut Burst<BURST>) -> Option<(Reentry, u8)> {
        let first = *self.entries.first()?;
        let count = self.entries.iter().take(BURST).take_while(|entry| **entry == first).count();
        self.entries.drain(..count);
        let mut all = std::mem::take(&mut self.mbufs);
        for (n, mbuf) in all.drain().enumerate() {
            // Neither can fail: `count` is at most a burst, and the others fitted before.
            let _ = if n < count { batch.push(mbuf) } else { self.mbufs.push(mbuf) };
        }
        Some(first)
    }
}

/// Everything behind rx that a decided or held packet needs.
pub(crate) struct Pipeline {
    pub lookup: Lookup,
    pub programs: Programs,
    pub adjacencies: Adjacencies,
    pub tx: TxStage,
    pub cells: Cells,
    pub pending: PendingFlows,
    /// In-port of the packet that was held last, for who asks first.
    pub last_held: Option<PortId>,
    pub pool: Mempool,
    pub link: Arc<Link>,
    pub counters: Arc<WorkerCounters>,
    pub meters: Arc<Meters>,
    /// Hashes that choose source ports of tunnel packets and buckets of `select` groups.
    pub hasher: FlowHasher,
    /// Packets that go through the stages again.
    pub recirculation: Recirculation,
    /// How often the packets at hand have entered a bridge again.
    pub depth: u8,
    /// IPv4 identification of the next tunnel packet; matters only without DF.
    pub ip_id: u16,
    /// IPv6 identification of the last tunnel packet that was divided.
    pub fragment_id: u32,
    /// Whether stages may take their fast paths; see [`crate::WorkerConfig::fast_paths`].
    pub fast_paths: bool,
    pub report_limit: ReportLimit,
    /// The same for BFD, which other messages of a port must not cost its packets.
    pub bfd_limit: ReportLimit,
}

/// What a [`Pipeline`] is made of.
pub(crate) struct Parts {
    pub lookup: Lookup,
    pub programs: Programs,
    pub adjacencies: Adjacencies,
    pub hold: usize,
    pub pool: Mempool,
    pub link: Arc<Link>,
    pub counters: Arc<WorkerCounters>,
    pub meters: Arc<Meters>,
    pub hasher: FlowHasher,
    pub fast_paths: bool,
}

impl Pipeline {
    pub(crate) fn new(parts: Parts) -> Pipeline {
        Pipeline {
            lookup: parts.lookup,
            programs: parts.programs,
            adjacencies: parts.adjacencies,
            tx: TxStage::new(parts.pool.clone()),
            cells: Cells::new(parts.hold),
            pending: PendingFlows::new(parts.hold),
            last_held: None,
            pool: parts.pool,
            link: parts.link,
            counters: parts.counters,
            meters: parts.meters,
            hasher: parts.hasher,
            recirculation: Recirculation::new(),
            depth: 0,
            ip_id: 0,
            fragment_id: 0,
            fast_paths: parts.fast_paths,
            report_limit: ReportLimit::new(),
            bfd_limit: ReportLimit::new(),
        }
    }

    /// Whether something waits for the slow path.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty() || !self.link.commands.is_empty()
    }

    /// Frees a packet and counts why.
    #[inline(never)]
    pub(crate) fn free(&self, key: &FlowKey, reason: DropReason, mbuf: Mbuf) {
        self.counters.free(PortId(key.in_port as u16), reason, mbuf);
    }

    /// Sends a packet through the stages again.
    pub(crate) fn reenter(&mut self, entry: Reentry, mut mbuf: Mbuf, key: &FlowKey) {
        if self.depth >= MAX_DEPTH {
            return self.free(key, DropReason::RecursionLimit, mbuf);
        }
        mbuf.set_port(key.in_port as u16);
        match self.recirculation.mbufs.push(mbuf) {
            Ok(()) => self.recirculation.entries.push((entry, self.depth + 1)),
            Err(mbuf) => self.free(key, DropReason::RecursionLimit, mbuf),
        }
    }

    /// Counts one held packet less.
    pub(crate) fn unhold(&self) {
        self.counters.held.add(1u64.wrapping_neg());
    }

    /// Copies the packet's bytes to the slow path, and counts when that cannot be.
    pub(crate) fn copy_up(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) {
        if !self.punt(reason, mbuf, key) {
            self.counters.punts_lost.add(1);
        }
    }

    /// Copies the packet's bytes to the slow path, complete, as they would be on a wire. Says whether there was room, of which
    /// captures and monitors leave some to others; and of BFD and of what hosts say and ask of each other, whether the port
    /// has not sent too much lately.
    pub(crate) fn punt(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) -> bool {
        let in_port = PortId(key.in_port as u16);
        let has_room = match reason {
            PuntReason::Solicit { .. } | PuntReason::Snoop { .. } | PuntReason::Membership { .. } => {
                self.may_report(in_port)
            }
            PuntReason::CaptureRx(_) | PuntReason::CaptureTx(_) => self.may_copy(),
            PuntReason::Bfd(_) => self.bfd_limit.take(in_port, rte::cycles(), rte::tsc_hz()),
            _ => true,
        };
        if !has_room {
            return false;
        }
        if offload::is_requested(mbuf) {
            self.punt_completed(reason, mbuf, key)
        } else {
            self.punt_bytes(reason, mbuf, key)
        }
    }

    #[cold]
    fn punt_completed(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) -> bool {
        let pool = self.pool.clone();
        if gso::is_large(mbuf) {
            let mut all = true;
            gso::segment(mbuf, &pool, |segment| all &= self.punt_bytes(reason, &segment, key)).is_complete()
                && all
        } else {
            let copy = mbuf.copy_to(&pool).and_then(|mut copy| offload::complete(&mut copy).then_some(copy));
            copy.is_some_and(|copy| self.punt_bytes(reason, &copy, key))
        }
    }

    fn punt_bytes(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) -> bool {
        let Some(mut buffer) = self.link.buffers.pop() else { return false };
        buffer.in_port = PortId(key.in_port as u16);
        (buffer.reason, buffer.key) = (reason, *key);
        let refused = if buffer.set(mbuf.segments()) {
            match self.link.upcalls.push(Upcall::Punt(buffer)) {
                Err(Upcall::Punt(buffer)) => Some(buffer),
                _ => None,
            }
        } else {
            Some(buffer)
        };
        let is_taken = refused.is_none();
        if let Some(buffer) = refused {
            let _ = self.link.buffers.push(buffer);
        }
        is_taken
    }
}
