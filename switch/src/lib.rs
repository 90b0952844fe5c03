//! vxswitch: a DPDK poll-mode VXLAN switch.
//!
//! - [`datapath`]: what a worker lcore runs, a file a stage.
//! - [`bridge`]: the slow path's world, and the translation of a flow key into a program.
//! - [`tunnel`]: VTEP sockets, routes, neighbours.
//! - [`slowpath`]: the thread that owns all switching state: upcalls, revalidation, ARP.
#![deny(unsafe_code)]

pub mod bridge;
pub mod datapath;
pub mod slowpath;
pub mod tunnel;
