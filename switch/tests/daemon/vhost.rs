//! Ports that join two processes: `dpdkvhostuserclient`, with testpmd's virtio-user device as the virtual machine, and
//! devices of DPDK that are memory between two switches.

use crate::running::{Daemon, EAL};
use crate::support::skipped;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A virtual machine that listens on a socket and sends or receives, until it is dropped.
struct Guest {
    child: std::process::Child,
    socket: PathBuf,
}

impl Guest {
    fn new(socket: &Path, mode: &str, number: u32) -> Guest {
        Guest::with_queues(socket, mode, number, 1)
    }

    fn with_queues(socket: &Path, mode: &str, number: u32, queues: u16) -> Guest {
        let device = format!("net_virtio_user0,path={},server=1,queues={queues}", socket.display());
        let queues = [format!("--rxq={queues}"), format!("--txq={queues}"), "--auto-start".to_owned()];
        Guest::launch(socket, &device, mode, number, &queues)
    }

    /// testpmd with a device, which it polls at once or as it is told.
    fn launch(socket: &Path, device: &str, mode: &str, number: u32, options: &[String]) -> Guest {
        let prefix = format!("--file-prefix=vxg{}.{number}", std::process::id());
        let device = format!("--vdev={device}");
        let mut command = Command::new("dpdk-testpmd");
        command.args([
            "--no-huge",
            "--no-shconf",
            "--no-pci",
            "--no-telemetry",
            "-m",
            "64",
            "--lcores=0,1@0",
        ]);
        command.args([&prefix, &device]);
        command.args(["--", "--total-num-mbufs=2048"]).arg(format!("--forward-mode={mode}")).args(options);
        // It ends when its input does.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Guest { child: command.spawn().expect("dpdk-testpmd starts"), socket: socket.to_owned() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The next one makes it anew.
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[test]
fn virtual_machines_come_go_and_come_again() {
    const TEST: &str = "virtual_machines_come_go_and_come_again";
    if !Command::new("which").arg("dpdk-testpmd").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skipped(TEST, "needs dpdk-testpmd");
    }
    let dir = tempfile::TempDir::new().expect("temporary directory");
    let sockets = ["a", "b"].map(|name| dir.path().join(name));
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    for (name, socket) in ["a", "b"].iter().zip(&sockets) {
        let path = socket.display();
        daemon.ctl(&format!(
            "add-port br0 {name} -- set interface {name} type=dpdkvhostuserclient options:vhost-server-path={path}"
        ));
    }
    let link = |name: &str| daemon.ctl(&format!("get interface {name} link_state")).trim().to_owned();
    assert_eq!((link("a"), link("b")), ("down".to_owned(), "down".to_owned()), "nobody listens yet");
    for round in 0..2 {
        let sink = Guest::new(&sockets[1], "rxonly", 2 * round);
        daemon.eventually("the receiver's link is up", || link("b") == "up");
        let source = Guest::new(&sockets[0], "txonly", 2 * round + 1);
        daemon.eventually("the sender's link is up", || link("a") == "up");
        daemon.wait_for_more("a", "rx_packets", 1000);
        daemon.wait_for_more("b", "tx_packets", 1000);
        drop((source, sink));
        daemon.eventually("links are down", || link("a") == "down" && link("b") == "down");
    }
    // The port goes while its machine runs, and comes back to it.
    let sink = Guest::new(&sockets[1], "rxonly", 9);
    daemon.eventually("the receiver's link is up", || link("b") == "up");
    daemon.ctl("del-port b");
    drop(sink);
    assert_eq!(daemon.ctl("list-ports br0"), "a\n");
    let error = daemon.refused(&format!(
        "add-port br0 c -- set interface c type=dpdkvhostuserclient options:vhost-server-path={}",
        sockets[0].display()
    ));
    assert!(error.contains("in use by port a"), "{error}");
    daemon.stop();
}

#[test]
fn each_queue_of_a_machine_is_served() {
    const TEST: &str = "each_queue_of_a_machine_is_served";
    if !Command::new("which").arg("dpdk-testpmd").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skipped(TEST, "needs dpdk-testpmd");
    }
    let dir = tempfile::TempDir::new().expect("temporary directory");
    let socket = dir.path().join("vm");
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    let guest = Guest::with_queues(&socket, "txonly", 20, 3);
    let packets = |queue: u32| -> u64 {
        let name = format!("vxswitch_rx_queue_packets_total{{lcore=\"0\",port=\"vm\",queue=\"{queue}\"}}");
        let text = daemon.http("/metrics");
        let line = text.lines().find(|line| line.starts_with(&name));
        line.and_then(|line| line.split(' ').next_back()?.parse().ok()).unwrap_or(0)
    };
    // As many queues as it has, fewer, and more than it has.
    for queues in [3, 2, 4] {
        daemon.ctl(&format!(
            "add-port br0 vm -- set interface vm type=dpdkvhostuserclient options:vhost-server-path={} \
             options:n_rxq={queues}",
            socket.display()
        ));
        daemon.eventually("every queue receives", || (0..queues.min(3)).all(|queue| packets(queue) > 100));
        let status = daemon.ctl("get interface vm status:num_of_vrings");
        assert_eq!(status.trim().trim_matches('"'), "6");
        daemon.ctl("del-port vm");
    }
    drop(guest);
    daemon.stop();
}

