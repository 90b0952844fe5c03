//! Frames from a port into tunnels with every option.

use crate::support::{scapy, turn};
use crate::{Differences, GATEWAY, REMOTE, Run, UNDERLAY, VTEP, case_mac, case_of, pcap_port};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Bytes of outer Ethernet, IPv4, UDP and VXLAN.
const OUTER: usize = 50;
/// Frames of the same inner flow that each case sends.
const REPEATS: usize = 3;

/// One tunnel port and one flow through it.
struct Case {
    what: &'static str,
    /// The port's options; `remote_ip` and `key` are added when they are not among them.
    options: &'static str,
    /// The flow's actions before the output.
    actions: &'static str,
    /// The inner packet behind Ethernet, as scapy builds it.
    inner: &'static str,
    /// Next hop: MAC and address of the tunnel's remote.
    remote: (&'static str, &'static str),
    /// Outer source address.
    local: &'static str,
    /// VNI on the wire; `None` for the case's own.
    vni: Option<u32>,
    /// Outer TOS.
    tos: u8,
    /// Outer TTL.
    ttl: u8,
    df: bool,
    dst_port: u16,
    /// Whether the outer UDP checksum is there.
    csum: bool,
}

const UDP: &str = "IP(src='10.0.0.1', dst='10.0.0.2')/UDP(sport=1000, dport=2000)";

/// A plain case, from which the others differ.
const PLAIN: Case = Case {
    what: "no option",
    options: "",
    actions: "",
    inner: UDP,
    remote: REMOTE,
    local: VTEP.1,
    vni: None,
    tos: 0,
    ttl: 64,
    df: true,
    dst_port: 4789,
    csum: false,
};

const CASES: &[Case] = &[
    PLAIN,
    Case {
        what: "remote_ip behind a router",
        options: "remote_ip = \"10.9.9.9\"",
        remote: (GATEWAY.0, "10.9.9.9"),
        ..PLAIN
    },
    Case { what: "local_ip", options: "local_ip = \"192.168.1.5\"", local: "192.168.1.5", ..PLAIN },
    Case { what: "the largest key", options: "key = 16777215", vni: Some(0xff_ffff), ..PLAIN },
    Case {
        what: "no key is VNI 0",
        options: "dst_port = 4790, key = 0",
        dst_port: 4790,
        vni: Some(0),
        ..PLAIN
    },
    Case {
        what: "out_key differs from in_key",
        options: "in_key = 5001, out_key = 7",
        vni: Some(7),
        ..PLAIN
    },
    Case {
        what: "key=flow and set_tunnel",
        options: "key = \"flow\"",
        actions: "set_tunnel:1193046,",
        vni: Some(1_193_046),
        ..PLAIN
    },
    Case {
        what: "in_key fixed, out_key=flow",
        options: "in_key = 5002, out_key = \"flow\"",
        actions: "set_tunnel:9,",
        vni: Some(9),
        ..PLAIN
    },
    Case { what: "dst_port", options: "dst_port = 8472", dst_port: 8472, ..PLAIN },
    Case { what: "ttl", options: "ttl = 7", ttl: 7, ..PLAIN },
    Case {
        what: "ttl=inherit from IPv4",
        options: "ttl = \"inherit\"",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', ttl=17)/UDP(sport=1, dport=2)",
        ttl: 17,
        ..PLAIN
    },
    Case {
        what: "ttl=inherit from IPv6",
        options: "ttl = \"inherit\"",
        inner: "IPv6(src='fd00::1', dst='fd00::2', hlim=33)/UDP(sport=1, dport=2)",
        ttl: 33,
        ..PLAIN
    },
    Case {
        what: "ttl=inherit, and the frame is not IP",
        options: "ttl = \"inherit\"",
        inner: "ARP(psrc='10.0.0.1', pdst='10.0.0.2', hwsrc='02:00:00:00:00:01')",
        ..PLAIN
    },
    Case { what: "tos", options: "tos = 0x48", tos: 0x48, ..PLAIN },
    Case {
        what: "tos leaves ECN to the inner packet",
        options: "tos = 0x48",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x02)/UDP(sport=1, dport=2)",
        tos: 0x4a,
        ..PLAIN
    },
    Case {
        what: "tos=inherit from IPv4",
        options: "tos = \"inherit\"",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0xb8)/UDP(sport=1, dport=2)",
        tos: 0xb8,
        ..PLAIN
    },
    Case {
        what: "tos=inherit from IPv6",
        options: "tos = \"inherit\"",
        inner: "IPv6(src='fd00::1', dst='fd00::2', tc=0x59)/UDP(sport=1, dport=2)",
        tos: 0x59,
        ..PLAIN
    },
    Case {
        what: "tos=inherit, and the frame is not IP",
        options: "tos = \"inherit\"",
        inner: "ARP(psrc='10.0.0.1', pdst='10.0.0.2', hwsrc='02:00:00:00:00:01')",
        ..PLAIN
    },
    Case {
        what: "inner ECT(1) is sent as ECT(1)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x1)/UDP(sport=1, dport=2)",
        tos: 1,
        ..PLAIN
    },
    Case {
        what: "inner ECT(0) is sent as ECT(0)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x2)/UDP(sport=1, dport=2)",
        tos: 2,
        ..PLAIN
    },
    Case {
        what: "inner CE is sent as ECT(0)",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x3)/UDP(sport=1, dport=2)",
        tos: 2,
        ..PLAIN
    },
    Case { what: "df_default=false", options: "df_default = false", df: false, ..PLAIN },
    Case { what: "csum", options: "csum = true", csum: true, ..PLAIN },
    Case {
        what: "a tagged frame keeps its tag",
        inner: "Dot1Q(vlan=10, prio=5)/IP(src='10.0.0.1', dst='10.0.0.2')/TCP(sport=1, dport=2)",
        ..PLAIN
    },
    Case {
        what: "a frame of an EtherType that nobody knows",
        options: "ttl = \"inherit\", tos = \"inherit\"",
        // Scapy's Ether makes it 0x9000.
        inner: "h('45')",
        ..PLAIN
    },
    Case {
        what: "everything at once",
        options: "remote_ip = \"10.9.9.9\", local_ip = \"192.168.1.5\", in_key = 5, out_key = \"flow\", dst_port = 8472, ttl = 3, \
                  tos = \"inherit\", df_default = false, csum = true",
        actions: "set_tunnel:11,",
        inner: "IP(src='10.0.0.1', dst='10.0.0.2', tos=0x23, ttl=9)/UDP(sport=1, dport=2)",
        remote: (GATEWAY.0, "10.9.9.9"),
        local: "192.168.1.5",
        vni: Some(11),
        tos: 0x22,
        ttl: 3,
        df: false,
        dst_port: 8472,
        csum: true,
    },
];

