//! Packets that leave checksums and segmentation to a device, through the switch: what leaves is what would have left if
//! somebody had completed them before they came in. The reference completes by hand, field by field.

mod rings;

use flow::drop::DropReason;
use rings::Net;
use rte::offload::{
    TX_IPV4, TX_IPV6, TX_L4_MASK, TX_OUTER_IPV4, TX_OUTER_IPV6, TX_OUTER_UDP_CKSUM, TX_REQUESTS,
    TX_TCP_CKSUM, TX_TCP_SEG, TX_TUNNEL_GRE, TX_TUNNEL_MASK, TX_TUNNEL_VXLAN, TX_UDP_CKSUM, TX_UDP_SEG,
    TxOffload, capability,
};
use std::collections::BTreeMap;

const CONFIG: &str = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_ring_p1" }
[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "net_ring_p2" }
[[bridge.port]]
name = "vx0"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
[[bridge.port]]
name = "vxc"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 101, csum = "true", df_default = "false" }
[[bridge.port]]
name = "vx6"
type = "vxlan"
options = { remote_ip = "2001:db8::2", key = 102 }
[[bridge.port]]
name = "gn"
type = "geneve"
options = { remote_ip = "192.168.1.2", key = 103 }
[[bridge.port]]
name = "gre"
type = "gre"
options = { remote_ip = "192.168.1.2", key = 104, df_default = "false" }
[[bridge.port]]
name = "grec"
type = "gre"
options = { remote_ip = "192.168.1.2", key = 105, csum = "true" }
[[bridge.port]]
name = "gres"
type = "gre"
options = { remote_ip = "192.168.1.2", key = 106, seq = "true" }
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "2001:db8::1/64"]
neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }, { ip = "2001:db8::2", mac = "02:00:00:00:0a:02" }]
[[bridge.port]]
name = "up"
type = "dpdk"
mtu = 1700
options = { dpdk-devargs = "net_ring_up" }
"#;

type Asked = (u64, TxOffload);

/// A frame and what it asks.
#[derive(Clone, Debug)]
struct Packet {
    bytes: Vec<u8>,
    asked: Asked,
}

/// xorshift: the same packets every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Sum in ones' complement, word by word.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Bytes of the pseudo header for what the IP header at `l3` carries.
fn pseudo_header(packet: &[u8], l3: usize, protocol: u8, len: usize) -> Vec<u8> {
    let addresses = if packet[l3] >> 4 == 4 { &packet[l3 + 12..l3 + 20] } else { &packet[l3 + 8..l3 + 40] };
    let mut bytes = addresses.to_vec();
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// Sets the lengths, the identification and the header checksum of the IP header at `l3`.
fn set_ip(packet: &mut [u8], l3: usize, index: usize) {
    let len = packet.len() - l3;
    if packet[l3] >> 4 == 6 {
        return put16(packet, l3 + 4, (len - 40) as u16);
    }
    put16(packet, l3 + 2, len as u16);
    let id = be16(packet, l3 + 4).wrapping_add(index as u16);
    put16(packet, l3 + 4, id);
    put16(packet, l3 + 10, 0);
    let checksum = !sum(&packet[l3..l3 + 20]);
    put16(packet, l3 + 10, checksum);
}

/// Computes the TCP or UDP checksum from nothing.
fn set_transport(packet: &mut [u8], l3: usize, l4: usize, protocol: u8) {
    let field = if protocol == 6 { l4 + 16 } else { l4 + 6 };
    put16(packet, field, 0);
    let mut covered = pseudo_header(packet, l3, protocol, packet.len() - l4);
    covered.extend(&packet[l4..]);
    let checksum = match !sum(&covered) {
        0 => 0xffff,
        checksum => checksum,
    };
    put16(packet, field, checksum);
}

/// The frames that a packet stands for.
fn completed(packet: &Packet) -> Vec<Vec<u8>> {
    let (flags, lengths) = packet.asked;
    if flags & TX_REQUESTS == 0 {
        return vec![packet.bytes.clone()];
    }
    if flags & TX_TUNNEL_MASK != 0 {
        return completed_in_tunnel(packet);
    }
    let l3 = usize::from(lengths.l2_len);
    let l4 = l3 + usize::from(lengths.l3_len);
    let is_tcp = flags & TX_L4_MASK == TX_TCP_CKSUM;
    let is_large = flags & (TX_TCP_SEG | TX_UDP_SEG) != 0;
    let payload_at = l4 + usize::from(lengths.l4_len);
    let (header, payload) = packet.bytes.split_at(payload_at);
    let size = if is_large { usize::from(lengths.segment_size) } else { payload.len().max(1) };
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let mut out = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        let mut segment = [header, piece].concat();
        if is_large {
            set_ip(&mut segment, l3, index);
            if is_tcp {
                let at = l4 + 4;
                let seq = u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
                let seq = seq.wrapping_add((index * size) as u32);
                segment[at..at + 4].copy_from_slice(&seq.to_be_bytes());
                if index != last {
                    segment[l4 + 13] &= !0x09;
                }
                if index != 0 {
                    segment[l4 + 13] &= !0x80;
                }
            } else {
                put16(&mut segment, l4 + 4, (8 + piece.len()) as u16);
            }
        }
        set_transport(&mut segment, l3, l4, if is_tcp { 6 } else { 17 });
        out.push(segment);
    }
    out
}

