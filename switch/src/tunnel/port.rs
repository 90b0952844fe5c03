//! Tunnel ports: their options, their remotes, and what of both the datapath needs.

use config::{Inheritable, LocalIp, RemoteIp, TunnelKey, TunnelOptions};
use datapath::adjacency::Inherit;
use datapath::termination::TunnelMatch;
use flow::program::AdjacencyId;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// TTL of an outer header with `ttl=inherit` when the inner frame is not IP, as in Open vSwitch.
const DEFAULT_TTL: u8 = 64;

/// A tunnel port.
#[derive(Debug)]
pub struct TunnelPort {
    /// Its options.
    pub options: TunnelOptions,
    /// The adjacency of each of its fixed remotes, or of its multicast group.
    pub remotes: Vec<(IpAddr, AdjacencyId)>,
    /// Remotes that get no flooded frames: EVPN names them with MAC addresses only.
    pub unicast_only: BTreeSet<IpAddr>,
    /// Adjacencies that rules have asked for, of a port with `remote_ip=flow` or `local_ip=flow`, or the FDB, of one with a
    /// multicast group: by remote and, where rules set that, local address.
    pub next_hops: FxHashMap<(IpAddr, Option<IpAddr>), AdjacencyId>,
    /// Sequence number of the next packet, of a port whose headers have one.
    pub sequence: Option<Arc<AtomicU32>>,
}

impl TunnelPort {
    /// A port that has no adjacency yet.
    pub fn new(options: TunnelOptions) -> TunnelPort {
        let sequence = options.header.sequence.then(Arc::default);
        TunnelPort {
            options,
            remotes: Vec::new(),
            unicast_only: BTreeSet::new(),
            next_hops: FxHashMap::default(),
            sequence,
        }
    }

    /// Whether rules choose a remote or a local address of it, or packets teach remotes.
    pub fn has_next_hops(&self) -> bool {
        matches!(self.options.remote_ip, RemoteIp::Flow | RemoteIp::Group(_))
            || self.options.local_ip == LocalIp::Flow
    }

    /// All its adjacencies.
    pub fn adjacencies(&self) -> impl Iterator<Item = AdjacencyId> + '_ {
        self.remotes.iter().map(|(_, id)| *id).chain(self.next_hops.values().copied())
    }

    /// What it receives: one entry a remote.
    pub fn matches(&self) -> Vec<TunnelMatch> {
        let options = &self.options;
        let vni = match options.in_key {
            TunnelKey::Vni(vni) => Some(vni),
            TunnelKey::Flow => None,
        };
        let local = match options.local_ip {
            LocalIp::Addr(ip) => Some(ip),
            LocalIp::Any | LocalIp::Flow => None,
        };
        let of = |remote| TunnelMatch { vni, remote, local, transport: options.transport };
        match &options.remote_ip {
            // What comes from a VTEP that no route names is an unknown tunnel's.
            RemoteIp::Evpn => self.remotes.iter().map(|(ip, _)| of(Some(*ip))).collect(),
            RemoteIp::Addrs(addrs) => addrs.iter().map(|ip| of(Some(*ip))).collect(),
            RemoteIp::Group(group) if local.is_some() => {
                vec![of(None), TunnelMatch { local: Some(*group), ..of(None) }]
            }
            RemoteIp::Flow | RemoteIp::Group(_) => vec![of(None)],
        }
    }

    /// Where outer TOS comes from.
    pub fn tos(&self) -> Inherit {
        match self.options.tos {
            Inheritable::Value(tos) => Inherit::Fixed(tos),
            Inheritable::Inherit => Inherit::FromInner(0),
        }
    }

    /// Where outer TTL comes from.
    pub fn ttl(&self) -> Inherit {
        match self.options.ttl {
            Inheritable::Value(ttl) => Inherit::Fixed(ttl),
            Inheritable::Inherit => Inherit::FromInner(DEFAULT_TTL),
        }
    }
}
