//! IP fragments: what tells them apart, and what is to be filled in where a library has made some.

use crate::bytes::{array, be16, put};
use crate::checksum;
use crate::field::{ethernet, ipv4, ipv6};
use crate::proto::{
    ETH_IPV4, ETH_IPV6, ETH_VLAN, ETHERNET_LEN, IP_FRAGMENT, IPV4_DF, IPV4_LEN, IPV4_MF, IPV4_OFFSET,
    IPV6_LEN, VLAN_LEN,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Offset of the fragment offset in the fragment header of IPv6 (RFC 8200, section 4.5), and of the identification.
const OFFSET: usize = 2;
const ID: usize = 4;

/// A fragment of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of the IP header in the frame, in bytes: 14, or 18 behind a tag.
    pub l3: u8,
    /// Whether it is the first one.
    pub is_first: bool,
    /// What its siblings have in common with it, and no other datagram on its way.
    pub of: Datagram,
}

/// A datagram that is on its way in fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Source.
    pub src: IpAddr,
    /// Destination, of the same family.
    pub dst: IpAddr,
    /// Protocol: what is in the datagram.
    pub protocol: u8,
    /// Identification.
    pub id: u32,
}

/// Reads a fragment: IPv4, or IPv6 with the fragment header right behind its header, untagged or with one 802.1Q tag. `None` for
/// a frame that is none. That its headers are right, but for those that are read here, is not checked.
pub fn read(frame: &[u8]) -> Option<Fragment> {
    let mut dl_type = be16(frame, ethernet::TYPE)?;
    let mut l3 = ETHERNET_LEN;
    if dl_type == ETH_VLAN {
        dl_type = be16(frame, l3 + 2)?;
        l3 += VLAN_LEN;
    }
    match dl_type {
        ETH_IPV4 => {
            let header = array::<IPV4_LEN>(frame, l3)?;
            let flags = be16(&header, ipv4::FRAGMENT)?;
            if header[ipv4::VERSION_IHL] >> 4 != 4 || flags & (IPV4_MF | IPV4_OFFSET) == 0 {
                return None;
            }
            let address = |at| array::<4>(&header, at).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
            let of = Datagram {
                src: address(ipv4::SRC)?,
                dst: address(ipv4::DST)?,
                protocol: header[ipv4::PROTOCOL],
                id: be16(&header, ipv4::ID)?.into(),
            };
            Some(Fragment { l3: l3 as u8, is_first: flags & IPV4_OFFSET == 0, of })
        }
        ETH_IPV6 => {
            let header = array::<IPV6_LEN>(frame, l3)?;
            if header[ipv6::FLOW] >> 4 != 6 || header[ipv6::NEXT_HEADER] != IP_FRAGMENT {
                return None;
            }
            let fragment = array::<8>(frame, l3 + IPV6_LEN)?;
            let address = |at| array::<16>(&header, at).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
            let of = Datagram {
                src: address(ipv6::SRC)?,
                dst: address(ipv6::DST)?,
                protocol: fragment[0],
                id: u32::from_be_bytes(array(&fragment, ID)?),
            };
            Some(Fragment { l3: l3 as u8, is_first: be16(&fragment, OFFSET)? >> 3 == 0, of })
        }
        _ => None,
    }
}

/// Whether the header of the IPv4 packet at `l3` has the right checksum; an IPv6 header has none.
pub fn has_valid_header(frame: &[u8], l3: usize) -> bool {
    match frame.get(l3).map(|first| (first >> 4, usize::from(first & 0xf) * 4)) {
        Some((4, len)) => frame.get(l3..l3 + len).is_some_and(checksum::ipv4_header_is_valid),
        Some((6, _)) => true,
        _ => false,
    }
}

/// Writes the checksum of the IPv4 header at `l3`; of another packet nothing.
pub fn fill_header_checksum(frame: &mut [u8], l3: usize) {
    let Some(len) = frame.get(l3).filter(|first| **first >> 4 == 4).map(|first| usize::from(first & 0xf) * 4)
    else {
        return;
    };
    if let Some(header) = frame.get_mut(l3..l3 + len) {
        put(header, ipv4::CHECKSUM, [0, 0]);
        let sum = checksum::ipv4_header(header);
        put(header, ipv4::CHECKSUM, sum.to_be_bytes());
    }
}