fn completed_in_tunnel(packet: &Packet) -> Vec<Vec<u8>> {
    let (flags, lengths) = packet.asked;
    let l3 = usize::from(lengths.outer_l2_len);
    let l4 = l3 + usize::from(lengths.outer_l3_len);
    let bytes = &packet.bytes;
    let header_len = if flags & TX_TUNNEL_MASK == TX_TUNNEL_GRE {
        4 + 4
            * (usize::from(bytes[l4] >> 7)
                + usize::from(bytes[l4] >> 5 & 1)
                + usize::from(bytes[l4] >> 4 & 1))
    } else {
        16
    };
    let start = l4 + header_len;
    let inner = Packet {
        bytes: bytes[start..].to_vec(),
        asked: (
            flags & !(TX_TUNNEL_MASK | TX_OUTER_UDP_CKSUM | TX_OUTER_IPV4 | TX_OUTER_IPV6),
            TxOffload {
                l2_len: lengths.l2_len - header_len as u8,
                outer_l2_len: 0,
                outer_l3_len: 0,
                ..lengths
            },
        ),
    };
    let frames = completed(&inner);
    frames
        .into_iter()
        .enumerate()
        .map(|(index, frame)| {
            let mut whole = [&bytes[..start], &frame].concat();
            if flags & (TX_TCP_SEG | TX_UDP_SEG) != 0 {
                set_ip(&mut whole, l3, index);
            }
            let len = whole.len() - l4;
            if flags & TX_TUNNEL_MASK != TX_TUNNEL_GRE {
                put16(&mut whole, l4 + 4, len as u16);
                if flags & TX_OUTER_UDP_CKSUM != 0 {
                    set_transport(&mut whole, l3, l4, 17);
                }
            } else if whole[l4] & 0x80 != 0 {
                put16(&mut whole, l4 + 4, 0);
                let checksum = !sum(&whole[l4..]);
                put16(&mut whole, l4 + 4, checksum);
            }
            whole
        })
        .collect()
}

