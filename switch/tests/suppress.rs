//! ARP and ND suppression: the rules of the kernel's own tests (`test_bridge_neigh_suppress.sh`) and of RFC 9161, with
//! every frame looked at.

mod rings;

use flow::program::PortId;
use rings::{Net, mac, ring_port};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use vxswitch::bridge::fdb::Location;
use vxswitch::bridge::hosts::Source;
use wire::addr::MacAddr;
use wire::view::{
    ArpOp, ArpRepr, EthernetRepr, Icmpv6Repr, Ipv6Repr, UdpRepr, build_arp, build_icmpv6, build_udp,
    multicast_mac, solicited_node,
};

const PEER_VTEP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
/// VXLAN over IPv4.
const OUTER: usize = 50;

/// Two host ports, and a tunnel to one VTEP.
fn config(other_config: &str) -> String {
    format!(
        r#"
[[bridge]]
name = "br0"
{other_config}
{p1}{p2}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "192.168.1.2", key = 100 }}
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24"]
neighbour = [{{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }}]
{up}"#,
        p1 = ring_port("p1", 1),
        p2 = ring_port("p2", 2),
        up = ring_port("up", 3)
    )
}

const ON: &str = "other_config = { neigh-suppress = \"true\" }";

fn ip4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | n)
}

fn ip6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00 << 112 | u128::from(n))
}

fn eth(dst: MacAddr, src: u32, vlan: Option<u16>) -> EthernetRepr {
    EthernetRepr { dst, src: mac(src), vlan_tci: vlan, ethertype: 0 }
}

fn written(write: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    let len = write(&mut bytes);
    bytes.truncate(len);
    bytes
}

fn arp_to(dst: MacAddr, vlan: Option<u16>, op: ArpOp, src: u32, spa: Ipv4Addr, tpa: Ipv4Addr) -> Vec<u8> {
    let arp = ArpRepr { op, sha: mac(src), spa, tha: MacAddr::ZERO, tpa };
    written(|out| build_arp(out, &eth(dst, src, vlan), &arp).unwrap())
}

/// A request of host `from` for host `to`.
fn request(from: u32, to: u32) -> Vec<u8> {
    arp_to(MacAddr::BROADCAST, None, ArpOp::Request, from, ip4(from), ip4(to))
}

fn solicit_to(dst: Option<MacAddr>, from: u32, src: Ipv6Addr, to: u32) -> Vec<u8> {
    let group = solicited_node(ip6(to));
    let sll = (!src.is_unspecified()).then(|| mac(from));
    let head = eth(dst.unwrap_or(multicast_mac(group)), from, None);
    let ask = Icmpv6Repr::NeighbourSolicit { target: ip6(to), sll };
    let ip_dst = if dst.is_some() { ip6(to) } else { group };
    written(|out| build_icmpv6(out, &head, src, ip_dst, &ask).unwrap())
}

/// A solicitation of host `from` for host `to`.
fn solicit(from: u32, to: u32) -> Vec<u8> {
    solicit_to(None, from, ip6(from), to)
}

/// A tunnel packet from the other VTEP.
fn from_peer(inner: &[u8]) -> Vec<u8> {
    rings::from_vtep(100, PEER_VTEP, 0, inner)
}

/// Where a frame went.
#[derive(Debug, PartialEq, Eq)]
struct Went {
    /// What came back by the port.
    back: Vec<Vec<u8>>,
    /// Whether the other host port got it.
    local: bool,
    /// Whether the other VTEP got it.
    tunnel: bool,
}

/// Sends a frame in by `p1`.
fn send(net: &mut Net, frame: &[u8]) -> Went {
    let mut out = net.send("p1", &[frame.to_vec()]);
    let is_it = |frames: Vec<Vec<u8>>, skip: usize| {
        assert!(frames.iter().all(|one| one[skip..] == *frame), "something else left: {frames:?}");
        assert!(frames.len() <= 1, "more than one copy");
        frames.len() == 1
    };
    let local = is_it(out.remove("p2").unwrap_or_default(), 0);
    let tunnel = is_it(out.remove("up").unwrap_or_default(), OUTER);
    Went { back: out.remove("p1").unwrap_or_default(), local, tunnel }
}

fn flooded() -> Went {
    Went { back: Vec::new(), local: true, tunnel: true }
}

