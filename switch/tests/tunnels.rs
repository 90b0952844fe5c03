//! VXLAN both ways, in one process: encapsulation, termination, neighbours, and what must be dropped.

mod rings;

use flow::drop::DropReason;
use flow::ofp::parse_key;
use flow::stats::PacketStats;
use rings::{Net, Setup, from_vtep, mac, udp};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use vxswitch::bridge::BridgePorts;
use vxswitch::slowpath::SlowPath;
use vxswitch::slowpath::queues::QueueMove;
use vxswitch::slowpath::traffic::Directions;
use wire::addr::MacAddr;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;
use wire::view::{ArpOp, ArpRepr, EthernetRepr, Icmpv4Repr, Ipv4Repr, build_arp, build_icmpv4};

const VTEP: MacAddr = MacAddr([2, 0, 0, 0, 0x0a, 1]);
const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0x0a, 2]);
const OWN_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// `br0` with a host port and the given vxlan ports, `br-phy` with an uplink.
fn config(vxlans: &[&str], neighbour: bool) -> String {
    let mut text = String::from(
        "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_ring1\" }\n",
    );
    for (n, options) in vxlans.iter().enumerate() {
        let port =
            format!("[[bridge.port]]\nname = \"vx{n}\"\ntype = \"vxlan\"\noptions = {{ {options} }}\n");
        text += &port;
    }
    text += "[[bridge]]\nname = \"br-phy\"\nhwaddr = \"02:00:00:00:0a:01\"\naddress = [\"192.168.1.1/24\"]\n";
    if neighbour {
        text += "neighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }, { ip = \"192.168.1.3\", mac = \"02:00:00:00:0a:03\" }]\n";
    }
    text + "[[bridge.port]]\nname = \"up\"\ntype = \"dpdk\"\nmtu = 1600\noptions = { dpdk-devargs = \"net_ring2\" }\n"
}

fn arp(op: ArpOp, sha: MacAddr, spa: Ipv4Addr, tha: MacAddr, tpa: Ipv4Addr) -> Vec<u8> {
    let mut out = vec![0; 60];
    let dst = if op == ArpOp::Request { MacAddr::BROADCAST } else { tha };
    let eth = EthernetRepr { dst, src: sha, vlan_tci: None, ethertype: 0x0806 };
    build_arp(&mut out, &eth, &ArpRepr { op, sha, spa, tha, tpa }).unwrap();
    out
}

#[test]
fn encapsulates_towards_the_remote_and_takes_its_answers() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let inner = udp(2, 1, 1000, 2000, 0);
    let out = net.send("p1", std::slice::from_ref(&inner));
    assert_eq!(out.keys().collect::<Vec<_>>(), ["up"]);
    let packet = &out["up"][0];
    let outer = parse_outer(packet, &vxlan::FORMAT, false).expect("a right tunnel packet");
    assert_eq!((outer.src, outer.dst), (IpAddr::V4(OWN_IP), IpAddr::V4(PEER_IP)));
    assert_eq!((outer.id, outer.transport.port, outer.ttl, outer.tos), (100, 4789, 64, 0));
    assert_eq!((&packet[..6], &packet[6..12]), (&PEER.0[..], &VTEP.0[..]));
    assert_eq!(packet[50..], inner);
    let source = u16::from_be_bytes([packet[34], packet[35]]);
    assert!(source >= 49152);

    let back = udp(1, 2, 2000, 1000, 0);
    let out = net.send("up", &[from_vtep(100, PEER_IP, 0, &back)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(out["p1"], [back]);
    let vx = net.port("vx0");
    let counts = net.counters.port(vx);
    assert_eq!(
        (counts.tx.packets.get(), counts.tx.bytes.get()),
        (1, inner.len() as u64),
        "inner frames count"
    );
    assert_eq!((counts.rx.packets.get(), counts.rx.bytes.get()), (1, inner.len() as u64));
    net.finish();
}

#[test]
fn a_packet_that_waits_in_its_device_meets_the_whole_configuration() {
    let early = [("up", from_vtep(100, PEER_IP, 0, &udp(1, 2, 1, 2, 7)))];
    let mut net = Net::with_early(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true), &early);
    assert_eq!(net.take_all("p1"), [udp(1, 2, 1, 2, 7)]);
    assert_eq!(net.counters.dropped.get(), 0);
    net.finish();
}

