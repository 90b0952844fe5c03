//! Ethernet addresses.

use core::fmt;
use core::str::FromStr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet (MAC) address, in wire order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);
    /// `00:00:00:00:00:00`.
    pub const ZERO: MacAddr = MacAddr([0; 6]);

    /// Whether the group bit is set (multicast, broadcast included).
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether this is the broadcast address.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether all bits are zero.
    #[inline]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether this is an address of the IEEE 802.1D reserved group `01:80:c2:00:00:0x`, which a
    /// bridge does not forward unless told to (`forward-bpdu`).
    #[inline]
    pub fn is_reserved_group(self) -> bool {
        let a = self.0;
        match a {
            // IEEE 802.1D and 802.1Q.
            [0x01, 0x80, 0xc2, 0, 0, last] => last < 0x10,
            // Extreme's discovery and ring protection.
            [0x00, 0xe0, 0x2b, 0, 0, last] => matches!(last, 0 | 4 | 6),
            // Cisco's: ISL, discovery and trunking, spanning tree a VLAN, STP uplink fast, fault management.
            [0x01, 0x00, 0x0c, 0, 0, 0]
            | [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xc0..=0xcd]
            | [0x01, 0x00, 0x0c, 0xcd, 0xcd, 0xcd] => true,
            _ => false,
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let a = self.0;
        write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2], a[3], a[4], a[5])
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal bytes joined by colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a MAC address such as 02:00:00:00:0a:01")]
pub struct ParseMacError;

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(s: &str) -> Result<Self, ParseMacError> {
        let mut out = [0u8; 6];
        let mut n = 0;
        for part in s.split(':') {
            if n == 6 || part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            out[n] = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
            n += 1;
        }
        if n == 6 { Ok(MacAddr(out)) } else { Err(ParseMacError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_round_trip() {
        let mac: MacAddr = "02:00:00:00:0a:1f".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:0a:1f");
        for bad in [
            "",
            "02:00:00:00:0a",
            "02:00:00:00:0a:1f:00",
            "0x:00:00:00:0a:1f",
            "020:0:0:0:0:0",
            "+2:00:00:00:0a:1f",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(ParseMacError), "{bad:?}");
        }
    }
}
