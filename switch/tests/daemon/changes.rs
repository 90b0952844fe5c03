//! Changes while it runs: bridges, ports, tunnels, mirrors; and those that fail.

use crate::running::{BASE, Daemon, EAL, PATIENCE};
use crate::support::eventually;
use std::fs;
use std::time::Instant;

#[test]
fn the_log_names_changes_and_nothing_that_only_looked() {
    let daemon = Daemon::start_with(EAL, "", &[]);
    let changes = || daemon.errors().matches("changed by=").count();
    daemon.ctl("show");
    daemon.ctl("list bridge");
    daemon.ctl("add-br br0");
    eventually("the change is in the log", PATIENCE, || (changes() > 0).then_some(()));
    daemon.ctl("get bridge br0 name");
    daemon.ctl("--may-exist add-br br0");
    daemon.ctl("del-br br0");
    eventually("and the other one", PATIENCE, || (changes() > 1).then_some(()));
    assert_eq!(changes(), 2, "{}", daemon.errors());
    daemon.stop();
}

#[test]
fn bridges_ports_and_tunnels_come_change_and_go_while_it_runs() {
    let daemon = Daemon::start("");
    daemon.ctl(
        "add-br br0 -- add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64 \
         -- add-port br0 vx1 -- set interface vx1 type=vxlan options:remote_ip=192.168.1.2 options:key=5",
    );
    daemon.wait_for("p0", "rx_packets", 100);
    assert_eq!(daemon.ctl("list-ports br0"), "p0\nvx1\n");
    assert_eq!(daemon.ctl("get interface vx1 ofport options:remote_ip"), "2\n\"192.168.1.2\"\n");
    // In place: the device keeps its counters.
    daemon.ctl("set port p0 tag=7 -- set interface p0 mtu_request=1400");
    assert_eq!(daemon.ctl("get interface p0 mtu"), "1400\n");
    assert_eq!(daemon.json("get port p0 tag"), 7);
    // Anew, under its old number.
    daemon.ctl("set interface vx1 options:key=6");
    assert_eq!(daemon.json("get interface vx1 ofport"), 2);
    daemon.ctl("set interface p0 options:dpdk-devargs=net_null0,size=128");
    daemon.wait_for("p0", "rx_bytes", 12_800);
    assert_eq!(daemon.json("get interface p0 ofport"), 1);
    // The underlay.
    daemon.ctl("add-br phy -- set bridge phy address=192.168.1.1/24");
    daemon.ctl("neigh set phy 192.168.1.2 02:00:00:00:00:02");
    assert!(daemon.ctl("neigh show").contains("PERMANENT"));
    assert!(daemon.ctl("show").contains("remote 192.168.1.2: "));
    daemon.ctl("route add phy 10.0.0.0/8 192.168.1.254");
    assert!(daemon.ctl("route show").contains("10.0.0.0/8 via 192.168.1.254 dev phy"));
    daemon.ctl("route del phy 10.0.0.0/8");
    assert!(!daemon.ctl("route show").contains("10.0.0.0/8"));
    let document = daemon.ctl("document");
    assert!(document.contains("192.168.1.2") && document.contains("tag = 7"), "{document}");
    daemon.ctl("del-port br0 p0 -- del-br phy");
    assert_eq!(daemon.ctl("list-ports br0"), "vx1\n");
    assert_eq!(daemon.ctl("list-br"), "br0\n");
    assert_eq!(daemon.try_ctl("br-exists phy").status.code(), Some(2));
    // The name is free again.
    daemon.ctl("add-port br0 p9 -- set interface p9 type=dpdk options:dpdk-devargs=net_null0,size=64");
    daemon.wait_for("p9", "rx_packets", 100);
    daemon.stop();
}

