//! The short way, stages 2 to 4 in one: a burst of ordinary packets (untagged IPv4 without options or fragments, TCP
//! or UDP) from a port or out of a tunnel whose megaflows look at nothing but addresses, EtherType, protocol, TOS, TTL
//! and ports. No keys are made: these fields are four words, which are taken straight out of the frames, and
//! which are all that masks, the flow cache and tunnel headers need.
//!
//! It is all or nothing. Until every packet is known to have a megaflow with a simple program nothing is changed,
//! and the burst can still go the long way: [`key`](super::key), [`lookup`](super::lookup), [`act`](super::act).

use super::act::{Compiled, longest_and_sum};
use super::adjacency::{Header, InnerIp};
use super::counters::WorkerCounters;
use super::key::unwrap_each;
use super::{BURST, Batch, Path};
use flow::cache::PlainAnswer;
use flow::hash::{PlainOrigin, plain_flow_hash};
use flow::program::PortId;
use rte::Mbuf;
use wire::ecn::ECN_MASK;
use wire::encap::ENCAP_V4_LEN;
use wire::plain::{PLAIN_HEADERS, PlainWords, plain_tos, plain_words};

/// Bursts that go the long way at once after so many in a row that had to, at most.
const MAX_SKIP: u8 = 32;

/// Which bursts of a port are not even tried: trying costs, and a port with other traffic keeps having it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    skip: u8,
    failed: u8,
}

impl Tries {
    /// Whether the next burst is worth a try.
    #[inline(always)]
    pub(super) fn next(&mut self) -> bool {
        if self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    /// Whether the burst could go the short way.
    #[inline(always)]
    pub(super) fn note(&mut self, went: bool) {
        self.failed = if went { 0 } else { (self.failed * 2 + 1).min(MAX_SKIP) };
        self.skip = self.failed;
    }
}

impl Path {
    /// Whether the short way may be open to packets from `port`: not while flows from there wait for decisions, which
    /// later packets of theirs must stay behind.
    #[inline(always)]
    pub(super) fn takes_plain(&self, port: PortId) -> bool {
        let in_port = u32::from(port.0);
        self.lookup.takes_plain(in_port) && !self.pending.holds(in_port)
    }

    /// Takes a burst from `port`, for which [`Path::takes_plain`], the short way; if that is a vxlan port, the packets are still `wrapped` in outer headers,
    /// which have been read. False when it cannot go there: nothing has been done then.
    #[inline(never)]
    pub(super) fn plain(&mut self, batch: &mut Batch, port: PortId, wrapped: bool) -> bool {
        let in_port = u32::from(port.0);
        let count = batch.mbufs.len();
        let (words, lens) = (&mut batch.words[..count], &mut batch.lens[..count]);
        let (hits, programs) = (&mut batch.hits[..count], &mut batch.programs[..count]);
        let mbufs = batch.mbufs.as_slice();
        let frames = if wrapped { read_wrapped(mbufs, words, lens) } else { read(mbufs, words, lens) };
        let Some(mut frames) = frames else { return false };
        let origin = if wrapped {
            let tunnel = batch.unkeyed[0].tunnel;
            PlainOrigin { in_port, tun_id: tunnel.vni(), addresses: tunnel.addresses }
        } else {
            PlainOrigin { in_port, tun_id: 0, addresses: 0 }
        };
        match self.lookup.classify_plain(words, origin, hits, programs) {
            Some(answer) => frames.cached = answer == PlainAnswer::Cache,
            None => return false,
        }
        frames.tunnel = Some(port).filter(|_| wrapped);
        let several = programs.iter().fold(0, |other, program| other | program ^ programs[0]) != 0;
        match self.programs.get(programs[0] as usize) {
            Some(Some(Compiled::Output(_))) => self.plain_outputs(batch, frames),
            Some(Some(Compiled::Encap(_, _))) => self.plain_encaps(batch, frames, several),
            _ => false,
        }
    }

