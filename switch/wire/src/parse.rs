//! From a frame to its [`FlowKey`].
//!
//! The semantics are those of Open vSwitch's userspace `miniflow_extract` (3.1): what cannot be parsed
//! leaves its fields and all deeper ones zero, and the frame is still a frame, which a bridge forwards by
//! what is known of it. What was wrong is reported as an [`Anomaly`], for a counter.
//! Two differences, both stricter: the IP version field must agree with the EtherType.
//!
//! There is a fast path and a general one. An untagged, unfragmented IPv4 frame without options that carries TCP or
//! UDP is extracted by straight-line code with a handful of wide loads and stores and one branch; everything
//! else goes through [`extract_general`], which can do all and is tested equal.

use crate::addr::MacAddr;
use crate::bytes::{array, be16, le64, part};
use crate::field::{arp, ethernet, icmp, ipv4, ipv6, nd, ports, tcp};
use crate::key::{FRAG_ANY, FRAG_LATER, FlowKey, VLAN_PRESENT};
use crate::proto::{
    ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_NONE, ETH_QINQ, ETH_RARP, ETH_TYPE_MIN, ETH_VLAN, ETHERNET_LEN, IP_AH,
    IP_DSTOPTS, IP_FRAGMENT, IP_HOPOPTS, IP_ICMP, IP_ICMPV6, IP_IGMP, IP_ROUTING, IP_SCTP, IP_TCP, IP_UDP,
    IPV4_LEN, IPV4_MF, IPV4_OFFSET, IPV6_LEN, ND_ADVERT, ND_OPT_SLL, ND_OPT_TLL, ND_SOLICIT, UDP_LEN,
    VLAN_LEN,
};
use crate::reason::reasons;
use zerocopy::byteorder::network_endian::{U16, U32};

reasons! {
    /// What was wrong with a frame. All but [`Anomaly::EthernetTruncated`] leave a frame that can be bridged.
    pub enum Anomaly {
        EthernetTruncated = "ethernet_truncated", "the frame is shorter than an Ethernet header (14 bytes)";
        VlanTruncated = "vlan_truncated", "the frame ends within an 802.1Q tag or before the EtherType after it";
        Ipv4Header = "ipv4_header", "the IPv4 header is cut off, has a version other than 4, or IHL is below 5";
        Ipv4Length = "ipv4_length", "the IPv4 total length is below the header's or beyond the frame";
        Ipv6Header = "ipv6_header", "the IPv6 header is cut off or has a version other than 6";
        Ipv6Length = "ipv6_length", "the IPv6 payload length is beyond the frame";
        Ipv6Extension = "ipv6_extension", "an IPv6 extension header is cut off";
        ArpTruncated = "arp_truncated", "the ARP packet is shorter than 28 bytes";
        L4Truncated = "l4_truncated", "the TCP, UDP, SCTP, ICMP or IGMP header is cut off";
        NdOptions = "nd_options", "a neighbour discovery message is cut off, or its options are malformed";
    }
}

/// The frame is shorter than an Ethernet header: there is nothing to switch it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame is shorter than an Ethernet header (14 bytes)")]
pub struct EthernetTruncated;

impl From<EthernetTruncated> for Anomaly {
    fn from(_: EthernetTruncated) -> Anomaly {
        Anomaly::EthernetTruncated
    }
}

/// Where the headers of a frame begin, and what was wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Offset in bytes of what follows the Ethernet header, its tags and any LLC/SNAP header.
    pub l3: u16,
    /// Offset in bytes of the L4 header; 0 when there is none that can be used: not IP, malformed, a later
    /// fragment, or cut off. An IP protocol that is not looked into has an offset (of its payload).
    pub l4: u16,
    /// What is malformed: everything deeper is zero in the key.
    pub anomaly: Option<Anomaly>,
}

/// Bytes that [`extract`] needs at hand for its fast way: Ethernet, IPv4, TCP.
pub(crate) const FAST_LEN: usize = 54;
pub(crate) const MASK48: u64 = 0x0000_ffff_ffff_ffff;

