//! Tunnel packets in IP fragments, both ways (`librte_ip_frag`).
//!
//! A fragment that a bridge has sent to its VTEP waits in a bounded table until its datagram is whole, which goes on as the
//! tunnel packet that it is. Fragments come to one worker as long as the device's RSS spreads them by addresses alone, as
//! NICs do. What leaves is divided when outer headers are put on: behind them nobody knows any more what may be.

use crate::counters::WorkerCounters;
use crate::offload;
use crate::parse::outer;
use crate::pipeline::Pipeline;
use crate::worker::Worker;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, MAX_PORTS, PortId};
use rte::ip_frag::FragmentHeader;
use rte::{Mbuf, Reassembly};
use std::time::Duration;
use wire::fragment::{self, Datagram, Fragment, fill_header_checksum, has_valid_header, set_ipv6_id};
use wire::key::FlowKey;

/// Datagrams that may wait for fragments.
const DATAGRAMS: u32 = 256;
/// How long one may wait, from its first fragment to its last.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Fragments of one in-port that may wait: a flood of them leaves others room.
const PER_PORT: u16 = DATAGRAMS as u16 / 8 * 7;
/// First fragments that are remembered, until others take their places.
const REMEMBERED: usize = 256;

/// The fragments that a worker has taken in.
#[derive(Debug)]
pub(crate) struct Fragments {
    table: Reassembly,
    /// Fragments in the table, by in-port.
    by_port: Box<[u16]>,
    /// Datagrams whose first fragment was for a VTEP, by their identification.
    firsts: Box<[Option<Datagram>]>,
}

impl Fragments {
    /// # Errors
    /// DPDK's heap has no memory left.
    pub(crate) fn new() -> Result<Fragments, rte::Error> {
        Ok(Fragments {
            table: Reassembly::new(DATAGRAMS, TIMEOUT)?,
            by_port: vec![0; MAX_PORTS].into(),
            firsts: vec![None; REMEMBERED].into(),
        })
    }

    /// Fragments that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.table.fragments()
    }

    /// Remembers whose first fragment this is; says of another whether its datagram's was here.
    fn follows_first(&mut self, fragment: &Fragment) -> bool {
        let place = &mut self.firsts[fragment.of.id as usize % REMEMBERED];
        if fragment.is_first {
            *place = Some(fragment.of);
        }
        *place == Some(fragment.of)
    }

    /// Adds a fragment; gives the datagram that it was the last one of.
    fn add(&mut self, mbuf: Mbuf, of: &Fragment, counters: &WorkerCounters) -> Option<Mbuf> {
        self.by_port[usize::from(mbuf.port()) % MAX_PORTS] += 1;
        counters.held.add(1);
        let header = FragmentHeader { l2_len: of.l3, is_ipv6: of.of.src.is_ipv6() };
        let whole = self.table.add(mbuf, header, rte::cycles());
        self.free_discarded(DropReason::ReassemblyFailed, counters);
        let mut whole = whole?;
        forget(&mut self.by_port, &whole, counters);
        counters.merged.add(u64::from(whole.segment_count()) - 1);
        // What does not fit goes on as a chain.
        let _ = whole.linearize();
        fill_header_checksum(whole.data_mut(), of.l3.into());
        Some(whole)
    }

    /// Frees what the table has let go.
    fn free_discarded(&mut self, reason: DropReason, counters: &WorkerCounters) {
        let Fragments { table, by_port, .. } = self;
        table.take_discarded(|mbuf| {
            forget(by_port, &mbuf, counters);
            let in_port = PortId(mbuf.port());
            counters.count_drop(in_port, reason, u64::from(mbuf.segment_count()) - 1);
            counters.free(in_port, reason, mbuf);
        });
    }

    /// Lets go what has waited too long.
    pub(crate) fn expire(&mut self, counters: &WorkerCounters) {
        self.table.expire(rte::cycles());
        self.free_discarded(DropReason::ReassemblyFailed, counters);
    }

    /// Frees all that waits; for the end.
    pub(crate) fn clear(&mut self, counters: &WorkerCounters) {
        let mut left = usize::MAX;
        while (1..left).contains(&self.waiting()) {
            left = self.waiting();
            self.table.expire(u64::MAX);
            self.free_discarded(DropReason::Shutdown, counters);
        }
    }
}

