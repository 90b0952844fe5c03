//! What a rule looks at: the packet's key plus the pipeline fields that live only in the slow path.

use wire::key::FlowKey;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of 64-bit words in a [`MatchKey`]. The last two are always zero: they fill the block up to
/// [`FlowKey`]'s alignment.
pub const MATCH_WORDS: usize = 44;

/// A [`FlowKey`] with OpenFlow's pipeline fields, or (as a mask) which bits of them matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(C)]
pub struct MatchKey {
    /// The packet's own fields. In rules and slow path keys `in_port` is the OpenFlow port number.
    pub flow: FlowKey,
    /// OpenFlow `metadata`. Host order.
    pub metadata: u64,
    /// OVS `reg0` to `reg15`. Host order.
    pub reg: [u32; 16],
    /// OVS `pkt_mark`. Host order.
    pub pkt_mark: u32,
    /// OVS `conj_id`: which conjunction of rules a lookup is for. Host order.
    pub conj_id: u32,
    /// Always 0.
    pub reserved: [u64; 2],
}

impl MatchKey {
    /// All bits zero: the key of nothing, the mask that matches everything.
    pub const ZERO: MatchKey = zerocopy::transmute!([0u64; MATCH_WORDS]);

    /// The key as words, in native order.
    #[inline]
    pub fn words(&self) -> &[u64; MATCH_WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// The key as words, in native order.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u64; MATCH_WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// `self & mask`, bit by bit.
    #[inline]
    #[must_use]
    pub fn masked(&self, mask: &MatchKey) -> MatchKey {
        let mut out = *self;
        for (word, mask) in out.words_mut().iter_mut().zip(mask.words()) {
            *word &= mask;
        }
        out
    }

    /// Whether `self` and `other` agree on every bit of `mask`.
    #[inline]
    pub fn matches(&self, other: &MatchKey, mask: &MatchKey) -> bool {
        self.words().iter().zip(other.words()).zip(mask.words()).all(|((a, b), m)| (a ^ b) & m == 0)
    }

    /// `self |= other`: widens a mask by the bits of another.
    #[inline]
    pub fn or(&mut self, other: &MatchKey) {
        for (word, other) in self.words_mut().iter_mut().zip(other.words()) {
            *word |= other;
        }
    }

    /// Whether every bit of `other` is set in `self`.
    #[inline]
    pub fn covers(&self, other: &MatchKey) -> bool {
        self.words().iter().zip(other.words()).all(|(a, b)| b & !a == 0)
    }
}

impl Default for MatchKey {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<FlowKey> for MatchKey {
    /// A packet as it enters the pipeline: `metadata` and registers zero.
    fn from(flow: FlowKey) -> Self {
        MatchKey { flow, ..MatchKey::ZERO }
    }
}

/// What packets a rule applies to: those that agree with `key` on every bit of `mask`.
///
/// Invariant: `key` is zero outside `mask`, so equal matches compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Match {
    key: MatchKey,
    mask: MatchKey,
}

impl Match {
    /// Matches every packet.
    pub const ANY: Match = Match { key: MatchKey::ZERO, mask: MatchKey::ZERO };

    /// A match on the bits of `mask`; bits of `key` outside it are dropped.
    pub fn new(key: &MatchKey, mask: &MatchKey) -> Match {
        Match { key: key.masked(mask), mask: *mask }
    }

    /// The values, zero outside [`mask`](Self::mask).
    #[inline]
    pub fn key(&self) -> &MatchKey {
        &self.key
    }

    /// The bits that matter.
    #[inline]
    pub fn mask(&self) -> &MatchKey {
        &self.mask
    }

    /// Whether a packet with `key` matches.
    #[inline]
    pub fn matches(&self, key: &MatchKey) -> bool {
        self.key.matches(key, &self.mask)
    }

    /// Whether every packet that matches `self` also matches `wider`: OpenFlow's non-strict criterion,
    /// by which `del-flows` with `wider` removes a rule with `self`.
    pub fn is_within(&self, wider: &Match) -> bool {
        self.mask.covers(&wider.mask) && self.key.matches(&wider.key, &wider.mask)
    }

    /// Whether some packet could match both.
    pub fn overlaps(&self, other: &Match) -> bool {
        self.key.matches(&other.key, &self.mask.masked(&other.mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        assert_eq!(size_of::<MatchKey>(), MATCH_WORDS * 8);
        assert_eq!(core::mem::offset_of!(MatchKey, metadata), wire::key::KEY_WORDS * 8);
    }

    #[test]
    fn within_and_overlap() {
        let mut key = MatchKey { metadata: 0x1f, ..MatchKey::ZERO };
        key.reg[7] = 9;
        let narrow = Match::new(
            &key,
            &MatchKey {
                metadata: 0xff,
                reg: std::array::from_fn(|i| if i == 7 { 0xff } else { 0 }),
                ..MatchKey::ZERO
            },
        );
        let wide = Match::new(&key, &MatchKey { metadata: 0xf0, ..MatchKey::ZERO });
        assert!(narrow.is_within(&wide) && narrow.is_within(&Match::ANY) && narrow.is_within(&narrow));
        assert!(!wide.is_within(&narrow));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        let other = Match::new(&MatchKey::ZERO, wide.mask());
        assert!(!other.overlaps(&narrow) && !narrow.is_within(&other));
        assert_eq!(wide.key().metadata, 0x10, "bits outside the mask are dropped");
    }
}
