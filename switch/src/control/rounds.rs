//! A task that looks at the switch again and again, and those who wait until it has seen what they did.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How long its next look is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The looks of a task.
#[derive(Debug)]
pub struct Rounds {
    asked: AtomicU64,
    wake: Notify,
    done: watch::Sender<u64>,
}

impl Default for Rounds {
    fn default() -> Self {
        Rounds { asked: AtomicU64::new(0), wake: Notify::new(), done: watch::Sender::new(0) }
    }
}

impl Rounds {
    /// Waits until a look is over that began after this was called; not for long, should the task stand still.
    pub async fn settled(&self) {
        let number = self.asked.fetch_add(1, SeqCst) + 1;
        let mut done = self.done.subscribe();
        self.wake.notify_one();
        // The task does not go before the switch does.
        let _ = tokio::time::timeout(PATIENCE, done.wait_for(|done| *done >= number)).await;
    }

    /// Until somebody waits for a look.
    pub async fn wanted(&self) {
        self.wake.notified().await;
    }

    /// A look begins: who has asked until now sees its end.
    pub fn begin(&self) -> u64 {
        self.asked.load(SeqCst)
    }

    /// The look is over that began so.
    pub fn end(&self, begun: u64) {
        self.done.send_replace(begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn who_waits_sees_the_end_of_a_look_that_began_later() {
        let rounds: Arc<Rounds> = Arc::default();
        let earlier = rounds.begin();
        let waiting = tokio::spawn({
            let rounds = Arc::clone(&rounds);
            async move { rounds.settled().await }
        });
        rounds.wanted().await;
        rounds.end(earlier);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished(), "that look began before");
        let later = rounds.begin();
        rounds.end(later);
        waiting.await.unwrap();
        let began = tokio::time::Instant::now();
        rounds.settled().await;
        assert_eq!(began.elapsed(), PATIENCE, "nobody looks");
    }
}
