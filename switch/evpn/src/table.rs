//! One VNI: what the switch knows and what the kernel's shadow says, and what makes both equal.
//!
//! Everything is decided from complete views of both sides, never from events: a lost event costs time, not truth. The
//! flags of a row do not tell who owns it, so a MAC's owner follows from the port it is on, and a table of what was
//! announced from here tells a host that came from one that left.

use crate::hosts::{Announced, HostChanges, Hosts};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// A MAC address behind another VTEP (route type 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// The VTEP.
    pub vtep: IpAddr,
    /// It does not move: frames from it elsewhere teach nothing.
    pub sticky: bool,
}

/// A MAC address that moves so often in [`WINDOW`] is one that two hosts have (RFC 7432, section 15.1).
const MOVES: u32 = 5;
/// See [`MOVES`].
const WINDOW: Duration = Duration::from_mins(3);
/// MAC addresses whose moves are counted at once.
const WATCHED: usize = 4096;

/// What the switch has of a VNI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switch {
    /// MAC addresses on ports that are not tunnels, and whether they are static there: announced as sticky.
    pub local: BTreeMap<MacAddr, bool>,
    /// MAC addresses that were installed from routes.
    pub remote: BTreeMap<MacAddr, Remote>,
    /// VTEPs, and whether frames are flooded to each.
    pub vteps: BTreeMap<IpAddr, bool>,
    /// Host addresses.
    pub hosts: Hosts,
}

/// What the kernel's shadow of a VNI has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// MAC addresses on the advertise port, and whether they are sticky.
    pub local: BTreeMap<MacAddr, bool>,
    /// MAC addresses that zebra has put on the vxlan device.
    pub remote: BTreeMap<MacAddr, Remote>,
    /// The flood list (route type 3).
    pub flood: BTreeSet<IpAddr>,
    /// Host addresses: those that we have put, and those of zebra.
    pub hosts: Hosts,
}

/// What the switch has to change. MAC addresses that are forgotten come before those that are installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Down {
    /// MAC addresses that no route names any more.
    pub forget: Vec<MacAddr>,
    /// MAC addresses to install.
    pub install: Vec<(MacAddr, Remote)>,
    /// All VTEPs, and whether frames are flooded to each, when that changed.
    pub vteps: Option<BTreeMap<IpAddr, bool>>,
    /// Remote host addresses.
    pub hosts: HostChanges,
}

impl Down {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.forget.is_empty() && self.install.is_empty() && self.vteps.is_none() && self.hosts.is_empty()
    }
}

/// What the kernel has to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Up {
    /// MAC addresses to put on the advertise port, wherever they are now, and whether they are sticky.
    pub announce: Vec<(MacAddr, bool)>,
    /// MAC addresses to take off the advertise port.
    pub withdraw: Vec<MacAddr>,
    /// Local host addresses.
    pub hosts: HostChanges,
}

/// What is not taken away, though one side does not have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// MAC addresses on the advertise port that were not announced from here: those of the process before this one, whose
    /// hosts have not been learned yet.
    pub announced: bool,
    /// Remote MAC addresses and VTEPs: zebra is gone, or has not heard all routes again.
    pub routes: bool,
}

/// What is remembered of a VNI between two reconciliations.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// MAC addresses that were announced from here.
    announced: BTreeSet<MacAddr>,
    /// Host addresses that were announced from here.
    hosts: Announced,
    /// How often MAC addresses moved, and since when that is counted.
    moves: BTreeMap<MacAddr, (u32, Instant)>,
    /// MAC addresses that are static here and that a route has elsewhere.
    contested: BTreeSet<MacAddr>,
}

