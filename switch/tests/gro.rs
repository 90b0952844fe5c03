//! TCP segments that are coalesced (`options:gro`): what leaves a device without offloads are the segments that came, and one
//! with offloads gets large packets.

mod rings;

use proptest::prelude::*;
use proptest::test_runner::Config;
use rings::{Net, from_vtep, mac, udp};
use rte::offload::{TX_TCP_SEG, capability};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use wire::checksum;
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::encap::{EncapAddrs, EncapSpec, EncapTemplate};
use wire::tunnel::{HeaderOptions, geneve, gre};

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

/// A host, another one, and hosts behind tunnels. All ports that receive coalesce, or none.
fn config(gro: bool) -> String {
    format!(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
options = {{ dpdk-devargs = "net_ring_p1", gro = {gro} }}
[[bridge.port]]
name = "p2"
type = "dpdk"
options = {{ dpdk-devargs = "net_ring_p2" }}
[[bridge.port]]
name = "vx0"
type = "vxlan"
options = {{ remote_ip = "192.168.1.2", key = 100 }}
[[bridge.port]]
name = "gn"
type = "geneve"
options = {{ remote_ip = "192.168.1.2", key = 100 }}
[[bridge.port]]
name = "gre"
type = "gre"
options = {{ remote_ip = "192.168.1.2", key = 100 }}
[[bridge.port]]
name = "vx6"
type = "vxlan"
options = {{ remote_ip = "2001:db8::2", key = 106 }}
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "2001:db8::1/64"]
neighbour = [{{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }}, {{ ip = "2001:db8::2", mac = "02:00:00:00:0a:02" }}]
[[bridge.port]]
name = "up"
type = "dpdk"
mtu = 1700
options = {{ dpdk-devargs = "net_ring_up", gro = {gro} }}
"#
    )
}

/// One segment, as it shall be.
#[derive(Debug, Clone)]
struct Spec {
    connection: u8,
    is_ipv6: bool,
    tag: Option<u16>,
    seq: u32,
    ack: u32,
    flags: u8,
    id: u16,
    ttl: u8,
    /// Bytes of TCP options, a multiple of 4.
    options: usize,
    payload: usize,
}

