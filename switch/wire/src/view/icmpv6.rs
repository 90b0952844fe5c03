//! ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use super::ip::pseudo;
use super::{ViewError, header, room};
use crate::addr::MacAddr;
use crate::bytes::{array, put};
use crate::checksum;
use crate::proto::{IP_ICMPV6, ND_ADVERT, ND_OPT_SLL, ND_OPT_TLL, ND_SOLICIT};
use core::net::Ipv6Addr;

const WHAT: &str = "ICMPv6";
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// All nodes of the link (RFC 4291, section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node multicast address of `target` (RFC 4291, section 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet address of an IPv6 multicast address (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// The ICMPv6 messages that a VTEP address sends and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmpv6Repr<'a> {
    /// Echo request.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// What is to be sent back.
        data: &'a [u8],
    },
    /// Echo reply.
    EchoReply {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// What came.
        data: &'a [u8],
    },
    /// Packet too big.
    PacketTooBig {
        /// MTU of the next hop in bytes.
        mtu: u32,
        /// The packet, from its IPv6 header on; the message holds at most [`Icmpv6Repr::ORIGINAL_MAX`] bytes.
        original: &'a [u8],
    },
    /// Who has the target address?
    NeighbourSolicit {
        /// The address asked for.
        target: Ipv6Addr,
        /// Link-layer address of the sender; none from the unspecified address.
        sll: Option<MacAddr>,
    },
    /// The sender has the target address.
    NeighbourAdvert {
        /// The address told of.
        target: Ipv6Addr,
        /// The sender is a router.
        router: bool,
        /// Answers a solicitation.
        solicited: bool,
        /// Replaces what is cached.
        overrides: bool,
        /// Link-layer address of the target.
        tll: Option<MacAddr>,
    },
}

impl<'a> Icmpv6Repr<'a> {
    /// Bytes of an offending packet that fit into an error within the minimum MTU, 1280 bytes.
    pub const ORIGINAL_MAX: usize = 1280 - 40 - 8;

    /// Bytes of the message.
    #[allow(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        8 + match self {
            Icmpv6Repr::EchoRequest { data, .. } | Icmpv6Repr::EchoReply { data, .. } => data.len(),
            Icmpv6Repr::PacketTooBig { original, .. } => original.len().min(Self::ORIGINAL_MAX),
            Icmpv6Repr::NeighbourSolicit { sll: option, .. }
            | Icmpv6Repr::NeighbourAdvert { tll: option, .. } => 16 + if option.is_some() { 8 } else { 0 },
        }
    }

    /// Reads and checks an IPv6 packet's payload. `hop_limit` is that of the packet: neighbour discovery that may
    /// have come through a router (other than 255) is refused, as RFC 4861, section 7.1, asks.
    pub fn parse(
        bytes: &'a [u8],
        src: Ipv6Addr,
        dst: Ipv6Addr,
        hop_limit: u8,
    ) -> Result<Icmpv6Repr<'a>, ViewError> {
        let [kind, code, _, _, a, b, c, d]: [u8; 8] = header(WHAT, bytes)?;
        if !checksum::l4_is_valid(pseudo(src.into(), dst.into(), IP_ICMPV6, bytes.len()), bytes) {
            return Err(ViewError::Checksum(WHAT));
        }
        let (id, seq) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let data = bytes.get(8..).unwrap_or(&[]);
        match (kind, code) {
            (128, 0) => Ok(Icmpv6Repr::EchoRequest { id, seq, data }),
            (129, 0) => Ok(Icmpv6Repr::EchoReply { id, seq, data }),
            (2, _) => Ok(Icmpv6Repr::PacketTooBig { mtu: u32::from_be_bytes([a, b, c, d]), original: data }),
            (ND_SOLICIT | ND_ADVERT, 0) => {
                if hop_limit != 255 {
                    return Err(ViewError::Malformed { what: WHAT, expected: "hop limit 255 for discovery" });
                }
                let target: [u8; 16] = header("ND target", data)?;
                if target[0] == 0xff {
                    return Err(ViewError::Malformed { what: WHAT, expected: "a unicast target" });
                }
                let target = Ipv6Addr::from(target);
                if kind == ND_SOLICIT {
                    return Ok(Icmpv6Repr::NeighbourSolicit { target, sll: option(data, ND_OPT_SLL)? });
                }
                Ok(Icmpv6Repr::NeighbourAdvert {
                    target,
                    router: a & FLAG_ROUTER != 0,
                    solicited: a & FLAG_SOLICITED != 0,
                    overrides: a & FLAG_OVERRIDE != 0,
                    tll: option(data, ND_OPT_TLL)?,
                })
            }
            _ => Err(ViewError::Malformed { what: WHAT, expected: "an echo, too-big or neighbour message" }),
        }
    }

    /// Writes the message of a packet from `src` to `dst`.
    pub fn emit(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<usize, ViewError> {
        let len = self.len();
        let out = room(out, len)?;
        out[..8].fill(0);
        match *self {
            Icmpv6Repr::EchoRequest { id, seq, data } | Icmpv6Repr::EchoReply { id, seq, data } => {
                out[0] = if matches!(self, Icmpv6Repr::EchoRequest { .. }) { 128 } else { 129 };
                put(out, 4, id.to_be_bytes());
                put(out, 6, seq.to_be_bytes());
                out[8..].copy_from_slice(data);
            }
            Icmpv6Repr::PacketTooBig { mtu, original } => {
                out[0] = 2;
                put(out, 4, mtu.to_be_bytes());
                out[8..].copy_from_slice(original.get(..len - 8).unwrap_or(original));
            }
            Icmpv6Repr::NeighbourSolicit { target, sll } => {
                out[0] = ND_SOLICIT;
                put(out, 8, target.octets());
                put_option(out, ND_OPT_SLL, sll);
            }
            Icmpv6Repr::NeighbourAdvert { target, router, solicited, overrides, tll } => {
                out[0] = ND_ADVERT;
                out[4] = if router { FLAG_ROUTER } else { 0 }
                    | if solicited { FLAG_SOLICITED } else { 0 }
                    | if overrides { FLAG_OVERRIDE } else { 0 };
                put(out, 8, target.octets());
                put_option(out, ND_OPT_TLL, tll);
            }
        }
        let sum = checksum::l4(pseudo(src.into(), dst.into(), IP_ICMPV6, len), out);
        put(out, 2, sum.to_be_bytes());
        Ok(len)
    }
}

fn put_option(out: &mut [u8], kind: u8, mac: Option<MacAddr>) {
    if let Some(mac) = mac {
        put(out, 24, [kind, 1]);
        put(out, 26, mac.0);
    }
}

/// The first link-layer address of `kind` among the options behind the target. A malformed option voids the
/// message (RFC 4861, section 7.1: every option has a length greater than zero).
fn option(data: &[u8], kind: u8) -> Result<Option<MacAddr>, ViewError> {
    let mut at = 16;
    let mut found = None;
    while let Some([this, units, mac @ ..]) = array::<8>(data, at) {
        let len = usize::from(units) * 8;
        if len == 0 || len > data.len() - at {
            return Err(ViewError::Malformed { what: WHAT, expected: "options within the message" });
        }
        if this == kind && len == 8 && found.is_none() {
            found = Some(MacAddr(mac));
        }
        at += len;
    }
    Ok(found)
}