/// How often a port goes and comes again.
const TIMES: usize = 10;

/// Packets that one switch makes up reach another through a port that they share.
fn joins(source: &str, sink: &str, rounds: usize) {
    const BRIDGE: &str = "[[bridge]]\nname = \"br0\"\n";
    let dir = tempfile::TempDir::new().expect("temporary directory");
    let socket = dir.path().join("socket").display().to_string();
    let (there, here) = (Daemon::start(BRIDGE), Daemon::start(BRIDGE));
    let add = |daemon: &Daemon, port: &str| {
        let port = port.replace("SOCKET", &socket);
        daemon.ctl(&format!("add-port br0 x -- set interface x {port}"));
    };
    add(&there, sink);
    add(&here, source);
    here.ctl("add-port br0 n -- set interface n type=dpdk options:dpdk-devargs=net_null0");
    // From and to the same address: a learning bridge keeps them.
    here.ctl("add-flow br0 in_port=n,actions=flood");
    there.wait_for_more("x", "rx_packets", 1000);
    if rounds == 0 {
        return;
    }
    for _ in 0..rounds {
        here.ctl("del-port x");
        add(&here, source);
        there.wait_for_more("x", "rx_packets", 1000);
    }
    here.stop();
    there.ctl("del-port x");
    there.stop();
}

#[test]
fn a_memory_interface_joins_two_switches() {
    let of = |role: &str| {
        format!("type=dpdk options:dpdk-devargs=net_memif0,role={role},socket=SOCKET,socket-abstract=no")
    };
    // Its driver unmaps the rings when the other side goes, also under a worker that is just reading them.
    joins(&of("client"), &of("server"), 0);
}

