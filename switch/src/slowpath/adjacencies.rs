//! Adjacencies of the switch: for every remote of every vxlan port, the header and the way to it, rebuilt
//! whenever a route, a neighbour, an address or the underlay's forwarding changes.

use super::SlowPath;
use crate::bridge::translate::translate;
use crate::bridge::{BridgeId, PortKind};
use crate::datapath::MAX_ADJACENCIES;
use crate::datapath::adjacency::{Adjacency, Inherit, Reach};
use crate::datapath::message::Command;
use crate::tunnel::neighbour::State;
use crate::tunnel::route;
use config::{Inheritable, LocalIp, VxlanOptions};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use wire::addr::MacAddr;
use wire::encap::{EncapAddrs, EncapExt, EncapSpec, EncapTemplate};
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, IP_UDP};

/// TTL of an outer header with `ttl=inherit` when the inner frame is not IP, as in Open vSwitch.
const DEFAULT_TTL: u8 = 64;

/// What workers were last told about a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachSpec {
    /// Packets can be sent.
    Ready(EncapSpec, Box<[Op]>),
    /// This next hop is being asked for, or will be when a packet needs it.
    Resolving(BridgeId, IpAddr),
    /// Packets cannot be sent.
    Unreachable(DropReason),
}

/// One remote of one vxlan port.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The vxlan port.
    pub port: PortId,
    /// The remote VTEP.
    pub ip: Ipv4Addr,
    /// What workers were told; nothing yet for a new one.
    pub told: Option<ReachSpec>,
}

/// All adjacencies by number.
#[derive(Debug, Default)]
pub struct Adjacencies {
    entries: Vec<Option<Remote>>,
    free: Vec<AdjacencyId>,
}

impl Adjacencies {
    /// A number for a new remote; `None` when all are taken.
    pub fn add(&mut self, port: PortId, ip: Ipv4Addr) -> Option<AdjacencyId> {
        let remote = Remote { port, ip, told: None };
        if let Some(id) = self.free.pop() {
            self.entries[id.0 as usize] = Some(remote);
            return Some(id);
        }
        if self.entries.len() == MAX_ADJACENCIES {
            return None;
        }
        self.entries.push(Some(remote));
        Some(AdjacencyId(self.entries.len() as u32 - 1))
    }

    /// Gives a number back.
    pub fn remove(&mut self, id: AdjacencyId) {
        if let Some(entry) = self.entries.get_mut(id.0 as usize)
            && entry.take().is_some()
        {
            self.free.push(id);
        }
    }

    /// A remote.
    pub fn get(&self, id: AdjacencyId) -> Option<&Remote> {
        self.entries.get(id.0 as usize)?.as_ref()
    }
}

/// The way to a remote over an underlay bridge.
#[derive(Debug, Clone, Copy)]
struct Way {
    bridge: BridgeId,
    source: Ipv4Addr,
    next_hop: IpAddr,
}

impl SlowPath {
    /// Brings everything that depends on the underlay up to date, if that has changed.
    pub(super) fn settle_underlay(&mut self, _now: Instant) {
        if std::mem::take(&mut self.underlay_changed) {
            self.rebuild_adjacencies();
        }
    }

    /// Computes every adjacency anew, and tells workers about those that are different.
    pub(super) fn rebuild_adjacencies(&mut self) {
        for at in 0..self.adjacencies.entries.len() {
            self.rebuild_adjacency(AdjacencyId(at as u32));
        }
    }

    fn rebuild_adjacency(&mut self, id: AdjacencyId) {
        let Some(remote) = self.adjacencies.get(id).cloned() else { return };
        let Some(PortKind::Vxlan(vxlan)) = self.world.port(remote.port).map(|p| &p.kind) else { return };
        let options = vxlan.options.clone();
        let spec = self.reach(&options, remote.ip);
        if remote.told.as_ref() == Some(&spec) {
            return;
        }
        for worker in &mut self.workers {
            let adjacency = Adjacency::new(remote.port, reach_of(&spec), tos(&options), ttl(&options));
            worker.send(Command::DefineAdjacency(id, Box::new(adjacency)));
        }
        // Packets may already wait for the next hop of before; nobody but us knows that there is another now.
        if let (Some(ReachSpec::Resolving(..)), ReachSpec::Resolving(bridge, next_hop)) =
            (&remote.told, &spec)
            && let Some(event) =
                self.neighbours.entry(*bridge).or_default().request(*next_hop, Instant::now())
        {
            self.neighbour_event(*bridge, event);
        }
        if let Some(Some(entry)) = self.adjacencies.entries.get_mut(id.0 as usize) {
            entry.told = Some(spec);
        }
    }

    /// Tells workers that packets for this adjacency go nowhere any more, and gives its number back.
    pub(super) fn drop_adjacency(&mut self, id: AdjacencyId) {
        let Some(remote) = self.adjacencies.get(id) else { return };
        let port = remote.port;
        for worker in &mut self.workers {
            let reach = Reach::Unreachable(DropReason::PortGone);
            let gone = Adjacency::new(port, reach, Inherit::Fixed(0), Inherit::Fixed(0));
            worker.send(Command::DefineAdjacency(id, Box::new(gone)));
        }
        self.adjacencies.remove(id);
    }

