//! Answers to packets that do not fit a tunnel: what Linux' bridged tunnels say, and to whom they say nothing.

mod common;

use common::{Rng, corpus, mutate};
use core::net::{Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::too_big::{QUOTED_MAX, REPLY_MAX, too_big_reply};
use wire::view::{
    EthernetRepr, Icmpv4Repr, Icmpv6Repr, Ipv4Repr, Ipv6Repr, UdpRepr, build_icmpv6, build_udp,
};

const SENDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const REMOTE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// A UDP packet of `len` bytes of payload.
fn udp4(len: usize) -> Vec<u8> {
    let mut out = vec![0; 4000];
    let eth = EthernetRepr { dst: REMOTE, src: SENDER, vlan_tci: None, ethertype: 0x0800 };
    let mut at = eth.emit(&mut out).unwrap();
    let ip = Ipv4Repr { src: A4, dst: B4, proto: 17, tos: 0, ttl: 64, id: 7, df: true };
    at += ip.emit(&mut out[at..], len + 8).unwrap();
    out.truncate(at + 8 + len);
    out
}

fn udp6(len: usize) -> Vec<u8> {
    let mut out = vec![0; 4000];
    let eth = EthernetRepr { dst: REMOTE, src: SENDER, vlan_tci: None, ethertype: 0 };
    let ports = UdpRepr { src_port: 1, dst_port: 2 };
    let len = build_udp(&mut out, &eth, A6.into(), B6.into(), ports, &vec![0; len]).unwrap();
    out.truncate(len);
    out
}

fn reply(frame: &[u8], longest: usize) -> Option<Vec<u8>> {
    let mut out = [0xff; REPLY_MAX];
    let len = too_big_reply(frame, longest, &mut out)?;
    Some(out[..len].to_vec())
}

/// The same with tags behind the addresses.
fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

#[test]
fn a_sender_hears_what_fits_from_its_destination() {
    let frame = udp4(1472);
    let answer = reply(&frame, 1464).expect("an answer");
    let (eth, packet) = EthernetRepr::parse(&answer).unwrap();
    assert_eq!((eth.dst, eth.src), (SENDER, REMOTE));
    let (ip, payload) = Ipv4Repr::parse(packet).unwrap();
    assert_eq!((ip.src, ip.dst, ip.proto, ip.df), (B4, A4, 1, false));
    assert_eq!(packet.len(), 576, "as long as such a message may be");
    assert_eq!(
        Icmpv4Repr::parse(payload),
        Ok(Icmpv4Repr::FragNeeded { mtu: 1450, original: &frame[14..562] })
    );
    assert_eq!(extract(&answer, &mut FlowKey::ZERO.clone()).unwrap().anomaly, None);

    let frame = udp6(1452);
    let answer = reply(&frame, 1464).expect("an answer");
    let (eth, packet) = EthernetRepr::parse(&answer).unwrap();
    assert_eq!((eth.dst, eth.src), (SENDER, REMOTE));
    let (ip, payload) = Ipv6Repr::parse(packet).unwrap();
    assert_eq!((ip.src, ip.dst, packet.len()), (B6, A6, 1280));
    let message = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit);
    assert_eq!(message, Ok(Icmpv6Repr::PacketTooBig { mtu: 1450, original: &frame[14..1246] }));
    assert_eq!(extract(&answer, &mut FlowKey::ZERO.clone()).unwrap().anomaly, None);
}

#[test]
fn tags_stay_and_cost_their_bytes() {
    let tags = [[0x88, 0xa8, 0x20, 7], [0x81, 0, 0xa0, 12]];
    for count in 0..=2 {
        for frame in [udp4(1472), udp6(1452)] {
            let frame = tagged(&frame, &tags[..count]);
            let answer = reply(&frame, 1464).expect("an answer");
            assert_eq!(answer[12..12 + 4 * count], tags[..count].concat());
            let ip = 14 + 4 * count;
            let mtu =
                if answer[ip] >> 4 == 4 { &answer[ip + 26..ip + 28] } else { &answer[ip + 46..ip + 48] };
            assert_eq!(u16::from_be_bytes([mtu[0], mtu[1]]), 1450 - 4 * count as u16);
            // What a worker sends up is enough.
            assert_eq!(reply(&frame[..QUOTED_MAX.min(frame.len())], 1464), Some(answer));
        }
    }
    assert_eq!(reply(&tagged(&udp4(1472), &[tags[1]; 3]), 1464), None, "three tags");
}

