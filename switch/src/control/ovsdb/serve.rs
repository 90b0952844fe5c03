//! Serves a database: what it asks for is applied, and what came of it is written back.

use super::document::{self, Asked, Errors, Known, Numbers, Ofports, keep_rules};
use super::ignored::Ignored;
use super::report::Written;
use super::rows::Rows;
use super::unserved;
use crate::bridge::rules::TableLimits;
use crate::control::app::App;
use crate::control::apply::{ChangeError, Switch};
use crate::control::handlers::views::bridge_rows;
use crate::control::rules;
use crate::slowpath::SlowPath;
use api::BridgeRow;
use config::{AddressesFrom, Bridge, Document};
use ovsdb::rows::{DATABASE, LOCK, MONITORED};
use ovsdb::{Client, Event, Target, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// How often links and the like are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// `other_config:stats-update-interval`, milliseconds, unless set, and at least.
const STATISTICS_EVERY: u64 = 5000;

/// What a look at the switch found.
struct Found {
    /// What was applied before, and what of it could not be.
    applied: Option<(Rows, Errors)>,
    /// What of it was ignored.
    ignored: Ignored,
    bridges: Vec<BridgeRow>,
    /// Statistics are to be written.
    count: bool,
}

/// Serves the database for ever.
pub async fn run(app: Arc<App>, target: Target) {
    Server {
        app,
        client: Client::new(target, DATABASE, LOCK, MONITORED),
        working: None,
        dirty: false,
        applied: None,
        written: Written::default(),
        counted: Instant::now(),
        restoring: true,
        unserved: BTreeSet::new(),
        ignored: Ignored::new(),
        ofports: Ofports::new(),
    }
    .run()
    .await;
}

struct Server {
    app: Arc<App>,
    client: Client,
    /// What is under way. The database is answered meanwhile.
    working: Option<JoinHandle<Found>>,
    /// The database may ask for something else than what was applied.
    dirty: bool,
    /// What was applied last, and what of it could not be.
    applied: Option<(Rows, Errors)>,
    written: Written,
    /// When statistics were written.
    counted: Instant,
    /// `other_config:flow-restore-wait`: rules are being restored. As in Open vSwitch that begins with the switch or not at all.
    restoring: bool,
    /// What the database asks for that is not served, as far as it was said.
    unserved: BTreeSet<String>,
    /// What is wrong in it and ignored, as far as it was said.
    ignored: Ignored,
    /// OpenFlow numbers that ports had last.
    ofports: Ofports,
}

/// Waits for the end of work, if there is some.
async fn finished(working: &mut Option<JoinHandle<Found>>) -> Option<Found> {
    match working {
        Some(work) => {
            let found = work.await.ok();
            *working = None;
            found
        }
        None => std::future::pending().await,
    }
}

impl Server {
    async fn run(&mut self) {
        let mut timer = tokio::time::interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut look = false;
            tokio::select! {
                event = self.client.next() => self.event(event),
                found = finished(&mut self.working) => {
                    if let Some(found) = found {
                        self.report(found);
                    }
                }
                _ = timer.tick() => look = true,
            }
            self.work(look);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Changed => self.dirty = true,
            Event::Locked(true) => {
                tracing::info!("the database is this switch's to serve");
                self.dirty = true;
            }
            Event::Locked(false) => {
                tracing::warn!(
                    "another switch serves the database: this one goes on as it is, and follows no change"
                );
            }
            Event::Done(outcome) => {
                if let Some(error) = outcome.error {
                    tracing::warn!(%error, "the database refuses what is written");
                    self.again();
                }
            }
            Event::Disconnected(why) => {
                tracing::warn!(%why, "no database: the switch goes on as it is");
                self.again();
            }
        }
    }

    /// The database may not have what was written.
    fn again(&mut self) {
        self.written.forget();
    }

    /// Begins what there is to do, when nothing is under way.
    fn work(&mut self, look: bool) {
        let (None, true, Some(replica)) = (&self.working, self.client.locked(), self.client.replica()) else {
            return;
        };
        let mut rows = None;
        if std::mem::take(&mut self.dirty) {
            let found = Rows::read(replica);
            let same = self.applied.as_ref().is_some_and(|(before, _)| before.asked() == found.asked());
            // What was written is unknown: it is written again in any case.
            if found.root.is_some() && (!same || self.written.is_empty()) {
                rows = Some(found);
            }
        }
        if rows.is_none() && !(look && self.applied.is_some()) {
            return;
        }
        let interval = self
            .applied
            .as_ref()
            .and_then(|(rows, _)| rows.root.as_ref())
            .and_then(|root| root.other_config.get("stats-update-interval")?.parse::<u64>().ok());
        let every = Duration::from_millis(interval.unwrap_or(0).max(STATISTICS_EVERY));
        let count = rows.is_some() || self.counted.elapsed() >= every;
        if let Some(rows) = &rows {
            self.restoring &= rows.restores();
            let unserved = unserved::of_rows(rows);
            for what in unserved.difference(&self.unserved) {
                tracing::warn!("{what}");
            }
            self.unserved = unserved;
        }
        let (app, restoring) = (Arc::clone(&self.app), self.restoring);
        let ofports = if rows.is_some() { self.ofports.clone() } else { Ofports::new() };
        // Not this task's: what has begun ends, also when the switch does.
        self.working = Some(tokio::spawn(async move {
            let (applied, ignored) = match rows {
                Some(rows) => {
                    let (errors, ignored) = apply(&app, &rows, &ofports, restoring).await;
                    (Some((rows, errors)), ignored)
                }
                None => (None, Ignored::new()),
            };
            let switch = app.switch.lock().await;
            Found { applied, ignored, bridges: bridge_rows(&app, &switch).await.unwrap_or_default(), count }
        }));
    }

    fn report(&mut self, found: Found) {
        if let Some((rows, _)) = &found.applied {
            for what in found.ignored.difference(&self.ignored) {
                tracing::warn!("{what}");
            }
            self.ignored = found.ignored;
            keep_ofports(&mut self.ofports, rows, &found.bridges);
            self.applied = found.applied;
        }
        if found.count {
            self.counted = Instant::now();
        }
        let Some((rows, errors)) = &self.applied else { return };
        if !self.client.locked() {
            return;
        }
        let mut transaction = self.written.differences(rows, errors, &found.bridges, found.count);
        self.written.controllers(&mut transaction, rows, &self.app.controllers);
        self.write(transaction);
    }

    fn write(&mut self, transaction: Transaction) {
        if !transaction.is_empty() && self.client.transact(transaction).is_none() {
            self.again();
        }
    }
}

