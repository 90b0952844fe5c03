//! The judge: Debian's Open vSwitch with DPDK, its database and switch our own, in a temporary directory and a
//! network namespace, so that a system's Open vSwitch is neither needed nor touched.

use crate::case::{Case, Tunnel};
use crate::compare::{Captures, collect};
use crate::support::eventually;
use crate::support::net::{Host, run};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Debian's switch with DPDK; `ovs-vswitchd` may be the one without.
pub const VSWITCHD: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const PATIENCE: Duration = Duration::from_secs(30);
/// Rules of the underlay. What the kernel says for itself (ARP, ND, MLD, errors) is not of the case.
const PHY: [&str; 6] = [
    "priority=2,in_port=LOCAL,ip,nw_proto=47,actions=NORMAL",
    "priority=2,in_port=LOCAL,ipv6,nw_proto=47,actions=NORMAL",
    "priority=2,in_port=LOCAL,udp,actions=NORMAL",
    "priority=2,in_port=LOCAL,udp6,actions=NORMAL",
    "priority=1,in_port=LOCAL,actions=drop",
    "priority=0,actions=NORMAL",
];
/// Remote VTEPs and the gateway.
pub const NEIGHBOURS: [(&str, &str); 4] = [
    ("192.168.1.2", "02:00:00:00:0a:02"),
    ("192.168.1.3", "02:00:00:00:0a:03"),
    ("192.168.1.254", "02:00:00:00:0a:fe"),
    ("2001:db8::2", "02:00:00:00:0a:02"),
];

/// A running Open vSwitch.
#[derive(Debug)]
pub struct Ovs {
    // In the order in which they are stopped.
    switch: Child,
    database: Child,
    host: Host,
    dir: TempDir,
    devices: Cell<u32>,
    core: usize,
}

impl Drop for Ovs {
    fn drop(&mut self) {
        for child in [&mut self.switch, &mut self.database] {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("vswitchd.log")).unwrap_or_default();
            eprintln!("ovs-vswitchd printed:\n{log}");
        }
    }
}

