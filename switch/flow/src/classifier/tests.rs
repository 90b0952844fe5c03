//! The classifier against a linear search, and the promise that `wc` makes.

mod conjunctions;
mod prefixes;

use super::*;
use crate::ofp::MATCH_WORDS;
use proptest::prelude::*;
use wire::addr::MacAddr;
use wire::key::FlowKey;

/// A key that differs from others in few bits of every stage, so that rules hit, miss and overlap.
fn key_of(bits: [u8; 6]) -> MatchKey {
    MatchKey {
        flow: FlowKey {
            in_port: u32::from(bits[0] & 3),
            dl_dst: MacAddr([0, 0, 0, 0, 0, bits[1] & 7]),
            nw_dst: u32::from(bits[2] & 7).into(),
            nw_proto: bits[3] & 1,
            tp_dst: u16::from(bits[4] & 7).into(),
            ..FlowKey::ZERO
        },
        metadata: u64::from(bits[5] & 3),
        ..MatchKey::ZERO
    }
}

/// A mask over the bits that [`key_of`] uses: few enough kinds that rules share masks.
fn mask_of(choice: u16) -> MatchKey {
    let pick = |shift: u16, options: [u8; 4]| options[usize::from(choice >> shift & 3)];
    key_of([
        pick(0, [0, 3, 3, 1]),
        pick(2, [0, 7, 7, 4]),
        pick(4, [0, 7, 6, 4]),
        pick(6, [0, 1, 0, 1]),
        pick(8, [0, 7, 0, 6]),
        pick(10, [0, 0, 3, 2]),
    ])
}

fn rule() -> impl Strategy<Value = (u16, Match)> {
    (0u16..6, any::<[u8; 6]>(), any::<u16>())
        .prop_map(|(priority, key, mask)| (priority, Match::new(&key_of(key), &mask_of(mask))))
}

/// What happens to a table: (whether to remove, rule).
fn history() -> impl Strategy<Value = Vec<(bool, (u16, Match))>> {
    prop::collection::vec((prop::bool::weighted(0.3), rule()), 0..60)
}

/// Applies a history to a table and to a plain list; the rule's value is its number in the history.
fn build(history: &[(bool, (u16, Match))]) -> (Table<usize>, Vec<(u16, Match, usize)>) {
    let (mut table, mut list) = (Table::new(), Vec::<(u16, Match, usize)>::new());
    for (i, (remove, (priority, what))) in history.iter().enumerate() {
        let at = list.iter().position(|(p, m, _)| p == priority && m == what);
        if *remove {
            // Half of the removals hit: take an existing rule if there is one.
            let (priority, what) = match list.get(i / 2) {
                Some((p, m, _)) => (*p, *m),
                None => (*priority, *what),
            };
            let at = list.iter().position(|(p, m, _)| *p == priority && *m == what);
            assert_eq!(table.remove(priority, &what), at.map(|at| list.remove(at).2));
        } else {
            assert_eq!(table.insert(*priority, what, i), at.map(|at| list.remove(at).2));
            list.push((*priority, *what, i));
        }
    }
    (table, list)
}

