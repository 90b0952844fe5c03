//! The third source of the desired document beside file and `vxctl`: an Open vSwitch database, which `ovs-vsctl` and
//! its like change.
//!
//! [`rows`]: what of the database asks for something. [`document`]: the document that rows ask for, without what
//! cannot be served, of which `unserved` tells, or is wrong and `ignored`. [`report`]: what is written back. [`serve`]: connection, lock, and the order of these.

pub mod document;
mod ignored;
pub mod report;
pub mod rows;
pub mod serve;
mod unserved;
