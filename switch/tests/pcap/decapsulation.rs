//! Tunnel packets from the underlay into ports with every option.

use crate::support::{scapy, turn};
use crate::{Differences, REMOTE, Run, UNDERLAY, VTEP, case_mac, case_of, pcap_port, reasons};
use std::fmt::Write as _;

/// What becomes of a packet.
enum Then {
    /// The inner frame, unchanged, comes out of port `p0` by way of this case's tunnel port.
    Inner,
    /// The same, but the inner packet behind Ethernet is this one.
    Changed(&'static str),
    /// It is dropped for this reason.
    Drop(&'static str),
}

/// A tunnel packet, and the vxlan port that shall take it.
struct Case {
    what: &'static str,
    /// Options of the port besides `remote_ip`; none: no port is made.
    options: Option<&'static str>,
    remote: &'static str,
    /// Match of the rule besides the port.
    matches: &'static str,
    /// Outer headers from IP on, as scapy builds them.
    outer: &'static str,
    /// Inner packet behind Ethernet.
    inner: &'static str,
    /// What follows the UDP datagram in the frame, as hexadecimal.
    padding: &'static str,
    then: Then,
}

const UDP: &str = "IP(src='10.0.0.1', dst='10.0.0.2')/UDP(sport=1, dport=2)/Raw(b'payload')";

/// A plain case, from which the others differ.
const PLAIN: Case = Case {
    what: "",
    options: None,
    remote: REMOTE.1,
    matches: "",
    outer: "",
    inner: UDP,
    padding: "",
    then: Then::Inner,
};

const CASES: &[Case] = &[
    Case {
        what: "key",
        options: Some("key = 100"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=100)",
        ..PLAIN
    },
    Case {
        what: "VNI 0 without key, from another remote",
        options: Some("key = 0"),
        remote: "192.168.1.3",
        outer: "IP(src='192.168.1.3', dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=0)",
        ..PLAIN
    },
    Case {
        what: "in_key counts, not out_key",
        options: Some("in_key = 101, out_key = 100"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=101)",
        ..PLAIN
    },
    Case {
        what: "the same VNI from another remote",
        options: Some("key = 100"),
        remote: "10.9.9.9",
        outer: "IP(src='10.9.9.9', dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=100)",
        ..PLAIN
    },
    Case {
        what: "the same VNI and remote to another local_ip",
        options: Some("key = 100, local_ip = \"192.168.1.5\""),
        outer: "IP(src=R, dst='192.168.1.5')/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=100)",
        ..PLAIN
    },
    Case {
        what: "the same VNI and remote on another dst_port",
        options: Some("key = 100, dst_port = 8472"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=8472, chksum=0)/VXLAN(flags=8, vni=100)",
        ..PLAIN
    },
    Case {
        what: "key=flow, and the rule matches tun_id",
        options: Some("key = \"flow\""),
        matches: ",tun_id=16777215",
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=0xffffff)",
        ..PLAIN
    },
    Case {
        what: "a right UDP checksum",
        options: Some("key = 102"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789)/VXLAN(flags=8, vni=102)",
        ..PLAIN
    },
    Case {
        what: "a right UDP checksum, csum=true",
        options: Some("key = 103, csum = true"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789)/VXLAN(flags=8, vni=103)",
        ..PLAIN
    },
    Case {
        what: "csum=true asks for no checksum of the other side",
        options: Some("key = 104, csum = true"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=104)",
        ..PLAIN
    },
    Case {
        what: "a source port below the range",
        options: Some("key = 105"),
        outer: "IP(src=R, dst=L)/UDP(sport=1, dport=4789, chksum=0)/VXLAN(flags=8, vni=105)",
        ..PLAIN
    },
    Case {
        what: "IP options",
        options: Some("key = 106"),
        outer: "IP(src=R, dst=L, options=[IPOption_NOP()] * 8)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=106)",
        ..PLAIN
    },
    Case {
        what: "reserved VXLAN bits are ignored",
        options: Some("key = 107"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/h('7fabcdef00006b99')",
        ..PLAIN
    },
    Case {
        what: "bytes behind the datagram are cut off",
        options: Some("key = 108"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=108)",
        padding: "deadbeef00000000",
        ..PLAIN
    },
    Case {
        what: "a tagged inner frame",
        options: Some("key = 109"),
        outer: "IP(src=R, dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=109)",
        inner: "Dot1Q(vlan=7, prio=3)/IP(src='10.0.0.1', dst='10.0.0.2')/TCP(sport=1, dport=2)",
        ..PLAIN
    },
    Case {
        what: "an inner frame that is not IP, congestion on the way",
        options: Some("key = 110"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=110)",
        inner: "ARP(psrc='10.0.0.1', pdst='10.0.0.2', hwsrc='02:00:00:00:00:01')",
        ..PLAIN
    },
    Case {
        what: "outer ECT(0), inner Not-ECT: unchanged",
        options: Some("key = 111"),
        outer: "IP(src=R, dst=L, tos=2)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=111)",
        ..PLAIN
    },
    Case {
        what: "outer CE, inner ECT(0): inner CE",
        options: Some("key = 112"),
        outer: "IP(src=R, dst=L, tos=0xbb)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=112)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x4a)/UDP(sport=1, dport=2)",
        then: Then::Changed("IP(src='10.0.0.1', dst='10.0.0.2', tos=0x4b)/UDP(sport=1, dport=2)"),
        ..PLAIN
    },
    Case {
        what: "outer CE, inner ECT(1): inner CE",
        options: Some("key = 113"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=113)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=1)/UDP(sport=1, dport=2)",
        then: Then::Changed("IP(src='10.0.0.1', dst='10.0.0.2', tos=3)/UDP(sport=1, dport=2)"),
        ..PLAIN
    },
    Case {
        what: "outer CE, inner CE: unchanged",
        options: Some("key = 114"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=114)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=3)/UDP(sport=1, dport=2)",
        ..PLAIN
    },
    Case {
        what: "outer CE, inner IPv6 with ECT(0) behind a tag: inner CE",
        options: Some("key = 115"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=115)",
        inner: "Dot1Q(vlan=9)/IPv6(src='fd00::1', dst='fd00::2', tc=0x2a)/UDP(sport=1, dport=2)",
        then: Then::Changed(
            "Dot1Q(vlan=9)/IPv6(src='fd00::1', dst='fd00::2', tc=0x2b)/UDP(sport=1, dport=2)",
        ),
        ..PLAIN
    },
    Case {
        what: "outer CE, inner Not-ECT: dropped",
        options: Some("key = 116"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=116)",
        then: Then::Drop("ecn_not_capable"),
        ..PLAIN
    },
    Case {
        what: "outer CE, inner IPv6 Not-ECT: dropped",
        options: Some("key = 117"),
        outer: "IP(src=R, dst=L, tos=3)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=117)",
        inner: "IPv6(src='fd00::1', dst='fd00::2', tc=0)/UDP(sport=1, dport=2)",
        then: Then::Drop("ecn_not_capable"),
        ..PLAIN
    },
    Case {
        what: "a VNI that no port has (from a remote without key=flow)",
        outer: "IP(src='10.9.9.9', dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=999)",
        then: Then::Drop("tunnel_unknown"),
        ..PLAIN
    },
    Case {
        what: "a remote that no port has",
        outer: "IP(src='192.168.1.77', dst=L)/UDP(sport=50000, dport=4789, chksum=0)/VXLAN(flags=8, vni=100)",
        then: Then::Drop("tunnel_remote_unknown"),
        ..PLAIN
    },
];

