//! A case as devices, tunnels and rules: what each system is configured from, so that all get the same.

use crate::case::{Case, Kind};
use anyhow::{Context, Result};
use std::path::Path;
use vxswitch_benches::pcap;
use vxswitch_benches::traffic::{self, Flow};

/// Masks of the `acl` case: five prefix lengths, each alone and with three other fields.
const PREFIXES: [u32; 5] = [12, 16, 20, 24, 28];
/// What stands beside the prefix.
const BESIDES: [&str; 4] = ["", "tp_dst", "tp_src", "dl_src"];
/// Rules of each mask.
const RULES_PER_MASK: u32 = 16;
/// Source and destination ports of the `setup` case; there is a flow for each pair.
const SETUP_PORTS: (u16, u16) = (400, 500);
/// Established flows of the `setup` case.
const ESTABLISHED: usize = 1000;

/// Which bridge a device is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The bridge with hosts and tunnels, `br0`.
    Overlay,
    /// The bridge with the VTEP's address, `br-phy`.
    Underlay,
}

/// An ethdev.
#[derive(Debug, Clone)]
pub struct Device {
    /// Port name.
    pub name: &'static str,
    /// Its bridge.
    pub side: Side,
    /// DPDK device and its arguments: `net_pcap` with a file an RX queue, or `net_null`.
    pub devargs: String,
}

/// A vxlan port on the overlay bridge.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// Port name.
    pub name: String,
    /// Number of its remote VTEP.
    pub vtep: usize,
}

/// Everything that a system needs to be started for a case.
#[derive(Debug, Clone)]
pub struct Topology {
    /// In testpmd's order: the first two are a pair, and so are the next two.
    pub devices: Vec<Device>,
    /// vxlan ports.
    pub tunnels: Vec<Tunnel>,
    /// Rules of `br0`, in `ovs-ofctl` syntax; without any the bridge learns.
    pub rules: Vec<String>,
    /// Ports whose sent packets count.
    pub sinks: Vec<&'static str>,
    /// Packet buffers that are enough.
    pub mbufs: usize,
    /// Worker lcores.
    pub workers: usize,
}

