//! The rule language: OpenFlow matches and actions in `ovs-ofctl` syntax (`ovs-fields(7)`,
//! `ovs-actions(7)`).

mod error;
mod key;

pub use error::ParseError;
pub use key::{MATCH_WORDS, Match, MatchKey};
