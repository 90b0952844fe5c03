//! The fast path of tunnel termination: a tunnel header of 8 bytes with a VNI (VXLAN, or Geneve without options) in UDP
//! over untagged IPv4 without options, fragments or UDP checksum, which is nearly every tunnel packet. What it reads stays
//! as it stands in the packet, so that addresses and ports are compared without being converted. [`super::outer`] reads
//! everything else.

use crate::bytes::{le64, part};
use crate::checksum::ipv4_header20_is_valid;
use crate::key::{TUN_DF, TUN_PRESENT};
use crate::parse::Origin;
use crate::proto::{ETHERNET_LEN, IPV4_LEN, UDP_LEN};
use core::net::Ipv4Addr;

/// Bytes of the tunnel headers that this reads.
const HEADER_LEN: usize = 8;
/// Bytes in front of the inner frame.
pub const UDP4_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + HEADER_LEN;
/// The same with the shortest inner frame.
pub(crate) const LEN: usize = UDP4_LEN + ETHERNET_LEN;

const MAC: u64 = 0xffff_ffff_ffff;
/// EtherType IPv4, version 4, IHL 5: bytes 12 to 14.
const IPV4_PLAIN: u64 = 0x0045_0008;
/// Bytes 20, 21 and 23: more-fragments bit and offset, protocol.
const FRAGMENT_AND_PROTO: u64 = 0xff00_ff3f;
/// No fragment, UDP.
const WHOLE_UDP: u64 = 0x1100_0000;
/// VNI, bytes 4 to 6 of a tunnel header.
const VNI: u64 = 0x00ff_ffff_0000_0000;

/// How the first four bytes of a format's ordinary headers look, as they stand in the packet.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// Bits that are always the same.
    pub mask: [u8; 4],
    /// These bits.
    pub value: [u8; 4],
}

/// Number of VXLAN's pattern.
pub const VXLAN: u8 = 0;
/// Number of Geneve's pattern.
pub const GENEVE: u8 = 1;
/// The patterns by number; no header fits two of them. VXLAN: the I flag. Geneve: version 0 and no options, neither a
/// control packet nor critical options, protocol type Ethernet.
pub const PATTERNS: [Pattern; 2] = [
    Pattern { mask: [0x08, 0, 0, 0], value: [0x08, 0, 0, 0] },
    Pattern { mask: [0xff, 0xc0, 0xff, 0xff], value: [0, 0, 0x65, 0x58] },
];

/// The outer headers of a common tunnel packet, all checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp4Outer {
    /// Ethernet destination: its first byte is the lowest of the 48 bits.
    pub dl_dst: u64,
    /// Source and destination address, as word 1 of a [`FlowKey`](crate::key::FlowKey) has them.
    pub addresses: u64,
    /// UDP destination port in the lowest two bytes, VNI in bytes 4 to 6, all in wire order: what tells
    /// tunnels apart besides addresses.
    pub port_and_vni: u64,
    /// Number of the pattern that its tunnel header fits.
    pub pattern: u8,
    /// Outer TOS.
    pub tos: u8,
    /// Outer TTL.
    pub ttl: u8,
    df: bool,
    /// Length of the inner frame in bytes, at least 14.
    pub inner_len: u16,
    /// Bytes of the frame behind the UDP datagram.
    pub trailing: u16,
}

/// What tells tunnels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Udp4Tunnel {
    /// [`Udp4Outer::addresses`].
    pub addresses: u64,
    /// [`Udp4Outer::port_and_vni`].
    pub port_and_vni: u64,
}

impl Udp4Tunnel {
    /// Of a packet with ordinary outer headers.
    #[inline(always)]
    pub(crate) fn of(head: &[u8; LEN]) -> Udp4Tunnel {
        let (udp, header) = (le64::<34, LEN>(head), le64::<42, LEN>(head));
        Udp4Tunnel { addresses: le64::<26, LEN>(head), port_and_vni: (udp >> 16) & 0xffff | header & VNI }
    }

