//! Rules, groups, meters and ports as `ovs-ofctl` has them.

use serde::{Deserialize, Serialize};

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

/// `POST /v1/groups/BRIDGE/insert-buckets|remove-buckets`: in the syntax of `ovs-ofctl insert-buckets`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Buckets {
    /// The group, the place, and buckets to insert.
    pub buckets: String,
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
    /// Packets and bytes of each bucket; empty where workers choose the bucket of each packet.
    #[serde(default)]
    pub buckets: Vec<(u64, u64)>,
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
