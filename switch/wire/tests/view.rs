//! The slow path's headers: known bytes, round trips, refusals, no panic.

mod common;

use common::{Rng, arp, corpus, ethernet, mutate, vxlan};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::view::{
    ArpOp, ArpRepr, EthernetRepr, Icmpv4Repr, Icmpv6Repr, Ipv4Repr, Ipv6Repr, UdpRepr, ViewError, build_arp,
    build_arp_request, build_icmpv4, build_icmpv6, build_neighbour_solicit, build_udp, multicast_mac,
    solicited_node,
};

const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const ETH: EthernetRepr = EthernetRepr { dst: PEER, src: OWN, vlan_tci: None, ethertype: 0 };

/// The frame that `build` writes; a buffer one byte too small must be refused and no more needed.
fn built(build: impl Fn(&mut [u8]) -> Result<usize, ViewError>) -> Vec<u8> {
    let mut out = vec![0xff; 2000];
    let len = build(&mut out).unwrap();
    for n in 0..len {
        assert!(matches!(build(&mut vec![0; n]), Err(ViewError::NoRoom { .. })));
    }
    let mut exact = vec![0; len];
    assert_eq!(build(&mut exact), Ok(len));
    out.truncate(len);
    assert_eq!(out, exact);
    // Whatever is written is right in the datapath's eyes too.
    assert_eq!(extract(&out, &mut FlowKey::ZERO.clone()).unwrap().anomaly, None);
    out
}

#[test]
fn arp_request_and_reply() {
    let frame = built(|out| build_arp_request(out, OWN, OWN4, PEER4, None));
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];
    assert_eq!(frame, expected);
    let (eth, payload) = EthernetRepr::parse(&frame).unwrap();
    let request = ArpRepr::parse(payload).unwrap();
    assert!(!request.is_gratuitous());
    let reply = built(|out| build_arp(out, &eth.reply_from(PEER), &request.reply_from(PEER)));
    let (eth, payload) = EthernetRepr::parse(&reply).unwrap();
    assert_eq!((eth.dst, eth.src), (OWN, PEER));
    let reply = ArpRepr::parse(payload).unwrap();
    assert_eq!(reply, ArpRepr { op: ArpOp::Reply, sha: PEER, spa: PEER4, tha: OWN, tpa: OWN4 });
    assert!(matches!(ArpRepr::parse(&arp(9)), Err(ViewError::Malformed { .. })));
    let mut token_ring = arp(1);
    token_ring[1] = 6;
    assert!(matches!(ArpRepr::parse(&token_ring), Err(ViewError::Malformed { .. })));
    assert!(matches!(
        ArpRepr::parse(&token_ring[..27]),
        Err(ViewError::Truncated { needed: 28, got: 27, .. })
    ));
}

#[test]
fn tags_are_kept() {
    let frame = built(|out| build_arp_request(out, OWN, OWN4, PEER4, Some(0xa00c)));
    assert_eq!(frame[12..18], [0x81, 0, 0xa0, 0x0c, 8, 6]);
    let (eth, _) = EthernetRepr::parse(&frame).unwrap();
    assert_eq!((eth.vlan_tci, eth.reply_from(PEER).vlan_tci), (Some(0xa00c), Some(0xa00c)));
    assert!(matches!(EthernetRepr::parse(&frame[..17]), Err(ViewError::Truncated { needed: 18, .. })));
}

#[test]
fn icmp_echo() {
    let message = Icmpv4Repr::EchoReply { id: 0x1234, seq: 7, data: b"odd" };
    let frame = built(|out| build_icmpv4(out, &ETH, OWN4, PEER4, &message));
    assert_eq!(frame[14..16], [0x45, 0]);
    let (ip, payload) = Ipv4Repr::parse(&frame[14..]).unwrap();
    assert_eq!((ip.src, ip.dst, ip.proto, ip.ttl), (OWN4, PEER4, 1, 64));
    // 0000 + 1234 + 0007 + 6f64 + 6400, complemented.
    assert_eq!(payload, [0, 0, 0x1a, 0x60, 0x12, 0x34, 0, 7, b'o', b'd', b'd']);
    assert_eq!(Icmpv4Repr::parse(payload), Ok(message));
}

