//! Stage 3, **lookup**: a megaflow for each packet. What nothing matches is held, in order, and asked for.

use crate::BURST;
use crate::batch::{Batch, BatchMeta, PacketInfo, PacketMask, mask_of_first, packets_of};
use crate::hold::{Held, over_share};
use crate::message::{PendingId, Upcall};
use crate::parse::inner;
use crate::pipeline::Pipeline;
use flow::drop::DropReason;
use flow::hash::HotOrigin;
use flow::megaflow::MISS;
use flow::program::{PortId, TunnelMetadata};
use rte::Mbuf;
use wire::key::FlowKey;

/// Packets of one flow that may wait for its decision.
const MAX_HELD_PER_FLOW: usize = 1024;
/// Packets of an in-port without megaflows that wait for its first decision; later ones stay in the device's ring.
const WAIT_FOR_FIRST: u32 = 4 * BURST as u32;

impl Pipeline {
    /// Finds the megaflow of each packet of the batch and reads the frames as far as that takes it. Afterwards all packets
    /// in the batch have a megaflow.
    ///
    /// The in-port alone may say it. Else hot keys are looked up, and packets without one, or which are not found by it,
    /// are holes in the burst: these are looked up by their whole keys.
    #[inline]
    pub(crate) fn lookup(&mut self, batch: &mut Batch) {
        let count = batch.mbufs.len();
        let missed = match batch.meta.in_port.map(|port| (port, self.match_all(port))) {
            Some((_, Some(slot))) => {
                self.one_hit(slot, count, &mut batch.meta);
                0
            }
            Some((port, None)) => self.lookup_frames(batch, port),
            None => self.lookup_mixed(batch),
        };
        if missed != 0 || !self.pending.is_empty() && self.any_waits(batch) {
            self.hold_back(batch);
        }
    }

    #[inline(always)]
    fn match_all(&self, port: PortId) -> Option<u32> {
        if self.fast_paths { self.lookup.table.match_all(port.0.into()) } else { None }
    }

    /// All packets go by the megaflow in `slot`.
    #[inline(always)]
    fn one_hit(&mut self, slot: u32, count: usize, meta: &mut BatchMeta) {
        let program = self.lookup.table.program(slot);
        meta.hits[..count].fill(slot);
        meta.programs[..count].fill(program);
        meta.one_hit = true;
        self.counters.megaflow_hits.add(count as u64);
        self.counters.no_key_hits.add(count as u64);
    }

    /// Looks up packets that are mostly from `port`, whose megaflows look at the frames. Gives those without a megaflow.
    #[inline]
    fn lookup_frames(&mut self, batch: &mut Batch, port: PortId) -> PacketMask {
        self.read_frames(batch);
        let count = batch.mbufs.len();
        let all = mask_of_first(count);
        let before = self.lookup.stats();
        let Batch { mbufs, meta } = batch;
        let mut holes = all;
        if self.fast_paths
            && let Some(origin) = self.hot_origin(port, meta)
        {
            let mut ordinary = all & !meta.keyed;
            if meta.in_port.is_none() {
                let of_port = |at: &usize| meta.in_ports[*at] == port;
                ordinary &= packets_of(all).filter(of_port).fold(0, |set, at| set | 1 << at);
            }
            let (hot, hits) = (&meta.hot[..count], &mut meta.hits[..count]);
            holes = self.lookup.classify_hot(hot, ordinary, origin, hits, &mut meta.programs[..count]);
        }
        let mut missed = 0;
        if holes != 0 {
            missed = self.lookup_holes(mbufs, holes, meta);
        }
        let after = self.lookup.stats();
        self.counters.cache_hits.add(after.cache_hits - before.cache_hits);
        self.counters.megaflow_hits.add(after.megaflow_hits - before.megaflow_hits);
        self.counters.no_key_hits.add((count - holes.count_ones() as usize) as u64);
        missed
    }

    /// Where ordinary frames of `port` come from; `None` where a lookup by hot keys finds nothing, or frames of several
    /// tunnels would need several answers.
    #[inline(always)]
    fn hot_origin(&self, port: PortId, meta: &BatchMeta) -> Option<HotOrigin> {
        let in_port = u32::from(port.0);
        match (meta.tunnel, meta.encapsulated) {
            (Some(tunnel), _) => {
                Some(HotOrigin { in_port, tun_id: tunnel.vni(), addresses: tunnel.addresses })
            }
            (None, false) => Some(HotOrigin { in_port, tun_id: 0, addresses: 0 }),
            // One or two masks that look at nothing but hot keys: the origin does not matter.
            (None, true) => {
                self.lookup.table.is_hot(in_port).then_some(HotOrigin { in_port, tun_id: 0, addresses: 0 })
            }
        }
    }

