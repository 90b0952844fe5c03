//! The slow path's rule table: which rule of many applies to a packet, and which bits that depended on.
//!
//! Tuple space search: rules with one mask share a [`Subtable`], a hash table over the masked words.
//! Subtables are kept in order of their highest priority, so a search stops at the first one that
//! cannot beat what it has found. A search reports every bit that its outcome depended on, which is what
//! lets the megaflow made from it cover more than one packet: see [`Table::lookup`]. To be few, those bits are
//! looked at in stages, and of addresses and port numbers only as many as tell the rules' prefixes apart.

mod conjunction;
mod prefix;
mod stage;
mod subtable;
mod trie;

use crate::ofp::{Match, MatchKey};
pub use conjunction::Found;
use prefix::{Asked, Tries};
use subtable::Subtable;

/// Rules by priority and match, each with an `R` (say, an `Arc` of what the rule does).
#[derive(Debug, Clone)]
pub struct Table<R> {
    /// In descending order of [`Subtable::max_priority`].
    subtables: Vec<Subtable<R>>,
    /// What the rules have of the fields that are matched by prefixes.
    tries: Tries,
    len: usize,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Table { subtables: Vec::new(), tries: Tries::default(), len: 0 }
    }
}

impl<R> Table<R> {
    /// A table without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of different masks: what the time of a lookup depends on.
    pub fn masks(&self) -> usize {
        self.subtables.len()
    }

    fn position(&self, mask: &MatchKey) -> Option<usize> {
        self.subtables.iter().position(|s| s.mask() == mask)
    }

    /// Restores the order after the highest priority of subtable `at` changed.
    ///
    /// The sort is stable and nearly a no-op, so subtables of equal priority keep their order and a
    /// packet that two rules of one priority match keeps getting the same one.
    fn reorder(&mut self, at: usize) {
        let priority = self.subtables[at].max_priority();
        let above = at > 0 && self.subtables[at - 1].max_priority() < priority;
        let below = self.subtables.get(at + 1).is_some_and(|next| next.max_priority() > priority);
        if above || below {
            self.subtables.sort_by_key(|s| std::cmp::Reverse(s.max_priority()));
        }
    }

    /// Adds a rule, or replaces the one with the same priority and match, which is returned.
    pub fn insert(&mut self, priority: u16, what: &Match, rule: R) -> Option<R> {
        let at = self.position(what.mask()).unwrap_or_else(|| {
            self.subtables.push(Subtable::new(what.mask()));
            self.subtables.len() - 1
        });
        let old = self.subtables[at].insert(priority, what.key(), rule);
        if old.is_none() {
            self.len += 1;
            self.tries.insert(&self.subtables[at].prefixes, what.key());
        }
        self.reorder(at);
        old
    }

    /// Removes the rule with exactly this priority and match (OpenFlow's strict delete).
    pub fn remove(&mut self, priority: u16, what: &Match) -> Option<R> {
        let at = self.position(what.mask())?;
        let old = self.subtables[at].remove(priority, what.key())?;
        self.len -= 1;
        self.tries.remove(&self.subtables[at].prefixes, what.key());
        if self.subtables[at].is_empty() {
            self.subtables.remove(at);
        } else {
            self.reorder(at);
        }
        Some(old)
    }

    /// The rule with exactly this priority and match.
    pub fn get(&self, priority: u16, what: &Match) -> Option<&R> {
        self.subtables[self.position(what.mask())?].get(priority, what.key())
    }

    /// All rules, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Match, &R)> {
        self.subtables.iter().flat_map(Subtable::iter)
    }

    /// The same without what they match, which takes a fraction of the time.
    pub fn rules(&self) -> impl Iterator<Item = &R> {
        self.subtables.iter().flat_map(Subtable::rules)
    }

    /// The rules that only apply to packets of `wider` (OpenFlow's non-strict criterion), in no
    /// particular order.
    pub fn filter<'a>(&'a self, wider: &'a Match) -> impl Iterator<Item = &'a R> {
        let candidates = self.subtables.iter().filter(|s| s.mask().covers(wider.mask()));
        candidates.flat_map(|subtable| subtable.within(wider))
    }

    /// Whether a rule of this priority, other than the one with the very same match, could apply to a
    /// packet of `what`: what `check_overlap` refuses.
    pub fn overlaps(&self, priority: u16, what: &Match) -> bool {
        let candidates = self.subtables.iter().filter(|s| s.has_priority(priority));
        candidates
            .flat_map(Subtable::iter)
            .any(|(p, other, _)| p == priority && other != *what && other.overlaps(what))
    }

    /// Removes the rules for which `condemned` says so, and returns them.
    pub fn extract(&mut self, mut condemned: impl FnMut(&R) -> bool) -> Vec<R> {
        // Most often all of them go, and need not be found one by one.
        if self.rules().all(&mut condemned) {
            let subtables = std::mem::take(self).subtables;
            return subtables.into_iter().flat_map(Subtable::into_rules).collect();
        }
        let doomed: Vec<(u16, Match)> =
            self.iter().filter(|(.., rule)| condemned(rule)).map(|(p, what, _)| (p, what)).collect();
        doomed.into_iter().filter_map(|(p, what)| self.remove(p, &what)).collect()
    }

    /// The rule of highest priority that matches `key`.
    ///
    /// ORs into `wc` every bit of `key` that the outcome depended on: any key that agrees with this one on
    /// those bits gets the same answer from the same table. Bits that are in `wc` already count as agreed
    /// upon: what they show costs nothing, so a caller should hand in what it has looked at. Where two rules of one priority match, which
    /// of them is found is unspecified, but a function of those bits.
    pub fn lookup(&self, key: &MatchKey, wc: &mut MatchKey) -> Option<&R> {
        let mut best: Option<(u16, &R)> = None;
        let mut asked = Asked::new(&self.tries, key);
        for subtable in &self.subtables {
            // Sorted, so neither this one nor any later one can win; having asked nothing of the
            // packet, they leave nothing in `wc`.
            if best.is_some_and(|(priority, _)| priority >= subtable.max_priority()) {
                break;
            }
            if let Some((priority, rule)) = subtable.lookup(key, &mut asked, wc)
                && best.is_none_or(|(p, _)| priority > p)
            {
                best = Some((priority, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests;
