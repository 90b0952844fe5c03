//! Looking into it: traces, captures, the FDB.

use crate::running::{BASE, Daemon, UNDERLAY, read_pcap, write_pcap};
use crate::support::vxctl;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_packet_in_hexadecimal_is_traced() {
    let daemon = Daemon::start(BASE);
    // IPv4 and UDP.
    let packet = "0200000000020200000000010800450000 1c0000000040110000 0a0000010a000002 0007000900080000"
        .replace(' ', "");
    let trace = daemon.json(&format!("trace br0 in_port=p0 {packet}"));
    let flow = trace["flow"].as_str().unwrap();
    for field in ["in_port=p0", "udp", "nw_src=10.0.0.1", "tp_dst=9", "dl_src=02:00:00:00:00:01"] {
        assert!(flow.contains(field), "no {field} in {trace}");
    }
    assert_eq!((trace["actions"].as_str(), &trace["reason"]), (Some("p1"), &serde_json::Value::Null));
    daemon.ctl("add-flow br0 priority=77,udp,actions=drop");
    let text = daemon.ctl(&format!("trace br0 in_port=p0 {packet}"));
    assert!(text.contains("Drop reason: rule: "), "{text}");
    assert!(daemon.refused("trace br0 in_port=p0 00112233445566778899aabbccd").contains("00112233"));
    assert!(daemon.refused(&format!("trace br0 in_port=p0 {packet}0")).contains("two hexadecimal digits"));
    daemon.stop();
}

/// A VXLAN packet from 10.77.0.2 to 10.77.0.1, VNI 100, around UDP from 172.16.0.1 to 172.16.0.2.
const TUNNELLED: &str = "020000000a01020000000a0208004500005200010000401165fe0a4d00020a4d0001c35012b5003e0000080000000000640002\
    000000001102000000003308004500002000010000401122a9ac100001ac10000203e807d0000c197841414141";

