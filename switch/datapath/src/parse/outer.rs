//! The reader of outer headers.

use crate::BURST;
use crate::batch::{Batch, BatchMeta, OuterLen, PacketInfo, PacketMask};
use crate::counters::WorkerCounters;
use crate::offload;
use crate::parse::inner;
use crate::termination::TerminationView;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::Mbuf;
use wire::ecn::has_ecn_to_decap;
use wire::tunnel::TunnelFormat;
use wire::tunnel::outer::{Outer, parse_outer_chain, parse_outer_partial, peek};
use wire::tunnel::same_header::OuterHeader;
use wire::tunnel::udp4::{UDP4_LEN, Udp4Outer, Udp4Tunnel};

/// Which packets of a port are for its bridge's VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Tunnel packets among others, which are frames like those of any port.
    Port,
    /// All, or they are for nobody here: the bridge has sent them to its LOCAL port.
    Local,
}

/// Reads the outer headers of a burst, which came in by `port`: afterwards each packet is one of its tunnel port, with
/// the inner frame's length, or one of `port`. Packets that cannot be decapsulated are freed and counted.
pub(crate) fn read(
    batch: &mut Batch,
    (port, arrival): (PortId, Arrival),
    view: &mut TerminationView<'_>,
    counters: &WorkerCounters,
    fast_paths: bool,
) {
    let Batch { mbufs, meta } = batch;
    let count = mbufs.len();
    let first = if fast_paths && meta.linear {
        mbufs.first().and_then(|mbuf| first_header(mbuf, view))
    } else {
        None
    };
    let mut same = 0;
    if let Some((header, tunnel, in_port)) = &first {
        same = read_same(header, mbufs, meta);
        if same == count {
            (meta.in_port, meta.tunnel, meta.encapsulated) = (Some(*in_port), Some(*tunnel), true);
            counters.port(*in_port).rx.add(count as u64, meta.bytes);
            return;
        }
    }
    let first = first.map(|(header, _, in_port)| (header, in_port));
    let failed = read_each(batch, (port, arrival), (same, first), view, (counters, fast_paths));
    if failed != 0 {
        batch.drop_packets(failed);
    }
}

/// The outer header of the first packet, if it is an ordinary tunnel packet for one of our tunnel ports.
#[inline(always)]
fn first_header(mbuf: &Mbuf, view: &mut TerminationView<'_>) -> Option<(OuterHeader, Udp4Tunnel, PortId)> {
    let (outer, header) = OuterHeader::new(mbuf.data())?;
    if !is_ordinary(&outer, view) {
        return None;
    }
    let tunnel = outer.tunnel();
    Some((header, tunnel, view.find_cached(&tunnel)?))
}

/// Whether a packet read by the fast path is for us, and leaves nothing to do but to take its headers off.
#[inline(always)]
fn is_ordinary(outer: &Udp4Outer, view: &TerminationView<'_>) -> bool {
    !has_ecn_to_decap(outer.tos) && view.takes(outer)
}

/// Reads packets as long as they have the first one's header; says how many have. Where all have, the sums are theirs.
#[inline(never)]
fn read_same(header: &OuterHeader, mbufs: &[Mbuf], meta: &mut BatchMeta) -> usize {
    let (mut bytes, mut same) = (0, 0);
    for ((mbuf, len), outer) in mbufs.iter().zip(&mut meta.lens).zip(&mut meta.outers) {
        let Some(lengths) = header.read(mbuf.data()) else { break };
        *len = lengths.inner.into();
        *outer = OuterLen { strip: UDP4_LEN as u16, trailing: lengths.trailing };
        bytes += u64::from(lengths.inner);
        same += 1;
    }
    if same == mbufs.len() {
        meta.bytes = bytes;
    }
    same
}

/// Reads the packets behind those that have the `same` header as the first. Those that failed are counted, and returned.
#[inline(never)]
fn read_each(
    batch: &mut Batch,
    (port, arrival): (PortId, Arrival),
    (same, first): (usize, Option<(OuterHeader, PortId)>),
    view: &mut TerminationView<'_>,
    (counters, fast_paths): (&WorkerCounters, bool),
) -> PacketMask {
    let Batch { mbufs, meta } = batch;
    let count = mbufs.len().min(BURST);
    let mut header = None;
    if let Some((first, in_port)) = first {
        header = Some(first);
        meta.in_ports[..same].fill(in_port);
        let bytes = meta.lens[..same].iter().map(|len| u64::from(*len)).sum();
        counters.port(in_port).rx.add(same as u64, bytes);
    }
    let (linear, mut failed, mut at) = (meta.linear, 0, same);
    while at < count {
        if let Some(header) = header.as_ref().filter(|_| linear) {
            at = read_same_vtep(header, at, mbufs, meta, view, counters);
            if at == count {
                break;
            }
        }
        let mbuf = &mbufs.as_slice()[at];
        let read = if fast_paths && !meta.has_offloads && (linear || mbuf.segment_count() == 1) {
            OuterHeader::new(mbuf.data()).filter(|(outer, _)| is_ordinary(outer, view))
        } else {
            None
        };
        let found = read.and_then(|(outer, this)| Some((outer, this, view.find_cached(&outer.tunnel())?)));
        if let Some((outer, this, in_port)) = found {
            header = Some(this);
            meta.in_ports[at] = in_port;
            meta.lens[at] = outer.inner_len.into();
            meta.outers[at] = OuterLen { strip: UDP4_LEN as u16, trailing: outer.trailing };
            counters.port(in_port).rx.add(1, outer.inner_len.into());
        } else if let Err(reason) = general_path(mbuf, (port, arrival), at, meta, view, counters) {
            counters.drop_packet(port, reason, mbuf);
            failed |= 1 << at;
        }
        at += 1;
    }
    meta.bytes = meta.lens[..count].iter().map(|len| u64::from(*len)).sum();
    (meta.in_port, meta.tunnel, meta.encapsulated) = (None, None, true);
    failed
}

