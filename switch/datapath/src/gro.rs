//! Coalescing of TCP segments (GRO), for ports that are told to: the segments of a connection that come in one burst become one
//! large packet, as the kernel's taps give them. Nothing waits for the next burst.
//!
//! It works between parse and lookup, so that what comes out of a tunnel is coalesced by its inner headers. What [`wire::gro`]
//! lets together, [`crate::gso`] divides into the same packets again.

use crate::BURST;
use crate::batch::{Batch, BatchMeta, OuterLen};
use crate::counters::WorkerCounters;
use crate::offload;
use rte::offload::{
    RX_L4_CKSUM_GOOD, TX_IPV4, TX_IPV6, TX_OUTER_IPV4, TX_OUTER_IPV6, TX_TCP_CKSUM, TX_TCP_SEG,
    TX_TUNNEL_GRE, TX_TUNNEL_UDP, TxOffload,
};
use rte::{Burst, Mbuf};
use wire::gro::{self, Received, Segment};
use wire::proto::IP_UDP;
use wire::tunnel::outer::{has_same_outer, peek};

/// Longest packet, with its Ethernet header: what an IP length can say, and what an mbuf's request for an offload can.
const MAX_LEN: u32 = 65_535;
/// Longest way from the outer transport header to the inner network header that a request can tell.
const MAX_INNER_L2: usize = 0x7f;

/// A packet that others may become a part of.
#[derive(Clone, Copy)]
struct Head {
    /// Its number in the burst.
    at: usize,
    segment: Segment,
    /// What it requests when it is large.
    request: (u64, TxOffload),
    /// What the next one has.
    next_seq: u32,
    next_id: u16,
    /// Bytes of payload so far.
    len: usize,
    /// Others are a part of it already, so its checksum has been verified.
    is_verified: bool,
    push: bool,
    /// It takes no more.
    closed: bool,
}

/// Coalesces the packets of a burst whose outer headers have been read.
#[cold]
#[inline(never)]
pub(crate) fn coalesce(batch: &mut Batch, counters: &WorkerCounters) {
    let Batch { mbufs, meta } = batch;
    let mut heads = [None; BURST];
    let mut count = 0;
    // The head that each packet becomes a part of.
    let mut part_of = [None; BURST];
    for (at, mbuf) in mbufs.iter().enumerate().take(BURST) {
        if let Some(head) = find_head(mbufs.as_slice(), meta, &mut heads[..count], (at, mbuf)) {
            part_of[at] = Some(head);
        } else if let Some(head) = new_head(mbuf, meta, at) {
            heads[count] = Some(head);
            count += 1;
        }
    }
    if part_of.iter().all(Option::is_none) {
        return;
    }
    merge(batch, &heads[..count], &part_of);
    counters.merged.add(part_of.iter().flatten().count() as u64);
}

/// The frame's bytes in the first segment of its mbuf, behind outer headers.
fn frame<'m>(mbuf: &'m Mbuf, meta: &BatchMeta, at: usize) -> &'m [u8] {
    let strip = usize::from(meta.outer(at).strip);
    mbuf.data().get(strip..).unwrap_or(&[])
}

fn read(mbuf: &Mbuf, meta: &BatchMeta, at: usize) -> Received {
    match gro::read(frame(mbuf, meta, at), meta.lens[at] as usize) {
        // What asks for something, or is of several pieces, is large already.
        Received::Segment(of) if offload::is_requested(mbuf) || mbuf.segment_count() > 1 => {
            Received::Alone(of)
        }
        received => received,
    }
}

fn new_head(mbuf: &Mbuf, meta: &BatchMeta, at: usize) -> Option<Head> {
    let Received::Segment(segment) = read(mbuf, meta, at) else { return None };
    Some(Head {
        at,
        segment,
        request: request(mbuf, meta.outer(at).strip.into(), &segment)?,
        next_seq: segment.seq.wrapping_add(segment.len as u32),
        next_id: segment.id.wrapping_add(1),
        len: segment.len,
        is_verified: false,
        push: segment.push,
        closed: segment.push,
    })
}

/// Finds the packet before this one that it is to become a part of, by number among `heads`. Heads of its connection that it does
/// not continue take no more: a packet must not get in front of another.
fn find_head(
    mbufs: &[Mbuf],
    meta: &BatchMeta,
    heads: &mut [Option<Head>],
    (at, mbuf): (usize, &Mbuf),
) -> Option<usize> {
    let (segment, may_join) = match read(mbuf, meta, at) {
        Received::Segment(segment) => (segment, true),
        Received::Alone(segment) => (segment, false),
        Received::Other => return None,
        Received::Unknown => {
            heads.iter_mut().flatten().for_each(|head| head.closed = true);
            return None;
        }
    };
    let this = (frame(mbuf, meta, at), &segment);
    let mut joined = None;
    for (number, head) in heads.iter_mut().enumerate().filter_map(|(n, head)| Some((n, head.as_mut()?))) {
        if head.closed {
            continue;
        }
        let before = &mbufs[head.at];
        let of = head.segment;
        let first = (frame(before, meta, head.at), &of);
        if !gro::is_one_connection(first, this) || meta.in_port(head.at) != meta.in_port(at) {
            continue;
        }
        if may_join
            && joined.is_none()
            && continues(head, &segment, meta)
            && gro::has_same_headers(first, this)
            && has_same_tunnel((before, meta.outer(head.at)), (mbuf, meta.outer(at)))
            && is_intact(mbuf, this)
            && (head.is_verified || is_intact(before, first))
        {
            head.is_verified = true;
            head.next_seq = head.next_seq.wrapping_add(segment.len as u32);
            head.next_id = head.next_id.wrapping_add(1);
            head.len += segment.len;
            head.push = segment.push;
            head.closed = segment.push || segment.len < head.segment.len;
            joined = Some(number);
        } else {
            head.closed = true;
        }
    }
    joined
}

