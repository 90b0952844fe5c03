//! Handlers for groups and meters: they edit the document, and the change of the document does the rest. What names a
//! group or meter that is deleted goes with it, as in Open vSwitch.

use super::flows::{bridge_id, commit};
use super::refused::{Answer, Refused};
use crate::bridge::{BridgeId, BridgePorts};
use crate::control::app::App;
use crate::control::rules::{self, meters_of};
use crate::slowpath::SlowPath;
use api::{Buckets, Done, GroupRow, Groups, MeterRow, Meters, Which};
use axum::Json;
use axum::extract::{Path, Query, State};
use config::{Bridge, Document};
use flow::ofp::PortMap;
use flow::ofp::{
    BucketChange, BucketError, FlowFilter, FlowSpec, GroupSpec, MeterSpec, ParseError, format_group,
    format_meter, parse_bucket_change, parse_group, parse_group_filter, parse_meter, parse_meter_filter,
};
use flow::stats::PacketStats;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What `dump` takes.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct DumpQuery {
    #[serde(default, rename = "match")]
    matches: String,
}

/// What all lists of this kind have in common.
trait Entry: Sized {
    /// What it is called.
    const WHAT: &'static str;
    fn read(text: &str, names: &PortMap) -> Result<Self, ParseError>;
    fn print(&self, names: &PortMap) -> String;
    fn id(&self) -> u32;
    fn list(bridge: &mut Bridge) -> &mut Vec<String>;
    /// Whether a rule names it.
    fn used_by(id: u32, flow: &FlowSpec) -> bool;
}

impl Entry for GroupSpec {
    const WHAT: &'static str = "group";

    fn read(text: &str, names: &PortMap) -> Result<GroupSpec, ParseError> {
        parse_group(text, names)
    }

    fn print(&self, names: &PortMap) -> String {
        format_group(self, names)
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn list(bridge: &mut Bridge) -> &mut Vec<String> {
        &mut bridge.groups
    }

    fn used_by(id: u32, flow: &FlowSpec) -> bool {
        flow.actions.iter().any(|action| action.sends_to_group(id))
    }
}

impl Entry for MeterSpec {
    const WHAT: &'static str = "meter";

    fn read(text: &str, _names: &PortMap) -> Result<MeterSpec, ParseError> {
        parse_meter(text)
    }

    fn print(&self, _names: &PortMap) -> String {
        format_meter(self)
    }

    fn id(&self) -> u32 {
        self.id
    }

    fn list(bridge: &mut Bridge) -> &mut Vec<String> {
        &mut bridge.meters
    }

    fn used_by(id: u32, flow: &FlowSpec) -> bool {
        meters_of(flow).any(|meter| meter == id)
    }
}

fn bad(error: &impl ToString) -> Refused {
    Refused::bad(error.to_string())
}

/// The names of a bridge's ports, as its entries may use them.
async fn names_of(app: &App, bridge: &str) -> Result<PortMap, Refused> {
    let name = bridge.to_owned();
    app.handle.call(move |slow| Ok(rules::names_of(&slow.state, bridge_id(slow, &name)?))).await?
}

fn bridge_of<'d>(document: &'d mut Document, bridge: &str) -> Result<&'d mut Bridge, Refused> {
    document.bridge_mut(bridge).ok_or_else(|| Refused::not_found(format!("no bridge named {bridge}")))
}

/// How entries come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// None may be there.
    Add,
    /// Each must be there.
    Modify,
    /// Either.
    AddOrModify,
}

