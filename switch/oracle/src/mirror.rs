//! Mirrors: a copy of a packet as it enters or leaves, once for each mirror.

use crate::field::Field;
use crate::normal::{Inside, next_vid};
use crate::packet::Packet;
use crate::pipeline::Run;
use crate::world::{Mirror, Port};

impl Run<'_> {
    pub(crate) fn mirror(
        &mut self,
        bridge: usize,
        port: &Port,
        packet: &Packet,
        selects: impl Fn(&Mirror) -> bool,
    ) {
        let mirrors = self.world.bridges[bridge].mirrors.clone();
        for (n, mirror) in mirrors.iter().enumerate() {
            if self.mirrored.contains(&(bridge, n)) || !selects(mirror) {
                continue;
            }
            let tag = packet.tag();
            let Some(vlan) = port.vlan.ingress(tag) else { continue };
            if !mirror.vlans.is_empty() && !mirror.vlans.contains(&vlan.vid) {
                continue;
            }
            self.mirrored.push((bridge, n));
            if let Some(name) = &mirror.output_port {
                if let Some(to) = self.world.bridges[bridge].by_name(name).cloned() {
                    self.output_in_vlan(bridge, &to, None, vlan, tag, packet);
                }
            } else if let Some(rspan) = mirror.output_vlan
                && rspan != vlan.vid
                && packet.get(Field::EthDst) >> 4 != 0x0018_0c20_0000
            {
                self.out.unordered = true;
                let rspan = Inside { vid: rspan, ..vlan };
                for to in self.world.bridges[bridge].ports.clone() {
                    if to.vlan.carries(rspan, next_vid(rspan, packet))
                        && !self.world.bridges[bridge].is_mirror_output(&to.name)
                    {
                        self.output_in_vlan(bridge, &to, None, rspan, tag, packet);
                    }
                }
            }
        }
    }
}
