//! Checks of one port by itself.

use std::collections::BTreeSet;

use super::{Check, range};
use crate::document::{Port, PortKind, PriorityTags, VlanMode};
use crate::options::{BfdOptions, DpdkOptions, LocalIp, TunnelOptions, VhostOptions, boolean};
use crate::problem::{Site, one_of};
use crate::switch::{PORT_OTHER_CONFIG, RxqAffinity};

impl Check<'_> {
    pub(super) fn port(&mut self, site: &Site, port: &Port) {
        self.kind(site, &site.field("type"), port);
        self.vlans(site, port);
        if let Some(mtu) = port.mtu {
            self.number(&site.field("mtu"), mtu.into(), range::MTU);
        }
        if let Some(mac) = port.mac {
            self.station(&site.field("mac"), mac);
            if port.port_kind().is_ok_and(|kind| !matches!(kind, PortKind::Internal | PortKind::Tap)) {
                self.invalid(&site.field("mac"), "only a port of type internal or tap has a mac to set");
            }
        }
        if let Some(number) = port.ofport_request {
            self.number(&site.field("ofport_request"), number.into(), range::OFPORT);
        }
        self.bfd(&site.field("bfd"), port);
        self.vlan_vni(site, port);
    }

    /// The map's VLANs are those of tags.
    fn vlan_vni(&mut self, site: &Site, port: &Port) {
        let has_map = TunnelOptions::of(port).is_some_and(|of| of.is_ok_and(|of| of.vlan_vni.is_some()));
        if has_map && port.effective_vlan_mode() != VlanMode::Trunk {
            self.invalid(
                &site.field("options").field("vlan-vni"),
                "on a port with a tag, expected a trunk: each of its VLANs has a VNI",
            );
        }
    }

    /// A session has one other side.
    fn bfd(&mut self, site: &Site, port: &Port) {
        match BfdOptions::parse(&port.bfd) {
            Err(errors) => {
                for error in errors {
                    self.invalid(&site.field(&error.option), error.message);
                }
            }
            Ok(Some(_)) if port.port_kind() == Ok(PortKind::Patch) => {
                self.invalid(&site.field("enable"), "a patch port has no path to watch");
            }
            Ok(Some(_)) => {
                let tunnel = TunnelOptions::of(port).and_then(Result::ok);
                if tunnel.as_ref().is_some_and(|options| options.vlan_vni.is_some()) {
                    self.invalid(&site.field("enable"), "a port with vlan-vni has no VNI that is its own");
                } else if let Some(options) = tunnel
                    && (options.remotes().len() != 1 || options.local_ip == LocalIp::Flow)
                {
                    self.invalid(
                        &site.field("enable"),
                        "expected a tunnel port with one fixed remote_ip: a session has one other side",
                    );
                }
            }
            Ok(None) => {}
        }
    }

    fn kind(&mut self, whole: &Site, site: &Site, port: &Port) {
        match port.port_kind() {
            // The kernel's IFNAMSIZ, less the NUL.
            Ok(kind @ (PortKind::Internal | PortKind::Tap | PortKind::System)) if port.name.len() > 15 => {
                let message = format!(
                    "found {:?}, expected 15 characters at most: a port of type {} is a kernel device of this name",
                    port.name,
                    kind.as_str()
                );
                self.invalid(&whole.field("name"), message);
            }
            Ok(PortKind::DpdkVhostUser) => {
                if let Some(message) = VhostOptions::name_error(&port.name) {
                    self.invalid(&whole.field("name"), message);
                }
            }
            Ok(_) => {}
            Err(error) if port.kind.is_empty() => self.missing(site, format!("expected {}", error.expected)),
            Err(error) => match instead(&port.kind) {
                Some(instead) => {
                    self.invalid(site, format!("there is no type {:?} here: {instead}", port.kind));
                }
                None => self.invalid(site, error.to_string()),
            },
        }
    }

    /// The driver writes frames of any size into one buffer, without a look at the buffer's.
    pub(super) fn null_frames(&mut self, site: &Site, options: &DpdkOptions) {
        const HEADROOM: u64 = 128;
        let Some(size) = options.null_frames() else { return };
        let most = u64::from(self.document.dpdk.mbuf_size).saturating_sub(HEADROOM);
        if size > most {
            self.invalid(
                site,
                format!(
                    "found {:?}, expected a size of up to {most} bytes, what a buffer has room for ([dpdk] mbuf-size)",
                    options.devargs
                ),
            );
        }
    }

    fn port_other_config(&mut self, site: &Site, port: &Port) {
        for (name, value) in &port.other_config {
            if let Err(message) = check_port_other_config(name, value) {
                self.invalid(&site.field(name), message);
            }
        }
    }

    fn vlans(&mut self, site: &Site, port: &Port) {
        self.port_other_config(&site.field("other_config"), port);
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
        let mut seen = BTreeSet::new();
        for (index, vlan) in port.cvlans.iter().enumerate() {
            let site = site.field("cvlans").index(index);
            self.number(&site, (*vlan).into(), range::VLAN);
            if !seen.insert(vlan) {
                self.invalid(&site, format!("VLAN {vlan} stands twice"));
            }
        }
        if !port.cvlans.is_empty() && port.vlan_mode != Some(VlanMode::Dot1qTunnel) {
            self.invalid(&site.field("cvlans"), "only a port with vlan_mode dot1q-tunnel has customer VLANs");
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
            (Some(VlanMode::Dot1qTunnel), Some(_)) if trunks => {
                self.invalid(&site.field("trunks"), "a dot1q-tunnel port has no trunks, expected cvlans");
            }
            (Some(mode), None) if mode != VlanMode::Trunk => {
                self.missing(&site.field("tag"), format!("vlan_mode {mode} needs a tag, expected 0 to 4095"));
            }
            _ => {}
        }
    }
}

/// What is wrong with an entry of a port's `other_config`.
///
/// # Errors
/// The message: what was found and what was expected.
pub fn check_port_other_config(key: &str, value: &str) -> Result<(), String> {
    let expected = match key {
        "qinq-ethtype" if matches!(value, "802.1ad" | "802.1q") => return Ok(()),
        "qinq-ethtype" => "802.1ad or 802.1q",
        "priority-tags" if value.parse::<PriorityTags>().is_ok() => return Ok(()),
        "priority-tags" => "never, if-nonzero or always",
        "neigh-suppress" | "mcast-snooping-flood" | "mcast-snooping-flood-reports" => {
            return boolean(value).map(drop);
        }
        "pmd-rxq-affinity" => return value.parse::<RxqAffinity>().map(drop),
        _ => {
            return Err(format!(
                "unknown key, expected {}, for an interface pmd-rxq-affinity",
                one_of(&PORT_OTHER_CONFIG)
            ));
        }
    };
    Err(format!("found {value:?}, expected {expected}"))
}

/// What to say of a type that Open vSwitch has, or had, and this switch has not.
fn instead(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "stt" | "lisp" => {
            "Open vSwitch has removed it too; vxlan, geneve and gre are the tunnels that both have"
        }
        "dpdkr" => "use type dpdk with options:dpdk-devargs=net_ring0",
        "afxdp" | "afxdp-nonpmd" => "use type dpdk with options:dpdk-devargs=net_af_xdp0,iface=DEVICE",
        "erspan" | "ip6erspan" | "gtpu" | "bareudp" | "srv6" => {
            "vxlan, geneve and gre are the tunnels that both have"
        }
        _ => return None,
    })
}
