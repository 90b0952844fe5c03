//! The switch under test: started with a configuration of the test's, asked through vxctl, stopped at the end.

use super::eventually;
use super::net::Host;
use super::unique;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long starting and stopping may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running vxswitch. Dropping it stops it; a test that fails then shows what it printed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    dir: TempDir,
    metrics: SocketAddr,
    lcores: String,
    prefix: String,
    netns: Option<String>,
    stopped: bool,
}

impl Daemon {
    /// Starts the switch with this configuration file. `lcores` is the value of EAL's `-l`, or, with an `@`, of `--lcores`. Returns
    /// when it is ready.
    pub fn start(config: &str, lcores: &str) -> Daemon {
        Daemon::start_in(None, config, lcores)
    }

    /// The same in a network namespace, if one is given.
    pub fn start_in(netns: Option<&Host>, config: &str, lcores: &str) -> Daemon {
        let dir = TempDir::new().expect("temporary directory");
        fs::write(dir.path().join("config.toml"), config).expect("configuration file");
        let prefix = format!("vxt{}.{}", std::process::id(), unique());
        let metrics = free_address();
        let netns = netns.map(|host| host.name.clone());
        let lcores = lcores.to_owned();
        let child = launch(dir.path(), metrics, &lcores, &prefix, netns.as_deref(), &[]);
        let mut daemon = Daemon { child, dir, metrics, lcores, prefix, netns, stopped: false };
        daemon.wait_ready();
        daemon
    }

    /// Starts another process in the place of one that was stopped or killed: same file, socket and names.
    pub fn restart(&mut self) {
        self.child = self.launch(&[]);
        self.stopped = false;
        self.wait_ready();
    }

    fn launch(&self, options: &[&str]) -> Child {
        launch(self.dir.path(), self.metrics, &self.lcores, &self.prefix, self.netns.as_deref(), options)
    }

    /// Starts another process that takes the place of the running one. Returns when it is ready, and the other has ended well.
    pub fn take_over(&mut self) {
        let first = self.dir.path().join("log.first");
        fs::rename(self.dir.path().join("log"), &first).expect("log");
        let new = self.launch(&["--take-over"]);
        let mut old = std::mem::replace(&mut self.child, new);
        self.wait_ready();
        let status = eventually("the first process ends", PATIENCE, || old.try_wait().expect("wait"));
        let log = fs::read_to_string(&first).unwrap_or_default();
        assert!(status.success(), "after the handover: {status}\n{log}");
        assert!(!log.contains("did not come back"), "packet buffers leaked:\n{log}");
    }

    /// Starts another process with these options that is to take the place of the running one, and cannot; what it said.
    pub fn refuse_take_over(&mut self, options: &[&str]) -> String {
        let (log, first) = (self.dir.path().join("log"), self.dir.path().join("log.first"));
        fs::rename(&log, &first).expect("log");
        let mut child = self.launch(&[&["--take-over"], options].concat());
        let status = eventually("it gives up", PATIENCE, || child.try_wait().expect("wait"));
        assert!(!status.success(), "it took over");
        let said = self.log();
        fs::rename(&first, &log).expect("log");
        said
    }

    fn wait_ready(&mut self) {
        eventually("the switch is ready", PATIENCE, || {
            if let Some(status) = self.child.try_wait().expect("wait") {
                self.stopped = true;
                panic!("the switch ended while it started, {status}:\n{}", self.log());
            }
            // The last line of the start: everything in the file is applied.
            self.log().lines().any(|line| line == "ready").then_some(())
        });
    }

