//! The daemon and `vxctl` as users start them, on devices that need neither root nor hugepages.

#[path = "../support/mod.rs"]
mod support;

mod bounded;
mod changes;
mod compare;
mod database;
mod drops;
mod dumpcap;
mod health;
mod keeping;
mod lifecycle;
mod looking;
mod metrics;
mod openflow;
mod page;
mod ports;
mod rules;
mod running;
mod tlvs;
mod vhost;
mod words;
mod workers;
