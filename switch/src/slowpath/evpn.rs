//! VNIs whose remotes come from EVPN: what the switch knows of them, and what routes change.

use super::SlowPath;
use crate::bridge::fdb::{Location, Origin};
use crate::bridge::hosts::Source;
use crate::bridge::{Bridge, Port, PortKind};
use crate::tunnel::port::TunnelPort;
use config::{LocalIp, RemoteIp, TunnelKey};
use evpn::hosts::Host;
use evpn::table::{Down, Remote, Switch};
use flow::program::PortId;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A VNI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vni {
    /// The bridge of its tunnel port.
    pub bridge: String,
    /// Its tunnel port.
    pub port: String,
    /// Network namespace that FRR runs in; `None`: ours.
    pub netns: Option<String>,
    /// The VTEP's address; `None` when the port names none and no underlay bridge has one.
    pub local: Option<Ipv4Addr>,
    /// What the switch knows.
    pub table: Switch,
}

/// What VNIs were at a moment, without their addresses, and how often FDBs had changed by then: when it is the same, so is
/// all else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    changes: u64,
    ports: Vec<(PortId, Option<Ipv4Addr>, Option<String>, usize)>,
}

fn vlan_of(port: &Port) -> u16 {
    port.vlan.ingress(None).map_or(0, |vlan| vlan.vid)
}

impl SlowPath {
    fn evpn_ports(&self) -> impl Iterator<Item = (u32, PortId, &Port, &Bridge, &TunnelPort)> {
        self.state.ports().filter_map(|(id, port)| {
            let PortKind::Tunnel(tunnel) = &port.kind else { return None };
            let TunnelKey::Vni(vni) = tunnel.options.in_key else { return None };
            let bridge = self.state.bridge(port.bridge)?;
            (tunnel.options.remote_ip == RemoteIp::Evpn).then_some((vni, id, port, bridge, &**tunnel))
        })
    }

    fn evpn_local(&self, local: LocalIp) -> Option<Ipv4Addr> {
        let v4 = |ip: IpAddr| if let IpAddr::V4(ip) = ip { Some(ip) } else { None };
        if let LocalIp::Addr(ip) = local {
            return v4(ip);
        }
        self.state.bridges().flat_map(|(_, bridge)| &bridge.addresses).find_map(|net| v4(net.addr()))
    }

    fn evpn_stamp(&self) -> Stamp {
        let ports: Vec<_> = self
            .evpn_ports()
            .map(|(_, id, _, bridge, tunnel)| {
                let local = self.evpn_local(tunnel.options.local_ip);
                (id, local, bridge.evpn_netns.clone(), tunnel.remotes.len())
            })
            .collect();
        // Without such a port no FDB's changes matter.
        let bridges = self.state.bridges().filter(|_| !ports.is_empty());
        let changes = bridges
            .map(|(_, bridge)| bridge.fdb.changes().wrapping_add(bridge.hosts.changes()))
            .fold(0, u64::wrapping_add);
        Stamp { changes, ports }
    }

