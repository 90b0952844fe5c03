//! Mirrors: copies of packets as they enter and leave, one a packet and mirror.

use super::{Bridge, Port, Translator};
use crate::bridge::mirror::{Mirror, MirrorOutput};
use crate::bridge::vlan::InVlan;
use flow::program::PortId;
use wire::addr::MacAddr;
use wire::key::FlowMask;

impl<'w> Translator<'w> {
    /// Copies for the mirrors that select what enters by this port.
    pub(super) fn mirror_ingress(&mut self, bridge: &'w Bridge, port: &'w Port) {
        let id = self.in_port;
        self.mirror(bridge, port, |mirror| mirror.selects_all(id) || mirror.src.contains(&id));
    }

    /// Copies for the mirrors that select what leaves by this port, as it leaves.
    pub(super) fn mirror_egress(&mut self, id: PortId, port: &'w Port) {
        let state = self.state;
        if let Some(bridge) = state.bridge(port.bridge) {
            self.mirror(bridge, port, |mirror| mirror.selects_all(id) || mirror.dst.contains(&id));
        }
    }

    fn mirror(&mut self, bridge: &'w Bridge, port: &'w Port, selects: impl Fn(&Mirror) -> bool) {
        for (at, mirror) in bridge.mirrors.iter().enumerate() {
            let done = (port.bridge, at);
            if !selects(mirror) || self.mirrored.contains(&done) {
                continue;
            }
            let tag = self.tag();
            let Some(vlan) = port.vlan.ingress(tag) else { continue };
            if !mirror.vlans.is_empty() && !mirror.vlans.contains(&vlan.vid) {
                continue;
            }
            self.mirrored.push(done);
            self.note(|| format!("mirror {}", mirror.name));
            // A packet that goes to a mirror alone is a drop, and says why.
            let (delivered, drop) = (self.delivered, self.drop);
            match mirror.output {
                MirrorOutput::Port(to) => {
                    if let Some(out) = self.state.port(to) {
                        let change = self.leaving_tags(out, vlan, tag);
                        self.output_tagged(&[(to, None)], change);
                    }
                }
                // As Open vSwitch: not back into the VLAN that it is in already, and nothing that bridges do not
                // forward, which would make the loop that it is there to prevent.
                MirrorOutput::Vlan(to) if to != vlan.vid && !self.is_for_bridges() => {
                    let vlan = InVlan { vid: to, ..vlan };
                    for &id in bridge.ports.values() {
                        if bridge.is_mirror_output(id) {
                            continue;
                        }
                        let Some(out) = self.state.port(id) else { continue };
                        if self.port_carries(out, vlan, tag) {
                            let change = self.leaving_tags(out, vlan, tag);
                            self.output_tagged(&[(id, None)], change);
                        }
                    }
                }
                MirrorOutput::Vlan(_) => {}
            }
            (self.delivered, self.drop) = (delivered, drop);
        }
    }

    /// Whether the packet goes to an 802.1D reserved group address.
    fn is_for_bridges(&mut self) -> bool {
        self.look_flow(&FlowMask { dl_dst: MacAddr::BROADCAST, ..FlowMask::ZERO });
        self.at.key.flow.dl_dst.is_reserved_group()
    }
}

impl Bridge {
    /// Whether a port carries a mirror's copies and nothing else.
    pub fn is_mirror_output(&self, port: PortId) -> bool {
        self.mirrors.iter().any(|mirror| mirror.output == MirrorOutput::Port(port))
    }
}
