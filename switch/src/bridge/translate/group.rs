//! `group:N`: buckets, each on a copy of the packet.

use super::{Bridge, BridgeId, Dependency, MAX_DEPTH, Op, Port, Translator};
use crate::bridge::group::{Group, GroupUse, Used};
use flow::drop::DropReason;
use flow::ofp::{Bucket, GroupKind, PacketReason};
use flow::program::Select;
use std::sync::Arc;

impl<'w> Translator<'w> {
    /// Sends the packet to a group.
    pub(super) fn group(&mut self, bridge: &'w Bridge, port: &'w Port, id: u32) {
        self.deps.push(Dependency::Group(port.bridge, id));
        self.resubmits += 1;
        if self.depth >= MAX_DEPTH || self.resubmits > super::MAX_RESUBMITS {
            return self.abort(|| format!("groups and tables over {MAX_DEPTH} deep"));
        }
        let Some(group) = bridge.groups.get(&id) else {
            self.note(|| format!("no group {id}"));
            self.drop = DropReason::NoBucket;
            return;
        };
        self.groups.push(GroupUse { group: Arc::clone(group), what: Used::Group });
        let spec = &group.spec;
        match spec.kind {
            GroupKind::All | GroupKind::Indirect => {
                if spec.buckets.is_empty() {
                    self.drop = DropReason::NoBucket;
                }
                for bucket in &spec.buckets {
                    self.only_bucket(bridge, port, group, bucket);
                }
            }
            GroupKind::FastFailover => {
                match spec.buckets.iter().find(|bucket| self.is_alive(bridge, port.bridge, bucket)) {
                    Some(bucket) => self.only_bucket(bridge, port, group, bucket),
                    None => self.no_bucket(),
                }
            }
            GroupKind::Select => self.select(bridge, port, group),
        }
    }

    fn no_bucket(&mut self) {
        self.note(|| "no live bucket".into());
        self.drop = DropReason::NoBucket;
    }

    /// A bucket that every packet of the megaflow goes to.
    fn only_bucket(&mut self, bridge: &'w Bridge, port: &'w Port, group: &'w Arc<Group>, bucket: &'w Bucket) {
        if let Some(at) = group.spec.buckets.iter().position(|other| other.id == bucket.id) {
            self.groups.push(GroupUse { group: Arc::clone(group), what: Used::Bucket(at) });
        }
        self.nested(|t| t.bucket(bridge, port, bucket));
    }

    fn bucket(&mut self, bridge: &'w Bridge, port: &'w Port, bucket: &'w Bucket) {
        self.note(|| format!("bucket {}", bucket.id));
        let outer = self.sends_as(PacketReason::Group);
        self.depth += 1;
        self.actions(bridge, port, &bucket.actions);
        self.depth -= 1;
        self.sent_as = outer;
    }

    /// Whether what the bucket watches is up; one that watches nothing is alive. A group is alive when one of its
    /// buckets is: so it is looked for a live port among all groups that can be reached.
    fn is_alive(&mut self, bridge: &'w Bridge, id: BridgeId, bucket: &'w Bucket) -> bool {
        let port_is_up = |number: u32| {
            let port = bridge.ports.get(&number).and_then(|id| self.state.port(*id));
            port.is_some_and(Port::is_live)
        };
        let lives = |bucket: &Bucket| match (bucket.watch_port, bucket.watch_group) {
            (None, None) => true,
            (port, _) => port.is_some_and(port_is_up),
        };
        let mut buckets = vec![bucket];
        let mut watched: Vec<u32> = Vec::new();
        while let Some(bucket) = buckets.pop() {
            if lives(bucket) {
                return true;
            }
            let Some(group) = bucket.watch_group.filter(|group| !watched.contains(group)) else { continue };
            watched.push(group);
            self.deps.push(Dependency::Group(id, group));
            buckets.extend(bridge.groups.get(&group).into_iter().flat_map(|group| &group.spec.buckets));
        }
        false
    }

