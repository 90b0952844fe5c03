//! Explicit congestion notification across a tunnel (RFC 6040), as Open vSwitch and Linux do it.

use crate::bytes::array;
use crate::checksum;
use crate::proto::IPV4_LEN;

/// The ECN bits of a TOS byte or traffic class.
pub const ECN_MASK: u8 = 3;
/// Not ECN-capable.
pub const ECN_NOT_ECT: u8 = 0;
/// ECN-capable, ECT(1).
pub const ECN_ECT1: u8 = 1;
/// ECN-capable, ECT(0).
pub const ECN_ECT0: u8 = 2;
/// Congestion experienced.
pub const ECN_CE: u8 = 3;

/// ECN of the outer header for an inner TOS (0 for a frame that is not IP): copied, but CE becomes ECT(0).
#[inline]
pub const fn ecn_encap(inner_tos: u8) -> u8 {
    match inner_tos & ECN_MASK {
        ECN_CE => ECN_ECT0,
        ecn => ecn,
    }
}

/// What to do with the inner packet on decapsulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EcnDecap {
    /// Leave it as it is.
    Keep,
    /// Set its ECN field to this ([`set_ecn`]).
    Set(u8),
    /// Drop and count it: congestion was marked on a packet whose sender does not know ECN.
    Drop,
}

/// Whether an outer TOS may change the inner packet's ECN field: ECT(1) and CE do.
#[inline(always)]
pub const fn has_ecn_to_decap(outer_tos: u8) -> bool {
    outer_tos & ECN_ECT1 != 0
}

/// Decides by the outer and inner TOS (RFC 6040, figure 4). For an inner frame that is not IP the answer does not apply:
/// keep it.
#[inline]
pub const fn ecn_decap(outer_tos: u8, inner_tos: u8) -> EcnDecap {
    match (outer_tos & ECN_MASK, inner_tos & ECN_MASK) {
        (ECN_CE, ECN_NOT_ECT) => EcnDecap::Drop,
        (ECN_CE, ECN_ECT0 | ECN_ECT1) => EcnDecap::Set(ECN_CE),
        (ECN_ECT1, ECN_ECT0) => EcnDecap::Set(ECN_ECT1),
        _ => EcnDecap::Keep,
    }
}

/// Sets the ECN field in the IPv4 (checksum updated) or IPv6 header at offset `l3` of `frame`. False, with nothing
/// changed, when no whole IP header is there.
pub fn set_ecn(frame: &mut [u8], l3: usize, ecn: u8) -> bool {
    let Some(packet) = frame.get_mut(l3..) else { return false };
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let Some(header) = packet.first_chunk_mut::<IPV4_LEN>() else { return false };
            let old = u16::from_be_bytes([header[0], header[1]]);
            let new = old & !u16::from(ECN_MASK) | u16::from(ecn & ECN_MASK);
            let sum = checksum::update_u16(u16::from_be_bytes([header[10], header[11]]), old, new);
            header[1] = new as u8;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            true
        }
        Some(6) if array::<40>(packet, 0).is_some() => {
            // The traffic class straddles the first two bytes; ECN is bits 5 and 4 of the second.
            packet[1] = packet[1] & !(ECN_MASK << 4) | (ecn & ECN_MASK) << 4;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::ipv4_header_is_valid;

    #[test]
    fn encap_table() {
        assert_eq!([0, 1, 2, 3].map(ecn_encap), [0, 1, 2, 2]);
        assert_eq!(ecn_encap(0xfd), 1);
    }

    #[test]
    fn decap_table() {
        use EcnDecap::{Drop, Keep, Set};
        let table =
            [[Keep; 4], [Keep, Keep, Set(ECN_ECT1), Keep], [Keep; 4], [Drop, Set(ECN_CE), Set(ECN_CE), Keep]];
        for outer in 0..4u8 {
            for inner in 0..4u8 {
                let decided = ecn_decap(0xb8 | outer, inner);
                assert_eq!(decided, table[usize::from(outer)][usize::from(inner)]);
                assert!(decided == Keep || has_ecn_to_decap(outer));
            }
        }
    }

    #[test]
    fn ecn_is_set_and_checksum_kept() {
        for (tos, ecn) in (0..=255u8).flat_map(|tos| (0..4u8).map(move |ecn| (tos, ecn))) {
            let mut frame = [0u8; 34];
            frame[14..].copy_from_slice(&[
                0x45, tos, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
            ]);
            let sum = checksum::ipv4_header(&frame[14..]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            assert!(set_ecn(&mut frame, 14, ecn));
            assert_eq!(frame[15], tos & 0xfc | ecn);
            assert!(ipv4_header_is_valid(&frame[14..]));
        }
        let mut v6 = [0u8; 40];
        v6[..2].copy_from_slice(&[0x6b, 0x81]);
        assert!(set_ecn(&mut v6, 0, ECN_CE));
        assert_eq!(v6[..2], [0x6b, 0xb1]);
        assert!(set_ecn(&mut v6, 0, ECN_ECT1));
        assert_eq!(v6[..2], [0x6b, 0x91]);
        let before = v6;
        assert!(!set_ecn(&mut v6[..39], 0, 3) && !set_ecn(&mut v6, 1, 3) && !set_ecn(&mut v6, 41, 3));
        assert_eq!(v6, before);
    }
}
