//! Serves a router on a socket, bounded in everything that a client decides: connections, the time in which a request
//! has to come and an answer to be taken, bytes of bodies in memory, and file descriptors.
//!
//! A client can be slow, idle, many, or not there any more; the switch and its operator do not notice.

pub mod bodies;
mod slots;
mod timed;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use slots::{Slot, Slots};
use std::fs::File;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use timed::Timed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// A connection without a whole request head for so long is closed, between two requests too.
const IDLE: Duration = Duration::from_secs(30);
/// An answer of which the client takes nothing for so long ends with its connection.
const UNREAD: Duration = Duration::from_mins(1);
/// Largest head of a request, bytes.
const HEAD: usize = 64 << 10;
/// How long a connection that has to make room may take to close.
const LEAVE: Duration = Duration::from_millis(500);
/// How long the refusal of a connection may take.
const REFUSE: Duration = Duration::from_millis(500);
/// Clients that are answered 503 at a time; others are disconnected without an answer.
const REFUSALS: usize = 16;
/// How long `accept` waits after an error that trying again at once would meet again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Descriptors kept for clients that come when there are no others left.
const RESERVED: usize = 4;
/// What a client without a slot is told.
const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
     connection: close\r\ncontent-length: 61\r\n\r\n{\"error\":\"too many connections are busy: try again shortly\"}\n";

/// Who asks, as far as the socket knows.
#[derive(Debug, Clone)]
pub struct Peer(String);

impl Default for Peer {
    fn default() -> Self {
        Peer("unknown".to_owned())
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A socket that clients connect to.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Io, Peer)> {
        let (io, _) = tokio::net::UnixListener::accept(self).await?;
        let peer = match io.peer_cred() {
            Ok(peer) => Peer(format!("uid {}, pid {}", peer.uid(), peer.pid().unwrap_or(0))),
            Err(_) => Peer::default(),
        };
        Ok((io, peer))
    }
}

impl Listener for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, Peer)> {
        tokio::net::TcpListener::accept(self).await.map(|(io, address)| (io, Peer(address.to_string())))
    }
}

/// Open files that are closed when a connection needs their descriptors, and opened again when it has gone.
#[derive(Debug)]
struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    fn new() -> Arc<Reserve> {
        let reserve = Arc::new(Reserve(Mutex::default()));
        reserve.fill();
        reserve
    }

    /// Opens what is missing, as far as there are descriptors.
    fn fill(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while files.len() < RESERVED {
            let Ok(file) = File::open("/dev/null") else { return };
            files.push(file);
        }
    }

    /// Gives a descriptor back to the process; false when none is left.
    fn spend(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().is_some()
    }
}

