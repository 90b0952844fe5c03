//! NORMAL: learning, flooding, VLANs of ports. One port after another.

use super::tunnels::encap;
use crate::case::{Case, case};
use crate::frames::{arp, between, tagged, tcp, udp};

/// A standalone bridge with so many ports.
fn bridge(name: &str, ports: usize) -> Case {
    case(&format!("NORMAL: {name}")).ports(ports).standalone().ordered()
}

/// The cases.
/// Why an access port of ours sends what one of Open vSwitch does not.
const SECOND_TAG: &str = "to 802.1Q, and to Open vSwitch with vlan-limit=1, a second tag is payload; with vlan-limit=0 \
                          an access port of Open vSwitch takes no frame that has one";

pub fn cases() -> Vec<Case> {
    let frame = |src: u8, dst: u8| between(src, dst, &tcp(""));
    let vlan = |vid: u16, prio: u8, src: u8, dst: u8| {
        between(src, dst, &tagged(&format!("Dot1Q(vlan={vid},prio={prio})"), &tcp("")))
    };
    vec![
        bridge("what was learned is not flooded, a host that moves is followed", 4)
            .rx("p1", [frame(1, 255)])
            .rx("p2", [frame(2, 1), frame(9, 1)])
            .rx("p3", [frame(3, 2), frame(2, 9)])
            .rx("p4", [frame(4, 2), frame(4, 7)])
            // 1: all; 2, 9 to 1: p1; 3 to 2: p2; 2 (moved to p3) to 9: p2; 4 to 2: p3; 4 to 7: all.
            .tx("p1", 3)
            .tx("p2", 4)
            .tx("p3", 3)
            .tx("p4", 1),
        bridge("what is behind the input port stays there", 3).rx("p1", [frame(1, 255)]).rx("p2", [frame(2, 255), frame(3, 2), frame(2, 1)]).tx("p1", 2).tx("p2", 1).tx("p3", 2),
        bridge("reserved addresses are not switched", 3)
            .rx(
                "p1",
                ["Ether(src='02:00:00:00:00:01',dst='01:80:c2:00:00:00')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()",
                 "Ether(src='02:00:00:00:00:01',dst='01:80:c2:00:00:0e')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()",
                 "Ether(src='02:00:00:00:00:01',dst='01:80:c2:00:00:10')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()",
                 "Ether(src='02:00:00:00:00:01',dst='01:00:0c:cc:cc:cc')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()"],
            )
            .tx("p2", 1)
            .tx("p3", 1),
        bridge("a multicast source", 2)
            .rx("p1", ["Ether(src='03:00:00:00:00:01',dst='02:00:00:00:00:02')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()"])
            .tx("p2", 1)
            .differs("a group address is never a source: IEEE 802.3 says so, and other switches drop such frames", |sent, _| sent.clear()),
        bridge("forward-bpdu", 2)
            .other_config("forward-bpdu", "true")
            .rx("p1", ["Ether(src='02:00:00:00:00:01',dst='01:80:c2:00:00:00')/IP(src='1.1.1.1',dst='2.2.2.2')/UDP()"])
            .tx("p2", 1),
        bridge("access ports", 4)
            .vlan("p1", "tag", "10")
            .vlan("p2", "tag", "10")
            .vlan("p3", "tag", "20")
            .rx("p1", [frame(1, 255), vlan(10, 0, 1, 255), vlan(0, 5, 1, 255)])
            .rx("p2", [frame(2, 1)])
            .rx("p3", [frame(3, 1)])
            .rx("p4", [vlan(10, 3, 4, 1), vlan(20, 0, 4, 3), vlan(20, 0, 4, 1), frame(4, 1)])
            .tx("p1", 2)
            .tx("p2", 2)
            .tx("p3", 2)
            .tx("p4", 3),
        bridge("trunks", 4)
            .vlan("p1", "trunks", "10,20")
            .vlan("p2", "trunks", "20,30")
            .vlan("p3", "trunks", "0,10")
            .rx("p1", [vlan(10, 1, 1, 255), vlan(20, 2, 1, 255), vlan(30, 3, 1, 255), frame(1, 255)])
            .rx("p2", [vlan(20, 0, 2, 1), vlan(30, 0, 2, 1)])
            .rx("p3", [vlan(10, 7, 3, 1), frame(3, 1)])
            .tx("p1", 2)
            .tx("p2", 1)
            .tx("p3", 1)
            .tx("p4", 4),
        bridge("vlan_mode=native-tagged and native-untagged", 4)
            .vlan("p1", "tag", "5")
            .vlan("p1", "vlan_mode", "native-tagged")
            .vlan("p2", "tag", "5")
            .vlan("p2", "vlan_mode", "native-untagged")
            .vlan("p2", "trunks", "7")
            .vlan("p3", "tag", "5")
            .rx("p1", [frame(1, 255), vlan(5, 2, 1, 255), vlan(7, 0, 1, 255)])
            .rx("p2", [frame(2, 255), vlan(7, 1, 2, 255), vlan(8, 1, 2, 255), vlan(0, 6, 2, 255)])
            .rx("p3", [frame(3, 255)])
            .tx("p1", 4)
            .tx("p2", 4)
            .tx("p3", 4)
            .tx("p4", 7),
        bridge("q-in-q: vlan_mode=dot1q-tunnel", 5)
            .vlan("p1", "tag", "100")
            .vlan("p1", "vlan_mode", "dot1q-tunnel")
            .vlan("p2", "tag", "100")
            .vlan("p2", "vlan_mode", "dot1q-tunnel")
            .vlan("p2", "cvlans", "10,20")
            .vlan("p3", "tag", "100")
            .vlan("p4", "tag", "100")
            .vlan("p4", "vlan_mode", "native-untagged")
            .rx("p1", [frame(1, 255), vlan(10, 3, 1, 255), vlan(30, 0, 1, 255), vlan(0, 6, 1, 255)])
            .rx("p2", [vlan(20, 2, 2, 255), vlan(30, 2, 2, 255), frame(2, 255)])
            .rx("p3", [frame(3, 255)])
            .rx("p4", [frame(4, 255), vlan(10, 0, 4, 255)])
            .rx("p5", [
                vlan(100, 5, 5, 255),
                between(6, 255, &tagged("Dot1Q(vlan=100,prio=1)/Dot1Q(vlan=20,prio=2)", &tcp(""))),
                between(6, 255, &tagged("Dot1Q(vlan=100)/Dot1Q(vlan=30)", &tcp(""))),
            ])
            .tx("p1", 6)
            .tx("p2", 2)
            .tx("p3", 4)
            .tx("p4", 9)
            .tx("p5", 8)
            .differs(SECOND_TAG, |sent, input| {
                let doubly = input["p5"][1..].iter().map(|frame| {
                    let mut untagged = frame.clone();
                    untagged.drain(12..16);
                    untagged
                });
                sent.get_mut("p3").expect("p3 has frames").extend(doubly);
            }),
        bridge("q-in-q: qinq-ethtype=802.1q", 2)
            .vlan("p1", "tag", "100")
            .vlan("p1", "vlan_mode", "dot1q-tunnel")
            .vlan("p1", "other_config:qinq-ethtype", "802.1q")
            .rx("p1", [frame(1, 255), vlan(10, 3, 1, 255)])
            .tx("p2", 2),
        bridge("q-in-q: priority-tags", 5)
            .vlan("p1", "tag", "10")
            .vlan("p1", "other_config:priority-tags", "if-nonzero")
            .vlan("p2", "tag", "10")
            .vlan("p2", "other_config:priority-tags", "always")
            .vlan("p3", "other_config:priority-tags", "if-nonzero")
            .vlan("p4", "other_config:priority-tags", "always")
            .rx("p1", [frame(1, 255), vlan(0, 5, 1, 255), vlan(0, 0, 1, 255)])
            .rx("p5", [vlan(10, 3, 5, 255), vlan(10, 0, 5, 255), frame(5, 255), vlan(0, 4, 5, 255)])
            .tx("p1", 2)
            .tx("p2", 5)
            .tx("p3", 7)
            .tx("p4", 7)
            .tx("p5", 3),
        // Alone: the megaflow that Open vSwitch makes for a trunk port looks at no priority, so that what becomes of a
        // tag for VLAN 0 depends on what came before.
        bridge("q-in-q: priority-tags of trunks and a tag without a priority", 4)
            .vlan("p2", "other_config:priority-tags", "if-nonzero")
            .vlan("p3", "other_config:priority-tags", "always")
            .rx("p1", [vlan(0, 0, 1, 255)])
            .tx("p2", 1)
            .tx("p3", 1)
            .tx("p4", 1),
        bridge("learning is by VLAN", 3)
            .rx("p1", [vlan(10, 0, 1, 255), vlan(20, 0, 2, 255)])
            .rx("p2", [vlan(20, 0, 3, 1), vlan(10, 0, 3, 1), vlan(20, 0, 3, 2)])
            .tx("p1", 3)
            .tx("p2", 2)
            .tx("p3", 3),
        bridge("two tags: the outer one is the VLAN", 3)
            .vlan("p2", "tag", "10")
            .rx("p1", [between(1, 255, &tagged("Dot1Q(vlan=10,prio=1)/Dot1Q(vlan=20)", &udp("")))])
            .tx("p3", 1)
            .differs(SECOND_TAG, |sent, input| {
                let mut untagged = input["p1"][0].clone();
                untagged.drain(12..16);
                sent.insert("p2".to_owned(), vec![untagged]);
            }),
        case("actions=NORMAL after a rewrite and between outputs")
            .ordered()
            .flow("actions=mod_dl_dst:02:00:00:00:00:01,output:3,NORMAL,mod_dl_src:02:00:00:00:00:07,NORMAL")
            .rx("p1", [frame(1, 255)])
            .rx("p2", [frame(2, 255)])
            // To 1, which is behind p1: nothing more for the frame that came from there.
            .tx("p1", 2)
            .tx("p3", 2),
        case("NORMAL after a tag was pushed, into access and trunk ports")
            .ports(4)
            .vlan("p2", "tag", "10")
            .vlan("p3", "trunks", "10,11")
            .flow("in_port=1,tcp,actions=mod_vlan_vid:10,NORMAL")
            .flow("in_port=1,udp,actions=mod_vlan_vid:11,NORMAL")
            .flow("in_port=1,arp,actions=strip_vlan,NORMAL")
            .rx("p1", [tcp(""), between(3, 4, &udp("")), between(5, 255, &tagged("Dot1Q(vlan=10)", &arp("")))])
            .tx("p2", 1)
            .tx("p3", 2)
            .tx("p4", 3),
        bridge("a tunnel learns and is flooded to, an access VLAN goes in untagged", 3)
            .tunnel("remote_ip=192.168.1.2 key=5")
            .vlan("t1", "tag", "10")
            .vlan("p1", "tag", "10")
            .rx("p1", [frame(1, 255)])
            .rx("p2", [vlan(10, 4, 2, 255), frame(2, 255)])
            .rx("uplink", [encap("", "", 5, &between(7, 1, &tcp(""))), encap("", "", 5, &between(7, 2, &udp(""))), encap("", "", 5, &between(8, 255, &arp("")))])
            .tx("p1", 3)
            .tx("p2", 3)
            .tx("p3", 4)
            .tx("uplink", 2),
        bridge("a trunk tunnel carries the access VLAN as a tag", 3)
            .tunnel("remote_ip=192.168.1.2 key=5")
            .vlan("p1", "tag", "10")
            .rx("p1", [frame(1, 255)])
            .rx("uplink", [encap("", "", 5, &vlan(10, 0, 7, 1)), encap("", "", 5, &frame(7, 1))])
            .tx("p1", 1)
            .tx("p2", 2)
            .tx("p3", 2)
            .tx("uplink", 1),
        bridge("from one tunnel to another", 2)
            .tunnel("remote_ip=192.168.1.2 key=5")
            .tunnel("remote_ip=192.168.1.3 key=5")
            .rx("uplink", [encap("", "", 5, &frame(7, 255))])
            .tx("p1", 1)
            .tx("p2", 1)
            .tx("uplink", 1)
            .differs("no flooding from tunnel to tunnel, so that a full mesh does not loop", |sent, _| {
                sent.remove("uplink");
            }),
    ]
}
