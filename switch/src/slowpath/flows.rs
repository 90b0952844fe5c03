//! The slow path's record of one worker's megaflows: which slot holds what, whose statistics it counts for,
//! and what it depends on.

use super::masks::{Fit, Masks};
use super::traffic::TunnelSource;
use crate::bridge::group::GroupUse;
use crate::bridge::rules::Rule;
use crate::bridge::translate::{Dependency, Learns, RuleEffects, TableDep, Translation};
use flow::megaflow::Slab;
use flow::program::{AdjacencyId, Op, ProgramId};
use flow::stats::PacketStats;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::key::{FlowKey, FlowMask};

/// A megaflow as the slow path knows it.
#[derive(Debug)]
pub struct Megaflow {
    /// Masked key.
    pub key: FlowKey,
    /// Mask.
    pub mask: FlowMask,
    /// What the worker does with its packets.
    pub program: ProgramId,
    /// What its packets teach.
    pub learn: Learns,
    /// What its packets do to rules.
    pub effects: Option<Box<RuleEffects>>,
    /// Whose statistics its packets count for.
    pub rules: Vec<Arc<Rule>>,
    /// Groups whose statistics its packets count for.
    pub groups: Vec<GroupUse>,
    /// The tunnel that its packets come out of.
    pub source: Option<TunnelSource>,
    /// Adjacencies that its packets are encapsulated with: they count in underlay bridges, too.
    pub encaps: Encaps,
    /// Tables that its translation looked into.
    pub tables: SmallVec<[TableDep; 2]>,
    /// What else it depends on.
    pub deps: Vec<Dependency>,
    /// When it was installed.
    pub created: Instant,
    /// When it was last seen to have matched a packet.
    pub used: Instant,
    /// What was counted so far.
    pub stats: PacketStats,
}

impl Megaflow {
    /// Takes over what the worker has counted, and gives it to the rules. Says whether there was anything new.
    fn count(&mut self, stats: PacketStats, tunnelled: &mut Tunnelled, now: Instant) -> bool {
        let new = stats - self.stats;
        if new.packets == 0 {
            return false;
        }
        for rule in &self.rules {
            rule.count(new, now);
        }
        for group in &self.groups {
            group.count(new);
        }
        for encap in &self.encaps {
            *tunnelled.encapsulated.entry(*encap).or_default() += new;
        }
        if let Some(source) = self.source {
            *tunnelled.decapsulated.entry(source).or_default() += new;
        }
        (self.stats, self.used) = (stats, now);
        true
    }
}

/// Adjacencies that a program encapsulates every packet with, and the VNIs.
pub type Encaps = SmallVec<[(AdjacencyId, u32); 1]>;

/// Packets in tunnels, without outer headers.
#[derive(Debug, Default)]
pub struct Tunnelled {
    /// By adjacency and VNI.
    pub encapsulated: FxHashMap<(AdjacencyId, u32), PacketStats>,
    /// By where they came from.
    pub decapsulated: FxHashMap<TunnelSource, PacketStats>,
}

/// The adjacencies that a program encapsulates every packet with; which bucket of a group a packet took is not known
/// here.
pub(super) fn encaps(ops: &[Op]) -> Encaps {
    let mut found = Encaps::new();
    for op in ops {
        match op {
            Op::Encap { adjacency, vni, .. } => found.push((*adjacency, *vni)),
            Op::Clone(ops) | Op::Truncate { ops, .. } => found.extend(encaps(ops)),
            _ => {}
        }
    }
    found
}

#[derive(Debug)]
enum Slot {
    Free,
    Live(Box<Megaflow>),
    /// The worker was told to remove it and has not said that it did.
    Leaving(Box<Megaflow>),
}

/// Hash of a megaflow's identity. The mask's part is cheap: masks are few, and keys under two of them
/// are compared in full anyway.
fn hash(secret: &RandomState, key: &FlowKey, mask: &FlowMask) -> u64 {
    let mut hasher = secret.build_hasher();
    for word in key.words() {
        hasher.write_u64(*word);
    }
    hasher.write_u64(mask.words().iter().fold(0u64, |sum, word| sum.rotate_left(7) ^ word));
    hasher.finish()
}

/// Where in a [`FlowStore`] a megaflow with a certain key and mask goes.
#[derive(Debug)]
pub struct Place(u64);

