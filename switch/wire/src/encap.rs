//! Encapsulation: outer headers, made once for a peer and copied in front of every frame to it.
//!
//! An [`EncapTemplate`] holds everything that does not change between packets; [`EncapTemplate::write`] copies
//! it and patches in what does ([`EncapPatch`] and the lengths). For the common shape, IPv4 without a tag,
//! [`EncapTemplate::fixed_v4`] gives an [`EncapV4`], whose `write` is seven stores; and where packets differ in
//! nothing but length and source port, [`EncapV4::ready`] leaves hardly more than those stores to do.

use crate::addr::MacAddr;
use crate::bytes::{array, le64, put};
use crate::checksum::{self, Sum};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_VLAN, ETHERNET_LEN, IP_UDP, IPV4_DF, IPV4_LEN, IPV6_LEN, UDP_LEN, VLAN_LEN,
};
use crate::vxlan::{FLAG_GBP, FLAG_GPE, FLAG_VNI, GPE_ETHERNET, VXLAN_LEN, VxlanHeader};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of Ethernet, IPv4, UDP and VXLAN: what an [`EncapV4`] writes.
pub const ENCAP_V4_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + VXLAN_LEN;
/// Bytes of Ethernet, IPv6, UDP and VXLAN.
pub const ENCAP_V6_LEN: usize = ETHERNET_LEN + IPV6_LEN + UDP_LEN + VXLAN_LEN;
/// The most that a template writes: IPv6 behind an 802.1Q tag.
pub const ENCAP_MAX_LEN: usize = ENCAP_V6_LEN + VLAN_LEN;
/// The longest inner frame whose outer IPv4 packet has a total length that fits 16 bits.
pub const INNER_MAX_LEN: u16 = u16::MAX - (IPV4_LEN + UDP_LEN + VXLAN_LEN) as u16;

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

/// Extension of the VXLAN header that a port sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncapExt {
    /// RFC 7348 as it is.
    #[default]
    None,
    /// Group policy: the G bit, ID and flags are sent when the packet has an ID or flags other than 0.
    Gbp,
    /// Generic protocol: the P bit is set and the next protocol is Ethernet.
    Gpe,
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
    /// UDP destination port, host order.
    pub udp_dst: u16,
    /// Whether a UDP checksum is to be filled in ([`EncapTemplate::fill_udp_checksum`]).
    pub csum: bool,
    /// VXLAN extension.
    pub ext: EncapExt,
}

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncapPatch {
    /// UDP source port, host order; see [`source_port`].
    pub src_port: u16,
    /// VNI; bits beyond 24 are cut off.
    pub vni: u32,
    /// Outer TOS or traffic class, ECN included (see [`crate::ecn::ecn_encap`]).
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification, host order; 0 does with DF.
    pub ip_id: u16,
    /// Group policy ID, host order; sent with [`EncapExt::Gbp`].
    pub gbp_id: u16,
    /// Group policy flags; sent with [`EncapExt::Gbp`].
    pub gbp_flags: u8,
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

/// Outer headers up to and including VXLAN, ready but for an [`EncapPatch`] and the lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapTemplate {
    /// The headers with every patched field zero.
    bytes: [u8; ENCAP_MAX_LEN],
    addrs: EncapAddrs,
    /// Sum over the IPv4 header of `bytes`.
    ip_sum: u16,
    /// Offset of the IP header.
    l3: u8,
    header_len: u8,
    csum: bool,
    ext: EncapExt,
}

