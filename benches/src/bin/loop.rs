//! The datapath alone, in one process and one thread: a worker between two rings, the slow path beside it. What
//! `scripts/bench --gate` counts the instructions of, under callgrind.
//!
//! ```text
//! loop CASE [PACKETS]      CASE is l2, encap, encap-rules, decap, normal, normal-decap, acl, vteps-encap, vteps-decap;
//!                          geneve-CASE and gre-CASE are the same with these tunnels
//! loop --step NAME         a single step, of those that `cargo bench` measures
//! loop --setup [FLOWS]     time a new flow takes, of the slow path and of the worker: see [`setup`]
//! ```
//! Only [`measured`] (or [`measured_step`]) is collected (`--toggle-collect`). It is the same work in every run: the flows are set up
//! before, and mbufs come and go through rings of a fixed size. Prints the number of packets measured, and on standard error what one
//! took at best, without the devices' share of the caches: to compare two builds in seconds.

use anyhow::{Context, Result, bail, ensure};
use datapath::counters::WorkerCounters;
use datapath::message::Link;
use datapath::meter::Meters;
use datapath::tx::{PortTx, TxPath};
use datapath::{BURST, Worker, WorkerConfig};
use flow::megaflow::Slab;
use flow::ofp::{FlowSpec, parse_flow};
use rte::{Mbuf, Mempool, PortHandle, Ring};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vxswitch::bridge::BridgePorts;
use vxswitch::slowpath::ports::WorkerQueues;
use vxswitch::slowpath::workers::WorkerSide;
use vxswitch::slowpath::{SlowPath, SlowPathConfig};
use vxswitch_benches::steps::{self, Step};
use vxswitch_benches::traffic::{self, Flow};
use wire::addr::MacAddr;

/// Different flows.
const FLOWS: usize = 1000;
/// Packet buffers.
const MBUFS: u32 = 4095;
/// Packets measured unless said.
const PACKETS: usize = 32_000;
/// Rounds over all flows before, which install megaflows and fill the cache.
const WARM_UP: usize = 4;
/// Bursts of which the time is taken together; the least of all counts.
const BURSTS_PER_ROUND: usize = 1000;
/// Packets in a port's ring at most: one burst.
const RING: u32 = 64;
/// Runs of a single step.
const STEP_RUNS: usize = 50;
/// Megaflows that there is room for.
const SLOTS: usize = 200_000;
/// Flows of `--setup` unless said.
const SETUP_FLOWS: usize = 180_000;
/// Source and destination ports of `--setup`.
const SETUP_PORTS: (usize, usize) = (400, 500);
/// Rules of the `acl` case, each with a mask of its own.
const ACL_MASKS: usize = 20;

/// A case: configuration and the frames that go into `in`.
struct Case {
    document: String,
    frames: Vec<Vec<u8>>,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("expected: loop CASE [PACKETS], or loop --step NAME")?;
    if name == "--step" {
        return step(&args.next().context("expected the name of a step")?);
    }
    if name == "--setup" {
        let flows = args.next().map_or(Ok(SETUP_FLOWS), |word| word.parse());
        return setup(flows.context("expected a number of flows")?);
    }
    let packets =
        args.next().map_or(Ok(PACKETS), |word| word.parse()).context("expected a number of packets")?;
    let case = case(&name)?;
    let mut switch = Switch::start(&case.document)?;
    for _ in 0..WARM_UP {
        for burst in case.frames.chunks(BURST) {
            switch.fill(burst)?;
            switch.settle();
        }
    }
    let bursts = packets.div_ceil(BURST);
    let (mut sent, mut least, mut round) = (0, u64::MAX, 0);
    for (n, burst) in case.frames.chunks_exact(BURST).cycle().take(bursts).enumerate() {
        switch.fill(burst)?;
        let began = rte::cycles();
        measured(&mut switch.worker);
        round += rte::cycles() - began;
        sent += switch.drain();
        if (n + 1) % BURSTS_PER_ROUND == 0 {
            least = least.min(std::mem::take(&mut round));
        }
    }
    if bursts >= BURSTS_PER_ROUND {
        eprintln!("{:.1} cycles a packet", least as f64 / (BURSTS_PER_ROUND * BURST) as f64);
    }
    ensure!(
        sent == bursts * BURST,
        "{sent} packets came out of {}: not what is to be measured",
        bursts * BURST
    );
    println!("{sent}");
    switch.stop()
}

