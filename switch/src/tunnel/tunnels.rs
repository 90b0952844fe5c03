//! Adjacencies kept true: each is rebuilt whenever a route, a neighbour, an address or the underlay's forwarding
//! changes.

use super::adjacency::{
    Adjacencies, AdjacencySpec, OuterMtu, ReachSpec, Remote, encapsulates, outputs, to_controller,
    without_tunnels,
};
use super::neighbour::{self, Need, NeighbourRow, Neighbours, State};
use super::next_hop::ProgramUse;
use super::path_mtu::PathMtus;
use super::port::TunnelPort;
use super::route;
use super::underlay::{EgressDecision, Network, Underlay};
use config::{Inheritable, LocalIp, RemoteIp, TunnelOptions};
use datapath::adjacency::{Egress, Inherit};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, BridgeId, Op, PortId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::addr::MacAddr;
use wire::ecn::ECN_MASK;
use wire::key::{FlowKey, FlowMask};
use wire::proto::{ETH_IPV4, ETH_IPV6};
use wire::tunnel::HeaderOptions;
use wire::tunnel::encap::{EncapAddrs, EncapSpec};
use wire::view::group_mac;

/// What the owner of the tunnels has to do.
#[derive(Debug, Clone)]
pub enum Event {
    /// Give every worker this adjacency.
    Install(AdjacencyId, AdjacencySpec),
    /// Ask on a bridge for an address, by ARP or neighbour discovery: at the MAC address when one is given, else all.
    Solicit(BridgeId, IpAddr, Option<MacAddr>),
    /// Report that this is known of a neighbour now.
    Neighbour(BridgeId, IpAddr, Option<State>),
    /// Report that packets of a tunnel port can be sent to a remote, or why not.
    Reachable(PortId, IpAddr, Result<(), DropReason>),
}

/// Everything about tunnels that changes by itself: adjacencies, neighbours, next hops that rules have asked for.
#[derive(Debug)]
pub struct Tunnels<U: Underlay> {
    pub(super) adjacencies: Adjacencies<U>,
    neighbours: BTreeMap<BridgeId, Neighbours>,
    /// Time after which a resolved neighbour is asked again.
    aging: Duration,
    path_mtus: PathMtus,
    events: Vec<Event>,
}

impl<U: Underlay> Tunnels<U> {
    /// Whether there is no remote.
    pub fn is_empty(&self) -> bool {
        self.adjacencies.is_empty()
    }
}

impl<U: Underlay> Default for Tunnels<U> {
    fn default() -> Self {
        Tunnels {
            adjacencies: Adjacencies::default(),
            neighbours: BTreeMap::new(),
            aging: neighbour::REACHABLE,
            path_mtus: PathMtus::default(),
            events: Vec::new(),
        }
    }
}

/// The path to a remote over an underlay bridge.
#[derive(Debug, Clone, Copy)]
struct Path {
    bridge: BridgeId,
    addrs: EncapAddrs,
    next_hop: IpAddr,
}

/// What was found out about a remote.
struct Reached<U: Underlay> {
    spec: ReachSpec,
    hop: Option<(BridgeId, IpAddr)>,
    deps: Vec<U::Dep>,
    counters: U::Counters,
}

impl<U: Underlay> Tunnels<U> {
    /// What is to be done since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The ops by which tunnel packets leave.
    pub fn egress_ops(&self) -> impl Iterator<Item = &[Op]> {
        self.adjacencies.all().filter_map(|remote| match &remote.installed {
            Some(ReachSpec::Ready(_, Egress::Ops(ops), _)) => Some(&**ops),
            _ => None,
        })
    }

    /// A remote.
    pub fn remote(&self, id: AdjacencyId) -> Option<&Remote<U>> {
        self.adjacencies.get(id)
    }

