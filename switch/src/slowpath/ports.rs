//! Bridges and ports coming, changing and going. What is said here has been validated; what can still go
//! wrong is running out of numbers.

use super::SlowPath;
use super::kernel::KernelView;
use crate::bridge::fdb::{Fdb, FdbSettings};
use crate::bridge::hosts::{Hosts, SuppressStats};
use crate::bridge::identity::Identity;
use crate::bridge::mcast::{Mcast, McastSettings};
use crate::bridge::rules::RuleTables;
use crate::bridge::vlan::VlanConfig;
use crate::bridge::{Bridge, BridgeId, LocalDevice, Port, PortConfig, PortKind};
use crate::tunnel::port::TunnelPort;
use crate::tunnel::route::Route;
use config::{FailMode, TunnelOptions};
use datapath::message::{Command, PortIo};
use datapath::termination::Termination;
use datapath::tx::PortTx;
use flow::ofp::FlowSpec;
use flow::program::PortId;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::addr::MacAddr;

/// The switch has no room for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Port numbers are used up.
    #[error("port {0}: all {max} port numbers are in use", max = flow::program::MAX_PORTS - 1)]
    NoPortNumber(String),
    /// Adjacencies are used up.
    #[error("port {0}: all {max} tunnel remotes are in use", max = datapath::MAX_ADJACENCIES)]
    NoAdjacency(String),
    /// A name is not known.
    #[error("no bridge named {0}")]
    NoBridge(String),
    /// A worker is gone.
    #[error("a worker does not answer")]
    WorkerDead,
}

/// A device's queues for one worker.
#[derive(Debug)]
pub struct WorkerQueues {
    /// RX queues that it polls.
    pub rx: Vec<rte::RxQueue>,
    /// Its way to transmit.
    pub tx: PortTx,
    /// The device's MTU.
    pub mtu: u16,
    /// Whether TCP segments that it receives are coalesced.
    pub gro: bool,
}

impl SlowPath {
    /// Makes a bridge.
    pub fn add_bridge(&mut self, bridge: &config::Bridge, mac: MacAddr) -> Result<BridgeId, ApplyError> {
        let now = self.now();
        let id = self.state.add_bridge(|local| Bridge {
            name: bridge.name.clone(),
            mac,
            fail_mode: bridge.fail_mode,
            device: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            joined: std::collections::BTreeSet::new(),
            local,
            ports: std::collections::BTreeMap::new(),
            fdb: Fdb::new(FdbSettings::default(), now),
            hosts: Hosts::default(),
            identity: Identity::default(),
            suppressed: SuppressStats::default(),
            mcast: Mcast::default(),
            neigh_suppress: None,
            has_suppressing: false,
            tables: RuleTables::default(),
            forward_bpdu: false,
            groups: std::collections::BTreeMap::new(),
            meters: std::collections::BTreeMap::new(),
            mirrors: Vec::new(),
            evpn_netns: None,
            tlvs: bridge.tlvs(),
        });
        let id = id.ok_or_else(|| ApplyError::NoPortNumber(bridge.name.clone()))?;
        self.everything_changed();
        self.configure_bridge(id, bridge, None, mac);
        Ok(id)
    }

