//! The stages in which a subtable is searched.
//!
//! As in OVS: what is known about every packet first, then layer by layer. A subtable in which nothing
//! agrees with the packet's MAC addresses says so without looking at its ports, so that a table of L2
//! rules never makes a megaflow look at L4.

use crate::ofp::{Field, MatchKey, Stage};
use std::sync::LazyLock;

/// Number of stages.
pub(super) const STAGES: usize = Stage::COUNT;

/// Every bit that a rule can match on, by the stage that its field belongs to: a rule's mask has no others.
pub(super) static STAGE_MASKS: LazyLock<[MatchKey; STAGES]> =
    LazyLock::new(|| [Stage::Metadata, Stage::L2, Stage::L3, Stage::L4].map(Field::bytes_of));

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn stages_partition_what_rules_match_on() {
        let mut all = MatchKey::ZERO;
        for mask in &*STAGE_MASKS {
            for (a, m) in all.words_mut().iter_mut().zip(mask.words()) {
                assert_eq!(*a & m, 0, "stages overlap");
                *a |= m;
            }
        }
        assert!(all.covers(&Field::mask_of(|_| true)));
        assert!(all.as_bytes().iter().all(|b| *b == 0 || *b == 0xff));
        let stored: u32 = all.words().iter().map(|word| word.count_ones()).sum();
        let not_matched_on = 2 + 1 + 4 + 16;
        assert_eq!(
            stored,
            8 * (crate::ofp::MATCH_WORDS as u32 * 8 - not_matched_on),
            "only the second tag and reserved bytes are in no stage"
        );
    }
}
