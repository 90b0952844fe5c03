//! Which worker polls which RX queue: one that the document says (`pmd-rxq-affinity`), else such that all have as much to do.

use config::{AutoLb, RxqAssign};
use flow::program::PortId;

/// An RX queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Rxq {
    /// Name of its port.
    pub port: String,
    /// Number of its port.
    pub id: PortId,
    /// Its number.
    pub queue: u16,
    /// Index of the worker that polls it.
    pub worker: usize,
    /// Index of the worker that the document wants for it.
    pub pinned: Option<usize>,
    /// What it takes of a worker's time, percent.
    pub load: f64,
}

/// Whether a worker has queues that the document wants there. Other queues keep away from it, where that is wanted.
pub fn isolated(queues: &[Rxq], worker: usize) -> bool {
    queues.iter().any(|queue| queue.pinned == Some(worker))
}

/// Workers for queues that the document wants nowhere: those without pinned queues, or, where there is no such or pinned
/// queues do not isolate, all.
fn open(queues: &[Rxq], workers: usize, isolate: bool) -> Vec<usize> {
    let free: Vec<usize> = (0..workers).filter(|worker| !isolate || !isolated(queues, *worker)).collect();
    if free.is_empty() { (0..workers).collect() } else { free }
}

/// A worker for each queue such that as few as possible move: pinned ones to theirs, those away that are in their way.
pub fn settle(queues: &[Rxq], workers: usize, isolate: bool) -> Vec<usize> {
    let open = open(queues, workers, isolate);
    let mut counts = vec![0_usize; workers];
    let stays = |queue: &Rxq| queue.pinned.or_else(|| open.contains(&queue.worker).then_some(queue.worker));
    for worker in queues.iter().filter_map(stays) {
        counts[worker] += 1;
    }
    let mut place = Vec::with_capacity(queues.len());
    for queue in queues {
        let to = stays(queue).or_else(|| {
            let fewest = open.iter().copied().min_by_key(|worker| counts[*worker])?;
            counts[fewest] += 1;
            Some(fewest)
        });
        place.push(to.unwrap_or(queue.worker));
    }
    place
}

/// A worker for each queue by `pmd-rxq-assign`, as Open vSwitch shares them out.
pub fn share_out(queues: &[Rxq], workers: usize, assign: RxqAssign, isolate: bool) -> Vec<usize> {
    let open = open(queues, workers, isolate);
    let mut place: Vec<usize> = queues.iter().map(|queue| queue.pinned.unwrap_or(queue.worker)).collect();
    let mut order: Vec<usize> = (0..queues.len()).filter(|at| queues[*at].pinned.is_none()).collect();
    if assign != RxqAssign::RoundRobin {
        // Equal ones stay in their order.
        order.sort_by(|a, b| queues[*b].load.total_cmp(&queues[*a].load));
    }
    let mut loads = vec![(0.0, 0_usize); workers];
    for queue in queues {
        if let Some(worker) = queue.pinned {
            loads[worker].0 += queue.load;
            loads[worker].1 += 1;
        }
    }
    for (n, at) in order.into_iter().enumerate() {
        let (round, step) = (n / open.len().max(1), n % open.len().max(1));
        let to = match assign {
            RxqAssign::RoundRobin => open.get(step),
            RxqAssign::Cycles if round % 2 == 0 => open.get(step),
            RxqAssign::Cycles => open.iter().rev().nth(step),
            RxqAssign::Group => open.iter().min_by(|a, b| {
                let ((a, an), (b, bn)) = (loads[**a], loads[**b]);
                a.total_cmp(&b).then(an.cmp(&bn))
            }),
        };
        if let Some(&to) = to {
            place[at] = to;
            loads[to].0 += queues[at].load;
            loads[to].1 += 1;
        }
    }
    place
}

/// What each worker has to do, percent.
fn loads(queues: &[Rxq], place: &[usize], workers: usize) -> Vec<f64> {
    let mut loads = vec![0.0; workers];
    for (queue, worker) in queues.iter().zip(place) {
        loads[*worker] += queue.load;
    }
    loads
}

fn variance(loads: &[f64]) -> f64 {
    let count = loads.len().max(1) as f64;
    let mean = loads.iter().sum::<f64>() / count;
    loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / count
}

/// A better place for queues, where a worker is loaded so much that it is looked for and the improvement is as large as it
/// is to be.
pub fn better(
    queues: &[Rxq],
    workers: usize,
    auto: &AutoLb,
    (assign, isolate): (RxqAssign, bool),
) -> Option<Vec<usize>> {
    // In turn is not by load.
    if assign == RxqAssign::RoundRobin {
        return None;
    }
    let now: Vec<usize> = queues.iter().map(|queue| queue.worker).collect();
    let now = loads(queues, &now, workers);
    if now.iter().all(|load| *load < auto.load as f64) {
        return None;
    }
    let place = share_out(queues, workers, assign, isolate);
    let (before, after) = (variance(&now), variance(&loads(queues, &place, workers)));
    let improvement = if before > 0.0 { 100.0 * (before - after) / before } else { 0.0 };
    (improvement > 0.0 && improvement >= auto.improvement as f64).then_some(place)
}