/// Adds or changes entries: all, or none.
async fn put<E: Entry>(app: &App, bridge: &str, texts: Vec<String>, how: Put) -> Answer<Done> {
    let mut switch = app.desired().await;
    let names = names_of(app, bridge).await?;
    let mut document = switch.document.clone();
    let edited = bridge_of(&mut document, bridge)?;
    // The document's are valid.
    let ids = |list: &[String]| -> Vec<u32> {
        list.iter().map(|text| E::read(text, &names).map_or(u32::MAX, |entry| entry.id())).collect()
    };
    let list = E::list(edited);
    let mut known = ids(list);
    let many = texts.len() > 1;
    for (at, text) in texts.iter().enumerate() {
        let refuse = |message: String| {
            let which = if many { format!("{} {}: ", E::WHAT, at + 1) } else { String::new() };
            Refused::bad(which + &message)
        };
        let entry = E::read(text, &names).map_err(|error| refuse(error.to_string()))?;
        let (id, printed) = (entry.id(), entry.print(&names));
        match (known.iter().position(|other| *other == id), how) {
            (Some(_), Put::Add) => {
                return Err(refuse(format!("{} {id} is there already, expected mod-{0}", E::WHAT)));
            }
            (None, Put::Modify) => {
                return Err(refuse(format!("there is no {} {id}, expected add-{0}", E::WHAT)));
            }
            (Some(place), _) => list[place] = printed,
            (None, _) => {
                list.push(printed);
                known.push(id);
            }
        }
    }
    switch.change(document).await?;
    Ok(Json(Done { changed: texts.len() }))
}

/// Deletes one entry, or all, and the rules that name it.
async fn delete<E: Entry>(app: &App, bridge: &str, which: Option<u32>) -> Answer<Done> {
    let mut switch = app.desired().await;
    let names = names_of(app, bridge).await?;
    let mut document = switch.document.clone();
    let edited = bridge_of(&mut document, bridge)?;
    let mut gone = Vec::new();
    E::list(edited).retain(|text| match E::read(text, &names) {
        Ok(entry) if which.is_none_or(|id| id == entry.id()) => {
            gone.push(entry.id());
            false
        }
        _ => true,
    });
    if gone.is_empty() {
        return Ok(Json(Done { changed: 0 }));
    }
    let changed = gone.len();
    edited.flows.retain(|text| match rules::parse(text, &names) {
        Ok(flow) => !gone.iter().any(|id| E::used_by(*id, &flow)),
        Err(_) => true,
    });
    // Rules with timeouts do not stand in the document. First of all: statistics are complete, and no rule is left
    // that names what goes.
    let name = bridge.to_owned();
    let left = app.handle.call(move |slow| {
        let id = bridge_id(slow, &name)?;
        slow.collect_all();
        let condemned =
            |flow: &FlowSpec| rules::is_timed(flow) && gone.iter().any(|id| E::used_by(*id, flow));
        let bridge = slow.state.bridge_mut(id);
        if bridge.is_some_and(|bridge| !bridge.tables.delete_where(condemned).is_empty()) {
            commit(slow)?;
        }
        Ok::<_, Refused>(())
    });
    left.await??;
    switch.change(document).await?;
    Ok(Json(Done { changed }))
}

/// Rules that name an entry.
fn users<E: Entry>(slow: &SlowPath, bridge: BridgeId, id: u32) -> usize {
    let rules = slow.state.bridge(bridge).map(|bridge| bridge.tables.select(&FlowFilter::default(), false));
    rules.iter().flatten().filter(|rule| E::used_by(id, &rule.spec)).count()
}

fn seconds(since: Duration) -> f64 {
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}

/// `GET /v1/groups/BRIDGE`.
pub(in crate::control) async fn groups(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Query(query): Query<DumpQuery>,
) -> Answer<Vec<GroupRow>> {
    let which = parse_group_filter(&query.matches).map_err(|error| bad(&error))?;
    let rows = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        slow.collect_all();
        let (now, names) = (Instant::now(), BridgePorts { state: &slow.state, bridge: id });
        let groups = slow.state.bridge(id).into_iter().flat_map(|bridge| bridge.groups.values());
        let rows = groups.filter(|group| which.is_none_or(|id| id == group.spec.id)).map(|group| {
            let PacketStats { packets, bytes } = group.stats();
            GroupRow {
                id: group.spec.id,
                group: format_group(&group.spec, &names),
                packets,
                bytes,
                duration: seconds(now.saturating_duration_since(group.created)),
                flows: users::<GroupSpec>(slow, id, group.spec.id),
                buckets: group.bucket_stats().into_iter().map(|stats| (stats.packets, stats.bytes)).collect(),
            }
        });
        Ok::<_, Refused>(rows.collect())
    });
    rows.await?.map(Json)
}

/// `POST /v1/groups/BRIDGE/add`.
pub(in crate::control) async fn group_add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Groups>,
) -> Answer<Done> {
    put::<GroupSpec>(&app, &bridge, body.groups, Put::Add).await
}

