//! VXLAN over IPv6: neighbour discovery, both ways through the tunnel, and what the bridge says and hears.

use crate::rings::{Net, udp};
use crate::{NEIGHBOURS, PEER, VTEP, config, from_peer, ip};
use flow::drop::DropReason;
use std::net::Ipv6Addr;
use wire::addr::MacAddr;
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::{Outer, parse_outer};
use wire::tunnel::vxlan;
use wire::view::{
    ALL_NODES, EthernetRepr, Icmpv6Repr, Ipv6Repr, build_icmpv6, multicast_mac, solicited_node,
};

const TUNNEL: &str = r#"remote_ip = "2001:db8::2", key = 100"#;

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

fn own() -> Ipv6Addr {
    v6("2001:db8::1")
}

fn peer() -> Ipv6Addr {
    v6("2001:db8::2")
}

/// An ICMPv6 frame; to the MAC of the group when it goes to one.
fn icmp(src_mac: MacAddr, src: Ipv6Addr, dst: Ipv6Addr, message: &Icmpv6Repr<'_>) -> Vec<u8> {
    let mut out = vec![0; 400];
    let to = if dst.is_multicast() { multicast_mac(dst) } else { VTEP };
    let eth = EthernetRepr { dst: to, src: src_mac, vlan_tci: None, ethertype: 0x86dd };
    let len = build_icmpv6(&mut out, &eth, src, dst, message).expect("room");
    out.truncate(len);
    out
}

fn advert(target: Ipv6Addr, mac: Option<MacAddr>, overrides: bool) -> Vec<u8> {
    let message = Icmpv6Repr::NeighbourAdvert { target, router: false, solicited: true, overrides, tll: mac };
    icmp(mac.unwrap_or(PEER), target, own(), &message)
}

/// The packet's addresses and message.
fn read(frame: &[u8]) -> (EthernetRepr, Ipv6Repr, Icmpv6Repr<'_>) {
    let (eth, payload) = EthernetRepr::parse(frame).expect("Ethernet");
    let (ip, payload) = Ipv6Repr::parse(payload).expect("IPv6");
    let message = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit).expect("ICMPv6");
    (eth, ip, message)
}

fn outer(packet: &[u8]) -> Outer {
    parse_outer(packet, &vxlan::FORMAT, false).expect("a right tunnel packet")
}

