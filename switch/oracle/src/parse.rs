//! From bytes to fields, by the book: Open vSwitch's flow extraction, but with two tags looked through.

use crate::field::{Field, Fields};

/// What was found in a frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// Its fields.
    pub fields: Fields,
    /// `vlan_tci` of a second tag.
    pub second_tag: u128,
    /// Where the network header begins.
    pub l3: usize,
    /// Where the transport header begins, if there is one.
    pub l4: Option<usize>,
    /// Where the network packet ends.
    pub end: usize,
    /// The network or transport header is malformed.
    pub odd: bool,
    /// The frame ends in a tag.
    pub cut_tag: bool,
}

/// A big-endian number.
pub fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

/// Reads a frame; `None` when it is shorter than an Ethernet header.
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    if frame.len() < 14 {
        return None;
    }
    let mut parsed = Parsed { end: frame.len(), ..Parsed::default() };
    parsed.fields.put(Field::EthDst, number(&frame[..6]));
    parsed.fields.put(Field::EthSrc, number(&frame[6..12]));
    let mut at = 12;
    let mut tags = Vec::new();
    while tags.len() < 2 && matches!(number(&frame[at..at + 2]), 0x8100 | 0x88a8) && frame.len() >= at + 6 {
        tags.push(number(&frame[at + 2..at + 4]) | 0x1000);
        at += 4;
    }
    parsed.fields.put(Field::VlanTci, tags.first().copied().unwrap_or(0));
    parsed.second_tag = tags.get(1).copied().unwrap_or(0);
    let mut kind = number(&frame[at..at + 2]);
    parsed.cut_tag = tags.len() < 2 && matches!(kind, 0x8100 | 0x88a8);
    at += 2;
    if kind < 0x600 {
        kind = 0x5ff;
        let rest = &frame[at..];
        if rest.len() >= 8 && rest[..6] == [0xaa, 0xaa, 3, 0, 0, 0] {
            at += 8;
            if number(&rest[6..8]) >= 0x600 {
                kind = number(&rest[6..8]);
            }
        }
    }
    parsed.fields.put(Field::EthType, kind);
    parsed.l3 = at;
    let well = match kind {
        0x800 => ipv4(&frame[at..], &mut parsed),
        0x86dd => ipv6(&frame[at..], &mut parsed),
        0x806 | 0x8035 => arp(&frame[at..], &mut parsed),
        _ => Some(()),
    };
    parsed.odd = well.is_none();
    if parsed.odd {
        parsed.l4 = None;
    }
    Some(parsed)
}

fn arp(packet: &[u8], parsed: &mut Parsed) -> Option<()> {
    let packet = packet.get(..28)?;
    if packet[..6] == [0, 1, 8, 0, 6, 4] {
        let fields = &mut parsed.fields;
        let op = number(&packet[6..8]);
        fields.put(Field::ArpOp, if op < 256 { op } else { 0 });
        fields.put(Field::ArpSha, number(&packet[8..14]));
        fields.put(Field::ArpSpa, number(&packet[14..18]));
        fields.put(Field::ArpTha, number(&packet[18..24]));
        fields.put(Field::ArpTpa, number(&packet[24..28]));
    }
    Some(())
}

fn ipv4(packet: &[u8], parsed: &mut Parsed) -> Option<()> {
    let header = packet.get(..20)?;
    let len = usize::from(header[0] & 15) * 4;
    let total = number(&header[2..4]) as usize;
    if header[0] >> 4 != 4 || len < 20 || len > packet.len() || total < len || total > packet.len() {
        return None;
    }
    let fields = &mut parsed.fields;
    fields.put(Field::NwTos, u128::from(header[1] & 0xfc));
    fields.put(Field::NwEcn, u128::from(header[1] & 3));
    fields.put(Field::NwTtl, header[8].into());
    fields.put(Field::IpProto, header[9].into());
    fields.put(Field::IpSrc, number(&header[12..16]));
    fields.put(Field::IpDst, number(&header[16..20]));
    parsed.end = parsed.l3 + total;
    let offset = number(&header[6..8]) & 0x1fff;
    if offset != 0 {
        parsed.fields.put(Field::IpFrag, 3);
        return Some(());
    }
    parsed.fields.put(Field::IpFrag, u128::from(header[6] & 0x20 != 0));
    transport(&packet[len..total], false, header[9], parsed)?;
    parsed.l4 = Some(parsed.l3 + len);
    Some(())
}

