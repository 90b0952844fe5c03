//! The NORMAL action: an 802.1Q learning switch.

use super::fdb::Location;
use super::local::hears_group;
use super::suppress::{Message, To};
use super::translate::{Dependency, Learn, Translator, by_number};
use super::vlan::{InVlan, PRIORITY, Tag, TagChange, tag_of, vid_of};
use super::{Bridge, Port, PortKind};
use crate::tunnel::port::TunnelPort;
use config::{PriorityTags, RemoteIp};
use flow::drop::DropReason;
use flow::ofp::{Field, PORT_ANY, PORT_CONTROLLER};
use flow::program::PortId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::{FlowMask, TUN_IPV6, VLAN_PRESENT};
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

        let number = self.at.key.flow.in_port;
        let is_controllers = matches!(number, PORT_CONTROLLER | PORT_ANY);
        if self.at.came_by_no_port && !is_controllers && by_number(bridge, number).is_none() {
            self.note(|| format!("NORMAL from port {number}, which there is not"));
            self.drop = DropReason::NotInBridge;
            return;
        }
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
        let vid = vlan.vid;
        if self.is_echo(in_port) {
            self.note(|| "this switch has sent it to the group itself".into());
            self.drop = DropReason::TunnelEcho;
            return;
        }
        let learned = self.learn_source(bridge, in_port, vid, src);

        let message = self.hosts_message(bridge, in_port, vlan);
        if dst.is_multicast() && message == Message::Asks {
            self.note(|| format!("flood VLAN {vid}"));
            return self.flood_question(bridge, in_port, vlan, tag);
        }
        if message != Message::No {
            self.snoop(vlan);
        }
        if dst == bridge.mac && bridge.listens() && !self.came_by(bridge.local) {
            match self.leaving_to_local(bridge, vlan, tag) {
                Some(change) => self.output_tagged(&[(bridge.local, None)], change),
                None => self.drop = DropReason::LocalUnhandled,
            }
            return;
        }
        if dst.is_multicast() {
            if self.multicast(bridge, in_port, vlan, tag) {
                return;
            }
            self.note(|| format!("flood VLAN {vid}"));
            return self.flood(bridge, in_port, vlan, tag, &To::All);
        }
        self.deps.push(Dependency::Fdb(in_port.bridge, vid, dst));
        // To itself: what it teaches counts, but a static entry is not taught.
        let found = learned
            .filter(|l| dst == src && !bridge.fdb.is_settled(vid, src, l.at))
            .map_or_else(|| bridge.fdb.lookup(vid, dst), |l| Some(l.at));
        match found {
            Some(at) if self.came_by(at.port) => {
                self.note(|| format!("{dst} is behind the input port"));
                self.drop = DropReason::SamePort;
            }
            Some(at) => {
                self.note(|| format!("forward {dst} in VLAN {vid}"));
                self.forward(at, in_port, vlan, tag);
            }
            None => {
                self.note(|| format!("no entry for {dst} in VLAN {vid}: flood"));
                self.flood(bridge, in_port, vlan, tag, &To::All);
            }
        }
    }

    /// Whether a packet out of a tunnel comes from one of the switch's own addresses: something below the underlay sends what
    /// goes to a multicast group back.
    fn is_echo(&mut self, in_port: &Port) -> bool {
        let PortKind::Tunnel(tunnel) = &in_port.kind else { return false };
        if tunnel.options.group().is_none() {
            return false;
        }
        let remote = self.remote(tunnel);
        self.state.bridges().any(|(_, bridge)| bridge.owns(remote))
    }

    fn learn_source(&mut self, bridge: &Bridge, in_port: &Port, vlan: u16, src: MacAddr) -> Option<Learn> {
        // Behind a device of the kernel there can be others than its own address.
        let is_own = self.in_port == bridge.local && (bridge.device.is_none() || src == bridge.mac);
        if self.at.came_by_no_port || is_own {
            return None;
        }
        // Where remote addresses are is said by routes.
        if matches!(&in_port.kind, PortKind::Tunnel(tunnel) if tunnel.options.remote_ip == RemoteIp::Evpn) {
            return None;
        }
        // Behind a tunnel with several remotes it matters which of them the packet came from.
        let remote = match &in_port.kind {
            PortKind::Tunnel(tunnel) if tunnel.remotes.len() != 1 || tunnel.options.group().is_some() => {
                Some(self.remote(tunnel))
            }
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
        let v6 = if let (Some((first, _)), None) = (tunnel.remotes.first(), tunnel.options.group()) {
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

    /// Whether a port carries a VLAN, with the customer's VLAN that this frame has behind it.
    pub(super) fn port_carries(&mut self, port: &Port, vlan: InVlan, tag: Tag) -> bool {
        let customer = if vlan.service.is_some() {
            vid_of(tag)
        } else if port.vlan.selects_customers() && tag.is_some() {
            self.look_flow(&FlowMask { vlan_tci2: (VLAN_PRESENT | 0xfff).into(), ..FlowMask::ZERO });
            vid_of(tag_of(self.at.key.flow.vlan_tci2.get()))
        } else {
            0
        };
        port.vlan.carries(vlan, customer)
    }

    /// How the packet leaves by a port; what that depends on is looked at.
    pub(super) fn leaving_tags(&mut self, port: &Port, vlan: InVlan, tag: Tag) -> TagChange {
        // Whether there is a tag can depend on its priority; otherwise that is only copied.
        if tag.is_some() && (vid_of(tag) == 0 || port.vlan.priority_tags != PriorityTags::Never) {
            self.look_flow(&FlowMask { vlan_tci: PRIORITY.into(), ..FlowMask::ZERO });
        }
        port.vlan.egress(vlan, tag)
    }

    /// How a frame of a VLAN comes to the LOCAL port. The switch's own addresses are in that port's VLAN: without a device they
    /// take what is untagged then.
    fn leaving_to_local(&mut self, bridge: &Bridge, vlan: InVlan, tag: Tag) -> Option<TagChange> {
        let port = self.state.port(bridge.local)?;
        if !self.port_carries(port, vlan, tag) {
            return None;
        }
        let change = self.leaving_tags(port, vlan, tag);
        if bridge.device.is_some() {
            return Some(change);
        }
        matches!(change, TagChange::Outermost(tag) if vid_of(tag) == 0).then_some(change)
    }

    fn forward(&mut self, at: Location, in_port: &Port, vlan: InVlan, tag: Tag) {
        let Some(port) = self.state.port(at.port) else {
            self.drop = DropReason::NoBridgePort;
            return;
        };
        if !self.port_carries(port, vlan, tag) {
            self.drop = DropReason::VlanIngress;
            return;
        }
        if in_port.is_tunnel() && port.is_tunnel() && splits(in_port) && splits(port) {
            self.drop = DropReason::SplitHorizon;
            return;
        }
        let change = self.leaving_tags(port, vlan, tag);
        self.output_tagged(&[(at.port, at.remote)], change);
    }

    /// Sends to every other port of the VLAN, but not from one tunnel to another: in a full mesh of
    /// tunnels every VTEP has sent its own copy.
    pub(super) fn flood(&mut self, bridge: &'w Bridge, in_port: &'w Port, vlan: InVlan, tag: Tag, to: &To) {
        let state = self.state;
        self.drop = DropReason::NoFloodPort;
        let mut outputs: Vec<(TagChange, PortId, Option<IpAddr>)> = Vec::with_capacity(bridge.ports.len());
        for &id in bridge.ports.values() {
            let Some(port) = state.port(id) else { continue };
            let is_meant = match to {
                To::All => true,
                To::Others => !state.suppresses(port),
                To::Suppressing => state.suppresses(port),
                To::Receivers(receivers) => receivers.has(id),
            };
            if !is_meant {
                continue;
            }
            if self.came_by(id)
                || bridge.is_mirror_output(id)
                || !port.is_flooded()
                || !self.port_carries(port, vlan, tag)
            {
                continue;
            }
            if in_port.is_tunnel() && port.is_tunnel() && splits(in_port) && splits(port) {
                self.drop = DropReason::SplitHorizon;
                continue;
            }
            let change = self.leaving_tags(port, vlan, tag);
            match to {
                To::Receivers(receivers) if !receivers.remotes(id).is_empty() => {
                    outputs.extend(receivers.remotes(id).iter().map(|remote| (change, id, Some(*remote))));
                }
                _ => outputs.push((change, id, None)),
            }
        }
        // Without a device, the bridge itself listens to ARP, neighbour discovery and its multicast groups only.
        if bridge.listens()
            && *to != To::Suppressing
            && !self.came_by(bridge.local)
            && state.port(bridge.local).is_some_and(Port::is_flooded)
            && let Some(change) = self.leaving_to_local(bridge, vlan, tag)
            && (bridge.device.is_some()
                && !matches!(to, To::Receivers(receivers) if !receivers.has(bridge.local))
                || self.read_field(Field::EthType) as u16 == ETH_ARP
                || hears_group(bridge, &self.at.key.flow))
        {
            self.output_tagged(&[(bridge.local, None)], change);
        }
        // In the order of the ports, which matters to mirrors; neighbours with one tag share its ops.
        let patch = |id: PortId| state.port(id).is_some_and(|p| matches!(p.kind, PortKind::Patch(_)));
        for same in outputs.chunk_by(|a, b| a.0 == b.0 && patch(a.1) == patch(b.1)) {
            let to: Vec<_> = same.iter().map(|(_, id, remote)| (*id, *remote)).collect();
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
