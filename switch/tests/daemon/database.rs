//! The switch in `ovs-vswitchd`'s place: Debian's unmodified `ovsdb-server`, `ovs-vsctl` and `ovs-ofctl`.

use crate::running::{Daemon, EAL, PATIENCE, command_on};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A database server, in a directory of its own.
struct Database {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Database {
    /// In a network namespace of this thread's own, where the switch makes devices named as bridges. `None` without root.
    fn start() -> Option<Database> {
        use std::os::unix::fs::MetadataExt;
        if std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
            eprintln!("skipped: not root");
            return None;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let dir = tempfile::tempdir().unwrap();
        let made =
            Command::new("ovsdb-tool").arg("create").arg(dir.path().join("conf.db")).arg(SCHEMA).status();
        assert!(made.expect("ovsdb-tool of openvswitch-common").success());
        let mut database = Database { child: None, dir };
        database.run();
        database.vsctl("--no-wait init");
        Some(database)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("db.sock")
    }

    fn run(&mut self) {
        let child = Command::new("ovsdb-server")
            .arg(self.dir.path().join("conf.db"))
            .arg(format!("--remote=punix:{}", self.socket().display()))
            .arg(format!("--unixctl={}", self.dir.path().join("ctl").display()))
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("ovsdb-server of openvswitch-switch"));
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(start.elapsed() < PATIENCE, "no database");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Runs `ovs-vsctl WORDS`: what it prints on stdout, and on stderr.
    #[track_caller]
    fn both(&self, words: &str) -> (String, String) {
        let mut command = Command::new("ovs-vsctl");
        command
            .arg(format!("--db=unix:{}", self.socket().display()))
            .arg("--timeout=30")
            .args(words.split(' '));
        let output = command.output().expect("ovs-vsctl of openvswitch-switch");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, error) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "ovs-vsctl {words}: {error}");
        (out, error)
    }

    /// Runs `ovs-vsctl WORDS`, which has nothing to complain of.
    #[track_caller]
    fn vsctl(&self, words: &str) -> String {
        let (out, error) = self.both(words);
        assert_eq!(error, "", "ovs-vsctl {words}");
        out.trim().to_owned()
    }

    /// Waits until `ovs-vsctl WORDS` prints what is wanted.
    #[track_caller]
    fn until(&self, words: &str, wanted: impl Fn(&str) -> bool) {
        let start = Instant::now();
        loop {
            let text = self.vsctl(words);
            if wanted(&text) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{words} is {text}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// A switch that serves it.
    fn switch(&self) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let target = format!("unix:{}", self.socket().display());
        let command = command_on(EAL, dir.path(), &["--ovsdb", &target]);
        Daemon::launch(command, dir)
    }

    /// `ovs-ofctl WORDS`, which finds bridges by their names beside the database.
    fn ofctl_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ovs-ofctl");
        command.arg("--timeout=30").args(words).env("OVS_RUNDIR", self.dir.path());
        command
    }

    #[track_caller]
    fn ofctl(&self, words: &[&str]) -> String {
        let output = self.ofctl_command(words).output().expect("ovs-ofctl of openvswitch-common");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until a bridge has its OpenFlow socket.
    #[track_caller]
    fn until_socket(&self, bridge: &str) {
        let (start, socket) = (Instant::now(), self.dir.path().join(format!("{bridge}.mgmt")));
        while !socket.exists() {
            assert!(start.elapsed() < PATIENCE, "no {}", socket.display());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn ovs_vsctl_makes_bridges_ports_and_tunnels_and_reads_what_they_are() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    // As in Open vSwitch's howto. That it returns says that it is done.
    database.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev");
    database.vsctl("add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64");
    database.vsctl(
        "add-port br0 vxlan1 -- set interface vxlan1 type=vxlan options:remote_ip=192.168.1.2 options:key=flow \
         options:dst_port=8472",
    );
    assert_eq!(database.vsctl("get interface p0 ofport"), "1");
    assert_eq!(database.vsctl("get interface vxlan1 ofport error"), "2\n[]");
    // Its own device is set up by whoever gives it an address.
    assert_eq!(database.vsctl("get interface br0 ofport link_state error"), "65534\ndown\n[]");
    run("ip link set br0 up");
    database.until("get interface br0 link_state", |text| text == "up");
    assert_eq!(database.vsctl("get interface p0 link_state admin_state"), "up\nup");
    assert!(database.vsctl("get interface p0 status:driver_name").contains("net_null"));
    assert!(database.vsctl("get bridge br0 datapath_id").len() == 18);
    assert_eq!(database.vsctl("get open . dpdk_initialized"), "true");
    // A session has one other side; this tunnel, and a device, have one.
    database.vsctl("set interface vxlan1 bfd:enable=true bfd:min_rx=200");
    database.until("--if-exists get interface vxlan1 bfd_status:forwarding", |text| text.contains("false"));
    assert_eq!(database.vsctl("get interface vxlan1 bfd_status:state"), "down");
    database.vsctl("clear interface vxlan1 bfd");
    database.until("get interface vxlan1 bfd_status", |text| text == "{}");
    assert!(database.vsctl("get open . iface_types").contains("vxlan"));
    assert_eq!(database.vsctl("get open . cur_cfg"), database.vsctl("get open . next_cfg"));
    database.until("get interface p0 statistics:rx_packets", |text| text.parse().is_ok_and(|n: u64| n > 100));
    let show = database.vsctl("show");
    assert!(show.contains("Interface vxlan1\n                type: vxlan"), "{show}");
    assert!(!show.contains("error:"), "{show}");
    // The switch has them, and OpenFlow stands where ovs-ofctl looks.
    assert_eq!(daemon.ctl("list-ports br0"), "p0\nvxlan1\n");
    database.until_socket("br0");
    database.ofctl(&["add-flow", "br0", "in_port=p0,actions=drop"]);
    assert!(database.ofctl(&["dump-flows", "br0"]).contains("in_port=1 actions=drop"));
    // Tables have no names, which tools would print instead of their numbers; ports that are up are live, since OpenFlow 1.3.
    let named = database.ofctl(&["-O", "OpenFlow13", "--no-stats", "--names", "dump-flows", "br0"]);
    assert!(named.contains("in_port=p0 actions=drop") && !named.contains("table="), "{named}");
    let ports = |version| database.ofctl(&["-O", version, "dump-ports-desc", "br0"]);
    assert!(ports("OpenFlow13").contains("state:      LIVE"), "{}", ports("OpenFlow13"));
    assert!(!ports("OpenFlow10").contains("LIVE"), "{}", ports("OpenFlow10"));
    let features = database.ofctl(&["-O", "OpenFlow13", "dump-table-features", "br0"]);
    assert!(features.contains("apply_actions clear_actions write_actions"), "{features}");
    // A change of the database loses no rule of OpenFlow.
    database.vsctl("set port p0 tag=7 -- set interface p0 mtu_request=1400");
    assert_eq!(database.vsctl("get interface p0 mtu"), "1400");
    assert_eq!(daemon.json("get port p0 tag"), 7);
    assert!(database.ofctl(&["dump-flows", "br0"]).contains("in_port=1 actions=drop"));
    // The underlay.
    database.vsctl("add-br br-phy -- set bridge br-phy other_config:address=192.168.1.1/24");
    database.vsctl("add-port br-phy up -- set interface up type=dpdk options:dpdk-devargs=net_null8,no-rx=1");
    daemon.ctl("neigh set br-phy 192.168.1.2 02:00:00:00:00:02");
    database.until("get interface vxlan1 status", |text| text.contains("tunnel_egress_iface=br-phy"));
    // A mirror.
    database.vsctl(
        "add-port br0 span -- set interface span type=dpdk options:dpdk-devargs=net_null9,no-rx=1 -- --id=@p get port span \
         -- --id=@m create mirror name=m0 select-all=true output-port=@p -- set bridge br0 mirrors=@m",
    );
    daemon.wait_for("span", "tx_packets", 100);
    database.vsctl("clear bridge br0 mirrors -- del-port span");
    // And they go.
    database.vsctl("del-port br0 p0");
    assert_eq!(daemon.ctl("list-ports br0"), "vxlan1\n");
    database.vsctl("del-br br-phy -- del-br br0");
    assert_eq!(daemon.ctl("list-br"), "");
    daemon.stop();
}

/// Runs a command, its words separated by blanks.
#[track_caller]
fn run(line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    assert!(command.args(words).status().unwrap().success(), "{line}");
}

#[test]
fn every_bridge_is_a_device_whose_addresses_are_the_kernels() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl("add-br br-phy -- set bridge br-phy other_config:hwaddr=02:00:00:00:0a:01");
    database.vsctl("add-port br-phy up -- set interface up type=dpdk options:dpdk-devargs=net_null8,no-rx=1");
    database.vsctl(
        "add-br br0 -- add-port br0 vx -- set interface vx type=vxlan options:remote_ip=172.16.0.2 options:key=5",
    );
    assert_eq!(database.vsctl("get interface br-phy mac_in_use"), "\"02:00:00:00:0a:01\"");
    run("ip addr add 192.168.1.1/24 dev br-phy");
    run("ip link set br-phy up");
    run("ip route add 172.16.0.0/12 via 192.168.1.254 dev br-phy");
    run("ip neigh add 192.168.1.254 lladdr 02:00:00:00:00:fe dev br-phy");
    let ready = |text: &str| text.contains("tunnel_egress_iface=br-phy");
    database.until("get interface vx status", ready);
    let next_hop = || {
        let show = daemon.json("show");
        let bridges = show["bridges"].as_array().unwrap();
        let mut ports = bridges.iter().flat_map(|bridge| bridge["ports"].as_array().unwrap());
        ports.find(|port| port["name"] == "vx").unwrap()["remotes"][0]["next_hop_mac"].clone()
    };
    assert_eq!(next_hop(), "02:00:00:00:00:fe");
    // A change of the bridge takes nothing of that away, but with another MAC address the kernel forgets neighbours.
    database.vsctl("set bridge br-phy other_config:mac-aging-time=60 external_ids:a=b");
    assert_eq!(next_hop(), "02:00:00:00:00:fe");
    database.vsctl("set bridge br-phy other_config:hwaddr=02:00:00:00:0a:02");
    assert_eq!(database.vsctl("get interface br-phy mac_in_use"), "\"02:00:00:00:0a:02\"");
    daemon.eventually("the neighbour goes", || next_hop().is_null());
    run("ip neigh replace 192.168.1.254 lladdr 02:00:00:00:00:ff dev br-phy");
    daemon.eventually("the neighbour moves", || next_hop() == "02:00:00:00:00:ff");
    run("ip addr del 192.168.1.1/24 dev br-phy");
    database.until("get interface vx status", |text| !ready(text));
    // A name that another device has is that interface's error, and the bridge goes on.
    run("ip link add br-x type veth peer name br-y");
    let (_, error) = database.both("add-br br-x");
    assert!(error.contains("Error detected while setting up 'br-x'"), "{error}");
    assert_eq!(daemon.ctl("list-br"), "br-phy\nbr-x\nbr0\n");
    database.vsctl("del-br br-phy");
    // The kernel ends it a moment later.
    let show = || Command::new("ip").args(["link", "show", "br-phy"]).output().unwrap();
    daemon.eventually("the device goes", || !show().status.success());
    daemon.stop();
}

#[test]
fn what_cannot_be_served_says_so_and_the_rest_is_served() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    let (_, error) = database.both(
        "add-br br0 -- add-port br0 good -- set interface good type=dpdk options:dpdk-devargs=net_null0,size=64 \
         -- add-port br0 nofile -- set interface nofile type=dpdk options:dpdk-devargs=net_pcap7,rx_pcap=/no/such \
         -- add-port br0 nodev",
    );
    assert!(error.contains("Error detected while setting up 'nofile'"), "{error}");
    let wanted =
        "Error detected while setting up 'nodev': could not open network device nodev (No such device)";
    assert!(error.contains(wanted), "{error}");
    assert_eq!(database.vsctl("get interface nofile ofport"), "-1");
    assert!(database.vsctl("get interface nofile error").contains("net_pcap7"));
    assert_eq!(daemon.ctl("list-ports br0"), "good\n");
    daemon.wait_for("good", "rx_packets", 100);
    // ovs-vsctl itself says this of new interfaces only.
    database.vsctl("set interface nodev type=vxlan options:remote_ip=1.2.3.4 options:key=99999999");
    assert!(database.vsctl("get interface nodev error").contains("24 bits"));
    // Mended, it comes, and its error goes.
    database.vsctl("set interface nodev options:key=9");
    assert_eq!(database.vsctl("get interface nodev error"), "[]");
    assert_ne!(database.vsctl("get interface nodev ofport"), "-1");
    assert_eq!(daemon.ctl("list-ports br0").lines().count(), 2);
    // Both names of a bond, which is not served.
    // A port that cannot be served any more takes no rule and no bridge along.
    daemon.ctl("add-flow br0 in_port=good,actions=drop");
    database.vsctl("set interface good type=vxlan options:remote_ip=nowhere");
    assert_eq!(database.vsctl("get interface good ofport"), "-1");
    assert!(daemon.ctl("dump-flows br0").contains("in_port=1"));
    let (_, error) = database.both("add-bond br0 bond0 e0 e1");
    assert!(error.contains("'e0'") && error.contains("bonds are not served"), "{error}");
    daemon.stop();
}

