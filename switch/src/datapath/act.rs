//! Stage 4, **act**: the program of each packet's megaflow runs on it. At the end of a program the packet
//! is staged for a port, held, or freed under a reason; there is no fourth way.

use super::adjacency::{MAX_HELD, Reach};
use super::hold::Held;
use super::key::PacketInfo;
use super::message::Upcall;
use super::{BURST, Batch, Path};
use flow::drop::DropReason;
use flow::hash::flow_hash;
use flow::program::{AdjacencyId, Op, Policy, PortId, Program, ProgramId, PuntReason};
use rte::{Burst, Mbuf};
use wire::ecn::{ECN_CE, ECN_MASK, set_ce};
use wire::encap::{ENCAP_V4_LEN, INNER_MAX_LEN};
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, ETH_IPV6, ETHERNET_LEN};

/// A program as a worker keeps it: the common ones are single operations.
#[derive(Debug)]
pub(super) enum Compiled {
    /// One output.
    Output(PortId),
    /// One encapsulation.
    Encap(AdjacencyId, u32),
    /// A drop.
    Drop(DropReason),
    /// Anything else.
    Ops(Box<Program>),
}

impl Compiled {
    /// Compiles a program; gives the box back where it is not needed any more.
    pub(super) fn new(program: Box<Program>) -> (Compiled, Option<Box<Program>>) {
        let single = match *program.ops {
            [] => Compiled::Drop(program.drop),
            [Op::Output(port)] => Compiled::Output(port),
            [Op::Encap { adjacency, vni, policy }] if policy == Policy::default() => {
                Compiled::Encap(adjacency, vni)
            }
            _ => return (Compiled::Ops(program), None),
        };
        (single, Some(program))
    }
}

/// Consecutive packets of a batch that have one program. Their mbufs are the next ones of `mbufs`, which is
/// longer: it must be the last of what is zipped.
struct Run<'a, 'b> {
    mbufs: &'a mut rte::burst::Drain<'b>,
    keys: &'a [FlowKey],
    infos: &'a [PacketInfo],
}

impl Path {
    /// Runs the programs of a batch whose packets all have a megaflow, by runs of packets of one program.
    #[inline]
    pub(super) fn act(&mut self, batch: &mut Batch) {
        let count = batch.mbufs.len();
        let hits = &batch.hits[..count];
        self.lookup.table.account_burst(hits, &batch.lens[..count]);
        self.lookup.table.program_burst(hits, &mut batch.programs[..count]);
        let (programs, keys, infos) = (&batch.programs[..count], &batch.keys[..count], &batch.infos[..count]);
        let mut mbufs = batch.mbufs.drain();
        let mut at = 0;
        while at < count {
            let program = programs[at];
            let mut end = at + 1;
            while end < count && programs[end] == program {
                end += 1;
            }
            let run = Run { mbufs: mbufs.by_ref(), keys: &keys[at..end], infos: &infos[at..end] };
            match self.programs.get(program as usize) {
                Some(Some(Compiled::Output(port))) => self.output_run(*port, run),
                Some(Some(Compiled::Encap(adjacency, vni))) => self.encap_run(*adjacency, *vni, run),
                _ => {
                    for ((key, info), mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
                        self.run(ProgramId(program), mbuf, key, info);
                    }
                }
            }
            at = end;
        }
    }

    /// A burst whose packets all go by one megaflow that only outputs: none is read.
    #[inline]
    pub(super) fn forward_all(&mut self, mbufs: &mut Burst<BURST>, slot: u32, in_port: PortId) {
        let Some(Some(&Compiled::Output(port))) =
            self.programs.get(self.lookup.table.program(slot) as usize).map(Option::as_ref)
        else {
            return;
        };
        let mut out = self.tx.to(port, &self.counters);
        let (mut packets, mut bytes) = (0, 0);
        for mbuf in mbufs.drain() {
            let len = mbuf.len();
            if (len as usize) < ETHERNET_LEN {
                self.counters.count_drop(in_port, DropReason::EthernetTruncated, 1);
                continue;
            }
            packets += 1;
            bytes += u64::from(len);
            let _ = out.stage(mbuf);
        }
        self.lookup.table.account(slot, packets, bytes);
        self.counters.megaflow_hits.add(packets);
    }

