//! Captures: copies of packets for whoever watches a port, or what rules send to `CONTROLLER`.

use super::SlowPath;
use crate::bridge::BridgeId;
use flow::program::PortId;
use std::sync::mpsc::SyncSender;
use std::time::SystemTime;

/// What a capture takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFilter {
    /// What enters and leaves by a port.
    Port(PortId),
    /// What a bridge's rules send to `CONTROLLER`.
    Controller(BridgeId),
}

/// A captured packet.
#[derive(Debug, Clone)]
pub struct Captured {
    /// When it was seen.
    pub timestamp: SystemTime,
    /// The port; of a packet for `CONTROLLER`, the one it came in by.
    pub port: PortId,
    /// It left by the port.
    pub outgoing: bool,
    /// Its length in bytes, of which `bytes` may have fewer.
    pub length: usize,
    /// Its beginning.
    pub bytes: Vec<u8>,
}

/// Number of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureId(pub u64);

/// Captures under way.
#[derive(Debug, Default)]
pub(super) struct Captures {
    next: u64,
    running: Vec<(CaptureId, CaptureFilter, SyncSender<Captured>)>,
    lost: u64,
}

impl SlowPath {
    /// Begins a capture. A copy for which `sink` has no room is dropped and counted.
    pub fn capture(&mut self, filter: CaptureFilter, sink: SyncSender<Captured>) -> CaptureId {
        self.captures.next += 1;
        let id = CaptureId(self.captures.next);
        self.captures.running.push((id, filter, sink));
        id
    }

    /// Ends a capture.
    pub fn end_capture(&mut self, id: CaptureId) {
        self.captures.running.retain(|(other, ..)| *other != id);
    }

    /// Copies dropped because nobody took them in time.
    pub fn captures_lost(&self) -> u64 {
        self.captures.lost
    }
}
