//! What all workers together counted for a port.

use crate::slowpath::SlowPath;
use datapath::counters::WorkerCounters;
use flow::drop::DropReason;
use flow::program::PortId;
use std::sync::Arc;

/// Counters of a datapath port number. Numbers are used again, counters are not set back: what a port has counted
/// is the difference to what stood there when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that were for this port and were not sent.
    pub tx_dropped: u64,
    /// By reason.
    pub drops: [u64; DropReason::COUNT],
}

impl Default for Totals {
    fn default() -> Self {
        Totals {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            tx_dropped: 0,
            drops: [0; DropReason::COUNT],
        }
    }
}

impl Totals {
    /// The sums now, read through the slow path.
    pub fn of(slow: &SlowPath, port: PortId) -> Totals {
        Totals::sum(slow.workers.iter().map(|w| &*w.counters), port)
    }

    /// The sums now, read from the workers' counters.
    pub fn read(workers: &[Arc<WorkerCounters>], port: PortId) -> Totals {
        Totals::sum(workers.iter().map(|counters| &**counters), port)
    }

    fn sum<'a>(workers: impl Iterator<Item = &'a WorkerCounters>, port: PortId) -> Totals {
        let mut sum = Totals::default();
        for counters in workers {
            let of = counters.port(port);
            sum.rx_packets += of.rx.packets.get();
            sum.rx_bytes += of.rx.bytes.get();
            sum.tx_packets += of.tx.packets.get();
            sum.tx_bytes += of.tx.bytes.get();
            sum.tx_dropped += of.tx_dropped.get();
            for (total, reason) in sum.drops.iter_mut().zip(DropReason::ALL) {
                *total += counters.drops(port, *reason);
            }
        }
        sum
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Totals) -> Totals {
        Totals {
            rx_packets: self.rx_packets.wrapping_sub(before.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_sub(before.rx_bytes),
            tx_packets: self.tx_packets.wrapping_sub(before.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_sub(before.tx_bytes),
            tx_dropped: self.tx_dropped.wrapping_sub(before.tx_dropped),
            drops: std::array::from_fn(|i| self.drops[i].wrapping_sub(before.drops[i])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_workers_and_starts_over_for_a_new_port() {
        let workers: Vec<Arc<WorkerCounters>> = (0..2).map(|_| Arc::default()).collect();
        let port = PortId(3);
        workers[0].port(port).rx.packets.add(5);
        workers[1].port(port).rx.packets.add(7);
        let before = Totals::read(&workers, port);
        assert_eq!(before.rx_packets, 12);
        workers[1].port(port).tx.bytes.add(100);
        let since = Totals::read(&workers, port).since(&before);
        assert_eq!((since.rx_packets, since.tx_bytes), (0, 100));
    }
}
