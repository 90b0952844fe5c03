//! Handlers for rules: what changes them changes the document too, so that it stays the desired state. Rules with
//! timeouts go by themselves and do not stand in the document.

use super::refused::{Answer, Refused};
use crate::bridge::{BridgeId, BridgePorts};
use crate::control::app::App;
use crate::control::apply::aside;
use crate::control::rules::{self, Place, is_timed};
use crate::slowpath::SlowPath;
use api::{Done, FlowDelete, FlowModify, FlowRow, Flows, Trace, TraceRequest};
use axum::Json;
use axum::extract::{Path, Query, State};
use datapath::message::PacketBuffer;
use flow::drop::DropReason;
use flow::ofp::{
    Action, DEFAULT_PRIORITY, FlowFilter, FlowMod, FlowSpec, PortMap, parse_flow_match, parse_flow_mod,
    parse_key,
};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use wire::key::{FlowKey, VLAN_PRESENT};
use wire::parse::extract;

/// The bridge, or 404.
pub(in crate::control) fn bridge_id(slow: &SlowPath, name: &str) -> Result<BridgeId, Refused> {
    slow.state.bridge_named(name).ok_or_else(|| Refused::not_found(format!("no bridge named {name}")))
}

/// By what texts of a bridge's rules are read. It is a copy, so that nothing waits for the reading: neither first packets
/// for the slow path, nor other requests for the control thread. Who holds the switch's lock knows that it stays right.
struct Reading {
    id: BridgeId,
    names: PortMap,
    meters: HashSet<u32>,
    groups: HashSet<u32>,
}

impl Reading {
    async fn of(app: &App, bridge: &str) -> Result<Arc<Reading>, Refused> {
        let name = bridge.to_owned();
        let reading = app.handle.call(move |slow| {
            let id = bridge_id(slow, &name)?;
            let running = slow.state.bridge(id);
            let meters = running.map(|bridge| bridge.meters.keys().copied().collect());
            let groups = running.map(|bridge| bridge.groups.keys().copied().collect());
            Ok::<_, Refused>(Reading {
                id,
                names: rules::names_of(&slow.state, id),
                meters: meters.unwrap_or_default(),
                groups: groups.unwrap_or_default(),
            })
        });
        Ok(Arc::new(reading.await??))
    }

    /// Parses all rules, or says which one is wrong.
    fn parse_all(&self, texts: &[String]) -> Result<Vec<FlowSpec>, Refused> {
        let parse = |(at, text): (usize, &String)| {
            let spec = rules::parse(text, &self.names);
            spec.and_then(|spec| {
                let (meter, group) = (|id| self.meters.contains(&id), |id| self.groups.contains(&id));
                rules::check_references(&spec, meter, group).map(|()| spec)
            })
            .map_err(|error| {
                let which = if texts.len() > 1 { format!("flow {}: ", at + 1) } else { String::new() };
                Refused::bad(format!("{which}{error}"))
            })
        };
        texts.iter().enumerate().map(parse).collect()
    }
}

/// Refuses a rule that names a meter or group that the bridge does not have.
pub(super) fn refers(slow: &SlowPath, id: BridgeId, spec: &FlowSpec) -> Result<(), String> {
    let bridge = slow.state.bridge(id);
    let meter = |id| bridge.is_some_and(|bridge| bridge.meters.contains_key(&id));
    let group = |id| bridge.is_some_and(|bridge| bridge.groups.contains_key(&id));
    rules::check_references(spec, meter, group)
}

pub(in crate::control) fn commit(slow: &mut SlowPath) -> Result<(), Refused> {
    if slow.commit() { Ok(()) } else { Err(Refused::broken("a worker does not answer")) }
}

/// What `dump` takes.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct DumpQuery {
    #[serde(default, rename = "match")]
    matches: String,
    #[serde(default)]
    strict: bool,
}

/// `GET /v1/flows/BRIDGE`.
pub(in crate::control) async fn dump(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Query(query): Query<DumpQuery>,
) -> Answer<Vec<FlowRow>> {
    let rules = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let filter = filter(slow, id, &query.matches)?;
        Ok::<_, Refused>((slow.rules_of(id, &filter, query.strict), rules::names_of(&slow.state, id)))
    });
    let (rules, names) = rules.await??;
    Ok(Json(aside(move || rules.iter().map(|rule| rule.row(&names)).collect()).await?))
}

