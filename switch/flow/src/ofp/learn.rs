//! `learn`: an action that adds a flow made of the packet that it sees (`ovs-actions(7)`, "The learn action").

use super::action::{Action, PortRef};
use super::error::ParseError;
use super::field::{Field, Subfield};
use super::flow::{DEFAULT_PRIORITY, FlowSpec};
use super::key::{Match, MatchKey};
use super::parse_action::subfield;
use super::port::{PORT_ALL, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_MAX, PortNames};
use super::prerequisite::Prerequisite;
use super::print::format_subfield;
use super::token::{Syntax, Token, Tokens};
use super::value::{self, number};
use std::fmt::Write;
use wire::key::VLAN_PRESENT;

/// Where bits of the learned flow come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LearnSource {
    /// Bits of the packet.
    Field(Subfield),
    /// The same for all.
    Value(u128),
}

/// What becomes of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LearnTarget {
    /// The learned flow matches on them.
    Match(Subfield),
    /// It loads them into a field.
    Load(Subfield),
    /// It outputs to the port with this number.
    Output,
}

/// The learned flow, and how it goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Learn {
    /// Its table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Its cookie.
    pub cookie: u64,
    /// Seconds without a packet after which it goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which it goes; 0: never.
    pub hard_timeout: u16,
    /// `idle_timeout` once a TCP packet with FIN or RST has matched it; 0: as before.
    pub fin_idle_timeout: u16,
    /// `hard_timeout` then; 0: as before.
    pub fin_hard_timeout: u16,
    /// `send_flow_rem` of the learned flow.
    pub send_flow_rem: bool,
    /// Learned flows go with the flow that learns.
    pub delete_learned: bool,
    /// Most flows of this table and cookie; 0: any number.
    pub limit: u32,
    /// One bit, set to 1 if the flow could be learned.
    pub result_dst: Option<Subfield>,
    /// The match and the actions.
    pub specs: Vec<(LearnSource, LearnTarget)>,
}

impl Default for Learn {
    fn default() -> Self {
        Learn {
            table: 1,
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            send_flow_rem: false,
            delete_learned: false,
            limit: 0,
            result_dst: None,
            specs: Vec::new(),
        }
    }
}

impl Learn {
    /// The flow that this learns of a packet, whose bits `read` gives.
    pub fn flow(&self, mut read: impl FnMut(Subfield) -> u128) -> FlowSpec {
        let mut matches = Matching::default();
        let mut actions = Vec::new();
        if self.fin_idle_timeout != 0 || self.fin_hard_timeout != 0 {
            actions.push(Action::FinTimeout { idle: self.fin_idle_timeout, hard: self.fin_hard_timeout });
        }
        for (from, to) in &self.specs {
            let value = match from {
                LearnSource::Field(from) => read(*from),
                LearnSource::Value(value) => *value,
            };
            match to {
                LearnTarget::Match(to) => matches.add(*to, value),
                LearnTarget::Load(to) => actions.push(load(value, *to)),
                LearnTarget::Output => actions.extend(output(value)),
            }
        }
        if actions.is_empty() {
            actions.push(Action::Drop);
        }
        FlowSpec {
            table: self.table,
            priority: self.priority,
            cookie: self.cookie,
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            send_flow_rem: self.send_flow_rem,
            matches: matches.finish(),
            actions,
            ..FlowSpec::default()
        }
    }

    /// Whether packets of `known`, and the learned flow, have the fields that this names: as Open vSwitch, which takes no `learn`
    /// that could make a flow without its prerequisites.
    ///
    /// # Errors
    /// A field, and what it needs.
    pub fn check(&self, known: &Match) -> Result<(), (Field, Prerequisite)> {
        let needs = |field: Field, needed: Prerequisite, what: &Match| {
            if needed.is_met(what) { Ok(()) } else { Err((field, needed)) }
        };
        let mut learned = Matching::default();
        for (from, to) in &self.specs {
            let mut value = 0;
            match from {
                LearnSource::Field(from) => needs(from.field, from.field.info().prerequisite, known)?,
                LearnSource::Value(same) => value = *same,
            }
            match to {
                LearnTarget::Match(to) => {
                    needs(to.field, to.field.info().match_prerequisite, &learned.finish())?;
                    learned.add(*to, value);
                }
                LearnTarget::Load(to) => needs(to.field, to.field.info().prerequisite, &learned.finish())?,
                LearnTarget::Output => {}
            }
        }
        match self.result_dst {
            Some(to) => needs(to.field, to.field.info().prerequisite, known),
            None => Ok(()),
        }
    }
}

