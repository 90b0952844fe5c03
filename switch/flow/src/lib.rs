//! Flows: megaflow table and flow cache (what a worker looks packets up in), action programs (what it
//! then does with them), rules and their classifier (what the slow path makes them from).
//!
//! Knows nothing of DPDK, so property tests, fuzzers and Miri run on it directly.
#![deny(unsafe_code)]

pub mod cache;
pub mod classifier;
pub mod drop;
pub mod hash;
pub mod megaflow;
pub mod ofp;
pub mod program;
pub mod stats;

mod prefetch;
