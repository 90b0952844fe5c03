//! OpenFlow: what `ovs-ofctl` and controllers ask of a bridge.
//!
//! [`bridge`] is a bridge as the protocol sees it, on the slow path's thread, and `ports` describes and counts its ports. [`serve`]
//! has its sockets, `BRIDGE.mgmt` beside the control socket, on which `room` lets a new tool in at the cost of an idle one;
//! [`controllers`] says which controllers it shall have, `reach` keeps the connections to them, `connection` is one of either
//! kind, and `packets` what rules send to CONTROLLER for it. `follow` sees what happens without a connection's doing: rules
//! that time out, ports that change; `news` says it. `snoop` shows what is said to controllers, on `BRIDGE.snoop`. Rules that
//! come this way are the same as those of the document, which learns of them when it is next asked for
//! ([`App::desired`](super::app::App::desired)).

pub mod bridge;
mod connection;
pub mod controllers;
mod follow;
mod news;
mod packets;
mod ports;
mod reach;
pub mod serve;
mod snoop;
mod tlvs;
