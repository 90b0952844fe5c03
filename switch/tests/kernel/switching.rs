//! What a learning switch learns, forgets and keeps apart.

use crate::support::net::{Host, Vxlan};
use crate::support::{eventually, is_root, turn};
use crate::{Attach, H1, H1_MAC, H2, H2_MAC, H3, Lab, REMOTE, TWO_HOSTS_AND_A_TUNNEL};
use std::time::Duration;

/// Each host has a bridge and a VNI of its own.
const TWO_TENANTS: &str = r#"
[[bridge]]
name = "br0"

[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "DEV1" }

[[bridge.port]]
name = "vx"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }

[[bridge]]
name = "br1"

[[bridge.port]]
name = "p2"
type = "dpdk"
options = { dpdk-devargs = "DEV2" }

[[bridge.port]]
name = "vx200"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 200 }
"#;

#[test]
fn two_vnis_do_not_see_each_other() {
    if !is_root("two_vnis_do_not_see_each_other") {
        return;
    }
    let _turn = turn();
    let lab = Lab::with(TWO_TENANTS, Attach::Tap);
    // The second tenant's host, and one with a VNI that nobody has; their devices keep their sockets in the
    // remote's namespace when they move.
    let device = |host: &Host, vni: u32, mac: &str, address: &str| {
        let name = format!("vxlan{vni}");
        lab.remote.vxlan(&Vxlan { name: &name, vni, mac, address, ..lab.remote_device() });
        lab.remote.ip(&format!("link set {name} netns {}", host.name));
        host.ip(&format!("link set {name} up"));
        host.ip(&format!("address replace {address} dev {name}"));
    };
    let (tenant, stranger) = (Host::new("tenant"), Host::new("stranger"));
    device(&tenant, 200, "02:00:00:00:01:04", "10.0.0.4/24");
    device(&stranger, 300, "02:00:00:00:01:05", "10.0.0.5/24");

    lab.h1.ping(H3, 10, "").assert_lossless();
    lab.h2.ping("10.0.0.4", 10, "").assert_lossless();
    tenant.ping(H2, 10, "").assert_lossless();
    lab.h1.ping(H2, 3, "-W 1").assert_silent();
    lab.h1.ping("10.0.0.4", 3, "-W 1").assert_silent();
    lab.h2.ping(H3, 3, "-W 1").assert_silent();
    tenant.ping(H1, 3, "-W 1").assert_silent();
    assert_eq!(lab.learned(H2_MAC), None, "the other tenant's MAC is not in this bridge");

    assert_eq!(lab.daemon.dropped("tunnel_unknown"), 0);
    stranger.ping(H1, 3, "-W 1").assert_silent();
    let unknown = lab.daemon.dropped("tunnel_unknown");
    assert!(unknown > 0, "packets with a VNI that no port has are counted");
    // They are dropped by a flow, not by asking the slow path each time.
    let upcalls = lab.daemon.total("upcalls");
    stranger.ping(H1, 3, "-W 1").assert_silent();
    assert!(lab.daemon.dropped("tunnel_unknown") > unknown);
    assert_eq!(lab.daemon.total("upcalls"), upcalls);
    lab.finish();
}

#[test]
fn a_mac_that_was_not_seen_for_the_ageing_time_is_forgotten() {
    if !is_root("a_mac_that_was_not_seen_for_the_ageing_time_is_forgotten") {
        return;
    }
    let _turn = turn();
    let lab = Lab::with(&TWO_HOSTS_AND_A_TUNNEL.replace("AGING", "3"), Attach::Tap);
    lab.introduce();
    lab.h1.ping(H2, 5, "").assert_lossless();
    lab.h1.ping(H3, 5, "").assert_lossless();
    assert_eq!(lab.learned(H1_MAC), Some(("p1".into(), None)));
    assert_eq!(lab.learned(crate::H3_MAC), Some(("vx".into(), Some(REMOTE.into()))));
    let sent = lab.daemon.statistic("vx", "tx_packets");
    // Traffic keeps an entry, though the packets never reach the slow path: 6 seconds are twice the ageing time.
    lab.h1.ping(H2, 20, "-i 0.3").assert_lossless();
    assert_eq!(lab.learned(H1_MAC), Some(("p1".into(), None)));
    assert_eq!(lab.daemon.statistic("vx", "tx_packets"), sent, "known, so not flooded");
    eventually("the addresses are forgotten", Duration::from_secs(10), || {
        (lab.learned(H1_MAC).is_none() && lab.learned(H2_MAC).is_none()).then_some(())
    });
    // What is not known is flooded: the tunnel gets a copy of the first request.
    lab.h1.ping(H2, 5, "").assert_lossless();
    assert!(lab.daemon.statistic("vx", "tx_packets") > sent);
    lab.finish();
}

#[test]
fn a_mac_moves_from_a_port_to_the_tunnel_and_back() {
    if !is_root("a_mac_moves_from_a_port_to_the_tunnel_and_back") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    lab.h2.ping(H1, 10, "").assert_lossless();
    assert_eq!(lab.learned(H1_MAC), Some(("p1".into(), None)));

    // h1 migrates to the remote side: the same MAC and address appear there, and say so.
    lab.h1.ip(&format!("link set {} down", lab.devices[0]));
    lab.remote.ip(&format!("link set vxlan100 down address {H1_MAC}"));
    lab.remote.ip("link set vxlan100 up");
    lab.remote.ip("address replace 10.0.0.1/24 dev vxlan100");
    lab.remote.ping(H2, 1, &format!("-I {H1}")).assert_lossless();
    assert_eq!(lab.learned(H1_MAC), Some(("vx".into(), Some(REMOTE.into()))));
    // Megaflows that led to the port are gone: not one packet goes the old way.
    let before = lab.daemon.statistic("p1", "tx_packets");
    lab.h2.ping(H1, 20, "").assert_lossless();
    assert_eq!(lab.daemon.statistic("p1", "tx_packets"), before);

    // And home again.
    lab.remote.ip("link set vxlan100 down");
    lab.h1.ip(&format!("link set {} up", lab.devices[0]));
    lab.h1.ping(H2, 1, "").assert_lossless();
    assert_eq!(lab.learned(H1_MAC), Some(("p1".into(), None)));
    lab.h2.ping(H1, 20, "").assert_lossless();
    lab.finish();
}
