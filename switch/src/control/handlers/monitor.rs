//! `GET /v1/monitor`: packets as they come in, each with what becomes of it, a JSON object a line. It ends with the client,
//! after as many packets or seconds as were asked for, or with the port; the trailer [`api::CAPTURE_END`] then says why.

use super::refused::Refused;
use super::stream::{Limits, Piece, Pieces, StreamQuery, Watched, compile};
use crate::control::app::App;
use crate::slowpath::Handle;
use crate::slowpath::monitor::{Fate, MonitorId, MonitorSource, Monitored};
use api::{CAPTURE_END, MonitoredPacket, TraceDrop};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Packets that wait for the client before more are missed.
const WAITING: usize = 64;
/// Monitors at a time.
const MONITORS: usize = 16;

/// `GET /v1/monitor`.
pub(in crate::control) async fn monitor(
    State(app): State<Arc<App>>,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Refused> {
    let limits = query.limits()?;
    let of = query.of().trim_start().to_owned();
    let first = of.split_whitespace().next().unwrap_or_default().to_owned();
    let name = first.clone();
    let port = app.handle.call(move |slow| slow.state.port_named(&name)).await?;
    let (watched, filter) = match port {
        Some(id) => (Watched::Port(first.clone(), id), of[first.len()..].to_owned()),
        None => (Watched::All, of),
    };
    let filter = match compile(&filter).await {
        Err(refused) if port.is_none() => {
            return Err(Refused::bad(format!("no port named {first}, and as a {}", refused.message())));
        }
        other => other?,
    };
    let source = port.map_or(MonitorSource::Devices, MonitorSource::Port);
    let (sink, packets) = mpsc::channel(WAITING);
    let started = app
        .handle
        .call(move |slow| (slow.monitors() < MONITORS).then(|| slow.monitor(source, filter, sink)))
        .await?;
    let Some(id) = started else {
        return Err(Refused::busy(format!("{MONITORS} monitors run already: end one first")));
    };
    let (to_client, pieces) = mpsc::channel(1);
    tokio::spawn(run(app.handle.clone(), (watched, id), packets, to_client, limits));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::TRAILER, CAPTURE_END)];
    Ok((headers, Body::new(Pieces(pieces))).into_response())
}

/// Carries packets from the slow path to the client.
async fn run(
    handle: Handle,
    (watched, id): (Watched, MonitorId),
    packets: mpsc::Receiver<Monitored>,
    to_client: mpsc::Sender<Piece>,
    limits: Limits,
) {
    let end = pass_on(&handle, watched, packets, &to_client, limits).await;
    // Gone with the switch, if it is that.
    let _ = handle.call(move |slow| slow.end_monitor(id)).await;
    if let Some(reason) = end {
        // The client may have gone too.
        let _ = to_client.send(Piece::End(reason)).await;
    }
}

/// Until there is nothing more to do; the reason, unless it is the client's.
async fn pass_on(
    handle: &Handle,
    watched: Watched,
    mut packets: mpsc::Receiver<Monitored>,
    to_client: &mpsc::Sender<Piece>,
    limits: Limits,
) -> Option<String> {
    let mut left = limits.count;
    loop {
        let now = Instant::now();
        if left == 0 || limits.is_over(now) || to_client.is_closed() {
            return None;
        }
        match timeout(limits.patience(now), packets.recv()).await {
            Ok(Some(packet)) => {
                left -= 1;
                if to_client.send(Piece::Bytes(line(packet).into())).await.is_err() {
                    return None;
                }
            }
            // The slow path has ended the monitor.
            Ok(None) => return Some(watched.gone()),
            // Nothing came in that time.
            Err(_) => {
                let still = watched.clone();
                match handle.call(move |slow| still.is_there(&slow.state)).await {
                    Ok(true) => {}
                    Ok(false) => return Some(watched.gone()),
                    Err(error) => return Some(error.to_string()),
                }
            }
        }
    }
}

fn line(packet: Monitored) -> Vec<u8> {
    let Monitored { timestamp, port, bridge, length, fate, missed } = packet;
    let (trace, dropped) = match fate {
        Fate::Explained(trace) => (Some(*trace), None),
        Fate::Dropped(reason) => {
            let (reason, description) = (reason.name().to_owned(), reason.description().to_owned());
            (None, Some(TraceDrop { reason, description }))
        }
    };
    let time = timestamp.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let packet = MonitoredPacket { time, port, bridge, length, trace, dropped, missed };
    // Its maps have no strange keys.
    let mut line = serde_json::to_vec(&packet).unwrap_or_default();
    line.push(b'\n');
    line
}
