//! Stage 2, **key**: each frame becomes a flow key. A tunnel packet for one of our VTEP sockets is checked,
//! and keyed by its *inner* frame with the tunnel fields beside it, so that decapsulation costs one lookup.
//!
//! Where a port's traffic is all one megaflow that only outputs, no decision needs the key and none is
//! extracted: see [`Shortcuts`].

use super::act::Compiled;
use super::counters::WorkerCounters;
use super::{Batch, Path};
use crate::tunnel::termination::{Intake, Termination};
use flow::drop::DropReason;
use flow::megaflow::MegaflowTable;
use flow::program::PortId;
use rte::Mbuf;
use wire::encap::EncapExt;
use wire::ecn::{ECN_CE, ECN_MASK, EcnDecap, ecn_decap};
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, ETH_IPV6};
use wire::outer::{clear_tunnel, parse_outer, peek};
use wire::parse::{Anomaly, extract};
use wire::plain::{PLAIN_HEADERS, PlainOuter};

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

/// Ports whose packets all go by one megaflow, the program of which is one output. For them the way is
/// known before the key: only what an output needs is found out.
pub(super) struct Shortcuts<'a> {
    table: &'a MegaflowTable,
    programs: &'a [Option<Compiled>],
    /// Not while flows wait for decisions: what is held is found by its key, and later packets of the same
    /// flow must stay behind it.
    enabled: bool,
    last: (PortId, Option<u32>),
}

impl<'a> Shortcuts<'a> {
    #[inline(always)]
    pub(super) fn new(path: &'a Path) -> Shortcuts<'a> {
        Shortcuts {
            table: &path.lookup.table,
            programs: &path.programs,
            enabled: path.pending.is_empty(),
            last: (PortId::TUNNEL_MISS, None),
        }
    }

    /// The slot of the megaflow that all packets from `port` go by.
    #[inline(always)]
    pub(super) fn slot(&mut self, port: PortId) -> Option<u32> {
        if self.last.0 != port {
            self.last = (port, self.find(port));
        }
        self.last.1
    }

    #[inline]
    fn find(&self, port: PortId) -> Option<u32> {
        let slot = self.table.wild(port.0.into()).filter(|_| self.enabled)?;
        let program = self.programs.get(self.table.program(slot) as usize)?;
        matches!(program, Some(Compiled::Output(_))).then_some(slot)
    }
}

/// What the key stage found out about a frame.
struct Found {
    info: PacketInfo,
    /// The megaflow, when it is known without a key.
    slot: Option<u32>,
}

/// Extracts the keys of a batch that came from `port`. Frames that cannot be keyed are freed and counted;
/// the others move up, in order.
#[inline]
pub(super) fn extract_batch(
    batch: &mut Batch,
    port: PortId,
    termination: &mut Termination,
    mut shortcuts: Shortcuts<'_>,
    counters: &WorkerCounters,
) {
    let mut intake = termination.intake(port);
    let (mut kept, mut unkeyed) = (0, 0u32);
    for at in 0..batch.mbufs.len() {
        let (key, mbuf) = (&mut batch.keys[kept], &mut batch.mbufs[at]);
        let result = match &mut intake {
            Some(intake) => underlay_frame(mbuf, port, intake, &mut shortcuts, counters, key),
            None => plain_frame(mbuf, port, counters, key),
        };
        match result {
            Ok(found) => {
                batch.infos[kept] = found.info;
                batch.lens[kept] = found.info.len;
                if let Some(slot) = found.slot {
                    batch.hits[kept] = slot;
                    unkeyed |= 1 << kept;
                }
                if kept != at {
                    batch.mbufs.swap(kept, at);
                }
                kept += 1;
            }
            Err(reason) => counters.count_drop(port, reason, 1),
        }
    }
    batch.mbufs.truncate(kept);
    batch.unkeyed = unkeyed;
    if batch.unkeyed != 0 && batch.unkeyed != u32::MAX >> (32 - kept) {
        complete_keys(batch, counters);
    }
}

/// Extracts the keys that shortcuts left out, because other packets of the batch have to be looked up.
#[cold]
#[inline(never)]
fn complete_keys(batch: &mut Batch, counters: &WorkerCounters) {
    for at in 0..batch.mbufs.len() {
        if batch.unkeyed & 1 << at != 0 {
            let info = batch.infos[at];
            let inner = batch.mbufs[at].data().get(usize::from(info.strip)..).unwrap_or(&[]);
            // The frame is as long as an Ethernet header; that was checked.
            if let Ok(found) = describe(inner, info.strip, info.outer_tos, counters, &mut batch.keys[at]) {
                batch.infos[at] = found.info;
            }
        }
    }
    batch.unkeyed = 0;
}

/// A frame that is not looked at for tunnels.
#[inline(always)]
fn plain_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<Found, DropReason> {
    one_segment(mbuf)?;
    clear_tunnel(key);
    key.in_port = u32::from(port.0);
    describe(mbuf.data(), 0, 0, counters, key)
}

/// A frame on a port of a bridge with addresses.
#[inline(always)]
fn underlay_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    intake: &mut Intake<'_>,
    shortcuts: &mut Shortcuts<'_>,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<Found, DropReason> {
    one_segment(mbuf)?;
    let Some(outer) = PlainOuter::read(mbuf.data()) else {
        return unusual_frame(mbuf, port, intake, counters, key);
    };
    if !intake.takes(&outer) {
        return unusual_frame(mbuf, port, intake, counters, key);
    }
    let in_port = intake.recall(&outer).unwrap_or(PortId::TUNNEL_MISS);
    count_inner(counters, in_port, outer.inner_len);
    if outer.trailing > 0 {
        // Cannot fail: the padding was measured in this very frame.
        let _ = mbuf.trim(outer.trailing.into());
    }
    let (strip, outer_tos) = (PLAIN_HEADERS as u16, outer.tos);
    // Congestion marks concern the inner header, so that has to be read.
    if outer_tos & 3 != 3
        && let Some(slot) = shortcuts.slot(in_port)
    {
        // Should the rest of the batch need keys after all, this has to be there.
        outer.fill_key(in_port.0.into(), key);
        let info = PacketInfo { strip, outer_tos, len: outer.inner_len.into(), ..PacketInfo::default() };
        return Ok(Found { info, slot: Some(slot) });
    }
    outer.fill_key(in_port.0.into(), key);
    let inner = mbuf.data().get(PLAIN_HEADERS..).ok_or(DropReason::VxlanInnerTruncated)?;
    describe(inner, strip, outer_tos, counters, key)
}

/// The same for a frame that is no tunnel packet, or one with options, a tag or a checksum, or a wrong one.
#[inline(never)]
fn unusual_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    intake: &Intake<'_>,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<Found, DropReason> {
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
    let counts = &counters.ports[in_port.index()];
    counts.rx_packets.add(1);
    counts.rx_bytes.add(len.into());
}

#[inline(always)]
fn describe(
    frame: &[u8],
    strip: u16,
    outer_tos: u8,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<Found, DropReason> {
    match extract(frame, key) {
        Ok(parsed) => {
            if let Some(anomaly) = parsed.anomaly {
                counters.anomaly(anomaly);
            }
            if outer_tos & ECN_MASK == ECN_CE {
                congested(key, outer_tos)?;
            }
            let info = PacketInfo { strip, l3: parsed.l3, l4: parsed.l4, outer_tos, len: frame.len() as u32 };
            Ok(Found { info, slot: None })
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
