//! Where packets go: ports, groups, meters, clones, patch ports, mirrors.

use crate::case::{Case, Mirror, actions, case};
use crate::frames::{arp, between, icmp, ip4, tagged, tcp, tcp_header, tcp6, udp, udp_header, variety};

/// The cases.
pub fn cases() -> Vec<Case> {
    let few = || vec![tcp(""), arp(""), udp("")];
    let mut all = vec![
        actions("output:2", variety()),
        actions("output:p2,p3", few()).tx("p3", 3),
        actions("2,3", few()).tx("p3", 3),
        case("output to the input port does nothing, IN_PORT sends back").flow("in_port=1,tcp,actions=output:1,output:2").flow("in_port=1,arp,actions=IN_PORT,output:2").rx("p1", few()).tx("p1", 1).tx("p2", 2),
        actions("load:2->NXM_NX_REG0[],output:NXM_NX_REG0[],load:3->NXM_NX_REG0[0..15],output:NXM_NX_REG0[0..15]", few()).tx("p3", 3),
        actions("load:1->NXM_NX_REG0[],output:NXM_NX_REG0[],output:2", few()).named("output:FIELD that says the input port"),
        actions("load:0xfff8->NXM_NX_REG0[],output:NXM_NX_REG0[]", few()).tx("p2", 0).tx("p1", 3).named("output:FIELD that says IN_PORT"),
        actions("load:77->NXM_NX_REG0[],output:NXM_NX_REG0[],output:2,output:78", few()).named("output to ports that are not there"),
        actions("bundle(eth_src,0,active_backup,ofport,members:99,3,2),output:2", few()).tx("p3", 3),
        actions("bundle(eth_src,0,active_backup,ofport,members:1,3),output:2", few()).tx("p3", 0).named("a bundle that chooses the input port"),
        actions("bundle_load(symmetric_l4,0,hrw,ofport,NXM_NX_REG0[0..15],members:99,3),output:NXM_NX_REG0[0..15],bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG1[],members:98,99),output:NXM_NX_REG1[],output:2", few())
            .tx("p3", 3),
        actions("FLOOD", few()).tx("p3", 3),
        actions("ALL", few()).tx("p3", 3),
        actions("mod_dl_src:02:00:00:00:00:77,ALL,mod_dl_src:02:00:00:00:00:78,FLOOD", few()).tx("p2", 6).tx("p3", 6),
        actions("LOCAL,output:2", few()),
        case("drop").flow("priority=2,in_port=1,tcp,actions=drop").flow("priority=1,in_port=1,actions=output:2").rx("p1", few()).tx("p2", 2),
        case("secure: what no rule matches is dropped").flow("in_port=1,tcp,actions=output:2").rx("p1", few()).tx("p2", 1),
        actions("load:3->NXM_OF_IN_PORT[],output:3,output:1,output:2", vec![tcp("")]).tx("p1", 1).named("a changed in_port: output:1 works, output:3 does not"),
        case("truncated and minimal frames")
            .flow("in_port=1,actions=output:2")
            .rx("p1", ["Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02',type=0x88b5)".to_owned(), format!("{}/h('00')", crate::frames::E), ip4("", &format!("UDP(sport=1,dport=2)/h('{}')", "5a".repeat(1472)))])
            .tx("p2", 3),
        case("an IPv4 packet with padding behind it keeps it")
            .flow("in_port=1,actions=mod_tp_dst:9,mod_nw_dst:10.0.0.9,output:2")
            .rx("p1", [ip4("len=31,proto=17", "UDP(sport=5,dport=6,len=11,chksum=0)/h('aabbcc')/h('000000000000000000000000000000')"), format!("{}/h('0000000000000000')", tcp(""))])
            .tx("p2", 2),
    ];
    all.extend(clones());
    all.extend(groups());
    all.extend(meters());
    all.extend(patches());
    all.extend(mirrors());
    all
}

