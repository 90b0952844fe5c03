//! Rewriting: the key changes where it should and nowhere else, and every checksum is as if computed anew.

mod common;

use common::{Rng, SLL, corpus, ethernet, ipv4, ipv6, mutate, nd, tcp, udp};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use wire::addr::MacAddr;
use wire::checksum::{self, Sum};
use wire::key::FlowKey;
use wire::parse::{Parsed, extract};
use wire::rewrite::{
    Headers, Side, pop_vlan, push_vlan, set_ipv4, set_ipv6, set_ipv6_label, set_mac, set_port, set_tos,
    set_ttl, set_vlan_tci,
};

fn parse(frame: &[u8]) -> (FlowKey, Parsed) {
    let mut key = FlowKey::ZERO;
    let parsed = extract(frame, &mut key).unwrap();
    (key, parsed)
}

/// Sums over the IPv4 header and over the L4 segment with its pseudo header: valid or not.
fn sums(frame: &[u8]) -> (bool, bool) {
    let (key, Parsed { l3, l4, .. }) = parse(frame);
    let (l3, l4) = (usize::from(l3), usize::from(l4));
    let segment = &frame[l4..];
    let pseudo = Sum::of_u16(key.nw_proto.into()) + Sum::of_u16(segment.len() as u16);
    if key.dl_type.get() == 0x0800 {
        let pseudo = pseudo + Sum::of(&frame[l3 + 12..l3 + 20]);
        (checksum::ipv4_header_is_valid(&frame[l3..l4]), checksum::l4_is_valid(pseudo, segment))
    } else {
        (true, checksum::l4_is_valid(pseudo + Sum::of(&frame[l3 + 8..l3 + 40]), segment))
    }
}

/// Fills in the L4 checksum of a frame without padding.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let (key, Parsed { l4, .. }) = parse(&frame);
    let l4 = usize::from(l4);
    let at = l4
        + match key.nw_proto {
            6 => 16,
            17 => 6,
            _ => 2,
        };
    frame[at..at + 2].fill(0);
    let pseudo = if key.dl_type.get() == 0x0800 {
        checksum::pseudo_v4(
            frame[26..30].try_into().unwrap(),
            frame[30..34].try_into().unwrap(),
            key.nw_proto,
            (frame.len() - l4) as u16,
        )
    } else {
        checksum::pseudo_v6(&key.ipv6_src, &key.ipv6_dst, key.nw_proto, (frame.len() - l4) as u32)
    };
    let sum = checksum::udp(pseudo, &frame[l4..]);
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(sums(&frame), (true, true));
    frame
}

fn ip_frames() -> Vec<Vec<u8>> {
    [
        ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp())),
        ethernet(&[], 0x0800, &ipv4(17, 0, &[1, 1, 1, 1], &udp(b"odd"))),
        ethernet(&[], 0x86dd, &ipv6(6, &tcp())),
        ethernet(&[], 0x86dd, &ipv6(17, &udp(b"even"))),
        ethernet(&[], 0x86dd, &ipv6(58, &nd(135, &[&SLL]))),
    ]
    .map(summed)
    .to_vec()
}

proptest! {
    #[test]
    fn fields_and_checksums(
        n in 0usize..5, dst: bool, v4: [u8; 4], v6: [u8; 16], tos: u8, ttl: u8, port: u16, label in 0u32..0x10_0000,
    ) {
        let mut frame = ip_frames().swap_remove(n);
        let (before, parsed) = parse(&frame);
        let headers = Headers::new(parsed, &before);
        let side = if dst { Side::Dst } else { Side::Src };
        let is_v4 = before.dl_type.get() == 0x0800;
        let mut expected = before;
        prop_assert_eq!(set_ipv4(&mut frame, headers, side, v4.into()), is_v4);
        prop_assert_eq!(sums(&frame), (true, true));
        prop_assert_eq!(set_ipv6(&mut frame, headers, side, v6.into()), !is_v4);
        prop_assert_eq!(sums(&frame), (true, true));
        prop_assert!(set_tos(&mut frame, headers, tos));
        prop_assert!(set_ttl(&mut frame, headers, ttl));
        prop_assert_eq!(set_ipv6_label(&mut frame, headers, label), !is_v4);
        let has_ports = before.nw_proto != 58;
        prop_assert_eq!(set_port(&mut frame, headers, side, port), has_ports);
        prop_assert_eq!(sums(&frame), (true, true));
        expected.nw_tos = tos;
        expected.nw_ttl = ttl;
        if is_v4 {
            *(if dst { &mut expected.nw_dst } else { &mut expected.nw_src }) = u32::from_be_bytes(v4).into();
        } else {
            *(if dst { &mut expected.ipv6_dst } else { &mut expected.ipv6_src }) = v6;
            expected.ipv6_label = label.into();
        }
        if has_ports {
            *(if dst { &mut expected.tp_dst } else { &mut expected.tp_src }) = port.into();
        }
        prop_assert_eq!(parse(&frame), (expected, parsed));
    }

    #[test]
    fn vlan_push_set_pop(payload in prop::collection::vec(any::<u8>(), 0..60), tci: u16, other: u16) {
        let frame = ethernet(&[], 0x88b5, &payload);
        let mut room = [vec![0xee; 4], frame.clone()].concat();
        prop_assert!(push_vlan(&mut room, 0x8100, tci));
        prop_assert_eq!(&room, &ethernet(&[(0x8100, tci)], 0x88b5, &payload));
        prop_assert!(set_vlan_tci(&mut room, other));
        prop_assert_eq!(&room, &ethernet(&[(0x8100, other)], 0x88b5, &payload));
        prop_assert!(pop_vlan(&mut room));
        prop_assert_eq!(&room[4..], &frame[..]);
        prop_assert!(!pop_vlan(&mut room[4..]));
        prop_assert!(!set_vlan_tci(&mut room[4..], other));
    }
}