    /// Packets that all go out of one port as they are.
    #[inline(always)]
    fn output_run(&mut self, port: PortId, run: Run<'_, '_>) {
        let mut out = self.tx.to(port, &self.counters);
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
                self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
                continue;
            }
            let _ = out.stage(mbuf);
        }
    }

    /// Packets that all get one tunnel header, where that can be written in one go.
    #[inline(always)]
    fn encap_run(&mut self, id: AdjacencyId, vni: u32, run: Run<'_, '_>) {
        let Some(Some(adjacency)) = self.adjacencies.get_mut(id.0 as usize) else {
            return self.encap_each(id, vni, run);
        };
        let Some(fast) = adjacency.fast(vni) else { return self.encap_each(id, vni, run) };
        let mut out = self.tx.to(fast.egress, &self.counters);
        let (mut sent, mut bytes) = (0, 0);
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
                self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
                continue;
            }
            let inner_len = mbuf.data_len();
            let room = if inner_len > usize::from(INNER_MAX_LEN) { None } else { mbuf.prepend(ENCAP_V4_LEN) };
            let Some(room) = room.and_then(|room| room.first_chunk_mut()) else {
                let too_long = inner_len > usize::from(INNER_MAX_LEN);
                let reason = if too_long { DropReason::MtuExceeded } else { DropReason::Headroom };
                self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
                continue;
            };
            fast.write(room, inner_len as u16, vni, key);
            if out.stage(mbuf) {
                sent += 1;
                bytes += inner_len as u64;
            } else {
                self.counters.ports[fast.tunnel.index()].tx_dropped.add(1);
            }
        }
        let counters = &self.counters.ports[fast.tunnel.index()];
        counters.tx_packets.add(sent);
        counters.tx_bytes.add(bytes);
    }

    /// The same packet by packet: the remote cannot be reached yet, or the header is an unusual one.
    #[inline(never)]
    fn encap_each(&mut self, id: AdjacencyId, vni: u32, run: Run<'_, '_>) {
        for ((key, info), mut mbuf) in run.keys.iter().zip(run.infos).zip(run.mbufs) {
            match strip_if_tunnelled(&mut mbuf, key, info) {
                Ok(()) => self.encap(id, vni, Policy::default(), mbuf, key, info),
                Err(reason) => self.free(key, reason, mbuf),
            }
        }
    }

    /// Runs one packet's program.
    #[inline(always)]
    pub(super) fn run(&mut self, program: ProgramId, mut mbuf: Mbuf, key: &FlowKey, info: &PacketInfo) {
        let Some(Some(compiled)) = self.programs.get(program.0 as usize) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        if let Compiled::Drop(reason) = *compiled {
            return self.free(key, reason, mbuf);
        }
        if let Err(reason) = strip_if_tunnelled(&mut mbuf, key, info) {
            return self.free(key, reason, mbuf);
        }
        match *compiled {
            Compiled::Output(port) => {
                let _ = self.tx.stage(port, mbuf, &self.counters);
            }
            Compiled::Encap(adjacency, vni) => {
                self.encap(adjacency, vni, Policy::default(), mbuf, key, info);
            }
            Compiled::Drop(_) => {}
            Compiled::Ops(_) => self.run_ops(program, mbuf, key, info),
        }
    }

    /// Copies the packet's bytes to the slow path.
    pub(super) fn punt(&mut self, reason: PuntReason, mbuf: &Mbuf, key: &FlowKey) {
        if let Some(mut buffer) = self.link.buffers.pop() {
            buffer.in_port = PortId(key.in_port as u16);
            buffer.reason = reason;
            if !buffer.set(mbuf.data()) {
                let _ = self.link.buffers.push(buffer);
                self.counters.punts_lost.add(1);
            } else if let Err(Upcall::Punt(buffer)) = self.link.upcalls.push(Upcall::Punt(buffer)) {
                let _ = self.link.buffers.push(buffer);
                self.counters.punts_lost.add(1);
            }
        } else {
            self.counters.punts_lost.add(1);
        }
    }

    /// Puts the outer headers in front of the packet and stages it, or holds it for the next hop.
    #[inline(always)]
    pub(super) fn encap(
        &mut self,
        id: AdjacencyId,
        vni: u32,
        policy: Policy,
        mut mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let Some(Some(adjacency)) = self.adjacencies.get(id.0 as usize) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        let Reach::Ready { template, fixed, egress } = &adjacency.reach else {
            return self.cannot_encap(id, (vni, policy), mbuf, key, info);
        };
        let inner_len = mbuf.data_len();
        if inner_len > usize::from(INNER_MAX_LEN) {
            return self.free(key, DropReason::MtuExceeded, mbuf);
        }
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut patch = adjacency.patch(key, flow_hash(key), vni, self.ip_id);
        (patch.gbp_id, patch.gbp_flags) = (policy.id, policy.flags);
        let written = match fixed {
            Some(fixed) => mbuf
                .prepend(ENCAP_V4_LEN)
                .and_then(|room| room.first_chunk_mut())
                .map(|room| fixed.write(room, inner_len as u16, &patch))
                .is_some(),
            None => mbuf
                .prepend(template.header_len())
                .is_some_and(|room| template.write(room, inner_len, &patch).is_ok()),
        };
        if !written || template.wants_udp_checksum() && template.fill_udp_checksum(mbuf.data_mut()).is_err() {
            return self.free(key, DropReason::Headroom, mbuf);
        }
        let tunnel = adjacency.tunnel;
        let sent = if let [Op::Output(port)] = **egress {
            self.tx.stage(port, mbuf, &self.counters)
        } else {
            self.underlay_ops(id, mbuf, key);
            true
        };
        let counters = &self.counters.ports[tunnel.index()];
        if sent {
            counters.tx_packets.add(1);
            counters.tx_bytes.add(inner_len as u64);
        } else {
            counters.tx_dropped.add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn cannot_encap(
        &mut self,
        id: AdjacencyId,
        (vni, policy): (u32, Policy),
        mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let Some(Some(adjacency)) = self.adjacencies.get_mut(id.0 as usize) else {
            return self.free(key, DropReason::PortGone, mbuf);
        };
        if let Reach::Unreachable(reason) = adjacency.reach {
            return self.free(key, reason, mbuf);
        }
        if !adjacency.asked {
            // When the queue is full, the next packet asks again.
            adjacency.asked = self.link.upcalls.push(Upcall::Neighbour(id)).is_ok();
        }
        if !adjacency.asked && adjacency.held.is_empty() {
            // Nobody would ever come for it.
            return self.free(key, DropReason::UpcallQueueFull, mbuf);
        }
        if adjacency.held.len() >= MAX_HELD {
            return self.free(key, DropReason::NeighbourPending, mbuf);
        }
        let info = PacketInfo { strip: 0, ..*info };
        match self.cells.push(&mut adjacency.held, Held { mbuf, key: *key, info, vni, policy }) {
            Ok(()) => self.counters.held.add(1),
            Err(held) => self.free(key, DropReason::HoldFull, held.mbuf),
        }
    }

    /// Frees a packet and counts why.
    #[inline(never)]
    pub(super) fn free(&self, key: &FlowKey, reason: DropReason, mbuf: Mbuf) {
        self.counters.count_drop(PortId(key.in_port as u16), reason, 1);
        drop(mbuf);
    }
}

#[inline(always)]
fn strip_if_tunnelled(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) -> Result<(), DropReason> {
    if info.strip == 0 { Ok(()) } else { strip(mbuf, key, info) }
}

/// Takes the outer headers off and carries their ECN over (RFC 6040).
#[inline(always)]
fn strip(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) -> Result<(), DropReason> {
    if !mbuf.adj(usize::from(info.strip)) {
        return Err(DropReason::VxlanInnerTruncated);
    }
    if info.outer_tos & ECN_MASK == ECN_CE {
        congested(mbuf, key, info);
    }
    Ok(())
}

#[cold]
fn congested(mbuf: &mut Mbuf, key: &FlowKey, info: &PacketInfo) {
    // The key has the mark already, where the inner packet could take it: see the key stage.
    let dl_type = key.dl_type.get();
    if (dl_type == ETH_IPV4 || dl_type == ETH_IPV6) && key.nw_tos & ECN_MASK == ECN_CE {
        set_ce(mbuf.data_mut(), usize::from(info.l3));
    }
}
