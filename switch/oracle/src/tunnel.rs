//! VXLAN (RFC 7348) over IPv4, both ways.

use crate::checksum::sum;
use crate::field::Field;
use crate::packet::Packet;
use crate::parse::number;
use crate::pipeline::Place;
use crate::world::{Bridge, Kind, World};
use std::net::Ipv4Addr;

/// `local_ip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// Not given.
    Any,
    /// An address.
    Address(Ipv4Addr),
    /// `flow`.
    Flow,
}

/// Options of a vxlan port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// `remote_ip`; empty for `flow`.
    pub remotes: Vec<Ipv4Addr>,
    /// `local_ip`.
    pub local: Local,
    /// `in_key`; `None` for `flow`.
    pub in_key: Option<u32>,
    /// `out_key`; `None` for `flow`.
    pub out_key: Option<u32>,
    /// `dst_port`.
    pub dst_port: u16,
    /// `tos`; `None` for `inherit`.
    pub tos: Option<u8>,
    /// `ttl`; `None` for `inherit`.
    pub ttl: Option<u8>,
    /// `df_default`.
    pub df: bool,
    /// `csum`.
    pub csum: bool,
    /// `exts=gbp`.
    pub gbp: bool,
    /// `split-horizon`.
    pub split_horizon: bool,
}

/// What a sender may choose in a tunnel packet's header: its source port and (RFC 6864) its identification. The
/// rest follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// There is a UDP checksum.
    pub csum: bool,
}

/// Offset of the outer UDP header in what [`encapsulate`] makes, which has no tag.
const UDP: usize = 34;

