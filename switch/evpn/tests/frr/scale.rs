//! Many VNIs and many MAC addresses. `EVPN_VNIS` and `EVPN_MACS` say how many, and the test prints how long each step took:
//! `EVPN_VNIS=1000 EVPN_MACS=10000 cargo test -p evpn --test frr scale -- --nocapture`.

use crate::leaf::{VNI, can_run, pair, run, until};
use crate::{TIMES, sync};
use evpn::Shadow;
use evpn::table::Switch;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use wire::addr::MacAddr;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn mac(side: u8, n: u32) -> MacAddr {
    let [_, a, b, c] = n.to_be_bytes();
    MacAddr([2, side, 0, a, b, c])
}

/// What zebra would write, more than the socket for events has room for while nobody reads it.
#[test]
fn lost_events_lose_nothing() {
    if !can_run("lost_events_lose_nothing") {
        return;
    }
    const MACS: u32 = 20_000;
    let dir = std::env::temp_dir().join(format!("evpn-lost-{}", std::process::id()));
    let (ours, theirs) = pair("lost", &dir);
    let mut shadow = Shadow::open(Some(&ours.netns), TIMES).expect("shadow");
    shadow.set_vnis(&[(VNI, [192, 0, 2, 1].into())].into()).expect("devices");
    let mut switch = Switch::default();
    sync(&mut shadow, &mut switch);
    let batch = dir.join("batch");
    let mut lines = String::new();
    for n in 0..MACS {
        let vtep = 2 + n % 200;
        let _ = writeln!(
            lines,
            "fdb replace {} dev vxsvx{VNI} dst 192.0.2.{vtep} self master extern_learn dynamic",
            mac(2, n)
        );
    }
    std::fs::write(&batch, lines).expect("batch");
    run(&format!("bridge -n {} -batch {}", ours.netns, batch.display()));
    assert_eq!(shadow.events_lost(), 0);
    assert!(shadow.changed().expect("a look at the kernel"), "a loss is a change");
    assert!(shadow.events_lost() > 0, "there was room for all");
    sync(&mut shadow, &mut switch);
    assert_eq!(switch.remote.len(), MACS as usize);
    assert_eq!(switch.vteps.len(), 200);
    shadow.set_vnis(&BTreeMap::new()).expect("no devices");
    drop((ours, theirs));
    let _ = std::fs::remove_dir_all(dir);
}

#[test]
fn scale_many_vnis_and_many_addresses() {
    if !can_run("scale_many_vnis_and_many_addresses") {
        return;
    }
    let (vnis, macs) = (number("EVPN_VNIS", 50), number("EVPN_MACS", 1000));
    let dir = std::env::temp_dir().join(format!("evpn-scale-{}", std::process::id()));
    let (mut ours, mut theirs) = pair("scale", &dir);
    let local = Ipv4Addr::new(192, 0, 2, 1);
    let mut shadow = Shadow::open(Some(&ours.netns), TIMES).expect("shadow");
    let report = |what: &str, since: Instant| println!("{what}: {:.2} s", since.elapsed().as_secs_f64());

    let start = Instant::now();
    let wanted: BTreeMap<u32, Ipv4Addr> = (VNI..VNI + vnis).map(|vni| (vni, local)).collect();
    shadow.set_vnis(&wanted).expect("devices");
    report(&format!("devices of {vnis} VNIs made"), start);
    let start = Instant::now();
    shadow.set_vnis(&wanted).expect("devices");
    report("found as they must be", start);
    let start = Instant::now();
    ours.start_frr(1);
    theirs.start_frr(2);
    let mut switch = Switch::default();
    let vtep = IpAddr::from([192, 0, 2, 2]);
    until("the flood list", || {
        sync(&mut shadow, &mut switch);
        (switch.vteps.get(&vtep) == Some(&true)).then_some(())
    });
    report("FRR started, first type 3 route here", start);

    switch.local = (0..macs).map(|n| (mac(1, n), false)).collect();
    let start = Instant::now();
    sync(&mut shadow, &mut switch);
    report(&format!("{macs} MAC addresses written to the kernel"), start);
    until("all of ours there", || {
        let rows = run(&format!("bridge -n {} fdb show br br0", theirs.netns));
        let there: BTreeSet<&str> = rows
            .lines()
            .filter(|row| row.contains("dst 192.0.2.1"))
            .filter_map(|row| row.get(..17))
            .collect();
        (there.iter().filter(|mac| mac.starts_with("02:01")).count() == macs as usize).then_some(())
    });
    report(&format!("{macs} MAC addresses at the other VTEP"), start);

    let batch = dir.join("batch");
    let mut lines = String::new();
    for n in 0..macs {
        let _ = writeln!(lines, "fdb add {} dev host master static", mac(2, n));
    }
    std::fs::write(&batch, lines).expect("batch");
    let start = Instant::now();
    run(&format!("bridge -n {} -batch {}", theirs.netns, batch.display()));
    report(&format!("{macs} MAC addresses added there"), start);
    until("all of theirs here", || {
        sync(&mut shadow, &mut switch);
        (0..macs).all(|n| switch.remote.contains_key(&mac(2, n))).then_some(())
    });
    report(&format!("{macs} MAC addresses here"), start);
    let start = Instant::now();
    let before = switch.clone();
    sync(&mut shadow, &mut switch);
    report("a look when nothing has changed", start);
    assert_eq!(switch, before, "in sync after the churn");
    for (name, daemon) in ["zebra", "bgpd"].iter().zip(&ours.daemons) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
        let rss = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        println!("{name}: {rss}");
    }

    let start = Instant::now();
    switch.local.clear();
    sync(&mut shadow, &mut switch);
    until("none of ours there", || {
        let rows = run(&format!("bridge -n {} fdb show br br0", theirs.netns));
        (!rows.contains("dst 192.0.2.1 ") || !rows.lines().any(|row| row.starts_with("02:01"))).then_some(())
    });
    report(&format!("{macs} MAC addresses withdrawn"), start);
    let start = Instant::now();
    shadow.set_vnis(&BTreeMap::new()).expect("no devices");
    report(&format!("devices of {vnis} VNIs removed"), start);
    assert!(!ours.ip("link show").contains("vxs"), "devices left");
    drop((ours, theirs));
    let _ = std::fs::remove_dir_all(dir);
}
