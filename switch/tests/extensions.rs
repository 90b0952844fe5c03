//! Open vSwitch's own actions that look beyond one rule, in one process: conjunctions.

mod rings;

use rings::{Net, mac, udp};

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

/// Ports by which a packet leaves that came in by port 1.
fn leaves(net: &mut Net, frame: Vec<u8>) -> Vec<String> {
    net.send("p1", &[frame]).into_keys().collect()
}

#[test]
fn changes_of_a_conjunctions_parts_reach_cached_flows() {
    let rules = [
        "priority=5,conj_id=7,ip,actions=output:2",
        "priority=5,ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)",
        "priority=5,ip,nw_dst=10.0.0.2,actions=conjunction(7,2/2)",
        "priority=1,actions=output:3",
    ];
    let mut net = bridge(&rules);
    let packet = || udp(2, 1, 7, 8, 0);
    let other = || udp(4, 1, 7, 8, 0);
    for _ in 0..2 {
        assert_eq!(
            (leaves(&mut net, packet()), leaves(&mut net, other())),
            (vec!["p2".into()], vec!["p3".into()])
        );
    }
    net.set_rules("br0", &[&rules[..2], &rules[3..]].concat());
    assert_eq!(leaves(&mut net, packet()), ["p3"], "a part is missing");
    net.set_rules(
        "br0",
        &[&rules[..], &["priority=5,ip,nw_dst=10.0.0.4,actions=conjunction(7,2/2)"]].concat(),
    );
    assert_eq!(
        (leaves(&mut net, packet()), leaves(&mut net, other())),
        (vec!["p2".into()], vec!["p2".into()])
    );
    net.set_rules("br0", &[&rules[1..], &["priority=4,conj_id=7,actions=output:4"]].concat());
    assert_eq!(leaves(&mut net, packet()), ["p4"], "whatever the priority of the rule with conj_id");
    net.set_rules("br0", &rules[1..]);
    assert_eq!(leaves(&mut net, packet()), ["p3"], "a rule with conj_id is missing");
    net.finish();
}

#[test]
fn a_conjunction_looks_at_what_its_parts_match_and_is_traced() {
    let mut net = bridge(&[
        "conj_id=7,actions=output:2",
        "ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)",
        "udp,tp_dst=8,actions=conjunction(7,2/2)",
    ]);
    for src in 0..8 {
        assert_eq!(leaves(&mut net, udp(src, 1, 7, 8, 0)), ["p2"], "the destination is not looked at");
    }
    assert_eq!(net.slow.megaflows(), 1);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let mut key = flow::ofp::MatchKey::ZERO;
    wire::parse::extract(&udp(2, 1, 7, 8, 0), &mut key.flow).unwrap();
    key.flow.in_port = 1;
    let trace = net.slow.trace_view(id, &key, None).unwrap();
    let steps = trace.steps.join("\n");
    assert!(steps.contains("met:") && steps.contains("conjunction(7,2/2)"), "{steps}");
    assert!(steps.contains("conj_id=7 actions=output:p2"), "{steps}");
    // Statistics are those of the rule with conj_id.
    let rules = net.slow.rules_of(id, &flow::ofp::FlowFilter::default(), false);
    let packets =
        rules.iter().map(|rule| rule.row(&flow::ofp::PortMap::default())).map(|row| (row.flow, row.packets));
    let mut counted: Vec<_> = packets.filter(|(_, packets)| *packets > 0).collect();
    assert_eq!(counted.pop().map(|(flow, packets)| (flow.contains("conj_id=7"), packets)), Some((true, 8)));
    assert!(counted.is_empty(), "{counted:?}");
    net.finish();
}

/// The rules of a table, as a user writes them, with their packets.
fn rules(net: &mut Net, table: u8) -> Vec<(String, u64)> {
    let id = net.slow.state.bridge_named("br0").unwrap();
    let filter = flow::ofp::FlowFilter { table: Some(table), ..flow::ofp::FlowFilter::default() };
    let rows = net.slow.rules_of(id, &filter, false);
    rows.iter()
        .map(|rule| rule.row(&flow::ofp::PortMap::default()))
        .map(|row| (row.flow, row.packets))
        .collect()
}

/// The tutorial's learning switch: where an address is, by rules alone.
const MAC_LEARNING: [&str; 4] = [
    "actions=learn(table=10,hard_timeout=60,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]),\
     resubmit(,10),resubmit(,20)",
    "table=10,priority=0,actions=load:0->NXM_NX_REG0[0..15]",
    "table=20,priority=1,reg0=0/0xffff,actions=FLOOD",
    "table=20,priority=0,actions=output:NXM_NX_REG0[0..15]",
];

fn from(net: &mut Net, port: &str, frame: Vec<u8>) -> Vec<String> {
    net.send(port, &[frame]).into_keys().collect()
}

