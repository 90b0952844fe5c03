//! Random cases. Everything is drawn from small pools, so that rules are hit and flows resemble one another.

mod packet;
mod rule;

use crate::outer::SMALL_MTU;
use crate::plan::{OWN, Plan, REMOTES, Step, UNDERLAY_MAC, device};
use crate::rig::clash;
use oracle::tunnel::{Local, Tunnel, Type};
use oracle::{Bridge, Kind, Mirror, Port, Vlan, VlanMode, World};
use packet::{frame, outer};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rule::{actions, groups, rule};

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

fn vlan() -> BoxedStrategy<Vlan> {
    let modes = [
        VlanMode::Access,
        VlanMode::NativeTagged,
        VlanMode::NativeUntagged,
        VlanMode::Trunk,
        VlanMode::Tunnel,
    ];
    let some =
        || prop_oneof![2 => Just(Vec::new()), 1 => proptest::sample::subsequence(VLANS.to_vec(), 1..4)];
    let more = (some(), any::<bool>(), prop_oneof![3 => Just(0u8), 1 => 1u8..3]);
    let other = (select(modes.to_vec()), select(&VLANS[..]), some(), more).prop_map(
        |(mode, tag, trunks, (cvlans, plain_qinq, priority_tags))| Vlan {
            mode,
            tag: if mode == VlanMode::Trunk { 0 } else { tag },
            trunks: if matches!(mode, VlanMode::Access | VlanMode::Tunnel) { Vec::new() } else { trunks },
            cvlans: if mode == VlanMode::Tunnel { cvlans } else { Vec::new() },
            plain_qinq,
            priority_tags,
        },
    );
    prop_oneof![2 => Just(Vlan::default()), 3 => other].boxed()
}

