//! The straight line through tunnel termination: VXLAN over untagged IPv4 without options, fragments or UDP
//! checksum, which is nearly every tunnel packet. What it reads stays as it stands in the packet, so that
//! addresses and ports are compared without being converted. Everything else goes by [`crate::outer`].

use crate::bytes::{le64, part};
use crate::checksum::ipv4_header20_is_valid;
use crate::key::{TUN_DF, TUN_PRESENT};
use crate::parse::{Common, Origin};
use crate::proto::{ETHERNET_LEN, IPV4_LEN, UDP_LEN};
use crate::vxlan::VXLAN_LEN;
use core::net::Ipv4Addr;

/// Bytes in front of the inner frame.
pub const PLAIN_HEADERS: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + VXLAN_LEN;
/// The same with the shortest inner frame.
pub(crate) const LEN: usize = PLAIN_HEADERS + ETHERNET_LEN;

const MAC: u64 = 0xffff_ffff_ffff;
/// EtherType IPv4, version 4, IHL 5: bytes 12 to 14.
const IPV4_PLAIN: u64 = 0x0045_0008;
/// Bytes 20, 21 and 23: more-fragments bit and offset, protocol.
const FRAGMENT_AND_PROTO: u64 = 0xff00_ff3f;
/// No fragment, UDP.
const WHOLE_UDP: u64 = 0x1100_0000;
/// I flag of a VXLAN header, its first byte.
const VNI_FLAG: u64 = 0x08;
/// VNI of a VXLAN header, bytes 4 to 6.
const VNI: u64 = 0x00ff_ffff_0000_0000;

/// The outer headers of a common tunnel packet, all checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainOuter {
    /// Ethernet destination: its first byte is the lowest of the 48 bits.
    pub dl_dst: u64,
    /// Source and destination address, as word 1 of a [`FlowKey`](crate::key::FlowKey) has them.
    pub addresses: u64,
    /// UDP destination port in the lowest two bytes, VNI in bytes 4 to 6, all in wire order: what tells
    /// tunnels apart besides addresses.
    pub port_and_vni: u64,
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
pub struct PlainTunnel {
    /// [`PlainOuter::addresses`].
    pub addresses: u64,
    /// [`PlainOuter::port_and_vni`].
    pub port_and_vni: u64,
}

impl PlainTunnel {
    /// Of a packet with ordinary outer headers.
    #[inline(always)]
    pub(crate) fn of(head: &[u8; LEN]) -> PlainTunnel {
        let (udp, vxlan) = (le64::<34, LEN>(head), le64::<42, LEN>(head));
        PlainTunnel { addresses: le64::<26, LEN>(head), port_and_vni: (udp >> 16) & 0xffff | vxlan & VNI }
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

impl PlainOuter {
    /// Reads and checks the outer headers. `None` when anything is out of the ordinary, right or wrong:
    /// [`crate::outer`] says which.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<PlainOuter> {
        let head = frame.first_chunk::<LEN>()?;
        let (type_to_id, fragment_to_ttl) = (le64::<12, LEN>(head), le64::<20, LEN>(head));
        let (udp, vxlan) = (le64::<34, LEN>(head), le64::<42, LEN>(head));
        let total_len = usize::from(((type_to_id >> 32) as u16).swap_bytes());
        let udp_len = usize::from(((udp >> 32) as u16).swap_bytes());
        #[allow(clippy::needless_bitwise_bool, reason = "one branch at the end instead of eight on the way")]
        let plain = (type_to_id & 0xff_ffff == IPV4_PLAIN)
            & (fragment_to_ttl & FRAGMENT_AND_PROTO == WHOLE_UDP)
            & (udp >> 48 == 0)
            & (vxlan & VNI_FLAG != 0)
            & (total_len <= frame.len() - ETHERNET_LEN)
            & (udp_len + IPV4_LEN <= total_len)
            & (udp_len >= LEN - ETHERNET_LEN - IPV4_LEN)
            & ipv4_header20_is_valid(&part::<14, 20, LEN>(head));
        if !plain {
            return None;
        }
        // More than 65,535 bytes come from no device: that is the general way's.
        let trailing = u16::try_from(frame.len()).ok()? - (ETHERNET_LEN + IPV4_LEN + udp_len) as u16;
        let PlainTunnel { addresses, port_and_vni } = PlainTunnel::of(head);
        Some(PlainOuter {
            dl_dst: le64::<0, LEN>(head) & MAC,
            addresses,
            port_and_vni,
            tos: (type_to_id >> 24) as u8,
            ttl: (fragment_to_ttl >> 16) as u8,
            df: fragment_to_ttl & 0x40 != 0,
            inner_len: (udp_len - UDP_LEN - VXLAN_LEN) as u16,
            trailing,
        })
    }

    /// What tells its tunnel apart.
    #[inline(always)]
    pub const fn tunnel(&self) -> PlainTunnel {
        PlainTunnel { addresses: self.addresses, port_and_vni: self.port_and_vni }
    }

    /// `in_port` and the `tun_*` fields of the inner frame's key, as [`crate::outer::Outer::fill_key`] writes them.
    #[inline(always)]
    pub const fn origin(&self, in_port: u32) -> Origin {
        let flags = if self.df { TUN_PRESENT | TUN_DF } else { TUN_PRESENT };
        Origin::tunnel((in_port, self.tunnel().vni()), self.addresses, (flags, self.tos, self.ttl))
    }
}

/// Words 2 to 5 of the [`FlowKey`](crate::key::FlowKey) of an ordinary frame (untagged IPv4 without options or fragments,
/// TCP or UDP): addresses, EtherType, protocol, TOS, TTL and ports. What lookups and encapsulation want of it without a key.
pub type PlainWords = [u64; 4];

/// Reads a frame; `None` when it is not an ordinary one, and [`crate::parse::extract`] is to be asked.
#[inline(always)]
pub fn plain_words(frame: &[u8]) -> Option<PlainWords> {
    Some(Common::read(frame)?.words)
}

/// TOS of an ordinary frame.
#[inline(always)]
pub const fn plain_tos(words: &PlainWords) -> u8 {
    words[3].to_le_bytes()[5]
}

/// TTL of an ordinary frame.
#[inline(always)]
pub const fn plain_ttl(words: &PlainWords) -> u8 {
    words[3].to_le_bytes()[6]
}

/// A MAC address as [`PlainOuter::dl_dst`] has it.
pub const fn plain_mac(mac: crate::addr::MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// An address as the upper half of [`PlainOuter::addresses`] has it.
pub const fn plain_ipv4(ip: Ipv4Addr) -> u32 {
    u32::from_le_bytes(ip.octets())
}

/// A UDP port as the lowest bytes of [`PlainOuter::port_and_vni`] have it.
pub const fn plain_port(port: u16) -> u16 {
    u16::from_le_bytes(port.to_be_bytes())
}
