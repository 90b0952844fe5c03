//! The forwarding database of a bridge: which port, and behind a tunnel which remote VTEP, a MAC
//! address was last seen on.
//!
//! Owned by the slow path. Workers never look here: what they need of it is in their megaflows. Whoever sends can
//! fill it, so everything that a packet can cause takes constant time, however full the table is: entries age on a
//! [`wheel`], and a full table takes the room for a new address from the port that has learned most ([`ports`]).

mod list;
mod ports;
#[cfg(test)]
mod tests;
mod wheel;

use flow::program::PortId;
use list::Link;
use ports::Ports;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wheel::Wheel;
use wire::addr::MacAddr;

/// What an FDB holds, and how fast it learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbSettings {
    /// `other_config:mac-aging-time`. An entry goes up to a second late.
    pub ageing: Duration,
    /// `other_config:mac-table-size`: entries, static ones included.
    pub size: usize,
    /// `other_config:mac-port-limit`: learned entries of one port.
    pub port_limit: usize,
    /// `other_config:mac-learning-rate`: addresses that one port may teach in a second.
    pub rate: u32,
}

impl Default for FdbSettings {
    /// As in the document without settings.
    fn default() -> Self {
        FdbSettings {
            ageing: Duration::from_secs(config::mac_table::AGING_DEFAULT.into()),
            size: config::mac_table::SIZE_DEFAULT as usize,
            port_limit: config::mac_table::SIZE_DEFAULT as usize,
            rate: config::mac_table::RATE_DEFAULT,
        }
    }
}

/// Where frames for an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The port.
    pub port: PortId,
    /// The VTEP behind the port, when the port is a tunnel.
    pub remote: Option<IpAddr>,
}

/// VLAN and address: what an FDB is keyed by.
pub type FdbKey = (u16, MacAddr);

/// An entry. A learned one is on the wheel and in its port's list, a static one in neither.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: FdbKey,
    at: Location,
    used: Instant,
    fixed: bool,
    /// A route put it there: it does not age, and gives way to a host that is learned.
    external: bool,
    /// A route put it there, and it stays until the route goes.
    sticky: bool,
    /// Its place in its port's list.
    order: Link,
    /// Its place in a second of the wheel, and that second.
    due: Link,
    second: u64,
}

/// Where an entry is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A packet.
    Learned,
    /// An operator.
    Static,
    /// A route.
    Route {
        /// It does not give way to a host that is learned elsewhere.
        sticky: bool,
    },
}

/// What [`Fdb::learn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new; the entry's age starts over.
    Refreshed,
    /// The address was not known. Another entry may have had to go.
    New {
        /// Entry that was evicted to make room.
        evicted: Option<FdbKey>,
    },
    /// The address was known elsewhere.
    Moved {
        /// Where it was.
        from: Location,
        /// Entry that was evicted because the new port had all that it may have.
        evicted: Option<FdbKey>,
    },
    /// The entry is static and stays where the operator put it.
    Fixed,
    /// The port has taught too many addresses lately: this one was not learned.
    Limited,
    /// Static entries fill the table: nothing can be learned.
    NoRoom,
}

/// What a table has done since it was made, or since it was last reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FdbCounts {
    /// Addresses learned.
    pub learned: u64,
    /// Entries that went because they were not seen for the ageing time.
    pub expired: u64,
    /// Entries that went to make room.
    pub evicted: u64,
    /// Addresses that moved to another port.
    pub moved: u64,
}

/// One entry, as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbRow {
    /// VLAN ID, 0 for none.
    pub vlan: u16,
    /// Address.
    pub mac: MacAddr,
    /// Where it is.
    pub at: Location,
    /// Time since it was last seen.
    pub age: Duration,
    /// Set by an operator, never aged or moved.
    pub fixed: bool,
}

/// A bridge's MAC learning table.
#[derive(Debug)]
pub struct Fdb {
    /// Slots by key, hashed with a secret: the keys are anybody's to choose.
    index: HashMap<FdbKey, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    ports: Ports,
    wheel: Wheel,
    settings: FdbSettings,
    changes: u64,
    counts: FdbCounts,
}

