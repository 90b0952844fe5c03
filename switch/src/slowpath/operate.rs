//! What operators change besides the document: static FDB entries, and tables that they empty.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::fdb::Location;
use std::net::IpAddr;
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

    /// Forgets the neighbours that a bridge (or every one) has resolved; returns how many those were.
    pub fn neighbours_flush(&mut self, bridge: Option<BridgeId>, only: Option<IpAddr>) -> usize {
        let gone = self.tunnels.flush_neighbours(bridge, only);
        self.underlay_changed = true;
        self.settle_underlay();
        self.barrier();
        gone
    }
}
