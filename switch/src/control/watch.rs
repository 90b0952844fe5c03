//! The thread that watches the others: it reports who stands still, feeds the service manager's watchdog as long as
//! nobody does, and ends the process when an end that was asked for does not come.
//!
//! It takes no lock that others hold for long, waits for nobody, and serves nobody.

use super::ending::Ending;
use super::pulse::{Pulses, STILL, WATCH};
use super::socket::Remove;
use super::{log, sys};
use anyhow::{Context, Result};
use sd_notify::NotifyState;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);
/// How often it says what the log left out.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Exit status of an end by force.
const FORCED: i32 = 1;

/// What the thread needs to know.
#[derive(Debug)]
pub struct Watch {
    /// Who is watched.
    pub pulses: Arc<Pulses>,
    /// Whether an end is awaited.
    pub ending: Arc<Ending>,
    /// How long that may take.
    pub within: Duration,
    /// File of the control socket, removed when the end is forced.
    pub socket: Remove,
    /// The whole file has been applied.
    pub ready: Arc<AtomicBool>,
}

impl Watch {
    /// Starts the thread, which ends with the process.
    ///
    /// # Errors
    /// The kernel's reason for not starting a thread.
    pub fn start(self, cpus: &[usize]) -> Result<()> {
        let cpus = cpus.to_vec();
        let run = move || {
            if let Err(error) = sys::set_affinity(&cpus) {
                tracing::warn!(%error, "the watching thread stays on the main lcore's CPU");
            }
            self.run()
        };
        std::thread::Builder::new().name(WATCH.into()).spawn(run).context("starting the watching thread")?;
        Ok(())
    }

    fn run(&self) -> ! {
        // Twice as often as the manager asks for, as it advises.
        let feed_every = sd_notify::watchdog_enabled().map(|period| period / 2);
        let mut fed = Instant::now();
        let mut told_ready = false;
        let mut said = Instant::now();
        loop {
            std::thread::sleep(EVERY);
            let now = Instant::now();
            for change in self.pulses.look(now) {
                if change.still {
                    tracing::error!(target: "vxswitch::thread", thread = %change.thread, seconds = STILL.as_secs(), "a thread stands still");
                } else {
                    tracing::warn!(target: "vxswitch::thread", thread = %change.thread, "a thread goes on");
                }
            }
            if now.saturating_duration_since(said) >= SAY_EVERY {
                said = now;
                log::say_what_was_left_out();
            }
            let still = self.pulses.still(now);
            if self.ending.awaited().is_some_and(|waited| waited > self.within) {
                self.end(&still);
            }
            if !told_ready && self.ready.load(Relaxed) {
                told_ready = true;
                // It may be another process than the manager started.
                let pid = NotifyState::MainPid(std::process::id());
                tell(&[pid, NotifyState::Ready, NotifyState::Status("forwarding")]);
            }
            if let Some(every) = feed_every
                && still.is_empty()
                && now.saturating_duration_since(fed) >= every
            {
                fed = now;
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    /// Ends the process without waiting for anybody.
    fn end(&self, still: &[String]) -> ! {
        let who = if still.is_empty() {
            "nobody stands still".to_owned()
        } else {
            format!("{} stands still", still.join(", "))
        };
        let seconds = self.within.as_secs_f64();
        let _ = writeln!(
            std::io::stderr(),
            "vxswitch: not stopped after {seconds} s ({who}): ending without closing devices"
        );
        self.socket.remove();
        sys::exit_now(FORCED)
    }
}

/// Tells the service manager, if there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// Tells the service manager that the end begins.
pub fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}
