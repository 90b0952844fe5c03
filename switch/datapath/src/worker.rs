//! A worker's loop, and stage 1, **rx**.

use crate::adjacency::Adjacencies;
use crate::batch::{Batch, mask_of_first, packets_of};
use crate::counters::WorkerCounters;
use crate::fragments::Fragments;
use crate::gro;
use crate::message::{Link, PortIo};
use crate::meter::Meters;
use crate::parse::outer::{self, Arrival};
use crate::pipeline::{Parts, Pipeline, Reentry};
use crate::programs::Programs;
use crate::termination::Termination;
use crate::{MAX_ADJACENCIES, MAX_RX_QUEUES};
use flow::cache::{FlowCache, Lookup};
use flow::drop::DropReason;
use flow::hash::FlowHasher;
use flow::megaflow::{MegaflowTable, Slab};
use flow::program::{MAX_PORTS, PortId};
use rte::{Mempool, RxQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use wire::parse::Anomaly;
use wire::proto::ETHERNET_LEN;

/// Times a second that is done what goes by time.
const TICKS_PER_SECOND: u64 = 1000;
/// Such times from one sorting of subtables by their hits, and one look at the fragments that wait, to the next.
const TICKS_PER_RESORT: u32 = 50;

/// Sizes of a worker's tables, all of which are made at start and never grow, and how it works.
#[derive(Debug, Clone, Copy)]
pub struct WorkerConfig {
    /// Flows in the flow cache.
    pub cache_entries: usize,
    /// Packets that may wait for a decision or a neighbour.
    pub hold: usize,
    /// Programs; each megaflow may have one of its own.
    pub programs: usize,
    /// Seed of the hashes that choose source ports and buckets: a secret that a restart does not change.
    pub hash_seed: u64,
    /// Whether stages may take their fast paths; without, for comparison, all packets take the general ones.
    pub fast_paths: bool,
}

/// An RX queue that a worker polls.
pub(crate) struct Source {
    pub port: PortId,
    pub queue: RxQueue,
    /// Until a packet of it was not held: in-port of the flows that its last packets belong to, the port itself or a
    /// tunnel.
    pub begins_as: Option<PortId>,
}

/// One forwarding thread's state.
pub struct Worker {
    pub(crate) rx: Vec<Source>,
    pub(crate) batch: Box<Batch>,
    pub(crate) termination: Box<Termination>,
    pub(crate) fragments: Fragments,
    /// Ports whose TCP segments are coalesced.
    pub(crate) coalesces: Box<[bool; MAX_PORTS]>,
    /// The boxes that ports came in, to send them back without allocating.
    pub(crate) spare_io: Box<[Option<Box<PortIo>>]>,
    pub(crate) pipeline: Pipeline,
}

impl Worker {
    /// A worker without ports. `slab` is shared with the slow path, which decides what sits in which slot.
    ///
    /// # Errors
    /// DPDK's heap has no memory left for the table of fragments.
    pub fn new(
        config: &WorkerConfig,
        slab: Arc<Slab>,
        link: Arc<Link>,
        counters: Arc<WorkerCounters>,
        pool: Mempool,
        meters: Arc<Meters>,
    ) -> Result<Worker, rte::Error> {
        let table = MegaflowTable::new(slab, MAX_PORTS);
        Ok(Worker {
            rx: Vec::with_capacity(MAX_RX_QUEUES),
            batch: Batch::new(),
            termination: Box::default(),
            fragments: Fragments::new()?,
            coalesces: Box::new([false; MAX_PORTS]),
            spare_io: (0..MAX_PORTS).map(|_| None).collect(),
            pipeline: Pipeline::new(Parts {
                lookup: Lookup::new(table, FlowCache::new(config.cache_entries)),
                programs: Programs::new(config.programs),
                adjacencies: Adjacencies::new(MAX_ADJACENCIES),
                hold: config.hold,
                pool,
                link,
                counters,
                meters,
                hasher: FlowHasher::new(config.hash_seed),
                fast_paths: config.fast_paths,
            }),
        })
    }

    /// One loop: commands, then a burst from every RX queue through all stages. Says whether there was
    /// anything to do.
    #[inline]
    pub fn poll(&mut self) -> bool {
        let mut busy = self.commands();
        for at in 0..self.rx.len() {
            busy |= self.serve(at);
        }
        busy |= self.pipeline.tx.serve_others(&self.pipeline.counters);
        self.pipeline.tx.flush(&self.pipeline.counters);
        busy
    }

    /// The same, and what each RX queue costs is measured. `began` is the time.
    #[cold]
    #[inline(never)]
    fn poll_measured(&mut self, began: u64) -> bool {
        let mut busy = self.commands();
        let mut then = rte::cycles();
        let mut overhead = then.wrapping_sub(began);
        for at in 0..self.rx.len() {
            if self.serve(at) {
                busy = true;
                let now = rte::cycles();
                let Source { port, queue, .. } = &self.rx[at];
                self.pipeline.counters.rxq_cycles(*port, queue.queue_id()).add(now.wrapping_sub(then));
                then = now;
            }
        }
        busy |= self.pipeline.tx.serve_others(&self.pipeline.counters);
        self.pipeline.tx.flush(&self.pipeline.counters);
        overhead += rte::cycles().wrapping_sub(then);
        if busy {
            self.pipeline.counters.overhead_cycles.add(overhead);
        }
        busy
    }

    /// Takes a burst of an RX queue through all stages; says whether there was one.
    #[inline(always)]
    fn serve(&mut self, at: usize) -> bool {
        if !self.pipeline.pending.is_empty() && self.waits_for_first(at) {
            return false;
        }
        let Source { port, queue, .. } = &mut self.rx[at];
        let received = queue.rx_burst(&mut self.batch.mbufs);
        let (port, may_request_offloads) = (*port, queue.may_ask());
        // Who may leave something to do is one who may get it wrong.
        let malformed = if may_request_offloads { queue.take_malformed() } else { 0 };
        if malformed > 0 {
            self.count_malformed(port, malformed);
        }
        if received == 0 {
            return malformed > 0;
        }
        self.burst(port, may_request_offloads);
        let held = self.pipeline.last_held.take();
        let Source { begins_as, .. } = &mut self.rx[at];
        *begins_as = begins_as.and(held);
        true
    }

    /// Whether what comes by an RX queue should stay in the device's ring, because none of it could be forwarded yet: all
    /// belongs to one in-port, which has no megaflow. So it is with a port whose frames are all its own, and at the start of
    /// one that has tunnels behind it, until something else has come by it.
    #[cold]
    fn waits_for_first(&self, at: usize) -> bool {
        let Source { port, begins_as, .. } = &self.rx[at];
        let in_port = if self.termination.is_underlay(*port) { *begins_as } else { Some(*port) };
        in_port.is_some_and(|in_port| self.pipeline.waits_for_first(in_port))
    }

    /// Takes one burst of an RX queue through the stages.
    #[inline(always)]
    fn burst(&mut self, port: PortId, may_request_offloads: bool) {
        let shortest = self.batch.start(port, may_request_offloads);
        let counters = &self.pipeline.counters;
        let received = self.batch.mbufs.len() as u64;
        counters.rx.add(received);
        counters.port(port).rx.add(received, self.batch.meta.bytes);
        if (shortest as usize) < ETHERNET_LEN {
            self.drop_truncated(port);
        }
        self.stages(port, Arrival::Port, self.coalesces[port.index()]);
        if !self.pipeline.recirculation.is_empty() {
            self.recirculate();
        }
    }

    /// The stages behind rx, for packets that came in by one port; `coalesces` says whether that port is told to.
    #[inline(always)]
    fn stages(&mut self, port: PortId, arrival: Arrival, coalesces: bool) {
        let Worker { batch, termination, pipeline, .. } = self;
        if let Some(mut view) = termination.view(port) {
            outer::read(batch, (port, arrival), &mut view, &pipeline.counters, pipeline.fast_paths);
        }
        if coalesces {
            gro::coalesce(batch, &pipeline.counters);
        }
        pipeline.lookup(batch);
        pipeline.act(batch);
    }

    /// Takes packets that enter a bridge again through the stages, until there are none: each may do so a few times only.
    #[cold]
    #[inline(never)]
    pub(crate) fn recirculate(&mut self) {
        while let Some((entry, depth)) = self.pipeline.recirculation.take(&mut self.batch.mbufs) {
            self.pipeline.depth = depth;
            let (port, arrival) = match entry {
                Reentry::Terminate(port) => (port, Arrival::Local),
                Reentry::FromLocal(port) => (port, Arrival::Port),
            };
            if arrival == Arrival::Local {
                self.reassemble(port);
            }
            if self.batch.mbufs.is_empty() {
                continue;
            }
            self.batch.start(port, true);
            if arrival == Arrival::Local {
                let came_by = self.batch.mbufs.first().map_or(port, |mbuf| PortId(mbuf.port()));
                self.stages(port, arrival, self.coalesces[came_by.index() % MAX_PORTS]);
            } else {
                self.pipeline.lookup(&mut self.batch);
                self.pipeline.act(&mut self.batch);
            }
        }
        self.pipeline.depth = 0;
    }

    /// Counts packets that a virtual machine got wrong; there is nothing of them to be freed.
    #[cold]
    fn count_malformed(&self, port: PortId, packets: u64) {
        let counters = &self.pipeline.counters;
        counters.rx.add(packets);
        counters.port(port).rx.add(packets, 0);
        counters.count_drop(port, DropReason::VirtioHeader, packets);
    }

    /// Frees frames that are shorter than an Ethernet header.
    #[cold]
    fn drop_truncated(&mut self, port: PortId) {
        let short = |at: &usize| (self.batch.meta.lens[*at] as usize) < ETHERNET_LEN;
        let packets =
            packets_of(mask_of_first(self.batch.mbufs.len())).filter(short).fold(0, |set, at| set | 1 << at);
        let counters = &self.pipeline.counters;
        for mbuf in packets_of(packets).filter_map(|at| self.batch.mbufs.as_slice().get(at)) {
            counters.anomaly(Anomaly::EthernetTruncated);
            counters.drop_packet(port, DropReason::EthernetTruncated, mbuf);
        }
        self.batch.drop_packets(packets);
    }

    /// Polls until `stop`. With `share_cpu`, another thread that packets wait for runs on the same CPU: then the worker
    /// yields it while it waits for an answer. A worker that finds nothing to do sleeps, if it may
    /// ([`Link::sleep_max`]).
    pub fn run(&mut self, stop: &AtomicBool, share_cpu: bool) {
        let mut then = rte::cycles();
        let tick_after = rte::tsc_hz() / TICKS_PER_SECOND;
        let (mut ticked, mut ticks) = (then, 0);
        let mut sleep = 0;
        while !stop.load(Relaxed) {
            let busy = self.poll();
            let now = rte::cycles();
            let counters = &self.pipeline.counters;
            counters.iterations.add(1);
            if busy { &counters.busy_cycles } else { &counters.idle_cycles }.add(now.wrapping_sub(then));
            then = now;
            if now.wrapping_sub(ticked) > tick_after {
                ticked = now;
                then = self.tick(&mut ticks);
            }
            if !busy {
                then = self.rest(&mut sleep, share_cpu, then);
                continue;
            }
            sleep = 0;
            if share_cpu && self.pipeline.waits() {
                std::thread::yield_now();
            }
        }
    }

    /// What is done by time and not by loops: under a flood of masks a loop takes long, and that is when the order of
    /// subtables matters. One loop is measured. Returns the time.
    #[cold]
    #[inline(never)]
    fn tick(&mut self, ticks: &mut u32) -> u64 {
        *ticks = ticks.wrapping_add(1);
        if (*ticks).is_multiple_of(TICKS_PER_RESORT) {
            self.pipeline.lookup.table.resort();
            if self.fragments.waiting() > 0 {
                self.fragments.expire(&self.pipeline.counters);
            }
        }
        let began = rte::cycles();
        let busy = self.poll_measured(began);
        let now = rte::cycles();
        let counters = &self.pipeline.counters;
        counters.iterations.add(1);
        if busy { &counters.busy_cycles } else { &counters.idle_cycles }.add(now.wrapping_sub(began));
        now
    }

    /// Lets the CPU go after a loop that found nothing to do and ended at `now`. Sleeps a microsecond longer than the
    /// last time, `sleep`, so that a pause in a stream of packets is a short one; what comes meanwhile waits in the
    /// devices' rings. Does not sleep while a guest is to make room. Returns the time when it goes on.
    #[cold]
    #[inline(never)]
    fn rest(&mut self, sleep: &mut u32, share_cpu: bool, now: u64) -> u64 {
        let most = self.pipeline.link.sleep_max.load(Relaxed);
        if most == 0 || self.pipeline.tx.waits() {
            if share_cpu {
                std::thread::yield_now();
            }
            return now;
        }
        *sleep = most.min(*sleep + 1);
        std::thread::sleep(Duration::from_micros((*sleep).into()));
        let woken = rte::cycles();
        let slept = woken.wrapping_sub(now);
        let counters = &self.pipeline.counters;
        counters.sleeps.add(1);
        counters.sleep_cycles.add(slept);
        counters.idle_cycles.add(slept);
        woken
    }

    /// Frees all that waits, after [`Worker::run`].
    pub fn shut_down(&mut self) {
        self.pipeline.drop_held();
        self.fragments.clear(&self.pipeline.counters);
        self.pipeline.tx.flush(&self.pipeline.counters);
        self.pipeline.tx.drop_waiting(&self.pipeline.counters);
        self.pipeline.link.closed.store(true, Relaxed);
    }

    /// Packets that wait for a decision, a neighbour or room in a guest's ring, and fragments that wait for others.
    pub fn held(&self) -> usize {
        self.pipeline.cells.used() + self.fragments.waiting() + self.pipeline.tx.waiting()
    }

    /// The arrays that lookups read at random: address and length in bytes.
    pub fn lookup_memory(&self) -> [(*const u8, usize); 3] {
        let [slots, index, _wide_masks] = self.pipeline.lookup.table.regions();
        [slots, index, self.pipeline.lookup.cache.region()]
    }

    /// Bytes that one megaflow costs in this worker's tables.
    pub fn bytes_per_megaflow(&self) -> f64 {
        self.pipeline.lookup.table.bytes_per_megaflow()
    }
}

impl Drop for Worker {
    /// Also when it panics: whoever waits for it must not wait for ever.
    fn drop(&mut self) {
        self.pipeline.link.closed.store(true, Relaxed);
    }
}
