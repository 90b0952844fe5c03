//! Conjunctive matches against a list that is searched from the highest priority down, as `ovs-fields(7)` says it.

use super::*;
use crate::ofp::Conjunction;
use std::collections::BTreeSet;

/// What a rule is: its number, and the conjunctions of which it is part.
type Part = (usize, Vec<Conjunction>);

fn parts_of(rule: &Part) -> &[Conjunction] {
    &rule.1
}

/// Few conjunctions, some with two parts and some with three.
fn conjunction() -> impl Strategy<Value = Conjunction> {
    (1u32..4, 1u8..4).prop_map(|(id, clause)| {
        let clauses = if id == 2 { 3 } else { 2 };
        Conjunction { id, clause: clause.min(clauses), clauses }
    })
}

/// A rule that is part of none, one or two conjunctions, or that matches one.
fn conjunctive_rule() -> impl Strategy<Value = (u16, Match, Vec<Conjunction>)> {
    let parts = prop_oneof![
        2 => Just(Vec::new()),
        5 => prop::collection::vec(conjunction(), 1..3),
    ];
    (0u16..3, any::<[u8; 6]>(), any::<u16>(), parts, 0u32..5).prop_map(|(priority, key, mask, parts, id)| {
        let (mut key, mut mask) = (key_of(key), mask_of(mask));
        if parts.is_empty() && id < 4 {
            (key.conj_id, mask.conj_id) = (id, u32::MAX);
        }
        (priority, Match::new(&key, &mask), parts)
    })
}

fn table_of(rules: &[(u16, Match, Vec<Conjunction>)]) -> (Table<Part>, Vec<(u16, Match, Part)>) {
    let (mut table, mut list) = (Table::new(), Vec::<(u16, Match, Part)>::new());
    for (n, (priority, what, parts)) in rules.iter().enumerate() {
        list.retain(|(p, m, _)| (p, m) != (priority, what));
        list.push((*priority, *what, (n, parts.clone())));
        table.insert(*priority, what, (n, parts.clone()));
    }
    (table, list)
}

/// The priority of the rule for a key, and the value of `conj_id` with which it was found.
fn naive(list: &[(u16, Match, Part)], key: &MatchKey) -> Option<(u16, u32)> {
    let whole = |key: &MatchKey| {
        let wholes = list.iter().filter(|(_, what, rule)| rule.1.is_empty() && what.matches(key));
        wholes.map(|(priority, ..)| *priority).max()
    };
    let own = whole(key);
    for priority in (0u16..3).rev() {
        if own == Some(priority) {
            return Some((priority, key.conj_id));
        }
        let here = list.iter().filter(|(p, what, _)| *p == priority && what.matches(key));
        let parts: BTreeSet<(u32, u8)> =
            here.flat_map(|(.., rule)| &rule.1).map(|part| (part.id, part.clause)).collect();
        for id in 1u32..4 {
            let clauses = if id == 2 { 3 } else { 2 };
            if (1..=clauses).all(|clause| parts.contains(&(id, clause)))
                && let Some(found) = whole(&MatchKey { conj_id: id, ..*key })
            {
                return Some((found, id));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agree_with_a_search_by_priority(
        rules in prop::collection::vec(conjunctive_rule(), 0..40), keys in prop::collection::vec(any::<[u8; 6]>(), 8),
    ) {
        let (table, list) = table_of(&rules);
        for key in keys.into_iter().map(key_of) {
            let found = table.lookup_conjunctive(&key, &mut MatchKey::default(), parts_of);
            let expected = naive(&list, &key);
            let Some(found) = found else {
                prop_assert_eq!(expected, None);
                continue;
            };
            prop_assert!(found.rule.1.is_empty(), "a part is no answer");
            let (priority, what, _) = list.iter().find(|(.., rule)| rule == found.rule).expect("a rule of the table");
            let (expected, id) = expected.expect("the list has a rule");
            prop_assert_eq!(*priority, expected);
            let key = MatchKey { conj_id: id, ..key };
            prop_assert!(what.matches(&key));
            prop_assert_eq!(found.parts.is_empty(), id == 0);
            for part in found.parts {
                prop_assert!(part.1.iter().any(|part| part.id == id));
            }
        }
    }

    #[test]
    fn keys_that_agree_on_wc_get_the_same_rule_by_conjunctions(
        rules in prop::collection::vec(conjunctive_rule(), 0..40),
        key in any::<[u8; 6]>(),
        others in prop::collection::vec(any::<[u8; 6]>(), 32),
    ) {
        let (table, _) = table_of(&rules);
        let key = key_of(key);
        let mut wc = MatchKey::ZERO;
        let found = table.lookup_conjunctive(&key, &mut wc, parts_of);
        for other in others.into_iter().map(key_of) {
            let mut twin = other;
            for ((t, k), m) in twin.words_mut().iter_mut().zip(key.words()).zip(wc.words()) {
                *t = (*t & !m) | (k & m);
            }
            prop_assert_eq!(&table.lookup_conjunctive(&twin, &mut MatchKey::default(), parts_of), &found);
        }
    }
}
