//! Actions that write fields: every writable field, in full and under a mask, on packets that have it and on packets
//! that do not. Checksums follow, those that were wrong stay wrong.

use crate::case::{Case, actions, case};
use crate::frames::{
    arp, icmp, icmp6, ip4, ip6, ipv4_variety, ipv6_variety, is_icmp, nd_na, nd_ns, sctp, tagged, tcp,
    tcp_header, tcp6, udp, udp_header, udp6, variety,
};

/// Rules with a prerequisite: what has the field is rewritten, the rest goes as it came.
fn writes(prerequisite: &str, write: &str, frames: Vec<String>) -> Case {
    let count = frames.len();
    case(&format!("write {write} of {prerequisite}"))
        .flow(&format!("priority=10,in_port=1,{prerequisite},actions={write},output:2"))
        .flow("priority=1,in_port=1,actions=output:3")
        .rx("p1", frames)
        .tx("p2", count)
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let four = || ipv4_variety();
    let six = || ipv6_variety();
    let tcps = || {
        vec![
            tcp(""),
            tcp("chksum=0x1234"),
            ip4("flags='MF'", &tcp_header("")),
            ip4("options=[IPOption_NOP()]*4", &tcp_header("")),
        ]
    };
    let udps = || {
        vec![
            udp(""),
            udp("chksum=0"),
            udp("chksum=0x1234"),
            ip4("flags='MF'", &udp_header("")),
            ip4("frag=7,proto=17", "Raw(b'later')"),
        ]
    };
    let mut all = vec![
        actions("mod_dl_src:02:00:00:00:00:aa,output:2", variety()),
        actions("mod_dl_dst:02:00:00:00:00:bb,output:2", variety()),
        actions(
            "set_field:02:00:00:00:00:cc->eth_src,set_field:01:00:5e:00:00:01->eth_dst,output:2",
            variety(),
        ),
        actions("set_field:00:00:00:00:07:00/00:00:00:00:ff:00->eth_dst,output:2", variety()),
        // On packets without the field these do nothing.
        actions("mod_nw_src:172.16.0.1,output:2", variety()),
        actions("mod_nw_dst:172.16.0.2,output:2", variety()),
        actions("mod_nw_tos:184,output:2", variety()),
        writes("ip", "mod_nw_ecn:2", four()),
        writes("ip", "mod_nw_ttl:9", four()),
        actions("mod_tp_src:4444,output:2", variety().into_iter().filter(|frame| !is_icmp(frame))),
        actions("mod_tp_dst:5555,output:2", variety().into_iter().filter(|frame| !is_icmp(frame))),
        actions("mod_tp_src:4444,mod_tp_dst:5555,output:2", variety().into_iter().filter(|frame| is_icmp(frame)))
            .named("mod_tp_src and mod_tp_dst on ICMP")
            .differs(
                "they set TCP, UDP and SCTP ports, says ovs-actions(7); Open vSwitch writes them over ICMP's type and code",
                |sent, input| { sent.insert("p2".to_owned(), input["p1"].clone()); },
            ),
        writes("ip", "set_field:172.16.0.1->ip_src", four()),
        writes("ip", "set_field:0.0.9.0/0.0.255.0->nw_dst", four()),
        writes("ip", "load:0xac100001->NXM_OF_IP_DST[]", four()),
        writes("ip", "load:3->NXM_OF_IP_SRC[4..7]", four()),
        writes("ip", "set_field:12->ip_dscp", four()),
        writes("ip", "set_field:1->nw_ecn", four()),
        writes("ip", "set_field:200->nw_ttl", four()),
        writes("ipv6", "set_field:2001:db8::77->ipv6_src", six()),
        writes("ipv6", "set_field:2001:db8::77->ipv6_dst", six()),
        writes("ipv6", "set_field:::7700/::ff00->ipv6_dst", six()),
        writes("ipv6", "set_field:0x54321->ipv6_label", six()),
        writes("ipv6", "set_field:46->ip_dscp,set_field:1->ip_ecn,set_field:3->nw_ttl", six()),
        writes("tcp", "set_field:4444->tcp_src", tcps()),
        writes("tcp", "set_field:0x50/0xf0->tcp_dst", tcps()),
        writes("tcp6", "set_field:4444->tcp_dst", vec![tcp6(""), tcp6("chksum=7")]),
        writes("udp", "set_field:4444->udp_src", udps()),
        writes("udp", "set_field:0x1000/0xf000->udp_dst", udps()),
        writes(
            "udp6",
            "set_field:4444->udp_src",
            vec![
                udp6(""),
                udp6("chksum=0x4321"),
                ip6("", &format!("IPv6ExtHdrHopByHop()/{}", udp_header(""))),
            ],
        ),
        writes("sctp", "set_field:4444->sctp_src,set_field:5555->sctp_dst", vec![sctp(""), sctp("sport=9")]),
        writes(
            "icmp",
            "set_field:11->icmp_type,set_field:1->icmp_code",
            vec![icmp(""), icmp("type=3,code=3")],
        ),
        writes("icmp6", "set_field:129->icmpv6_type,set_field:4->icmpv6_code", vec![icmp6()]),
        writes("arp", "set_field:2->arp_op", vec![arp("")]),
        writes(
            "arp",
            "set_field:10.9.9.9->arp_spa,set_field:0.0.0.9/0.0.0.255->arp_tpa",
            vec![arp(""), arp("op=2")],
        ),
        writes(
            "arp",
            "set_field:02:00:00:00:00:aa->arp_sha,load:0x020000000099->NXM_NX_ARP_THA[]",
            vec![arp(""), tagged("Dot1Q(vlan=3)", &arp("op=2"))],
        ),
        writes(
            "icmp6,icmp_type=135",
            "set_field:fd00::77->nd_target,set_field:02:00:00:00:00:aa->nd_sll",
            vec![
                nd_ns("tgt='fd00::9'", "/ICMPv6NDOptSrcLLAddr(lladdr='02:00:00:00:00:01')"),
                nd_ns("tgt='fd00::9'", ""),
                nd_ns("tgt='fd00::9'", "/ICMPv6NDOptMTU()/ICMPv6NDOptSrcLLAddr(lladdr='02:00:00:00:00:01')"),
            ],
        ),
        writes(
            "icmp6,icmp_type=136",
            "set_field:02:00:00:00:00:aa->nd_tll,set_field:fd00::77->nd_target",
            vec![
                nd_na("tgt='fd00::9'", "/ICMPv6NDOptDstLLAddr(lladdr='02:00:00:00:00:01')"),
                nd_na("tgt='fd00::9'", ""),
            ],
        ),
    ];
    all.extend(moves());
    all
}

