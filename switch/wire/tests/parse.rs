//! Key extraction: the fast way, the general way and a naive parser agree on every input.

mod common;

use common::{Rng, corpus, ethernet, ipv4, ipv6, mutate, naive, tcp, udp};
use proptest::prelude::*;
use wire::hot::{hot_key, hot_tos, hot_ttl};
use wire::key::{FRAG_ANY, FRAG_LATER, FlowKey, KEY_WORDS};
use wire::parse::{
    Anomaly, EthernetTruncated, Origin, Parsed, extract, extract_from, extract_general, extract_l2,
};
use wire::tunnel::same_header::InnerHeader;

/// A key full of leftovers, to see what is zeroed and what is not touched.
fn dirty() -> FlowKey {
    let mut key = FlowKey::ZERO;
    *key.words_mut() = [0xa5a5_a5a5_a5a5_a5a5; KEY_WORDS];
    key.reserved = 0;
    key.reserved2 = [0; 4];
    key
}

/// The caller's fields of `from`, the packet fields of `key`.
fn with_callers_fields(key: &FlowKey, from: &FlowKey) -> FlowKey {
    FlowKey {
        in_port: from.in_port,
        tun_id: from.tun_id,
        tun_src: from.tun_src,
        tun_dst: from.tun_dst,
        tun_flags: from.tun_flags,
        tun_tos: from.tun_tos,
        tun_ttl: from.tun_ttl,
        tun_gbp_id: from.tun_gbp_id,
        tun_gbp_flags: from.tun_gbp_flags,
        tun_ipv6_src: from.tun_ipv6_src,
        tun_ipv6_dst: from.tun_ipv6_dst,
        tun_metadata_present: from.tun_metadata_present,
        tun_metadata: from.tun_metadata,
        ..*key
    }
}

/// What `frame` parses to, after all three parsers agreed on it.
fn agreed(frame: &[u8]) -> (FlowKey, Result<Parsed, EthernetTruncated>) {
    let (mut fast, mut general) = (dirty(), dirty());
    let parsed = extract(frame, &mut fast);
    assert_eq!(parsed, extract_general(frame, &mut general), "{frame:02x?}");
    assert_eq!(fast, general, "{frame:02x?}");
    let (mut whole, mut apart, origin) = (dirty(), dirty(), Origin::port(7));
    assert_eq!(parsed, extract_from(frame, origin, &mut whole), "{frame:02x?}");
    origin.fill_key(&mut apart);
    assert_eq!((apart.in_port, apart.tun_id, apart.tun_flags), (7, 0, 0));
    let _ = extract_general(frame, &mut apart);
    assert_eq!(whole, apart, "{frame:02x?}");
    if let Some(words) = hot_key(frame) {
        assert_eq!(words[..], whole.words()[2..6], "{frame:02x?}");
        assert_eq!((hot_tos(&words), hot_ttl(&words)), (whole.nw_tos, whole.nw_ttl), "{frame:02x?}");
        assert_eq!(parsed.map(|parsed| (parsed.l3, parsed.l4, parsed.anomaly)), Ok((14, 34, None)));
    }
    let expected = match naive::extract(frame) {
        None => {
            assert_eq!(parsed, Err(EthernetTruncated));
            FlowKey::ZERO
        }
        Some((key, l3, l4, anomaly)) => {
            assert_eq!(parsed, Ok(Parsed { l3: l3 as u16, l4: l4 as u16, anomaly }), "{frame:02x?}");
            key
        }
    };
    assert_eq!(fast, with_callers_fields(&expected, &dirty()), "{frame:02x?}");
    (expected, parsed)
}

fn anomaly_of(frame: &[u8]) -> Option<Anomaly> {
    agreed(frame).1.unwrap().anomaly
}

#[test]
fn known_tcp4() {
    let frame = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp()));
    let (key, parsed) = agreed(&frame);
    assert_eq!(parsed, Ok(Parsed { l3: 14, l4: 34, anomaly: None }));
    assert_eq!(key.dl_dst.0, [2, 0, 0, 0, 0x0a, 1]);
    assert_eq!(key.dl_src.0, [2, 0, 0, 0, 0x0b, 2]);
    assert_eq!(key.dl_type.get(), 0x0800);
    assert_eq!(key.nw_src.get(), 0x0a01_0203);
    assert_eq!(key.nw_dst.get(), 0xc0a8_0405);
    assert_eq!((key.nw_proto, key.nw_tos, key.nw_ttl, key.nw_frag), (6, 0xb9, 63, 0));
    assert_eq!((key.tp_src.get(), key.tp_dst.get(), key.tcp_flags.get()), (5000, 80, 0x112));
}