#[test]
fn the_source_port_follows_the_inner_flow() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    // By inner source port: packets of different new flows need not leave in the order in which they came.
    let ports = |packets: &[Vec<u8>]| -> BTreeMap<u16, u16> {
        let at = |p: &[u8], i: usize| u16::from_be_bytes([p[i], p[i + 1]]);
        packets.iter().map(|p| (at(p, 50 + 34), at(p, 34))).collect()
    };
    let flows: Vec<Vec<u8>> = (0..200).map(|n| udp(2, 1, 1000 + n, 53, 0)).collect();
    let first = ports(&net.send("p1", &flows)["up"]);
    let second = ports(&net.send("p1", &flows)["up"]);
    assert_eq!(first, second, "the same flow has the same source port");
    let distinct: HashSet<u16> = first.values().copied().collect();
    assert!(distinct.len() > 190, "{} different source ports for 200 flows", distinct.len());
    net.finish();
}

#[test]
fn vnis_and_remotes_do_not_see_each_other() {
    let mut net = Net::new(&config(
        &[r#"remote_ip = "192.168.1.2", key = 100"#, r#"remote_ip = "192.168.1.3", key = 100"#],
        true,
    ));
    let third = Ipv4Addr::new(192, 168, 1, 3);
    for (vni, src, reason) in
        [(101, PEER_IP, true), (100, Ipv4Addr::new(192, 168, 1, 4), true), (100, third, false)]
    {
        let out = net.send("up", &[from_vtep(vni, src, 0, &udp(1, 2, 1, 2, 0))]);
        assert_eq!(out.is_empty(), reason, "VNI {vni} from {src}");
    }
    assert_eq!((net.drops(DropReason::TunnelUnknown), net.drops(DropReason::TunnelRemoteUnknown)), (1, 1));
    // What it was that no port takes: the latest first, and in the megaflow that drops it.
    let unknown = net.slow.unknown_tunnel_view();
    let told: Vec<_> = unknown.iter().map(|row| (row.key, &row.remote[..], &row.local[..])).collect();
    assert_eq!(told, [(100, "192.168.1.4", "192.168.1.1"), (101, "192.168.1.2", "192.168.1.1")]);
    let megaflows: Vec<String> = net.slow.megaflow_view(None, 100).into_iter().map(|row| row.flow).collect();
    let names = |flow: &String| {
        ["tun_id=0x65", "src=192.168.1.2", "dst=192.168.1.1"].iter().all(|part| flow.contains(part))
    };
    assert!(megaflows.iter().any(names), "{megaflows:?}");
    // The second packet of the same kind is stopped by a megaflow, without the slow path.
    let misses = net.counters.misses.get();
    net.send("up", &[from_vtep(101, PEER_IP, 0, &udp(1, 99, 7, 8, 0))]);
    assert_eq!(net.drops(DropReason::TunnelUnknown), 2);
    assert_eq!(net.counters.misses.get(), misses);
    net.finish();
}

#[test]
fn counting_through_vnis_does_not_fill_the_flow_table() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    for vni in 1000..3000 {
        net.put("up", &from_vtep(vni, PEER_IP, 0, &udp(1, 2, 1, 2, 0)));
        if vni % 32 == 0 {
            net.run();
        }
    }
    net.run();
    assert_eq!(net.drops(DropReason::TunnelUnknown), 2000);
    // The first 64 have a megaflow each, the others one together.
    assert_eq!(net.slow.megaflows(), 65);
    let last = net.slow.unknown_tunnel_view();
    assert_eq!(last.len(), 16);
    net.finish();
}

