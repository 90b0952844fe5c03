//! From words to requests, and from answers to what is printed.

use super::client::{Client, escape};
use super::globals::Globals;
use super::{Failure, capture, cli, flows, graph, monitor, out, own, print, restart, top};
use api::{
    Appctl, AppctlReply, BfdRow, CommandOutput, DocumentBody, Done, Drops, Event, EvpnRow, FdbEdit, FdbEntry,
    LcoreRow, MegaflowRow, NeighbourEdit, NeighbourEntry, RouteEntry, Saved, Show, Transaction,
    TransactionReply, UpcallStats,
};
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Exit status of `br-exists` for a bridge that does not, as with `ovs-vsctl`.
const NO_BRIDGE: u8 = 2;

/// What a command works with.
pub(super) struct Session<'g> {
    pub globals: &'g Globals,
    pub client: Client,
}

impl Session<'_> {
    /// Prints an answer as JSON if asked to, else as `text` makes it.
    pub fn show<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.globals.json { out(&json(answer)) } else { out(&text(answer)) }
    }

    /// Prints nothing but, if asked to, JSON.
    pub fn done(&self, done: Done) -> Result<(), Failure> {
        self.show(&done, |_| String::new())
    }
}

fn json<T: Serialize>(answer: &T) -> String {
    // What is printed was made from JSON a moment ago; it has no maps with strange keys.
    serde_json::to_string_pretty(answer).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
}

/// Does a command.
pub fn run(globals: &Globals, words: &[String]) -> Result<ExitCode, Failure> {
    let name = words.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
    if matches!(name, "completion" | "man") {
        return own::run(words);
    }
    let session = Session { globals, client: Client::new(&globals.control, globals.timeout)? };
    match name {
        "capture" => return capture::run(&session, words),
        "monitor" => return monitor::run(&session, words),
        name if flows::does(name) => return flows::run(&session, name, words),
        "fdb" | "neigh" | "route" => tables(&session, &words.iter().map(String::as_str).collect::<Vec<_>>())?,
        "graph" | "megaflow" | "evpn" | "bfd" | "lcore" | "upcall" | "drops" | "top" | "document"
        | "apply" | "save" | "reload" | "restart-handover" | "events" | "appctl" => {
            inside(&session, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        _ => return transaction(&session, words),
    }
    Ok(ExitCode::SUCCESS)
}

/// How often `wait-until` asks.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// Waits for what each `wait-until` among the commands asks for. The rest of the transaction comes after it, also what
/// stands in front.
fn wait(session: &Session<'_>, words: &[String]) -> Result<Vec<String>, Failure> {
    let is_wait = |words: &[String]| {
        words.iter().find(|word| !word.starts_with("--")).is_some_and(|name| name == "wait-until")
    };
    let commands: Vec<&[String]> = words.split(|word| word == "--").collect();
    let began = Instant::now();
    for command in commands.iter().filter(|command| is_wait(command)) {
        let request = Transaction { args: command.to_vec() };
        loop {
            let reply: TransactionReply = session.client.post("/v1/transaction", &request)?;
            if matches!(reply.outputs.as_slice(), [CommandOutput::Exists(true)]) {
                break;
            }
            if session.globals.timeout.is_some_and(|limit| began.elapsed() >= limit) {
                return Err(Failure::Refused(format!(
                    "'{}': not so within the time of -t",
                    command.join(" ")
                )));
            }
            std::thread::sleep(WAIT_STEP);
        }
    }
    let rest: Vec<&[String]> = commands.into_iter().filter(|command| !is_wait(command)).collect();
    Ok(rest.join(&"--".to_owned()))
}

/// `ovs-vsctl`'s commands.
fn transaction(session: &Session<'_>, words: &[String]) -> Result<ExitCode, Failure> {
    let args = wait(session, words)?;
    if args.iter().all(|word| word == "--")
        && !words.is_empty()
        && words.iter().any(|word| word == "wait-until")
    {
        return Ok(ExitCode::SUCCESS);
    }
    let request = Transaction { args };
    let reply: TransactionReply = session.client.post("/v1/transaction", &request)?;
    let status = match reply.outputs.as_slice() {
        [CommandOutput::Exists(false)] => ExitCode::from(NO_BRIDGE),
        _ => ExitCode::SUCCESS,
    };
    for note in &reply.notes {
        eprintln!("vxctl: note: {note}");
    }
    if session.globals.json {
        let shown: Vec<serde_json::Value> = reply.outputs.iter().map(print::output_json).collect();
        // One command, one answer; several, a list of them.
        match shown.as_slice() {
            [one] => out(&json(one))?,
            many => out(&json(&many))?,
        }
    } else {
        out(&reply.outputs.iter().map(print::output).collect::<String>())?;
    }
    Ok(status)
}

/// Bytes that the daemon takes: more is not read, for a file may have no end.
const MAX_FILE: u64 = 64 << 20;

/// A file's text; `-` is stdin.
pub(super) fn read(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        read_bounded(std::io::stdin().lock())
    } else {
        std::fs::File::open(file).and_then(read_bounded)
    };
    text.map_err(|error| Failure::File(file.to_owned(), error))
}

fn read_bounded(source: impl std::io::Read) -> std::io::Result<String> {
    let text = std::io::read_to_string(source.take(MAX_FILE + 1))?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("it is longer than {} MiB", MAX_FILE >> 20)));
    }
    Ok(text)
}

