//! Packets for which a guest's ring has no room wait for it, in order: the guest may be off its CPU for a moment. Each loop offers
//! them again. A bounded number waits, and for as long only as the guest takes some now and then.

use crate::counters::{PortCounters, WorkerCounters};
use crate::tx::TX_BURST;
use flow::drop::DropReason;
use flow::program::PortId;
use rte::{Burst, Mbuf, TxQueue};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Packets that wait for one queue at most.
const MAX_PACKETS: usize = 1024;
/// Segments of them at most: each is an mbuf that others do not have.
const MAX_SEGMENTS: usize = 4096;
/// How long a retry lasts: the guest is offered its packets in every loop, and when it has taken none of them for so many
/// microseconds, that was one.
const RETRY_MICROS: u64 = 1000;

/// What a port's owner and its workers share about retries.
#[derive(Debug, Default)]
pub struct Retries {
    /// How many come one after the other until the packets are dropped (`tx-retries-max`); 0: they do not wait at all.
    pub max: AtomicU32,
    /// How many there were (`ovs_tx_retries`).
    pub count: AtomicU64,
}

/// Packets that wait for one TX queue.
#[derive(Debug)]
pub(crate) struct Waiting {
    shared: Arc<Retries>,
    packets: VecDeque<Mbuf>,
    segments: usize,
    /// Retries since the guest took something.
    retries: u32,
    /// TSC when the present one began.
    since: u64,
}

impl Waiting {
    pub(crate) fn new(shared: Arc<Retries>) -> Waiting {
        // Never grows.
        Waiting { shared, packets: VecDeque::with_capacity(MAX_PACKETS), segments: 0, retries: 0, since: 0 }
    }

    /// Whether packets wait.
    pub(crate) fn is_any(&self) -> bool {
        !self.packets.is_empty()
    }

    /// Packets that wait.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Sends what waits, and then what is staged. What the device does not take waits, or is dropped.
    pub(crate) fn flush(
        &mut self,
        queue: &mut TxQueue,
        staged: &mut Burst<TX_BURST>,
        port: PortId,
        counters: &WorkerCounters,
    ) {
        let before = self.len();
        let counts = counters.port(port);
        let mut sent = Sent { port, counts: &counts, counters, any: false };
        while self.is_any() {
            let mut first = Burst::<TX_BURST>::new();
            let count = self.packets.len().min(TX_BURST);
            self.packets.drain(..count).for_each(|mbuf| drop(first.push(mbuf)));
            self.segments -= first.iter().map(|mbuf| usize::from(mbuf.segment_count())).sum::<usize>();
            sent.burst(queue, &mut first);
            let left = !first.is_empty();
            // Back to the front: they were the first.
            while let Some(mbuf) = first.pop() {
                self.segments += usize::from(mbuf.segment_count());
                self.packets.push_front(mbuf);
            }
            if left {
                break;
            }
        }
        if !self.is_any() {
            sent.burst(queue, staged);
        }
        let max = self.shared.max.load(Relaxed);
        let now = rte::cycles();
        if sent.any {
            self.retries = 0;
        }
        if sent.any || !self.is_any() {
            self.since = now;
        }
        let mut dropped = Dropped { port, reason: DropReason::TxFull, counters, packets: 0 };
        for mbuf in staged.drain() {
            let segments = self.segments + usize::from(mbuf.segment_count());
            // Once it was given up the guest gets no more time until it takes something.
            if self.retries >= max || self.packets.len() == MAX_PACKETS || segments > MAX_SEGMENTS {
                dropped.packet(&mbuf);
                continue;
            }
            self.segments = segments;
            self.packets.push_back(mbuf);
        }
        if self.is_any() && now.wrapping_sub(self.since) > rte::tsc_hz() / 1_000_000 * RETRY_MICROS {
            self.since = now;
            self.retries += 1;
            self.shared.count.fetch_add(1, Relaxed);
            if self.retries >= max {
                self.packets.drain(..).for_each(|mbuf| dropped.packet(&mbuf));
                self.segments = 0;
            }
        }
        dropped.count();
        counters.held.add((self.len() as u64).wrapping_sub(before as u64));
    }

    /// Drops what waits: the port goes, or the worker ends.
    pub(crate) fn clear(&mut self, port: PortId, reason: DropReason, counters: &WorkerCounters) {
        counters.held.add((self.len() as u64).wrapping_neg());
        let mut dropped = Dropped { port, reason, counters, packets: 0 };
        self.packets.drain(..).for_each(|mbuf| dropped.packet(&mbuf));
        self.segments = 0;
        dropped.count();
    }
}

/// Counts what is sent.
struct Sent<'a> {
    port: PortId,
    counts: &'a PortCounters<'a>,
    counters: &'a WorkerCounters,
    any: bool,
}

impl Sent<'_> {
    /// Sends from the front as much as the device takes.
    fn burst(&mut self, queue: &mut TxQueue, burst: &mut Burst<TX_BURST>) {
        let mut lens = [0; TX_BURST];
        for (len, mbuf) in lens.iter_mut().zip(burst.iter()) {
            *len = u64::from(mbuf.len());
        }
        let taken = if burst.is_empty() { 0 } else { queue.tx_burst(burst) };
        let (refused, refused_bytes) = queue.take_refused();
        let sent = taken as u64 - refused;
        self.any |= sent > 0;
        self.counts.tx.add(sent, lens[..taken].iter().sum::<u64>() - refused_bytes);
        self.counters.tx.add(sent);
        if refused > 0 {
            self.counts.tx_dropped.add(refused);
            self.counters.count_drop(self.port, DropReason::VirtioBuffers, refused);
        }
    }
}

/// Counts what did not get into a ring.
struct Dropped<'a> {
    port: PortId,
    reason: DropReason,
    counters: &'a WorkerCounters,
    packets: u64,
}

impl Dropped<'_> {
    fn packet(&mut self, mbuf: &Mbuf) {
        self.counters.drop_copies.copy(self.port, self.reason, mbuf);
        self.packets += 1;
    }

    fn count(&self) {
        if self.packets > 0 {
            self.counters.port(self.port).tx_dropped.add(self.packets);
            self.counters.count_drop(self.port, self.reason, self.packets);
        }
    }
}