#[test]
fn known_kinds() {
    let frames = corpus();
    let key_of = |name: &str| {
        let frame = &frames.iter().find(|(n, _)| *n == name).unwrap().1;
        let (key, parsed) = agreed(frame);
        (key, parsed.unwrap())
    };
    let (key, parsed) = key_of("qinq udp4");
    assert_eq!((key.vlan_tci.get(), key.vlan_tci2.get(), key.dl_type.get()), (0x10c8, 0x7064, 0x0800));
    assert_eq!((parsed.l3, parsed.l4, key.tp_dst.get()), (22, 42, 53));
    let (key, parsed) = key_of("three tags");
    assert_eq!((key.dl_type.get(), key.nw_proto, parsed.l3, parsed.l4), (0x8100, 0, 22, 0));
    let (key, parsed) = key_of("extensions");
    assert_eq!((key.nw_proto, key.nw_frag, key.tp_dst.get(), key.tcp_flags.get()), (6, FRAG_ANY, 80, 0x112));
    assert_eq!((parsed.l3, parsed.l4), (14, 14 + 40 + 8 + 16 + 8 + 12 + 8));
    assert_eq!((key.ipv6_label.get(), key.nw_tos, key.nw_ttl), (0xabcde, 0xb9, 61));
    let (key, parsed) = key_of("later fragment");
    assert_eq!((key.nw_proto, key.nw_frag, key.tp_src.get()), (17, FRAG_ANY | FRAG_LATER, 0));
    assert_eq!(parsed.l4, 0);
    let (key, _) = key_of("later fragment 6");
    assert_eq!((key.nw_proto, key.nw_frag), (44, FRAG_ANY | FRAG_LATER));
    let (key, _) = key_of("atomic fragment 6");
    assert_eq!((key.nw_proto, key.nw_frag, key.tp_dst.get()), (17, 0, 53));
    let (key, _) = key_of("icmp4");
    assert_eq!((key.tp_src.get(), key.tp_dst.get()), (8, 0));
    let (key, _) = key_of("arp reply");
    assert_eq!((key.nw_proto, key.nw_src.get(), key.nw_dst.get()), (2, 0x0a00_0001, 0x0a00_0002));
    assert_eq!((key.arp_sha.0[5], key.arp_tha.0[5]), (0x11, 0x22));
    assert_eq!(key_of("arp odd opcode").0.nw_proto, 0);
    let (key, _) = key_of("ns");
    assert_eq!((key.nd_target[15], key.arp_sha.0[5], key.arp_tha.0[5]), (0x33, 0x44, 0));
    assert_eq!(key_of("na").0.arp_tha.0[5], 0x55);
    let (key, parsed) = key_of("nd twice");
    assert_eq!((key.nd_target, parsed.anomaly), ([0; 16], Some(Anomaly::NdOptions)));
    assert_eq!(key_of("llc").0.dl_type.get(), 0x05ff);
    let (key, parsed) = key_of("snap");
    assert_eq!((key.dl_type.get(), key.tp_dst.get(), parsed.l3), (0x0800, 53, 22));
    for (name, frame) in &frames {
        assert_eq!(anomaly_of(frame).is_some(), *name == "nd twice", "{name}");
    }
}

#[test]
fn padding_is_not_payload() {
    // Four bytes of UDP header and enough padding for all eight.
    let mut frame = ethernet(&[], 0x0800, &ipv4(17, 0, &[], &[1, 2, 3, 4]));
    frame.resize(60, 0xee);
    let (key, parsed) = agreed(&frame);
    assert_eq!((key.tp_src.get(), parsed.unwrap().anomaly), (0, Some(Anomaly::L4Truncated)));
    assert_eq!((key.nw_proto, parsed.unwrap().l4), (17, 0));
    let mut frame = ethernet(&[], 0x86dd, &ipv6(6, &tcp()[..19]));
    frame.resize(100, 0xee);
    assert_eq!(anomaly_of(&frame), Some(Anomaly::L4Truncated));
}

#[test]
fn anomalies() {
    let good = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp()));
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    for ihl in 0..5 {
        assert_eq!(anomaly_of(&with(14, 0x40 | ihl)), Some(Anomaly::Ipv4Header));
    }
    assert_eq!(anomaly_of(&with(14, 0x65)), Some(Anomaly::Ipv4Header));
    assert_eq!(
        anomaly_of(&with(14, 0x4f)),
        Some(Anomaly::Ipv4Header),
        "60 bytes of header in a packet of 42"
    );
    assert_eq!(anomaly_of(&with(17, 19)), Some(Anomaly::Ipv4Length));
    assert_eq!(anomaly_of(&with(17, 43)), Some(Anomaly::Ipv4Length));
    assert_eq!(anomaly_of(&good[..33]), Some(Anomaly::Ipv4Header));
    let (key, _) = agreed(&with(14, 0x44));
    assert_eq!((key.dl_type.get(), key.nw_src.get(), key.nw_proto), (0x0800, 0, 0));
    assert_eq!(anomaly_of(&ethernet(&[], 0x8100, &[0, 1, 8])), Some(Anomaly::VlanTruncated));
    assert_eq!(anomaly_of(&ethernet(&[], 0x0806, &[0; 27])), Some(Anomaly::ArpTruncated));
    assert_eq!(anomaly_of(&ethernet(&[], 0x86dd, &[0x60; 39])), Some(Anomaly::Ipv6Header));
    assert_eq!(anomaly_of(&ethernet(&[], 0x86dd, &ipv4(6, 0, &[], &[0; 40]))), Some(Anomaly::Ipv6Header));
    let frame = ethernet(&[], 0x86dd, &ipv6(17, &udp(b"")));
    assert_eq!(anomaly_of(&frame[..frame.len() - 1]), Some(Anomaly::Ipv6Length));
    assert_eq!(
        anomaly_of(&ethernet(&[], 0x86dd, &ipv6(0, &[6, 1, 0, 0, 0, 0, 0, 0]))),
        Some(Anomaly::Ipv6Extension)
    );
    for n in 0..14 {
        assert_eq!(agreed(&good[..n]).1, Err(EthernetTruncated));
    }
}