fn ipv6(packet: &[u8], parsed: &mut Parsed) -> Option<()> {
    let header = packet.get(..40)?;
    let end = 40 + number(&header[4..6]) as usize;
    if header[0] >> 4 != 6 || end > packet.len() {
        return None;
    }
    parsed.fields.put(Field::Ipv6Src, number(&header[8..24]));
    parsed.fields.put(Field::Ipv6Dst, number(&header[24..40]));
    parsed.end = parsed.l3 + end;
    let (mut at, mut proto, mut frag) = (40, header[6], 0);
    while frag != 3 && matches!(proto, 0 | 43 | 60 | 51 | 44) {
        let unit = packet.get(at..at + 8).filter(|_| at + 8 <= end)?;
        let len = match proto {
            44 => 8,
            51 => (usize::from(unit[1]) + 2) * 4,
            _ => (usize::from(unit[1]) + 1) * 8,
        };
        if at + len > end {
            return None;
        }
        if proto == 44 && number(&unit[2..4]) >= 8 {
            frag = 3;
        } else {
            if proto == 44 && number(&unit[2..4]) != 0 {
                frag = 1;
            }
            proto = unit[0];
        }
        at += len;
    }
    let fields = &mut parsed.fields;
    let class = number(&header[..2]) >> 4 & 0xff;
    fields.put(Field::Ipv6Label, number(&header[..4]) & 0xf_ffff);
    fields.put(Field::NwTos, class & 0xfc);
    fields.put(Field::NwEcn, class & 3);
    fields.put(Field::NwTtl, header[7].into());
    fields.put(Field::IpProto, proto.into());
    fields.put(Field::IpFrag, frag);
    if frag == 3 {
        return Some(());
    }
    transport(&packet[at..end], true, proto, parsed)?;
    parsed.l4 = Some(parsed.l3 + at);
    Some(())
}

fn transport(data: &[u8], v6: bool, proto: u8, parsed: &mut Parsed) -> Option<()> {
    let fields = &mut parsed.fields;
    match proto {
        6 => {
            let header = data.get(..20)?;
            fields.put(Field::TcpSrc, number(&header[..2]));
            fields.put(Field::TcpDst, number(&header[2..4]));
            fields.put(Field::TcpFlags, number(&header[12..14]) & 0xfff);
        }
        17 => {
            let header = data.get(..8)?;
            fields.put(Field::UdpSrc, number(&header[..2]));
            fields.put(Field::UdpDst, number(&header[2..4]));
        }
        132 => {
            let header = data.get(..12)?;
            fields.put(Field::SctpSrc, number(&header[..2]));
            fields.put(Field::SctpDst, number(&header[2..4]));
        }
        1 if !v6 => {
            let header = data.get(..8)?;
            fields.put(Field::IcmpType, header[0].into());
            fields.put(Field::IcmpCode, header[1].into());
        }
        2 if !v6 => drop(data.get(..8)?),
        58 if v6 => {
            let header = data.get(..8)?;
            fields.put(Field::Icmpv6Type, header[0].into());
            fields.put(Field::Icmpv6Code, header[1].into());
            if matches!(header[0], 135 | 136) && header[1] == 0 {
                return neighbour(&data[8..], fields);
            }
        }
        _ => {}
    }
    Some(())
}

fn neighbour(message: &[u8], fields: &mut Fields) -> Option<()> {
    let target = number(message.get(..16)?);
    let (mut source, mut link) = (0, 0);
    let mut rest = &message[16..];
    let mut well = Some(());
    while rest.len() >= 8 {
        let len = usize::from(rest[1]) * 8;
        if len == 0 || len > rest.len() {
            well = None;
            break;
        }
        let slot = match (rest[0], rest[1]) {
            (1, 1) => Some(&mut source),
            (2, 1) => Some(&mut link),
            _ => None,
        };
        if let Some(slot) = slot {
            if *slot != 0 {
                return None;
            }
            *slot = number(&rest[2..8]);
        }
        rest = &rest[len..];
    }
    fields.put(Field::NdTarget, target);
    fields.put(Field::NdSll, source);
    fields.put(Field::NdTll, link);
    well
}