fn sorted(rules: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut rules: Vec<usize> = rules.collect();
    rules.sort_unstable();
    rules
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_a_linear_search(history in history(), keys in prop::collection::vec(any::<[u8; 6]>(), 8)) {
        let (table, list) = build(&history);
        prop_assert_eq!(table.len(), list.len());
        prop_assert_eq!(table.is_empty(), list.is_empty());
        for key in keys.into_iter().map(key_of) {
            let best = list.iter().filter(|(_, m, _)| m.matches(&key)).map(|(p, ..)| *p).max();
            let found = table.lookup(&key, &mut MatchKey::default()).copied();
            let found = found.map(|n| list.iter().find(|(.., r)| *r == n).expect("a rule in the table"));
            prop_assert_eq!(found.map(|(p, ..)| *p), best);
            prop_assert!(found.is_none_or(|(_, m, _)| m.matches(&key)));
        }
    }

    #[test]
    fn keys_that_agree_on_wc_get_the_same_rule(
        history in history(), key in any::<[u8; 6]>(), others in prop::collection::vec(any::<[u8; 6]>(), 32),
    ) {
        let (table, _) = build(&history);
        let key = key_of(key);
        let mut wc = MatchKey::ZERO;
        let found = table.lookup(&key, &mut wc);
        for other in others.into_iter().map(key_of) {
            // The key itself in the bits of wc, another one elsewhere.
            let mut twin = other;
            for ((t, k), m) in twin.words_mut().iter_mut().zip(key.words()).zip(wc.words()) {
                *t = (*t & !m) | (k & m);
            }
            prop_assert_eq!(table.lookup(&twin, &mut MatchKey::default()), found);
        }
    }

    #[test]
    fn contents(history in history(), (priority, wider) in rule()) {
        let (mut table, list) = build(&history);
        prop_assert_eq!(sorted(table.iter().map(|(.., r)| *r)), sorted(list.iter().map(|(.., r)| *r)));
        for (p, what, r) in table.iter() {
            prop_assert!(list.contains(&(p, what, *r)));
            prop_assert_eq!(table.get(p, &what), Some(r));
        }
        let within = |m: &Match| m.is_within(&wider);
        let expected = sorted(list.iter().filter(|(_, m, _)| within(m)).map(|(.., r)| *r));
        prop_assert_eq!(sorted(table.filter(&wider).copied()), expected.clone());
        let overlap = list.iter().any(|(p, m, _)| *p == priority && *m != wider && m.overlaps(&wider));
        prop_assert_eq!(table.overlaps(priority, &wider), overlap);
        prop_assert_eq!(sorted(table.extract(|r| expected.contains(r)).into_iter()), expected.clone());
        prop_assert_eq!(table.len(), list.len() - expected.len());
        table.extract(|_| true);
        prop_assert!(table.is_empty() && table.masks() == 0);
    }
}

/// The bits of `wc` after looking up the zero key in a table of these rules.
fn wildcards(rules: &[(u16, MatchKey, MatchKey)]) -> MatchKey {
    let mut table = Table::new();
    for (i, (priority, key, mask)) in rules.iter().enumerate() {
        table.insert(*priority, &Match::new(key, mask), i);
    }
    let mut wc = MatchKey::ZERO;
    table.lookup(&MatchKey::ZERO, &mut wc);
    wc
}

#[test]
fn early_stage_spares_later_ones() {
    let l2 = FlowKey { dl_dst: MacAddr::BROADCAST, ..FlowKey::ZERO };
    let mask = FlowKey { tcp_flags: 0xffff.into(), nw_src: u32::MAX.into(), ..l2 };
    let wc = wildcards(&[(1, l2.into(), mask.into())]);
    assert_eq!(wc, MatchKey::from(l2), "L2 failed, so L3 and L4 must stay wild");
    let wc = wildcards(&[(1, FlowKey { tcp_flags: 2.into(), ..FlowKey::ZERO }.into(), mask.into())]);
    assert_eq!(wc, MatchKey::from(mask), "only L4 failed");
}

#[test]
fn lower_priority_subtables_are_not_asked() {
    let l4 = MatchKey::from(FlowKey { tp_dst: 0xffff.into(), ..FlowKey::ZERO });
    let port = MatchKey::from(FlowKey { in_port: u32::MAX, ..FlowKey::ZERO });
    assert_eq!(wildcards(&[(5, MatchKey::ZERO, port), (5, l4, l4), (4, MatchKey::ZERO, l4)]), port);
    assert_ne!(wildcards(&[(5, MatchKey::ZERO, port), (6, l4, l4)]), port);
    assert_eq!(wildcards(&[]), MatchKey::ZERO);
}
