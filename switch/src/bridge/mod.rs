//! The switch state: bridges, their ports, FDBs and rule tables, and the translation of a flow key
//! into a program.
//!
//! All of this belongs to the slow path thread. Translation only reads it; what a packet teaches (a MAC
//! address, say) comes back in the [`translate::Translation`] and is applied by the caller.

mod bfd;
pub mod controller;
pub mod fdb;
pub mod group;
pub mod hosts;
pub mod identity;
mod local;
pub mod mcast;
pub mod meter;
pub mod mirror;
pub mod normal;
pub mod observed;
pub mod rules;
mod suppress;
pub mod translate;
pub mod underlay;
pub mod vlan;

use crate::tunnel::port::TunnelPort;
use crate::tunnel::route::Route;
use config::{FailMode, RemoteIp};
use controller::ControllerMessages;
use fdb::Fdb;
pub use flow::program::BridgeId;
use flow::program::{MAX_PORTS, PortId};
use identity::Identity;
use ipnet::IpNet;
use observed::Observed;
use rules::RuleTables;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use vlan::VlanConfig;
use wire::addr::MacAddr;
use wire::view::group_mac;

/// A bridge.
#[derive(Debug)]
pub struct Bridge {
    /// Name, unique among bridges and ports.
    pub name: String,
    /// The address of its LOCAL port.
    pub mac: MacAddr,
    /// What happens to a packet that no rule matches.
    pub fail_mode: FailMode,
    /// The kernel's device behind its LOCAL port, if that is one.
    pub device: Option<LocalDevice>,
    /// The addresses of the switch on this bridge, with their subnets. With any, the bridge is an underlay.
    pub addresses: Vec<IpNet>,
    /// Routes besides the subnets.
    pub routes: Vec<Route>,
    /// Multicast groups of tunnel ports, of which the switch is a member here.
    pub joined: BTreeSet<IpAddr>,
    /// Datapath number of the LOCAL port.
    pub local: PortId,
    /// Datapath numbers of the other ports, by OpenFlow number.
    pub ports: BTreeMap<u32, PortId>,
    /// Learned and static addresses.
    pub fdb: Fdb,
    /// Which MAC addresses hosts have.
    pub hosts: hosts::Hosts,
    /// What it says of itself to controllers.
    pub identity: Identity,
    /// What became of questions for them.
    pub suppressed: hosts::SuppressStats,
    /// Multicast groups and routers of the overlay.
    pub mcast: mcast::Mcast,
    /// `other_config:neigh-suppress`, which holds for its tunnel ports.
    pub neigh_suppress: Option<bool>,
    /// A port of it keeps questions from what is behind it.
    pub has_suppressing: bool,
    /// Rules.
    pub tables: RuleTables,
    /// Whether frames to 802.1D reserved group addresses are forwarded.
    pub forward_bpdu: bool,
    /// Groups, by number.
    pub groups: BTreeMap<u32, Arc<group::Group>>,
    /// Meters, by number.
    pub meters: BTreeMap<u32, meter::Meter>,
    /// Mirrors, in the order of the document.
    pub mirrors: Vec<mirror::Mirror>,
    /// Network namespace of FRR, for VNIs whose remotes come from EVPN; `None`: the switch's own.
    pub evpn_netns: Option<String>,
    /// Which Geneve options are which `tun_metadata` fields.
    pub tlvs: wire::tunnel::geneve::TlvMap,
}

/// A LOCAL port that is a network device of the kernel. The kernel answers for the addresses that it has there; the switch
/// takes the tunnel packets to them.
#[derive(Debug, Clone, Default)]
pub struct LocalDevice {
    /// Neighbours that the kernel had there when it was last looked at.
    pub neighbours: BTreeMap<IpAddr, KernelNeighbour>,
}

/// A neighbour of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelNeighbour {
    /// Its MAC address.
    pub mac: MacAddr,
    /// An operator said so; else the kernel has found out.
    pub is_static: bool,
}

impl Bridge {
    /// Whether anything listens on LOCAL: addresses of the switch, or the kernel.
    pub fn listens(&self) -> bool {
        self.is_underlay() || self.device.is_some()
    }

