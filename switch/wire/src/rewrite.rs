//! Setting header fields in place, with every checksum that covers them kept right (RFC 1624).
//!
//! All functions answer false, with nothing changed, when the frame does not have the field. They trust the
//! offsets only as far as the frame reaches. A checksum that was wrong stays wrong: the receiver shall see it.

use crate::addr::MacAddr;
use crate::bytes::{array, be16, put};
use crate::checksum::{Sum, update, update_udp};
use crate::crc32c;
use crate::field::{arp, ethernet, icmp, ipv4, ipv6, nd, ports, sctp, tcp, udp};
use crate::key::FlowKey;
use crate::parse::Parsed;
use crate::proto::{
    ETH_ARP, ETH_QINQ, ETH_VLAN, ETHERNET_LEN, IP_AH, IP_DSTOPTS, IP_FRAGMENT, IP_HOPOPTS, IP_ICMP,
    IP_ICMPV6, IP_ROUTING, IP_SCTP, IP_TCP, IP_UDP, IPV4_LEN, IPV6_LEN, VLAN_LEN,
};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Where the headers of a frame are, as [`crate::parse::extract`] found them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the L4 header; 0 when there is none (a later fragment, say).
    pub l4: u16,
    /// Protocol of the L4 header.
    pub proto: u8,
    /// Whether the TCP or UDP checksum is left to the device that sends the packet: its field is the sum of the pseudo
    /// header, not complemented, and has nothing of the L4 header in it.
    pub partial: bool,
}

impl Headers {
    /// From what extraction answered and the key that it filled.
    #[inline]
    pub const fn new(parsed: Parsed, key: &FlowKey) -> Headers {
        Headers { l3: parsed.l3, l4: parsed.l4, proto: key.nw_proto, partial: false }
    }
}

/// Which of a pair of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Source.
    Src,
    /// Destination.
    Dst,
}

/// Sets the Ethernet address.
#[inline]
pub fn set_mac(frame: &mut [u8], side: Side, mac: MacAddr) -> bool {
    let at = match side {
        Side::Dst => ethernet::DST,
        Side::Src => ethernet::SRC,
    };
    let is_there = frame.len() >= ETHERNET_LEN;
    if is_there {
        put(frame, at, mac.0);
    }
    is_there
}

/// Sets the TCI of the outermost tag.
pub fn set_vlan_tci(frame: &mut [u8], tci: u16) -> bool {
    let is_tagged = has_tag(frame);
    if is_tagged {
        put(frame, ethernet::TCI, tci.to_be_bytes());
    }
    is_tagged
}

/// Puts a tag in front of the others. `room` is four bytes of headroom and the frame behind them; the tagged
/// frame fills it all.
pub fn push_vlan(room: &mut [u8], tpid: u16, tci: u16) -> bool {
    if room.len() < VLAN_LEN + ETHERNET_LEN {
        return false;
    }
    room.copy_within(VLAN_LEN..VLAN_LEN + ethernet::TYPE, 0);
    put(room, ethernet::TYPE, tpid.to_be_bytes());
    put(room, ethernet::TCI, tci.to_be_bytes());
    true
}

/// Takes the outermost tag away: the frame then starts [`VLAN_LEN`] bytes further on.
pub fn pop_vlan(frame: &mut [u8]) -> bool {
    let is_tagged = has_tag(frame);
    if is_tagged {
        frame.copy_within(0..ethernet::TYPE, VLAN_LEN);
    }
    is_tagged
}

/// Whether there is a tag and an EtherType behind it.
fn has_tag(frame: &[u8]) -> bool {
    matches!(be16(frame, ethernet::TYPE), Some(ETH_VLAN | ETH_QINQ)) && frame.len() >= ETHERNET_LEN + VLAN_LEN
}

/// Sets an IPv4 address: IP, TCP and UDP checksums follow.
pub fn set_ipv4(frame: &mut [u8], headers: Headers, side: Side, addr: Ipv4Addr) -> bool {
    let l3 = usize::from(headers.l3);
    let Some(header) = ipv4_header(frame, l3) else { return false };
    let at = match side {
        Side::Src => ipv4::SRC,
        Side::Dst => ipv4::DST,
    };
    let old = Sum::of(&header[at..at + 4]);
    let new = Sum::of(&addr.octets());
    put(frame, l3 + at, addr.octets());
    update_at(frame, l3 + ipv4::CHECKSUM, old, new);
    update_pseudo(frame, headers, old, new);
    true
}