#[test]
fn a_change_that_cannot_be_made_changes_nothing() {
    let daemon = Daemon::start(BASE);
    let before = daemon.ctl("document");
    let error = daemon.refused(
        "add-br br1 -- add-port br1 x -- set interface x type=dpdk options:dpdk-devargs=net_pcap7,rx_pcap=/no/such",
    );
    assert!(error.contains("port x: ") && error.contains("net_pcap7"), "{error}");
    let error = daemon.refused(
        "add-port br0 y -- set interface y type=vxlan options:remote_ip=1.2.3.4 options:key=16777216",
    );
    assert!(error.contains("24 bits"), "{error}");
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_pcap8,rx_pcap=/no/such");
    assert!(error.contains("port p1: "), "{error}");
    let error = daemon.refused("set interface p1 options:n_rxq=60000");
    assert!(error.contains("n_rxq"), "{error}");
    assert!(daemon.refused("frobnicate").contains("unknown command 'frobnicate'"));
    assert!(daemon.refused("fdb add br0 p0").contains("expected fdb show BR"));
    assert_eq!(daemon.ctl("document"), before);
    assert_eq!(daemon.ctl("list-br"), "br0\n");
    let sent: u64 = daemon.ctl("get interface p1 statistics:tx_packets").trim().parse().unwrap();
    daemon.wait_for("p1", "tx_packets", sent + 1000);
    daemon.stop();
}