impl Case {
    fn port(&self, at: usize) -> String {
        let mut options = Vec::new();
        if !self.options.contains("remote_ip") {
            options.push(format!("remote_ip = \"{}\"", self.remote.1));
        }
        if !self.options.contains("key") {
            options.push(format!("key = {}", 1000 + at));
        }
        if !self.options.is_empty() {
            options.push(self.options.to_owned());
        }
        format!(
            "[[bridge.port]]\nname = \"e{at}\"\ntype = \"vxlan\"\noptions = {{ {} }}\n",
            options.join(", ")
        )
    }

    /// The inner frame number `repeat` of the case's flow: the flow is the same, the length is not.
    fn frame(&self, at: usize, repeat: usize) -> String {
        let (src, dst) = (case_mac(0xbb, at), case_mac(0xcc, at));
        let payload = "x".repeat(20 + 100 * repeat);
        format!("Ether(src='{src}', dst='{dst}')/{}/Raw(b'{payload}')", self.inner)
    }

    /// The tunnel packet around `inner`; source port and identification are the switch's to choose.
    fn expected(&self, at: usize, inner: &[u8], sent: &[u8]) -> String {
        let field = |at: usize| u16::from_be_bytes([sent[at], sent[at + 1]]);
        let (id, src_port) = (field(18), field(34));
        format!(
            "Ether(src='{}', dst='{}')/IP(src='{}', dst='{}', tos={}, ttl={}, id={id}, flags={})/\
             UDP(sport={src_port}, dport={}{})/VXLAN(flags=8, vni={})/h('{}')",
            VTEP.0,
            self.remote.0,
            self.local,
            self.remote.1,
            self.tos,
            self.ttl,
            if self.df { "'DF'" } else { "0" },
            self.dst_port,
            if self.csum { "" } else { ", chksum=0" },
            self.vni.unwrap_or(1000 + at as u32),
            scapy::hex(inner),
        )
    }
}

