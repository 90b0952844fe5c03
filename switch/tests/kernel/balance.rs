//! RX queues that go to other workers by themselves, where load is uneven (`pmd-auto-lb`).

use crate::support::daemon::Daemon;
use crate::support::net::{Background, Host, device_name};
use crate::support::{eventually, is_root, turn};
use std::time::Duration;

/// Requests of a ping that lasts longer than a minute, after which the switch looks for the first time.
const REQUESTS: u32 = 3000;

#[test]
fn two_busy_queues_of_a_worker_are_shared_out_and_nothing_is_lost() {
    if !is_root("two_busy_queues_of_a_worker_are_shared_out_and_nothing_is_lost") {
        return;
    }
    let _turn = turn();
    let switch = Host::new("switch");
    let hosts: Vec<Host> = (1..=4).map(|n| Host::new(&format!("h{n}"))).collect();
    let taps: Vec<String> = (1..=4).map(|n| device_name(&format!("l{n}"))).collect();
    let port = |tap: &String| {
        format!("[[bridge.port]]\nname = \"{tap}\"\ntype = \"tap\"\noptions = {{ n_rxq = 1 }}\n")
    };
    let config = format!(
        "[other_config]\npmd-auto-lb = \"true\"\npmd-auto-lb-load-threshold = \"1\"\npmd-rxq-assign = \"cycles\"\n\
         [[bridge]]\nname = \"br0\"\n{}",
        taps.iter().map(port).collect::<String>()
    );
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0@0,1@0,2@1");
    for (n, (host, tap)) in (1..).zip(hosts.iter().zip(&taps)) {
        host.connect(&switch, tap, &format!("02:00:00:00:01:0{n}"), 1500, &format!("10.0.0.{n}/24"));
    }
    // Index of the worker that polls a tap.
    let worker = |tap: &String| {
        let queue = serde_json::Value::String(format!("{tap}/0"));
        let polls = |row: &serde_json::Value| row["rx"].as_array().is_some_and(|rx| rx.contains(&queue));
        daemon.workers().iter().position(polls)
    };
    let places = || -> Vec<Option<usize>> { taps.iter().map(worker).collect() };
    assert_eq!(places(), [Some(0), Some(1), Some(0), Some(1)], "in turn");
    // The first and the third host send, so all that is to be done is the first worker's.
    let _streams: Vec<[Background; 2]> = [(0, 1), (2, 3)]
        .map(|(from, to)| {
            let server = hosts[to].background("iperf3 -s -1");
            eventually("iperf3 listens", Duration::from_secs(5), || {
                (!hosts[to].sh("ss -Hltn sport = :5201").trim().is_empty()).then_some(())
            });
            let line = format!("iperf3 -u -b 60M -l 1400 -t 120 -c 10.0.0.{}", to + 1);
            [server, hosts[from].background(&line)]
        })
        .into();
    std::thread::scope(|scope| {
        // By a queue that moves, and by queues that stay.
        let pings = [(0, 1), (1, 3)].map(|(from, to)| {
            let from: &Host = &hosts[from];
            scope.spawn(move || from.ping(&format!("10.0.0.{}", to + 1), REQUESTS, ""))
        });
        std::thread::sleep(Duration::from_secs(20));
        let show = || daemon.ctl(&["appctl", "dpif-netdev/pmd-rxq-show"]);
        assert_eq!(places(), [Some(0), Some(1), Some(0), Some(1)], "not before a minute is over: {}", show());
        eventually("one busy queue each", Duration::from_mins(1), || {
            let places = places();
            (places[0].is_some() && places[2].is_some() && places[0] != places[2]).then_some(())
        });
        // As a user sees it.
        let text = show();
        let of_worker: Vec<&str> = text.split("pmd thread").skip(1).collect();
        let busy = |part: &&str| [0, 2].iter().filter(|n| part.contains(&taps[**n])).count();
        assert_eq!(of_worker.iter().map(busy).collect::<Vec<_>>(), [1, 1], "{text}");
        for ping in pings {
            ping.join().expect("ping").assert_lossless();
        }
    });
    let dropped = daemon.drops();
    assert!(!dropped.contains_key("tx_full") && !dropped.contains_key("handover_full"), "{dropped:?}");
    daemon.stop();
}
