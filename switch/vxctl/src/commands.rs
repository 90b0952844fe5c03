//! From words to requests, and from answers to what is printed.

use super::client::{Client, escape};
use super::{Failure, Globals, flows, out, print, top};
use api::{
    CommandOutput, DocumentBody, Done, Drops, FdbEdit, FdbEntry, LcoreRow, MegaflowRow, NeighbourEdit,
    NeighbourEntry, RouteEntry, Transaction, TransactionReply, UpcallStats,
};
use serde::Serialize;
use std::process::ExitCode;

/// Exit status of `br-exists` for a bridge that does not, as with `ovs-vsctl`.
const NO_BRIDGE: u8 = 2;

/// What a command works with.
pub(super) struct Session<'g> {
    pub globals: &'g Globals,
    pub client: Client,
}

impl Session<'_> {
    /// Prints an answer as JSON if asked to, else as `text` makes it.
    pub fn show<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) {
        if self.globals.json { out(&json(answer)) } else { out(&text(answer)) }
    }

    /// Prints nothing but, if asked to, JSON.
    pub fn done(&self, done: Done) {
        self.show(&done, |_| String::new());
    }
}

fn json<T: Serialize>(answer: &T) -> String {
    // What is printed was made from JSON a moment ago; it has no maps with strange keys.
    serde_json::to_string_pretty(answer).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
}

/// Does a command.
pub fn run(globals: &Globals, words: &[String]) -> Result<ExitCode, Failure> {
    let session = Session { globals, client: Client::new(&globals.control)? };
    let name = words.iter().find(|word| !word.starts_with("--")).map_or("", String::as_str);
    match name {
        name if flows::COMMANDS.contains(&name) => return flows::run(&session, name, words),
        "fdb" | "neigh" | "route" => tables(&session, &words.iter().map(String::as_str).collect::<Vec<_>>())?,
        "megaflow" | "lcore" | "upcall" | "drops" | "top" | "document" => {
            inside(&session, &words.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        _ => return transaction(&session, words),
    }
    Ok(ExitCode::SUCCESS)
}

/// `ovs-vsctl`'s commands.
fn transaction(session: &Session<'_>, words: &[String]) -> Result<ExitCode, Failure> {
    let request = Transaction { args: words.to_vec() };
    let reply: TransactionReply = session.client.post("/v1/transaction", &request)?;
    let status = match reply.outputs.as_slice() {
        [CommandOutput::Exists(false)] => ExitCode::from(NO_BRIDGE),
        _ => ExitCode::SUCCESS,
    };
    if session.globals.json {
        let shown: Vec<serde_json::Value> = reply.outputs.iter().map(print::output_json).collect();
        // One command, one answer; several, a list of them.
        match shown.as_slice() {
            [one] => out(&json(one)),
            many => out(&json(&many)),
        }
    } else {
        out(&reply.outputs.iter().map(print::output).collect::<String>());
    }
    Ok(status)
}

/// A file's text; `-` is stdin.
pub(super) fn read(file: &str) -> Result<String, Failure> {
    let text =
        if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    text.map_err(|error| Failure::File(file.to_owned(), error))
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
            session.show(&rows, |rows| print::fdb(rows));
        }
        ["fdb", "add", bridge, port, vlan, mac, remote @ ..] if remote.len() <= 1 => {
            let edit = FdbEdit {
                port: (*port).into(),
                vlan: number(vlan)?,
                mac: (*mac).into(),
                remote: remote.first().map(|r| (*r).to_owned()),
            };
            session.done(client.post(&fdb(bridge, "/add"), &edit)?);
        }
        ["fdb", "del", bridge, vlan, mac] => {
            let edit = FdbEdit { vlan: number(vlan)?, mac: (*mac).into(), ..FdbEdit::default() };
            session.done(client.post(&fdb(bridge, "/delete"), &edit)?);
        }
        ["fdb", "flush", bridge] => session.done(client.post(&fdb(bridge, "/flush"), &())?),
        ["neigh", "show", bridge @ ..] if bridge.len() <= 1 => {
            let rows: Vec<NeighbourEntry> = client.get(&format!("/v1/neigh{}", of(bridge)))?;
            session.show(&rows, |rows| print::neighbours(rows));
        }
        ["neigh", "set", bridge, ip, mac] => {
            let edit = NeighbourEdit { ip: (*ip).into(), mac: (*mac).into() };
            session.done(client.post(&format!("/v1/neigh/{}/set", escape(bridge)), &edit)?);
        }
        ["neigh", "flush", bridge @ ..] if bridge.len() <= 1 => {
            session.done(client.post(&format!("/v1/neigh/flush{}", of(bridge)), &())?);
        }
        ["route", "show"] => {
            let rows: Vec<RouteEntry> = client.get("/v1/route")?;
            session.show(&rows, |rows| print::routes(rows));
        }
        ["route", verb @ ("add" | "del"), bridge, to, via @ ..] if via.len() <= 1 => {
            let verb = if *verb == "add" { "add" } else { "delete" };
            let via = via.first().map(|v| (*v).to_owned());
            let edit = RouteEntry { to: (*to).into(), via, ..RouteEntry::default() };
            session.done(client.post(&format!("/v1/route/{}/{verb}", escape(bridge)), &edit)?);
        }
        _ => {
            let line = words.join(" ");
            return Failure::usage(format!("'{line}': expected {}", expected(words.first().copied())));
        }
    }
    Ok(())
}

fn expected(noun: Option<&str>) -> &'static str {
    match noun {
        Some("fdb") => "fdb show BR, fdb add BR PORT VLAN MAC [REMOTE], fdb del BR VLAN MAC or fdb flush BR",
        Some("neigh") => "neigh show [BR], neigh set BR IP MAC or neigh flush [BR]",
        Some("route") => "route show, route add BR PREFIX [VIA] or route del BR PREFIX [VIA]",
        Some("megaflow") => "megaflow show [BR]",
        Some("lcore") => "lcore show",
        Some("upcall") => "upcall show",
        Some("drops") => "drops [-a]",
        Some("document") => "document [FILE|-]",
        _ => "top [-n COUNT] [-d SECONDS]",
    }
}

fn inside(session: &Session<'_>, words: &[&str]) -> Result<(), Failure> {
    let client = &session.client;
    match words {
        ["megaflow", "show", bridge @ ..] if bridge.len() <= 1 => {
            let of = bridge.first().map_or_else(String::new, |b| format!("?bridge={}", escape(b)));
            let rows: Vec<MegaflowRow> = client.get(&format!("/v1/megaflows{of}"))?;
            session.show(&rows, |rows| rows.iter().map(print::megaflow).collect());
        }
        ["lcore", "show"] => {
            let rows: Vec<LcoreRow> = client.get("/v1/lcores")?;
            session.show(&rows, |rows| rows.iter().map(print::lcore).collect());
        }
        ["upcall", "show"] => {
            let stats: UpcallStats = client.get("/v1/upcall")?;
            session.show(&stats, print::upcalls);
        }
        ["drops"] | ["drops", "-a" | "--all"] => {
            let drops: Drops = client.get("/v1/drops")?;
            session.show(&drops, |drops| print::drops(drops, words.len() > 1));
        }
        ["document"] => {
            let document: DocumentBody = client.get("/v1/document")?;
            session.show(&document, |document| document.toml.clone());
        }
        ["document", file] => session.done(client.put("/v1/document", read(file)?)?),
        ["top", options @ ..] => top::run(client, options, session.globals.json)?,
        _ => {
            let line = words.join(" ");
            return Failure::usage(format!("'{line}': expected {}", expected(words.first().copied())));
        }
    }
    Ok(())
}
