//! RX queues of running devices, and the workers that poll them.

use super::Switch;
use crate::control::rxq::{self, Rxq};
use crate::slowpath::queues::QueueMove;

impl Switch {
    /// All RX queues, by port and number, with what `load` says of each.
    pub fn rx_queues(&self, load: impl Fn(&str, u16) -> f64) -> Vec<Rxq> {
        let workers = &self.resources.workers;
        let mut queues = Vec::new();
        for (name, port) in &self.ports {
            let Some(device) = &port.device else { continue };
            let affinity = self.document.port(name).map(|(_, port)| port.rxq_affinity()).unwrap_or_default();
            for (queue, &worker) in (0..).zip(&device.pollers) {
                let lcore = affinity.0.get(&queue);
                let pinned = lcore.and_then(|lcore| workers.iter().position(|worker| worker.lcore == *lcore));
                let load = load(name, queue);
                queues.push(Rxq { port: name.clone(), id: port.id, queue, worker, pinned, load });
            }
        }
        rxq::sort(&mut queues);
        queues
    }

    /// Gives queues to the workers that the document wants for them, and takes those away that are in their way.
    pub(super) async fn place_queues(&mut self) {
        for (name, port) in &self.ports {
            let affinity = self.document.port(name).map(|(_, port)| port.rxq_affinity()).unwrap_or_default();
            let queues = port.device.as_ref().map_or(0, |device| device.pollers.len());
            for (queue, lcore) in affinity.0 {
                if usize::from(queue) >= queues && queues > 0 {
                    tracing::warn!(target: "vxswitch::port", port = %name, queue, "pmd-rxq-affinity: the port has no such queue");
                } else if self.resources.workers.iter().all(|worker| worker.lcore != lcore) {
                    tracing::warn!(target: "vxswitch::port", port = %name, queue, lcore, "pmd-rxq-affinity: no worker runs there, so another one polls the queue");
                }
            }
        }
        let queues = self.rx_queues(|_, _| 0.0);
        let place = rxq::settle(&queues, self.resources.workers.len(), self.document.rxq_isolate());
        self.move_queues(&queues, &place).await;
    }

    /// Gives each queue to its worker in `place`.
    pub async fn move_queues(&mut self, queues: &[Rxq], place: &[usize]) {
        let moves: Vec<(&Rxq, usize)> = queues
            .iter()
            .zip(place)
            .filter(|(queue, to)| queue.worker != **to)
            .map(|(queue, to)| (queue, *to))
            .collect();
        if moves.is_empty() {
            return;
        }
        let order: Vec<QueueMove> = moves
            .iter()
            .map(|(rxq, to)| QueueMove { port: rxq.id, queue: rxq.queue, from: rxq.worker, to: *to })
            .collect();
        let Ok(moved) = self.handle.call(move |slow| slow.move_queues(&order)).await else { return };
        for (rxq, to) in moves {
            if !moved.contains(&(rxq.id, rxq.queue)) {
                tracing::error!(target: "vxswitch::port", port = %rxq.port, queue = rxq.queue, "its worker does not give the RX queue back");
                continue;
            }
            let device = self.ports.get_mut(&rxq.port).and_then(|port| port.device.as_mut());
            if let Some(poller) = device.and_then(|device| device.pollers.get_mut(usize::from(rxq.queue))) {
                *poller = to;
            }
            let lcore = self.resources.workers.get(to).map_or(0, |worker| worker.lcore);
            tracing::info!(target: "vxswitch::port", port = %rxq.port, queue = rxq.queue, lcore, "the RX queue has another worker");
        }
    }
}
