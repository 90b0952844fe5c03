//! The actions part of a flow's text.

use super::action::{Action, Conjunction, PortRef};
use super::controller;
use super::error::ParseError;
use super::field::{Field, Subfield};
use super::hash;
use super::key::Match;
use super::learn;
use super::port::{
    PORT_ALL, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_MAX, PORT_NORMAL, PortNames,
    parse_port, reserved,
};
use super::prerequisite::Prerequisite;
use super::token::{Syntax, Token, Tokens};
use super::value;
use wire::key::VLAN_PRESENT;

/// How deep `clone` may nest: far more than anyone needs, far less than the stack holds.
const MAX_DEPTH: usize = 16;
/// Actions of one list: as many as the longest OpenFlow message has room for.
const MAX_ACTIONS: usize = 8192;
const KNOWN: &str = "one of output, LOCAL, IN_PORT, NORMAL, FLOOD, ALL, CONTROLLER, drop, resubmit, goto_table, set_field, load, move, \
     mod_dl_src, mod_dl_dst, mod_nw_src, mod_nw_dst, mod_nw_tos, mod_nw_ecn, mod_nw_ttl, mod_tp_src, mod_tp_dst, \
     mod_vlan_vid, mod_vlan_pcp, push_vlan, pop_vlan, strip_vlan, dec_ttl, set_tunnel, write_metadata, group, \
     meter, clone, write_actions, clear_actions, push, pop, note, multipath, bundle, bundle_load, conjunction, learn, \
     fin_timeout, check_pkt_larger, exit, enqueue, set_queue, pop_queue, or a port";

/// Actions of Open vSwitch that are refused by name.
const REFUSED: &[&str] = &[
    "ct",
    "ct_clear",
    "nat",
    "sample",
    "push_mpls",
    "pop_mpls",
    "set_mpls_label",
    "set_mpls_tc",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "encap",
    "decap",
    "dec_nsh_ttl",
    "delete_field",
    "ct_lb",
    "unroll_xlate",
];

/// The `mod_*` actions that set one whole field. The printer uses them too.
pub(super) const MODS: &[(&str, Field)] = &[
    ("mod_dl_src", Field::EthSrc),
    ("mod_dl_dst", Field::EthDst),
    ("mod_nw_src", Field::IpSrc),
    ("mod_nw_dst", Field::IpDst),
    ("mod_nw_tos", Field::NwTos),
    ("mod_nw_ecn", Field::NwEcn),
    ("mod_nw_ttl", Field::NwTtl),
    ("mod_tp_src", Field::TpSrc),
    ("mod_tp_dst", Field::TpDst),
];

/// Which field `mod_tp_src` and `mod_tp_dst` set, where the packet's protocol is known.
fn transport(field: Field, known: &Match) -> Field {
    let by_protocol = [
        (Prerequisite::Tcp, Field::TcpSrc, Field::TcpDst),
        (Prerequisite::Udp, Field::UdpSrc, Field::UdpDst),
        (Prerequisite::Sctp, Field::SctpSrc, Field::SctpDst),
    ];
    match by_protocol.into_iter().find(|(protocol, ..)| protocol.is_met(known)) {
        Some((_, src, _)) if field == Field::TpSrc => src,
        Some((.., dst)) if field == Field::TpDst => dst,
        _ => field,
    }
}

/// `VALUE/MASK` of `vlan_vid`, which OpenFlow gives 13 bits: the highest says that there is a tag, as there must be.
fn masked_vid(field: Field, text: &str) -> Option<(u128, u128)> {
    let (value, mask) = text.split_once('/').filter(|_| field == Field::VlanVid)?;
    let bits = |text: &str| value::number(text.trim()).filter(|bits| *bits <= value::tag(0xfff));
    Some((bits(value)? & 0xfff, bits(mask)? & 0xfff))
}

/// Parses actions; keeps track of what is known about the packet for prerequisites.
pub(super) struct ActionParser<'n> {
    pub names: &'n dyn PortNames,
    /// What every packet that gets here has: the match, and what the actions so far made of it.
    pub known: Match,
    /// The table of the rule.
    pub table: u8,
}

