//! Handlers for tables that fill themselves: FDB, neighbours; and for routes.

use super::flows::bridge_id;
use super::refused::{Answer, Refused};
use crate::control::app::App;
use api::{Done, FdbEdit, FdbEntry, NeighbourEdit, NeighbourEntry, RouteEntry};
use axum::Json;
use axum::extract::{Path, Query, State};
use config::{Bridge, Document, Neighbour, Route, StaticMac};
use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use wire::addr::MacAddr;

fn parse<T: std::str::FromStr>(what: &str, text: &str, expected: &str) -> Result<T, Refused> {
    text.parse().map_err(|_| Refused::bad(format!("{what}: found {text:?}, expected {expected}")))
}

fn mac(text: &str) -> Result<MacAddr, Refused> {
    parse("mac", text, "a MAC address such as 02:00:00:00:0a:01")
}

fn ip(what: &str, text: &str) -> Result<IpAddr, Refused> {
    parse(what, text, "an IP address such as 192.168.1.2")
}

/// `GET /v1/fdb/BRIDGE`.
pub(in crate::control) async fn fdb(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
) -> Answer<Vec<FdbEntry>> {
    let rows = app.handle.call(move |slow| Ok::<_, Refused>(slow.fdb_view(bridge_id(slow, &bridge)?)));
    rows.await?.map(Json)
}

/// `POST /v1/fdb/BRIDGE/add`.
pub(in crate::control) async fn fdb_add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<FdbEdit>,
) -> Answer<Done> {
    let address = mac(&body.mac)?;
    if body.vlan > 4095 {
        return Err(Refused::bad(format!("vlan: found {}, expected 0 to 4095", body.vlan)));
    }
    if address.is_multicast() {
        return Err(Refused::bad(format!("mac: {address} is a group address, expected a station's")));
    }
    let remote = body.remote.as_deref().map(|text| ip("remote", text)).transpose()?;
    let new = StaticMac { mac: address, vlan: body.vlan, port: body.port, remote };
    edit(&app, &bridge, |bridge| {
        if new.port != bridge.name && !bridge.ports.iter().any(|port| port.name == new.port) {
            return Err(Refused::not_found(format!("bridge {} has no port named {}", bridge.name, new.port)));
        }
        bridge.fdb.retain(|old| (old.vlan, old.mac) != (new.vlan, new.mac));
        bridge.fdb.push(new);
        Ok(())
    })
    .await
}

/// `POST /v1/fdb/BRIDGE/delete`.
pub(in crate::control) async fn fdb_delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<FdbEdit>,
) -> Answer<Done> {
    let address = mac(&body.mac)?;
    // A static one stands in the document.
    let mut fixed = false;
    edit(&app, &bridge, |bridge| {
        let before = bridge.fdb.len();
        bridge.fdb.retain(|old| (old.vlan, old.mac) != (body.vlan, address));
        fixed = bridge.fdb.len() < before;
        Ok(())
    })
    .await
    .map(drop)?;
    if fixed {
        return Ok(Json(Done { changed: 1 }));
    }
    let deleted = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        if slow.fdb_delete(id, body.vlan, address) {
            Ok(Done { changed: 1 })
        } else {
            Err(Refused::not_found(format!(
                "bridge {bridge} has no entry for {address} in VLAN {}",
                body.vlan
            )))
        }
    });
    deleted.await?.map(Json)
}

/// `POST /v1/fdb/BRIDGE/flush`.
pub(in crate::control) async fn fdb_flush(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
) -> Answer<Done> {
    let flushed = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        Ok::<_, Refused>(Done { changed: slow.fdb_flush(id) })
    });
    flushed.await?.map(Json)
}

/// Which bridge; none for all.
#[derive(Debug, Deserialize)]
pub(in crate::control) struct BridgeQuery {
    bridge: Option<String>,
    /// Static entries as well.
    #[serde(default)]
    all: bool,
}

/// `GET /v1/neigh`.
pub(in crate::control) async fn neighbours(
    State(app): State<Arc<App>>,
    Query(query): Query<BridgeQuery>,
) -> Answer<Vec<NeighbourEntry>> {
    let rows = app.handle.call(move |slow| {
        let only = query.bridge.map(|name| bridge_id(slow, &name)).transpose()?;
        let mut rows = slow.neighbour_view(only);
        rows.extend(slow.host_view(only));
        Ok::<_, Refused>(rows)
    });
    rows.await?.map(Json)
}

