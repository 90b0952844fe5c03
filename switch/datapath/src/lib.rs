//! What a worker lcore runs. A packet goes through the files in this order:
//!
//! [`worker`] (rx) -> [`parse`] -> [`lookup`] -> [`act`] -> [`tx`]
//!
//! One straight line and one driver ([`worker::Worker::poll`]): a stage works on the whole burst before the next one
//! starts. A [`Worker`] owns all that it touches on the way; it does not lock, allocate, log, or wait, and no system calls are
//! made but those of device drivers. The slow path reaches it through the queues of [`message::Link`] only, and [`command`]
//! carries out what comes down. What stages share lies under them: [`batch`] (a burst and its packets' metadata),
//! [`pipeline`], [`programs`], [`adjacency`], [`hold`], [`counters`], [`dropped`], [`meter`], [`termination`], and, for packets that are
//! larger than what is sent, [`offload`], [`gro`], [`gso`], [`fragments`], [`too_big`].
//!
//! # What a packet can cost
//! Speed-ups are variants inside of a stage, chosen by the burst at hand and never by its history. From cheap to dear, in
//! instructions on one machine:
//!
//! 1. **By the in-port alone** (50; 120 out of a tunnel; 150 into one): all traffic of the port is one megaflow. The frame
//!    is not read, unless a header has to be put in front of it.
//! 2. **By the hot key** (230 and up): ordinary frames, IPv4 with TCP or UDP, in the port's one or two subtables, or in the
//!    flow cache where it has more.
//! 3. **By the whole key** (some hundreds): frames of other kinds, and megaflows that look at other fields. In a burst of
//!    ordinary frames such a packet is a hole: it is looked up by itself, and the others stay what they are.
//! 4. **By the slow path** (microseconds): no megaflow matches. The packet is held, and the others go on.
//!
//! Parse and act have their own three: the same header as another packet of the burst, one branch for an ordinary packet,
//! and the general path. A packet that enters a bridge again ([`pipeline::Reentry`]) costs a second time.
//!
//! # What holds on every path
//! | invariant | the test that would catch its break |
//! |---|---|
//! | what is sent is what a plain interpreter of the same rules sends | `switch/tests/oracle` |
//! | fast and general paths do the same to every packet | `switch/tests/paths.rs` |
//! | the readers agree: same header, fast path, general path | `switch/wire/tests/parse.rs`, `switch/wire/tests/tunnel.rs` |
//! | a hot key finds what the whole key finds | `flow::cache::lookup`, `flow::megaflow` (property tests) |
//! | a packet is sent, held, or freed under a counted reason; after a stop the pool is full | `switch/tests/rings` (each test) |
//! | packets of a flow stay in order, also behind held ones | `switch/tests/switching.rs`, `switch/tests/oracle` |
//! | what does not hold as expected frees the packet ([`flow::drop::DropReason::Internal`]) and never sends it another way | `act` by sub-drains; `switch/tests/fail_closed.rs` |
//! | packets of several segments are treated as those of one | `switch/tests/segments.rs` |
//! | nothing is decapsulated that its bridge would not send to LOCAL | `switch/tests/underlay.rs` |
//! | a worker does not allocate | `switch/tests/allocation.rs` |

mod act;
pub mod adjacency;
pub mod batch;
mod command;
pub mod counters;
pub mod dropped;
mod fragments;
mod gro;
pub mod gso;
pub mod hold;
mod lookup;
pub mod message;
pub mod meter;
pub mod offload;
mod parse;
mod pipeline;
mod programs;
pub mod retry;
pub mod termination;
mod too_big;
pub mod tx;
mod worker;

pub use act::set_field;
pub use worker::{Worker, WorkerConfig};

use flow::program::MAX_PORTS;

/// Packets taken from an RX queue at a time.
pub const BURST: usize = 32;
/// Adjacencies that a worker has room for: tunnels times their remotes.
pub const MAX_ADJACENCIES: usize = 65_536;
/// RX queues that a worker can poll.
const MAX_RX_QUEUES: usize = 4 * MAX_PORTS;

const _: () = assert!(BURST == flow::megaflow::BURST, "a burst is looked up as a whole");
const _: () = assert!(BURST <= batch::MASK_BITS, "a set of packets has one bit for each");
const _: () = assert!(BURST <= tx::TX_BURST, "a burst is staged as a whole");