/// Notes the OpenFlow numbers of ports that run, and forgets those of ports that the rows do not have.
fn keep_ofports(ofports: &mut Ofports, rows: &Rows, running: &[BridgeRow]) {
    ofports.retain(|(bridge, name), _| {
        rows.bridges.get(bridge).is_some_and(|row| rows.ports_of(row).iter().any(|port| port.name == *name))
    });
    for bridge in running {
        let ports = bridge.ports.iter().filter_map(|port| Some((port, u16::try_from(port.ofport).ok()?)));
        ofports.extend(ports.map(|(port, number)| ((bridge.name.clone(), port.name.clone()), number)));
    }
}

/// Makes the switch what rows ask for, as far as it can be. Returns what cannot, and what is ignored. While it is `restoring`, nothing is sent by
/// rules and no controller is heard.
async fn apply(app: &App, rows: &Rows, ofports: &Ofports, restoring: bool) -> (Errors, Ignored) {
    if restoring && app.handle.call(|slow| slow.set_restoring(true)).await.is_err() {
        return (Errors::new(), Ignored::new());
    }
    let ids = |slow: &mut SlowPath| -> BTreeMap<String, u64> {
        slow.state.bridges().map(|(_, bridge)| (bridge.name.clone(), bridge.datapath_id())).collect()
    };
    let before = app.handle.call(ids).await.unwrap_or_default();
    let outcome = change(app, rows, ofports, restoring).await;
    let after = app.handle.call(ids).await.unwrap_or_default();
    // As in Open vSwitch: nothing else tells a controller that the switch has another number.
    let other = |(name, id): &(String, u64)| before.get(name).is_some_and(|before| before != id);
    let renumbered: Vec<String> = after.into_iter().filter(other).map(|(name, _)| name).collect();
    app.controllers.reconnect(&renumbered);
    let limits: BTreeMap<String, _> =
        rows.bridges.values().map(|bridge| (bridge.name.clone(), rows.limits_of(bridge))).collect();
    // A switch that stops limits nothing.
    let _ = app.handle.call(move |slow| limit_tables(slow, limits)).await;
    // Who is told that it is done finds the bridges' OpenFlow sockets.
    app.sockets.settled().await;
    if !restoring {
        // A switch that stops restores nothing.
        let _ = app.handle.call(|slow| slow.set_restoring(false)).await;
    }
    outcome
}

