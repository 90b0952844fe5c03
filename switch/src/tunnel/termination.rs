//! Which frames are tunnel packets for this switch, and which vxlan port takes them.
//!
//! Built whole by the slow path whenever a port, an address or a tunnel option changes, then read by
//! workers without a lock: each worker owns a copy.

use flow::program::{MAX_PORTS, PortId};
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv4Addr};
use wire::addr::MacAddr;
use wire::outer::Peek;
use wire::plain::{PlainOuter, plain_ipv4, plain_mac, plain_port};

/// How a vxlan port is told apart on receive; `None` takes any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelMatch {
    /// `in_key`: VNI, or `None` for `flow`.
    pub vni: Option<u32>,
    /// `remote_ip`, or `None` for `flow`.
    pub remote: Option<Ipv4Addr>,
    /// `local_ip`, or `None` when not given or `flow`.
    pub local: Option<Ipv4Addr>,
    /// UDP port that the packets come to.
    pub dst_port: u16,
}

/// Which of the three are given: one lookup a shape that is in use, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    any_vni: bool,
    any_remote: bool,
    any_local: bool,
}

impl TunnelMatch {
    fn shape(&self) -> Shape {
        Shape {
            any_vni: self.vni.is_none(),
            any_remote: self.remote.is_none(),
            any_local: self.local.is_none(),
        }
    }
}

/// A packed [`TunnelMatch`]; absent parts are zero, and the shape is part of it.
type Packed = (u64, u64);

#[inline(always)]
fn pack(shape: Shape, vni: u32, remote: u32, local: u32, dst_port: u16) -> Packed {
    let keep = |any: bool, value: u32| if any { 0 } else { u64::from(value) };
    let bits = u64::from(shape.any_vni) | u64::from(shape.any_remote) << 1 | u64::from(shape.any_local) << 2;
    (
        keep(shape.any_vni, vni) << 32 | u64::from(dst_port) << 8 | bits,
        keep(shape.any_remote, remote) << 32 | keep(shape.any_local, local),
    )
}

#[derive(Debug, Clone)]
struct Underlay {
    mac: MacAddr,
    addresses: Vec<Ipv4Addr>,
    /// The same as [`PlainOuter`] has them.
    plain_mac: u64,
    plain_addresses: Vec<u32>,
}

/// An answer of the tunnel table, remembered with all that it was asked by.
#[derive(Debug, Clone, Copy, Default)]
struct Memo {
    port_and_vni: u64,
    addresses: u64,
    /// 0 for an empty entry: number 0 is no vxlan port's.
    tunnel: u16,
}

/// Answers remembered: as many as stay in the L1 cache.
const MEMOS: usize = 512;

/// The termination tables of one worker.
#[derive(Debug, Clone)]
pub struct Termination {
    /// Index into `underlays` plus one by port; 0 for a port of a bridge without addresses.
    by_port: Box<[u8]>,
    underlays: Vec<Underlay>,
    /// UDP ports of the VTEP sockets.
    sockets: Vec<u16>,
    /// The same as [`PlainOuter`] has them.
    plain_sockets: Vec<u16>,
    tunnels: FxHashMap<Packed, PortId>,
    /// In the order of precedence: `in_key` before `remote_ip` before `local_ip`.
    shapes: Vec<Shape>,
    /// Direct-mapped, in front of `tunnels`.
    memos: Box<[Memo; MEMOS]>,
}

impl Default for Termination {
    fn default() -> Self {
        Termination {
            by_port: vec![0; MAX_PORTS].into(),
            underlays: Vec::new(),
            sockets: Vec::new(),
            plain_sockets: Vec::new(),
            tunnels: FxHashMap::default(),
            shapes: Vec::new(),
            memos: Box::new([Memo::default(); MEMOS]),
        }
    }
}

impl Termination {
    /// Bridges with addresses that one switch can have.
    pub const MAX_UNDERLAYS: usize = 255;

    /// Adds a bridge with addresses and its ports. Underlays beyond [`Self::MAX_UNDERLAYS`] are ignored.
    pub fn add_underlay(
        &mut self,
        mac: MacAddr,
        addresses: Vec<Ipv4Addr>,
        ports: impl IntoIterator<Item = PortId>,
    ) {
        if self.underlays.len() == Self::MAX_UNDERLAYS {
            return;
        }
        let plain_addresses = addresses.iter().map(|ip| plain_ipv4(*ip)).collect();
        self.underlays.push(Underlay { mac, addresses, plain_mac: plain_mac(mac), plain_addresses });
        for port in ports {
            self.by_port[port.index()] = self.underlays.len() as u8;
        }
    }

