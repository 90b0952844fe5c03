//! Adjacencies of the switch: for every remote of every vxlan port, the header and the way to it, rebuilt
//! whenever a route, a neighbour, an address or the underlay's forwarding changes.

use super::SlowPath;
use super::ports::extension;
use super::ways::{Idle, WayUse};
use crate::bridge::translate::{Dependency, translate};
use crate::bridge::{BridgeId, PortKind};
use crate::tunnel::neighbour::{Need, State};
use crate::tunnel::route;
use config::{Inheritable, LocalIp, RemoteIp, VxlanOptions};
use datapath::MAX_ADJACENCIES;
use datapath::adjacency::{Adjacency, Inherit, Reach};
use datapath::message::Command;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId, Select};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Instant;
use wire::encap::{EncapAddrs, EncapSpec, EncapTemplate};
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_UDP};

/// TTL of an outer header with `ttl=inherit` when the inner frame is not IP, as in Open vSwitch.
const DEFAULT_TTL: u8 = 64;
/// Freed numbers looked at for one that no program names any more.
const FREE_NUMBERS_TRIED: usize = 64;

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
    pub ip: IpAddr,
    /// The local address that rules set; otherwise it is the port's or the route's.
    pub local: Option<IpAddr>,
    /// What workers were told; nothing yet for a new one.
    pub told: Option<ReachSpec>,
    /// The underlay bridge and the next hop on it.
    hop: Option<(BridgeId, IpAddr)>,
    /// What the underlay bridge's treatment of the packets depends on.
    tags: Vec<Dependency>,
    /// For one that rules have asked for: since when no program has named it.
    pub(super) idle: Option<Idle>,
}

/// All adjacencies by number.
#[derive(Debug, Default)]
pub struct Adjacencies {
    entries: Vec<Option<Remote>>,
    free: VecDeque<AdjacencyId>,
    /// Who uses a next hop.
    hops: BTreeSet<(BridgeId, IpAddr, AdjacencyId)>,
    /// How many depend on what: overlays learn all the time, and mostly nothing that an adjacency depends on.
    tags: FxHashMap<Dependency, usize>,
    /// Those that rules have asked for, and that may be idle.
    pub(super) idle: VecDeque<(AdjacencyId, Instant)>,
    /// How many rules have asked for.
    pub(super) dynamic: usize,
}

impl Adjacencies {
    /// A number for a new remote; `None` when all are taken.
    pub fn add(
        &mut self,
        port: PortId,
        ip: IpAddr,
        local: Option<IpAddr>,
        uses: &WayUse,
    ) -> Option<AdjacencyId> {
        let remote = Remote { port, ip, local, told: None, hop: None, tags: Vec::new(), idle: None };
        // A number that a program still names would give the new remote the old one's packets.
        for _ in 0..self.free.len().min(FREE_NUMBERS_TRIED) {
            let id = self.free.pop_front()?;
            if uses.users(id) == 0 {
                self.entries[id.0 as usize] = Some(remote);
                return Some(id);
            }
            self.free.push_back(id);
        }
        if self.entries.len() == MAX_ADJACENCIES {
            return None;
        }
        self.entries.push(Some(remote));
        Some(AdjacencyId(self.entries.len() as u32 - 1))
    }

    /// Gives a number back.
    pub fn remove(&mut self, id: AdjacencyId) {
        if let Some(remote) = self.entries.get_mut(id.0 as usize).and_then(Option::take) {
            self.unhop(id, remote.hop);
            self.untag(&remote.tags);
            self.dynamic -= usize::from(remote.idle.is_some());
            self.free.push_back(id);
        }
    }

    /// A remote.
    pub fn get(&self, id: AdjacencyId) -> Option<&Remote> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: AdjacencyId) -> Option<&mut Remote> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    /// Those that depend on where an address is in VLAN 0 of an underlay bridge.
    #[cfg(test)]
    pub(super) fn depends_on(&self, bridge: BridgeId, mac: wire::addr::MacAddr) -> usize {
        self.tags.get(&Dependency::Fdb(bridge, 0, mac)).copied().unwrap_or(0)
    }

    fn unhop(&mut self, id: AdjacencyId, hop: Option<(BridgeId, IpAddr)>) {
        if let Some((bridge, ip)) = hop {
            self.hops.remove(&(bridge, ip, id));
        }
    }

    fn untag(&mut self, tags: &[Dependency]) {
        for tag in tags {
            if let Some(count) = self.tags.get_mut(tag) {
                *count -= 1;
                if *count == 0 {
                    self.tags.remove(tag);
                }
            }
        }
    }

    /// Notes what a remote's way depends on.
    fn set_way(&mut self, id: AdjacencyId, hop: Option<(BridgeId, IpAddr)>, tags: Vec<Dependency>) {
        let Some(remote) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut remote.hop, hop);
        if remote.tags != tags {
            let old = std::mem::replace(&mut remote.tags, tags.clone());
            self.untag(&old);
            for tag in tags {
                *self.tags.entry(tag).or_default() += 1;
            }
        }
        if before != hop {
            self.unhop(id, before);
            if let Some((bridge, ip)) = hop {
                self.hops.insert((bridge, ip, id));
            }
        }
    }

    /// Those whose packets go to this next hop.
    fn towards(&self, bridge: BridgeId, ip: IpAddr) -> impl Iterator<Item = AdjacencyId> + '_ {
        let all = (bridge, ip, AdjacencyId(0))..=(bridge, ip, AdjacencyId(u32::MAX));
        self.hops.range(all).map(|(.., id)| *id)
    }
}

