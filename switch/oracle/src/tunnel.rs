//! VXLAN (RFC 7348), Geneve (RFC 8926) and GRE (RFC 2784, 2890) over IPv4, both ways.

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

/// Tunnel types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// VXLAN.
    Vxlan,
    /// VXLAN with `exts=gbp`.
    Gbp,
    /// Geneve.
    Geneve,
    /// GRE.
    Gre,
}

/// Options of a tunnel port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// `type`, and `exts`.
    pub kind: Type,
    /// `remote_ip`; empty for `flow`.
    pub remotes: Vec<Ipv4Addr>,
    /// `local_ip`.
    pub local: Local,
    /// `in_key`; `None` for `flow`.
    pub in_key: Option<u32>,
    /// `out_key`; `None` for `flow`.
    pub out_key: Option<u32>,
    /// `dst_port`; 0 for GRE.
    pub dst_port: u16,
    /// `tos`; `None` for `inherit`.
    pub tos: Option<u8>,
    /// `ttl`; `None` for `inherit`.
    pub ttl: Option<u8>,
    /// `df_default`.
    pub df: bool,
    /// `csum`.
    pub csum: bool,
    /// `split-horizon`.
    pub split_horizon: bool,
}

/// What a sender may choose in a tunnel packet's header: its source port and (RFC 6864) its identification. The
/// rest follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// There is a UDP header.
    pub udp: bool,
    /// It has a checksum.
    pub csum: bool,
}

/// Puts the source port and the identification that a sender chose into the frame that was to be expected, and its
/// checksums.
pub fn complete(frame: &mut [u8], l3: usize, header: Header, source_port: [u8; 2], id: [u8; 2]) {
    let udp = l3 + 20;
    frame[l3 + 4..l3 + 6].copy_from_slice(&id);
    frame[l3 + 10..l3 + 12].fill(0);
    let checksum = !sum(&frame[l3..udp]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&checksum.to_be_bytes());
    if !header.udp {
        return;
    }
    frame[udp..udp + 2].copy_from_slice(&source_port);
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
    tunnel: &Tunnel,
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
    let tos = tunnel.tos.unwrap_or(inner(Field::NwTos)) & 0xfc | ecn;
    let ttl = tunnel.ttl.unwrap_or(if inner(Field::NwTtl) == 0 { 64 } else { inner(Field::NwTtl) });
    let policy = (packet.get(Field::TunGbpId) as u16, packet.get(Field::TunGbpFlags) as u8);
    // What IP carries.
    let mut carried = Vec::new();
    let header = tunnel_header(tunnel, vni, policy, &packet.bytes);
    if tunnel.kind != Type::Gre {
        carried.extend([0, 0]);
        carried.extend(tunnel.dst_port.to_be_bytes());
        carried.extend((8 + header.len() as u16 + packet.bytes.len() as u16).to_be_bytes());
        carried.extend([0, 0]);
    }
    carried.extend(header);
    carried.extend(&packet.bytes);
    let mut frame = Vec::new();
    frame.extend(next_hop);
    frame.extend(underlay.mac);
    frame.extend([8, 0, 0x45, tos]);
    frame.extend((20 + carried.len() as u16).to_be_bytes());
    let protocol = if tunnel.kind == Type::Gre { 47 } else { 17 };
    frame.extend([0, 0, if tunnel.df { 0x40 } else { 0 }, 0, ttl, protocol, 0, 0]);
    frame.extend(local.octets());
    frame.extend(remote.octets());
    frame.extend(carried);
    let header = Header { udp: tunnel.kind != Type::Gre, csum: tunnel.csum };
    complete(&mut frame, 14, header, [0; 2], [0; 2]);
    let mut outer = Packet::new(&frame)?;
    outer.header = Some(header);
    outer.free = packet.free;
    Some(outer)
}

/// The tunnel header; a GRE header has a key always, and with `csum` a checksum.
fn tunnel_header(tunnel: &Tunnel, id: u32, (policy, flags): (u16, u8), inner: &[u8]) -> Vec<u8> {
    let vni = |first: [u8; 4]| {
        let mut header = first.to_vec();
        header.extend(&id.to_be_bytes()[1..]);
        header.push(0);
        header
    };
    match tunnel.kind {
        Type::Gbp if (policy, flags) != (0, 0) => {
            let [high, low] = policy.to_be_bytes();
            vni([0x88, flags, high, low])
        }
        Type::Vxlan | Type::Gbp => vni([8, 0, 0, 0]),
        Type::Geneve => vni([0, 0, 0x65, 0x58]),
        Type::Gre => {
            let mut header = vec![if tunnel.csum { 0xa0 } else { 0x20 }, 0, 0x65, 0x58];
            header.extend(if tunnel.csum { &[0; 4][..] } else { &[] });
            header.extend(id.to_be_bytes());
            if tunnel.csum {
                let checksum = !sum(&[&header[..], inner].concat());
                header[4..6].copy_from_slice(&checksum.to_be_bytes());
            }
            header
        }
    }
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
    let sockets: Vec<u16> = tunnels(world).map(|(_, _, tunnel)| tunnel.dst_port).collect();
    let is_for_us = || {
        let ip = frame.get(14..34)?;
        let len = usize::from(ip[0] & 15) * 4;
        let port = match ip[9] {
            17 => number(&frame.get(14 + len..22 + len)?[2..4]) as u16,
            47 => 0,
            _ => return None,
        };
        let dst = Ipv4Addr::from(number(&ip[16..20]) as u32);
        (frame[..6] == underlay.mac
            && frame[12..14] == [8, 0]
            && ip[0] >> 4 == 4
            && len >= 20
            && number(&ip[6..8]) & 0x3fff == 0
            && underlay.addresses.contains(&dst)
            && sockets.contains(&port))
        .then_some(len)
    };
    match is_for_us() {
        Some(len) => unpack(world, frame, len)
            .map_or(Arrival::Dropped, |(place, packet)| Arrival::Inner(place, Box::new(packet))),
        None => Arrival::Plain,
    }
}

