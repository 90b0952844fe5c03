//! Segmentation in software (GSO): the headers of each packet that a large one becomes.
//!
//! What a device with TCP or UDP segmentation does: every segment gets the large packet's headers with lengths, IPv4
//! identification, TCP sequence number and flags, and all checksums of its own (RFC 791, 768, 9293, 2784). The large
//! packet's transport checksum is the sum of the pseudo header with the whole length, not complemented, as Linux has it.

use crate::bytes::{array, be16, put};
use crate::checksum::{self, Sum};
use crate::proto::{IPV4_MF, IPV4_OFFSET, IPV6_LEN, UDP_LEN};

/// TCP flags (byte 13 of the header) that only the last segment has: FIN, PSH.
const TCP_LAST: u8 = 0x09;
/// TCP flag that only the first segment has: CWR.
const TCP_FIRST: u8 = 0x80;
/// First byte of a GRE header: there is a checksum.
const GRE_CHECKSUM: u8 = 0x80;
/// First byte of a GRE header: there is a sequence number.
const GRE_SEQUENCE: u8 = 0x10;

/// Where a large packet's headers are: offsets in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The tunnel that it is in.
    pub tunnel: Option<Tunnel>,
    /// The (inner) IP header.
    pub l3: usize,
    /// The TCP or UDP header.
    pub l4: usize,
    /// What is divided.
    pub payload: usize,
    /// Whether it is TCP.
    pub is_tcp: bool,
}

/// Outer headers: offsets in bytes from the packet's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// The outer IP header.
    pub l3: usize,
    /// What it carries: UDP or GRE.
    pub l4: usize,
    /// Whether that is UDP.
    pub is_udp: bool,
    /// Whether the UDP header is to have a checksum; its field has the sum of the pseudo header with the whole length.
    pub udp_checksum: bool,
}

/// The headers are not where they should be, or say something else than the packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a TCP or UDP packet whose lengths are those of its headers")]
pub struct NotSegmentable;

/// A packet that can be divided.
#[derive(Debug, Clone, Copy)]
pub struct Segmenter<'a> {
    header: &'a [u8],
    layout: Layout,
    len: usize,
}

/// One segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Its number, from 0.
    pub index: usize,
    /// Where its payload begins in the whole payload, in bytes.
    pub offset: usize,
    /// Bytes of its payload.
    pub len: usize,
    /// Sum over its payload.
    pub sum: Sum,
}

impl<'a> Segmenter<'a> {
    /// Checks the headers of a packet of `len` bytes, which are all in `first`, its first bytes.
    ///
    /// # Errors
    /// [`NotSegmentable`]: dividing it would make wrong packets.
    pub fn new(first: &'a [u8], len: usize, layout: Layout) -> Result<Segmenter<'a>, NotSegmentable> {
        let Layout { tunnel, l3, l4, payload, is_tcp } = layout;
        let ok = || {
            let header = first.get(..payload)?;
            if payload >= len || !(l3 < l4 && l4 < payload) || !ip_fits(header, l3, l4, len)? {
                return None;
            }
            let fits = if is_tcp {
                let offset = usize::from(header.get(l4 + 12)? >> 4) * 4;
                offset >= 20 && l4 + offset == payload
            } else {
                l4 + UDP_LEN == payload && usize::from(be16(header, l4 + 4)?) == len - l4
            };
            if let Some(outer) = tunnel {
                let in_order = outer.l3 < outer.l4 && outer.l4 + 4 < l3;
                // Sums over payload and inner headers are taken together: they must be of one parity.
                if !in_order
                    || !(payload - outer.l4).is_multiple_of(2)
                    || !ip_fits(header, outer.l3, outer.l4, len)?
                {
                    return None;
                }
                if outer.is_udp && usize::from(be16(header, outer.l4 + 4)?) != len - outer.l4 {
                    return None;
                }
                // Each packet would need a number that nobody else uses.
                if !outer.is_udp && header.get(outer.l4)? & GRE_SEQUENCE != 0 {
                    return None;
                }
            }
            fits.then_some(header)
        };
        ok().map(|header| Segmenter { header, layout, len }).ok_or(NotSegmentable)
    }

    /// Bytes of payload that are divided.
    pub const fn payload_len(&self) -> usize {
        self.len - self.layout.payload
    }

    /// All headers, as they are in front of the whole payload.
    pub const fn header(&self) -> &'a [u8] {
        self.header
    }

