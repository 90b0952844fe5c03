//! Packets that are too long for their tunnel: freed, counted, and shown to the slow path, which tells their senders.

use crate::gso;
use crate::message::{Link, Upcall};
use crate::pipeline::Pipeline;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, MAX_PORTS, PortId};
use rte::Mbuf;
use wire::too_big::QUOTED_MAX;

/// Packets of one in-port that are shown a second, and at once: Linux' bounds for ICMP messages.
const PER_SECOND: u64 = 1000;
const AT_ONCE: u64 = 50;
/// Buffers that reports leave to others: a sender that does not listen must not cost them their ARP.
const LEFT_BY_REPORTS: usize = Link::BUFFERS / 4;
/// Buffers that captures and monitors leave to others, reports among them.
const LEFT_BY_COPIES: usize = Link::BUFFERS / 2;

/// How often packets of each in-port are shown to the slow path: a token bucket a port, as the time when it is full again.
#[derive(Debug)]
pub(crate) struct ReportLimit {
    full_at: Box<[u64]>,
}

impl ReportLimit {
    pub(crate) fn new() -> ReportLimit {
        ReportLimit { full_at: vec![0; MAX_PORTS].into() }
    }

    /// Whether one more of `port` may be shown at `now`; `hz` cycles are a second.
    pub(crate) fn take(&mut self, port: PortId, now: u64, hz: u64) -> bool {
        let Some(full_at) = self.full_at.get_mut(port.index()) else { return false };
        let cost = hz / PER_SECOND;
        let after = (*full_at).max(now) + cost;
        let allowed = after - now <= AT_ONCE * cost;
        if allowed {
            *full_at = after;
        }
        allowed
    }
}

impl Pipeline {
    /// Whether a packet of this in-port may be shown to the slow path beside what is for the switch itself.
    pub(crate) fn may_report(&mut self, in_port: PortId) -> bool {
        self.link.buffers.len() > LEFT_BY_REPORTS
            && self.report_limit.take(in_port, rte::cycles(), rte::tsc_hz())
    }

    /// Whether a packet may be copied for who looks.
    pub(crate) fn may_copy(&self) -> bool {
        self.link.buffers.len() > LEFT_BY_COPIES
    }

    /// Whether a packet, or one that it is divided into, is too long for the path to an adjacency's remote.
    #[inline]
    pub(crate) fn exceeds(&self, id: AdjacencyId, mbuf: &Mbuf) -> bool {
        let len = if gso::is_large(mbuf) { gso::segment_len(mbuf) } else { mbuf.len() };
        self.adjacencies.get(id).is_some_and(|adjacency| len > adjacency.max_inner)
    }

    /// Frees a packet for which [`Pipeline::exceeds`], and shows it to the slow path.
    #[cold]
    #[inline(never)]
    pub(crate) fn too_big(
        &mut self,
        (id, vni, skip): (AdjacencyId, u32, usize),
        mut mbuf: Mbuf,
        in_port: PortId,
    ) {
        self.counters.drop_packet(in_port, DropReason::MtuExceeded, &mbuf);
        if let Some(adjacency) = self.adjacencies.get(id) {
            self.counters.port(adjacency.tunnel).tx_dropped.add(1);
        }
        // Options of the tunnel header stand in front of the frame.
        if skip > 0 && !mbuf.adj(skip) {
            return;
        }
        if !self.may_report(in_port) {
            return;
        }
        let Some(mut buffer) = self.link.buffers.pop() else { return };
        buffer.in_port = in_port;
        buffer.set_head(mbuf.segments(), QUOTED_MAX);
        if let Err(Upcall::TooBig(buffer, ..)) = self.link.upcalls.push(Upcall::TooBig(buffer, id, vni)) {
            let _ = self.link.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_its_rate() {
        let (mut limit, hz) = (ReportLimit::new(), 2_000_000_000);
        let shown = |limit: &mut ReportLimit, port, now| {
            (0..1000).filter(|_| limit.take(PortId(port), now, hz)).count() as u64
        };
        assert_eq!(shown(&mut limit, 1, hz), AT_ONCE);
        assert_eq!(shown(&mut limit, 2, hz), AT_ONCE, "another port");
        assert_eq!(shown(&mut limit, 1, hz), 0);
        assert_eq!(shown(&mut limit, 1, hz + hz / 100), PER_SECOND / 100);
        assert_eq!(shown(&mut limit, 1, 9 * hz), AT_ONCE, "rest does not add up");
        assert!(!limit.take(PortId(u16::MAX), 0, hz));
    }
}