/// The other side is testpmd, which polls only while there is a connection: in each turn it takes more than the ring has room for.
#[test]
fn a_memory_interface_goes_and_comes() {
    const TEST: &str = "a_memory_interface_goes_and_comes";
    if !Command::new("which").arg("dpdk-testpmd").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skipped(TEST, "needs dpdk-testpmd");
    }
    let dir = tempfile::TempDir::new().expect("temporary directory");
    let socket = dir.path().join("memif");
    let device = format!("net_memif0,role=server,socket={},socket-abstract=no", socket.display());
    let mut peer = Guest::launch(&socket, &device, "rxonly", 30, &["--interactive".to_owned()]);
    let mut tell = peer.child.stdin.take().expect("a pipe");
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    daemon.eventually("testpmd listens", || socket.exists());
    daemon.ctl("add-port br0 n -- set interface n type=dpdk options:dpdk-devargs=net_null0");
    daemon.ctl("add-flow br0 in_port=n,actions=flood");
    for _ in 0..TIMES {
        let is_up = || daemon.ctl("get interface x link_state") == "up\n";
        // testpmd refuses a connection while it still closes the one before.
        daemon.eventually("it is connected", || {
            let _ = daemon.try_ctl("--if-exists del-port x");
            daemon.ctl(&format!(
                "add-port br0 x -- set interface x type=dpdk \
                 options:dpdk-devargs=net_memif0,role=client,socket={},socket-abstract=no",
                socket.display()
            ));
            let since = Instant::now();
            while !is_up() && since.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(20));
            }
            is_up()
        });
        writeln!(tell, "start").expect("testpmd reads");
        daemon.wait_for_more("x", "tx_packets", 5000);
        writeln!(tell, "stop").expect("testpmd reads");
        // It is stopped when it takes no more: the ring stays full.
        daemon.eventually("testpmd polls no more", || {
            let sent = || daemon.ctl("get interface x statistics:tx_packets");
            let before = sent();
            std::thread::sleep(Duration::from_millis(50));
            before == sent()
        });
        daemon.ctl("del-port x");
    }
    assert!(peer.child.try_wait().expect("a process").is_none(), "testpmd has ended");
    daemon.stop();
}

#[test]
fn a_virtio_user_device_joins_a_switch_to_a_vhost_port_of_another() {
    joins(
        "type=dpdk options:dpdk-devargs=net_virtio_user0,path=SOCKET,server=1",
        "type=dpdkvhostuserclient options:vhost-server-path=SOCKET",
        TIMES,
    );
}

#[test]
fn who_waits_for_nobody_is_refused_and_holds_nobody_up() {
    let daemon = Daemon::start("[[bridge]]\nname = \"br0\"\n");
    let dir = tempfile::TempDir::new().expect("temporary directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let add = format!(
        "add-port br0 x -- set interface x type=dpdk options:dpdk-devargs=net_virtio_user0,path={},server=1",
        at("nobody")
    );
    // The second time its socket's file is not in the way.
    for _ in 0..2 {
        let error = daemon.refused(&add);
        assert!(
            error.contains("nobody answered on") && error.contains("start the other end first"),
            "{error}"
        );
    }
    assert_eq!(daemon.ctl("list-ports br0"), "");
    // One that listens and says nothing.
    let _silent = std::os::unix::net::UnixListener::bind(at("silent")).expect("a socket");
    let error = daemon.refused(&add.replace("nobody,server=1", "silent"));
    assert!(error.contains("nobody answered on"), "{error}");
    // What is no socket.
    let error = daemon.refused(&format!(
        "add-port br0 x -- set interface x type=dpdkvhostuserclient options:vhost-server-path={}",
        dir.path().display()
    ));
    assert!(error.contains("expected a socket of vhost-user"), "{error}");
    daemon.stop();
}

