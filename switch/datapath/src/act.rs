//! Stage 4, **act**: the program of each packet's megaflow runs on it. At the end of a program the packet
//! is staged for a port, held, or freed under a reason; there is no fourth way.

use crate::adjacency::{Adjacency, Header, InnerIp, MAX_HELD, Reach};
use crate::counters::WorkerCounters;
use crate::hold::Held;
use crate::key::{PacketInfo, Wrapped, unwrap_each};
use crate::message::Upcall;
use crate::programs::{Compiled, Encap};
use crate::{BURST, Batch, Path};
use flow::drop::DropReason;
use flow::hash::{flow_hash, plain_flow_hash};
use flow::program::{AdjacencyId, Op, Policy, PortId, ProgramId, PuntReason};
use rte::burst::Drain;
use rte::{Burst, Mbuf};
use wire::ecn::{ECN_CE, ECN_MASK, set_ce};
use wire::encap::{ENCAP_V4_LEN, INNER_MAX_LEN};
use wire::key::FlowKey;
use wire::parse::{Anomaly, extract};
use wire::pattern::FramePattern;
use wire::plain::plain_words;
use wire::proto::{ETH_IPV4, ETH_IPV6, ETHERNET_LEN};

/// Consecutive packets of a batch that have one program. Their mbufs are the next ones of `mbufs`, which is
/// longer: it must be the last of what is zipped.
struct Run<'a, 'b> {
    mbufs: &'a mut Drain<'b>,
    keys: &'a [FlowKey],
    infos: &'a [PacketInfo],
}

/// Packets of a run from which on it is handled as a whole.
const FEW: usize = 4;

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    packets: u64,
    bytes: u64,
}

impl Sent {
    #[inline(always)]
    fn less(&mut self, bytes: u64) {
        self.packets -= 1;
        self.bytes -= bytes;
    }
}

/// What an encapsulation wants of an inner frame.
#[derive(Debug, Clone, Copy)]
struct Inner {
    flow_hash: u32,
    ip: InnerIp,
}

/// What an encapsulation wants of the frames of a run.
struct Inners {
    list: [Inner; BURST],
    /// Frames that have to be dropped, as bits.
    failed: u32,
    /// Why, each of those.
    reasons: [DropReason; BURST],
    /// All but those.
    sum: Sent,
    /// Bytes of the longest frame.
    longest: u32,
    /// None has to be dropped, and all have the headroom.
    is_plain: bool,
}

/// How much room some frames take, in bytes.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// All together.
    bytes: usize,
    /// The longest.
    longest: usize,
    /// The least that is free in front of one.
    headroom: usize,
}

impl Extent {
    const NONE: Extent = Extent { bytes: 0, longest: 0, headroom: usize::MAX };

    #[inline(always)]
    fn add(&mut self, mbuf: &Mbuf) {
        self.bytes += mbuf.data_len();
        self.longest = self.longest.max(mbuf.data_len());
        self.headroom = self.headroom.min(mbuf.headroom());
    }
}

impl Inners {
    const NONE: Inners = Inners {
        list: [Inner { flow_hash: 0, ip: InnerIp { is_ip: false, tos: 0, ttl: 0 } }; BURST],
        failed: 0,
        reasons: [DropReason::Headroom; BURST],
        sum: Sent { packets: 0, bytes: 0 },
        longest: 0,
        is_plain: true,
    };

    #[cold]
    fn fail(&mut self, at: usize, reason: DropReason) {
        self.failed |= 1 << at;
        self.reasons[at % BURST] = reason;
    }

    /// Says how long the frames are that did not fail, and whether all goes the short way.
    #[inline(always)]
    fn finish(&mut self, count: usize, extent: Extent) {
        let failed = self.failed.count_ones() as usize;
        self.sum = Sent { packets: (count - failed) as u64, bytes: extent.bytes as u64 };
        self.longest = extent.longest as u32;
        self.is_plain = failed == 0 && extent.headroom >= ENCAP_V4_LEN;
    }

