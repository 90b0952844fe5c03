//! Desired state to running state. Devices first, as they are what can fail; then the slow path does the rest in
//! one job, between two packets as it were; then old devices are closed.

mod anew;
mod job;
mod mtus;
mod options;
mod queues;

pub use options::{device_options, patch_options, tunnel_options};

use super::device::{Device, DeviceError, DeviceOptions, Resources};
use super::faults::Faults;
use super::locals::LocalDevices;
use super::plan::Plan;
use super::rules::{self, ReadAhead};
use super::totals::Totals;
use crate::bridge::PortKind;
use crate::slowpath::ports::{ApplyError, WorkerQueues};
use crate::slowpath::restore::Learned;
use crate::slowpath::settings::NoMeter;
use crate::slowpath::{Handle, SlowPath, handle::Stopped};
use config::{Bridge, Document};
use datapath::MAX_ADJACENCIES;
use datapath::meter::MAX_METERS;
use flow::ofp::{PortMap, PortNames};
use flow::program::{MAX_PORTS, PortId};
use job::run;
use mtus::{MinMtu, Mtus};
use options::{local_options, local_port};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Why the running switch stayed as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The document is not valid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<config::Problem>),
    /// A setting that only a restart changes.
    #[error("the [dpdk] and [datapath] tables are read at start only: restart vxswitch with the new file")]
    NeedsRestart,
    /// A device does not start.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No room.
    #[error(transparent)]
    Full(#[from] ApplyError),
    /// A rule, in the bridge named.
    #[error("bridge {0}: {1}")]
    Rule(String, String),
    /// No more meters.
    #[error(transparent)]
    NoMeter(#[from] NoMeter),
    /// The switch is going down.
    #[error(transparent)]
    Stopping(#[from] Stopped),
}

/// A port that runs.
#[derive(Debug)]
pub struct RunningPort {
    /// Datapath number.
    pub id: PortId,
    /// The device, for a port that has one.
    pub device: Option<Device>,
    /// Counters under this number before the port had it.
    pub before: Totals,
    /// When it came.
    pub since: Instant,
}

/// The desired state and what runs of it.
#[derive(Debug)]
pub struct Switch {
    /// The desired state; the running one is the same.
    pub document: Document,
    /// Running ports by name; bridges' LOCAL ports too.
    pub ports: BTreeMap<String, RunningPort>,
    handle: Handle,
    resources: Resources,
    /// Devices opened so far: spreads RX queues.
    opened: usize,
    /// Ports whose devices do not run.
    faults: Faults,
    /// Bridges whose LOCAL port is a device of the kernel that runs.
    locals: LocalDevices,
    /// What the process before this one left, until it is used.
    inherited: Inherited,
    /// Lcores that `pmd-sleep-max` names, on which no worker runs.
    sleepless: Vec<u32>,
    /// The smallest MTU of each bridge's ports, which those of the host follow.
    min_mtus: BTreeMap<String, MinMtu>,
}

/// What the process before this one left.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Open queues of taps, by the interface's name.
    pub taps: BTreeMap<String, Vec<Arc<File>>>,
    /// OpenFlow numbers by port name.
    pub ofports: BTreeMap<String, u16>,
    /// FDB, neighbours and hosts.
    pub learned: Learned,
}

/// What a change did besides what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Ports that stay, and whose devices had to be made anew.
    pub remade: Vec<String>,
}

/// What becomes of a port whose device does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnError {
    /// Nothing is changed.
    Refuse,
    /// It is that port's error; the device is tried again later.
    Note,
}

/// A device between its start and its port.
type Opened = BTreeMap<String, (Device, Vec<WorkerQueues>)>;

/// OpenFlow numbers by port name.
type Ofports = BTreeMap<String, u16>;

impl Switch {
    /// A switch without bridges. `settings` has the global tables.
    pub fn new(settings: config::Settings, handle: Handle, resources: Resources) -> Switch {
        let document = Document { dpdk: settings.dpdk, datapath: settings.datapath, ..Document::default() };
        let (faults, locals) = (Faults::default(), LocalDevices::default());
        Switch {
            document,
            ports: BTreeMap::new(),
            handle,
            resources,
            opened: 0,
            faults,
            locals,
            inherited: Inherited::default(),
            sleepless: Vec::new(),
            min_mtus: BTreeMap::new(),
        }
    }

