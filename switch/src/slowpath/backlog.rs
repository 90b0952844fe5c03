//! Upcalls that wait for the slow path, divided fairly: while there are few, the oldest is next, because what one
//! packet teaches may concern the next one; when they pile up, each in-port has its turn, so that a port that floods
//! delays its own.
//!
//! Bounded by what workers let wait: each flow has one upcall under way, and so has each buffer.

use datapath::message::Upcall;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Up to so many the oldest is next.
const IN_ORDER: usize = 64;

/// An upcall, and the worker that it came from.
#[derive(Debug)]
pub(super) struct Waiting {
    pub worker: usize,
    pub upcall: Upcall,
}

/// Upcalls by in-port.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// With the number in the order of arrival.
    queues: FxHashMap<u32, VecDeque<(u64, Waiting)>>,
    /// In-ports that have some, in the order of their turns.
    turns: VecDeque<u32>,
    len: usize,
    arrived: u64,
}

impl Backlog {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends one.
    pub(super) fn push(&mut self, waiting: Waiting) {
        let in_port = match &waiting.upcall {
            Upcall::Miss { key, .. } => key.in_port,
            Upcall::Punt(buffer) | Upcall::TooBig(buffer, ..) => buffer.in_port.0.into(),
            // Of no port in particular; there is one at most for each adjacency.
            Upcall::Neighbour(_) => u32::MAX,
        };
        let queue = self.queues.entry(in_port).or_default();
        if queue.is_empty() {
            self.turns.push_back(in_port);
        }
        self.arrived += 1;
        queue.push_back((self.arrived, waiting));
        self.len += 1;
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let at = if self.len > IN_ORDER {
            0
        } else {
            let arrived =
                |port: &u32| self.queues.get(port).and_then(VecDeque::front).map(|(number, _)| *number);
            self.turns.iter().enumerate().min_by_key(|(_, port)| arrived(port))?.0
        };
        let in_port = self.turns.remove(at)?;
        let queue = self.queues.get_mut(&in_port)?;
        let (_, waiting) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&in_port);
        } else {
            self.turns.push_back(in_port);
        }
        self.len -= 1;
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::message::PendingId;
    use wire::key::FlowKey;

    fn miss(in_port: u32, number: u32) -> Waiting {
        let key = FlowKey { in_port, ..FlowKey::ZERO };
        Waiting { worker: 0, upcall: Upcall::Miss { pending: PendingId(number), key, asked: 0 } }
    }

    fn next(backlog: &mut Backlog) -> Option<(u32, u32)> {
        match backlog.pop()?.upcall {
            Upcall::Miss { pending, key, .. } => Some((key.in_port, pending.0)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn few_are_answered_in_the_order_of_their_arrival() {
        let mut backlog = Backlog::default();
        let ports = [3, 1, 1, 2, 3, 1, 2, 2, 2, 1];
        for (number, port) in (0..).zip(ports) {
            backlog.push(miss(port, number));
        }
        let all: Vec<_> = std::iter::from_fn(|| next(&mut backlog)).collect();
        assert_eq!(all, ports.into_iter().zip(0..).collect::<Vec<_>>());
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn a_port_that_floods_delays_its_own_alone() {
        let mut backlog = Backlog::default();
        for number in 0..10_000 {
            backlog.push(miss(1, number));
        }
        for number in 0..5 {
            backlog.push(miss(2, number));
            backlog.push(miss(3, number));
        }
        let first: Vec<_> = (0..15).filter_map(|_| next(&mut backlog)).collect();
        let of = |port| first.iter().filter(|(p, _)| *p == port).map(|(_, n)| *n).collect::<Vec<_>>();
        for port in [1, 2, 3] {
            assert_eq!(of(port), [0, 1, 2, 3, 4], "in order, and each has its turn: {first:?}");
        }
        let rest: Vec<_> = std::iter::from_fn(|| next(&mut backlog)).collect();
        assert_eq!(rest, (5..10_000).map(|n| (1, n)).collect::<Vec<_>>());
    }
}
