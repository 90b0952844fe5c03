//! What queues of our own ports count.

use crate::port::{COUNTED_QUEUES, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a queue counts. One writer, any reader.
#[derive(Default, Debug)]
pub(crate) struct Counters {
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub errors: AtomicU64,
    pub nombuf: AtomicU64,
}

impl Counters {
    /// Adds without a locked instruction: there is one writer.
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The counters of a port with these queues.
    pub(crate) fn stats(rx: &[Arc<Counters>], tx: &[Arc<Counters>]) -> Stats {
        let sum = |of: &[Arc<Counters>], what: fn(&Counters) -> &AtomicU64| {
            of.iter().map(|counters| what(counters).load(Ordering::Relaxed)).sum()
        };
        let mut rx_queue_packets = [0; COUNTED_QUEUES];
        for (packets, counters) in rx_queue_packets.iter_mut().zip(rx) {
            *packets = counters.packets.load(Ordering::Relaxed);
        }
        Stats {
            rx_packets: sum(rx, |c| &c.packets),
            rx_bytes: sum(rx, |c| &c.bytes),
            rx_missed: 0,
            rx_errors: sum(rx, |c| &c.errors),
            rx_nombuf: sum(rx, |c| &c.nombuf),
            tx_packets: sum(tx, |c| &c.packets),
            tx_bytes: sum(tx, |c| &c.bytes),
            tx_errors: sum(tx, |c| &c.errors),
            rx_queue_packets,
        }
    }
}
