//! Handlers for what `ovs-ofctl` does with ports: set them up and down, and send packets.

use super::flows::{actions_for, bridge_id, commit, hexadecimal};
use super::refused::{Answer, Refused};
use crate::bridge::{BridgeId, BridgePorts, PortConfig};
use crate::control::app::App;
use crate::slowpath::SlowPath;
use api::{Done, PacketOut, PortModify};
use axum::Json;
use axum::extract::{Path, State};
use flow::ofp::{Action, PORT_ANY, PORT_CONTROLLER, PORT_LOCAL, PortNames};
use flow::program::PortId;
use std::sync::Arc;
use wire::key::FlowKey;
use wire::parse::extract;

/// A port of the bridge by its name or OpenFlow number; `None` for LOCAL.
fn port(slow: &SlowPath, id: BridgeId, text: &str) -> Result<Option<PortId>, Refused> {
    let names = BridgePorts { state: &slow.state, bridge: id };
    let number = names.number(text).or_else(|| text.parse().ok());
    let bridge = slow.state.bridge(id);
    match number {
        _ if text.eq_ignore_ascii_case("LOCAL") => Ok(None),
        Some(PORT_LOCAL) => Ok(None),
        number => number
            .and_then(|number| bridge?.ports.get(&number).copied())
            .map(Some)
            .ok_or_else(|| Refused::not_found(format!("no port {text:?}, expected a name or number"))),
    }
}

const PORT_ACTIONS: &str = "up, receive, forward, flood, packet-in, stp, or down, no-receive, no-forward, no-flood, no-packet-in, no-stp";

/// The bit of `mod-port`'s actions, and whether it is set.
fn port_config(action: &str) -> Option<(u32, bool)> {
    let bit = match action.strip_prefix("no-").unwrap_or(action) {
        "up" | "down" => PortConfig::DOWN,
        "stp" => 1 << 1,
        "receive" => PortConfig::NO_RECEIVE,
        "receive-stp" => 1 << 3,
        "flood" => PortConfig::NO_FLOOD,
        "forward" => PortConfig::NO_FORWARD,
        "packet-in" => 1 << 6,
        _ => return None,
    };
    match (bit, action.starts_with("no-")) {
        (PortConfig::DOWN, true) => None,
        (PortConfig::DOWN, false) => Some((bit, action == "down")),
        (bit, no) => Some((bit, no)),
    }
}

/// `POST /v1/ports/BRIDGE/modify`.
pub(in crate::control) async fn modify(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<PortModify>,
) -> Answer<Done> {
    let set = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let (bits, set) = port_config(&body.action).ok_or_else(|| {
            Refused::bad(format!("mod-port: found {}, expected {PORT_ACTIONS}", body.action))
        })?;
        let found = port(slow, id, &body.port)?;
        if found.is_none() && set && bits == PortConfig::DOWN {
            return Err(Refused::bad("LOCAL is up as long as there is the bridge"));
        }
        let port = found.or_else(|| slow.state.bridge(id).map(|bridge| bridge.local));
        let Some((port, PortConfig(before))) = port.and_then(|id| Some((id, slow.state.port(id)?.config)))
        else {
            return Ok(Done { changed: 0 });
        };
        slow.set_port_config(port, PortConfig(if set { before | bits } else { before & !bits }));
        commit(slow)?;
        Ok(Done { changed: 1 })
    });
    set.await?.map(Json)
}

/// `POST /v1/packet-out/BRIDGE`.
pub(in crate::control) async fn packet_out(
    State(app): State<Arc<App>>,
    Path(bridge): Path<String>,
    Json(body): Json<PacketOut>,
) -> Answer<Done> {
    let packets = body.packets.iter().map(|text| hexadecimal(text)).collect::<Result<Vec<_>, _>>()?;
    let room = app.switch.lock().await.document.dpdk.mbuf_size as usize - usize::from(rte::mempool::HEADROOM);
    if let Some(longest) = packets.iter().map(Vec::len).max().filter(|longest| *longest > room) {
        let why = format!("packet: found {longest} bytes, expected up to {room}, what a buffer has room for");
        return Err(Refused::bad(why));
    }
    let sent = app.handle.call(move |slow| {
        let id = bridge_id(slow, &bridge)?;
        let reserved = [("CONTROLLER", PORT_CONTROLLER), ("NONE", PORT_ANY)];
        let reserved =
            reserved.iter().find(|(name, _)| body.in_port.eq_ignore_ascii_case(name)).map(|(_, n)| *n);
        let port = if reserved.is_some() { None } else { port(slow, id, &body.in_port)? };
        let local = slow.state.bridge(id).map(|bridge| bridge.local);
        let Some(in_port) = port.or(local) else { return Ok(Done { changed: 0 }) };
        // All or none.
        let actions: Vec<Vec<Action>> = packets
            .iter()
            .map(|packet| actions(slow, id, &body.actions, packet))
            .collect::<Result<_, _>>()?;
        for (packet, actions) in packets.iter().zip(&actions) {
            slow.packet_out_by(in_port, reserved, packet, actions);
        }
        Ok::<_, Refused>(Done { changed: packets.len() })
    });
    sent.await?.map(Json)
}

/// Actions for a packet, whose fields they may set as if they stood behind a match of its type.
fn actions(slow: &SlowPath, id: BridgeId, text: &str, packet: &[u8]) -> Result<Vec<Action>, Refused> {
    let mut key = FlowKey::ZERO;
    extract(packet, &mut key).map_err(|error| Refused::bad(format!("packet: {error}")))?;
    actions_for(slow, id, text, &key)
}
