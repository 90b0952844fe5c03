//! `restart-handover`: a second daemon in the place of the running one.

use super::Failure;
use super::commands::Session;
use api::{Restarting, Show};
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts the daemon anew, and waits until the new process has taken over.
pub(super) fn run(session: &Session<'_>) -> Result<(), Failure> {
    const WITHIN: Duration = Duration::from_mins(1);
    let began = Instant::now();
    let started: Restarting = session.client.post("/v1/restart", &())?;
    while session.client.daemon() != Some(started.pid) {
        if !Path::new(&format!("/proc/{}", started.pid)).exists() {
            return Err(Failure::Refused(
                "the new process has ended: the running one goes on, and the log says why".to_owned(),
            ));
        }
        if began.elapsed() > WITHIN {
            return Err(Failure::Refused(format!(
                "process {} has not taken over within {WITHIN:?}",
                started.pid
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _: Show = session.client.get("/v1/show")?;
    let seconds = began.elapsed().as_secs_f64();
    session.show(&started, |started| format!("process {} has taken over after {seconds:.1} s\n", started.pid))
}