#[test]
fn from_tunnel_to_tunnel_by_the_flow_table_survives_a_change_of_something_else() {
    let both = [r#"remote_ip = "192.168.1.2", key = "flow""#, r#"remote_ip = "192.168.1.3", key = "flow""#];
    let mut net = Net::new(&config(&both, true));
    for rules in [
        &["in_port=vx0,actions=output:vx1"][..],
        &["in_port=vx0,actions=output:vx1", "in_port=p1,actions=drop"],
    ] {
        net.set_rules("br0", rules);
        let out = net.send("up", &[from_vtep(7, PEER_IP, 0, &udp(1, 2, 1, 2, 0))]);
        assert_eq!(parse_outer(&out["up"][0], &vxlan::FORMAT, false).unwrap().id, 7);
    }
    net.finish();
}

#[test]
fn the_bridges_addresses_are_in_vlan_0() {
    let mut net = Net::new(&config(&[], false));
    let mut tagged = arp(ArpOp::Request, PEER, PEER_IP, MacAddr::ZERO, OWN_IP);
    tagged.splice(12..12, [0x81, 0, 0, 10]);
    assert!(net.send("up", &[tagged]).is_empty(), "not heard in VLAN 10");
    let mut unicast = arp(ArpOp::Request, PEER, PEER_IP, MacAddr::ZERO, OWN_IP);
    unicast[..6].copy_from_slice(&VTEP.0);
    unicast.splice(12..12, [0x81, 0, 0, 10]);
    assert!(net.send("up", &[unicast]).is_empty());
    assert_eq!(net.drops(DropReason::LocalUnhandled), 1);
    net.finish();
}

#[test]
fn tunnels_do_not_flood_into_each_other() {
    let both = [r#"remote_ip = "192.168.1.2", key = 100"#, r#"remote_ip = "192.168.1.3", key = 100"#];
    let mut net = Net::new(&config(&both, true));
    let out = net.send("up", &[from_vtep(100, PEER_IP, 0, &udp(u32::MAX, 2, 1, 2, 0))]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1"]);
    net.finish();
    let no_horizon = both.map(|options| format!("{options}, split-horizon = false"));
    let mut net = Net::new(&config(&[&no_horizon[0], &no_horizon[1]], true));
    let out = net.send("up", &[from_vtep(100, PEER_IP, 0, &udp(u32::MAX, 2, 1, 2, 0))]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1", "up"], "unless asked to");
    net.finish();
}

#[test]
fn a_port_with_several_remotes_replicates_and_learns_the_remote() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2,192.168.1.3", key = 100"#], true));
    let remotes = |packets: &[Vec<u8>]| -> Vec<IpAddr> {
        packets.iter().map(|p| parse_outer(p, &vxlan::FORMAT, false).unwrap().dst).collect()
    };
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]);
    let (second, third) = (IpAddr::V4(PEER_IP), IpAddr::V4(Ipv4Addr::new(192, 168, 1, 3)));
    assert_eq!(remotes(&out["up"]), [second, third]);
    net.send("up", &[from_vtep(100, Ipv4Addr::new(192, 168, 1, 3), 0, &udp(1, 2, 2, 1, 0))]);
    let out = net.send("p1", &[udp(2, 1, 1, 2, 1)]);
    assert_eq!(remotes(&out["up"]), [third]);
    // The host moves behind the other VTEP.
    net.send("up", &[from_vtep(100, PEER_IP, 0, &udp(1, 2, 2, 1, 0))]);
    let out = net.send("p1", &[udp(2, 1, 1, 2, 2)]);
    assert_eq!(remotes(&out["up"]), [second]);
    net.finish();
}

#[test]
fn packets_wait_while_the_neighbour_is_asked_for_and_leave_in_order() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], false));
    let packets: Vec<Vec<u8>> = (0..50).map(|n| udp(2, 1, 1000, 2000, n)).collect();
    let out = net.send("p1", &packets);
    assert_eq!(out["up"].len(), 1, "one ARP request, however many packets");
    let request = ArpRepr::parse(&out["up"][0][14..]).expect("ARP");
    assert_eq!((request.op, request.spa, request.tpa, request.sha), (ArpOp::Request, OWN_IP, PEER_IP, VTEP));
    assert_eq!(net.held(), 50);
    net.assert_balanced();
    let out = net.send("up", &[arp(ArpOp::Reply, PEER, PEER_IP, VTEP, OWN_IP)]);
    let inner: Vec<&[u8]> = out["up"].iter().map(|p| &p[50..]).collect();
    assert_eq!(inner, packets.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(out["up"][0][..6], PEER.0);
    // A new MAC for the same neighbour reaches the flow without an upcall.
    let misses = net.counters.misses.get();
    let moved = MacAddr([2, 0, 0, 0, 0x0a, 0x77]);
    net.send("up", &[arp(ArpOp::Reply, moved, PEER_IP, VTEP, OWN_IP)]);
    let after_arp = net.counters.misses.get();
    let out = net.send("p1", &[udp(2, 1, 1000, 2000, 99)]);
    assert_eq!(out["up"][0][..6], moved.0);
    assert_eq!(net.counters.misses.get(), after_arp);
    assert!(after_arp > misses, "the ARP frame itself was a new flow");
    net.finish();
}

/// Does something that waits for workers, which run on threads of their own meanwhile.
fn while_workers_run<R>(net: &mut Net, change: impl FnOnce(&mut SlowPath) -> R) -> R {
    let stop = AtomicBool::new(false);
    let (workers, slow) = net.workers();
    std::thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| worker.run(&stop, true));
        }
        let result = change(slow);
        stop.store(true, Relaxed);
        result
    })
}

