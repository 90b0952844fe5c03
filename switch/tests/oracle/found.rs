//! What the oracle has found, each in the least that shows it.

use crate::frames::{Body, Fault, Frame, L4, Outer, Part};
use crate::plan::{OWN, Plan, REMOTES, Step, UNDERLAY_MAC, device};
use crate::rig;
use oracle::tunnel::{Local, Tunnel, Type};
use oracle::{Action, Bridge, Field, Kind, Mirror, Port, Rule, Vlan, VlanMode, World};

fn bridge(name: &str, ports: Vec<Port>) -> Bridge {
    Bridge { name: name.into(), mac: [2, 0, 0, 0, 0xbb, 9], standalone: true, ports, ..Bridge::default() }
}

fn frame(dst: usize, src: usize, body: Body) -> Frame {
    Frame { dst, src, tags: Vec::new(), body, bad_checksum: false, cut: 0 }
}

/// Runs it; the second of two equal frames goes by what the first left behind.
fn check(bridges: Vec<Bridge>, frames: Vec<Frame>, before: Step, sends: &[Step]) {
    let mut steps = vec![before];
    steps.extend(sends.iter().cloned());
    steps.extend(sends.iter().cloned());
    let plan = Plan { world: World { bridges }, mtu: 1500, frames, steps };
    rig::run(&plan).unwrap_or_else(|what| panic!("{plan}\n{what}"));
}

fn send(port: &'static str, frame: usize) -> Step {
    Step::Send { port, frame, outer: None, times: 1 }
}

fn rspan(mirror: Mirror) -> Step {
    Step::SetMirrors { bridge: 0, mirrors: vec![Mirror { output_vlan: Some(20), ..mirror }] }
}

#[test]
fn a_mirror_sees_the_tag_that_a_packet_leaves_with() {
    let access = Vlan { mode: VlanMode::Access, tag: 10, ..Vlan::default() };
    let ports = vec![device("p1", 1), Port { vlan: access, ..device("p2", 2) }];
    let mirror = rspan(Mirror { name: "m".into(), dst: vec!["p1".into()], ..Mirror::default() });
    check(vec![bridge("br0", ports)], vec![frame(2, 0, Body::Other(0x88b5))], mirror, &[send("p2", 0)]);
}

#[test]
fn rspan_leaves_reserved_groups_alone() {
    let ports = vec![device("p1", 1), device("p2", 2)];
    let mirror = rspan(Mirror { name: "m".into(), all: true, ..Mirror::default() });
    check(vec![bridge("br0", ports)], vec![frame(7, 0, Body::Other(0x88b5))], mirror, &[send("p1", 0)]);
}

#[test]
fn a_static_entry_counts_for_a_frame_to_its_own_source() {
    let ports = vec![device("p1", 1), device("p2", 2)];
    let entry = Step::AddFdb { bridge: 0, vlan: 0, mac: 0, port: 0 };
    check(vec![bridge("br0", ports)], vec![frame(0, 0, Body::Other(0x88b5))], entry, &[send("p2", 0)]);
}

/// A bridge with a tunnel and the underlay.
fn with_tunnel(ports: Vec<Port>) -> Vec<Bridge> {
    let tunnel = Tunnel {
        kind: Type::Vxlan,
        remotes: vec![REMOTES[0]],
        local: Local::Any,
        in_key: None,
        out_key: None,
        dst_port: 4789,
        tos: Some(0),
        ttl: Some(64),
        df: true,
        csum: false,
        split_horizon: true,
    };
    let mut all = ports;
    all.push(Port { kind: Kind::Tunnel(tunnel), ..device("vx0", 11) });
    let neighbours = [(REMOTES[0], [2, 0, 0, 0, 0x0a, 2])].into();
    let underlay = Bridge {
        mac: UNDERLAY_MAC,
        addresses: OWN.to_vec(),
        neighbours,
        ..bridge("br-phy", vec![device("up1", 1)])
    };
    vec![bridge("br0", all), underlay]
}

/// A match and actions.
type Short = (Vec<(Field, u128, u128)>, Vec<Action>);

fn rules(bridge: usize, list: &[Short]) -> Step {
    let rule = |(n, (matches, actions)): (usize, &(_, _))| Rule {
        table: 0,
        priority: 100 - n as u16,
        matches: Clone::clone(matches),
        actions: Clone::clone(actions),
    };
    Step::ReplaceRules { bridge, rules: list.iter().enumerate().map(rule).collect() }
}

#[allow(clippy::unnecessary_wraps, reason = "as a step has it")]
fn outer(tos: u8) -> Option<Outer> {
    let (src, dst) = (REMOTES[0], OWN[0]);
    Some(Outer {
        kind: Type::Vxlan,
        options: 0,
        src,
        dst,
        tos,
        dst_port: 4789,
        vni: 100,
        csum: false,
        policy: None,
        fault: Fault::None,
    })
}

#[test]
fn rules_see_the_congestion_mark_of_a_tunnel_and_rewrites_keep_it() {
    let ip = |tos| Body::Ip4 {
        src: 0x0a00_0001,
        dst: 0x0a00_0002,
        tos,
        ttl: 64,
        options: false,
        part: Part::Whole,
        l4: L4::Udp(1, 2, true),
    };
    let is_ip = (Field::EthType, 0x800, 0xffff);
    let marked =
        (vec![is_ip, (Field::NwEcn, 3, 3)], vec![Action::Set(Field::NwTos, 0xb8, 0xfc), Action::Output(1)]);
    let others = (vec![is_ip], vec![Action::Output(2)]);
    let send = |tos| Step::Send { port: "up1", frame: 0, outer: outer(tos), times: 1 };
    let ports = vec![device("p1", 1), device("p2", 2)];
    check(with_tunnel(ports), vec![frame(1, 0, ip(2))], rules(0, &[marked, others]), &[send(3), send(0)]);
}

#[test]
fn what_a_tunnel_said_stays_on_its_side_of_a_patch() {
    let patch = |name: &str, peer: &str| Port { kind: Kind::Patch(peer.into()), ..device(name, 21) };
    let mut bridges = with_tunnel(vec![device("p1", 1), patch("pa0", "pa1")]);
    bridges.push(bridge("br1", vec![device("q1", 1), device("q2", 2), patch("pa1", "pa0")]));
    let of_vni = (vec![(Field::TunId, 100, 0xff_ffff)], vec![Action::Output(1)]);
    let rest = (Vec::new(), vec![Action::Output(2)]);
    let tunnelled = Step::Send { port: "up1", frame: 0, outer: outer(0), times: 1 };
    check(bridges, vec![frame(1, 0, Body::Other(0x88b5))], rules(2, &[of_vni, rest]), &[tunnelled]);
}
