//! Decapsulation is a decision of the underlay bridge: what its rules, VLANs, fail mode, mirrors and patch ports say holds
//! for tunnel packets, and a VTEP gets what the bridge sends to LOCAL.

mod rings;

use flow::drop::DropReason;
use flow::ofp::FlowFilter;
use rings::{Net, arp_answer};
use std::net::IpAddr;
use vxswitch::slowpath::capture::CaptureSource;
use wire::addr::MacAddr;
use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
use wire::tunnel::{HeaderOptions, vxlan};

/// An overlay bridge, and an underlay bridge with these lines in the table of the bridge and in that of its uplink.
fn config(bridge: &str, uplink: &str) -> String {
    format!(
        r#"
[[bridge]]
name = "br0"
flows = ["in_port=vx,actions=output:p0", "priority=1,actions=drop"]
[[bridge.port]]
name = "p0"
type = "dpdk"
options = {{ dpdk-devargs = "net_ring_p0" }}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "192.168.1.2", key = 100 }}
[[bridge.port]]
name = "vx6"
type = "vxlan"
options = {{ remote_ip = "2001:db8::2", key = 101 }}
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "2001:db8::1/64"]
{bridge}
[[bridge.port]]
name = "uplink"
type = "dpdk"
{uplink}
options = {{ dpdk-devargs = "net_ring_up" }}
[[bridge.port]]
name = "tap"
type = "dpdk"
options = {{ dpdk-devargs = "net_ring_tap" }}
"#
    )
}

fn inner(n: u32) -> Vec<u8> {
    rings::udp(17, 51, 1000, 2000, n)
}

/// A tunnel packet of the peer's, with a tag where one is given.
fn tunnelled(src: IpAddr, dst: IpAddr, vni: u32, tci: Option<u16>, n: u32) -> Vec<u8> {
    tunnel_packet(src, dst, vni, tci, &inner(n))
}

fn tunnel_packet(src: IpAddr, dst: IpAddr, vni: u32, tci: Option<u16>, frame: &[u8]) -> Vec<u8> {
    let template = EncapTemplate::new(&EncapSpec {
        eth_src: MacAddr([2, 0, 0, 0, 0x0a, 2]),
        eth_dst: MacAddr([2, 0, 0, 0, 0x0a, 1]),
        vlan_tci: tci,
        addrs: EncapAddrs::new(src, dst).unwrap(),
        df: true,
        udp_dst: 4789,
        format: &vxlan::FORMAT,
        options: HeaderOptions { csum: src.is_ipv6(), ..HeaderOptions::NONE },
    });
    let mut packet = vec![0; template.header_len()];
    let patch = EncapPatch { vni, ttl: 64, src_port: 50_000, ..EncapPatch::default() };
    template.write(&mut packet, frame.len(), &patch).unwrap();
    packet.extend(frame);
    if src.is_ipv6() {
        template.fill_checksum(&mut packet).unwrap();
    }
    packet
}

fn over_v4(tci: Option<u16>, n: u32) -> Vec<u8> {
    tunnelled([192, 168, 1, 2].into(), [192, 168, 1, 1].into(), 100, tci, n)
}

fn over_v6(n: u32) -> Vec<u8> {
    let ip = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
    tunnelled(ip(2), ip(1), 101, None, n)
}

/// The same as of a device port: what comes before a tunnel's first megaflow waits in the uplink's ring.
#[test]
fn a_flood_at_the_start_of_a_tunnel_waits_in_the_ring() {
    let mut net = Net::new(&config("", ""));
    let flow = |n: u32| rings::udp(17, 51, 1000 + n as u16, 2000, n);
    for n in 0..3000 {
        let packet = tunnel_packet([192, 168, 1, 2].into(), [192, 168, 1, 1].into(), 100, None, &flow(n));
        net.put("uplink", &packet);
        net.worker().poll();
    }
    assert!((1..1000).contains(&net.held()), "{} wait", net.held());
    net.run();
    let out = net.take_all("p0");
    assert_eq!(out.len(), 3000);
    assert!((0..).map(flow).zip(out).all(|(sent, left)| sent == left), "not in order");
    net.finish();
}

