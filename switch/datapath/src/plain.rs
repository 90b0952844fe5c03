//! The short way, stages 2 to 4 in one: a burst of ordinary packets (untagged IPv4 without options or fragments, TCP
//! or UDP) from a port or out of a tunnel whose megaflows look at nothing but addresses, EtherType, protocol, TOS, TTL
//! and ports. No keys are made: these fields are four words, which are taken straight out of the frames, and
//! which are all that masks, the flow cache and tunnel headers need.
//!
//! It is all or nothing. Until every packet is known to have a megaflow with a simple program nothing is changed,
//! and the burst can still go the long way: [`key`](super::key), [`lookup`](super::lookup), [`act`](super::act).

use crate::act::longest_and_sum;
use crate::adjacency::{Adjacencies, Header, InnerIp};
use crate::counters::WorkerCounters;
use crate::key::{Wrapped, unwrap_each};
use crate::programs::{Compiled, Programs};
use crate::{BURST, Batch, Path};
use flow::cache::PlainAnswer;
use flow::hash::{PlainOrigin, plain_flow_hash};
use flow::program::PortId;
use rte::Mbuf;
use wire::ecn::ECN_MASK;
use wire::encap::ENCAP_V4_LEN;
use wire::pattern::FramePattern;
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

    /// Takes a burst of `bytes` bytes from `port`, for which [`Path::takes_plain`], the short way; if that is a vxlan
    /// port, the packets are still `wrapped` in outer headers, which have been read. False when it cannot go there:
    /// nothing has been done then.
    #[inline(never)]
    pub(super) fn plain(
        &mut self,
        batch: &mut Batch,
        port: PortId,
        bytes: u64,
        wrapped: Option<Wrapped>,
    ) -> bool {
        let in_port = u32::from(port.0);
        let count = batch.mbufs.len();
        let (words, lens) = (&mut batch.words[..count], &mut batch.lens[..count]);
        let (hits, programs) = (&mut batch.hits[..count], &mut batch.programs[..count]);
        let mbufs = batch.mbufs.as_slice();
        let frames = match wrapped {
            None => read(mbufs, words, lens, bytes),
            Some(wrapped) => read_wrapped(mbufs, words, lens, wrapped, port),
        };
        let Some(mut frames) = frames else { return false };
        let origin = match wrapped {
            Some(Wrapped { tunnel, .. }) => {
                PlainOrigin { in_port, tun_id: tunnel.vni(), addresses: tunnel.addresses }
            }
            None => PlainOrigin { in_port, tun_id: 0, addresses: 0 },
        };
        match self.lookup.classify_plain(words, origin, hits, programs) {
            Some(answer) => frames.cached = answer == PlainAnswer::Cache,
            None => return false,
        }
        match self.programs.get(programs[0]) {
            Some(Compiled::Output(_)) => self.plain_outputs(batch, frames),
            Some(Compiled::Encap(_)) => self.plain_encaps(batch, frames),
            _ => false,
        }
    }

    /// Every packet is sent as it is.
    #[inline(always)]
    fn plain_outputs(&mut self, batch: &mut Batch, frames: Frames) -> bool {
        let count = batch.mbufs.len();
        let programs = &batch.programs[..count];
        if !programs.iter().all(|program| matches!(self.programs.get(*program), Some(Compiled::Output(_)))) {
            return false;
        }
        start(&self.counters, batch, frames);
        let (programs, lens) = (&batch.programs[..count], &batch.lens[..count]);
        self.lookup.table.account_burst(&batch.hits[..count], lens);
        let mut mbufs = batch.mbufs.drain();
        for (run, lens) in runs(programs, lens) {
            if let Some(&Compiled::Output(port)) = self.programs.get(run[0]) {
                let (longest, bytes) = longest_and_sum(lens);
                self.output_next(port, &mut mbufs, run.len(), longest, bytes);
            }
        }
        true
    }

    /// Every packet gets a header that is ready, and all leave by one port.
    #[inline(always)]
    fn plain_encaps(&mut self, batch: &mut Batch, frames: Frames) -> bool {
        // One counter for all arrays; that it stays below their length the compiler sees.
        let count = batch.mbufs.len().min(BURST);
        let programs = &batch.programs[..count];
        let several = programs.iter().fold(0, |other, program| other | program ^ programs[0]) != 0;
        // A header that is not made yet the long way makes, with the first burst.
        let Some(first) = self.programs.made(programs[0]) else { return false };
        let mut headers = [first; BURST];
        // TOS or TTL of some packets are to go into their outer headers.
        let mut inherits = first.version & Header::INHERITS | u32::from(frames.tos & ECN_MASK);
        if several {
            match self.programs.made_for_one_port(programs, &mut headers) {
                Some(some) => inherits |= some,
                None => return false,
            }
        }
        let mut out = self.tx.to(first.egress, &self.counters);
        if !out.make_room(count, frames.longest + ENCAP_V4_LEN as u32) {
            return false;
        }
        start(&self.counters, batch, frames);
        let Batch { mbufs, words, lens, hits, programs, .. } = batch;
        let (words, lens, programs) = (&words[..count], &lens[..count], &programs[..count]);
        let hits = &hits[..count];
        let mut mbufs = mbufs.drain();
        let rest = &mut mbufs.rest_mut()[..count];
        let (table, counters) = (&mut self.lookup.table, &self.counters);
        if several && inherits == 0 {
            let accounts = table.accounts();
            write_each(rest, &headers, words, hits, |header, len, slot| {
                accounts.add(slot, 1, len.into());
                counters.port(header.tunnel).tx.add(1, len.into());
            });
        } else {
            if inherits == 0 {
                write_each(rest, &headers, words, hits, |_, _, _| {});
            } else {
                write_inheriting(&self.programs, &self.adjacencies, rest, programs, words);
            }
            table.account_burst(hits, lens);
            if several {
                for (header, len) in headers.iter().zip(lens) {
                    counters.port(header.tunnel).tx.add(1, u64::from(*len));
                }
            } else {
                counters.port(first.tunnel).tx.add(count as u64, frames.bytes);
            }
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
        counters.port(tunnel).rx.add(count, frames.bytes);
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

/// Writes a header of its own in front of each frame, for packets without congestion marks, and says of each the header,
/// how long the frame is, and its slot.
#[inline(always)]
fn write_each(
    mbufs: &mut [Mbuf],
    headers: &[&Header; BURST],
    words: &[PlainWords],
    hits: &[u32],
    sent: impl Fn(&Header, u16, u32),
) {
    for (((mbuf, header), words), slot) in mbufs.iter_mut().zip(headers).zip(words).zip(hits) {
        let len = mbuf.data_len() as u16;
        if let Some(room) = mbuf.prepend_array() {
            header.write_plain(room, len, plain_flow_hash(words));
            sent(header, len, *slot);
        }
    }
}

/// The same for headers that take TOS or TTL from the packets.
#[cold]
#[inline(never)]
fn write_inheriting(
    all: &Programs,
    adjacencies: &Adjacencies,
    mbufs: &mut [Mbuf],
    programs: &[u32],
    words: &[PlainWords],
) {
    for ((mbuf, program), words) in mbufs.iter_mut().zip(programs).zip(words) {
        let len = mbuf.data_len() as u16;
        if let Some(header) = all.made(*program)
            && let Some(&Compiled::Encap(encap)) = all.get(*program)
            && let Some(room) = mbuf.prepend_array()
        {
            let of = || adjacencies.get(encap.adjacency).map(|adjacency| (adjacency, encap.vni));
            header.write(room, len, plain_flow_hash(words), InnerIp::plain(words), of);
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
    /// TOS bits that one of them has set.
    tos: u8,
    /// The vxlan port whose outer headers they still have.
    tunnel: Option<PortId>,
    /// The flow cache knew them all.
    cached: bool,
}

/// Reads the frames of a burst, of `bytes` bytes together; `None` when one of them is not ordinary, or has no room for
/// outer headers.
#[inline(never)]
fn read(mbufs: &[Mbuf], words: &mut [PlainWords], lens: &mut [u32], bytes: u64) -> Option<Frames> {
    let count = mbufs.len().min(words.len()).min(lens.len());
    let frame = |at: usize| {
        let mbuf = &mbufs[at];
        (mbuf.segment_count() == 1 && mbuf.headroom() >= ENCAP_V4_LEN).then(|| mbuf.data())
    };
    let (mut longest, mut all) = (0, 0);
    read_each(count, frame, |at, frame, read| {
        (words[at], lens[at]) = (read, frame.len() as u32);
        longest = longest.max(frame.len() as u32);
        all |= read[3];
    })?;
    Some(Frames { bytes, longest, tos: plain_tos(&[0, 0, 0, all]), tunnel: None, cached: false })
}

/// [`read`] for frames from the vxlan port `tunnel` inside of outer headers, which take the room of what will take their
/// place; `lens` has their lengths.
#[inline(never)]
fn read_wrapped(
    mbufs: &[Mbuf],
    words: &mut [PlainWords],
    lens: &[u32],
    wrapped: Wrapped,
    tunnel: PortId,
) -> Option<Frames> {
    let count = mbufs.len().min(words.len()).min(lens.len());
    let frame = |at: usize| mbufs[at].data().get(PLAIN_HEADERS..)?.get(..lens[at] as usize);
    let mut all = 0;
    read_each(count, frame, |at, _, read| {
        words[at] = read;
        all |= read[3];
    })?;
    let (bytes, longest) = (wrapped.bytes, wrapped.longest);
    Some(Frames { bytes, longest, tos: plain_tos(&[0, 0, 0, all]), tunnel: Some(tunnel), cached: false })
}

/// Reads `count` frames: as long as they are like the first, by its pattern, and from there on each by itself, so that a
/// burst of all sorts loses next to nothing. `None` when one of them is not ordinary.
#[inline(always)]
fn read_each<'a>(
    count: usize,
    frame: impl Fn(usize) -> Option<&'a [u8]>,
    mut take: impl FnMut(usize, &'a [u8], PlainWords),
) -> Option<()> {
    let pattern = FramePattern::new(frame(0)?)?;
    let mut alike = 0;
    while alike < count {
        let frame = frame(alike)?;
        let Some(words) = pattern.read(frame) else { break };
        take(alike, frame, words);
        alike += 1;
    }
    for at in alike..count {
        let frame = frame(at)?;
        take(at, frame, plain_words(frame)?);
    }
    Some(())
}