#[test]
fn a_bad_value_is_ignored_and_a_port_keeps_its_number() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl(
        "add-br br0 -- add-port br0 in0 -- set interface in0 type=internal mtu_request=1400 \
         -- add-port br0 vx -- set interface vx type=vxlan options:remote_ip=1.2.3.4",
    );
    let numbers = || ["in0", "vx"].map(|name| database.vsctl(&format!("get interface {name} ofport")));
    let before = numbers();
    let runs = database.vsctl("get interface in0 mac_in_use");
    for bad in [
        "set interface in0 mtu_request=60000",
        r"set interface in0 mac=01\:00\:00\:00\:00\:01",
        "set interface in0 options:nonsense=1 other_config:pmd-rxq-affinity=x",
        "set port in0 other_config:qinq-ethtype=x",
        "set interface vx options:ttl=x options:local_ip=x options:nonsense=1 bfd:enable=true bfd:min_rx=x",
        "set bridge br0 other_config:mac-aging-time=x other_config:hwaddr=x",
    ] {
        database.vsctl(bad);
        assert_eq!(numbers(), before, "{bad}");
    }
    assert_eq!(database.vsctl("get interface in0 mtu"), "1400");
    assert_eq!(database.vsctl("get interface in0 mac_in_use"), runs);
    assert!(database.vsctl("get interface in0 error").contains("not served: mtu_request"));
    assert_eq!(database.vsctl("get interface br0 error"), "[]");
    // What has to take a port away leaves it its number.
    database.vsctl("set interface in0 type=nonsense -- set interface vx options:remote_ip=nowhere");
    assert_eq!(numbers(), ["-1", "-1"]);
    database.vsctl("set interface vx options:remote_ip=1.2.3.4");
    database.vsctl("set interface in0 type=internal");
    assert_eq!(numbers(), before);
    daemon.stop();
}

