//! What `vxctl show` says: bridges, ports, remote VTEPs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Show {
    /// Version of the daemon.
    pub version: String,
    /// Bridges, in the order of the document.
    pub bridges: Vec<BridgeRow>,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRow {
    /// Name.
    pub name: String,
    /// `standalone` or `secure`.
    pub fail_mode: String,
    /// MAC of the LOCAL port.
    pub mac: String,
    /// Its number as OpenFlow controllers know it, in 16 hexadecimal digits.
    pub datapath_id: String,
    /// Addresses with prefix lengths; with any, the bridge is an underlay.
    pub addresses: Vec<String>,
    /// Rules in all tables.
    pub flows: usize,
    /// FDB entries.
    pub fdb_entries: usize,
    /// Ports, in the order of their OpenFlow numbers.
    pub ports: Vec<InterfaceRow>,
}

/// A port with its interface; `GET /v1/interfaces` lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceRow {
    /// Name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// The type as the document has it, or `internal` for a bridge's LOCAL port.
    #[serde(rename = "type")]
    pub kind: String,
    /// OpenFlow number.
    pub ofport: u32,
    /// MAC address of the device or bridge.
    pub mac_in_use: Option<String>,
    /// Largest Ethernet payload, bytes.
    pub mtu: Option<u16>,
    /// `up`, or `down` after `mod-port`.
    pub admin_state: String,
    /// `up`, `down` or `unknown`. A tunnel is up when packets can be sent to at least one remote.
    pub link_state: String,
    /// Bit/s, where the device knows.
    pub link_speed: Option<u64>,
    /// DPDK driver.
    pub driver: Option<String>,
    /// RX and TX queues.
    pub queues: Option<(u16, u16)>,
    /// What else the device says of itself, keys as in Open vSwitch's `status`.
    pub status: BTreeMap<String, String>,
    /// Access or native VLAN.
    pub tag: Option<u16>,
    /// VLANs of a trunk.
    pub trunks: Vec<u16>,
    /// VLAN mode, if configured.
    pub vlan_mode: Option<String>,
    /// Options as configured.
    pub options: BTreeMap<String, String>,
    /// Counters, named as in Open vSwitch.
    pub statistics: BTreeMap<String, u64>,
    /// Remotes of a tunnel port.
    pub remotes: Vec<RemoteRow>,
    /// Why the port's device does not run, if it does not.
    pub error: Option<String>,
    /// What its BFD session says, keys as in Open vSwitch's `bfd_status`; empty without one.
    #[serde(default)]
    pub bfd_status: BTreeMap<String, String>,
}

/// One remote VTEP of a tunnel port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRow {
    /// Its address.
    pub ip: String,
    /// `ready`, `resolving` or the reason why nothing can be sent.
    pub state: String,
    /// Source address of the tunnel packets, when ready.
    pub source: Option<String>,
    /// MAC of the next hop, when ready.
    pub next_hop_mac: Option<String>,
    /// Next hop that is being resolved.
    pub next_hop: Option<String>,
    /// Bytes of the longest inner packet that fits the path to the remote, when ready and known.
    #[serde(default)]
    pub mtu: Option<u16>,
}