/// The segments of a packet do not wait any more.
fn forget(by_port: &mut [u16], mbuf: &Mbuf, counters: &WorkerCounters) {
    for port in mbuf.ports() {
        let waiting = &mut by_port[usize::from(port) % MAX_PORTS];
        *waiting = waiting.saturating_sub(1);
    }
    counters.held.add(u64::from(mbuf.segment_count()).wrapping_neg());
}

impl Worker {
    /// Takes the fragments out of the packets at hand, which a bridge has sent to its VTEP behind the LOCAL port `local`. A
    /// datagram that is whole takes the place of its last fragment.
    pub(crate) fn reassemble(&mut self, local: PortId) {
        if !self.batch.mbufs.iter().any(|mbuf| fragment::read(mbuf.data()).is_some()) {
            return;
        }
        let mut all = std::mem::take(&mut self.batch.mbufs);
        for mbuf in all.drain() {
            let whole = match fragment::read(mbuf.data()) {
                Some(of) => self.take_fragment(&of, mbuf, local),
                None => Some(mbuf),
            };
            if let Some(whole) = whole {
                // Cannot fail: there are no more than before.
                let _ = self.batch.mbufs.push(whole);
            }
        }
    }

    /// Takes one fragment in; gives the datagram that it was the last one of.
    fn take_fragment(&mut self, of: &Fragment, mut mbuf: Mbuf, local: PortId) -> Option<Mbuf> {
        let Worker { termination, pipeline, fragments, .. } = self;
        let (counters, in_port) = (&pipeline.counters, PortId(mbuf.port()));
        // Only the first fragment says that it is for a socket of ours. Where LOCAL is a device of the kernel, others may be the
        // kernel's.
        if !fragments.follows_first(of) && pipeline.tx.has(local) {
            let _ = pipeline.tx.stage(local, mbuf, in_port, counters);
            return None;
        }
        let refused = if offload::is_requested(&mbuf) {
            Some(DropReason::Offload)
        } else if mbuf.linearize().is_err() {
            Some(DropReason::Segments)
        } else if !has_valid_header(mbuf.data(), of.l3.into()) {
            Some(DropReason::TunnelIpv4Checksum)
        } else if fragments.by_port[in_port.index() % MAX_PORTS] >= PER_PORT {
            Some(DropReason::ReassemblyFull)
        } else {
            None
        };
        if let Some(reason) = refused {
            counters.free(in_port, reason, mbuf);
            return None;
        }
        let whole = fragments.add(mbuf, of, counters)?;
        if termination.view(local).is_some_and(|view| outer::refuses_reassembled(&whole, &view)) {
            counters.free(in_port, DropReason::TunnelFragment, whole);
            return None;
        }
        Some(whole)
    }
}

impl Pipeline {
    /// Whether a frame that is too long for the path to an adjacency's remote goes there in fragments: its tunnel has no DF,
    /// nor has what is inside. Options of the tunnel header stand in front of the frame.
    pub(crate) fn may_divide(
        &self,
        (id, options_len): (AdjacencyId, u8),
        mbuf: &Mbuf,
        of: (u16, u16),
    ) -> bool {
        let (dl_type, l3) = of;
        self.adjacencies.get(id).is_some_and(|adjacency| adjacency.divides)
            && mbuf
                .data()
                .get(options_len.into()..)
                .is_some_and(|frame| fragment::may_be_divided(frame, dl_type, l3.into()))
    }

    /// Divides an encapsulated packet, whose IP header begins at `l3`, into packets of at most `mtu` bytes from there on, and
    /// gives `send` each. Says whether all were sent.
    pub(crate) fn divide(
        &mut self,
        (mut mbuf, l3, mtu): (Mbuf, usize, u16),
        key: &FlowKey,
        mut send: impl FnMut(&mut Pipeline, Mbuf) -> bool,
    ) -> bool {
        let Some(mut fragments) = rte::ip_frag::fragment(&mut mbuf, l3, mtu, &self.pool) else {
            self.free(key, DropReason::NoMbuf, mbuf);
            return false;
        };
        drop(mbuf);
        self.fragment_id = self.fragment_id.wrapping_add(1);
        self.counters.copied.add(fragments.len() as u64 - 1);
        let mut all = true;
        for mut fragment in fragments.drain() {
            fill_header_checksum(fragment.data_mut(), l3);
            set_ipv6_id(fragment.data_mut(), l3, self.fragment_id);
            all &= send(self, fragment);
        }
        all
    }
}
