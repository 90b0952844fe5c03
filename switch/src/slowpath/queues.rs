//! RX queues that go from one worker to another.

use super::SlowPath;
use datapath::message::Command;
use flow::program::PortId;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Rounds of answers before a queue goes on: each answers what workers had asked when it began. Under a flood of new flows
/// there is always more, which is not of that queue.
const ROUNDS: usize = 32;
/// Loops in which a worker takes everything that waited in its hand-over queues, which have room for 1024 packets, 32 a loop.
const HANDOVER_LOOPS: u64 = 34;
/// How long that is waited for: loops are microseconds.
const HANDOVER_PATIENCE: Duration = Duration::from_millis(20);

/// An RX queue that another worker shall poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueMove {
    /// Its port.
    pub port: PortId,
    /// Its number.
    pub queue: u16,
    /// Index of the worker that polls it.
    pub from: usize,
    /// Index of the worker that shall.
    pub to: usize,
}

impl SlowPath {
    /// Gives RX queues to other workers. What comes meanwhile waits in the devices' rings. Before a queue goes on, what came by
    /// it has left: packets that waited for a decision, and those handed over to another worker's TX queue; so none overtakes
    /// an earlier one of its flow. (Packets that wait for a neighbour do so for seconds; they are not waited for.) Returns those
    /// that have moved, by port and number.
    pub fn move_queues(&mut self, moves: &[QueueMove]) -> Vec<(PortId, u16)> {
        let mut moved = Vec::new();
        for (port, queue) in self.stop_polling(moves.iter().map(|m| (m.from, m.port, m.queue))) {
            let to = moves.iter().find(|m| (m.port, m.queue) == (port, queue.queue_id())).map(|m| m.to);
            if let Some(worker) = to.and_then(|to| self.workers.get_mut(to)) {
                moved.push((port, queue.queue_id()));
                worker.send(Command::GiveRxQueue(port, queue));
            }
        }
        self.barrier();
        moved
    }

    /// Takes RX queues from their workers, by worker, port and number. What came by them has left then, but for packets that
    /// wait for a neighbour.
    pub fn stop_polling(
        &mut self,
        queues: impl IntoIterator<Item = (usize, PortId, u16)>,
    ) -> Vec<(PortId, rte::RxQueue)> {
        for (worker, port, queue) in queues {
            if let Some(worker) = self.workers.get_mut(worker) {
                worker.send(Command::TakeRxQueue(port, queue));
            }
        }
        // One that does not answer gives nothing back.
        self.barrier();
        for _ in 0..ROUNDS {
            let now = self.now();
            for worker in 0..self.workers.len() {
                self.returns(worker, now);
            }
            if !self.answer_upcalls(now) {
                break;
            }
            self.barrier();
        }
        self.wait_for_handovers();
        std::mem::take(&mut self.returned_queues)
    }

    /// Waits until what workers had handed over to each other has been taken.
    fn wait_for_handovers(&self) {
        let sum = |count: fn(&datapath::counters::WorkerCounters) -> u64| {
            self.workers.iter().map(|worker| count(&worker.counters)).sum::<u64>()
        };
        if sum(|c| c.tx_handoff_sent.get()) == sum(|c| c.tx_handoff_received.get()) {
            return;
        }
        let loops = |worker: &super::workers::WorkerSide| worker.counters.iterations.get();
        let until: Vec<u64> = self.workers.iter().map(|worker| loops(worker) + HANDOVER_LOOPS).collect();
        let began = Instant::now();
        let done = |(worker, until): (&super::workers::WorkerSide, &u64)| {
            loops(worker) >= *until || worker.link.closed.load(Relaxed)
        };
        while !self.workers.iter().zip(&until).all(done) && began.elapsed() < HANDOVER_PATIENCE {
            std::thread::yield_now();
        }
    }
}
