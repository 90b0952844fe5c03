//! Random cases. Everything is drawn from small pools, so that rules are hit and flows resemble one another.

use crate::frames::{Body, Fault, Frame, IPV4, IPV6, L4, MACS, Outer, PORTS, Part, TOS, TTL};
use crate::plan::{OWN, Plan, REMOTES, Step, UNDERLAY_MAC, device};
use crate::rig::{bucket_action, clash, legal};
use oracle::tunnel::{Local, Vxlan};
use oracle::{
    Action, Bits, Bridge, Bucket, Field, Group, GroupKind, Kind, Mirror, Port, Rule, Vlan, VlanMode, World,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What cases are made of: what the switch does not do yet is left out.
#[derive(Debug, Clone, Copy)]
pub struct Classes {
    /// Ports with `remote_ip=flow`, `local_ip=flow`.
    pub flow_addresses: bool,
    /// `exts=gbp`.
    pub gbp: bool,
    /// Actions that change packets.
    pub rewrites: bool,
    /// Groups.
    pub groups: bool,
    /// Patch ports.
    pub patches: bool,
    /// Mirrors.
    pub mirrors: bool,
}

impl Classes {
    /// All that the switch does, but those that a text names, separated by commas.
    pub fn without(names: &str) -> Classes {
        let mut classes = Classes {
            flow_addresses: true,
            gbp: true,
            rewrites: true,
            groups: true,
            patches: true,
            mirrors: true,
        };
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "flow" => classes.flow_addresses = false,
                "gbp" => classes.gbp = false,
                "rewrites" => classes.rewrites = false,
                "groups" => classes.groups = false,
                "patches" => classes.patches = false,
                "mirrors" => classes.mirrors = false,
                _ => panic!("{name}: expected flow, gbp, rewrites, groups, patches or mirrors"),
            }
        }
        classes
    }
}

/// OpenFlow numbers that rules output to: devices, tunnels, the patch, none.
const OFPORTS: [u32; 9] = [1, 2, 3, 4, 11, 12, 21, 2, 99];
/// VLANs.
const VLANS: [u16; 4] = [0, 5, 10, 20];

fn tci() -> impl Strategy<Value = u16> {
    (select(&VLANS[..]), select(&[0u16, 0, 3, 5][..]), any::<bool>())
        .prop_map(|(vid, pcp, dei)| pcp << 13 | u16::from(dei && pcp == 5) << 12 | vid)
}

