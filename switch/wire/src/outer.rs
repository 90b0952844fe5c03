//! Tunnel termination: the outer headers of a VXLAN packet.
//!
//! Two steps. [`peek`] is cheap and answers "could this be for a VTEP of mine?": where the frame goes, by
//! MAC, address and UDP port. The caller looks that up, and only then asks [`parse_outer`], which checks all
//! that can be checked and reads the VXLAN header. A tunnel packet is an Ethernet frame, untagged or with one
//! 802.1Q tag, of IPv4 (with or without options) or IPv6 (without extension headers), UDP, VXLAN, and an inner
//! Ethernet frame.

use crate::addr::MacAddr;
use crate::bytes::{array, be16, part};
use crate::checksum::{self, ipv4_header20_is_valid};
use crate::key::{FlowKey, TUN_CSUM, TUN_DF, TUN_GBP, TUN_IPV6, TUN_PRESENT};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_VLAN, ETHERNET_LEN, IP_FRAGMENT, IP_UDP, IPV4_DF, IPV4_LEN, IPV4_MF, IPV4_OFFSET,
    IPV6_LEN, UDP_LEN,
};
use crate::reason::reasons;
use crate::vxlan::{VXLAN_LEN, VxlanHeader};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::byteorder::network_endian::{U16, U32};

reasons! {
    /// Why a packet to a VTEP cannot be decapsulated.
    pub enum OuterError {
        NotUdp = "tunnel_not_udp", "the packet is not UDP over IPv4 or IPv6";
        Ipv4Header = "tunnel_ipv4_header", "the outer IPv4 header is cut off or its IHL is below 5";
        Ipv4Checksum = "tunnel_ipv4_checksum", "the outer IPv4 header checksum is wrong";
        Ipv4Length = "tunnel_ipv4_length", "the outer IPv4 total length is below the headers' or beyond the frame";
        Ipv6Header = "tunnel_ipv6_header", "the outer IPv6 header is cut off";
        Ipv6Length = "tunnel_ipv6_length", "the outer IPv6 payload length is below a UDP header's or beyond the frame";
        Fragment = "tunnel_fragment", "the outer packet is a fragment";
        UdpLength = "tunnel_udp_length", "the outer UDP length is below 8 or beyond the IP packet";
        UdpChecksum = "tunnel_udp_checksum", "the outer UDP checksum is wrong";
        UdpZeroChecksumV6 = "tunnel_udp6_zero_checksum", "the outer UDP checksum over IPv6 is zero, which is not allowed here";
        VxlanTruncated = "vxlan_truncated", "the UDP datagram is shorter than a VXLAN header (8 bytes)";
        VxlanNoVniFlag = "vxlan_no_vni_flag", "the VXLAN header's I flag is not set";
        InnerTruncated = "vxlan_inner_truncated", "the inner frame is shorter than an Ethernet header (14 bytes)";
    }
}

/// Where a UDP packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peek {
    /// Offset of the IP header: 14, or 18 behind a tag.
    pub l3: u16,
    /// Offset of the UDP header.
    pub l4: u16,
    /// VLAN ID of the frame's 802.1Q tag, `None` without a tag.
    pub vid: Option<u16>,
    /// Ethernet destination.
    pub dl_dst: MacAddr,
    /// IP destination.
    pub dst: IpAddr,
    /// UDP destination port, host order.
    pub udp_dst: u16,
}

/// A tunnel packet whose outer headers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// The VXLAN header.
    pub vxlan: VxlanHeader,
    /// Outer source.
    pub src: IpAddr,
    /// Outer destination, of the same family.
    pub dst: IpAddr,
    /// Outer UDP destination port, host order.
    pub udp_dst: u16,
    /// Outer TOS or traffic class.
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// `TUN_*` bits of [`crate::key`]; [`TUN_GBP`] says that the G bit is set, which counts only on a socket
    /// with the extension.
    pub flags: u16,
    /// Offset of the inner frame in the outer one, in bytes.
    pub inner_offset: u16,
    /// Length of the inner frame in bytes, at least 14.
    pub inner_len: u16,
    /// Bytes of the frame beyond the UDP datagram (padding), to be trimmed with the outer headers.
    pub trailing: u16,
    /// The UDP datagram goes on in other segments and has a checksum: what its bytes have to sum up with,
    /// for [`UdpChecksum::is_valid`].
    pub unverified: Option<UdpChecksum>,
}

/// A UDP checksum that is still to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpChecksum {
    pseudo: checksum::Sum,
    /// Offset of the UDP header in the packet, in bytes.
    l4: usize,
    /// Bytes of the datagram.
    len: usize,
}

