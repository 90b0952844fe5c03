//! Bodies of requests, bounded while they are read: each, and all together.

use api::ErrorBody;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header::CONTENT_LENGTH};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest body: a document or a list of rules as long as a file may be.
pub const MAX_BODY: usize = 64 << 20;
/// All bodies that are read or worked on, together. Half as much again as the largest one, so that small requests
/// are served beside it.
const MAX_BODIES: usize = 96 << 20;
/// What is counted as one.
const UNIT: usize = 1 << 10;
/// A body of which nothing comes for so long is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// A body that is not there after so long is given up.
const WHOLE: Duration = Duration::from_mins(2);

/// Room for bodies in memory.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Room(Arc::new(Semaphore::new(MAX_BODIES / UNIT)))
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(ErrorBody { error: error.to_owned() })).into_response()
}

fn too_large() -> Response {
    refuse(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the request is too large: expected at most {} MiB", MAX_BODY >> 20),
    )
}

/// Reads the whole body before anything is done with the request, and holds its place until the answer is there.
pub async fn bounded(State(room): State<Room>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > MAX_BODY) {
        return too_large();
    }
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(WHOLE, read(body, declared.unwrap_or(0), &room));
    let (bytes, place) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(refusal)) => return refusal,
        Err(_) => return late(),
    };
    let answer = next.run(Request::from_parts(head, Body::from(bytes))).await;
    drop(place);
    answer
}

fn late() -> Response {
    refuse(StatusCode::REQUEST_TIMEOUT, "the request did not come in time")
}

async fn read(
    mut body: Body,
    declared: usize,
    room: &Room,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Response> {
    let full =
        || refuse(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at a time: try again shortly");
    let mut place: Option<OwnedSemaphorePermit> = None;
    // What is declared is not believed: memory is taken as bytes come.
    let mut bytes = Vec::with_capacity(declared.min(16 * UNIT));
    loop {
        let Ok(frame) = tokio::time::timeout(SILENCE, body.frame()).await else { return Err(late()) };
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| refuse(StatusCode::BAD_REQUEST, &format!("the request: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
        // A vector grows by doubling: what it has, not what it holds, is memory.
        let held = place.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.capacity().min(MAX_BODY).div_ceil(UNIT);
        if wanted > held {
            let more =
                Arc::clone(&room.0).try_acquire_many_owned((wanted - held) as u32).map_err(|_| full())?;
            match &mut place {
                Some(place) => place.merge(more),
                None => place = Some(more),
            }
        }
    }
    Ok((bytes.into(), place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use hyper::body::{Body as HttpBody, Frame};
    use hyper_util::service::TowerToHyperService;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::sync::mpsc;

    type Piece = Result<Frame<Bytes>, Infallible>;

    /// A body of the pieces that come through a channel.
    struct Sent(mpsc::Receiver<Piece>);

    impl HttpBody for Sent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
            self.0.poll_recv(context)
        }
    }

    fn body() -> (mpsc::Sender<Piece>, Body) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Body::new(Sent(receiver)))
    }

    async fn call(router: &Router, body: Body) -> StatusCode {
        use hyper::service::Service;
        let request = axum::http::Request::post("/").body(body).unwrap();
        TowerToHyperService::new(router.clone()).call(request).await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_bounded_each_and_together_and_in_time() {
        let room = Room::default();
        let router = Router::new()
            .route("/", post(|bytes: Bytes| async move { bytes.len().to_string() }))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(from_fn_with_state(room.clone(), bounded));
        assert_eq!(call(&router, Body::from("abc")).await, StatusCode::OK);
        let piece = || Ok(Frame::data(Bytes::from(vec![b'x'; 1 << 20])));
        let feed = async |sender: &mpsc::Sender<Piece>, pieces: usize| {
            for _ in 0..pieces {
                if sender.send(piece()).await.is_err() {
                    return;
                }
            }
        };
        // Longer than one may be, without saying so beforehand.
        let (sender, long) = body();
        let answer = tokio::spawn({
            let router = router.clone();
            async move { call(&router, long).await }
        });
        feed(&sender, 65).await;
        assert_eq!(answer.await.unwrap(), StatusCode::PAYLOAD_TOO_LARGE);
        // Two of 40 MB do not fit beside each other (a vector of 64 each); the second is refused, the first is served.
        let (first, body_of_first) = body();
        let answer = tokio::spawn({
            let router = router.clone();
            async move { call(&router, body_of_first).await }
        });
        feed(&first, 40).await;
        let (second, body_of_second) = body();
        let refused = tokio::spawn({
            let router = router.clone();
            async move { call(&router, body_of_second).await }
        });
        feed(&second, 40).await;
        assert_eq!(refused.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            call(&router, Body::from("small")).await,
            StatusCode::OK,
            "small ones are served meanwhile"
        );
        drop(first);
        assert_eq!(answer.await.unwrap(), StatusCode::OK);
        assert_eq!(room.0.available_permits(), MAX_BODIES / UNIT, "all room is free again");
        // One that stops in the middle.
        let (silent, rest) = body();
        silent.send(piece()).await.unwrap();
        assert_eq!(call(&router, rest).await, StatusCode::REQUEST_TIMEOUT);
        drop(silent);
    }
}