/// Lets the tables of bridges have what `Flow_Table` says; the others have no limit.
fn limit_tables(slow: &mut SlowPath, limits: BTreeMap<String, BTreeMap<u8, TableLimits>>) {
    let now = slow.now();
    for (bridge, limits) in limits {
        let Some(id) = slow.state.bridge_named(&bridge) else { continue };
        if slow.state.bridge_mut(id).is_some_and(|bridge| bridge.tables.limit(limits, now))
            && !slow.commit_rules(id)
        {
            tracing::error!(bridge, "a worker does not answer: it may still use rules that are gone");
        }
    }
}

async fn change(app: &App, rows: &Rows, ofports: &Ofports, restoring: bool) -> (Errors, Ignored) {
    let controllers = rows.bridges.values().map(|bridge| {
        let targets = rows.controllers_of(bridge).map(|(_, target)| target).filter(|_| !restoring);
        (bridge.name.clone(), targets.collect())
    });
    app.controllers.set(&controllers.collect());
    let versions = rows.bridges.values().map(|bridge| (bridge.name.clone(), unserved::versions(bridge)));
    app.controllers.set_versions(versions.collect());
    let mut switch = app.desired().await;
    let Ok(numbers) = app.handle.call(|slow| rules::names_of_all(&slow.state)).await else {
        return (Errors::new(), Ignored::new());
    };
    let known = Known { running: &switch.document, numbers: &numbers, ofports };
    let Asked { mut document, mut errors, mut ignored } = document::asked(rows, known);
    let mut mtus = Errors::new();
    loop {
        match switch.change(document.clone()).await {
            Ok(_) | Err(ChangeError::Stopping(_)) => break,
            // As in Open vSwitch the port goes on with the MTU that it has, if it was that what the device refuses.
            Err(ChangeError::Device(error)) if reset_mtu(&mut document, &switch.document, &error.port) => {
                mtus.insert(error.port, error.reason);
            }
            Err(ChangeError::Device(error))
                if document.bridge(&error.port).is_some_and(Bridge::has_device) =>
            {
                // The bridge itself goes on without one.
                if let Some(bridge) = document.bridge_mut(&error.port) {
                    bridge.addresses_from = AddressesFrom::Document;
                }
                errors.insert(error.port, error.reason);
            }
            Err(ChangeError::Device(error)) if remove_port(&mut document, &error.port, &numbers) => {
                mtus.remove(&error.port);
                errors.insert(error.port, error.reason);
            }
            Err(error) => {
                tracing::warn!(%error, "the database's document is applied one port at a time");
                one_by_one(&mut switch, &document, &mut errors).await;
                break;
            }
        }
    }
    for (name, reason) in mtus {
        ignored.insert(format!("interface {name}: mtu_request: {reason}: ignored"));
        errors.entry(name).or_insert(format!("not served: mtu_request: {reason}"));
    }
    (errors, ignored)
}

