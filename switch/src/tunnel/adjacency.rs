//! The table of adjacencies: for every remote of every tunnel port, what workers have been given, and what that
//! depends on.

use super::next_hop::{Idle, ProgramUse};
use super::underlay::Underlay;
use datapath::MAX_ADJACENCIES;
use datapath::adjacency::{Adjacency, Egress, Inherit, Reach};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, BridgeId, CheckLength, Op, PortId, PuntReason, Select};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;
use wire::tunnel::encap::{EncapSpec, EncapTemplate};

/// Freed numbers looked at for one that no program names any more.
const FREE_NUMBERS_TRIED: usize = 64;

/// Whether and how packets get to a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReachSpec {
    /// Packets can be sent: outer header, how they go through the underlay bridge, and how long they may be.
    Ready(EncapSpec, Egress, OuterMtu),
    /// This next hop is being asked for, or will be when a packet needs it.
    Resolving(BridgeId, IpAddr),
    /// Packets cannot be sent.
    Unreachable(DropReason),
}

/// How long tunnel packets may be, in bytes behind their Ethernet headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OuterMtu {
    /// What every port takes that they may leave by, if that is known.
    pub ports: Option<u16>,
    /// What a router on the path has said.
    pub path: Option<u16>,
}

impl OuterMtu {
    /// The smaller of the two.
    pub fn get(self) -> Option<u16> {
        self.ports.into_iter().chain(self.path).min()
    }

    /// Whether the path takes less than the ports.
    pub fn is_narrow(self) -> bool {
        self.path.is_some_and(|path| self.ports.is_none_or(|ports| path < ports))
    }

    /// Bytes of the longest frame, with its Ethernet header, that fits behind a header, if there is a bound.
    pub fn inner(self, header: &EncapSpec) -> Option<usize> {
        Some(usize::from(self.get()?).saturating_sub(EncapTemplate::new(header).ip_overhead()))
    }
}

/// An adjacency as every worker is to have it.
#[derive(Debug, Clone)]
pub struct AdjacencySpec {
    /// The tunnel port.
    pub port: PortId,
    /// How packets get to the remote.
    pub reach: ReachSpec,
    /// Outer TOS.
    pub tos: Inherit,
    /// Outer TTL.
    pub ttl: Inherit,
    /// See [`Adjacency::sequence`].
    pub sequence: Option<Arc<AtomicU32>>,
}

impl<U: Underlay> Remote<U> {
    /// Bytes of the outer headers, when packets can be sent.
    pub fn overhead(&self) -> Option<usize> {
        match &self.installed {
            Some(ReachSpec::Ready(header, ..)) => Some(EncapTemplate::new(header).header_len()),
            _ => None,
        }
    }
}

impl AdjacencySpec {
    /// One for one worker.
    pub fn adjacency(&self) -> Adjacency {
        let (mut max_inner, mut narrow, mut divides) = (u32::MAX, false, false);
        let reach = match &self.reach {
            ReachSpec::Ready(header, egress, mtu) => {
                max_inner = mtu.inner(header).map_or(u32::MAX, |len| len as u32);
                (narrow, divides) = (mtu.is_narrow(), !header.df);
                let template = EncapTemplate::new(header);
                Reach::Ready { fixed: template.fixed_v4(), template, egress: egress.clone() }
            }
            ReachSpec::Resolving(..) => Reach::Resolving,
            ReachSpec::Unreachable(reason) => Reach::Unreachable(*reason),
        };
        let sequence = self.sequence.clone();
        let adjacency = Adjacency::new(self.port, reach, self.tos, self.ttl);
        Adjacency { sequence, max_inner, narrow, divides, ..adjacency }
    }
}

/// One remote of one tunnel port.
#[derive(Debug)]
pub struct Remote<U: Underlay> {
    /// The tunnel port.
    pub port: PortId,
    /// The remote VTEP.
    pub ip: IpAddr,
    /// The local address that rules set; otherwise it is the port's or the route's.
    pub local: Option<IpAddr>,
    /// What workers have; nothing yet for a new one.
    pub installed: Option<ReachSpec>,
    /// What was last reported: whether packets can be sent, or why not.
    pub reported: Option<Result<(), DropReason>>,
    /// The underlay bridge and the next hop on it.
    pub hop: Option<(BridgeId, IpAddr)>,
    /// What the underlay bridge's treatment of the packets depends on.
    deps: Vec<U::Dep>,
    /// What in the underlay bridge counts its packets.
    pub counters: U::Counters,
    /// For one that rules have asked for: since when no program has named it.
    pub(super) idle: Option<Idle>,
}

