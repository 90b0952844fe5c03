//! IPv4, IPv6 and UDP headers.

use super::{ViewError, header, room};
use crate::bytes::{part, put};
use crate::checksum::{self, Sum};
use crate::proto::{IP_UDP, IPV4_DF, IPV4_LEN, IPV4_MF, IPV4_OFFSET, IPV6_LEN, UDP_LEN};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 header of a whole packet: fragments are refused, options skipped and not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Repr {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub proto: u8,
    /// TOS: DSCP and ECN.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Don't fragment.
    pub df: bool,
}

impl Ipv4Repr {
    /// Bytes of the header as written.
    pub const LEN: usize = IPV4_LEN;

    /// Reads and checks what follows the Ethernet header. The payload ends with the total length.
    pub fn parse(bytes: &[u8]) -> Result<(Ipv4Repr, &[u8]), ViewError> {
        const WHAT: &str = "IPv4";
        let head: [u8; IPV4_LEN] = header(WHAT, bytes)?;
        let header_len = usize::from(head[0] & 15) * 4;
        if head[0] >> 4 != 4 || header_len < IPV4_LEN {
            return Err(ViewError::Malformed { what: WHAT, expected: "version 4 and an IHL of 5 at least" });
        }
        let truncated = |needed| ViewError::Truncated { what: WHAT, needed, got: bytes.len() };
        let with_options = bytes.get(..header_len).ok_or(truncated(header_len))?;
        if !checksum::ipv4_header_is_valid(with_options) {
            return Err(ViewError::Checksum(WHAT));
        }
        let total_len = usize::from(u16::from_be_bytes(part::<2, 2, 20>(&head)));
        if total_len < header_len {
            return Err(ViewError::Malformed {
                what: WHAT,
                expected: "a total length that covers the header",
            });
        }
        let payload = bytes.get(header_len..total_len).ok_or(truncated(total_len))?;
        let fragment = u16::from_be_bytes(part::<6, 2, 20>(&head));
        if fragment & (IPV4_MF | IPV4_OFFSET) != 0 {
            return Err(ViewError::Malformed { what: WHAT, expected: "a whole packet, not a fragment" });
        }
        let repr = Ipv4Repr {
            src: part::<12, 4, 20>(&head).into(),
            dst: part::<16, 4, 20>(&head).into(),
            proto: head[9],
            tos: head[1],
            ttl: head[8],
            id: u16::from_be_bytes(part::<4, 2, 20>(&head)),
            df: fragment & IPV4_DF != 0,
        };
        Ok((repr, payload))
    }

    /// Writes the header of a packet with `payload_len` bytes of payload.
    pub fn emit(&self, out: &mut [u8], payload_len: usize) -> Result<usize, ViewError> {
        let out = room(out, IPV4_LEN)?;
        let too_long = ViewError::TooLong { what: "IPv4", max: usize::from(u16::MAX) - IPV4_LEN };
        let total_len = u16::try_from(payload_len + IPV4_LEN).map_err(|_| too_long)?;
        let fragment = if self.df { IPV4_DF } else { 0 };
        put(out, 0, [0x45, self.tos]);
        put(out, 2, total_len.to_be_bytes());
        put(out, 4, self.id.to_be_bytes());
        put(out, 6, fragment.to_be_bytes());
        put(out, 8, [self.ttl, self.proto, 0, 0]);
        put(out, 12, self.src.octets());
        put(out, 16, self.dst.octets());
        let sum = checksum::ipv4_header(out);
        put(out, 10, sum.to_be_bytes());
        Ok(IPV4_LEN)
    }
}

/// An IPv6 header; extension headers are payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Repr {
    /// Source.
    pub src: Ipv6Addr,
    /// Destination.
    pub dst: Ipv6Addr,
    /// Protocol of the payload.
    pub next_header: u8,
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
}

impl Ipv6Repr {
    /// Bytes of the header.
    pub const LEN: usize = IPV6_LEN;

