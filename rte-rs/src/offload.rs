//! What a packet asks of the device that sends it: `ol_flags` and `tx_offload` of DPDK's mbuf, and the capabilities of
//! ethdevs that answer to them.
//!
//! One representation from receipt to transmission: what the kernel left to a device (a checksum, a segmentation) is a
//! *request to send* from the moment that the packet is received. Where there is a request for a checksum of the
//! transport header, its field holds the sum of the pseudo header with the packet's whole length, not complemented, as
//! Linux has it; IPv4 header checksums are always right. `TxQueue::tx_prepare` makes of it what a NIC's driver wants.
//!
//! A request without a tunnel flag is for the outermost transport header, also of a packet that carries a tunnel: whoever
//! takes that header off drops the request.

use dpdk_sys as sys;

/// RX: [`crate::Mbuf::rss_hash`] holds.
pub const RX_RSS_HASH: u64 = sys::VXS_MBUF_F_RX_RSS_HASH;
/// RX: the checksum of the (outermost) TCP or UDP header was verified.
pub const RX_L4_CKSUM_GOOD: u64 = 1 << 8;
/// TX: the checksum of an outer UDP header is wanted.
pub const TX_OUTER_UDP_CKSUM: u64 = 1 << 41;
/// TX: UDP segmentation into datagrams of [`TxOffload::segment_size`].
pub const TX_UDP_SEG: u64 = 1 << 42;
/// TX: inside VXLAN.
pub const TX_TUNNEL_VXLAN: u64 = 1 << 45;
/// TX: inside GRE.
pub const TX_TUNNEL_GRE: u64 = 2 << 45;
/// TX: inside Geneve.
pub const TX_TUNNEL_GENEVE: u64 = 4 << 45;
/// TX: inside any tunnel over UDP.
pub const TX_TUNNEL_UDP: u64 = 0xe << 45;
/// TX: the bits that say which tunnel.
pub const TX_TUNNEL_MASK: u64 = 0xf << 45;
/// TX: TCP segmentation into pieces of [`TxOffload::segment_size`].
pub const TX_TCP_SEG: u64 = 1 << 50;
/// TX: the TCP checksum is wanted.
pub const TX_TCP_CKSUM: u64 = 1 << 52;
/// TX: the UDP checksum is wanted.
pub const TX_UDP_CKSUM: u64 = 3 << 52;
/// TX: the bits that say which transport checksum is wanted.
pub const TX_L4_MASK: u64 = 3 << 52;
/// TX: the IPv4 header checksum is wanted.
pub const TX_IP_CKSUM: u64 = 1 << 54;
/// TX: the packet, or the inner one of a tunnel, is IPv4.
pub const TX_IPV4: u64 = 1 << 55;
/// TX: the packet, or the inner one of a tunnel, is IPv6.
pub const TX_IPV6: u64 = 1 << 56;
/// TX: the outer IPv4 header checksum is wanted.
pub const TX_OUTER_IP_CKSUM: u64 = 1 << 58;
/// TX: the outer packet is IPv4.
pub const TX_OUTER_IPV4: u64 = 1 << 59;
/// TX: the outer packet is IPv6.
pub const TX_OUTER_IPV6: u64 = 1 << 60;
/// All requests. A packet without any of these bits can be sent as it is by any device.
pub const TX_REQUESTS: u64 =
    TX_OUTER_UDP_CKSUM | TX_UDP_SEG | TX_TCP_SEG | TX_L4_MASK | TX_IP_CKSUM | TX_OUTER_IP_CKSUM;

/// What a device can do on transmission (`RTE_ETH_TX_OFFLOAD_*`).
pub mod capability {
    /// IPv4 header checksum.
    pub const IPV4_CKSUM: u64 = 1 << 1;
    /// UDP checksum.
    pub const UDP_CKSUM: u64 = 1 << 2;
    /// TCP checksum.
    pub const TCP_CKSUM: u64 = 1 << 3;
    /// TCP segmentation.
    pub const TCP_TSO: u64 = 1 << 5;
    /// UDP segmentation.
    pub const UDP_TSO: u64 = 1 << 6;
    /// Outer IPv4 header checksum.
    pub const OUTER_IPV4_CKSUM: u64 = 1 << 7;
    /// TCP segmentation inside VXLAN.
    pub const VXLAN_TNL_TSO: u64 = 1 << 9;
    /// TCP segmentation inside GRE.
    pub const GRE_TNL_TSO: u64 = 1 << 10;
    /// TCP segmentation inside Geneve.
    pub const GENEVE_TNL_TSO: u64 = 1 << 12;
    /// Packets of several segments.
    pub const MULTI_SEGS: u64 = 1 << 15;
    /// TCP segmentation inside any tunnel over UDP.
    pub const UDP_TNL_TSO: u64 = 1 << 18;
    /// Outer UDP checksum.
    pub const OUTER_UDP_CKSUM: u64 = 1 << 20;
    /// All of the above.
    pub const ALL: u64 = IPV4_CKSUM
        | UDP_CKSUM
        | TCP_CKSUM
        | TCP_TSO
        | UDP_TSO
        | OUTER_IPV4_CKSUM
        | VXLAN_TNL_TSO
        | GRE_TNL_TSO
        | GENEVE_TNL_TSO
        | MULTI_SEGS
        | UDP_TNL_TSO
        | OUTER_UDP_CKSUM;
}

