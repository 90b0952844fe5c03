//! Tunnel termination: the outer headers of a tunnel packet.
//!
//! Two steps. [`peek`] is cheap and answers "could this be for a VTEP of mine?": where the frame goes, by
//! MAC, address, IP protocol and UDP port. The caller looks that up, which says the tunnel's format, and only then asks
//! [`parse_outer`], which checks all that can be checked and reads the tunnel header. A tunnel packet is an Ethernet
//! frame, untagged or with one 802.1Q tag, of IPv4 (with or without options) or IPv6 (without extension headers), UDP or
//! a protocol of its own, a tunnel header, and an inner Ethernet frame.

use super::{Transport, TunnelFormat, is_transport};
use crate::addr::MacAddr;
use crate::bytes::{array, be16, part};
use crate::checksum;
use crate::field::{ethernet, ipv4, ipv6, ports, udp};
use crate::key::{FlowKey, TUN_CSUM, TUN_DF, TUN_GBP, TUN_IPV6, TUN_PRESENT};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_VLAN, ETHERNET_LEN, IP_FRAGMENT, IP_UDP, IPV4_DF, IPV4_LEN, IPV4_MF, IPV4_OFFSET,
    IPV6_LEN, UDP_LEN, VLAN_LEN,
};
use crate::reason::reasons;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::{U16, U32};

reasons! {
    /// Why a packet to a VTEP cannot be decapsulated.
    pub enum OuterError {
        Transport = "tunnel_transport", "the packet is not IPv4 or IPv6 with a protocol that carries tunnels";
        Ipv4Header = "tunnel_ipv4_header", "the outer IPv4 header is cut off or its IHL is below 5";
        Ipv4Checksum = "tunnel_ipv4_checksum", "the outer IPv4 header checksum is wrong";
        Ipv4Length = "tunnel_ipv4_length", "the outer IPv4 total length is below the headers' or beyond the frame";
        Ipv6Header = "tunnel_ipv6_header", "the outer IPv6 header is cut off";
        Ipv6Length = "tunnel_ipv6_length", "the outer IPv6 payload length is below the headers' or beyond the frame";
        Fragment = "tunnel_fragment", "the outer packet is a fragment";
        UdpLength = "tunnel_udp_length", "the outer UDP length is below 8 or beyond the IP packet";
        UdpChecksum = "tunnel_udp_checksum", "the outer UDP checksum is wrong";
        UdpZeroChecksumV6 = "tunnel_udp6_zero_checksum", "the outer UDP checksum over IPv6 is zero, which is not allowed here";
        Truncated = "tunnel_truncated", "the tunnel header is cut off";
        Checksum = "tunnel_checksum", "the tunnel header's checksum is wrong";
        Protocol = "tunnel_protocol", "what follows the tunnel header is not an Ethernet frame";
        InnerTruncated = "tunnel_inner_truncated", "the inner frame is shorter than an Ethernet header (14 bytes)";
        VxlanNoVniFlag = "vxlan_no_vni_flag", "the VXLAN header's I flag is not set";
        GeneveVersion = "geneve_version", "the Geneve header's version is not 0";
        GeneveOptions = "geneve_options", "a Geneve option goes beyond the end of the options";
        GeneveCritical = "geneve_critical", "a critical Geneve option is not known here (RFC 8926)";
        GreFlags = "gre_flags", "the GRE header has a version, routing or other bits of RFC 1701 that RFC 2784 has done away with";
    }
}

/// Where a packet goes that may be tunnel traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// Offset of the IP header: 14, or 18 behind a tag.
    pub l3: u16,
    /// Offset of what IP carries.
    pub l4: u16,
    /// VLAN ID of the frame's 802.1Q tag, `None` without a tag.
    pub vid: Option<u16>,
    /// Ethernet destination.
    pub dl_dst: MacAddr,
    /// IP destination.
    pub dst: IpAddr,
    /// IP protocol and UDP destination port.
    pub transport: Transport,
}

