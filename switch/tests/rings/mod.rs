//! A whole switch in one thread: ports made of rings, one worker, the slow path. A test injects frames,
//! lets it run until it is quiet, and reads what came out. The slow path's clock stands still until the test moves it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use config::{Document, TunnelOptions};
use crossbeam_queue::ArrayQueue;
use datapath::counters::WorkerCounters;
use datapath::message::Link;
use datapath::meter::Meters;
use datapath::tx::{PortTx, TxPath};
use datapath::{Worker, WorkerConfig};
use flow::drop::DropReason;
use flow::megaflow::Slab;
use flow::ofp::{FlowSpec, parse_flow};
use flow::program::PortId;
use rte::{Mempool, Ring};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use vxswitch::bridge::{BridgeId, BridgePorts};
use vxswitch::slowpath::clock::Clock;
use vxswitch::slowpath::ports::WorkerQueues;
use vxswitch::slowpath::workers::WorkerSide;
use vxswitch::slowpath::{SlowPath, SlowPathConfig};
use wire::addr::MacAddr;

/// mbufs of a test's pool.
const MBUFS: u32 = 8191;
/// Frames that fit into a port's ring.
const RING: u32 = 4096;
/// Masks of one in-port: more than ordinary tests need.
const MASKS: usize = 64;

fn eal() {
    static EAL: OnceLock<()> = OnceLock::new();
    EAL.get_or_init(|| {
        let args =
            ["vxswitch", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "512", "-l", "0"];
        rte::Eal::init(&args.map(String::from)).expect("EAL");
    });
}

/// One test at a time has a switch: rings and pools come out of a fixed piece of memory.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port's far end: where frames are put in, and what each TX queue sends.
struct FarEnd {
    to_switch: Ring,
    from_switch: Vec<Ring>,
}

/// What a switch is made with.
pub struct Setup<'a> {
    /// Frames that are in their ports' rings before the switch has been told anything.
    pub early: &'a [(&'a str, Vec<u8>)],
    /// Room for so many megaflows.
    pub slots: usize,
    /// Whether stages may take their fast paths.
    pub fast_paths: bool,
    /// Masks of an in-port.
    pub masks: usize,
    /// Workers. Ports are polled by one after the other; of those with the same poller every second one has a TX queue
    /// for each worker, the others one, to which the other workers hand over.
    pub workers: usize,
    /// What devices can do on transmission; received packets may ask for it.
    pub offloads: Option<u64>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup { early: &[], slots: 4096, fast_paths: true, masks: MASKS, workers: 1, offloads: None }
    }
}

/// The switch.
pub struct Net {
    pub slow: SlowPath,
    pub clock: Clock,
    workers: Vec<Worker>,
    /// Counters of the first worker.
    pub counters: Arc<WorkerCounters>,
    /// Counters of each worker.
    pub all_counters: Vec<Arc<WorkerCounters>>,
    ends: BTreeMap<String, FarEnd>,
    pool: Mempool,
    offloads: Option<u64>,
    handles: Vec<rte::PortHandle>,
    _turn: MutexGuard<'static, ()>,
}

impl Net {
    /// A switch with this configuration; `type = "dpdk"` ports become rings, whatever their devargs say.
    pub fn new(toml: &str) -> Net {
        Net::with(toml, &Setup::default())
    }

    /// The same with frames that are in their ports' rings before the switch has been told anything.
    pub fn with_early(toml: &str, early: &[(&str, Vec<u8>)]) -> Net {
        Net::with(toml, &Setup { early, ..Setup::default() })
    }

    /// A switch whose stages take their general paths only.
    pub fn with_general_paths(toml: &str) -> Net {
        Net::with(toml, &Setup { fast_paths: false, ..Setup::default() })
    }

    /// A switch whose devices can do this on transmission, and whose received packets may ask for it.
    pub fn with_offloads(toml: &str, offloads: u64) -> Net {
        Net::with(toml, &Setup { offloads: Some(offloads), ..Setup::default() })
    }

    /// The same with room for so many megaflows.
    pub fn with_slots(toml: &str, early: &[(&str, Vec<u8>)], slots: usize) -> Net {
        Net::with(toml, &Setup { early, slots, ..Setup::default() })
    }