impl EncapTemplate {
    /// Makes the headers.
    pub fn new(spec: &EncapSpec) -> EncapTemplate {
        let mut bytes = [0; ENCAP_MAX_LEN];
        put(&mut bytes, 0, spec.eth_dst.0);
        put(&mut bytes, 6, spec.eth_src.0);
        let mut l3 = ETHERNET_LEN;
        if let Some(tci) = spec.vlan_tci {
            put(&mut bytes, 12, ETH_VLAN.to_be_bytes());
            put(&mut bytes, 14, tci.to_be_bytes());
            l3 += VLAN_LEN;
        }
        let (l4, ip_sum) = match spec.addrs {
            EncapAddrs::V4(src, dst) => {
                let fragment = if spec.df { IPV4_DF } else { 0 };
                put(&mut bytes, l3 - 2, ETH_IPV4.to_be_bytes());
                put(&mut bytes, l3, [0x45]);
                put(&mut bytes, l3 + 6, fragment.to_be_bytes());
                put(&mut bytes, l3 + 9, [IP_UDP]);
                put(&mut bytes, l3 + 12, src.octets());
                put(&mut bytes, l3 + 16, dst.octets());
                (l3 + IPV4_LEN, Sum::of(&bytes[l3..l3 + IPV4_LEN]).fold())
            }
            EncapAddrs::V6(src, dst) => {
                put(&mut bytes, l3 - 2, ETH_IPV6.to_be_bytes());
                put(&mut bytes, l3, [0x60]);
                put(&mut bytes, l3 + 6, [IP_UDP]);
                put(&mut bytes, l3 + 8, src.octets());
                put(&mut bytes, l3 + 24, dst.octets());
                (l3 + IPV6_LEN, 0)
            }
        };
        put(&mut bytes, l4 + 2, spec.udp_dst.to_be_bytes());
        let vxlan = match spec.ext {
            EncapExt::None | EncapExt::Gbp => VxlanHeader { flags: FLAG_VNI, ..VxlanHeader::default() },
            EncapExt::Gpe => VxlanHeader {
                flags: FLAG_VNI | FLAG_GPE,
                gbp_id: GPE_ETHERNET.into(),
                ..VxlanHeader::default()
            },
        };
        put(&mut bytes, l4 + UDP_LEN, vxlan.to_bytes());
        EncapTemplate {
            bytes,
            addrs: spec.addrs,
            ip_sum,
            l3: l3 as u8,
            header_len: (l4 + UDP_LEN + VXLAN_LEN) as u8,
            csum: spec.csum,
            ext: spec.ext,
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

    /// Bytes that the headers take in front of the inner frame: 50 over IPv4, 70 over IPv6, 4 more with a tag.
    #[inline]
    pub const fn header_len(&self) -> usize {
        self.header_len as usize
    }

    /// Bytes that the outer IP packet has more than the inner frame: 36 over IPv4, 56 over IPv6.
    #[inline]
    pub const fn ip_overhead(&self) -> usize {
        self.header_len as usize - self.l3 as usize
    }

    /// Whether [`Self::fill_udp_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_udp_checksum(&self) -> bool {
        self.csum
    }

    /// The specialised form, when the headers are untagged IPv4.
    pub fn fixed_v4(&self) -> Option<EncapV4> {
        if self.header_len() != ENCAP_V4_LEN {
            return None;
        }
        let head: &[u8; 50] = self.bytes.first_chunk()?;
        Some(EncapV4 {
            words: [
                le64::<0, 50>(head),
                le64::<8, 50>(head),
                le64::<16, 50>(head),
                le64::<24, 50>(head),
                le64::<32, 50>(head),
                le64::<40, 50>(head),
            ],
            ip_sum: self.ip_sum,
            csum: self.csum,
            gbp: self.ext == EncapExt::Gbp,
        })
    }

    /// Writes the headers in front of an inner frame of `inner_len` bytes. `out` has exactly
    /// [`Self::header_len`] bytes. The UDP checksum is left 0.
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
        let udp_len = (UDP_LEN + VXLAN_LEN + inner_len) as u16;
        let l3 = usize::from(self.l3);
        let l4 = header_len - VXLAN_LEN - UDP_LEN;
        match self.addrs {
            EncapAddrs::V4(..) => {
                let total_len = IPV4_LEN as u16 + udp_len;
                let sum = !fold(u32::from(self.ip_sum) + patched_sum(patch) + u32::from(total_len));
                put(out, l3 + 1, [patch.tos]);
                put(out, l3 + 2, total_len.to_be_bytes());
                put(out, l3 + 4, patch.ip_id.to_be_bytes());
                put(out, l3 + 8, [patch.ttl]);
                put(out, l3 + 10, sum.to_be_bytes());
            }
            EncapAddrs::V6(..) => {
                put(out, l3, [0x60 | patch.tos >> 4, patch.tos << 4]);
                put(out, l3 + 4, udp_len.to_be_bytes());
                put(out, l3 + 7, [patch.ttl]);
            }
        }
        put(out, l4, patch.src_port.to_be_bytes());
        put(out, l4 + 4, udp_len.to_be_bytes());
        let vxlan = header_len - VXLAN_LEN;
        if self.ext == EncapExt::Gbp && has_policy(patch) {
            put(out, vxlan, [FLAG_VNI | FLAG_GBP, patch.gbp_flags]);
            put(out, vxlan + 2, patch.gbp_id.to_be_bytes());
        }
        put(out, vxlan + 4, (patch.vni << 8).to_be_bytes());
        Ok(())
    }

    /// Fills in the UDP checksum of `packet`: the headers that this template wrote, and the inner frame behind
    /// them (bytes beyond the UDP length are padding and do not count).
    ///
    /// # Errors
    /// [`EncapError::PacketLen`] when `packet` is shorter than its UDP length says.
    pub fn fill_udp_checksum(&self, packet: &mut [u8]) -> Result<(), EncapError> {
        self.fill_udp_checksum_chain(packet, core::iter::empty())
    }