#[test]
fn packets_that_wait_for_a_neighbour_outlive_their_queue_and_their_port() {
    let ports = config(&[r#"remote_ip = "192.168.1.2", key = 100"#], false);
    let mut net = Net::with(&ports, &Setup { workers: 2, ..Setup::default() });
    let [p1, up] = ["p1", "up"].map(|name| net.port(name));
    let packets =
        |from: u32| -> Vec<Vec<u8>> { (from..from + 20).map(|n| udp(2, 1, 1000, 2000, n)).collect() };
    let request = net.send("p1", &packets(0));
    assert_eq!((request["up"].len(), net.held()), (1, 20));
    // The queue goes to the other worker: what came by it before waits where it is, what comes now there.
    let moved = while_workers_run(&mut net, |slow| {
        slow.move_queues(&[QueueMove { port: p1, queue: 0, from: 0, to: 1 }])
    });
    assert_eq!(moved, [(p1, 0)]);
    net.send("p1", &packets(20));
    assert_eq!(net.held(), 40);
    net.assert_balanced();
    // The port goes: its packets were taken in, and leave when the neighbour answers.
    let queues = while_workers_run(&mut net, |slow| slow.remove_device(p1));
    assert_eq!(queues.iter().map(|io| io.rx.len()).sum::<usize>(), 1);
    assert_eq!(net.held(), 40);
    let out = net.send("up", &[arp(ArpOp::Reply, PEER, PEER_IP, VTEP, OWN_IP)]);
    let mut left: Vec<&[u8]> = out["up"].iter().map(|p| &p[50..]).collect();
    left.sort_unstable();
    let mut all = [packets(0), packets(20)].concat();
    all.sort_unstable();
    assert_eq!(left, all);
    assert_eq!(net.held(), 0);
    drop(queues);

    // The port that they are to leave by goes, with another neighbour asked for: none stays.
    let mut net = {
        net.finish();
        Net::with(&ports, &Setup { workers: 2, ..Setup::default() })
    };
    net.send("p1", &packets(0));
    let queues = while_workers_run(&mut net, |slow| slow.remove_device(up));
    net.assert_balanced();
    for _ in 0..5 {
        net.pass(Duration::from_secs(1));
    }
    assert_eq!((net.held(), net.drops(DropReason::NeighbourFailed)), (0, 20));
    drop(queues);
    net.finish();
}

#[test]
fn a_neighbour_that_does_not_answer_is_given_up_and_counted() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], false));
    let out = net.send("p1", &[udp(2, 1, 1000, 2000, 0)]);
    assert_eq!(out["up"].len(), 1);
    net.pass(Duration::from_millis(2950));
    assert_eq!(net.take_all("up").len(), 2, "asked again, a second apart");
    assert_eq!((net.held(), net.drops(DropReason::NeighbourFailed)), (1, 0));
    net.pass(Duration::from_millis(100));
    assert_eq!((net.held(), net.drops(DropReason::NeighbourFailed)), (0, 1));
    assert!(net.take("up").is_none(), "given up after three requests");
    net.finish();
}

#[test]
fn the_switch_answers_arp_and_ping_for_its_address() {
    let mut net = Net::new(&config(&[], false));
    let out = net.send("up", &[arp(ArpOp::Request, PEER, PEER_IP, MacAddr::ZERO, OWN_IP)]);
    let reply = ArpRepr::parse(&out["up"][0][14..]).expect("ARP");
    assert_eq!((reply.op, reply.sha, reply.spa, reply.tha), (ArpOp::Reply, VTEP, OWN_IP, PEER));
    assert_eq!(out["up"][0][..6], PEER.0);

    let mut ping = vec![0; 200];
    let eth = EthernetRepr { dst: VTEP, src: PEER, vlan_tci: None, ethertype: 0x0800 };
    let echo = Icmpv4Repr::EchoRequest { id: 7, seq: 9, data: b"hello" };
    let len = build_icmpv4(&mut ping, &eth, PEER_IP, OWN_IP, &echo).unwrap();
    ping.truncate(len);
    let out = net.send("up", &[ping]);
    let (ip, payload) = Ipv4Repr::parse(&out["up"][0][14..]).unwrap();
    assert_eq!((ip.src, ip.dst), (OWN_IP, PEER_IP));
    assert_eq!(Icmpv4Repr::parse(payload), Ok(Icmpv4Repr::EchoReply { id: 7, seq: 9, data: b"hello" }));

    let mut other = udp(2, 1, 5, 6, 0);
    other[..6].copy_from_slice(&VTEP.0);
    assert!(net.send("up", &[other]).is_empty());
    assert_eq!(net.drops(DropReason::LocalUnhandled), 1);
    net.finish();
}