    /// The same with all settings.
    pub fn with(toml: &str, setup: &Setup<'_>) -> Net {
        let guard = turn();
        eal();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let document =
            config::parse_str("test.toml", toml, &config::accept_flows).unwrap_or_else(|e| panic!("{e}"));
        let pool =
            Mempool::create(&format!("t{number}"), MBUFS, 0, 2176, rte::mempool::ANY_SOCKET).expect("pool");
        let meters = Arc::<Meters>::default();
        let &Setup { slots, fast_paths, masks, .. } = setup;
        let worker_config =
            WorkerConfig { cache_entries: 4096, hold: 2048, programs: slots, hash_seed: 1, fast_paths };
        let (mut workers, mut sides, mut all_counters) = (Vec::new(), Vec::new(), Vec::new());
        for lcore in 0..setup.workers {
            let slab = Arc::new(Slab::new(slots));
            let link = Link::new(1024);
            let counters = Arc::new(WorkerCounters::default());
            let worker = Worker::new(
                &worker_config,
                Arc::clone(&slab),
                Arc::clone(&link),
                Arc::clone(&counters),
                pool.clone(),
                Arc::clone(&meters),
            );
            workers.push(worker.expect("a worker"));
            sides.push(WorkerSide::new(lcore as u32, link, slab, Arc::clone(&counters)));
            all_counters.push(counters);
        }
        let slow_config =
            SlowPathConfig { max_idle: Duration::from_mins(10), programs: slots, masks, hash_seed: 1 };
        let clock = Clock::manual();
        let slow = SlowPath::new(slow_config, sides, meters).with_clock(clock.clone());
        let mut net = Net {
            slow,
            clock,
            workers,
            counters: Arc::clone(&all_counters[0]),
            all_counters,
            ends: BTreeMap::new(),
            pool,
            offloads: setup.offloads,
            handles: Vec::new(),
            _turn: guard,
        };
        net.apply(&document, number, setup.early);
        net
    }

    fn apply(&mut self, document: &Document, number: u32, early: &[(&str, Vec<u8>)]) {
        for bridge in &document.bridges {
            let mac = bridge.mac().unwrap_or(MacAddr([2, 0, 0, 0, 0xbb, 0]));
            let id = self.slow.add_bridge(bridge, mac).expect("bridge");
            for port in &bridge.ports {
                if let Some(options) = TunnelOptions::of(port) {
                    self.slow.add_tunnel(id, port, options.expect("options")).expect("tunnel port");
                    continue;
                }
                if port.kind == "patch" {
                    self.slow.add_patch(id, port, &port.options["peer"]).expect("patch port");
                    continue;
                }
                self.add_device(id, port, &format!("{number}_{}", port.name));
                for (_, frame) in early.iter().filter(|(to, _)| *to == port.name) {
                    self.put(&port.name, frame);
                }
                // Whatever a worker does before all is said and committed, it does here.
                self.poll();
            }
            let flows: Vec<FlowSpec> =
                bridge.flows.iter().map(|text| self.flow(&bridge.name, text)).collect();
            self.slow.replace_rules(id, &flows);
        }
        self.slow.settle();
        self.run();
    }

    /// Makes a port of rings. See [`Setup::workers`].
    fn add_device(&mut self, bridge: BridgeId, port: &config::Port, name: &str) {
        let (at, workers) = (self.ends.len(), self.workers.len());
        let queues = if at / workers % 2 == 0 { workers } else { 1 };
        let ring = |name: String| Ring::create(&name, RING).expect("ring");
        let to_switch = ring(format!("r{name}"));
        let from_switch: Vec<Ring> = (0..queues).map(|n| ring(format!("t{name}_{n}"))).collect();
        let device = rte::ring::port(name, std::slice::from_ref(&to_switch), &from_switch).expect("port");
        let mut settings = rte::PortConfig::new(self.pool.clone());
        (settings.rx_queues, settings.tx_queues) = (1, queues as u16);
        let (handle, mut rx, tx) = device.configure_and_start(&settings).expect("start");
        let mtu = port.mtu.unwrap_or(1500);
        let handover = (queues < workers).then(|| Arc::new(ArrayQueue::new(RING as usize)));
        rx[0].set_may_ask(self.offloads.is_some());
        let offloads = self.offloads.unwrap_or(rte::offload::capability::MULTI_SEGS);
        let gro = port.options.get("gro").is_some_and(|text| text == "true");
        let mut tx = tx.into_iter();
        let mut shares: Vec<WorkerQueues> = (0..workers)
            .map(|_| {
                let path = match tx.next() {
                    Some(queue) => TxPath::Queue { queue, from_others: handover.clone() },
                    None => TxPath::Handover(handover.clone().expect("too few queues")),
                };
                WorkerQueues {
                    rx: Vec::new(),
                    tx: PortTx::new(path, mtu).with_offloads(Arc::new(offloads.into())),
                    mtu,
                    gro,
                }
            })
            .collect();
        shares[at % workers].rx = rx;
        self.slow.add_device(bridge, port, shares).expect("device");
        self.handles.push(handle);
        self.ends.insert(port.name.clone(), FarEnd { to_switch, from_switch });
    }

