//! Encapsulation: outer headers, made once for a peer and copied in front of every frame to it.
//!
//! An [`EncapTemplate`] holds everything that does not change between packets; [`EncapTemplate::write`] copies
//! it and patches in what does ([`EncapPatch`] and the lengths). For the common shape, IPv4 without a tag,
//! [`EncapTemplate::fixed_v4`] gives an [`EncapV4`], whose `write` is a few stores; and where packets differ in
//! nothing but length and source port, [`EncapV4::ready`] leaves hardly more than those stores to do.

use super::{HEADER_MAX_LEN, HeaderOptions, TunnelFormat};
use crate::addr::MacAddr;
use crate::bytes::put;
use crate::checksum::{self, Sum};
use crate::field::{ethernet, ipv4, ipv6, ports, udp};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_VLAN, ETHERNET_LEN, IP_UDP, IPV4_DF, IPV4_LEN, IPV6_LEN, UDP_LEN, VLAN_LEN,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of Ethernet, IPv4, UDP and a tunnel header of 8 bytes: the most that an [`EncapV4`] writes, and what it does
/// for VXLAN and Geneve.
pub const ENCAP_V4_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + 8;
/// The most that a template writes: IPv6 behind an 802.1Q tag, and the longest that UDP or IP can carry.
pub const ENCAP_MAX_LEN: usize = ETHERNET_LEN + VLAN_LEN + IPV6_LEN + HEADER_MAX_LEN;
/// The longest inner frame, options included, whose outer IPv4 packet has a total length that fits 16 bits.
pub const INNER_MAX_LEN: u16 = u16::MAX - (IPV4_LEN + HEADER_MAX_LEN) as u16;

const _: () = assert!(UDP_LEN + 8 <= HEADER_MAX_LEN, "a UDP header and a tunnel header behind it have room");

/// Outer UDP source port for an inner flow's hash: 49152 to 65535, by the hash's upper 14 bits. The lower bits,
/// which tables of the same hash use as an index, stay independent of it.
#[inline(always)]
pub const fn source_port(hash: u32) -> u16 {
    0xc000 | (hash >> 18) as u16
}

/// Outer addresses, source first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncapAddrs {
    /// Over IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// Over IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

impl EncapAddrs {
    /// `None` when the two are of different families.
    pub fn new(src: IpAddr, dst: IpAddr) -> Option<EncapAddrs> {
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Some(EncapAddrs::V4(src, dst)),
            (IpAddr::V6(src), IpAddr::V6(dst)) => Some(EncapAddrs::V6(src, dst)),
            _ => None,
        }
    }
}

/// What a template is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapSpec {
    /// Outer Ethernet source.
    pub eth_src: MacAddr,
    /// Outer Ethernet destination: the next hop.
    pub eth_dst: MacAddr,
    /// TCI (priority, DEI, VLAN ID) of an outer 802.1Q tag.
    pub vlan_tci: Option<u16>,
    /// Outer IP addresses.
    pub addrs: EncapAddrs,
    /// Outer DF; IPv4 only.
    pub df: bool,
    /// The tunnel header.
    pub format: &'static TunnelFormat,
    /// Choices that the format leaves; with `csum`, [`EncapTemplate::fill_checksum`] has to follow.
    pub options: HeaderOptions,
    /// UDP destination port, host order; 0 for a format without UDP.
    pub udp_dst: u16,
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncapPatch {
    /// UDP source port, host order; see [`source_port`].
    pub src_port: u16,
    /// VNI, of which bits beyond 24 are cut off, or key.
    pub vni: u32,
    /// Outer TOS or traffic class, ECN included (see [`crate::ecn::ecn_encap`]).
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification, host order; 0 does with DF.
    pub ip_id: u16,
    /// Group policy ID, host order; sent by VXLAN with that extension.
    pub gbp_id: u16,
    /// Group policy flags; sent by VXLAN with that extension.
    pub gbp_flags: u8,
    /// Whether it is a control packet (Geneve).
    pub oam: bool,
    /// Bytes of options, a multiple of 4, that stand in front of the inner frame already (Geneve).
    pub options_len: u8,
    /// Whether one of the options is critical (Geneve).
    pub critical: bool,
    /// Sequence number (GRE).
    pub sequence: u32,
}

