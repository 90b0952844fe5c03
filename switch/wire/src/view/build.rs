//! Whole frames, each in one call. All answer with the frame's length.

use super::{
    ArpOp, ArpRepr, EthernetRepr, Icmpv4Repr, Icmpv6Repr, Ipv4Repr, Ipv6Repr, UdpRepr, ViewError, room,
};
use super::{multicast_mac, solicited_node};
use crate::addr::MacAddr;
use crate::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMP, IP_ICMPV6, IP_UDP, IPV4_LEN, IPV6_LEN, UDP_LEN};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hop limit of neighbour discovery, by which a receiver knows that no router was between.
const ND_HOP_LIMIT: u8 = 255;
const HOP_LIMIT: u8 = 64;

/// Writes an ARP frame; `eth` gives addresses and tag.
pub fn build_arp(out: &mut [u8], eth: &EthernetRepr, arp: &ArpRepr) -> Result<usize, ViewError> {
    let eth = EthernetRepr { ethertype: ETH_ARP, ..*eth };
    let out = room(out, eth.len() + ArpRepr::LEN)?;
    let at = eth.emit(out)?;
    Ok(at + arp.emit(&mut out[at..])?)
}

/// Writes a broadcast ARP request for `tpa` from `sha` and `spa`.
pub fn build_arp_request(
    out: &mut [u8],
    sha: MacAddr,
    spa: Ipv4Addr,
    tpa: Ipv4Addr,
    vlan_tci: Option<u16>,
) -> Result<usize, ViewError> {
    let eth = EthernetRepr { dst: MacAddr::BROADCAST, src: sha, vlan_tci, ethertype: ETH_ARP };
    build_arp(out, &eth, &ArpRepr { op: ArpOp::Request, sha, spa, tha: MacAddr::ZERO, tpa })
}

/// Writes an ICMP frame from `src` to `dst`; `eth` gives addresses and tag.
pub fn build_icmpv4(
    out: &mut [u8],
    eth: &EthernetRepr,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    message: &Icmpv4Repr<'_>,
) -> Result<usize, ViewError> {
    let eth = EthernetRepr { ethertype: ETH_IPV4, ..*eth };
    let out = room(out, eth.len() + IPV4_LEN + message.len())?;
    let mut at = eth.emit(out)?;
    let ip = Ipv4Repr { src, dst, proto: IP_ICMP, tos: 0, ttl: HOP_LIMIT, id: 0, df: true };
    at += ip.emit(&mut out[at..], message.len())?;
    Ok(at + message.emit(&mut out[at..])?)
}

/// Writes an ICMPv6 frame from `src` to `dst`; `eth` gives addresses and tag.
pub fn build_icmpv6(
    out: &mut [u8],
    eth: &EthernetRepr,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    message: &Icmpv6Repr<'_>,
) -> Result<usize, ViewError> {
    let eth = EthernetRepr { ethertype: ETH_IPV6, ..*eth };
    let out = room(out, eth.len() + IPV6_LEN + message.len())?;
    let mut at = eth.emit(out)?;
    let hop_limit = match message {
        Icmpv6Repr::NeighbourSolicit { .. } | Icmpv6Repr::NeighbourAdvert { .. } => ND_HOP_LIMIT,
        _ => HOP_LIMIT,
    };
    let ip = Ipv6Repr { src, dst, next_header: IP_ICMPV6, traffic_class: 0, flow_label: 0, hop_limit };
    at += ip.emit(&mut out[at..], message.len())?;
    Ok(at + message.emit(&mut out[at..], src, dst)?)
}

/// Writes a neighbour solicitation for `target` to its solicited-node group, from `mac` and `src`.
pub fn build_neighbour_solicit(
    out: &mut [u8],
    mac: MacAddr,
    src: Ipv6Addr,
    target: Ipv6Addr,
    vlan_tci: Option<u16>,
) -> Result<usize, ViewError> {
    let dst = solicited_node(target);
    let eth = EthernetRepr { dst: multicast_mac(dst), src: mac, vlan_tci, ethertype: ETH_IPV6 };
    build_icmpv6(out, &eth, src, dst, &Icmpv6Repr::NeighbourSolicit { target, sll: Some(mac) })
}

/// Writes a UDP frame from `src` to `dst`, which are of one family; `eth` gives addresses and tag.
pub fn build_udp(
    out: &mut [u8],
    eth: &EthernetRepr,
    src: IpAddr,
    dst: IpAddr,
    udp: UdpRepr,
    payload: &[u8],
) -> Result<usize, ViewError> {
    let len = UDP_LEN + payload.len();
    let mut at;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            at = EthernetRepr { ethertype: ETH_IPV4, ..*eth }.emit(out)?;
            let ip = Ipv4Repr { src, dst, proto: IP_UDP, tos: 0, ttl: HOP_LIMIT, id: 0, df: true };
            at += ip.emit(&mut out[at..], len)?;
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            at = EthernetRepr { ethertype: ETH_IPV6, ..*eth }.emit(out)?;
            let ip = Ipv6Repr {
                src,
                dst,
                next_header: IP_UDP,
                traffic_class: 0,
                flow_label: 0,
                hop_limit: HOP_LIMIT,
            };
            at += ip.emit(&mut out[at..], len)?;
        }
        _ => return Err(ViewError::Malformed { what: "UDP", expected: "addresses of one family" }),
    }
    Ok(at + udp.emit(&mut out[at..], src, dst, payload)?)
}