/// All adjacencies by number.
#[derive(Debug)]
pub struct Adjacencies<U: Underlay> {
    entries: Vec<Option<Remote<U>>>,
    free: VecDeque<AdjacencyId>,
    /// Who uses a next hop.
    hops: BTreeSet<(BridgeId, IpAddr, AdjacencyId)>,
    /// How many depend on what: overlays learn all the time, and mostly nothing that an adjacency depends on.
    deps: FxHashMap<U::Dep, usize>,
    /// Those that rules have asked for, and that may be idle.
    pub(super) idle: VecDeque<(AdjacencyId, Instant)>,
    /// How many rules have asked for.
    pub(super) dynamic: usize,
}

impl<U: Underlay> Default for Adjacencies<U> {
    fn default() -> Self {
        Adjacencies {
            entries: Vec::new(),
            free: VecDeque::new(),
            hops: BTreeSet::new(),
            deps: FxHashMap::default(),
            idle: VecDeque::new(),
            dynamic: 0,
        }
    }
}

impl<U: Underlay> Adjacencies<U> {
    /// A number for a new remote; `None` when all are taken.
    pub fn add(
        &mut self,
        port: PortId,
        ip: IpAddr,
        local: Option<IpAddr>,
        uses: &ProgramUse,
    ) -> Option<AdjacencyId> {
        let remote = Remote {
            port,
            ip,
            local,
            installed: None,
            reported: None,
            hop: None,
            deps: Vec::new(),
            counters: U::Counters::default(),
            idle: None,
        };
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
            self.leave_hop(id, remote.hop);
            self.forget_deps(&remote.deps);
            self.dynamic -= usize::from(remote.idle.is_some());
            self.free.push_back(id);
        }
    }

    /// A remote.
    pub fn get(&self, id: AdjacencyId) -> Option<&Remote<U>> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    /// All remotes.
    pub(super) fn all(&self) -> impl Iterator<Item = &Remote<U>> {
        self.entries.iter().flatten()
    }

    /// A remote, to change it.
    pub(super) fn get_mut(&mut self, id: AdjacencyId) -> Option<&mut Remote<U>> {
        self.entries.get_mut(id.0 as usize)?.as_mut()
    }

    /// Whether no number is in use.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(Option::is_none)
    }

    /// The numbers in use.
    pub fn ids(&self) -> Vec<AdjacencyId> {
        let used = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_some());
        used.map(|(at, _)| AdjacencyId(at as u32)).collect()
    }

    /// Those whose egress depends on this.
    pub fn dependents(&self, dep: &U::Dep) -> Vec<AdjacencyId> {
        if !self.deps.contains_key(dep) {
            return Vec::new();
        }
        let depends = |id: &AdjacencyId| self.get(*id).is_some_and(|remote| remote.deps.contains(dep));
        self.ids().into_iter().filter(depends).collect()
    }

    /// How many depend on this.
    #[cfg(test)]
    pub(super) fn dependents_count(&self, dep: &U::Dep) -> usize {
        self.deps.get(dep).copied().unwrap_or(0)
    }

    fn leave_hop(&mut self, id: AdjacencyId, hop: Option<(BridgeId, IpAddr)>) {
        if let Some((bridge, ip)) = hop {
            self.hops.remove(&(bridge, ip, id));
        }
    }

    fn forget_deps(&mut self, deps: &[U::Dep]) {
        for dep in deps {
            if let Some(count) = self.deps.get_mut(dep) {
                *count -= 1;
                if *count == 0 {
                    self.deps.remove(dep);
                }
            }
        }
    }

    /// Notes a remote's next hop and what the egress of its packets depends on.
    pub(super) fn set_hop(&mut self, id: AdjacencyId, hop: Option<(BridgeId, IpAddr)>, deps: Vec<U::Dep>) {
        let Some(remote) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut remote.hop, hop);
        if remote.deps != deps {
            let old = std::mem::replace(&mut remote.deps, deps.clone());
            self.forget_deps(&old);
            for dep in deps {
                *self.deps.entry(dep).or_default() += 1;
            }
        }
        if before != hop {
            self.leave_hop(id, before);
            if let Some((bridge, ip)) = hop {
                self.hops.insert((bridge, ip, id));
            }
        }
    }

    /// Those of this remote, of whatever port.
    pub fn to(&self, ip: IpAddr) -> Vec<AdjacencyId> {
        let of = |id: &AdjacencyId| self.get(*id).is_some_and(|remote| remote.ip == ip);
        self.ids().into_iter().filter(of).collect()
    }

    /// Those whose packets go to this next hop.
    pub fn towards(&self, bridge: BridgeId, ip: IpAddr) -> impl Iterator<Item = AdjacencyId> + '_ {
        let all = (bridge, ip, AdjacencyId(0))..=(bridge, ip, AdjacencyId(u32::MAX));
        self.hops.range(all).map(|(.., id)| *id)
    }
}

