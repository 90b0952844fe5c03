//! ARP for Ethernet and IPv4 (RFC 826).

use super::{ViewError, header, room};
use crate::addr::MacAddr;
use crate::bytes::{part, put};
use core::net::Ipv4Addr;

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOp {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpRepr {
    /// Request or reply.
    pub op: ArpOp,
    /// Sender hardware address.
    pub sha: MacAddr,
    /// Sender protocol address.
    pub spa: Ipv4Addr,
    /// Target hardware address; zero in a request.
    pub tha: MacAddr,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

impl ArpRepr {
    /// Bytes of the packet.
    pub const LEN: usize = 28;

    /// Reads what follows the Ethernet header; padding behind it is ignored.
    pub fn parse(bytes: &[u8]) -> Result<ArpRepr, ViewError> {
        let packet: [u8; Self::LEN] = header("ARP", bytes)?;
        if packet[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(ViewError::Malformed {
                what: "ARP",
                expected: "hardware Ethernet and protocol IPv4",
            });
        }
        let op = match (packet[6], packet[7]) {
            (0, 1) => ArpOp::Request,
            (0, 2) => ArpOp::Reply,
            _ => {
                return Err(ViewError::Malformed {
                    what: "ARP",
                    expected: "opcode 1 (request) or 2 (reply)",
                });
            }
        };
        Ok(ArpRepr {
            op,
            sha: MacAddr(part::<8, 6, 28>(&packet)),
            spa: part::<14, 4, 28>(&packet).into(),
            tha: MacAddr(part::<18, 6, 28>(&packet)),
            tpa: part::<24, 4, 28>(&packet).into(),
        })
    }

    /// Writes the packet.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, ViewError> {
        let out = room(out, Self::LEN)?;
        let op = match self.op {
            ArpOp::Request => 1,
            ArpOp::Reply => 2,
        };
        put(out, 0, [0, 1, 8, 0, 6, 4, 0, op]);
        put(out, 8, self.sha.0);
        put(out, 14, self.spa.octets());
        put(out, 18, self.tha.0);
        put(out, 24, self.tpa.octets());
        Ok(Self::LEN)
    }

    /// The answer to a request: `own` has the target address.
    #[must_use]
    pub const fn reply_from(&self, own: MacAddr) -> ArpRepr {
        ArpRepr { op: ArpOp::Reply, sha: own, spa: self.tpa, tha: self.sha, tpa: self.spa }
    }

    /// Whether the sender tells of its own address unasked (the sender is the target).
    pub fn is_gratuitous(&self) -> bool {
        self.spa == self.tpa
    }
}
