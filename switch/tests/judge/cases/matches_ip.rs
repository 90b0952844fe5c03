//! Matches of IPv4 and IPv6 headers, fragments, and what rules carry from table to table.

use crate::case::{Case, case, matches};
use crate::frames::{arp, ip4, ip6, tcp, tcp_header, tcp6, udp, udp_header, udp6};

/// The cases.
pub fn cases() -> Vec<Case> {
    let ip = |fields: &str| ip4(fields, &tcp_header(""));
    let v6 = |fields: &str| ip6(fields, &tcp_header(""));
    let mut all = vec![
        matches("ip nw_src=10.0.0.1", [ip("")], [ip("src='10.0.0.3'"), arp("")]),
        matches("ip nw_dst=10.0.0.0/23", [ip(""), ip("dst='10.0.1.255'")], [ip("dst='10.0.2.0'"), tcp6("")]),
        matches("ip nw_src=10.0.0.1/255.0.255.1", [ip(""), ip("src='10.77.0.3'")], [ip("src='10.77.1.3'"), ip("src='10.0.0.2'")]),
        matches("ipv6 ipv6_src=fd00::1", [v6("")], [v6("src='fd00::3'"), tcp("")]),
        matches("ipv6 ipv6_dst=fd00::/64", [v6(""), v6("dst='fd00::ffff:1'")], [v6("dst='fd00:0:0:1::2'")]),
        matches("ipv6 ipv6_dst=::2/::ff", [v6(""), v6("dst='fd11::1:102'")], [v6("dst='fd00::3'")]),
        matches("ipv6 ipv6_label=0x12345", [v6("fl=0x12345,tc=3")], [v6(""), v6("fl=0x2345")]),
        matches("ip nw_proto=47", [ip4("proto=47", "Raw(b'any')")], [ip("")]),
        matches("ipv6 nw_proto=47", [ip6("nh=47", "Raw(b'any')")], [v6("")]),
        matches("ip nw_tos=184", [ip("tos=0xb8"), ip("tos=0xb9")], [ip("tos=0"), ip("tos=0xb4")]),
        matches("ip ip_dscp=46", [ip("tos=0xb8"), ip("tos=0xbb")], [ip("tos=0")]),
        matches("ipv6 nw_tos=184", [v6("tc=0xb9")], [v6("")]),
        matches("ip nw_ecn=1", [ip("tos=0xb9"), ip("tos=1")], [ip("tos=2"), ip("")]),
        matches("ipv6 ip_ecn=3", [v6("tc=3")], [v6("tc=1"), v6("")]),
        matches("ip nw_ttl=64", [ip("")], [ip("ttl=63"), ip("ttl=1")]),
        matches("ipv6 nw_ttl=7", [v6("hlim=7")], [v6("")]),
        // Extension headers are gone through to the transport header.
        matches(
            "udp6 tp_dst=53",
            [
                udp6(""),
                v6_through("IPv6ExtHdrHopByHop()"),
                v6_through("IPv6ExtHdrDestOpt()/IPv6ExtHdrRouting(addresses=['fd00::7'])"),
            ],
            [ip6("", &format!("IPv6ExtHdrHopByHop()/{}", tcp_header("dport=53")))],
        ),
        case("metadata, reg0 to reg7 and tables")
            .flow("priority=10,in_port=1,tcp,actions=set_field:0x1122334455667788->metadata,load:7->NXM_NX_REG0[],load:0xff->NXM_NX_REG1[8..15],goto_table:3")
            .flow("priority=9,in_port=1,actions=set_field:0x10/0xf0->reg7,move:NXM_NX_REG7[4..7]->NXM_NX_REG2[0..3],resubmit(,4)")
            .flow("table=3,priority=5,metadata=0x55660000/0xffff0000,reg0=7,reg1=0xff00/0xffff,actions=output:2")
            .flow("table=3,priority=1,actions=output:3")
            .flow("table=4,priority=3,reg2=1,reg7=0x10,actions=output:3")
            .flow("table=4,actions=output:2")
            .rx("p1", [tcp(""), udp("")])
            .tx("p2", 2),
        case("registers 8 to 15, two and four as one, and the mark")
            .flow("priority=10,in_port=1,tcp,actions=set_field:0x1122334455667788->xreg4,load:7->NXM_NX_REG15[],set_field:0x5->pkt_mark,resubmit(,3)")
            .flow("priority=9,in_port=1,actions=set_field:0x000000010000000200000003000000a4->xxreg2,move:NXM_NX_XXREG2[4..7]->OXM_OF_PKT_REG7[60..63],resubmit(,4)")
            .flow("table=3,priority=5,reg8=0x11223344,reg9=0x55667788,xxreg3=7,pkt_mark=0x4/0x6,actions=output:2")
            .flow("table=3,priority=1,actions=output:3")
            .flow("table=4,priority=3,xreg5=0x3000000a4,reg14=0xa0000000,actions=output:2")
            .flow("table=4,priority=1,actions=output:3")
            .rx("p1", [tcp(""), udp("")])
            .tx("p2", 2),
        case("an action set is done at the end, in its order, unless it is cleared")
            .flow("priority=9,in_port=1,tcp,actions=write_actions(output:3,set_field:02:00:00:00:00:99->eth_dst,dec_ttl,dec_ttl),goto_table:1")
            .flow("priority=8,in_port=1,udp,actions=write_actions(output:3),goto_table:2")
            .flow("table=2,udp,actions=clear_actions,write_actions(set_field:46->ip_dscp,output:2)")
            .flow("priority=7,in_port=1,actions=write_actions(output:3),goto_table:3")
            .flow("table=3,actions=clear_actions")
            .flow("table=1,actions=write_actions(output:2,push_vlan:0x8100)")
            .rx("p1", [tcp(""), udp(""), arp("")])
            .tx("p2", 2),
        case("a stack of bits, also of none")
            .flow("in_port=1,ip,actions=load:0x1234->NXM_NX_REG0[],push:NXM_NX_REG0[0..7],push:NXM_OF_IP_SRC[],pop:NXM_OF_IP_DST[],pop:NXM_NX_REG5[8..15],pop:NXM_NX_REG0[],note:01.02,resubmit(,1)")
            .flow("table=1,priority=9,reg5=0x3400,reg0=0x1234,actions=output:2")
            .flow("table=1,priority=1,actions=output:3")
            .rx("p1", [tcp(""), udp("")])
            .tx("p2", 2),
        case("registers 3 to 6 compared one by one")
            .flow("in_port=1,actions=move:OXM_OF_IN_PORT[0..15]->NXM_NX_REG3[0..15],move:NXM_OF_IP_SRC[]->NXM_NX_REG4[],\
                   move:NXM_OF_TCP_DST[]->NXM_NX_REG5[16..31],load:1->NXM_NX_REG6[31],resubmit(,1)".replace("OXM_OF_IN_PORT[0..15]", "NXM_OF_IN_PORT[]").replacen("in_port=1", "in_port=1,tcp", 1).as_str())
            .flow("table=1,priority=9,reg3=1,reg4=0x0a000001,reg5=0x500000,reg6=0x80000000,actions=output:2")
            .flow("table=1,priority=8,reg3=1,actions=output:3")
            .rx("p1", [tcp(""), tcp("dport=81")])
            .tx("p2", 1)
            .tx("p3", 1),
        case("the highest priority wins, whatever the order of rules")
            .flow("priority=5,ip,actions=output:3")
            .flow("priority=500,tcp,tp_dst=80,actions=output:2")
            .flow("priority=50,tcp,actions=drop")
            .flow("priority=65535,tcp,tp_dst=443,nw_src=10.0.0.1,actions=output:2,output:3")
            .flow("priority=0,actions=output:3")
            .rx("p1", [tcp(""), tcp("dport=443"), tcp("dport=22"), udp(""), tcp6("")])
            .tx("p2", 2)
            .tx("p3", 3),
        case("resubmit with a port and a table, and back")
            .flow("priority=10,in_port=1,actions=resubmit(2,1),resubmit(,1),resubmit(3,0),output:2")
            .flow("priority=10,in_port=3,actions=output:3")
            .flow("table=1,in_port=2,actions=mod_dl_src:02:00:00:00:00:77,output:2")
            .flow("table=1,in_port=1,actions=output:3")
            .rx("p1", [tcp("")])
            .tx("p2", 2)
            .tx("p3", 2),
    ];
    all.extend(fragments());
    all
}

