//! The NORMAL action: an 802.1Q learning switch.

use super::fdb::Location;
use super::local::hears_group;
use super::translate::{Dependency, Learn, Translator};
use super::vlan::{Tag, tag_of};
use super::{Bridge, Port, PortKind};
use flow::drop::DropReason;
use flow::program::PortId;
use std::net::{IpAddr, Ipv4Addr};
use wire::addr::MacAddr;
use wire::key::VLAN_PRESENT;
use wire::proto::ETH_ARP;
use zerocopy::byteorder::network_endian::U16;

impl<'w> Translator<'w> {
    /// Learns, then forwards or floods.
    pub(super) fn normal(&mut self, bridge: &'w Bridge, in_port: &'w Port) {
        let wc = &mut self.wc.flow;
        wc.dl_src = MacAddr::BROADCAST;
        wc.dl_dst = MacAddr::BROADCAST;
        wc.vlan_tci |= U16::new(VLAN_PRESENT | 0xfff);
        let key = self.key.flow;
        let (src, dst) = (key.dl_src, key.dl_dst);
        let tag = tag_of(key.vlan_tci.get());

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
        self.learn_source(bridge, in_port, vlan, src);

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
        self.tags.push(Dependency::Fdb(in_port.bridge, vlan, dst));
        let found = if dst == src { self.learn.map(|l| l.at) } else { bridge.fdb.lookup(vlan, dst) };
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

    fn learn_source(&mut self, bridge: &Bridge, in_port: &Port, vlan: u16, src: MacAddr) {
        if self.in_port == bridge.local {
            return;
        }
        // Behind a tunnel with several remotes it matters which of them the packet came from.
        let remote = match &in_port.kind {
            PortKind::Vxlan(vxlan) if vxlan.remotes.len() != 1 => {
                self.wc.flow.tun_src = u32::MAX.into();
                Some(IpAddr::V4(Ipv4Addr::from(self.key.flow.tun_src.get())))
            }
            PortKind::Vxlan(vxlan) => vxlan.remotes.first().map(|(ip, _)| *ip),
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => None,
        };
        self.tags.push(Dependency::Fdb(in_port.bridge, vlan, src));
        self.learn = Some(Learn {
            bridge: in_port.bridge,
            vlan,
            mac: src,
            at: Location { port: self.in_port, remote },
        });
    }

    fn forward(&mut self, at: Location, in_port: &Port, vlan: u16, tag: Tag) {
        let Some(port) = self.world.port(at.port) else {
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
        self.output_tagged(at.port, at.remote, port.vlan.egress(vlan, tag));
    }

    /// Sends to every other port of the VLAN, but not from one tunnel to another: in a full mesh of
    /// tunnels every VTEP has sent its own copy.
    fn flood(&mut self, bridge: &'w Bridge, in_port: &'w Port, vlan: u16, tag: Tag) {
        let world = self.world;
        self.drop = DropReason::NoFloodPort;
        let mut ways: Vec<(Tag, PortId)> = Vec::with_capacity(bridge.ports.len());
        for &id in bridge.ports.values() {
            let Some(port) = world.port(id) else { continue };
            if id == self.in_port || !port.vlan.carries(vlan) {
                continue;
            }
            if in_port.is_tunnel() && port.is_tunnel() && splits(in_port) && splits(port) {
                self.drop = DropReason::SplitHorizon;
                continue;
            }
            ways.push((port.vlan.egress(vlan, tag), id));
        }
        // The bridge itself listens to ARP and neighbour discovery only; it looks before the packet's tag is changed.
        if bridge.is_underlay() && self.in_port != bridge.local && vlan == 0 {
            self.wc.flow.dl_type = U16::MAX_VALUE;
            if self.key.flow.dl_type.get() == ETH_ARP || hears_group(bridge, &self.key.flow) {
                self.local(bridge);
            }
        }
        // Ports that send the packet as it came first: a tag that was taken off cannot be put back.
        ways.sort_by_key(|(want, _)| (*want != tag, *want));
        for (want, id) in ways {
            self.output_tagged(id, None, want);
        }
    }
}

/// Whether a tunnel keeps to the split horizon (the default).
fn splits(port: &Port) -> bool {
    match &port.kind {
        PortKind::Vxlan(vxlan) => vxlan.options.split_horizon,
        PortKind::Local | PortKind::Device | PortKind::Patch(_) => false,
    }
}
