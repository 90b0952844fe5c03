//! Stages have fast paths and general ones. Whatever is in a burst, what leaves by the fast paths is what leaves by the
//! general ones.
#![allow(clippy::format_push_string, reason = "a configuration file is put together line by line")]

mod rings;

use rings::{Net, arp_answer, mac, udp};
use std::net::{IpAddr, Ipv4Addr};
use wire::addr::MacAddr;
use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::{HeaderOptions, vxlan};

const OWN_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// Two host ports and three tunnels with the given options each.
fn config(options: &str) -> String {
    let mut text = String::from("[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\n");
    for port in ["p1", "p2"] {
        text += &format!(
            "[[bridge.port]]\nname = \"{port}\"\ntype = \"dpdk\"\nmtu = 1500\noptions = {{ dpdk-devargs = \"net_ring_{port}\" }}\n"
        );
    }
    for n in 0..3 {
        text += &format!(
            "[[bridge.port]]\nname = \"vx{n}\"\ntype = \"vxlan\"\noptions = {{ remote_ip = \"192.168.1.{}\", key = {} {options} }}\n",
            n + 2,
            100 + n
        );
    }
    text += "[[bridge]]\nname = \"br-phy\"\nhwaddr = \"02:00:00:00:0a:01\"\naddress = [\"192.168.1.1/24\"]\nneighbour = [";
    for n in 2..5 {
        text += &format!("{{ ip = \"192.168.1.{n}\", mac = \"02:00:00:00:0a:0{n}\" }}, ");
    }
    text + "]\n[[bridge.port]]\nname = \"up\"\ntype = \"dpdk\"\nmtu = 1600\noptions = { dpdk-devargs = \"net_ring_up\" }\n"
}

/// How much of a packet rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// At nothing but the in-port.
    Nowhere,
    /// At the source MAC address, of all packets alike: one mask.
    AtOnePlace,
    /// At several, by several masks, but nothing that ordinary packets are not told apart by.
    AtSeveral,
}

/// Rules of the same effect.
fn rules(actions: &[(&str, &str)], looks: Looks) -> Vec<String> {
    let of = |(port, action): &(&str, &str)| {
        let any = format!("priority=1,in_port={port},actions={action}");
        let more: &[&str] = match looks {
            Looks::Nowhere => &[],
            Looks::AtOnePlace => &["dl_src=02:00:00:00:00:77"],
            Looks::AtSeveral => {
                &["udp,tp_dst=7", "tcp,tp_src=7", "ip,nw_dst=10.7.0.0/16", "dl_src=02:00:00:00:00:77"]
            }
        };
        let more = more.iter().map(|m| format!("priority=5,in_port={port},{m},actions={action}"));
        std::iter::once(any).chain(more).collect::<Vec<_>>()
    };
    actions.iter().flat_map(of).collect()
}

/// Rules that send the frames of [`frames`] several ways, by their last byte of the source MAC address.
fn by_source(port: &str, actions: &[&str], looks: Looks) -> Vec<String> {
    let of = |n: usize| {
        let action = actions[n % actions.len()];
        format!("priority=3,in_port={port},dl_src=02:00:00:00:00:{n:02x}/00:00:00:00:00:ff,actions={action}")
    };
    (0..256).map(of).chain(rules(&[(port, actions[0])], looks)).collect()
}

