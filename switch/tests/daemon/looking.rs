//! Looking into it: traces, captures, the FDB.

use crate::running::{BASE, Daemon, read_pcap};
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