impl Table {
    /// What makes both sides equal.
    pub fn reconcile(&mut self, switch: &Switch, kernel: &Kernel, keep: Keep, now: Instant) -> (Down, Up) {
        let (mut down, mut up, mut gone) = (Down::default(), Up::default(), BTreeSet::new());
        self.contested.clear();
        // A host that was announced from here and that the kernel now has elsewhere has moved away; one that was not
        // has come.
        self.announced.retain(|mac| switch.local.contains_key(mac) || kernel.local.contains_key(mac));
        for (mac, remote) in &kernel.remote {
            let here = switch.local.get(mac);
            if here.is_some() && !remote.sticky && !self.announced.contains(mac) {
                self.moved(*mac, now);
                continue;
            }
            if here == Some(&true) {
                self.contested.insert(*mac);
                continue;
            }
            if self.announced.remove(mac) {
                self.moved(*mac, now);
            }
            gone.insert(*mac);
            if switch.remote.get(mac) != Some(remote) {
                down.install.push((*mac, *remote));
            }
        }
        for (mac, sticky) in &switch.local {
            if gone.contains(mac) || self.contested.contains(mac) {
                continue;
            }
            self.announced.insert(*mac);
            if kernel.local.get(mac) != Some(sticky) {
                up.announce.push((*mac, *sticky));
            }
        }
        for mac in kernel.local.keys().filter(|mac| !switch.local.contains_key(mac)) {
            if self.announced.remove(mac) || !keep.announced {
                up.withdraw.push(*mac);
            }
        }
        let held = |mac: &MacAddr| keep.routes && !kernel.remote.contains_key(mac);
        down.forget.extend(switch.remote.keys().filter(|mac| !kernel.remote.contains_key(mac) && !held(mac)));
        let stay = kernel.remote.iter().filter(|(mac, _)| gone.contains(mac));
        let mut vteps: BTreeMap<IpAddr, bool> = stay.map(|(_, remote)| (remote.vtep, false)).collect();
        if keep.routes {
            vteps.extend(switch.vteps.iter().map(|(vtep, flood)| (*vtep, *flood)));
        }
        vteps.extend(kernel.flood.iter().map(|vtep| (*vtep, true)));
        down.vteps = (vteps != switch.vteps).then_some(vteps);
        (down.hosts, up.hosts) = self.hosts.reconcile(&switch.hosts, &kernel.hosts, keep);
        (down, up)
    }

