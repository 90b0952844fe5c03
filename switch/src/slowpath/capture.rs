//! Captures: copies of what enters and leaves a port, or of what rules send to CONTROLLER, for whoever listens.
//!
//! Translation puts a punt in front of everything that a captured port receives or sends; the copies come up with the
//! upcalls and go to the listeners from here. A listener that does not keep up loses copies, and never holds up
//! anything.

use super::SlowPath;
use crate::bridge::BridgeId;
use datapath::message::PacketBuffer;
use flow::program::{PortId, PuntReason};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::SystemTime;

/// What somebody listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureFilter {
    /// Everything that enters and leaves by a port; of a vxlan port, inner frames.
    Port(PortId),
    /// Everything that rules of a bridge send to CONTROLLER.
    Controller(BridgeId),
}

/// A copy of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When the slow path got it.
    pub timestamp: SystemTime,
    /// The captured port; of a packet for CONTROLLER, the port that it came in by.
    pub port: PortId,
    /// Whether it was leaving.
    pub outgoing: bool,
    /// Length of the packet in bytes.
    pub length: usize,
    /// Its bytes, or as many of them as were asked for.
    pub bytes: Vec<u8>,
}

/// Number of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaptureId(u64);

/// All captures.
#[derive(Debug, Default)]
pub(super) struct Captures {
    listeners: Vec<(CaptureId, CaptureFilter, SyncSender<Captured>)>,
    last: u64,
    lost: u64,
    /// Packets that rules have sent to CONTROLLER.
    controller: u64,
}

impl SlowPath {
    /// Starts to send copies to `sink`, until [`SlowPath::end_capture`] or until its other end is gone.
    pub fn capture(&mut self, filter: CaptureFilter, sink: SyncSender<Captured>) -> CaptureId {
        self.captures.last += 1;
        let id = CaptureId(self.captures.last);
        self.captures.listeners.push((id, filter, sink));
        self.captures_changed();
        id
    }

    /// Ends a capture; its sink is closed.
    pub fn end_capture(&mut self, id: CaptureId) {
        self.captures.listeners.retain(|(other, _, _)| *other != id);
        self.captures_changed();
    }

    /// Ends the captures of a port that goes.
    pub(super) fn end_captures_of(&mut self, port: PortId) {
        self.captures.listeners.retain(|(_, filter, _)| *filter != CaptureFilter::Port(port));
        self.captures_changed();
    }

    /// Copies that listeners did not take in time.
    pub fn captures_lost(&self) -> u64 {
        self.captures.lost
    }

    /// Packets that rules have sent to CONTROLLER.
    pub fn controller_packets(&self) -> u64 {
        self.captures.controller
    }

    fn captures_changed(&mut self) {
        let of_port = |filter: &CaptureFilter| match filter {
            CaptureFilter::Port(port) => Some(*port),
            CaptureFilter::Controller(_) => None,
        };
        let mut ports: Vec<PortId> =
            self.captures.listeners.iter().filter_map(|(_, filter, _)| of_port(filter)).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports != self.state.captures {
            self.state.captures = ports;
            self.everything_changed();
            self.revalidate_changed();
        }
    }

    /// A copy has come up.
    pub(super) fn captured(&mut self, buffer: &PacketBuffer) {
        let (filter, port, outgoing, most) = match buffer.reason {
            PuntReason::Local => return,
            PuntReason::CaptureRx(port) => (CaptureFilter::Port(port), port, false, usize::MAX),
            PuntReason::CaptureTx(port) => (CaptureFilter::Port(port), port, true, usize::MAX),
            PuntReason::Controller { max_len } => {
                self.captures.controller += 1;
                let Some(bridge) = self.state.port(buffer.in_port).map(|port| port.bridge) else { return };
                // As in OpenFlow, 65535 is "all of it" (OFPCML_NO_BUFFER).
                let most = if max_len == u16::MAX { usize::MAX } else { max_len.into() };
                (CaptureFilter::Controller(bridge), buffer.in_port, false, most)
            }
        };
        let mut gone = Vec::new();
        for (id, wanted, sink) in &self.captures.listeners {
            if *wanted != filter {
                continue;
            }
            let bytes = buffer.bytes();
            let copy = Captured {
                timestamp: SystemTime::now(),
                port,
                outgoing,
                length: bytes.len(),
                bytes: bytes[..bytes.len().min(most)].to_vec(),
            };
            match sink.try_send(copy) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => self.captures.lost += 1,
                Err(TrySendError::Disconnected(_)) => gone.push(*id),
            }
        }
        for id in gone {
            self.end_capture(id);
        }
    }
}