    /// Gives a bridge the settings of its document entry: everything but ports and rules. `old` is the entry
    /// that it has now; static neighbours that are no longer there are forgotten.
    pub fn configure_bridge(
        &mut self,
        id: BridgeId,
        bridge: &config::Bridge,
        old: Option<&config::Bridge>,
        mac: MacAddr,
    ) {
        let now = self.now();
        self.everything_changed();
        let local = self.state.bridge(id).map(|running| running.local);
        if let Some(local) = local.and_then(|local| self.state.port_mut(local)) {
            local.vlan = VlanConfig::of(&config::Port { tag: bridge.tag, ..config::Port::default() });
        }
        if let Some(running) = self.state.bridge_mut(id) {
            running.mac = mac;
            running.fail_mode = bridge.fail_mode;
            if running.device.is_some() != bridge.has_device() {
                running.device = bridge.has_device().then(LocalDevice::default);
                (running.addresses, running.routes) = (Vec::new(), Vec::new());
            }
            // What the kernel has there stays what it was when it was last looked at.
            if !bridge.has_device() {
                running.addresses.clone_from(&bridge.address);
                let route = |r: &config::Route| Route { to: r.to, via: r.via, source: None };
                running.routes = bridge.routes.iter().map(route).collect();
            }
            running.tlvs = bridge.tlvs();
            running.identity = Identity::of(bridge);
            running.forward_bpdu = bridge.forward_bpdu();
            running.neigh_suppress = bridge.neigh_suppress();
            running.hosts.set_size(bridge.mac_table_size() as usize);
            running.mcast.configure(McastSettings {
                enabled: bridge.mcast_snooping_enable,
                size: bridge.mcast_table_size() as usize,
                ageing: Duration::from_secs(bridge.mcast_aging_time().into()),
                flood_unregistered: bridge.mcast_flood_unregistered(),
            });
            running.evpn_netns = bridge.evpn_netns().map(str::to_owned);
            running.fdb.configure(FdbSettings {
                ageing: Duration::from_secs(bridge.mac_aging_time().into()),
                size: bridge.mac_table_size() as usize,
                port_limit: bridge.mac_port_limit() as usize,
                rate: bridge.mac_learning_rate(),
            });
        }
        self.configure_hosts(id, bridge);
        for gone in old.iter().flat_map(|o| &o.neighbours).filter(|n| !bridge.neighbours.contains(n)) {
            self.tunnels.remove_neighbour(id, gone.ip);
        }
        for neighbour in bridge.neighbours.iter().filter(|_| !bridge.address.is_empty()) {
            self.tunnels.set_neighbour(id, neighbour.ip, neighbour.mac, now);
        }
        self.underlay_changed = true;
    }

    /// Removes a bridge whose ports are gone.
    pub fn remove_bridge(&mut self, id: BridgeId) {
        self.neighbours_set.retain(|(bridge, _)| *bridge != id);
        self.tunnels.remove_bridge(id);
        self.state.remove_bridge(id);
        self.everything_changed();
        self.underlay_changed = true;
    }

    /// Makes a bridge's rules exactly these; rules that stay keep their statistics.
    pub fn replace_rules(&mut self, id: BridgeId, specs: &[FlowSpec]) -> bool {
        let now = self.now();
        self.state.bridge_mut(id).is_some_and(|bridge| bridge.tables.replace(specs, now))
    }

    /// Adds a device port; `queues` has one entry a worker. Workers get them with the next
    /// [`SlowPath::commit`], behind the tables by which they know tunnel packets: no packet is polled before.
    pub fn add_device(
        &mut self,
        bridge: BridgeId,
        port: &config::Port,
        queues: Vec<WorkerQueues>,
    ) -> Result<PortId, ApplyError> {
        let id = self.new_port(bridge, port, PortKind::Device)?;
        self.give_queues(id, queues);
        Ok(id)
    }

    /// Gives the LOCAL port of a bridge the kernel's device, whose MAC address becomes the bridge's.
    pub fn attach_local(&mut self, id: BridgeId, mac: MacAddr, queues: Vec<WorkerQueues>) {
        let Some(bridge) = self.state.bridge_mut(id) else { return };
        bridge.mac = mac;
        let local = bridge.local;
        self.give_queues(local, queues);
        self.everything_changed();
        self.underlay_changed = true;
    }

