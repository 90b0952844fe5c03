//! The reader of frames: plain ones, and those inside of tunnel packets.

use crate::BURST;
use crate::batch::{BatchMeta, PacketInfo, PacketMask, packets_of};
use crate::counters::WorkerCounters;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::Mbuf;
use std::ops::Range;
use wire::ecn::{ECN_MASK, EcnDecap, ecn_decap, has_ecn_to_decap};
use wire::hot::{HotKey, hot_key};
use wire::key::FlowKey;
use wire::parse::{Anomaly, Origin, extract, extract_chain};
use wire::proto::{ETH_IPV4, ETH_IPV6};
use wire::tunnel::outer::clear_tunnel;
use wire::tunnel::same_header::InnerHeader;
use wire::tunnel::udp4::{UDP4_LEN, Udp4Outer};

/// Reads the frames of the packets of `range`, which are `mbufs`: those that have no whole key yet get a hot key, or a
/// whole key where they are no ordinary frames. Gives those that cannot be read; they are counted.
#[inline(always)]
pub(crate) fn read(
    mbufs: &[Mbuf],
    range: Range<usize>,
    meta: &mut BatchMeta,
    counters: &WorkerCounters,
) -> PacketMask {
    if meta.linear && meta.keyed == 0 {
        let same = if meta.encapsulated {
            let BatchMeta { lens, outers, .. } = meta;
            let frame = |at: usize| {
                let (at, strip) = (range.start + at, outers[(range.start + at) % BURST].strip);
                mbufs.get(at - range.start)?.data().get(strip.into()..)?.get(..lens[at % BURST] as usize)
            };
            read_same(range.len(), frame, &mut meta.hot[range.clone()], &mut meta.hot_bits)
        } else {
            let frame = |at: usize| Some(mbufs.get(at)?.data());
            read_same(range.len(), frame, &mut meta.hot[range.clone()], &mut meta.hot_bits)
        };
        if same == range.len() {
            return 0;
        }
        return read_each(mbufs, range.start..range.end, same, meta, counters);
    }
    read_each(mbufs, range, 0, meta, counters)
}

/// Reads frames as long as they have the first one's header, and from there on those that are ordinary; says how many
/// there are until the first that is neither.
#[inline(always)]
fn read_same<'a>(
    count: usize,
    frame: impl Fn(usize) -> Option<&'a [u8]>,
    hot: &mut [HotKey],
    hot_bits: &mut u64,
) -> usize {
    let count = count.min(hot.len());
    let Some(header) = frame(0).and_then(InnerHeader::new) else { return 0 };
    let (mut at, mut bits) = (0, 0);
    while at < count {
        let Some(read) = frame(at).and_then(|frame| header.read(frame)) else { break };
        hot[at] = read;
        bits |= read[3];
        at += 1;
    }
    while at < count {
        let Some(read) = frame(at).and_then(hot_key) else { break };
        hot[at] = read;
        bits |= read[3];
        at += 1;
    }
    *hot_bits |= bits;
    at
}

/// Reads the packets of `range` from number `done` on, each by itself.
#[inline(never)]
fn read_each(
    mbufs: &[Mbuf],
    range: Range<usize>,
    done: usize,
    meta: &mut BatchMeta,
    counters: &WorkerCounters,
) -> PacketMask {
    let mut failed = 0;
    for (at, mbuf) in range.zip(mbufs).skip(done) {
        if meta.keyed & 1 << at != 0 {
            continue;
        }
        let strip = usize::from(meta.outer(at).strip);
        let frame = mbuf.data().get(strip..).and_then(|frame| {
            if mbuf.segment_count() == 1 { frame.get(..meta.lens[at] as usize) } else { None }
        });
        if let Some(hot) = frame.and_then(hot_key) {
            meta.hot[at] = hot;
            meta.hot_bits |= hot[3];
        } else if let Err(reason) = general_path(mbuf, at, meta, counters) {
            counters.drop_packet(meta.in_port(at), reason, mbuf);
            failed |= 1 << at;
        }
    }
    failed
}

/// Makes the whole keys of some packets that were read and have none yet.
#[cold]
#[inline(never)]
pub(crate) fn make_keys(
    mbufs: &[Mbuf],
    packets: PacketMask,
    meta: &mut BatchMeta,
    counters: &WorkerCounters,
) {
    for at in packets_of(packets & !meta.keyed) {
        if let Some(mbuf) = mbufs.get(at) {
            // Cannot fail: an ordinary frame has been read there.
            let made = general_path(mbuf, at, meta, counters);
            debug_assert!(made.is_ok(), "a frame with a hot key has a whole key");
        }
    }
}

