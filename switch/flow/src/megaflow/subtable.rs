//! A subtable: all megaflows of one in-port that share a mask.

use crate::hash::fold;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use wire::hot::HotKey;
use wire::key::{FlowKey, FlowMask, KEY_WORDS};

/// Masked key words that a megaflow's own cache line holds.
pub(super) const INLINE: usize = 5;
/// Masked key words beyond those.
pub(super) const EXTRA: usize = KEY_WORDS - INLINE;
/// No subtable: end of a list.
pub(super) const NONE: u16 = u16::MAX;

/// Number of a key word. An enum and no integer, because the compiler then knows that it is below
/// [`KEY_WORDS`] and indexes a key without a bounds check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Word {
    W0,
    W1,
    W2,
    W3,
    W4,
    W5,
    W6,
    W7,
    W8,
    W9,
    W10,
    W11,
    W12,
    W13,
    W14,
    W15,
    W16,
    W17,
    W18,
    W19,
    W20,
    W21,
    W22,
    W23,
    W24,
    W25,
    W26,
    W27,
    W28,
    W29,
    W30,
    W31,
}

use Word::{
    W0, W1, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15, W16, W17, W18, W19, W20, W21, W22,
    W23, W24, W25, W26, W27, W28, W29, W30, W31,
};
const ALL_WORDS: [Word; KEY_WORDS] = [
    W0, W1, W2, W3, W4, W5, W6, W7, W8, W9, W10, W11, W12, W13, W14, W15, W16, W17, W18, W19, W20, W21, W22,
    W23, W24, W25, W26, W27, W28, W29, W30, W31,
];

/// The words that ordinary frames of one in-port differ in: see [`HotKey`].
pub(super) const HOT: [Word; 4] = [W2, W3, W4, W5];

/// What words can be taken from.
pub(super) trait Words {
    /// Where a word is.
    fn place(word: Word) -> usize;
    /// The word there.
    fn at(&self, place: usize) -> u64;
}

impl Words for FlowKey {
    #[inline(always)]
    fn place(word: Word) -> usize {
        word as usize
    }

    #[inline(always)]
    fn at(&self, place: usize) -> u64 {
        self.words()[place % KEY_WORDS]
    }
}

impl Words for HotKey {
    #[inline(always)]
    fn place(word: Word) -> usize {
        (word as usize).wrapping_sub(HOT[0] as usize)
    }

    #[inline(always)]
    fn at(&self, place: usize) -> u64 {
        self[place % HOT.len()]
    }
}

/// A mask without its in-port, compressed to the words that have a bit set; the rest is word 0 under an
/// empty mask, so that all [`INLINE`] words can be compared without asking how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// How many words have a bit set: 0 to 32.
    pub(super) len: u8,
    words: [Word; KEY_WORDS],
    masks: [u64; KEY_WORDS],
}

impl Shape {
    /// The shape of `mask`.
    pub(super) fn new(mask: &FlowMask) -> Self {
        let mut shape = Shape { len: 0, words: [W0; KEY_WORDS], masks: [0; KEY_WORDS] };
        let mask = FlowMask { in_port: 0, ..*mask };
        for (&word, &mask) in ALL_WORDS.iter().zip(mask.words()).filter(|&(_, &mask)| mask != 0) {
            shape.words[shape.len as usize] = word;
            shape.masks[shape.len as usize] = mask;
            shape.len += 1;
        }
        shape
    }
}

/// One (in-port, mask). What a lookup needs of it is this cache line, unless the mask is a wide one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Subtable {
    /// Masks of the first [`INLINE`] words; 0 beyond the shape's length.
    pub(super) masks: [u64; INLINE],
    /// Part of every hash, so that equal words of two subtables lie apart.
    pub(super) seed: u64,
    /// The in-port of all its megaflows.
    pub(super) in_port: u32,
    /// Next subtable of the in-port, or [`NONE`].
    pub(super) next: u16,
    /// Words with a bit set.
    pub(super) len: u8,
    /// Where the first [`INLINE`] words are in the key.
    pub(super) words: [Word; INLINE],
    /// All words are among [`HOT`].
    pub(super) is_hot: bool,
}