    /// All VNIs whose remotes come from EVPN, unless nothing changed since `stamp`.
    pub fn evpn_vnis(&self, stamp: &Stamp) -> Option<(Stamp, BTreeMap<u32, Vni>)> {
        let now = self.evpn_stamp();
        if now == *stamp {
            return None;
        }
        let mut vnis = BTreeMap::new();
        let mut by_vlan: BTreeMap<(&str, u16), Vec<(u32, PortId)>> = BTreeMap::new();
        for (vni, id, port, bridge, tunnel) in self.evpn_ports() {
            let vteps = tunnel.remotes.iter().map(|(ip, _)| (*ip, !tunnel.unicast_only.contains(ip)));
            let seen = Vni {
                bridge: bridge.name.clone(),
                port: port.name.clone(),
                netns: bridge.evpn_netns.clone(),
                local: self.evpn_local(tunnel.options.local_ip),
                table: Switch { vteps: vteps.collect(), ..Switch::default() },
            };
            vnis.insert(vni, seen);
            by_vlan.entry((&bridge.name, vlan_of(port))).or_default().push((vni, id));
        }
        let concerned = |bridge: &Bridge| by_vlan.keys().any(|(name, _)| *name == bridge.name);
        for (_, bridge) in self.state.bridges().filter(|(_, bridge)| concerned(bridge)) {
            for ((vlan, mac), at, origin) in bridge.fdb.entries() {
                let Some(of) = by_vlan.get(&(bridge.name.as_str(), vlan)) else { continue };
                let is_tunnel = self.state.port(at.port).is_none_or(Port::is_tunnel);
                for (vni, port) in of {
                    let Some(Vni { table, .. }) = vnis.get_mut(vni) else { continue };
                    match (origin, at.remote) {
                        (Origin::Route { sticky }, Some(vtep)) if at.port == *port => {
                            table.remote.insert(mac, Remote { vtep, sticky });
                        }
                        _ if !is_tunnel => {
                            table.local.insert(mac, origin == Origin::Static);
                        }
                        _ => {}
                    }
                }
            }
        }
        for (_, bridge) in self.state.bridges().filter(|(_, bridge)| concerned(bridge)) {
            for ((vlan, ip), host) in bridge.hosts.iter() {
                let of = by_vlan.get(&(bridge.name.as_str(), *vlan)).into_iter().flatten();
                let entry = Host { mac: host.mac, router: host.router };
                for (vni, _) in of {
                    let Some(Vni { table, .. }) = vnis.get_mut(vni) else { continue };
                    if host.source == Source::Route {
                        table.hosts.remote.insert(*ip, entry);
                    } else if table.local.contains_key(&host.mac) {
                        table.hosts.local.insert(*ip, entry);
                        if host.source == Source::Static {
                            table.hosts.fixed.insert(*ip);
                        }
                    }
                }
            }
        }
        Some((now, vnis))
    }

    /// Does what routes say.
    pub fn evpn_apply(&mut self, downs: &BTreeMap<u32, Down>) {
        let now = self.now();
        let ports: Vec<_> =
            self.evpn_ports().map(|(vni, id, port, ..)| (vni, id, port.bridge, vlan_of(port))).collect();
        for (vni, port, bridge, vlan) in ports {
            let Some(down) = downs.get(&vni) else { continue };
            if let Some(vteps) = &down.vteps {
                let gone =
                    self.with_tunnels(|tunnels, state, uses| tunnels.set_remotes(state, uses, port, vteps));
                self.leaving_adjacencies.extend(gone);
                self.underlay_changed = true;
                self.everything_changed();
            }
            let mut changed = Vec::new();
            if let Some(bridge) = self.state.bridge_mut(bridge) {
                for mac in &down.forget {
                    // A host that was learned here in the meantime has taken the entry over.
                    if bridge.fdb.lookup(vlan, *mac).is_some_and(|at| at.port == port) {
                        bridge.fdb.remove(vlan, *mac);
                        changed.push((vlan, *mac));
                    }
                }
                for (mac, remote) in &down.install {
                    let at = Location { port, remote: Some(remote.vtep) };
                    changed.extend(bridge.fdb.add_external((vlan, *mac), at, remote.sticky, now));
                    changed.push((vlan, *mac));
                }
                for ip in &down.hosts.forget {
                    if bridge.hosts.get(vlan, *ip).is_some_and(|host| host.source == Source::Route) {
                        bridge.hosts.remove(&(vlan, *ip));
                    }
                }
                for (ip, host) in &down.hosts.put {
                    bridge.hosts.put((vlan, *ip), host.mac, host.router, Source::Route, now);
                }
            }
            for (vlan, mac) in changed {
                self.fdb_changed(bridge, vlan, mac);
            }
        }
        self.settle();
    }
}
