//! Adjacencies: a ready tunnel header towards one remote VTEP, and the way out to its next hop.
//!
//! Flows name an adjacency by number; when the next hop's MAC address or port changes, the adjacency
//! changes and no flow does.

use crate::batch::InnerIp;
use crate::hold::List;
use flow::drop::DropReason;
use flow::program::{AdjacencyId, Op, PortId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use wire::ecn::ecn_encap;
use wire::key::FlowKey;
use wire::tunnel::encap::{ENCAP_V4_LEN, EncapPatch, EncapTemplate, EncapV4, EncapV4Ready, source_port};

/// Packets that may wait for one neighbour.
pub const MAX_HELD: usize = 256;

/// Where the outer header's TOS or TTL comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inherit {
    /// From the port's configuration.
    Fixed(u8),
    /// From the inner packet when that is IP, else this.
    FromInner(u8),
}

impl Inherit {
    #[inline(always)]
    fn resolve(self, inner: Option<u8>) -> u8 {
        match (self, inner) {
            (Inherit::FromInner(_), Some(value)) | (Inherit::Fixed(value) | Inherit::FromInner(value), _) => {
                value
            }
        }
    }
}

/// How packets with their outer headers go through the underlay bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Egress {
    /// By these ops, which its rules say for all packets of the adjacency: mostly one output.
    Ops(Box<[Op]>),
    /// Each is looked up, as one that comes in by the bridge's LOCAL port: its rules look at what differs between them.
    Lookup(PortId),
}

/// Whether packets can be sent to the remote.
#[allow(
    clippy::large_enum_variant,
    reason = "a table of them is read by packet: a box would be another cache miss"
)]
#[derive(Debug)]
pub enum Reach {
    /// They can.
    Ready {
        /// Outer headers.
        template: EncapTemplate,
        /// The same, specialised, when they are untagged IPv4.
        fixed: Option<EncapV4>,
        /// How the encapsulated packet goes through the underlay bridge.
        egress: Egress,
    },
    /// The next hop's MAC address is being asked for: packets wait.
    Resolving,
    /// They cannot, for this reason.
    Unreachable(DropReason),
}

/// Outer headers and egress to one remote VTEP, as workers use it.
#[derive(Debug)]
pub struct Adjacency {
    /// The tunnel port.
    pub tunnel: PortId,
    /// Outer headers and egress, or why there are none.
    pub reach: Reach,
    /// Outer DSCP: the `tos` option. ECN is always inherited (RFC 6040).
    pub tos: Inherit,
    /// Outer TTL: the `ttl` option.
    pub ttl: Inherit,
    /// Bytes of the longest frame, with its Ethernet header, that fits the path to the remote behind the outer headers.
    pub max_inner: u32,
    /// The path to the remote takes less than the ports that packets leave by.
    pub narrow: bool,
    /// Packets that are too long for the path may go in fragments: the option `df_default` is false.
    pub divides: bool,
    /// Packets that wait for it, on this worker.
    pub held: List,
    /// Whether the slow path was told that packets wait.
    pub asked: bool,
    /// Sequence number of the tunnel's next packet, for headers that have one; all workers share it.
    pub sequence: Option<Arc<AtomicU32>>,
}

/// The cached encapsulation header of a program: untagged IPv4 with DF and without a checksum of UDP or GRE, out of one
/// port, for one VNI or key, written in one go. It is one cache line, and those of all programs lie side by side: with many remotes in turn it
/// is the lines and pages that cost.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct CachedHeader {
    /// For an inner packet that asks for nothing special.
    ready: EncapV4Ready,
    /// From the lowest bits up: the version of the adjacencies that it was made from, with [`CachedHeader::MARKS`], 0 where
    /// there is no header; the port that the packets leave by; the tunnel port. Headers are compared by it.
    pub word: u64,
}

const _: () = assert!(size_of::<CachedHeader>() == 64, "one cache line");

