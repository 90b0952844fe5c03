//! The topology as Graphviz' DOT: bridges with their ports, patches, tunnels, and the VTEPs behind these.

use api::{BridgeRow, InterfaceRow, Show};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A DOT string; text is never markup there.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A name that cannot be another node's: names of bridges and of ports overlap.
fn node(kind: &str, name: &str) -> String {
    quoted(&format!("{kind}:{name}"))
}

fn colour(up: bool) -> &'static str {
    if up { "darkgreen" } else { "red3" }
}

fn label(port: &InterfaceRow) -> String {
    let mut text = format!("{}\n{}", port.name, port.kind);
    if let Some(key) = port.options.get("key") {
        let _ = write!(text, " {key}");
    }
    if let Some(tag) = port.tag {
        let _ = write!(text, ", vlan {tag}");
    }
    if let Some(error) = &port.error {
        let _ = write!(text, "\n{error}");
    }
    text
}

fn bridge(text: &mut String, bridge: &BridgeRow) {
    let mut about = format!("{}\n{}", bridge.name, bridge.mac);
    for address in &bridge.addresses {
        let _ = write!(about, "\nVTEP {address}");
    }
    let name = node("bridge", &bridge.name);
    let _ = writeln!(
        text,
        "  {name} [label={}, style=\"rounded,filled\", fillcolor=lightsteelblue1];",
        quoted(&about)
    );
    // The LOCAL port is the bridge itself.
    for port in bridge.ports.iter().filter(|port| port.name != bridge.name) {
        let up = port.error.is_none() && port.link_state != "down" && port.admin_state != "down";
        let of = node("port", &port.name);
        let _ = writeln!(text, "  {of} [label={}, color={}];", quoted(&label(port)), colour(up));
        let _ = writeln!(text, "  {name} -- {of};");
    }
}

/// What `vxctl graph` prints.
pub fn dot(show: &Show) -> String {
    let mut text =
        "graph vxswitch {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n"
            .to_owned();
    let mut vteps: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for row in &show.bridges {
        bridge(&mut text, row);
        for port in &row.ports {
            // Each pair is said once, by the one whose name comes first.
            if let Some(peer) = port.options.get("peer").filter(|peer| **peer > port.name) {
                let _ =
                    writeln!(text, "  {} -- {} [style=bold];", node("port", &port.name), node("port", peer));
            }
            for remote in &port.remotes {
                vteps.entry(&remote.ip).or_default().push((&port.name, &remote.state));
            }
        }
    }
    for (ip, tunnels) in vteps {
        let _ = writeln!(text, "  {} [label={}, shape=ellipse];", node("vtep", ip), quoted(ip));
        for (port, state) in tunnels {
            let ready = state == "ready";
            let style = if ready { "solid" } else { "dashed" };
            let why = if ready { String::new() } else { format!(", label={}", quoted(state)) };
            let _ = writeln!(
                text,
                "  {} -- {} [style={style}, color={}{why}];",
                node("port", port),
                node("vtep", ip),
                colour(ready)
            );
        }
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::RemoteRow;

    fn port(name: &str, kind: &str, options: &[(&str, &str)], remotes: &[(&str, &str)]) -> InterfaceRow {
        let remote = |(ip, state): &(&str, &str)| RemoteRow {
            ip: (*ip).into(),
            state: (*state).into(),
            source: None,
            next_hop_mac: None,
            mtu: None,
            next_hop: None,
        };
        InterfaceRow {
            name: name.into(),
            kind: kind.into(),
            link_state: "up".into(),
            admin_state: "up".into(),
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            remotes: remotes.iter().map(remote).collect(),
            ..InterfaceRow::default()
        }
    }

    #[test]
    fn every_port_patch_and_vtep_is_a_node_once() {
        let row = |name: &str, ports| BridgeRow {
            name: name.into(),
            fail_mode: "standalone".into(),
            mac: "02:00:00:00:00:01".into(),
            datapath_id: "0000020000000001".into(),
            addresses: vec![],
            flows: 0,
            fdb_entries: 0,
            ports,
        };
        let mut odd = port("p1", "dpdk", &[], &[]);
        odd.error = Some("says \"no\" \\ twice\nand stops".into());
        let vx = |name, state| port(name, "vxlan", &[("key", "7")], &[("192.168.1.2", state)]);
        let show = Show {
            version: String::new(),
            bridges: vec![
                row(
                    "br0",
                    vec![
                        odd,
                        port("a", "patch", &[("peer", "b")], &[]),
                        vx("vx1", "ready"),
                        port("br0", "internal", &[], &[]),
                    ],
                ),
                row("br1", vec![port("b", "patch", &[("peer", "a")], &[]), vx("vx2", "resolving")]),
            ],
        };
        let text = dot(&show);
        let count = |part: &str| text.matches(part).count();
        assert_eq!(count("\"vtep:192.168.1.2\" [label=\"192.168.1.2\""), 1, "{text}");
        assert_eq!(count("\"port:a\" -- \"port:b\"") + count("\"port:b\" -- \"port:a\""), 1, "{text}");
        assert_eq!(count("-- \"vtep:192.168.1.2\""), 2, "{text}");
        assert!(text.contains("color=red3, label=\"resolving\""), "{text}");
        assert!(text.contains(r#"says \"no\" \\ twice\nand stops"#), "{text}");
        assert_eq!(count("port:br0"), 0, "{text}");
        assert_eq!(count("{"), count("}"), "{text}");
    }
}