impl ActionParser<'_> {
    /// Parses a list. Nothing at all means `drop`.
    pub fn list(&mut self, text: &str, base: usize, depth: usize) -> Result<Vec<Action>, ParseError> {
        let mut tokens = Tokens::new(text, base, Syntax::Actions);
        let mut actions = Vec::new();
        let mut last: Option<Token<'_>> = None;
        let mut reached = 0;
        let (mut has_part, mut has_other) = (false, false);
        while let Some(token) = tokens.next()? {
            if let (Some(last), Some(Action::GotoTable(_) | Action::Drop)) = (last, actions.last()) {
                return Err(last.error("no action behind it"));
            }
            let action = self.action(&token, depth)?;
            // Instructions have an order in OpenFlow 1.1 and later, and so have they here.
            let place = place(&action);
            if place < reached || place == reached && matches!(place, 1 | 2) {
                return Err(token.error(
                    "other actions, clear_actions, write_actions, write_metadata and goto_table in this order",
                ));
            }
            // write_metadata is set_field where no instruction stands before it.
            reached = if place == 3 && reached == 0 { 0 } else { place };
            // As OVS: such a rule only says that a part is met.
            has_part |= matches!(action, Action::Conjunction(_));
            has_other |= !matches!(action, Action::Conjunction(_) | Action::Note(_));
            if has_part && has_other {
                return Err(token.error("conjunction with no other actions but note beside it"));
            }
            if actions.len() == MAX_ACTIONS {
                return Err(token.error(format!("at most {MAX_ACTIONS} actions")));
            }
            if action == Action::Drop && last.is_some() {
                return Err(token.error("drop to stand alone"));
            }
            // As OVS, whose OpenFlow 1.3 meters are instructions that come before all actions.
            if matches!(action, Action::Meter(_)) && (last.is_some() || depth > 0) {
                return Err(token.error("meter to come before all other actions"));
            }
            actions.push(action);
            last = Some(token);
        }
        if actions.is_empty() {
            actions.push(Action::Drop);
        }
        Ok(actions)
    }

    fn action(&mut self, token: &Token<'_>, depth: usize) -> Result<Action, ParseError> {
        let value = token.value.unwrap_or("");
        let number = |max: u128| value::number_up_to(value, max).map_err(|e| token.error(e));
        if let Some((_, field)) = MODS.iter().find(|(name, _)| *name == token.key) {
            return self.modify(token, *field, value);
        }
        let bare = |action: Action| match token.value {
            None => Ok(action),
            Some(_) => Err(token.error(format!("{} without an argument", token.key))),
        };
        Ok(match token.key {
            "drop" => bare(Action::Drop)?,
            "output" if value.contains("max_len") => self.output_truncated(token, value)?,
            "output" => self.output(token, value)?,
            "enqueue" => self.enqueue(token, value)?,
            "resubmit" => self.resubmit(token, value)?,
            "goto_table" => {
                let table = number(254)? as u8;
                if depth > 0 {
                    return Err(token.error("goto_table outside of clone"));
                }
                if table <= self.table {
                    return Err(token.error(format!("a table above the flow's own ({})", self.table)));
                }
                Action::GotoTable(table)
            }
            "set_field" => self.set_field(token, value)?,
            "load" => self.load(token, value)?,
            "move" => self.copy(token, value)?,
            "write_metadata" => {
                let (value, mask) =
                    value::parse(Field::Metadata, value, self.names).map_err(|e| token.error(e))?;
                Action::SetField { field: Field::Metadata, value: value & mask, mask }
            }
            "push_vlan" => match value::number(value) {
                Some(kind @ (0x8100 | 0x88a8)) => {
                    self.tagged();
                    Action::PushVlan(kind as u16)
                }
                _ => return Err(token.error("0x8100 or 0x88a8")),
            },
            "pop_vlan" | "strip_vlan" => {
                let (key, mut mask) = (*self.known.key(), *self.known.mask());
                // There may be a second tag, or none now.
                mask.flow.vlan_tci = 0.into();
                self.known = Match::new(&key, &mask);
                bare(Action::PopVlan)?
            }
            "mod_vlan_vid" => {
                let vid = number(0xfff)? as u16;
                self.tagged();
                Action::ModVlanVid(vid)
            }
            "mod_vlan_pcp" => {
                let pcp = number(7)? as u8;
                self.tagged();
                Action::ModVlanPcp(pcp)
            }
            "exit" => bare(Action::Exit)?,
            "set_queue" => Action::SetQueue(number(u32::MAX.into())? as u32),
            "pop_queue" => bare(Action::PopQueue)?,
            "dec_ttl" => controller::parse_dec_ttl(token)?,
            "set_tunnel" | "set_tunnel64" => match value::number(value) {
                Some(key) if key <= value::TUNNEL_KEY_MAX => Action::SetTunnel(key as u64),
                _ => return Err(token.error("a VNI or key from 0 to 4294967295 (0xffffffff)")),
            },
            "group" => Action::Group(number(super::GROUP_MAX.into())? as u32),
            "meter" => match number(0xffff_0000)? as u32 {
                0 => return Err(token.error("a number from 1 to 4294901760")),
                meter => Action::Meter(meter),
            },
            "clone" | "write_actions" => {
                if depth >= MAX_DEPTH {
                    return Err(token.error(format!("{} nested at most {MAX_DEPTH} deep", token.key)));
                }
                if token.value.is_none() || !token.text.ends_with(')') {
                    return Err(token.error(format!("{}(ACTIONS)", token.key)));
                }
                let before = self.known;
                let inner = self.list(value, token.value_position, depth + 1)?;
                self.known = before;
                if token.key == "clone" {
                    return Ok(Action::Clone(inner));
                }
                if depth > 0 {
                    return Err(token.error("write_actions outside of other actions"));
                }
                if let Some(other) = inner.iter().find(|action| !in_action_set(action)) {
                    return Err(token.error(format!(
                        "actions of an action set, which {} is not",
                        super::print::format_actions(std::slice::from_ref(other), self.names)
                    )));
                }
                Action::WriteActions(inner)
            }
            "clear_actions" if depth == 0 => bare(Action::ClearActions)?,
            "clear_actions" => return Err(token.error("clear_actions outside of other actions")),
            "push" => {
                let bits = subfield(value.trim(), self.names).map_err(|e| token.error(e))?;
                self.require(token, bits.field.info().prerequisite)?;
                Action::Push(bits)
            }
            "pop" => {
                let bits = subfield(value.trim(), self.names).map_err(|e| token.error(e))?;
                self.check_writable(token, bits.field)?;
                self.forget(bits);
                Action::Pop(bits)
            }
            "note" => note(token, value)?,
            "multipath" => {
                let multipath = hash::parse_multipath(token, self.names)?;
                self.check_writable(token, multipath.to.field)?;
                self.forget(multipath.to);
                Action::Multipath(multipath)
            }
            "bundle" | "bundle_load" => {
                let bundle = hash::parse_bundle(token, self.names)?;
                if let Some(to) = bundle.to {
                    self.check_writable(token, to.field)?;
                    self.forget(to);
                }
                Action::Bundle(bundle)
            }
            "conjunction" => conjunction(token, value)?,
            "learn" => {
                let learn = learn::parse(token, self.names)?;
                learn.check(&self.known).map_err(|(field, needed)| {
                    token.error(format!("{} for {}", needed.needs(), field.name()))
                })?;
                if let Some(bit) = learn.result_dst {
                    self.forget(bit);
                }
                Action::Learn(Box::new(learn))
            }
            "fin_timeout" => {
                self.require(token, Prerequisite::Tcp)?;
                fin_timeout(token, value)?
            }
            "check_pkt_larger" => {
                let parts =
                    value.split_once(")->").and_then(|(length, to)| Some((value::number(length)?, to)));
                let Some((length @ 0..=0xffff, to)) = parts else {
                    return Err(token.error("check_pkt_larger(LENGTH)->FIELD[BIT]"));
                };
                let to = subfield(to.trim(), self.names).map_err(|e| token.error(e))?;
                if to.bits != 1 {
                    return Err(token.error("one bit, such as reg0[0], behind ->"));
                }
                self.check_writable(token, to.field)?;
                self.forget(to);
                Action::CheckPktLarger { length: length as u16, to }
            }
            name if REFUSED.contains(&name) => {
                return Err(token.error(format!("an action that this switch has, which {name} is not")));
            }
            name if reserved(name) == Some(PORT_CONTROLLER) => controller::parse(token)?,
            // From table 0 on, as a packet that came in: for packet-out.
            name if name.eq_ignore_ascii_case("table") && token.value.is_none() => {
                Action::Resubmit { port: None, table: Some(0) }
            }
            _ if token.value.is_none() => match parse_port(token.key, self.names) {
                Some(port) => Action::Output(port_ref(port)),
                None => return Err(token.error(KNOWN)),
            },
            _ => return Err(token.error(KNOWN)),
        })
    }

    /// Notes that the packet has a tag from here on.
    fn tagged(&mut self) {
        let (mut key, mut mask) = (*self.known.key(), *self.known.mask());
        key.flow.vlan_tci = VLAN_PRESENT.into();
        mask.flow.vlan_tci = VLAN_PRESENT.into();
        self.known = Match::new(&key, &mask);
    }

    fn require(&self, token: &Token<'_>, needed: Prerequisite) -> Result<(), ParseError> {
        if needed.is_met(&self.known) { Ok(()) } else { Err(token.error(needed.needs())) }
    }

    /// Notes what an action left in a field, so that `icmp_type` set to 135 makes `nd_target` settable.
    fn learn(&mut self, field: Field, value: u128, mask: u128) {
        let (mut key, mut known) = (*self.known.key(), *self.known.mask());
        field.set_masked(&mut key, value, mask);
        field.set_masked(&mut known, mask, mask);
        self.known = Match::new(&key, &known);
    }

    /// Notes that bits now hold what the text does not say.
    fn forget(&mut self, bits: Subfield) {
        let (key, mut known) = (*self.known.key(), *self.known.mask());
        bits.set(&mut known, 0);
        self.known = Match::new(&key, &known);
    }

    fn output(&self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        if let Some(port) = parse_port(text, self.names) {
            return Ok(Action::Output(port_ref(port)));
        }
        match subfield(text, self.names) {
            Ok(from) => {
                self.require(token, from.field.info().prerequisite)?;
                Ok(Action::OutputField(from))
            }
            Err(_) => Err(token.error(
                "a port number, a port name, LOCAL, IN_PORT, NORMAL, FLOOD, ALL, CONTROLLER, or a field such as reg0[0..15]",
            )),
        }
    }

    /// A port that one packet can be sent to.
    fn sending_port(&self, token: &Token<'_>, text: &str) -> Result<u32, ParseError> {
        match parse_port(text.trim(), self.names) {
            Some(port @ (0..=PORT_MAX | PORT_IN_PORT | PORT_LOCAL)) => Ok(port),
            _ => Err(token.error("a port number, a port name, IN_PORT or LOCAL")),
        }
    }

    fn output_truncated(&self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let expected = || token.error("output(port=PORT,max_len=BYTES)");
        let mut tokens = Tokens::new(text, token.value_position, Syntax::Match);
        let (mut port, mut max_len) = (None, None);
        while let Some(part) = tokens.next()? {
            let value = part.value.ok_or_else(expected)?;
            match part.key {
                "port" => port = Some(self.sending_port(&part, value)?),
                "max_len" => {
                    let bytes = value::number(value).and_then(|bytes| u32::try_from(bytes).ok());
                    max_len = Some(bytes.ok_or_else(|| part.error("a number of bytes"))?);
                }
                _ => return Err(expected()),
            }
        }
        let (port, max_len) = port.zip(max_len).ok_or_else(expected)?;
        Ok(Action::OutputTruncated { port, max_len })
    }

    fn enqueue(&self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let parts = text.rsplit_once([':', ',']);
        let Some((port, queue)) = parts else { return Err(token.error("enqueue:PORT:QUEUE")) };
        let queue = value::number(queue.trim()).and_then(|queue| u32::try_from(queue).ok());
        let queue = queue.ok_or_else(|| token.error("enqueue:PORT:QUEUE"))?;
        Ok(Action::Enqueue { port: self.sending_port(token, port)?, queue })
    }

    fn resubmit(&self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let expected =
            || token.error("resubmit:PORT or resubmit(PORT,TABLE), either of the two left out if as before");
        // A quoted name may have a comma in it; a table's number never has.
        let (port, table) = match text.rsplit_once(',') {
            Some((port, table)) if token.text.ends_with(')') && !table.ends_with('"') => {
                (port.trim(), table.trim())
            }
            _ => (text.trim(), ""),
        };
        let table = match table {
            "" => None,
            _ => Some(value::number(table).filter(|t| *t <= 254).ok_or_else(expected)? as u8),
        };
        let port = match port {
            "" => None,
            _ => match parse_port(port, self.names).ok_or_else(expected)? {
                PORT_IN_PORT => None,
                port @ (PORT_NORMAL | PORT_FLOOD | PORT_ALL | PORT_CONTROLLER) => {
                    return Err(token.error(format!("a port that packets come in by, not {port}")));
                }
                port => Some(port),
            },
        };
        if port.is_none() && table.is_none() && !text.to_ascii_lowercase().contains("in_port") {
            return Err(expected());
        }
        Ok(Action::Resubmit { port, table })
    }

    /// `mod_*`: needs no prerequisite, for packets without the field are left alone.
    fn modify(&mut self, token: &Token<'_>, field: Field, text: &str) -> Result<Action, ParseError> {
        let field = transport(field, &self.known);
        let (value, mask) = value::parse(field, text, self.names).map_err(|e| token.error(e))?;
        if mask != field.info().exact() || text.contains('/') {
            return Err(token.error("a value without a mask"));
        }
        check_tos(token, field, value)?;
        Ok(Action::SetField { field, value, mask })
    }

    fn set_field(&mut self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let Some((text, name)) = text.rsplit_once("->") else {
            return Err(token.error("set_field:VALUE[/MASK]->FIELD"));
        };
        let field = Field::named(name.trim(), self.names.tlvs()).map_err(|expected| {
            token.error(expected.unwrap_or_else(|| "the name of a field behind ->".to_owned()))
        })?;
        // OVS knows tp_src as another name of tcp_src only.
        let field = match field {
            Field::TpSrc | Field::TpDst => transport(field, &self.known),
            field => field,
        };
        self.check_writable(token, field)?;
        let text = text.trim();
        // `vlan_vid` is written with the bit that says that there is a tag.
        let vid = value::number(text).filter(|_| field == Field::VlanVid);
        let (value, mask) = match vid {
            Some(vid) if vid <= value::tag(0xfff) => Ok((vid & 0xfff, 0xfff)),
            _ => match masked_vid(field, text) {
                Some(both) => Ok(both),
                None => value::parse(field, text, self.names),
            },
        }
        .map_err(|e| token.error(e))?;
        check_tos(token, field, value)?;
        let value = value & mask;
        self.learn(field, value, mask);
        Ok(Action::SetField { field, value, mask })
    }

    fn load(&mut self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let (text, to) = text.split_once("->").ok_or_else(|| token.error("load:VALUE->FIELD[A..B]"))?;
        let to = subfield(to.trim(), self.names).map_err(|e| token.error(e))?;
        self.check_writable(token, to.field)?;
        // As in OVS, load carries 64 bits; the keys of tunnels have 32, whatever the width of tun_id.
        let max = if to.field == Field::TunId {
            to.max().min(value::TUNNEL_KEY_MAX)
        } else {
            to.max().min(u64::MAX.into())
        };
        let value = value::number_up_to(text.trim(), max).map_err(|e| token.error(e))?;
        self.learn(to.field, value << to.start, to.max() << to.start);
        Ok(Action::Load { value: value as u64, to })
    }

    fn copy(&mut self, token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
        let (from, to) = text.split_once("->").ok_or_else(|| token.error("move:FIELD[A..B]->FIELD[C..D]"))?;
        let from = subfield(from.trim(), self.names).map_err(|e| token.error(e))?;
        let to = subfield(to.trim(), self.names).map_err(|e| token.error(e))?;
        self.require(token, from.field.info().prerequisite)?;
        self.check_writable(token, to.field)?;
        if from.bits != to.bits {
            return Err(token.error(format!("as many bits from ({}) as to ({})", from.bits, to.bits)));
        }
        self.forget(to);
        Ok(Action::Move { from, to })
    }

    fn check_writable(&self, token: &Token<'_>, field: Field) -> Result<(), ParseError> {
        if !field.info().writable {
            return Err(token.error(format!("a field that can be set, which {} cannot", field.name())));
        }
        self.require(token, field.info().prerequisite)
    }
}

