//! Hosts that believe in 1500 bytes behind a tunnel that takes 1450: they are told, as behind Linux' own bridged vxlan.

use crate::support::net::Host;
use crate::support::{eventually, is_root, turn};
use crate::tap::{Taps, enable_v6, v6};
use crate::{H3, H3_MAC, Lab, REMOTE, VTEP};
use std::time::Duration;

/// The hosts behind the switch have the MTU of Ethernet; the Linux VTEP knows what fits.
fn widen(taps: &Taps) {
    let [a, b, _] = &taps.devices;
    taps.h1.ip(&format!("link set {a} mtu 1500"));
    taps.h2.ip(&format!("link set {b} mtu 1500"));
}

/// TCP works from a host to another, both ways, over IPv4 and IPv6.
fn tcp_works(from: &Host, to: &Host) {
    for address in [H3.to_owned(), v6(3)] {
        for options in ["", "-R"] {
            let throughput = from.iperf3(to, &address, 1, options);
            assert!(throughput > 5e6, "iperf3 {options} {address}: {throughput} bit/s");
        }
    }
}

/// A vxlan device of 1500 bytes over Ethernet: its packets leave in fragments, or their senders are told.
fn widen_remote(taps: &Taps) {
    let remote = &taps.remote;
    remote.ip("link del vxlan100");
    remote.ip(&format!("link add vxlan100 type vxlan id 100 dstport 4789 local {REMOTE} remote {VTEP}"));
    remote.ip(&format!("link set vxlan100 address {H3_MAC} mtu 1500 up"));
    remote.ip(&format!("address add {H3}/24 dev vxlan100"));
    enable_v6(remote, "vxlan100", 3);
}

#[test]
fn hosts_that_believe_in_1500_bytes_reach_a_linux_vtep() {
    if !is_root("hosts_that_believe_in_1500_bytes_reach_a_linux_vtep") {
        return;
    }
    let _turn = turn();
    for options in ["", "offloads = false"] {
        let taps = Taps::new(options);
        widen(&taps);
        // By large segments or one by one, and from a device without offloads.
        let hosts = if options.is_empty() { &[&taps.h1, &taps.h2][..] } else { &[&taps.h1] };
        assert!(taps.h1.iperf3(&taps.remote, H3, 1, "") > 5e6);
        assert_eq!(taps.daemon.dropped("mtu_exceeded"), 0, "TCP hears what the other end takes");
        // An end that takes 1500 bytes: now it is the switch that tells the senders.
        widen_remote(&taps);
        for host in hosts {
            tcp_works(host, &taps.remote);
            for family in ["", "-6"] {
                let address = if family.is_empty() { H3.to_owned() } else { v6(3) };
                let route = host.ip(&format!("{family} route get {address}"));
                assert!(route.contains("mtu 1450"), "{route}");
            }
        }
        taps.finish();
    }
}

#[test]
fn a_ping_that_does_not_fit_is_divided_by_its_sender() {
    if !is_root("a_ping_that_does_not_fit_is_divided_by_its_sender") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("");
    widen(&taps);
    for (address, size) in [(H3.to_owned(), 1472), (v6(3), 1452)] {
        for host in [&taps.h1, &taps.h2] {
            // The first one is lost, and its sender is told; on a busy machine it may take more than one.
            let family = if address.contains(':') { "-6" } else { "" };
            eventually("the sender knows the path's MTU", Duration::from_secs(10), || {
                host.ping(&address, 1, &format!("-s {size} -W 1"));
                host.ip(&format!("{family} route get {address}")).contains("mtu 1450").then_some(())
            });
            host.ping(&address, 10, &format!("-s {size}")).assert_lossless();
        }
    }
    let dropped = taps.daemon.dropped("mtu_exceeded");
    assert!((4..=12).contains(&dropped), "{dropped}");
    // Others may have been dropped as well, on a busy machine.
    assert!(taps.daemon.statistic("vx", "tx_dropped") >= dropped);
    taps.finish();
}

