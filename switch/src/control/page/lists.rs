//! Tables that are searched, sorted and cut into pages by the switch, because a browser bears hundreds of rows and a
//! switch has a hundred thousand.

use super::Page;
use super::picture::PortRow;
use crate::bridge::BridgeId;
use crate::control::handlers::flows::{bridge_id, traced_as_is};
use crate::control::handlers::refused::{Answer, Refused};
use api::{FdbEntry, MegaflowRow, NeighbourEntry, Trace};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use flow::program::PortId;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::HashMap;

/// Most rows of an answer.
const MOST: usize = 500;
/// Rows of an answer unless more or fewer are asked for.
const ROWS: usize = 50;
/// Megaflows that the slow path writes down in one go: about 2 ms.
const IN_ONE_GO: usize = 1000;

/// What a table is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    /// Of this bridge; of all if empty.
    bridge: String,
    /// Words that must all be in a row, in whatever case.
    search: String,
    /// Column to sort by, downwards where that shows the largest first.
    sort: String,
    offset: usize,
    limit: Option<usize>,
}

impl Wanted {
    fn bridge(&self) -> Option<String> {
        (!self.bridge.is_empty()).then(|| self.bridge.clone())
    }

    /// Whether all words searched for are in one of the texts.
    fn fits(&self, texts: &[&str]) -> bool {
        self.search.split_whitespace().all(|word| texts.iter().any(|text| has(text, word)))
    }

    /// The page of all rows that was asked for.
    fn page<T>(&self, rows: Vec<T>) -> Part<T> {
        let found = rows.len();
        let limit = self.limit.unwrap_or(ROWS).min(MOST);
        Part { found, offset: self.offset, rows: rows.into_iter().skip(self.offset).take(limit).collect() }
    }
}

