//! Ports of type `system`: veth pairs to containers and to a Linux VTEP, with the kernel's offloads on.

use crate::support::daemon::Daemon;
use crate::support::net::{Host, Vxlan, device_name};
use crate::support::{eventually, is_root, turn};
use crate::tap::{checksum_errors, enable_v6, tcp, v6};
use crate::{H1, H1_MAC, H2, H2_MAC, H3_MAC, INNER_MTU, REMOTE, REMOTE_MAC, VTEP};
use std::time::Duration;

/// Makes a veth pair, one end in the switch's namespace, the other on a host; gives both names.
fn veth(switch: &Host, host: &Host, what: &str) -> [String; 2] {
    let [ours, theirs] = ["s", "h"].map(|end| device_name(&format!("{what}{end}")));
    switch.ip(&format!("link add {ours} type veth peer name {theirs} netns {}", host.name));
    switch.ip(&format!("link set {ours} up"));
    [ours, theirs]
}

#[test]
fn containers_and_a_linux_vtep_behind_veth_pairs_have_their_offloads() {
    if !is_root("containers_and_a_linux_vtep_behind_veth_pairs_have_their_offloads") {
        return;
    }
    let _turn = turn();
    let switch = Host::new("switch");
    let (h1, h2, remote) = (Host::new("h1"), Host::new("h2"), Host::new("remote"));
    let [a, a_end] = veth(&switch, &h1, "a");
    let [b, b_end] = veth(&switch, &h2, "b");
    let [u, u_end] = veth(&switch, &remote, "u");
    let config = format!(
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "{a}"
type = "system"
[[bridge.port]]
name = "{b}"
type = "system"
options = {{ n_rxq = 2 }}
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
type = "system"
"#
    );
    h1.configure(&a_end, H1_MAC, INNER_MTU, "10.0.0.1/24");
    h2.configure(&b_end, H2_MAC, INNER_MTU, "10.0.0.2/24");
    remote.configure(&u_end, REMOTE_MAC, 1500, "192.168.1.2/24");
    remote.vxlan(&Vxlan {
        name: "vxlan100",
        vni: 100,
        local: REMOTE,
        remote: VTEP,
        underlay: &u_end,
        mac: H3_MAC,
        mtu: INNER_MTU,
        address: "10.0.0.3/24",
    });
    enable_v6(&h1, &a_end, 1);
    enable_v6(&h2, &b_end, 2);
    enable_v6(&remote, "vxlan100", 3);
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0");
    for port in [&a, &b, &u] {
        eventually("the link is up", Duration::from_secs(5), || {
            (daemon.json(&format!("get interface {port} link_state")) == "up").then_some(())
        });
    }
    h1.ping(H2, 3, "").assert_lossless();
    tcp(&h1, &h2, 2);
    tcp(&h1, &remote, 3);
    for host in [&h1, &h2, &remote] {
        assert_eq!(checksum_errors(host), 0);
    }
    h2.ping(&v6(3), 5, "-s 4000").assert_lossless();
    let mean = |port: &str, way: &str| {
        let count = |what: &str| daemon.statistic(port, &format!("{way}_{what}"));
        count("bytes") / count("packets").max(1)
    };
    // Data crosses in large pieces, also out of the Linux VTEP.
    for (port, way) in [(&a, "rx"), (&b, "tx"), (&u, "rx")] {
        assert!(mean(port, way) > 3000, "{port} {way}: {} bytes a packet", mean(port, way));
    }
    daemon.assert_balanced();
    // The device goes, and comes again under its name.
    switch.ip(&format!("link del {b}"));
    eventually("the port says what it lacks", Duration::from_secs(5), || {
        daemon.vxctl(&format!("get interface {b} error")).contains("no network device").then_some(())
    });
    h1.ping("10.0.0.3", 3, "").assert_lossless();
    switch.ip(&format!("link add {b} type veth peer name {b_end} netns {}", h2.name));
    switch.ip(&format!("link set {b} up"));
    h2.configure(&b_end, H2_MAC, INNER_MTU, "10.0.0.2/24");
    eventually("the port is back", Duration::from_secs(10), || {
        (daemon.json(&format!("get interface {b} link_state")) == "up").then_some(())
    });
    h2.ping(H1, 3, "").assert_lossless();
    // Ten times away and back.
    for _ in 0..10 {
        daemon.vxctl(&format!("del-port {b}"));
        daemon.vxctl(&format!("add-port br0 {b} -- set interface {b} type=system"));
    }
    h2.ping(H1, 3, "").assert_lossless();
    daemon.stop();
}

#[test]
fn tags_cross_a_veth_pair() {
    if !is_root("tags_cross_a_veth_pair") {
        return;
    }
    let _turn = turn();
    let switch = Host::new("switch");
    let (h1, h2) = (Host::new("h1"), Host::new("h2"));
    let [a, a_end] = veth(&switch, &h1, "a");
    let [b, b_end] = veth(&switch, &h2, "b");
    let [t1, t2] = veth(&switch, &switch, "t");
    switch.ip(&format!("link set {t2} up"));
    let port =
        |name: &str, more: &str| format!("[[bridge.port]]\nname = \"{name}\"\ntype = \"system\"\n{more}\n");
    // The kernel takes the tag out of the frame and says it aside.
    let config = [
        "[[bridge]]\nname = \"br1\"\n".to_owned(),
        port(&a, "tag = 10"),
        port(&t1, "trunks = [10]"),
        "[[bridge]]\nname = \"br2\"\n".to_owned(),
        port(&b, "tag = 10"),
        port(&t2, "trunks = [10]"),
    ]
    .concat();
    h1.configure(&a_end, H1_MAC, 1496, "10.0.0.1/24");
    h2.configure(&b_end, H2_MAC, 1496, "10.0.0.2/24");
    enable_v6(&h1, &a_end, 1);
    enable_v6(&h2, &b_end, 2);
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0");
    h1.ping(H2, 5, "").assert_lossless();
    tcp(&h1, &h2, 2);
    assert!(daemon.vxctl("fdb show br2").contains("10"), "{}", daemon.vxctl("fdb show br2"));
    daemon.assert_balanced();
    daemon.stop();
}
