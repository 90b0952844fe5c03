//! Our own switch.

use crate::process::Process;
use crate::system::{PortCount, Running, Setting};
use crate::topology::{Side, Topology, mac};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vxswitch_benches::traffic;

/// A running vxswitch.
#[derive(Debug)]
pub struct Vxswitch {
    process: Process,
    metrics: SocketAddr,
    threads: Vec<PathBuf>,
}

impl Vxswitch {
    /// Starts `program` with a file made from the topology.
    pub fn start(program: &Path, setting: &Setting<'_>) -> Result<Vxswitch> {
        let file = setting.dir.join("vxswitch.toml");
        std::fs::write(&file, document(setting.topology))?;
        // Free a moment ago; nobody else here asks for ports by chance.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut args = setting.lcores().to_vec();
        args.extend(setting.memory.eal(setting.topology.mbufs));
        args.extend(["--no-pci", "--no-telemetry", "--", "--config"].map(str::to_owned));
        args.push(file.display().to_string());
        args.extend(["--control".to_owned(), setting.dir.join("vxswitch.sock").display().to_string()]);
        args.extend(["--metrics".to_owned(), metrics.to_string()]);
        let program = program.display().to_string();
        let mut process = Process::start(&program, args, &[], setting.dir.join("vxswitch.log"))?;
        process.wait_for("answer at /readyz", |_| {
            get(metrics, "/readyz").ok().filter(|answer| answer.starts_with("HTTP/1.1 200")).map(drop)
        })?;
        let threads = process.workers(setting.topology.workers)?;
        Ok(Vxswitch { process, metrics, threads })
    }
}

impl Running for Vxswitch {
    fn ports(&mut self) -> Result<BTreeMap<String, PortCount>> {
        Ok(ports(&get(self.metrics, "/metrics")?))
    }

    fn flows(&mut self) -> Result<u64> {
        let text = get(self.metrics, "/metrics")?;
        Ok(samples(&text, "vxswitch_megaflows").map(|(_, value)| value).sum())
    }

    fn workers(&mut self) -> (&[PathBuf], &mut Process) {
        (&self.threads, &mut self.process)
    }
}

/// The configuration file.
fn document(topology: &Topology) -> String {
    let mut out = format!("[dpdk]\nmbufs = {}\n", topology.mbufs);
    for side in [Side::Overlay, Side::Underlay] {
        if side == Side::Underlay && topology.tunnels.is_empty() {
            break;
        }
        bridge(&mut out, topology, side).expect("writing to a string does not fail");
    }
    out
}

fn bridge(out: &mut String, topology: &Topology, side: Side) -> std::fmt::Result {
    writeln!(out, "\n[[bridge]]")?;
    if side == Side::Overlay {
        writeln!(out, "name = \"br0\"\nother_config = {{ mac-table-size = 1_000_000 }}")?;
        if !topology.rules.is_empty() {
            writeln!(out, "fail_mode = \"secure\"\nflows = [")?;
            for rule in &topology.rules {
                writeln!(out, "    \"{rule}\",")?;
            }
            writeln!(out, "]")?;
        }
    } else {
        writeln!(out, "name = \"br-phy\"\nhwaddr = \"{}\"", mac(traffic::LOCAL_MAC))?;
        writeln!(out, "address = [\"{}/24\"]\nneighbour = [", traffic::LOCAL_IP)?;
        for tunnel in &topology.tunnels {
            let (ip, mac) = (traffic::vtep_ip(tunnel.vtep), mac(traffic::vtep_mac(tunnel.vtep)));
            writeln!(out, "    {{ ip = \"{ip}\", mac = \"{mac}\" }},")?;
        }
        writeln!(out, "]")?;
    }
    for device in topology.devices.iter().filter(|device| device.side == side) {
        writeln!(out, "\n[[bridge.port]]\nname = \"{}\"\ntype = \"dpdk\"", device.name)?;
        writeln!(out, "options = {{ dpdk-devargs = \"{}\" }}", device.devargs)?;
    }
    for tunnel in topology.tunnels.iter().filter(|_| side == Side::Overlay) {
        let (ip, vni) = (traffic::vtep_ip(tunnel.vtep), traffic::vtep_vni(tunnel.vtep));
        writeln!(out, "\n[[bridge.port]]\nname = \"{}\"\ntype = \"vxlan\"", tunnel.name)?;
        writeln!(out, "options = {{ remote_ip = \"{ip}\", key = {vni} }}")?;
    }
    Ok(())
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    let timeout = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("no answer for {path}"))?;
    Ok(answer)
}

/// Labels and value of every sample of a metric.
fn samples<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(metric)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let whole_name = labels.is_empty() || labels.starts_with('{');
        Some((labels, value.trim().parse::<f64>().ok()? as u64)).filter(|_| whole_name)
    })
}

fn ports(text: &str) -> BTreeMap<String, PortCount> {
    let mut ports = BTreeMap::<String, PortCount>::new();
    let name = |labels: &str| {
        labels.split_once("port=\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
    };
    for (labels, value) in samples(text, "vxswitch_port_rx_packets_total") {
        ports.entry(name(labels).unwrap_or_default()).or_default().rx += value;
    }
    for (labels, value) in samples(text, "vxswitch_port_tx_packets_total") {
        ports.entry(name(labels).unwrap_or_default()).or_default().tx += value;
    }
    for port in ports.values_mut() {
        port.dropped = Some(0);
    }
    for (labels, value) in samples(text, "vxswitch_drops_total") {
        if let Some(port) = name(labels).and_then(|name| ports.get_mut(&name)) {
            port.dropped = port.dropped.map(|dropped| dropped + value);
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_port() {
        let text = "# TYPE vxswitch_port_tx_packets_total counter\n\
                    vxswitch_port_tx_packets_total{bridge=\"br0\",port=\"out\"} 1.5e3\n\
                    vxswitch_port_rx_packets_total{bridge=\"br0\",port=\"in\"} 7\n\
                    vxswitch_drops_total{port=\"in\",reason=\"hold_full\"} 2\n\
                    vxswitch_drops_total{port=\"in\",reason=\"tx_full\"} 3\n\
                    vxswitch_megaflows{lcore=\"1\"} 4\nvxswitch_megaflows_limit 9\n";
        let ports = ports(text);
        assert_eq!(ports["out"].tx, 1500);
        assert_eq!((ports["in"].rx, ports["in"].dropped), (7, Some(5)));
        assert_eq!(ports["out"].dropped, Some(0));
        assert_eq!(samples(text, "vxswitch_megaflows").map(|(_, n)| n).sum::<u64>(), 4);
    }
}