/// The whole key of one packet of a run, made if need be.
#[inline]
pub(crate) fn key_of<'k>(
    mbuf: &Mbuf,
    at: usize,
    meta: &'k mut BatchMeta,
    counters: &WorkerCounters,
) -> Result<(&'k FlowKey, &'k PacketInfo), DropReason> {
    let at = at % BURST;
    if meta.keyed & 1 << at == 0 {
        general_path(mbuf, at, meta, counters)?;
    }
    Ok((&meta.keys[at], &meta.infos[at]))
}

/// Makes the whole key of a packet out of no tunnel, or out of one over IPv4 whose outer headers the fast path took.
fn general_path(
    mbuf: &Mbuf,
    at: usize,
    meta: &mut BatchMeta,
    counters: &WorkerCounters,
) -> Result<(), DropReason> {
    let in_port = meta.in_port(at);
    let outer = meta.outer(at);
    let key = &mut meta.keys[at];
    let len = meta.lens[at] as usize;
    let info = if outer.strip == 0 {
        Origin::port(in_port.0.into()).fill_key(key);
        describe(mbuf, (0, len), 0, key, counters)?
    } else {
        debug_assert_eq!(usize::from(outer.strip), UDP4_LEN);
        let read = Udp4Outer::read(mbuf.data()).ok_or(DropReason::Internal)?;
        read.origin(in_port.0.into()).fill_key(key);
        describe(mbuf, (UDP4_LEN, len), read.tos, key, counters)?
    };
    meta.infos[at] = info;
    meta.keyed |= 1 << at;
    Ok(())
}

/// Extracts the key of the frame of `len` bytes from `offset` on, whose `in_port` and `tun_*` fields are in the key
/// already.
pub(crate) fn describe(
    mbuf: &Mbuf,
    (offset, len): (usize, usize),
    outer_tos: u8,
    key: &mut FlowKey,
    counters: &WorkerCounters,
) -> Result<PacketInfo, DropReason> {
    let head = mbuf.data().get(offset..).ok_or(DropReason::TunnelInnerTruncated)?;
    let head = &head[..len.min(head.len())];
    let more = len - head.len();
    let parsed = if more == 0 { extract(head, key) } else { extract_chain(head, more, key) };
    match parsed {
        Ok(parsed) => {
            if let Some(anomaly) = parsed.anomaly {
                if more > 0 && head.len() < HEADERS_LEN {
                    // What looks cut off goes on in another segment.
                    return Err(DropReason::Segments);
                }
                counters.anomaly(anomaly);
            }
            let set_ecn = has_ecn_to_decap(outer_tos) && decap_ecn(key, outer_tos)?;
            Ok(PacketInfo { strip: offset as u16, l3: parsed.l3, l4: parsed.l4, set_ecn, len: len as u32 })
        }
        Err(truncated) => {
            counters.anomaly(Anomaly::from(truncated));
            Err(DropReason::EthernetTruncated)
        }
    }
}

/// Bytes of a packet that its first segment has to have, so that all headers are in it: Ethernet, two tags, IPv6 with some
/// extension headers, TCP.
const HEADERS_LEN: usize = 192;

/// Carries the outer header's ECN field over to the key (RFC 6040): rules see the packet as it will be sent on. Says
/// whether it has changed.
#[cold]
fn decap_ecn(key: &mut FlowKey, outer_tos: u8) -> Result<bool, DropReason> {
    let dl_type = key.dl_type.get();
    if dl_type != ETH_IPV4 && dl_type != ETH_IPV6 {
        return Ok(false);
    }
    // A malformed header left the key's fields zero: there is nothing to mark, and nobody said "not capable".
    let words = key.words();
    if words[4] == 0 && key.nw_proto == 0 && key.nw_ttl == 0 && words[8..12] == [0; 4] {
        return Ok(false);
    }
    match ecn_decap(outer_tos, key.nw_tos) {
        EcnDecap::Keep => Ok(false),
        EcnDecap::Drop => Err(DropReason::EcnNotCapable),
        EcnDecap::Set(ecn) => {
            key.nw_tos = key.nw_tos & !ECN_MASK | ecn;
            Ok(true)
        }
    }
}

/// The key and layout of a packet that the slow path made, as if it had come in on `port`.
pub(crate) fn read_packet_out(frame: &[u8], port: PortId, key: &mut FlowKey) -> Option<PacketInfo> {
    clear_tunnel(key);
    key.in_port = u32::from(port.0);
    let parsed = extract(frame, key).ok()?;
    Some(PacketInfo { strip: 0, l3: parsed.l3, l4: parsed.l4, set_ecn: false, len: frame.len() as u32 })
}