/// Sets an IPv6 address: TCP, UDP and ICMPv6 checksums follow, but for a destination that a routing header is
/// still to replace (the checksum is over the final one, RFC 8200, section 8.1).
pub fn set_ipv6(frame: &mut [u8], headers: Headers, side: Side, addr: Ipv6Addr) -> bool {
    let l3 = usize::from(headers.l3);
    let Some(header) = ipv6_header(frame, l3) else { return false };
    let at = match side {
        Side::Src => ipv6::SRC,
        Side::Dst => ipv6::DST,
    };
    let old = Sum::of(&header[at..at + 16]);
    let new = Sum::of(&addr.octets());
    put(frame, l3 + at, addr.octets());
    if side == Side::Src || !is_routed(frame, headers, header[ipv6::NEXT_HEADER]) {
        update_pseudo(frame, headers, old, new);
    }
    true
}

/// Sets the IPv4 TOS (checksum follows) or the IPv6 traffic class, DSCP and ECN.
pub fn set_tos(frame: &mut [u8], headers: Headers, tos: u8) -> bool {
    let l3 = usize::from(headers.l3);
    if let Some(header) = ipv4_header(frame, l3) {
        put(frame, l3 + ipv4::TOS, [tos]);
        update_at(frame, l3 + ipv4::CHECKSUM, Sum::of_u16(header[ipv4::TOS].into()), Sum::of_u16(tos.into()));
        return true;
    }
    let Some(header) = ipv6_header(frame, l3) else { return false };
    put(frame, l3, [0x60 | tos >> 4, tos << 4 | header[1] & 0x0f]);
    true
}

/// Sets the IPv4 TTL (checksum follows) or the IPv6 hop limit.
pub fn set_ttl(frame: &mut [u8], headers: Headers, ttl: u8) -> bool {
    let l3 = usize::from(headers.l3);
    if let Some(header) = ipv4_header(frame, l3) {
        put(frame, l3 + ipv4::TTL, [ttl]);
        update_at(frame, l3 + ipv4::CHECKSUM, Sum::of(&[header[ipv4::TTL], 0]), Sum::of(&[ttl, 0]));
        return true;
    }
    let is_there = ipv6_header(frame, l3).is_some();
    if is_there {
        put(frame, l3 + ipv6::HOP_LIMIT, [ttl]);
    }
    is_there
}

/// Sets the IPv6 flow label; bits beyond 20 are cut off.
pub fn set_ipv6_label(frame: &mut [u8], headers: Headers, label: u32) -> bool {
    let l3 = usize::from(headers.l3);
    let Some([a, b, c, d]) = ipv6_header(frame, l3).and_then(|header| header.first_chunk().copied()) else {
        return false;
    };
    let first = u32::from_be_bytes([a, b, c, d]) & 0xfff0_0000 | label & 0x000f_ffff;
    put(frame, l3, first.to_be_bytes());
    true
}

/// Bytes of an SCTP header.
const SCTP_LEN: usize = 12;

/// Sets a TCP, UDP or SCTP port: its checksum follows.
pub fn set_port(frame: &mut [u8], headers: Headers, side: Side, port: u16) -> bool {
    let l4 = usize::from(headers.l4);
    let at = match side {
        Side::Src => l4 + ports::SRC,
        Side::Dst => l4 + ports::DST,
    };
    let needed = match headers.proto {
        IP_TCP => 20,
        IP_UDP => 8,
        IP_SCTP => SCTP_LEN,
        _ => return false,
    };
    let Some(old) = be16(frame, at) else { return false };
    if l4 == 0 || frame.len() - l4 < needed {
        return false;
    }
    if headers.proto == IP_SCTP {
        return set_sctp_port(frame, headers, at, old ^ port);
    }
    put(frame, at, port.to_be_bytes());
    if !headers.partial {
        update_pseudo(frame, headers, Sum::of_u16(old), Sum::of_u16(port));
    }
    true
}

/// Lowers the maximum segment size option of a TCP header to what fits an IP packet of `mtu` bytes without options, with
/// the checksum; false where there is none, or it is no larger.
pub fn clamp_mss(frame: &mut [u8], headers: Headers, mtu: u16) -> bool {
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let network = if ipv4_header(frame, l3).is_some() { 20 } else { 40 };
    let most = mtu.saturating_sub(network + 20);
    if headers.proto != IP_TCP || l4 == 0 {
        return false;
    }
    let Some(words) = frame.get(l4 + 12).map(|byte| usize::from(byte >> 4)) else { return false };
    let end = (l4 + words * 4).min(frame.len());
    let mut at = l4 + 20;
    while at + 4 <= end {
        match (frame[at], frame[at + 1]) {
            // No operation.
            (1, _) => at += 1,
            // The end, or shorter than itself.
            (0, _) | (_, 0 | 1) => return false,
            (2, 4) => {
                let offered = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
                if offered <= most {
                    return false;
                }
                put(frame, at + 2, most.to_be_bytes());
                if !headers.partial {
                    // Behind an odd number of bytes the two lie in different words of the sum.
                    let in_sum = |value: u16| if (at - l4) % 2 == 1 { value.swap_bytes() } else { value };
                    update_pseudo(frame, headers, Sum::of_u16(in_sum(offered)), Sum::of_u16(in_sum(most)));
                }
                return true;
            }
            (_, len) => at += usize::from(len),
        }
    }
    false
}

