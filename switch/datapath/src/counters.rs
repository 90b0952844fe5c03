//! What a worker counts. One writer, any number of readers: each counter is an atomic that its worker
//! updates with a plain load and a plain store, so counting costs what `+= 1` costs and no cache line
//! is written by two cores.

use crate::dropped::DropCopies;
use crate::meter::MAX_METERS;
use flow::drop::DropReason;
use flow::program::{MAX_PORTS, PortId};
use rte::Mbuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::parse::Anomaly;

/// RX queues of a port whose costs are counted each by itself; one with a higher number counts as that number modulo this one.
pub const MEASURED_QUEUES: usize = 32;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the worker that owns the counter may call this: two writers would lose counts.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value, as of a moment ago.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and their bytes.
#[derive(Debug, Default)]
pub struct PacketStats {
    /// Packets.
    pub packets: Counter,
    /// Their bytes, without FCS.
    pub bytes: Counter,
}

impl PacketStats {
    /// Adds some; see [`Counter::add`].
    #[inline(always)]
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.add(packets);
        self.bytes.add(bytes);
    }
}

/// What one worker counts of one port. For a tunnel port it is inner frames.
#[derive(Debug)]
pub struct PortCounters<'a> {
    /// Received.
    pub rx: &'a PacketStats,
    /// Taken by the device.
    pub tx: &'a PacketStats,
    /// Packets that were for this port and were not sent (MTU, full queue, no copy).
    pub tx_dropped: &'a Counter,
}

impl PortCounters<'_> {
    /// Counts a frame that was put into a tunnel: sent through the underlay bridge, or refused there.
    #[inline(always)]
    pub fn encapsulated(&self, bytes: u64, sent: bool) {
        if sent {
            self.tx.add(1, bytes);
        } else {
            self.tx_dropped.add(1);
        }
    }
}

/// Upper bounds, in seconds, of the buckets in which times of flows are counted: from what an idle machine takes to a
/// second. The last bucket has none.
pub const TIME_BOUNDS: [f64; 16] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Distribution of the times from a flow's first packet without a megaflow to when its packets go on.
#[derive(Debug, Default)]
pub struct SetupTimes {
    /// Flows by time; the last is for those that took longer than every bound.
    pub buckets: [Counter; TIME_BOUNDS.len() + 1],
    /// TSC cycles of all of them.
    pub cycles: Counter,
}

impl SetupTimes {
    /// Counts a flow that took so many TSC cycles.
    pub fn observe(&self, cycles: u64) {
        let seconds = cycles as f64 / rte::tsc_hz().max(1) as f64;
        self.buckets[TIME_BOUNDS.partition_point(|bound| *bound < seconds)].add(1);
        self.cycles.add(cycles);
    }
}

/// What one worker has let through and dropped for a meter.
#[derive(Debug, Default)]
pub struct MeterCounters {
    /// Packets that found tokens.
    pub passed_packets: Counter,
    /// Their bytes.
    pub passed_bytes: Counter,
    /// Packets that found none.
    pub dropped_packets: Counter,
    /// Their bytes.
    pub dropped_bytes: Counter,
}

impl MeterCounters {
    /// Counts a packet that found tokens.
    #[inline]
    pub fn passed(&self, len: u32) {
        self.passed_packets.add(1);
        self.passed_bytes.add(len.into());
    }

    /// Counts a packet that found none.
    #[inline]
    pub fn dropped(&self, len: u32) {
        self.dropped_packets.add(1);
        self.dropped_bytes.add(len.into());
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By datapath port number, as are the next two. Apart from each other, because bursts to many tunnels count in one
    /// of them only, four ports a cache line.
    port_rx: Box<[PacketStats; MAX_PORTS]>,
    port_tx: Box<[PacketStats; MAX_PORTS]>,
    port_tx_dropped: Box<[Counter; MAX_PORTS]>,
    /// By input port and [`DropReason`].
    drops: Box<[Counter]>,
    /// Frames with a malformed header behind Ethernet: bridged by their L2 fields alone.
    anomalies: [Counter; Anomaly::COUNT],
    /// By port and queue: see [`WorkerCounters::rxq_cycles`].
    rxq_cycles: Box<[Counter]>,
    /// TSC cycles of the same loops that were spent for no RX queue.
    pub overhead_cycles: Counter,
    /// By [`flow::program::MeterId`].
    pub meters: Box<[MeterCounters]>,
    /// Packets received from devices.
    pub rx: Counter,
    /// Packets that devices took.
    pub tx: Counter,
    /// Packets freed under a [`DropReason`].
    pub dropped: Counter,
    /// Copies made of packets that go to several places.
    pub copied: Counter,
    /// Packets that became part of another: fragments but for the last of their datagram, segments but for the first of their
    /// large packet.
    pub merged: Counter,
    /// Packets made by the slow path (ARP, ICMP).
    pub injected: Counter,
    /// Packets whose only destination was the slow path.
    pub punted: Counter,
    /// Packets given to the worker that owns the TX queue.
    pub tx_handoff_sent: Counter,
    /// Packets taken from other workers for a TX queue of this one.
    pub tx_handoff_received: Counter,
    /// Packets waiting for a decision, a neighbour, other fragments or room in a guest's ring; goes up and down.
    pub held: Counter,
    /// Loops.
    pub iterations: Counter,
    /// TSC cycles of loops that moved at least one packet.
    pub busy_cycles: Counter,
    /// TSC cycles of loops that found nothing to do, and of sleeps behind them.
    pub idle_cycles: Counter,
    /// TSC cycles of sleeps, which are among `idle_cycles`.
    pub sleep_cycles: Counter,
    /// Sleeps.
    pub sleeps: Counter,
    /// Lookups that the flow cache answered.
    pub cache_hits: Counter,
    /// Lookups that the megaflow table answered.
    pub megaflow_hits: Counter,
    /// Packets among `cache_hits` and `megaflow_hits` that were forwarded without a key of their own.
    pub no_key_hits: Counter,
    /// Lookups that nothing answered.
    pub misses: Counter,
    /// Keys sent to the slow path.
    pub upcalls: Counter,
    /// Punted copies that found no buffer or no place in the queue.
    pub punts_lost: Counter,
    /// Times that new flows waited.
    pub setup_times: SetupTimes,
    /// Copies of the packets that were dropped, while somebody captures drops.
    pub drop_copies: DropCopies,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        WorkerCounters {
            port_rx: Box::new(std::array::from_fn(|_| PacketStats::default())),
            port_tx: Box::new(std::array::from_fn(|_| PacketStats::default())),
            port_tx_dropped: Box::new(std::array::from_fn(|_| Counter::default())),
            drops: (0..MAX_PORTS * DropReason::COUNT).map(|_| Counter::default()).collect(),
            anomalies: std::array::from_fn(|_| Counter::default()),
            rxq_cycles: (0..MAX_PORTS * MEASURED_QUEUES).map(|_| Counter::default()).collect(),
            overhead_cycles: Counter::default(),
            meters: (0..MAX_METERS).map(|_| MeterCounters::default()).collect(),
            rx: Counter::default(),
            tx: Counter::default(),
            dropped: Counter::default(),
            copied: Counter::default(),
            merged: Counter::default(),
            injected: Counter::default(),
            punted: Counter::default(),
            tx_handoff_sent: Counter::default(),
            tx_handoff_received: Counter::default(),
            held: Counter::default(),
            iterations: Counter::default(),
            busy_cycles: Counter::default(),
            idle_cycles: Counter::default(),
            sleep_cycles: Counter::default(),
            sleeps: Counter::default(),
            cache_hits: Counter::default(),
            megaflow_hits: Counter::default(),
            no_key_hits: Counter::default(),
            misses: Counter::default(),
            upcalls: Counter::default(),
            punts_lost: Counter::default(),
            setup_times: SetupTimes::default(),
            drop_copies: DropCopies::default(),
        }
    }
}