/// The match of a learned flow as it grows.
#[derive(Default)]
struct Matching {
    key: MatchKey,
    mask: MatchKey,
}

impl Matching {
    fn add(&mut self, to: Subfield, value: u128) {
        to.set(&mut self.key, value);
        if to == Subfield::whole(to.field) {
            to.field.set(&mut self.mask, to.field.info().exact());
        } else {
            to.set(&mut self.mask, u128::MAX);
        }
        match to.field {
            // They also say that there is a tag.
            Field::VlanVid | Field::VlanPcp => {
                for tci in [&mut self.key.flow.vlan_tci, &mut self.mask.flow.vlan_tci] {
                    *tci = (tci.get() | VLAN_PRESENT).into();
                }
            }
            Field::TunMetadata(tlv) => {
                self.key.flow.tun_metadata_present |= tlv.bit();
                self.mask.flow.tun_metadata_present |= tlv.bit();
            }
            _ => {}
        }
    }

    fn finish(&self) -> Match {
        Match::new(&self.key, &self.mask)
    }
}

/// The action that gives bits a value.
fn load(value: u128, to: Subfield) -> Action {
    match u64::try_from(value) {
        Ok(value) if to.bits <= 64 => Action::Load { value, to },
        _ => Action::SetField { field: to.field, value: value << to.start, mask: to.max() << to.start },
    }
}

/// The output to the port with a number, if that is one.
fn output(number: u128) -> Option<Action> {
    let port = match u32::try_from(number).ok()? {
        port @ 0..=PORT_MAX => PortRef::Port(port),
        PORT_IN_PORT => PortRef::InPort,
        PORT_LOCAL => PortRef::Local,
        PORT_FLOOD => PortRef::Flood,
        PORT_ALL => PortRef::All,
        _ => return None,
    };
    Some(Action::Output(port))
}

const EXPECTED: &str = "table, priority, cookie, idle_timeout, hard_timeout, fin_idle_timeout, fin_hard_timeout, \
     send_flow_rem, delete_learned, limit, result_dst, FIELD=VALUE, FIELD[A..B], FIELD[A..B]=FIELD[C..D], load:VALUE->FIELD, \
     load:FIELD[A..B]->FIELD[C..D] or output:FIELD[A..B]";

/// Parses `learn(...)`.
pub(super) fn parse(token: &Token<'_>, names: &dyn PortNames) -> Result<Learn, ParseError> {
    let Some(text) = token.value.filter(|_| token.text.ends_with(')')) else {
        return Err(token.error("learn(...)"));
    };
    let mut learn = Learn::default();
    let mut tokens = Tokens::new(text, token.value_position, Syntax::Actions);
    while let Some(part) = tokens.next()? {
        let upto = |max: u128| {
            let text = part.value.unwrap_or("");
            value::number_up_to(text, max).map_err(|expected| part.error(expected))
        };
        match part.key {
            "table" => learn.table = upto(254)? as u8,
            "priority" => learn.priority = upto(0xffff)? as u16,
            "cookie" => learn.cookie = upto(u64::MAX.into())? as u64,
            "idle_timeout" => learn.idle_timeout = upto(0xffff)? as u16,
            "hard_timeout" => learn.hard_timeout = upto(0xffff)? as u16,
            "fin_idle_timeout" => learn.fin_idle_timeout = upto(0xffff)? as u16,
            "fin_hard_timeout" => learn.fin_hard_timeout = upto(0xffff)? as u16,
            "limit" => learn.limit = upto(0xffff_ffff)? as u32,
            "send_flow_rem" if part.value.is_none() => learn.send_flow_rem = true,
            "delete_learned" if part.value.is_none() => learn.delete_learned = true,
            "result_dst" => {
                let bit = subfield(part.value.unwrap_or(""), names).map_err(|e| part.error(e))?;
                if bit.bits != 1 || !bit.field.info().writable {
                    return Err(part.error("one bit of a field that can be set, such as reg0[0]"));
                }
                learn.result_dst = Some(bit);
            }
            _ => learn.specs.push(spec(&part, names)?),
        }
    }
    Ok(learn)
}

