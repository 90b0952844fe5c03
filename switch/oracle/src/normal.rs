//! NORMAL: an 802.1Q learning switch.

use crate::field::Field;
use crate::packet::{Packet, Tag};
use crate::pipeline::{Place, Run};
use crate::world::{Entry, Kind, Mac, Port, Vlan, VlanMode};
use std::net::Ipv4Addr;

/// A VLAN, and the EtherType of the tag that a tunnel port puts in front of all that a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inside {
    /// The VLAN.
    pub vid: u16,
    /// The tag.
    pub outer: Option<u16>,
}

/// What a frame has for tags when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// This in the place of its outermost.
    With(Tag),
    /// This in front of its own: EtherType and TCI.
    Under(u16, u16),
}

fn has(list: &[u16], vid: u16) -> bool {
    list.is_empty() || list.contains(&vid)
}

impl Vlan {
    /// Whether the port carries a VLAN; `next` is what a frame's second tag would say, or 0.
    pub fn carries(&self, vlan: Inside, next: u16) -> bool {
        match self.mode {
            VlanMode::Access => vlan.vid == self.tag && (vlan.outer.is_none() || next == 0),
            VlanMode::Trunk => has(&self.trunks, vlan.vid),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                vlan.vid == self.tag || has(&self.trunks, vlan.vid)
            }
            VlanMode::Tunnel => vlan.vid == self.tag && has(&self.cvlans, next),
        }
    }

    /// The VLAN of a frame that comes in with this tag; `None` when it is not taken.
    pub fn ingress(&self, tag: Tag) -> Option<Inside> {
        let vid = tag.unwrap_or(0) & 0xfff;
        if self.mode == VlanMode::Tunnel {
            let outer = Some(if self.plain_qinq { 0x8100 } else { 0x88a8 });
            return has(&self.cvlans, vid).then_some(Inside { vid: self.tag, outer });
        }
        let vlan = if vid == 0 && self.mode != VlanMode::Trunk { self.tag } else { vid };
        let inside = Inside { vid: vlan, outer: None };
        let taken = if self.mode == VlanMode::Access { vid == 0 } else { self.carries(inside, 0) };
        taken.then_some(inside)
    }

    /// How a frame of a VLAN leaves that had this tag.
    pub fn egress(&self, vlan: Inside, had: Tag) -> Leaves {
        let native = self.mode == VlanMode::NativeUntagged && vlan.vid == self.tag;
        let bare = native || matches!(self.mode, VlanMode::Access | VlanMode::Tunnel);
        let prio = had.unwrap_or(0) & 0xe000;
        if let Some(ethertype) = vlan.outer {
            let own_prio = if self.priority_tags > 0 { prio } else { 0 };
            return match bare {
                true if self.mode != VlanMode::Access => Leaves::With(had),
                false if vlan.vid | own_prio == 0 => Leaves::With(had),
                false => Leaves::Under(ethertype, vlan.vid | own_prio),
                true => Leaves::With(if own_prio > 0 { Some(own_prio) } else { None }),
            };
        }
        if bare {
            return Leaves::With(if self.priority_tags > 0 && prio > 0 { Some(prio) } else { None });
        }
        let tci = prio | vlan.vid;
        let empty_one = self.priority_tags == 2 && had.is_some();
        Leaves::With(if tci > 0 || empty_one { Some(tci) } else { None })
    }
}

/// What stands behind the tag of a frame's VLAN.
pub(crate) fn next_vid(vlan: Inside, packet: &Packet) -> u16 {
    let second = packet.parsed.second_tag as u16;
    match (vlan.outer, packet.tag()) {
        (Some(_), tag) => tag.unwrap_or(0) & 0xfff,
        (None, None) => 0,
        (None, Some(_)) => second & 0xfff,
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
            self.learn(at.bridge, from, vlan.vid, src, packet);
        }
        let bridge = self.bridge(at);
        if from.is_some() && !bridge.addresses.is_empty() && dst == bridge.mac {
            return;
        }
        let known = bridge.fdb.get(&(vlan.vid, dst)).filter(|_| dst[0] & 1 == 0).cloned();
        if let Some(known) = known {
            if known.port != at.port
                && let Some(to) = self.bridge(at).by_name(&known.port).cloned()
                && to.vlan.carries(vlan, next_vid(vlan, packet))
                && !splits(from.as_ref(), &to)
            {
                self.output_in_vlan(at.bridge, &to, known.remote, vlan, tag, packet);
            }
            return;
        }
        self.out.unordered = true;
        for to in self.bridge(at).ports.clone() {
            if to.name != at.port
                && to.vlan.carries(vlan, next_vid(vlan, packet))
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
        vlan: Inside,
        had: Tag,
        packet: &Packet,
    ) {
        let mut copy = packet.clone();
        match to.vlan.egress(vlan, had) {
            Leaves::With(tag) => copy.retag(tag),
            Leaves::Under(ethertype, tci) => copy.push_tag(ethertype, tci),
        }
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
