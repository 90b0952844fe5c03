//! The datapath: megaflows, workers, drops, upcalls.

use serde::{Deserialize, Serialize};

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
    /// Packets that became part of another: fragments that were reassembled, segments that were coalesced.
    pub merged: u64,
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