/// Not flooded to the tunnel, and not answered either.
fn local_only() -> Went {
    Went { back: Vec::new(), local: true, tunnel: false }
}

fn assert_arp_answer(went: &Went, from: u32, to: u32, vlan: Option<u16>) {
    assert_eq!((went.back.len(), went.local, went.tunnel), (1, true, false), "{went:?}");
    let (head, payload) = EthernetRepr::parse(&went.back[0]).unwrap();
    assert_eq!((head.src, head.dst, head.vlan_tci), (mac(to), mac(from), vlan));
    let arp = ArpRepr::parse(payload).unwrap();
    assert_eq!((arp.op, arp.sha, arp.spa), (ArpOp::Reply, mac(to), ip4(to)));
    assert_eq!((arp.tha, arp.tpa), (mac(from), ip4(from)));
}

fn assert_advert(went: &Went, from: u32, to: u32, is_router: bool) {
    assert_eq!((went.back.len(), went.local, went.tunnel), (1, true, false), "{went:?}");
    let (head, payload) = EthernetRepr::parse(&went.back[0]).unwrap();
    assert_eq!((head.src, head.dst), (mac(to), mac(from)));
    let (ip, payload) = Ipv6Repr::parse(payload).unwrap();
    assert_eq!((ip.src, ip.dst, ip.hop_limit), (ip6(to), ip6(from), 255));
    let advert = Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit).unwrap();
    let wanted = Icmpv6Repr::NeighbourAdvert {
        target: ip6(to),
        router: is_router,
        solicited: true,
        overrides: true,
        tll: Some(mac(to)),
    };
    assert_eq!(advert, wanted);
}

fn bridge(net: &mut Net) -> &mut vxswitch::bridge::Bridge {
    let id = net.slow.state.bridge_named("br0").unwrap();
    net.slow.state.bridge_mut(id).unwrap()
}

/// What `bridge fdb replace` and `ip neigh replace` do in the kernel's tests.
fn know_host(net: &mut Net, n: u32, port: PortId, vlan: u16) {
    let remote = (port == net.port("vx")).then_some(IpAddr::V4(PEER_VTEP));
    let bridge = bridge(net);
    bridge.fdb.add_fixed(vlan, mac(n), Location { port, remote }, Instant::now());
    for ip in [IpAddr::V4(ip4(n)), ip6(n).into()] {
        bridge.hosts.put((vlan, ip), mac(n), false, Source::Route, Instant::now());
    }
}

fn set_suppress(net: &mut Net, on: Option<bool>) {
    let vx = net.port("vx");
    net.slow.state.port_mut(vx).unwrap().neigh_suppress = on;
    let port = config::Port {
        other_config: on.map(|on| ("neigh-suppress".to_owned(), on.to_string())).into_iter().collect(),
        ..config::Port::default()
    };
    net.slow.configure_port(vx, &port);
    net.slow.settle();
}

#[test]
fn arp_requests_by_the_kernels_rules() {
    let mut net = Net::new(&config(""));
    assert_eq!(send(&mut net, &request(1, 2)), flooded(), "neigh_suppress off");
    set_suppress(&mut net, Some(true));
    assert_eq!(send(&mut net, &request(1, 2)), flooded(), "neither FDB entry nor neighbour");
    let vx = net.port("vx");
    know_host(&mut net, 2, vx, 0);
    for _ in 0..3 {
        let went = send(&mut net, &request(1, 2));
        assert_arp_answer(&went, 1, 2, None);
    }
    // A neighbour without an FDB entry, and an FDB entry without a neighbour.
    bridge(&mut net).fdb.remove(0, mac(2));
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    know_host(&mut net, 2, vx, 0);
    bridge(&mut net).hosts.remove(&(0, ip4(2).into()));
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    know_host(&mut net, 2, vx, 0);
    let went = send(&mut net, &request(1, 2));
    assert_arp_answer(&went, 1, 2, None);
    set_suppress(&mut net, Some(false));
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    let stats = bridge(&mut net).suppressed;
    assert_eq!((stats.answered, stats.flooded, stats.local), (4, 3, 0));
    net.finish();
}

