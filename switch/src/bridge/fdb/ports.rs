//! What each port has learned: how much, in which order it was last seen, and how fast it may learn more.

use super::Slot;
use super::list::List;
use flow::program::PortId;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[derive(Debug)]
struct PortEntries {
    count: usize,
    /// Least recently seen first.
    order: List,
    /// When the port will have paid for what it has learned (a bucket of one second's addresses that drains).
    paid: Instant,
}

/// Learned entries by port.
#[derive(Debug, Default)]
pub(super) struct Ports {
    by_port: FxHashMap<PortId, PortEntries>,
    /// The same by count: the last has most.
    by_count: BTreeSet<(usize, PortId)>,
    /// All of them.
    total: usize,
}

impl Ports {
    /// Learned entries of all ports.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Learned entries of a port.
    pub(super) fn count(&self, port: PortId) -> usize {
        self.by_port.get(&port).map_or(0, |p| p.count)
    }

    /// The least recently seen entry of a port.
    pub(super) fn oldest_of(&self, port: PortId) -> Option<u32> {
        self.by_port.get(&port)?.order.front()
    }

    /// The least recently seen entry of the port that has most.
    pub(super) fn oldest_of_fullest(&self) -> Option<u32> {
        let (_, port) = self.by_count.last()?;
        self.oldest_of(*port)
    }

    /// Whether a port may learn one more at this time, at so many a second; if so, it has.
    pub(super) fn admit(&mut self, port: PortId, rate: u32, now: Instant) -> bool {
        let entries = self.of(port, now);
        let paid = entries.paid.max(now);
        if paid >= now + Duration::from_secs(1) {
            return false;
        }
        entries.paid = paid + Duration::from_secs(1) / rate.max(1);
        true
    }

    /// An entry is the most recently seen one of its port.
    pub(super) fn add(&mut self, slab: &mut [Slot], at: u32, now: Instant) {
        let port = slab[at as usize].at.port;
        let entries = self.of(port, now);
        entries.order.push_back(slab, at, |slot| &mut slot.order);
        let count = entries.count;
        entries.count += 1;
        self.recount(port, count, count + 1);
        self.total += 1;
    }

    /// An entry leaves.
    pub(super) fn remove(&mut self, slab: &mut [Slot], at: u32) {
        let port = slab[at as usize].at.port;
        let Some(entries) = self.by_port.get_mut(&port) else { return };
        entries.order.remove(slab, at, |slot| &mut slot.order);
        let count = entries.count;
        entries.count -= 1;
        self.recount(port, count, count - 1);
        self.total -= 1;
    }

    /// An entry was seen again.
    pub(super) fn touch(&mut self, slab: &mut [Slot], at: u32) {
        let Some(entries) = self.by_port.get_mut(&slab[at as usize].at.port) else { return };
        entries.order.remove(slab, at, |slot| &mut slot.order);
        entries.order.push_back(slab, at, |slot| &mut slot.order);
    }

    /// Forgets a port that has nothing any more.
    pub(super) fn forget(&mut self, port: PortId) {
        if self.count(port) == 0 {
            self.by_port.remove(&port);
        }
    }

    fn of(&mut self, port: PortId, now: Instant) -> &mut PortEntries {
        self.by_port.entry(port).or_insert(PortEntries { count: 0, order: List::EMPTY, paid: now })
    }

    fn recount(&mut self, port: PortId, before: usize, after: usize) {
        self.by_count.remove(&(before, port));
        if after > 0 {
            self.by_count.insert((after, port));
        }
    }
}
