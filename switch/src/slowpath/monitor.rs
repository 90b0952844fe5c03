//! Monitors: packets as they come in, each with all that becomes of it, for whoever watches.
//!
//! The copies come up as those of captures do, and the slow path explains each one as a trace does ([`super::trace`]).
//! That takes longer than to forward it, so monitors together get a bounded part of the slow path's time. Packets for which
//! there is no time, or no room with the reader, are counted, and the next one tells how many they were. What an explanation
//! cannot foresee, because it happens to a packet on its way, is told by the workers, which copy what they drop.

use super::SlowPath;
use crate::bridge::PortKind;
use crate::bridge::observed::Observed;
use api::Trace;
use datapath::dropped::Dropped;
use datapath::message::PacketBuffer;
use flow::drop::DropReason;
use flow::ofp::MatchKey;
use flow::program::PortId;
use rte::PacketFilter;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::tunnel::outer::clear_tunnel;

/// Monitors get this part of the slow path's time.
const SHARE: u32 = 8;
/// Time for explanations that adds up while there are none: the packets of a burst are all shown.
const MOST_CREDIT: Duration = Duration::from_millis(50);

/// What somebody monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorSource {
    /// Packets that come in by any device.
    Devices,
    /// Packets that come in by a port; of a tunnel port, inner frames.
    Port(PortId),
}

/// A packet that has come in, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitored {
    /// When the slow path got its copy.
    pub timestamp: SystemTime,
    /// The port that it came in by.
    pub port: String,
    /// The port's bridge.
    pub bridge: String,
    /// Length in bytes.
    pub length: usize,
    /// What becomes of it.
    pub fate: Fate,
    /// Packets before it that should have been shown and were not.
    pub missed: u64,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// What the rules make of it, as it comes in.
    Explained(Box<Trace>),
    /// A worker has dropped it, which the rules do not say.
    Dropped(DropReason),
}

/// Drops that an explanation does not foresee: they happen in the worker after translation, or before rules see the packet.
const UNFORESEEN: [DropReason; 15] = [
    DropReason::EthernetTruncated,
    DropReason::Segments,
    DropReason::UpcallQueueFull,
    DropReason::HoldFull,
    DropReason::Meter,
    DropReason::NeighbourPending,
    DropReason::NeighbourFailed,
    DropReason::Internal,
    DropReason::Offload,
    DropReason::Headroom,
    DropReason::NoMbuf,
    DropReason::PortGone,
    DropReason::TxFull,
    DropReason::HandoverFull,
    DropReason::Shutdown,
];

/// Number of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MonitorId(u64);

/// One monitor.
#[derive(Debug)]
struct Watcher {
    id: MonitorId,
    source: MonitorSource,
    /// Only these packets, if not all.
    filter: Option<PacketFilter>,
    sink: Sender<Monitored>,
    missed: u64,
}

/// All monitors.
#[derive(Debug)]
pub(super) struct Monitors {
    watchers: Vec<Watcher>,
    last: u64,
    /// Time that may be spent on explanations, as of `credited`.
    credit: Duration,
    credited: Instant,
}

impl Monitors {
    /// None.
    pub(super) fn new(now: Instant) -> Monitors {
        Monitors { watchers: Vec::new(), last: 0, credit: MOST_CREDIT, credited: now }
    }

    /// Says what copies they need.
    pub(super) fn add_to(&self, observed: &mut Observed) {
        for watcher in &self.watchers {
            match watcher.source {
                MonitorSource::Devices => observed.all_devices = true,
                MonitorSource::Port(port) => observed.received.push(port),
            }
        }
    }

    /// Ends those of a port.
    pub(super) fn end_those_of(&mut self, port: PortId) {
        self.watchers.retain(|watcher| watcher.source != MonitorSource::Port(port));
    }

    /// Whether there is time for an explanation.
    fn has_credit(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.credited) / SHARE;
        self.credited = self.credited.max(now);
        self.credit = MOST_CREDIT.min(self.credit + earned);
        !self.credit.is_zero()
    }
}

impl SlowPath {
    /// Starts to explain packets to `sink`, until [`SlowPath::end_monitor`] or until its other end is gone; with a filter,
    /// those that it takes.
    pub fn monitor(
        &mut self,
        source: MonitorSource,
        filter: Option<PacketFilter>,
        sink: Sender<Monitored>,
    ) -> MonitorId {
        self.monitors.last += 1;
        let id = MonitorId(self.monitors.last);
        self.monitors.watchers.push(Watcher { id, source, filter, sink, missed: 0 });
        self.observers_changed();
        id
    }

    /// Ends a monitor; its sink is closed.
    pub fn end_monitor(&mut self, id: MonitorId) {
        self.monitors.watchers.retain(|watcher| watcher.id != id);
        self.observers_changed();
    }

    /// Monitors that run.
    pub fn monitors(&self) -> usize {
        self.monitors.watchers.len()
    }

