//! Tunnels: the ports that encapsulate, the remote VTEPs behind them, and how packets get there: routes, neighbours,
//! next hops and the adjacencies made of them.
//!
//! [`Tunnels`] holds all that changes by itself. It is a state machine: time comes in as an argument, what is to be
//! done comes out as [`Event`]s, and of the bridges that tunnels run over it sees what [`Underlay`] shows.

pub mod adjacency;
pub mod membership;
pub mod neighbour;
pub mod next_hop;
mod path_mtu;
pub mod port;
pub mod route;
mod tunnels;
pub mod underlay;

pub use tunnels::{Event, Tunnels};
pub use underlay::{EgressDecision, Network, Underlay};
