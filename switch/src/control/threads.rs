//! The threads of the daemon: made before the first packet is polled, watched while they run, joined at the end.
//!
//! | thread | on | nice |
//! |---|---|---|
//! | workers | EAL's lcores | the process's |
//! | `slow-path` | the other CPUs | -10, where it shares no CPU with a worker, or what the process has |
//! | `control` (captures, too), `metrics` | the other CPUs | 10 |
//! | `watch` | the other CPUs | the process's |
//!
//! On a CPU that they share the slow path goes first: a new flow's packets wait for it, and users can wait.

use super::app::{App, WorkerInfo};
use super::apply::Switch;
use super::device::{Resources, WorkerPlace};
use super::ending::Ending;
use super::file::ConfigFile;
use super::log::Events;
use super::machine::{cpu_list, other_cpus};
use super::metrics::Metrics;
use super::pulse::Pulses;
pub use super::run::Moment;
use super::run::{self, Place};
use super::say::say;
use super::socket::{ControlSocket, Remove};
use super::sys;
use super::taking::Taking;
use super::watch::Watch;
use crate::slowpath::workers::WorkerSide;
use crate::slowpath::{Handle, SlowPath, SlowPathConfig, handle};
use anyhow::{Context, Result, bail};
use config::{Document, Settings};
use datapath::counters::WorkerCounters;
use datapath::message::Link;
use datapath::meter::Meters;
use datapath::{Worker, WorkerConfig};
use flow::megaflow::Slab;
use rte::{Eal, Mempool};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How often the main thread looks whether everything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a thread that serves users shows that it moves.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// Nice value of the slow path at most.
const NICE_SLOW_PATH: i32 = -10;
/// How long a worker may sleep at a time where it shares its CPU and nothing else is said, microseconds: in this time an
/// RX ring of the usual size takes what comes at four million packets a second.
const SLEEP_ON_SHARED_CPU: u32 = 250;
/// How late sleeps of a worker may end, nanoseconds.
const TIMER_SLACK: u32 = 1000;
/// Nice value of threads that serve users.
const NICE_CONTROL: i32 = 10;

/// A worker that is ready to run, and the other side of it.
fn make_worker(
    lcore: u32,
    settings: &Settings,
    pool: &Mempool,
    meters: &Arc<Meters>,
) -> Result<(Worker, WorkerSide, WorkerInfo)> {
    let datapath = &settings.datapath;
    let slab = Arc::new(Slab::new(datapath.flow_limit as usize));
    let link = Link::new(datapath.upcall_queue as usize);
    let counters: Arc<WorkerCounters> = Arc::default();
    let config = WorkerConfig {
        cache_entries: datapath.cache_entries as usize,
        hold: hold(settings),
        hash_seed: datapath.hash_seed,
        fast_paths: true,
        programs: programs(settings),
    };
    let worker =
        Worker::new(&config, slab.clone(), link.clone(), counters.clone(), pool.clone(), Arc::clone(meters))?;
    for region in worker.lookup_memory() {
        sys::back_with_huge_pages(region);
    }
    let info = WorkerInfo {
        lcore,
        numa: 0,
        counters: counters.clone(),
        link: link.clone(),
        bytes_per_megaflow: worker.bytes_per_megaflow(),
        bytes_per_cache_entry: flow::cache::FlowCache::new(64).bytes_per_entry(),
    };
    Ok((worker, WorkerSide::new(lcore, link, slab, counters), info))
}

/// Packets that one worker holds at most: a part of the pool, so that a flood of unknown flows leaves room to receive.
fn hold(settings: &Settings) -> usize {
    (settings.dpdk.mbufs as usize / 8).clamp(64, 16_384)
}

/// Each megaflow may have a program of its own.
fn programs(settings: &Settings) -> usize {
    settings.datapath.flow_limit as usize + 1
}