fn tables(session: &Session<'_>, words: &[&str]) -> Result<(), Failure> {
    let client = &session.client;
    let fdb = |bridge: &str, verb: &str| format!("/v1/fdb/{}{verb}", escape(bridge));
    let number = |vlan: &str| {
        vlan.parse()
            .map_err(|_| Failure::Usage(format!("VLAN: found {vlan:?}, expected a number from 0 to 4095")))
    };
    let of = |bridge: &[&str]| bridge.first().map_or_else(String::new, |b| format!("?bridge={}", escape(b)));
    match words {
        ["fdb", "show", bridge] => {
            let rows: Vec<FdbEntry> = client.get(&fdb(bridge, ""))?;
            session.show(&rows, |rows| print::fdb(rows))?;
        }
        ["fdb", "add", bridge, port, vlan, mac, remote @ ..] if remote.len() <= 1 => {
            let edit = FdbEdit {
                port: (*port).into(),
                vlan: number(vlan)?,
                mac: (*mac).into(),
                remote: remote.first().map(|r| (*r).to_owned()),
            };
            session.done(client.post(&fdb(bridge, "/add"), &edit)?)?;
        }
        ["fdb", "del", bridge, vlan, mac] => {
            let edit = FdbEdit { vlan: number(vlan)?, mac: (*mac).into(), ..FdbEdit::default() };
            session.done(client.post(&fdb(bridge, "/delete"), &edit)?)?;
        }
        ["fdb", "flush", bridge] => session.done(client.post(&fdb(bridge, "/flush"), &())?)?,
        ["neigh", "show", bridge @ ..] if bridge.len() <= 1 => {
            let rows: Vec<NeighbourEntry> = client.get(&format!("/v1/neigh{}", of(bridge)))?;
            session.show(&rows, |rows| print::neighbours(rows))?;
        }
        ["neigh", "set", bridge, ip, mac, vlan @ ..] if vlan.len() <= 1 => {
            let vlan = vlan.first().map_or(Ok(0), |vlan| number(vlan))?;
            let edit = NeighbourEdit { ip: (*ip).into(), mac: (*mac).into(), vlan };
            session.done(client.post(&format!("/v1/neigh/{}/set", escape(bridge)), &edit)?)?;
        }
        ["neigh", "del", bridge, ip, vlan @ ..] if vlan.len() <= 1 => {
            let vlan = vlan.first().map_or(Ok(0), |vlan| number(vlan))?;
            let edit = NeighbourEdit { ip: (*ip).into(), mac: String::new(), vlan };
            session.done(client.post(&format!("/v1/neigh/{}/delete", escape(bridge)), &edit)?)?;
        }
        ["neigh", "flush", rest @ ..] if rest.len() <= 2 => {
            let (options, bridge): (Vec<&str>, Vec<&str>) =
                rest.iter().partition(|word| word.starts_with("--"));
            if options.iter().any(|option| *option != "--all") || bridge.len() > 1 {
                return wrong(words);
            }
            let mut query = of(&bridge);
            if !options.is_empty() {
                query += if bridge.is_empty() { "?all=true" } else { "&all=true" };
            }
            session.done(client.post(&format!("/v1/neigh/flush{query}"), &())?)?;
        }
        ["route", "show"] => {
            let rows: Vec<RouteEntry> = client.get("/v1/route")?;
            session.show(&rows, |rows| print::routes(rows))?;
        }
        ["route", verb @ ("add" | "del"), bridge, to, via @ ..] if via.len() <= 1 => {
            let verb = if *verb == "add" { "add" } else { "delete" };
            let via = via.first().map(|v| (*v).to_owned());
            let edit = RouteEntry { to: (*to).into(), via, ..RouteEntry::default() };
            session.done(client.post(&format!("/v1/route/{}/{verb}", escape(bridge)), &edit)?)?;
        }
        _ => return wrong(words),
    }
    Ok(())
}