    /// Every packet is sent as it is.
    #[inline(always)]
    fn plain_outputs(&mut self, batch: &mut Batch, frames: Frames) -> bool {
        let count = batch.mbufs.len();
        let programs = &batch.programs[..count];
        let output = |program: &u32| match self.programs.get(*program as usize) {
            Some(Some(Compiled::Output(port))) => Some(*port),
            _ => None,
        };
        if !programs.iter().all(|program| output(program).is_some()) {
            return false;
        }
        start(&self.counters, batch, frames);
        let (programs, lens) = (&batch.programs[..count], &batch.lens[..count]);
        self.lookup.table.account_burst(&batch.hits[..count], lens);
        let mut mbufs = batch.mbufs.drain();
        for (run, lens) in runs(programs, lens) {
            if let Some(Some(Compiled::Output(port))) = self.programs.get(run[0] as usize) {
                let (longest, bytes) = longest_and_sum(lens);
                self.output_next(*port, &mut mbufs, run.len(), longest, bytes);
            }
        }
        true
    }

    /// Every packet gets a header that is ready, and all leave by one port.
    #[inline(always)]
    fn plain_encaps(&mut self, batch: &mut Batch, frames: Frames, several: bool) -> bool {
        // One counter for all arrays; that it stays below their length the compiler sees.
        let count = batch.mbufs.len().min(BURST);
        let programs = &batch.programs[..count];
        if !several && let Some(Some(Compiled::Encap(id, vni))) = self.programs.get(programs[0] as usize) {
            // With many VNIs to one remote the header is now for this one, now for that one.
            let _ = self.adjacencies.header(*id, *vni);
        }
        // TOS or TTL of some packets are to go into their outer headers.
        let mut inherits = frames.tos & ECN_MASK != 0;
        let mut header = |program: u32| match self.programs.get(program as usize) {
            Some(Some(Compiled::Encap(id, vni))) => self.adjacencies.plain(*id, *vni).or_else(|| {
                inherits = true;
                self.adjacencies.made(*id, *vni)
            }),
            _ => None,
        };
        let Some(first) = header(programs[0]) else { return false };
        let mut headers = [first; BURST];
        let mut other = 0;
        if several {
            for i in 0..count {
                let Some(found) = header(programs[i]) else { return false };
                headers[i] = found;
                other |= found.egress.0 ^ first.egress.0;
            }
        }
        if other != 0 || frames.headroom < ENCAP_V4_LEN {
            return false;
        }
        let mut out = self.tx.to(first.egress, &self.counters);
        if !out.make_room(count, frames.longest + ENCAP_V4_LEN as u32) {
            return false;
        }
        start(&self.counters, batch, frames);
        let Batch { mbufs, words, lens, hits, programs, .. } = batch;
        let (words, lens, programs) = (&words[..count], &lens[..count], &programs[..count]);
        let mut mbufs = mbufs.drain();
        if inherits {
            for (((mbuf, words), len), program) in
                mbufs.rest_mut().iter_mut().zip(words).zip(lens).zip(programs)
            {
                if let Some(Some(Compiled::Encap(id, vni))) = self.programs.get(*program as usize)
                    && let (Some(header), adjacency) =
                        (self.adjacencies.made(*id, *vni), self.adjacencies.get(*id))
                    && let Some(room) = mbuf.prepend_array()
                {
                    let (flow_hash, inner) = (plain_flow_hash(words), InnerIp::plain(words));
                    header.write(room, *len as u16, flow_hash, inner, || adjacency);
                }
            }
        } else {
            write_each(&mut mbufs.rest_mut()[..count], &headers, words);
        }
        if several {
            self.lookup.table.account_each(&hits[..count], lens);
            for (header, len) in headers.iter().zip(lens) {
                let counters = self.counters.port(header.tunnel);
                counters.tx_packets.add(1);
                counters.tx_bytes.add(u64::from(*len));
            }
        } else {
            self.lookup.table.account_burst(&hits[..count], lens);
            let counters = self.counters.port(first.tunnel);
            counters.tx_packets.add(count as u64);
            counters.tx_bytes.add(frames.bytes);
        }
        out.stage_next(&mut mbufs, count, frames.bytes + count as u64 * ENCAP_V4_LEN as u64);
        true
    }
}

/// There is no way back any more: takes off the outer headers, and counts the packets.
#[inline(always)]
fn start(counters: &WorkerCounters, batch: &mut Batch, frames: Frames) {
    let count = batch.mbufs.len() as u64;
    if frames.cached { &counters.cache_hits } else { &counters.megaflow_hits }.add(count);
    counters.keyless.add(count);
    if let Some(tunnel) = frames.tunnel {
        counters.port(tunnel).rx_packets.add(count);
        counters.port(tunnel).rx_bytes.add(frames.bytes);
        unwrap_each(batch.mbufs.as_mut_slice(), &batch.unkeyed);
    }
}

/// Consecutive packets of one program, with their lengths.
#[inline(always)]
fn runs<'a>(programs: &'a [u32], lens: &'a [u32]) -> impl Iterator<Item = (&'a [u32], &'a [u32])> {
    let mut lens = lens;
    programs.chunk_by(|a, b| a == b).map(move |run| {
        let (of_run, rest) = lens.split_at(run.len());
        lens = rest;
        (run, of_run)
    })
}