impl UdpChecksum {
    /// Whether the checksum is right; `segments` are all bytes of the packet.
    pub fn is_valid<'a>(&self, segments: impl Iterator<Item = &'a [u8]>) -> bool {
        let (mut sum, mut skip, mut left, mut odd) = (self.pseudo, self.l4, self.len, false);
        for segment in segments {
            let start = skip.min(segment.len());
            skip -= start;
            let part = &segment[start..(start + left).min(segment.len())];
            left -= part.len();
            sum = sum.append(part, odd);
            odd ^= part.len() % 2 == 1;
        }
        left == 0 && sum.fold() == 0xffff
    }
}

impl Outer {
    /// VNI, 24 bits.
    #[inline]
    pub const fn vni(&self) -> u32 {
        self.vxlan.vni
    }

    /// Writes every `tun_*` field of `key`: those that the packet does not have become zero. The GBP fields are
    /// written only with `gbp`, that is, when the socket has the extension.
    #[inline]
    pub fn fill_key(&self, key: &mut FlowKey, gbp: bool) {
        clear_tunnel(key);
        key.tun_id = self.vxlan.vni;
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
        if gbp && self.flags & TUN_GBP != 0 {
            key.tun_gbp_id = U16::new(self.vxlan.gbp_id);
            key.tun_gbp_flags = self.vxlan.gbp_flags;
        } else {
            key.tun_flags &= !TUN_GBP;
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
}

/// Bytes of Ethernet, IPv4 without options, UDP.
const PEEK_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN;
/// The same with VXLAN and the smallest inner frame.
const FAST_LEN: usize = PEEK_LEN + VXLAN_LEN + ETHERNET_LEN;

/// Whether the first bytes are those of untagged, unfragmented IPv4 without options that carries UDP.
#[allow(clippy::needless_bitwise_bool, reason = "one branch on all tests together is the point")]
#[inline(always)]
fn is_plain_v4<const LEN: usize>(head: &[u8; LEN]) -> bool {
    let [type0, type1, version_ihl] = part::<12, 3, LEN>(head);
    let fragment = u16::from_be_bytes(part::<20, 2, LEN>(head));
    let [proto] = part::<23, 1, LEN>(head);
    (u16::from_be_bytes([type0, type1]) == ETH_IPV4)
        & (version_ihl == 0x45)
        & (fragment & (IPV4_MF | IPV4_OFFSET) == 0)
        & (proto == IP_UDP)
}

/// Where `frame` goes, if it is a UDP packet that may be tunnel traffic: untagged or with one 802.1Q tag, not a
/// fragment, its UDP header there. Nothing else is checked.
#[inline]
pub fn peek(frame: &[u8]) -> Option<Peek> {
    if let Some(head) = frame.first_chunk::<PEEK_LEN>()
        && is_plain_v4(head)
    {
        return Some(Peek {
            l3: 14,
            l4: 34,
            vid: None,
            dl_dst: MacAddr(part::<0, 6, PEEK_LEN>(head)),
            dst: IpAddr::V4(Ipv4Addr::from(part::<30, 4, PEEK_LEN>(head))),
            udp_dst: u16::from_be_bytes(part::<36, 2, PEEK_LEN>(head)),
        });
    }
    peek_general(frame)
}

/// [`peek`] without its fast way: public so that tests can compare the two.
#[inline(never)]
pub fn peek_general(frame: &[u8]) -> Option<Peek> {
    let located = locate(frame).ok()?;
    Some(Peek {
        l3: located.l3 as u16,
        l4: located.l4 as u16,
        vid: located.vid,
        dl_dst: MacAddr(array(frame, 0)?),
        dst: located.dst,
        udp_dst: be16(frame, located.l4 + 2).filter(|_| frame.len() >= located.l4 + UDP_LEN)?,
    })
}

/// Checks the outer headers of `frame` and reads them.
///
/// IPv4: header checksum, total length. UDP: length, and the checksum when there is one; none is legal over
/// IPv4, and over IPv6 only with `allow_zero_csum6` (RFC 6935). VXLAN: the I flag; reserved bits are ignored.
///
/// # Errors
/// The first [`OuterError`] that applies.
#[inline]
pub fn parse_outer(frame: &[u8], allow_zero_csum6: bool) -> Result<Outer, OuterError> {
    parse_outer_chain(frame, 0, allow_zero_csum6)
}

/// [`parse_outer`] for a packet of several segments: `frame` is the first, which has all outer headers, and `more` bytes
/// are in the others.
///
/// # Errors
/// The first [`OuterError`] that applies; a UDP checksum is left to [`Outer::unverified`].
#[inline]
pub fn parse_outer_chain(frame: &[u8], more: usize, allow_zero_csum6: bool) -> Result<Outer, OuterError> {
    if more == 0
        && let Some(head) = frame.first_chunk::<FAST_LEN>()
        && let Some(outer) = fast(head, frame.len())
    {
        return Ok(outer);
    }
    general(frame, more, allow_zero_csum6)
}

/// The straight line for IPv4 without options, tag or UDP checksum. `None` when something is out of the
/// ordinary, right or wrong.
#[allow(clippy::needless_bitwise_bool, reason = "one branch on all tests together is the point")]
#[inline(always)]
fn fast(head: &[u8; FAST_LEN], len: usize) -> Option<Outer> {
    let ip = part::<14, 20, FAST_LEN>(head);
    let total_len = usize::from(u16::from_be_bytes(part::<16, 2, FAST_LEN>(head)));
    let udp_len = usize::from(u16::from_be_bytes(part::<38, 2, FAST_LEN>(head)));
    let vxlan = VxlanHeader::from_bytes(part::<42, 8, FAST_LEN>(head));
    let ok = is_plain_v4(head)
        & ipv4_header20_is_valid(&ip)
        & (total_len <= len - ETHERNET_LEN)
        & (udp_len + IPV4_LEN <= total_len)
        & (udp_len >= UDP_LEN + VXLAN_LEN + ETHERNET_LEN)
        & (part::<40, 2, FAST_LEN>(head) == [0, 0])
        & vxlan.has_vni();
    if !ok {
        return None;
    }
    Some(Outer {
        vxlan,
        src: IpAddr::V4(Ipv4Addr::from(part::<12, 4, 20>(&ip))),
        dst: IpAddr::V4(Ipv4Addr::from(part::<16, 4, 20>(&ip))),
        udp_dst: u16::from_be_bytes(part::<36, 2, FAST_LEN>(head)),
        tos: ip[1],
        ttl: ip[8],
        flags: tun_flags(ip[6] & 0x40 != 0, false, vxlan),
        inner_offset: (PEEK_LEN + VXLAN_LEN) as u16,
        inner_len: (udp_len - UDP_LEN - VXLAN_LEN) as u16,
        trailing: saturate(len - ETHERNET_LEN - IPV4_LEN - udp_len),
        unverified: None,
    })
}

/// [`parse_outer`] without its fast path: public so that tests can compare the two.
#[inline(never)]
pub fn parse_outer_general(frame: &[u8], allow_zero_csum6: bool) -> Result<Outer, OuterError> {
    general(frame, 0, allow_zero_csum6)
}

fn general(frame: &[u8], more: usize, allow_zero_csum6: bool) -> Result<Outer, OuterError> {
    let Located { l3, l4, src, dst, .. } = locate(frame)?;
    let ip = frame.get(l3..).unwrap_or(&[]);
    let is_v6 = src.is_ipv6();
    let first = array::<4>(ip, 0).ok_or(OuterError::Ipv4Header)?;
    // End of the IP packet, from its start.
    let (end, tos, ttl, df) = if is_v6 {
        let tail = array::<4>(ip, 4).ok_or(OuterError::Ipv6Header)?;
        let end = IPV6_LEN + usize::from(u16::from_be_bytes([tail[0], tail[1]]));
        if end > ip.len() + more || end < IPV6_LEN + UDP_LEN {
            return Err(OuterError::Ipv6Length);
        }
        (end, (u16::from_be_bytes([first[0], first[1]]) >> 4) as u8, tail[3], false)
    } else {
        let tail = array::<5>(ip, 4).ok_or(OuterError::Ipv4Header)?;
        if !ip.get(..l4 - l3).is_some_and(checksum::ipv4_header_is_valid) {
            return Err(OuterError::Ipv4Checksum);
        }
        let end = usize::from(u16::from_be_bytes([first[2], first[3]]));
        if end > ip.len() + more || end < l4 - l3 + UDP_LEN {
            return Err(OuterError::Ipv4Length);
        }
        (end, first[1], tail[4], u16::from_be_bytes([tail[2], tail[3]]) & IPV4_DF != 0)
    };
    let packet = ip.get(l4 - l3..end.min(ip.len())).unwrap_or(&[]);
    let udp = array::<UDP_LEN>(packet, 0).ok_or(OuterError::UdpLength)?;
    let udp_len = u16::from_be_bytes([udp[4], udp[5]]);
    let datagram_len = usize::from(udp_len);
    if datagram_len < UDP_LEN || datagram_len > end - (l4 - l3) {
        return Err(OuterError::UdpLength);
    }
    // As far as it is in this segment.
    let datagram = packet.get(..datagram_len.min(packet.len())).unwrap_or(&[]);
    let has_csum = udp[6..] != [0, 0];
    let mut unverified = None;
    if has_csum {
        let pseudo = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                checksum::pseudo_v4(src.octets(), dst.octets(), IP_UDP, udp_len)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                checksum::pseudo_v6(&src.octets(), &dst.octets(), IP_UDP, udp_len.into())
            }
            _ => checksum::Sum::ZERO,
        };
        if datagram.len() < datagram_len {
            unverified = Some(UdpChecksum { pseudo, l4, len: datagram_len });
        } else if !checksum::l4_is_valid(pseudo, datagram) {
            return Err(OuterError::UdpChecksum);
        }
    } else if is_v6 && !allow_zero_csum6 {
        return Err(OuterError::UdpZeroChecksumV6);
    }
    let vxlan = VxlanHeader::from_bytes(array(datagram, UDP_LEN).ok_or(OuterError::VxlanTruncated)?);
    if !vxlan.has_vni() {
        return Err(OuterError::VxlanNoVniFlag);
    }
    let inner_len = datagram_len - (UDP_LEN + VXLAN_LEN);
    if inner_len < ETHERNET_LEN || datagram.len() < UDP_LEN + VXLAN_LEN + ETHERNET_LEN {
        return Err(OuterError::InnerTruncated);
    }
    Ok(Outer {
        vxlan,
        src,
        dst,
        udp_dst: u16::from_be_bytes([udp[2], udp[3]]),
        tos,
        ttl,
        flags: tun_flags(df, has_csum, vxlan) | if is_v6 { TUN_IPV6 } else { 0 },
        inner_offset: (l4 + UDP_LEN + VXLAN_LEN) as u16,
        inner_len: inner_len as u16,
        trailing: saturate(frame.len() + more - l4 - datagram_len),
        unverified,
    })
}

