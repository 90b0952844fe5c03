//! What the sender of a packet that does not fit a tunnel is told: ICMP "fragmentation needed" (RFC 1191) or ICMPv6
//! "packet too big" (RFC 8201), as Linux says it for a bridged tunnel. The switch has no address in the overlay, so the
//! message comes from the packet's destination.

use crate::bytes::{array, be16, put};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, ETHERNET_LEN, IP_AH, IP_DSTOPTS, IP_FRAGMENT, IP_HOPOPTS,
    IP_ICMP, IP_ICMPV6, IP_ROUTING, IP_UDP, IPV4_LEN, IPV4_OFFSET, IPV6_LEN, VLAN_LEN,
};
use crate::tunnel::Transport;
use crate::view::{Icmpv4Repr, Icmpv6Repr, Ipv4Repr, Ipv6Repr};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a frame that [`too_big_reply`] needs at most: Ethernet, two tags, and what an ICMPv6 error quotes.
pub const QUOTED_MAX: usize = ETHERNET_LEN + 2 * VLAN_LEN + 1280;
/// Bytes of the longest answer.
pub const REPLY_MAX: usize = ETHERNET_LEN + 2 * VLAN_LEN + 1280;

/// Below this an IPv4 host does not go (RFC 791: what every host can receive).
const MIN_MTU_V4: usize = 576;
/// Smallest MTU of an IPv6 link (RFC 8200).
const MIN_MTU_V6: usize = 1280;
const TTL: u8 = 64;
const HOP_LIMIT_V6: u8 = 255;
/// Extension headers that are looked behind.
const MAX_EXTENSIONS: usize = 8;

/// Writes the answer to a frame that is longer than `longest` bytes into `out`, MAC addresses swapped and tags kept, and
/// says how long it is. IPv4 without DF is answered, too: the tunnel does not divide it, and Linux and others learn from it.
/// `None` where there is none: to later fragments and what is no IP, to errors, and to addresses of no single host.
pub fn too_big_reply(frame: &[u8], longest: usize, out: &mut [u8; REPLY_MAX]) -> Option<usize> {
    let mut at = ETHERNET_LEN;
    let mut ethertype = be16(frame, ETHERNET_LEN - 2)?;
    while matches!(ethertype, ETH_VLAN | ETH_QINQ) && at < ETHERNET_LEN + 2 * VLAN_LEN {
        ethertype = be16(frame, at + 2)?;
        at += VLAN_LEN;
    }
    // To many, or from many.
    if frame.first()? & 1 != 0 || frame.get(6)? & 1 != 0 {
        return None;
    }
    let mtu = longest.checked_sub(at)?;
    let packet = frame.get(at..)?;
    let len = match ethertype {
        ETH_IPV4 => frag_needed(packet, mtu, out.get_mut(at..)?)?,
        ETH_IPV6 => packet_too_big(packet, mtu, out.get_mut(at..)?)?,
        _ => return None,
    };
    out.get_mut(..at)?.copy_from_slice(frame.get(..at)?);
    put::<6>(out, 0, array(frame, 6)?);
    put::<6>(out, 6, array(frame, 0)?);
    Some(at + len)
}

/// Source, destination and transport of the packet that an error quotes, which says whether it was a tunnel's. Not of later
/// fragments, nor behind extension headers: no tunnel packet has these.
pub fn quoted(original: &[u8]) -> Option<(IpAddr, IpAddr, Transport)> {
    let first = original.first()?;
    let (src, dst, protocol, l4) = match first >> 4 {
        4 if be16(original, 6)? & IPV4_OFFSET == 0 => {
            let (src, dst) = (array::<4>(original, 12)?, array::<4>(original, 16)?);
            (src.into(), dst.into(), *original.get(9)?, usize::from(first & 15) * 4)
        }
        6 => {
            let (src, dst) = (array::<16>(original, 8)?, array::<16>(original, 24)?);
            (src.into(), dst.into(), *original.get(6)?, IPV6_LEN)
        }
        _ => return None,
    };
    let port = if protocol == IP_UDP { be16(original, l4 + 2)? } else { 0 };
    Some((src, dst, Transport { protocol, port }))
}

