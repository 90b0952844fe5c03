//! Captures: copies of what enters and leaves a port, of what rules send to CONTROLLER, or of what is dropped, for whoever
//! listens.
//!
//! Translation puts a punt in front of everything that a captured port receives or sends; the copies come up with the
//! upcalls and go to the listeners from here, as do copies of what workers drop ([`datapath::dropped`]). A listener that does not keep up loses copies, and never holds up
//! anything.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::controller::ControllerMessage;
use crate::bridge::observed::Observed;
use datapath::dropped::Dropped;
use datapath::message::PacketBuffer;
use flow::drop::DropReason;
use flow::program::{PortId, PuntReason};
use rte::PacketFilter;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use wire::key::FlowKey;

/// Bytes of copies that wait for all listeners together; what comes beyond is lost to them.
const MOST_WAITING: usize = 32 << 20;
/// What a copy takes besides its bytes.
const COPY: usize = 128;

/// What somebody captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureSource {
    /// Everything that enters and leaves by a port; of a tunnel port, inner frames.
    Port(PortId),
    /// Everything that rules of a bridge send to CONTROLLER.
    Controller(BridgeId),
    /// Packets that are dropped.
    Drops(DropsOf),
}

/// Which dropped packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropsOf {
    /// All.
    All,
    /// Those that count for a port: the one that they came in by, or did not get out of.
    Port(PortId),
    /// Those for one reason.
    Reason(DropReason),
}

impl DropsOf {
    fn has(self, dropped: &Dropped) -> bool {
        match self {
            DropsOf::All => true,
            DropsOf::Port(port) => port == dropped.packet.in_port,
            DropsOf::Reason(reason) => reason == dropped.reason,
        }
    }
}

/// A copy of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When the slow path got it.
    pub timestamp: SystemTime,
    /// The captured port; of a packet for CONTROLLER, the port by which it came into the rule's bridge.
    pub port: PortId,
    /// Whether it was leaving.
    pub outgoing: bool,
    /// Length of the packet in bytes.
    pub length: usize,
    /// Its bytes, or as many of them as were asked for.
    pub bytes: Copied,
    /// Of a packet for CONTROLLER, what sent it.
    pub sent_by: Option<SentBy>,
    /// Of a dropped packet, why and where.
    pub dropped: Option<Box<DroppedAt>>,
}

/// Why and where a packet was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedAt {
    /// Why.
    pub reason: DropReason,
    /// Name of the port that it counts for; none for a tunnel packet that no port takes.
    pub port: Option<String>,
    /// Name of the port's bridge.
    pub bridge: Option<String>,
}

/// What sent a packet to CONTROLLER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentBy {
    /// What the action gave it.
    pub message: Arc<ControllerMessage>,
    /// The packet's key as it came.
    pub key: FlowKey,
}

/// Bytes of a packet, shared by its listeners and counted among what waits as long as one of them has it.
#[derive(Debug, Clone)]
pub struct Copied(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    bytes: Box<[u8]>,
    /// Where they are counted, if anywhere.
    waiting: Option<Arc<AtomicUsize>>,
}

impl Copied {
    /// A copy, if it is not too much with all those that wait.
    fn new(bytes: &[u8], waiting: &Arc<AtomicUsize>) -> Option<Copied> {
        let cost = bytes.len() + COPY;
        if waiting.fetch_add(cost, Relaxed) + cost > MOST_WAITING {
            waiting.fetch_sub(cost, Relaxed);
            return None;
        }
        Some(Copied(Arc::new(Counted { bytes: bytes.into(), waiting: Some(Arc::clone(waiting)) })))
    }
}

