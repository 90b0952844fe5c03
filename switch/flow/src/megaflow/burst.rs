//! Looking up a burst: every packet does one stage before any does the next, and each stage asks for the
//! cache lines of the one after.
//!
//! 1. compress and hash the keys, ask for the buckets;
//! 2. compare signatures, ask for the candidates' lines;
//! 3. verify the candidates.
//!
//! When all packets come from one in-port (the normal case: a burst is read from one queue) the subtable
//! is the same for all, so its words, masks and seed stay in registers and the number of words is known to
//! the compiler. A burst of several in-ports, tunnels mostly, follows each packet's own list.

use super::index::{self, Bucket, LANES, OVERFLOW, SLOTS};
use super::slab::STATE;
use super::subtable::{HOT, INLINE, NONE, Words};
use super::view::{View, state_tag};
use super::{BURST, MISS, MegaflowTable};
use crate::prefetch::prefetch_at;
use core::sync::atomic::Ordering::Relaxed;
use wire::hot::HotKey;
use wire::key::FlowKey;

/// Megaflows of a table whose lines stay in the nearer caches: with their buckets 256 KiB.
pub(super) const SMALL: usize = 2048;

/// Which packets of a burst, by number.
#[derive(Clone, Copy, Default)]
pub(crate) struct List {
    len: usize,
    packets: [u8; BURST],
}

impl List {
    /// The first `len` packets.
    #[inline(always)]
    pub(crate) fn first(len: usize) -> Self {
        List { len, packets: core::array::from_fn(|i| i as u8) }
    }

    /// Adds `packet` if `condition` holds, without a branch.
    #[inline(always)]
    pub(crate) fn push_if(&mut self, packet: u8, condition: bool) {
        self.packets[self.len % BURST] = packet;
        self.len += usize::from(condition);
    }

    /// The packets.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.packets[..self.len.min(BURST)]
    }
}

/// What the stages hand on; kept in the table, because clearing it for every burst would cost more than
/// a stage. Indexed by position in the list of pending packets, `at` by packet.
#[derive(Default)]
pub(super) struct Scratch {
    words: [[u64; INLINE]; BURST],
    signatures: [u32; BURST],
    buckets: [u32; BURST],
    slots: [u32; BURST],
    at: [u16; BURST],
}

impl MegaflowTable {
    /// Looks up each of `keys`: `hits[i]` becomes the slot of a megaflow that matches `keys[i]`, or [`MISS`].
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn lookup_burst(&mut self, keys: &[FlowKey], hits: &mut [u32]) {
        assert_eq!(keys.len(), hits.len(), "one result a key");
        for (keys, hits) in keys.chunks(BURST).zip(hits.chunks_mut(BURST)) {
            let in_port = keys[0].in_port;
            if keys.iter().all(|key| key.in_port == in_port) {
                let match_all = self.port(in_port).match_all;
                hits.fill(match_all);
                if match_all == MISS {
                    self.lookup_port(keys, in_port, List::first(keys.len()), hits);
                }
            } else {
                let mut list = List::default();
                for (i, (key, hit)) in keys.iter().zip(&mut *hits).enumerate() {
                    *hit = self.port(key.in_port).match_all;
                    list.push_if(i as u8, *hit == MISS);
                }
                self.lookup_mixed(keys, list, hits);
            }
        }
    }

    /// Looks up the packets of `list`, all of them from `in_port`; what matches gets its slot in `hits`.
    #[inline]
    pub(crate) fn lookup_port(&mut self, keys: &[FlowKey], in_port: u32, mut list: List, hits: &mut [u32]) {
        let mut id = self.port(in_port).head;
        let (view, scratch, heat) = self.split();
        while id != NONE && list.len > 0 {
            let subtable = &view.subtables[id as usize];
            let pending = list.len;
            match subtable.len {
                1 => pass_any::<1>(view, id, keys, &mut list, scratch, hits),
                2 => pass_any::<2>(view, id, keys, &mut list, scratch, hits),
                3 => pass_any::<3>(view, id, keys, &mut list, scratch, hits),
                4 => pass_any::<4>(view, id, keys, &mut list, scratch, hits),
                5 => pass_any::<5>(view, id, keys, &mut list, scratch, hits),
                _ => {
                    scratch.at.fill(id);
                    pass_mixed(view, keys, &mut list, scratch, hits);
                }
            }
            let next = subtable.next;
            heat[id as usize] = heat[id as usize].saturating_add((pending - list.len) as u32);
            id = next;
        }
    }