impl Fdb {
    /// An empty table.
    pub fn new(settings: FdbSettings, now: Instant) -> Fdb {
        Fdb {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ports: Ports::default(),
            wheel: Wheel::new(now),
            settings,
            changes: 0,
            counts: FdbCounts::default(),
        }
    }

    /// Changes the settings; entries over the new size go at the next [`Fdb::expire`].
    pub fn configure(&mut self, settings: FdbSettings) {
        let ageing = self.settings.ageing;
        self.settings = settings;
        if ageing != settings.ageing {
            let learned: Vec<u32> =
                self.index.values().copied().filter(|at| !self.slots[*at as usize].fixed).collect();
            self.wheel.step_back();
            for at in learned {
                self.wheel.remove(&mut self.slots, at);
                let due = self.slots[at as usize].used + settings.ageing;
                self.wheel.add(&mut self.slots, at, due);
            }
        }
    }

    /// What it has done, and how many of its entries are static.
    pub fn counts(&self) -> (FdbCounts, usize) {
        let fixed = self.index.values().filter(|at| self.slots[**at as usize].fixed).count();
        (self.counts, fixed)
    }

    /// Counts from 0 on.
    pub fn reset_counts(&mut self) {
        self.counts = FdbCounts::default();
    }

    /// Entries that it has room for.
    pub fn size(&self) -> usize {
        self.settings.size
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn slot(&self, vlan: u16, mac: MacAddr) -> Option<&Slot> {
        self.index.get(&(vlan, mac)).map(|at| &self.slots[*at as usize])
    }

    /// Where frames for `mac` go, if that is known.
    pub fn lookup(&self, vlan: u16, mac: MacAddr) -> Option<Location> {
        self.slot(vlan, mac).map(|slot| slot.at)
    }

    /// Notes that `mac` was seen at `at`.
    ///
    /// In a full table the port that has learned most pays for the new one: a flood of forged
    /// addresses on one port cannot evict what others have. A port at its own limit pays itself.
    pub fn learn(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) -> Learned {
        let learned = self.learn_at(vlan, mac, at, now);
        match learned {
            Learned::New { evicted } => {
                self.counts.learned += 1;
                self.counts.evicted += u64::from(evicted.is_some());
            }
            Learned::Moved { evicted, .. } => {
                self.counts.moved += 1;
                self.counts.evicted += u64::from(evicted.is_some());
            }
            _ => {}
        }
        learned
    }

    fn learn_at(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) -> Learned {
        let known = self.index.get(&(vlan, mac)).copied();
        if let Some(known) = known {
            let slot = &mut self.slots[known as usize];
            if slot.fixed && !slot.external {
                return Learned::Fixed;
            }
            if slot.external {
                return self.take_over(known, at, now);
            }
            if slot.at == at {
                slot.used = now;
                self.ports.touch(&mut self.slots, known);
                return Learned::Refreshed;
            }
        } else if !self.can_learn() {
            return Learned::NoRoom;
        }
        if !self.ports.admit(at.port, self.settings.rate, now) {
            return Learned::Limited;
        }
        if let Some(known) = known {
            let from = self.slots[known as usize].at;
            self.ports.remove(&mut self.slots, known);
            let evicted = self.make_room_at(at.port);
            let slot = &mut self.slots[known as usize];
            (slot.at, slot.used) = (at, now);
            self.changes += 1;
            self.ports.add(&mut self.slots, known, now);
            return Learned::Moved { from, evicted };
        }
        let mut evicted = self.make_room_at(at.port);
        if evicted.is_none() && self.len() >= self.settings.size {
            evicted = self.evict(self.ports.oldest_of_fullest());
        }
        let slot = self.insert((vlan, mac), at, false, now);
        self.ports.add(&mut self.slots, slot, now);
        self.wheel.add(&mut self.slots, slot, now + self.settings.ageing);
        Learned::New { evicted }
    }

    /// A host whose address a route had elsewhere sends here: the entry becomes a learned one.
    fn take_over(&mut self, known: u32, at: Location, now: Instant) -> Learned {
        let Slot { key: (vlan, mac), at: from, .. } = self.slots[known as usize];
        if from == at {
            return Learned::Refreshed;
        }
        if !self.ports.admit(at.port, self.settings.rate, now) {
            return Learned::Limited;
        }
        self.remove(vlan, mac);
        let evicted = self.make_room_at(at.port);
        let slot = self.insert((vlan, mac), at, false, now);
        self.ports.add(&mut self.slots, slot, now);
        self.wheel.add(&mut self.slots, slot, now + self.settings.ageing);
        Learned::Moved { from, evicted }
    }

    /// Puts an entry that another process had learned and last saw so long ago, where there is room; what is known already
    /// stays. Entries come in the order in which they were last seen.
    pub fn restore(&mut self, key: FdbKey, at: Location, age: Duration, now: Instant) {
        let has_room =
            self.len() < self.settings.size && self.ports.count(at.port) < self.settings.port_limit;
        if self.index.contains_key(&key) || !has_room || age >= self.settings.ageing {
            return;
        }
        let used = now.checked_sub(age).unwrap_or(now);
        let slot = self.insert(key, at, false, used);
        self.ports.add(&mut self.slots, slot, now);
        self.wheel.add(&mut self.slots, slot, now + self.settings.ageing.saturating_sub(age));
    }

    /// Whether there is, or can be made, room for a learned entry.
    fn can_learn(&self) -> bool {
        self.len() < self.settings.size || self.ports.total() > 0
    }

    /// Evicts an entry of a port that has all that it may have.
    fn make_room_at(&mut self, port: PortId) -> Option<FdbKey> {
        if self.ports.count(port) < self.settings.port_limit {
            return None;
        }
        self.evict(self.ports.oldest_of(port))
    }

    fn evict(&mut self, victim: Option<u32>) -> Option<FdbKey> {
        let key = self.slots[victim? as usize].key;
        self.remove(key.0, key.1);
        Some(key)
    }

    fn insert(&mut self, key: FdbKey, at: Location, fixed: bool, now: Instant) -> u32 {
        self.changes += 1;
        let slot = Slot {
            key,
            at,
            used: now,
            fixed,
            external: false,
            sticky: false,
            order: Link::NONE,
            due: Link::NONE,
            second: 0,
        };
        let number = if let Some(number) = self.free.pop() {
            self.slots[number as usize] = slot;
            number
        } else {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        };
        self.index.insert(key, number);
        number
    }

    /// Puts a static entry, however full the table is; returns the learned one that had to go for it.
    pub fn add_fixed(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) -> Option<FdbKey> {
        self.remove(vlan, mac);
        let is_full = self.len() >= self.settings.size;
        let evicted = if is_full { self.evict(self.ports.oldest_of_fullest()) } else { None };
        self.insert((vlan, mac), at, true, now);
        evicted
    }

    /// Puts an entry that a route names; `sticky` ones do not give way to a host that is learned elsewhere. An operator's
    /// static entry stays. Returns the learned one that had to go for it.
    pub fn add_external(
        &mut self,
        (vlan, mac): FdbKey,
        at: Location,
        sticky: bool,
        now: Instant,
    ) -> Option<FdbKey> {
        if self.slot(vlan, mac).is_some_and(|slot| slot.fixed && !slot.external && !slot.sticky) {
            return None;
        }
        let evicted = self.add_fixed(vlan, mac, at, now);
        if let Some(number) = self.index.get(&(vlan, mac)) {
            let slot = &mut self.slots[*number as usize];
            (slot.external, slot.sticky) = (!sticky, sticky);
        }
        evicted
    }

    /// How often entries came, went or moved.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// All entries: key, place and origin.
    pub fn entries(&self) -> impl Iterator<Item = (FdbKey, Location, Origin)> + '_ {
        self.index.values().map(|at| {
            let slot = &self.slots[*at as usize];
            let origin = match (slot.external, slot.sticky, slot.fixed) {
                (external, sticky, _) if external || sticky => Origin::Route { sticky },
                (.., true) => Origin::Static,
                _ => Origin::Learned,
            };
            (slot.key, slot.at, origin)
        })
    }