/// All megaflows of one worker.
pub struct FlowStore {
    slab: Arc<Slab>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    /// Megaflows that there may be: as many as slots, or fewer.
    limit: usize,
    leaving: usize,
    /// All slots in use are below it: lower ones are taken first, and a large table may hold few megaflows.
    end: usize,
    /// Boxes of megaflows that are gone, for the next ones: new flows come by the hundred thousand a second.
    #[allow(clippy::vec_box, reason = "the boxes are what is kept")]
    spare: Vec<Box<Megaflow>>,
    /// Slots by key and mask, which stand in the slots.
    by_key: HashTable<u32>,
    /// Hash of each slot's key and mask: whole tables are taken out by it without a look at either.
    hashes: Vec<u64>,
    by_dependency: HashMap<Dependency, FxHashSet<u32>>,
    masks: Masks,
    /// What was counted in tunnels and not yet taken.
    tunnelled: Tunnelled,
    /// Secret of the hash: packets choose the keys.
    secret: RandomState,
}

impl FlowStore {
    /// An empty store over all slots of `slab`.
    pub fn new(slab: Arc<Slab>) -> FlowStore {
        let count = slab.slots();
        FlowStore {
            slots: (0..count).map(|_| Slot::Free).collect(),
            free: (0..count as u32).rev().collect(),
            slab,
            live: 0,
            limit: usize::MAX,
            leaving: 0,
            end: 0,
            spare: Vec::new(),
            by_key: HashTable::new(),
            hashes: vec![0; count],
            by_dependency: HashMap::new(),
            masks: Masks::default(),
            tunnelled: Tunnelled::default(),
            secret: RandomState::default(),
        }
    }

    /// Megaflows in use.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Different masks in use.
    pub fn masks(&self) -> usize {
        self.masks.len()
    }

    /// Different masks of an in-port's megaflows.
    pub fn masks_of(&self, in_port: u32) -> usize {
        self.masks.of_port(in_port)
    }

    /// The mask to use for a megaflow that could have `mask`, such that its in-port has at most `bound` masks; and the
    /// slots of megaflows that have to go for that.
    pub fn fit_mask(&mut self, in_port: u32, mask: &FlowMask, bound: usize) -> (FlowMask, Vec<u32>) {
        match self.masks.fit(in_port, mask, bound) {
            Fit::AsItIs => (*mask, Vec::new()),
            Fit::Widened(mask) => (mask, Vec::new()),
            Fit::Outgrown { mask, old } => {
                let goes = |slot: &u32| {
                    self.get(*slot).is_some_and(|flow| flow.key.in_port == in_port && flow.mask == old)
                };
                (mask, self.slots().filter(goes).collect())
            }
        }
    }

    /// Slots that the slab has.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Megaflows that there may be.
    pub fn limit(&self) -> usize {
        self.limit.min(self.capacity())
    }

    /// Lets there be so many at most, of new ones.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The slot of the megaflow with this masked key and mask; or the place that one would have.
    pub fn find(&self, key: &FlowKey, mask: &FlowMask) -> Result<u32, Place> {
        let same = |slot: &u32| self.get(*slot).is_some_and(|flow| flow.key == *key && flow.mask == *mask);
        let place = hash(&self.secret, key, mask);
        self.by_key.find(place, same).copied().ok_or(Place(place))
    }

    /// Slots that are free or will be as soon as the worker has removed what sits in them.
    pub fn room(&self) -> usize {
        (self.free.len() + self.leaving).min(self.limit().saturating_sub(self.live))
    }

    /// Puts a megaflow into a free slot, at the place that [`FlowStore::find`] gave for its key and mask; gives it back
    /// when there is no slot.
    #[allow(clippy::result_large_err, reason = "it comes back when the table is full, and goes no further")]
    pub fn insert(&mut self, Place(place): Place, flow: Megaflow) -> Result<u32, Megaflow> {
        if self.live >= self.limit {
            return Err(flow);
        }
        let Some(slot) = self.free.pop() else { return Err(flow) };
        self.depend(slot, &flow.deps);
        self.masks.add(flow.key.in_port, &flow.mask);
        let flow = match self.spare.pop() {
            Some(mut spare) => {
                *spare = flow;
                spare
            }
            None => Box::new(flow),
        };
        self.slots[slot as usize] = Slot::Live(flow);
        self.hashes[slot as usize] = place;
        let hashes = &self.hashes;
        self.by_key.insert_unique(place, slot, |slot| hashes[*slot as usize]);
        self.live += 1;
        self.end = self.end.max(slot as usize + 1);
        Ok(slot)
    }

    fn depend(&mut self, slot: u32, dependencies: &[Dependency]) {
        for dependency in dependencies {
            self.by_dependency.entry(*dependency).or_default().insert(slot);
        }
    }