    /// Looks up a burst of ordinary frames, all from `in_port`, by their hot keys: slots go to `hits` and programs to
    /// `programs`, of which there are as many as `keys`, [`BURST`] at most. Gives those that are not found, as bits;
    /// they have [`MISS`].
    ///
    /// The in-port is one for which [`MegaflowTable::is_hot`]; for another one nothing is found.
    #[inline]
    pub fn lookup_hot(
        &mut self,
        keys: &[HotKey],
        in_port: u32,
        hits: &mut [u32],
        programs: &mut [u32],
    ) -> u32 {
        let Some(ids) = self.hot_subtables(in_port) else { return none(hits) };
        let is_small = self.len <= self.small;
        let (view, scratch, heat) = self.split();
        let found = match (view.subtables[ids.0 as usize].len, is_small) {
            (1, true) => hot_small::<1>(view, ids, keys, hits, programs),
            (2, true) => hot_small::<2>(view, ids, keys, hits, programs),
            (3, true) => hot_small::<3>(view, ids, keys, hits, programs),
            (4, true) => hot_small::<4>(view, ids, keys, hits, programs),
            (1, _) => hot_whole::<1>(view, ids, keys, scratch, hits, programs),
            (2, _) => hot_whole::<2>(view, ids, keys, scratch, hits, programs),
            (3, _) => hot_whole::<3>(view, ids, keys, scratch, hits, programs),
            (4, _) => hot_whole::<4>(view, ids, keys, scratch, hits, programs),
            _ => return none(hits),
        };
        if ids.1 != NONE {
            let (first, second) = (&heat[ids.0 as usize], &heat[ids.1 as usize]);
            let by_first = keys.len() as u32 - found.by_second - found.missed.count_ones();
            let (first, second) = (first.saturating_add(by_first), second.saturating_add(found.by_second));
            (heat[ids.0 as usize], heat[ids.1 as usize]) = (first, second);
        }
        found.missed
    }

    /// Looks up the packets of `list`, from any in-ports; what matches gets its slot in `hits`.
    pub(crate) fn lookup_mixed(&mut self, keys: &[FlowKey], list: List, hits: &mut [u32]) {
        let mut pending = List::default();
        for &i in list.as_slice() {
            let head = self.port(keys[i as usize].in_port).head;
            self.scratch.at[i as usize % BURST] = head;
            pending.push_if(i, head != NONE);
        }
        let (view, scratch, heat) = self.split();
        while pending.len > 0 {
            let before = pending;
            pass_mixed(view, keys, &mut pending, scratch, hits);
            for &i in before.as_slice() {
                let id = scratch.at[i as usize % BURST];
                let hit = u32::from(hits[i as usize] != MISS);
                heat[id as usize] = heat[id as usize].saturating_add(hit);
            }
            let missed = core::mem::take(&mut pending);
            for &i in missed.as_slice() {
                let at = &mut scratch.at[i as usize % BURST];
                *at = view.subtables[*at as usize].next;
                pending.push_if(i, *at != NONE);
            }
        }
    }

    /// What a lookup reads and the two things that it writes.
    #[inline(always)]
    fn split(&mut self) -> (View<'_>, &mut Scratch, &mut [u32]) {
        let view = View {
            lines: self.slab.lines(),
            buckets: self.index.buckets(),
            extras: self.extras.records(),
            subtables: &self.subtables,
            wides: &self.wides,
            secrets: &self.secrets,
        };
        (view, &mut self.scratch, &mut self.heat)
    }
}

