//! The desired state of the switch: one typed [`Document`], shaped like the tables of the Open_vSwitch
//! database, and the ways to read, check, edit and write it.
//!
//! - [`parse_file`] and [`parse_str`] read TOML and report *every* problem with its line.
//! - [`validate()`] checks a document wherever it came from (file, control API, transaction).
//! - [`vsctl`] is `ovs-vsctl`'s command grammar as edits of a document.
//! - [`TunnelOptions`], [`DpdkOptions`], [`VhostOptions`], [`SystemOptions`], [`TapOptions`] and [`PatchOptions`] are the typed form of a port's `options`,
//!   [`BfdOptions`] of its `bfd`.
//!
//! Nothing here touches DPDK, the kernel or the clock, so all of it runs in plain tests.
#![deny(unsafe_code)]

mod document;
mod options;
mod problem;
mod read;
mod settings;
mod suggest;
mod switch;
mod tlv;
mod validate;
pub mod vsctl;
mod write;

pub use document::{
    AddressesFrom, Bridge, Document, EVPN, FailMode, Mirror, Neighbour, Port, PortKind, PriorityTags, Route,
    StaticMac, UnknownName, VlanMode, mac_table, mcast,
};
pub use options::{
    BfdOptions, DpdkOptions, Inheritable, LocalIp, OptionError, OptionErrorKind, PatchOptions, RemoteIp,
    SystemOptions, TapOptions, TunnelKey, TunnelOptions, VhostOptions, VlanVni, option_errors,
};
pub use problem::{Errors, Kind, Problem};
pub use read::{parse_file, parse_str};
pub use settings::{DatapathSettings, DpdkSettings, Settings};
pub use switch::{
    AutoLb, INTERFACE_OTHER_CONFIG, LONGEST_SLEEP, PORT_OTHER_CONFIG, RxqAffinity, RxqAssign,
    SWITCH_OTHER_CONFIG, SleepMax, check_switch_other_config,
};
pub use tlv::{TlvEntry, split_tlvs};
pub use validate::{
    BRIDGE_OTHER_CONFIG, CheckFlow, CheckRules, MTU_RANGE, Rules, accept_flows, bridge_number_range,
    check_port_other_config, validate, validate_with,
};