    /// Reads frames of which there are no keys: as long as they are like the first, by its pattern, and from there on
    /// each by itself.
    #[inline(never)]
    fn read(&mut self, mbufs: &mut [Mbuf], counters: &WorkerCounters) {
        let count = mbufs.len();
        let mut extent = Extent::NONE;
        let mut alike = 0;
        if let Some(pattern) = mbufs.first().and_then(|mbuf| FramePattern::new(mbuf.data())) {
            for (mbuf, inner) in mbufs.iter().zip(&mut self.list) {
                let Some(words) = pattern.read(mbuf.data()).filter(|_| mbuf.segment_count() == 1) else {
                    break;
                };
                *inner = Inner { flow_hash: plain_flow_hash(&words), ip: InnerIp::plain(&words) };
                extent.add(mbuf);
                alike += 1;
            }
        }
        for (at, mbuf) in mbufs.iter_mut().enumerate().take(BURST).skip(alike) {
            if mbuf.segment_count() == 1
                && let Some(words) = plain_words(mbuf.data())
            {
                self.list[at] = Inner { flow_hash: plain_flow_hash(&words), ip: InnerIp::plain(&words) };
            } else {
                match unusual_inner(mbuf, counters) {
                    Ok(inner) => self.list[at] = inner,
                    Err(reason) => {
                        self.fail(at, reason);
                        continue;
                    }
                }
            }
            extent.add(mbuf);
        }
        self.finish(count, extent);
    }

    /// Takes it from the frames' keys, and their outer headers off.
    #[inline(never)]
    fn of_keys(&mut self, mbufs: &mut [Mbuf], keys: &[FlowKey], infos: &[PacketInfo]) {
        let count = mbufs.len();
        let mut extent = Extent::NONE;
        for (at, ((mbuf, key), info)) in mbufs.iter_mut().zip(keys).zip(infos).enumerate().take(BURST) {
            if let Err(reason) = strip_if_tunnelled(mbuf, key, info) {
                self.fail(at, reason);
                continue;
            }
            self.list[at] = Inner { flow_hash: flow_hash(key), ip: InnerIp::of(key) };
            extent.add(mbuf);
        }
        self.finish(count, extent);
    }
}

/// Writes outer headers in front of frames that have the room.
#[inline(never)]
fn write_headers(header: &Header, of: Option<(&Adjacency, u32)>, mbufs: &mut [Mbuf], inners: &Inners) {
    for (mbuf, inner) in mbufs.iter_mut().zip(&inners.list) {
        let inner_len = mbuf.data_len() as u16;
        if let Some(room) = mbuf.prepend_array() {
            header.write(room, inner_len, inner.flow_hash, inner.ip, || of);
        }
    }
}

/// The longest and the sum of the lengths of some frames.
#[inline(always)]
pub(super) fn longest_and_sum(lens: &[u32]) -> (u32, u64) {
    lens.iter().fold((0, 0), |(longest, sum), len| (longest.max(*len), sum + u64::from(*len)))
}

/// Why a packet of this length has no room for the outer headers.
#[cold]
fn no_room(inner_len: usize) -> DropReason {
    if inner_len > usize::from(INNER_MAX_LEN) { DropReason::MtuExceeded } else { DropReason::Headroom }
}

/// What an encapsulation wants of any frame but an ordinary one: its flow's hash, and its IP header's TOS and TTL.
#[cold]
#[inline(never)]
fn unusual_inner(mbuf: &mut Mbuf, counters: &WorkerCounters) -> Result<Inner, DropReason> {
    mbuf.linearize().map_err(|_| DropReason::Segments)?;
    let mut key = FlowKey::ZERO;
    match extract(mbuf.data(), &mut key) {
        Ok(parsed) => {
            if let Some(anomaly) = parsed.anomaly {
                counters.anomaly(anomaly);
            }
            Ok(Inner { flow_hash: flow_hash(&key), ip: InnerIp::of(&key) })
        }
        Err(truncated) => {
            counters.anomaly(Anomaly::from(truncated));
            Err(DropReason::EthernetTruncated)
        }
    }
}

