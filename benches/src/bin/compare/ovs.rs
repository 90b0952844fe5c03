//! Open vSwitch with DPDK, as Debian packages it: database server and switch of our own, in a directory and a
//! network namespace of their own, so that a system's Open vSwitch is neither needed nor touched.

use crate::process::{Process, run};
use crate::system::{Memory, PortCount, Running, Setting};
use crate::topology::{Side, Topology, mac};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use vxswitch_benches::traffic;

/// Debian's switch with DPDK; `ovs-vswitchd` may be the one without.
const VSWITCHD: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
/// Schema of the database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Packet buffers of its mempool, which it does not let one set.
const MBUFS: usize = 262_144;

/// Why Open vSwitch cannot run a topology.
pub fn cannot(topology: &Topology) -> Option<String> {
    (topology.mbufs > MBUFS).then(|| {
        format!("net_pcap keeps the whole file in packet buffers, and OVS's mempool has {MBUFS} of them")
    })
}

/// A running Open vSwitch.
#[derive(Debug)]
pub struct Ovs {
    // In the order in which they are stopped.
    switch: Process,
    _database: Process,
    control: PathBuf,
    threads: Vec<PathBuf>,
}

impl Ovs {
    /// Starts and configures it.
    pub fn start(setting: &Setting<'_>) -> Result<Ovs> {
        let dir = setting.dir;
        let env = [("OVS_RUNDIR", dir), ("OVS_DBDIR", dir), ("OVS_LOGDIR", dir)];
        let path = |name: &str| dir.join(name).display().to_string();
        let (db, socket) = (path("conf.db"), format!("unix:{}", path("db.sock")));
        run("ovsdb-tool", ["create", &db, SCHEMA], &env)?;
        let remote = format!("--remote=p{socket}");
        let unixctl = format!("--unixctl={}", path("db.ctl"));
        let mut database =
            Process::start("ovsdb-server", [&db, &remote, &unixctl], &env, dir.join("ovsdb.log"))?;
        // The file is there before anybody listens.
        database.wait_for("socket", |_| UnixStream::connect(dir.join("db.sock")).is_ok().then_some(()))?;

        // The whole configuration is there before the switch starts.
        let database_arg = format!("--db={socket}");
        let mut args = vec![database_arg, "--no-wait".to_owned(), "init".to_owned()];
        args.extend(configuration(setting));
        run("ovs-vsctl", args, &env)?;
        let unixctl = format!("--unixctl={}", path("vs.ctl"));
        let args = ["-n", VSWITCHD, &socket, &unixctl, "-vconsole:info"];
        let mut switch = Process::start("unshare", args, &env, dir.join("vswitchd.log"))?;
        let control = dir.join("vs.ctl");
        let threads = switch.workers(setting.topology.workers)?;

        if !setting.topology.rules.is_empty() {
            switch.wait_for("OpenFlow socket", |_| dir.join("br0.mgmt").exists().then_some(()))?;
            let file = dir.join("br0.flows");
            std::fs::write(&file, setting.topology.rules.join("\n"))?;
            let bridge = format!("unix:{}", path("br0.mgmt"));
            switch.wait_for("OpenFlow rules", |_| {
                run("ovs-ofctl", ["add-flows", &bridge, &file.display().to_string()], &env).ok()
            })?;
        }
        let mut ovs = Ovs { switch, _database: database, control, threads };
        if !setting.topology.tunnels.is_empty() {
            ovs.underlay(setting.topology)?;
        }
        Ok(ovs)
    }

    /// Gives the underlay bridge its address and the remote VTEPs' MAC addresses.
    fn underlay(&mut self, topology: &Topology) -> Result<()> {
        let pid = self.switch.pid().to_string();
        let ip = |words: &str| {
            let args = ["-t", &pid, "-n", "ip"];
            run("nsenter", args.into_iter().chain(words.split(' ')), &[])
        };
        self.switch.wait_for("br-phy", |_| ip("link show br-phy").ok())?;
        ip(&format!("addr add {}/24 dev br-phy", traffic::LOCAL_IP))?;
        ip("link set br-phy up")?;
        let control = self.control.clone();
        // It hears of the address over netlink, some time later.
        self.switch.wait_for("route to the VTEPs", |_| {
            let routes = call(&control, "ovs/route/show", &[]).ok()?;
            routes.contains("192.168.1.0/24").then_some(())
        })?;
        for tunnel in &topology.tunnels {
            let (ip, mac) = (traffic::vtep_ip(tunnel.vtep).to_string(), mac(traffic::vtep_mac(tunnel.vtep)));
            call(&self.control, "tnl/neigh/set", &["br-phy", &ip, &mac])?;
        }
        Ok(())
    }
}

impl Running for Ovs {
    fn ports(&mut self) -> Result<BTreeMap<String, PortCount>> {
        Ok(ports(&call(&self.control, "dpctl/show", &["-s", "netdev@ovs-netdev"])?))
    }

