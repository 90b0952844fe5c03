//! Packet counters of what is shared: a rule or group is counted for by every megaflow made from it.

use flow::stats::PacketStats;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Packets and bytes, to be added to through a shared reference.
#[derive(Debug, Default)]
pub(super) struct SharedStats {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl SharedStats {
    /// Adds some.
    pub(super) fn add(&self, new: PacketStats) {
        self.packets.fetch_add(new.packets, Relaxed);
        self.bytes.fetch_add(new.bytes, Relaxed);
    }

    /// The sum until now.
    pub(super) fn get(&self) -> PacketStats {
        PacketStats::new(self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl From<PacketStats> for SharedStats {
    fn from(stats: PacketStats) -> SharedStats {
        SharedStats { packets: stats.packets.into(), bytes: stats.bytes.into() }
    }
}
