//! What the control API says, as types: shared by the daemon and `vxctl`.
//!
//! HTTP/1.1 and JSON over the control socket; paths are listed in `vxswitch::control::server`. Addresses
//! are text as users write them, times are seconds, sizes bytes. Errors come as [`ErrorBody`] with a 4xx or 5xx status.

mod bfd;

pub use bfd::{BfdRow, BfdSide};

use config::vsctl::{ColumnValue, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the control socket is unless said: for root `/run/vxswitch/vxswitch.sock`, for others in `XDG_RUNTIME_DIR`.
pub fn default_socket() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !is_root && !dir.is_empty() => PathBuf::from(dir).join("vxswitch.sock"),
        _ => PathBuf::from("/run/vxswitch/vxswitch.sock"),
    }
}

/// Trailer with the reason why a stream ended; none when the client asked for no more.
pub const CAPTURE_END: &str = "x-vxswitch-end";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line for a person.
    pub error: String,
}

/// Something that happened; `GET /v1/events` is a stream of them, one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When, as in RFC 3339.
    pub time: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// What part of the switch says it: `vxswitch::port`, `vxswitch::config`, ...
    pub target: String,
    /// What happened.
    pub message: String,
    /// To whom, and why.
    pub fields: BTreeMap<String, String>,
}

/// `POST /v1/save`: the document was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// To this file.
    pub file: String,
}

/// A change was made; its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Entries added, removed or replaced.
    pub changed: usize,
}

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

/// `POST /v1/transaction`: a command line in `ovs-vsctl`'s grammar, split into words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The words; commands are joined by `--`.
    pub args: Vec<String>,
}

/// Answer to a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionReply {
    /// Whether the document is another than before.
    pub changed: bool,
    /// One a command, in order.
    pub outputs: Vec<CommandOutput>,
    /// What happened besides: devices that had to be made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one command of a transaction answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandOutput {
    /// Nothing.
    None,
    /// Lines to print.
    Lines(Vec<String>),
    /// `br-exists`.
    Exists(bool),
    /// `show`.
    Show(Show),
    /// `get`: one value a selector.
    Values(Vec<Value>),
    /// `list`: columns of records.
    Records(Vec<Record>),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The table.
    pub table: Table,
    /// Columns in the order in which they are shown.
    pub columns: Vec<(String, Value)>,
}

/// A column's value: what was configured, or a map of counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// As configured, or a state.
    Column(ColumnValue),
    /// Counters.
    Counters(BTreeMap<String, u64>),
}

impl std::fmt::Display for Value {
    /// As `ovs-vsctl` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Column(value) => value.fmt(f),
            Value::Counters(map) => {
                let pairs: Vec<String> = map.iter().map(|(name, count)| format!("{name}={count}")).collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}

/// `POST /v1/flows/BRIDGE/add|replace`: rules in `ovs-ofctl add-flow` syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// One rule each.
    pub flows: Vec<String>,
}

/// `POST /v1/flows/BRIDGE/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowDelete {
    /// Which rules, in `ovs-ofctl del-flows` syntax; empty for all.
    #[serde(rename = "match")]
    pub matches: String,
    /// Only the rule with this very match and priority.
    pub strict: bool,
}

/// `POST /v1/flows/BRIDGE/modify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowModify {
    /// Which rules, and their new actions, in `ovs-ofctl mod-flows` syntax.
    pub flow: String,
    /// Only the rule with this very match and priority.
    pub strict: bool,
}

/// `POST /v1/groups/BRIDGE/add|modify`: groups in `ovs-ofctl add-group` syntax.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Groups {
    /// One group each.
    pub groups: Vec<String>,
    /// To modify: a group that is not there is added.
    pub may_create: bool,
}

/// `POST /v1/meters/BRIDGE/add|modify`: meters in `ovs-ofctl add-meter` syntax.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meters {
    /// One meter each.
    pub meters: Vec<String>,
}