impl From<&[u8]> for Copied {
    /// A copy that is counted nowhere.
    fn from(bytes: &[u8]) -> Copied {
        Copied(Arc::new(Counted { bytes: bytes.into(), waiting: None }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(waiting) = &self.waiting {
            waiting.fetch_sub(self.bytes.len() + COPY, Relaxed);
        }
    }
}

impl Deref for Copied {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl PartialEq for Copied {
    fn eq(&self, other: &Copied) -> bool {
        **self == **other
    }
}

impl Eq for Copied {}

/// Number of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CaptureId(u64);

/// One capture.
#[derive(Debug)]
struct Listener {
    id: CaptureId,
    source: CaptureSource,
    /// Only these packets, if not all.
    filter: Option<PacketFilter>,
    sink: Sender<Captured>,
    /// Of a bridge's packets for CONTROLLER: also those that no rule matches.
    misses: bool,
}

/// All captures.
#[derive(Debug, Default)]
pub(super) struct Captures {
    listeners: Vec<Listener>,
    last: u64,
    lost: u64,
    /// Bytes of copies that listeners have not taken yet.
    waiting: Arc<AtomicUsize>,
    /// Packets that rules have sent to CONTROLLER.
    controller: u64,
}

impl Captures {
    /// Says what copies they need.
    pub(super) fn add_to(&self, observed: &mut Observed) {
        for listener in &self.listeners {
            match listener.source {
                CaptureSource::Port(port) => {
                    observed.received.push(port);
                    observed.sent.push(port);
                }
                CaptureSource::Controller(bridge) => {
                    observed.controllers.push(bridge);
                    observed.misses.extend(listener.misses.then_some(bridge));
                }
                CaptureSource::Drops(_) => observed.drops = true,
            }
        }
    }

    /// Ends those of a port.
    pub(super) fn end_those_of(&mut self, port: PortId) {
        let of_port = [CaptureSource::Port(port), CaptureSource::Drops(DropsOf::Port(port))];
        self.listeners.retain(|listener| !of_port.contains(&listener.source));
    }
}

impl SlowPath {
    /// Starts to send copies to `sink`, until [`SlowPath::end_capture`] or until its other end is gone; with a filter,
    /// of the packets that it takes.
    pub fn capture(
        &mut self,
        source: CaptureSource,
        filter: Option<PacketFilter>,
        sink: Sender<Captured>,
    ) -> CaptureId {
        self.captures.last += 1;
        let id = CaptureId(self.captures.last);
        self.captures.listeners.push(Listener { id, source, filter, sink, misses: false });
        self.observers_changed();
        id
    }

    /// Whether a capture of a bridge's packets for CONTROLLER is to have those that no rule matches.
    pub fn capture_misses(&mut self, id: CaptureId, wanted: bool) {
        if let Some(listener) = self.captures.listeners.iter_mut().find(|listener| listener.id == id) {
            listener.misses = wanted;
            self.observers_changed();
        }
    }

    /// Ends a capture; its sink is closed.
    pub fn end_capture(&mut self, id: CaptureId) {
        self.captures.listeners.retain(|listener| listener.id != id);
        self.observers_changed();
    }

    /// Captures that run.
    pub fn captures(&self) -> usize {
        self.captures.listeners.len()
    }

    /// Copies that listeners did not take in time.
    pub fn captures_lost(&self) -> u64 {
        let without_buffer = self.workers.iter().map(|worker| worker.counters.drop_copies.lost.get());
        self.captures.lost + without_buffer.sum::<u64>()
    }

    /// Packets that rules have sent to CONTROLLER.
    pub fn controller_packets(&self) -> u64 {
        self.captures.controller
    }

    /// A copy has come up.
    pub(super) fn captured(&mut self, buffer: &PacketBuffer) {
        let mut sent_by = None;
        let (source, port, outgoing) = match buffer.reason {
            PuntReason::Local(_)
            | PuntReason::Solicit { .. }
            | PuntReason::Snoop { .. }
            | PuntReason::Membership { .. }
            | PuntReason::Bfd(_) => return,
            PuntReason::CaptureRx(port) => {
                self.monitored(port, buffer);
                (CaptureSource::Port(port), port, false)
            }
            PuntReason::CaptureTx(port) => (CaptureSource::Port(port), port, true),
            // The whole packet goes, whatever `max_len` says: it would be the rest that is buffered, and no packet is.
            PuntReason::Controller { at, message, .. } => {
                self.captures.controller += 1;
                let Some(bridge) = self.state.port(at).map(|port| port.bridge) else { return };
                let message = self.state.controller_messages.get(message);
                sent_by = message.map(|message| SentBy { message, key: buffer.key });
                (CaptureSource::Controller(bridge), at, false)
            }
        };
        let length = buffer.bytes().len();
        let copy = |bytes| Captured {
            timestamp: SystemTime::now(),
            port,
            outgoing,
            length,
            bytes,
            sent_by: sent_by.clone(),
            dropped: None,
        };
        self.give(|wanted| wanted == source, (buffer.bytes(), length), copy);
    }

    /// A copy of a dropped packet has come up.
    pub(super) fn captured_drop(&mut self, dropped: &Dropped) {
        let (reason, port) = (dropped.reason, dropped.packet.in_port);
        let at = self.state.port(port);
        let at = DroppedAt {
            reason,
            port: at.map(|port| port.name.clone()),
            bridge: at.and_then(|port| Some(self.state.bridge(port.bridge)?.name.clone())),
        };
        let wants = |wanted| matches!(wanted, CaptureSource::Drops(of) if of.has(dropped));
        let copy = |bytes| Captured {
            timestamp: SystemTime::now(),
            port,
            // Counted for the port that they did not get out of.
            outgoing: matches!(reason, DropReason::TxFull | DropReason::HandoverFull),
            length: dropped.length,
            bytes,
            sent_by: None,
            dropped: Some(Box::new(at.clone())),
        };
        self.give(wants, (dropped.packet.bytes(), dropped.length), copy);
    }

    /// Gives the listeners whose source `wants` it a copy of a packet of `length` bytes.
    fn give(
        &mut self,
        wants: impl Fn(CaptureSource) -> bool,
        (bytes, length): (&[u8], usize),
        copy_of: impl Fn(Copied) -> Captured,
    ) {
        let mut gone = Vec::new();
        let mut copy = None;
        for Listener { id, source, filter, sink, .. } in &self.captures.listeners {
            if !wants(*source) || filter.as_ref().is_some_and(|filter| !filter.matches(bytes, length)) {
                continue;
            }
            // One copy for all who listen.
            if copy.is_none() {
                copy = Copied::new(bytes, &self.captures.waiting);
            }
            let Some(bytes_of_it) = &copy else {
                self.captures.lost += 1;
                continue;
            };
            match sink.try_send(copy_of(bytes_of_it.clone())) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => self.captures.lost += 1,
                Err(TrySendError::Closed(_)) => gone.push(*id),
            }
        }
        for id in gone {
            self.end_capture(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_wait_are_bounded_together() {
        let waiting = Arc::default();
        let mut kept = Vec::new();
        while let Some(copy) = Copied::new(&[0; 9000], &waiting) {
            kept.extend([copy.clone(), copy]);
        }
        let bytes = kept.len() / 2 * (9000 + COPY);
        assert!(bytes <= MOST_WAITING && bytes + 9000 + COPY > MOST_WAITING, "{bytes}");
        kept.pop();
        assert!(Copied::new(&[0; 9000], &waiting).is_none(), "one of the two who share a copy still has it");
        kept.pop();
        assert!(Copied::new(&[0; 9000], &waiting).is_some());
        drop(kept);
        assert_eq!(waiting.load(Relaxed), 0);
    }
}
