//! Safe DPDK 22.11 at no cost: what the datapath needs, sound by type.
//!
//! - [`Eal`] starts once a process; [`Lcore`]s are handed out once and give back what ran on them.
//! - [`Mempool`] is a counted handle that frees its pool only when every mbuf came home.
//! - [`Mbuf`] owns its packet; [`Burst`] is an array of them that is freed in bulk.
//! - [`port`] probes ethdevs; starting one gives a [`PortHandle`] for control and the [`RxQueue`]s and [`TxQueue`]s
//!   for polling. When the last of these goes, the device is stopped and closed.
//! - [`ring`] makes ethdevs out of rings, for tests.
//! - [`PacketFilter`] is a filter in tcpdump's words, by the libpcap that DPDK brings.
//!
//! # What the types forbid
//!
//! Two threads cannot poll one queue: it is not `Clone`, and polling needs `&mut`.
//! ```compile_fail,E0499
//! fn two_pollers(queue: &mut rte::RxQueue) {
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| queue.rx_burst(&mut rte::Burst::<32>::new()));
//!         scope.spawn(|| queue.rx_burst(&mut rte::Burst::<32>::new()));
//!     });
//! }
//! ```
//! The same with one of them is fine:
//! ```no_run
//! fn one_poller(queue: &mut rte::RxQueue) {
//!     std::thread::scope(|scope| {
//!         scope.spawn(|| queue.rx_burst(&mut rte::Burst::<32>::new()));
//!     });
//! }
//! ```
//! A queue cannot be cloned:
//! ```compile_fail,E0599
//! fn copy(queue: &rte::TxQueue) -> rte::TxQueue { queue.clone() }
//! ```
//! An mbuf that was given away to be sent is out of reach:
//! ```compile_fail,E0382
//! fn use_after_send(queue: &mut rte::TxQueue, mbuf: rte::Mbuf, burst: &mut rte::Burst<32>) {
//!     let _ = burst.push(mbuf);
//!     queue.tx_burst(burst);
//!     let _ = mbuf.len();
//! }
//! ```
//! And nothing can look into a burst while it is being sent:
//! ```compile_fail,E0502
//! fn peek(queue: &mut rte::TxQueue, burst: &mut rte::Burst<32>) {
//!     let first = &burst[0];
//!     queue.tx_burst(burst);
//!     let _ = first.len();
//! }
//! ```
//! A packet's bytes cannot outlive it:
//! ```compile_fail,E0597
//! fn dangling(pool: &rte::Mempool) {
//!     let bytes;
//!     { let mbuf = pool.alloc().unwrap(); bytes = mbuf.data(); }
//!     let _ = bytes.len();
//! }
//! ```

mod alive;
pub mod burst;
mod counters;
mod device;
pub mod eal;
pub mod error;
mod ethdev;
mod ethtool;
pub mod filter;
pub mod ip_frag;
pub mod lcore;
mod log;
pub mod mbuf;
pub mod mempool;
pub mod offload;
mod packet;
pub mod pdump;
pub mod port;
pub mod queue;
pub mod ring;
mod sanitize;
mod tap;
#[cfg(test)]
mod testing;
pub mod time;
mod vhost;
pub mod virtio;
mod xdp;

pub use burst::Burst;
pub use eal::Eal;
pub use error::{Errno, Error};
pub use filter::PacketFilter;
pub use ip_frag::Reassembly;
pub use lcore::{Lcore, Panicked, Running, lcore_id};
pub use mbuf::Mbuf;
pub use mempool::Mempool;
pub use offload::TxOffload;
pub use pdump::PacketDump;
pub use port::{
    PortConfig, PortHandle, PortId, Release, TapConfig, TapPort, VhostConfig, VhostMode, VhostPort,
};
pub use queue::{RxQueue, TxQueue};
pub use ring::Ring;
pub use time::{cycles, prefetch, tsc_hz};

/// Compile-time proof of who may cross threads.
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<Mbuf>();
    send::<Burst<32>>();
    send::<RxQueue>();
    send::<TxQueue>();
    send::<VhostPort>();
    sync::<VhostPort>();
    send::<PortHandle>();
    sync::<PortHandle>();
    send::<Mempool>();
    sync::<Mempool>();
    send::<Reassembly>();
    send::<Ring>();
    sync::<Ring>();
    send::<Lcore>();
    sync::<Eal>();
    send::<PacketFilter>();
    sync::<PacketFilter>();
    send::<Error>();
    sync::<Error>();
    assert!(size_of::<Mbuf>() == size_of::<*mut ()>());
    assert!(size_of::<Option<Mbuf>>() == size_of::<*mut ()>());
};
