//! Tries devices again that did not start.

use super::app::App;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked whose turn it is.
const EVERY: Duration = Duration::from_millis(250);

/// Tries until the task is aborted.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for port in app.faults.due(Instant::now()) {
            app.switch.lock().await.retry(&port).await;
        }
    }
}