/// Fills every packet field of `key` from `frame` (from the Ethernet header on, without FCS); those that the
/// frame does not have become zero. `in_port` and all `tun_*` fields are the caller's and are not touched.
///
/// # Errors
/// [`EthernetTruncated`], with all packet fields zero: nothing can be done with the frame.
#[inline(always)]
pub fn extract(frame: &[u8], key: &mut FlowKey) -> Result<Parsed, EthernetTruncated> {
    let Some(common) = Common::read(frame) else { return extract_general(frame, key) };
    key.words_mut()[2..6].copy_from_slice(&common.words);
    clear_cold(key);
    // Words 6 and 7 are shared with the tunnel's fields: narrow stores, no read of what was just written.
    key.tcp_flags = U16::from_bytes(common.tcp_flags.to_le_bytes());
    Ok(COMMON)
}

/// What a key has besides its packet's own fields: `in_port` and all `tun_*`, for a packet out of no tunnel or
/// out of one over IPv4 without group policy. The other `tun_*` fields are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    word0: u64,
    word1: u64,
    word6: u64,
}

impl Origin {
    /// Of packets from a port that is no tunnel.
    #[inline(always)]
    pub const fn port(in_port: u32) -> Origin {
        Origin { word0: zerocopy::transmute!([in_port, 0]), word1: 0, word6: 0 }
    }

    /// Of a packet out of a tunnel; `addresses` is word 1 as it stands in the packet.
    #[inline(always)]
    pub(crate) const fn tunnel(
        (in_port, tun_id): (u32, u32),
        addresses: u64,
        (flags, tos, ttl): (u16, u8, u8),
    ) -> Origin {
        let flags = flags.to_ne_bytes();
        Origin {
            word0: zerocopy::transmute!([in_port, tun_id]),
            word1: addresses.to_le(),
            word6: u64::from_ne_bytes([0, 0, flags[0], flags[1], tos, ttl, 0, 0]),
        }
    }

    /// Writes `in_port` and every `tun_*` field of `key`, and zeros into the fields that share words with them.
    #[inline(always)]
    pub fn fill_key(&self, key: &mut FlowKey) {
        let words = key.words_mut();
        (words[0], words[1], words[6], words[7]) = (self.word0, self.word1, self.word6, 0);
        words[12..16].fill(0);
        words[20..].fill(0);
    }
}

/// [`Origin::fill_key`] and [`extract`] in one: every word of the key is written once and none is read.
///
/// # Errors
/// [`EthernetTruncated`], with all packet fields zero: nothing can be done with the frame.
#[inline(always)]
pub fn extract_from(frame: &[u8], origin: Origin, key: &mut FlowKey) -> Result<Parsed, EthernetTruncated> {
    if extract_common(frame, origin, key) {
        return Ok(COMMON);
    }
    origin.fill_key(key);
    extract_general(frame, key)
}

/// Where the headers of a frame begin that [`extract_common`] takes.
pub const COMMON: Parsed = Parsed { l3: IPV4 as u16, l4: L4 as u16, anomaly: None };
/// Offset of the IPv4 header of such a frame.
const IPV4: usize = ETHERNET_LEN;
/// Offset of its TCP or UDP header.
const L4: usize = IPV4 + IPV4_LEN;

/// [`extract_from`] for frames of the common kind; false, with `key` as it was, for others.
#[inline(always)]
pub fn extract_common(frame: &[u8], origin: Origin, key: &mut FlowKey) -> bool {
    let Some(common) = Common::read(frame) else { return false };
    let [w2, w3, w4, w5] = common.words;
    let w6 = origin.word6 | u64::from(common.tcp_flags).to_le();
    let words = key.words_mut();
    words[..8].copy_from_slice(&[origin.word0, origin.word1, w2, w3, w4, w5, w6, 0]);
    words[8..].fill(0);
    true
}