    /// One op for the whole group: the worker chooses a bucket by the flow's hash, so that one megaflow serves all
    /// flows. Where a group names the fields that are hashed, the bucket is chosen here, and megaflows have these fields.
    fn select(&mut self, bridge: &'w Bridge, port: &'w Port, group: &'w Arc<Group>) {
        let spec = &group.spec;
        let live: Vec<&'w Bucket> = spec
            .buckets
            .iter()
            .filter(|bucket| bucket.weight > 0 && self.is_alive(bridge, port.bridge, bucket))
            .collect();
        let hash = spec.selection.as_ref().filter(|_| live.len() > 1).and_then(|by| self.hash_of(by));
        match (&live[..], hash) {
            ([], _) => self.no_bucket(),
            ([bucket], _) => self.only_bucket(bridge, port, group, bucket),
            (_, Some(hash)) => {
                let at = slots(&live)[hash as usize % Select::SLOTS];
                self.only_bucket(bridge, port, group, live[usize::from(at)]);
            }
            _ => {
                let buckets = self.branches(&live, |t, bucket| t.bucket(bridge, port, bucket));
                let slots = slots(&live);
                let place = |bucket: &Bucket| spec.buckets.iter().position(|other| other.id == bucket.id);
                let stats = live.iter().filter_map(|bucket| group.bucket_counter(place(bucket)?)).collect();
                self.push(Op::Select(Box::new(Select { slots, buckets: buckets.into(), stats })));
            }
        }
    }

    /// The ops of alternatives of which the packet takes one.
    pub(super) fn branches<T>(&mut self, all: &[T], mut work: impl FnMut(&mut Self, &T)) -> Vec<Box<[Op]>> {
        // What each does, from one and the same packet.
        let mut branches: Vec<Box<[Op]>> = Vec::with_capacity(all.len());
        let before = self.mirrored.clone();
        // Mirrors that have their copy whichever it is.
        let mut mirrored: Option<Vec<_>> = None;
        for each in all {
            self.mirrored.clone_from(&before);
            branches.push(self.apart(|t| work(t, each)));
            let done = std::mem::take(&mut self.mirrored);
            let all = mirrored.unwrap_or_else(|| done.clone());
            mirrored = Some(all.into_iter().filter(|mirror| done.contains(mirror)).collect());
        }
        self.mirrored = mirrored.unwrap_or(before);
        self.delivered = true;
        branches
    }

    /// The ops of what `work` does, which are run on a packet of their own; one that goes nowhere says why.
    pub(in crate::bridge) fn apart(&mut self, work: impl FnOnce(&mut Self)) -> Box<[Op]> {
        let (at, in_port) = (self.at.clone(), self.in_port);
        let ops = std::mem::take(&mut self.ops);
        let (edits, delivered, drop, exited) = (self.edits, self.delivered, self.drop, self.exited);
        self.delivered = false;
        work(self);
        self.exited = exited;
        if !self.delivered {
            self.ops.push(Op::Drop(self.drop));
        }
        (self.at, self.in_port, self.edits, self.delivered, self.drop) =
            (at, in_port, edits, delivered, drop);
        std::mem::replace(&mut self.ops, ops).into()
    }
}

/// Which bucket each hash value goes to: the one of the highest score, which depends on the value, the bucket's
/// number and its weight alone. A bucket that comes or goes moves no flow between the others (weighted
/// rendezvous hashing, Thaler and Ravishankar 1998).
fn slots(buckets: &[&Bucket]) -> [u8; Select::SLOTS] {
    std::array::from_fn(|value| {
        let score =
            |bucket: &Bucket| -f64::from(bucket.weight) / uniform(value as u64, bucket.id.into()).ln();
        let best = buckets.iter().enumerate().max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b)));
        best.map_or(0, |(at, _)| at as u8)
    })
}

/// A number between 0 and 1 that is the same for the same two: splitmix64's last step.
fn uniform(a: u64, b: u64) -> f64 {
    let mut x = (a << 32 ^ b).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::ofp::Action;

    fn bucket(id: u32, weight: u16) -> Bucket {
        Bucket { id, weight, watch_port: None, watch_group: None, actions: vec![Action::Drop] }
    }

    #[test]
    fn weights_decide_and_a_bucket_that_goes_moves_no_other_flow() {
        let all = [bucket(1, 100), bucket(2, 100), bucket(3, 200)];
        let chosen = slots(&all.iter().collect::<Vec<_>>());
        let count = |at: u8| chosen.iter().map(|slot| usize::from(*slot == at)).sum::<usize>();
        assert!((40..90).contains(&count(0)) && (40..90).contains(&count(1)), "{} {}", count(0), count(1));
        assert!((100..160).contains(&count(2)), "{}", count(2));
        let without = slots(&[&all[0], &all[2]]);
        for (before, after) in chosen.iter().zip(without) {
            match before {
                0 => assert_eq!(after, 0),
                2 => assert_eq!(after, 1),
                _ => {}
            }
        }
    }
}