/// Queues in the order in which they are listed: by port and number.
pub fn sort(queues: &mut [Rxq]) {
    queues.sort_by(|a, b| (&a.port, a.queue).cmp(&(&b.port, b.queue)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rxq(queue: u16, worker: usize, pinned: Option<usize>, load: f64) -> Rxq {
        Rxq { port: "p0".into(), id: PortId(1), queue, worker, pinned, load }
    }

    fn by_load(loads: &[f64]) -> Vec<Rxq> {
        (0..).zip(loads).map(|(queue, load)| rxq(queue, 0, None, *load)).collect()
    }

    #[test]
    fn each_way_of_sharing_out_is_open_vswitchs() {
        let queues = by_load(&[10.0, 80.0, 50.0, 60.0, 20.0]);
        assert_eq!(share_out(&queues, 3, RxqAssign::RoundRobin, true), [0, 1, 2, 0, 1]);
        // 80, 60, 50 from the first to the last, 20, 10 back.
        assert_eq!(share_out(&queues, 3, RxqAssign::Cycles, true), [1, 0, 2, 1, 2]);
        // 80 | 60 | 50, then 20 to 50, 10 to 60.
        assert_eq!(share_out(&queues, 3, RxqAssign::Group, true), [1, 0, 2, 1, 2]);
        let even = by_load(&[0.0; 4]);
        assert_eq!(share_out(&even, 2, RxqAssign::Group, true), [0, 1, 0, 1], "nothing to do: by number");
    }

    #[test]
    fn pinned_queues_have_their_workers_for_themselves() {
        let queues = [rxq(0, 0, Some(1), 90.0), rxq(1, 1, None, 5.0), rxq(2, 0, None, 5.0)];
        assert_eq!(settle(&queues, 3, true), [1, 2, 0], "1 is in the way, 2 is not");
        assert_eq!(settle(&queues, 3, false), [1, 1, 0]);
        assert_eq!(settle(&queues, 2, true), [1, 0, 0]);
        assert!(isolated(&queues, 1) && !isolated(&queues, 0));
        assert_eq!(share_out(&queues, 2, RxqAssign::Group, true), [1, 0, 0]);
        assert_eq!(share_out(&queues, 2, RxqAssign::Group, false), [1, 0, 0], "1 has most to do already");
        let all = [rxq(0, 0, Some(0), 1.0), rxq(1, 0, Some(1), 1.0), rxq(2, 1, None, 1.0)];
        assert_eq!(settle(&all, 2, true), [0, 1, 1], "a queue is polled in any case");
    }

    #[test]
    fn queues_move_by_themselves_only_where_that_is_worth_it() {
        let auto = AutoLb { interval: 1, load: 95, improvement: 25 };
        let by = (RxqAssign::Cycles, true);
        let mut queues = [rxq(0, 0, None, 50.0), rxq(1, 0, None, 48.0), rxq(2, 1, None, 1.0)];
        assert_eq!(better(&queues, 2, &auto, by), Some(vec![0, 1, 1]));
        assert_eq!(better(&queues, 2, &auto, (RxqAssign::RoundRobin, true)), None);
        assert_eq!(better(&queues, 2, &AutoLb { load: 99, ..auto }, by), None, "no worker has so much to do");
        queues[2].load = 60.0;
        // 98 and 60 now: 60, 50 and back 48 are 60 and 98.
        assert_eq!(better(&queues, 2, &auto, by), None, "it would not be better");
        let one = [rxq(0, 0, None, 100.0)];
        assert_eq!(better(&one, 2, &AutoLb { improvement: 0, ..auto }, by), None, "one queue has one worker");
    }

    proptest! {
        #[test]
        fn every_queue_has_a_worker_that_may_have_it(
            some in prop::collection::vec((0..4_usize, prop::option::weighted(0.3, 0..4_usize), 0.0..100.0), 0..12),
            workers in 1..5_usize, isolate: bool,
        ) {
            let queues: Vec<Rxq> = (0..).zip(some)
                .map(|(n, (worker, pinned, load))| rxq(n, worker % workers, pinned.map(|w| w % workers), load))
                .collect();
            let everywhere = (0..workers).all(|worker| isolated(&queues, worker));
            let mut places = vec![settle(&queues, workers, isolate)];
            places.extend([RxqAssign::RoundRobin, RxqAssign::Cycles, RxqAssign::Group]
                .map(|assign| share_out(&queues, workers, assign, isolate)));
            for place in &places {
                prop_assert_eq!(place.len(), queues.len());
                for (queue, &worker) in queues.iter().zip(place) {
                    prop_assert!(worker < workers);
                    match queue.pinned {
                        Some(pinned) => prop_assert_eq!(worker, pinned),
                        None => prop_assert!(!isolate || everywhere || !isolated(&queues, worker)),
                    }
                }
            }
            let settled: Vec<Rxq> = queues.iter().zip(&places[0])
                .map(|(queue, worker)| Rxq { worker: *worker, ..queue.clone() }).collect();
            prop_assert_eq!(&settle(&settled, workers, isolate), &places[0], "settled is settled");
        }

        #[test]
        fn the_busiest_worker_has_at_most_a_third_more_than_it_must(
            loads in prop::collection::vec(1.0..100.0, 1..7), workers in 1..4_usize,
        ) {
            let queues = by_load(&loads);
            let most = |place: &[usize]| super::loads(&queues, place, workers).into_iter().fold(0.0, f64::max);
            let mut best = f64::MAX;
            for n in 0..workers.pow(queues.len() as u32) {
                let place: Vec<usize> = (0..queues.len() as u32).map(|at| n / workers.pow(at) % workers).collect();
                best = best.min(most(&place));
            }
            let got = most(&share_out(&queues, workers, RxqAssign::Group, true));
            // Graham 1969: 4/3 - 1/(3m).
            prop_assert!(got <= best * 4.0 / 3.0 + 1e-9, "{got} where {best} is possible");
        }
    }
}
