//! What another process had learned of addresses, put back when this one takes its place: nothing is flooded or asked for
//! again.

use super::SlowPath;
use crate::bridge::fdb::Location;
use crate::bridge::hosts::Claim;
use api::{FdbEntry, NeighbourEntry};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use wire::addr::MacAddr;

/// What was learned: static entries are in the document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    /// FDB entries by bridge.
    pub fdb: BTreeMap<String, Vec<FdbEntry>>,
    /// Neighbours of the underlay.
    pub neighbours: Vec<NeighbourEntry>,
    /// Hosts of the overlay that requests are answered for.
    pub hosts: Vec<NeighbourEntry>,
}

impl SlowPath {
    /// Puts it back, as far as bridges and ports of those names exist.
    pub fn restore(&mut self, learned: Learned) {
        if learned == Learned::default() {
            return;
        }
        for (bridge, rows) in learned.fdb {
            self.restore_fdb(&bridge, rows);
        }
        let now = self.now();
        for row in learned.neighbours {
            let Some(bridge) = self.state.bridge_named(&row.bridge) else { continue };
            let has_device = self.state.bridge(bridge).is_some_and(|bridge| bridge.device.is_some());
            let (Some(at), "REACHABLE", false) = (address(&row), row.state.as_str(), has_device) else {
                continue;
            };
            self.tunnels.learn_neighbour(&self.state, bridge, at, true, now);
        }
        for row in learned.hosts {
            let Some(port) = row.port.as_ref().and_then(|name| self.state.port_named(name)) else { continue };
            let Some(bridge) = self.state.bridge_named(&row.bridge) else { continue };
            let Some(bridge) = self.state.bridge_mut(bridge) else { continue };
            let (Some((ip, mac)), "REACHABLE") = (address(&row), row.state.as_str()) else { continue };
            let claim = Claim { ip, mac, router: Some(row.router), overrides: true };
            bridge.hosts.snoop(row.vlan, claim, port, now);
        }
        self.underlay_changed = true;
        self.settle_underlay();
    }

    fn restore_fdb(&mut self, bridge: &str, mut rows: Vec<FdbEntry>) {
        let now = self.now();
        rows.sort_by_key(|row| std::cmp::Reverse(row.age));
        let Some(id) = self.state.bridge_named(bridge) else { return };
        for row in rows.into_iter().filter(|row| !row.fixed) {
            let Some(port) = self.state.port_named(&row.port) else { continue };
            let remote: Option<IpAddr> = row.remote.as_deref().and_then(|ip| ip.parse().ok());
            let (Ok(mac), Some(bridge)) = (row.mac.parse(), self.state.bridge_mut(id)) else { continue };
            let at = Location { port, remote };
            bridge.fdb.restore((row.vlan, mac), at, Duration::from_secs(row.age), now);
            self.fdb_changed(id, row.vlan, mac);
        }
        self.revalidate_changed();
    }
}

fn address(row: &NeighbourEntry) -> Option<(IpAddr, MacAddr)> {
    Some((row.ip.parse().ok()?, row.mac.as_ref()?.parse().ok()?))
}