#[test]
fn packets_go_on_while_the_database_or_the_switch_starts_anew() {
    let Some(mut database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl("add-br br0 -- set bridge br0 fail_mode=secure");
    database.vsctl("add-port br0 p1 -- set interface p1 type=dpdk options:dpdk-devargs=net_null1,no-rx=1 ofport_request=9");
    database.vsctl("add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64");
    daemon.ctl("add-flow br0 in_port=p0,actions=output:p1");
    database.end();
    daemon.wait_for_more("p1", "tx_packets", 1000);
    database.run();
    // ovs-vsctl returns when the switch has come back to the database.
    database.vsctl("add-port br0 vx -- set interface vx type=vxlan options:remote_ip=10.0.0.2");
    daemon.wait_for_more("p1", "tx_packets", 1000);
    let numbers =
        database.vsctl("get interface p0 ofport -- get interface vx ofport -- get interface p1 ofport");
    daemon.stop();
    // Nobody answers ovs-vsctl, which does not wait; OpenFlow numbers are as before when the switch comes back.
    database.vsctl("--no-wait set port p0 tag=5");
    let daemon = database.switch();
    daemon.eventually("the port is there", || {
        daemon.ctl("list-br") == "br0\n" && daemon.try_ctl("get port p0 tag").status.success()
    });
    assert_eq!(daemon.json("get port p0 tag"), 5);
    // With nothing else to do, too.
    database.vsctl("set port p0 tag=6");
    assert_eq!(
        database.vsctl("get interface p0 ofport -- get interface vx ofport -- get interface p1 ofport"),
        numbers
    );
    daemon.stop();
}

/// A message with a body, of OpenFlow 1.3.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&[4, kind], &length[..], &[0, 0, 0, 7], body].concat()
}

