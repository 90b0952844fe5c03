//! What RX queues take of their workers' time: measured, and remembered for a minute.

use super::apply::Switch;
use datapath::counters::WorkerCounters;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How often is measured, as in Open vSwitch.
pub const EVERY: Duration = Duration::from_secs(5);
/// Measurements that are kept: those of a minute.
pub const KEPT: usize = 12;

/// Port and number of a queue.
type Queue = (String, u16);

/// Counters at a time.
#[derive(Debug, Clone, Default)]
struct Reading {
    /// By worker: busy cycles, all cycles, cycles of measured loops that no queue had.
    workers: Vec<(u64, u64, u64)>,
    /// Cycles of measured loops by queue and worker.
    queues: BTreeMap<Queue, Vec<u64>>,
}

/// Percent of a worker's time.
#[derive(Debug, Clone, Default)]
struct Interval {
    queues: BTreeMap<Queue, f64>,
    overhead: Vec<f64>,
}

/// Loads of the last minute.
#[derive(Debug, Default)]
pub struct Loads {
    last: Option<Reading>,
    intervals: VecDeque<Interval>,
}

impl Loads {
    /// Measures, when [`EVERY`] has passed since the last time.
    pub fn take(&mut self, switch: &Switch, counters: &[Arc<WorkerCounters>]) {
        let mut reading = Reading::default();
        for counters in counters {
            let busy = counters.busy_cycles.get();
            reading.workers.push((busy, busy + counters.idle_cycles.get(), counters.overhead_cycles.get()));
        }
        for queue in switch.rx_queues(|_, _| 0.0) {
            let cycles =
                counters.iter().map(|counters| counters.rxq_cycles(queue.id, queue.queue).get()).collect();
            reading.queues.insert((queue.port, queue.queue), cycles);
        }
        self.add(reading);
    }

    fn add(&mut self, reading: Reading) {
        if let Some(before) = &self.last {
            self.intervals.push_back(between(before, &reading));
            if self.intervals.len() > KEPT {
                self.intervals.pop_front();
            }
        }
        self.last = Some(reading);
    }

    /// The last intervals within so much time, at least one if there is one; and the time that they cover.
    fn last(&self, within: Duration) -> impl Iterator<Item = &Interval> {
        let count = within.as_secs().div_ceil(EVERY.as_secs()).max(1) as usize;
        self.intervals.iter().rev().take(count)
    }

    /// Percent of a worker's time that a queue took within the last `within`; `None`: nothing has been measured yet.
    pub fn of_queue(&self, port: &str, queue: u16, within: Duration) -> Option<f64> {
        let key = (port.to_owned(), queue);
        average(self.last(within).map(|interval| interval.queues.get(&key).copied().unwrap_or(0.0)))
    }

    /// Percent of a worker's time that it was busy for no queue.
    pub fn overhead(&self, worker: usize, within: Duration) -> Option<f64> {
        average(self.last(within).map(|interval| interval.overhead.get(worker).copied().unwrap_or(0.0)))
    }
}

fn average(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The measured loops say how the time in which a worker was busy divides among its queues.
fn between(before: &Reading, now: &Reading) -> Interval {
    let mut interval = Interval::default();
    let none = Vec::new();
    for (at, (busy, all, overhead)) in now.workers.iter().enumerate() {
        let then = before.workers.get(at).copied().unwrap_or_default();
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let overhead = since(*overhead, then.2);
        let measured: Vec<(&Queue, f64)> = now
            .queues
            .iter()
            .map(|(queue, cycles)| {
                let then = before.queues.get(queue).unwrap_or(&none).get(at).copied();
                // What a queue's number counted for an earlier port is not its own.
                let now = cycles.get(at).copied().unwrap_or(0);
                (queue, since(now, then.unwrap_or(now)))
            })
            .collect();
        let total = overhead + measured.iter().map(|(_, cycles)| cycles).sum::<f64>();
        let share = if total > 0.0 {
            100.0 * since(*busy, then.0) / since(*all, then.1).max(1.0) / total
        } else {
            0.0
        };
        for (queue, cycles) in measured {
            *interval.queues.entry(queue.clone()).or_default() += cycles * share;
        }
        interval.overhead.push(overhead * share);
    }
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(workers: &[(u64, u64, u64)], queues: &[(u16, &[u64])]) -> Reading {
        let queues = queues.iter().map(|(queue, cycles)| (("p0".to_owned(), *queue), cycles.to_vec()));
        Reading { workers: workers.to_vec(), queues: queues.collect() }
    }

    #[test]
    fn busy_time_divides_as_the_measured_loops_say() {
        let mut loads = Loads::default();
        let minute = Duration::from_mins(1);
        loads.add(reading(&[(0, 0, 0), (0, 0, 0)], &[(0, &[50, 0]), (1, &[0, 0])]));
        assert_eq!(loads.of_queue("p0", 0, minute), None, "nothing to compare with yet");
        // Worker 0 was busy half of the time; a tenth of it for no queue.
        loads.add(reading(&[(500, 1000, 10), (0, 1000, 0)], &[(0, &[110, 0]), (1, &[30, 0])]));
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        assert!(near(loads.of_queue("p0", 0, minute), 30.0) && near(loads.of_queue("p0", 1, minute), 15.0));
        assert!(near(loads.overhead(0, minute), 5.0) && near(loads.overhead(1, minute), 0.0));
        assert!(near(loads.of_queue("p9", 0, minute), 0.0));
        // Queue 0 goes to worker 1, which does nothing else.
        loads.add(reading(&[(500, 2000, 10), (1000, 2000, 0)], &[(0, &[110, 70]), (1, &[30, 0])]));
        assert!(near(loads.of_queue("p0", 0, Duration::from_secs(5)), 100.0));
        assert!(near(loads.of_queue("p0", 0, minute), 65.0), "the mean of both intervals");
        for _ in 0..2 * KEPT {
            loads.add(reading(&[(500, 9000, 10), (1000, 9000, 0)], &[(0, &[110, 70]), (1, &[30, 0])]));
        }
        assert_eq!(loads.intervals.len(), KEPT);
        assert!(near(loads.of_queue("p0", 0, minute), 0.0));
    }
}