/// An untagged, unfragmented IPv4 frame without options that carries TCP or UDP, read in one go.
pub(crate) struct Common {
    /// Words 2 to 5 of its key.
    pub(crate) words: [u64; 4],
    /// `tcp_flags` as they stand in the packet: the first byte is the lowest.
    tcp_flags: u16,
}

/// The shortest IPv4 packet with a TCP or UDP header, bytes.
#[inline(always)]
fn min_len(is_tcp: bool) -> usize {
    IPV4_LEN + if is_tcp { 20 } else { UDP_LEN }
}

impl Common {
    /// The shortest packet of its protocol, bytes.
    pub(crate) fn min_len(&self) -> usize {
        min_len(self.words[3].to_le_bytes()[4] == IP_TCP)
    }

    /// The straight line. `None` when the frame is not of the common kind.
    #[allow(clippy::needless_bitwise_bool, reason = "one branch on all tests together is the point")]
    #[inline(always)]
    pub(crate) fn read(frame: &[u8]) -> Option<Common> {
        let head = frame.first_chunk::<FAST_LEN>()?;
        // Little-endian loads: byte n of a load is bits 8n and up, as it will stand in the key's memory.
        let macs = le64::<{ ethernet::DST }, FAST_LEN>(head); // dst, first two bytes of src
        let src_type = le64::<{ ethernet::SRC }, FAST_LEN>(head); // src, EtherType
        let type_ip = le64::<{ ethernet::TYPE }, FAST_LEN>(head); // EtherType, version and IHL, TOS, total length, ID
        let ip = le64::<{ IPV4 + ipv4::TOTAL_LEN }, FAST_LEN>(head); // total length, ID, flags and offset, TTL, protocol
        let addrs = le64::<{ IPV4 + ipv4::SRC }, FAST_LEN>(head);
        let ports = u64::from(u32::from_le_bytes(part::<{ L4 + ports::SRC }, 4, FAST_LEN>(head)));
        let flags = u16::from_le_bytes(part::<{ L4 + tcp::FLAGS }, 2, FAST_LEN>(head));

        let proto = (ip >> 56) as u8;
        let is_tcp = proto == IP_TCP;
        let total_len = usize::from((ip as u16).swap_bytes());
        let min_len = min_len(is_tcp);
        // One branch for all: frames of the common kind pass every test, so testing in turn saves nothing.
        let fragment_and_proto = (ip >> 32) as u32 & 0xff00_ff3f;
        let ok = (type_ip as u32 & 0x00ff_ffff == 0x0045_0008)
            & ((fragment_and_proto == u32::from(IP_TCP) << 24)
                | (fragment_and_proto == u32::from(IP_UDP) << 24))
            & (total_len >= min_len)
            & (total_len <= frame.len() - ETHERNET_LEN);
        if !ok {
            return None;
        }
        let (proto_bits, tos_bits, ttl_bits) =
            (u64::from(proto) << 32, (type_ip & 0xff00_0000) << 16, ip & (0xff << 48));
        Some(Common {
            words: [
                ((macs & MASK48) | 0x0008 << 48).to_le(),
                (src_type & MASK48).to_le(),
                addrs.to_le(),
                (ports | proto_bits | tos_bits | ttl_bits).to_le(),
            ],
            tcp_flags: if is_tcp { flags & 0xff0f } else { 0 },
        })
    }
}

/// Zeroes the packet fields beyond word 5, `tcp_flags` excepted.
#[inline(always)]
fn clear_cold(key: &mut FlowKey) {
    key.vlan_tci2 = U16::ZERO;
    key.ipv6_label = U32::ZERO;
    let words = key.words_mut();
    words[8..12].fill(0);
    words[16..20].fill(0);
}

