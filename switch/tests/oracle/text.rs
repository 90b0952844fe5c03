//! The oracle's structures in `ovs-ofctl`'s words and in those of the configuration file.

use oracle::field::Format;
use oracle::tunnel::{Local, Tunnel, Type};
use oracle::{Action, Bits, Field, Port, Rule};
use oracle::{Kind, Vlan, VlanMode};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

fn value(field: Field, value: u128) -> String {
    let bytes = value.to_be_bytes();
    match field.format() {
        Format::Hex => format!("{value:#x}"),
        Format::Decimal => value.to_string(),
        Format::Mac => bytes[10..].iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":"),
        Format::Ipv4 => Ipv4Addr::from(value as u32).to_string(),
        Format::Ipv6 => Ipv6Addr::from(value).to_string(),
    }
}

fn matching(field: Field, wanted: u128, mask: u128) -> String {
    let name = field.name();
    match field {
        Field::IpFrag => {
            let word = match (wanted, mask) {
                (0, 3) => "no",
                (1, 1) => "yes",
                (1, 3) => "first",
                (3, 3) => "later",
                _ => "not_later",
            };
            format!("{name}={word}")
        }
        Field::VlanTci if mask == 0x1fff && wanted & 0x1000 != 0 => format!("dl_vlan={}", wanted & 0xfff),
        Field::VlanTci if mask == 0xf000 && wanted & 0x1000 != 0 => format!("dl_vlan_pcp={}", wanted >> 13),
        Field::VlanTci => format!("{name}={wanted:#06x}/{mask:#06x}"),
        Field::NwTos => format!("{name}={wanted}"),
        Field::TcpFlags => format!("{name}={wanted:#x}/{mask:#x}"),
        _ if mask == field.ones() => format!("{name}={}", value(field, wanted)),
        // Of a number, masks are written in its own base.
        _ if field.format() == Format::Decimal => format!("{name}={wanted:#x}/{mask:#x}"),
        _ => format!("{name}={}/{}", value(field, wanted), value(field, mask)),
    }
}

fn bits(bits: Bits) -> String {
    format!("{}[{}..{}]", bits.field.nxm(), bits.start, bits.start + bits.count - 1)
}

/// An action's text.
pub fn action(action: &Action) -> String {
    match action {
        Action::Drop => "drop".into(),
        Action::Output(port) => format!("output:{port}"),
        Action::OutputField(from) => format!("output:{}", bits(*from)),
        Action::InPort => "IN_PORT".into(),
        Action::Local => "LOCAL".into(),
        Action::Normal => "NORMAL".into(),
        Action::Flood => "FLOOD".into(),
        Action::All => "ALL".into(),
        Action::Resubmit(port, table) => {
            format!("resubmit({},{table})", port.map_or(String::new(), |port| port.to_string()))
        }
        Action::GotoTable(table) => format!("goto_table:{table}"),
        Action::SetTunnel(vni) => format!("set_tunnel:{vni:#x}"),
        Action::Set(field, new, mask) => set(*field, *new, *mask),
        Action::SetTransport(source, port) => {
            format!("mod_tp_{}:{port}", if *source { "src" } else { "dst" })
        }
        Action::Load(new, to) => format!("load:{new:#x}->{}", bits(*to)),
        Action::Move(from, to) => format!("move:{}->{}", bits(*from), bits(*to)),
        Action::PushVlan(tpid) => format!("push_vlan:{tpid:#x}"),
        Action::PopVlan => "pop_vlan".into(),
        Action::ModVlanVid(vid) => format!("mod_vlan_vid:{vid}"),
        Action::ModVlanPcp(pcp) => format!("mod_vlan_pcp:{pcp}"),
        Action::DecTtl => "dec_ttl".into(),
        Action::Group(id) => format!("group:{id}"),
        Action::Clone(inner) => format!("clone({})", actions(inner)),
    }
}

fn set(field: Field, new: u128, mask: u128) -> String {
    let old_name = match field {
        Field::EthSrc => "mod_dl_src",
        Field::EthDst => "mod_dl_dst",
        Field::IpSrc => "mod_nw_src",
        Field::IpDst => "mod_nw_dst",
        Field::NwTos => "mod_nw_tos",
        Field::NwEcn => "mod_nw_ecn",
        Field::NwTtl => "mod_nw_ttl",
        _ => "",
    };
    // These have no mask, but then need nothing of the match.
    let whole = mask == field.ones() || field == Field::NwTos;
    if whole && !old_name.is_empty() {
        return format!("{old_name}:{}", value(field, new));
    }
    let text = if whole {
        value(field, new)
    } else if field.format() == Format::Decimal {
        format!("{new:#x}/{mask:#x}")
    } else {
        format!("{}/{}", value(field, new), value(field, mask))
    };
    format!("set_field:{text}->{}", field.name())
}

