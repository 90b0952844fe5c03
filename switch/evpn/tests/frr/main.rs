//! FRR as it is: a Linux VTEP with an FRR of its own on the other side of a veth pair, both in network namespaces.

mod leaf;
mod scale;

use evpn::table::{Down, Remote, Switch};
use evpn::{Shadow, Times};
use leaf::{Leaf, VNI, can_run, run, until};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use wire::addr::MacAddr;

const TIMES: Times = Times { keep: Duration::ZERO, hold: Duration::from_secs(15) };

/// Does what the switch does with a change.
fn carry_out(switch: &mut Switch, down: &Down) {
    for mac in &down.forget {
        switch.remote.remove(mac);
    }
    for (mac, remote) in &down.install {
        switch.local.remove(mac);
        switch.remote.insert(*mac, *remote);
    }
    if let Some(vteps) = &down.vteps {
        switch.vteps.clone_from(vteps);
    }
}

fn sync(shadow: &mut Shadow, switch: &mut Switch) {
    shadow.changed().expect("a look at the kernel");
    let downs = shadow.sync(&BTreeMap::from([(VNI, switch.clone())])).expect("sync");
    if let Some(down) = downs.get(&VNI) {
        carry_out(switch, down);
    }
}

#[test]
fn routes_of_types_2_and_3_both_ways_and_hosts_that_move() {
    if !can_run("routes_of_types_2_and_3_both_ways_and_hosts_that_move") {
        return;
    }
    let dir = std::env::temp_dir().join(format!("evpn-routes-{}", std::process::id()));
    let (mut ours, mut theirs) = leaf::pair("routes", &dir);
    let mut shadow = Shadow::open(Some(&ours.netns), TIMES).expect("shadow");
    shadow.set_vnis(&[(VNI, [192, 0, 2, 1].into())].into()).expect("devices");
    ours.start_frr(1);
    theirs.start_frr(2);

    let (here, there) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let vtep = IpAddr::from([192, 0, 2, 2]);
    let mut switch = Switch { local: [(here, false)].into(), ..Switch::default() };
    let fdb = |leaf: &Leaf, mac: MacAddr| {
        let rows = run(&format!("bridge -n {} fdb show br br0", leaf.netns));
        rows.lines().filter(|row| row.starts_with(&mac.to_string())).collect::<Vec<_>>().join("\n")
    };
    until("the flood list", || {
        sync(&mut shadow, &mut switch);
        (switch.vteps.get(&vtep) == Some(&true)).then_some(())
    });
    until("our MAC at the other side", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, here).contains("dst 192.0.2.1").then_some(())
    });
    run(&format!("bridge -n {} fdb add {there} dev host master static", theirs.netns));
    until("its MAC here", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.get(&there) == Some(&Remote { vtep, sticky: false })).then_some(())
    });
    // Its host comes here: heard at a local port, which takes its entry's place.
    switch.remote.remove(&there);
    switch.local.insert(there, false);
    until("the host that came", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, there).contains("dst 192.0.2.1").then_some(())
    });
    // And goes back.
    run(&format!("bridge -n {} fdb replace {there} dev host master static", theirs.netns));
    until("the host that went", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.contains_key(&there) && !switch.local.contains_key(&there)).then_some(())
    });
    // What does not move, in both directions.
    switch.local.insert(here, true);
    until("our sticky MAC there", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, here).contains("sticky").then_some(())
    });
    let stuck = MacAddr([2, 0, 0, 0, 0, 5]);
    run(&format!("bridge -n {} fdb add {stuck} dev host master static sticky", theirs.netns));
    until("its sticky MAC here", || {
        sync(&mut shadow, &mut switch);
        (switch.remote.get(&stuck) == Some(&Remote { vtep, sticky: true })).then_some(())
    });

    // FRR dies. What it has said stays, and what is not said again goes when the next one has had its time.
    let (stays, goes) = (MacAddr([2, 0, 0, 0, 0, 3]), MacAddr([2, 0, 0, 0, 0, 4]));
    for mac in [stays, goes] {
        run(&format!("bridge -n {} fdb add {mac} dev host master static", theirs.netns));
    }
    until("two more hosts", || {
        sync(&mut shadow, &mut switch);
        [stays, goes].iter().all(|mac| switch.remote.contains_key(mac)).then_some(())
    });
    assert!(shadow.zebra().is_some() && !shadow.is_holding());
    ours.kill_frr();
    until("its end is seen", || {
        sync(&mut shadow, &mut switch);
        shadow.is_holding().then_some(())
    });
    let installed = |leaf: &Leaf| run(&format!("bridge -n {} fdb show br vxsbr{VNI}", leaf.netns));
    assert!(!installed(&ours).contains("192.0.2.2"), "left behind:\n{}", installed(&ours));
    run(&format!("bridge -n {} fdb del {goes} dev host master", theirs.netns));
    ours.start_frr(1);
    let is_held = |switch: &Switch| {
        [stays, goes, there, stuck].iter().all(|mac| switch.remote.contains_key(mac))
            && switch.vteps.get(&vtep) == Some(&true)
    };
    until("the route is there again", || {
        sync(&mut shadow, &mut switch);
        assert!(is_held(&switch) || !shadow.is_holding(), "{switch:?}");
        installed(&ours).contains(&stays.to_string()).then_some(())
    });
    until("what was withdrawn meanwhile is gone", || {
        sync(&mut shadow, &mut switch);
        (!shadow.is_holding() && !switch.remote.contains_key(&goes)).then_some(())
    });
    assert!(switch.remote.contains_key(&stays) && switch.vteps.get(&vtep) == Some(&true), "{switch:?}");
    until("ours is announced again", || {
        sync(&mut shadow, &mut switch);
        fdb(&theirs, here).contains("192.0.2.1").then_some(())
    });

    run(&format!("bridge -n {} fdb del {there} dev host master", theirs.netns));
    switch.local.remove(&here);
    until("our withdrawal there", || {
        sync(&mut shadow, &mut switch);
        (!fdb(&theirs, here).contains("192.0.2.1")).then_some(())
    });
    until("its withdrawal here", || {
        sync(&mut shadow, &mut switch);
        (!switch.remote.contains_key(&there)).then_some(())
    });
    // Ours are removed, and with them the route.
    shadow.set_vnis(&BTreeMap::new()).expect("no devices");
    assert!(!ours.ip("link show").contains("vxs"), "devices left");
    drop((ours, theirs));
    let _ = std::fs::remove_dir_all(dir);
}