/// `GET /v1/tlv-map/BRIDGE`, `POST /v1/tlv-map/BRIDGE/add|delete`: which Geneve options are which `tun_metadata` fields, in
/// `ovs-ofctl add-tlv-map` syntax. To delete: all, if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tlvs {
    /// One option each.
    pub tlvs: Vec<String>,
}

/// `POST /v1/ports/BRIDGE/modify`: says how a port may be used until the switch is restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortModify {
    /// Name or OpenFlow number.
    pub port: String,
    /// What `ovs-ofctl mod-port` takes: `up`, `receive`, `forward`, `flood`, `packet-in`, and `down` or `no-` and one of these.
    pub action: String,
}

/// `POST /v1/packet-out/BRIDGE`: sends packets by actions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketOut {
    /// Port that the packets are treated as having come from: name, OpenFlow number, `LOCAL`, `CONTROLLER` or `NONE`.
    pub in_port: String,
    /// Actions, `ovs-ofctl` syntax.
    pub actions: String,
    /// Packets from the Ethernet header on, in hexadecimal digits.
    pub packets: Vec<String>,
}

/// `POST /v1/groups/BRIDGE/delete`, `/v1/meters/BRIDGE/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Which {
    /// `group_id=N` or `meter=N`; empty or `all` for all.
    #[serde(rename = "match")]
    pub matches: String,
}

/// `GET /v1/groups/BRIDGE?match=...`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupRow {
    /// Number.
    pub id: u32,
    /// The group as a user would type it.
    pub group: String,
    /// Packets of the megaflows that use it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds since it was added.
    pub duration: f64,
    /// Rules that send to it.
    pub flows: usize,
}

/// `GET /v1/meters/BRIDGE?match=...`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterRow {
    /// Number.
    pub id: u32,
    /// The meter as a user would type it.
    pub meter: String,
    /// Packets that it let through.
    pub passed_packets: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// Packets that it dropped.
    pub dropped_packets: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Seconds since it was added.
    pub duration: f64,
    /// Rules that use it.
    pub flows: usize,
}

/// `GET /v1/flows/BRIDGE?match=...`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// The rule as a user would type it.
    pub flow: String,
    /// Packets of the megaflows made from it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds since it was added.
    pub duration: f64,
    /// The line that `dump-flows` prints: statistics and rule.
    pub text: String,
}

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

/// `GET /v1/megaflows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MegaflowRow {
    /// Lcore whose table it is in.
    pub lcore: u32,
    /// Bridge of its input port; none for tunnel packets that no port takes.
    pub bridge: Option<String>,
    /// Key and mask, in `ovs-dpctl` style.
    pub flow: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Seconds since the last packet; none when there was none.
    pub used: Option<f64>,
    /// What is done with its packets.
    pub actions: String,
}

/// `GET /v1/lcores`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LcoreRow {
    /// Lcore.
    pub lcore: u32,
    /// RX queues that it polls: `PORT/QUEUE`.
    pub rx: Vec<String>,
    /// Loops.
    pub iterations: u64,
    /// TSC cycles of loops that did something.
    pub busy_cycles: u64,
    /// TSC cycles of loops that found nothing to do.
    pub idle_cycles: u64,
    /// TSC cycles of sleeps, which are among `idle_cycles`.
    pub sleep_cycles: u64,
    /// Sleeps.
    pub sleeps: u64,
    /// How long it may sleep at a time, microseconds; 0: never.
    pub sleep_max: u32,
    /// Share of cycles in busy loops since the start, 0 to 100.
    pub busy_percent: f64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets freed, for whatever reason.
    pub dropped: u64,
    /// Lookups that the flow cache answered.
    pub cache_hits: u64,
    /// Lookups that the megaflow table answered.
    pub megaflow_hits: u64,
    /// Those of `cache_hits` and `megaflow_hits` that needed no key of the packet.
    pub no_key_hits: u64,
    /// Lookups that nothing answered.
    pub misses: u64,
    /// Keys sent to the slow path.
    pub upcalls: u64,
    /// Packets that wait now.
    pub held: u64,
    /// Packets made by the slow path.
    pub injected: u64,
    /// Copies made of packets that go to several places.
    pub copied: u64,
    /// Packets whose only destination was the slow path.
    pub punted: u64,
    /// Packets given to other workers.
    pub tx_handoff_sent: u64,
    /// Packets taken over from other workers.
    pub tx_handoff_received: u64,
    /// Megaflows.
    pub megaflows: usize,
    /// Different masks among them.
    pub masks: usize,
    /// Bytes that a megaflow costs in a full table.
    pub bytes_per_megaflow: f64,
    /// Bytes that an entry of the flow cache costs.
    pub bytes_per_cache_entry: usize,
    /// Busy cycles for each packet received, since the start.
    pub cycles_per_packet: Option<f64>,
}

