//! Virtio-net, as taps and vhost-user ports speak it: the header before each frame, and the rings in a guest's memory.
//! Nothing here knows of DPDK's devices, so that hostile bytes can be tried on it in memory of a test's own.

pub mod header;
mod memory;
mod ring;

pub use header::{Header, Received};
pub use memory::{Memory, Piece, Region};
pub use ring::{Addresses, Broken, MAX_CHAIN, SplitRing};