/// What the threads start with.
pub struct Start {
    /// What the file says, with the command line's settings.
    pub document: Document,
    /// The file, if there was one.
    pub file: Option<ConfigFile>,
    /// The event log.
    pub events: Events,
    /// The database that says what the switch shall be, if one does.
    pub database: Option<ovsdb::Target>,
    /// Its own sockets.
    pub sockets: Sockets,
    /// How long the end may take.
    pub stop_within: Duration,
    /// How the threads tell each other to end.
    pub ending: Arc<Ending>,
    /// Called at certain moments.
    pub probe: fn(Moment<'_>),
}

/// The daemon's sockets, and whose place they take.
pub struct Sockets {
    /// The control API's.
    pub control: ControlSocket,
    /// Removes its file.
    pub remove: Remove,
    /// The metrics endpoint's; `None`: the other process's.
    pub metrics: Option<TcpListener>,
    /// The process whose place is to be taken.
    pub taking: Option<Taking>,
}

/// Starts all threads, waits for their end, and says whether that was an orderly one.
///
/// # Errors
/// Why the start failed, or that a thread panicked.
pub fn run(eal: &'static Eal, cpus: &[usize], start: Start, pool: &Mempool) -> Result<()> {
    let Start { document, file, events, database, sockets, stop_within, ending, probe } = start;
    let Sockets { control, remove, metrics, taking } = sockets;
    let settings = document.settings();
    let lcores = eal.worker_lcores();
    let ids: Vec<u32> =
        if lcores.is_empty() { vec![eal.main_lcore()] } else { lcores.iter().map(rte::Lcore::id).collect() };
    let polled: Vec<usize> = ids.iter().flat_map(|id| eal.lcore_cpuset(*id)).collect();
    let others = other_cpus(cpus, &polled);
    let meters: Arc<Meters> = Arc::default();
    let pulses: Arc<Pulses> = Arc::default();
    let (mut workers, mut sides, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    let mut alone = true;
    let mut places = Vec::new();
    for id in &ids {
        let (worker, side, mut info) = make_worker(*id, &settings, pool, &meters)?;
        info.numa = eal.lcore_socket(*id);
        let cpus = eal.lcore_cpuset(*id);
        let shares = cpus.iter().any(|cpu| others.contains(cpu));
        // Another worker may be on it, too.
        let crowded = cpus.iter().any(|cpu| polled.iter().filter(|other| *other == cpu).count() > 1);
        let default_sleep = if shares || crowded { SLEEP_ON_SHARED_CPU } else { 0 };
        places.push(WorkerPlace { lcore: *id, link: Arc::clone(&info.link), default_sleep });
        alone &= !shares;
        let counters = Arc::clone(&info.counters);
        pulses.add(worker_name(*id), move || counters.iterations.get());
        workers.push((worker, shares));
        sides.push(side);
        infos.push(info);
    }
    say!(
        "lcores: worker{} {} on {}; slow path and control on CPU {}",
        if ids.len() == 1 { "" } else { "s" },
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        if lcores.is_empty() { "the main thread" } else { "lcores of their own" },
        cpu_list(&others),
    );
    say!(
        "memory: {} mbufs of {} bytes{}",
        pool.capacity(),
        settings.dpdk.mbuf_size,
        if eal.has_hugepages() { " in hugepages" } else { ", no hugepages" },
    );

    let config = SlowPathConfig {
        max_idle: Duration::from_millis(settings.datapath.max_idle.into()),
        programs: programs(&settings),
        masks: settings.datapath.masks_per_port as usize,
        hash_seed: settings.datapath.hash_seed,
    };
    let (handle, slow_path) = start_slow_path(config, sides, meters, &others, alone, &pulses)?;
    let resources = Resources {
        pool: pool.clone(),
        workers: places.into(),
        dpdk: settings.dpdk,
        rundir: run::rundir(&control, database.as_ref()).into(),
        inherited: Arc::default(),
    };
    let switch = Switch::new(document.settings(), handle, resources);
    let app = App::new(switch, infos, Arc::clone(&pulses), file, events);
    Watch {
        pulses: Arc::clone(&pulses),
        ending: Arc::clone(&ending),
        within: stop_within,
        socket: remove,
        ready: Arc::clone(&app.ready),
    }
    .start(&others)?;
    let (inherited, is_inherited) = oneshot::channel();
    let metrics = start_metrics((metrics, is_inherited), &app, &others, &ending)?;
    let place = Place { control, taking, metrics: inherited };
    let control = start_control((document, database), place, app, &others, &ending, probe)?;
    if lcores.is_empty() {
        let (mut worker, shares) = workers.remove(0);
        // The worker is not looked at again after a panic, only dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            probe(Moment::Worker(ids[0]));
            wake_on_time();
            worker.run(&ending.stop, shares);
        }));
        if outcome.is_ok() {
            worker.shut_down();
        }
        pulses.gone(&worker_name(ids[0]));
        drop(worker);
    } else {
        run_workers(lcores, workers, &ending, &pulses, probe);
    }
    let control_ok = control.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the control thread panicked")));
    let metrics_ok = metrics.join().is_ok();
    if slow_path.join().is_err() {
        bail!("the slow path panicked");
    }
    control_ok?;
    if !metrics_ok || ending.failed.load(Relaxed) {
        bail!("a thread panicked");
    }
    Ok(())
}