fn with_ip_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let header_len = usize::from(frame[14] & 0xf) * 4;
    let sum = wire::checksum::ipv4_header(&frame[14..14 + header_len]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Frames of every kind, numbered by their source MAC.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let plain = |n: u16, len: usize| {
        let mut frame = udp(1, 2, 1000 + n, 2000, n.into());
        // Bytes behind the IP packet: padding.
        frame.resize(len.max(46), 0xaa);
        frame
    };
    for n in 0..6 {
        frames.push(plain(n, 60));
    }
    for tos in [1, 2, 3, 0xb8, 0xbb] {
        let mut frame = plain(tos.into(), 60);
        frame[15] = tos;
        frames.push(with_ip_checksum(frame));
    }
    for ttl in [0, 1, 255] {
        let mut frame = plain(ttl.into(), 64);
        frame[22] = ttl;
        frames.push(with_ip_checksum(frame));
    }
    for (flags, fragment) in [(0x20, 0), (0x20, 9), (0, 9), (0x40, 0)] {
        let mut frame = plain(20, 80);
        (frame[20], frame[21]) = (flags, fragment);
        frames.push(with_ip_checksum(frame));
    }
    let mut tcp = plain(30, 90);
    tcp[23] = 6;
    tcp[16..18].copy_from_slice(&60u16.to_be_bytes());
    (tcp[46], tcp[47]) = (0x50, 0x12);
    frames.push(with_ip_checksum(tcp.clone()));
    // TCP that is cut off: the IP packet is too short for its header.
    tcp[16..18].copy_from_slice(&32u16.to_be_bytes());
    frames.push(with_ip_checksum(tcp));
    // IP options.
    let mut options = plain(31, 80);
    options[14] = 0x46;
    options.splice(34..34, [1, 1, 1, 0]);
    options[16..18].copy_from_slice(&36u16.to_be_bytes());
    frames.push(with_ip_checksum(options));
    // Lengths that lie, other protocols, ARP, 802.3, tags.
    for (at, value) in [(17, 0xff), (17, 10), (14, 0x65), (23, 1), (23, 132), (13, 6), (12, 0), (12, 0x86)] {
        let mut frame = plain(40 + at as u16, 70);
        frame[at] = value;
        frames.push(frame);
    }
    for tags in [&[0x81u8, 0, 0, 10][..], &[0x88, 0xa8, 0, 20, 0x81, 0, 0x20, 10], &[0x81, 0, 0xff, 0xff]] {
        let mut frame = plain(50, 70);
        frame.splice(12..12, tags.iter().copied());
        frames.push(frame);
    }
    // IPv6, with ECN, and one that ends early.
    for class in [0u8, 1, 3, 0x4a] {
        let mut frame = [mac(1).0, mac(2).0].concat();
        frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, class, 0, 16, 17, 63]);
        frame.extend((0..32).map(|n| n ^ class));
        frame.extend([0, 9, 0, 7, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        frames.push(frame.clone());
        frame.truncate(40);
        frames.push(frame);
    }
    // Every length of an ordinary frame.
    frames.extend((14..75).map(|len| plain(60, 75)[..len].to_vec()));
    frames.push(plain(61, 1500));
    // Beyond the uplink's and the host port's MTU.
    frames.push(plain(62, 1570));
    for (n, frame) in frames.iter_mut().enumerate() {
        frame[10..12].copy_from_slice(&(n as u16).to_be_bytes());
    }
    // Too short to be a frame at all.
    frames.push(vec![2, 0, 0, 0, 0, 1, 2]);
    frames
}

fn tunnelled(vni: u32, src: IpAddr, tos: u8, trailing: usize, inner: &[u8]) -> Vec<u8> {
    let spec = EncapSpec {
        eth_src: MacAddr([2, 0, 0, 0, 0x0a, 2]),
        eth_dst: MacAddr([2, 0, 0, 0, 0x0a, 1]),
        vlan_tci: None,
        addrs: EncapAddrs::new(src, OWN_IP.into()).unwrap(),
        df: vni.is_multiple_of(2),
        udp_dst: 4789,
        format: &vxlan::FORMAT,
        options: HeaderOptions::NONE,
    };
    let template = EncapTemplate::new(&spec);
    let mut packet = vec![0; template.header_len()];
    let patch = EncapPatch { src_port: 50_000, vni, tos, ttl: 64, ..EncapPatch::default() };
    template.write(&mut packet, inner.len(), &patch).unwrap();
    packet.extend(inner);
    packet.resize(packet.len() + trailing, 0x77);
    packet
}