impl Ovs {
    /// Starts it, with an underlay that has addresses and neighbours, and a port that keeps the PMD thread.
    pub fn start() -> Ovs {
        let dir = TempDir::new().expect("temporary directory");
        let host = Host::new("judge");
        let path = |name: &str| dir.path().join(name).display().to_string();
        run(Command::new("ovsdb-tool").args(["create", &path("conf.db"), SCHEMA]));
        let unixctl = format!("--unixctl={}", path("db.ctl"));
        let remote = format!("--remote=punix:{}", path("db.sock"));
        let database = spawn(dir.path(), "ovsdb", &["ovsdb-server", &path("conf.db"), &remote, &unixctl]);
        eventually("ovsdb-server listens", PATIENCE, || dir.path().join("db.sock").exists().then_some(()));

        // Not the core that vxswitch polls on, if there is another.
        let core = usize::from(std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1));
        let pmd = 1 << core;
        let unixctl = format!("--unixctl={}", path("vs.ctl"));
        let socket = format!("unix:{}", path("db.sock"));
        vsctl(dir.path(), &format!(
            "--no-wait init -- set Open_vSwitch . other_config:dpdk-init=true other_config:dpdk-lcore-mask=0x1 \
             other_config:pmd-cpu-mask={pmd} other_config:vlan-limit=0 other_config:pmd-maxsleep=200 other_config:max-idle=100000"
        ).split_whitespace().map(str::to_owned).chain([
            "other_config:dpdk-extra=\"--no-huge --legacy-mem --no-shconf --no-pci --no-telemetry -m 256\"".to_owned(),
        ]).collect::<Vec<_>>());
        let args = ["ip", "netns", "exec", &host.name, VSWITCHD, &socket, &unixctl, "-vconsole:info"];
        let switch = spawn(dir.path(), "vswitchd", &args);
        let ovs = Ovs { switch, database, host, dir, devices: Cell::new(0), core };
        eventually("ovs-vswitchd listens", PATIENCE, || ovs.dir.path().join("vs.ctl").exists().then_some(()));
        // The only PMD thread is isolated by a queue that is pinned to it: it polls no queue that is not pinned too.
        // So a device is read only when a case lets it, after all ports and rules are there.
        ovs.vsctl(&format!(
            "add-br br-phy -- set bridge br-phy datapath_type=netdev fail_mode=secure \
             other-config:hwaddr=\"02:00:00:00:0a:01\" -- add-port br-phy idle -- set interface idle type=dpdk \
             options:dpdk-devargs=\"net_null0,no-rx=1\" -- {}",
            ovs.pin("idle")
        ));
        ovs.ofctl("add-flows", "br-phy", &PHY.map(str::to_owned), &[]);
        ovs.host.sh("sysctl -q -w net.ipv6.conf.br-phy.disable_ipv6=0");
        for words in [
            "addr add 192.168.1.1/24 dev br-phy",
            "addr add 192.168.1.5/24 dev br-phy",
            "addr add 2001:db8::1/64 dev br-phy nodad",
            "link set br-phy up",
            "route add 0.0.0.0/0 via 192.168.1.254",
        ] {
            ovs.host.ip(words);
        }
        eventually("the routes are seen", PATIENCE, || {
            let routes = ovs.call("ovs/route/show", &[]);
            (routes.contains("192.168.1.254") && routes.contains("2001:db8::/64")).then_some(())
        });
        ovs
    }

    fn vsctl(&self, line: &str) -> String {
        vsctl(self.dir.path(), &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    /// The command that lets a port be polled.
    fn pin(&self, port: &str) -> String {
        format!("set interface {port} other_config:pmd-rxq-affinity=\"0:{}\"", self.core)
    }

    /// `ovs-ofctl COMMAND` with the lines of a file.
    fn ofctl(&self, command: &str, bridge: &str, lines: &[String], options: &[&str]) {
        if lines.is_empty() {
            return;
        }
        let file = self.dir.path().join("lines");
        fs::write(&file, lines.join("\n") + "\n").expect("rules");
        let bridge = format!("unix:{}", self.dir.path().join(format!("{bridge}.mgmt")).display());
        run(Command::new("ovs-ofctl").args(options).args([command, &bridge]).arg(&file));
    }

    /// Calls a method of the control socket: what `ovs-appctl` does, without a process a call.
    fn call(&self, method: &str, params: &[&str]) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("vs.ctl")).expect("ovs-vswitchd lives");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let request = serde_json::json!({ "id": 0, "method": method, "params": params });
        stream.write_all(request.to_string().as_bytes()).expect("request");
        let mut answers = serde_json::Deserializer::from_reader(&stream).into_iter::<serde_json::Value>();
        let answer = answers.next().expect("an answer").expect("JSON");
        answer["result"]
            .as_str()
            .unwrap_or_else(|| panic!("ovs-appctl {method} {params:?}: {answer}"))
            .to_owned()
    }

    /// Frames that each device has read.
    fn received(&self, case: &Case) -> Vec<(String, usize)> {
        let text = self.call("dpctl/show", &["-s", "netdev@ovs-netdev"]);
        let mut found = Vec::new();
        let mut name = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("port ") {
                rest.split(' ').nth(1).unwrap_or_default().clone_into(&mut name);
            } else if let Some(rest) = line.strip_prefix("RX packets:") {
                let count = rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                if case.devices().iter().any(|(device, ..)| *device == name) {
                    found.push((name.clone(), count));
                }
            }
        }
        found
    }

    /// Lets ports read their captures, and waits until they are through.
    fn release(&self, case: &Case, ports: &[String]) {
        let words: Vec<String> = ports.iter().map(|port| self.pin(port)).collect();
        self.vsctl(&words.join(" -- "));
        eventually("Open vSwitch has read the captures", PATIENCE, || {
            let received = self.received(case);
            let read = |port: &String| {
                received.iter().any(|(name, count)| name == port && *count == case.count(port))
            };
            ports.iter().all(read).then_some(())
        });
    }

    /// Runs a case whose input lies in `dir`; what it sent.
    pub fn run(&self, case: &Case, dir: &Path) -> Captures {
        self.vsctl(&self.configuration(case, dir));
        if case.underlay() {
            for (ip, mac) in NEIGHBOURS {
                self.call("tnl/neigh/set", &["br-phy", ip, mac]);
            }
        }
        self.ofctl("add-groups", "br0", &case.groups, &["-O", "OpenFlow15"]);
        for meter in &case.meters {
            let bridge = format!("unix:{}", self.dir.path().join("br0.mgmt").display());
            run(Command::new("ovs-ofctl").args(["-O", "OpenFlow15", "add-meter", &bridge, meter]));
        }
        for tlv in &case.tlvs {
            let bridge = format!("unix:{}", self.dir.path().join("br0.mgmt").display());
            run(Command::new("ovs-ofctl").args(["add-tlv-map", &bridge, tlv]));
        }
        self.ofctl("add-flows", "br0", &case.flows, version(&case.flows));
        if let Some(flows) = &case.peer {
            self.ofctl("add-flows", "br1", flows, version(flows));
        }

        if let Some(flows) = &case.ext {
            self.ofctl("add-flows", "br-ext", flows, &[]);
        }
        if let Some(flows) = &case.phy {
            self.replace_phy(flows);
        }

        let all: Vec<String> = case.devices().into_iter().map(|(name, ..)| name).collect();
        if case.ordered {
            for port in &all {
                self.release(case, std::slice::from_ref(port));
            }
        } else {
            self.release(case, &all);
        }
        self.tidy(case);
        collect(case, dir)
    }

    /// Gives `br-phy` these rules and no others.
    fn replace_phy(&self, flows: &[String]) {
        let bridge = format!("unix:{}", self.dir.path().join("br-phy.mgmt").display());
        run(Command::new("ovs-ofctl").args(["del-flows", &bridge]));
        self.ofctl("add-flows", "br-phy", flows, &[]);
    }

    /// Removes what a case has made, which flushes the captures.
    pub fn tidy(&self, case: &Case) {
        let mut words = vec!["--if-exists del-br br0".to_owned(), "--if-exists del-br br1".to_owned()];
        words.push("--if-exists del-br br-ext".to_owned());
        words.push("--if-exists del-port br-phy uplink".to_owned());
        words.push("--if-exists del-port br-phy pu".to_owned());
        words.push("clear port br-phy tag".to_owned());
        self.vsctl(&words.join(" -- "));
        if case.phy.is_some() {
            self.replace_phy(&PHY.map(str::to_owned));
        }
        eventually("the ports are gone", PATIENCE, || self.received(case).is_empty().then_some(()));
    }

    fn configuration(&self, case: &Case, dir: &Path) -> String {
        let mode = if case.standalone { "standalone" } else { "secure" };
        let mut commands = Vec::new();
        let mut bridge = |name: &str| {
            commands.push(format!("add-br {name}"));
            commands.push(format!(
                "set bridge {name} datapath_type=netdev fail_mode={mode} \
                 protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"
            ));
        };
        bridge("br0");
        if case.peer.is_some() {
            bridge("br1");
        }
        if case.ext.is_some() {
            bridge("br-ext");
        }
        for (key, value) in &case.other_config {
            commands.push(format!("set bridge br0 other-config:{key}={value}"));
        }
        for (name, bridge, number) in case.devices() {
            let device = self.devices.get() + 1;
            self.devices.set(device);
            let dir = dir.display();
            commands.push(format!("add-port {bridge} {name}"));
            commands.push(format!(
                "set interface {name} type=dpdk ofport_request={number} \
                 options:dpdk-devargs=\"net_pcap{device},rx_pcap={dir}/{name}.in.pcap,tx_pcap={dir}/{name}.out.pcap\""
            ));
        }
        for (at, Tunnel { name, kind, options }) in case.tunnels.iter().enumerate() {
            commands.push(format!("add-port br0 {name}"));
            let number = 11 + at;
            let options: Vec<String> =
                options.iter().map(|(key, value)| format!("options:{key}=\"{value}\"")).collect();
            let options = options.join(" ");
            commands.push(format!("set interface {name} type={kind} ofport_request={number} {options}"));
        }
        let mut patch = |number: u32, ends: [(&str, &str, &str); 2]| {
            for (bridge, name, peer) in ends {
                commands.push(format!("add-port {bridge} {name}"));
                commands.push(format!(
                    "set interface {name} type=patch ofport_request={number} options:peer={peer}"
                ));
            }
        };
        if case.peer.is_some() {
            patch(21, [("br0", "pa", "pb"), ("br1", "pb", "pa")]);
        }
        if case.ext.is_some() {
            patch(22, [("br-phy", "pu", "pv"), ("br-ext", "pv", "pu")]);
        }
        for (port, key, value) in &case.vlans {
            commands.push(format!("set port {port} {key}={value}"));
        }
        for (at, mirror) in case.mirrors.iter().enumerate() {
            let mut columns = vec![format!("name=m{at} select_all={}", mirror.all)];
            let mut ports: Vec<&str> = mirror.src.iter().chain(mirror.dst).copied().collect();
            ports.extend(mirror.output_port);
            ports.sort_unstable();
            ports.dedup();
            let names = |ports: &[&str]| ports.iter().map(|p| format!("@{p}")).collect::<Vec<_>>().join(",");
            for (column, ports) in [("select_src_port", mirror.src), ("select_dst_port", mirror.dst)] {
                if !ports.is_empty() {
                    columns.push(format!("{column}={}", names(ports)));
                }
            }
            if !mirror.vlans.is_empty() {
                let vlans: Vec<String> = mirror.vlans.iter().map(ToString::to_string).collect();
                columns.push(format!("select_vlan={}", vlans.join(",")));
            }
            columns.extend(mirror.output_port.map(|port| format!("output_port=@{port}")));
            columns.extend(mirror.output_vlan.map(|vlan| format!("output_vlan={vlan}")));
            commands.extend(ports.iter().map(|port| format!("--id=@{port} get port {port}")));
            commands.push(format!("--id=@m{at} create mirror {}", columns.join(" ")));
            commands.push(format!("add bridge br0 mirrors @m{at}"));
        }
        commands.join(" -- ")
    }
}

/// The protocol in which rules are sent. OpenFlow 1.0 with Nicira's extensions is what users get without an option; but
/// it has no meters, pushes no tags, and loses the masks of `set_field`.
fn version(flows: &[String]) -> &'static [&'static str] {
    let masked = |flow: &String| {
        let values = flow.split("set_field:").skip(1);
        values.filter_map(|rest| rest.split_once("->")).any(|(value, _)| value.contains('/'))
    };
    let newer = |flow: &String| {
        flow.contains("meter:")
            || flow.contains("push_vlan")
            || flow.contains("write_actions")
            || masked(flow)
    };
    if flows.iter().any(newer) { &["-O", "OpenFlow15"] } else { &[] }
}

fn vsctl(dir: &Path, words: &[String]) -> String {
    let db = format!("--db=unix:{}", dir.join("db.sock").display());
    run(Command::new("ovs-vsctl").args([&db, "--timeout=30"]).args(words))
}

/// Starts a program of Open vSwitch's, its files in `dir`; it dies with this process.
fn spawn(dir: &Path, name: &str, line: &[&str]) -> Child {
    let log = File::create(dir.join(format!("{name}.log"))).expect("log");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(line)
        .envs(["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"].map(|key| (key, dir)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("setpriv of util-linux runs")
}