/// Whether a segment is the next one of a large packet that has room for it.
fn continues(head: &Head, segment: &Segment, meta: &BatchMeta) -> bool {
    let len = meta.lens[head.at] as usize - head.segment.len + head.len + segment.len;
    segment.seq == head.next_seq
        && (segment.is_ipv6 || segment.id == head.next_id)
        && segment.len <= head.segment.len
        && len <= MAX_LEN as usize
}

/// Whether two packets came out of one tunnel by the same header, or out of none.
fn has_same_tunnel((a, outer_a): (&Mbuf, OuterLen), (b, outer_b): (&Mbuf, OuterLen)) -> bool {
    if outer_a.strip != outer_b.strip {
        return false;
    }
    let strip = usize::from(outer_a.strip);
    strip == 0
        || match (a.data().get(..strip), b.data().get(..strip)) {
            (Some(a), Some(b)) => has_same_outer(a, b),
            _ => false,
        }
}

fn is_intact(mbuf: &Mbuf, (frame, of): (&[u8], &Segment)) -> bool {
    // What the device says is about the outermost header.
    let is_plain = frame.len() == mbuf.data_len();
    is_plain && mbuf.ol_flags() & RX_L4_CKSUM_GOOD != 0 || gro::is_intact(frame, of)
}

/// What a large packet with this first segment requests, behind outer headers of `strip` bytes; `None` when that cannot be said.
fn request(mbuf: &Mbuf, strip: usize, of: &Segment) -> Option<(u64, TxOffload)> {
    let family = if of.is_ipv6 { TX_IPV6 } else { TX_IPV4 };
    let lengths = TxOffload {
        l2_len: of.l3 as u8,
        l3_len: (of.l4 - of.l3) as u16,
        l4_len: (of.payload - of.l4) as u8,
        segment_size: of.len as u16,
        ..TxOffload::default()
    };
    let flags = TX_TCP_SEG | TX_TCP_CKSUM | family;
    if strip == 0 {
        return Some((flags, lengths));
    }
    let outer = peek(mbuf.data())?;
    let l2_len = strip.checked_sub(outer.l4.into())? + of.l3;
    let tunnel = if outer.transport.protocol == IP_UDP { TX_TUNNEL_UDP } else { TX_TUNNEL_GRE };
    let family = if outer.dst.is_ipv6() { TX_OUTER_IPV6 } else { TX_OUTER_IPV4 };
    let lengths = TxOffload {
        l2_len: l2_len as u8,
        outer_l2_len: outer.l3 as u8,
        outer_l3_len: outer.l4 - outer.l3,
        ..lengths
    };
    (l2_len <= MAX_INNER_L2).then_some((flags | tunnel | family, lengths))
}

/// Puts the packets together that were found to be parts of others.
fn merge(batch: &mut Batch, heads: &[Option<Head>], part_of: &[Option<usize>; BURST]) {
    let mut parts = Burst::<BURST>::new();
    // The head of each part, and its bytes of payload; the place of each packet that stays.
    let mut of_part = [(0, 0); BURST];
    let (mut places, mut kept) = ([0; BURST], 0);
    batch.retain(|at, mut mbuf, meta| {
        let Some(number) = part_of[at] else {
            (places[at], kept) = (kept, kept + 1);
            return Some(mbuf);
        };
        if let Some(head) = heads[number] {
            let skip = usize::from(meta.outer(at).strip) + head.segment.payload;
            let len = meta.lens[at] as usize - head.segment.payload;
            of_part[parts.len()] = (number, len);
            // Neither can fail: the headers are there, and there is room for a burst.
            let _ = mbuf.adj(skip) && mbuf.trim(mbuf.len() as usize - len) && parts.push(mbuf).is_ok();
        }
        None
    });
    let Batch { mbufs, meta } = batch;
    for head in heads.iter().flatten().filter(|head| head.is_verified) {
        let at = places[head.at];
        if let Some(mbuf) = mbufs.get_mut(at) {
            become_large(mbuf, meta, at, head);
        }
    }
    for ((number, _), part) in of_part.into_iter().zip(parts.drain()) {
        let place = heads[number].map(|head| places[head.at]);
        if let Some(first) = place.and_then(|at| mbufs.get_mut(at)) {
            // Cannot fail: a burst is no long chain.
            let _ = first.chain(part);
        }
    }
    (meta.linear, meta.has_offloads) = (false, true);
}

/// Makes the headers of a packet, and what is known of it, those of the large one that begins with it.
fn become_large(mbuf: &mut Mbuf, meta: &mut BatchMeta, at: usize, head: &Head) {
    let OuterLen { strip, .. } = meta.outer(at);
    let len = meta.lens[at] as usize;
    let (flags, lengths) = head.request;
    mbuf.set_offload(flags, lengths);
    // Cannot fail: what is behind the frame is padding.
    let _ = mbuf.trim(mbuf.len() as usize - usize::from(strip) - len);
    if let Some(frame) = mbuf.data_mut().get_mut(strip.into()..) {
        gro::write(frame, &head.segment, head.len, head.push);
    }
    let grown = head.len - head.segment.len;
    meta.lens[at] += grown as u32;
    meta.bytes += grown as u64;
    meta.outers[at].trailing = 0;
    if meta.keyed & 1 << at != 0 {
        meta.infos[at].len += grown as u32;
        if head.push {
            meta.keys[at].tcp_flags = (meta.keys[at].tcp_flags.get() | gro::PSH).into();
        }
    }
}
