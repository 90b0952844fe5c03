//! Geneve and GRE tunnels: what they put on the wire and take off it.

use crate::case::{Case, case};
use crate::frames::{arp, ip4, tcp, tcp_header, udp6, variety};

const WIRE: &str = "Ether(src='02:00:00:00:0a:02',dst='02:00:00:00:0a:01')";
const IP4: &str = "IP(src='192.168.1.2',dst='192.168.1.1')";
const IP6: &str = "IPv6(src='2001:db8::2',dst='2001:db8::1')";

/// A Geneve packet from the usual peer with this header and these options, in hexadecimal.
fn geneve(header: &str, options: &str, inner: &str) -> String {
    format!("{WIRE}/{IP4}/UDP(sport=50000,dport=6081,chksum=0)/h('{header}{options}')/{inner}")
}

/// A GRE packet; its fields behind the protocol type in hexadecimal. scapy fills in the checksum.
fn gre(ip: &str, fields: &str, inner: &str) -> String {
    format!("{WIRE}/{ip}/GRE(proto=0x6558,{fields})/{inner}")
}

fn sends(options: &str, actions: &str, frames: Vec<String>) -> Case {
    let count = frames.len();
    case(&format!("tunnel {options}: {actions}"))
        .tunnel(options)
        .flow(&format!("in_port=1,actions={actions}"))
        .rx("p1", frames)
        .tx("uplink", count)
}

/// Everything from the tunnel goes to port 2, of which Open vSwitch sends so many.
fn takes(what: &str, options: &str, frames: Vec<String>, count: usize) -> Case {
    case(&format!("tunnel {options}: {what}"))
        .tunnel(options)
        .flow("in_port=11,actions=output:2")
        .rx("uplink", frames)
        .tx("p2", count)
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut all = geneves();
    all.extend(options());
    all.extend(gres());
    all
}

fn geneves() -> Vec<Case> {
    let all =
        |options: &str| variety().iter().map(|i| geneve("0000655800000500", options, i)).collect::<Vec<_>>();
    let count = variety().len();
    vec![
        sends("type=geneve remote_ip=192.168.1.2 key=100", "output:11", variety()),
        sends("type=geneve remote_ip=192.168.1.2 key=16777215 dst_port=7000", "output:t1", vec![tcp("")]),
        sends(
            "type=geneve remote_ip=192.168.1.2 key=1 csum=true tos=inherit ttl=inherit",
            "output:11",
            variety(),
        ),
        sends("type=geneve remote_ip=2001:db8::2 key=1", "output:11", variety()),
        sends(
            "type=geneve remote_ip=flow key=flow",
            "set_field:77->tun_id,set_field:192.168.1.3->tun_dst,output:11",
            vec![tcp(""), arp("")],
        ),
        takes("receive", "type=geneve remote_ip=192.168.1.2 key=5", all(""), count),
        takes(
            "wrong headers",
            "type=geneve remote_ip=192.168.1.2 key=5",
            vec![
                geneve("4000655800000500", "", &tcp("")),
                geneve("0000080000000500", "", &ip4("", &tcp_header(""))),
                geneve("3f00655800000500", "", "h('00')"),
                geneve("0000655800000600", "", &tcp("")),
                geneve("0000655800000500", "", &tcp("dport=7")),
            ],
            1,
        ),
        takes(
            "options that nobody knows",
            "type=geneve remote_ip=192.168.1.2 key=5",
            vec![
                geneve("0200655800000500", "01020001aabbccdd", &tcp("")),
                geneve("0300655800000500", "0102000101020304ffff0000", &tcp("dport=7")),
                geneve("0140655800000500", "01028000", &tcp("dport=8")),
            ],
            2,
        ),
        case("tunnel of one type to a tunnel of another: the key goes through")
            .tunnel("type=geneve remote_ip=192.168.1.2 key=flow")
            .tunnel("type=vxlan remote_ip=192.168.1.3 key=flow")
            .tunnel("type=gre remote_ip=192.168.1.3 key=flow")
            .flow("in_port=11,actions=output:12,output:13")
            .rx("uplink", all(""))
            .tx("uplink", 2 * count),
    ]
}