/// Writes the identification of a fragment of IPv6 whose IPv6 header begins at `l3`; of another packet nothing.
pub fn set_ipv6_id(frame: &mut [u8], l3: usize, id: u32) {
    if frame.get(l3).is_some_and(|first| first >> 4 == 6)
        && frame.get(l3 + ipv6::NEXT_HEADER) == Some(&IP_FRAGMENT)
    {
        put(frame, l3 + IPV6_LEN + ID, id.to_be_bytes());
    }
}

/// Whether a frame whose IP header begins at `l3` may be sent on in fragments by somebody else than its sender: not IPv6, and not
/// IPv4 with DF. What is not IP has nothing against it.
pub fn may_be_divided(frame: &[u8], dl_type: u16, l3: usize) -> bool {
    match dl_type {
        ETH_IPV4 => be16(frame, l3 + ipv4::FRAGMENT).is_none_or(|flags| flags & IPV4_DF == 0),
        ETH_IPV6 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn v4(flags: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETH_IPV4.to_be_bytes());
        frame.extend([0x45, 0, 0, 28, 0xab, 0xcd]);
        frame.extend(flags.to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0; 8]);
        fill_header_checksum(&mut frame, ETHERNET_LEN);
        frame
    }

    fn v6(offset: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETH_IPV6.to_be_bytes());
        frame.extend([0x60, 0, 0, 0, 0, 16, IP_FRAGMENT, 64]);
        frame.extend([1; 16]);
        frame.extend([2; 16]);
        frame.extend([17, 0]);
        frame.extend(offset.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend([0; 8]);
        frame
    }

    #[test]
    fn fragments_are_known_by_their_headers() {
        assert_eq!(read(&v4(0)), None);
        assert_eq!(read(&v4(IPV4_DF)), None);
        let first = read(&v4(IPV4_MF)).expect("a fragment");
        assert!(first.is_first && first.l3 == 14);
        assert_eq!((first.of.protocol, first.of.id), (17, 0xabcd));
        let later = read(&v4(IPV4_MF | 7)).expect("a fragment");
        assert!(!later.is_first);
        assert_eq!(later.of, first.of);
        assert!(read(&v4(7)).is_some_and(|last| !last.is_first));
        let mut frame = v6(1);
        set_ipv6_id(&mut frame, ETHERNET_LEN, 0x1234_5678);
        let first = read(&frame).expect("a fragment");
        assert!(first.is_first);
        assert_eq!((first.of.protocol, first.of.id), (17, 0x1234_5678));
        assert!(read(&v6(8)).is_some_and(|later| !later.is_first));
        let tagged: Vec<u8> = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        assert_eq!(read(&tagged), Some(Fragment { l3: 18, ..first }));
        for len in 0..frame.len() - 8 {
            assert_eq!(read(&frame[..len]), None, "cut off");
        }
    }

    #[test]
    fn checksums_are_ipv4s() {
        let mut frame = v4(IPV4_MF);
        assert!(has_valid_header(&frame, ETHERNET_LEN));
        frame[ETHERNET_LEN + 8] = 1;
        assert!(!has_valid_header(&frame, ETHERNET_LEN));
        fill_header_checksum(&mut frame, ETHERNET_LEN);
        assert!(has_valid_header(&frame, ETHERNET_LEN));
        assert!(has_valid_header(&v6(1), ETHERNET_LEN));
        assert!(!has_valid_header(&frame, 1000));
    }

    #[test]
    fn who_may_be_divided() {
        let (plain, df) = (v4(0), v4(IPV4_DF));
        assert!(may_be_divided(&plain, ETH_IPV4, 14) && !may_be_divided(&df, ETH_IPV4, 14));
        assert!(!may_be_divided(&v6(0), ETH_IPV6, 14));
        assert!(may_be_divided(&plain, 0x0806, 0));
    }
}
