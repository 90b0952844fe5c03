//! Packets and bytes.

use std::ops::{Add, AddAssign, Sub};

/// A number of packets and the bytes in them, without FCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketStats {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl PacketStats {
    /// So many packets of so many bytes together.
    #[inline(always)]
    pub const fn new(packets: u64, bytes: u64) -> PacketStats {
        PacketStats { packets, bytes }
    }
}

impl Add for PacketStats {
    type Output = PacketStats;

    #[inline(always)]
    fn add(self, other: PacketStats) -> PacketStats {
        PacketStats::new(self.packets + other.packets, self.bytes + other.bytes)
    }
}

impl AddAssign for PacketStats {
    #[inline(always)]
    fn add_assign(&mut self, other: PacketStats) {
        *self = *self + other;
    }
}

/// What was counted since `other` was read from the same counters, which may have started over.
impl Sub for PacketStats {
    type Output = PacketStats;

    fn sub(self, other: PacketStats) -> PacketStats {
        PacketStats::new(self.packets.wrapping_sub(other.packets), self.bytes.wrapping_sub(other.bytes))
    }
}