impl Path {
    /// Runs the programs of a batch whose packets all have a megaflow, by runs of packets of one program.
    #[inline]
    pub(super) fn act(&mut self, batch: &mut Batch) {
        let count = batch.mbufs.len();
        let (hits, lens) = (&batch.hits[..count], &batch.lens[..count]);
        self.lookup.table.take_burst(hits, lens, &mut batch.programs[..count]);
        let (programs, keys, infos) = (&batch.programs[..count], &batch.keys[..count], &batch.infos[..count]);
        self.prefetch_ways(programs);
        let mut mbufs = batch.mbufs.drain();
        let mut at = 0;
        while at < count {
            let program = programs[at];
            let mut end = at + 1;
            while end < count && programs[end] == program {
                end += 1;
            }
            let run = Run { mbufs: mbufs.by_ref(), keys: &keys[at..end], infos: &infos[at..end] };
            match self.programs.get(program) {
                Some(&Compiled::Output(port)) => self.output_run(port, run),
                Some(&Compiled::Encap(encap)) => self.encap_run(program, encap, run),
                _ => {
                    for ((key, info), mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
                        self.run(ProgramId(program), mbuf, key, info);
                    }
                }
            }
            at = end;
        }
    }

    /// A burst whose packets all go by one megaflow with a shortcut: no key is made for them.
    #[inline(always)]
    pub(super) fn forward_all(&mut self, mbufs: &mut Burst<BURST>, bytes: u64, slot: u32, in_port: PortId) {
        let program = self.lookup.table.program(slot);
        let count = mbufs.len();
        let mut taken = Sent { packets: count as u64, bytes };
        let mut mbufs = mbufs.drain();
        match self.programs.get(program) {
            Some(&Compiled::Output(port)) => {
                let mut out = self.tx.to(port, &self.counters);
                let lens = mbufs.rest_mut().iter().map(Mbuf::len);
                let (shortest, longest) = lens
                    .fold((u32::MAX, 0), |(shortest, longest), len| (shortest.min(len), longest.max(len)));
                if shortest as usize >= ETHERNET_LEN && out.has_room(count, longest) {
                    out.stage_next(&mut mbufs, count, bytes);
                } else {
                    for mbuf in mbufs {
                        let len = mbuf.len();
                        if len as usize >= ETHERNET_LEN {
                            let _ = out.stage(mbuf);
                        } else {
                            taken.less(len.into());
                            self.counters.count_drop(in_port, DropReason::EthernetTruncated, 1);
                        }
                    }
                }
            }
            Some(&Compiled::Encap(encap)) => {
                let mut inners = Inners::NONE;
                inners.read(mbufs.rest_mut(), &self.counters);
                taken = inners.sum;
                self.encap_next((program, encap), &mut mbufs, count, &inners, |_| in_port);
            }
            _ => {}
        }
        self.lookup.table.account(slot, taken.packets, taken.bytes);
        self.counters.megaflow_hits.add(taken.packets);
        self.counters.keyless.add(taken.packets);
    }

    /// [`Path::forward_all`] for a burst out of one tunnel, whose outer headers have been read.
    #[inline(always)]
    pub(super) fn unwrap_all(&mut self, batch: &mut Batch, slot: u32, in_port: PortId, wrapped: Wrapped) {
        let count = batch.mbufs.len();
        self.counters.port(in_port).rx.add(count as u64, wrapped.bytes);
        self.counters.megaflow_hits.add(count as u64);
        self.counters.keyless.add(count as u64);
        self.lookup.table.account(slot, count as u64, wrapped.bytes);
        let mut mbufs = batch.mbufs.drain();
        unwrap_each(mbufs.rest_mut(), &batch.unkeyed);
        let program = self.lookup.table.program(slot);
        match self.programs.get(program) {
            Some(&Compiled::Output(port)) => {
                self.output_next(port, &mut mbufs, count, wrapped.longest, wrapped.bytes);
            }
            Some(&Compiled::Encap(encap)) => {
                let mut inners = Inners::NONE;
                inners.read(mbufs.rest_mut(), &self.counters);
                self.encap_next((program, encap), &mut mbufs, count, &inners, |_| in_port);
            }
            _ => {}
        }
    }

