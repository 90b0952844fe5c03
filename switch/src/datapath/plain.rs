//! The short way, stages 2 to 4 in one: a burst of ordinary packets (untagged IPv4 without options or fragments, TCP
//! or UDP) from a port where one mask decides about all of them. No keys are made: what the mask looks at is
//! taken straight out of the frames, as is what tunnel headers need.
//!
//! It is all or nothing. Until every packet is known to have a megaflow with a simple program nothing is changed,
//! and the burst can still go the long way: [`key`](super::key), [`lookup`](super::lookup), [`act`](super::act).

use super::act::{Compiled, longest_and_sum};
use super::adjacency::{Header, InnerIp};
use super::{BURST, Batch, Path};
use flow::hash::plain_words_hash;
use flow::megaflow::PlainWords;
use flow::program::PortId;
use rte::Mbuf;
use wire::ecn::ECN_MASK;
use wire::encap::ENCAP_V4_LEN;
use wire::plain::PlainInner;

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
    /// Takes a burst from `port` the short way. False when it cannot go there: nothing has been done then.
    #[inline(never)]
    pub(super) fn plain(&mut self, batch: &mut Batch, port: PortId) -> bool {
        let in_port = u32::from(port.0);
        if self.pending.holds(in_port) {
            return false;
        }
        let count = batch.mbufs.len();
        let (words, lens) = (&mut batch.words[..count], &mut batch.lens[..count]);
        let (hits, programs) = (&mut batch.hits[..count], &mut batch.programs[..count]);
        let Some(frames) = read(batch.mbufs.as_slice(), words, lens) else { return false };
        if !self.lookup.classify_plain(words, in_port, hits, programs) {
            return false;
        }
        let several = programs.iter().fold(0, |other, program| other | program ^ programs[0]) != 0;
        let Some(first) = self.programs.get(programs[0] as usize).and_then(Option::as_ref) else {
            return false;
        };
        match *first {
            Compiled::Output(_) => self.plain_outputs(batch),
            Compiled::Encap(_, _) => self.plain_encaps(batch, frames, several),
            _ => false,
        }
    }

    /// Every packet is sent as it is.
    #[inline(always)]
    fn plain_outputs(&mut self, batch: &mut Batch) -> bool {
        let count = batch.mbufs.len();
        let (programs, lens) = (&batch.programs[..count], &batch.lens[..count]);
        let output = |program: &u32| match self.programs.get(*program as usize) {
            Some(Some(Compiled::Output(port))) => Some(*port),
            _ => None,
        };
        if !programs.iter().all(|program| output(program).is_some()) {
            return false;
        }
        self.plain_count(batch);
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
        let Batch { mbufs, words, lens, hits, programs, .. } = batch;
        let (words, lens, programs) = (&words[..count], &lens[..count], &programs[..count]);
        let header = |program: u32| match self.programs.get(program as usize) {
            Some(Some(Compiled::Encap(id, vni))) => self.adjacencies.plain(*id, *vni),
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
        let mut out = self.tx.to(first.egress, &self.counters);
        let longest = frames.longest + ENCAP_V4_LEN as u32;
        if other != 0 || frames.headroom < ENCAP_V4_LEN || !out.has_room(count, longest) {
            return false;
        }
        self.counters.megaflow_hits.add(count as u64);
        let mut mbufs = mbufs.drain();
        if frames.tos & ECN_MASK != 0 {
            for (((mbuf, words), len), program) in
                mbufs.rest_mut().iter_mut().zip(words).zip(lens).zip(programs)
            {
                if let Some(Some(Compiled::Encap(id, vni))) = self.programs.get(*program as usize)
                    && let (Some(header), adjacency) =
                        (self.adjacencies.made(*id, *vni), self.adjacencies.get(*id))
                    && let Some(room) = mbuf.prepend_array()
                {
                    let (flow_hash, inner) = (plain_words_hash(words), InnerIp::plain(words));
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

    /// Counts the packets for their megaflows: from here on there is no way back.
    #[inline(always)]
    fn plain_count(&mut self, batch: &Batch) {
        let count = batch.mbufs.len();
        self.lookup.table.account_burst(&batch.hits[..count], &batch.lens[..count]);
        self.counters.megaflow_hits.add(count as u64);
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
            header.write_plain(room, len, plain_words_hash(words));
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
}

/// Reads the frames of a burst; `None` when one of them is not ordinary.
#[inline(never)]
fn read(mbufs: &[Mbuf], words: &mut [PlainWords], lens: &mut [u32]) -> Option<Frames> {
    let (mut bytes, mut longest, mut headroom, mut bits) = (0, 0, usize::MAX, 0);
    let count = mbufs.len().min(words.len()).min(lens.len());
    for i in 0..count {
        let mbuf = &mbufs[i];
        let inner = PlainInner::read(mbuf.data()).filter(|_| mbuf.segment_count() == 1)?;
        let len = mbuf.data_len() as u32;
        (words[i], lens[i]) = (inner.words, len);
        bytes += u64::from(len);
        longest = longest.max(len);
        headroom = headroom.min(mbuf.headroom());
        bits |= inner.words[3];
    }
    Some(Frames { bytes, longest, headroom, tos: (bits >> 40) as u8 })
}