fn filter(slow: &SlowPath, bridge: BridgeId, text: &str) -> Result<FlowFilter, Refused> {
    parse_flow_match(text, &BridgePorts { state: &slow.state, bridge })
        .map_err(|error| Refused::bad(error.to_string()))
}

/// `POST /v1/flows/BRIDGE/add`.
pub(in crate::control) async fn add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Flows>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let reading = Reading::of(&app, &bridge).await?;
    let id = reading.id;
    let by = Arc::clone(&reading);
    let specs = Arc::new(aside(move || by.parse_all(&body.flows)).await??);
    let adding = Arc::clone(&specs);
    let before = app.handle.call(move |slow| {
        let now = slow.now();
        let mut before = 0;
        if let Some(running) = slow.state.bridge_mut(id) {
            before = running.tables.len();
            for spec in adding.iter() {
                running.tables.add(spec.clone(), now);
            }
        }
        commit(slow)?;
        Ok::<_, Refused>(before..slow.state.bridge(id).map_or(0, |running| running.tables.len()))
    });
    let lens = before.await??;
    let changed = specs.len();
    if let Some(bridge) = switch.document.bridge_mut(&bridge) {
        let flows = bridge.flows.clone();
        bridge.flows = aside(move || with_added(flows, &specs, lens, &reading.names)).await?;
    }
    Ok(Json(Done { changed }))
}

/// A document's rules when these are added; the bridge had and has so many.
fn with_added(
    mut flows: Vec<String>,
    specs: &[FlowSpec],
    lens: Range<usize>,
    names: &PortMap,
) -> Vec<String> {
    // Of several for one place the last one holds.
    let places: HashMap<Place, usize> =
        specs.iter().enumerate().map(|(at, spec)| (Place::of(spec), at)).collect();
    // What has been replaced goes, also by a rule that will go itself. Mostly rules are new, and the document's need not
    // be read.
    if lens.len() < places.len() {
        flows.retain(|old| match rules::parse(old, names) {
            Ok(old) => !places.contains_key(&Place::of(&old)),
            Err(_) => true,
        });
    }
    for (at, spec) in specs.iter().enumerate() {
        if !is_timed(spec) && places.get(&Place::of(spec)) == Some(&at) {
            flows.push(rules::canonical(spec, names));
        }
    }
    flows
}

/// `POST /v1/flows/BRIDGE/delete`.
pub(in crate::control) async fn delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<FlowDelete>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let name = bridge.clone();
    let strict = body.strict;
    let (changed, filter, names) = app
        .handle
        .call(move |slow| {
            let id = bridge_id(slow, &name)?;
            let filter = filter(slow, id, &body.matches)?;
            // Statistics of what goes are complete before it goes.
            slow.collect_all();
            let gone = slow.state.bridge_mut(id).map_or(0, |b| b.tables.delete(&filter, strict).len());
            if gone > 0 {
                commit(slow)?;
            }
            Ok::<_, Refused>((gone, filter, rules::names_of(&slow.state, id)))
        })
        .await??;
    if let Some(bridge) = switch.document.bridge_mut(&bridge) {
        let mut flows = bridge.flows.clone();
        let stays =
            move |old: &String| rules::parse(old, &names).map_or(true, |old| !filter.selects(&old, strict));
        bridge.flows = aside(move || {
            flows.retain(stays);
            flows
        })
        .await?;
    }
    Ok(Json(Done { changed }))
}

