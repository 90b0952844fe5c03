//! Membership of multicast groups: IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810).

use super::ip::pseudo;
use super::{EthernetRepr, Ipv4Repr, Ipv6Repr, ViewError, header, multicast_mac, room};
use crate::addr::MacAddr;
use crate::bytes::{be16, put};
use crate::checksum;
use crate::proto::{ETH_IPV4, ETH_IPV6, IP_HOPOPTS, IP_ICMPV6, IP_IGMP, IPV4_LEN, IPV6_LEN};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// All systems of the link (RFC 1112).
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All routers of the link.
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
const ALL_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Destinations of reports of IGMPv3 and MLDv2.
const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

const IGMP_QUERY: u8 = 0x11;
const IGMPV1_REPORT: u8 = 0x12;
const IGMPV2_REPORT: u8 = 0x16;
const IGMP_LEAVE: u8 = 0x17;
const IGMPV3_REPORT: u8 = 0x22;
/// ICMPv6 type: multicast listener query.
pub const MLD_QUERY: u8 = 130;
/// ICMPv6 type: multicast listener report of MLDv1.
pub const MLD_REPORT: u8 = 131;
/// ICMPv6 type: multicast listener done.
pub const MLD_DONE: u8 = 132;
/// ICMPv6 type: multicast listener report of MLDv2.
pub const MLDV2_REPORT: u8 = 143;

/// An IPv4 header with nothing but the Router Alert option (RFC 2113).
const IPV4_ALERT_LEN: usize = IPV4_LEN + 4;
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// Hop-by-hop options with Router Alert (RFC 2711), in front of ICMPv6.
const HOPOPTS_ALERT: [u8; 8] = [IP_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// Internetwork control.
const TOS: u8 = 0xc0;

/// The Ethernet address of a multicast group (RFC 1112, section 6.4; RFC 2464, section 7).
pub fn group_mac(group: IpAddr) -> MacAddr {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            MacAddr([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) => multicast_mac(group),
    }
}

/// Version of IGMP. MLDv1 does what IGMPv2 does, MLDv2 what IGMPv3 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupVersion {
    /// IGMPv1: nobody leaves.
    V1,
    /// IGMPv2, MLDv1.
    V2,
    /// IGMPv3, MLDv2: sources, and reports to a group of their own.
    V3,
}

/// What a host says of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupReport {
    /// It has joined.
    Join,
    /// It is a member; the answer to a query.
    Member,
    /// It has left.
    Leave,
}

/// A message of IGMP or MLD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupMessage<'a> {
    /// A router asks for members.
    Query {
        /// Of which protocol version the router is.
        version: GroupVersion,
        /// Of which group; `None`: of all.
        group: Option<IpAddr>,
        /// Members answer within this time.
        max_response: Duration,
    },
    /// A host reports its memberships.
    Report(GroupRecords<'a>),
}

/// What a report says: group by group, whether the host is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecords<'a> {
    /// One group, in the older protocol versions.
    One(IpAddr, bool),
    /// Records of IGMPv3 (with IPv4 addresses) or MLDv2.
    Many {
        /// Number of records.
        count: u16,
        /// The records.
        bytes: &'a [u8],
        /// Whether addresses are those of IPv6.
        v6: bool,
    },
    /// No more.
    None,
}

impl Iterator for GroupRecords<'_> {
    type Item = (IpAddr, bool);

    fn next(&mut self) -> Option<(IpAddr, bool)> {
        match *self {
            GroupRecords::None => None,
            GroupRecords::One(group, is_member) => {
                *self = GroupRecords::None;
                Some((group, is_member))
            }
            GroupRecords::Many { ref mut count, ref mut bytes, v6 } => {
                while *count > 0 {
                    *count -= 1;
                    let Some((record, is_known, rest)) = read_record(bytes, v6) else { break };
                    *bytes = rest;
                    if is_known {
                        return Some(record);
                    }
                }
                *self = GroupRecords::None;
                None
            }
        }
    }
}