/// A header cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncapError {
    /// The output slice has the wrong size.
    #[error("expected room for a header of exactly {expected} bytes, not {got}")]
    HeaderLen {
        /// [`EncapTemplate::header_len`].
        expected: usize,
        /// Bytes of the slice.
        got: usize,
    },
    /// The inner frame does not fit the outer packet's length fields.
    #[error("expected an inner frame of at most {INNER_MAX_LEN} bytes, not {0}")]
    InnerTooLong(usize),
    /// The bytes are not a packet that the template wrote.
    #[error("expected a packet of {0} bytes at least, as its UDP length says")]
    PacketLen(usize),
}

/// Outer headers up to and including the tunnel's, ready but for an [`EncapPatch`] and the lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapTemplate {
    /// The headers with every patched field zero.
    bytes: [u8; ENCAP_MAX_LEN],
    addrs: EncapAddrs,
    format: &'static TunnelFormat,
    options: HeaderOptions,
    /// Sum over the IPv4 header of `bytes`.
    ip_sum: u16,
    /// Offset of the IP header.
    l3: u8,
    /// Offset of what IP carries.
    l4: u8,
    /// Offset of the tunnel header: behind UDP's, or the same.
    tunnel: u8,
    header_len: u8,
}

impl EncapTemplate {
    /// Makes the headers.
    pub fn new(spec: &EncapSpec) -> EncapTemplate {
        let mut bytes = [0; ENCAP_MAX_LEN];
        put(&mut bytes, ethernet::DST, spec.eth_dst.0);
        put(&mut bytes, ethernet::SRC, spec.eth_src.0);
        let mut l3 = ETHERNET_LEN;
        if let Some(tci) = spec.vlan_tci {
            put(&mut bytes, ethernet::TYPE, ETH_VLAN.to_be_bytes());
            put(&mut bytes, ethernet::TCI, tci.to_be_bytes());
            l3 += VLAN_LEN;
        }
        let protocol = spec.format.protocol;
        let (l4, ip_sum) = match spec.addrs {
            EncapAddrs::V4(src, dst) => {
                let fragment = if spec.df { IPV4_DF } else { 0 };
                put(&mut bytes, l3 - 2, ETH_IPV4.to_be_bytes());
                put(&mut bytes, l3 + ipv4::VERSION_IHL, [0x45]);
                put(&mut bytes, l3 + ipv4::FRAGMENT, fragment.to_be_bytes());
                put(&mut bytes, l3 + ipv4::PROTOCOL, [protocol]);
                put(&mut bytes, l3 + ipv4::SRC, src.octets());
                put(&mut bytes, l3 + ipv4::DST, dst.octets());
                (l3 + IPV4_LEN, Sum::of(&bytes[l3..l3 + IPV4_LEN]).fold())
            }
            EncapAddrs::V6(src, dst) => {
                put(&mut bytes, l3 - 2, ETH_IPV6.to_be_bytes());
                put(&mut bytes, l3 + ipv6::FLOW, [0x60]);
                put(&mut bytes, l3 + ipv6::NEXT_HEADER, [protocol]);
                put(&mut bytes, l3 + ipv6::SRC, src.octets());
                put(&mut bytes, l3 + ipv6::DST, dst.octets());
                (l3 + IPV6_LEN, 0)
            }
        };
        let mut tunnel = l4;
        if protocol == IP_UDP {
            put(&mut bytes, l4 + ports::DST, spec.udp_dst.to_be_bytes());
            tunnel += UDP_LEN;
        }
        let end = tunnel + (spec.format.len)(spec.options);
        (spec.format.init)(&mut bytes[tunnel..end], spec.options);
        EncapTemplate {
            bytes,
            addrs: spec.addrs,
            format: spec.format,
            options: spec.options,
            ip_sum,
            l3: l3 as u8,
            l4: l4 as u8,
            tunnel: tunnel as u8,
            header_len: end as u8,
        }
    }

    /// Whether the outer IPv4 header has DF; an IPv6 header counts as having it.
    #[inline]
    pub fn df(&self) -> bool {
        match self.addrs {
            EncapAddrs::V4(..) => self.bytes[usize::from(self.l3) + 6] & 0x40 != 0,
            EncapAddrs::V6(..) => true,
        }
    }

    /// Bytes that the headers take in front of the inner frame and options: for VXLAN 50 over IPv4, 70 over IPv6, 4 more
    /// with a tag.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Bytes that the outer IP packet has more than the inner frame: for VXLAN 36 over IPv4, 56 over IPv6.
    #[inline]
    pub const fn ip_overhead(&self) -> usize {
        self.header_len as usize - self.l3 as usize
    }

