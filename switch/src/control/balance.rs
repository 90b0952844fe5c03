//! Measures what RX queues take, and gives them to other workers where `pmd-auto-lb` says so.

use super::app::App;
use super::loads::{EVERY, KEPT};
use super::rxq;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Goes on until the task is aborted.
pub async fn run(app: Arc<App>) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        timer.tick().await;
        let mut switch = app.switch.lock().await;
        {
            let mut loads = app.loads.lock().unwrap_or_else(PoisonError::into_inner);
            loads.take(&switch, &app.counters);
        }
        let Some(auto) = switch.document.auto_lb() else {
            looked = Instant::now();
            continue;
        };
        if looked.elapsed() < Duration::from_secs(60 * auto.interval) {
            continue;
        }
        looked = Instant::now();
        let queues = loaded(&app, &switch);
        let by = (switch.document.rxq_assign(), switch.document.rxq_isolate());
        if let Some(place) = rxq::better(&queues, app.workers.len(), &auto, by) {
            switch.move_queues(&queues, &place).await;
        }
    }
}

/// All RX queues with what they took in the last minute.
pub(super) fn loaded(app: &App, switch: &super::apply::Switch) -> Vec<rxq::Rxq> {
    let loads = app.loads.lock().unwrap_or_else(PoisonError::into_inner);
    let within = EVERY * KEPT as u32;
    switch.rx_queues(|port, queue| loads.of_queue(port, queue, within).unwrap_or(0.0))
}

/// Shares all queues out anew, as `dpif-netdev/pmd-rxq-rebalance` asks.
pub(super) async fn rebalance(app: &App) {
    let mut switch = app.switch.lock().await;
    let queues = loaded(app, &switch);
    let document = &switch.document;
    let place = rxq::share_out(&queues, app.workers.len(), document.rxq_assign(), document.rxq_isolate());
    switch.move_queues(&queues, &place).await;
}