/// The place of an action among instructions (`ovs-actions(7)`, "Instructions").
fn place(action: &Action) -> u8 {
    match action {
        Action::ClearActions => 1,
        Action::WriteActions(_) => 2,
        Action::SetField { field: Field::Metadata, .. } => 3,
        Action::GotoTable(_) => 4,
        _ => 0,
    }
}

/// Whether OpenFlow lets an action into an action set (`ovs-actions(7)`, "write_actions").
pub fn in_action_set(action: &Action) -> bool {
    matches!(
        action,
        Action::Drop
            | Action::Output(_)
            | Action::OutputField(_)
            | Action::SetTunnel(_)
            | Action::SetField { .. }
            | Action::Load { .. }
            | Action::Move { .. }
            | Action::PushVlan(_)
            | Action::PopVlan
            | Action::ModVlanVid(_)
            | Action::ModVlanPcp(_)
            | Action::DecTtl
            | Action::DecTtlTo(_)
            | Action::SetQueue(_)
            | Action::Group(_)
            | Action::Resubmit { .. }
    )
}

/// `note:01.02.03`: bytes in hexadecimal, points between them if one likes.
fn note(token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
    let bytes = controller::bytes(text);
    bytes.map(Action::Note).ok_or_else(|| token.error("note:01.02.03, pairs of hexadecimal digits"))
}

