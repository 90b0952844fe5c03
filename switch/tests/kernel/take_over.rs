//! Another process in the place of the running one, while packets pass: taps stay, and what was learned and told is kept.

use crate::support::{eventually, is_root, turn};
use crate::tap::Taps;
use crate::{H1_MAC, H3, H3_MAC, REMOTE};
use serde_json::Value;

/// What must be the same in the second process.
fn known(taps: &Taps) -> Value {
    let json = |line: &str| taps.daemon.json(line);
    let fdb = json("fdb show br0");
    let row = |mac: &str| {
        let row = fdb.as_array().expect("rows").iter().find(|row| row["mac"] == mac).cloned();
        let mut row = row.unwrap_or_else(|| panic!("{mac} is not known: {fdb}"));
        row.as_object_mut().expect("a row").remove("age");
        row
    };
    let neighbours = json("neigh show br-phy");
    let flows = taps.daemon.vxctl("dump-flows --no-stats br0");
    let [a, _, u] = &taps.devices;
    let ofports = [a.as_str(), "p2", "vx", u].map(|port| json(&format!("get interface {port} ofport")));
    serde_json::json!([row(H1_MAC), row(H3_MAC), neighbours[0]["mac"], flows, ofports])
}

#[test]
fn a_second_process_takes_the_place_of_the_first_and_no_packet_is_lost() {
    if !is_root("a_second_process_takes_the_place_of_the_first_and_no_packet_is_lost") {
        return;
    }
    let _turn = turn();
    let mut taps = Taps::new("");
    taps.daemon.vxctl("add-flow br0 cookie=7,priority=5,udp,tp_dst=9,actions=drop");
    let [a, b, _] = taps.devices.clone();
    taps.daemon.vxctl(&format!("set interface {a} ofport_request=17"));
    taps.h1.ping(H3, 5, "").assert_lossless();
    let before = known(&taps);
    {
        let Taps { daemon, h1, .. } = &mut taps;
        let pings = std::thread::scope(|scope| {
            let pings = scope.spawn(|| h1.ping(H3, 600, "-i 0.01"));
            std::thread::sleep(std::time::Duration::from_secs(1));
            daemon.take_over();
            pings.join().expect("ping")
        });
        // What came meanwhile waited in the taps' queues.
        pings.assert_lossless();
        println!("the longest of 600 pings took {} ms", pings.longest());
        assert!(pings.longest() < 2000.0, "{} ms", pings.longest());
        assert_eq!(known(&taps), before);
        assert_eq!(taps.daemon.json("neigh show br-phy")[0]["ip"], REMOTE);
        // Its own socket and metrics, in the places of the first one's.
        assert!(taps.switch.sh(&format!("curl -s http://{}/healthz", taps.daemon.metrics())).contains("ok"));
    }
    // A device that two processes cannot have is closed by one and opened by the other.
    taps.h2.connect(&taps.switch, &b, crate::H2_MAC, crate::INNER_MTU, "10.0.0.2/24");
    taps.h2.ping(H3, 5, "").assert_lossless();
    // The same by a command: the new process has the old one's command line.
    let said = taps.daemon.vxctl("restart-handover");
    let pid =
        said.strip_prefix("process ").and_then(|rest| rest.split(' ').next()).expect("its number").to_owned();
    assert!(said.contains(" has taken over after "), "{said}");
    assert_eq!(known(&taps), before);
    taps.daemon.take_over();
    let gone = || (!std::path::Path::new("/proc").join(&pid).exists()).then_some(());
    eventually("it ends as well", std::time::Duration::from_secs(20), gone);
    taps.daemon.vxctl("del-flows br0 cookie=7/-1");
    taps.finish();
}

#[test]
fn one_that_cannot_take_over_changes_nothing() {
    if !is_root("one_that_cannot_take_over_changes_nothing") {
        return;
    }
    let _turn = turn();
    let mut taps = Taps::new("");
    taps.h1.ping(H3, 5, "").assert_lossless();
    let before = known(&taps);
    let Taps { daemon, h1, .. } = &mut taps;
    let pings = std::thread::scope(|scope| {
        let pings = scope.spawn(|| h1.ping(H3, 400, "-i 0.01"));
        let said = daemon.refuse_take_over(&["--total-num-mbufs", "1000000"]);
        assert!(said.contains("vxswitch: "), "{said}");
        pings.join().expect("ping")
    });
    pings.assert_lossless();
    assert!(pings.longest() < 2000.0, "{} ms", pings.longest());
    assert_eq!(known(&taps), before);
    taps.finish();
}
