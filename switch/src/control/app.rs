//! What the API's handlers, the metrics endpoint and the watchers share: the switch, and the workers' counters.

use super::apply::{Switch, aside};
use super::faults::Faults;
use super::file::{ConfigFile, SaveError};
use super::giving::Giving;
use super::loads::Loads;
use super::locals::LocalDevices;
use super::log::Events;
use super::openflow::controllers::Controllers;
use super::pulse::Pulses;
use super::rounds::Rounds;
use super::rules;
use crate::slowpath::Handle;
use datapath::counters::WorkerCounters;
use datapath::message::Link;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex as StdMutex, PoisonError};
use tokio::sync::{Mutex, MutexGuard};

/// What is known of a worker from its start on.
#[derive(Debug)]
pub struct WorkerInfo {
    /// Its lcore.
    pub lcore: u32,
    /// The lcore's NUMA node.
    pub numa: u32,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Its queues, and what is said of its sleep.
    pub link: Arc<Link>,
    /// Bytes that a megaflow costs in a full table.
    pub bytes_per_megaflow: f64,
    /// Bytes that an entry of the flow cache costs.
    pub bytes_per_cache_entry: usize,
}

/// What handlers share.
#[derive(Debug)]
pub struct App {
    /// The switch; who changes it holds the lock until the change is whole.
    pub switch: Mutex<Switch>,
    /// Workers in the order of their lcores.
    pub workers: Vec<WorkerInfo>,
    /// The workers' counters, in the same order.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// The way to the slow path.
    pub handle: Handle,
    /// Everything in the file has been applied.
    pub ready: Arc<AtomicBool>,
    /// Whether the threads move.
    pub pulses: Arc<Pulses>,
    /// Ports whose devices do not run.
    pub faults: Faults,
    /// Bridges whose LOCAL port is a device of the kernel.
    pub locals: LocalDevices,
    /// The file that the daemon was started with, if there was one.
    pub file: Option<ConfigFile>,
    /// What happens.
    pub events: Events,
    /// What RX queues take of their workers' time.
    pub loads: StdMutex<Loads>,
    /// The controllers that bridges shall have.
    pub controllers: Controllers,
    /// The looks at bridges that have OpenFlow sockets, or shall.
    pub sockets: Rounds,
    /// The handover to another process.
    pub giving: Giving,
    /// What workers had counted when `dpif-netdev/pmd-stats-clear` was last asked for; the counters themselves go on.
    pub cleared: StdMutex<Vec<api::LcoreRow>>,
    /// VNIs whose remotes come from EVPN, as they were last seen.
    pub evpn: StdMutex<Vec<api::EvpnRow>>,
    /// Bridges whose rules, groups or meters OpenFlow changed since the document last had them.
    stale: StdMutex<BTreeSet<String>>,
    /// Why the file does not have what it should, since the last try.
    unsaved: StdMutex<Option<String>>,
}

impl App {
    /// Writes the document to its file, if every change is to be kept.
    ///
    /// # Errors
    /// The file system's reason.
    pub async fn persist(&self) -> Result<(), SaveError> {
        match &self.file {
            Some(file) if file.persists() => {
                drop(self.desired().await);
                let saved = file.save(&self.switch).await;
                let now = saved.as_ref().err().map(ToString::to_string);
                let before = {
                    let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
                    std::mem::replace(&mut *unsaved, now.clone())
                };
                match (before.is_some(), &now) {
                    (false, Some(error)) => {
                        tracing::error!(%error, "changes are not saved: tried again every second");
                    }
                    (true, None) => tracing::info!("changes are saved again"),
                    _ => {}
                }
                saved
            }
            _ => Ok(()),
        }
    }

    /// Why changes are not in the file that is to have them, if so.
    pub fn unsaved(&self) -> Option<String> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For this switch and its workers.
    pub fn new(
        switch: Switch,
        workers: Vec<WorkerInfo>,
        pulses: Arc<Pulses>,
        file: Option<ConfigFile>,
        events: Events,
    ) -> Arc<App> {
        let (faults, locals) = (switch.faults().clone(), switch.locals().clone());
        let handle = switch.handle().clone();
        let counters = workers.iter().map(|w| Arc::clone(&w.counters)).collect();
        Arc::new(App {
            faults,
            locals,
            file,
            events,
            switch: Mutex::new(switch),
            workers,
            counters,
            handle,
            ready: Arc::default(),
            pulses,
            loads: StdMutex::default(),
            controllers: Controllers::default(),
            sockets: Rounds::default(),
            giving: Giving::default(),
            cleared: StdMutex::default(),
            evpn: StdMutex::default(),
            stale: StdMutex::default(),
            unsaved: StdMutex::default(),
        })
    }

    /// Notes that a bridge runs with other rules than the document says. Its lock is held.
    pub fn note_stale(&self, bridge: &str) {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).insert(bridge.to_owned());
    }

    /// The switch, with a document that has every rule, group and meter that runs: who looks at the document's, or
    /// edits it, takes this lock. Texts are made here and not with each of a hundred thousand flow mods.
    pub async fn desired(&self) -> MutexGuard<'_, Switch> {
        let mut switch = self.switch.lock().await;
        let stale = std::mem::take(&mut *self.stale.lock().unwrap_or_else(PoisonError::into_inner));
        for name in stale {
            let bridge = name.clone();
            // A switch that stops needs no document.
            let Ok(Some(running)) = self.handle.call(move |slow| rules::running(&slow.state, &bridge)).await
            else {
                continue;
            };
            let Ok(running) = aside(move || running.texts()).await else { continue };
            if let Some(bridge) = switch.document.bridge_mut(&name) {
                (bridge.flows, bridge.groups, bridge.meters) = running;
            }
        }
        switch
    }
}