#[test]
fn congestion_marks_cross_the_tunnel_as_rfc_6040_says() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let inner = |ecn: u8| {
        let mut frame = udp(1, 2, 1, 2, 0);
        frame[15] = ecn;
        let sum = wire::checksum::ipv4_header(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    // Outer CE on an inner that is not capable: dropped; capable: marked, with a right checksum.
    assert!(net.send("up", &[from_vtep(100, PEER_IP, 3, &inner(0))]).is_empty());
    assert_eq!(net.drops(DropReason::EcnNotCapable), 1);
    for ecn in [1, 2, 3] {
        let out = net.send("up", &[from_vtep(100, PEER_IP, 3, &inner(ecn))]);
        assert_eq!(out["p1"], [inner(3)], "inner ECN {ecn}");
    }
    let out = net.send("up", &[from_vtep(100, PEER_IP, 1, &inner(0))]);
    assert_eq!(out["p1"], [inner(0)]);
    // A frame with a malformed IP header is bridged as it is: it says nothing about congestion.
    let mut malformed = inner(0);
    malformed[14] = 0x41;
    let out = net.send("up", &[from_vtep(100, PEER_IP, 3, &malformed)]);
    assert_eq!(out["p1"], [malformed]);
    net.finish();
}

#[test]
fn a_burst_for_several_tunnels_is_treated_packet_by_packet() {
    let both = [r#"remote_ip = "192.168.1.2", key = 100"#, r#"remote_ip = "192.168.1.3", key = 100"#];
    let mut net = Net::new(&config(&both, true));
    net.set_rules("br0", &["priority=10,in_port=vx0,actions=output:p1", "priority=1,actions=NORMAL"]);
    let capable = |n: u32| {
        let mut frame = udp(1, 2, 1, 2, n);
        frame[15] = 2;
        let sum = wire::checksum::ipv4_header(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let third = Ipv4Addr::new(192, 168, 1, 3);
    for round in 0..3 {
        // All of one port and one megaflow: no keys. Then with a congestion mark and another port between.
        for n in 0..8 {
            net.put("up", &from_vtep(100, PEER_IP, 0, &capable(n)));
        }
        net.put("up", &from_vtep(100, PEER_IP, 3, &capable(8)));
        net.put("up", &from_vtep(100, third, 0, &udp(1, 3, 1, 2, 9)));
        net.put("up", &from_vtep(100, PEER_IP, 0, &capable(10)));
        net.put("up", &arp(ArpOp::Request, PEER, PEER_IP, MacAddr::ZERO, OWN_IP));
        net.run();
        let (out, answers) = (net.take_all("p1"), net.take_all("up"));
        let of_peer: Vec<&Vec<u8>> = out.iter().filter(|f| f[6..12] == mac(2).0).collect();
        assert_eq!(of_peer.len(), 10, "round {round}");
        for (frame, n) in of_peer.iter().zip((0u32..9).chain([10])) {
            assert_eq!(frame[15] & 3, if n == 8 { 3 } else { 2 }, "round {round}, packet {n}");
            assert_eq!(frame[42..46], n.to_be_bytes(), "in order");
        }
        assert_eq!(out.len(), 11);
        assert_eq!(answers.len(), 1, "ARP is answered");
        net.assert_balanced();
    }
    net.finish();
}

#[test]
fn broken_tunnel_packets_are_counted_under_their_reason() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let good = from_vtep(100, PEER_IP, 0, &udp(1, 2, 1, 2, 0));
    let mut cases: Vec<(DropReason, Vec<u8>)> = Vec::new();
    let mut case = |reason, change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        cases.push((reason, packet));
    };
    case(DropReason::TunnelIpv4Checksum, &|p| p[24] ^= 1);
    case(DropReason::VxlanNoVniFlag, &|p| p[42] = 0);
    case(DropReason::TunnelUdpChecksum, &|p| p[40] = 0x12);
    case(DropReason::TunnelUdpLength, &|p| p[39] = 7);
    case(DropReason::TunnelIpv4Length, &|p| p.truncate(80));
    for (reason, packet) in cases {
        let before = net.drops(reason);
        assert!(net.send("up", &[packet]).is_empty());
        assert_eq!(net.drops(reason) - before, 1, "{}", reason.name());
    }
    // Cut off at every byte: never forwarded, always counted.
    let before = net.counters.dropped.get();
    for len in 1..good.len() {
        assert!(net.send("up", &[good[..len].to_vec()]).is_empty(), "{len} bytes");
    }
    assert_eq!(net.counters.dropped.get() - before, good.len() as u64 - 1);
    // Padding behind the IP packet is not part of the inner frame.
    let mut padded = good.clone();
    padded.extend([0; 9]);
    assert_eq!(net.send("up", &[padded])["p1"], [udp(1, 2, 1, 2, 0)]);
    net.finish();
}

#[test]
fn a_frame_too_long_for_the_uplink_is_counted() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let mut long = udp(2, 1, 1, 2, 0);
    // 1600 bytes of outer IP packet: 36 of headers and the inner frame.
    long.resize(1600 - 36, 0);
    assert_eq!(net.send("p1", std::slice::from_ref(&long))["up"].len(), 1);
    long.push(0);
    // Its sender is told what fits, as if by the destination: 1600 bytes less 36, less inner Ethernet.
    let out = net.send("p1", std::slice::from_ref(&long));
    let [told] = out["p1"].as_slice() else { panic!("{out:?}") };
    assert_eq!(out.len(), 1);
    assert_eq!((&told[..6], &told[6..12]), (&long[6..12], &long[..6]));
    assert_eq!((&told[26..30], &told[30..34]), (&long[30..34], &long[26..30]));
    assert_eq!(told[34..42][..2], [3, 4]);
    assert_eq!(told[40..42], 1550_u16.to_be_bytes());
    assert_eq!(net.slow.too_big_sent, 1);
    // Who lets it be fragmented is told all the same, but not about a later fragment.
    long[20] = 0;
    assert_eq!(net.send("p1", std::slice::from_ref(&long))["p1"].len(), 1);
    long[21] = 1;
    assert!(net.send("p1", &[long]).is_empty());
    assert_eq!(net.drops(DropReason::MtuExceeded), 3);
    let counts = net.counters.port(net.port("vx0"));
    assert_eq!((counts.tx.packets.get(), counts.tx_dropped.get()), (1, 3), "the tunnel sent one of four");
    net.finish();
}

#[test]
fn the_flow_table_sets_and_sees_the_vni() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = "flow""#], true));
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,udp,tp_dst=10,actions=set_tunnel:10,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=20,actions=set_tunnel:20,output:vx0",
            "priority=5,in_port=p1,actions=output:vx0",
            "priority=10,in_port=vx0,tun_id=30,actions=output:p1",
        ],
    );
    for vni in [10u32, 20] {
        let out = net.send("p1", &[udp(2, 1, 5, vni as u16, 0)]);
        assert_eq!(parse_outer(&out["up"][0], &vxlan::FORMAT, false).unwrap().id, vni);
    }
    let flows = &net.slow.workers[0].flows;
    let masks: Vec<u32> =
        flows.slots().filter_map(|slot| flows.get(slot)).map(|flow| flow.mask.tun_id).collect();
    assert_eq!(masks, [0, 0], "what an action sets is not looked at");
    assert!(net.send("p1", &[udp(2, 1, 5, 99, 0)]).is_empty());
    assert_eq!(net.drops(DropReason::TunnelKeyUnset), 1);
    assert_eq!(net.send("up", &[from_vtep(30, PEER_IP, 0, &udp(1, 2, 3, 4, 0))])["p1"].len(), 1);
    // Rules are there, but none for VNI 31: a standalone bridge falls back to NORMAL.
    assert_eq!(net.send("up", &[from_vtep(31, PEER_IP, 0, &udp(1, 2, 3, 4, 0))])["p1"].len(), 1);
    assert_eq!(net.slow.state.port(net.port("vx0")).unwrap().ofport, 2);
    assert_eq!(mac(0).0[0], 2);
    net.finish();
}