impl Spec {
    fn new(connection: u8, is_ipv6: bool) -> Spec {
        Spec {
            connection,
            is_ipv6,
            tag: None,
            seq: u32::MAX - 2000,
            ack: 7,
            flags: ACK,
            id: u16::MAX - 3,
            ttl: 64,
            options: 12,
            payload: 1000,
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mut out = [mac(2).0, mac(1).0].concat();
        if let Some(tag) = self.tag {
            out.extend([0x81, 0]);
            out.extend(tag.to_be_bytes());
        }
        let len = 20 + self.options + self.payload;
        let mut tcp = Vec::new();
        tcp.extend(u16::from(self.connection).to_be_bytes());
        tcp.extend(80_u16.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([((20 + self.options) / 4 * 16) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(std::iter::repeat_n(1, self.options));
        tcp.extend((0..self.payload).map(|n| (self.seq as usize + n) as u8));
        let pseudo = if self.is_ipv6 {
            let ip = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).octets();
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend((len as u16).to_be_bytes());
            out.extend([6, self.ttl]);
            out.extend(ip(1));
            out.extend(ip(2));
            checksum::pseudo_v6(&ip(1), &ip(2), 6, len as u32)
        } else {
            let ip = |n: u8| Ipv4Addr::new(10, 0, 0, n).octets();
            out.extend([8, 0]);
            let start = out.len();
            out.extend([0x45, 0]);
            out.extend((20 + len as u16).to_be_bytes());
            out.extend(self.id.to_be_bytes());
            out.extend([0x40, 0, self.ttl, 6, 0, 0]);
            out.extend(ip(1));
            out.extend(ip(2));
            let sum = checksum::ipv4_header(&out[start..]);
            out[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
            checksum::pseudo_v4(ip(1), ip(2), 6, len as u16)
        };
        let sum = checksum::l4(pseudo, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        out.extend(tcp);
        out
    }

    /// The segment behind this one.
    fn next(&self, payload: usize) -> Spec {
        let seq = self.seq.wrapping_add(self.payload as u32);
        Spec { seq, id: self.id.wrapping_add(1), payload, ..self.clone() }
    }
}

/// So many full segments of one connection.
fn stream(first: Spec, count: usize) -> Vec<Vec<u8>> {
    std::iter::successors(Some(first), |last| Some(last.next(last.payload)))
        .take(count)
        .map(|spec| spec.frame())
        .collect()
}

/// The frame in a tunnel packet from the peer, by the tunnel's name.
fn tunnelled(tunnel: &str, inner: &[u8], n: u16) -> Vec<u8> {
    let (format, src, dst, csum, vni) = match tunnel {
        "vx0" => return from_vtep(100, Ipv4Addr::new(192, 168, 1, 2), 0, inner),
        "gn" => (&geneve::FORMAT, "192.168.1.2", "192.168.1.1", true, 100),
        "gre" => (&gre::FORMAT, "192.168.1.2", "192.168.1.1", false, 100),
        _ => (&wire::tunnel::vxlan::FORMAT, "2001:db8::2", "2001:db8::1", true, 106),
    };
    let spec = EncapSpec {
        eth_src: wire::addr::MacAddr([2, 0, 0, 0, 0x0a, 2]),
        eth_dst: wire::addr::MacAddr([2, 0, 0, 0, 0x0a, 1]),
        vlan_tci: None,
        addrs: EncapAddrs::new(src.parse().unwrap(), dst.parse().unwrap()).expect("one family"),
        df: false,
        udp_dst: if tunnel == "gn" { 6081 } else { 4789 },
        format,
        options: HeaderOptions { csum, key: tunnel == "gre", ..HeaderOptions::NONE },
    };
    let template = EncapTemplate::new(&spec);
    let mut packet = vec![0; template.header_len()];
    let patch = EncapPatch { src_port: 50_000, vni, ttl: 64, ip_id: n, ..EncapPatch::default() };
    template.write(&mut packet, inner.len(), &patch).expect("room");
    packet.extend(inner);
    if csum {
        template.fill_checksum(&mut packet).expect("a whole packet");
    }
    packet
}

#[test]
fn a_burst_of_segments_becomes_one_large_packet() {
    for is_ipv6 in [false, true] {
        for tunnel in [None, Some("vx0"), Some("gn"), Some("gre"), Some("vx6")] {
            let mut net = Net::with_offloads(&config(true), capability::ALL);
            let from = if tunnel.is_some() { "up" } else { "p1" };
            let frames = stream(Spec::new(9, is_ipv6), 20);
            // Known before, so that nothing waits for a decision.
            net.put(from, &tunnel.map_or(frames[0].clone(), |tunnel| tunnelled(tunnel, &frames[0], 0)));
            net.run();
            net.take_all("p2");
            for (n, frame) in frames.iter().enumerate() {
                let packet = tunnel.map_or(frame.clone(), |tunnel| tunnelled(tunnel, frame, n as u16));
                net.put(from, &packet);
            }
            net.run();
            let (large, flags, lengths) = net.take_asking("p2").expect("a packet");
            assert!(net.take("p2").is_none(), "{tunnel:?}: one packet only");
            assert_ne!(flags & TX_TCP_SEG, 0);
            assert_eq!((usize::from(lengths.segment_size), usize::from(lengths.l2_len)), (1000, 14));
            let header = frames[0].len() - 1000;
            assert_eq!(large.len(), header + 20 * 1000);
            let payload: Vec<u8> = frames.iter().flat_map(|frame| &frame[header..]).copied().collect();
            assert!(large[header..] == payload);
            assert_eq!(net.counters.merged.get(), 19);
            net.finish();
        }
    }
}

#[test]
fn ports_that_are_not_told_to_coalesce_nothing() {
    let mut net = Net::with_offloads(&config(false), capability::ALL);
    let frames = stream(Spec::new(9, false), 20);
    assert!(net.send("p1", &frames)["p2"] == frames);
    assert_eq!(net.counters.merged.get(), 0);
    net.finish();
}

#[test]
fn nothing_gets_in_front_of_another_packet_of_its_connection() {
    let first = Spec::new(9, false);
    let second = first.next(1000);
    let third = Spec { flags: ACK | FIN, ..second.next(1000) };
    let fourth = Spec { flags: ACK, ..third.next(1000) };
    let other = Spec::new(10, false);
    let mut net = Net::with_offloads(&config(true), capability::ALL);
    let specs = [&first, &other, &second, &third, &fourth];
    let frames: Vec<Vec<u8>> = specs.iter().map(|spec| spec.frame()).collect();
    let mut out = net.send("p1", &frames).remove("p2").expect("packets");
    // The other connection waits for a decision of its own.
    out.retain(|frame| frame != &frames[1]);
    assert_eq!(out.len(), 3, "the FIN is alone, and so is what is behind it");
    assert_eq!(out[0].len(), frames[0].len() + 1000);
    assert!(out[1] == frames[3] && out[2] == frames[4]);
    net.finish();
}

/// What is done to a segment of a stream.
#[derive(Debug, Clone, Copy)]
enum Twist {
    Plain,
    Short(usize),
    Push,
    Fin,
    Pure,
    Again,
    Skip,
    OtherAck,
    OtherTtl,
    OtherOptions,
    IdJump,
    BadChecksum,
    BadHeaderChecksum,
    Padded,
    Other,
}

fn twist() -> impl Strategy<Value = Twist> {
    use Twist::{
        Again, BadChecksum, BadHeaderChecksum, Fin, IdJump, Other, OtherAck, OtherOptions, OtherTtl, Padded,
        Plain, Pure, Push, Short, Skip,
    };
    prop_oneof![
        12 => Just(Plain),
        1 => (1..900_usize).prop_map(Short),
        1 => prop_oneof![Just(Push), Just(Fin), Just(Pure), Just(Again), Just(Skip), Just(OtherAck), Just(OtherTtl)],
        1 => prop_oneof![Just(OtherOptions), Just(IdJump), Just(BadChecksum), Just(BadHeaderChecksum), Just(Padded), Just(Other)],
    ]
}

/// The frames of some connections, each a stream with twists.
fn frames(steps: &[(u8, Twist)]) -> Vec<(u8, Vec<u8>)> {
    let start = |n: u8| Spec { tag: (n == 3).then_some(5), ..Spec::new(n, n % 2 == 1) };
    let mut specs: Vec<Spec> = (0..4).map(start).collect();
    let mut out = Vec::new();
    for (n, &(connection, twist)) in steps.iter().enumerate() {
        let spec = &mut specs[usize::from(connection)];
        let mut this = spec.clone();
        match twist {
            Twist::Short(payload) => this.payload = payload,
            Twist::Push => this.flags |= PSH,
            Twist::Fin => this.flags |= FIN,
            Twist::Pure => this.payload = 0,
            Twist::OtherAck => this.ack += 1,
            Twist::OtherTtl => this.ttl = 63,
            Twist::OtherOptions => this.options = 20,
            Twist::IdJump => this.id = this.id.wrapping_add(100),
            Twist::Skip => this.seq = this.seq.wrapping_add(10_000),
            _ => {}
        }
        let mut frame = if matches!(twist, Twist::Other) {
            udp(2, 1, connection.into(), 80, n as u32)
        } else {
            this.frame()
        };
        match twist {
            Twist::BadChecksum => *frame.last_mut().expect("bytes") ^= 1,
            Twist::BadHeaderChecksum if !this.is_ipv6 => frame[24] ^= 1,
            Twist::Padded => frame.extend([0; 3]),
            _ => {}
        }
        out.push((connection, frame));
        if !matches!(twist, Twist::Again | Twist::Other) {
            *spec = Spec { flags: ACK, options: 12, ttl: 64, ..this.next(1000) };
        }
    }
    out
}

/// Which connection a frame is of.
fn connection(frame: &[u8]) -> Vec<u8> {
    let l3 = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    let l4 = l3 + if frame[l3] >> 4 == 4 { 20 } else { 40 };
    let protocol = if frame[l3] >> 4 == 4 { frame[l3 + 9] } else { frame[l3 + 6] };
    [&frame[..14], &frame[l4..l4 + 2], &[protocol]].concat()
}

/// The frames of each connection, in order.
fn by_connection(frames: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut out: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for frame in frames {
        out.entry(connection(&frame)).or_default().push(frame);
    }
    out
}

proptest! {
    #![proptest_config(Config { cases: 60, failure_persistence: None, ..Config::default() })]
    #[test]
    fn what_is_coalesced_is_divided_into_the_same_segments(
        steps in prop::collection::vec((0..4_u8, twist()), 1..60),
        tunnel in prop::sample::select(vec!["", "vx0", "gn", "gre", "vx6"]),
    ) {
        let sent = frames(&steps);
        let mut net = Net::with(&config(true), &rings::Setup::default());
        for (n, (_, frame)) in sent.iter().enumerate() {
            if tunnel.is_empty() {
                net.put("p1", frame);
            } else {
                net.put("up", &tunnelled(tunnel, frame, n as u16));
            }
        }
        net.run();
        let got = by_connection(net.take_all("p2"));
        prop_assert!(got == by_connection(sent.into_iter().map(|(_, frame)| frame)));
        net.finish();
    }
}