#[test]
fn unicast_requests_probes_and_announcements_pass() {
    let mut net = Net::new(&config(ON));
    let vx = net.port("vx");
    know_host(&mut net, 2, vx, 0);
    send(&mut net, &request(1, 2));
    // As in the kernel's test of unicast ARP: it is forwarded to the host, which answers itself.
    let unicast = arp_to(mac(2), None, ArpOp::Request, 1, ip4(1), ip4(2));
    assert_eq!(send(&mut net, &unicast), Went { back: vec![], local: false, tunnel: true });
    let unicast = solicit_to(Some(mac(2)), 1, ip6(1), 2);
    assert_eq!(send(&mut net, &unicast), Went { back: vec![], local: false, tunnel: true });
    // RFC 5227 and RFC 4862: only the host itself may object.
    let probe = arp_to(MacAddr::BROADCAST, None, ArpOp::Request, 1, Ipv4Addr::UNSPECIFIED, ip4(2));
    assert_eq!(send(&mut net, &probe), flooded());
    let detection = solicit_to(None, 1, Ipv6Addr::UNSPECIFIED, 2);
    assert_eq!(send(&mut net, &detection), flooded());
    for op in [ArpOp::Request, ArpOp::Reply] {
        let gratuitous = arp_to(MacAddr::BROADCAST, None, op, 1, ip4(1), ip4(1));
        assert_eq!(send(&mut net, &gratuitous), flooded(), "{op:?}");
    }
    // What is not ARP of IPv4, and what ends early.
    let mut other = request(1, 2);
    other[15] = 6;
    assert_eq!(send(&mut net, &other), flooded(), "not Ethernet");
    net.finish();
}

#[test]
fn neighbour_solicitations_by_the_kernels_rules() {
    let mut net = Net::new(&config(ON));
    assert_eq!(send(&mut net, &solicit(1, 2)), flooded());
    let vx = net.port("vx");
    know_host(&mut net, 2, vx, 0);
    let went = send(&mut net, &solicit(1, 2));
    assert_advert(&went, 1, 2, false);
    // Hosts stop using a router that is said to be none.
    bridge(&mut net).hosts.put((0, ip6(2).into()), mac(2), true, Source::Route, Instant::now());
    let went = send(&mut net, &solicit(1, 2));
    assert_advert(&went, 1, 2, true);
    bridge(&mut net).hosts.remove(&(0, ip6(2).into()));
    assert_eq!(send(&mut net, &solicit(1, 2)), flooded());
    net.finish();
}

#[test]
fn vlans_have_hosts_of_their_own() {
    let mut net = Net::new(&config(ON));
    let vx = net.port("vx");
    know_host(&mut net, 2, vx, 10);
    let in_vlan = |vlan| arp_to(MacAddr::BROADCAST, Some(vlan), ArpOp::Request, 1, ip4(1), ip4(2));
    let went = send(&mut net, &in_vlan(10));
    assert_arp_answer(&went, 1, 2, Some(10));
    assert_eq!(send(&mut net, &in_vlan(20)), flooded());
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    net.finish();
}