/// Writes a header of its own in front of each frame, for packets without congestion marks.
#[inline(never)]
fn write_each(mbufs: &mut [Mbuf], headers: &[&Header; BURST], words: &[PlainWords]) {
    for ((mbuf, header), words) in mbufs.iter_mut().zip(headers).zip(words) {
        let len = mbuf.data_len() as u16;
        if let Some(room) = mbuf.prepend_array() {
            header.write_plain(room, len, plain_flow_hash(words));
        }
    }
}

/// What is known of the frames of a burst together.
#[derive(Debug, Clone, Copy)]
struct Frames {
    /// Sum of their lengths in bytes.
    bytes: u64,
    /// Length in bytes of the longest.
    longest: u32,
    /// Bytes free in front of each.
    headroom: usize,
    /// TOS bits that one of them has set.
    tos: u8,
    /// The vxlan port whose outer headers they still have.
    tunnel: Option<PortId>,
    /// The flow cache knew them all.
    cached: bool,
}

/// Reads the frames of a burst; `None` when one of them is not ordinary.
#[inline(never)]
fn read(mbufs: &[Mbuf], words: &mut [PlainWords], lens: &mut [u32]) -> Option<Frames> {
    let (mut bytes, mut longest, mut headroom, mut tos) = (0, 0, usize::MAX, 0);
    let count = mbufs.len().min(words.len()).min(lens.len());
    for i in 0..count {
        let mbuf = &mbufs[i];
        let inner = plain_words(mbuf.data()).filter(|_| mbuf.segment_count() == 1)?;
        let len = mbuf.data_len() as u32;
        (words[i], lens[i]) = (inner, len);
        bytes += u64::from(len);
        longest = longest.max(len);
        headroom = headroom.min(mbuf.headroom());
        tos |= plain_tos(&inner);
    }
    Some(Frames { bytes, longest, headroom, tos, tunnel: None, cached: false })
}

/// [`read`] for frames inside of outer headers; `lens` has their lengths.
#[inline(never)]
fn read_wrapped(mbufs: &[Mbuf], words: &mut [PlainWords], lens: &[u32]) -> Option<Frames> {
    let (mut bytes, mut longest, mut tos) = (0, 0, 0);
    for ((mbuf, words), len) in mbufs.iter().zip(words).zip(lens) {
        let frame = mbuf.data().get(PLAIN_HEADERS..)?.get(..*len as usize)?;
        *words = plain_words(frame)?;
        bytes += u64::from(*len);
        longest = longest.max(*len);
        tos |= plain_tos(words);
    }
    // What they are in takes the room of what will take its place.
    Some(Frames { bytes, longest, headroom: PLAIN_HEADERS, tos, tunnel: None, cached: false })
}