    /// Takes the kernel's device from the LOCAL port of a bridge, and with it what the kernel had there. Returns its queues,
    /// when all workers have let go of them.
    pub fn detach_local(&mut self, id: BridgeId) -> Vec<Box<PortIo>> {
        self.follow_kernel(id, &KernelView::default());
        let Some(local) = self.state.bridge(id).map(|bridge| bridge.local) else { return Vec::new() };
        if let Some(port) = self.state.port_mut(local) {
            // As before any device came.
            (port.mtu, port.alive) = (None, true);
        }
        self.everything_changed();
        self.take_queues(local)
    }

    /// Queues of a port's device, one entry a worker; none of one that does not run.
    fn give_queues(&mut self, id: PortId, queues: Vec<WorkerQueues>) {
        if let Some(port) = self.state.port_mut(id) {
            port.mtu = queues.first().map(|queues| queues.mtu);
            // A device that does not run has no queues: nothing leaves by the port, and groups go past it.
            port.alive = !queues.is_empty();
        }
        // Owners of queues first: nobody hands over to a worker that does not know the port.
        let mut queues: Vec<(usize, WorkerQueues)> = queues.into_iter().enumerate().collect();
        queues.sort_by_key(|(_, q)| q.tx.hands_over());
        let all: usize = queues.iter().map(|(_, queues)| queues.rx.len()).sum();
        for (worker, WorkerQueues { mut rx, tx, gro, .. }) in queues {
            // Queues move from worker to worker, and a worker that gives them back does not allocate.
            rx.reserve_exact(all - rx.len());
            let hands_over = tx.hands_over();
            let io = PortIo { port: id, rx, tx: Some(tx), gro };
            if hands_over {
                self.hands_over.push((id, self.workers[worker].lcore));
            }
            self.arriving.push((worker, Box::new(io)));
        }
    }

    /// Adds a tunnel port.
    pub fn add_tunnel(
        &mut self,
        bridge: BridgeId,
        port: &config::Port,
        options: TunnelOptions,
    ) -> Result<PortId, ApplyError> {
        let id = self.new_port(bridge, port, PortKind::Tunnel(Box::new(TunnelPort::new(options))))?;
        if !self.with_tunnels(|tunnels, state, uses| tunnels.add_remotes(state, uses, id)) {
            self.remove_tunnel(id);
            return Err(ApplyError::NoAdjacency(port.name.clone()));
        }
        self.underlay_changed = true;
        Ok(id)
    }

    /// Adds one end of a patch; `peer` is the name of the other one.
    pub fn add_patch(
        &mut self,
        bridge: BridgeId,
        port: &config::Port,
        peer: &str,
    ) -> Result<PortId, ApplyError> {
        self.new_port(bridge, port, PortKind::Patch(peer.to_owned()))
    }

    fn new_port(
        &mut self,
        bridge: BridgeId,
        of: &config::Port,
        kind: PortKind,
    ) -> Result<PortId, ApplyError> {
        let id = self.state.free_port().ok_or_else(|| ApplyError::NoPortNumber(of.name.clone()))?;
        let ofport = self.state.free_ofport(bridge, of.ofport_request);
        let vlan = VlanConfig::of(of);
        let port = Port {
            name: of.name.clone(),
            bridge,
            ofport,
            vlan,
            neigh_suppress: of.neigh_suppress(),
            mcast_flood: of.mcast_flood(),
            mcast_flood_reports: of.mcast_flood_reports(),
            mtu: None,
            alive: true,
            config: PortConfig::default(),
            bfd: None,
            kind,
        };
        self.state.add_port(id, port);
        self.configure_bfd(id, of.bfd());
        self.everything_changed();
        Ok(id)
    }

    /// Gives ports the OpenFlow numbers that they ask for. Where a number is another port's, a port keeps its own, as
    /// in Open vSwitch.
    pub fn set_ofports(&mut self, requests: &[(PortId, u16)]) {
        self.everything_changed();
        for id in self.state.set_ofports(requests) {
            let name = self.state.port(id).map_or("", |port| &port.name);
            tracing::warn!(target: "vxswitch::port", port = %name, "the OpenFlow number is another port's");
        }
    }