    /// How packets get to `ip` at this moment.
    fn reach(&self, options: &VxlanOptions, ip: Ipv4Addr) -> ReachSpec {
        let Some(way) = self.way(options, ip) else {
            return ReachSpec::Unreachable(DropReason::NoRoute);
        };
        let state = self.neighbours.get(&way.bridge).and_then(|n| n.state(way.next_hop));
        let mac = match state {
            Some(State::Permanent(mac) | State::Reachable(mac)) => mac,
            Some(State::Failed) => return ReachSpec::Unreachable(DropReason::NeighbourFailed),
            Some(State::Incomplete) | None => return ReachSpec::Resolving(way.bridge, way.next_hop),
        };
        match self.underlay_ops(&way, ip, mac, options.dst_port) {
            Ok((src_mac, ops)) => ReachSpec::Ready(
                EncapSpec {
                    eth_src: src_mac,
                    eth_dst: mac,
                    vlan_tci: None,
                    addrs: EncapAddrs::V4(way.source, ip),
                    df: options.df_default,
                    udp_dst: options.dst_port,
                    csum: options.csum,
                    ext: EncapExt::None,
                },
                ops,
            ),
            Err(reason) => ReachSpec::Unreachable(reason),
        }
    }

    /// Route and source address to a remote, over whichever underlay has one. One of our own addresses is
    /// no remote: a packet to it would come back for ever.
    fn way(&self, options: &VxlanOptions, ip: Ipv4Addr) -> Option<Way> {
        let to = IpAddr::V4(ip);
        self.world.bridges().filter(|(_, b)| b.is_underlay() && !b.owns(to)).find_map(|(id, bridge)| {
            let hop = route::lookup(&bridge.addresses, &bridge.routes, to)?;
            let source = match options.local_ip {
                LocalIp::Addr(local) if !bridge.owns(local) => return None,
                LocalIp::Addr(local) => local,
                _ => hop.source,
            };
            match source {
                IpAddr::V4(source) => Some(Way { bridge: id, source, next_hop: hop.next_hop }),
                IpAddr::V6(_) => None,
            }
        })
    }

    /// What the underlay bridge does with a tunnel packet that leaves by its LOCAL port.
    fn underlay_ops(
        &self,
        way: &Way,
        ip: Ipv4Addr,
        mac: MacAddr,
        dst_port: u16,
    ) -> Result<(MacAddr, Box<[Op]>), DropReason> {
        let bridge = self.world.bridge(way.bridge).ok_or(DropReason::NoRoute)?;
        let key = FlowKey {
            in_port: bridge.local.0.into(),
            dl_src: bridge.mac,
            dl_dst: mac,
            dl_type: ETH_IPV4.into(),
            nw_src: u32::from(way.source).into(),
            nw_dst: u32::from(ip).into(),
            nw_proto: IP_UDP,
            tp_dst: dst_port.into(),
            ..FlowKey::ZERO
        };
        let program = translate(&self.world, &key).program;
        let ops: Box<[Op]> =
            program.ops.iter().filter(|op| !matches!(op, Op::Encap { .. } | Op::Punt(_))).cloned().collect();
        if ops.is_empty() { Err(program.drop) } else { Ok((bridge.mac, ops)) }
    }

    /// A worker holds packets for this remote: find out where its next hop is.
    pub(super) fn neighbour_wanted(&mut self, id: AdjacencyId, now: Instant) {
        let Some(remote) = self.adjacencies.get(id) else { return };
        let Some(PortKind::Vxlan(vxlan)) = self.world.port(remote.port).map(|p| &p.kind) else { return };
        let Some(way) = self.way(&vxlan.options, remote.ip) else { return };
        if let Some(event) = self.neighbours.entry(way.bridge).or_default().request(way.next_hop, now) {
            self.neighbour_event(way.bridge, event);
        }
        // The answer may have come between the worker's question and now.
        self.rebuild_adjacency(id);
    }

    /// Makes the way of a vxlan port to a remote that actions chose. `None` when there is no room.
    pub(super) fn want_way(
        &mut self,
        port: PortId,
        remote: IpAddr,
        local: Option<IpAddr>,
    ) -> Option<AdjacencyId> {
        let _ = (port, remote, local);
        None
    }

    /// Whether a tunnel's next hop is `ip` on this bridge.
    pub(super) fn is_next_hop(&self, bridge: BridgeId, ip: IpAddr) -> bool {
        self.adjacencies.entries.iter().flatten().any(|remote| {
            let Some(PortKind::Vxlan(vxlan)) = self.world.port(remote.port).map(|p| &p.kind) else {
                return false;
            };
            self.way(&vxlan.options, remote.ip).is_some_and(|way| way.bridge == bridge && way.next_hop == ip)
        })
    }
}

fn reach_of(spec: &ReachSpec) -> Reach {
    match spec {
        ReachSpec::Ready(header, egress) => {
            let template = EncapTemplate::new(header);
            Reach::Ready { fixed: template.fixed_v4(), template, egress: egress.clone() }
        }
        ReachSpec::Resolving(..) => Reach::Resolving,
        ReachSpec::Unreachable(reason) => Reach::Unreachable(*reason),
    }
}

fn tos(options: &VxlanOptions) -> Inherit {
    match options.tos {
        Inheritable::Value(tos) => Inherit::Fixed(tos),
        Inheritable::Inherit => Inherit::FromInner(0),
    }
}

fn ttl(options: &VxlanOptions) -> Inherit {
    match options.ttl {
        Inheritable::Value(ttl) => Inherit::Fixed(ttl),
        Inheritable::Inherit => Inherit::FromInner(DEFAULT_TTL),
    }
}
