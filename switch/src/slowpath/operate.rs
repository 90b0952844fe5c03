//! What operators change besides the document: static FDB entries, and tables that they empty.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::fdb::Location;
use crate::tunnel::route::{Hop, lookup};
use std::net::IpAddr;
use std::time::Duration;
use wire::addr::MacAddr;

impl SlowPath {
    /// Puts a static FDB entry. It lives until it is deleted or its port goes.
    pub fn fdb_add(&mut self, bridge: BridgeId, vlan: u16, mac: MacAddr, at: Location) -> bool {
        let now = self.now();
        let Some(running) = self.state.bridge_mut(bridge) else { return false };
        if let Some((vlan, mac)) = running.fdb.add_fixed(vlan, mac, at, now) {
            self.fdb_changed(bridge, vlan, mac);
        }
        self.fdb_changed(bridge, vlan, mac);
        self.revalidate_changed();
        self.settle_underlay();
        self.barrier()
    }

    /// Deletes an FDB entry, static or learned; says whether there was one.
    pub fn fdb_delete(&mut self, bridge: BridgeId, vlan: u16, mac: MacAddr) -> bool {
        let Some(running) = self.state.bridge_mut(bridge) else { return false };
        let found = running.fdb.remove(vlan, mac).is_some();
        if found {
            self.fdb_changed(bridge, vlan, mac);
            self.revalidate_changed();
            self.settle_underlay();
            self.barrier();
        }
        found
    }

    /// Forgets all that a bridge has learned; returns how many entries that were.
    pub fn fdb_flush(&mut self, bridge: BridgeId) -> usize {
        let Some(running) = self.state.bridge_mut(bridge) else { return 0 };
        let gone = running.fdb.flush(None);
        for (vlan, mac) in &gone {
            self.fdb_changed(bridge, *vlan, *mac);
        }
        self.revalidate_changed();
        self.settle_underlay();
        self.barrier();
        gone.len()
    }

    /// Sets a neighbour; it stays until neighbours are flushed, or the document or the kernel have another for its address.
    pub fn neighbour_set(&mut self, bridge: BridgeId, ip: IpAddr, mac: MacAddr) {
        let now = self.now();
        self.tunnels.set_neighbour(bridge, ip, mac, now);
        self.neighbours_set.insert((bridge, ip));
        self.underlay_changed = true;
        self.settle_underlay();
        self.barrier();
    }

    /// Time after which a resolved neighbour is asked again.
    pub fn neighbour_aging(&self) -> Duration {
        self.tunnels.neighbour_aging()
    }

    /// Sets it, for all bridges.
    pub fn set_neighbour_aging(&mut self, aging: Duration) {
        self.tunnels.set_neighbour_aging(aging);
    }

    /// By which bridge, from which address and over which next hop packets to an address leave.
    pub fn route_to(&self, ip: IpAddr) -> Option<(String, Hop)> {
        let hops = self.state.bridges().filter_map(|(id, bridge)| {
            let is_static = |ip| self.tunnels.neighbour_mac(id, ip).is_some();
            Some((bridge.name.clone(), lookup(&bridge.addresses, &bridge.routes, is_static, ip)?))
        });
        hops.max_by_key(|(_, hop)| hop.prefix_len)
    }

    /// Forgets the neighbours that a bridge (or every one) has resolved; returns how many those were.
    pub fn neighbours_flush(&mut self, bridge: Option<BridgeId>, only: Option<IpAddr>) -> usize {
        let mut gone = self.tunnels.flush_neighbours(bridge, only);
        let flushed = |(id, ip): &(BridgeId, IpAddr)| {
            bridge.is_none_or(|bridge| bridge == *id) && only.is_none_or(|only| only == *ip)
        };
        for (id, ip) in self.neighbours_set.extract_if(.., flushed) {
            self.tunnels.remove_neighbour(id, ip);
            gone += 1;
        }
        self.underlay_changed = true;
        self.settle_underlay();
        self.barrier();
        gone
    }
}