/// Reads packets from number `start` on as long as they have the header of one before but for tunnel and lengths, and are
/// for one of our tunnel ports; gives the number of the first that is not.
#[inline(never)]
fn read_same_vtep(
    header: &OuterHeader,
    start: usize,
    mbufs: &[Mbuf],
    meta: &mut BatchMeta,
    view: &mut TerminationView<'_>,
    counters: &WorkerCounters,
) -> usize {
    let count = mbufs.len().min(BURST);
    let BatchMeta { in_ports, lens, outers, .. } = meta;
    let (mbufs, in_ports) = (&mbufs[start..count], &mut in_ports[start..count]);
    let (lens, outers) = (&mut lens[start..count], &mut outers[start..count]);
    for at in 0..mbufs.len() {
        let Some((lengths, tunnel)) = header.read_other(mbufs[at].data()) else { return start + at };
        let Some(in_port) = view.find_cached(&tunnel) else { return start + at };
        in_ports[at] = in_port;
        lens[at] = lengths.inner.into();
        outers[at] = OuterLen { strip: UDP4_LEN as u16, trailing: lengths.trailing };
        counters.port(in_port).rx.add(1, lengths.inner.into());
    }
    count
}

/// A frame that is no tunnel packet, or a tunnel packet over IPv6, of a format without a pattern, with options, a checksum
/// or a congestion mark, for nobody, of several segments, one of a burst that requests offloads, or a wrong one.
#[inline(never)]
fn general_path(
    mbuf: &Mbuf,
    (port, arrival): (PortId, Arrival),
    at: usize,
    meta: &mut BatchMeta,
    view: &TerminationView<'_>,
    counters: &WorkerCounters,
) -> Result<(), DropReason> {
    let Some(format) = peek(mbuf.data()).and_then(|peeked| view.is_ours(&peeked)) else {
        if arrival == Arrival::Local {
            return Err(DropReason::LocalUnhandled);
        }
        (meta.in_ports[at], meta.outers[at]) = (port, OuterLen::default());
        return Ok(());
    };
    let outer = parse(mbuf, format, view.any_zero_checksums())?;
    if !offload::can_decap(mbuf, outer.inner_offset) {
        return Err(DropReason::Offload);
    }
    let in_port = view.tunnel_of(&outer)?.unwrap_or(PortId::TUNNEL_MISS);
    // Also when it is dropped for its congestion mark: it came through this tunnel.
    counters.port(in_port).rx.add(1, outer.inner_len.into());
    let key = &mut meta.keys[at];
    outer.fill_key(key);
    if outer.options_len > 0 {
        let start = outer.options_offset();
        let options = mbuf.data().get(start..start + usize::from(outer.options_len)).unwrap_or(&[]);
        view.tlvs(in_port).fill_key(options, key)?;
    }
    key.in_port = in_port.0.into();
    let (offset, len) = (usize::from(outer.inner_offset), usize::from(outer.inner_len));
    let info = inner::describe(mbuf, (offset, len), outer.tos, key, counters)?;
    meta.infos[at] = PacketInfo { strip: outer.inner_offset, ..info };
    meta.in_ports[at] = in_port;
    meta.lens[at] = outer.inner_len.into();
    meta.outers[at] = OuterLen { strip: outer.inner_offset, trailing: outer.trailing };
    meta.keyed |= 1 << at;
    Ok(())
}

/// Checks and reads the outer headers of a packet for us.
#[inline(always)]
fn parse(mbuf: &Mbuf, format: &TunnelFormat, allow_zero_csum6: bool) -> Result<Outer, DropReason> {
    let more = mbuf.len() as usize - mbuf.data_len();
    if offload::is_partial(mbuf) {
        return Ok(parse_outer_partial(mbuf.data(), more, format, allow_zero_csum6)?);
    }
    let outer = parse_outer_chain(mbuf.data(), more, format, allow_zero_csum6)?;
    if let Some(checksum) = outer.unverified {
        checksum.verify(mbuf.segments())?;
    }
    Ok(outer)
}

/// Whether a tunnel packet that came in fragments is for a port that takes no such.
#[cold]
#[inline(never)]
pub(crate) fn refuses_reassembled(mbuf: &Mbuf, view: &TerminationView<'_>) -> bool {
    view.refuses_some_reassembled()
        && peek(mbuf.data())
            .and_then(|peeked| view.is_ours(&peeked))
            .and_then(|format| parse(mbuf, format, true).ok())
            .is_some_and(|outer| view.refuses_reassembled(&outer))
}