    /// Its number as controllers know it (`datapath_id`).
    pub fn datapath_id(&self) -> u64 {
        let of_mac = || self.mac.0.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
        self.identity.datapath_id.unwrap_or_else(of_mac)
    }

    /// Whether tunnels can run over this bridge.
    pub fn is_underlay(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether a packet to `ip`, in a frame to `mac`, is for a multicast group of a tunnel port.
    pub fn has_joined(&self, ip: IpAddr, mac: MacAddr) -> bool {
        self.joined.contains(&ip) && mac == group_mac(ip)
    }

    /// Whether it is a member of any group of a family.
    pub fn has_groups(&self, v6: bool) -> bool {
        self.joined.iter().any(|group| group.is_ipv6() == v6)
    }

    /// Whether `ip` is an address of the switch on this bridge.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == ip)
    }
}

/// How a port may be used, in OpenFlow's bits (`OFPPC_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortConfig(pub u32);

impl PortConfig {
    /// It takes nothing in and sends nothing, and its link counts as down.
    pub const DOWN: u32 = 1 << 0;
    /// It takes nothing in.
    pub const NO_RECEIVE: u32 = 1 << 2;
    /// Nothing is flooded to it.
    pub const NO_FLOOD: u32 = 1 << 4;
    /// It sends nothing.
    pub const NO_FORWARD: u32 = 1 << 5;
    /// Controllers do not hear of packets from it that no rule matches.
    pub const NO_PACKET_IN: u32 = 1 << 6;

    /// Whether it has one of some bits.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// What is behind a port.
#[derive(Debug)]
pub enum PortKind {
    /// The bridge itself.
    Local,
    /// A DPDK device.
    Device,
    /// Tunnels.
    Tunnel(Box<TunnelPort>),
    /// One end of a pair that joins two bridges: the name of the other end (`options:peer`).
    Patch(String),
}

/// A port of a bridge.
#[derive(Debug)]
pub struct Port {
    /// Name, unique among bridges and ports.
    pub name: String,
    /// The bridge.
    pub bridge: BridgeId,
    /// Number within the bridge, as rules use it.
    pub ofport: u32,
    /// VLANs that it carries.
    pub vlan: VlanConfig,
    /// Its own `other_config:neigh-suppress`.
    pub neigh_suppress: Option<bool>,
    /// `other_config:mcast-snooping-flood`: it gets every multicast packet.
    pub mcast_flood: bool,
    /// `other_config:mcast-snooping-flood-reports`: it gets every report.
    pub mcast_flood_reports: bool,
    /// Bytes that its device takes behind Ethernet header and tag; `None` without a device.
    pub mtu: Option<u16>,
    /// Whether its link is up.
    pub alive: bool,
    /// How it may be used: what `mod-port` says.
    pub config: PortConfig,
    /// Its BFD session.
    pub bfd: Option<PortBfd>,
    /// What is behind it.
    pub kind: PortKind,
}

/// What a port's BFD session is to the packets of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBfd {
    /// Only packets with tunnel key 0 are the session's.
    pub check_tnl_key: bool,
    /// Only packets to this address are.
    pub remote_dst_mac: Option<MacAddr>,
    /// Whether packets get to the other side.
    pub forwarding: bool,
}

impl Port {
    /// Whether packets can leave by it and arrive, as far as that is known: what `watch_port` of a group asks.
    pub fn is_live(&self) -> bool {
        self.alive && !self.config.has(PortConfig::DOWN) && self.bfd.is_none_or(|bfd| bfd.forwarding)
    }

    /// Whether it gets what is flooded.
    pub fn is_flooded(&self) -> bool {
        !self.config.has(PortConfig::NO_FLOOD)
    }

    /// Whether it is a tunnel.
    pub fn is_tunnel(&self) -> bool {
        matches!(self.kind, PortKind::Tunnel(_))
    }
}

/// All bridges and ports.
#[derive(Debug)]
pub struct SwitchState {
    bridges: BTreeMap<BridgeId, Bridge>,
    ports: Box<[Option<Port>]>,
    by_name: FxHashMap<String, PortId>,
    /// Packets that somebody looks at.
    pub observed: Observed,
    /// What packets for controllers come with.
    pub controller_messages: ControllerMessages,
    /// Rules are being restored, and nothing is sent by what there is of them (`flow-restore-wait`).
    pub restoring: bool,
    /// So many tunnel packets come that no tunnel port takes that one megaflow drops them all.
    pub merge_unknown_tunnels: bool,
}

