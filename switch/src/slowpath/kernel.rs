//! Bridges whose LOCAL port is a device of the kernel: what the kernel has there is what tunnels run over.

use super::SlowPath;
use crate::bridge::{BridgeId, KernelNeighbour};
use crate::tunnel::route::Route;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::addr::MacAddr;

/// What the kernel has on a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelView {
    /// The device's MAC address, if there is a device.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: Option<u16>,
    /// Addresses, unless it is down.
    pub addresses: Vec<IpNet>,
    /// Routes by the device; of several to one prefix the last is the kernel's choice.
    pub routes: Vec<Route>,
    /// Neighbours whose MAC addresses are known.
    pub neighbours: BTreeMap<IpAddr, KernelNeighbour>,
}

impl SlowPath {
    /// Makes a bridge's addresses, routes and neighbours those that the kernel has on its device.
    pub fn follow_kernel(&mut self, id: BridgeId, view: &KernelView) {
        let now = self.now();
        let Some(bridge) = self.state.bridge_mut(id) else { return };
        let Some(device) = &mut bridge.device else { return };
        let before = std::mem::replace(&mut device.neighbours, view.neighbours.clone());
        let (local, mac) = (bridge.local, view.mac.unwrap_or(bridge.mac));
        let other = bridge.addresses != view.addresses || bridge.routes != view.routes || bridge.mac != mac;
        if other {
            bridge.addresses.clone_from(&view.addresses);
            bridge.routes.clone_from(&view.routes);
            bridge.mac = mac;
            self.everything_changed();
            self.underlay_changed = true;
        }
        for (ip, neighbour) in &before {
            // One that the kernel has found out, and forgets, is ours to ask for as long as we need it.
            if neighbour.is_static && view.neighbours.get(ip).is_none_or(|now| !now.is_static) {
                self.tunnels.remove_neighbour(id, *ip);
                self.underlay_changed = true;
            }
        }
        for (ip, neighbour) in view.neighbours.iter().filter(|(ip, now)| before.get(*ip) != Some(*now)) {
            if neighbour.is_static {
                self.tunnels.set_neighbour(id, *ip, neighbour.mac, now);
                self.underlay_changed = true;
            } else {
                self.learn_neighbour(id, *ip, neighbour.mac, true, now);
            }
        }
        if let Some(mtu) =
            view.mtu.filter(|mtu| self.state.port(local).is_some_and(|p| p.mtu.is_some_and(|m| m != *mtu)))
        {
            self.set_mtu(local, mtu);
        }
        if other || self.underlay_changed {
            self.commit();
        }
    }
}