/// Writes a case's traffic into `dir` and says what has to be configured.
pub fn prepare(case: &Case, dir: &Path) -> Result<Topology> {
    let encap = |n: usize, flow: Flow| traffic::frame(&flow, case.lengths.of(n));
    let decap = |n: usize, flow: Flow, vtep: usize| {
        traffic::vxlan_frame(&encap(n, flow.reversed()), vtep, traffic::entropy_port(n))
    };
    let mut files = Files { dir, case };
    let mut topology = Topology {
        devices: Vec::new(),
        tunnels: Vec::new(),
        rules: Vec::new(),
        sinks: vec!["out"],
        mbufs: case.mbufs(),
        workers: case.workers,
    };
    let one_tunnel = || vec![Tunnel { name: "vx0".to_owned(), vtep: 0 }];
    let (overlay, underlay) = (Side::Overlay, Side::Underlay);
    match case.kind {
        Kind::L2 => {
            let input = files.source("in", overlay, |n| encap(n, Flow::numbered(n)))?;
            topology.devices = vec![input, sink("out", overlay)];
            topology.rules = vec!["in_port=in,actions=output:out".to_owned()];
        }
        Kind::Encap => {
            let input = files.source("in", overlay, |n| encap(n, Flow::numbered(n)))?;
            topology.devices = vec![input, sink("out", underlay)];
            topology.tunnels = one_tunnel();
            topology.rules = vec!["in_port=in,actions=output:vx0".to_owned()];
        }
        Kind::Decap => {
            let input = files.source("in", underlay, |n| decap(n, Flow::numbered(n), 0))?;
            topology.devices = vec![input, sink("out", overlay)];
            topology.tunnels = one_tunnel();
            topology.rules = vec!["in_port=vx0,actions=output:out".to_owned()];
        }
        Kind::Normal => {
            let host = files.source("host", overlay, |n| encap(n, pair(n)))?;
            let wire = files.source("wire", underlay, |n| decap(n, pair(n), 0))?;
            topology.devices = vec![host, wire];
            topology.tunnels = one_tunnel();
            topology.sinks = vec!["host", "wire"];
        }
        Kind::Acl => {
            let input = files.source("in", overlay, |n| encap(n, acl_flow(n)))?;
            topology.devices = vec![input, sink("out", underlay)];
            topology.tunnels = one_tunnel();
            topology.rules = acl_rules();
        }
        Kind::Setup => {
            let new = files.source("new", overlay, |n| encap(n, setup_flow(n)))?;
            files.case = case;
            let old: Vec<Vec<u8>> = (0..ESTABLISHED).map(|n| encap(n, Flow::numbered(n))).collect();
            let old = files.device("old", overlay, vec![old])?;
            topology.devices = vec![new, sink("out", overlay), old, sink("kept", overlay)];
            topology.sinks = vec!["out", "kept"];
            topology.rules = setup_rules();
        }
        Kind::Tse | Kind::TseCalm => {
            let calm = case.kind == Kind::TseCalm;
            let attack = files
                .source("attack", overlay, |n| encap(n, if calm { tse_flow(0) } else { tse_flow(n) }))?;
            let victim: Vec<Vec<u8>> = (0..ESTABLISHED).map(|n| encap(n, Flow::numbered(n))).collect();
            let victim = files.device("victim", overlay, vec![victim])?;
            topology.devices = vec![attack, sink("out", overlay), victim, sink("kept", overlay)];
            topology.sinks = vec!["kept"];
            topology.rules = TSE_RULES.map(str::to_owned).to_vec();
        }
        Kind::VtepEncap | Kind::VtepsEncap => {
            let input = files.source("in", overlay, |n| encap(n, vtep_flow(n)))?;
            topology.devices = vec![input, sink("out", underlay)];
            topology.tunnels = if case.kind == Kind::VtepEncap { one_tunnel() } else { many_tunnels() };
            let tunnels = topology.tunnels.len();
            let rule = |n| {
                let mac = mac(traffic::host_mac(2, n));
                format!("in_port=in,dl_dst={mac},actions=output:vx{}", n % tunnels)
            };
            topology.rules = (0..traffic::MAX_VTEPS).map(rule).collect();
        }
        Kind::VtepsDecap => {
            let of = |n: usize| n % traffic::MAX_VTEPS;
            let input = files.source("in", underlay, |n| decap(n, vtep_flow(n), of(n)))?;
            topology.devices = vec![input, sink("out", overlay)];
            topology.tunnels = many_tunnels();
            let rule = |n| format!("in_port=vx{n},actions=output:out");
            topology.rules = (0..traffic::MAX_VTEPS).map(rule).collect();
        }
    }
    Ok(topology)
}

/// Rules of the `tse` case: an address and two ports, each of which a packet can miss by any of its bits.
const TSE_RULES: [&str; 5] = [
    "priority=40,in_port=attack,udp,nw_src=10.0.0.1,actions=output:out",
    "priority=30,in_port=attack,udp,tp_dst=80,actions=output:out",
    "priority=20,in_port=attack,udp,tp_src=12345,actions=output:out",
    "priority=10,in_port=attack,actions=drop",
    "priority=10,in_port=victim,udp,nw_dst=11.0.0.0/8,actions=output:kept",
];

/// Flow `n` of the `tse` case: it misses each rule by another bit, and the bits behind that one are random.
fn tse_flow(n: usize) -> Flow {
    let random = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let other = |value: u32, bits: u32, at: u32, random: u32| {
        let bit = 1 << (bits - 1 - at);
        (value ^ bit) ^ random & (bit - 1)
    };
    let (address, dst, src) = (n % 32, n / 32 % 16, n / 512 % 16);
    Flow {
        nw_src: other(0x0a00_0001, 32, address as u32, random as u32),
        tp_dst: other(80, 16, dst as u32, (random >> 8) as u32) as u16,
        tp_src: other(12345, 16, src as u32, (random >> 24) as u32) as u16,
        ..Flow::numbered(0)
    }
}

