//! How the threads tell each other to end, and how a panic in any of them reaches all.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How the threads tell each other to end.
#[derive(Debug, Default)]
pub struct Ending {
    /// Workers end their loops, and who serves users ends.
    pub stop: AtomicBool,
    /// Something broke: no orderly end is possible.
    pub failed: AtomicBool,
    /// Wakes the control thread.
    pub wake: Notify,
    /// Since when the end is awaited.
    began: OnceLock<Instant>,
}

impl Ending {
    /// The end has been asked for: control closes everything, and the time that this may take runs.
    pub fn begin(&self) {
        // The first time counts.
        let _ = self.began.set(Instant::now());
        self.wake.notify_one();
    }

    /// Something broke.
    pub fn fail(&self) {
        self.failed.store(true, Relaxed);
        self.stop.store(true, Relaxed);
        self.begin();
    }

    /// How long the end has been awaited; `None`: it is not.
    pub fn awaited(&self) -> Option<Duration> {
        self.began.get().map(Instant::elapsed)
    }
}

/// Makes every panic, in whatever thread or task, the end of the process, with a line that says so: what a thread
/// leaves behind half done must not go on.
pub fn end_on_panic(ending: &Arc<Ending>) {
    let (report, ending) = (std::panic::take_hook(), Arc::clone(ending));
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("of a worker");
        // Nobody may be reading, which is no reason to go on.
        let _ = writeln!(std::io::stderr(), "vxswitch: thread {name} panicked: stopping");
        ending.fail();
    }));
}
