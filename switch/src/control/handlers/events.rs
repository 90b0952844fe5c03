//! `GET /v1/events`: what happens, a JSON object a line, as it happens.

use super::stream::{Piece, lines};
use crate::control::app::App;
use api::Event;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Lines that wait for the client; then events are lost to it, and it is told how many.
const LINES: usize = 64;

/// `GET /v1/events`.
pub(in crate::control) async fn events(State(app): State<Arc<App>>) -> Response {
    let mut events = app.events.subscribe();
    let (to_client, pieces) = mpsc::channel(LINES);
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = to_client.closed() => return,
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
            if to_client.send(Piece::Bytes(line.into())).await.is_err() {
                return;
            }
        }
    });
    lines(pieces)
}