    /// Offset of what IP carries.
    #[inline]
    pub const fn l4(&self) -> usize {
        self.l4 as usize
    }

    /// IP protocol.
    #[inline]
    pub const fn protocol(&self) -> u8 {
        self.format.protocol
    }

    /// Whether [`Self::fill_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_checksum(&self) -> bool {
        self.options.csum
    }

    /// Whether every packet has another [sequence number](EncapPatch::sequence).
    #[inline]
    pub const fn has_sequence(&self) -> bool {
        self.options.sequence
    }

    /// The specialised form, when the headers are untagged IPv4 and no longer than VXLAN's.
    pub fn fixed_v4(&self) -> Option<EncapV4> {
        let untagged_v4 = matches!(self.addrs, EncapAddrs::V4(..)) && usize::from(self.l3) == ETHERNET_LEN;
        if !untagged_v4 || self.header_len() > ENCAP_V4_LEN || self.options.sequence {
            return None;
        }
        let bytes = *self.bytes.first_chunk()?;
        let EncapTemplate { format, options, ip_sum, tunnel, header_len, .. } = *self;
        Some(EncapV4 { bytes, ip_sum, tunnel, header_len, options, format })
    }

    /// Writes the headers in front of an inner frame of `inner_len` bytes, options included. `out` has exactly
    /// [`Self::header_len`] bytes. Checksums of UDP or GRE are left 0.
    ///
    /// # Errors
    /// [`EncapError::HeaderLen`] and [`EncapError::InnerTooLong`]; nothing is written then.
    pub fn write(&self, out: &mut [u8], inner_len: usize, patch: &EncapPatch) -> Result<(), EncapError> {
        let header_len = self.header_len();
        if out.len() != header_len {
            return Err(EncapError::HeaderLen { expected: header_len, got: out.len() });
        }
        if inner_len > usize::from(INNER_MAX_LEN) {
            return Err(EncapError::InnerTooLong(inner_len));
        }
        out.copy_from_slice(&self.bytes[..header_len]);
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let l4_len = (header_len - l4 + inner_len) as u16;
        match self.addrs {
            EncapAddrs::V4(..) => {
                let total_len = IPV4_LEN as u16 + l4_len;
                let sum = !fold(u32::from(self.ip_sum) + patched_sum(patch) + u32::from(total_len));
                put(out, l3 + ipv4::TOS, [patch.tos]);
                put(out, l3 + ipv4::TOTAL_LEN, total_len.to_be_bytes());
                put(out, l3 + ipv4::ID, patch.ip_id.to_be_bytes());
                put(out, l3 + ipv4::TTL, [patch.ttl]);
                put(out, l3 + ipv4::CHECKSUM, sum.to_be_bytes());
            }
            EncapAddrs::V6(..) => {
                put(out, l3 + ipv6::FLOW, [0x60 | patch.tos >> 4, patch.tos << 4]);
                put(out, l3 + ipv6::PAYLOAD_LEN, l4_len.to_be_bytes());
                put(out, l3 + ipv6::HOP_LIMIT, [patch.ttl]);
            }
        }
        if self.format.protocol == IP_UDP {
            put(out, l4 + ports::SRC, patch.src_port.to_be_bytes());
            put(out, l4 + udp::LEN, l4_len.to_be_bytes());
        }
        (self.format.patch)(&mut out[usize::from(self.tunnel)..], self.options, patch);
        Ok(())
    }

    /// Puts the sum of the pseudo header into the UDP checksum's field of `packet`, for whoever completes it or divides the
    /// packet; a tunnel header's own checksum stays 0.
    pub fn fill_partial_checksum(&self, packet: &mut [u8]) {
        let l4 = usize::from(self.l4);
        if self.format.protocol == IP_UDP
            && let Some(len) = crate::bytes::be16(packet, l4 + udp::LEN)
        {
            put(packet, l4 + udp::CHECKSUM, self.addrs.pseudo_header(len).fold().to_be_bytes());
        }
    }

    /// Offset of the IP header.
    #[inline]
    pub const fn l3(&self) -> usize {
        self.l3 as usize
    }

    /// Whether the outer packet is IPv6.
    #[inline]
    pub const fn is_ipv6(&self) -> bool {
        matches!(self.addrs, EncapAddrs::V6(..))
    }

    /// Fills in the checksum of `packet`, UDP's or the tunnel header's own: the headers that this template wrote, and the
    /// inner frame behind them (bytes beyond the IP length are padding and do not count).
    ///
    /// # Errors
    /// [`EncapError::PacketLen`] when `packet` is shorter than its IP length says.
    pub fn fill_checksum(&self, packet: &mut [u8]) -> Result<(), EncapError> {
        self.fill_checksum_chain(packet, core::iter::empty())
    }

    /// [`Self::fill_checksum`] for a packet of several segments: `packet` is the first, which has all outer headers, and
    /// `rest` are the others.
    ///
    /// # Errors
    /// [`EncapError::PacketLen`] when all together are shorter than the IP length says.
    pub fn fill_checksum_chain<'a>(
        &self,
        packet: &mut [u8],
        rest: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), EncapError> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let (length_at, from) = match self.addrs {
            EncapAddrs::V4(..) => (l3 + 2, l3),
            EncapAddrs::V6(..) => (l3 + 4, l4),
        };
        let length = crate::bytes::be16(packet, length_at).map_or(0, usize::from);
        let end = (from + length).max(self.header_len());
        let first_end = end.min(packet.len());
        let is_udp = self.format.protocol == IP_UDP;
        let at_sum = if is_udp { l4 + 6 } else { l4 + self.format.checksum_at.unwrap_or(0) };
        let first = packet.get_mut(l4..first_end).ok_or(EncapError::PacketLen(end))?;
        first.get_mut(at_sum - l4..at_sum - l4 + 2).ok_or(EncapError::PacketLen(end))?.fill(0);
        let pseudo = if is_udp { self.addrs.pseudo_header((end - l4) as u16) } else { Sum::ZERO };
        let (mut sum, mut at) = (pseudo + Sum::of(first), first_end - l4);
        for segment in rest {
            let part = &segment[..segment.len().min(end - l4 - at)];
            sum = sum.append(part, at % 2 == 1);
            at += part.len();
        }
        if at < end - l4 {
            return Err(EncapError::PacketLen(end));
        }
        // UDP sends a computed zero as all ones, for zero is none (RFC 768).
        let sum = match sum.checksum() {
            0 if is_udp => 0xffff,
            sum => sum,
        };
        packet[at_sum..at_sum + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }
}