/// `conjunction(ID,K/N)`.
fn conjunction(token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
    let parts = text.split_once(',').and_then(|(id, part)| {
        let (clause, clauses) = part.trim().split_once('/')?;
        Some((value::number(id.trim())?, value::number(clause)?, value::number(clauses)?))
    });
    match parts {
        Some((id @ 0..=0xffff_ffff, clause, clauses @ 2..=64)) if (1..=clauses).contains(&clause) => {
            Ok(Action::Conjunction(Conjunction {
                id: id as u32,
                clause: clause as u8,
                clauses: clauses as u8,
            }))
        }
        _ => Err(token.error("conjunction(ID,K/N), N from 2 to 64 and K from 1 to N")),
    }
}

/// `fin_timeout(idle_timeout=A,hard_timeout=B)`.
fn fin_timeout(token: &Token<'_>, text: &str) -> Result<Action, ParseError> {
    let (mut idle, mut hard) = (0, 0);
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, seconds) = part.split_once('=').unwrap_or((part, ""));
        let seconds = value::number_up_to(seconds, 0xffff).map_err(|e| token.error(e))? as u16;
        match name {
            "idle_timeout" => idle = seconds,
            "hard_timeout" => hard = seconds,
            _ => return Err(token.error("fin_timeout(idle_timeout=SECONDS,hard_timeout=SECONDS)")),
        }
    }
    Ok(Action::FinTimeout { idle, hard })
}

