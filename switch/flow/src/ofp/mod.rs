//! The rule language: OpenFlow matches and actions in `ovs-ofctl` syntax (`ovs-fields(7)`,
//! `ovs-actions(7)`).
//!
//! Text goes in through [`parse_flow`] and its siblings and comes out through [`format_flow`] and its
//! siblings; what is printed parses to the same again. Between them stand [`Match`], [`Action`] and the
//! table of [`Field`]s. Running actions is the translator's job.

mod action;
mod buckets;
mod controller;
mod error;
mod field;
mod flow;
mod group;
mod hash;
mod key;
mod learn;
mod megaflow;
mod meter;
mod parse_action;
mod parse_match;
mod port;
mod prerequisite;
mod print;
mod selection;
mod table;
mod token;
mod value;

pub use action::{Action, Conjunction, PortRef};
pub use buckets::{BucketChange, BucketError, BucketPlace, parse_bucket_change};
pub use controller::{Controller, PacketReason};
pub use error::ParseError;
pub use field::{Field, FieldInfo, Format, Layer, Oxm, Setter, Stage, Subfield};
pub use flow::{
    DEFAULT_PRIORITY, FlowFilter, FlowMod, FlowSpec, parse_flow, parse_flow_match, parse_flow_mod, parse_key,
};
pub use group::{
    BUCKET_MAX, Bucket, GROUP_MAX, GroupKind, GroupSpec, format_group, parse_group, parse_group_filter,
};
pub use hash::{Bundle, BundleAlgorithm, HashFields, Multipath, MultipathAlgorithm};
pub use key::{MATCH_WORDS, Match, MatchKey};
pub use learn::{Learn, LearnSource, LearnTarget};
pub use megaflow::format_megaflow;
pub use meter::{MeterSpec, MeterUnit, format_meter, parse_meter, parse_meter_filter};
pub use parse_action::{in_action_set, subfield as parse_subfield};
pub use port::{
    PORT_ALL, PORT_ANY, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_MAX, PORT_NORMAL,
    PortMap, PortNames,
};
pub use prerequisite::Prerequisite;
pub use print::{FlowStats, format_actions, format_flow, format_key, format_match, port_name};
pub use selection::{Selection, SelectionMethod};

#[cfg(test)]
mod tests;