    fn independ(&mut self, slot: u32, dependencies: &[Dependency]) {
        for dependency in dependencies {
            if let Some(slots) = self.by_dependency.get_mut(dependency) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by_dependency.remove(dependency);
                }
            }
        }
    }

    /// A megaflow in use.
    pub fn get(&self, slot: u32) -> Option<&Megaflow> {
        match self.slots.get(slot as usize)? {
            Slot::Live(flow) => Some(flow),
            Slot::Free | Slot::Leaving(_) => None,
        }
    }

    /// Gives a megaflow what a new translation says besides its mask.
    pub fn update(&mut self, slot: u32, program: ProgramId, translation: Translation, now: Instant) {
        let stats = self.stats(slot);
        let Some(Slot::Live(flow)) = self.slots.get_mut(slot as usize) else { return };
        // What was counted until now belongs to the rules until now.
        flow.count(stats, &mut self.tunnelled, now);
        flow.program = program;
        flow.encaps = encaps(&translation.program.ops);
        flow.learn = translation.learn;
        flow.effects = translation.effects;
        flow.rules = translation.rules;
        flow.groups = translation.groups;
        flow.tables = translation.tables;
        if flow.deps != translation.deps {
            let new = translation.deps.clone();
            let old = std::mem::replace(&mut flow.deps, translation.deps);
            self.independ(slot, &old);
            self.depend(slot, &new);
        }
    }

    /// The worker is being told to remove this: it is found no more, and its slot not used until
    /// [`FlowStore::removed`]. Returns the program that it had.
    pub fn leave(&mut self, slot: u32) -> Option<ProgramId> {
        let place = self.slots.get_mut(slot as usize)?;
        if !matches!(place, Slot::Live(_)) {
            return None;
        }
        let Slot::Live(flow) = std::mem::replace(place, Slot::Free) else { return None };
        if let Ok(entry) = self.by_key.find_entry(self.hashes[slot as usize], |other| *other == slot) {
            entry.remove();
        }
        self.independ(slot, &flow.deps);
        self.masks.remove(flow.key.in_port, &flow.mask);
        let program = flow.program;
        self.slots[slot as usize] = Slot::Leaving(flow);
        self.live -= 1;
        self.leaving += 1;
        Some(program)
    }

    /// The worker has removed it, with these final statistics: no packet that it matched is lost to its rules.
    pub fn removed(&mut self, slot: u32, stats: PacketStats, now: Instant) {
        let Some(place) = self.slots.get_mut(slot as usize) else { return };
        if let Slot::Leaving(mut flow) = std::mem::replace(place, Slot::Free) {
            flow.count(stats, &mut self.tunnelled, now);
            // What it refers to must not live on in a spare box.
            flow.effects = None;
            flow.rules.clear();
            flow.groups.clear();
            flow.deps.clear();
            self.spare.push(flow);
            self.free.push(slot);
            self.leaving -= 1;
            if self.live + self.leaving == 0 {
                self.end = 0;
            }
        }
    }

    /// Packets that were encapsulated or decapsulated since the last call.
    pub fn take_tunnelled(&mut self) -> Tunnelled {
        std::mem::take(&mut self.tunnelled)
    }

    /// What the worker has counted for a slot.
    fn stats(&self, slot: u32) -> PacketStats {
        let (packets, bytes) = self.slab.stats(slot);
        PacketStats::new(packets, bytes)
    }

    /// Slots of the megaflows that depend on this.
    pub fn dependents(&self, dependency: &Dependency) -> Vec<u32> {
        self.by_dependency.get(dependency).map_or_else(Vec::new, |slots| slots.iter().copied().collect())
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.end as u32).filter(|slot| matches!(self.slots[*slot as usize], Slot::Live(_)))
    }

    /// Reads the statistics of the slots in `range`. Calls `active` with the busy ones, whose packets may teach something, and
    /// returns those idle for `max_idle`.
    pub fn collect(
        &mut self,
        range: std::ops::Range<usize>,
        max_idle: Duration,
        now: Instant,
        mut active: impl FnMut(&Megaflow),
    ) -> Vec<u32> {
        let mut idle = Vec::new();
        let range = range.start.min(self.end)..range.end.min(self.end);
        for slot in range {
            if let Slot::Live(flow) = &mut self.slots[slot] {
                let (packets, bytes) = self.slab.stats(slot as u32);
                if flow.count(PacketStats::new(packets, bytes), &mut self.tunnelled, now) {
                    active(flow);
                } else if now.saturating_duration_since(flow.used) >= max_idle {
                    idle.push(slot as u32);
                }
            }
        }
        idle
    }

    /// The least recently used of a bounded sample of megaflows, to make room; of those in use the least busy.
    ///
    /// `used` is as old as the last reading of statistics, while new megaflows come all the time: what the worker
    /// has counted since then decides, or the busiest ones would go.
    pub fn victims(&self, from: usize, count: usize, now: Instant) -> Vec<u32> {
        let total = self.slots.len();
        let mut sample: Vec<(Instant, u64, u32)> = (0..total.min(count * 8))
            .map(|i| ((from + i) % total) as u32)
            .filter_map(|slot| {
                let flow = self.get(slot)?;
                let new = self.slab.stats(slot).0.wrapping_sub(flow.stats.packets);
                // The packet that a megaflow was made for was counted when it was let go.
                let used_since = new > u64::from(flow.stats.packets == 0);
                Some((if used_since { now } else { flow.used }, new, slot))
            })
            .collect();
        sample.sort_unstable();
        sample.into_iter().take(count).map(|(_, _, slot)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::megaflow::MegaflowTable;

    fn put(store: &mut FlowStore, flow: Megaflow) -> Option<u32> {
        let place = store.find(&flow.key, &flow.mask).expect_err("a new one");
        store.insert(place, flow).ok()
    }

    fn megaflow(n: u32) -> Megaflow {
        let now = Instant::now();
        Megaflow {
            key: FlowKey { in_port: n, ..FlowKey::ZERO },
            mask: FlowMask { in_port: u32::MAX, ..FlowKey::ZERO },
            program: ProgramId(0),
            learn: Learns::new(),
            effects: None,
            rules: Vec::new(),
            groups: Vec::new(),
            source: None,
            encaps: Encaps::new(),
            tables: SmallVec::new(),
            deps: Vec::new(),
            created: now,
            used: now,
            stats: PacketStats::default(),
        }
    }

    #[test]
    fn masks_are_counted_as_megaflows_come_and_go() {
        let mut store = FlowStore::new(Arc::new(Slab::new(64)));
        let mut here: Vec<(u32, u32)> = Vec::new();
        for n in 0..400u32 {
            // Runs of one mask, of several in turn, and leavings in any order.
            let kind = if n % 3 == 0 { n / 9 % 2 } else { n % 5 };
            if n % 7 < 4 || here.is_empty() {
                let mut flow = megaflow(n);
                flow.mask.nw_proto = kind as u8;
                here.extend(put(&mut store, flow).map(|slot| (slot, kind)));
            } else {
                let (slot, _) = here.swap_remove(n as usize * 31 % here.len());
                assert!(store.leave(slot).is_some());
                store.removed(slot, PacketStats::default(), Instant::now());
            }
            let kinds: FxHashSet<u32> = here.iter().map(|(_, kind)| *kind).collect();
            assert_eq!(store.masks(), kinds.len());
        }
    }

    #[test]
    fn a_busy_megaflow_is_no_victim_before_new_ones() {
        let slab = Arc::new(Slab::new(64));
        let mut table = MegaflowTable::new(Arc::clone(&slab), 128);
        let mut store = FlowStore::new(slab);
        let start = Instant::now();
        for n in 0..64 {
            // New ones are younger than the last reading of the busy one's statistics.
            let created = start + Duration::from_millis(u64::from(n));
            let flow = Megaflow { created, used: created, ..megaflow(n) };
            let (key, mask) = (flow.key, flow.mask);
            let slot = put(&mut store, flow).unwrap();
            table.insert(slot, &key, &mask, 0).unwrap();
            // Every flow's first packet was counted when it was let go.
            table.account(slot, if n == 0 { 1000 } else { 1 }, 64);
        }
        let busy = store.find(&megaflow(0).key, &megaflow(0).mask).unwrap();
        let victims = store.victims(0, 32, start + Duration::from_millis(100));
        assert_eq!(victims.len(), 32);
        assert!(!victims.contains(&busy), "{victims:?}");
    }

    #[test]
    fn a_slot_that_is_removed_and_refused_at_once_comes_back_once() {
        let mut store = FlowStore::new(Arc::new(Slab::new(4)));
        let slot = put(&mut store, megaflow(1)).unwrap();
        assert_eq!(store.find(&megaflow(1).key, &megaflow(1).mask).ok(), Some(slot));
        // Removed by us while its installation is under way, which then fails: the worker answers both.
        assert!(store.leave(slot).is_some());
        assert!(store.leave(slot).is_none(), "it is leaving already");
        store.removed(slot, PacketStats::default(), Instant::now());
        store.removed(slot, PacketStats::default(), Instant::now());
        assert_eq!(store.room(), 4);
        assert_eq!((2..10).filter(|n| put(&mut store, megaflow(*n)).is_some()).count(), 4);
        assert_eq!(store.room(), 0);
    }
}
