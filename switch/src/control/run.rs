//! What the control thread does from its start to its end.

use super::app::App;
use super::apply::Switch;
use super::ending::Ending;
use super::say::say;
use super::socket::ControlSocket;
use super::taking::Taking;
use super::{server, watch};
use anyhow::{Context, Result, bail};
use config::{Document, Settings};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::oneshot;

/// A moment in the life of the daemon at which a test may act.
pub enum Moment<'a> {
    /// On a worker's thread, before it polls.
    Worker(u32),
    /// On the control thread, when the whole file has been applied.
    Ready(&'a Arc<App>),
}

/// Where users find the switch.
pub struct Place {
    /// The control API's socket.
    pub control: ControlSocket,
    /// The process whose place it is.
    pub taking: Option<Taking>,
    /// Where the metrics thread awaits that process's socket.
    pub metrics: oneshot::Sender<TcpListener>,
}

/// Where tools of Open vSwitch look for bridges and other sockets: beside the database, else beside our own socket.
pub fn rundir(socket: &ControlSocket, database: Option<&ovsdb::Target>) -> PathBuf {
    let beside = match database {
        Some(ovsdb::Target::Unix(path)) => path,
        _ => &socket.path,
    };
    beside.parent().map(std::path::Path::to_owned).unwrap_or_default()
}

/// Makes the switch what the document says, and serves users until the end.
///
/// # Errors
/// Why the start failed, or that a thread panicked.
pub async fn run(
    (document, database): (Document, Option<ovsdb::Target>),
    Place { control: mut socket, taking, metrics }: Place,
    app: Arc<App>,
    ending: &Ending,
    probe: fn(Moment<'_>),
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    // Until it is served, the signal would end the process.
    let hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let empty = Document { bridges: Vec::new(), ..document.clone() };
    let router = server::router(Arc::clone(&app));
    server::use_once(&router).await;
    let listener = socket.listener.try_clone().and_then(tokio::net::UnixListener::from_std);
    let listener = listener.context("control socket")?;
    let rundir = rundir(&socket, database.as_ref());
    let unixctl_dir = rundir.clone();
    let taken = match taking {
        Some(taking) => Some(taking.begin().await?.confirm().await?),
        None => None,
    };
    {
        let mut switch = app.switch.lock().await;
        match taken {
            Some(taken) => {
                socket.take_place()?;
                app.giving.set_metrics(taken.metrics.as_raw_fd());
                // Where the metrics thread has a socket of its own, it does not wait for this one.
                let _ = metrics.send(taken.metrics);
                let Settings { dpdk, datapath } = document.settings();
                let document = Document { dpdk, datapath, ..taken.document };
                switch.start_in_place(document, taken.inherited).await?;
            }
            None => switch.start(document).await.map(drop)?,
        }
        describe(&switch);
        app.ready.store(true, Relaxed);
    }
    probe(Moment::Ready(&app));
    let api = tokio::spawn(server::serve(listener, router));
    let mut tasks = vec![
        tokio::spawn(super::links::watch(Arc::clone(&app))),
        tokio::spawn(super::retry::run(Arc::clone(&app))),
        tokio::spawn(super::evpn::run(Arc::clone(&app))),
        tokio::spawn(super::balance::run(Arc::clone(&app))),
        tokio::spawn(super::kernel::run(Arc::clone(&app))),
        tokio::spawn(server::reload_on_hangup(hangup, Arc::clone(&app))),
        tokio::spawn(super::openflow::serve::run(Arc::clone(&app), rundir)),
    ];
    if database.is_some() {
        match super::unixctl::Socket::bind(&unixctl_dir) {
            Ok(socket) => tasks.push(tokio::spawn(socket.serve(Arc::clone(&app)))),
            Err(error) => tracing::warn!(%error, "nothing for ovs-appctl"),
        }
    }
    tasks.extend(database.map(|target| tokio::spawn(super::ovsdb::serve::run(Arc::clone(&app), target))));
    say!("control: {}", socket.path.display());
    say!("ready");
    tracing::info!(target: "vxswitch::daemon", version = env!("CARGO_PKG_VERSION"), "started");
    let handed_over = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = ending.wake.notified() => false,
        () = app.giving.confirmed.notified() => true,
    };
    ending.begin();
    if !handed_over {
        watch::tell_stopping();
    }
    end(tasks).await;
    if handed_over {
        app.giving.alone.notify_one();
        app.giving.done.notified().await;
    }
    // It ends last: it answers the process that takes over.
    end(vec![api]).await;
    if ending.failed.load(Relaxed) {
        bail!("stopping because a thread panicked");
    }
    if handed_over {
        return Ok(());
    }
    say!("stopping");
    tracing::info!(target: "vxswitch::daemon", "stopping");
    app.switch.lock().await.change(empty).await.context("stopping")?;
    Ok(())
}

async fn end(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        // Ended by us, or ended before: either is an end.
        let _ = task.await;
    }
}

/// What was made of the document, a line a port, as testpmd does.
fn describe(switch: &Switch) {
    for bridge in &switch.document.bridges {
        let addresses: Vec<String> = bridge.address.iter().map(ToString::to_string).collect();
        let addresses = match (addresses.is_empty(), bridge.has_device()) {
            (true, true) => ", addresses of the kernel".to_owned(),
            (true, false) => String::new(),
            (false, _) => format!(", {}", addresses.join(" ")),
        };
        say!("bridge {}: {}{addresses}", bridge.name, bridge.fail_mode);
        for port in &bridge.ports {
            let device = switch.ports.get(&port.name).and_then(|p| p.device.as_ref());
            if let Some(d) = device {
                say!(
                    "  port {}: {} ({}), MAC {}, MTU {}, {} RX and {} TX queues",
                    port.name,
                    d.name(),
                    d.info.driver,
                    d.mac,
                    d.mtu,
                    d.queues.0,
                    d.queues.1
                );
            } else if let Some(error) = switch.faults().error(&port.name) {
                say!("  port {}: {} does not run: {error}", port.name, port.kind);
            } else {
                let options: Vec<String> = port.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
                say!("  port {}: {} {}", port.name, port.kind, options.join(" "));
            }
        }
    }
}
