//! VLANs of a port, as Open vSwitch defines them: `tag`, `trunks`, `vlan_mode`, `cvlans`, `priority-tags`.

use config::{PriorityTags, VlanMode};
use wire::key::VLAN_PRESENT;

/// Which VLANs a port carries, and which of them untagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanConfig {
    /// How tagged and untagged frames are taken and sent.
    pub mode: VlanMode,
    /// Access, native or service VLAN.
    pub tag: u16,
    /// VLANs of a trunk; empty for all.
    pub trunks: Vec<u16>,
    /// Customer VLANs of a `dot1q-tunnel` port; empty for all.
    pub cvlans: Vec<u16>,
    /// EtherType of the tag that a `dot1q-tunnel` port puts in front.
    pub qinq_ethtype: u16,
    /// Whether frames leave with a tag for VLAN 0.
    pub priority_tags: PriorityTags,
}

impl Default for VlanConfig {
    /// A trunk for all VLANs, which is what a port without settings is.
    fn default() -> Self {
        VlanConfig::of(&config::Port::default())
    }
}

/// The 802.1Q tag of a packet: the TCI without the CFI bit.
pub type Tag = Option<u16>;

/// The tag in a key's `vlan_tci`.
pub fn tag_of(vlan_tci: u16) -> Tag {
    (vlan_tci & VLAN_PRESENT != 0).then_some(vlan_tci & !VLAN_PRESENT)
}

/// Priority bits of a TCI.
pub const PRIORITY: u16 = 0xe000;

/// VLAN ID of a tag; of none, 0.
pub fn vid_of(tag: Tag) -> u16 {
    tag.map_or(0, |tci| tci & 0xfff)
}

/// The VLAN that a packet is in while a bridge switches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InVlan {
    /// Its ID.
    pub vid: u16,
    /// EtherType of the service tag, when a `dot1q-tunnel` port has put the packet into the VLAN with all its own tags.
    pub service: Option<u16>,
}

/// What becomes of a packet's tags when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagChange {
    /// It leaves with this for its outermost tag, whatever that was.
    Outermost(Tag),
    /// It leaves with another tag in front.
    Push {
        /// EtherType.
        tpid: u16,
        /// TCI.
        tci: u16,
    },
}

impl VlanConfig {
    /// The settings of a configured port.
    pub fn of(port: &config::Port) -> VlanConfig {
        VlanConfig {
            mode: port.effective_vlan_mode(),
            tag: port.tag.unwrap_or(0),
            trunks: port.trunks.clone(),
            cvlans: port.cvlans.clone(),
            qinq_ethtype: port.qinq_ethtype(),
            priority_tags: port.priority_tags(),
        }
    }

    fn in_trunks(&self, vid: u16) -> bool {
        self.trunks.is_empty() || self.trunks.contains(&vid)
    }

    /// Whether the port, one with `vlan_mode=dot1q-tunnel`, takes a customer VLAN; 0 stands for untagged frames.
    fn takes_customer(&self, vid: u16) -> bool {
        self.cvlans.is_empty() || self.cvlans.contains(&vid)
    }

    /// Whether the port looks at the customer VLAN of frames that leave.
    pub fn selects_customers(&self) -> bool {
        self.mode == VlanMode::Dot1qTunnel && !self.cvlans.is_empty()
    }