impl CachedHeader {
    /// Added to the version: TOS or TTL are the inner packet's, so `ready` is of no use.
    pub const INHERITS: u32 = 1 << 31;
    /// Added to the version: the header is shorter than [`ENCAP_V4_LEN`], and [`CachedHeader::write_ready`] cannot write it.
    pub const SHORT: u32 = 1 << 30;
    /// What is added to a version.
    pub const MARKS: u32 = Self::INHERITS | Self::SHORT;

    /// No header.
    pub const NONE: CachedHeader = CachedHeader { ready: EncapV4Ready::ZERO, word: 0 };

    /// What [`CachedHeader::word`] is for these.
    pub fn pack(version: u32, egress: PortId, tunnel: PortId) -> u64 {
        u64::from(version) | u64::from(egress.0) << 32 | u64::from(tunnel.0) << 48
    }

    /// Version of the adjacencies, with marks.
    #[inline(always)]
    pub fn version(&self) -> u32 {
        self.word as u32
    }

    /// The port that the packets leave by.
    #[inline(always)]
    pub fn egress(&self) -> PortId {
        PortId((self.word >> 32) as u16)
    }

    /// The tunnel port.
    #[inline(always)]
    pub fn tunnel(&self) -> PortId {
        PortId((self.word >> 48) as u16)
    }

    /// Writes the outer headers for a packet inside without ECN bits; the header neither inherits nor is short.
    #[inline(always)]
    pub fn write_ready(&self, room: &mut [u8; ENCAP_V4_LEN], inner_len: u16, flow_hash: u32) {
        self.ready.write(room, inner_len, source_port(flow_hash));
    }

    /// Bytes of the outer headers.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    #[inline]
    pub const fn len(&self) -> usize {
        self.ready.header_len()
    }

    /// Writes the outer headers into `room`, which has [`Self::len`] bytes; `of` gives the adjacency and the VNI that this
    /// was made for.
    #[inline]
    pub fn write<'a>(
        &self,
        room: &mut [u8],
        inner_len: u16,
        flow_hash: u32,
        inner: InnerIp,
        of: impl FnOnce() -> Option<(&'a Adjacency, u32)>,
    ) {
        // What `ready` was made for: TOS and TTL of the port's own, and an inner packet without ECN bits.
        if self.version() & Self::INHERITS | u32::from(inner.tos) & 3 == 0 {
            self.ready.write_part(room, inner_len, source_port(flow_hash));
        } else if let Some((adjacency, vni)) = of() {
            adjacency.write(room, inner_len, flow_hash, inner, vni);
        }
    }
}

/// The adjacencies of one worker, by number.
#[derive(Debug)]
pub struct Adjacencies(Box<[Option<Box<Adjacency>>]>);

impl Adjacencies {
    /// Room for so many.
    pub fn new(count: usize) -> Adjacencies {
        Adjacencies((0..count).map(|_| None).collect())
    }

    /// The adjacency of a number.
    #[inline(always)]
    pub fn get(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.0.get(id.0 as usize)?.as_deref()
    }

    /// The same, to change what does not concern the headers made of it.
    #[inline(always)]
    pub fn get_mut(&mut self, id: AdjacencyId) -> Option<&mut Adjacency> {
        self.0.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Gives a number another adjacency. What comes back is the old one, or the new one when there is no such number.
    pub fn define(&mut self, id: AdjacencyId, adjacency: Box<Adjacency>) -> Option<Box<Adjacency>> {
        match self.0.get_mut(id.0 as usize) {
            Some(place) => place.replace(adjacency),
            None => Some(adjacency),
        }
    }
}

impl Adjacency {
    /// Whether headers may have been made of it.
    pub fn is_ready(&self) -> bool {
        matches!(self.reach, Reach::Ready { .. })
    }

    /// An adjacency that cannot send yet.
    pub fn new(tunnel: PortId, reach: Reach, tos: Inherit, ttl: Inherit) -> Adjacency {
        let (max_inner, narrow) = (u32::MAX, false);
        Adjacency {
            tunnel,
            reach,
            tos,
            ttl,
            max_inner,
            narrow,
            divides: false,
            held: List::EMPTY,
            asked: false,
            sequence: None,
        }
    }

