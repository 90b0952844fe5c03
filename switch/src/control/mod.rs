//! The control thread: it owns the desired state, makes the running state so, and answers users.
//!
//! - [`options`], [`machine`], [`hugepages`]: what the daemon is told, and what it runs on.
//! - [`daemon`]: start and stop, and the threads between.
//! - [`plan`]: the difference of two documents. [`device`]: DPDK ports. [`apply`]: makes the difference so.
//! - [`rules`]: flows, groups and meters as text, checked and parsed. [`links`]: which devices have a link.
//! - [`server`] and its handlers: the API. [`metrics`]: Prometheus.

pub mod apply;
pub mod capture;
mod configure;
pub mod daemon;
pub mod device;
mod flows;
mod groups;
pub mod hugepages;
pub mod links;
pub mod machine;
pub mod metrics;
mod operate;
pub mod options;
pub mod plan;
pub mod rules;
pub mod server;
pub mod socket;
pub mod sys;
pub mod totals;
mod views;
