//! Tunnel options against the Linux vxlan driver: VNI and remote by rules, IPv6 underlays, group policies.

use crate::support::net::{Host, Vxlan};
use crate::support::{eventually, is_root, turn};
use crate::{Attach, H1, H2, Lab};
use std::time::Duration;

/// Two hosts on `br0`, and a tunnel with these options.
fn config(options: &str, flows: &[&str]) -> String {
    let device = |n: u32| {
        format!(
            "[[bridge.port]]\nname = \"p{n}\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"DEV{n}\" }}\n"
        )
    };
    let flows: Vec<String> = flows.iter().map(|flow| format!("{flow:?}")).collect();
    format!(
        "[[bridge]]\nname = \"br0\"\nflows = [{}]\n{}{}[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\noptions = {{ {options} }}\n",
        flows.join(", "),
        device(1),
        device(2)
    )
}

/// A host of its own behind a vxlan device of the remote's: the device keeps its socket in the remote's namespace
/// when it moves.
fn guest(lab: &Lab, spec: Vxlan<'_>, options: &str) -> Host {
    let host = Host::new(spec.name);
    let Vxlan { name, vni, local, remote, underlay, mac, mtu, address } = spec;
    lab.remote.ip(&format!(
        "link add {name} type vxlan id {vni} local {local} remote {remote} dev {underlay} {options}"
    ));
    lab.remote.ip(&format!("link set {name} netns {}", host.name));
    host.ip(&format!("link set {name} address {mac} mtu {mtu} up"));
    host.ip(&format!("address add {address} dev {name}"));
    host
}

