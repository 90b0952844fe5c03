//! Underlays with multicast: frames to many go to a group, remotes are learned from what comes, and the switch is a member of
//! the group as any host is.

use crate::rings::{Net, frame, udp};
use crate::{NEIGHBOURS, PEER, VTEP, config, from_peer, ip};
use flow::drop::DropReason;
use std::net::IpAddr;
use std::time::Duration;
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_IGMP};
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;
use wire::view::{EthernetRepr, GroupMessage, Ipv4Repr, Ipv6Repr, group_mac};

const GROUP: &str = "239.1.1.1";
const GROUP_V6: &str = "ff05::1:1";

/// What a report says, and where to; `None` for any other frame.
fn report(frame: &[u8]) -> Option<(IpAddr, IpAddr, bool)> {
    let (eth, payload) = EthernetRepr::parse(frame).ok()?;
    let (dst, message) = if eth.ethertype == ETH_IPV4 {
        let (ip, payload) = Ipv4Repr::parse(payload).ok()?;
        (ip.proto == IP_IGMP).then_some(())?;
        (ip.dst.into(), GroupMessage::parse_igmp(payload).ok()?)
    } else {
        let (ip, payload) = Ipv6Repr::parse(payload).ok()?;
        assert!(ip.src.is_unicast_link_local());
        (ip.dst.into(), GroupMessage::parse_mld(&ip, payload).ok()?)
    };
    let GroupMessage::Report(mut records) = message else { return None };
    assert_eq!((eth.src, eth.dst), (VTEP, group_mac(dst)));
    let (group, is_member) = records.next()?;
    assert_eq!(records.next(), None);
    Some((dst, group, is_member))
}

/// Reports that leave by a port within a time.
fn reports(net: &mut Net, port: &str, seconds: u64) -> Vec<(IpAddr, IpAddr, bool)> {
    net.pass(Duration::from_secs(seconds));
    net.take_all(port).iter().filter_map(|frame| report(frame)).collect()
}

/// A tunnel packet to a group.
fn to_group(src: &str, group: &str, vni: u32, inner: &[u8]) -> Vec<u8> {
    let patch = EncapPatch { vni, ..EncapPatch::default() };
    let group = ip(group);
    let mut packet = from_peer(src, &group.to_string(), group.is_ipv6(), &patch, &vxlan::FORMAT, inner);
    packet[..6].copy_from_slice(&group_mac(group).0);
    packet
}