/// `POST /v1/flows/BRIDGE/modify`. As with `ovs-ofctl`, which speaks OpenFlow 1.0 for this, a rule is added when none is
/// selected and no cookie was to select by.
pub(in crate::control) async fn modify(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<FlowModify>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let name = bridge.clone();
    let strict = body.strict;
    let (changed, new, change, names) = app
        .handle
        .call(move |slow| {
            let id = bridge_id(slow, &name)?;
            let names = rules::names_of(&slow.state, id);
            let change =
                parse_flow_mod(&body.flow, &names).map_err(|error| Refused::bad(error.to_string()))?;
            // Counts of before are the rules' before they get new actions.
            slow.collect_all();
            let selected = slow
                .state
                .bridge(id)
                .map(|bridge| bridge.tables.select(&change.filter, strict))
                .unwrap_or_default();
            for rule in &selected {
                let changed = modified(&rule.spec, &change);
                refers(slow, id, &changed).map_err(Refused::bad)?;
                if let Some(table) =
                    changed.actions.iter().find_map(goes_to).filter(|to| *to <= changed.table)
                {
                    return Err(Refused::bad(format!(
                        "goto_table:{table}: expected a table above the flow's own ({})",
                        changed.table
                    )));
                }
            }
            let new = (selected.is_empty() && change.filter.cookie_mask == 0).then(|| added(&change));
            if let Some(new) = &new {
                refers(slow, id, new).map_err(Refused::bad)?;
            }
            let now = slow.now();
            if let Some(running) = slow.state.bridge_mut(id) {
                match &new {
                    Some(new) => drop(running.tables.add(new.clone(), now)),
                    None => drop(running.tables.modify(&change, strict, now)),
                }
            }
            let changed = selected.len() + usize::from(new.is_some());
            if changed > 0 {
                commit(slow)?;
            }
            Ok::<_, Refused>((changed, new, change, names))
        })
        .await??;
    if let Some(bridge) = switch.document.bridge_mut(&bridge) {
        if let Some(new) = new {
            bridge.flows.push(rules::canonical(&new, &names));
        } else if changed > 0 {
            let mut flows = bridge.flows.clone();
            bridge.flows = aside(move || {
                for text in &mut flows {
                    if let Ok(spec) = rules::parse(text, &names)
                        && change.filter.selects(&spec, strict)
                    {
                        *text = rules::canonical(&modified(&spec, &change), &names);
                    }
                }
                flows
            })
            .await?;
        }
    }
    Ok(Json(Done { changed }))
}

/// The rule that a change makes where it finds none.
fn added(change: &FlowMod) -> FlowSpec {
    FlowSpec {
        table: change.filter.table.unwrap_or(0),
        priority: change.filter.priority.unwrap_or(DEFAULT_PRIORITY),
        cookie: change.new_cookie.unwrap_or(0),
        matches: change.filter.matches,
        actions: change.actions.clone(),
        ..FlowSpec::default()
    }
}

/// A rule with its new actions and cookie.
fn modified(spec: &FlowSpec, change: &FlowMod) -> FlowSpec {
    FlowSpec {
        actions: change.actions.clone(),
        cookie: change.new_cookie.unwrap_or(spec.cookie),
        ..spec.clone()
    }
}

fn goes_to(action: &Action) -> Option<u8> {
    match action {
        Action::GotoTable(table) => Some(*table),
        _ => None,
    }
}

/// `POST /v1/flows/BRIDGE/replace`.
pub(in crate::control) async fn replace(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<Flows>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let reading = Reading::of(&app, &bridge).await?;
    let id = reading.id;
    let by = Arc::clone(&reading);
    let specs = Arc::new(aside(move || by.parse_all(&body.flows)).await??);
    let wanted = Arc::clone(&specs);
    let replaced =
        app.handle.call(move |slow| if slow.replace_rules(id, &wanted) { commit(slow) } else { Ok(()) });
    replaced.await??;
    let changed = specs.len();
    if let Some(bridge) = switch.document.bridge_mut(&bridge) {
        let texts = move || {
            let stay = specs.iter().filter(|spec| !is_timed(spec));
            stay.map(|spec| rules::canonical(spec, &reading.names)).collect()
        };
        bridge.flows = aside(texts).await?;
    }
    Ok(Json(Done { changed }))
}

/// Longest packet that can be traced, bytes: the largest MTU with its Ethernet header.
const MAX_PACKET: usize = PacketBuffer::SIZE;

