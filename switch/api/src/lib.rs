//! What the control API says, as types: shared by the daemon and `vxctl`.
//!
//! HTTP/1.1 and JSON over the control socket; paths are listed in `vxswitch::control::server`. Addresses
//! are text as users write them, times are seconds, sizes bytes. Errors come as [`ErrorBody`] with a 4xx or 5xx status.

mod addresses;
mod bfd;
mod datapath;
mod handover;
mod rules;
mod show;
mod transaction;

pub use addresses::{
    EvpnRow, EvpnVtep, FdbEdit, FdbEntry, NeighbourEdit, NeighbourEntry, RouteEntry, SuppressRow,
};
pub use bfd::{BfdRow, BfdSide};
pub use datapath::{DropRow, Drops, LcoreRow, MegaflowRow, UnknownTunnelRow, UpcallStats};
pub use handover::{Handover, Restarting};
pub use rules::{
    Buckets, FlowDelete, FlowModify, FlowRow, Flows, GroupRow, Groups, MeterRow, Meters, PacketOut,
    PortModify, Tlvs, Which,
};
pub use show::{BridgeRow, InterfaceRow, RemoteRow, Show};
pub use transaction::{CommandOutput, Record, Transaction, TransactionReply, Value};

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
    /// Where a packet whose bytes are known goes, and with how many bytes; empty for one that is only a flow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<String>,
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

/// A packet that came in, and what became of it; `GET /v1/monitor` is a stream of them, one a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitoredPacket {
    /// When, in seconds since 1970.
    pub time: f64,
    /// The port that it came in by.
    pub port: String,
    /// The port's bridge.
    pub bridge: String,
    /// Bytes.
    pub length: usize,
    /// What the rules made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Without a trace: why a worker dropped it, which the rules did not say. The packet may have been shown before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<TraceDrop>,
    /// Packets before it that should have been shown and were not: there was no time, or no room with the reader.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `GET /v1/document`: the desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentBody {
    /// As TOML.
    pub toml: String,
}