/// Where other packets have come, too, a flood of new flows holds up nobody else.
#[test]
fn a_flood_for_one_tunnel_holds_up_no_other() {
    let mut net = Net::new(&config("", ""));
    net.set_rules("br0", &["in_port=vx6,actions=output:p0", "in_port=vx,udp,actions=output:p0"]);
    assert_eq!(delivered(&mut net, &[over_v6(0)]), [1; 2]);
    let flow = |n: u32| rings::udp(17, 51, 1000 + n as u16, 2000, n);
    for n in 0..400 {
        let packet = tunnel_packet([192, 168, 1, 2].into(), [192, 168, 1, 1].into(), 100, None, &flow(n));
        net.put("uplink", &packet);
        net.worker().poll();
    }
    // Nobody answers for the first one.
    net.put("uplink", &over_v6(1));
    for _ in 0..20 {
        net.worker().poll();
    }
    assert_eq!(net.take_all("p0").len(), 1);
    net.run();
    assert_eq!(net.take_all("p0").len(), 400);
    net.finish();
}

/// Sends packets twice, as new flows and as known ones; how many frames came out of the overlay each time.
fn delivered(net: &mut Net, packets: &[Vec<u8>]) -> [usize; 2] {
    [(); 2].map(|()| net.send("uplink", packets).get("p0").map_or(0, Vec::len))
}

