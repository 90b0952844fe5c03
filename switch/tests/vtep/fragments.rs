//! Tunnel packets in IP fragments: those that do not fit the path, and those that come.

use crate::rings::{Net, mac, udp};
use crate::{NEIGHBOURS, from_peer};
use flow::drop::DropReason;
use wire::checksum::ipv4_header_is_valid;
use wire::fragment::{self, fill_header_checksum};
use wire::tunnel::encap::EncapPatch;
use wire::tunnel::outer::parse_outer;
use wire::tunnel::vxlan;
use wire::view::{EthernetRepr, UdpRepr, build_udp};

const V4: &str = r#"remote_ip = "192.168.1.2", key = 100"#;
const V6: &str = r#"remote_ip = "2001:db8::2", key = 100"#;
/// What is in a chain's segments at most.
const SEGMENT: usize = 1900;

/// [`crate::config`], with a host port that takes jumbo frames.
fn config(vxlans: &[&str], uplinks: &[&str]) -> String {
    let text = crate::config(vxlans, NEIGHBOURS, uplinks);
    text.replacen("name = \"p1\"\n", "name = \"p1\"\nmtu = 9000\n", 1)
}

/// A frame from host 1 to host 2 with so many bytes of UDP payload.
fn datagram(len: usize, df: bool) -> Vec<u8> {
    let mut out = vec![0; len + 100];
    let ip = |n: u8| std::net::Ipv4Addr::new(10, 0, 0, n);
    let eth = EthernetRepr { dst: mac(2), src: mac(1), vlan_tci: None, ethertype: 0x0800 };
    let payload: Vec<u8> = (0..len).map(|n| (n % 253) as u8).collect();
    let header = UdpRepr { src_port: 7, dst_port: 9 };
    let len = build_udp(&mut out, &eth, ip(1).into(), ip(2).into(), header, &payload).expect("room");
    out.truncate(len);
    out[20] = if df { 0x40 } else { 0 };
    fill_header_checksum(&mut out, 14);
    out
}

fn put(net: &mut Net, port: &str, frame: &[u8]) {
    let cuts: Vec<usize> = (SEGMENT..frame.len()).step_by(SEGMENT).collect();
    net.put_chain(port, frame, &cuts);
}

/// The packet that the peer would send back: addresses swapped, which changes no checksum.
fn reflect(packet: &[u8]) -> Vec<u8> {
    let mut back = packet.to_vec();
    let mut swap = |at: usize, len: usize| {
        back[at..at + len].copy_from_slice(&packet[at + len..at + 2 * len]);
        back[at + len..at + 2 * len].copy_from_slice(&packet[at..at + len]);
    };
    swap(0, 6);
    if packet[12] == 8 {
        swap(26, 4);
    } else {
        swap(22, 16);
    }
    back
}

/// The bytes that fragments carry together, which fit each other and the path.
fn payload(fragments: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let first = fragment::read(&fragments[0]).expect("a fragment");
    for (n, packet) in fragments.iter().enumerate() {
        assert!(packet.len() <= 14 + mtu, "{}", packet.len());
        let this = fragment::read(packet).expect("a fragment");
        assert_eq!((this.of, this.is_first), (first.of, n == 0));
        let (header, offset, more) = if first.of.src.is_ipv4() {
            assert!(ipv4_header_is_valid(&packet[14..34]));
            let flags = u16::from_be_bytes([packet[20], packet[21]]);
            (34, usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0)
        } else {
            let flags = u16::from_be_bytes([packet[56], packet[57]]);
            (62, usize::from(flags & !7), flags & 1 != 0)
        };
        assert_eq!((offset, more), (out.len(), n + 1 < fragments.len()));
        out.extend(&packet[header..]);
    }
    out
}