/// Runs a script that plays guests; what it said, which has to end with `done`.
#[track_caller]
fn guests(daemon: &mut Daemon, script: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon").join(script);
    let output =
        Command::new("python3").arg("-B").arg(script).args(arguments).current_dir(daemon.dir.path()).output();
    let output = output.expect("python3 runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(daemon.child.try_wait().expect("a process").is_none(), "the switch has ended: {said}");
    assert!(output.status.success() && said.ends_with("done\n"), "{said}");
}

/// `negotiation.py` plays both guests.
#[test]
fn a_guest_is_given_what_it_has_negotiated() {
    let mut daemon = Daemon::start(
        r#"
[other_config]
vhost-sock-dir = "sockets"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "sender"
type = "dpdkvhostuser"
[[bridge.port]]
name = "receiver"
type = "dpdkvhostuser"
"#,
    );
    daemon.ctl("add-flow br0 priority=9,dl_type=0x88b5,actions=drop");
    daemon.ctl("add-flow br0 in_port=sender,actions=output:receiver");
    let status = |key: &str| {
        daemon.ctl(&format!("get interface receiver status:{key}")).trim().trim_matches('"').to_owned()
    };
    let socket = daemon.dir.path().join("sockets/receiver");
    assert_eq!((status("mode"), status("status")), ("server".into(), "disconnected".into()));
    assert_eq!(Path::new(&status("socket")), socket);
    guests(&mut daemon, "negotiation.py", &["sockets/sender", "sockets/receiver"]);
    let _dir = daemon.stop();
    assert!(!socket.exists(), "the socket goes with the port");
}

/// `hostile.py` plays it: descriptors and headers that lie, and messages that cannot be.
#[test]
fn a_hostile_guest_harms_nobody() {
    let mut daemon = Daemon::start_with(
        EAL,
        r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "hostile"
type = "dpdkvhostuser"
[[bridge.port]]
name = "good"
type = "dpdkvhostuser"
[[bridge.port]]
name = "n"
type = "dpdk"
options = { dpdk-devargs = "net_null0" }
[[bridge.port]]
name = "s"
type = "dpdk"
options = { dpdk-devargs = "net_null1,no-rx=1" }
"#,
        &[],
    );
    daemon.ctl("add-flow br0 in_port=n,actions=output:s,output:hostile");
    daemon.ctl("add-flow br0 in_port=hostile,actions=drop");
    daemon.ctl("add-flow br0 in_port=good,actions=output:s");
    let switch = daemon.child.id().to_string();
    guests(&mut daemon, "hostile.py", &["hostile", "good", "1", "1", &switch]);
    let count = |port: &str, what: &str| -> u64 {
        daemon.ctl(&format!("get interface {port} statistics:{what}")).trim().parse().expect("a number")
    };
    let drops = daemon.json("drops");
    let of_port = |row: &serde_json::Value| {
        let of = |pair: &serde_json::Value| (pair[0] == "hostile").then(|| pair[1].as_u64());
        row["ports"].as_array()?.iter().find_map(of).flatten()
    };
    let rows = drops["drops"].as_array().expect("rows");
    let of_hostile: BTreeMap<&str, u64> =
        rows.iter().filter_map(|row| Some((row["reason"].as_str()?, of_port(row)?))).collect();
    assert!(count("hostile", "rx_errors") > 100, "lies are counted");
    assert_eq!(of_hostile["virtio_header"], count("hostile", "rx_errors"));
    assert!(count("hostile", "tx_errors") > 0, "buffers that are too short are counted");
    assert_eq!(of_hostile["virtio_buffers"], count("hostile", "tx_errors"));
    // All that came by the port was dropped there, the rest of what is counted for it on its way out.
    let out = |reason: &&str| matches!(*reason, "tx_full" | "virtio_buffers");
    let (sent, received): (Vec<_>, Vec<_>) = of_hostile.iter().partition(|(reason, _)| out(reason));
    let sum = |of: &[(&&str, &u64)]| of.iter().map(|(_, n)| **n).sum::<u64>();
    assert_eq!(sum(&received), count("hostile", "rx_packets"), "{of_hostile:?}");
    assert!(sum(&sent) <= count("hostile", "tx_dropped"), "{of_hostile:?}");
    let log = daemon.errors();
    let why = "connection ended: memory that the virtual machine shares is not there";
    assert!(log.lines().any(|line| line.contains(why) && line.contains("port=hostile")), "{log}");
    assert_eq!((count("good", "rx_errors"), count("s", "tx_dropped")), (0, 0), "others notice nothing");
    daemon.wait_for_more("s", "tx_packets", 1000);
    daemon.ctl("del-port n");
    daemon.eventually("every packet is accounted for", || {
        let rows = daemon.json("lcore show");
        let sum = |names: &[&str]| names.iter().map(|name| rows[0][name].as_u64().unwrap()).sum::<u64>();
        sum(&["rx_packets", "injected", "copied", "tx_handoff_received"])
            == sum(&["tx_packets", "dropped", "punted", "merged", "tx_handoff_sent", "held"])
    });
    daemon.stop();
}
