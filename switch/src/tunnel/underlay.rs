//! What tunnels see of the bridges that they run over.

use super::port::TunnelPort;
use super::route::Route;
use datapath::adjacency::Egress;
use flow::program::{BridgeId, PortId, Program};
use ipnet::IpNet;
use std::fmt::Debug;
use std::hash::Hash;
use std::net::IpAddr;
use wire::addr::MacAddr;
use wire::key::{FlowKey, FlowMask};

/// A bridge with addresses of the switch.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Its number.
    pub bridge: BridgeId,
    /// The address of its LOCAL port: source of the packets that the switch sends there.
    pub mac: MacAddr,
    /// Its LOCAL port.
    pub local: PortId,
    /// The switch's addresses, with their subnets.
    pub addresses: &'a [IpNet],
    /// Routes besides the subnets.
    pub routes: &'a [Route],
}

impl Network<'_> {
    /// Whether `ip` is an address of the switch here.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == ip)
    }
}

/// What a bridge does with a packet that leaves by its LOCAL port.
#[derive(Debug)]
pub struct EgressDecision<U: Underlay + ?Sized> {
    /// What is done to it.
    pub program: Program,
    /// What this depends on besides rules, ports and options.
    pub deps: Vec<U::Dep>,
    /// Bits of the packet that mattered.
    pub mask: FlowMask,
    /// What counts it.
    pub counters: U::Counters,
    /// Each packet does something to the bridge's rules, and must be looked up there.
    pub affects_rules: bool,
}

/// The bridges under tunnels, and the tunnel ports themselves.
pub trait Underlay {
    /// Something in a bridge that the egress of a packet depends on.
    type Dep: Debug + Copy + Eq + Hash;

    /// What in a bridge counts a packet.
    type Counters: Debug + Default;

    /// The bridges with addresses.
    fn networks(&self) -> impl Iterator<Item = Network<'_>>;

    /// One of them.
    fn network(&self, bridge: BridgeId) -> Option<Network<'_>>;

    /// What becomes of a packet with this key, whose in-port is a bridge's LOCAL port.
    fn egress(&self, key: &FlowKey) -> EgressDecision<Self>;

    /// Bytes behind its Ethernet header of the longest packet that every port takes which packets may leave by on this way
    /// through a bridge; `None` when nothing is known of them.
    fn egress_mtu(&self, egress: &Egress) -> Option<u16>;

    /// The bridge with this name, or with a port of this name.
    fn bridge_of(&self, dev: &str) -> Option<BridgeId>;

    /// A tunnel port.
    fn tunnel_port(&self, id: PortId) -> Option<&TunnelPort>;

    /// A tunnel port, to change it.
    fn tunnel_port_mut(&mut self, id: PortId) -> Option<&mut TunnelPort>;
}
