//! Packets of several segments, as devices with large frames deliver them, are switched as those of one: the same bytes
//! leave by the same ports.

mod rings;

use flow::drop::DropReason;
use rings::{Net, udp};
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::addr::MacAddr;
use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::{HeaderOptions, vxlan};

const CONFIG: &str = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
mtu = 9000
options = { dpdk-devargs = "net_ring_p1" }
[[bridge.port]]
name = "p2"
type = "dpdk"
mtu = 9000
options = { dpdk-devargs = "net_ring_p2" }
[[bridge.port]]
name = "vx0"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
[[bridge.port]]
name = "vxc"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 101, csum = "true" }
[[bridge.port]]
name = "vx6"
type = "vxlan"
options = { remote_ip = "2001:db8::2", key = 102 }
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "2001:db8::1/64"]
neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }, { ip = "2001:db8::2", mac = "02:00:00:00:0a:02" }]
[[bridge.port]]
name = "up"
type = "dpdk"
mtu = 9100
options = { dpdk-devargs = "net_ring_up" }
"#;

/// A UDP packet of so many bytes of payload.
fn frame(payload: usize, n: u16) -> Vec<u8> {
    let mut frame = udp(1, 2, 1000 + n, 2000, n.into());
    frame.truncate(42);
    frame.extend((0..payload).map(|at| (at * 7) as u8));
    frame[16..18].copy_from_slice(&(28 + payload as u16).to_be_bytes());
    frame[38..40].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    frame[40..42].fill(0);
    let sum = wire::checksum::ipv4_header(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A tunnel packet of the peer's.
fn tunnelled(vni: u32, inner: &[u8], csum: bool) -> Vec<u8> {
    let ip = |n| IpAddr::from([192, 168, 1, n]);
    let template = EncapTemplate::new(&EncapSpec {
        eth_src: MacAddr([2, 0, 0, 0, 0x0a, 2]),
        eth_dst: MacAddr([2, 0, 0, 0, 0x0a, 1]),
        vlan_tci: None,
        addrs: EncapAddrs::new(ip(2), ip(1)).unwrap(),
        df: true,
        udp_dst: 4789,
        format: &vxlan::FORMAT,
        options: HeaderOptions { csum, ..HeaderOptions::NONE },
    });
    let mut packet = vec![0; template.header_len()];
    let patch = EncapPatch { vni, ttl: 64, src_port: 50_000, ..EncapPatch::default() };
    template.write(&mut packet, inner.len(), &patch).unwrap();
    packet.extend(inner);
    if csum {
        template.fill_checksum(&mut packet).unwrap();
    }
    packet
}

type Out = BTreeMap<String, Vec<Vec<u8>>>;

/// What leaves when frames come in one piece each, or in pieces.
fn send(net: &mut Net, port: &str, frames: &[Vec<u8>], cuts: Option<&[usize]>) -> Out {
    for frame in frames {
        match cuts {
            Some(cuts) => net.put_chain(port, frame, cuts),
            None => net.put(port, frame),
        }
    }
    net.send(port, &[])
}

#[test]
fn chains_leave_as_frames_of_one_segment_do() {
    let long: Vec<Vec<u8>> = (0..5).map(|n| frame(1800, n)).collect();
    let mut decap: Vec<Vec<u8>> = (0..5).map(|n| tunnelled(100, &frame(1500, n), false)).collect();
    decap.push(tunnelled(100, &frame(1500, 9), true));
    for (port, frames, actions) in [
        ("p1", &long, "output:p2"),
        ("p1", &long, "output:vx0"),
        ("p1", &long, "output:vxc"),
        ("p1", &long, "output:vx6"),
        ("p1", &long, "output:p2,output:vx0,output:vxc"),
        ("p1", &long, "mod_vlan_vid:7,output:p2"),
        ("p1", &long, "mod_nw_src:10.9.9.9,mod_tp_dst:99,output:vx0"),
        ("p1", &long, "dec_ttl,output:p2"),
        ("p1", &long, "NORMAL"),
        ("up", &decap, "output:p1"),
        ("up", &decap, "mod_nw_dst:10.8.8.8,output:p1"),
        ("up", &decap, "output:vx6"),
    ] {
        for looks in ["", "udp,tp_dst=2000,", "udp,nw_ttl=64,"] {
            let in_port = if port == "up" { "vx0" } else { port };
            let rules = [format!("priority=5,{looks}in_port={in_port},actions={actions}")];
            let mut net = Net::new(CONFIG);
            net.set_rules("br0", &rules.iter().map(String::as_str).collect::<Vec<_>>());
            send(&mut net, port, frames, None);
            let expected = send(&mut net, port, frames, None);
            assert!(!expected.is_empty(), "{actions}");
            for cuts in [&[200][..], &[256, 257, 900], &[1000, 1001, 1002, 1003]] {
                let out = send(&mut net, port, frames, Some(cuts));
                assert!(out == expected, "{actions} {looks}: cut at {cuts:?}");
            }
            // One among others.
            for frame in &frames[..2] {
                net.put(port, frame);
            }
            net.put_chain(port, &frames[2], &[300]);
            for frame in &frames[3..] {
                net.put(port, frame);
            }
            assert!(net.send(port, &[]) == expected, "{actions} {looks}: one chain among others");
            net.finish();
        }
    }
}

#[test]
fn a_chain_with_a_wrong_checksum_is_told() {
    let mut net = Net::new(CONFIG);
    net.set_rules("br0", &["in_port=vx0,actions=output:p1"]);
    let mut packet = tunnelled(100, &frame(1500, 1), true);
    *packet.last_mut().unwrap() ^= 1;
    assert_eq!(send(&mut net, "up", &[packet], Some(&[700])), BTreeMap::new());
    assert_eq!(net.drops(DropReason::TunnelUdpChecksum), 1);
    net.finish();
}

/// Headers that are in several segments: what fits is sent as it is, the rest freed under a reason, never half of it.
#[test]
fn headers_in_several_segments_are_switched_or_dropped_by_name() {
    let mut net = Net::new(CONFIG);
    net.set_rules("br0", &["priority=5,udp,tp_dst=2000,in_port=p1,actions=output:vx0"]);
    let frames: Vec<Vec<u8>> = (0..3).map(|n| frame(600, n)).collect();
    send(&mut net, "p1", &frames, None);
    for cut in 1..64 {
        let before = net.drops(DropReason::Segments) + net.drops(DropReason::EthernetTruncated);
        let out = send(&mut net, "p1", &frames, Some(&[cut]));
        let sent: usize = out.values().map(Vec::len).sum();
        let dropped = net.drops(DropReason::Segments) + net.drops(DropReason::EthernetTruncated) - before;
        assert_eq!(sent as u64 + dropped, 3, "cut at {cut}");
    }
    net.finish();
}
