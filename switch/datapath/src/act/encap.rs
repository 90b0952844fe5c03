//! Runs of packets that are encapsulated.
//!
//! Packets whose programs have a cached header that leaves by one port are one run, whatever their remotes: with hundreds
//! of VTEPs each packet has another one. Ordinary packets get theirs in one pass; an unusual one, or one whose TOS or TTL
//! goes into the outer header, by itself; and where no header is cached, because the next hop is not known or the header is
//! of an unusual kind, the template writes it.

use crate::BURST;
use crate::adjacency::CachedHeader;
use crate::batch::{BatchMeta, InnerIp, PacketMask, mask_of_first};
use crate::parse::inner;
use crate::pipeline::Pipeline;
use crate::programs::{Compiled, Encap, OnePort};
use flow::drop::DropReason;
use flow::hash::FlowHasher;
use flow::program::{PortId, TunnelMetadata};
use rte::Mbuf;
use rte::burst::Drain;
use std::ops::Range;
use wire::ecn::ECN_MASK;
use wire::hot::{HotKey, hot_tos};
use wire::tunnel::encap::{ENCAP_V4_LEN, INNER_MAX_LEN};

impl Pipeline {
    /// The packets of `range` have the program `program`; those behind it may belong to the run, too. Says where the next
    /// run begins.
    #[inline(never)]
    pub(super) fn encap_run(
        &mut self,
        (program, encap): (u32, Encap),
        mbufs: &mut Drain<'_>,
        range: Range<usize>,
        meta: &mut BatchMeta,
    ) -> usize {
        if !self.fast_paths || meta.has_offloads || self.programs.header(program, &self.adjacencies).is_none()
        {
            return self.encap_each(encap, mbufs.front(range.len()), range, meta);
        }
        let Some(header) = self.programs.cached_header(program) else { return range.start };
        let mut headers = [header; BURST];
        let all = mbufs.len();
        let mut run =
            OnePort { count: range.len(), marks: header.version() & CachedHeader::MARKS, one_tunnel: true };
        if run.count < all {
            let programs = &meta.programs[range.start..range.start + all];
            run = self.programs.cached_header_for_one_port(header, programs, &mut headers);
        }
        let OnePort { count, marks, one_tunnel } = run;
        let range = range.start..range.start + count;
        let (egress, tunnel) = (header.egress(), header.tunnel());
        let mut mbufs = mbufs.front(count);
        let failed = prepare(mbufs.rest_mut(), range.clone(), meta, &self.counters);
        let whole_keys = meta.keyed & mask_of_first(count) << range.start;
        let has_ecn = hot_tos(&[0, 0, 0, meta.hot_bits]) & ECN_MASK;
        let longest = meta.longest(range.clone());
        let whole = range.start == 0 && count == all;
        let mut written = 0;
        let mut out = self.tx.to(egress, &self.counters);
        if marks | u32::from(has_ecn) | whole_keys | failed == 0
            && out.make_room(count, longest + ENCAP_V4_LEN as u32, meta.linear)
        {
            let hot = &meta.hot[range.clone()];
            let counters = &self.counters;
            let hasher = &self.hasher;
            written = if one_tunnel {
                write_ready(hasher, mbufs.rest_mut(), &headers, hot, |_, _| {})
            } else {
                let count_each = |tunnel, len| counters.port(tunnel).tx.add(1, u64::from(len));
                write_ready(hasher, mbufs.rest_mut(), &headers, hot, count_each)
            };
            let bytes = meta.bytes(range.start..range.start + written, whole && written == count);
            if one_tunnel {
                counters.port(tunnel).tx.add(written as u64, bytes);
            }
            out.stage_next(&mut mbufs, written, bytes + (written * ENCAP_V4_LEN) as u64);
        }
        if written < count {
            self.encap_unusual(&mut mbufs, range.start + written..range.end, meta, failed);
        }
        self.end_run(&mbufs, range, meta)
    }

