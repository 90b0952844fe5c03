//! What `ovs-ofctl` does with ports: `mod-port`, `packet-out`.

use crate::running::{BASE, Daemon, read_pcap};
use tempfile::TempDir;

#[test]
fn a_port_that_is_set_down_sends_and_takes_nothing() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 1000);
    let sent = || {
        let columns = daemon.json("get interface p1 statistics:tx_packets");
        columns.to_string().chars().filter(char::is_ascii_digit).collect::<String>()
    };
    // By name or number, of the output port and of the input port.
    for port in ["p1", "2", "p0", "1"] {
        daemon.ctl(&format!("mod-port br0 {port} down"));
        let before = sent();
        let drops =
            || daemon.ctl("drops").lines().find(|line| line.starts_with("port_down")).map(str::to_owned);
        let first = drops();
        daemon.eventually("port_down is counted", || drops() != first);
        assert_eq!(sent(), before, "{port}");
        let name = if ["p1", "2"].contains(&port) { "p1" } else { "p0" };
        assert_eq!(daemon.ctl(&format!("get interface {name} admin_state")).trim(), "down");
        let trace = daemon.ctl("trace br0 in_port=p0");
        assert!(trace.contains(&format!("port {name} is set down")), "{trace}");
        assert!(trace.contains("Final flow: unchanged"), "{trace}");
        daemon.ctl(&format!("mod-port br0 {port} up"));
        assert_eq!(daemon.ctl(&format!("get interface {name} admin_state")).trim(), "up");
        daemon.wait_for_more("p1", "tx_packets", 1000);
    }
    for (line, why) in [
        ("mod-port br0 p9 down", "no port \"p9\""),
        ("mod-port br0 LOCAL down", "LOCAL is up"),
        ("mod-port br9 p0 down", "no bridge named br9"),
        ("mod-port br0 p0 sideways", "expected up, receive"),
    ] {
        let error = daemon.refused(line);
        assert!(error.contains(why), "{line}: {error}");
    }
    daemon.stop();
}

#[test]
fn packet_out_sends_by_actions() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.pcap");
    let config = format!(
        "[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\nflows = [\"table=1,in_port=p1,actions=output:p2\"]\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_null0,no-rx=1\" }}\n\
         [[bridge.port]]\nname = \"p2\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap0,tx_pcap={}\" }}\n",
        out.display()
    );
    let daemon = Daemon::start_in(dir, &config);
    let packet =
        "0200000000010200000000020800450000200000400040110000 0a0000010a000002 03e807d0000c0000 61626364";
    let packet = packet.replace(' ', "");
    daemon.ctl(&format!("packet-out br0 in_port=CONTROLLER,packet={packet},actions=mod_tp_dst:99,output:p2"));
    daemon.ctl(&format!("packet-out br0 in_port=p1,packet={packet},actions=resubmit(,1)"));
    daemon.ctl(&format!("packet-out br0 p1 output:p2 {packet} {packet}"));
    daemon.ctl("add-flow br0 in_port=p1,actions=output:p2");
    daemon.ctl(&format!("packet-out br0 in_port=p1,packet={packet},actions=TABLE"));
    let (front, rest) = packet.split_at(12);
    daemon.ctl(&format!("packet-out br0 in_port=p1 packet={front} {rest} actions=output:p2"));
    for (line, why) in [
        (format!("packet-out br0 in_port=p1,packet={packet}f,actions=output:p2"), "two hexadecimal digits"),
        (
            "packet-out br0 in_port=p1,packet=0102,actions=output:p2".to_owned(),
            "shorter than an Ethernet header",
        ),
        (
            format!("packet-out br0 in_port=p1,packet={packet}{},actions=output:p2", "00".repeat(2048)),
            "expected up to 2048",
        ),
        (format!("packet-out br0 in_port=p9,packet={packet},actions=output:p2"), "no port \"p9\""),
        (format!("packet-out br0 in_port=p1,packet={packet},actions=group:7"), "group"),
        (format!("packet-out br0 in_port=p1,packet={packet},actions=mod_nw_src:nonsense"), "mod_nw_src"),
        (format!("packet-out br0 in_port=p1,packet={packet}"), "expected in_port=PORT"),
    ] {
        let error = daemon.refused(&line);
        assert!(error.contains(why), "{line}: {error}");
    }
    daemon.wait_for("p2", "tx_packets", 6);
    let dir = daemon.stop();
    let frames = read_pcap(&dir.path().join("out.pcap"));
    let ports: Vec<u16> = frames.iter().map(|frame| u16::from_be_bytes([frame[36], frame[37]])).collect();
    assert_eq!(ports, [99, 2000, 2000, 2000, 2000, 2000]);
}
