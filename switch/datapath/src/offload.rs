//! The offloads that packets request of the device that sends them, through what the switch does to them.
//!
//! A packet carries its requests in its mbuf from rx to tx ([`rte::offload`] says how they look): the kernel's partial
//! checksums and large segments, mostly. Whatever moves its headers moves the requests along; at tx, what the port cannot
//! do is done in software, here and in [`crate::gso`].

use crate::batch::OuterLen;
use rte::Mbuf;
use rte::offload::{
    TX_IPV4, TX_IPV6, TX_L4_MASK, TX_OUTER_IPV4, TX_OUTER_IPV6, TX_OUTER_UDP_CKSUM, TX_REQUESTS,
    TX_TCP_CKSUM, TX_TCP_SEG, TX_TUNNEL_GRE, TX_TUNNEL_MASK, TX_TUNNEL_UDP, TX_UDP_CKSUM, TX_UDP_SEG,
    TxOffload, capability,
};
use wire::proto::{ETHERNET_LEN, IP_UDP};
use wire::tunnel::encap::EncapTemplate;

/// Requests that concern a frame whatever it is in.
const OF_FRAME: u64 = TX_TCP_SEG | TX_UDP_SEG | TX_L4_MASK | TX_IPV4 | TX_IPV6;
/// Longest Ethernet header with tags, and longest outer transport, tunnel and inner Ethernet headers together, that a
/// request can tell.
const MAX_L2_LEN: usize = 0x7f;
/// Offset of the checksum in a TCP header, and in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Whether the packet requests any offload.
#[inline(always)]
pub fn is_requested(mbuf: &Mbuf) -> bool {
    mbuf.ol_flags() & TX_REQUESTS != 0
}

/// Whether the checksum of the outermost transport header is to be completed.
#[inline]
pub fn is_partial(mbuf: &Mbuf) -> bool {
    let flags = mbuf.ol_flags();
    flags & TX_OUTER_UDP_CKSUM != 0 || (flags & TX_L4_MASK != 0 && flags & TX_TUNNEL_MASK == 0)
}