/// Where drops are counted; a port number out of range counts as one within.
#[inline(always)]
fn drop_index(in_port: PortId, reason: DropReason) -> usize {
    in_port.index() % MAX_PORTS * DropReason::COUNT + reason as usize
}

impl WorkerCounters {
    /// The counters of a port, whose number is below [`MAX_PORTS`].
    #[inline(always)]
    pub fn port(&self, port: PortId) -> PortCounters<'_> {
        let at = port.index() % MAX_PORTS;
        PortCounters { rx: &self.port_rx[at], tx: &self.port_tx[at], tx_dropped: &self.port_tx_dropped[at] }
    }

    /// TSC cycles spent for packets of an RX queue, in the few loops that were measured: how the worker's busy cycles divide
    /// among its queues and [`WorkerCounters::overhead_cycles`].
    pub fn rxq_cycles(&self, port: PortId, queue: u16) -> &Counter {
        &self.rxq_cycles[port.index() % MAX_PORTS * MEASURED_QUEUES + usize::from(queue) % MEASURED_QUEUES]
    }

    /// Counts `n` drops of packets that came from `in_port`.
    #[inline]
    pub fn count_drop(&self, in_port: PortId, reason: DropReason, n: u64) {
        self.dropped.add(n);
        self.drops[drop_index(in_port, reason)].add(n);
    }

    /// Counts the drop of a packet, which its caller frees. Cold, so that what is done for no packet that is forwarded does not
    /// stand among what is.
    #[cold]
    #[inline(never)]
    pub fn drop_packet(&self, in_port: PortId, reason: DropReason, mbuf: &Mbuf) {
        self.count_drop(in_port, reason, 1);
        self.drop_copies.copy(in_port, reason, mbuf);
    }

    /// Counts the drop of a packet, and frees it.
    #[cold]
    #[inline(never)]
    pub fn free(&self, in_port: PortId, reason: DropReason, mbuf: Mbuf) {
        self.drop_packet(in_port, reason, &mbuf);
        drop(mbuf);
    }

    /// Drops of packets from `in_port` for `reason`.
    pub fn drops(&self, in_port: PortId, reason: DropReason) -> u64 {
        self.drops[drop_index(in_port, reason)].get()
    }

    /// Drops for `reason`, from all ports.
    pub fn drops_total(&self, reason: DropReason) -> u64 {
        self.drops.iter().skip(reason as usize).step_by(DropReason::COUNT).map(Counter::get).sum()
    }

    /// Counts a malformed frame.
    #[inline]
    pub fn anomaly(&self, anomaly: Anomaly) {
        self.anomalies[anomaly as usize].add(1);
    }

    /// Malformed frames of a kind.
    pub fn anomalies(&self, anomaly: Anomaly) -> u64 {
        self.anomalies[anomaly as usize].get()
    }

    /// Packets that came in by any way minus packets that left by any way; what is held, if nothing was lost.
    ///
    /// Exact only while the worker is quiet. A test that finds `balance() != held` found a lost or doubled packet.
    pub fn balance(&self) -> i128 {
        let sum = |counters: &[&Counter]| counters.iter().map(|c| i128::from(c.get())).sum::<i128>();
        sum(&[&self.rx, &self.injected, &self.copied, &self.tx_handoff_received])
            - sum(&[&self.tx, &self.dropped, &self.punted, &self.merged, &self.tx_handoff_sent])
    }
}
