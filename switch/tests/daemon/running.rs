//! A daemon that a test has started, and files of packets.

use crate::support::vxctl;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const EAL: &str = "--no-huge --no-shconf --no-pci --no-telemetry -m 256 -l 0";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon. It is killed if the test does not stop it.
pub struct Daemon {
    pub child: Child,
    pub dir: TempDir,
    pub metrics: String,
    pub lines: Vec<String>,
}

pub fn command(dir: &Path, own: &[&str]) -> Command {
    command_on(EAL, dir, own)
}

pub fn command_on(eal: &str, dir: &Path, own: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxswitch"));
    command.args(eal.split(' ')).arg("--").args(["--total-num-mbufs", "8191", "--metrics", "127.0.0.1:0"]);
    command.arg("--control").arg(dir.join("control.sock")).args(own).current_dir(dir);
    command.env_remove("VXSWITCH_CONTROL");
    command
}

impl Daemon {
    pub fn start(config: &str) -> Daemon {
        Daemon::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// Starts in `dir`, and returns when it is ready.
    pub fn start_in(dir: TempDir, config: &str) -> Daemon {
        Daemon::start_on(EAL, dir, config)
    }

    pub fn start_on(eal: &str, dir: TempDir, config: &str) -> Daemon {
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let command = command_on(eal, dir.path(), &["--config", "config.toml"]);
        Daemon::launch(command, dir)
    }

    /// Starts with more options of its own. Its errors go to a file.
    pub fn start_with(eal: &str, config: &str, own: &[&str]) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut command = command_on(eal, dir.path(), &["--config", "config.toml"]);
        command.args(own).stderr(fs::File::create(dir.path().join("errors")).unwrap());
        Daemon::launch(command, dir)
    }

    /// Starts with `kept.toml` in `dir`, which it keeps.
    pub fn start_kept(dir: TempDir) -> Daemon {
        let mut command = command_on(EAL, dir.path(), &["--persist", "kept.toml"]);
        command.stderr(Stdio::null());
        Daemon::launch(command, dir)
    }

    /// Starts with so many file descriptors at most.
    pub fn start_limited(eal: &str, dir: TempDir, config: &str, descriptors: u32) -> Daemon {
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let plain = command_on(eal, dir.path(), &["--config", "config.toml"]);
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        command.arg(plain.get_program()).args(plain.get_args()).current_dir(dir.path());
        Daemon::launch(command, dir)
    }

    /// What a daemon of [`Daemon::start_with`] wrote to stderr.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.dir.path().join("errors")).unwrap()
    }

    /// Starts this, and returns when it is ready.
    pub fn launch(mut command: Command, dir: TempDir) -> Daemon {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("vxswitch starts");
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let ready = line == "ready";
            lines.push(line);
            if ready {
                let metrics = lines.iter().find_map(|l| l.strip_prefix("metrics: http://"));
                let metrics = metrics.unwrap().trim_end_matches("/metrics").to_owned();
                return Daemon { child, dir, metrics, lines };
            }
        }
        let status = child.wait().unwrap();
        panic!("vxswitch ended with {status}: {lines:#?}");
    }

    pub fn try_ctl(&self, line: &str) -> Output {
        Command::new(vxctl())
            .arg("--control")
            .arg(self.dir.path().join("control.sock"))
            .args(line.split(' '))
            .output()
            .expect("vxctl runs")
    }

    /// What `vxctl` prints.
    #[track_caller]
    pub fn ctl(&self, line: &str) -> String {
        let output = self.try_ctl(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "vxctl {line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let output = self.try_ctl(line);
        assert!(!output.status.success(), "vxctl {line} did not fail");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[track_caller]
    pub fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ctl(&format!("-j {line}"))).unwrap()
    }

    pub fn http(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1"))
    }

    /// The answer of the metrics address to another method.
    pub fn http_with(&self, method: &str, path: &str) -> String {
        self.request(&format!("{method} {path} HTTP/1.1"))
    }

    /// The answer of the metrics address to somebody who accepts this.
    pub fn http_asking(&self, path: &str, accept: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1\r\nAccept: {accept}"))
    }

    /// Head and body of an answer to a request with these first lines.
    fn request(&self, lines: &str) -> String {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        write!(stream, "{lines}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Posts to the control API and hangs up at once.
    pub fn post_and_hang_up(&self, path: &str, body: &str) {
        let mut stream = UnixStream::connect(self.dir.path().join("control.sock")).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    }

    /// Waits until the interface's counter is at least `least`.
    #[track_caller]
    pub fn wait_for(&self, interface: &str, counter: &str, least: u64) {
        let start = Instant::now();
        loop {
            let text = self.ctl(&format!("get interface {interface} statistics:{counter}"));
            if text.trim().parse::<u64>().unwrap() >= least {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{interface} {counter} is {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the interface's counter is so much more than now.
    #[track_caller]
    pub fn wait_for_more(&self, interface: &str, counter: &str, more: u64) {
        let now = self.ctl(&format!("get interface {interface} statistics:{counter}"));
        self.wait_for(interface, counter, now.trim().parse::<u64>().unwrap() + more);
    }

    /// Waits until something is so.
    #[allow(clippy::unused_self, reason = "it is said of a daemon, as the other waits are")]
    #[track_caller]
    pub fn eventually(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it by SIGTERM, which must be clean.
    #[track_caller]
    pub fn stop(mut self) -> TempDir {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(kill.success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0), "{:#?}", self.lines);
        assert!(!self.dir.path().join("control.sock").exists(), "the socket's file goes with the daemon");
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const BASE: &str = r#"
[[bridge]]
name = "br0"
flows = ["priority=10,in_port=p0,actions=output:p1"]
[[bridge.port]]
name = "p0"
type = "dpdk"
options = { dpdk-devargs = "net_null0,size=64" }
[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_null1,no-rx=1" }
"#;

/// A bridge with a VTEP's address and an uplink, for behind [`BASE`].
pub const UNDERLAY: &str = r#"
[[bridge]]
name = "br-phy"
address = ["192.168.1.1/24"]
neighbour = [{ ip = "192.168.1.2", mac = "02:00:00:00:0a:02" }]
[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_null2,no-rx=1" }
"#;

pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    for frame in frames {
        let len = (frame.len() as u32).to_le_bytes();
        file.extend([[0; 4], [0; 4], len, len].concat());
        file.extend(frame);
    }
    fs::write(path, &file).unwrap();
}

/// The frames of a file in the machine's byte order.
pub fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    let (mut rest, mut frames) = (&file[24..], Vec::new());
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        frames.push(tail[..len].to_vec());
        rest = &tail[len..];
    }
    assert!(rest.is_empty(), "a record is cut off");
    frames
}
