//! The front of the lookup: which packets ask the flow cache first.

use super::FlowCache;
use crate::hash::HotOrigin;
use crate::megaflow::{BURST, List, MISS, MegaflowTable};
use wire::hot::HotKey;
use wire::key::FlowKey;

/// Masks of an in-port up to which a lookup in the megaflow table costs less than one in the cache.
const CACHE_ABOVE: u16 = 2;

/// How many packets each way of the lookup has answered, since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct LookupStats {
    /// Packets that the flow cache found a megaflow for.
    pub cache_hits: u64,
    /// Packets that the flow cache was asked for in vain.
    pub cache_misses: u64,
    /// Packets that the megaflow table found a megaflow for.
    pub megaflow_hits: u64,
    /// Packets that no megaflow matches: upcalls.
    pub misses: u64,
}

/// A worker's flow cache and megaflow table, and the choice between them.
///
/// The cheapest sufficient way answers. An in-port whose traffic is all one megaflow needs no look at the packet. One
/// with one or two masks asks the table straight away: that takes one or two bucket lines and the megaflow's own, where
/// the cache takes a hash of the whole flow, a line that is the flow's alone and the megaflow's own. An in-port of more
/// masks asks the cache first, and the table about what is left.
///
/// Ordinary frames are looked up by their hot keys ([`Lookup::classify_hot`]), others, and what that does not find, by
/// their whole keys ([`Lookup::classify`]): both find the same.
pub struct Lookup {
    /// The megaflows.
    pub table: MegaflowTable,
    /// The flow cache.
    pub cache: FlowCache,
    stats: LookupStats,
    /// Hashes of the burst, by packet; kept, so that no burst has to clear them.
    hashes: Box<[u64; BURST]>,
}

impl Lookup {
    /// Puts the two together.
    pub fn new(table: MegaflowTable, cache: FlowCache) -> Self {
        Lookup { table, cache, stats: LookupStats::default(), hashes: Box::new([0; BURST]) }
    }

    /// What was answered how, so far.
    pub fn stats(&self) -> LookupStats {
        self.stats
    }

