//! Keeps connections to the controllers that a bridge shall have.

use super::connection::{Peers, Who, serve};
use super::controllers::Target;
use crate::control::app::App;
use crate::control::socket::Remove;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The first and the longest time between two tries, as Open vSwitch has them (`max_backoff`).
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// Time that a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// Connections that a target may have which waits for them.
const PASSIVE: usize = 16;

/// Counts a connection as long as it is there.
struct Counted(Arc<App>, String, Target);

impl Counted {
    fn new(app: &Arc<App>, bridge: &str, target: &Target) -> Counted {
        app.controllers.count(bridge, target, 1);
        Counted(Arc::clone(app), bridge.to_owned(), target.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.controllers.count(&self.1, &self.2, -1);
    }
}

/// Listens on a Unix socket for its owner only, unless somebody does already.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    // A socket that an earlier process left is in the way; what is no socket is not ours to remove.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there")),
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where controllers connect to.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when it is dropped")] Remove),
}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
            Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Connects to a controller, or waits for it, for ever.
pub(super) async fn keep(app: Arc<App>, peers: Peers, target: Target) {
    let mut wait = BACKOFF.0;
    loop {
        let began = Instant::now();
        let Err(error) = once(&app, &peers, &target).await;
        tracing::info!(bridge = %peers.bridge, %target, %error, "no controller");
        app.controllers.failed(&peers.bridge, &target, &error);
        // What lasted begins anew.
        wait = if began.elapsed() > BACKOFF.1 { BACKOFF.0 } else { (wait * 2).min(BACKOFF.1) };
        sleep(wait).await;
    }
}

/// One connection from its beginning to its end, or all that come to a listener.
async fn once(app: &Arc<App>, peers: &Peers, target: &Target) -> io::Result<Infallible> {
    let listener = match target {
        Target::PassiveTcp(port, address) => {
            Listener::Tcp(TcpListener::bind((address.as_str(), *port)).await?)
        }
        Target::PassiveUnix(path) => Listener::Unix(bind(path)?, Remove::new(path.clone())),
        Target::Tcp(..) | Target::Unix(_) => {
            let stream = timeout(CONNECT, connect(target)).await??;
            let _counted = Counted::new(app, &peers.bridge, target);
            serve(app, stream, peers, Who::Controller).await;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut connections = JoinSet::new();
    loop {
        let stream = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        if connections.len() >= PASSIVE {
            continue;
        }
        let (app, peers, target) = (Arc::clone(app), peers.clone(), target.clone());
        connections.spawn(async move {
            let _counted = Counted::new(&app, &peers.bridge, &target);
            serve(&app, stream, &peers, Who::Controller).await;
        });
    }
}

async fn connect(target: &Target) -> io::Result<Box<dyn Stream>> {
    Ok(match target {
        Target::Tcp(host, port) => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
        Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Target::PassiveTcp(..) | Target::PassiveUnix(_) => return Err(io::ErrorKind::Unsupported.into()),
    })
}
