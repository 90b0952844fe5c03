//! Start and stop of the daemon, and the threads between.

use super::app::{App, WorkerInfo};
use super::apply::Switch;
use super::device::Resources;
use super::machine::{cpu_list, missing_features, other_cpus};
use super::metrics::Metrics;
use super::options::Options;
use super::server;
use super::socket::{ControlSocket, Remove};
use super::{hugepages, rules, sys};
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
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;

/// Mbufs in each lcore's cache: several bursts, so that the shared ring is rarely touched.
const POOL_CACHE: u32 = 512;
/// Exit status for a file that is wrong: starting again does not help.
const BAD_FILE: u8 = 2;
/// How often the main thread looks whether everything still runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Writes a line of what was decided. Nobody may be reading it any more, which is no reason to stop.
pub fn say(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

macro_rules! say {
    ($($arg:tt)*) => { say(format_args!($($arg)*)) };
}

/// How the threads tell each other to end.
#[derive(Debug, Default)]
pub struct Ending {
    /// Workers end their loops.
    pub stop: AtomicBool,
    /// Something broke: no orderly end is possible.
    pub failed: AtomicBool,
    /// Wakes the control thread.
    pub wake: Notify,
}

impl Ending {
    /// Something broke.
    pub fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.stop.store(true, Relaxed);
        self.wake.notify_one();
    }
}

/// Tells the others when its thread panics.
struct Guard(Arc<Ending>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail();
        }
    }
}

/// The daemon: `args` is its command line, program name first.
pub fn main(args: &[String]) -> ExitCode {
    let (eal, options) = match super::options::parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // To stdout or stderr as fits; nothing can be done about a closed one.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    if let Some(missing) = std::fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(missing_features)
    {
        eprintln!(
            "vxswitch: this CPU lacks {missing}: vxswitch needs x86-64-v3 (Intel Haswell, AMD Zen, or newer)"
        );
        return ExitCode::FAILURE;
    }
    let document = match read(options.config.as_deref()) {
        Ok(document) => document,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_FILE);
        }
    };
    if options.check {
        let ports = document.ports().count();
        say!("good: {} bridges, {ports} ports", document.bridges.len());
        return ExitCode::SUCCESS;
    }
    match run(&eal, &options, document) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vxswitch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: Option<&Path>) -> Result<Document, config::Errors> {
    file.map_or_else(|| Ok(Document::default()), |file| config::parse_file(file, &rules::Check(None)))
}

/// The file's settings with what the command line says instead.
fn settings(document: &Document, options: &Options) -> Settings {
    let mut settings = document.settings();
    let dpdk = &mut settings.dpdk;
    dpdk.mbufs = options.total_num_mbufs.unwrap_or(dpdk.mbufs);
    dpdk.mbuf_size = options.mbuf_size.unwrap_or(dpdk.mbuf_size);
    dpdk.rxd = options.rxd.unwrap_or(dpdk.rxd);
    dpdk.txd = options.txd.unwrap_or(dpdk.txd);
    settings
}

fn run(eal_args: &[String], options: &Options, mut document: Document) -> Result<()> {
    let settings = settings(&document, options);
    (document.dpdk, document.datapath) = (settings.dpdk, settings.datapath);
    let control = ControlSocket::bind(&options.control)?;
    let remove = Remove(control.path.clone());
    let metrics = TcpListener::bind(options.metrics)
        .with_context(|| format!("metrics address {}: choose another with --metrics", options.metrics))?;
    metrics.set_nonblocking(true).context("metrics socket")?;
    let cpus = sys::affinity().context("reading the CPU affinity")?;

    let eal = start_eal(eal_args, &settings)?;
    let pool = Mempool::create(
        "vxswitch",
        settings.dpdk.mbufs,
        POOL_CACHE.min(settings.dpdk.mbufs * 2 / 3),
        settings.dpdk.mbuf_size as u16,
        rte::mempool::ANY_SOCKET,
    )
    .context("give EAL more memory with -m, or use fewer mbufs with --total-num-mbufs")?;
    let clean = threads(eal, &cpus, document, control, metrics, &pool);
    let missing = pool.capacity().saturating_sub(pool.available());
    if missing > 0 {
        eprintln!("vxswitch: {missing} of {} mbufs did not come back", pool.capacity());
    }
    drop(pool);
    if let Err(error) = eal.cleanup() {
        eprintln!("vxswitch: {error}");
    }
    drop(remove);
    clean?;
    say!("stopped");
    Ok(())
}