fn port_number() -> impl Strategy<Value = u16> {
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

fn mac_value(n: usize) -> u128 {
    MACS[n].iter().fold(0, |v, b| v << 8 | u128::from(*b))
}

/// A match on a field: all of it, or what a mask leaves.
fn masked(field: Field, values: Vec<u128>) -> BoxedStrategy<Vec<(Field, u128, u128)>> {
    let ones = field.ones();
    let bits = u32::from(field.bits());
    let mask = prop_oneof![
        4 => Just(ones),
        2 => (1..=bits).prop_map(move |len| ones & !(ones.checked_shr(len).unwrap_or(0))),
        1 => (0..bits).prop_map(|bit| 1 << bit),
        1 => any::<u128>().prop_map(move |mask| (mask & ones).max(1)),
    ];
    (select(values), mask).prop_map(move |(value, mask)| vec![(field, value & mask, mask)]).boxed()
}

fn exact(field: Field, values: Vec<u128>) -> BoxedStrategy<Vec<(Field, u128, u128)>> {
    let mask = if field == Field::NwTos { 0xfc } else { field.ones() };
    select(values).prop_map(move |value| vec![(field, value & mask, mask)]).boxed()
}

type Matches = Vec<(Field, u128, u128)>;

fn ports() -> Vec<u128> {
    PORTS.iter().map(|p| u128::from(*p)).collect()
}

fn ip4s() -> Vec<u128> {
    IPV4.iter().map(|ip| u128::from(*ip)).collect()
}

fn macs() -> Vec<u128> {
    (0..MACS.len()).map(mac_value).collect()
}

/// Matches on fields that every packet has.
fn link() -> BoxedStrategy<Matches> {
    let tag = prop_oneof![
        select(&VLANS[..]).prop_map(|vid| (0x1000 | u128::from(vid), 0x1fff)),
        Just((0x1000 | 3 << 13, 0xf000)),
        Just((0, 0x1000)),
        (any::<u16>(), any::<u16>()).prop_map(|(v, m)| (u128::from(v & m), u128::from(m))),
    ];
    prop_oneof![
        4 => select(&OFPORTS[..8]).prop_map(|n| vec![(Field::InPort, u128::from(n), 0xffff)]),
        3 => masked(Field::EthDst, macs()),
        2 => masked(Field::EthSrc, macs()),
        3 => tag.prop_filter("a mask", |(_, mask)| *mask != 0).prop_map(|(v, m)| vec![(Field::VlanTci, v & m, m)]),
        1 => masked(Field::Metadata, vec![0, 1, 2, 0x10]),
        1 => masked(Field::Reg0, vec![0, 1, 2, 0x10]),
        1 => masked(Field::Reg7, vec![0, 1, 0xffff_ffff]),
        1 => masked(Field::TunId, vec![0, 100, 200, 0xff_ffff]),
        1 => masked(Field::TunSrc, REMOTES.iter().map(|ip| u128::from(u32::from(*ip))).collect()),
        1 => masked(Field::TunGbpId, vec![0, 5, 6]),
        1 => masked(Field::TunDst, OWN.iter().map(|ip| u128::from(u32::from(*ip))).collect()),
    ]
    .boxed()
}

fn frag() -> BoxedStrategy<Matches> {
    select(&[(0u128, 3u128), (1, 1), (1, 3), (3, 3), (0, 2)][..])
        .prop_map(|(value, mask)| vec![(Field::IpFrag, value, mask)])
        .boxed()
}

fn ip_common() -> BoxedStrategy<Matches> {
    prop_oneof![
        exact(Field::NwTos, TOS.iter().map(|v| u128::from(*v)).collect()),
        exact(Field::NwEcn, vec![0, 1, 2, 3]),
        exact(Field::NwTtl, TTL.iter().map(|v| u128::from(*v)).collect()),
        frag(),
    ]
    .boxed()
}

fn ip4_address() -> BoxedStrategy<Matches> {
    prop_oneof![masked(Field::IpSrc, ip4s()), masked(Field::IpDst, ip4s())].boxed()
}

fn ip6_address() -> BoxedStrategy<Matches> {
    prop_oneof![
        3 => masked(Field::Ipv6Src, IPV6.to_vec()),
        3 => masked(Field::Ipv6Dst, IPV6.to_vec()),
        1 => masked(Field::Ipv6Label, vec![0, 0x12345]),
    ]
    .boxed()
}

/// Some of what each class of packets can be matched on, behind what makes it that class.
fn class() -> BoxedStrategy<Matches> {
    let is = |kind: u128| vec![(Field::EthType, kind, 0xffff)];
    let carries =
        |kind: u128, proto: u128| vec![(Field::EthType, kind, 0xffff), (Field::IpProto, proto, 0xff)];
    let with = |base: Matches, more: BoxedStrategy<Matches>, most: usize| {
        vec(more, 0..=most).prop_map(move |more| [base.clone(), more.concat()].concat()).boxed()
    };
    let tcp = || {
        prop_oneof![
            2 => masked(Field::TcpDst, ports()),
            2 => masked(Field::TcpSrc, ports()),
            1 => masked(Field::TcpFlags, vec![0x02, 0x12, 0x10]),
        ]
        .boxed()
    };
    let udp = || prop_oneof![masked(Field::UdpDst, ports()), masked(Field::UdpSrc, ports())].boxed();
    let or = |a: BoxedStrategy<Matches>, b: BoxedStrategy<Matches>| prop_oneof![a, b].boxed();
    let v4 = || or(ip4_address(), ip_common());
    let v6 = || or(ip6_address(), ip_common());
    let icmp = or(exact(Field::IcmpType, vec![0, 3, 8]), exact(Field::IcmpCode, vec![0, 1]));
    let icmp6 = or(exact(Field::Icmpv6Type, vec![1, 128, 129]), exact(Field::Icmpv6Code, vec![0, 1]));
    let nd = |kind: u128, link: Field| {
        let base = [carries(0x86dd, 58), vec![(Field::Icmpv6Type, kind, 0xff), (Field::Icmpv6Code, 0, 0xff)]]
            .concat();
        with(base, or(masked(Field::NdTarget, IPV6.to_vec()), masked(link, macs())), 2)
    };
    let arp = prop_oneof![
        exact(Field::ArpOp, vec![1, 2]),
        masked(Field::ArpSpa, ip4s()),
        masked(Field::ArpTpa, ip4s()),
        masked(Field::ArpSha, macs()),
        masked(Field::ArpTha, macs()),
    ]
    .boxed();
    prop_oneof![
        6 => Just(Vec::new()),
        2 => with(is(0x800), v4(), 3),
        2 => with(carries(0x800, 6), or(v4(), tcp()), 3),
        4 => with(carries(0x800, 17), or(v4(), udp()), 3),
        1 => with(carries(0x800, 1), or(v4(), icmp), 2),
        1 => with(is(0x86dd), v6(), 3),
        1 => with(carries(0x86dd, 6), or(v6(), tcp()), 3),
        2 => with(carries(0x86dd, 17), or(v6(), udp()), 3),
        1 => with(carries(0x86dd, 58), or(v6(), icmp6), 2),
        1 => nd(135, Field::NdSll),
        1 => nd(136, Field::NdTll),
        2 => with(is(0x806), arp, 3),
    ]
    .boxed()
}

/// One match a field: the first one counts.
fn matches() -> impl Strategy<Value = Matches> {
    (class(), vec(link(), 0..3)).prop_map(|(class, link)| {
        let mut all: Matches = Vec::new();
        for item in class.into_iter().chain(link.into_iter().flatten()) {
            if !all.iter().any(|(field, _, _)| *field == item.0) {
                all.push(item);
            }
        }
        all.sort_by_key(|(field, _, _)| *field);
        all
    })
}

fn set(field: Field, values: Vec<u128>, maskable: bool) -> BoxedStrategy<Action> {
    let of = if maskable { masked(field, values) } else { exact(field, values) };
    of.prop_map(|set| Action::Set(set[0].0, set[0].1, set[0].2)).boxed()
}

/// Changes to the packet.
fn rewrite() -> BoxedStrategy<Action> {
    let tos = || TOS.iter().map(|v| u128::from(*v)).collect();
    let link = prop_oneof![
        2 => set(Field::EthDst, macs(), true),
        // Sources that are nobody's destination: what a packet teaches shall not concern itself.
        1 => Just(Action::Set(Field::EthSrc, 0x0200_0000_00aa, Field::EthSrc.ones())),
        2 => select(&[0x8100u16, 0x88a8][..]).prop_map(Action::PushVlan),
        2 => Just(Action::PopVlan),
        2 => select(&VLANS[..]).prop_map(Action::ModVlanVid),
        1 => (0u8..8).prop_map(Action::ModVlanPcp),
        1 => set(Field::VlanVid, vec![0, 5, 10], false),
        1 => set(Field::VlanPcp, vec![0, 3], false),
        1 => select(&[(0x1005u128, 0x1fffu128), (0, 0x1000), (0x6000, 0xe000), (0x1000, 0x1000)][..])
            .prop_map(|(value, mask)| Action::Set(Field::VlanTci, value, mask)),
    ];
    let network = prop_oneof![
        2 => set(Field::IpSrc, ip4s(), true),
        2 => set(Field::IpDst, ip4s(), true),
        2 => set(Field::Ipv6Src, IPV6.to_vec(), true),
        2 => set(Field::Ipv6Dst, IPV6.to_vec(), true),
        1 => set(Field::Ipv6Label, vec![0, 0xabcde], true),
        2 => set(Field::NwTos, tos(), false),
        1 => set(Field::NwEcn, vec![0, 1, 2, 3], false),
        1 => set(Field::NwTtl, vec![1, 2, 64], false),
        3 => Just(Action::DecTtl),
    ];
    let transport = prop_oneof![
        2 => (any::<bool>(), port_number()).prop_map(|(s, p)| Action::SetTransport(s, p)),
        1 => set(Field::TcpSrc, ports(), true),
        1 => set(Field::TcpDst, ports(), true),
        2 => set(Field::UdpSrc, ports(), true),
        2 => set(Field::UdpDst, ports(), true),
        1 => set(Field::IcmpType, vec![0, 3, 8], false),
        1 => set(Field::IcmpCode, vec![0, 1], false),
        1 => set(Field::Icmpv6Type, vec![1, 128], false),
        1 => set(Field::Icmpv6Code, vec![0, 1], false),
        1 => set(Field::NdTarget, IPV6.to_vec(), true),
        1 => set(Field::NdSll, macs(), true),
        1 => set(Field::NdTll, macs(), true),
        1 => set(Field::ArpOp, vec![1, 2], false),
        1 => set(Field::ArpSpa, ip4s(), true),
        1 => set(Field::ArpTpa, ip4s(), true),
        1 => set(Field::ArpSha, macs(), true),
        1 => set(Field::ArpTha, macs(), true),
    ];
    prop_oneof![3 => link, 4 => network, 3 => transport].boxed()
}

fn some_bits(field: Field) -> BoxedStrategy<Bits> {
    let width = field.bits();
    prop_oneof![
        2 => Just(Bits::all(field)),
        1 => (0..width, 1..=width).prop_map(move |(start, count)| Bits { field, start, count: count.min(width - start) }),
    ]
    .boxed()
}

/// Moves between fields and registers.
fn moving() -> BoxedStrategy<Action> {
    let fields = [
        Field::InPort,
        Field::EthDst,
        Field::EthSrc,
        Field::VlanTci,
        Field::IpSrc,
        Field::IpDst,
        Field::Ipv6Src,
        Field::UdpSrc,
        Field::UdpDst,
        Field::TcpDst,
        Field::NwTtl,
        Field::NwTos,
        Field::Reg0,
        Field::Metadata,
        Field::TunId,
        Field::ArpSpa,
        Field::ArpSha,
        Field::NdTarget,
    ];
    let targets = [
        Field::Reg0,
        Field::Reg1,
        Field::Reg7,
        Field::Metadata,
        Field::EthDst,
        Field::IpSrc,
        Field::IpDst,
        Field::UdpDst,
        Field::TcpSrc,
        Field::TunId,
        Field::ArpTpa,
        Field::ArpTha,
        Field::Ipv6Dst,
    ];
    let load = select(targets.to_vec()).prop_flat_map(some_bits).prop_flat_map(|to| {
        (Just(to), prop_oneof![0u64..4, any::<u64>()])
            .prop_map(|(to, value)| Action::Load(value & to.ones() as u64, to))
    });
    let copy =
        (select(fields.to_vec()).prop_flat_map(some_bits), select(targets.to_vec()).prop_flat_map(some_bits))
            .prop_map(|(mut from, mut to)| {
                let count = from.count.min(to.count);
                (from.count, to.count) = (count, count);
                Action::Move(from, to)
            });
    prop_oneof![load, copy].boxed()
}

/// Where packets go. Tables lead upwards, groups to higher numbers.
fn sending(table: u8, classes: Classes, normal: bool) -> BoxedStrategy<Action> {
    let group = table; // Groups of a bucket of group N are above N, as tables are.
    let mut ways: Vec<(u32, BoxedStrategy<Action>)> = vec![
        (8, select(&OFPORTS[..]).prop_map(Action::Output).boxed()),
        (1, Just(Action::InPort).boxed()),
        (1, Just(Action::Flood).boxed()),
        (1, Just(Action::All).boxed()),
        (1, Just(Action::Local).boxed()),
        (1, Just(Action::OutputField(Bits { field: Field::Reg0, start: 0, count: 16 })).boxed()),
    ];
    if normal {
        ways.push((5, Just(Action::Normal).boxed()));
    }
    if table < 3 {
        let as_port = option::weighted(0.2, select(&OFPORTS[..8]));
        ways.push((4, (as_port, table + 1..4).prop_map(|(port, to)| Action::Resubmit(port, to)).boxed()));
        if classes.groups {
            ways.push((2, (group + 1..5).prop_map(|id| Action::Group(u32::from(id))).boxed()));
        }
    }
    prop::strategy::Union::new_weighted(ways).boxed()
}

fn metadata() -> BoxedStrategy<Action> {
    prop_oneof![
        2 => select(&[100u32, 200, 0xff_ffff, 0][..]).prop_map(Action::SetTunnel),
        1 => set(Field::TunId, vec![100, 200, 0xff_ffff], true),
        1 => set(Field::Reg0, vec![1, 2, 3, 11], true),
        1 => set(Field::Reg7, vec![1, 0xffff_ffff], true),
        1 => set(Field::Metadata, vec![1, 2, 0x10], true),
    ]
    .boxed()
}

/// Addresses of tunnels: rules for ports that leave them to the flow.
fn tunnel_addresses() -> BoxedStrategy<Action> {
    let number = |ip: &std::net::Ipv4Addr| u128::from(u32::from(*ip));
    prop_oneof![
        2 => exact(Field::TunDst, REMOTES.iter().map(number).collect()),
        1 => exact(Field::TunSrc, OWN.iter().map(number).chain([0xc0a8_0163]).collect()),
    ]
    .prop_map(|set| Action::Set(set[0].0, set[0].1, set[0].2))
    .boxed()
}

fn policy() -> BoxedStrategy<Action> {
    prop_oneof![
        set(Field::TunGbpId, vec![0, 5, 6], true),
        set(Field::TunGbpFlags, vec![0, 0x40, 0x48], false)
    ]
    .boxed()
}

fn step_of(table: u8, classes: Classes, normal: bool) -> BoxedStrategy<Action> {
    let change = if classes.rewrites {
        prop_oneof![3 => rewrite(), 1 => moving(), 1 => metadata()].boxed()
    } else {
        metadata()
    };
    let mut ways = vec![(12, change), (16, sending(table, classes, normal))];
    if classes.flow_addresses {
        ways.push((2, tunnel_addresses()));
    }
    if classes.gbp {
        ways.push((1, policy()));
    }
    prop::strategy::Union::new_weighted(ways).boxed()
}

/// The actions of a rule of a table.
fn actions(table: u8, classes: Classes) -> BoxedStrategy<Vec<Action>> {
    let step = step_of(table, classes, true);
    let clone = vec(step_of(table, classes, true), 1..4).prop_map(Action::Clone).boxed();
    let any = if classes.rewrites { prop_oneof![12 => step, 1 => clone].boxed() } else { step };
    let list = vec(any, 1..6);
    let goto = (table + 1..=4).prop_map(Action::GotoTable);
    prop_oneof![
        1 => Just(vec![Action::Drop]),
        2 => Just(vec![Action::Normal]),
        9 => list.clone(),
        2 => (vec(step_of(table, classes, true), 0..3), goto).prop_map(|(mut list, goto)| { list.push(goto); list }),
    ]
    .boxed()
}

fn rule(classes: Classes) -> BoxedStrategy<Rule> {
    prop_oneof![5 => Just(0u8), 2 => Just(1), 1 => Just(2), 1 => Just(3)]
        .prop_flat_map(move |table| {
            (Just(table), select(&[1u16, 10, 10, 20, 100][..]), matches(), actions(table, classes))
        })
        .prop_map(|(table, priority, matches, actions)| legal(&Rule { table, priority, matches, actions }))
        .boxed()
}

fn bucket(id: u32, select: bool, classes: Classes) -> BoxedStrategy<Bucket> {
    let step = step_of(id as u8, classes, !select);
    let watch_group = (id + 1..6).boxed();
    (
        vec(step, 1..4),
        prop_oneof![1 => Just(0u16), 4 => 1u16..200],
        option::weighted(0.5, proptest::sample::select(&OFPORTS[..5])),
        option::weighted(0.1, watch_group),
    )
        .prop_map(|(mut actions, weight, watch_port, watch_group)| {
            actions.retain(|action| bucket_action(action).is_some());
            if actions.is_empty() {
                actions.push(Action::Drop);
            }
            Bucket { weight, watch_port, watch_group, actions }
        })
        .boxed()
}

fn groups(classes: Classes) -> BoxedStrategy<Vec<Group>> {
    let kinds = [GroupKind::All, GroupKind::Select, GroupKind::Indirect, GroupKind::FastFailover];
    let group = (1u32..5, select(kinds.to_vec())).prop_flat_map(move |(id, kind)| {
        let count = if kind == GroupKind::Indirect { 1..2 } else { 1..4 };
        vec(bucket(id, kind == GroupKind::Select, classes), count).prop_map(move |buckets| Group {
            id,
            kind,
            buckets,
        })
    });
    vec(group, 0..4)
        .prop_map(|mut groups| {
            groups.sort_by_key(|group| group.id);
            groups.dedup_by_key(|group| group.id);
            groups
        })
        .boxed()
}

fn vlan() -> BoxedStrategy<Vlan> {
    let modes = [VlanMode::Access, VlanMode::NativeTagged, VlanMode::NativeUntagged, VlanMode::Trunk];
    let trunks = prop_oneof![2 => Just(Vec::new()), 1 => proptest::sample::subsequence(VLANS.to_vec(), 1..4)];
    let other = (select(modes.to_vec()), select(&VLANS[..]), trunks).prop_map(|(mode, tag, trunks)| Vlan {
        mode,
        tag: if mode == VlanMode::Trunk { 0 } else { tag },
        trunks: if mode == VlanMode::Access { Vec::new() } else { trunks },
    });
    prop_oneof![2 => Just(Vlan::default()), 3 => other].boxed()
}

fn vxlan(classes: Classes) -> BoxedStrategy<Vxlan> {
    let key = || option::weighted(0.6, select(&[0u32, 100, 200][..]));
    let mut remotes = vec![
        (4, (0..3usize).prop_map(|n| vec![REMOTES[n]]).boxed()),
        (2, Just(REMOTES[..2].to_vec()).boxed()),
    ];
    let mut locals =
        vec![(4, Just(Local::Any).boxed()), (1, select(&OWN[..]).prop_map(Local::Address).boxed())];
    if classes.flow_addresses {
        remotes.push((2, Just(Vec::new()).boxed()));
        locals.push((1, Just(Local::Flow).boxed()));
    }
    let gbp = if classes.gbp { prop::bool::weighted(0.3).boxed() } else { Just(false).boxed() };
    (
        prop::strategy::Union::new_weighted(remotes),
        prop::strategy::Union::new_weighted(locals),
        (key(), key(), any::<bool>()),
        select(&[4789u16, 4789, 8472][..]),
        option::weighted(0.7, select(&[0u8, 0xb8][..])),
        option::weighted(0.7, select(&[64u8, 7][..])),
        (prop::bool::weighted(0.8), prop::bool::weighted(0.2), gbp, prop::bool::weighted(0.7)),
    )
        .prop_map(
            |(
                remotes,
                local,
                (in_key, out_key, same),
                dst_port,
                tos,
                ttl,
                (df, csum, gbp, split_horizon),
            )| Vxlan {
                remotes,
                local,
                in_key,
                out_key: if same { in_key } else { out_key },
                dst_port,
                tos,
                ttl,
                df,
                csum,
                gbp,
                split_horizon,
            },
        )
        .boxed()
}

fn mirror(n: usize) -> BoxedStrategy<Mirror> {
    let names = || proptest::sample::subsequence(vec!["p1", "p2", "vx0", "pa0"], 0..3);
    (any::<bool>(), names(), names(), proptest::sample::subsequence(VLANS.to_vec(), 0..2), any::<bool>())
        .prop_map(move |(all, src, dst, vlans, to_port)| {
            let own = |names: Vec<&str>| names.into_iter().map(String::from).collect();
            Mirror {
                name: format!("m{n}"),
                all,
                src: own(src),
                dst: own(dst),
                vlans,
                output_port: to_port.then(|| "p4".to_owned()),
                output_vlan: (!to_port).then_some(20),
            }
        })
        .boxed()
}

fn world(classes: Classes) -> BoxedStrategy<World> {
    let flags = || (prop::bool::weighted(0.7), prop::bool::weighted(0.1));
    let patch = |name: &str, peer: &str| Port { kind: Kind::Patch(peer.into()), ..device(name, 21) };
    (vec(vlan(), 6), vec((vxlan(classes), vlan(), any::<bool>()), 0..3), flags(), flags(), any::<bool>())
        .prop_map(move |(vlans, tunnels, (standalone, bpdu), (standalone1, bpdu1), two_uplinks)| {
            let device = |name: &str, n: u32, at: usize| Port { vlan: vlans[at].clone(), ..device(name, n) };
            let mut br0: Vec<Port> =
                (1u32..=4).map(|n| device(&format!("p{n}"), n, n as usize - 1)).collect();
            let mut taken: Vec<Vxlan> = Vec::new();
            for (n, (vxlan, vlan, plain)) in tunnels.into_iter().enumerate() {
                if !taken.iter().any(|other| clash(other, &vxlan)) {
                    taken.push(vxlan.clone());
                    let vlan = if plain { Vlan::default() } else { vlan };
                    br0.push(Port {
                        vlan,
                        kind: Kind::Vxlan(vxlan),
                        ..device(&format!("vx{n}"), 11 + n as u32, 0)
                    });
                }
            }
            let mut br1: Vec<Port> = vec![device("q1", 1, 4), device("q2", 2, 5)];
            if classes.patches {
                br0.push(patch("pa0", "pa1"));
                br1.push(patch("pa1", "pa0"));
            }
            let plain = crate::plan::device;
            let mut uplinks = vec![plain("up1", 1)];
            if two_uplinks {
                uplinks.push(plain("up2", 2));
            }
            let neighbours = REMOTES.iter().enumerate().map(|(n, ip)| (*ip, [2, 0, 0, 0, 0x0a, 2 + n as u8]));
            let bridge =
                |name: &str, mac, ports| Bridge { name: name.into(), mac, ports, ..Bridge::default() };
            World {
                bridges: vec![
                    Bridge { standalone, forward_bpdu: bpdu, ..bridge("br0", [2, 0, 0, 0, 0xbb, 0], br0) },
                    Bridge {
                        standalone: standalone1,
                        forward_bpdu: bpdu1,
                        ..bridge("br1", [2, 0, 0, 0, 0xbb, 1], br1)
                    },
                    Bridge {
                        standalone: true,
                        addresses: OWN.to_vec(),
                        neighbours: neighbours.collect(),
                        ..bridge("br-phy", UNDERLAY_MAC, uplinks)
                    },
                ],
            }
        })
        .boxed()
}

fn outer(classes: Classes) -> BoxedStrategy<Outer> {
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
        select(&[4789u16, 4789, 8472][..]),
        select(&[0u32, 100, 100, 200, 200, 0xff_ffff][..]),
        prop::bool::weighted(0.2),
        policy,
        fault,
    )
        .prop_map(move |(src, dst, tos, dst_port, vni, csum, policy, fault)| Outer {
            src,
            dst,
            tos,
            dst_port,
            vni,
            csum,
            policy: policy.filter(|_| classes.gbp),
            fault,
        })
        .boxed()
}