/// Tells a packet's requests that its outermost Ethernet header has become longer by so many bytes.
#[inline]
pub fn shift(mbuf: &mut Mbuf, by: i16) {
    if is_requested(mbuf) {
        let (flags, mut lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
        let l2_len =
            if flags & TX_TUNNEL_MASK == 0 { &mut lengths.l2_len } else { &mut lengths.outer_l2_len };
        *l2_len = u16::from(*l2_len).saturating_add_signed(by) as u8;
        mbuf.set_offload(flags, lengths);
    }
}

/// Whether a packet's requests can tell of so many bytes more in front of its Ethernet header.
#[inline]
pub(crate) fn can_shift(mbuf: &Mbuf, by: usize) -> bool {
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    flags & TX_TUNNEL_MASK == 0 && usize::from(lengths.l2_len) + by <= MAX_L2_LEN
}

/// Whether `strip` bytes can be taken from the front of a tunnel packet so that its requests still hold.
#[inline]
pub(crate) fn can_decap(mbuf: &Mbuf, strip: u16) -> bool {
    let flags = mbuf.ol_flags();
    if flags & TX_REQUESTS == 0 {
        return true;
    }
    if flags & TX_TUNNEL_MASK == 0 {
        // Datagrams of a tunnel, not yet divided, are not one frame.
        return flags & (TX_TCP_SEG | TX_UDP_SEG) == 0;
    }
    let lengths = mbuf.tx_offload();
    (usize::from(strip) + ETHERNET_LEN..=usize::from(strip) + MAX_L2_LEN).contains(&network_start(lengths))
}

/// From the packet's start to its (inner) network header.
fn network_start(lengths: TxOffload) -> usize {
    lengths.transport_start() - usize::from(lengths.l3_len)
}

/// Tells a packet's requests that `strip` bytes of outer headers, for which [`can_decap`], are gone.
#[inline]
pub(crate) fn decap(mbuf: &mut Mbuf, strip: u16) {
    let flags = mbuf.ol_flags();
    if strip == 0 || flags & TX_REQUESTS == 0 {
        return;
    }
    if flags & TX_TUNNEL_MASK == 0 {
        // They were for the outer header.
        return mbuf.set_offload(0, TxOffload::default());
    }
    let lengths = mbuf.tx_offload();
    let l2_len = network_start(lengths).saturating_sub(strip.into()) as u8;
    mbuf.set_offload(flags & OF_FRAME, TxOffload { l2_len, outer_l2_len: 0, outer_l3_len: 0, ..lengths });
}

/// [`decap`] for packets and what has been taken from each.
#[cold]
#[inline(never)]
pub(crate) fn decap_all(mbufs: &mut [Mbuf], outers: &[OuterLen]) {
    for (mbuf, outer) in mbufs.iter_mut().zip(outers) {
        decap(mbuf, outer.strip);
    }
}

/// The offloads that a packet requests, behind the headers of a template; `None` when they cannot be said there, and have to
/// be done before.
pub(crate) fn behind(mbuf: &Mbuf, template: &EncapTemplate) -> Option<(u64, TxOffload)> {
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    let is_large = flags & (TX_TCP_SEG | TX_UDP_SEG) != 0;
    // Another tunnel in between; segments that need a number each; an outer checksum over an inner one.
    if flags & TX_TUNNEL_MASK != 0
        || (is_large && template.has_sequence())
        || (!is_large && template.wants_checksum())
    {
        return None;
    }
    let l2_len = template.header_len() - template.l4() + usize::from(lengths.l2_len);
    if l2_len > MAX_L2_LEN {
        return None;
    }
    let is_udp = template.protocol() == IP_UDP;
    let tunnel = if is_udp { TX_TUNNEL_UDP } else { TX_TUNNEL_GRE };
    let family = if template.is_ipv6() { TX_OUTER_IPV6 } else { TX_OUTER_IPV4 };
    let checksum = if is_udp && template.wants_checksum() { TX_OUTER_UDP_CKSUM } else { 0 };
    let lengths = TxOffload {
        l2_len: l2_len as u8,
        outer_l2_len: template.l3() as u8,
        outer_l3_len: (template.l4() - template.l3()) as u16,
        ..lengths
    };
    Some((flags & OF_FRAME | tunnel | family | checksum, lengths))
}

/// What a device must be able to do ([`capability`]) for the packet to leave as it is.
pub(crate) fn needs(flags: u64) -> u64 {
    let checksum = match flags & TX_L4_MASK {
        0 => 0,
        TX_TCP_CKSUM => capability::TCP_CKSUM,
        TX_UDP_CKSUM => capability::UDP_CKSUM,
        // Nobody does those.
        _ => u64::MAX,
    };
    let tunnel = match flags & TX_TUNNEL_MASK {
        0 => 0,
        TX_TUNNEL_GRE => capability::GRE_TNL_TSO,
        _ => capability::UDP_TNL_TSO,
    };
    let outer = if flags & TX_OUTER_UDP_CKSUM != 0 { capability::OUTER_UDP_CKSUM } else { 0 };
    let segments = match flags & (TX_TCP_SEG | TX_UDP_SEG) {
        0 => 0,
        TX_TCP_SEG => capability::TCP_TSO,
        TX_UDP_SEG => capability::UDP_TSO,
        _ => u64::MAX,
    };
    checksum | tunnel | outer | segments
}

/// Does in software what a packet requests that is not to be divided. False, and the packet is of no use, when its headers are
/// not where it says.
pub(crate) fn complete(mbuf: &mut Mbuf) -> bool {
    let (flags, lengths) = (mbuf.ol_flags(), mbuf.tx_offload());
    let start = lengths.transport_start();
    let field = match flags & TX_REQUESTS {
        TX_TCP_CKSUM => start + TCP_CHECKSUM,
        TX_UDP_CKSUM => start + UDP_CHECKSUM,
        _ => return false,
    };
    mbuf.set_offload(0, TxOffload::default());
    mbuf.complete_checksum(start, field)
}