fn start_eal(args: &[String], settings: &Settings) -> Result<&'static Eal> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let in_memory = args.iter().any(|arg| arg == "--in-memory");
    let lack = hugepages::available(Path::new("/sys"), &mounts, in_memory).err();
    let memory = hugepages::fit(args, lack, settings.dpdk.mbufs, settings.dpdk.mbuf_size);
    for note in &memory.notes {
        say!("memory: {note}");
    }
    let (eal, consumed) = Eal::init(&memory.args)?;
    if consumed + 1 < memory.args.len() {
        let rest = memory.args[consumed + 1..].join(" ");
        bail!("EAL does not take {rest:?}: vxswitch's own options stand behind `--`");
    }
    Ok(eal)
}

/// A worker that is ready to run, and the other side of it.
fn make_worker(
    lcore: u32,
    settings: &Settings,
    pool: &Mempool,
    meters: &Arc<Meters>,
) -> (Worker, WorkerSide, WorkerInfo) {
    let datapath = &settings.datapath;
    let slab = Arc::new(Slab::new(datapath.flow_limit as usize));
    let link = Link::new(datapath.upcall_queue as usize);
    let counters: Arc<WorkerCounters> = Arc::default();
    let config = WorkerConfig {
        cache_entries: datapath.cache_entries as usize,
        hold: hold(settings),
        shortcuts: true,
        programs: programs(settings),
    };
    let worker =
        Worker::new(&config, slab.clone(), link.clone(), counters.clone(), pool.clone(), Arc::clone(meters));
    for region in worker.lookup_memory() {
        sys::back_with_huge_pages(region);
    }
    let info = WorkerInfo {
        lcore,
        counters: counters.clone(),
        bytes_per_megaflow: worker.bytes_per_megaflow(),
        bytes_per_cache_entry: flow::cache::FlowCache::new(64).bytes_per_entry(),
    };
    (worker, WorkerSide::new(lcore, link, slab, counters), info)
}

/// Packets that one worker holds at most: a part of the pool, so that a flood of unknown flows leaves room to receive.
fn hold(settings: &Settings) -> usize {
    (settings.dpdk.mbufs as usize / 8).clamp(64, 16_384)
}

/// Each megaflow may have a program of its own.
fn programs(settings: &Settings) -> usize {
    settings.datapath.flow_limit as usize + 1
}

