//! The hash index: from the hash of masked key words to megaflow slots, for all subtables of a worker at once.
//!
//! A bucket is a cache line: seven signatures and an overflow count, then seven slots. A megaflow that
//! finds its home bucket full goes to the next one with a free lane, and every full bucket that it passed
//! counts it. So a lookup ends at the first bucket whose count is zero (almost always the home bucket), and
//! a removal counts down again: there are no tombstones.

use super::slab::Lines;
use crate::prefetch::equal_lanes;

/// Cells 0 to 6: signatures, 0 in a free lane. Cell 7: overflow count. Cells 8 to 14: slots. Cell 15: 0.
pub(super) type Bucket = [u32; 16];
/// Lanes of a bucket.
pub(super) const LANES: usize = 7;
/// The lanes as a bit mask.
pub(super) const LANE_MASK: u32 = (1 << LANES) - 1;
/// Cell of a bucket: how many megaflows passed by.
pub(super) const OVERFLOW: usize = 7;
/// First cell of a bucket's slots.
pub(super) const SLOTS: usize = 8;
/// Seven lanes for every two slots' worth: the buckets are half full when the slab is full.
const SLOTS_PER_TWO_BUCKETS: usize = 7;

/// Signature of a hash, from its low half. Never 0, which marks a free lane.
#[inline(always)]
pub(super) fn signature(hash: u64) -> u32 {
    hash as u32 | 1 << 31
}

/// Home bucket of a hash, from its high bits: `buckets` need not be a power of two.
#[inline(always)]
pub(super) fn home(hash: u64, buckets: usize) -> u32 {
    ((u128::from(hash) * buckets as u128) >> 64) as u32
}

/// Lanes of a bucket with this signature, as a bit mask.
#[inline(always)]
pub(super) fn candidates(bucket: &Bucket, signature: u32) -> u32 {
    match bucket.first_chunk() {
        Some(lanes) => equal_lanes(lanes, signature) & LANE_MASK,
        None => 0,
    }
}

/// Every slot filed under `hash` for which `wanted` holds, the first of them.
#[inline]
pub(super) fn find(buckets: &[Bucket], hash: u64, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
    let signature = signature(hash);
    let mut at = home(hash, buckets.len()) as usize;
    // Bounded, because a long history of a full table can leave counts above zero all the way round.
    for _ in 0..buckets.len() {
        let bucket = buckets.get(at)?;
        let mut mask = candidates(bucket, signature);
        while mask != 0 {
            let slot = bucket[SLOTS + mask.trailing_zeros() as usize % LANES];
            if wanted(slot) {
                return Some(slot);
            }
            mask &= mask - 1;
        }
        if bucket[OVERFLOW] == 0 {
            return None;
        }
        at = next(at, buckets.len());
    }
    None
}

/// The bucket after `at`.
#[inline(always)]
fn next(at: usize, buckets: usize) -> usize {
    if at + 1 == buckets { 0 } else { at + 1 }
}

/// The buckets of a worker.
pub(super) struct Index {
    lines: Lines<u32, 16>,
}

impl Index {
    /// An empty index for up to `slots` megaflows.
    pub(super) fn new(slots: usize) -> Self {
        Index { lines: Lines::new(slots * 2 / SLOTS_PER_TWO_BUCKETS + 1) }
    }

    /// All buckets.
    #[inline(always)]
    pub(super) fn buckets(&self) -> &[Bucket] {
        self.lines.records()
    }

    /// Where the buckets lie: address and length in bytes.
    pub(super) fn region(&self) -> (*const u8, usize) {
        self.lines.region()
    }

    /// Bytes of the buckets.
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Files `slot` under `hash`. Each slot is filed once at most, so there is always a free lane.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let buckets = self.lines.records_mut();
        let mut at = home(hash, buckets.len()) as usize;
        loop {
            let bucket = &mut buckets[at];
            if let Some(lane) = bucket[..LANES].iter().position(|&signature| signature == 0) {
                bucket[lane] = signature(hash);
                bucket[SLOTS + lane] = slot;
                return;
            }
            bucket[OVERFLOW] += 1;
            at = next(at, buckets.len());
        }
    }

    /// Takes `slot` out again, which was filed under `hash`; false when it was not.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let buckets = self.lines.records_mut();
        let home = home(hash, buckets.len()) as usize;
        let mut at = home;
        loop {
            let bucket = &mut buckets[at];
            let here = |lane: &usize| bucket[*lane] == signature(hash) && bucket[SLOTS + lane] == slot;
            if let Some(lane) = (0..LANES).find(here) {
                bucket[lane] = 0;
                bucket[SLOTS + lane] = 0;
                break;
            }
            let end = bucket[OVERFLOW] == 0;
            at = next(at, buckets.len());
            if end || at == home {
                return false;
            }
        }
        let mut passed = home;
        while passed != at {
            buckets[passed][OVERFLOW] -= 1;
            passed = next(passed, buckets.len());
        }
        true
    }

    /// Calls `each` with every filed slot and forgets them all.
    pub(super) fn drain(&mut self, mut each: impl FnMut(u32)) {
        for bucket in self.lines.records_mut().iter_mut().filter(|bucket| bucket[..=OVERFLOW] != [0; 8]) {
            for lane in 0..LANES {
                if bucket[lane] != 0 {
                    each(bucket[SLOTS + lane]);
                }
            }
            *bucket = [0; 16];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_wraps_around_and_counts_down() {
        // 35 slots make 11 buckets. All hashes below are at home in the last bucket.
        let mut index = Index::new(35);
        let hash = |n: u32| u64::from(u32::MAX) << 32 | u64::from(n);
        for slot in 0..30 {
            index.insert(hash(slot), slot);
        }
        let overflow =
            |index: &Index| index.buckets().iter().map(|bucket| bucket[OVERFLOW]).collect::<Vec<_>>();
        assert_eq!(overflow(&index), [16, 9, 2, 0, 0, 0, 0, 0, 0, 0, 23]);
        for slot in (0..30).rev() {
            assert_eq!(find(index.buckets(), hash(slot), |found| found == slot), Some(slot));
            assert!(index.remove(hash(slot), slot));
            assert!(!index.remove(hash(slot), slot));
            assert_eq!(find(index.buckets(), hash(slot), |found| found == slot), None);
        }
        assert!(index.buckets().iter().flatten().all(|&cell| cell == 0));
    }

    #[test]
    fn drain_gives_every_slot_and_leaves_nothing() {
        let mut index = Index::new(20);
        (0..20).for_each(|slot| index.insert(u64::from(slot) << 20, slot));
        let mut slots = Vec::new();
        index.drain(|slot| slots.push(slot));
        slots.sort_unstable();
        assert_eq!(slots, (0..20).collect::<Vec<_>>());
        assert!(index.buckets().iter().flatten().all(|&cell| cell == 0));
    }
}
