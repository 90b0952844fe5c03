//! What actions do to packets, in one process: rewrites and their checksums, tags, copies, groups, meters, patches,
//! mirrors, captures; and how wide the megaflows are that they make.

mod rings;

use flow::drop::DropReason;
use flow::ofp::{
    Action, Bucket, Field, GroupKind, GroupSpec, MeterSpec, MeterUnit, PORT_ANY, PORT_CONTROLLER,
    PacketReason, PortRef,
};
use rings::{Net, frame, mac, udp};
use tokio::sync::mpsc::Receiver;
use vxswitch::bridge::PortConfig;
use vxswitch::bridge::mirror::{Mirror, MirrorOutput};
use vxswitch::slowpath::capture::{CaptureSource, Captured, DropsOf};
use wire::key::FlowKey;
use wire::parse::extract;

/// A bridge that drops what no rule matches, with ports 1 to 4.
fn bridge(rules: &[&str]) -> Net {
    let mut text = "[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\n".to_owned();
    for n in 1..=4 {
        text += &format!(
            "[[bridge.port]]\nname = \"p{n}\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_ring{n}\" }}\n"
        );
    }
    let mut net = Net::new(&text);
    net.set_rules("br0", rules);
    net
}

/// Fields of a frame.
fn key(frame: &[u8]) -> FlowKey {
    let mut key = FlowKey::ZERO;
    extract(frame, &mut key).unwrap();
    key
}

/// Whether IP header and UDP checksum of an untagged UDP packet are right.
fn is_intact(frame: &[u8]) -> bool {
    let ip = &frame[14..];
    let header = wire::checksum::Sum::of(&ip[..20]);
    let addresses = |at: usize| -> [u8; 4] { ip[at..at + 4].try_into().unwrap() };
    let len = u16::from_be_bytes([ip[24], ip[25]]);
    let pseudo = wire::checksum::pseudo_v4(addresses(12), addresses(16), 17, len);
    let datagram = wire::checksum::Sum::of(&ip[20..20 + usize::from(len)]);
    header.is_valid() && (pseudo + datagram).is_valid()
}

/// Sends a packet twice: the first makes a megaflow, the second goes by it.
fn twice(net: &mut Net, port: &str, frame: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut both = Vec::new();
    for _ in 0..2 {
        let out = net.send(port, &[frame.to_vec()]);
        both.push(
            out.into_iter().flat_map(|(p, f)| f.into_iter().map(move |f| (p.clone(), f))).collect::<Vec<_>>(),
        );
    }
    let second = both.pop().unwrap();
    assert_eq!(both[0], second, "a megaflow does what translation did");
    second
}

#[test]
fn fields_are_rewritten_with_their_checksums() {
    let mut net = bridge(&[
        "in_port=1,udp,actions=mod_dl_src:02:00:00:00:00:77,mod_nw_src:10.9.9.9,mod_nw_dst:10.8.8.8,mod_tp_src:7777,\
         mod_tp_dst:8888,mod_nw_tos:184,dec_ttl,output:2",
    ]);
    let out = twice(&mut net, "p1", &udp(2, 1, 1000, 2000, 5));
    assert_eq!(out.len(), 1);
    let (port, frame) = &out[0];
    assert_eq!(port, "p2");
    assert!(is_intact(frame));
    let key = key(frame);
    assert_eq!((key.nw_src.get(), key.nw_dst.get()), (0x0a09_0909, 0x0a08_0808));
    assert_eq!((key.tp_src.get(), key.tp_dst.get(), key.nw_tos, key.nw_ttl), (7777, 8888, 184, 63));
    assert_eq!((key.dl_src, key.dl_dst), (mac(0x77), mac(2)));
    net.finish();
}

#[test]
fn what_actions_write_does_not_narrow_the_megaflow() {
    let mut net = bridge(&["in_port=1,actions=mod_dl_dst:02:00:00:00:00:09,output:2"]);
    for n in 0..20 {
        net.send("p1", &[udp(n, n + 100, n as u16, 5, n)]);
    }
    assert_eq!(net.slow.megaflows(), 1, "one for all of them");
    net.finish();
}

#[test]
fn outputs_between_changes_send_the_packet_as_it_is_then() {
    let mut net = bridge(&[
        "in_port=1,udp,actions=output:2,mod_tp_dst:1,output:3,mod_tp_dst:2,mod_nw_dst:10.0.0.9,output:4",
    ]);
    let sent = udp(2, 1, 1000, 2000, 5);
    let out = twice(&mut net, "p1", &sent);
    assert_eq!(out[0], ("p2".to_owned(), sent));
    assert_eq!(key(&out[1].1).tp_dst.get(), 1);
    assert_eq!((key(&out[2].1).tp_dst.get(), key(&out[2].1).nw_dst.get()), (2, 0x0a00_0009));
    assert!(out.iter().all(|(_, f)| is_intact(f)));
    net.finish();
}

