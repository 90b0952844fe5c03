//! What the tests share: valid frames of every kind, a mutator, a reference parser.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod naive;

use wire::checksum::{self, Sum};

/// Xorshift64*: small, seeded, the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n.max(1)
    }
}

/// Header bytes that steer parsers, more telling than random ones.
const TELLING: [u8; 24] = [
    0, 1, 2, 3, 4, 6, 8, 17, 0x20, 0x40, 43, 44, 45, 0x45, 0x46, 51, 58, 60, 0x60, 0x81, 0x86, 132, 135, 0xff,
];

/// Changes up to six bytes, then sometimes cuts the end off or adds to it.
pub fn mutate(frame: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(7) {
        if frame.is_empty() {
            break;
        }
        // Headers are where it matters.
        let reach = if rng.below(4) == 0 { frame.len() } else { frame.len().min(64) };
        let at = rng.below(reach);
        frame[at] = match rng.below(3) {
            0 => rng.next() as u8,
            1 => TELLING[rng.below(TELLING.len())],
            _ => frame[at] ^ 1 << rng.below(8),
        };
    }
    match rng.below(6) {
        0 => frame.truncate(rng.below(frame.len() + 1)),
        1 => frame.extend((0..rng.below(30)).map(|n| n as u8)),
        _ => {}
    }
}

pub fn ethernet(tags: &[(u16, u16)], dl_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0x0a, 0x01, 2, 0, 0, 0, 0x0b, 0x02];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(dl_type.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ipv4(proto: u8, flags_offset: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0xb9];
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(flags_offset.to_be_bytes());
    packet.extend([63, proto, 0, 0, 10, 1, 2, 3, 192, 168, 4, 5]);
    packet.extend(options);
    let sum = checksum::ipv4_header(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x9a, 0xbc, 0xde];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 61]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11]);
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x22]);
    packet.extend(payload);
    packet
}

pub fn tcp() -> Vec<u8> {
    vec![0x13, 0x88, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x51, 0x12, 0xff, 0xff, 0, 0, 0, 0, b'h', b'i']
}

pub fn udp(payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x30, 0x39, 0x00, 0x35];
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

pub fn arp(op: u16) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(op.to_be_bytes());
    packet.extend([2, 0, 0, 0, 0, 0x11, 10, 0, 0, 1, 2, 0, 0, 0, 0, 0x22, 10, 0, 0, 2]);
    packet
}

pub fn nd(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x33]);
    for option in options {
        message.extend(*option);
    }
    message
}

pub const SLL: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0x44];
pub const TLL: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 0x55];

/// A VXLAN packet over IPv4 or IPv6 with the given tags, IPv4 options and UDP checksum.
pub fn vxlan(v6: bool, tags: &[(u16, u16)], options: &[u8], csum: bool, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0x12, 0x34, 0];
    payload.extend(inner);
    let mut datagram = udp(&payload);
    datagram[2..4].copy_from_slice(&4789u16.to_be_bytes());
    let carried = |datagram: &[u8]| {
        if v6 { (0x86dd, ipv6(17, datagram)) } else { (0x0800, ipv4(17, 0x4000, options, datagram)) }
    };
    if csum {
        let (_, packet) = carried(&datagram);
        let len = datagram.len();
        let addrs = if v6 { &packet[8..40] } else { &packet[12..20] };
        let pseudo = Sum::of(addrs) + Sum::of_u16(17) + Sum::of_u16(len as u16);
        let sum = checksum::udp(pseudo, &datagram);
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let (dl_type, packet) = carried(&datagram);
    ethernet(tags, dl_type, &packet)
}

