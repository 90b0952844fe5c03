//! Packet in, packet out: net_pcap feeds captures to the running switch and takes down what it sends; scapy,
//! which shares no code with us, says what that has to be, byte for byte.

#[path = "../support/mod.rs"]
mod support;

mod decapsulation;
mod encapsulation;
mod malformed;
mod vlan;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use support::daemon::Daemon;
use support::{capture, eventually, scapy};
use tempfile::TempDir;

/// The switch's VTEP: MAC and address.
const VTEP: (&str, &str) = ("02:00:00:00:0a:01", "192.168.1.1");
/// The remote VTEP on the same network.
const REMOTE: (&str, &str) = ("02:00:00:00:0a:02", "192.168.1.2");
/// The next hop to all others.
const GATEWAY: (&str, &str) = ("02:00:00:00:0a:fe", "192.168.1.254");

/// The underlay, its neighbours static because nobody answers ARP in a capture.
const UNDERLAY: &str = r#"
[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24", "192.168.1.5/24"]
route = [{ to = "0.0.0.0/0", via = "192.168.1.254" }]
neighbour = [
    { ip = "192.168.1.2", mac = "02:00:00:00:0a:02" },
    { ip = "192.168.1.254", mac = "02:00:00:00:0a:fe" },
]

[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_pcap9,rx_pcap=DIR/uplink.in.pcap,tx_pcap=DIR/uplink.out.pcap" }
"#;

/// A bridge port that is a pair of captures.
fn pcap_port(name: &str, number: u32, more: &str) -> String {
    format!(
        "[[bridge.port]]\nname = \"{name}\"\ntype = \"dpdk\"\n{more}\noptions = {{ dpdk-devargs = \
         \"net_pcap{number},rx_pcap=DIR/{name}.in.pcap,tx_pcap=DIR/{name}.out.pcap\" }}\n"
    )
}

/// A MAC that says which case a frame belongs to.
fn case_mac(kind: u8, case: usize) -> String {
    format!("02:00:00:{kind:02x}:{:02x}:{:02x}", case >> 8, case & 0xff)
}

/// The case of a frame with such a MAC at `at`.
fn case_of(frame: &[u8], at: usize) -> usize {
    let mac = frame.get(at..at + 6).unwrap_or_else(|| panic!("no MAC at {at}: {}", scapy::hex(frame)));
    usize::from(mac[4]) << 8 | usize::from(mac[5])
}

/// A switch with captures for devices.
struct Run {
    daemon: Daemon,
    dir: TempDir,
}

impl Run {
    /// Starts a switch that reads `input`, by port, and waits until it is through with all of it.
    fn new(config: &str, input: &[(&str, Vec<Vec<u8>>)]) -> Run {
        let dir = TempDir::new().expect("temporary directory");
        for (port, frames) in input {
            capture::write(&dir.path().join(format!("{port}.in.pcap")), frames);
        }
        let config = config.replace("DIR", &dir.path().display().to_string());
        let daemon = Daemon::start(&config, "0");
        let total: usize = input.iter().map(|(_, frames)| frames.len()).sum();
        eventually("the switch has read its captures", Duration::from_secs(20), || {
            let (rx, held) = (daemon.total("rx_packets"), daemon.total("held"));
            (rx == total as u64 && held == 0).then_some(())
        });
        daemon.assert_balanced();
        Run { daemon, dir }
    }

    /// Stops the switch: what it sent, by port.
    fn output<const N: usize>(mut self, ports: [&str; N]) -> [Vec<Vec<u8>>; N] {
        self.daemon.stop();
        ports.map(|port| read(self.dir.path(), port))
    }
}

fn read(dir: &Path, port: &str) -> Vec<Vec<u8>> {
    capture::read(&dir.join(format!("{port}.out.pcap")))
}

/// Drops by reason, as they shall be.
fn reasons(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    expected.iter().map(|(reason, packets)| ((*reason).to_owned(), *packets)).collect()
}

/// What differs between frames, by what they are about: a test shows all of it, not the first alone.
#[derive(Default)]
struct Differences(BTreeMap<String, String>);

impl Differences {
    /// Compares a frame with the one that scapy built.
    fn compare(&mut self, what: &str, sent: &[u8], expected: &[u8]) {
        if sent != expected {
            let both = format!("    sent: {}\nexpected: {}", scapy::hex(sent), scapy::hex(expected));
            self.0.entry(what.to_owned()).or_insert(both);
        }
    }

    /// Nothing differs.
    #[track_caller]
    fn assert_none(&self) {
        let all: Vec<String> = self.0.iter().map(|(what, both)| format!("{what}:\n{both}")).collect();
        assert!(all.is_empty(), "frames differ from scapy's\n{}", all.join("\n"));
    }
}
