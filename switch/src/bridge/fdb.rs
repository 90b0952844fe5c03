//! The forwarding database of a bridge: which port, and behind a tunnel which remote VTEP, a MAC
//! address was last seen on.
//!
//! Owned by the slow path. Workers never look here: what they need of it is in their megaflows.

use flow::program::PortId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// `other_config:mac-aging-time` unless set, as in Open vSwitch and the Linux bridge.
pub const DEFAULT_AGEING: Duration = Duration::from_mins(5);
/// `other_config:mac-table-size` unless set. Open vSwitch's default of 8192 is small for an overlay.
pub const DEFAULT_SIZE: usize = 262_144;

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

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Location,
    used: Instant,
    fixed: bool,
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
    },
    /// The entry is static and stays where the operator put it.
    Fixed,
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
    /// Hashed with a secret: the keys are anybody's to choose.
    entries: HashMap<FdbKey, Entry>,
    /// Learned entries a port; says who fills the table when it is full.
    per_port: HashMap<PortId, usize>,
    ageing: Duration,
    limit: usize,
}

impl Default for Fdb {
    fn default() -> Self {
        Fdb::new(DEFAULT_AGEING, DEFAULT_SIZE)
    }
}

impl Fdb {
    /// An empty table.
    pub fn new(ageing: Duration, limit: usize) -> Fdb {
        Fdb { entries: HashMap::new(), per_port: HashMap::new(), ageing, limit: limit.max(1) }
    }

    /// Sets ageing time and size; entries over the new size go at the next [`Fdb::expire`].
    pub fn configure(&mut self, ageing: Duration, limit: usize) {
        self.ageing = ageing;
        self.limit = limit.max(1);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where frames for `mac` go, if that is known.
    pub fn lookup(&self, vlan: u16, mac: MacAddr) -> Option<Location> {
        self.entries.get(&(vlan, mac)).map(|e| e.at)
    }

    /// Notes that `mac` was seen at `at`.
    ///
    /// In a full table the port that holds most entries pays for the new one: a flood of forged
    /// addresses on one port cannot evict what others have.
    pub fn learn(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) -> Learned {
        if let Some(entry) = self.entries.get_mut(&(vlan, mac)) {
            if entry.fixed {
                return Learned::Fixed;
            }
            entry.used = now;
            if entry.at == at {
                return Learned::Refreshed;
            }
            let from = std::mem::replace(&mut entry.at, at);
            self.uncount(from.port);
            self.count(at.port);
            return Learned::Moved { from };
        }
        let evicted = if self.entries.len() >= self.limit { self.evict() } else { None };
        self.entries.insert((vlan, mac), Entry { at, used: now, fixed: false });
        self.count(at.port);
        Learned::New { evicted }
    }

    /// Puts a static entry; returns where the address was before, if anywhere.
    pub fn add_fixed(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) -> Option<Location> {
        let old = self.remove(vlan, mac);
        self.entries.insert((vlan, mac), Entry { at, used: now, fixed: true });
        self.count(at.port);
        old
    }

    /// Restarts the age of an entry, if it is still where the traffic came from.
    pub fn refresh(&mut self, vlan: u16, mac: MacAddr, at: Location, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&(vlan, mac))
            && entry.at == at
        {
            entry.used = now;
        }
    }

    /// Whether a packet that shows `mac` at `at` would teach nothing new: only then may the megaflow that
    /// carries it go on without the slow path.
    pub fn is_settled(&self, vlan: u16, mac: MacAddr, at: Location) -> bool {
        self.entries.get(&(vlan, mac)).is_some_and(|e| e.fixed || e.at == at)
    }

    /// Removes an entry and returns where it was.
    pub fn remove(&mut self, vlan: u16, mac: MacAddr) -> Option<Location> {
        let entry = self.entries.remove(&(vlan, mac))?;
        self.uncount(entry.at.port);
        Some(entry.at)
    }

    /// Removes all learned entries, or those of one port, and returns their keys. Static ones of a
    /// named port go too: the port itself is going away.
    pub fn flush(&mut self, port: Option<PortId>) -> Vec<FdbKey> {
        let gone = self.keys_where(|e| port.map_or(!e.fixed, |p| e.at.port == p));
        for &(vlan, mac) in &gone {
            self.remove(vlan, mac);
        }
        gone
    }

    /// Removes the learned entries of a port, and returns their keys.
    pub fn flush_learned(&mut self, port: PortId) -> Vec<FdbKey> {
        let gone = self.keys_where(|e| !e.fixed && e.at.port == port);
        for &(vlan, mac) in &gone {
            self.remove(vlan, mac);
        }
        gone
    }

