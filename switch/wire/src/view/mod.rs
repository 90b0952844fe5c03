//! Headers as the slow path reads and writes them: an owned `Repr` for each, with a checked `parse` from
//! bytes and an `emit` into the caller's buffer, and `build_*` functions that write whole frames.
//!
//! `parse` answers with the representation and the payload, cut to what the header says; checksums are
//! verified. `emit` answers with the number of bytes written. Frames are not padded to Ethernet's minimum:
//! devices do that.

mod arp;
mod bfd;
mod build;
mod icmp;
mod icmpv6;
mod ip;
mod membership;

pub use arp::{ArpOp, ArpRepr};
pub use bfd::{BfdControl, BfdDiagnostic, BfdState};
pub use build::{
    build_arp, build_arp_request, build_icmpv4, build_icmpv6, build_neighbour_solicit, build_udp,
};
pub use icmp::Icmpv4Repr;
pub use icmpv6::{ALL_NODES, Icmpv6Repr, multicast_mac, solicited_node};
pub use ip::{Ipv4Repr, Ipv6Repr, UdpRepr};
pub use membership::{
    ALL_SYSTEMS, GroupMessage, GroupRecords, GroupReport, GroupVersion, MLD_DONE, MLD_QUERY, MLD_REPORT,
    MLDV2_REPORT, build_group_report, group_mac,
};

use crate::addr::MacAddr;
use crate::bytes::{array, be16, put};
use crate::proto::{ETH_VLAN, ETHERNET_LEN, VLAN_LEN};

/// Bytes cannot be read as, or a header cannot be written to, what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The bytes end too early.
    #[error("{what}: expected at least {needed} bytes, not {got}")]
    Truncated {
        /// The header.
        what: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// A field has a value that makes the rest meaningless.
    #[error("{what}: expected {expected}")]
    Malformed {
        /// The header.
        what: &'static str,
        /// What the field should be.
        expected: &'static str,
    },
    /// The checksum is wrong.
    #[error("{0}: wrong checksum")]
    Checksum(&'static str),
    /// The output buffer is too small.
    #[error("expected room for {needed} bytes, not {got}")]
    NoRoom {
        /// Bytes to be written.
        needed: usize,
        /// Bytes of the buffer.
        got: usize,
    },
    /// The payload does not fit the header's length field.
    #[error("{what}: expected a payload of at most {max} bytes")]
    TooLong {
        /// The header.
        what: &'static str,
        /// The longest payload.
        max: usize,
    },
}

/// The first `needed` bytes of `out`.
fn room(out: &mut [u8], needed: usize) -> Result<&mut [u8], ViewError> {
    let got = out.len();
    out.get_mut(..needed).ok_or(ViewError::NoRoom { needed, got })
}

/// The first `N` bytes of `bytes`.
fn header<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], ViewError> {
    array(bytes, 0).ok_or(ViewError::Truncated { what, needed: N, got: bytes.len() })
}

/// An Ethernet header, untagged or with one 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EthernetRepr {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// TCI (priority, DEI, VLAN ID) of an 802.1Q tag.
    pub vlan_tci: Option<u16>,
    /// EtherType of the payload.
    pub ethertype: u16,
}

impl EthernetRepr {
    /// Bytes of the header: 14, or 18 with a tag.
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        if self.vlan_tci.is_some() { ETHERNET_LEN + VLAN_LEN } else { ETHERNET_LEN }
    }

    /// Reads the header and at most one tag; a second one is left in the payload.
    pub fn parse(frame: &[u8]) -> Result<(EthernetRepr, &[u8]), ViewError> {
        let head: [u8; ETHERNET_LEN] = header("Ethernet", frame)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = head;
        let mut repr = EthernetRepr {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            vlan_tci: None,
            ethertype: u16::from_be_bytes([t0, t1]),
        };
        if repr.ethertype == ETH_VLAN {
            let truncated =
                ViewError::Truncated { what: "802.1Q", needed: ETHERNET_LEN + VLAN_LEN, got: frame.len() };
            repr.vlan_tci = Some(be16(frame, 14).ok_or(truncated)?);
            repr.ethertype = be16(frame, 16).ok_or(truncated)?;
        }
        let payload = frame.get(repr.len()..).unwrap_or(&[]);
        Ok((repr, payload))
    }

    /// Writes the header.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, ViewError> {
        let len = self.len();
        let out = room(out, len)?;
        put(out, 0, self.dst.0);
        put(out, 6, self.src.0);
        if let Some(tci) = self.vlan_tci {
            put(out, 12, ETH_VLAN.to_be_bytes());
            put(out, 14, tci.to_be_bytes());
        }
        put(out, len - 2, self.ethertype.to_be_bytes());
        Ok(len)
    }

    /// The header of an answer: back to the sender, from `own`, with the same tag and EtherType.
    #[must_use]
    pub const fn reply_from(&self, own: MacAddr) -> EthernetRepr {
        EthernetRepr { dst: self.src, src: own, ..*self }
    }
}
