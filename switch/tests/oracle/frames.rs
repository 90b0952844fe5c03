//! Frames of every kind that the switch tells apart, out of small pools of addresses so that they meet rules.

use oracle::checksum::sum;
use oracle::tunnel::Type;
use std::fmt;
use std::net::Ipv4Addr;

/// Hosts; beyond them broadcast, a group, a reserved group.
pub const MACS: [[u8; 6]; 8] = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [2, 0, 0, 0, 0, 3],
    [2, 0, 0, 0, 0, 4],
    [2, 0, 0, 0, 1, 1],
    [0xff; 6],
    [0x33, 0x33, 0, 0, 0, 1],
    [1, 0x80, 0xc2, 0, 0, 0x0e],
];
pub const IPV4: [u32; 5] = [0x0a00_0001, 0x0a00_0002, 0x0a00_0003, 0x0a00_0101, 0xc0a8_0507];
pub const IPV6: [u128; 4] = [
    0x2001_0db8_0000_0000_0000_0000_0000_0001,
    0x2001_0db8_0000_0000_0000_0000_0000_0002,
    0x2001_0db8_0001_0000_0000_0000_0000_0001,
    0xfe80_0000_0000_0000_0000_0000_0000_0001,
];
pub const PORTS: [u16; 6] = [53, 80, 81, 443, 1024, 65535];
pub const TOS: [u8; 6] = [0, 0xb8, 0x29, 2, 3, 0xbb];
pub const TTL: [u8; 5] = [64, 1, 2, 0, 255];

/// A transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum L4 {
    Tcp(u16, u16, u16),
    /// The last says whether there is a checksum.
    Udp(u16, u16, bool),
    Icmp(u8, u8),
    Icmp6(u8, u8),
    /// Solicitation or advertisement, target, link-layer address.
    Nd(bool, u128, Option<u8>),
    Sctp(u16, u16),
    Other(u8),
}

/// Which part of a packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Whole,
    First,
    Later,
}

/// What an Ethernet header carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    Other(u16),
    Llc,
    Snap,
    Ip4 { src: u32, dst: u32, tos: u8, ttl: u8, options: bool, part: Part, l4: L4 },
    Ip6 { src: u128, dst: u128, label: u32, tos: u8, ttl: u8, options: bool, part: Part, l4: L4 },
    Arp { op: u16, sha: u8, spa: u32, tha: u8, tpa: u32 },
}

/// A frame, described.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Indices into [`MACS`].
    pub dst: usize,
    pub src: usize,
    /// TPID and TCI.
    pub tags: Vec<(u16, u16)>,
    pub body: Body,
    /// Its transport checksum is wrong.
    pub bad_checksum: bool,
    /// Bytes cut off at the end.
    pub cut: usize,
}

impl Frame {
    /// Its bytes; `n` tells packets of one flow apart.
    pub fn bytes(&self, n: u32) -> Vec<u8> {
        let mut out = [MACS[self.dst], MACS[self.src]].concat();
        for (tpid, tci) in &self.tags {
            out.extend(tpid.to_be_bytes());
            out.extend(tci.to_be_bytes());
        }
        let payload = [&n.to_be_bytes()[..], b"payload!"].concat();
        match self.body {
            Body::Other(kind) => {
                out.extend(kind.to_be_bytes());
                out.extend(payload);
            }
            Body::Llc => {
                out.extend([0, 15, 0x42, 0x42, 3]);
                out.extend(payload);
            }
            Body::Snap => {
                out.extend([0, 20, 0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0xb5]);
                out.extend(payload);
            }
            Body::Arp { op, sha, spa, tha, tpa } => {
                out.extend([8, 6, 0, 1, 8, 0, 6, 4]);
                out.extend(op.to_be_bytes());
                out.extend(MACS[usize::from(sha)]);
                out.extend(spa.to_be_bytes());
                out.extend(MACS[usize::from(tha)]);
                out.extend(tpa.to_be_bytes());
                out.extend(payload);
            }
            Body::Ip4 { src, dst, tos, ttl, options, part, l4 } => {
                out.extend([8, 0]);
                let pseudo = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                let data = self.transport(l4, &pseudo, &payload, part);
                let len = if options { 24 } else { 20 };
                let mut header = vec![0x40 | (len / 4) as u8, tos];
                header.extend(((len + data.len()) as u16).to_be_bytes());
                header.extend([0x12, 0x34]);
                header.extend(match part {
                    Part::Whole => [0x40, 0],
                    Part::First => [0x20, 0],
                    Part::Later => [0, 0xb9],
                });
                header.extend([ttl, l4.proto(), 0, 0]);
                header.extend(pseudo);
                header.resize(len, 1);
                let checksum = !sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                out.extend(header);
                out.extend(data);
            }
            Body::Ip6 { src, dst, label, tos, ttl, options, part, l4 } => {
                out.extend([0x86, 0xdd]);
                let pseudo = [src.to_be_bytes(), dst.to_be_bytes()].concat();
                let data = self.transport(l4, &pseudo, &payload, part);
                let mut chain = Vec::new();
                let mut next = l4.proto();
                if part != Part::Whole {
                    chain = vec![
                        next,
                        0,
                        if part == Part::Later { 5 } else { 0 },
                        u8::from(part == Part::First),
                        0,
                        0,
                        0,
                        9,
                    ];
                    next = 44;
                }
                if options {
                    chain.splice(0..0, [next, 0, 1, 4, 0, 0, 0, 0]);
                    next = 60;
                }
                let first = 6 << 28 | u32::from(tos) << 20 | label;
                out.extend(first.to_be_bytes());
                out.extend(((chain.len() + data.len()) as u16).to_be_bytes());
                out.extend([next, ttl]);
                out.extend(pseudo);
                out.extend(chain);
                out.extend(data);
            }
        }
        out.truncate(out.len() - self.cut.min(out.len()));
        out
    }