/// The way to a remote over an underlay bridge.
#[derive(Debug, Clone, Copy)]
struct Way {
    bridge: BridgeId,
    addrs: EncapAddrs,
    next_hop: IpAddr,
}

/// What was found out about a remote.
struct Reached {
    spec: ReachSpec,
    hop: Option<(BridgeId, IpAddr)>,
    tags: Vec<Dependency>,
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

    /// The same for those whose next hop this is.
    pub(super) fn rebuild_towards(&mut self, bridge: BridgeId, ip: IpAddr) {
        let concerned: Vec<AdjacencyId> = self.adjacencies.towards(bridge, ip).collect();
        for id in concerned {
            self.rebuild_adjacency(id);
        }
    }

    /// The same for those whose packets an underlay bridge would treat differently.
    pub(super) fn rebuild_dependents(&mut self, dependency: &Dependency) {
        if !self.adjacencies.tags.contains_key(dependency) {
            return;
        }
        for at in 0..self.adjacencies.entries.len() {
            let entry = &self.adjacencies.entries[at];
            if entry.as_ref().is_some_and(|remote| remote.tags.contains(dependency)) {
                self.rebuild_adjacency(AdjacencyId(at as u32));
            }
        }
    }

    pub(super) fn rebuild_adjacency(&mut self, id: AdjacencyId) {
        let Some(remote) = self.adjacencies.get(id) else { return };
        let Some(PortKind::Vxlan(vxlan)) = self.world.port(remote.port).map(|p| &p.kind) else { return };
        let Reached { spec, hop, tags } = self.reach(&vxlan.options, remote);
        let changed = remote.told.as_ref() != Some(&spec);
        let was_resolving = matches!(remote.told, Some(ReachSpec::Resolving(..)));
        if changed {
            for worker in &mut self.workers {
                let (tos, ttl) = (tos(&vxlan.options), ttl(&vxlan.options));
                let adjacency = Adjacency::new(remote.port, reach_of(&spec), tos, ttl);
                worker.send(Command::DefineAdjacency(id, Box::new(adjacency)));
            }
        }
        self.adjacencies.set_way(id, hop, tags);
        if !changed {
            return;
        }
        // Packets may already wait for the next hop of before; nobody but us knows that there is another now.
        if let ReachSpec::Resolving(bridge, next_hop) = spec
            && was_resolving
        {
            self.request_neighbour(bridge, next_hop, Instant::now());
        }
        if let Some(remote) = self.adjacencies.get_mut(id) {
            remote.told = Some(spec);
        }
    }