/// Lets a port have the MTU that it has, if another one is asked for.
fn reset_mtu(document: &mut Document, running: &Document, name: &str) -> bool {
    if let Some(bridge) = document.bridge_mut(name) {
        let before = running.bridge(name).and_then(|bridge| bridge.mtu);
        let asks = bridge.mtu.is_some() && bridge.mtu != before;
        bridge.mtu = if asks { before } else { bridge.mtu };
        return asks;
    }
    let before = running.port(name).and_then(|(_, port)| port.mtu);
    let mut ports = document.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports);
    match ports.find(|port| port.name == name) {
        Some(port) if port.mtu.is_some() && port.mtu != before => {
            port.mtu = before;
            true
        }
        _ => false,
    }
}

/// Takes a port out of a document, if it is there.
fn remove_port(document: &mut Document, name: &str, numbers: &Numbers) -> bool {
    let mut removed = false;
    for bridge in &mut document.bridges {
        let before = bridge.ports.len();
        bridge.ports.retain(|port| port.name != name);
        if bridge.ports.len() < before {
            removed = true;
            keep_rules(bridge, numbers);
        }
        // A mirror of a port that is not there selects nothing of it; one to it has nowhere to go.
        bridge.mirrors.retain(|mirror| mirror.output_port.as_deref() != Some(name));
        for mirror in &mut bridge.mirrors {
            mirror.select_src_port.retain(|port| port != name);
            mirror.select_dst_port.retain(|port| port != name);
        }
    }
    removed
}

/// Goes to `wanted` in small steps, so that what cannot be done stops nothing else.
async fn one_by_one(switch: &mut Switch, wanted: &Document, errors: &mut Errors) {
    let plain = |bridge: &Bridge| Bridge { ports: Vec::new(), mirrors: Vec::new(), ..bridge.clone() };
    let mut now = Document { bridges: Vec::new(), ..wanted.clone() };
    for bridge in &wanted.bridges {
        let mut next = plain(bridge);
        let stays = |port: &&config::Port| {
            switch.document.port(&port.name).is_some_and(|(b, p)| b.name == bridge.name && p == *port)
        };
        next.ports = bridge.ports.iter().filter(stays).cloned().collect();
        if switch.document.bridge(&bridge.name).is_some() {
            now.bridges.push(next);
        }
    }
    // What is to go goes first.
    if let Err(error) = switch.change(now.clone()).await {
        tracing::error!(%error, "the database's document is not applied");
        return;
    }
    for bridge in &wanted.bridges {
        if now.bridge(&bridge.name).is_none() {
            let mut next = now.clone();
            next.bridges.push(plain(bridge));
            match switch.change(next.clone()).await {
                Ok(_) => now = next,
                Err(error) => {
                    errors.insert(bridge.name.clone(), error.to_string());
                    continue;
                }
            }
        }
        for port in &bridge.ports {
            if now.port(&port.name).is_some() {
                continue;
            }
            let mut next = now.clone();
            next.bridge_mut(&bridge.name).into_iter().for_each(|bridge| bridge.ports.push(port.clone()));
            match switch.change(next.clone()).await {
                Ok(_) => now = next,
                Err(error) => drop(errors.insert(port.name.clone(), error.to_string())),
            }
        }
        let mut next = now.clone();
        next.bridge_mut(&bridge.name).into_iter().for_each(|next| next.mirrors.clone_from(&bridge.mirrors));
        match switch.change(next.clone()).await {
            Ok(_) => now = next,
            Err(error) => drop(errors.insert(bridge.name.clone(), error.to_string())),
        }
    }
}
