//! What tunnels see of bridges: the addresses of the switch, and what becomes of a packet that it sends itself.

use super::group::GroupUse;
use super::rules::Rule;
use super::translate::{Dependency, translate};
use super::{Bridge, PortKind, SwitchState};
use crate::tunnel::adjacency::output_ports;
use crate::tunnel::port::TunnelPort;
use crate::tunnel::{EgressDecision, Network, Underlay};
use datapath::adjacency::Egress;
use flow::program::{BridgeId, PortId};
use flow::stats::PacketStats;
use std::sync::Arc;
use std::time::Instant;
use wire::key::FlowKey;

/// Whose statistics packets count for.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Rules that they matched.
    pub rules: Vec<Arc<Rule>>,
    /// Groups that they came to.
    pub groups: Vec<GroupUse>,
}

impl Counters {
    /// Counts packets.
    pub fn count(&self, new: PacketStats, now: Instant) {
        for rule in &self.rules {
            rule.count(new, now);
        }
        for group in &self.groups {
            group.count(new);
        }
    }
}

impl Underlay for SwitchState {
    type Dep = Dependency;
    type Counters = Counters;

    fn networks(&self) -> impl Iterator<Item = Network<'_>> {
        self.bridges().filter(|(_, bridge)| bridge.is_underlay()).map(|(id, bridge)| network(id, bridge))
    }

    fn network(&self, id: BridgeId) -> Option<Network<'_>> {
        self.bridge(id).map(|bridge| network(id, bridge))
    }

    fn egress(&self, key: &FlowKey) -> EgressDecision<SwitchState> {
        let translation = translate(self, key);
        let counters = Counters { rules: translation.rules, groups: translation.groups };
        let (program, deps, mask) = (translation.program, translation.deps, translation.mask);
        let affects_rules = translation.effects.is_some();
        EgressDecision { program, deps, mask, counters, affects_rules }
    }

    fn egress_mtu(&self, egress: &Egress) -> Option<u16> {
        let mut ports = Vec::new();
        match egress {
            Egress::Ops(ops) => output_ports(ops, &mut ports),
            // Whatever the bridge's rules say of a packet, a port of its own is where it leaves, or of a bridge behind a patch
            // port.
            Egress::Lookup(local) => {
                let mut bridges: Vec<BridgeId> =
                    self.port(*local).map(|port| port.bridge).into_iter().collect();
                let mut at = 0;
                while let Some(id) = bridges.get(at).copied() {
                    at += 1;
                    for port in self.bridge(id).iter().flat_map(|bridge| bridge.ports.values()) {
                        ports.push(*port);
                        let peer = self.port(*port).and_then(|port| match &port.kind {
                            PortKind::Patch(peer) => self.port_named(peer).and_then(|peer| self.port(peer)),
                            _ => None,
                        });
                        if let Some(peer) = peer
                            && !bridges.contains(&peer.bridge)
                        {
                            bridges.push(peer.bridge);
                        }
                    }
                }
            }
        }
        ports.into_iter().filter_map(|id| self.port(id)?.mtu).min()
    }

    fn bridge_of(&self, dev: &str) -> Option<BridgeId> {
        self.bridge_named(dev).or_else(|| Some(self.port(self.port_named(dev)?)?.bridge))
    }

    fn tunnel_port(&self, id: PortId) -> Option<&TunnelPort> {
        match &self.port(id)?.kind {
            PortKind::Tunnel(tunnel) => Some(tunnel),
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => None,
        }
    }

    fn tunnel_port_mut(&mut self, id: PortId) -> Option<&mut TunnelPort> {
        match &mut self.port_mut(id)?.kind {
            PortKind::Tunnel(tunnel) => Some(tunnel),
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => None,
        }
    }
}

fn network(id: BridgeId, bridge: &Bridge) -> Network<'_> {
    Network {
        bridge: id,
        mac: bridge.mac,
        local: bridge.local,
        addresses: &bridge.addresses,
        routes: &bridge.routes,
    }
}