/// As [`extract`], but looks at the Ethernet header and its tags only: `dl_*` and `vlan_*` are filled, every
/// other packet field is zero, `l4` is 0.
pub fn extract_l2(frame: &[u8], key: &mut FlowKey) -> Result<Parsed, EthernetTruncated> {
    key.words_mut()[2..6].fill(0);
    clear_cold(key);
    key.tcp_flags = U16::ZERO;
    let head = frame.first_chunk::<ETHERNET_LEN>().ok_or(EthernetTruncated)?;
    key.dl_dst = MacAddr(part::<{ ethernet::DST }, 6, 14>(head));
    key.dl_src = MacAddr(part::<{ ethernet::SRC }, 6, 14>(head));
    let mut dl_type = u16::from_be_bytes(part::<{ ethernet::TYPE }, 2, 14>(head));
    // Offset of what follows `dl_type`.
    let mut at = ETHERNET_LEN;
    let mut anomaly = None;
    for n in 0..2 {
        if dl_type != ETH_VLAN && dl_type != ETH_QINQ {
            break;
        }
        let Some([tci0, tci1, type0, type1]) = array(frame, at) else {
            anomaly = Some(Anomaly::VlanTruncated);
            break;
        };
        let tci = U16::new(u16::from_be_bytes([tci0, tci1]) | VLAN_PRESENT);
        if n == 0 {
            key.vlan_tci = tci;
        } else {
            key.vlan_tci2 = tci;
        }
        dl_type = u16::from_be_bytes([type0, type1]);
        at += VLAN_LEN;
    }
    if dl_type < ETH_TYPE_MIN {
        dl_type = ETH_NONE;
        // LLC for SNAP with an OUI of zero: an EtherType follows.
        if let Some([0xaa, 0xaa, 0x03, 0, 0, 0, type0, type1]) = array(frame, at) {
            at += 8;
            dl_type = match u16::from_be_bytes([type0, type1]) {
                snap if snap >= ETH_TYPE_MIN => snap,
                _ => ETH_NONE,
            };
        }
    }
    key.dl_type = U16::new(dl_type);
    Ok(Parsed { l3: at as u16, l4: 0, anomaly })
}

/// [`extract`] for every kind of frame, without the fast path: public so that tests can compare the two.
#[inline(never)]
pub fn extract_general(frame: &[u8], key: &mut FlowKey) -> Result<Parsed, EthernetTruncated> {
    extract_chain(frame, 0, key)
}

/// [`extract_general`] for a packet of several segments: `frame` is the first, which has all headers, and `more` bytes
/// are in the others.
pub fn extract_chain(frame: &[u8], more: usize, key: &mut FlowKey) -> Result<Parsed, EthernetTruncated> {
    let mut parsed = extract_l2(frame, key)?;
    let l3 = usize::from(parsed.l3);
    let data = frame.get(l3..).unwrap_or(&[]);
    let found = match key.dl_type.get() {
        ETH_IPV4 => ipv4(data, more, key),
        ETH_IPV6 => ipv6(data, more, key),
        ETH_ARP | ETH_RARP => arp(data, key).map(|()| None),
        _ => Ok(None),
    };
    match found {
        // Only a chain of IPv6 extension headers in a frame beyond 64 KiB has an offset that does not fit.
        Ok(Some(offset)) => parsed.l4 = u16::try_from(l3 + offset).unwrap_or(0),
        Ok(None) => {}
        Err(anomaly) => parsed.anomaly = Some(anomaly),
    }
    Ok(parsed)
}

/// The bytes from `start` to before `end`, as far as they are in `data`; `None` if `end` is before `start`, or beyond
/// `data` and the `more` bytes behind it.
fn packet(data: &[u8], more: usize, start: usize, end: usize) -> Option<&[u8]> {
    if end > data.len() + more { None } else { data.get(start..end.min(data.len())) }
}

