//! Control packets as the frames that Open vSwitch sends: UDP over IPv4 with a TTL of 255, by which the receiver knows that no
//! router was between (RFC 5881, section 5).

use config::BfdOptions;
use wire::addr::MacAddr;
use wire::proto::{ETH_IPV4, IP_UDP};
use wire::view::{BfdControl, EthernetRepr, Ipv4Repr, UdpRepr, ViewError};

/// Bytes of the longest frame.
pub const LEN: usize = 14 + Ipv4Repr::LEN + UdpRepr::LEN + BfdControl::LEN;
const TTL: u8 = 255;
/// Internetwork control.
const TOS: u8 = 0xc0;

/// Writes a frame; `bridge` is the source address where the settings have none, `src_port` one of 49152 to 65535.
pub fn build(
    out: &mut [u8],
    options: &BfdOptions,
    bridge: MacAddr,
    src_port: u16,
    control: &BfdControl,
) -> Result<usize, ViewError> {
    let eth = EthernetRepr {
        dst: options.local_dst_mac,
        src: options.local_src_mac.unwrap_or(bridge),
        vlan_tci: None,
        ethertype: ETH_IPV4,
    };
    let mut payload = [0; BfdControl::LEN];
    let len = control.emit(&mut payload)?;
    let (src, dst) = (options.src_ip, options.dst_ip);
    let ip = Ipv4Repr { src, dst, proto: IP_UDP, tos: TOS, ttl: TTL, id: 0, df: true };
    let mut at = eth.emit(out)?;
    at += ip.emit(out.get_mut(at..).unwrap_or_default(), UdpRepr::LEN + len)?;
    let udp = UdpRepr { src_port, dst_port: BfdControl::PORT };
    at += udp.emit(out.get_mut(at..).unwrap_or_default(), src.into(), dst.into(), &payload)?;
    Ok(at)
}

/// The control packet in a frame that came over one hop.
pub fn parse(frame: &[u8]) -> Result<BfdControl, ViewError> {
    const WHAT: &str = "BFD";
    let (eth, payload) = EthernetRepr::parse(frame)?;
    if eth.ethertype != ETH_IPV4 {
        return Err(ViewError::Malformed { what: WHAT, expected: "IPv4" });
    }
    let (ip, payload) = Ipv4Repr::parse(payload)?;
    if ip.proto != IP_UDP || ip.ttl != TTL {
        return Err(ViewError::Malformed { what: WHAT, expected: "UDP with a TTL of 255" });
    }
    let (udp, payload) = UdpRepr::parse(payload, ip.src.into(), ip.dst.into())?;
    if udp.dst_port != BfdControl::PORT {
        return Err(ViewError::Malformed { what: WHAT, expected: "UDP port 3784" });
    }
    BfdControl::parse(payload)
}
