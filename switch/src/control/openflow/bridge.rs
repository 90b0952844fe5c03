//! A bridge as OpenFlow sees it.

use super::news;
use crate::bridge::rules::{Rule, RuleNews};
use crate::bridge::{Bridge as Running, BridgeId, PortConfig};
use crate::control::sys::set_interface_up;
use crate::slowpath::SlowPath;
use api::InterfaceRow;
use flow::ofp::{
    Action, FlowFilter, FlowMod as RuleChange, FlowSpec, GroupSpec, Match, MeterSpec, PORT_LOCAL,
};
use openflow::server::{Bridge, Change, Event, Origin};
use openflow::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, CHECK_OVERLAP, Code, Desc, Error, Features, FlowCommand, FlowMod,
    FlowStats, GROUP_ALL, GroupCommand, GroupDesc, GroupMod, GroupStats, LINK_DOWN, LIVE, METER_ALL,
    MeterCommand, MeterConfig, MeterMod, MeterStats, PORT_CONFIG, PORT_DOWN, PacketOut, Port, PortFeatures,
    PortMod, PortStats, RemovedReason, TableStats, UpdateEvent, check,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::tunnel::geneve::TlvMap;

/// Tables that a bridge has.
const TABLES: u8 = 254;
/// Flows that a table is said to have room for.
const TABLE_SIZE: u32 = 1_000_000;

/// A bridge for the time of one job of the slow path.
pub struct View<'a> {
    slow: &'a mut SlowPath,
    id: BridgeId,
    /// What devices say of themselves; empty where nobody asked for ports.
    interfaces: &'a [InterfaceRow],
    /// What happened, for all connections of the bridge.
    pub events: Vec<Event>,
    /// Rules, groups or meters are others than before.
    pub changed: bool,
    /// Rules' statistics are up to date.
    collected: bool,
}

/// The rule that stood in a place before, if there was one.
type Before = ((u8, u16, Match), Option<Arc<Rule>>);

/// A rule that stands in its place.
fn standing(rule: Arc<Rule>) -> Before {
    ((rule.spec.table, rule.spec.priority, rule.spec.matches), Some(rule))
}

