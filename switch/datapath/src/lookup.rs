//! Stage 3, **lookup**: flow cache, then megaflow table. What nothing matches is held, in order, and asked for.

use crate::hold::{Held, over_share};
use crate::key::PacketInfo;
use crate::message::{PendingId, Upcall};
use crate::{Batch, Path};
use flow::drop::DropReason;
use flow::hash::cache_hash;
use flow::megaflow::MISS;
use flow::program::Policy;
use rte::{Burst, Mbuf};
use wire::key::FlowKey;

/// Packets of one flow that may wait for its decision.
const MAX_HELD_PER_FLOW: usize = 1024;

/// What the pending table knows a flow by: its identity and where it came from. Fields that differ within
/// a flow (TTL, TCP flags) are left out, so that its packets stay behind each other.
#[inline]
fn pending_hash(key: &FlowKey) -> u32 {
    cache_hash(key) as u32
}

impl Path {
    /// Finds the megaflow of each packet of the batch. Afterwards all packets in the batch have one.
    #[inline]
    pub(super) fn lookup(&mut self, batch: &mut Batch) {
        let count = batch.mbufs.len();
        let before = self.lookup.stats();
        let (keys, hits) = (&batch.keys[..count], &mut batch.hits[..count]);
        match batch.in_port {
            Some(port) => self.lookup.classify_port(keys, port.0.into(), hits),
            None => self.lookup.classify(keys, hits),
        }
        let after = self.lookup.stats();
        self.counters.cache_hits.add(after.cache_hits - before.cache_hits);
        self.counters.megaflow_hits.add(after.megaflow_hits - before.megaflow_hits);
        let misses = after.misses - before.misses;
        let held =
            !self.pending.is_empty() && batch.in_port.is_none_or(|port| self.pending.holds(port.0.into()));
        if misses > 0 || held {
            self.counters.misses.add(misses);
            self.hold_back(batch);
        }
    }

    /// Takes out of the batch what has no megaflow, and what has one but must stay behind held packets of
    /// its own flow.
    #[cold]
    #[inline(never)]
    fn hold_back(&mut self, batch: &mut Batch) {
        let mut kept = Burst::new();
        for (at, mbuf) in batch.mbufs.drain().enumerate() {
            let hash = pending_hash(&batch.keys[at]);
            let waiting = self.pending.find(hash);
            if waiting.is_some() || batch.hits[at] == MISS {
                self.hold(mbuf, batch.keys[at], batch.infos[at], hash, waiting);
                continue;
            }
            let to = kept.len();
            batch.keys[to] = batch.keys[at];
            batch.infos[to] = batch.infos[at];
            batch.lens[to] = batch.lens[at];
            batch.hits[to] = batch.hits[at];
            // Cannot fail: as long as the burst that it came from.
            let _ = kept.push(mbuf);
        }
        batch.mbufs = kept;
    }

    fn hold(&mut self, mbuf: Mbuf, key: FlowKey, info: PacketInfo, hash: u32, waiting: Option<PendingId>) {
        // From now on packets of this port have to look for what waits.
        self.epoch += 1;
        let id = match waiting {
            Some(id) => {
                self.pending.join(id, key.in_port);
                id
            }
            None => match self.ask(hash, &key) {
                Ok(id) => id,
                Err(reason) => return self.free(&key, reason, mbuf),
            },
        };
        let list = self.pending.list(id);
        if list.len() >= MAX_HELD_PER_FLOW {
            return self.free(&key, DropReason::HoldFull, mbuf);
        }
        match self.cells.push_new(list, Held { mbuf, key, info, vni: 0, policy: Policy::default() }) {
            Ok(()) => self.counters.held.add(1),
            Err(held) => self.free(&key, DropReason::HoldFull, held.mbuf),
        }
    }

    /// Starts an upcall for a flow that has none under way.
    fn ask(&mut self, hash: u32, key: &FlowKey) -> Result<PendingId, DropReason> {
        // In the order of arrival, because upcalls teach where addresses are; so a port that floods has to leave room.
        let upcalls = &self.link.upcalls;
        if over_share(self.pending.of_port(key.in_port), upcalls.capacity() - upcalls.len()) {
            return Err(DropReason::UpcallQueueFull);
        }
        let pending = self.pending.insert(hash, key.in_port).ok_or(DropReason::HoldFull)?;
        if self.link.upcalls.push(Upcall::Miss { pending, key: *key }).is_err() {
            self.pending.remove(pending);
            return Err(DropReason::UpcallQueueFull);
        }
        self.counters.upcalls.add(1);
        Ok(pending)
    }

    /// The slow path has decided: the flow's packets go, in order. A packet behind the first that still
    /// matches nothing (same flow hash, other fields) starts an upcall of its own, and those behind it wait on.
    pub(super) fn release(&mut self, pending: PendingId) {
        let mut list = std::mem::replace(self.pending.list(pending), super::hold::List::EMPTY);
        while let Some(front) = self.cells.front(&list) {
            let key = front.key;
            let Some(slot) = self.lookup.table.lookup(&key) else {
                if self.link.upcalls.push(Upcall::Miss { pending, key }).is_ok() {
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
                let program = flow::program::ProgramId(self.lookup.table.program(slot));
                self.run(program, held.mbuf, &held.key, &held.info);
            }
        }
        self.pending.remove(pending);
    }

    /// Counts one held packet less.
    pub(super) fn unhold(&self) {
        self.counters.held.add(1u64.wrapping_neg());
    }
}