    /// The header for a VNI, if packets get it in one go; it is of `version`.
    pub fn make_header(&self, vni: u32, version: u32) -> Option<CachedHeader> {
        let Reach::Ready { fixed: Some(fixed), template, egress: Egress::Ops(ops) } = &self.reach else {
            return None;
        };
        let [Op::Output(egress)] = **ops else { return None };
        // Without DF each packet needs an identification of its own. On a narrow path each is looked at: the port says
        // nothing of the ones that do not fit.
        if template.wants_checksum() || !template.df() || self.narrow {
            return None;
        }
        let (tos, ttl) = (self.tos, self.ttl);
        let fixed_ip = matches!((tos, ttl), (Inherit::Fixed(_), Inherit::Fixed(_)));
        let ready = fixed.ready(&patch(tos, ttl, InnerIp::of(&FlowKey::ZERO), 0, vni, 0));
        let inherits = if fixed_ip { 0 } else { CachedHeader::INHERITS };
        let short = if ready.is_full() { 0 } else { CachedHeader::SHORT };
        Some(CachedHeader {
            ready,
            word: CachedHeader::pack(version | inherits | short, egress, self.tunnel),
        })
    }

    /// [`CachedHeader::write`] for a packet that the header was not made for.
    #[inline(never)]
    fn write(&self, room: &mut [u8], inner_len: u16, flow_hash: u32, inner: InnerIp, vni: u32) {
        if let Reach::Ready { fixed: Some(fixed), .. } = &self.reach {
            fixed.write(room, inner_len, &patch(self.tos, self.ttl, inner, flow_hash, vni, 0));
        }
    }

    /// What this packet's outer header has of its own.
    #[inline]
    pub fn patch(&self, key: &FlowKey, flow_hash: u32, vni: u32, ip_id: u16) -> EncapPatch {
        let patch = patch(self.tos, self.ttl, InnerIp::of(key), flow_hash, vni, ip_id);
        match &self.sequence {
            Some(next) => EncapPatch { sequence: next.fetch_add(1, Ordering::Relaxed), ..patch },
            None => patch,
        }
    }
}

#[inline(always)]
fn patch(tos: Inherit, ttl: Inherit, inner: InnerIp, flow_hash: u32, vni: u32, ip_id: u16) -> EncapPatch {
    let tos = tos.resolve(inner.is_ip.then_some(inner.tos)) & !3 | ecn_encap(inner.tos);
    EncapPatch {
        src_port: source_port(flow_hash),
        vni,
        tos,
        // A TTL of 0 is a malformed header's, or a packet's that should not be: a tunnel packet must live.
        ttl: ttl.resolve((inner.is_ip && inner.ttl != 0).then_some(inner.ttl)),
        ip_id,
        ..EncapPatch::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::proto::ETH_IPV4;
    use zerocopy::byteorder::network_endian::U16;

    #[test]
    fn tos_and_ttl_are_the_ports_or_the_inner_packets() {
        let ip = FlowKey { dl_type: U16::new(ETH_IPV4), nw_tos: 0xb9, nw_ttl: 7, ..FlowKey::ZERO };
        let arp = FlowKey { dl_type: U16::new(0x0806), nw_tos: 0xff, nw_ttl: 9, ..FlowKey::ZERO };
        let adjacency = |tos, ttl| Adjacency::new(PortId(1), Reach::Resolving, tos, ttl);
        let both = |a: &Adjacency, key| {
            let patch = a.patch(key, 0, 1, 0);
            (patch.tos, patch.ttl)
        };
        let fixed = adjacency(Inherit::Fixed(0x28), Inherit::Fixed(64));
        assert_eq!(both(&fixed, &ip), (0x29, 64), "DSCP of the port, ECN of the packet");
        assert_eq!(both(&fixed, &arp), (0x28, 64));
        let inherit = adjacency(Inherit::FromInner(0), Inherit::FromInner(64));
        assert_eq!(both(&inherit, &ip), (0xb9, 7));
        assert_eq!(both(&inherit, &arp), (0, 64));
        let ce = FlowKey { nw_tos: 0xbb, ..ip };
        assert_eq!(both(&inherit, &ce), (0xba, 7), "inner CE goes out as ECT(0)");
    }
}
