//! The hot key: what lookups and encapsulation want of an ordinary frame (untagged IPv4 without options or fragments,
//! TCP or UDP) without a whole [`FlowKey`](crate::key::FlowKey) being made.

use crate::parse::Common;

/// Words 2 to 5 of the [`FlowKey`](crate::key::FlowKey) of an ordinary frame (untagged IPv4 without options or fragments,
/// TCP or UDP): addresses, EtherType, protocol, TOS, TTL and ports. What lookups and encapsulation want of it without a key.
pub type HotKey = [u64; 4];

/// Reads a frame; `None` when it is not an ordinary one, and [`crate::parse::extract`] is to be asked.
#[inline(always)]
pub fn hot_key(frame: &[u8]) -> Option<HotKey> {
    Some(Common::read(frame)?.words)
}

/// TOS of an ordinary frame.
#[inline(always)]
pub const fn hot_tos(words: &HotKey) -> u8 {
    words[3].to_le_bytes()[5]
}

/// TTL of an ordinary frame.
#[inline(always)]
pub const fn hot_ttl(words: &HotKey) -> u8 {
    words[3].to_le_bytes()[6]
}
