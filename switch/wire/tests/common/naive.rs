//! A reference parser: byte by byte, no shortcuts, written from the description of Open vSwitch's flow
//! extraction and not from `wire::parse`.

use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::parse::Anomaly;

/// The packet fields of the key (all else zero), `l3`, `l4`, anomaly; `None` below 14 bytes.
pub fn extract(frame: &[u8]) -> Option<(FlowKey, usize, usize, Option<Anomaly>)> {
    if frame.len() < 14 {
        return None;
    }
    let mut key = FlowKey::ZERO;
    key.dl_dst = mac(&frame[0..6]);
    key.dl_src = mac(&frame[6..12]);
    let mut anomaly = None;
    let mut rest = &frame[12..];
    let mut tags = Vec::new();
    while tags.len() < 2 && (rest[..2] == [0x81, 0x00] || rest[..2] == [0x88, 0xa8]) {
        if rest.len() < 6 {
            anomaly = Some(Anomaly::VlanTruncated);
            break;
        }
        tags.push(word(rest, 2) | 0x1000);
        rest = &rest[4..];
    }
    key.vlan_tci = tags.first().copied().unwrap_or(0).into();
    key.vlan_tci2 = tags.get(1).copied().unwrap_or(0).into();
    let mut dl_type = word(rest, 0);
    rest = &rest[2..];
    if dl_type < 1536 {
        dl_type = 0x5ff;
        if rest.len() >= 8 && rest[..6] == [0xaa, 0xaa, 3, 0, 0, 0] {
            if word(rest, 6) >= 1536 {
                dl_type = word(rest, 6);
            }
            rest = &rest[8..];
        }
    }
    key.dl_type = dl_type.into();
    let l3 = frame.len() - rest.len();
    let mut l4 = 0;
    match dl_type {
        0x0800 => match ipv4(rest, &mut key) {
            Ok(offset) => l4 = offset.map_or(0, |n| l3 + n),
            Err(what) => anomaly = Some(what),
        },
        0x86dd => match ipv6(rest, &mut key) {
            Ok(offset) => l4 = offset.map_or(0, |n| l3 + n),
            Err(what) => anomaly = Some(what),
        },
        0x0806 | 0x8035 => {
            if rest.len() < 28 {
                anomaly = Some(Anomaly::ArpTruncated);
            } else if word(rest, 0) == 1 && word(rest, 2) == 0x800 && rest[4] == 6 && rest[5] == 4 {
                key.nw_proto = if word(rest, 6) < 256 { rest[7] } else { 0 };
                key.arp_sha = mac(&rest[8..14]);
                key.nw_src = long(rest, 14).into();
                key.arp_tha = mac(&rest[18..24]);
                key.nw_dst = long(rest, 24).into();
            }
        }
        _ => {}
    }
    Some((key, l3, l4, anomaly))
}

fn ipv4(packet: &[u8], key: &mut FlowKey) -> Result<Option<usize>, Anomaly> {
    if packet.len() < 20 || packet[0] / 16 != 4 {
        return Err(Anomaly::Ipv4Header);
    }
    let ihl = usize::from(packet[0] % 16);
    if ihl < 5 || ihl * 4 > packet.len() {
        return Err(Anomaly::Ipv4Header);
    }
    let total = usize::from(word(packet, 2));
    if total < ihl * 4 || total > packet.len() {
        return Err(Anomaly::Ipv4Length);
    }
    key.nw_src = long(packet, 12).into();
    key.nw_dst = long(packet, 16).into();
    key.nw_tos = packet[1];
    key.nw_ttl = packet[8];
    key.nw_proto = packet[9];
    let more = packet[6] & 0x20 != 0;
    let offset = word(packet, 6) % 0x2000;
    key.nw_frag = match (more, offset) {
        (false, 0) => 0,
        (true, 0) => 1,
        _ => 3,
    };
    if offset != 0 {
        return Ok(None);
    }
    transport(&packet[ihl * 4..total], 4, key)?;
    Ok(Some(ihl * 4))
}