    /// Removes entries that were not seen for the ageing time, and returns their keys.
    pub fn expire(&mut self, now: Instant) -> Vec<FdbKey> {
        let ageing = self.ageing;
        let mut gone = self.keys_where(|e| !e.fixed && now.saturating_duration_since(e.used) >= ageing);
        for &(vlan, mac) in &gone {
            self.remove(vlan, mac);
        }
        while self.entries.len() > self.limit {
            match self.evict() {
                Some(key) => gone.push(key),
                None => break,
            }
        }
        gone
    }

    /// All entries, sorted by VLAN and address.
    pub fn rows(&self, now: Instant) -> Vec<FdbRow> {
        let mut rows: Vec<FdbRow> = self
            .entries
            .iter()
            .map(|(&(vlan, mac), e)| FdbRow {
                vlan,
                mac,
                at: e.at,
                age: now.saturating_duration_since(e.used),
                fixed: e.fixed,
            })
            .collect();
        rows.sort_by_key(|r| (r.vlan, r.mac));
        rows
    }

    fn keys_where(&self, mut pred: impl FnMut(&Entry) -> bool) -> Vec<FdbKey> {
        self.entries.iter().filter(|(_, e)| pred(e)).map(|(k, _)| *k).collect()
    }

    /// Evicts the oldest of a sample of the fullest port's learned entries.
    fn evict(&mut self) -> Option<FdbKey> {
        /// A bounded look, so that a flood does not cost a full scan for each new address.
        const SAMPLE: usize = 64;
        let (&port, _) = self.per_port.iter().max_by_key(|(_, n)| **n)?;
        let victim = self
            .entries
            .iter()
            .filter(|(_, e)| e.at.port == port && !e.fixed)
            .take(SAMPLE)
            .min_by_key(|(_, e)| e.used)
            .map(|(k, _)| *k)?;
        self.remove(victim.0, victim.1);
        Some(victim)
    }

    fn count(&mut self, port: PortId) {
        *self.per_port.entry(port).or_default() += 1;
    }

    fn uncount(&mut self, port: PortId) {
        if let Some(n) = self.per_port.get_mut(&port) {
            *n -= 1;
            if *n == 0 {
                self.per_port.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    fn at(port: u16) -> Location {
        Location { port: PortId(port), remote: None }
    }

    #[test]
    fn learns_moves_and_ages() {
        let t0 = Instant::now();
        let mut fdb = Fdb::default();
        assert_eq!(fdb.learn(0, mac(1), at(1), t0), Learned::New { evicted: None });
        assert_eq!(fdb.learn(0, mac(1), at(1), t0 + Duration::from_secs(200)), Learned::Refreshed);
        assert!(fdb.expire(t0 + Duration::from_secs(301)).is_empty(), "refreshed at 200 s");
        assert_eq!(
            fdb.learn(0, mac(1), at(2), t0 + Duration::from_secs(302)),
            Learned::Moved { from: at(1) }
        );
        assert_eq!(fdb.lookup(0, mac(1)), Some(at(2)));
        assert_eq!(fdb.lookup(5, mac(1)), None, "VLANs are separate");
        assert_eq!(fdb.expire(t0 + Duration::from_secs(602)), vec![(0, mac(1))]);
        assert!(fdb.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_on_one_port_evicts_only_its_own() {
        let t0 = Instant::now();
        let mut fdb = Fdb::new(DEFAULT_AGEING, 100);
        for i in 0..20 {
            fdb.learn(0, mac(i), at(1), t0);
        }
        for i in 1000..5000 {
            fdb.learn(0, mac(i), at(2), t0 + Duration::from_secs(1));
        }
        assert_eq!(fdb.len(), 100);
        assert!((0..20).all(|i| fdb.lookup(0, mac(i)) == Some(at(1))), "the quiet port kept its own");
    }

    #[test]
    fn static_entries_stay_put() {
        let t0 = Instant::now();
        let mut fdb = Fdb::default();
        fdb.add_fixed(0, mac(7), at(3), t0);
        assert_eq!(fdb.learn(0, mac(7), at(1), t0), Learned::Fixed);
        assert!(fdb.expire(t0 + Duration::from_secs(10_000)).is_empty());
        assert!(fdb.flush(None).is_empty());
        assert_eq!(fdb.flush(Some(PortId(3))), vec![(0, mac(7))]);
    }
}
