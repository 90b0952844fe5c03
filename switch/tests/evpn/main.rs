//! EVPN by Debian's FRR: leaves with vxswitch beside a leaf of Linux's own, no remotes configured anywhere.
//!
//! Needs root and FRR; without them the tests say that they are skipped.

#[path = "../support/mod.rs"]
mod support;

mod lab;

use lab::{Fabric, Leaf, LinuxLeaf, address, has_frr, mac};
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
    let one = Leaf::new(&fabric, 1, "0", "");
    let two = Leaf::new(&fabric, 2, "1", "");
    let three = LinuxLeaf::new(&fabric, 3);
    one.until_vteps(&[2, 3]);
    two.until_vteps(&[1, 3]);
    // Nobody knows a MAC address yet: the request is flooded by the type 3 routes.
    for to in [2, 3] {
        eventually("the first answer", lab::PATIENCE, || {
            (one.guest.ping(&address(to), 1, "-W 1").received == 1).then_some(())
        });
    }
    one.until_at(&mac(1), None);
    one.until_at(&mac(2), Some(2));
    one.until_at(&mac(3), Some(3));
    two.until_at(&mac(1), Some(1));
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
    // A port that is removed takes its shadow with it, and the others forget this VTEP and its hosts.
    two.daemon.vxctl("del-port vx");
    one.until_vteps(&[3]);
    one.until_gone(&mac(2));
    assert!(!two.host.ip("link show").contains("vxs"), "devices left");
    one.finish();
    two.finish();
}
