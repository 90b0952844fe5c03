//! The NORMAL action: an 802.1Q learning switch.

use super::fdb::Location;
use super::local::hears_group;
use super::translate::{Dependency, Learn, Translator};
use super::vlan::Tag;
use super::{Bridge, Port, PortKind};
use crate::tunnel::port::TunnelPort;
use flow::drop::DropReason;
use flow::ofp::Field;
use flow::program::PortId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::{FlowMask, TUN_IPV6};
use wire::proto::ETH_ARP;

impl<'w> Translator<'w> {
    /// Learns, then forwards or floods.
    pub(super) fn normal(&mut self, bridge: &'w Bridge, in_port: &'w Port) {
        self.look_flow(&FlowMask {
            dl_src: MacAddr::BROADCAST,
            dl_dst: MacAddr::BROADCAST,
            ..FlowMask::ZERO
        });
        let tag = self.tag();
        let (src, dst) = (self.at.key.flow.dl_src, self.at.key.flow.dl_dst);

        if bridge.is_mirror_output(self.in_port) {
            self.note(|| format!("port {} is for mirrored packets only", in_port.name));
            self.drop = DropReason::MirrorPort;
            return;
        }
        if src.is_multicast() {
            self.drop = DropReason::SourceMulticast;
            return;
        }
        if dst.is_reserved_group() && !bridge.forward_bpdu {
            self.drop = DropReason::ReservedMulticast;
            return;
        }
        let Some(vlan) = in_port.vlan.ingress(tag) else {
            self.note(|| format!("port {} does not carry this VLAN", in_port.name));
            self.drop = DropReason::VlanIngress;
            return;
        };
        let learned = self.learn_source(bridge, in_port, vlan, src);

        if dst == bridge.mac && bridge.is_underlay() && self.in_port != bridge.local {
            if vlan == 0 {
                return self.local(bridge);
            }
            // The bridge's addresses are in VLAN 0, as those of an untagged LOCAL port are.
            self.drop = DropReason::LocalUnhandled;
            return;
        }
        if dst.is_multicast() {
            self.note(|| format!("flood VLAN {vlan}"));
            return self.flood(bridge, in_port, vlan, tag);
        }
        self.deps.push(Dependency::Fdb(in_port.bridge, vlan, dst));
        // To itself: what it teaches counts, but a static entry is not taught.
        let found = learned
            .filter(|l| dst == src && !bridge.fdb.is_settled(vlan, src, l.at))
            .map_or_else(|| bridge.fdb.lookup(vlan, dst), |l| Some(l.at));
        match found {
            Some(at) if at.port == self.in_port => {
                self.note(|| format!("{dst} is behind the input port"));
                self.drop = DropReason::SamePort;
            }
            Some(at) => {
                self.note(|| format!("forward {dst} in VLAN {vlan}"));
                self.forward(at, in_port, vlan, tag);
            }
            None => {
                self.note(|| format!("no entry for {dst} in VLAN {vlan}: flood"));
                self.flood(bridge, in_port, vlan, tag);
            }
        }
    }

    fn learn_source(&mut self, bridge: &Bridge, in_port: &Port, vlan: u16, src: MacAddr) -> Option<Learn> {
        if self.in_port == bridge.local {
            return None;
        }
        // Behind a tunnel with several remotes it matters which of them the packet came from.
        let remote = match &in_port.kind {
            PortKind::Tunnel(tunnel) if tunnel.remotes.len() != 1 => Some(self.remote(tunnel)),
            PortKind::Tunnel(tunnel) => tunnel.remotes.first().map(|(ip, _)| *ip),
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => None,
        };
        self.deps.push(Dependency::Fdb(in_port.bridge, vlan, src));
        let at = Location { port: self.in_port, remote };
        let learn = Learn { bridge: in_port.bridge, vlan, mac: src, at };
        self.learn.push(learn);
        Some(learn)
    }

    /// The VTEP that the packet came from.
    fn remote(&mut self, tunnel: &TunnelPort) -> IpAddr {
        // Fixed remotes are of one family, which the port knows; only others have to be asked.
        let v6 = if let Some((first, _)) = tunnel.remotes.first() {
            first.is_ipv6()
        } else {
            self.look_flow(&FlowMask { tun_flags: TUN_IPV6, ..FlowMask::ZERO });
            self.at.key.flow.tun_flags & TUN_IPV6 != 0
        };
        if v6 {
            Ipv6Addr::from(self.read_field(Field::TunIpv6Src)).into()
        } else {
            Ipv4Addr::from(self.read_field(Field::TunSrc) as u32).into()
        }
    }

    fn forward(&mut self, at: Location, in_port: &Port, vlan: u16, tag: Tag) {
        let Some(port) = self.state.port(at.port) else {
            self.drop = DropReason::NoBridgePort;
            return;
        };
        if !port.vlan.carries(vlan) {
            self.drop = DropReason::VlanIngress;
            return;
        }
        if in_port.is_tunnel() && port.is_tunnel() && splits(in_port) && splits(port) {
            self.drop = DropReason::SplitHorizon;
            return;
        }
        self.output_tagged(&[(at.port, at.remote)], port.vlan.egress(vlan, tag));
    }

    /// Sends to every other port of the VLAN, but not from one tunnel to another: in a full mesh of
    /// tunnels every VTEP has sent its own copy.
    fn flood(&mut self, bridge: &'w Bridge, in_port: &'w Port, vlan: u16, tag: Tag) {
        let state = self.state;
        self.drop = DropReason::NoFloodPort;
        let mut outputs: Vec<(Tag, PortId)> = Vec::with_capacity(bridge.ports.len());
        for &id in bridge.ports.values() {
            let Some(port) = state.port(id) else { continue };
            if id == self.in_port || !port.vlan.carries(vlan) || bridge.is_mirror_output(id) {
                continue;
            }
            if in_port.is_tunnel() && port.is_tunnel() && splits(in_port) && splits(port) {
                self.drop = DropReason::SplitHorizon;
                continue;
            }
            outputs.push((port.vlan.egress(vlan, tag), id));
        }
        // The bridge itself listens to ARP and neighbour discovery only.
        if bridge.is_underlay()
            && self.in_port != bridge.local
            && vlan == 0
            && (self.read_field(Field::EthType) as u16 == ETH_ARP || hears_group(bridge, &self.at.key.flow))
        {
            self.local(bridge);
        }
        // In the order of the ports, which matters to mirrors; neighbours with one tag share its ops.
        let patch = |id: PortId| state.port(id).is_some_and(|p| matches!(p.kind, PortKind::Patch(_)));
        for same in outputs.chunk_by(|a, b| a.0 == b.0 && patch(a.1) == patch(b.1)) {
            let to: Vec<_> = same.iter().map(|(_, id)| (*id, None)).collect();
            self.output_tagged(&to, same[0].0);
        }
    }
}

/// Whether a tunnel keeps to the split horizon (the default).
fn splits(port: &Port) -> bool {
    match &port.kind {
        PortKind::Tunnel(tunnel) => tunnel.options.split_horizon,
        PortKind::Local | PortKind::Device | PortKind::Patch(_) => false,
    }
}
