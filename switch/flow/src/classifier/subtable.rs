//! The rules of one mask.

use super::prefix::{Asked, Prefix};
use super::stage::STAGE_MASKS;
use crate::ofp::{MATCH_WORDS, Match, MatchKey};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// The hasher of what [`mix`] has already hashed: hashing it again cost 6 % of a lookup in 20 subtables.
#[derive(Debug, Clone, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0, u64::from(*byte));
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A number (a count, an entry) by hash.
type ByHash = HashMap<u64, u32, BuildHasherDefault<Mixed>>;

/// End of a chain of entries.
const NIL: u32 = u32::MAX;

/// One word of the mask, as far as it belongs to one stage.
#[derive(Debug, Clone, Copy)]
struct MaskWord {
    /// Index into [`MatchKey::words`].
    index: u8,
    bits: u64,
}

/// A stage of the search: the hash over its words, and all earlier stages', must be one that some rule has.
#[derive(Debug, Clone)]
struct Stage {
    /// End of the stage's words in [`Subtable::words`]; they start where the previous stage's end.
    end: usize,
    /// How many entries have this hash. Empty for the last stage, for which the entries themselves decide.
    hashes: ByHash,
}

/// Rules of one mask and one masked key, which differ in priority.
#[derive(Debug, Clone)]
struct Entry<R> {
    /// Hash of the masked key over all stages.
    hash: u64,
    /// Next entry with the same hash, or [`NIL`].
    next: u32,
    /// In descending order of priority; empty when the entry is free.
    rules: Vec<(u16, R)>,
}

/// The rules of one mask, in a hash table by masked key.
#[derive(Debug, Clone)]
pub(super) struct Subtable<R> {
    mask: MatchKey,
    /// The mask's non-zero words in order of stage; a word with bits of two stages stands here twice.
    words: Vec<MaskWord>,
    /// The stages that the mask has bits in, at least one.
    stages: Vec<Stage>,
    /// What of the mask is tracked by prefixes, in order of stage.
    pub(super) prefixes: Box<[Prefix]>,
    /// Masked key of entry `i`: `words.len()` words from `i * words.len()`.
    keys: Vec<u64>,
    entries: Vec<Entry<R>>,
    free: Vec<u32>,
    /// First entry of each hash.
    heads: ByHash,
    /// How many rules have a priority.
    priorities: BTreeMap<u16, u32>,
    max_priority: u16,
}

