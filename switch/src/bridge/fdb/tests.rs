//! The FDB against a table without any index, wheel or list.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn mac(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn at(port: u16) -> Location {
    Location { port: PortId(port), remote: None }
}

const ALL: usize = usize::MAX;

fn table(settings: FdbSettings) -> (Fdb, Instant) {
    let now = Instant::now();
    (Fdb::new(settings, now), now)
}

#[test]
fn learns_moves_and_ages() {
    let (mut fdb, t0) = table(FdbSettings::default());
    let after = |s| t0 + Duration::from_secs(s);
    assert_eq!(fdb.learn(0, mac(1), at(1), t0), Learned::New { evicted: None });
    assert_eq!(fdb.learn(0, mac(1), at(1), after(200)), Learned::Refreshed);
    assert!(fdb.expire(after(301), ALL).is_empty(), "refreshed at 200 s");
    assert_eq!(fdb.learn(0, mac(1), at(2), after(302)), Learned::Moved { from: at(1), evicted: None });
    assert_eq!(fdb.lookup(0, mac(1)), Some(at(2)));
    assert_eq!(fdb.lookup(5, mac(1)), None, "VLANs are separate");
    assert_eq!(fdb.expire(after(602), ALL), vec![(0, mac(1))]);
    assert!(fdb.is_empty());
}

#[test]
fn what_another_process_learned_ages_as_it_would_have_there() {
    let (mut fdb, t0) = table(FdbSettings { size: 3, port_limit: 2, ..FdbSettings::default() });
    let seconds = Duration::from_secs;
    fdb.learn(0, mac(9), at(2), t0);
    fdb.restore((0, mac(9)), at(1), seconds(0), t0);
    assert_eq!(fdb.lookup(0, mac(9)), Some(at(2)), "what was seen meanwhile stays");
    fdb.restore((0, mac(1)), at(1), seconds(200), t0);
    fdb.restore((0, mac(2)), at(1), seconds(100), t0);
    fdb.restore((0, mac(3)), at(1), seconds(0), t0);
    assert_eq!(fdb.lookup(0, mac(3)), None, "the port has its share");
    fdb.restore((0, mac(4)), at(3), seconds(0), t0);
    assert_eq!(fdb.lookup(0, mac(4)), None, "the table is full");
    assert_eq!(fdb.expire(t0 + seconds(102), ALL), [(0, mac(1))]);
    fdb.learn(0, mac(2), at(1), t0 + seconds(150));
    assert!(fdb.expire(t0 + seconds(210), ALL).is_empty(), "seen again");
    fdb.restore((0, mac(5)), at(3), seconds(300), t0);
    assert_eq!(fdb.lookup(0, mac(5)), None, "it was forgotten there");
    // The one that was seen least lately pays for a new one.
    fdb.learn(0, mac(6), at(1), t0 + seconds(150));
    assert_eq!(fdb.learn(0, mac(7), at(1), t0 + seconds(151)), Learned::New { evicted: Some((0, mac(2))) });
}

#[test]
fn what_it_does_is_counted() {
    let (mut fdb, t0) = table(FdbSettings { size: 2, ..FdbSettings::default() });
    fdb.learn(0, mac(1), at(1), t0);
    fdb.learn(0, mac(1), at(1), t0);
    fdb.learn(0, mac(1), at(2), t0);
    fdb.learn(0, mac(2), at(2), t0);
    assert_eq!(fdb.counts(), (FdbCounts { learned: 2, moved: 1, ..FdbCounts::default() }, 0));
    // A third evicts one, a static entry makes one go at the next look, and what is left ages.
    fdb.learn(0, mac(3), at(2), t0);
    assert_eq!(fdb.counts().0.evicted, 1);
    fdb.add_fixed(0, mac(4), at(3), t0);
    assert_eq!(fdb.counts().1, 1);
    let gone = fdb.expire(t0 + Duration::from_secs(1000), ALL).len() as u64;
    let (counts, fixed) = fdb.counts();
    assert_eq!((counts.learned, counts.moved, counts.expired + counts.evicted, fixed), (3, 1, 1 + gone, 1));
    fdb.reset_counts();
    assert_eq!(fdb.counts(), (FdbCounts::default(), 1));
}

#[test]
fn a_flood_of_addresses_on_one_port_evicts_only_its_own() {
    let (mut fdb, t0) = table(FdbSettings { size: 100, ..FdbSettings::default() });
    for n in 0..20 {
        fdb.learn(0, mac(n), at(1), t0);
    }
    for n in 1000..5000 {
        fdb.learn(0, mac(n), at(2), t0 + Duration::from_secs(1));
    }
    assert_eq!(fdb.len(), 100);
    assert!((0..20).all(|n| fdb.lookup(0, mac(n)) == Some(at(1))), "the quiet port kept its own");
}