    /// Adds a vxlan port. Says which port already takes the same packets, if one does.
    pub fn add_tunnel(&mut self, of: TunnelMatch, port: PortId) -> Result<(), PortId> {
        let shape = of.shape();
        let packed = pack(
            shape,
            of.vni.unwrap_or(0),
            of.remote.map_or(0, u32::from),
            of.local.map_or(0, u32::from),
            of.dst_port,
        );
        if let Some(other) = self.tunnels.get(&packed) {
            return Err(*other);
        }
        self.tunnels.insert(packed, port);
        if !self.sockets.contains(&of.dst_port) {
            self.sockets.push(of.dst_port);
            self.plain_sockets.push(plain_port(of.dst_port));
        }
        if !self.shapes.contains(&shape) {
            self.shapes.push(shape);
            self.shapes.sort_unstable();
        }
        Ok(())
    }

    /// Whether frames on `port` can be tunnel packets at all.
    #[inline(always)]
    pub fn is_underlay(&self, port: PortId) -> bool {
        self.by_port[port.index()] != 0
    }

    /// What a burst from `port` is compared with; `None` for a port of a bridge without addresses.
    #[inline(always)]
    pub fn intake(&mut self, port: PortId) -> Option<Intake<'_>> {
        let underlay = self.underlays.get(usize::from(self.by_port[port.index()]).wrapping_sub(1))?;
        let first = |list: &[u32]| list.first().copied().unwrap_or(0);
        Some(Intake {
            mac: underlay.plain_mac,
            address: first(&underlay.plain_addresses),
            socket: self.plain_sockets.first().copied().unwrap_or(0),
            underlay,
            sockets: &self.plain_sockets,
            any_sockets: &self.sockets,
            shapes: &self.shapes,
            tunnels: &self.tunnels,
            memos: &mut self.memos,
        })
    }

    /// The vxlan port that takes a packet with this VNI from `remote` to `local`.
    #[inline]
    pub fn find(&self, vni: u32, remote: Ipv4Addr, local: Ipv4Addr, dst_port: u16) -> Option<PortId> {
        find(&self.shapes, &self.tunnels, (vni, remote, local, dst_port))
    }
}

/// The most specific tunnel that takes a packet: VNI, remote, local, UDP port.
#[inline]
fn find(
    shapes: &[Shape],
    tunnels: &FxHashMap<Packed, PortId>,
    (vni, remote, local, dst_port): (u32, Ipv4Addr, Ipv4Addr, u16),
) -> Option<PortId> {
    shapes.iter().find_map(|shape| {
        tunnels.get(&pack(*shape, vni, u32::from(remote), u32::from(local), dst_port)).copied()
    })
}

/// The termination tables as one burst from one port needs them.
#[derive(Debug)]
pub struct Intake<'a> {
    mac: u64,
    /// The first address and the first socket: mostly the only ones.
    address: u32,
    socket: u16,
    underlay: &'a Underlay,
    sockets: &'a [u16],
    any_sockets: &'a [u16],
    shapes: &'a [Shape],
    tunnels: &'a FxHashMap<Packed, PortId>,
    memos: &'a mut [Memo; MEMOS],
}

