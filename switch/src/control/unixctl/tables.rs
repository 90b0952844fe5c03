//! `fdb/*` and `bridge/dump-flows`: what bridges have learned, and their rules.

use crate::bridge::BridgePorts;
use crate::bridge::fdb::Location;
use crate::control::app::App;
use crate::slowpath::handle::Stopped;
use flow::ofp::{FlowFilter, format_actions, format_match};
use std::fmt::Write;
use wire::addr::MacAddr;

/// Answers a command whose arguments are as many as it takes.
pub(super) async fn run(app: &App, command: &str, words: &[&str]) -> Result<String, String> {
    let stopping = |error: Stopped| error.to_string();
    match command {
        "fdb/show" => {
            let bridge = words[0].to_owned();
            let rows = app
                .handle
                .call(move |slow| slow.state.bridge_named(&bridge).map(|id| slow.fdb_view(id)))
                .await
                .map_err(stopping)?
                .ok_or("no such bridge")?;
            let mut text = " port  VLAN  MAC                Age\n".to_owned();
            for row in rows {
                let port =
                    if row.ofport == flow::ofp::PORT_LOCAL { "LOCAL".into() } else { row.ofport.to_string() };
                let age = if row.fixed { "static".into() } else { format!("{:3}", row.age) };
                let _ = writeln!(text, "{port:>5}  {:4}  {}  {age}", row.vlan, row.mac);
            }
            Ok(text)
        }
        "fdb/add" => {
            let (bridge, name) = (words[0].to_owned(), words[1].to_owned());
            let (vlan, mac) = fdb_key(words[2], words[3])?;
            let added = app.handle.call(move |slow| {
                let id = slow.state.bridge_named(&bridge).ok_or("no such bridge")?;
                let port = slow.state.port_named(&name);
                let port = port.filter(|port| slow.state.port(*port).is_some_and(|port| port.bridge == id));
                slow.fdb_add(id, vlan, mac, Location { port: port.ok_or("no such port")?, remote: None });
                Ok(())
            });
            added.await.map_err(stopping)?.map(|()| String::new()).map_err(str::to_owned)
        }
        "fdb/del" => {
            let bridge = words[0].to_owned();
            let (vlan, mac) = fdb_key(words[1], words[2])?;
            let deleted = app.handle.call(move |slow| {
                let id = slow.state.bridge_named(&bridge).ok_or("no such bridge")?;
                slow.fdb_delete(id, vlan, mac).then_some(()).ok_or("no such MAC address in this VLAN")
            });
            deleted.await.map_err(stopping)?.map(|()| String::new()).map_err(str::to_owned)
        }
        "fdb/stats-show" => {
            let bridge = words[0].to_owned();
            let found = app.handle.call(move |slow| {
                let fdb = &slow.state.bridge(slow.state.bridge_named(&bridge)?)?.fdb;
                Some((bridge, fdb.len(), fdb.size(), fdb.counts()))
            });
            let found = found.await.map_err(stopping)?.ok_or("no such bridge")?;
            let (bridge, entries, size, (counts, fixed)) = found;
            Ok(format!(
                "Statistics for bridge \"{bridge}\":\n  Current/maximum MAC entries in the table: {entries}/{size}\n  \
                 Current static MAC entries in the table : {fixed}\n  \
                 Total number of learned MAC entries     : {}\n  Total number of expired MAC entries     : {}\n  \
                 Total number of evicted MAC entries     : {}\n  Total number of port moved MAC entries  : {}\n",
                counts.learned, counts.expired, counts.evicted, counts.moved
            ))
        }
        "fdb/stats-clear" => {
            let only = words.first().map(|&name| name.to_owned());
            let cleared = app.handle.call(move |slow| {
                let bridges = slow.state.bridges();
                let chosen: Vec<_> = bridges
                    .filter(|(_, bridge)| only.as_ref().is_none_or(|only| *only == bridge.name))
                    .map(|(id, _)| id)
                    .collect();
                for id in &chosen {
                    if let Some(bridge) = slow.state.bridge_mut(*id) {
                        bridge.fdb.reset_counts();
                    }
                }
                !chosen.is_empty() || only.is_none()
            });
            if cleared.await.map_err(stopping)? {
                Ok("statistics successfully cleared".into())
            } else {
                Err("no such bridge".into())
            }
        }
        "fdb/flush" => {
            let only = words.first().map(|&name| name.to_owned());
            let flushed = app.handle.call(move |slow| {
                let all: Vec<_> =
                    slow.state.bridges().map(|(id, bridge)| (id, bridge.name.clone())).collect();
                let chosen =
                    all.into_iter().filter(|(_, name)| only.as_ref().is_none_or(|only| only == name));
                let chosen: Vec<_> = chosen.map(|(id, _)| id).collect();
                for id in &chosen {
                    slow.fdb_flush(*id);
                }
                !chosen.is_empty() || only.is_none()
            });
            if flushed.await.map_err(stopping)? {
                Ok("table successfully flushed".into())
            } else {
                Err("no such bridge".into())
            }
        }
        _ => dump_flows(app, words[0].to_owned()).await,
    }
}

/// `bridge/dump-flows`: a line a rule.
async fn dump_flows(app: &App, bridge: String) -> Result<String, String> {
    let text = app.handle.call(move |slow| {
        let id = slow.state.bridge_named(&bridge)?;
        let rules = slow.rules_of(id, &FlowFilter::default(), false);
        let names = BridgePorts { state: &slow.state, bridge: id };
        let mut text = String::new();
        for row in rules {
            let (spec, packets, bytes, seconds) = row.counted();
            if spec.table != 0 {
                let _ = write!(text, "table_id={}, ", spec.table);
            }
            let matches = format_match(&spec.matches, Some(spec.priority), &names);
            let actions = format_actions(&spec.actions, &names);
            let _ = writeln!(
                text,
                "duration={seconds}s, n_packets={packets}, n_bytes={bytes}, {matches},actions={actions}"
            );
        }
        Some(text)
    });
    text.await.map_err(|error| error.to_string())?.ok_or_else(|| "Unknown bridge".to_owned())
}

/// VLAN and MAC address of an entry.
fn fdb_key(vlan: &str, mac: &str) -> Result<(u16, MacAddr), String> {
    let number: Option<u16> = vlan.parse().ok().filter(|vlan| *vlan < 4096);
    let number = number.ok_or_else(|| format!("found {vlan:?}, expected a VLAN from 0 to 4095"))?;
    let address: Option<MacAddr> = mac.parse().ok().filter(|mac: &MacAddr| !mac.is_multicast());
    let address = address.ok_or_else(|| format!("found {mac:?}, expected a MAC address of one station"))?;
    Ok((number, address))
}