/// Serves `router` on `listener` until the task is aborted, for at most `connections` clients at a time.
///
/// When all slots are taken, the connection that has been idle for longest makes room; when all are busy, the new
/// client is told so (503) and not served.
pub async fn serve<L: Listener>(listener: L, router: Router, connections: usize) {
    let service = TowerToHyperService::new(router);
    let slots = Slots::new(connections);
    let reserve = Reserve::new();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let (io, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The client is still in the queue, so without a pause this would spin.
                let room = is_out_of_descriptors(&error)
                    && (reserve.spend() || slots.close_longest_idle(LEAVE).await);
                if !room {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(BACK_OFF).await;
                }
                continue;
            }
        };
        let mut slot = slots.take();
        if slot.is_none() && slots.close_longest_idle(LEAVE).await {
            slot = slots.take();
        }
        match slot {
            Some(slot) => {
                tokio::spawn(connection(io, peer, service.clone(), slot, Arc::clone(&reserve)));
            }
            // Refusals have tasks of their own, so that a slow client does not hold up the next one.
            None => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        refuse(io).await;
                        drop(permit);
                    });
                }
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Serves one client to its end.
async fn connection<I>(
    io: I,
    peer: Peer,
    service: TowerToHyperService<Router>,
    slot: Arc<Slot>,
    reserve: Arc<Reserve>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let busy = Arc::clone(&slot);
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let guard = busy.busy();
        let answer = service.call(request);
        async move {
            let response = answer.await?;
            // Busy until the last byte of the answer is on its way.
            Ok::<Response<Body>, std::convert::Infallible>(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _busy = &guard;
                    frame
                }))
            }))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    let connection = builder.serve_connection(TokioIo::new(Timed::new(io, UNREAD)), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = slot.asked_to_leave() => {
            connection.as_mut().graceful_shutdown();
            // What has come is looked at once more. hyper would wait for the rest of a head that has begun; who has to make
            // room does not.
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => Some(ended),
                () = std::future::ready(()) => None,
            };
            match ended {
                Some(ended) => ended,
                None if slot.is_busy() => connection.await,
                None => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
    drop(slot);
    reserve.fill();
}

/// Tells a client that there is no room for it.
async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let tell = async {
        io.write_all(FULL.as_bytes()).await?;
        io.shutdown().await?;
        // What the client has sent is read, as closing before that would take the answer back (a reset).
        let mut rest = [0; 1024];
        while io.read(&mut rest).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    // Whoever does not listen needs no answer.
    let _ = tokio::time::timeout(REFUSE, tell).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::net::UnixStream;

    #[test]
    fn the_refusal_says_its_length() {
        let (head, body) = FULL.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
    }

    async fn ask(io: &mut UnixStream) -> String {
        io.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut bytes = [0; 4096];
        let n = io.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    #[tokio::test]
    async fn idle_connections_make_room_and_busy_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let gate = Arc::new(tokio::sync::Notify::new());
        let waiting = Arc::clone(&gate);
        let router = Router::new().route("/", get(|| async { "hello" })).route(
            "/wait",
            get(move || async move {
                waiting.notified().await;
                "waited"
            }),
        );
        let server = tokio::spawn(serve(listener, router, 2));
        let mut idle = [UnixStream::connect(&path).await.unwrap(), UnixStream::connect(&path).await.unwrap()];
        for io in &mut idle {
            assert!(ask(io).await.starts_with("HTTP/1.1 200"));
        }
        // A third takes the place of the one that was idle for longer.
        let mut busy = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&mut busy).await.ends_with("hello"));
        assert_eq!(idle[0].read(&mut [0; 8]).await.unwrap(), 0, "closed");
        assert!(ask(&mut idle[1]).await.ends_with("hello"), "the other one stays");
        // Two that are busy stay.
        for io in [&mut busy, &mut idle[1]] {
            io.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut late = UnixStream::connect(&path).await.unwrap();
        let answer = ask(&mut late).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("try again"), "{answer}");
        gate.notify_waiters();
        let mut bytes = [0; 1024];
        let n = busy.read(&mut bytes).await.unwrap();
        assert!(String::from_utf8_lossy(&bytes[..n]).ends_with("waited"));
        server.abort();
    }

    #[tokio::test]
    async fn begun_requests_lock_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let server = tokio::spawn(serve(listener, router, 2));
        let mut begun = Vec::new();
        for _ in 0..50 {
            let mut io = UnixStream::connect(&path).await.unwrap();
            io.write_all(b"GET /v1/do").await.unwrap();
            begun.push(io);
        }
        let mut operator = UnixStream::connect(&path).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(5), ask(&mut operator)).await;
        assert!(answer.expect("an answer in time").ends_with("hello"));
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_send_nothing_or_take_nothing_go() {
        let (client, server) = tokio::io::duplex(64);
        let router = Router::new().route("/", get(|| async { "x".repeat(1 << 20) }));
        let slots = Slots::new(1);
        let task = |io| {
            connection(
                io,
                Peer::default(),
                TowerToHyperService::new(router.clone()),
                slots.take().unwrap(),
                Reserve::new(),
            )
        };
        let began = tokio::time::Instant::now();
        task(server).await;
        assert_eq!(began.elapsed(), IDLE, "no request");
        drop(client);
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let began = tokio::time::Instant::now();
        task(server).await;
        assert_eq!(began.elapsed(), UNREAD, "an answer that nobody takes");
        assert!(slots.take().is_some(), "the slot is free again");
    }
}
