//! Tunnel next hops that rules ask for, on a worker.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, config, from_peer, ip, run_program};
use flow::drop::DropReason;
use flow::program::{Op, Program, TunnelMetadata};
use std::net::IpAddr;
use std::time::Duration;
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;

#[test]
fn a_next_hop_follows_routes_and_neighbours_like_a_fixed_remote() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = "flow""#], NEIGHBOURS, &["up"]));
    let vx = net.port("vx0");
    let send = |net: &mut Net, remote: &str, local: Option<&str>| {
        let adjacency = net.slow.resolve_next_hop(vx, ip(remote), local.map(ip)).expect("room");
        let ops =
            [Op::Encap { adjacency, vni: 7, metadata: TunnelMetadata::default(), options: Box::default() }];
        run_program(net, "p1", &udp(2, 1, 1, 2, 0), &Program { ops: ops.into(), drop: DropReason::Rule })
    };
    for (remote, own) in [("192.168.1.2", "192.168.1.1"), ("2001:db8::2", "2001:db8::1")] {
        let out = send(&mut net, remote, None);
        let outer = parse_outer(&out[0], &vxlan::FORMAT, false).expect("a right tunnel packet");
        assert_eq!((outer.src, outer.dst, outer.id), (ip(own), ip(remote), 7));
        assert_eq!(out[0][..6], PEER.0);
    }
    // Nobody knows this one yet; no route leads to that one; a group and one of our own addresses are no remotes.
    assert_eq!(send(&mut net, "192.168.1.3", None)[0][12..14], [8, 6], "ARP");
    let nowhere = [
        ("10.0.0.1", None),
        ("239.1.1.1", None),
        ("192.168.1.1", None),
        ("192.168.1.2", Some("192.168.1.77")),
        ("192.168.1.2", Some("2001:db8::1")),
    ];
    for (remote, local) in nowhere {
        assert!(send(&mut net, remote, local).is_empty(), "{remote} {local:?}");
    }
    assert_eq!(net.drops(DropReason::NoRoute), nowhere.len() as u64);
    assert_eq!(net.slow.next_hops(), 3 + nowhere.len());
    // The neighbour is given up, and the packet with it.
    net.pass(Duration::from_secs(4));
    assert_ne!(net.drops(DropReason::NeighbourFailed), 0);
    net.finish();
}

/// Outer addresses, source first, and VNI.
fn header(packet: &[u8]) -> (IpAddr, IpAddr, u32) {
    let outer = parse_outer(packet, &vxlan::FORMAT, false).expect("a right tunnel packet");
    (outer.src, outer.dst, outer.id)
}

#[test]
fn rules_choose_remote_and_vni() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = "flow""#], NEIGHBOURS, &["up"]));
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,udp,tp_dst=1,actions=set_tunnel:10,set_field:192.168.1.2->tun_dst,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=2,actions=set_tunnel:11,set_field:2001:db8::2->tun_ipv6_dst,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=3,actions=set_tunnel:12,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=4,actions=set_field:192.168.1.2->tun_dst,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=5,actions=set_tunnel:13,set_field:192.168.1.3->tun_dst,output:vx0,set_field:2001:db8::2->tun_ipv6_dst,set_field:0.0.0.0->tun_dst,output:vx0",
        ],
    );
    let (own4, own6) = (ip("192.168.1.1"), ip("2001:db8::1"));
    let (peer4, peer6) = (ip("192.168.1.2"), ip("2001:db8::2"));
    let mut send = |port| net.send("p1", &[udp(2, 1, 9, port, 0)]);
    assert_eq!(header(&send(1)["up"][0]), (own4, peer4, 10));
    assert_eq!(header(&send(2)["up"][0]), (own6, peer6, 11));
    assert!(send(3).is_empty() && send(4).is_empty());
    let both = send(5);
    let (arp, tunnel): (Vec<_>, Vec<_>) = both["up"].iter().partition(|frame| frame[12..14] == [8, 6]);
    assert_eq!((arp.len(), tunnel.len()), (1, 1), "the one is asked for, the other goes at once");
    assert_eq!(header(tunnel[0]), (own6, peer6, 13));
    assert_eq!(net.drops(DropReason::TunnelRemoteUnset), 1);
    assert_eq!(net.drops(DropReason::TunnelKeyUnset), 1);
    assert_eq!(net.slow.next_hops(), 3);
    net.pass(Duration::from_secs(4));
    assert_ne!(net.drops(DropReason::NeighbourFailed), 0);
    net.finish();
}

