//! The codec both ways: real headers of Linux, random requests there and back, hostile bytes.

use super::*;
use proptest::prelude::*;

/// A frame's layers: outer (IPv6?) and tunnel port, if any; VLAN tags; inner IPv6?; TCP?; bytes of payload.
#[derive(Debug, Clone)]
struct Shape {
    tunnel: Option<(bool, u16)>,
    tags: usize,
    ipv6: bool,
    options: usize,
    tcp: bool,
    cwr: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let port = prop_oneof![Just(4789_u16), Just(8472), Just(6081), 1..=u16::MAX];
    let tunnel = proptest::option::of((any::<bool>(), port));
    (tunnel, 0_usize..3, any::<bool>(), 0_usize..4, any::<bool>(), any::<bool>())
        .prop_map(|(tunnel, tags, ipv6, options, tcp, cwr)| Shape { tunnel, tags, ipv6, options, tcp, cwr })
}

fn ethernet_header(tags: usize, ipv6: bool) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    for _ in 0..tags {
        bytes.extend([0x81, 0, 0, 5]);
    }
    bytes.extend(if ipv6 { [0x86, 0xdd] } else { [8, 0] });
    bytes
}

fn network_header(ipv6: bool, options: usize, protocol: u8) -> Vec<u8> {
    if ipv6 {
        let mut bytes = vec![0; 40];
        (bytes[0], bytes[6]) = (0x60, if options == 0 { protocol } else { 60 });
        if options > 0 {
            let mut extension = vec![0; options * 8];
            (extension[0], extension[1]) = (protocol, options as u8 - 1);
            bytes.extend(extension);
        }
        bytes
    } else {
        let mut bytes = vec![0; 20 + options * 4];
        (bytes[0], bytes[9]) = (0x40 | (5 + options as u8), protocol);
        bytes
    }
}

impl Shape {
    /// The frame, the flags without requests, and the lengths.
    fn build(&self) -> (Vec<u8>, u64, TxOffload) {
        let mut lengths = TxOffload::default();
        let (mut frame, mut flags) = (Vec::new(), 0);
        if let Some((ipv6, port)) = self.tunnel {
            frame = ethernet_header(self.tags, ipv6);
            lengths.outer_l2_len = frame.len() as u8;
            let ip = network_header(ipv6, 0, 17);
            lengths.outer_l3_len = ip.len() as u16;
            frame.extend(ip);
            let mut transport = vec![0; 16];
            transport[2..4].copy_from_slice(&port.to_be_bytes());
            frame.extend(transport);
            let inner = ethernet_header(0, self.ipv6);
            lengths.l2_len = (16 + inner.len()) as u8;
            frame.extend(inner);
            flags |= if ipv6 { TX_OUTER_IPV6 } else { TX_OUTER_IPV4 };
            flags |= match port {
                4789 | 8472 => TX_TUNNEL_VXLAN,
                6081 => TX_TUNNEL_GENEVE,
                _ => TX_TUNNEL_UDP,
            };
        } else {
            frame.extend(ethernet_header(self.tags, self.ipv6));
            lengths.l2_len = frame.len() as u8;
        }
        let ip = network_header(self.ipv6, self.options, if self.tcp { 6 } else { 17 });
        lengths.l3_len = ip.len() as u16;
        frame.extend(ip);
        flags |= if self.ipv6 { TX_IPV6 } else { TX_IPV4 };
        let mut transport = vec![0; if self.tcp { 20 } else { 8 }];
        if self.tcp {
            (transport[12], transport[13]) = (5 << 4, u8::from(self.cwr) << 7);
        }
        lengths.l4_len = transport.len() as u8;
        frame.extend(transport);
        frame.extend([7; 100]);
        flags |= if self.tcp { TX_TCP_CKSUM } else { TX_UDP_CKSUM };
        (frame, flags, lengths)
    }
}