/// Valid frames, at least one of each kind that a parser tells apart, with a name.
pub fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let q = (0x8100, 0x6064);
    let s = (0x88a8, 0x00c8);
    let mut padded = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp()));
    padded.extend([0xee; 9]);
    let extensions: Vec<u8> = [
        &[43, 0, 1, 4, 0, 0, 0, 0][..], // hop by hop
        &[60, 1, 0, 0, 0, 0, 0, 0][..],
        &[0; 8],                                // routing
        &[51, 0, 1, 4, 0, 0, 0, 0],             // destination options
        &[44, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2], // AH
        &[6, 0, 0, 1, 0, 0, 0, 9],              // first fragment
    ]
    .concat();
    let ext_tcp = [extensions, tcp()].concat();
    let later = [&[17, 0, 0x05, 0xa8, 0, 0, 0, 9][..], &[7; 30]].concat();
    let atomic = [&[17, 0, 0, 0, 0, 0, 0, 9][..], &udp(b"atomic")].concat();
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ipv4(17, 0, &[], &udp(b"snap"))].concat();
    let inner = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp()));
    vec![
        ("tcp4", ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp()))),
        ("tcp4 padded", padded),
        ("udp4", ethernet(&[], 0x0800, &ipv4(17, 0, &[], &udp(b"some payload to be long enough")))),
        ("udp4 short", ethernet(&[], 0x0800, &ipv4(17, 0, &[], &udp(b"")))),
        ("udp4 options", ethernet(&[], 0x0800, &ipv4(17, 0, &[1, 1, 1, 1, 7, 4, 4, 0], &udp(b"options")))),
        ("icmp4", ethernet(&[], 0x0800, &ipv4(1, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 2, 3, 4]))),
        ("igmp", ethernet(&[], 0x0800, &ipv4(2, 0, &[], &[0x16, 1, 0, 0, 224, 0, 0, 5]))),
        ("sctp4", ethernet(&[q], 0x0800, &ipv4(132, 0, &[], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]))),
        ("gre4", ethernet(&[], 0x0800, &ipv4(47, 0, &[], &[0, 0, 8, 0]))),
        (
            "first fragment",
            ethernet(&[], 0x0800, &ipv4(17, 0x2000, &[], &udp(b"first of several fragments"))),
        ),
        ("later fragment", ethernet(&[], 0x0800, &ipv4(17, 0x00b9, &[], &[7; 40]))),
        ("vlan tcp4", ethernet(&[q], 0x0800, &ipv4(6, 0x4000, &[], &tcp()))),
        ("qinq udp4", ethernet(&[s, q], 0x0800, &ipv4(17, 0, &[], &udp(b"two tags")))),
        ("three tags", ethernet(&[s, q, q], 0x0800, &ipv4(17, 0, &[], &udp(b"three tags")))),
        ("tcp6", ethernet(&[], 0x86dd, &ipv6(6, &tcp()))),
        ("udp6 vlan", ethernet(&[q], 0x86dd, &ipv6(17, &udp(b"six")))),
        ("extensions", ethernet(&[], 0x86dd, &ipv6(0, &ext_tcp))),
        ("later fragment 6", ethernet(&[], 0x86dd, &ipv6(44, &later))),
        ("atomic fragment 6", ethernet(&[], 0x86dd, &ipv6(44, &atomic))),
        ("no next header", ethernet(&[], 0x86dd, &ipv6(59, &[]))),
        ("icmp6 echo", ethernet(&[], 0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 2]))),
        ("ns", ethernet(&[], 0x86dd, &ipv6(58, &nd(135, &[&SLL])))),
        ("na", ethernet(&[q], 0x86dd, &ipv6(58, &nd(136, &[&[14, 2, 0, 0, 0, 0, 0, 0], &[0; 8], &TLL])))),
        ("nd twice", ethernet(&[], 0x86dd, &ipv6(58, &nd(135, &[&TLL, &SLL, &SLL])))),
        ("arp request", ethernet(&[], 0x0806, &arp(1))),
        ("arp reply", ethernet(&[q], 0x0806, &arp(2))),
        ("arp odd opcode", ethernet(&[], 0x0806, &arp(0x101))),
        ("rarp", ethernet(&[], 0x8035, &arp(3))),
        ("llc", ethernet(&[], 0x0026, &[0x42, 0x42, 3, 0, 0, 0, 0, 0, 0, 0])),
        ("snap", ethernet(&[], 0x0040, &snap)),
        ("lldp", ethernet(&[], 0x88cc, &[2, 7, 4, 1, 2, 3])),
        ("vxlan4", vxlan(false, &[], &[], false, &inner)),
        ("vxlan4 vlan csum", vxlan(false, &[q], &[], true, &inner)),
        ("vxlan4 options", vxlan(false, &[], &[1, 1, 1, 0], false, &inner)),
        ("vxlan6", vxlan(true, &[], &[], true, &inner)),
        ("vxlan6 vlan", vxlan(true, &[q], &[], true, &inner)),
    ]
}
