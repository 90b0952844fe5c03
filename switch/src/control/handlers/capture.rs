//! `GET /v1/capture/...`: packets as they pass, as a stream of a pcap file, or of a pcapng file where they were dropped. It ends with the client, after as many
//! packets or seconds as were asked for, or with the port; the trailer [`api::CAPTURE_END`] then says why.

use super::refused::Refused;
use super::stream::{LOOK_EVERY, Limits, Piece, Pieces, StreamQuery, Watched};
use crate::control::app::App;
use crate::control::pcap::CaptureFile;
use crate::control::pcapng;
use crate::slowpath::Handle;
use crate::slowpath::capture::{CaptureId, CaptureSource, Captured, DropsOf};
use api::CAPTURE_END;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use flow::drop::DropReason;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Packets that wait for the client before more are lost.
const WAITING: usize = 2048;
/// Captures at a time. Besides the copies that wait for all of them together, one holds at most [`WAITING`] entries of
/// its queue and five pieces (in the making, finished, in the channel, and two that hyper is writing): 0.4 MB.
const CAPTURES: usize = 64;
/// Pieces of the stream that wait for the client.
const PIECES: usize = 1;
/// Bytes of a piece at most, unless one packet is longer. It is sent when nothing more fits, or nothing more waits.
const PIECE: usize = 64 << 10;

/// `GET /v1/capture/port/NAME`.
pub(in crate::control) async fn port(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Refused> {
    let found = app.handle.call(move |slow| match slow.state.port_named(&name) {
        Some(id) => Ok((Watched::Port(name, id), CaptureSource::Port(id))),
        None => Err(Refused::not_found(format!("no port named {name}"))),
    });
    stream(app.handle.clone(), found.await??, &query).await
}

/// `GET /v1/capture/controller/BRIDGE`.
pub(in crate::control) async fn controller(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Refused> {
    let found = app.handle.call(move |slow| {
        let id = super::flows::bridge_id(slow, &name)?;
        Ok::<_, Refused>((Watched::Controller(name, id), CaptureSource::Controller(id)))
    });
    stream(app.handle.clone(), found.await??, &query).await
}

/// `GET /v1/capture/drops`, of a port or for a reason if one is named.
pub(in crate::control) async fn drops(
    State(app): State<Arc<App>>,
    Query(query): Query<StreamQuery>,
) -> Result<Response, Refused> {
    let of = query.of().to_owned();
    let found = app.handle.call(move |slow| {
        if of.is_empty() {
            return Ok((Watched::All, DropsOf::All));
        }
        if let Some(id) = slow.state.port_named(&of) {
            return Ok((Watched::Port(of, id), DropsOf::Port(id)));
        }
        match DropReason::ALL.iter().find(|reason| reason.name() == of) {
            Some(reason) => Ok((Watched::All, DropsOf::Reason(*reason))),
            None => Err(Refused::not_found(format!("drops: no port and no drop reason is named {of}"))),
        }
    });
    let (watched, of) = found.await??;
    stream(app.handle.clone(), (watched, CaptureSource::Drops(of)), &query).await
}

async fn stream(
    handle: Handle,
    (watched, source): (Watched, CaptureSource),
    query: &StreamQuery,
) -> Result<Response, Refused> {
    let (limits, filter) = (query.limits()?, query.filter().await?);
    let (sink, packets) = mpsc::channel(WAITING);
    let started = handle
        .call(move |slow| (slow.captures() < CAPTURES).then(|| slow.capture(source, filter, sink)))
        .await?;
    let Some(id) = started else {
        return Err(Refused::busy(format!("{CAPTURES} captures run already: end one first")));
    };
    let (to_client, pieces) = mpsc::channel(PIECES);
    let file = match source {
        CaptureSource::Drops(_) => CaptureFile::Pcapng(pcapng::Writer::default()),
        _ => CaptureFile::Pcap,
    };
    let headers = [(header::CONTENT_TYPE, file.media_type()), (header::TRAILER, CAPTURE_END)];
    tokio::spawn(Pump { handle, watched, id, file, packets, to_client, limits }.run());
    Ok((headers, Body::new(Pieces(pieces))).into_response())
}

/// Carries packets from the slow path to the client.
struct Pump {
    handle: Handle,
    watched: Watched,
    id: CaptureId,
    file: CaptureFile,
    packets: mpsc::Receiver<Captured>,
    to_client: mpsc::Sender<Piece>,
    limits: Limits,
}

impl Pump {
    async fn run(mut self) {
        let end = self.pass_on().await;
        let id = self.id;
        // Gone with the switch, if it is that.
        let _ = self.handle.call(move |slow| slow.end_capture(id)).await;
        if let Some(reason) = end {
            // The client may have gone too.
            let _ = self.to_client.send(Piece::End(reason)).await;
        }
    }

    /// Until there is nothing more to do; the reason, unless it is the client's.
    async fn pass_on(&mut self) -> Option<String> {
        let mut piece = self.file.head();
        let mut left = self.limits.count;
        let mut looked = Instant::now();
        // A packet that has come, and its record.
        let (mut next, mut record) = (None, Vec::new());
        loop {
            while record.is_empty()
                && left > 0
                && let Some(packet) = next.take().or_else(|| self.packets.try_recv().ok())
            {
                self.file.record(&mut record, &packet);
                left -= 1;
                if !piece.is_empty() && piece.len() + record.len() > PIECE {
                    break;
                }
                piece.append(&mut record);
            }
            if !piece.is_empty() {
                // Copied, so that what waits for the client is as long as its packets are.
                let bytes = Bytes::copy_from_slice(&piece);
                piece.clear();
                if self.to_client.send(Piece::Bytes(bytes)).await.is_err() {
                    return None;
                }
            }
            if !record.is_empty() {
                piece.append(&mut record);
                continue;
            }
            let now = Instant::now();
            if left == 0 || self.limits.is_over(now) {
                return None;
            }
            if now.saturating_duration_since(looked) >= LOOK_EVERY {
                looked = now;
                if self.to_client.is_closed() {
                    return None;
                }
                let watched = self.watched.clone();
                match self.handle.call(move |slow| watched.is_there(&slow.state)).await {
                    Ok(true) => {}
                    Ok(false) => return Some(self.watched.gone()),
                    Err(error) => return Some(error.to_string()),
                }
            }
            match timeout(self.limits.patience(now), self.packets.recv()).await {
                Ok(Some(packet)) => next = Some(packet),
                // Nothing came in that time.
                Err(_) => {}
                // The slow path has ended the capture.
                Ok(None) => return Some(self.watched.gone()),
            }
        }
    }
}