fn ipv6(packet: &[u8], key: &mut FlowKey) -> Result<Option<usize>, Anomaly> {
    if packet.len() < 40 || packet[0] / 16 != 6 {
        return Err(Anomaly::Ipv6Header);
    }
    let payload_len = usize::from(word(packet, 4));
    if 40 + payload_len > packet.len() {
        return Err(Anomaly::Ipv6Length);
    }
    key.ipv6_src.copy_from_slice(&packet[8..24]);
    key.ipv6_dst.copy_from_slice(&packet[24..40]);
    let mut rest = &packet[40..40 + payload_len];
    let mut proto = packet[6];
    let mut frag = 0;
    while [0, 43, 60, 51, 44].contains(&proto) && frag != 3 {
        if rest.len() < 8 {
            return Err(Anomaly::Ipv6Extension);
        }
        let len = match proto {
            44 => 8,
            51 => 8 + 4 * usize::from(rest[1]),
            _ => 8 + 8 * usize::from(rest[1]),
        };
        if rest.len() < len {
            return Err(Anomaly::Ipv6Extension);
        }
        let next = rest[0];
        if proto == 44 && word(rest, 2) >= 8 {
            frag = 3;
        } else {
            if proto == 44 && word(rest, 2) != 0 {
                frag = 1;
            }
            proto = next;
        }
        rest = &rest[len..];
    }
    key.ipv6_label = (long(packet, 0) % 0x10_0000).into();
    key.nw_tos = packet[0] << 4 | packet[1] >> 4;
    key.nw_ttl = packet[7];
    key.nw_proto = proto;
    key.nw_frag = frag;
    if frag == 3 {
        return Ok(None);
    }
    transport(rest, 6, key)?;
    Ok(Some(40 + payload_len - rest.len()))
}

fn transport(data: &[u8], version: u8, key: &mut FlowKey) -> Result<(), Anomaly> {
    match (key.nw_proto, version) {
        (6, _) if data.len() >= 20 => {
            ports(data, key);
            key.tcp_flags = (word(data, 12) % 4096).into();
        }
        (17, _) if data.len() >= 8 => ports(data, key),
        (132, _) if data.len() >= 12 => ports(data, key),
        (1 | 2, 4) | (58, 6) if data.len() >= 8 => {
            key.tp_src = u16::from(data[0]).into();
            key.tp_dst = u16::from(data[1]).into();
            if version == 6 && (data[0] == 135 || data[0] == 136) && data[1] == 0 {
                return neighbour(&data[8..], key);
            }
        }
        (6 | 17 | 132, _) | (1 | 2, 4) | (58, 6) => return Err(Anomaly::L4Truncated),
        _ => {}
    }
    Ok(())
}

fn neighbour(data: &[u8], key: &mut FlowKey) -> Result<(), Anomaly> {
    if data.len() < 16 {
        return Err(Anomaly::NdOptions);
    }
    let (mut source, mut target) = (MacAddr::ZERO, MacAddr::ZERO);
    let mut rest = &data[16..];
    let mut result = Ok(());
    while rest.len() >= 8 {
        let len = usize::from(rest[1]) * 8;
        if len == 0 || len > rest.len() {
            result = Err(Anomaly::NdOptions);
            break;
        }
        if rest[1] == 1 && (rest[0] == 1 || rest[0] == 2) {
            let slot = if rest[0] == 1 { &mut source } else { &mut target };
            if *slot != MacAddr::ZERO {
                return Err(Anomaly::NdOptions);
            }
            *slot = mac(&rest[2..8]);
        }
        rest = &rest[len..];
    }
    key.nd_target.copy_from_slice(&data[..16]);
    key.arp_sha = source;
    key.arp_tha = target;
    result
}

fn ports(data: &[u8], key: &mut FlowKey) {
    key.tp_src = word(data, 0).into();
    key.tp_dst = word(data, 2).into();
}

fn word(data: &[u8], at: usize) -> u16 {
    u16::from(data[at]) << 8 | u16::from(data[at + 1])
}

fn long(data: &[u8], at: usize) -> u32 {
    u32::from(word(data, at)) << 16 | u32::from(word(data, at + 2))
}

fn mac(data: &[u8]) -> MacAddr {
    MacAddr([data[0], data[1], data[2], data[3], data[4], data[5]])
}
