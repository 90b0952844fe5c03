//! What the tests of the running switch share: namespaces, the daemon, captures, and scapy.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod capture;
pub mod daemon;
pub mod guest;
pub mod net;
pub mod scapy;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A number that no other call in this process gets: for names.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The `vxctl` of this build: a program of another package, which is built here when the test asks for it first.
pub fn vxctl() -> &'static Path {
    static VXCTL: OnceLock<PathBuf> = OnceLock::new();
    VXCTL.get_or_init(|| {
        let daemon = Path::new(env!("CARGO_BIN_EXE_vxswitch"));
        let mut build = Command::new(env!("CARGO"));
        // For a test of it and of the whole workspace, so that dependencies have the features that they have for the tests:
        // after a build of those nothing is left to do.
        build.args(["test", "--quiet", "--workspace", "--no-run", "--test", "help"]);
        if daemon.parent().is_some_and(|folder| folder.ends_with("release")) {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "vxctl cannot be built");
        daemon.with_file_name("vxctl")
    })
}

/// Whether the test can run as root does. If not, says so past the test harness' capture of output, and in
/// the file that `VXSWITCH_SKIPPED` names, from which `scripts/test` makes its summary.
#[must_use]
pub fn is_root(test: &str) -> bool {
    // The owner of a process' directory is its effective user.
    if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
        return true;
    }
    skipped(test, "needs root for network namespaces and taps");
    false
}

/// Says loudly that a test did not run.
pub fn skipped(test: &str, why: &str) {
    let line = format!("{test}: {why}\n");
    // Not `eprintln!`: the harness would swallow it.
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os("VXSWITCH_SKIPPED")
        && let Ok(mut file) = File::options().append(true).create(true).open(Path::new(&path))
    {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Held by a test that starts a switch: its workers poll, and this machine may have two cores only. Works across
/// test binaries and released by the kernel when a test dies.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File);

/// Waits for this test's turn.
pub fn turn() -> Turn {
    // By user: what root has made nobody else may open.
    let user = std::fs::metadata("/proc/self").map_or(0, |meta| meta.uid());
    let path = std::env::temp_dir().join(format!("vxswitch-tests-{user}.lock"));
    let file = File::options().create(true).truncate(false).write(true).open(&path).expect("lock file");
    file.lock().expect("lock");
    Turn(file)
}

/// Asks again and again until `ask` has an answer. Panics with `what` when `within` is over.
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