/// A tunnel packet whose outer headers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// VNI or key.
    pub id: u32,
    /// Group policy ID, with [`TUN_GBP`].
    pub gbp_id: u16,
    /// Group policy flags, with [`TUN_GBP`].
    pub gbp_flags: u8,
    /// Bytes of options in front of the inner frame.
    pub options_len: u16,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination, of the same family.
    pub dst: IpAddr,
    /// IP protocol and UDP destination port.
    pub transport: Transport,
    /// Outer TOS or traffic class.
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// `TUN_*` bits of [`crate::key`].
    pub flags: u16,
    /// Offset of the inner frame in the outer one, in bytes.
    pub inner_offset: u16,
    /// Length of the inner frame in bytes, at least 14.
    pub inner_len: u16,
    /// Bytes of the frame beyond the tunnel packet (padding), to be trimmed with the outer headers.
    pub trailing: u16,
    /// The packet goes on in other segments and has a checksum of UDP or of the tunnel header: what its bytes have to sum
    /// up with, for [`L4Checksum::verify`].
    pub unverified: Option<L4Checksum>,
}

/// A checksum over all that IP carries which is still to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct L4Checksum {
    pseudo: checksum::Sum,
    /// Offset of what IP carries in the packet, in bytes.
    l4: usize,
    /// Bytes of it.
    len: usize,
    /// What a wrong one is called.
    error: OuterError,
}

impl L4Checksum {
    /// Says whether the checksum is right; `segments` are all bytes of the packet.
    ///
    /// # Errors
    /// The error of a wrong checksum.
    pub fn verify<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> Result<(), OuterError> {
        let (mut sum, mut skip, mut left, mut odd) = (self.pseudo, self.l4, self.len, false);
        for segment in segments {
            let start = skip.min(segment.len());
            skip -= start;
            let part = &segment[start..(start + left).min(segment.len())];
            left -= part.len();
            sum = sum.append(part, odd);
            odd ^= part.len() % 2 == 1;
        }
        if left == 0 && sum.fold() == 0xffff { Ok(()) } else { Err(self.error) }
    }
}

impl Outer {
    /// Offset of the options.
    #[inline]
    pub const fn options_offset(&self) -> usize {
        (self.inner_offset - self.options_len) as usize
    }

    /// Writes every `tun_*` field of `key`: those that the packet does not have become zero.
    #[inline]
    pub fn fill_key(&self, key: &mut FlowKey) {
        clear_tunnel(key);
        key.tun_id = self.id;
        key.tun_tos = self.tos;
        key.tun_ttl = self.ttl;
        key.tun_flags = self.flags;
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                key.tun_src = U32::from_bytes(src.octets());
                key.tun_dst = U32::from_bytes(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                key.tun_ipv6_src = src.octets();
                key.tun_ipv6_dst = dst.octets();
            }
            // The parsers below make both of one family.
            _ => {}
        }
        if self.flags & TUN_GBP != 0 {
            key.tun_gbp_id = U16::new(self.gbp_id);
            key.tun_gbp_flags = self.gbp_flags;
        }
    }
}

/// Zeroes every `tun_*` field of `key`: the packet came out of no tunnel.
#[inline]
pub fn clear_tunnel(key: &mut FlowKey) {
    key.tun_id = 0;
    key.tun_flags = 0;
    key.tun_tos = 0;
    key.tun_ttl = 0;
    key.tun_gbp_id = U16::ZERO;
    key.tun_gbp_flags = 0;
    let words = key.words_mut();
    words[1] = 0;
    words[12..16].fill(0);
    words[20..].fill(0);
}

/// Bytes of Ethernet, IPv4 without options, UDP.
const PEEK_LEN: usize = PEEK_L4 + UDP_LEN;
/// Offset of the UDP header behind IPv4 without options.
const PEEK_L4: usize = ETHERNET_LEN + IPV4_LEN;
/// Whether the first bytes are those of untagged, unfragmented IPv4 without options that carries UDP.
#[allow(clippy::needless_bitwise_bool, reason = "one branch on all tests together is the point")]
#[inline(always)]
fn is_ordinary_v4<const LEN: usize>(head: &[u8; LEN]) -> bool {
    let [type0, type1, version_ihl] = part::<{ ethernet::TYPE }, 3, LEN>(head);
    let fragment = u16::from_be_bytes(part::<{ ETHERNET_LEN + ipv4::FRAGMENT }, 2, LEN>(head));
    let [proto] = part::<{ ETHERNET_LEN + ipv4::PROTOCOL }, 1, LEN>(head);
    (u16::from_be_bytes([type0, type1]) == ETH_IPV4)
        & (version_ihl == 0x45)
        & (fragment & (IPV4_MF | IPV4_OFFSET) == 0)
        & (proto == IP_UDP)
}