/// Prepares a worker's thread for sleeps of microseconds.
fn wake_on_time() {
    if let Err(error) = sys::set_timer_slack(TIMER_SLACK) {
        tracing::debug!(%error, "a worker that sleeps wakes late");
    }
}

/// What a worker is called where threads are named.
fn worker_name(lcore: u32) -> String {
    format!("worker {lcore}")
}

/// Runs the workers on lcores of their own until they are told to stop, or one of them breaks.
fn run_workers(
    lcores: Vec<rte::Lcore>,
    workers: Vec<(Worker, bool)>,
    ending: &Arc<Ending>,
    pulses: &Arc<Pulses>,
    probe: fn(Moment<'_>),
) {
    let running: Vec<_> = lcores
        .into_iter()
        .zip(workers)
        .map(|(lcore, (mut worker, shares))| {
            let (ending, pulses, id) = (Arc::clone(ending), Arc::clone(pulses), lcore.id());
            lcore.launch(move || {
                probe(Moment::Worker(id));
                wake_on_time();
                worker.run(&ending.stop, shares);
                worker.shut_down();
                pulses.gone(&worker_name(id));
            })
        })
        .collect();
    while !ending.stop.load(Relaxed) {
        if running.iter().any(rte::Running::is_finished) {
            // None ends by itself but by a panic.
            ending.fail();
        }
        std::thread::sleep(LOOK_EVERY);
    }
    for worker in running {
        if let (_, Err(panicked)) = worker.join() {
            eprintln!("vxswitch: {panicked}");
            ending.fail();
        }
    }
}

/// Starts a thread on these CPUs, with this nice value as far as that is allowed, or with the process's.
fn spawn<R: Send + 'static>(
    name: &'static str,
    cpus: &[usize],
    nice: Option<i32>,
    run: impl FnOnce() -> R + Send + 'static,
) -> Result<JoinHandle<R>> {
    let cpus = cpus.to_vec();
    let prepared = move || {
        if let Err(error) = sys::set_affinity(&cpus) {
            tracing::warn!(%error, thread = name, "the thread stays on the main lcore's CPU");
        }
        if let Some(nice) = nice
            && let Err(error) = sys::set_nice(nice)
        {
            tracing::debug!(%error, thread = name, nice, "the thread keeps its nice value");
        }
        run()
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(prepared)
        .with_context(|| format!("starting thread {name}"))
}

fn start_slow_path(
    config: SlowPathConfig,
    sides: Vec<WorkerSide>,
    meters: Arc<Meters>,
    cpus: &[usize],
    alone: bool,
    pulses: &Arc<Pulses>,
) -> Result<(Handle, JoinHandle<()>)> {
    const NAME: &str = "slow-path";
    let (handle, jobs) = handle::channel();
    let turns = handle.turns();
    pulses.add(NAME, move || turns.load(Relaxed));
    let pulses = Arc::clone(pulses);
    // Where a worker polls on the same CPU, it must not be starved.
    let nice = (alone && sys::nice()? > NICE_SLOW_PATH).then_some(NICE_SLOW_PATH);
    let thread = spawn(NAME, cpus, nice, move || {
        // Dropped here: what it holds of DPDK must be gone before EAL's end.
        drop(SlowPath::new(config, sides, meters).run(&jobs));
        pulses.gone(NAME);
    })?;
    Ok((handle, thread))
}

fn runtime(thread: &str) -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .with_context(|| format!("starting the runtime of thread {thread}"))
}

/// Shows that the thread whose runtime this is moves.
async fn beat(turns: Arc<AtomicU64>) {
    let mut timer = tokio::time::interval(BEAT_EVERY);
    loop {
        timer.tick().await;
        turns.fetch_add(1, Relaxed);
    }
}

