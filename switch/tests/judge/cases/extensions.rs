//! Open vSwitch's own actions that look beyond one rule: conjunctions, learning, lengths.

use crate::case::{Case, case};
use crate::frames::{arp, between, ip4, tagged, tcp, tcp_header, udp, udp_header, variety};

/// The cases.
pub fn cases() -> Vec<Case> {
    [conjunctions(), learning(), lengths()].concat()
}

/// UDP between hosts, by the last bytes of their addresses, to a port.
fn flow(src: u8, dst: u8, port: u16) -> String {
    ip4(&format!("src='10.0.0.{src}',dst='10.0.0.{dst}'"), &udp_header(&format!("dport={port}")))
}

fn conjunctions() -> Vec<Case> {
    let all = || {
        let pairs = (1..4).flat_map(|src| (1..4).map(move |dst| (src, dst)));
        pairs.flat_map(|(src, dst)| [53, 99].map(|port| flow(src, dst, port))).collect::<Vec<_>>()
    };
    let two = |case: Case| {
        case.flow("priority=10,conj_id=7,ip,actions=output:2")
            .flow("priority=10,ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)")
            .flow("priority=10,ip,nw_src=10.0.0.2,actions=conjunction(7,1/2)")
            .flow("priority=10,ip,nw_dst=10.0.0.2,actions=conjunction(7,2/2)")
            .flow("priority=10,ip,nw_dst=10.0.0.3,actions=conjunction(7,2/2),note:01.02.03.04.05.06")
            .flow("priority=1,actions=output:3")
    };
    vec![
        two(case("a conjunction of two sets of addresses")).rx("p1", all()).tx("p2", 8).tx("p3", 10),
        two(case("a rule of higher priority, and one of the same, go before a conjunction"))
            .flow("priority=11,ip,nw_src=10.0.0.1,nw_dst=10.0.0.2,actions=output:3")
            .flow("priority=10,ip,nw_src=10.0.0.2,nw_dst=10.0.0.3,actions=output:3")
            .rx("p1", all())
            .tx("p2", 4)
            .tx("p3", 14),
        two(case("a rule between a conjunction's priority and the rest"))
            .flow("priority=9,udp,tp_dst=53,actions=drop")
            .rx("p1", all())
            .tx("p2", 8)
            .tx("p3", 5),
        case("a conjunction whose conj_id no rule matches is none")
            .flow("priority=10,conj_id=7,tcp,actions=output:2")
            .flow("priority=10,ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)")
            .flow("priority=10,ip,nw_dst=10.0.0.2,actions=conjunction(7,2/2)")
            .flow("priority=5,udp,actions=output:3")
            .rx("p1", [udp(""), tcp("")])
            .tx("p2", 1)
            .tx("p3", 1),
        case("rules with conj_id differ by what else they match")
            .flow("priority=10,conj_id=7,tcp,actions=output:2")
            .flow("priority=10,conj_id=7,udp,actions=mod_nw_dst:9.9.9.9,output:3")
            .flow("priority=10,ip,nw_src=10.0.0.0/24,actions=conjunction(7,1/3),conjunction(8,1/2)")
            .flow("priority=10,ip,nw_dst=10.0.0.2,actions=conjunction(7,2/3)")
            .flow("priority=10,tcp,tp_dst=80,actions=conjunction(7,3/3)")
            .flow("priority=10,udp,tp_dst=53,actions=conjunction(7,3/3)")
            .flow("priority=10,conj_id=8,actions=IN_PORT")
            .flow("priority=10,icmp,actions=conjunction(8,2/2)")
            .rx(
                "p1",
                [
                    tcp(""),
                    udp(""),
                    udp("dport=54"),
                    ip4("dst='10.0.0.3'", &tcp_header("")),
                    ip4("dst='10.0.0.3'", "ICMP()"),
                    ip4("src='10.0.9.1'", &tcp_header("")),
                ],
            )
            .tx("p1", 1)
            .tx("p2", 1)
            .tx("p3", 1),
        case("a conjunction of lower priority where one of higher priority is not met")
            .flow("priority=20,conj_id=1,actions=output:2")
            .flow("priority=10,conj_id=2,actions=output:3")
            .flow("priority=20,ip,nw_src=10.0.0.1,actions=conjunction(1,1/2)")
            .flow("priority=20,ip,nw_dst=10.0.0.9,actions=conjunction(1,2/2)")
            .flow("priority=10,ip,nw_src=10.0.0.1,actions=conjunction(2,1/2)")
            .flow("priority=10,ip,nw_dst=10.0.0.2,actions=conjunction(2,2/2)")
            .rx(
                "p1",
                [udp(""), ip4("dst='10.0.0.9'", &udp_header("")), ip4("dst='10.0.0.8'", &udp_header(""))],
            )
            .tx("p2", 1)
            .tx("p3", 1),
        case("a conjunction in a table behind registers")
            .flow("actions=load:5->NXM_NX_REG0[],resubmit(,3)")
            .flow("table=3,priority=10,reg0=5,udp,tp_dst=53,actions=conjunction(4,2/2)")
            .flow("table=3,priority=10,in_port=1,actions=conjunction(4,1/2)")
            .flow("table=3,conj_id=4,actions=output:2")
            .rx("p1", [udp(""), udp("dport=54")])
            .tx("p2", 1),
    ]
}

