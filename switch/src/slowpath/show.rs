//! Read-only views of the slow path's state, as the rows that the control API shows.

use super::SlowPath;
use crate::bridge::rules::{Rule, canonical};
use crate::bridge::{BridgeId, PortConfig, PortKind};
use crate::tunnel::adjacency::ReachSpec;
use api::{
    BfdRow, FdbEntry, FlowRow, MegaflowRow, NeighbourEntry, RemoteRow, RouteEntry, UnknownTunnelRow,
    UpcallStats,
};
use flow::ofp::{FlowFilter, FlowSpec, FlowStats, PortMap, PortNames, format_flow, format_megaflow};
use flow::program::{AdjacencyId, PortId};
use flow::stats::PacketStats;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::proto::ETHERNET_LEN;
use wire::tunnel::encap::EncapAddrs;
use wire::tunnel::geneve::TlvMap;

/// A running port.
#[derive(Debug, Clone)]
pub struct PortView {
    /// Datapath number.
    pub id: PortId,
    /// Name.
    pub name: String,
    /// OpenFlow number.
    pub ofport: u32,
    /// Whether it was set down.
    pub down: bool,
    /// Whether its link is up, as far as the slow path knows.
    pub up: bool,
    /// Remotes of a tunnel port.
    pub remotes: Vec<RemoteRow>,
    /// Its BFD session.
    pub bfd: Option<BfdRow>,
}

/// A running bridge.
#[derive(Debug, Clone)]
pub struct BridgeView {
    /// Name.
    pub name: String,
    /// MAC of its LOCAL port.
    pub mac: String,
    /// Its number as OpenFlow controllers know it.
    pub datapath_id: u64,
    /// Addresses of the switch, or of the kernel on its device.
    pub addresses: Vec<String>,
    /// Rules in all tables.
    pub flows: usize,
    /// FDB entries.
    pub fdb_entries: usize,
    /// Ports by OpenFlow number, LOCAL last.
    pub ports: Vec<PortView>,
}

/// Megaflow figures of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableView {
    /// The worker's lcore.
    pub lcore: u32,
    /// Megaflows.
    pub megaflows: usize,
    /// Different masks among them.
    pub masks: usize,
}

/// Datapath port numbers by their names, and the TLV map of one bridge.
pub(super) struct DatapathNames<'a>(pub(super) &'a SlowPath, pub(super) &'a TlvMap);

impl PortNames for DatapathNames<'_> {
    fn number(&self, name: &str) -> Option<u32> {
        self.0.state.port_named(name).map(|id| id.0.into())
    }

    fn name(&self, number: u32) -> Option<String> {
        self.0.state.port(PortId(number as u16)).map(|port| port.name.clone())
    }

    fn tlvs(&self) -> &TlvMap {
        self.1
    }
}