    /// The way to the slow path.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where received packets go.
    pub fn pool(&self) -> &rte::Mempool {
        &self.resources.pool
    }

    /// Ports whose devices do not run.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Bridges whose LOCAL port is a device of the kernel.
    pub fn locals(&self) -> &LocalDevices {
        &self.locals
    }

    /// Makes the switch what `new` says. After an error it is what it was.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change(&mut self, new: Document) -> Result<Changed, ChangeError> {
        self.make(new, OnError::Refuse).await
    }

    /// Makes the switch what `new` says, but for devices that do not start: those are tried again later.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn start(&mut self, new: Document) -> Result<Changed, ChangeError> {
        self.make(new, OnError::Note).await
    }

    /// The same, in the place of another process.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn start_in_place(
        &mut self,
        new: Document,
        mut inherited: Inherited,
    ) -> Result<Changed, ChangeError> {
        self.resources.inherit(std::mem::take(&mut inherited.taps));
        self.inherited = inherited;
        let started = self.make(new, OnError::Note).await;
        // What no port wanted ends.
        self.resources.inherit(BTreeMap::new());
        self.inherited = Inherited::default();
        started
    }

    async fn make(&mut self, new: Document, on_error: OnError) -> Result<Changed, ChangeError> {
        let (mut new, problems) = aside(move || {
            let problems = rules::problems(&new);
            (new, problems)
        })
        .await?;
        if !problems.is_empty() {
            return Err(ChangeError::Invalid(problems));
        }
        if new.datapath.hash_seed == 0 {
            // To be drawn, which was done at the start.
            new.datapath.hash_seed = self.document.datapath.hash_seed;
        }
        if new.settings() != self.document.settings() {
            return Err(ChangeError::NeedsRestart);
        }
        let plan = Plan::new(&self.document, &new);
        if plan.is_empty() {
            self.document = new;
            // Who asks for no MTU any more follows those of the bridge.
            self.follow_mtus().await?;
            self.set_sleep();
            self.place_queues().await;
            return Ok(Changed::default());
        }
        self.check_room(&new).await?;
        // A device that is in use cannot be started again, so a port that takes over an old one's device (or comes
        // back with other options) waits until that has gone.
        let in_use = |device: &str| self.ports.values().flat_map(|p| &p.device).any(|d| d.name() == device);
        let (mut now, mut later) = (Vec::new(), Vec::new());
        let locals: Vec<config::Port> =
            plan.add_locals.iter().filter_map(|name| new.bridge(name)).map(local_port).collect();
        now.extend(locals.iter().map(|port| (port, local_options(&port.name))));
        for (_, name) in &plan.add_ports {
            let Some((_, port)) = new.port(name) else { continue };
            let Some(options) = device_options(&new, port, &self.resources.rundir) else { continue };
            if in_use(options.device()) { later.push((port, options)) } else { now.push((port, options)) }
        }
        let mut opened = Opened::new();
        let mut failed = Vec::new();
        let mut ofports = std::mem::take(&mut self.inherited.ofports);
        for (port, options) in now {
            match (self.open(port, &options, &mut opened).await, on_error) {
                (Ok(()), _) => {}
                (Err(error), OnError::Refuse) => {
                    close_all(opened);
                    return Err(error.into());
                }
                (Err(error), OnError::Note) => failed.push(error),
            }
        }
        let mtus = match self.set_mtus(&plan, &new) {
            Ok(before) => before,
            Err(error) => {
                close_all(opened);
                return Err(error.into());
            }
        };
        if !later.is_empty() {
            match self.replace_devices(&plan, &later, &mut opened).await {
                Ok(numbers) => ofports = numbers,
                Err(error) => {
                    close_all(opened);
                    self.reset_mtus(mtus);
                    return Err(error);
                }
            }
        }
        let remade = |name: &&String| {
            plan.add_ports.iter().any(|(_, port)| port == *name) && opened.contains_key(*name)
        };
        let changed = Changed { remade: plan.remove_ports.iter().filter(remade).cloned().collect() };
        log_plan(&plan, &changed);
        self.carry_out(plan, new, opened, ofports).await?;
        self.follow_mtus().await?;
        self.set_sleep();
        self.place_queues().await;
        for error in failed {
            self.fault(&error);
        }
        Ok(changed)
    }

    /// Lets workers sleep as the document says, or as suits their CPUs where it does not.
    fn set_sleep(&mut self) {
        let asked = self.document.sleep_max();
        let is_worker = |lcore: &u32| self.resources.workers.iter().any(|worker| worker.lcore == *lcore);
        let nobody: Vec<u32> = asked.lcores().filter(|lcore| !is_worker(lcore)).collect();
        if self.sleepless != nobody {
            for lcore in &nobody {
                tracing::warn!(target: "vxswitch::config", lcore, "pmd-sleep-max: no worker runs there");
            }
            self.sleepless = nobody;
        }
        for worker in self.resources.workers.iter() {
            let most = asked.of(worker.lcore).unwrap_or(worker.default_sleep);
            if worker.link.sleep_max.swap(most, Relaxed) != most {
                tracing::info!(lcore = worker.lcore, microseconds = most, "longest sleep of the worker");
            }
        }
    }

    /// Notes that a port's device does not run.
    fn fault(&self, error: &DeviceError) {
        if self.faults.error(&error.port).as_deref() != Some(error.reason.as_str()) {
            tracing::error!(target: "vxswitch::port", port = %error.port, reason = %error.reason, "the device does not start");
        }
        self.faults.note(&error.port, &error.reason, Instant::now());
    }

    /// Opens a device, on a thread that may block: a NIC takes seconds, in which control goes on.
    async fn open(
        &mut self,
        port: &config::Port,
        options: &DeviceOptions,
        opened: &mut Opened,
    ) -> Result<(), DeviceError> {
        let (config, options, resources, index) =
            (port.clone(), options.clone(), self.resources.clone(), self.opened);
        let task = move || Device::open(&config, &options, &resources, index);
        let device = tokio::task::spawn_blocking(task)
            .await
            .map_err(|error| DeviceError { port: port.name.clone(), reason: error.to_string() })??;
        self.opened += 1;
        opened.insert(port.name.clone(), device);
        Ok(())
    }

    /// Sees that numbers suffice, so that nothing fails half-way.
    async fn check_room(&self, new: &Document) -> Result<(), ChangeError> {
        let ports = new.bridges.iter().map(|b| 1 + b.ports.len()).sum::<usize>();
        let remotes: usize =
            new.ports().filter_map(|(_, p)| tunnel_options(p)).map(|o| o.destinations().len()).sum();
        // While ports are exchanged, adjacencies of old ones are not free yet.
        let leaving = self.handle.call(|slow| remotes_in_use(slow)).await?;
        let last = || new.ports().last().map_or_else(String::new, |(_, p)| p.name.clone());
        if ports >= MAX_PORTS {
            return Err(ApplyError::NoPortNumber(last()).into());
        }
        if new.bridges.iter().map(|bridge| bridge.meters.len()).sum::<usize>() > MAX_METERS {
            return Err(NoMeter.into());
        }
        if remotes + leaving > MAX_ADJACENCIES {
            return Err(ApplyError::NoAdjacency(last()).into());
        }
        Ok(())
    }

    /// The slow path's part, then the end of old devices. Returns the OpenFlow numbers that ports had which went.
    async fn carry_out(
        &mut self,
        plan: Plan,
        new: Document,
        mut opened: Opened,
        ofports: Ofports,
    ) -> Result<Ofports, ChangeError> {
        let mut queues = BTreeMap::new();
        let mut devices = BTreeMap::new();
        while let Some((name, (device, shared))) = opened.pop_first() {
            devices.insert(name.clone(), device);
            queues.insert(name, shared);
        }
        let mtus: Mtus = plan
            .set_mtu
            .iter()
            .filter_map(|name| Some((name.clone(), self.ports.get(name)?.device.as_ref()?.mtu)))
            .collect();
        let names = self.handle.call(|slow| rules::names_of_all(&slow.state)).await?;
        let (job_plan, target) = (plan.clone(), new.clone());
        let (ahead, job_plan, target) =
            aside(move || (read_ahead(&job_plan, &target, names), job_plan, target)).await?;
        let old = self.document.clone();
        let learned = std::mem::take(&mut self.inherited.learned);
        let job = move |slow: &mut SlowPath| {
            let outcome = run(slow, &job_plan, (&old, &target), &ahead, queues, &mtus, ofports);
            slow.restore(learned);
            outcome
        };
        let outcome = self.handle.call(job).await?;
        self.document = new;
        for (name, ios) in outcome.returned {
            let device = if plan.remove_locals.contains(&name) {
                // The LOCAL port itself stays as long as its bridge.
                self.ports.get_mut(&name).and_then(|port| port.device.take())
            } else {
                self.ports.remove(&name).and_then(|port| port.device)
            };
            if let Some(device) = device
                && let Err(error) = device.close(ios)
            {
                tracing::warn!(port = %name, %error, "closing the device");
            }
        }
        for name in plan.remove_ports.iter().chain(&plan.remove_bridges) {
            self.ports.remove(name);
            self.faults.clear(name);
        }
        for (name, id, before) in outcome.added {
            let device = devices.remove(&name);
            self.ports.insert(name, RunningPort { id, device, before, since: Instant::now() });
        }
        for (name, device) in devices {
            // Of bridges that were there before.
            if let Some(port) = self.ports.get_mut(&name) {
                port.device = Some(device);
            }
        }
        for bridge in plan.configure.iter().filter_map(|name| self.document.bridge(name)) {
            let device = self.ports.get_mut(&bridge.name).and_then(|port| port.device.as_mut());
            if let (Some(device), Some(mac)) = (device, bridge.mac())
                && device.mac != mac
                && let Err(error) = device.set_mac(mac)
            {
                tracing::error!(target: "vxswitch::port", port = %bridge.name, %error, "the bridge's device keeps its MAC address");
            }
        }
        if !plan.add_locals.is_empty() || !plan.remove_locals.is_empty() {
            let runs = |bridge: &&Bridge| {
                bridge.has_device() && self.ports.get(&bridge.name).is_some_and(|port| port.device.is_some())
            };
            self.locals.set(self.document.bridges.iter().filter(runs).map(|b| b.name.clone()).collect());
        }
        outcome.result.map(|()| outcome.ofports)
    }
}