fn send(frames: usize, classes: Classes) -> BoxedStrategy<Step> {
    let times = || prop_oneof![4 => Just(1usize), 1 => Just(3)];
    let plain = (select(&["p1", "p1", "p2", "p2", "p3", "p4", "q1", "q2"][..]), 0..frames, times())
        .prop_map(|(port, frame, times)| Step::Send { port, frame, outer: None, times });
    let tunnel = (select(&["up1", "up1", "up2"][..]), 0..frames, outer(classes), times())
        .prop_map(|(port, frame, outer, times)| Step::Send { port, frame, outer: Some(outer), times });
    prop_oneof![3 => plain, 1 => tunnel].boxed()
}

fn change(classes: Classes) -> BoxedStrategy<Step> {
    let bridge = || 0usize..2;
    let vlan_id = || select(&VLANS[..]);
    let mut ways: Vec<(u32, BoxedStrategy<Step>)> = vec![
        (6, (bridge(), rule(classes)).prop_map(|(bridge, rule)| Step::AddRule { bridge, rule }).boxed()),
        (3, (bridge(), 0usize..8).prop_map(|(bridge, nth)| Step::DeleteRule { bridge, nth }).boxed()),
        (
            3,
            (bridge(), 0usize..8, actions(3, classes))
                .prop_map(|(bridge, nth, actions)| Step::ModifyRule { bridge, nth, actions })
                .boxed(),
        ),
        (
            1,
            (bridge(), vec(rule(classes), 0..5))
                .prop_map(|(bridge, rules)| Step::ReplaceRules { bridge, rules })
                .boxed(),
        ),
        (1, bridge().prop_map(|bridge| Step::FlushFdb { bridge }).boxed()),
        (
            2,
            (bridge(), vlan_id(), 0usize..5, 0usize..6)
                .prop_map(|(bridge, vlan, mac, port)| Step::AddFdb { bridge, vlan, mac, port })
                .boxed(),
        ),
        (
            1,
            (bridge(), vlan_id(), 0usize..5)
                .prop_map(|(bridge, vlan, mac)| Step::DeleteFdb { bridge, vlan, mac })
                .boxed(),
        ),
        (
            2,
            (bridge(), 0usize..4, vlan())
                .prop_map(|(bridge, port, vlan)| Step::SetVlan { bridge, port, vlan })
                .boxed(),
        ),
        (1, (0usize..3, vxlan(classes)).prop_map(|(port, vxlan)| Step::SetTunnel { port, vxlan }).boxed()),
        (1, (bridge(), 0usize..4).prop_map(|(bridge, port)| Step::RemovePort { bridge, port }).boxed()),
        (1, Just(Step::RestorePorts).boxed()),
    ];
    if classes.groups {
        ways.push((
            2,
            (bridge(), groups(classes))
                .prop_map(|(bridge, groups)| Step::SetGroups { bridge, groups })
                .boxed(),
        ));
        ways.push((
            2,
            (bridge(), 0usize..4, any::<bool>())
                .prop_map(|(bridge, port, alive)| Step::SetAlive { bridge, port, alive })
                .boxed(),
        ));
    }
    if classes.mirrors {
        let some = prop_oneof![
            1 => Just(Vec::new()),
            1 => mirror(0).prop_map(|m| vec![m]),
            1 => (mirror(0), mirror(1)).prop_map(|(a, b)| vec![a, b]),
        ];
        ways.push((1, some.prop_map(|mirrors| Step::SetMirrors { bridge: 0, mirrors }).boxed()));
    }
    prop::strategy::Union::new_weighted(ways).boxed()
}

