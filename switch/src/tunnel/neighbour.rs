//! Neighbours of an underlay bridge: IP address to MAC address, by ARP and neighbour discovery.
//!
//! A pure state machine: time comes in as an argument, what to send comes out as [`Event`]s. Addresses
//! are learned from ARP and ND only, never from the outer header of a tunnel packet, which anybody can forge.

use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// Time between two requests for the same address.
pub const RETRANSMIT: Duration = Duration::from_secs(1);
/// Requests without an answer before the address counts as unreachable.
pub const MAX_SOLICIT: u8 = 3;
/// Time after which a resolved address is asked again, by unicast, without disturbing traffic, unless another is set.
pub const REACHABLE: Duration = Duration::from_secs(30);

/// Learned addresses that a table holds at most, as Linux's `gc_thresh3` allows a few thousand: whoever can send ARP
/// could fill the memory otherwise.
pub const MAX_LEARNED: usize = 4096;

/// What is known of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Set by an operator.
    Permanent(MacAddr),
    /// Answered.
    Reachable(MacAddr),
    /// Asked, no answer yet.
    Incomplete,
    /// Asked [`MAX_SOLICIT`] times; a new try is possible after [`RETRANSMIT`].
    Failed,
}

impl State {
    /// The MAC address, when it is known.
    pub fn mac(self) -> Option<MacAddr> {
        match self {
            State::Permanent(mac) | State::Reachable(mac) => Some(mac),
            State::Incomplete | State::Failed => None,
        }
    }

    /// The state's name as `ip neigh` prints it.
    pub fn name(self) -> &'static str {
        match self {
            State::Permanent(_) => "PERMANENT",
            State::Reachable(_) => "REACHABLE",
            State::Incomplete => "INCOMPLETE",
            State::Failed => "FAILED",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    state: State,
    /// Requests sent since the last answer.
    tries: u8,
    /// When something is next to be done.
    due: Instant,
    /// When the state was entered or last confirmed.
    since: Instant,
}

/// What tunnels want of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// None leads there.
    Nothing,
    /// Its MAC address.
    Address,
    /// A probe besides: the bridge floods what is for it, because it has not learned that MAC address.
    Probe,
}

/// What the owner of the table is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Send an ARP request or a neighbour solicitation for the address: to the MAC when one is given, else to all.
    Solicit(IpAddr, Option<MacAddr>),
    /// The state of the address changed: adjacencies that lead there must be rebuilt.
    Changed(IpAddr),
}

/// One entry, as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourRow {
    /// Address.
    pub ip: IpAddr,
    /// What is known of it.
    pub state: State,
    /// Time since it was confirmed or asked for.
    pub age: Duration,
}

/// The neighbour table of one underlay bridge.
#[derive(Debug)]
pub struct Neighbours {
    entries: FxHashMap<IpAddr, Entry>,
    /// Time after which a resolved address is asked again.
    aging: Duration,
}

impl Default for Neighbours {
    fn default() -> Neighbours {
        Neighbours::new(REACHABLE)
    }
}

impl Neighbours {
    /// A table whose addresses are asked for again after `aging`.
    pub fn new(aging: Duration) -> Neighbours {
        Neighbours { entries: FxHashMap::default(), aging }
    }

    /// Gives what is resolved, now and later, another time after which it is asked for again.
    pub fn set_aging(&mut self, aging: Duration) {
        self.aging = aging;
        for entry in self.entries.values_mut() {
            if matches!(entry.state, State::Reachable(_)) && entry.tries == 0 {
                entry.due = entry.since + aging;
            }
        }
    }

    /// What is known of `ip`; nothing unless somebody asked.
    pub fn state(&self, ip: IpAddr) -> Option<State> {
        self.entries.get(&ip).map(|e| e.state)
    }

    /// A packet needs `ip`: starts resolution if nothing is known.
    pub fn request(&mut self, ip: IpAddr, now: Instant) -> Option<Event> {
        if self.entries.contains_key(&ip) {
            return None;
        }
        self.entries
            .insert(ip, Entry { state: State::Incomplete, tries: 1, due: now + RETRANSMIT, since: now });
        Some(Event::Solicit(ip, None))
    }