    fn flows(&mut self) -> Result<u64> {
        let text = call(&self.control, "dpctl/show", &["netdev@ovs-netdev"])?;
        let flows = text.lines().find_map(|line| line.trim().strip_prefix("flows: ")?.parse().ok());
        flows.with_context(|| format!("dpctl/show: expected a line `flows: N`, found:\n{text}"))
    }

    fn workers(&mut self) -> (&[PathBuf], &mut Process) {
        (&self.threads, &mut self.switch)
    }
}

/// `ovs-vsctl` commands, as one transaction.
fn configuration(setting: &Setting<'_>) -> Vec<String> {
    let topology = setting.topology;
    let mut out = Vec::new();
    let mut command = |words: &[&str]| {
        out.push("--".to_owned());
        out.extend(words.iter().map(|word| (*word).to_owned()));
    };
    let eal = match setting.memory {
        Memory::Hugepages => "--in-memory --no-pci --no-telemetry".to_owned(),
        // Its mempool has buffers of 2.9 KiB.
        Memory::Ordinary => {
            format!("--no-huge --legacy-mem --no-shconf --no-pci --no-telemetry -m {}", (MBUFS * 3072) >> 20)
        }
    };
    let mask = if topology.workers == 1 { "0x2" } else { "0x3" };
    let extra = format!("other_config:dpdk-extra=\"{eal}\"");
    let pmd = format!("other_config:pmd-cpu-mask={mask}");
    let lcore = "other_config:dpdk-lcore-mask=0x1";
    command(&["set", "Open_vSwitch", ".", "other_config:dpdk-init=true", lcore, &pmd, &extra]);
    let fail_mode = if topology.rules.is_empty() { "fail_mode=standalone" } else { "fail_mode=secure" };
    let hwaddr = format!("other-config:hwaddr=\"{}\"", mac(traffic::LOCAL_MAC));
    command(&["add-br", "br0"]);
    command(&[
        "set",
        "bridge",
        "br0",
        "datapath_type=netdev",
        fail_mode,
        "other-config:mac-table-size=1000000",
    ]);
    command(&["add-br", "br-phy"]);
    command(&["set", "bridge", "br-phy", "datapath_type=netdev", "fail_mode=standalone", &hwaddr]);
    for device in &topology.devices {
        let bridge = if device.side == Side::Overlay { "br0" } else { "br-phy" };
        command(&["add-port", bridge, device.name]);
        let devargs = format!("options:dpdk-devargs=\"{}\"", device.devargs);
        let queues = format!("options:n_rxq={}", topology.workers);
        command(&["set", "interface", device.name, "type=dpdk", &devargs, &queues]);
    }
    for tunnel in &topology.tunnels {
        command(&["add-port", "br0", &tunnel.name]);
        let remote = format!("options:remote_ip={}", traffic::vtep_ip(tunnel.vtep));
        let key = format!("options:key={}", traffic::vtep_vni(tunnel.vtep));
        command(&["set", "interface", &tunnel.name, "type=vxlan", &remote, &key]);
    }
    out
}

/// Calls a method of the switch's control socket: what `ovs-appctl` does, without a process a call.
fn call(socket: &Path, method: &str, params: &[&str]) -> Result<String> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    serde_json::to_writer(&stream, &serde_json::json!({ "id": 0, "method": method, "params": params }))?;
    let mut answers = serde_json::Deserializer::from_reader(&stream).into_iter::<serde_json::Value>();
    let answer = answers.next().context("ovs-vswitchd closed its control socket")??;
    match (&answer["result"], &answer["error"]) {
        (serde_json::Value::String(text), _) => Ok(text.clone()),
        (_, error) => bail!("ovs-appctl {method} {}: {error}", params.join(" ")),
    }
}

/// Reads `dpctl/show -s`.
fn ports(text: &str) -> BTreeMap<String, PortCount> {
    let mut ports = BTreeMap::<String, PortCount>::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        let count = |label: &str| line.strip_prefix(label)?.split(' ').next()?.parse().ok();
        if let Some(rest) = line.strip_prefix("port ") {
            rest.split(' ').nth(1).unwrap_or_default().clone_into(&mut name);
        } else if let Some(rx) = count("RX packets:") {
            ports.entry(name.clone()).or_default().rx = rx;
        } else if let Some(tx) = count("TX packets:") {
            ports.entry(name.clone()).or_default().tx = tx;
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_statistics_are_read() {
        let text = "netdev@ovs-netdev:\n  lookups: hit:1 missed:5 lost:0\n  flows: 4\n  port 3: vxlan_sys_4789 (vxlan)\n    \
                    RX packets:0 errors:? dropped:?\n    TX packets:0 errors:?\n  port 4: in (dpdk: mtu=1500)\n    \
                    RX packets:77 errors:0\n    TX packets:8 errors:0\n    RX bytes:1  TX bytes:0\n";
        let ports = ports(text);
        assert_eq!(ports["in"], PortCount { rx: 77, tx: 8, dropped: None });
        assert_eq!(ports.len(), 2);
    }
}
