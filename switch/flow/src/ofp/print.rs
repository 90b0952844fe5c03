//! Flows, matches and actions as `ovs-ofctl dump-flows` prints them.

use super::action::{Action, PortRef};
use super::field::{Field, Layer, Subfield};
use super::flow::{DEFAULT_PRIORITY, FlowSpec};
use super::key::{Match, MatchKey};
use super::parse_action::MODS;
use super::parse_match::PROTOCOLS;
use super::port::PORT_IN_PORT;
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

    /// `tun_metadata` fields: without a value where only that the option is there matters.
    fn options(&mut self) {
        let present = self.what.key().flow.tun_metadata_present & self.what.mask().flow.tun_metadata_present;
        let names = self.names;
        for tlv in names.tlvs().tlvs().iter().filter(|tlv| present & tlv.bit() != 0) {
            let field = Field::TunMetadata(*tlv);
            if field.get(self.what.mask()) == 0 {
                self.word(field.name());
            } else {
                self.field_as(field.name(), field);
            }
        }
    }

    fn eth_type(&mut self, named: bool) {
        let (key, mask) = (self.what.key().flow.dl_type.get(), self.what.mask().flow.dl_type.get());
        if !named && mask != 0 {
            self.word("dl_type=");
            let _ = write!(self.out, "{key:#06x}");
            if mask != u16::MAX {
                let _ = write!(self.out, "/{mask:#06x}");
            }
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
    let (word, proto_named) = protocol(dl_type, proto);
    let arp = dl_type == 0x0806 || dl_type == 0x8035;
    let icmp = matches!((dl_type, proto), (0x0800, Some(1)) | (0x86dd, Some(58)));
    for field in Field::all() {
        let info = field.info();
        // The protocol stands before the registers.
        if field == Field::Reg0
            && let Some(word) = word
        {
            p.word(word);
        }
        let Some(name) = info.match_name else { continue };
        match info.layer {
            Layer::Vlan => p.vlan(),
            Layer::Ethernet if field == Field::EthType => p.eth_type(word.is_some()),
            Layer::Ip if field == Field::IpProto => {
                if !arp && !proto_named {
                    p.field_as(name, field);
                }
            }
            // Other fields' bits: ARP's addresses are IPv4's, ICMP's type is a port.
            Layer::Arp if !arp => {}
            Layer::Ipv4 | Layer::Ipv6 | Layer::Nd if arp => {}
            Layer::Icmp if !icmp => {}
            Layer::Transport if icmp => {}
            _ => p.field_as(name, field),
        }
        if field == Field::TunFlags {
            p.options();
        }
    }
    p.out
}

/// The word for an EtherType and an IP protocol, and whether it says the protocol.
fn protocol(dl_type: u16, proto: Option<u8>) -> (Option<&'static str>, bool) {
    let names = |wanted: Option<u8>| {
        PROTOCOLS.iter().find(|(_, t, p)| *t == dl_type && *p == wanted).map(|(name, ..)| *name)
    };
    match proto.and_then(|proto| names(Some(proto))) {
        Some(name) => (Some(name), true),
        None => (names(None), false),
    }
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
    mask.flow.tun_metadata_present = key.flow.tun_metadata_present;
    for tlv in names.tlvs().tlvs().iter().filter(|tlv| key.flow.tun_metadata_present & tlv.bit() != 0) {
        let field = Field::TunMetadata(*tlv);
        field.set(&mut mask, field.info().exact());
    }
    format_match(&Match::new(key, &mask), None, names)
}

pub(super) fn format_subfield(out: &mut String, bits: Subfield) {
    let info = bits.field.info();
    out.push_str(info.oxm.first().map_or(info.names[0], |oxm| oxm.name));
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

/// A port, or IN_PORT.
fn format_sending_port(out: &mut String, port: u32, names: &dyn PortNames) {
    if port == PORT_IN_PORT {
        out.push_str("IN_PORT");
    } else {
        format_port(out, port, names);
    }
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
        Action::OutputTruncated { port, max_len } => {
            out.push_str("output(port=");
            format_sending_port(out, *port, names);
            write!(out, ",max_len={max_len})")
        }
        Action::Enqueue { port, queue } => {
            out.push_str("enqueue:");
            format_sending_port(out, *port, names);
            write!(out, ":{queue}")
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
        Action::DecTtlTo(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            write!(out, "dec_ttl({})", ids.join(","))
        }
        Action::Controller(controller) => {
            super::controller::format(out, controller);
            Ok(())
        }
        Action::Exit => write!(out, "exit"),
        Action::SetQueue(queue) => write!(out, "set_queue:{queue}"),
        Action::PopQueue => write!(out, "pop_queue"),
        Action::Group(group) => write!(out, "group:{group}"),
        Action::Meter(meter) => write!(out, "meter:{meter}"),
        Action::Clone(actions) => {
            let inner = format_actions(actions, names);
            write!(out, "clone({inner})")
        }
        Action::WriteActions(actions) => {
            let inner = format_actions(actions, names);
            write!(out, "write_actions({inner})")
        }
        Action::ClearActions => write!(out, "clear_actions"),
        Action::Push(bits) => {
            out.push_str("push:");
            format_subfield(out, *bits);
            Ok(())
        }
        Action::Pop(bits) => {
            out.push_str("pop:");
            format_subfield(out, *bits);
            Ok(())
        }
        Action::Note(bytes) => write!(out, "note:{}", super::controller::format_bytes(bytes)),
        Action::Multipath(multipath) => {
            super::hash::format_multipath(out, multipath);
            Ok(())
        }
        Action::Bundle(bundle) => {
            super::hash::format_bundle(out, bundle, names);
            Ok(())
        }
        Action::Conjunction(part) => write!(out, "conjunction({},{}/{})", part.id, part.clause, part.clauses),
        Action::Learn(learn) => {
            super::learn::format(out, learn, names);
            Ok(())
        }
        Action::FinTimeout { idle, hard } => {
            let part = |name: &str, seconds: &u16| (*seconds != 0).then(|| format!("{name}={seconds}"));
            let parts = [part("idle_timeout", idle), part("hard_timeout", hard)];
            write!(out, "fin_timeout({})", parts.into_iter().flatten().collect::<Vec<_>>().join(","))
        }
        Action::CheckPktLarger { length, to } => {
            let _ = write!(out, "check_pkt_larger({length})->");
            format_subfield(out, *to);
            Ok(())
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
        (flow.no_packet_counts, "no_packet_counts "),
        (flow.no_byte_counts, "no_byte_counts "),
    ] {
        out.push_str(if set { name } else { "" });
    }
    if flow.importance != 0 {
        let _ = write!(out, "importance={}, ", flow.importance);
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