/// Prints events as they come, until the daemon or the reader goes away.
fn events(session: &Session<'_>) -> Result<(), Failure> {
    let mut rest = Vec::new();
    session.client.stream("/v1/events", "", |bytes| {
        rest.extend_from_slice(bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if session.globals.json {
                out(&String::from_utf8_lossy(&line))?;
            } else if let Ok(event) = serde_json::from_slice::<Event>(&line) {
                out(&print::event(&event))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// A line that is none of the command's.
fn wrong<T>(words: &[&str]) -> Result<T, Failure> {
    let line = words.join(" ");
    let lines: Vec<String> =
        cli::of(words.first().copied().unwrap_or_default()).map(cli::Entry::expected).collect();
    Failure::usage(format!("'{line}': expected {}", lines.join(", or ")))
}

fn inside(session: &Session<'_>, words: &[&str]) -> Result<(), Failure> {
    let client = &session.client;
    match words {
        ["megaflow", "show", bridge @ ..] if bridge.len() <= 1 => {
            let of = bridge.first().map_or_else(String::new, |b| format!("?bridge={}", escape(b)));
            let rows: Vec<MegaflowRow> = client.get(&format!("/v1/megaflows{of}"))?;
            session.show(&rows, |rows| rows.iter().map(print::megaflow).collect())?;
        }
        ["evpn", "show"] => {
            let rows: Vec<EvpnRow> = client.get("/v1/evpn")?;
            session.show(&rows, |rows| rows.iter().map(print::evpn).collect())?;
        }
        ["bfd", "show", port @ ..] if port.len() <= 1 => {
            let mut rows: Vec<BfdRow> = client.get("/v1/bfd")?;
            if let [port] = port {
                rows.retain(|row| row.interface == *port);
                if rows.is_empty() {
                    return Failure::usage(format!("no port {port} with a BFD session"));
                }
            }
            session.show(&rows, |rows| rows.iter().map(ToString::to_string).collect())?;
        }
        ["graph"] => {
            let show: Show = client.get("/v1/show")?;
            session.show(&show, graph::dot)?;
        }
        ["lcore", "show"] => {
            let rows: Vec<LcoreRow> = client.get("/v1/lcores")?;
            session.show(&rows, |rows| rows.iter().map(print::lcore).collect())?;
        }
        ["appctl", command, arguments @ ..] => {
            let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
            let request = Appctl { command: (*command).to_owned(), arguments };
            let reply: AppctlReply = client.post("/v1/appctl", &request)?;
            session.show(&reply, |reply| reply.text.clone())?;
        }
        ["upcall", "show"] => {
            let stats: UpcallStats = client.get("/v1/upcall")?;
            session.show(&stats, print::upcalls)?;
        }
        ["drops"] | ["drops", "-a" | "--all"] => {
            let drops: Drops = client.get("/v1/drops")?;
            session.show(&drops, |drops| print::drops(drops, words.len() > 1))?;
        }
        ["document"] => {
            let document: DocumentBody = client.get("/v1/document")?;
            session.show(&document, |document| document.toml.clone())?;
        }
        ["document", ..] => {
            return Failure::usage(
                "vxctl document prints the desired state; vxctl apply FILE makes a file's the desired state",
            );
        }
        ["apply", file] => session.done(client.put("/v1/document", read(file)?)?)?,
        ["save"] => {
            let saved: Saved = client.post("/v1/save", &())?;
            session.show(&saved, |saved| format!("saved to {}\n", saved.file))?;
        }
        ["reload"] => session.done(client.post("/v1/reload", &())?)?,
        ["restart-handover"] => restart::run(session)?,
        ["events"] => events(session)?,
        ["top", options @ ..] => top::run(client, options, session.globals.json)?,
        _ => return wrong(words),
    }
    Ok(())
}
