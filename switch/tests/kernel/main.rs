//! The Linux kernel as peer: hosts in network namespaces, taps, and the kernel's own vxlan driver on the other side.
//!
//! Needs root; without it the tests say that they are skipped.

#[path = "../support/mod.rs"]
mod support;

mod balance;
mod drivers;
mod group;
mod internal;
mod mtu;
mod neighbours;
mod own;
mod reconfigure;
mod snooping;
mod switching;
mod system;
mod take_over;
mod tap;
mod traffic;
mod tunnel;

use std::collections::BTreeMap;
use std::time::Duration;
use support::daemon::Daemon;
use support::eventually;
use support::net::{Host, Vxlan, device_name};

/// Host addresses.
const H1: &str = "10.0.0.1";
const H2: &str = "10.0.0.2";
const H3: &str = "10.0.0.3";
/// MACs of the hosts.
const H1_MAC: &str = "02:00:00:00:01:01";
const H2_MAC: &str = "02:00:00:00:01:02";
const H3_MAC: &str = "02:00:00:00:01:03";
/// VTEPs.
const VTEP: &str = "192.168.1.1";
const REMOTE: &str = "192.168.1.2";
const REMOTE_MAC: &str = "02:00:00:00:0a:02";
/// The largest inner packet: 1500 bytes on the wire less 36 of IPv4, UDP, VXLAN and 14 of inner Ethernet.
const INNER_MTU: u16 = 1450;

/// Two hosts on `br0`, and a tunnel with VNI 100 to a remote VTEP.
const TWO_HOSTS_AND_A_TUNNEL: &str = r#"
[[bridge]]
name = "br0"
other_config = { mac-aging-time = AGING }

[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "DEV1" }

[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "DEV2" }

[[bridge.port]]
name = "vx"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
"#;

/// The switch's side of the underlay. Nothing about neighbours: they are resolved.
const UNDERLAY: &str = r#"
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "2001:db8::1/64"]

[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "DEV3" }
"#;

/// How the switch is attached to the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attach {
    /// net_tap: the device comes and goes with the switch.
    Tap,
    /// veth pairs and net_af_packet: they stay.
    Veth,
}

/// Three hosts around a switch. Fields are dropped in their order: the switch before its devices.
#[derive(Debug)]
struct Lab {
    daemon: Daemon,
    h1: Host,
    h2: Host,
    remote: Host,
    /// Where the switch runs: taps are born here, and no kernel of the machine's own network talks on them.
    switch: Host,
    attach: Attach,
    devices: [String; 3],
}

impl Lab {
    /// The usual lab.
    fn new() -> Lab {
        Lab::with(TWO_HOSTS_AND_A_TUNNEL, Attach::Tap)
    }

    /// A lab with this configuration, in which `DEV1` to `DEV3` stand for the devices and `AGING` for 300.
    fn with(config: &str, attach: Attach) -> Lab {
        let devices = ["a", "b", "u"].map(device_name);
        let hosts = [Host::new("h1"), Host::new("h2"), Host::new("remote")];
        let switch = Host::new("switch");
        let mut config = format!("{config}{UNDERLAY}").replace("AGING", "300");
        for (at, (device, host)) in devices.iter().zip(&hosts).enumerate() {
            let devargs = match attach {
                Attach::Tap => format!("net_tap{at},iface={device}"),
                Attach::Veth => {
                    switch.ip(&format!("link add {device} type veth peer name {device} netns {}", host.name));
                    switch.ip(&format!("link set {device} up"));
                    // Otherwise inner checksums are left for hardware that is not there.
                    host.sh(&format!("ethtool -K {device} tx off"));
                    format!("net_af_packet{at},iface={device}")
                }
            };
            config = config.replace(&format!("DEV{}", at + 1), &devargs);
        }
        let lcores =
            if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) { "0,1" } else { "0" };
        let daemon = Daemon::start_in(Some(&switch), &config, lcores);
        let [h1, h2, remote] = hosts;
        let lab = Lab { daemon, h1, h2, remote, switch, attach, devices };
        lab.connect();
        lab.remote.vxlan(&lab.remote_device());
        lab
    }

    /// The Linux vxlan device that is the tunnel's other end.
    fn remote_device(&self) -> Vxlan<'_> {
        Vxlan {
            name: "vxlan100",
            vni: 100,
            local: REMOTE,
            remote: VTEP,
            underlay: &self.devices[2],
            mac: H3_MAC,
            mtu: INNER_MTU,
            address: "10.0.0.3/24",
        }
    }

    /// Gives the hosts their ends of the devices. With taps, needed again after every start.
    fn connect(&self) {
        let hosts = [
            (&self.h1, H1_MAC, INNER_MTU, "10.0.0.1/24"),
            (&self.h2, H2_MAC, INNER_MTU, "10.0.0.2/24"),
            (&self.remote, REMOTE_MAC, 1500, "192.168.1.2/24"),
        ];
        for ((host, mac, mtu, address), device) in hosts.into_iter().zip(&self.devices) {
            match self.attach {
                Attach::Tap => host.connect(&self.switch, device, mac, mtu, address),
                Attach::Veth => host.configure(device, mac, mtu, address),
            }
        }
        // A tap's link was down on its way, and what is sent to it until the switch sees it up is dropped.
        for port in ["p1", "p2", "uplink"] {
            eventually("the link is up", Duration::from_secs(10), || {
                (self.daemon.json(&format!("get interface {port} link_state")) == "up").then_some(())
            });
        }
    }

    /// Packets that the switch dropped, by reason, without those for a device on its way to its host.
    fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = self.daemon.drops();
        drops.remove("link_down");
        drops
    }

    /// Tells the hosts each other's MACs, so that their first packet is no ARP request.
    fn introduce(&self) {
        let all = [(H1, H1_MAC), (H2, H2_MAC), (H3, H3_MAC)];
        let hosts = [
            (&self.h1, H1, &self.devices[0]),
            (&self.h2, H2, &self.devices[1]),
            (&self.remote, H3, &"vxlan100".to_owned()),
        ];
        for (host, own, device) in hosts {
            for (address, mac) in all.into_iter().filter(|(address, _)| *address != own) {
                host.ip(&format!("neigh replace {address} lladdr {mac} dev {device}"));
            }
        }
    }

    /// Where `br0` has learned a MAC: port, and remote VTEP behind a tunnel.
    fn learned(&self, mac: &str) -> Option<(String, Option<String>)> {
        let rows = self.daemon.json("fdb show br0");
        let row = rows.as_array().expect("rows").iter().find(|row| row["mac"] == mac)?;
        let text = |column: &str| row[column].as_str().map(str::to_owned);
        Some((text("port").expect("port"), text("remote")))
    }

    /// Stops the switch, which must have accounted for every packet.
    fn finish(mut self) {
        self.daemon.assert_balanced();
        self.daemon.stop();
    }
}