    /// Counts that a host moved from here to another VTEP, or the other way.
    fn moved(&mut self, mac: MacAddr, now: Instant) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if self.moves.len() >= WATCHED {
            self.moves.retain(|_, (_, since)| !is_over(*since));
        }
        if self.moves.len() < WATCHED || self.moves.contains_key(&mac) {
            let (count, since) = self.moves.entry(mac).or_insert((0, now));
            if is_over(*since) {
                (*count, *since) = (0, now);
            }
            *count += 1;
        }
    }

    /// MAC addresses that more than one host seems to have: they move to and fro, or are static here and announced by
    /// another VTEP.
    pub fn duplicates(&self, now: Instant) -> BTreeSet<MacAddr> {
        let often = self
            .moves
            .iter()
            .filter(|(_, (count, since))| *count >= MOVES && now.saturating_duration_since(*since) < WINDOW);
        often.map(|(mac, _)| *mac).chain(self.contested.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    fn vtep(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn remote(n: u8) -> Remote {
        Remote { vtep: vtep(n), sticky: false }
    }

    /// Does in both sides what was said, as slow path and kernel do: one place a MAC.
    fn carry_out(switch: &mut Switch, kernel: &mut Kernel, (down, up): &(Down, Up)) {
        for mac in &down.forget {
            switch.remote.remove(mac);
        }
        for (mac, remote) in &down.install {
            switch.local.remove(mac);
            switch.remote.insert(*mac, *remote);
        }
        if let Some(vteps) = &down.vteps {
            switch.vteps.clone_from(vteps);
        }
        for (mac, sticky) in &up.announce {
            kernel.remote.remove(mac);
            kernel.local.insert(*mac, *sticky);
        }
        for mac in &up.withdraw {
            kernel.local.remove(mac);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A host is heard at a local port.
        Heard(u8),
        /// A host's entry ages.
        Aged(u8),
        /// Zebra installs a route.
        Route(u8, u8, bool),
        /// Zebra withdraws one.
        Withdrawn(u8),
        Flood(u8, bool),
        Reconcile,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4).prop_map(Step::Heard),
            (0u8..4).prop_map(Step::Aged),
            (0u8..4, 1u8..4, any::<bool>()).prop_map(|(m, v, s)| Step::Route(m, v, s)),
            (0u8..4).prop_map(Step::Withdrawn),
            (1u8..4, any::<bool>()).prop_map(|(v, on)| Step::Flood(v, on)),
            Just(Step::Reconcile),
        ]
    }

    /// What a MAC's owner is when both sides are settled and then one thing happens: whoever spoke last.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Owner {
        Nobody,
        Here,
        There(Remote),
    }

    proptest! {
        /// With a reconciliation after each step the last word holds, as a model with one owner a MAC says, and nothing
        /// is left to do.
        #[test]
        fn the_last_word_holds(steps in prop::collection::vec(step(), 0..60)) {
            let (mut switch, mut kernel, mut table) = (Switch::default(), Kernel::default(), Table::default());
            let now = Instant::now();
            let mut model = [Owner::Nobody; 4];
            for step in steps {
                match step {
                    Step::Heard(m) => {
                        let known = switch.remote.get(&mac(m)).copied();
                        if !known.is_some_and(|r| r.sticky) {
                            switch.remote.remove(&mac(m));
                            switch.local.insert(mac(m), false);
                            model[m as usize] = Owner::Here;
                        }
                    }
                    Step::Aged(m) => {
                        if switch.local.remove(&mac(m)).is_some() {
                            model[m as usize] = Owner::Nobody;
                        }
                    }
                    Step::Route(m, v, sticky) => {
                        let remote = Remote { vtep: vtep(v), sticky };
                        kernel.local.remove(&mac(m));
                        kernel.remote.insert(mac(m), remote);
                        model[m as usize] = Owner::There(remote);
                    }
                    Step::Withdrawn(m) => {
                        if kernel.remote.remove(&mac(m)).is_some() {
                            model[m as usize] = Owner::Nobody;
                        }
                    }
                    Step::Flood(v, true) => { kernel.flood.insert(vtep(v)); }
                    Step::Flood(v, false) => { kernel.flood.remove(&vtep(v)); }
                    Step::Reconcile => {}
                }
                let todo = table.reconcile(&switch, &kernel, Keep::default(), now);
                carry_out(&mut switch, &mut kernel, &todo);
                for (m, owner) in model.iter().enumerate() {
                    let mac = mac(m as u8);
                    let here = *owner == Owner::Here;
                    let there = if let Owner::There(remote) = owner { Some(remote) } else { None };
                    prop_assert_eq!((switch.local.contains_key(&mac), kernel.local.contains_key(&mac)), (here, here));
                    prop_assert_eq!((switch.remote.get(&mac), kernel.remote.get(&mac)), (there, there));
                }
                for v in 1..4 {
                    let flooded = kernel.flood.contains(&vtep(v));
                    prop_assert_eq!(switch.vteps.get(&vtep(v)).copied().unwrap_or(false), flooded);
                }
                let (down, up) = table.reconcile(&switch, &kernel, Keep::default(), now);
                prop_assert!(down.is_empty() && up == Up::default(), "{:?} {:?}", down, up);
            }
        }

        /// Whatever happened between, one reconciliation makes both sides equal and the next has nothing to do.
        #[test]
        fn any_history_settles(
            local in prop::collection::btree_set(0u8..6, 0..6), old in prop::collection::btree_set(0u8..6, 0..6),
            kernel_local in prop::collection::btree_set(0u8..6, 0..6),
            routes in prop::collection::btree_map(0u8..6, 1u8..4, 0..6),
            have in prop::collection::btree_map(0u8..6, 1u8..4, 0..6),
        ) {
            let now = Instant::now();
            let local: BTreeMap<MacAddr, bool> = local.into_iter().map(|m| (mac(m), m == 5)).collect();
            let routes: BTreeMap<MacAddr, Remote> = routes.into_iter().map(|(m, v)| (mac(m), remote(v))).collect();
            let have = have.into_iter().map(|(m, v)| (mac(m), remote(v))).filter(|(m, _)| !local.contains_key(m)).collect();
            let kernel_local: BTreeMap<_, _> =
                kernel_local.into_iter().map(|m| (mac(m), false)).filter(|(m, _)| !routes.contains_key(m)).collect();
            let mut switch = Switch { local, remote: have, ..Switch::default() };
            let mut kernel = Kernel { local: kernel_local, remote: routes, ..Kernel::default() };
            let mut table = Table { announced: old.into_iter().map(mac).collect(), ..Table::default() };
            let todo = table.reconcile(&switch, &kernel, Keep::default(), now);
            carry_out(&mut switch, &mut kernel, &todo);
            // One that is static here and at another VTEP is left where either side has it.
            let duplicates = table.duplicates(now);
            prop_assert!(duplicates.iter().all(|m| switch.local.get(m) == Some(&true)));
            kernel.remote.retain(|m, _| !duplicates.contains(m));
            switch.local.retain(|m, _| !duplicates.contains(m));
            prop_assert_eq!(&switch.local, &kernel.local);
            prop_assert_eq!(&switch.remote, &kernel.remote);
            let (down, up) = table.reconcile(&switch, &kernel, Keep::default(), now);
            prop_assert!(down.is_empty() && up == Up::default(), "{:?} {:?}", down, up);
        }
    }

    #[test]
    fn after_a_restart_what_was_announced_before_stays_for_a_while() {
        let (now, keep) = (Instant::now(), Keep { announced: true, routes: false });
        let kernel = Kernel { local: [(mac(1), false)].into(), ..Kernel::default() };
        let mut table = Table::default();
        let (down, up) = table.reconcile(&Switch::default(), &kernel, keep, now);
        assert!(down.is_empty());
        assert_eq!(up, Up::default(), "kept");
        // One that is heard and then ages is withdrawn, whatever is kept of others.
        let heard = Switch { local: [(mac(1), false)].into(), ..Switch::default() };
        assert_eq!(table.reconcile(&heard, &kernel, keep, now).1, Up::default());
        assert_eq!(table.reconcile(&Switch::default(), &kernel, keep, now).1.withdraw, [mac(1)]);
        let (_, up) = Table::default().reconcile(&Switch::default(), &kernel, Keep::default(), now);
        assert_eq!(up.withdraw, [mac(1)], "the time is over");
    }

    #[test]
    fn routes_are_held_while_zebra_hears_them_again() {
        let (now, held) = (Instant::now(), Keep { announced: false, routes: true });
        let mut switch = Switch {
            remote: [(mac(1), remote(1)), (mac(2), remote(2))].into(),
            vteps: [(vtep(1), true), (vtep(2), true)].into(),
            ..Switch::default()
        };
        let mut table = Table::default();
        let mut kernel = Kernel::default();
        assert!(table.reconcile(&switch, &kernel, held, now).0.is_empty(), "nothing is forgotten");
        // A route that comes is taken at once: this host has moved meanwhile.
        kernel.remote.insert(mac(1), remote(3));
        kernel.flood.extend([vtep(1), vtep(3)]);
        let todo = table.reconcile(&switch, &kernel, held, now);
        assert_eq!(todo.0.install, [(mac(1), remote(3))]);
        carry_out(&mut switch, &mut kernel, &todo);
        assert_eq!(switch.vteps.len(), 3);
        // When the time is over, what was not heard again goes.
        let (down, _) = table.reconcile(&switch, &kernel, Keep::default(), now);
        assert_eq!(down.forget, [mac(2)]);
        assert_eq!(down.vteps, Some([(vtep(1), true), (vtep(3), true)].into()));
    }

    #[test]
    fn a_static_address_is_announced_as_sticky_and_does_not_move() {
        let now = Instant::now();
        let switch = Switch { local: [(mac(1), true)].into(), ..Switch::default() };
        let mut kernel = Kernel { local: [(mac(1), false)].into(), ..Kernel::default() };
        let mut table = Table::default();
        let (_, up) = table.reconcile(&switch, &kernel, Keep::default(), now);
        assert_eq!(up.announce, [(mac(1), true)], "the row that is there is not sticky yet");
        kernel.local.clear();
        kernel.remote.insert(mac(1), remote(1));
        let (down, up) = table.reconcile(&switch, &kernel, Keep::default(), now);
        assert!(down.install.is_empty() && up == Up::default(), "{down:?} {up:?}");
        assert_eq!(table.duplicates(now), [mac(1)].into());
    }

    #[test]
    fn an_address_that_moves_to_and_fro_is_named() {
        let now = Instant::now();
        let (here, away) =
            (Switch { local: [(mac(1), false)].into(), ..Switch::default() }, Switch::default());
        let there = Kernel { remote: [(mac(1), remote(1))].into(), ..Kernel::default() };
        let mut table = Table::default();
        for _ in 0..2 {
            table.reconcile(&here, &there, Keep::default(), now);
            table.reconcile(&here, &there, Keep::default(), now);
        }
        assert!(table.duplicates(now).is_empty(), "four moves");
        table.reconcile(&here, &there, Keep::default(), now);
        assert_eq!(table.duplicates(now), [mac(1)].into());
        assert!(table.duplicates(now + WINDOW).is_empty());
        table.reconcile(&away, &there, Keep::default(), now + WINDOW);
        assert!(table.duplicates(now + WINDOW).is_empty(), "counted anew");
    }

    #[test]
    fn a_vtep_without_a_type_3_route_gets_no_flooded_frames() {
        let kernel =
            Kernel { remote: [(mac(1), remote(1))].into(), flood: [vtep(2)].into(), ..Kernel::default() };
        let (down, _) =
            Table::default().reconcile(&Switch::default(), &kernel, Keep::default(), Instant::now());
        assert_eq!(down.vteps, Some([(vtep(1), false), (vtep(2), true)].into()));
    }
}
