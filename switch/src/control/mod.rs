//! The control thread: it owns the desired state, makes the running state so, and answers users.
//!
//! - [`options`], [`machine`], [`hugepages`], [`socket`], [`sys`]: what the daemon is told, and what it runs on.
//! - [`plan`]: the difference of two documents. [`rules`]: flows, groups and meters as text, checked and parsed.
//!   [`device`]: DPDK ports. [`totals`]: what all workers counted. [`apply`], on these: makes the difference so.
//! - [`app`]: the switch and its counters, for all that serve users. `handlers`, on it: what the API does.
//! - [`server`]: the API's paths. [`metrics`]: Prometheus. [`links`]: which devices have a link.
//! - [`daemon`], on everything: start and stop, and the threads between.
//!
//! Each imports only from those above it; `tests/rooms.rs` keeps it so.

pub mod app;
pub mod apply;
pub mod daemon;
pub mod device;
mod handlers;
pub mod hugepages;
pub mod links;
pub mod machine;
pub mod metrics;
pub mod options;
pub mod plan;
pub mod rules;
pub mod server;
pub mod socket;
pub mod sys;
pub mod totals;