/// Where `frame` goes, if it is a packet that may be tunnel traffic: untagged or with one 802.1Q tag, not a fragment, of a
/// protocol that carries tunnels, a UDP header all there. Nothing else is checked.
#[inline]
pub fn peek(frame: &[u8]) -> Option<Peek> {
    if let Some(head) = frame.first_chunk::<PEEK_LEN>()
        && is_ordinary_v4(head)
    {
        return Some(Peek {
            l3: ETHERNET_LEN as u16,
            l4: PEEK_L4 as u16,
            vid: None,
            dl_dst: MacAddr(part::<{ ethernet::DST }, 6, PEEK_LEN>(head)),
            dst: IpAddr::V4(Ipv4Addr::from(part::<{ ETHERNET_LEN + ipv4::DST }, 4, PEEK_LEN>(head))),
            transport: Transport::udp(u16::from_be_bytes(part::<{ PEEK_L4 + ports::DST }, 2, PEEK_LEN>(
                head,
            ))),
        });
    }
    peek_general(frame)
}

/// [`peek`] without its fast way: public so that tests can compare the two.
#[inline(never)]
pub fn peek_general(frame: &[u8]) -> Option<Peek> {
    let located = locate(frame).ok()?;
    let mut port = 0;
    if located.protocol == IP_UDP {
        port = be16(frame, located.l4 + ports::DST).filter(|_| frame.len() >= located.l4 + UDP_LEN)?;
    }
    Some(Peek {
        l3: located.l3 as u16,
        l4: located.l4 as u16,
        vid: located.vid,
        dl_dst: MacAddr(array(frame, ethernet::DST)?),
        dst: located.dst,
        transport: Transport { protocol: located.protocol, port },
    })
}

/// Whether the outer headers of two tunnel packets, which `a` and `b` are, differ in nothing but lengths, identifications and
/// checksums. A GRE header with a sequence number or a checksum is of one packet only.
pub fn has_same_outer(a: &[u8], b: &[u8]) -> bool {
    let (Some(of_a), Some(of_b)) = (peek(a), peek(b)) else { return false };
    let (l3, l4) = (usize::from(of_a.l3), usize::from(of_a.l4));
    let is_same = |from: usize, to: usize| a.get(from..to).is_some_and(|part| b.get(from..to) == Some(part));
    let ip = if of_a.dst.is_ipv6() {
        is_same(0, l3 + ipv6::PAYLOAD_LEN) && is_same(l3 + ipv6::NEXT_HEADER, l4)
    } else {
        is_same(0, l3 + ipv4::TOTAL_LEN)
            && is_same(l3 + ipv4::FRAGMENT, l3 + ipv4::CHECKSUM)
            && is_same(l3 + ipv4::SRC, l4)
    };
    let l4 = if of_a.transport.protocol == IP_UDP {
        is_same(l4, l4 + udp::LEN) && is_same(l4 + UDP_LEN, a.len())
    } else {
        is_same(l4, a.len())
    };
    of_a == of_b && a.len() == b.len() && ip && l4
}

/// Checks the outer headers of `frame`, a tunnel packet of this format, and reads them.
///
/// IPv4: header checksum, total length. UDP: length, and the checksum when there is one; none is legal over
/// IPv4, and over IPv6 only with `allow_zero_csum6` (RFC 6935). The tunnel header: what its format asks for.
///
/// # Errors
/// The first [`OuterError`] that applies.
#[inline]
pub fn parse_outer(frame: &[u8], format: &TunnelFormat, allow_zero_csum6: bool) -> Result<Outer, OuterError> {
    parse_outer_chain(frame, 0, format, allow_zero_csum6)
}

/// [`parse_outer`] for a packet of several segments: `frame` is the first, which has all outer headers, and `more` bytes
/// are in the others.
///
/// # Errors
/// The first [`OuterError`] that applies; a checksum of UDP or of the tunnel header is left to [`Outer::unverified`].
pub fn parse_outer_chain(
    frame: &[u8],
    more: usize,
    format: &TunnelFormat,
    allow_zero_csum6: bool,
) -> Result<Outer, OuterError> {
    parse_outer_as(frame, more, format, allow_zero_csum6, verify)
}