/// A match on `nw_tos` ignores the ECN bits; who sets them by it would be surprised.
fn check_tos(token: &Token<'_>, field: Field, value: u128) -> Result<(), ParseError> {
    if field == Field::NwTos && value & 3 != 0 {
        return Err(token.error("a multiple of 4 from 0 to 252 (the ECN bits are nw_ecn)"));
    }
    Ok(())
}

fn port_ref(port: u32) -> PortRef {
    match port {
        PORT_IN_PORT => PortRef::InPort,
        PORT_NORMAL => PortRef::Normal,
        PORT_FLOOD => PortRef::Flood,
        PORT_ALL => PortRef::All,
        PORT_CONTROLLER => PortRef::Controller { max_len: u16::MAX },
        PORT_LOCAL => PortRef::Local,
        port => PortRef::Port(port),
    }
}

/// The bits of a field that text names: `FIELD`, `FIELD[]`, `FIELD[A]` or `FIELD[A..B]`.
///
/// # Errors
/// What was expected.
pub fn subfield(text: &str, names: &dyn PortNames) -> Result<Subfield, String> {
    let (name, range) = match text.split_once('[') {
        Some((name, range)) => {
            (name, range.strip_suffix(']').ok_or_else(|| "a ] behind the bits of a field".to_owned())?)
        }
        None => (text, ""),
    };
    let other = || format!("the name of a field, such as reg0, instead of {name:?}");
    let field = Field::named(name, names.tlvs()).map_err(|expected| expected.unwrap_or_else(other))?;
    if matches!(field, Field::TpSrc | Field::TpDst) {
        return Err(other());
    }
    if range.is_empty() {
        return Ok(Subfield::whole(field));
    }
    let bits = field.info().bits;
    let (first, last) = range.split_once("..").unwrap_or((range, range));
    match (value::number(first), value::number(last)) {
        (Some(first), Some(last)) if first <= last && last < u128::from(bits) => {
            Ok(Subfield { field, start: first as u8, bits: (last - first + 1) as u8 })
        }
        _ => Err(format!("bits from 0 to {} of {}", bits - 1, field.name())),
    }
}
