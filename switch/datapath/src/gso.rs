//! Segmentation in software (GSO): a large packet becomes packets of its segment size, in mbufs of their own.
//!
//! The headers are [`wire::gso`]'s. The payload is copied, which is also when it is summed up for the checksums.

use crate::counters::WorkerCounters;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::offload::{TX_OUTER_UDP_CKSUM, TX_TCP_SEG, TX_TUNNEL_GRE, TX_TUNNEL_MASK, TX_UDP_SEG, TxOffload};
use rte::{Mbuf, Mempool};
use wire::checksum::Sum;
use wire::gso::{Layout, Segment, Segmenter, Tunnel};

/// Most packets that one becomes: 64 KiB in segments of 48 bytes, TCP's smallest in Linux, are less.
pub const MAX_SEGMENTS: usize = 2048;

/// Whether the packet is to be divided.
#[inline]
pub fn is_large(mbuf: &Mbuf) -> bool {
    mbuf.ol_flags() & (TX_TCP_SEG | TX_UDP_SEG) != 0
}

/// From the packet's start to the payload that is divided.
fn header_len(lengths: TxOffload) -> usize {
    lengths.transport_start() + usize::from(lengths.l4_len)
}

/// Bytes of the longest packet that this one becomes when it is divided.
pub(crate) fn segment_len(mbuf: &Mbuf) -> u32 {
    let lengths = mbuf.tx_offload();
    (header_len(lengths) as u32 + u32::from(lengths.segment_size)).min(mbuf.len())
}

/// How many packets this one becomes at last.
pub(crate) fn count(mbuf: &Mbuf) -> usize {
    let lengths = mbuf.tx_offload();
    if !is_large(mbuf) || lengths.segment_size == 0 {
        return 1;
    }
    (mbuf.len() as usize).saturating_sub(header_len(lengths)).div_ceil(lengths.segment_size.into()).max(1)
}

/// What became of a packet that was to be divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "packets are counted"]
pub struct Made {
    /// Segments.
    pub count: usize,
    /// Why there are no more, where there should be.
    pub failed: Option<DropReason>,
}

impl Made {
    /// Whether all of the packet is there.
    pub(crate) fn is_complete(self) -> bool {
        self.failed.is_none()
    }

    /// Counts the segments of `mbuf` as packets, so that what comes in is what goes out: one of them is the packet itself,
    /// unless that was dropped.
    pub(crate) fn count(self, (in_port, mbuf): (PortId, &Mbuf), counters: &WorkerCounters) {
        if let Some(reason) = self.failed {
            counters.drop_packet(in_port, reason, mbuf);
            counters.copied.add(self.count as u64);
        } else {
            counters.copied.add(self.count.saturating_sub(1) as u64);
        }
    }
}

/// Divides a packet: gives `emit` each segment, which requests nothing more, in order.
pub fn segment(mbuf: &Mbuf, pool: &Mempool, mut emit: impl FnMut(Mbuf)) -> Made {
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    let failed = |count, reason| Made { count, failed: Some(reason) };
    let size = usize::from(lengths.segment_size);
    let Ok(segmenter) = Segmenter::new(mbuf.data(), mbuf.len() as usize, layout(flags, lengths)) else {
        return failed(0, DropReason::Offload);
    };
    let payload_len = segmenter.payload_len();
    if size == 0 || payload_len.div_ceil(size) > MAX_SEGMENTS {
        return failed(0, DropReason::Offload);
    }
    let mut payload = Reader::new(mbuf.segments(), header_len(lengths));
    let (mut index, mut offset) = (0, 0);
    while offset < payload_len {
        let len = size.min(payload_len - offset);
        let Some(made) = one(&segmenter, (index, offset, len), &mut payload, pool) else {
            return failed(index, DropReason::NoMbuf);
        };
        emit(made);
        index += 1;
        offset += len;
    }
    Made { count: index, failed: None }
}

fn layout(flags: u64, lengths: TxOffload) -> Layout {
    let l4 = lengths.transport_start();
    let tunnel = (flags & TX_TUNNEL_MASK != 0).then(|| Tunnel {
        l3: lengths.outer_l2_len.into(),
        l4: usize::from(lengths.outer_l2_len) + usize::from(lengths.outer_l3_len),
        is_udp: flags & TX_TUNNEL_MASK != TX_TUNNEL_GRE,
        udp_checksum: flags & TX_OUTER_UDP_CKSUM != 0,
    });
    Layout {
        tunnel,
        l3: l4 - usize::from(lengths.l3_len),
        l4,
        payload: header_len(lengths),
        is_tcp: flags & TX_TCP_SEG != 0,
    }
}

/// One segment; `None` when the pool has no mbuf, or its mbufs no room for the headers.
fn one<'a>(
    segmenter: &Segmenter<'_>,
    (index, offset, len): (usize, usize, usize),
    payload: &mut Reader<'a, impl Iterator<Item = &'a [u8]>>,
    pool: &Mempool,
) -> Option<Mbuf> {
    let header = segmenter.header();
    let mut first = pool.alloc()?;
    let mut left = len;
    let here = first.tailroom().checked_sub(header.len())?.min(left);
    let room = first.append(header.len() + here)?;
    let (head, body) = room.split_at_mut(header.len());
    head.copy_from_slice(header);
    let mut sum = payload.copy(body, Sum::ZERO, false);
    left -= here;
    while left > 0 {
        let mut next = pool.alloc()?;
        let here = next.tailroom().min(left);
        sum = payload.copy(next.append(here)?, sum, (len - left) % 2 == 1);
        left -= here;
        first.chain(next).ok()?;
    }
    let segment = Segment { index, offset, len, sum };
    segmenter.write(first.data_mut().get_mut(..header.len())?, &segment);
    Some(first)
}

/// A packet's bytes, from a place on.
struct Reader<'a, I> {
    now: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Reader<'a, I> {
    fn new(mut rest: I, skip: usize) -> Reader<'a, I> {
        let now = rest.next().and_then(|first| first.get(skip..)).unwrap_or(&[]);
        Reader { now, rest }
    }

    /// Fills `out` with the next bytes and adds them to a sum, behind an `odd` number of bytes or an even one.
    fn copy(&mut self, out: &mut [u8], sum: Sum, odd: bool) -> Sum {
        let mut done = 0;
        while done < out.len() {
            if self.now.is_empty() {
                let Some(next) = self.rest.next() else { break };
                self.now = next;
                continue;
            }
            let here = self.now.len().min(out.len() - done);
            let (from, behind) = self.now.split_at(here);
            out[done..done + here].copy_from_slice(from);
            (self.now, done) = (behind, done + here);
        }
        sum.append(out, odd)
    }
}
