//! VLANs of ports on both sides of a tunnel: access, trunk and native.

use crate::support::{scapy, turn};
use crate::{Differences, REMOTE, Run, UNDERLAY, VTEP, case_of, pcap_port, reasons};

/// `br0`: an access port and two trunks, joined by a tunnel without VLAN settings (a trunk for all). `br1`: a port
/// without settings, and a tunnel that is an access port: its VLAN never goes on the wire.
fn config() -> String {
    let vxlan = |name: &str, key: u32, more: &str| {
        format!(
            "[[bridge.port]]\nname = \"{name}\"\ntype = \"vxlan\"\n{more}\noptions = {{ remote_ip = \"{}\", key = {key} }}\n",
            REMOTE.1
        )
    };
    [
        "[[bridge]]\nname = \"br0\"\n".to_owned(),
        pcap_port("access", 0, "tag = 10"),
        pcap_port("trunk", 1, "trunks = [10, 20]"),
        pcap_port("native", 2, "tag = 20\ntrunks = [30]\nvlan_mode = \"native-untagged\""),
        vxlan("overlay", 100, ""),
        "[[bridge]]\nname = \"br1\"\n".to_owned(),
        pcap_port("open", 3, ""),
        vxlan("tenant", 200, "tag = 40"),
        UNDERLAY.to_owned(),
    ]
    .concat()
}

/// Every frame is a broadcast from a MAC of its own, whose last byte is the case.
fn frame(case: u8, tag: &str) -> String {
    let tag = if tag.is_empty() { String::new() } else { format!("Dot1Q({tag})/") };
    format!(
        "Ether(src='02:00:00:00:00:{case:02x}', dst='ff:ff:ff:ff:ff:ff')/{tag}IP(src='10.0.0.1', dst='10.0.0.255')/\
         UDP(sport=1, dport=2)/Raw(b'some payload')"
    )
}

fn tunnelled(vni: u32, inner: &str) -> String {
    format!(
        "Ether(src='{}', dst='{}')/IP(src='{}', dst='{}')/UDP(sport=50000, dport=4789, chksum=0)/\
         VXLAN(flags=8, vni={vni})/{inner}",
        REMOTE.0, VTEP.0, REMOTE.1, VTEP.1
    )
}

#[test]
fn access_trunk_and_native_ports_tag_as_open_vswitch_does() {
    let _turn = turn();
    let input = [
        (
            "access",
            vec![
                frame(1, ""),
                // A priority tag is no VLAN tag: taken, and not seen again.
                frame(2, "vlan=0, prio=5"),
                // An access port takes no tagged frames.
                frame(3, "vlan=10"),
                // The priority of the first frame of a flow is not that of the others.
                frame(18, "vlan=0, prio=0"),
                frame(18, "vlan=0, prio=5"),
            ],
        ),
        ("trunk", vec![frame(4, "vlan=10, prio=6"), frame(5, "vlan=20"), frame(6, "vlan=30"), frame(7, "")]),
        ("native", vec![frame(8, ""), frame(9, "vlan=30"), frame(10, "vlan=10")]),
        (
            "uplink",
            vec![
                tunnelled(100, &frame(11, "vlan=10")),
                tunnelled(100, &frame(12, "vlan=20, prio=2")),
                // Untagged frames of the overlay belong to VLAN 0, which none of the other ports carries.
                tunnelled(100, &frame(13, "")),
                tunnelled(200, &frame(14, "")),
            ],
        ),
        // The tunnel of br1 carries VLAN 40 alone, untagged.
        ("open", vec![frame(15, "vlan=40, prio=1"), frame(16, ""), frame(17, "vlan=41")]),
    ];
    // Port: (case, tag) of the frames that come out of it, in the order of cases.
    let output: [(&str, &[(u8, &str)]); 5] = [
        ("access", &[(4, ""), (11, "")]),
        (
            "trunk",
            &[
                (1, "vlan=10"),
                (2, "vlan=10, prio=5"),
                (8, "vlan=20"),
                (11, "vlan=10"),
                (12, "vlan=20, prio=2"),
                (18, "vlan=10"),
                (18, "vlan=10, prio=5"),
            ],
        ),
        ("native", &[(5, ""), (12, "")]),
        ("open", &[(14, "vlan=40")]),
        (
            "uplink",
            &[
                (1, "vlan=10"),
                (2, "vlan=10, prio=5"),
                (4, "vlan=10, prio=6"),
                (5, "vlan=20"),
                (8, "vlan=20"),
                (9, "vlan=30"),
                (15, ""),
                (18, "vlan=10"),
                (18, "vlan=10, prio=5"),
            ],
        ),
    ];

    let frames: Vec<_> = input.iter().map(|(port, frames)| (*port, scapy::build(frames))).collect();
    let run = Run::new(&config(), &frames);
    // Cases 3, 6, 7 and 10 come in on ports that do not carry their VLAN; 13, 16 and 17 find no port to go to.
    assert_eq!(run.daemon.drops(), reasons(&[("vlan_ingress", 4), ("no_flood_port", 3)]));
    let sent = run.output(output.map(|(port, _)| port));
    let mut differences = Differences::default();
    for ((port, expected), mut sent) in output.into_iter().zip(sent) {
        let inner = if port == "uplink" { 50 } else { 0 };
        // The source MAC stands 6 bytes behind the destination.
        sent.sort_by_key(|frame| case_of(frame, inner + 6));
        let cases: Vec<usize> = sent.iter().map(|frame| case_of(frame, inner + 6)).collect();
        assert_eq!(cases, expected.iter().map(|(case, _)| usize::from(*case)).collect::<Vec<_>>(), "{port}");
        let expected: Vec<String> = expected.iter().map(|(case, tag)| frame(*case, tag)).collect();
        for (sent, expected) in sent.iter().zip(scapy::build(&expected)) {
            differences.compare(port, &sent[inner..], &expected);
        }
    }
    differences.assert_none();
}
