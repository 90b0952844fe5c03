//! Stage 2, **key**: each frame becomes a flow key. A tunnel packet for one of our VTEP sockets is checked,
//! and keyed by its *inner* frame with the tunnel fields beside it, so that decapsulation costs one lookup.
//!
//! Where a port's traffic is all one megaflow that only outputs or only encapsulates, no decision needs the key
//! and none is extracted: see [`Shortcuts`].

use crate::counters::WorkerCounters;
use crate::hold::PendingFlows;
use crate::programs::{Compiled, Programs};
use crate::termination::{Intake, Termination};
use crate::{Batch, Path};
use flow::drop::DropReason;
use flow::megaflow::{MISS, MegaflowTable};
use flow::program::PortId;
use rte::{Burst, Mbuf};
use wire::ecn::{ECN_CE, ECN_MASK, EcnDecap, ecn_decap};
use wire::encap::EncapExt;
use wire::key::FlowKey;
use wire::outer::{clear_tunnel, parse_outer, peek};
use wire::parse::{Anomaly, COMMON, Origin, extract, extract_common};
use wire::pattern::{Lengths, OuterPattern};
use wire::plain::{PLAIN_HEADERS, PlainOuter, PlainTunnel};
use wire::proto::{ETH_IPV4, ETH_IPV6};

/// Where things are in a packet whose key was extracted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketInfo {
    /// Bytes of outer headers in front of the frame that the key describes; 0 for a packet out of no tunnel.
    pub strip: u16,
    /// Offset of the L3 header in the frame that the key describes.
    pub l3: u16,
    /// Offset of the L4 header there, 0 when there is none.
    pub l4: u16,
    /// TOS of the outer header.
    pub outer_tos: u8,
    /// Length in bytes of the frame that the key describes.
    pub len: u32,
}

impl PacketInfo {
    /// Of a frame that [`extract_common`] took. Field by field: no value that is made first and then copied.
    #[inline(always)]
    fn set_common(&mut self, strip: u16, outer_tos: u8, len: u32) {
        self.strip = strip;
        self.l3 = COMMON.l3;
        self.l4 = COMMON.l4;
        self.outer_tos = outer_tos;
        self.len = len;
    }
}

/// Ports whose packets all go by one megaflow, the program of which is one output or one encapsulation whose
/// header is ready. For them the way is known before the key: only what that program needs is found out.
pub(super) struct Shortcuts<'a> {
    table: &'a MegaflowTable,
    programs: &'a Programs,
    /// Not while flows of the same port wait for decisions: what is held is found by its key, and later packets
    /// of the same flow must stay behind it.
    pending: &'a PendingFlows,
    /// Until this changes, a slot that was found stays the right one.
    epoch: u64,
}

impl<'a> Shortcuts<'a> {
    #[inline(always)]
    pub(super) fn new(path: &'a Path) -> Shortcuts<'a> {
        Shortcuts {
            table: &path.lookup.table,
            programs: &path.programs,
            pending: &path.pending,
            epoch: path.epoch,
        }
    }

    /// The slot of the megaflow that all packets from `port` go by.
    #[inline(always)]
    pub(super) fn find(&self, port: PortId) -> Option<u32> {
        let slot = self.table.wild(port.0.into()).filter(|_| !self.pending.holds(port.0.into()))?;
        let program = self.table.program(slot);
        let short = match self.programs.get(program)? {
            Compiled::Output(_) => true,
            // The first burst goes the long way, which makes the header.
            Compiled::Encap(_) => self.programs.made(program).is_some(),
            _ => false,
        };
        short.then_some(slot)
    }
}

/// What is known of a tunnel packet that needs no key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unkeyed {
    /// The vxlan port.
    pub in_port: PortId,
    /// Bytes behind the UDP datagram.
    pub trailing: u16,
}

/// What a burst of ordinary tunnel packets has in common.
#[derive(Debug, Clone, Copy)]
pub(super) enum Recognised {
    /// All are for one vxlan port, whose packets all take a shortcut: the slot.
    Shortcut(PortId, u32, Wrapped),
    /// Each is for a vxlan port whose packets all take a shortcut; port and slot are known.
    Shortcuts,
    /// All are for this vxlan port.
    Tunnel(PortId, Wrapped),
    /// Nothing: they have to go the long way.
    Nothing,
}

