//! Resolution of the next hop: packets wait for it, and not for ever.

use crate::support::net::{Background, Vxlan};
use crate::support::{eventually, is_root, turn};
use crate::{Attach, H1, H1_MAC, H3, Lab, REMOTE, TWO_HOSTS_AND_A_TUNNEL};
use std::time::Duration;

#[test]
fn packets_that_trigger_resolution_are_neither_lost_nor_reordered() {
    if !is_root("packets_that_trigger_resolution_are_neither_lost_nor_reordered") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    // Without ARP between the hosts, 100 requests meet an unknown next hop at once.
    lab.introduce();
    assert_eq!(lab.daemon.json("neigh show"), serde_json::json!([]), "the next hop is not known yet");
    lab.h1.ping(H3, 100, "-l 100").assert_lossless();
    let neighbours = lab.daemon.json("neigh show");
    assert_eq!(neighbours[0]["ip"], REMOTE);
    assert_eq!(neighbours[0]["state"], "REACHABLE");
    assert!(lab.drops().is_empty(), "{:?}", lab.drops());
    // The same again after the neighbour was forgotten.
    lab.daemon.vxctl("neigh flush");
    lab.h1.ping(H3, 100, "-l 100").assert_lossless();
    assert!(lab.drops().is_empty(), "{:?}", lab.drops());
    lab.finish();
}

/// Times in seconds of the ARP requests for `target` in tcpdump's output.
fn requests(capture: Background, target: &str) -> Vec<f64> {
    capture
        .interrupt()
        .lines()
        .filter(|line| line.contains(&format!("who-has {target} ")))
        .map(|line| line.split(' ').next().and_then(|time| time.parse().ok()).expect("a time"))
        .collect()
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_then_given_up() {
    if !is_root("a_neighbour_that_does_not_answer_is_asked_three_times_and_then_given_up") {
        return;
    }
    let _turn = turn();
    let config = TWO_HOSTS_AND_A_TUNNEL.replace(REMOTE, "192.168.1.77");
    let lab = Lab::with(&config, Attach::Tap);
    lab.introduce();
    let capture = lab.remote.background(&format!("tcpdump -n -tt -l -i {} arp", lab.devices[2]));
    eventually("tcpdump listens", Duration::from_secs(10), || {
        lab.remote.sh("cat /proc/net/packet").lines().nth(1).map(drop)
    });

    lab.h1.ping(H3, 5, "-l 5 -W 1").assert_silent();
    eventually("the neighbour is given up", Duration::from_secs(20), || {
        let (held, dropped) = (lab.daemon.total("held"), lab.daemon.dropped("neighbour_failed"));
        assert!(held + dropped >= 5, "packets wait while the neighbour is asked for: {held} and {dropped}");
        (dropped == 5).then_some(())
    });
    assert_eq!(lab.daemon.total("held"), 0);
    let times = requests(capture, "192.168.1.77");
    assert_eq!(times.len(), 3, "requests at {times:?}");
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > 0.9, "{} s between two requests", pair[1] - pair[0]);
    }

    // Once somebody answers, traffic flows without an operator's help.
    lab.remote.ip(&format!("address add 192.168.1.77/24 dev {}", lab.devices[2]));
    lab.remote.ip("link del vxlan100");
    lab.remote.vxlan(&Vxlan { local: "192.168.1.77", ..lab.remote_device() });
    lab.remote.ip(&format!("neigh replace {H1} lladdr {H1_MAC} dev vxlan100"));
    eventually("the tunnel works", Duration::from_secs(10), || {
        (lab.h1.ping(H3, 1, "-W 1").received == 1).then_some(())
    });
    lab.h1.ping(H3, 10, "").assert_lossless();
    lab.finish();
}