#[test]
fn a_tunnel_packet_is_traced_to_the_port_that_its_inner_frame_leaves_by() {
    let vtep = UNDERLAY.replace("192.168.1.", "10.77.0.");
    let vtep = vtep.replace("address =", "hwaddr = \"02:00:00:00:0a:01\"\naddress =");
    let vx = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
              options = { remote_ip = \"10.77.0.2\", key = 100 }\n";
    let daemon = Daemon::start(&format!("{BASE}{vx}{vtep}"));
    daemon.ctl("add-flow br0 in_port=vx,actions=output:p1");
    let traced = |packet: &str| daemon.json(&format!("trace br-phy in_port=uplink {packet}"));
    let trace = traced(TUNNELLED);
    assert_eq!(trace["actions"], "tnl_pop(br-phy)", "{trace:#}");
    let inner = &trace["inner"];
    assert_eq!((&inner["actions"], &trace["reason"]), (&"p1".into(), &serde_json::Value::Null), "{trace:#}");
    for field in ["tun_id=0x64", "tun_src=10.77.0.2", "in_port=vx", "nw_src=172.16.0.1", "tp_dst=2000"] {
        assert!(inner["flow"].as_str().unwrap().contains(field), "no {field} in {inner:#}");
    }
    let text = daemon.ctl(&format!("trace br-phy in_port=uplink {TUNNELLED}"));
    assert!(text.contains("\nInner frame:\nFlow: ") && text.contains("Datapath actions: p1\n"), "{text}");
    // Of another VNI, without the I flag, cut off, not for this VTEP, by a tag that a rule takes off.
    let no_tag = "0800450000520001";
    for (from, to, reason) in [
        ("0800000000006400", "0800000000006500", "tunnel_unknown"),
        ("0800000000006400", "0000000000006400", "vxlan_no_vni_flag"),
        ("65fe0a4d0002", "65fd0a4d0003", "tunnel_remote_unknown"),
        ("41414141", "4141", "tunnel_ipv4_length"),
        (no_tag, &format!("8100000a{no_tag}"), "local_unhandled"),
    ] {
        let trace = traced(&TUNNELLED.replace(from, to));
        assert_eq!(trace["reason"]["reason"], *reason, "{trace:#}");
    }
    daemon.ctl("add-flow br-phy dl_vlan=10,actions=strip_vlan,LOCAL");
    let tagged = TUNNELLED.replace(no_tag, &format!("8100000a{no_tag}"));
    assert_eq!(traced(&tagged)["inner"]["actions"], "p1");
    // The rules of the inner bridge drop it.
    daemon.ctl("add-flow br0 priority=50000,udp,actions=drop");
    assert_eq!(traced(TUNNELLED)["reason"]["reason"], "rule");
    daemon.stop();
}

#[test]
fn a_packet_too_long_for_its_way_is_traced_as_dropped() {
    let vx = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
              options = { remote_ip = \"192.168.1.2\", key = 100 }\n";
    let daemon = Daemon::start(&format!("{BASE}{vx}{UNDERLAY}"));
    // Of so many bytes behind the Ethernet header.
    let frame = |len: usize| format!("{}88b5{}", "020000000002020000000001", "00".repeat(len));
    let tagged = |len: usize| frame(len).replace("88b5", "8100000588b5");
    let reason = |packet: &str| {
        let trace = daemon.json(&format!("trace br0 in_port=p0 {packet}"));
        trace["reason"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    for (packet, expected) in
        [(frame(1500), ""), (frame(1501), "mtu_exceeded"), (tagged(1500), ""), (tagged(1501), "mtu_exceeded")]
    {
        assert_eq!(reason(&packet), expected);
    }
    daemon.ctl("add-flow br0 in_port=p0,actions=output:vx");
    assert_eq!((reason(&frame(1450)), reason(&frame(1451))), (String::new(), "mtu_exceeded".into()));
    let text = daemon.ctl(&format!("trace br0 in_port=p0 {}", frame(1451)));
    assert!(text.contains("vx to 192.168.1.2: a frame of 1465 bytes, 1464 fit the path"), "{text}");
    // The same where the underlay's rules look at each packet, and the uplink is behind a patch port.
    daemon.ctl(
        "add-br up -- add-port br-phy pa -- set interface pa type=patch options:peer=pb \
         -- add-port up pb -- set interface pb type=patch options:peer=pa \
         -- del-port uplink -- add-port up uplink -- set interface uplink type=dpdk options:dpdk-devargs=net_null2,no-rx=1",
    );
    daemon.ctl("add-flow br-phy udp,tp_src=0xc000/0xc000,actions=NORMAL");
    assert_eq!((reason(&frame(1450)), reason(&frame(1451))), (String::new(), "mtu_exceeded".into()));
    // What these rules do with the tunnel packet is a part of the trace.
    let trace = daemon.json(&format!("trace br0 in_port=p0 {}", frame(60)));
    let outer = &trace["outer"];
    assert_eq!(outer["actions"], "uplink", "{trace:#}");
    assert!(outer["flow"].as_str().unwrap().contains("nw_dst=192.168.1.2"), "{trace:#}");
    daemon.ctl("add-flow br-phy udp,tp_src=0xc000/0xc000,actions=drop");
    assert_eq!(reason(&frame(60)), "rule");
    assert!(
        daemon.ctl(&format!("trace br0 in_port=p0 {}", frame(60))).contains("\nTunnel packet:\nFlow: udp")
    );
    daemon.ctl("add-flow br-phy udp,tp_src=0xc000/0xc000,actions=NORMAL");
    // One copy goes: the packet is not dropped.
    daemon.ctl("add-flow br0 in_port=p0,actions=output:vx,output:p1");
    assert_eq!(reason(&frame(1451)), "");
    daemon.stop();
}

#[test]
fn captures_are_files_that_end_with_their_port() {
    let daemon = Daemon::start(BASE);
    let file = daemon.dir.path().join("c.pcap");
    let name = file.display().to_string();
    daemon.ctl(&format!("capture p0 {name} --seconds 0.3"));
    read_pcap(&file);
    daemon.ctl(&format!("capture controller:br0 {name} --seconds 0.1"));
    assert!(read_pcap(&file).is_empty(), "no rule sends anything there");
    assert!(daemon.refused(&format!("capture p9 {name}")).contains("no port named p9"));
    assert!(daemon.refused(&format!("capture controller:br9 {name}")).contains("no bridge named br9"));
    assert!(daemon.refused(&format!("capture p0 {name} --count 0")).contains("a number from 1"));
    assert!(daemon.refused("capture p0 /no/such/file").contains("/no/such/file: "));
    let capture = Command::new(vxctl())
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(["capture", "p1", &name])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    daemon.ctl("del-port p1");
    let output = capture.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "vxctl: port p1 is gone\n");
    assert!(!output.status.success());
    read_pcap(&file);
    // One that goes on does not keep the daemon from stopping.
    let mut capture = Command::new(vxctl())
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(["capture", "controller:br0", &name])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    daemon.stop();
    capture.wait().unwrap();
}

#[test]
fn fdb_entries_by_hand() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("fdb add br0 p1 0 02:00:00:00:00:77");
    let rows = daemon.json("fdb show br0");
    assert_eq!((rows[0]["port"].as_str(), rows[0]["fixed"].as_bool()), (Some("p1"), Some(true)), "{rows}");
    assert!(daemon.ctl("fdb show br0").contains("static"));
    assert!(daemon.refused("fdb add br0 p9 0 02:00:00:00:00:77").contains("p9"));
    assert!(daemon.refused("fdb add br0 p1 0 ff:ff:ff:ff:ff:ff").contains("group address"));
    daemon.ctl("fdb flush br0");
    assert!(daemon.ctl("fdb show br0").contains("02:00:00:00:00:77"), "static entries stay");
    daemon.ctl("fdb del br0 0 02:00:00:00:00:77");
    assert!(daemon.refused("fdb del br0 0 02:00:00:00:00:77").contains("no entry"));
    daemon.stop();
}

/// UDP from 172.16.0.1 to 172.16.0.2 with this source and destination port.
fn udp(from: u16, to: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0x22, 0x8d, 172, 16, 0, 1, 172, 16, 0, 2]);
    frame.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    frame.extend([0, 40, 0, 0]);
    frame.resize(74, 0x41);
    frame
}