proptest! {
    /// What is asked of the kernel is what would be understood of it.
    #[test]
    fn there_and_back(shape in shape(), size in 1_u16.., segment: bool, outer_csum: bool) {
        let (frame, mut flags, mut lengths) = shape.build();
        if segment {
            flags |= if shape.tcp { TX_TCP_SEG } else { TX_UDP_SEG };
            lengths.segment_size = size;
            if outer_csum && shape.tunnel.is_some() {
                flags |= TX_OUTER_UDP_CKSUM;
            }
        }
        let header = Header::to_send(flags, lengths, &frame).unwrap();
        prop_assert_eq!(Header::from_bytes(&header.to_bytes()), header);
        prop_assert_eq!(usize::from(header.csum_start), lengths.transport_start());
        prop_assert_eq!(header.gso_type & GSO_ECN != 0, segment && shape.tcp && shape.cwr);
        let back = header.received(&frame);
        if segment || shape.tunnel.is_none() {
            prop_assert_eq!(back, Ok(Received::Packet(flags, lengths)));
        } else {
            // A checksum alone does not say that there is a tunnel.
            let start = lengths.transport_start();
            let field = start + if shape.tcp { 16 } else { 6 };
            prop_assert_eq!(back, Ok(Received::Complete(start, field)));
        }
    }

    /// A segment of TCP in a tunnel is known where the header does not say so.
    #[test]
    fn a_tunnel_that_the_header_does_not_mark(shape in shape(), ipv6: bool, size in 1_u16.., outer_csum: bool) {
        let tunnel = Some(shape.tunnel.unwrap_or((ipv6, 4789)));
        let (mut frame, mut flags, mut lengths) = Shape { tunnel, tcp: true, options: 0, ..shape }.build();
        flags |= TX_TCP_SEG;
        lengths.segment_size = size;
        let header = Header::to_send(flags, lengths, &frame).unwrap();
        if outer_csum {
            // The header says nothing of it, but the field is not zero.
            let outer = usize::from(lengths.outer_l2_len) + usize::from(lengths.outer_l3_len);
            frame[outer + 6] = 1;
            flags |= TX_OUTER_UDP_CKSUM;
        }
        let gso_type = header.gso_type & !(GSO_TUNNEL_IPV4 | GSO_TUNNEL_IPV6);
        let unmarked = Header { gso_type, outer_transport: 0, inner_network: 0, ..header };
        prop_assert_eq!(unmarked.received(&frame), Ok(Received::Packet(flags, lengths)));
    }

    /// Whatever the bytes, nothing panics, and what is accepted lies within the frame and can be sent on.
    #[test]
    fn hostile(bytes: [u8; LEN], mut frame in proptest::collection::vec(any::<u8>(), 0..200), fix: bool, shape in shape()) {
        let mut header = Header::from_bytes(&bytes);
        if fix {
            // Near to something right: more of it is accepted.
            frame = shape.build().0;
            header.flags |= NEEDS_CSUM;
            header.gso_type &= 0xe5;
            header.csum_start %= 128;
            header.csum_offset = if header.csum_offset & 1 == 0 { 16 } else { 6 };
        }
        match header.received(&frame) {
            Ok(Received::Packet(flags, lengths)) if flags & TX_REQUESTS != 0 => {
                prop_assert!(lengths.transport_start() + 8 <= frame.len());
                prop_assert_eq!(TxOffload::unpack(lengths.pack()), lengths);
                prop_assert!(Header::to_send(flags, lengths, &frame).is_ok());
            }
            Ok(Received::Packet(..)) | Err(Bad) => {}
            Ok(Received::Complete(start, field)) => prop_assert!(start <= field && field + 2 <= frame.len()),
        }
    }

    /// Whatever an mbuf says, a header that is made lies within the frame.
    #[test]
    fn hostile_requests(flags: u64, word: u64, frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(header) = Header::to_send(flags, TxOffload::unpack(word), &frame)
            && header.flags & NEEDS_CSUM != 0
        {
            prop_assert!(usize::from(header.csum_start + header.csum_offset) + 2 <= frame.len());
        }
    }
}

#[test]
fn what_linux_sends() {
    // TCP over IPv4 inside VXLAN over IPv4, with tunnel GSO: offsets of a frame without tags.
    let shape =
        Shape { tunnel: Some((false, 4789)), tags: 0, ipv6: false, options: 0, tcp: true, cwr: false };
    let (frame, flags, lengths) = shape.build();
    let bytes = [1, 0x21, 104, 0, 0x3c, 5, 84, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 64, 0];
    let lengths = TxOffload { segment_size: 1340, ..lengths };
    let expected = (flags | TX_TCP_SEG, lengths);
    assert_eq!(Header::from_bytes(&bytes).received(&frame), Ok(Received::Packet(expected.0, expected.1)));
    assert_eq!(Header::to_send(expected.0, expected.1, &frame).unwrap().to_bytes(), bytes);
    // Verified, nothing wanted.
    let mut bytes = [0; LEN];
    bytes[0] = DATA_VALID;
    let good = Received::Packet(RX_L4_CKSUM_GOOD, TxOffload::default());
    assert_eq!(Header::from_bytes(&bytes).received(&frame), Ok(good));
}

#[test]
fn what_a_tap_cannot_do() {
    let shape = Shape { tunnel: None, tags: 0, ipv6: false, options: 0, tcp: true, cwr: false };
    let (frame, flags, lengths) = shape.build();
    for more in [TX_IP_CKSUM, TX_OUTER_IP_CKSUM, TX_OUTER_UDP_CKSUM, TX_UDP_SEG] {
        assert_eq!(Header::to_send(flags | more, lengths, &frame), Err(Unsupported), "{more:#x}");
    }
    let gre = flags | TX_TCP_SEG | TX_TUNNEL_GRE | TX_OUTER_IPV4;
    assert_eq!(Header::to_send(gre, lengths, &frame), Err(Unsupported));
}
