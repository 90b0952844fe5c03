//! The lower half of [`crate::TapPort`]: the kernel's interface, and queues that move frames with virtio headers.

pub(crate) mod kernel;
pub(crate) mod queue;
mod wake;

pub(crate) use queue::{TapRx, TapTx};
