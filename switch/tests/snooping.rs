//! Multicast snooping (RFC 4541): packets to a group go to its members and to routers, and reports to routers.

mod rings;

use flow::program::PortId;
use rings::{Net, mac, ring_port};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vxswitch::bridge::fdb::Location;
use wire::addr::MacAddr;
use wire::checksum;
use wire::view::{
    EthernetRepr, GroupReport, GroupVersion, UdpRepr, build_group_report, build_udp, group_mac,
};

/// VXLAN over IPv4.
const OUTER: usize = 50;

/// Three host ports, and a tunnel to two VTEPs.
fn config(settings: &str) -> String {
    format!(
        r#"
[[bridge]]
name = "br0"
{settings}
{}{}{}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "192.168.1.2,192.168.1.3", key = 100 }}
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24"]
neighbour = [{{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }}, {{ ip = "192.168.1.3", mac = "02:00:00:00:0a:03" }}]
{}"#,
        ring_port("p1", 1),
        ring_port("p2", 2),
        ring_port("p3", 3),
        ring_port("up", 4)
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An address of host `n`, of the group's family.
fn host(n: u8, group: IpAddr) -> IpAddr {
    if group.is_ipv4() { Ipv4Addr::new(10, 0, 0, n).into() } else { ip(&format!("fe80::{n}")) }
}

/// A packet of host `from` to a group.
fn data(from: u8, group: &str) -> Vec<u8> {
    let group = ip(group);
    let mut bytes = vec![0; 256];
    let eth = EthernetRepr { dst: group_mac(group), src: mac(from.into()), vlan_tci: None, ethertype: 0 };
    let udp = UdpRepr { src_port: 1000, dst_port: 2000 };
    let len = build_udp(&mut bytes, &eth, host(from, group), group, udp, b"a frame for many").unwrap();
    bytes.truncate(len);
    bytes
}

/// What host `from` says of a group.
fn report(from: u8, group: &str, version: GroupVersion, report: GroupReport) -> Vec<u8> {
    let group = ip(group);
    let mut bytes = vec![0; 256];
    let len = build_group_report(&mut bytes, mac(from.into()), host(from, group), group, (version, report))
        .unwrap();
    bytes.truncate(len);
    bytes
}

/// A router's general query, of IGMPv2.
fn query(from: u8) -> Vec<u8> {
    let mut igmp = [0x11, 100, 0, 0, 0, 0, 0, 0];
    let sum = checksum::l4(checksum::Sum::ZERO, &igmp);
    igmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, from, 224, 0, 0, 1];
    let sum = checksum::ipv4_header(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let MacAddr(src) = mac(from.into());
    [&[1, 0, 0x5e, 0, 0, 1][..], &src, &[8, 0], &ip, &igmp].concat()
}

/// A tunnel packet from the VTEP 192.168.1.N.
fn from_vtep(n: u8, inner: &[u8]) -> Vec<u8> {
    rings::from_vtep(100, Ipv4Addr::new(192, 168, 1, n), 0, inner)
}

/// Who gets a frame that comes in by a port: host ports by name, VTEPs by the last byte of their address.
fn receivers(net: &mut Net, port: &str, frame: &[u8]) -> Vec<String> {
    let inner = if port == "up" { &frame[OUTER..] } else { frame }.to_vec();
    let mut got = Vec::new();
    for (name, frames) in net.send(port, &[frame.to_vec()]) {
        for out in frames {
            if name == "up" {
                assert_eq!(out[OUTER..], inner, "another frame");
                got.push(format!("vtep {}", out[33]));
            } else {
                assert_eq!(out, inner, "another frame");
                got.push(name.clone());
            }
        }
    }
    got.sort();
    got
}

const ON: &str = "mcast_snooping_enable = true";
const ALL: [&str; 4] = ["p2", "p3", "vtep 2", "vtep 3"];