/// What is known of the frames inside of a burst of tunnel packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrapped {
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// Length in bytes of the longest.
    pub longest: u32,
    /// What tells their tunnel apart; of several, the first.
    pub tunnel: PlainTunnel,
}

/// Finds out where a burst of ordinary tunnel packets goes: leaves their lengths, and with [`Recognised::Shortcuts`] their
/// ports and slots in the batch, and changes nothing else.
#[inline(always)]
pub(super) fn recognise(
    batch: &mut Batch,
    port: PortId,
    termination: &mut Termination,
    shortcuts: &Shortcuts<'_>,
) -> Recognised {
    let Some(mut intake) = termination.intake(port) else { return Recognised::Nothing };
    let first = batch.mbufs.as_slice().first().and_then(|mbuf| OuterPattern::new(mbuf.data()));
    let Some((first, pattern)) = first.filter(|(first, _)| is_plain(first) && intake.takes(first)) else {
        return Recognised::Nothing;
    };
    let tunnel = first.tunnel();
    let find = |port| shortcuts.find(port);
    let Some((port, slot)) = intake.recall_slot(&tunnel, shortcuts.epoch, find) else {
        return Recognised::Nothing;
    };
    let mut wrapped = Wrapped { bytes: 0, longest: 0, tunnel };
    let alike = read_alike(&pattern, batch, &mut wrapped);
    if alike < batch.mbufs.len() {
        match read_unlike(&pattern, (port, slot), alike, batch, &mut wrapped, &mut intake, shortcuts) {
            Some(0) => {}
            Some(_) => return Recognised::Shortcuts,
            None => return Recognised::Nothing,
        }
    }
    match slot {
        Some(slot) => Recognised::Shortcut(port, slot, wrapped),
        None => Recognised::Tunnel(port, wrapped),
    }
}

/// Congestion marks concern the inner header, so that has to be read.
#[inline(always)]
fn is_plain(outer: &PlainOuter) -> bool {
    outer.tos & ECN_MASK != ECN_CE
}

/// Reads the outer headers of packets as long as they are like the first; says how many are.
#[inline(never)]
fn read_alike(pattern: &OuterPattern, batch: &mut Batch, wrapped: &mut Wrapped) -> usize {
    let Batch { mbufs, lens, unkeyed, .. } = batch;
    let (mut bytes, mut longest, mut alike) = (0, 0, 0);
    for ((mbuf, len), unkeyed) in mbufs.iter().zip(lens).zip(unkeyed) {
        let Some(lengths) = pattern.read(mbuf.data()).filter(|_| mbuf.segment_count() == 1) else { break };
        *len = lengths.inner.into();
        unkeyed.trailing = lengths.trailing;
        bytes += u64::from(lengths.inner);
        longest = longest.max(*len);
        alike += 1;
    }
    (wrapped.bytes, wrapped.longest) = (bytes, longest);
    alike
}

