//! Frames that are not what they claim: never forwarded wrongly, and each counted under its one reason.

use crate::support::{scapy, turn};
use crate::{Differences, REMOTE, Run, UNDERLAY, VTEP, pcap_port, reasons};
use std::collections::BTreeMap;

const ETHERNET: usize = 14;
/// Ethernet, IPv4, UDP.
const OUTER_UDP: usize = 42;

fn config() -> String {
    format!(
        "[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\n\
         flows = [\"in_port=p0,actions=output:vx\", \"in_port=vx,actions=output:p0\"]\n{}\
         [[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\noptions = {{ remote_ip = \"{}\", key = 100 }}\n{UNDERLAY}",
        pcap_port("p0", 0, ""),
        REMOTE.1
    )
}

fn count(counts: &mut BTreeMap<String, u64>, reason: &str, frames: u64) {
    *counts.entry(reason.to_owned()).or_default() += frames;
}

/// Outer headers up to IP, to the VTEP.
fn outer(ip: &str) -> String {
    format!("Ether(src='{}', dst='{}')/IP(src='{}', dst='{}'{ip})", REMOTE.0, VTEP.0, REMOTE.1, VTEP.1)
}

const INNER: &str = "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IP(src='10.0.0.1', dst='10.0.0.2')/UDP(sport=1, dport=2)/Raw(b'payload')";

