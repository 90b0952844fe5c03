//! The learning switch, in one process: what comes out of which port, and that nothing is lost on the way.

mod rings;

use flow::drop::DropReason;
use flow::program::PortId;
use rings::{Net, frame, mac};
use std::time::Instant;
use vxswitch::bridge::fdb::Location;
use vxswitch::bridge::vlan::VlanConfig;

const THREE_PORTS: &str = r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_ring1" }
[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "net_ring2" }
[[bridge.port]]
name = "p3"
type = "dpdk"
options = { dpdk-devargs = "net_ring3" }
"#;

#[test]
fn learns_and_floods() {
    let mut net = Net::new(THREE_PORTS);
    let out = net.send("p1", &[frame(2, 1, None, 0)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p2", "p3"], "unknown: flooded, not back to its port");
    assert_eq!(out["p2"], [frame(2, 1, None, 0)], "unchanged");
    assert_eq!(out["p3"], [frame(2, 1, None, 0)]);

    let out = net.send("p2", &[frame(1, 2, None, 1)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1"], "known: forwarded");
    // The flooding megaflow of the first packet has to give way to what the second one taught.
    let out = net.send("p1", &[frame(2, 1, None, 2)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p2"]);
    let out = net.send("p3", &[frame(u32::MAX, 3, None, 3)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p1", "p2"], "broadcast");
    net.finish();
}

#[test]
fn nothing_is_tried_on_a_port_without_a_link() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(2, 1, None, 0)]);
    net.send("p2", &[frame(1, 2, None, 1)]);
    let p2 = net.port("p2");
    net.slow.set_alive(p2, false);
    // A run of one flow, a single packet, and a copy for one of several ports.
    let run: Vec<Vec<u8>> = (0..20).map(|n| frame(2, 1, None, n)).collect();
    assert!(net.send("p1", &run).is_empty());
    assert!(net.send("p1", &run[..1]).is_empty());
    let out = net.send("p1", &[frame(u32::MAX, 1, None, 3)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p3"]);
    assert_eq!(net.drops(DropReason::LinkDown), 22);
    assert_eq!(net.drops(DropReason::MtuExceeded) + net.drops(DropReason::TxFull), 0);
    net.slow.set_alive(p2, true);
    assert_eq!(net.send("p1", &run)["p2"].len(), 20);
    net.finish();
}

#[test]
fn a_flood_of_new_flows_leaves_room_for_other_ports() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(2, 1, None, 0)]);
    // Nobody answers meanwhile.
    for n in 0..4000 {
        net.put("p1", &frame(9, 1000 + n, None, n));
        net.worker().poll();
    }
    let lost = |net: &Net| net.drops(DropReason::HoldFull) + net.drops(DropReason::UpcallQueueFull);
    let (before, held) = (lost(&net), net.held());
    assert!(before > 0, "no flood");
    let other = frame(9, 77, None, 7);
    net.put("p2", &other);
    net.worker().poll();
    assert_eq!((lost(&net), net.held()), (before, held + 1));
    net.run();
    assert!(net.take_all("p3").contains(&other));
    net.finish();
}

/// What comes before a port's first megaflow can only wait; it does so in the device's ring, where nothing is lost.
#[test]
fn a_flood_at_the_start_of_a_port_waits_in_its_ring() {
    let mut net = Net::new(THREE_PORTS);
    net.set_rules("br0", &["in_port=p1,actions=output:p2"]);
    let flow = |n| frame(9, 1000 + n, None, n);
    for n in 0..3000 {
        net.put("p1", &flow(n));
        net.worker().poll();
    }
    assert!((1..1000).contains(&net.held()), "{} wait", net.held());
    net.run();
    let out = net.take_all("p2");
    assert_eq!(out.len(), 3000);
    assert!((0..).map(flow).zip(out).all(|(sent, left)| sent == left), "not in order");
    net.finish();
}

/// The cells have room for as many packets as there are, but not all for one port.
#[test]
fn packets_of_one_flow_do_not_take_all_the_room() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(2, 1, None, 0)]);
    for flow in 0..4 {
        for n in 0..1000 {
            net.put("p1", &frame(9, 10 + flow, None, n));
            net.worker().poll();
        }
    }
    let before = net.drops(DropReason::HoldFull);
    assert!(before > 0, "no flood");
    for n in 0..100 {
        net.put("p2", &frame(9, 77, None, n));
        net.worker().poll();
    }
    assert_eq!(net.drops(DropReason::HoldFull), before);
    net.run();
    assert!(net.take_all("p3").len() >= 100);
    net.finish();
}

#[test]
fn an_address_that_moves_is_followed_at_once_and_back() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(9, 1, None, 0)]);
    net.send("p2", &[frame(1, 2, None, 1)]);
    for (round, port) in ["p3", "p1", "p3", "p1"].iter().enumerate() {
        // Host 1 shows itself on another port, then host 2 writes to it.
        net.send(port, &[frame(9, 1, None, 2)]);
        let out = net.send("p2", &[frame(1, 2, None, 3)]);
        assert_eq!(out.keys().collect::<Vec<_>>(), [port], "round {round}");
    }
    net.finish();
}

