//! Multicast snooping with real hosts: the kernel's IGMP says who is a member, behind a port and behind a tunnel.

use crate::support::{eventually, is_root, turn};
use crate::{Attach, Lab, REMOTE, TWO_HOSTS_AND_A_TUNNEL};
use std::time::Duration;

const GROUP: &str = "239.1.1.7";
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_group_reaches_the_hosts_that_have_joined_it() {
    if !is_root("a_group_reaches_the_hosts_that_have_joined_it") {
        return;
    }
    let _turn = turn();
    let config =
        TWO_HOSTS_AND_A_TUNNEL.replace("name = \"br0\"", "name = \"br0\"\nmcast_snooping_enable = true");
    let lab = Lab::with(&config, Attach::Tap);
    let [a, b, _] = &lab.devices;
    // Or the answers ask for the host by ARP, which is flooded.
    lab.introduce();
    lab.h1.ip(&format!("route add 239.0.0.0/8 dev {a}"));
    for host in [&lab.h2, &lab.remote] {
        host.sh("sysctl -q -w net.ipv4.icmp_echo_ignore_broadcasts=0");
    }
    let members = || lab.daemon.vxctl("appctl mdb/show br0");
    let has =
        |port: &str| members().lines().any(|line| line.contains(GROUP) && line.trim().starts_with(port));
    let join = |verb: &str| {
        let autojoin = if verb == "add" { "autojoin" } else { "" };
        lab.h2.ip(&format!("address {verb} {GROUP}/32 dev {b} {autojoin}"));
    };
    join("add");
    eventually("the host on the port is a member", PATIENCE, || has("2 ").then_some(()));
    let sent = lab.daemon.statistic("vx", "tx_packets");
    lab.h1.ping(GROUP, 5, "").assert_lossless();
    assert_eq!(lab.daemon.statistic("vx", "tx_packets"), sent, "nobody behind the tunnel has joined");
    lab.remote.ip(&format!("address add {GROUP}/32 dev vxlan100 autojoin"));
    eventually("the host behind the tunnel is a member", PATIENCE, || has("3 ").then_some(()));
    let sent = lab.daemon.statistic("vx", "tx_packets");
    lab.h1.ping(GROUP, 5, "-W 1");
    assert!(lab.daemon.statistic("vx", "tx_packets") >= sent + 5, "{REMOTE} gets the group");
    join("del");
    eventually("who leaves is no member", PATIENCE, || (!has("2 ")).then_some(()));
    assert!(has("3 "), "{}", members());
    lab.finish();
}
