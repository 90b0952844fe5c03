//! Encapsulation and termination: known bytes, round trips for every option, every error, no panic.

mod common;

use common::{Rng, SLL, corpus, ethernet, ipv4, ipv6, mutate, nd, tcp, udp, vxlan};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use wire::addr::MacAddr;
use wire::checksum;
use wire::key::{FlowKey, TUN_CSUM, TUN_DF, TUN_GBP, TUN_IPV6, TUN_OAM, TUN_PRESENT};
use wire::tunnel::encap::{
    EncapAddrs, EncapError, EncapPatch, EncapSpec, EncapTemplate, INNER_MAX_LEN, source_port,
};
use wire::tunnel::outer::{Outer, OuterError, Peek, clear_tunnel, parse_outer, peek, peek_general};
use wire::tunnel::same_header::{Lengths, OuterHeader};
use wire::tunnel::udp4::{self, UDP4_LEN, Udp4Outer, Udp4Tunnel, ipv4_word, mac_word, port_word};
use wire::tunnel::{HeaderOptions, Transport, TunnelFormat, geneve, gre, vxlan};

const SRC4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const DST4: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const SRC6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const DST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const SPEC: EncapSpec = EncapSpec {
    eth_src: MacAddr([2, 0, 0, 0, 0x0a, 1]),
    eth_dst: MacAddr([2, 0, 0, 0, 0x0a, 2]),
    vlan_tci: None,
    addrs: EncapAddrs::V4(SRC4, DST4),
    df: true,
    udp_dst: 4789,
    format: &vxlan::FORMAT,
    options: HeaderOptions::NONE,
};

/// Both ways of both steps agree; what they say of it as a VXLAN packet.
fn agreed(frame: &[u8]) -> (Option<Peek>, Result<Outer, OuterError>) {
    agreed_as(frame, &vxlan::FORMAT)
}

/// The same for a tunnel packet of any format.
fn agreed_as(frame: &[u8], format: &'static TunnelFormat) -> (Option<Peek>, Result<Outer, OuterError>) {
    let peeked = peek(frame);
    assert_eq!(peeked, peek_general(frame), "{frame:02x?}");
    let outer = parse_outer(frame, format, false);
    if let Ok(outer) = outer {
        assert_eq!(parse_outer(frame, format, true), Ok(outer), "{frame:02x?}");
        let peeked = peeked.expect("what can be decapsulated is seen by the first step");
        assert_eq!((peeked.dst, peeked.transport), (outer.dst, outer.transport));
        let end = usize::from(outer.inner_offset) + usize::from(outer.inner_len);
        assert_eq!(end + usize::from(outer.trailing), frame.len());
        assert!(outer.inner_offset > peeked.l4 && outer.inner_len >= 14);
    }
    // The straight line takes only what the checks take, and reads the same.
    if let Some(plain) = Udp4Outer::read(frame) {
        let format: &TunnelFormat =
            if plain.pattern == udp4::GENEVE { &geneve::FORMAT } else { &vxlan::FORMAT };
        let outer = parse_outer(frame, format, false).expect("checked");
        let peeked = peeked.expect("checked");
        assert_eq!(
            (IpAddr::V4(plain.tunnel().src()), IpAddr::V4(plain.tunnel().dst())),
            (outer.src, outer.dst)
        );
        assert_eq!(Transport::udp(plain.tunnel().udp_dst()), outer.transport);
        assert_eq!(plain.tunnel().vni(), outer.id);
        assert_eq!((plain.tos, plain.ttl), (outer.tos, outer.ttl));
        assert_eq!((plain.inner_len, plain.trailing), (outer.inner_len, outer.trailing));
        assert_eq!(usize::from(outer.inner_offset), UDP4_LEN);
        assert_eq!(plain.dl_dst, mac_word(peeked.dl_dst));
        assert_eq!((plain.addresses >> 32) as u32, ipv4_word(plain.tunnel().dst()));
        assert_eq!(plain.port_and_vni as u16, port_word(plain.tunnel().udp_dst()));
        let mut fast = FlowKey::ZERO;
        fast.words_mut().fill(u64::MAX);
        let mut slow = fast;
        plain.origin(7).fill_key(&mut fast);
        outer.fill_key(&mut slow);
        slow.in_port = 7;
        // Packet fields that share words with the tunnel's.
        (slow.tcp_flags, slow.vlan_tci2, slow.ipv6_label, slow.reserved) = (0.into(), 0.into(), 0.into(), 0);
        assert_eq!(fast, slow);
    }
    (peeked, outer)
}