/// Reads messages until one of this kind comes.
fn until_kind(stream: &mut impl Read, kind: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 8];
        stream.read_exact(&mut body).unwrap();
        if head[1] == kind {
            return body;
        }
    }
}

#[test]
fn a_controller_of_the_database_hears_of_packets() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl("add-br br0 -- set-fail-mode br0 secure");
    database.vsctl("add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    database.vsctl(&format!("set-controller br0 tcp:{}", listener.local_addr().unwrap()));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&message(0, &[])).unwrap();
    until_kind(&mut stream, 0);
    database.until("get controller br0 is_connected", |text| text == "true");
    assert!(database.vsctl("show").contains("is_connected: true"));
    // Everything to the controller, as its first rule says, and nothing before.
    database.until_socket("br0");
    database.ofctl(&["add-flow", "br0", "actions=CONTROLLER:60"]);
    let packet = until_kind(&mut stream, 10);
    // Buffer none, length, reason "action"; port 1 in an OXM of in_port.
    assert_eq!(
        (&packet[..4], u16::from_be_bytes([packet[4], packet[5]]), packet[6]),
        (&[0xff; 4][..], 64, 1)
    );
    assert_eq!(packet[20..28], [0x80, 0, 0, 4, 0, 0, 0, 1]);
    // All of it, as it is not buffered.
    assert_eq!(packet.len(), 34 + 64);
    // It is probed while it says nothing, and answers.
    database.ofctl(&["del-flows", "br0"]);
    let echo = until_kind(&mut stream, 2);
    stream.write_all(&message(3, &echo)).unwrap();
    // It comes back when it went.
    drop(stream);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&message(0, &[])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    until_kind(&mut stream, 0);
    // Asked to, the switch hangs up and connects anew.
    daemon.ctl("appctl bridge/reconnect br0");
    stream.read_to_end(&mut Vec::new()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&message(0, &[])).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    until_kind(&mut stream, 0);
    // Taken away, it is hung up on.
    database.vsctl("del-controller br0");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    daemon.stop();
}

