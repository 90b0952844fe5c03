//! Handlers that only show.

use super::refused::{Answer, Refused};
use crate::control::app::App;
use crate::control::apply::{RunningPort, Switch};
use crate::control::device::Device;
use crate::control::totals::Totals;
use crate::slowpath::show::{BridgeView, PortView};
use api::{
    BfdRow, BridgeRow, DropRow, Drops, EvpnRow, InterfaceRow, LcoreRow, MegaflowRow, Show, UpcallStats,
};
use axum::Json;
use axum::extract::{Path, Query, State};
use flow::drop::DropReason;
use flow::program::PortId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use wire::parse::Anomaly;

/// How long the list of unknown tunnels is waited for.
const UNKNOWN_WITHIN: Duration = Duration::from_secs(1);
/// Megaflows shown unless more are asked for.
const MEGAFLOWS: usize = 100_000;

/// A port's counters, named as in Open vSwitch's `statistics`.
fn statistics(port: &RunningPort, app: &App) -> BTreeMap<String, u64> {
    let counted = Totals::read(&app.counters, port.id).since(&port.before);
    let device = port.device.as_ref().map(Device::stats).unwrap_or_default();
    let retries = port.device.as_ref().and_then(Device::tx_retries);
    [
        ("rx_packets", counted.rx_packets),
        ("rx_bytes", counted.rx_bytes),
        ("tx_packets", counted.tx_packets),
        ("tx_bytes", counted.tx_bytes),
        ("rx_dropped", device.rx_missed + device.rx_nombuf),
        ("tx_dropped", counted.tx_dropped),
        ("rx_errors", device.rx_errors),
        ("tx_errors", device.tx_errors),
    ]
    .into_iter()
    .chain(retries.map(|retries| ("ovs_tx_retries", retries)))
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn interface_row(app: &App, switch: &Switch, bridge: &BridgeView, view: &PortView) -> InterfaceRow {
    let mut row = InterfaceRow {
        name: view.name.clone(),
        bridge: bridge.name.clone(),
        kind: "internal".into(),
        ofport: view.ofport,
        mac_in_use: Some(bridge.mac.clone()),
        admin_state: if view.down { "down" } else { "up" }.into(),
        link_state: "up".into(),
        remotes: view.remotes.clone(),
        bfd_status: view.bfd.as_ref().map(BfdRow::status).unwrap_or_default(),
        ..InterfaceRow::default()
    };
    let running = switch.ports.get(&view.name);
    if let Some(running) = running {
        row.statistics = statistics(running, app);
    }
    let Some((_, port)) = switch.document.port(&view.name) else {
        row.error = app.faults.error(&view.name);
        if let Some(device) = running.and_then(|r| r.device.as_ref()) {
            of_device(&mut row, device, view.up);
        } else if row.error.is_some() {
            row.link_state = "down".into();
        }
        return row;
    };
    row.kind.clone_from(&port.kind);
    row.tag = port.tag;
    row.trunks.clone_from(&port.trunks);
    row.vlan_mode = port.vlan_mode.map(|mode| mode.to_string());
    row.options.clone_from(&port.options);
    row.mtu = port.mtu;
    row.mac_in_use = None;
    row.error = app.faults.error(&port.name);
    if let Some(device) = running.and_then(|r| r.device.as_ref()) {
        of_device(&mut row, device, view.up);
    } else if row.error.is_some() {
        row.link_state = up(false);
    } else if port.port_kind().is_ok_and(|kind| kind.tunnel_type().is_some()) {
        // Where rules set the remote, there is none to know of.
        row.link_state = up(view.remotes.is_empty() || view.remotes.iter().any(|r| r.state == "ready"));
    }
    row
}

/// A link's state as it is shown.
fn up(up: bool) -> String {
    if up { "up" } else { "down" }.to_owned()
}

/// What a running device says of itself. Its link is up when packets are sent to it: from when the slow path knows.
fn of_device(row: &mut InterfaceRow, device: &Device, known_up: bool) {
    let link = device.link();
    row.mac_in_use = Some(device.mac.to_string());
    row.mtu = Some(device.mtu);
    row.driver = Some(device.info.driver.clone());
    row.queues = Some(device.queues);
    row.status = device.status();
    row.link_state = link.map_or_else(|| "unknown".to_owned(), |link| up(link.up && known_up));
    // What the switch made in the kernel is up or down as the kernel's user says.
    if device.is_tap() && link.is_some_and(|link| !link.up) {
        row.admin_state = up(false);
    }
    let speed = device.link_settings().and_then(|settings| settings.speed);
    row.link_speed = speed.map(|mbit| u64::from(mbit) * 1_000_000);
}

/// All bridges with their ports, in the order of the document.
pub(in crate::control) async fn bridge_rows(app: &App, switch: &Switch) -> Result<Vec<BridgeRow>, Refused> {
    let views = app.handle.call(|slow| slow.bridge_views()).await?;
    Ok(switch
        .document
        .bridges
        .iter()
        .filter_map(|bridge| Some((bridge, views.iter().find(|view| view.name == bridge.name)?)))
        .map(|(bridge, view)| BridgeRow {
            name: bridge.name.clone(),
            fail_mode: bridge.fail_mode.to_string(),
            mac: view.mac.clone(),
            datapath_id: format!("{:016x}", view.datapath_id),
            addresses: view.addresses.clone(),
            flows: view.flows,
            fdb_entries: view.fdb_entries,
            ports: view.ports.iter().map(|port| interface_row(app, switch, view, port)).collect(),
        })
        .collect())
}

/// All ports.
pub(in crate::control) async fn interface_rows(
    app: &App,
    switch: &Switch,
) -> Result<Vec<InterfaceRow>, Refused> {
    Ok(bridge_rows(app, switch).await?.into_iter().flat_map(|bridge| bridge.ports).collect())
}

/// The whole of `show`.
pub(in crate::control) async fn show_all(app: &App, switch: &Switch) -> Result<Show, Refused> {
    Ok(Show { version: env!("CARGO_PKG_VERSION").into(), bridges: bridge_rows(app, switch).await? })
}

/// `GET /v1/show`.
pub(in crate::control) async fn show(State(app): State<Arc<App>>) -> Answer<Show> {
    let switch = app.switch.lock().await;
    show_all(&app, &switch).await.map(Json)
}

/// `GET /v1/interfaces`.
pub(in crate::control) async fn interfaces(State(app): State<Arc<App>>) -> Answer<Vec<InterfaceRow>> {
    let switch = app.switch.lock().await;
    interface_rows(&app, &switch).await.map(Json)
}

/// `GET /v1/interfaces/NAME`.
pub(in crate::control) async fn interface(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<InterfaceRow> {
    let switch = app.switch.lock().await;
    let rows = interface_rows(&app, &switch).await?;
    let row = rows.into_iter().find(|row| row.name == name);
    row.map(Json).ok_or_else(|| Refused::not_found(format!("no interface named {name}")))
}

/// `GET /v1/lcores`.
pub(in crate::control) async fn lcores(State(app): State<Arc<App>>) -> Answer<Vec<LcoreRow>> {
    let switch = app.switch.lock().await;
    lcore_rows(&app, &switch).await.map(Json)
}

/// What the workers do.
pub(in crate::control) async fn lcore_rows(app: &App, switch: &Switch) -> Result<Vec<LcoreRow>, Refused> {
    let tables = app.handle.call(|slow| slow.table_views()).await?;
    let row = |(at, worker): (usize, &crate::control::app::WorkerInfo)| {
        let c = &worker.counters;
        let (busy, idle) = (c.busy_cycles.get(), c.idle_cycles.get());
        let table = tables.iter().find(|table| table.lcore == worker.lcore);
        let polls = |port: &RunningPort| port.device.as_ref().map(|d| d.pollers.clone()).unwrap_or_default();
        let rx = switch.ports.iter().flat_map(|(name, port)| {
            let mine = polls(port).into_iter().enumerate().filter(|(_, w)| *w == at).map(|(queue, _)| queue);
            mine.map(|queue| format!("{name}/{queue}")).collect::<Vec<_>>()
        });
        LcoreRow {
            lcore: worker.lcore,
            rx: rx.collect(),
            iterations: c.iterations.get(),
            busy_cycles: busy,
            idle_cycles: idle,
            sleep_cycles: c.sleep_cycles.get(),
            sleeps: c.sleeps.get(),
            sleep_max: worker.link.sleep_max.load(Relaxed),
            busy_percent: 100.0 * busy as f64 / (busy + idle).max(1) as f64,
            rx_packets: c.rx.get(),
            tx_packets: c.tx.get(),
            dropped: c.dropped.get(),
            cache_hits: c.cache_hits.get(),
            megaflow_hits: c.megaflow_hits.get(),
            no_key_hits: c.no_key_hits.get(),
            misses: c.misses.get(),
            upcalls: c.upcalls.get(),
            held: c.held.get(),
            injected: c.injected.get(),
            copied: c.copied.get(),
            merged: c.merged.get(),
            punted: c.punted.get(),
            tx_handoff_sent: c.tx_handoff_sent.get(),
            tx_handoff_received: c.tx_handoff_received.get(),
            megaflows: table.map_or(0, |t| t.megaflows),
            masks: table.map_or(0, |t| t.masks),
            bytes_per_megaflow: worker.bytes_per_megaflow,
            bytes_per_cache_entry: worker.bytes_per_cache_entry,
            cycles_per_packet: (c.rx.get() > 0).then(|| busy as f64 / c.rx.get() as f64),
        }
    };
    Ok(app.workers.iter().enumerate().map(row).collect())
}

/// Drops by reason and port. What belongs to ports that are gone is summed up.
pub(in crate::control) fn drop_rows(app: &App, switch: &Switch) -> Vec<DropRow> {
    let none = Totals::default();
    let mut ports: Vec<(&str, Totals)> = switch
        .ports
        .iter()
        .map(|(name, port)| (name.as_str(), Totals::read(&app.counters, port.id).since(&port.before)))
        .collect();
    ports.push(("(no tunnel port)", Totals::read(&app.counters, PortId::TUNNEL_MISS).since(&none)));
    DropReason::ALL
        .iter()
        .enumerate()
        .map(|(at, reason)| {
            let packets = app.counters.iter().map(|c| c.drops_total(*reason)).sum::<u64>();
            let mut by_port: Vec<(String, u64)> =
                ports.iter().map(|(name, totals)| ((*name).to_owned(), totals.drops[at])).collect();
            // Workers count on while this reads, so the sum may be ahead of the total.
            let known: u64 = by_port.iter().map(|(_, n)| n).sum();
            by_port.push(("(removed)".to_owned(), packets.saturating_sub(known)));
            by_port.retain(|(_, n)| *n > 0);
            by_port.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            let description = reason.description().to_owned();
            DropRow { reason: reason.name().to_owned(), packets, ports: by_port, description }
        })
        .collect()
}

/// `GET /v1/drops`.
pub(in crate::control) async fn drops(State(app): State<Arc<App>>) -> Json<Drops> {
    let switch = app.switch.lock().await;
    let malformed = Anomaly::ALL.iter().map(|anomaly| DropRow {
        reason: anomaly.name().to_owned(),
        packets: app.counters.iter().map(|c| c.anomalies(*anomaly)).sum(),
        ports: Vec::new(),
        description: anomaly.description().to_owned(),
    });
    // What is counted is shown also when the slow path does not answer.
    let unknown =
        tokio::time::timeout(UNKNOWN_WITHIN, app.handle.call(|slow| slow.unknown_tunnel_view())).await;
    let unknown_tunnels = unknown.ok().and_then(Result::ok).unwrap_or_default();
    Json(Drops { drops: drop_rows(&app, &switch), malformed: malformed.collect(), unknown_tunnels })
}

/// `GET /v1/upcall`.
pub(in crate::control) async fn upcall(State(app): State<Arc<App>>) -> Answer<UpcallStats> {
    let mut stats = app.handle.call(|slow| slow.upcall_view()).await?;
    stats.lost = app.counters.iter().map(|c| c.drops_total(DropReason::UpcallQueueFull)).sum();
    Ok(Json(stats))
}

/// `GET /v1/bfd`.
pub(in crate::control) async fn bfd(State(app): State<Arc<App>>) -> Answer<Vec<BfdRow>> {
    Ok(Json(app.handle.call(|slow| slow.bfd_view()).await?))
}

/// `GET /v1/evpn`.
pub(in crate::control) async fn evpn(State(app): State<Arc<App>>) -> Json<Vec<EvpnRow>> {
    Json(app.evpn.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// What `megaflows` takes.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct MegaflowQuery {
    bridge: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/megaflows`.
pub(in crate::control) async fn megaflows(
    State(app): State<Arc<App>>,
    Query(query): Query<MegaflowQuery>,
) -> Answer<Vec<MegaflowRow>> {
    let limit = query.limit.unwrap_or(MEGAFLOWS);
    let rows = app.handle.call(move |slow| {
        let Some(name) = query.bridge else { return Ok(slow.megaflow_view(None, limit)) };
        match slow.state.bridge_named(&name) {
            Some(id) => Ok(slow.megaflow_view(Some(id), limit)),
            None => Err(Refused::not_found(format!("no bridge named {name}"))),
        }
    });
    rows.await?.map(Json)
}
