//! Groups, meters and mirrors of a bridge, as control sets them.

use super::SlowPath;
use crate::bridge::group::Group;
use crate::bridge::meter::Meter;
use crate::bridge::mirror::Mirror;
use crate::bridge::{BridgeId, PortConfig};
use datapath::message::Command;
use datapath::meter::MAX_METERS;
use flow::ofp::{GroupSpec, MeterSpec};
use flow::program::{MeterId, PortId};
use flow::stats::PacketStats;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All meters are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {MAX_METERS} meters are in use")]
pub struct NoMeter;

impl SlowPath {
    /// Makes a bridge's groups exactly these; groups that stay the same keep their statistics. The caller commits.
    pub fn set_groups(&mut self, bridge: BridgeId, specs: &[GroupSpec]) {
        let now = self.now();
        let Some(running) = self.state.bridge_mut(bridge) else { return };
        let mut before = std::mem::take(&mut running.groups);
        let mut changed = Vec::new();
        for spec in specs {
            let group = match before.remove(&spec.id) {
                Some(group) if group.spec == *spec => group,
                _ => {
                    changed.push(spec.id);
                    Arc::new(Group::new(spec.clone(), now))
                }
            };
            running.groups.insert(spec.id, group);
        }
        for id in changed.into_iter().chain(before.into_keys()) {
            self.group_changed(bridge, id);
        }
    }

    /// Makes a bridge's meters exactly these; meters that stay the same keep tokens and statistics. The caller commits.
    ///
    /// # Errors
    /// When there are not enough meters; nothing is changed then.
    pub fn set_meters(&mut self, bridge: BridgeId, specs: &[MeterSpec]) -> Result<(), NoMeter> {
        let now = self.now();
        let others: usize =
            self.state.bridges().filter(|(id, _)| *id != bridge).map(|(_, b)| b.meters.len()).sum();
        if others + specs.len() > MAX_METERS {
            return Err(NoMeter);
        }
        let Some(running) = self.state.bridge_mut(bridge) else { return Ok(()) };
        let mut before = std::mem::take(&mut running.meters);
        let wanted = |meter: &Meter| specs.contains(&meter.spec);
        let gone: Vec<MeterId> = before.values().filter(|m| !wanted(m)).map(|m| m.id).collect();
        before.retain(|_, meter| wanted(meter));
        for id in gone {
            self.meters.clear(id);
        }
        let mut taken: Vec<bool> = vec![false; MAX_METERS];
        for meter in self.state.bridges().flat_map(|(_, b)| b.meters.values()).chain(before.values()) {
            taken[usize::from(meter.id.0)] = true;
        }
        let mut free = (0..MAX_METERS).filter(|at| !taken[*at]);
        let mut meters = BTreeMap::new();
        for spec in specs {
            let meter = if let Some(meter) = before.remove(&spec.id) {
                meter
            } else {
                let id = MeterId(free.next().ok_or(NoMeter)? as u16);
                self.meters.set(id, spec, rte::tsc_hz());
                Meter { spec: *spec, id, created: now, before: self.meter_totals(id) }
            };
            meters.insert(spec.id, meter);
        }
        if let Some(running) = self.state.bridge_mut(bridge) {
            running.meters = meters;
        }
        self.everything_changed();
        Ok(())
    }

    /// What a meter has let through and dropped since it was added.
    pub fn meter_stats(&self, meter: &Meter) -> (PacketStats, PacketStats) {
        let (passed, dropped) = self.meter_totals(meter.id);
        (passed - meter.before.0, dropped - meter.before.1)
    }

    fn meter_totals(&self, id: MeterId) -> (PacketStats, PacketStats) {
        let (mut passed, mut dropped) = (PacketStats::default(), PacketStats::default());
        for worker in &self.workers {
            let counters = &worker.counters.meters[usize::from(id.0)];
            passed += PacketStats::new(counters.passed_packets.get(), counters.passed_bytes.get());
            dropped += PacketStats::new(counters.dropped_packets.get(), counters.dropped_bytes.get());
        }
        (passed, dropped)
    }

    /// Makes a bridge's mirrors exactly these. The caller commits.
    pub fn set_mirrors(&mut self, bridge: BridgeId, mirrors: Vec<Mirror>) {
        if let Some(running) = self.state.bridge_mut(bridge) {
            running.mirrors = mirrors;
        }
        self.everything_changed();
    }

    /// Says how a port may be used: `mod-port`. The caller commits.
    pub fn set_port_config(&mut self, port: PortId, config: PortConfig) {
        let Some(running) = self.state.port_mut(port) else { return };
        if std::mem::replace(&mut running.config, config) != config {
            self.everything_changed();
            self.underlay_changed = true;
        }
    }

    /// Sends nothing by rules until they are restored, and everything from then on (`flow-restore-wait`).
    pub fn set_restoring(&mut self, restoring: bool) {
        if self.state.restoring != restoring {
            self.state.restoring = restoring;
            self.everything_changed();
            self.underlay_changed = true;
            self.commit();
        }
    }

    /// Says whether a port's link is up; megaflows that were chosen by it follow at once.
    pub fn set_alive(&mut self, port: PortId, alive: bool) {
        let Some(running) = self.state.port_mut(port) else { return };
        if running.alive == alive {
            return;
        }
        running.alive = alive;
        for worker in &mut self.workers {
            worker.send(Command::SetLink(port, alive));
        }
        let bridge = running.bridge;
        if alive {
            self.announce_memberships(bridge);
        }
        self.liveness_changed(port);
    }

    /// Megaflows that were chosen by whether a port is live follow at once.
    pub(super) fn liveness_changed(&mut self, port: PortId) {
        let Some(running) = self.state.port(port) else { return };
        let id = running.bridge;
        let groups = self.state.bridge(id).map(|bridge| bridge.groups.keys().copied().collect::<Vec<_>>());
        for group in groups.unwrap_or_default() {
            self.group_changed(id, group);
        }
        if self.state.bridge(id).is_some_and(|bridge| bridge.tables.watch_ports()) {
            self.everything_changed();
        }
        self.revalidate_changed();
        self.settle_underlay();
    }
}
