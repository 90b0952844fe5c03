//! The tunnels that a switch has, by what their packets say: VNI or key, remote and local address, transport.

use flow::program::PortId;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::net::IpAddr;
use wire::tunnel::Transport;

/// How a tunnel port is told apart on receive; `None` takes any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelMatch {
    /// `in_key`: VNI or key, or `None` for `flow`.
    pub vni: Option<u32>,
    /// `remote_ip`, or `None` for `flow`.
    pub remote: Option<IpAddr>,
    /// `local_ip`, or `None` when not given or `flow`.
    pub local: Option<IpAddr>,
    /// IP protocol and UDP port that the packets come by.
    pub transport: Transport,
}

/// Which of the three are given: one lookup a shape that is in use, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    any_vni: bool,
    any_remote: bool,
    any_local: bool,
}

impl TunnelMatch {
    fn shape(&self) -> Shape {
        Shape {
            any_vni: self.vni.is_none(),
            any_remote: self.remote.is_none(),
            any_local: self.local.is_none(),
        }
    }

    /// Remote and local address where all given ones are of the family that `get` reads; absent ones are zero.
    pub(super) fn addresses<A: Default>(&self, get: impl Fn(IpAddr) -> Option<A>) -> Option<(A, A)> {
        let one = |ip: Option<IpAddr>| ip.map_or(Some(A::default()), &get);
        Some((one(self.remote)?, one(self.local)?))
    }
}

pub(super) fn v4(ip: IpAddr) -> Option<u32> {
    if let IpAddr::V4(ip) = ip { Some(ip.into()) } else { None }
}

pub(super) fn v6(ip: IpAddr) -> Option<u128> {
    if let IpAddr::V6(ip) = ip { Some(ip.into()) } else { None }
}

/// The tunnels of one address family, whose addresses are numbers of type `A`.
#[derive(Debug, Clone, Default)]
pub(super) struct Tunnels<A> {
    /// By VNI, transport and shape in one word, remote and local address; absent parts are zero.
    ports: FxHashMap<(u64, A, A), PortId>,
    /// In the order of precedence: `in_key` before `remote_ip` before `local_ip`.
    shapes: Vec<Shape>,
}

impl<A: Eq + Hash> PartialEq for Tunnels<A> {
    fn eq(&self, other: &Self) -> bool {
        self.ports == other.ports && self.shapes == other.shapes
    }
}

impl<A: Copy + Default + Eq + Hash> Tunnels<A> {
    #[inline(always)]
    fn pack(shape: Shape, vni: u32, (remote, local): (A, A), transport: Transport) -> (u64, A, A) {
        let bits =
            u64::from(shape.any_vni) | u64::from(shape.any_remote) << 1 | u64::from(shape.any_local) << 2;
        let vni = if shape.any_vni { 0 } else { u64::from(vni) };
        let transport = u64::from(transport.protocol) << 24 | u64::from(transport.port) << 8;
        (
            vni << 32 | transport | bits,
            if shape.any_remote { A::default() } else { remote },
            if shape.any_local { A::default() } else { local },
        )
    }

    fn key(of: &TunnelMatch, addresses: (A, A)) -> (u64, A, A) {
        Self::pack(of.shape(), of.vni.unwrap_or(0), addresses, of.transport)
    }

    pub(super) fn get(&self, of: &TunnelMatch, addresses: (A, A)) -> Option<PortId> {
        self.ports.get(&Self::key(of, addresses)).copied()
    }

    pub(super) fn insert(&mut self, of: &TunnelMatch, addresses: (A, A), port: PortId) {
        self.ports.insert(Self::key(of, addresses), port);
        if !self.shapes.contains(&of.shape()) {
            self.shapes.push(of.shape());
            self.shapes.sort_unstable();
        }
    }

    /// The most specific tunnel that takes a packet from `remote` to `local`.
    #[inline]
    pub(super) fn find(&self, vni: u32, remote: A, local: A, transport: Transport) -> Option<PortId> {
        let of = |shape: &Shape| Self::pack(*shape, vni, (remote, local), transport);
        self.shapes.iter().find_map(|shape| self.ports.get(&of(shape)).copied())
    }
}