    /// Makes adjacencies for the fixed remotes of a tunnel port, or its multicast group; false when there is no room for all of them.
    /// The owner rebuilds them.
    pub fn add_remotes(&mut self, underlay: &mut U, uses: &ProgramUse, id: PortId) -> bool {
        let Some(port) = underlay.tunnel_port_mut(id) else { return false };
        let remotes = port.options.destinations().to_vec();
        remotes.into_iter().all(|ip| {
            let adjacency = self.adjacencies.add(id, ip, None, uses);
            port.remotes.extend(adjacency.map(|adjacency| (ip, adjacency)));
            adjacency.is_some()
        })
    }

    /// Makes the remotes of a tunnel port exactly these; those that are not named any more come back, to be dropped when
    /// no program sends there. The owner rebuilds the others. Those for which there is no room are left out.
    pub fn set_remotes(
        &mut self,
        underlay: &mut U,
        uses: &ProgramUse,
        id: PortId,
        remotes: &BTreeMap<IpAddr, bool>,
    ) -> Vec<AdjacencyId> {
        let Some(port) = underlay.tunnel_port_mut(id) else { return Vec::new() };
        let gone: Vec<AdjacencyId> =
            port.remotes.extract_if(.., |(ip, _)| !remotes.contains_key(ip)).map(|(_, id)| id).collect();
        for ip in remotes.keys() {
            if port.remotes.iter().all(|(known, _)| known != ip) {
                let adjacency = self.adjacencies.add(id, *ip, None, uses);
                port.remotes.extend(adjacency.map(|adjacency| (*ip, adjacency)));
            }
        }
        port.unicast_only = remotes.iter().filter(|(_, flood)| !**flood).map(|(ip, _)| *ip).collect();
        gone
    }

    /// Computes every adjacency anew, and installs those that are different.
    pub fn rebuild_all(&mut self, underlay: &U, now: Instant) {
        for id in self.adjacencies.ids() {
            self.rebuild(underlay, id, now);
        }
    }

    /// The same for those whose packets go to this next hop.
    pub fn rebuild_towards(&mut self, underlay: &U, bridge: BridgeId, ip: IpAddr, now: Instant) {
        let concerned: Vec<AdjacencyId> = self.adjacencies.towards(bridge, ip).collect();
        for id in concerned {
            self.rebuild(underlay, id, now);
        }
    }

    /// The same for those whose packets an underlay bridge would treat differently.
    pub fn rebuild_dependents(&mut self, underlay: &U, dep: &U::Dep, now: Instant) {
        for id in self.adjacencies.dependents(dep) {
            self.rebuild(underlay, id, now);
        }
    }

    /// The same for one.
    pub(super) fn rebuild(&mut self, underlay: &U, id: AdjacencyId, now: Instant) {
        let Some(remote) = self.adjacencies.get(id) else { return };
        let Some(port) = underlay.tunnel_port(remote.port) else { return };
        let Reached { spec, hop, deps, counters } = self.reach(underlay, port, remote);
        let changed = remote.installed.as_ref() != Some(&spec);
        let was_resolving = matches!(remote.installed, Some(ReachSpec::Resolving(..)));
        if changed {
            let (tos, ttl) = (port.tos(), port.ttl());
            let (reach, sequence) = (spec.clone(), port.sequence.clone());
            let adjacency = AdjacencySpec { port: remote.port, reach, tos, ttl, sequence };
            self.events.push(Event::Install(id, adjacency));
        }
        self.adjacencies.set_hop(id, hop, deps);
        if let Some(remote) = self.adjacencies.get_mut(id) {
            remote.counters = counters;
        }
        if !changed {
            return;
        }
        // Packets may already wait for the next hop of before; nobody but us knows that there is another now.
        if let ReachSpec::Resolving(bridge, next_hop) = spec
            && was_resolving
        {
            self.request(underlay, bridge, next_hop, now);
        }
        let reachable = match &spec {
            ReachSpec::Ready(..) => Some(Ok(())),
            ReachSpec::Unreachable(reason) => Some(Err(*reason)),
            // Not known yet.
            ReachSpec::Resolving(..) => None,
        };
        if let Some(remote) = self.adjacencies.get_mut(id) {
            remote.installed = Some(spec);
            if let Some(reachable) = reachable
                && remote.reported.replace(reachable) != Some(reachable)
            {
                self.events.push(Event::Reachable(remote.port, remote.ip, reachable));
            }
        }
    }

