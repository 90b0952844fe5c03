//! Tunnel ports with `vlan-vni`: the VLAN of a frame is its tag in the bridge and the VNI of its packet outside.

use super::{Port, Translator};
use crate::bridge::vlan::vid_of;
use crate::tunnel::port::TunnelPort;
use config::VlanVni;
use flow::drop::DropReason;
use flow::ofp::Field;
use flow::program::PortId;
use std::net::IpAddr;
use wire::key::FlowMask;

impl<'w> Translator<'w> {
    /// Puts a packet out of the tunnel into the VLAN of its VNI; false where there is none.
    pub(super) fn tag_by_vni(&mut self, port: &Port, map: &VlanVni) -> bool {
        self.look_flow(&FlowMask { tun_id: u32::MAX, ..FlowMask::ZERO });
        let vni = self.at.key.flow.tun_id;
        let Some(vlan) = map.vlan(vni) else {
            self.note(|| format!("{}: VNI {vni} is no VLAN's", port.name));
            self.drop = DropReason::VniUnmapped;
            return false;
        };
        let tag = self.tag();
        if vid_of(tag) != 0 {
            self.note(|| format!("{}: a VLAN tag inside, and VNI {vni} is VLAN {vlan}", port.name));
            self.drop = DropReason::InnerVlan;
            return false;
        }
        self.note(|| format!("{}: VNI {vni} is VLAN {vlan}", port.name));
        self.mod_vlan(vlan, 0xfff);
        true
    }

    /// Sends the packet without its outermost tag, whose VLAN says the VNI.
    pub(super) fn encapsulate_vlan(
        &mut self,
        id: PortId,
        port: &'w Port,
        tunnel: &'w TunnelPort,
        map: &VlanVni,
        remote: Option<IpAddr>,
    ) {
        let tag = match self.at.leaving {
            Some(tag) => tag,
            None => self.tag(),
        };
        let vlan = vid_of(tag);
        let Some(vni) = map.vni(vlan) else {
            self.note(|| format!("{}: VLAN {vlan} has no VNI", port.name));
            self.drop = DropReason::VniUnmapped;
            return;
        };
        self.nested(|t| {
            t.at.tags.pop();
            t.at.leaving = None;
            t.set_field(Field::TunId, u128::from(vni), Field::TunId.info().exact());
            t.encapsulate(id, port, tunnel, remote);
        });
    }
}
