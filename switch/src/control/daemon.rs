//! Start and stop of the daemon: the command line, the file, EAL's memory, the exit status.

use super::ending::{Ending, end_on_panic};
use super::file::ConfigFile;
use super::log::Events;
use super::machine::missing_features;
use super::options::Options;
use super::say::say;
use super::socket::ControlSocket;
use super::taking::{self, Taking};
use super::threads::{self, Moment, Sockets, Start};
use super::{apply, hugepages, log, rules, sys};
use anyhow::{Context, Result, bail};
use config::{Document, Settings};
use rte::{Eal, Mempool, PacketDump};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Mbufs in each lcore's cache: several bursts, so that the shared ring is rarely touched.
const POOL_CACHE: u32 = 512;
/// Exit status for a file that is wrong: starting again does not help.
const BAD_FILE: u8 = 2;
/// Exit status for a command line that is wrong.
const BAD_USE: u8 = 2;

/// The daemon: `args` is its command line, program name first.
pub fn main(args: &[String]) -> ExitCode {
    main_with(args, |_| {})
}

/// The same, with something to be called at certain moments.
pub fn main_with(args: &[String], probe: fn(Moment<'_>)) -> ExitCode {
    let (eal, options) = match super::options::parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // To stdout or stderr as fits; nothing can be done about a closed one.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1));
        }
    };
    if options.man {
        // A String of a page in ASCII; a closed stdout wants no more of it.
        say!(
            "{}",
            super::options::man_page()
                .map_or_else(|_| String::new(), |page| String::from_utf8_lossy(&page).into_owned())
        );
        return ExitCode::SUCCESS;
    }
    let (events, _log) = match log::start(options.log, &options.log_level) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("vxswitch: {error}");
            return ExitCode::from(BAD_USE);
        }
    };
    if let Some(missing) = std::fs::read_to_string("/proc/cpuinfo").ok().as_deref().and_then(missing_features)
    {
        eprintln!(
            "vxswitch: this CPU lacks {missing}: vxswitch needs x86-64-v3 (Intel Haswell, AMD Zen, or newer)"
        );
        return ExitCode::FAILURE;
    }
    let document = match read(&options) {
        Ok(document) => document,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_FILE);
        }
    };
    if options.check {
        say!("{}", checked(&document));
        return ExitCode::SUCCESS;
    }
    let ending: Arc<Ending> = Arc::default();
    end_on_panic(&ending);
    match run(&eal, &options, document, events, &ending, probe) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vxswitch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What `--check` says of a good document: it does not touch devices, and names those.
fn checked(document: &Document) -> String {
    let bridges = document.bridges.len();
    let mut text = format!("good: {bridges} bridges, {} ports", document.ports().count());
    let devices: Vec<String> = document
        .ports()
        .filter_map(|(_, port)| Some((port, apply::device_options(document, port, Path::new(""))?)))
        .map(|(port, options)| format!("{} ({})", port.name, options.text()))
        .collect();
    if !devices.is_empty() {
        text += &format!("\ndevices that were not tried: {}", devices.join(", "));
    }
    text
}

fn read(options: &Options) -> Result<Document, config::Errors> {
    match (&options.config, &options.persist) {
        (Some(file), _) => config::parse_file(file, &rules::Check(None)),
        (None, Some(file)) if file.exists() => config::parse_file(file, &rules::Check(None)),
        (None, _) => Ok(Document::default()),
    }
}

/// The file to be read again and written.
fn file(options: &Options, document: &Document) -> Option<ConfigFile> {
    let (path, persists) = match (&options.config, &options.persist) {
        (Some(path), _) => (path, false),
        (None, path) => (path.as_ref()?, true),
    };
    Some(ConfigFile::new(path, persists, document))
}

/// The file's settings with what the command line says instead.
fn settings(document: &Document, options: &Options) -> Settings {
    let mut settings = document.settings();
    let dpdk = &mut settings.dpdk;
    dpdk.mbufs = options.total_num_mbufs.unwrap_or(dpdk.mbufs);
    dpdk.mbuf_size = options.mbuf_size.unwrap_or(dpdk.mbuf_size);
    dpdk.rxd = options.rxd.unwrap_or(dpdk.rxd);
    dpdk.txd = options.txd.unwrap_or(dpdk.txd);
    if settings.datapath.hash_seed == 0 {
        // The standard library draws the keys of each from the operating system.
        let drawn = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        settings.datapath.hash_seed = (drawn >> 1).max(1);
    }
    settings
}