fn malformed_rows(run: &Run) -> BTreeMap<String, u64> {
    let answer = run.daemon.json("drops");
    let rows = answer["malformed"].as_array().unwrap_or_else(|| panic!("no malformed in {answer}"));
    rows.iter()
        .map(|row| {
            (row["reason"].as_str().expect("reason").to_owned(), row["packets"].as_u64().expect("packets"))
        })
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

#[test]
fn a_tunnel_packet_cut_off_at_each_byte_is_dropped_for_the_reason_that_fits() {
    let _turn = turn();
    let packet =
        format!("{}/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=100)/{INNER}", outer(""));
    let whole = scapy::build(&[packet, INNER.to_owned()]);
    let (packet, inner) = (&whole[0], &whole[1]);
    let frames: Vec<Vec<u8>> = (1..=packet.len()).map(|len| packet[..len].to_vec()).collect();

    let run = Run::new(&config(), &[("uplink", frames), ("p0", Vec::new())]);
    let expected = reasons(&[
        ("ethernet_truncated", ETHERNET as u64 - 1),
        // Without a whole UDP header it is a frame for the bridge's MAC that is not ARP or ICMP.
        ("local_unhandled", (OUTER_UDP - ETHERNET) as u64),
        ("tunnel_ipv4_length", (packet.len() - OUTER_UDP) as u64),
    ]);
    assert_eq!(run.daemon.drops(), expected);
    assert_eq!(
        malformed_rows(&run),
        reasons(&[("ethernet_truncated", 13), ("ipv4_header", 20), ("ipv4_length", 8)])
    );
    let [sent, back] = run.output(["p0", "uplink"]);
    assert_eq!(sent.len(), 1, "the whole packet alone goes through");
    let mut differences = Differences::default();
    differences.compare("the whole packet", &sent[0], inner);
    differences.assert_none();
    assert!(back.is_empty());
}

#[test]
fn a_tunnel_packet_that_ends_early_by_its_own_word_is_judged_by_what_is_there() {
    let _turn = turn();
    let vxlan = scapy::build(&[format!("VXLAN(flags=8, vni=100)/{INNER}")]).remove(0);
    // Lengths and checksums are right here; it is the VXLAN packet in it that stops after `len` bytes.
    let packets: Vec<String> = (0..=vxlan.len())
        .map(|len| {
            format!("{}/UDP(sport=50000, dport=4789, chksum=0)/h('{}')", outer(""), scapy::hex(&vxlan[..len]))
        })
        .collect();
    let run = Run::new(&config(), &[("uplink", scapy::build(&packets)), ("p0", Vec::new())]);
    let expected = reasons(&[("tunnel_truncated", 8), ("tunnel_inner_truncated", ETHERNET as u64)]);
    assert_eq!(run.daemon.drops(), expected);
    // From a whole Ethernet header on it is a frame, and the rules look at nothing behind it.
    let [sent] = run.output(["p0"]);
    let inner = &vxlan[8..];
    assert_eq!(sent.len(), inner.len() - ETHERNET + 1);
    let mut differences = Differences::default();
    for (frame, len) in sent.iter().zip(ETHERNET..) {
        differences.compare("an inner frame cut off", frame, &inner[..len]);
    }
    differences.assert_none();
}

#[test]
fn each_wrong_outer_field_has_its_reason() {
    let _turn = turn();
    let udp = "UDP(sport=50000, dport=4789, chksum=0)";
    let vxlan = format!("VXLAN(flags=8, vni=100)/{INNER}");
    let cases = [
        ("tunnel_ipv4_checksum", format!("{}/{udp}/{vxlan}", outer(", chksum=0x1234"))),
        ("tunnel_ipv4_length", format!("{}/{udp}/{vxlan}", outer(", len=27"))),
        ("tunnel_ipv4_length", format!("{}/{udp}/{vxlan}", outer(", len=0"))),
        ("tunnel_ipv4_length", format!("{}/{udp}/{vxlan}", outer(", len=65535"))),
        // A header that cannot be read is not even known to carry UDP.
        ("local_unhandled", format!("{}/{udp}/{vxlan}", outer(", ihl=4"))),
        ("local_unhandled", format!("{}/{udp}/{vxlan}", outer(", ihl=0"))),
        ("local_unhandled", format!("{}/{udp}/{vxlan}", outer(", version=5"))),
        // Two fragments that do not fit together.
        ("reassembly_failed", format!("{}/{udp}/{vxlan}", outer(", flags='MF'"))),
        ("reassembly_failed", format!("{}/{udp}/{vxlan}", outer(", frag=3"))),
        ("tunnel_udp_length", format!("{}/UDP(sport=50000, dport=4789, chksum=0, len=7)/{vxlan}", outer(""))),
        ("tunnel_udp_length", format!("{}/UDP(sport=50000, dport=4789, chksum=0, len=0)/{vxlan}", outer(""))),
        (
            "tunnel_udp_length",
            format!("{}/UDP(sport=50000, dport=4789, chksum=0, len=9999)/{vxlan}", outer("")),
        ),
        ("tunnel_udp_checksum", format!("{}/UDP(sport=50000, dport=4789, chksum=0x1234)/{vxlan}", outer(""))),
        ("tunnel_truncated", format!("{}/UDP(sport=50000, dport=4789, chksum=0, len=15)/{vxlan}", outer(""))),
        (
            "tunnel_inner_truncated",
            format!("{}/UDP(sport=50000, dport=4789, chksum=0, len=29)/{vxlan}", outer("")),
        ),
        ("vxlan_no_vni_flag", format!("{}/{udp}/VXLAN(flags=0, vni=100)/{INNER}", outer(""))),
        ("vxlan_no_vni_flag", format!("{}/{udp}/h('f700000000006400')/{INNER}", outer(""))),
        ("tunnel_unknown", format!("{}/{udp}/VXLAN(flags=8, vni=101)/{INNER}", outer(""))),
        // Another UDP port is nobody's.
        ("local_unhandled", format!("{}/UDP(sport=50000, dport=4790, chksum=0)/{vxlan}", outer(""))),
        // VTEPs speak untagged: a stack of tags to the bridge's MAC is for nobody.
        (
            "local_unhandled",
            format!(
                "Ether(src='{}', dst='{}')/Dot1Q(vlan=5)/Dot1Q(vlan=6)/IP(src='{}', dst='{}')/{udp}/{vxlan}",
                REMOTE.0, VTEP.0, REMOTE.1, VTEP.1
            ),
        ),
    ];
    let mut expected = BTreeMap::new();
    for (reason, _) in &cases {
        count(&mut expected, reason, 1);
    }
    let packets: Vec<&String> = cases.iter().map(|(_, packet)| packet).collect();
    let run = Run::new(&config(), &[("uplink", scapy::build(&packets)), ("p0", Vec::new())]);
    assert_eq!(run.daemon.drops(), expected);
    let [sent, back] = run.output(["p0", "uplink"]);
    assert!(sent.is_empty() && back.is_empty(), "{} and {} frames got through", sent.len(), back.len());
}

#[test]
fn frames_from_a_port_are_carried_as_they_are_or_counted() {
    let _turn = turn();
    let shapes = scapy::build(&[
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/Dot1Q(vlan=5)/IP(src='1.1.1.1', dst='2.2.2.2')/TCP(sport=1, dport=2)",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/Dot1Q(vlan=5)/Dot1Q(vlan=6)/Dot1Q(vlan=7)/IP(src='1.1.1.1', dst='2.2.2.2')",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IPv6(src='fd00::1', dst='fd00::2')/UDP(sport=1, dport=2)",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/ARP(psrc='10.0.0.1', pdst='10.0.0.2')",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IP(src='1.1.1.1', dst='2.2.2.2', ihl=3)/UDP()",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IP(src='1.1.1.1', dst='2.2.2.2', len=4000)/UDP()",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IP(src='1.1.1.1', dst='2.2.2.2', flags='MF')/UDP()/Raw(b'x' * 32)",
        "Ether(src='02:00:00:00:bb:01', dst='02:00:00:00:cc:01')/IP(src='1.1.1.1', dst='2.2.2.2', frag=100)/Raw(b'x' * 32)",
    ]);
    let frames: Vec<Vec<u8>> =
        shapes.iter().flat_map(|shape| (1..=shape.len()).map(|len| shape[..len].to_vec())).collect();
    let short = shapes.len() * (ETHERNET - 1);

    let run = Run::new(&config(), &[("p0", frames.clone()), ("uplink", Vec::new())]);
    assert_eq!(run.daemon.drops(), reasons(&[("ethernet_truncated", short as u64)]));
    let [mut sent] = run.output(["uplink"]);
    // Flows may overtake each other where one waited for its first decision.
    let mut expected: Vec<Vec<u8>> = frames.into_iter().filter(|frame| frame.len() >= ETHERNET).collect();
    sent.sort_by(|a, b| a[50..].cmp(&b[50..]));
    expected.sort();
    assert_eq!(sent.len(), expected.len());
    let mut differences = Differences::default();
    for (sent, expected) in sent.iter().zip(&expected) {
        differences.compare("inner frame", &sent[50..], expected);
    }
    differences.assert_none();
}
