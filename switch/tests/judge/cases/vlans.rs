//! Actions on VLAN tags.

use crate::case::{Case, actions, case};
use crate::frames::{arp, tagged, tcp, tcp6, udp};

/// The cases.
pub fn cases() -> Vec<Case> {
    let tagged_and_not = || {
        vec![
            tcp(""),
            arp(""),
            tcp6(""),
            tagged("Dot1Q(vlan=10,prio=3)", &tcp("")),
            tagged("Dot1Q(vlan=0,prio=7)", &udp("")),
            tagged("Dot1Q(vlan=10,id=1)", &udp("")),
        ]
    };
    let doubled = || {
        vec![
            tagged("Dot1AD(vlan=20,prio=1)/Dot1Q(vlan=10,prio=2)", &tcp("")),
            tagged("Dot1Q(vlan=20)/Dot1Q(vlan=10)", &udp("")),
        ]
    };
    let all = || tagged_and_not().into_iter().chain(doubled()).collect::<Vec<_>>();
    vec![
        actions("mod_vlan_vid:100,output:2", all()),
        actions("mod_vlan_pcp:6,output:2", all()),
        actions("mod_vlan_vid:100,mod_vlan_pcp:6,output:2", all()),
        actions("strip_vlan,output:2", all()),
        actions("strip_vlan,strip_vlan,output:2", all()),
        actions("push_vlan:0x8100,set_field:4196->vlan_vid,output:2", tagged_and_not()),
        actions("push_vlan:0x8100,output:2", tagged_and_not()),
        actions("push_vlan:0x88a8,set_field:4296->vlan_vid,output:2", tagged_and_not()),
        actions("push_vlan:0x8100,set_field:4106->vlan_vid,push_vlan:0x88a8,set_field:4116->vlan_vid,output:2", vec![tcp(""), arp("")]),
        actions("pop_vlan,output:2", all()),
        case("actions pop_vlan,push_vlan:0x88a8")
            .flow("in_port=1,vlan_tci=0x1000/0x1000,actions=pop_vlan,push_vlan:0x88a8,set_field:4097->vlan_vid,output:2")
            .rx("p1", tagged_and_not())
            .tx("p2", 3),
        actions("load:0x3ff->NXM_OF_VLAN_TCI[0..11],output:2", vec![tagged("Dot1Q(vlan=10,prio=3)", &tcp(""))]),
        case("actions set_field:0x1005/0x100f->vlan_vid").flow("in_port=1,dl_vlan=0xab,actions=set_field:0x1005/0x100f->vlan_vid,output:2").tx("p2", 1).rx("p1", vec![tagged("Dot1Q(vlan=0xab,prio=3)", &tcp(""))]),
        case("actions set_field:5->vlan_pcp").flow("in_port=1,dl_vlan=0xab,actions=set_field:5->vlan_pcp,output:2").tx("p2", 1).rx("p1", vec![tagged("Dot1Q(vlan=0xab,prio=3)", &tcp(""))]),
        actions("move:NXM_OF_VLAN_TCI[0..11]->NXM_NX_REG0[0..11],strip_vlan,move:NXM_NX_REG0[0..11]->NXM_OF_ETH_SRC[0..11],output:2", tagged_and_not()),
        case("tags that differ from output to output")
            .flow("in_port=1,actions=mod_vlan_vid:1,output:2,mod_vlan_vid:2,output:3,strip_vlan,output:2,mod_vlan_vid:3,output:3")
            .rx("p1", tagged_and_not())
            .tx("p2", 12)
            .tx("p3", 12),
        case("a tag that was pushed is what later tables match")
            .flow("in_port=1,actions=mod_vlan_vid:7,resubmit(,1)")
            .flow("table=1,priority=9,dl_vlan=7,tcp,actions=strip_vlan,resubmit(,2)")
            .flow("table=1,priority=1,dl_vlan=7,actions=output:3")
            .flow("table=2,vlan_tci=0/0x1fff,tcp,actions=output:2")
            .rx("p1", [tcp(""), udp(""), tagged("Dot1Q(vlan=10)", &tcp(""))])
            .tx("p2", 2)
            .tx("p3", 1),
    ]
}
