//! Desired state to running state. Devices first, as they are what can fail; then the slow path does the rest in
//! one job, between two packets as it were; then old devices are closed.

use super::device::{Device, DeviceError, DeviceOptions, Resources, STARTS_ONCE};
use super::faults::Faults;
use super::locals::LocalDevices;
use super::plan::Plan;
use super::rules::{self, PolicyError, ReadAhead};
use super::totals::Totals;
use crate::bridge::PortKind;
use crate::bridge::fdb::Location;
use crate::bridge::mirror::MirrorOutput;
use crate::slowpath::ports::{ApplyError, WorkerQueues};
use crate::slowpath::settings::NoMeter;
use crate::slowpath::{Handle, SlowPath, handle::Stopped};
use config::{
    Bridge, Document, DpdkOptions, PatchOptions, PortKind as PortType, TapOptions, TunnelOptions,
    VhostOptions,
};
use datapath::MAX_ADJACENCIES;
use datapath::message::PortIo;
use datapath::meter::MAX_METERS;
use flow::ofp::{PortMap, PortNames};
use flow::program::{MAX_PORTS, PortId};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Instant;
use wire::addr::MacAddr;

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

/// MTUs in bytes by port name.
type Mtus = Vec<(String, u16)>;

/// OpenFlow numbers by port name.
type Ofports = BTreeMap<String, u16>;

/// What the slow path did.
struct Outcome {
    /// Numbers of new ports, and what their counters stood at.
    added: Vec<(String, PortId, Totals)>,
    /// Queues of removed devices.
    returned: BTreeMap<String, Vec<PortIo>>,
    /// Numbers of ports that went.
    ofports: Ofports,
    result: Result<(), ChangeError>,
}