impl Intake<'_> {
    /// Whether a UDP packet goes to one of our VTEP sockets.
    #[inline]
    pub fn is_ours(&self, peek: &Peek) -> bool {
        let IpAddr::V4(dst) = peek.dst else { return false };
        peek.dl_dst == self.underlay.mac
            && peek.vid.is_none()
            && self.any_sockets.contains(&peek.udp_dst)
            && self.underlay.addresses.contains(&dst)
    }

    /// [`Intake::is_ours`] for a packet that was read in one go.
    #[inline(always)]
    pub fn takes(&self, outer: &PlainOuter) -> bool {
        let (address, socket) = ((outer.addresses >> 32) as u32, outer.port_and_vni as u16);
        outer.dl_dst == self.mac
            && (address == self.address || self.underlay.plain_addresses.contains(&address))
            && (socket == self.socket || self.sockets.contains(&socket))
    }

    /// The vxlan port that takes a packet with this VNI from `remote` to `local`.
    pub fn find(&self, vni: u32, remote: Ipv4Addr, local: Ipv4Addr, dst_port: u16) -> Option<PortId> {
        find(self.shapes, self.tunnels, (vni, remote, local, dst_port))
    }

    /// [`Intake::find`] with a memory. Everything that tells tunnels apart is compared, so that no packet gets
    /// another one's answer.
    #[inline(always)]
    pub fn recall(&mut self, outer: &PlainOuter) -> Option<PortId> {
        let PlainOuter { port_and_vni, addresses, .. } = *outer;
        let mixed = (port_and_vni ^ addresses << 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (mixed >> 55) as usize % MEMOS;
        let memo = &self.memos[at];
        if memo.port_and_vni == port_and_vni && memo.addresses == addresses && memo.tunnel != 0 {
            return Some(PortId(memo.tunnel));
        }
        let found = self.find(outer.vni(), outer.src(), outer.dst(), outer.udp_dst())?;
        self.memos[at] = Memo { port_and_vni, addresses, tunnel: found.0 };
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::encap::{EncapAddrs, EncapExt, EncapPatch, EncapSpec, EncapTemplate};

    const OWN: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);

    fn addr() -> impl Strategy<Value = Ipv4Addr> {
        (0u32..3).prop_map(Ipv4Addr::from)
    }

    fn packet(vni: u32, src: Ipv4Addr, dst: Ipv4Addr, udp_dst: u16) -> PlainOuter {
        let spec = EncapSpec {
            eth_src: MacAddr::ZERO,
            eth_dst: MacAddr::ZERO,
            vlan_tci: None,
            addrs: EncapAddrs::V4(src, dst),
            df: true,
            udp_dst,
            csum: false,
            ext: EncapExt::None,
        };
        let mut bytes = [0; 50 + 14];
        let patch = EncapPatch { vni, ..EncapPatch::default() };
        EncapTemplate::new(&spec).write(&mut bytes[..50], 14, &patch).unwrap();
        PlainOuter::read(&bytes).expect("an ordinary tunnel packet")
    }

    fn tunnel() -> impl Strategy<Value = TunnelMatch> {
        (prop::option::of(0u32..3), prop::option::of(addr()), prop::option::of(addr()), 1u16..3)
            .prop_map(|(vni, remote, local, dst_port)| TunnelMatch { vni, remote, local, dst_port })
    }

    proptest! {
        /// Against a scan in the order that facts-vxlan.md gives: in_key specific beats remote_ip
        /// specific beats local_ip specific; any specific beats flow.
        #[test]
        fn the_most_specific_port_takes_the_packet(
            tunnels in prop::collection::vec(tunnel(), 0..12),
            packets in prop::collection::vec((0u32..3, addr(), addr(), 1u16..3), 1..40),
        ) {
            let mut termination = Termination::default();
            termination.add_underlay(MacAddr::ZERO, vec![OWN], [PortId(1)]);
            let sockets: Vec<u16> = tunnels.iter().map(|of| of.dst_port).collect();
            let mut accepted: Vec<(TunnelMatch, PortId)> = Vec::new();
            for (i, of) in tunnels.iter().enumerate() {
                let same = accepted.iter().find(|(other, _)| other == of).map(|(_, port)| *port);
                prop_assert_eq!(termination.add_tunnel(*of, PortId(i as u16 + 1)).err(), same);
                if same.is_none() {
                    accepted.push((*of, PortId(i as u16 + 1)));
                }
            }
            for (vni, remote, local, dst_port) in packets {
                let fits = |of: &TunnelMatch| {
                    of.dst_port == dst_port
                        && of.vni.is_none_or(|v| v == vni)
                        && of.remote.is_none_or(|r| r == remote)
                        && of.local.is_none_or(|l| l == local)
                };
                let expected = accepted
                    .iter()
                    .filter(|(of, _)| fits(of))
                    .max_by_key(|(of, _)| (of.vni.is_some(), of.remote.is_some(), of.local.is_some()))
                    .map(|(_, port)| *port);
                prop_assert_eq!(termination.find(vni, remote, local, dst_port), expected);
                let outer = packet(vni, remote, local, dst_port);
                let mut intake = termination.intake(PortId(1)).expect("an underlay's port");
                prop_assert_eq!(intake.takes(&outer), local == OWN && sockets.contains(&dst_port));
                prop_assert_eq!(intake.recall(&outer), expected);
                prop_assert_eq!(intake.recall(&outer), expected, "remembered");
            }
        }
    }
}
