//! A burst on its way through the stages, and the metadata of each packet.

use crate::BURST;
use crate::offload;
use flow::program::PortId;
use rte::{Burst, Mbuf};
use std::ops::Range;
use wire::hot::{HotKey, hot_tos, hot_ttl};
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, ETH_IPV6};
use wire::tunnel::udp4::Udp4Tunnel;

/// Where things are in a packet, and what its outer headers leave to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketInfo {
    /// Bytes of outer headers in front of the frame that the key describes; 0 for a packet out of no tunnel.
    pub strip: u16,
    /// Offset of the L3 header in the frame that the key describes.
    pub l3: u16,
    /// Offset of the L4 header there, 0 when there is none.
    pub l4: u16,
    /// Whether the inner packet's ECN field becomes that of the key (RFC 6040).
    pub set_ecn: bool,
    /// Length in bytes of the frame that the key describes.
    pub len: u32,
}

/// The outer headers of a packet, which are still in front of it; none for a packet out of no tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OuterLen {
    /// Bytes in front of the inner frame.
    pub strip: u16,
    /// Bytes behind the inner frame.
    pub trailing: u16,
}

/// What an outer header may take from the packet inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerIp {
    /// Whether it is IP at all; the others are zero if not.
    pub is_ip: bool,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl InnerIp {
    /// Of the packet of this key.
    #[inline(always)]
    pub fn of(key: &FlowKey) -> InnerIp {
        let dl_type = key.dl_type.get();
        if dl_type == ETH_IPV4 || dl_type == ETH_IPV6 {
            InnerIp { is_ip: true, tos: key.nw_tos, ttl: key.nw_ttl }
        } else {
            InnerIp { is_ip: false, tos: 0, ttl: 0 }
        }
    }

    /// Of an ordinary packet, which is IPv4.
    #[inline(always)]
    pub fn of_hot(hot: &HotKey) -> InnerIp {
        InnerIp { is_ip: true, tos: hot_tos(hot), ttl: hot_ttl(hot) }
    }
}

/// Some packets of a burst, as in `rte_table`: packet `n` is bit `n`.
pub(crate) type PacketMask = u32;
/// Packets that such a mask has room for.
pub(crate) const MASK_BITS: usize = PacketMask::BITS as usize;

/// The first `count` packets.
#[inline(always)]
pub(crate) const fn mask_of_first(count: usize) -> PacketMask {
    ((1u64 << count) - 1) as PacketMask
}

/// The packets of a mask, in order.
#[inline(always)]
pub(crate) fn packets_of(mut packets: PacketMask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if packets == 0 {
            return None;
        }
        let at = packets.trailing_zeros() as usize;
        packets &= packets - 1;
        Some(at % BURST)
    })
}

/// Metadata of the packets of a burst. Which parts hold is said at each: a stage makes what a later one needs, and
/// nothing else.
#[derive(Debug)]
pub(crate) struct BatchMeta {
    /// The port that all packets are from; for packets out of tunnels, the tunnel port.
    pub in_port: Option<PortId>,
    /// The same of each, where it is not one.
    pub in_ports: [PortId; BURST],
    /// The tunnel that all packets came through, where it is one, over IPv4.
    pub tunnel: Option<Udp4Tunnel>,
    /// Length in bytes of each frame, without outer headers.
    pub lens: [u32; BURST],
    /// Sum of the lengths.
    pub bytes: u64,
    /// Whether all packets are of one segment, and none requests an offload.
    pub linear: bool,
    /// Whether some request an offload of the device that sends them: a checksum, a segmentation.
    pub has_offloads: bool,
    /// Whether some have outer headers in front of the frame; `outers` holds then.
    pub encapsulated: bool,
    /// Outer headers of each.
    pub outers: [OuterLen; BURST],
    /// Whether the frames were read: each has a hot key, or is one of `keyed`.
    pub read: bool,
    /// Hot key of each packet that is not one of `keyed`.
    pub hot: [HotKey; BURST],
    /// All bits that are set in the last word (protocol, TOS, TTL, ports) of one of the hot keys.
    pub hot_bits: u64,
    /// Packets whose whole key has been made; `keys` and `infos` hold for these.
    pub keyed: PacketMask,
    /// Whole key of each.
    pub keys: [FlowKey; BURST],
    /// Where the headers of each are.
    pub infos: [PacketInfo; BURST],
    /// Slot of each packet's megaflow.
    pub hits: [u32; BURST],
    /// Program of each packet.
    pub programs: [u32; BURST],
    /// Whether all go by one megaflow: the first one's.
    pub one_hit: bool,
}

/// A burst and its metadata.
#[derive(Debug)]
pub(crate) struct Batch {
    pub mbufs: Burst<BURST>,
    pub meta: BatchMeta,
}