    /// An ARP or ND packet said that `ip` is at `mac`. Entries are only made for addresses that somebody
    /// asked for or that asked us (`solicited`), so that gratuitous ARP cannot fill the table.
    pub fn learn(&mut self, ip: IpAddr, mac: MacAddr, solicited: bool, now: Instant) -> Option<Event> {
        if mac.is_multicast() || mac.is_zero() || ip.is_unspecified() {
            return None;
        }
        let fresh = Entry { state: State::Reachable(mac), tries: 0, due: now + self.aging, since: now };
        let has_room = self.entries.len() < MAX_LEARNED;
        match self.entries.get_mut(&ip) {
            Some(Entry { state: State::Permanent(_), .. }) => None,
            Some(entry) => {
                let changed = entry.state != fresh.state;
                *entry = fresh;
                changed.then_some(Event::Changed(ip))
            }
            None if solicited && has_room => {
                self.entries.insert(ip, fresh);
                Some(Event::Changed(ip))
            }
            None => None,
        }
    }

    /// Sets a static entry.
    pub fn set(&mut self, ip: IpAddr, mac: MacAddr, now: Instant) -> Event {
        self.entries.insert(ip, Entry { state: State::Permanent(mac), tries: 0, due: now, since: now });
        Event::Changed(ip)
    }

    /// Removes an entry, static or not; says whether there was one.
    pub fn remove(&mut self, ip: IpAddr) -> bool {
        self.entries.remove(&ip).is_some()
    }

    /// Forgets what was learned, of one address or all; returns the addresses. What is being asked for stays: packets
    /// wait for it.
    pub fn flush(&mut self, only: Option<IpAddr>) -> Vec<IpAddr> {
        let gone: Vec<IpAddr> = self
            .entries
            .iter()
            .filter(|(_, e)| matches!(e.state, State::Reachable(_) | State::Failed))
            .filter(|(ip, _)| only.is_none_or(|only| only == **ip))
            .map(|(ip, _)| *ip)
            .collect();
        for ip in &gone {
            self.entries.remove(ip);
        }
        gone
    }

    /// Does what is due. `need` says what tunnels want of the address; what nobody uses is forgotten instead of
    /// being asked for. A static neighbour is asked, by unicast, only that the bridge may see where its answer
    /// comes from.
    pub fn poll(&mut self, now: Instant, need: impl Fn(IpAddr) -> Need) -> Vec<Event> {
        let mut events = Vec::new();
        let aging = self.aging;
        self.entries.retain(|&ip, entry| {
            if now < entry.due {
                return true;
            }
            match entry.state {
                State::Permanent(mac) => {
                    let asks = need(ip) == Need::Probe;
                    entry.due = now + if asks { aging } else { RETRANSMIT };
                    if asks {
                        events.push(Event::Solicit(ip, Some(mac)));
                    }
                    true
                }
                State::Reachable(_) if need(ip) == Need::Nothing => false,
                State::Reachable(mac) if entry.tries < MAX_SOLICIT => {
                    entry.tries += 1;
                    entry.due = now + RETRANSMIT;
                    events.push(Event::Solicit(ip, Some(mac)));
                    true
                }
                State::Incomplete if entry.tries < MAX_SOLICIT => {
                    entry.tries += 1;
                    entry.due = now + RETRANSMIT;
                    events.push(Event::Solicit(ip, None));
                    true
                }
                State::Reachable(_) | State::Incomplete => {
                    *entry = Entry { state: State::Failed, tries: 0, due: now + RETRANSMIT, since: now };
                    events.push(Event::Changed(ip));
                    true
                }
                // Forgotten: the next packet asks anew.
                State::Failed => {
                    events.push(Event::Changed(ip));
                    false
                }
            }
        });
        events
    }

