//! Conjunctive matches: rules that are parts of one match, which has a set of values in each of several dimensions
//! (`ovs-fields(7)`, "Conjunctive match fields").
//!
//! A packet that matches rules of all parts of a conjunction, at one priority, is looked up again with `conj_id` set, among the
//! rules that are no parts. What that finds is the answer; if it finds nothing, it is as if the conjunction were not there.

use super::Table;
use super::prefix::Asked;
use crate::ofp::{Conjunction, MatchKey};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The rule for a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'t, R> {
    /// The rule.
    pub rule: &'t R,
    /// Rules that are parts of the conjunction by which it was found; none for a rule that the packet matches by itself.
    pub parts: Vec<&'t R>,
}

impl<R> Table<R> {
    /// [`Table::lookup`] among rules of which some are parts of conjunctions: `parts_of` says of which. At one priority a rule
    /// that is no part goes before those that are.
    pub fn lookup_conjunctive<'t>(
        &'t self,
        key: &MatchKey,
        wc: &mut MatchKey,
        parts_of: impl Fn(&R) -> &[Conjunction],
    ) -> Option<Found<'t, R>> {
        let alone = |rule: &'t R| Found { rule, parts: Vec::new() };
        let best = self.lookup(key, wc)?;
        if parts_of(best).is_empty() {
            return Some(alone(best));
        }
        // The best rule that is no part, and the parts of higher priority.
        let mut whole: Option<(u16, &R)> = None;
        let mut parts: Vec<(u16, &R)> = Vec::new();
        let mut asked = Asked::new(&self.tries, key);
        for subtable in &self.subtables {
            if whole.is_some_and(|(priority, _)| priority >= subtable.max_priority()) {
                break;
            }
            for (priority, rule) in subtable.lookup_all(key, &mut asked, wc) {
                if whole.is_some_and(|(best, _)| best >= *priority) {
                    break;
                }
                if parts_of(rule).is_empty() {
                    whole = Some((*priority, rule));
                    break;
                }
                parts.push((*priority, rule));
            }
        }
        parts.retain(|(priority, _)| whole.is_none_or(|(best, _)| *priority > best));
        parts.sort_by_key(|(priority, _)| Reverse(*priority));
        for of_priority in parts.chunk_by(|a, b| a.0 == b.0) {
            for id in met(of_priority.iter().flat_map(|(_, rule)| parts_of(rule))) {
                let key = MatchKey { conj_id: id, ..*key };
                if let Some(rule) = self.lookup_whole(&key, wc, &parts_of) {
                    let of_id = |rule: &&R| parts_of(rule).iter().any(|part| part.id == id);
                    let parts = of_priority.iter().map(|(_, rule)| *rule).filter(of_id).collect();
                    return Some(Found { rule, parts });
                }
            }
        }
        whole.map(|(_, rule)| alone(rule))
    }

    /// [`Table::lookup`] among the rules that are no parts of conjunctions.
    fn lookup_whole(
        &self,
        key: &MatchKey,
        wc: &mut MatchKey,
        parts_of: &impl Fn(&R) -> &[Conjunction],
    ) -> Option<&R> {
        let looked_at = wc.conj_id;
        let mut best: Option<(u16, &R)> = None;
        let mut asked = Asked::new(&self.tries, key);
        for subtable in &self.subtables {
            if best.is_some_and(|(priority, _)| priority >= subtable.max_priority()) {
                break;
            }
            let rules = subtable.lookup_all(key, &mut asked, wc);
            if let Some((priority, rule)) = rules.iter().find(|(_, rule)| parts_of(rule).is_empty())
                && best.is_none_or(|(p, _)| *priority > p)
            {
                best = Some((*priority, rule));
            }
        }
        // It follows from what the parts have looked at, and is not the packet's own.
        wc.conj_id = looked_at;
        best.map(|(_, rule)| rule)
    }
}

/// The conjunctions of which all parts are there, by rising number.
fn met<'c>(parts: impl Iterator<Item = &'c Conjunction>) -> impl Iterator<Item = u32> {
    let mut clauses: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for Conjunction { id, clause, clauses: of } in parts {
        *clauses.entry((*id, *of)).or_default() |= 1 << (clause - 1);
    }
    clauses.into_iter().filter(|((_, of), met)| met.count_ones() >= u32::from(*of)).map(|((id, _), _)| id)
}
