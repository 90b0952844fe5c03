//! The frames that every system gets: UDP in IPv4 in Ethernet, and the same behind a VXLAN header.

use std::net::Ipv4Addr;

/// The VTEP under test: what its underlay bridge has.
pub const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0x0a, 1];
/// Its address.
pub const LOCAL_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
/// UDP port of VXLAN (RFC 7348).
pub const VXLAN_PORT: u16 = 4789;
/// Remote VTEPs at most: they share the local one's /24.
pub const MAX_VTEPS: usize = 250;
/// Length of the shortest frame as a device delivers it: 64 on the wire less the FCS.
pub const SHORTEST: usize = 60;

/// Address of remote VTEP `n`.
pub fn vtep_ip(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, 2 + n as u8)
}

/// Its MAC address.
pub fn vtep_mac(n: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0x0b, 2 + n as u8]
}

/// The VNI that goes with it.
pub fn vtep_vni(n: usize) -> u32 {
    100 + n as u32
}

/// The MAC address of a host: `side` 1 is at the port, 2 behind the tunnel.
pub fn host_mac(side: u8, n: usize) -> [u8; 6] {
    let n = (n as u32).to_be_bytes();
    [2, side, n[0], n[1], n[2], n[3]]
}

/// An inner frame's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Ethernet source.
    pub dl_src: [u8; 6],
    /// Ethernet destination.
    pub dl_dst: [u8; 6],
    /// IPv4 source.
    pub nw_src: u32,
    /// IPv4 destination.
    pub nw_dst: u32,
    /// UDP source port.
    pub tp_src: u16,
    /// UDP destination port.
    pub tp_dst: u16,
}

impl Flow {
    /// Flow `n` between one pair of hosts' MAC addresses: addresses and ports differ.
    pub fn numbered(n: usize) -> Flow {
        Flow {
            dl_src: host_mac(1, 0),
            dl_dst: host_mac(2, 0),
            nw_src: 0x0a00_0000 + n as u32,
            nw_dst: 0x0b00_0000 + (n % 251) as u32,
            tp_src: 1024 + (n % 60_000) as u16,
            tp_dst: 80,
        }
    }

    /// The answer's addresses.
    #[must_use]
    pub fn reversed(self) -> Flow {
        Flow {
            dl_src: self.dl_dst,
            dl_dst: self.dl_src,
            nw_src: self.nw_dst,
            nw_dst: self.nw_src,
            tp_src: self.tp_dst,
            tp_dst: self.tp_src,
        }
    }
}

/// A frame of `len` bytes (at least [`SHORTEST`]), without FCS. UDP checksum 0: none.
pub fn frame(flow: &Flow, len: usize) -> Vec<u8> {
    let len = len.max(SHORTEST);
    let mut out = Vec::with_capacity(len);
    out.extend(flow.dl_dst);
    out.extend(flow.dl_src);
    out.extend([0x08, 0x00]);
    ipv4_udp(&mut out, flow.nw_src, flow.nw_dst, (flow.tp_src, flow.tp_dst), len - 42);
    out.resize(len, 0);
    out
}

/// A VXLAN frame from remote VTEP `vtep` to the VTEP under test.
pub fn vxlan_frame(inner: &[u8], vtep: usize, src_port: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len() + 50);
    out.extend(LOCAL_MAC);
    out.extend(vtep_mac(vtep));
    out.extend([0x08, 0x00]);
    let (src, dst) = (u32::from(vtep_ip(vtep)), u32::from(LOCAL_IP));
    ipv4_udp(&mut out, src, dst, (src_port, VXLAN_PORT), inner.len() + 8);
    out.extend([0x08, 0, 0, 0]);
    out.extend((vtep_vni(vtep) << 8).to_be_bytes());
    out.extend(inner);
    out
}

/// The same in Geneve, or in GRE with a key.
pub fn tunnel_frame(kind: &str, inner: &[u8], vtep: usize, src_port: u16) -> Vec<u8> {
    let mut out = vxlan_frame(inner, vtep, src_port);
    match kind {
        "geneve" => {
            out[36..38].copy_from_slice(&6081u16.to_be_bytes());
            out[42..46].copy_from_slice(&[0, 0, 0x65, 0x58]);
        }
        "gre" => {
            // A GRE header with a key instead of the UDP and VXLAN headers.
            out.drain(34..42);
            out[34..38].copy_from_slice(&[0x20, 0, 0x65, 0x58]);
            out[38..42].copy_from_slice(&vtep_vni(vtep).to_be_bytes());
            let total = (out.len() - 14) as u16;
            out[16..18].copy_from_slice(&total.to_be_bytes());
            out[23] = 47;
            out[24..26].fill(0);
            let sum = checksum(&out[14..34]);
            out[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {}
    }
    out
}

/// Outer source port of flow `n`: spread as RFC 7348 wants it.
pub fn entropy_port(n: usize) -> u16 {
    49_152 + ((n as u32).wrapping_mul(0x9e37_79b1) >> 18) as u16
}

fn ipv4_udp(out: &mut Vec<u8>, src: u32, dst: u32, ports: (u16, u16), payload: usize) {
    let mut ip = [0u8; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((28 + payload) as u16).to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&src.to_be_bytes());
    ip[16..20].copy_from_slice(&dst.to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(ip);
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(((8 + payload) as u16).to_be_bytes());
    out.extend([0, 0]);
}

/// The Internet checksum (RFC 1071) of a header of even length.
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_asked_for_and_a_good_checksum() {
        for len in [60, 566, 1400] {
            let frame = frame(&Flow::numbered(7), len);
            assert_eq!(frame.len(), len);
            assert_eq!(checksum(&frame[14..34]), 0, "the sum over a good header is 0");
            assert_eq!(u16::from_be_bytes([frame[16], frame[17]]) as usize, len - 14);
            assert_eq!(u16::from_be_bytes([frame[38], frame[39]]) as usize, len - 34);
        }
    }

    #[test]
    fn vxlan_frames_carry_the_inner_one() {
        let inner = frame(&Flow::numbered(0), 60);
        let outer = vxlan_frame(&inner, 3, 50_000);
        assert_eq!(outer[50..], inner);
        assert_eq!(outer[..6], LOCAL_MAC);
        assert_eq!(checksum(&outer[14..34]), 0);
        assert_eq!(outer[26..30], vtep_ip(3).octets());
        assert_eq!(outer[36..38], [0x12, 0xb5], "port 4789");
        assert_eq!(outer[42..50], [8, 0, 0, 0, 0, 0, 103, 0]);
    }

    #[test]
    fn a_million_flows_are_a_million() {
        let flows: std::collections::BTreeSet<_> =
            (0..1_000_000).map(|n| (Flow::numbered(n).nw_src, Flow::numbered(n).tp_src)).collect();
        assert_eq!(flows.len(), 1_000_000);
        assert!((0..1000).all(|n| entropy_port(n) >= 49_152));
    }
}
