//! NORMAL: an 802.1Q learning switch.

use crate::field::Field;
use crate::packet::{Packet, Tag};
use crate::pipeline::{Place, Run};
use crate::world::{Entry, Kind, Mac, Port, Vlan, VlanMode};
use std::net::Ipv4Addr;

impl Vlan {
    fn is_trunked(&self, vid: u16) -> bool {
        self.trunks.is_empty() || self.trunks.contains(&vid)
    }

    /// Whether the port carries a VLAN.
    pub fn carries(&self, vid: u16) -> bool {
        match self.mode {
            VlanMode::Access => vid == self.tag,
            VlanMode::Trunk => self.is_trunked(vid),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => vid == self.tag || self.is_trunked(vid),
        }
    }

    /// The VLAN of a frame that comes in with this tag; `None` when it is not taken.
    pub fn ingress(&self, tag: Tag) -> Option<u16> {
        let vid = tag.unwrap_or(0) & 0xfff;
        let vlan = if vid == 0 && self.mode != VlanMode::Trunk { self.tag } else { vid };
        let taken = if self.mode == VlanMode::Access { vid == 0 } else { self.carries(vlan) };
        taken.then_some(vlan)
    }

    /// The tag of a frame of a VLAN that leaves; its priority is that of the tag that it had.
    pub fn egress(&self, vid: u16, had: Tag) -> Tag {
        let bare = self.mode == VlanMode::Access
            || vid == 0
            || self.mode == VlanMode::NativeUntagged && vid == self.tag;
        if bare { None } else { Some(had.unwrap_or(0) & 0xe000 | vid) }
    }
}

fn splits(from: Option<&Port>, to: &Port) -> bool {
    match (from.map(|port| &port.kind), &to.kind) {
        (Some(Kind::Tunnel(a)), Kind::Tunnel(b)) => a.split_horizon && b.split_horizon,
        _ => false,
    }
}

fn mac(value: u128) -> Mac {
    let bytes = value.to_be_bytes();
    [bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]]
}

impl Run<'_> {
    pub(crate) fn normal(&mut self, at: &Place, packet: &Packet) {
        let (src, dst) = (mac(packet.get(Field::EthSrc)), mac(packet.get(Field::EthDst)));
        let tag = packet.tag();
        let reserved = dst[..5] == [1, 0x80, 0xc2, 0, 0] && dst[5] < 16
            || dst[..5] == [0, 0xe0, 0x2b, 0, 0] && [0, 4, 6].contains(&dst[5])
            || [[0, 0, 0], [0xcc, 0xcc, 0xcd], [0xcd, 0xcd, 0xcd]]
                .iter()
                .any(|end| dst[..3] == [1, 0, 0xc] && dst[3..] == *end)
            || dst[..5] == [1, 0, 0xc, 0xcc, 0xcc] && dst[5] >> 4 == 0xc && dst[5] <= 0xcd;
        let bridge = self.bridge(at);
        if bridge.is_mirror_output(&at.port) || src[0] & 1 != 0 || reserved && !bridge.forward_bpdu {
            return;
        }
        let Some(vlan) = self.in_vlan(at).ingress(tag) else { return };
        let from = self.in_port(at);
        if let Some(from) = &from {
            self.learn(at.bridge, from, vlan, src, packet);
        }
        let bridge = self.bridge(at);
        if from.is_some() && !bridge.addresses.is_empty() && dst == bridge.mac {
            return;
        }
        let known = bridge.fdb.get(&(vlan, dst)).filter(|_| dst[0] & 1 == 0).cloned();
        if let Some(known) = known {
            if known.port != at.port
                && let Some(to) = self.bridge(at).by_name(&known.port).cloned()
                && to.vlan.carries(vlan)
                && !splits(from.as_ref(), &to)
            {
                self.output_in_vlan(at.bridge, &to, known.remote, vlan, tag, packet);
            }
            return;
        }
        self.out.unordered = true;
        for to in self.bridge(at).ports.clone() {
            if to.name != at.port
                && to.vlan.carries(vlan)
                && !self.bridge(at).is_mirror_output(&to.name)
                && !splits(from.as_ref(), &to)
            {
                self.output_in_vlan(at.bridge, &to, None, vlan, tag, packet);
            }
        }
    }

    /// Sends a packet of a VLAN by a port, tagged as that port tags the VLAN.
    pub(crate) fn output_in_vlan(
        &mut self,
        bridge: usize,
        to: &Port,
        remote: Option<Ipv4Addr>,
        vlan: u16,
        had: Tag,
        packet: &Packet,
    ) {
        let mut copy = packet.clone();
        copy.retag(to.vlan.egress(vlan, had));
        self.output(bridge, to, remote, &copy);
    }

    fn learn(&mut self, bridge: usize, from: &Port, vlan: u16, src: Mac, packet: &Packet) {
        let remote = match &from.kind {
            Kind::Tunnel(tunnel) => match tunnel.remotes[..] {
                [only] => Some(only),
                _ => Some(Ipv4Addr::from(packet.get(Field::TunSrc) as u32)),
            },
            Kind::Device | Kind::Patch(_) => None,
        };
        let fdb = &mut self.world.bridges[bridge].fdb;
        if !fdb.get(&(vlan, src)).is_some_and(|entry| entry.fixed) {
            fdb.insert((vlan, src), Entry { port: from.name.clone(), remote, fixed: false });
        }
    }
}