#[test]
fn the_straight_line_is_taken() {
    let packet = encapsulate(&SPEC, &EncapPatch { vni: 0x12_3456, ..EncapPatch::default() }, &[0x5a; 60]);
    let plain = Udp4Outer::read(&packet).expect("an ordinary tunnel packet");
    assert_eq!((plain.tunnel().vni(), plain.inner_len), (0x12_3456, 60));
}

/// What the pattern of `first` should say of `frame`: what reading it on its own says, where that is alike.
fn alike(first: &Udp4Outer, frame: &[u8]) -> Option<Lengths> {
    // The first has DF, and the flag beside it that nobody may set is not.
    let mut outer = Udp4Outer::read(frame).filter(|_| frame[20] & 0x80 == 0)?;
    let lengths = Lengths { inner: outer.inner_len, trailing: outer.trailing };
    (outer.inner_len, outer.trailing) = (first.inner_len, first.trailing);
    (outer == *first).then_some(lengths)
}

/// The same for a packet from wherever to the same VTEP.
fn alike_but_tunnel(first: &Udp4Outer, frame: &[u8]) -> Option<(Lengths, Udp4Tunnel)> {
    let tunnel = Udp4Outer::read(frame)?.tunnel();
    let mut here = *first;
    here.addresses = here.addresses >> 32 << 32 | tunnel.addresses & 0xffff_ffff;
    here.port_and_vni = here.port_and_vni & 0xffff | tunnel.port_and_vni >> 16 << 16;
    Some((alike(&here, frame)?, tunnel))
}

