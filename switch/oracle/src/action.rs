//! What rules and buckets do.

use crate::field::Field;

/// Some adjacent bits of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits {
    /// The field.
    pub field: Field,
    /// The lowest bit.
    pub start: u8,
    /// How many.
    pub count: u8,
}

impl Bits {
    /// All bits of a field.
    pub fn all(field: Field) -> Bits {
        Bits { field, start: 0, count: field.bits() }
    }

    /// The bits' mask, right-aligned.
    pub fn ones(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.count))
    }
}

/// An action of `ovs-actions(7)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// `drop`.
    Drop,
    /// `output:N`, by OpenFlow number.
    Output(u32),
    /// `output:FIELD[A..B]`.
    OutputField(Bits),
    /// `IN_PORT`.
    InPort,
    /// `LOCAL`.
    Local,
    /// `NORMAL`.
    Normal,
    /// `FLOOD`.
    Flood,
    /// `ALL`.
    All,
    /// `resubmit(PORT,TABLE)`.
    Resubmit(Option<u32>, u8),
    /// `goto_table:N`.
    GotoTable(u8),
    /// `set_tunnel:VNI`.
    SetTunnel(u32),
    /// `set_field`, `mod_*`: the bits of the mask.
    Set(Field, u128, u128),
    /// `mod_tp_src` (true) and `mod_tp_dst`, of whatever protocol.
    SetTransport(bool, u16),
    /// `load:VALUE->BITS`.
    Load(u64, Bits),
    /// `move:BITS->BITS`.
    Move(Bits, Bits),
    /// `push_vlan:TPID`.
    PushVlan(u16),
    /// `pop_vlan`.
    PopVlan,
    /// `mod_vlan_vid`.
    ModVlanVid(u16),
    /// `mod_vlan_pcp`.
    ModVlanPcp(u8),
    /// `dec_ttl`.
    DecTtl,
    /// `group:N`.
    Group(u32),
    /// `clone(...)`.
    Clone(Vec<Action>),
}
