//! The masks of each in-port's megaflows, and a bound for them.
//!
//! A worker looks a packet up under one mask after the other, so masks cost every packet of the worker, and whoever
//! sends can make them: ordinary rules over a few fields have thousands of combinations of prefixes and stages ("tuple
//! space explosion", Csikor et al. 2019). So an in-port has a bounded number. A new mask beyond that is widened to one
//! that is there and looks at all that it looks at, and else to the port's *wide* mask, which looks at every byte that
//! any of the port's masks looks at. That is always right: a decision holds for all packets that agree on what it
//! looked at, so also for fewer that agree on more.

use rustc_hash::FxHashMap;
use wire::key::{FlowKey, FlowMask, KEY_WORDS};

/// The masks of one in-port.
#[derive(Debug, Default)]
struct OfPort {
    /// With the number of its megaflows.
    users: FxHashMap<[u64; KEY_WORDS], usize>,
    /// Grows for as long as there is the store: it takes in one more byte at least each time, so it seldom does.
    wide: Option<FlowMask>,
}

/// The masks of all megaflows of a worker.
#[derive(Debug, Default)]
pub(super) struct Masks {
    /// How many megaflows have each mask: counted here, because a scrape does not look at them all.
    users: FxHashMap<[u64; KEY_WORDS], usize>,
    ports: FxHashMap<u32, OfPort>,
}

/// What becomes of a mask.
#[allow(clippy::large_enum_variant, reason = "it lives for one upcall")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// There is room for it, or it is there.
    AsItIs,
    /// Another mask is to be used.
    Widened(FlowMask),
    /// The same; and the wide mask of before has no use any more.
    Outgrown {
        /// What is to be used.
        mask: FlowMask,
        /// Whose megaflows are to be removed.
        old: FlowMask,
    },
}

impl Masks {
    /// Different masks.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// Different masks of one in-port.
    pub(super) fn of_port(&self, in_port: u32) -> usize {
        self.ports.get(&in_port).map_or(0, |port| port.users.len())
    }

    /// One megaflow more.
    pub(super) fn add(&mut self, in_port: u32, mask: &FlowMask) {
        *self.users.entry(*mask.words()).or_default() += 1;
        *self.ports.entry(in_port).or_default().users.entry(*mask.words()).or_default() += 1;
    }

    /// One megaflow less.
    pub(super) fn remove(&mut self, in_port: u32, mask: &FlowMask) {
        less(&mut self.users, mask);
        if let Some(port) = self.ports.get_mut(&in_port) {
            less(&mut port.users, mask);
        }
    }

    /// The mask to use instead of `mask`, such that the in-port has no more than `bound`, which is at least 2.
    pub(super) fn fit(&mut self, in_port: u32, mask: &FlowMask, bound: usize) -> Fit {
        let Some(port) = self.ports.get_mut(&in_port) else { return Fit::AsItIs };
        let wide_is_used = port.wide.is_some_and(|wide| port.users.contains_key(wide.words()));
        let others = port.users.len() - usize::from(wide_is_used);
        // One place is the wide mask's.
        if port.users.contains_key(mask.words()) || others + 1 < bound {
            return Fit::AsItIs;
        }
        let closest = port
            .users
            .keys()
            .filter(|words| covers(words, mask.words()))
            .min_by_key(|words| words.iter().map(|word| word.count_ones()).sum::<u32>());
        if let Some(words) = closest {
            return Fit::Widened(of_words(words));
        }
        if let Some(wide) = port.wide.filter(|wide| covers(wide.words(), mask.words())) {
            return Fit::Widened(wide);
        }
        let mut wide = port.wide.unwrap_or(*mask);
        wide.or(mask);
        for words in port.users.keys() {
            wide.or(&of_words(words));
        }
        // Byte by byte: prefixes would grow it bit by bit.
        for word in wide.words_mut() {
            *word = u64::from_ne_bytes(word.to_ne_bytes().map(|byte| if byte == 0 { 0 } else { u8::MAX }));
        }
        match port.wide.replace(wide) {
            Some(old) if wide_is_used => Fit::Outgrown { mask: wide, old },
            _ => Fit::Widened(wide),
        }
    }
}

fn less(users: &mut FxHashMap<[u64; KEY_WORDS], usize>, mask: &FlowMask) {
    if let Some(count) = users.get_mut(mask.words()) {
        *count -= 1;
        if *count == 0 {
            users.remove(mask.words());
        }
    }
}

/// Whether `wide` looks at all that `mask` looks at.
fn covers(wide: &[u64; KEY_WORDS], mask: &[u64; KEY_WORDS]) -> bool {
    wide.iter().zip(mask).all(|(wide, mask)| mask & !wide == 0)
}

fn of_words(words: &[u64; KEY_WORDS]) -> FlowMask {
    let mut mask = FlowKey::ZERO;
    mask.words_mut().copy_from_slice(words);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(bits: u64) -> FlowMask {
        let mut mask = FlowKey { in_port: u32::MAX, ..FlowKey::ZERO };
        (mask.words_mut()[3], mask.words_mut()[7]) = (bits & 0xffff_0000, bits << 32 & 0xff_ffff << 32);
        mask
    }

    proptest! {
        /// What comes out looks at all that went in looked at; a port never has more masks than its bound; and the wide
        /// mask settles.
        #[test]
        fn masks_are_widened_and_bounded(
            steps in prop::collection::vec((0u32..3, any::<u32>(), any::<u32>(), 0u8..10), 1..300),
            bound in 2usize..10,
        ) {
            let mut masks = Masks::default();
            let mut here: Vec<(u32, FlowMask)> = Vec::new();
            let mut outgrown = 0;
            for (port, a, b, what) in steps {
                if what == 0 && !here.is_empty() {
                    let (port, mask) = here.swap_remove(a as usize % here.len());
                    masks.remove(port, &mask);
                    continue;
                }
                let wanted = mask(u64::from(a & b));
                let used = match masks.fit(port, &wanted, bound) {
                    Fit::AsItIs => wanted,
                    Fit::Widened(mask) => mask,
                    Fit::Outgrown { mask, old } => {
                        outgrown += 1;
                        here.retain(|(p, m)| {
                            let goes = *p == port && *m == old;
                            if goes {
                                masks.remove(port, &old);
                            }
                            !goes
                        });
                        mask
                    }
                };
                prop_assert!(covers(used.words(), wanted.words()));
                masks.add(port, &used);
                here.push((port, used));
                prop_assert!(masks.of_port(port) <= bound);
            }
            prop_assert!(outgrown <= 3 * 8, "{outgrown}");
        }
    }
}
