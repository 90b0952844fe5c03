//! The flow cache: from a key's hash straight to a megaflow's slot, for in-ports with many masks.
//!
//! An entry is a signature and a slot, eight bytes; a bucket is a cache line of eight entries. Nothing of
//! the key is stored: a candidate is verified with the megaflow's own masked key, in the megaflow's own
//! line, which the packet needs in any case. So an entry may be stale without harm. Whatever sits in its
//! slot *now*, be it the megaflow that was cached, another one, or none, is a right answer if and only if
//! it matches the key, because megaflows of a worker never overlap in a way that matters. Hence removing or
//! moving megaflows never touches the cache.
//!
//! [`Lookup`] is the front of it all: cache and megaflow table, and which of them a packet asks.

mod lookup;

pub use lookup::{Lookup, LookupStats};

use crate::hash::{FlowHasher, HotOrigin};
use crate::megaflow::{BURST, Lines, List, MISS, MegaflowTable, View};
use crate::prefetch::{equal_lanes, prefetch_at};
use wire::hot::HotKey;
use wire::key::FlowKey;

/// Flows that a cache holds unless the settings say otherwise.
pub const DEFAULT_FLOWS: usize = 64 << 10;
/// Entries of a bucket.
const WAYS: usize = 8;
/// First cell of a bucket's slots; the signatures are before it.
const SLOTS: usize = WAYS;

/// Eight signatures (0 in a free entry), then the eight slots.
type Bucket = [u32; 2 * WAYS];

/// A worker's flow cache; see the [module](self).
pub struct FlowCache {
    buckets: Lines<u32, { 2 * WAYS }>,
    /// Buckets less one; their number is a power of two.
    mask: usize,
    /// State of the generator that picks which entry of a full bucket goes.
    random: u32,
    /// Hashes that nobody outside can foresee: its secrets are drawn when the cache is made.
    hasher: FlowHasher,
}

/// Signature of a hash, from its low half. Never 0, which marks a free entry.
#[inline(always)]
fn signature(hash: u64) -> u32 {
    hash as u32 | 1 << 31
}

