//! What a rule does: the typed form of `ovs-actions(7)`.

use super::field::{Field, Subfield};
use super::port::{PORT_ALL, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_NORMAL};

/// Where a packet is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortRef {
    /// A port by its OpenFlow number, at most [`PORT_MAX`](super::PORT_MAX).
    Port(u32),
    /// Back out of the port it came in by.
    InPort,
    /// The bridge's own port.
    Local,
    /// What a learning switch would do.
    Normal,
    /// All ports that flood, but the packet's own.
    Flood,
    /// All ports but the packet's own.
    All,
    /// A copy to whoever listens: at most `max_len` bytes of it, 65535 for all.
    Controller {
        /// Bytes.
        max_len: u16,
    },
}

impl PortRef {
    /// The OpenFlow number of the port, reserved ones included.
    pub fn number(self) -> u32 {
        match self {
            PortRef::Port(number) => number,
            PortRef::InPort => PORT_IN_PORT,
            PortRef::Local => PORT_LOCAL,
            PortRef::Normal => PORT_NORMAL,
            PortRef::Flood => PORT_FLOOD,
            PortRef::All => PORT_ALL,
            PortRef::Controller { .. } => PORT_CONTROLLER,
        }
    }
}

/// A step of what a rule does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Nothing; always alone in its list.
    Drop,
    /// `output:PORT` and the reserved ports' own actions.
    Output(PortRef),
    /// `output:FIELD[a..b]`: to the port whose number the bits hold.
    OutputField(Subfield),
    /// `set_tunnel:VNI`, at most 24 bits.
    SetTunnel(u64),
    /// `resubmit(port,table)`: look up again, as if from `port`, in `table`; `None`: as it is now.
    Resubmit {
        /// OpenFlow number to look up with.
        port: Option<u32>,
        /// Table to look up in.
        table: Option<u8>,
    },
    /// `goto_table:N`; always the last of its list, and of a higher table than the rule's own.
    GotoTable(u8),
    /// `set_field:VALUE/MASK->FIELD`, `mod_dl_src` and the like. A `mod_*` action without its field's
    /// prerequisite in the match has no effect on packets that do not meet it.
    SetField {
        /// The field.
        field: Field,
        /// New value of the bits in `mask`, right-aligned, zero outside it.
        value: u128,
        /// Bits to change; [`FieldInfo::exact`](super::FieldInfo::exact) for all of them.
        mask: u128,
    },
    /// `load:VALUE->FIELD[a..b]`.
    Load {
        /// Fits `to`.
        value: u64,
        /// The bits to set.
        to: Subfield,
    },
    /// `move:FIELD[a..b]->FIELD[c..d]`, as many bits from as to.
    Move {
        /// The bits to read.
        from: Subfield,
        /// The bits to set.
        to: Subfield,
    },
    /// `push_vlan:ETHERTYPE`: a new outermost tag, 0x8100 or 0x88a8.
    PushVlan(u16),
    /// `pop_vlan`, `strip_vlan`: takes the outermost tag off, if there is one.
    PopVlan,
    /// `mod_vlan_vid:N`: sets the VLAN ID, of a new tag if there is none.
    ModVlanVid(u16),
    /// `mod_vlan_pcp:N`: sets the VLAN priority, of a new tag if there is none.
    ModVlanPcp(u8),
    /// `dec_ttl`: TTL or hop limit less one; a packet whose it is 1 or less goes no further.
    DecTtl,
    /// `group:N`.
    Group(u32),
    /// `meter:N`.
    Meter(u32),
    /// `clone(...)`: does all this to a copy.
    Clone(Vec<Action>),
}

impl Action {
    /// Whether this, or anything inside of it, outputs to the port with this OpenFlow number: what
    /// `out_port=` of `del-flows` asks.
    pub fn outputs_to(&self, port: u32) -> bool {
        match self {
            Action::Output(to) => to.number() == port,
            Action::Clone(inner) => inner.iter().any(|action| action.outputs_to(port)),
            _ => false,
        }
    }

    /// Whether this, or anything inside of it, sends to this group: what `out_group=` asks.
    pub fn sends_to_group(&self, group: u32) -> bool {
        match self {
            Action::Group(to) => *to == group,
            Action::Clone(inner) => inner.iter().any(|action| action.sends_to_group(group)),
            _ => false,
        }
    }
}
