//! A bridge as OpenFlow sees it.

use super::news;
use super::ports::Devices;
use crate::bridge::rules::{Rule, RuleNews, Undo};
use crate::bridge::{Bridge as Running, BridgeId, PortConfig};
use crate::control::sys::set_interface_up;
use crate::slowpath::SlowPath;
use flow::ofp::{
    Action, BucketError, BucketPlace, FlowFilter, FlowMod as RuleChange, FlowSpec, GroupSpec, MeterSpec,
    PORT_ANY, PORT_LOCAL,
};
use openflow::server::{Bridge, Change, Changes, Event, Origin};
use openflow::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, CHECK_OVERLAP, Code, Desc, EVICTION, Error, Features, FlowCommand,
    FlowMod, FlowStats, GROUP_ALL, GroupCommand, GroupDesc, GroupMod, GroupStats, METER_ALL, MeterCommand,
    MeterConfig, MeterMod, MeterStats, PORT_CONFIG, PORT_DOWN, PacketOut, Port, PortMod, PortStats,
    RemovedReason, TableConfig, TableStats, UpdateEvent, VACANCY_EVENTS, check,
};
use std::sync::Arc;
use std::time::Instant;
use wire::tunnel::geneve::TlvMap;

/// Tables that a bridge has.
const TABLES: u8 = 254;
/// Flows that a table is said to have room for.
const TABLE_SIZE: u32 = 1_000_000;

/// A bridge for the time of one job of the slow path.
pub struct View<'a> {
    slow: &'a mut SlowPath,
    id: BridgeId,
    devices: &'a Devices,
    /// What happened, for all connections of the bridge.
    pub events: Vec<Event>,
    /// Rules, groups or meters are others than before.
    pub changed: bool,
    /// Not only rules are others than when packets last saw all changes.
    more_than_rules: bool,
    /// Rules' statistics are up to date.
    collected: bool,
    /// What stood in the tables before, for another thread to free: a hundred thousand rules take longer than first packets
    /// may wait.
    pub gone: Vec<Undo>,
}