/// Folds a word into a hash: a 64x64 multiply, high and low half combined.
#[inline]
fn mix(hash: u64, word: u64) -> u64 {
    let product =
        u128::from(word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(hash.rotate_left(29) ^ 0xd6e8_feb8_6659_fd93);
    (product as u64) ^ ((product >> 64) as u64)
}

impl<R> Subtable<R> {
    pub(super) fn new(mask: &MatchKey) -> Self {
        let mut words = Vec::new();
        let mut stages = Vec::new();
        let mut prefixes = Vec::new();
        for (number, stage) in STAGE_MASKS.iter().enumerate() {
            let before = words.len();
            let of_stage = mask.masked(stage);
            words.extend((0..MATCH_WORDS as u8).filter_map(|index| {
                let bits = of_stage.words()[usize::from(index)];
                (bits != 0).then_some(MaskWord { index, bits })
            }));
            if words.len() > before {
                prefixes.extend(Prefix::of_stage(mask, number, stages.len()));
                stages.push(Stage { end: words.len(), hashes: ByHash::default() });
            }
        }
        if stages.is_empty() {
            stages.push(Stage { end: 0, hashes: ByHash::default() });
        }
        Subtable {
            mask: *mask,
            words,
            stages,
            prefixes: prefixes.into(),
            keys: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            heads: ByHash::default(),
            priorities: BTreeMap::new(),
            max_priority: 0,
        }
    }

    pub(super) fn mask(&self) -> &MatchKey {
        &self.mask
    }

    pub(super) fn max_priority(&self) -> u16 {
        self.max_priority
    }

    pub(super) fn is_empty(&self) -> bool {
        self.priorities.is_empty()
    }

    fn key_of(&self, entry: u32) -> &[u64] {
        let stride = self.words.len();
        &self.keys[entry as usize * stride..][..stride]
    }

    /// The cumulative hash of `key` at the end of every stage.
    fn stage_hashes(&self, key: &MatchKey) -> impl Iterator<Item = u64> {
        let (mut hash, mut start) = (0, 0);
        let words = *key.words();
        self.stages.iter().map(move |stage| {
            for word in &self.words[start..stage.end] {
                hash = mix(hash, words[usize::from(word.index)] & word.bits);
            }
            start = stage.end;
            hash
        })
    }

    /// The entry with `key`'s masked words among those with `hash`.
    #[inline]
    fn find(&self, hash: u64, key: &MatchKey) -> Option<u32> {
        let words = key.words();
        let mut at = *self.heads.get(&hash)?;
        while at != NIL {
            let same = self.words.iter().zip(self.key_of(at));
            if same.into_iter().all(|(w, &value)| words[usize::from(w.index)] & w.bits == value) {
                return Some(at);
            }
            at = self.entries[at as usize].next;
        }
        None
    }

    fn full_hash(&self, key: &MatchKey) -> u64 {
        self.stage_hashes(key).last().unwrap_or(0)
    }

    /// The best rule for `key`; ORs into `wc` the bits that the answer, also "none", depended on. `asked`
    /// is what the table's tries have for this key.
    #[inline]
    pub(super) fn lookup(
        &self,
        key: &MatchKey,
        asked: &mut Asked<'_>,
        wc: &mut MatchKey,
    ) -> Option<(u16, &R)> {
        self.lookup_all(key, asked, wc).first().map(|(priority, rule)| (*priority, rule))
    }

    /// All rules for `key`, in descending order of priority; `wc` as with [`lookup`](Self::lookup).
    #[inline]
    pub(super) fn lookup_all(&self, key: &MatchKey, asked: &mut Asked<'_>, wc: &mut MatchKey) -> &[(u16, R)] {
        if self.prefixes.is_empty() {
            self.search(key, wc, |_, _| false)
        } else {
            self.lookup_tracked(key, asked, wc)
        }
    }

    /// [`lookup`](Self::lookup) in a subtable with prefixes. Apart, so that others do not pay for it.
    #[inline(never)]
    fn lookup_tracked(&self, key: &MatchKey, asked: &mut Asked<'_>, wc: &mut MatchKey) -> &[(u16, R)] {
        if asked.known_to_exclude(&self.prefixes, wc) {
            return &[];
        }
        self.search(key, wc, |stage, wc| asked.exclude(&self.prefixes, stage, &self.mask, wc))
    }

    /// [`lookup`](Self::lookup) stage by stage. `excluded` is asked when no rule agrees with the packet up to a stage
    /// (while one does, it knows of no reason). If it knows that no rule is for `key`, for a reason that it ORs
    /// into `wc`, what the stages had in common with rules no longer matters.
    #[inline(always)]
    fn search(
        &self,
        key: &MatchKey,
        wc: &mut MatchKey,
        mut excluded: impl FnMut(usize, &mut MatchKey) -> bool,
    ) -> &[(u16, R)] {
        let words = key.words();
        let (mut hash, mut start) = (0, 0);
        let last = self.stages.len() - 1;
        let mut found = None;
        for (i, stage) in self.stages.iter().enumerate() {
            for word in &self.words[start..stage.end] {
                hash = mix(hash, words[usize::from(word.index)] & word.bits);
            }
            start = stage.end;
            let agrees = if i < last {
                stage.hashes.contains_key(&hash)
            } else {
                found = self.find(hash, key);
                found.is_some()
            };
            // No rule agrees with the packet this far: the later stages are not looked at.
            if !agrees {
                if excluded(i, wc) {
                    return &[];
                }
                break;
            }
        }
        let wc = wc.words_mut();
        for word in &self.words[..start] {
            wc[usize::from(word.index)] |= word.bits;
        }
        found.map_or(&[], |entry| self.entries[entry as usize].rules.as_slice())
    }

    pub(super) fn get(&self, priority: u16, key: &MatchKey) -> Option<&R> {
        let rules = &self.entries[self.find(self.full_hash(key), key)? as usize].rules;
        rules.iter().find(|(p, _)| *p == priority).map(|(_, rule)| rule)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, Match, &R)> {
        self.entries.iter().enumerate().flat_map(move |(i, entry)| {
            let mut key = MatchKey::ZERO;
            if !entry.rules.is_empty() {
                for (word, value) in self.words.iter().zip(self.key_of(i as u32)) {
                    key.words_mut()[usize::from(word.index)] |= value;
                }
            }
            let what = Match::new(&key, &self.mask);
            entry.rules.iter().map(move |(priority, rule)| (*priority, what, rule))
        })
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &R> {
        self.entries.iter().flat_map(|entry| entry.rules.iter().map(|(_, rule)| rule))
    }

    /// The rules whose keys agree with `wider`, whose mask this subtable's covers.
    pub(super) fn within<'a>(&'a self, wider: &'a Match) -> impl Iterator<Item = &'a R> {
        let (key, mask) = (wider.key().words(), wider.mask().words());
        let agrees = move |(word, value): (&MaskWord, &u64)| {
            let at = usize::from(word.index);
            (value ^ key[at]) & mask[at] & word.bits == 0
        };
        let entries = self.entries.iter().enumerate();
        let entries =
            entries.filter(move |(at, _)| self.words.iter().zip(self.key_of(*at as u32)).all(agrees));
        entries.flat_map(|(_, entry)| entry.rules.iter().map(|(_, rule)| rule))
    }

    pub(super) fn into_rules(self) -> impl Iterator<Item = R> {
        self.entries.into_iter().flat_map(|entry| entry.rules.into_iter().map(|(_, rule)| rule))
    }

    pub(super) fn has_priority(&self, priority: u16) -> bool {
        self.priorities.contains_key(&priority)
    }

    /// A free entry, linked in and holding `key`'s masked words.
    fn new_entry(&mut self, hash: u64, key: &MatchKey) -> u32 {
        let words = *key.words();
        let masked = self.words.iter().map(|w| words[usize::from(w.index)] & w.bits);
        let at = if let Some(at) = self.free.pop() {
            let stride = self.words.len();
            let slot = &mut self.keys[at as usize * stride..][..stride];
            slot.iter_mut().zip(masked).for_each(|(to, from)| *to = from);
            at
        } else {
            self.keys.extend(masked);
            self.entries.push(Entry { hash, next: NIL, rules: Vec::new() });
            (self.entries.len() - 1) as u32
        };
        let next = self.heads.insert(hash, at).unwrap_or(NIL);
        let entry = &mut self.entries[at as usize];
        entry.hash = hash;
        entry.next = next;
        let hashes: Vec<u64> = self.stage_hashes(key).collect();
        let last = self.stages.len() - 1;
        for (stage, hash) in self.stages[..last].iter_mut().zip(hashes) {
            *stage.hashes.entry(hash).or_insert(0) += 1;
        }
        at
    }

    /// Takes an entry without rules out of all indexes.
    fn drop_entry(&mut self, at: u32, key: &MatchKey) {
        let Entry { hash, next, .. } = self.entries[at as usize];
        let mut before = self.heads.get(&hash).copied().unwrap_or(NIL);
        if before == at {
            if next == NIL {
                self.heads.remove(&hash);
            } else {
                self.heads.insert(hash, next);
            }
        } else {
            while before != NIL && self.entries[before as usize].next != at {
                before = self.entries[before as usize].next;
            }
            if before != NIL {
                self.entries[before as usize].next = next;
            }
        }
        self.free.push(at);
        let hashes: Vec<u64> = self.stage_hashes(key).collect();
        let last = self.stages.len() - 1;
        for (stage, hash) in self.stages[..last].iter_mut().zip(hashes) {
            if let Some(count) = stage.hashes.get_mut(&hash) {
                *count -= 1;
                if *count == 0 {
                    stage.hashes.remove(&hash);
                }
            }
        }
    }

    pub(super) fn insert(&mut self, priority: u16, key: &MatchKey, rule: R) -> Option<R> {
        let hash = self.full_hash(key);
        let at = self.find(hash, key).unwrap_or_else(|| self.new_entry(hash, key));
        let rules = &mut self.entries[at as usize].rules;
        match rules.binary_search_by_key(&std::cmp::Reverse(priority), |(p, _)| std::cmp::Reverse(*p)) {
            Ok(i) => Some(std::mem::replace(&mut rules[i].1, rule)),
            Err(i) => {
                rules.insert(i, (priority, rule));
                *self.priorities.entry(priority).or_insert(0) += 1;
                self.max_priority = self.max_priority.max(priority);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, priority: u16, key: &MatchKey) -> Option<R> {
        let at = self.find(self.full_hash(key), key)?;
        let rules = &mut self.entries[at as usize].rules;
        let i = rules.iter().position(|(p, _)| *p == priority)?;
        let (_, rule) = rules.remove(i);
        if rules.is_empty() {
            self.drop_entry(at, key);
        }
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
        self.max_priority = self.priorities.last_key_value().map_or(0, |(p, _)| *p);
        Some(rule)
    }
}