#[test]
fn a_truncated_output_has_the_first_bytes_and_what_comes_behind_has_all() {
    let mut net = bridge(&[
        "in_port=1,udp,actions=output(port=2,max_len=60),mod_nw_src:10.9.9.9,output(port=3,max_len=100),\
         output(port=4,max_len=9000),output:2,output(port=in_port,max_len=14)",
        "in_port=4,actions=output(port=3,max_len=64)",
    ]);
    let mut sent = udp(2, 1, 1000, 2000, 5);
    sent.resize(200, 7);
    let out = twice(&mut net, "p1", &sent);
    let lens = |port: &str| -> Vec<usize> {
        out.iter().filter(|(p, _)| p == port).map(|(_, frame)| frame.len()).collect()
    };
    assert_eq!(
        (lens("p1"), lens("p2"), lens("p3"), lens("p4")),
        (vec![14], vec![60, sent.len()], vec![100], vec![sent.len()])
    );
    for (port, frame) in &out {
        let changed = frame.len() > 26 && frame[26..30] == [10, 9, 9, 9];
        assert_eq!(changed, frame.len() > 60, "{port}: the change is made to the whole packet");
        assert!(frame.len() < sent.len() || is_intact(frame), "{port}");
    }
    // A megaflow of this alone, also for packets that are short enough.
    assert_eq!(twice(&mut net, "p4", &sent), [("p3".to_owned(), sent[..64].to_vec())]);
    let short = frame(2, 1, None, 1);
    assert_eq!(twice(&mut net, "p4", &short), [("p3".to_owned(), short.clone())]);
    net.finish();
}

#[test]
fn an_enqueue_sends() {
    let mut net = bridge(&["in_port=1,actions=enqueue:2:7,enqueue:1:7,enqueue:IN_PORT:8"]);
    let sent = udp(2, 1, 1000, 2000, 5);
    let expected = [("p1".to_owned(), sent.clone()), ("p2".to_owned(), sent.clone())];
    let mut out = twice(&mut net, "p1", &sent);
    out.sort();
    assert_eq!(out, expected);
    net.finish();
}

#[test]
fn a_clone_changes_nothing_outside_of_it() {
    let mut net = bridge(&[
        "in_port=1,udp,actions=clone(mod_dl_dst:02:00:00:00:00:55,push_vlan:0x8100,output:2,clone(mod_tp_dst:9,output:3)),output:4",
    ]);
    let sent = udp(2, 1, 1000, 2000, 5);
    let out = twice(&mut net, "p1", &sent);
    assert_eq!(out.len(), 3);
    assert_eq!((key(&out[0].1).dl_dst, key(&out[0].1).vlan_tci.get()), (mac(0x55), 0x1000));
    assert_eq!((key(&out[1].1).tp_dst.get(), key(&out[1].1).dl_dst), (9, mac(0x55)));
    assert_eq!(out[2], ("p4".to_owned(), sent));
    net.finish();
}

#[test]
fn tags_are_pushed_popped_and_edited() {
    let mut net = bridge(&[
        "in_port=1,dl_vlan=5,actions=mod_vlan_vid:6,output:2,strip_vlan,output:3,push_vlan:0x88a8,set_field:7->vlan_vid,output:4",
        "in_port=2,actions=mod_vlan_vid:8,mod_vlan_pcp:3,output:1",
        "in_port=3,actions=pop_vlan,pop_vlan,output:1",
    ]);
    let out = twice(&mut net, "p1", &frame(2, 1, Some(0xa005), 1));
    assert_eq!(out[0].1, frame(2, 1, Some(0xa006), 1), "priority kept");
    assert_eq!(out[1].1, frame(2, 1, None, 1)[..60].to_vec());
    assert_eq!((key(&out[2].1).vlan_tci.get(), &out[2].1[12..14]), (0x1007, &[0x88, 0xa8][..]));
    let out = twice(&mut net, "p2", &frame(2, 1, None, 1));
    assert_eq!(key(&out[0].1).vlan_tci.get(), 0x7008);
    let untagged = frame(2, 1, None, 1);
    assert_eq!(twice(&mut net, "p3", &untagged)[0].1, untagged);
    net.finish();
}

#[test]
fn a_packet_at_its_last_hop_goes_no_further_but_what_was_sent_is_sent() {
    let mut net = bridge(&["in_port=1,ip,actions=output:2,dec_ttl,output:3"]);
    let mut last = udp(2, 1, 1, 2, 3);
    last[22] = 1;
    let out = twice(&mut net, "p1", &last);
    assert_eq!(out.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>(), ["p2"]);
    net.set_rules("br0", &["in_port=1,ip,actions=dec_ttl,output:3"]);
    assert!(twice(&mut net, "p1", &last).is_empty());
    assert_eq!(net.drops(DropReason::TtlExceeded), 2);
    net.finish();
}