    /// [`Self::fill_udp_checksum`] for a packet of several segments: `packet` is the first, which has all outer headers,
    /// and `rest` are the others.
    ///
    /// # Errors
    /// [`EncapError::PacketLen`] when all together are shorter than the UDP length says.
    pub fn fill_udp_checksum_chain<'a>(
        &self,
        packet: &mut [u8],
        rest: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), EncapError> {
        let l4 = self.header_len() - VXLAN_LEN - UDP_LEN;
        let length = array(packet, l4 + 4).map_or(0, u16::from_be_bytes);
        let end = l4 + usize::from(length).max(UDP_LEN);
        let first_end = end.min(packet.len());
        let first = packet.get_mut(l4..first_end).ok_or(EncapError::PacketLen(end))?;
        first.get_mut(6..8).ok_or(EncapError::PacketLen(end))?.fill(0);
        let pseudo = match self.addrs {
            EncapAddrs::V4(src, dst) => checksum::pseudo_v4(src.octets(), dst.octets(), IP_UDP, length),
            EncapAddrs::V6(src, dst) => {
                checksum::pseudo_v6(&src.octets(), &dst.octets(), IP_UDP, length.into())
            }
        };
        let (mut sum, mut at) = (pseudo + Sum::of(first), first_end - l4);
        for segment in rest {
            let part = &segment[..segment.len().min(end - l4 - at)];
            sum = sum.append(part, at % 2 == 1);
            at += part.len();
        }
        if at < end - l4 {
            return Err(EncapError::PacketLen(end));
        }
        // A computed zero is sent as all ones (RFC 768).
        let sum = match sum.checksum() {
            0 => 0xffff,
            sum => sum,
        };
        packet[l4 + 6..l4 + 8].copy_from_slice(&sum.to_be_bytes());
        Ok(())
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

#[inline(always)]
const fn has_policy(patch: &EncapPatch) -> bool {
    patch.gbp_id != 0 || patch.gbp_flags != 0
}

/// [`EncapTemplate`] for untagged IPv4, as the eight-byte words that it writes. One cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub struct EncapV4 {
    /// Bytes 0 to 47 of the template as little-endian words; the patched fields are zero.
    words: [u64; 6],
    ip_sum: u16,
    csum: bool,
    gbp: bool,
}

impl EncapV4 {
    /// Whether [`EncapTemplate::fill_udp_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_udp_checksum(&self) -> bool {
        self.csum
    }

    /// Writes the headers in front of an inner frame of `inner_len` bytes, which must not be more than
    /// [`INNER_MAX_LEN`] (a frame within any MTU is not; beyond, the length fields wrap). The UDP checksum is left
    /// 0.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; ENCAP_V4_LEN], inner_len: u16, patch: &EncapPatch) {
        self.ready(patch).write(out, inner_len, patch.src_port);
    }

    /// Patches in all but the lengths and the source port, for a flow whose packets have the rest in common.
    #[inline(always)]
    #[must_use]
    pub fn ready(&self, patch: &EncapPatch) -> EncapV4Ready {
        // Offsets in words: see the layout in `EncapTemplate::new`. `swap_bytes` puts a number in wire order.
        let mut words = self.words;
        let vni = (patch.vni << 8).swap_bytes();
        words[1] |= u64::from(patch.tos) << 56;
        words[2] |= u64::from(patch.ip_id.swap_bytes()) << 16 | u64::from(patch.ttl) << 48;
        words[5] |= u64::from(vni as u16) << 48;
        if self.gbp && has_policy(patch) {
            words[5] |= u64::from(FLAG_GBP) << 16
                | u64::from(patch.gbp_flags) << 24
                | u64::from(patch.gbp_id.swap_bytes()) << 32;
        }
        let ip_sum = fold(u32::from(self.ip_sum) + patched_sum(patch));
        let mut bytes = [0; ENCAP_V4_LEN];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *chunk = word.to_le_bytes();
        }
        bytes[48..].copy_from_slice(&((vni >> 16) as u16).to_le_bytes());
        EncapV4Ready { bytes, ip_sum, csum: self.csum }
    }
}

/// [`EncapV4`] with the VNI, TOS, TTL, identification and group policy in place. 54 bytes: what a program needs
/// besides fits into the same cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncapV4Ready {
    /// The headers; lengths, IPv4 checksum and source port are zero.
    bytes: [u8; ENCAP_V4_LEN],
    /// Sum over the IPv4 header, folded.
    ip_sum: u16,
    csum: bool,
}

impl EncapV4Ready {
    /// No header.
    pub const ZERO: EncapV4Ready = EncapV4Ready { bytes: [0; ENCAP_V4_LEN], ip_sum: 0, csum: false };

    /// Whether [`EncapTemplate::fill_udp_checksum`] has to follow [`Self::write`].
    #[inline]
    pub const fn wants_udp_checksum(&self) -> bool {
        self.csum
    }

    /// Writes the headers, as [`EncapV4::write`] does. `src_port` is in host order.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; ENCAP_V4_LEN], inner_len: u16, src_port: u16) {
        let udp_len = inner_len.wrapping_add((UDP_LEN + VXLAN_LEN) as u16);
        let total_len = udp_len.wrapping_add(IPV4_LEN as u16);
        // The sum of two has one carry at most.
        let sum = u32::from(self.ip_sum) + u32::from(total_len);
        let checksum = !((sum + (sum >> 16)) as u16);
        *out = self.bytes;
        // What this packet has of its own goes over it, each in one small store.
        out[16..18].copy_from_slice(&total_len.to_be_bytes());
        out[24..26].copy_from_slice(&checksum.to_be_bytes());
        out[34..36].copy_from_slice(&src_port.to_be_bytes());
        out[38..40].copy_from_slice(&udp_len.to_be_bytes());
    }
}
