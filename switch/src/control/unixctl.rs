//! What `ovs-appctl` asks: JSON-RPC over a socket that stands where it looks, found by a pidfile. With a database only,
//! when the switch is in the place of `ovs-vswitchd`; `vxctl appctl` asks the same by the control API.

mod bond_hash;
mod datapath;
mod mdb;
mod odp_flow;
mod port_config;
mod tables;
mod trace;
mod unconfigured;
mod underlay;

use super::app::{App, WorkerInfo};
use super::handlers::refused::{Answer, Refused};
use super::room::{Doing, Place, Room};
use super::socket::Remove;
use super::{balance, loads, log, rxq};
use api::{Appctl, AppctlReply};
use axum::Json;
use axum::extract::State;
use nix::fcntl::{FcntlArg, fcntl};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Connections at a time: then the one that is idle longest gives way to a new one.
const CONNECTIONS: usize = 512;
/// Bytes of a request at most.
const REQUEST: usize = 1 << 20;
/// Time that the other side may take to ask, and to read an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The socket and the pidfile, until they are dropped.
pub struct Socket {
    listener: UnixListener,
    /// Locked as long as it is open: by this `ovs-appctl` knows that the process is there.
    _pidfile: File,
    _remove: [Remove; 2],
}

impl Socket {
    /// Makes `ovs-vswitchd.PID.ctl` and `ovs-vswitchd.pid` in a directory.
    ///
    /// # Errors
    /// The file system's; or another process holds the pidfile.
    pub fn bind(dir: &Path) -> io::Result<Socket> {
        let pid = std::process::id();
        let pid_path = dir.join("ovs-vswitchd.pid");
        let pidfile = File::options().create(true).truncate(false).write(true).open(&pid_path)?;
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&pidfile, FcntlArg::F_SETLK(&lock)).map_err(|error| {
            io::Error::other(format!("{}: another process has it: {error}", pid_path.display()))
        })?;
        pidfile.set_len(0)?;
        io::Write::write_all(&mut &pidfile, format!("{pid}\n").as_bytes())?;
        let path = dir.join(format!("ovs-vswitchd.{pid}.ctl"));
        // A socket that an earlier process of this number left is in the way.
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket()) {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Socket { listener, _pidfile: pidfile, _remove: [pid_path, path].map(Remove::new) })
    }

    /// Answers for ever.
    pub async fn serve(self, app: Arc<App>) {
        let mut room = Room::new(CONNECTIONS);
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let place = room.place("ovs-vswitchd's control socket").await;
            let app = Arc::clone(&app);
            room.serve(async move {
                tokio::select! {
                    _ = converse(app, stream, &place) => {}
                    () = place.evicted() => {}
                }
            });
        }
    }
}

/// Answers the requests of a connection, one after the other, to its end.
async fn converse(app: Arc<App>, mut stream: UnixStream, place: &Place) -> io::Result<()> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 4096]);
    loop {
        let read = timeout(PATIENCE, stream.read(&mut chunk)).await??;
        if read == 0 {
            return Ok(());
        }
        place.set(Doing::Answered);
        bytes.extend_from_slice(&chunk[..read]);
        let mut requests = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
        let (mut whole, mut answers, mut broken) = (0, Vec::new(), bytes.len() > REQUEST);
        if broken {
            let error = format!("expected a request of at most {REQUEST} bytes");
            answers.extend(json!({"id": null, "result": null, "error": error}).to_string().into_bytes());
        }
        while let Some(request) = requests.next() {
            match request {
                Ok(request) => {
                    answers.extend(answer(&app, &request).await.to_string().into_bytes());
                    whole = requests.byte_offset();
                }
                Err(error) => {
                    // The rest of it may be on its way.
                    broken |= !error.is_eof();
                    break;
                }
            }
        }
        bytes.drain(..whole);
        timeout(PATIENCE, stream.write_all(&answers)).await??;
        if broken {
            return Ok(());
        }
        place.set(Doing::Idle);
    }
}

