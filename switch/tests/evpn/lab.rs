//! A fabric: leaves with vxswitch and FRR, one of Linux's own bridge and vxlan device with FRR, and a route reflector,
//! each in a network namespace. BGP runs over the underlay that the tunnels use: a leaf's FRR has an address of its own
//! on the underlay bridge, behind a port of type `internal`.

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::net::{Background, Host, ip, run};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long routes may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The VNI of all leaves.
pub const VNI: u32 = 100;
/// Inner packets: 1500 bytes on the wire less 36 of IPv4, UDP, VXLAN and 14 of inner Ethernet.
const INNER_MTU: u16 = 1450;
const FRR: &str = "/usr/lib/frr";
const REFLECTOR: &str = "192.0.2.100";

/// Whether Debian's FRR is there; says so when it is not.
pub fn has_frr(test: &str) -> bool {
    let there = PathBuf::from(FRR).join("bgpd").exists();
    if !there {
        crate::support::skipped(test, "needs FRR (scripts/setup installs it)");
    }
    there
}

/// FRR's daemons in a namespace. They end with the value.
#[derive(Debug)]
pub struct Frr {
    dir: TempDir,
    host: String,
    daemons: Vec<Background>,
}

impl Frr {
    /// FRR in a host, with this configuration of `bgpd`.
    pub fn new(host: &Host, bgpd: &str) -> Frr {
        let dir = TempDir::new().expect("temporary directory");
        std::fs::write(dir.path().join("bgpd.conf"), bgpd).expect("bgpd.conf");
        std::fs::write(dir.path().join("zebra.conf"), "").expect("zebra.conf");
        // FRR gives up root.
        run(Command::new("chmod").arg("777").arg(dir.path()));
        let mut frr = Frr { dir, host: host.name.clone(), daemons: Vec::new() };
        frr.start();
        frr
    }

    /// Starts the daemons.
    pub fn start(&mut self) {
        let dir = self.dir.path().display();
        for (name, options, socket) in [("zebra", "", "zserv.api"), ("bgpd", "-p 179", "bgpd.vty")] {
            let _ = std::fs::remove_file(self.dir.path().join(socket));
            let line = format!(
                "netns exec {} {FRR}/{name} -u frr -g frr -f {dir}/{name}.conf -i {dir}/{name}.pid -z {dir}/zserv.api \
                 --vty_socket {dir} -P 0 {options} --log file:{dir}/{name}.log",
                self.host
            );
            self.daemons.push(Background::start(Command::new("ip").args(line.split_whitespace())));
            let socket = self.dir.path().join(socket);
            eventually(&format!("{name} runs"), PATIENCE, || socket.exists().then_some(()));
        }
    }

    /// Starts the daemons in another namespace.
    pub fn start_in(&mut self, host: &Host) {
        self.host.clone_from(&host.name);
        self.start();
    }

    /// Kills the daemons: nothing is tidied up.
    pub fn kill(&mut self) {
        self.daemons.clear();
    }

