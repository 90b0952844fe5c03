//! Hosts made of network namespaces.

use super::unique;
use std::process::{Child, Command, Stdio};

/// Runs a command to its end; what it printed.
///
/// # Panics
/// When it fails, with all that it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `ip` with these arguments, separated by blanks.
pub fn ip(arguments: &str) -> String {
    run(Command::new("ip").args(arguments.split_whitespace()))
}

/// A name for a kernel network device, at most 15 bytes long and not used by another test.
pub fn device_name(what: &str) -> String {
    format!("v{what}{:x}.{:x}", std::process::id(), unique())
}

/// A command in the background, killed when dropped.
#[derive(Debug)]
pub struct Background(Option<Child>);

impl Background {
    /// Starts it.
    pub fn start(command: &mut Command) -> Background {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Background(Some(child.unwrap_or_else(|e| panic!("{command:?}: {e}"))))
    }

    /// Waits for its end; what it printed.
    pub fn finish(mut self) -> String {
        let child = self.0.take().expect("a command ends once");
        let output = child.wait_with_output().expect("output of a background command");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let id = self.0.as_ref().expect("a command ends once").id();
        run(Command::new("kill").args([&format!("-{name}"), &id.to_string()]));
    }

    /// Interrupts it as Ctrl-C does, which makes ping and tcpdump print their summary, and waits for its end.
    pub fn interrupt(self) -> String {
        let id = self.0.as_ref().expect("a command ends once").id();
        run(Command::new("kill").args(["-INT", &id.to_string()]));
        self.finish()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Host {
    /// Name of the namespace.
    pub name: String,
}

impl Host {
    /// A host without devices. IPv6 is off: nobody shall talk unasked.
    pub fn new(what: &str) -> Host {
        let host = Host { name: format!("vxt-{}-{}-{what}", std::process::id(), unique()) };
        ip(&format!("netns add {}", host.name));
        host.sh("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        host.ip("link set lo up");
        host
    }

    /// A command that runs on this host, its words separated by blanks.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(line.split_whitespace());
        command
    }

    /// Runs a command on this host; see [`run`].
    pub fn sh(&self, line: &str) -> String {
        run(&mut self.command(line))
    }

    /// `ip` on this host.
    pub fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Starts a command on this host.
    pub fn background(&self, line: &str) -> Background {
        Background::start(&mut self.command(line))
    }

    /// Takes over the kernel side of a tap from `switch`, under its MAC and with its address. The MAC must not be the
    /// port's, which the kernel side has at first.
    pub fn connect(&self, switch: &Host, tap: &str, mac: &str, mtu: u16, address: &str) {
        switch.ip(&format!("link set {tap} netns {}", self.name));
        self.configure(tap, mac, mtu, address);
    }

    /// Brings a device of this host up with a MAC and an address.
    pub fn configure(&self, device: &str, mac: &str, mtu: u16, address: &str) {
        self.ip(&format!("link set {device} address {mac} mtu {mtu} up"));
        self.ip(&format!("address replace {address} dev {device}"));
    }

    /// A Linux vxlan device over `underlay` with a host address.
    pub fn vxlan(&self, spec: &Vxlan<'_>) {
        let Vxlan { name, vni, local, remote, underlay, mac, mtu, address } = spec;
        self.ip(&format!(
            "link add {name} type vxlan id {vni} dstport 4789 local {local} remote {remote} dev {underlay}"
        ));
        self.ip(&format!("link set {name} address {mac} mtu {mtu} up"));
        self.ip(&format!("address add {address} dev {name}"));
    }

    /// Pings and says how it went. `options` are more of ping's; with `-W` none or not all need be answered.
    pub fn ping(&self, to: &str, count: u32, options: &str) -> Ping {
        // After the last request ping waits for two round-trip times and no longer, which is too short on a busy machine.
        // With a deadline it waits for as many answers as it was asked for, and sends further requests meanwhile.
        let deadline = if options.contains("-W") { String::new() } else { format!("-w {}", 10 + count / 10) };
        let output = self
            .command(&format!("ping -n -c {count} -i 0.02 {deadline} {options} {to}"))
            .stdin(Stdio::null())
            .output()
            .expect("ping runs");
        Ping::parse(count, &String::from_utf8_lossy(&output.stdout))
    }

    /// Measures TCP throughput to an iperf3 server on `server`, in bits a second. `options` may say `-R`.
    pub fn iperf3(&self, server: &Host, to: &str, seconds: u32, options: &str) -> f64 {
        let listening = server.background("iperf3 -s -1");
        super::eventually("iperf3 listens", std::time::Duration::from_secs(5), || {
            (!server.sh("ss -Hltn sport = :5201").trim().is_empty()).then_some(())
        });
        let json = self.sh(&format!("iperf3 -J -c {to} -t {seconds} {options}"));
        drop(listening);
        let json: serde_json::Value = serde_json::from_str(&json).expect("iperf3 prints JSON");
        json["end"]["sum_received"]["bits_per_second"].as_f64().expect("iperf3 reports throughput")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// A Linux vxlan device.
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// VNI.
    pub vni: u32,
    /// Own VTEP address.
    pub local: &'a str,
    /// The other VTEP.
    pub remote: &'a str,
    /// Device below.
    pub underlay: &'a str,
    /// MAC.
    pub mac: &'a str,
    /// MTU.
    pub mtu: u16,
    /// Host address with prefix length.
    pub address: &'a str,
}

/// How a ping went.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Requests whose answers were waited for.
    count: u32,
    /// Requests.
    pub sent: u32,
    /// Answers.
    pub received: u32,
    /// Sequence numbers of the answers, in order of arrival.
    pub sequence: Vec<u32>,
    text: String,
}

impl Ping {
    fn parse(count: u32, text: &str) -> Ping {
        let summary = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
        let numbers: Vec<u32> = summary.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let sequence = text
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        Ping {
            count,
            sent: numbers.first().copied().unwrap_or(0),
            received: numbers.get(1).copied().unwrap_or(0),
            sequence,
            text: text.to_owned(),
        }
    }

    /// Every request was answered once, in order; of those that were sent beyond the number, some may be.
    #[track_caller]
    pub fn assert_lossless(&self) {
        assert!(self.sent > 0, "ping did not run: {}", self.text);
        let answered = self.count.max(self.sequence.len() as u32);
        let expected: Vec<u32> = (1..=answered).collect();
        assert_eq!(self.sequence, expected, "answers lost, doubled or out of order:\n{}", self.text);
    }

    /// The longest time that an answer took, milliseconds.
    #[track_caller]
    pub fn longest(&self) -> f64 {
        // rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms
        let times = self.text.lines().find_map(|line| line.strip_prefix("rtt ")?.split(" = ").nth(1));
        let longest = times.and_then(|times| times.split('/').nth(2)?.parse().ok());
        longest.unwrap_or_else(|| panic!("no times: {}", self.text))
    }

    /// No request was answered.
    #[track_caller]
    pub fn assert_silent(&self) {
        assert!(self.sent > 0, "ping did not run: {}", self.text);
        assert_eq!(self.received, 0, "somebody answered:\n{}", self.text);
    }
}