fn tunnel(classes: Classes) -> BoxedStrategy<Tunnel> {
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
    let vxlan = if classes.gbp {
        select(&[Type::Vxlan, Type::Vxlan, Type::Gbp][..])
    } else {
        select(&[Type::Vxlan][..])
    };
    let kind = prop_oneof![
        3 => (vxlan, select(&[4789u16, 4789, 8472][..])),
        1 => (Just(Type::Geneve), select(&[6081u16, 6081, 8472][..])),
        1 => (Just(Type::Gre), Just(0u16)),
    ];
    (
        prop::strategy::Union::new_weighted(remotes),
        prop::strategy::Union::new_weighted(locals),
        (key(), key(), any::<bool>()),
        kind,
        option::weighted(0.7, select(&[0u8, 0xb8][..])),
        option::weighted(0.7, select(&[64u8, 7][..])),
        (prop::bool::weighted(0.8), prop::bool::weighted(0.2), prop::bool::weighted(0.7)),
    )
        .prop_map(
            |(
                remotes,
                local,
                (in_key, out_key, same),
                (kind, dst_port),
                tos,
                ttl,
                (df, csum, split_horizon),
            )| Tunnel {
                kind,
                remotes,
                local,
                in_key,
                out_key: if same { in_key } else { out_key },
                dst_port,
                tos,
                ttl,
                df,
                csum,
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
    (vec(vlan(), 6), vec((tunnel(classes), vlan(), any::<bool>()), 0..3), flags(), flags(), any::<bool>())
        .prop_map(move |(vlans, tunnels, (standalone, bpdu), (standalone1, bpdu1), two_uplinks)| {
            let device = |name: &str, n: u32, at: usize| Port { vlan: vlans[at].clone(), ..device(name, n) };
            let mut br0: Vec<Port> =
                (1u32..=4).map(|n| device(&format!("p{n}"), n, n as usize - 1)).collect();
            let mut taken: Vec<Tunnel> = Vec::new();
            for (n, (tunnel, vlan, plain)) in tunnels.into_iter().enumerate() {
                if !taken.iter().any(|other| clash(other, &tunnel)) {
                    taken.push(tunnel.clone());
                    let vlan = if plain { Vlan::default() } else { vlan };
                    br0.push(Port {
                        vlan,
                        kind: Kind::Tunnel(tunnel),
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

fn send(frames: usize, classes: Classes) -> BoxedStrategy<Step> {
    let times = || prop_oneof![4 => Just(1usize), 1 => Just(3)];
    let plain = (select(&["p1", "p1", "p2", "p2", "p3", "p4", "q1", "q2"][..]), 0..frames, times())
        .prop_map(|(port, frame, times)| Step::Send { port, frame, outer: None, times });
    let tunnel = (select(&["up1", "up1", "up2"][..]), 0..frames, outer(classes), times())
        .prop_map(|(port, frame, outer, times)| Step::Send { port, frame, outer: Some(outer), times });
    prop_oneof![3 => plain, 1 => tunnel].boxed()
}

/// Packets of up to eight flows, more than a burst of the datapath now and then. Tunnel packets of one inner source come
/// by one tunnel, so that most bursts move no address.
fn burst(frames: usize, classes: Classes) -> BoxedStrategy<Step> {
    const FLOWS: usize = 8;
    let ports = &["p1", "p2", "p3", "q1", "up1", "up1", "up1", "up2"][..];
    // The first segment has all headers, of both frames of a tunnel packet too.
    let cuts = prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::sample::subsequence((280..320).collect::<Vec<usize>>(), 1..4),
    ];
    let length = prop_oneof![3 => 1usize..=32, 1 => 33usize..=100];
    (select(ports), vec((0..frames, outer(classes)), 1..=FLOWS), length, vec(cuts, 1..4))
        .prop_flat_map(|(port, flows, length, cuts)| {
            let count = flows.len();
            (Just((port, flows, cuts)), vec(0..count, length))
        })
        .prop_map(|((port, flows, cuts), order)| {
            let tunnelled = port.starts_with("up");
            let packets = order.iter().map(|n| (flows[*n].0, tunnelled.then_some(flows[*n].1))).collect();
            Step::Burst { port, packets, cuts }
        })
        .boxed()
}

/// Makes tunnel packets of one inner source come by the first one's tunnel.
fn settle_sources(step: Step, frames: &[crate::frames::Frame]) -> Step {
    let Step::Burst { port, mut packets, cuts } = step else { return step };
    let mut tunnels = std::collections::BTreeMap::new();
    for (frame, outer) in &mut packets {
        if let Some(outer) = outer {
            let first = *tunnels.entry(frames[*frame].src).or_insert(*outer);
            (outer.kind, outer.src, outer.dst, outer.dst_port, outer.vni) =
                (first.kind, first.src, first.dst, first.dst_port, first.vni);
        }
    }
    Step::Burst { port, packets, cuts }
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
        (1, (0usize..3, tunnel(classes)).prop_map(|(port, tunnel)| Step::SetTunnel { port, tunnel }).boxed()),
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
    let steps = vec(
        prop_oneof![20 => send(FRAMES, classes), 4 => burst(FRAMES, classes), 4 => change(classes)],
        5..60,
    );
    let mtu = prop_oneof![3 => Just(1500), 1 => Just(SMALL_MTU)];
    (world(classes), mtu, vec(frame(), FRAMES), first, steps)
        .prop_map(move |(mut world, mtu, frames, first, steps)| {
            // Of a tunnel with DF nothing is divided: what is too long comes back as ICMP, of which the oracle knows nothing.
            let divides = |tunnel: &mut Tunnel| tunnel.df &= mtu > SMALL_MTU;
            for port in world.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports) {
                if let Kind::Tunnel(tunnel) = &mut port.kind {
                    divides(tunnel);
                }
            }
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
                Step::SetTunnel { port, mut tunnel } => {
                    divides(&mut tunnel);
                    Step::SetTunnel { port, tunnel }
                }
                step => step,
            };
            let steps =
                first.into_iter().chain(steps).map(keep).map(|step| settle_sources(step, &frames)).collect();
            Plan { world: world.clone(), mtu, frames, steps }
        })
        .boxed()
}
