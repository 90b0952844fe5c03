//! Connects, and comes back.

use crate::replica::Replica;
use crate::session::{Input, Monitored, Outcome, Session, SessionError};
use crate::target::Target;
use crate::transaction::Transaction;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

/// The first and the longest time between two tries to connect, as `ovs-vswitchd` has them.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Silence after which the server is asked whether it is there, and after which it is given up.
const PROBE: Duration = Duration::from_secs(5);
/// Time that a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const CHUNK: usize = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The replica is there, or has changed: see [`Client::replica`].
    Changed,
    /// The lock is held, or no more.
    Locked(bool),
    /// A transaction is done, or not.
    Done(Outcome),
    /// The connection is gone, or does not come up; it is tried again after a while.
    Disconnected(String),
}

/// A connection that runs.
struct Running {
    stream: Box<dyn Stream>,
    session: Session,
    out: Vec<u8>,
    last_received: Instant,
    probed: bool,
}

/// A client of a server.
pub struct Client {
    target: Target,
    database: &'static str,
    lock: &'static str,
    monitored: &'static [Monitored],
    running: Option<Running>,
    /// When to try next, and how long to wait after that.
    next: Instant,
    backoff: Duration,
    events: std::collections::VecDeque<Event>,
}

impl Client {
    /// A client that has not tried to connect yet; it works in [`Client::next`].
    pub fn new(
        target: Target,
        database: &'static str,
        lock: &'static str,
        monitored: &'static [Monitored],
    ) -> Client {
        Client {
            target,
            database,
            lock,
            monitored,
            running: None,
            next: Instant::now(),
            backoff: BACKOFF.0,
            events: std::collections::VecDeque::new(),
        }
    }

    /// The monitored part of the database; `None` while there is no connection, or it is not read yet.
    pub fn replica(&self) -> Option<&Replica> {
        self.running.as_ref()?.session.replica()
    }

    /// Whether the lock is held.
    pub fn locked(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.session.locked())
    }

    /// Begins a transaction; its end comes as [`Event::Done`] with this number, or as [`Event::Disconnected`]. `None`:
    /// there is no connection.
    pub fn transact(&mut self, transaction: Transaction) -> Option<u64> {
        let running = self.running.as_mut()?;
        let (bytes, id) = running.session.transact(transaction);
        running.out.extend_from_slice(&bytes);
        Some(id)
    }

    /// Waits for what happens next. May be dropped at any time without losing anything.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let outcome = if let Some(running) = self.running.as_mut() {
                running.step(&mut self.events).await
            } else {
                sleep_until(self.next).await;
                // Whatever comes of it, the next try is later.
                self.next = Instant::now() + self.backoff;
                self.backoff = (self.backoff * 2).min(BACKOFF.1);
                self.connect().await
            };
            match outcome {
                Ok(()) if self.replica().is_some() => self.backoff = BACKOFF.0,
                Ok(()) => {}
                Err(error) => {
                    self.running = None;
                    self.next = self.next.max(Instant::now() + BACKOFF.0);
                    self.events.push_back(Event::Disconnected(format!("{}: {error}", self.target)));
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let connecting = async {
            Ok::<Box<dyn Stream>, io::Error>(match &self.target {
                Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Target::Tcp(host, port) => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
            })
        };
        let stream = timeout(CONNECT, connecting).await.map_err(|_| ClientError::Silent)??;
        let mut session = Session::new(self.database, self.lock, self.monitored);
        let out = session.start();
        self.running = Some(Running { stream, session, out, last_received: Instant::now(), probed: false });
        Ok(())
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("the server has closed the connection")]
    Closed,
    #[error("the server does not answer")]
    Silent,
}

impl Running {
    /// Sends, receives, or probes: one step.
    async fn step(&mut self, events: &mut std::collections::VecDeque<Event>) -> Result<(), ClientError> {
        let mut chunk = vec![0; CHUNK];
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let deadline = self.last_received + if self.probed { PROBE * 2 } else { PROBE };
        tokio::select! {
            written = writer.write(&self.out), if !self.out.is_empty() => {
                let written = written?;
                if written == 0 {
                    return Err(ClientError::Closed);
                }
                self.out.drain(..written);
            }
            read = reader.read(&mut chunk) => {
                let read = read?;
                if read == 0 {
                    return Err(ClientError::Closed);
                }
                (self.last_received, self.probed) = (Instant::now(), false);
                let found = self.session.input(&chunk[..read], &mut self.out)?;
                events.extend(found.into_iter().map(|input| match input {
                    Input::Changed => Event::Changed,
                    Input::Locked(locked) => Event::Locked(locked),
                    Input::Done(outcome) => Event::Done(outcome),
                }));
            }
            () = sleep_until(deadline) => {
                if std::mem::replace(&mut self.probed, true) {
                    return Err(ClientError::Silent);
                }
                let probe = self.session.probe();
                self.out.extend_from_slice(&probe);
            }
        }
        Ok(())
    }
}