    /// Its directory: configuration, captures, socket, log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The metrics address.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// A GET from the metrics address, head and body; empty when nobody answers. Not for a switch in a namespace.
    pub fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.metrics) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(super::vxctl());
        command.arg("--control").arg(self.dir.path().join("control.sock")).args(arguments);
        command
    }

    /// Runs vxctl; what it printed. Panics when it fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        super::net::run(&mut self.ctl_command(arguments))
    }

    /// The same with the words of one line.
    #[track_caller]
    pub fn vxctl(&self, line: &str) -> String {
        self.ctl(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs vxctl with the words of one line, which must fail; what it said.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.ctl_command(&words).output().expect("vxctl runs");
        assert!(!output.status.success(), "{line} is taken");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `vxctl -j` with the words of one line.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let text = self.vxctl(&format!("-j {line}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("vxctl -j {line}: {e}: {text}"))
    }

    /// Drops by reason, those that did not happen left out.
    #[track_caller]
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let answer = self.json("drops");
        let rows = answer["drops"].as_array().unwrap_or_else(|| panic!("vxctl -j drops: {answer}"));
        rows.iter()
            .map(|row| {
                let reason = row["reason"].as_str().expect("reason").to_owned();
                (reason, row["packets"].as_u64().expect("packets"))
            })
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    /// Drops for one reason.
    #[track_caller]
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or(0)
    }

    /// The rows of `vxctl -j lcore show`.
    #[track_caller]
    pub fn workers(&self) -> Vec<Value> {
        let answer = self.json("lcore show");
        answer.as_array().cloned().unwrap_or_else(|| panic!("vxctl -j lcore show: {answer}"))
    }

    /// Sum over all workers of a column of `lcore show`.
    #[track_caller]
    pub fn total(&self, column: &str) -> u64 {
        self.workers()
            .iter()
            .map(|row| row[column].as_u64().unwrap_or_else(|| panic!("no {column} in {row}")))
            .sum()
    }

    /// A value of `vxctl -j get interface NAME statistics`.
    #[track_caller]
    pub fn statistic(&self, interface: &str, name: &str) -> u64 {
        let answer = self.json(&format!("list interface {interface}"));
        let row = answer.as_array().and_then(|rows| rows.first()).unwrap_or(&answer);
        row["statistics"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer}"))
    }

    /// Every packet that came in left, was freed with a reason, or waits: on each worker, exactly. Asks until the
    /// workers are quiet, because counters are read one after the other while packets move.
    #[track_caller]
    pub fn assert_balanced(&self) {
        let sum = |row: &Value, columns: &[&str]| {
            columns.iter().map(|c| row[c].as_u64().unwrap_or_else(|| panic!("no {c} in {row}"))).sum::<u64>()
        };
        let mut last = Vec::new();
        for _ in 0..100 {
            last = self.workers();
            let even = last.iter().all(|row| {
                sum(row, &["rx_packets", "injected", "copied", "tx_handoff_received"])
                    == sum(row, &["tx_packets", "dropped", "punted", "merged", "tx_handoff_sent", "held"])
            });
            if even {
                return;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!(
            "rx_packets + injected + copied + tx_handoff_received != tx_packets + dropped + punted + merged + tx_handoff_sent + held: {last:#?}"
        );
    }

    /// The process is alive.
    #[track_caller]
    pub fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("wait");
        assert!(ended.is_none(), "the switch ended: {ended:?}\n{}", self.log());
    }

    /// Sends SIGTERM and waits for the end, which must be a clean one.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.terminate("TERM");
        let log = self.log();
        assert!(status.success(), "after SIGTERM: {status}\n{log}");
        assert!(!log.contains("did not come back"), "packet buffers leaked:\n{log}");
    }

    /// Sends SIGKILL: nothing is tidied up.
    pub fn kill(&mut self) {
        self.terminate("KILL");
    }

    fn terminate(&mut self, signal: &str) -> ExitStatus {
        super::net::run(Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()));
        self.stopped = true;
        eventually("the switch ends", PATIENCE, || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the switch printed:\n{}", self.log());
        }
    }
}

fn launch(
    dir: &Path,
    metrics: SocketAddr,
    lcores: &str,
    prefix: &str,
    netns: Option<&str>,
    options: &[&str],
) -> Child {
    let log = fs::File::create(dir.join("log")).expect("log");
    let vxswitch = env!("CARGO_BIN_EXE_vxswitch");
    let mut command = Command::new(if netns.is_some() { "ip" } else { vxswitch });
    if let Some(name) = netns {
        // `ip` becomes the switch, under the same process id.
        command.args(["netns", "exec", name, vxswitch]);
    }
    command
        .args([
            if lcores.contains('@') { "--lcores" } else { "-l" },
            lcores,
            "--no-huge",
            "--no-shconf",
            "--no-pci",
            "--no-telemetry",
            "-m",
            "256",
        ])
        .args(["--file-prefix", prefix, "--", "--config"])
        .arg(dir.join("config.toml"))
        .arg("--control")
        .arg(dir.join("control.sock"))
        .args(["--metrics", &metrics.to_string()])
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("vxswitch starts")
}

/// A loopback address with a port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}
