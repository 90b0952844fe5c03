//! Stage 5, **tx**: packets are staged per output port and leave in one burst a port and loop.

use crate::counters::WorkerCounters;
use crate::retry::{Retries, Waiting};
use crate::{gso, offload};
use crossbeam_queue::ArrayQueue;
use flow::drop::DropReason;
use flow::program::{MAX_PORTS, PortId};
use rte::burst::Drain;
use rte::offload::capability;
use rte::{Burst, Mbuf, Mempool, TxQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Packets staged for a port before they go out ahead of the end of the loop.
pub const TX_BURST: usize = 32;
/// Packets of other workers taken for a TX queue a loop.
const HANDOFF_BURST: usize = 32;
/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// Bytes of an 802.1Q tag.
const VLAN_TAG: u32 = 4;

/// How a worker gets packets out of a port.
#[derive(Debug)]
pub enum TxPath {
    /// By a TX queue of its own; other workers' packets for the same queue come through `from_others`.
    Queue {
        /// The queue.
        queue: TxQueue,
        /// Packets that other workers want sent by it; absent when each worker has its own queue.
        from_others: Option<Arc<ArrayQueue<Mbuf>>>,
    },
    /// By the queue of another worker.
    Handover(Arc<ArrayQueue<Mbuf>>),
}

/// A worker's way out of one port.
#[derive(Debug)]
pub struct PortTx {
    path: TxPath,
    staged: Burst<TX_BURST>,
    staged_bytes: u64,
    /// Bytes of the longest untagged frame that is sent: what the MTU allows, or 0 while the link is down.
    max_len: u32,
    /// What the MTU allows.
    mtu_len: u32,
    link_up: bool,
    /// Offloads that packets may request of the device ([`rte::offload::capability`]), now: they change with a guest.
    offloads: Arc<AtomicU64>,
    /// What the device had no room for, where it is offered again.
    waiting: Option<Box<Waiting>>,
}

impl PortTx {
    /// Nothing staged; frames with more than `mtu` bytes behind Ethernet header and tag are refused.
    pub fn new(path: TxPath, mtu: u16) -> PortTx {
        PortTx {
            path,
            staged: Burst::new(),
            staged_bytes: 0,
            max_len: u32::from(mtu) + ETHERNET,
            mtu_len: u32::from(mtu) + ETHERNET,
            link_up: true,
            offloads: Arc::default(),
            waiting: None,
        }
    }

    /// Says which offloads packets may request of the device ([`rte::offload::capability`]). What it does not take is done in software
    /// first: checksums, segmentation, one piece of memory.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Arc<AtomicU64>) -> PortTx {
        self.offloads = offloads;
        self
    }

    /// Offers what the device has no room for again, where that is one with a queue of its own.
    pub fn set_retries(&mut self, retries: &Arc<Retries>) {
        if !self.hands_over() {
            self.waiting = Some(Box::new(Waiting::new(Arc::clone(retries))));
        }
    }

    /// Whether packets go through another worker's queue: such a worker lets go of the port first.
    pub fn hands_over(&self) -> bool {
        matches!(self.path, TxPath::Handover(_))
    }

    fn limit(&mut self) {
        self.max_len = if self.link_up { self.mtu_len } else { 0 };
    }

    /// Whether the device takes packets of several segments.
    #[inline]
    fn multi_segs(&self) -> bool {
        self.offloads.load(Relaxed) & capability::MULTI_SEGS != 0
    }

    /// Whether the frame is longer than the MTU allows. One 802.1Q tag does not count.
    #[inline(always)]
    fn too_long(&self, mbuf: &Mbuf, len: u32) -> bool {
        len > self.max_len && (len > self.max_len + VLAN_TAG || !has_tag(mbuf.data()))
    }

    /// Sends what is staged. What the device refuses is freed and counted, so that neither a full
    /// queue nor a packet that the device will never take can hold up the others.
    #[inline(never)]
    fn flush(&mut self, port: PortId, counters: &WorkerCounters) {
        if let (Some(waiting), TxPath::Queue { queue, .. }) = (&mut self.waiting, &mut self.path) {
            waiting.flush(queue, &mut self.staged, port, counters);
            self.staged_bytes = 0;
            return;
        }
        let counts = counters.port(port);
        let offered = self.staged.len() as u64;
        let (mut refused, mut refused_bytes) = (0, 0);
        match &mut self.path {
            TxPath::Queue { queue, .. } => {
                // A device that takes nothing gets one more chance without its first packet (which may be
                // the one that it cannot take), then the rest is given up.
                let mut may_retry = true;
                loop {
                    let sent = queue.tx_burst(&mut self.staged);
                    if self.staged.is_empty() || (sent == 0 && !may_retry) {
                        break;
                    }
                    if sent > 0 {
                        continue;
                    }
                    if let Some(mbuf) = take_first(&mut self.staged) {
                        counters.drop_copies.copy(port, DropReason::TxFull, &mbuf);
                        (refused, refused_bytes) = add((1, mbuf.len().into()), (refused, refused_bytes));
                    }
                    may_retry = false;
                }
                for mbuf in self.staged.drain() {
                    counters.drop_copies.copy(port, DropReason::TxFull, &mbuf);
                    (refused, refused_bytes) = add((1, mbuf.len().into()), (refused, refused_bytes));
                }
                let sent = offered - refused;
                counts.tx.add(sent, self.staged_bytes - refused_bytes);
                counters.tx.add(sent);
                if refused > 0 {
                    counts.tx_dropped.add(refused);
                    counters.count_drop(port, DropReason::TxFull, refused);
                }
            }
            TxPath::Handover(queue) => {
                for mbuf in self.staged.drain() {
                    if let Err(mbuf) = queue.push(mbuf) {
                        counters.drop_copies.copy(port, DropReason::HandoverFull, &mbuf);
                        refused += 1;
                    }
                }
                counters.tx_handoff_sent.add(offered - refused);
                if refused > 0 {
                    counts.tx_dropped.add(refused);
                    counters.count_drop(port, DropReason::HandoverFull, refused);
                }
            }
        }
        self.staged_bytes = 0;
    }

    /// Stages a packet of one segment, or of as many as it takes to make one. Gives back one that cannot be.
    fn push_in_one(
        &mut self,
        port: PortId,
        mut mbuf: Mbuf,
        counters: &WorkerCounters,
    ) -> Result<(), (DropReason, Mbuf)> {
        if mbuf.segment_count() > 1 && !self.multi_segs() && mbuf.linearize().is_err() {
            return Err((DropReason::Segments, mbuf));
        }
        self.push(port, mbuf, counters);
        Ok(())
    }

    /// Stages a packet that is of several segments or requests an offload. Gives back one that cannot be.
    #[inline(never)]
    fn stage_unusual(
        &mut self,
        (port, in_port): (PortId, PortId),
        mut mbuf: Mbuf,
        (pool, counters): (&Mempool, &WorkerCounters),
    ) -> Result<(), (DropReason, Mbuf)> {
        let is_large = gso::is_large(&mbuf);
        if self.too_long(&mbuf, if is_large { gso::segment_len(&mbuf) } else { mbuf.len() }) {
            return Err((DropReason::MtuExceeded, mbuf));
        }
        let missing = offload::needs(mbuf.ol_flags()) & !self.offloads.load(Relaxed);
        if missing == 0 {
            return self.push_in_one(port, mbuf, counters);
        }
        if !is_large {
            if !offload::complete(&mut mbuf) {
                return Err((DropReason::Offload, mbuf));
            }
            return self.push_in_one(port, mbuf, counters);
        }
        let made = gso::segment(&mbuf, pool, |segment| {
            if let Err((reason, segment)) = self.push_in_one(port, segment, counters) {
                counters.port(port).tx_dropped.add(1);
                counters.drop_packet(in_port, reason, &segment);
            }
        });
        made.count((in_port, &mbuf), counters);
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, port: PortId, mbuf: Mbuf, counters: &WorkerCounters) {
        let len = u64::from(mbuf.len());
        if let Err(mbuf) = self.staged.push(mbuf) {
            self.flush(port, counters);
            // Cannot fail: there is room now.
            drop(self.staged.push(mbuf));
        }
        self.staged_bytes += len;
    }
}