/// Reads the outer headers of the packets behind those `alike`, which may be of other tunnels than the `first`, mostly to
/// the same VTEP, and finds the ports and slots of all. Says how many came through another tunnel; `None` when one is not
/// an ordinary tunnel packet for us, or not one that takes a shortcut where not all came through the first's tunnel.
#[inline(never)]
fn read_unlike(
    pattern: &OuterPattern,
    (first_port, first_slot): (PortId, Option<u32>),
    alike: usize,
    batch: &mut Batch,
    wrapped: &mut Wrapped,
    intake: &mut Intake<'_>,
    shortcuts: &Shortcuts<'_>,
) -> Option<usize> {
    let Batch { mbufs, lens, unkeyed, hits, .. } = batch;
    let first = (first_port, first_slot.unwrap_or(MISS));
    for (unkeyed, hit) in unkeyed.iter_mut().zip(&mut *hits).take(alike) {
        (unkeyed.in_port, *hit) = first;
    }
    let (mut bytes, mut longest, mut others) = (wrapped.bytes, wrapped.longest, 0);
    let rest = mbufs[alike..].iter().zip(&mut lens[alike..]);
    for (((mbuf, len), unkeyed), hit) in rest.zip(&mut unkeyed[alike..]).zip(&mut hits[alike..]) {
        if mbuf.segment_count() != 1 {
            return None;
        }
        let (lengths, tunnel) = match pattern.read_other(mbuf.data()) {
            Some(read) => read,
            None => read_single(mbuf, intake)?,
        };
        (unkeyed.in_port, *hit) = first;
        if tunnel != wrapped.tunnel {
            let (port, slot) = intake.recall_slot(&tunnel, shortcuts.epoch, |port| shortcuts.find(port))?;
            (unkeyed.in_port, *hit) = (port, slot.filter(|_| first_slot.is_some())?);
            others += 1;
        }
        *len = lengths.inner.into();
        unkeyed.trailing = lengths.trailing;
        bytes += u64::from(lengths.inner);
        longest = longest.max(*len);
    }
    (wrapped.bytes, wrapped.longest) = (bytes, longest);
    Some(others)
}

/// Reads the outer headers of a packet that is not like the first: to another address, say, or with another TTL.
#[inline(never)]
fn read_single(mbuf: &Mbuf, intake: &Intake<'_>) -> Option<(Lengths, PlainTunnel)> {
    let outer = PlainOuter::read(mbuf.data()).filter(|outer| is_plain(outer) && intake.takes(outer))?;
    Some((Lengths { inner: outer.inner_len, trailing: outer.trailing }, outer.tunnel()))
}

/// Takes the outer headers off a burst of ordinary tunnel packets.
#[inline(always)]
pub(super) fn unwrap_each(mbufs: &mut [Mbuf], unkeyed: &[Unkeyed]) {
    for (mbuf, unkeyed) in mbufs.iter_mut().zip(unkeyed) {
        // Neither can fail: both lengths were measured in this very frame.
        if unkeyed.trailing > 0 {
            let _ = mbuf.trim(unkeyed.trailing.into());
        }
        let _ = mbuf.adj(PLAIN_HEADERS);
    }
}

/// Extracts the keys of a batch that came from `port`. Frames that cannot be keyed are freed and counted;
/// the others move up, in order.
#[inline]
pub(super) fn extract_batch(
    batch: &mut Batch,
    port: PortId,
    termination: &mut Termination,
    counters: &WorkerCounters,
) {
    let count = batch.mbufs.len() as u64;
    let failed = if let Some(mut intake) = termination.intake(port) {
        let mut inner = InnerCount::default();
        let failed = underlay_frames(batch, port, &mut intake, &mut inner, counters);
        inner.count(counters);
        // Frames that go another way are not counted there.
        batch.in_port = Some(inner.port).filter(|_| inner.packets == count);
        failed
    } else {
        batch.in_port = Some(port);
        plain_frames(batch, port, counters)
    };
    if failed != 0 {
        take_out(batch, failed);
    }
}

/// Frames on a port of a bridge without addresses. Those that cannot be keyed are counted and returned, as bits.
#[inline(never)]
fn plain_frames(batch: &mut Batch, port: PortId, counters: &WorkerCounters) -> u32 {
    let Batch { mbufs, keys, infos, lens, .. } = batch;
    let origin = Origin::port(port.0.into());
    let mut failed = 0;
    for (at, (((mbuf, key), info), len)) in mbufs.iter_mut().zip(keys).zip(infos).zip(lens).enumerate() {
        if mbuf.segment_count() == 1 && extract_common(mbuf.data(), origin, key) {
            *len = mbuf.data_len() as u32;
            info.set_common(0, 0, *len);
            continue;
        }
        match one_segment(mbuf).and_then(|()| plain_frame(mbuf, port, counters, key)) {
            Ok(found) => (*info, *len) = (found, found.len),
            Err(reason) => {
                counters.count_drop(port, reason, 1);
                failed |= 1 << at;
            }
        }
    }
    failed
}