    /// VNI, 24 bits.
    #[inline(always)]
    pub const fn vni(&self) -> u32 {
        ((self.port_and_vni >> 32) as u32).swap_bytes() >> 8
    }

    /// UDP destination port, host order.
    #[inline]
    pub const fn udp_dst(&self) -> u16 {
        (self.port_and_vni as u16).swap_bytes()
    }

    /// Outer source.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from((self.addresses as u32).swap_bytes())
    }

    /// Outer destination.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(((self.addresses >> 32) as u32).swap_bytes())
    }
}

impl Udp4Outer {
    /// Reads and checks the outer headers. `None` when anything is out of the ordinary, right or wrong:
    /// [`super::outer`] says which.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<Udp4Outer> {
        let head = frame.first_chunk::<LEN>()?;
        let (type_to_id, fragment_to_ttl) = (le64::<12, LEN>(head), le64::<20, LEN>(head));
        let (udp, header) = (le64::<34, LEN>(head), le64::<42, LEN>(head));
        let fits = |n: u8| {
            let Pattern { mask, value } = PATTERNS[usize::from(n)];
            header as u32 & u32::from_le_bytes(mask) == u32::from_le_bytes(value)
        };
        let is_vxlan = fits(VXLAN);
        let total_len = usize::from(((type_to_id >> 32) as u16).swap_bytes());
        let udp_len = usize::from(((udp >> 32) as u16).swap_bytes());
        #[allow(clippy::needless_bitwise_bool, reason = "one branch at the end instead of eight on the way")]
        let plain = (type_to_id & 0xff_ffff == IPV4_PLAIN)
            & (fragment_to_ttl & FRAGMENT_AND_PROTO == WHOLE_UDP)
            & (udp >> 48 == 0)
            & (is_vxlan | fits(GENEVE))
            & (total_len <= frame.len() - ETHERNET_LEN)
            & (udp_len + IPV4_LEN <= total_len)
            & (udp_len >= LEN - ETHERNET_LEN - IPV4_LEN)
            & ipv4_header20_is_valid(&part::<14, 20, LEN>(head));
        if !plain {
            return None;
        }
        // More than 65,535 bytes come from no device: that is the general way's.
        let trailing = u16::try_from(frame.len()).ok()? - (ETHERNET_LEN + IPV4_LEN + udp_len) as u16;
        let Udp4Tunnel { addresses, port_and_vni } = Udp4Tunnel::of(head);
        Some(Udp4Outer {
            dl_dst: le64::<0, LEN>(head) & MAC,
            addresses,
            port_and_vni,
            pattern: if is_vxlan { VXLAN } else { GENEVE },
            tos: (type_to_id >> 24) as u8,
            ttl: (fragment_to_ttl >> 16) as u8,
            df: fragment_to_ttl & 0x40 != 0,
            inner_len: (udp_len - UDP_LEN - HEADER_LEN) as u16,
            trailing,
        })
    }

    /// What tells its tunnel apart.
    #[inline(always)]
    pub const fn tunnel(&self) -> Udp4Tunnel {
        Udp4Tunnel { addresses: self.addresses, port_and_vni: self.port_and_vni }
    }

    /// `in_port` and the `tun_*` fields of the inner frame's key, as [`super::outer::Outer::fill_key`] writes them.
    #[inline(always)]
    pub const fn origin(&self, in_port: u32) -> Origin {
        let flags = if self.df { TUN_PRESENT | TUN_DF } else { TUN_PRESENT };
        Origin::tunnel((in_port, self.tunnel().vni()), self.addresses, (flags, self.tos, self.ttl))
    }
}

/// A MAC address as [`Udp4Outer::dl_dst`] has it.
pub const fn mac_word(mac: crate::addr::MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// An address as the upper half of [`Udp4Outer::addresses`] has it.
pub const fn ipv4_word(ip: Ipv4Addr) -> u32 {
    u32::from_le_bytes(ip.octets())
}

/// A UDP port as the lowest bytes of [`Udp4Outer::port_and_vni`] have it.
pub const fn port_word(port: u16) -> u16 {
    u16::from_le_bytes(port.to_be_bytes())
}
