//! A port of type `internal`: a kernel device by which the switch's own host is on the bridge.

use crate::support::daemon::Daemon;
use crate::support::net::{Host, device_name};
use crate::support::{eventually, is_root, turn};
use crate::{H1, H1_MAC};
use std::time::Duration;

const HOST_MAC: &str = "02:00:00:00:01:09";

#[test]
fn the_host_has_an_address_on_the_bridge() {
    if !is_root("the_host_has_an_address_on_the_bridge") {
        return;
    }
    let _turn = turn();
    let (switch, h1) = (Host::new("switch"), Host::new("h1"));
    let (internal, tap) = (device_name("i"), device_name("t"));
    let config = format!(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "{internal}"
type = "internal"
mac = "{HOST_MAC}"
mtu = 1400
[[bridge.port]]
name = "p1"
type = "dpdk"
options = {{ dpdk-devargs = "net_tap0,iface={tap}" }}
"#
    );
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0");
    h1.connect(&switch, &tap, H1_MAC, 1400, "10.0.0.1/24");
    let link = switch.ip(&format!("link show dev {internal}"));
    assert!(link.contains(HOST_MAC) && link.contains("mtu 1400"), "{link}");
    switch.ip(&format!("link set {internal} up"));
    switch.ip(&format!("address add 10.0.0.9/24 dev {internal}"));
    switch.sh(&format!("ping -c 3 -i 0.2 -W 2 {H1}"));
    h1.sh("ping -c 3 -i 0.2 -W 2 10.0.0.9");
    assert_eq!(daemon.json(&format!("get interface {internal} link_state")), "up");
    // The host's kernel leaves segmentation to the switch, and that does it where the device cannot.
    let throughput = switch.iperf3(&h1, H1, 1, "");
    assert!(throughput > 50e6, "{throughput} bit/s");
    let count = |name| daemon.statistic(&internal, name);
    assert!(count("rx_bytes") > 3000 * count("rx_packets"), "segments of {} bytes", count("rx_bytes"));
    // The kernel's address and the port's are one.
    assert_eq!(daemon.json(&format!("get interface {internal} mac_in_use")), HOST_MAC);
    daemon.vxctl(&format!("del-port {internal}"));
    // The kernel lets go of a ring's files some time after the ring was closed.
    eventually("the device goes with the port", Duration::from_secs(10), || {
        let shown = switch.command(&format!("ip link show dev {internal}")).output().expect("ip runs");
        (!shown.status.success()).then_some(())
    });
    daemon.stop();
}
