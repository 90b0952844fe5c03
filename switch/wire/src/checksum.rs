//! The Internet checksum: sums, pseudo headers, verification and incremental update.
//!
//! RFC 1071 (the sum), RFC 1624 (incremental update), RFC 768, RFC 9293, RFC 8200 section 8.1 (pseudo
//! headers). A [`Sum`] is a running one's complement sum; sums over parts of a packet add up as long as each
//! part but the last has an even length. Checksum values are in host order unless a name says otherwise.

use core::ops::Add;

/// A running one's complement sum of big-endian 16-bit words, not yet folded.
///
/// Sixty-four bits with end-around carry, so any number of bytes can be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

#[inline]
const fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // Cannot overflow again: a carry out leaves at most u64::MAX - 1.
    sum + carry as u64
}

impl Sum {
    /// The empty sum.
    pub const ZERO: Sum = Sum(0);

    /// Sum over `bytes`; an odd last byte is padded with a zero, as RFC 1071 asks.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        // One's complement sums commute with byte order (RFC 1071, 2 B), so wide native loads are added
        // and only the folded result is put in order.
        let mut acc = 0u64;
        let (chunks, tail) = bytes.as_chunks::<8>();
        for chunk in chunks {
            acc = add_carry(acc, u64::from_ne_bytes(*chunk));
        }
        if !tail.is_empty() {
            let mut last = [0u8; 8];
            last[..tail.len()].copy_from_slice(tail);
            acc = add_carry(acc, u64::from_ne_bytes(last));
        }
        Sum(u64::from(u16::from_be(fold_native(acc))))
    }

    /// This sum and that over more bytes of the same packet, which come behind an `odd` number of bytes or an even one.
    #[must_use]
    pub fn append(self, bytes: &[u8], odd: bool) -> Sum {
        let part = Sum::of(bytes).fold();
        self + Sum::of_u16(if odd { part.swap_bytes() } else { part })
    }

    /// Sum of one 16-bit value in host order.
    #[inline]
    pub const fn of_u16(value: u16) -> Sum {
        Sum(value as u64)
    }

    /// Sum of one 32-bit value in host order.
    #[inline]
    pub const fn of_u32(value: u32) -> Sum {
        Sum((value >> 16) as u64 + (value & 0xffff) as u64)
    }

    /// The one's complement negative: adding it takes `self` away.
    #[inline]
    #[must_use]
    pub const fn negated(self) -> Sum {
        Sum(!self.fold() as u64)
    }

    /// The sum folded to 16 bits, not complemented.
    #[inline]
    pub const fn fold(self) -> u16 {
        fold_native(self.0)
    }

    /// The value for a checksum field.
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether the bytes summed, their checksum field included, are intact.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Folds end-around carries until 16 bits are left; zero only for a sum of zeros.
#[inline]
const fn fold_native(sum: u64) -> u16 {
    let s = (sum >> 32) + (sum & 0xffff_ffff);
    let s = (s >> 16) + (s & 0xffff);
    let s = (s >> 16) + (s & 0xffff);
    let s = (s >> 16) + (s & 0xffff);
    s as u16
}

impl Add for Sum {
    type Output = Sum;

    #[inline]
    fn add(self, other: Sum) -> Sum {
        Sum(add_carry(self.0, other.0))
    }
}

/// Pseudo header sum of TCP and UDP over IPv4; `len` is that of the L4 header and payload, in bytes.
#[inline]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], proto: u8, len: u16) -> Sum {
    Sum::of_u32(u32::from_be_bytes(src))
        + Sum::of_u32(u32::from_be_bytes(dst))
        + Sum::of_u16(u16::from(proto))
        + Sum::of_u16(len)
}

/// Pseudo header sum of TCP, UDP and ICMPv6 over IPv6; `len` is that of the L4 header and payload, in bytes.
#[inline]
pub fn pseudo_v6(src: &[u8; 16], dst: &[u8; 16], proto: u8, len: u32) -> Sum {
    Sum::of(src) + Sum::of(dst) + Sum::of_u16(u16::from(proto)) + Sum::of_u32(len)
}

/// The value for the checksum field of an IPv4 header (`header`: IHL * 4 bytes, at least 12), whatever stands in
/// that field now.
#[inline]
pub fn ipv4_header(header: &[u8]) -> u16 {
    let before = header.get(..10).unwrap_or(header);
    let after = header.get(12..).unwrap_or(&[]);
    (Sum::of(before) + Sum::of(after)).checksum()
}

/// Whether the checksum of an IPv4 header (IHL * 4 bytes) is right.
#[inline]
pub fn ipv4_header_is_valid(header: &[u8]) -> bool {
    Sum::of(header).is_valid()
}

/// Whether the 20 bytes of an IPv4 header without options have a right checksum: [`ipv4_header_is_valid`]
/// without a loop.
#[inline]
pub fn ipv4_header20_is_valid(header: &[u8; 20]) -> bool {
    let (words, tail) = header.as_chunks::<8>();
    let mut acc = 0;
    for word in words {
        acc = add_carry(acc, u64::from_ne_bytes(*word));
    }
    let tail = tail.first_chunk::<4>().map_or(0, |t| u64::from(u32::from_ne_bytes(*t)));
    fold_native(add_carry(acc, tail)) == 0xffff
}