impl<'a> View<'a> {
    /// The bridge of this name.
    pub fn of(slow: &'a mut SlowPath, name: &str, devices: &'a Devices) -> Option<View<'a>> {
        let id = slow.state.bridge_named(name)?;
        Some(View {
            slow,
            id,
            devices,
            events: Vec::new(),
            changed: false,
            more_than_rules: false,
            collected: false,
            gone: Vec::new(),
        })
    }

    /// Gives `job` the bridge. What it does to rules is told by the view's own events, which say whose doing it was; what
    /// had happened before comes in front of these.
    pub fn with_news<T>(&mut self, job: impl FnOnce(&mut Self) -> T) -> T {
        let now = self.slow.now();
        let earlier = self.take_news();
        self.events.extend(earlier.iter().flat_map(|news| news::of_rule(news, now)));
        let done = job(self);
        let of_tables = self.take_news().into_iter().filter(|news| matches!(news, RuleNews::Vacancy { .. }));
        self.events.extend(of_tables.flat_map(|news| news::of_rule(&news, now)));
        done
    }

    fn take_news(&mut self) -> Vec<RuleNews> {
        self.slow.state.bridge_mut(self.id).map(|bridge| bridge.tables.take_news()).unwrap_or_default()
    }

    fn running(&self) -> Option<&Running> {
        self.slow.state.bridge(self.id)
    }

    /// Brings rules' statistics up to date, once.
    fn collect(&mut self) {
        if !std::mem::replace(&mut self.collected, true) {
            self.slow.collect_all();
        }
    }

    fn rules(&self, filter: &FlowFilter, strict: bool) -> Vec<Arc<Rule>> {
        self.running().map(|bridge| bridge.tables.select(filter, strict)).unwrap_or_default()
    }

    /// Refuses actions of flows and packets that name groups or meters which are not there.
    fn refers(&self, actions: &[Action]) -> Result<(), Error> {
        self.refers_to(actions, |bridge, group| bridge.groups.contains_key(&group))
    }

    /// The same, but for groups that are taken as there.
    fn refers_to(&self, actions: &[Action], is_there: fn(&Running, u32) -> bool) -> Result<(), Error> {
        let Some(bridge) = self.running() else { return Ok(()) };
        for action in actions {
            match action {
                Action::Group(id) if !is_there(bridge, *id) => {
                    return Err(Error::new(Code::OfpbacBadOutGroup, format!("there is no group {id}")));
                }
                Action::Meter(id) if !bridge.meters.contains_key(id) => {
                    return Err(Error::new(Code::OfpmmfcInvalidMeter, format!("there is no meter {id}")));
                }
                Action::Clone(inner) | Action::WriteActions(inner) => self.refers_to(inner, is_there)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tell(
        &mut self,
        event: UpdateEvent,
        spec: Arc<FlowSpec>,
        reason: RemovedReason,
        origin: Option<Origin>,
    ) {
        self.events.push(Event::Flow { event, spec, before: None, reason, origin });
    }

    /// Tells that rules go.
    fn tell_gone(
        &mut self,
        rules: &[Arc<Rule>],
        reason: RemovedReason,
        origin: Option<Origin>,
        now: Instant,
    ) {
        for rule in rules {
            self.tell(UpdateEvent::Removed, rule.current(), reason, origin);
            self.events.extend(news::removed(rule, reason, now));
        }
    }

    /// Tells that rules have gone with those that had learned them.
    fn tell_gone_along(&mut self, undo: &mut Vec<Undo>, now: Instant) {
        let bridge = self.slow.state.bridge_mut(self.id);
        let gone = bridge.map(|bridge| bridge.tables.take_gone_along()).unwrap_or_default();
        self.tell_gone(&gone, RemovedReason::Delete, None, now);
        undo.extend(gone.into_iter().map(Undo::Restore));
    }

    fn add(&mut self, flow: FlowMod, origin: Origin, undo: &mut Vec<Undo>) -> Result<(), Error> {
        let check_overlap = flow.flags & CHECK_OVERLAP != 0;
        let spec = flow.into_spec();
        check::flow_actions(&spec.actions, &spec.matches, spec.table)?;
        self.refers(&spec.actions)?;
        if spec.table >= TABLES {
            let why = format!("tables go from 0 to {}", TABLES - 1);
            return Err(Error::new(Code::OfpfmfcBadTableId, why));
        }
        let now = self.slow.now();
        let Some(bridge) = self.slow.state.bridge_mut(self.id) else { return Ok(()) };
        if check_overlap && bridge.tables.overlaps(&spec) {
            return Err(Error::new(Code::OfpfmfcOverlap, "a rule of this priority overlaps"));
        }
        let evicted = bridge.tables.make_room(&spec, now);
        let evicted = evicted.map_err(|full| Error::new(Code::OfpfmfcTableFull, full.to_string()))?;
        let spec = Arc::new(spec);
        self.tell_gone(&evicted, RemovedReason::Eviction, None, now);
        undo.extend(evicted.into_iter().map(Undo::Restore));
        let Some(bridge) = self.slow.state.bridge_mut(self.id) else { return Ok(()) };
        undo.push(bridge.tables.add(Arc::clone(&spec), now));
        self.tell(UpdateEvent::Added, spec, RemovedReason::default(), Some(origin));
        self.tell_gone_along(undo, now);
        Ok(())
    }

    fn delete(&mut self, flow: &FlowMod, origin: Origin, undo: &mut Vec<Undo>) {
        let (filter, strict) = (flow.filter(), flow.command.is_strict());
        let bridge = self.slow.state.bridge_mut(self.id);
        let gone = bridge.map(|bridge| bridge.tables.delete(&filter, strict)).unwrap_or_default();
        if !gone.is_empty() {
            // What megaflows have counted for them until now is told.
            self.collect();
        }
        let now = self.slow.now();
        self.tell_gone(&gone, RemovedReason::Delete, Some(origin), now);
        undo.extend(gone.into_iter().map(Undo::Restore));
        self.tell_gone_along(undo, now);
    }

    fn flow(&mut self, flow: FlowMod, origin: Origin, undo: &mut Vec<Undo>) -> Result<(), Error> {
        match flow.command {
            FlowCommand::Add => return self.add(flow, origin, undo),
            FlowCommand::Delete | FlowCommand::DeleteStrict => {
                self.delete(&flow, origin, undo);
                return Ok(());
            }
            FlowCommand::Modify | FlowCommand::ModifyStrict => {}
        }
        let (filter, strict) = (flow.filter(), flow.command.is_strict());
        let chosen = self.rules(&filter, strict);
        if chosen.is_empty() {
            // OpenFlow 1.0 adds what it does not find, unless a cookie was to find it by.
            return if flow.new_cookie.is_some() && flow.cookie.1 == 0 {
                self.add(flow, origin, undo)
            } else {
                Ok(())
            };
        }
        self.collect();
        let now = self.slow.now();
        self.refers(&flow.actions)?;
        for rule in &chosen {
            check::flow_actions(&flow.actions, &rule.spec.matches, rule.spec.table)?;
        }
        let change = RuleChange { filter, new_cookie: flow.new_cookie, actions: flow.actions.clone() };
        if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
            bridge.tables.modify(&change, strict, now);
        }
        for rule in &chosen {
            let spec = FlowSpec {
                actions: flow.actions.clone(),
                cookie: flow.new_cookie.unwrap_or(rule.spec.cookie),
                ..FlowSpec::clone(&rule.current())
            };
            self.events.push(Event::Flow {
                event: UpdateEvent::Modified,
                spec: spec.into(),
                before: Some(Arc::clone(&rule.spec)),
                reason: RemovedReason::default(),
                origin: Some(origin),
            });
        }
        undo.extend(chosen.into_iter().map(Undo::Restore));
        self.tell_gone_along(undo, now);
        Ok(())
    }

    /// Removes the rules that name what is gone.
    fn delete_users(&mut self, uses: impl Fn(&FlowSpec) -> bool, reason: RemovedReason) {
        self.collect();
        let now = self.slow.now();
        let bridge = self.slow.state.bridge_mut(self.id);
        let gone = bridge.map(|bridge| bridge.tables.delete_where(&uses)).unwrap_or_default();
        self.tell_gone(&gone, reason, None, now);
        self.tell_gone_along(&mut Vec::new(), now);
    }

    fn group_specs(&self) -> Vec<GroupSpec> {
        self.running()
            .map(|b| b.groups.values().map(|group| group.spec.clone()).collect())
            .unwrap_or_default()
    }

    fn group(&mut self, change: &GroupMod) -> Result<(), Error> {
        let mut all = self.group_specs();
        let id = change.group.id;
        let at = all.iter().position(|group| group.id == id);
        let unknown = || Error::new(Code::OfpgmfcUnknownGroup, format!("there is no group {id}"));
        for bucket in &change.group.buckets {
            // As in Open vSwitch a group may come before those that it sends to, and outlive them.
            self.refers_to(&bucket.actions, |_, _| true)?;
        }
        match change.command {
            GroupCommand::Add if at.is_some() => {
                return Err(Error::new(Code::OfpgmfcGroupExists, format!("there is a group {id}")));
            }
            GroupCommand::Add | GroupCommand::AddOrModify if at.is_none() => all.push(change.group.clone()),
            GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify => {
                all[at.ok_or_else(unknown)?] = change.group.clone();
            }
            GroupCommand::Delete => {
                let gone = |group: u32| id == GROUP_ALL || group == id;
                let ids: Vec<u32> = all.iter().map(|group| group.id).filter(|group| gone(*group)).collect();
                all.retain(|group| !gone(group.id));
                self.slow.set_groups(self.id, &all);
                self.delete_users(
                    |spec| spec.actions.iter().any(|action| ids.iter().any(|id| action.sends_to_group(*id))),
                    RemovedReason::GroupDelete,
                );
                return Ok(());
            }
            GroupCommand::InsertBucket => {
                let (group, new) = (&mut all[at.ok_or_else(unknown)?], &change.group.buckets);
                group.insert_buckets(bucket_place(change.bucket), new).map_err(bucket_error)?;
            }
            GroupCommand::RemoveBucket => {
                let group = &mut all[at.ok_or_else(unknown)?];
                group.remove_buckets(bucket_place(change.bucket)).map_err(bucket_error)?;
            }
        }
        if let Some(group) = all.iter().find(|group| group.id == id) {
            check::group(group)?;
        }
        self.slow.set_groups(self.id, &all);
        Ok(())
    }

    fn meter(&mut self, change: &MeterMod) -> Result<(), Error> {
        let mut all: Vec<MeterSpec> =
            self.running().map(|b| b.meters.values().map(|meter| meter.spec).collect()).unwrap_or_default();
        let id = change.meter.id;
        let at = all.iter().position(|meter| meter.id == id);
        match (change.command, at) {
            (MeterCommand::Add, Some(_)) => {
                return Err(Error::new(Code::OfpmmfcMeterExists, format!("there is a meter {id}")));
            }
            (MeterCommand::Add, None) if id == 0 || id > 0xffff_0000 => {
                return Err(Error::new(Code::OfpmmfcInvalidMeter, format!("meter {id:#x}")));
            }
            (MeterCommand::Add, None) => all.push(change.meter),
            (MeterCommand::Modify, Some(at)) => all[at] = change.meter,
            (MeterCommand::Modify, None) => {
                return Err(Error::new(Code::OfpmmfcUnknownMeter, format!("there is no meter {id}")));
            }
            (MeterCommand::Delete, _) => all.retain(|meter| id != METER_ALL && meter.id != id),
        }
        let full = |_| Error::new(Code::OfpmmfcOutOfMeters, "all meters are in use");
        self.slow.set_meters(self.id, &all).map_err(full)?;
        if change.command == MeterCommand::Delete {
            let gone = |meter: u32| id == METER_ALL || meter == id;
            let uses = |spec: &FlowSpec| {
                spec.actions.iter().any(|action| matches!(action, Action::Meter(meter) if gone(*meter)))
            };
            self.delete_users(uses, RemovedReason::MeterDelete);
        }
        Ok(())
    }

    fn port(&mut self, change: PortMod) -> Result<(), Error> {
        let is_local = change.port == PORT_LOCAL;
        let port = self.running().and_then(|bridge| {
            if is_local { Some(bridge.local) } else { bridge.ports.get(&change.port).copied() }
        });
        let Some((id, port)) = port.and_then(|id| Some((id, self.slow.state.port(id)?))) else {
            return Err(Error::new(Code::OfppmfcBadPort, format!("there is no port {}", change.port)));
        };
        let config = PortConfig(port.config.0 & !change.mask | change.config & change.mask);
        let mut config = config;
        if is_local {
            // The kernel's device is up or down; LOCAL itself is up as long as there is the bridge.
            let device =
                self.running().filter(|bridge| bridge.device.is_some()).map(|bridge| bridge.name.clone());
            match device {
                Some(name) if change.mask & PORT_DOWN != 0 => {
                    set_interface_up(&name, !config.has(PORT_DOWN)).map_err(|error| {
                        Error::new(Code::OfppmfcBadConfig, format!("device {name}: {error}"))
                    })?;
                    config = PortConfig(config.0 & !PORT_DOWN);
                }
                None if config.has(PORT_DOWN) => {
                    let why = "LOCAL is up as long as there is the bridge";
                    return Err(Error::new(Code::OfppmfcBadConfig, why));
                }
                _ => {}
            }
        }
        if change.mask & !PORT_CONFIG != 0 {
            let why = format!(
                "bits {:#x} of the configuration of a port are not known",
                change.mask & !PORT_CONFIG
            );
            return Err(Error::new(Code::OfppmfcBadConfig, why));
        }
        self.slow.set_port_config(id, config);
        self.slow.settle();
        self.changed = true;
        Ok(())
    }

    fn packet(&mut self, packet: &PacketOut) -> Result<(), Error> {
        self.refers(&packet.actions)?;
        let Some(bridge) = self.running() else { return Ok(()) };
        let number = packet.in_port().unwrap_or(PORT_ANY);
        let port = if number == PORT_LOCAL { Some(bridge.local) } else { bridge.ports.get(&number).copied() };
        // As in Open vSwitch it may come from a controller, from nowhere, or by a port that there is not.
        let no_port = if port.is_none() { Some(number) } else { None };
        self.slow.packet_out_by(port.unwrap_or(bridge.local), no_port, &packet.data, &packet.actions);
        Ok(())
    }

    /// Makes a change; `undo` gets what undoes it, as far as rules go.
    fn make(&mut self, change: Change, origin: Origin, undo: &mut Vec<Undo>) -> Result<(), Error> {
        self.more_than_rules |= !matches!(change, Change::Flow(_) | Change::Packet(_));
        match change {
            Change::Flow(flow) => self.flow(*flow, origin, undo)?,
            Change::Group(group) => self.group(&group)?,
            Change::Meter(meter) => self.meter(&meter)?,
            Change::Port(port) => return self.port(port),
            Change::Packet(packet) => return self.packet(&packet),
        }
        self.changed = true;
        Ok(())
    }
}

/// Where a group mod has buckets put or removed.
fn bucket_place(number: u32) -> BucketPlace {
    match number {
        BUCKET_FIRST => BucketPlace::First,
        BUCKET_LAST => BucketPlace::Last,
        BUCKET_ALL => BucketPlace::All,
        id => BucketPlace::Id(id),
    }
}

fn bucket_error(error: BucketError) -> Error {
    let code = match error {
        BucketError::Exists(_) => Code::OfpgmfcBucketExists,
        BucketError::Unknown(_) => Code::OfpgmfcUnknownBucket,
    };
    Error::new(code, error.to_string())
}

impl Bridge for View<'_> {
    fn features(&mut self) -> Features {
        /// Statistics of flows, tables, ports, groups and queues; ARP's addresses are matched; bundles.
        const CAPABILITIES: u32 = 0x2cf;
        /// OpenFlow 1.0's actions.
        const ACTIONS: u32 = 0xfff;
        let datapath_id = self.running().map_or(0, Running::datapath_id);
        let (n_tables, capabilities, actions) = (TABLES, CAPABILITIES, ACTIONS);
        Features { datapath_id, n_tables, capabilities, actions, ..Features::default() }
    }

    fn desc(&mut self) -> Desc {
        let identity = self.running().map(|bridge| bridge.identity.clone()).unwrap_or_default();
        Desc {
            mfr: "vxswitch".into(),
            hw: "DPDK".into(),
            sw: env!("CARGO_PKG_VERSION").into(),
            serial: identity.dp_sn.unwrap_or_else(|| "None".to_owned()),
            dp: identity
                .dp_desc
                .unwrap_or_else(|| self.running().map_or_else(String::new, |bridge| bridge.name.clone())),
        }
    }

    fn ports(&mut self) -> Vec<Port> {
        self.running().map(|bridge| self.devices.ports(&self.slow.state, bridge)).unwrap_or_default()
    }

    fn port_stats(&mut self) -> Vec<PortStats> {
        self.running().map(|bridge| self.devices.stats(&self.slow.state, bridge)).unwrap_or_default()
    }

    fn flows(&mut self, filter: &FlowFilter) -> Vec<FlowStats> {
        self.collect();
        let now = self.slow.now();
        let stats = |rule: Arc<Rule>| {
            let counted = rule.stats();
            FlowStats {
                duration: now.saturating_duration_since(rule.created),
                idle_age: u32::try_from(rule.idle_age(now).as_secs()).ok(),
                hard_age: u32::try_from(rule.hard_age(now).as_secs()).ok(),
                packets: counted.packets,
                bytes: counted.bytes,
                spec: rule.current(),
            }
        };
        self.rules(filter, false).into_iter().map(stats).collect()
    }

    fn tables(&mut self) -> Vec<TableStats> {
        self.collect();
        let Some(bridge) = self.running() else { return Vec::new() };
        let stats = |table| {
            let (lookups, matched) = bridge.tables.lookups(table);
            TableStats {
                table,
                name: String::new(),
                max_entries: TABLE_SIZE,
                active: bridge.tables.rules_in(table) as u32,
                lookups,
                matched,
            }
        };
        (0..TABLES).map(stats).collect()
    }

    fn table_config(&mut self, table: u8) -> TableConfig {
        let tables = self.running().map(|bridge| &bridge.tables);
        let vacancy = tables.and_then(|tables| tables.vacancy(table));
        let evicts = tables.is_some_and(|tables| tables.evicts(table));
        let config = if evicts { EVICTION } else { 0 } | if vacancy.is_some() { VACANCY_EVENTS } else { 0 };
        TableConfig { table: Some(table), config, vacancy }
    }

    fn set_table_config(&mut self, change: &TableConfig) -> Result<(), Error> {
        let tables = change.table.map_or(0..TABLES, |table| table..table.saturating_add(1));
        if tables.end > TABLES {
            return Err(Error::new(Code::OfptmfcBadTable, format!("tables go from 0 to {}", TABLES - 1)));
        }
        if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
            let vacancy = change.vacancy.filter(|_| change.config & VACANCY_EVENTS != 0);
            for table in tables {
                bridge.tables.set_evicts(table, change.config & EVICTION != 0);
                bridge.tables.set_vacancy(table, vacancy);
            }
        }
        Ok(())
    }

    fn groups(&mut self) -> Vec<GroupDesc> {
        self.group_specs().into_iter().map(GroupDesc).collect()
    }

    fn group_stats(&mut self) -> Vec<GroupStats> {
        self.collect();
        let (now, rules) = (self.slow.now(), self.rules(&FlowFilter::default(), false));
        let Some(bridge) = self.running() else { return Vec::new() };
        let uses = |id: u32| {
            rules
                .iter()
                .filter(|rule| rule.spec.actions.iter().any(|action| action.sends_to_group(id)))
                .count()
        };
        bridge
            .groups
            .values()
            .map(|group| GroupStats {
                group: group.spec.id,
                references: uses(group.spec.id) as u32,
                packets: group.stats().packets,
                bytes: group.stats().bytes,
                duration: now.saturating_duration_since(group.created),
                buckets: group.bucket_stats().into_iter().map(|stats| (stats.packets, stats.bytes)).collect(),
            })
            .collect()
    }

    fn meters(&mut self) -> Vec<MeterConfig> {
        let Some(bridge) = self.running() else { return Vec::new() };
        bridge.meters.values().map(|meter| MeterConfig(meter.spec)).collect()
    }

    fn meter_stats(&mut self) -> Vec<MeterStats> {
        let (now, rules) = (self.slow.now(), self.rules(&FlowFilter::default(), false));
        let Some(bridge) = self.running() else { return Vec::new() };
        let uses =
            |id: u32| rules.iter().filter(|rule| rule.spec.actions.contains(&Action::Meter(id))).count();
        bridge
            .meters
            .values()
            .map(|meter| {
                let (passed, dropped) = self.slow.meter_stats(meter);
                MeterStats {
                    meter: meter.spec.id,
                    flows: uses(meter.spec.id) as u32,
                    packets_in: passed.packets + dropped.packets,
                    bytes_in: passed.bytes + dropped.bytes,
                    duration: now.saturating_duration_since(meter.created),
                    bands: vec![(dropped.packets, dropped.bytes)],
                }
            })
            .collect()
    }

    fn tlvs(&mut self) -> TlvMap {
        self.running().map_or(TlvMap::EMPTY, |bridge| bridge.tlvs)
    }

    fn change(&mut self, change: Change, origin: Origin) -> Result<(), Error> {
        let mut undo = Vec::new();
        let done = self.make(change, origin, &mut undo);
        self.gone.append(&mut undo);
        done
    }

    fn change_all(&mut self, changes: &mut Changes<'_>, connection: u64) -> Result<(), (usize, Error)> {
        let (groups, told, changed) = (self.group_specs(), self.events.len(), self.changed);
        let (mut undo, mut packets) = (Vec::new(), Vec::new());
        for (at, change) in changes.enumerate() {
            let made = change.and_then(|(change, xid)| match change {
                // Packets leave when everything else is done.
                Change::Packet(_) => {
                    packets.push((at, change, xid));
                    Ok(())
                }
                change => self.make(change, Origin { connection, xid }, &mut undo),
            });
            if let Err(error) = made {
                let now = self.slow.now();
                if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
                    undo.into_iter().rev().for_each(|undo| bridge.tables.undo(undo, now));
                }
                if self.group_specs() != groups {
                    self.slow.set_groups(self.id, &groups);
                }
                self.events.truncate(told);
                self.changed = changed;
                return Err((at, error));
            }
        }
        self.gone.append(&mut undo);
        if !packets.is_empty() {
            self.settle();
        }
        for (at, change, xid) in packets {
            let sent = self.make(change, Origin { connection, xid }, &mut Vec::new());
            sent.map_err(|error| (at, error))?;
        }
        Ok(())
    }

    fn settle(&mut self) {
        let only_rules = !std::mem::take(&mut self.more_than_rules);
        let settled = if only_rules { self.slow.commit_rules(self.id) } else { self.slow.commit() };
        if !settled {
            tracing::error!("a worker does not answer: it may not see changes of rules");
        }
        self.collected = false;
    }
}
