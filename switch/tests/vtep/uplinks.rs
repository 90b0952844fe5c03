//! An underlay bridge with several uplinks: tunnel packets go out of the one behind which the next hop is.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, VTEP, config};
use flow::ofp::{Action, Bucket, GroupKind, GroupSpec, PortRef};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::tunnel::outer::{parse_outer, peek};
use wire::tunnel::vxlan;
use wire::view::{ArpOp, ArpRepr, EthernetRepr, build_arp};

#[test]
fn a_static_neighbour_is_probed_when_the_bridge_does_not_know_its_port() {
    let options = [r#"remote_ip = "192.168.1.2", key = 100"#];
    let mut net = Net::new(&config(&options, NEIGHBOURS, &["up", "up2"]));
    net.pass(Duration::from_secs(3));
    let request = net.take("up2").expect("asked");
    let (eth, payload) = EthernetRepr::parse(&request).unwrap();
    let arp = ArpRepr::parse(payload).expect("ARP");
    assert_eq!((eth.dst, arp.op, arp.tpa), (PEER, ArpOp::Request, [192, 168, 1, 2].into()), "by unicast");
    net.take_all("up");
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["up", "up2"], "flooded until it answers");

    let mut reply = vec![0; 60];
    let head = EthernetRepr { dst: VTEP, src: PEER, vlan_tci: None, ethertype: 0x0806 };
    let arp = ArpRepr { op: ArpOp::Reply, sha: PEER, spa: arp.tpa, tha: VTEP, tpa: arp.spa };
    build_arp(&mut reply, &head, &arp).unwrap();
    net.send("up2", &[reply]);
    let out = net.send("p1", &[udp(2, 1, 1, 2, 1)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["up2"]);
    net.finish();
}

/// Sends one packet into the tunnel and returns what left, past what the static neighbour is asked.
fn one(net: &mut Net, sport: u16) -> BTreeMap<String, Vec<u8>> {
    let out = net.send("p1", &[udp(2, 1, sport, 2, 1)]);
    let tunnel = |frames: Vec<Vec<u8>>| frames.into_iter().find(|f| peek(f).is_some());
    out.into_iter().filter_map(|(port, frames)| Some((port, tunnel(frames)?))).collect()
}

#[test]
fn rules_of_the_underlay_do_to_tunnel_packets_what_they_say() {
    for (remote, l3, addresses) in [
        ("192.168.1.2", 18, &[192, 168, 1, 77][..]),
        ("2001:db8::2", 18, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77][..]),
    ] {
        let options = format!(r#"remote_ip = "{remote}", key = 100, csum = true"#);
        let mut net = Net::new(&config(&[&options], NEIGHBOURS, &["up", "up2"]));
        net.set_rules(
            "br-phy",
            &[
                "priority=10,in_port=LOCAL,ip,actions=mod_vlan_vid:10,set_field:192.168.1.77->nw_src,output:up,strip_vlan,output:up2",
                "priority=10,in_port=LOCAL,ipv6,actions=mod_vlan_vid:10,set_field:2001:db8::77->ipv6_src,output:up,strip_vlan,output:up2",
                "priority=1,actions=NORMAL",
            ],
        );
        let out = one(&mut net, 1);
        let (tagged, plain) = (&out["up"], &out["up2"]);
        assert_eq!(tagged[12..16], [0x81, 0, 0, 10]);
        let at = l3 + if remote.contains(':') { 8 } else { 12 };
        assert_eq!(tagged[at..at + addresses.len()], *addresses);
        // The outer checksums followed.
        let outer = parse_outer(tagged, &vxlan::FORMAT, false).expect("a right tunnel packet");
        assert_eq!(outer.id, 100);
        assert_eq!(parse_outer(plain, &vxlan::FORMAT, false).expect("a right tunnel packet").src, outer.src);
        assert_eq!(plain[12..], tagged[16..]);
        net.finish();
    }
}

#[test]
fn a_group_of_the_underlay_spreads_tunnel_packets_by_their_inner_flow() {
    let options = [r#"remote_ip = "192.168.1.2", key = 100"#];
    let mut net = Net::new(&config(&options, NEIGHBOURS, &["up", "up2"]));
    let bridge = net.slow.state.bridge_named("br-phy").expect("a bridge");
    let bucket = |id, port| Bucket {
        id,
        weight: 1,
        watch_port: None,
        watch_group: None,
        actions: vec![Action::Output(PortRef::Port(port))],
    };
    let buckets = vec![bucket(0, 1), bucket(1, 2)];
    net.slow.set_groups(bridge, &[GroupSpec { id: 1, kind: GroupKind::Select, selection: None, buckets }]);
    net.set_rules("br-phy", &["priority=10,in_port=LOCAL,ip,actions=group:1", "priority=1,actions=NORMAL"]);
    let mut ways = BTreeMap::<String, usize>::new();
    for sport in 0..64 {
        let mut ports = || one(&mut net, sport).into_keys().collect::<Vec<_>>();
        let first = ports();
        assert_eq!(first.len(), 1, "one of them");
        assert_eq!(first, ports(), "the same for a flow");
        *ways.entry(first[0].clone()).or_default() += 1;
    }
    assert!(ways.len() == 2 && ways.values().all(|n| *n > 10), "{ways:?}");
    net.finish();
}