fn run(
    eal_args: &[String],
    options: &Options,
    mut document: Document,
    events: Events,
    ending: &Arc<Ending>,
    probe: fn(Moment<'_>),
) -> Result<()> {
    let file = file(options, &document);
    let taking = options.take_over.then(|| Taking { socket: options.control.clone() });
    if let Some(taking) = &taking {
        document = take(taking.document()?, &document, file.is_some());
    }
    let settings = settings(&document, options);
    (document.dpdk, document.datapath) = (settings.dpdk, settings.datapath);
    let control = match &taking {
        Some(_) => ControlSocket::bind_aside(&options.control)?,
        None => ControlSocket::bind(&options.control)?,
    };
    let remove = control.remover();
    if let Some(group) = &options.control_group {
        control.share(group)?;
    }
    let metrics = match TcpListener::bind(options.metrics) {
        Ok(listener) => {
            listener.set_nonblocking(true).context("metrics socket")?;
            Some(listener)
        }
        // The other process listens there, perhaps since before the address went.
        Err(error)
            if taking.is_some()
                && matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) =>
        {
            None
        }
        Err(error) => {
            let address = options.metrics;
            return Err(error)
                .with_context(|| format!("metrics address {address}: choose another with --metrics"));
        }
    };
    let cpus = sys::affinity().context("reading the CPU affinity")?;

    let eal_args = match &taking {
        Some(_) => taking::own_prefix(eal_args, std::process::id()),
        None => eal_args.to_vec(),
    };
    let eal = start_eal(&eal_args, &settings)?;
    let dump = listen_to_dumpcap();
    let pool = Mempool::create(
        "vxswitch",
        settings.dpdk.mbufs,
        POOL_CACHE.min(settings.dpdk.mbufs * 2 / 3),
        settings.dpdk.mbuf_size as u16,
        rte::mempool::ANY_SOCKET,
    )
    .context("give EAL more memory with -m, or use fewer mbufs with --total-num-mbufs")?;
    let stop_within = Duration::from_secs(options.stop_timeout.into());
    let (database, ending) = (options.ovsdb.clone(), Arc::clone(ending));
    let sockets = Sockets { control, metrics, remove: remove.clone(), taking };
    let start = Start { document, file, events, database, sockets, stop_within, ending, probe };
    let clean = threads::run(eal, &cpus, start, &pool);
    let missing = pool.capacity().saturating_sub(pool.available());
    if missing > 0 {
        eprintln!("vxswitch: {missing} of {} mbufs did not come back", pool.capacity());
    }
    drop((pool, dump));
    if let Err(error) = eal.cleanup() {
        eprintln!("vxswitch: {error}");
    }
    drop(remove);
    clean?;
    say!("stopped");
    Ok(())
}

/// What a process becomes in another's place: what that is, with the settings of its own file, if it has one.
fn take(mut other: Document, own: &Document, has_file: bool) -> Document {
    if has_file {
        let seed = other.datapath.hash_seed;
        (other.dpdk, other.datapath) = (own.dpdk, own.datapath);
        if other.datapath.hash_seed == 0 {
            // Flows keep their outer source ports.
            other.datapath.hash_seed = seed;
        }
    }
    other
}

/// Lets `dpdk-dumpcap` attach, where that is possible.
fn listen_to_dumpcap() -> Option<PacketDump> {
    let (dump, why_not) = match PacketDump::start() {
        Ok((dump, reachable)) => (Some(dump), reachable.err().map(|why| why.to_string())),
        Err(error) => (None, Some(error.to_string())),
    };
    if let Some(why) = why_not {
        tracing::info!(target: "vxswitch::daemon", why, "dpdk-dumpcap cannot attach");
    }
    dump
}

fn start_eal(args: &[String], settings: &Settings) -> Result<&'static Eal> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let in_memory = args.iter().any(|arg| arg == "--in-memory");
    let (buffers, size) = (settings.dpdk.mbufs, settings.dpdk.mbuf_size);
    let lack = hugepages::available(Path::new("/sys"), &mounts, in_memory, buffers, size).err();
    let memory = hugepages::fit(args, lack.as_deref(), buffers, size);
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
