//! The slow path's side of the workers: queues, megaflow records, counters.

use super::flows::FlowStore;
use datapath::counters::WorkerCounters;
use datapath::message::{Command, Link, Return};
use flow::megaflow::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

/// How long a worker may take to pass a barrier before it counts as dead: a loop is microseconds.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(10);

/// One worker, seen from the slow path.
pub struct WorkerSide {
    /// The lcore that it runs on.
    pub lcore: u32,
    /// Queues.
    pub link: Arc<Link>,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Its megaflows.
    pub flows: FlowStore,
    /// What came back while a command waited for room.
    backlog: VecDeque<Return>,
    barrier: u64,
}

impl WorkerSide {
    /// A worker with an empty table.
    pub fn new(lcore: u32, link: Arc<Link>, slab: Arc<Slab>, counters: Arc<WorkerCounters>) -> WorkerSide {
        WorkerSide {
            lcore,
            link,
            counters,
            flows: FlowStore::new(slab),
            backlog: VecDeque::new(),
            barrier: 0,
        }
    }

    /// Sends a command, unless the worker has ended. Waits while the queue is full: the worker drains it and waits for nobody, except
    /// for room for what it gives back, which is therefore taken meanwhile.
    pub fn send(&mut self, command: Command) {
        let mut command = command;
        while let Err(refused) = self.link.commands.push(command) {
            if self.link.closed.load(Relaxed) {
                return;
            }
            command = refused;
            self.take_returns();
            std::thread::yield_now();
        }
    }

    fn take_returns(&mut self) {
        while let Some(item) = self.link.returns.pop() {
            self.backlog.push_back(item);
        }
    }

    /// The next thing that came back.
    pub fn next_return(&mut self) -> Option<Return> {
        self.backlog.pop_front().or_else(|| self.link.returns.pop())
    }

    /// Asks the worker to say when it has carried out everything so far.
    pub fn start_barrier(&mut self) {
        self.barrier += 1;
        let number = self.barrier;
        self.send(Command::Barrier(number));
    }

    /// Waits until it has. False when it does not answer at all.
    pub fn wait_barrier(&mut self) -> bool {
        let start = Instant::now();
        while self.link.acknowledged.load(Acquire) < self.barrier {
            self.take_returns();
            if self.link.closed.load(Relaxed) || start.elapsed() > BARRIER_TIMEOUT {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}
