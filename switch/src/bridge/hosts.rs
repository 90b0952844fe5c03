//! Which MAC address the hosts of a bridge have: what ARP requests and neighbour solicitations are answered from, and what
//! is announced by EVPN. From packets, from operators and from routes.

use flow::program::PortId;
use rustc_hash::FxHashMap;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// What nobody has said again for so long is forgotten.
pub const AGEING: Duration = Duration::from_mins(20);

/// VLAN and address: what hosts are known by.
pub type HostKey = (u16, IpAddr);

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A packet.
    Snooped,
    /// An operator.
    Static,
    /// A route.
    Route,
}

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its MAC address.
    pub mac: MacAddr,
    /// It has said that it is a router (IPv6): other hosts stop using one that is said not to be.
    pub router: bool,
    /// Who said it.
    pub source: Source,
    /// When that was.
    pub last_seen: Instant,
    /// The port by which it was said.
    port: PortId,
    /// Its place in the queue of those that age.
    number: u64,
}

/// What a packet says about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Address.
    pub ip: IpAddr,
    /// MAC address.
    pub mac: MacAddr,
    /// Whether it is a router; `None` where that is not said.
    pub router: Option<bool>,
    /// Whether it replaces what is known (the override flag of an advertisement).
    pub overrides: bool,
}

/// The hosts of a bridge. Those from packets are bounded; when there is no room, the port that has taught most pays.
#[derive(Debug, Default)]
pub struct Hosts {
    /// Hashed with a secret: the keys are anybody's to choose.
    index: HashMap<HostKey, Host>,
    /// Those from packets, the oldest first; entries whose number is no host's are of hosts that are gone.
    queue: VecDeque<(HostKey, u64)>,
    by_port: FxHashMap<PortId, usize>,
    size: usize,
    numbers: u64,
    changes: u64,
}

impl Hosts {
    /// Keeps `size` hosts from packets at most.
    pub fn set_size(&mut self, size: usize) {
        self.size = size;
    }

    /// A host.
    pub fn get(&self, vlan: u16, ip: IpAddr) -> Option<&Host> {
        self.index.get(&(vlan, ip))
    }

    /// All hosts.
    pub fn iter(&self) -> impl Iterator<Item = (&HostKey, &Host)> {
        self.index.iter()
    }

    /// How often hosts came, went or changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Notes what a packet says that came in by `port`; says whether that was news.
    pub fn snoop(&mut self, vlan: u16, claim: Claim, port: PortId, now: Instant) -> bool {
        let key = (vlan, claim.ip);
        let known = self.index.get_mut(&key);
        match known {
            Some(known) if known.source == Source::Static => return false,
            // What a solicitation says makes no entry: whether the host is a router is not in it.
            None if claim.router.is_none() => return false,
            Some(known) if known.mac == claim.mac => {
                // Of a remote host only the route speaks; its frames come by a tunnel that teaches nothing.
                let is_new = known.router != claim.router.unwrap_or(known.router);
                known.router = claim.router.unwrap_or(known.router);
                known.last_seen = now;
                if known.source == Source::Snooped {
                    self.changes += u64::from(is_new);
                    return is_new;
                }
            }
            Some(_) if !claim.overrides => return false,
            Some(_) | None => {}
        }
        self.remove(&key);
        let Some(router) = claim.router else { return true };
        if self.queue_len() >= self.size && !self.make_room(port) {
            return false;
        }
        self.numbers += 1;
        let number = self.numbers;
        self.queue.push_back((key, number));
        *self.by_port.entry(port).or_default() += 1;
        let host = Host { mac: claim.mac, router, source: Source::Snooped, last_seen: now, port, number };
        self.index.insert(key, host);
        self.changes += 1;
        true
    }

    /// Puts a host that an operator or a route names; an operator's stays where a route says otherwise.
    pub fn put(&mut self, key: HostKey, mac: MacAddr, router: bool, source: Source, now: Instant) {
        if source == Source::Route && self.index.get(&key).is_some_and(|host| host.source == Source::Static) {
            return;
        }
        self.remove(&key);
        let host = Host { mac, router, source, last_seen: now, port: PortId(0), number: 0 };
        self.index.insert(key, host);
        self.changes += 1;
    }

    /// Forgets a host.
    pub fn remove(&mut self, key: &HostKey) -> Option<Host> {
        let host = self.index.remove(key)?;
        self.changes += 1;
        if host.source == Source::Snooped
            && let Some(count) = self.by_port.get_mut(&host.port)
        {
            *count -= 1;
            if *count == 0 {
                self.by_port.remove(&host.port);
            }
        }
        Some(host)
    }

    /// Forgets the hosts that `condemned` names, and says how many.
    pub fn remove_where(&mut self, condemned: impl Fn(&HostKey, &Host) -> bool) -> usize {
        let gone: Vec<HostKey> =
            self.index.iter().filter(|(key, host)| condemned(key, host)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.remove(key);
        }
        gone.len()
    }

    /// Looks at `most` of the hosts from packets, and forgets those without a packet for [`AGEING`] or whose MAC address
    /// is not `known` any more.
    pub fn expire(&mut self, now: Instant, most: usize, known: impl Fn(u16, MacAddr) -> bool) {
        for _ in 0..most.min(self.queue.len()) {
            let Some((key, number)) = self.queue.pop_front() else { return };
            let Some(host) = self.index.get(&key).filter(|host| host.number == number) else { continue };
            if now.saturating_duration_since(host.last_seen) >= AGEING || !known(key.0, host.mac) {
                self.remove(&key);
            } else {
                self.queue.push_back((key, number));
            }
        }
    }