/// [`parse_outer_chain`] for a packet whose UDP checksum is still to be completed: all checksums of UDP and of the tunnel
/// header are left to [`Outer::unverified`].
///
/// # Errors
/// The first [`OuterError`] that applies.
pub fn parse_outer_partial(
    frame: &[u8],
    more: usize,
    format: &TunnelFormat,
    allow_zero_csum6: bool,
) -> Result<Outer, OuterError> {
    parse_outer_as(frame, more, format, allow_zero_csum6, |sum, _| Ok(Some(sum)))
}

fn parse_outer_as(
    frame: &[u8],
    more: usize,
    format: &TunnelFormat,
    allow_zero_csum6: bool,
    verify: impl Fn(L4Checksum, &[u8]) -> Result<Option<L4Checksum>, OuterError>,
) -> Result<Outer, OuterError> {
    let Located { l3, l4, protocol, src, dst, .. } = locate(frame)?;
    if protocol != format.protocol {
        return Err(OuterError::Transport);
    }
    let is_udp = protocol == IP_UDP;
    let shortest = if is_udp { UDP_LEN } else { 0 };
    let ip = frame.get(l3..).unwrap_or(&[]);
    let is_v6 = src.is_ipv6();
    let first = array::<4>(ip, 0).ok_or(OuterError::Ipv4Header)?;
    // End of the IP packet, from its start.
    let (end, tos, ttl, df) = if is_v6 {
        let tail = array::<4>(ip, 4).ok_or(OuterError::Ipv6Header)?;
        let end = IPV6_LEN + usize::from(u16::from_be_bytes([tail[0], tail[1]]));
        if end > ip.len() + more || end < IPV6_LEN + shortest {
            return Err(OuterError::Ipv6Length);
        }
        (end, (u16::from_be_bytes([first[0], first[1]]) >> 4) as u8, tail[3], false)
    } else {
        let tail = array::<5>(ip, 4).ok_or(OuterError::Ipv4Header)?;
        if !ip.get(..l4 - l3).is_some_and(checksum::ipv4_header_is_valid) {
            return Err(OuterError::Ipv4Checksum);
        }
        let end = usize::from(u16::from_be_bytes([first[2], first[3]]));
        if end > ip.len() + more || end < l4 - l3 + shortest {
            return Err(OuterError::Ipv4Length);
        }
        (end, first[1], tail[4], u16::from_be_bytes([tail[2], tail[3]]) & IPV4_DF != 0)
    };
    // What IP carries, as far as it is in this segment, and how long it says to be.
    let mut packet = ip.get(l4 - l3..end.min(ip.len())).unwrap_or(&[]);
    let mut len = end - (l4 - l3);
    let (mut port, mut tunnel, mut has_csum) = (0, 0, false);
    if is_udp {
        let udp = array::<UDP_LEN>(packet, 0).ok_or(OuterError::UdpLength)?;
        let udp_len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        if udp_len < UDP_LEN || udp_len > len {
            return Err(OuterError::UdpLength);
        }
        (port, tunnel, len) = (u16::from_be_bytes([udp[2], udp[3]]), UDP_LEN, udp_len);
        packet = packet.get(..udp_len.min(packet.len())).unwrap_or(&[]);
        has_csum = udp[6..] != [0, 0];
        if !has_csum && is_v6 && !allow_zero_csum6 {
            return Err(OuterError::UdpZeroChecksumV6);
        }
    }
    let mut unverified = None;
    if has_csum {
        let pseudo = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                checksum::pseudo_v4(src.octets(), dst.octets(), IP_UDP, len as u16)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                checksum::pseudo_v6(&src.octets(), &dst.octets(), IP_UDP, len as u32)
            }
            _ => checksum::Sum::ZERO,
        };
        unverified = verify(L4Checksum { pseudo, l4, len, error: OuterError::UdpChecksum }, packet)?;
    }
    let header = (format.read)(packet.get(tunnel..).unwrap_or(&[]))?;
    if header.checksum {
        has_csum = true;
        let sum = L4Checksum { pseudo: checksum::Sum::ZERO, l4, len, error: OuterError::Checksum };
        unverified = verify(sum, packet)?;
    }
    let inner = tunnel + usize::from(header.len);
    if len < inner + ETHERNET_LEN || packet.len() < inner + ETHERNET_LEN {
        return Err(OuterError::InnerTruncated);
    }
    let bit = |on, bit| if on { bit } else { 0 };
    Ok(Outer {
        id: header.id,
        gbp_id: header.gbp_id,
        gbp_flags: header.gbp_flags,
        options_len: header.options_len,
        src,
        dst,
        transport: Transport { protocol, port },
        tos,
        ttl,
        flags: TUN_PRESENT | bit(df, TUN_DF) | bit(has_csum, TUN_CSUM) | bit(is_v6, TUN_IPV6) | header.flags,
        inner_offset: (l4 + inner) as u16,
        inner_len: (len - inner) as u16,
        trailing: saturate(frame.len() + more - l4 - len),
        unverified,
    })
}