impl Default for SwitchState {
    fn default() -> Self {
        SwitchState {
            bridges: BTreeMap::new(),
            ports: (0..MAX_PORTS).map(|_| None).collect(),
            by_name: FxHashMap::default(),
            observed: Observed::default(),
            controller_messages: ControllerMessages::default(),
            restoring: false,
            merge_unknown_tunnels: false,
        }
    }
}

impl SwitchState {
    /// A bridge.
    pub fn bridge(&self, id: BridgeId) -> Option<&Bridge> {
        self.bridges.get(&id)
    }

    /// A bridge, to change it.
    pub fn bridge_mut(&mut self, id: BridgeId) -> Option<&mut Bridge> {
        self.bridges.get_mut(&id)
    }

    /// All bridges, in the order in which they were made.
    pub fn bridges(&self) -> impl Iterator<Item = (BridgeId, &Bridge)> {
        self.bridges.iter().map(|(id, bridge)| (*id, bridge))
    }

    /// All bridges, to change them.
    pub fn bridges_mut(&mut self) -> impl Iterator<Item = (BridgeId, &mut Bridge)> {
        self.bridges.iter_mut().map(|(id, bridge)| (*id, bridge))
    }

    /// The number of a bridge.
    pub fn bridge_named(&self, name: &str) -> Option<BridgeId> {
        self.bridges.iter().find(|(_, b)| b.name == name).map(|(id, _)| *id)
    }

