//! The daemon and `vxctl` as users start them, on devices that need neither root nor hugepages.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const EAL: &str = "--no-huge --no-shconf --no-pci --no-telemetry -m 256 -l 0";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon. It is killed if the test does not stop it.
struct Daemon {
    child: Child,
    dir: TempDir,
    metrics: String,
    lines: Vec<String>,
}

fn command(dir: &Path, own: &[&str]) -> Command {
    command_on(EAL, dir, own)
}

fn command_on(eal: &str, dir: &Path, own: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vxswitch"));
    command.args(eal.split(' ')).arg("--").args(["--total-num-mbufs", "8191", "--metrics", "127.0.0.1:0"]);
    command.arg("--control").arg(dir.join("control.sock")).args(own).current_dir(dir);
    command.env_remove("VXSWITCH_CONTROL");
    command
}

impl Daemon {
    fn start(config: &str) -> Daemon {
        Daemon::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// Starts in `dir`, and returns when it is ready.
    fn start_in(dir: TempDir, config: &str) -> Daemon {
        Daemon::start_on(EAL, dir, config)
    }

    fn start_on(eal: &str, dir: TempDir, config: &str) -> Daemon {
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut child = command_on(eal, dir.path(), &["--config", "config.toml"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("vxswitch starts");
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

    fn try_ctl(&self, line: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vxctl"))
            .arg("--control")
            .arg(self.dir.path().join("control.sock"))
            .args(line.split(' '))
            .output()
            .expect("vxctl runs")
    }

    /// What `vxctl` prints.
    #[track_caller]
    fn ctl(&self, line: &str) -> String {
        let output = self.try_ctl(line);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "vxctl {line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail.
    #[track_caller]
    fn refused(&self, line: &str) -> String {
        let output = self.try_ctl(line);
        assert!(!output.status.success(), "vxctl {line} did not fail");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[track_caller]
    fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ctl(&format!("-j {line}"))).unwrap()
    }

    fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.metrics).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Posts to the control API and hangs up at once.
    fn post_and_hang_up(&self, path: &str, body: &str) {
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
    fn wait_for(&self, interface: &str, counter: &str, least: u64) {
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

    /// Ends it by SIGTERM, which must be clean.
    #[track_caller]
    fn stop(mut self) -> TempDir {
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

const BASE: &str = r#"
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

#[test]
fn starts_switches_and_says_what_it_decided() {
    let daemon = Daemon::start(BASE);
    let log = daemon.lines.join("\n");
    for expected in ["lcores: worker 0", "no hugepages", "port p0: net_null0 (net_null), MAC ", "control: "] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
    daemon.wait_for("p1", "tx_packets", 1000);
    let show = daemon.ctl("show");
    assert!(show.contains("Bridge br0\n") && show.contains("    Port p0\n"), "{show}");
    assert!(daemon.ctl("megaflow show").contains("in_port(p0)"));
    assert!(daemon.ctl("megaflow show").contains("actions:p1"));
    let lcore = &daemon.json("lcore show")[0];
    assert!(
        lcore["megaflow_hits"].as_u64().unwrap() + lcore["cache_hits"].as_u64().unwrap() > 1000,
        "{lcore}"
    );
    assert!(daemon.ctl("lcore show").contains("p0/0"));
    assert!(daemon.ctl("dump-ports br0 p1").contains("tx pkts="));
    assert!(daemon.ctl("top -n 1 -d 0.1").contains("rx pkt/s"));
    assert!(daemon.ctl("trace br0 in_port=p0").contains("Datapath actions: p1"));

    let metrics = daemon.http("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("vxswitch_port_tx_packets_total{bridge=\"br0\",port=\"p1\",type=\"dpdk\"}") >= 1000.0);
    assert!(value("vxswitch_worker_iterations_total{lcore=\"0\"}") > 0.0);
    assert!(value("vxswitch_megaflows{lcore=\"0\"}") >= 1.0);
    assert!(value("vxswitch_malformed_frames_total{kind=\"ipv4_header\"}").abs() < 0.5);
    assert!(daemon.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("/readyz").starts_with("HTTP/1.1 200"));
    assert!(daemon.http("/nothing").starts_with("HTTP/1.1 404"));
    daemon.stop();
}

#[test]
fn bridges_ports_and_tunnels_come_change_and_go_while_it_runs() {
    let daemon = Daemon::start("");
    daemon.ctl(
        "add-br br0 -- add-port br0 p0 -- set interface p0 type=dpdk options:dpdk-devargs=net_null0,size=64 \
         -- add-port br0 vx1 -- set interface vx1 type=vxlan options:remote_ip=192.168.1.2 options:key=5",
    );
    daemon.wait_for("p0", "rx_packets", 100);
    assert_eq!(daemon.ctl("list-ports br0"), "p0\nvx1\n");
    assert_eq!(daemon.ctl("get interface vx1 ofport options:remote_ip"), "2\n\"192.168.1.2\"\n");
    // In place: the device keeps its counters.
    daemon.ctl("set port p0 tag=7 -- set interface p0 mtu_request=1400");
    assert_eq!(daemon.ctl("get interface p0 mtu"), "1400\n");
    assert_eq!(daemon.json("get port p0 tag"), 7);
    // Anew, under its old number.
    daemon.ctl("set interface vx1 options:key=6");
    assert_eq!(daemon.json("get interface vx1 ofport"), 2);
    daemon.ctl("set interface p0 options:dpdk-devargs=net_null0,size=128");
    daemon.wait_for("p0", "rx_bytes", 12_800);
    assert_eq!(daemon.json("get interface p0 ofport"), 1);
    // The underlay.
    daemon.ctl("add-br phy -- set bridge phy address=192.168.1.1/24");
    daemon.ctl("neigh set phy 192.168.1.2 02:00:00:00:00:02");
    assert!(daemon.ctl("neigh show").contains("PERMANENT"));
    assert!(daemon.ctl("show").contains("remote 192.168.1.2: "));
    daemon.ctl("route add phy 10.0.0.0/8 192.168.1.254");
    assert!(daemon.ctl("route show").contains("10.0.0.0/8 via 192.168.1.254 dev phy"));
    daemon.ctl("route del phy 10.0.0.0/8");
    assert!(!daemon.ctl("route show").contains("10.0.0.0/8"));
    let document = daemon.ctl("document");
    assert!(document.contains("192.168.1.2") && document.contains("tag = 7"), "{document}");
    daemon.ctl("del-port br0 p0 -- del-br phy");
    assert_eq!(daemon.ctl("list-ports br0"), "vx1\n");
    assert_eq!(daemon.ctl("list-br"), "br0\n");
    assert_eq!(daemon.try_ctl("br-exists phy").status.code(), Some(2));
    // The name is free again.
    daemon.ctl("add-port br0 p9 -- set interface p9 type=dpdk options:dpdk-devargs=net_null0,size=64");
    daemon.wait_for("p9", "rx_packets", 100);
    daemon.stop();
}

#[test]
fn a_change_that_cannot_be_made_changes_nothing() {
    let daemon = Daemon::start(BASE);
    let before = daemon.ctl("document");
    let error = daemon.refused(
        "add-br br1 -- add-port br1 x -- set interface x type=dpdk options:dpdk-devargs=net_pcap7,rx_pcap=/no/such",
    );
    assert!(error.contains("port x: ") && error.contains("net_pcap7"), "{error}");
    let error = daemon.refused(
        "add-port br0 y -- set interface y type=vxlan options:remote_ip=1.2.3.4 options:key=16777216",
    );
    assert!(error.contains("24 bits"), "{error}");
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_pcap8,rx_pcap=/no/such");
    assert!(error.contains("port p1: "), "{error}");
    let error = daemon.refused("set interface p1 options:n_rxq=60000");
    assert!(error.contains("n_rxq"), "{error}");
    assert!(daemon.refused("frobnicate").contains("unknown command 'frobnicate'"));
    assert!(daemon.refused("fdb add br0 p0").contains("expected fdb show BR"));
    assert_eq!(daemon.ctl("document"), before);
    assert_eq!(daemon.ctl("list-br"), "br0\n");
    let sent: u64 = daemon.ctl("get interface p1 statistics:tx_packets").trim().parse().unwrap();
    daemon.wait_for("p1", "tx_packets", sent + 1000);
    daemon.stop();
}

#[test]
fn a_client_that_hangs_up_leaves_a_whole_change() {
    let daemon = Daemon::start(BASE);
    for n in 1..=30 {
        let args = format!(r#"{{"args":["set","bridge","br0","other_config:mac-aging-time={}"]}}"#, 100 + n);
        daemon.post_and_hang_up("/v1/transaction", &args);
        let flow = format!(r#"{{"flows":["priority={n},in_port=p1,actions=drop"]}}"#);
        daemon.post_and_hang_up("/v1/flows/br0/add", &flow);
        let document = daemon.ctl("document");
        assert!(document.contains("net_null0") && document.contains("net_null1"), "after {n}: {document}");
    }
    // Some requests were given up before they began, the others are carried out: what runs is what is wanted.
    let start = Instant::now();
    loop {
        let document = daemon.ctl("document");
        let wanted = document.matches("in_port=p").count();
        let running = daemon.json("dump-flows br0").as_array().unwrap().len();
        if wanted == running {
            assert!(running > 1, "no request was carried out");
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{running} rules run, and {document}");
    }
    assert!(daemon.refused("add-br br0").contains("br0"));
    daemon.stop();
}

#[test]
fn ports_go_though_rules_name_them() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=3,in_port=p1,actions=output:p0");
    daemon.ctl("del-port br0 p1");
    assert_eq!(daemon.ctl("list-ports br0"), "p0\n");
    let document = daemon.ctl("document");
    assert!(document.contains("priority=10,in_port=p0,actions=output:2"), "{document}");
    assert!(document.contains("priority=3,in_port=2,actions=output:p0"), "{document}");
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 2);
    // The rule's output goes nowhere; other changes go on.
    daemon.ctl("set port p0 tag=7 -- add-br br1");
    // A port that comes back under its number has its rules again.
    daemon.ctl(
        "add-port br0 p1 -- set interface p1 type=dpdk options:dpdk-devargs=net_null1,no-rx=1 ofport_request=2",
    );
    daemon.wait_for("p1", "tx_packets", 100);
    // Back in the same change: it was never gone to the rules.
    daemon.ctl("add-flow br0 priority=4,in_port=p1,actions=drop");
    daemon.ctl("del-port br0 p1 -- add-port br0 p1 -- set interface p1 type=vxlan options:remote_ip=1.2.3.4");
    assert!(daemon.ctl("document").contains("priority=4,in_port=p1,actions=drop"));
    // What was never there is refused as before.
    assert!(daemon.refused("add-flow br0 in_port=p9,actions=drop").contains("p9"));
    daemon.stop();
}

#[test]
fn many_rules_load_in_no_time() {
    const RULES: usize = 40_000;
    let daemon = Daemon::start(BASE);
    let lines = |cookie: u32| {
        (0..RULES).fold(String::new(), |text, n| {
            let address = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
            text + &format!("cookie={cookie},ip,in_port=p1,nw_dst={address},actions=output:p0\n")
        })
    };
    let file = daemon.dir.path().join("flows");
    let start = Instant::now();
    // New rules, the same ones with other cookies, and another port on a bridge that has them.
    for cookie in 1..=2 {
        fs::write(&file, lines(cookie)).unwrap();
        daemon.ctl(&format!("add-flows br0 {}", file.display()));
    }
    daemon.ctl("add-port br0 vx -- set interface vx type=vxlan options:remote_ip=1.2.3.4");
    daemon.ctl("del-port br0 p0");
    let took = start.elapsed();
    let document = daemon.ctl("document");
    assert_eq!(document.matches("cookie=0x2,").count(), RULES);
    assert_eq!(document.matches("output:1").count(), RULES);
    println!("{took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
    daemon.stop();
}

#[test]
fn a_device_that_does_not_come_back_leaves_the_old_one_running() {
    let daemon = Daemon::start(BASE);
    assert_eq!(daemon.json("list interface p1")[0]["status"]["n_rxq"], "1");
    // The same device with an argument that it refuses: the old port has to go before this can be seen.
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_null1,no-rx=7");
    assert!(error.contains("port p1: "), "{error}");
    daemon.wait_for("p1", "tx_packets", 1000);
    assert_eq!(daemon.json("get interface p1 ofport"), 2);
    // What was done before the device failed is undone.
    daemon.refused(
        "set interface p0 mtu_request=1400 -- set interface p1 options:dpdk-devargs=net_null1,no-rx=7",
    );
    assert_eq!(daemon.ctl("get interface p0 mtu"), "1500\n");
    daemon.stop();
}

#[test]
fn a_port_that_is_lost_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("in.pcap");
    // A capture without packets.
    let head = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    fs::write(&capture, head).unwrap();
    let capture_port = format!("net_pcap0,rx_pcap={}", capture.display());
    let daemon = Daemon::start_in(dir, &BASE.replace("net_null1,no-rx=1", &capture_port));
    fs::remove_file(&capture).unwrap();
    // Neither the new device nor the old one can be had.
    let error = daemon.refused("set interface p1 options:dpdk-devargs=net_pcap0,rx_pcap=/no/such");
    assert!(error.contains("port p1: "), "{error}");
    assert_eq!(daemon.ctl("list-ports br0"), "p0\n");
    // The rule that names it goes on by number, so that the document is still one that can be changed.
    assert!(daemon.ctl("document").contains("in_port=p0,actions=output:2"));
    daemon.ctl("add-br br1");
    daemon.stop();
}

#[test]
fn flows_as_with_ovs_ofctl() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=20,in_port=p0,actions=drop");
    // Acknowledged means that no packet goes by the old rules any more.
    let sent = daemon.ctl("get interface p1 statistics:tx_packets");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(daemon.ctl("get interface p1 statistics:tx_packets"), sent);
    assert!(daemon.ctl("drops").contains("rule"));
    let rows = daemon.json("dump-flows br0 in_port=p0");
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    assert!(rows[0]["packets"].as_u64().unwrap() > 0, "{rows}");
    assert!(daemon.ctl("document").contains("priority=20"));
    daemon.ctl("--strict del-flows br0 priority=20,in_port=p0");
    assert!(!daemon.ctl("document").contains("priority=20"));
    daemon.wait_for("p1", "tx_packets", sent.trim().parse::<u64>().unwrap() + 100);
    let error = daemon.refused("add-flow br0 in_port=nowhere,actions=drop");
    assert!(error.contains("in_port=nowhere: expected"), "{error}");
    fs::write(daemon.dir.path().join("flows"), "# all\nin_port=p0,actions=LOCAL\n\nactions=drop # rest\n")
        .unwrap();
    let file = daemon.dir.path().join("flows");
    daemon.ctl(&format!("replace-flows br0 {}", file.display()));
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 2);
    daemon.ctl("add-flow br0 priority=5,hard_timeout=1,actions=NORMAL");
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 3);
    assert!(!daemon.ctl("document").contains("hard_timeout"), "it goes by itself");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(daemon.json("dump-flows br0").as_array().unwrap().len(), 2);
    daemon.ctl("del-flows br0");
    assert_eq!(daemon.ctl("dump-flows br0"), "");
    daemon.stop();
}

#[test]
fn flows_change_in_place() {
    let daemon = Daemon::start(BASE);
    daemon.wait_for("p1", "tx_packets", 100);
    daemon.ctl("add-flow br0 priority=20,cookie=7,tcp,in_port=p0,actions=p1");
    daemon.ctl("add-flow br0 table=4,priority=1,actions=drop");
    daemon.ctl("mod-flows br0 in_port=p0,actions=drop");
    let sent = daemon.ctl("get interface p1 statistics:tx_packets");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(daemon.ctl("get interface p1 statistics:tx_packets"), sent, "acknowledged means done");
    let rows = daemon.json("dump-flows br0 in_port=p0,cookie=0/-1");
    assert_eq!(rows[0]["flow"], "priority=10,in_port=p0,actions=drop");
    assert!(rows[0]["packets"].as_u64().unwrap() >= 100, "{rows}");
    assert!(daemon.ctl("document").contains("cookie=0x7, priority=20,tcp,in_port=p0,actions=drop"));
    daemon.ctl("--strict mod-flows br0 priority=10,cookie=9,in_port=p0,actions=output:p1");
    assert!(daemon.ctl("document").contains("cookie=0x9, priority=10,in_port=p0,actions=output:p1"));
    daemon.wait_for("p1", "tx_packets", sent.trim().parse::<u64>().unwrap() + 100);
    let sum = daemon.json("dump-aggregate br0");
    assert_eq!(sum["flow_count"], 3);
    assert!(sum["packet_count"].as_u64().unwrap() > 100);
    assert!(daemon.ctl("dump-aggregate br0 table=4").ends_with("flow_count=1\n"));
    let before = daemon.ctl("document");
    assert!(
        daemon.refused("mod-flows br0 table=4,actions=goto_table:3").contains("a table above the flow's own")
    );
    assert!(
        daemon.refused("mod-flows br0 actions=goto_table:4").contains("a table above the flow's own (4)")
    );
    assert!(daemon.refused("mod-flows br0 actions=meter:3,drop").contains("meter:3: expected"));
    assert!(daemon.refused("mod-flows br0 in_port=p0").contains("actions="));
    assert_eq!(daemon.ctl("document"), before);

    // A file with one bad line changes nothing and names the line.
    let file = daemon.dir.path().join("flows");
    let name = file.display().to_string();
    fs::write(&file, "# one\nactions=drop\n\nin_port=p9,actions=drop\n").unwrap();
    for command in ["add-flows", "replace-flows"] {
        let error = daemon.refused(&format!("{command} br0 {name}"));
        assert!(error.contains(&format!("{name}:4: in_port=p9: expected")), "{error}");
    }
    fs::write(&file, "\nmeter=1,actions=drop\n").unwrap();
    assert!(
        daemon.refused(&format!("add-flows br0 {name}")).contains(&format!("{name}:2: meter=1: expected"))
    );
    assert_eq!(daemon.ctl("document"), before);

    fs::write(&file, "priority=10,cookie=9,in_port=p0,actions=p1\ntable=4,priority=1,actions=p1\n").unwrap();
    let output = daemon.try_ctl(&format!("diff-flows br0 {name}"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "-priority=20,tcp,in_port=p0 cookie=0x7 actions=drop\n\
         -table=4 priority=1 actions=drop\n+table=4 priority=1 actions=output:p1\n"
    );
    daemon.ctl(&format!("replace-flows br0 {name}"));
    assert_eq!(daemon.ctl(&format!("diff-flows {name} br0")), "");
    assert!(daemon.refused("diff-flows br0 br9").contains("no bridge named br9"));
    daemon.ctl("add-flow br0 idle_timeout=60,actions=NORMAL");
    assert!(daemon.ctl("dump-flows br0").contains("idle_age="));
    daemon.stop();
}

#[test]
fn groups_and_meters_as_with_ovs_ofctl() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("add-group br0 group_id=1,type=select,bucket=weight:3,output:p1,bucket=output:p0");
    daemon.ctl("add-meter br0 meter=1,pktps,burst,stats,bands=type=drop rate=1000 burst_size=10");
    daemon.ctl("add-flow br0 priority=5,tcp,in_port=p1,actions=meter:1,group:1");
    daemon.ctl("add-flow br0 priority=6,tcp,in_port=p1,idle_timeout=900,actions=meter:1,p0");
    // As in OVS, a group may come later and a meter may not.
    daemon.ctl("add-flow br0 priority=7,tcp,in_port=p1,actions=group:2");
    assert!(
        daemon
            .refused("add-flow br0 actions=meter:2,drop")
            .contains("meter:2: expected a meter of the bridge")
    );
    let group = "group_id=1,type=select,bucket=bucket_id:0,weight:3,actions=output:p1,bucket=bucket_id:1,actions=output:p0";
    assert_eq!(daemon.ctl("dump-groups br0"), format!(" {group}\n"));
    assert_eq!(daemon.ctl("dump-groups br0 2"), "");
    let meter = "meter=1,pktps,burst,stats,bands=type=drop rate=1000 burst_size=10";
    assert_eq!(daemon.ctl("dump-meters br0"), format!("{meter}\n"));
    let document = daemon.ctl("document");
    assert!(document.contains(group) && document.contains(meter), "{document}");
    let stats = daemon.ctl("dump-group-stats br0 group_id=1");
    assert!(
        stats.starts_with(" group_id=1,duration=") && stats.contains(",ref_count=1,packet_count=0"),
        "{stats}"
    );
    let stats = daemon.ctl("meter-stats br0");
    assert!(stats.starts_with("meter:1 flow_count:2 packet_in_count:0 byte_in_count:0 duration:"), "{stats}");
    let metrics = daemon.http("/metrics");
    assert!(metrics.contains("vxswitch_group_packets_total{bridge=\"br0\",group=\"1\"} 0"), "{metrics}");
    assert!(
        metrics.contains("vxswitch_meter_dropped_packets_total{bridge=\"br0\",meter=\"1\"} 0"),
        "{metrics}"
    );

    // Refusals change nothing.
    assert_eq!(
        daemon.refused("add-group br0 group_id=1,type=all").trim_end(),
        "vxctl: group 1 is there already, expected mod-group"
    );
    assert!(
        daemon
            .refused("mod-group br0 group_id=2,type=all")
            .contains("there is no group 2, expected add-group")
    );
    assert!(daemon.refused("mod-meter br0 meter=2,bands=type=drop rate=1").contains("there is no meter 2"));
    assert!(
        daemon.refused("add-group br0 group_id=3,type=all,bucket=output:p9").contains("output:p9: expected")
    );
    let file = daemon.dir.path().join("groups");
    let name = file.display().to_string();
    fs::write(&file, "group_id=7,type=all\n# two\ngroup_id=1,type=all\n").unwrap();
    let error = daemon.refused(&format!("add-groups br0 {name}"));
    assert_eq!(error.trim_end(), format!("vxctl: {name}:3: group 1 is there already, expected mod-group"));
    assert_eq!(daemon.ctl("document"), document);

    daemon.ctl("--may-create mod-group br0 group_id=2,type=indirect,bucket=output:p1");
    daemon.ctl("mod-group br0 group_id=1,type=ff,bucket=watch_port:p1,output:p1");
    assert!(daemon.ctl("dump-groups br0 1").contains("type=ff"));
    daemon.ctl("mod-meter br0 meter=1,kbps,bands=type=drop rate=5");
    assert!(daemon.ctl("dump-meter br0 meter=1").contains("rate=5"));
    // A port that goes is one by number to the group that watches it.
    daemon.ctl("del-port br0 p1");
    assert!(daemon.ctl("dump-groups br0 1").contains("watch_port:2,actions=output:2"));
    assert!(daemon.ctl("document").contains("watch_port:2,actions=output:2"));
    // Rules go with what they name.
    let rules = || daemon.json("dump-flows br0 tcp").as_array().unwrap().len();
    assert_eq!(rules(), 3);
    daemon.ctl("del-meters br0 meter=1");
    assert_eq!((rules(), daemon.ctl("dump-meters br0")), (1, String::new()));
    daemon.ctl("del-groups br0");
    assert_eq!((rules(), daemon.ctl("dump-groups br0")), (0, String::new()));
    daemon.ctl("del-groups br0 group_id=7");
    daemon.stop();
}

#[test]
fn mirrors_and_patches_by_transactions() {
    let daemon = Daemon::start(BASE);
    daemon.ctl(
        "--id=@p get port p0 -- --id=@m create mirror name=m0 select_src_port=@p output_port=p1 \
         -- set bridge br0 mirrors=@m",
    );
    assert_eq!(daemon.ctl("get mirror m0 select_src_port output_port"), "p0\np1\n");
    assert_eq!(daemon.json("list mirror")[0]["select_all"], false);
    assert!(daemon.ctl("document").contains("[[bridge.mirror]]"));
    assert!(daemon.refused("set mirror m0 output_vlan=5").contains("output_port and output_vlan"));
    daemon.ctl("clear mirror m0 output_port -- set mirror m0 output_vlan=5");
    daemon.ctl(
        "add-br br1 -- add-port br0 to1 -- set interface to1 type=patch options:peer=to0 \
         -- add-port br1 to0 -- set interface to0 type=patch options:peer=to1",
    );
    assert_eq!(daemon.ctl("get interface to0 type link_state"), "patch\nup\n");
    assert!(daemon.refused("set interface to0 options:peer=to0").contains("the port itself"));
    daemon.ctl("set interface to0 options:peer=other");
    assert_eq!(daemon.json("get interface to0 ofport"), 1);
    daemon.ctl("del-port p0");
    assert_eq!(daemon.ctl("get mirror m0 select_src_port"), "[]\n");
    daemon.ctl("clear bridge br0 mirrors -- del-br br1");
    assert_eq!(daemon.ctl("list mirror"), "");
    daemon.stop();
}

#[test]
fn a_packet_in_hexadecimal_is_traced() {
    let daemon = Daemon::start(BASE);
    // IPv4 and UDP.
    let packet = "0200000000020200000000010800450000 1c0000000040110000 0a0000010a000002 0007000900080000"
        .replace(' ', "");
    let trace = daemon.json(&format!("trace br0 in_port=p0 {packet}"));
    let flow = trace["flow"].as_str().unwrap();
    for field in ["in_port=p0", "udp", "nw_src=10.0.0.1", "tp_dst=9", "dl_src=02:00:00:00:00:01"] {
        assert!(flow.contains(field), "no {field} in {trace}");
    }
    assert_eq!((trace["actions"].as_str(), &trace["reason"]), (Some("p1"), &serde_json::Value::Null));
    daemon.ctl("add-flow br0 priority=77,udp,actions=drop");
    let text = daemon.ctl(&format!("trace br0 in_port=p0 {packet}"));
    assert!(text.contains("Drop reason: rule: "), "{text}");
    assert!(daemon.refused("trace br0 in_port=p0 00112233445566778899aabbccd").contains("00112233"));
    assert!(daemon.refused(&format!("trace br0 in_port=p0 {packet}0")).contains("two hexadecimal digits"));
    daemon.stop();
}

#[test]
fn captures_are_files_that_end_with_their_port() {
    let daemon = Daemon::start(BASE);
    let file = daemon.dir.path().join("c.pcap");
    let name = file.display().to_string();
    daemon.ctl(&format!("capture p0 {name} --seconds 0.3"));
    read_pcap(&file);
    daemon.ctl(&format!("capture controller:br0 {name} --seconds 0.1"));
    assert!(read_pcap(&file).is_empty(), "no rule sends anything there");
    assert!(daemon.refused(&format!("capture p9 {name}")).contains("no port named p9"));
    assert!(daemon.refused(&format!("capture controller:br9 {name}")).contains("no bridge named br9"));
    assert!(daemon.refused(&format!("capture p0 {name} --count 0")).contains("a number from 1"));
    assert!(daemon.refused("capture p0 /no/such/file").contains("/no/such/file: "));
    let capture = Command::new(env!("CARGO_BIN_EXE_vxctl"))
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(["capture", "p1", &name])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    daemon.ctl("del-port p1");
    let output = capture.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "vxctl: port p1 is gone\n");
    assert!(!output.status.success());
    read_pcap(&file);
    // One that goes on does not keep the daemon from stopping.
    let mut capture = Command::new(env!("CARGO_BIN_EXE_vxctl"))
        .arg("--control")
        .arg(daemon.dir.path().join("control.sock"))
        .args(["capture", "controller:br0", &name])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    daemon.stop();
    capture.wait().unwrap();
}

#[test]
fn fdb_entries_by_hand() {
    let daemon = Daemon::start(BASE);
    daemon.ctl("fdb add br0 p1 0 02:00:00:00:00:77");
    let rows = daemon.json("fdb show br0");
    assert_eq!((rows[0]["port"].as_str(), rows[0]["fixed"].as_bool()), (Some("p1"), Some(true)), "{rows}");
    assert!(daemon.ctl("fdb show br0").contains("static"));
    assert!(daemon.refused("fdb add br0 p9 0 02:00:00:00:00:77").contains("p9"));
    assert!(daemon.refused("fdb add br0 p1 0 ff:ff:ff:ff:ff:ff").contains("group address"));
    daemon.ctl("fdb flush br0");
    assert!(daemon.ctl("fdb show br0").contains("02:00:00:00:00:77"), "static entries stay");
    daemon.ctl("fdb del br0 0 02:00:00:00:00:77");
    assert!(daemon.refused("fdb del br0 0 02:00:00:00:00:77").contains("no entry"));
    daemon.stop();
}

#[test]
fn captures_are_complete_when_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Vec<u8>> = (0..20u8)
        .map(|i| {
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, i, 0x88, 0xb5]);
            frame.extend([i; 50]);
            frame
        })
        .collect();
    write_pcap(&dir.path().join("in.pcap"), &frames);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "[[bridge]]\nname = \"br0\"\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap0,rx_pcap={}\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap1,tx_pcap={}\" }}\n",
        path("in.pcap"),
        path("out.pcap"),
    );
    let daemon = Daemon::start_in(dir, &config);
    daemon.wait_for("p1", "tx_packets", 20);
    let dir = daemon.stop();
    assert_eq!(read_pcap(&dir.path().join("out.pcap")), frames);
}