/// Reads a group record (RFC 3376, section 4.2.4): what it says, whether its type is known, what follows it. Who includes
/// no source is no member.
fn read_record(bytes: &[u8], v6: bool) -> Option<((IpAddr, bool), bool, &[u8])> {
    const TO_INCLUDE: u8 = 3;
    const IS_INCLUDE: u8 = 1;
    let address = if v6 { 16 } else { 4 };
    let (kind, auxiliary) = (*bytes.first()?, usize::from(*bytes.get(1)?) * 4);
    let sources = usize::from(be16(bytes, 2)?);
    let group = address_at(bytes, 4, v6)?;
    let rest = bytes.get(4 + address * (1 + sources) + auxiliary..)?;
    let is_member = sources != 0 || !matches!(kind, IS_INCLUDE | TO_INCLUDE);
    Some(((group, is_member), (1..=6).contains(&kind), rest))
}

fn address_at(bytes: &[u8], at: usize, v6: bool) -> Option<IpAddr> {
    Some(if v6 {
        IpAddr::from(crate::bytes::array::<16>(bytes, at)?)
    } else {
        IpAddr::from(crate::bytes::array::<4>(bytes, at)?)
    })
}

/// A time of 8 bits, with an exponent above 127 (RFC 3376, section 4.1.1), in tenths of a second.
fn code8(code: u8) -> Duration {
    let tenths =
        if code < 128 { u64::from(code) } else { u64::from(code & 15 | 16) << ((code >> 4 & 7) + 3) };
    Duration::from_millis(tenths * 100)
}

/// A time of 16 bits, with an exponent above 32,767 (RFC 3810, section 5.1.3), in milliseconds.
fn code16(code: u16) -> Duration {
    let ms = if code < 0x8000 {
        u64::from(code)
    } else {
        u64::from(code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3)
    };
    Duration::from_millis(ms)
}