    /// Drops what packets still come for an adjacency, and gives its number back.
    pub fn drop_adjacency(&mut self, id: AdjacencyId) {
        let Some(remote) = self.adjacencies.get(id) else { return };
        let reach = ReachSpec::Unreachable(DropReason::PortGone);
        let (tos, ttl) = (Inherit::Fixed(0), Inherit::Fixed(0));
        let adjacency = AdjacencySpec { port: remote.port, reach, tos, ttl, sequence: None };
        self.events.push(Event::Install(id, adjacency));
        self.adjacencies.remove(id);
    }

    /// How packets get to a remote at this moment.
    fn reach(&self, underlay: &U, port: &TunnelPort, remote: &Remote<U>) -> Reached<U> {
        let options = &port.options;
        let none = |spec| Reached { spec, hop: None, deps: Vec::new(), counters: U::Counters::default() };
        let Some(path) = self.path(underlay, port, remote.ip, remote.local) else {
            return none(ReachSpec::Unreachable(DropReason::NoRoute));
        };
        // A group's MAC address is known: there is nobody to ask.
        let hop = (!remote.ip.is_multicast()).then_some((path.bridge, path.next_hop));
        let state = self.neighbours.get(&path.bridge).and_then(|n| n.state(path.next_hop));
        let mac = match state {
            _ if hop.is_none() => group_mac(remote.ip),
            Some(State::Permanent(mac) | State::Reachable(mac)) => mac,
            Some(State::Failed) => {
                return Reached { hop, ..none(ReachSpec::Unreachable(DropReason::NeighbourFailed)) };
            }
            Some(State::Incomplete) | None => {
                return Reached { hop, ..none(ReachSpec::Resolving(path.bridge, path.next_hop)) };
            }
        };
        let Some(network) = underlay.network(path.bridge) else {
            return none(ReachSpec::Unreachable(DropReason::NoRoute));
        };
        let header = EncapSpec {
            eth_src: network.mac,
            eth_dst: mac,
            vlan_tci: None,
            addrs: path.addrs,
            df: options.df_default,
            format: options.format,
            // A port without a remote of its own does not say whether it runs over IPv6, where UDP without a checksum is
            // refused.
            options: HeaderOptions {
                csum: options.header.csum
                    || options.is_udp()
                        && matches!(path.addrs, EncapAddrs::V6(..))
                        && options.remote_ip == RemoteIp::Flow,
                ..options.header
            },
            udp_dst: options.transport.port,
        };
        let EgressDecision { program, deps, mask, counters, affects_rules } =
            underlay.egress(&outer_key(network.local, &header, options));
        let ops = without_tunnels(&program.ops);
        let ready = |egress: Egress| {
            let mtu = OuterMtu { ports: underlay.egress_mtu(&egress), path: self.path_mtus.get(remote.ip) };
            ReachSpec::Ready(header, egress, mtu)
        };
        let looks_up = affects_rules
            || differs(options).intersects(&mask)
            || outputs(&ops) == 0 && encapsulates(&program.ops);
        let spec = if looks_up {
            // The bridge looks at what each packet has of its own, or sends them into another tunnel.
            ready(Egress::Lookup(network.local))
        } else if outputs(&ops) > 0 || to_controller(&ops) {
            ready(Egress::Ops(ops))
        } else {
            ReachSpec::Unreachable(program.ends_in().unwrap_or(program.drop))
        };
        // What looks itself up is counted by what it finds.
        let counts = matches!(spec, ReachSpec::Ready(_, Egress::Ops(_), _));
        Reached { spec, hop, deps, counters: if counts { counters } else { U::Counters::default() } }
    }