    /// What `vtysh -c` says.
    pub fn vtysh(&self, command: &str) -> String {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(self.dir.path()).args(["-c", command]);
        let output = vtysh.output().expect("vtysh runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn bgpd(router_id: &str, neighbours: &[String], is_reflector: bool) -> String {
    let mut text = format!("router bgp 65000\n bgp router-id {router_id}\n no bgp default ipv4-unicast\n");
    for neighbour in neighbours {
        text += &format!(" neighbor {neighbour} remote-as 65000\n neighbor {neighbour} timers 10 30\n");
        text += &format!(" neighbor {neighbour} timers connect 1\n");
    }
    text += " address-family l2vpn evpn\n";
    for neighbour in neighbours {
        text += &format!("  neighbor {neighbour} activate\n");
        if is_reflector {
            text += &format!("  neighbor {neighbour} route-reflector-client\n");
        }
    }
    if !is_reflector {
        text += "  advertise-all-vni\n";
    }
    text + " exit-address-family\n"
}

/// The underlay's LAN, with the route reflector on it.
#[derive(Debug)]
pub struct Fabric {
    pub host: Host,
    pub frr: Frr,
}

impl Fabric {
    /// With a route reflector for leaves of these numbers.
    pub fn new(leaves: &[u8]) -> Fabric {
        let host = Host::new("fabric");
        host.ip("link add lan type bridge");
        host.ip("link set lan up");
        host.ip(&format!("address add {REFLECTOR}/24 dev lan"));
        let neighbours: Vec<String> = leaves.iter().map(|n| bgp_address(*n)).collect();
        let frr = Frr::new(&host, &bgpd(REFLECTOR, &neighbours, true));
        Fabric { host, frr }
    }

    /// A cable from the LAN to a device of a host.
    pub fn cable(&self, to: &Host, n: u8, device: &str) {
        self.host.ip(&format!("link add leaf{n} type veth peer name {device} netns {}", to.name));
        self.host.ip(&format!("link set leaf{n} master lan up"));
        // Otherwise checksums are left for hardware that is not there.
        self.host.sh(&format!("ethtool -K leaf{n} tx off"));
        to.ip(&format!("link set {device} up"));
        to.sh(&format!("ethtool -K {device} tx off"));
    }
}

/// The address of a leaf's FRR.
pub fn bgp_address(n: u8) -> String {
    format!("192.0.2.{}", 10 + n)
}

/// The address of a leaf's VTEP.
pub fn vtep(n: u8) -> String {
    format!("192.0.2.{n}")
}

/// The MAC address of a leaf's first host.
pub fn mac(n: u8) -> String {
    format!("02:00:00:00:01:{n:02x}")
}

/// The address of a leaf's first host.
pub fn address(n: u8) -> String {
    format!("10.0.0.{n}")
}

/// A leaf with vxswitch. Fields are dropped in their order.
#[derive(Debug)]
pub struct Leaf {
    pub daemon: Daemon,
    pub frr: Frr,
    pub guest: Host,
    pub host: Host,
    n: u8,
    bgp: Bgp,
}

/// How a leaf's FRR reaches the route reflector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bgp {
    /// By a port of type `internal` on the underlay bridge, which goes with the switch.
    InBand,
    /// By an interface of its own.
    OutOfBand,
}

impl Leaf {
    /// Number `n`, its worker on the lcore.
    pub fn new(fabric: &Fabric, n: u8, lcore: &str, bgp: Bgp) -> Leaf {
        let internal = match bgp {
            Bgp::InBand => {
                format!(
                    "[[bridge.port]]\nname = \"bgp\"\ntype = \"internal\"\nmac = \"02:00:00:00:0b:0{n}\"\n"
                )
            }
            Bgp::OutOfBand => String::new(),
        };
        let (host, guest) = (Host::new(&format!("leaf{n}")), Host::new(&format!("guest{n}")));
        fabric.cable(&host, n, "u");
        if bgp == Bgp::OutOfBand {
            fabric.cable(&host, n + 100, "bgp");
        }
        let config = format!(
            r#"
[[bridge]]
name = "br0"
[[bridge.port]]
name = "p1"
type = "dpdk"
options = {{ dpdk-devargs = "net_tap0,iface=p1" }}
[[bridge.port]]
name = "vx"
type = "vxlan"
options = {{ remote_ip = "evpn", key = {VNI} }}

[[bridge]]
name = "br-phy"
hwaddr = "02:00:00:00:0a:0{n}"
address = ["{vtep}/24"]
[[bridge.port]]
name = "uplink"
type = "dpdk"
options = {{ dpdk-devargs = "net_af_packet0,iface=u" }}
{internal}"#,
            vtep = vtep(n)
        );
        let daemon = Daemon::start_in(Some(&host), &config, lcore);
        host.ip("link set bgp up");
        host.ip(&format!("address add {}/24 dev bgp", bgp_address(n)));
        let frr = Frr::new(&host, &bgpd(&bgp_address(n), &[REFLECTOR.to_owned()], false));
        guest.connect(&host, "p1", &mac(n), INNER_MTU, &format!("{}/24", address(n)));
        Leaf { daemon, frr, guest, host, n, bgp }
    }

    /// Starts another switch in the place of one that was stopped or killed, with what goes with its taps.
    pub fn restart(&mut self) {
        self.daemon.restart();
        let n = self.n;
        if self.bgp == Bgp::InBand {
            self.host.ip("link set bgp up");
            self.host.ip(&format!("address add {}/24 dev bgp", bgp_address(n)));
        }
        self.guest.connect(&self.host, "p1", &mac(n), INNER_MTU, &format!("{}/24", address(n)));
    }

    /// Where `br0` has an address: port, and VTEP behind a tunnel.
    pub fn fdb(&self, mac: &str) -> Option<(String, Option<String>)> {
        let rows = self.daemon.json("fdb show br0");
        let row = rows.as_array().expect("rows").iter().find(|row| row["mac"] == mac)?;
        let text = |column: &str| row[column].as_str().map(str::to_owned);
        Some((text("port").expect("port"), text("remote")))
    }

    /// Waits until `br0` has an address behind a leaf's VTEP.
    #[track_caller]
    pub fn until_at(&self, mac: &str, leaf: u8) {
        self.until(mac, &("vx".to_owned(), Some(vtep(leaf))));
    }

