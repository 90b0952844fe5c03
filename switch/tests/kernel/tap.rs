//! Ports of type `tap`: the kernel's large segments and partial checksums cross the switch as they are, through VXLAN, too,
//! and leave complete where a device cannot finish them.

use crate::support::daemon::Daemon;
use crate::support::net::{Host, Vxlan, device_name};
use crate::support::{is_root, turn};
use crate::{H1, H1_MAC, H2_MAC, H3_MAC, INNER_MTU, REMOTE, REMOTE_MAC, VTEP};

/// IPv6 addresses of the hosts: by number.
pub(crate) fn v6(host: u8) -> String {
    format!("2001:db8:1::{host}")
}

/// Lets a host speak IPv6 on a device.
pub(crate) fn enable_v6(host: &Host, device: &str, number: u8) {
    host.sh(&format!("sysctl -q -w net/ipv6/conf/{device}/disable_ipv6=0"));
    host.ip(&format!("address replace {}/64 dev {device} nodad", v6(number)));
}

/// Checksum errors that a host's kernel has seen.
pub(crate) fn checksum_errors(host: &Host) -> u64 {
    let names = "TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors Udp6InCsumErrors Icmp6InCsumErrors";
    let text = host.sh(&format!("nstat -asz {names}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values: Vec<u64> = lines
        .map(|line| line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number"))
        .collect();
    assert!(values.len() >= 4, "{text}");
    values.iter().sum()
}

/// TCP from one host to another, both ways, over IPv4 and IPv6, with right checksums.
pub(crate) fn tcp(from: &Host, to: &Host, number: u8) {
    for address in [format!("10.0.0.{number}"), v6(number)] {
        for options in ["", "-R"] {
            let throughput = from.iperf3(to, &address, 1, options);
            assert!(throughput > 50e6, "iperf3 {options} {address}: {throughput} bit/s");
        }
    }
    for host in [from, to] {
        assert_eq!(checksum_errors(host), 0, "wrong checksums at {}", host.name);
    }
}

/// A host behind a tap, one behind a device without offloads, and a Linux VTEP behind a tap.
pub(crate) struct Taps {
    pub(crate) daemon: Daemon,
    pub(crate) h1: Host,
    pub(crate) h2: Host,
    pub(crate) remote: Host,
    pub(crate) switch: Host,
    /// Devices of the hosts and the uplink.
    pub(crate) devices: [String; 3],
}

impl Taps {
    pub(crate) fn new(options: &str) -> Taps {
        Taps::with(options, "")
    }

    /// The same with options of the device without offloads.
    fn with(options: &str, of_device: &str) -> Taps {
        let devices = ["a", "b", "u"].map(device_name);
        let (h1, h2, remote) = (Host::new("h1"), Host::new("h2"), Host::new("remote"));
        let switch = Host::new("switch");
        let [a, b, u] = &devices;
        let config = format!(
            r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "{a}"
type = "tap"
options = {{ {options} }}
[[bridge.port]]
name = "p2"
type = "dpdk"
options = {{ dpdk-devargs = "net_tap0,iface={b}"{of_device} }}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "{REMOTE}", key = 100 }}

[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["{VTEP}/24"]
[[bridge.port]]
name = "{u}"
type = "tap"
options = {{ {options} }}
"#
        );
        let daemon = Daemon::start_in(Some(&switch), &config, "0");
        h1.connect(&switch, a, H1_MAC, INNER_MTU, "10.0.0.1/24");
        h2.connect(&switch, b, H2_MAC, INNER_MTU, "10.0.0.2/24");
        remote.connect(&switch, u, REMOTE_MAC, 1500, "192.168.1.2/24");
        remote.vxlan(&Vxlan {
            name: "vxlan100",
            vni: 100,
            local: REMOTE,
            remote: VTEP,
            underlay: u,
            mac: H3_MAC,
            mtu: INNER_MTU,
            address: "10.0.0.3/24",
        });
        enable_v6(&h1, a, 1);
        enable_v6(&h2, b, 2);
        enable_v6(&remote, "vxlan100", 3);
        Taps { daemon, h1, h2, remote, switch, devices }
    }

    /// Bytes a packet that a port received or sent.
    fn mean(&self, port: &str, way: &str) -> u64 {
        let count = |what: &str| self.daemon.statistic(port, &format!("{way}_{what}"));
        count("bytes") / count("packets").max(1)
    }

    /// Nothing was dropped but what there was no room for, what came for a device on its way to its host, and what did
    /// not fit.
    pub(crate) fn finish(mut self) {
        self.daemon.assert_balanced();
        let usual = |reason: &String| matches!(reason.as_str(), "tx_full" | "link_down" | "mtu_exceeded");
        let others: Vec<_> = self.daemon.drops().into_keys().filter(|reason| !usual(reason)).collect();
        assert!(others.is_empty(), "{others:?}");
        self.daemon.stop();
    }
}

#[test]
fn tcp_crosses_a_tunnel_and_a_bridge_with_its_offloads() {
    if !is_root("tcp_crosses_a_tunnel_and_a_bridge_with_its_offloads") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("");
    let [a, _, u] = &taps.devices;
    assert_eq!(taps.daemon.json(&format!("get interface {a} link_state")), "up");
    tcp(&taps.h1, &taps.remote, 3);
    // Data is in large pieces; acknowledgements, every second packet or so, are not.
    for (port, way) in [(a, "rx"), (a, "tx"), (u, "rx"), (u, "tx")] {
        assert!(taps.mean(port, way) > 3000, "{port} {way}: {} bytes a packet", taps.mean(port, way));
    }
    // net_tap can do nothing: it gets packets of its MTU, complete.
    tcp(&taps.h1, &taps.h2, 2);
    assert!(taps.mean("p2", "tx") <= 1464, "{} bytes a packet", taps.mean("p2", "tx"));
    tcp(&taps.h2, &taps.remote, 3);
    taps.finish();
}

#[test]
fn segments_of_a_device_without_offloads_are_coalesced() {
    if !is_root("segments_of_a_device_without_offloads_are_coalesced") {
        return;
    }
    let _turn = turn();
    let taps = Taps::with("", ", gro = true");
    let [a, _, u] = &taps.devices;
    let merged =
        || taps.daemon.workers().iter().map(|row| row["merged"].as_u64().expect("a number")).sum::<u64>();
    // To a tap behind the same bridge, and into a tunnel.
    for (to, number) in [(&taps.h1, 1), (&taps.remote, 3)] {
        let before = merged();
        tcp(&taps.h2, to, number);
        assert!(merged() - before > 1000, "{} to {}", before, merged());
    }
    // What the Linux VTEP is made to send in pieces, each in a tunnel packet of its own.
    taps.remote.sh("ethtool -K vxlan100 tso off gso off");
    taps.remote.sh(&format!("ethtool -K {u} tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off"));
    let before = merged();
    let throughput = taps.h1.iperf3(&taps.remote, crate::H3, 1, "-R");
    assert!(throughput > 50e6, "{throughput} bit/s");
    assert!(merged() - before > 1000, "{} to {}", before, merged());
    assert_eq!(checksum_errors(&taps.h1), 0);
    assert!(taps.mean(a, "tx") > 1600, "{} bytes a packet", taps.mean(a, "tx"));
    taps.finish();
}

#[test]
fn a_tap_without_offloads_has_complete_packets() {
    if !is_root("a_tap_without_offloads_has_complete_packets") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("offloads = false, gro = false");
    tcp(&taps.h1, &taps.remote, 3);
    let [a, _, u] = &taps.devices;
    // A thread of the kernel receives what is sent to it, so that GRO finds several packets, and its queue has room for a window.
    for (host, device) in [(&taps.h1, a), (&taps.remote, u)] {
        assert_eq!(host.sh(&format!("cat /sys/class/net/{device}/threaded")).trim(), "1");
        assert!(host.ip(&format!("link show dev {device}")).contains("qlen 4096"));
    }
    for (port, way) in [(a, "rx"), (a, "tx"), (u, "rx"), (u, "tx")] {
        assert!(taps.mean(port, way) <= 1514, "{port} {way}: {} bytes a packet", taps.mean(port, way));
    }
    taps.finish();
}

#[test]
fn taps_come_and_go_and_a_persistent_one_stays() {
    if !is_root("taps_come_and_go_and_a_persistent_one_stays") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("");
    let (switch, host) = (&taps.switch, Host::new("h3"));
    let tap = device_name("t");
    let is_there = |name: &str| {
        switch.command(&format!("ip link show dev {name}")).output().expect("ip runs").status.success()
    };
    for _ in 0..10 {
        taps.daemon.vxctl(&format!(
            "add-port br0 {tap} -- set interface {tap} type=tap mac=\"02:00:00:00:01:08\" mtu_request=1400"
        ));
        assert!(switch.ip(&format!("link show dev {tap}")).contains("mtu 1400"));
        let row = |column: &str| taps.daemon.json(&format!("get interface {tap} {column}"));
        assert_eq!(row("mac_in_use"), "02:00:00:00:01:08");
        host.connect(switch, &tap, "02:00:00:00:01:09", 1400, "10.0.0.9/24");
        host.ping(H1, 3, "").assert_lossless();
        taps.daemon.vxctl(&format!("del-port {tap}"));
        let gone = || {
            let output = host.command(&format!("ip link show dev {tap}")).output().expect("ip runs");
            (!output.status.success()).then_some(())
        };
        crate::support::eventually("the tap goes with the port", std::time::Duration::from_secs(5), gone);
    }
    // One that was there before stays, and is used with one queue whatever it was made for.
    switch.ip(&format!("tuntap add mode tap name {tap}"));
    for options in ["", "options:persist=true"] {
        taps.daemon.vxctl(&format!("add-port br0 {tap} -- set interface {tap} type=tap {options}"));
        taps.daemon.vxctl(&format!("del-port {tap}"));
        assert!(is_there(&tap));
    }
    switch.ip(&format!("link del dev {tap}"));
    // Deleted under its port, whose error that is and nobody else's, it is made anew. `net_tap` as well.
    taps.daemon.vxctl(&format!("add-port br0 {tap} -- set interface {tap} type=tap"));
    // What is there and is no tap is not taken over.
    let wrong = taps.daemon.refused("add-port br0 lo -- set interface lo type=tap");
    assert!(wrong.contains("port lo: the interface of this name is no tap"), "{wrong}");
    let other = device_name("n");
    taps.daemon.vxctl(&format!(
        "add-port br0 {other} -- set interface {other} type=dpdk options:dpdk-devargs=net_tap9,iface={other}"
    ));
    for tap in [&tap, &other] {
        let row = |column: &str| taps.daemon.json(&format!("get interface {tap} {column}"));
        let index = || {
            let output = switch.command(&format!("ip -o link show dev {tap}")).output().expect("ip runs");
            String::from_utf8(output.stdout).expect("text").split(':').next().map(str::to_owned)
        };
        let (number, before) = (row("ofport"), index());
        switch.ip(&format!("link del dev {tap}"));
        let anew = || (is_there(tap) && index() != before).then_some(());
        crate::support::eventually("the tap is made anew", std::time::Duration::from_secs(20), anew);
        let runs = || (row("error").as_array().is_some_and(Vec::is_empty)).then_some(());
        crate::support::eventually("its port has no error", std::time::Duration::from_secs(20), runs);
        assert_eq!(row("ofport"), number);
        host.connect(switch, tap, "02:00:00:00:01:0a", 1400, "10.0.0.9/24");
        host.ping(H1, 3, "").assert_lossless();
        taps.h2.ping(H1, 3, "").assert_lossless();
        taps.daemon.vxctl(&format!("del-port {tap}"));
    }
    taps.finish();
}