    /// Gives a port the VLANs, the `other_config` and the BFD session of its document entry.
    pub fn configure_port(&mut self, id: PortId, of: &config::Port) {
        self.everything_changed();
        self.configure_bfd(id, of.bfd());
        let Some(port) = self.state.port_mut(id) else { return };
        port.neigh_suppress = of.neigh_suppress();
        (port.mcast_flood, port.mcast_flood_reports) = (of.mcast_flood(), of.mcast_flood_reports());
        let vlan = VlanConfig::of(of);
        if port.vlan != vlan {
            self.set_vlan(id, vlan);
        }
    }

    /// Gives a port other VLANs.
    pub fn set_vlan(&mut self, id: PortId, vlan: VlanConfig) {
        self.everything_changed();
        let Some(port) = self.state.port_mut(id) else { return };
        port.vlan = vlan;
        let bridge = port.bridge;
        // What was learned in the old VLANs may be elsewhere by now.
        if let Some(bridge) = self.state.bridge_mut(bridge) {
            bridge.fdb.flush_learned(id);
        }
    }

    /// Gives a device port another MTU.
    pub fn set_mtu(&mut self, id: PortId, mtu: u16) {
        if let Some(port) = self.state.port_mut(id) {
            port.mtu = Some(mtu);
        }
        // So much less fits the tunnels that leave by it.
        self.underlay_changed = true;
        for worker in &mut self.workers {
            worker.send(Command::SetMtu(id, mtu));
        }
    }

    /// Removes a tunnel port. Afterwards no worker knows it any more.
    pub fn remove_tunnel(&mut self, id: PortId) {
        self.forget_port(id);
        self.commit();
    }

    /// Removes a device port and returns its queues, when all workers have let go of them.
    pub fn remove_device(&mut self, id: PortId) -> Vec<Box<PortIo>> {
        self.forget_port(id);
        self.take_queues(id)
    }

    #[allow(clippy::vec_box, reason = "they come in boxes")]
    fn take_queues(&mut self, id: PortId) -> Vec<Box<PortIo>> {
        // First nobody sends packets there any more, then those who hand over let go, then the owners.
        self.commit();
        for hands_over in [true, false] {
            for worker in &mut self.workers {
                if self.hands_over.contains(&(id, worker.lcore)) == hands_over {
                    worker.send(Command::RemovePort(id));
                }
            }
            self.barrier();
        }
        self.hands_over.retain(|(port, _)| *port != id);
        let now = self.now();
        for worker in 0..self.workers.len() {
            self.returns(worker, now);
        }
        // The number may be another port's next: nothing that was decided about this one may be left.
        self.flush_port(id);
        std::mem::take(&mut self.returned_ports)
    }

    /// Takes a port without a device out of the switch state; the next [`SlowPath::commit`] takes it from the workers.
    pub fn forget_port(&mut self, id: PortId) {
        let Some(port) = self.state.remove_port(id) else { return };
        if let Some(bridge) = self.state.bridge_mut(port.bridge) {
            bridge.mcast.forget_port(id);
        }
        self.bfd.remove(id);
        self.traffic.remove_port(id);
        self.everything_changed();
        self.end_observers_of(id);
        if let PortKind::Tunnel(tunnel) = &port.kind {
            self.leaving_adjacencies.extend(tunnel.adjacencies());
        }
    }

    /// A worker has let go of a port.
    pub(super) fn port_came_back(&mut self, io: Box<PortIo>) {
        self.returned_ports.push(io);
    }

    /// Makes everything that was said so far true in every worker, and returns when it is: a packet that
    /// comes in afterwards sees nothing of the old state.
    pub fn commit(&mut self) -> bool {
        self.settle();
        self.barrier()
    }

