//! Prefix tracking: the same answers from fewer bits.

use super::*;
use crate::ofp::{format_match, parse_flow, parse_key};

/// Two bits of the seed decide every second bit or so of the places where prefixes end and part.
fn spread(seed: u8, width: u32) -> u128 {
    let places = [0, 1, 2, width / 2, width / 2 + 1, width - 8, width - 2, width - 1];
    places.iter().enumerate().fold(0, |v, (i, at)| v | u128::from(seed >> i & 1) << (width - 1 - at))
}

/// A key of few values in every stage, with addresses and ports that share prefixes of all lengths.
fn key_of(seed: &[u8; 10]) -> MatchKey {
    MatchKey {
        flow: FlowKey {
            in_port: u32::from(seed[0] & 1),
            tun_dst: (spread(seed[1] & 0x8f, 32) as u32).into(),
            dl_dst: MacAddr([0, 0, 0, 0, 0, seed[0] >> 1 & 1]),
            dl_type: u16::from(seed[0] >> 2 & 1).into(),
            nw_src: (spread(seed[2], 32) as u32).into(),
            nw_dst: (spread(seed[3], 32) as u32).into(),
            ipv6_src: spread(seed[4], 128).to_be_bytes(),
            ipv6_dst: spread(seed[5], 128).to_be_bytes(),
            tun_ipv6_src: spread(seed[6] & 0x81, 128).to_be_bytes(),
            tp_src: (spread(seed[7], 16) as u16).into(),
            tp_dst: (spread(seed[8], 16) as u16).into(),
            nw_proto: seed[0] >> 3 & 1,
            ..FlowKey::ZERO
        },
        metadata: u64::from(seed[9] & 1),
        ..MatchKey::ZERO
    }
}

/// A field's mask: mostly none, often a prefix, now and then something else.
fn field_mask(seed: u8, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    let prefix = |len: u32| all & !(all >> (len - 1) >> 1);
    match seed % 16 {
        0 => prefix(1),
        1 => prefix(2),
        2 => prefix(width / 2 + 1),
        3 => prefix(width - 1),
        4 | 5 => all,
        6 => 3,
        7 => prefix(2) | 1,
        _ => 0,
    }
}

fn mask_of(seed: &[u8; 10]) -> MatchKey {
    MatchKey {
        flow: FlowKey {
            in_port: if seed[0] & 3 == 0 { u32::MAX } else { 0 },
            tun_dst: (field_mask(seed[1], 32) as u32).into(),
            dl_dst: MacAddr([if seed[0] & 0x1c == 0 { 0xff } else { 0 }; 6]),
            dl_type: if seed[0] & 0x60 == 0 { 0xffff } else { 0 }.into(),
            nw_src: (field_mask(seed[2], 32) as u32).into(),
            nw_dst: (field_mask(seed[3], 32) as u32).into(),
            ipv6_src: field_mask(seed[4], 128).to_be_bytes(),
            ipv6_dst: field_mask(seed[5], 128).to_be_bytes(),
            tun_ipv6_src: field_mask(seed[6], 128).to_be_bytes(),
            tp_src: (field_mask(seed[7], 16) as u16).into(),
            tp_dst: (field_mask(seed[8], 16) as u16).into(),
            nw_proto: if seed[0] & 0x80 == 0 { 0 } else { 0xff },
            ..FlowKey::ZERO
        },
        metadata: u64::from(seed[9] & 7 == 0),
        ..MatchKey::ZERO
    }
}

/// A table that has been through insertions, replacements and removals, with the same rules in a list.
/// Several rules have each mask, so that subtables hold more than one.
#[allow(clippy::type_complexity)]
fn table() -> impl Strategy<Value = (Table<usize>, Vec<(u16, Match, usize)>)> {
    let rule = (0u16..4, any::<[u8; 10]>(), any::<prop::sample::Index>());
    let step = (prop::bool::weighted(0.25), rule, prop::bool::weighted(0.1));
    (prop::collection::vec(any::<[u8; 10]>(), 1..6), prop::collection::vec(step, 0..50)).prop_map(
        |(masks, steps)| {
            let mut history: Vec<(bool, (u16, Match))> = Vec::new();
            for (remove, (priority, key, mask), repeat) in steps {
                let rule = (priority, Match::new(&key_of(&key), &mask_of(mask.get(&masks))));
                let rule = history.last().filter(|_| repeat).map_or(rule, |(_, last)| *last);
                history.push((remove, rule));
            }
            build(&history)
        },
    )
}

/// The table without prefix tracking: every subtable is searched.
fn untracked(table: &Table<usize>) -> Table<usize> {
    let mut table = table.clone();
    for subtable in &mut table.subtables {
        subtable.prefixes = Box::default();
    }
    table
}

fn random_key() -> impl Strategy<Value = MatchKey> {
    any::<[u8; 10]>().prop_map(|seed| key_of(&seed))
}