fn config() -> String {
    let mut flows = String::new();
    let mut ports = pcap_port("p0", 0, "");
    for (at, case) in CASES.iter().enumerate() {
        let (dst, actions) = (case_mac(0xcc, at), case.actions);
        // Writing to a String cannot fail.
        let _ = writeln!(flows, "\"priority=10,in_port=p0,dl_dst={dst},actions={actions}output:e{at}\",");
        ports += &case.port(at);
    }
    format!("[[bridge]]\nname = \"br0\"\nfail_mode = \"secure\"\nflows = [\n{flows}]\n{ports}{UNDERLAY}")
}

#[test]
fn every_option_gives_the_bytes_that_scapy_builds() {
    let _turn = turn();
    let inner: Vec<String> =
        (0..CASES.len() * REPEATS).map(|n| CASES[n / REPEATS].frame(n / REPEATS, n % REPEATS)).collect();
    let inner = scapy::build(&inner);

    let run = Run::new(&config(), &[("p0", inner.clone()), ("uplink", Vec::new())]);
    assert!(run.daemon.drops().is_empty(), "{:?}", run.daemon.drops());
    for (at, case) in CASES.iter().enumerate() {
        let frames = &inner[at * REPEATS..][..REPEATS];
        let (name, what) = (format!("e{at}"), case.what);
        let bytes: usize = frames.iter().map(Vec::len).sum();
        assert_eq!(run.daemon.statistic(&name, "tx_packets"), REPEATS as u64, "{what}");
        assert_eq!(run.daemon.statistic(&name, "tx_bytes"), bytes as u64, "{what}: bytes of inner frames");
    }
    let [sent] = run.output(["uplink"]);

    assert_eq!(sent.len(), inner.len());
    // A stable sort: frames of one case stay in the order in which they left.
    let mut sent = sent;
    sent.sort_by_key(|frame| case_of(frame, OUTER));
    let expected: Vec<String> = sent
        .iter()
        .zip(&inner)
        .enumerate()
        .map(|(n, (sent, inner))| CASES[n / REPEATS].expected(n / REPEATS, inner, sent))
        .collect();
    let mut differences = Differences::default();
    for (n, (sent, expected)) in sent.iter().zip(scapy::build(&expected)).enumerate() {
        let case = &CASES[n / REPEATS];
        differences.compare(case.what, sent, &expected);
        let src_port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
        assert!(src_port(sent) >= 49152, "{}: source port {}", case.what, src_port(sent));
    }
    differences.assert_none();
    for (at, case) in CASES.iter().enumerate() {
        let frames = &sent[at * REPEATS..][..REPEATS];
        let fields = |at: usize| -> BTreeSet<&[u8]> { frames.iter().map(|f| &f[at..at + 2]).collect() };
        assert_eq!(fields(34).len(), 1, "{}: one source port for one flow", case.what);
        if !case.df {
            assert_eq!(fields(18).len(), REPEATS, "{}: identifications differ without DF", case.what);
        }
    }
}

#[test]
fn inner_flows_spread_over_source_ports() {
    const FLOWS: usize = 256;
    let _turn = turn();
    let dst = case_mac(0xcc, 0);
    let inner: Vec<String> = (0..FLOWS)
        .map(|n| {
            format!(
                "Ether(src='02:00:00:00:00:01', dst='{dst}')/IP(src='10.0.0.1', dst='10.0.0.2')/TCP(sport={}, dport=80)",
                10_000 + n
            )
        })
        .collect();
    let run = Run::new(&config(), &[("p0", scapy::build(&inner)), ("uplink", Vec::new())]);
    let [sent] = run.output(["uplink"]);
    let ports: BTreeSet<u16> = sent.iter().map(|f| u16::from_be_bytes([f[34], f[35]])).collect();
    assert_eq!(sent.len(), FLOWS);
    assert!(ports.iter().all(|port| *port >= 49152), "{ports:?}");
    // 256 draws out of 16384 collide twice on average.
    assert!(ports.len() > 230, "{} ports for {FLOWS} flows", ports.len());
}