impl EncapAddrs {
    /// Sum over the pseudo header of a UDP datagram of `len` bytes.
    fn pseudo_header(&self, len: u16) -> Sum {
        match self {
            EncapAddrs::V4(src, dst) => checksum::pseudo_v4(src.octets(), dst.octets(), IP_UDP, len),
            EncapAddrs::V6(src, dst) => checksum::pseudo_v6(&src.octets(), &dst.octets(), IP_UDP, len.into()),
        }
    }
}

/// What the patched fields add to the sum over an IPv4 header.
#[inline(always)]
fn patched_sum(patch: &EncapPatch) -> u32 {
    u32::from(patch.tos) + u32::from(patch.ip_id) + (u32::from(patch.ttl) << 8)
}

/// A sum of less than 2^31, which is that of no more than a few 16-bit numbers, in 16 bits.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + sum) as u16
}

/// [`EncapTemplate`] for untagged IPv4. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub struct EncapV4 {
    /// The template's bytes; the patched fields are zero.
    bytes: [u8; ENCAP_V4_LEN],
    ip_sum: u16,
    tunnel: u8,
    header_len: u8,
    options: HeaderOptions,
    format: &'static TunnelFormat,
}

impl EncapV4 {
    /// [`EncapTemplate::header_len`].
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Whether [`EncapTemplate::fill_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_checksum(&self) -> bool {
        self.options.csum
    }

    /// Writes the headers in front of an inner frame of `inner_len` bytes, which must not be more than
    /// [`INNER_MAX_LEN`] (a frame within any MTU is not; beyond, the length fields wrap), into the first bytes of `out`.
    /// Checksums of UDP or GRE are left 0.
    #[inline]
    pub fn write(&self, out: &mut [u8], inner_len: u16, patch: &EncapPatch) {
        let ready = self.ready(patch);
        match out.first_chunk_mut() {
            Some(out) if ready.is_full() => ready.write(out, inner_len, patch.src_port),
            _ => ready.write_part(out, inner_len, patch.src_port),
        }
    }

    /// Patches in all but the lengths and the source port, for a flow whose packets have the rest in common.
    #[inline]
    #[must_use]
    pub fn ready(&self, patch: &EncapPatch) -> EncapV4Ready {
        let mut bytes = self.bytes;
        bytes[ETHERNET_LEN + ipv4::TOS] = patch.tos;
        put(&mut bytes, ETHERNET_LEN + ipv4::ID, patch.ip_id.to_be_bytes());
        bytes[ETHERNET_LEN + ipv4::TTL] = patch.ttl;
        let (tunnel, header_len) = (usize::from(self.tunnel), usize::from(self.header_len));
        if let Some(header) = bytes.get_mut(tunnel..header_len) {
            (self.format.patch)(header, self.options, patch);
        }
        let ip_sum = fold(u32::from(self.ip_sum) + patched_sum(patch));
        EncapV4Ready { bytes, ip_sum, header_len: self.header_len, csum: self.options.csum }
    }
}

/// Offsets of what a packet has of its own in untagged headers over IPv4: the total length,
const TOTAL_LEN: usize = ETHERNET_LEN + ipv4::TOTAL_LEN;
/// the header checksum,
const IP_CHECKSUM: usize = ETHERNET_LEN + ipv4::CHECKSUM;
/// the source port,
const SRC_PORT: usize = ETHERNET_LEN + IPV4_LEN + ports::SRC;
/// and the length of UDP.
const UDP_LENGTH: usize = ETHERNET_LEN + IPV4_LEN + udp::LEN;

/// [`EncapV4`] with all in place that packets of one flow have in common. 54 bytes: what a program needs besides fits
/// into the same cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapV4Ready {
    /// The headers; lengths, IPv4 checksum and source port are zero.
    bytes: [u8; ENCAP_V4_LEN],
    /// Sum over the IPv4 header, folded.
    ip_sum: u16,
    header_len: u8,
    csum: bool,
}

impl EncapV4Ready {
    /// No header.
    pub const ZERO: EncapV4Ready =
        EncapV4Ready { bytes: [0; ENCAP_V4_LEN], ip_sum: 0, header_len: ENCAP_V4_LEN as u8, csum: false };

    /// Whether [`EncapTemplate::fill_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_checksum(&self) -> bool {
        self.csum
    }

    /// [`EncapTemplate::header_len`].
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Whether it is of UDP with a tunnel header of 8 bytes: [`Self::write`] writes these.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.header_len as usize == ENCAP_V4_LEN
    }

