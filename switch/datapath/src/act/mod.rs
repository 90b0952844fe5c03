//! Stage 4, **act**: the program of each packet's megaflow runs on it. At the end of a program the packet is staged for a
//! port, held, goes through the stages again, or is freed under a reason; there is no fifth way.
//!
//! One loop over runs of packets of one program. A run works on its own packets: what it should leave behind is freed and
//! counted, never sent by the run behind it.

mod encap;
mod header;
mod ops;

pub use ops::set_field;

use crate::batch::{Batch, BatchMeta, PacketMask, packets_of};
use crate::offload;
use crate::pipeline::{Pipeline, Reentry};
use crate::programs::Compiled;
use flow::drop::DropReason;
use flow::program::{PortId, ProgramId};
use rte::Mbuf;
use rte::burst::Drain;
use std::ops::Range;
use wire::ecn::set_ecn;

/// Packets of a run from which on it is staged as a whole.
const FEW: usize = 4;

impl Pipeline {
    /// Runs the programs of a batch, whose packets all have a megaflow.
    #[inline]
    pub(crate) fn act(&mut self, batch: &mut Batch) {
        let Batch { mbufs, meta } = batch;
        let count = mbufs.len();
        let mut one_program = meta.one_hit;
        if meta.one_hit {
            self.lookup.table.account(meta.hits[0], count as u64, meta.bytes);
        } else {
            self.lookup.table.account_burst(&meta.hits[..count], &meta.lens[..count]);
            one_program = self.prefetch_headers(&meta.programs[..count]);
        }
        let mut mbufs = mbufs.drain();
        let mut at = 0;
        while at < count {
            let program = meta.programs[at];
            let rest = &meta.programs[at..count];
            let same = if one_program { count } else { rest.iter().take_while(|p| **p == program).count() };
            let range = at..at + same;
            at = match self.programs.get(program) {
                Some(&Compiled::Output(port)) => self.output_run(port, mbufs.front(same), range, meta),
                Some(&Compiled::Encap(encap)) => self.encap_run((program, encap), &mut mbufs, range, meta),
                Some(&Compiled::Terminate(port)) => {
                    self.reenter_run(Reentry::Terminate(port), mbufs.front(same), range, meta)
                }
                Some(&Compiled::Drop(reason)) => self.drop_run(reason, mbufs.front(same), range, meta),
                Some(Compiled::Ops(_)) => self.ops_run(ProgramId(program), mbufs.front(same), range, meta),
                None => {
                    debug_assert!(false, "megaflows name programs that are defined");
                    self.drop_run(DropReason::Internal, mbufs.front(same), range, meta)
                }
            };
        }
    }

    /// Packets that all go out of one port as they are. Like every run, says where the next one begins.
    #[inline(always)]
    fn output_run(
        &mut self,
        port: PortId,
        mut mbufs: Drain<'_>,
        range: Range<usize>,
        meta: &BatchMeta,
    ) -> usize {
        let failed = if meta.encapsulated { strip(mbufs.rest_mut(), range.clone(), meta) } else { 0 };
        let count = mbufs.len();
        let mut out = self.tx.to(port, &self.counters);
        if failed == 0 && count >= FEW && out.has_room(count, meta.longest(range.clone()), meta.linear) {
            out.stage_next(&mut mbufs, count, meta.bytes(range.clone(), meta.one_hit));
        } else {
            for (at, mbuf) in range.clone().zip(mbufs.by_ref()) {
                if failed & 1 << at == 0 {
                    let _ = out.stage(mbuf, meta.in_port(at));
                } else {
                    self.counters.free(meta.in_port(at), DropReason::TunnelInnerTruncated, mbuf);
                }
            }
        }
        self.end_run(&mbufs, range, meta)
    }

    /// Packets that all go through the stages again.
    fn reenter_run(
        &mut self,
        entry: Reentry,
        mut mbufs: Drain<'_>,
        range: Range<usize>,
        meta: &mut BatchMeta,
    ) -> usize {
        let failed = if meta.encapsulated { strip(mbufs.rest_mut(), range.clone(), meta) } else { 0 };
        for (at, mbuf) in range.clone().zip(mbufs.by_ref()) {
            let key = wire::key::FlowKey { in_port: meta.in_port(at).0.into(), ..wire::key::FlowKey::ZERO };
            if failed & 1 << at == 0 {
                self.reenter(entry, mbuf, &key);
            } else {
                self.free(&key, DropReason::TunnelInnerTruncated, mbuf);
            }
        }
        self.end_run(&mbufs, range, meta)
    }

    /// Packets that all go nowhere.
    fn drop_run(
        &mut self,
        reason: DropReason,
        mut mbufs: Drain<'_>,
        range: Range<usize>,
        meta: &BatchMeta,
    ) -> usize {
        for (at, mbuf) in range.clone().zip(mbufs.by_ref()) {
            self.counters.count_drop(meta.in_port(at), reason, 1);
            drop(mbuf);
        }
        self.end_run(&mbufs, range, meta)
    }

    /// What a run has left of its packets, which is none if all is well, is freed by its [`Drain`]; here it is counted.
    #[inline(always)]
    fn end_run(&self, left: &Drain<'_>, range: Range<usize>, meta: &BatchMeta) -> usize {
        if left.len() > 0 {
            self.left_behind(left.len(), range.clone(), meta);
        }
        range.end
    }

    #[cold]
    fn left_behind(&self, left: usize, range: Range<usize>, meta: &BatchMeta) {
        debug_assert!(false, "{left} packets were left behind by a run of {}", range.len());
        for at in range.rev().take(left) {
            self.counters.count_drop(meta.in_port(at), DropReason::Internal, 1);
        }
    }

    /// Asks for what the programs of a burst will read, when they are several; says whether they are one.
    #[inline(always)]
    fn prefetch_headers(&self, programs: &[u32]) -> bool {
        let first = programs.first().copied().unwrap_or(0);
        if programs.iter().fold(0, |different, program| different | program ^ first) == 0 {
            return true;
        }
        self.programs.prefetch(programs);
        false
    }
}

/// Takes the outer headers off the packets of a run, and carries their ECN field over (RFC 6040). Gives those that were
/// too short, which parse does not let through.
#[inline(always)]
fn strip(mbufs: &mut [Mbuf], range: Range<usize>, meta: &BatchMeta) -> PacketMask {
    let mut failed = 0;
    for (at, (mbuf, outer)) in range.clone().zip(mbufs.iter_mut().zip(&meta.outers[range.clone()])) {
        let trimmed = outer.trailing == 0 || mbuf.trim(outer.trailing.into());
        if !(trimmed && mbuf.adj(outer.strip.into())) {
            failed |= 1 << at;
        }
    }
    if meta.has_offloads {
        offload::decap_all(mbufs, &meta.outers[range.clone()]);
    }
    if meta.keyed != 0 {
        apply_ecn(mbufs, range, meta);
    }
    failed
}

#[cold]
#[inline(never)]
fn apply_ecn(mbufs: &mut [Mbuf], range: Range<usize>, meta: &BatchMeta) {
    for at in packets_of(meta.keyed).filter(|at| range.contains(at) && meta.infos[*at].set_ecn) {
        if let Some(mbuf) = mbufs.get_mut(at - range.start) {
            set_ecn(mbuf.data_mut(), meta.infos[at].l3.into(), meta.keys[at].nw_tos);
        }
    }
}