/// Bits to flip, anywhere: single ones, many, or those that keys differ in.
fn flips() -> impl Strategy<Value = MatchKey> {
    let one = (0..MATCH_WORDS, 0..64).prop_map(|(word, bit)| {
        let mut flips = MatchKey::ZERO;
        flips.words_mut()[word] = 1u64 << bit;
        flips
    });
    let many = any::<[u64; MATCH_WORDS]>().prop_map(|words| {
        let mut flips = MatchKey::ZERO;
        *flips.words_mut() = words;
        flips
    });
    prop_oneof![1 => one, 1 => many, 4 => random_key()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn same_rule_and_no_more_bits(
        (table, list) in table(), keys in prop::collection::vec(random_key(), 1..20),
    ) {
        let plain = untracked(&table);
        // A packet of each rule too, as most random ones match few.
        for key in keys.iter().chain(list.iter().map(|(_, what, _)| what.key())) {
            let (mut with, mut without) = (MatchKey::ZERO, MatchKey::ZERO);
            let found = table.lookup(key, &mut with).copied();
            prop_assert_eq!(found, plain.lookup(key, &mut without).copied());
            prop_assert!(without.covers(&with), "{with:#x?} not within {without:#x?}");
            let best = list.iter().filter(|(_, what, _)| what.matches(key)).map(|(p, ..)| *p).max();
            let found = found.map(|n| list.iter().find(|(.., r)| *r == n).expect("a rule in the table"));
            prop_assert_eq!(found.map(|(p, ..)| *p), best);
            prop_assert!(found.is_none_or(|(_, what, _)| what.matches(key) && with.covers(what.mask())));
        }
    }

    #[test]
    fn bits_outside_wc_change_nothing(
        (table, list) in table(), keys in prop::collection::vec(random_key(), 1..8),
        known in flips(), flips in prop::collection::vec(flips(), 16),
    ) {
        for (i, key) in keys.iter().chain(list.iter().map(|(_, what, _)| what.key())).enumerate() {
            // Every second time something has been looked at before.
            let mut wc = if i % 2 == 0 { MatchKey::ZERO } else { known };
            let found = table.lookup(key, &mut wc);
            prop_assert!(i % 2 == 0 || wc.covers(&known));
            for flips in &flips {
                let mut twin = *key;
                for ((t, f), m) in twin.words_mut().iter_mut().zip(flips.words()).zip(wc.words()) {
                    *t ^= f & !m;
                }
                prop_assert_eq!(table.lookup(&twin, &mut MatchKey::default()), found);
            }
        }
    }

    #[test]
    fn tries_hold_the_prefixes_of_the_rules((mut table, list) in table()) {
        let mut fresh = Table::new();
        for (priority, what, rule) in &list {
            fresh.insert(*priority, what, *rule);
        }
        prop_assert_eq!(format!("{:?}", table.tries), format!("{:?}", fresh.tries));
        table.extract(|_| true);
        prop_assert_eq!(format!("{:?}", table.tries), format!("{:?}", Tries::default()));
    }
}

/// What the megaflow of a packet looks at in a table of these rules, as a match.
fn megaflow(rules: &[&str], packet: &str) -> String {
    let mut table = Table::new();
    for (i, rule) in rules.iter().enumerate() {
        let flow = parse_flow(&format!("{rule},actions=drop"), &()).expect("a rule");
        table.insert(flow.priority, &flow.matches, i);
    }
    let key = parse_key(packet, &()).expect("a packet");
    let mut wc = MatchKey::ZERO;
    table.lookup(&key, &mut wc);
    format_match(&Match::new(&key, &wc), None, &())
}

#[test]
fn first_bits_that_differ() {
    let rules = ["ip,nw_dst=10.0.0.0/8", "ip,nw_dst=10.1.0.0/16", "ip,nw_dst=10.1.2.3/32"];
    assert_eq!(megaflow(&rules, "ip,nw_dst=192.168.0.1"), "ip,nw_dst=128.0.0.0/1");
    assert_eq!(megaflow(&rules, "ip,nw_dst=11.0.0.1"), "ip,nw_dst=11.0.0.0/8");
    // The rules are of one priority, and the first subtable's has the packet.
    assert_eq!(megaflow(&rules, "ip,nw_dst=10.9.0.1"), "ip,nw_dst=10.0.0.0/8");
    let longest = [
        "priority=8,ip,nw_dst=10.0.0.0/8",
        "priority=16,ip,nw_dst=10.1.0.0/16",
        "priority=32,ip,nw_dst=10.1.2.3",
    ];
    assert_eq!(megaflow(&longest, "ip,nw_dst=10.9.0.1"), "ip,nw_dst=10.8.0.0/13");
    assert_eq!(megaflow(&longest, "ip,nw_dst=10.1.2.2"), "ip,nw_dst=10.1.2.2");
    assert_eq!(megaflow(&longest, "ip,nw_dst=10.1.0.2"), "ip,nw_dst=10.1.0.0/23");
}

#[test]
fn every_family_and_ports() {
    let v6 = ["ipv6,ipv6_dst=2001:db8::1", "ipv6,ipv6_src=fd00::/8"];
    assert_eq!(
        megaflow(&v6, "ipv6,ipv6_src=fe80::1,ipv6_dst=2002::1"),
        "ipv6,ipv6_src=fe00::/7,ipv6_dst=2002::/15"
    );
    assert_eq!(megaflow(&["arp,arp_tpa=10.0.0.1"], "arp,arp_tpa=10.0.128.1"), "arp,arp_tpa=10.0.128.0/17");
    let outer = ["tun_src=10.0.0.1,tun_id=7", "tun_dst=10.0.0.2"];
    assert_eq!(
        megaflow(&outer, "tun_id=7,tun_src=11.0.0.1,tun_dst=12.0.0.2"),
        "tun_src=11.0.0.0/8,tun_dst=12.0.0.0/6"
    );
    let ports = ["tcp,tp_dst=80", "tcp,tp_dst=443"];
    assert_eq!(megaflow(&ports, "tcp,tp_dst=40000"), "tcp,tp_dst=0x8000/0x8000");
    assert_eq!(megaflow(&ports, "tcp,tp_dst=81"), "tcp,tp_dst=81");
}

#[test]
fn the_field_that_shows_it_with_fewest_bits() {
    let rules = ["ip,nw_src=10.0.0.1,nw_dst=10.0.0.1"];
    assert_eq!(megaflow(&rules, "ip,nw_src=10.0.0.2,nw_dst=10.1.0.1"), "ip,nw_dst=10.1.0.0/16");
    assert_eq!(megaflow(&rules, "ip,nw_src=138.0.0.2,nw_dst=10.1.0.1"), "ip,nw_src=128.0.0.0/1");
    // Here nw_src would be shorter, had nw_dst not been looked at already.
    let rules = ["priority=2,ip,nw_dst=10.0.0.2", "priority=1,ip,nw_src=10.0.0.1,nw_dst=10.0.0.1"];
    assert_eq!(megaflow(&rules, "ip,nw_src=11.0.0.1,nw_dst=10.0.0.2"), "ip,nw_dst=10.0.0.2");
    assert_eq!(megaflow(&rules, "ip,nw_src=11.0.0.1,nw_dst=10.0.0.3"), "ip,nw_dst=10.0.0.3");
}

#[test]
fn what_is_known_rules_out_without_an_earlier_stage() {
    let rules =
        ["priority=2,ip,nw_dst=10.0.0.0/8", "priority=1,in_port=1,dl_src=2:0:0:0:0:1,ip,nw_dst=11.0.0.0/24"];
    assert_eq!(megaflow(&rules, "in_port=1,dl_src=2:0:0:0:0:9,ip,nw_dst=128.0.0.1"), "ip,nw_dst=128.0.0.0/1");
}

#[test]
fn stages_come_first() {
    let rules = ["dl_dst=2:0:0:0:0:1,ip,nw_dst=10.0.0.1,nw_proto=6,tp_dst=80", "dl_dst=2:0:0:0:0:2"];
    assert_eq!(megaflow(&rules, "dl_dst=2:0:0:0:0:3,ip,nw_dst=192.0.0.1"), "ip,dl_dst=02:00:00:00:00:03");
    let l2 = ["dl_dst=2:0:0:0:0:1", "dl_src=2:0:0:0:0:1,dl_dst=2:0:0:0:0:2"];
    assert_eq!(
        megaflow(&l2, "dl_src=2:0:0:0:0:1,dl_dst=2:0:0:0:0:2,tcp,nw_dst=10.0.0.1,tp_dst=80"),
        "dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02"
    );
}

#[test]
fn a_prefix_needs_none_of_the_earlier_stages_but_its_prerequisites() {
    let rules = ["in_port=1,dl_dst=2:0:0:0:0:1,tcp,nw_src=10.0.0.1,tp_dst=80"];
    assert_eq!(
        megaflow(&rules, "in_port=1,dl_dst=2:0:0:0:0:1,tcp,nw_src=11.0.0.1,tp_dst=80"),
        "ip,nw_src=11.0.0.0/8"
    );
    assert_eq!(
        megaflow(&rules, "in_port=1,dl_dst=2:0:0:0:0:1,tcp,nw_src=10.0.0.1,tp_dst=84"),
        "tcp,tp_dst=0x54/0xfffc"
    );
}

#[test]
fn masks_that_are_no_prefixes_are_searched() {
    let rules = ["ip,nw_dst=0.0.0.1/0.0.0.255"];
    assert_eq!(megaflow(&rules, "ip,nw_dst=128.0.0.2"), "ip,nw_dst=0.0.0.2/0.0.0.255");
    // The prefix of the same field in another subtable is tracked all the same.
    let rules = ["priority=2,ip,nw_dst=10.0.0.0/8", "priority=1,ip,nw_dst=0.0.0.1/0.0.0.255"];
    assert_eq!(megaflow(&rules, "ip,nw_dst=128.0.0.2"), "ip,nw_dst=128.0.0.2/128.0.0.255");
}