#[test]
fn nobody_hears_of_later_fragments_of_errors_and_for_groups() {
    let with = |mut frame: Vec<u8>, at: usize, bytes: &[u8]| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        reply(&frame, 1464)
    };
    let v4 = |at, bytes: &[u8]| with(udp4(1472), at, bytes);
    assert!(v4(14, &[0x45]).is_some());
    assert!(v4(20, &[0, 0]).is_some(), "without DF");
    assert!(v4(20, &[0x20, 0]).is_some(), "a first fragment");
    for (what, at, bytes) in [
        ("a later fragment", 20, &[0x20u8, 8][..]),
        ("to a group", 30, &[224, 0, 0, 5]),
        ("to all", 30, &[255, 255, 255, 255]),
        ("from nobody", 26, &[0, 0, 0, 0]),
        ("from loopback", 26, &[127, 0, 0, 1]),
        ("from a group", 26, &[224, 0, 0, 1]),
        ("to a group's MAC", 0, &[1]),
        ("from a group's MAC", 6, &[1]),
        ("another version", 14, &[0x55]),
        ("a short header", 14, &[0x44]),
        ("ARP", 12, &[8, 6]),
    ] {
        assert_eq!(v4(at, bytes), None, "{what}");
    }
    let icmp = |kind: u8| {
        let mut frame = udp4(1472);
        (frame[23], frame[34]) = (1, kind);
        reply(&frame, 1464)
    };
    assert!(icmp(8).is_some() && icmp(0).is_some(), "echoes");
    assert!([3, 4, 5, 11, 12].into_iter().all(|kind| icmp(kind).is_none()), "errors");
    assert_eq!(reply(&udp4(1472), 14 + 575), None, "less than every host can receive");
    assert!(reply(&udp4(1472), 14 + 576).is_some());

    let v6 = |at, bytes: &[u8]| with(udp6(1452), at, bytes);
    assert!(v6(14, &[0x60]).is_some());
    let loopback = Ipv6Addr::LOCALHOST.octets();
    for (what, at, bytes) in [
        ("to a group", 38, &[0xff, 2][..]),
        ("from nobody", 22, &[0; 16]),
        ("from loopback", 22, &loopback),
        ("another version", 14, &[0x40]),
    ] {
        assert_eq!(v6(at, bytes), None, "{what}");
    }
    assert_eq!(reply(&udp6(1452), 14 + 1279), None, "less than every link carries");
    let echo = Icmpv6Repr::EchoRequest { id: 1, seq: 1, data: &[0; 1452] };
    let mut frame = vec![0; 2000];
    let eth = EthernetRepr { dst: REMOTE, src: SENDER, vlan_tci: None, ethertype: 0 };
    let len = build_icmpv6(&mut frame, &eth, A6, B6, &echo).unwrap();
    frame.truncate(len);
    assert!(reply(&frame, 1464).is_some());
    frame[54] = 2;
    assert_eq!(reply(&frame, 1464), None, "an error");
    // The error behind destination options.
    let behind = [&frame[..20], &[60], &frame[21..54], &[58, 0, 1, 4, 0, 0, 0, 0], &frame[54..]].concat();
    assert_eq!(reply(&behind, 1464), None, "an error behind an extension header");
    let mut echo = behind;
    echo[62] = 128;
    assert!(reply(&echo, 1464).is_some());
}

#[test]
fn mutated_frames_never_make_a_bad_answer() {
    let mut frames: Vec<_> = corpus().into_iter().map(|(_, frame)| frame).collect();
    frames.extend([udp4(1472), udp6(1452), tagged(&udp4(1472), &[[0x81, 0, 0, 1]])]);
    let mut rng = Rng(5);
    let mut answers = 0;
    for _ in 0..100_000 {
        let mut frame = frames[rng.below(frames.len())].clone();
        mutate(&mut frame, &mut rng);
        let longest = rng.below(3000);
        if let Some(answer) = reply(&frame, longest) {
            answers += 1;
            assert_eq!(extract(&answer, &mut FlowKey::ZERO.clone()).unwrap().anomaly, None);
            assert_eq!(answer[..6], frame[6..12]);
        }
    }
    assert!(answers > 100, "{answers}");
}
