//! BFD sessions.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One end of a session. Intervals are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BfdSide {
    /// `admin_down`, `down`, `init` or `up`.
    pub state: String,
    /// Why that changed last, or what is wrong behind it.
    pub diagnostic: String,
    /// Its number for the session; 0: not known.
    pub discriminator: u32,
    /// Shortest interval in which it likes to send.
    pub min_tx: u64,
    /// Shortest interval in which it takes packets.
    pub min_rx: u64,
    /// So many intervals without a packet mean that it is gone.
    pub mult: u8,
}

/// `GET /v1/bfd`: the session of a port. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BfdRow {
    /// The port.
    pub interface: String,
    /// Whether packets get to the other side.
    pub forwarding: bool,
    /// How often that has changed.
    pub flap_count: u64,
    /// `bfd:cpath_down`.
    pub cpath_down: bool,
    /// Other intervals are being agreed on.
    pub polling: bool,
    /// Interval in which packets are sent.
    pub tx_interval: u64,
    /// Interval in which packets are expected.
    pub rx_interval: u64,
    /// Time until the other side is gone unless a packet comes; `None`: it is.
    pub detect_time: Option<u64>,
    /// Time until the next packet is sent.
    pub next_tx: u64,
    /// Time since the last one was.
    pub last_tx: Option<u64>,
    /// Packets to the session's UDP port that were none of its.
    pub ignored: u64,
    /// Our end.
    pub local: BfdSide,
    /// The other one, as it said last.
    pub remote: BfdSide,
}

impl BfdRow {
    /// The column `bfd_status` of Open vSwitch's table `Interface`.
    pub fn status(&self) -> BTreeMap<String, String> {
        [
            ("forwarding", self.forwarding.to_string()),
            ("flap_count", self.flap_count.to_string()),
            ("state", self.local.state.clone()),
            ("diagnostic", self.local.diagnostic.clone()),
            ("remote_state", self.remote.state.clone()),
            ("remote_diagnostic", self.remote.diagnostic.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// As `ovs-appctl bfd/show` shows it.
impl fmt::Display for BfdRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_never = |time: Option<u64>, sign: char| {
            time.map_or_else(|| "never".to_owned(), |time| format!("now {sign}{time}ms"))
        };
        writeln!(f, "---- {} ----", self.interface)?;
        writeln!(f, "\tForwarding: {}", self.forwarding)?;
        writeln!(f, "\tDetect Multiplier: {}", self.local.mult)?;
        writeln!(f, "\tConcatenated Path Down: {}", self.cpath_down)?;
        writeln!(f, "\tTX Interval: Approx {}ms", self.tx_interval)?;
        writeln!(f, "\tRX Interval: Approx {}ms", self.rx_interval)?;
        writeln!(f, "\tDetect Time: {}", or_never(self.detect_time, '+'))?;
        writeln!(f, "\tNext TX Time: now +{}ms", self.next_tx)?;
        writeln!(f, "\tLast TX Time: {}", or_never(self.last_tx, '-'))?;
        for (name, side) in [("Local", &self.local), ("Remote", &self.remote)] {
            writeln!(f)?;
            if name == "Local" {
                writeln!(f, "\tLocal Flags: {}", if self.polling { "poll" } else { "none" })?;
            }
            writeln!(f, "\t{name} Session State: {}", side.state)?;
            writeln!(f, "\t{name} Diagnostic: {}", side.diagnostic)?;
            writeln!(f, "\t{name} Discriminator: {:#010x}", side.discriminator)?;
            writeln!(f, "\t{name} Minimum TX Interval: {}ms", side.min_tx)?;
            writeln!(f, "\t{name} Minimum RX Interval: {}ms", side.min_rx)?;
            if name == "Remote" {
                writeln!(f, "\tRemote Detect Multiplier: {}", side.mult)?;
            }
        }
        Ok(())
    }
}