    /// Restarts the age of an entry, if it is still where the traffic came from.
    pub fn refresh(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) {
        let Some(&number) = self.index.get(&(vlan, mac)) else { return };
        let slot = &mut self.slots[number as usize];
        if slot.at == at && !slot.fixed {
            slot.used = now;
            self.ports.touch(&mut self.slots, number);
        }
    }

    /// Whether a packet that shows `mac` at `at` would teach nothing new: only then may the megaflow that
    /// carries it go on without the slow path.
    pub fn is_settled(&self, vlan: u16, mac: MacAddr, at: Location) -> bool {
        match self.slot(vlan, mac) {
            Some(slot) => slot.fixed && !slot.external || slot.at == at,
            None => !self.can_learn(),
        }
    }

    /// Removes an entry and returns where it was.
    pub fn remove(&mut self, vlan: u16, mac: MacAddr) -> Option<Location> {
        let number = self.index.remove(&(vlan, mac))?;
        self.changes += 1;
        let Slot { at, fixed, .. } = self.slots[number as usize];
        if !fixed {
            self.ports.remove(&mut self.slots, number);
            self.wheel.remove(&mut self.slots, number);
        }
        self.free.push(number);
        Some(at)
    }

    /// Removes all learned entries, or those of one port, and returns their keys. Static ones of a
    /// named port go too: the port itself is going away.
    pub fn flush(&mut self, port: Option<PortId>) -> Vec<FdbKey> {
        let gone = self.remove_where(|slot| port.map_or(!slot.fixed, |port| slot.at.port == port));
        if let Some(port) = port {
            self.ports.forget(port);
        }
        gone
    }