/// Starts all threads, waits for their end, and says whether that was an orderly one.
fn threads(
    eal: &'static Eal,
    cpus: &[usize],
    document: Document,
    control: ControlSocket,
    metrics: TcpListener,
    pool: &Mempool,
) -> Result<()> {
    let settings = document.settings();
    let lcores = eal.worker_lcores();
    let ids: Vec<u32> =
        if lcores.is_empty() { vec![eal.main_lcore()] } else { lcores.iter().map(rte::Lcore::id).collect() };
    let polled: Vec<usize> = ids.iter().flat_map(|id| eal.lcore_cpuset(*id)).collect();
    let others = other_cpus(cpus, &polled);
    let meters: Arc<Meters> = Arc::default();
    let (mut workers, mut sides, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    for id in &ids {
        let (worker, side, info) = make_worker(*id, &settings, pool, &meters);
        let shares = eal.lcore_cpuset(*id).iter().any(|cpu| others.contains(cpu));
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

    let ending: Arc<Ending> = Arc::default();
    let config = SlowPathConfig {
        max_idle: Duration::from_millis(settings.datapath.max_idle.into()),
        programs: programs(&settings),
    };
    let (handle, slow_path) = start_slow_path(config, sides, meters, &others, &ending)?;
    let resources = Resources { pool: pool.clone(), workers: ids.len(), dpdk: settings.dpdk };
    let control = start_control(
        Start { document, resources, control, metrics, workers: infos, handle },
        &others,
        &ending,
    )?;
    if lcores.is_empty() {
        let (mut worker, shares) = workers.remove(0);
        // The worker is not looked at again after a panic, only dropped.
        let outcome = catch_unwind(AssertUnwindSafe(|| worker.run(&ending.stop, shares)));
        if outcome.is_ok() {
            worker.shut_down();
        } else {
            eprintln!("vxswitch: the worker on lcore {} panicked", ids[0]);
            ending.fail();
        }
        drop(worker);
    } else {
        run_workers(lcores, workers, &ending);
    }
    let control_ok = control.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the control thread panicked")));
    if slow_path.join().is_err() {
        bail!("the slow path panicked");
    }
    control_ok?;
    if ending.failed.load(Relaxed) {
        bail!("a thread panicked");
    }
    Ok(())
}

/// Runs the workers on lcores of their own until they are told to stop, or one of them breaks.
fn run_workers(lcores: Vec<rte::Lcore>, workers: Vec<(Worker, bool)>, ending: &Arc<Ending>) {
    let running: Vec<_> = lcores
        .into_iter()
        .zip(workers)
        .map(|(lcore, (mut worker, shares))| {
            let ending = Arc::clone(ending);
            lcore.launch(move || {
                worker.run(&ending.stop, shares);
                worker.shut_down();
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

fn start_slow_path(
    config: SlowPathConfig,
    sides: Vec<WorkerSide>,
    meters: Arc<Meters>,
    cpus: &[usize],
    ending: &Arc<Ending>,
) -> Result<(Handle, JoinHandle<()>)> {
    let (handle, jobs) = handle::channel();
    let (cpus, guard) = (cpus.to_vec(), Guard(Arc::clone(ending)));
    let thread = std::thread::Builder::new()
        .name("slow-path".into())
        .spawn(move || {
            let _guard = guard;
            if let Err(error) = sys::set_affinity(&cpus) {
                tracing::warn!(%error, "the slow path stays on the main lcore's CPU");
            }
            // Dropped here: what it holds of DPDK must be gone before EAL's end.
            drop(SlowPath::new(config, sides, meters).run(&jobs));
        })
        .context("starting the slow path's thread")?;
    Ok((handle, thread))
}

/// What the control thread starts with.
struct Start {
    document: Document,
    resources: Resources,
    control: ControlSocket,
    metrics: TcpListener,
    workers: Vec<WorkerInfo>,
    handle: Handle,
}

fn start_control(start: Start, cpus: &[usize], ending: &Arc<Ending>) -> Result<JoinHandle<Result<()>>> {
    let (cpus, ending) = (cpus.to_vec(), Arc::clone(ending));
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let _guard = Guard(Arc::clone(&ending));
            if let Err(error) = sys::set_affinity(&cpus) {
                tracing::warn!(%error, "control stays on the main lcore's CPU");
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("starting the control thread's runtime");
            let outcome = runtime.and_then(|runtime| runtime.block_on(control(start, &ending)));
            // However control ends, workers end with it.
            ending.stop.store(true, Relaxed);
            outcome
        })
        .context("starting the control thread")
}

async fn control(start: Start, ending: &Ending) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let empty = Document { bridges: Vec::new(), ..start.document.clone() };
    let switch = Switch::new(start.document.settings(), start.handle, start.resources);
    let app = App::new(switch, start.workers);
    {
        let mut switch = app.switch.lock().await;
        switch.change(start.document).await?;
        describe(&switch);
        app.ready.store(true, Relaxed);
    }
    let api = tokio::net::UnixListener::from_std(start.control.listener).context("control socket")?;
    let address = start.metrics.local_addr().context("metrics socket")?;
    let metrics = tokio::net::TcpListener::from_std(start.metrics).context("metrics socket")?;
    let tasks = [
        tokio::spawn(server::serve(api, Arc::clone(&app))),
        tokio::spawn(Metrics::serve(metrics, Arc::clone(&app))),
        tokio::spawn(super::links::watch(Arc::clone(&app))),
    ];
    // With port 0 the kernel chose one.
    say!("metrics: http://{address}/metrics");
    say!("control: {}", start.control.path.display());
    say!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = ending.wake.notified() => {}
    }
    for task in tasks {
        task.abort();
        // Ended by us, or ended before: either is an end.
        let _ = task.await;
    }
    if ending.failed.load(Relaxed) {
        bail!("stopping because a thread panicked");
    }
    say!("stopping");
    app.switch.lock().await.change(empty).await.context("stopping")
}

/// What was made of the document, a line a port, as testpmd does.
fn describe(switch: &Switch) {
    for bridge in &switch.document.bridges {
        let addresses: Vec<String> = bridge.address.iter().map(ToString::to_string).collect();
        let addresses =
            if addresses.is_empty() { String::new() } else { format!(", {}", addresses.join(" ")) };
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
            } else {
                let options: Vec<String> = port.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
                say!("  port {}: {} {}", port.name, port.kind, options.join(" "));
            }
        }
    }
}
