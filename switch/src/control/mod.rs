//! The control thread: it owns the desired state, makes the running state so, and answers users.
//!
//! - [`options`], [`machine`], [`hugepages`], [`socket`], [`sys`]: what the daemon is told, and what it runs on.
//! - [`plan`]: the difference of two documents. [`rules`]: flows, groups and meters as text, checked and parsed.
//!   [`device`]: DPDK ports; [`faults`]: those that do not run. [`rxq`]: which worker polls which of their queues. [`totals`]: what all workers counted.
//!   [`apply`], on these: makes the difference so. `loads`: what the queues take of the workers' time.
//! - [`pulse`]: whether the threads move. [`ending`]: how they tell each other to end.
//! - [`log`]: what happens. [`file`]: the document on disk.
//! - [`rounds`]: tasks that look again and again, and who waits for them.
//! - [`app`]: the switch and its counters, for all that serve users. `handlers`, on it: what the API does.
//!   `balance`: gives queues to other workers. [`unixctl`]: what `ovs-appctl` asks.
//! - [`serving`]: sockets, bounded in what clients may take. [`server`]: the API's paths. `page`: for browsers. [`metrics`]: Prometheus,
//!   and whether all is well. [`links`]: which devices have a link; [`retry`]: tries those that do not start. [`watch`]: the thread that watches the others.
//! - `giving`: how this process gives its place to another; `taking`: how it takes another's.
//! - [`openflow`]: bridges as `ovs-ofctl` and controllers see them, and their sockets.
//! - [`ovsdb`]: the desired document from an Open vSwitch database, and what is written back.
//! - `run`: what the control thread does. [`threads`]: all of them, from start to end. [`daemon`], on everything: command line, file, memory, exit status.
//!
//! Each imports only from those above it; `tests/rooms.rs` keeps it so.

pub mod app;
pub mod apply;
mod balance;
pub mod daemon;
pub mod device;
pub mod ending;
pub mod evpn;
pub mod faults;
pub mod file;
mod giving;
mod handlers;
pub mod hugepages;
pub mod interface;
mod kernel;
pub mod links;
mod loads;
mod locals;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod openflow;
pub mod options;
pub mod ovsdb;
mod page;
mod pcap;
mod pcapng;
pub mod plan;
pub mod pulse;
pub mod retry;
mod room;
pub mod rounds;
pub mod rules;
mod run;
pub mod rxq;
mod say;
pub mod server;
pub mod serving;
pub mod socket;
pub mod sys;
mod taking;
pub mod threads;
pub mod totals;
pub mod unixctl;
pub mod watch;