    /// Removes the learned entries of a port, and returns their keys.
    pub fn flush_learned(&mut self, port: PortId) -> Vec<FdbKey> {
        self.remove_where(|slot| !slot.fixed && slot.at.port == port)
    }

    fn remove_where(&mut self, condemned: impl Fn(&Slot) -> bool) -> Vec<FdbKey> {
        let slots = self.index.values().map(|at| &self.slots[*at as usize]);
        let gone: Vec<FdbKey> = slots.filter(|slot| condemned(slot)).map(|slot| slot.key).collect();
        for &(vlan, mac) in &gone {
            self.remove(vlan, mac);
        }
        gone
    }

    /// Removes entries that were not seen for the ageing time, and those over the size, and returns their keys. Looks
    /// at `most` entries at most; where that was not enough, the rest goes at the next calls.
    pub fn expire(&mut self, now: Instant, most: usize) -> Vec<FdbKey> {
        let (mut gone, mut left) = (Vec::new(), most);
        while let Some(at) = self.wheel.next_due(&mut self.slots, self.settings.ageing, now, &mut left) {
            // It has left the wheel already; the rest of what removes it expects it there.
            self.wheel.add(&mut self.slots, at, now);
            gone.extend(self.evict(Some(at)));
        }
        self.counts.expired += gone.len() as u64;
        let aged = gone.len();
        while left > 0 && self.len() > self.settings.size {
            let Some(key) = self.evict(self.ports.oldest_of_fullest()) else { break };
            gone.push(key);
            left -= 1;
        }
        self.counts.evicted += (gone.len() - aged) as u64;
        gone
    }

    /// All entries, sorted by VLAN and address.
    pub fn rows(&self, now: Instant) -> Vec<FdbRow> {
        let mut rows: Vec<FdbRow> = self
            .index
            .values()
            .map(|at| {
                let Slot { key: (vlan, mac), at, used, fixed, .. } = self.slots[*at as usize];
                FdbRow { vlan, mac, at, age: now.saturating_duration_since(used), fixed }
            })
            .collect();
        rows.sort_by_key(|row| (row.vlan, row.mac));
        rows
    }
}
