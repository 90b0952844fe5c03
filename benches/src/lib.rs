//! What the measuring programs share: the traffic that they make, and files of it.
//!
//! - `src/bin/compare`: testpmd, OVS-DPDK and vxswitch on the same devices and the same traffic.
//! - `src/bin/loop.rs`: the datapath alone, in one process, for callgrind.
//! - `benches/`: single steps, in nanoseconds and instructions.

pub mod callgrind;
pub mod pcap;
pub mod steps;
pub mod traffic;