    /// The worker, of a switch that has one.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.workers[0]
    }

    /// Takes the worker, to run it on another thread.
    pub fn take_worker(&mut self) -> Worker {
        self.workers.remove(0)
    }

    /// Puts it back.
    pub fn put_worker(&mut self, worker: Worker) {
        self.workers.push(worker);
    }

    /// The workers, to run them on other threads.
    pub fn workers(&mut self) -> (&mut Vec<Worker>, &mut SlowPath) {
        (&mut self.workers, &mut self.slow)
    }

    /// Packets that wait.
    pub fn held(&self) -> usize {
        self.workers.iter().map(Worker::held).sum()
    }

    /// Lets each worker look at its ports once; says whether one had something to do.
    fn poll(&mut self) -> bool {
        self.workers.iter_mut().map(Worker::poll).filter(|worked| *worked).count() > 0
    }

    /// Parses a rule of a bridge.
    pub fn flow(&self, bridge: &str, text: &str) -> FlowSpec {
        let bridge = self.slow.state.bridge_named(bridge).expect("bridge");
        parse_flow(text, &BridgePorts { state: &self.slow.state, bridge })
            .unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// Makes a bridge's rules these, and tells the worker.
    pub fn set_rules(&mut self, bridge: &str, rules: &[&str]) {
        let specs: Vec<FlowSpec> = rules.iter().map(|text| self.flow(bridge, text)).collect();
        let id = self.slow.state.bridge_named(bridge).expect("bridge");
        self.slow.replace_rules(id, &specs);
        self.slow.settle();
        self.run();
    }

    /// A port's datapath number.
    pub fn port(&self, name: &str) -> PortId {
        self.slow.state.port_named(name).unwrap_or_else(|| panic!("no port {name}"))
    }

    /// Puts a frame into a port, without letting the switch run.
    pub fn put(&mut self, port: &str, frame: &[u8]) {
        let mbuf = self.pool.alloc_with(frame).expect("mbuf");
        self.ends[port].to_switch.enqueue(mbuf).unwrap_or_else(|_| panic!("ring of {port} is full"));
    }

    /// The same where there may be no room, which is false.
    pub fn try_put(&mut self, port: &str, frame: &[u8]) -> bool {
        self.pool.alloc_with(frame).is_some_and(|mbuf| self.ends[port].to_switch.enqueue(mbuf).is_ok())
    }

    /// Puts a frame into a port in several segments, which begin at these offsets.
    pub fn put_chain(&mut self, port: &str, frame: &[u8], cuts: &[usize]) {
        self.put_asking(port, frame, cuts, (0, rte::offload::TxOffload::default()));
    }

    /// The same for a frame that asks something of the device that sends it.
    pub fn put_asking(
        &mut self,
        port: &str,
        frame: &[u8],
        cuts: &[usize],
        (flags, lengths): (u64, rte::offload::TxOffload),
    ) {
        let mut start = 0;
        let mut pieces = Vec::new();
        for end in cuts.iter().copied().chain([frame.len()]) {
            pieces.push(self.pool.alloc_with(&frame[start..end]).expect("mbuf"));
            start = end;
        }
        let mut pieces = pieces.into_iter();
        let mut chain = pieces.next().expect("a first piece");
        for piece in pieces {
            chain.chain(piece).expect("pieces of a packet");
        }
        chain.set_offload(flags, lengths);
        self.ends[port].to_switch.enqueue(chain).unwrap_or_else(|_| panic!("ring of {port} is full"));
    }

    /// Lets the switch run until nothing happens any more.
    pub fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let worked = self.poll();
            self.slow.turn();
            let waits =
                self.slow.workers.iter().any(|w| !w.link.commands.is_empty() || !w.link.upcalls.is_empty());
            quiet = if worked || waits { 0 } else { quiet + 1 };
        }
    }

    /// Lets so much of the slow path's time pass, in steps of its timers.
    pub fn pass(&mut self, time: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.clock.advance(step);
            self.run();
            left -= step;
        }
    }

    /// Takes the next frame that left by a port.
    pub fn take(&mut self, port: &str) -> Option<Vec<u8>> {
        let mut queues = self.ends[port].from_switch.iter();
        queues.find_map(Ring::dequeue).map(|mbuf| mbuf.segments().collect::<Vec<_>>().concat())
    }

    /// Takes the next frame that left by a port, with what it asks.
    pub fn take_asking(&mut self, port: &str) -> Option<(Vec<u8>, u64, rte::offload::TxOffload)> {
        let mbuf = self.ends[port].from_switch.iter().find_map(Ring::dequeue)?;
        Some((mbuf.segments().collect::<Vec<_>>().concat(), mbuf.ol_flags(), mbuf.tx_offload()))
    }

    /// Takes all frames that left by a port.
    pub fn take_all(&mut self, port: &str) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.take(port)).collect()
    }

    /// Puts frames into a port, runs, and returns what left by which port; ports without frames are left out.
    pub fn send(&mut self, port: &str, frames: &[Vec<u8>]) -> BTreeMap<String, Vec<Vec<u8>>> {
        for frame in frames {
            self.put(port, frame);
        }
        self.run();
        let ports: Vec<String> = self.ends.keys().cloned().collect();
        ports.into_iter().map(|p| (p.clone(), self.take_all(&p))).filter(|(_, f)| !f.is_empty()).collect()
    }

    /// Packets dropped for a reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.all_counters.iter().map(|counters| counters.drops_total(reason)).sum()
    }

    /// Every packet that came in went out, was dropped under a reason, or waits.
    pub fn assert_balanced(&self) {
        let held = self.held() as i128;
        let sum = |what: fn(&WorkerCounters) -> i128| self.all_counters.iter().map(|c| what(c)).sum::<i128>();
        assert_eq!(
            sum(WorkerCounters::balance),
            held,
            "rx + injected + copied - tx - dropped - punted - merged = held"
        );
        assert_eq!(sum(|counters| counters.held.get().into()), held);
    }

    /// Stops it, and checks that every mbuf came home.
    pub fn finish(mut self) {
        self.assert_balanced();
        for end in self.ends.values() {
            end.from_switch.iter().for_each(|ring| while ring.dequeue().is_some() {});
        }
        self.workers.iter_mut().for_each(Worker::shut_down);
        assert_eq!(self.held(), 0);
        assert_eq!(self.pool.in_use(), 0, "mbufs leaked");
    }
}