/// XORs `change` into the SCTP port at `at`, and what follows from that into the CRC. That covers all that the IP
/// packet carries; of a first fragment, whose CRC is over more than is here, it becomes wrong, as in OVS.
fn set_sctp_port(frame: &mut [u8], headers: Headers, at: usize, change: u16) -> bool {
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let len = if ipv4_header(frame, l3).is_some() {
        be16(frame, l3 + ipv4::TOTAL_LEN).map(usize::from)
    } else {
        ipv6_header(frame, l3).and(be16(frame, l3 + ipv6::PAYLOAD_LEN)).map(|len| IPV6_LEN + usize::from(len))
    };
    let end = len.map_or(0, |len| l3 + len);
    let (Some(port), Some(crc)) = (be16(frame, at), array::<4>(frame, l4 + sctp::CHECKSUM)) else {
        return false;
    };
    if end > frame.len() || end < l4 + SCTP_LEN {
        return false;
    }
    let by = crc32c::difference(&change.to_be_bytes(), end - at - 2);
    put(frame, at, (port ^ change).to_be_bytes());
    put(frame, l4 + sctp::CHECKSUM, (u32::from_le_bytes(crc) ^ by).to_le_bytes());
    true
}

fn ipv4_header(frame: &[u8], l3: usize) -> Option<[u8; IPV4_LEN]> {
    array(frame, l3).filter(|header: &[u8; IPV4_LEN]| header[0] >> 4 == 4)
}

fn ipv6_header(frame: &[u8], l3: usize) -> Option<[u8; IPV6_LEN]> {
    array(frame, l3).filter(|header: &[u8; IPV6_LEN]| header[0] >> 4 == 6)
}

/// Updates a checksum field that is never "none".
fn update_at(frame: &mut [u8], at: usize, old: Sum, new: Sum) {
    if let Some(sum) = be16(frame, at) {
        put(frame, at, update(sum, old, new).to_be_bytes());
    }
}

/// Updates the checksum of an L4 header that covers what changed, be it in the pseudo header or its own.
fn update_pseudo(frame: &mut [u8], headers: Headers, old: Sum, new: Sum) {
    let l4 = usize::from(headers.l4);
    match headers.proto {
        _ if l4 == 0 => {}
        IP_TCP | IP_UDP if headers.partial => {
            let field = l4 + if headers.proto == IP_TCP { tcp::CHECKSUM } else { udp::CHECKSUM };
            if let Some(sum) = be16(frame, field) {
                put(frame, field, (Sum::of_u16(sum) + old.negated() + new).fold().to_be_bytes());
            }
        }
        IP_TCP => update_at(frame, l4 + tcp::CHECKSUM, old, new),
        IP_UDP => {
            if let Some(sum) = be16(frame, l4 + udp::CHECKSUM) {
                put(frame, l4 + udp::CHECKSUM, update_udp(sum, old, new).to_be_bytes());
            }
        }
        // Over IPv4 this number is as unknown as any other, but ICMP (1) there has no pseudo header.
        IP_ICMPV6 if frame.get(usize::from(headers.l3)).is_some_and(|byte| byte >> 4 == 6) => {
            update_at(frame, l4 + icmp::CHECKSUM, old, new);
        }
        _ => {}
    }
}

/// Whether a routing header with segments left lies between the IPv6 header and the L4 header.
fn is_routed(frame: &[u8], headers: Headers, next: u8) -> bool {
    let mut at = usize::from(headers.l3) + IPV6_LEN;
    let mut proto = next;
    while at < usize::from(headers.l4) {
        let Some([next, units, _, segments_left]) = array(frame, at) else { return false };
        at += match proto {
            IP_ROUTING if segments_left > 0 => return true,
            IP_HOPOPTS | IP_ROUTING | IP_DSTOPTS => (usize::from(units) + 1) * 8,
            IP_AH => (usize::from(units) + 2) * 4,
            IP_FRAGMENT => 8,
            _ => return false,
        };
        proto = next;
    }
    false
}