/// A packet of random kind that asks for a checksum, or for that and segmentation.
fn random(random: &mut Random) -> Packet {
    let (is_tcp, is_ipv4, is_tagged) = (random.yes(), random.yes(), random.yes());
    let is_large = random.below(4) != 0;
    let size = 1 + random.below(1380);
    let payload = if is_large { size + random.below(9 * size) } else { random.below(1400) }.max(1);
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if is_tagged {
        bytes.extend([0x81, 0, 0, 9]);
    }
    bytes.extend(if is_ipv4 { [8, 0] } else { [0x86, 0xdd] });
    let l3 = bytes.len();
    let (l4_len, protocol) = if is_tcp { (20 + 4 * random.below(4), 6) } else { (8, 17) };
    let transport = l4_len + payload;
    if is_ipv4 {
        let id = random.below(0x1_0000) as u16;
        bytes.extend([0x45, 0x02]);
        bytes.extend(((20 + transport) as u16).to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes.extend([0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = !sum(&bytes[l3..]);
        put16(&mut bytes, l3 + 10, checksum);
    } else {
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend((transport as u16).to_be_bytes());
        bytes.extend([protocol, 64]);
        for end in [1, 2] {
            bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
        }
    }
    let l4 = bytes.len();
    bytes.extend([(1000 + random.below(5)) as u16, 2000].iter().flat_map(|port| port.to_be_bytes()));
    if is_tcp {
        bytes.extend((random.below(usize::MAX) as u32).to_be_bytes());
        bytes.extend([0, 0, 0, 7, (l4_len as u8 / 4) << 4, 0x10 | random.below(256) as u8 & 0x89, 0x10, 0]);
        bytes.extend([0; 4]);
        bytes.resize(l4 + l4_len, 1);
    } else {
        bytes.extend((transport as u16).to_be_bytes());
        bytes.extend([0, 0]);
    }
    let salt = random.below(251);
    bytes.extend((0..payload).map(|at| (at * 7 + salt) as u8));
    let partial = sum(&pseudo_header(&bytes, l3, protocol, transport));
    put16(&mut bytes, if is_tcp { l4 + 16 } else { l4 + 6 }, partial);
    let flags = if is_tcp { TX_TCP_CKSUM } else { TX_UDP_CKSUM }
        | if is_ipv4 { TX_IPV4 } else { TX_IPV6 }
        | if !is_large {
            0
        } else if is_tcp {
            TX_TCP_SEG
        } else {
            TX_UDP_SEG
        };
    let lengths = TxOffload {
        l2_len: l3 as u8,
        l3_len: (l4 - l3) as u16,
        l4_len: l4_len as u8,
        segment_size: if is_large { size as u16 } else { 0 },
        ..TxOffload::default()
    };
    Packet { bytes, asked: (flags, lengths) }
}

/// The packet inside VXLAN from the peer, to VNI 100; with an outer checksum or without.
fn in_vxlan(inner: &Packet, csum: bool) -> Packet {
    let (flags, lengths) = inner.asked;
    let mut bytes = vec![2, 0, 0, 0, 0x0a, 1, 2, 0, 0, 0, 0x0a, 2, 8, 0];
    let len = inner.bytes.len() as u16;
    bytes.extend([0x45, 0]);
    bytes.extend((len + 36).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 1, 2, 192, 168, 1, 1]);
    let checksum = !sum(&bytes[14..34]);
    put16(&mut bytes, 24, checksum);
    bytes.extend([0xc0, 7, 0x12, 0xb5]);
    bytes.extend((len + 16).to_be_bytes());
    bytes.extend([0, 0, 8, 0, 0, 0, 0, 0, if csum { 101 } else { 100 }, 0]);
    if csum {
        let partial = sum(&pseudo_header(&bytes, 14, 17, usize::from(len) + 16));
        put16(&mut bytes, 40, partial);
    }
    bytes.extend(&inner.bytes);
    let lengths = TxOffload { outer_l2_len: 14, outer_l3_len: 20, l2_len: lengths.l2_len + 16, ..lengths };
    let outer = if csum { TX_OUTER_UDP_CKSUM } else { 0 };
    Packet { bytes, asked: (flags | TX_TUNNEL_VXLAN | TX_OUTER_IPV4 | outer, lengths) }
}

type Out = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// Identifications of outer headers with DF are as good as any: they become 0. So do `all` where packets of tunnels without
/// DF, which share a count, come in another order.
fn without_ids(frame: &[u8], all: bool) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12..15] == [8, 0, 0x45] && (all || frame[20] & 0x40 != 0) && frame[26..29] == [192, 168, 1] {
        put16(&mut frame, 18, 0);
        put16(&mut frame, 24, 0);
        let checksum = !sum(&frame[14..34]);
        put16(&mut frame, 24, checksum);
    }
    frame
}

