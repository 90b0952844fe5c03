//! Flows, matches and actions as `ovs-ofctl dump-flows` prints them.

use super::action::{Action, PortRef};
use super::field::{Field, Subfield};
use super::flow::{DEFAULT_PRIORITY, FlowSpec};
use super::key::{Match, MatchKey};
use super::parse_action::MODS;
use super::port::{PORT_LOCAL, PortNames, format_port};
use super::value;
use std::fmt::Write;
use std::time::Duration;
use wire::key::VLAN_PRESENT;

/// What a flow did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    /// Since the flow was added.
    pub duration: Duration,
    /// Packets that it matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since the last packet; `None`: not printed.
    pub idle_age: Option<Duration>,
}

/// A match's `name=value` pieces.
struct Printer<'a> {
    out: String,
    what: &'a Match,
    names: &'a dyn PortNames,
}

impl Printer<'_> {
    fn separate(&mut self) {
        if !self.out.is_empty() {
            self.out.push(',');
        }
    }

    fn word(&mut self, word: &str) {
        self.separate();
        self.out.push_str(word);
    }

    fn field_as(&mut self, name: &str, field: Field) {
        let mask = field.get(self.what.mask());
        if mask != 0 {
            self.word(name);
            self.out.push('=');
            value::format(&mut self.out, field, field.get(self.what.key()), mask, self.names);
        }
    }

    fn fields(&mut self, list: &[(&str, Field)]) {
        for (name, field) in list {
            self.field_as(name, *field);
        }
    }

    fn vlan(&mut self) {
        let (key, mask) = (self.what.key().flow.vlan_tci.get(), self.what.mask().flow.vlan_tci.get());
        let (vid, pcp) = (mask & 0x0fff, mask & 0xe000);
        let whole = (vid == 0 || vid == 0x0fff) && (pcp == 0 || pcp == 0xe000) && vid | pcp != 0;
        if mask & key & VLAN_PRESENT != 0 && whole {
            if vid != 0 {
                self.word("dl_vlan=");
                let _ = write!(self.out, "{}", key & vid);
            }
            if pcp != 0 {
                self.word("dl_vlan_pcp=");
                let _ = write!(self.out, "{}", key >> 13);
            }
        } else if mask == u16::MAX {
            self.word("vlan_tci=");
            let _ = write!(self.out, "{key:#06x}");
        } else if mask != 0 {
            self.word("vlan_tci=");
            let _ = write!(self.out, "{key:#06x}/{mask:#06x}");
        }
    }
}

/// A field under the name it goes by in matches.
macro_rules! named {
    ($($name:literal $field:ident),* $(,)?) => { &[$(($name, Field::$field)),*] };
}

/// Prints a match as `match_format()` of OVS does, `priority=` first unless it is the default one or
/// `None`. Empty for a match of everything.
pub fn format_match(what: &Match, priority: Option<u16>, names: &dyn PortNames) -> String {
    let mut p = Printer { out: String::new(), what, names };
    if let Some(priority) = priority.filter(|p| *p != DEFAULT_PRIORITY) {
        let _ = write!(p.out, "priority={priority}");
    }
    let (key, mask) = (&what.key().flow, &what.mask().flow);
    let dl_type = if mask.dl_type.get() == u16::MAX { key.dl_type.get() } else { 0 };
    let proto = if mask.nw_proto == u8::MAX { Some(key.nw_proto) } else { None };
    let (mut type_named, mut proto_named) = (true, false);
    match dl_type {
        0x0800 | 0x86dd => {
            let name = match (dl_type, proto) {
                (0x0800, Some(1)) => Some("icmp"),
                (0x0800, Some(2)) => Some("igmp"),
                (0x0800, Some(6)) => Some("tcp"),
                (0x0800, Some(17)) => Some("udp"),
                (0x0800, Some(132)) => Some("sctp"),
                (0x86dd, Some(58)) => Some("icmp6"),
                (0x86dd, Some(6)) => Some("tcp6"),
                (0x86dd, Some(17)) => Some("udp6"),
                (0x86dd, Some(132)) => Some("sctp6"),
                _ => None,
            };
            proto_named = name.is_some();
            p.word(name.unwrap_or(if dl_type == 0x0800 { "ip" } else { "ipv6" }));
        }
        0x0806 => p.word("arp"),
        0x8035 => p.word("rarp"),
        _ => type_named = false,
    }
    p.fields(named!["reg0" Reg0, "reg1" Reg1, "reg2" Reg2, "reg3" Reg3, "reg4" Reg4, "reg5" Reg5, "reg6" Reg6, "reg7" Reg7]);
    p.fields(named!["tun_id" TunId, "tun_src" TunSrc, "tun_dst" TunDst, "tun_ipv6_src" TunIpv6Src, "tun_ipv6_dst" TunIpv6Dst]);
    p.fields(named!["tun_gbp_id" TunGbpId, "tun_gbp_flags" TunGbpFlags, "tun_tos" TunTos, "tun_ttl" TunTtl, "tun_flags" TunFlags]);
    p.fields(named!["metadata" Metadata, "in_port" InPort]);
    p.vlan();
    p.fields(named!["dl_src" EthSrc, "dl_dst" EthDst]);
    if !type_named && mask.dl_type.get() != 0 {
        p.word("dl_type=");
        let _ = write!(p.out, "{:#06x}", key.dl_type.get());
        if mask.dl_type.get() != u16::MAX {
            let _ = write!(p.out, "/{:#06x}", mask.dl_type.get());
        }
    }
    let arp = dl_type == 0x0806 || dl_type == 0x8035;
    if arp {
        p.fields(
            named!["arp_spa" ArpSpa, "arp_tpa" ArpTpa, "arp_op" ArpOp, "arp_sha" ArpSha, "arp_tha" ArpTha],
        );
    } else {
        p.fields(named!["nw_src" IpSrc, "nw_dst" IpDst]);
        p.fields(named!["ipv6_src" Ipv6Src, "ipv6_dst" Ipv6Dst, "ipv6_label" Ipv6Label]);
        if !proto_named {
            p.field_as("nw_proto", Field::IpProto);
        }
    }
    p.fields(named!["nw_tos" NwTos, "nw_ecn" NwEcn, "nw_ttl" NwTtl, "nw_frag" IpFrag]);
    match (dl_type, proto) {
        (0x0800, Some(1)) | (0x86dd, Some(58)) => {
            p.fields(named!["icmp_type" IcmpType, "icmp_code" IcmpCode]);
        }
        _ => p.fields(named!["tp_src" TpSrc, "tp_dst" TpDst]),
    }
    p.field_as("nd_target", Field::NdTarget);
    if !arp {
        p.fields(named!["nd_sll" NdSll, "nd_tll" NdTll]);
    }
    p.field_as("tcp_flags", Field::TcpFlags);
    p.out
}

