//! A worker's loop does not allocate and does not free: not in the steady state, not for new flows, not for
//! commands, not when it drops.

mod rings;

use allocation_counter::measure;
use rings::{Net, arp_answer, frame, udp};
use std::hint::black_box;
use vxswitch::slowpath::capture::{CaptureSource, DropsOf};

/// How often `job` calls the allocator on this thread, to allocate and to free.
fn calls(job: impl FnOnce()) -> u64 {
    let counted = measure(job);
    // The current ones are those allocated less those freed.
    counted.count_total + counted.count_total.wrapping_sub_signed(counted.count_current)
}

/// Runs the switch until it is quiet and says how often the worker called the allocator.
fn run(net: &mut Net) -> u64 {
    let (mut all, mut quiet) = (0, 0);
    while quiet < 3 {
        let mut worked = false;
        all += calls(|| worked = net.worker().poll());
        net.slow.turn();
        let waits =
            net.slow.workers.iter().any(|w| !w.link.commands.is_empty() || !w.link.upcalls.is_empty());
        quiet = if worked || waits { 0 } else { quiet + 1 };
    }
    all
}

#[test]
fn a_worker_does_not_allocate() {
    let mut net = Net::new(
        r#"
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
name = "vx"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24"]
[[bridge.port]]
name = "up"
type = "dpdk"
options = { dpdk-devargs = "net_ring3" }
"#,
    );
    // The counter counts: making a string is seen.
    assert_eq!(calls(|| drop(black_box(String::from("seen")))), 2);
    let kept = String::from("freed alone");
    assert_eq!(calls(|| drop(black_box(kept))), 1);

    let mut all = 0;
    for round in 0..4u32 {
        // New flows (other addresses in each round), old flows, floods into the tunnel (whose neighbour never
        // answers, so packets are held and given up), punts, drops.
        for n in 0..100 {
            net.put("p1", &frame(2 + n, 1000 * round + n, None, n));
            net.put("p2", &frame(1000 * round + n, 5, None, n));
            net.put("p1", &udp(2, 1, n as u16, 80, n));
            net.put("up", &frame(u32::MAX, 77, None, n));
        }
        net.put("p1", &[0; 10]);
        all += run(&mut net);
        net.set_rules("br0", if round % 2 == 0 { &["tcp,actions=drop", "actions=NORMAL"] } else { &[] });
        all += run(&mut net);
    }
    // Bursts that take the fast paths into the tunnel: by one megaflow, by one mask; and a neighbour that comes and moves.
    net.set_rules(
        "br0",
        &["in_port=p1,actions=output:vx", "in_port=p2,dl_dst=02:00:00:00:00:01,actions=output:vx"],
    );
    for round in 0..6 {
        net.put("up", &arp_answer(2, 0x50 + round / 2));
        all += run(&mut net);
        for n in 0..64 {
            let mut ordinary = udp(1, 2, n, 80, n.into());
            ordinary.resize(60, 0);
            net.put("p1", &ordinary);
            net.put("p2", &ordinary);
        }
        all += run(&mut net);
        for port in ["p1", "p2", "up"] {
            net.take_all(port);
        }
    }
    let no_key = net.counters.no_key_hits.get();
    assert!(no_key > 400, "{no_key} packets without a key");
    // Packets that enter a bridge again: what the underlay's rules send, and what it sends to LOCAL, chains among them.
    net.set_rules("br0", &["in_port=p1,actions=output:vx", "in_port=vx,actions=output:p2"]);
    net.set_rules("br-phy", &["in_port=LOCAL,udp,tp_src=0xc000/0xc000,actions=output:up", "actions=NORMAL"]);
    for round in 0..4u16 {
        for n in 0..64 {
            net.put("p1", &udp(1, 2, 100 * round + n, 80, n.into()));
        }
        all += run(&mut net);
        let sent = net.take_all("up");
        assert!(sent.len() >= 64, "{} tunnel packets", sent.len());
        for (n, packet) in sent.iter().filter(|packet| packet.len() > 90).enumerate() {
            // Back from the peer: addresses swapped.
            let mut back = packet.clone();
            for (to, from) in [(0..6, 6..12), (6..12, 0..6), (26..30, 30..34), (30..34, 26..30)] {
                back[to].copy_from_slice(&packet[from]);
            }
            if n % 3 == 0 { net.put_chain("up", &back, &[92]) } else { net.put("up", &back) }
        }
        all += run(&mut net);
        assert!(!net.take_all("p2").is_empty());
    }
    // Copies of what is dropped, more than there are buffers for, and of what comes in.
    let (sink, mut captured) = tokio::sync::mpsc::channel(16);
    let p2 = net.port("p2");
    let ids = [CaptureSource::Drops(DropsOf::All), CaptureSource::Port(p2)]
        .map(|source| net.slow.capture(source, None, sink.clone()));
    for _ in 0..1000 {
        net.put("p1", &[0; 10]);
        net.put("p2", &frame(5, 5, None, 0));
    }
    all += run(&mut net);
    assert!(captured.try_recv().is_ok());
    for id in ids {
        net.slow.end_capture(id);
    }
    all += run(&mut net);
    let (upcalls, sent) = (net.counters.upcalls.get(), net.counters.tx.get());
    assert!(upcalls > 400 && sent > 400, "the test did exercise the worker: {upcalls} upcalls, {sent} sent");
    assert_eq!(all, 0, "allocator calls in the worker's loop");
    net.finish();
}
