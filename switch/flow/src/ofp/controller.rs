//! `controller(...)`: packets for controllers, with a reason, a controller's number and data of the user's.

use super::action::{Action, PortRef};
use super::error::ParseError;
use super::token::Token;
use super::value;
use std::fmt::Write;

/// Why a packet comes to controllers (`OFPR_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum PacketReason {
    /// No flow matched.
    NoMatch,
    /// An action said so.
    #[default]
    Action,
    /// Its TTL was used up.
    InvalidTtl,
    /// An action of an action set said so (1.4).
    ActionSet,
    /// An action of a group's bucket said so (1.4).
    Group,
    /// An action of a packet-out said so (1.4).
    PacketOut,
    /// An action of a table's miss flow said so: the flow of priority 0 that matches everything (1.3).
    ExplicitMiss,
}

impl PacketReason {
    /// Those that have a number in OpenFlow, in the order of these numbers.
    pub const NUMBERED: [PacketReason; 6] = [
        PacketReason::NoMatch,
        PacketReason::Action,
        PacketReason::InvalidTtl,
        PacketReason::ActionSet,
        PacketReason::Group,
        PacketReason::PacketOut,
    ];

    /// As `reason=` has it.
    pub fn name(self) -> &'static str {
        match self {
            PacketReason::NoMatch | PacketReason::ExplicitMiss => "no_match",
            PacketReason::Action => "action",
            PacketReason::InvalidTtl => "invalid_ttl",
            PacketReason::ActionSet => "action_set",
            PacketReason::Group => "group",
            PacketReason::PacketOut => "packet_out",
        }
    }
}

/// What `controller(...)` asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Controller {
    /// Bytes of the packet, 65535 for all.
    pub max_len: u16,
    /// The reason that the packet comes with.
    pub reason: PacketReason,
    /// The connections that get it: those with this number (`NXT_SET_CONTROLLER_ID`).
    pub id: u16,
    /// Bytes that the packet comes with.
    pub userdata: Vec<u8>,
}

impl Default for Controller {
    fn default() -> Controller {
        Controller { max_len: u16::MAX, reason: PacketReason::Action, id: 0, userdata: Vec::new() }
    }
}

impl Controller {
    /// The action: `CONTROLLER:N` where nothing else is asked for.
    pub fn action(self) -> Action {
        if self == (Controller { max_len: self.max_len, ..Controller::default() }) {
            return Action::Output(PortRef::Controller { max_len: self.max_len });
        }
        Action::Controller(Box::new(self))
    }
}

/// Bytes in hexadecimal, points between them if one likes.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'.').collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        if pair.len() == 2 { u8::from_str_radix(pair, 16).ok() } else { None }
    };
    digits.chunks(2).map(byte).collect()
}

/// Bytes as Open vSwitch prints them.
pub(super) fn format_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(".")
}

/// `controller`, `controller:MAX_LEN` and `controller(OPTION=VALUE,...)`.
pub(super) fn parse(token: &Token<'_>) -> Result<Action, ParseError> {
    let mut controller = Controller::default();
    let Some(text) = token.value else { return Ok(controller.action()) };
    if !token.text.ends_with(')') {
        controller.max_len = value::number_up_to(text, 0xffff).map_err(|e| token.error(e))? as u16;
        return Ok(controller.action());
    }
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, text) = part.split_once('=').unwrap_or((part, ""));
        let short = || value::number_up_to(text, 0xffff).map(|n| n as u16).map_err(|e| token.error(e));
        match name {
            "max_len" => controller.max_len = short()?,
            "id" => controller.id = short()?,
            "reason" => {
                let all = PacketReason::NUMBERED;
                controller.reason =
                    all.into_iter().find(|reason| reason.name() == text).ok_or_else(|| {
                        token.error("reason=no_match, action, invalid_ttl, action_set, group or packet_out")
                    })?;
            }
            "userdata" => {
                controller.userdata = bytes(text)
                    .ok_or_else(|| token.error("userdata=01.02.03, pairs of hexadecimal digits"))?;
            }
            "pause" => {
                return Err(
                    token.error("no pause: this switch does not continue packets that controllers have had")
                );
            }
            "meter_id" => return Err(token.error("no meter_id: meters are for packets, not for packet-ins")),
            _ => return Err(token.error("max_len=N, reason=REASON, id=N or userdata=BYTES")),
        }
    }
    Ok(controller.action())
}

/// Prints the action.
pub(super) fn format(out: &mut String, controller: &Controller) {
    let Controller { max_len, reason, id, userdata } = controller;
    let parts = [
        (*reason != PacketReason::Action).then(|| format!("reason={}", reason.name())),
        (*max_len != u16::MAX).then(|| format!("max_len={max_len}")),
        (*id != 0).then(|| format!("id={id}")),
        (!userdata.is_empty()).then(|| format!("userdata={}", format_bytes(userdata))),
    ];
    // A String takes all that is written to it.
    let _ = write!(out, "controller({})", parts.into_iter().flatten().collect::<Vec<_>>().join(","));
}

/// `dec_ttl` and `dec_ttl(ID,...)`.
pub(super) fn parse_dec_ttl(token: &Token<'_>) -> Result<Action, ParseError> {
    let Some(text) = token.value else { return Ok(Action::DecTtl) };
    let id = |text: &str| value::number_up_to(text.trim(), 0xffff).map(|id| id as u16);
    let ids: Result<Vec<u16>, String> = text.split(',').map(id).collect();
    match ids {
        Ok(ids) if token.text.ends_with(')') && !ids.is_empty() => Ok(Action::DecTtlTo(ids)),
        _ => Err(token.error("dec_ttl, or dec_ttl(ID,...) with the numbers of controllers")),
    }
}
