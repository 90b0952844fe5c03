//! Flows, groups and meters, in `ovs-ofctl`'s words; `trace`.

use super::cli::{self, Group};
use super::client::escape;
use super::commands::{Session, read};
use super::dump::Dump;
use super::{Failure, diff, print};
use api::{
    Buckets, FlowDelete, FlowModify, FlowRow, Flows, GroupRow, Groups, InterfaceRow, MeterRow, Meters,
    PacketOut, PortModify, Tlvs, Trace, TraceRequest, Which,
};
use serde::Serialize;
use std::process::ExitCode;

/// Whether this module does the command.
pub fn does(name: &str) -> bool {
    cli::of(name).any(|entry| entry.group == Group::Flows)
}

/// Exit status of `diff-flows` when there are differences, as with `ovs-ofctl`.
const DIFFERENT: u8 = 2;
/// Shortest packet that `trace` takes, in hexadecimal digits: an Ethernet header.
const SHORTEST_PACKET: usize = 28;

/// Sums over rules, as `dump-aggregate` has them.
#[allow(clippy::struct_field_names, reason = "the names are those of ovs-ofctl's output")]
#[derive(Debug, Serialize)]
struct Aggregate {
    packet_count: u64,
    byte_count: u64,
    flow_count: usize,
}

/// Lines of a file, without comments and empty ones, each with its number.
pub fn read_lines(file: &str) -> Result<Vec<(usize, String)>, Failure> {
    let text = read(file)?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
    Ok((1..).zip(lines).filter(|(_, line)| !line.is_empty()).collect())
}

