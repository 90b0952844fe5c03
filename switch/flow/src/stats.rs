//! Packets and bytes.

use std::hash::{Hash, Hasher};
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// Packets and bytes of what is shared, to be added to through a shared reference: a rule or a group is counted for by every
/// megaflow made from it, a bucket by every worker.
#[derive(Debug, Default)]
pub struct SharedStats {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl SharedStats {
    /// Adds some.
    #[inline]
    pub fn add(&self, new: PacketStats) {
        self.packets.fetch_add(new.packets, Relaxed);
        self.bytes.fetch_add(new.bytes, Relaxed);
    }

    /// The sum until now.
    pub fn get(&self) -> PacketStats {
        PacketStats::new(self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl From<PacketStats> for SharedStats {
    fn from(stats: PacketStats) -> SharedStats {
        SharedStats { packets: stats.packets.into(), bytes: stats.bytes.into() }
    }
}

/// Where a program counts; two are equal when they are one and the same.
#[derive(Debug, Clone)]
pub struct StatsRef(pub Arc<SharedStats>);

impl PartialEq for StatsRef {
    fn eq(&self, other: &StatsRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StatsRef {}

impl Hash for StatsRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}
