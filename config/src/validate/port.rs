//! Checks of one port by itself.

use std::collections::BTreeSet;

use super::{Check, range};
use crate::document::{Port, PortKind, VlanMode};
use crate::problem::Site;

impl Check<'_> {
    pub(super) fn port(&mut self, site: &Site, port: &Port) {
        self.kind(&site.field("type"), port);
        self.vlans(site, port);
        if let Some(mtu) = port.mtu {
            self.number(&site.field("mtu"), mtu.into(), range::MTU);
        }
        if let Some(number) = port.ofport_request {
            self.number(&site.field("ofport_request"), number.into(), range::OFPORT);
        }
    }

    fn kind(&mut self, site: &Site, port: &Port) {
        match port.port_kind() {
            Ok(PortKind::Dpdk | PortKind::Vxlan) => {}
            // Lifted here once the switch makes such ports.
            Ok(kind @ (PortKind::Internal | PortKind::Patch)) => {
                self.invalid(
                    site,
                    format!("{kind} is not supported by this version, expected dpdk or vxlan"),
                );
            }
            Err(_) if port.kind.is_empty() => self.missing(site, "expected dpdk or vxlan"),
            Err(error) => self.invalid(site, error.to_string()),
        }
    }

    fn vlans(&mut self, site: &Site, port: &Port) {
        if let Some(tag) = port.tag {
            self.number(&site.field("tag"), tag.into(), range::VLAN);
        }
        let mut seen = BTreeSet::new();
        for (index, vlan) in port.trunks.iter().enumerate() {
            let site = site.field("trunks").index(index);
            self.number(&site, (*vlan).into(), range::VLAN);
            if !seen.insert(vlan) {
                self.invalid(&site, format!("VLAN {vlan} stands twice"));
            }
        }
        let trunks = !port.trunks.is_empty();
        match (port.vlan_mode, port.tag) {
            (None, Some(_)) if trunks => self.invalid(
                &site.field("trunks"),
                "tag and trunks together, expected one of them, or vlan_mode native-tagged or native-untagged",
            ),
            (Some(VlanMode::Access), Some(_)) if trunks => {
                self.invalid(&site.field("trunks"), "an access port has no trunks, expected tag only");
            }
            (Some(VlanMode::Trunk), Some(_)) => {
                self.invalid(&site.field("tag"), "a trunk port has no tag, expected trunks only or a native mode");
            }
            (Some(mode @ (VlanMode::Access | VlanMode::NativeTagged | VlanMode::NativeUntagged)), None) => {
                self.missing(&site.field("tag"), format!("vlan_mode {mode} needs a tag, expected 0 to 4095"));
            }
            _ => {}
        }
    }
}