impl FlowCache {
    /// An empty cache for `flows`: four times as many entries of eight bytes, rounded up to a power of two.
    ///
    /// With twice as many, one flow in 200 would find its bucket full and keep missing, and such a miss costs
    /// a search of all subtables: at 60,000 flows and 20 masks that made a lookup a quarter dearer on average.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn new(flows: usize) -> Self {
        let buckets = flows.saturating_mul(4).div_ceil(WAYS).next_power_of_two();
        FlowCache {
            buckets: Lines::new(buckets),
            mask: buckets - 1,
            random: 0x9e37_79b9,
            hasher: FlowHasher::random(),
        }
    }

    /// What a flow is known by: the hash of its identity and of where it came from.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hasher.cache_hash(key)
    }

    /// Entries, free or not.
    pub fn entries(&self) -> usize {
        (self.mask + 1) * WAYS
    }

    /// Bytes of an entry.
    pub fn bytes_per_entry(&self) -> usize {
        size_of::<Bucket>() / WAYS
    }

    /// Where the buckets lie, for `madvise`: address and length in bytes, 256 KiB and more as whole 2 MiB pages.
    pub fn region(&self) -> (*const u8, usize) {
        self.buckets.region()
    }

    /// Bucket of a hash, from its high half.
    #[inline(always)]
    fn bucket(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.mask
    }

    /// The slots cached under `hash`: candidates, to be verified with [`MegaflowTable::matches`].
    #[inline]
    pub fn probe(&self, hash: u64) -> impl Iterator<Item = u32> {
        let bucket = self.buckets.records()[self.bucket(hash)];
        let mut mask = bucket.first_chunk().map_or(0, |lanes| equal_lanes(lanes, signature(hash)));
        core::iter::from_fn(move || {
            if mask == 0 {
                return None;
            }
            let slot = bucket[SLOTS + mask.trailing_zeros() as usize % WAYS];
            mask &= mask - 1;
            Some(slot)
        })
    }

    /// Caches `slot` under `hash`: in the entry of the same signature, else in a free one, else in place of
    /// one picked at random (with flows in turn and too many of them, that keeps some, where the oldest
    /// would always be the one needed next).
    #[inline]
    pub fn insert(&mut self, hash: u64, slot: u32) {
        let signature = signature(hash);
        let at = self.bucket(hash);
        let bucket = &mut self.buckets.records_mut()[at];
        let Some(lanes) = bucket.first_chunk() else { return };
        let same = equal_lanes(lanes, signature);
        let free = equal_lanes(lanes, 0);
        let chosen = if same != 0 { same } else { free };
        let way = if chosen != 0 {
            chosen.trailing_zeros()
        } else {
            self.random = self.random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            self.random >> 29
        };
        let way = way as usize % WAYS;
        bucket[way] = signature;
        bucket[SLOTS + way] = slot;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.records_mut().fill([0; 2 * WAYS]);
    }

    /// Looks up each of `keys` (32 at most), whose hashes are `hashes`: `hits[i]` becomes the slot of a
    /// megaflow of `table` that matches `keys[i]`, or [`MISS`]. Gives the misses as a bit mask.
    ///
    /// # Panics
    /// When the three differ in length, or are longer than [`BURST`].
    pub fn lookup_burst(
        &self,
        table: &MegaflowTable,
        keys: &[FlowKey],
        hashes: &[u64],
        hits: &mut [u32],
    ) -> u32 {
        assert!(
            keys.len() == hits.len() && keys.len() == hashes.len() && keys.len() <= BURST,
            "one result a key"
        );
        for &hash in hashes {
            prefetch_at(self.buckets.records(), self.bucket(hash));
        }
        let missed = self.find(table.view(), keys, 0..keys.len(), hashes, hits);
        missed.as_slice().iter().fold(0, |mask, &i| mask | 1 << i)
    }

    /// Asks for the buckets of `packets` of `keys` and notes their hashes: first stage of a lookup.
    #[inline(always)]
    fn prepare(&self, keys: &[FlowKey], packets: impl Iterator<Item = usize>, hashes: &mut [u64; BURST]) {
        let buckets = self.buckets.records();
        for i in packets {
            let hash = self.hasher.cache_hash(&keys[i]);
            hashes[i % BURST] = hash;
            prefetch_at(buckets, self.bucket(hash));
        }
    }

    /// Looks up `packets` of `keys`, whose buckets were asked for; what matches gets its slot in `hits`, the
    /// others get [`MISS`] and are returned.
    #[inline(always)]
    fn find(
        &self,
        view: View<'_>,
        keys: &[FlowKey],
        packets: impl Iterator<Item = usize> + Clone,
        hashes: &[u64],
        hits: &mut [u32],
    ) -> List {
        let buckets = self.buckets.records();
        for i in packets.clone() {
            let hash = hashes[i];
            let Some(bucket) = buckets.get(self.bucket(hash)) else { continue };
            let Some(lanes) = bucket.first_chunk() else { continue };
            // Insertion keeps one entry a signature, so the first is the only candidate. Without one this
            // is some other entry's slot: the verification will tell.
            let mask = equal_lanes(lanes, signature(hash));
            let slot = bucket[(SLOTS + mask.trailing_zeros() as usize) % bucket.len()];
            hits[i] = slot;
            view.prefetch(slot);
        }
        let mut missed = List::default();
        for i in packets {
            if !view.matches(hits[i], &keys[i]) {
                hits[i] = MISS;
                missed.push_if(i as u8, true);
            }
        }
        missed
    }

    /// The same for ordinary frames, all of one origin, by their hot keys, and their programs with it. Gives those that
    /// are not found, as bits; they have [`MISS`].
    #[inline(never)]
    fn find_hot(
        &self,
        view: View<'_>,
        keys: &[HotKey],
        origin: HotOrigin,
        hashes: &mut [u64; BURST],
        hits: &mut [u32],
        programs: &mut [u32],
    ) -> u32 {
        // One counter for all arrays; that it stays below their length the compiler sees.
        let count = keys.len().min(BURST).min(hits.len()).min(programs.len());
        let (hits, programs) = (&mut hits[..count], &mut programs[..count]);
        let buckets = self.buckets.records();
        let origin_hash = self.hasher.origin(origin);
        for i in 0..count {
            hashes[i] = self.hasher.hot_cache_hash(&keys[i], origin_hash);
            prefetch_at(buckets, self.bucket(hashes[i]));
        }
        for i in 0..count {
            let Some(bucket) = buckets.get(self.bucket(hashes[i])) else { continue };
            let Some(lanes) = bucket.first_chunk() else { continue };
            let mask = equal_lanes(lanes, signature(hashes[i]));
            hits[i] = bucket[(SLOTS + mask.trailing_zeros() as usize) % bucket.len()];
            view.prefetch(hits[i]);
        }
        let mut missed = 0;
        for i in 0..count {
            if let Some(program) = view.matches_hot(hits[i], origin.in_port, &keys[i]) {
                programs[i] = program;
            } else {
                hits[i] = MISS;
                missed |= 1 << i;
            }
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wire::key::FlowMask;

    use crate::megaflow::Slab;

    #[test]
    fn sizes_round_up() {
        for (asked, got) in [(0, 8), (1, 8), (5, 32), (DEFAULT_FLOWS, 4 * DEFAULT_FLOWS), (100_000, 524_288)]
        {
            assert_eq!(FlowCache::new(asked).entries(), got);
        }
        assert_eq!(FlowCache::new(1 << 20).region().1, 32 << 20);
        assert_eq!(FlowCache::new(2).bytes_per_entry(), 8);
    }

    #[test]
    fn a_million_flows_fit_in_64_mib() {
        let cache = FlowCache::new(1_000_000);
        assert!(cache.entries() >= 1_000_000);
        assert_eq!(cache.region().1, cache.entries() * cache.bytes_per_entry());
        assert!(cache.region().1 <= 64 << 20);
    }

    #[test]
    fn replacement_takes_the_same_signature_then_a_free_entry_then_any() {
        let mut cache = FlowCache::new(16);
        let hash = |n: u64| 5 << 32 | n;
        let slots = |cache: &FlowCache, n| cache.probe(hash(n)).collect::<Vec<_>>();
        assert_eq!(slots(&cache, 1), []);
        for n in 0..8 {
            cache.insert(hash(n), 10 + n as u32);
        }
        for n in 0..8 {
            assert_eq!(slots(&cache, n), [10 + n as u32]);
        }
        cache.insert(hash(3), 99);
        assert_eq!(slots(&cache, 3), [99]);
        cache.insert(hash(8), 18);
        assert_eq!(slots(&cache, 8), [18]);
        assert_eq!((0..8).filter(|&n| slots(&cache, n).is_empty()).count(), 1);
        cache.clear();
        assert!((0..9).all(|n| slots(&cache, n).is_empty()));
    }

    /// What sits in the slot now decides, not what sat there when the entry was made.
    #[test]
    fn stale_entries_are_harmless() {
        let mut table = MegaflowTable::new(Arc::new(Slab::new(4)), 4);
        let mut cache = FlowCache::new(16);
        let key = FlowKey { in_port: 1, nw_ttl: 64, ..FlowKey::ZERO };
        let narrow = FlowMask { in_port: u32::MAX, nw_ttl: 0xff, ..FlowMask::ZERO };
        let wide = FlowMask { in_port: u32::MAX, nw_proto: 0xff, ..FlowMask::ZERO };
        let look = |cache: &FlowCache, table: &MegaflowTable| {
            let mut hits = [0];
            let missed = cache.lookup_burst(table, &[key], &[7], &mut hits);
            assert_eq!(missed, u32::from(hits[0] == MISS));
            hits[0]
        };
        table.insert(2, &key, &narrow, 100).unwrap();
        assert_eq!(look(&cache, &table), MISS);
        cache.insert(7, 2);
        assert_eq!(look(&cache, &table), 2);
        // Its program changes: the cache holds none.
        table.set_program(2, 101);
        assert_eq!((look(&cache, &table), table.program(2)), (2, 101));
        // Removed: no hit.
        table.remove(2);
        assert_eq!(look(&cache, &table), MISS);
        // The slot goes to a megaflow of another key or another port: no hit.
        table.insert(2, &FlowKey { nw_ttl: 63, ..key }, &narrow, 102).unwrap();
        assert_eq!(look(&cache, &table), MISS);
        table.remove(2);
        table.insert(2, &FlowKey { in_port: 2, ..key }, &narrow, 103).unwrap();
        assert_eq!(look(&cache, &table), MISS);
        // To one of another mask that matches: it is a right answer.
        table.remove(2);
        table.insert(2, &key, &wide, 104).unwrap();
        assert_eq!((look(&cache, &table), table.program(2)), (2, 104));
    }
}