/// [`BASE`] whose port p0 receives these packets again and again.
fn repeating(dir: &std::path::Path, frames: &[Vec<u8>]) -> String {
    write_pcap(&dir.join("in.pcap"), frames);
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", dir.join("in.pcap").display());
    BASE.replace("net_null0,size=64", &device)
}

#[test]
fn captures_take_tcpdumps_filters() {
    let dir = tempfile::tempdir().unwrap();
    let config = repeating(dir.path(), &[udp(1000, 7), udp(1000, 9)]);
    let daemon = Daemon::start_in(dir, &config);
    let file = daemon.dir.path().join("c.pcap");
    let name = file.display().to_string();
    daemon.ctl(&format!("capture p0 {name} udp and dst port 9 --count 20"));
    assert_eq!(read_pcap(&file), vec![udp(1000, 9); 20]);
    daemon.ctl(&format!("capture p1 {name} -c 3 not dst port 9"));
    assert_eq!(read_pcap(&file), vec![udp(1000, 7); 3]);
    daemon.ctl(&format!("capture p0 {name} tcp --seconds 0.3"));
    assert!(read_pcap(&file).is_empty());
    std::fs::remove_file(&file).unwrap();
    let refused = daemon.refused(&format!("capture p0 {name} udp prt 9"));
    assert!(refused.contains(r#"filter "udp prt 9": "#) && refused.contains("syntax error"), "{refused}");
    assert!(!file.exists(), "a file is made when the switch has agreed");
    let long = "udp or ".repeat(600) + "tcp";
    assert!(daemon.refused(&format!("capture p0 {name} {long}")).contains("4096 characters"));
    daemon.stop();
}

#[test]
fn monitors_say_what_became_of_each_packet() {
    let dir = tempfile::tempdir().unwrap();
    let config = repeating(dir.path(), &[udp(1000, 7), udp(1000, 9), udp(1000, 11)]);
    let vx = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
              options = { remote_ip = \"192.168.1.2\", key = 100 }\n";
    let daemon = Daemon::start_in(dir, &format!("{config}{vx}{UNDERLAY}"));
    daemon.ctl("add-flow br0 priority=50,udp,tp_dst=9,actions=output:vx");
    daemon.ctl("add-flow br0 priority=50,udp,tp_dst=11,actions=drop");
    let text = daemon.ctl("monitor p0 -c 5 dst port 7");
    assert_eq!(text.matches(" p0 (br0), 74 bytes").count(), 5, "{text}");
    assert!(text.contains("Datapath actions: p1\n") && text.contains("Sent: p1, 74 bytes\n"), "{text}");
    assert!(!text.contains("capture("), "what happens is told as if nobody looked: {text}");
    let text = daemon.ctl("monitor -c 1 p0 dst port 11");
    assert!(text.contains("Drop reason: rule: a rule says drop") && !text.contains("Sent: "), "{text}");
    // Each line an object; the rule path, the megaflow, the program, the outer header of this very packet.
    let lines = daemon.ctl("-j monitor p0 dst port 9 -c 2");
    for line in lines.lines() {
        let packet: serde_json::Value = serde_json::from_str(line).unwrap();
        let trace = &packet["trace"];
        let steps: Vec<&str> = trace["steps"].as_array().unwrap().iter().filter_map(|s| s.as_str()).collect();
        assert!(steps.iter().any(|step| step.contains("udp,tp_dst=9")), "{packet:#}");
        assert!(trace["megaflow"].as_str().unwrap().contains("udp(dst=9)"), "{packet:#}");
        assert!(trace["actions"].as_str().unwrap().starts_with("encap(vx: "), "{packet:#}");
        assert_eq!(trace["sent"], serde_json::json!(["uplink, 124 bytes"]), "{packet:#}");
        let header = trace["headers"][0].as_str().unwrap();
        assert!(header.contains("tos=0x0,ttl=64") && header.contains("out by uplink"), "{packet:#}");
        let source = header.split("udp(src=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        let source: u16 = source.parse().unwrap();
        // The packet that leaves has that source port.
        let file = daemon.dir.path().join("out.pcap");
        daemon.ctl(&format!("capture uplink {} udp dst port 4789 -c 1", file.display()));
        assert_eq!(read_pcap(&file)[0][34..36], source.to_be_bytes());
    }
    // A group's bucket is the flow's.
    daemon.ctl("add-group br0 group_id=1,type=select,bucket=actions=output:p1,bucket=actions=output:vx");
    daemon.ctl("add-flow br0 priority=60,udp,tp_dst=7,actions=group:1");
    let text = daemon.ctl("monitor p0 dst port 7 -c 1");
    assert!(text.contains(" of 2, by the flow's hash: "), "{text}");
    assert_eq!(text.matches("Sent: ").count(), 1, "{text}");
    // All devices; what there is no time for is counted.
    assert!(daemon.ctl("monitor -c 3").contains(" p0 (br0), "));
    let many = daemon.ctl("monitor dst port 7 -c 3000");
    assert!(many.contains(" packets before it are not shown"), "all were shown");
    let refused = daemon.refused("monitor p9 icmp");
    assert!(
        refused.contains("no port named p9, and as a filter") && refused.contains("syntax error"),
        "{refused}"
    );
    assert!(daemon.refused("monitor p0 icmp icmp").contains(r#"filter "icmp icmp": "#));
    // Nothing is left of it.
    assert!(!daemon.ctl("megaflow show").contains("capture("));
    daemon.ctl("monitor p1 --seconds 0.2");
    daemon.stop();
}

#[test]
fn outer_packets_of_an_uplink_are_seen_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let tunnelled = TUNNELLED.replace(char::is_whitespace, "");
    let tunnelled: Vec<u8> = (0..tunnelled.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&tunnelled[at..at + 2], 16).unwrap())
        .collect();
    write_pcap(&dir.path().join("wire.pcap"), std::slice::from_ref(&tunnelled));
    let wire = format!("net_pcap2,rx_pcap={},infinite_rx=1", dir.path().join("wire.pcap").display());
    let vtep = UNDERLAY.replace("192.168.1.", "10.77.0.").replace("net_null2,no-rx=1", &wire);
    let vtep = vtep.replace("address =", "hwaddr = \"02:00:00:00:0a:01\"\naddress =");
    let vx = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
              options = { remote_ip = \"10.77.0.2\", key = 100 }\n";
    let base = repeating(dir.path(), &[udp(1000, 7)]);
    let daemon = Daemon::start_in(dir, &format!("{base}{vx}{vtep}"));
    daemon.ctl("add-flow br0 priority=50,in_port=vx,actions=output:p1");
    daemon.ctl("add-flow br0 priority=50,in_port=p0,actions=output:vx");
    let file = daemon.dir.path().join("c.pcap");
    let captured = |filter: &str| {
        daemon.ctl(&format!("capture uplink {} {filter} -c 2", file.display()));
        read_pcap(&file)
    };
    assert_eq!(captured("src host 10.77.0.2"), [&*tunnelled, &*tunnelled]);
    let sent = captured("src host 10.77.0.1 and udp port 4789");
    assert_eq!((sent.len(), &sent[0][50..]), (2, &*udp(1000, 7)));
    // The packet as it came in by the uplink, and the frame inside of it.
    let text = daemon.ctl("monitor uplink -c 1");
    assert!(text.contains(" uplink (br-phy), 96 bytes\n"), "{text}");
    assert!(text.contains("Datapath actions: tnl_pop(br-phy)\n\nInner frame:\n"), "{text}");
    assert!(text.contains("tun_id=0x64") && text.ends_with("Sent: p1, 46 bytes\n\n"), "{text}");
    let text = daemon.ctl("monitor vx -c 1 dst port 2000");
    assert!(text.contains(" vx (br0), 46 bytes\n") && text.contains("tun_src=10.77.0.2"), "{text}");
    assert!(text.contains("Sent: p1, 46 bytes\n"), "{text}");
    daemon.stop();
}