#[test]
fn reasons_index_counters() {
    let mut names: Vec<_> = Anomaly::ALL.iter().map(|a| a.name()).collect();
    for (n, anomaly) in Anomaly::ALL.iter().enumerate() {
        assert_eq!(anomaly.index(), n);
        assert_eq!(anomaly.to_string(), anomaly.description());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Anomaly::COUNT);
}

#[test]
fn truncated_at_every_byte() {
    for (_, frame) in corpus() {
        for n in 0..=frame.len() {
            let _ = agreed(&frame[..n]);
        }
    }
}

#[test]
fn long_extension_chain() {
    // Nearly as many extension headers as a packet can hold, and then a port that a rule could be after.
    let mut payload = Vec::new();
    for n in 0..8180 {
        payload.extend([if n == 8179 { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
    }
    payload.extend(udp(b""));
    let frame = ethernet(&[], 0x86dd, &ipv6(60, &payload));
    let (key, parsed) = agreed(&frame);
    assert_eq!((key.nw_proto, key.tp_dst.get()), (17, 53));
    assert_eq!(usize::from(parsed.unwrap().l4), frame.len() - 8);
}

#[test]
fn l2_only() {
    for (_, frame) in corpus() {
        let (full, parsed) = agreed(&frame);
        let mut key = FlowKey::ZERO;
        let l2 = extract_l2(&frame, &mut key).unwrap();
        let expected = FlowKey {
            dl_dst: full.dl_dst,
            dl_src: full.dl_src,
            dl_type: full.dl_type,
            vlan_tci: full.vlan_tci,
            vlan_tci2: full.vlan_tci2,
            ..FlowKey::ZERO
        };
        assert_eq!((key, l2.l3, l2.l4), (expected, parsed.unwrap().l3, 0));
    }
}

#[test]
fn fuzz_mutated_frames() {
    let frames = corpus();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200_000 {
        let mut frame = frames[rng.below(frames.len())].1.clone();
        mutate(&mut frame, &mut rng);
        let _ = agreed(&frame);
    }
}

/// What the pattern of `first` should say of `frame`.
fn alike(first: &[u8], frame: &[u8]) -> Option<wire::hot::HotKey> {
    hot_key(frame).filter(|_| first[12..16] == frame[12..16] && first[20..24] == frame[20..24])
}

#[test]
fn a_pattern_takes_the_next_frame_of_a_sender() {
    let one = |ports: u16, proto: u8, len: u16| {
        let mut frame = vec![0x5a; 14 + usize::from(len.max(40))];
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto]);
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[34..36].copy_from_slice(&ports.to_be_bytes());
        frame
    };
    for (proto, min_len) in [(6, 40), (17, 28)] {
        let first = one(7, proto, 60);
        let pattern = InnerHeader::new(&first).expect("ordinary");
        for frame in [one(7, proto, 60), one(9, proto, 1400), one(0, proto, min_len)] {
            assert!(pattern.read(&frame).is_some());
            assert_eq!(pattern.read(&frame), hot_key(&frame));
        }
        assert_eq!(pattern.read(&one(7, 23 - proto, 60)), None, "another protocol");
    }
}

proptest! {
    /// Frames that differ from the first in a few bytes.
    #[test]
    fn a_pattern_says_what_reading_says(
        tcp: bool, len in 0u16..100, cut in 0usize..40,
        edits in prop::collection::vec((0usize..56, any::<u8>()), 0..4),
        shown in prop::collection::vec((12usize..24, prop::sample::select(vec![0u8, 6, 8, 17, 0x40, 0x45])), 0..2),
    ) {
        let mut first = vec![0x5a; 120];
        first[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 90, 0, 0, 0x40, 0, 64, if tcp { 6 } else { 17 }]);
        let pattern = InnerHeader::new(&first).expect("ordinary");
        let mut frame = first.clone();
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        for (at, value) in edits.into_iter().chain(shown) {
            frame[at] = value;
        }
        frame.truncate(120 - cut);
        prop_assert_eq!(pattern.read(&frame), alike(&first, &frame));
    }

    #[test]
    fn arbitrary_bytes(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = agreed(&frame);
    }

    #[test]
    fn arbitrary_ip(v6: bool, frame in prop::collection::vec(any::<u8>(), 40..200)) {
        let mut frame = frame;
        frame[12..15].copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[0x08, 0x00, 0x45] });
        if !v6 {
            frame[16] = 0;
        }
        let _ = agreed(&frame);
    }
}
