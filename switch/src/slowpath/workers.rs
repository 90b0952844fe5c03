//! The slow path's side of the workers: queues, megaflow records, counters.

use super::flows::FlowStore;
use datapath::counters::WorkerCounters;
use datapath::message::{Command, Link, Return};
use flow::megaflow::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

/// How long a worker may take to pass a barrier, or to take a command, before it counts as dead: a loop is microseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

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
    /// It was given commands after the last barrier: a change of rules that concerns no megaflow waits for nobody.
    has_commands: bool,
    timeout: Duration,
    /// It took no command for too long. Commands that it did not get make everything later wrong, so it gets none,
    /// and no barrier is passed, until the switch is started anew.
    given_up: bool,
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
            has_commands: false,
            timeout: TIMEOUT,
            given_up: false,
        }
    }

    /// Sends a command, unless the worker has ended. Waits while the queue is full: the worker drains it and waits for
    /// nobody, except for room for what it gives back, which is therefore taken meanwhile. A worker that drains nothing
    /// for too long is given up and named in the log.
    pub fn send(&mut self, command: Command) {
        if self.given_up {
            return;
        }
        self.has_commands = true;
        let Err(mut command) = self.link.commands.push(command) else { return };
        let start = Instant::now();
        while !self.link.closed.load(Relaxed) {
            self.take_returns();
            std::thread::yield_now();
            match self.link.commands.push(command) {
                Ok(()) => return,
                Err(refused) => command = refused,
            }
            if start.elapsed() > self.timeout {
                self.given_up = true;
                let seconds = self.timeout.as_secs();
                tracing::error!(
                    lcore = self.lcore,
                    "the worker has taken no command for {seconds} s: it stands still and gets none any more"
                );
                return;
            }
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

    /// Asks the worker to say when it has carried out everything so far, if there was anything.
    pub fn start_barrier(&mut self) {
        if std::mem::take(&mut self.has_commands) {
            self.barrier += 1;
            let number = self.barrier;
            self.send(Command::Barrier(number));
            self.has_commands = false;
        }
    }

    /// Waits until it has. False when it does not answer at all.
    pub fn wait_barrier(&mut self) -> bool {
        if self.given_up {
            return false;
        }
        let start = Instant::now();
        while self.link.acknowledged.load(Acquire) < self.barrier {
            self.take_returns();
            if self.given_up || self.link.closed.load(Relaxed) {
                return false;
            }
            if start.elapsed() > self.timeout {
                let seconds = self.timeout.as_secs();
                tracing::error!(lcore = self.lcore, "the worker has not answered for {seconds} s");
                return false;
            }
            std::thread::yield_now();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side() -> WorkerSide {
        let slab = Arc::new(Slab::new(16));
        WorkerSide::new(7, Link::new(16), slab, Arc::new(WorkerCounters::default()))
    }

    #[test]
    fn a_worker_that_takes_no_command_is_given_up() {
        let mut side = side();
        side.timeout = Duration::from_millis(1);
        while !side.link.commands.is_full() {
            side.send(Command::Barrier(0));
        }
        assert!(!side.given_up);
        side.send(Command::Barrier(1));
        assert!(side.given_up);
        // What it may do later is too late: it lacks a command.
        assert!(side.link.commands.pop().is_some());
        side.start_barrier();
        assert!(!side.link.commands.is_full());
        assert!(!side.wait_barrier());
    }

    #[test]
    fn a_worker_that_takes_its_time_gets_everything() {
        let mut side = side();
        let link = Arc::clone(&side.link);
        let worker = std::thread::spawn(move || {
            let mut got = 0_u64;
            while got < 10_000 {
                match link.commands.pop() {
                    // It waits for room for what it gives back, which `send` makes.
                    Some(_) => got += 1,
                    None => std::thread::yield_now(),
                }
            }
            got
        });
        (0..10_000).for_each(|number| side.send(Command::Barrier(number)));
        assert_eq!(worker.join().unwrap(), 10_000);
        assert!(!side.given_up);
    }

    #[test]
    fn a_barrier_waits_for_commands_only() {
        let mut side = side();
        side.timeout = Duration::from_millis(1);
        side.start_barrier();
        assert!(side.wait_barrier() && side.link.commands.is_empty(), "nothing was asked of the worker");
        side.send(Command::SetLink(flow::program::PortId(1), false));
        side.start_barrier();
        side.start_barrier();
        assert_eq!(side.link.commands.len(), 2, "one barrier behind the command");
        assert!(!side.wait_barrier(), "it has not carried it out");
        side.link.acknowledged.store(1, std::sync::atomic::Ordering::Release);
        assert!(side.wait_barrier());
    }

    #[test]
    fn nothing_waits_for_a_worker_that_ended() {
        let mut side = side();
        side.link.closed.store(true, Relaxed);
        (0..5000).for_each(|number| side.send(Command::Barrier(number)));
        side.start_barrier();
        assert!(!side.wait_barrier());
    }
}