/// Stage 2 for the packets of `list`: finds a candidate for each and asks for its line. Gives the
/// positions that have one, or a bucket to go on to; the others move to `missed`.
#[inline(always)]
fn compare(view: View<'_>, list: &List, scratch: &mut Scratch, missed: &mut List) -> List {
    let mut found = List::default();
    for (position, &i) in list.as_slice().iter().enumerate() {
        let Some(bucket) = view.buckets.get(scratch.buckets[position] as usize) else { continue };
        let candidates = index::candidates(bucket, scratch.signatures[position]);
        let slot = candidate(bucket, candidates);
        scratch.slots[position] = slot;
        view.prefetch(slot);
        let go_on = candidates | bucket[OVERFLOW] != 0;
        found.push_if(position as u8, go_on);
        missed.push_if(i, !go_on);
    }
    found
}

/// Tries subtable `id`, of `N` words, on every packet of `list`; what matched leaves the list.
#[inline(always)]
fn pass_any<const N: usize>(
    view: View<'_>,
    id: u16,
    keys: &[FlowKey],
    list: &mut List,
    scratch: &mut Scratch,
    hits: &mut [u32],
) {
    let last = view.subtables[id as usize].next == NONE;
    if last && list.len == keys.len() {
        whole::<N>(view, id, keys, list, scratch, hits);
    } else {
        pass::<N>(view, id, keys, list, scratch, hits);
    }
}

/// [`pass`] for a whole burst that has no other subtable to go to: the normal case. No list is followed or
/// made, candidates go straight to `hits`, and what does not verify is looked at again, slowly: it is either
/// very rare or an upcall.
#[inline(never)]
fn whole<const N: usize>(
    view: View<'_>,
    id: u16,
    keys: &[FlowKey],
    list: &mut List,
    scratch: &mut Scratch,
    hits: &mut [u32],
) {
    let tag = state_tag(id);
    candidates::<N, _>(view, id, keys, scratch, hits);
    let words = &scratch.words;
    let count = keys.len().min(hits.len()).min(BURST);
    let (keys, hits) = (&keys[..count], &mut hits[..count]);
    let mut missed = List::default();
    for i in 0..count {
        if view.line_holds::<N>(hits[i], tag, &words[i]).is_none() {
            hits[i] = retry(view, id, &keys[i]);
            missed.push_if(i as u8, hits[i] == MISS);
        }
    }
    *list = missed;
}

/// None is found.
#[cold]
fn none(hits: &mut [u32]) -> u32 {
    hits.fill(MISS);
    ((1u64 << hits.len().min(BURST)) - 1) as u32
}

/// What a lookup by hot keys found.
struct Found {
    /// Packets that the second subtable had.
    by_second: u32,
    /// Those that neither has, as bits.
    missed: u32,
}

/// [`whole`] for ordinary frames, by their hot keys: gives the programs too. The few that the first subtable does not
/// have are looked for in the second, if there is one.
#[inline(never)]
fn hot_whole<const N: usize>(
    view: View<'_>,
    (id, second): (u16, u16),
    keys: &[HotKey],
    scratch: &mut Scratch,
    hits: &mut [u32],
    programs: &mut [u32],
) -> Found {
    candidates::<N, _>(view, id, keys, scratch, hits);
    let words = &scratch.words;
    verify_hot::<N, _>(view, (id, second), keys, hits, programs, |packet, _| &words[packet % BURST][..N])
}

/// [`hot_whole`] for a table so small that its lines are near anyway: asking for them ahead costs more than it saves.
/// Still two passes, so that no packet waits for two lines in turn.
#[inline(never)]
fn hot_small<const N: usize>(
    view: View<'_>,
    (id, second): (u16, u16),
    keys: &[HotKey],
    hits: &mut [u32],
    programs: &mut [u32],
) -> Found {
    let pick = Pick::<N>::new::<HotKey>(view, id);
    let count = keys.len().min(hits.len()).min(BURST);
    let (keys, hits) = (&keys[..count], &mut hits[..count]);
    for i in 0..count {
        let hash = view.secrets.hash_n(&pick.words(&keys[i]), pick.seed);
        let Some(bucket) = view.buckets.get(index::home(hash, view.buckets.len()) as usize) else { continue };
        hits[i] = candidate(bucket, index::candidates(bucket, index::signature(hash)));
    }
    verify_hot::<N, _>(view, (id, second), keys, hits, programs, |_, key| pick.words(key))
}