    /// A batch of tunnel packets with shortcuts: their outer headers go, and their keys are not made.
    #[inline(always)]
    pub(super) fn act_unkeyed(&mut self, batch: &mut Batch) {
        let count = batch.mbufs.len();
        let (hits, lens) = (&batch.hits[..count], &batch.lens[..count]);
        let (programs, unkeyed) = (&mut batch.programs[..count], &batch.unkeyed[..count]);
        self.counters.megaflow_hits.add(count as u64);
        self.counters.keyless.add(count as u64);
        let accounts = self.lookup.table.accounts();
        for (((packet, slot), len), program) in unkeyed.iter().zip(hits).zip(lens).zip(&mut *programs) {
            *program = accounts.add(*slot, 1, u64::from(*len));
            self.counters.port(packet.in_port).rx.add(1, u64::from(*len));
        }
        self.prefetch_ways(programs);
        let mut mbufs = batch.mbufs.drain();
        unwrap_each(mbufs.rest_mut(), unkeyed);
        let mut at = 0;
        while at < count {
            let program = programs[at];
            let end = at + programs[at..].iter().take_while(|p| **p == program).count();
            match self.programs.get(program) {
                Some(&Compiled::Output(port)) => {
                    let (longest, bytes) = longest_and_sum(&lens[at..end]);
                    self.output_next(port, &mut mbufs, end - at, longest, bytes);
                }
                Some(&Compiled::Encap(encap)) => {
                    let mut inners = Inners::NONE;
                    inners.read(&mut mbufs.rest_mut()[..end - at], &self.counters);
                    let in_port = |packet: usize| unkeyed[at + packet].in_port;
                    self.encap_next((program, encap), &mut mbufs, end - at, &inners, in_port);
                }
                _ => {}
            }
            at = end;
        }
    }

    /// Sends the next `count` of `mbufs`, of which the longest is given and the sum in bytes, as they are.
    #[inline(always)]
    pub(super) fn output_next(
        &mut self,
        port: PortId,
        mbufs: &mut Drain<'_>,
        count: usize,
        longest: u32,
        bytes: u64,
    ) {
        let mut out = self.tx.to(port, &self.counters);
        if count >= FEW && out.has_room(count, longest) {
            out.stage_next(mbufs, count, bytes);
        } else {
            for mbuf in mbufs.take(count) {
                let _ = out.stage(mbuf);
            }
        }
    }

    /// Encapsulates the next `count` of `mbufs` with a header that is ready.
    #[inline(always)]
    fn encap_next(
        &mut self,
        (program, encap): (u32, Encap),
        mbufs: &mut Drain<'_>,
        count: usize,
        inners: &Inners,
        in_port: impl Fn(usize) -> PortId,
    ) {
        // Whoever chose this way has seen it there.
        let Some(header) = self.programs.made(program) else { return };
        let of = self.adjacencies.get(encap.adjacency).map(|adjacency| (adjacency, encap.vni));
        let mut out = self.tx.to(header.egress, &self.counters);
        let counters = self.counters.port(header.tunnel);
        let mut sent = inners.sum;
        if inners.is_plain && out.has_room(count, inners.longest + ENCAP_V4_LEN as u32) {
            write_headers(header, of, &mut mbufs.rest_mut()[..count], inners);
            out.stage_next(mbufs, count, sent.bytes + count as u64 * ENCAP_V4_LEN as u64);
        } else {
            for (at, mut mbuf) in mbufs.take(count).enumerate() {
                if inners.failed & 1 << at != 0 {
                    self.counters.count_drop(in_port(at), inners.reasons[at % BURST], 1);
                    continue;
                }
                let inner_len = mbuf.data_len();
                let inner = inners.list[at % BURST];
                let staged = if let Some(room) = mbuf.prepend_array() {
                    header.write(room, inner_len as u16, inner.flow_hash, inner.ip, || of);
                    let staged = out.stage(mbuf);
                    counters.tx_dropped.add(u64::from(!staged));
                    staged
                } else {
                    self.counters.count_drop(in_port(at), no_room(inner_len), 1);
                    false
                };
                if !staged {
                    sent.less(inner_len as u64);
                }
            }
        }
        counters.tx.add(sent.packets, sent.bytes);
    }

