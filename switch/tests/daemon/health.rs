//! Threads that stand still are noticed and named, and do not keep the process from ending.

use crate::running::{BASE, Daemon, EAL, PATIENCE};
use crate::support::eventually;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// A thread that is stopped as a debugger stops it.
struct Frozen(Pid);

impl Frozen {
    /// Stops the thread of that name.
    fn new(daemon: &Daemon, name: &str) -> Frozen {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
        let is_named = |path: &std::path::Path| fs::read_to_string(path.join("comm")).unwrap().trim() == name;
        let task = tasks.map(|task| task.unwrap().path()).find(|path| is_named(path));
        let task = task.unwrap_or_else(|| panic!("no thread {name}"));
        let pid = Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
        ptrace::seize(pid, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(pid).unwrap();
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        Frozen(pid)
    }

    /// Takes note of its end, without which the process does not go away.
    fn reap(&self) {
        let _ = waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
    }
}

impl Drop for Frozen {
    /// Lets go of it: as long as it is traced, nobody else can wait for the end of its process.
    fn drop(&mut self) {
        // It is gone already if all went well.
        let _ = ptrace::detach(self.0, None);
    }
}

#[test]
fn threads_that_stand_still_are_named_and_do_not_keep_it_alive() {
    let eal = EAL.replace("-l 0", "--lcores 0@0,1@0");
    for (thread, name) in [("rte-worker-1", "worker 1"), ("slow-path", "slow-path"), ("control", "control")] {
        let mut daemon = Daemon::start_with(&eal, BASE, &["--stop-timeout", "1"]);
        assert!(daemon.http("/healthz").starts_with("HTTP/1.1 200"));
        let frozen = Frozen::new(&daemon, thread);
        let named = format!("{name} stands still");
        eventually(&format!("{name} is named"), PATIENCE, || {
            let asked = Instant::now();
            let answer = daemon.http("/healthz");
            assert!(asked.elapsed() < Duration::from_secs(5), "/healthz took {:?}", asked.elapsed());
            (answer.starts_with("HTTP/1.1 503") && answer.contains(&named)).then_some(())
        });
        let ready = daemon.http("/readyz");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(&named), "{thread}: {ready}");
        let asked = Instant::now();
        let metrics = daemon.http("/metrics");
        assert!(asked.elapsed() < PATIENCE, "{thread}: /metrics took {:?}", asked.elapsed());
        assert_eq!(metrics.starts_with("HTTP/1.1 503"), thread == "slow-path", "{metrics}");
        assert!(Command::new("kill").arg(daemon.child.id().to_string()).status().unwrap().success());
        let status = eventually(&format!("it ends without {name}"), Duration::from_secs(10), || {
            frozen.reap();
            daemon.child.try_wait().unwrap()
        });
        assert_eq!(status.code(), Some(1), "{thread}");
        let errors = daemon.errors();
        assert!(errors.contains("not stopped after 1 s") && errors.contains(&named), "{thread}: {errors}");
        assert!(!daemon.dir.path().join("control.sock").exists());
    }
}
