//! `GET /v1/capture/...`: packets as they pass, as a stream of a pcap file. It ends with the client, after as many
//! packets or seconds as were asked for, or with the port; the trailer [`api::CAPTURE_END`] then says why.

use super::refused::Refused;
use super::stream::{LOOK_EVERY, Limits, Piece, Pieces, StreamQuery, Watched};
use crate::control::app::App;
use crate::slowpath::Handle;
use crate::slowpath::capture::{CaptureId, CaptureSource, Captured};
use api::CAPTURE_END;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};
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
/// Longest packet in the file.
const SNAPLEN: u32 = 262_144;

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
    tokio::spawn(Pump { handle, watched, id, packets, to_client, limits }.run());
    let headers = [(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap"), (header::TRAILER, CAPTURE_END)];
    Ok((headers, Body::new(Pieces(pieces))).into_response())
}

/// Carries packets from the slow path to the client.
struct Pump {
    handle: Handle,
    watched: Watched,
    id: CaptureId,
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
        let mut piece = file_header();
        let mut left = self.limits.count;
        let mut looked = Instant::now();
        // A packet that did not fit into the last piece.
        let mut next = None;
        loop {
            while left > 0
                && let Some(packet) = next.take().or_else(|| self.packets.try_recv().ok())
            {
                if !piece.is_empty() && piece.len() + record_len(&packet) > PIECE {
                    next = Some(packet);
                    break;
                }
                record(&mut piece, &packet);
                left -= 1;
            }
            if !piece.is_empty() {
                // Copied, so that what waits for the client is as long as its packets are.
                let bytes = Bytes::copy_from_slice(&piece);
                piece.clear();
                if self.to_client.send(Piece::Bytes(bytes)).await.is_err() {
                    return None;
                }
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
            if next.is_some() {
                continue;
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

/// The head of a pcap file with times in microseconds, Ethernet.
fn file_header() -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.extend(0xa1b2_c3d4u32.to_le_bytes());
    out.extend(2u16.to_le_bytes());
    out.extend(4u16.to_le_bytes());
    for word in [0, 0, SNAPLEN, 1] {
        out.extend(word.to_le_bytes());
    }
    out
}

/// Bytes of a packet that the file has.
fn captured_len(packet: &Captured) -> usize {
    packet.bytes.len().min(SNAPLEN as usize)
}

/// Length of a packet's record in bytes.
fn record_len(packet: &Captured) -> usize {
    16 + captured_len(packet)
}

/// A packet's record.
fn record(out: &mut Vec<u8>, packet: &Captured) {
    let time = packet.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default();
    let captured = captured_len(packet);
    for word in [time.as_secs() as u32, time.subsec_micros(), captured as u32, packet.length as u32] {
        out.extend(word.to_le_bytes());
    }
    out.extend(&packet.bytes[..captured]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::program::PortId;
    use std::time::Duration;

    #[test]
    fn records_are_those_of_a_pcap_file() {
        assert_eq!(file_header().len(), 24);
        let mut out = Vec::new();
        let packet = Captured {
            timestamp: UNIX_EPOCH + Duration::new(5, 7000),
            port: PortId(1),
            outgoing: false,
            length: 60,
            bytes: [9; 14][..].into(),
            sent_by: None,
        };
        record(&mut out, &packet);
        assert_eq!(out[..16], [5, 0, 0, 0, 7, 0, 0, 0, 14, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(out.len(), record_len(&packet));
        assert_eq!(out.len(), 16 + 14);
    }
}
