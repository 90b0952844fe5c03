//! Stage 2, **key**: each frame becomes a flow key. A tunnel packet for one of our VTEP sockets is checked,
//! and keyed by its *inner* frame with the tunnel fields beside it, so that decapsulation costs one lookup.

use super::Batch;
use super::counters::WorkerCounters;
use crate::tunnel::termination::Termination;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::Mbuf;
use std::net::IpAddr;
use wire::key::FlowKey;
use wire::outer::{Outer, clear_tunnel, parse_outer, peek};
use wire::parse::{Anomaly, extract};

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

/// Extracts the keys of a batch that came from `port`. Frames that cannot be keyed are freed and counted;
/// the others move up, in order.
#[inline]
pub(super) fn extract_batch(
    batch: &mut Batch,
    port: PortId,
    termination: &Termination,
    counters: &WorkerCounters,
) {
    let underlay = termination.is_underlay(port);
    let mut kept = 0;
    for at in 0..batch.mbufs.len() {
        let (key, info) = (&mut batch.keys[kept], &mut batch.infos[kept]);
        let result = if underlay {
            underlay_frame(&mut batch.mbufs[at], port, termination, counters, key)
        } else {
            plain_frame(&mut batch.mbufs[at], port, counters, key)
        };
        match result {
            Ok(found) => {
                *info = found;
                if kept != at {
                    batch.mbufs.swap(kept, at);
                }
                kept += 1;
            }
            Err(reason) => counters.count_drop(port, reason, 1),
        }
    }
    batch.mbufs.truncate(kept);
}

/// A frame that is not looked at for tunnels.
#[inline(always)]
fn plain_frame(
    mbuf: &mut Mbuf,
    port: PortId,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
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
    termination: &Termination,
    counters: &WorkerCounters,
    key: &mut FlowKey,
) -> Result<PacketInfo, DropReason> {
    one_segment(mbuf)?;
    let frame = mbuf.data();
    if !peek(frame).is_some_and(|p| termination.is_ours(port, &p)) {
        return plain_frame(mbuf, port, counters, key);
    }
    let outer = parse_outer(frame, false)?;
    if outer.trailing > 0 {
        // Cannot fail: the padding was measured in this very frame.
        let _ = mbuf.trim(outer.trailing.into());
    }
    outer.fill_key(key, false);
    let in_port = tunnel_port(termination, &outer);
    key.in_port = u32::from(in_port.0);
    let port_counters = &counters.ports[in_port.index()];
    port_counters.rx_packets.add(1);
    port_counters.rx_bytes.add(u64::from(outer.inner_len));
    let inner = mbuf.data().get(usize::from(outer.inner_offset)..).ok_or(DropReason::VxlanInnerTruncated)?;
    describe(inner, outer.inner_offset, outer.tos, counters, key)
}

/// The vxlan port that takes the packet, or the pseudo-port whose megaflows drop what none takes.
#[inline(always)]
fn tunnel_port(termination: &Termination, outer: &Outer) -> PortId {
    match (outer.src, outer.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => termination.find(outer.vni(), src, dst, outer.udp_dst),
        _ => None,
    }
    .unwrap_or(PortId::TUNNEL_MISS)
}

#[inline(always)]
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
            Ok(PacketInfo { strip, l3: parsed.l3, l4: parsed.l4, outer_tos, len: frame.len() as u32 })
        }
        Err(truncated) => {
            counters.anomaly(Anomaly::from(truncated));
            Err(DropReason::EthernetTruncated)
        }
    }
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