fn bucket(id: u32, weight: u16, port: u32, change: &[Action]) -> Bucket {
    let mut actions = change.to_vec();
    actions.push(Action::Output(PortRef::Port(port)));
    Bucket { id, weight, watch_port: Some(port), watch_group: None, actions }
}

fn set_group(net: &mut Net, kind: GroupKind, buckets: Vec<Bucket>) {
    let id = net.slow.state.bridge_named("br0").unwrap();
    net.slow.set_groups(id, &[GroupSpec { id: 1, kind, selection: None, buckets }]);
    net.slow.settle();
    net.run();
}

/// Packets of each bucket of group 1.
fn bucket_packets(net: &mut Net) -> Vec<u64> {
    net.slow.collect_all();
    let id = net.slow.state.bridge_named("br0").unwrap();
    let stats = net.slow.state.bridge(id).unwrap().groups[&1].bucket_stats();
    stats.into_iter().map(|stats| stats.packets).collect()
}

#[test]
fn buckets_are_counted_one_by_one() {
    let mut net = bridge(&["in_port=1,actions=group:1"]);
    let sent = udp(2, 1, 1000, 2000, 5);
    let buckets = || vec![bucket(0, 0, 2, &[]), bucket(1, 0, 3, &[])];
    set_group(&mut net, GroupKind::All, buckets());
    twice(&mut net, "p1", &sent);
    assert_eq!(bucket_packets(&mut net), [2, 2]);
    set_group(&mut net, GroupKind::FastFailover, buckets());
    twice(&mut net, "p1", &sent);
    assert_eq!(bucket_packets(&mut net), [2, 0]);
    let weighted = || vec![bucket(0, 1, 2, &[]), bucket(1, 1, 3, &[])];
    set_group(&mut net, GroupKind::Select, weighted());
    twice(&mut net, "p1", &sent);
    let mut packets = bucket_packets(&mut net);
    packets.sort_unstable();
    assert_eq!(packets, [0, 2], "a worker chose for the flow");
    let flows: Vec<Vec<u8>> = (0..100).map(|n| udp(2, 1, 2000 + n, 53, 0)).collect();
    let out = net.send("p1", &flows);
    let sent = |port: &str| out.get(port).map_or(0, Vec::len) as u64;
    let before = packets[1];
    let packets = bucket_packets(&mut net);
    assert_eq!(packets.iter().sum::<u64>(), 100 + before);
    assert!(packets.iter().all(|n| *n > 20), "{packets:?}");
    assert!(packets[0].abs_diff(sent("p2")) <= before && packets[1].abs_diff(sent("p3")) <= before);
    net.finish();
}