const _: () = assert!(size_of::<Subtable>() == 64);

/// The words of a wide mask that do not fit in [`Subtable`].
#[derive(Clone, Copy)]
pub(super) struct Wide {
    pub(super) masks: [u64; EXTRA],
    pub(super) words: [Word; EXTRA],
}

impl Subtable {
    /// A subtable in nobody's use.
    pub(super) const FREE: Subtable = Subtable {
        masks: [0; INLINE],
        seed: 0,
        in_port: u32::MAX,
        next: NONE,
        len: 0,
        words: [W0; INLINE],
        is_hot: false,
    };

    /// An unlinked subtable.
    pub(super) fn new(in_port: u32, shape: &Shape, seed: u64) -> (Self, Wide) {
        let (mut masks, mut words) = ([0; INLINE], [W0; INLINE]);
        let mut wide = Wide::FREE;
        masks.copy_from_slice(&shape.masks[..INLINE]);
        words.copy_from_slice(&shape.words[..INLINE]);
        wide.masks.copy_from_slice(&shape.masks[INLINE..]);
        wide.words.copy_from_slice(&shape.words[INLINE..]);
        let is_hot = shape.words[..usize::from(shape.len)].iter().all(|word| HOT.contains(word));
        (Subtable { masks, seed, in_port, next: NONE, len: shape.len, words, is_hot }, wide)
    }

    /// Whether this is the subtable of `shape`.
    pub(super) fn is(&self, wide: &Wide, shape: &Shape) -> bool {
        self.len == shape.len
            && self.words == shape.words[..INLINE]
            && self.masks == shape.masks[..INLINE]
            && wide.words == shape.words[INLINE..]
            && wide.masks == shape.masks[INLINE..]
    }

    /// Whether its mask has more than [`INLINE`] words.
    #[inline(always)]
    pub(super) fn is_wide(&self) -> bool {
        usize::from(self.len) > INLINE
    }

    /// The first [`INLINE`] masked words of `key`, zeros beyond the shape's length.
    #[inline(always)]
    pub(super) fn compress(&self, key: &FlowKey) -> [u64; INLINE] {
        let key = key.words();
        core::array::from_fn(|i| key[self.words[i] as usize] & self.masks[i])
    }

    /// Words beyond the first [`INLINE`].
    #[inline(always)]
    pub(super) fn extra(&self) -> usize {
        usize::from(self.len).saturating_sub(INLINE).min(EXTRA)
    }
}

impl Wide {
    /// No words.
    pub(super) const FREE: Wide = Wide { masks: [0; EXTRA], words: [W0; EXTRA] };

    /// The `i`-th masked word of `key` after the first [`INLINE`].
    #[inline(always)]
    pub(super) fn word(&self, key: &FlowKey, i: usize) -> u64 {
        key.words()[self.words[i] as usize] & self.masks[i]
    }

    /// Whether the first `extra` words of `key` under this mask are `stored`.
    #[inline]
    pub(super) fn matches(&self, key: &FlowKey, extra: usize, stored: &[u64; 32]) -> bool {
        (0..extra).all(|i| self.word(key, i) == stored[i])
    }
}

/// The secrets of a table's hash, drawn at random: who sends packets cannot make them collide.
pub(super) struct Secrets {
    words: [u64; KEY_WORDS + 2],
    /// What the second and third pair add to the hash when their words are zero.
    absent: [u64; 2],
}

impl Secrets {
    /// Fresh secrets.
    pub(super) fn random() -> Self {
        let state = RandomState::new();
        let draw = |i: usize| {
            let mut hasher = state.build_hasher();
            hasher.write_usize(i);
            hasher.finish()
        };
        let words: [u64; KEY_WORDS + 2] = core::array::from_fn(draw);
        Secrets { words, absent: [fold(words[2], words[3]), fold(words[4], words[5])] }
    }

    /// A seed for subtable number `id`.
    pub(super) fn seed(&self, id: u16) -> u64 {
        fold(self.words[0] ^ u64::from(id), self.words[1])
    }

