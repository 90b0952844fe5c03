//! One connection: what it sends goes to the bridge, and what happens to the bridge goes to it.

use super::bridge::View;
use super::packets::Packets;
use super::ports::Devices;
use super::tlvs;
use crate::control::app::App;
use crate::control::room::{Doing, Place};
use openflow::server::{Connection, Elections, Event, Output};
use openflow::{Version, messages};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes read at once: also what the slow path serves between two rounds of upcalls.
const CHUNK: usize = 64 << 10;
/// Time that the other side may take to read an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Silence after which a controller is asked whether it is there, and after which it is given up (`inactivity_probe`).
const PROBE: Duration = Duration::from_secs(5);
/// The same for one that came by itself, as `ovs-ofctl monitor` does.
const PROBE_OTHERS: Duration = Duration::from_mins(1);
/// Time for the first message, `HELLO`.
const HELLO: Duration = Duration::from_secs(5);
/// Rules freed between two messages; another thread frees more.
const FREED_HERE: usize = 64;
/// Events that a slow connection may be behind by.
const BEHIND: usize = 1024;

/// What connections of a bridge tell each other.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    /// What happened to the bridge.
    Events(Arc<Vec<Event>>),
    /// This connection became primary: the others are not any more.
    Primary(u64),
}

/// The connections of a bridge.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    /// Its name.
    pub bridge: String,
    notices: broadcast::Sender<Notice>,
    elections: Elections,
    /// Messages of and to controllers, for who snoops on them.
    pub snooped: broadcast::Sender<Arc<Vec<u8>>>,
}

impl Peers {
    /// None yet.
    pub fn of(bridge: &str) -> Peers {
        Peers {
            bridge: bridge.to_owned(),
            notices: broadcast::channel(BEHIND).0,
            elections: Elections::default(),
            snooped: broadcast::channel(BEHIND).0,
        }
    }

    /// Shows whole messages to who snoops on controllers.
    fn show(&self, bytes: &[u8]) {
        if self.snooped.receiver_count() > 0 {
            for message in messages(bytes) {
                // The last may have gone meanwhile.
                let _ = self.snooped.send(Arc::new(message.to_vec()));
            }
        }
    }

    /// Tells all connections what happened to the bridge.
    pub fn tell(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // Nobody may be listening.
            let _ = self.notices.send(Notice::Events(Arc::new(events)));
        }
    }
}

/// Lets a connection put so many refused messages into the log, so that none floods it.
#[derive(Debug)]
struct Refusals {
    left: u32,
    since: Instant,
}

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals { left: Refusals::AT_ONCE, since: Instant::now() }
    }
}

impl Refusals {
    /// In the log, as many at once and a minute as in Open vSwitch.
    const AT_ONCE: u32 = 10;

