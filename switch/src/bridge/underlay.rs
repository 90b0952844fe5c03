//! What tunnels see of bridges: the addresses of the switch, and what becomes of a packet that it sends itself.

use super::translate::{Dependency, translate};
use super::{Bridge, PortKind, SwitchState};
use crate::tunnel::port::TunnelPort;
use crate::tunnel::{EgressDecision, Network, Underlay};
use flow::program::{BridgeId, PortId};
use wire::key::FlowKey;

impl Underlay for SwitchState {
    type Dep = Dependency;

    fn networks(&self) -> impl Iterator<Item = Network<'_>> {
        self.bridges().filter(|(_, bridge)| bridge.is_underlay()).map(|(id, bridge)| network(id, bridge))
    }

    fn network(&self, id: BridgeId) -> Option<Network<'_>> {
        self.bridge(id).map(|bridge| network(id, bridge))
    }

    fn egress(&self, key: &FlowKey) -> EgressDecision<Dependency> {
        let translation = translate(self, key);
        EgressDecision { program: translation.program, deps: translation.deps, mask: translation.mask }
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
