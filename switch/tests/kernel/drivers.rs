//! DPDK's own drivers for kernel devices on a veth pair: traffic, and ports that go and come again.

use crate::support::daemon::Daemon;
use crate::support::net::{Host, device_name};
use crate::support::{eventually, is_root, turn};
use crate::{H1, H1_MAC, H2, H2_MAC, INNER_MTU};
use std::time::Duration;

/// How often a port is deleted and added again.
const TIMES: usize = 10;

/// A host behind a tap pings one behind a veth pair, whose other end is a port of this driver.
fn goes_and_comes(driver: &str) {
    let switch = Host::new("switch");
    let (h1, h2) = (Host::new("h1"), Host::new("h2"));
    let (tap, ours, theirs) = (device_name("t"), device_name("s"), device_name("h"));
    switch.ip(&format!("link add {ours} type veth peer name {theirs} netns {}", h2.name));
    switch.ip(&format!("link set {ours} up"));
    // Otherwise checksums are left for hardware that is not there.
    h2.sh(&format!("ethtool -K {theirs} tx off"));
    h2.configure(&theirs, H2_MAC, INNER_MTU, "10.0.0.2/24");
    let config = format!("[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"{tap}\"\ntype = \"tap\"\n");
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0");
    switch.ip(&format!("link set {tap} netns {}", h1.name));
    h1.configure(&tap, H1_MAC, INNER_MTU, "10.0.0.1/24");
    let add =
        format!("add-port br0 v -- set interface v type=dpdk options:dpdk-devargs={driver}0,iface={ours}");
    daemon.vxctl(&add);
    h1.ping(H2, 3, "").assert_lossless();
    h2.ping(H1, 3, "").assert_lossless();
    for _ in 0..TIMES {
        daemon.vxctl("del-port v");
        daemon.vxctl(&add);
        eventually("the host is reached again", Duration::from_secs(5), || {
            h1.command(&format!("ping -c 1 -W 1 {H2}"))
                .output()
                .is_ok_and(|ping| ping.status.success())
                .then_some(())
        });
    }
    daemon.assert_balanced();
    daemon.stop();
    // No port has kept a buffer.
    let log = daemon.log();
    assert!(!log.contains("did not come back"), "{log}");
}

#[test]
fn a_port_of_a_packet_socket_goes_and_comes_ten_times() {
    if is_root("a_port_of_a_packet_socket_goes_and_comes_ten_times") {
        let _turn = turn();
        goes_and_comes("net_af_packet");
    }
}

#[test]
fn a_port_of_an_af_xdp_socket_goes_and_comes_ten_times() {
    if is_root("a_port_of_an_af_xdp_socket_goes_and_comes_ten_times") {
        let _turn = turn();
        goes_and_comes("net_af_xdp");
    }
}
