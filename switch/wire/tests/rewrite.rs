//! Rewriting: the key changes where it should and nowhere else, and every checksum is as if computed anew.

mod common;

use common::{Rng, SLL, TLL, arp, corpus, ethernet, ipv4, ipv6, mutate, nd, tcp, udp};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use wire::addr::MacAddr;
use wire::checksum::{self, Sum};
use wire::key::FlowKey;
use wire::parse::{Parsed, extract};
use wire::rewrite::{
    Headers, Side, clamp_mss, pop_vlan, push_vlan, set_arp_ip, set_arp_mac, set_arp_op, set_icmp, set_ipv4,
    set_ipv6, set_ipv6_label, set_mac, set_nd_link, set_nd_target, set_port, set_tos, set_ttl, set_vlan_tci,
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

/// One's complement sum over big-endian words, one by one.
fn naive_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

/// By how much an ICMP or ICMPv6 checksum is off: 0 for a right one.
fn icmp_error(frame: &[u8], l3: usize, l4: usize) -> u16 {
    let message = &frame[l4..];
    let sum = if frame[l3] >> 4 == 4 {
        naive_sum(&[message])
    } else {
        let len = (message.len() as u32).to_be_bytes();
        naive_sum(&[&frame[l3 + 8..l3 + 40], &len, &[0, 0, 0, 58], message])
    };
    !sum
}

/// The CRC32c of an SCTP packet, bit by bit.
fn naive_crc(packet: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        register ^= u32::from(if (8..12).contains(&at) { 0 } else { *byte });
        for _ in 0..8 {
            register = if register & 1 == 1 { register >> 1 ^ 0x82f6_3b78 } else { register >> 1 };
        }
    }
    !register
}

/// Positions at which two frames of one length differ.
fn differences(a: &[u8], b: &[u8]) -> Vec<usize> {
    assert_eq!(a.len(), b.len());
    (0..a.len()).filter(|at| a[*at] != b[*at]).collect()
}

fn headers_of(frame: &[u8]) -> Headers {
    let (key, parsed) = parse(frame);
    Headers::new(parsed, &key)
}

