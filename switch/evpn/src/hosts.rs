//! Host addresses of one VNI: what the switch knows, what the kernel's shadow says, and what makes both equal.
//!
//! As with MAC addresses, whoever spoke last has an address, which complete views of both sides and a table of what was
//! announced from here tell.

use crate::table::Keep;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use wire::addr::MacAddr;

/// Who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its MAC address.
    pub mac: MacAddr,
    /// It is an IPv6 router.
    pub router: bool,
}

/// One side's host addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Of local hosts.
    pub local: BTreeMap<IpAddr, Host>,
    /// Of hosts behind other VTEPs (route type 2 with an address).
    pub remote: BTreeMap<IpAddr, Host>,
    /// Local addresses that an operator has given, which do not move. Of the switch's side.
    pub fixed: BTreeSet<IpAddr>,
}

/// What one side has to change: forget before put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostChanges {
    /// Addresses to forget.
    pub forget: Vec<IpAddr>,
    /// Addresses to put.
    pub put: Vec<(IpAddr, Host)>,
}

impl HostChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.forget.is_empty() && self.put.is_empty()
    }
}

/// What was announced from here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Announced(BTreeMap<IpAddr, Host>);

impl Announced {
    /// What makes both sides equal: changes of the switch, and of the kernel.
    pub(crate) fn reconcile(
        &mut self,
        switch: &Hosts,
        kernel: &Hosts,
        keep: Keep,
    ) -> (HostChanges, HostChanges) {
        let (mut down, mut up) = (HostChanges::default(), HostChanges::default());
        let mut elsewhere = BTreeSet::new();
        self.0.retain(|ip, _| switch.local.contains_key(ip) || kernel.local.contains_key(ip));
        for (ip, remote) in &kernel.remote {
            let here = switch.local.get(ip);
            // One that was announced and that the kernel now has elsewhere has moved away; one that was not has come.
            if here.is_some() && self.0.get(ip) != here {
                continue;
            }
            elsewhere.insert(*ip);
            if switch.fixed.contains(ip) {
                continue;
            }
            self.0.remove(ip);
            if switch.remote.get(ip) != Some(remote) {
                down.put.push((*ip, *remote));
            }
        }
        for (ip, host) in switch.local.iter().filter(|(ip, _)| !elsewhere.contains(ip)) {
            self.0.insert(*ip, *host);
            if kernel.local.get(ip) != Some(host) {
                up.put.push((*ip, *host));
            }
        }
        for ip in kernel.local.keys().filter(|ip| !switch.local.contains_key(ip)) {
            if self.0.remove(ip).is_some() || !keep.announced {
                up.forget.push(*ip);
            }
        }
        let gone = |ip: &&IpAddr| !kernel.remote.contains_key(*ip) && !keep.routes;
        down.forget.extend(switch.remote.keys().filter(gone));
        (down, up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn host(n: u8) -> Host {
        Host { mac: MacAddr([2, 0, 0, 0, 0, n]), router: false }
    }

    /// Does in both sides what was said, as slow path and kernel do: one entry an address.
    fn carry_out(switch: &mut Hosts, kernel: &mut Hosts, (down, up): &(HostChanges, HostChanges)) {
        for ip in &down.forget {
            switch.remote.remove(ip);
        }
        for (ip, host) in &down.put {
            switch.local.remove(ip);
            switch.remote.insert(*ip, *host);
        }
        for ip in &up.forget {
            kernel.local.remove(ip);
        }
        for (ip, host) in &up.put {
            kernel.remote.remove(ip);
            kernel.local.insert(*ip, *host);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// A host says at a local port that it has the address.
        Heard(u8, u8),
        Aged(u8),
        /// Zebra installs a route.
        Route(u8, u8),
        Withdrawn(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4, 0u8..3).prop_map(|(i, m)| Step::Heard(i, m)),
            (0u8..4).prop_map(Step::Aged),
            (0u8..4, 0u8..3).prop_map(|(i, m)| Step::Route(i, m)),
            (0u8..4).prop_map(Step::Withdrawn),
        ]
    }

    proptest! {
        /// With a reconciliation after each step the last word holds, and nothing is left to do.
        #[test]
        fn the_last_word_holds(steps in prop::collection::vec(step(), 0..60)) {
            let (mut switch, mut kernel) = (Hosts::default(), Hosts::default());
            let mut table = Announced::default();
            let mut model: BTreeMap<IpAddr, (bool, Host)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Heard(i, m) => {
                        switch.remote.remove(&ip(i));
                        switch.local.insert(ip(i), host(m));
                        model.insert(ip(i), (true, host(m)));
                    }
                    Step::Aged(i) => {
                        if switch.local.remove(&ip(i)).is_some() {
                            model.remove(&ip(i));
                        }
                    }
                    Step::Route(i, m) => {
                        kernel.local.remove(&ip(i));
                        kernel.remote.insert(ip(i), host(m));
                        model.insert(ip(i), (false, host(m)));
                    }
                    Step::Withdrawn(i) => {
                        if kernel.remote.remove(&ip(i)).is_some() {
                            model.remove(&ip(i));
                        }
                    }
                }
                let todo = table.reconcile(&switch, &kernel, Keep::default());
                carry_out(&mut switch, &mut kernel, &todo);
                let of = |here: bool| {
                    let all = model.iter().filter(|(_, (local, _))| *local == here);
                    all.map(|(ip, (_, host))| (*ip, *host)).collect::<BTreeMap<_, _>>()
                };
                prop_assert_eq!((&switch.local, &switch.remote), (&of(true), &of(false)));
                prop_assert_eq!((&kernel.local, &kernel.remote), (&of(true), &of(false)));
                let (down, up) = table.reconcile(&switch, &kernel, Keep::default());
                prop_assert!(down.is_empty() && up.is_empty(), "{:?} {:?}", down, up);
            }
        }
    }

