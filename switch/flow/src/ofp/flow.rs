//! Whole flows as text: what `add-flow`, `mod-flows`, `del-flows`, `dump-flows` and `trace` take.

use super::action::Action;
use super::error::ParseError;
use super::key::{Match, MatchKey};
use super::parse_action::ActionParser;
use super::parse_match::{MatchBuilder, concrete};
use super::port::{PortNames, parse_port};
use super::token::{Syntax, Token, Tokens};
use super::value::{number, number_up_to};

/// Priority of a flow that does not say one (OpenFlow `OFP_DEFAULT_PRIORITY`).
pub const DEFAULT_PRIORITY: u16 = 32768;

/// A flow as a user writes it, for `add-flow`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowSpec {
    /// 0 to 254.
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// Opaque to the switch.
    pub cookie: u64,
    /// Seconds without a packet after which the flow goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which the flow goes; 0: never.
    pub hard_timeout: u16,
    /// `send_flow_rem`: somebody wants to know when the flow goes.
    pub send_flow_rem: bool,
    /// `check_overlap`: refuse the flow if one of the same priority may match the same packets.
    pub check_overlap: bool,
    /// `reset_counts`: replacing a flow sets its counts to zero.
    pub reset_counts: bool,
    /// `no_packet_counts`: nobody asks for its packets, which are counted all the same, as in Open vSwitch.
    pub no_packet_counts: bool,
    /// `no_byte_counts`: the same of bytes.
    pub no_byte_counts: bool,
    /// Where flows go to make room, those of less importance go first.
    pub importance: u16,
    /// Which packets.
    pub matches: Match,
    /// What to do with them: never empty.
    pub actions: Vec<Action>,
}

impl FlowSpec {
    /// The flow without the flags that say how a flow mod is carried out, and nothing of the flow.
    #[must_use]
    pub fn without_mod_flags(&self) -> FlowSpec {
        FlowSpec { check_overlap: false, reset_counts: false, ..self.clone() }
    }
}

impl Default for FlowSpec {
    /// Drops every packet.
    fn default() -> FlowSpec {
        FlowSpec {
            table: 0,
            priority: DEFAULT_PRIORITY,
            cookie: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            send_flow_rem: false,
            check_overlap: false,
            reset_counts: false,
            no_packet_counts: false,
            no_byte_counts: false,
            importance: 0,
            matches: Match::ANY,
            actions: vec![Action::Drop],
        }
    }
}

/// Which flows a command is about, for `del-flows`, `dump-flows` and `mod-flows`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowFilter {
    /// Flows of this table only.
    pub table: Option<u8>,
    /// What `--strict` compares. Without it, OVS does not take a priority.
    pub priority: Option<u16>,
    /// Value of the cookie's bits in `cookie_mask`.
    pub cookie: u64,
    /// 0: flows with any cookie.
    pub cookie_mask: u64,
    /// Only flows that output to this OpenFlow port.
    pub out_port: Option<u32>,
    /// Only flows that send to this group.
    pub out_group: Option<u32>,
    /// Only flows within this match; with `--strict`, flows with this match.
    pub matches: Match,
}

impl FlowFilter {
    /// Whether a flow is one of those meant. `strict`: its match must be the same and its priority this
    /// one ([`DEFAULT_PRIORITY`] if not given), rather than its match be within this one.
    pub fn selects(&self, flow: &FlowSpec, strict: bool) -> bool {
        let matches = if strict {
            flow.matches == self.matches && flow.priority == self.priority.unwrap_or(DEFAULT_PRIORITY)
        } else {
            flow.matches.is_within(&self.matches)
        };
        matches && self.agrees(flow)
    }

    /// Whether a flow of which match and priority are as asked is one of those meant.
    pub fn agrees(&self, flow: &FlowSpec) -> bool {
        self.table.is_none_or(|table| table == flow.table)
            && (flow.cookie ^ self.cookie) & self.cookie_mask == 0
            && self.out_port.is_none_or(|port| flow.actions.iter().any(|a| a.outputs_to(port)))
            && self.out_group.is_none_or(|group| flow.actions.iter().any(|a| a.sends_to_group(group)))
    }
}

/// What `mod-flows` takes: which flows, and what they shall do from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowMod {
    /// Which flows.
    pub filter: FlowFilter,
    /// A new cookie: `cookie=V` without a mask, which in `mod-flows` selects nothing.
    pub new_cookie: Option<u64>,
    /// Their new actions: never empty.
    pub actions: Vec<Action>,
}

/// What a text can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Add,
    Mod,
    Filter,
    Key,
}

