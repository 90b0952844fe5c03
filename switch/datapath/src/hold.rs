//! Packets that wait: for a decision of the slow path (by flow), or for a neighbour (by adjacency).
//!
//! A fixed number of cells holds them; lists of cells keep the order of arrival. Nothing here
//! allocates after construction, and when the cells run out the next packet is dropped and counted. One port never
//! gets all of them: the fuller the table, the less may wait of whoever has most (dynamic thresholds, Choudhury and
//! Hahne 1998), so that a flood of new flows leaves room for the others.

use crate::batch::PacketInfo;
use crate::message::PendingId;
use flow::program::{MAX_PORTS, TunnelMetadata};
use rte::Mbuf;
use wire::key::FlowKey;

const NONE: u32 = u32::MAX;
/// What one port may have of a table, in times of what is free: at most seven eighths of all.
const SHARE: usize = 7;

/// Whether a port with so many places of a table has its share, when so many are free.
#[inline]
pub(crate) fn over_share(of_port: u32, free: usize) -> bool {
    of_port as usize > SHARE * free
}

/// A packet that waits.
#[derive(Debug)]
pub struct Held {
    /// The packet.
    pub mbuf: Mbuf,
    /// Its key.
    pub key: FlowKey,
    /// Where its headers are.
    pub info: PacketInfo,
    /// VNI to encapsulate with, for packets that wait for a neighbour.
    pub vni: u32,
    /// What else its tunnel header says, for the same; options stand in front of the packet already.
    pub metadata: TunnelMetadata,
}

/// A queue of cells.
#[derive(Debug, Clone, Copy)]
pub struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    /// An empty list.
    pub const EMPTY: List = List { head: NONE, tail: NONE, len: 0 };

    /// Packets in it.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// The cells of one worker.
#[derive(Debug)]
pub struct Cells {
    packets: Box<[Option<Held>]>,
    next: Box<[u32]>,
    free: u32,
    used: usize,
    /// Packets by in-port.
    by_port: Box<[u32]>,
}

impl Cells {
    /// Room for `size` packets.
    pub fn new(size: usize) -> Cells {
        let next = (0..size as u32).map(|i| if i as usize + 1 < size { i + 1 } else { NONE }).collect();
        Cells {
            packets: (0..size).map(|_| None).collect(),
            next,
            free: if size > 0 { 0 } else { NONE },
            used: 0,
            by_port: vec![0; MAX_PORTS].into(),
        }
    }

    /// Packets that wait.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Packets from this port that wait.
    #[inline]
    pub fn of_port(&self, in_port: u32) -> u32 {
        self.by_port.get(in_port as usize).copied().unwrap_or(u32::MAX)
    }

    /// Appends a packet that is new here; gives it back when its in-port has its share of the cells, or all are taken.
    #[allow(clippy::result_large_err, reason = "the packet itself comes back; a box would be an allocation")]
    pub fn push_new(&mut self, list: &mut List, held: Held) -> Result<(), Held> {
        let of_port = self.of_port(held.key.in_port);
        if over_share(of_port, self.next.len() - self.used) { Err(held) } else { self.push(list, held) }
    }

    /// Appends a packet, which may have waited here before; gives it back when all cells are taken.
    #[allow(clippy::result_large_err, reason = "the packet itself comes back; a box would be an allocation")]
    pub fn push(&mut self, list: &mut List, held: Held) -> Result<(), Held> {
        let cell = self.free;
        let Some(of_port) = self.by_port.get_mut(held.key.in_port as usize) else { return Err(held) };
        if cell == NONE {
            return Err(held);
        }
        *of_port += 1;
        self.free = self.next[cell as usize];
        self.next[cell as usize] = NONE;
        self.packets[cell as usize] = Some(held);
        self.used += 1;
        if list.tail == NONE {
            list.head = cell;
        } else {
            self.next[list.tail as usize] = cell;
        }
        list.tail = cell;
        list.len += 1;
        Ok(())
    }

    /// Takes the packet that came first.
    pub fn pop(&mut self, list: &mut List) -> Option<Held> {
        let cell = list.head;
        let held = self.packets.get_mut(cell as usize)?.take()?;
        list.head = self.next[cell as usize];
        if list.head == NONE {
            list.tail = NONE;
        }
        list.len -= 1;
        self.next[cell as usize] = self.free;
        self.free = cell;
        self.used -= 1;
        if let Some(of_port) = self.by_port.get_mut(held.key.in_port as usize) {
            *of_port -= 1;
        }
        Some(held)
    }

    /// The packet that came first.
    pub fn front(&self, list: &List) -> Option<&Held> {
        self.packets.get(list.head as usize)?.as_ref()
    }
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    hash: u32,
    /// Where the flow comes from that the entry was made for.
    in_port: u32,
    /// When the decision was first asked for, by the time-stamp counter.
    since: u64,
    list: List,
    /// Next free entry, while this one is free.
    next_free: u32,
}

/// Flows that wait for a decision, by flow hash. Two flows of one hash share an entry: the second then
/// waits for the first one's decision before its own is asked for, which costs time but no order.
#[derive(Debug)]
pub struct PendingFlows {
    entries: Box<[Pending]>,
    /// Open addressing, linear probing: entry number or [`NONE`]. Twice as long as `entries`.
    index: Box<[u32]>,
    free: u32,
    used: usize,
    /// Entries by in-port.
    by_port: Box<[u32]>,
    /// Flows of several ports may share an entry: they have one hash.
    mixed: bool,
}

