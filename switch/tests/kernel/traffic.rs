//! Plain traffic: everybody reaches everybody, at every size that fits, at speed.

use crate::support::{is_root, turn};
use crate::{Attach, H1, H2, H3, Lab, REMOTE, VTEP};

#[test]
fn hosts_on_a_bridge_and_behind_a_linux_vtep_reach_each_other() {
    if !is_root("hosts_on_a_bridge_and_behind_a_linux_vtep_reach_each_other") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    // Nobody knows anybody: the very first packets wait for two ARP resolutions and must not be lost.
    lab.h1.ping(H3, 20, "").assert_lossless();
    lab.h1.ping(H2, 20, "").assert_lossless();
    lab.h2.ping(H1, 20, "").assert_lossless();
    lab.h2.ping(H3, 20, "").assert_lossless();
    lab.remote.ping(H1, 20, "").assert_lossless();
    lab.remote.ping(H2, 20, "").assert_lossless();

    // 80 echo requests and replies each way through the tunnel, and ARP.
    let tunnel = |name| lab.daemon.statistic("vx", name);
    for name in ["rx_packets", "tx_packets"] {
        assert!((80..120).contains(&tunnel(name)), "{name}: {}", tunnel(name));
    }
    assert!(tunnel("tx_bytes") >= 80 * 98 && tunnel("rx_bytes") >= 80 * 98);
    assert!(lab.daemon.statistic("p1", "rx_packets") >= 80);
    assert!(lab.drops().is_empty(), "{:?}", lab.drops());
    let hits = lab.daemon.total("cache_hits") + lab.daemon.total("megaflow_hits");
    assert!(hits > 5 * lab.daemon.total("misses"), "decisions are not kept");
    lab.finish();
}

#[test]
fn the_largest_packet_that_fits_passes_and_one_byte_more_is_counted() {
    if !is_root("the_largest_packet_that_fits_passes_and_one_byte_more_is_counted") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    // The host believes in 1500 bytes; the tunnel leaves room for 1450: 28 of headers and 1422 of data.
    lab.h1.ip(&format!("link set {} mtu 1500", lab.devices[0]));
    lab.h1.ping(H3, 10, "-M do -s 1422").assert_lossless();
    assert_eq!(lab.daemon.dropped("mtu_exceeded"), 0);
    // The sender is told after the first one, and sends no more of them.
    lab.h1.ping(H3, 7, "-M do -s 1423 -W 1").assert_silent();
    assert_eq!(lab.daemon.dropped("mtu_exceeded"), 1);
    assert_eq!(lab.daemon.statistic("vx", "tx_dropped"), 1);
    // The port still works, and between the hosts 1500 bytes pass.
    lab.h1.ping(H3, 10, "-M do -s 1422").assert_lossless();
    lab.h2.ip(&format!("link set {} mtu 1500", lab.devices[1]));
    lab.h1.ping(H2, 10, "-M do -s 1472").assert_lossless();
    lab.finish();
}

#[test]
fn tcp_flows_both_ways_through_the_tunnel() {
    if !is_root("tcp_flows_both_ways_through_the_tunnel") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    for options in ["", "-R"] {
        let throughput = lab.h1.iperf3(&lab.remote, H3, 3, options);
        // A few hundred Mbit/s to some Gbit/s are usual; a stall would show as next to nothing.
        assert!(throughput > 50e6, "iperf3 {options}: {throughput} bit/s");
    }
    let (misses, received) = (lab.daemon.total("misses"), lab.daemon.total("rx_packets"));
    assert!(misses * 100 < received, "{misses} misses for {received} packets");
    // Whatever was dropped is for want of room in a tap, which TCP probes for; nothing else.
    let others: Vec<_> = lab.drops().into_keys().filter(|reason| reason != "tx_full").collect();
    assert!(others.is_empty(), "{others:?}");
    lab.finish();
}

#[test]
fn tcp_survives_a_restart_of_the_switch() {
    if !is_root("tcp_survives_a_restart_of_the_switch") {
        return;
    }
    let _turn = turn();
    let mut lab = Lab::with(crate::TWO_HOSTS_AND_A_TUNNEL, Attach::Veth);
    lab.h1.ping(H3, 5, "").assert_lossless();
    let server = lab.remote.background("iperf3 -s -1");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let client = lab.h1.background(&format!("iperf3 -J -c {H3} -t 8"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    lab.daemon.assert_running();
    lab.daemon.stop();
    lab.daemon.restart();
    let before = lab.daemon.statistic("vx", "tx_packets");
    let json: serde_json::Value = serde_json::from_str(&client.finish()).expect("iperf3 prints JSON");
    drop(server);
    assert!(json["error"].is_null(), "{}", json["error"]);
    // The same TCP connection went on in the switch's second life.
    let intervals = json["intervals"].as_array().expect("intervals");
    let last = intervals.last().expect("an interval")["sum"]["bits_per_second"].as_f64().expect("a number");
    assert!(last > 1e6, "nothing moved in the last second: {last} bit/s");
    assert!(lab.daemon.statistic("vx", "tx_packets") > before);
    lab.h1.ping(H3, 20, "").assert_lossless();
    lab.finish();
}

#[test]
fn the_switch_answers_pings_to_its_vtep_address() {
    if !is_root("the_switch_answers_pings_to_its_vtep_address") {
        return;
    }
    let _turn = turn();
    let lab = Lab::new();
    lab.remote.ping(VTEP, 20, "").assert_lossless();
    lab.remote.ping(VTEP, 20, "-s 1400").assert_lossless();
    // Asked for its MAC by the peer, it learned the peer's; it did not have to ask.
    let neighbours = lab.daemon.json("neigh show");
    let row = neighbours.as_array().expect("rows").iter().find(|row| row["ip"] == REMOTE);
    assert_eq!(row.expect("the peer is known")["state"], "REACHABLE");
    assert!(lab.daemon.total("punted") >= 40);
    assert!(lab.daemon.total("injected") >= 40);
    lab.finish();
}