    /// Asks for what the programs of a burst will read, when they are several.
    #[inline(always)]
    fn prefetch_ways(&self, programs: &[u32]) {
        let first = programs.first().copied().unwrap_or(0);
        if programs.iter().fold(0, |different, program| different | program ^ first) == 0 {
            return;
        }
        for program in programs {
            self.programs.prefetch(*program);
        }
    }

    /// Packets that all go out of one port as they are.
    #[inline(always)]
    fn output_run(&mut self, port: PortId, run: Run<'_, '_>) {
        let mut out = self.tx.to(port, &self.counters);
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
                self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
                continue;
            }
            let _ = out.stage(mbuf);
        }
    }

    /// Packets that all get one tunnel header, where that can be written in one go.
    #[inline(always)]
    fn encap_run(&mut self, program: u32, encap: Encap, run: Run<'_, '_>) {
        if self.programs.header(program, &self.adjacencies).is_none() {
            return self.encap_each(encap, run);
        }
        let (count, keys) = (run.keys.len(), run.keys);
        if count < FEW {
            return self.encap_few(program, encap, run);
        }
        let mut inners = Inners::NONE;
        inners.of_keys(&mut run.mbufs.rest_mut()[..count], keys, run.infos);
        self.encap_next((program, encap), run.mbufs, count, &inners, |at| PortId(keys[at].in_port as u16));
    }

    /// The same for so few packets that preparing for many costs more than it saves: many remotes in turn.
    #[inline(always)]
    fn encap_few(&mut self, program: u32, encap: Encap, run: Run<'_, '_>) {
        let Some(header) = self.programs.made(program) else { return };
        let of = self.adjacencies.get(encap.adjacency).map(|adjacency| (adjacency, encap.vni));
        let mut out = self.tx.to(header.egress, &self.counters);
        let counters = self.counters.port(header.tunnel);
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
                self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
                continue;
            }
            let inner_len = mbuf.data_len();
            let Some(room) = mbuf.prepend_array() else {
                self.counters.count_drop(PortId(key.in_port as u16), no_room(inner_len), 1);
                continue;
            };
            header.write(room, inner_len as u16, flow_hash(key), InnerIp::of(key), || of);
            if out.stage(mbuf) {
                counters.tx.add(1, inner_len as u64);
            } else {
                counters.tx_dropped.add(1);
            }
        }
    }

    /// The same packet by packet: the remote cannot be reached yet, or the header is an unusual one.
    #[inline(never)]
    fn encap_each(&mut self, Encap { adjacency, vni }: Encap, run: Run<'_, '_>) {
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            match strip_if_tunnelled(&mut mbuf, key, info) {
                Ok(()) => self.encap(adjacency, vni, Policy::default(), mbuf, key, info),
                Err(reason) => self.free(key, reason, mbuf),
            }
        }
    }

    /// Runs one packet's program.
    #[inline(always)]
    pub(super) fn run(&mut self, program: ProgramId, mut mbuf: Mbuf, key: &FlowKey, info: &PacketInfo) {
        let Some(compiled) = self.programs.get(program.0) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        if let Compiled::Drop(reason) = *compiled {
            return self.free(key, reason, mbuf);
        }
        if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
            return self.free(key, reason, mbuf);
        }
        match *compiled {
            Compiled::Output(port) => {
                let _ = self.tx.stage(port, mbuf, &self.counters);
            }
            Compiled::Encap(Encap { adjacency, vni }) => {
                self.encap(adjacency, vni, Policy::default(), mbuf, key, info);
            }
            Compiled::Drop(_) => {}
            Compiled::Ops(_) => self.run_ops(program, mbuf, key, info),
        }
    }

    /// Copies the packet's bytes to the slow path.
    pub(super) fn punt(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) {
        if let Some(mut buffer) = self.link.buffers.pop() {
            buffer.in_port = PortId(key.in_port as u16);
            buffer.reason = reason;
            if !buffer.set(mbuf.data()) {
                let _ = self.link.buffers.push(buffer);
                self.counters.punts_lost.add(1);
            } else if let Err(Upcall::Punt(buffer)) = self.link.upcalls.push(Upcall::Punt(buffer)) {
                let _ = self.link.buffers.push(buffer);
                self.counters.punts_lost.add(1);
            }
        } else {
            self.counters.punts_lost.add(1);
        }
    }

    /// Puts the outer headers in front of the packet and stages it, or holds it for the next hop.
    #[inline(always)]
    pub(super) fn encap(
        &mut self,
        id: AdjacencyId,
        vni: u32,
        policy: Policy,
        mut mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let Some(adjacency) = self.adjacencies.get(id) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        let Reach::Ready { template, fixed, egress } = &adjacency.reach else {
            return self.cannot_encap(id, (vni, policy), mbuf, key, info);
        };
        let inner_len = mbuf.data_len();
        if inner_len > usize::from(INNER_MAX_LEN) {
            return self.free(key, DropReason::MtuExceeded, mbuf);
        }
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut patch = adjacency.patch(key, flow_hash(key), vni, self.ip_id);
        (patch.gbp_id, patch.gbp_flags) = (policy.id, policy.flags);
        let written = match fixed {
            Some(fixed) => mbuf
                .prepend(ENCAP_V4_LEN)
                .and_then(|room| room.first_chunk_mut())
                .map(|room| fixed.write(room, inner_len as u16, &patch))
                .is_some(),
            None => mbuf
                .prepend(template.header_len())
                .is_some_and(|room| template.write(room, inner_len, &patch).is_ok()),
        };
        if !written || template.wants_udp_checksum() && template.fill_udp_checksum(mbuf.data_mut()).is_err() {
            return self.free(key, DropReason::Headroom, mbuf);
        }
        let tunnel = adjacency.tunnel;
        let sent = if let [Op::Output(port)] = **egress {
            self.tx.stage(port, mbuf, &self.counters)
        } else {
            self.underlay_ops(id, mbuf, key);
            true
        };
        let counters = self.counters.port(tunnel);
        if sent {
            counters.tx.add(1, inner_len as u64);
        } else {
            counters.tx_dropped.add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn cannot_encap(
        &mut self,
        id: AdjacencyId,
        (vni, policy): (u32, Policy),
        mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let Some(adjacency) = self.adjacencies.get_mut(id) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        if let Reach::Unreachable(reason) = adjacency.reach {
            return self.free(key, reason, mbuf);
        }
        if !adjacency.asked {
            // When the queue is full, the next packet asks again.
            adjacency.asked = self.link.upcalls.push(Upcall::Neighbour(id)).is_ok();
        }
        if !adjacency.asked && adjacency.held.is_empty() {
            // Nobody would ever come for it.
            return self.free(key, DropReason::UpcallQueueFull, mbuf);
        }
        if adjacency.held.len() >= MAX_HELD {
            return self.free(key, DropReason::NeighbourPending, mbuf);
        }
        let info = PacketInfo { strip: 0, ..*info };
        match self.cells.push(&mut adjacency.held, Held { mbuf, key: *key, info, vni, policy }) {
            Ok(()) => self.counters.held.add(1),
            Err(held) => self.free(key, DropReason::HoldFull, held.mbuf),
        }
    }

    /// Frees a packet and counts why.
    #[inline(never)]
    pub(super) fn free(&self, key: &FlowKey, reason: DropReason, mbuf: Mbuf) {
        self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
        drop(mbuf);
    }
}

#[inline(always)]
fn strip_if_tunnelled(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) -> Result<(), DropReason> {
    if info.strip == 0 { Ok(()) } else { strip(mbuf, key, info) }
}

/// Takes the outer headers off and carries their ECN over (RFC 6040).
#[inline(always)]
fn strip(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) -> Result<(), DropReason> {
    if !mbuf.adj(usize::from(info.strip)) {
        return Err(DropReason::VxlanInnerTruncated);
    }
    if info.outer_tos & ECN_MASK == ECN_CE {
        congested(mbuf, key, info);
    }
    Ok(())
}

#[cold]
fn congested(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) {
    // The key has the mark already, where the inner packet could take it: see the key stage.
    let dl_type = key.dl_type.get();
    if (dl_type == ETH_IPV4 || dl_type == ETH_IPV6) && key.nw_tos & ECN_MASK == ECN_CE {
        set_ce(mbuf.data_mut(), usize::from(info.l3));
    }
}
