//! One port's flood: what others wait for it, and what the switch learns and installs because of it.

mod rings;

use rings::{Net, Setup, frame, udp};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

fn bridge(settings: &str) -> String {
    let port = |n: u32| {
        format!(
            "[[bridge.port]]\nname = \"p{n}\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_ring{n}\" }}\n"
        )
    };
    format!("[[bridge]]\nname = \"br0\"\n{settings}\n{}{}{}", port(1), port(2), port(3))
}

fn fdb_len(net: &Net) -> usize {
    let id = net.slow.state.bridge_named("br0").unwrap();
    net.slow.state.bridge(id).unwrap().fdb.len()
}

#[test]
fn a_new_flow_does_not_wait_for_those_of_a_port_that_floods() {
    let mut net = Net::new(&bridge(""));
    net.send("p1", &[frame(9, 4, None, 0)]);
    for n in 0..800 {
        net.put("p1", &frame(9, 1000 + n, None, n));
    }
    for _ in 0..50 {
        net.worker().poll();
    }
    let new = frame(9, 5, None, 7);
    net.put("p2", &new);
    net.worker().poll();
    net.slow.turn();
    assert!(net.slow.upcalls_waiting() > 400, "{} wait", net.slow.upcalls_waiting());
    net.worker().poll();
    let first = net.take_all("p3");
    assert!(first.contains(&new), "decided in the first turn");
    net.run();
    assert_eq!(first.len() + net.take_all("p3").len(), 801, "all others in later ones");
    net.finish();
}

#[test]
fn addresses_beyond_a_ports_rate_are_forwarded_and_not_learned() {
    let mut net = Net::new(&bridge("other_config = { mac-learning-rate = \"100\" }"));
    let flood = |net: &mut Net, from: u32| {
        let frames: Vec<_> = (from..from + 300).map(|n| frame(9, n, None, n)).collect();
        assert_eq!(net.send("p1", &frames)["p3"].len(), 300, "all of them");
        (fdb_len(net), net.slow.megaflows())
    };
    assert_eq!(flood(&mut net, 1000), (100, 100));
    assert_eq!(net.slow.learning_limited, 200);
    net.send("p2", &[frame(9, 5, None, 1)]);
    assert_eq!(fdb_len(&net), 101, "another port learns");
    net.pass(Duration::from_millis(500));
    assert_eq!(flood(&mut net, 1100), (151, 151), "and this one more when time has passed");
    net.finish();
}

#[test]
fn a_port_that_has_learned_all_that_it_may_forgets_its_own() {
    let mut net = Net::new(&bridge("other_config = { mac-port-limit = \"10\" }"));
    net.send("p2", &[frame(9, 5, None, 1)]);
    for n in 0..50 {
        net.send("p1", &[frame(9, 1000 + n, None, n)]);
    }
    assert_eq!(fdb_len(&net), 11);
    assert_eq!(net.send("p3", &[frame(5, 6, None, 1)]).keys().collect::<Vec<_>>(), ["p2"]);
    assert_eq!(net.send("p3", &[frame(1049, 6, None, 1)]).keys().collect::<Vec<_>>(), ["p1"]);
    assert_eq!(net.send("p3", &[frame(1000, 6, None, 1)]).len(), 2, "forgotten");
    net.finish();
}

