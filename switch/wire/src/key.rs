//! The flow key: everything about a packet that a decision may look at, in one packed block.
//!
//! Field names are OpenFlow's (`ovs-fields(7)`). All multi-byte fields are in network byte order, as
//! they stand in the packet, except `in_port` and `tun_id`, which never were on a wire in that shape.
//! The key is 32 64-bit words without padding, so it can be hashed, masked and compared word by word;
//! the first eight words (one cache line) hold all that an IPv4 packet inside IPv4 VXLAN needs.

use crate::addr::MacAddr;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of 64-bit words in a [`FlowKey`].
pub const KEY_WORDS: usize = 32;
/// Bytes of all Geneve options together that a key has room for.
pub const TUN_METADATA_LEN: usize = 88;
/// Number of leading words that suffice for IPv4 in IPv4 tunnels.
pub const HOT_WORDS: usize = 8;

/// [`FlowKey::nw_frag`]: the packet is a fragment (OVS `FLOW_NW_FRAG_ANY`).
pub const FRAG_ANY: u8 = 1;
/// [`FlowKey::nw_frag`]: the fragment has a non-zero offset, hence no L4 header (`FLOW_NW_FRAG_LATER`).
pub const FRAG_LATER: u8 = 2;

/// [`FlowKey::vlan_tci`]: bit set when the packet has an 802.1Q tag (OVS `VLAN_CFI`), so that "untagged"
/// (all zero) and "VLAN 0" differ.
pub const VLAN_PRESENT: u16 = 0x1000;

/// [`FlowKey::tun_flags`]: the packet came out of a tunnel.
pub const TUN_PRESENT: u16 = 1;
/// [`FlowKey::tun_flags`]: the outer UDP checksum was present.
pub const TUN_CSUM: u16 = 2;
/// [`FlowKey::tun_flags`]: the outer header had DF set.
pub const TUN_DF: u16 = 4;
/// [`FlowKey::tun_flags`]: a GBP header was present (`tun_gbp_id`, `tun_gbp_flags` hold).
pub const TUN_GBP: u16 = 8;
/// [`FlowKey::tun_flags`]: the outer header is IPv6 (`tun_ipv6_src`, `tun_ipv6_dst` hold).
pub const TUN_IPV6: u16 = 16;
/// [`FlowKey::tun_flags`]: a control packet (Geneve's O bit).
pub const TUN_OAM: u16 = 32;

/// A packet's fields, or (as [`FlowMask`]) which bits of them matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout, Debug)]
#[repr(C, align(32))]
pub struct FlowKey {
    // Word 0: where it came from.
    /// Datapath port; for a packet out of a tunnel, the vxlan port. Host order.
    pub in_port: u32,
    /// VNI of a packet out of a tunnel (24 bits). Host order.
    pub tun_id: u32,
    // Word 1: outer addresses of a packet out of an IPv4 tunnel.
    /// Outer IPv4 source.
    pub tun_src: U32,
    /// Outer IPv4 destination.
    pub tun_dst: U32,
    // Word 2.
    /// Ethernet destination.
    pub dl_dst: MacAddr,
    /// EtherType after any VLAN tags; values below 0x600 (802.3 lengths) are mapped to 0x05ff, as in OVS.
    pub dl_type: U16,
    // Word 3.
    /// Ethernet source.
    pub dl_src: MacAddr,
    /// Outermost 802.1Q tag with [`VLAN_PRESENT`] set, or 0 without a tag.
    pub vlan_tci: U16,
    // Word 4.
    /// IPv4 source; ARP sender protocol address.
    pub nw_src: U32,
    /// IPv4 destination; ARP target protocol address.
    pub nw_dst: U32,
    // Word 5.
    /// TCP, UDP, SCTP source port; ICMP type.
    pub tp_src: U16,
    /// TCP, UDP, SCTP destination port; ICMP code.
    pub tp_dst: U16,
    /// IP protocol (after IPv6 extension headers); low byte of the ARP opcode.
    pub nw_proto: u8,
    /// IPv4 TOS, IPv6 traffic class: DSCP and ECN.
    pub nw_tos: u8,
    /// IPv4 TTL, IPv6 hop limit.
    pub nw_ttl: u8,
    /// [`FRAG_ANY`] and [`FRAG_LATER`].
    pub nw_frag: u8,
    // Word 6.
    /// TCP flags, 12 bits.
    pub tcp_flags: U16,
    /// `TUN_*` bits. Host order.
    pub tun_flags: u16,
    /// Outer TOS.
    pub tun_tos: u8,
    /// Outer TTL.
    pub tun_ttl: u8,
    /// Group policy ID of a VXLAN-GBP header.
    pub tun_gbp_id: U16,
    // Word 7.
    /// Second 802.1Q tag with [`VLAN_PRESENT`] set, or 0.
    pub vlan_tci2: U16,
    /// Flags of a VXLAN-GBP header.
    pub tun_gbp_flags: u8,
    /// Always 0.
    pub reserved: u8,
    /// IPv6 flow label, 20 bits.
    pub ipv6_label: U32,
    // Words 8 to 11: IPv6.
    /// IPv6 source.
    pub ipv6_src: [u8; 16],
    /// IPv6 destination.
    pub ipv6_dst: [u8; 16],
    // Words 12 to 15: outer addresses of an IPv6 tunnel.
    /// Outer IPv6 source.
    pub tun_ipv6_src: [u8; 16],
    /// Outer IPv6 destination.
    pub tun_ipv6_dst: [u8; 16],
    // Words 16 to 19: neighbour discovery and ARP.
    /// Target of an ND solicitation or advertisement.
    pub nd_target: [u8; 16],
    /// ARP sender hardware address; ND source link-layer address option.
    pub arp_sha: MacAddr,
    /// ARP target hardware address; ND target link-layer address option.
    pub arp_tha: MacAddr,
    /// Always 0.
    pub reserved2: [u8; 4],
    // Words 20 to 31: options of a packet out of a Geneve tunnel, where the bridge's TLV map puts them.
    /// Which of `tun_metadata0` (bit 0) to `tun_metadata63` the packet has. Host order.
    pub tun_metadata_present: u64,
    /// Values of the options.
    pub tun_metadata: [u8; TUN_METADATA_LEN],
}