fn seconds(since: Duration) -> f64 {
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A rule as it is at one time. Another thread makes a row of it: a hundred thousand take longer than first packets may
/// wait.
#[derive(Debug)]
pub struct RuleView {
    rule: Arc<Rule>,
    now: Instant,
}

impl RuleView {
    /// The rule as it is now, packets and bytes that it matched, and seconds since it was added.
    pub fn counted(&self) -> (Arc<FlowSpec>, u64, u64, u64) {
        let PacketStats { packets, bytes } = self.rule.stats();
        let age = self.now.saturating_duration_since(self.rule.created);
        (self.rule.current(), packets, bytes, age.as_secs())
    }

    /// The row that shows it.
    pub fn row(&self, names: &PortMap) -> FlowRow {
        let RuleView { rule, now } = self;
        let PacketStats { packets, bytes } = rule.stats();
        let duration = now.saturating_duration_since(rule.created);
        let stats = FlowStats { duration, packets, bytes, idle_age: Some(rule.idle_age(*now)) };
        let spec = rule.current().without_mod_flags();
        FlowRow {
            flow: canonical(&spec, names),
            packets,
            bytes,
            duration: seconds(duration),
            text: format_flow(&spec, Some(&stats), names),
        }
    }
}

impl SlowPath {
    /// All bridges with their ports.
    pub fn bridge_views(&self) -> Vec<BridgeView> {
        let view = |id: PortId| {
            let port = self.state.port(id)?;
            let remotes = match &port.kind {
                PortKind::Tunnel(tunnel) => {
                    tunnel.remotes.iter().filter_map(|(_, a)| self.remote(*a)).collect()
                }
                PortKind::Local | PortKind::Device | PortKind::Patch(_) => Vec::new(),
            };
            Some(PortView {
                id,
                name: port.name.clone(),
                ofport: port.ofport,
                down: port.config.has(PortConfig::DOWN),
                up: port.alive,
                remotes,
                bfd: self.bfd_of(id),
            })
        };
        self.state
            .bridges()
            .map(|(_, bridge)| BridgeView {
                name: bridge.name.clone(),
                mac: bridge.mac.to_string(),
                datapath_id: bridge.datapath_id(),
                addresses: bridge.addresses.iter().map(ToString::to_string).collect(),
                flows: bridge.tables.len(),
                fdb_entries: bridge.fdb.len(),
                ports: bridge.ports.values().copied().chain([bridge.local]).filter_map(view).collect(),
            })
            .collect()
    }

    fn remote(&self, id: AdjacencyId) -> Option<RemoteRow> {
        let remote = self.tunnels.remote(id)?;
        let mut row = RemoteRow {
            ip: remote.ip.to_string(),
            state: "resolving".into(),
            source: None,
            next_hop_mac: None,
            mtu: None,
            next_hop: None,
        };
        match &remote.installed {
            Some(ReachSpec::Ready(header, _, mtu)) => {
                row.state = "ready".into();
                let fits = mtu.inner(header).and_then(|longest| longest.checked_sub(ETHERNET_LEN));
                row.mtu = fits.and_then(|mtu| u16::try_from(mtu).ok());
                row.next_hop_mac = Some(header.eth_dst.to_string());
                row.source = Some(match header.addrs {
                    EncapAddrs::V4(src, _) => src.to_string(),
                    EncapAddrs::V6(src, _) => src.to_string(),
                });
            }
            Some(ReachSpec::Resolving(_, next_hop)) => row.next_hop = Some(next_hop.to_string()),
            Some(ReachSpec::Unreachable(reason)) => row.state = reason.name().into(),
            None => {}
        }
        Some(row)
    }

    /// A bridge's FDB, by VLAN and address.
    pub fn fdb_view(&self, bridge: BridgeId) -> Vec<FdbEntry> {
        let Some(bridge) = self.state.bridge(bridge) else { return Vec::new() };
        let rows = bridge.fdb.rows(self.now());
        rows.into_iter()
            .filter_map(|row| {
                let port = self.state.port(row.at.port)?;
                Some(FdbEntry {
                    port: port.name.clone(),
                    ofport: port.ofport,
                    vlan: row.vlan,
                    mac: row.mac.to_string(),
                    age: row.age.as_secs(),
                    remote: row.at.remote.map(|ip| ip.to_string()),
                    fixed: row.fixed,
                })
            })
            .collect()
    }

    /// The neighbours of all bridges, or of one.
    pub fn neighbour_view(&self, only: Option<BridgeId>) -> Vec<NeighbourEntry> {
        let now = self.now();
        let rows = self.tunnels.neighbours(only, now).into_iter();
        rows.filter_map(|(id, row)| {
            Some(NeighbourEntry {
                bridge: self.state.bridge(id)?.name.clone(),
                ip: row.ip.to_string(),
                mac: row.state.mac().map(|mac| mac.to_string()),
                state: row.state.name().into(),
                age: row.age.as_secs(),
                vlan: 0,
                port: None,
                remote: None,
                router: false,
            })
        })
        .collect()
    }

    /// The routes of all bridges: connected ones first.
    pub fn route_view(&self) -> Vec<RouteEntry> {
        let mut rows = Vec::new();
        for (_, bridge) in self.state.bridges() {
            let connected = bridge.addresses.iter().map(|net| (net.trunc().to_string(), None, true));
            let routes =
                bridge.routes.iter().map(|r| (r.to.to_string(), r.via.map(|ip| ip.to_string()), false));
            for (to, via, connected) in connected.chain(routes) {
                rows.push(RouteEntry { bridge: bridge.name.clone(), to, via, connected });
            }
        }
        rows
    }

    /// The rules of a bridge that a filter selects, with statistics up to now.
    pub fn rules_of(&mut self, bridge: BridgeId, filter: &FlowFilter, strict: bool) -> Vec<RuleView> {
        self.collect_all();
        let now = self.now();
        let rules = self.state.bridge(bridge).map(|running| running.tables.select(filter, strict));
        rules.unwrap_or_default().into_iter().map(|rule| RuleView { rule, now }).collect()
    }

    /// Megaflows of all workers, those of one bridge's ports if it is given, at most `limit`.
    pub fn megaflow_view(&mut self, only: Option<BridgeId>, limit: usize) -> Vec<MegaflowRow> {
        self.collect_all();
        let slow = &*self;
        let each = slow.workers.iter().enumerate().flat_map(|(at, worker)| {
            worker.flows.slots().filter_map(move |slot| slow.megaflow_row(at, slot, only))
        });
        each.take(limit).collect()
    }

    /// Megaflows of the worker `at` from slot `from` on, up to `slots` of them, and the slot to go on from; `None` at the
    /// worker's end. Who looks at very many takes them in parts, so that upcalls do not wait for all of them.
    pub fn megaflow_part(
        &self,
        only: Option<BridgeId>,
        at: usize,
        from: u32,
        slots: usize,
    ) -> (Vec<MegaflowRow>, Option<u32>) {
        let Some(worker) = self.workers.get(at) else { return (Vec::new(), None) };
        let mut left = worker.flows.slots().skip_while(|slot| *slot < from);
        let part: Vec<u32> = left.by_ref().take(slots).collect();
        let rows = part.iter().filter_map(|slot| self.megaflow_row(at, *slot, only)).collect();
        (rows, left.next())
    }

    fn megaflow_row(&self, at: usize, slot: u32, only: Option<BridgeId>) -> Option<MegaflowRow> {
        let worker = &self.workers[at];
        let flow = worker.flows.get(slot)?;
        let in_port = self.state.port(PortId(flow.key.in_port as u16));
        if only.is_some() && in_port.map(|p| p.bridge) != only {
            return None;
        }
        let bridge = in_port.and_then(|p| self.state.bridge(p.bridge));
        let names = DatapathNames(self, bridge.map_or(&TlvMap::EMPTY, |bridge| &bridge.tlvs));
        let idle = self.now().saturating_duration_since(flow.used);
        Some(MegaflowRow {
            lcore: worker.lcore,
            bridge: bridge.map(|b| b.name.clone()),
            flow: format_megaflow(&flow.key, &flow.mask, &names),
            packets: flow.stats.packets,
            bytes: flow.stats.bytes,
            used: (flow.stats.packets > 0).then(|| seconds(idle)),
            actions: self.programs.get(flow.program).map_or_else(String::new, |p| self.describe(p)),
        })
    }

    /// The last tunnel packets that no tunnel port takes.
    pub fn unknown_tunnel_view(&self) -> Vec<UnknownTunnelRow> {
        let now = self.now();
        self.unknown_tunnels
            .last()
            .map(|(unknown, at)| UnknownTunnelRow {
                key: unknown.tun_id,
                remote: unknown.remote.to_string(),
                local: unknown.local.to_string(),
                age: seconds(now.saturating_duration_since(*at)),
            })
            .collect()
    }

    /// Sizes of the workers' tables.
    pub fn table_views(&self) -> Vec<TableView> {
        self.workers
            .iter()
            .map(|worker| TableView {
                lcore: worker.lcore,
                megaflows: worker.flows.len(),
                masks: worker.flows.masks(),
            })
            .collect()
    }

    /// How upcalls go. What was lost to full queues is the workers' to say, and 0 here.
    pub fn upcall_view(&self) -> UpcallStats {
        UpcallStats {
            upcalls: self.upcalls,
            megaflows: self.megaflows(),
            flow_limit: self.workers.iter().map(|w| w.flows.limit()).max().unwrap_or(0),
            flow_limit_hits: self.flow_limit_hits,
            lost: 0,
            programs: self.programs.len(),
        }
    }
}