/// Stage 3 for ordinary frames: replaces the candidates in `hits` that are not the megaflow, and gives the programs.
#[inline(always)]
fn verify_hot<const N: usize, W: AsRef<[u64]>>(
    view: View<'_>,
    (id, second): (u16, u16),
    keys: &[HotKey],
    hits: &mut [u32],
    programs: &mut [u32],
    words: impl Fn(usize, &HotKey) -> W,
) -> Found {
    let tag = state_tag(id);
    let mut found = Found { by_second: 0, missed: 0 };
    let count = keys.len().min(hits.len()).min(programs.len()).min(BURST);
    let (keys, hits, programs) = (&keys[..count], &mut hits[..count], &mut programs[..count]);
    for i in 0..count {
        if let Some(program) = view.line_holds::<N>(hits[i], tag, words(i, &keys[i]).as_ref()) {
            programs[i] = program;
            continue;
        }
        if let Some(again) = retry_hot(view, (id, second), &keys[i]) {
            (hits[i], programs[i]) = (again.slot, again.program);
            found.by_second += u32::from(again.by_second);
        } else {
            hits[i] = MISS;
            found.missed |= 1 << i;
        }
    }
    found
}

/// What a second look found.
struct Again {
    slot: u32,
    program: u32,
    /// In the second subtable.
    by_second: bool,
}

/// [`retry`] by a hot key, in the second subtable too if there is one.
#[cold]
#[inline(never)]
fn retry_hot(view: View<'_>, (id, second): (u16, u16), hot: &HotKey) -> Option<Again> {
    let mut key = FlowKey::ZERO;
    for (word, value) in HOT.into_iter().zip(hot) {
        key.words_mut()[word as usize] = *value;
    }
    let mut slot = retry(view, id, &key);
    let by_second = slot == MISS && second != NONE;
    if by_second {
        slot = retry(view, second, &key);
    }
    let program = view.lines.get(slot as usize)?[STATE].load(Relaxed) as u32;
    Some(Again { slot, program, by_second })
}

/// Which words of a key a subtable of `N` words looks at, and how they are hashed: made once a burst.
struct Pick<const N: usize> {
    at: [usize; N],
    masks: [u64; N],
    seed: u64,
}

impl<const N: usize> Pick<N> {
    #[inline(always)]
    fn new<K: Words>(view: View<'_>, id: u16) -> Pick<N> {
        let subtable = &view.subtables[id as usize];
        Pick {
            at: core::array::from_fn(|i| K::place(subtable.words[i])),
            masks: core::array::from_fn(|i| subtable.masks[i]),
            seed: view.secrets.seed_n::<N>(subtable.seed),
        }
    }

    /// The masked words of `key`.
    #[inline(always)]
    fn words<K: Words>(&self, key: &K) -> [u64; N] {
        core::array::from_fn(|word| key.at(self.at[word]) & self.masks[word])
    }
}

/// Stages 1 and 2 for a whole burst: leaves the masked words in `scratch`, the slots of candidates in `hits`.
#[inline(always)]
fn candidates<const N: usize, K: Words>(
    view: View<'_>,
    id: u16,
    keys: &[K],
    scratch: &mut Scratch,
    hits: &mut [u32],
) {
    let pick = Pick::<N>::new::<K>(view, id);
    let Scratch { words, signatures, buckets, .. } = scratch;
    // One counter for all arrays; that it stays below their length the compiler sees.
    let count = keys.len().min(hits.len()).min(BURST);
    let (keys, hits) = (&keys[..count], &mut hits[..count]);
    for i in 0..count {
        let compressed = pick.words(&keys[i]);
        let hash = view.secrets.hash_n(&compressed, pick.seed);
        words[i][..N].copy_from_slice(&compressed);
        signatures[i] = index::signature(hash);
        buckets[i] = index::home(hash, view.buckets.len());
        prefetch_at(view.buckets, buckets[i] as usize);
    }
    for i in 0..count {
        let Some(bucket) = view.buckets.get(buckets[i] as usize) else { continue };
        hits[i] = candidate(bucket, index::candidates(bucket, signatures[i]));
        view.prefetch(hits[i]);
    }
}

