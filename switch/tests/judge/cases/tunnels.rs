//! What tunnel ports put on the wire and take off it.

use crate::case::{Case, case};
use crate::frames::{
    arp, bare_ip4, bare_ip6, icmp, ip4, ip6, tagged, tcp, tcp_header, tcp6, udp, udp_header, udp6, variety,
};

/// Why cases with the GBP extension differ.
pub const NO_GBP: &str =
    "the userspace datapath of Open vSwitch 3.1 takes exts=gbp and neither sends nor receives the extension";
const WIRE: &str = "Ether(src='02:00:00:00:0a:02',dst='02:00:00:00:0a:01')";

/// A tunnel packet from 192.168.1.2 to 192.168.1.1 with these fields of IP and UDP.
pub fn encap(ip: &str, udp: &str, vni: u32, inner: &str) -> String {
    encap_header(ip, udp, &format!("h('08000000{vni:06x}00')"), inner)
}

fn encap_header(ip: &str, udp: &str, header: &str, inner: &str) -> String {
    format!(
        "{WIRE}/IP(**dict(dict(src='192.168.1.2',dst='192.168.1.1'),{ip}))/\
         UDP(**dict(dict(sport=50000,dport=4789,chksum=0),{udp}))/{header}/{inner}"
    )
}

/// The same from 2001:db8::2 to 2001:db8::1, with a right UDP checksum.
pub fn encap6(ip: &str, udp: &str, vni: u32, inner: &str) -> String {
    format!(
        "{WIRE}/IPv6(**dict(dict(src='2001:db8::2',dst='2001:db8::1'),{ip}))/\
         UDP(**dict(dict(sport=50000,dport=4789),{udp}))/h('08000000{vni:06x}00')/{inner}"
    )
}

/// A packet with the GBP extension.
pub fn gbp(flags: u8, policy: u8, id: u16, vni: u32) -> String {
    encap_header("", "", &format!("h('{flags:02x}{policy:02x}{id:04x}{vni:06x}00')"), &tcp(""))
}

/// Everything from port 1 goes into a tunnel with these options.
fn sends(options: &str, actions: &str, frames: Vec<String>) -> Case {
    let count = frames.len();
    case(&format!("tunnel {options}: {actions}"))
        .tunnel(options)
        .flow(&format!("in_port=1,actions={actions}"))
        .rx("p1", frames)
        .tx("uplink", count)
}

/// The inner frames of tunnel packets whose headers have this length.
pub fn inner(frames: &[Vec<u8>], headers: usize) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame[headers..].to_vec()).collect()
}