impl PendingFlows {
    /// Room for `size` flows, a power of two.
    pub fn new(size: usize) -> PendingFlows {
        let size = size.next_power_of_two();
        let entries = (0..size as u32)
            .map(|i| Pending {
                hash: 0,
                in_port: 0,
                since: 0,
                list: List::EMPTY,
                next_free: if i as usize + 1 < size { i + 1 } else { NONE },
            })
            .collect();
        PendingFlows {
            entries,
            index: vec![NONE; size * 2].into(),
            free: 0,
            used: 0,
            by_port: vec![0; MAX_PORTS].into(),
            mixed: false,
        }
    }

    /// Flows that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether none waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether flows from this port may wait: if not, no packet from there has to stay behind another one.
    #[inline]
    pub fn holds(&self, in_port: u32) -> bool {
        self.used > 0 && (self.mixed || self.by_port.get(in_port as usize).is_none_or(|count| *count > 0))
    }

    /// A packet from this port joins the flow of the entry.
    #[inline]
    pub fn join(&mut self, id: PendingId, in_port: u32) {
        self.mixed |= self.entries[id.0 as usize].in_port != in_port;
    }

    /// The entry of a flow.
    #[inline]
    pub fn find(&self, hash: u32) -> Option<PendingId> {
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let entry = self.index[at];
            if entry == NONE {
                return None;
            }
            if self.entries[entry as usize].hash == hash {
                return Some(PendingId(entry));
            }
            at = (at + 1) & mask;
        }
    }

    /// When the decision was first asked for, by the time-stamp counter.
    pub fn since(&self, id: PendingId) -> u64 {
        self.entries[id.0 as usize].since
    }

    /// Flows from this port that wait.
    #[inline]
    pub fn of_port(&self, in_port: u32) -> u32 {
        self.by_port.get(in_port as usize).copied().unwrap_or(0)
    }

    /// Makes an entry for a flow that has none, as of `now`; `None` when all are taken, or the port has its share of them.
    pub fn insert(&mut self, hash: u32, in_port: u32, now: u64) -> Option<PendingId> {
        if over_share(self.of_port(in_port), self.entries.len() - self.used) {
            return None;
        }
        let entry = self.free;
        let slot = self.entries.get_mut(entry as usize)?;
        self.free = slot.next_free;
        *slot = Pending { hash, in_port, since: now, list: List::EMPTY, next_free: NONE };
        if let Some(count) = self.by_port.get_mut(in_port as usize) {
            *count += 1;
        }
        let mask = self.index.len() - 1;
        let mut at = hash as usize & mask;
        while self.index[at] != NONE {
            at = (at + 1) & mask;
        }
        self.index[at] = entry;
        self.used += 1;
        Some(PendingId(entry))
    }

    /// The packets of an entry.
    pub fn list(&mut self, id: PendingId) -> &mut List {
        &mut self.entries[id.0 as usize].list
    }

    /// Frees an entry, whose packets have gone.
    pub fn remove(&mut self, id: PendingId) {
        let mask = self.index.len() - 1;
        let mut at = self.entries[id.0 as usize].hash as usize & mask;
        while self.index[at] != id.0 {
            if self.index[at] == NONE {
                return;
            }
            at = (at + 1) & mask;
        }
        // Close the gap: move back what probing would no longer reach.
        let mut hole = at;
        let mut probe = (at + 1) & mask;
        while self.index[probe] != NONE {
            let home = self.entries[self.index[probe] as usize].hash as usize & mask;
            if (probe.wrapping_sub(home) & mask) >= (probe.wrapping_sub(hole) & mask) {
                self.index[hole] = self.index[probe];
                hole = probe;
            }
            probe = (probe + 1) & mask;
        }
        self.index[hole] = NONE;
        let entry = &mut self.entries[id.0 as usize];
        entry.next_free = self.free;
        if let Some(count) = self.by_port.get_mut(entry.in_port as usize) {
            *count -= 1;
        }
        self.free = id.0;
        self.used -= 1;
        self.mixed &= self.used > 0;
    }

    /// Any entry in use.
    pub fn any(&self) -> Option<PendingId> {
        self.index.iter().find(|e| **e != NONE).map(|e| PendingId(*e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// The pending table against a map, with hashes that collide in the index.
        #[test]
        fn pending_table_is_a_map(ops in prop::collection::vec((any::<bool>(), 0u32..40), 0..400)) {
            let mut table = PendingFlows::new(16);
            let mut model: HashMap<u32, PendingId> = HashMap::new();
            for (insert, n) in ops {
                let hash = (n % 8) | (n / 8) << 16;
                if insert && !model.contains_key(&hash) {
                    if let Some(id) = table.insert(hash, hash % 8, 0) {
                        model.insert(hash, id);
                    } else {
                        prop_assert_eq!(model.len(), 16);
                    }
                } else if !insert && let Some(id) = model.remove(&hash) {
                    table.remove(id);
                }
                prop_assert_eq!(table.len(), model.len());
                for port in 0..8 {
                    prop_assert_eq!(table.holds(port), model.keys().any(|hash| hash % 8 == port));
                }
                for n in 0..40 {
                    let hash = (n % 8) | (n / 8) << 16;
                    prop_assert_eq!(table.find(hash), model.get(&hash).copied());
                }
            }
        }
    }

    #[test]
    fn two_ports_in_one_entry_hold_back_all() {
        let mut table = PendingFlows::new(4);
        let id = table.insert(7, 1, 0).unwrap();
        table.join(id, 1);
        assert_eq!([0, 1, 2].map(|port| table.holds(port)), [false, true, false]);
        table.join(id, 2);
        assert_eq!([0, 1, 2].map(|port| table.holds(port)), [true; 3]);
        table.remove(id);
        assert_eq!([0, 1, 2].map(|port| table.holds(port)), [false; 3]);
        let id = table.insert(7, 1, 0).unwrap();
        assert!(table.holds(1) && !table.holds(2));
        table.remove(id);
    }
}
