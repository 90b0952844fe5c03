//! Groups: what `group:N` sends a packet to (`ovs-ofctl(8)`, "Group Syntax").

use super::action::Action;
use super::error::ParseError;
use super::key::Match;
use super::parse_action::ActionParser;
use super::port::{PORT_LOCAL, PORT_MAX, PortNames, format_port, parse_port};
use super::print::format_actions;
use super::selection::{self, Selection, SelectionParser};
use super::token::{Syntax, Token, Tokens};
use super::value::{number, number_up_to};
use crate::program::Select;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Largest number of a group (OpenFlow `OFPG_MAX`).
pub const GROUP_MAX: u32 = 0xffff_ff00;
/// Buckets of a group: as many as the longest OpenFlow message has room for.
const MAX_BUCKETS: usize = 4096;
/// Largest `bucket_id` (OpenFlow `OFPG15_BUCKET_MAX`).
pub const BUCKET_MAX: u32 = 0xffff_ff00;

/// What a group does with its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GroupKind {
    /// Every bucket, each on a copy.
    All,
    /// One bucket, by the flow's hash and the buckets' weights.
    Select,
    /// The only bucket.
    Indirect,
    /// The first bucket whose watched port (or group) is alive.
    FastFailover,
}

/// A bucket of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// `bucket_id`, unique in the group; without one in the text, the bucket's position.
    pub id: u32,
    /// `weight`, for `select`: 0 is never chosen. Default 1 there, as in OVS; 0 in other groups.
    pub weight: u16,
    /// `watch_port`: OpenFlow number of the port that must be alive.
    pub watch_port: Option<u32>,
    /// `watch_group`: the group that must be alive.
    pub watch_group: Option<u32>,
    /// What it does: never empty.
    pub actions: Vec<Action>,
}

/// A group as a user writes it, for `add-group`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSpec {
    /// 0 to 4294967040.
    pub id: u32,
    /// `type`.
    pub kind: GroupKind,
    /// `selection_method` and what belongs to it, of a group of type `select`.
    pub selection: Option<Selection>,
    /// In the order of the text. `indirect` has exactly one, `select` at most [`Select::SLOTS`].
    pub buckets: Vec<Bucket>,
}

impl GroupKind {
    /// As `type=` has it.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::All => "all",
            GroupKind::Select => "select",
            GroupKind::Indirect => "indirect",
            GroupKind::FastFailover => "ff",
        }
    }
}