/// Takes the first staged packet; the others keep their order.
#[cold]
fn take_first(staged: &mut Burst<TX_BURST>) -> Option<Mbuf> {
    let mut rest = Burst::new();
    let mut drained = staged.drain();
    let first = drained.next();
    for mbuf in drained {
        // Cannot fail: both are of one size.
        let _ = rest.push(mbuf);
    }
    *staged = rest;
    first
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

#[cold]
fn has_tag(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// The output side of one worker: all its ports.
#[derive(Debug)]
pub struct TxStage {
    /// For the packets that others are divided into.
    pool: Mempool,
    ports: Box<[Option<PortTx>]>,
    /// Ports with staged packets. Never longer than the number of ports, so it does not grow.
    dirty: Vec<PortId>,
    /// Ports whose TX queue serves other workers too.
    shared: Vec<PortId>,
}

impl TxStage {
    /// No ports; packets are divided into mbufs of `pool`.
    pub fn new(pool: Mempool) -> TxStage {
        TxStage {
            pool,
            ports: (0..MAX_PORTS).map(|_| None).collect(),
            dirty: Vec::with_capacity(MAX_PORTS),
            shared: Vec::with_capacity(MAX_PORTS),
        }
    }

    /// Takes over a port's way out.
    pub fn add(&mut self, port: PortId, tx: PortTx) {
        if matches!(&tx.path, TxPath::Queue { from_others: Some(_), .. }) {
            self.shared.push(port);
        }
        self.ports[port.index()] = Some(tx);
    }

    /// Sends what is staged for a port and gives its way out back.
    pub fn remove(&mut self, port: PortId, counters: &WorkerCounters) -> Option<PortTx> {
        let mut tx = self.ports[port.index()].take()?;
        while take_handed_off(&mut tx, port, counters) {}
        tx.flush(port, counters);
        if let Some(waiting) = &mut tx.waiting {
            waiting.clear(port, DropReason::TxFull, counters);
        }
        self.dirty.retain(|p| *p != port);
        self.shared.retain(|p| *p != port);
        Some(tx)
    }

    /// Sets a port's MTU.
    pub fn set_mtu(&mut self, port: PortId, mtu: u32) {
        if let Some(tx) = &mut self.ports[port.index()] {
            tx.mtu_len = mtu + ETHERNET;
            tx.limit();
        }
    }

    /// Whether packets can be sent by a port: it is one of a device.
    pub fn has(&self, port: PortId) -> bool {
        self.ports[port.index()].is_some()
    }

    /// Bytes of the longest untagged frame that a port sends, 0 without a link; any length where there is no port.
    #[inline(always)]
    pub fn longest(&self, port: PortId) -> u32 {
        self.ports[port.index()].as_ref().map_or(u32::MAX, |tx| tx.max_len)
    }

    /// Says whether a port's link is up.
    pub fn set_link(&mut self, port: PortId, up: bool) {
        if let Some(tx) = &mut self.ports[port.index()] {
            tx.link_up = up;
            tx.limit();
        }
    }

    /// Stages a packet from `in_port` for a port; false when it was freed and counted instead.
    #[inline(always)]
    pub fn stage(&mut self, port: PortId, mbuf: Mbuf, in_port: PortId, counters: &WorkerCounters) -> bool {
        self.to(port, counters).stage(mbuf, in_port)
    }

    /// The way to stage several packets for a port.
    #[inline(always)]
    pub fn to<'a>(&'a mut self, port: PortId, counters: &'a WorkerCounters) -> Out<'a> {
        let tx = self.ports[port.index()].as_mut();
        if tx.as_ref().is_some_and(|tx| tx.staged.is_empty()) && !self.dirty.contains(&port) {
            self.dirty.push(port);
        }
        Out { tx, port, counters, pool: &self.pool }
    }

    /// End of a loop: everything staged leaves, or waits for the next one.
    #[inline]
    pub fn flush(&mut self, counters: &WorkerCounters) {
        let ports = &mut self.ports;
        self.dirty.retain(|port| match &mut ports[port.index()] {
            Some(tx) => {
                tx.flush(*port, counters);
                tx.waiting.as_ref().is_some_and(|waiting| waiting.is_any())
            }
            None => false,
        });
    }

    /// Drops what waits for a guest's ring, for the end.
    pub fn drop_waiting(&mut self, counters: &WorkerCounters) {
        for port in self.dirty.drain(..) {
            if let Some(waiting) = self.ports[port.index()].as_mut().and_then(|tx| tx.waiting.as_mut()) {
                waiting.clear(port, DropReason::Shutdown, counters);
            }
        }
    }

    /// Packets that wait for a guest's ring.
    pub fn waiting(&self) -> usize {
        self.ports.iter().flatten().filter_map(|tx| tx.waiting.as_ref()).map(|waiting| waiting.len()).sum()
    }

    /// Whether packets wait for a device to have room.
    #[inline]
    pub fn waits(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes a bounded number of other workers' packets for the queues that this worker owns. Says
    /// whether there were any.
    #[inline]
    pub fn serve_others(&mut self, counters: &WorkerCounters) -> bool {
        let mut any = false;
        for &port in &self.shared {
            if let Some(tx) = &mut self.ports[port.index()] {
                let was_empty = tx.staged.is_empty();
                if take_handed_off(tx, port, counters) {
                    any = true;
                    if was_empty && !self.dirty.contains(&port) {
                        self.dirty.push(port);
                    }
                }
            }
        }
        any
    }
}

/// One port, for packets to be staged.
pub struct Out<'a> {
    tx: Option<&'a mut PortTx>,
    port: PortId,
    counters: &'a WorkerCounters,
    pool: &'a Mempool,
}

impl Out<'_> {
    /// Whether so many packets, the longest of `longest` bytes, can be staged without a closer look: they are `linear`, of
    /// one segment and asking nothing.
    #[inline(always)]
    pub fn has_room(&self, packets: usize, longest: u32, linear: bool) -> bool {
        self.tx
            .as_ref()
            .is_some_and(|tx| linear && longest <= tx.max_len && tx.staged.len() + packets <= TX_BURST)
    }

    /// The same, but sends what is staged if it is in the way.
    #[inline(always)]
    pub fn make_room(&mut self, packets: usize, longest: u32, linear: bool) -> bool {
        match &mut self.tx {
            Some(tx) if linear && longest <= tx.max_len => {
                if tx.staged.len() + packets > TX_BURST {
                    tx.flush(self.port, self.counters);
                }
                true
            }
            _ => false,
        }
    }

    /// Stages the next `packets` of `mbufs`, of `bytes` bytes together, for which [`Out::has_room`].
    #[inline(always)]
    pub fn stage_next(&mut self, mbufs: &mut Drain<'_>, packets: usize, bytes: u64) {
        if let Some(tx) = &mut self.tx {
            mbufs.move_to(&mut tx.staged, packets);
            tx.staged_bytes += bytes;
        }
    }

    /// Stages a packet from `in_port`; one that is too long, in too many pieces or whose port is gone or without a link is
    /// freed and counted, and the answer false.
    #[inline(always)]
    pub fn stage(&mut self, mbuf: Mbuf, in_port: PortId) -> bool {
        let is_usual = mbuf.segment_count() == 1 && !offload::is_requested(&mbuf);
        let (reason, mbuf) = match &mut self.tx {
            Some(tx) if !tx.link_up => (DropReason::LinkDown, mbuf),
            Some(tx) if !is_usual => {
                match tx.stage_unusual((self.port, in_port), mbuf, (self.pool, self.counters)) {
                    Ok(()) => return true,
                    Err(refused) => refused,
                }
            }
            Some(tx) if tx.too_long(&mbuf, mbuf.len()) => (DropReason::MtuExceeded, mbuf),
            Some(tx) => {
                tx.push(self.port, mbuf, self.counters);
                return true;
            }
            None => (DropReason::PortGone, mbuf),
        };
        self.refuse(reason, in_port, mbuf);
        false
    }

    #[cold]
    fn refuse(&self, reason: DropReason, in_port: PortId, mbuf: Mbuf) {
        if reason != DropReason::PortGone {
            self.counters.port(self.port).tx_dropped.add(1);
        }
        self.counters.free(in_port, reason, mbuf);
    }
}

/// Stages packets that other workers handed over; says whether there were any.
fn take_handed_off(tx: &mut PortTx, port: PortId, counters: &WorkerCounters) -> bool {
    let TxPath::Queue { from_others: Some(queue), .. } = &tx.path else { return false };
    let queue = Arc::clone(queue);
    let mut taken = 0;
    while taken < HANDOFF_BURST
        && let Some(mbuf) = queue.pop()
    {
        tx.push(port, mbuf, counters);
        taken += 1;
    }
    counters.tx_handoff_received.add(taken as u64);
    taken > 0
}
