//! A Linux virtual machine as the guest of a vhost-user port, and as a peer with what this kernel may lack: Geneve, GRE, VLANs.
//!
//! Needs root, QEMU and the kernel that `scripts/setup` fetches; without them the tests say that they are skipped.

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;
use support::daemon::Daemon;
use support::guest::{Guest, Net};
use support::net::{Host, Vxlan, device_name};
use support::{eventually, is_root, skipped, turn};

const VTEP: &str = "192.168.1.1";
const REMOTE: &str = "192.168.1.2";
/// The guest on the underlay.
const PEER: &str = "192.168.1.3";
const GUEST_MAC: &str = "02:00:00:00:02:01";

/// A host behind a tap with an address in the overlay and one in VLAN 10, a Linux VTEP on the underlay, and a virtual machine.
struct Lab {
    daemon: Daemon,
    guest: Guest,
    h1: Host,
    remote: Host,
    socket: String,
    _switch: Host,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Lab, String> {
        let dir = tempfile::TempDir::new().expect("temporary directory");
        let socket = dir.path().join("vm.sock");
        let net = Net::VhostUser { socket: &socket, listens: true, queues: 1 };
        let guest = Guest::boot(&net, GUEST_MAC, dir.path())?;
        let (h1, remote, switch) = (Host::new("h1"), Host::new("remote"), Host::new("switch"));
        let [a, uplink] = ["a", "u"].map(device_name);
        let socket = socket.display().to_string();
        let config = format!(
            r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "{a}"
type = "tap"
[[bridge.port]]
name = "vm"
type = "dpdkvhostuserclient"
options = {{ vhost-server-path = "{socket}" }}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "{REMOTE}", key = 100 }}

[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["{VTEP}/24"]
[[bridge.port]]
name = "{uplink}"
type = "tap"
"#
        );
        let daemon = Daemon::start_in(Some(&switch), &config, "0");
        h1.connect(&switch, &a, "02:00:00:00:01:01", 1400, "10.0.0.1/24");
        remote.connect(&switch, &uplink, "02:00:00:00:0a:02", 1500, &format!("{REMOTE}/24"));
        remote.vxlan(&Vxlan {
            name: "vxlan100",
            vni: 100,
            local: REMOTE,
            remote: VTEP,
            underlay: &uplink,
            mac: "02:00:00:00:01:03",
            mtu: 1450,
            address: "10.0.0.3/24",
        });
        guest.wait();
        Ok(Lab { daemon, guest, h1, remote, socket, _switch: switch, _dir: dir })
    }

    /// Moves the virtual machine to another bridge.
    fn move_to(&mut self, bridge: &str) {
        self.daemon.vxctl("del-port vm");
        self.daemon.vxctl(&format!(
            "add-port {bridge} vm -- set interface vm type=dpdkvhostuserclient options:vhost-server-path={}",
            self.socket
        ));
        self.wait_for_guest();
    }

    fn wait_for_guest(&self) {
        eventually("the guest is connected", Duration::from_secs(20), || {
            (self.daemon.vxctl("get interface vm link_state").trim() == "up").then_some(())
        });
    }

    fn status(&self, key: &str) -> String {
        let row = self.daemon.json("list interface vm");
        row[0]["status"][key].as_str().unwrap_or_default().to_owned()
    }

    /// TCP both ways between the guest and a host, at least so fast.
    #[track_caller]
    fn tcp(&mut self, with_remote: bool, address: &str, seconds: u32, least: f64) {
        let host = if with_remote { &self.remote } else { &self.h1 };
        for options in ["", "-R"] {
            let throughput = self.guest.iperf3(host, address, seconds, options);
            println!("iperf3 {address} {options}: {:.0} Mbit/s", throughput / 1e6);
            assert!(throughput > least, "iperf3 {address} {options}: {throughput} bit/s");
        }
    }
}