    /// Packets one by one, each with its program's cached header.
    #[inline(never)]
    fn encap_unusual(
        &mut self,
        mbufs: &mut Drain<'_>,
        range: Range<usize>,
        meta: &BatchMeta,
        failed: PacketMask,
    ) {
        for (at, mut mbuf) in range.zip(mbufs) {
            if failed & 1 << at != 0 {
                // Counted where it failed.
                continue;
            }
            let in_port = meta.in_port(at);
            let program = meta.programs[at];
            let (Some(header), Some(&Compiled::Encap(encap))) =
                (self.programs.cached_header(program), self.programs.get(program))
            else {
                self.counters.free(in_port, DropReason::Internal, mbuf);
                continue;
            };
            let (flow_hash, ip) = if meta.keyed & 1 << at != 0 {
                (self.hasher.flow_hash(&meta.keys[at]), InnerIp::of(&meta.keys[at]))
            } else {
                (self.hasher.hot_flow_hash(&meta.hot[at]), InnerIp::of_hot(&meta.hot[at]))
            };
            let inner_len = mbuf.len();
            if inner_len + header.len() as u32 > self.tx.longest(header.egress())
                && self.exceeds(encap.adjacency, &mbuf)
            {
                self.too_big((encap.adjacency, encap.vni, 0), mbuf, in_port);
                continue;
            }
            if inner_len > u32::from(INNER_MAX_LEN) {
                self.counters.free(in_port, DropReason::MtuExceeded, mbuf);
                continue;
            }
            let Some(room) = mbuf.prepend_or_move(header.len()) else {
                self.counters.free(in_port, DropReason::Headroom, mbuf);
                continue;
            };
            let of = || self.adjacencies.get(encap.adjacency).map(|adjacency| (adjacency, encap.vni));
            header.write(room, inner_len as u16, flow_hash, ip, of);
            let sent = self.tx.to(header.egress(), &self.counters).stage(mbuf, in_port);
            self.counters.port(header.tunnel()).encapsulated(inner_len.into(), sent);
        }
    }

    /// Packets of one program without a cached header: the remote cannot be reached yet, or the header is an unusual one.
    #[inline(never)]
    fn encap_each(
        &mut self,
        Encap { adjacency, vni }: Encap,
        mut mbufs: Drain<'_>,
        range: Range<usize>,
        meta: &mut BatchMeta,
    ) -> usize {
        self.run_each(&mut mbufs, range.clone(), meta, |pipeline, mbuf, key, info| {
            pipeline.encap((adjacency, vni, TunnelMetadata::default()), mbuf, key, info);
        });
        self.end_run(&mbufs, range, meta)
    }
}

/// Reads the frames of a run, if no lookup has, and takes their outer headers off. Gives those that failed; they are
/// counted.
#[inline(always)]
fn prepare(
    mbufs: &mut [Mbuf],
    range: Range<usize>,
    meta: &mut BatchMeta,
    counters: &crate::counters::WorkerCounters,
) -> PacketMask {
    let mut failed = 0;
    if !meta.read {
        failed = inner::read(mbufs, range.clone(), meta, counters);
    }
    if meta.encapsulated {
        let short = super::strip(mbufs, range, meta);
        for at in crate::batch::packets_of(short & !failed) {
            counters.count_drop(meta.in_port(at), DropReason::TunnelInnerTruncated, 1);
        }
        failed |= short;
    }
    failed
}

/// Writes a header in front of each frame, for ordinary packets without ECN bits, until one has no room, and gives `sent`
/// its tunnel and the frame's length; says how many.
#[inline(always)]
fn write_ready(
    hasher: &FlowHasher,
    mbufs: &mut [Mbuf],
    headers: &[&CachedHeader; BURST],
    hot: &[HotKey],
    sent: impl Fn(PortId, u16),
) -> usize {
    let mut written = 0;
    for ((mbuf, header), hot) in mbufs.iter_mut().zip(headers).zip(hot) {
        let len = mbuf.len() as u16;
        let Some(room) = mbuf.prepend_array() else { break };
        header.write_ready(room, len, hasher.hot_flow_hash(hot));
        sent(header.tunnel(), len);
        written += 1;
    }
    written
}