fn clones() -> Vec<Case> {
    let some = || vec![tcp(""), udp("chksum=0"), arp(""), tagged("Dot1Q(vlan=10)", &tcp6(""))];
    vec![
        actions("clone(mod_dl_src:02:00:00:00:00:aa,output:3),output:2", some()).tx("p3", 4),
        actions("mod_dl_src:02:00:00:00:00:aa,clone(mod_nw_dst:9.9.9.9,mod_vlan_vid:9,clone(mod_tp_dst:9,strip_vlan,output:3),output:3),output:2", some()).tx("p3", 8),
        actions("clone(resubmit(,1)),output:2,resubmit(,1)", some())
            .flow("table=1,actions=mod_dl_dst:02:00:00:00:00:bb,load:1->NXM_NX_REG0[],resubmit(,2)")
            .flow("table=2,reg0=1,actions=output:3")
            .tx("p3", 8),
        actions("load:1->NXM_NX_REG1[],clone(load:2->NXM_NX_REG1[],resubmit(,1)),resubmit(,1)", some())
            .named("what a clone does to registers is not seen behind it")
            .flow("table=1,reg1=2,actions=output:3")
            .flow("table=1,reg1=1,actions=output:2")
            .tx("p3", 4),
        actions("clone(drop),clone(dec_ttl),output:2", vec![ip4("ttl=1", &tcp_header("")), tcp("")]),
    ]
}

fn groups() -> Vec<Case> {
    let some = || vec![tcp(""), udp(""), arp("")];
    vec![
        actions("group:1,output:3", some())
            .group("group_id=1,type=all,bucket=mod_dl_src:02:00:00:00:00:aa,output:2,bucket=mod_nw_src:9.9.9.9,output:2,bucket=output:3")
            .tx("p2", 6)
            .tx("p3", 6),
        actions("group:2", some()).group("group_id=2,type=indirect,bucket=mod_dl_dst:02:00:00:00:00:bb,output:2"),
        actions("group:3", some()).group("group_id=3,type=ff,bucket=watch_port:3,output:3,bucket=watch_port:2,output:2").tx("p2", 0).tx("p3", 3),
        actions("group:3", some()).named("group ff: a bucket whose port is not there is not live").group("group_id=3,type=ff,bucket=watch_port:33,output:3,bucket=watch_port:2,output:2"),
        actions("group:4", some()).group("group_id=4,type=select,bucket=weight:10,mod_dl_dst:02:00:00:00:00:bb,output:2"),
        actions("group:4", some()).named("group select: weight 0 gets nothing").group("group_id=4,type=select,bucket=weight:0,output:3,bucket=weight:5,output:2"),
        actions("group:5", some()).named("a group in a group, and a table in a bucket")
            .group("group_id=6,type=indirect,bucket=resubmit(,1)")
            .group("group_id=5,type=all,bucket=mod_dl_src:02:00:00:00:00:aa,group:6,bucket=output:3")
            .flow("table=1,dl_src=02:00:00:00:00:aa,actions=output:2")
            .tx("p3", 3),
        actions("mod_vlan_vid:5,group:1,strip_vlan,output:2", some()).group("group_id=1,type=all,bucket=strip_vlan,mod_vlan_vid:6,output:3,bucket=IN_PORT").tx("p3", 3).tx("p1", 3),
        actions("group:1,output:2", some()).named("a group without buckets drops its copies").group("group_id=1,type=all"),
    ]
}

fn meters() -> Vec<Case> {
    let many = |n: usize| (0..n).map(|at| tcp(&format!("sport={}", 2000 + at))).collect::<Vec<_>>();
    vec![
        actions("meter:1,output:2", many(20))
            .named("a meter that lets all through")
            .meter("meter=1,pktps,bands=type=drop rate=1000000"),
        // The bucket is full at first: as many as the burst, or the rate where none is given.
        actions("meter:1,output:2", many(20))
            .named("meter pktps burst: five of twenty")
            .meter("meter=1,pktps,burst,stats,bands=type=drop rate=1 burst_size=5")
            .tx("p2", 5),
        actions("meter:1,output:2", many(8))
            .named("meter kbps burst")
            .meter("meter=1,kbps,burst,stats,bands=type=drop rate=1 burst_size=1")
            .tx("p2", 2),
        actions("output:3,resubmit(,1)", many(8))
            .flow("table=1,actions=meter:1,output:2")
            .named("a packet that a meter drops has left by the outputs before")
            .meter("meter=1,pktps,burst,bands=type=drop rate=1 burst_size=3")
            .tx("p3", 8)
            .tx("p2", 3),
    ]
}

