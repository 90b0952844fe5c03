//! Action programs: what translation makes of rules, and what a worker runs.
//!
//! Ops run in order on one packet. [`Op::Output`], [`Op::Encap`] and [`Op::Punt`] act on a copy of the
//! packet as it stands at that point, except that the last op of a program may take the packet itself;
//! the other ops change the packet for the ops behind them. A packet out of a tunnel has lost its outer
//! headers before the first op.

use crate::drop::DropReason;
use std::fmt;

/// A datapath port number: unique over all bridges, below [`MAX_PORTS`]. It is what
/// [`wire::key::FlowKey::in_port`] holds; OpenFlow port numbers are per bridge and stay in the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// Upper bound of datapath port numbers.
pub const MAX_PORTS: usize = 4096;

impl PortId {
    /// The pseudo-port of tunnel packets that no vxlan port takes: they are keyed with their tunnel
    /// fields, so that a drop megaflow of their own stops them in the fast path.
    pub const TUNNEL_MISS: PortId = PortId(0);

    /// As an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of an adjacency: a ready tunnel header towards one remote VTEP and the way out to its next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdjacencyId(pub u32);

/// Number of a program in a worker's program table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Why the slow path wants the bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PuntReason {
    /// For an address of the bridge itself: ARP, ND, ICMP echo.
    Local,
}

/// One step of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Send out of a port.
    Output(PortId),
    /// Encapsulate with the adjacency's header and this VNI, and send out of the adjacency's port.
    Encap {
        /// Header and way out.
        adjacency: AdjacencyId,
        /// VXLAN network identifier, 24 bits.
        vni: u32,
    },
    /// Put an 802.1Q tag in front; the value is the TCI without the CFI bit.
    PushVlan(u16),
    /// Take the outermost tag off.
    PopVlan,
    /// Give a copy of the bytes to the slow path.
    Punt(PuntReason),
}

/// A compiled action list. Without ops it drops, and says why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    /// The steps.
    pub ops: Box<[Op]>,
    /// What a packet counts as that no op sends anywhere.
    pub drop: DropReason,
}

impl Program {
    /// A program that drops.
    pub fn dropping(reason: DropReason) -> Program {
        Program { ops: Box::default(), drop: reason }
    }

    /// Whether the packet goes nowhere.
    pub fn is_drop(&self) -> bool {
        self.ops.is_empty()
    }
}