#[test]
fn traffic_is_counted_by_remote_and_by_vni() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = "flow""#], true));
    net.set_rules(
        "br0",
        &[
            "in_port=p1,udp,tp_dst=1,actions=set_tunnel:10,set_field:192.168.1.2->tun_dst,output:vx0",
            "in_port=p1,udp,tp_dst=2,actions=set_tunnel:20,set_field:192.168.1.3->tun_dst,output:vx0",
            "in_port=p1,udp,tp_dst=3,actions=set_tunnel:10,set_field:192.168.1.3->tun_dst,output:vx0",
            "in_port=vx0,tun_id=10,tun_src=192.168.1.2,actions=output:p1",
            "in_port=vx0,tun_id=20,tun_src=192.168.1.3,actions=output:p1",
        ],
    );
    let other = Ipv4Addr::new(192, 168, 1, 3);
    let inner = |dport| udp(2, 1, 1000, dport, 0);
    let frames: Vec<_> = [1, 1, 2, 3].map(inner).into();
    assert_eq!(net.send("p1", &frames)["up"].len(), 4);
    let frames: Vec<_> = [(10, PEER_IP), (20, other), (20, other)]
        .map(|(vni, from)| from_vtep(vni, from, 0, &inner(9)))
        .into();
    assert_eq!(net.send("up", &frames)["p1"].len(), 3);
    net.slow.collect_all();
    let len = inner(0).len() as u64;
    let stats = |packets| PacketStats::new(packets, packets * len);
    let vx0 = net.port("vx0");
    let row = |rx, tx| Directions { rx: stats(rx), tx: stats(tx) };
    let vteps: BTreeMap<_, _> = net.slow.traffic.by_vtep().map(|(port, ip, row)| ((port, ip), row)).collect();
    let expected = [(PEER_IP, row(1, 2)), (other, row(2, 2))];
    assert_eq!(vteps, expected.map(|(ip, row)| ((vx0, Some(IpAddr::V4(ip))), row)).into());
    let vnis: BTreeMap<_, _> = net.slow.traffic.by_vni().map(|(port, vni, row)| ((port, vni), row)).collect();
    assert_eq!(vnis, [((vx0, Some(10)), row(1, 3)), ((vx0, Some(20)), row(2, 1))].into());
    let times = &net.counters.setup_times;
    assert_eq!(times.buckets.iter().map(datapath::counters::Counter::get).sum::<u64>(), 5, "one a megaflow");
    assert!(times.cycles.get() > 0);
    net.finish();
}

