//! BFD on a vxlan port with Debian's Open vSwitch as the other end, its userspace datapath in a network namespace.
//!
//! Needs root; without it, or without Open vSwitch, the tests say that they are skipped.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::net::{Host, device_name, run};
use support::{eventually, is_root, skipped, turn};
use tempfile::TempDir;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The switch with and without DPDK, which is not used.
const VSWITCHD: [&str; 2] =
    ["/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk", "/usr/lib/openvswitch-switch/ovs-vswitchd"];
const PATIENCE: Duration = Duration::from_secs(40);

/// A host port and two tunnels, the first with a session; the second goes elsewhere.
const CONFIG: &str = r#"
[[bridge]]
name = "br0"
groups = ["group_id=1,type=ff,bucket=watch_port:vx,output:vx,bucket=watch_port:vx2,output:vx2"]
flows = ["in_port=p1,actions=group:1", "priority=1,actions=drop"]

[[bridge.port]]
name = "p1"
type = "dpdk"
options = { dpdk-devargs = "net_null0,no-rx=1" }

[[bridge.port]]
name = "vx"
type = "vxlan"
options = { remote_ip = "192.168.1.2", key = 100 }
bfd = { enable = "true", min_rx = "300", min_tx = "300" }

[[bridge.port]]
name = "vx2"
type = "vxlan"
options = { remote_ip = "192.168.1.3", key = 100 }

[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:01"
address = ["192.168.1.1/24"]
neighbour = [{ ip = "192.168.1.3", mac = "02:00:00:00:0a:03" }]

[[bridge.port]]
name = "uplink"
type = "dpdk"
options = { dpdk-devargs = "net_tap0,iface=DEVICE" }
"#;

/// A running Open vSwitch.
struct Ovs {
    children: Vec<Child>,
    dir: TempDir,
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.path().join("vswitchd.log")).unwrap_or_default());
        }
    }
}

impl Ovs {
    /// On a host with this device as its uplink, whose address becomes the VTEP's.
    fn start(vswitchd: &Path, host: &Host, device: &str) -> Ovs {
        let dir = TempDir::new().expect("temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        run(Command::new("ovsdb-tool").args(["create", &path("conf.db"), SCHEMA]));
        let spawn = |log: &str, words: &[&str]| {
            let log = File::create(dir.path().join(log)).expect("log");
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &host.name]).args(words).env("OVS_RUNDIR", dir.path());
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            child.expect("a program of Open vSwitch")
        };
        let socket = format!("unix:{}", path("db.sock"));
        let (remote, control) = (format!("--remote=p{socket}"), format!("--unixctl={}", path("db.ctl")));
        let database = spawn("db.log", &["ovsdb-server", &path("conf.db"), &remote, &control]);
        eventually("ovsdb-server listens", PATIENCE, || dir.path().join("db.sock").exists().then_some(()));
        let control = format!("--unixctl={}", path("vs.ctl"));
        let program = vswitchd.display().to_string();
        let switch = spawn("vswitchd.log", &[&program, &socket, &control]);
        let ovs = Ovs { children: vec![database, switch], dir };
        ovs.vsctl("--no-wait init");
        ovs.vsctl(&format!(
            "add-br br-phy -- set bridge br-phy datapath_type=netdev other_config:hwaddr=02:00:00:00:0a:02 \
             -- add-port br-phy {device} -- add-br br0 -- set bridge br0 datapath_type=netdev"
        ));
        host.ip("address add 192.168.1.2/24 dev br-phy");
        host.ip("link set br-phy up");
        ovs.vsctl(
            "add-port br0 vx -- set interface vx type=vxlan options:remote_ip=192.168.1.1 options:key=100 \
             bfd:enable=true bfd:min_rx=200 bfd:min_tx=200",
        );
        ovs
    }

    fn vsctl(&self, words: &str) -> String {
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db=unix:{}", self.dir.path().join("db.sock").display()));
        run(command.arg("--timeout=30").args(words.split_whitespace())).trim().to_owned()
    }

    fn status(&self, key: &str) -> String {
        self.vsctl(&format!("--if-exists get interface vx bfd_status:{key}")).replace('"', "")
    }
}

fn status(daemon: &Daemon, key: &str) -> String {
    daemon.vxctl(&format!("get interface vx bfd_status:{key}")).trim().replace('"', "")
}