#[test]
fn rules_of_many_combinations_make_no_more_masks_than_a_port_may_have() {
    let mut net = Net::with(&bridge(""), &Setup { masks: 8, ..Setup::default() });
    let mut rules: Vec<String> = vec!["priority=1,actions=output:3".into()];
    for bits in 1..32 {
        rules.push(format!("priority={},udp,nw_src=10.128.0.0/{bits},actions=drop", 100 + bits));
        rules.push(format!("priority={},udp,nw_dst=10.128.0.0/{bits},tp_dst=9,actions=drop", 200 + bits));
        rules.push(format!("priority={},udp,tp_src={bits}/0x1f,actions=output:2", 50));
    }
    net.set_rules("br0", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let (p1, mut n) = (net.port("p1"), 0u32);
    let mut where_to = BTreeMap::new();
    for _ in 0..2000 {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sent = udp(n >> 9, n >> 7 & 0xff_ffff, n as u16 % 64, n as u16 % 11, 0);
        let out = net.send("p1", std::slice::from_ref(&sent));
        // The same again, by whatever megaflow there is by now.
        assert_eq!(
            net.send("p1", std::slice::from_ref(&sent)).keys().collect::<Vec<_>>(),
            out.keys().collect::<Vec<_>>()
        );
        where_to.insert(sent, out.into_keys().collect::<Vec<_>>());
        assert!(net.slow.workers[0].flows.masks_of(u32::from(p1.0)) <= 8);
    }
    assert!(net.slow.masks_widened > 20, "{}", net.slow.masks_widened);
    // And as without any bound.
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    net.finish();
    let mut free = Net::with(&bridge(""), &Setup { masks: 4096, ..Setup::default() });
    free.set_rules("br0", &rules);
    for (sent, ports) in where_to {
        assert_eq!(free.send("p1", &[sent]).into_keys().collect::<Vec<_>>(), ports);
    }
    assert_eq!(free.slow.masks_widened, 0);
    free.finish();
}

/// Ends the worker's loop when it goes.
struct StopsWorker<'a>(&'a AtomicBool);

impl Drop for StopsWorker<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// How long a new flow of `p2` waits while `p1` sends 150,000 random addresses a second, for `VXSWITCH_FLOOD_SECONDS`, else
/// one. The bound has room for a debug build on a busy machine; the figures that are printed are of use in a release build on
/// a quiet one.
#[test]
fn a_new_flow_does_not_wait_for_a_flood_of_addresses() {
    const RATE: f64 = 150_000.0;
    let seconds: u64 =
        std::env::var("VXSWITCH_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut net = Net::with_slots(&bridge(""), &[], 200_000);
    let mut worker = net.take_worker();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            worker.run(&stop, true);
            worker
        });
        // Also when an assertion fails below, the scope's end waits for the worker.
        let _stops = StopsWorker(&stop);
        let start = Instant::now();
        let (mut sent, mut seen, mut flow, mut random, mut missed, mut lost) =
            (0u64, start, 1000u32, 1u64, 0u64, 0u64);
        let mut waiting: Option<(u32, Instant)> = None;
        let mut waits = Vec::new();
        while start.elapsed() < Duration::from_secs(seconds) {
            let now = Instant::now();
            net.clock.advance(now - seen);
            seen = now;
            let due = (RATE * (now - start).as_secs_f64()) as u64;
            for _ in 0..(due - sent).min(256) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // As a device whose queue is full.
                missed +=
                    u64::from(!net.try_put("p1", &frame(9, (random >> 40) as u32 | 0x4000_0000, None, 0)));
            }
            sent = due;
            if waiting.is_none() {
                flow += 1;
                net.put("p2", &frame(9, flow, None, flow));
                waiting = Some((flow, now));
            }
            net.slow.turn();
            for out in net.take_all("p3") {
                let source = u32::from_be_bytes([out[8], out[9], out[10], out[11]]);
                if let Some((_, since)) = waiting.filter(|(flow, _)| *flow == source) {
                    waits.push(since.elapsed());
                    waiting = None;
                }
            }
            // One whose first packet was lost waits for ever: counted, and another begins.
            if waiting.is_some_and(|(_, since)| since.elapsed() > Duration::from_millis(200)) {
                (waiting, lost) = (None, lost + 1);
            }
            net.take_all("p1");
            net.take_all("p2");
            std::thread::yield_now();
        }
        assert!(!waits.is_empty(), "no new flow was forwarded");
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        println!(
            "{} flows, {lost} lost: median {:?}, p90 {:?}, p99 {:?}, most {:?}; {} addresses not learned, {} learned; \
             {missed} of {sent} frames missed",
            waits.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            net.slow.learning_limited,
            fdb_len(&net)
        );
        assert!(waits.len() as u64 > 10 * lost, "{lost} of {} first packets were lost", waits.len());
        assert!(at(0.5) < Duration::from_millis(50), "half of the new flows wait longer than {:?}", at(0.5));
        stop.store(true, Relaxed);
        net.put_worker(thread.join().unwrap());
    });
    net.run();
    net.finish();
}