/// `data` starts with an IPv4 header, and `more` bytes follow it elsewhere. The L4 header's offset in `data`, if there
/// is one.
fn ipv4(data: &[u8], more: usize, key: &mut FlowKey) -> Result<Option<usize>, Anomaly> {
    let header = data.first_chunk::<IPV4_LEN>().ok_or(Anomaly::Ipv4Header)?;
    let [version_ihl, tos, ..] = *header;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < IPV4_LEN || header_len > data.len() {
        return Err(Anomaly::Ipv4Header);
    }
    let total_len = usize::from(u16::from_be_bytes(part::<{ ipv4::TOTAL_LEN }, 2, 20>(header)));
    // What lies beyond the total length is padding, not payload.
    let Some(payload) = packet(data, more, header_len, total_len) else {
        return Err(Anomaly::Ipv4Length);
    };
    let fragment = u16::from_be_bytes(part::<{ ipv4::FRAGMENT }, 2, 20>(header));
    key.nw_src = U32::from_bytes(part::<{ ipv4::SRC }, 4, 20>(header));
    key.nw_dst = U32::from_bytes(part::<{ ipv4::DST }, 4, 20>(header));
    key.nw_tos = tos;
    key.nw_ttl = header[ipv4::TTL];
    key.nw_proto = header[ipv4::PROTOCOL];
    if fragment & (IPV4_MF | IPV4_OFFSET) != 0 {
        key.nw_frag = FRAG_ANY;
    }
    if fragment & IPV4_OFFSET != 0 {
        key.nw_frag |= FRAG_LATER;
        return Ok(None);
    }
    l4(payload, false, key)?;
    Ok(Some(header_len))
}

/// The same for an IPv6 header.
fn ipv6(data: &[u8], more: usize, key: &mut FlowKey) -> Result<Option<usize>, Anomaly> {
    let header = data.first_chunk::<IPV6_LEN>().ok_or(Anomaly::Ipv6Header)?;
    if header[0] >> 4 != 6 {
        return Err(Anomaly::Ipv6Header);
    }
    let payload_len = usize::from(u16::from_be_bytes(part::<{ ipv6::PAYLOAD_LEN }, 2, 40>(header)));
    let end = IPV6_LEN + payload_len;
    let packet = packet(data, more, 0, end).ok_or(Anomaly::Ipv6Length)?;
    key.ipv6_src = part::<{ ipv6::SRC }, 16, 40>(header);
    key.ipv6_dst = part::<{ ipv6::DST }, 16, 40>(header);
    let chain = ipv6_extensions(packet, header[ipv6::NEXT_HEADER]).ok_or(Anomaly::Ipv6Extension)?;
    let first = u32::from_be_bytes(part::<{ ipv6::FLOW }, 4, 40>(header));
    key.ipv6_label = U32::new(first & 0x000f_ffff);
    key.nw_tos = (first >> 20) as u8;
    key.nw_ttl = header[ipv6::HOP_LIMIT];
    key.nw_proto = chain.proto;
    key.nw_frag = chain.frag;
    if chain.frag & FRAG_LATER != 0 {
        return Ok(None);
    }
    l4(packet.get(chain.at..).unwrap_or(&[]), true, key)?;
    Ok(Some(chain.at))
}

/// Where a chain of extension headers ended.
struct Chain {
    /// Protocol of what follows.
    proto: u8,
    /// [`FlowKey::nw_frag`].
    frag: u8,
    /// Its offset from the IPv6 header.
    at: usize,
}

/// Walks the extension headers of `packet`, which ends with the IPv6 payload. Each takes at least 8 bytes, so
/// the payload length bounds the walk; a lower bound would let a long chain hide its ports from a rule.
fn ipv6_extensions(packet: &[u8], next: u8) -> Option<Chain> {
    let mut chain = Chain { proto: next, frag: 0, at: IPV6_LEN };
    loop {
        let unit = match chain.proto {
            IP_HOPOPTS | IP_ROUTING | IP_DSTOPTS | IP_AH | IP_FRAGMENT => array::<8>(packet, chain.at)?,
            _ => return Some(chain),
        };
        let len = match chain.proto {
            IP_AH => (usize::from(unit[1]) + 2) * 4,
            IP_FRAGMENT => 8,
            _ => (usize::from(unit[1]) + 1) * 8,
        };
        if packet.len() - chain.at < len {
            return None;
        }
        chain.at += len;
        if chain.proto == IP_FRAGMENT {
            let offset = u16::from_be_bytes([unit[2], unit[3]]);
            if offset != 0 {
                chain.frag = FRAG_ANY;
            }
            if offset & 0xfff8 != 0 {
                // What follows is no header of ours: the protocol stays "fragment", as in OVS.
                chain.frag |= FRAG_LATER;
                return Some(chain);
            }
        }
        chain.proto = unit[0];
    }
}

