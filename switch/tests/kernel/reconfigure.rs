//! Change while traffic flows, and life after a violent death.

use crate::support::{eventually, is_root, turn};
use crate::{Attach, H1, H2, H3, Lab, TWO_HOSTS_AND_A_TUNNEL};
use std::time::Duration;

#[test]
fn changes_elsewhere_lose_no_packet_of_other_flows() {
    if !is_root("changes_elsewhere_lose_no_packet_of_other_flows") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    lab.h1.ping(H3, 3, "").assert_lossless();
    lab.h1.ping(H2, 3, "").assert_lossless();
    let (local, tunnel) = std::thread::scope(|scope| {
        let local = scope.spawn(|| lab.h1.ping(H2, 2000, "-i 0.002"));
        let tunnel = scope.spawn(|| lab.remote.ping(H1, 2000, "-i 0.002"));
        for round in 0..8 {
            let key = 5000 + round;
            lab.daemon.vxctl(&format!(
                "add-br br9 -- add-port br9 n0 -- set interface n0 type=dpdk options:dpdk-devargs=net_null{round} \
                 -- add-port br9 vx9 -- set interface vx9 type=vxlan options:remote_ip=192.168.1.2 options:key={key}"
            ));
            lab.daemon.vxctl("add-flow br9 priority=10,in_port=vx9,actions=output:n0");
            lab.daemon.vxctl("del-flows br9");
            lab.daemon.vxctl("del-port br9 vx9");
            lab.daemon.vxctl("del-port br9 n0");
            lab.daemon.vxctl("del-br br9");
        }
        (local.join().expect("ping"), tunnel.join().expect("ping"))
    });
    local.assert_lossless();
    tunnel.assert_lossless();
    assert!(!lab.daemon.ctl(&["show"]).contains("br9"));
    lab.finish();
}

#[test]
fn a_change_holds_when_the_command_returns() {
    if !is_root("a_change_holds_when_the_command_returns") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    lab.introduce();
    for _ in 0..5 {
        lab.h1.ping(H2, 3, "").assert_lossless();
        lab.daemon.ctl(&["add-flow", "br0", "priority=10,in_port=p1,ip,nw_dst=10.0.0.2,actions=drop"]);
        let before = lab.daemon.dropped("rule");
        lab.h1.ping(H2, 3, "-W 1").assert_silent();
        assert_eq!(lab.daemon.dropped("rule") - before, 3);
        lab.h1.ping(H3, 3, "").assert_lossless();
        lab.daemon.ctl(&["del-flows", "br0"]);
    }
    lab.finish();
}

#[test]
fn a_killed_switch_leaves_nothing_that_stops_the_next_one() {
    if !is_root("a_killed_switch_leaves_nothing_that_stops_the_next_one") {
        return;
    }
    let _turn = turn();
    let mut lab = Lab::new();
    for _ in 0..2 {
        lab.h1.ping(H3, 10, "").assert_lossless();
        lab.daemon.kill();
        assert!(
            lab.daemon.dir().join("control.sock").exists(),
            "the socket stays behind, as a killed process leaves it"
        );
        lab.daemon.restart();
        lab.connect();
        // The remote's tap is another one now, and with the old one its vxlan device went.
        lab.remote.vxlan(&lab.remote_device());
    }
    lab.h1.ping(H3, 10, "").assert_lossless();
    lab.h1.ping(H2, 10, "").assert_lossless();
    lab.finish();
}

/// A container's interface that goes and comes back: its port is in error meanwhile, and works again by itself.
#[test]
fn an_interface_that_was_deleted_is_an_error_and_comes_back() {
    if !is_root("an_interface_that_was_deleted_is_an_error_and_comes_back") {
        return;
    }
    let _turn = turn();
    let lab = Lab::with(TWO_HOSTS_AND_A_TUNNEL, Attach::Veth);
    lab.introduce();
    let device = &lab.devices[1];
    let column = |name: &str| lab.daemon.ctl(&["get", "interface", "p2", name]).trim().to_owned();
    let number = column("ofport");
    lab.switch.ip(&format!("link del {device}"));
    eventually("the interface's error", Duration::from_secs(20), || (column("error") != "[]").then_some(()));
    assert_eq!((column("link_state").as_str(), column("ofport")), ("down", number.clone()));
    // The others do not notice.
    lab.h1.ping(H3, 10, "").assert_lossless();
    lab.switch.ip(&format!("link add {device} type veth peer name {device} netns {}", lab.h2.name));
    lab.switch.ip(&format!("link set {device} up"));
    lab.h2.sh(&format!("ethtool -K {device} tx off"));
    lab.h2.configure(device, "02:00:00:00:01:02", 1450, &format!("{H2}/24"));
    eventually("the device runs again", Duration::from_secs(30), || {
        (column("error") == "[]" && column("link_state") == "up").then_some(())
    });
    assert_eq!(column("ofport"), number);
    lab.h1.ping(H2, 3, "-W 2");
    lab.h1.ping(H2, 10, "").assert_lossless();
    lab.finish();
}
