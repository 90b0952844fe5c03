//! The oracle: what a switch with a given state does with a frame, in the plainest way that can be written down.
//!
//! It interprets rules, groups, NORMAL, patch ports, mirrors and tunnels one packet at a time, on the bytes of the
//! packet, without a cache, a mask or a compiled program. A property test of the switch compares the two, so
//! nothing here is shared with it, not even `wire`.
//! It is slow, and only tests use it.
//!
//! [`World::receive`] is the way in.

pub mod action;
pub mod checksum;
pub mod field;
mod mirror;
mod normal;
pub mod packet;
pub mod parse;
pub mod pipeline;
mod rewrite;
pub mod tunnel;
pub mod world;

pub use action::{Action, Bits};
pub use field::{Field, Fields};
pub use pipeline::{Choices, Output, Outputs};
pub use world::{Bridge, Bucket, Entry, Group, GroupKind, Kind, Mirror, Port, Rule, Vlan, VlanMode, World};