impl Batch {
    /// No packets.
    pub fn new() -> Box<Batch> {
        Box::new(Batch {
            mbufs: Burst::new(),
            meta: BatchMeta {
                in_port: None,
                in_ports: [PortId(0); BURST],
                tunnel: None,
                lens: [0; BURST],
                bytes: 0,
                linear: true,
                has_offloads: false,
                encapsulated: false,
                outers: [OuterLen::default(); BURST],
                read: false,
                hot: [[0; 4]; BURST],
                hot_bits: 0,
                keyed: 0,
                keys: [FlowKey::ZERO; BURST],
                infos: [PacketInfo::default(); BURST],
                hits: [0; BURST],
                programs: [0; BURST],
                one_hit: false,
            },
        })
    }

    /// Starts with the packets that are there, all from `port`: their lengths are known from now on. Gives the length of
    /// the shortest. Whether they request offloads is looked at only if they `may`.
    #[inline(always)]
    pub fn start(&mut self, port: PortId, may: bool) -> u32 {
        let Batch { mbufs, meta } = self;
        let (mut bytes, mut shortest, mut segments) = (0, u32::MAX, 1);
        for (mbuf, known_len) in mbufs.iter().zip(&mut meta.lens) {
            let len = mbuf.len();
            *known_len = len;
            bytes += u64::from(len);
            shortest = shortest.min(len);
            segments |= mbuf.segment_count();
            mbuf.prefetch_data();
        }
        (meta.in_port, meta.tunnel) = (Some(port), None);
        meta.bytes = bytes;
        meta.has_offloads = may && mbufs.iter().any(offload::is_requested);
        meta.linear = segments == 1 && !meta.has_offloads;
        (meta.encapsulated, meta.read, meta.one_hit) = (false, false, false);
        (meta.keyed, meta.hot_bits) = (0, 0);
        shortest
    }

    /// Takes out the packets of a set, and frees them.
    pub fn drop_packets(&mut self, packets: PacketMask) {
        self.retain(|at, mbuf, _| if packets & 1 << at == 0 { Some(mbuf) } else { None });
    }

    /// Gives each packet to `keep`, in order; those that come back stay, and move up.
    #[cold]
    #[inline(never)]
    pub fn retain(&mut self, mut keep: impl FnMut(usize, Mbuf, &BatchMeta) -> Option<Mbuf>) {
        let Batch { mbufs, meta } = self;
        let mut kept = Burst::new();
        let mut keyed = 0;
        for (at, mbuf) in mbufs.drain().enumerate() {
            let Some(mbuf) = keep(at, mbuf, meta) else {
                meta.bytes -= u64::from(meta.lens[at]);
                continue;
            };
            let to = kept.len();
            meta.in_ports[to] = meta.in_ports[at];
            meta.lens[to] = meta.lens[at];
            meta.outers[to] = meta.outers[at];
            meta.hot[to] = meta.hot[at];
            meta.keys[to] = meta.keys[at];
            meta.infos[to] = meta.infos[at];
            meta.hits[to] = meta.hits[at];
            meta.programs[to] = meta.programs[at];
            keyed |= (meta.keyed >> at & 1) << to;
            // Cannot fail: as long as the burst that it came from.
            let _ = kept.push(mbuf);
        }
        meta.keyed = keyed;
        *mbufs = kept;
    }
}

impl BatchMeta {
    /// The port that a packet is from.
    #[inline(always)]
    pub fn in_port(&self, at: usize) -> PortId {
        self.in_port.unwrap_or(self.in_ports[at % BURST])
    }

    /// The outer headers of a packet.
    #[inline(always)]
    pub fn outer(&self, at: usize) -> OuterLen {
        if self.encapsulated { self.outers[at % BURST] } else { OuterLen::default() }
    }

    /// The longest of some frames, in bytes.
    #[inline(always)]
    pub fn longest(&self, range: Range<usize>) -> u32 {
        self.lens[range].iter().fold(0, |longest, len| longest.max(*len))
    }

    /// The sum of the lengths of some frames, in bytes; of all, if they are `all`.
    #[inline(always)]
    pub fn bytes(&self, range: Range<usize>, all: bool) -> u64 {
        if all { self.bytes } else { self.lens[range].iter().map(|len| u64::from(*len)).sum() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_by_number() {
        assert_eq!((mask_of_first(0), mask_of_first(3), mask_of_first(BURST)), (0, 0b111, u32::MAX));
        assert_eq!(packets_of(0b1000_0101).collect::<Vec<_>>(), [0, 2, 7]);
        assert_eq!(packets_of(u32::MAX).count(), BURST);
    }
}
