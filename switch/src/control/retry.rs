//! Tries again what did not work: devices that did not start, a file that could not be written.

use super::app::App;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked whose turn it is.
const EVERY: Duration = Duration::from_millis(250);

/// How often a file that could not be written is tried again.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Tries until the task is aborted.
pub async fn run(app: Arc<App>) {
    let mut tried = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        if app.unsaved().is_some() && tried.elapsed() >= SAVE_EVERY {
            tried = Instant::now();
            // What is wrong with it is said where it is kept.
            let _ = app.persist().await;
        }
        for port in app.faults.due(Instant::now()) {
            app.switch.lock().await.retry(&port).await;
        }
    }
}