    /// All entries, sorted by address.
    pub fn rows(&self, now: Instant) -> Vec<NeighbourRow> {
        let mut rows: Vec<NeighbourRow> = self
            .entries
            .iter()
            .map(|(&ip, e)| NeighbourRow { ip, state: e.state, age: now.saturating_duration_since(e.since) })
            .collect();
        rows.sort_by_key(|r| r.ip);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ip() -> IpAddr {
        "192.168.1.2".parse().unwrap()
    }

    #[test]
    fn asks_three_times_a_second_apart_then_gives_up_and_can_start_again() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut table = Neighbours::default();
        assert_eq!(table.request(ip(), t0), Some(Event::Solicit(ip(), None)));
        assert_eq!(table.request(ip(), at(10)), None, "one request a second, however many packets");
        let poll = |table: &mut Neighbours, ms| table.poll(at(ms), |_| Need::Address);
        assert_eq!(poll(&mut table, 999), []);
        assert_eq!(poll(&mut table, 1000), [Event::Solicit(ip(), None)]);
        assert_eq!(poll(&mut table, 2000), [Event::Solicit(ip(), None)]);
        assert_eq!(poll(&mut table, 3000), [Event::Changed(ip())]);
        assert_eq!(table.state(ip()), Some(State::Failed));
        assert_eq!(table.request(ip(), at(3500)), None, "held down");
        assert_eq!(poll(&mut table, 4000), [Event::Changed(ip())]);
        assert_eq!(table.request(ip(), at(4001)), Some(Event::Solicit(ip(), None)));
        assert_eq!(table.learn(ip(), MAC, false, at(4002)), Some(Event::Changed(ip())));
        assert_eq!(table.state(ip()).and_then(State::mac), Some(MAC));
    }

    #[test]
    fn refreshes_by_unicast_and_keeps_the_address_meanwhile() {
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        let mut table = Neighbours::default();
        table.request(ip(), t0);
        table.learn(ip(), MAC, false, t0);
        assert_eq!(table.poll(at(30), |_| Need::Address), [Event::Solicit(ip(), Some(MAC))]);
        assert_eq!(table.state(ip()).and_then(State::mac), Some(MAC));
        assert_eq!(table.learn(ip(), MAC, false, at(31)), None, "confirmed, nothing to rebuild");
        assert_eq!(table.poll(at(32), |_| Need::Address), []);
        assert_eq!(table.poll(at(61), |_| Need::Nothing), [], "unused: forgotten");
        assert_eq!(table.state(ip()), None);
    }

    #[test]
    fn a_flood_of_askers_does_not_fill_the_memory() {
        let t0 = Instant::now();
        let mut table = Neighbours::default();
        for n in 0..10_000u32 {
            table.learn(IpAddr::V4((0x0a00_0001 + n).into()), MAC, true, t0);
        }
        assert_eq!(table.rows(t0).len(), MAX_LEARNED);
        assert!(table.request(ip(), t0).is_some(), "what a tunnel needs still finds room");
    }

    #[test]
    fn unsolicited_arp_makes_no_entries_and_static_ones_stay() {
        let t0 = Instant::now();
        let mut table = Neighbours::default();
        assert_eq!(table.learn(ip(), MAC, false, t0), None);
        assert_eq!(table.state(ip()), None);
        table.set(ip(), MAC, t0);
        assert_eq!(table.learn(ip(), MacAddr([2, 0, 0, 0, 0, 66]), true, t0), None);
        assert_eq!(table.state(ip()), Some(State::Permanent(MAC)));
        assert!(table.flush(None).is_empty());
    }

    #[test]
    fn one_address_is_forgotten_and_the_others_stay() {
        let t0 = Instant::now();
        let mut table = Neighbours::default();
        let other = IpAddr::V4(0x0a00_0099.into());
        table.learn(ip(), MAC, true, t0);
        table.learn(other, MAC, true, t0);
        assert_eq!(table.flush(Some(other)), [other]);
        assert!(table.flush(Some(other)).is_empty());
        assert_eq!(table.state(ip()), Some(State::Reachable(MAC)));
    }

    #[test]
    fn a_static_neighbour_is_asked_only_while_the_bridge_does_not_know_its_port() {
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        let mut table = Neighbours::default();
        table.set(ip(), MAC, t0);
        assert_eq!(table.poll(at(1), |_| Need::Address), []);
        let ask = [Event::Solicit(ip(), Some(MAC))];
        assert_eq!(table.poll(at(2), |_| Need::Probe), ask);
        assert_eq!(table.poll(at(31), |_| Need::Probe), [], "not more often than a learned one");
        assert_eq!(table.poll(at(32), |_| Need::Probe), ask);
        assert_eq!(table.state(ip()), Some(State::Permanent(MAC)), "and never given up");
        assert_eq!(table.poll(at(62), |_| Need::Address), []);
    }
}