/// Prints one packet's key as a flow that [`parse_key`](super::parse_key) reads: the fields that are not zero.
pub fn format_key(key: &MatchKey, names: &dyn PortNames) -> String {
    let mut mask = MatchKey::ZERO;
    for field in Field::all().filter(|field| field.get(key) != 0) {
        field.set(&mut mask, field.info().exact());
    }
    if key.flow.vlan_tci.get() & VLAN_PRESENT == 0 {
        mask.flow.vlan_tci = 0.into();
    }
    format_match(&Match::new(key, &mask), None, names)
}

fn format_subfield(out: &mut String, bits: Subfield) {
    let info = bits.field.info();
    out.push_str(info.nxm.first().unwrap_or(&info.names[0]));
    let _ = match (bits.start, bits.bits) {
        (0, n) if n == info.bits => write!(out, "[]"),
        (start, 1) => write!(out, "[{start}]"),
        (start, n) => write!(out, "[{start}..{}]", start + n - 1),
    };
}

/// Prints `set_field`, as the `mod_*` action where there is one.
fn format_set_field(out: &mut String, field: Field, value: u128, mask: u128, names: &dyn PortNames) {
    let whole = mask == field.info().exact();
    let storage = match field {
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => Field::TpSrc,
        Field::TcpDst | Field::UdpDst | Field::SctpDst => Field::TpDst,
        field => field,
    };
    if let Some((name, _)) = MODS.iter().find(|(_, f)| whole && *f == storage) {
        let _ = write!(out, "{name}:");
        value::format(out, field, value, mask, names);
        return;
    }
    if field == Field::Metadata && whole {
        let _ = write!(out, "write_metadata:{}", value::hexadecimal(value));
        return;
    }
    out.push_str("set_field:");
    if field == Field::VlanVid && whole {
        let _ = write!(out, "{}", value::tag(value));
    } else {
        value::format(out, field, value, mask, names);
    }
    let _ = write!(out, "->{}", field.name());
}