/// Everything that can be told apart from outside: frames by port, and what was counted.
#[derive(Debug, PartialEq)]
struct Outcome {
    out: Vec<(String, Vec<Vec<u8>>)>,
    ports: Vec<(String, [u64; 5])>,
    drops: Vec<(&'static str, u64)>,
}

/// What came out, and how many packets went without a key.
fn run(config: &str, rules: &[String], port: &str, bursts: &[Vec<Vec<u8>>], fast: bool) -> (Outcome, u64) {
    let mut net = if fast { Net::new(config) } else { Net::with_general_paths(config) };
    net.set_rules("br0", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let mut out: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    // Once to install megaflows, in an order that depends on how many there are; then to compare.
    for burst in bursts {
        net.send(port, burst);
    }
    for burst in bursts {
        out.extend(net.send(port, burst));
    }
    let names = ["p1", "p2", "vx0", "vx1", "vx2", "up"];
    let counts = |name: &str| {
        let c = net.counters.port(net.port(name));
        [&c.rx.packets, &c.rx.bytes, &c.tx.packets, &c.tx.bytes, c.tx_dropped]
            .map(datapath::counters::Counter::get)
    };
    let ports = names.map(|name| (name.to_owned(), counts(name))).to_vec();
    let reasons = flow::drop::DropReason::ALL.iter();
    let drops = reasons.map(|r| (r.name(), net.drops(*r))).filter(|(_, n)| *n > 0).collect();
    let no_key = net.counters.no_key_hits.get();
    net.finish();
    (Outcome { out, ports, drops }, no_key)
}

/// Fast and general paths, for rules that look at more and more; what came out with those that look nowhere.
fn compare(options: &str, actions: &[(&str, &str)], port: &str, bursts: &[Vec<Vec<u8>>]) -> Outcome {
    let outcomes = [Looks::Nowhere, Looks::AtOnePlace, Looks::AtSeveral].map(|looks| {
        let of = |fast| run(&config(options), &rules(actions, looks), port, bursts, fast);
        let (fast, general) = (of(true), of(false));
        assert!(fast.1 > 0, "{options} {looks:?}: packets without a key");
        assert_eq!(general.1, 0, "packets without a key");
        same(&fast.0, &general.0, &format!("{options} {actions:?} {looks:?}"));
        fast.0
    });
    let [nowhere, ..] = outcomes;
    nowhere
}

fn same(fast: &Outcome, general: &Outcome, of: &str) {
    for (n, (fast, general)) in fast.out.iter().zip(&general.out).enumerate() {
        assert_eq!(fast, general, "{of}: output {n}");
    }
    assert_eq!(fast, general, "{of}");
}

/// A burst that is whole, then each frame for itself, then bursts with one frame of a kind among ordinary ones.
fn bursts(frames: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
    let mut bursts: Vec<Vec<Vec<u8>>> = frames.chunks(32).map(<[_]>::to_vec).collect();
    bursts.extend(frames.iter().map(|frame| vec![frame.clone()]));
    bursts.extend(frames.iter().enumerate().map(|(at, odd)| {
        let mut burst = vec![frames[0].clone(); 6];
        // The first is what the others are compared with.
        burst[[0, 3, 5][at % 3]].clone_from(odd);
        burst
    }));
    bursts
}

#[test]
fn encapsulation_agrees() {
    for options in [
        "",
        r#", tos = "inherit", ttl = "inherit""#,
        r#", tos = "40", ttl = "9""#,
        r#", df_default = "false""#,
    ] {
        let outcome = compare(options, &[("p1", "output:vx0")], "p1", &bursts(&frames()));
        assert!(outcome.out.iter().all(|(port, _)| port == "up"));
        assert!(outcome.drops.iter().any(|(name, _)| *name == "mtu_exceeded"));
    }
}

#[test]
fn output_agrees() {
    compare("", &[("p1", "output:p2")], "p1", &bursts(&frames()));
}

/// Bursts whose packets go by several programs, all with cached headers, or not all.
#[test]
fn several_programs_in_a_burst_agree() {
    let frames = frames();
    let ordinary: Vec<Vec<u8>> = frames[..6].iter().cycle().take(600).cloned().collect();
    let numbered = ordinary.into_iter().enumerate().map(|(n, mut frame)| {
        frame[11] = n as u8;
        frame[35] = (n / 256) as u8;
        frame
    });
    let bursts =
        [bursts(&frames), numbered.collect::<Vec<_>>().chunks(32).map(<[_]>::to_vec).collect()].concat();
    for (options, actions) in [
        ("", &["output:vx0", "output:vx1", "output:vx2"][..]),
        (r#", tos = "inherit""#, &["output:vx0", "output:vx1", "output:vx2"]),
        ("", &["output:p2", "IN_PORT"]),
        ("", &["output:p2", "output:vx0", "output:vx1"]),
        ("", &["output:vx0", "drop", "output:vx1"]),
        ("", &["output:vx0", "mod_vlan_vid:7,output:p2"]),
    ] {
        for looks in [Looks::AtOnePlace, Looks::AtSeveral] {
            let rules = by_source("p1", actions, looks);
            let of = |fast| run(&config(options), &rules, "p1", &bursts, fast);
            let (fast, general) = (of(true), of(false));
            assert!(fast.1 > 0, "{actions:?} {looks:?}: no packets without a key");
            assert_eq!(general.1, 0, "{actions:?}: packets without a key");
            same(&fast.0, &general.0, &format!("{options} {actions:?} {looks:?}"));
        }
    }
}

#[test]
fn decapsulation_agrees() {
    let inner: Vec<Vec<u8>> = frames().into_iter().filter(|frame| frame.len() >= 14).collect();
    let peer = |n: usize| IpAddr::from([192, 168, 1, 2 + n as u8]);
    let mut packets = Vec::new();
    for (at, frame) in inner.iter().enumerate() {
        let n = at % 3;
        packets.push(tunnelled(100 + n as u32, peer(n), 0, 0, frame));
        packets.push(tunnelled(100, peer(0), [0, 1, 2, 3, 0xb8][at % 5], n * 3, frame));
    }
    // Unknown, broken, and not for us.
    packets.push(tunnelled(999, peer(0), 0, 0, &inner[0]));
    let mut broken = tunnelled(100, peer(0), 0, 0, &inner[0]);
    broken[25] ^= 1;
    packets.push(broken);
    packets.push(inner[0].clone());
    let bursts = bursts(&packets);
    for actions in [
        [("vx0", "output:p1"), ("vx1", "output:p2"), ("vx2", "output:p1")],
        [("vx0", "output:vx1"), ("vx1", "output:p1"), ("vx2", "output:vx0")],
    ] {
        compare("", &actions, "up", &bursts);
    }
}

/// Ordinary frames, numbered by the last byte of their source MAC address.
fn ordinary(count: usize) -> Vec<Vec<u8>> {
    let frame = |n: usize| {
        let mut frame = udp(1, 2, 1000, 2000, n as u32);
        frame.resize(60, 0);
        frame[11] = n as u8;
        frame
    };
    (0..count).map(frame).collect()
}

/// One remote, whose packets get the VNI that a rule sets: each of these rules has a header of its own.
#[test]
fn many_vnis_to_one_remote_in_a_burst_agree() {
    let config = config("").replace("key = 100", "key = \"flow\"");
    let actions = ["set_tunnel:5,output:vx0", "set_tunnel:6,output:vx0", "set_tunnel:0xfffffe,output:vx0"];
    let bursts: Vec<Vec<Vec<u8>>> = ordinary(2048).chunks(32).map(<[_]>::to_vec).collect();
    for looks in [Looks::AtOnePlace, Looks::AtSeveral] {
        let of = |fast| run(&config, &by_source("p1", &actions, looks), "p1", &bursts, fast);
        let (fast, general) = (of(true), of(false));
        assert!(fast.1 >= 256, "{looks:?}: {} packets without a key", fast.1);
        same(&fast.0, &general.0, &format!("{looks:?}"));
        let vnis: std::collections::BTreeSet<&[u8]> =
            fast.0.out.iter().flat_map(|(_, frames)| frames.iter().map(|frame| &frame[46..49])).collect();
        assert_eq!(vnis.into_iter().collect::<Vec<_>>(), [&[0, 0, 5][..], &[0, 0, 6], &[0xff, 0xff, 0xfe]]);
    }
}

/// Headers that are ready are made again when a neighbour moves, the one that moved and the others.
#[test]
fn headers_follow_a_neighbour_that_moves() {
    let config = config("");
    let (head, rest) = config.split_once("neighbour = [").unwrap();
    let (_, tail) = rest.split_once("]\n").unwrap();
    let other =
        "[[bridge.port]]\nname = \"up2\"\ntype = \"dpdk\"\noptions = { dpdk-devargs = \"net_ring_up2\" }\n";
    let mut net = Net::new(&format!("{head}{tail}{other}"));
    let rules = by_source("p1", &["output:vx0", "output:vx1", "output:vx2"], Looks::AtOnePlace);
    net.set_rules("br0", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let frames = ordinary(30);
    net.send("p1", &frames);
    net.send("up", &[arp_answer(2, 0x52), arp_answer(3, 0x53), arp_answer(4, 0x54)]);
    let mut macs = [0x52, 0x53, 0x54];
    for (moved, to) in [(0, 0x62), (1, 0x63), (1, 0x73)] {
        net.send("up", &[arp_answer(2 + moved as u8, to)]);
        macs[moved] = to;
        for _ in 0..3 {
            let out = net.send("p1", &frames);
            let found: Vec<u8> = out["up"].iter().map(|frame| frame[5]).collect();
            let expected: Vec<u8> = (0..30).map(|n| macs[n % 3]).collect();
            assert_eq!(found, expected, "after {moved} moved to {to:x}");
        }
    }
    let no_key = net.counters.no_key_hits.get();
    assert!(no_key >= 90, "{no_key} packets without a key");
    // One moves to another port: each packet of a burst leaves by its own.
    net.send("up2", &[arp_answer(3, 0x83)]);
    for _ in 0..3 {
        let out = net.send("p1", &frames);
        let found = |port: &str| out[port].iter().map(|frame| frame[5]).collect::<Vec<u8>>();
        assert_eq!((found("up"), found("up2")), ([macs[0], macs[2]].repeat(10), vec![0x83; 10]));
    }
    net.finish();
}
