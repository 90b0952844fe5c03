//! Which TCP segments are parts of one large packet (GRO): what a device with large receive offload looks at.
//!
//! Segments belong together when [`crate::gso`] makes exactly them again of the packet that they become: their headers are the
//! same but for lengths, identifications that count up, sequence numbers that continue, checksums, and PSH, which the last one
//! may have.

use crate::bytes::{array, be16, put};
use crate::checksum::{self, Sum};
use crate::field::{ethernet, ipv4, ipv6, tcp};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, ETHERNET_LEN, IP_TCP, IPV4_LEN, IPV4_MF, IPV4_OFFSET, IPV6_LEN,
    VLAN_LEN,
};

/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// TCP flags ACK and PSH. With others a segment stays alone.
const ACK: u16 = 0x10;
/// The TCP flag PSH.
pub const PSH: u16 = 0x08;

/// What a frame is to the ones before it and behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A segment that may be a part of a large packet.
    Segment(Segment),
    /// Of TCP, but on its own; those of its connection before it and behind it have nothing to do with each other.
    Alone(Segment),
    /// Not TCP.
    Other,
    /// It cannot be said which connection it is of, if of any.
    Unknown,
}

/// Where the headers of a TCP segment are, and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Offset of the IP header, in bytes.
    pub l3: usize,
    /// Offset of the TCP header.
    pub l4: usize,
    /// Offset of the payload.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
    /// Sequence number of the first of them.
    pub seq: u32,
    /// IPv4 identification.
    pub id: u16,
    /// Whether it is IPv6.
    pub is_ipv6: bool,
    /// Whether the sender wants it to be delivered at once (PSH).
    pub push: bool,
}

/// Reads the frame of `len` bytes of which `frame` are the first.
pub fn read(frame: &[u8], len: usize) -> Received {
    let Some(mut dl_type) = be16(frame, ethernet::TYPE) else { return Received::Unknown };
    let mut l3 = ETHERNET_LEN;
    while matches!(dl_type, ETH_VLAN | ETH_QINQ) && l3 < ETHERNET_LEN + 2 * VLAN_LEN {
        let Some(next) = be16(frame, l3 + 2) else { return Received::Unknown };
        (dl_type, l3) = (next, l3 + VLAN_LEN);
    }
    match dl_type {
        ETH_IPV4 => read_ipv4(frame, l3, len),
        ETH_IPV6 => read_ipv6(frame, l3, len),
        ETH_VLAN | ETH_QINQ => Received::Unknown,
        _ => Received::Other,
    }
}

fn read_ipv4(frame: &[u8], l3: usize, len: usize) -> Received {
    let Some(header) = array::<IPV4_LEN>(frame, l3) else { return Received::Unknown };
    if header[ipv4::PROTOCOL] != IP_TCP {
        return Received::Other;
    }
    let flags = u16::from_be_bytes([header[ipv4::FRAGMENT], header[ipv4::FRAGMENT + 1]]);
    if header[ipv4::VERSION_IHL] != 0x45 || flags & (IPV4_MF | IPV4_OFFSET) != 0 {
        return Received::Unknown;
    }
    let total = usize::from(u16::from_be_bytes([header[ipv4::TOTAL_LEN], header[ipv4::TOTAL_LEN + 1]]));
    let id = u16::from_be_bytes([header[ipv4::ID], header[ipv4::ID + 1]]);
    read_tcp(frame, (l3, l3 + IPV4_LEN), (total, len - l3.min(len)), (false, id))
}

fn read_ipv6(frame: &[u8], l3: usize, len: usize) -> Received {
    let Some(header) = array::<IPV6_LEN>(frame, l3) else { return Received::Unknown };
    match header[ipv6::NEXT_HEADER] {
        IP_TCP => {}
        // Extension headers, behind which may be anything.
        0 | 43 | 44 | 51 | 60 | 135 => return Received::Unknown,
        _ => return Received::Other,
    }
    let payload = u16::from_be_bytes([header[ipv6::PAYLOAD_LEN], header[ipv6::PAYLOAD_LEN + 1]]);
    let total = IPV6_LEN + usize::from(payload);
    read_tcp(frame, (l3, l3 + IPV6_LEN), (total, len - l3.min(len)), (true, 0))
}

fn read_tcp(
    frame: &[u8],
    (l3, l4): (usize, usize),
    (total, available): (usize, usize),
    (is_ipv6, id): (bool, u16),
) -> Received {
    let Some(header) = array::<TCP_LEN>(frame, l4) else { return Received::Unknown };
    let payload = l4 + usize::from(header[tcp::FLAGS] >> 4) * 4;
    let flags = u16::from_be_bytes([header[tcp::FLAGS] & 0xf, header[tcp::FLAGS + 1]]);
    let segment = Segment {
        l3,
        l4,
        payload,
        len: (l3 + total).saturating_sub(payload),
        seq: u32::from_be_bytes(array(&header, tcp::SEQ).unwrap_or_default()),
        id,
        is_ipv6,
        push: flags & PSH != 0,
    };
    let is_part = total == available
        && payload >= l4 + TCP_LEN
        && payload <= frame.len()
        && segment.len > 0
        && flags & !PSH == ACK;
    if is_part { Received::Segment(segment) } else { Received::Alone(segment) }
}