/// A case.
pub fn plan(classes: Classes) -> BoxedStrategy<Plan> {
    const FRAMES: usize = 10;
    let first = vec(
        prop_oneof![
            3 => (0usize..2, vec(rule(classes), 0..6)).prop_map(|(bridge, rules)| Step::ReplaceRules { bridge, rules }),
            1 => (0usize..2, groups(classes)).prop_map(|(bridge, groups)| Step::SetGroups { bridge, groups }),
        ],
        0..4,
    );
    let steps = vec(prop_oneof![6 => send(FRAMES, classes), 1 => change(classes)], 5..60);
    (world(classes), vec(frame(), FRAMES), first, steps)
        .prop_map(move |(world, frames, first, steps)| {
            let present = |name: &String| world.port(name).is_some();
            let keep = |step: Step| match step {
                // A mirror's ports have to be there.
                Step::SetMirrors { bridge, mut mirrors } => {
                    for mirror in &mut mirrors {
                        mirror.src.retain(present);
                        mirror.dst.retain(present);
                    }
                    Step::SetMirrors { bridge, mirrors }
                }
                Step::SetGroups { .. } if !classes.groups => Step::RestorePorts,
                step => step,
            };
            let steps = first.into_iter().chain(steps).map(keep).collect();
            Plan { world: world.clone(), frames, steps }
        })
        .boxed()
}
