//! Outer headers on one packet, from the adjacency's template, whatever the remote and the packet.

use crate::adjacency::{Egress, MAX_HELD, Reach};
use crate::batch::PacketInfo;
use crate::hold::Held;
use crate::message::Upcall;
use crate::pipeline::Pipeline;
use crate::{gso, offload};
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId, TunnelMetadata};
use rte::Mbuf;
use wire::key::FlowKey;
use wire::tunnel::encap::INNER_MAX_LEN;

/// Where an encapsulated packet goes.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// Out of this port.
    Output(PortId),
    /// Through the underlay bridge, by the adjacency's ops.
    Ops,
    /// Through the underlay bridge, by a lookup as one from this LOCAL port.
    Lookup(PortId),
}

impl Pipeline {
    /// Puts the outer headers in front of the packet and says where it goes on. `None`: it is held for the next hop, or
    /// freed.
    pub(super) fn push_header(
        &mut self,
        id: AdjacencyId,
        (vni, metadata): (u32, TunnelMetadata),
        mut mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) -> Option<(Mbuf, Next)> {
        let Some(adjacency) = self.adjacencies.get(id) else {
            self.free(key, DropReason::PortGone, mbuf);
            return None;
        };
        let Reach::Ready { template, fixed, egress } = &adjacency.reach else {
            self.cannot_encap(id, (vni, metadata), mbuf, key, info);
            return None;
        };
        let inner_len = mbuf.len() as usize;
        if inner_len > usize::from(INNER_MAX_LEN) {
            self.free(key, DropReason::MtuExceeded, mbuf);
            return None;
        }
        // With DF a packet is never fragmented, and its identification means nothing (RFC 6864).
        let ip_id = if template.df() {
            0
        } else {
            // A packet that will be divided takes as many as it becomes packets.
            let first = self.ip_id.wrapping_add(1);
            self.ip_id = self.ip_id.wrapping_add(gso::count(&mbuf) as u16);
            first
        };
        let mut patch = adjacency.patch(key, self.hasher.flow_hash(key), vni, ip_id);
        (patch.gbp_id, patch.gbp_flags) = (metadata.gbp_id, metadata.gbp_flags);
        (patch.options_len, patch.critical, patch.oam) =
            (metadata.options_len, metadata.critical, metadata.oam);
        let written = match fixed {
            Some(fixed) => mbuf
                .prepend_or_move(fixed.header_len())
                .map(|room| fixed.write(room, inner_len as u16, &patch))
                .is_some(),
            None => mbuf
                .prepend_or_move(template.header_len())
                .is_some_and(|room| template.write(room, inner_len, &patch).is_ok()),
        };
        let offloads = offload::is_requested(&mbuf).then(|| offload::behind(&mbuf, template)).flatten();
        if let Some((flags, lengths)) = offloads {
            mbuf.set_offload(flags, lengths);
        }
        let has_checksum = !template.wants_checksum()
            || {
                if offloads.is_some() {
                    template.fill_partial_checksum(mbuf.data_mut());
                }
                offloads.is_some()
            }
            || {
                let (first, rest) = mbuf.data_and_segments();
                template.fill_checksum_chain(first, rest).is_ok()
            };
        if !(written && has_checksum) {
            self.free(key, DropReason::Headroom, mbuf);
            return None;
        }
        let next = match egress {
            Egress::Ops(ops) => match **ops {
                [Op::Output(port)] => Next::Output(port),
                _ => Next::Ops,
            },
            Egress::Lookup(port) => Next::Lookup(*port),
        };
        Some((mbuf, next))
    }

    #[cold]
    #[inline(never)]
    fn cannot_encap(
        &mut self,
        id: AdjacencyId,
        (vni, metadata): (u32, TunnelMetadata),
        mbuf: Mbuf,
        key: &FlowKey,
        info: &PacketInfo,
    ) {
        let Some(adjacency) = self.adjacencies.get_mut(id) else {
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
        let info = PacketInfo { strip: 0, set_ecn: false, ..*info };
        match self.cells.push(&mut adjacency.held, Held { mbuf, key: *key, info, vni, metadata }) {
            Ok(()) => self.counters.held.add(1),
            Err(held) => self.free(key, DropReason::HoldFull, held.mbuf),
        }
    }
}