    /// Waits until `br0` has an address on a port of its own.
    #[track_caller]
    pub fn until_on(&self, mac: &str, port: &str) {
        self.until(mac, &(port.to_owned(), None));
    }

    #[track_caller]
    fn until(&self, mac: &str, wanted: &(String, Option<String>)) {
        let what = format!("leaf {} has {mac} at {wanted:?}", self.n);
        eventually(&what, PATIENCE, || (self.fdb(mac).as_ref() == Some(wanted)).then_some(()));
    }

    /// The row of `evpn show`.
    pub fn evpn(&self) -> Value {
        self.daemon.json("evpn show")[0].clone()
    }

    /// Makes a port `name` with a host behind it.
    pub fn attach(&self, name: &str, mac: &str, address: &str) -> Host {
        let host = Host::new(name);
        self.daemon.vxctl(&format!("add-port br0 {name} -- set interface {name} type=tap"));
        host.connect(&self.host, name, mac, INNER_MTU, &format!("{address}/24"));
        host
    }

    /// Waits until `br0` does not know an address.
    #[track_caller]
    pub fn until_gone(&self, mac: &str) {
        let what = format!("leaf {} has forgotten {mac}", self.n);
        eventually(&what, PATIENCE, || self.fdb(mac).is_none().then_some(()));
    }

    /// The remote VTEPs of its tunnel port.
    pub fn vteps(&self) -> Vec<String> {
        let show = self.daemon.json("show");
        let bridges = show["bridges"].as_array().expect("bridges").iter();
        let mut ports = bridges.flat_map(|bridge| bridge["ports"].as_array().expect("ports"));
        let port = ports.find(|port| port["name"] == "vx").expect("port vx");
        let remotes = port["remotes"].as_array().cloned().unwrap_or_default();
        remotes.iter().filter_map(|remote| Some(remote["ip"].as_str()?.to_owned())).collect()
    }

    /// Waits until its tunnel port has the VTEPs of these leaves, and no others.
    #[track_caller]
    pub fn until_vteps(&self, leaves: &[u8]) {
        let wanted: Vec<String> = leaves.iter().map(|n| vtep(*n)).collect();
        let what = format!("leaf {} has the VTEPs {wanted:?}", self.n);
        eventually(&what, PATIENCE, || {
            let mut now = self.vteps();
            now.sort();
            (now == wanted).then_some(())
        });
    }

    /// Stops the switch, which must have accounted for every packet.
    pub fn finish(mut self) {
        self.daemon.assert_balanced();
        self.daemon.stop();
    }
}

/// A leaf of Linux's own bridge and vxlan device.
#[derive(Debug)]
pub struct LinuxLeaf {
    pub frr: Frr,
    pub guest: Host,
    pub host: Host,
}

impl LinuxLeaf {
    /// Number `n`.
    pub fn new(fabric: &Fabric, n: u8) -> LinuxLeaf {
        let (host, guest) = (Host::new(&format!("linux{n}")), Host::new(&format!("guest{n}")));
        fabric.cable(&host, n, "u");
        host.ip(&format!("address add {}/24 dev u", bgp_address(n)));
        host.ip(&format!("address add {}/24 dev u", vtep(n)));
        host.ip("link add br0 type bridge");
        host.ip(&format!("link add vx type vxlan id {VNI} dstport 4789 local {} nolearning", vtep(n)));
        ip(&format!("link add p1 netns {} type veth peer name g netns {}", host.name, guest.name));
        for device in ["vx", "p1"] {
            host.ip(&format!("link set {device} master br0"));
        }
        for device in ["br0", "vx", "p1"] {
            host.ip(&format!("link set {device} up"));
        }
        guest.configure("g", &mac(n), INNER_MTU, &format!("{}/24", address(n)));
        let frr = Frr::new(&host, &bgpd(&bgp_address(n), &[REFLECTOR.to_owned()], false));
        LinuxLeaf { frr, guest, host }
    }

    /// The rows of its forwarding database for an address.
    pub fn fdb(&self, mac: &str) -> String {
        let rows = run(Command::new("bridge").args(["-n", &self.host.name, "fdb", "show", "br", "br0"]));
        rows.lines().filter(|row| row.starts_with(mac)).collect::<Vec<_>>().join("\n")
    }

    /// Waits until it has an address behind a leaf's VTEP.
    #[track_caller]
    pub fn until_at(&self, mac: &str, leaf: u8) {
        let wanted = format!("dst {} ", vtep(leaf));
        eventually(&format!("Linux has {mac} at {wanted}"), PATIENCE, || {
            self.fdb(mac).contains(&wanted).then_some(())
        });
    }
}
