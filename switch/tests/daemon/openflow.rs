//! Debian's unmodified `ovs-ofctl` on a bridge's socket.

use crate::running::{BASE, Daemon, EAL, write_pcap};
use crate::support::eventually;
use std::process::Command;

/// Runs `ovs-ofctl -O VERSION WORDS`, with the bridge's socket for `BR`; whether it succeeded, and what it said.
fn try_ofctl(daemon: &Daemon, version: &str, words: &[&str]) -> (bool, String) {
    let socket = format!("unix:{}", daemon.dir.path().join("br0.mgmt").display());
    let words = words.iter().map(|word| if *word == "BR" { socket.as_str() } else { *word });
    let mut command = Command::new("ovs-ofctl");
    command.args(["--timeout=20", "-O", version]).args(words);
    let output = command.output().expect("ovs-ofctl of openvswitch-common");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn ofctl(daemon: &Daemon, version: &str, words: &[&str]) -> String {
    let (success, text) = try_ofctl(daemon, version, words);
    assert!(success, "{version} {words:?}: {text}");
    text
}

/// The bridges' sockets are made after the switch is ready.
fn with_socket() -> Daemon {
    socket_of(Daemon::start(BASE))
}

fn socket_of(daemon: Daemon) -> Daemon {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !daemon.dir.path().join("br0.mgmt").exists() {
        assert!(std::time::Instant::now() < deadline, "no socket br0.mgmt");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    daemon
}

#[test]
fn rules_by_openflow_are_the_rules_of_everybody() {
    let daemon = with_socket();
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        ofctl(&daemon, version, &["del-flows", "BR"]);
        assert!(!daemon.ctl("dump-flows br0").contains("actions"), "{version}");
        ofctl(
            &daemon,
            version,
            &["add-flow", "BR", "table=1,priority=7,cookie=0x5,tcp,tp_dst=80,actions=drop"],
        );
        ofctl(&daemon, version, &["add-flow", "BR", "in_port=p0,actions=output:p1"]);
        // As vxctl and the document have them, and back.
        assert!(daemon.ctl("dump-flows br0").contains("priority=7,tcp,tp_dst=80 actions=drop"), "{version}");
        assert!(daemon.ctl("document").contains("in_port=p0,actions=output:p1"), "{version}");
        daemon.ctl("add-flow br0 priority=3,arp,actions=NORMAL");
        let text = ofctl(&daemon, version, &["dump-flows", "BR"]);
        assert!(text.contains("priority=3,arp actions=NORMAL"), "{version}: {text}");
        // A change of the document by others loses none of them.
        daemon.ctl("add-port br0 vx -- set interface vx type=vxlan options:remote_ip=1.2.3.4");
        daemon.ctl("del-port br0 vx");
        let text = ofctl(&daemon, version, &["dump-flows", "--no-stats", "BR"]);
        assert_eq!(text.matches("actions=").count(), 3, "{version}: {text}");
        let text = ofctl(&daemon, version, &["dump-aggregate", "BR"]);
        assert!(text.contains("flow_count=3"), "{version}: {text}");
        let text = ofctl(&daemon, version, &["show", "BR"]);
        assert!(text.contains("(p0)") && text.contains("LOCAL(br0)"), "{version}: {text}");
        let text = ofctl(&daemon, version, &["dump-ports", "BR", "p1"]);
        assert!(text.contains("1 ports"), "{version}: {text}");
        let (success, text) = try_ofctl(&daemon, version, &["add-flow", "BR", "ip,actions=ct(commit)"]);
        assert!(!success && text.contains("OFPBAC_BAD_VENDOR_TYPE"), "{version}: {text}");
    }
    daemon.stop();
}

#[test]
fn what_is_refused_stands_in_the_log_by_name() {
    let daemon = socket_of(Daemon::start_with(EAL, BASE, &[]));
    for (flow, name) in [
        ("ip,actions=ct(commit)", "OFPBAC_BAD_VENDOR_TYPE: ct "),
        ("actions=ct_clear", "OFPBAC_BAD_VENDOR_TYPE: ct_clear "),
        ("ct_state=+trk,actions=drop", "OFPBMC_BAD_FIELD: ct_state,"),
    ] {
        assert!(!try_ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", flow]).0, "{flow}");
        let log = || std::fs::read_to_string(daemon.dir.path().join("errors")).unwrap();
        daemon.eventually(name, || log().contains(name));
    }
    daemon.stop();
}

#[test]
fn a_document_with_rules_of_openflow_can_be_read_again() {
    let daemon = with_socket();
    for port in ["65280", "65528", "65531", "65532", "65533", "65534", "65535"] {
        ofctl(&daemon, "OpenFlow10", &["add-flow", "BR", &format!("table=3,in_port={port},actions=drop")]);
    }
    ofctl(&daemon, "OpenFlow10", &["add-flow", "BR", "table=4,actions=load:0xffffffff->NXM_NX_TUN_ID[]"]);
    let wide = "table=4,actions=load:0xffffffffffffffff->NXM_NX_TUN_ID[]";
    let (success, text) = try_ofctl(&daemon, "OpenFlow10", &["add-flow", "BR", wide]);
    assert!(!success && text.contains("OFPBAC_BAD_SET_ARGUMENT"), "{text}");
    let file = daemon.dir.path().join("again.toml");
    std::fs::write(&file, daemon.ctl("document")).unwrap();
    daemon.ctl(&format!("apply {}", file.display()));
    let rules = daemon.ctl("dump-flows --no-stats br0");
    assert_eq!(rules.matches("table=3").count(), 7, "{rules}");
    daemon.stop();
}

#[test]
fn who_says_nothing_does_not_keep_others_out() {
    let daemon = with_socket();
    let socket = daemon.dir.path().join("br0.mgmt");
    let silent: Vec<_> =
        (0..100).map(|_| std::os::unix::net::UnixStream::connect(&socket).unwrap()).collect();
    // After five seconds, and as many again for those that waited for the first.
    ofctl(&daemon, "OpenFlow13", &["show", "BR"]);
    drop(silent);
    // Nor does another switch take the socket.
    let mut other = Command::new(env!("CARGO_BIN_EXE_vxswitch"));
    other.args(crate::running::EAL.split(' ')).args([
        "--",
        "--control",
        "other.sock",
        "--metrics",
        "127.0.0.1:0",
    ]);
    other.args(["--config", "config.toml", "--total-num-mbufs", "8191"]).current_dir(daemon.dir.path());
    let mut other = other.spawn().unwrap();
    daemon.eventually("the other one runs", || daemon.dir.path().join("other.sock").exists());
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _ = other.kill();
    other.wait().unwrap();
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "table=9,actions=drop"]);
    assert!(daemon.ctl("dump-flows br0").contains("table=9"));
    daemon.stop();
}

