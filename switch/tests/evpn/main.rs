//! EVPN by Debian's FRR: leaves with vxswitch beside a leaf of Linux's own, no remotes configured anywhere.
//!
//! Needs root and FRR; without them the tests say that they are skipped.

#[path = "../support/mod.rs"]
mod support;

mod lab;
mod many;

use lab::{Bgp, Fabric, Leaf, LinuxLeaf, address, has_frr, mac};
use serde_json::Value;
use support::net::Host;
use support::{eventually, is_root, turn};

/// Whether the test can run.
fn can_run(test: &str) -> bool {
    is_root(test) && has_frr(test)
}

#[test]
fn three_leaves_find_each_other() {
    if !can_run("three_leaves_find_each_other") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, 2, 3]);
    let one = Leaf::new(&fabric, 1, "0", Bgp::InBand);
    let two = Leaf::new(&fabric, 2, "1", Bgp::InBand);
    let three = LinuxLeaf::new(&fabric, 3);
    one.until_vteps(&[2, 3]);
    two.until_vteps(&[1, 3]);
    // Nobody knows a MAC address yet: the request is flooded by the type 3 routes.
    for to in [2, 3] {
        eventually("the first answer", lab::PATIENCE, || {
            (one.guest.ping(&address(to), 1, "-W 1").received == 1).then_some(())
        });
    }
    one.until_on(&mac(1), "p1");
    one.until_at(&mac(2), 2);
    one.until_at(&mac(3), 3);
    two.until_at(&mac(1), 1);
    three.until_at(&mac(1), 1);
    three.until_at(&mac(2), 2);
    for (from, to) in [(&one.guest, 2), (&one.guest, 3), (&two.guest, 1), (&two.guest, 3), (&three.guest, 1)]
    {
        from.ping(&address(to), 10, "").assert_lossless();
    }
    // FRR says the same as the switch, on every leaf.
    for frr in [&one.frr, &two.frr, &three.frr] {
        let macs = frr.vtysh("show evpn mac vni 100");
        assert!((1..=3).all(|n| macs.contains(&mac(n))), "{macs}");
    }
    let routes = fabric.frr.vtysh("show bgp l2vpn evpn");
    assert!((1..=3).all(|n| routes.contains(&format!("[3]:[0]:[32]:[{}]", lab::vtep(n)))), "{routes}");
    let row = one.evpn();
    assert_eq!((&row["vni"], &row["port"], &row["local"]), (&100.into(), &"vx".into(), &"192.0.2.1".into()));
    assert_eq!(
        (&row["local_macs"], &row["remote_macs"], &row["error"]),
        (&1.into(), &2.into(), &Value::Null)
    );
    assert!(row["zebra"].is_number(), "{row}");
    // A VTEP that no route names is not listened to.
    fabric.host.ip("link add stranger type vxlan id 100 dstport 4789 local 192.0.2.100 remote 192.0.2.1");
    fabric.host.configure("stranger", &mac(9), 1450, "10.0.0.9/24");
    fabric.host.ping(&address(1), 2, "-W 1").assert_silent();
    assert!(one.daemon.dropped("tunnel_remote_unknown") > 0, "{:?}", one.daemon.drops());
    assert_eq!(one.fdb(&mac(9)), None);
    // A port that is removed takes its shadow with it, and the others forget this VTEP and its hosts.
    two.daemon.vxctl("del-port vx");
    one.until_vteps(&[3]);
    one.until_gone(&mac(2));
    eventually("the devices are gone", lab::PATIENCE, || {
        (!two.host.ip("link show").contains("vxs")).then_some(())
    });
    one.finish();
    two.finish();
}

/// What `neigh show` says of a host: MAC address and state.
fn host_row(leaf: &Leaf, ip: &str) -> Option<(String, String)> {
    let rows = leaf.daemon.json("neigh show br0");
    let row = rows.as_array().expect("rows").iter().find(|row| row["ip"] == ip)?;
    let text = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
    Some((text("mac"), text("state")))
}

#[track_caller]
fn until_host(leaf: &Leaf, ip: &str, mac: &str, state: &str) {
    let wanted = (mac.to_owned(), state.to_owned());
    eventually(&format!("{ip} is {wanted:?}"), lab::PATIENCE, || {
        (host_row(leaf, ip).as_ref() == Some(&wanted)).then_some(())
    });
}