fn patches() -> Vec<Case> {
    let some = || vec![tcp(""), arp(""), tagged("Dot1Q(vlan=10)", &udp(""))];
    vec![
        actions("mod_dl_src:02:00:00:00:00:aa,output:21,output:2", some())
            .named("patch port: the peer's rules see and change the packet, the rest of the rule does not")
            .peer(&["in_port=21,dl_src=02:00:00:00:00:aa,actions=mod_dl_dst:02:00:00:00:00:bb,mod_nw_dst:9.9.9.9,output:1,mod_vlan_vid:9,output:q2"])
            .tx("q1", 3)
            .tx("q2", 3),
        actions("load:7->NXM_NX_REG0[],output:21,output:2", some())
            .named("patch port: registers do not go through, and come back as they were")
            .peer(&["priority=2,in_port=21,reg0=7,actions=output:1", "priority=1,in_port=21,actions=load:9->NXM_NX_REG0[],output:2"])
            .tx("q2", 3),
        case("patch port: there and back")
            .flow("in_port=1,actions=output:21")
            .flow("in_port=21,actions=output:2")
            .peer(&["in_port=21,actions=mod_nw_src:7.7.7.7,IN_PORT,output:1"])
            .rx("p1", some())
            .tx("p2", 3)
            .tx("q1", 3),
        case("patch port with NORMAL on both sides and a tag")
            .standalone()
            .peer(&[])
            .vlan("pa", "tag", "10")
            .rx("p1", vec![tagged("Dot1Q(vlan=10,prio=2)", &between(1, 255, &arp(""))), between(2, 255, &arp(""))])
            .tx("p2", 2)
            .tx("p3", 2)
            .tx("q1", 1)
            .tx("q2", 1),
    ]
}

fn mirrors() -> Vec<Case> {
    let some = || vec![tcp(""), udp(""), tagged("Dot1Q(vlan=10,prio=1)", &icmp(""))];
    let base = || {
        case("")
            .ports(4)
            .flow("in_port=1,actions=mod_dl_src:02:00:00:00:00:aa,output:2")
            .flow("in_port=2,actions=output:1")
    };
    vec![
        base()
            .named("mirror select_src_port")
            .mirror(Mirror { src: &["p1"], output_port: Some("p4"), ..Mirror::default() })
            .rx("p1", some())
            .rx("p2", [arp("")])
            .tx("p2", 3)
            .tx("p1", 1)
            .tx("p4", 3),
        base()
            .named("mirror select_dst_port: as it leaves")
            .mirror(Mirror { dst: &["p2"], output_port: Some("p4"), ..Mirror::default() })
            .rx("p1", some())
            .rx("p2", [arp("")])
            .tx("p2", 3)
            .tx("p1", 1)
            .tx("p4", 3),
        base()
            .named("mirror select_all: once for each packet")
            .mirror(Mirror { all: true, output_port: Some("p4"), ..Mirror::default() })
            .rx("p1", some())
            .rx("p2", [arp("")])
            .tx("p2", 3)
            .tx("p1", 1)
            .tx("p4", 4),
        base()
            .named("mirror select_vlan")
            .mirror(Mirror { src: &["p1"], vlans: &[10], output_port: Some("p4"), ..Mirror::default() })
            .rx("p1", some())
            .tx("p2", 3)
            .tx("p4", 1),
        base()
            .named("mirror of what a rule drops")
            .flow("priority=40000,in_port=1,udp,actions=drop")
            .mirror(Mirror { src: &["p1"], output_port: Some("p4"), ..Mirror::default() })
            .rx("p1", some())
            .tx("p2", 2)
            .tx("p4", 3),
        case("two mirrors of a flood, one of them to a VLAN")
            .ports(4)
            .standalone()
            .mirror(Mirror { dst: &["p3"], output_port: Some("p4"), ..Mirror::default() })
            .mirror(Mirror { src: &["p1"], output_vlan: Some(99), ..Mirror::default() })
            .vlan("p2", "trunks", "0,99")
            .vlan("p3", "trunks", "0")
            .rx("p1", vec![between(1, 255, &ip4("", &udp_header("")))])
            .tx("p1", 1)
            .tx("p2", 2)
            .tx("p3", 1)
            .tx("p4", 1),
    ]
}
