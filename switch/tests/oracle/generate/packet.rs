//! Random packets, plain and out of tunnels.

use super::{Classes, VLANS};
use crate::frames::{Body, Fault, Frame, IPV4, IPV6, L4, Outer, PORTS, Part, TOS, TTL};
use crate::plan::{OWN, REMOTES};
use oracle::tunnel::Type;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn tci() -> impl Strategy<Value = u16> {
    (select(&VLANS[..]), select(&[0u16, 0, 3, 5][..]), any::<bool>())
        .prop_map(|(vid, pcp, dei)| pcp << 13 | u16::from(dei && pcp == 5) << 12 | vid)
}

pub fn port_number() -> impl Strategy<Value = u16> {
    select(&PORTS[..])
}

fn l4(v6: bool) -> BoxedStrategy<L4> {
    let common = prop_oneof![
        3 => (port_number(), port_number(), select(&[0x02u16, 0x12, 0x10, 0x11][..])).prop_map(|(s, d, f)| L4::Tcp(s, d, f)),
        4 => (port_number(), port_number(), prop::bool::weighted(0.8)).prop_map(|(s, d, c)| L4::Udp(s, d, c)),
        1 => (port_number(), port_number()).prop_map(|(s, d)| L4::Sctp(s, d)),
        1 => select(&[47u8, 2][..]).prop_map(L4::Other),
    ];
    if v6 {
        let nd = (any::<bool>(), select(&IPV6[..]), option::of(0u8..4)).prop_map(|(a, t, l)| L4::Nd(a, t, l));
        let icmp = (select(&[1u8, 128, 129][..]), 0u8..2).prop_map(|(t, c)| L4::Icmp6(t, c));
        prop_oneof![3 => common, 1 => icmp, 2 => nd].boxed()
    } else {
        let icmp = (select(&[0u8, 3, 8][..]), 0u8..2).prop_map(|(t, c)| L4::Icmp(t, c));
        prop_oneof![4 => common, 1 => icmp].boxed()
    }
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![8 => Just(Part::Whole), 1 => Just(Part::First), 1 => Just(Part::Later)]
}

fn body() -> BoxedStrategy<Body> {
    let ip4 = (
        select(&IPV4[..]),
        select(&IPV4[..]),
        select(&TOS[..]),
        select(&TTL[..]),
        prop::bool::weighted(0.1),
        part(),
        l4(false),
    )
        .prop_map(|(src, dst, tos, ttl, options, part, l4)| Body::Ip4 {
            src,
            dst,
            tos,
            ttl,
            options,
            part,
            l4,
        });
    let ip6 = (
        select(&IPV6[..]),
        select(&IPV6[..]),
        select(&[0u32, 0x12345][..]),
        select(&TOS[..]),
        select(&TTL[..]),
        prop::bool::weighted(0.1),
        part(),
        l4(true),
    )
        .prop_map(|(src, dst, label, tos, ttl, options, part, l4)| Body::Ip6 {
            src,
            dst,
            label,
            tos,
            ttl,
            options,
            part,
            l4,
        });
    let arp = (1u16..3, 0u8..4, select(&IPV4[..]), 0u8..4, select(&IPV4[..]))
        .prop_map(|(op, sha, spa, tha, tpa)| Body::Arp { op, sha, spa, tha, tpa });
    prop_oneof![
        1 => select(&[0x88b5u16, 0x9000][..]).prop_map(Body::Other),
        8 => ip4,
        4 => ip6,
        2 => arp,
        1 => prop_oneof![Just(Body::Llc), Just(Body::Snap)],
    ]
    .boxed()
}

pub fn frame() -> impl Strategy<Value = Frame> {
    let mac = prop_oneof![8 => 0usize..5, 2 => 5usize..8];
    let source = prop_oneof![30 => 0usize..5, 1 => Just(6usize)];
    let tag = || (prop_oneof![3 => Just(0x8100u16), 1 => Just(0x88a8)], tci());
    let tags = prop_oneof![5 => Just(Vec::new()), 4 => vec(tag(), 1..2), 1 => vec(tag(), 2..4)];
    (mac, source, tags, body(), prop::bool::weighted(0.05), prop_oneof![14 => Just(0usize), 1 => 1usize..40])
        .prop_map(|(dst, src, tags, mut body, bad_checksum, cut)| {
            // The CRC of a fragmented SCTP packet is over bytes that are elsewhere.
            if let Body::Ip4 { part, l4: L4::Sctp(..), .. } | Body::Ip6 { part, l4: L4::Sctp(..), .. } =
                &mut body
            {
                *part = Part::Whole;
            }
            Frame { dst, src, tags, body, bad_checksum, cut }
        })
}

pub fn outer(classes: Classes) -> BoxedStrategy<Outer> {
    let fault = prop_oneof![
        20 => Just(Fault::None),
        1 => select(vec![Fault::IpChecksum, Fault::UdpChecksum, Fault::NoVni, Fault::UdpLength]),
        2 => Just(Fault::Padding),
    ];
    let policy = option::weighted(0.2, (select(&[0u16, 5, 6][..]), select(&[0u8, 0x40, 0x08][..])));
    (
        select(&REMOTES[..]),
        select(&[OWN[0], OWN[0], OWN[1]][..]),
        select(&TOS[..]),
        (
            select(
                &[
                    (Type::Vxlan, 4789u16),
                    (Type::Vxlan, 4789),
                    (Type::Vxlan, 8472),
                    (Type::Geneve, 6081),
                    (Type::Gre, 0),
                ][..],
            ),
            // Mostly as the port has it.
            option::weighted(0.05, select(&[Type::Vxlan, Type::Geneve][..])),
            prop_oneof![3 => Just(0u8), 1 => 1u8..5],
        ),
        select(&[0u32, 100, 100, 200, 200, 0xff_ffff][..]),
        prop::bool::weighted(0.2),
        policy,
        fault,
    )
        .prop_map(move |(src, dst, tos, ((kind, dst_port), other, options), vni, csum, policy, fault)| {
            Outer {
                kind: if kind == Type::Gre { kind } else { other.unwrap_or(kind) },
                options,
                src,
                dst,
                tos,
                dst_port,
                vni,
                csum,
                policy: policy.filter(|_| classes.gbp),
                fault,
            }
        })
        .boxed()
}