#[test]
fn rules_choose_the_vni_and_see_it() {
    if !is_root("rules_choose_the_vni_and_see_it") {
        return;
    }
    let _turn = turn();
    let flows = [
        "in_port=p1,actions=set_tunnel:200,output:vx",
        "in_port=p2,actions=set_field:201->tun_id,output:vx",
        "in_port=vx,tun_id=200,actions=output:p1",
        "in_port=vx,tun_id=201,actions=output:p2",
        "priority=1,actions=drop",
    ];
    let lab = Lab::with(&config(r#"remote_ip = "192.168.1.2", key = "flow""#, &flows), Attach::Tap);
    let device = lab.remote_device();
    let spec = |name, vni, mac, address| Vxlan { name, vni, mac, address, ..device };
    let four = guest(&lab, spec("vx200", 200, "02:00:00:00:01:04", "10.0.0.4/24"), "dstport 4789");
    let five = guest(&lab, spec("vx201", 201, "02:00:00:00:01:05", "10.0.0.5/24"), "dstport 4789");
    lab.h1.ping("10.0.0.4", 10, "").assert_lossless();
    lab.h2.ping("10.0.0.5", 10, "").assert_lossless();
    four.ping(H1, 10, "").assert_lossless();
    five.ping(H2, 10, "").assert_lossless();
    lab.h1.ping("10.0.0.5", 2, "-W 1").assert_silent();
    four.ping(H2, 2, "-W 1").assert_silent();
    lab.finish();
}

#[test]
fn rules_choose_the_remote() {
    if !is_root("rules_choose_the_remote") {
        return;
    }
    let _turn = turn();
    let flows = [
        "in_port=p1,actions=set_tunnel:200,set_field:192.168.1.2->tun_dst,output:vx",
        "in_port=p2,actions=set_tunnel:201,set_field:192.168.1.3->tun_dst,output:vx",
        "in_port=vx,tun_id=200,tun_src=192.168.1.2,actions=output:p1",
        "in_port=vx,tun_id=201,tun_src=192.168.1.3,actions=output:p2",
        "priority=1,actions=drop",
    ];
    let lab = Lab::with(&config(r#"remote_ip = "flow", key = "flow""#, &flows), Attach::Tap);
    lab.remote.ip(&format!("address add 192.168.1.3/24 dev {}", lab.devices[2]));
    let device = lab.remote_device();
    let spec = |name, vni, mac, address| Vxlan { name, vni, mac, address, ..device };
    let four = guest(&lab, spec("vx200", 200, "02:00:00:00:01:04", "10.0.0.4/24"), "dstport 4789");
    let five = Vxlan { local: "192.168.1.3", ..spec("vx201", 201, "02:00:00:00:01:05", "10.0.0.5/24") };
    let five = guest(&lab, five, "dstport 4789");
    lab.h1.ping("10.0.0.4", 10, "").assert_lossless();
    lab.h2.ping("10.0.0.5", 10, "").assert_lossless();
    four.ping(H1, 10, "").assert_lossless();
    five.ping(H2, 10, "").assert_lossless();
    lab.h1.ping("10.0.0.5", 2, "-W 1").assert_silent();
    lab.finish();
}

#[test]
fn the_underlay_may_be_ipv6() {
    if !is_root("the_underlay_may_be_ipv6") {
        return;
    }
    let _turn = turn();
    let lab = Lab::with(&config(r#"remote_ip = "2001:db8::2", key = 300"#, &[]), Attach::Tap);
    lab.remote.sh("sysctl -q -w net.ipv6.conf.all.disable_ipv6=0");
    lab.remote.ip(&format!("address add 2001:db8::2/64 dev {} nodad", lab.devices[2]));
    let spec = Vxlan {
        name: "vx300",
        vni: 300,
        local: "2001:db8::2",
        remote: "2001:db8::1",
        mac: "02:00:00:00:01:06",
        mtu: 1430,
        address: "10.0.0.6/24",
        ..lab.remote_device()
    };
    let six = guest(&lab, spec, "dstport 4789");
    // The first packets meet an unknown next hop: they wait for it.
    lab.h1.ip(&format!("neigh replace 10.0.0.6 lladdr {} dev {}", spec.mac, lab.devices[0]));
    lab.h1.ping("10.0.0.6", 50, "-l 50").assert_lossless();
    six.ping(H1, 10, "").assert_lossless();
    // The largest inner packet: 1500 bytes on the wire less 56 of IPv6, UDP, VXLAN and 14 of inner Ethernet.
    lab.h1.ping("10.0.0.6", 5, "-M do -s 1402").assert_lossless();
    six.ping(H1, 5, "-M do -s 1402").assert_lossless();
    // And the switch itself answers.
    lab.remote.ping("2001:db8::1", 5, "").assert_lossless();
    let rows = lab.daemon.json("neigh show");
    let row = rows.as_array().expect("rows").iter().find(|row| row["ip"] == "2001:db8::2").expect("a row");
    assert_eq!(row["state"], "REACHABLE");
    // Both ends forget each other, and find each other again.
    lab.daemon.vxctl("neigh flush");
    lab.remote.ip("-6 neigh flush all");
    lab.h1.ping("10.0.0.6", 20, "-l 20").assert_lossless();
    assert_eq!(lab.daemon.dropped("tunnel_udp6_zero_checksum"), 0);
    lab.finish();
}

#[test]
fn a_group_policy_crosses_to_linux_and_back() {
    if !is_root("a_group_policy_crosses_to_linux_and_back") {
        return;
    }
    let _turn = turn();
    let flows = [
        "priority=10,arp,in_port=vx,actions=output:p1",
        // Linux makes the ID the packet's mark, and a mark the ID.
        "priority=10,icmp,in_port=vx,tun_gbp_id=1110,actions=output:p1",
        "priority=10,icmp,in_port=vx,tun_gbp_id=291,actions=output:p1",
        "priority=10,in_port=p1,actions=set_field:1110->tun_gbp_id,output:vx",
        "priority=1,actions=drop",
    ];
    let options = r#"remote_ip = "192.168.1.2", key = 400, dst_port = 4790, exts = "gbp""#;
    let lab = Lab::with(&config(options, &flows), Attach::Tap);
    let spec = Vxlan {
        name: "vx400",
        vni: 400,
        mac: "02:00:00:00:01:07",
        address: "10.0.0.7/24",
        ..lab.remote_device()
    };
    let seven = guest(&lab, spec, "dstport 4790 gbp");
    seven.sh("sysctl -q -w net.ipv4.fwmark_reflect=1");
    // The answer has the mark of the question, so Linux has read the policy and sent it back.
    eventually("the way is known", Duration::from_secs(5), || {
        (lab.h1.ping("10.0.0.7", 1, "-W 1").received == 1).then_some(())
    });
    lab.h1.ping("10.0.0.7", 10, "").assert_lossless();
    seven.ping(H1, 10, "-m 291").assert_lossless();
    let before = lab.daemon.dropped("rule");
    seven.ping(H1, 3, "-W 1").assert_silent();
    seven.ping(H1, 3, "-W 1 -m 292").assert_silent();
    assert_eq!(lab.daemon.dropped("rule") - before, 6, "no policy, and another one");
    seven.sh("sysctl -q -w net.ipv4.fwmark_reflect=0");
    lab.h1.ping("10.0.0.7", 3, "-W 1").assert_silent();
    lab.finish();
}

#[test]
fn one_port_carries_many_vnis() {
    if !is_root("one_port_carries_many_vnis") {
        return;
    }
    let _turn = turn();
    let options = r#"remote_ip = "192.168.1.2", vlan-vni = "10:10010,20:20020""#;
    let ports = config(options, &[])
        .replace("DEV1\" }", "DEV1\" }\ntag = 10")
        .replace("DEV2\" }", "DEV2\" }\ntag = 20");
    let lab = Lab::with(&ports, Attach::Tap);
    let device = lab.remote_device();
    let spec = |name, vni, mac, address| Vxlan { name, vni, mac, address, ..device };
    let four = guest(&lab, spec("vx10", 10010, "02:00:00:00:01:04", "10.0.0.4/24"), "dstport 4789");
    let five = guest(&lab, spec("vx20", 20020, "02:00:00:00:01:05", "10.0.0.5/24"), "dstport 4789");
    let other = guest(&lab, spec("vx30", 30030, "02:00:00:00:01:06", "10.0.0.6/24"), "dstport 4789");
    lab.h1.ping("10.0.0.4", 10, "").assert_lossless();
    lab.h2.ping("10.0.0.5", 10, "").assert_lossless();
    four.ping(H1, 10, "").assert_lossless();
    five.ping(H2, 10, "").assert_lossless();
    // Each VLAN is a network of its own, and a VNI without one is nobody's.
    lab.h1.ping("10.0.0.5", 2, "-W 1").assert_silent();
    four.ping(H2, 2, "-W 1").assert_silent();
    other.ping(H1, 2, "-W 1").assert_silent();
    assert!(lab.daemon.dropped("vni_unmapped") > 0);
    let vlan_of = |mac: &str| {
        let rows = lab.daemon.json("fdb show br0");
        rows.as_array().expect("rows").iter().find(|row| row["mac"] == mac).expect("learned")["vlan"].as_u64()
    };
    assert_eq!((vlan_of("02:00:00:00:01:04"), vlan_of("02:00:00:00:01:05")), (Some(10), Some(20)));
    lab.finish();
}