#[test]
fn datagrams_without_df_are_divided_by_their_senders_who_are_told() {
    if !is_root("datagrams_without_df_are_divided_by_their_senders_who_are_told") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("");
    let [a, ..] = &taps.devices;
    // The switch sees what the host does to the tap, wherever it is.
    for mtu in ["9000", "1500"] {
        taps.h1.ip(&format!("link set {a} mtu {mtu}"));
        eventually("the MTU is followed", Duration::from_secs(5), || {
            (taps.daemon.json(&format!("get interface {a} mtu")) == mtu.parse::<u64>().expect("a number"))
                .then_some(())
        });
    }
    let show = taps.daemon.vxctl("show");
    let is_warned = |line: &str| {
        line.contains(&format!("{a} has MTU 1500"))
            && line.ends_with("longer ones are dropped, and their senders are told by ICMP")
    };
    assert!(show.lines().any(is_warned), "{show}");
    // Nobody asks not to divide: the host divides at 1500 bytes, and then at what it has heard of.
    widen_remote(&taps);
    eventually("the sender knows the path's MTU", Duration::from_secs(10), || {
        let ping = taps.h1.command(&format!("ping -n -M dont -c 1 -W 1 -s 3000 {H3}")).output();
        ping.is_ok_and(|ping| ping.status.success()).then_some(())
    });
    assert!(taps.daemon.dropped("mtu_exceeded") > 0);
    taps.h1.ping(H3, 5, "-M dont -s 3000").assert_lossless();
    taps.finish();
}

#[test]
fn an_access_ports_host_is_told_without_its_vlan() {
    if !is_root("an_access_ports_host_is_told_without_its_vlan") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    // The tag crosses the tunnel, and costs four bytes there.
    lab.daemon.vxctl("set port p1 tag=7");
    lab.h1.ip(&format!("link set {} mtu 1500", lab.devices[0]));
    let neighbour = format!("neigh replace {H3} lladdr {} dev {}", H3_MAC, lab.devices[0]);
    lab.h1.ip(&neighbour);
    lab.h1.ping(H3, 1, "-s 1472 -W 1").assert_silent();
    let told = || lab.h1.ip(&format!("route get {H3}")).contains("mtu 1446").then_some(());
    crate::support::eventually("the host is told", std::time::Duration::from_secs(5), told);
    lab.finish();
}

/// The lab's tunnel, made anew over IPv6 at both ends.
fn over_ipv6(taps: &Taps) {
    let (remote, uplink) = (&taps.remote, &taps.devices[2]);
    taps.daemon.vxctl("set bridge br-phy address=192.168.1.1/24,2001:db8::1/64");
    taps.daemon.vxctl("set interface vx options:remote_ip=2001:db8::2");
    remote.sh(&format!("sysctl -q -w net/ipv6/conf/{uplink}/disable_ipv6=0"));
    remote.ip(&format!("address add 2001:db8::2/64 dev {uplink} nodad"));
    remote.ip("link del vxlan100");
    remote.ip("link add vxlan100 type vxlan id 100 dstport 4789 local 2001:db8::2 remote 2001:db8::1");
    remote.ip(&format!("link set vxlan100 address {H3_MAC} mtu 1500 up"));
    remote.ip(&format!("address add {H3}/24 dev vxlan100"));
}

#[test]
fn without_df_frames_of_1500_bytes_cross_in_outer_fragments_both_ways() {
    if !is_root("without_df_frames_of_1500_bytes_cross_in_outer_fragments_both_ways") {
        return;
    }
    let _turn = turn();
    let taps = Taps::new("");
    widen(&taps);
    widen_remote(&taps);
    taps.daemon.vxctl("set interface vx options:df_default=false");
    let reassembled = |host: &Host, counter: &str| -> u64 {
        let text = host.sh(&format!("nstat -asz {counter}"));
        let value = text.lines().find(|line| line.starts_with(counter));
        value.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a number")
    };
    let merged =
        || taps.daemon.workers().iter().map(|row| row["merged"].as_u64().expect("a number")).sum::<u64>();
    for (counter, is_ipv6) in [("IpReasmOKs", false), ("Ip6ReasmOKs", true)] {
        if is_ipv6 {
            over_ipv6(&taps);
        }
        let (there, here) = (reassembled(&taps.remote, counter), merged());
        for host in [&taps.h1, &taps.h2] {
            // Fragments and whole packets are flows of their own, which wait for their decisions apart from each other. Over
            // IPv6 Linux sends no outer fragments: it loses its first answer, and then makes fragments inside.
            host.ping(H3, 1, "-M dont -s 1472");
            host.ping(H3, 5, "-M dont -s 1472").assert_lossless();
        }
        // The sender's packet comes in fragments of its own, each of which fits.
        taps.h1.ping(H3, 5, "-M dont -s 6000").assert_lossless();
        assert!(reassembled(&taps.remote, counter) - there >= 10, "{counter}");
        // Over IPv4 it does so after its first answer.
        assert!(is_ipv6 || merged() > here, "the first answer comes in fragments");
    }
    assert_eq!(taps.daemon.dropped("mtu_exceeded"), 0);
    let drops = taps.daemon.drops();
    assert!(!drops.contains_key("reassembly_failed"), "{drops:?}");
    taps.daemon.assert_balanced();
}