    /// Writes a [full](Self::is_full) header, as [`EncapV4::write`] does. `src_port` is in host order.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; ENCAP_V4_LEN], inner_len: u16, src_port: u16) {
        let udp_len = inner_len.wrapping_add((ENCAP_V4_LEN - ETHERNET_LEN - IPV4_LEN) as u16);
        let total_len = udp_len.wrapping_add(IPV4_LEN as u16);
        *out = self.bytes;
        // What this packet has of its own goes over it, each in one small store.
        out[TOTAL_LEN..TOTAL_LEN + 2].copy_from_slice(&total_len.to_be_bytes());
        out[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&self.ip_checksum(total_len).to_be_bytes());
        out[SRC_PORT..SRC_PORT + 2].copy_from_slice(&src_port.to_be_bytes());
        out[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&udp_len.to_be_bytes());
    }

    /// Writes any header into the first bytes of `out`; too little room is left as it is.
    #[inline]
    pub fn write_part(&self, out: &mut [u8], inner_len: u16, src_port: u16) {
        let header_len = self.header_len();
        let (Some(out), Some(bytes)) = (out.get_mut(..header_len), self.bytes.get(..header_len)) else {
            return;
        };
        let total_len = inner_len.wrapping_add((header_len - ETHERNET_LEN) as u16);
        out.copy_from_slice(bytes);
        put(out, TOTAL_LEN, total_len.to_be_bytes());
        put(out, IP_CHECKSUM, self.ip_checksum(total_len).to_be_bytes());
        if self.bytes[ETHERNET_LEN + ipv4::PROTOCOL] == IP_UDP {
            put(out, SRC_PORT, src_port.to_be_bytes());
            put(out, UDP_LENGTH, total_len.wrapping_sub(IPV4_LEN as u16).to_be_bytes());
        }
    }

    #[inline(always)]
    fn ip_checksum(&self, total_len: u16) -> u16 {
        // The sum of two has one carry at most.
        let sum = u32::from(self.ip_sum) + u32::from(total_len);
        !((sum + (sum >> 16)) as u16)
    }
}