/// Sets the type (`at` 0) or code (`at` 1) of an ICMP or ICMPv6 message: its checksum follows.
pub fn set_icmp(frame: &mut [u8], headers: Headers, at: usize, value: u8) -> bool {
    let l4 = usize::from(headers.l4);
    let is_v4 = ipv4_header(frame, headers.l3.into()).is_some();
    let is_icmp = if is_v4 { headers.proto == IP_ICMP } else { headers.proto == IP_ICMPV6 };
    let Some([kind, code, _, _]) = array(frame, l4).filter(|_| is_icmp && l4 != 0 && at < 2) else {
        return false;
    };
    let mut new = [kind, code];
    new[at] = value;
    put(frame, l4, new);
    update_at(frame, l4 + icmp::CHECKSUM, Sum::of(&[kind, code]), Sum::of(&new));
    true
}

/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_LEN: usize = 28;

/// Where the ARP packet of a frame starts.
fn arp(frame: &[u8], headers: Headers) -> Option<usize> {
    let l3 = usize::from(headers.l3);
    let is_arp = l3 >= ETHERNET_LEN && be16(frame, l3 - 2) == Some(ETH_ARP);
    (is_arp && frame.len() - l3.min(frame.len()) >= ARP_LEN).then_some(l3)
}

/// Sets the ARP opcode.
pub fn set_arp_op(frame: &mut [u8], headers: Headers, op: u16) -> bool {
    arp(frame, headers).inspect(|at| put(frame, at + arp::OP, op.to_be_bytes())).is_some()
}

/// Sets the hardware address of the ARP sender (`Src`) or target.
pub fn set_arp_mac(frame: &mut [u8], headers: Headers, side: Side, mac: MacAddr) -> bool {
    let offset = if side == Side::Src { arp::SHA } else { arp::THA };
    arp(frame, headers).inspect(|at| put(frame, at + offset, mac.0)).is_some()
}

/// Sets the IPv4 address of the ARP sender (`Src`) or target.
pub fn set_arp_ip(frame: &mut [u8], headers: Headers, side: Side, addr: Ipv4Addr) -> bool {
    let offset = if side == Side::Src { arp::SPA } else { arp::TPA };
    arp(frame, headers).inspect(|at| put(frame, at + offset, addr.octets())).is_some()
}

/// Bytes of an ND solicitation or advertisement without options.
const ND_LEN: usize = nd::OPTIONS;
/// ICMPv6 type of a neighbour solicitation.
const ND_SOLICIT: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
const ND_ADVERT: u8 = 136;

/// Start and type of the ND message of a frame.
fn nd(frame: &[u8], headers: Headers) -> Option<(usize, u8)> {
    let l4 = usize::from(headers.l4);
    let kind = *frame.get(l4).filter(|_| l4 != 0 && headers.proto == IP_ICMPV6)?;
    let is_nd = ipv6_header(frame, headers.l3.into()).is_some() && matches!(kind, ND_SOLICIT | ND_ADVERT);
    (is_nd && frame.len() - l4 >= ND_LEN).then_some((l4, kind))
}

/// Sets the target of an ND solicitation or advertisement: the checksum follows.
pub fn set_nd_target(frame: &mut [u8], headers: Headers, addr: Ipv6Addr) -> bool {
    let Some((l4, _)) = nd(frame, headers) else { return false };
    let old = Sum::of(&frame[l4 + nd::TARGET..l4 + ND_LEN]);
    put(frame, l4 + nd::TARGET, addr.octets());
    update_at(frame, l4 + icmp::CHECKSUM, old, Sum::of(&addr.octets()));
    true
}

/// Sets the link-layer address option of an ND solicitation (`Src`) or advertisement (`Dst`), where it has one: the
/// checksum follows.
pub fn set_nd_link(frame: &mut [u8], headers: Headers, side: Side, mac: MacAddr) -> bool {
    let Some((l4, kind)) = nd(frame, headers) else { return false };
    let (message, wanted) = if side == Side::Src { (ND_SOLICIT, 1) } else { (ND_ADVERT, 2) };
    let mut at = l4 + ND_LEN;
    while let Some([option, units]) = array::<2>(frame, at).filter(|_| kind == message) {
        let len = usize::from(units) * 8;
        if len == 0 || frame.len() - at < len {
            return false;
        }
        if option == wanted && len == 8 {
            let old = Sum::of(&frame[at + nd::OPTION_MAC..at + len]);
            put(frame, at + nd::OPTION_MAC, mac.0);
            update_at(frame, l4 + icmp::CHECKSUM, old, Sum::of(&mac.0));
            return true;
        }
        at += len;
    }
    false
}