#[test]
fn open_vswitch_is_watched_and_watches_us() {
    const TEST: &str = "bfd::open_vswitch_is_watched_and_watches_us";
    if !is_root(TEST) {
        return;
    }
    let Some(vswitchd) = VSWITCHD.iter().map(PathBuf::from).find(|path| path.exists()) else {
        return skipped(TEST, "needs Open vSwitch; scripts/setup installs it");
    };
    let _turn = turn();
    let (switch, peer) = (Host::new("switch"), Host::new("peer"));
    let device = device_name("u");
    let lcores = if std::thread::available_parallelism().is_ok_and(|n| n.get() > 1) { "0,1" } else { "0" };
    let mut daemon = Daemon::start_in(Some(&switch), &CONFIG.replace("DEVICE", &device), lcores);
    assert_eq!((status(&daemon, "state"), status(&daemon, "forwarding")), ("down".into(), "false".into()));
    switch.ip(&format!("link set {device} netns {}", peer.name));
    peer.ip(&format!("link set {device} address 02:00:00:00:0a:02 mtu 1600 up"));
    let ovs = Ovs::start(&vswitchd, &peer, &device);

    let up = |what: &str| {
        eventually(what, PATIENCE, || {
            let ours =
                (status(&daemon, "state"), status(&daemon, "forwarding"), status(&daemon, "remote_state"));
            let theirs = (ovs.status("state"), ovs.status("forwarding"), ovs.status("remote_state"));
            let wanted = ("up".to_owned(), "true".to_owned(), "up".to_owned());
            (ours == wanted && theirs == wanted).then_some(())
        });
    };
    up("both ends are up");
    let shown = daemon.vxctl("bfd show vx");
    for line in [
        "Forwarding: true",
        "Local Session State: up",
        "Remote Minimum TX Interval: 200ms",
        "TX Interval: Approx 300ms",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(daemon.vxctl("show").contains("bfd: forwarding, up here, up there"));
    let flaps = (status(&daemon, "flap_count"), ovs.status("flap_count"));

    // It says that something is broken behind it.
    ovs.vsctl("set interface vx bfd:cpath_down=true");
    eventually("we are told", PATIENCE, || (status(&daemon, "forwarding") == "false").then_some(()));
    assert_eq!(status(&daemon, "remote_diagnostic"), "Concatenated Path Down");
    assert_eq!(status(&daemon, "state"), "up");
    ovs.vsctl("set interface vx bfd:cpath_down=false");
    up("it is as before");
    // And we do.
    daemon.vxctl("set interface vx bfd:cpath_down=true");
    eventually("it is told", PATIENCE, || (ovs.status("forwarding") == "false").then_some(()));
    assert_eq!(ovs.status("remote_diagnostic"), "Concatenated Path Down");
    daemon.vxctl("set interface vx bfd:cpath_down=false");
    up("it is as before again");
    // Other intervals are agreed on while the session is up.
    daemon.vxctl("set interface vx bfd:min_rx=500 bfd:min_tx=600");
    eventually("the intervals hold", PATIENCE, || {
        let shown = daemon.vxctl("bfd show");
        (shown.contains("TX Interval: Approx 600ms") && shown.contains("RX Interval: Approx 500ms"))
            .then_some(())
    });
    up("the session has stayed up");
    let flaps_now: Vec<u32> = [status(&daemon, "flap_count"), ovs.status("flap_count")]
        .iter()
        .map(|n| n.parse().expect("a number"))
        .collect();
    let expected: Vec<u32> =
        [flaps.0, flaps.1].iter().map(|n| n.parse::<u32>().expect("a number") + 2).collect();
    assert_eq!(flaps_now, expected);

    // A dead path: three intervals of half a second.
    peer.ip(&format!("link set {device} down"));
    let cut = Instant::now();
    eventually("the path is seen to be dead", PATIENCE, || {
        (status(&daemon, "forwarding") == "false").then_some(())
    });
    assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
    assert_eq!(status(&daemon, "diagnostic"), "Control Detection Time Expired");
    let traced = daemon.ctl(&["trace", "br0", "in_port=p1,dl_dst=02:00:00:00:01:02"]);
    assert!(traced.contains("192.168.1.3"), "the group has gone to the next port: {traced}");
    peer.ip(&format!("link set {device} up"));
    up("the path is back");
    let traced = daemon.ctl(&["trace", "br0", "in_port=p1,dl_dst=02:00:00:00:01:02"]);
    assert!(traced.contains("192.168.1.2"), "{traced}");

    // Without a session nothing is watched, and the packets of the other end are like any others.
    daemon.vxctl("set interface vx bfd:enable=false");
    assert_eq!(daemon.vxctl("get interface vx bfd_status").trim(), "{}");
    eventually("the other end has seen it", PATIENCE, || (ovs.status("forwarding") == "false").then_some(()));
    let said = daemon.refused("set interface vx options:remote_ip=192.168.1.2,192.168.1.4 bfd:enable=true");
    assert!(said.contains("one fixed remote_ip"), "{said}");
    daemon.stop();
}