impl<'a> View<'a> {
    /// The bridge of this name.
    pub fn of(slow: &'a mut SlowPath, name: &str, interfaces: &'a [InterfaceRow]) -> Option<View<'a>> {
        let id = slow.state.bridge_named(name)?;
        Some(View { slow, id, interfaces, events: Vec::new(), changed: false, collected: false })
    }

    /// Gives `job` the bridge. What it does to rules is told by the view's own events, which say whose doing it was; what
    /// had happened before comes in front of these.
    pub fn with_news<T>(&mut self, job: impl FnOnce(&mut Self) -> T) -> T {
        let now = self.slow.now();
        let earlier = self.take_news();
        self.events.extend(earlier.iter().flat_map(|news| news::of_rule(news, now)));
        let done = job(self);
        self.take_news();
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

    /// Refuses actions that name groups or meters which are not there.
    fn refers(&self, actions: &[Action]) -> Result<(), Error> {
        let Some(bridge) = self.running() else { return Ok(()) };
        for action in actions {
            match action {
                Action::Group(id) if !bridge.groups.contains_key(id) => {
                    return Err(Error::new(Code::OfpbacBadOutGroup, format!("there is no group {id}")));
                }
                Action::Meter(id) if !bridge.meters.contains_key(id) => {
                    return Err(Error::new(Code::OfpmmfcInvalidMeter, format!("there is no meter {id}")));
                }
                Action::Clone(inner) | Action::WriteActions(inner) => self.refers(inner)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: UpdateEvent, spec: &FlowSpec, reason: RemovedReason, origin: Option<Origin>) {
        self.events.push(Event::Flow { event, spec: Box::new(spec.clone()), reason, origin });
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
            self.tell(UpdateEvent::Removed, &rule.current(), reason, origin);
            self.events.extend(news::removed(rule, reason, now));
        }
    }

    /// Tells that rules have gone with those that had learned them.
    fn tell_gone_along(&mut self, before: &mut Vec<Before>, now: Instant) {
        let bridge = self.slow.state.bridge_mut(self.id);
        let gone = bridge.map(|bridge| bridge.tables.take_gone_along()).unwrap_or_default();
        self.tell_gone(&gone, RemovedReason::Delete, None, now);
        before.extend(gone.into_iter().map(standing));
    }

    fn add(&mut self, flow: &FlowMod, origin: Origin) -> Result<Vec<Before>, Error> {
        // What asks for something once is no property of the rule.
        let spec = FlowSpec { check_overlap: false, reset_counts: false, ..flow.spec() };
        check::flow_actions(&spec.actions, &spec.matches, spec.table)?;
        self.refers(&spec.actions)?;
        if spec.table >= TABLES {
            let why = format!("tables go from 0 to {}", TABLES - 1);
            return Err(Error::new(Code::OfpfmfcBadTableId, why));
        }
        let now = self.slow.now();
        let Some(bridge) = self.slow.state.bridge_mut(self.id) else { return Ok(Vec::new()) };
        if flow.flags & CHECK_OVERLAP != 0 {
            let filter = FlowFilter { table: Some(spec.table), ..FlowFilter::default() };
            let same = |rule: &Arc<Rule>| {
                rule.spec.priority == spec.priority && rule.spec.matches.overlaps(&spec.matches)
            };
            if bridge.tables.select(&filter, false).iter().any(same) {
                return Err(Error::new(Code::OfpfmfcOverlap, "a rule of this priority overlaps"));
            }
        }
        let place = (spec.table, spec.priority, spec.matches);
        let before = bridge.tables.at(spec.table, spec.priority, &spec.matches);
        bridge.tables.add(&spec, now);
        self.tell(UpdateEvent::Added, &spec, RemovedReason::default(), Some(origin));
        let mut before = vec![(place, before)];
        self.tell_gone_along(&mut before, now);
        Ok(before)
    }

    fn flow(&mut self, flow: &FlowMod, origin: Origin) -> Result<Vec<Before>, Error> {
        if flow.command == FlowCommand::Add {
            return self.add(flow, origin);
        }
        let (filter, strict) = (flow.filter(), flow.command.is_strict());
        let chosen = self.rules(&filter, strict);
        if !chosen.is_empty() {
            self.collect();
        }
        let mut before: Vec<Before> = chosen.iter().cloned().map(standing).collect();
        let now = self.slow.now();
        if matches!(flow.command, FlowCommand::Delete | FlowCommand::DeleteStrict) {
            if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
                bridge.tables.delete(&filter, strict);
            }
            self.tell_gone(&chosen, RemovedReason::Delete, Some(origin), now);
            self.tell_gone_along(&mut before, now);
            return Ok(before);
        }
        if chosen.is_empty() {
            // OpenFlow 1.0 adds what it does not find, unless a cookie was to find it by.
            return if flow.new_cookie.is_some() && flow.cookie.1 == 0 {
                self.add(flow, origin)
            } else {
                Ok(Vec::new())
            };
        }
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
                ..rule.current()
            };
            self.tell(UpdateEvent::Modified, &spec, RemovedReason::default(), Some(origin));
        }
        self.tell_gone_along(&mut before, now);
        Ok(before)
    }

    /// Removes the rules that name what is gone.
    fn delete_users(&mut self, uses: impl Fn(&FlowSpec) -> bool, reason: RemovedReason) {
        self.collect();
        let all = self.rules(&FlowFilter::default(), false);
        let gone: Vec<Arc<Rule>> = all.into_iter().filter(|rule| uses(&rule.spec)).collect();
        let now = self.slow.now();
        if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
            bridge.tables.delete_where(&uses);
        }
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
            self.refers(&bucket.actions)?;
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
            GroupCommand::InsertBucket => insert(&mut all[at.ok_or_else(unknown)?], change)?,
            GroupCommand::RemoveBucket => remove(&mut all[at.ok_or_else(unknown)?], change.bucket)?,
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
        let port = match packet.in_port() {
            Some(number) if number < 0xff00 => bridge.ports.get(&number).copied(),
            // From the controller, from LOCAL, or from nowhere.
            _ => Some(bridge.local),
        };
        let Some(port) = port else {
            let why = format!("there is no port {:?}", packet.in_port());
            return Err(Error::new(Code::OfpbrcBadPort, why));
        };
        self.slow.packet_out_by(port, &packet.data, &packet.actions);
        Ok(())
    }

    /// Makes a change; what rules there were before in the places of those that it touches.
    fn make(&mut self, change: &Change, origin: Origin) -> Result<Vec<Before>, Error> {
        let mut before = Vec::new();
        match change {
            Change::Flow(flow) => before = self.flow(flow, origin)?,
            Change::Group(group) => self.group(group)?,
            Change::Meter(meter) => self.meter(meter)?,
            Change::Port(port) => return self.port(*port).map(|()| before),
            Change::Packet(packet) => return self.packet(packet).map(|()| before),
        }
        self.changed = true;
        Ok(before)
    }
}