/// One loop of the worker: the only thing that is counted.
#[inline(never)]
fn measured(worker: &mut Worker) {
    std::hint::black_box(worker.poll());
}

/// Every packet a new flow under rules that look at ports, as in the `setup` case of `scripts/bench`. Prints what a
/// flow costs the slow path (upcall to commands) and the worker (miss, hold, install, release).
fn setup(flows: usize) -> Result<()> {
    let mut switch = Switch::start(&case("setup")?.document)?;
    let (mut slow, mut worker) = (Duration::ZERO, Duration::ZERO);
    let (sources, destinations) = SETUP_PORTS;
    for start in (0..flows).step_by(BURST) {
        let frames: Vec<Vec<u8>> = (start..start + BURST)
            .map(|n| {
                let (tp_src, tp_dst) = (1 + n % sources, 1 + n / sources % destinations);
                let (tp_src, tp_dst) = (tp_src as u16, tp_dst as u16);
                traffic::frame(&Flow { tp_src, tp_dst, ..Flow::numbered(0) }, 60)
            })
            .collect();
        switch.fill(&frames)?;
        let began = Instant::now();
        switch.worker.poll();
        let then = Instant::now();
        switch.slow.turn();
        let end = Instant::now();
        while switch.slow.workers.iter().any(|w| !w.link.commands.is_empty()) {
            switch.worker.poll();
        }
        (slow, worker) = (slow + (end - then), worker + (then - began) + end.elapsed());
        let sent = switch.drain();
        ensure!(sent == BURST, "{sent} packets of {BURST} new flows came out");
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / flows as f64;
    println!("{flows} flows, ns a flow: slow path {:.0}, worker {:.0}", each(slow), each(worker));
    switch.stop()
}

/// Runs a single step: once to warm up, then to be counted.
fn step(name: &str) -> Result<()> {
    let mut step = steps::all().into_iter().find(|step| step.name == name).context("no such step")?;
    (step.run)();
    for _ in 0..STEP_RUNS {
        measured_step(&mut step);
    }
    println!("{}", STEP_RUNS * step.packets);
    Ok(())
}

/// One run of a step: the only thing that is counted.
#[inline(never)]
fn measured_step(step: &mut Step) {
    (step.run)();
    std::hint::black_box(());
}

/// A worker, the slow path, and the far ends of the ports `in` and `out`.
struct Switch {
    worker: Worker,
    slow: SlowPath,
    pool: Mempool,
    input: Ring,
    output: Ring,
    handles: Vec<PortHandle>,
}

impl Switch {
    fn start(document: &str) -> Result<Switch> {
        let eal = "loop --no-huge --no-shconf --no-pci --no-telemetry --log-level=error -m 64 -l 0";
        let eal: Vec<String> = eal.split(' ').map(str::to_owned).collect();
        rte::Eal::init(&eal)?;
        let pool = Mempool::create("loop", MBUFS, 0, 2176, rte::mempool::ANY_SOCKET)?;
        let slab = Arc::new(Slab::new(SLOTS));
        let link = Link::new(1024);
        let counters = Arc::new(WorkerCounters::default());
        let meters = Arc::<Meters>::default();
        let config = WorkerConfig {
            cache_entries: 65_536,
            hold: 2048,
            programs: 8192,
            hash_seed: 1,
            fast_paths: true,
        };
        let worker = Worker::new(
            &config,
            Arc::clone(&slab),
            Arc::clone(&link),
            Arc::clone(&counters),
            pool.clone(),
            Arc::clone(&meters),
        )
        .expect("a worker");
        let side = WorkerSide::new(0, link, slab, counters);
        let config =
            SlowPathConfig { max_idle: Duration::from_hours(1), programs: 8192, masks: 64, hash_seed: 1 };
        let slow = SlowPath::new(config, vec![side], meters);
        let (input, output) = (Ring::create("to", RING)?, Ring::create("from", RING)?);
        let mut switch = Switch { worker, slow, pool, input, output, handles: Vec::new() };
        switch.configure(document)?;
        Ok(switch)
    }

    fn configure(&mut self, document: &str) -> Result<()> {
        let document = config::parse_str("loop.toml", document, &config::accept_flows)?;
        for bridge in &document.bridges {
            let mac = bridge.mac().unwrap_or(MacAddr([2, 0, 0, 0, 0xbb, 0]));
            let id = self.slow.add_bridge(bridge, mac)?;
            for port in &bridge.ports {
                if let Some(options) = config::TunnelOptions::of(port) {
                    let options =
                        options.map_err(|errors| anyhow::anyhow!("port {}: {errors:?}", port.name))?;
                    self.slow.add_tunnel(id, port, options)?;
                    continue;
                }
                // The port `in` sends into a ring that stays empty, `out` receives from one.
                let unused = Ring::create(&format!("unused-{}", port.name), RING)?;
                let (rx, tx) = match port.name.as_str() {
                    "in" => (self.input.clone(), unused),
                    _ => (unused, self.output.clone()),
                };
                let device = rte::ring::port(&port.name, &[rx], &[tx])?;
                let settings = rte::PortConfig::new(self.pool.clone());
                let (handle, rx, mut tx) = device.configure_and_start(&settings)?;
                let path = TxPath::Queue { queue: tx.remove(0), from_others: None };
                let queues = WorkerQueues { rx, tx: PortTx::new(path, 1600), mtu: 1600, gro: false };
                self.slow.add_device(id, port, vec![queues])?;
                self.handles.push(handle);
            }
            let ports = self.slow.state.bridge_named(&bridge.name).context("the bridge was just added")?;
            let ports = BridgePorts { state: &self.slow.state, bridge: ports };
            let rules: Vec<FlowSpec> =
                bridge.flows.iter().map(|text| parse_flow(text, &ports)).collect::<Result<_, _>>()?;
            self.slow.replace_rules(id, &rules);
        }
        self.slow.settle();
        self.settle();
        Ok(())
    }

    /// Puts frames into `in`.
    fn fill(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        for frame in frames {
            let mbuf = self.pool.alloc_with(frame).context("the pool is empty: packets were lost or kept")?;
            if self.input.enqueue(mbuf).is_err() {
                bail!("the worker left packets of the last burst behind");
            }
        }
        Ok(())
    }

    /// Lets worker and slow path run until nothing happens any more, and throws away what came out.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let busy = self.worker.poll() | self.slow.turn() | (self.drain() > 0);
            let waits =
                self.slow.workers.iter().any(|w| !w.link.commands.is_empty() || !w.link.upcalls.is_empty());
            quiet = if busy || waits { 0 } else { quiet + 1 };
        }
    }

    /// Takes what came out of `out`; says how many packets.
    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.output.dequeue()).map(drop::<Mbuf>).count()
    }

    /// Checks that nothing was lost.
    fn stop(mut self) -> Result<()> {
        self.worker.shut_down();
        let in_use = self.pool.in_use();
        ensure!(in_use == 0, "{in_use} mbufs did not come back");
        Ok(())
    }
}

