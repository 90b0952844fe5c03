//! The groups of a bridge.

use flow::ofp::GroupSpec;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A group with its statistics.
#[derive(Debug)]
pub struct Group {
    /// Kind and buckets.
    pub spec: GroupSpec,
    /// When it was added.
    pub created: Instant,
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Group {
    /// A group that no packet has come to.
    pub fn new(spec: GroupSpec, now: Instant) -> Group {
        Group { spec, created: now, packets: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// Packets and bytes of the megaflows that use it, as of their last collection.
    pub fn stats(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Adds what a megaflow counted.
    pub fn count(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}
