//! Tunnels: VTEP sockets and the vxlan ports behind them, routes, neighbours, encapsulation headers.

pub mod neighbour;
pub mod route;