    /// Hosts from packets.
    fn queue_len(&self) -> usize {
        self.by_port.values().sum()
    }

    /// Takes the oldest host of the port that has most, unless that is the one that wants another.
    fn make_room(&mut self, port: PortId) -> bool {
        let fullest = self.by_port.iter().max_by_key(|(id, count)| (**count, id.0)).map(|(id, _)| *id);
        let own = self.by_port.get(&port).copied().unwrap_or(0);
        let Some(fullest) = fullest.filter(|id| *id != port && self.by_port[id] > own) else { return false };
        for _ in 0..self.queue.len() {
            let Some((key, number)) = self.queue.pop_front() else { return false };
            let Some(host) = self.index.get(&key).filter(|host| host.number == number) else { continue };
            if host.port == fullest {
                self.remove(&key);
                return true;
            }
            self.queue.push_back((key, number));
        }
        false
    }
}

/// What became of a bridge's questions.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SuppressStats {
    /// Answered by the switch.
    pub answered: u64,
    /// Not flooded further, because the host is behind a port without `neigh-suppress` and hears them itself.
    pub local: u64,
    /// Flooded to ports with `neigh-suppress`: the host is not known, or it was a probe or an announcement.
    pub flooded: u64,
    /// News about hosts.
    pub learned: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn claim(ip: u32, mac: u8) -> Claim {
        let mac = MacAddr([2, 0, 0, 0, 0, mac]);
        Claim { ip: Ipv4Addr::from(ip).into(), mac, router: Some(false), overrides: true }
    }

    fn hosts(size: usize) -> Hosts {
        let mut hosts = Hosts::default();
        hosts.set_size(size);
        hosts
    }

    #[test]
    fn who_speaks_last_has_the_address_but_operators_have_the_last_word() {
        let (mut hosts, now) = (hosts(10), Instant::now());
        assert!(hosts.snoop(0, claim(1, 1), PortId(1), now));
        assert!(!hosts.snoop(0, claim(1, 1), PortId(1), now), "nothing new");
        assert!(hosts.snoop(0, claim(1, 2), PortId(2), now));
        assert_eq!(hosts.get(0, claim(1, 2).ip).map(|host| host.mac), Some(claim(1, 2).mac));
        assert!(hosts.get(5, claim(1, 2).ip).is_none(), "another VLAN");
        // An advertisement that does not override, and a solicitation of somebody else.
        assert!(!hosts.snoop(0, Claim { overrides: false, ..claim(1, 3) }, PortId(1), now));
        assert!(!hosts.snoop(0, Claim { router: None, ..claim(9, 3) }, PortId(1), now), "makes no entry");
        assert!(hosts.snoop(0, Claim { router: None, ..claim(1, 3) }, PortId(1), now));
        assert!(hosts.get(0, claim(1, 3).ip).is_none(), "it has moved; whether it is a router is not known");
        let key = (0, claim(1, 1).ip);
        hosts.put(key, claim(1, 4).mac, true, Source::Route, now);
        assert!(hosts.snoop(0, claim(1, 5), PortId(1), now), "it has come here");
        hosts.put(key, claim(1, 6).mac, false, Source::Static, now);
        hosts.put(key, claim(1, 7).mac, false, Source::Route, now);
        assert!(!hosts.snoop(0, claim(1, 5), PortId(1), now));
        assert_eq!(
            hosts.get(0, key.1).map(|host| (host.mac, host.source)),
            Some((claim(1, 6).mac, Source::Static))
        );
    }

    #[test]
    fn hosts_age_and_go_with_their_mac_addresses() {
        let (mut hosts, now) = (hosts(10), Instant::now());
        for n in 0..4 {
            hosts.snoop(0, claim(n, n as u8), PortId(1), now);
        }
        hosts.put((0, claim(9, 9).ip), claim(9, 9).mac, false, Source::Route, now);
        hosts.expire(now, 100, |_, mac| mac != claim(2, 2).mac);
        assert_eq!(hosts.iter().count(), 4);
        hosts.snoop(0, claim(3, 3), PortId(1), now + AGEING / 2);
        hosts.expire(now + AGEING, 100, |_, _| true);
        let mut left: Vec<_> = hosts.iter().map(|(key, _)| key.1).collect();
        left.sort();
        assert_eq!(left, [claim(3, 3).ip, claim(9, 9).ip], "seen again; of a route");
        assert_eq!(hosts.queue.len(), 1, "the queue has no more than there are");
    }

    #[test]
    fn a_port_that_claims_everything_pays_itself() {
        let (mut hosts, now) = (hosts(8), Instant::now());
        for n in 0..3 {
            assert!(hosts.snoop(0, claim(1000 + n, 1), PortId(2), now));
        }
        for n in 0..100 {
            hosts.snoop(0, claim(n, 2), PortId(1), now);
        }
        assert_eq!((hosts.by_port[&PortId(1)], hosts.by_port[&PortId(2)]), (5, 3));
        assert!(hosts.snoop(0, claim(2000, 3), PortId(3), now), "there is room for others");
        assert_eq!(hosts.by_port[&PortId(1)], 4);
        assert_eq!(hosts.iter().count(), 8);
        assert!(hosts.queue.len() <= 8, "{}", hosts.queue.len());
    }
}
