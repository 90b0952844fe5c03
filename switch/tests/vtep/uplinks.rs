//! An underlay bridge with several uplinks: tunnel packets go out of the one behind which the next hop is.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, VTEP, config};
use std::time::{Duration, Instant};
use wire::view::{ArpOp, ArpRepr, EthernetRepr, build_arp};

#[test]
fn a_static_neighbour_is_asked_for_a_sign_when_the_bridge_does_not_know_its_port() {
    let options = [r#"remote_ip = "192.168.1.2", key = 100"#];
    let mut net = Net::new(&config(&options, NEIGHBOURS, &["up", "up2"]));
    let start = Instant::now();
    let request = loop {
        net.run();
        if let Some(frame) = net.take("up2") {
            break frame;
        }
        assert!(start.elapsed() < Duration::from_secs(3), "never asked");
    };
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
