//! What streams have in common: what is asked for, when they end, and how their bodies say why.

use super::refused::Refused;
use crate::bridge::{BridgeId, SwitchState};
use api::CAPTURE_END;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use flow::program::PortId;
use hyper::body::{Body as HttpBody, Frame};
use rte::PacketFilter;
use serde::Deserialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often a stream without packets looks whether client and port are still there.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Characters of a filter.
const LONGEST_FILTER: usize = 4096;

/// What a stream of packets takes.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::control) struct StreamQuery {
    count: Option<u64>,
    seconds: Option<f64>,
    filter: Option<String>,
    /// Of a monitor: a port, a filter, or a filter behind a port, as one types it. Of drops: a port or a reason.
    of: Option<String>,
}

impl StreamQuery {
    /// When it ends.
    pub(super) fn limits(&self) -> Result<Limits, Refused> {
        let until = match self.seconds {
            Some(seconds) => match Duration::try_from_secs_f64(seconds) {
                Ok(seconds) => Instant::now().checked_add(seconds),
                Err(_) => {
                    return Err(Refused::bad(format!("seconds: found {seconds}, expected a number from 0")));
                }
            },
            None => None,
        };
        Ok(Limits { count: self.count.unwrap_or(u64::MAX), until })
    }

    /// What a monitor, or a capture of drops, is of.
    pub(super) fn of(&self) -> &str {
        self.of.as_deref().unwrap_or_default()
    }

    /// The filter, compiled.
    pub(super) async fn filter(&self) -> Result<Option<PacketFilter>, Refused> {
        compile(self.filter.as_deref().unwrap_or_default()).await
    }
}

/// Compiles a filter; there is none in an empty text.
pub(super) async fn compile(text: &str) -> Result<Option<PacketFilter>, Refused> {
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > LONGEST_FILTER {
        return Err(Refused::bad(format!("filter: expected at most {LONGEST_FILTER} characters")));
    }
    let (sink, compiled) = oneshot::channel();
    let expression = text.clone();
    // Names in it are looked up, which may take long: neither this thread nor the end of the switch waits for that.
    let compile = move || sink.send(PacketFilter::compile(&expression)).unwrap_or_default();
    std::thread::Builder::new()
        .name("filter".into())
        .spawn(compile)
        .map_err(|error| Refused::busy(format!("no thread to compile a filter: {error}")))?;
    match compiled.await {
        Ok(Ok(filter)) => Ok(Some(filter)),
        Ok(Err(error)) => Err(Refused::bad(format!("filter {text:?}: {error}"))),
        Err(_) => Err(Refused::broken("the filter was not compiled")),
    }
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// After so many packets.
    pub count: u64,
    /// At this time.
    pub until: Option<Instant>,
}

impl Limits {
    /// Whether the time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// How long to wait for a packet before looking around.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.until.map_or(LOOK_EVERY, |until| until.saturating_duration_since(now).min(LOOK_EVERY))
    }
}

/// What is watched.
#[derive(Debug, Clone)]
pub(super) enum Watched {
    /// A port.
    Port(String, PortId),
    /// What rules of a bridge send to CONTROLLER.
    Controller(String, BridgeId),
    /// All ports.
    All,
}

impl Watched {
    /// Whether it is still there: the number may be another's by now.
    pub(super) fn is_there(&self, state: &SwitchState) -> bool {
        match self {
            Watched::Port(name, id) => state.port_named(name) == Some(*id),
            Watched::Controller(name, id) => state.bridge_named(name) == Some(*id),
            Watched::All => true,
        }
    }

    /// Says that it is not.
    pub(super) fn gone(&self) -> String {
        match self {
            Watched::Port(name, _) => format!("port {name} is gone"),
            Watched::Controller(name, _) => format!("bridge {name} is gone"),
            Watched::All => "the switch is stopping".to_owned(),
        }
    }
}

/// A part of a stream.
pub(super) enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// Why there are no more.
    End(String),
}

/// The body of the answer.
pub(super) struct Pieces(pub mpsc::Receiver<Piece>);

/// An answer of JSON objects, one a line, as they come.
pub(super) fn lines(pieces: mpsc::Receiver<Piece>) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(Pieces(pieces))).into_response()
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| {
            piece.map(|piece| {
                Ok(match piece {
                    Piece::Bytes(bytes) => Frame::data(bytes),
                    Piece::End(reason) => {
                        let reason = HeaderValue::from_str(&reason);
                        let reason = reason.unwrap_or_else(|_| HeaderValue::from_static("the capture ended"));
                        Frame::trailers(HeaderMap::from_iter([(
                            HeaderName::from_static(CAPTURE_END),
                            reason,
                        )]))
                    }
                })
            })
        })
    }
}