/// Does what `send` does with a file's lines. The daemon counts what it was sent; the user counts lines.
fn send_file<T>(
    file: &str,
    what: &str,
    send: impl FnOnce(Vec<String>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let lines = read_lines(file)?;
    let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
    send(lines.into_iter().map(|(_, line)| line).collect()).map_err(|failure| {
        let Failure::Refused(message) = &failure else { return failure };
        // One alone is not counted.
        let (at, rest) = match message.strip_prefix(what).and_then(|rest| rest.trim_start().split_once(": "))
        {
            Some((at, rest)) => (at.parse::<usize>().unwrap_or(0), rest),
            None => (usize::from(numbers.len() == 1), message.as_str()),
        };
        match at.checked_sub(1).and_then(|at| numbers.get(at)) {
            Some(line) => Failure::Refused(format!("{file}:{line}: {rest}")),
            None => failure,
        }
    })
}

/// One of [`COMMANDS`].
pub fn run(session: &Session<'_>, name: &str, words: &[String]) -> Result<ExitCode, Failure> {
    let (mut strict, mut may_create, mut how) = (false, false, Dump::default());
    for option in words.iter().filter(|word| word.starts_with("--")) {
        #[allow(clippy::match_same_arms, reason = "each is taken for a reason of its own")]
        match (option.as_str(), name) {
            ("--strict", "del-flows" | "mod-flows" | "dump-flows" | "dump-aggregate") => strict = true,
            ("--may-create", "mod-group") => may_create = true,
            (option, "dump-flows") if how.take(option)? => {}
            // What a dump of something else would look like does not change, so scripts may say it.
            ("--names" | "--no-names" | "--stats" | "--no-stats", _) if name.starts_with("dump") => {}
            // Lines of a file are all done or none, as in a bundle.
            (
                "--bundle",
                "add-flow" | "add-flows" | "replace-flows" | "del-flows" | "mod-flows" | "add-groups"
                | "mod-group" | "del-groups",
            ) => {}
            _ => return Failure::usage(format!("'{name}' command has no '{option}' option")),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    match words.as_slice() {
        ["diff-flows", one, other] => return diff_flows(session, one, other),
        [_, bridge, rest @ ..] if name.contains("group") || name.contains("buckets") => {
            groups(session, name, bridge, rest, may_create)?;
        }
        [_, bridge, rest @ ..] if name.contains("meter") => meters(session, name, bridge, rest)?,
        [_, bridge, rest @ ..] if name.ends_with("tlv-map") => tlvs(session, name, bridge, rest)?,
        ["mod-port", bridge, port, action] => {
            let body = PortModify { port: (*port).to_owned(), action: (*action).to_owned() };
            session.done(session.client.post(&format!("/v1/ports/{}/modify", escape(bridge)), &body)?)?;
        }
        ["packet-out", bridge, rest @ ..] => packet_out(session, bridge, rest)?,
        ["dump-ports", bridge, port @ ..] if port.len() <= 1 => {
            dump_ports(session, bridge, port.first().copied())?;
        }
        ["trace", bridge, flow @ ..] if !flow.is_empty() => trace(session, bridge, flow)?,
        [_, bridge, rest @ ..] => flows(session, name, bridge, rest, strict, &how)?,
        _ => return wrong_arguments(name),
    }
    Ok(ExitCode::SUCCESS)
}

fn wrong_arguments<T>(name: &str) -> Result<T, Failure> {
    let lines: Vec<String> = cli::of(name).map(cli::Entry::expected).collect();
    Failure::usage(format!("'{name}': wrong number of arguments, expected {}", lines.join(", or ")))
}

fn flows(
    session: &Session<'_>,
    name: &str,
    bridge: &str,
    rest: &[&str],
    strict: bool,
    how: &Dump,
) -> Result<(), Failure> {
    let client = &session.client;
    let path = |verb: &str| format!("/v1/flows/{}{verb}", escape(bridge));
    let dump = || -> Result<Vec<FlowRow>, Failure> {
        client.get(&path(&format!("?match={}&strict={strict}", escape(&rest.join(" ")))))
    };
    match (name, rest) {
        ("add-flow", [_, ..]) => {
            // As typed without quotes: the words are one flow.
            let body = Flows { flows: vec![rest.join(" ")] };
            session.done(client.post(&path("/add"), &body)?)?;
        }
        ("add-flows" | "replace-flows", [file]) => {
            let verb = if name == "add-flows" { "/add" } else { "/replace" };
            session.done(send_file(file, "flow", |flows| client.post(&path(verb), &Flows { flows }))?)?;
        }
        ("mod-flows", [_, ..]) => {
            let body = FlowModify { flow: rest.join(" "), strict };
            session.done(client.post(&path("/modify"), &body)?)?;
        }
        ("del-flows", _) => {
            let body = FlowDelete { matches: rest.join(" "), strict };
            session.done(client.post(&path("/delete"), &body)?)?;
        }
        ("dump-flows", _) => {
            let rows = dump()?;
            let mut ports: Vec<InterfaceRow> =
                if *how == Dump::default() { Vec::new() } else { client.get("/v1/interfaces")? };
            ports.retain(|port| port.bridge == bridge);
            session.show(&rows, |rows| how.print(rows.clone(), &ports))?;
        }
        ("dump-aggregate", _) => {
            let rows = dump()?;
            let sum = Aggregate {
                packet_count: rows.iter().map(|row| row.packets).sum(),
                byte_count: rows.iter().map(|row| row.bytes).sum(),
                flow_count: rows.len(),
            };
            session.show(&sum, |sum| {
                let Aggregate { packet_count, byte_count, flow_count } = sum;
                format!("packet_count={packet_count} byte_count={byte_count} flow_count={flow_count}\n")
            })?;
        }
        _ => return wrong_arguments(name),
    }
    Ok(())
}

fn groups(
    session: &Session<'_>,
    name: &str,
    bridge: &str,
    rest: &[&str],
    may_create: bool,
) -> Result<(), Failure> {
    let client = &session.client;
    let path = |verb: &str| format!("/v1/groups/{}{verb}", escape(bridge));
    let dump = || -> Result<Vec<GroupRow>, Failure> {
        client.get(&path(&format!("?match={}", escape(&rest.join(" ")))))
    };
    let body = |groups: Vec<String>| Groups { groups, may_create };
    match (name, rest) {
        ("add-group", [_, ..]) => session.done(client.post(&path("/add"), &body(vec![rest.join(" ")]))?)?,
        ("add-groups", [file]) => {
            session.done(send_file(file, "group", |groups| client.post(&path("/add"), &body(groups)))?)?;
        }
        ("mod-group", [_, ..]) => {
            session.done(client.post(&path("/modify"), &body(vec![rest.join(" ")]))?)?;
        }
        ("insert-buckets" | "remove-buckets", [_, ..]) => {
            let body = Buckets { buckets: rest.join(" ") };
            session.done(client.post(&path(&format!("/{name}")), &body)?)?;
        }
        ("del-groups", _) => {
            session.done(client.post(&path("/delete"), &Which { matches: rest.join(" ") })?)?;
        }
        ("dump-groups", _) => {
            session
                .show(&dump()?, |rows| print::each_line(rows.iter().map(|row| format!(" {}", row.group))))?;
        }
        ("dump-group-stats", _) => session.show(&dump()?, |rows| print::group_stats(rows))?,
        _ => return wrong_arguments(name),
    }
    Ok(())
}

fn meters(session: &Session<'_>, name: &str, bridge: &str, rest: &[&str]) -> Result<(), Failure> {
    let client = &session.client;
    let path = |verb: &str| format!("/v1/meters/{}{verb}", escape(bridge));
    let dump = || -> Result<Vec<MeterRow>, Failure> {
        client.get(&path(&format!("?match={}", escape(&rest.join(" ")))))
    };
    match (name, rest) {
        ("add-meter" | "mod-meter", [_, ..]) => {
            let verb = if name == "add-meter" { "/add" } else { "/modify" };
            session.done(client.post(&path(verb), &Meters { meters: vec![rest.join(" ")] })?)?;
        }
        ("del-meter", [_]) | ("del-meters", _) => {
            session.done(client.post(&path("/delete"), &Which { matches: rest.join(" ") })?)?;
        }
        ("dump-meter", [_]) | ("dump-meters", _) => {
            session.show(&dump()?, |rows| print::meters(rows))?;
        }
        ("meter-stats", _) => session.show(&dump()?, |rows| print::meter_stats(rows))?,
        _ => return wrong_arguments(name),
    }
    Ok(())
}

fn tlvs(session: &Session<'_>, name: &str, bridge: &str, rest: &[&str]) -> Result<(), Failure> {
    let client = &session.client;
    let path = |verb: &str| format!("/v1/tlv-map/{}{verb}", escape(bridge));
    let list = rest.join(" ");
    let tlvs = Tlvs { tlvs: config::split_tlvs(&list).map(str::to_owned).collect() };
    match (name, rest) {
        ("add-tlv-map", [_, ..]) => session.done(client.post(&path("/add"), &tlvs)?)?,
        ("del-tlv-map", _) => session.done(client.post(&path("/delete"), &tlvs)?)?,
        ("dump-tlv-map", []) => {
            let tlvs: Tlvs = client.get(&path(""))?;
            session.show(&tlvs, |tlvs| print::each_line(&tlvs.tlvs))?;
        }
        _ => return wrong_arguments(name),
    }
    Ok(())
}

fn packet_out(session: &Session<'_>, bridge: &str, words: &[&str]) -> Result<(), Failure> {
    let body = match words {
        words if words.len() == 1 || words.iter().any(|word| word.contains("packet=")) => {
            packet_out_text(&words.join(" "))?
        }
        [port, actions, packets @ ..] if !packets.is_empty() => PacketOut {
            in_port: (*port).to_owned(),
            actions: (*actions).to_owned(),
            packets: packets.iter().map(|packet| (*packet).to_owned()).collect(),
        },
        _ => return wrong_arguments("packet-out"),
    };
    session.done(session.client.post(&format!("/v1/packet-out/{}", escape(bridge)), &body)?)
}

/// `in_port=PORT,packet=HEX,actions=ACTIONS`, with commas or blanks between them; actions come last.
fn packet_out_text(text: &str) -> Result<PacketOut, Failure> {
    let wrong = |found: &str| {
        Failure::Usage(format!(
            "packet-out: found {found:?}, expected in_port=PORT,packet=HEX,actions=ACTIONS"
        ))
    };
    let (fields, actions) = text.split_once("actions=").ok_or_else(|| wrong(text))?;
    let mut body =
        PacketOut { in_port: "CONTROLLER".to_owned(), actions: actions.to_owned(), packets: Vec::new() };
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    for field in fields.split([',', ' ', '\t', '\n']).filter(|field| !field.is_empty()) {
        match (field.split_once('='), body.packets.last_mut()) {
            (Some(("in_port", port)), _) => port.clone_into(&mut body.in_port),
            (Some(("packet", packet)), _) => body.packets.push(packet.to_owned()),
            // A packet's digits may have blanks between them.
            (None, Some(packet)) if is_hex(field) => packet.push_str(field),
            _ => return Err(wrong(field)),
        }
    }
    if body.packets.is_empty() { Err(wrong(text)) } else { Ok(body) }
}

fn dump_ports(session: &Session<'_>, bridge: &str, port: Option<&str>) -> Result<(), Failure> {
    let mut rows: Vec<InterfaceRow> = session.client.get("/v1/interfaces")?;
    rows.retain(|row| row.bridge == bridge);
    if rows.is_empty() {
        return Err(Failure::Refused(format!("no bridge named {bridge}")));
    }
    if let Some(port) = port {
        rows.retain(|row| row.name == port || row.ofport.to_string() == port);
        if rows.is_empty() {
            return Err(Failure::Refused(format!("bridge {bridge} has no port {port}")));
        }
    }
    session.show(&rows, |rows| print::ports(rows))?;
    Ok(())
}

/// A last word of hexadecimal digits is a packet.
fn trace(session: &Session<'_>, bridge: &str, words: &[&str]) -> Result<(), Failure> {
    let is_packet =
        |word: &str| word.len() >= SHORTEST_PACKET && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (flow, packet) = match words {
        [flow @ .., last] if is_packet(last) => (flow, Some((*last).to_owned())),
        flow => (flow, None),
    };
    let body = TraceRequest { flow: flow.join(" "), packet };
    let trace: Trace = session.client.post(&format!("/v1/trace/{}", escape(bridge)), &body)?;
    session.show(&trace, print::trace)?;
    Ok(())
}

/// `diff-flows`: what is `-` in one and `+` in the other.
fn diff_flows(session: &Session<'_>, one: &str, other: &str) -> Result<ExitCode, Failure> {
    let sources = [diff::Source::of(session, one)?, diff::Source::of(session, other)?];
    let lines = diff::diff(&sources)?;
    session.show(&lines, |lines| print::each_line(lines))?;
    Ok(if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}