/// `POST /v1/neigh/flush`.
pub(in crate::control) async fn neighbours_flush(
    State(app): State<Arc<App>>,
    Query(query): Query<BridgeQuery>,
) -> Answer<Done> {
    let mut fixed = 0;
    if query.all {
        let mut switch = app.desired().await;
        let mut document: Document = switch.document.clone();
        for bridge in &mut document.bridges {
            if query.bridge.as_ref().is_none_or(|name| *name == bridge.name) {
                fixed += bridge.neighbours.len();
                bridge.neighbours.clear();
            }
        }
        switch.change(document).await?;
    }
    let flushed = app.handle.call(move |slow| {
        let only = query.bridge.map(|name| bridge_id(slow, &name)).transpose()?;
        Ok::<_, Refused>(Done {
            changed: fixed + slow.neighbours_flush(only, None) + slow.hosts_flush(only, None),
        })
    });
    flushed.await?.map(Json)
}

/// `POST /v1/neigh/BRIDGE/delete`: a neighbour, static or resolved.
pub(in crate::control) async fn neighbour_delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<NeighbourEdit>,
) -> Answer<Done> {
    let gone = ip("ip", &body.ip)?;
    let mut fixed = false;
    let done = edit(&app, &bridge, |bridge| {
        let before = bridge.neighbours.len();
        bridge.neighbours.retain(|old| old.ip != gone || body.vlan != 0 && body.vlan != old.vlan);
        fixed = bridge.neighbours.len() != before;
        Ok(())
    })
    .await?;
    if fixed {
        return Ok(done);
    }
    let resolved = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        match slow.neighbours_flush(Some(id), Some(gone)) + slow.hosts_flush(Some(id), Some(gone)) {
            0 => Err(Refused::not_found(format!("bridge {bridge} has no neighbour {gone}"))),
            changed => Ok(Done { changed }),
        }
    });
    resolved.await?.map(Json)
}

/// Changes one bridge of the document, and makes it so.
async fn edit(
    app: &App,
    bridge: &str,
    edit: impl FnOnce(&mut Bridge) -> Result<(), Refused>,
) -> Answer<Done> {
    let mut switch = app.desired().await;
    let mut document: Document = switch.document.clone();
    let entry = document.bridge_mut(bridge);
    edit(entry.ok_or_else(|| Refused::not_found(format!("no bridge named {bridge}")))?)?;
    let changed = usize::from(document != switch.document);
    switch.change(document).await?;
    Ok(Json(Done { changed }))
}

/// `POST /v1/neigh/BRIDGE/set`: a static neighbour.
pub(in crate::control) async fn neighbour_set(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<NeighbourEdit>,
) -> Answer<Done> {
    let new = Neighbour { ip: ip("ip", &body.ip)?, mac: mac(&body.mac)?, vlan: body.vlan };
    edit(&app, &bridge, |bridge| {
        bridge.neighbours.retain(|old| (old.ip, old.vlan) != (new.ip, new.vlan));
        bridge.neighbours.push(new);
        Ok(())
    })
    .await
}

/// `GET /v1/route`.
pub(in crate::control) async fn routes(State(app): State<Arc<App>>) -> Answer<Vec<RouteEntry>> {
    Ok(Json(app.handle.call(|slow| slow.route_view()).await?))
}

fn route(body: &RouteEntry) -> Result<Route, Refused> {
    let to: IpNet = parse("to", &body.to, "a network such as 10.0.0.0/8")?;
    let via = body.via.as_deref().map(|text| ip("via", text)).transpose()?;
    Ok(Route { to: to.trunc(), via })
}

/// `POST /v1/route/BRIDGE/add`: a route to the same prefix is replaced.
pub(in crate::control) async fn route_add(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<RouteEntry>,
) -> Answer<Done> {
    add_route(&app, &bridge, route(&body)?).await
}

/// Adds a route, in the place of one to the same prefix.
pub(in crate::control) async fn add_route(app: &App, bridge: &str, new: Route) -> Answer<Done> {
    edit(app, bridge, |bridge| {
        bridge.routes.retain(|old| old.to.trunc() != new.to);
        bridge.routes.push(new);
        Ok(())
    })
    .await
}

/// `POST /v1/route/BRIDGE/delete`.
pub(in crate::control) async fn route_delete(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<RouteEntry>,
) -> Answer<Done> {
    delete_route(&app, &bridge, route(&body)?).await
}

/// Removes the route to a prefix; with a next hop, only the one over it.
pub(in crate::control) async fn delete_route(app: &App, bridge: &str, gone: Route) -> Answer<Done> {
    edit(app, bridge, |bridge| {
        let before = bridge.routes.len();
        bridge.routes.retain(|old| old.to.trunc() != gone.to || gone.via.is_some() && old.via != gone.via);
        if bridge.routes.len() == before {
            return Err(Refused::not_found(format!("bridge {} has no route to {}", bridge.name, gone.to)));
        }
        Ok(())
    })
    .await
}
