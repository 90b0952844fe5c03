//! `GET /v1/events`: what happens, a JSON object a line, as it happens.

use crate::control::app::App;
use api::Event;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Lines that wait for the client; then events are lost to it, and it is told how many.
const LINES: usize = 64;

/// `GET /v1/events`.
pub(in crate::control) async fn events(State(app): State<Arc<App>>) -> Response {
    let mut events = app.events.subscribe();
    let (lines, body) = mpsc::channel(LINES);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = lines.closed() => return,
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvError::Lagged(count)) => Arc::new(Event {
                    level: "warn".to_owned(),
                    target: "vxswitch::log".to_owned(),
                    message: format!("{count} events were lost: the reader is too slow"),
                    ..Event::default()
                }),
                Err(RecvError::Closed) => return,
            };
            let Ok(mut line) = serde_json::to_vec(&*event) else { continue };
            line.push(b'\n');
            if lines.send(line).await.is_err() {
                return;
            }
        }
    });
    Lines::answer(body)
}

/// The body of the answer.
pub(super) struct Lines(mpsc::Receiver<Vec<u8>>);

impl Lines {
    /// An answer whose lines come as they are sent.
    pub(super) fn answer(lines: mpsc::Receiver<Vec<u8>>) -> Response {
        ([(CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(lines))).into_response()
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line.into()))))
    }
}
