//! What a lookup reads of the table, and how one megaflow is found and verified.

use super::index::{self, Bucket};
use super::slab::{Line, STATE, VALID, WORDS};
use super::subtable::{HOT, INLINE, Secrets, Subtable, Wide, Words};
use crate::prefetch::prefetch_at;
use core::sync::atomic::Ordering::Relaxed;
use wire::hot::HotKey;
use wire::key::FlowKey;

/// The parts of the table that a lookup reads, as slices: made once a burst.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) lines: &'a [Line],
    pub(super) buckets: &'a [Bucket],
    pub(super) extras: &'a [[u64; 32]],
    pub(super) subtables: &'a [Subtable],
    pub(super) wides: &'a [Wide],
    pub(super) secrets: &'a Secrets,
}

impl View<'_> {
    /// Whether `slot` holds a megaflow of subtable `id` with these words; `key` is for the words of a wide mask.
    #[inline(always)]
    pub(super) fn holds(&self, slot: u32, id: u16, words: &[u64; INLINE], key: &FlowKey) -> bool {
        let (Some(line), Some(subtable)) = (self.lines.get(slot as usize), self.subtables.get(id as usize))
        else {
            return false;
        };
        let mut difference = line[STATE].load(Relaxed) >> 32 ^ state_tag(id);
        for (i, word) in words.iter().enumerate() {
            difference |= word ^ line[WORDS + i].load(Relaxed);
        }
        difference == 0 && (!subtable.is_wide() || self.wide_matches(slot, id, subtable, key))
    }

    /// Whether `slot` holds a megaflow whose state has `tag` in the upper half and whose first `N` words are `words`:
    /// then its program.
    #[inline(always)]
    pub(super) fn line_holds<const N: usize>(&self, slot: u32, tag: u64, words: &[u64]) -> Option<u32> {
        let line = self.lines.get(slot as usize)?;
        let state = line[STATE].load(Relaxed);
        let mut difference = state >> 32 ^ tag;
        for (word, stored) in words[..N].iter().zip(&line[WORDS..]) {
            difference |= word ^ stored.load(Relaxed);
        }
        (difference == 0).then_some(state as u32)
    }

    /// Whether the words of `key` beyond the first [`INLINE`] are those of the megaflow in `slot`.
    #[inline(never)]
    fn wide_matches(&self, slot: u32, id: u16, subtable: &Subtable, key: &FlowKey) -> bool {
        let (Some(wide), Some(stored)) = (self.wides.get(id as usize), self.extras.get(slot as usize)) else {
            return false;
        };
        wide.matches(key, subtable.extra(), stored)
    }

    /// Whether the megaflow in `slot`, if there is one, matches `key`.
    #[inline(always)]
    pub(crate) fn matches(&self, slot: u32, key: &FlowKey) -> bool {
        let Some(line) = self.lines.get(slot as usize) else { return false };
        let state = line[STATE].load(Relaxed);
        let id = (state >> 32) as u16;
        let Some(subtable) = self.subtables.get(id as usize) else { return false };
        let mut difference = (state & VALID ^ VALID) | u64::from(subtable.in_port ^ key.in_port);
        for (i, word) in subtable.compress(key).iter().enumerate() {
            difference |= word ^ line[WORDS + i].load(Relaxed);
        }
        difference == 0 && (!subtable.is_wide() || self.wide_matches(slot, id, subtable, key))
    }

    /// [`View::matches`] for an ordinary frame, by its words: the program, if it does. A megaflow that
    /// looks at other words does not.
    #[inline(always)]
    pub(crate) fn matches_hot(&self, slot: u32, in_port: u32, words: &HotKey) -> Option<u32> {
        let line = self.lines.get(slot as usize)?;
        let state = line[STATE].load(Relaxed);
        let subtable = self.subtables.get((state >> 32) as u16 as usize)?;
        let mut difference =
            (state & VALID ^ VALID) | u64::from(subtable.in_port ^ in_port) | u64::from(!subtable.is_hot);
        for i in 0..HOT.len() {
            let word = words.at(HotKey::place(subtable.words[i])) & subtable.masks[i];
            difference |= word ^ line[WORDS + i].load(Relaxed);
        }
        (difference == 0).then_some(state as u32)
    }

    /// Hash of `key` in subtable `id`.
    #[inline(always)]
    pub(super) fn hash(&self, id: u16, words: &[u64; INLINE], key: &FlowKey) -> u64 {
        let subtable = &self.subtables[id as usize];
        let mut seed = subtable.seed;
        if subtable.is_wide() {
            seed ^= self.secrets.hash_wide(&self.wides[id as usize], key, subtable.extra());
        }
        self.secrets.hash(words, seed)
    }

    /// Slot of the megaflow of subtable `id` that matches `key`.
    pub(super) fn find(&self, id: u16, key: &FlowKey) -> Option<u32> {
        let words = self.subtables[id as usize].compress(key);
        index::find(self.buckets, self.hash(id, &words, key), |slot| self.holds(slot, id, &words, key))
    }

    /// Asks for the line of `slot`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: u32) {
        prefetch_at(self.lines, slot as usize);
    }
}

/// The upper half of the state of a megaflow of subtable `id`.
#[inline(always)]
pub(super) fn state_tag(id: u16) -> u64 {
    VALID >> 32 | u64::from(id)
}