/// The document's entry of a port over a ring.
pub fn ring_port(name: &str, n: u32) -> String {
    format!(
        "[[bridge.port]]\nname = \"{name}\"\ntype = \"dpdk\"\nmtu = 1600\noptions = {{ dpdk-devargs = \"net_ring{n}\" }}\n"
    )
}

/// An Ethernet frame with a counter in its payload, so that frames can be told apart.
pub fn frame(dst: u32, src: u32, tag: Option<u16>, n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(mac(dst).0);
    out.extend(mac(src).0);
    if let Some(tci) = tag {
        out.extend([0x81, 0x00]);
        out.extend(tci.to_be_bytes());
    }
    out.extend([0x88, 0xb5]);
    out.extend(n.to_be_bytes());
    out.resize(64, 0x5a);
    out
}

/// An ARP answer of the peer 192.168.1.`n`, 02:00:00:00:0a:`mac`, to the VTEP 192.168.1.1, 02:00:00:00:0a:01.
pub fn arp_answer(n: u8, mac: u8) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0x0a, mac];
    let own = [2, 0, 0, 0, 0x0a, 1];
    let mut frame = [own, mac].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(mac.into_iter().chain([192, 168, 1, n]).chain(own).chain([192, 168, 1, 1]));
    frame
}

/// A VXLAN packet with this VNI and TOS from the peer `src`, 02:00:00:00:0a:`n` where its address ends in `n`, to the VTEP
/// 192.168.1.1, 02:00:00:00:0a:01.
pub fn from_vtep(vni: u32, src: std::net::Ipv4Addr, tos: u8, inner: &[u8]) -> Vec<u8> {
    use wire::tunnel::encap::{EncapAddrs, EncapPatch, EncapSpec, EncapTemplate};
    let spec = EncapSpec {
        eth_src: MacAddr([2, 0, 0, 0, 0x0a, src.octets()[3]]),
        eth_dst: MacAddr([2, 0, 0, 0, 0x0a, 1]),
        vlan_tci: None,
        addrs: EncapAddrs::V4(src, std::net::Ipv4Addr::new(192, 168, 1, 1)),
        df: true,
        udp_dst: 4789,
        format: &wire::tunnel::vxlan::FORMAT,
        options: wire::tunnel::HeaderOptions::NONE,
    };
    let template = EncapTemplate::new(&spec);
    let mut packet = vec![0; template.header_len()];
    let patch = EncapPatch { src_port: 50_000, vni, tos, ttl: 64, ..EncapPatch::default() };
    template.write(&mut packet, inner.len(), &patch).expect("room for the headers");
    packet.extend(inner);
    packet
}

/// A UDP packet in an Ethernet frame.
pub fn udp(dst: u32, src: u32, sport: u16, dport: u16, n: u32) -> Vec<u8> {
    let mut out = vec![0; 128];
    let ip = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 | n);
    let eth = wire::view::EthernetRepr { dst: mac(dst), src: mac(src), vlan_tci: None, ethertype: 0x0800 };
    let header = wire::view::UdpRepr { src_port: sport, dst_port: dport };
    let len = wire::view::build_udp(&mut out, &eth, ip(src).into(), ip(dst).into(), header, &n.to_be_bytes())
        .expect("room for a small packet");
    out.truncate(len);
    out
}

/// A MAC address by number; `u32::MAX` is broadcast.
pub fn mac(n: u32) -> MacAddr {
    if n == u32::MAX {
        return MacAddr::BROADCAST;
    }
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}