/// Verifies a checksum, if all bytes are there; else it is left to be done.
fn verify(sum: L4Checksum, packet: &[u8]) -> Result<Option<L4Checksum>, OuterError> {
    if packet.len() < sum.len {
        return Ok(Some(sum));
    }
    if checksum::l4_is_valid(sum.pseudo, packet) { Ok(None) } else { Err(sum.error) }
}

#[inline(always)]
fn saturate(len: usize) -> u16 {
    len.min(usize::from(u16::MAX)) as u16
}

/// A packet of a protocol that carries tunnels, not a fragment: offsets and addresses. What IP carries may be cut off.
struct Located {
    l3: usize,
    l4: usize,
    protocol: u8,
    vid: Option<u16>,
    src: IpAddr,
    dst: IpAddr,
}

fn locate(frame: &[u8]) -> Result<Located, OuterError> {
    let mut dl_type = be16(frame, ethernet::TYPE).ok_or(OuterError::Transport)?;
    let mut l3 = ETHERNET_LEN;
    let mut vid = None;
    if dl_type == ETH_VLAN {
        let [tci0, tci1, type0, type1] = array(frame, l3).ok_or(OuterError::Transport)?;
        vid = Some(u16::from_be_bytes([tci0, tci1]) & 0xfff);
        dl_type = u16::from_be_bytes([type0, type1]);
        l3 += VLAN_LEN;
    }
    match dl_type {
        ETH_IPV4 => {
            let header = array::<IPV4_LEN>(frame, l3).ok_or(OuterError::Ipv4Header)?;
            let header_len = usize::from(header[0] & 0x0f) * 4;
            if header[0] >> 4 != 4 || header_len < IPV4_LEN || frame.len() - l3 < header_len {
                return Err(OuterError::Ipv4Header);
            }
            if !is_transport(header[ipv4::PROTOCOL]) {
                return Err(OuterError::Transport);
            }
            if u16::from_be_bytes(part::<{ ipv4::FRAGMENT }, 2, 20>(&header)) & (IPV4_MF | IPV4_OFFSET) != 0 {
                return Err(OuterError::Fragment);
            }
            let (src, dst) = (part::<{ ipv4::SRC }, 4, 20>(&header), part::<{ ipv4::DST }, 4, 20>(&header));
            Ok(Located {
                l3,
                l4: l3 + header_len,
                protocol: header[ipv4::PROTOCOL],
                vid,
                src: src.into(),
                dst: dst.into(),
            })
        }
        ETH_IPV6 => {
            let header = array::<IPV6_LEN>(frame, l3).ok_or(OuterError::Ipv6Header)?;
            if header[0] >> 4 != 6 {
                return Err(OuterError::Ipv6Header);
            }
            match header[ipv6::NEXT_HEADER] {
                IP_FRAGMENT => return Err(OuterError::Fragment),
                protocol if is_transport(protocol) => {}
                _ => return Err(OuterError::Transport),
            }
            let (src, dst) = (
                Ipv6Addr::from(part::<{ ipv6::SRC }, 16, 40>(&header)),
                Ipv6Addr::from(part::<{ ipv6::DST }, 16, 40>(&header)),
            );
            Ok(Located {
                l3,
                l4: l3 + IPV6_LEN,
                protocol: header[ipv6::NEXT_HEADER],
                vid,
                src: src.into(),
                dst: dst.into(),
            })
        }
        _ => Err(OuterError::Transport),
    }
}