#[test]
fn a_client_that_hangs_up_leaves_a_whole_change() {
    let daemon = Daemon::start(BASE);
    for n in 1..=30 {
        let args = format!(r#"{{"args":["set","bridge","br0","other_config:mac-aging-time={}"]}}"#, 100 + n);
        daemon.post_and_hang_up("/v1/transaction", &args);
        let flow = format!(r#"{{"flows":["priority={n},in_port=p1,actions=drop"]}}"#);
        daemon.post_and_hang_up("/v1/flows/br0/add", &flow);
        let document = daemon.ctl("document");
        assert!(document.contains("net_null0") && document.contains("net_null1"), "after {n}: {document}");
    }
    // Some requests were given up before they began, the others are carried out: what runs is what is wanted.
    let start = Instant::now();
    loop {
        let document = daemon.ctl("document");
        let wanted = document.matches("in_port=p").count();
        let running = daemon.json("dump-flows br0").as_array().unwrap().len();
        if wanted == running {
            assert!(running > 1, "no request was carried out");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{running} rules run, and {document}");
    }
    assert!(daemon.refused("add-br br0").contains("br0"));
    daemon.stop();
}

#[test]
fn ports_go_though_rules_name_them() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=3,in_port=p1,actions=output:p0");
    daemon.ctl("del-port br0 p1");
    assert_eq!(daemon.ctl("list-ports br0"), "p0\n");
    let document = daemon.ctl("document");
    assert!(document.contains("priority=10,in_port=p0,actions=output:2"), "{document}");
    assert!(document.contains("priority=3,in_port=2,actions=output:p0"), "{document}");
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 2);
    // The rule's output goes nowhere; other changes go on.
    daemon.ctl("set port p0 tag=7 -- add-br br1");
    // A port that comes back under its number has its rules again.
    daemon.ctl(
        "add-port br0 p1 -- set interface p1 type=dpdk options:dpdk-devargs=net_null1,no-rx=1 ofport_request=2",
    );
    daemon.wait_for("p1", "tx_packets", 100);
    // Back in the same change: it was never gone to the rules.
    daemon.ctl("add-flow br0 priority=4,in_port=p1,actions=drop");
    daemon.ctl("del-port br0 p1 -- add-port br0 p1 -- set interface p1 type=vxlan options:remote_ip=1.2.3.4");
    assert!(daemon.ctl("document").contains("priority=4,in_port=p1,actions=drop"));
    // What was never there is refused as before.
    assert!(daemon.refused("add-flow br0 in_port=p9,actions=drop").contains("p9"));
    daemon.stop();
}

#[test]
fn a_device_that_does_not_come_back_leaves_the_old_one_running() {
    let daemon = Daemon::start(BASE);
    assert_eq!(daemon.json("list interface p1")[0]["status"]["n_rxq"], "1");
    // The same device with an argument that it refuses: the old port has to go before this can be seen.
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_null1,no-rx=7");
    assert!(error.contains("port p1: "), "{error}");
    daemon.wait_for("p1", "tx_packets", 1000);
    assert_eq!(daemon.json("get interface p1 ofport"), 2);
    // What was done before the device failed is undone.
    daemon.refused(
        "set interface p0 mtu_request=1400 -- set interface p1 options:dpdk-devargs=net_null1,no-rx=7",
    );
    assert_eq!(daemon.ctl("get interface p0 mtu"), "1500\n");
    daemon.stop();
}

#[test]
fn a_port_that_is_lost_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("in.pcap");
    // A capture without packets.
    let head = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    fs::write(&capture, head).unwrap();
    let capture_port = format!("net_pcap0,rx_pcap={}", capture.display());
    let daemon = Daemon::start_in(dir, &BASE.replace("net_null1,no-rx=1", &capture_port));
    fs::remove_file(&capture).unwrap();
    // Neither the new device nor the old one can be had.
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_pcap0,rx_pcap=/no/such");
    assert!(error.contains("port p1: "), "{error}");
    // The port is still there, without its device, and is said to be so.
    assert_eq!(daemon.ctl("list-ports br0"), "p0\np1\n");
    assert!(daemon.ctl("document").contains("in_port=p0,actions=output:p1"));
    let ready = daemon.http("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("port p1: "), "{ready}");
    assert!(daemon.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(daemon.ctl("show").contains("error: "), "{}", daemon.ctl("show"));
    assert!(daemon.ctl("get interface p1 error").contains("net_pcap0"));
    assert_eq!(daemon.json("get interface p1 ofport"), 2);
    // It is tried again, and runs when it can.
    fs::write(&capture, head).unwrap();
    eventually("the device comes back", PATIENCE, || {
        daemon.http("/readyz").starts_with("HTTP/1.1 200").then_some(())
    });
    assert_eq!(daemon.ctl("get interface p1 error"), "[]\n");
    assert_eq!(daemon.json("get interface p1 ofport"), 2);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-br br1");
    daemon.stop();
}

#[test]
fn mirrors_and_patches_by_transactions() {
    let daemon = Daemon::start(BASE);
    daemon.ctl(
        "--id=@p get port p0 -- --id=@m create mirror name=m0 select_src_port=@p output_port=p1 \
         -- set bridge br0 mirrors=@m",
    );
    assert_eq!(daemon.ctl("get mirror m0 select_src_port output_port"), "p0\np1\n");
    assert_eq!(daemon.json("list mirror")[0]["select_all"], false);
    assert!(daemon.ctl("document").contains("[[bridge.mirror]]"));
    assert!(daemon.refused("set mirror m0 output_vlan=5").contains("output_port and output_vlan"));
    daemon.ctl("clear mirror m0 output_port -- set mirror m0 output_vlan=5");
    daemon.ctl(
        "add-br br1 -- add-port br0 to1 -- set interface to1 type=patch options:peer=to0 \
         -- add-port br1 to0 -- set interface to0 type=patch options:peer=to1",
    );
    assert_eq!(daemon.ctl("get interface to0 type link_state"), "patch\nup\n");
    assert!(daemon.refused("set interface to0 options:peer=to0").contains("the port itself"));
    daemon.ctl("set interface to0 options:peer=other");
    assert_eq!(daemon.json("get interface to0 ofport"), 1);
    daemon.ctl("del-port p0");
    assert_eq!(daemon.ctl("get mirror m0 select_src_port"), "[]\n");
    daemon.ctl("clear bridge br0 mirrors -- del-br br1");
    assert_eq!(daemon.ctl("list mirror"), "");
    daemon.stop();
}

#[test]
fn numbers_vlans_and_mtu_change_without_a_new_device() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    let before = daemon.json("get interface p1 statistics:tx_packets").as_u64().unwrap();
    // Exchanged, with a rule that names both.
    let output = daemon.try_ctl(
        "set interface p0 ofport_request=2 mtu_request=1400 -- set interface p1 ofport_request=1 -- set port p1 tag=5",
    );
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(daemon.ctl("get interface p0 ofport"), "2\n");
    assert_eq!(daemon.ctl("get interface p1 ofport"), "1\n");
    assert!(
        daemon.json("get interface p1 statistics:tx_packets").as_u64().unwrap() >= before,
        "it is the same device"
    );
    let after = daemon.json("get interface p1 statistics:tx_packets").as_u64().unwrap();
    daemon.wait_for("p1", "tx_packets", after + 100);
    // A number that another port has is not given.
    daemon.ctl("set interface p1 ofport_request=7");
    assert_eq!(daemon.ctl("get interface p1 ofport"), "7\n");
    // What the device itself needs makes it anew, and is said.
    let output = daemon.try_ctl("set interface p1 options:n_txq_desc=256");
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && note.contains("device of port p1 was made anew"), "{note}");
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.stop();
}