#[test]
fn host_addresses_go_both_ways_and_questions_stay_here() {
    if !can_run("host_addresses_go_both_ways_and_questions_stay_here") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, 2, 3]);
    let one = Leaf::new(&fabric, 1, "0", Bgp::InBand);
    let two = Leaf::new(&fabric, 2, "1", Bgp::InBand);
    let three = LinuxLeaf::new(&fabric, 3);
    let v6 = |n: u8| format!("fd00::{n}");
    for (leaf, n) in [(&one, 1), (&two, 2)] {
        leaf.guest.sh("sysctl -q -w net.ipv6.conf.p1.disable_ipv6=0");
        leaf.guest.ip(&format!("address add {}/64 dev p1 nodad", v6(n)));
    }
    one.until_vteps(&[2, 3]);
    two.until_vteps(&[1, 3]);
    // IPv6 addresses are announced by devices that have IPv6, which those of these namespaces have not.
    for leaf in [&one, &two] {
        leaf.host.sh("sysctl -q -w net.ipv6.conf.vxsbr100.disable_ipv6=0");
    }
    // Linux announces what its bridge's neighbours are.
    three.host.ip(&format!("neigh replace {} lladdr {} dev br0 nud noarp", address(3), mac(3)));
    eventually("hosts hear of each other", lab::PATIENCE, || {
        let answered = |to: &str| one.guest.ping(to, 1, "-W 1").received == 1;
        (answered(&address(2)) && answered(&v6(2)) && answered(&address(3))).then_some(())
    });
    for (leaf, here, there) in [(&one, 1, 2), (&two, 2, 1)] {
        for (own, other) in [(address(here), address(there)), (v6(here), v6(there))] {
            until_host(leaf, &own, &mac(here), "REACHABLE");
            until_host(leaf, &other, &mac(there), "EXTERN_LEARN");
        }
        until_host(leaf, &address(3), &mac(3), "EXTERN_LEARN");
        let cache = leaf.frr.vtysh("show evpn arp-cache vni 100");
        assert!([address(1), address(2), v6(1), v6(2)].iter().all(|ip| cache.contains(ip)), "{cache}");
    }
    let count = |column: &str| one.evpn()[column].as_u64().expect("a number");
    assert!(count("local_hosts") >= 2 && count("remote_hosts") >= 3, "{}", one.evpn());
    // All that they ask from now on is answered here.
    let questions = |result: &str| {
        let line = format!("vxswitch_neigh_questions_total{{bridge=\"br0\",result=\"{result}\"}} ");
        let log = one.daemon.log();
        let address = log.lines().find_map(|line| line.strip_prefix("metrics: ")).expect("an address");
        let metrics = one.host.sh(&format!("curl -s {address}"));
        let value = metrics
            .lines()
            .find_map(|text| text.strip_prefix(&line))
            .unwrap_or_else(|| panic!("no {line}in {metrics}"));
        value.parse::<u64>().expect("a number")
    };
    let before = questions("flooded");
    for to in [address(2), address(3), v6(2)] {
        one.guest.ip("neigh flush all");
        one.guest.ping(&to, 1, "").assert_lossless();
    }
    assert!(questions("answered") >= 3);
    assert_eq!(questions("flooded"), before);
    // An address moves to another host behind another leaf, and its old entry does not come back.
    let first = one.attach("mover", &mac(7), &address(7));
    first.ping(&address(3), 1, "-W 3");
    until_host(&two, &address(7), &mac(7), "EXTERN_LEARN");
    first.ip(&format!("address del {}/24 dev mover", address(7)));
    let second = two.attach("mover", &mac(8), &address(7));
    second.ping(&address(3), 1, "-W 3");
    until_host(&two, &address(7), &mac(8), "REACHABLE");
    until_host(&one, &address(7), &mac(8), "EXTERN_LEARN");
    // A host that is forgotten is withdrawn with its addresses.
    one.guest.ip("link set p1 down");
    one.daemon.vxctl("fdb flush br0");
    eventually("its addresses are withdrawn", lab::PATIENCE, || {
        (host_row(&two, &address(1)).is_none() && host_row(&two, &v6(1)).is_none()).then_some(())
    });
    one.finish();
    two.finish();
}

#[test]
fn a_host_moves_between_leaves_and_back() {
    if !can_run("a_host_moves_between_leaves_and_back") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, 2, 3]);
    let one = Leaf::new(&fabric, 1, "0", Bgp::InBand);
    let two = Leaf::new(&fabric, 2, "1", Bgp::InBand);
    let three = LinuxLeaf::new(&fabric, 3);
    one.until_vteps(&[2, 3]);
    two.until_vteps(&[1, 3]);
    // The same host, with a cable to either leaf.
    let at_one = one.attach("mobile", &mac(7), &address(7));
    let at_two = two.attach("mobile", &mac(7), &address(7));
    for round in 0..2 {
        at_two.ip("link set mobile down");
        at_one.ip("link set mobile up");
        eventually("it is heard at the first leaf", lab::PATIENCE, || {
            (at_one.ping(&address(3), 1, "-W 1").received == 1).then_some(())
        });
        one.until_on(&mac(7), "mobile");
        two.until_at(&mac(7), 1);
        three.until_at(&mac(7), 1);
        three.guest.ping(&address(7), 5, "").assert_lossless();
        at_one.ip("link set mobile down");
        at_two.ip("link set mobile up");
        eventually("it is heard at the second leaf", lab::PATIENCE, || {
            (at_two.ping(&address(3), 1, "-W 1").received == 1).then_some(())
        });
        two.until_on(&mac(7), "mobile");
        one.until_at(&mac(7), 2);
        three.until_at(&mac(7), 2);
        three.guest.ping(&address(7), 5, "").assert_lossless();
        one.guest.ping(&address(7), 5, "").assert_lossless();
        assert!(one.evpn()["duplicates"].as_array().is_some_and(Vec::is_empty), "in round {round}");
    }
    // One that goes on like that is two hosts.
    eventually("it is named a duplicate", lab::PATIENCE, || {
        let (from, down) = if two.fdb(&mac(7)).is_some_and(|at| at.1.is_none()) {
            (&at_one, &at_two)
        } else {
            (&at_two, &at_one)
        };
        down.ip("link set mobile down");
        from.ip("link set mobile up");
        from.ping(&address(3), 1, "-W 1");
        let named = |leaf: &Leaf| leaf.evpn()["duplicates"] == serde_json::json!([mac(7)]);
        (named(&one) || named(&two)).then_some(())
    });
    one.finish();
    two.finish();
}

