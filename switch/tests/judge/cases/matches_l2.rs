//! Matches of ports, Ethernet, VLANs and ARP.

use crate::case::{Case, case, matches};
use crate::frames::{E, arp, between, ip4, ip6, tagged, tcp, tcp6, udp};

/// The cases.
pub fn cases() -> Vec<Case> {
    let tag = |tags: &str| tagged(tags, &tcp(""));
    let (q10, q11) = (tag("Dot1Q(vlan=10)"), tag("Dot1Q(vlan=11,prio=5)"));
    let zero = tag("Dot1Q(vlan=0,prio=3)");
    let ad10 = tag("Dot1AD(vlan=10)/Dot1Q(vlan=7)");
    vec![
        case("match in_port number, name, LOCAL")
            .flow("priority=10,in_port=1,tcp,actions=output:3")
            .flow("priority=10,in_port=p2,actions=output:3,resubmit(LOCAL,1)")
            .flow("table=1,in_port=LOCAL,actions=output:p1")
            .flow("table=1,in_port=p2,actions=output:p2")
            .rx("p1", [tcp(""), udp("")])
            .rx("p2", [tcp("sport=2")])
            .tx("p3", 2)
            .tx("p1", 1),
        matches("dl_src=02:00:00:00:00:01", [tcp("")], [between(2, 1, &tcp(""))]),
        matches("dl_dst=02:00:00:00:00:02", [tcp(""), arp("")], [between(2, 1, &tcp(""))]),
        matches(
            "dl_src=02:00:00:00:00:10/ff:ff:ff:ff:ff:f0",
            [between(0x11, 2, &tcp("")), between(0x1f, 2, &udp(""))],
            [between(0x21, 2, &tcp("")), tcp("")],
        ),
        matches(
            "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            [
                between(1, 255, &tcp("")),
                format!("Ether(src='02:00:00:00:00:01',dst='01:00:5e:01:02:03')/h('{}')", "00".repeat(50)),
            ],
            [tcp("")],
        ),
        matches(
            "eth_src=02:00:00:00:00:01 eth_dst=02:00:00:00:00:02",
            [tcp("")],
            [between(1, 3, &tcp("")), between(3, 2, &tcp(""))],
        ),
        matches(
            "dl_type=0x88b5",
            [format!("{E}/h('{}')", "00".repeat(46)).replace("02')/", "02',type=0x88b5)/")],
            [tcp(""), arp("")],
        ),
        // A length instead of a type: 802.3 with LLC.
        matches(
            "dl_type=0x05ff",
            [format!("{}/h('4242030000000000{}')", E.replace("02')", "02',type=0x20)"), "00".repeat(38))],
            [tcp("")],
        ),
        matches("dl_vlan=10", [q10.clone(), ad10.clone()], [q11.clone(), tcp(""), zero.clone()]),
        matches("dl_vlan=0xffff", [tcp(""), arp("")], [q10.clone(), zero.clone()]),
        matches("dl_vlan_pcp=5", [q11.clone()], [q10.clone(), zero.clone(), tcp("")]),
        matches(
            "dl_vlan=11 dl_vlan_pcp=5",
            [q11.clone()],
            [q10.clone(), zero.clone(), tag("Dot1Q(vlan=11)")],
        ),
        matches("vlan_tci=0x1000/0x1000", [q10.clone(), q11.clone(), zero.clone(), ad10.clone()], [tcp("")]),
        matches("vlan_tci=0/0x1fff", [tcp("")], [q10.clone(), q11.clone(), zero.clone()]),
        matches(
            "vlan_tci=0x1008/0x1ffc",
            [q10.clone(), q11.clone()],
            [tcp(""), zero.clone(), tag("Dot1Q(vlan=12)")],
        ),
        matches("vlan_tci=0", [tcp(""), udp("")], [q10.clone()]),
        matches(
            "dl_vlan=10 tcp tp_dst=80",
            [q10.clone(), ad10.clone()],
            [tagged("Dot1Q(vlan=10)", &tcp("dport=81")), q11.clone()],
        ),
        matches("arp", [arp(""), arp("op=2"), tagged("Dot1Q(vlan=3)", &arp(""))], [tcp(""), tcp6("")]),
        matches("rarp", [arp("op=3").replace(")/ARP", ",type=0x8035)/ARP")], [arp(""), arp("op=3")]),
        matches("arp arp_op=2", [arp("op=2")], [arp(""), tcp("")]),
        matches("arp arp_spa=10.0.0.0/24", [arp("")], [arp("psrc='10.0.1.1'"), tcp("")]),
        matches("arp arp_tpa=10.0.0.2", [arp("")], [arp("pdst='10.0.0.3'")]),
        matches(
            "arp arp_tpa=10.0.0.2/255.0.0.255",
            [arp(""), arp("pdst='10.9.9.2'")],
            [arp("pdst='10.0.0.3'")],
        ),
        matches("arp arp_sha=02:00:00:00:00:01", [arp("")], [arp("hwsrc='02:00:00:00:00:07'")]),
        matches(
            "arp arp_tha=00:00:00:00:00:00/ff:ff:ff:00:00:00",
            [arp("")],
            [arp("hwdst='02:00:00:00:00:07'")],
        ),
        matches("arp nw_src=10.0.0.1 nw_proto=1", [arp("")], [arp("op=2"), arp("psrc='10.0.0.7'")]),
        matches("ip", [tcp(""), udp(""), q10.clone()], [arp(""), tcp6("")]),
        matches("ipv6", [tcp6("")], [arp(""), tcp("")]),
        // Runts and frames whose headers are cut off or lie.
        matches(
            "ip nw_proto=6",
            [tcp(""), ip4("proto=6", "h('03e80050')")],
            ["ihl=4", "len=10", "len=2000"]
                .map(|lie| ip4(&format!("{lie},proto=6"), "h('03e80050')"))
                .into_iter()
                .chain([ip6("version=4,nh=6", "h('03e80050')")]),
        )
        .named("match ip nw_proto=6: headers that are not right"),
        case("match ip nw_proto=6: an IPv4 header of version 6")
            .flow("priority=10,ip,nw_proto=6,actions=output:2")
            .flow("priority=1,actions=output:3")
            .rx("p1", [ip4("version=6,proto=6", "h('03e80050')")])
            .tx("p2", 1)
            .differs(
                "what does not say version 4 is no IPv4 header; Open vSwitch does not look",
                |sent, _| {
                    let frames = sent.remove("p2").expect("a frame");
                    sent.insert("p3".to_owned(), frames);
                },
            ),
    ]
}
