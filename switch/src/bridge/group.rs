//! The groups of a bridge.

use super::stats::SharedStats;
use flow::ofp::GroupSpec;
use flow::stats::PacketStats;
use std::time::Instant;

/// A group with its statistics.
#[derive(Debug)]
pub struct Group {
    /// Kind and buckets.
    pub spec: GroupSpec,
    /// When it was added.
    pub created: Instant,
    stats: SharedStats,
}

impl Group {
    /// A group that no packet has come to.
    pub fn new(spec: GroupSpec, now: Instant) -> Group {
        Group { spec, created: now, stats: SharedStats::default() }
    }

    /// Packets and bytes of the megaflows that use it, as of their last collection.
    pub fn stats(&self) -> PacketStats {
        self.stats.get()
    }

    /// Adds what a megaflow counted.
    pub fn count(&self, new: PacketStats) {
        self.stats.add(new);
    }
}