fn insert(group: &mut GroupSpec, change: &GroupMod) -> Result<(), Error> {
    let buckets = &change.group.buckets;
    if let Some(twice) = buckets.iter().find(|new| group.buckets.iter().any(|old| old.id == new.id)) {
        return Err(Error::new(Code::OfpgmfcBucketExists, format!("there is a bucket {}", twice.id)));
    }
    let at = match change.bucket {
        BUCKET_FIRST => 0,
        BUCKET_LAST => group.buckets.len(),
        id => 1 + bucket_at(group, id)?,
    };
    group.buckets.splice(at..at, buckets.iter().cloned());
    Ok(())
}

fn remove(group: &mut GroupSpec, bucket: u32) -> Result<(), Error> {
    match bucket {
        BUCKET_ALL => group.buckets.clear(),
        BUCKET_FIRST if !group.buckets.is_empty() => drop(group.buckets.remove(0)),
        BUCKET_FIRST | BUCKET_LAST => drop(group.buckets.pop()),
        id => {
            let at = bucket_at(group, id)?;
            group.buckets.remove(at);
        }
    }
    Ok(())
}

fn bucket_at(group: &GroupSpec, id: u32) -> Result<usize, Error> {
    let at = group.buckets.iter().position(|bucket| bucket.id == id);
    at.ok_or_else(|| Error::new(Code::OfpgmfcUnknownBucket, format!("there is no bucket {id}")))
}

/// A MAC address of a row, or the bridge's.
fn hw_addr(text: Option<&str>, bridge: &Running) -> [u8; 6] {
    text.and_then(|text| text.parse::<wire::addr::MacAddr>().ok()).map_or(bridge.mac.0, |mac| mac.0)
}