/// What tells the packets of one tunnel from those of others: EtherType, protocol, VNI or key.
fn tunnel_of(frame: &[u8]) -> Vec<u8> {
    let l3 = 14;
    let l4 = if frame[12..14] == [8, 0] { l3 + 20 } else { l3 + 40 };
    if frame.len() < l4 + 16 || frame[6..12] != [2, 0, 0, 0, 0x0a, 1] {
        return Vec::new();
    }
    let is_gre = l4 == 34 && frame[23] == 47;
    let id = if is_gre { &frame[l4..l4 + 2] } else { &frame[l4 + 12..l4 + 16] };
    [&frame[12..14], &frame[l4 + 2..l4 + 4], id].concat()
}

/// What left, completed by the reference.
fn taken(net: &mut Net, large: &mut usize, without_all_ids: bool) -> Out {
    let mut out = Out::new();
    for port in ["p1", "p2", "up"] {
        while let Some((bytes, flags, lengths)) = net.take_asking(port) {
            *large += usize::from(flags & (TX_TCP_SEG | TX_UDP_SEG) != 0);
            let frames = completed(&Packet { bytes, asked: (flags, lengths) });
            out.entry(port)
                .or_default()
                .extend(frames.iter().map(|frame| without_ids(frame, without_all_ids)));
        }
    }
    out
}

/// Sends packets twice, as they are or completed before: the first time nobody knows the flows. Gives what left, and how
/// many large packets were among it.
fn run(port: &str, packets: &[Packet], rule: &str, offloads: u64, before: bool) -> (Out, usize) {
    let mut net = Net::with_offloads(CONFIG, offloads);
    net.set_rules("br0", &[rule, "priority=0,actions=drop"]);
    let (mut out, mut large) = (Out::new(), 0);
    for turn in 0..2 {
        for (number, packet) in packets.iter().enumerate() {
            if before {
                for frame in completed(packet) {
                    net.put_chain(port, &frame, &[]);
                }
            } else {
                // All headers are in the first piece.
                let step = 700 + number * 13;
                let cuts: Vec<usize> = (200 + number * 5..packet.bytes.len()).step_by(step).collect();
                net.put_asking(port, &packet.bytes, &cuts, packet.asked);
            }
            if (number + turn) % 3 == 0 {
                net.run();
            }
        }
        net.run();
        for (port, frames) in taken(&mut net, &mut large, rule.ends_with("NORMAL")) {
            out.entry(port).or_default().extend(frames);
        }
    }
    // A large packet floods whole: between tunnels, segments and copies come in another order.
    for frames in out.values_mut() {
        frames.sort_by_key(|frame| tunnel_of(frame));
    }
    for reason in DropReason::ALL.iter().filter(|reason| net.drops(**reason) > 0) {
        eprintln!("{rule} {offloads:#x} {before}: {} {}", reason.name(), net.drops(*reason));
    }
    net.finish();
    (out, large)
}

/// The least that a rule has to match for the actions to be accepted.
fn match_for(actions: &str) -> &'static str {
    if actions.contains("mod_tp") {
        "tcp,"
    } else if actions.contains("ipv6") {
        "ipv6,"
    } else if actions.contains("nw_") || actions.contains("dec_ttl") {
        "ip,"
    } else {
        ""
    }
}

const ACTIONS: [&str; 18] = [
    "output:p2",
    "NORMAL",
    "mod_vlan_vid:7,output:p2",
    "strip_vlan,output:p2,mod_vlan_vid:8,output:vx0",
    "mod_nw_src:10.9.9.9,mod_nw_dst:10.8.8.8,output:p2",
    "set_field:fd00::77->ipv6_src,output:vx0",
    "mod_tp_src:99,mod_tp_dst:98,mod_nw_src:10.1.2.3,output:p2,output:vxc",
    "dec_ttl,mod_nw_tos:40,output:p2",
    "output:vx0",
    "output:vxc",
    "output:vx6",
    "output:gn",
    "output:gre",
    "output:grec",
    "output:gres",
    "output:p2,output:vx0,output:vxc,output:gres,output:gn",
    "push_vlan:0x8100,mod_vlan_vid:3,output:vx0,strip_vlan,output:p2",
    "mod_dl_src:02:00:00:00:00:99,output:vx6,output:grec",
];