/// Everything that may stand before the match and the actions.
#[derive(Default)]
struct Header {
    table: Option<u8>,
    priority: Option<u16>,
    cookie: Option<(u64, Option<u64>)>,
    idle_timeout: u16,
    hard_timeout: u16,
    send_flow_rem: bool,
    check_overlap: bool,
    reset_counts: bool,
    no_packet_counts: bool,
    no_byte_counts: bool,
    importance: u16,
    out_port: Option<u32>,
    out_group: Option<u32>,
}

impl Header {
    /// Takes a token. `Ok(false)`: it is none of these.
    fn add(&mut self, token: &Token<'_>, form: Form, names: &dyn PortNames) -> Result<bool, ParseError> {
        let text = token.value.unwrap_or("");
        let upto = |max: u128| number_up_to(text, max).map_err(|expected| token.error(expected));
        let (add, filter) = (form == Form::Add, matches!(form, Form::Filter | Form::Mod));
        match token.key {
            "table" if form != Form::Key => self.table = Some(upto(254)? as u8),
            "priority" if form != Form::Key => self.priority = Some(upto(65535)? as u16),
            "idle_timeout" if add => self.idle_timeout = upto(65535)? as u16,
            "hard_timeout" if add => self.hard_timeout = upto(65535)? as u16,
            "send_flow_rem" if add && token.value.is_none() => self.send_flow_rem = true,
            "check_overlap" if add && token.value.is_none() => self.check_overlap = true,
            "reset_counts" if add && token.value.is_none() => self.reset_counts = true,
            "no_packet_counts" if add && token.value.is_none() => self.no_packet_counts = true,
            "no_byte_counts" if add && token.value.is_none() => self.no_byte_counts = true,
            "importance" if add => self.importance = upto(65535)? as u16,
            "cookie" if form != Form::Key => self.cookie = Some(cookie(token, text, form)?),
            "out_port" if filter => {
                let port = parse_port(text, names);
                self.out_port = Some(port.ok_or_else(|| token.error("a port number, a port name or LOCAL"))?);
            }
            "out_group" if filter => self.out_group = Some(upto(0xffff_ff00)? as u32),
            // As ovs-ofctl, so that the output of dump-flows can be read back.
            "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age"
                if add && token.value.is_some() => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn cookie(token: &Token<'_>, text: &str, form: Form) -> Result<(u64, Option<u64>), ParseError> {
    let one = |text: &str| number(text).and_then(|n| u64::try_from(n).ok());
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    if form == Form::Add && mask.is_some() {
        return Err(token.error("a cookie without a mask: the mask is for choosing flows"));
    }
    // -1: what OVS prints and takes for a mask of all ones.
    let mask_of = |text: &str| if text == "-1" { Some(u64::MAX) } else { one(text) };
    match (one(value), mask.map(mask_of)) {
        (Some(value), None) => Ok((value, None)),
        (Some(value), Some(Some(mask))) => Ok((value, Some(mask))),
        _ if form == Form::Add => Err(token.error("a 64-bit number")),
        _ => Err(token.error("a 64-bit number, optionally /mask")),
    }
}

/// Parses any form: header, match and, where there are any, actions.
fn parse(
    text: &str,
    form: Form,
    names: &dyn PortNames,
) -> Result<(Header, Match, Option<Vec<Action>>), ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let (mut header, mut builder) = (Header::default(), MatchBuilder::default());
    let mut actions = None;
    loop {
        // Actions may have parentheses that a match's token cannot, so they are looked for first.
        if let Some((text, base)) = actions_text(&tokens) {
            if matches!(form, Form::Filter | Form::Key) {
                return Err(ParseError::new(text, base, "a match without actions"));
            }
            actions = Some((text, base));
            break;
        }
        let Some(token) = tokens.next()? else { break };
        if !header.add(&token, form, names)? && !builder.add(&token, names)? {
            return Err(unknown(&token, form));
        }
    }
    let matches = builder.finish()?;
    let Some((text, base)) = actions else {
        return Ok((header, matches, None));
    };
    let mut parser = ActionParser { names, known: matches, table: header.table.unwrap_or(0) };
    let actions = parser.list(text, base, 0)?;
    Ok((header, matches, Some(actions)))
}

/// If the next token is `actions=`: everything behind that, and its offset.
fn actions_text<'a>(tokens: &Tokens<'a>) -> Option<(&'a str, usize)> {
    let (rest, base) = tokens.rest();
    let start = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
    let text = start.strip_prefix("actions=").or_else(|| start.strip_prefix("action="))?;
    Some((text, base + (rest.len() - text.len())))
}

fn unknown(token: &Token<'_>, form: Form) -> ParseError {
    let what = match form {
        Form::Key => "a field (in_port, dl_src, ...) or a protocol (ip, tcp, ...)",
        Form::Add => {
            "a field (in_port, dl_src, ...), a protocol (ip, tcp, ...), table, priority, cookie, idle_timeout, hard_timeout, send_flow_rem, check_overlap, reset_counts, no_packet_counts, no_byte_counts, importance or actions"
        }
        Form::Mod => {
            "a field (in_port, dl_src, ...), a protocol (ip, tcp, ...), table, priority, cookie, out_port, out_group or actions"
        }
        Form::Filter => {
            "a field (in_port, dl_src, ...), a protocol (ip, tcp, ...), table, priority, cookie, out_port or out_group"
        }
    };
    token.error(what)
}

fn need_actions(text: &str, actions: Option<Vec<Action>>) -> Result<Vec<Action>, ParseError> {
    actions.ok_or_else(|| ParseError::new("", text.len(), "actions=ACTION,... (actions=drop to drop)"))
}

/// Parses what `add-flow` takes: `priority=10,in_port=p0,tcp,tp_dst=80,actions=output:vxlan1`.
pub fn parse_flow(text: &str, names: &dyn PortNames) -> Result<FlowSpec, ParseError> {
    let (header, matches, actions) = parse(text, Form::Add, names)?;
    Ok(FlowSpec {
        table: header.table.unwrap_or(0),
        priority: header.priority.unwrap_or(DEFAULT_PRIORITY),
        cookie: header.cookie.map_or(0, |(value, _)| value),
        idle_timeout: header.idle_timeout,
        hard_timeout: header.hard_timeout,
        send_flow_rem: header.send_flow_rem,
        check_overlap: header.check_overlap,
        reset_counts: header.reset_counts,
        no_packet_counts: header.no_packet_counts,
        no_byte_counts: header.no_byte_counts,
        importance: header.importance,
        matches,
        actions: need_actions(text, actions)?,
    })
}

fn filter(header: &Header, matches: &Match, (cookie, cookie_mask): (u64, u64)) -> FlowFilter {
    FlowFilter {
        table: header.table,
        priority: header.priority,
        cookie: cookie & cookie_mask,
        cookie_mask,
        out_port: header.out_port,
        out_group: header.out_group,
        matches: *matches,
    }
}

/// Parses what `del-flows` and `dump-flows` take: `table=1,cookie=0x5/-1,ip,nw_dst=10.0.0.0/8`. A cookie
/// without a mask must be equal. The empty text is all flows.
pub fn parse_flow_match(text: &str, names: &dyn PortNames) -> Result<FlowFilter, ParseError> {
    let (header, matches, _) = parse(text, Form::Filter, names)?;
    let cookie = header.cookie.map_or((0, 0), |(value, mask)| (value, mask.unwrap_or(u64::MAX)));
    Ok(filter(&header, &matches, cookie))
}

/// Parses what `mod-flows` takes: a filter with actions.
pub fn parse_flow_mod(text: &str, names: &dyn PortNames) -> Result<FlowMod, ParseError> {
    let (header, matches, actions) = parse(text, Form::Mod, names)?;
    let (cookie, new_cookie) = match header.cookie {
        Some((value, Some(mask))) => ((value, mask), None),
        Some((value, None)) => ((0, 0), Some(value)),
        None => ((0, 0), None),
    };
    Ok(FlowMod {
        filter: filter(&header, &matches, cookie),
        new_cookie,
        actions: need_actions(text, actions)?,
    })
}

/// Parses the description of one packet, as `ofproto/trace` takes: `in_port=1,tcp,nw_dst=10.0.0.1,tp_dst=80`.
///
/// Fields not named are zero (`dl_type` without or below 0x600 is 0x05ff: no EtherType). A tunnel field makes it a packet out of a
/// tunnel. Fields must be whole: a mask is an error.
pub fn parse_key(text: &str, names: &dyn PortNames) -> Result<MatchKey, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    while let Some(token) = tokens.next()? {
        let value = token.value.unwrap_or("");
        let fragment = matches!(token.key, "ip_frag" | "nw_frag") && matches!(value, "yes" | "not_later");
        let signed = matches!(token.key, "tcp_flags" | "tun_flags") && value.starts_with(['+', '-']);
        if signed
            || fragment
            || token.key != "in_port" && (value.contains('/') || value == "*" || value == "ANY")
        {
            let what = if fragment { "no, first or later" } else { "one value, not a choice of them" };
            return Err(token.error(what));
        }
    }
    let (_, matches, _) = parse(text, Form::Key, names)?;
    Ok(concrete(&matches))
}