fn tunnels(world: &World) -> impl Iterator<Item = (usize, &str, &Tunnel)> {
    world.bridges.iter().enumerate().flat_map(|(at, bridge)| {
        bridge.ports.iter().filter_map(move |port| match &port.kind {
            Kind::Tunnel(tunnel) => Some((at, port.name.as_str(), tunnel)),
            Kind::Device | Kind::Patch(_) => None,
        })
    })
}

/// The inner packet and where it enters, of a packet whose IP header has `header_len` bytes.
fn unpack(world: &World, frame: &[u8], header_len: usize) -> Option<(Place, Packet)> {
    let packet = &frame[14..];
    let total = number(&packet[2..4]) as usize;
    if sum(&packet[..header_len]) != 0xffff || total > packet.len() {
        return None;
    }
    let mut carried = packet.get(header_len..total)?;
    let mut dst_port = 0;
    if packet[9] == 17 {
        carried = carried.get(..number(carried.get(4..6)?) as usize)?;
        if *carried.get(6..8)? != [0, 0] {
            let covered = [&packet[12..20], &[0, 17], &carried[4..6], carried].concat();
            if sum(&covered) != 0xffff {
                return None;
            }
        }
        dst_port = number(&carried[2..4]) as u16;
        carried = &carried[8..];
    }
    let kind = tunnels(world).find(|(_, _, tunnel)| tunnel.dst_port == dst_port)?.2.kind;
    let header = read_header(kind, carried)?;
    let remote = Ipv4Addr::from(number(&packet[12..16]) as u32);
    let local = Ipv4Addr::from(number(&packet[16..20]) as u32);
    let address = |tunnel: &Tunnel| match tunnel.local {
        Local::Address(ip) => Some(ip),
        Local::Any | Local::Flow => None,
    };
    let (bridge, name, _) = tunnels(world)
        .filter(|(_, _, t)| {
            t.dst_port == dst_port
                && t.in_key.is_none_or(|key| key == header.id)
                && (t.remotes.is_empty() || t.remotes.contains(&remote))
                && address(t).is_none_or(|ip| ip == local)
        })
        .max_by_key(|(_, _, t)| (t.in_key.is_some(), !t.remotes.is_empty(), address(t).is_some()))?;
    let mut inner = Packet::new(carried.get(header.len..)?)?;
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
    inner.parsed.fields.put(Field::TunId, header.id.into());
    inner.parsed.fields.put(Field::TunSrc, u32::from(remote).into());
    inner.parsed.fields.put(Field::TunDst, u32::from(local).into());
    if let Some((id, flags)) = header.policy {
        inner.parsed.fields.put(Field::TunGbpId, id);
        inner.parsed.fields.put(Field::TunGbpFlags, flags);
    }
    inner.has_vni = true;
    Some((Place { bridge, port: name.to_owned() }, inner))
}

/// What a tunnel header says.
struct Read {
    id: u32,
    policy: Option<(u128, u128)>,
    len: usize,
}

/// Reads the header in front of `bytes`; `None` for one that must be dropped.
fn read_header(kind: Type, bytes: &[u8]) -> Option<Read> {
    let first = bytes.get(..4)?;
    let vni = || Some(number(bytes.get(4..7)?) as u32);
    match kind {
        Type::Vxlan | Type::Gbp => {
            let has_policy = kind == Type::Gbp && first[0] & 0x80 != 0;
            let policy = has_policy.then(|| (number(&first[2..4]), first[1].into()));
            (first[0] & 8 != 0).then_some(Read { id: vni()?, policy, len: 8 })
        }
        Type::Geneve => {
            let end = 8 + usize::from(first[0] & 0x3f) * 4;
            if first[0] & 0xc0 != 0 || first[2..] != [0x65, 0x58] {
                return None;
            }
            let mut at = 8;
            while at < end {
                let option = bytes.get(at..at + 4)?;
                // Nobody knows any option here, and a critical one must be known.
                if option[2] & 0x80 != 0 {
                    return None;
                }
                at += 4 + usize::from(option[3] & 0x1f) * 4;
            }
            (at == end).then_some(Read { id: vni()?, policy: None, len: end })
        }
        Type::Gre => {
            if first[0] & 0x4f != 0 || first[1] != 0 || first[2..] != [0x65, 0x58] {
                return None;
            }
            let has = |bit: u8| usize::from(first[0] & bit != 0) * 4;
            if has(0x80) > 0 && sum(bytes) != 0xffff {
                return None;
            }
            let at = 4 + has(0x80);
            let id = if has(0x20) > 0 { number(bytes.get(at..at + 4)?) as u32 } else { 0 };
            Some(Read { id, policy: None, len: at + has(0x20) + has(0x10) })
        }
    }
}