    /// Looks up each of `keys`: `hits[i]` becomes the slot of a megaflow that matches `keys[i]`, or [`MISS`].
    ///
    /// Best given up to [`BURST`] keys at a time, all of one in-port.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn classify(&mut self, keys: &[FlowKey], hits: &mut [u32]) {
        assert_eq!(keys.len(), hits.len(), "one result a key");
        for (keys, hits) in keys.chunks(BURST).zip(hits.chunks_mut(BURST)) {
            let in_port = keys[0].in_port;
            if keys.iter().all(|key| key.in_port == in_port) {
                self.classify_port(keys, in_port, hits);
            } else {
                self.classify_mixed(keys, hits);
            }
        }
    }

    /// [`Lookup::classify`] for a burst of up to [`BURST`] keys that are all of this in-port.
    ///
    /// # Panics
    /// When the two differ in length.
    #[inline]
    pub fn classify_port(&mut self, keys: &[FlowKey], in_port: u32, hits: &mut [u32]) {
        assert!(keys.len() == hits.len() && keys.len() <= BURST, "one result a key");
        debug_assert!(keys.iter().all(|key| key.in_port == in_port));
        let match_all = self.table.match_all(in_port).unwrap_or(MISS);
        let subtables = self.table.subtables(in_port);
        hits.fill(match_all);
        if match_all != MISS {
            self.stats.megaflow_hits += keys.len() as u64;
            return;
        }
        if subtables <= CACHE_ABOVE {
            let all = List::first(keys.len());
            self.table.lookup_port(keys, in_port, all, hits);
            self.count(&all, hits);
        } else {
            let missed = self.ask_cache(keys, 0..keys.len(), hits);
            self.table.lookup_port(keys, in_port, missed, hits);
            self.learn(&missed, hits);
            self.count(&missed, hits);
        }
    }

    /// Looks up ordinary frames of a burst, all of one origin, by their hot keys: those of the set `ordinary`, by number; of
    /// the others `hot` is not looked at. Slots go to `hits` and programs to `programs`, of which there are as many as
    /// `hot`, [`BURST`] at most. Gives all packets that are not found, and the others: they have to be looked up by their
    /// whole keys. Whatever is found matches the packet.
    ///
    /// Not for an in-port whose packets all go by one megaflow.
    #[inline]
    pub fn classify_hot(
        &mut self,
        hot: &[HotKey],
        ordinary: u32,
        origin: HotOrigin,
        hits: &mut [u32],
        programs: &mut [u32],
    ) -> u32 {
        let all = ((1u64 << hot.len().min(BURST)) - 1) as u32;
        let others = all & !ordinary;
        if self.table.subtables(origin.in_port) <= CACHE_ABOVE {
            let missed = others | self.table.lookup_hot(hot, origin.in_port, hits, programs);
            self.stats.megaflow_hits += u64::from((all & !missed).count_ones());
            missed
        } else {
            let missed = others
                | self.cache.find_hot(self.table.view(), hot, origin, &mut self.hashes, hits, programs);
            self.stats.cache_hits += u64::from((all & !missed).count_ones());
            missed
        }
    }

    /// [`Lookup::classify`] for the packets of the set `packets`, by number: gives those that no megaflow matches.
    pub fn classify_some(&mut self, keys: &[FlowKey; BURST], packets: u32, hits: &mut [u32; BURST]) -> u32 {
        let (mut cached, mut direct) = (List::default(), List::default());
        let mut rest = packets;
        let (mut in_port, mut one_port) = (None, true);
        while rest != 0 {
            let i = rest.trailing_zeros() as usize % BURST;
            rest &= rest - 1;
            let port = keys[i].in_port;
            one_port &= *in_port.get_or_insert(port) == port;
            hits[i] = self.table.match_all(port).unwrap_or(MISS);
            let pending = hits[i] == MISS;
            self.stats.megaflow_hits += u64::from(!pending);
            let is_cached = self.table.subtables(port) > CACHE_ABOVE;
            cached.push_if(i as u8, pending && is_cached);
            direct.push_if(i as u8, pending && !is_cached);
        }
        let missed = self.ask_cache(keys, cached.as_slice().iter().map(|&i| i as usize), &mut hits[..]);
        for &i in missed.as_slice() {
            direct.push_if(i, true);
        }
        match in_port {
            Some(port) if one_port => self.table.lookup_port(keys, port, direct, &mut hits[..]),
            _ => self.table.lookup_mixed(keys, direct, &mut hits[..]),
        }
        self.learn(&missed, &hits[..]);
        self.count(&direct, &hits[..]);
        direct.as_slice().iter().fold(0, |set, &i| set | u32::from(hits[i as usize] == MISS) << i)
    }

    /// A burst from several in-ports: each packet goes its own port's way.
    fn classify_mixed(&mut self, keys: &[FlowKey], hits: &mut [u32]) {
        let (mut cached, mut direct) = (List::default(), List::default());
        for (i, (key, hit)) in keys.iter().zip(&mut *hits).enumerate() {
            let match_all = self.table.match_all(key.in_port).unwrap_or(MISS);
            let subtables = self.table.subtables(key.in_port);
            *hit = match_all;
            let pending = match_all == MISS;
            self.stats.megaflow_hits += u64::from(!pending);
            cached.push_if(i as u8, pending && subtables > CACHE_ABOVE);
            direct.push_if(i as u8, pending && subtables <= CACHE_ABOVE);
        }
        let missed = self.ask_cache(keys, cached.as_slice().iter().map(|&i| i as usize), hits);
        for &i in missed.as_slice() {
            direct.push_if(i, true);
        }
        self.table.lookup_mixed(keys, direct, hits);
        self.learn(&missed, hits);
        self.count(&direct, hits);
    }

    /// Asks the cache about `packets` of `keys` and gives those that it did not know.
    #[inline(always)]
    fn ask_cache(
        &mut self,
        keys: &[FlowKey],
        packets: impl ExactSizeIterator<Item = usize> + Clone,
        hits: &mut [u32],
    ) -> List {
        let asked = packets.len() as u64;
        self.cache.prepare(keys, packets.clone(), &mut self.hashes);
        let missed = self.cache.find(self.table.view(), keys, packets, &self.hashes[..], hits);
        let misses = missed.as_slice().len() as u64;
        self.stats.cache_hits += asked - misses;
        self.stats.cache_misses += misses;
        missed
    }

    /// Tells the cache what the table found for packets that it did not know.
    #[inline]
    fn learn(&mut self, missed: &List, hits: &[u32]) {
        for &i in missed.as_slice() {
            if hits[i as usize] != MISS {
                self.cache.insert(self.hashes[i as usize % BURST], hits[i as usize]);
            }
        }
    }

    /// Counts what the table has answered.
    #[inline]
    fn count(&mut self, asked: &List, hits: &[u32]) {
        let found = asked.as_slice().iter().filter(|&&i| hits[i as usize] != MISS).count();
        self.stats.megaflow_hits += found as u64;
        self.stats.misses += (asked.as_slice().len() - found) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::megaflow::Slab;
    use proptest::prelude::*;
    use std::sync::Arc;
    use wire::key::FlowMask;

    const SLOTS: u32 = 64;
    /// Masks of in-port 0, 1, ...: nothing but the in-port, one, two, and enough for the cache (twice).
    const MASKS: [usize; 5] = [1, 1, 2, 8, 20];

    fn mask(port: u32, number: usize) -> FlowMask {
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
        let number = number % MASKS[port as usize];
        if port > 0 {
            mask.dl_type = 0xffff.into();
            mask.nw_dst = (u32::MAX << number).into();
            mask.tp_dst = if number.is_multiple_of(2) { u16::MAX.into() } else { 0.into() };
            mask.nw_ttl = u8::from(number.is_multiple_of(3));
            mask.ipv6_dst[15] = if number % 5 == 4 { 3 } else { 0 };
            mask.nd_target = if number == 7 { [1; 16] } else { [0; 16] };
            mask.tun_ipv6_dst = mask.nd_target;
        }
        mask
    }

    fn keys() -> impl Strategy<Value = FlowKey> {
        (0u32..6, 0u32..8, 0u16..2, 0u8..4, 0u8..2).prop_map(|(in_port, nw_dst, tp_dst, nw_ttl, last)| {
            let mut key =
                FlowKey { in_port, nw_ttl, tp_dst: tp_dst.into(), nw_dst: nw_dst.into(), ..FlowKey::ZERO };
            key.ipv6_dst[15] = last;
            key
        })
    }

    #[allow(clippy::large_enum_variant, reason = "a test has a few steps")]
    #[derive(Clone, Debug)]
    enum Step {
        Insert { slot: u32, key: FlowKey, mask: usize, program: u32 },
        Remove { slot: u32 },
        SetProgram { slot: u32, program: u32 },
        Lookup { keys: Vec<FlowKey>, one_port: bool },
        Resort,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..SLOTS, keys(), 0usize..20, any::<u32>())
                .prop_map(|(slot, key, mask, program)| Step::Insert { slot, key, mask, program }),
            3 => (0..SLOTS).prop_map(|slot| Step::Remove { slot }),
            1 => (0..SLOTS, any::<u32>()).prop_map(|(slot, program)| Step::SetProgram { slot, program }),
            8 => (prop::collection::vec(keys(), 0..70), any::<bool>())
                .prop_map(|(keys, one_port)| Step::Lookup { keys, one_port }),
            1 => Just(Step::Resort),
        ];
        prop::collection::vec(step, 1..150)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// What ordinary frames find by their hot keys, in table or cache, matches them; and they find it, where a lookup
        /// by their whole keys has just found it and no mask looks at other words.
        #[test]
        fn ordinary_frames_find_the_same_by_hot_keys(
            masks in prop::collection::vec(prop::array::uniform4(0u64..4), 1..6),
            values in prop::collection::vec(prop::array::uniform4(0u64..3), 0..40),
            frames in prop::collection::vec(prop::array::uniform4(0u64..3), 1..32),
            elsewhere in any::<bool>(),
        ) {
            let table = MegaflowTable::new(Arc::new(Slab::new(512)), 2);
            let mut lookup = Lookup::new(table, FlowCache::new(4096));
            let key = |words: &HotKey| {
                let mut key = FlowKey { in_port: 1, ..FlowKey::ZERO };
                key.words_mut()[2..6].copy_from_slice(words);
                key
            };
            let mut slot = 0;
            for words in &values {
                for (n, bits) in masks.iter().enumerate() {
                    let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
                    mask.words_mut()[2..6].copy_from_slice(bits);
                    // Frames of other kinds have flags.
                    mask.tcp_flags = u16::from(elsewhere && n == 3).into();
                    slot += u32::from(lookup.table.insert(slot, &key(words), &mask, 1000 + slot).is_ok());
                }
            }
            let keys: Vec<FlowKey> = frames.iter().map(key).collect();
            let (mut hits, mut programs) = (vec![77; keys.len()], vec![0; keys.len()]);
            for _ in 0..2 {
                lookup.classify_port(&keys, 1, &mut hits);
            }
            let long: Vec<u32> = hits.clone();
            let before = lookup.stats();
            let origin = HotOrigin { in_port: 1, tun_id: 0, addresses: 0 };
            let matches_all = lookup.table.match_all(1).is_some();
            let all = ((1u64 << frames.len()) - 1) as u32;
            let missed = lookup.classify_hot(&frames, all, origin, &mut hits, &mut programs);
            for (at, (key, slot)) in keys.iter().zip(&hits).enumerate() {
                if missed & 1 << at == 0 {
                    prop_assert!(lookup.table.matches(*slot, key));
                    prop_assert_eq!(lookup.table.program(*slot), programs[at]);
                } else {
                    prop_assert_eq!(*slot, MISS);
                    prop_assert!(elsewhere || long[at] == MISS || matches_all, "{:?}", key);
                }
            }
            let now = lookup.stats();
            let packets = now.cache_hits + now.megaflow_hits - before.cache_hits - before.megaflow_hits;
            prop_assert_eq!(packets, keys.len() as u64 - u64::from(missed.count_ones()));
        }
    }

    proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]

            /// Cache and table together answer as a list of megaflows does, whatever was inserted and removed
            /// since the entries of the cache were made. The cache is far too small, so that entries get
            /// replaced as well.
            #[test]
            fn cache_and_table_are_the_linear_reference(steps in steps()) {
                let table = MegaflowTable::new(Arc::new(Slab::new(SLOTS as usize)), MASKS.len());
                let mut lookup = Lookup::new(table, FlowCache::new(2));
                let mut reference: Vec<Option<(FlowKey, FlowMask, u32)>> = vec![None; SLOTS as usize];
                let mut packets = 0;
                for step in steps {
                    match step {
                        Step::Insert { slot, key, mask: number, program } if (key.in_port as usize) < MASKS.len() => {
                            let mask = mask(key.in_port, number);
                            if lookup.table.insert(slot, &key, &mask, program).is_ok() {
                                prop_assert!(reference[slot as usize].is_none());
                                reference[slot as usize] = Some((key.masked(&mask), mask, program));
                            }
                        }
                        Step::Insert { .. } => {}
                        Step::Remove { slot } => {
                            prop_assert_eq!(lookup.table.remove(slot).is_some(), reference[slot as usize].take().is_some());
                        }
                        Step::SetProgram { slot, program } => {
                            lookup.table.set_program(slot, program);
                            if let Some(entry) = &mut reference[slot as usize] {
                                entry.2 = program;
                            }
                        }
                        Step::Resort => lookup.table.resort(),
                        Step::Lookup { mut keys, one_port } => {
                            if one_port && let Some(first) = keys.first().copied() {
                                for key in &mut keys {
    key.in_port = first.in_port;
    }
                            }
                            packets += keys.len() as u64;
                            let mut hits = vec![77; keys.len()];
                            lookup.classify(&keys, &mut hits);
                            for (key, hit) in keys.iter().zip(hits) {
                                let matching = |e: &(FlowKey, FlowMask, u32)| e.0 == key.masked(&e.1);
                                prop_assert_eq!(hit != MISS, reference.iter().flatten().any(matching), "{:?}", key);
                                if hit != MISS {
                                    let entry = reference[hit as usize].as_ref();
                                    prop_assert!(entry.is_some_and(matching));
                                    prop_assert_eq!(entry.map(|e| e.2), Some(lookup.table.program(hit)));
                                }
                            }
                        }
                    }
                }
                let LookupStats { cache_hits, megaflow_hits, misses, .. } = lookup.stats();
                prop_assert_eq!(cache_hits + megaflow_hits + misses, packets);
            }
        }

    #[test]
    fn only_ports_of_many_masks_use_the_cache() {
        let table = MegaflowTable::new(Arc::new(Slab::new(64)), MASKS.len());
        let mut lookup = Lookup::new(table, FlowCache::new(16));
        let mut slot = 0;
        for (port, masks) in MASKS.iter().enumerate() {
            for number in 0..*masks {
                let key = FlowKey { in_port: port as u32, ..FlowKey::ZERO };
                lookup.table.insert(slot, &key, &mask(port as u32, number), 1).unwrap();
                slot += 1;
            }
        }
        let (mut hits, mut asked) = ([0; 4], Vec::new());
        for in_port in 0..MASKS.len() as u32 {
            for _ in 0..2 {
                let before = lookup.stats();
                lookup.classify(&[FlowKey { in_port, ..FlowKey::ZERO }; 4], &mut hits);
                let now = lookup.stats();
                assert!(!hits.contains(&MISS));
                asked.push((now.cache_hits - before.cache_hits, now.megaflow_hits - before.megaflow_hits));
            }
        }
        assert_eq!(asked[..6], [(0, 4); 6]);
        assert_eq!(asked[6..], [(0, 4), (4, 0), (0, 4), (4, 0)]);
    }
}
