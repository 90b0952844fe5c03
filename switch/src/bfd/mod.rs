//! BFD (RFC 5880, asynchronous mode; RFC 5881) between the ends of a port's path: whether the other end is there.
//!
//! Pure: [`session`] is the state machine, to which packets and the time are given; [`frame`] is how its packets look as
//! Ethernet frames. Who owns the sessions, and when they act, is the slow path's business.

pub mod frame;
pub mod session;
#[cfg(test)]
mod tests;