impl Switch {
    /// A switch without bridges. `settings` has the global tables.
    pub fn new(settings: config::Settings, handle: Handle, resources: Resources) -> Switch {
        let document = Document { dpdk: settings.dpdk, datapath: settings.datapath, bridges: Vec::new() };
        let (faults, locals) = (Faults::default(), LocalDevices::default());
        Switch { document, ports: BTreeMap::new(), handle, resources, opened: 0, faults, locals }
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
            let Some(options) = device_options(port) else { continue };
            if in_use(options.device()) { later.push((port, options)) } else { now.push((port, options)) }
        }
        // The port that has the device is better than none.
        let devices = || self.ports.values().flat_map(|port| &port.device);
        let once = |device: &str| devices().any(|d| d.name() == device && d.starts_once());
        if let Some((port, _)) = later.iter().find(|(_, options)| once(options.device())) {
            let error = DeviceError { port: port.name.clone(), reason: STARTS_ONCE.to_owned() };
            return Err(error.into());
        }
        let mut opened = Opened::new();
        let mut failed = Vec::new();
        let mut ofports = Ofports::new();
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
        for error in failed {
            self.fault(&error);
        }
        Ok(changed)
    }

    /// Notes that a port's device does not run.
    fn fault(&self, error: &DeviceError) {
        if self.faults.error(&error.port).as_deref() != Some(error.reason.as_str()) {
            tracing::error!(target: "vxswitch::port", port = %error.port, reason = %error.reason, "the device does not start");
        }
        self.faults.note(&error.port, &error.reason, Instant::now());
    }

    /// Tries the device of a port again that did not start.
    pub async fn retry(&mut self, name: &str) {
        if let Some(bridge) = self.document.bridge(name).filter(|bridge| bridge.has_device()).cloned() {
            let mut opened = Opened::new();
            if let Err(error) = self.open(&local_port(&bridge), &local_options(name), &mut opened).await {
                return self.fault(&error);
            }
            let plan = Plan::local_anew(&bridge, true);
            match self.carry_out(plan, self.document.clone(), opened, Ofports::new()).await {
                Ok(_) => {
                    self.faults.clear(name);
                    tracing::info!(target: "vxswitch::port", port = %name, "the device runs now");
                }
                Err(error) => {
                    tracing::error!(target: "vxswitch::port", port = %name, %error, "the device runs, its port does not");
                }
            }
            return;
        }
        let found = self.document.port(name).map(|(bridge, port)| (bridge.clone(), port.clone()));
        let Some((bridge, port)) = found else {
            self.faults.clear(name);
            return;
        };
        let Some(options) = device_options(&port) else { return };
        let mut opened = Opened::new();
        if let Err(error) = self.open(&port, &options, &mut opened).await {
            return self.fault(&error);
        }
        match self.make_anew(&bridge, name, opened).await {
            Ok(()) => tracing::info!(target: "vxswitch::port", port = %name, "the device runs now"),
            Err(error) => {
                tracing::error!(target: "vxswitch::port", port = %name, %error, "the device runs, its port does not");
            }
        }
    }

    /// Closes a device whose kernel interface is gone: it has no way back to one of the same name. Its port stays, and the
    /// device is tried again as one that did not start.
    pub async fn lose(&mut self, name: &str) {
        let made = if let Some(bridge) = self.document.bridge(name) {
            let plan = Plan::local_anew(bridge, false);
            self.carry_out(plan, self.document.clone(), Opened::new(), Ofports::new()).await.map(drop)
        } else {
            let Some((bridge, _)) = self.document.port(name) else { return };
            let bridge = bridge.clone();
            self.make_anew(&bridge, name, Opened::new()).await
        };
        match made {
            Ok(()) => self.fault(&DeviceError {
                port: name.to_owned(),
                reason: "its kernel interface was deleted or moved to another network namespace".to_owned(),
            }),
            Err(error) => {
                tracing::error!(target: "vxswitch::port", port = %name, %error, "the device is lost and cannot be closed");
            }
        }
    }

    /// Makes a port anew under its number, with the device that was opened for it or without one.
    async fn make_anew(&mut self, bridge: &Bridge, name: &str, opened: Opened) -> Result<(), ChangeError> {
        let id = self.ports.get(name).map(|port| port.id);
        let number =
            self.handle.call(move |slow| id.and_then(|id| Some(slow.state.port(id)?.ofport))).await?;
        let ofports =
            number.and_then(|n| Some((name.to_owned(), u16::try_from(n).ok()?))).into_iter().collect();
        let plan = Plan::anew(bridge, name);
        self.carry_out(plan, self.document.clone(), opened, ofports).await.map(drop)
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
            new.ports().filter_map(|(_, p)| tunnel_options(p)).map(|o| o.remotes().len()).sum();
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

    /// Sets the MTU of devices that stay, and returns what it was; undoes it when one refuses.
    fn set_mtus(&mut self, plan: &Plan, new: &Document) -> Result<Mtus, DeviceError> {
        let mut done = Mtus::new();
        for name in &plan.set_mtu {
            let wanted = new.port(name).and_then(|(_, p)| p.mtu).unwrap_or(super::device::DEFAULT_MTU);
            let Some(device) = self.ports.get_mut(name).and_then(|p| p.device.as_mut()) else { continue };
            let before = device.mtu;
            match device.set_mtu(wanted) {
                Ok(()) => done.push((name.clone(), before)),
                Err(reason) => {
                    self.reset_mtus(done);
                    return Err(DeviceError { port: name.clone(), reason });
                }
            }
        }
        Ok(done)
    }

    /// Undoes [`Switch::set_mtus`].
    fn reset_mtus(&mut self, before: Mtus) {
        for (name, mtu) in before {
            if let Some(device) = self.ports.get_mut(&name).and_then(|p| p.device.as_mut())
                && let Err(reason) = device.set_mtu(mtu)
            {
                tracing::error!(port = %name, %reason, "the MTU cannot be set back");
            }
        }
    }

    /// Takes old ports off devices that new ones want, and starts the devices anew. When one does not start, the
    /// old ports come back.
    async fn replace_devices(
        &mut self,
        plan: &Plan,
        later: &[(&config::Port, DeviceOptions)],
        opened: &mut Opened,
    ) -> Result<Ofports, ChangeError> {
        let wanted = |d: &Device| later.iter().any(|(_, o)| o.device() == d.name());
        let holders: Vec<String> = plan
            .remove_ports
            .iter()
            .filter(|name| self.ports.get(*name).and_then(|p| p.device.as_ref()).is_some_and(wanted))
            .cloned()
            .collect();
        let full = self.document.clone();
        let mut without = full.clone();
        for bridge in &mut without.bridges {
            bridge.ports.retain(|port| !holders.contains(&port.name));
            // Rules that name the port stay as they are, by its number, until the change is whole.
        }
        let removal = Plan { remove_ports: holders, ..Plan::default() };
        let ofports = self.carry_out(removal, without.clone(), Opened::new(), Ofports::new()).await?;
        for (port, options) in later {
            let Err(error) = self.open(port, options, opened).await else { continue };
            close_all(std::mem::take(opened));
            self.restore(without, full, ofports).await;
            return Err(error.into());
        }
        Ok(ofports)
    }

    /// Brings ports back that were removed for others that do not start. One whose old device does not start either
    /// is back without it, and tried again later.
    async fn restore(&mut self, without: Document, full: Document, ofports: Ofports) {
        let plan = Plan::new(&without, &full);
        let mut opened = Opened::new();
        let mut failed = Vec::new();
        for (_, name) in &plan.add_ports {
            let Some((_, port)) = full.port(name) else { continue };
            let Some(options) = device_options(port) else { continue };
            if let Err(error) = self.open(port, &options, &mut opened).await {
                failed.push(error);
            }
        }
        if let Err(error) = self.carry_out(plan, full, opened, ofports).await {
            tracing::error!(target: "vxswitch::port", %error, "the earlier state cannot be restored");
        }
        for error in failed {
            self.fault(&error);
        }
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
        let outcome = self
            .handle
            .call(move |slow| run(slow, &job_plan, (&old, &target), &ahead, queues, &mtus, ofports))
            .await?;
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
            self.ports.insert(name, RunningPort { id, device, before });
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

/// The typed options of a device port; `None` for other ports. The document is valid.
pub fn device_options(port: &config::Port) -> Option<DeviceOptions> {
    match port.port_kind() {
        Ok(PortType::Dpdk) => DpdkOptions::parse(&port.options).ok().map(DeviceOptions::Dpdk),
        Ok(PortType::DpdkVhostUserClient) => {
            let options = VhostOptions::parse(&port.options).ok()?;
            Some(DeviceOptions::Dpdk(options.device(&port.name)))
        }
        Ok(PortType::Internal) => {
            Some(DeviceOptions::Tap { name: port.name.clone(), options: TapOptions::default(), up: true })
        }
        Ok(PortType::Tap) => {
            let options = TapOptions::parse(&port.options).ok()?;
            Some(DeviceOptions::Tap { name: port.name.clone(), options, up: true })
        }
        _ => None,
    }
}

/// A bridge's LOCAL port as one that has a device of the kernel. Whoever gives the device addresses sets it up, as with Open
/// vSwitch.
fn local_port(bridge: &Bridge) -> config::Port {
    let (name, mac) = (bridge.name.clone(), Some(bridge_mac(bridge)));
    config::Port { name, kind: "internal".into(), mac, ..config::Port::default() }
}

fn local_options(name: &str) -> DeviceOptions {
    DeviceOptions::Tap { name: name.to_owned(), options: TapOptions::default(), up: false }
}

/// The typed options of a patch port; `None` for other ports. The document is valid.
pub fn patch_options(port: &config::Port) -> Option<PatchOptions> {
    if port.kind == "patch" { PatchOptions::parse(&port.options).ok() } else { None }
}

/// The typed options of a tunnel port; `None` for other ports. The document is valid.
pub fn tunnel_options(port: &config::Port) -> Option<TunnelOptions> {
    TunnelOptions::of(port)?.ok()
}

fn remotes_in_use(slow: &SlowPath) -> usize {
    let remotes = |kind: &PortKind| match kind {
        PortKind::Tunnel(tunnel) => tunnel.remotes.len(),
        _ => 0,
    };
    slow.state.ports().map(|(_, port)| remotes(&port.kind)).sum()
}

/// The plan, on the slow path's thread.
fn run(
    slow: &mut SlowPath,
    plan: &Plan,
    (old, new): (&Document, &Document),
    ahead: &ReadAhead,
    mut queues: BTreeMap<String, Vec<WorkerQueues>>,
    mtus: &[(String, u16)],
    mut ofports: Ofports,
) -> Outcome {
    let mut outcome =
        Outcome { added: Vec::new(), returned: BTreeMap::new(), ofports: Ofports::new(), result: Ok(()) };
    for name in &plan.remove_ports {
        let Some(id) = slow.state.port_named(name) else { continue };
        let Some(port) = slow.state.port(id) else { continue };
        // A port that comes back changed keeps its number, by which rules and users know it.
        ofports.insert(name.clone(), port.ofport as u16);
        if matches!(port.kind, PortKind::Device) {
            let ios = slow.remove_device(id);
            outcome.returned.insert(name.clone(), ios.into_iter().map(|io| *io).collect());
        } else {
            slow.forget_port(id);
        }
        forget_mirrors(slow, id);
    }
    for name in &plan.remove_locals {
        let Some(id) = slow.state.bridge_named(name) else { continue };
        let ios = slow.detach_local(id);
        outcome.returned.insert(name.clone(), ios.into_iter().map(|io| *io).collect());
    }
    for name in &plan.remove_bridges {
        if let Some(id) = slow.state.bridge_named(name) {
            slow.remove_bridge(id);
        }
    }
    outcome.result = build(slow, plan, (old, new), ahead, &mut queues, &ofports, &mut outcome.added);
    for (name, mtu) in mtus {
        if let Some(id) = slow.state.port_named(name) {
            slow.set_mtu(id, *mtu);
        }
    }
    if !slow.commit() && outcome.result.is_ok() {
        outcome.result = Err(ApplyError::WorkerDead.into());
    }
    outcome.ofports = ofports;
    outcome
}

/// Takes a port that goes out of mirrors: its number may be another's soon.
fn forget_mirrors(slow: &mut SlowPath, port: PortId) {
    for (_, bridge) in slow.state.bridges_mut() {
        bridge.mirrors.retain(|mirror| mirror.output != MirrorOutput::Port(port));
        for mirror in &mut bridge.mirrors {
            mirror.src.retain(|other| *other != port);
            mirror.dst.retain(|other| *other != port);
        }
    }
}

/// Everything that comes or changes.
fn build(
    slow: &mut SlowPath,
    plan: &Plan,
    (old, new): (&Document, &Document),
    ahead: &ReadAhead,
    queues: &mut BTreeMap<String, Vec<WorkerQueues>>,
    ofports: &Ofports,
    added: &mut Vec<(String, PortId, Totals)>,
) -> Result<(), ChangeError> {
    for bridge in plan.add_bridges.iter().filter_map(|name| new.bridge(name)) {
        let id = slow.add_bridge(bridge, bridge_mac(bridge))?;
        if let Some(local) = slow.state.bridge(id).map(|b| b.local) {
            added.push((bridge.name.clone(), local, Totals::of(slow, local)));
        }
    }
    for bridge in plan.configure.iter().filter_map(|name| new.bridge(name)) {
        let Some(id) = slow.state.bridge_named(&bridge.name) else { continue };
        let derived = old.bridge(&bridge.name).is_some_and(|b| b.mac().is_none());
        let running = slow.state.bridge(id).map(|b| b.mac).filter(|_| derived);
        // A derived address stays: others know it by now.
        let mac = bridge.mac().or(running).unwrap_or_else(|| bridge_mac(bridge));
        slow.configure_bridge(id, bridge, old.bridge(&bridge.name), mac);
    }
    for bridge in plan.add_locals.iter().filter_map(|name| new.bridge(name)) {
        let Some(id) = slow.state.bridge_named(&bridge.name) else { continue };
        // Without queues the device does not run, and its bridge does.
        if let Some(queues) = queues.remove(&bridge.name) {
            slow.attach_local(id, bridge_mac(bridge), queues);
        }
    }
    for (bridge, name) in &plan.add_ports {
        let Some((_, port)) = new.port(name) else { continue };
        let Some(bridge) = slow.state.bridge_named(bridge) else { continue };
        let mut port = port.clone();
        port.ofport_request = port.ofport_request.or_else(|| ofports.get(name).copied());
        let id = match (queues.remove(name), tunnel_options(&port)) {
            (Some(queues), _) => slow.add_device(bridge, &port, queues)?,
            (None, Some(options)) => slow.add_tunnel(bridge, &port, options)?,
            (None, None) => match patch_options(&port) {
                Some(options) => slow.add_patch(bridge, &port, &options.peer)?,
                // A device that does not run: the port has its number and name, for rules, and no queue.
                None => slow.add_device(bridge, &port, Vec::new())?,
            },
        };
        added.push((name.clone(), id, Totals::of(slow, id)));
    }
    for port in plan.set_vlan.iter().filter_map(|name| new.port(name)).map(|(_, port)| port) {
        if let Some(id) = slow.state.port_named(&port.name) {
            slow.configure_port(id, port);
        }
    }
    let request = |name: &String| {
        let (_, port) = new.port(name)?;
        Some((slow.state.port_named(name)?, port.ofport_request?))
    };
    let requests: Vec<(PortId, u16)> = plan.set_ofport.iter().filter_map(request).collect();
    if !requests.is_empty() {
        slow.set_ofports(&requests);
    }
    for bridge in plan.policy.iter().filter_map(|name| new.bridge(name)) {
        rules::read_policy(slow, bridge).map_err(|error| match error {
            PolicyError::NoMeter(error) => error.into(),
            PolicyError::Text(error) => ChangeError::Rule(bridge.name.clone(), error),
        })?;
    }
    for bridge in plan.rules.iter().filter_map(|name| new.bridge(name)) {
        rules::read(slow, bridge, old.bridge(&bridge.name), ahead)
            .map_err(|error| ChangeError::Rule(bridge.name.clone(), error))?;
    }
    for bridge in plan.fdb.iter().filter_map(|name| new.bridge(name)) {
        static_macs(slow, plan, old.bridge(&bridge.name), bridge);
    }
    Ok(())
}

/// Makes a bridge's static FDB entries those of its document entry.
fn static_macs(slow: &mut SlowPath, plan: &Plan, old: Option<&Bridge>, new: &Bridge) {
    let Some(id) = slow.state.bridge_named(&new.name) else { return };
    for gone in old.iter().flat_map(|old| &old.fdb).filter(|entry| !new.fdb.contains(entry)) {
        slow.fdb_delete(id, gone.vlan, gone.mac);
    }
    let before = old.map_or(&[][..], |old| &old.fdb);
    let came = |entry: &&config::StaticMac| {
        !before.contains(entry) || plan.add_ports.iter().any(|(_, port)| *port == entry.port)
    };
    for entry in new.fdb.iter().filter(came) {
        let Some(port) = slow.state.port_named(&entry.port) else { continue };
        let only =
            |port: &config::Port| tunnel_options(port).and_then(|options| options.remotes().first().copied());
        let remote = entry.remote.or_else(|| new.ports.iter().find(|p| p.name == entry.port).and_then(only));
        slow.fdb_add(id, entry.vlan, entry.mac, Location { port, remote });
    }
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

/// The bridge's own MAC: as configured, else a local one that is the same after every start and different on every
/// machine, bridge and VTEP address.
fn bridge_mac(bridge: &Bridge) -> MacAddr {
    bridge.mac().unwrap_or_else(|| {
        let machine = std::fs::read_to_string("/etc/machine-id")
            .or_else(|_| std::fs::read_to_string("/etc/hostname"))
            .unwrap_or_default();
        derived_mac(&machine, &bridge.name, bridge.address.first().map(ToString::to_string).as_deref())
    })
}

fn derived_mac(machine: &str, bridge: &str, address: Option<&str>) -> MacAddr {
    let mut hasher = DefaultHasher::new();
    (machine, bridge, address).hash(&mut hasher);
    let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_addresses_are_local_stable_and_different() {
        let mac = derived_mac("m", "br0", None);
        assert_eq!(mac, derived_mac("m", "br0", None));
        assert_eq!(mac.0[0], 2);
        assert_ne!(mac, derived_mac("m", "br1", None));
        assert_ne!(mac, derived_mac("n", "br0", None));
        assert_ne!(mac, derived_mac("m", "br0", Some("192.168.1.1/24")));
    }
}
