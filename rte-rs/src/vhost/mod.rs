//! The lower half of [`crate::VhostPort`]: connections of librte_vhost, and queues over the rings in a guest's memory.
//!
//! librte_vhost speaks the vhost-user protocol and maps the guest's memory; the rings are ours ([`crate::virtio`]), because its
//! own functions for packets lose where a partial checksum begins, write to the packets that they send, and give pseudo
//! header sums of large segments that a guest cannot forward.

mod connection;
mod fault;
mod features;
mod message;
mod queue;
mod sockets;

pub use connection::VhostGuest;
pub(crate) use connection::{Shared, VRINGS};
pub(crate) use queue::{VhostRx, VhostTx};
