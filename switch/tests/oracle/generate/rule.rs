//! Random rules and groups.

use super::packet::port_number;
use super::{Classes, OFPORTS, VLANS};
use crate::frames::{IPV4, IPV6, MACS, PORTS, TOS, TTL};
use crate::plan::{OWN, REMOTES};
use crate::rig::{bucket_action, legal};
use oracle::{Action, Bits, Bucket, Field, Group, GroupKind, Rule};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

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
pub fn actions(table: u8, classes: Classes) -> BoxedStrategy<Vec<Action>> {
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

pub fn rule(classes: Classes) -> BoxedStrategy<Rule> {
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

pub fn groups(classes: Classes) -> BoxedStrategy<Vec<Group>> {
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
