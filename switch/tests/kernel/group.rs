//! Underlays with multicast: Linux vxlan devices with a group as the other VTEPs, and between them and the switch a Linux
//! bridge that forwards a group's packets to members only.

use crate::support::net::{Host, device_name};
use crate::support::{eventually, is_root, turn};
use crate::{Attach, H1, Lab};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// The other VTEPs: an underlay address, and MAC and address of the guest behind it.
const VTEPS: [(u32, &str, &str); 2] =
    [(2, "02:00:00:00:01:04", "10.0.0.4"), (3, "02:00:00:00:01:05", "10.0.0.5")];

/// The switch, two Linux VTEPs on a bridge with it, and a guest behind each of the two.
struct Fabric {
    lab: Lab,
    guests: [Host; 2],
    _vteps: [Host; 2],
}

impl Fabric {
    /// With this group, and underlay addresses that begin so and have prefixes of this length.
    fn new(group: &str, prefix: &str, bits: u32) -> Fabric {
        let port = |name: &str, kind: &str, options: &str| {
            format!("[[bridge.port]]\nname = \"{name}\"\ntype = \"{kind}\"\noptions = {{ {options} }}\n")
        };
        let config = [
            "[[bridge]]\nname = \"br0\"\n".to_owned(),
            port("p1", "dpdk", "dpdk-devargs = \"DEV1\""),
            port("p2", "dpdk", "dpdk-devargs = \"DEV2\""),
            port("vx", "vxlan", &format!("remote_ip = {group:?}, dev = \"br-phy\", key = 500")),
        ];
        let lab = Lab::with(&config.concat(), Attach::Tap);
        let (fabric, uplink) = (&lab.remote, &lab.devices[2]);
        fabric.ip("link del vxlan100");
        fabric.ip(&format!("address flush dev {uplink}"));
        let talks = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0";
        fabric.sh(talks);
        // Times in hundredths of seconds.
        fabric.ip(
            "link add rbr type bridge mcast_snooping 1 mcast_querier 1 mcast_startup_query_interval 100 \
             mcast_query_interval 300 mcast_query_response_interval 100 mcast_last_member_interval 20",
        );
        fabric.ip("link set rbr up");
        fabric.ip(&format!("link set {uplink} master rbr"));
        let hosts = VTEPS.map(|(n, mac, address)| {
            let (vtep, guest) = (Host::new("vtep"), Host::new("guest"));
            let (veth, up) = (device_name("g"), device_name("h"));
            vtep.sh(talks);
            fabric.ip(&format!("link add {veth} type veth peer name {up} netns {}", vtep.name));
            fabric.ip(&format!("link set {veth} master rbr up"));
            vtep.sh(&format!("ethtool -K {up} tx off"));
            vtep.ip(&format!("link set {up} up"));
            let nodad = if bits > 32 { "nodad" } else { "" };
            vtep.ip(&format!("address add {prefix}{n}/{bits} dev {up} {nodad}"));
            vtep.ip(&format!(
                "link add gx type vxlan id 500 dstport 4789 local {prefix}{n} group {group} dev {up} ttl 4"
            ));
            vtep.ip(&format!("link set gx netns {}", guest.name));
            guest.ip(&format!("link set gx address {mac} mtu 1400 up"));
            guest.ip(&format!("address add {address}/24 dev gx"));
            (vtep, guest)
        });
        let [(a, g), (b, h)] = hosts;
        Fabric { lab, guests: [g, h], _vteps: [a, b] }
    }

    /// Whether the bridge knows that the switch is a member of the group.
    fn is_member(&self, group: &str) -> bool {
        let mdb = self.lab.remote.sh("bridge mdb show dev rbr");
        let port = format!("port {}", self.lab.devices[2]);
        mdb.lines().any(|line| line.contains(&port) && line.contains(&format!("grp {group} ")))
    }
}

fn exercise(group: &str, prefix: &str, bits: u32) {
    let fabric = Fabric::new(group, prefix, bits);
    let (lab, [four, five]) = (&fabric.lab, &fabric.guests);
    eventually("the bridge knows the member", PATIENCE, || fabric.is_member(group).then_some(()));
    for (guest, (.., address)) in fabric.guests.iter().zip(VTEPS) {
        // The bridge may hold packets to the group back until the querier's time has begun.
        eventually("a question crosses the group", PATIENCE, || {
            (lab.h1.ping(address, 1, "-W 1").received == 1).then_some(())
        });
        lab.h1.ping(address, 20, "").assert_lossless();
        guest.ping(H1, 20, "").assert_lossless();
    }
    four.ping("10.0.0.5", 5, "").assert_lossless();
    for (n, mac, _) in VTEPS {
        assert_eq!(lab.learned(mac), Some(("vx".to_owned(), Some(format!("{prefix}{n}")))));
    }
    // Guests that have forgotten the host ask the group, and are answered by unicast.
    five.ip("neigh flush all");
    five.ping(H1, 5, "").assert_lossless();
    assert_eq!(lab.daemon.dropped("tunnel_udp6_zero_checksum"), 0);

    lab.daemon.vxctl("del-port br0 vx");
    eventually("the bridge knows that the member has left", PATIENCE, || {
        (!fabric.is_member(group)).then_some(())
    });
    four.ping(H1, 2, "-W 1").assert_silent();
    let Fabric { lab, .. } = fabric;
    lab.finish();
}

#[test]
fn frames_to_many_cross_an_ipv4_group() {
    if !is_root("frames_to_many_cross_an_ipv4_group") {
        return;
    }
    let _turn = turn();
    exercise("239.1.1.1", "192.168.1.", 24);
}

#[test]
fn frames_to_many_cross_an_ipv6_group() {
    if !is_root("frames_to_many_cross_an_ipv6_group") {
        return;
    }
    let _turn = turn();
    exercise("ff05::1:1", "2001:db8::", 64);
}