/// Which bits of a [`FlowKey`] a megaflow or a rule looks at: same layout, ones where a bit matters.
pub type FlowMask = FlowKey;

impl FlowKey {
    /// All bits zero: the key of nothing, the mask that matches everything.
    pub const ZERO: FlowKey = zerocopy::transmute!([0u64; KEY_WORDS]);

    /// The key as words, in native order.
    #[inline]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        zerocopy::transmute_ref!(self)
    }

    /// The key as words, in native order.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u64; KEY_WORDS] {
        zerocopy::transmute_mut!(self)
    }

    /// `self & mask`, bit by bit.
    #[inline]
    #[must_use]
    pub fn masked(&self, mask: &FlowMask) -> FlowKey {
        let mut out = *self;
        for (word, mask) in out.words_mut().iter_mut().zip(mask.words()) {
            *word &= mask;
        }
        out
    }

    /// Whether `self` and `other` agree on every bit of `mask`.
    #[inline]
    pub fn matches(&self, other: &FlowKey, mask: &FlowMask) -> bool {
        self.words().iter().zip(other.words()).zip(mask.words()).all(|((a, b), m)| (a ^ b) & m == 0)
    }

    /// Whether `self` and `other`, both masks, have a bit in common.
    #[inline]
    pub fn intersects(&self, other: &FlowMask) -> bool {
        self.words().iter().zip(other.words()).any(|(a, b)| a & b != 0)
    }

    /// `self |= other`: widens a mask by the bits of another.
    #[inline]
    pub fn or(&mut self, other: &FlowMask) {
        for (word, other) in self.words_mut().iter_mut().zip(other.words()) {
            *word |= other;
        }
    }

    /// Whether the packet has an 802.1Q tag.
    #[inline]
    pub fn has_vlan(&self) -> bool {
        self.vlan_tci.get() & VLAN_PRESENT != 0
    }

    /// VLAN ID of the outermost tag, 0 without one.
    #[inline]
    pub fn vlan_vid(&self) -> u16 {
        self.vlan_tci.get() & 0xfff
    }
}

impl Default for FlowKey {
    fn default() -> Self {
        Self::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn layout_is_the_documented_one() {
        assert_eq!(size_of::<FlowKey>(), KEY_WORDS * 8);
        assert_eq!(offset_of!(FlowKey, tun_src), 8);
        assert_eq!(offset_of!(FlowKey, dl_dst), 16);
        assert_eq!(offset_of!(FlowKey, dl_src), 24);
        assert_eq!(offset_of!(FlowKey, nw_src), 32);
        assert_eq!(offset_of!(FlowKey, tp_src), 40);
        assert_eq!(offset_of!(FlowKey, tcp_flags), 48);
        assert_eq!(offset_of!(FlowKey, vlan_tci2), 56);
        assert_eq!(offset_of!(FlowKey, ipv6_src), HOT_WORDS * 8);
        assert_eq!(offset_of!(FlowKey, nd_target), 128);
        assert_eq!(offset_of!(FlowKey, tun_metadata_present), 160);
    }

    #[test]
    fn masking() {
        let mut a = FlowKey { in_port: 3, nw_ttl: 64, ..FlowKey::ZERO };
        let b = FlowKey { in_port: 3, nw_ttl: 63, ..FlowKey::ZERO };
        let mut mask = FlowMask { in_port: u32::MAX, ..FlowKey::ZERO };
        assert!(a.matches(&b, &mask));
        mask.or(&FlowMask { nw_ttl: 0xff, ..FlowKey::ZERO });
        assert!(!a.matches(&b, &mask));
        a.nw_ttl = 63;
        assert_eq!(a.masked(&mask), b.masked(&mask));
    }
}