/// A general query of IGMPv2 or MLDv1, which is to be answered within ten seconds.
fn query(v6: bool) -> Vec<u8> {
    use wire::checksum::{Sum, l4, pseudo_v6};
    let mut out = vec![0; 14];
    if v6 {
        let (src, dst) = ("fe80::9".parse().unwrap(), "ff02::1".parse().unwrap());
        let head = Ipv6Repr { src, dst, next_header: 0, traffic_class: 0, flow_label: 0, hop_limit: 1 };
        EthernetRepr { dst: group_mac(dst.into()), src: PEER, vlan_tci: None, ethertype: ETH_IPV6 }
            .emit(&mut out)
            .unwrap();
        let mut ip6 = [0; 40];
        head.emit(&mut ip6, 32).unwrap();
        out.extend(ip6);
        out.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        let mut message = [0; 24];
        message[0] = 130;
        message[4..6].copy_from_slice(&10_000u16.to_be_bytes());
        let sum = l4(pseudo_v6(&src.octets(), &dst.octets(), 58, 24), &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        out.extend(message);
    } else {
        let (src, dst) = ("192.168.1.9".parse().unwrap(), "224.0.0.1".parse().unwrap());
        let head = Ipv4Repr { src, dst, proto: IP_IGMP, tos: 0, ttl: 1, id: 0, df: false };
        EthernetRepr { dst: group_mac(dst.into()), src: PEER, vlan_tci: None, ethertype: ETH_IPV4 }
            .emit(&mut out)
            .unwrap();
        let mut ip4 = [0; 20];
        head.emit(&mut ip4, 8).unwrap();
        out.extend(ip4);
        let mut message = [0x11, 100, 0, 0, 0, 0, 0, 0];
        let sum = l4(Sum::ZERO, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        out.extend(message);
    }
    out
}

/// Everything that one group and its family have to show.
fn exercise(group: &str, peer: &str, own: &str, [routers, leaving]: [&str; 2]) {
    let options = format!("remote_ip = {group:?}, key = 100");
    let mut net = Net::new(&config(&[&options], NEIGHBOURS, &["up", "up2"]));
    let all = (ip(routers), ip(group), true);
    assert_eq!(reports(&mut net, "up", 3), [all; 2], "joined");
    assert_eq!(net.take_all("up2").iter().filter_map(|frame| report(frame)).collect::<Vec<_>>(), [all; 2]);

    // Frames to many go to the group.
    let broadcast = frame(u32::MAX, 1, None, 0);
    let out = net.send("p1", std::slice::from_ref(&broadcast));
    assert_eq!(out["up"], out["up2"]);
    let header = parse_outer(&out["up"][0], &vxlan::FORMAT, false).expect("a right tunnel packet");
    assert_eq!((header.src, header.dst, header.id), (ip(own), ip(group), 100));
    assert_eq!(out["up"][0][..6], group_mac(ip(group)).0);
    assert!(out["up"][0].ends_with(&broadcast));

    // What comes to the group is for others on the underlay as well, and says which remote is where.
    let question = frame(u32::MAX, 2, None, 1);
    let packet = to_group(peer, group, 100, &question);
    let out = net.send("up", std::slice::from_ref(&packet));
    assert_eq!((&out["p1"][..], &out["up2"][..]), (&[question][..], &[packet][..]));
    let answer = udp(2, 1, 1000, 2000, 2);
    let out = net.send("p1", std::slice::from_ref(&answer));
    assert_eq!(out.keys().collect::<Vec<_>>(), ["up"], "by unicast to where the neighbour is");
    let header = parse_outer(&out["up"][0], &vxlan::FORMAT, false).expect("a right tunnel packet");
    assert_eq!((header.src, header.dst), (ip(own), ip(peer)));
    assert_eq!(out["up"][0][..6], PEER.0);
    // And the other direction by unicast.
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let v6 = ip(group).is_ipv6();
    let reply = udp(1, 2, 2000, 1000, 3);
    let out = net.send("up", &[from_peer(peer, own, v6, &patch, &vxlan::FORMAT, &reply)]);
    assert_eq!(out["p1"], [reply]);

    // Another VNI, another group, the group's address in a frame to somebody else, and our own packet come back.
    let stray = frame(u32::MAX, 3, None, 4);
    assert!(!net.send("up", &[to_group(peer, group, 101, &stray)]).contains_key("p1"));
    assert_eq!(net.drops(DropReason::TunnelUnknown), 1);
    let other = if v6 { "ff05::1:2" } else { "239.1.1.2" };
    assert!(!net.send("up", &[to_group(peer, other, 100, &stray)]).contains_key("p1"));
    let mut misdirected = to_group(peer, group, 100, &stray);
    misdirected[5] ^= 0x10;
    assert!(!net.send("up", &[misdirected]).contains_key("p1"));
    assert!(!net.send("up", &[to_group(own, group, 100, &stray)]).contains_key("p1"));
    assert_eq!(net.drops(DropReason::TunnelEcho), 1);

    // An older router asks.
    net.send("up", &[query(v6)]);
    assert_eq!(reports(&mut net, "up", 11), [(ip(group), ip(group), true)], "as the older version has it");

    // The tunnel goes, and the switch leaves the group.
    net.take_all("up");
    let port = net.port("vx0");
    net.slow.forget_port(port);
    net.slow.settle();
    net.run();
    assert_eq!(reports(&mut net, "up", 3), [(ip(leaving), ip(group), false); 2]);
    assert!(!net.send("up", &[to_group(peer, group, 100, &stray)]).contains_key("p1"));
    net.finish();
}

#[test]
fn an_ipv4_group_carries_what_is_for_many() {
    exercise(GROUP, "192.168.1.2", "192.168.1.1", ["224.0.0.22", "224.0.0.2"]);
}

#[test]
fn an_ipv6_group_carries_what_is_for_many() {
    exercise(GROUP_V6, "2001:db8::2", "2001:db8::1", ["ff02::16", "ff02::2"]);
}

#[test]
fn a_port_with_an_address_of_its_own_takes_packets_to_it_and_to_the_group() {
    let options = format!(r#"remote_ip = "{GROUP}", local_ip = "192.168.1.1", key = 100"#);
    let mut net = Net::new(&config(&[&options], NEIGHBOURS, &["up"]));
    net.pass(Duration::from_secs(3));
    net.take_all("up");
    let one = frame(u32::MAX, 2, None, 1);
    assert_eq!(net.send("up", &[to_group("192.168.1.2", GROUP, 100, &one)])["p1"], [one]);
    let two = udp(1, 2, 2000, 1000, 3);
    let patch = EncapPatch { vni: 100, ..EncapPatch::default() };
    let packet = from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, &two);
    assert_eq!(net.send("up", &[packet])["p1"], [two]);
    net.finish();
}