/// Watches a thread that has a runtime. Returns what [`beat`] needs.
fn pulse(pulses: &Pulses, name: &str) -> Arc<AtomicU64> {
    let turns: Arc<AtomicU64> = Arc::default();
    let seen = Arc::clone(&turns);
    pulses.add(name, move || seen.load(Relaxed));
    turns
}

/// Starts the metrics endpoint, on a thread of its own, so that it says how the others are when control does not
/// answer. Returns when it has been used once: first uses cost memory and time that nobody has when packets come.
fn start_metrics(
    (listener, inherited): (Option<TcpListener>, oneshot::Receiver<TcpListener>),
    app: &Arc<App>,
    cpus: &[usize],
    ending: &Arc<Ending>,
) -> Result<JoinHandle<()>> {
    const NAME: &str = "metrics";
    let address = listener.as_ref().map(TcpListener::local_addr).transpose().context("metrics socket")?;
    app.giving.set_metrics(listener.as_ref().map_or(-1, AsRawFd::as_raw_fd));
    let metrics = Metrics::new(Arc::clone(app)).context("metrics")?;
    let (ending, pulses) = (Arc::clone(ending), Arc::clone(&app.pulses));
    let turns = pulse(&pulses, NAME);
    let (used, is_used) = std::sync::mpsc::sync_channel::<Result<()>>(1);
    let runtime = runtime(NAME)?;
    let thread = spawn(NAME, cpus, Some(NICE_CONTROL), move || {
        runtime.block_on(async {
            tokio::spawn(beat(turns));
            let outcome = async {
                let listen = tokio::net::TcpListener::from_std;
                let listener = listener.map(listen).transpose().context("metrics socket")?;
                metrics.use_once().await;
                Ok(listener)
            };
            let listener = match outcome.await {
                Ok(listener) => listener,
                Err(error) => return used.send(Err(error)).unwrap_or_default(),
            };
            used.send(Ok(())).unwrap_or_default();
            let serve = async {
                let listener = match listener {
                    Some(listener) => Ok(listener),
                    // The sender goes when nothing is handed over: the process ends then.
                    None => match inherited.await {
                        Ok(listener) => tokio::net::TcpListener::from_std(listener),
                        Err(_) => return,
                    },
                };
                match listener {
                    Ok(listener) => metrics.serve(listener).await,
                    Err(error) => tracing::error!(%error, "the metrics socket that was handed over"),
                }
            };
            tokio::select! {
                () = serve => {}
                () = stopped(&ending) => {}
            }
        });
        drop(runtime);
        pulses.gone(NAME);
    })?;
    is_used.recv().context("the metrics thread does not start")??;
    if let Some(address) = address {
        // With port 0 the kernel chose one.
        say!("metrics: http://{address}/metrics");
    }
    Ok(thread)
}

/// Until the workers stop. A signal that asks for the end is noticed here as well, should control stand still.
async fn stopped(ending: &Ending) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signals = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => Some((terminate, interrupt)),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "signals are seen by the control thread only");
            None
        }
    };
    while !ending.stop.load(Relaxed) {
        match &mut signals {
            Some((terminate, interrupt)) => tokio::select! {
                _ = terminate.recv() => ending.begin(),
                _ = interrupt.recv() => ending.begin(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            },
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

fn start_control(
    source: (Document, Option<ovsdb::Target>),
    place: Place,
    app: Arc<App>,
    cpus: &[usize],
    ending: &Arc<Ending>,
    probe: fn(Moment<'_>),
) -> Result<JoinHandle<Result<()>>> {
    const NAME: &str = "control";
    let (ending, pulses) = (Arc::clone(ending), Arc::clone(&app.pulses));
    let turns = pulse(&pulses, NAME);
    let runtime = runtime(NAME)?;
    spawn(NAME, cpus, Some(NICE_CONTROL), move || {
        let outcome = runtime.block_on(async {
            tokio::spawn(beat(turns));
            run::run(source, place, app, &ending, probe).await
        });
        // However control ends, workers end with it.
        ending.stop.store(true, Relaxed);
        drop(runtime);
        pulses.gone(NAME);
        outcome
    })
}
