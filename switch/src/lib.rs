//! vxswitch: a DPDK poll-mode VXLAN switch.
//!
//! What a worker lcore runs is the crate `datapath`; this one has the rest of the daemon:
//!
//! - [`bridge`]: ports, FDB, rule tables, and the translation of a flow key into a program.
//! - [`bfd`]: whether the other end of a port's path is there.
//! - [`tunnel`]: routes, neighbours.
//! - [`slowpath`]: the thread that owns all switching state: upcalls, revalidation, ARP.
//! - [`control`]: desired state to running state, the control API, metrics, start and stop.
#![deny(unsafe_code)]

pub mod bfd;
pub mod bridge;
pub mod control;
pub mod slowpath;
pub mod tunnel;
