//! Captures of dropped packets, as Wireshark reads them.

use crate::running::{BASE, Daemon, UNDERLAY, write_pcap};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// UDP from port 1000 of 172.16.0.1 to this port of 172.16.0.2, with so many bytes of payload.
fn udp(to: u16, payload: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0]);
    frame.extend((28 + payload).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2]);
    frame.extend([1000u16.to_be_bytes(), to.to_be_bytes(), (8 + payload).to_be_bytes(), [0; 2]].concat());
    frame.resize(frame.len() + usize::from(payload), 0x41);
    frame
}

/// A VXLAN packet from 10.77.0.2 to 10.77.0.1 with these flags and VNI around a frame.
fn vxlan(flags: u8, vni: u8, inner: &[u8]) -> Vec<u8> {
    let len = 16 + inner.len() as u16;
    let mut frame = vec![2, 0, 0, 0, 0x0a, 1, 2, 0, 0, 0, 0x0a, 2, 8, 0];
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len).to_be_bytes());
    ip.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 77, 0, 2, 10, 77, 0, 1]);
    let sum = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    ip[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    frame.extend(ip);
    frame.extend([50_000u16.to_be_bytes(), 4789u16.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat());
    frame.extend([flags, 0, 0, 0, 0, 0, vni, 0]);
    frame.extend(inner);
    frame
}

/// A device that receives these frames again and again.
fn device(dir: &Path, number: u32, frames: &[Vec<u8>]) -> String {
    let file = dir.join(format!("in{number}.pcap"));
    write_pcap(&file, frames);
    format!("net_pcap{number},rx_pcap={},infinite_rx=1", file.display())
}

/// Interface, comment and length of each packet of a file, as tshark has them.
fn read(file: &Path) -> Vec<(String, String, usize)> {
    let output = Command::new("tshark")
        .args(["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-e", "frame.len", "-r"])
        .arg(file)
        .output()
        .expect("tshark runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            (fields[0].to_owned(), fields[1].to_owned(), fields[2].parse().unwrap())
        })
        .collect()
}

#[test]
fn dropped_packets_are_captured_with_their_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let guest = [udp(7, 32), udp(9, 32), udp(11, 32), udp(13, 1900), vec![0; 10]];
    let inner = udp(2000, 4);
    let wire = [vxlan(8, 100, &inner), vxlan(8, 101, &inner), vxlan(0, 100, &inner)];
    let vtep = UNDERLAY.replace("192.168.1.", "10.77.0.");
    let vtep = vtep.replace("net_null2,no-rx=1", &device(dir.path(), 2, &wire));
    let vtep = vtep.replace("address =", "hwaddr = \"02:00:00:00:0a:01\"\naddress =");
    let vx = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\n\
              options = { remote_ip = \"10.77.0.2\", key = 100 }\n";
    let base = BASE.replace("net_null0,size=64", &device(dir.path(), 0, &guest));
    let daemon = Daemon::start_in(dir, &format!("{base}{vx}{vtep}"));
    daemon.ctl("add-meter br0 meter=1,kbps,bands=type=drop,rate=1");
    daemon.ctl("add-flow br0 priority=50,udp,tp_dst=9,actions=drop");
    daemon.ctl("add-flow br0 priority=50,udp,tp_dst=11,actions=meter:1,output:p1");
    daemon.ctl("add-flow br0 priority=50,in_port=vx,actions=output:p1");
    let file = daemon.dir.path().join("drops.pcapng");
    let capture = |what: &str, limits: &str| {
        daemon.ctl(&format!("capture {what} {} {limits}", file.display()));
        read(&file)
    };
    let reason = |comment: &str| comment.split([':', ' ']).nth(2).unwrap_or_default().to_owned();
    let seen: BTreeSet<_> = capture("drops", "-c 3000")
        .into_iter()
        .map(|(port, comment, len)| (port, reason(&comment), len))
        .collect();
    let expected = [
        ("no tunnel port", "tunnel_unknown", 46),
        ("p0", "ethernet_truncated", 10),
        ("p0", "meter", 74),
        ("p0", "mtu_exceeded", 1942),
        ("p0", "rule", 74),
        ("uplink", "vxlan_no_vni_flag", 96),
    ];
    let expected = expected.map(|(port, reason, len)| (port.to_owned(), reason.to_owned(), len));
    assert_eq!(seen, BTreeSet::from(expected));
    for (what, limits, expected) in [
        ("drops:rule", "-c 5", "dropped: rule (port p0, bridge br0): a rule says drop"),
        (
            "drops:uplink",
            "-c 5",
            "dropped: vxlan_no_vni_flag (port uplink, bridge br-phy): VXLAN header without",
        ),
        ("drops", "greater 1900 -c 5", "dropped: mtu_exceeded (port p0, bridge br0): frame longer than"),
    ] {
        let seen = capture(what, limits);
        let all = seen.iter().all(|(_, comment, _)| comment.starts_with(expected));
        assert!(seen.len() == 5 && all, "{what} {limits}: {seen:?}");
    }
    // What rules do not foresee, a monitor says as well.
    let told = "Dropped on its way: meter: a meter had no tokens left\n";
    // Among far more packets than can be shown.
    daemon.eventually("a monitor tells what a meter dropped", || {
        daemon.ctl("monitor p0 -c 200 udp dst port 11").contains(told)
    });
    let refused = daemon.refused(&format!("capture drops:nothing {}", file.display()));
    assert!(refused.contains("no port and no drop reason is named nothing"), "{refused}");
    // Programs are what they were.
    assert!(daemon.ctl("megaflow show").contains("actions:drop(rule)"), "{}", daemon.ctl("megaflow show"));
    daemon.stop();
}
