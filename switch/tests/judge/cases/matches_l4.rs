//! Matches of TCP, UDP, SCTP, ICMP and neighbour discovery.

use crate::case::{Case, matches};
use crate::frames::{arp, icmp, icmp6, ip4, ip6, nd_na, nd_ns, sctp, tcp, tcp6, udp, udp6};

const SLL: &str = "/ICMPv6NDOptSrcLLAddr(lladdr='02:00:00:00:00:01')";
const TLL: &str = "/ICMPv6NDOptDstLLAddr(lladdr='02:00:00:00:00:01')";

/// The cases.
pub fn cases() -> Vec<Case> {
    let ns = || nd_ns("tgt='fd00::9'", SLL);
    let na = || nd_na("tgt='fd00::9'", TLL);
    vec![
        matches("tcp", [tcp("")], [udp(""), tcp6(""), sctp(""), icmp("")]),
        matches("udp", [udp("")], [tcp(""), udp6("")]),
        matches("sctp", [sctp("")], [tcp(""), udp("")]),
        matches("icmp", [icmp(""), icmp("type=3,code=1")], [tcp(""), icmp6()]),
        matches("tcp6", [tcp6("")], [tcp(""), udp6("")]),
        matches("udp6", [udp6("")], [udp(""), icmp6()]),
        matches("icmp6", [icmp6(), ns(), na()], [icmp(""), udp6("")]),
        matches(
            "sctp6",
            [ip6("", "SCTP(sport=1,dport=2)/SCTPChunkData(data=b'some')")],
            [sctp(""), udp6("")],
        ),
        matches("tcp tp_src=1000", [tcp("")], [tcp("sport=1001"), udp("")]),
        matches("tcp tp_dst=80", [tcp("")], [tcp("dport=81")]),
        matches("tcp tcp_dst=0x50/0xfff0", [tcp(""), tcp("dport=95")], [tcp("dport=96"), tcp("dport=79")]),
        matches("udp udp_src=0x3e8 udp_dst=53", [udp("")], [udp("dport=54"), udp("sport=9")]),
        matches("udp6 tp_src=1000/0xfffe", [udp6(""), udp6("sport=1001")], [udp6("sport=1002")]),
        matches("sctp sctp_dst=80", [sctp("")], [sctp("dport=81")]),
        matches("tcp6 tp_dst=80", [tcp6("")], [tcp6("dport=81")]),
        matches("tcp tcp_flags=syn", [tcp("")], [tcp("flags='SA'"), tcp("flags='A'"), tcp("flags=0")]),
        matches(
            "tcp tcp_flags=+syn-ack",
            [tcp(""), tcp("flags='SP'")],
            [tcp("flags='SA'"), tcp("flags='A'")],
        ),
        matches(
            "tcp tcp_flags=0x018/0xfff",
            [tcp("flags='PA'")],
            [tcp(""), tcp("flags='PAC'"), tcp("flags='A'")],
        ),
        matches("tcp6 tcp_flags=+fin", [tcp6("flags='FA'")], [tcp6("")]),
        matches("icmp icmp_type=8", [icmp("")], [icmp("type=0"), icmp("type=3,code=1")]),
        matches("icmp icmp_type=3 icmp_code=1", [icmp("type=3,code=1")], [icmp("type=3,code=3"), icmp("")]),
        matches("icmp6 icmpv6_type=128", [icmp6()], [ns(), na()]),
        matches("icmp6 icmp_type=135 icmp_code=0", [ns()], [na(), nd_ns("tgt='fd00::9',code=1", SLL)]),
        matches(
            "icmp6 icmp_type=135 nd_target=fd00::9",
            [ns()],
            [nd_ns("tgt='fd00::8'", SLL), na(), icmp6()],
        ),
        matches("icmp6 icmp_type=136 nd_target=fd00::/120", [na()], [nd_na("tgt='fd00::109'", TLL), ns()]),
        matches(
            "icmp6 icmp_type=135 nd_sll=02:00:00:00:00:01",
            [ns(), nd_ns("tgt='fd00::7'", &format!("/ICMPv6NDOptMTU(){SLL}"))],
            [nd_ns("tgt='fd00::9'", ""), nd_ns("tgt='fd00::9'", &SLL.replace(":01", ":02"))],
        ),
        matches(
            "icmp6 icmp_type=136 nd_tll=02:00:00:00:00:00/ff:ff:ff:00:00:00",
            [na()],
            [nd_na("tgt='fd00::9'", ""), nd_na("tgt='fd00::9'", &TLL.replace("02:", "04:"))],
        ),
        // Transport headers that are cut off count as none; a hop limit that is not 255 makes no difference.
        matches(
            "icmp6 icmp_type=135 nd_target=fd00::9",
            [ip6("hlim=3", &format!("ICMPv6ND_NS(tgt='fd00::9'){SLL}"))],
            [ip6("nh=58,hlim=255", "h('870000000000')")],
        )
        .named("match nd_target: hop limit, cut off"),
        matches(
            "tcp tp_dst=0 tp_src=0",
            [ip4("proto=6", "h('03e80050')"), ip4("proto=6", "h('03e80050000000010000000020020000')")],
            [tcp(""), arp("")],
        )
        .named("match tcp: headers that are cut off"),
    ]
}
