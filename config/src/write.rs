//! Writes a document as TOML, in the shape in which people write it.

use std::fmt::Write as _;

use crate::document::{Bridge, Document, FailMode, Mirror, Port};
use crate::settings::Fields;

impl Document {
    /// The document as TOML. Reads back as an equal document. What has its default value is left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        settings(&mut out, "dpdk", &self.dpdk);
        settings(&mut out, "datapath", &self.datapath);
        for bridge in &self.bridges {
            write_bridge(&mut out, bridge);
        }
        out
    }
}

/// One `key = value` line. Writing to a `String` cannot fail.
fn line(out: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "{key} = {value}");
}

fn header(out: &mut String, text: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(text);
    out.push('\n');
}

fn settings<T: Fields + Default>(out: &mut String, name: &str, settings: &T) {
    let changed: Vec<(&str, u64)> = settings
        .fields()
        .iter()
        .zip(T::default().fields())
        .filter(|((_, value, _), (_, default, _))| value != default)
        .map(|((name, value, _), _)| (*name, *value))
        .collect();
    if changed.is_empty() {
        return;
    }
    header(out, &format!("[{name}]"));
    for (key, value) in changed {
        line(out, key, value);
    }
}

fn write_bridge(out: &mut String, bridge: &Bridge) {
    header(out, "[[bridge]]");
    line(out, "name", quote(&bridge.name));
    if bridge.fail_mode != FailMode::default() {
        line(out, "fail_mode", quote(bridge.fail_mode.as_str()));
    }
    if let Some(mac) = bridge.hwaddr {
        line(out, "hwaddr", quote(&mac.to_string()));
    }
    if !bridge.address.is_empty() {
        line(out, "address", list(bridge.address.iter().map(|net| quote(&net.to_string()))));
    }
    if !bridge.routes.is_empty() {
        let routes = bridge.routes.iter().map(|route| match route.via {
            Some(via) => format!("{{ to = \"{}\", via = \"{via}\" }}", route.to),
            None => format!("{{ to = \"{}\" }}", route.to),
        });
        line(out, "route", list(routes));
    }
    if !bridge.neighbours.is_empty() {
        let neighbours =
            bridge.neighbours.iter().map(|n| format!("{{ ip = \"{}\", mac = \"{}\" }}", n.ip, n.mac));
        line(out, "neighbour", list(neighbours));
    }
    lines(out, "tlv_map", &bridge.tlv_map);
    lines(out, "meters", &bridge.meters);
    lines(out, "groups", &bridge.groups);
    lines(out, "flows", &bridge.flows);
    table(out, "other_config", &bridge.other_config);
    table(out, "external_ids", &bridge.external_ids);
    for port in &bridge.ports {
        write_port(out, port);
    }
    for mirror in &bridge.mirrors {
        write_mirror(out, mirror);
    }
}

/// An array of strings, one a line.
fn lines(out: &mut String, name: &str, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    let _ = writeln!(out, "{name} = [");
    for text in texts {
        let _ = writeln!(out, "    {},", quote(text));
    }
    out.push_str("]\n");
}

fn write_mirror(out: &mut String, mirror: &Mirror) {
    header(out, "[[bridge.mirror]]");
    line(out, "name", quote(&mirror.name));
    if mirror.select_all {
        line(out, "select_all", true);
    }
    for (name, ports) in
        [("select_src_port", &mirror.select_src_port), ("select_dst_port", &mirror.select_dst_port)]
    {
        if !ports.is_empty() {
            line(out, name, list(ports.iter().map(|port| quote(port))));
        }
    }
    if !mirror.select_vlan.is_empty() {
        line(out, "select_vlan", list(mirror.select_vlan.iter().map(u16::to_string)));
    }
    if let Some(port) = &mirror.output_port {
        line(out, "output_port", quote(port));
    }
    if let Some(vlan) = mirror.output_vlan {
        line(out, "output_vlan", vlan);
    }
}

fn write_port(out: &mut String, port: &Port) {
    header(out, "[[bridge.port]]");
    line(out, "name", quote(&port.name));
    line(out, "type", quote(&port.kind));
    table(out, "options", &port.options);
    if let Some(tag) = port.tag {
        line(out, "tag", tag);
    }
    if !port.trunks.is_empty() {
        line(out, "trunks", list(port.trunks.iter().map(u16::to_string)));
    }
    if let Some(mode) = port.vlan_mode {
        line(out, "vlan_mode", quote(mode.as_str()));
    }
    if let Some(mtu) = port.mtu {
        line(out, "mtu", mtu);
    }
    if let Some(mac) = port.mac {
        line(out, "mac", quote(&mac.to_string()));
    }
    if let Some(ofport) = port.ofport_request {
        line(out, "ofport_request", ofport);
    }
    table(out, "external_ids", &port.external_ids);
    table(out, "port_external_ids", &port.port_external_ids);
}

fn table(out: &mut String, name: &str, entries: &std::collections::BTreeMap<String, String>) {
    if entries.is_empty() {
        return;
    }
    let entries: Vec<String> =
        entries.iter().map(|(name, value)| format!("{} = {}", key(name), quote(value))).collect();
    line(out, name, format_args!("{{ {} }}", entries.join(", ")));
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A key, bare where TOML allows it.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    if bare { name.to_owned() } else { quote(name) }
}

/// A basic string (TOML section "String"): control characters, quotes and backslashes escaped.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