/// Everything from the tunnel goes to port 2.
fn takes(options: &str, frames: Vec<String>, count: usize) -> Case {
    case(&format!("tunnel {options}: receive"))
        .tunnel(options)
        .flow("in_port=11,actions=output:2")
        .rx("uplink", frames)
        .tx("p2", count)
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let ecn = || {
        (0..4)
            .flat_map(|n| {
                [
                    ip4(&format!("tos={}", 0xb8 | n), &tcp_header("")),
                    ip6(&format!("tc={}", 0x28 | n), &udp_header("")),
                ]
            })
            .collect::<Vec<_>>()
    };
    let ttl = || {
        vec![
            ip4("ttl=9", &tcp_header("")),
            ip6("hlim=11", &udp_header("")),
            arp(""),
            tagged("Dot1Q(vlan=5)", &ip4("ttl=10", &udp_header(""))),
        ]
    };
    let mut all = vec![
        sends("remote_ip=192.168.1.2 key=100", "output:11", variety()),
        sends("remote_ip=192.168.1.2", "output:t1", vec![tcp("")]),
        sends("remote_ip=10.9.8.7 key=16777215", "output:11", vec![tcp(""), udp6("")])
            .named("tunnel by way of the gateway"),
        sends("remote_ip=192.168.1.2 key=1 dst_port=8472", "output:11", vec![tcp("")]),
        sends("remote_ip=192.168.1.2 key=1 local_ip=192.168.1.5", "output:11", vec![tcp("")]),
        sends("remote_ip=192.168.1.2 key=1 ttl=7", "output:11", ttl()),
        sends("remote_ip=192.168.1.2 key=1 ttl=inherit", "output:11", ttl()),
        sends("remote_ip=192.168.1.2 key=1 tos=0x28", "output:11", ecn()),
        sends(
            "remote_ip=192.168.1.2 key=1 tos=inherit",
            "output:11",
            ecn().into_iter().chain([arp("")]).collect(),
        ),
        sends("remote_ip=192.168.1.2 key=1", "output:11", ecn()).named("tunnel: ECN of the inner packet"),
        sends("remote_ip=192.168.1.2 key=1 df_default=false", "output:11", vec![tcp(""), tcp("sport=7")]),
        sends("remote_ip=192.168.1.2 key=1 csum=true", "output:11", variety()),
        sends("remote_ip=2001:db8::2 key=1", "output:11", variety()),
        sends("remote_ip=2001:db8::2 key=1 csum=false", "output:11", vec![tcp(""), udp6("")]).differs(
            "csum=false is obeyed over IPv6 too (RFC 6935); Open vSwitch always has a checksum there",
            |sent, _| {
                for frame in sent.get_mut("uplink").expect("frames") {
                    frame[14 + 40 + 6..14 + 40 + 8].fill(0);
                }
            },
        ),
        sends(
            "remote_ip=2001:db8::2 key=1 ttl=inherit tos=inherit",
            "output:11",
            ecn().into_iter().chain(ttl()).collect(),
        ),
        sends(
            "remote_ip=192.168.1.2 key=flow",
            "set_tunnel:77,output:11,set_field:0xabcdef->tun_id,output:11",
            vec![tcp("")],
        )
        .tx("uplink", 2),
        sends(
            "remote_ip=flow key=flow",
            "set_field:100->tun_id,set_field:192.168.1.3->tun_dst,output:11",
            vec![tcp(""), arp("")],
        ),
        sends("remote_ip=flow key=5", "load:0xc0a80102->NXM_NX_TUN_IPV4_DST[],output:11", vec![tcp("")]),
        sends(
            "remote_ip=flow key=flow",
            "set_field:100->tun_id,set_field:2001:db8::2->tun_ipv6_dst,output:11",
            vec![tcp(""), udp6("")],
        ),
        sends(
            "remote_ip=flow local_ip=flow key=flow",
            "set_field:7->tun_id,set_field:192.168.1.2->tun_dst,set_field:192.168.1.5->tun_src,output:11",
            vec![tcp("")],
        ),
        sends(
            "remote_ip=192.168.1.2 key=1 exts=gbp",
            "load:0x7->NXM_NX_TUN_GBP_ID[],load:0x48->NXM_NX_TUN_GBP_FLAGS[],output:11",
            vec![tcp(""), arp("")],
        )
        .differs(NO_GBP, |sent, _| {
            for frame in sent.get_mut("uplink").expect("frames") {
                frame[42..46].copy_from_slice(&[0x88, 0x48, 0, 7]);
            }
        }),
        sends("remote_ip=192.168.1.2 key=1 exts=gbp", "output:11", vec![tcp("")]),
        sends("remote_ip=192.168.1.2 key=1 exts=gpe", "output:11", vec![tcp(""), arp("")]),
        sends(
            "remote_ip=192.168.1.2 key=1",
            "mod_dl_dst:02:00:00:00:00:99,output:11,mod_nw_dst:10.9.9.9,output:11,output:2",
            vec![tcp(""), udp("chksum=0")],
        )
        .tx("uplink", 4)
        .tx("p2", 2),
        sends(
            "remote_ip=192.168.1.2 key=1",
            "mod_vlan_vid:9,output:11,strip_vlan,output:11",
            vec![tcp(""), tagged("Dot1Q(vlan=4,prio=6)", &udp(""))],
        )
        .tx("uplink", 4),
        case("tunnel to tunnel: one VNI to another, and to another remote")
            .tunnel("remote_ip=192.168.1.2 key=1")
            .tunnel("remote_ip=192.168.1.3 key=2 tos=inherit ttl=inherit")
            .flow("in_port=11,actions=output:12,output:2")
            .rx(
                "uplink",
                [
                    encap("tos=0xb8", "", 1, &ip4("tos=0x20,ttl=9", &tcp_header(""))),
                    encap("", "", 1, &arp("")),
                ],
            )
            .tx("uplink", 2)
            .tx("p2", 2),
        case("tunnel key=flow to tunnel key=flow: the VNI goes through")
            .tunnel("remote_ip=192.168.1.2 key=flow")
            .tunnel("remote_ip=192.168.1.3 key=flow")
            .flow("in_port=11,actions=output:12")
            .rx("uplink", [encap("", "", 1234, &tcp(""))])
            .tx("uplink", 1),
        case("IN_PORT of a tunnel")
            .tunnel("remote_ip=192.168.1.2 key=5")
            .flow("in_port=11,actions=IN_PORT")
            .rx("uplink", [encap("", "", 5, &tcp(""))])
            .tx("uplink", 1),
    ];
    all.extend(receive());
    all
}