#[test]
fn no_udp_checksum_stays_none() {
    let mut frame = ethernet(&[], 0x0800, &ipv4(17, 0, &[], &udp(b"x")));
    let (key, parsed) = parse(&frame);
    let headers = Headers::new(parsed, &key);
    assert!(set_ipv4(&mut frame, headers, Side::Src, Ipv4Addr::new(1, 2, 3, 4)));
    assert!(set_port(&mut frame, headers, Side::Dst, 99));
    assert_eq!(frame[40..42], [0, 0]);
    assert!(checksum::ipv4_header_is_valid(&frame[14..34]));
}

#[test]
fn later_fragment_has_no_ports() {
    let original = ethernet(&[], 0x0800, &ipv4(17, 0x00b9, &[], &[7; 40]));
    let mut frame = original.clone();
    let (key, parsed) = parse(&frame);
    let headers = Headers::new(parsed, &key);
    assert!(!set_port(&mut frame, headers, Side::Src, 1));
    assert_eq!(frame, original);
    assert!(set_ipv4(&mut frame, headers, Side::Src, Ipv4Addr::new(1, 2, 3, 4)));
    assert_eq!(frame[34..], original[34..]);
    assert!(checksum::ipv4_header_is_valid(&frame[14..34]));
}

#[test]
fn routed_destination_is_not_in_the_checksum() {
    for (segments_left, covered) in [(0, true), (1, false)] {
        let routing = [17, 2, 0, segments_left, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2];
        let mut datagram = udp(b"routed");
        datagram[6..8].copy_from_slice(&[0x12, 0x34]);
        let mut frame = ethernet(&[], 0x86dd, &ipv6(43, &[&routing[..], &datagram].concat()));
        let (key, parsed) = parse(&frame);
        assert_eq!(parsed.l4, 14 + 40 + 24);
        assert!(set_ipv6(&mut frame, Headers::new(parsed, &key), Side::Dst, Ipv6Addr::LOCALHOST));
        assert_eq!(frame[84..86] != [0x12, 0x34], covered);
    }
}

#[test]
fn macs() {
    let mut frame = ethernet(&[], 0x88b5, &[]);
    assert!(
        set_mac(&mut frame, Side::Dst, MacAddr([1; 6])) && set_mac(&mut frame, Side::Src, MacAddr([3; 6]))
    );
    assert_eq!(frame, [1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 0x88, 0xb5]);
    assert!(!set_mac(&mut frame[..13], Side::Dst, MacAddr([9; 6])));
    assert_eq!(frame[0], 1);
}

#[test]
fn offsets_that_lie_change_no_length_and_never_panic() {
    let frames = corpus();
    let mut rng = Rng(4242);
    for _ in 0..50_000 {
        let mut frame = frames[rng.below(frames.len())].1.clone();
        mutate(&mut frame, &mut rng);
        let word = rng.next();
        let headers =
            Headers { l3: word as u16 % 70, l4: (word >> 16) as u16 % 120, proto: [6, 17, 58][rng.below(3)] };
        let side = if word >> 63 == 0 { Side::Src } else { Side::Dst };
        set_ipv4(&mut frame, headers, side, Ipv4Addr::LOCALHOST);
        set_ipv6(&mut frame, headers, side, Ipv6Addr::LOCALHOST);
        set_tos(&mut frame, headers, 1);
        set_ttl(&mut frame, headers, 2);
        set_ipv6_label(&mut frame, headers, 3);
        set_port(&mut frame, headers, side, 4);
        set_mac(&mut frame, side, MacAddr::ZERO);
        set_vlan_tci(&mut frame, 5);
        push_vlan(&mut frame, 0x88a8, 6);
        pop_vlan(&mut frame);
    }
}
