//! What a process that is replaced gives to the one that takes its place.

use crate::{FdbEntry, NeighbourEntry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// First line of the answer to `POST /v1/handover`. Nothing of it changes until `POST /v1/handover/confirm`, or until the
/// connection ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The desired state as TOML, with every rule, group and meter that runs.
    pub toml: String,
    /// OpenFlow numbers by port name.
    pub ofports: BTreeMap<String, u16>,
    /// FDB entries by bridge.
    pub fdb: BTreeMap<String, Vec<FdbEntry>>,
    /// Neighbours of the underlay.
    pub neighbours: Vec<NeighbourEntry>,
    /// Hosts of the overlay that requests are answered for.
    pub hosts: Vec<NeighbourEntry>,
    /// Descriptors of the queues of taps, by the interface's name.
    pub taps: BTreeMap<String, Vec<i32>>,
    /// Descriptor of the socket on which the metrics endpoint listens.
    pub metrics: i32,
}

/// Answer to `POST /v1/restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// The process that takes over.
    pub pid: u32,
}
