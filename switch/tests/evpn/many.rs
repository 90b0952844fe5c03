//! Many VTEPs: their type 3 routes come, go and come again, and a broadcast reaches each of them.

use crate::lab::{Bgp, Fabric, Leaf, PATIENCE, VNI};
use crate::support::eventually;
use crate::support::net::Host;
use crate::{can_run, turn};
use std::time::Instant;

/// The route reflector knows the speaker as this leaf.
const SPEAKER: u8 = 190;
const SPEAKER_IP: &str = "192.0.2.200";

/// VTEPs: `EVPN_VTEPS`, else a thousand.
fn count() -> usize {
    std::env::var("EVPN_VTEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Resident memory of the switch in MB, and the seconds of CPU that all its threads but the worker have used.
fn cost(leaf: &Leaf) -> (u64, f64) {
    let process = format!("/proc/{}", leaf.daemon.pid());
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let status = read(format!("{process}/status"));
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    let threads = std::fs::read_dir(format!("{process}/task")).expect("threads").flatten();
    let nanoseconds = threads
        .map(|thread| thread.path().display().to_string())
        .filter(|thread| {
            let name = read(format!("{thread}/comm"));
            // The worker is the first thread here, which polls all the time.
            name.trim() != "vxswitch"
        })
        .filter_map(|thread| read(format!("{thread}/schedstat")).split(' ').next()?.parse::<f64>().ok());
    (kilobytes / 1024, nanoseconds.sum::<f64>() / 1e9)
}

#[test]
fn a_thousand_vteps_come_and_go() {
    if !can_run("a_thousand_vteps_come_and_go") {
        return;
    }
    let _turn = turn();
    let fabric = Fabric::new(&[1, SPEAKER]);
    let speaker = Host::new("speaker");
    fabric.cable(&speaker, SPEAKER, "s");
    speaker.ip(&format!("address add {SPEAKER_IP}/24 dev s"));
    let one = Leaf::new(&fabric, 1, "0", Bgp::OutOfBand);
    // All VTEPs are behind the speaker.
    fabric.host.ip(&format!("route add 10.9.0.0/16 via {SPEAKER_IP} dev lan"));
    one.host.ip(&format!("route add 10.9.0.0/16 via {SPEAKER_IP} dev bgp"));
    one.daemon.vxctl(&format!("route add br-phy 10.9.0.0/16 {SPEAKER_IP}"));
    let (all, before) = (count(), cost(&one));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/evpn/speaker.py");
    let began = Instant::now();
    let announcing =
        speaker.background(&format!("python3 {script} {SPEAKER_IP} 192.0.2.100 65000 {VNI} {all}"));
    let until = |wanted: usize, what: &str| {
        let began = Instant::now();
        eventually(&format!("{wanted} VTEPs, {what}"), PATIENCE, || {
            (one.vteps().len() == wanted).then_some(())
        });
        println!("{what}: {wanted} VTEPs after {:.1} s", began.elapsed().as_secs_f64());
    };
    until(all, "announced");
    println!("with the session of BGP {:.1} s", began.elapsed().as_secs_f64());
    // The kernel has the same.
    let flooded = || {
        let fdb = one.host.sh(&format!("bridge fdb show dev vxsvx{VNI}"));
        fdb.lines()
            .filter(|line| line.starts_with("00:00:00:00:00:00") && line.contains(" dst 10.9."))
            .count()
    };
    assert_eq!(flooded(), all);
    // A broadcast goes to each.
    let sent = || one.daemon.statistic("vx", "tx_packets");
    let at_first = sent();
    one.guest.ping("10.0.0.250", 1, "-W 1");
    assert!(sent() >= at_first + all as u64, "{} of {all} copies", sent() - at_first);
    announcing.signal("USR1");
    until(all / 2, "every second one withdrawn");
    assert_eq!(flooded(), all / 2);
    announcing.signal("USR2");
    until(all, "announced again");
    assert_eq!(flooded(), all);
    let after = cost(&one);
    println!(
        "memory: {} MB, {} before; CPU of all threads but the worker's: {:.1} s",
        after.0,
        before.0,
        after.1 - before.1
    );
    drop(announcing);
    // The session ends with the speaker.
    until(0, "session ended");
    one.finish();
}