#[test]
fn ovs_ofctl_snoop_shows_what_a_controller_and_its_bridge_say() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl("add-br br0 -- set-fail-mode br0 secure");
    database.until_socket("br0");
    let mut snoop = database.ofctl_command(&["-O", "OpenFlow13", "snoop", "br0"]);
    let mut snoop = snoop.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(snoop.stderr.take().unwrap()).lines();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    database.vsctl(&format!("set-controller br0 tcp:{}", listener.local_addr().unwrap()));
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&message(0, &[])).unwrap();
    until_kind(&mut stream, 0);
    // Until somebody snoops, what is asked is not shown.
    let ask = |stream: &mut std::net::TcpStream| {
        stream.write_all(&message(18, &[0, 0, 0, 0, 0, 0, 0, 0])).unwrap();
        until_kind(stream, 19);
    };
    let (shown, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if shown.send(line).is_err() {
                return;
            }
        }
    });
    let (start, mut seen) = (Instant::now(), [false, false]);
    while seen != [true, true] {
        assert!(start.elapsed() < PATIENCE, "{seen:?}");
        ask(&mut stream);
        while let Ok(line) = heard.recv_timeout(std::time::Duration::from_millis(100)) {
            seen[0] |= line.contains("OFPST_DESC request");
            seen[1] |= line.contains("OFPST_DESC reply");
        }
    }
    snoop.kill().unwrap();
    snoop.wait().unwrap();
    daemon.stop();
}