    /// Hash of the inline words, whatever their number.
    #[inline(always)]
    pub(super) fn hash(&self, words: &[u64; INLINE], seed: u64) -> u64 {
        let s = &self.words;
        let pairs = fold(words[0] ^ s[0], words[1] ^ s[1])
            ^ fold(words[2] ^ s[2], words[3] ^ s[3])
            ^ fold(words[4] ^ s[4], s[5]);
        self.finish(pairs ^ seed)
    }

    /// The last multiplication. One alone leaves a run of addresses as evenly spaced steps, and one table
    /// in a hundred draws secrets with which they all land in a few buckets.
    #[inline(always)]
    fn finish(&self, hash: u64) -> u64 {
        fold(hash, self.words[KEY_WORDS + 1])
    }

    /// The seed to give to [`Secrets::hash_n`]: it has in it what absent pairs of words add to the hash.
    #[inline(always)]
    pub(super) fn seed_n<const N: usize>(&self, seed: u64) -> u64 {
        let third = if N <= 4 { self.absent[1] } else { 0 };
        let second = if N <= 2 { self.absent[0] } else { 0 };
        seed ^ second ^ third
    }

    /// [`Secrets::hash`] of words of which only the first `N` are not zero, with no work for the others.
    #[inline(always)]
    pub(super) fn hash_n<const N: usize>(&self, words: &[u64; N], seed_n: u64) -> u64 {
        let s = &self.words;
        let word = |i: usize| if i < N { words[i] ^ s[i] } else { s[i] };
        let mut hash = seed_n ^ fold(word(0), word(1));
        if N > 2 {
            hash ^= fold(word(2), word(3));
        }
        if N > 4 {
            hash ^= fold(word(4), word(5));
        }
        self.finish(hash)
    }

    /// What the `extra` words beyond the inline ones change in the seed.
    #[inline]
    pub(super) fn hash_wide(&self, wide: &Wide, key: &FlowKey, extra: usize) -> u64 {
        let s = &self.words;
        let word = |i: usize| if i < extra { wide.word(key, i) } else { 0 };
        (0..extra).step_by(2).fold(0, |hash, i| {
            let at = (INLINE + 1 + i).min(KEY_WORDS);
            hash ^ fold(word(i) ^ s[at], word(i + 1) ^ s[at + 1])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_specialised_hashes_are_the_general_one(words in prop::array::uniform5(any::<u64>()), seed in any::<u64>()) {
            let secrets = Secrets::random();
            fn check<const N: usize>(secrets: &Secrets, words: &[u64; INLINE], seed: u64) -> bool {
                let (mut first, mut padded) = ([0; N], [0; INLINE]);
                first.copy_from_slice(&words[..N]);
                padded[..N].copy_from_slice(&words[..N]);
                secrets.hash_n(&first, secrets.seed_n::<N>(seed)) == secrets.hash(&padded, seed)
            }
            prop_assert!(check::<1>(&secrets, &words, seed));
            prop_assert!(check::<2>(&secrets, &words, seed));
            prop_assert!(check::<3>(&secrets, &words, seed));
            prop_assert!(check::<4>(&secrets, &words, seed));
            prop_assert!(check::<5>(&secrets, &words, seed));
        }
    }

    #[test]
    fn a_shape_holds_the_words_with_bits_but_not_the_in_port() {
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowMask::ZERO };
        assert_eq!(Shape::new(&mask).len, 0);
        mask.tun_id = 0xff;
        mask.nd_target[15] = 1;
        let shape = Shape::new(&mask);
        assert_eq!((shape.len, &shape.words[..2]), (2, &[W0, W17][..]));
        let (subtable, _) = Subtable::new(7, &shape, 1);
        let mut key = FlowKey { in_port: 7, tun_id: 0x1ff, nw_ttl: 9, ..FlowKey::ZERO };
        key.nd_target[15] = 3;
        let key = key.masked(&FlowMask { in_port: 0, ..mask });
        assert_eq!(subtable.compress(&key), [key.words()[0], key.words()[17], 0, 0, 0]);
        *mask.words_mut() = [u64::MAX; KEY_WORDS];
        assert_eq!(usize::from(Shape::new(&mask).len), KEY_WORDS);
    }
}