/// Frames and configuration of a case.
fn case(name: &str) -> Result<Case> {
    let (kind, name) =
        name.split_once('-').filter(|(kind, _)| matches!(*kind, "geneve" | "gre")).unwrap_or(("vxlan", name));
    let numbers = 0..FLOWS.next_multiple_of(BURST);
    let plain = |flow: fn(usize) -> Flow| {
        numbers.clone().map(move |n| traffic::frame(&flow(n % FLOWS), 60)).collect()
    };
    let tunnelled = |flow: fn(usize) -> Flow, vteps: usize| -> Vec<Vec<u8>> {
        let frame = |n: usize| {
            let inner = traffic::frame(&flow(n % FLOWS).reversed(), 60);
            traffic::tunnel_frame(kind, &inner, n % vteps, traffic::entropy_port(n))
        };
        numbers.clone().map(frame).collect()
    };
    let pair =
        |n| Flow { dl_src: traffic::host_mac(1, n), dl_dst: traffic::host_mac(2, n), ..Flow::numbered(n) };
    let behind_vtep = |n| Flow { dl_dst: traffic::host_mac(2, n % traffic::MAX_VTEPS), ..Flow::numbered(n) };
    let acl_flow = |n: usize| {
        // The longest prefix leaves four bits; it is the source that makes the flows differ.
        let (mask, host) = ((n % ACL_MASKS) as u32, (n / ACL_MASKS % 16) as u32);
        Flow { nw_dst: (20 + mask) << 24 | host, ..Flow::numbered(n) }
    };
    let out = |side: &str| {
        if side == "overlay" { (port("out"), String::new()) } else { (String::new(), port("out")) }
    };
    let one = |rule: &str| vec![rule.to_owned()];
    let (rules, input_is_overlay, sink, frames): (Vec<String>, bool, _, Vec<Vec<u8>>) = match name {
        "l2" => (one("in_port=in,actions=output:out"), true, out("overlay"), plain(Flow::numbered)),
        "encap" => (one("in_port=in,actions=output:vx0"), true, out("underlay"), plain(Flow::numbered)),
        // The rules look into the packet, so a key is needed.
        "encap-rules" => {
            let rules = ["priority=9,in_port=in,udp,actions=output:vx0", "priority=1,actions=drop"];
            (rules.map(str::to_owned).to_vec(), true, out("underlay"), plain(Flow::numbered))
        }
        "decap" => {
            (one("in_port=vx0,actions=output:out"), false, out("overlay"), tunnelled(Flow::numbered, 1))
        }
        "normal" => (Vec::new(), true, out("underlay"), plain(pair)),
        "normal-decap" => (Vec::new(), false, out("overlay"), tunnelled(pair, 1)),
        "vteps-encap" => {
            let rule = |n| {
                let mac = MacAddr(traffic::host_mac(2, n));
                format!("in_port=in,dl_dst={mac},actions=output:vx{n}")
            };
            ((0..traffic::MAX_VTEPS).map(rule).collect(), true, out("underlay"), plain(behind_vtep))
        }
        "vteps-decap" => {
            let rules = (0..traffic::MAX_VTEPS).map(|n| format!("in_port=vx{n},actions=output:out"));
            (rules.collect(), false, out("overlay"), tunnelled(behind_vtep, traffic::MAX_VTEPS))
        }
        "acl" => {
            let rule = |mask| {
                let prefix = 9 + mask;
                format!(
                    "priority={},ip,nw_dst={}.0.0.0/{prefix},tp_dst=80,udp,actions=output:vx0",
                    10 + mask,
                    20 + mask
                )
            };
            ((0..ACL_MASKS).map(rule).collect(), true, out("underlay"), plain(acl_flow))
        }
        "setup" => {
            let first = (1..=SETUP_PORTS.0)
                .map(|port| format!("priority=100,in_port=in,udp,tp_src={port},actions=resubmit(,1)"));
            let second = (1..=SETUP_PORTS.1)
                .map(|port| format!("table=1,priority=100,udp,tp_dst={port},actions=output:out"));
            (first.chain(second).collect(), true, out("overlay"), Vec::new())
        }
        _ => bail!("no case {name}"),
    };
    let input = if input_is_overlay { (port("in"), String::new()) } else { (String::new(), port("in")) };
    let (own_mac, own_ip) = (MacAddr(traffic::LOCAL_MAC), traffic::LOCAL_IP);
    let vteps = if name.starts_with("vteps") { traffic::MAX_VTEPS } else { 1 };
    let tunnel = |n| {
        let (ip, vni) = (traffic::vtep_ip(n), traffic::vtep_vni(n));
        format!(
            "[[bridge.port]]\nname = \"vx{n}\"\ntype = \"{kind}\"\noptions = {{ remote_ip = \"{ip}\", key = {vni} }}\n"
        )
    };
    let neighbour =
        |n| format!("{{ ip = \"{}\", mac = \"{}\" }}", traffic::vtep_ip(n), MacAddr(traffic::vtep_mac(n)));
    let tunnels: String = (0..vteps).map(tunnel).collect();
    let neighbours = (0..vteps).map(neighbour).collect::<Vec<_>>().join(", ");
    let (fail_mode, flows) =
        if rules.is_empty() { ("standalone", "[]".to_owned()) } else { ("secure", format!("{rules:?}")) };
    let document = format!(
        "[[bridge]]\nname = \"br0\"\nfail_mode = \"{fail_mode}\"\nflows = {flows}\n{}{}{tunnels}\
         [[bridge]]\nname = \"br-phy\"\nhwaddr = \"{own_mac}\"\naddress = [\"{own_ip}/16\"]\n\
         neighbour = [{neighbours}]\n{}{}",
        input.0, sink.0, input.1, sink.1
    );
    Ok(Case { document, frames })
}

fn port(name: &str) -> String {
    format!(
        "[[bridge.port]]\nname = \"{name}\"\ntype = \"dpdk\"\noptions = {{ dpdk-devargs = \"net_ring_{name}\" }}\n"
    )
}