#[test]
fn rules_of_the_underlay_count_the_tunnel_packets_that_leave_through_them() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    net.set_rules(
        "br-phy",
        &["priority=9,in_port=LOCAL,udp,tp_dst=4789,actions=up", "priority=1,actions=NORMAL"],
    );
    let inner = udp(2, 1, 1000, 2000, 0);
    let stats = |net: &mut Net| {
        net.slow.collect_all();
        let id = net.slow.state.bridge_named("br-phy").unwrap();
        let rules =
            net.slow.state.bridge(id).unwrap().tables.select(&flow::ofp::FlowFilter::default(), false);
        rules.iter().find(|rule| rule.spec.priority == 9).unwrap().stats()
    };
    for _ in 0..10 {
        assert_eq!(net.send("p1", std::slice::from_ref(&inner))["up"].len(), 1);
    }
    let expected = |packets: u64| PacketStats::new(packets, packets * (inner.len() as u64 + 50));
    assert_eq!(stats(&mut net), expected(10));
    assert_eq!(stats(&mut net), expected(10), "counted once");
    // What the last packets of a removed megaflow were is not lost.
    net.send("p1", &[inner.clone(), inner.clone()]);
    net.slow.flush_flows();
    net.run();
    assert_eq!(stats(&mut net), expected(12));
    net.finish();
}

#[test]
fn the_longest_prefix_of_all_underlays_leads_to_a_remote() {
    let bridge = |n: u8, route: &str| {
        format!(
            "[[bridge]]\nname = \"under{n}\"\nhwaddr = \"02:00:00:00:0a:0{n}\"\naddress = [\"192.168.{n}.1/24\"]\n\
             route = [{{ to = \"{route}\", via = \"192.168.{n}.254\" }}]\n\
             neighbour = [{{ ip = \"192.168.{n}.254\", mac = \"02:00:00:00:0b:0{n}\" }}]\n\
             [[bridge.port]]\nname = \"up{n}\"\ntype = \"dpdk\"\nmtu = 1600\noptions = {{ dpdk-devargs = \"net_ring_up{n}\" }}\n"
        )
    };
    let overlay = "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\n\
         options = { dpdk-devargs = \"net_ring1\" }\n[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
         options = { remote_ip = \"10.1.2.3\", key = \"1\" }\n";
    for (routes, up) in [(["0.0.0.0/0", "10.1.0.0/16"], "up2"), (["10.1.2.0/24", "10.1.0.0/16"], "up1")] {
        let mut net = Net::new(&[overlay, &bridge(1, routes[0]), &bridge(2, routes[1])].concat());
        let out = net.send("p1", &[udp(2, 1, 1000, 2000, 0)]);
        assert_eq!(out.keys().collect::<Vec<_>>(), [up], "{routes:?}");
        net.finish();
    }
}

#[test]
fn trace_knows_mtus_and_the_congestion_marks_of_a_tunnel() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let bridge = net.slow.state.bridge_named("br0").unwrap();
    let mut trace = |text: &str| {
        let names = BridgePorts { state: &net.slow.state, bridge };
        let key = parse_key(text, &names).expect("a packet");
        net.slow.trace_view(bridge, &key, None).expect("a port")
    };
    let out = trace("in_port=p1,udp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02");
    assert!(out.headers[0].contains("inner packets of up to 1550 bytes fit"), "{:?}", out.headers);
    let into = "in_port=vx0,tun_id=100,udp,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01";
    let plain = trace(into);
    assert!(plain.steps.iter().any(|step| step.starts_with("p1: MTU 1500")), "{:?}", plain.steps);
    let marked = trace(&format!("{into},nw_ecn=2,tun_tos=3"));
    assert!(marked.steps[0].contains("nw_ecn=3"), "{:?}", marked.steps);
    assert!(marked.reason.is_none());
    let deaf = trace(&format!("{into},nw_ecn=0,tun_tos=3"));
    assert_eq!(deaf.reason.unwrap().reason, "ecn_not_capable");
    net.finish();
}

