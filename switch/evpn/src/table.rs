//! One VNI: what the switch knows and what the kernel's shadow says, and what makes both equal.
//!
//! Everything is decided from complete views of both sides, never from events: a lost event costs time, not truth. The
//! flags of a row do not tell who owns it, so a MAC's owner is told by the port it is on, and a table of what was
//! announced from here tells a host that came from one that left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use wire::addr::MacAddr;

/// A MAC address behind another VTEP (route type 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// The VTEP.
    pub vtep: IpAddr,
    /// It does not move: frames from it elsewhere teach nothing.
    pub sticky: bool,
}

/// What the switch has of a VNI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Switch {
    /// MAC addresses on ports that are not tunnels.
    pub local: BTreeSet<MacAddr>,
    /// MAC addresses that were installed from routes.
    pub remote: BTreeMap<MacAddr, Remote>,
    /// VTEPs, and whether frames are flooded to each.
    pub vteps: BTreeMap<IpAddr, bool>,
}

/// What the kernel's shadow of a VNI has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    /// MAC addresses on the advertise port.
    pub local: BTreeSet<MacAddr>,
    /// MAC addresses that zebra has put on the vxlan device.
    pub remote: BTreeMap<MacAddr, Remote>,
    /// The flood list (route type 3).
    pub flood: BTreeSet<IpAddr>,
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
}

impl Down {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.forget.is_empty() && self.install.is_empty() && self.vteps.is_none()
    }
}

/// What the kernel has to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Up {
    /// MAC addresses to put on the advertise port, wherever they are now.
    pub announce: Vec<MacAddr>,
    /// MAC addresses to take off the advertise port.
    pub withdraw: Vec<MacAddr>,
}

/// What is remembered of a VNI between two reconciliations.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// MAC addresses that were announced from here.
    announced: BTreeSet<MacAddr>,
}

impl Table {
    /// What makes both sides equal. With `keep_unknown`, MAC addresses on the advertise port that this table has not
    /// announced stay: those of the process before this one, whose hosts have not been heard yet.
    pub fn reconcile(&mut self, switch: &Switch, kernel: &Kernel, keep_unknown: bool) -> (Down, Up) {
        let (mut down, mut up, mut gone) = (Down::default(), Up::default(), BTreeSet::new());
        // A host that was announced from here and that the kernel now has elsewhere has moved away; one that was not
        // has come.
        self.announced.retain(|mac| switch.local.contains(mac) || kernel.local.contains(mac));
        for (mac, remote) in &kernel.remote {
            let came = switch.local.contains(mac) && !remote.sticky && !self.announced.contains(mac);
            if came {
                continue;
            }
            self.announced.remove(mac);
            gone.insert(*mac);
            if switch.remote.get(mac) != Some(remote) {
                down.install.push((*mac, *remote));
            }
        }
        for mac in switch.local.difference(&gone) {
            self.announced.insert(*mac);
            if !kernel.local.contains(mac) {
                up.announce.push(*mac);
            }
        }
        for mac in kernel.local.difference(&switch.local) {
            if self.announced.remove(mac) || !keep_unknown {
                up.withdraw.push(*mac);
            }
        }
        down.forget.extend(switch.remote.keys().filter(|mac| !kernel.remote.contains_key(mac)));
        let stay = kernel.remote.iter().filter(|(mac, _)| gone.contains(mac));
        let mut vteps: BTreeMap<IpAddr, bool> = stay.map(|(_, remote)| (remote.vtep, false)).collect();
        vteps.extend(kernel.flood.iter().map(|vtep| (*vtep, true)));
        down.vteps = (vteps != switch.vteps).then_some(vteps);
        (down, up)
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
        for mac in &up.announce {
            kernel.remote.remove(mac);
            kernel.local.insert(*mac);
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
            let mut model = [Owner::Nobody; 4];
            for step in steps {
                match step {
                    Step::Heard(m) => {
                        let known = switch.remote.get(&mac(m)).copied();
                        if !known.is_some_and(|r| r.sticky) {
                            switch.remote.remove(&mac(m));
                            switch.local.insert(mac(m));
                            model[m as usize] = Owner::Here;
                        }
                    }
                    Step::Aged(m) => {
                        if switch.local.remove(&mac(m)) {
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
                let todo = table.reconcile(&switch, &kernel, false);
                carry_out(&mut switch, &mut kernel, &todo);
                for (m, owner) in model.iter().enumerate() {
                    let mac = mac(m as u8);
                    let here = *owner == Owner::Here;
                    let there = if let Owner::There(remote) = owner { Some(remote) } else { None };
                    prop_assert_eq!((switch.local.contains(&mac), kernel.local.contains(&mac)), (here, here));
                    prop_assert_eq!((switch.remote.get(&mac), kernel.remote.get(&mac)), (there, there));
                }
                for v in 1..4 {
                    let flooded = kernel.flood.contains(&vtep(v));
                    prop_assert_eq!(switch.vteps.get(&vtep(v)).copied().unwrap_or(false), flooded);
                }
                let (down, up) = table.reconcile(&switch, &kernel, false);
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
            let local: BTreeSet<MacAddr> = local.into_iter().map(mac).collect();
            let routes: BTreeMap<MacAddr, Remote> = routes.into_iter().map(|(m, v)| (mac(m), remote(v))).collect();
            let have = have.into_iter().map(|(m, v)| (mac(m), remote(v))).filter(|(m, _)| !local.contains(m)).collect();
            let kernel_local = kernel_local.into_iter().map(mac).filter(|m| !routes.contains_key(m)).collect();
            let mut switch = Switch { local, remote: have, vteps: BTreeMap::new() };
            let mut kernel = Kernel { local: kernel_local, remote: routes, flood: BTreeSet::new() };
            let mut table = Table { announced: old.into_iter().map(mac).collect() };
            let todo = table.reconcile(&switch, &kernel, false);
            carry_out(&mut switch, &mut kernel, &todo);
            prop_assert_eq!(&switch.local, &kernel.local);
            prop_assert_eq!(&switch.remote, &kernel.remote);
            let (down, up) = table.reconcile(&switch, &kernel, false);
            prop_assert!(down.is_empty() && up == Up::default(), "{:?} {:?}", down, up);
        }
    }

    #[test]
    fn after_a_restart_what_was_announced_before_stays_for_a_while() {
        let kernel = Kernel { local: [mac(1)].into(), ..Kernel::default() };
        let mut table = Table::default();
        let (down, up) = table.reconcile(&Switch::default(), &kernel, true);
        assert!(down.is_empty());
        assert_eq!(up, Up::default(), "kept");
        // One that is heard and then ages is withdrawn, whatever is kept of others.
        let heard = Switch { local: [mac(1)].into(), ..Switch::default() };
        assert_eq!(table.reconcile(&heard, &kernel, true).1, Up::default());
        assert_eq!(table.reconcile(&Switch::default(), &kernel, true).1.withdraw, [mac(1)]);
        let (_, up) = Table::default().reconcile(&Switch::default(), &kernel, false);
        assert_eq!(up.withdraw, [mac(1)], "the time is over");
    }

    #[test]
    fn a_vtep_without_a_type_3_route_gets_no_flooded_frames() {
        let kernel =
            Kernel { remote: [(mac(1), remote(1))].into(), flood: [vtep(2)].into(), ..Kernel::default() };
        let (down, _) = Table::default().reconcile(&Switch::default(), &kernel, false);
        assert_eq!(down.vteps, Some([(vtep(1), false), (vtep(2), true)].into()));
    }
}
