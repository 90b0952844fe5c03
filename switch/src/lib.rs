//! vxswitch: a DPDK poll-mode VXLAN switch.
//!
//! - [`datapath`]: what a worker lcore runs, a file a stage.
//! - [`bridge`]: the slow path's world, and the translation of a flow key into a program.
//! - [`tunnel`]: VTEP sockets, routes, neighbours.
//! - [`slowpath`]: the thread that owns all switching state: upcalls, revalidation, ARP.
//! - [`control`]: desired state to running state, the control API, metrics, start and stop.
//! - [`api`]: what the control API says, shared by the daemon and `vxctl`.
//! - [`ctl`]: the command line of a running switch, `vxctl`.
#![deny(unsafe_code)]

pub mod api;
pub mod bridge;
pub mod control;
pub mod ctl;
pub mod datapath;
pub mod slowpath;
pub mod tunnel;
