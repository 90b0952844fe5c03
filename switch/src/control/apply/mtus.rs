//! MTUs of devices that stay: as they are asked for, and of the host's own as small as its bridge needs.

use super::{ChangeError, Switch};
use crate::control::device::{DEFAULT_MTU, DeviceError};
use crate::control::plan::Plan;
use config::{Bridge, Document};
use std::collections::BTreeMap;

/// MTUs in bytes by port name.
pub(super) type Mtus = Vec<(String, u16)>;

/// The smallest MTU of a bridge's ports, as it was when one of them last came, went or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MinMtu {
    mtu: u16,
    /// Ports that it is of.
    of: BTreeMap<String, u16>,
}

impl Default for MinMtu {
    fn default() -> MinMtu {
        MinMtu { mtu: DEFAULT_MTU, of: BTreeMap::new() }
    }
}

impl MinMtu {
    /// Takes the ports as they are now; `has` says whether the bridge still has one. As in Open vSwitch a port that only
    /// stops to ask for an MTU changes nothing.
    fn update(&mut self, of: BTreeMap<String, u16>, has: impl Fn(&str) -> bool) {
        let changed = of.iter().any(|(name, mtu)| self.of.get(name) != Some(mtu))
            || self.of.keys().any(|name| !has(name));
        if changed {
            self.mtu = of.values().copied().min().unwrap_or(DEFAULT_MTU);
        }
        self.of = of;
    }
}

/// The MTU that a document asks for at a port, or at a bridge's LOCAL port.
fn requested(document: &Document, name: &str) -> Option<u16> {
    let local = || document.bridge(name)?.mtu;
    document.port(name).map_or_else(local, |(_, port)| port.mtu)
}

/// Ports of a bridge by which the host is on it, LOCAL first, that ask for no MTU: theirs is the bridge's.
fn following(bridge: &Bridge) -> impl Iterator<Item = &str> {
    let local = Some(bridge.name.as_str()).filter(|_| bridge.has_device() && bridge.mtu.is_none());
    // A tap's is its user's.
    let of_host = |port: &&config::Port| port.kind == "internal" && port.mtu.is_none();
    local.into_iter().chain(bridge.ports.iter().filter(of_host).map(|port| port.name.as_str()))
}

impl Switch {
    /// Sets the MTU of devices that stay, and returns what it was; undoes it when one refuses.
    pub(super) fn set_mtus(&mut self, plan: &Plan, new: &Document) -> Result<Mtus, DeviceError> {
        let mut done = Mtus::new();
        for name in &plan.set_mtu {
            let Some(wanted) = requested(new, name) else { continue };
            let Some(device) = self.ports.get_mut(name).and_then(|p| p.device.as_mut()) else { continue };
            let before = device.mtu;
            match device.set_mtu(wanted) {
                Ok(()) => done.push((name.clone(), before)),
                Err(reason) => {
                    self.reset_mtus(done);
                    return Err(DeviceError { port: name.clone(), reason });
                }
            }
        }
        Ok(done)
    }

    /// Undoes [`Switch::set_mtus`].
    pub(super) fn reset_mtus(&mut self, before: Mtus) {
        for (name, mtu) in before {
            if let Some(device) = self.ports.get_mut(&name).and_then(|p| p.device.as_mut())
                && let Err(reason) = device.set_mtu(mtu)
            {
                tracing::error!(port = %name, %reason, "the MTU cannot be set back");
            }
        }
    }

    /// Gives the host's devices on bridges that ask for no MTU the smallest of the bridge's other ports when that changes,
    /// and none a larger one: what the host sends fits everywhere.
    pub(super) async fn follow_mtus(&mut self) -> Result<(), ChangeError> {
        let mut set = Mtus::new();
        let mut before = std::mem::take(&mut self.min_mtus);
        for bridge in &self.document.bridges {
            let mtu_of = |name: &str| Some(self.ports.get(name)?.device.as_ref()?.mtu);
            let following: Vec<&str> = following(bridge).collect();
            let all = bridge.ports.iter().map(|port| port.name.as_str()).chain([bridge.name.as_str()]);
            let others = all.filter(|name| !following.contains(name));
            let others = others.filter_map(|name| Some((name.to_owned(), mtu_of(name)?))).collect();
            let mut min = before.remove(&bridge.name).unwrap_or_default();
            let was = min.mtu;
            min.update(others, |name| mtu_of(name).is_some());
            let follow = |mtu: u16| if min.mtu == was { mtu.min(min.mtu) } else { min.mtu };
            set.extend(following.into_iter().filter_map(|name| {
                let mtu = mtu_of(name)?;
                (follow(mtu) != mtu).then(|| (name.to_owned(), follow(mtu)))
            }));
            self.min_mtus.insert(bridge.name.clone(), min);
        }
        set.retain(|(name, mtu)| {
            let Some(device) = self.ports.get_mut(name).and_then(|port| port.device.as_mut()) else { return false };
            let outcome = device.set_mtu(*mtu);
            if let Err(reason) = &outcome {
                tracing::warn!(target: "vxswitch::port", port = %name, %reason, "it does not take its bridge's MTU");
            }
            outcome.is_ok()
        });
        if set.is_empty() {
            return Ok(());
        }
        let job = move |slow: &mut crate::slowpath::SlowPath| {
            for (name, mtu) in set {
                if let Some(id) = slow.state.port_named(&name) {
                    slow.set_mtu(id, mtu);
                }
            }
        };
        Ok(self.handle.call(job).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_mtu_changes_with_the_ports_that_it_is_of() {
        let of = |ports: &[(&str, u16)]| ports.iter().map(|(name, mtu)| ((*name).to_owned(), *mtu)).collect();
        let mut min = MinMtu::default();
        let there = |_: &str| true;
        min.update(of(&[]), there);
        assert_eq!(min.mtu, DEFAULT_MTU);
        min.update(of(&[("p1", 9000)]), there);
        assert_eq!(min.mtu, 9000);
        min.update(of(&[("p1", 9000), ("in0", 1400)]), there);
        assert_eq!(min.mtu, 1400);
        // It asks for none any more.
        min.update(of(&[("p1", 9000)]), there);
        assert_eq!(min.mtu, 1400);
        min.update(of(&[("p1", 1600)]), there);
        assert_eq!(min.mtu, 1600);
        min.update(of(&[]), |name| name != "p1");
        assert_eq!(min.mtu, DEFAULT_MTU);
    }
}
