//! The sockets of bridges, and the connections that come by them.

use super::connection::{Peers, Who, serve};
use super::controllers::Target;
use super::follow::{self, KnownPorts};
use super::reach::{bind, keep};
use super::snoop;
use crate::control::app::App;
use crate::control::room::{Doing, Room};
use crate::control::socket::Remove;
use openflow::Version;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// How often the bridges are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// The longest time until a socket that cannot be had is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Connections that a bridge's socket may have at once.
const CONNECTIONS: usize = 512;
/// Who may snoop on a bridge's controllers at once.
const SNOOPERS: usize = 8;

/// A bridge's socket. Dropped, it is gone, and so are its connections.
struct Socket {
    peers: Peers,
    ports: KnownPorts,
    _accepting: JoinSet<()>,
    /// What keeps the connections to controllers.
    controllers: BTreeMap<Target, JoinSet<()>>,
    /// The versions that these speak.
    versions: Vec<Version>,
    /// How often they were asked to connect anew.
    reconnects: u64,
    _remove: [Remove; 2],
}

impl Socket {
    /// Begins with controllers that are wanted now, and ends with those that are not.
    fn follow(&mut self, app: &Arc<App>) {
        let wanted = app.controllers.of(&self.peers.bridge);
        let versions = app.controllers.versions(&self.peers.bridge);
        let reconnects = app.controllers.reconnects(&self.peers.bridge);
        if self.versions != versions || self.reconnects != reconnects {
            // They begin anew, with a version that is still spoken.
            self.controllers.clear();
            (self.versions, self.reconnects) = (versions, reconnects);
        }
        self.controllers.retain(|target, _| wanted.contains(target));
        for target in wanted {
            let (app, peers) = (Arc::clone(app), self.peers.clone());
            self.controllers.entry(target.clone()).or_insert_with(|| {
                let mut keeping = JoinSet::new();
                keeping.spawn(keep(app, peers, target));
                keeping
            });
        }
    }
}

/// A bridge has no socket.
struct Refused {
    /// Why, which is said once.
    why: String,
    /// When it was tried last.
    since: Instant,
    /// How long until it is tried again: whoever else answers there hears of every try.
    wait: Duration,
}

/// Keeps a socket for every bridge, until it is dropped.
pub async fn run(app: Arc<App>, dir: PathBuf) {
    let mut sockets: BTreeMap<String, Socket> = BTreeMap::new();
    let mut refused: BTreeMap<String, Refused> = BTreeMap::new();
    let mut timer = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = app.sockets.wanted() => {}
        }
        let begun = app.sockets.begin();
        let names: Vec<String> = {
            let switch = app.switch.lock().await;
            switch.document.bridges.iter().map(|bridge| bridge.name.clone()).collect()
        };
        sockets.retain(|name, _| names.contains(name));
        refused.retain(|name, _| names.contains(name));
        for (name, socket) in &mut sockets {
            socket.follow(&app);
            let Ok(events) = follow::of_bridge(&app, name, &mut socket.ports).await else { return };
            socket.peers.tell(events);
        }
        for name in names {
            // A name is a file's here.
            let waits = refused.get(&name).is_some_and(|refused| refused.since.elapsed() < refused.wait);
            if waits || sockets.contains_key(&name) || name.contains('/') {
                continue;
            }
            match listen(&app, &dir, &name) {
                Ok(socket) => {
                    refused.remove(&name);
                    sockets.insert(name, socket);
                }
                Err(error) => {
                    let (since, why) = (Instant::now(), error.to_string());
                    let before = refused.remove(&name);
                    let wait = before.as_ref().map_or(EVERY, |before| (before.wait * 2).min(LONGEST_WAIT));
                    if before.is_none_or(|before| before.why != why) {
                        tracing::warn!(bridge = %name, %error, "no OpenFlow socket: tried again");
                    }
                    refused.insert(name, Refused { why, since, wait });
                }
            }
        }
        app.sockets.end(begun);
    }
}

fn listen(app: &Arc<App>, dir: &Path, name: &str) -> io::Result<Socket> {
    let [path, snoop] = ["mgmt", "snoop"].map(|kind| dir.join(format!("{name}.{kind}")));
    // Whoever waits for a bridge's socket finds both.
    let snoopers = bind(&snoop)?;
    let listener = bind(&path)?;
    let peers = Peers::of(name);
    let mut accepting = JoinSet::new();
    accepting.spawn(accept(Arc::clone(app), listener, peers.clone()));
    accepting.spawn(accept_snoopers(snoopers, peers.clone()));
    Ok(Socket {
        peers,
        ports: KnownPorts::default(),
        _accepting: accepting,
        controllers: BTreeMap::new(),
        versions: app.controllers.versions(name),
        reconnects: app.controllers.reconnects(name),
        _remove: [path, snoop].map(Remove::new),
    })
}

async fn accept(app: Arc<App>, listener: UnixListener, peers: Peers) {
    let mut room = Room::new(CONNECTIONS);
    let socket = format!("{}.mgmt", peers.bridge);
    loop {
        let stream = accepted(&listener).await;
        let place = room.place(&socket).await;
        let (app, peers) = (Arc::clone(&app), peers.clone());
        room.serve(async move { serve(&app, stream, &peers, Who::Tool(&place)).await });
    }
}

async fn accept_snoopers(listener: UnixListener, peers: Peers) {
    let mut room = Room::new(SNOOPERS);
    let socket = format!("{}.snoop", peers.bridge);
    loop {
        let stream = accepted(&listener).await;
        let place = room.place(&socket).await;
        let peers = peers.clone();
        room.serve(async move {
            place.set(Doing::Listening);
            tokio::select! {
                ended = snoop::serve(stream, &peers) => if let Err(error) = ended {
                    tracing::debug!(bridge = %peers.bridge, %error, "ovs-ofctl snoop ended");
                },
                () = place.evicted() => {}
            }
        });
    }
}

/// The next connection.
async fn accepted(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // No descriptors, say: it is tried again when there may be some.
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}