#[test]
fn groups_go_to_members_and_routers_and_reports_to_routers() {
    let mut net = Net::new(&config(ON));
    let group = "239.1.1.1";
    let join = |from| report(from, group, GroupVersion::V2, GroupReport::Join);
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ALL, "nobody has joined it");
    // No router is known: nobody needs the report.
    assert_eq!(receivers(&mut net, "p2", &join(2)), [""; 0]);
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p2"]);
    // Questions go to all, and who asks is a router.
    assert_eq!(receivers(&mut net, "p3", &query(3)), ["p1", "p2", "vtep 2", "vtep 3"]);
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p2", "p3"]);
    assert_eq!(receivers(&mut net, "p2", &join(2)), ["p3"], "the report goes to the router");
    // A member behind one VTEP of the tunnel: the other gets no copy.
    assert_eq!(receivers(&mut net, "up", &from_vtep(3, &join(9))), ["p3"]);
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p2", "p3", "vtep 3"]);
    assert_eq!(receivers(&mut net, "up", &from_vtep(2, &data(8, group))), ["p2", "p3"], "split horizon");
    // IGMPv3 leaves by a record.
    let leave = report(2, group, GroupVersion::V3, GroupReport::Leave);
    assert_eq!(receivers(&mut net, "p2", &leave), ["p3"]);
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p3", "vtep 3"]);
    // Other groups, those of the link, and broadcasts are for everybody.
    assert_eq!(receivers(&mut net, "p1", &data(1, "239.1.1.2")), ALL);
    assert_eq!(receivers(&mut net, "p1", &data(1, "224.0.0.251")), ALL);
    // What nobody renews is forgotten.
    net.pass(Duration::from_secs(301));
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ALL);
    net.finish();
}

#[test]
fn mld_is_snooped_as_igmp_is() {
    let mut net = Net::new(&config(ON));
    let group = "ff05::1:1";
    for version in [GroupVersion::V2, GroupVersion::V3] {
        assert_eq!(receivers(&mut net, "p1", &data(1, group)), ALL);
        assert_eq!(receivers(&mut net, "p2", &report(2, group, version, GroupReport::Join)), [""; 0]);
        assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p2"]);
        assert_eq!(receivers(&mut net, "p1", &data(1, "ff02::1")), ALL, "all nodes");
        receivers(&mut net, "p2", &report(2, group, version, GroupReport::Leave));
    }
    net.finish();
}

#[test]
fn settings_say_what_is_flooded() {
    let unregistered = format!("{ON}\nother_config = {{ mcast-snooping-disable-flood-unregistered = true }}");
    let mut net = Net::new(&config(&unregistered));
    assert_eq!(receivers(&mut net, "p1", &data(1, "239.1.1.1")), [""; 0]);
    let flood = |net: &mut Net, key: &str| {
        let (p2, other_config) = (net.port("p2"), [(key.to_owned(), "true".to_owned())].into());
        net.slow.configure_port(p2, &config::Port { other_config, ..config::Port::default() });
        net.slow.settle();
    };
    flood(&mut net, "mcast-snooping-flood");
    assert_eq!(receivers(&mut net, "p1", &data(1, "239.1.1.1")), ["p2"]);
    flood(&mut net, "mcast-snooping-flood-reports");
    assert_eq!(receivers(&mut net, "p1", &data(1, "239.1.1.1")), [""; 0]);
    let join = report(3, "239.1.1.1", GroupVersion::V2, GroupReport::Join);
    assert_eq!(receivers(&mut net, "p3", &join), ["p2"]);
    net.finish();
    // Without snooping all is flooded.
    let mut net = Net::new(&config(""));
    assert_eq!(receivers(&mut net, "p2", &join), ["p1", "p3", "vtep 2", "vtep 3"]);
    assert_eq!(receivers(&mut net, "p1", &data(1, "239.1.1.1")), ALL);
    net.finish();
}

#[test]
fn a_port_takes_its_memberships_with_it_and_malformed_reports_are_flooded() {
    let mut net = Net::new(&config(ON));
    let group = "239.1.1.1";
    receivers(&mut net, "p2", &report(2, group, GroupVersion::V3, GroupReport::Join));
    let mut wrong = report(2, group, GroupVersion::V2, GroupReport::Leave);
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(receivers(&mut net, "p2", &wrong), ["p1", "p3", "vtep 2", "vtep 3"], "its checksum is wrong");
    assert_eq!(receivers(&mut net, "p1", &data(1, group)), ["p2"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let at: Vec<Location> =
        net.slow.state.bridge(id).unwrap().mcast.members((0, ip(group))).unwrap().collect();
    assert_eq!(at, [Location { port: net.port("p2"), remote: None }]);
    let p2: PortId = net.port("p2");
    assert_eq!(net.slow.state.bridge_mut(id).unwrap().mcast.forget_port(p2).len(), 1);
    net.slow.mcast_flush(id);
    net.finish();
}