#[test]
fn frames_for_the_port_they_came_from_reserved_groups_and_bad_sources_are_dropped_by_name() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(9, 1, None, 0)]);
    assert!(net.send("p1", &[frame(1, 5, None, 1)]).is_empty());
    assert_eq!(net.drops(DropReason::SamePort), 1);
    let mut bpdu = frame(0, 1, None, 2);
    bpdu[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
    assert!(net.send("p1", &[bpdu]).is_empty());
    assert_eq!(net.drops(DropReason::ReservedMulticast), 1);
    let mut group = frame(2, 1, None, 3);
    group[6] |= 1;
    assert!(net.send("p1", &[group]).is_empty());
    assert_eq!(net.drops(DropReason::SourceMulticast), 1);
    assert!(net.send("p1", &[vec![0xff; 13]]).is_empty());
    assert_eq!(net.drops(DropReason::EthernetTruncated), 1);
    net.finish();
}

#[test]
fn vlans_are_separate_and_tags_are_put_on_and_taken_off() {
    let mut net = Net::new(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "a10"
type = "dpdk"
options = { dpdk-devargs = "net_ring1" }
tag = 10
[[bridge.port]]
name = "b10"
type = "dpdk"
options = { dpdk-devargs = "net_ring2" }
tag = 10
[[bridge.port]]
name = "c20"
type = "dpdk"
options = { dpdk-devargs = "net_ring3" }
tag = 20
[[bridge.port]]
name = "trunk"
type = "dpdk"
options = { dpdk-devargs = "net_ring4" }
trunks = [10, 20]
"#,
    );
    let out = net.send("a10", &[frame(u32::MAX, 1, None, 0)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["b10", "trunk"]);
    assert_eq!(out["b10"], [frame(u32::MAX, 1, None, 0)]);
    assert_eq!(out["trunk"][0][..18], frame(u32::MAX, 1, Some(10), 0)[..18]);
    assert_eq!(out["trunk"][0].len(), 68, "the tag makes the frame longer");

    let out = net.send("trunk", &[frame(u32::MAX, 4, Some(0x6014), 1)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["c20"], "VLAN 20 with priority 3");
    assert_eq!(out["c20"][0][..14], frame(u32::MAX, 4, None, 1)[..14], "untagged on an access port");

    assert!(net.send("trunk", &[frame(u32::MAX, 4, Some(30), 2)]).is_empty());
    assert!(net.send("trunk", &[frame(u32::MAX, 4, None, 3)]).is_empty());
    assert!(net.send("a10", &[frame(u32::MAX, 1, Some(10), 4)]).is_empty());
    assert_eq!(net.drops(DropReason::VlanIngress), 3);
    net.finish();
}

#[test]
fn the_priority_of_a_frame_survives_its_access_port() {
    let mut net = Net::new(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "access"
type = "dpdk"
options = { dpdk-devargs = "net_ring1" }
tag = 10
[[bridge.port]]
name = "trunk"
type = "dpdk"
options = { dpdk-devargs = "net_ring2" }
"#,
    );
    // The first frame makes the megaflow: the others must not get its priority.
    for priority in [0, 5, 1, 0] {
        let out = net.send("access", &[frame(2, 1, Some(priority << 13), 0)]);
        assert_eq!(
            out["trunk"][0][14..16],
            (priority << 13 | 0x000a_u16).to_be_bytes(),
            "priority {priority}"
        );
    }
    let out = net.send("access", &[frame(2, 1, None, 0)]);
    assert_eq!(out["trunk"][0][14..16], [0, 10]);
    net.finish();
}

#[test]
fn a_destination_that_makes_room_for_its_own_source_is_flooded() {
    let small = "name = \"br0\"\nother_config = { mac-table-size = \"10\" }";
    let mut net = Net::new(&THREE_PORTS.replace("name = \"br0\"", small));
    for n in 100..110 {
        net.send("p2", &[frame(1, n, None, 0)]);
    }
    // The table is full and p2 has most of it: a new source on p1 makes its oldest address go, which is the very
    // one that the packet is for.
    let bridge = net.slow.state.bridge_named("br0").unwrap();
    net.send("p1", &[frame(100, 1, None, 0)]);
    assert_eq!(net.slow.state.bridge(bridge).unwrap().fdb.lookup(0, mac(100)), None);
    let out = net.send("p1", &[frame(100, 1, None, 1)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p2", "p3"], "unknown, so flooded");
    net.finish();
}

#[test]
fn rules_that_resubmit_without_end_drop_and_the_switch_goes_on() {
    let mut net = Net::new(THREE_PORTS);
    net.set_rules("br0", &["in_port=p1,actions=resubmit(,0),resubmit(,0)", "priority=1,actions=NORMAL"]);
    assert!(net.send("p1", &[frame(2, 1, None, 0)]).is_empty());
    assert_eq!(net.drops(DropReason::RecursionLimit), 1);
    net.set_rules("br0", &["in_port=p1,actions=resubmit(,1),resubmit(,1)", "table=1,actions=output:p2"]);
    assert_eq!(net.send("p1", &[frame(2, 1, None, 1)])["p2"].len(), 2, "below the limit each one counts");
    net.finish();
}

#[test]
fn addresses_do_not_outlive_their_ports_vlan() {
    let tagged = THREE_PORTS
        .replace("net_ring1\" }", "net_ring1\" }\ntag = 10")
        .replace("net_ring3\" }", "net_ring3\" }\ntag = 10");
    let mut net = Net::new(&tagged);
    net.send("p1", &[frame(9, 1, None, 0)]);
    assert_eq!(net.send("p3", &[frame(1, 3, None, 0)]).keys().collect::<Vec<_>>(), ["p1"]);
    let p1 = net.port("p1");
    let vlan = VlanConfig { tag: 20, ..net.slow.state.port(p1).unwrap().vlan.clone() };
    net.slow.set_vlan(p1, vlan);
    net.slow.settle();
    let out = net.send("p3", &[frame(1, 3, None, 1)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p2"], "flooded to who carries VLAN 10, tagged");
    net.finish();
}

#[test]
fn packets_of_a_new_flow_wait_and_leave_in_order() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p2", &[frame(9, 2, None, 0)]);
    net.send("p1", &[frame(9, 4, None, 0)]);
    // Nothing answers upcalls while the worker polls: all of them have to be held.
    let before = net.counters.upcalls.get();
    for n in 0..100 {
        net.put("p1", &frame(2, 1, None, n));
        net.put("p1", &frame(2, 3, None, 1000 + n));
    }
    for _ in 0..10 {
        net.worker().poll();
    }
    assert_eq!(net.held(), 200);
    assert_eq!(net.counters.upcalls.get() - before, 2, "one upcall a flow, not one a packet");
    net.assert_balanced();
    assert!(net.take("p2").is_none());
    // More of both flows arrive behind them, just when the answers come.
    net.slow.turn();
    for n in 100..150 {
        net.put("p1", &frame(2, 1, None, n));
        net.put("p1", &frame(2, 3, None, 1000 + n));
    }
    net.run();
    let out = net.take_all("p2");
    for (src, base) in [(1, 0), (3, 1000)] {
        let got: Vec<&Vec<u8>> = out.iter().filter(|f| f[6..12] == mac(src).0).collect();
        assert_eq!(got.len(), 150);
        for (n, frame_out) in got.into_iter().enumerate() {
            assert_eq!(*frame_out, frame(2, src, None, base + n as u32), "flow of {src}, packet {n}");
        }
    }
    net.finish();
}

#[test]
fn a_megaflow_that_also_fits_a_waiting_flow_does_not_let_later_packets_pass() {
    let mut net = Net::new(THREE_PORTS);
    // One wide megaflow for everything from p1; both flows miss before it is there.
    net.set_rules("br0", &["in_port=p1,actions=output:p2"]);
    net.put("p1", &frame(2, 1, None, 0));
    net.put("p1", &frame(2, 7, None, 100));
    net.worker().poll();
    assert_eq!(net.held(), 2);
    net.slow.turn();
    // Both answers are in the queue. A worker carries out commands before it polls, so make it see the first
    // answer, the packet of the second flow, and the second answer in one go.
    net.put("p1", &frame(2, 7, None, 101));
    net.run();
    let of_7: Vec<Vec<u8>> = net.take_all("p2").into_iter().filter(|f| f[6..12] == mac(7).0).collect();
    assert_eq!(of_7, [frame(2, 7, None, 100), frame(2, 7, None, 101)]);
    net.finish();
}

#[test]
fn when_nobody_answers_the_worker_drops_and_counts() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(2, 1, None, 0)]);
    for n in 0..3000 {
        net.put("p1", &frame(2, 10 + n, None, n));
    }
    for _ in 0..200 {
        net.worker().poll();
    }
    // 1024 upcalls fit, of which one port gets seven eighths; the packets behind the others have nobody to wait for.
    assert_eq!(net.held(), 897);
    assert_eq!(net.drops(DropReason::UpcallQueueFull), 3000 - 897);
    net.assert_balanced();
    net.run();
    assert_eq!(net.held(), 0);
    net.finish();
}

#[test]
fn rules_decide_by_priority_and_a_change_reaches_cached_flows() {
    let mut net = Net::new(THREE_PORTS);
    net.set_rules("br0", &["priority=10,in_port=p1,actions=output:p2", "priority=1,actions=drop"]);
    for _ in 0..3 {
        assert_eq!(net.send("p1", &[frame(2, 1, None, 0)]).keys().collect::<Vec<_>>(), ["p2"]);
    }
    assert!(net.send("p2", &[frame(1, 2, None, 0)]).is_empty());
    assert_eq!(net.drops(DropReason::Rule), 1);
    net.set_rules(
        "br0",
        &[
            "priority=10,in_port=p1,actions=output:p3",
            "priority=20,dl_src=02:00:00:00:00:05,actions=drop",
            "priority=1,actions=NORMAL",
        ],
    );
    assert_eq!(net.send("p1", &[frame(2, 1, None, 1)]).keys().collect::<Vec<_>>(), ["p3"]);
    assert!(net.send("p1", &[frame(2, 5, None, 1)]).is_empty(), "the higher priority drops");
    assert_eq!(net.drops(DropReason::Rule), 2);
    assert_eq!(net.send("p2", &[frame(77, 2, None, 1)]).keys().collect::<Vec<_>>(), ["p1", "p3"]);

    // Statistics: each packet counts for the rules that it matched, also after megaflows were replaced.
    net.slow.collect_all();
    let id = net.slow.state.bridge_named("br0").unwrap();
    let rules = net.slow.state.bridge(id).unwrap().tables.select(&flow::ofp::FlowFilter::default(), false);
    let counts: Vec<(u16, u64)> = rules.iter().map(|r| (r.spec.priority, r.stats().packets)).collect();
    assert_eq!(counts, [(20, 1), (10, 1), (1, 1)]);
    net.finish();
}

#[test]
fn a_secure_bridge_drops_what_no_rule_matches() {
    let mut net = Net::new(&THREE_PORTS.replace("name = \"br0\"", "name = \"br0\"\nfail_mode = \"secure\""));
    assert!(net.send("p1", &[frame(2, 1, None, 0)]).is_empty());
    assert_eq!(net.drops(DropReason::NoMatch), 1);
    net.finish();
}

#[test]
fn static_addresses_stay_where_the_operator_put_them() {
    let mut net = Net::new(THREE_PORTS);
    let (p2, bridge) = (net.port("p2"), net.slow.state.bridge_named("br0").unwrap());
    net.slow.state.bridge_mut(bridge).unwrap().fdb.add_fixed(
        0,
        mac(1),
        Location { port: p2, remote: None },
        Instant::now(),
    );
    net.slow.settle();
    for n in 0..3 {
        net.send("p3", &[frame(9, 1, None, n)]);
    }
    let misses = net.counters.misses.get();
    assert_eq!(net.send("p1", &[frame(1, 8, None, 0)]).keys().collect::<Vec<_>>(), ["p2"]);
    net.send("p3", &[frame(9, 1, None, 3)]);
    assert_eq!(
        net.counters.misses.get() - misses,
        1,
        "a packet that cannot teach does not ask again and again"
    );
    net.finish();
}

#[test]
fn a_removed_port_gives_its_queues_back_and_its_flows_go() {
    let mut net = Net::new(THREE_PORTS);
    net.send("p1", &[frame(2, 1, None, 0)]);
    net.send("p2", &[frame(1, 2, None, 0)]);
    let p2: PortId = net.port("p2");
    net.put("p1", &frame(2, 1, None, 1));
    net.worker().poll();
    // Removal waits for the worker, so the worker runs on another thread meanwhile.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut worker = net.take_worker();
    let queues = std::thread::scope(|scope| {
        let running = scope.spawn(|| worker.run(&stop, true));
        let queues = net.slow.remove_device(p2);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        running.join().unwrap();
        queues
    });
    net.put_worker(worker);
    assert_eq!(queues.len(), 1);
    assert_eq!((queues[0].port, queues[0].rx.len(), queues[0].tx.is_some()), (p2, 1, true));
    net.take_all("p2");
    let out = net.send("p1", &[frame(2, 1, None, 2)]);
    assert_eq!(out.keys().collect::<Vec<_>>(), ["p3"], "its addresses are forgotten: flooded to who is left");
    drop(queues);
    net.finish();
}
