//! CRC32c, the checksum of SCTP (RFC 9260, section 6.8 and appendix A).
//!
//! The CRC is linear: when bits of a message change, it changes by the CRC register's answer to those bits alone.
//! So an edit costs a walk over the length, not over the packet, and a CRC that was wrong stays wrong.

/// The Castagnoli polynomial, bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a register's lowest byte turns into while it is shifted out.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 != 0 { register >> 1 ^ POLYNOMIAL } else { register >> 1 };
            bit += 1;
        }
        table[byte] = register;
        byte += 1;
    }
    table
};

#[inline]
const fn shift(register: u32, byte: u8) -> u32 {
    register >> 8 ^ TABLE[((register ^ byte as u32) & 0xff) as usize]
}

/// The CRC of `bytes`. SCTP sends its lowest byte first.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |register, byte| shift(register, *byte))
}

/// By what (XOR) the CRC changes when `changes` is XORed into a message that goes on for `behind` bytes.
pub fn difference(changes: &[u8], behind: usize) -> u32 {
    let register = changes.iter().fold(0, |register, byte| shift(register, *byte));
    (0..behind).fold(register, |register, _| shift(register, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn check_values() {
        // The catalogue's check value, and RFC 3720 B.4's 32 bytes of zeros and of ones.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    proptest! {
        #[test]
        fn a_difference_is_that_of_the_whole(
            message in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec(any::<u8>(), 0..20),
            at in 0usize..200,
        ) {
            let at = at.min(message.len());
            let n = changes.len().min(message.len() - at);
            let mut changed: Vec<u8> = message.clone();
            for (byte, change) in changed[at..].iter_mut().zip(&changes) {
                *byte ^= change;
            }
            let by = difference(&changes[..n], message.len() - at - n);
            prop_assert_eq!(crc32c(&changed), crc32c(&message) ^ by);
        }
    }
}
