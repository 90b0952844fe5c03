//! The groups of a bridge.

use super::stats::SharedStats;
use flow::ofp::GroupSpec;
use flow::stats::PacketStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
    buckets: Box<[SharedStats]>,
    /// Packets were counted whose bucket a worker chose.
    chosen: AtomicBool,
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
    /// The group, of which workers choose a bucket for each packet.
    AnyBucket,
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
            Used::AnyBucket => self.group.chosen.store(true, Relaxed),
        }
    }
}

impl Group {
    /// A group that no packet has come to.
    pub fn new(spec: GroupSpec, now: Instant) -> Group {
        let buckets = spec.buckets.iter().map(|_| SharedStats::default()).collect();
        Group { spec, created: now, stats: SharedStats::default(), buckets, chosen: AtomicBool::new(false) }
    }

    /// Packets and bytes of the megaflows that use it, as of their last collection.
    pub fn stats(&self) -> PacketStats {
        self.stats.get()
    }

    /// The same of each bucket; `None` for groups whose buckets workers have chosen.
    pub fn bucket_stats(&self) -> Vec<Option<PacketStats>> {
        let chosen = self.chosen.load(Relaxed);
        self.buckets.iter().map(|bucket| (!chosen).then(|| bucket.get())).collect()
    }
}
