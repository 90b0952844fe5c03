//! The slow path's dealings with tunnels: what they ask for is done here, and what they depend on is told to them.

use super::SlowPath;
use super::flows::Tunnelled;
use super::limits::Limit;
use crate::bridge::SwitchState;
use crate::bridge::translate::{Dependency, TunnelNextHop};
use crate::tunnel::neighbour::State;
use crate::tunnel::next_hop::{MAX_DYNAMIC, ProgramUse};
use crate::tunnel::{Event, Tunnels};
use datapath::message::Command;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, BridgeId, PortId};
use flow::stats::PacketStats;
use std::net::IpAddr;
use std::time::Instant;
use wire::addr::MacAddr;

impl SlowPath {
    /// Does something to the tunnels, and then what they want done.
    pub(super) fn with_tunnels<R>(
        &mut self,
        work: impl FnOnce(&mut Tunnels<SwitchState>, &mut SwitchState, &mut ProgramUse) -> R,
    ) -> R {
        let result = work(&mut self.tunnels, &mut self.state, &mut self.programs.uses);
        for event in self.tunnels.take_events() {
            match event {
                Event::Install(id, spec) => {
                    for worker in &mut self.workers {
                        worker.send(Command::DefineAdjacency(id, Box::new(spec.adjacency())));
                    }
                }
                Event::Solicit(bridge, ip, known) => self.solicit(bridge, ip, known),
                Event::Neighbour(bridge, ip, state) => self.report_neighbour(bridge, ip, state),
                Event::Reachable(port, remote, reachable) => self.report_remote(port, remote, reachable),
            }
        }
        result
    }

    fn report_neighbour(&self, bridge: BridgeId, ip: IpAddr, state: Option<State>) {
        let bridge = self.state.bridge(bridge).map_or("", |bridge| &*bridge.name);
        match state {
            Some(State::Permanent(mac) | State::Reachable(mac)) => {
                tracing::info!(target: "vxswitch::neighbour", bridge, %ip, %mac, "resolved");
            }
            // Again and again while packets want to go there; that their tunnels are down is one message.
            Some(State::Failed) => {
                tracing::debug!(target: "vxswitch::neighbour", bridge, %ip, "does not answer");
            }
            Some(State::Incomplete) | None => {}
        }
    }

    fn report_remote(&self, port: PortId, remote: IpAddr, reachable: Result<(), DropReason>) {
        let port = self.state.port(port).map_or("", |port| &*port.name);
        match reachable {
            Ok(()) => tracing::info!(target: "vxswitch::tunnel", port, %remote, "up"),
            Err(reason) => {
                tracing::info!(target: "vxswitch::tunnel", port, %remote, reason = reason.name(), "down");
            }
        }
    }

    /// Brings everything that depends on the underlay up to date, if that has changed.
    pub(super) fn settle_underlay(&mut self) {
        if std::mem::take(&mut self.underlay_changed) {
            self.rebuild_adjacencies();
        }
    }

    /// Computes every adjacency anew, and tells workers about those that are different.
    pub(super) fn rebuild_adjacencies(&mut self) {
        // What was sent until now is counted for the underlay's rules that it was sent by.
        if !self.tunnels.is_empty() {
            self.collect_all();
        }
        let now = self.now();
        self.with_tunnels(|tunnels, state, _| tunnels.rebuild_all(state, now));
    }

    /// The same for those whose packets an underlay bridge would treat differently.
    pub(super) fn rebuild_dependents(&mut self, dependency: &Dependency) {
        let now = self.now();
        self.with_tunnels(|tunnels, state, _| tunnels.rebuild_dependents(state, dependency, now));
    }

    /// A worker holds packets for this adjacency.
    pub(super) fn packet_waits(&mut self, id: AdjacencyId, now: Instant) {
        self.with_tunnels(|tunnels, state, _| tunnels.packet_waits(state, id, now));
    }

    /// ARP or neighbour discovery says where an address is; `makes_entry` if it may be one that nobody asked for.
    pub(super) fn learn_neighbour(
        &mut self,
        bridge: BridgeId,
        ip: IpAddr,
        mac: MacAddr,
        makes_entry: bool,
        now: Instant,
    ) {
        self.with_tunnels(|tunnels, state, _| {
            tunnels.learn_neighbour(state, bridge, (ip, mac), makes_entry, now);
        });
    }

    /// The adjacency of a tunnel port to a remote that rules have set, from the local address if they set that too;
    /// workers know it from here on. See [`Tunnels::resolve_next_hop`].
    pub fn resolve_next_hop(
        &mut self,
        port: PortId,
        remote: IpAddr,
        local: Option<IpAddr>,
    ) -> Option<AdjacencyId> {
        let now = self.now();
        let resolved = self.with_tunnels(|tunnels, state, uses| {
            tunnels.resolve_next_hop(state, uses, (port, remote, local), now)
        });
        if self.tunnels.dynamic() >= MAX_DYNAMIC && self.limits.reached(Limit::NextHops, 0, now) {
            tracing::warn!(target: "vxswitch::tunnel", next_hops = MAX_DYNAMIC, "rules ask for more next hops than there may be");
        }
        resolved
    }

    /// Makes the adjacencies that a translation lacks; says whether there is one more.
    pub(super) fn resolve_missing(&mut self, missing: &[TunnelNextHop]) -> bool {
        let resolved = missing.iter().filter(|m| self.resolve_next_hop(m.port, m.remote, m.local).is_some());
        // With none, there is no room for more.
        resolved.count() > 0
    }

    /// Asks neighbours, and forgets them and next hops that nobody uses.
    pub(super) fn tunnel_timers(&mut self, now: Instant) {
        self.path_errors = 0;
        self.with_tunnels(|tunnels, state, uses| {
            tunnels.poll_neighbours(state, now);
            tunnels.expire_next_hops(state, uses, now);
            tunnels.expire_path_mtus(state, now);
        });
    }

    /// Counts what was in tunnels by VTEP and VNI, and what was encapsulated for the rules and groups of the bridges that it
    /// left through, with its outer headers.
    pub(super) fn count_tunnelled(&mut self, now: Instant) {
        for worker in &mut self.workers {
            let Tunnelled { encapsulated, decapsulated } = worker.flows.take_tunnelled();
            for (source, stats) in decapsulated {
                if self.state.port(source.port).is_some() {
                    self.traffic.received(&source, stats);
                }
            }
            for ((id, vni), inner) in encapsulated {
                let Some(remote) = self.tunnels.remote(id) else { continue };
                self.traffic.sent(remote.port, remote.ip, vni, inner);
                if let Some(overhead) = remote.overhead() {
                    let headers = PacketStats::new(0, inner.packets * overhead as u64);
                    remote.counters.count(inner + headers, now);
                }
            }
        }
    }

    /// Adjacencies that rules have asked for and that are still known.
    pub fn next_hops(&self) -> usize {
        self.tunnels.dynamic()
    }
}