    /// Whether the port carries a VLAN. `customer` is the VLAN ID of the tag behind the VLAN's own, 0 without one.
    pub fn carries(&self, vlan: InVlan, customer: u16) -> bool {
        match self.mode {
            // A frame of a tunnelled customer's VLAN is no frame of the access VLAN.
            VlanMode::Access => vlan.vid == self.tag && (vlan.service.is_none() || customer == 0),
            VlanMode::Trunk => self.in_trunks(vlan.vid),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                vlan.vid == self.tag || self.in_trunks(vlan.vid)
            }
            VlanMode::Dot1qTunnel => vlan.vid == self.tag && self.takes_customer(customer),
        }
    }

    /// The VLAN of a frame that comes in with this tag, or `None` when the port does not take it. A
    /// priority tag (VLAN 0) counts as none.
    pub fn ingress(&self, tag: Tag) -> Option<InVlan> {
        let vid = vid_of(tag);
        let own = |vid| Some(InVlan { vid, service: None });
        match self.mode {
            VlanMode::Access => own(self.tag).filter(|_| vid == 0),
            VlanMode::Trunk => own(vid).filter(|_| self.in_trunks(vid)),
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => own(self.tag),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                own(vid).filter(|_| vid == self.tag || self.in_trunks(vid))
            }
            VlanMode::Dot1qTunnel => {
                let service = InVlan { vid: self.tag, service: Some(self.qinq_ethtype) };
                Some(service).filter(|_| self.takes_customer(vid))
            }
        }
    }

    /// How a frame of a VLAN leaves; `tag` is its own outermost tag.
    pub fn egress(&self, vlan: InVlan, tag: Tag) -> TagChange {
        let pops = match self.mode {
            VlanMode::Access | VlanMode::Dot1qTunnel => true,
            VlanMode::Trunk | VlanMode::NativeTagged => false,
            VlanMode::NativeUntagged => vlan.vid == self.tag,
        };
        let priority = tag.map_or(0, |tci| tci & PRIORITY);
        match (vlan.service, pops) {
            // The service tag goes as it came, and the customer's tags stay; an access port has none.
            (Some(_), true) if self.mode != VlanMode::Access => TagChange::Outermost(tag),
            (Some(tpid), false) => {
                let priority = if self.priority_tags == PriorityTags::Never { 0 } else { priority };
                let tci = vlan.vid | priority;
                if tci == 0 { TagChange::Outermost(tag) } else { TagChange::Push { tpid, tci } }
            }
            (_, true) => {
                let keeps = self.priority_tags != PriorityTags::Never && priority != 0;
                TagChange::Outermost(keeps.then_some(priority))
            }
            (None, false) => {
                // The priority of the frame's own tag is kept, and a tag for VLAN 0 that has one.
                let tci = vlan.vid | priority;
                let keeps = self.priority_tags == PriorityTags::Always && tag.is_some();
                TagChange::Outermost((tci != 0 || keeps).then_some(tci))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(mode: VlanMode, tag: u16, trunks: &[u16]) -> VlanConfig {
        VlanConfig { mode, tag, trunks: trunks.to_vec(), ..VlanConfig::default() }
    }

    fn own(vid: u16) -> InVlan {
        InVlan { vid, service: None }
    }

    #[test]
    fn modes_take_and_send_what_open_vswitch_does() {
        let leaves = TagChange::Outermost;
        let access = port(VlanMode::Access, 10, &[]);
        assert_eq!(access.ingress(None), Some(own(10)));
        assert_eq!(access.ingress(Some(0)), Some(own(10)), "priority tag");
        assert_eq!(access.ingress(Some(10)), None, "an access port takes no tags");
        assert_eq!(access.egress(own(10), Some(10)), leaves(None));
        let trunk = port(VlanMode::Trunk, 0, &[10, 20]);
        assert_eq!(trunk.ingress(Some(20)), Some(own(20)));
        assert_eq!(trunk.ingress(Some(30)), None);
        assert_eq!(trunk.ingress(None), None, "VLAN 0 is not in trunks");
        assert_eq!(trunk.egress(own(10), None), leaves(Some(10)));
        assert_eq!(trunk.egress(own(10), Some(0x600a)), leaves(Some(0x600a)), "priority kept");
        assert_eq!(trunk.egress(own(10), Some(0xa000)), leaves(Some(0xa00a)), "also that of a priority tag");
        let native = port(VlanMode::NativeUntagged, 5, &[10]);
        assert_eq!(native.ingress(None), Some(own(5)));
        assert_eq!(native.egress(own(5), Some(5)), leaves(None));
        assert_eq!(native.egress(own(10), None), leaves(Some(10)));
        assert_eq!(port(VlanMode::NativeTagged, 5, &[]).egress(own(5), None), leaves(Some(5)));
        let all = VlanConfig::default();
        assert_eq!((all.ingress(None), all.ingress(Some(7))), (Some(own(0)), Some(own(7))));
        assert_eq!(all.egress(own(0), None), leaves(None));
        assert_eq!(all.egress(own(0), Some(0xa000)), leaves(Some(0xa000)), "a priority is not lost");
        assert_eq!(all.egress(own(0), Some(0)), leaves(None));
    }

    #[test]
    fn a_tunnel_port_puts_a_tag_in_front_and_takes_it_off() {
        let tunnel = VlanConfig { cvlans: vec![0, 7], ..port(VlanMode::Dot1qTunnel, 100, &[]) };
        let service = InVlan { vid: 100, service: Some(0x88a8) };
        assert_eq!(tunnel.ingress(Some(0x6007)), Some(service));
        assert_eq!(tunnel.ingress(None), Some(service));
        assert_eq!(tunnel.ingress(Some(8)), None, "not a VLAN of this customer");
        let trunk = VlanConfig::default();
        assert_eq!(trunk.egress(service, Some(0x6007)), TagChange::Push { tpid: 0x88a8, tci: 100 });
        assert_eq!(tunnel.egress(service, Some(7)), TagChange::Outermost(Some(7)), "as it came");
        assert_eq!(tunnel.egress(own(100), Some(0x2064)), TagChange::Outermost(None));
        assert!(tunnel.carries(own(100), 7) && tunnel.carries(own(100), 0));
        assert!(!tunnel.carries(own(100), 8) && !tunnel.carries(own(7), 7));
        let access = port(VlanMode::Access, 100, &[]);
        assert!(access.carries(service, 0) && !access.carries(service, 7));
    }

    #[test]
    fn priority_tags_are_sent_where_they_are_asked_for() {
        let access = |tags| VlanConfig { priority_tags: tags, ..port(VlanMode::Access, 10, &[]) };
        for (tags, sent) in [
            (PriorityTags::Never, None),
            (PriorityTags::IfNonzero, Some(0xa000)),
            (PriorityTags::Always, Some(0xa000)),
        ] {
            assert_eq!(access(tags).egress(own(10), Some(0xa00a)), TagChange::Outermost(sent));
            assert_eq!(access(tags).egress(own(10), Some(10)), TagChange::Outermost(None));
        }
        let trunk = |tags| VlanConfig { priority_tags: tags, ..VlanConfig::default() };
        assert_eq!(trunk(PriorityTags::IfNonzero).egress(own(0), Some(0)), TagChange::Outermost(None));
        assert_eq!(trunk(PriorityTags::Always).egress(own(0), Some(0)), TagChange::Outermost(Some(0)));
        assert_eq!(trunk(PriorityTags::Always).egress(own(0), None), TagChange::Outermost(None));
    }
}