#[test]
fn what_the_bridge_does_not_send_to_local_is_not_decapsulated() {
    let packets: Vec<Vec<u8>> = (0..3).map(|n| over_v4(None, n)).collect();
    for (bridge, uplink, reason) in [
        (r#"flows = ["udp,tp_dst=4789,actions=drop", "priority=0,actions=NORMAL"]"#, "", DropReason::Rule),
        (r#"flows = ["in_port=uplink,ip,actions=drop", "priority=0,actions=NORMAL"]"#, "", DropReason::Rule),
        (r#"fail_mode = "secure""#, "", DropReason::NoMatch),
        ("", "tag = 10", DropReason::LocalUnhandled),
        ("", "trunks = [20]", DropReason::VlanIngress),
    ] {
        let mut net = Net::new(&config(bridge, uplink));
        assert_eq!(delivered(&mut net, &packets), [0; 2], "{bridge} {uplink}");
        assert_eq!(net.drops(reason), 6, "{bridge} {uplink}");
        net.finish();
    }
}

#[test]
fn what_the_bridge_sends_to_local_is_decapsulated() {
    let plain: Vec<Vec<u8>> = (0..40).map(|n| over_v4(None, n)).collect();
    let tagged: Vec<Vec<u8>> = (0..40).map(|n| over_v4(Some(10), n)).collect();
    for (bridge, packets) in [
        ("", &plain),
        (r#"flows = ["priority=0,actions=NORMAL"]"#, &plain),
        (
            r#"flows = ["udp,tp_dst=4789,nw_ttl=64,actions=LOCAL"]
fail_mode = "secure""#,
            &plain,
        ),
        (
            r#"flows = ["in_port=uplink,dl_vlan=10,actions=strip_vlan,LOCAL", "priority=0,actions=NORMAL"]"#,
            &tagged,
        ),
    ] {
        let mut net = Net::new(&config(bridge, ""));
        let [new, known] = [(); 2].map(|()| net.send("uplink", packets)["p0"].clone());
        let expected: Vec<Vec<u8>> = (0..40).map(inner).collect();
        assert!(new == expected && known == expected, "{bridge}: all, in order");
        let rx = net.counters.port(net.port("vx")).rx.packets.get();
        assert_eq!(rx, 80, "{bridge}: received by the tunnel port");
        net.finish();
    }
    let mut net = Net::new(&config(r#"flows = ["priority=0,actions=NORMAL"]"#, ""));
    net.set_rules("br0", &["in_port=vx6,actions=output:p0"]);
    let packets: Vec<Vec<u8>> = (0..3).map(over_v6).collect();
    assert_eq!(delivered(&mut net, &packets), [3; 2], "over IPv6");
    net.finish();
}

/// A LOCAL port with a tag is in that VLAN: for tunnel packets both ways, and for ARP.
#[test]
fn a_tag_on_local_is_the_vlan_of_the_vtep() {
    for uplink in ["", "trunks = [10, 20]", "tag = 10"] {
        let bridge = "tag = 10\nneighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]";
        let mut net = Net::new(&config(bridge, uplink));
        let tag = (uplink != "tag = 10").then_some(10);
        let packets: Vec<Vec<u8>> = (0..3).map(|n| over_v4(tag, n)).collect();
        assert_eq!(delivered(&mut net, &packets), [3; 2], "{uplink}");
        let other: Vec<Vec<u8>> = [None, Some(20)].map(|tci| over_v4(tci, 1)).into();
        let others = usize::from(tag.is_none());
        assert_eq!(delivered(&mut net, &other), [others; 2], "{uplink}: other VLANs");
        net.set_rules("br0", &["in_port=p0,actions=output:vx"]);
        for _ in 0..2 {
            let out = net.send("p0", &[inner(1)]);
            let sent = &out["uplink"][0];
            assert_eq!(sent[12..14], if tag.is_some() { [0x81, 0] } else { [8, 0] }, "{uplink}");
            assert!(tag.is_none() || sent[14..16] == [0, 10], "{uplink}");
        }
        let mut request = arp_answer(2, 2);
        request[21] = 1;
        if tag.is_some() {
            request.splice(12..12, [0x81, 0, 0, 10]);
        }
        let out = net.send("uplink", &[request.clone()]);
        let answer = &out["uplink"][0];
        assert_eq!((out["uplink"].len(), answer.len()), (1, request.len()), "{uplink}");
        assert_eq!(answer[12..14], request[12..14], "{uplink}");
        net.finish();
    }
}

/// A tag with VLAN ID 0 is no VLAN, on ports that are looked up and on ports that are not.
#[test]
fn a_priority_tag_is_no_vlan() {
    for bridge in ["", r#"flows = ["priority=0,actions=NORMAL"]"#] {
        let mut net = Net::new(&config(bridge, ""));
        let packets: Vec<Vec<u8>> = (0..3).map(|n| over_v4(Some(0xa000), n)).collect();
        assert_eq!(delivered(&mut net, &packets), [3; 2], "{bridge}");
        net.finish();
    }
}

/// A rule that comes and goes is obeyed at once.
#[test]
fn a_change_of_rules_reaches_tunnel_packets() {
    let mut net = Net::new(&config("", ""));
    let packets = [over_v4(None, 1)];
    assert_eq!(delivered(&mut net, &packets), [1; 2]);
    net.set_rules("br-phy", &["udp,tp_dst=4789,actions=drop", "priority=0,actions=NORMAL"]);
    assert_eq!(delivered(&mut net, &packets), [0; 2]);
    net.set_rules("br-phy", &[]);
    assert_eq!(delivered(&mut net, &packets), [1; 2]);
    net.finish();
}

/// An uplink on a bridge of its own, joined with the underlay by patch ports: tunnel packets, ARP and echo arrive.
#[test]
fn an_uplink_behind_a_patch_port_reaches_the_vtep() {
    let mut text = config("", "").replace(
        "name = \"uplink\"\ntype = \"dpdk\"\n\noptions = { dpdk-devargs = \"net_ring_up\" }",
        "name = \"to-ext\"\ntype = \"patch\"\noptions = { peer = \"to-phy\" }",
    );
    text += r#"
[[bridge]]
name = "br-ext"
[[bridge.port]]
name = "to-phy"
type = "patch"
options = { peer = "to-ext" }
[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_ring_up" }
"#;
    assert!(text.contains("to-ext"));
    let mut net = Net::new(&text);
    let packets: Vec<Vec<u8>> = (0..3).map(|n| over_v4(None, n)).collect();
    assert_eq!(delivered(&mut net, &packets), [3; 2]);
    // An ARP request for the VTEP's address is answered.
    let mut request = arp_answer(2, 2);
    request[21] = 1;
    let out = net.send("uplink", &[request]);
    assert_eq!(out["uplink"].len(), 1, "the answer");
    assert_eq!(out["uplink"][0][20..22], [0, 2]);
    net.finish();
}

/// What the overlay's host sends to the tunnel, whose next hop is known.
fn sending() -> Net {
    let neighbour = "neighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]";
    let mut net = Net::new(&config(neighbour, ""));
    net.set_rules("br0", &["in_port=p0,actions=output:vx"]);
    net
}

#[test]
fn forged_answers_are_no_neighbours() {
    let mut net = Net::new(&config("", ""));
    net.set_rules("br0", &["in_port=p0,actions=output:vx"]);
    assert_eq!(net.send("p0", &[inner(0)])["uplink"][0][12..14], [8, 6], "a request");
    let good = arp_answer(2, 2);
    // Flooded here because nobody knows whose it is, and one that would have us talk to ourselves.
    let (mut not_ours, mut our_mac) = (good.clone(), good.clone());
    not_ours[..6].copy_from_slice(&[2, 0x99, 0x99, 0x99, 0x99, 0x99]);
    our_mac.copy_within(0..6, 22);
    for forged in [not_ours, our_mac] {
        assert!(!net.send("uplink", &[forged]).contains_key("uplink"));
    }
    assert_eq!(net.send("uplink", &[good])["uplink"][0][12..14], [8, 0], "what has waited");
    net.finish();
}

#[test]
fn captures_of_the_uplink_have_what_tunnels_send() {
    let mut net = sending();
    net.send("p0", &[inner(0)]);
    let uplink = net.port("uplink");
    let (sink, mut captured) = tokio::sync::mpsc::channel(16);
    let id = net.slow.capture(CaptureSource::Port(uplink), None, sink);
    net.run();
    let out = net.send("p0", &[inner(1), inner(2)]);
    let seen: Vec<Vec<u8>> =
        std::iter::from_fn(|| captured.try_recv().ok()).map(|c| c.bytes.to_vec()).collect();
    assert_eq!(seen, out["uplink"]);
    net.slow.end_capture(id);
    net.run();
    assert_eq!(net.send("p0", &[inner(3)])["uplink"].len(), 1);
    assert!(captured.try_recv().is_err());
    net.finish();
}

#[test]
fn the_underlays_rules_send_tunnel_packets_to_the_controller() {
    for (actions, leave) in [("CONTROLLER,output:uplink", 1), ("CONTROLLER", 0)] {
        let mut net = sending();
        let id = net.slow.state.bridge_named("br-phy").unwrap();
        let (sink, mut captured) = tokio::sync::mpsc::channel(16);
        net.slow.capture(CaptureSource::Controller(id), None, sink);
        net.set_rules(
            "br-phy",
            &[&format!("in_port=LOCAL,udp,actions={actions}"), "priority=0,actions=NORMAL"],
        );
        let out = net.send("p0", &[inner(1)]);
        // Besides the tunnel packet, the bridge asks where the next hop is.
        let is_ip = |frame: &&Vec<u8>| frame[12..14] == [8, 0];
        let sent: Vec<&Vec<u8>> = out.get("uplink").iter().flat_map(|out| out.iter()).filter(is_ip).collect();
        assert_eq!(sent.len(), leave, "{actions}");
        let copy = captured.try_recv().expect("a copy");
        assert_eq!(copy.bytes[36..38], 4789u16.to_be_bytes(), "{actions}: the tunnel packet");
        assert!(sent.iter().all(|sent| **sent == *copy.bytes), "{actions}");
        net.finish();
    }
}

/// A rule that comes later has not counted what was sent before.
#[test]
fn the_underlays_rules_count_from_their_beginning() {
    let mut net = sending();
    net.send("p0", &[inner(0), inner(1)]);
    net.set_rules("br-phy", &["udp,actions=NORMAL", "priority=0,actions=NORMAL"]);
    net.slow.collect_all();
    let id = net.slow.state.bridge_named("br-phy").unwrap();
    let counted = |net: &mut Net| {
        net.slow.collect_all();
        let bridge = net.slow.state.bridge(id).unwrap();
        let rules = bridge.tables.select(&FlowFilter::default(), false);
        rules.iter().map(|rule| rule.stats().packets).collect::<Vec<_>>()
    };
    assert_eq!(counted(&mut net), [0, 0]);
    net.send("p0", &[inner(2)]);
    assert_eq!(counted(&mut net), [1, 0]);
    net.finish();
}

/// The overlay's bridge has addresses of its own, and is the underlay of another tunnel.
#[test]
fn a_tunnel_goes_through_another_tunnel() {
    let text = config("neighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]", "").replace(
        "flows = [\"in_port=vx,actions=output:p0\", \"priority=1,actions=drop\"]",
        r#"
hwaddr = "02:00:00:00:0a:01"
address = ["10.9.0.1/24"]
neighbour = [{ ip = "10.9.0.2", mac = "02:00:00:00:0a:02" }]"#,
    );
    assert!(text.contains("10.9.0.1"));
    let overlay = r#"
[[bridge]]
name = "br1"
flows = ["in_port=q,actions=output:nested", "in_port=nested,actions=output:q"]
[[bridge.port]]
name = "q"
type = "dpdk"
options = { dpdk-devargs = "net_ring_q" }
[[bridge.port]]
name = "nested"
type = "vxlan"
options = { remote_ip = "10.9.0.2", key = 7, dst_port = 8472 }
"#;
    let mut net = Net::new(&(text + overlay));
    let wrap = |src: [u8; 4], dst: [u8; 4], vni, frame: &[u8]| {
        tunnel_packet(IpAddr::from(src), IpAddr::from(dst), vni, None, frame)
    };
    let nested = |frame: &[u8]| {
        let mut first = wrap([10, 9, 0, 2], [10, 9, 0, 1], 7, frame);
        first[36..38].copy_from_slice(&8472u16.to_be_bytes());
        wrap([192, 168, 1, 2], [192, 168, 1, 1], 100, &first)
    };
    let frames: Vec<Vec<u8>> = (0..3).map(inner).collect();
    let packets: Vec<Vec<u8>> = frames.iter().map(|frame| nested(frame)).collect();
    for _ in 0..2 {
        assert_eq!(net.send("uplink", &packets)["q"], frames, "out of both");
        let out = net.send("q", &frames);
        let sent = &out["uplink"];
        assert_eq!(sent.len(), 3);
        for (packet, frame) in sent.iter().zip(&frames) {
            // Two headers of 50 bytes, the outer one around the inner one.
            assert_eq!(packet[100..], frame[..]);
            assert_eq!(packet[26..34], [192, 168, 1, 1, 192, 168, 1, 2]);
            assert_eq!(packet[46..49], [0, 0, 100]);
            assert_eq!(packet[76..84], [10, 9, 0, 1, 10, 9, 0, 2]);
            assert_eq!((&packet[86..88], &packet[96..99]), (&8472u16.to_be_bytes()[..], &[0, 0, 7][..]));
        }
    }
    net.finish();
}

/// A tunnel whose packets go into the tunnel itself ends at the limit of levels.
#[test]
fn a_tunnel_into_itself_drops() {
    let text = config("neighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]", "")
        .replace("[\"192.168.1.1/24\", ", "[")
        .replace("flows = [\"in_port=vx,actions=output:p0\", \"priority=1,actions=drop\"]", r#"
address = ["192.168.1.1/24"]
neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }]
flows = ["in_port=LOCAL,actions=output:vx", "in_port=p0,actions=output:vx"]"#)
        .replace("neighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]\n[[bridge.port]]\nname = \"uplink\"", "[[bridge.port]]\nname = \"uplink\"");
    let mut net = Net::new(&text);
    assert!(net.send("p0", &[inner(1)]).is_empty());
    assert!(net.send("p0", &[inner(2)]).is_empty());
    let all: Vec<_> = DropReason::ALL.iter().filter(|r| net.drops(**r) > 0).collect();
    assert_eq!(net.drops(DropReason::RecursionLimit), 2, "{all:?} {text}");
    net.finish();
}

/// The underlay's rules see the tunnel packets that leave: their TTL and TOS, what differs between them too.
#[test]
fn rules_of_the_underlay_see_what_leaves() {
    let frames: Vec<Vec<u8>> = (0..40).map(|n| rings::udp(51, 17, 1000 + n as u16, 2000, n)).collect();
    for (rule, options, passes) in [
        ("udp,tp_dst=4789,nw_ttl=64,actions=output:uplink", "", true),
        ("udp,tp_dst=4789,nw_ttl=9,actions=output:uplink", "", false),
        ("udp,tp_dst=4789,nw_ttl=9,actions=output:uplink", ", ttl = 9", true),
        ("udp,nw_tos=40,actions=output:uplink", ", tos = 40", true),
        ("udp,nw_ttl=64,actions=output:uplink", ", ttl = \"inherit\"", true),
        ("udp,nw_ecn=0,actions=output:uplink", "", true),
        ("udp,nw_ecn=3,actions=output:uplink", "", false),
        ("udp,tp_src=0xc000/0xc000,actions=output:uplink", "", true),
        ("udp,tp_src=0x4000/0xc000,actions=output:uplink", "", false),
        ("udp,tp_dst=4789,actions=dec_ttl,output:uplink", "", true),
        ("udp,tp_dst=4789,actions=mod_vlan_vid:7,output:uplink", "", true),
    ] {
        let bridge =
            "fail_mode = \"secure\"\nneighbour = [{ ip = \"192.168.1.2\", mac = \"02:00:00:00:0a:02\" }]";
        let text = config(bridge, "").replace("key = 100 }", &format!("key = 100{options} }}"));
        let mut net = Net::new(&text);
        net.set_rules("br0", &["in_port=p0,actions=output:vx"]);
        net.set_rules("br-phy", &[&format!("in_port=LOCAL,{rule}")]);
        for _ in 0..2 {
            let out = net.send("p0", &frames);
            let sent = out.get("uplink").map_or(&[][..], Vec::as_slice);
            assert_eq!(sent.len(), if passes { 40 } else { 0 }, "{rule} {options}");
            if rule.contains("dec_ttl") {
                assert!(sent.iter().all(|packet| packet[22] == 63), "{rule}");
            }
            // All that the overlay sent; new flows may overtake each other.
            let tag = if rule.contains("mod_vlan") { 4 } else { 0 };
            let mut inner: Vec<&[u8]> = sent.iter().map(|packet| &packet[50 + tag..]).collect();
            let mut expected: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            inner.sort_unstable();
            expected.sort_unstable();
            assert!(!passes || inner == expected, "{rule}");
        }
        net.finish();
    }
}