/// Lengths of a packet's headers in bytes, for a device that completes checksums or segments. Inside a tunnel the outer
/// lengths say where the tunnel's transport header begins, and `l2_len` counts from there to the inner network header:
/// outer transport header, tunnel header, inner Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TxOffload {
    /// Ethernet header with its VLAN tags; inside a tunnel see above. At most 127.
    pub l2_len: u8,
    /// Network header with its options. At most 511.
    pub l3_len: u16,
    /// Transport header.
    pub l4_len: u8,
    /// Bytes of payload in each segment.
    pub segment_size: u16,
    /// Outer network header; 0 without a tunnel. At most 511.
    pub outer_l3_len: u16,
    /// Outer Ethernet header; 0 without a tunnel. At most 127.
    pub outer_l2_len: u8,
}

impl TxOffload {
    /// From the packet's start to its (inner) transport header, whose checksum is meant.
    #[inline]
    pub const fn transport_start(self) -> usize {
        self.outer_l2_len as usize + self.outer_l3_len as usize + self.l2_len as usize + self.l3_len as usize
    }

    /// As `struct rte_mbuf` has it. Bits beyond a field's width are lost.
    #[inline]
    pub(crate) const fn pack(self) -> u64 {
        (self.l2_len as u64 & 0x7f)
            | (self.l3_len as u64 & 0x1ff) << 7
            | (self.l4_len as u64) << 16
            | (self.segment_size as u64) << 24
            | (self.outer_l3_len as u64 & 0x1ff) << 40
            | (self.outer_l2_len as u64 & 0x7f) << 49
    }

    /// From what `struct rte_mbuf` has.
    #[inline]
    pub(crate) const fn unpack(word: u64) -> TxOffload {
        TxOffload {
            l2_len: (word & 0x7f) as u8,
            l3_len: (word >> 7 & 0x1ff) as u16,
            l4_len: (word >> 16) as u8,
            segment_size: (word >> 24) as u16,
            outer_l3_len: (word >> 40 & 0x1ff) as u16,
            outer_l2_len: (word >> 49 & 0x7f) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_form_is_dpdks() {
        let lengths = TxOffload {
            l2_len: 0x55,
            l3_len: 0x1a5,
            l4_len: 0xc3,
            segment_size: 0xbeef,
            outer_l3_len: 0x15a,
            outer_l2_len: 0x2a,
        };
        let mut theirs = sys::rte_mbuf__bindgen_ty_3__bindgen_ty_1::default();
        theirs.set_l2_len(0x55);
        theirs.set_l3_len(0x1a5);
        theirs.set_l4_len(0xc3);
        theirs.set_tso_segsz(0xbeef);
        theirs.set_outer_l3_len(0x15a);
        theirs.set_outer_l2_len(0x2a);
        let union = sys::rte_mbuf__bindgen_ty_3 { __bindgen_anon_1: theirs };
        // SAFETY: both variants are plain integers.
        assert_eq!(lengths.pack(), unsafe { union.tx_offload });
        assert_eq!(TxOffload::unpack(lengths.pack()), lengths);
        assert_eq!(lengths.transport_start(), 0x55 + 0x1a5 + 0x15a + 0x2a);
    }

    #[test]
    fn flags_and_capabilities_are_dpdks() {
        assert_eq!(sys::VXS_MBUF_F_RX_L4_CKSUM_GOOD, RX_L4_CKSUM_GOOD);
        assert_eq!(sys::VXS_MBUF_F_TX_OUTER_UDP_CKSUM, TX_OUTER_UDP_CKSUM);
        assert_eq!(sys::VXS_MBUF_F_TX_UDP_SEG, TX_UDP_SEG);
        assert_eq!(sys::VXS_MBUF_F_TX_TUNNEL_VXLAN, TX_TUNNEL_VXLAN);
        assert_eq!(sys::VXS_MBUF_F_TX_TUNNEL_GRE, TX_TUNNEL_GRE);
        assert_eq!(sys::VXS_MBUF_F_TX_TUNNEL_GENEVE, TX_TUNNEL_GENEVE);
        assert_eq!(sys::VXS_MBUF_F_TX_TUNNEL_UDP, TX_TUNNEL_UDP);
        assert_eq!(sys::VXS_MBUF_F_TX_TCP_SEG, TX_TCP_SEG);
        assert_eq!(sys::VXS_MBUF_F_TX_TCP_CKSUM, TX_TCP_CKSUM);
        assert_eq!(sys::VXS_MBUF_F_TX_UDP_CKSUM, TX_UDP_CKSUM);
        assert_eq!(sys::VXS_MBUF_F_TX_L4_MASK, TX_L4_MASK);
        assert_eq!(sys::VXS_MBUF_F_TX_IP_CKSUM, TX_IP_CKSUM);
        assert_eq!(sys::VXS_MBUF_F_TX_IPV4, TX_IPV4);
        assert_eq!(sys::VXS_MBUF_F_TX_IPV6, TX_IPV6);
        assert_eq!(sys::VXS_MBUF_F_TX_OUTER_IP_CKSUM, TX_OUTER_IP_CKSUM);
        assert_eq!(sys::VXS_MBUF_F_TX_OUTER_IPV4, TX_OUTER_IPV4);
        assert_eq!(sys::VXS_MBUF_F_TX_OUTER_IPV6, TX_OUTER_IPV6);
        assert_eq!(sys::VXS_TX_OFFLOADS, capability::ALL);
    }
}