    /// Route and source address to a remote: the longest prefix of all underlays. One of our own addresses is
    /// no remote: a packet to it would come back for ever. Nor is a group that is not the port's own: rules can ask for one.
    fn path(&self, underlay: &U, port: &TunnelPort, to: IpAddr, local: Option<IpAddr>) -> Option<Path> {
        if port.options.group() == Some(to) {
            return self.group_path(underlay, port, to);
        }
        let broadcast = matches!(to, IpAddr::V4(ip) if ip.is_broadcast());
        if to.is_multicast() || to.is_unspecified() || broadcast {
            return None;
        }
        let local = match port.options.local_ip {
            LocalIp::Addr(local) => Some(local),
            LocalIp::Any | LocalIp::Flow => local,
        };
        let mut best: Option<(u8, Path)> = None;
        for network in underlay.networks() {
            if network.owns(to) {
                return None;
            }
            if local.is_some_and(|local| !network.owns(local)) {
                continue;
            }
            let Some(hop) = self.route(&network, to) else { continue };
            let Some(addrs) = EncapAddrs::new(local.unwrap_or(hop.source), to) else { continue };
            // Of equally long ones the first bridge's.
            if best.is_none_or(|(longest, _)| hop.prefix_len > longest) {
                best = Some((hop.prefix_len, Path { bridge: network.bridge, addrs, next_hop: hop.next_hop }));
            }
        }
        best.map(|(_, path)| path)
    }

    fn route(&self, network: &Network<'_>, to: IpAddr) -> Option<route::Hop> {
        let is_static = |ip| {
            let state = self.neighbours.get(&network.bridge).and_then(|table| table.state(ip));
            matches!(state, Some(State::Permanent(_)))
        };
        route::lookup(network.addresses, network.routes, is_static, to)
    }

    /// The underlay bridge that packets to the multicast group of a port go to: `dev`, else the one with the port's own
    /// address, else by route, else the only one with addresses of the family.
    fn group_path(&self, underlay: &U, port: &TunnelPort, group: IpAddr) -> Option<Path> {
        let dev = match &port.options.dev {
            Some(dev) => Some(underlay.bridge_of(dev)?),
            None => None,
        };
        let local = match port.options.local_ip {
            LocalIp::Addr(local) => Some(local),
            LocalIp::Any | LocalIp::Flow => None,
        };
        let mut candidates: Vec<(Option<u8>, Path)> = Vec::new();
        for network in underlay.networks() {
            let is_wanted = dev.is_none_or(|dev| dev == network.bridge);
            if !is_wanted || local.is_some_and(|local| !network.owns(local)) {
                continue;
            }
            let hop = self.route(&network, group);
            let own =
                network.addresses.iter().map(ipnet::IpNet::addr).find(|ip| ip.is_ipv4() == group.is_ipv4());
            let Some(source) = local.or(hop.map(|hop| hop.source)).or(own) else { continue };
            let Some(addrs) = EncapAddrs::new(source, group) else { continue };
            let path = Path { bridge: network.bridge, addrs, next_hop: group };
            candidates.push((hop.map(|hop| hop.prefix_len), path));
        }
        let longest = candidates.iter().map(|(len, _)| *len).max()?;
        let mut best = candidates.iter().filter(|(len, _)| *len == longest).map(|(_, path)| *path);
        let first = best.next()?;
        // Of equally long routes the first bridge's; without any, which one is meant is not to be guessed.
        (longest.is_some() || best.next().is_none()).then_some(first)
    }

    /// The multicast groups that tunnel ports receive from, with the underlay bridges to be a member on.
    pub fn groups(&self, underlay: &U) -> BTreeSet<(BridgeId, IpAddr)> {
        let mut groups = BTreeSet::new();
        for id in self.adjacencies.ids() {
            if let Some(remote) = self.adjacencies.get(id)
                && remote.ip.is_multicast()
                && let Some(port) = underlay.tunnel_port(remote.port)
                && port.options.group() == Some(remote.ip)
                && let Some(path) = self.group_path(underlay, port, remote.ip)
            {
                groups.insert((path.bridge, remote.ip));
            }
        }
        groups
    }