/// Two workers poll a queue each of one port, and send by the only TX queue of another: it belongs to one of
/// them, and the other hands its packets over.
#[test]
fn two_workers_share_a_tx_queue_and_keep_each_flow_in_order() {
    const FRAMES: u16 = 400;
    let dir = tempfile::tempdir().unwrap();
    let frame = |queue: u8, n: u16| {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, queue, 0x88, 0xb5]);
        frame.extend(n.to_be_bytes());
        frame.resize(64, queue);
        frame
    };
    for queue in 0..2u8 {
        let frames: Vec<Vec<u8>> = (0..FRAMES).map(|n| frame(queue, n)).collect();
        write_pcap(&dir.path().join(format!("in{queue}.pcap")), &frames);
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "[[bridge]]\nname = \"br0\"\n\
         [[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\noptions = {{ n_rxq = 2, dpdk-devargs = \"net_pcap0,rx_pcap={},rx_pcap={}\" }}\n\
         [[bridge.port]]\nname = \"p1\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_pcap1,tx_pcap={}\" }}\n",
        path("in0.pcap"),
        path("in1.pcap"),
        path("out.pcap"),
    );
    let eal = EAL.replace("-l 0", "--lcores 0@0,1@0,2@0");
    let daemon = Daemon::start_on(&eal, dir, &config);
    daemon.wait_for("p1", "tx_packets", u64::from(FRAMES) * 2);
    let lcores = daemon.json("lcore show");
    let handed = |way: &str| -> Vec<u64> {
        lcores.as_array().unwrap().iter().map(|lcore| lcore[way].as_u64().unwrap()).collect()
    };
    assert_eq!(handed("handed_out"), [0, u64::from(FRAMES)], "the second worker has no queue of its own");
    assert_eq!(handed("handed_in"), [u64::from(FRAMES), 0]);
    let dir = daemon.stop();
    let sent = read_pcap(&dir.path().join("out.pcap"));
    for queue in 0..2u8 {
        let of_queue: Vec<&Vec<u8>> = sent.iter().filter(|f| f[11] == queue).collect();
        assert_eq!(of_queue.len(), usize::from(FRAMES), "{lcores}");
        assert!(of_queue.into_iter().zip(0..).all(|(got, n)| *got == frame(queue, n)), "in order");
    }
    assert_eq!(sent.len(), usize::from(FRAMES) * 2);
}