/// Bytes of a text of pairs of hexadecimal digits.
pub(super) fn hexadecimal(text: &str) -> Result<Vec<u8>, Refused> {
    let digit = |c: char| c.to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.chars().filter(|c| !c.is_ascii_whitespace()).map(digit).collect();
    let fits = |digits: &Vec<u8>| digits.len().is_multiple_of(2) && digits.len() <= 2 * MAX_PACKET;
    let digits = digits.filter(fits).ok_or_else(|| {
        Refused::bad(format!("packet: expected up to {MAX_PACKET} bytes, each as two hexadecimal digits"))
    })?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// `POST /v1/trace/BRIDGE`.
pub(in crate::control) async fn trace(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<TraceRequest>,
) -> Answer<Trace> {
    traced(&app, bridge, body, None).await.map(Json)
}

/// A trace as text, as `ovs-appctl ofproto/trace` prints it.
pub(in crate::control) async fn trace_text(
    app: &App,
    bridge: String,
    flow: String,
    packet: Option<String>,
    actions: Option<String>,
) -> Result<String, String> {
    let trace = traced(app, bridge, TraceRequest { flow, packet }, actions)
        .await
        .map_err(|refused| refused.message().to_owned())?;
    Ok(as_ofproto_trace(&trace))
}

fn as_ofproto_trace(trace: &Trace) -> String {
    let megaflow = if trace.megaflow.is_empty() { "any packet" } else { &trace.megaflow };
    let last = if trace.final_flow.is_empty() { "unchanged" } else { &trace.final_flow };
    let further = [("Inner frame", &trace.inner), ("Tunnel packet", &trace.outer)];
    let further: String = further
        .into_iter()
        .filter_map(|(name, part)| Some(format!("\n{name}:\n{}", as_ofproto_trace(part.as_deref()?))))
        .collect();
    format!(
        "Flow: {}\n\n{}\n\nFinal flow: {last}\nMegaflow: {megaflow}\nDatapath actions: {}\n{further}",
        trace.flow,
        trace.steps.join("\n"),
        trace.actions
    )
}

/// What would become of a packet, by what is known now: nothing is made for it.
pub(in crate::control) async fn traced_as_is(app: &App, bridge: String, flow: String) -> Answer<Trace> {
    let answer = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let key = parse_key(&flow, &BridgePorts { state: &slow.state, bridge: id })
            .map_err(|error| Refused::bad(error.to_string()))?;
        slow.trace_as_is(id, &key).ok_or_else(|| no_in_port(&bridge))
    });
    let mut trace = answer.await??;
    if trace.reason.as_ref().is_some_and(|drop| drop.reason == DropReason::NoTunnelNextHop.name()) {
        trace.steps.push(
            "no packet went to this remote yet: the first one, or vxctl trace, makes its adjacency".into(),
        );
    }
    Ok(Json(trace))
}

fn no_in_port(bridge: &str) -> Refused {
    Refused::bad(format!("in_port: expected a port of bridge {bridge}, as in_port=NAME"))
}

/// Actions for a packet with these fields, which they may set as if they stood behind a match of its type.
pub(super) fn actions_for(
    slow: &SlowPath,
    id: BridgeId,
    text: &str,
    key: &FlowKey,
) -> Result<Vec<Action>, Refused> {
    let mut rule = String::new();
    if key.vlan_tci.get() & VLAN_PRESENT != 0 {
        rule += "vlan_tci=0x1000/0x1000,";
    }
    let _ = write!(rule, "dl_type={:#06x},", key.dl_type);
    if matches!(key.dl_type.get(), wire::proto::ETH_IPV4 | wire::proto::ETH_IPV6) {
        let _ = write!(rule, "nw_proto={},", key.nw_proto);
    }
    let names = BridgePorts { state: &slow.state, bridge: id };
    let spec = rules::parse(&format!("{rule}actions={text}"), &names).map_err(Refused::bad)?;
    refers(slow, id, &spec).map_err(Refused::bad)?;
    Ok(spec.actions)
}

/// With `actions` the packet is a controller's, and goes by them.
async fn traced(
    app: &App,
    bridge: String,
    body: TraceRequest,
    actions: Option<String>,
) -> Result<Trace, Refused> {
    let answer = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let mut key = parse_key(&body.flow, &BridgePorts { state: &slow.state, bridge: id })
            .map_err(|error| Refused::bad(error.to_string()))?;
        let frame = body.packet.as_deref().map(hexadecimal).transpose()?;
        if let Some(bytes) = &frame {
            // Leaves alone what does not come out of the packet: port, tunnel, metadata.
            extract(bytes, &mut key.flow).map_err(|error| Refused::bad(format!("packet: {error}")))?;
        }
        if let Some(text) = actions {
            let actions = actions_for(slow, id, &text, &key.flow)?;
            return slow.trace_packet_out(id, &key, &actions).ok_or_else(|| no_in_port(&bridge));
        }
        slow.trace_view(id, &key, frame.as_deref()).ok_or_else(|| no_in_port(&bridge))
    });
    answer.await?
}
