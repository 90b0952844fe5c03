//! EVPN through FRR. For each VNI there are shadow devices in the kernel (a bridge, a `vxlan` device and an advertise
//! port), which carry no packets: zebra writes what BGP says about remote VTEPs and MAC addresses into their forwarding
//! databases and neighbour tables, and reads from there what the switch knows locally. This crate makes the devices and
//! keeps both sides equal. No DPDK.

#![deny(unsafe_code)]

mod devices;
pub mod hosts;
pub mod netlink;
mod shadow;
pub mod table;
mod zebra;

pub use netlink::Error;
pub use shadow::{Shadow, Times};
