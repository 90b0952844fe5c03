//! What rules and VLANs of the underlay bridge say about tunnel packets.

use super::tunnels::encap;
use crate::case::{Case, case};
use crate::frames::{tcp, variety};

const KEY: &str = "remote_ip=192.168.1.2 key=100";
/// What the kernel of Open vSwitch's host says for itself is not of a case.
const QUIET: &str = "priority=1,in_port=LOCAL,actions=drop";
const NORMAL: &str = "priority=0,actions=NORMAL";

/// A tunnel packet with a tag.
fn tagged(vid: u16) -> String {
    encap("", "", 100, &tcp("")).replacen("/IP(", &format!("/Dot1Q(vlan={vid})/IP("), 1)
}

/// Packets from the wire; so many of them reach port 2.
fn takes(name: &str, phy: &[&str], frames: Vec<String>, count: usize) -> Case {
    case(&format!("underlay: {name}"))
        .tunnel(KEY)
        .phy(phy)
        .flow("in_port=11,actions=output:2")
        .rx("uplink", frames)
        .tx("p2", count)
}

/// Packets to the wire; so many of them leave.
fn sends(name: &str, phy: &[&str], count: usize) -> Case {
    case(&format!("underlay: {name}"))
        .tunnel(KEY)
        .phy(phy)
        .flow("in_port=1,actions=output:11")
        .rx("p1", variety())
        .tx("uplink", count)
}

pub fn cases() -> Vec<Case> {
    let packet = || encap("", "", 100, &tcp(""));
    let all = variety().len();
    vec![
        takes("NORMAL delivers", &[QUIET, NORMAL], vec![packet()], 1),
        takes("a rule drops udp 4789", &[QUIET, NORMAL, "udp,tp_dst=4789,actions=drop"], vec![packet()], 0),
        takes(
            "a rule drops the uplink's IP",
            &[QUIET, NORMAL, "in_port=uplink,ip,actions=drop"],
            vec![packet()],
            0,
        ),
        takes("secure without rules", &[QUIET], vec![packet()], 0),
        takes(
            "a rule for LOCAL by TTL",
            &[QUIET, "udp,nw_ttl=64,actions=LOCAL"],
            vec![packet(), encap("ttl=9", "", 100, &tcp(""))],
            1,
        ),
        takes("tag on the uplink", &[QUIET, NORMAL], vec![packet()], 0).vlan("uplink", "tag", "10"),
        takes("trunks on the uplink", &[QUIET, NORMAL], vec![packet(), tagged(20)], 0)
            .vlan("uplink", "trunks", "20"),
        takes("tag on LOCAL", &[QUIET, NORMAL], vec![packet(), tagged(10), tagged(20)], 1)
            .vlan("br-phy", "tag", "10"),
        takes("tag on LOCAL and uplink", &[QUIET, NORMAL], vec![packet(), tagged(10)], 1)
            .vlan("br-phy", "tag", "10")
            .vlan("uplink", "tag", "10"),
        takes(
            "strip_vlan to LOCAL",
            &[QUIET, "in_port=uplink,dl_vlan=10,actions=strip_vlan,LOCAL"],
            vec![packet(), tagged(10), tagged(20)],
            1,
        ),
        sends(
            "a rule for what leaves, by its TTL",
            &[QUIET, "priority=9,in_port=LOCAL,udp,nw_ttl=64,actions=output:uplink"],
            all,
        ),
        takes(
            "an uplink behind a patch port",
            &[QUIET, "in_port=22,udp,nw_tos=0x28,actions=LOCAL"],
            vec![packet(), tagged(10), tagged(20)],
            1,
        )
        .ext(&["in_port=1,dl_vlan=10,actions=strip_vlan,mod_nw_tos:0x28,output:22", "actions=drop"]),
        takes("NORMAL through a patch port", &[QUIET, NORMAL], vec![packet(), tagged(10)], 1)
            .ext(&["actions=NORMAL"]),
        sends(
            "an uplink behind a patch port sends in a VLAN",
            &[QUIET, "priority=9,in_port=LOCAL,udp,actions=mod_nw_tos:0x28,output:22"],
            all,
        )
        .ext(&["in_port=22,udp,nw_tos=0x28,actions=mod_vlan_vid:7,output:1"]),
        sends("another TTL", &[QUIET, "priority=9,in_port=LOCAL,udp,nw_ttl=9,actions=output:uplink"], 0),
        sends(
            "a VLAN by a rule",
            &[QUIET, "priority=9,in_port=LOCAL,udp,actions=mod_vlan_vid:7,output:uplink"],
            all,
        ),
        sends("LOCAL in a VLAN", &[QUIET, "priority=9,in_port=LOCAL,udp,actions=NORMAL"], all)
            .vlan("br-phy", "tag", "10"),
        sends(
            "LOCAL in another VLAN than the uplink",
            &[QUIET, "priority=9,in_port=LOCAL,udp,actions=NORMAL"],
            0,
        )
        .vlan("br-phy", "tag", "10")
        .vlan("uplink", "trunks", "20"),
    ]
}