    /// Reads and checks what follows the Ethernet header. The payload ends with the payload length.
    pub fn parse(bytes: &[u8]) -> Result<(Ipv6Repr, &[u8]), ViewError> {
        const WHAT: &str = "IPv6";
        let head: [u8; IPV6_LEN] = header(WHAT, bytes)?;
        let first = u32::from_be_bytes(part::<0, 4, 40>(&head));
        if first >> 28 != 6 {
            return Err(ViewError::Malformed { what: WHAT, expected: "version 6" });
        }
        let end = IPV6_LEN + usize::from(u16::from_be_bytes(part::<4, 2, 40>(&head)));
        let truncated = ViewError::Truncated { what: WHAT, needed: end, got: bytes.len() };
        let payload = bytes.get(IPV6_LEN..end).ok_or(truncated)?;
        let repr = Ipv6Repr {
            src: part::<8, 16, 40>(&head).into(),
            dst: part::<24, 16, 40>(&head).into(),
            next_header: head[6],
            traffic_class: (first >> 20) as u8,
            flow_label: first & 0xf_ffff,
            hop_limit: head[7],
        };
        Ok((repr, payload))
    }

    /// Writes the header of a packet with `payload_len` bytes of payload.
    pub fn emit(&self, out: &mut [u8], payload_len: usize) -> Result<usize, ViewError> {
        let out = room(out, IPV6_LEN)?;
        let too_long = ViewError::TooLong { what: "IPv6", max: usize::from(u16::MAX) };
        let payload_len = u16::try_from(payload_len).map_err(|_| too_long)?;
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        put(out, 0, first.to_be_bytes());
        put(out, 4, payload_len.to_be_bytes());
        put(out, 6, [self.next_header, self.hop_limit]);
        put(out, 8, self.src.octets());
        put(out, 24, self.dst.octets());
        Ok(IPV6_LEN)
    }
}

/// The pseudo header's sum for `len` bytes of `proto`. Addresses of two families make a sum that fits nothing.
pub(super) fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> Sum {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            checksum::pseudo_v4(src.octets(), dst.octets(), proto, len as u16)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            checksum::pseudo_v6(&src.octets(), &dst.octets(), proto, len as u32)
        }
        _ => Sum::ZERO,
    }
}

/// A UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl UdpRepr {
    /// Bytes of the header.
    pub const LEN: usize = UDP_LEN;

    /// Reads an IP packet's payload and checks it against the packet's addresses; a checksum of 0 is "none" over
    /// IPv4 and refused over IPv6. The payload ends with the UDP length.
    pub fn parse(bytes: &[u8], src: IpAddr, dst: IpAddr) -> Result<(UdpRepr, &[u8]), ViewError> {
        const WHAT: &str = "UDP";
        let [s0, s1, d0, d1, l0, l1, c0, c1]: [u8; UDP_LEN] = header(WHAT, bytes)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len < UDP_LEN {
            return Err(ViewError::Malformed { what: WHAT, expected: "a length of 8 at least" });
        }
        let truncated = ViewError::Truncated { what: WHAT, needed: len, got: bytes.len() };
        let datagram = bytes.get(..len).ok_or(truncated)?;
        let is_intact = if [c0, c1] == [0, 0] {
            src.is_ipv4()
        } else {
            checksum::l4_is_valid(pseudo(src, dst, IP_UDP, len), datagram)
        };
        if !is_intact {
            return Err(ViewError::Checksum(WHAT));
        }
        let repr = UdpRepr { src_port: u16::from_be_bytes([s0, s1]), dst_port: u16::from_be_bytes([d0, d1]) };
        Ok((repr, datagram.get(UDP_LEN..).unwrap_or(&[])))
    }

    /// Writes the header and `payload` behind it, checksum included.
    pub fn emit(&self, out: &mut [u8], src: IpAddr, dst: IpAddr, payload: &[u8]) -> Result<usize, ViewError> {
        let len = UDP_LEN + payload.len();
        let too_long = ViewError::TooLong { what: "UDP", max: usize::from(u16::MAX) - UDP_LEN };
        let wire_len = u16::try_from(len).map_err(|_| too_long)?;
        let out = room(out, len)?;
        put(out, 0, self.src_port.to_be_bytes());
        put(out, 2, self.dst_port.to_be_bytes());
        put(out, 4, wire_len.to_be_bytes());
        put(out, 6, [0, 0]);
        out[UDP_LEN..].copy_from_slice(payload);
        let sum = checksum::udp(pseudo(src, dst, IP_UDP, len), out);
        put(out, 6, sum.to_be_bytes());
        Ok(len)
    }
}