fn learning() -> Vec<Case> {
    let switch = |case: Case| {
        case.flow("actions=learn(table=10,hard_timeout=60,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]),resubmit(,10),resubmit(,20)")
            .flow("table=10,priority=0,actions=load:0->NXM_NX_REG0[0..15]")
            .flow("table=20,priority=1,reg0=0/0xffff,actions=FLOOD")
            .flow("table=20,priority=0,actions=output:NXM_NX_REG0[0..15]")
    };
    vec![
        switch(case("learn: a learning switch by rules"))
            .ordered()
            .rx("p1", [between(1, 2, &udp(""))])
            .rx("p2", [between(2, 1, &udp("")), between(2, 1, &tcp(""))])
            .rx("p3", [between(3, 2, &udp("")), between(3, 9, &udp("")), between(3, 1, &tagged("Dot1Q(vlan=9)", &udp("")))])
            .tx("p1", 4)
            .tx("p2", 4)
            .tx("p3", 1),
        case("learn: what goes back, of a connection from inside")
            .flow("in_port=1,tcp,actions=learn(table=1,eth_type=0x800,nw_proto=6,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[],NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],NXM_OF_TCP_SRC[]=NXM_OF_TCP_DST[],NXM_OF_TCP_DST[]=NXM_OF_TCP_SRC[],load:0x63->NXM_OF_IP_TTL[],output:NXM_OF_IN_PORT[]),output:2".replace("load:0x63->NXM_OF_IP_TTL[],", "load:0x63->NXM_NX_IP_TTL[],").as_str())
            .flow("in_port=2,actions=resubmit(,1)")
            .ordered()
            .rx("p1", [tcp(""), udp("")])
            .rx("p2", [
                ip4("src='10.0.0.2',dst='10.0.0.1'", &tcp_header("sport=80,dport=1000,flags='SA'")),
                ip4("src='10.0.0.2',dst='10.0.0.1'", &tcp_header("sport=81,dport=1000,flags='SA'")),
                ip4("src='10.0.0.2',dst='10.0.0.1'", &udp_header("sport=53,dport=1000")),
            ])
            .tx("p1", 1)
            .tx("p2", 1),
        case("learn: a limit, and a bit that says whether it was")
            .flow("in_port=1,actions=learn(table=1,limit=2,result_dst=NXM_NX_REG0[4],NXM_OF_ETH_SRC[]),resubmit(,3)")
            .flow("table=3,reg0=0x10/0x10,actions=output:2")
            .flow("table=3,reg0=0/0x10,actions=output:3")
            .rx("p1", (1..6).map(|n| between(n, 9, &udp(""))))
            .tx("p2", 2)
            .tx("p3", 3),
        case("learn: priorities, and matches on values")
            .flow("in_port=1,ip,actions=learn(table=1,priority=9,in_port=2,eth_type=0x800,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],load:3->NXM_NX_REG1[],output:NXM_OF_IN_PORT[]),output:3")
            .flow("in_port=1,arp,actions=output:2")
            .flow("in_port=2,actions=resubmit(,1)")
            .flow("table=1,priority=8,actions=output:3")
            .flow("table=1,priority=10,udp,actions=drop")
            .ordered()
            .rx("p1", [tcp(""), arp("")])
            .rx("p2", [ip4("src='10.0.0.2',dst='10.0.0.1'", &tcp_header("")), ip4("src='10.0.0.2',dst='10.0.0.7'", &tcp_header("")), ip4("src='10.0.0.2',dst='10.0.0.1'", &udp_header(""))])
            .tx("p1", 1)
            .tx("p2", 1)
            .tx("p3", 2),
    ]
}

fn lengths() -> Vec<Case> {
    let sizes = || {
        [1, 57, 58, 59, 200, 1000]
            .map(|len| ip4("", &format!("UDP(sport=9,dport=9)/h('{}')", "5a".repeat(len))))
    };
    vec![
        case("check_pkt_larger")
            .flow("in_port=1,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1)")
            .flow("table=1,reg0=1,actions=output:2")
            .flow("table=1,reg0=0,actions=output:3")
            .rx("p1", sizes())
            .tx("p2", 3)
            .tx("p3", 3),
        case("check_pkt_larger on packets with tags")
            .flow("in_port=1,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1)")
            .flow("table=1,reg0=1,actions=output:2")
            .flow("table=1,reg0=0,actions=output:3")
            .rx("p1", sizes().map(|frame| tagged("Dot1Q(vlan=9)", &frame)))
            .tx("p2", 5)
            .tx("p3", 1),
        case("check_pkt_larger: what is before it, and what is behind it")
            .flow("in_port=1,ip,actions=mod_nw_tos:32,output:2,check_pkt_larger(100)->NXM_NX_REG0[7],dec_ttl,resubmit(,1),output:2")
            .flow("in_port=1,actions=check_pkt_larger(42)->NXM_NX_REG3[31],check_pkt_larger(60)->NXM_NX_REG3[30],output:2,move:NXM_NX_REG3[30..31]->NXM_NX_REG4[0..1],resubmit(,2)")
            .flow("table=1,reg0=0x80/0x80,actions=mod_dl_src:02:00:00:00:00:77,output:3")
            .flow("table=2,reg4=1,actions=output:3")
            .flow("table=2,reg4=2,actions=IN_PORT")
            .flow("table=2,reg4=3,actions=output:3,output:3")
            .rx("p1", sizes().into_iter().chain(variety()).collect::<Vec<_>>())
            .tx("p2", 58)
            .tx("p3", 27),
        case("check_pkt_larger with an action set and in a resubmitted rule")
            .flow("in_port=1,actions=resubmit(,1),output:2")
            .flow("table=1,actions=check_pkt_larger(100)->NXM_NX_REG0[0],write_actions(output:3),goto_table:2")
            .flow("table=2,reg0=0,actions=clear_actions")
            .rx("p1", sizes())
            .tx("p2", 6)
            .tx("p3", 3),
    ]
}