/// Checksum for the field of a TCP segment or an ICMPv6 message, whose bytes (`segment`, checksum field zero)
/// follow the pseudo header. For ICMPv4, `pseudo` is [`Sum::ZERO`].
#[inline]
pub fn l4(pseudo: Sum, segment: &[u8]) -> u16 {
    (pseudo + Sum::of(segment)).checksum()
}

/// As [`l4`] for UDP, where 0 means "none" and is therefore sent as 0xffff (RFC 768).
#[inline]
pub fn udp(pseudo: Sum, segment: &[u8]) -> u16 {
    match l4(pseudo, segment) {
        0 => 0xffff,
        sum => sum,
    }
}

/// Whether a TCP segment, a UDP datagram with a checksum, or an ICMPv6 message (`segment`, checksum included)
/// is intact. A UDP checksum of 0 means there is none: the caller decides before it asks.
#[inline]
pub fn l4_is_valid(pseudo: Sum, segment: &[u8]) -> bool {
    (pseudo + Sum::of(segment)).is_valid()
}

/// RFC 1624, equation 3: the checksum after `old` became `new`, both as sums of the bytes that changed (which
/// start at an even offset). `checksum` is the field's value before, in host order.
#[inline]
pub fn update(checksum: u16, old: Sum, new: Sum) -> u16 {
    !(Sum::of_u16(!checksum) + old.negated() + new).fold()
}

/// [`update`] for one 16-bit word.
#[inline]
pub fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    update(checksum, Sum::of_u16(old), Sum::of_u16(new))
}

/// [`update`] for one 32-bit word.
#[inline]
pub fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    update(checksum, Sum::of_u32(old), Sum::of_u32(new))
}

/// [`update`] for a run of bytes that starts at an even offset.
#[inline]
pub fn update_bytes(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    update(checksum, Sum::of(old), Sum::of(new))
}

/// [`update`] for UDP: no checksum (0) stays none, and a result of 0 is sent as 0xffff.
#[inline]
pub fn update_udp(checksum: u16, old: Sum, new: Sum) -> u16 {
    match checksum {
        0 => 0,
        sum => match update(sum, old, new) {
            0 => 0xffff,
            sum => sum,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Word by word, as RFC 1071 section 4.1 writes it.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The two zeros of one's complement are one number.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a == 0 || a == 0xffff) && (b == 0 || b == 0xffff)
    }

    #[test]
    fn rfc1071_example() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
    }

    #[test]
    fn known_ipv4_header() {
        let mut header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert!(ipv4_header_is_valid(&header));
        assert!(ipv4_header20_is_valid(&header));
        assert_eq!(ipv4_header(&header), 0xb861);
        header[8] -= 1;
        assert!(!ipv4_header_is_valid(&header));
        assert!(!ipv4_header20_is_valid(&header));
    }

    #[test]
    fn rfc1624_example() {
        // Section 4: the case where the older equation gave -0.
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn udp_zero_is_sent_as_ones() {
        assert_eq!(udp(Sum::of_u16(0xffff), &[]), 0xffff);
        assert_eq!(update_udp(0, Sum::of_u16(1), Sum::of_u16(2)), 0);
    }

    proptest! {
        #[test]
        fn wide_equals_naive(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).fold(), naive(&bytes));
        }

        #[test]
        fn parts_add_up(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
            let (a, b) = bytes.split_at((at * 2).min(bytes.len()));
            prop_assert_eq!((Sum::of(a) + Sum::of(b)).fold(), naive(&bytes));
        }

        #[test]
        fn header20_equals_general(header in any::<[u8; 20]>()) {
            let mut header = header;
            prop_assert_eq!(ipv4_header20_is_valid(&header), ipv4_header_is_valid(&header));
            header[0] = 0x45;
            let sum = ipv4_header(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(ipv4_header20_is_valid(&header));
        }

        #[test]
        fn incremental_equals_recomputed(
            bytes in prop::collection::vec(any::<u8>(), 2..100),
            new in prop::collection::vec(any::<u8>(), 1..30),
            at in 0usize..50,
        ) {
            let at = ((at * 2) % bytes.len()) & !1;
            let n = new.len().min(bytes.len() - at);
            let mut changed: Vec<u8> = bytes.clone();
            changed[at..at + n].copy_from_slice(&new[..n]);
            let got = update_bytes(Sum::of(&bytes).checksum(), &bytes[at..at + n], &new[..n]);
            prop_assert!(same(got, Sum::of(&changed).checksum()));
            if changed.iter().any(|&b| b != 0) {
                prop_assert_eq!(got, Sum::of(&changed).checksum());
            }
        }

        #[test]
        fn pseudo_headers(src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), proto: u8, len: u32) {
            let mut bytes = Vec::new();
            bytes.extend(src);
            bytes.extend(dst);
            bytes.extend(len.to_be_bytes());
            bytes.extend([0, 0, 0, proto]);
            prop_assert_eq!(pseudo_v6(&src, &dst, proto, len).fold(), naive(&bytes));
            let (src4, dst4) = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
            let mut bytes = Vec::new();
            bytes.extend(src4);
            bytes.extend(dst4);
            bytes.extend([0, proto]);
            bytes.extend((len as u16).to_be_bytes());
            prop_assert_eq!(pseudo_v4(src4, dst4, proto, len as u16).fold(), naive(&bytes));
        }
    }
}