#[test]
fn a_switch_learns_by_rules() {
    let mut net = bridge(&MAC_LEARNING);
    assert_eq!(from(&mut net, "p1", udp(2, 1, 7, 8, 0)), ["p2", "p3", "p4"], "nobody knows 2");
    assert_eq!(from(&mut net, "p2", udp(1, 2, 7, 8, 0)), ["p1"]);
    for _ in 0..3 {
        assert_eq!(from(&mut net, "p1", udp(2, 1, 7, 8, 0)), ["p2"]);
    }
    let learned: Vec<String> = rules(&mut net, 10).into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(learned.len(), 3, "{learned:?}");
    assert!(
        learned.iter().any(|rule| {
            rule == "table=10, hard_timeout=60, dl_dst=02:00:00:00:00:02,actions=load:0x2->NXM_NX_REG0[0..15]"
        }),
        "{learned:?}"
    );
    // An address that moves, and back: cached flows follow at once.
    assert_eq!(from(&mut net, "p3", udp(1, 2, 7, 8, 0)), ["p1"]);
    assert_eq!(from(&mut net, "p1", udp(2, 1, 7, 8, 0)), ["p3"]);
    assert_eq!(from(&mut net, "p2", udp(1, 2, 7, 8, 0)), ["p1"]);
    assert_eq!(from(&mut net, "p1", udp(2, 1, 7, 8, 0)), ["p2"]);
    assert_eq!(rules(&mut net, 10).len(), 3);
    net.finish();
}

#[test]
fn what_is_learned_lives_as_long_as_packets_teach_it() {
    let mut net = bridge(&MAC_LEARNING);
    from(&mut net, "p1", udp(2, 1, 7, 8, 0));
    from(&mut net, "p2", udp(1, 2, 7, 8, 0));
    for _ in 0..4 {
        net.pass(std::time::Duration::from_secs(25));
        // By a megaflow: the slow path sees its statistics alone.
        from(&mut net, "p1", udp(2, 1, 7, 8, 0));
    }
    let learned = rules(&mut net, 10);
    assert_eq!(learned.len(), 2, "the quiet one is gone: {learned:?}");
    assert!(learned[0].0.contains("dl_dst=02:00:00:00:00:01"), "{learned:?}");
    assert_eq!(from(&mut net, "p1", udp(2, 1, 7, 8, 0)), ["p2", "p3", "p4"]);
    // One that somebody deletes is learned anew by the next packet.
    let id = net.slow.state.bridge_named("br0").unwrap();
    net.slow.state.bridge_mut(id).unwrap().tables.delete_where(|spec| spec.hard_timeout != 0);
    net.slow.rules_changed();
    net.run();
    assert_eq!(rules(&mut net, 10).len(), 1);
    from(&mut net, "p1", udp(2, 1, 7, 8, 0));
    assert_eq!(rules(&mut net, 10).len(), 2);
    net.finish();
}

#[test]
fn a_limit_is_kept_and_said() {
    let mut net = bridge(&[
        "udp,actions=learn(table=1,idle_timeout=10,limit=2,cookie=5,result_dst=reg0[0],eth_src),output:2,resubmit(,3)",
        "table=3,reg0=0/1,actions=output:3",
    ]);
    let ports = |net: &mut Net, src| from(net, "p1", udp(2, src, 7, 8, 0));
    for src in 1..5 {
        let expected: &[&str] = if src < 3 { &["p2"] } else { &["p2", "p3"] };
        for _ in 0..2 {
            assert_eq!(ports(&mut net, src), expected, "{src}");
        }
    }
    assert_eq!(rules(&mut net, 1).len(), 2);
    // There is room again when one goes.
    net.pass(std::time::Duration::from_secs(11));
    assert_eq!(rules(&mut net, 1).len(), 0);
    assert_eq!((ports(&mut net, 3), ports(&mut net, 1)), (vec!["p2".into()], vec!["p2".into()]));
    assert_eq!(ports(&mut net, 2), ["p2", "p3"]);
    net.finish();
}

#[test]
fn trace_learns_nothing_and_says_what_it_would() {
    let mut net = bridge(&MAC_LEARNING);
    let id = net.slow.state.bridge_named("br0").unwrap();
    let mut key = flow::ofp::MatchKey::ZERO;
    wire::parse::extract(&udp(2, 1, 7, 8, 0), &mut key.flow).unwrap();
    key.flow.in_port = 1;
    let steps = net.slow.trace_view(id, &key, None).unwrap().steps.join("\n");
    assert!(
        steps.contains("learned: cookie=0x0, table=10, hard_timeout=60, dl_dst=02:00:00:00:00:01"),
        "{steps}"
    );
    net.run();
    assert_eq!(rules(&mut net, 10).len(), 1);
    net.finish();
}

/// A TCP packet with these flags.
fn tcp(dst: u32, src: u32, flags: u8) -> Vec<u8> {
    let mut frame = udp(dst, src, 1000, 80, 0);
    frame.resize(54, 0);
    (frame[16], frame[17], frame[23]) = (0, 40, 6);
    frame[24..26].fill(0);
    let sum =
        frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame[38..54].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    frame
}