/// Bytes of the addresses in an IP header, from its start.
fn addresses<'a>(frame: &'a [u8], of: &Segment) -> Option<&'a [u8]> {
    let (at, len) = if of.is_ipv6 { (ipv6::SRC, 32) } else { (ipv4::SRC, 8) };
    frame.get(of.l3 + at..of.l3 + at + len)
}

/// Whether two segments are of one connection and direction.
pub fn is_one_connection((a, of_a): (&[u8], &Segment), (b, of_b): (&[u8], &Segment)) -> bool {
    let ports = |frame, of: &Segment| array::<4>(frame, of.l4);
    of_a.is_ipv6 == of_b.is_ipv6
        && ports(a, of_a) == ports(b, of_b)
        && addresses(a, of_a) == addresses(b, of_b)
}

/// Whether two segments' headers are the same but for what each has of its own.
pub fn has_same_headers((a, of_a): (&[u8], &Segment), (b, of_b): (&[u8], &Segment)) -> bool {
    if (of_a.l3, of_a.l4, of_a.payload, of_a.is_ipv6) != (of_b.l3, of_b.l4, of_b.payload, of_b.is_ipv6) {
        return false;
    }
    let Segment { l3, l4, payload, is_ipv6, .. } = *of_a;
    let is_same = |from: usize, to: usize| a.get(from..to).is_some_and(|part| b.get(from..to) == Some(part));
    let is_same_ip = if is_ipv6 {
        is_same(l3, l3 + ipv6::PAYLOAD_LEN) && is_same(l3 + ipv6::NEXT_HEADER, l4)
    } else {
        is_same(l3, l3 + ipv4::TOTAL_LEN)
            && is_same(l3 + ipv4::FRAGMENT, l3 + ipv4::CHECKSUM)
            && is_same(l3 + ipv4::SRC, l4)
    };
    // Ports; acknowledgement, data offset; window; urgent pointer and options.
    is_same(0, l3)
        && is_same_ip
        && is_same(l4, l4 + tcp::SEQ)
        && is_same(l4 + tcp::ACK, l4 + tcp::FLAGS + 1)
        && is_same(l4 + tcp::WINDOW, l4 + tcp::CHECKSUM)
        && is_same(l4 + tcp::URGENT, payload)
}

/// Whether the checksums of a segment, which `frame` holds whole, are right.
pub fn is_intact(frame: &[u8], of: &Segment) -> bool {
    let Some(l4) = frame.get(of.l4..of.payload + of.len) else { return false };
    let header_is_right = of.is_ipv6 || frame.get(of.l3..of.l4).is_some_and(checksum::ipv4_header_is_valid);
    header_is_right && pseudo(frame, of, l4.len()).is_some_and(|pseudo| checksum::l4_is_valid(pseudo, l4))
}

fn pseudo(frame: &[u8], of: &Segment, len: usize) -> Option<Sum> {
    Some(if of.is_ipv6 {
        let src = array(frame, of.l3 + ipv6::SRC)?;
        checksum::pseudo_v6(&src, &array(frame, of.l3 + ipv6::DST)?, IP_TCP, len as u32)
    } else {
        let src = array(frame, of.l3 + ipv4::SRC)?;
        checksum::pseudo_v4(src, array(frame, of.l3 + ipv4::DST)?, IP_TCP, len as u16)
    })
}

/// Makes the headers of the first segment those of a packet with `len` bytes of payload: lengths, the IPv4 checksum, PSH, and in
/// the TCP checksum's place the sum of the pseudo header, as a request for that checksum has it.
pub fn write(frame: &mut [u8], of: &Segment, len: usize, push: bool) {
    let (total, l4_len) = (of.payload - of.l3 + len, of.payload - of.l4 + len);
    if of.is_ipv6 {
        put(frame, of.l3 + ipv6::PAYLOAD_LEN, ((total - IPV6_LEN) as u16).to_be_bytes());
    } else {
        put(frame, of.l3 + ipv4::TOTAL_LEN, (total as u16).to_be_bytes());
        let sum = frame.get(of.l3..of.l4).map_or(0, checksum::ipv4_header);
        put(frame, of.l3 + ipv4::CHECKSUM, sum.to_be_bytes());
    }
    let flags = array::<1>(frame, of.l4 + tcp::FLAGS + 1).unwrap_or_default()[0];
    put(frame, of.l4 + tcp::FLAGS + 1, [if push { flags | PSH as u8 } else { flags }]);
    let sum = pseudo(frame, of, l4_len).unwrap_or(Sum::ZERO);
    put(frame, of.l4 + tcp::CHECKSUM, sum.fold().to_be_bytes());
}