fn receive() -> Vec<Case> {
    let all =
        |ip: &str, udp: &str| variety().iter().map(|inner| encap(ip, udp, 5, inner)).collect::<Vec<_>>();
    let count = variety().len();
    // Outer and inner ECN, each with each.
    let ecn = |outer: u8| {
        (0..4).flat_map(move |inner| {
            let tos = 0xb8 | inner;
            let (four, six) = (
                bare_ip4(&format!("tos={tos}"), &tcp_header("")),
                bare_ip6(&format!("tc={tos}"), &udp_header("")),
            );
            let mac = "Ether(src='02:00:00:00:00:01',dst='02:00:00:00:00:02')";
            [four, six].map(|packet| encap(&format!("tos={outer}"), "", 5, &format!("{mac}/{packet}")))
        })
    };
    vec![
        takes("remote_ip=192.168.1.2 key=5", all("", ""), count),
        takes("remote_ip=192.168.1.2 key=5", all("options=[IPOption_NOP()]*4", ""), count)
            .named("tunnel receive: outer IP options")
            .tx("p2", 0)
            .differs(
                "RFC 7348 does not forbid IP options; Open vSwitch drops tunnel packets that have some",
                |sent, input| {
                    sent.insert("p2".to_owned(), inner(&input["uplink"], 14 + 24 + 8 + 8));
                },
            ),
        takes(
            "remote_ip=192.168.1.2 key=5",
            variety().iter().map(|inner| encap_checked(inner)).collect(),
            count,
        )
        .named("tunnel receive: outer UDP checksum"),
        takes(
            "remote_ip=2001:db8::2 key=5",
            variety().iter().map(|inner| encap6("", "", 5, inner)).collect(),
            count,
        ),
        // An outer CE on a packet that knows no ECN is dropped.
        takes("remote_ip=192.168.1.2 key=5", (0..4).flat_map(ecn).collect(), 30)
            .named("tunnel receive: ECN")
            .differs(
                "outer ECT(1) makes inner ECT(0) ECT(1) (RFC 6040, figure 4), as Linux does; Open vSwitch keeps ECT(0)",
                |sent, input| {
                    let sent = sent.get_mut("p2").expect("frames");
                    for packet in &input["uplink"] {
                        let (outer, inner) = (packet[15] & 3, &packet[50..]);
                        let is_v4 = inner[12] == 8;
                        let ecn = if is_v4 { inner[15] & 3 } else { inner[15] >> 4 & 3 };
                        if outer != 1 || ecn != 2 {
                            continue;
                        }
                        // Open vSwitch sends the inner frame as it is.
                        let frame = sent.iter_mut().find(|frame| **frame == inner).expect("such a frame");
                        if is_v4 {
                            frame[15] = frame[15] & !3 | 1;
                            let sum = wire::checksum::ipv4_header(&frame[14..34]);
                            frame[24..26].copy_from_slice(&sum.to_be_bytes());
                        } else {
                            frame[15] = frame[15] & !0x30 | 0x10;
                        }
                    }
                },
            ),
        takes(
            "remote_ip=192.168.1.2 key=5",
            vec![
                encap("", "", 5, &tcp("")),
                encap("", "", 6, &tcp("")),
                encap("src='192.168.1.3'", "", 5, &tcp("")),
                encap("dst='192.168.1.7'", "", 5, &tcp("")),
                encap("", "dport=4790", 5, &tcp("")),
                encap("chksum=1", "", 5, &tcp("")),
                encap("", "chksum=0x1111", 5, &tcp("")),
                encap_header("", "", "h('0000000000000500')", &tcp("")),
                encap("ttl=1", "", 5, &udp("")),
            ],
            2,
        )
        .named("tunnel receive: what is not for the port"),
        takes(
            "remote_ip=192.168.1.2 key=5",
            vec![
                encap_header("", "", "h('0800000000000501')", &tcp("")),
                encap_header("", "", "h('0c00000000000500')", &tcp("")),
                encap("", "", 5, &icmp("")),
            ],
            1,
        )
        .named("tunnel receive: reserved bits")
        .differs(
            "RFC 7348: reserved bits are ignored on receipt; Open vSwitch drops the packet",
            |sent, input| {
                sent.insert("p2".to_owned(), inner(&input["uplink"], 50));
            },
        ),
        takes(
            "remote_ip=192.168.1.2 key=5 exts=gpe",
            vec![
                encap_header("", "", "h('0c00000300000500')", &tcp("")),
                encap_header("", "", "h('0c00000100000500')", &bare_ip4("", &tcp_header(""))),
            ],
            1,
        ),
        takes(
            "remote_ip=192.168.1.2 key=5 exts=gbp",
            vec![gbp(0x88, 0x48, 7, 5), encap("", "", 5, &tcp6(""))],
            1,
        )
        .differs(NO_GBP, |sent, input| {
            sent.insert("p2".to_owned(), inner(&input["uplink"], 50));
        }),
        takes(
            "remote_ip=192.168.1.2 key=5",
            vec![
                encap("", "", 5, "h('020000000002')"),
                encap("flags='MF'", "", 5, &tcp("")),
                encap("frag=4", "", 5, &tcp("")),
            ],
            0,
        )
        .named("tunnel receive: cut off and fragments"),
    ]
}

fn encap_checked(inner: &str) -> String {
    encap("", "", 5, inner).replace(",chksum=0),)", "),)")
}