    /// A copy of a packet that came in by a port has come up.
    pub(super) fn monitored(&mut self, at: PortId, buffer: &PacketBuffer) {
        if self.monitors.watchers.is_empty() {
            return;
        }
        let is_device = self.state.port(at).is_some_and(|port| matches!(port.kind, PortKind::Device));
        let bytes = buffer.bytes();
        let wants = |watcher: &Watcher| match watcher.source {
            MonitorSource::Devices => is_device,
            MonitorSource::Port(port) => port == at,
        };
        self.show((bytes, bytes.len()), wants, |slow| slow.explain_in_time(at, buffer));
    }

    /// A copy of a packet that a worker has dropped has come up.
    pub(super) fn monitored_drop(&mut self, dropped: &Dropped) {
        if self.monitors.watchers.is_empty() || !UNFORESEEN.contains(&dropped.reason) {
            return;
        }
        let at = dropped.packet.in_port;
        let wants = |watcher: &Watcher| match watcher.source {
            MonitorSource::Devices => true,
            MonitorSource::Port(port) => port == at,
        };
        self.show((dropped.packet.bytes(), dropped.length), wants, |slow| {
            let fate = Fate::Dropped(dropped.reason);
            slow.monitored_at(at, dropped.length, fate)
        });
    }

    /// Shows a packet of `length` bytes, of which these are known, to the watchers that want it; with `make`, unless there
    /// is no time, or nobody has room for it.
    fn show(
        &mut self,
        (bytes, length): (&[u8], usize),
        wants: impl Fn(&Watcher) -> bool,
        make: impl FnOnce(&mut SlowPath) -> Option<Monitored>,
    ) {
        let takes = |watcher: &Watcher| {
            wants(watcher) && watcher.filter.as_ref().is_none_or(|filter| filter.matches(bytes, length))
        };
        let mut watchers = std::mem::take(&mut self.monitors.watchers);
        let mut waiting: Vec<&mut Watcher> = watchers.iter_mut().filter(|watcher| takes(watcher)).collect();
        let has_room = waiting.iter().any(|watcher| watcher.sink.capacity() > 0);
        let shown = if has_room { make(self) } else { None };
        let mut gone = Vec::new();
        for watcher in &mut waiting {
            let permit = watcher.sink.try_reserve();
            match (permit, &shown) {
                (Ok(permit), Some(shown)) => {
                    permit.send(Monitored { missed: std::mem::take(&mut watcher.missed), ..shown.clone() });
                }
                (Err(TrySendError::Closed(())), _) => gone.push(watcher.id),
                _ => watcher.missed += 1,
            }
        }
        self.monitors.watchers = watchers;
        for id in gone {
            self.end_monitor(id);
        }
    }

    /// Explains a packet, if monitors have not had their part of the time.
    fn explain_in_time(&mut self, at: PortId, buffer: &PacketBuffer) -> Option<Monitored> {
        let now = self.now();
        if !self.monitors.has_credit(now) {
            return None;
        }
        let began = Instant::now();
        let explained = self.explain(at, buffer);
        self.monitors.credit = self.monitors.credit.saturating_sub(began.elapsed());
        explained
    }

    fn explain(&mut self, at: PortId, buffer: &PacketBuffer) -> Option<Monitored> {
        let port = self.state.port(at)?;
        let mut flow = if port.is_tunnel() { buffer.key } else { FlowKey::ZERO };
        if !port.is_tunnel() {
            // Behind a patch port the packet is not what it was where it came from.
            clear_tunnel(&mut flow);
            extract(buffer.bytes(), &mut flow).ok()?;
        }
        flow.in_port = port.ofport;
        let bridge = port.bridge;
        let key = MatchKey { flow, ..MatchKey::ZERO };
        // As it would be if nobody looked.
        let observed = std::mem::take(&mut self.state.observed);
        let trace = self.trace_seen(bridge, &key, buffer.bytes());
        self.state.observed = observed;
        self.monitored_at(at, buffer.bytes().len(), Fate::Explained(Box::new(trace?)))
    }

    fn monitored_at(&self, at: PortId, length: usize, fate: Fate) -> Option<Monitored> {
        let port = self.state.port(at)?;
        let bridge = self.state.bridge(port.bridge)?.name.clone();
        let timestamp = SystemTime::now();
        Some(Monitored { timestamp, port: port.name.clone(), bridge, length, fate, missed: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_part_of_the_time_is_theirs() {
        let start = Instant::now();
        let mut monitors = Monitors::new(start);
        assert!(monitors.has_credit(start));
        monitors.credit = Duration::ZERO;
        assert!(!monitors.has_credit(start));
        let later = start + Duration::from_millis(80);
        assert!(monitors.has_credit(later));
        assert_eq!(monitors.credit, Duration::from_millis(10));
        assert!(monitors.has_credit(later + Duration::from_hours(1)));
        assert_eq!(monitors.credit, MOST_CREDIT);
    }
}