fn moves() -> Vec<Case> {
    vec![
        writes("ip", "mod_nw_src:10.0.0.9", vec![ip4("proto=0", "Raw(b'no protocol')")])
            .named("IPv4 protocol 0 is rewritten as any other")
            .differs("Open vSwitch takes protocol 0 for a packet without an IP header", |sent, _| {
                // The address is 8 more, the header's checksum 8 less.
                let frame = &mut sent.get_mut("p2").expect("a frame")[0];
                frame[29] = 9;
                frame[25] -= 8;
            }),
        writes("ip", "move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]", ipv4_variety()),
        writes("ip", "move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],move:NXM_OF_IP_DST[]->NXM_OF_IP_SRC[],move:NXM_NX_REG0[]->NXM_OF_IP_DST[]", ipv4_variety()),
        writes("tcp", "move:NXM_OF_TCP_SRC[]->NXM_OF_TCP_DST[],move:NXM_OF_IP_TOS[2..7]->NXM_OF_IP_DST[0..5]", vec![tcp(""), ip4("tos=0xb8", &tcp_header(""))]),
        writes("arp", "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],\
                       load:0x0a000002->NXM_OF_ARP_SPA[],load:2->NXM_OF_ARP_OP[]", vec![arp(""), arp("psrc='10.0.0.77'")])
            .named("an ARP responder made of rules"),
        writes("ipv6", "move:NXM_NX_IPV6_SRC[0..31]->NXM_NX_IPV6_DST[32..63]", ipv6_variety()),
        writes("udp", "move:NXM_OF_UDP_SRC[0..7]->NXM_OF_ETH_SRC[8..15]", vec![udp(""), udp("sport=0x77")]),
        writes(
            "ip",
            "mod_nw_src:172.16.0.1",
            vec![ip4("frag=10,proto=17", "Raw(b'the rest of a datagram')"), ip4("frag=10,proto=6", "Raw(b'the rest of a segment, rather long')")],
        )
        .named("addresses of later fragments of UDP and TCP")
        .differs("Open vSwitch 3.1 corrects a UDP or TCP checksum in the middle of the payload of a later fragment", |sent, input| {
            for frame in sent.get_mut("p2").expect("frames") {
                let whole = input["p1"].iter().find(|other| other.len() == frame.len()).expect("its input");
                frame[34..].copy_from_slice(&whole[34..]);
            }
        }),
        // The time to live goes down; what has none left is dropped.
        case("dec_ttl")
            .flow("in_port=1,ip,actions=dec_ttl,output:2")
            .flow("in_port=1,ipv6,actions=dec_ttl,output:2")
            .rx("p1", ipv4_variety().into_iter().chain(ipv6_variety()).chain([ip4("ttl=2", &tcp_header("")), ip4("ttl=1", &tcp_header("")), ip4("ttl=0", &tcp_header("")), ip6("hlim=1", &tcp_header("")), ip6("hlim=2", &tcp_header(""))]))
            .tx("p2", ipv4_variety().len() + ipv6_variety().len() + 2),
        case("dec_ttl does nothing to what has no TTL, and ends the actions of what has none left")
            .flow("in_port=1,actions=output:3,dec_ttl,output:2")
            .rx("p1", [arp(""), ip4("ttl=1", &udp_header("")), tcp("")])
            .tx("p2", 2)
            .tx("p3", 3),
        // The order of actions is the order of changes.
        case("rewrite, output, rewrite, output")
            .flow("in_port=1,actions=mod_dl_src:02:00:00:00:00:aa,output:2,mod_nw_src:1.2.3.4,mod_tp_dst:99,output:3,mod_dl_src:02:00:00:00:00:01,output:2")
            .rx("p1", variety().into_iter().filter(|frame| !is_icmp(frame)))
            .tx("p2", (variety().len() - 4) * 2)
            .tx("p3", variety().len() - 4),
        case("a rewritten field is what later tables match")
            .flow("in_port=1,tcp,actions=mod_nw_dst:9.9.9.9,mod_tp_dst:99,mod_dl_dst:02:00:00:00:00:99,resubmit(,1)")
            .flow("table=1,priority=9,tcp,nw_dst=9.9.9.9,tp_dst=99,dl_dst=02:00:00:00:00:99,actions=output:2")
            .flow("table=1,priority=1,actions=output:3")
            .rx("p1", [tcp(""), tcp("dport=99")])
            .tx("p2", 2),
    ]
}