/// Where files go, and what they are made for.
struct Files<'a> {
    dir: &'a Path,
    case: &'a Case,
}

impl Files<'_> {
    /// A device that receives the case's flows, spread over a queue a worker.
    fn source(&self, name: &'static str, side: Side, frame: impl Fn(usize) -> Vec<u8>) -> Result<Device> {
        // One packet would be a burst of one: repeat until a burst is full.
        let packets = self.case.flows.max(64);
        let queue = |q| {
            let numbers = (q..packets).step_by(self.case.workers);
            numbers.map(|n| frame(n % self.case.flows)).collect::<Vec<_>>()
        };
        self.device(name, side, (0..self.case.workers).map(queue).collect())
    }

    fn device(&self, name: &'static str, side: Side, queues: Vec<Vec<Vec<u8>>>) -> Result<Device> {
        let mut devargs = format!("net_pcap_{name}");
        for (q, frames) in queues.into_iter().enumerate() {
            let path = self.dir.join(format!("{}-{name}-{q}.pcap", self.case.name));
            pcap::write(&path, frames.iter().map(Vec::as_slice))
                .with_context(|| format!("cannot write {}", path.display()))?;
            devargs.extend([",rx_pcap=", &path.display().to_string()]);
        }
        devargs += ",infinite_rx=1";
        Ok(Device { name, side, devargs })
    }
}

fn sink(name: &'static str, side: Side) -> Device {
    Device { name, side, devargs: format!("net_null_{name},no-rx=1") }
}

fn many_tunnels() -> Vec<Tunnel> {
    (0..traffic::MAX_VTEPS).map(|vtep| Tunnel { name: format!("vx{vtep}"), vtep }).collect()
}

/// Flow `n` between hosts of its own.
fn pair(n: usize) -> Flow {
    Flow { dl_src: traffic::host_mac(1, n), dl_dst: traffic::host_mac(2, n), ..Flow::numbered(n) }
}

/// Flow `n` to a host behind remote VTEP `n` modulo their number.
fn vtep_flow(n: usize) -> Flow {
    Flow { dl_dst: traffic::host_mac(2, n % traffic::MAX_VTEPS), ..Flow::numbered(n) }
}

/// Mask and rule of flow `n`: all masks get as many flows, all rules of a mask too.
fn acl_place(n: usize) -> (u32, u32) {
    let masks = PREFIXES.len() * BESIDES.len();
    ((n % masks) as u32, (n / masks) as u32 % RULES_PER_MASK)
}

/// Network that rule `rule` of mask `mask` matches, and its prefix length.
fn acl_network(mask: u32, rule: u32) -> (u32, u32) {
    let prefix = PREFIXES[mask as usize % PREFIXES.len()];
    (((20 + mask) << 24) | (rule << (32 - prefix)), prefix)
}

fn acl_flow(n: usize) -> Flow {
    let (mask, rule) = acl_place(n);
    let (network, prefix) = acl_network(mask, rule);
    let host = (n as u32).wrapping_mul(0x9e37_79b1) >> prefix;
    let mut flow = Flow { nw_dst: network | host, ..Flow::numbered(n) };
    match BESIDES[mask as usize / PREFIXES.len()] {
        "tp_dst" => flow.tp_dst = 1000 + rule as u16,
        "tp_src" => flow.tp_src = 1000 + rule as u16,
        "dl_src" => flow.dl_src = traffic::host_mac(3, rule as usize),
        _ => {}
    }
    flow
}