/// Puts the source port and the identification that a sender chose into the frame that was to be expected, and its
/// checksums.
pub fn complete(frame: &mut [u8], l3: usize, header: Header, source_port: [u8; 2], id: [u8; 2]) {
    let udp = l3 + 20;
    frame[udp..udp + 2].copy_from_slice(&source_port);
    frame[l3 + 4..l3 + 6].copy_from_slice(&id);
    frame[l3 + 10..l3 + 12].fill(0);
    let checksum = !sum(&frame[l3..udp]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
    if header.csum {
        frame[udp + 6..udp + 8].fill(0);
        let len = &frame[udp + 4..udp + 6];
        let covered = [&frame[l3 + 12..l3 + 20], &[0, 17], len, &frame[udp..]].concat();
        let checksum = match !sum(&covered) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Puts outer headers in front of a packet. `None` when there is no way to the remote.
pub fn encapsulate(
    underlay: &Bridge,
    vxlan: &Vxlan,
    packet: &Packet,
    vni: u32,
    local: Option<Ipv4Addr>,
    remote: Ipv4Addr,
) -> Option<Packet> {
    let next_hop = underlay.neighbours.get(&remote)?;
    let local = match local {
        Some(local) if !underlay.addresses.contains(&local) => return None,
        Some(local) => local,
        None => *underlay.addresses.first()?,
    };
    let ip = matches!(packet.get(Field::EthType), 0x800 | 0x86dd);
    let inner = |field| if ip { packet.get(field) as u8 } else { 0 };
    let ecn = if inner(Field::NwEcn) == 3 { 2 } else { inner(Field::NwEcn) };
    let tos = vxlan.tos.unwrap_or(inner(Field::NwTos)) & 0xfc | ecn;
    let ttl = vxlan.ttl.unwrap_or(if inner(Field::NwTtl) == 0 { 64 } else { inner(Field::NwTtl) });
    let policy = (packet.get(Field::TunGbpId) as u16, packet.get(Field::TunGbpFlags) as u8);
    let len = packet.bytes.len() as u16;
    let mut frame = Vec::new();
    frame.extend(next_hop);
    frame.extend(underlay.mac);
    frame.extend([8, 0, 0x45, tos]);
    frame.extend((len + 36).to_be_bytes());
    frame.extend([0, 0, if vxlan.df { 0x40 } else { 0 }, 0, ttl, 17, 0, 0]);
    frame.extend(local.octets());
    frame.extend(remote.octets());
    frame.extend([0, 0]);
    frame.extend(vxlan.dst_port.to_be_bytes());
    frame.extend((len + 16).to_be_bytes());
    frame.extend([0, 0]);
    if vxlan.gbp && policy != (0, 0) {
        frame.extend([0x88, policy.1]);
        frame.extend(policy.0.to_be_bytes());
    } else {
        frame.extend([8, 0, 0, 0]);
    }
    frame.extend(&vni.to_be_bytes()[1..]);
    frame.push(0);
    frame.extend(&packet.bytes);
    let header = Header { csum: vxlan.csum };
    complete(&mut frame, UDP - 20, header, [0; 2], [0; 2]);
    let mut outer = Packet::new(&frame)?;
    outer.header = Some(header);
    outer.loose = packet.loose;
    Some(outer)
}

/// What a frame on an underlay is.
pub(crate) enum Arrival {
    /// Not for a tunnel: an ordinary frame.
    Plain,
    /// For a tunnel, but not right or nobody's.
    Dropped,
    /// Out of a tunnel.
    Inner(Place, Box<Packet>),
}

/// Looks whether a frame is a tunnel packet for the bridge that it came to, and unpacks it.
pub(crate) fn terminate(world: &World, bridge: usize, frame: &[u8]) -> Arrival {
    let underlay = &world.bridges[bridge];
    let sockets: Vec<u16> = vxlans(world).map(|(_, _, vxlan)| vxlan.dst_port).collect();
    let is_for_us = || {
        let ip = frame.get(14..34)?;
        let len = usize::from(ip[0] & 15) * 4;
        let udp = frame.get(14 + len..22 + len)?;
        let dst = Ipv4Addr::from(number(&ip[16..20]) as u32);
        (frame[..6] == underlay.mac
            && frame[12..14] == [8, 0]
            && ip[0] >> 4 == 4
            && len >= 20
            && ip[9] == 17
            && number(&ip[6..8]) & 0x3fff == 0
            && underlay.addresses.contains(&dst)
            && sockets.contains(&(number(&udp[2..4]) as u16)))
        .then_some(len)
    };
    match is_for_us() {
        Some(len) => unpack(world, frame, len)
            .map_or(Arrival::Dropped, |(place, packet)| Arrival::Inner(place, Box::new(packet))),
        None => Arrival::Plain,
    }
}

fn vxlans(world: &World) -> impl Iterator<Item = (usize, &str, &Vxlan)> {
    world.bridges.iter().enumerate().flat_map(|(at, bridge)| {
        bridge.ports.iter().filter_map(move |port| match &port.kind {
            Kind::Vxlan(vxlan) => Some((at, port.name.as_str(), vxlan)),
            Kind::Device | Kind::Patch(_) => None,
        })
    })
}

/// The inner packet and where it enters, of a UDP packet whose IP header has `header_len` bytes.
fn unpack(world: &World, frame: &[u8], header_len: usize) -> Option<(Place, Packet)> {
    let packet = &frame[14..];
    let total = number(&packet[2..4]) as usize;
    if sum(&packet[..header_len]) != 0xffff || total > packet.len() {
        return None;
    }
    let datagram = packet.get(header_len..total)?;
    let datagram = datagram.get(..number(datagram.get(4..6)?) as usize)?;
    let checksum = datagram.get(6..8)?;
    if checksum != [0, 0] {
        let covered = [&packet[12..20], &[0, 17], &datagram[4..6], datagram].concat();
        if sum(&covered) != 0xffff {
            return None;
        }
    }
    let vxlan = datagram.get(8..16)?;
    if vxlan[0] & 8 == 0 {
        return None;
    }
    let vni = number(&vxlan[4..7]) as u32;
    let remote = Ipv4Addr::from(number(&packet[12..16]) as u32);
    let local = Ipv4Addr::from(number(&packet[16..20]) as u32);
    let dst_port = number(&datagram[2..4]) as u16;
    let address = |vxlan: &Vxlan| match vxlan.local {
        Local::Address(ip) => Some(ip),
        Local::Any | Local::Flow => None,
    };
    let (bridge, name, options) = vxlans(world)
        .filter(|(_, _, v)| {
            v.dst_port == dst_port
                && v.in_key.is_none_or(|key| key == vni)
                && (v.remotes.is_empty() || v.remotes.contains(&remote))
                && address(v).is_none_or(|ip| ip == local)
        })
        .max_by_key(|(_, _, v)| (v.in_key.is_some(), !v.remotes.is_empty(), address(v).is_some()))?;
    let mut inner = Packet::new(&datagram[16..])?;
    // RFC 6040, figure 4: by the outer field, then the inner one; `None` drops.
    const ECN: [[Option<u128>; 4]; 4] = [
        [Some(0), Some(1), Some(2), Some(3)],
        [Some(0), Some(1), Some(1), Some(3)],
        [Some(0), Some(1), Some(2), Some(3)],
        [None, Some(3), Some(3), Some(3)],
    ];
    if !inner.parsed.odd && inner.parsed.fields.has(Field::NwEcn) {
        let before = inner.get(Field::NwEcn);
        let after = ECN[usize::from(packet[1] & 3)][before as usize & 3]?;
        if after != before {
            inner.set(Field::NwEcn, after, 3);
        }
    }
    inner.parsed.fields.put(Field::TunId, vni.into());
    inner.parsed.fields.put(Field::TunSrc, u32::from(remote).into());
    inner.parsed.fields.put(Field::TunDst, u32::from(local).into());
    if options.gbp && vxlan[0] & 0x80 != 0 {
        inner.parsed.fields.put(Field::TunGbpId, number(&vxlan[2..4]));
        inner.parsed.fields.put(Field::TunGbpFlags, vxlan[1].into());
    }
    inner.has_vni = true;
    Some((Place { bridge, port: name.to_owned() }, inner))
}
