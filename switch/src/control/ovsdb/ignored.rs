//! What is wrong in a row and is ignored, as in Open vSwitch: the port stays in service with what it had, or with the default.

use config::{BfdOptions, Bridge, MTU_RANGE, OptionErrorKind, Port, bridge_number_range};
use ovsdb::rows::{Interface, Mirror};
use std::collections::{BTreeMap, BTreeSet};
use wire::addr::MacAddr;

/// What was ignored, in words for the log.
pub type Ignored = BTreeSet<String>;

/// Options that say what a port is or whom it talks to: with a wrong value there is no such port, as in Open vSwitch.
const ESSENTIAL: [&str; 7] =
    ["dev", "dpdk-devargs", "packet_type", "peer", "remote_ip", "vhost-server-path", "vlan-vni"];
/// Options that have a tunnel's key.
const KEYS: [&str; 3] = ["key", "in_key", "out_key"];

/// Takes out options that Open vSwitch ignores. What is left wrong takes the port out of service.
pub fn options(port: &mut Port, ignored: &mut Ignored) {
    for error in config::option_errors(port) {
        let name = error.option.as_str();
        let value = port.options.get(name).cloned().unwrap_or_default();
        match error.kind {
            // As in Open vSwitch, where only a patch port refuses what it does not know.
            OptionErrorKind::Unknown if port.kind != "patch" => drop(port.options.remove(name)),
            // A number that does not fit is another key; what is no number is key 0.
            OptionErrorKind::Value if KEYS.contains(&name) => {
                if value.starts_with(|c: char| c.is_ascii_digit()) {
                    continue;
                }
                port.options.insert(name.to_owned(), "0".to_owned());
            }
            OptionErrorKind::Value if !ESSENTIAL.contains(&name) => drop(port.options.remove(name)),
            _ => continue,
        }
        ignored.insert(format!("interface {}: options:{error}: ignored", port.name));
    }
}

/// Takes out settings of BFD that cannot be used.
pub fn bfd(port: &mut Port, ignored: &mut Ignored) {
    while let Err(errors) = BfdOptions::parse(&port.bfd) {
        for error in errors {
            port.bfd.remove(&error.option);
            ignored.insert(format!("interface {}: bfd:{error}: ignored", port.name));
        }
    }
}

/// Takes out `other_config` that cannot be used.
pub fn other_config(port: &mut Port, ignored: &mut Ignored) {
    let name = &port.name;
    port.other_config.retain(|key, value| match config::check_port_other_config(key, value) {
        Ok(()) => true,
        Err(error) => {
            ignored.insert(format!("port {name}: other_config:{key}: {error}: ignored"));
            false
        }
    });
}

/// The MTU that a row asks for; what the port had where that cannot be.
pub fn mtu(row: &Interface, before: Option<u16>, ignored: &mut Ignored) -> Option<u16> {
    let wanted = row.mtu_request?;
    let (low, high) = MTU_RANGE;
    let mtu = u16::try_from(wanted).ok().filter(|mtu| (low..=high).contains(mtu));
    mtu.or_else(|| {
        ignored.insert(format!(
            "interface {}: mtu_request: found {wanted}, expected a number from {low} to {high}: ignored",
            row.name
        ));
        before
    })
}

/// The MAC address that a row asks for; what the port had where that cannot be.
pub fn mac(row: &Interface, before: Option<&Port>, ignored: &mut Ignored) -> Option<MacAddr> {
    let text = row.mac.as_ref()?;
    let mac = text.parse::<MacAddr>().ok().filter(|mac| !mac.is_multicast() && !mac.is_zero());
    mac.or_else(|| {
        ignored.insert(format!(
            "interface {}: mac: found {text:?}, expected a unicast MAC address: ignored",
            row.name
        ));
        before.and_then(|port| port.mac)
    })
}

/// Makes numbers of a bridge's `other_config` the nearest ones that there may be.
pub fn numbers(bridge: &str, other_config: &mut BTreeMap<String, String>, ignored: &mut Ignored) {
    for (key, value) in other_config {
        let Some((low, high)) = bridge_number_range(key) else { continue };
        let Ok(number) = value.parse::<i64>() else { continue };
        let nearest = u64::try_from(number).unwrap_or(0).clamp(low, high).to_string();
        if nearest != *value {
            ignored.insert(format!(
                "bridge {bridge}: other_config:{key}: found {value}, {nearest} is the nearest to it"
            ));
            *value = nearest;
        }
    }
}

/// Takes out a number that a bridge cannot have: it has that of its MAC address.
pub fn datapath_id(bridge: &mut Bridge, ignored: &mut Ignored) {
    if bridge.datapath_id().is_none()
        && let Some(text) = bridge.other_config.remove("datapath-id")
    {
        ignored.insert(format!(
            "bridge {}: other_config:datapath-id: found {text:?}, expected 16 hexadecimal digits: ignored",
            bridge.name
        ));
    }
}

/// The VLAN that copies go to: none where a port is given, too.
pub fn output_vlan(row: &Mirror, ignored: &mut Ignored) -> Option<u16> {
    let vlan = row.output_vlan.and_then(|vlan| u16::try_from(vlan).ok())?;
    if row.output_port.0.is_empty() {
        return Some(vlan);
    }
    ignored.insert(format!("mirror {}: output_port and output_vlan: the VLAN is ignored", row.name));
    None
}