/// One piece of the learned flow's match or actions.
fn spec(part: &Token<'_>, names: &dyn PortNames) -> Result<(LearnSource, LearnTarget), ParseError> {
    let bits_of = |text: &str| subfield(text.trim(), names).map_err(|e| part.error(e));
    match (part.key, part.value) {
        ("output", Some(text)) => Ok((LearnSource::Field(bits_of(text)?), LearnTarget::Output)),
        ("load", Some(text)) => {
            let Some((from, to)) = text.split_once("->") else {
                return Err(part.error("load:VALUE->FIELD or load:FIELD[A..B]->FIELD[C..D]"));
            };
            let to = bits_of(to)?;
            if !to.field.info().writable {
                return Err(part.error(format!("a field that can be set, which {} cannot", to.field.name())));
            }
            Ok((source(part, from.trim(), to, names)?, LearnTarget::Load(to)))
        }
        (name, Some(text)) => {
            // A whole field's value is written as in a match.
            if let Some(field) = Field::from_name(name) {
                let whole = Subfield::whole(field);
                return match value::parse(field, text, names) {
                    Ok((value, mask)) if mask == field.info().exact() => {
                        Ok((LearnSource::Value(value), LearnTarget::Match(whole)))
                    }
                    _ => Ok((source(part, text, whole, names)?, LearnTarget::Match(whole))),
                };
            }
            let to = subfield(name, names).map_err(|_| part.error(EXPECTED))?;
            Ok((source(part, text, to, names)?, LearnTarget::Match(to)))
        }
        (name, None) => {
            let bits = subfield(name, names).map_err(|_| part.error(EXPECTED))?;
            Ok((LearnSource::Field(bits), LearnTarget::Match(bits)))
        }
    }
}

/// Bits of a field, as many as there are to be filled, or a number that fits them.
fn source(
    part: &Token<'_>,
    text: &str,
    to: Subfield,
    names: &dyn PortNames,
) -> Result<LearnSource, ParseError> {
    if let Some(value) = number(text) {
        return if value <= to.max() {
            Ok(LearnSource::Value(value))
        } else {
            Err(part.error(format!("a number of {} bits", to.bits)))
        };
    }
    let from = subfield(text, names).map_err(|e| part.error(e))?;
    if from.bits != to.bits {
        return Err(part.error(format!("as many bits from ({}) as to ({})", from.bits, to.bits)));
    }
    Ok(LearnSource::Field(from))
}

/// Prints `learn(...)` as OVS does.
pub(super) fn format(out: &mut String, learn: &Learn, names: &dyn PortNames) {
    let _ = write!(out, "learn(table={}", learn.table);
    for (name, value) in [
        ("idle_timeout", learn.idle_timeout),
        ("hard_timeout", learn.hard_timeout),
        ("fin_idle_timeout", learn.fin_idle_timeout),
        ("fin_hard_timeout", learn.fin_hard_timeout),
    ] {
        if value != 0 {
            let _ = write!(out, ",{name}={value}");
        }
    }
    if learn.priority != DEFAULT_PRIORITY {
        let _ = write!(out, ",priority={}", learn.priority);
    }
    out.push_str(if learn.send_flow_rem { ",send_flow_rem" } else { "" });
    out.push_str(if learn.delete_learned { ",delete_learned" } else { "" });
    if learn.cookie != 0 {
        let _ = write!(out, ",cookie={:#x}", learn.cookie);
    }
    if learn.limit != 0 {
        let _ = write!(out, ",limit={}", learn.limit);
    }
    if let Some(bit) = learn.result_dst {
        out.push_str(",result_dst=");
        format_subfield(out, bit);
    }
    for (from, to) in &learn.specs {
        out.push(',');
        match (from, to) {
            (LearnSource::Field(from), LearnTarget::Match(to)) => {
                format_subfield(out, *to);
                if from != to {
                    out.push('=');
                    format_subfield(out, *from);
                }
            }
            (LearnSource::Value(value), LearnTarget::Match(to)) => {
                // As it would stand in a match, if it can.
                let whole = *to == Subfield::whole(to.field) && *value & !to.field.info().exact() == 0;
                let mut text = String::new();
                value::format(&mut text, to.field, *value, to.field.info().exact(), names);
                if whole && value::parse(to.field, &text, names) == Ok((*value, to.field.info().exact())) {
                    let _ = write!(out, "{}={text}", to.field.name());
                } else {
                    format_subfield(out, *to);
                    let _ = write!(out, "={value:#x}");
                }
            }
            (from, LearnTarget::Load(to)) => {
                out.push_str("load:");
                match from {
                    LearnSource::Field(from) => format_subfield(out, *from),
                    LearnSource::Value(value) => {
                        let _ = write!(out, "{value:#x}");
                    }
                }
                out.push_str("->");
                format_subfield(out, *to);
            }
            (LearnSource::Field(from), LearnTarget::Output) => {
                out.push_str("output:");
                format_subfield(out, *from);
            }
            // No text makes it.
            (LearnSource::Value(value), LearnTarget::Output) => {
                let _ = write!(out, "output:{value}");
            }
        }
    }
    out.push(')');
}
