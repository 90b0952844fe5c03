//! Flows as the datapath prints them, `in_port(2),eth(src=..,dst=..),eth_type(0x0800)`, in the words of OpenFlow.

/// A datapath flow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OdpFlow {
    /// Number or name of a datapath port.
    pub in_port: Option<String>,
    /// The rest as `ovs-ofctl` writes it.
    pub matches: String,
}

/// Groups that say nothing of a packet which is traced.
const IGNORED: [&str; 12] = [
    "ct_label",
    "ct_mark",
    "ct_state",
    "ct_tuple4",
    "ct_tuple6",
    "ct_zone",
    "dp_hash",
    "packet_type",
    "recirc_id",
    "skb_mark",
    "skb_priority",
    "ufid",
];

/// Reads a datapath flow; `None` for what is none. Of a masked value the mask is left out.
pub(super) fn parse(text: &str) -> Option<OdpFlow> {
    let mut flow = OdpFlow::default();
    let mut matches = Vec::new();
    read(text, &mut flow.in_port, &mut matches)?;
    flow.matches = matches.join(",");
    Some(flow)
}

fn read(text: &str, in_port: &mut Option<String>, matches: &mut Vec<String>) -> Option<()> {
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(ufid) = rest.strip_prefix("ufid:") {
            rest = ufid.split_once(',').map_or("", |(_, rest)| rest).trim_start();
            continue;
        }
        let (name, behind) = rest.split_once('(')?;
        let end = closing(behind)?;
        let inner = &behind[..end];
        rest = behind[end + 1..].trim_start().trim_start_matches(',').trim_start();
        match name {
            "in_port" => *in_port = Some(inner.to_owned()),
            "encap" => read(inner, in_port, matches)?,
            // The tag says it.
            "eth_type" if matches!(value(inner), "0x8100" | "0x88a8") => {}
            "eth_type" => matches.push(format!("dl_type={}", value(inner))),
            "tcp_flags" => matches.push(format!("tcp_flags={}", value(inner))),
            name if IGNORED.contains(&name) => {}
            name => group(name, inner, matches)?,
        }
    }
    Some(())
}

/// Where the parenthesis closes that stands open at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| match c {
        '(' => {
            depth += 1;
            None
        }
        ')' if depth == 0 => Some(at),
        ')' => {
            depth -= 1;
            None
        }
        _ => None,
    })
}

/// Without its mask.
fn value(text: &str) -> &str {
    text.split('/').next().unwrap_or_default()
}

/// The fields of a group.
fn group(name: &str, inner: &str, matches: &mut Vec<String>) -> Option<()> {
    for (field, text) in inner
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once('=').unwrap_or((part, "")))
    {
        let text = value(text);
        let ofp = match (name, field) {
            ("eth", "src") => "dl_src",
            ("eth", "dst") => "dl_dst",
            ("vlan", "vid") => "dl_vlan",
            ("vlan", "pcp") => "dl_vlan_pcp",
            ("ipv4", "src") => "nw_src",
            ("ipv4", "dst") => "nw_dst",
            ("ipv6", "src") => "ipv6_src",
            ("ipv6", "dst") => "ipv6_dst",
            ("ipv6", "label") => "ipv6_label",
            ("ipv4" | "ipv6", "proto") => "nw_proto",
            ("ipv4", "ttl") | ("ipv6", "hlimit" | "ttl") => "nw_ttl",
            ("ipv4" | "ipv6", "frag") => "nw_frag",
            ("ipv4" | "ipv6", "ecn") => "nw_ecn",
            ("ipv4", "tos") | ("ipv6", "tclass" | "tos") => {
                let tos = number(text)?;
                matches.push(format!("nw_tos={},nw_ecn={}", tos & 0xfc, tos & 3));
                continue;
            }
            ("tcp" | "udp" | "sctp" | "tp", "src") => "tp_src",
            ("tcp" | "udp" | "sctp" | "tp", "dst") => "tp_dst",
            ("icmp", "type") => "icmp_type",
            ("icmp", "code") => "icmp_code",
            ("icmpv6", "type") => "icmpv6_type",
            ("icmpv6", "code") => "icmpv6_code",
            ("arp", "sip") => "arp_spa",
            ("arp", "tip") => "arp_tpa",
            ("arp", "op") => "arp_op",
            ("arp", "sha") => "arp_sha",
            ("arp", "tha") => "arp_tha",
            ("nd", "target") => "nd_target",
            ("nd", "sll") => "nd_sll",
            ("nd", "tll") => "nd_tll",
            ("tunnel", "tun_id") => "tun_id",
            ("tunnel", "src") => "tun_src",
            ("tunnel", "dst") => "tun_dst",
            ("tunnel", "ipv6_src") => "tun_ipv6_src",
            ("tunnel", "ipv6_dst") => "tun_ipv6_dst",
            // A tag says it of itself; the outer header's other fields are not looked at.
            ("vlan", "cfi") | ("tunnel", _) => continue,
            _ => return None,
        };
        matches.push(format!("{ofp}={text}"));
    }
    Some(())
}

fn number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<String>, String)> {
        parse(text).map(|flow| (flow.in_port, flow.matches))
    }

    #[test]
    fn what_dump_flows_prints_is_read() {
        let text = "recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),\
                    eth_type(0x0800),ipv4(src=10.0.0.0/255.0.0.0,dst=2.2.2.2,proto=6,tos=0x3/0x3,ttl=64,frag=no),\
                    tcp(src=1,dst=2),tcp_flags(0x2/0xfff)";
        let matches = "dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x0800,nw_src=10.0.0.0,nw_dst=2.2.2.2,\
                       nw_proto=6,nw_tos=0,nw_ecn=3,nw_ttl=64,nw_frag=no,tp_src=1,tp_dst=2,tcp_flags=0x2";
        assert_eq!(read(text), Some((Some("2".into()), matches.into())));
        let tagged =
            "in_port(p1),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0806),arp(sip=1.1.1.1,op=1))";
        let matches = "dl_vlan=5,dl_vlan_pcp=0,dl_type=0x0806,arp_spa=1.1.1.1,arp_op=1";
        assert_eq!(read(tagged), Some((Some("p1".into()), matches.into())));
        let tunnel = "tunnel(tun_id=0x5,src=1.1.1.1,dst=1.1.1.2,flags(-df-csum+key)),in_port(7)";
        assert_eq!(read(tunnel).unwrap().1, "tun_id=0x5,tun_src=1.1.1.1,tun_dst=1.1.1.2");
        assert_eq!(read(""), Some((None, String::new())));
    }

    #[test]
    fn what_is_no_datapath_flow_is_not_read() {
        for text in ["in_port=1", "br0", "in_port(1", "in_port(1),wormhole(x=1)", "ipv4(tos=300)"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
