//! A bridge that is a device of the kernel: the VTEP's addresses, routes and neighbours are what the kernel has there.

use crate::support::daemon::Daemon;
use crate::support::net::{Host, Vxlan, device_name};
use crate::support::{eventually, is_root, turn};
use crate::{H1_MAC, H3_MAC, INNER_MTU, REMOTE, REMOTE_MAC, VTEP};
use std::time::Duration;

const OWN_MAC: &str = "02:00:00:00:0a:01";
const WITHIN: Duration = Duration::from_secs(10);

#[test]
fn tunnels_run_over_what_the_kernel_has_on_the_bridges_device() {
    if !is_root("tunnels_run_over_what_the_kernel_has_on_the_bridges_device") {
        return;
    }
    let _turn = turn();
    let (switch, h1, remote) = (Host::new("switch"), Host::new("h1"), Host::new("remote"));
    let (phy, p1, up) = (device_name("b"), device_name("h"), device_name("u"));
    let config = format!(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
options = {{ dpdk-devargs = "net_tap0,iface={p1}" }}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "{REMOTE}", key = 100 }}
[[bridge]]
name = "{phy}"
hwaddr = "{OWN_MAC}"
addresses_from = "kernel"
[[bridge.port]]
name = "uplink"
type = "dpdk"
options = {{ dpdk-devargs = "net_tap1,iface={up}" }}
"#
    );
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0");
    h1.connect(&switch, &p1, H1_MAC, INNER_MTU, "10.0.0.1/24");
    remote.connect(&switch, &up, REMOTE_MAC, 1500, "192.168.1.2/24");
    remote.vxlan(&Vxlan {
        name: "vxlan100",
        vni: 100,
        local: REMOTE,
        remote: VTEP,
        underlay: &up,
        mac: H3_MAC,
        mtu: INNER_MTU,
        address: "10.0.0.3/24",
    });
    assert!(switch.ip(&format!("link show dev {phy}")).contains(OWN_MAC));
    // No address, no tunnel.
    assert_eq!(h1.ping("10.0.0.3", 2, "-W 1").received, 0);
    // As in Open vSwitch's howto.
    switch.ip(&format!("addr add {VTEP}/24 dev {phy}"));
    switch.ip(&format!("link set {phy} up"));
    let has = |what: &str| daemon.vxctl("route show").contains(what);
    eventually("the address is the VTEP's", WITHIN, || has("192.168.1.0/24").then_some(()));
    h1.ping("10.0.0.3", 20, "").assert_lossless();
    remote.ping("10.0.0.1", 20, "-I vxlan100").assert_lossless();
    // The host has the address as well: its kernel answers for it, and both find the other end.
    remote.ping(VTEP, 5, "").assert_lossless();
    switch.ping(REMOTE, 5, "").assert_lossless();
    assert!(switch.ip(&format!("neigh show {REMOTE}")).contains(REMOTE_MAC));
    // TCP of the host crosses the bridge in segments, which are no tunnel's.
    assert!(switch.iperf3(&remote, REMOTE, 1, "") > 20e6);
    // A static neighbour of the kernel is the tunnel's: nothing arrives at a wrong one.
    switch.ip(&format!("neigh replace {REMOTE} lladdr 02:00:00:00:0a:99 nud permanent dev {phy}"));
    let neighbour = |state: &str| {
        let rows = daemon.json(&format!("neigh show {phy}"));
        rows.as_array().expect("rows").iter().any(|row| row["ip"] == REMOTE && row["state"] == state)
    };
    eventually("the neighbour is static", WITHIN, || neighbour("PERMANENT").then_some(()));
    assert_eq!(h1.ping("10.0.0.3", 2, "-W 1").received, 0);
    switch.ip(&format!("neigh del {REMOTE} dev {phy}"));
    eventually("it is not", WITHIN, || (!neighbour("PERMANENT")).then_some(()));
    h1.ping("10.0.0.3", 20, "").assert_lossless();
    // A new address of the device is the bridge's, and neighbours find it.
    switch.ip(&format!("link set {phy} address 02:00:00:00:0a:07"));
    let mac = || daemon.json(&format!("get interface {phy} mac_in_use"));
    eventually("the address follows", WITHIN, || (mac() == "02:00:00:00:0a:07").then_some(()));
    remote.ip(&format!("neigh replace {VTEP} lladdr 02:00:00:00:0a:07 dev {up}"));
    h1.ping("10.0.0.3", 20, "").assert_lossless();
    // Routes of the kernel lead to remotes that are further away, and go with it.
    switch.ip(&format!("route add 172.16.0.0/12 via {REMOTE} dev {phy}"));
    eventually("the route is there", WITHIN, || has("172.16.0.0/12").then_some(()));
    switch.ip(&format!("link set {phy} down"));
    eventually("nothing is left", WITHIN, || (!has("192.168.1.0/24") && !has("172.16.0.0/12")).then_some(()));
    // Deleted, the device comes back, and can be set up again.
    switch.ip(&format!("link del {phy}"));
    let is_there =
        || switch.command(&format!("ip link show dev {phy}")).output().expect("ip runs").status.success();
    eventually("the device is there again", WITHIN, || is_there().then_some(()));
    let link_state = || daemon.json(&format!("get interface {phy} error"));
    eventually("it has no error", WITHIN, || (link_state() == serde_json::json!([])).then_some(()));
    switch.ip(&format!("addr add {VTEP}/24 dev {phy}"));
    switch.ip(&format!("link set {phy} address {OWN_MAC} up"));
    remote.ip(&format!("neigh del {VTEP} dev {up}"));
    eventually("the address is the VTEP's", WITHIN, || has("192.168.1.0/24").then_some(()));
    h1.ping("10.0.0.3", 20, "").assert_lossless();
    daemon.assert_balanced();
    daemon.stop();
    assert!(!is_there(), "the device goes with the switch");
}