/// `POST /v1/groups/BRIDGE/modify`.
pub(in crate::control) async fn group_modify(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Groups>,
) -> Answer<Done> {
    let how = if body.may_create { Put::AddOrModify } else { Put::Modify };
    put::<GroupSpec>(&app, &bridge, body.groups, how).await
}

/// Changes some buckets of a group.
async fn change_buckets(
    app: &App,
    bridge: &str,
    text: &str,
    edit: impl Fn(&mut GroupSpec, BucketChange) -> Result<(), BucketError>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let names = names_of(app, bridge).await?;
    let mut document = switch.document.clone();
    let list = GroupSpec::list(bridge_of(&mut document, bridge)?);
    // The document's are valid.
    let mut groups: Vec<GroupSpec> =
        list.iter().filter_map(|text| GroupSpec::read(text, &names).ok()).collect();
    let kind_of = |id| groups.iter().find(|group| group.id == id).map(|group| group.kind);
    let change = parse_bucket_change(text, kind_of, &names).map_err(|error| bad(&error))?;
    for group in groups.iter_mut().filter(|group| group.id == change.group) {
        edit(group, change.clone()).map_err(|error| bad(&error))?;
    }
    *list = groups.iter().map(|group| group.print(&names)).collect();
    switch.change(document).await?;
    Ok(Json(Done { changed: 1 }))
}

/// `POST /v1/groups/BRIDGE/insert-buckets`.
pub(in crate::control) async fn buckets_insert(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Buckets>,
) -> Answer<Done> {
    let insert =
        |group: &mut GroupSpec, change: BucketChange| group.insert_buckets(change.place, &change.buckets);
    change_buckets(&app, &bridge, &body.buckets, insert).await
}

/// `POST /v1/groups/BRIDGE/remove-buckets`.
pub(in crate::control) async fn buckets_remove(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Buckets>,
) -> Answer<Done> {
    let remove = |group: &mut GroupSpec, change: BucketChange| group.remove_buckets(change.place);
    change_buckets(&app, &bridge, &body.buckets, remove).await
}

/// `POST /v1/groups/BRIDGE/delete`.
pub(in crate::control) async fn group_delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Which>,
) -> Answer<Done> {
    let which = parse_group_filter(&body.matches).map_err(|error| bad(&error))?;
    delete::<GroupSpec>(&app, &bridge, which).await
}

/// `GET /v1/meters/BRIDGE`.
pub(in crate::control) async fn meters(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Query(query): Query<DumpQuery>,
) -> Answer<Vec<MeterRow>> {
    let which = parse_meter_filter(&query.matches).map_err(|error| bad(&error))?;
    let rows = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let now = Instant::now();
        let meters = slow.state.bridge(id).into_iter().flat_map(|bridge| bridge.meters.values());
        let rows = meters.filter(|meter| which.is_none_or(|id| id == meter.spec.id)).map(|meter| {
            let (passed, dropped) = slow.meter_stats(meter);
            MeterRow {
                id: meter.spec.id,
                meter: format_meter(&meter.spec),
                passed_packets: passed.packets,
                passed_bytes: passed.bytes,
                dropped_packets: dropped.packets,
                dropped_bytes: dropped.bytes,
                duration: seconds(now.saturating_duration_since(meter.created)),
                flows: users::<MeterSpec>(slow, id, meter.spec.id),
            }
        });
        Ok::<_, Refused>(rows.collect())
    });
    rows.await?.map(Json)
}

/// `POST /v1/meters/BRIDGE/add`.
pub(in crate::control) async fn meter_add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Meters>,
) -> Answer<Done> {
    put::<MeterSpec>(&app, &bridge, body.meters, Put::Add).await
}

/// `POST /v1/meters/BRIDGE/modify`.
pub(in crate::control) async fn meter_modify(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Meters>,
) -> Answer<Done> {
    put::<MeterSpec>(&app, &bridge, body.meters, Put::Modify).await
}

/// `POST /v1/meters/BRIDGE/delete`.
pub(in crate::control) async fn meter_delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Which>,
) -> Answer<Done> {
    let which = parse_meter_filter(&body.matches).map_err(|error| bad(&error))?;
    delete::<MeterSpec>(&app, &bridge, which).await
}