#[test]
fn local_hosts_are_learned_and_answer_themselves() {
    let mut net = Net::new(&config(ON));
    // It is heard by a request of its own, and by an answer that is forwarded.
    net.send("p2", &[request(2, 99)]);
    assert_eq!(send(&mut net, &request(1, 2)), local_only());
    let advert = Icmpv6Repr::NeighbourAdvert {
        target: ip6(2),
        router: true,
        solicited: true,
        overrides: true,
        tll: Some(mac(2)),
    };
    let frame = written(|out| build_icmpv6(out, &eth(mac(1), 2, None), ip6(2), ip6(1), &advert).unwrap());
    assert_eq!(send(&mut net, &solicit(1, 2)), flooded());
    let out = net.send("p2", &[frame]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1"], "forwarded as before");
    assert_eq!(send(&mut net, &solicit(1, 2)), local_only());
    let rows = net.slow.host_view(None);
    let row = rows.iter().find(|row| row.ip == ip6(2).to_string()).expect("learned");
    assert_eq!((row.port.as_deref(), row.router, row.state.as_str()), (Some("p2"), true, "REACHABLE"));
    // Nobody says where another host's MAC address is.
    let mut forged = arp_to(MacAddr::BROADCAST, None, ArpOp::Request, 1, ip4(78), ip4(2));
    forged[6..12].copy_from_slice(&mac(2).0);
    net.send("p2", &[forged]);
    assert!(bridge(&mut net).hosts.get(0, ip4(78).into()).is_none());
    // It goes with its FDB entry.
    net.pass(Duration::from_secs(302));
    assert!(net.slow.host_view(None).is_empty(), "{:?}", net.slow.host_view(None));
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    net.finish();
}

#[test]
fn hosts_behind_tunnels_are_learned_from_their_answers() {
    let mut net = Net::new(&config(ON));
    assert_eq!(send(&mut net, &request(1, 2)), flooded());
    let answer = arp_to(mac(1), None, ArpOp::Reply, 2, ip4(2), ip4(1));
    let out = net.send("up", &[from_peer(&answer)]);
    assert_eq!(out["p1"], [answer]);
    let went = send(&mut net, &request(1, 2));
    assert_arp_answer(&went, 1, 2, None);
    // What comes from the tunnel is not answered: the other VTEP does that.
    let out = net.send("up", &[from_peer(&request(2, 1))]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1", "p2"]);
    net.finish();
}

#[test]
fn a_dhcp_servers_word_counts() {
    let mut net = Net::new(&config(ON));
    net.send("p1", &[request(1, 99)]);
    net.send("p2", &[request(3, 99)]);
    let mut bootp = vec![0; 240];
    (bootp[0], bootp[1], bootp[2]) = (2, 1, 6);
    bootp[16..20].copy_from_slice(&ip4(500).octets());
    bootp[28..34].copy_from_slice(&mac(1).0);
    bootp[236..].copy_from_slice(&[99, 130, 83, 99]);
    bootp.extend([53, 1, 5, 255]);
    let dhcp = |from: u16, to: u16| {
        let udp = UdpRepr { src_port: from, dst_port: to };
        let head = EthernetRepr { ethertype: 0x0800, ..eth(mac(1), 3, None) };
        written(|out| build_udp(out, &head, ip4(3).into(), ip4(500).into(), udp, &bootp).unwrap())
    };
    for (from, to) in [(67, 69), (66, 68), (1068, 67)] {
        assert_eq!(net.send("p2", &[dhcp(from, to)]).keys().collect::<Vec<_>>(), ["p1"]);
    }
    assert!(bridge(&mut net).hosts.get(0, ip4(500).into()).is_none());
    assert_eq!(net.send("p2", &[dhcp(67, 68)]).keys().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(bridge(&mut net).hosts.get(0, ip4(500).into()).map(|host| host.mac), Some(mac(1)));
    net.finish();
}

/// What is too much for the slow path is flooded as without suppression: nothing is lost.
#[test]
fn a_storm_of_requests_is_bounded() {
    let mut net = Net::new(&config(ON));
    let vx = net.port("vx");
    know_host(&mut net, 2, vx, 0);
    send(&mut net, &request(1, 2));
    let storm: Vec<_> = (0..2000).map(|_| request(1, 2)).collect();
    let out = net.send("p1", &storm);
    let (answered, flooded) = (out["p1"].len(), out["up"].len());
    assert_eq!(answered + flooded, 2000);
    assert!(answered >= 10 && flooded > 1000, "{answered} answered");
    assert_eq!(out["p2"].len(), 2000);
    net.finish();
}

/// 200 hosts on either side, each of which looks for five of the others: ARP frames on the underlay.
#[test]
fn a_lan_of_200_hosts_does_not_flood() {
    let count = |other_config: &str| {
        let mut net = Net::new(&config(other_config));
        let vx = net.port("vx");
        for n in 1..=200 {
            know_host(&mut net, 1000 + n, vx, 0);
        }
        let mut frames = 0;
        for n in 1..=200 {
            for other in 0..5 {
                let out = net.send("p1", &[request(n, 1001 + (n + other * 37) % 200)]);
                frames += out.get("up").map_or(0, Vec::len);
                // Their port's rate.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        net.finish();
        frames
    };
    let (without, with) = (count(""), count(ON));
    println!(
        "ARP frames on the underlay for 1000 requests of 200 hosts: {without} without suppression, {with} with it"
    );
    assert_eq!(without, 1000);
    assert!(with < 10, "{with} frames");
}
