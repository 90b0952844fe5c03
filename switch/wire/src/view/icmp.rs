//! ICMP for IPv4 (RFC 792, RFC 1191).

use super::{ViewError, header, room};
use crate::bytes::put;
use crate::checksum::{self, Sum};

const WHAT: &str = "ICMP";

/// The ICMP messages that a VTEP address sends and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icmpv4Repr<'a> {
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
    /// Destination unreachable, fragmentation needed and DF set (type 3, code 4).
    FragNeeded {
        /// Next-hop MTU in bytes.
        mtu: u16,
        /// The packet that was too large, from its IP header on; the message holds at most
        /// [`Icmpv4Repr::ORIGINAL_MAX`] bytes of it.
        original: &'a [u8],
    },
}

impl<'a> Icmpv4Repr<'a> {
    /// Bytes of an offending packet that fit into an error of 576 bytes (RFC 1812, section 4.3.2.3).
    pub const ORIGINAL_MAX: usize = 576 - 20 - 8;

    /// Type, code, second half of the first word, and data.
    fn fields(&self) -> ([u8; 2], [u8; 4], &'a [u8]) {
        let halves = |a: u16, b: u16| {
            let ([a0, a1], [b0, b1]) = (a.to_be_bytes(), b.to_be_bytes());
            [a0, a1, b0, b1]
        };
        match *self {
            Icmpv4Repr::EchoRequest { id, seq, data } => ([8, 0], halves(id, seq), data),
            Icmpv4Repr::EchoReply { id, seq, data } => ([0, 0], halves(id, seq), data),
            Icmpv4Repr::FragNeeded { mtu, original } => {
                ([3, 4], halves(0, mtu), original.get(..Self::ORIGINAL_MAX).unwrap_or(original))
            }
        }
    }

    /// Bytes of the message.
    #[allow(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        8 + self.fields().2.len()
    }

    /// Reads and checks an IPv4 packet's payload.
    pub fn parse(bytes: &'a [u8]) -> Result<Icmpv4Repr<'a>, ViewError> {
        let [kind, code, _, _, a0, a1, b0, b1]: [u8; 8] = header(WHAT, bytes)?;
        if !checksum::l4_is_valid(Sum::ZERO, bytes) {
            return Err(ViewError::Checksum(WHAT));
        }
        let (first, second) = (u16::from_be_bytes([a0, a1]), u16::from_be_bytes([b0, b1]));
        let data = bytes.get(8..).unwrap_or(&[]);
        match (kind, code) {
            (8, 0) => Ok(Icmpv4Repr::EchoRequest { id: first, seq: second, data }),
            (0, 0) => Ok(Icmpv4Repr::EchoReply { id: first, seq: second, data }),
            (3, 4) => Ok(Icmpv4Repr::FragNeeded { mtu: second, original: data }),
            _ => Err(ViewError::Malformed {
                what: WHAT,
                expected: "an echo or a fragmentation-needed message",
            }),
        }
    }

    /// Writes the message.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, ViewError> {
        let (kind, word, data) = self.fields();
        let len = 8 + data.len();
        let out = room(out, len)?;
        put(out, 0, kind);
        put(out, 2, [0, 0]);
        put(out, 4, word);
        out[8..].copy_from_slice(data);
        let sum = checksum::l4(Sum::ZERO, out);
        put(out, 2, sum.to_be_bytes());
        Ok(len)
    }
}