/// With an end of line, as Open vSwitch sends what is said.
fn line(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// `POST /v1/appctl`: the same without a database, for `vxctl appctl`.
pub(super) async fn appctl(State(app): State<Arc<App>>, Json(asked): Json<Appctl>) -> Answer<AppctlReply> {
    let words: Vec<&str> = asked.arguments.iter().map(String::as_str).collect();
    match run(&app, &asked.command, &words).await {
        Ok(text) => Ok(Json(AppctlReply { text: line(text) })),
        Err(error) => Err(Refused::bad(error.trim_end())),
    }
}

async fn answer(app: &App, request: &Value) -> Value {
    let words: Vec<&str> =
        request["params"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (result, error) = match run(app, request["method"].as_str().unwrap_or(""), &words).await {
        Ok(text) => (json!(line(text)), Value::Null),
        Err(text) => (Value::Null, json!(line(text))),
    };
    json!({ "id": request["id"], "result": result, "error": error })
}

/// Commands with their arguments, and how many there may be.
const COMMANDS: &[(&str, &str, std::ops::RangeInclusive<usize>)] = &[
    ("autoattach/show-isid", "[bridge]", 0..=1),
    ("autoattach/statistics", "[bridge]", 0..=1),
    ("autoattach/status", "[bridge]", 0..=1),
    ("bfd/set-forwarding", "[interface] normal|false|true", 1..=2),
    ("bfd/show", "[interface]", 0..=1),
    ("bond/disable-member", "port member", 2..=2),
    ("bond/enable-member", "port member", 2..=2),
    ("bond/hash", "mac [vlan] [basis]", 1..=3),
    ("bond/list", "", 0..=0),
    ("bond/migrate", "port hash member", 3..=3),
    ("bond/set-active-member", "port member", 2..=2),
    ("bond/show", "[port]", 0..=1),
    ("bridge/dump-flows", "bridge", 1..=1),
    ("bridge/reconnect", "[bridge]", 0..=1),
    ("cfm/set-fault", "[interface] normal|false|true", 1..=2),
    ("cfm/show", "[interface]", 0..=1),
    ("coverage/read-counter", "COUNTER", 1..=1),
    ("coverage/show", "", 0..=0),
    ("dpctl/ct-stats-show", "[dp] [zone=N]", 0..=2),
    ("dpctl/dump-conntrack", "[-m] [-s] [dp] [zone=N]", 0..=4),
    ("dpctl/dump-dps", "", 0..=0),
    ("dpctl/dump-flows", "[-m] [--names] [dp]", 0..=3),
    ("dpctl/flush-conntrack", "[dp] [zone=N] [ct-orig-tuple] [ct-reply-tuple]", 0..=4),
    ("dpctl/show", "[-s] [dp]", 0..=2),
    ("dpif-netdev/bond-show", "[dp]", 0..=1),
    ("dpif-netdev/pmd-rxq-rebalance", "[dp]", 0..=1),
    ("dpif-netdev/pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", 0..=5),
    ("dpif-netdev/pmd-sleep-show", "[dp]", 0..=1),
    ("dpif-netdev/pmd-stats-clear", "[-pmd core] [dp]", 0..=3),
    ("dpif-netdev/pmd-stats-show", "[-pmd core] [dp]", 0..=3),
    ("dpif/dump-dps", "", 0..=0),
    ("dpif/dump-flows", "[-m] [--names | --no-names] bridge", 1..=3),
    ("dpif/show", "", 0..=0),
    ("dpif/show-dp-features", "bridge", 1..=1),
    ("exit", "[--cleanup]", 0..=1),
    ("fdb/add", "bridge port vlan mac", 4..=4),
    ("fdb/del", "bridge vlan mac", 3..=3),
    ("fdb/flush", "[bridge]", 0..=1),
    ("fdb/show", "bridge", 1..=1),
    ("fdb/stats-clear", "[bridge]", 0..=1),
    ("fdb/stats-show", "bridge", 1..=1),
    ("lacp/show", "[port]", 0..=1),
    ("lacp/show-stats", "[port]", 0..=1),
    ("list-commands", "", 0..=0),
    ("mdb/flush", "[bridge]", 0..=1),
    ("mdb/show", "bridge", 1..=1),
    ("memory/show", "", 0..=0),
    ("ofproto/list", "", 0..=0),
    ("ofproto/trace", "{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]", 1..=16),
    (
        "ofproto/trace-packet-out",
        "[-consistent] {[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet] actions",
        2..=17,
    ),
    ("ovs/route/add", "ip_addr/prefix_len out_br_name [gw]", 2..=3),
    ("ovs/route/del", "ip_addr/prefix_len", 1..=1),
    ("ovs/route/lookup", "ip_addr", 1..=1),
    ("ovs/route/show", "", 0..=0),
    ("qos/show", "interface", 1..=1),
    ("qos/show-types", "interface", 1..=1),
    ("revalidator/purge", "", 0..=0),
    ("revalidator/wait", "", 0..=0),
    ("rstp/show", "[bridge]", 0..=1),
    ("rstp/tcn", "[bridge]", 0..=1),
    ("stp/show", "[bridge]", 0..=1),
    ("stp/tcn", "[bridge]", 0..=1),
    ("tnl/arp/aging", "[SECS]", 0..=1),
    ("tnl/arp/flush", "", 0..=0),
    ("tnl/arp/set", "BRIDGE IP MAC", 3..=3),
    ("tnl/arp/show", "", 0..=0),
    ("tnl/egress_port_range", "", 0..=0),
    ("tnl/neigh/aging", "[SECS]", 0..=1),
    ("tnl/neigh/flush", "", 0..=0),
    ("tnl/neigh/set", "BRIDGE IP MAC", 3..=3),
    ("tnl/neigh/show", "", 0..=0),
    ("tnl/ports/show", "[-v]", 0..=1),
    ("upcall/set-flow-limit", "flow-limit-number", 1..=1),
    ("upcall/show", "", 0..=0),
    ("version", "", 0..=0),
    ("vlog/close", "", 0..=0),
    ("vlog/disable-rate-limit", "[module]...", 0..=64),
    ("vlog/enable-rate-limit", "[module]...", 0..=64),
    ("vlog/list", "", 0..=0),
    ("vlog/list-pattern", "", 0..=0),
    ("vlog/reopen", "", 0..=0),
    ("vlog/set", "{spec | PATTERN:destination:pattern}", 0..=64),
];

async fn run(app: &App, command: &str, words: &[&str]) -> Result<String, String> {
    let Some((_, _, arguments)) = COMMANDS.iter().find(|(name, ..)| *name == command) else {
        return Err(format!(
            "\"{command}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
    };
    if words.len() < *arguments.start() {
        return Err(format!("\"{command}\" command requires at least {} arguments", arguments.start()));
    }
    if words.len() > *arguments.end() {
        return Err(format!("\"{command}\" command takes at most {} arguments", arguments.end()));
    }
    let stopping = |error: crate::slowpath::handle::Stopped| error.to_string();
    match command {
        "exit" => {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        "version" => Ok(format!("vxswitch {}\n", env!("CARGO_PKG_VERSION"))),
        "list-commands" => {
            let mut text = "The available commands are:\n".to_owned();
            for (name, arguments, _) in COMMANDS {
                let _ = writeln!(text, "  {name:<23} {arguments}");
            }
            Ok(text)
        }
        "ofproto/list" => {
            let views = app.handle.call(|slow| slow.bridge_views()).await.map_err(stopping)?;
            Ok(views.iter().flat_map(|bridge| [bridge.name.as_str(), "\n"]).collect())
        }
        "ofproto/trace" => trace::run(app, words).await,
        "ofproto/trace-packet-out" => trace::packet_out(app, words).await,
        "bridge/reconnect" => reconnect(app, words.first().copied()).await,
        "dpif-netdev/pmd-rxq-rebalance" => {
            balance::rebalance(app).await;
            Ok("pmd rxq rebalance requested.".into())
        }
        "dpif-netdev/pmd-rxq-show" => pmd_rxq_show(app, words).await,
        "dpif-netdev/pmd-sleep-show" => {
            let all = app.switch.lock().await.document.sleep_max().all();
            // Without one, each worker has what suits its CPU.
            let mut text = format!("Default max sleep: {:4} us\n", all.unwrap_or(0));
            for worker in &app.workers {
                let most = worker.link.sleep_max.load(Relaxed);
                let _ = writeln!(text, "{}  max sleep: {most:4} us", pmd_line(worker));
            }
            Ok(text)
        }
        "bfd/show" => {
            let rows = app.handle.call(|slow| slow.bfd_view()).await.map_err(stopping)?;
            let chosen: Vec<String> = rows
                .iter()
                .filter(|row| words.first().is_none_or(|name| *name == row.interface))
                .map(ToString::to_string)
                .collect();
            if chosen.is_empty() && !words.is_empty() {
                return Err("no such bfd object".into());
            }
            Ok(chosen.concat())
        }
        "bfd/set-forwarding" => {
            let forwarding = match words.last() {
                Some(&"true") => Some(true),
                Some(&"false") => Some(false),
                Some(&"normal") => None,
                _ => return Err("unknown argument: expected normal, false or true".into()),
            };
            let port = (words.len() > 1).then(|| words[0].to_owned());
            let found = app.handle.call(move |slow| slow.force_bfd(port.as_deref(), forwarding));
            if found.await.map_err(stopping)? { Ok("OK".into()) } else { Err("no such BFD object".into()) }
        }
        _ if command.starts_with("fdb/") || command == "bridge/dump-flows" => {
            tables::run(app, command, words).await
        }
        "mdb/show" => mdb::show(app, words[0]).await,
        "mdb/flush" => mdb::flush(app, words.first().copied()).await,
        _ if command.starts_with("tnl/") || command.starts_with("ovs/route/") => {
            underlay::run(app, command, words).await
        }
        "vlog/list" => Ok(log::levels()),
        "vlog/list-pattern" => Ok(log::patterns()),
        "vlog/disable-rate-limit" => log::limit_rates(words, false).map(|()| String::new()),
        "vlog/enable-rate-limit" => log::limit_rates(words, true).map(|()| String::new()),
        // The log goes to stderr or the journal, as that of an ovs-vswitchd without --log-file.
        "vlog/close" => Ok(String::new()),
        "vlog/reopen" => Err("Logging to file not configured".to_owned()),
        "vlog/set" => log::set_levels(words).map(|()| String::new()),
        _ => match unconfigured::run(app, command, words).await {
            Some(answer) => answer,
            None => datapath::run(app, command, words).await,
        },
    }
}

/// Lets a bridge, or all of them, connect to controllers anew.
async fn reconnect(app: &App, bridge: Option<&str>) -> Result<String, String> {
    let bridges: Vec<String> = {
        let switch = app.switch.lock().await;
        let names = switch.document.bridges.iter().map(|bridge| bridge.name.clone());
        names.filter(|name| bridge.is_none_or(|only| only == name)).collect()
    };
    if bridges.is_empty() && bridge.is_some() {
        return Err("Unknown bridge".to_owned());
    }
    app.controllers.reconnect(&bridges);
    app.sockets.settled().await;
    Ok(String::new())
}

/// A worker, as Open vSwitch names its threads.
fn pmd_line(worker: &WorkerInfo) -> String {
    format!("pmd thread numa_id {} core_id {}:\n", worker.numa, worker.lcore)
}

/// What each worker polls, and what of its time that takes.
async fn pmd_rxq_show(app: &App, words: &[&str]) -> Result<String, String> {
    let minute = loads::EVERY.as_secs() * loads::KEPT as u64;
    let (mut only, mut seconds) = (None, minute);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            option @ ("-pmd" | "-secs") => {
                let number = rest.next().and_then(|text| text.parse::<u32>().ok());
                let number = number.ok_or_else(|| format!("{option}: expected a number"))?;
                if option == "-pmd" { only = Some(number) } else { seconds = number.into() }
            }
            "netdev@ovs-netdev" | "ovs-netdev" => {}
            _ => return Err("please specify an existing datapath".to_owned()),
        }
    }
    // As in Open vSwitch: what is not remembered is as much as there is, and a part of an interval is all of it.
    let every = loads::EVERY.as_secs();
    seconds = if seconds == 0 || seconds > minute { minute } else { seconds.div_ceil(every) * every };
    let within = Duration::from_secs(seconds);
    let switch = app.switch.lock().await;
    let queues = switch.rx_queues(|_, _| 0.0);
    let isolates = switch.document.rxq_isolate();
    let loads = app.loads.lock().unwrap_or_else(PoisonError::into_inner);
    let percent =
        |load: Option<f64>| load.map_or_else(|| "NOT AVAIL".to_owned(), |load| format!("{load:2.0} %"));
    let mut text = format!("Displaying last {seconds} seconds pmd usage %\n");
    for (at, worker) in app.workers.iter().enumerate() {
        if only.is_some_and(|lcore| lcore != worker.lcore) {
            continue;
        }
        let isolated = isolates && rxq::isolated(&queues, at);
        let _ = writeln!(text, "{}  isolated : {isolated}", pmd_line(worker));
        let mut polls = queues.iter().filter(|queue| queue.worker == at).peekable();
        let any = polls.peek().is_some();
        for rxq in polls {
            let usage = percent(loads.of_queue(&rxq.port, rxq.queue, within));
            let (port, queue) = (&rxq.port, rxq.queue);
            let _ = writeln!(text, "  port: {port:<16}  queue-id: {queue:2} (enabled)   pmd usage: {usage}");
        }
        if any {
            let _ = writeln!(text, "  overhead: {}", percent(loads.overhead(at, within)));
        }
    }
    Ok(text)
}