#[test]
fn a_router_that_says_what_fits_is_believed_for_ten_minutes() {
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    let mut inner = udp(2, 1, 1, 2, 0);
    inner.resize(1400 - 36 + 1, 0);
    let outer = net.send("p1", std::slice::from_ref(&inner))["up"][0].clone();
    let says = |mtu, original: &[u8]| {
        let mut frame = vec![0; 700];
        let eth = EthernetRepr { dst: VTEP, src: PEER, vlan_tci: None, ethertype: 0x0800 };
        let message = Icmpv4Repr::FragNeeded { mtu, original };
        let router = Ipv4Addr::new(192, 168, 1, 254);
        let len = build_icmpv4(&mut frame, &eth, router, OWN_IP, &message).unwrap();
        frame.truncate(len);
        frame
    };
    // Not of ours, to nobody that we send to, no UDP, and to another port: no tunnel packet.
    for at in [29, 33, 23, 37] {
        let mut forged = outer[14..].to_vec();
        forged[at - 14] = 99;
        assert!(net.send("up", &[says(1400, &forged)]).is_empty());
    }
    assert_eq!(net.send("p1", std::slice::from_ref(&inner))["up"].len(), 1);
    assert!(net.send("up", &[says(1400, &outer[14..])]).is_empty());
    let told = net.send("p1", std::slice::from_ref(&inner));
    assert_eq!(told["p1"][0][40..42], 1350_u16.to_be_bytes(), "1400 bytes less 36, less inner Ethernet");
    // What fits goes, and 552 bytes always do.
    assert_eq!(net.send("p1", &[inner[..1364].to_vec()])["up"].len(), 1);
    assert!(net.send("up", &[says(68, &outer[14..])]).is_empty());
    assert_eq!(net.send("p1", &[inner[..552 - 36].to_vec()])["up"].len(), 1);
    assert!(!net.send("p1", &[inner[..=552 - 36].to_vec()]).contains_key("up"));
    net.pass(std::time::Duration::from_secs(599));
    assert!(!net.send("p1", std::slice::from_ref(&inner)).contains_key("up"));
    net.pass(std::time::Duration::from_secs(2));
    assert_eq!(net.send("p1", &[inner])["up"].len(), 1, "the path may be wider by now");
    net.finish();
}

/// A SYN from host `src` to `dst` that offers this MSS, behind a no-operation.
fn syn(dst: u32, src: u32, mss: u16) -> Vec<u8> {
    let mut frame = udp(dst, src, 0, 0, 0)[..34].to_vec();
    let segment = [4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x70, 2, 0x20, 0, 0, 0, 0, 0, 1, 2, 4];
    let segment = [&segment[..], &mss.to_be_bytes(), &[0, 0, 0]].concat();
    frame[16..18].copy_from_slice(&(20 + segment.len() as u16).to_be_bytes());
    frame[23] = 6;
    frame[24..26].fill(0);
    let sum = wire::checksum::ipv4_header(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let pseudo = wire::checksum::pseudo_v4(
        frame[26..30].try_into().unwrap(),
        frame[30..34].try_into().unwrap(),
        6,
        segment.len() as u16,
    );
    frame.extend(segment);
    let sum = wire::checksum::l4(pseudo, &frame[34..]);
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn clamped_syns_offer_what_fits_both_ways_and_nothing_else_changes() {
    for remote in ["remote_ip = \"192.168.1.2\"", "remote_ip = \"flow\""] {
        let mut net = Net::new(&config(&[&format!("{remote}, key = 100, mss-clamp = true")], true));
        // Who is where.
        net.send("up", &[from_vtep(100, PEER_IP, 0, &udp(1, 2, 5, 6, 0))]);
        net.send("p1", &[udp(2, 1, 5, 6, 0)]);
        let out = net.send("p1", &[syn(2, 1, 9000), syn(2, 1, 1000)]);
        let inner: Vec<&[u8]> = out["up"].iter().map(|packet| &packet[50..]).collect();
        // 1600 bytes less 36, less inner Ethernet, IPv4 and TCP.
        assert_eq!(inner, [syn(2, 1, 1510), syn(2, 1, 1000)], "{remote}");
        assert_eq!(net.send("p1", &[udp(2, 1, 5, 6, 0)])["up"][0][50..], udp(2, 1, 5, 6, 0));
        let back = [syn(1, 2, 9000), syn(1, 2, 1000)].map(|inner| from_vtep(100, PEER_IP, 0, &inner));
        assert_eq!(net.send("up", &back)["p1"], [syn(1, 2, 1510), syn(1, 2, 1000)], "{remote}");
        // A SYN to all ports is clamped on its way into the tunnel only.
        let flood = net.send("p1", &[syn(77, 1, 9000)]);
        assert!(flood.get("up").is_none_or(|up| up[0][50..] == syn(77, 1, 1510)), "{remote}");
        net.finish();
    }
    // Without the option they stay.
    let mut net = Net::new(&config(&[r#"remote_ip = "192.168.1.2", key = 100"#], true));
    assert_eq!(net.send("p1", &[syn(2, 1, 9000)])["up"][0][50..], syn(2, 1, 9000));
    net.finish();
}