/// The slot of the first of the `candidates`. Without one it is what the cell beyond the lanes holds, 0: any
/// slot will do, it is verified in any case.
#[inline(always)]
fn candidate(bucket: &Bucket, candidates: u32) -> u32 {
    bucket[(SLOTS + (candidates | 1 << LANES).trailing_zeros() as usize) % bucket.len()]
}

/// Tries subtable `id`, of `N` words, on every packet of `list`; what matched leaves the list.
#[inline(never)]
fn pass<const N: usize>(
    view: View<'_>,
    id: u16,
    keys: &[FlowKey],
    list: &mut List,
    scratch: &mut Scratch,
    hits: &mut [u32],
) {
    let pick = Pick::<N>::new::<FlowKey>(view, id);
    for (position, &i) in list.as_slice().iter().enumerate() {
        let words = pick.words(&keys[i as usize]);
        let hash = view.secrets.hash_n(&words, pick.seed);
        let bucket = index::home(hash, view.buckets.len());
        scratch.words[position][..N].copy_from_slice(&words);
        scratch.signatures[position] = index::signature(hash);
        scratch.buckets[position] = bucket;
        prefetch_at(view.buckets, bucket as usize);
    }
    let mut missed = List::default();
    let found = compare(view, list, scratch, &mut missed);
    let tag = state_tag(id);
    for &position in found.as_slice() {
        let position = position as usize % BURST;
        let (slot, i) = (scratch.slots[position], list.packets[position]);
        if view.line_holds::<N>(slot, tag, &scratch.words[position]).is_some() {
            hits[i as usize] = slot;
        } else {
            let slot = retry(view, id, &keys[i as usize]);
            hits[i as usize] = slot;
            missed.push_if(i, slot == MISS);
        }
    }
    *list = missed;
}

/// Tries each packet of `list` on the subtable that `scratch.at` has for it; what matched leaves the list.
#[inline(never)]
fn pass_mixed(view: View<'_>, keys: &[FlowKey], list: &mut List, scratch: &mut Scratch, hits: &mut [u32]) {
    for (position, &i) in list.as_slice().iter().enumerate() {
        let key = &keys[i as usize];
        let id = scratch.at[i as usize % BURST];
        let words = view.subtables[id as usize].compress(key);
        let hash = view.hash(id, &words, key);
        let bucket = index::home(hash, view.buckets.len());
        scratch.words[position] = words;
        scratch.signatures[position] = index::signature(hash);
        scratch.buckets[position] = bucket;
        prefetch_at(view.buckets, bucket as usize);
    }
    let mut missed = List::default();
    let found = compare(view, list, scratch, &mut missed);
    for &position in found.as_slice() {
        let position = position as usize % BURST;
        let (slot, i) = (scratch.slots[position], list.packets[position]);
        let id = scratch.at[i as usize % BURST];
        let key = &keys[i as usize];
        if view.holds(slot, id, &scratch.words[position], key) {
            hits[i as usize] = slot;
        } else {
            let slot = retry(view, id, key);
            hits[i as usize] = slot;
            missed.push_if(i, slot == MISS);
        }
    }
    *list = missed;
}

/// The first candidate was not the one: looks at the others and at the buckets beyond. The slot, or [`MISS`].
#[cold]
#[inline(never)]
fn retry(view: View<'_>, id: u16, key: &FlowKey) -> u32 {
    view.find(id, key).unwrap_or(MISS)
}
