//! What is known of addresses: FDB, neighbours, routes, EVPN.

use serde::{Deserialize, Serialize};

/// `GET /v1/fdb/BRIDGE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Port.
    pub port: String,
    /// Its OpenFlow number.
    pub ofport: u32,
    /// VLAN, 0 for none.
    pub vlan: u16,
    /// Address.
    pub mac: String,
    /// Seconds since it was last seen.
    pub age: u64,
    /// VTEP behind a tunnel port.
    pub remote: Option<String>,
    /// Set by an operator.
    pub fixed: bool,
}

/// `POST /v1/fdb/BRIDGE/add|delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FdbEdit {
    /// Port; not needed to delete.
    pub port: String,
    /// VLAN, 0 for none.
    pub vlan: u16,
    /// Address.
    pub mac: String,
    /// VTEP behind a tunnel port with several remotes.
    pub remote: Option<String>,
}

/// `GET /v1/neigh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourEntry {
    /// Bridge.
    pub bridge: String,
    /// Address.
    pub ip: String,
    /// MAC, when known.
    pub mac: Option<String>,
    /// `PERMANENT`, `REACHABLE`, `INCOMPLETE` or `FAILED`; `EXTERN_LEARN` from a route.
    pub state: String,
    /// Seconds in this state; of a host of an overlay, since its last packet.
    pub age: u64,
    /// VLAN of a host of an overlay, 0 for none.
    #[serde(default)]
    pub vlan: u16,
    /// Port that a host of an overlay is behind; none: that is not known.
    #[serde(default)]
    pub port: Option<String>,
    /// VTEP behind that.
    #[serde(default)]
    pub remote: Option<String>,
    /// It has said that it is a router (IPv6).
    #[serde(default)]
    pub router: bool,
}

/// What became of the questions for hosts (ARP requests, neighbour solicitations) of a bridge with `neigh-suppress`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SuppressRow {
    /// Bridge.
    pub bridge: String,
    /// Answered by the switch.
    pub answered: u64,
    /// Not flooded to tunnels, because the host is at a local port.
    pub local: u64,
    /// Flooded to tunnels as well.
    pub flooded: u64,
    /// News about hosts.
    pub learned: u64,
}

/// `POST /v1/neigh/BRIDGE/set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourEdit {
    /// Address.
    pub ip: String,
    /// MAC.
    pub mac: String,
    /// VLAN of a host of an overlay, 0 for none.
    #[serde(default)]
    pub vlan: u16,
}

/// `GET /v1/route`, `POST /v1/route/BRIDGE/add|delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteEntry {
    /// Bridge.
    pub bridge: String,
    /// Destination prefix.
    pub to: String,
    /// Next hop; none when on the link.
    pub via: Option<String>,
    /// Follows from an address of the bridge; cannot be edited.
    pub connected: bool,
}

/// `GET /v1/evpn`: a VNI whose remotes come from EVPN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EvpnRow {
    /// VNI.
    pub vni: u32,
    /// Bridge of its port.
    pub bridge: String,
    /// Tunnel port.
    pub port: String,
    /// Network namespace of FRR and of the shadow devices; none: the switch's own.
    pub netns: Option<String>,
    /// The VTEP's address as it is announced.
    pub local: Option<String>,
    /// Process id of zebra, if one is seen.
    pub zebra: Option<u32>,
    /// Whether routes are kept that zebra has not installed again since it restarted.
    pub holding: bool,
    /// MAC addresses that are announced.
    pub local_macs: usize,
    /// Addresses of hosts at ports that are not tunnels: announced.
    pub local_hosts: usize,
    /// Addresses of hosts that routes name.
    pub remote_hosts: usize,
    /// MAC addresses from routes.
    pub remote_macs: usize,
    /// Other VTEPs.
    pub vteps: Vec<EvpnVtep>,
    /// MAC addresses that more than one host seems to have.
    pub duplicates: Vec<String>,
    /// Why the switch and FRR do not follow each other.
    pub error: Option<String>,
}

/// A VTEP that routes name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvpnVtep {
    /// Address.
    pub ip: String,
    /// Whether it has a type 3 route: frames are flooded to it.
    pub flood: bool,
}