#[inline(always)]
fn tun_flags(df: bool, csum: bool, vxlan: VxlanHeader) -> u16 {
    TUN_PRESENT
        | if df { TUN_DF } else { 0 }
        | if csum { TUN_CSUM } else { 0 }
        | if vxlan.has_gbp() { TUN_GBP } else { 0 }
}

#[inline(always)]
fn saturate(len: usize) -> u16 {
    len.min(usize::from(u16::MAX)) as u16
}

/// A UDP packet that is not a fragment: offsets and addresses. The UDP header itself may be cut off.
struct Located {
    l3: usize,
    l4: usize,
    vid: Option<u16>,
    src: IpAddr,
    dst: IpAddr,
}

fn locate(frame: &[u8]) -> Result<Located, OuterError> {
    let mut dl_type = be16(frame, 12).ok_or(OuterError::NotUdp)?;
    let mut l3 = ETHERNET_LEN;
    let mut vid = None;
    if dl_type == ETH_VLAN {
        let [tci0, tci1, type0, type1] = array(frame, l3).ok_or(OuterError::NotUdp)?;
        vid = Some(u16::from_be_bytes([tci0, tci1]) & 0xfff);
        dl_type = u16::from_be_bytes([type0, type1]);
        l3 += 4;
    }
    match dl_type {
        ETH_IPV4 => {
            let header = array::<IPV4_LEN>(frame, l3).ok_or(OuterError::Ipv4Header)?;
            let header_len = usize::from(header[0] & 0x0f) * 4;
            if header[0] >> 4 != 4 || header_len < IPV4_LEN || frame.len() - l3 < header_len {
                return Err(OuterError::Ipv4Header);
            }
            if header[9] != IP_UDP {
                return Err(OuterError::NotUdp);
            }
            if u16::from_be_bytes(part::<6, 2, 20>(&header)) & (IPV4_MF | IPV4_OFFSET) != 0 {
                return Err(OuterError::Fragment);
            }
            let (src, dst) = (part::<12, 4, 20>(&header), part::<16, 4, 20>(&header));
            Ok(Located { l3, l4: l3 + header_len, vid, src: src.into(), dst: dst.into() })
        }
        ETH_IPV6 => {
            let header = array::<IPV6_LEN>(frame, l3).ok_or(OuterError::Ipv6Header)?;
            if header[0] >> 4 != 6 {
                return Err(OuterError::Ipv6Header);
            }
            match header[6] {
                IP_UDP => {}
                IP_FRAGMENT => return Err(OuterError::Fragment),
                _ => return Err(OuterError::NotUdp),
            }
            let (src, dst) =
                (Ipv6Addr::from(part::<8, 16, 40>(&header)), Ipv6Addr::from(part::<24, 16, 40>(&header)));
            Ok(Located { l3, l4: l3 + IPV6_LEN, vid, src: src.into(), dst: dst.into() })
        }
        _ => Err(OuterError::NotUdp),
    }
}