fn acl_rules() -> Vec<String> {
    let masks = (PREFIXES.len() * BESIDES.len()) as u32;
    let all = (0..masks).flat_map(|mask| (0..RULES_PER_MASK).map(move |rule| (mask, rule)));
    all.map(|(mask, rule)| {
        let (network, prefix) = acl_network(mask, rule);
        let network = std::net::Ipv4Addr::from(network);
        let besides = match BESIDES[mask as usize / PREFIXES.len()] {
            "" => String::new(),
            "dl_src" => format!(",dl_src={}", mac(traffic::host_mac(3, rule as usize))),
            field => format!(",{field}={}", 1000 + rule),
        };
        format!("priority=100,udp,nw_dst={network}/{prefix}{besides},actions=output:vx0")
    })
    .collect()
}

fn setup_flow(n: usize) -> Flow {
    let (sources, destinations) = (SETUP_PORTS.0 as usize, SETUP_PORTS.1 as usize);
    let tp_src = 1 + (n % sources) as u16;
    Flow { tp_src, tp_dst: 1 + (n / sources % destinations) as u16, ..Flow::numbered(0) }
}

/// Rules that look at both ports in full: one a source port in table 0, one a destination port in table 1.
fn setup_rules() -> Vec<String> {
    let old = std::iter::once("priority=200,in_port=old,actions=output:kept".to_owned());
    let first = (1..=SETUP_PORTS.0)
        .map(|port| format!("table=0,priority=100,in_port=new,udp,tp_src={port},actions=resubmit(,1)"));
    let second =
        (1..=SETUP_PORTS.1).map(|port| format!("table=1,priority=100,udp,tp_dst={port},actions=output:out"));
    old.chain(first).chain(second).collect()
}

/// A MAC address as all three systems write it.
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acl_flows_match_their_rules() {
        let rules = acl_rules();
        assert_eq!(rules.len(), 20 * RULES_PER_MASK as usize);
        for n in [0, 1, 19, 20, 399, 12_345] {
            let (mask, rule) = acl_place(n);
            let (network, prefix) = acl_network(mask, rule);
            let flow = acl_flow(n);
            assert_eq!(flow.nw_dst >> (32 - prefix), network >> (32 - prefix), "flow {n}");
            assert_eq!(flow.nw_dst >> 24, 20 + mask, "masks do not share networks");
        }
    }

    #[test]
    fn tse_flows_miss_each_rule_by_every_bit() {
        let places: std::collections::BTreeSet<_> = (0..60_000)
            .map(|n| {
                let flow = tse_flow(n);
                // The first bit by which it misses the rule.
                let port = |port: u16, rule: u16| (port ^ rule).leading_zeros();
                let src = (flow.nw_src ^ 0x0a00_0001).leading_zeros();
                (src, port(flow.tp_dst, 80), port(flow.tp_src, 12345))
            })
            .collect();
        assert_eq!(places.len(), 32 * 16 * 16);
        assert!(places.iter().all(|(src, dst, port)| *src < 32 && *dst < 16 && *port < 16));
    }

    #[test]
    fn setup_flows_are_all_different() {
        let flows: std::collections::BTreeSet<_> =
            (0..200_000).map(|n| (setup_flow(n).tp_src, setup_flow(n).tp_dst)).collect();
        assert_eq!(flows.len(), 200_000);
        assert_eq!(setup_rules().len(), 1 + 400 + 500);
    }

    #[test]
    fn every_case_has_files_and_sinks() {
        let dir = tempfile::tempdir().unwrap();
        for case in crate::case::all().into_iter().filter(|case| case.flows <= 8000) {
            let topology = prepare(&case, dir.path()).unwrap();
            let args = topology.devices.iter().flat_map(|device| device.devargs.split(','));
            let files: Vec<_> = args.filter_map(|arg| arg.strip_prefix("rx_pcap=")).collect();
            assert!(files.len() >= case.workers, "{}", case.name);
            assert!(files.iter().all(|file| Path::new(file).exists()), "{}", case.name);
            for sink in &topology.sinks {
                assert!(topology.devices.iter().any(|d| d.name == *sink), "{}", case.name);
            }
            assert!(topology.devices.len().is_multiple_of(2), "testpmd forwards between pairs");
        }
    }
}