/// The same for a port of a bridge with addresses.
#[inline(never)]
fn underlay_frames(
    batch: &mut Batch,
    port: PortId,
    intake: &mut Intake<'_>,
    inner: &mut InnerCount,
    counters: &WorkerCounters,
) -> u32 {
    let Batch { mbufs, keys, infos, lens, .. } = batch;
    let mut failed = 0;
    // What tells tunnels apart in the packet before, and its answer.
    let (mut before, mut in_port) = ((0, 0, 0), PortId::TUNNEL_MISS);
    'packets: for (at, (((mbuf, key), info), len)) in
        mbufs.iter_mut().zip(keys).zip(infos).zip(lens).enumerate()
    {
        let outer = if mbuf.segment_count() == 1 { PlainOuter::read(mbuf.data()) } else { None };
        let result = 'found: {
            if let Some(outer) = outer {
                let now = (outer.dl_dst, outer.addresses, outer.port_and_vni);
                if now != before {
                    if !intake.takes(&outer) {
                        break 'found unusual_segments(mbuf, port, intake, counters, key);
                    }
                    (before, in_port) = (now, intake.recall(&outer.tunnel()).unwrap_or(PortId::TUNNEL_MISS));
                }
                inner.add(in_port, 1, outer.inner_len.into(), counters);
                if outer.trailing > 0 {
                    // Cannot fail: the padding was measured in this very frame.
                    let _ = mbuf.trim(outer.trailing.into());
                }
                let frame = mbuf.data().get(PLAIN_HEADERS..).unwrap_or(&[]);
                let origin = outer.origin(in_port.0.into());
                // A congestion mark is carried over to the key the long way.
                if outer.tos & ECN_MASK != ECN_CE && extract_common(frame, origin, key) {
                    *len = outer.inner_len.into();
                    info.set_common(PLAIN_HEADERS as u16, outer.tos, *len);
                    continue 'packets;
                }
                origin.fill_key(key);
                describe(frame, PLAIN_HEADERS as u16, outer.tos, counters, key)
            } else {
                unusual_segments(mbuf, port, intake, counters, key)
            }
        };
        match result {
            Ok(found) => (*info, *len) = (found, found.len),
            Err(reason) => {
                counters.count_drop(port, reason, 1);
                failed |= 1 << at;
            }
        }
    }
    failed
}

#[cold]
fn unusual_segments(
    mbuf: &mut Mbuf,
    port: PortId,
    intake: &Intake<'_>,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
    one_segment(mbuf)?;
    unusual_frame(mbuf, port, intake, counters, key)
}

/// Frees the packets of these numbers, as bits; the others move up.
#[cold]
#[inline(never)]
fn take_out(batch: &mut Batch, failed: u32) {
    let mut kept = Burst::new();
    for (at, mbuf) in batch.mbufs.drain().enumerate() {
        if failed & 1 << at != 0 {
            continue;
        }
        let to = kept.len();
        batch.keys[to] = batch.keys[at];
        batch.infos[to] = batch.infos[at];
        batch.lens[to] = batch.lens[at];
        // Cannot fail: as long as the burst that it came from.
        let _ = kept.push(mbuf);
    }
    batch.mbufs = kept;
}

/// A frame that is not looked at for tunnels.
fn plain_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
    Origin::port(port.0.into()).fill_key(key);
    describe(mbuf.data(), 0, 0, counters, key)
}

/// Packets received by vxlan ports, by runs of packets of one port.
#[derive(Default)]
struct InnerCount {
    port: PortId,
    packets: u64,
    bytes: u64,
}

impl InnerCount {
    /// Counts packets of `port`.
    #[inline(always)]
    fn add(&mut self, port: PortId, packets: u64, bytes: u64, counters: &WorkerCounters) {
        if port != self.port {
            self.count(counters);
            *self = InnerCount { port, packets: 0, bytes: 0 };
        }
        self.packets += packets;
        self.bytes += bytes;
    }