fn frag_needed(packet: &[u8], mtu: usize, out: &mut [u8]) -> Option<usize> {
    let head: [u8; IPV4_LEN] = array(packet, 0)?;
    let header_len = usize::from(head[0] & 15) * 4;
    let (src, dst) = (Ipv4Addr::from(array::<4>(packet, 12)?), Ipv4Addr::from(array::<4>(packet, 16)?));
    // A later fragment does not say whose it is (RFC 1122, section 3.2.2).
    let is_first = be16(packet, 6)? & IPV4_OFFSET == 0;
    if head[0] >> 4 != 4 || header_len < IPV4_LEN || !is_first || mtu < MIN_MTU_V4 {
        return None;
    }
    let is_host = |ip: Ipv4Addr| !(ip.is_multicast() || ip.is_broadcast());
    if !is_host(dst) || !is_host(src) || src.octets()[0] == 0 || src.is_loopback() {
        return None;
    }
    // An error about an error would go back and forth (RFC 1122, section 3.2.2).
    if head[9] == IP_ICMP && matches!(packet.get(header_len)?, 3 | 4 | 5 | 11 | 12) {
        return None;
    }
    let message = Icmpv4Repr::FragNeeded { mtu: u16::try_from(mtu).ok()?, original: packet };
    let ip = Ipv4Repr { src: dst, dst: src, proto: IP_ICMP, tos: 0, ttl: TTL, id: 0, df: false };
    let at = ip.emit(out, message.len()).ok()?;
    Some(at + message.emit(out.get_mut(at..)?).ok()?)
}

fn packet_too_big(packet: &[u8], mtu: usize, out: &mut [u8]) -> Option<usize> {
    let head: [u8; IPV6_LEN] = array(packet, 0)?;
    let (src, dst) = (Ipv6Addr::from(array::<16>(packet, 8)?), Ipv6Addr::from(array::<16>(packet, 24)?));
    if head[0] >> 4 != 6 || mtu < MIN_MTU_V6 {
        return None;
    }
    if src.is_multicast() || src.is_unspecified() || src.is_loopback() || dst.is_multicast() {
        return None;
    }
    if is_icmpv6_error(packet, head[6]) {
        return None;
    }
    let message = Icmpv6Repr::PacketTooBig { mtu: u32::try_from(mtu).ok()?, original: packet };
    let ip = Ipv6Repr {
        src: dst,
        dst: src,
        next_header: IP_ICMPV6,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: HOP_LIMIT_V6,
    };
    let at = ip.emit(out, message.len()).ok()?;
    Some(at + message.emit(out.get_mut(at..)?, dst, src).ok()?)
}

/// Whether a packet carries an ICMPv6 error, or what cannot be told (RFC 4443, section 2.4 (e)).
fn is_icmpv6_error(packet: &[u8], first: u8) -> bool {
    let (mut next, mut at) = (first, IPV6_LEN);
    for _ in 0..MAX_EXTENSIONS {
        let length = match next {
            IP_ICMPV6 => return packet.get(at).is_none_or(|kind| *kind < 128),
            IP_HOPOPTS | IP_ROUTING | IP_DSTOPTS => packet.get(at + 1).map(|n| (usize::from(*n) + 1) * 8),
            IP_AH => packet.get(at + 1).map(|n| (usize::from(*n) + 2) * 4),
            IP_FRAGMENT => match be16(packet, at + 2) {
                // What a later fragment carries is not seen.
                Some(offset) if offset & 0xfff8 != 0 => return false,
                _ => Some(8),
            },
            _ => return false,
        };
        let (Some(length), Some(after)) = (length, packet.get(at)) else { return true };
        (next, at) = (*after, at + length);
    }
    true
}
