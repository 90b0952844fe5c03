//! What a rule does: the typed form of `ovs-actions(7)`.

use super::controller::Controller;
use super::field::{Field, Subfield};
use super::hash::{Bundle, Multipath};
use super::learn::Learn;
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

/// `conjunction(ID,K/N)`: the rule is part K of N; a packet that meets rules of all parts has `conj_id=ID`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conjunction {
    /// What `conj_id` becomes.
    pub id: u32,
    /// Which part the rule is, from 1.
    pub clause: u8,
    /// Number of parts, 2 to 64.
    pub clauses: u8,
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
    /// `output(port=PORT,max_len=N)`: at most so many bytes of the packet, to a port, IN_PORT or LOCAL.
    OutputTruncated {
        /// OpenFlow number.
        port: u32,
        /// Bytes, from the Ethernet header on.
        max_len: u32,
    },
    /// `enqueue:PORT:QUEUE`: by a queue of a port, IN_PORT or LOCAL; without QoS its only one.
    Enqueue {
        /// OpenFlow number.
        port: u32,
        /// Number of the queue.
        queue: u32,
    },
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
    /// `dec_ttl(ID,...)`: the same, and a packet that goes no further goes to the controllers with these numbers.
    DecTtlTo(Vec<u16>),
    /// `controller(...)` with more than `max_len`, which is [`PortRef::Controller`].
    Controller(Box<Controller>),
    /// `exit`: nothing more of this rule, of those that resubmitted to it, and of the action set.
    Exit,
    /// `set_queue:N`: without QoS it means nothing.
    SetQueue(u32),
    /// `pop_queue`: without QoS it means nothing.
    PopQueue,
    /// `group:N`.
    Group(u32),
    /// `meter:N`.
    Meter(u32),
    /// `clone(...)`: does all this to a copy.
    Clone(Vec<Action>),
    /// `write_actions(...)`: joins the action set, which is done when the packet has gone through the tables.
    WriteActions(Vec<Action>),
    /// `clear_actions`: empties the action set.
    ClearActions,
    /// `push:FIELD[a..b]`: puts the bits onto the stack.
    Push(Subfield),
    /// `pop:FIELD[a..b]`: takes the bits off the stack; with nothing on it, the field stays.
    Pop(Subfield),
    /// `note:01.02.03`: nothing, for who reads the rule.
    Note(Vec<u8>),
    /// `multipath(...)`.
    Multipath(Multipath),
    /// `bundle(...)`, `bundle_load(...)`.
    Bundle(Bundle),
    /// `conjunction(...)`: stands in its list with others of its kind and notes only.
    Conjunction(Conjunction),
    /// `learn(...)`.
    Learn(Box<Learn>),
    /// `fin_timeout(idle_timeout=A,hard_timeout=B)`: the rule's timeouts once a TCP packet with FIN or RST matched; 0: as
    /// before.
    FinTimeout {
        /// Seconds.
        idle: u16,
        /// Seconds.
        hard: u16,
    },
    /// `check_pkt_larger(LENGTH)->FIELD[bit]`: whether the packet is longer.
    CheckPktLarger {
        /// Bytes of the packet, from the Ethernet header on.
        length: u16,
        /// One bit.
        to: Subfield,
    },
}

impl Action {
    /// Whether this, or anything inside of it, outputs to the port with this OpenFlow number: what
    /// `out_port=` of `del-flows` asks.
    pub fn outputs_to(&self, port: u32) -> bool {
        match self {
            Action::Output(to) => to.number() == port,
            Action::Enqueue { port: to, .. } => *to == port,
            Action::Controller(_) => port == PORT_CONTROLLER,
            Action::Clone(inner) | Action::WriteActions(inner) => {
                inner.iter().any(|action| action.outputs_to(port))
            }
            // As in Open vSwitch, `bundle` chooses among ports and outputs to none that can be named.
            _ => false,
        }
    }

    /// Whether this, or anything inside of it, sends to this group: what `out_group=` asks.
    pub fn sends_to_group(&self, group: u32) -> bool {
        match self {
            Action::Group(to) => *to == group,
            Action::Clone(inner) | Action::WriteActions(inner) => {
                inner.iter().any(|action| action.sends_to_group(group))
            }
            _ => false,
        }
    }

    /// Whether what this does, or anything inside of it, depends on which ports are up.
    pub fn watches_ports(&self) -> bool {
        match self {
            Action::Clone(inner) | Action::WriteActions(inner) => inner.iter().any(Action::watches_ports),
            action => matches!(action, Action::Bundle(_)),
        }
    }
}