    /// Puts the last run into the counters; to be called at the end.
    #[inline(always)]
    fn count(&self, counters: &WorkerCounters) {
        counters.port(self.port).rx.add(self.packets, self.bytes);
    }
}

/// The same for a frame that is no tunnel packet, or one over IPv6, for a socket with an extension, with options or a
/// checksum, or a wrong one.
#[inline(never)]
fn unusual_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    intake: &Intake<'_>,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
    let frame = mbuf.data();
    let Some(ext) = peek(frame).and_then(|p| intake.is_ours(&p)) else {
        return plain_frame(mbuf, port, counters, key);
    };
    let outer = parse_outer(frame, false)?;
    if ext == EncapExt::Gpe && !outer.vxlan.has_gpe_ethernet() {
        return Err(DropReason::VxlanProtocol);
    }
    if outer.trailing > 0 {
        // Cannot fail: the padding was measured in this very frame.
        let _ = mbuf.trim(outer.trailing.into());
    }
    let in_port = intake.find(outer.vni(), outer.src, outer.dst, outer.udp_dst);
    let in_port = in_port.unwrap_or(PortId::TUNNEL_MISS);
    count_inner(counters, in_port, outer.inner_len);
    outer.fill_key(key, ext == EncapExt::Gbp);
    key.in_port = in_port.0.into();
    let inner = mbuf.data().get(usize::from(outer.inner_offset)..).ok_or(DropReason::VxlanInnerTruncated)?;
    describe(inner, outer.inner_offset, outer.tos, counters, key)
}

#[inline(always)]
fn count_inner(counters: &WorkerCounters, in_port: PortId, len: u16) {
    counters.port(in_port).rx.add(1, len.into());
}

/// Extracts the key of a frame whose `in_port` and `tun_*` fields are in the key already.
fn describe(
    frame: &[u8],
    strip: u16,
    outer_tos: u8,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
    match extract(frame, key) {
        Ok(parsed) => {
            if let Some(anomaly) = parsed.anomaly {
                counters.anomaly(anomaly);
            }
            if outer_tos & ECN_MASK == ECN_CE {
                congested(key, outer_tos)?;
            }
            Ok(PacketInfo { strip, l3: parsed.l3, l4: parsed.l4, outer_tos, len: frame.len() as u32 })
        }
        Err(truncated) => {
            counters.anomaly(Anomaly::from(truncated));
            Err(DropReason::EthernetTruncated)
        }
    }
}

/// Carries the outer header's congestion mark over to the key (RFC 6040): rules see the packet as it will be sent on.
#[cold]
fn congested(key: &mut FlowKey, outer_tos: u8) -> Result<(), DropReason> {
    let dl_type = key.dl_type.get();
    if dl_type != ETH_IPV4 && dl_type != ETH_IPV6 {
        return Ok(());
    }
    // A malformed header left the key's fields zero: there is nothing to mark, and nobody said "not capable".
    let words = key.words();
    if words[4] == 0 && key.nw_proto == 0 && key.nw_ttl == 0 && words[8..12] == [0; 4] {
        return Ok(());
    }
    match ecn_decap(outer_tos, key.nw_tos) {
        EcnDecap::Keep => {}
        EcnDecap::Drop => return Err(DropReason::EcnNotCapable),
        EcnDecap::SetCe => key.nw_tos |= ECN_CE,
    }
    Ok(())
}

/// Everything behind this point works on one contiguous frame.
#[inline(always)]
fn one_segment(mbuf: &mut Mbuf) -> Result<(), DropReason> {
    if mbuf.segment_count() == 1 { Ok(()) } else { mbuf.linearize().map_err(|_| DropReason::Segments) }
}

/// The key and layout of a packet that the slow path made, as if it had come in on `port`.
pub(super) fn extract_made(frame: &[u8], port: PortId, key: &mut FlowKey) -> Option<PacketInfo> {
    clear_tunnel(key);
    key.in_port = u32::from(port.0);
    let parsed = extract(frame, key).ok()?;
    Some(PacketInfo { strip: 0, l3: parsed.l3, l4: parsed.l4, outer_tos: 0, len: frame.len() as u32 })
}