#[test]
fn static_entries_stay_put_and_a_table_full_of_them_learns_nothing() {
    let (mut fdb, t0) = table(FdbSettings { size: 100, ..FdbSettings::default() });
    fdb.add_fixed(0, mac(7), at(3), t0);
    assert_eq!(fdb.learn(0, mac(7), at(1), t0), Learned::Fixed);
    assert!(fdb.expire(t0 + Duration::from_secs(10_000), ALL).is_empty());
    assert!(fdb.flush(None).is_empty());
    for n in 100..300 {
        fdb.add_fixed(0, mac(n), at(3), t0);
    }
    assert_eq!(fdb.len(), 201, "what an operator puts there is there");
    assert_eq!(fdb.learn(0, mac(1), at(1), t0), Learned::NoRoom);
    assert!(fdb.is_settled(0, mac(1), at(1)), "asking again would be no use");
    assert_eq!(fdb.len(), 201);
    assert_eq!(fdb.flush(Some(PortId(3))).len(), 201);
    assert_eq!(fdb.learn(0, mac(1), at(1), t0), Learned::New { evicted: None });
}

#[test]
fn a_port_learns_so_many_addresses_a_second_and_no_more() {
    let (mut fdb, t0) = table(FdbSettings { rate: 1000, ..FdbSettings::default() });
    let learned = |fdb: &mut Fdb, from: u32, port, now| {
        let new = |n: &u32| fdb.learn(0, mac(*n), at(port), now) != Learned::Limited;
        (from..from + 5000).filter(new).count()
    };
    assert_eq!(learned(&mut fdb, 0, 1, t0), 1000);
    assert_eq!(learned(&mut fdb, 10_000, 2, t0), 1000, "another port has its own rate");
    assert_eq!(learned(&mut fdb, 20_000, 1, t0 + Duration::from_millis(100)), 100);
    assert_eq!(fdb.learn(0, mac(0), at(1), t0 + Duration::from_millis(100)), Learned::Refreshed);
    assert_eq!(learned(&mut fdb, 30_000, 1, t0 + Duration::from_mins(1)), 1000, "nothing is saved up");
}

#[derive(Debug, Clone, Copy)]
struct NaiveEntry {
    at: Location,
    used: Instant,
    fixed: bool,
    /// When it was last seen, as a number that grows with every event.
    seen: u64,
}

/// What the table is to be.
struct Naive {
    entries: BTreeMap<FdbKey, NaiveEntry>,
    settings: FdbSettings,
    start: Instant,
    events: u64,
}