    /// A port.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())?.as_ref()
    }

    /// A port, to change it.
    pub fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.index())?.as_mut()
    }

    /// All ports with their numbers.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        self.ports.iter().enumerate().filter_map(|(i, p)| Some((PortId(i as u16), p.as_ref()?)))
    }

    /// The datapath number of a port, LOCAL ports (named as their bridges) included.
    pub fn port_named(&self, name: &str) -> Option<PortId> {
        self.by_name.get(name).copied()
    }

    /// A free datapath port number. The lowest free one is used, so numbers stay small.
    pub fn free_port(&self) -> Option<PortId> {
        (1..MAX_PORTS).find(|i| self.ports[*i].is_none()).map(|i| PortId(i as u16))
    }

    /// Adds a bridge; `make` gets the number of its LOCAL port. `None` when all port numbers are taken.
    pub fn add_bridge(&mut self, make: impl FnOnce(PortId) -> Bridge) -> Option<BridgeId> {
        let local = self.free_port()?;
        let id = BridgeId(self.bridges.keys().last().map_or(0, |id| id.0.wrapping_add(1)));
        let bridge = make(local);
        self.by_name.insert(bridge.name.clone(), local);
        self.ports[local.index()] = Some(Port {
            name: bridge.name.clone(),
            bridge: id,
            ofport: flow::ofp::PORT_LOCAL,
            vlan: VlanConfig::default(),
            mcast_flood: false,
            mcast_flood_reports: false,
            neigh_suppress: None,
            mtu: None,
            alive: true,
            config: PortConfig::default(),
            bfd: None,
            kind: PortKind::Local,
        });
        self.bridges.insert(id, bridge);
        Some(id)
    }

    /// Removes a bridge whose other ports are gone already.
    pub fn remove_bridge(&mut self, id: BridgeId) -> Option<Bridge> {
        let bridge = self.bridges.remove(&id)?;
        self.by_name.remove(&bridge.name);
        self.ports[bridge.local.index()] = None;
        Some(bridge)
    }

    /// The OpenFlow number that a new port gets: the one asked for if it is free, else the lowest free one.
    pub fn free_ofport(&self, bridge: BridgeId, request: Option<u16>) -> u32 {
        let taken = |n: u32| self.bridges.get(&bridge).is_some_and(|b| b.ports.contains_key(&n));
        match request {
            Some(n) if n > 0 && !taken(n.into()) => n.into(),
            _ => (1..=flow::ofp::PORT_MAX).find(|n| !taken(*n)).unwrap_or(flow::ofp::PORT_MAX),
        }
    }

    /// Gives ports other OpenFlow numbers, all at once, so that they may exchange them; 0 is any that is free. One whose
    /// number another port has keeps its own; returns those.
    pub fn set_ofports(&mut self, wanted: &[(PortId, u16)]) -> Vec<PortId> {
        let mut before = Vec::new();
        for (id, wanted) in wanted {
            let Some(port) = self.ports.get(id.index()).and_then(Option::as_ref) else { continue };
            if let Some(bridge) = self.bridges.get_mut(&port.bridge) {
                bridge.ports.remove(&port.ofport);
                before.push((*id, port.bridge, port.ofport, *wanted));
            }
        }
        let mut kept = Vec::new();
        for (id, bridge, old, wanted) in before {
            let number = self.free_ofport(bridge, Some(wanted));
            // Its own, unless another of these has just got that.
            let is_it = wanted == 0 || number == u32::from(wanted);
            let number = if is_it { number } else { self.free_ofport(bridge, Some(old as u16)) };
            if !is_it {
                kept.push(id);
            }
            if let Some(bridge) = self.bridges.get_mut(&bridge) {
                bridge.ports.insert(number, id);
            }
            if let Some(port) = self.ports.get_mut(id.index()).and_then(Option::as_mut) {
                port.ofport = number;
            }
        }
        kept
    }

    /// Whether questions for hosts are kept from a port, where the answer is known (`neigh-suppress`). By default from
    /// tunnels whose remotes come from EVPN.
    pub fn suppresses(&self, port: &Port) -> bool {
        let PortKind::Tunnel(tunnel) = &port.kind else { return port.neigh_suppress == Some(true) };
        let of_bridge = || self.bridge(port.bridge).and_then(|bridge| bridge.neigh_suppress);
        port.neigh_suppress.or_else(of_bridge).unwrap_or(tunnel.options.remote_ip == RemoteIp::Evpn)
    }

    /// Notes for all bridges whether they have ports that [`SwitchState::suppresses`].
    pub fn note_suppressing(&mut self) {
        let of = |bridge: &Bridge| {
            bridge.ports.values().filter_map(|id| self.port(*id)).any(|port| self.suppresses(port))
        };
        let found: Vec<bool> = self.bridges.values().map(of).collect();
        for (bridge, has) in self.bridges.values_mut().zip(found) {
            bridge.has_suppressing = has;
        }
    }

    /// Adds a port under a free number.
    pub fn add_port(&mut self, id: PortId, port: Port) {
        self.by_name.insert(port.name.clone(), id);
        if let Some(bridge) = self.bridges.get_mut(&port.bridge) {
            bridge.ports.insert(port.ofport, id);
        }
        self.ports[id.index()] = Some(port);
    }

    /// Removes a port and what the FDB knows behind it.
    pub fn remove_port(&mut self, id: PortId) -> Option<Port> {
        let port = self.ports.get_mut(id.index())?.take()?;
        self.by_name.remove(&port.name);
        if let Some(bridge) = self.bridges.get_mut(&port.bridge) {
            bridge.ports.remove(&port.ofport);
            bridge.fdb.flush(Some(id));
        }
        Some(port)
    }
}

/// Names and numbers of a bridge's ports, for parsing and printing rules.
#[derive(Debug, Clone, Copy)]
pub struct BridgePorts<'a> {
    /// Where the ports are.
    pub state: &'a SwitchState,
    /// Whose ports.
    pub bridge: BridgeId,
}

impl flow::ofp::PortNames for BridgePorts<'_> {
    fn number(&self, name: &str) -> Option<u32> {
        let port = self.state.port(self.state.port_named(name)?)?;
        (port.bridge == self.bridge).then_some(port.ofport)
    }

    fn name(&self, number: u32) -> Option<String> {
        let bridge = self.state.bridge(self.bridge)?;
        let id = *bridge.ports.get(&number)?;
        Some(self.state.port(id)?.name.clone())
    }

    fn tlvs(&self) -> &wire::tunnel::geneve::TlvMap {
        self.state.bridge(self.bridge).map_or(&wire::tunnel::geneve::TlvMap::EMPTY, |bridge| &bridge.tlvs)
    }
}