fn v6_through(headers: &str) -> String {
    ip6("", &format!("{headers}/{}", udp_header("")))
}

fn fragments() -> Vec<Case> {
    let whole = || udp("");
    let first = || ip4("flags='MF',id=9", &udp_header(""));
    let later = || ip4("flags='MF',frag=3,id=9,proto=17", "Raw(b'in the middle')");
    let last = || ip4("frag=5,id=9,proto=17", "Raw(b'the end')");
    let (first6, later6) = (
        || ip6("", "IPv6ExtHdrFragment(offset=0,m=1,id=9,nh=17)/h('03e80035001c0000aaaaaaaaaaaaaaaa')"),
        || ip6("", "IPv6ExtHdrFragment(offset=10,m=0,id=9,nh=17)/h('aaaaaaaaaaaaaaaa')"),
    );
    vec![
        matches("ip ip_frag=no", [whole()], [first(), later(), last()]),
        matches("ip ip_frag=yes", [first(), later(), last()], [whole()]),
        matches("ip ip_frag=first", [first()], [whole(), later(), last()]),
        matches("ip ip_frag=later", [later(), last()], [whole(), first()]),
        matches("ip ip_frag=not_later", [whole(), first()], [later(), last()]),
        matches("ipv6 ip_frag=first", [first6()], [later6(), udp6("")]),
        matches("ipv6 ip_frag=later", [later6()], [first6(), udp6("")]),
        // The first fragment has ports, later ones count as 0.
        // No fragment has ports for rules, as only the first could have (`ovs-ofctl set-frags`, mode normal).
        matches("udp tp_dst=53", [whole()], [first(), later(), last()]),
        matches("udp tp_dst=0", [first(), later(), last(), udp("dport=0")], [whole()]),
        matches("udp6 tp_dst=53", [udp6("")], [first6(), later6()])
            .named("match udp6 tp_dst=53 on fragments"),
    ]
}