const NO_TUNNELS: u64 = capability::TCP_CKSUM
    | capability::UDP_CKSUM
    | capability::TCP_TSO
    | capability::UDP_TSO
    | capability::MULTI_SEGS;
const CHECKSUMS: u64 = capability::TCP_CKSUM | capability::MULTI_SEGS;

#[test]
fn what_leaves_is_what_would_have_left_without_offloads() {
    let mut seen = 0;
    for (number, actions) in ACTIONS.into_iter().enumerate() {
        for looks in ["", "nw_ttl=64,"] {
            let least = match_for(actions);
            if looks.starts_with("nw") && !matches!(least, "ip," | "tcp,") {
                continue;
            }
            let mut source = Random(0x9e37_79b9_7f4a_7c15 ^ (number as u64) << 7);
            let packets: Vec<Packet> = (0..12).map(|_| random(&mut source)).collect();
            let rule = format!("priority=5,{least}{looks}in_port=p1,actions={actions}");
            let (expected, large) = run("p1", &packets, &rule, capability::MULTI_SEGS, true);
            assert!(!expected.is_empty() && large == 0);
            for offloads in [0, CHECKSUMS, NO_TUNNELS, capability::ALL] {
                let (out, large) = run("p1", &packets, &rule, offloads, false);
                assert!(out == expected, "{rule}: {offloads:#x}: {}", difference(&out, &expected));
                assert!(large == 0 || offloads & capability::TCP_TSO != 0);
                seen += large;
            }
        }
    }
    assert!(seen > 100, "large packets leave where the port can divide them");
}

#[test]
fn what_comes_out_of_tunnels_leaves_as_without_offloads() {
    let mut seen = 0;
    for (number, actions) in ACTIONS.into_iter().enumerate() {
        let mut source = Random(0x1234_5678_9abc_def1 ^ (number as u64) << 9);
        let packets: Vec<Packet> = (0..12)
            .map(|n| in_vxlan(&random(&mut source), n % 3 == 0))
            .filter(|p| {
                // A tunnel packet that is not large has a complete outer checksum or none.
                p.asked.0 & TX_OUTER_UDP_CKSUM == 0 || p.asked.0 & (TX_TCP_SEG | TX_UDP_SEG) != 0
            })
            .collect();
        let actions = if actions == "NORMAL" { "output:p1" } else { actions };
        let rule = format!("priority=5,{}actions={actions}", match_for(actions));
        let (expected, _) = run("up", &packets, &rule, capability::MULTI_SEGS, true);
        assert!(!expected.is_empty());
        for offloads in [0, CHECKSUMS, NO_TUNNELS, capability::ALL] {
            let (out, large) = run("up", &packets, &rule, offloads, false);
            assert!(out == expected, "{rule}: {offloads:#x}: {}", difference(&out, &expected));
            seen += large;
        }
    }
    assert!(seen > 100);
}

/// Where two runs differ.
fn difference(out: &Out, expected: &Out) -> String {
    for port in ["p1", "p2", "up"] {
        let (none, also) = (Vec::new(), Vec::new());
        let (left, right) = (out.get(port).unwrap_or(&none), expected.get(port).unwrap_or(&also));
        if left.len() != right.len() {
            return format!("{port}: {} frames, expected {}", left.len(), right.len());
        }
        if let Some((n, (a, b))) = left.iter().zip(right).enumerate().find(|(_, (a, b))| a != b) {
            let at = a.iter().zip(b).position(|(a, b)| a != b);
            let head = |bytes: &[u8]| bytes.iter().take(110).copied().collect::<Vec<_>>();
            return format!(
                "{port}: frame {n}: {} and {} bytes, at {at:?}\n{:02x?}\n{:02x?}",
                a.len(),
                b.len(),
                head(a),
                head(b)
            );
        }
    }
    String::from("nothing")
}
