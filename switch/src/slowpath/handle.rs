//! How other threads reach the slow path: they send it closures.

use super::SlowPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

type Job = Box<dyn FnOnce(&mut SlowPath) + Send>;

/// Jobs that may wait; a caller that finds the queue full waits.
const QUEUE: usize = 64;
/// How long a caller that must not block waits before it looks for room in the queue again.
const ROOM_EVERY: Duration = Duration::from_millis(1);
/// Jobs run between two rounds of upcalls.
const JOBS_PER_TURN: usize = 4;

/// The slow path is gone: the switch is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch is stopping")]
pub struct Stopped;

/// Sends closures to the slow path.
#[derive(Debug, Clone)]
pub struct Handle {
    jobs: SyncSender<Job>,
    turns: Arc<AtomicU64>,
}

/// The slow path's end.
#[derive(Debug)]
pub struct Jobs {
    jobs: Receiver<Job>,
    turns: Arc<AtomicU64>,
}

/// Both ends.
pub fn channel() -> (Handle, Jobs) {
    let (sender, receiver) = sync_channel(QUEUE);
    let turns: Arc<AtomicU64> = Arc::default();
    (Handle { jobs: sender, turns: Arc::clone(&turns) }, Jobs { jobs: receiver, turns })
}

impl Handle {
    /// How often the slow path has looked for jobs: who watches it sees by this that it moves.
    pub fn turns(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.turns)
    }

    /// Runs `job` on the slow path thread and waits for its answer without blocking the caller's thread.
    pub async fn call<R, F>(&self, job: F) -> Result<R, Stopped>
    where
        R: Send + 'static,
        F: FnOnce(&mut SlowPath) -> R + Send + 'static,
    {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move |slow_path| {
            // The caller may have gone; the job is done all the same.
            let _ = reply.send(job(slow_path));
        });
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => {
                    next = Some(job);
                    tokio::time::sleep(ROOM_EVERY).await;
                }
                Err(TrySendError::Disconnected(_)) => return Err(Stopped),
            }
        }
        answer.await.map_err(|_| Stopped)
    }

    /// The same from a thread that may block.
    pub fn call_blocking<R, F>(&self, job: F) -> Result<R, Stopped>
    where
        R: Send + 'static,
        F: FnOnce(&mut SlowPath) -> R + Send + 'static,
    {
        let (reply, answer) = sync_channel(1);
        let job: Job = Box::new(move |slow_path| {
            let _ = reply.send(job(slow_path));
        });
        self.jobs.send(job).map_err(|_| Stopped)?;
        answer.recv().map_err(|_| Stopped)
    }
}

impl Jobs {
    /// Runs the job that comes within this time, if one does.
    pub fn wait(&self, slow_path: &mut SlowPath, within: Duration) -> bool {
        let job = self.jobs.recv_timeout(within).ok();
        job.map(|job| job(slow_path)).is_some()
    }

    /// Runs a bounded number of jobs. Says whether more may come.
    pub fn run_some(&self, slow_path: &mut SlowPath) -> bool {
        self.turns.fetch_add(1, Relaxed);
        for _ in 0..JOBS_PER_TURN {
            match self.jobs.try_recv() {
                Ok(job) => job(slow_path),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }
}