#[test]
fn rules_are_restored_under_flow_restore_wait_before_a_packet_goes_by_them() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database
        .vsctl("add-br br0 -- set-fail-mode br0 secure -- set bridge br0 protocols=OpenFlow10,OpenFlow14");
    for (name, device) in [("p0", "net_null0,size=64"), ("p1", "net_null1,no-rx=1")] {
        database.vsctl(&format!(
            "add-port br0 {name} -- set interface {name} type=dpdk options:dpdk-devargs={device}"
        ));
    }
    database.until_socket("br0");
    database.ofctl(&["-O", "OpenFlow14", "add-group", "br0", "group_id=7,type=all,bucket=output:2"]);
    database.ofctl(&[
        "-O",
        "OpenFlow14",
        "add-flow",
        "br0",
        "cookie=0x5,priority=9,in_port=1,actions=group:7",
    ]);
    database.ofctl(&["add-flow", "br0", "table=3,priority=1,udp,actions=drop"]);
    let dump = || database.ofctl(&["-O", "OpenFlow14", "--no-stats", "dump-flows", "br0"]);
    let before = dump();
    daemon.wait_for("p1", "tx_packets", 1000);
    // As ovs-ctl restarts it.
    let rundir = database.dir.path();
    let script = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("OVS_RUNDIR", rundir).env("TMPDIR", rundir).current_dir(rundir);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    script("/usr/share/openvswitch/scripts/ovs-save save-flows br0 > restore");
    daemon.stop();
    database.vsctl("--no-wait set open_vswitch . other_config:flow-restore-wait=true");
    let daemon = database.switch();
    database.until_socket("br0");
    daemon.eventually("packets wait", || daemon.ctl("drops").contains("flow_restore_wait"));
    script("sh ./restore");
    // What is saved is without the flags of flow mods.
    assert_eq!(dump(), before.replace("reset_counts ", ""));
    assert_eq!(
        daemon.json("get interface p1 statistics:tx_packets"),
        0,
        "rules are there, nothing goes by them"
    );
    database.vsctl("--if-exists remove open_vswitch . other_config flow-restore-wait=true");
    daemon.wait_for("p1", "tx_packets", 1000);
    // It begins with the switch or not at all.
    database.vsctl("set open_vswitch . other_config:flow-restore-wait=true");
    daemon.wait_for_more("p1", "tx_packets", 1000);
    daemon.stop();
}

#[test]
fn ovs_ofctl_monitor_shows_what_rules_send_to_the_controller() {
    let Some(database) = Database::start() else { return };
    let daemon = database.switch();
    database.vsctl("add-br br0 -- set-fail-mode br0 secure");
    database.vsctl("add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64");
    database.until_socket("br0");
    let mut command = database.ofctl_command(&["monitor", "br0", "65534"]);
    let mut monitor = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    database.ofctl(&["add-flow", "br0", "actions=CONTROLLER:60"]);
    let mut lines = BufReader::new(monitor.stderr.take().unwrap()).lines();
    // Before the rule is there it hears of packets that no rule matches.
    let line = lines.find(|line| line.as_ref().unwrap().contains("(via action)")).unwrap().unwrap();
    assert!(
        line.contains("PACKET_IN") && line.contains("total_len=64 in_port=1 (via action) data_len=64"),
        "{line}"
    );
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    database.ofctl(&["del-flows", "br0"]);
    daemon.stop();
}

