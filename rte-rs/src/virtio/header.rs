//! The virtio header before each frame of a tap or a guest, and what it means for an mbuf, both ways.
//!
//! Layout (virtio 1.2, section 5.1.6, and Linux' `virtio_net_hdr_v1_hash_tunnel`), little-endian: flags and `gso_type`
//! (1 byte each), `hdr_len`, `gso_size`, `csum_start`, `csum_offset`, `num_buffers` (2 each), hash (4), hash report and
//! padding (2 each), outer transport offset, inner network offset (2 each). Where the kernel knows no tunnels the first
//! ten bytes are the header. Offsets count from the frame's start.

use crate::mbuf::Mbuf;
use crate::offload::{
    RX_L4_CKSUM_GOOD, TX_IP_CKSUM, TX_IPV4, TX_IPV6, TX_L4_MASK, TX_OUTER_IP_CKSUM, TX_OUTER_IPV4,
    TX_OUTER_IPV6, TX_OUTER_UDP_CKSUM, TX_REQUESTS, TX_TCP_CKSUM, TX_TCP_SEG, TX_TUNNEL_GENEVE,
    TX_TUNNEL_GRE, TX_TUNNEL_MASK, TX_TUNNEL_UDP, TX_TUNNEL_VXLAN, TX_UDP_CKSUM, TX_UDP_SEG, TxOffload,
};

/// Bytes of the header with tunnel fields.
pub const LEN: usize = 24;
/// Bytes of the header without.
pub const SHORT_LEN: usize = 10;

/// `flags`: a checksum is to be completed from `csum_start` on.
const NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum was verified.
const DATA_VALID: u8 = 2;
/// `flags`: each segment's outer UDP header is to have a checksum.
const UDP_TUNNEL_CSUM: u8 = 8;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_TUNNEL_IPV4: u8 = 0x20;
const GSO_TUNNEL_IPV6: u8 = 0x40;
/// The first segment has TCP's CWR flag, the others not.
const GSO_ECN: u8 = 0x80;

/// Offset of the checksum in a TCP header, and in a UDP header.
const TCP_CSUM: u16 = 16;
const UDP_CSUM: u16 = 6;
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
const GENEVE_PORT: u16 = 6081;

/// The header's fields that mean something here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    outer_transport: u16,
    inner_network: u16,
}

/// What a received frame's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Flags of the mbuf, and its lengths where it has requests.
    Packet(u64, TxOffload),
    /// A checksum is missing in a place that [`TxOffload`] cannot tell without guessing (a packet in a tunnel that this
    /// end does not know of): to be completed now, from the first offset to the end, and stored at the second.
    Complete(usize, usize),
}

/// The header contradicts itself or the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bad;

/// The header cannot say what the packet asks for: the device's capabilities exclude it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported;

/// The segmentation that a header asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segmentation {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP, or any inside a tunnel.
    Other,
}

impl Header {
    /// Reads the header.
    pub fn from_bytes(bytes: &[u8; LEN]) -> Header {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Header {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            outer_transport: word(20),
            inner_network: word(22),
        }
    }

