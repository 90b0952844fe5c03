//! Groups: what `group:N` sends a packet to (`ovs-ofctl(8)`, "Group Syntax").

use super::action::Action;

/// What a group does with its buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GroupKind {
    /// Every bucket, each on a copy.
    All,
    /// One bucket, by the flow's hash and the buckets' weights.
    Select,
    /// The only bucket.
    Indirect,
    /// The first bucket whose watched port (or group) is alive.
    FastFailover,
}

/// A bucket of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// `bucket_id`, unique in the group; without one in the text, the bucket's position.
    pub id: u32,
    /// `weight`, for `select`: 0 is never chosen. Default 100 there, as in OVS.
    pub weight: u16,
    /// `watch_port`: OpenFlow number of the port that must be alive.
    pub watch_port: Option<u32>,
    /// `watch_group`: the group that must be alive.
    pub watch_group: Option<u32>,
    /// What it does: never empty.
    pub actions: Vec<Action>,
}

/// A group as a user writes it, for `add-group`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSpec {
    /// 0 to 4294967040.
    pub id: u32,
    /// `type`.
    pub kind: GroupKind,
    /// In the order of the text. `indirect` has exactly one.
    pub buckets: Vec<Bucket>,
}