#[test]
fn ovs_appctl_finds_the_switch_and_asks_it() {
    let Some(database) = Database::start() else { return };
    let mut daemon = database.switch();
    database.vsctl(
        "add-br br0 -- add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64",
    );
    let try_appctl = |words: &[&str]| {
        let mut command = Command::new("ovs-appctl");
        command.args(["--timeout=20"]).args(words).env("OVS_RUNDIR", database.dir.path());
        let output = command.output().expect("ovs-appctl of openvswitch-common");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let appctl = |words: &[&str]| {
        let (success, text) = try_appctl(words);
        assert!(success, "{words:?}: {text}");
        text
    };
    assert!(appctl(&["version"]).starts_with("vxswitch "));
    assert!(appctl(&["list-commands"]).contains("fdb/show"));
    assert_eq!(appctl(&["ofproto/list"]), "br0\n");
    let show = appctl(&["dpif/show"]);
    assert!(show.contains("netdev@ovs-netdev: hit:") && show.contains("    p0 1/"), "{show}");
    daemon.ctl("fdb add br0 p0 5 02:00:00:00:00:07");
    let fdb = appctl(&["fdb/show", "br0"]);
    assert!(fdb.starts_with(" port  VLAN  MAC                Age\n"), "{fdb}");
    assert!(fdb.contains("    1     5  02:00:00:00:00:07  static\n"), "{fdb}");
    assert_eq!(appctl(&["fdb/add", "br0", "p0", "6", "02:00:00:00:00:08"]), "");
    assert!(appctl(&["fdb/show", "br0"]).contains("    1     6  02:00:00:00:00:08  static\n"));
    assert_eq!(appctl(&["fdb/del", "br0", "6", "02:00:00:00:00:08"]), "");
    assert!(!appctl(&["fdb/show", "br0"]).contains("02:00:00:00:00:08"));
    assert_eq!(appctl(&["fdb/flush", "br0"]), "table successfully flushed\n");
    assert_eq!(appctl(&["bfd/show"]), "");
    database.vsctl("set interface p0 bfd:enable=true");
    let bfd = appctl(&["bfd/show", "p0"]);
    assert!(bfd.starts_with("---- p0 ----\n\tForwarding: false\n"), "{bfd}");
    assert_eq!(appctl(&["bfd/set-forwarding", "p0", "true"]), "OK\n");
    assert!(appctl(&["bfd/show"]).contains("\tForwarding: true\n"));
    database.vsctl("clear interface p0 bfd");
    let trace =
        appctl(&["ofproto/trace", "br0", "in_port=p0,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02"]);
    assert!(trace.starts_with("Flow: ") && trace.contains("Datapath actions: "), "{trace}");
    database.vsctl("set bridge br0 other_config:address=192.168.1.1/24");
    assert!(appctl(&["ovs/route/show"]).contains("Cached: 192.168.1.0/24 dev br0"));
    daemon.ctl("neigh set br0 192.168.1.2 02:00:00:00:00:02");
    assert!(appctl(&["tnl/neigh/show"]).contains("02:00:00:00:00:02   br0"));
    let shown = appctl(&["dpif/show"]);
    assert!(shown.contains("p0 1/") && shown.contains("br0 65534/"), "{shown}");
    let by_datapath = "in_port(p0),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)";
    assert!(appctl(&["ofproto/trace", by_datapath]).contains("in_port=p0"));
    assert!(appctl(&["ofproto/trace", "br0", "in_port=controller"]).contains("in_port=CONTROLLER"));
    appctl(&["dpif-netdev/pmd-stats-clear"]);
    for (words, expected) in [
        (&["fdb/show", "br9"][..], "no such bridge"),
        (&["bond/show", "p0"], "no such bond"),
        (&["bridge/reconnect", "br9"], "Unknown bridge"),
        (&["vlog/reopen"], "Logging to file not configured"),
        (&["ofproto/trace", "in_port=1"], "or the bridge name was omitted"),
        (&["bfd/show", "p0"], "no such bfd object"),
        (&["bfd/set-forwarding", "p0", "false"], "no such BFD object"),
        (&["fdb/show"], "requires at least 1 arguments"),
        (&["vlog/nonsense"], "is not a valid command"),
        (&["ofproto/trace", "br9", "in_port=1"], "br9"),
    ] {
        let (success, text) = try_appctl(words);
        assert!(!success && text.contains(expected), "{words:?}: {text}");
    }
    // Bytes that are no request end their connection, and nothing else.
    let socket = database.dir.path().join(format!("ovs-vswitchd.{}.ctl", daemon.child.id()));
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(b"}{").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    appctl(&["exit"]);
    assert!(daemon.child.wait().unwrap().success());
    assert!(!database.dir.path().join("ovs-vswitchd.pid").exists());
}

#[test]
fn file_and_database_are_two_masters() {
    let dir = tempfile::tempdir().unwrap();
    let run = |own: &[&str]| command_on(EAL, Path::new(dir.path()), own).output().unwrap();
    let output = run(&["--config", "x.toml", "--ovsdb", "unix:/nowhere"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("--ovsdb") && error.contains("--config"), "{error}");
    let output = run(&["--ovsdb", "ptcp:6640"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("unix:FILE or tcp:HOST:PORT"), "{error}");
}
