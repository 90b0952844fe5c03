//! A plan on the slow path's thread: one job, between two packets as it were.

use super::options::{bridge_mac, patch_options, tunnel_options};
use super::{ChangeError, Ofports};
use crate::bridge::PortKind;
use crate::bridge::fdb::Location;
use crate::bridge::mirror::MirrorOutput;
use crate::control::plan::Plan;
use crate::control::rules::{self, PolicyError, ReadAhead};
use crate::control::totals::Totals;
use crate::slowpath::SlowPath;
use crate::slowpath::ports::{ApplyError, WorkerQueues};
use config::{Bridge, Document};
use datapath::message::PortIo;
use flow::program::PortId;
use std::collections::BTreeMap;

/// What the slow path did.
pub(super) struct Outcome {
    /// Numbers of new ports, and what their counters stood at.
    pub added: Vec<(String, PortId, Totals)>,
    /// Queues of removed devices.
    pub returned: BTreeMap<String, Vec<PortIo>>,
    /// Numbers of ports that went.
    pub ofports: Ofports,
    pub result: Result<(), ChangeError>,
}

/// Carries out a plan.
pub(super) fn run(
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
        let id = slow.add_bridge(&new.effective(bridge), bridge_mac(bridge))?;
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
        slow.configure_bridge(id, &new.effective(bridge), old.bridge(&bridge.name), mac);
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
    let requests = ofport_requests(slow, plan, new);
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
/// The OpenFlow numbers that ports ask for. As in Open vSwitch, a port that has one of these and did not ask for it gets
/// another.
fn ofport_requests(slow: &SlowPath, plan: &Plan, new: &Document) -> Vec<(PortId, u16)> {
    let asking = plan.set_ofport.iter().chain(plan.add_ports.iter().map(|(_, name)| name));
    let request = |name: &String| {
        let (_, port) = new.port(name)?;
        Some((slow.state.port_named(name)?, port.ofport_request?))
    };
    let mut requests: Vec<(PortId, u16)> = asking.filter_map(request).collect();
    let displaced = |(id, number): &(PortId, u16)| {
        let bridge = slow.state.bridge(slow.state.port(*id)?.bridge)?;
        let holder = *bridge.ports.get(&u32::from(*number))?;
        let (_, of) = new.port(&slow.state.port(holder)?.name)?;
        (of.ofport_request != Some(*number)).then_some((holder, 0))
    };
    let displaced: Vec<(PortId, u16)> = requests.iter().filter_map(displaced).collect();
    let asks = |id: PortId| requests.iter().any(|(other, _)| *other == id);
    let displaced: Vec<_> = displaced.into_iter().filter(|(id, _)| !asks(*id)).collect();
    requests.extend(displaced);
    requests
}

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