/// Puts a right IPv4 checksum into a frame.
fn correct(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = checksum::ipv4_header(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn a_pattern_takes_the_next_packet_of_a_tunnel() {
    let one = |src_port, ip_id, len| {
        let patch = EncapPatch { vni: 5, ttl: 64, src_port, ip_id, ..EncapPatch::default() };
        encapsulate(&SPEC, &patch, &[0x5a; 1400][..len])
    };
    let (first, pattern) = OuterHeader::new(&one(0xc000, 1, 60)).expect("an ordinary tunnel packet");
    assert_eq!((first.tunnel().vni(), first.inner_len), (5, 60));
    for (src_port, ip_id, len) in
        [(0xc000, 1, 60), (0xffff, 0xffff, 14), (0xc123, 0, 1400), (0xc123, 0x7fff, 61)]
    {
        let lengths = pattern.read(&one(src_port, ip_id, len)).expect("alike");
        assert_eq!((lengths.inner, lengths.trailing), (len as u16, 0));
    }
    // The flag that nobody may set is among the bytes compared; read on its own, such a packet is ordinary.
    let mut reserved = one(0xc000, 1, 60);
    reserved[20] |= 0x80;
    correct(&mut reserved);
    assert_eq!((pattern.read(&reserved), Udp4Outer::read(&reserved).is_some()), (None, true));
    let patch = EncapPatch { vni: 0xff_0001, ttl: 64, ip_id: 9, ..EncapPatch::default() };
    let other = encapsulate(
        &EncapSpec { addrs: EncapAddrs::V4(Ipv4Addr::BROADCAST, DST4), ..SPEC },
        &patch,
        &[1; 80],
    );
    assert_eq!(pattern.read(&other), None, "another tunnel");
    let (lengths, tunnel) = pattern.read_other(&other).expect("to the same VTEP");
    assert_eq!((lengths.inner, tunnel.vni(), tunnel.src()), (80, 0xff_0001, Ipv4Addr::BROADCAST));
}

fn encapsulate(spec: &EncapSpec, patch: &EncapPatch, inner: &[u8]) -> Vec<u8> {
    let template = EncapTemplate::new(spec);
    let mut packet = vec![0xff; template.header_len()];
    template.write(&mut packet, inner.len(), patch).unwrap();
    let fixed = template.fixed_v4();
    let untagged_v4 = matches!(spec.addrs, EncapAddrs::V4(..)) && spec.vlan_tci.is_none();
    assert_eq!(fixed.is_some(), untagged_v4 && !spec.options.sequence);
    if let Some(fixed) = fixed {
        let mut out = vec![0xaa; fixed.header_len()];
        fixed.write(&mut out, inner.len() as u16, patch);
        assert_eq!(packet, out);
        let ready = fixed.ready(&EncapPatch { src_port: 9, ..*patch });
        assert_eq!(ready.header_len(), packet.len());
        ready.write_part(&mut out, inner.len() as u16, patch.src_port);
        assert_eq!(packet, out);
        if ready.is_full() {
            ready.write(out.first_chunk_mut().unwrap(), inner.len() as u16, patch.src_port);
            assert_eq!(packet, out);
        }
        assert_eq!(ready.wants_checksum(), spec.options.csum);
        assert_eq!(fixed.wants_checksum(), spec.options.csum);
    }
    packet.extend(inner);
    if template.wants_checksum() {
        template.fill_checksum(&mut packet).unwrap();
    }
    packet
}

#[test]
fn known_ipv4_bytes() {
    let patch = EncapPatch { src_port: 0xc123, vni: 100, tos: 0, ttl: 64, ..EncapPatch::default() };
    let packet = encapsulate(&SPEC, &patch, &[0x55; 60]);
    let expected = [
        2, 0, 0, 0, 0x0a, 2, 2, 0, 0, 0, 0x0a, 1, 8, 0, // Ethernet
        0x45, 0, 0, 96, 0, 0, 0x40, 0, 64, 17, 0xb7, 0x39, 192, 168, 1, 1, 192, 168, 1, 2, // IPv4
        0xc1, 0x23, 0x12, 0xb5, 0, 76, 0, 0, // UDP
        8, 0, 0, 0, 0, 0, 100, 0, // VXLAN
    ];
    assert_eq!(packet[..50], expected);
}

#[test]
fn known_ipv6_bytes() {
    let spec = EncapSpec { addrs: EncapAddrs::V6(SRC6, DST6), vlan_tci: Some(0x6005), ..SPEC };
    let patch = EncapPatch { src_port: 0xffff, vni: 0xab_cdef, tos: 0xb8, ttl: 3, ..EncapPatch::default() };
    let packet = encapsulate(&spec, &patch, &[0; 14]);
    assert_eq!(packet[12..26], [0x81, 0, 0x60, 5, 0x86, 0xdd, 0x6b, 0x80, 0, 0, 0, 30, 17, 3]);
    assert_eq!(packet[58..74], [0xff, 0xff, 0x12, 0xb5, 0, 30, 0, 0, 8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
    assert_eq!(packet.len(), 74 + 14);
    assert_eq!(EncapTemplate::new(&spec).ip_overhead(), 56);
}

#[test]
fn extensions_on_the_wire() {
    let policy = EncapPatch { vni: 1, gbp_id: 0x1234, gbp_flags: 0x48, ..EncapPatch::default() };
    let header = |format, patch: &EncapPatch| {
        let packet = encapsulate(&EncapSpec { format, ..SPEC }, patch, &[0; 14]);
        packet[42..50].to_vec()
    };
    assert_eq!(header(&vxlan::FORMAT, &policy), [8, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(header(&vxlan::FORMAT_GBP, &policy), [0x88, 0x48, 0x12, 0x34, 0, 0, 1, 0]);
    assert_eq!(
        header(&vxlan::FORMAT_GBP, &EncapPatch { vni: 1, ..EncapPatch::default() }),
        [8, 0, 0, 0, 0, 0, 1, 0]
    );
    assert_eq!(header(&vxlan::FORMAT_GPE, &policy), [0x0c, 0, 0, 3, 0, 0, 1, 0]);
}

#[test]
fn write_refuses_what_does_not_fit() {
    let template = EncapTemplate::new(&SPEC);
    let patch = EncapPatch::default();
    assert_eq!(
        template.write(&mut [0; 49], 60, &patch),
        Err(EncapError::HeaderLen { expected: 50, got: 49 })
    );
    let longest = usize::from(INNER_MAX_LEN);
    assert_eq!(template.write(&mut [0; 50], longest, &patch), Ok(()));
    assert_eq!(template.write(&mut [0; 50], longest + 1, &patch), Err(EncapError::InnerTooLong(longest + 1)));
    let mut packet = encapsulate(&SPEC, &patch, &[0; 20]);
    packet.pop();
    assert_eq!(
        EncapTemplate::new(&EncapSpec { options: HeaderOptions::CSUM, ..SPEC }).fill_checksum(&mut packet),
        Err(EncapError::PacketLen(70))
    );
    assert!(template.fill_checksum(&mut []).is_err());
}

#[test]
fn ipv4_checksum_for_every_sum() {
    // The identification takes the sum through all its values, those included whose carry carries again.
    let template = EncapTemplate::new(&SPEC);
    let fixed = template.fixed_v4().unwrap();
    let (mut general, mut specialised) = ([0; 50], [0; 50]);
    for ip_id in 0..=u16::MAX {
        let patch = EncapPatch { ip_id, tos: 0xff, ttl: 0xff, ..EncapPatch::default() };
        template.write(&mut general, 1400, &patch).unwrap();
        fixed.write(&mut specialised, 1400, &patch);
        assert!(checksum::ipv4_header_is_valid(&general[14..34]), "{ip_id}");
        assert_eq!(general, specialised);
    }
}

#[test]
fn source_ports_spread() {
    assert_eq!((source_port(0), source_port(u32::MAX)), (49152, 65535));
    assert_ne!(source_port(1 << 18), source_port(0));
}

#[test]
fn mixed_families_are_refused() {
    assert_eq!(EncapAddrs::new(SRC4.into(), DST6.into()), None);
    assert_eq!(EncapAddrs::new(SRC4.into(), DST4.into()), Some(EncapAddrs::V4(SRC4, DST4)));
    assert_eq!(EncapAddrs::new(SRC6.into(), DST6.into()), Some(EncapAddrs::V6(SRC6, DST6)));
}

#[test]
fn every_error() {
    let inner = ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp()));
    let error_of = |frame: &[u8]| agreed(frame).1.unwrap_err();
    let plain = vxlan(false, &[], &[], false, &inner);
    let csum = vxlan(false, &[], &[], true, &inner);
    let six = vxlan(true, &[], &[], true, &inner);
    // Sets bytes and, on IPv4, makes the header checksum right again.
    let with = |frame: &[u8], changes: &[(usize, u8)]| {
        let mut frame = frame.to_vec();
        for (at, value) in changes {
            frame[*at] = *value;
        }
        if frame[12..14] == [8, 0] {
            let end = (14 + usize::from(frame[14] & 15) * 4).clamp(34, frame.len());
            let sum = checksum::ipv4_header(&frame[14..end]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    };
    assert!(agreed(&plain).1.is_ok() && agreed(&csum).1.is_ok() && agreed(&six).1.is_ok());
    assert_eq!(error_of(&with(&plain, &[(23, 6)])), OuterError::Transport);
    assert_eq!(error_of(&with(&plain, &[(13, 6)])), OuterError::Transport);
    assert_eq!(error_of(&[]), OuterError::Transport);
    assert_eq!(error_of(&with(&plain, &[(14, 0x44)])), OuterError::Ipv4Header);
    assert_eq!(error_of(&plain[..33]), OuterError::Ipv4Header);
    let mut bad = plain.clone();
    bad[24] ^= 1;
    assert_eq!(error_of(&bad), OuterError::Ipv4Checksum);
    assert_eq!(error_of(&with(&plain, &[(16, 0xff)])), OuterError::Ipv4Length);
    assert_eq!(error_of(&with(&plain, &[(17, 27)])), OuterError::Ipv4Length);
    assert_eq!(error_of(&six[..53]), OuterError::Ipv6Header);
    assert_eq!(error_of(&six[..six.len() - 1]), OuterError::Ipv6Length);
    assert_eq!(error_of(&with(&six, &[(18, 0), (19, 7)])), OuterError::Ipv6Length);
    assert_eq!(error_of(&with(&plain, &[(20, 0x20)])), OuterError::Fragment);
    assert_eq!(error_of(&with(&plain, &[(21, 1)])), OuterError::Fragment);
    assert_eq!(error_of(&with(&six, &[(20, 44)])), OuterError::Fragment);
    assert_eq!(error_of(&with(&plain, &[(39, 7)])), OuterError::UdpLength);
    assert_eq!(error_of(&with(&plain, &[(38, 1)])), OuterError::UdpLength);
    assert_eq!(error_of(&with(&csum, &[(60, 0x77)])), OuterError::UdpChecksum);
    assert_eq!(error_of(&with(&six, &[(90, 0x77)])), OuterError::UdpChecksum);
    let zero = with(&six, &[(60, 0), (61, 0)]);
    assert_eq!(error_of(&zero), OuterError::UdpZeroChecksumV6);
    assert_eq!(parse_outer(&zero, &vxlan::FORMAT, true).unwrap().flags, TUN_PRESENT | TUN_IPV6);
    assert_eq!(error_of(&with(&plain, &[(39, 15)])), OuterError::Truncated);
    assert_eq!(error_of(&with(&plain, &[(42, 0xf7)])), OuterError::VxlanNoVniFlag);
    assert_eq!(error_of(&with(&plain, &[(39, 29)])), OuterError::InnerTruncated);
    assert_eq!(agreed(&with(&plain, &[(39, 30)])).1.unwrap().inner_len, 14);
    // Reserved bits are ignored.
    let outer = agreed(&with(&plain, &[(42, 0x7b), (43, 0xff), (49, 0xff)])).1.unwrap();
    assert_eq!(outer.id, 0x1234);
}

#[test]
fn frames_that_are_no_tunnel() {
    let q = (0x8100, 5);
    let peek_of = |frame: &[u8]| agreed(frame).0;
    assert!(peek_of(&ethernet(&[q, q], 0x0800, &ipv4(17, 0, &[], &udp(b"two tags")))).is_none());
    assert!(peek_of(&ethernet(&[], 0x0800, &ipv4(17, 0x2000, &[], &udp(b"fragment")))).is_none());
    assert!(peek_of(&ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp()))).is_none());
    assert!(peek_of(&ethernet(&[], 0x86dd, &ipv6(58, &nd(135, &[&SLL])))).is_none());
    let frame = ethernet(&[q], 0x0800, &ipv4(17, 0, &[1, 1, 1, 1], &udp(b"")));
    let peeked = peek_of(&frame).unwrap();
    assert_eq!((peeked.l3, peeked.l4, peeked.vid, peeked.transport), (18, 42, Some(5), Transport::udp(53)));
    assert_eq!(peeked.dst, IpAddr::from([192, 168, 4, 5]));
    assert!(peek_of(&frame[..frame.len() - 1]).is_none());
}

#[test]
fn key_fields() {
    let mut key = FlowKey::ZERO;
    *key.words_mut() = [u64::MAX; wire::key::KEY_WORDS];
    let before = key;
    let patch = EncapPatch { vni: 77, tos: 3, ttl: 9, gbp_id: 5, gbp_flags: 8, ..EncapPatch::default() };
    let v4 = encapsulate(&EncapSpec { format: &vxlan::FORMAT_GBP, ..SPEC }, &patch, &[0; 14]);
    let outer = parse_outer(&v4, &vxlan::FORMAT_GBP, false).unwrap();
    outer.fill_key(&mut key);
    let expected = FlowKey {
        tun_id: 77,
        tun_src: u32::from(SRC4).into(),
        tun_dst: u32::from(DST4).into(),
        tun_flags: TUN_PRESENT | TUN_DF | TUN_GBP,
        tun_tos: 3,
        tun_ttl: 9,
        tun_gbp_id: 5.into(),
        tun_gbp_flags: 8,
        tun_ipv6_src: [0; 16],
        tun_ipv6_dst: [0; 16],
        tun_metadata_present: 0,
        tun_metadata: [0; wire::key::TUN_METADATA_LEN],
        ..before
    };
    assert_eq!(key, expected);
    parse_outer(&v4, &vxlan::FORMAT, false).unwrap().fill_key(&mut key);
    assert_eq!((key.tun_flags, key.tun_gbp_id.get(), key.tun_gbp_flags), (TUN_PRESENT | TUN_DF, 0, 0));
    let spec = EncapSpec { addrs: EncapAddrs::V6(SRC6, DST6), options: HeaderOptions::CSUM, ..SPEC };
    parse_outer(&encapsulate(&spec, &patch, &[0; 14]), &vxlan::FORMAT, false).unwrap().fill_key(&mut key);
    assert_eq!(key.tun_flags, TUN_PRESENT | TUN_IPV6 | TUN_CSUM);
    assert_eq!((key.tun_src.get(), key.tun_ipv6_src, key.tun_ipv6_dst), (0, SRC6.octets(), DST6.octets()));
    let mut cleared = before;
    clear_tunnel(&mut cleared);
    assert_eq!(cleared.tun_flags, 0);
    assert_eq!(
        (cleared.in_port, cleared.tcp_flags, cleared.nd_target),
        (u32::MAX, 0xffff.into(), [0xff; 16])
    );
    assert_eq!((cleared.words()[1], cleared.words()[12..16].iter().sum::<u64>()), (0, 0));
}

#[test]
fn reasons_index_counters() {
    let mut names: Vec<_> = OuterError::ALL.iter().map(|a| a.name()).collect();
    for (n, error) in OuterError::ALL.iter().enumerate() {
        assert_eq!((error.index(), error.to_string()), (n, error.description().to_string()));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OuterError::COUNT);
}

#[test]
fn truncated_at_every_byte() {
    for (name, frame) in corpus() {
        for n in 0..frame.len() {
            let (_, outer) = agreed(&frame[..n]);
            assert!(outer.is_err(), "{name} cut at {n}");
        }
        assert_eq!(agreed(&frame).1.is_ok(), name.starts_with("vxlan"), "{name}");
    }
}

#[test]
fn fuzz_mutated_frames() {
    let frames: Vec<_> = corpus().into_iter().filter(|(name, _)| name.starts_with("vxlan")).collect();
    let mut rng = Rng(0x0123_4567_89ab_cdef);
    for _ in 0..200_000 {
        let mut frame = frames[rng.below(frames.len())].1.clone();
        mutate(&mut frame, &mut rng);
        // Half of them with a right header checksum, to get beyond it.
        if rng.below(2) == 0 && frame.len() >= 34 && frame[12..15] == [8, 0, 0x45] {
            let sum = checksum::ipv4_header(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        let _ = agreed(&frame);
    }
}

fn any_spec() -> impl Strategy<Value = EncapSpec> {
    let formats: [&'static TunnelFormat; 5] =
        [&vxlan::FORMAT, &vxlan::FORMAT_GBP, &vxlan::FORMAT_GPE, &geneve::FORMAT, &gre::FORMAT];
    let format = (0..formats.len()).prop_map(move |n| formats[n]);
    let addrs = any::<(bool, [u8; 16], [u8; 16])>().prop_map(|(v6, src, dst)| {
        if v6 {
            EncapAddrs::V6(src.into(), dst.into())
        } else {
            let four = |a: [u8; 16]| Ipv4Addr::new(a[0], a[1], a[2], a[3]);
            EncapAddrs::V4(four(src), four(dst))
        }
    });
    let options = any::<(bool, bool, bool)>();
    (any::<[u8; 12]>(), any::<Option<u16>>(), addrs, any::<(bool, u16)>(), options, format).prop_map(
        |(macs, vlan_tci, addrs, (df, udp_dst), (key, csum, sequence), format)| EncapSpec {
            eth_src: MacAddr([macs[0], macs[1], macs[2], macs[3], macs[4], macs[5]]),
            eth_dst: MacAddr([macs[6], macs[7], macs[8], macs[9], macs[10], macs[11]]),
            vlan_tci,
            addrs,
            df,
            format,
            options: if *format == gre::FORMAT {
                HeaderOptions { key, csum, sequence }
            } else {
                HeaderOptions { csum, ..HeaderOptions::NONE }
            },
            udp_dst: if *format == gre::FORMAT { 0 } else { udp_dst },
        },
    )
}

fn any_patch() -> impl Strategy<Value = EncapPatch> {
    any::<(u16, u32, u8, u8, u16, u16, u8, bool, u32)>().prop_map(
        |(src_port, vni, tos, ttl, ip_id, gbp_id, gbp_flags, oam, sequence)| EncapPatch {
            src_port,
            vni: vni & 0xff_ffff,
            tos,
            ttl,
            ip_id,
            gbp_id,
            gbp_flags,
            oam,
            sequence,
            ..EncapPatch::default()
        },
    )
}

proptest! {
    /// Packets that differ in everything that counts and everything that does not, and in single bytes.
    #[test]
    fn a_pattern_says_what_reading_says(
        what in prop::array::uniform7(0u8..8), src_port: u16, ip_id: u16, inner in 14usize..200, padding in 0usize..20,
        cut in 0usize..4, edits in prop::collection::vec((0usize..66, any::<u8>(), any::<bool>()), 0..3),
    ) {
        // Mostly as the first packet has it.
        let odd = |i: usize| what[i] == 0;
        let spec = EncapSpec {
            eth_dst: if odd(0) { SPEC.eth_src } else { SPEC.eth_dst },
            addrs: EncapAddrs::V4(if odd(6) { DST4 } else { SRC4 }, if odd(1) { SRC4 } else { DST4 }),
            df: !odd(2),
            ..SPEC
        };
        let usual = EncapPatch { vni: 5, ttl: 64, ..EncapPatch::default() };
        let patch = EncapPatch {
            vni: if odd(3) { 0x05_0000 } else { 5 },
            ttl: if odd(4) { 63 } else { 64 },
            tos: if odd(5) { 4 } else { 0 },
            src_port,
            ip_id,
            ..usual
        };
        let (first, pattern) = OuterHeader::new(&encapsulate(&SPEC, &usual, &[0x5a; 60])).unwrap();
        let mut packet = encapsulate(&spec, &patch, &[0x66; 200][..inner]);
        packet.resize(packet.len() + padding, 0x99);
        for (at, value, right) in edits {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
            if right {
                correct(&mut packet);
            }
        }
        packet.truncate(packet.len() - cut);
        prop_assert_eq!(pattern.read(&packet), alike(&first, &packet));
        prop_assert_eq!(pattern.read_other(&packet), alike_but_tunnel(&first, &packet));
    }

    #[test]
    fn round_trip(
        spec in any_spec(),
        patch in any_patch(),
        inner in prop::collection::vec(any::<u8>(), 14..300),
        padding in 0usize..20,
    ) {
        let mut packet = encapsulate(&spec, &patch, &inner);
        packet.resize(packet.len() + padding, 0x99);
        let v6 = matches!(spec.addrs, EncapAddrs::V6(..));
        let _ = agreed_as(&packet, spec.format);
        let outer = parse_outer(&packet, spec.format, true).unwrap();
        let (src, dst): (IpAddr, IpAddr) = match spec.addrs {
            EncapAddrs::V4(src, dst) => (src.into(), dst.into()),
            EncapAddrs::V6(src, dst) => (src.into(), dst.into()),
        };
        let policy = *spec.format == vxlan::FORMAT_GBP && (patch.gbp_id != 0 || patch.gbp_flags != 0);
        let is_gre = *spec.format == gre::FORMAT;
        let oam = *spec.format == geneve::FORMAT && patch.oam;
        let flags = [
            (true, TUN_PRESENT), (spec.options.csum, TUN_CSUM), (spec.df && !v6, TUN_DF), (policy, TUN_GBP),
            (v6, TUN_IPV6), (oam, TUN_OAM),
        ];
        let expected = Outer {
            unverified: None,
            id: if is_gre && !spec.options.key { 0 } else { patch.vni },
            gbp_flags: if policy { patch.gbp_flags } else { 0 },
            gbp_id: if policy { patch.gbp_id } else { 0 },
            options_len: 0,
            src,
            dst,
            transport: Transport { protocol: spec.format.protocol, port: spec.udp_dst },
            tos: patch.tos,
            ttl: patch.ttl,
            flags: flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum(),
            inner_offset: EncapTemplate::new(&spec).header_len() as u16,
            inner_len: inner.len() as u16,
            trailing: padding as u16,
        };
        prop_assert_eq!(outer, expected);
        let at = usize::from(outer.inner_offset);
        prop_assert_eq!(&packet[at..at + usize::from(outer.inner_len)], &inner[..]);
        if !is_gre {
            let l4 = at - 16;
            prop_assert_eq!(&packet[l4..l4 + 2], &patch.src_port.to_be_bytes()[..]);
        }
        prop_assert_eq!(peek(&packet).unwrap().vid, spec.vlan_tci.map(|tci| tci & 0xfff));
        prop_assert_eq!(peek(&packet).unwrap().dl_dst, spec.eth_dst);
    }

    #[test]
    fn arbitrary_bytes(frame in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = agreed(&frame);
    }
}

/// A packet in pieces is read, verified and given a checksum as the same packet in one.
#[test]
fn packets_of_several_segments_are_as_those_of_one() {
    use wire::tunnel::outer::parse_outer_chain;
    let addrs =
        EncapAddrs::new(std::net::IpAddr::from([192, 168, 1, 1]), std::net::IpAddr::from([192, 168, 1, 2]));
    for len in [14, 15, 200, 1501] {
        let template = EncapTemplate::new(&EncapSpec {
            eth_src: wire::addr::MacAddr::ZERO,
            eth_dst: wire::addr::MacAddr::ZERO,
            vlan_tci: None,
            addrs: addrs.unwrap(),
            df: true,
            udp_dst: 4789,
            format: &vxlan::FORMAT,
            options: HeaderOptions::CSUM,
        });
        let mut packet = vec![0; template.header_len()];
        template.write(&mut packet, len, &EncapPatch { vni: 7, ttl: 64, ..EncapPatch::default() }).unwrap();
        packet.extend((0..len).map(|n| (n * 31) as u8));
        let mut whole = packet.clone();
        template.fill_checksum(&mut whole).unwrap();
        let expected = parse_outer(&whole, &vxlan::FORMAT, false).unwrap();
        for cut in [64, 65, 66, 100, 131].into_iter().filter(|cut| *cut < whole.len()) {
            let (head, tail) = packet.split_at(cut);
            let (one, two) = tail.split_at(tail.len() / 2);
            let mut head = head.to_vec();
            template.fill_checksum_chain(&mut head, [one, two].into_iter()).unwrap();
            assert_eq!(head, whole[..cut], "{len} bytes cut at {cut}");
            let read = parse_outer_chain(&head, tail.len(), &vxlan::FORMAT, false).unwrap();
            let unverified = read.unverified.expect("its bytes are not all here");
            assert_eq!(wire::tunnel::outer::Outer { unverified: None, ..read }, expected);
            assert!(unverified.verify([&head[..], one, two].into_iter()).is_ok());
            assert!(unverified.verify([&head[..], one].into_iter()).is_err(), "cut off");
            let mut wrong = two.to_vec();
            wrong[0] ^= 1;
            assert!(unverified.verify([&head[..], one, &wrong].into_iter()).is_err());
        }
    }
}