    /// Makes `out`, a copy of [`Self::header`], the headers of one segment. Nothing is done to a slice of another length.
    pub fn write(&self, out: &mut [u8], segment: &Segment) {
        if out.len() != self.header.len() {
            return;
        }
        let Layout { tunnel, l3, l4, payload, is_tcp } = self.layout;
        let len = payload + segment.len;
        write_ip(out, l3, l4, len, segment.index);
        let field = if is_tcp {
            let seq = u32::from_be_bytes(array(out, l4 + 4).unwrap_or_default());
            put(out, l4 + 4, seq.wrapping_add(segment.offset as u32).to_be_bytes());
            let is_last = segment.offset + segment.len == self.payload_len();
            let not = if is_last { 0 } else { TCP_LAST } | if segment.index == 0 { 0 } else { TCP_FIRST };
            put(out, l4 + 13, [out[l4 + 13] & !not]);
            l4 + 16
        } else {
            put(out, l4 + 4, ((len - l4) as u16).to_be_bytes());
            l4 + 6
        };
        self.write_checksum(out, l4, field, segment);
        let Some(outer) = tunnel else { return };
        write_ip(out, outer.l3, outer.l4, len, segment.index);
        if outer.is_udp {
            put(out, outer.l4 + 4, ((len - outer.l4) as u16).to_be_bytes());
            if outer.udp_checksum {
                self.write_checksum(out, outer.l4, outer.l4 + 6, segment);
            }
        } else if out[outer.l4] & GRE_CHECKSUM != 0 {
            put(out, outer.l4 + 4, [0; 2]);
            let sum = (Sum::of(&out[outer.l4..]) + segment.sum).checksum();
            put(out, outer.l4 + 4, sum.to_be_bytes());
        }
    }

    /// Completes the checksum at `field` of the transport header at `l4`: for the whole packet it holds the sum of the
    /// pseudo header.
    fn write_checksum(&self, out: &mut [u8], l4: usize, field: usize, segment: &Segment) {
        let whole = (self.len - l4) as u16;
        let this = (out.len() + segment.len - l4) as u16;
        let pseudo =
            Sum::of_u16(be16(out, field).unwrap_or(0)) + Sum::of_u16(whole).negated() + Sum::of_u16(this);
        put(out, field, [0; 2]);
        let sum = match (pseudo + Sum::of(&out[l4..]) + segment.sum).checksum() {
            // Zero says that there is none in UDP, and is the same number in TCP.
            0 => 0xffff,
            sum => sum,
        };
        put(out, field, sum.to_be_bytes());
    }
}

/// Whether there is an IP header at `l3`, unfragmented, whose length is that of the packet of `len` bytes, and which can
/// end at `l4`. `None` when it is cut off.
fn ip_fits(header: &[u8], l3: usize, l4: usize, len: usize) -> Option<bool> {
    let first = *header.get(l3)?;
    Some(match first >> 4 {
        4 => {
            let header_len = usize::from(first & 15) * 4;
            header_len >= 20
                && l3 + header_len == l4
                && usize::from(be16(header, l3 + 2)?) == len - l3
                && be16(header, l3 + 6)? & (IPV4_MF | IPV4_OFFSET) == 0
        }
        6 => l4 >= l3 + IPV6_LEN && usize::from(be16(header, l3 + 4)?) == len - l3 - IPV6_LEN,
        _ => false,
    })
}

/// Makes the IP header that of a packet of `len` bytes, number `index` of its series.
fn write_ip(out: &mut [u8], l3: usize, l4: usize, len: usize, index: usize) {
    if out[l3] >> 4 == 6 {
        put(out, l3 + 4, ((len - l3 - IPV6_LEN) as u16).to_be_bytes());
        return;
    }
    let id = be16(out, l3 + 4).unwrap_or(0).wrapping_add(index as u16);
    put(out, l3 + 2, ((len - l3) as u16).to_be_bytes());
    put(out, l3 + 4, id.to_be_bytes());
    let sum = checksum::ipv4_header(&out[l3..l4]);
    put(out, l3 + 10, sum.to_be_bytes());
}
