//! Child processes that do not outlive the measurement, and the CPU time of their worker threads.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a system may take to start.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);
/// What the PMD threads of the systems are called: DPDK's lcores, OVS's.
const WORKER_NAMES: [&str; 3] = ["lcore-worker", "rte-worker", "pmd-c"];

/// A running child. Killed when dropped, and by the kernel when this program dies in any way.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, output and errors into `log`, with a pipe as its standard input.
    pub fn start<S: AsRef<OsStr>>(
        program: &str,
        args: impl IntoIterator<Item = S>,
        env: &[(&str, &Path)],
        log: PathBuf,
    ) -> Result<Process> {
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(args);
        command.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        command.envs(env.iter().copied());
        let child = command.spawn().context("cannot start setpriv (package util-linux)")?;
        Ok(Process { child, name: program.to_owned(), log })
    }

    /// Process id: also the program's own, as the starters before it in the line exec it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it reads from.
    pub fn stdin(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().context("standard input was taken before")
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Says why, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
            bail!("{} ended with {status}; its last words:\n  {last}", self.name);
        }
        Ok(())
    }

    /// Waits until `ready` gives something.
    pub fn wait_for<T>(&mut self, what: &str, mut ready: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(value) = ready(self) {
                return Ok(value);
            }
            self.check()?;
            if start.elapsed() > START_TIMEOUT {
                let output = self.output();
                bail!("{}: no {what} after {START_TIMEOUT:?}; it wrote:\n{output}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The schedstat files of its worker threads, once there are `workers` of them.
    pub fn workers(&mut self, workers: usize) -> Result<Vec<PathBuf>> {
        self.wait_for("worker threads", |process| {
            let threads = worker_threads(process.pid());
            (threads.len() == workers).then_some(threads)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn worker_threads(pid: u32) -> Vec<PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let is_worker = |task: &PathBuf| {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        WORKER_NAMES.iter().any(|worker| name.starts_with(worker))
    };
    tasks.map(|task| task.path()).filter(is_worker).map(|task| task.join("schedstat")).collect()
}

/// Nanoseconds that threads have run on a CPU. Whatever else the machine does, this is what their packets cost.
pub fn cpu_nanoseconds(schedstats: &[PathBuf]) -> Result<u64> {
    schedstats.iter().try_fold(0, |sum, path| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let first = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        Ok(sum + first.with_context(|| format!("{}: expected a number, found {text:?}", path.display()))?)
    })
}

/// Runs a command to its end and returns what it printed.
pub fn run<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    env: &[(&str, &Path)],
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied());
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_dies_is_noticed_and_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-c", "echo no device >&2; exit 3"];
        let mut child = Process::start("sh", args, &[], dir.path().join("log")).unwrap();
        let error = child.wait_for("anything", |_| None::<()>).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no device"), "{error}");
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let child = Process::start("sleep", ["60"], &[], dir.path().join("log")).unwrap();
        let path = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(path.exists());
        drop(child);
        assert!(!path.exists());
    }

    #[test]
    fn the_time_of_a_thread_goes_up() {
        // The process's own entry is that of its first thread, which waits while the tests run.
        let own = [PathBuf::from("/proc/thread-self/schedstat")];
        let before = cpu_nanoseconds(&own).unwrap();
        let start = Instant::now();
        while cpu_nanoseconds(&own).unwrap() == before {
            assert!(start.elapsed() < Duration::from_secs(10), "no time was counted");
        }
    }
}
