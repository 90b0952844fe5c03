//! Things that meet: tunnels with groups, mirrors, patches, tables, VLANs.

use super::tunnels::encap;
use crate::case::{Case, Mirror, actions, case};
use crate::frames::{arp, between, tagged, tcp, udp, variety};

/// The cases.
pub fn cases() -> Vec<Case> {
    let some = || vec![tcp(""), udp("chksum=0"), arp("")];
    vec![
        actions("group:1", some())
            .named("a group that copies into tunnels: head-end replication by rules")
            .tunnel("remote_ip=192.168.1.2 key=1")
            .tunnel("remote_ip=flow key=flow")
            .group("group_id=1,type=all,bucket=output:11,bucket=set_tunnel:9,set_field:192.168.1.3->tun_dst,output:12,bucket=mod_dl_src:02:00:00:00:00:77,output:2")
            .tx("uplink", 6),
        actions("clone(set_tunnel:9,mod_vlan_vid:3,output:11),output:2,set_tunnel:10,output:11", some())
            .tunnel("remote_ip=192.168.1.2 key=flow")
            .tx("uplink", 6),
        case("from a tunnel through a patch port, rewritten, and out with a tag")
            .tunnel("remote_ip=192.168.1.2 key=5")
            .flow("in_port=11,actions=mod_nw_dst:9.9.9.9,output:21,output:2")
            .peer(&["in_port=21,actions=push_vlan:0x8100,set_field:4106->vlan_vid,output:1"])
            .rx("uplink", [encap("", "", 5, &tcp("")), encap("", "", 5, &arp(""))])
            .tx("p2", 2)
            .tx("q1", 2),
        case("from a patch port into a tunnel")
            .tunnel("remote_ip=192.168.1.2 key=5")
            .flow("in_port=21,actions=output:11,IN_PORT")
            .peer(&["in_port=1,actions=mod_dl_src:02:00:00:00:00:aa,output:21,output:2", "in_port=21,actions=output:2"])
            .rx("q1", [tcp(""), udp("")])
            .tx("uplink", 2)
            .tx("q2", 4),
        case("a mirror of a tunnel shows inner frames")
            .ports(4)
            .tunnel("remote_ip=192.168.1.2 key=5")
            .mirror(Mirror { src: &["t1"], dst: &["t1"], output_port: Some("p4"), ..Mirror::default() })
            .flow("in_port=1,actions=output:11,output:2")
            .flow("in_port=11,actions=output:3")
            .rx("p1", [tcp("")])
            .rx("uplink", [encap("", "", 5, &udp(""))])
            .tx("p2", 1)
            .tx("p3", 1)
            .tx("p4", 2)
            .tx("uplink", 1),
        case("a tenant's pipeline: classify, rewrite as a router does, encapsulate")
            .tunnel("remote_ip=flow key=flow")
            .flow("priority=10,in_port=1,actions=load:0x64->NXM_NX_REG0[],goto_table:1")
            .flow("table=1,priority=9,ip,nw_dst=10.0.0.0/24,reg0=0x64,actions=mod_dl_src:02:00:00:00:00:fe,mod_dl_dst:02:00:00:00:00:99,dec_ttl,goto_table:2")
            .flow("table=1,priority=1,actions=goto_table:3")
            .flow("table=2,actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:192.168.1.3->tun_dst,output:11")
            .flow("table=3,arp,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:02:00:00:00:00:fe,load:2->NXM_OF_ARP_OP[],IN_PORT")
            .flow("table=3,ipv6,actions=output:2")
            .rx("p1", variety())
            .tx("uplink", 16)
            .tx("p1", 2)
            .tx("p2", 11),
        case("each output of a rule has its own packet")
            .flow("in_port=1,actions=output:2,dec_ttl,output:3,push_vlan:0x8100,set_field:4106->vlan_vid,output:2,clone(pop_vlan,mod_nw_dst:9.9.9.9,output:3),mod_nw_tos:32,IN_PORT".replace("in_port=1,", "in_port=1,ip,").as_str())
            .rx("p1", [tcp(""), udp(""), between(3, 4, &udp("chksum=0")), tagged("Dot1Q(vlan=7)", &tcp(""))])
            .tx("p1", 4)
            .tx("p2", 8)
            .tx("p3", 8),
    ]
}