fn write_pcap(path: &Path, frames: &[Vec<u8>]) {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0];
    for frame in frames {
        let len = (frame.len() as u32).to_le_bytes();
        file.extend([[0; 4], [0; 4], len, len].concat());
        file.extend(frame);
    }
    fs::write(path, &file).unwrap();
}

/// The frames of a file in the machine's byte order.
fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
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

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_a_stale_socket_is_not_in_the_way() {
    let mut daemon = Daemon::start("");
    let second = command(daemon.dir.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another vxswitch answers"), "{second:?}");
    assert_eq!(daemon.ctl("list-br"), "", "the first one does not mind");
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    assert!(dir.path().join("control.sock").exists());
    Daemon::start_in(dir, "").stop();
}

#[test]
fn bad_files_end_it_with_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let bad = r#"
[[bridge]]
name = "br0"
colour = "red"
flows = ["in_port=p9,actions=drop"]
[[bridge.port]]
name = "vx1"
type = "vxlan"
options = { remote_ip = "1.2.3.4", key = 16777216 }
[[bridge]]
name = "br0"
hwaddr = "nothing"
"#;
    fs::write(dir.path().join("bad.toml"), bad).unwrap();
    for own in [&["--config", "bad.toml"][..], &["--config", "bad.toml", "--check"]] {
        let output = command(dir.path(), own).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        for expected in ["bad.toml:4: ", "p9", "24 bits", "another bridge named br0", "hwaddr"] {
            assert!(errors.contains(expected), "no {expected:?} in {errors}");
        }
    }
    assert_eq!(command(dir.path(), &["--config", "none.toml"]).output().unwrap().status.code(), Some(2));
    fs::write(dir.path().join("good.toml"), BASE).unwrap();
    let good = command(dir.path(), &["--config", "good.toml", "--check"]).output().unwrap();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
}

#[test]
fn what_cannot_be_had_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[[bridge]]\nname = \"br0\"\n[[bridge.port]]\nname = \"p0\"\ntype = \"dpdk\"\n\
                  options = { dpdk-devargs = \"net_pcap0,rx_pcap=/no/such/file\" }\n";
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let output = command(dir.path(), &["--config", "config.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("vxswitch: port p0: ") && errors.contains("net_pcap0"), "{errors}");
    assert!(!dir.path().join("control.sock").exists());

    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_vxswitch"))
        .args(EAL.split(' '))
        .args(["--", "--metrics", &address, "--control"])
        .arg(dir.path().join("c2.sock"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains(&format!("metrics address {address}")), "{errors}");

    let none = Command::new(env!("CARGO_BIN_EXE_vxctl"))
        .args(["--control", "/no/such.sock", "show"])
        .output()
        .unwrap();
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stderr).contains("no vxswitch answers on /no/such.sock"));
}