#[test]
fn a_group_that_names_fields_selects_by_these_alone() {
    let mut net = bridge(&["in_port=1,actions=group:1"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let group = "group_id=1,type=select,selection_method=hash,fields(udp_dst),\
                 bucket=output:2,bucket=output:3,bucket=output:4";
    net.slow.set_groups(id, &[flow::ofp::parse_group(group, &()).unwrap()]);
    net.slow.settle();
    net.run();
    let mut to = std::collections::BTreeSet::new();
    for dst in 1..20 {
        let way = |net: &mut Net, src: u16| twice(net, "p1", &udp(2, 1, src, dst, 5))[0].0.clone();
        let chosen = way(&mut net, 1);
        assert!((2..6).all(|src| way(&mut net, src) == chosen), "the source port does not count");
        to.insert(chosen);
    }
    assert_eq!(to.len(), 3);
    let counted: u64 = bucket_packets(&mut net).into_iter().sum();
    assert_eq!(counted, 19 * 5 * 2);
    net.finish();
}

#[test]
fn exit_ends_what_resubmitted_too_but_nothing_behind_a_group() {
    let mut net = bridge(&[
        "in_port=1,udp,actions=resubmit(,1),output:4",
        "in_port=1,actions=group:1,output:4",
        "table=1,actions=output:2,exit,output:3",
    ]);
    let ports = |out: &[(String, Vec<u8>)]| out.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    assert_eq!(ports(&twice(&mut net, "p1", &udp(2, 1, 1000, 2000, 5))), ["p2"]);
    set_group(&mut net, GroupKind::All, vec![bucket(0, 0, 2, &[Action::Exit]), bucket(1, 0, 3, &[])]);
    assert_eq!(ports(&twice(&mut net, "p1", &frame(2, 1, None, 1))), ["p3", "p4"]);
    net.finish();
}

#[test]
fn groups_send_to_all_to_one_or_to_the_first_that_lives() {
    let mut net = bridge(&["in_port=1,actions=group:1,output:4"]);
    let sent = udp(2, 1, 1000, 2000, 5);
    assert_eq!(twice(&mut net, "p1", &sent), [("p4".to_owned(), sent.clone())], "no such group");
    let change = [Action::ModVlanVid(9)];
    set_group(&mut net, GroupKind::All, vec![bucket(0, 0, 2, &change), bucket(1, 0, 3, &[])]);
    let out = twice(&mut net, "p1", &sent);
    assert_eq!(out.len(), 3);
    assert_eq!(key(&out[0].1).vlan_tci.get(), 0x1009);
    assert!(out[1..].iter().all(|(_, f)| *f == sent), "what a bucket changes stays in it");

    set_group(&mut net, GroupKind::FastFailover, vec![bucket(0, 0, 2, &[]), bucket(1, 0, 3, &[])]);
    let ports = |out: &[(String, Vec<u8>)]| out.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    assert_eq!(ports(&twice(&mut net, "p1", &sent)), ["p2", "p4"]);
    let p2 = net.port("p2");
    net.slow.set_alive(p2, false);
    net.run();
    assert_eq!(ports(&twice(&mut net, "p1", &sent)), ["p3", "p4"]);
    net.slow.set_alive(p2, true);
    net.run();
    assert_eq!(ports(&twice(&mut net, "p1", &sent)), ["p2", "p4"]);
    net.finish();
}

#[test]
fn select_spreads_flows_by_weight_and_keeps_each_on_its_bucket() {
    let mut net = bridge(&["in_port=1,actions=group:1"]);
    set_group(&mut net, GroupKind::Select, vec![bucket(0, 100, 2, &[]), bucket(1, 300, 3, &[])]);
    let mut count = [0; 2];
    for n in 0..400 {
        let out = twice(&mut net, "p1", &udp(2, 1, n, 2000, 5));
        assert_eq!(out.len(), 1);
        count[usize::from(out[0].0 == "p3")] += 1;
    }
    assert!((60..150).contains(&count[0]), "{count:?}");
    assert_eq!(net.slow.megaflows(), 1, "the worker chooses, not the slow path");
    let p3 = net.port("p3");
    net.slow.set_alive(p3, false);
    net.run();
    assert!((0..50).all(|n| twice(&mut net, "p1", &udp(2, 1, n, 2000, 5))[0].0 == "p2"));
    net.finish();
}

#[test]
fn a_bundle_sends_to_a_member_that_is_up() {
    let mut net = bridge(&[
        "in_port=1,actions=bundle(eth_src,0,active_backup,ofport,members:1,2,3)",
        "in_port=4,actions=clone(bundle_load(eth_src,0,active_backup,ofport,reg0[0..15],members:2,3),output:reg0[0..15])",
        "in_port=2,actions=bundle(symmetric_l3l4+udp,9,hrw,ofport,members:3,4)",
    ]);
    let sent = udp(2, 1, 1000, 2000, 5);
    let ports = |out: &[(String, Vec<u8>)]| out.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    let p1 = net.port("p1");
    net.slow.set_alive(p1, false);
    let set = |net: &mut Net, port: &str, alive: bool| {
        let id = net.port(port);
        net.slow.set_alive(id, alive);
        net.run();
    };
    for (alive, wanted) in [(true, "p2"), (false, "p3"), (true, "p2")] {
        set(&mut net, "p2", alive);
        assert_eq!(ports(&twice(&mut net, "p1", &sent)), [wanted]);
        assert_eq!(ports(&twice(&mut net, "p4", &sent)), [wanted]);
    }
    set(&mut net, "p1", true);
    // Of flows, each goes to one; when that goes down, to the other.
    let mut count = [0; 2];
    for n in 0..200 {
        let out = twice(&mut net, "p2", &udp(2, 1, n, 2000, 5));
        count[usize::from(out[0].0 == "p4")] += 1;
    }
    assert!(count.iter().all(|n| (60..140).contains(n)), "{count:?}");
    set(&mut net, "p4", false);
    assert!((0..50).all(|n| ports(&twice(&mut net, "p2", &udp(2, 1, n, 2000, 5))) == ["p3"]));
    set(&mut net, "p3", false);
    assert!(twice(&mut net, "p2", &sent).is_empty());
    assert_eq!(net.drops(DropReason::LinkDown), 2);
    net.finish();
}

#[test]
fn a_meter_drops_what_is_beyond_its_rate_and_counts_it() {
    let mut net = bridge(&["in_port=1,actions=meter:1,output:2"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let spec = MeterSpec { id: 1, unit: MeterUnit::Pktps, rate: 1, burst: Some(5), stats: true };
    net.slow.set_meters(id, &[spec]).unwrap();
    net.slow.settle();
    net.run();
    let frames: Vec<Vec<u8>> = (0..20).map(|n| frame(2, 1, None, n)).collect();
    let out = net.send("p1", &frames);
    assert_eq!(out["p2"], frames[..5]);
    assert_eq!(net.drops(DropReason::Meter), 15);
    let meter = net.slow.state.bridge(id).unwrap().meters[&1];
    let (passed, dropped) = net.slow.meter_stats(&meter);
    assert_eq!((passed.packets, dropped.packets, dropped.bytes), (5, 15, 15 * 64));
    net.finish();
}

/// p1 on br0 and p2 on br1, which patch ports join: x0 and x1.
fn two_bridges() -> Net {
    let mut text = String::new();
    for (bridge, port, patch, peer) in [("br0", "p1", "x0", "x1"), ("br1", "p2", "x1", "x0")] {
        text += &format!(
            "[[bridge]]\nname = \"{bridge}\"\n[[bridge.port]]\nname = \"{port}\"\ntype = \"dpdk\"\n\
             options = {{ dpdk-devargs = \"net_ring_{port}\" }}\n[[bridge.port]]\nname = \"{patch}\"\n\
             type = \"patch\"\noptions = {{ peer = \"{peer}\" }}\n"
        );
    }
    Net::new(&text)
}

#[test]
fn patches_join_bridges() {
    let mut net = two_bridges();
    // Both bridges learn; what comes back is not flooded.
    assert_eq!(twice(&mut net, "p1", &frame(2, 1, None, 1)).len(), 1);
    assert_eq!(twice(&mut net, "p2", &frame(1, 2, None, 1))[0].0, "p1");
    for bridge in ["br0", "br1"] {
        let id = net.slow.state.bridge_named(bridge).unwrap();
        assert_eq!(net.slow.state.bridge(id).unwrap().fdb.len(), 2);
    }
    net.set_rules("br1", &["in_port=x1,actions=mod_vlan_vid:5,output:p2"]);
    assert_eq!(key(&twice(&mut net, "p1", &frame(2, 1, None, 1))[0].1).vlan_tci.get(), 0x1005);
    net.finish();
}

#[test]
fn mirrors_copy_what_enters_and_leaves_once() {
    let mut net = bridge(&["in_port=1,actions=mod_vlan_vid:7,output:2,output:3", "in_port=2,actions=drop"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let (p1, p2, p3, p4) = (net.port("p1"), net.port("p2"), net.port("p3"), net.port("p4"));
    let mirror = |src: Vec<_>, dst: Vec<_>| Mirror {
        name: "m".into(),
        all: false,
        src,
        dst,
        vlans: Vec::new(),
        output: MirrorOutput::Port(p4),
    };
    let sent = frame(2, 1, None, 1);
    let ports = |out: &[(String, Vec<u8>)]| out.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    let set = |net: &mut Net, mirror: Mirror| {
        net.slow.set_mirrors(id, vec![mirror]);
        net.slow.settle();
        net.run();
    };
    set(&mut net, mirror(vec![p1], vec![]));
    let out = twice(&mut net, "p1", &sent);
    assert_eq!(ports(&out), ["p2", "p3", "p4"]);
    assert_eq!(out[2].1, sent, "as it came");
    set(&mut net, mirror(vec![], vec![p2, p3]));
    let out = twice(&mut net, "p1", &sent);
    assert_eq!(ports(&out), ["p2", "p3", "p4"], "one copy of two that leave");
    assert_eq!(key(&out[2].1).vlan_tci.get(), 0x1007, "as it leaves");
    set(&mut net, mirror(vec![p2], vec![]));
    assert_eq!(ports(&twice(&mut net, "p2", &sent)), ["p4"]);
    assert_eq!(net.drops(DropReason::Rule), 2, "a mirrored packet that is dropped is a drop");
    net.finish();
}

#[test]
fn what_comes_in_by_the_output_of_a_mirror_of_all_ports_does_not_go_back() {
    let mut net =
        bridge(&["in_port=1,actions=output:2", "in_port=4,actions=output:2", "in_port=2,actions=output:4"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let output = MirrorOutput::Port(net.port("p4"));
    let mirror = Mirror { name: "m".into(), all: true, src: vec![], dst: vec![], vlans: vec![], output };
    net.slow.set_mirrors(id, vec![mirror]);
    net.slow.settle();
    net.run();
    let mut ports = |from: &str| {
        let out = net.send(from, &[frame(2, 1, None, 1)]);
        out.into_iter().map(|(port, frames)| (port, frames.len())).collect::<Vec<_>>()
    };
    assert_eq!(ports("p1"), [("p2".into(), 1), ("p4".into(), 1)]);
    assert_eq!(ports("p4"), [("p2".into(), 1), ("p4".into(), 1)], "as it leaves by p2, not as it came");
    assert_eq!(ports("p2"), [("p4".into(), 2)], "the copy, and the packet itself");
    net.finish();
}

#[test]
fn every_bucket_of_a_select_group_is_mirrored() {
    let mut net = bridge(&["in_port=1,actions=group:1"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    set_group(&mut net, GroupKind::Select, vec![bucket(0, 1, 2, &[]), bucket(1, 1, 3, &[])]);
    let (dst, output) = (vec![net.port("p2"), net.port("p3")], MirrorOutput::Port(net.port("p4")));
    let mirror = Mirror { name: "m".into(), all: false, src: Vec::new(), dst, vlans: Vec::new(), output };
    net.slow.set_mirrors(id, vec![mirror]);
    net.slow.settle();
    net.run();
    for n in 0..20 {
        let out = twice(&mut net, "p1", &udp(2, 1, n, 2000, 5));
        assert_eq!(out.iter().filter(|(port, _)| port == "p4").count(), 1, "{out:?}");
    }
    net.finish();
}

/// The bridge whose rule says it, not the one that the packet came in by.
#[test]
fn a_packet_for_the_controller_is_the_rules_bridges() {
    let mut net = two_bridges();
    let (p1, x1) = (net.port("p1"), net.port("x1"));
    net.set_rules("br0", &["in_port=p1,actions=output:x0"]);
    net.set_rules(
        "br1",
        &["actions=resubmit(,7),CONTROLLER:30", "cookie=0x99,table=7,actions=CONTROLLER:20"],
    );
    let [(sink0, mut of_br0), (sink1, mut of_br1)] = [(); 2].map(|()| tokio::sync::mpsc::channel(16));
    for (bridge, sink) in [("br0", sink0), ("br1", sink1)] {
        let id = net.slow.state.bridge_named(bridge).unwrap();
        net.slow.capture(CaptureSource::Controller(id), None, sink);
    }
    net.send("p1", &[frame(2, 1, None, 1)]);
    assert!(of_br0.try_recv().is_err());
    let seen: Vec<_> = std::iter::from_fn(|| of_br1.try_recv().ok())
        .map(|copy| {
            let by = copy.sent_by.unwrap();
            (copy.port, copy.bytes.len(), by.message.table, by.message.cookie, by.key.in_port)
        })
        .collect();
    let came = u32::from(p1.0);
    // Whole: what `max_len` would leave out is nowhere to be had.
    assert_eq!(seen, [(x1, 64, 7, Some(0x99), came), (x1, 64, 0, Some(0), came)]);
    net.finish();
}

/// What has come for controllers: reason, table, cookie and the port that the packet came in by.
fn for_controllers(captured: &mut Receiver<Captured>) -> Vec<(PacketReason, u8, Option<u64>, u128)> {
    std::iter::from_fn(|| captured.try_recv().ok())
        .map(|copy| {
            let message = copy.sent_by.unwrap().message;
            let in_port = Field::InPort.get(message.metadata.key());
            (message.reason, message.table, message.cookie, in_port)
        })
        .collect()
}

#[test]
fn packets_that_no_rule_matches_are_for_controllers_that_want_them() {
    let mut net = bridge(&["in_port=3,actions=resubmit(,5)", "in_port=4,actions=goto_table:6"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let (sink, mut captured) = tokio::sync::mpsc::channel(16);
    let capture = net.slow.capture(CaptureSource::Controller(id), None, sink);
    let sent = frame(2, 1, None, 1);
    let all = ["p1", "p3", "p4"];
    for port in all {
        assert!(twice(&mut net, port, &sent).is_empty());
    }
    assert!(for_controllers(&mut captured).is_empty());
    net.slow.capture_misses(capture, true);
    net.run();
    for port in all {
        twice(&mut net, port, &sent);
    }
    let miss = |table, in_port| (PacketReason::NoMatch, table, Some(0), in_port);
    // Not those that `resubmit` finds no rule for.
    assert_eq!(for_controllers(&mut captured), [miss(0, 1), miss(0, 1), miss(6, 4), miss(6, 4)]);
    net.slow.set_port_config(net.port("p1"), PortConfig(PortConfig::NO_PACKET_IN));
    net.set_rules("br0", &["in_port=4,actions=output:2"]);
    twice(&mut net, "p1", &sent);
    twice(&mut net, "p4", &sent);
    assert!(for_controllers(&mut captured).is_empty());
    net.finish();
}

#[test]
fn packets_that_controllers_send_come_by_the_port_that_they_say() {
    let mut net = bridge(&[]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let (sink, mut captured) = tokio::sync::mpsc::channel(16);
    net.slow.capture(CaptureSource::Controller(id), None, sink);
    let (local, sent) = (net.slow.state.bridge(id).unwrap().local, frame(2, 1, None, 1));
    let to_controller = net.flow("br0", "actions=CONTROLLER").actions;
    let numbers = [PORT_CONTROLLER, PORT_ANY, 999];
    for number in numbers {
        net.slow.packet_out_by(local, Some(number), &sent, &to_controller);
        net.run();
    }
    let came: Vec<u128> = for_controllers(&mut captured).into_iter().map(|(.., in_port)| in_port).collect();
    assert_eq!(came, numbers.map(u128::from));
    for (number, action, copies) in
        [(999, "FLOOD", 4), (999, "NORMAL", 0), (PORT_CONTROLLER, "NORMAL", 4), (PORT_ANY, "NORMAL", 4)]
    {
        let actions = net.flow("br0", &format!("actions={action}")).actions;
        net.slow.packet_out_by(local, Some(number), &sent, &actions);
        net.run();
        let out: usize = ["p1", "p2", "p3", "p4"].iter().map(|port| net.take_all(port).len()).sum();
        assert_eq!(out, copies, "{action} from port {number}");
    }
    net.finish();
}

#[test]
fn captures_see_what_enters_leaves_and_is_sent_to_the_controller() {
    let mut net = bridge(&["in_port=1,actions=mod_vlan_vid:7,output:2", "in_port=3,actions=CONTROLLER:20"]);
    let (p1, p2) = (net.port("p1"), net.port("p2"));
    let id = net.slow.state.bridge_named("br0").unwrap();
    let (sink, mut captured) = tokio::sync::mpsc::channel(16);
    let ids = [p1, p2].map(|port| net.slow.capture(CaptureSource::Port(port), None, sink.clone()));
    net.slow.capture(CaptureSource::Controller(id), None, sink.clone());
    net.run();
    let sent = frame(2, 1, None, 1);
    assert_eq!(twice(&mut net, "p1", &sent).len(), 1);
    let seen: Vec<_> = std::iter::from_fn(|| captured.try_recv().ok()).collect();
    assert_eq!(
        seen.iter().map(|c| (c.port, c.outgoing, c.length)).collect::<Vec<_>>(),
        [(p1, false, 64), (p2, true, 68), (p1, false, 64), (p2, true, 68)]
    );
    assert_eq!(*seen[0].bytes, *sent);
    assert!(twice(&mut net, "p3", &sent).is_empty());
    let seen: Vec<_> = std::iter::from_fn(|| captured.try_recv().ok()).collect();
    assert_eq!((seen.len(), seen[0].length, &seen[0].bytes[..]), (2, 64, &sent[..]));
    assert_eq!(net.slow.controller_packets(), 2);
    for id in ids {
        net.slow.end_capture(id);
    }
    net.run();
    twice(&mut net, "p1", &sent);
    assert!(captured.try_recv().is_err());
    net.finish();
}

#[test]
fn resubmit_as_another_port_looks_up_with_it_and_acts_with_the_own() {
    let mut net = bridge(&[
        "table=0,in_port=1,actions=resubmit(2,1)",
        "table=1,in_port=2,actions=output:1,output:2,IN_PORT",
        "table=0,in_port=3,actions=load:4->NXM_OF_IN_PORT[],output:3,output:4",
        "table=0,in_port=4,actions=load:2->NXM_NX_REG0[],output:NXM_NX_REG0[]",
    ]);
    let ports = |out: Vec<(String, Vec<u8>)>| out.into_iter().map(|(p, _)| p).collect::<Vec<_>>();
    let sent = frame(2, 1, None, 1);
    assert_eq!(ports(twice(&mut net, "p1", &sent)), ["p1", "p2"], "its own port only by IN_PORT");
    assert_eq!(ports(twice(&mut net, "p3", &sent)), ["p3"], "a packet that says it came from p4");
    assert_eq!(ports(twice(&mut net, "p4", &sent)), ["p2"]);
    net.finish();
}

#[test]
fn trace_says_what_the_datapath_does() {
    let mut net = bridge(&[
        "in_port=1,udp,tp_dst=1,actions=mod_dl_dst:02:00:00:00:00:09,dec_ttl,output:2,resubmit(,1)",
        "in_port=1,udp,tp_dst=2,actions=clone(push_vlan:0x8100,output:2),output:3",
        "in_port=1,udp,tp_dst=3,actions=group:1",
        "in_port=1,udp,tp_dst=4,actions=drop",
        "in_port=1,arp,actions=NORMAL",
        "table=1,ip,nw_dst=10.0.0.2,actions=mod_nw_tos:32,IN_PORT",
    ]);
    set_group(&mut net, GroupKind::Select, vec![bucket(0, 1, 2, &[]), bucket(1, 1, 3, &[])]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let mut frames: Vec<Vec<u8>> = (1..6).map(|port| udp(2, 1, 7, port, 0)).collect();
    frames.push(frame(2, 1, Some(5), 1));
    for sent in frames {
        net.slow.flush_flows();
        net.run();
        let mut packet = flow::ofp::MatchKey { flow: key(&sent), ..flow::ofp::MatchKey::ZERO };
        packet.flow.in_port = 1;
        let trace = net.slow.trace_view(id, &packet, None).unwrap();
        net.send("p1", &[sent]);
        let rows = net.slow.megaflow_view(None, 9);
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].flow, &rows[0].actions), (&trace.megaflow, &trace.actions));
        assert_eq!(trace.reason.is_some(), trace.actions.starts_with("drop"), "{}", trace.actions);
        assert!(trace.steps.iter().any(|step| step.contains("0. ")), "{:?}", trace.steps);
    }
    net.finish();
}

/// A group that watches group `id`.
fn watching(id: u32, watched: u32, port: u32) -> GroupSpec {
    let mut watcher = bucket(0, 0, port, &[]);
    (watcher.watch_port, watcher.watch_group) = (None, Some(watched));
    GroupSpec { id, kind: GroupKind::FastFailover, selection: None, buckets: vec![watcher] }
}

#[test]
fn a_group_that_is_watched_by_way_of_others_is_followed() {
    let mut net = bridge(&["in_port=1,actions=group:1"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let last = |port: u32| GroupSpec {
        id: 3,
        kind: GroupKind::FastFailover,
        selection: None,
        buckets: vec![bucket(0, 0, port, &[])],
    };
    let sent = udp(2, 1, 1000, 2000, 5);
    net.slow.set_groups(id, &[watching(1, 2, 2), watching(2, 3, 2), last(3)]);
    net.slow.settle();
    net.run();
    assert_eq!(
        twice(&mut net, "p1", &sent).len(),
        1,
        "group 1 watches 2, which watches 3, which watches a live port"
    );
    net.slow.set_groups(id, &[watching(1, 2, 2), watching(2, 3, 2), last(99)]);
    net.slow.settle();
    net.run();
    assert!(twice(&mut net, "p1", &sent).is_empty(), "port 99 does not exist");
    net.finish();
}

#[test]
fn groups_that_watch_one_another_cost_no_more_than_their_number() {
    let mut net = bridge(&["in_port=1,actions=group:0"]);
    let id = net.slow.state.bridge_named("br0").unwrap();
    // Each has four buckets that watch the next one; the last one is dead, and the whole goes round.
    let specs: Vec<GroupSpec> = (0..32)
        .map(|n| {
            let mut spec = watching(n, (n + 1) % 32, 2);
            spec.buckets = (0..4).map(|at| Bucket { id: at, ..spec.buckets[0].clone() }).collect();
            spec
        })
        .collect();
    net.slow.set_groups(id, &specs);
    net.slow.settle();
    net.run();
    // Four to the power of 32 looks would not end.
    assert!(twice(&mut net, "p1", &udp(2, 1, 1, 2, 3)).is_empty());
    assert_eq!(net.drops(DropReason::NoBucket), 2);
    net.finish();
}

/// Whatever drops a packet, a capture of drops has its copy, and the counts stay what they were.
#[test]
fn captures_of_drops_have_what_is_dropped() {
    let mut net =
        bridge(&["in_port=1,actions=drop", "in_port=2,actions=output:9", "in_port=3,actions=output:1"]);
    let p1 = net.port("p1");
    let (sink, mut captured) = tokio::sync::mpsc::channel(64);
    let small = frame(2, 1, None, 1);
    let long = [frame(2, 1, None, 2), vec![0; 1500]].concat();
    net.send("p1", std::slice::from_ref(&small));
    let id = net.slow.capture(CaptureSource::Drops(DropsOf::All), None, sink.clone());
    let of_p1 = net.slow.capture(CaptureSource::Drops(DropsOf::Port(p1)), None, sink.clone());
    net.run();
    net.send("p1", std::slice::from_ref(&small));
    net.send("p1", &[vec![0; 10]]);
    net.send("p2", std::slice::from_ref(&small));
    net.send("p3", std::slice::from_ref(&long));
    let seen: Vec<_> = std::iter::from_fn(|| captured.try_recv().ok())
        .map(|copy| {
            let at = copy.dropped.unwrap();
            (at.port.unwrap(), at.reason, copy.bytes.to_vec())
        })
        .collect();
    let all = [
        ("p1", DropReason::Rule, &small),
        ("p1", DropReason::Rule, &small),
        ("p1", DropReason::EthernetTruncated, &vec![0; 10]),
        ("p1", DropReason::EthernetTruncated, &vec![0; 10]),
        ("p2", DropReason::NoBridgePort, &small),
        ("p3", DropReason::MtuExceeded, &long),
    ];
    assert_eq!(seen, all.map(|(port, reason, bytes)| (port.to_owned(), reason, bytes.clone())));
    net.slow.end_capture(id);
    net.slow.end_capture(of_p1);
    net.run();
    net.send("p1", std::slice::from_ref(&small));
    assert!(captured.try_recv().is_err());
    assert_eq!(net.counters.drops_total(DropReason::Rule), 3);
    net.finish();
}
