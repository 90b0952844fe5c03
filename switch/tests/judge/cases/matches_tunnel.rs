//! Matches of tunnel metadata, and which tunnel port a packet belongs to.

use super::tunnels::{NO_GBP, encap, encap6, gbp, inner};
use crate::case::{Case, case};
use crate::frames::{tcp, udp};

/// A packet that the match takes leaves by port 2, others by port 3.
fn tunnelled(options: &str, what: &str, takes: &[String], leaves: &[String]) -> Case {
    case(&format!("match {what} from a tunnel {options}"))
        .tunnel(options)
        .flow(&format!("priority=10,in_port=11,{},actions=output:2", what.replace(' ', ",")))
        .flow("priority=1,in_port=11,actions=output:3")
        .rx("uplink", takes.iter().chain(leaves).cloned())
        .tx("p2", takes.len())
        .tx("p3", leaves.len())
}

/// The first packet is the one that the match takes. OVS 3.1 does not see GBP: it takes packets without alone.
fn tunnelled_gbp(what: &str, takes: String, leaves: &[String], plain: usize) -> Case {
    let options = "remote_ip=flow key=flow exts=gbp";
    tunnelled(options, what, &[takes], leaves).tx("p2", 0).tx("p3", plain).differs(NO_GBP, |sent, input| {
        let mut frames = inner(&input["uplink"], 50);
        sent.insert("p3".to_owned(), frames.split_off(1));
        sent.insert("p2".to_owned(), frames);
    })
}

/// The cases.
pub fn cases() -> Vec<Case> {
    const FLOW: &str = "remote_ip=flow key=flow";
    let from = |source: &str, vni: u32| encap(&format!("src='{source}'"), "", vni, &tcp(""));
    let (two, three) = ("192.168.1.2", "192.168.1.3");
    vec![
        tunnelled(FLOW, "tun_id=100", &[from(two, 100)], &[from(two, 101), from(two, 0)]),
        tunnelled(FLOW, "tun_id=0x100/0xf00", &[from(two, 0x1ff), from(three, 0xf100)], &[from(two, 0x200), from(two, 0)]),
        tunnelled(FLOW, "tun_src=192.168.1.2", &[from(two, 100)], &[from(three, 100)]),
        tunnelled(FLOW, "tun_src=192.168.1.2/255.255.255.254", &[from(two, 1), from(three, 1)], &[from("192.168.1.4", 1)]),
        tunnelled(FLOW, "tun_dst=192.168.1.5", &[encap("dst='192.168.1.5'", "", 7, &udp(""))], &[from(two, 7)]),
        tunnelled(FLOW, "tun_ipv6_src=2001:db8::2", &[encap6("", "", 7, &udp(""))], &[encap6("src='2001:db8::3'", "", 7, &udp("")), from(two, 7)]),
        tunnelled(FLOW, "tun_ipv6_dst=2001:db8::/64", &[encap6("", "", 7, &udp(""))], &[from(two, 7)]),
        tunnelled_gbp("tun_gbp_id=0x1234", gbp(0x88, 0, 0x1234, 7), &[gbp(0x88, 0, 0x1235, 7), from(two, 7)], 1),
        tunnelled_gbp("tun_gbp_id=0x1200/0xff00", gbp(0x88, 0, 0x1234, 7), &[gbp(0x88, 0, 0x3412, 7)], 0),
        tunnelled_gbp(
            "tun_gbp_flags=0x48",
            gbp(0x88, 0x48, 1, 7),
            &[gbp(0x88, 0x40, 1, 7), gbp(0x88, 0, 1, 7)],
            0,
        ),
        case("a fixed key, remote and local address beat flow, in this order")
            .tunnel("remote_ip=flow key=flow")
            .tunnel("remote_ip=flow key=100")
            .tunnel("remote_ip=192.168.1.2 key=flow")
            .tunnel("remote_ip=192.168.1.2 key=200")
            .tunnel("remote_ip=192.168.1.2 local_ip=192.168.1.5 key=flow")
            .flow("in_port=11,actions=mod_nw_src:1.1.1.11,output:2")
            .flow("in_port=12,actions=mod_nw_src:1.1.1.12,output:2")
            .flow("in_port=13,actions=mod_nw_src:1.1.1.13,output:2")
            .flow("in_port=14,actions=mod_nw_src:1.1.1.14,output:2")
            .flow("in_port=15,actions=mod_nw_src:1.1.1.15,output:2")
            .rx(
                "uplink",
                [
                    from(three, 5),
                    from(three, 100),
                    from(two, 5),
                    from(two, 100),
                    from(two, 200),
                    from(three, 200),
                    encap("dst='192.168.1.5'", "", 5, &tcp("")),
                    encap("dst='192.168.1.5'", "", 200, &tcp("")),
                    encap("dst='192.168.1.5'", "", 100, &tcp("")),
                ],
            )
            .tx("p2", 9),
        case("two ports of one remote by VNI, a third by UDP port")
            .tunnel("remote_ip=192.168.1.2 key=1")
            .tunnel("remote_ip=192.168.1.2 key=2")
            .tunnel("remote_ip=192.168.1.2 key=1 dst_port=8472")
            .flow("in_port=11,actions=output:1")
            .flow("in_port=12,actions=output:2")
            .flow("in_port=13,actions=output:3")
            .rx("uplink", [from(two, 1), from(two, 2), encap("", "dport=8472", 1, &tcp("")), from(two, 3), from(three, 1), encap("", "dport=8472", 2, &tcp(""))])
            .tx("p1", 1)
            .tx("p2", 1)
            .tx("p3", 1),
        case("in_key is matched, out_key is sent")
            .tunnel("remote_ip=192.168.1.2 in_key=5 out_key=6")
            .flow("in_port=11,actions=output:2")
            .flow("in_port=1,actions=output:11")
            .rx("uplink", [from(two, 5), from(two, 6)])
            .rx("p1", [tcp("")])
            .tx("p2", 1)
            .tx("uplink", 1),
        case("in_key=flow, out_key fixed: the VNI that came is a match, not what goes out")
            .tunnel("remote_ip=flow in_key=flow out_key=9")
            .flow("in_port=11,tun_id=5,actions=output:2")
            .flow("in_port=11,actions=output:3")
            .flow("in_port=1,actions=set_tunnel:77,set_field:192.168.1.3->tun_dst,output:11")
            .rx("uplink", [from(two, 5), from(two, 6)])
            .rx("p1", [tcp("")])
            .tx("p2", 1)
            .tx("p3", 1)
            .tx("uplink", 1),
        case("local_ip must be the destination that a packet came to, and is the source of what is sent")
            .tunnel("remote_ip=192.168.1.2 local_ip=192.168.1.5 key=5")
            .flow("in_port=11,actions=output:2")
            .flow("in_port=1,actions=output:11")
            .rx("uplink", [encap("dst='192.168.1.5'", "", 5, &udp("")), from(two, 5)])
            .rx("p1", [tcp("")])
            .tx("p2", 1)
            .tx("uplink", 1),
        case("tun_id and tun_src moved into fields of the packet")
            .tunnel(FLOW)
            .flow("in_port=11,ip,actions=move:NXM_NX_TUN_ID[0..15]->NXM_OF_IP_SRC[0..15],move:NXM_NX_TUN_IPV4_SRC[]->NXM_OF_IP_DST[],output:2")
            .rx("uplink", [from(two, 100), from(three, 0x1234)])
            .tx("p2", 2),
    ]
}
