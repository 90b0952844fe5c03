//! A port's type and options as `dpif/show` prints them.

use config::{Inheritable, Port, PortKind, TunnelKey, TunnelOptions};
use std::collections::BTreeMap;

/// OVS leaves out the TTL that a tunnel has unless another one is said.
const DEFAULT_TTL: u8 = 64;
/// Options of tunnels that Open vSwitch has not.
const OURS: [&str; 6] = ["dev", "mss-clamp", "reassemble", "split-horizon", "udp6zerocsumrx", "vlan-vni"];

/// The type as Open vSwitch's datapath in user space has it: an `internal` port is a tap there.
pub(super) fn kind(port: Option<&Port>) -> &str {
    match port {
        None => "tap",
        Some(port) if port.port_kind() == Ok(PortKind::Internal) => "tap",
        Some(port) => &port.kind,
    }
}

/// `vxlan: key=flow, remote_ip=192.168.1.2`, or the type alone. Without a port it is a bridge's own.
pub(super) fn describe(port: Option<&Port>) -> String {
    let kind = kind(port);
    let options = port.map(options).unwrap_or_default();
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if options.is_empty() { kind.to_owned() } else { format!("{kind}: {}", options.join(", ")) }
}

fn options(port: &Port) -> BTreeMap<&str, String> {
    match TunnelOptions::of(port) {
        Some(Ok(options)) => tunnel(port, &options),
        _ => port.options.iter().map(|(name, value)| (name.as_str(), value.clone())).collect(),
    }
}

/// What differs from the defaults of a tunnel, as `netdev-vport` of Open vSwitch says it.
fn tunnel<'p>(port: &'p Port, options: &TunnelOptions) -> BTreeMap<&'p str, String> {
    let raw = &port.options;
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    for name in ["remote_ip", "local_ip"].into_iter().chain(OURS) {
        shown.extend(raw.get(name).map(|value| (name, value.clone())));
    }
    let text = |key| match key {
        TunnelKey::Flow => "flow".to_owned(),
        TunnelKey::Vni(vni) => vni.to_string(),
    };
    let given = |name, key| (raw.contains_key("key") || raw.contains_key(name)).then(|| text(key));
    match (given("in_key", options.in_key), given("out_key", options.out_key)) {
        (Some(key), Some(out)) if key == out => drop(shown.insert("key", key)),
        (key, out) => {
            shown.extend(key.map(|key| ("in_key", key)));
            shown.extend(out.map(|key| ("out_key", key)));
        }
    }
    match options.ttl {
        Inheritable::Inherit => drop(shown.insert("ttl", "inherit".to_owned())),
        Inheritable::Value(DEFAULT_TTL) => {}
        Inheritable::Value(ttl) => drop(shown.insert("ttl", ttl.to_string())),
    }
    match options.tos {
        Inheritable::Inherit => drop(shown.insert("tos", "inherit".to_owned())),
        Inheritable::Value(0) => {}
        Inheritable::Value(tos) => drop(shown.insert("tos", format!("{tos:#x}"))),
    }
    if options.is_udp() && Some(options.transport.port) != options.tunnel_type.dst_port {
        shown.insert("dst_port", options.transport.port.to_string());
    }
    if !options.df_default {
        shown.insert("df_default", "false".to_owned());
    }
    for name in ["csum", "seq"] {
        if raw.get(name).is_some_and(|value| value == "true") {
            shown.insert(name, "true".to_owned());
        }
    }
    if raw.contains_key("egress_pkt_mark") {
        shown.insert("egress_pkt_mark", options.egress_pkt_mark.to_string());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: &str, options: &[(&str, &str)]) -> String {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        describe(Some(&Port { kind: kind.into(), options, ..Port::default() }))
    }

    #[test]
    fn tunnels_are_shown_as_ovs_vswitchd_shows_them() {
        let remote = ("remote_ip", "1.2.3.4");
        assert_eq!(shown("vxlan", &[remote]), "vxlan: remote_ip=1.2.3.4");
        let all = [
            remote,
            ("key", "flow"),
            ("dst_port", "8472"),
            ("local_ip", "9.9.9.9"),
            ("tos", "inherit"),
            ("ttl", "3"),
            ("csum", "true"),
            ("df_default", "false"),
            ("exts", "gbp"),
        ];
        assert_eq!(
            shown("vxlan", &all),
            "vxlan: csum=true, df_default=false, dst_port=8472, key=flow, local_ip=9.9.9.9, remote_ip=1.2.3.4, tos=inherit, \
             ttl=3"
        );
        let keys = [
            ("remote_ip", "flow"),
            ("key", "5"),
            ("out_key", "8"),
            ("csum", "false"),
            ("egress_pkt_mark", "3"),
            ("dst_port", "4789"),
            ("ttl", "inherit"),
        ];
        let keys = shown("vxlan", &keys);
        assert_eq!(keys, "vxlan: egress_pkt_mark=3, in_key=5, out_key=8, remote_ip=flow, ttl=inherit");
        assert_eq!(shown("gre", &[remote, ("seq", "true")]), "gre: remote_ip=1.2.3.4, seq=true");
        assert_eq!(shown("vxlan", &[remote, ("in_key", "7")]), "vxlan: in_key=7, remote_ip=1.2.3.4");
        assert_eq!(shown("patch", &[("peer", "pb")]), "patch: peer=pb");
    }

    #[test]
    fn ports_of_the_kernel_are_taps() {
        assert_eq!(
            (shown("internal", &[]), shown("tap", &[]), describe(None)),
            ("tap".into(), "tap".into(), "tap".into())
        );
        assert_eq!(shown("system", &[]), "system");
    }
}
