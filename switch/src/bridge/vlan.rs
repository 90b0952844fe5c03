//! VLANs of a port, as Open vSwitch defines them: `tag`, `trunks`, `vlan_mode`.

use config::VlanMode;
use wire::key::VLAN_PRESENT;

/// Which VLANs a port carries, and which of them untagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanConfig {
    /// How tagged and untagged frames are taken and sent.
    pub mode: VlanMode,
    /// Access or native VLAN.
    pub tag: u16,
    /// VLANs of a trunk; empty for all.
    pub trunks: Vec<u16>,
}

impl Default for VlanConfig {
    /// A trunk for all VLANs, which is what a port without settings is.
    fn default() -> Self {
        VlanConfig { mode: VlanMode::Trunk, tag: 0, trunks: Vec::new() }
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

impl VlanConfig {
    /// The settings of a configured port.
    pub fn of(port: &config::Port) -> VlanConfig {
        VlanConfig {
            mode: port.effective_vlan_mode(),
            tag: port.tag.unwrap_or(0),
            trunks: port.trunks.clone(),
        }
    }

    fn in_trunks(&self, vid: u16) -> bool {
        self.trunks.is_empty() || self.trunks.contains(&vid)
    }

    /// Whether the port carries the VLAN.
    pub fn carries(&self, vid: u16) -> bool {
        match self.mode {
            VlanMode::Access => vid == self.tag,
            VlanMode::Trunk => self.in_trunks(vid),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => vid == self.tag || self.in_trunks(vid),
        }
    }

    /// The VLAN of a frame that comes in with this tag, or `None` when the port does not take it. A
    /// priority tag (VLAN 0) counts as none.
    pub fn ingress(&self, tag: Tag) -> Option<u16> {
        let vid = tag.map_or(0, |tci| tci & 0xfff);
        match self.mode {
            VlanMode::Access => (vid == 0).then_some(self.tag),
            VlanMode::Trunk => self.in_trunks(vid).then_some(vid),
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => Some(self.tag),
            VlanMode::NativeTagged | VlanMode::NativeUntagged => self.carries(vid).then_some(vid),
        }
    }

    /// The tag with which a frame of VLAN `vid` that had `tag` on the input port leaves.
    pub fn egress(&self, vid: u16, tag: Tag) -> Tag {
        let untagged = match self.mode {
            VlanMode::Access => true,
            VlanMode::Trunk | VlanMode::NativeTagged => vid == 0,
            VlanMode::NativeUntagged => vid == self.tag || vid == 0,
        };
        // The priority of the frame's own tag, if it had one, is kept.
        (!untagged).then(|| vid | tag.map_or(0, |tci| tci & PRIORITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_take_and_send_what_open_vswitch_does() {
        let port = |mode, tag, trunks: &[u16]| VlanConfig { mode, tag, trunks: trunks.to_vec() };
        let access = port(VlanMode::Access, 10, &[]);
        assert_eq!(access.ingress(None), Some(10));
        assert_eq!(access.ingress(Some(0)), Some(10), "priority tag");
        assert_eq!(access.ingress(Some(10)), None, "an access port takes no tags");
        assert_eq!(access.egress(10, Some(10)), None);
        let trunk = port(VlanMode::Trunk, 0, &[10, 20]);
        assert_eq!(trunk.ingress(Some(20)), Some(20));
        assert_eq!(trunk.ingress(Some(30)), None);
        assert_eq!(trunk.ingress(None), None, "VLAN 0 is not in trunks");
        assert_eq!(trunk.egress(10, None), Some(10));
        assert_eq!(trunk.egress(10, Some(0x600a)), Some(0x600a), "priority kept");
        assert_eq!(trunk.egress(10, Some(0xa000)), Some(0xa00a), "also that of a priority tag");
        let native = port(VlanMode::NativeUntagged, 5, &[10]);
        assert_eq!(native.ingress(None), Some(5));
        assert_eq!(native.egress(5, Some(5)), None);
        assert_eq!(native.egress(10, None), Some(10));
        assert_eq!(port(VlanMode::NativeTagged, 5, &[]).egress(5, None), Some(5));
        let all = VlanConfig::default();
        assert_eq!((all.ingress(None), all.ingress(Some(7)), all.egress(0, None)), (Some(0), Some(7), None));
    }
}