    fn request_neighbour(&mut self, bridge: BridgeId, next_hop: IpAddr, now: Instant) {
        if let Some(event) = self.neighbours.entry(bridge).or_default().request(next_hop, now) {
            self.neighbour_event(bridge, event);
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

    /// How packets get to a remote at this moment.
    fn reach(&self, options: &VxlanOptions, remote: &Remote) -> Reached {
        let none = |spec| Reached { spec, hop: None, tags: Vec::new() };
        let Some(way) = self.way(options, remote) else {
            return none(ReachSpec::Unreachable(DropReason::NoRoute));
        };
        let hop = Some((way.bridge, way.next_hop));
        let state = self.neighbours.get(&way.bridge).and_then(|n| n.state(way.next_hop));
        let mac = match state {
            Some(State::Permanent(mac) | State::Reachable(mac)) => mac,
            Some(State::Failed) => {
                return Reached { hop, ..none(ReachSpec::Unreachable(DropReason::NeighbourFailed)) };
            }
            Some(State::Incomplete) | None => {
                return Reached { hop, ..none(ReachSpec::Resolving(way.bridge, way.next_hop)) };
            }
        };
        let Some(bridge) = self.world.bridge(way.bridge) else {
            return none(ReachSpec::Unreachable(DropReason::NoRoute));
        };
        let header = EncapSpec {
            eth_src: bridge.mac,
            eth_dst: mac,
            vlan_tci: None,
            addrs: way.addrs,
            df: options.df_default,
            udp_dst: options.dst_port,
            // A port without a remote of its own does not say whether it runs over IPv6, where 0 is refused.
            csum: options.csum
                || matches!(way.addrs, EncapAddrs::V6(..)) && options.remote_ip == RemoteIp::Flow,
            ext: extension(options),
        };
        let (egress, tags) = self.underlay_ops(bridge.local, &header);
        let spec = match egress {
            Ok(ops) => ReachSpec::Ready(header, ops),
            Err(reason) => ReachSpec::Unreachable(reason),
        };
        Reached { spec, hop, tags }
    }

    /// Route and source address to a remote, over whichever underlay has one. One of our own addresses is
    /// no remote: a packet to it would come back for ever. Nor is a group: rules can ask for one.
    fn way(&self, options: &VxlanOptions, remote: &Remote) -> Option<Way> {
        let to = remote.ip;
        let broadcast = matches!(to, IpAddr::V4(ip) if ip.is_broadcast());
        if to.is_multicast() || to.is_unspecified() || broadcast {
            return None;
        }
        let local = match options.local_ip {
            LocalIp::Addr(local) => Some(local),
            LocalIp::Any | LocalIp::Flow => remote.local,
        };
        self.world.bridges().filter(|(_, b)| b.is_underlay() && !b.owns(to)).find_map(|(id, bridge)| {
            let hop = route::lookup(&bridge.addresses, &bridge.routes, to)?;
            let source = match local {
                Some(local) if !bridge.owns(local) => return None,
                Some(local) => local,
                None => hop.source,
            };
            Some(Way { bridge: id, addrs: EncapAddrs::new(source, to)?, next_hop: hop.next_hop })
        })
    }

    /// What the underlay bridge does with a tunnel packet that leaves by its LOCAL port, and what that depends on.
    fn underlay_ops(
        &self,
        local: PortId,
        header: &EncapSpec,
    ) -> (Result<Box<[Op]>, DropReason>, Vec<Dependency>) {
        let mut key = FlowKey {
            in_port: local.0.into(),
            dl_src: header.eth_src,
            dl_dst: header.eth_dst,
            nw_proto: IP_UDP,
            tp_dst: header.udp_dst.into(),
            ..FlowKey::ZERO
        };
        match header.addrs {
            EncapAddrs::V4(src, dst) => {
                key.dl_type = ETH_IPV4.into();
                (key.nw_src, key.nw_dst) = (u32::from(src).into(), u32::from(dst).into());
            }
            EncapAddrs::V6(src, dst) => {
                key.dl_type = ETH_IPV6.into();
                (key.ipv6_src, key.ipv6_dst) = (src.octets(), dst.octets());
            }
        }
        let translation = translate(&self.world, &key);
        let program = translation.program;
        let ops = without_tunnels(&program.ops);
        let reason = match program.ops.last() {
            Some(Op::Drop(reason)) => *reason,
            _ => program.drop,
        };
        (if outputs(&ops) > 0 { Ok(ops) } else { Err(reason) }, translation.tags)
    }

    /// A worker holds packets for this remote: find out where its next hop is.
    pub(super) fn neighbour_wanted(&mut self, id: AdjacencyId, now: Instant) {
        let Some((bridge, next_hop)) = self.adjacencies.get(id).and_then(|remote| remote.hop) else { return };
        self.request_neighbour(bridge, next_hop, now);
        // The answer may have come between the worker's question and now.
        self.rebuild_adjacency(id);
    }

    /// What tunnels want of the neighbour `ip` on this bridge.
    pub(super) fn need(&self, bridge: BridgeId, ip: IpAddr) -> Need {
        let mut need = Need::Nothing;
        for id in self.adjacencies.towards(bridge, ip) {
            need = Need::Address;
            let told = self.adjacencies.get(id).and_then(|remote| remote.told.as_ref());
            // More than one output: the bridge does not know behind which of its ports the next hop is.
            if matches!(told, Some(ReachSpec::Ready(_, ops)) if outputs(ops) > 1) {
                return Need::Sign;
            }
        }
        need
    }
}

/// What an underlay bridge does with a tunnel packet: not to put it into a tunnel again, which may have no end, nor to
/// show it to the slow path.
fn without_tunnels(ops: &[Op]) -> Box<[Op]> {
    let sends = |op: &Op| matches!(op, Op::Output(_) | Op::Clone(_) | Op::Select(_));
    let mut kept = Vec::with_capacity(ops.len());
    for op in ops {
        match op {
            Op::Encap { .. } | Op::Punt(_) => {}
            Op::Clone(ops) => {
                let ops = without_tunnels(ops);
                if !ops.is_empty() {
                    kept.push(Op::Clone(ops));
                }
            }
            Op::Select(select) => {
                let buckets = select.buckets.iter().map(|ops| without_tunnels(ops)).collect();
                kept.push(Op::Select(Box::new(Select { slots: select.slots, buckets })));
            }
            other => kept.push(other.clone()),
        }
    }
    // What was done to the packet for those that are gone.
    while kept.pop_if(|op| !sends(op)).is_some() {}
    kept.into()
}

/// Ports that a packet may leave by, those of all buckets together counting as one.
fn outputs(ops: &[Op]) -> usize {
    let of = |op: &Op| match op {
        Op::Output(_) => 1,
        Op::Clone(ops) => outputs(ops),
        Op::Select(select) => select.buckets.iter().map(|ops| outputs(ops)).max().unwrap_or(0),
        _ => 0,
    };
    ops.iter().map(of).sum()
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
