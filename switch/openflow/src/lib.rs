//! OpenFlow on the wire: messages to and from bytes, for the versions 1.0 (with Nicira's extensions), 1.3, 1.4 and 1.5.
//!
//! Flows, matches, actions, groups and meters are those of the rule model ([`flow::ofp`]); they never go through text.
//! A message is one declaration: its row in the table of [`Message`]s, and a layout that reads and writes. Nothing
//! here does I/O. [`length`] says where a message in a stream of bytes ends, [`decode`] reads one, [`encode`] makes one
//! (or the parts of a multipart reply).
#![deny(unsafe_code)]

mod action;
mod bundle;
mod coder;
mod error;
mod field;
mod flow_message;
mod group_message;
mod instruction;
mod learn;
mod matching;
mod message;
mod meter_message;
mod monitor;
mod packet;
mod port_message;
mod property;
mod switch_message;
mod table_message;

pub mod check;
pub mod server;

pub use bundle::{ATOMIC, BundleAdd, BundleControl, BundleControlKind, ORDERED};
pub use error::{Code, Error};
pub use flow::ofp::PacketReason;
pub use flow_message::{
    Aggregate, CHECK_OVERLAP, FlowCommand, FlowMod, FlowRemoved, FlowRequest, FlowStats, NO_BUFFER,
    RESET_COUNTS, RemovedReason, SEND_FLOW_REM,
};
pub use group_message::{
    BUCKET_ALL, BUCKET_FIRST, BUCKET_LAST, GROUP_ALL, GroupCommand, GroupDesc, GroupFeatures, GroupMod,
    GroupRequest, GroupStats,
};
pub use matching::CookieMask;
pub use message::{Decoded, HEADER, MAX_MESSAGE, Message, decode, encode, length, messages, xid};
pub use meter_message::{
    METER_ALL, MeterCommand, MeterConfig, MeterFeatures, MeterMod, MeterRequest, MeterStats,
};
pub use monitor::{FlowUpdate, MonitorRequest, UpdateEvent, flags as monitor_flags};
pub use packet::{PacketIn, PacketOut};
pub use port_message::{
    LINK_DOWN, LIVE, NO_FLOOD, NO_FWD, NO_PACKET_IN, NO_RECV, PORT_CONFIG, PORT_DOWN, Port, PortFeatures,
    PortMod, PortReason, PortRequest, PortStats, PortStatus, QueueConfig, QueueRequest, QueueStats,
};
pub use switch_message::{
    AsyncConfig, AsyncMasks, Desc, Echo, Empty, ErrorMessage, Features, Hello, Number, Role, RoleRequest,
    RoleStatus, SwitchConfig, TlvMap, TlvTable, TlvTableMod,
};
pub use table_message::{
    EVICTION, TableConfig, TableFeatures, TableReason, TableStats, TableStatus, VACANCY_EVENTS, Vacancy,
};

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// OpenFlow 1.0.
    V10,
    /// OpenFlow 1.3.
    V13,
    /// OpenFlow 1.4.
    V14,
    /// OpenFlow 1.5.
    V15,
}

impl Version {
    /// All, the oldest first.
    pub fn all() -> [Version; 4] {
        [Version::V10, Version::V13, Version::V14, Version::V15]
    }

    /// As headers have it.
    pub fn number(self) -> u8 {
        match self {
            Version::V10 => 1,
            Version::V13 => 4,
            Version::V14 => 5,
            Version::V15 => 6,
        }
    }

    /// The version with this number.
    pub fn from_number(number: u8) -> Option<Version> {
        Version::all().into_iter().find(|version| version.number() == number)
    }

    /// As `ovs-vsctl` has it in the column `protocols`.
    pub fn name(self) -> &'static str {
        match self {
            Version::V10 => "OpenFlow10",
            Version::V13 => "OpenFlow13",
            Version::V14 => "OpenFlow14",
            Version::V15 => "OpenFlow15",
        }
    }

    /// The highest version that both sides speak. `ours` and the peer's bitmap have bit n for version n; a peer
    /// without one speaks all up to its header's version.
    pub fn negotiate(ours: u32, header: u8, bitmap: u32) -> Option<Version> {
        let theirs = if bitmap == 0 { (2_u32 << header.min(30)) - 1 } else { bitmap };
        let both = ours & theirs;
        Version::all().into_iter().rev().find(|version| both >> version.number() & 1 != 0)
    }
}

/// What the two sides of a connection agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dialect {
    /// Version.
    pub version: Version,
    /// Nicira's form of a message where there is one, rather than OpenFlow's own. A decoded message says which it was.
    pub nicira: bool,
    /// `NXT_FLOW_MOD_TABLE_ID`: flow mods of OpenFlow 1.0 have the table in their command.
    pub table_id: bool,
    /// The tunnel options that the bridge's `tun_metadata` fields stand for.
    pub tlvs: wire::tunnel::geneve::TlvMap,
}

impl Dialect {
    /// A version, and no extensions.
    pub fn new(version: Version) -> Dialect {
        Dialect { version, nicira: false, table_id: false, tlvs: wire::tunnel::geneve::TlvMap::EMPTY }
    }
}