impl Bridge for View<'_> {
    fn features(&mut self) -> Features {
        /// Statistics of flows, tables, ports, groups and queues; ARP's addresses are matched; bundles.
        const CAPABILITIES: u32 = 0x2cf;
        /// OpenFlow 1.0's actions but `enqueue`.
        const ACTIONS: u32 = 0x7ff;
        let mac = self.running().map_or([0; 6], |bridge| bridge.mac.0);
        let datapath_id = mac.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        let (n_tables, capabilities, actions) = (TABLES, CAPABILITIES, ACTIONS);
        Features { datapath_id, n_tables, capabilities, actions, ..Features::default() }
    }

    fn desc(&mut self) -> Desc {
        Desc {
            mfr: "vxswitch".into(),
            hw: "DPDK".into(),
            sw: env!("CARGO_PKG_VERSION").into(),
            serial: "None".into(),
            dp: self.running().map_or_else(String::new, |bridge| bridge.name.clone()),
        }
    }

    fn ports(&mut self) -> Vec<Port> {
        let Some(bridge) = self.running() else { return Vec::new() };
        let ids = bridge.ports.iter().map(|(number, id)| (*number, *id)).chain([(PORT_LOCAL, bridge.local)]);
        let port = |(number, id)| {
            let port = self.slow.state.port(id)?;
            let row = self.interfaces.iter().find(|row| row.name == port.name);
            let down = row.map_or(!port.alive, |row| row.link_state == "down");
            let mbps = row.and_then(|row| row.link_speed).unwrap_or(0) / 1_000_000;
            Some(Port {
                number,
                hw_addr: hw_addr(row.and_then(|row| row.mac_in_use.as_deref()), bridge),
                name: port.name.clone(),
                // A device of the kernel's that is down there is down, whoever said so.
                config: port.config.0
                    | if row.is_some_and(|row| row.admin_state == "down") { PORT_DOWN } else { 0 },
                state: match (
                    down,
                    port.config.has(PortConfig::DOWN) || port.bfd.is_some_and(|bfd| !bfd.forwarding),
                ) {
                    (true, _) => LINK_DOWN,
                    (false, true) => 0,
                    (false, false) => LIVE,
                },
                curr: PortFeatures::of_speed(mbps as u32),
                curr_speed: (mbps * 1000) as u32,
                ..Port::default()
            })
        };
        ids.filter_map(port).collect()
    }

    fn port_stats(&mut self) -> Vec<PortStats> {
        let ports = self.ports();
        let stats = |port: &Port| {
            let row = self.interfaces.iter().find(|row| row.name == port.name);
            let count =
                |name: &str| row.and_then(|row| row.statistics.get(name)).copied().unwrap_or(u64::MAX);
            PortStats {
                number: port.number,
                rx_packets: count("rx_packets"),
                tx_packets: count("tx_packets"),
                rx_bytes: count("rx_bytes"),
                tx_bytes: count("tx_bytes"),
                rx_dropped: count("rx_dropped"),
                tx_dropped: count("tx_dropped"),
                rx_errors: count("rx_errors"),
                tx_errors: count("tx_errors"),
                // Not known of any port.
                rx_frame_err: u64::MAX,
                rx_over_err: u64::MAX,
                rx_crc_err: u64::MAX,
                collisions: u64::MAX,
                duration: Duration::ZERO,
            }
        };
        ports.iter().map(stats).collect()
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
                importance: 0,
                spec: rule.current(),
            }
        };
        self.rules(filter, false).into_iter().map(stats).collect()
    }

    fn tables(&mut self) -> Vec<TableStats> {
        let mut all: Vec<TableStats> = (0..TABLES)
            .map(|table| TableStats {
                table,
                name: String::new(),
                max_entries: TABLE_SIZE,
                ..TableStats::default()
            })
            .collect();
        for rule in self.rules(&FlowFilter::default(), false) {
            if let Some(table) = all.get_mut(usize::from(rule.spec.table)) {
                table.active += 1;
            }
        }
        all
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
                // All ones for what is not known.
                buckets: group
                    .bucket_stats()
                    .into_iter()
                    .map(|stats| stats.map_or((u64::MAX, u64::MAX), |stats| (stats.packets, stats.bytes)))
                    .collect(),
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

    fn change(&mut self, change: &Change, origin: Origin) -> Result<(), Error> {
        self.make(change, origin).map(drop)
    }

    fn change_all(&mut self, changes: &[(Change, u32)], connection: u64) -> Result<(), (usize, Error)> {
        let (groups, told, changed) = (self.group_specs(), self.events.len(), self.changed);
        let mut undo: Vec<Before> = Vec::new();
        // Packets leave when everything else is done.
        let is_packet = |change: &Change| matches!(change, Change::Packet(_));
        for (at, (change, xid)) in changes.iter().enumerate().filter(|(_, (change, _))| !is_packet(change)) {
            match self.make(change, Origin { connection, xid: *xid }) {
                Ok(before) => undo.extend(before),
                Err(error) => {
                    let now = self.slow.now();
                    if let Some(bridge) = self.slow.state.bridge_mut(self.id) {
                        for ((table, priority, matches), rule) in undo.into_iter().rev() {
                            bridge.tables.put_back((table, priority, &matches), rule, now);
                        }
                    }
                    if self.group_specs() != groups {
                        self.slow.set_groups(self.id, &groups);
                    }
                    self.events.truncate(told);
                    self.changed = changed;
                    return Err((at, error));
                }
            }
        }
        if changes.iter().any(|(change, _)| is_packet(change)) {
            self.settle();
        }
        for (at, (change, xid)) in changes.iter().enumerate().filter(|(_, (change, _))| is_packet(change)) {
            self.make(change, Origin { connection, xid: *xid }).map_err(|error| (at, error))?;
        }
        Ok(())
    }

    fn settle(&mut self) {
        if !self.slow.commit() {
            tracing::error!("a worker does not answer: it may not see changes of rules");
        }
        self.collected = false;
    }
}