/// Does what takes long with many rules on a thread of its own: neither first packets nor other requests wait for it.
pub(in crate::control) async fn aside<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Stopped> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Stopped)
}

/// The rules that a plan says to read again, as far as they name ports that stay.
fn read_ahead(plan: &Plan, new: &Document, mut names: BTreeMap<String, PortMap>) -> ReadAhead {
    for names in names.values_mut() {
        let stay = names.all_names().filter(|name| !plan.remove_ports.contains(name));
        let numbered = stay.filter_map(|name| Some((name.clone(), names.number(name)?)));
        *names = numbered.collect();
    }
    ReadAhead::new(plan.rules.iter().filter_map(|name| new.bridge(name)), names)
}

fn close_all(opened: Opened) {
    for (name, (device, queues)) in opened {
        drop(queues);
        if let Err(error) = device.close(Vec::new()) {
            tracing::warn!(port = %name, %error, "closing the device");
        }
    }
}

fn remotes_in_use(slow: &SlowPath) -> usize {
    let remotes = |kind: &PortKind| match kind {
        PortKind::Tunnel(tunnel) => tunnel.remotes.len(),
        _ => 0,
    };
    slow.state.ports().map(|(_, port)| remotes(&port.kind)).sum()
}

/// Says what is about to change.
fn log_plan(plan: &Plan, changed: &Changed) {
    let list = |names: &[String]| names.join(" ");
    let added: Vec<String> = plan.add_ports.iter().map(|(_, port)| port.clone()).collect();
    let gone: Vec<String> = plan.remove_ports.iter().filter(|name| !added.contains(name)).cloned().collect();
    for (what, names) in [
        ("bridges added", &plan.add_bridges),
        ("bridges removed", &plan.remove_bridges),
        ("ports added", &added),
        ("ports removed", &gone),
        ("devices made anew", &changed.remade),
        ("bridges configured", &plan.configure),
    ] {
        if !names.is_empty() {
            tracing::info!(target: "vxswitch::config", names = %list(names), "{what}");
        }
    }
}