/// TCP checksum errors that a host has seen.
fn checksum_errors(host: &Host) -> u64 {
    let text = host.sh("nstat -asz TcpInCsumErrors UdpInCsumErrors IcmpInCsumErrors");
    let numbers = text.lines().filter(|line| !line.starts_with('#'));
    numbers
        .map(|line| line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn a_linux_guest_has_offloads_through_vxlan_and_is_a_peer_with_geneve_gre_and_vlans() {
    const TEST: &str = "a_linux_guest_has_offloads_through_vxlan_and_is_a_peer_with_geneve_gre_and_vlans";
    if !is_root(TEST) {
        return;
    }
    let _turn = turn();
    let mut lab = match Lab::new() {
        Ok(lab) => lab,
        Err(why) => return skipped(TEST, &why),
    };
    lab.wait_for_guest();
    assert_eq!(lab.status("status"), "connected");
    assert_eq!((lab.status("mode"), lab.status("num_of_vrings")), ("client".into(), "2".into()));
    assert_eq!(lab.status("vring_0_size"), "256");

    // Large segments and partial checksums, through a tunnel to a Linux VTEP.
    lab.guest.configure(1450, "10.0.0.9/24");
    lab.guest.ping("10.0.0.3");
    let full = lab.daemon.dropped("tx_full");
    lab.tcp(true, "10.0.0.3", 3, 20e6);
    assert_eq!(lab.daemon.dropped("tx_full"), full, "a stream has lost packets at a full ring");
    let mean = |way: &str| {
        let count = |what: &str| lab.daemon.statistic("vm", &format!("{way}_{what}"));
        count("bytes") / count("packets").max(1)
    };
    assert!(mean("rx") > 1500, "the guest's segments are cut: {} bytes a packet", mean("rx"));
    assert!(mean("tx") > 1500, "segments for the guest are cut: {} bytes a packet", mean("tx"));
    assert_eq!((lab.guest.checksum_errors(), checksum_errors(&lab.remote)), (0, 0));

    // On the underlay, as the other end of tunnels.
    lab.move_to("br-phy");
    lab.guest.configure(1500, &format!("{PEER}/24"));
    lab.guest.ping(VTEP);
    for (kind, device, overlay) in [
        ("geneve", "geneve id 7 remote 192.168.1.1", "10.0.1"),
        ("gre", "gretap remote 192.168.1.1 local 192.168.1.3 key 7", "10.0.2"),
    ] {
        lab.daemon.vxctl(&format!(
            "add-port br0 t0 -- set interface t0 type={kind} options:remote_ip={PEER} options:key=7"
        ));
        lab.guest
            .sh(&format!("/usr/bin/ip link add peer type {device} && ip addr add {overlay}.9/24 dev peer"));
        lab.guest.sh("ip link set peer mtu 1400 up");
        let address = format!("{overlay}.1");
        lab.h1.ip(&format!("address add {address}/24 dev {}", lab.daemon_tap()));
        lab.guest.ping(&address);
        lab.tcp(false, &address, 1, 20e6);
        lab.guest.sh("ip link del peer");
        lab.daemon.vxctl("del-port t0");
    }

    // In a VLAN: tags come and go on the guest's port.
    lab.move_to("br0");
    let tap = lab.daemon_tap();
    lab.daemon.vxctl(&format!("set port {tap} tag=10"));
    lab.daemon.vxctl("set port vm trunks=10");
    lab.guest.sh(
        "/usr/bin/ip link add link eth0 name eth0.10 type vlan id 10 && ip addr add 10.0.3.9/24 dev eth0.10",
    );
    lab.guest.sh("ip link set eth0.10 mtu 1400 up");
    lab.h1.ip(&format!("address add 10.0.3.1/24 dev {tap}"));
    lab.guest.ping("10.0.3.1");
    lab.tcp(false, "10.0.3.1", 1, 20e6);
    assert_eq!((lab.guest.checksum_errors(), checksum_errors(&lab.h1)), (0, 0));
    lab.daemon.assert_balanced();
    lab.daemon.stop();
}

/// The switch makes the socket, has two workers, and frames are long; the guest sends and receives by two queues.
#[test]
fn a_guest_with_two_queues_and_jumbo_frames_connects_to_the_switch_again_and_again() {
    const TEST: &str = "a_guest_with_two_queues_and_jumbo_frames_connects_to_the_switch_again_and_again";
    if !is_root(TEST) {
        return;
    }
    let _turn = turn();
    let (h1, switch) = (Host::new("h1"), Host::new("switch"));
    let a = device_name("a");
    let config = format!(
        r#"
[other_config]
vhost-sock-dir = "sockets"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "{a}"
type = "tap"
mtu = 9000
options = {{ persist = true }}
[[bridge.port]]
name = "vm"
type = "dpdkvhostuser"
mtu = 9000
options = {{ n_rxq = 2 }}
"#
    );
    let mut daemon = Daemon::start_in(Some(&switch), &config, "0@0,1@0,2@1");
    let net = Net::VhostUser { socket: &daemon.dir().join("sockets/vm"), listens: false, queues: 2 };
    let mut guest = match Guest::boot(&net, GUEST_MAC, daemon.dir()) {
        Ok(guest) => guest,
        Err(why) => return skipped(TEST, &why),
    };
    h1.connect(&switch, &a, "02:00:00:00:01:01", 9000, "10.0.0.1/24");
    guest.wait();
    let connected = |daemon: &Daemon| {
        eventually("the guest is connected", Duration::from_secs(20), || {
            (daemon.vxctl("get interface vm link_state").trim() == "up").then_some(())
        });
    };
    connected(&daemon);
    let row = daemon.json("list interface vm");
    let status = |key: &str| row[0]["status"][key].as_str().unwrap_or_default().to_owned();
    assert_eq!((status("mode"), status("num_of_vrings")), ("server".into(), "4".into()));
    guest.configure(9000, "10.0.0.9/24");

    // Long frames, both ways, in one piece.
    h1.ping("10.0.0.9", 3, "-s 8000 -M do").assert_lossless();
    h1.ping("10.0.0.9", 3, "-s 8972 -M do").assert_lossless();
    guest.sh("ping -q -c 3 -W 5 -s 8972 10.0.0.1");
    assert_eq!(daemon.dropped("mtu_exceeded"), 0);

    // Each queue of the guest is used: where it sends, by the CPU that sends.
    let metrics = format!("curl -s http://{}/metrics", daemon.metrics());
    let of_queue = |queue: u32| -> u64 {
        let text = switch.sh(&metrics);
        let label = format!("port=\"vm\",queue=\"{queue}\"");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("vxswitch_rx_queue_packets_total{") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    for cpu in 0..2 {
        let before = of_queue(cpu);
        guest.sh(&format!("taskset {} ping -q -c 10 -i 0.1 -W 5 10.0.0.1", 1 << cpu));
        let more = of_queue(cpu) - before;
        assert!(more >= 10, "queue {cpu} received {more} packets");
    }
    // And where it receives, by the worker that sends: each has its own queue.
    let received = |guest: &mut Guest| guest.sh("cat /sys/class/net/eth0/statistics/rx_packets");
    for lcore in [1, 2] {
        daemon.vxctl(&format!("set interface {a} other_config:pmd-rxq-affinity=0:{lcore},1:{lcore}"));
        let before = received(&mut guest);
        h1.ping("10.0.0.9", 3, "-s 8000 -M do").assert_lossless();
        assert_ne!(received(&mut guest), before);
    }
    for options in ["", "-R", "-P 4"] {
        let throughput = guest.iperf3(&h1, "10.0.0.1", 1, options);
        println!("iperf3 {options}: {:.0} Mbit/s", throughput / 1e6);
        assert!(throughput > 20e6, "iperf3 {options}: {throughput} bit/s");
    }
    assert_eq!((guest.checksum_errors(), checksum_errors(&h1)), (0, 0));
    daemon.assert_balanced();

    // The switch ends and comes again, the port goes and comes again: QEMU connects to it each time.
    h1.ip(&format!("link set {a} netns {}", switch.name));
    daemon.stop();
    daemon.restart();
    h1.connect(&switch, &a, "02:00:00:00:01:01", 9000, "10.0.0.1/24");
    connected(&daemon);
    guest.ping("10.0.0.1");
    daemon.vxctl("del-port vm");
    daemon.vxctl("add-port br0 vm -- set interface vm type=dpdkvhostuser mtu_request=9000 options:n_rxq=2");
    connected(&daemon);
    h1.ping("10.0.0.9", 3, "-s 8000 -M do").assert_lossless();
    daemon.assert_balanced();
    daemon.stop();
}

impl Lab {
    /// The host's tap.
    fn daemon_tap(&self) -> String {
        let ports = self.daemon.vxctl("list-ports br0");
        ports.lines().find(|name| name.starts_with("va")).expect("the tap").to_owned()
    }
}