#[test]
fn too_big_messages() {
    let original = [0x45; 2000];
    let message = Icmpv4Repr::FragNeeded { mtu: 1450, original: &original };
    let frame = built(|out| build_icmpv4(out, &ETH, OWN4, PEER4, &message));
    assert_eq!(frame.len(), 14 + 576);
    assert_eq!(frame[34..36], [3, 4]);
    assert_eq!(frame[38..42], [0, 0, 0x05, 0xaa]);
    let (_, payload) = Ipv4Repr::parse(&frame[14..]).unwrap();
    assert_eq!(
        Icmpv4Repr::parse(payload),
        Ok(Icmpv4Repr::FragNeeded { mtu: 1450, original: &original[..548] })
    );

    let message = Icmpv6Repr::PacketTooBig { mtu: 1430, original: &original };
    let frame = built(|out| build_icmpv6(out, &ETH, OWN6, PEER6, &message));
    assert_eq!(frame.len(), 14 + 1280);
    let (ip, payload) = Ipv6Repr::parse(&frame[14..]).unwrap();
    let parsed = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit);
    assert_eq!(parsed, Ok(Icmpv6Repr::PacketTooBig { mtu: 1430, original: &original[..1232] }));
}

#[test]
fn neighbour_discovery() {
    let group = solicited_node(PEER6);
    assert_eq!(group, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
    assert_eq!(multicast_mac(group), MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
    let frame = built(|out| build_neighbour_solicit(out, OWN, OWN6, PEER6, None));
    let (eth, packet) = EthernetRepr::parse(&frame).unwrap();
    assert_eq!((eth.dst, eth.ethertype), (multicast_mac(group), 0x86dd));
    let (ip, payload) = Ipv6Repr::parse(packet).unwrap();
    assert_eq!((ip.src, ip.dst, ip.hop_limit), (OWN6, group, 255));
    let parsed = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit);
    assert_eq!(parsed, Ok(Icmpv6Repr::NeighbourSolicit { target: PEER6, sll: Some(OWN) }));
    // Not from the link.
    assert!(matches!(Icmpv6Repr::parse(payload, ip.src, ip.dst, 254), Err(ViewError::Malformed { .. })));
    // Another destination: the pseudo header counts.
    assert_eq!(Icmpv6Repr::parse(payload, ip.src, PEER6, 255), Err(ViewError::Checksum("ICMPv6")));

    let advert = Icmpv6Repr::NeighbourAdvert {
        target: PEER6,
        router: false,
        solicited: true,
        overrides: true,
        tll: Some(PEER),
    };
    let frame = built(|out| build_icmpv6(out, &eth.reply_from(PEER), PEER6, OWN6, &advert));
    assert_eq!(frame[58], 0x60);
    let (ip, payload) = Ipv6Repr::parse(&frame[14..]).unwrap();
    assert_eq!(Icmpv6Repr::parse(payload, ip.src, ip.dst, 255), Ok(advert));
    let mut key = FlowKey::ZERO;
    extract(&frame, &mut key).unwrap();
    assert_eq!((key.nd_target, key.arp_tha), (PEER6.octets(), PEER));
}

#[test]
fn ipv4_refusals() {
    let good = built(|out| {
        build_icmpv4(out, &ETH, OWN4, PEER4, &Icmpv4Repr::EchoRequest { id: 1, seq: 1, data: &[] })
    });
    let parse = |at: usize, value: u8, fix: bool| {
        let mut packet = good[14..].to_vec();
        packet[at] = value;
        if fix {
            let sum = wire::checksum::ipv4_header(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Ipv4Repr::parse(&packet).map(|(repr, _)| repr)
    };
    assert!(parse(8, 9, true).is_ok());
    assert_eq!(parse(8, 9, false), Err(ViewError::Checksum("IPv4")));
    assert!(matches!(parse(0, 0x44, true), Err(ViewError::Malformed { .. })));
    assert!(matches!(parse(0, 0x4f, true), Err(ViewError::Truncated { needed: 60, .. })));
    assert!(matches!(parse(3, 19, true), Err(ViewError::Malformed { .. })));
    assert!(matches!(parse(3, 29, true), Err(ViewError::Truncated { needed: 29, .. })));
    assert!(matches!(parse(6, 0x20, true), Err(ViewError::Malformed { .. })));
    let header = Ipv4Repr::parse(&good[14..]).unwrap().0;
    assert!(matches!(header.emit(&mut [0; 20], 65516), Err(ViewError::TooLong { max: 65515, .. })));
}

#[test]
fn udp_checksum() {
    let (src, dst): (IpAddr, IpAddr) = (OWN6.into(), PEER6.into());
    let udp = UdpRepr { src_port: 1, dst_port: 2 };
    let frame = built(|out| build_udp(out, &ETH, src, dst, udp, b"payload"));
    let mut datagram = frame[54..].to_vec();
    assert_eq!(UdpRepr::parse(&datagram, src, dst), Ok((udp, &b"payload"[..])));
    datagram[9] ^= 1;
    assert_eq!(UdpRepr::parse(&datagram, src, dst), Err(ViewError::Checksum("UDP")));
    datagram[6..8].fill(0);
    assert_eq!(UdpRepr::parse(&datagram, src, dst), Err(ViewError::Checksum("UDP")));
    assert!(UdpRepr::parse(&datagram, OWN4.into(), PEER4.into()).is_ok());
    datagram[5] = 7;
    assert!(matches!(UdpRepr::parse(&datagram, src, dst), Err(ViewError::Malformed { .. })));
    assert!(matches!(
        build_udp(&mut [0; 99], &ETH, src, OWN4.into(), udp, &[]),
        Err(ViewError::Malformed { .. })
    ));
}

/// Reads as much of `frame` as there is; only that it returns matters.
fn parse_all(frame: &[u8]) {
    let Ok((_, payload)) = EthernetRepr::parse(frame) else { return };
    let _ = ArpRepr::parse(payload);
    if let Ok((ip, payload)) = Ipv4Repr::parse(payload) {
        let _ = UdpRepr::parse(payload, ip.src.into(), ip.dst.into());
        let _ = Icmpv4Repr::parse(payload);
    }
    if let Ok((ip, payload)) = Ipv6Repr::parse(payload) {
        let _ = UdpRepr::parse(payload, ip.src.into(), ip.dst.into());
        let _ = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit);
    }
}

#[test]
fn fuzz_mutated_frames() {
    let mut frames: Vec<_> = corpus().into_iter().map(|(_, frame)| frame).collect();
    frames.push(built(|out| build_neighbour_solicit(out, OWN, OWN6, PEER6, None)));
    frames.push(vxlan(true, &[], &[], true, &ethernet(&[], 0x0806, &arp(1))));
    for frame in &frames {
        (0..=frame.len()).for_each(|n| parse_all(&frame[..n]));
    }
    let mut rng = Rng(77);
    for _ in 0..100_000 {
        let mut frame = frames[rng.below(frames.len())].clone();
        mutate(&mut frame, &mut rng);
        parse_all(&frame);
    }
}

proptest! {
    #[test]
    fn ipv4_round_trip(fields: ([u8; 4], [u8; 4], u8, u8, u8, u16, bool), payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let (src, dst, proto, tos, ttl, id, df) = fields;
        let repr = Ipv4Repr { src: src.into(), dst: dst.into(), proto, tos, ttl, id, df };
        let mut packet = vec![0; 20];
        repr.emit(&mut packet, payload.len()).unwrap();
        packet.extend(&payload);
        packet.extend([1, 2, 3]);
        prop_assert_eq!(Ipv4Repr::parse(&packet), Ok((repr, &payload[..])));
    }

    #[test]
    fn ipv6_round_trip(fields: ([u8; 16], [u8; 16], u8, u8, u32, u8), payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let (src, dst, next_header, traffic_class, label, hop_limit) = fields;
        let (src, dst, flow_label) = (src.into(), dst.into(), label & 0xf_ffff);
        let repr = Ipv6Repr { src, dst, next_header, traffic_class, flow_label, hop_limit };
        let mut packet = vec![0; 40];
        repr.emit(&mut packet, payload.len()).unwrap();
        packet.extend(&payload);
        packet.extend([1, 2, 3]);
        prop_assert_eq!(Ipv6Repr::parse(&packet), Ok((repr, &payload[..])));
    }

    #[test]
    fn udp_round_trip(v6: bool, src: [u8; 16], dst: [u8; 16], ports: (u16, u16), payload in prop::collection::vec(any::<u8>(), 0..60)) {
        let four = |a: [u8; 16]| IpAddr::from([a[0], a[1], a[2], a[3]]);
        let (src, dst) = if v6 { (src.into(), dst.into()) } else { (four(src), four(dst)) };
        let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
        let mut datagram = vec![0; 8 + payload.len()];
        repr.emit(&mut datagram, src, dst, &payload).unwrap();
        prop_assert_ne!(&datagram[6..8], &[0, 0][..]);
        prop_assert_eq!(UdpRepr::parse(&datagram, src, dst), Ok((repr, &payload[..])));
    }
}
