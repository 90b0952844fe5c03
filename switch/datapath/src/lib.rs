//! What an lcore runs. A packet goes through the files in this order:
//!
//! rx (here) -> [`key`] -> [`lookup`] -> [`act`] (-> [`ops`]) -> [`tx`]
//!
//! A burst of ordinary packets whose megaflows look at ordinary fields goes from rx to tx by [`plain`], without keys.
//!
//! A stage works on the whole burst before the next one starts. A [`Worker`] owns all that it touches on
//! the way; it does not lock, allocate, log, wait, or call the kernel. The slow path reaches it through the
//! queues of [`message::Link`] only, and [`command`] carries out what comes down.

mod act;
pub mod adjacency;
mod command;
pub mod counters;
pub mod hold;
pub mod key;
mod lookup;
pub mod message;
pub mod meter;
mod ops;
mod plain;
mod programs;
pub mod termination;
pub mod tx;

use crate::termination::Termination;
use adjacency::Adjacencies;
use counters::WorkerCounters;
use flow::cache::{FlowCache, Lookup};
use flow::megaflow::{MegaflowTable, Slab};
use flow::program::{MAX_PORTS, PortId};
use hold::{Cells, PendingFlows};
use key::{PacketInfo, Recognised, Unkeyed};
use message::{Link, PortIo};
use meter::Meters;
use plain::Tries;
use programs::Programs;
use rte::{Burst, Mempool, RxQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tx::TxStage;
use wire::key::FlowKey;
use wire::plain::PlainWords;

/// Packets taken from an RX queue at a time.
pub const BURST: usize = 32;
/// Adjacencies that a worker has room for: tunnels times their remotes.
pub const MAX_ADJACENCIES: usize = 65_536;
/// RX queues that a worker can poll.
const MAX_RX_QUEUES: usize = 4 * MAX_PORTS;
/// Loops between two sorts of the subtables by their hits.
const RESORT_EVERY: u32 = 1 << 16;

/// A burst on its way through the stages.
#[derive(Debug)]
pub(crate) struct Batch {
    mbufs: Burst<BURST>,
    keys: [FlowKey; BURST],
    infos: [PacketInfo; BURST],
    /// Length in bytes of the frame that each key describes.
    lens: [u32; BURST],
    /// Slot of each packet's megaflow.
    hits: [u32; BURST],
    /// Program of each packet.
    programs: [u32; BURST],
    /// In-port of all keys, where it is one.
    in_port: Option<PortId>,
    /// What is known of ordinary packets whose key is not made.
    words: [PlainWords; BURST],
    /// What is known of packets whose key is not extracted.
    unkeyed: [Unkeyed; BURST],
}

/// Everything behind the key stage: what a decided or held packet needs.
pub(crate) struct Path {
    lookup: Lookup,
    programs: Programs,
    adjacencies: Adjacencies,
    tx: TxStage,
    cells: Cells,
    pending: PendingFlows,
    pool: Mempool,
    link: Arc<Link>,
    counters: Arc<WorkerCounters>,
    meters: Arc<Meters>,
    /// Changes with every command and every decision that packets wait for: see [`key::Shortcuts`].
    epoch: u64,
    /// IPv4 identification of the next tunnel packet; matters only without DF.
    ip_id: u16,
}

/// Sizes of a worker's tables. All are made at start; none grows.
#[derive(Debug, Clone, Copy)]
pub struct WorkerConfig {
    /// Flows in the flow cache.
    pub cache_entries: usize,
    /// Packets that may wait for a decision or a neighbour.
    pub hold: usize,
    /// Programs; each megaflow may have one of its own.
    pub programs: usize,
    /// Whether bursts may go the short ways; without, for comparison, all go the long one.
    pub shortcuts: bool,
}

/// An RX queue that a worker polls.
struct Source {
    port: PortId,
    queue: RxQueue,
    tries: Tries,
}

/// One forwarding thread's state.
pub struct Worker {
    rx: Vec<Source>,
    batch: Box<Batch>,
    termination: Box<Termination>,
    /// The boxes that ports came in, to send them back without allocating.
    spare_io: Box<[Option<Box<PortIo>>]>,
    path: Path,
    /// See [`WorkerConfig::shortcuts`].
    shortcuts: bool,
    loops: u32,
}

impl Worker {
    /// A worker without ports. `slab` is shared with the slow path, which decides what sits in which slot.
    pub fn new(
        config: &WorkerConfig,
        slab: Arc<Slab>,
        link: Arc<Link>,
        counters: Arc<WorkerCounters>,
        pool: Mempool,
        meters: Arc<Meters>,
    ) -> Worker {
        let table = MegaflowTable::new(slab, MAX_PORTS);
        Worker {
            rx: Vec::with_capacity(MAX_RX_QUEUES),
            batch: Box::new(Batch {
                mbufs: Burst::new(),
                keys: [FlowKey::ZERO; BURST],
                infos: [PacketInfo::default(); BURST],
                lens: [0; BURST],
                hits: [0; BURST],
                programs: [0; BURST],
                in_port: None,
                words: [[0; 4]; BURST],
                unkeyed: [Unkeyed::default(); BURST],
            }),
            termination: Box::default(),
            spare_io: (0..MAX_PORTS).map(|_| None).collect(),
            path: Path {
                lookup: Lookup::new(table, FlowCache::new(config.cache_entries)),
                programs: Programs::new(config.programs),
                adjacencies: Adjacencies::new(MAX_ADJACENCIES),
                tx: TxStage::default(),
                cells: Cells::new(config.hold),
                pending: PendingFlows::new(config.hold),
                pool,
                link,
                counters,
                meters,
                epoch: 1,
                ip_id: 0,
            },
            shortcuts: config.shortcuts,
            loops: 0,
        }
    }

    /// One loop: commands, then a burst from every RX queue through all stages. Says whether there was
    /// anything to do.
    #[inline]
    pub fn poll(&mut self) -> bool {
        let mut busy = self.commands();
        for at in 0..self.rx.len() {
            if self.rx[at].queue.rx_burst(&mut self.batch.mbufs) > 0 {
                busy = true;
                self.burst(at);
            }
        }
        busy |= self.path.tx.serve_others(&self.path.counters);
        self.path.tx.flush(&self.path.counters);
        busy
    }

    /// Takes one burst of an RX queue through the stages.
    #[inline]
    fn burst(&mut self, source: usize) {
        let port = self.rx[source].port;
        let counters = &self.path.counters;
        let mut bytes = 0;
        for mbuf in &self.batch.mbufs {
            bytes += u64::from(mbuf.len());
            mbuf.prefetch_data();
        }
        let received = self.batch.mbufs.len() as u64;
        counters.rx.add(received);
        counters.port(port).rx.add(received, bytes);

        if self.shortcuts && self.short_way(source, bytes) {
            return;
        }
        key::extract_batch(&mut self.batch, port, &mut self.termination, &self.path.counters);
        self.path.lookup(&mut self.batch);
        self.path.act(&mut self.batch);
    }

    /// Takes a burst of `bytes` bytes to where it goes without keys. False when that is not possible: nothing has been
    /// done then.
    #[inline(always)]
    fn short_way(&mut self, source: usize, bytes: u64) -> bool {
        let Source { port, tries, .. } = &mut self.rx[source];
        let port = *port;
        let shortcuts = key::Shortcuts::new(&self.path);
        let went = if self.termination.is_underlay(port) {
            if !tries.next() {
                return false;
            }
            match key::recognise(&mut self.batch, port, &mut self.termination, &shortcuts) {
                Recognised::Shortcut(tunnel, slot, wrapped) => {
                    self.path.unwrap_all(&mut self.batch, slot, tunnel, wrapped);
                    true
                }
                Recognised::Shortcuts => {
                    self.path.act_unkeyed(&mut self.batch);
                    true
                }
                Recognised::Tunnel(tunnel, wrapped) => {
                    self.path.takes_plain(tunnel)
                        && self.path.plain(&mut self.batch, tunnel, bytes, Some(wrapped))
                }
                Recognised::Nothing => false,
            }
        } else if let Some(slot) = shortcuts.find(port) {
            self.path.forward_all(&mut self.batch.mbufs, bytes, slot, port);
            return true;
        } else {
            if !self.path.takes_plain(port) || !tries.next() {
                return false;
            }
            self.path.plain(&mut self.batch, port, bytes, None)
        };
        tries.note(went);
        went
    }

    /// Polls until `stop`. With `share_cpu`, the slow path runs on the same CPU: then the worker yields it
    /// while it waits for an answer.
    pub fn run(&mut self, stop: &AtomicBool, share_cpu: bool) {
        let mut then = rte::cycles();
        while !stop.load(Relaxed) {
            let busy = self.poll();
            let now = rte::cycles();
            let counters = &self.path.counters;
            counters.iterations.add(1);
            if busy { &counters.busy_cycles } else { &counters.idle_cycles }.add(now.wrapping_sub(then));
            then = now;
            self.loops = self.loops.wrapping_add(1);
            if self.loops.is_multiple_of(RESORT_EVERY) {
                self.path.lookup.table.resort();
            }
            if share_cpu && (!busy || self.path.waits()) {
                std::thread::yield_now();
            }
        }
    }

    /// Frees all that waits, after [`Worker::run`].
    pub fn shut_down(&mut self) {
        self.path.drop_held();
        self.path.tx.flush(&self.path.counters);
        self.path.link.closed.store(true, Relaxed);
    }

    /// Packets that wait for a decision or a neighbour.
    pub fn held(&self) -> usize {
        self.path.cells.used()
    }

    /// The arrays that lookups read at random: address and length in bytes.
    pub fn lookup_memory(&self) -> [(*const u8, usize); 3] {
        let [slots, index, _wide_masks] = self.path.lookup.table.regions();
        [slots, index, self.path.lookup.cache.region()]
    }

    /// Bytes that one megaflow costs in this worker's tables.
    pub fn bytes_per_megaflow(&self) -> f64 {
        self.path.lookup.table.bytes_per_megaflow()
    }
}

impl Drop for Worker {
    /// Also when it panics: whoever waits for it must not wait for ever.
    fn drop(&mut self) {
        self.path.link.closed.store(true, Relaxed);
    }
}

impl Path {
    fn waits(&self) -> bool {
        !self.pending.is_empty() || !self.link.commands.is_empty()
    }
}