#[test]
fn a_connection_that_ends_takes_its_learned_rule_along() {
    let mut net = bridge(&[
        "tcp,in_port=1,actions=learn(table=1,idle_timeout=100,fin_idle_timeout=5,eth_type=0x800,nw_proto=6,ip_src,ip_dst,output:reg0[0..15]),\
         load:2->reg0[],resubmit(,1)",
    ]);
    let second = std::time::Duration::from_secs(1);
    for flags in [0x02, 0x10, 0x10] {
        from(&mut net, "p1", tcp(2, 1, flags));
        from(&mut net, "p1", tcp(3, 1, flags));
    }
    assert_eq!(rules(&mut net, 1).len(), 2);
    net.pass(second * 10);
    assert_eq!(rules(&mut net, 1).len(), 2);
    from(&mut net, "p1", tcp(2, 1, 0x11));
    let shown: Vec<bool> =
        rules(&mut net, 1).into_iter().map(|(rule, _)| rule.contains("idle_timeout=5,")).collect();
    assert_eq!(shown.iter().filter(|short| **short).count(), 1);
    net.pass(second * 6);
    let left = rules(&mut net, 1);
    assert_eq!(left.len(), 1);
    assert!(left[0].0.contains("nw_dst=10.0.0.3") && left[0].0.contains("idle_timeout=100"), "{left:?}");
    net.finish();
}

#[test]
fn a_packets_length_decides_packet_by_packet() {
    let mut net = bridge(&[
        "actions=mod_dl_src:02:00:00:00:00:77,check_pkt_larger(100)->reg0[3],resubmit(,1),output:4",
        "table=1,reg0=8/8,actions=push_vlan:0x8100,output:2",
        "table=1,actions=dec_ttl,output:3",
    ]);
    let packet = |len: usize| {
        let mut frame = udp(2, 1, 7, 8, 0);
        frame.resize(len, 0);
        frame
    };
    for len in [60, 100, 101, 1400, 99, 102] {
        let out = net.send("p1", &[packet(len)]);
        let way = if len > 100 { "p2" } else { "p3" };
        assert_eq!(out.keys().collect::<Vec<_>>(), [way, "p4"], "{len}");
        let tagged = if len > 100 { 4 } else { 0 };
        assert_eq!((out[way][0].len(), out["p4"][0].len()), (len + tagged, len + tagged));
        assert_eq!(out["p4"][0][6..12], mac(0x77).0);
    }
    assert_eq!(net.slow.megaflows(), 1, "for all lengths");
    let burst: Vec<Vec<u8>> = (90..110).map(packet).collect();
    let out = net.send("p1", &burst);
    assert_eq!((out["p2"].len(), out["p3"].len(), out["p4"].len()), (9, 11, 20));
    net.finish();
}

#[test]
fn a_port_may_be_kept_from_floods_from_receiving_and_from_forwarding() {
    use vxswitch::bridge::PortConfig;
    let mut net = bridge(&["arp,actions=FLOOD", "udp,actions=ALL", "priority=1,actions=NORMAL"]);
    let config = |net: &mut Net, bits: u32| {
        let port = net.port("p2");
        net.slow.set_port_config(port, PortConfig(bits));
        net.slow.settle();
        net.run();
    };
    let arp = || {
        let mut frame = rings::frame(u32::MAX, 1, None, 1);
        frame[12..14].copy_from_slice(&[8, 6]);
        frame
    };
    let ways = |net: &mut Net| {
        let other = rings::frame(9, 1, None, 1);
        [arp(), udp(2, 1, 7, 8, 0), other].map(|frame| leaves(net, frame).contains(&"p2".to_owned()))
    };
    assert_eq!(ways(&mut net), [true; 3]);
    config(&mut net, PortConfig::NO_FLOOD);
    assert_eq!(ways(&mut net), [false, true, false], "ALL is all");
    // Known addresses are no flood.
    assert_eq!(from(&mut net, "p2", rings::frame(1, 5, None, 1)), ["p1"]);
    assert_eq!(leaves(&mut net, rings::frame(5, 1, None, 1)), ["p2"]);
    config(&mut net, PortConfig::NO_FORWARD);
    assert_eq!(ways(&mut net), [false; 3]);
    assert_eq!(from(&mut net, "p2", rings::frame(1, 5, None, 1)), ["p1"]);
    config(&mut net, PortConfig::NO_RECEIVE);
    assert_eq!(ways(&mut net), [true; 3]);
    let before = net.drops(flow::drop::DropReason::PortDown);
    assert!(from(&mut net, "p2", rings::frame(1, 5, None, 1)).is_empty());
    assert_eq!(net.drops(flow::drop::DropReason::PortDown), before + 1);
    config(&mut net, 0);
    assert_eq!(ways(&mut net), [true; 3]);
    net.finish();
}