    /// Looks up some packets by their whole keys, and gives those without a megaflow.
    #[inline(never)]
    fn lookup_holes(&mut self, mbufs: &[Mbuf], holes: PacketMask, meta: &mut BatchMeta) -> PacketMask {
        inner::make_keys(mbufs, holes, meta, &self.counters);
        let missed = self.lookup.classify_some(&meta.keys, holes, &mut meta.hits);
        for at in packets_of(holes & !missed) {
            meta.programs[at] = self.lookup.table.program(meta.hits[at]);
        }
        self.counters.misses.add(missed.count_ones().into());
        missed
    }

    /// Packets from several ports, mostly out of tunnels: some may have a port whose traffic is all one megaflow.
    fn lookup_mixed(&mut self, batch: &mut Batch) -> PacketMask {
        let count = batch.mbufs.len();
        let BatchMeta { in_ports, hits, programs, .. } = &mut batch.meta;
        let looked_at = if self.fast_paths {
            let in_ports = in_ports[..count].iter().map(|port| port.0.into());
            self.lookup.table.match_all_burst(in_ports, &mut hits[..count], &mut programs[..count])
        } else {
            mask_of_first(count)
        };
        if looked_at != 0 {
            // Each by its own port's megaflows; the first port of a burst is mostly that of all.
            let port = batch.meta.in_ports[0];
            return self.lookup_frames(batch, port);
        }
        self.counters.megaflow_hits.add(count as u64);
        self.counters.no_key_hits.add(count as u64);
        0
    }

    /// Reads the frames of the batch. Those that cannot be read are freed; they are counted already.
    #[inline(always)]
    fn read_frames(&mut self, batch: &mut Batch) {
        let Batch { mbufs, meta } = batch;
        let failed = inner::read(mbufs, 0..mbufs.len(), meta, &self.counters);
        meta.read = true;
        if failed != 0 {
            batch.drop_packets(failed);
        }
    }

    /// Whether a packet of the batch may have to stay behind others of its flow.
    #[cold]
    fn any_waits(&self, batch: &Batch) -> bool {
        match batch.meta.in_port {
            Some(port) => self.pending.holds(port.0.into()),
            None => (0..batch.mbufs.len()).any(|at| self.pending.holds(batch.meta.in_port(at).0.into())),
        }
    }

    /// Takes out of the batch what has no megaflow, and what has one but must stay behind held packets of its own flow.
    #[cold]
    #[inline(never)]
    fn hold_back(&mut self, batch: &mut Batch) {
        if !batch.meta.read {
            self.read_frames(batch);
        }
        let all = mask_of_first(batch.mbufs.len());
        inner::make_keys(&batch.mbufs, all, &mut batch.meta, &self.counters);
        batch.retain(|at, mut mbuf, meta| {
            let hash = self.pending_hash(&meta.keys[at]);
            let waiting = self.pending.find(hash);
            if waiting.is_none() && meta.hits[at] != MISS {
                return Some(mbuf);
            }
            // What waits keeps nothing behind the frame that its key describes.
            let trailing = meta.outer(at).trailing;
            if trailing > 0 && !mbuf.trim(trailing.into()) {
                self.free(&meta.keys[at], DropReason::TunnelInnerTruncated, mbuf);
            } else {
                self.hold(mbuf, meta.keys[at], meta.infos[at], hash, waiting);
            }
            None
        });
    }

    /// What the pending table knows a flow by: its identity and where it came from. Fields that differ within
    /// a flow (TTL, TCP flags) are left out, so that its packets stay behind each other.
    #[inline]
    fn pending_hash(&self, key: &FlowKey) -> u32 {
        self.lookup.cache.hash(key) as u32
    }

    /// Whether enough packets of an in-port without megaflows wait for its first decision. More would be lost when the cells
    /// are full, and the fewer flows were asked for, the sooner all are answered.
    pub(crate) fn waits_for_first(&self, in_port: PortId) -> bool {
        let in_port = u32::from(in_port.0);
        self.cells.of_port(in_port) >= WAIT_FOR_FIRST && self.lookup.table.masks(in_port) == 0
    }

    fn hold(&mut self, mbuf: Mbuf, key: FlowKey, info: PacketInfo, hash: u32, waiting: Option<PendingId>) {
        self.last_held = Some(PortId(key.in_port as u16));
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
        match self.cells.push_new(list, Held { mbuf, key, info, vni: 0, metadata: TunnelMetadata::default() })
        {
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
        let asked = rte::cycles();
        let pending = self.pending.insert(hash, key.in_port, asked).ok_or(DropReason::HoldFull)?;
        if self.link.upcalls.push(Upcall::Miss { pending, key: *key, asked }).is_err() {
            self.pending.remove(pending);
            return Err(DropReason::UpcallQueueFull);
        }
        self.counters.upcalls.add(1);
        Ok(pending)
    }
}