fn gres() -> Vec<Case> {
    let all =
        |ip: &str, fields: &str| variety().iter().map(|inner| gre(ip, fields, inner)).collect::<Vec<_>>();
    let count = variety().len();
    vec![
        sends("type=gre remote_ip=192.168.1.2", "output:11", variety()),
        sends("type=gre remote_ip=192.168.1.2 key=4294967295", "output:t1", variety()),
        sends(
            "type=gre remote_ip=192.168.1.2 key=1 csum=true ttl=inherit tos=inherit",
            "output:11",
            variety(),
        ),
        sends("type=gre remote_ip=192.168.1.2 seq=true", "output:11", vec![tcp(""), arp(""), udp6("")]),
        sends("type=gre remote_ip=192.168.1.2 key=7 csum=true seq=true", "output:11", vec![tcp(""), arp("")]).differs(
            "the checksum is over the sequence number too (RFC 2890); Open vSwitch computes it before it writes the number",
            |sent, _| {
                for frame in sent.get_mut("uplink").expect("frames") {
                    frame[38..40].fill(0);
                    let sum = wire::checksum::Sum::of(&frame[34..]).checksum();
                    frame[38..40].copy_from_slice(&sum.to_be_bytes());
                }
            },
        ),
        sends("type=gre remote_ip=192.168.1.2 key=flow", "set_tunnel:0x12345678,output:11", vec![tcp("")]),
        sends("type=ip6gre remote_ip=2001:db8::2 key=9", "output:11", variety()),
        takes("receive", "type=gre remote_ip=192.168.1.2", all(IP4, ""), count),
        takes("receive", "type=gre remote_ip=192.168.1.2 key=5", all(IP4, "key_present=1,key=5"), count),
        takes(
            "receive with checksum and sequence number",
            "type=gre remote_ip=192.168.1.2 key=5",
            all(IP4, "chksum_present=1,key_present=1,key=5,seqnum_present=1,sequence_number=77"),
            count,
        ),
        takes(
            "other keys, a wrong checksum, wrong bits",
            "type=gre remote_ip=192.168.1.2 key=5",
            vec![
                gre(IP4, "key_present=1,key=6", &tcp("")),
                gre(IP4, "", &tcp("")),
                gre(IP4, "chksum_present=1,key_present=1,key=5,chksum=0x1234", &tcp("")),
                gre(IP4, "key_present=1,key=5,version=1", &tcp("")),
                gre(IP4, "key_present=1,key=5", &tcp("dport=7")),
            ],
            1,
        ),
        takes(
            "receive over IPv6",
            "type=ip6gre remote_ip=2001:db8::2 key=5",
            all(IP6, "key_present=1,key=5"),
            count,
        ),
        case("tunnel type=gre key=flow: rules see the key")
            .tunnel("type=gre remote_ip=flow key=flow")
            .flow("in_port=11,tun_id=0xffffffff,actions=output:2")
            .flow("in_port=11,tun_id=0,actions=output:3")
            .rx("uplink", [gre(IP4, "key_present=1,key=0xffffffff", &tcp("")), gre(IP4, "", &tcp("dport=9"))])
            .tx("p2", 1)
            .tx("p3", 1),
    ]
}

/// Options by `tun_metadata` fields.
fn options() -> Vec<Case> {
    let with = |name: &str| {
        case(name)
            .tlv("{class=0xffff,type=1,len=4}->tun_metadata0")
            .tlv("{class=0x102,type=0x80,len=8}->tun_metadata5")
            .tlv("{class=0x102,type=2,len=0}->tun_metadata63")
            .tlv("{class=0xffff,type=3,len=16}->tun_metadata3")
            .tunnel("type=geneve remote_ip=192.168.1.2 key=5")
    };
    let one = |value: u32, inner: &str| geneve("0200655800000500", &format!("ffff0101{value:08x}"), inner);
    let all = "ffff010100000001010280021122334455667788ffff0304000102030405060708090a0b0c0d0e0f01020200";
    vec![
        with("options: a value, a mask, that it is there")
            .flow("priority=30,in_port=11,tun_metadata0=0x1234,actions=output:2")
            .flow("priority=20,in_port=11,tun_metadata0=0x1200/0xff00,actions=output:3")
            .flow("priority=10,in_port=11,tun_metadata0,actions=output:2,output:3")
            .flow("priority=5,in_port=11,tun_metadata63,actions=output:2")
            .rx(
                "uplink",
                [
                    one(0x1234, &tcp("")),
                    one(0x1299, &tcp("dport=2")),
                    one(0, &tcp("dport=3")),
                    geneve("0100655800000500", "01020200", &tcp("dport=4")),
                    geneve("0000655800000500", "", &tcp("dport=5")),
                ],
            )
            .tx("p2", 3)
            .tx("p3", 2),
        with("options: longer ones, a critical one, all at once")
            .flow("in_port=11,tun_metadata5=0x1122334455667788,tun_metadata3=0x102030405060708090a0b0c0d0e0f,actions=output:2")
            .rx("uplink", [geneve("0b40655800000500", all, &tcp(""))])
            .tx("p2", 1),
        with("options: another length")
            .flow("in_port=11,actions=output:2")
            .rx("uplink", [geneve("0300655800000500", "ffff01021122334455667788", &tcp(""))]),
        with("options: another critical one")
            .flow("in_port=11,actions=output:2")
            .rx("uplink", [geneve("0140655800000500", "01028100", &tcp("dport=2"))]),
        with("options: set, and sent in the order of their fields")
            .flow(
                "in_port=1,actions=set_field:0x1122334455667788->tun_metadata5,set_field:0xab->tun_metadata0,output:11",
            )
            .rx("p1", variety())
            .tx("uplink", variety().len()),
        with("options: moved to a register and back")
            .flow("in_port=11,actions=move:NXM_NX_TUN_METADATA0[0..15]->NXM_NX_REG0[16..31],resubmit(,1)")
            .flow("table=1,reg0=0x77770000,actions=output:2")
            .flow("in_port=1,actions=load:0x5->NXM_NX_REG1[],move:NXM_NX_REG1[0..15]->NXM_NX_TUN_METADATA0[8..23],output:11")
            .rx("uplink", [one(0x7777, &tcp("")), one(0x7778, &tcp("dport=2"))])
            .rx("p1", [tcp("")])
            .tx("p2", 1)
            .tx("uplink", 1),
        with("options: from tunnel to tunnel")
            .tunnel("type=geneve remote_ip=192.168.1.3 key=6")
            .flow("in_port=11,actions=set_field:9->tun_metadata0,output:12")
            .rx("uplink", [one(0x7777, &tcp("")), geneve("0340655800000500", "010280021122334455667788", &arp(""))])
            .tx("uplink", 2),
    ]
}