    fn transport(&self, l4: L4, pseudo: &[u8], payload: &[u8], part: Part) -> Vec<u8> {
        if part == Part::Later {
            return payload.to_vec();
        }
        let mut out = Vec::new();
        let checksum_at = match l4 {
            L4::Tcp(src, dst, flags) => {
                out.extend(src.to_be_bytes());
                out.extend(dst.to_be_bytes());
                out.extend([0, 0, 0, 1, 0, 0, 0, 2]);
                out.extend((0x5000 | flags).to_be_bytes());
                out.extend([0xff, 0xff, 0, 0, 0, 0]);
                Some(16)
            }
            L4::Udp(src, dst, checksum) => {
                out.extend(src.to_be_bytes());
                out.extend(dst.to_be_bytes());
                out.extend((8 + payload.len() as u16).to_be_bytes());
                out.extend([0, 0]);
                checksum.then_some(6)
            }
            L4::Icmp(kind, code) | L4::Icmp6(kind, code) => {
                out.extend([kind, code, 0, 0, 0, 1, 0, 2]);
                Some(2)
            }
            L4::Nd(advert, target, link) => {
                out.extend([if advert { 136 } else { 135 }, 0, 0, 0, 0, 0, 0, 0]);
                out.extend(target.to_be_bytes());
                if let Some(link) = link {
                    out.extend([if advert { 2 } else { 1 }, 1]);
                    out.extend(MACS[usize::from(link)]);
                }
                Some(2)
            }
            L4::Sctp(src, dst) => {
                out.extend(src.to_be_bytes());
                out.extend(dst.to_be_bytes());
                out.extend([0, 0, 0, 7, 1, 2, 3, 4]);
                None
            }
            L4::Other(_) => None,
        };
        // Options of ND are eight bytes each, so nothing may follow them but what is ignored as too short.
        out.extend(if matches!(l4, L4::Nd(..)) { &payload[..4] } else { payload });
        if let Some(at) = checksum_at {
            let mut covered = Vec::new();
            if !matches!(l4, L4::Icmp(..)) {
                covered.extend(pseudo);
                covered.extend([0, l4.proto()]);
                covered.extend((out.len() as u16).to_be_bytes());
            }
            covered.extend(&out);
            let checksum = (!sum(&covered)).wrapping_add(u16::from(self.bad_checksum) * 0x101);
            out[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        out
    }
}

impl L4 {
    fn proto(self) -> u8 {
        match self {
            L4::Tcp(..) => 6,
            L4::Udp(..) => 17,
            L4::Icmp(..) => 1,
            L4::Icmp6(..) | L4::Nd(..) => 58,
            L4::Sctp(..) => 132,
            L4::Other(proto) => proto,
        }
    }
}

/// The outer headers of a tunnel packet to our VTEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outer {
    pub kind: Type,
    /// Geneve options: 0 for none, else one with a value of so many words less one, critical if it is odd.
    pub options: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub tos: u8,
    pub dst_port: u16,
    pub vni: u32,
    pub csum: bool,
    /// Group policy: ID and flags.
    pub policy: Option<(u16, u8)>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a tunnel packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    None,
    IpChecksum,
    UdpChecksum,
    /// The tunnel header: a VXLAN header without the I flag, a Geneve header of version 1, a GRE header with routing.
    NoVni,
    UdpLength,
    /// Not wrong: bytes behind the IP packet.
    Padding,
}

/// The tunnel header of a packet.
fn tunnel_header(outer: Outer, inner: &[u8]) -> Vec<u8> {
    let bad = outer.fault == Fault::NoVni;
    let vni = outer.vni << 8;
    match outer.kind {
        Type::Vxlan | Type::Gbp => {
            let flags = if bad { 0 } else { 8 } | if outer.policy.is_some() { 0x80 } else { 0 };
            let mut header = vec![flags, outer.policy.map_or(0, |(_, flags)| flags)];
            header.extend(outer.policy.map_or(0, |(id, _)| id).to_be_bytes());
            header.extend(vni.to_be_bytes());
            header
        }
        Type::Geneve => {
            let mut options = Vec::new();
            if outer.options > 0 {
                let words = outer.options - 1;
                let critical = if words % 2 == 1 { 0x80 } else { 0 };
                options.extend([1, 2, critical | 5, words]);
                options.extend(vec![0x77; usize::from(words) * 4]);
            }
            let mut header = vec![if bad { 0x40 } else { 0 } | (options.len() / 4) as u8, 0, 0x65, 0x58];
            header.extend(vni.to_be_bytes());
            header.extend(options);
            header
        }
        Type::Gre => {
            let has_sum = outer.csum || outer.fault == Fault::UdpChecksum;
            let mut header =
                vec![0x20 | if has_sum { 0x80 } else { 0 } | if bad { 0x40 } else { 0 }, 0, 0x65, 0x58];
            header.extend(if has_sum { &[0; 4][..] } else { &[] });
            header.extend(outer.vni.to_be_bytes());
            if has_sum {
                let mut checksum = !sum(&[&header[..], inner].concat());
                if outer.fault == Fault::UdpChecksum {
                    checksum ^= 0x101;
                }
                header[4..6].copy_from_slice(&checksum.to_be_bytes());
            }
            header
        }
    }
}

/// Puts the outer headers in front of a frame.
pub fn tunnelled(outer: Outer, dl_dst: [u8; 6], inner: &[u8]) -> Vec<u8> {
    let mut carried = Vec::new();
    let header = tunnel_header(outer, inner);
    let is_udp = outer.kind != Type::Gre;
    if is_udp {
        let len = (8 + header.len() + inner.len()) as u16;
        carried.extend([0xd0, 0x01]);
        carried.extend(outer.dst_port.to_be_bytes());
        carried.extend((len + u16::from(outer.fault == Fault::UdpLength)).to_be_bytes());
        carried.extend([0, 0]);
    }
    carried.extend(header);
    carried.extend(inner);
    let mut out = dl_dst.to_vec();
    out.extend([2, 0, 0, 0, 0x0a, 2, 8, 0]);
    let mut ip = vec![0x45, outer.tos];
    ip.extend((20 + carried.len() as u16).to_be_bytes());
    ip.extend([0, 7, 0x40, 0, 60, if is_udp { 17 } else { 47 }, 0, 0]);
    ip.extend(outer.src.octets());
    ip.extend(outer.dst.octets());
    let mut checksum = !sum(&ip);
    if outer.fault == Fault::IpChecksum {
        checksum ^= 0x100;
    }
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    if is_udp && (outer.csum || outer.fault == Fault::UdpChecksum) {
        let covered = [&ip[12..20], &[0, 17], &carried[4..6], &carried].concat();
        let mut checksum = !sum(&covered);
        if outer.fault == Fault::UdpChecksum || checksum == 0 {
            checksum ^= 0x101;
        }
        carried[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
    out.extend(ip);
    out.extend(carried);
    if outer.fault == Fault::Padding {
        out.extend([0xaa; 6]);
    }
    out
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} to {:?}", MACS[self.src], MACS[self.dst])?;
        for (tpid, tci) in &self.tags {
            write!(f, ", tag {tpid:#06x} {tci:#06x}")?;
        }
        write!(f, ", {:x?}", self.body)?;
        if self.bad_checksum {
            f.write_str(", bad checksum")?;
        }
        if self.cut > 0 {
            write!(f, ", {} bytes cut off", self.cut)?;
        }
        Ok(())
    }
}