    /// The same without waiting: workers are told everything, and carry it out in their next loops.
    pub fn settle(&mut self) {
        self.state.note_suppressing();
        self.rule_timeouts = self.state.bridges().any(|(_, b)| b.tables.has_timeouts());
        self.rebuild_adjacencies();
        self.underlay_changed = false;
        self.settle_memberships();
        self.send_termination();
        for (worker, io) in std::mem::take(&mut self.arriving) {
            let port = io.port;
            self.workers[worker].send(Command::AddPort(io));
            if self.state.port(port).is_some_and(|port| !port.alive) {
                self.workers[worker].send(Command::SetLink(port, false));
            }
        }
        self.revalidate_changed();
        for adjacency in std::mem::take(&mut self.leaving_adjacencies) {
            self.with_tunnels(|tunnels, _, _| tunnels.drop_adjacency(adjacency));
        }
    }

    /// The tables by which workers know tunnel packets.
    pub fn termination(&self) -> Termination {
        let mut termination = Termination::default();
        for (_, bridge) in self.state.bridges().filter(|(_, b)| b.is_underlay()) {
            let addresses: Vec<IpAddr> = bridge.addresses.iter().map(ipnet::IpNet::addr).collect();
            // What the bridge sends to its LOCAL port, and what it would send there whatever is in it.
            let direct = bridge.ports.values().copied().filter(|port| self.terminates_all(bridge, *port));
            if bridge.joined.is_empty() {
                termination.add_underlay(bridge.mac, addresses, direct.chain([bridge.local]));
            } else {
                // Packets to groups are for others behind the bridge's ports, too: it forwards them first.
                termination.add_underlay(bridge.mac, addresses.clone(), direct);
                termination.add_underlay(bridge.mac, addresses, [bridge.local]);
                termination.join(bridge.joined.iter().copied());
            }
        }
        for (id, port) in self.state.ports() {
            if let PortKind::Tunnel(tunnel) = &port.kind {
                for of in tunnel.matches() {
                    if let Err(other) = termination.add_tunnel(of, tunnel.options.format, id) {
                        // Validation refuses such documents; the first port keeps the packets.
                        tracing::error!(port = %port.name, %other, "two tunnel ports take the same packets");
                    }
                }
                if tunnel.options.udp6zerocsumrx {
                    termination.allow_zero_checksums(id);
                }
                if !tunnel.options.reassemble {
                    termination.refuse_reassembled(id);
                }
                if let Some(bridge) = self.state.bridge(port.bridge)
                    && !bridge.tlvs.tlvs().is_empty()
                {
                    termination.set_tlvs(id, Arc::new(bridge.tlvs));
                }
            }
        }
        termination
    }

    /// Whether the bridge sends every tunnel packet for its addresses that comes in by the port to LOCAL and nowhere else:
    /// it has no rules, and no VLAN, mirror, capture or monitor concerns the port. Then no lookup of the outer headers is needed.
    fn terminates_all(&self, bridge: &Bridge, port: PortId) -> bool {
        let by_normal = bridge.fail_mode == FailMode::Standalone && bridge.tables.is_empty();
        by_normal
            && bridge.mirrors.is_empty()
            && self.state.port(bridge.local).is_some_and(|local| local.vlan == VlanConfig::default())
            && self.state.port(port).is_some_and(|p| {
                let untagged =
                    p.vlan.ingress(None).is_some_and(|vlan| vlan.vid == 0 && vlan.service.is_none());
                matches!(p.kind, PortKind::Device)
                    && !self.state.observed.receives(port, p)
                    && untagged
                    && !p.config.has(PortConfig::DOWN | PortConfig::NO_RECEIVE)
            })
    }

    pub(super) fn send_termination(&mut self) {
        let termination = self.termination();
        if self.sent_termination.as_ref() != Some(&termination) {
            for worker in &mut self.workers {
                worker.send(Command::SetTermination(Box::new(termination.clone())));
            }
            self.sent_termination = Some(termination);
        }
    }
}