/// `data` is what the IP packet carries, without padding.
fn l4(data: &[u8], is_v6: bool, key: &mut FlowKey) -> Result<(), Anomaly> {
    let min_len = match key.nw_proto {
        IP_TCP => 20,
        IP_UDP => UDP_LEN,
        IP_SCTP => 12,
        IP_ICMP | IP_IGMP if !is_v6 => 8,
        IP_ICMPV6 if is_v6 => 8,
        _ => return Ok(()),
    };
    let Some(head) = data.first_chunk::<8>().filter(|_| data.len() >= min_len) else {
        return Err(Anomaly::L4Truncated);
    };
    match key.nw_proto {
        IP_ICMP | IP_IGMP | IP_ICMPV6 => {
            key.tp_src = U16::new(head[icmp::TYPE].into());
            key.tp_dst = U16::new(head[icmp::CODE].into());
        }
        _ => {
            key.tp_src = U16::from_bytes(part::<{ ports::SRC }, 2, 8>(head));
            key.tp_dst = U16::from_bytes(part::<{ ports::DST }, 2, 8>(head));
        }
    }
    match key.nw_proto {
        IP_TCP => {
            if let Some(flags) = be16(data, tcp::FLAGS) {
                key.tcp_flags = U16::new(flags & 0x0fff);
            }
            Ok(())
        }
        IP_ICMPV6 if matches!(head[..2], [ND_SOLICIT | ND_ADVERT, 0]) => nd(data, key),
        _ => Ok(()),
    }
}

/// The target and the link-layer address options of a neighbour solicitation or advertisement. What was found
/// before a malformed option stays; an address given twice voids them all, as in OVS.
fn nd(message: &[u8], key: &mut FlowKey) -> Result<(), Anomaly> {
    key.nd_target = array(message, nd::TARGET).ok_or(Anomaly::NdOptions)?;
    let mut at = nd::OPTIONS;
    while let Some(option) = array::<8>(message, at) {
        let len = usize::from(option[1]) * 8;
        if len == 0 || len > message.len() - at {
            return Err(Anomaly::NdOptions);
        }
        let mac = MacAddr([option[2], option[3], option[4], option[5], option[6], option[7]]);
        let field = match option[0] {
            ND_OPT_SLL if len == 8 => Some(&mut key.arp_sha),
            ND_OPT_TLL if len == 8 => Some(&mut key.arp_tha),
            _ => None,
        };
        if let Some(field) = field {
            if !field.is_zero() {
                key.nd_target = [0; 16];
                key.arp_sha = MacAddr::ZERO;
                key.arp_tha = MacAddr::ZERO;
                return Err(Anomaly::NdOptions);
            }
            *field = mac;
        }
        at += len;
    }
    Ok(())
}

/// `data` starts with an ARP packet. Fills nothing for hardware and protocols other than Ethernet and IPv4.
fn arp(data: &[u8], key: &mut FlowKey) -> Result<(), Anomaly> {
    let packet = data.first_chunk::<28>().ok_or(Anomaly::ArpTruncated)?;
    if packet[..6] != [0, 1, 8, 0, 6, 4] {
        return Ok(());
    }
    // Only the low byte of the opcode is matched on; an opcode beyond it matches as 0.
    if packet[arp::OP] == 0 {
        key.nw_proto = packet[arp::OP + 1];
    }
    key.arp_sha = MacAddr(part::<{ arp::SHA }, 6, 28>(packet));
    key.nw_src = U32::from_bytes(part::<{ arp::SPA }, 4, 28>(packet));
    key.arp_tha = MacAddr(part::<{ arp::THA }, 6, 28>(packet));
    key.nw_dst = U32::from_bytes(part::<{ arp::TPA }, 4, 28>(packet));
    Ok(())
}