    /// A worker holds packets for this adjacency: finds out where its next hop is.
    pub fn packet_waits(&mut self, underlay: &U, id: AdjacencyId, now: Instant) {
        let Some((bridge, next_hop)) = self.adjacencies.get(id).and_then(|remote| remote.hop) else { return };
        self.request(underlay, bridge, next_hop, now);
        // The answer may have come between the worker's question and now.
        self.rebuild(underlay, id, now);
    }

    fn neighbours_of(&mut self, bridge: BridgeId) -> &mut Neighbours {
        let aging = self.aging;
        self.neighbours.entry(bridge).or_insert_with(|| Neighbours::new(aging))
    }

    /// Time after which a resolved neighbour is asked again.
    pub fn neighbour_aging(&self) -> Duration {
        self.aging
    }

    /// Sets it, for all bridges.
    pub fn set_neighbour_aging(&mut self, aging: Duration) {
        self.aging = aging;
        self.neighbours.values_mut().for_each(|table| table.set_aging(aging));
    }

    fn request(&mut self, underlay: &U, bridge: BridgeId, next_hop: IpAddr, now: Instant) {
        if let Some(event) = self.neighbours_of(bridge).request(next_hop, now) {
            self.neighbour_event(underlay, bridge, event, now);
        }
    }

    /// ARP or neighbour discovery on a bridge says where an address is; see [`Neighbours::learn`].
    pub fn learn_neighbour(
        &mut self,
        underlay: &U,
        bridge: BridgeId,
        (ip, mac): (IpAddr, MacAddr),
        solicited: bool,
        now: Instant,
    ) {
        let table = self.neighbours_of(bridge);
        if let Some(event) = table.learn(ip, mac, solicited, now) {
            self.neighbour_event(underlay, bridge, event, now);
        }
    }

    fn neighbour_event(&mut self, underlay: &U, bridge: BridgeId, event: neighbour::Event, now: Instant) {
        match event {
            // Headers are made for next hops only; other neighbours have merely asked for us.
            neighbour::Event::Changed(ip) => {
                let state = self.neighbours.get(&bridge).and_then(|table| table.state(ip));
                self.events.push(Event::Neighbour(bridge, ip, state));
                self.rebuild_towards(underlay, bridge, ip, now);
            }
            neighbour::Event::Solicit(ip, known) => self.events.push(Event::Solicit(bridge, ip, known)),
        }
    }

    /// A router says that packets to a remote may be `mtu` bytes long at most. Says whether that is news.
    pub fn learn_path_mtu(&mut self, underlay: &U, remote: IpAddr, mtu: u32, now: Instant) -> bool {
        let concerned = self.adjacencies.to(remote);
        let learned = !concerned.is_empty() && self.path_mtus.learn(remote, mtu, now);
        if learned {
            for id in concerned {
                self.rebuild(underlay, id, now);
            }
        }
        learned
    }

    /// Forgets what routers said long ago: paths may have become wider.
    pub fn expire_path_mtus(&mut self, underlay: &U, now: Instant) {
        for remote in self.path_mtus.expire(now) {
            for id in self.adjacencies.to(remote) {
                self.rebuild(underlay, id, now);
            }
        }
    }

    /// The MAC address of a neighbour, if it is known.
    pub fn neighbour_mac(&self, bridge: BridgeId, ip: IpAddr) -> Option<MacAddr> {
        self.neighbours.get(&bridge)?.state(ip)?.mac()
    }

    /// Sets a static neighbour. The owner rebuilds what leads there.
    pub fn set_neighbour(&mut self, bridge: BridgeId, ip: IpAddr, mac: MacAddr, now: Instant) {
        self.neighbours_of(bridge).set(ip, mac, now);
    }

