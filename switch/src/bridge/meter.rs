//! The meters of a bridge: their settings. Tokens are the datapath's ([`datapath::meter`]).

use flow::ofp::MeterSpec;
use flow::program::MeterId;
use flow::stats::PacketStats;
use std::time::Instant;

/// A meter.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// Rate and burst.
    pub spec: MeterSpec,
    /// Its place in the table that all workers share.
    pub id: MeterId,
    /// When it was added.
    pub created: Instant,
    /// What its place had let through and dropped before.
    pub before: (PacketStats, PacketStats),
}
