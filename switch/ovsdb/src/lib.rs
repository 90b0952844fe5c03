//! A client of an Open vSwitch database (RFC 7047 and `ovsdb-server(7)`): it holds a lock, keeps a replica of some
//! tables and columns, and writes back.
//!
//! [`Session`] is the protocol without I/O; [`Client`] connects, comes back with growing delays when the server goes
//! away, and answers the server's probes. [`rows`] has the tables of the `Open_vSwitch` database as types.
#![deny(unsafe_code)]

mod client;
mod frame;
mod replica;
mod session;
mod target;
mod transaction;
mod value;

pub mod rows;

pub use client::{Client, Event};
pub use replica::{Replica, Row};
pub use session::{Input, Monitored, Outcome, Session, SessionError};
pub use target::{Target, TargetError};
pub use transaction::Transaction;
pub use value::{Atom, Datum, Uuid, ValueError};