/// A list of actions.
pub fn actions(list: &[Action]) -> String {
    list.iter().map(action).collect::<Vec<_>>().join(",")
}

/// A rule for `add-flow`.
pub fn rule(rule: &Rule) -> String {
    let mut parts = vec![format!("table={}", rule.table), format!("priority={}", rule.priority)];
    parts.extend(rule.matches.iter().map(|(field, value, mask)| matching(*field, *value, *mask)));
    parts.push(format!("actions={}", actions(&rule.actions)));
    parts.join(",")
}

/// `options` of a tunnel port.
pub fn options(tunnel: &Tunnel) -> BTreeMap<String, String> {
    let key = |key: Option<u32>| key.map_or("flow".to_owned(), |key| key.to_string());
    let byte = |value: Option<u8>| value.map_or("inherit".to_owned(), |value| value.to_string());
    let remotes: Vec<String> = tunnel.remotes.iter().map(Ipv4Addr::to_string).collect();
    let mut options: BTreeMap<String, String> = [
        ("remote_ip", if remotes.is_empty() { "flow".to_owned() } else { remotes.join(",") }),
        ("in_key", key(tunnel.in_key)),
        ("out_key", key(tunnel.out_key)),
        ("dst_port", tunnel.dst_port.to_string()),
        ("tos", byte(tunnel.tos)),
        ("ttl", byte(tunnel.ttl)),
        ("df_default", tunnel.df.to_string()),
        ("csum", tunnel.csum.to_string()),
        ("split-horizon", tunnel.split_horizon.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    match tunnel.local {
        Local::Any => None,
        Local::Address(ip) => options.insert("local_ip".into(), ip.to_string()),
        Local::Flow => options.insert("local_ip".into(), "flow".into()),
    };
    if tunnel.kind == Type::Gre {
        options.remove("dst_port");
    }
    if tunnel.kind == Type::Gbp {
        options.insert("exts".into(), "gbp".into());
    }
    options
}

/// The same mode in the configuration's type.
pub fn mode(vlan: &Vlan) -> config::VlanMode {
    match vlan.mode {
        VlanMode::Access => config::VlanMode::Access,
        VlanMode::Trunk => config::VlanMode::Trunk,
        VlanMode::NativeTagged => config::VlanMode::NativeTagged,
        VlanMode::NativeUntagged => config::VlanMode::NativeUntagged,
        VlanMode::Tunnel => config::VlanMode::Dot1qTunnel,
    }
}

/// `other_config` of a port.
fn vlan_config(vlan: &Vlan) -> BTreeMap<String, String> {
    let priority_tags = ["never", "if-nonzero", "always"][usize::from(vlan.priority_tags)];
    let ethertype = if vlan.plain_qinq { "802.1q" } else { "802.1ad" };
    [("priority-tags", priority_tags), ("qinq-ethtype", ethertype)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A port as the configuration has it.
pub fn port(port: &Port) -> config::Port {
    let (kind, options) = match &port.kind {
        Kind::Device => ("dpdk", [("dpdk-devargs".to_owned(), format!("net_ring_{}", port.name))].into()),
        Kind::Tunnel(tunnel) => {
            let kind = match tunnel.kind {
                Type::Vxlan | Type::Gbp => "vxlan",
                Type::Geneve => "geneve",
                Type::Gre => "gre",
            };
            (kind, options(tunnel))
        }
        Kind::Patch(peer) => ("patch", [("peer".to_owned(), peer.clone())].into()),
    };
    config::Port {
        name: port.name.clone(),
        kind: kind.into(),
        options,
        tag: (port.vlan.mode != VlanMode::Trunk).then_some(port.vlan.tag),
        trunks: port.vlan.trunks.clone(),
        vlan_mode: Some(mode(&port.vlan)),
        cvlans: port.vlan.cvlans.clone(),
        other_config: vlan_config(&port.vlan),
        ofport_request: Some(port.ofport as u16),
        ..config::Port::default()
    }
}

/// A port as the file has it.
pub fn toml(of: &Port) -> String {
    let port = port(of);
    let options: Vec<String> =
        port.options.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    let mut text = format!(
        "[[bridge.port]]\nname = \"{}\"\ntype = \"{}\"\noptions = {{ {} }}\nofport_request = {}\nvlan_mode = \"{}\"\n",
        port.name,
        port.kind,
        options.join(", "),
        of.ofport,
        mode(&of.vlan).as_str(),
    );
    if let Some(tag) = port.tag {
        text += &format!("tag = {tag}\n");
    }
    if !port.trunks.is_empty() {
        text += &format!("trunks = {:?}\n", port.trunks);
    }
    if !port.cvlans.is_empty() {
        text += &format!("cvlans = {:?}\n", port.cvlans);
    }
    for (key, value) in &port.other_config {
        text += &format!("other_config.{key} = \"{value}\"\n");
    }
    text
}