fn format_action(out: &mut String, action: &Action, names: &dyn PortNames) {
    let _ = match action {
        Action::Drop => write!(out, "drop"),
        Action::Output(PortRef::Port(port)) => {
            out.push_str("output:");
            format_port(out, *port, names);
            Ok(())
        }
        Action::Output(PortRef::InPort) => write!(out, "IN_PORT"),
        Action::Output(PortRef::Local) => write!(out, "LOCAL"),
        Action::Output(PortRef::Normal) => write!(out, "NORMAL"),
        Action::Output(PortRef::Flood) => write!(out, "FLOOD"),
        Action::Output(PortRef::All) => write!(out, "ALL"),
        Action::Output(PortRef::Controller { max_len }) => write!(out, "CONTROLLER:{max_len}"),
        Action::OutputField(from) => {
            out.push_str("output:");
            format_subfield(out, *from);
            Ok(())
        }
        Action::SetTunnel(vni) => write!(out, "set_tunnel:{}", value::hexadecimal(u128::from(*vni))),
        Action::Resubmit { port, table } => {
            let number = |out: &mut String| match port {
                Some(port) => format_port(out, *port, names),
                None if table.is_none() => out.push_str("IN_PORT"),
                None => {}
            };
            match table {
                None => {
                    out.push_str("resubmit:");
                    number(out);
                    Ok(())
                }
                Some(table) => {
                    out.push_str("resubmit(");
                    number(out);
                    write!(out, ",{table})")
                }
            }
        }
        Action::GotoTable(table) => write!(out, "goto_table:{table}"),
        Action::SetField { field, value, mask } => {
            format_set_field(out, *field, *value, *mask, names);
            Ok(())
        }
        Action::Load { value, to } => {
            let _ = write!(out, "load:{}->", value::hexadecimal(u128::from(*value)));
            format_subfield(out, *to);
            Ok(())
        }
        Action::Move { from, to } => {
            out.push_str("move:");
            format_subfield(out, *from);
            out.push_str("->");
            format_subfield(out, *to);
            Ok(())
        }
        Action::PushVlan(kind) => write!(out, "push_vlan:{kind:#06x}"),
        Action::PopVlan => write!(out, "strip_vlan"),
        Action::ModVlanVid(vid) => write!(out, "mod_vlan_vid:{vid}"),
        Action::ModVlanPcp(pcp) => write!(out, "mod_vlan_pcp:{pcp}"),
        Action::DecTtl => write!(out, "dec_ttl"),
        Action::Group(group) => write!(out, "group:{group}"),
        Action::Meter(meter) => write!(out, "meter:{meter}"),
        Action::Clone(actions) => {
            let inner = format_actions(actions, names);
            write!(out, "clone({inner})")
        }
    };
}

/// Prints actions, `drop` for none.
pub fn format_actions(actions: &[Action], names: &dyn PortNames) -> String {
    let mut out = String::new();
    for action in actions {
        if !out.is_empty() {
            out.push(',');
        }
        format_action(&mut out, action, names);
    }
    if out.is_empty() { "drop".to_owned() } else { out }
}

/// Seconds to the millisecond, without trailing zeros, as OVS prints them.
fn format_seconds(out: &mut String, duration: Duration) {
    let _ = write!(out, "{}", duration.as_secs());
    let millis = duration.subsec_millis();
    if millis != 0 {
        let text = format!(".{millis:03}");
        out.push_str(text.trim_end_matches('0'));
    }
    out.push('s');
}

/// Prints a flow as a line of `ovs-ofctl dump-flows`, with its leading space; without `stats` as
/// `dump-flows --no-stats` does. [`parse_flow`](super::parse_flow) reads either.
pub fn format_flow(flow: &FlowSpec, stats: Option<&FlowStats>, names: &dyn PortNames) -> String {
    let mut out = format!(" cookie={:#x}, ", flow.cookie);
    if let Some(stats) = stats {
        out.push_str("duration=");
        format_seconds(&mut out, stats.duration);
        out.push_str(", ");
    }
    if stats.is_some() || flow.table != 0 {
        let _ = write!(out, "table={}, ", flow.table);
    }
    if let Some(stats) = stats {
        let _ = write!(out, "n_packets={}, n_bytes={}, ", stats.packets, stats.bytes);
    }
    if flow.idle_timeout != 0 {
        let _ = write!(out, "idle_timeout={}, ", flow.idle_timeout);
    }
    if flow.hard_timeout != 0 {
        let _ = write!(out, "hard_timeout={}, ", flow.hard_timeout);
    }
    for (set, name) in [
        (flow.send_flow_rem, "send_flow_rem "),
        (flow.check_overlap, "check_overlap "),
        (flow.reset_counts, "reset_counts "),
    ] {
        out.push_str(if set { name } else { "" });
    }
    if let Some(age) = stats.and_then(|stats| stats.idle_age) {
        let _ = write!(out, "idle_age={}, ", age.as_secs());
    }
    let what = format_match(&flow.matches, Some(flow.priority), names);
    out.push_str(&what);
    out.push_str(if what.is_empty() { "actions=" } else { " actions=" });
    out.push_str(&format_actions(&flow.actions, names));
    out
}

/// A port as error messages and `vxctl` show it: `LOCAL`, its name, or its number.
pub fn port_name(number: u32, names: &dyn PortNames) -> String {
    let mut out = String::new();
    format_port(&mut out, number, names);
    debug_assert!(number != PORT_LOCAL || out == "LOCAL");
    out
}