/// As many tools as a socket has room for that said hello and nothing more, and one that listens.
#[test]
fn idle_connections_give_way_to_new_ones() {
    use std::io::{ErrorKind, Read, Write};
    const ROOM: usize = 512;
    let daemon = socket_of(Daemon::start_with(EAL, BASE, &[]));
    let socket = daemon.dir.path().join("br0.mgmt");
    let hello = [4, 0, 0, 8, 0, 0, 0, 1];
    // Its miss_send_len says that it wants packets.
    let set_config = [4, 9, 0, 12, 0, 0, 0, 2, 0, 0, 0xff, 0xff];
    let mut tools: Vec<_> = (0..ROOM)
        .map(|at| {
            let mut tool = std::os::unix::net::UnixStream::connect(&socket).unwrap();
            let says = if at == 0 { [&hello[..], &set_config].concat() } else { hello.to_vec() };
            tool.write_all(&says).unwrap();
            tool
        })
        .collect();
    let is_open = |tool: &mut std::os::unix::net::UnixStream| {
        tool.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        tool.read_to_end(&mut all).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    std::thread::sleep(std::time::Duration::from_secs(1));
    for _ in 0..3 {
        ofctl(&daemon, "OpenFlow13", &["dump-flows", "BR"]);
    }
    let open: Vec<bool> = tools.iter_mut().map(is_open).collect();
    let closed: Vec<usize> = open.iter().enumerate().filter(|(_, open)| !**open).map(|(at, _)| at).collect();
    assert_eq!(closed, [1], "the one that is idle longest; the tool itself goes");
    let log = std::fs::read_to_string(daemon.dir.path().join("errors")).unwrap();
    assert_eq!(log.matches("no room for more OpenFlow connections").count(), 1, "{log}");
    daemon.stop();
}

#[test]
fn packets_go_by_rules_of_openflow_and_bundles_are_whole() {
    let daemon = with_socket();
    ofctl(&daemon, "OpenFlow13", &["del-flows", "BR"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "in_port=p0,actions=output:p1"]);
    daemon.wait_for("p1", "tx_packets", 100);
    let text = ofctl(&daemon, "OpenFlow13", &["dump-flows", "BR"]);
    assert!(text.contains("n_packets=") && !text.contains("n_packets=0,"), "{text}");
    // The second flow names a group that is not there: neither is added.
    let file = daemon.dir.path().join("bundle");
    std::fs::write(&file, "del in_port=p0\nadd tcp,actions=output:p1\nadd udp,actions=group:9\n").unwrap();
    let bundle = ["--bundle", "add-flows", "BR", file.to_str().unwrap()];
    let (success, text) = try_ofctl(&daemon, "OpenFlow14", &bundle);
    assert!(!success && text.contains("OFPBAC_BAD_OUT_GROUP"), "{text}");
    let text = ofctl(&daemon, "OpenFlow14", &["dump-flows", "--no-stats", "BR"]);
    assert!(text.contains("in_port=1 actions=output:2") && !text.contains("tcp"), "{text}");
    ofctl(&daemon, "OpenFlow15", &["add-group", "BR", "group_id=9,type=all,bucket=output:p1"]);
    ofctl(&daemon, "OpenFlow14", &bundle);
    let text = ofctl(&daemon, "OpenFlow14", &["dump-flows", "--no-stats", "BR"]);
    assert!(text.contains("udp actions=group:9") && !text.contains("in_port"), "{text}");
    assert!(daemon.ctl("document").contains("group_id=9"));
    // A group takes the rules that send to it along; a meter too.
    ofctl(&daemon, "OpenFlow13", &["del-groups", "BR", "group_id=9"]);
    assert!(!ofctl(&daemon, "OpenFlow13", &["dump-flows", "BR"]).contains("udp"));
    ofctl(&daemon, "OpenFlow13", &["add-meter", "BR", "meter=2,pktps,bands=type=drop,rate=1000"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "in_port=p0,actions=meter:2,output:p1"]);
    let text = ofctl(&daemon, "OpenFlow13", &["meter-stats", "BR", "meter=2"]);
    assert!(text.contains("flow_count:1"), "{text}");
    ofctl(&daemon, "OpenFlow13", &["del-meters", "BR"]);
    assert!(!ofctl(&daemon, "OpenFlow13", &["dump-flows", "BR"]).contains("meter"));
    // What is refused is named.
    let overlap = ["add-flow", "BR", "check_overlap,ip,actions=drop"];
    let (success, text) = try_ofctl(&daemon, "OpenFlow13", &overlap);
    assert!(!success && text.contains("OFPFMFC_OVERLAP"), "{text}");
    // A packet out goes by its actions.
    ofctl(&daemon, "OpenFlow13", &["del-flows", "BR"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "actions=drop"]);
    let sent =
        |daemon: &Daemon| daemon.ctl("get interface p1 statistics:tx_packets").trim().parse::<u64>().unwrap();
    let before = sent(&daemon);
    let packet = "in_port=controller,packet=ffffffffffff02000000000108004500001400000000401100000000000000000000,actions=output:p1";
    ofctl(&daemon, "OpenFlow13", &["packet-out", "BR", packet]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while sent(&daemon) == before {
        assert!(std::time::Instant::now() < deadline, "the packet does not leave");
    }
    daemon.stop();
}

/// `ovs-ofctl monitor`, which hears what happens to the bridge.
struct Monitor {
    child: std::process::Child,
    said: std::path::PathBuf,
}

impl Monitor {
    fn start(daemon: &Daemon, version: &str) -> Monitor {
        let monitor = Monitor::of(daemon, version, &["65534", "watch:"]);
        // The answer to the request, which lists the rules that there are.
        monitor.wait_for("NXST_FLOW_MONITOR");
        monitor
    }

    fn of(daemon: &Daemon, version: &str, words: &[&str]) -> Monitor {
        let said = daemon.dir.path().join(format!("heard-{version}"));
        let file = std::fs::File::create(&said).unwrap();
        let socket = format!("unix:{}", daemon.dir.path().join("br0.mgmt").display());
        let control = daemon.dir.path().join(format!("monitor-{version}.ctl"));
        let mut command = Command::new("ovs-ofctl");
        command.args(["-O", version, "--unixctl"]).arg(&control).args(["monitor", &socket]).args(words);
        command.stdout(file.try_clone().unwrap()).stderr(file).env("OVS_RUNDIR", daemon.dir.path());
        let child = command.spawn().unwrap();
        // It makes this socket when it has asked for everything. What happens while it waits for answers is lost to it.
        eventually("ovs-ofctl listens", std::time::Duration::from_secs(20), || {
            control.exists().then_some(())
        });
        Monitor { child, said }
    }

    #[track_caller]
    fn wait_for(&self, what: &str) {
        let said = || std::fs::read_to_string(&self.said).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !said().contains(what) {
            assert!(std::time::Instant::now() < until, "no {what:?} in {}", said());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn packets_for_the_controller_name_rule_and_tunnel() {
    let daemon = with_socket();
    ofctl(&daemon, "OpenFlow13", &["del-flows", "BR"]);
    daemon
        .ctl("add-port br0 vx -- set interface vx type=vxlan options:remote_ip=192.168.1.2 options:key=flow");
    let monitor = Monitor::of(&daemon, "OpenFlow13", &["65534"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "in_port=p0,actions=drop"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "in_port=vx,actions=resubmit(,3)"]);
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "table=3,cookie=0x77,actions=CONTROLLER"]);
    let inner = "ffffffffffff02000000000108004500001400000000401100000000000000000000";
    let outer = "02000000000a02000000000b0800450000460000400040110000c0a80102c0a80101c35012b500320000";
    // The tunnel packet comes in by a capture file of an underlay bridge with this address.
    let packet = format!("{outer}0800000000006400{inner}");
    let mut bytes: Vec<u8> = (0..packet.len() / 2)
        .map(|at| u8::from_str_radix(&packet[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let sum =
        bytes[14..34].chunks(2).fold(0, |sum, pair| sum + (u32::from(pair[0]) << 8 | u32::from(pair[1])));
    let sum = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let input = daemon.dir.path().join("in.pcap");
    write_pcap(&input, &[bytes]);
    daemon.ctl("add-br phy -- set bridge phy hwaddr=\"02:00:00:00:00:0a\" address=192.168.1.1/24");
    daemon.ctl(&format!(
        "add-port phy up -- set interface up type=dpdk options:dpdk-devargs=net_pcap0,rx_pcap={}",
        input.display()
    ));
    monitor.wait_for("NXT_PACKET_IN2 (OF1.3) (xid=0x0): table_id=3 cookie=0x77 total_len=34");
    monitor.wait_for("tun_id=0x64,tun_src=192.168.1.2,tun_dst=192.168.1.1,in_port=3 (via action)");
    daemon.stop();
}

#[test]
fn packets_for_the_controller_have_registers_reason_and_userdata() {
    let daemon = with_socket();
    ofctl(&daemon, "OpenFlow13", &["del-flows", "BR"]);
    let monitor = Monitor::of(&daemon, "OpenFlow13", &["65534"]);
    ofctl(&daemon, "OpenFlow13", &["add-group", "BR", "group_id=1,type=all,bucket=CONTROLLER:21"]);
    let flows = [
        "tcp,actions=load:0x5->NXM_NX_REG3[],set_field:0x77->metadata,set_field:9->pkt_mark,resubmit(,2)",
        "table=2,actions=controller(userdata=01.02.0f,reason=no_match,max_len=20),load:0x6->NXM_NX_REG3[]",
        "udp,actions=dec_ttl,output:1",
        "sctp,actions=group:1",
        "icmp,actions=controller(id=9),CONTROLLER:22",
    ];
    for flow in flows {
        ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", flow]);
    }
    let packet = |proto: &str, ttl: &str| {
        let ip = format!("4500002800004000{ttl}{proto}0000c0a80102c0a80101");
        format!("02000000000a02000000000b0800{ip}{}", "00".repeat(20))
    };
    let send = |proto: &str, ttl: &str| {
        ofctl(&daemon, "OpenFlow13", &["packet-out", "BR", "1", "resubmit(,0)", &packet(proto, ttl)]);
    };
    send("06", "40");
    monitor.wait_for("pkt_mark=0x9,reg3=0x5,metadata=0x77,in_port=1 (via no_match)");
    monitor.wait_for("userdata=01.02.0f");
    send("01", "40");
    // Whole, as no packet is buffered, whatever `max_len` or `miss_send_len` says.
    monitor.wait_for("in_port=1 (via action) data_len=");
    send("84", "40");
    monitor.wait_for("sctp,");
    let short = Monitor::of(&daemon, "OpenFlow10", &["32"]);
    send("01", "40");
    short.wait_for("in_port=1 (via action) data_len=");
    for monitor in [&monitor, &short] {
        let said = std::fs::read_to_string(&monitor.said).unwrap();
        assert!(!said.contains("***total_len != data_len***"), "{said}");
    }
    // Who asks for it hears of packets whose TTL has run out.
    let asking = Monitor::of(&daemon, "OpenFlow10", &["65534", "invalid_ttl"]);
    let came = (0..200).any(|_| {
        send("11", "01");
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::read_to_string(&asking.said).unwrap().contains("(via invalid_ttl)")
    });
    assert!(came, "nothing of a TTL that ran out");
    daemon.stop();
}

#[test]
fn whatever_happens_to_a_bridge_is_told() {
    let daemon = with_socket();
    ofctl(&daemon, "OpenFlow10", &["del-flows", "BR"]);
    let monitor = Monitor::start(&daemon, "OpenFlow10");
    // By another connection, by vxctl, and by time.
    ofctl(&daemon, "OpenFlow13", &["add-flow", "BR", "send_flow_rem,cookie=0x51,ip,actions=drop"]);
    monitor.wait_for("event=ADDED table=0 cookie=0x51");
    daemon.ctl("add-flow br0 cookie=0x52,arp,actions=drop");
    monitor.wait_for("event=ADDED table=0 cookie=0x52");
    daemon.ctl("mod-flows br0 arp,actions=output:p1");
    monitor.wait_for("event=MODIFIED table=0 cookie=0x52");
    daemon.ctl("del-flows br0 ip");
    monitor.wait_for("event=DELETED reason=delete table=0 cookie=0x51");
    monitor.wait_for("OFPT_FLOW_REMOVED (xid=0x0): ip reason=delete");
    daemon.ctl("add-flow br0 send_flow_rem,cookie=0x53,idle_timeout=1,udp,actions=drop");
    monitor.wait_for("event=DELETED reason=idle table=0 idle_timeout=1 cookie=0x53");
    monitor.wait_for("udp reason=idle");
    daemon.ctl("add-flow br0 send_flow_rem,cookie=0x54,hard_timeout=1,icmp,actions=drop");
    monitor.wait_for("icmp reason=hard");
    // Ports.
    daemon.ctl("add-port br0 p7 -- set interface p7 type=dpdk options:dpdk-devargs=net_null7");
    monitor.wait_for("OFPT_PORT_STATUS (xid=0x0): ADD:");
    monitor.wait_for("(p7)");
    daemon.ctl("mod-port br0 p7 down");
    monitor.wait_for("OFPT_PORT_STATUS (xid=0x0): MOD:");
    monitor.wait_for("config:     PORT_DOWN");
    daemon.ctl("del-port br0 p7");
    monitor.wait_for("OFPT_PORT_STATUS (xid=0x0): DEL:");
    daemon.stop();
}