#[test]
fn rules_choose_the_local_address() {
    let fixed = r#"remote_ip = "192.168.1.2", local_ip = "flow", key = 5"#;
    let underlay = NEIGHBOURS;
    let mut net = Net::new(
        &config(&[fixed], underlay, &["up"])
            .replace(r#""2001:db8::1/64""#, r#""2001:db8::1/64", "192.168.1.9/24""#),
    );
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,udp,tp_dst=1,actions=set_field:192.168.1.9->tun_src,output:vx0",
            "priority=10,in_port=p1,udp,tp_dst=2,actions=output:vx0",
            "priority=10,in_port=vx0,tun_dst=192.168.1.9,actions=output:p1",
            "priority=1,actions=drop",
        ],
    );
    let out = net.send("p1", &[udp(2, 1, 9, 1, 0)]);
    assert_eq!(header(&out["up"][0]), (ip("192.168.1.9"), ip("192.168.1.2"), 5));
    assert!(net.send("p1", &[udp(2, 1, 9, 2, 0)]).is_empty());
    assert_eq!(net.drops(DropReason::TunnelLocalUnset), 1);
    // Received at any of our addresses, and rules see which.
    let patch = EncapPatch { vni: 5, ..EncapPatch::default() };
    let inner = udp(1, 2, 1, 2, 0);
    for (dst, taken) in [("192.168.1.9", true), ("192.168.1.1", false)] {
        let out = net.send("up", &[from_peer("192.168.1.2", dst, false, &patch, &vxlan::FORMAT, &inner)]);
        assert_eq!(!out.is_empty(), taken, "{dst}");
    }
    net.finish();
}

#[test]
fn normal_learns_the_remote_behind_a_port_that_has_none_of_its_own() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = 100"#], NEIGHBOURS, &["up"]));
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let hello = |n| udp(1, n, 1, 2, 0);
    net.send(
        "up",
        &[
            from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, &hello(2)),
            from_peer("2001:db8::2", "2001:db8::1", true, &patch, &vxlan::FORMAT, &hello(3)),
        ],
    );
    for (host, remote) in [(2, "192.168.1.2"), (3, "2001:db8::2")] {
        let out = net.send("p1", &[udp(host, 1, 2, 1, 0)]);
        assert_eq!(header(&out["up"][0]).1, ip(remote));
    }
    net.finish();
}

#[test]
fn a_next_hop_that_megaflows_use_stays_and_counts_no_packet_twice() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = 1"#], NEIGHBOURS, &["up"]));
    let rule = "in_port=p1,actions=set_field:192.168.1.2->tun_dst,output:vx0";
    net.set_rules("br0", &[rule]);
    assert_eq!(net.send("p1", &[udp(2, 1, 9, 1, 0)])["up"].len(), 1);
    assert_eq!(net.slow.next_hops(), 1);
    // Other rules: the megaflow has another remote at once, and its old program is gone.
    net.set_rules("br0", &["in_port=p1,actions=set_field:2001:db8::2->tun_ipv6_dst,output:vx0"]);
    assert_eq!(header(&net.send("p1", &[udp(2, 1, 9, 1, 0)])["up"][0]).1, ip("2001:db8::2"));
    assert_eq!(net.slow.next_hops(), 2);
    net.set_rules("br0", &[rule]);
    assert_eq!(header(&net.send("p1", &[udp(2, 1, 9, 1, 0)])["up"][0]).1, ip("192.168.1.2"));
    assert_eq!(net.slow.next_hops(), 2, "and comes back to the one of before");
    net.finish();
}