    /// Writes the header.
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [
            (2, self.hdr_len),
            (4, self.gso_size),
            (6, self.csum_start),
            (8, self.csum_offset),
            (20, self.outer_transport),
            (22, self.inner_network),
        ];
        for (at, word) in words {
            bytes[at..at + 2].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Which segmentation it asks for.
    pub fn segmentation(&self) -> Option<Segmentation> {
        match self.gso_type & !GSO_ECN {
            0 => None,
            GSO_TCPV4 => Some(Segmentation::Tcp4),
            GSO_TCPV6 => Some(Segmentation::Tcp6),
            _ => Some(Segmentation::Other),
        }
    }

    /// Bytes of payload in each segment.
    pub fn segment_size(&self) -> u16 {
        self.gso_size
    }

    /// Where the checksum that is to be completed begins, and where it is stored.
    pub fn checksum(&self) -> Option<(usize, usize)> {
        let start = usize::from(self.csum_start);
        (self.flags & NEEDS_CSUM != 0).then(|| (start, start + usize::from(self.csum_offset)))
    }

    /// The same for who does not know that the first of TCP's segments alone has the CWR flag.
    #[must_use]
    pub fn without_ecn(self) -> Header {
        Header { gso_type: self.gso_type & !GSO_ECN, ..self }
    }

    /// What the header of a received frame means. `frame` is the frame's first bytes, with all headers that the
    /// sender's kernel made.
    ///
    /// # Errors
    /// [`Bad`]; such a frame cannot be forwarded, as nobody could complete it.
    pub fn received(&self, frame: &[u8]) -> Result<Received, Bad> {
        let gso = self.gso_type & !GSO_ECN;
        let (tunnel, gso) =
            (gso & (GSO_TUNNEL_IPV4 | GSO_TUNNEL_IPV6), gso & !(GSO_TUNNEL_IPV4 | GSO_TUNNEL_IPV6));
        // A tunnel is said of segments only.
        if tunnel != 0 && gso == 0 {
            return Err(Bad);
        }
        if self.flags & NEEDS_CSUM == 0 {
            let good = if self.flags & DATA_VALID != 0 { RX_L4_CKSUM_GOOD } else { 0 };
            // A segment whose checksum is complete cannot be: each of its packets needs one.
            return if gso == 0 { Ok(Received::Packet(good, TxOffload::default())) } else { Err(Bad) };
        }
        let start = usize::from(self.csum_start);
        let field = start + usize::from(self.csum_offset);
        if field + 2 > frame.len() {
            return Err(Bad);
        }
        let tcp = match self.csum_offset {
            TCP_CSUM => true,
            UDP_CSUM => false,
            _ if gso == 0 => return Ok(Received::Complete(start, field)),
            _ => return Err(Bad),
        };
        let layers = if tunnel == 0 {
            Layers::plain(frame, start, tcp)
        } else {
            Layers::tunnelled(frame, self, tunnel, start)
        };
        // Packet sockets pass on segments inside tunnels, and do not say so.
        let layers = layers.or_else(|| {
            let is_unmarked = gso != 0 && gso != GSO_UDP_L4 && tunnel == 0;
            is_unmarked.then(|| Layers::in_unmarked_tunnel(frame, self, start)).flatten()
        });
        let Some(Layers { mut flags, mut lengths }) = layers else {
            return if gso == 0 { Ok(Received::Complete(start, field)) } else { Err(Bad) };
        };
        flags |= if tcp { TX_TCP_CKSUM } else { TX_UDP_CKSUM };
        lengths.l4_len = if tcp { (frame[start + 12] >> 4) * 4 } else { 8 };
        if gso != 0 {
            let fits = match gso {
                GSO_TCPV4 => tcp && flags & TX_IPV4 != 0,
                GSO_TCPV6 => tcp && flags & TX_IPV6 != 0,
                GSO_UDP_L4 => !tcp,
                _ => false,
            };
            if !fits || self.gso_size == 0 || (tcp && lengths.l4_len < 20) {
                return Err(Bad);
            }
            flags |= if tcp { TX_TCP_SEG } else { TX_UDP_SEG };
            lengths.segment_size = self.gso_size;
            if tunnel != 0 && self.flags & UDP_TUNNEL_CSUM != 0 {
                flags |= TX_OUTER_UDP_CKSUM;
            }
        }
        Ok(Received::Packet(flags, lengths))
    }

    /// Has a received packet ask what its header says; false when that cannot be.
    pub(crate) fn apply(&self, mbuf: &mut Mbuf) -> bool {
        match self.received(mbuf.data()) {
            Ok(Received::Packet(flags, lengths)) => {
                mbuf.set_offload(flags, lengths);
                true
            }
            Ok(Received::Complete(start, field)) => mbuf.complete_checksum(start, field),
            Err(Bad) => false,
        }
    }

    /// The header for a packet to send. `frame` is its first segment's bytes.
    ///
    /// # Errors
    /// [`Unsupported`], also for lengths that lie outside the frame.
    #[inline]
    pub fn to_send(flags: u64, lengths: TxOffload, frame: &[u8]) -> Result<Header, Unsupported> {
        if flags & TX_REQUESTS == 0 {
            return Ok(Header::default());
        }
        Self::to_send_request(flags, lengths, frame)
    }

    fn to_send_request(flags: u64, lengths: TxOffload, frame: &[u8]) -> Result<Header, Unsupported> {
        // The kernel computes no IPv4 header checksums: they are complete, see `offload`.
        if flags & (TX_IP_CKSUM | TX_OUTER_IP_CKSUM) != 0 {
            return Err(Unsupported);
        }
        let tcp = match flags & TX_L4_MASK {
            TX_TCP_CKSUM => true,
            TX_UDP_CKSUM => false,
            _ => return Err(Unsupported),
        };
        let start = lengths.transport_start();
        let csum_offset = if tcp { TCP_CSUM } else { UDP_CSUM };
        if start + usize::from(csum_offset) + 2 > frame.len() {
            return Err(Unsupported);
        }
        let mut header =
            Header { flags: NEEDS_CSUM, csum_start: start as u16, csum_offset, ..Header::default() };
        let segment = flags & (TX_TCP_SEG | TX_UDP_SEG);
        if segment == 0 {
            return if flags & TX_OUTER_UDP_CKSUM == 0 { Ok(header) } else { Err(Unsupported) };
        }
        header.gso_type = match (segment, tcp) {
            (TX_TCP_SEG, true) if flags & TX_IPV4 != 0 => GSO_TCPV4,
            (TX_TCP_SEG, true) if flags & TX_IPV6 != 0 => GSO_TCPV6,
            (TX_UDP_SEG, false) => GSO_UDP_L4,
            _ => return Err(Unsupported),
        };
        if tcp && frame[start + 13] & 0x80 != 0 {
            header.gso_type |= GSO_ECN;
        }
        header.hdr_len = (start + usize::from(lengths.l4_len)) as u16;
        header.gso_size = lengths.segment_size;
        match flags & TX_TUNNEL_MASK {
            0 => {}
            TX_TUNNEL_GRE => return Err(Unsupported),
            _ => {
                header.gso_type |= match flags & (TX_OUTER_IPV4 | TX_OUTER_IPV6) {
                    TX_OUTER_IPV4 => GSO_TUNNEL_IPV4,
                    TX_OUTER_IPV6 => GSO_TUNNEL_IPV6,
                    _ => return Err(Unsupported),
                };
                header.outer_transport = u16::from(lengths.outer_l2_len) + lengths.outer_l3_len;
                header.inner_network = header.outer_transport + u16::from(lengths.l2_len);
                if flags & TX_OUTER_UDP_CKSUM != 0 {
                    header.flags |= UDP_TUNNEL_CSUM;
                }
            }
        }
        Ok(header)
    }
}

/// Where a frame's headers are.
struct Layers {
    flags: u64,
    lengths: TxOffload,
}

/// Length of the Ethernet header with its VLAN tags, and the EtherType after them.
fn ethernet(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = 12;
    loop {
        let ether_type = be16(frame, at)?;
        if !matches!(ether_type, 0x8100 | 0x88a8) || at > 16 {
            return Some((at + 2, ether_type));
        }
        at += 4;
    }
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// TX_IPV4 or TX_IPV6 for the network header at `at` when the transport header can begin at `end`.
fn family(frame: &[u8], at: usize, end: usize) -> Option<u64> {
    let first = *frame.get(at)?;
    match first >> 4 {
        4 if usize::from(first & 15) * 4 == end.checked_sub(at)? && first & 15 >= 5 => Some(TX_IPV4),
        6 if end.checked_sub(at)? >= 40 => Some(TX_IPV6),
        _ => None,
    }
}

impl Layers {
    /// A frame whose only transport header begins at `start`; `None` when there seems to be another one before it.
    fn plain(frame: &[u8], start: usize, tcp: bool) -> Option<Layers> {
        let (l2, ether_type) = ethernet(frame)?;
        let flags = family(frame, l2, start)?;
        let protocol = match ether_type {
            0x0800 if flags == TX_IPV4 => *frame.get(l2 + 9)?,
            0x86dd if flags == TX_IPV6 => upper_protocol(frame, l2, start)?,
            _ => return None,
        };
        let l3_len = u16::try_from(start - l2).ok().filter(|len| *len < 512)?;
        let lengths = TxOffload { l2_len: l2 as u8, l3_len, ..TxOffload::default() };
        (protocol == if tcp { 6 } else { 17 }).then_some(Layers { flags, lengths })
    }

    /// A frame with a tunnel, as the header says.
    fn tunnelled(frame: &[u8], header: &Header, tunnel: u8, start: usize) -> Option<Layers> {
        let (outer_l2, _) = ethernet(frame)?;
        let (outer_transport, inner) =
            (usize::from(header.outer_transport), usize::from(header.inner_network));
        let outer = match (family(frame, outer_l2, outer_transport)?, tunnel) {
            (TX_IPV4, GSO_TUNNEL_IPV4) => TX_OUTER_IPV4,
            (TX_IPV6, GSO_TUNNEL_IPV6) => TX_OUTER_IPV6,
            _ => return None,
        };
        let port = be16(frame, outer_transport + 2)?;
        let kind = match port {
            port if VXLAN_PORTS.contains(&port) => TX_TUNNEL_VXLAN,
            GENEVE_PORT => TX_TUNNEL_GENEVE,
            _ => TX_TUNNEL_UDP,
        };
        let l2_len = inner.checked_sub(outer_transport).filter(|len| (8..128).contains(len))?;
        let flags = family(frame, inner, start)? | outer | kind;
        let length = |from: usize, to: usize| u16::try_from(to - from).ok().filter(|len| *len < 512);
        let lengths = TxOffload {
            outer_l2_len: outer_l2 as u8,
            outer_l3_len: length(outer_l2, outer_transport)?,
            l2_len: l2_len as u8,
            l3_len: length(inner, start)?,
            ..TxOffload::default()
        };
        Some(Layers { flags, lengths })
    }
}

impl Layers {
    /// A frame with a tunnel over UDP of which the header says nothing: the inner IP header, without options, ends at `start`
    /// and stands behind its Ethernet type.
    fn in_unmarked_tunnel(frame: &[u8], header: &Header, start: usize) -> Option<Layers> {
        let (l2, ether_type) = ethernet(frame)?;
        let (outer_transport, protocol, tunnel) = match ether_type {
            0x0800 => {
                let len = usize::from(frame.get(l2)? & 15) * 4;
                (l2 + len, *frame.get(l2 + 9)?, GSO_TUNNEL_IPV4)
            }
            0x86dd => (l2 + 40, *frame.get(l2 + 6)?, GSO_TUNNEL_IPV6),
            _ => return None,
        };
        let inner_network = [(20, TX_IPV4, 0x0800), (40, TX_IPV6, 0x86dd)].into_iter().find_map(
            |(len, version, ether_type)| {
                let at = start.checked_sub(len).filter(|at| *at > outer_transport)?;
                (family(frame, at, start) == Some(version) && be16(frame, at - 2) == Some(ether_type))
                    .then_some(at)
            },
        )?;
        let marked = Header {
            outer_transport: u16::try_from(outer_transport).ok()?,
            inner_network: u16::try_from(inner_network).ok()?,
            ..*header
        };
        let mut layers = Self::tunnelled(frame, &marked, tunnel, start).filter(|_| protocol == 17)?;
        if be16(frame, outer_transport + 6)? != 0 {
            layers.flags |= TX_OUTER_UDP_CKSUM;
        }
        Some(layers)
    }
}

/// Protocol of the header at `end`, after the IPv6 header at `at` and its extension headers; `None` when these do not
/// end there.
fn upper_protocol(frame: &[u8], at: usize, end: usize) -> Option<u8> {
    let (mut next, mut here) = (*frame.get(at + 6)?, at + 40);
    while here < end {
        // Hop-by-hop, routing, destination options; fragments are not offloaded.
        if !matches!(next, 0 | 43 | 60) {
            return None;
        }
        let header = frame.get(here..here + 2)?;
        next = header[0];
        here += 8 + usize::from(header[1]) * 8;
    }
    (here == end).then_some(next)
}

#[cfg(test)]
mod tests;