    /// Forgets a neighbour, static or not. The owner rebuilds what leads there.
    pub fn remove_neighbour(&mut self, bridge: BridgeId, ip: IpAddr) {
        if let Some(table) = self.neighbours.get_mut(&bridge) {
            table.remove(ip);
        }
    }

    /// Forgets what a bridge (or every one) has resolved, of one address or all; returns how many those were. The owner
    /// rebuilds.
    pub fn flush_neighbours(&mut self, bridge: Option<BridgeId>, only: Option<IpAddr>) -> usize {
        let tables = self.neighbours.iter_mut().filter(|(id, _)| bridge.is_none_or(|b| b == **id));
        tables.map(|(_, table)| table.flush(only).len()).sum()
    }

    /// Forgets a bridge that goes.
    pub fn remove_bridge(&mut self, bridge: BridgeId) {
        self.neighbours.remove(&bridge);
    }

    /// The neighbours of all bridges, or of one.
    pub fn neighbours(&self, only: Option<BridgeId>, now: Instant) -> Vec<(BridgeId, NeighbourRow)> {
        let tables = self.neighbours.iter().filter(|(id, _)| only.is_none_or(|o| o == **id));
        tables.flat_map(|(id, table)| table.rows(now).into_iter().map(|row| (*id, row))).collect()
    }

    /// Asks for and forgets neighbours as time passes.
    pub fn poll_neighbours(&mut self, underlay: &U, now: Instant) {
        let bridges: Vec<BridgeId> = self.neighbours.keys().copied().collect();
        for bridge in bridges {
            let Some(mut table) = self.neighbours.remove(&bridge) else { continue };
            let events = table.poll(now, |ip| self.need(bridge, ip));
            self.neighbours.insert(bridge, table);
            for event in events {
                self.neighbour_event(underlay, bridge, event, now);
            }
        }
    }

    /// What tunnels want of the neighbour `ip` on this bridge.
    fn need(&self, bridge: BridgeId, ip: IpAddr) -> Need {
        let mut need = Need::Nothing;
        for id in self.adjacencies.towards(bridge, ip) {
            need = Need::Address;
            let installed = self.adjacencies.get(id).and_then(|remote| remote.installed.as_ref());
            // More than one output: the bridge does not know behind which of its ports the next hop is.
            if matches!(installed, Some(ReachSpec::Ready(_, Egress::Ops(ops), _)) if outputs(ops) > 1) {
                return Need::Probe;
            }
        }
        need
    }
}

/// The key of a tunnel packet that leaves by an underlay bridge's LOCAL port.
fn outer_key(local: PortId, header: &EncapSpec, options: &TunnelOptions) -> FlowKey {
    let fixed = |of: Inheritable| match of {
        Inheritable::Value(value) => value,
        Inheritable::Inherit => 0,
    };
    let mut key = FlowKey {
        in_port: local.0.into(),
        dl_src: header.eth_src,
        dl_dst: header.eth_dst,
        nw_proto: header.format.protocol,
        nw_tos: fixed(options.tos),
        nw_ttl: fixed(options.ttl),
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
    key
}

/// Bits of the outer headers in which the packets of one adjacency differ: the source port, the ECN field, and what the
/// port takes from the packet inside. Of one without DF some may be fragments, the later of which have no UDP header.
fn differs(options: &TunnelOptions) -> FlowMask {
    let inherits = |of: Inheritable| matches!(of, Inheritable::Inherit);
    let divided = if options.df_default {
        FlowMask::ZERO
    } else {
        FlowMask { nw_frag: u8::MAX, nw_proto: u8::MAX, tp_dst: u16::MAX.into(), ..FlowMask::ZERO }
    };
    FlowMask {
        tp_src: if options.is_udp() { u16::MAX.into() } else { 0.into() },
        nw_tos: if inherits(options.tos) { u8::MAX } else { ECN_MASK },
        nw_ttl: if inherits(options.ttl) { u8::MAX } else { 0 },
        ..divided
    }
}