#[test]
fn packets_wait_for_discovery_and_cross_the_tunnel_both_ways() {
    let mut net = Net::new(&config(&[TUNNEL], "", &["up"]));
    let packets: Vec<Vec<u8>> = (0..20).map(|n| udp(2, 1, 1000, 2000, n)).collect();
    let out = net.send("p1", &packets);
    assert_eq!(out["up"].len(), 1, "one solicitation, however many packets");
    let (eth, ip6, message) = read(&out["up"][0]);
    let group = solicited_node(peer());
    assert_eq!((eth.src, eth.dst, ip6.src, ip6.dst), (VTEP, multicast_mac(group), own(), group));
    assert_eq!(message, Icmpv6Repr::NeighbourSolicit { target: peer(), sll: Some(VTEP) });
    assert_eq!(net.held(), 20);

    let out = net.send("up", &[advert(peer(), Some(PEER), true)]);
    let inner: Vec<&[u8]> = out["up"].iter().map(|p| &p[70..]).collect();
    assert_eq!(inner, packets.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let packet = &out["up"][0];
    let header = outer(packet);
    assert_eq!((header.src, header.dst), (ip("2001:db8::1"), ip("2001:db8::2")));
    assert_eq!((header.id, header.transport.port, header.ttl), (100, 4789, 64));
    assert_ne!(header.flags & wire::key::TUN_CSUM, 0, "UDP has a checksum over IPv6 unless told otherwise");
    assert_eq!((&packet[..6], &packet[6..12]), (&PEER.0[..], &VTEP.0[..]));

    let back = udp(1, 2, 2000, 1000, 0);
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let (src, dst) = ("2001:db8::2", "2001:db8::1");
    let out = net.send("up", &[from_peer(src, dst, true, &patch, &vxlan::FORMAT, &back)]);
    assert_eq!(out["p1"], std::slice::from_ref(&back));
    // What is not for that port: another VNI, another remote, another address.
    let others = [
        from_peer(src, dst, true, &EncapPatch { vni: 101, ..patch }, &vxlan::FORMAT, &back),
        from_peer("2001:db8::3", dst, true, &patch, &vxlan::FORMAT, &back),
    ];
    assert!(net.send("up", &others).is_empty());
    assert_eq!((net.drops(DropReason::TunnelUnknown), net.drops(DropReason::TunnelRemoteUnknown)), (1, 1));
    // No checksum, or a wrong one.
    assert!(net.send("up", &[from_peer(src, dst, false, &patch, &vxlan::FORMAT, &back)]).is_empty());
    assert_eq!(net.drops(DropReason::TunnelUdp6ZeroChecksum), 1);
    let mut wrong = from_peer(src, dst, true, &patch, &vxlan::FORMAT, &back);
    *wrong.last_mut().unwrap() ^= 1;
    assert!(net.send("up", &[wrong]).is_empty());
    assert_eq!(net.drops(DropReason::TunnelUdpChecksum), 1);
    net.finish();
}

#[test]
fn a_port_without_a_remote_of_its_own_takes_packets_over_both_families() {
    let mut net = Net::new(&config(&[r#"remote_ip = "flow", key = "flow""#], NEIGHBOURS, &["up"]));
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=vx0,tun_id=5,tun_src=192.168.1.9,actions=output:p1",
            "priority=10,in_port=vx0,tun_id=6,tun_ipv6_src=2001:db8::9,actions=output:p1",
            "priority=1,actions=drop",
        ],
    );
    let patch = |vni| EncapPatch { vni, ..EncapPatch::default() };
    let v4 = |vni| {
        from_peer("192.168.1.9", "192.168.1.1", false, &patch(vni), &vxlan::FORMAT, &udp(1, 2, 3, 4, 5))
    };
    let v6 =
        |vni| from_peer("2001:db8::9", "2001:db8::1", true, &patch(vni), &vxlan::FORMAT, &udp(1, 2, 3, 4, 6));
    assert_eq!(net.send("up", &[v4(5), v6(6)])["p1"], [udp(1, 2, 3, 4, 5), udp(1, 2, 3, 4, 6)]);
    assert!(net.send("up", &[v4(6), v6(5)]).is_empty());
    net.finish();
}

#[test]
fn the_bridge_answers_solicitations_and_echo_for_its_address_alone() {
    let mut net = Net::new(&config(&[], "", &["up"]));
    let ask = |target| Icmpv6Repr::NeighbourSolicit { target, sll: Some(PEER) };
    for to in [solicited_node(own()), own()] {
        let out = net.send("up", &[icmp(PEER, peer(), to, &ask(own()))]);
        let (eth, ip6, message) = read(&out["up"][0]);
        assert_eq!((eth.dst, eth.src, ip6.dst, ip6.src), (PEER, VTEP, peer(), own()));
        let advert = Icmpv6Repr::NeighbourAdvert {
            target: own(),
            router: false,
            solicited: true,
            overrides: true,
            tll: Some(VTEP),
        };
        assert_eq!(message, advert);
    }
    // Duplicate address detection: all are told that the address is taken.
    let probe = Icmpv6Repr::NeighbourSolicit { target: own(), sll: None };
    let out = net.send("up", &[icmp(PEER, Ipv6Addr::UNSPECIFIED, solicited_node(own()), &probe)]);
    let (eth, ip6, message) = read(&out["up"][0]);
    assert_eq!((eth.dst, ip6.dst), (multicast_mac(ALL_NODES), ALL_NODES));
    assert!(matches!(message, Icmpv6Repr::NeighbourAdvert { solicited: false, .. }));

    let echo = Icmpv6Repr::EchoRequest { id: 7, seq: 9, data: b"hello" };
    let out = net.send("up", &[icmp(PEER, peer(), own(), &echo)]);
    let (_, ip6, message) = read(&out["up"][0]);
    assert_eq!((ip6.src, ip6.dst), (own(), peer()));
    assert_eq!(message, Icmpv6Repr::EchoReply { id: 7, seq: 9, data: b"hello" });

    // Somebody else's address with the same last three bytes, hence the same group; a group that is not ours.
    let other = v6("2001:db8::5:0:1");
    assert_eq!(solicited_node(other), solicited_node(own()));
    let quiet = [
        icmp(PEER, peer(), solicited_node(other), &ask(other)),
        icmp(PEER, peer(), solicited_node(v6("2001:db8::77")), &ask(v6("2001:db8::77"))),
        icmp(PEER, peer(), ALL_NODES, &echo),
        icmp(PEER, peer(), v6("2001:db8::77"), &echo),
    ];
    assert!(net.send("up", &quiet).is_empty());
    // Through a router, a damaged one.
    let mut routed = icmp(PEER, peer(), own(), &ask(own()));
    routed[21] = 254;
    let mut damaged = icmp(PEER, peer(), own(), &ask(own()));
    damaged[56] ^= 1;
    assert!(net.send("up", &[routed, damaged]).is_empty());
    net.finish();
}

#[test]
fn what_the_bridge_hears_is_told_by_the_masks() {
    let mut net = Net::new(&config(&[], "", &["up"]));
    let echo = Icmpv6Repr::EchoRequest { id: 7, seq: 9, data: b"" };
    let reply = Icmpv6Repr::EchoReply { id: 7, seq: 9, data: b"" };
    // A packet of the same addresses that is not for the slow path comes first, and does not hide the other.
    assert!(net.send("up", &[icmp(PEER, peer(), own(), &reply)]).is_empty());
    assert_eq!(net.send("up", &[icmp(PEER, peer(), own(), &echo)])["up"].len(), 1);
    let before = net.slow.megaflows();
    // Other groups are flooded without a look behind Ethernet.
    for n in 1..50 {
        let group = v6(&format!("ff02::1:ff00:{:x}", 0x100 + n));
        let ask = Icmpv6Repr::NeighbourSolicit { target: v6("2001:db8::77"), sll: Some(PEER) };
        let mut frame = icmp(PEER, peer(), group, &ask);
        frame[..6].copy_from_slice(&multicast_mac(v6("ff02::1:ff00:77")).0);
        net.send("up", &[frame]);
    }
    assert_eq!(net.slow.megaflows(), before + 1);
    net.finish();
}

#[test]
fn neighbours_are_learned_as_with_arp() {
    let mut net = Net::new(&config(&[TUNNEL], "", &["up"]));
    let bridge = net.slow.state.bridge_named("br-phy");
    let known = |net: &Net| {
        let rows = net.slow.neighbour_view(bridge);
        rows.iter().filter_map(|row| Some((row.ip.clone(), row.mac.clone()?))).collect::<Vec<_>>()
    };
    let other = MacAddr([2, 0, 0, 0, 0x0a, 0x77]);
    // Unasked adverts make no entry, nor do solicitations for others or from off the link.
    let ask = |target| Icmpv6Repr::NeighbourSolicit { target, sll: Some(PEER) };
    net.send(
        "up",
        &[
            advert(peer(), Some(PEER), true),
            icmp(PEER, peer(), solicited_node(v6("2001:db8::9")), &ask(v6("2001:db8::9"))),
            icmp(PEER, v6("2001:db8:1::2"), own(), &ask(own())),
        ],
    );
    assert_eq!(known(&net), []);
    // Who asks for us is about to talk to us.
    net.send("up", &[icmp(PEER, peer(), own(), &ask(own()))]);
    assert_eq!(known(&net), [("2001:db8::2".into(), PEER.to_string())]);
    // An advert without the override flag does not move it, one with it does.
    net.send("up", &[advert(peer(), Some(other), false)]);
    assert_eq!(net.send("p1", &[udp(2, 1, 1, 2, 0)])["up"][0][..6], PEER.0);
    net.send("up", &[advert(peer(), Some(other), true)]);
    assert_eq!(net.send("p1", &[udp(2, 1, 1, 2, 0)])["up"][0][..6], other.0);
    // A tunnel packet from elsewhere teaches nothing.
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    net.send(
        "up",
        &[from_peer("2001:db8::2", "2001:db8::1", true, &patch, &vxlan::FORMAT, &udp(1, 2, 1, 2, 0))],
    );
    assert_eq!(known(&net), [("2001:db8::2".into(), other.to_string())]);
    net.finish();
}

#[test]
fn a_router_may_have_a_link_local_address() {
    let route = "route = [{ to = \"::/0\", via = \"fe80::ff\" }]";
    let mut net = Net::new(&config(&[r#"remote_ip = "2001:db8:9::9", key = 100"#], route, &["up"]));
    let router = v6("fe80::ff");
    let out = net.send("p1", &[udp(2, 1, 1, 2, 0)]);
    let (_, ip6, message) = read(&out["up"][0]);
    assert_eq!((ip6.src, message), (own(), Icmpv6Repr::NeighbourSolicit { target: router, sll: Some(VTEP) }));
    let out = net.send("up", &[advert(router, Some(PEER), true)]);
    let header = outer(&out["up"][0]);
    assert_eq!((header.src, header.dst), (ip("2001:db8::1"), ip("2001:db8:9::9")));
    assert_eq!(out["up"][0][..6], PEER.0);
    net.finish();
}

#[test]
fn a_gpe_header_over_ipv6_and_a_frame_too_long_for_it() {
    let options = format!(r#"{TUNNEL}, exts = "gpe", tos = "inherit""#);
    let mut net = Net::new(&config(&[&options], NEIGHBOURS, &["up"]));
    let mut inner = udp(2, 1, 1, 2, 0);
    let out = net.send("p1", std::slice::from_ref(&inner));
    assert_eq!(out["up"][0][62..70], [0x0c, 0, 0, 3, 0, 0, 100, 0]);
    // 1600 bytes of outer IP packet: 56 of headers and the inner frame.
    inner.resize(1600 - 56, 0);
    assert_eq!(net.send("p1", std::slice::from_ref(&inner))["up"].len(), 1);
    inner.push(0);
    let out = net.send("p1", &[inner]);
    assert_eq!(out["p1"].len(), 1, "the sender is told");
    assert_eq!(out["p1"][0][40..42], 1530_u16.to_be_bytes());
    assert_eq!(net.drops(DropReason::MtuExceeded), 1);
    net.finish();
}

#[test]
fn fragments_of_tunnel_packets_are_counted_as_such() {
    let options = format!("{TUNNEL}, reassemble = false");
    let mut net = Net::new(&config(&[&options], NEIGHBOURS, &["up"]));
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let whole = from_peer("2001:db8::2", "2001:db8::1", true, &patch, &vxlan::FORMAT, &udp(1, 2, 1, 2, 0));
    // The first fragment, and the last.
    for offset_and_more in [1u16, 8] {
        let mut fragment = whole.clone();
        let [high, low] = offset_and_more.to_be_bytes();
        fragment.splice(54..54, [17, 0, high, low, 0, 0, 0, 1]);
        fragment[20] = 44;
        let len = (fragment.len() - 54) as u16;
        fragment[18..20].copy_from_slice(&len.to_be_bytes());
        let before = net.drops(DropReason::TunnelFragment);
        assert!(net.send("up", &[fragment]).is_empty());
        assert_eq!(net.drops(DropReason::TunnelFragment) - before, 1, "{offset_and_more:#x}");
    }
    net.finish();
}

#[test]
fn zero_checksums_are_taken_by_ports_that_say_so_alone() {
    let other = TUNNEL.replace("key = 100", "key = 101");
    assert_ne!(other, TUNNEL);
    for allowed in [false, true] {
        let option = format!("{TUNNEL}, udp6zerocsumrx = {allowed}");
        let mut net = Net::new(&config(&[&option, &other], NEIGHBOURS, &["up"]));
        let mut zero = |vni: u8| {
            let mut packet = net.send("p1", &[udp(2, 1, 1, 2, 0)])["up"][0].clone();
            // The way back: addresses swapped, no checksum.
            let mut back = packet.clone();
            (back[..6]).copy_from_slice(&packet[6..12]);
            (back[6..12]).copy_from_slice(&packet[..6]);
            (back[22..38]).copy_from_slice(&packet[38..54]);
            (back[38..54]).copy_from_slice(&packet[22..38]);
            packet = back;
            packet[60..62].fill(0);
            packet[68] = vni;
            // The frame inside comes from the other host.
            packet.truncate(70);
            packet.extend(udp(1, 2, 1, 2, 0));
            packet
        };
        let (ours, others) = (zero(100), zero(101));
        let before = net.drops(DropReason::TunnelUdp6ZeroChecksum);
        let out = net.send("up", &[ours]);
        assert_eq!(out.contains_key("p1"), allowed);
        assert!(net.send("up", &[others]).is_empty());
        assert_eq!(net.drops(DropReason::TunnelUdp6ZeroChecksum) - before, if allowed { 1 } else { 2 });
        net.finish();
    }
}