/// What an underlay bridge does with a tunnel packet: not to put it into a tunnel again, which may have no end, nor to
/// take it for one to the bridge's own addresses. Captures and CONTROLLER get their copies.
pub(super) fn without_tunnels(ops: &[Op]) -> Box<[Op]> {
    let sends = |op: &Op| {
        matches!(
            op,
            Op::Output(_)
                | Op::Clone(_)
                | Op::Truncate { .. }
                | Op::Select(_)
                | Op::CheckLength(_)
                | Op::Punt(_)
        )
    };
    let mut kept = Vec::with_capacity(ops.len());
    for op in ops {
        match op {
            Op::Encap { .. } | Op::Punt(PuntReason::Local(_)) | Op::PuntOr(..) => {}
            Op::Clone(ops) => {
                let ops = without_tunnels(ops);
                if !ops.is_empty() {
                    kept.push(Op::Clone(ops));
                }
            }
            Op::Truncate { max_len, ops } => {
                let ops = without_tunnels(ops);
                if !ops.is_empty() {
                    kept.push(Op::Truncate { max_len: *max_len, ops });
                }
            }
            Op::Select(select) => {
                let buckets = select.buckets.iter().map(|ops| without_tunnels(ops)).collect();
                kept.push(Op::Select(Box::new(Select {
                    slots: select.slots,
                    buckets,
                    stats: select.stats.clone(),
                })));
            }
            Op::CheckLength(check) => {
                let branches = check.branches.each_ref().map(|ops| without_tunnels(ops));
                kept.push(Op::CheckLength(Box::new(CheckLength { length: check.length, branches })));
            }
            other => kept.push(other.clone()),
        }
    }
    // What was done to the packet for those that are gone.
    while kept.pop_if(|op| !sends(op)).is_some() {}
    kept.into()
}

/// Whether a rule sends the packet to CONTROLLER.
pub(super) fn to_controller(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op {
        Op::Punt(reason) => matches!(reason, PuntReason::Controller { .. }),
        Op::Clone(ops) | Op::Truncate { ops, .. } => to_controller(ops),
        op => op.branches().iter().any(|ops| to_controller(ops)),
    })
}

/// Ports that a packet may leave by, those of all buckets together counting as one.
pub(super) fn outputs(ops: &[Op]) -> usize {
    let of = |op: &Op| match op {
        Op::Output(_) => 1,
        Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => outputs(ops),
        op => op.branches().iter().map(|ops| outputs(ops)).max().unwrap_or(0),
    };
    ops.iter().map(of).sum()
}

/// Adds the ports that ops send the packet as it is to, each once.
pub fn output_ports(ops: &[Op], ports: &mut Vec<PortId>) {
    for op in ops {
        match op {
            Op::Output(port) if !ports.contains(port) => ports.push(*port),
            Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => output_ports(ops, ports),
            op => op.branches().iter().for_each(|ops| output_ports(ops, ports)),
        }
    }
}

/// Whether ops put the packet into another tunnel.
pub(super) fn encapsulates(ops: &[Op]) -> bool {
    ops.iter().any(|op| match op {
        Op::Encap { .. } => true,
        Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => encapsulates(ops),
        op => op.branches().iter().any(|ops| encapsulates(ops)),
    })
}