/// Parses what `add-group` takes: `group_id=1,type=select,bucket=weight:10,actions=output:p1,bucket=output:p2`.
pub fn parse_group(text: &str, names: &dyn PortNames) -> Result<GroupSpec, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let (mut id, mut kind, mut starts) = (None, None, Vec::<(Token<'_>, usize)>::new());
    let (mut selection, mut selects) = (SelectionParser::default(), None);
    while let Some(token) = tokens.next()? {
        let value = token.value.unwrap_or("");
        match token.key {
            "bucket" | "buckets" if token.value.is_some() => starts.push((token, tokens.rest().1)),
            // What lies behind a bucket's beginning is the bucket's.
            _ if !starts.is_empty() => {
                if let Some((_, end)) = starts.last_mut() {
                    *end = tokens.rest().1;
                }
            }
            "group_id" => {
                id = Some(number_up_to(value, GROUP_MAX.into()).map_err(|e| token.error(e))? as u32);
            }
            "type" => kind = Some(group_kind(&token, value)?),
            _ if selection.add(&token, names)? => selects = Some(token),
            _ => return Err(token.error("group_id=N, type=TYPE, selection_method=METHOD, selection_method_param=N, fields(FIELD,...) or bucket=BUCKET")),
        }
    }
    let missing = |what: &str| ParseError::new("", text.len(), what);
    let id = id.ok_or_else(|| missing("group_id=N, from 0 to 4294967040"))?;
    let kind = kind.ok_or_else(|| missing("type=all, select, indirect or ff"))?;
    if let Some(token) = selects.filter(|_| kind != GroupKind::Select) {
        return Err(token.error("a selection method in a group of type select only"));
    }
    let selection = selection.finish();
    if let Some(token) = selects.filter(|_| selection.is_none()) {
        return Err(token.error("selection_method=METHOD beside it"));
    }
    let mut buckets: Vec<Bucket> = Vec::with_capacity(starts.len());
    let mut ids = BTreeSet::new();
    for (token, end) in starts {
        if kind == GroupKind::Indirect && !buckets.is_empty() {
            return Err(token.error("one bucket in a group of type indirect"));
        }
        if kind == GroupKind::Select && buckets.len() == Select::SLOTS {
            return Err(token.error(format!("at most {} buckets in a group of type select", Select::SLOTS)));
        }
        let base = token.value_position;
        let bucket = bucket(&token, (&text[base..end], base), kind, buckets.len() as u32, names)?;
        if buckets.len() == MAX_BUCKETS {
            return Err(token.error(format!("at most {MAX_BUCKETS} buckets")));
        }
        if !ids.insert(bucket.id) {
            return Err(token.error(format!("a bucket_id that is not in use: {} is", bucket.id)));
        }
        buckets.push(bucket);
    }
    if kind == GroupKind::Indirect && buckets.is_empty() {
        return Err(missing("bucket=..., which a group of type indirect has"));
    }
    Ok(GroupSpec { id, kind, selection, buckets })
}

fn group_kind(token: &Token<'_>, text: &str) -> Result<GroupKind, ParseError> {
    Ok(match text {
        "all" => GroupKind::All,
        "select" => GroupKind::Select,
        "indirect" => GroupKind::Indirect,
        "ff" | "fast_failover" => GroupKind::FastFailover,
        _ => return Err(token.error("type=all, select, indirect or ff")),
    })
}

/// One bucket: its settings may stand before and, as in OVS, behind its actions.
fn bucket(
    whole: &Token<'_>,
    (text, base): (&str, usize),
    kind: GroupKind,
    position: u32,
    names: &dyn PortNames,
) -> Result<Bucket, ParseError> {
    let mut bucket = Bucket {
        id: position,
        weight: u16::from(kind == GroupKind::Select),
        watch_port: None,
        watch_group: None,
        actions: Vec::new(),
    };
    // The actions with everything else blanked out, so that places in them stay places in the text.
    let mut actions = text.as_bytes().to_vec();
    let mut any = false;
    let mut tokens = Tokens::new(text, base, Syntax::Actions);
    while let Some(token) = tokens.next()? {
        let at = token.position - base;
        if setting(&mut bucket, &token, kind, names)? {
            actions[at..at + token.text.len()].fill(b' ');
            continue;
        }
        let action = match token.key {
            "actions" | "action" if token.value.is_some() => {
                actions[at..token.value_position - base].fill(b' ');
                let value = token.value.unwrap_or("");
                value.split([':', '(']).next().unwrap_or(value)
            }
            key => key,
        };
        if matches!(action, "goto_table" | "meter") {
            return Err(
                token.error("an action that a bucket may have: goto_table and meter belong into flows")
            );
        }
        any = true;
    }
    if !any {
        return Err(whole.error("actions=ACTION,... in every bucket (actions=drop to drop)"));
    }
    let watches = bucket.watch_port.is_some() || bucket.watch_group.is_some();
    if watches != (kind == GroupKind::FastFailover) && kind != GroupKind::Select {
        return Err(whole.error(if watches {
            "watch_port and watch_group in groups of type ff and select only"
        } else {
            "watch_port:PORT or watch_group:N in every bucket of a group of type ff"
        }));
    }
    // Blanks replaced whole tokens, which end where characters do.
    let actions = String::from_utf8(actions).unwrap_or_default();
    let mut parser = ActionParser { names, known: Match::ANY, table: 0 };
    bucket.actions = parser.list(&actions, base, 0)?;
    Ok(bucket)
}

/// Takes a bucket's setting. `Ok(false)`: the token is none.
fn setting(
    bucket: &mut Bucket,
    token: &Token<'_>,
    kind: GroupKind,
    names: &dyn PortNames,
) -> Result<bool, ParseError> {
    let Some(value) = token.value else { return Ok(false) };
    let any = value.eq_ignore_ascii_case("any");
    match token.key {
        "bucket_id" => bucket.id = number_up_to(value, BUCKET_MAX.into()).map_err(|e| token.error(e))? as u32,
        "weight" if kind == GroupKind::Select => {
            bucket.weight = number_up_to(value, 0xffff).map_err(|e| token.error(e))? as u16;
        }
        "weight" => return Err(token.error("weight in a group of type select only")),
        "watch_port" if any => bucket.watch_port = None,
        "watch_port" => {
            let port = parse_port(value, names).filter(|port| *port <= PORT_MAX || *port == PORT_LOCAL);
            bucket.watch_port = Some(port.ok_or_else(|| token.error("a port number, a port name or LOCAL"))?);
        }
        "watch_group" if any => bucket.watch_group = None,
        "watch_group" => {
            bucket.watch_group =
                Some(number_up_to(value, GROUP_MAX.into()).map_err(|e| token.error(e))? as u32);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Parses what `del-groups`, `dump-groups` and `dump-group-stats` take: `group_id=N`, `N`, or `all` or nothing for
/// all groups, which is `None`.
pub fn parse_group_filter(text: &str) -> Result<Option<u32>, ParseError> {
    let mut tokens = Tokens::new(text, 0, Syntax::Match);
    let Some(token) = tokens.next()? else { return Ok(None) };
    let value = if token.key == "group_id" { token.value.unwrap_or("") } else { token.text };
    let id = match value {
        "all" | "any" | "ALL" | "ANY" => None,
        _ => match number(value).filter(|id| *id <= GROUP_MAX.into()) {
            Some(id) => Some(id as u32),
            None => return Err(token.error("group_id=N, from 0 to 4294967040, or all")),
        },
    };
    match tokens.next()? {
        Some(more) => Err(more.error("nothing behind the group's number")),
        None => Ok(id),
    }
}

/// Prints a group as `dump-groups` does, without its leading space. [`parse_group`] reads it.
pub fn format_group(group: &GroupSpec, names: &dyn PortNames) -> String {
    let mut out = format!("group_id={},type={}", group.id, group.kind.name());
    if let Some(selection) = &group.selection {
        selection::format(&mut out, selection, names);
    }
    let usual = u16::from(group.kind == GroupKind::Select);
    for bucket in &group.buckets {
        // A String takes all that is written to it.
        let _ = write!(out, ",bucket=bucket_id:{},", bucket.id);
        if bucket.weight != usual {
            let _ = write!(out, "weight:{},", bucket.weight);
        }
        if let Some(port) = bucket.watch_port {
            out.push_str("watch_port:");
            format_port(&mut out, port, names);
            out.push(',');
        }
        if let Some(group) = bucket.watch_group {
            let _ = write!(out, "watch_group:{group},");
        }
        let _ = write!(out, "actions={}", format_actions(&bucket.actions, names));
    }
    out
}