    #[test]
    fn an_operators_address_stays_where_it_is() {
        let switch = Hosts { local: [(ip(1), host(1))].into(), fixed: [ip(1)].into(), ..Hosts::default() };
        let mut kernel = Hosts { remote: [(ip(1), host(2))].into(), ..Hosts::default() };
        let mut table = Announced::default();
        let (down, up) = table.reconcile(&switch, &kernel, Keep::default());
        assert!(down.is_empty());
        assert_eq!(up.put, [(ip(1), host(1))]);
        // Another VTEP says so again: neither side gives way, nor goes on for ever.
        for _ in 0..3 {
            let (down, up) = table.reconcile(&switch, &kernel, Keep::default());
            assert!(down.is_empty() && up.is_empty(), "{down:?} {up:?}");
        }
        kernel.remote.clear();
        assert_eq!(table.reconcile(&switch, &kernel, Keep::default()).1.put.len(), 1);
    }

    #[test]
    fn what_is_kept_waits_for_its_other_side() {
        let mut switch = Hosts { remote: [(ip(2), host(2))].into(), ..Hosts::default() };
        let kernel = Hosts { local: [(ip(1), host(1))].into(), ..Hosts::default() };
        let keep = Keep { announced: true, routes: true };
        let mut table = Announced::default();
        let (down, up) = table.reconcile(&switch, &kernel, keep);
        assert!(down.is_empty() && up.is_empty());
        // Heard, and aged.
        switch.local.insert(ip(1), host(1));
        table.reconcile(&switch, &kernel, keep);
        switch.local.clear();
        assert_eq!(table.reconcile(&switch, &kernel, keep).1.forget, [ip(1)]);
        let (down, up) = Announced::default().reconcile(&switch, &kernel, Keep::default());
        assert_eq!((down.forget, up.forget), (vec![ip(2)], vec![ip(1)]), "the time is over");
    }
}