impl Naive {
    fn learned_by_port(&self) -> BTreeMap<PortId, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries.values().filter(|e| !e.fixed) {
            *counts.entry(entry.at.port).or_default() += 1;
        }
        counts
    }

    fn oldest_of(&self, port: PortId) -> Option<FdbKey> {
        let of_port = self.entries.iter().filter(|(_, e)| !e.fixed && e.at.port == port);
        of_port.min_by_key(|(_, e)| e.seen).map(|(key, _)| *key)
    }

    /// The entries that may go for a new one: the oldest of each of the fullest ports.
    fn candidates(&self) -> BTreeSet<FdbKey> {
        let counts = self.learned_by_port();
        let most = counts.values().max().copied().unwrap_or(0);
        counts.iter().filter(|(_, n)| **n == most).filter_map(|(port, _)| self.oldest_of(*port)).collect()
    }

    fn put(&mut self, key: FdbKey, at: Location, fixed: bool, now: Instant) {
        self.events += 1;
        self.entries.insert(key, NaiveEntry { at, used: now, fixed, seen: self.events });
    }

    fn second_from(&self, at: Instant) -> u64 {
        at.duration_since(self.start).as_millis().div_ceil(1000) as u64
    }

    /// Takes out what was evicted, if that was right.
    fn evicted(&mut self, victim: Option<FdbKey>, allowed: &BTreeSet<FdbKey>) {
        match victim {
            None => assert!(allowed.is_empty(), "nothing evicted of {allowed:?}"),
            Some(victim) => {
                assert!(allowed.contains(&victim), "{victim:?} is not one of {allowed:?}");
                self.entries.remove(&victim);
            }
        }
    }

    /// Applies a step to both tables, which must say the same.
    fn step(&mut self, fdb: &mut Fdb, step: Step, now: Instant) {
        match step {
            Step::Learn { key, at } => self.learn(fdb, key, at, now),
            Step::Refresh { key, at } => {
                fdb.refresh(key.0, key.1, at, now);
                if self.entries.get(&key).is_some_and(|e| e.at == at && !e.fixed) {
                    self.put(key, at, false, now);
                }
            }
            Step::AddFixed { key, at } => {
                self.entries.remove(&key);
                let full = self.entries.len() >= self.settings.size;
                let allowed = if full { self.candidates() } else { BTreeSet::new() };
                let evicted = fdb.add_fixed(key.0, key.1, at, now);
                self.evicted(evicted, &allowed);
                self.put(key, at, true, now);
            }
            Step::Remove { key } => {
                let gone = self.entries.remove(&key).map(|e| e.at);
                assert_eq!(fdb.remove(key.0, key.1), gone);
            }
            Step::Flush { port, learned_only } => {
                let goes = |e: &NaiveEntry| match port {
                    None => !e.fixed,
                    Some(port) => e.at.port == port && !(learned_only && e.fixed),
                };
                let mut gone = match port {
                    Some(port) if learned_only => fdb.flush_learned(port),
                    port => fdb.flush(port),
                };
                gone.sort_unstable();
                let expected: Vec<_> =
                    self.entries.iter().filter(|(_, e)| goes(e)).map(|(k, _)| *k).collect();
                assert_eq!(gone, expected);
                self.entries.retain(|_, e| !goes(e));
            }
            Step::Configure { ageing, size, port_limit } => {
                let ageing = Duration::from_secs(ageing);
                self.settings = FdbSettings { ageing, size, port_limit, ..self.settings };
                fdb.configure(self.settings);
            }
            Step::Wait(_) => self.expire(fdb, now),
        }
    }

    fn learn(&mut self, fdb: &mut Fdb, key: FdbKey, at: Location, now: Instant) {
        let learned = fdb.learn(key.0, key.1, at, now);
        let known = self.entries.get(&key).copied();
        match known {
            Some(entry) if entry.fixed => return assert_eq!(learned, Learned::Fixed),
            Some(entry) if entry.at == at => assert_eq!(learned, Learned::Refreshed),
            known => {
                let any_learned = self.entries.values().any(|e| !e.fixed);
                let size = self.settings.size;
                if known.is_none() && self.entries.len() >= size && !any_learned {
                    return assert_eq!(learned, Learned::NoRoom);
                }
                self.entries.remove(&key);
                let count = self.learned_by_port().get(&at.port).copied().unwrap_or(0);
                let at_limit = count >= self.settings.port_limit;
                let allowed = if at_limit {
                    self.oldest_of(at.port).into_iter().collect()
                } else if known.is_none() && self.entries.len() >= size {
                    self.candidates()
                } else {
                    BTreeSet::new()
                };
                let evicted = match (learned, known) {
                    (Learned::New { evicted }, None) => evicted,
                    (Learned::Moved { from, evicted }, Some(entry)) if from == entry.at => evicted,
                    other => panic!("{other:?}"),
                };
                self.evicted(evicted, &allowed);
            }
        }
        self.put(key, at, false, now);
    }

    fn expire(&mut self, fdb: &mut Fdb, now: Instant) {
        let second = now.duration_since(self.start).as_secs();
        let over = |e: &NaiveEntry| !e.fixed && self.second_from(e.used + self.settings.ageing) <= second;
        let expected: BTreeSet<FdbKey> =
            self.entries.iter().filter(|(_, e)| over(e)).map(|(key, _)| *key).collect();
        // In small pieces until nothing goes any more.
        let gone: Vec<FdbKey> = std::iter::repeat_with(|| fdb.expire(now, 2)).take(200).flatten().collect();
        let (aged, rest): (Vec<_>, Vec<_>) = gone.into_iter().partition(|key| expected.contains(key));
        assert_eq!(BTreeSet::from_iter(aged), expected);
        self.entries.retain(|key, _| !expected.contains(key));
        for victim in rest {
            assert!(self.entries.len() > self.settings.size);
            let allowed = self.candidates();
            self.evicted(Some(victim), &allowed);
        }
        assert!(self.entries.len() <= self.settings.size || self.candidates().is_empty());
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Learn {
        key: FdbKey,
        at: Location,
    },
    Refresh {
        key: FdbKey,
        at: Location,
    },
    AddFixed {
        key: FdbKey,
        at: Location,
    },
    Remove {
        key: FdbKey,
    },
    Flush {
        port: Option<PortId>,
        learned_only: bool,
    },
    Configure {
        ageing: u64,
        size: usize,
        port_limit: usize,
    },
    /// So many milliseconds, then what is over goes.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0u16..2, (0u32..40).prop_map(mac));
    let place = || {
        let remote = prop::option::weighted(0.2, (1u8..3).prop_map(|n| IpAddr::from([10, 0, 0, n])));
        (1u16..5, remote).prop_map(|(port, remote)| Location { port: PortId(port), remote })
    };
    let wait = prop_oneof![4 => 0u64..3000, 1 => 0u64..20_000_000];
    let step = prop_oneof![
        40 => (key(), place()).prop_map(|(key, at)| Step::Learn { key, at }),
        10 => (key(), place()).prop_map(|(key, at)| Step::Refresh { key, at }),
        4 => (key(), place()).prop_map(|(key, at)| Step::AddFixed { key, at }),
        4 => key().prop_map(|key| Step::Remove { key }),
        2 => (prop::option::of((1u16..5).prop_map(PortId)), any::<bool>())
            .prop_map(|(port, learned_only)| Step::Flush { port, learned_only }),
        2 => (1u64..10_000, 1usize..30, 1usize..20)
            .prop_map(|(ageing, size, port_limit)| Step::Configure { ageing, size, port_limit }),
        10 => wait.prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens, both say the same, and hold the same afterwards.
    #[test]
    fn the_fdb_is_what_a_naive_one_is(steps in steps()) {
        let settings =
            FdbSettings { ageing: Duration::from_secs(5), size: 20, port_limit: 10, rate: u32::MAX };
        let (mut fdb, start) = table(settings);
        let mut naive = Naive { entries: BTreeMap::new(), settings, start, events: 0 };
        let mut now = start;
        for step in steps {
            if let Step::Wait(time) = step {
                now += Duration::from_millis(time);
            }
            naive.step(&mut fdb, step, now);
            let rows = |row: &FdbRow| ((row.vlan, row.mac), (row.at, row.age, row.fixed));
            let is: Vec<_> = fdb.rows(now).iter().map(rows).collect();
            let ought: Vec<_> = naive
                .entries
                .iter()
                .map(|(key, e)| (*key, (e.at, now.duration_since(e.used), e.fixed)))
                .collect();
            prop_assert_eq!(&is, &ought);
            for (key, (at, ..)) in is {
                prop_assert_eq!(fdb.lookup(key.0, key.1), Some(at));
            }
            prop_assert_eq!(fdb.len(), naive.entries.len());
        }
    }
}

#[test]
fn routes_give_way_to_hosts_that_are_heard_unless_they_are_sticky() {
    let now = Instant::now();
    let place = |port: u16, vtep: Option<u8>| Location {
        port: PortId(port),
        remote: vtep.map(|n| std::net::IpAddr::from([192, 0, 2, n])),
    };
    let (here, there) = (place(1, None), place(9, Some(2)));
    let [free, stuck, fixed] = [1, 2, 3].map(|n| MacAddr([2, 0, 0, 0, 1, n]));
    let mut fdb = Fdb::new(FdbSettings::default(), now);
    fdb.add_fixed(0, fixed, here, now);
    for (mac, sticky) in [(free, false), (stuck, true), (fixed, false)] {
        fdb.add_external((0, mac), there, sticky, now);
    }
    let origins = |fdb: &Fdb| {
        let mut all: Vec<_> = fdb.entries().map(|((_, mac), at, origin)| (mac, at, origin)).collect();
        all.sort_by_key(|(mac, ..)| *mac);
        all
    };
    let route = |sticky| Origin::Route { sticky };
    let expected = [(free, there, route(false)), (stuck, there, route(true)), (fixed, here, Origin::Static)];
    assert_eq!(origins(&fdb), expected, "an operator's word stands above a route's");
    // Routes do not age, nor are they forgotten with what was learned.
    let later = now + FdbSettings::default().ageing * 2;
    assert!(fdb.expire(later, usize::MAX).is_empty() && fdb.flush(None).is_empty());
    assert!(!fdb.is_settled(0, free, here) && fdb.is_settled(0, stuck, here));
    assert_eq!(fdb.learn(0, stuck, here, later), Learned::Fixed);
    assert_eq!(fdb.learn(0, free, there, later), Learned::Refreshed);
    let before = fdb.changes();
    assert_eq!(fdb.learn(0, free, here, later), Learned::Moved { from: there, evicted: None });
    assert!(fdb.changes() > before);
    assert_eq!(origins(&fdb)[0], (free, here, Origin::Learned));
    // It is an ordinary entry now: it ages, and a newer route takes it back.
    fdb.add_external((0, free), there, false, later);
    assert_eq!(origins(&fdb)[0], (free, there, route(false)));
    fdb.learn(0, free, here, later);
    assert_eq!(fdb.expire(later + FdbSettings::default().ageing * 2, usize::MAX), [(0, free)]);
}