impl<'a> GroupMessage<'a> {
    /// Reads the payload of an IPv4 packet whose protocol is IGMP.
    pub fn parse_igmp(bytes: &'a [u8]) -> Result<GroupMessage<'a>, ViewError> {
        const WHAT: &str = "IGMP";
        let [kind, code, _, _, a, b, c, d]: [u8; 8] = header(WHAT, bytes)?;
        if !checksum::l4_is_valid(checksum::Sum::ZERO, bytes) {
            return Err(ViewError::Checksum(WHAT));
        }
        let group = Ipv4Addr::from([a, b, c, d]);
        match kind {
            IGMP_QUERY => {
                let version = match (bytes.len(), code) {
                    (12.., _) => GroupVersion::V3,
                    (_, 0) => GroupVersion::V1,
                    _ => GroupVersion::V2,
                };
                let max_response = match version {
                    GroupVersion::V1 => Duration::from_secs(10),
                    GroupVersion::V2 => Duration::from_millis(u64::from(code) * 100),
                    GroupVersion::V3 => code8(code),
                };
                let group = (!group.is_unspecified()).then_some(group.into());
                Ok(GroupMessage::Query { version, group, max_response })
            }
            IGMPV1_REPORT | IGMPV2_REPORT => Ok(GroupMessage::Report(GroupRecords::One(group.into(), true))),
            IGMP_LEAVE => Ok(GroupMessage::Report(GroupRecords::One(group.into(), false))),
            IGMPV3_REPORT => {
                let (count, bytes) = (u16::from_be_bytes([c, d]), bytes.get(8..).unwrap_or(&[]));
                Ok(GroupMessage::Report(GroupRecords::Many { count, bytes, v6: false }))
            }
            _ => Err(ViewError::Malformed { what: WHAT, expected: "a query, a report or a leave" }),
        }
    }

    /// Reads the payload of an IPv6 packet between these addresses, with or without hop-by-hop options.
    pub fn parse_mld(ip: &Ipv6Repr, bytes: &'a [u8]) -> Result<GroupMessage<'a>, ViewError> {
        const WHAT: &str = "MLD";
        let not_mld = ViewError::Malformed { what: WHAT, expected: "a query, a report or a done" };
        let mut bytes = bytes;
        let mut next = ip.next_header;
        if next == IP_HOPOPTS {
            let [after, words]: [u8; 2] = header(WHAT, bytes)?;
            let needed = 8 * (1 + usize::from(words));
            bytes =
                bytes.get(needed..).ok_or(ViewError::Truncated { what: WHAT, needed, got: bytes.len() })?;
            next = after;
        }
        let head: [u8; 8] = header(WHAT, bytes)?;
        if next != IP_ICMPV6 || !matches!(head[0], MLD_QUERY | MLD_REPORT | MLD_DONE | MLDV2_REPORT) {
            return Err(not_mld);
        }
        if !checksum::l4_is_valid(pseudo(ip.src.into(), ip.dst.into(), IP_ICMPV6, bytes.len()), bytes) {
            return Err(ViewError::Checksum(WHAT));
        }
        let code = u16::from_be_bytes([head[4], head[5]]);
        if head[0] == MLDV2_REPORT {
            let (count, bytes) = (u16::from_be_bytes([head[6], head[7]]), bytes.get(8..).unwrap_or(&[]));
            return Ok(GroupMessage::Report(GroupRecords::Many { count, bytes, v6: true }));
        }
        let truncated = ViewError::Truncated { what: WHAT, needed: 24, got: bytes.len() };
        let group = address_at(bytes, 8, true).ok_or(truncated)?;
        Ok(match head[0] {
            MLD_QUERY => {
                let is_v2 = bytes.len() >= 28;
                GroupMessage::Query {
                    version: if is_v2 { GroupVersion::V3 } else { GroupVersion::V2 },
                    group: (!group.is_unspecified()).then_some(group),
                    max_response: if is_v2 { code16(code) } else { Duration::from_millis(code.into()) },
                }
            }
            kind => GroupMessage::Report(GroupRecords::One(group, kind == MLD_REPORT)),
        })
    }
}

/// Writes a host's report of one group, of a protocol version, from an address of the group's family. In IGMPv1 nobody
/// leaves: there is no frame then.
pub fn build_group_report(
    out: &mut [u8],
    mac: MacAddr,
    src: IpAddr,
    group: IpAddr,
    (version, report): (GroupVersion, GroupReport),
) -> Result<usize, ViewError> {
    // Types of group records: MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE_MODE, CHANGE_TO_INCLUDE_MODE, each without sources.
    let record = match report {
        GroupReport::Member => 2,
        GroupReport::Join => 4,
        GroupReport::Leave => 3,
    };
    let leaves = report == GroupReport::Leave;
    let mismatch = ViewError::Malformed { what: "membership report", expected: "addresses of one family" };
    match (src, group) {
        (IpAddr::V4(src), IpAddr::V4(group)) => {
            let mut message = [0; 16];
            let (dst, message) = if version == GroupVersion::V3 {
                put(&mut message, 0, [IGMPV3_REPORT, 0, 0, 0, 0, 0, 0, 1]);
                put(&mut message, 8, [record, 0, 0, 0]);
                put(&mut message, 12, group.octets());
                (IGMPV3_ROUTERS, &mut message[..])
            } else {
                let (kind, dst) = match (leaves, version) {
                    (true, GroupVersion::V1) => {
                        return Err(ViewError::Malformed { what: "IGMPv1", expected: "a report" });
                    }
                    (true, _) => (IGMP_LEAVE, ALL_ROUTERS),
                    (false, GroupVersion::V1) => (IGMPV1_REPORT, group),
                    (false, _) => (IGMPV2_REPORT, group),
                };
                put(&mut message, 0, [kind, 0, 0, 0]);
                put(&mut message, 4, group.octets());
                (dst, &mut message[..8])
            };
            let sum = checksum::l4(checksum::Sum::ZERO, message);
            put(message, 2, sum.to_be_bytes());
            let eth =
                EthernetRepr { dst: group_mac(dst.into()), src: mac, vlan_tci: None, ethertype: ETH_IPV4 };
            let at = eth.emit(out)?;
            let len = IPV4_ALERT_LEN + message.len();
            let ip = room(out.get_mut(at..).unwrap_or_default(), len)?;
            let repr = Ipv4Repr { src, dst, proto: IP_IGMP, tos: TOS, ttl: 1, id: 0, df: true };
            repr.emit(ip, len - IPV4_LEN)?;
            ip[0] = 0x46;
            put(ip, IPV4_LEN, ROUTER_ALERT);
            let sum = checksum::ipv4_header(&ip[..IPV4_ALERT_LEN]);
            put(ip, 10, sum.to_be_bytes());
            ip[IPV4_ALERT_LEN..].copy_from_slice(message);
            Ok(at + len)
        }
        (IpAddr::V6(src), IpAddr::V6(group)) => {
            let mut message = [0; 28];
            let (dst, message) = if version == GroupVersion::V3 {
                put(&mut message, 0, [MLDV2_REPORT, 0, 0, 0, 0, 0, 0, 1]);
                put(&mut message, 8, [record, 0, 0, 0]);
                put(&mut message, 12, group.octets());
                (MLDV2_ROUTERS, &mut message[..])
            } else {
                let (kind, dst) = if leaves { (MLD_DONE, ALL_ROUTERS_V6) } else { (MLD_REPORT, group) };
                put(&mut message, 0, [kind, 0, 0, 0]);
                put(&mut message, 8, group.octets());
                (dst, &mut message[..24])
            };
            let sum = checksum::l4(pseudo(src.into(), dst.into(), IP_ICMPV6, message.len()), message);
            put(message, 2, sum.to_be_bytes());
            let eth = EthernetRepr { dst: multicast_mac(dst), src: mac, vlan_tci: None, ethertype: ETH_IPV6 };
            let at = eth.emit(out)?;
            let payload = HOPOPTS_ALERT.len() + message.len();
            let ip = room(out.get_mut(at..).unwrap_or_default(), IPV6_LEN + payload)?;
            let repr = Ipv6Repr {
                src,
                dst,
                next_header: IP_HOPOPTS,
                traffic_class: TOS,
                flow_label: 0,
                hop_limit: 1,
            };
            repr.emit(ip, payload)?;
            put(ip, IPV6_LEN, HOPOPTS_ALERT);
            ip[IPV6_LEN + HOPOPTS_ALERT.len()..].copy_from_slice(message);
            Ok(at + IPV6_LEN + payload)
        }
        _ => Err(mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn read(frame: &[u8]) -> (EthernetRepr, IpAddr, Vec<(IpAddr, bool)>) {
        let (eth, payload) = EthernetRepr::parse(frame).unwrap();
        let (dst, message) = if eth.ethertype == ETH_IPV4 {
            let (ip, payload) = Ipv4Repr::parse(payload).unwrap();
            assert_eq!((ip.proto, ip.ttl), (IP_IGMP, 1));
            (ip.dst.into(), GroupMessage::parse_igmp(payload).unwrap())
        } else {
            let (ip, payload) = Ipv6Repr::parse(payload).unwrap();
            assert_eq!((ip.next_header, ip.hop_limit), (IP_HOPOPTS, 1));
            (ip.dst.into(), GroupMessage::parse_mld(&ip, payload).unwrap())
        };
        let GroupMessage::Report(records) = message else { panic!("a report, not {message:?}") };
        (eth, dst, records.collect())
    }

    #[test]
    fn reports_are_written_as_they_are_read_and_go_where_each_version_wants_them() {
        use GroupReport::{Join, Leave, Member};
        use GroupVersion::{V1, V2, V3};
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let v4 = ["10.0.0.1", "239.129.1.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let v6 = ["fe80::1", "ff05::1:2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        for (version, report, [to4, to6]) in [
            (V1, Member, ["239.129.1.2", "ff05::1:2"]),
            (V2, Join, ["239.129.1.2", "ff05::1:2"]),
            (V2, Leave, ["224.0.0.2", "ff02::2"]),
            (V3, Join, ["224.0.0.22", "ff02::16"]),
            (V3, Member, ["224.0.0.22", "ff02::16"]),
            (V3, Leave, ["224.0.0.22", "ff02::16"]),
        ] {
            for ([src, group], to) in [(v4, to4), (v6, to6)] {
                let mut frame = [0; 128];
                let len = build_group_report(&mut frame, mac, src, group, (version, report)).unwrap();
                let (eth, dst, records) = read(&frame[..len]);
                assert_eq!((eth.src, eth.dst), (mac, group_mac(dst)));
                assert_eq!(dst, to.parse::<IpAddr>().unwrap(), "{version:?} {report:?}");
                assert_eq!(records, [(group, report != Leave)]);
            }
        }
        let mut frame = [0; 128];
        assert!(build_group_report(&mut frame, mac, v4[0], v4[1], (V1, Leave)).is_err());
        assert!(build_group_report(&mut frame, mac, v4[0], v6[1], (V2, Join)).is_err());
        assert_eq!(group_mac(v4[1]), MacAddr([1, 0, 0x5e, 1, 1, 2]), "the highest bit is not in the address");
    }

    #[test]
    fn a_query_says_its_version_by_its_length_and_its_code() {
        let igmp = |code: u8, len: usize| {
            let mut message = vec![0; len];
            message[..2].copy_from_slice(&[IGMP_QUERY, code]);
            let sum = checksum::l4(checksum::Sum::ZERO, &message);
            put(&mut message, 2, sum.to_be_bytes());
            match GroupMessage::parse_igmp(&message).unwrap() {
                GroupMessage::Query { version, group: None, max_response } => {
                    (version, max_response.as_millis())
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(igmp(0, 8), (GroupVersion::V1, 10_000));
        assert_eq!(igmp(100, 8), (GroupVersion::V2, 10_000));
        assert_eq!(igmp(10, 12), (GroupVersion::V3, 1_000));
        assert_eq!(igmp(0x80 | 0x10 | 1, 12), (GroupVersion::V3, (17 << 4) * 100));
        assert_eq!(code16(0x8000 | 0x1000 | 1), Duration::from_millis(0x1001 << 4));
    }

    proptest! {
        /// Whatever comes off a wire is read to its end or refused.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in any::<u8>(), v6 in any::<bool>()) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = [IGMPV3_REPORT, MLDV2_REPORT, IGMP_QUERY, MLD_QUERY, kind][usize::from(kind) % 5];
            }
            if let [_, _, a, b, ..] = &mut bytes[..] {
                (*a, *b) = (0, 0);
            }
            let message = if v6 {
                let ip = Ipv6Repr {
                    src: Ipv6Addr::UNSPECIFIED,
                    dst: MLDV2_ROUTERS,
                    next_header: IP_ICMPV6,
                    traffic_class: 0,
                    flow_label: 0,
                    hop_limit: 1,
                };
                if bytes.len() >= 4 {
                    let sum = checksum::l4(pseudo(ip.src.into(), ip.dst.into(), IP_ICMPV6, bytes.len()), &bytes);
                    put(&mut bytes, 2, sum.to_be_bytes());
                }
                GroupMessage::parse_mld(&ip, &bytes)
            } else {
                if bytes.len() >= 4 {
                    let sum = checksum::l4(checksum::Sum::ZERO, &bytes);
                    put(&mut bytes, 2, sum.to_be_bytes());
                }
                GroupMessage::parse_igmp(&bytes)
            };
            if let Ok(GroupMessage::Report(records)) = message {
                let fit = bytes.len() / 8;
                prop_assert!(records.count() <= fit.max(1));
            }
        }
    }
}