impl Case {
    fn port(&self, at: usize) -> Option<String> {
        Some(format!(
            "[[bridge.port]]\nname = \"d{at}\"\ntype = \"vxlan\"\noptions = {{ remote_ip = \"{}\", {} }}\n",
            self.remote, self.options?
        ))
    }

    fn inner(at: usize, packet: &str) -> String {
        format!("Ether(src='{}', dst='{}')/{packet}", case_mac(0xbb, at), case_mac(0xcc, at))
    }

    fn packet(&self, inner: &[u8]) -> String {
        let outer = self.outer.replace("src=R", &format!("src='{}'", REMOTE.1));
        let outer = outer.replace("dst=L", &format!("dst='{}'", VTEP.1));
        format!(
            "bytes(Ether(src='{}', dst='{}')/{outer}/h('{}')) + bytes.fromhex('{}')",
            REMOTE.0,
            VTEP.0,
            scapy::hex(inner),
            self.padding
        )
    }
}

fn config() -> String {
    let (mut flows, mut ports) = (String::new(), pcap_port("p0", 0, ""));
    for (at, case) in CASES.iter().enumerate() {
        if let Some(port) = case.port(at) {
            ports += &port;
            // Writing to a String cannot fail.
            let _ = writeln!(flows, "\"priority=10,in_port=d{at}{},actions=output:p0\",", case.matches);
        }
    }
    format!("[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\nflows = [\n{flows}]\n{ports}{UNDERLAY}")
}

#[test]
fn every_option_takes_what_it_shall_and_strips_it_as_scapy_would() {
    let _turn = turn();
    let inner: Vec<String> = CASES.iter().enumerate().map(|(at, case)| Case::inner(at, case.inner)).collect();
    let inner = scapy::build(&inner);
    let packets: Vec<String> = CASES.iter().zip(&inner).map(|(case, inner)| case.packet(inner)).collect();
    let expected: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(at, case)| match case.then {
            Then::Inner | Then::Drop(_) => Case::inner(at, case.inner),
            Then::Changed(packet) => Case::inner(at, packet),
        })
        .collect();
    let expected = scapy::build(&expected);

    let run = Run::new(&config(), &[("uplink", scapy::build(&packets)), ("p0", Vec::new())]);
    let mut dropped = reasons(&[]);
    for case in CASES {
        if let Then::Drop(reason) = case.then {
            *dropped.entry(reason.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(run.daemon.drops(), dropped);
    for (at, case) in CASES.iter().enumerate().filter(|(_, case)| case.options.is_some()) {
        let name = format!("d{at}");
        assert_eq!(run.daemon.statistic(&name, "rx_packets"), 1, "{}: not by its port", case.what);
        assert_eq!(run.daemon.statistic(&name, "rx_bytes"), inner[at].len() as u64, "{}", case.what);
    }
    let [mut sent] = run.output(["p0"]);
    sent.sort_by_key(|frame| case_of(frame, 0));
    let mut sent = sent.iter();
    let mut differences = Differences::default();
    for (at, case) in CASES.iter().enumerate() {
        if !matches!(case.then, Then::Drop(_)) {
            let frame = sent.next().unwrap_or_else(|| panic!("{}: nothing came out", case.what));
            differences.compare(case.what, frame, &expected[at]);
        }
    }
    differences.assert_none();
    assert!(sent.next().is_none(), "more came out than was expected");
}
