//! The groups of a bridge.

use flow::ofp::GroupSpec;
use flow::stats::{PacketStats, SharedStats, StatsRef};
use std::sync::Arc;
use std::time::Instant;

/// A group with its statistics.
#[derive(Debug)]
pub struct Group {
    /// Kind and buckets.
    pub spec: GroupSpec,
    /// When it was added.
    pub created: Instant,
    stats: SharedStats,
    /// Of each bucket.
    buckets: Box<[Arc<SharedStats>]>,
}

/// How the packets of a megaflow use a group.
#[derive(Debug, Clone)]
pub struct GroupUse {
    /// The group.
    pub group: Arc<Group>,
    /// What of it.
    pub what: Used,
}

/// What of a group packets use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// The group; its buckets are counted one by one.
    Group,
    /// The bucket in this place.
    Bucket(usize),
}

impl GroupUse {
    /// Adds what a megaflow counted.
    pub fn count(&self, new: PacketStats) {
        match self.what {
            Used::Group => self.group.stats.add(new),
            Used::Bucket(at) => {
                if let Some(bucket) = self.group.buckets.get(at) {
                    bucket.add(new);
                }
            }
        }
    }
}

impl Group {
    /// A group that no packet has come to.
    pub fn new(spec: GroupSpec, now: Instant) -> Group {
        let buckets = spec.buckets.iter().map(|_| Arc::default()).collect();
        Group { spec, created: now, stats: SharedStats::default(), buckets }
    }

    /// Packets and bytes of the megaflows that use it, as of their last collection.
    pub fn stats(&self) -> PacketStats {
        self.stats.get()
    }

    /// The same of each bucket. Those of a group whose buckets workers choose are counted by them, packet by packet.
    pub fn bucket_stats(&self) -> Vec<PacketStats> {
        self.buckets.iter().map(|bucket| bucket.get()).collect()
    }

    /// Where the packets of a bucket are counted.
    pub fn bucket_counter(&self, at: usize) -> Option<StatsRef> {
        self.buckets.get(at).map(|stats| StatsRef(Arc::clone(stats)))
    }
}