/// `GET /v1/drops`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Drops {
    /// By reason; those that never happened too.
    pub drops: Vec<DropRow>,
    /// Frames with a malformed header behind Ethernet, which were bridged by their L2 fields.
    pub malformed: Vec<DropRow>,
    /// The last tunnel packets that no tunnel port takes (`tunnel_unknown`), the latest first; a few.
    #[serde(default)]
    pub unknown_tunnels: Vec<UnknownTunnelRow>,
}

/// A tunnel packet that no tunnel port takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnknownTunnelRow {
    /// VNI or key.
    pub key: u32,
    /// Outer source.
    pub remote: String,
    /// Outer destination.
    pub local: String,
    /// Seconds since a worker asked about it.
    pub age: f64,
}

/// A reason and how often it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// Name, as in metrics.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// By port, largest first.
    pub ports: Vec<(String, u64)>,
    /// For a person.
    pub description: String,
}

/// `GET /v1/upcall`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpcallStats {
    /// Upcalls answered.
    pub upcalls: u64,
    /// Megaflows in all tables.
    pub megaflows: usize,
    /// Most megaflows that one worker's table holds.
    pub flow_limit: usize,
    /// Upcalls for which no room was.
    pub flow_limit_hits: u64,
    /// Upcalls lost to a full queue.
    pub lost: u64,
    /// Different programs in use.
    pub programs: usize,
}

/// `POST /v1/appctl`: a command as `ovs-appctl` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appctl {
    /// Its name, such as `dpif-netdev/pmd-rxq-show`; `list-commands` names all.
    pub command: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// What a command of `ovs-appctl` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppctlReply {
    /// The text, as `ovs-appctl` prints it.
    pub text: String,
}

/// `POST /v1/trace/BRIDGE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// A packet, in `ovs-appctl ofproto/trace` syntax; with `packet`, where it comes from.
    pub flow: String,
    /// The packet's bytes in hexadecimal, blanks allowed. Its fields win over those of `flow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
}

/// Why a traced packet goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceDrop {
    /// Name, as in metrics.
    pub reason: String,
    /// For a person.
    pub description: String,
}

/// Answer to a [`TraceRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The packet as understood.
    pub flow: String,
    /// Every step.
    pub steps: Vec<String>,
    /// The megaflow that it would make.
    pub megaflow: String,
    /// What the workers would do.
    pub actions: String,
    /// The tunnel headers that they would put in front.
    pub headers: Vec<String>,
    /// The packet as its last action leaves it; empty when it is as it came.
    pub final_flow: String,
    /// Why it goes nowhere, if it does.
    pub reason: Option<TraceDrop>,
    /// The frame inside, where outer headers come off a packet whose bytes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Box<Trace>>,
    /// The tunnel packet that it becomes, where the underlay's rules look at each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<Box<Trace>>,
}

/// `GET /v1/document`: the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentBody {
    /// As TOML.
    pub toml: String,
}