#[test]
fn restarts_of_frr_and_of_the_switch_withdraw_nothing() {
    if !can_run("restarts_of_frr_and_of_the_switch_withdraw_nothing") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, 2]);
    let mut one = Leaf::new(&fabric, 1, "0", Bgp::OutOfBand);
    let two = Leaf::new(&fabric, 2, "1", Bgp::InBand);
    one.until_vteps(&[2]);
    two.until_vteps(&[1]);
    one.guest.ping(&address(2), 1, "-W 3");
    one.until_at(&mac(2), 2);
    two.until_at(&mac(1), 1);
    // The switch dies: FRR goes on announcing its hosts, and the others do not notice.
    one.daemon.kill();
    let still = || {
        assert_eq!(two.fdb(&mac(1)), Some(("vx".to_owned(), Some(lab::vtep(1)))), "withdrawn");
        assert_eq!(two.vteps(), [lab::vtep(1)]);
    };
    still();
    one.restart();
    one.until_vteps(&[2]);
    one.until_at(&mac(2), 2);
    still();
    // Its neighbours' entries are as old as they were: only the switch has to find out about its hosts again.
    one.guest.ping(&address(2), 5, "").assert_lossless();
    still();

    // FRR dies: the switch goes on with what it knows.
    one.frr.kill();
    eventually("the end of zebra is seen", lab::PATIENCE, || {
        let row = one.evpn();
        (row["zebra"].is_null() && row["holding"] == true).then_some(())
    });
    let known = |leaf: &Leaf| {
        assert_eq!(leaf.fdb(&mac(2)), Some(("vx".to_owned(), Some(lab::vtep(2)))), "forgotten");
        assert_eq!(leaf.vteps(), [lab::vtep(2)]);
    };
    known(&one);
    one.frr.start();
    // The others have lost its routes with the session, and get them again without a word of its hosts.
    two.until_at(&mac(1), 1);
    two.until_vteps(&[1]);
    eventually("routes are installed again", lab::PATIENCE, || {
        known(&one);
        one.host.sh("bridge fdb show br vxsbr100").contains(&mac(2)).then_some(())
    });
    one.guest.ping(&address(2), 5, "").assert_lossless();
    one.finish();
    two.finish();
}

#[test]
fn frr_may_live_in_a_namespace_of_its_own() {
    if !can_run("frr_may_live_in_a_namespace_of_its_own") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, 3]);
    let mut one = Leaf::new(&fabric, 1, "0", Bgp::OutOfBand);
    let three = LinuxLeaf::new(&fabric, 3);
    one.until_vteps(&[3]);
    // FRR moves into another namespace, and with it its interface.
    one.frr.kill();
    let apart = Host::new("frr");
    one.host.ip(&format!("link set bgp netns {}", apart.name));
    apart.ip("link set bgp up");
    apart.ip(&format!("address add {}/24 dev bgp", lab::bgp_address(1)));
    one.daemon.vxctl(&format!("set bridge br0 other_config:evpn-netns={}", apart.name));
    one.frr.start_in(&apart);
    eventually("the shadow is there", lab::PATIENCE, || {
        apart.ip("link show").contains("vxsbr100").then_some(())
    });
    assert!(!one.host.ip("link show").contains("vxsbr100"), "the old one is left");
    one.guest.ping(&address(3), 1, "-W 3");
    three.until_at(&mac(1), 1);
    one.until_at(&mac(3), 3);
    assert_eq!(one.evpn()["netns"], apart.name.as_str());
    // One that is not there is an error of these VNIs, shown until it is.
    one.daemon.vxctl("set bridge br0 other_config:evpn-netns=nowhere");
    eventually("the error is shown", lab::PATIENCE, || {
        one.evpn()["error"].as_str().is_some_and(|error| error.contains("nowhere")).then_some(())
    });
    one.finish();
}