    fn say(&mut self, refused: &[String], bridge: &str, id: u64) {
        if self.since.elapsed() > Duration::from_mins(1) {
            *self = Refusals::default();
        }
        for error in refused.iter().take(self.left as usize) {
            tracing::info!(%bridge, id, %error, "OpenFlow message refused");
        }
        self.left = self.left.saturating_sub(refused.len() as u32);
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the other side does not read")]
    Stuck,
    #[error("the other side does not answer")]
    Silent,
    #[error("{0}")]
    Protocol(String),
    #[error("the bridge is gone")]
    NoBridge,
    #[error("it gave way to a new one")]
    Evicted,
    #[error(transparent)]
    Stopping(#[from] crate::slowpath::handle::Stopped),
}

/// Who is on the other side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who<'a> {
    /// A controller that was configured.
    Controller,
    /// A tool, which has a place on the bridge's socket as long as others do not need it.
    Tool(&'a Place),
}

impl Who<'_> {
    fn is_controller(self) -> bool {
        matches!(self, Who::Controller)
    }

    fn set(self, doing: Doing) {
        if let Who::Tool(place) = self {
            place.set(doing);
        }
    }

    /// Returns when its place is needed.
    async fn evicted(self) {
        match self {
            Who::Controller => std::future::pending().await,
            Who::Tool(place) => place.evicted().await,
        }
    }

    async fn send<S: AsyncWrite + Unpin>(self, stream: &mut S, bytes: &[u8]) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::select! {
            sent = timeout(PATIENCE, stream.write_all(bytes)) => Ok(sent.map_err(|_| Ended::Stuck)??),
            () = self.evicted() => Err(Ended::Evicted),
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    app: &App,
    stream: S,
    peers: &Peers,
    who: Who<'_>,
) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Relaxed);
    let versions = app.controllers.versions(&peers.bridge);
    let connection = Connection::new(id, &versions, who.is_controller()).among(peers.elections.clone());
    let mut packets = Packets::default();
    let ended = converse(app, stream, peers, connection, who, &mut packets).await;
    packets.end(app).await;
    match ended {
        // Who makes room says so.
        Ok(()) | Err(Ended::Evicted) => {}
        Err(error) => tracing::info!(bridge = %peers.bridge, id, %error, "OpenFlow connection ended"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    app: &App,
    mut stream: S,
    peers: &Peers,
    mut connection: Connection,
    who: Who<'_>,
    packets: &mut Packets,
) -> Result<(), Ended> {
    let (stream, controller) = (&mut stream, who.is_controller());
    let mut notices = peers.notices.subscribe();
    let send = async |stream: &mut S, bytes: &[u8]| {
        if controller {
            peers.show(bytes);
        }
        who.send(stream, bytes).await
    };
    let mut refusals = Refusals::default();
    send(stream, &connection.greeting()).await?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    let (mut last, mut probed) = (Instant::now(), false);
    let probe = if controller { PROBE } else { PROBE_OTHERS };
    loop {
        let greeted = connection.version().is_some();
        let deadline = last
            + if !greeted {
                HELLO
            } else if probed {
                probe * 2
            } else {
                probe
            };
        tokio::select! {
            read = stream.read(&mut chunk) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                (last, probed) = (Instant::now(), false);
                bytes.extend_from_slice(&chunk[..read]);
                if controller {
                    peers.show(&bytes);
                }
                loop {
                    who.set(Doing::Answered);
                    let (back, output, events) = batch(app, connection, &mut bytes, &peers.bridge).await?;
                    connection = back;
                    peers.tell(events);
                    refusals.say(&output.refused, &peers.bridge, connection.id);
                    if output.became_primary {
                        let _ = peers.notices.send(Notice::Primary(connection.id));
                    }
                    send(stream, &output.bytes).await?;
                    for part in output.reply.into_iter().flatten() {
                        let part = part.map_err(|error| Ended::Protocol(error.to_string()))?;
                        send(stream, &part).await?;
                        who.set(Doing::Answered);
                        // Making a part takes as long as others may wait.
                        yield_now().await;
                    }
                    if let Some(why) = output.close {
                        return Err(Ended::Protocol(why));
                    }
                    if let Some(asked) = output.tlv_change {
                        if let Err(error) = tlvs::change(app, &peers.bridge, &asked.change).await {
                            send(stream, &connection.refuse_tlvs(&asked, &error)).await?;
                        }
                    } else if !output.unfinished {
                        break;
                    }
                }
                if connection.listens() {
                    packets.listen(app, &peers.bridge, connection.hears_misses()).await?;
                }
                who.set(if connection.subscribes() { Doing::Listening } else { Doing::Idle });
            }
            notice = notices.recv() => match notice {
                Ok(Notice::Events(events)) => {
                    let bytes: Vec<u8> = events.iter().flat_map(|event| connection.event(event)).collect();
                    send(stream, &bytes).await?;
                }
                Ok(Notice::Primary(other)) if other != connection.id => {
                    send(stream, &connection.demote()).await?;
                }
                Ok(Notice::Primary(_)) => {}
                Err(_) => return Err(Ended::Stuck),
            },
            events = packets.next() => {
                let bytes: Vec<u8> = events.iter().flat_map(|event| connection.event(event)).collect();
                send(stream, &bytes).await?;
            }
            () = who.evicted() => return Err(Ended::Evicted),
            () = sleep_until(deadline) => {
                if !greeted || std::mem::replace(&mut probed, true) {
                    return Err(Ended::Silent);
                }
                send(stream, &connection.probe()).await?;
            }
        }
    }
}

/// Whether whole messages ask for what only devices know: features, or statistics. A barrier of OpenFlow 1.0 has the type
/// that requests for statistics have later.
fn asks_devices(bytes: &[u8]) -> bool {
    let statistics = |message: &[u8]| if message[0] == Version::V10.number() { 16 } else { 18 };
    messages(bytes).any(|message| message[1] == 5 || message[1] == statistics(message))
}

/// Has the slow path serve the messages that are whole.
async fn batch(
    app: &App,
    mut connection: Connection,
    bytes: &mut Vec<u8>,
    bridge: &str,
) -> Result<(Connection, Output, Vec<Event>), Ended> {
    // Held to the end, so that no other change of the switch comes between rules and document.
    let switch = app.switch.lock().await;
    let devices = if asks_devices(bytes) { Devices::of(app, &switch).await } else { Devices::default() };
    let (mut input, name) = (std::mem::take(bytes), bridge.to_owned());
    let served = app.handle.call(move |slow| {
        let mut view = View::of(slow, &name, &devices)?;
        let output = view.with_news(|view| connection.input(&mut input, view));
        let View { events, changed, gone, .. } = view;
        Some((connection, input, output, events, changed, gone))
    });
    let (connection, rest, output, events, changed, gone) = served.await?.ok_or(Ended::NoBridge)?;
    *bytes = rest;
    if gone.len() > FREED_HERE {
        // Nobody waits for it.
        tokio::task::spawn_blocking(move || drop(gone));
    }
    if changed {
        app.note_stale(bridge);
    }
    drop(switch);
    if changed && let Err(error) = app.persist().await {
        tracing::error!(%error, "what OpenFlow changed is not kept");
    }
    Ok((connection, output, events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_ask_no_devices() {
        let (hello, features) = ([6, 0, 0, 8, 0, 0, 0, 1], [1, 5, 0, 8, 0, 0, 0, 1]);
        let (flow_mod, barrier, old_barrier) =
            ([4, 14, 0, 8, 0, 0, 0, 1], [4, 20, 0, 8, 0, 0, 0, 1], [1, 18, 0, 8, 0, 0, 0, 1]);
        for (bytes, asks) in [
            ([hello, features].concat(), true),
            ([flow_mod, barrier].concat(), false),
            ([old_barrier, features].concat(), true),
            (old_barrier.to_vec(), false),
            ([hello, [1, 16, 0, 8, 0, 0, 0, 1]].concat(), true),
            (vec![6, 18, 0, 8, 0, 0, 0, 1], true),
            (vec![6, 18, 0, 9, 0, 0, 0, 1], false),
        ] {
            assert_eq!(asks_devices(&bytes), asks, "{bytes:?}");
        }
    }

    #[test]
    fn only_whole_messages_are_shown() {
        let (hello, echo) = ([4, 0, 0, 8, 0, 0, 0, 1], [4, 2, 0, 9, 0, 0, 0, 2, 7]);
        let bytes = [&hello[..], &echo[..], &[4, 0, 0, 8]].concat();
        assert_eq!(messages(&bytes).collect::<Vec<_>>(), [&hello[..], &echo[..]]);
        // A length that no message has ends it.
        assert_eq!(messages(&[4, 0, 0, 7, 0, 0, 0, 0]).count(), 0);
    }
}