/// Whether a text has a word in it, in whatever case of ASCII letters.
fn has(text: &str, word: &str) -> bool {
    word.is_empty()
        || text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// Some rows of those found.
#[derive(Debug, Serialize)]
pub(super) struct Part<T> {
    found: usize,
    offset: usize,
    rows: Vec<T>,
}

/// `GET /page/overview`.
pub(super) async fn overview(State(page): State<Page>) -> Result<Response, Refused> {
    let picture = page.watcher.picture().await?;
    let text = serde_json::to_string(&page.watcher.overview(&picture))
        .map_err(|error| Refused::broken(error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

fn order(sort: &str) -> fn(&PortRow, &PortRow) -> Ordering {
    match sort {
        "name" => |a, b| a.interface.name.cmp(&b.interface.name),
        "type" => |a, b| a.interface.kind.cmp(&b.interface.kind),
        "rx" => |a, b| b.rates.rx_bits.total_cmp(&a.rates.rx_bits),
        "tx" => |a, b| b.rates.tx_bits.total_cmp(&a.rates.tx_bits),
        "dropped" => |a, b| b.dropped.cmp(&a.dropped),
        "state" => |a, b| b.trouble.cmp(&a.trouble),
        _ => |_, _| Ordering::Equal,
    }
}

/// `GET /page/ports`.
pub(super) async fn ports(State(page): State<Page>, Query(wanted): Query<Wanted>) -> Answer<Part<PortRow>> {
    let picture = page.watcher.picture().await?;
    let is_wanted = |port: &&PortRow| {
        let row = &port.interface;
        let options: Vec<&str> = row.options.values().map(String::as_str).collect();
        let remotes = row.remotes.iter().flat_map(|r| [r.ip.as_str(), r.state.as_str()]);
        let texts: Vec<&str> = [row.name.as_str(), &row.bridge, &row.kind, &row.link_state, &row.admin_state]
            .into_iter()
            .chain(options)
            .chain(remotes)
            .chain(row.error.as_deref())
            .chain(row.mac_in_use.as_deref())
            .collect();
        (wanted.bridge.is_empty() || row.bridge == wanted.bridge) && wanted.fits(&texts)
    };
    let mut rows: Vec<&PortRow> = picture.ports.iter().filter(is_wanted).collect();
    let order = order(&wanted.sort);
    rows.sort_by(|a, b| order(a, b));
    let Part { found, offset, rows } = wanted.page(rows);
    Ok(Json(Part { found, offset, rows: rows.into_iter().cloned().collect() }))
}

/// `GET /page/megaflows`.
pub(super) async fn megaflows(
    State(page): State<Page>,
    Query(wanted): Query<Wanted>,
) -> Answer<Part<MegaflowRow>> {
    let _one = page.searching.lock().await;
    let handle = &page.app.handle;
    let bridge = wanted.bridge();
    let only = handle
        .call(move |slow| -> Result<Option<BridgeId>, Refused> {
            slow.collect_all();
            bridge.map(|name| bridge_id(slow, &name)).transpose()
        })
        .await??;
    let mut rows = Vec::new();
    for at in 0..page.app.workers.len() {
        let mut from = Some(0);
        while let Some(slot) = from {
            let (part, next) = handle.call(move |slow| slow.megaflow_part(only, at, slot, IN_ONE_GO)).await?;
            rows.extend(part.into_iter().filter(|row| {
                wanted.fits(&[&row.flow, &row.actions, row.bridge.as_deref().unwrap_or_default()])
            }));
            from = next;
        }
    }
    match wanted.sort.as_str() {
        "bytes" => rows.sort_by_key(|row| std::cmp::Reverse(row.bytes)),
        "used" => rows.sort_by(|a, b| {
            let age = |row: &MegaflowRow| row.used.unwrap_or(f64::INFINITY);
            age(a).total_cmp(&age(b))
        }),
        _ => rows.sort_by_key(|row| std::cmp::Reverse(row.packets)),
    }
    Ok(Json(wanted.page(rows)))
}

/// An FDB entry with its bridge.
#[derive(Debug, Serialize)]
pub(super) struct FdbRow {
    bridge: String,
    #[serde(flatten)]
    entry: FdbEntry,
}

/// `GET /page/fdb`.
pub(super) async fn fdb(State(page): State<Page>, Query(wanted): Query<Wanted>) -> Answer<Part<FdbRow>> {
    let _one = page.searching.lock().await;
    let bridge = wanted.bridge();
    // Entries become text here: the slow path has better to do.
    let (tables, names) = page
        .app
        .handle
        .call(move |slow| {
            let now = slow.now();
            let bridges =
                slow.state.bridges().filter(|(_, b)| bridge.as_ref().is_none_or(|name| *name == b.name));
            let tables: Vec<_> = bridges.map(|(_, b)| (b.name.clone(), b.fdb.rows(now))).collect();
            let ids = slow.bridge_views().into_iter().flat_map(|bridge| bridge.ports);
            let names: HashMap<PortId, (String, u32)> =
                ids.map(|port| (port.id, (port.name, port.ofport))).collect();
            (tables, names)
        })
        .await?;
    let mut rows = Vec::new();
    for (bridge, table) in tables {
        for row in table {
            let Some((port, ofport)) = names.get(&row.at.port) else { continue };
            let entry = FdbEntry {
                port: port.clone(),
                ofport: *ofport,
                vlan: row.vlan,
                mac: row.mac.to_string(),
                age: row.age.as_secs(),
                remote: row.at.remote.map(|ip| ip.to_string()),
                fixed: row.fixed,
            };
            let vlan = format!("vlan={}", entry.vlan);
            let remote = entry.remote.as_deref().unwrap_or_default();
            let kind = if entry.fixed { "static" } else { "learned" };
            if wanted.fits(&[&bridge, &entry.port, &entry.mac, &vlan, remote, kind]) {
                rows.push(FdbRow { bridge: bridge.clone(), entry });
            }
        }
    }
    match wanted.sort.as_str() {
        "port" => rows.sort_by(|a, b| a.entry.port.cmp(&b.entry.port)),
        "age" => rows.sort_by_key(|row| row.entry.age),
        _ => {}
    }
    Ok(Json(wanted.page(rows)))
}

/// `GET /page/neighbours`.
pub(super) async fn neighbours(
    State(page): State<Page>,
    Query(wanted): Query<Wanted>,
) -> Answer<Part<NeighbourEntry>> {
    let _one = page.searching.lock().await;
    let mut rows = page.app.handle.call(|slow| slow.neighbour_view(None)).await?;
    rows.retain(|row| {
        let mac = row.mac.as_deref().unwrap_or_default();
        (wanted.bridge.is_empty() || row.bridge == wanted.bridge)
            && wanted.fits(&[&row.bridge, &row.ip, mac, &row.state])
    });
    Ok(Json(wanted.page(rows)))
}

/// What a trace is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct TraceWanted {
    bridge: String,
    flow: String,
}

/// `GET /page/trace`.
pub(super) async fn trace(State(page): State<Page>, Query(wanted): Query<TraceWanted>) -> Answer<Trace> {
    traced_as_is(&page.app, wanted.bridge, wanted.flow).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(search: &str) -> Wanted {
        Wanted { search: search.into(), ..Wanted::default() }
    }

    #[test]
    fn every_word_must_be_somewhere_in_whatever_case() {
        assert!(wanted("").fits(&["a"]));
        assert!(wanted("VX1  192.168").fits(&["vx1", "10.0.0.1->192.168.1.2"]));
        assert!(!wanted("vx1 p9").fits(&["vx1", "p1"]));
        assert!(!wanted("longer").fits(&["long"]));
        assert!(wanted("ö").fits(&["schön"]));
    }

    #[test]
    fn pages_are_cut_from_what_was_found() {
        let part = Wanted { offset: 95, limit: Some(10), ..Wanted::default() }.page((0..100).collect());
        assert_eq!((part.found, part.offset, part.rows), (100, 95, (95..100).collect::<Vec<_>>()));
        let most = Wanted { limit: Some(usize::MAX), ..Wanted::default() }.page((0..1000).collect());
        assert_eq!((most.found, most.rows.len()), (1000, MOST));
        assert_eq!(Wanted { offset: usize::MAX, ..Wanted::default() }.page(vec![1]).rows, [0; 0]);
    }
}