#[test]
fn long_frames_leave_in_fragments_and_those_that_come_are_put_together() {
    for (options, overhead) in [(V4, 8 + 8), (V6, 8 + 8)] {
        let options = format!(r#"{options}, df_default = "false""#);
        let mut net = Net::new(&config(&[&options], &["up"]));
        let mut ids = Vec::new();
        for len in [1550, 3000, 8000] {
            let inner = datagram(len, false);
            put(&mut net, "p1", &inner);
            net.run();
            let fragments = net.take_all("up");
            assert_eq!(fragments.len(), (inner.len() + overhead).div_ceil(1576), "{len}");
            assert!(payload(&fragments, 1600)[overhead..] == inner);
            ids.push(fragment::read(&fragments[0]).expect("a fragment").of.id);
            // The last one comes first.
            for packet in fragments.iter().rev() {
                assert!(net.take("p1").is_none());
                net.put("up", &reflect(packet));
                net.run();
            }
            assert!(net.take_all("p1") == [inner]);
            assert_eq!(net.held(), 0);
        }
        ids.dedup();
        assert_eq!(ids.len(), 3, "each has an identification of its own");
        net.finish();
    }
}

#[test]
fn what_must_not_be_divided_is_not() {
    let fits = datagram(1500, false);
    for (options, df, divided) in [
        (V4.to_owned(), false, false),
        (format!(r#"{V4}, df_default = "true""#), false, false),
        (format!(r#"{V4}, df_default = "false""#), true, false),
        (format!(r#"{V4}, df_default = "false""#), false, true),
    ] {
        let mut net = Net::new(&config(&[&options], &["up"]));
        let long = datagram(1600, df);
        let out = net.send("p1", &[fits.clone(), long, fits.clone()]);
        assert_eq!(out["up"].len(), if divided { 4 } else { 2 }, "{options}, DF {df}");
        assert_eq!(net.drops(DropReason::MtuExceeded), u64::from(!divided));
        assert_eq!(out.contains_key("p1"), !divided, "the sender of what is dropped is told");
        net.finish();
    }
}

#[test]
fn an_underlay_with_rules_gets_fragments() {
    let options = format!(r#"{V4}, df_default = "false""#);
    let mut net = Net::new(&config(&[&options], &["up"]));
    net.set_rules(
        "br-phy",
        &[
            "priority=10,in_port=LOCAL,udp,ip_frag=first,actions=output:up",
            "priority=10,in_port=LOCAL,udp,ip_frag=later,actions=output:up",
            "priority=10,in_port=up,ip,ip_frag=yes,actions=LOCAL",
            "priority=1,ip,actions=drop",
            "priority=0,actions=NORMAL",
        ],
    );
    let inner = datagram(3000, false);
    put(&mut net, "p1", &inner);
    net.run();
    let mut fragments = net.take_all("up");
    // First fragments and later ones are two flows, each of which has waited for its decision.
    fragments.sort_by_key(|packet| u16::from_be_bytes([packet[20] & 0x1f, packet[21]]));
    assert!(payload(&fragments, 1600)[16..] == inner);
    let back: Vec<Vec<u8>> = fragments.iter().map(|packet| reflect(packet)).collect();
    assert!(net.send("up", &back)["p1"] == [inner]);
    // Nothing is taken that the bridge would not send to LOCAL.
    net.set_rules(
        "br-phy",
        &["priority=10,in_port=up,ip,ip_frag=later,actions=drop", "priority=0,actions=NORMAL"],
    );
    assert!(net.send("up", &back).is_empty());
    assert_eq!(net.drops(DropReason::Rule), 1);
    assert_eq!(net.held(), 1, "the first one waits");
    net.finish();
}

/// A tunnel packet from the peer, in as many fragments as payloads of `len` bytes make.
fn in_fragments(vni: u32, id: u16, inner: &[u8], len: usize) -> Vec<Vec<u8>> {
    let patch = EncapPatch { vni, ..EncapPatch::default() };
    let whole = from_peer("192.168.1.2", "192.168.1.1", false, &patch, &vxlan::FORMAT, inner);
    let (header, payload) = whole.split_at(34);
    let count = payload.len().div_ceil(len);
    let chunks = payload.chunks(len).enumerate();
    let made = chunks.map(|(n, chunk)| {
        let mut packet = [header, chunk].concat();
        packet[16..18].copy_from_slice(&(20 + chunk.len() as u16).to_be_bytes());
        packet[18..20].copy_from_slice(&id.to_be_bytes());
        let flags = (n * len / 8) as u16 | if n + 1 < count { 0x2000 } else { 0 };
        packet[20..22].copy_from_slice(&flags.to_be_bytes());
        fill_header_checksum(&mut packet, 14);
        packet
    });
    made.collect()
}

#[test]
fn ports_that_refuse_fragments_get_none() {
    let refuses = format!(r#"{V4}, reassemble = "false""#);
    let other = V4.replace("100", "101");
    let inner = udp(1, 2, 3, 4, 0);
    // Alone, and beside one that takes them.
    for ports in [&[refuses.as_str()][..], &[&refuses, &other]] {
        let mut net = Net::new(&config(ports, &["up"]));
        let fragments = in_fragments(100, 1, &inner, 40);
        assert!(net.send("up", &fragments).is_empty());
        let dropped = if ports.len() == 1 { fragments.len() as u64 } else { 1 };
        assert_eq!(net.drops(DropReason::TunnelFragment), dropped);
        let taken = net.send("up", &in_fragments(101, 2, &inner, 40));
        assert_eq!(taken.contains_key("p1"), ports.len() == 2);
        net.finish();
    }
}

#[test]
fn a_flood_of_fragments_leaves_other_ports_room() {
    let mut net = Net::new(&config(&[V4], &["up", "other"]));
    let inner = udp(1, 2, 3, 4, 0);
    let mut sent = 0;
    for id in 0..600 {
        net.put("up", &in_fragments(100, id, &inner, 40)[0]);
        sent += 1;
        net.run();
    }
    let waiting = net.held() as u64;
    assert!(waiting > 200, "{waiting}");
    let gone = net.drops(DropReason::ReassemblyFull) + net.drops(DropReason::ReassemblyFailed);
    assert_eq!(gone + waiting, sent);
    assert!(net.drops(DropReason::ReassemblyFull) > 300);
    // Most of another port's find a place.
    let whole = (1000..1020).filter(|id| {
        let out = net.send("other", &in_fragments(100, *id, &inner, 40));
        out.get("p1").is_some_and(|frames| frames == std::slice::from_ref(&inner))
    });
    let whole = whole.count();
    assert!(whole >= 18, "{whole} of 20");
    net.finish();
}

#[test]
fn fragments_that_make_no_packet_are_counted() {
    let mut net = Net::new(&config(&[V4], &["up"]));
    let inner = udp(1, 2, 3, 4, 0);
    // More than there may be, of which the last may take a place.
    let many = in_fragments(100, 1, &datagram(100, false), 8);
    assert!(many.len() > 8);
    assert!(net.send("up", &many[..8]).is_empty());
    assert_eq!(net.drops(DropReason::ReassemblyFailed), 8);
    // Overlapping ones, and some with a wrong header.
    let mut overlap = in_fragments(100, 2, &inner, 40);
    overlap[1][21] -= 1;
    fill_header_checksum(&mut overlap[1], 14);
    assert!(net.send("up", &overlap).is_empty());
    let mut wrong = in_fragments(100, 3, &inner, 40);
    wrong[0][24] ^= 1;
    assert!(net.send("up", &wrong).is_empty());
    assert_eq!(net.drops(DropReason::TunnelIpv4Checksum), 1);
    // Each is told apart from the others by its identification; one that is whole still goes.
    let (a, b) = (in_fragments(100, 4, &inner, 40), in_fragments(100, 5, &udp(1, 2, 3, 4, 9), 40));
    let mixed: Vec<Vec<u8>> = a.iter().zip(&b).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    assert_eq!(net.send("up", &mixed)["p1"], [inner, udp(1, 2, 3, 4, 9)]);
    net.finish();
}

#[test]
fn the_datagram_is_checked_as_a_whole() {
    let options = format!(r#"{V4}, csum = "true", df_default = "false""#);
    let mut net = Net::new(&config(&[&options], &["up"]));
    let inner = datagram(3000, false);
    put(&mut net, "p1", &inner);
    net.run();
    let fragments = net.take_all("up");
    let whole = [fragments[0][..34].to_vec(), payload(&fragments, 1600)].concat();
    let mut whole = whole;
    let len = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&len.to_be_bytes());
    whole[20..22].fill(0);
    fill_header_checksum(&mut whole, 14);
    assert!(parse_outer(&whole, &vxlan::FORMAT, false).is_ok(), "the UDP checksum is that of the whole");
    let mut back: Vec<Vec<u8>> = fragments.iter().map(|packet| reflect(packet)).collect();
    assert!(net.send("up", &back)["p1"] == [inner]);
    back[1][100] ^= 0xff;
    assert!(net.send("up", &back).is_empty());
    assert_eq!(net.drops(DropReason::TunnelUdpChecksum), 1);
    net.finish();
}