/// ICMP and ICMPv6 messages, tagged and untagged, with a checksum that is off by `error`.
fn icmp_frame(n: usize, error: u16, payload: &[u8]) -> Vec<u8> {
    let tag = [(0x8100, 0x6064)];
    let echo = |kind: u8| [&[kind, 0, 0, 0, 0, 1, 0, 2][..], payload].concat();
    let mut frame = match n {
        0 => ethernet(&[], 0x0800, &ipv4(1, 0, &[1, 1, 1, 1], &echo(8))),
        1 => ethernet(&tag, 0x86dd, &ipv6(58, &echo(128))),
        2 => ethernet(&[], 0x86dd, &ipv6(58, &nd(135, &[&[14, 2, 0, 0, 0, 0, 0, 0], &[0; 8], &SLL]))),
        _ => ethernet(&tag, 0x86dd, &ipv6(58, &nd(136, &[&TLL]))),
    };
    let Headers { l3, l4, .. } = headers_of(&frame);
    let sum = icmp_error(&frame, l3.into(), l4.into());
    let at = usize::from(l4) + 2;
    let wrong = naive_sum(&[&sum.to_be_bytes(), &error.to_be_bytes()]);
    frame[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    frame
}

proptest! {
    /// A right checksum stays right, a wrong one as wrong as it was, and nothing else changes.
    #[test]
    fn icmp_and_nd(
        n in 0usize..4, error in prop_oneof![Just(0u16), 1u16..0xffff], payload in prop::collection::vec(any::<u8>(), 0..40),
        code: bool, value: u8, target: [u8; 16], mac: [u8; 6], src: bool,
    ) {
        let original = icmp_frame(n, error, &payload);
        let headers = headers_of(&original);
        let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
        // The two zeros of one's complement are one.
        let same = |frame: &[u8]| icmp_error(frame, l3, l4) % 0xffff == icmp_error(&original, l3, l4) % 0xffff;
        prop_assert_eq!(icmp_error(&original, l3, l4).is_multiple_of(0xffff), error == 0);

        let mut frame = original.clone();
        prop_assert!(set_icmp(&mut frame, headers, usize::from(code), value));
        prop_assert_eq!(frame[l4 + usize::from(code)], value);
        prop_assert!(same(&frame));
        prop_assert!(differences(&frame, &original).iter().all(|at| [l4 + usize::from(code), l4 + 2, l4 + 3].contains(at)));
        prop_assert!(!set_icmp(&mut frame, headers, 2, value));

        let mut frame = original.clone();
        prop_assert_eq!(set_nd_target(&mut frame, headers, target.into()), n >= 2);
        prop_assert!(same(&frame));
        if n >= 2 {
            prop_assert_eq!(parse(&frame).0.nd_target, target);
        }
        let covered = |at: &usize| (l4 + 2..l4 + 4).contains(at) || n >= 2 && (l4 + 8..l4 + 24).contains(at);
        prop_assert!(differences(&frame, &original).iter().all(covered));

        let mut frame = original.clone();
        let side = if src { Side::Src } else { Side::Dst };
        let has_it = n == if src { 2 } else { 3 };
        prop_assert_eq!(set_nd_link(&mut frame, headers, side, MacAddr(mac)), has_it);
        prop_assert!(same(&frame));
        if has_it {
            let (key, _) = parse(&frame);
            prop_assert_eq!(if src { key.arp_sha } else { key.arp_tha }, MacAddr(mac));
            let end = frame.len();
            prop_assert!(differences(&frame, &original).iter().all(|at| *at >= end - 6 || (l4 + 2..l4 + 4).contains(at)));
        } else {
            prop_assert_eq!(frame, original);
        }
    }

    #[test]
    fn arp_fields(op: u16, mac: [u8; 6], ip: [u8; 4], src: bool, tagged: bool) {
        let tags = if tagged { &[(0x8100, 7)][..] } else { &[] };
        let mut frame = ethernet(tags, 0x0806, &arp(1));
        frame.extend([0xee; 18]);
        let headers = headers_of(&frame);
        let side = if src { Side::Src } else { Side::Dst };
        prop_assert!(set_arp_op(&mut frame, headers, op));
        prop_assert!(set_arp_mac(&mut frame, headers, side, MacAddr(mac)));
        prop_assert!(set_arp_ip(&mut frame, headers, side, ip.into()));
        let mut expected = arp(op);
        let (mac_at, ip_at) = if src { (8, 14) } else { (18, 24) };
        expected[mac_at..mac_at + 6].copy_from_slice(&mac);
        expected[ip_at..ip_at + 4].copy_from_slice(&ip);
        let mut whole = ethernet(tags, 0x0806, &expected);
        whole.extend([0xee; 18]);
        prop_assert_eq!(frame, whole);
    }

    #[test]
    fn sctp_ports(
        v6: bool, port: u16, src: bool, error: u32, padding in 0usize..20,
        chunks in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut packet = [&[0x13, 0x88, 0, 0x50, 1, 2, 3, 4, 0, 0, 0, 0][..], &chunks].concat();
        let crc = naive_crc(&packet) ^ error;
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
        let build = |packet: &[u8]| {
            let (dl_type, ip) = if v6 { (0x86dd, ipv6(132, packet)) } else { (0x0800, ipv4(132, 0, &[1, 1, 1, 0], packet)) };
            [ethernet(&[], dl_type, &ip), vec![0xee; padding]].concat()
        };
        let mut frame = build(&packet);
        let headers = headers_of(&frame);
        let side = if src { Side::Src } else { Side::Dst };
        prop_assert!(set_port(&mut frame, headers, side, port));
        let at = if src { 0 } else { 2 };
        packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
        let crc = naive_crc(&packet) ^ error;
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
        prop_assert_eq!(frame, build(&packet));
    }
}

#[test]
fn a_frame_without_the_field_is_left_alone() {
    let frames = corpus();
    let mac = MacAddr([9; 6]);
    for (name, original) in &frames {
        let mut key = FlowKey::ZERO;
        let Ok(parsed) = extract(original, &mut key) else { continue };
        let headers = Headers::new(parsed, &key);
        let dl_type = key.dl_type.get();
        let is_icmp = dl_type == 0x0800 && key.nw_proto == 1 || dl_type == 0x86dd && key.nw_proto == 58;
        let is_nd = dl_type == 0x86dd && key.nw_proto == 58 && (135..=136).contains(&key.tp_src.get());
        let mut frame = original.clone();
        assert_eq!(set_icmp(&mut frame, headers, 0, 77), is_icmp && parsed.l4 != 0, "{name}");
        let mut frame = original.clone();
        assert_eq!(
            set_nd_target(&mut frame, headers, Ipv6Addr::LOCALHOST),
            is_nd && parsed.l4 != 0,
            "{name}"
        );
        if dl_type != 0x0806 {
            let mut frame = original.clone();
            let changed = set_arp_op(&mut frame, headers, 5)
                || set_arp_mac(&mut frame, headers, Side::Src, mac)
                || set_arp_ip(&mut frame, headers, Side::Dst, Ipv4Addr::LOCALHOST);
            assert!(!changed, "{name}");
            assert_eq!(&frame, original, "{name}");
        }
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
        let headers = Headers {
            l3: word as u16 % 70,
            l4: (word >> 16) as u16 % 120,
            proto: [6, 17, 58, 1, 132][rng.below(5)],
            partial: word >> 62 & 1 != 0,
        };
        let side = if word >> 63 == 0 { Side::Src } else { Side::Dst };
        set_ipv4(&mut frame, headers, side, Ipv4Addr::LOCALHOST);
        set_ipv6(&mut frame, headers, side, Ipv6Addr::LOCALHOST);
        set_tos(&mut frame, headers, 1);
        set_ttl(&mut frame, headers, 2);
        set_ipv6_label(&mut frame, headers, 3);
        set_port(&mut frame, headers, side, 4);
        set_icmp(&mut frame, headers, rng.below(3), 7);
        set_arp_op(&mut frame, headers, 8);
        set_arp_mac(&mut frame, headers, side, MacAddr::ZERO);
        set_arp_ip(&mut frame, headers, side, Ipv4Addr::LOCALHOST);
        set_nd_target(&mut frame, headers, Ipv6Addr::LOCALHOST);
        set_nd_link(&mut frame, headers, side, MacAddr::ZERO);
        set_mac(&mut frame, side, MacAddr::ZERO);
        set_vlan_tci(&mut frame, 5);
        push_vlan(&mut frame, 0x88a8, 6);
        pop_vlan(&mut frame);
    }
}

/// A TCP segment with these options, which are padded, in a frame of either family.
fn tcp_frame(v6: bool, options: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let words = (5 + options.len() / 4) as u8;
    let head = [4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, words << 4, 2, 0x20, 0, 0, 0, 0, 0];
    let segment = [&head[..], &options, b"odd"].concat();
    let mut frame = if v6 {
        ethernet(&[], 0x86dd, &ipv6(6, &segment))
    } else {
        ethernet(&[], 0x0800, &ipv4(6, 0, &[], &segment))
    };
    let Headers { l3, l4, .. } = headers_of(&frame);
    let sum = tcp_error(&frame, l3.into(), l4.into());
    frame[usize::from(l4) + 16..][..2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// What is missing in a TCP checksum: 0 when it is right.
fn tcp_error(frame: &[u8], l3: usize, l4: usize) -> u16 {
    let len = ((frame.len() - l4) as u32).to_be_bytes();
    let addresses = if frame[l3] >> 4 == 4 { &frame[l3 + 12..l3 + 20] } else { &frame[l3 + 8..l3 + 40] };
    !naive_sum(&[addresses, &len, &[0, 6], &frame[l4..]])
}

proptest! {
    /// The option is lowered wherever it stands, never raised, and the checksum follows.
    #[test]
    fn mss_clamp(v6: bool, before in prop::collection::vec(0u8..3, 0..5), offered: u16, mtu in 60u16..9000, has_mss: bool, partial: bool) {
        let mut options = Vec::new();
        for kind in before {
            options.extend_from_slice([&[1][..], &[3, 3, 7], &[4, 2]][usize::from(kind)]);
        }
        let at = options.len();
        if has_mss {
            options.extend([2, 4]);
            options.extend(offered.to_be_bytes());
        }
        options.truncate(40);
        let original = tcp_frame(v6, &options);
        let headers = Headers { partial, ..headers_of(&original) };
        let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
        prop_assert_eq!(tcp_error(&original, l3, l4), 0);
        let mut frame = original.clone();
        let most = mtu.saturating_sub(if v6 { 60 } else { 40 });
        let lowers = has_mss && offered > most;
        prop_assert_eq!(clamp_mss(&mut frame, headers, mtu), lowers);
        if lowers {
            let place = l4 + 20 + at;
            prop_assert_eq!(&frame[place..place + 4], &[&[2, 4][..], &most.to_be_bytes()].concat());
            if partial {
                prop_assert_eq!(differences(&original, &frame).iter().all(|at| (place..place + 4).contains(at)), true);
            } else {
                prop_assert_eq!(tcp_error(&frame, l3, l4), 0);
                let allowed = |at: &usize| (place..place + 4).contains(at) || (l4 + 16..l4 + 18).contains(at);
                prop_assert!(differences(&original, &frame).iter().all(allowed));
            }
        } else {
            prop_assert_eq!(&frame, &original);
        }
    }

    /// Whatever the bytes are, nothing panics and nothing grows.
    #[test]
    fn mss_clamp_of_anything(bytes in prop::collection::vec(any::<u8>(), 0..120), l3 in 0u16..130, l4 in 0u16..130, mtu: u16) {
        let mut frame = bytes;
        let headers = Headers { l3, l4, proto: 6, partial: false };
        clamp_mss(&mut frame, headers, mtu);
    }
}
