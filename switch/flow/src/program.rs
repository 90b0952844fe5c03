//! Action programs: what translation makes of rules, and what a worker runs.
//!
//! Ops run in order on one packet. [`Op::Output`], [`Op::Encap`] and [`Op::Punt`] act on a copy of the
//! packet as it stands at that point, except that the last op of a program may take the packet itself;
//! the other ops change the packet for the ops behind them. A packet out of a tunnel has lost its outer
//! headers before the first op.

use crate::drop::DropReason;
use crate::stats::{PacketStats, StatsRef};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
pub use wire::rewrite::Side;

/// A datapath port number: unique over all bridges, below [`MAX_PORTS`]. It is what
/// [`wire::key::FlowKey::in_port`] holds; OpenFlow port numbers are per bridge and stay in the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortId(pub u16);

/// Upper bound of datapath port numbers.
pub const MAX_PORTS: usize = 4096;

impl PortId {
    /// The pseudo-port of tunnel packets that no tunnel port takes: they are keyed with their tunnel
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

/// Number of a bridge, in the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BridgeId(pub u16);

/// Number of an adjacency: a ready tunnel header towards one remote VTEP and the way out to its next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdjacencyId(pub u32);

/// Number of a program in a worker's program table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Number of a meter in the table that all workers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeterId(pub u16);

/// Number of what a packet for controllers comes with, in the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControllerMessageId(pub u32);

/// Why the slow path wants the bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PuntReason {
    /// For an address of the bridge with this LOCAL port: ARP, ND, ICMP echo.
    Local(PortId),
    /// A rule's `CONTROLLER`: counted, and shown to whoever captures.
    Controller {
        /// Bytes wanted; 65535 for all.
        max_len: u16,
        /// The port by which the packet is in the bridge of the rule: behind patch ports, not the one it came in by.
        at: PortId,
        /// What it comes with: the rule, the reason, the registers.
        message: ControllerMessageId,
    },
    /// It asks on a bridge for a host's address (ARP, ND), and is not flooded to ports with `neigh-suppress` before it is
    /// known whether the answer is.
    Solicit {
        /// The port by which it came into the bridge.
        at: PortId,
        /// VLAN.
        vlan: u16,
    },
    /// It says which MAC address has an address (ARP, ND, DHCP).
    Snoop {
        /// The port by which it came into the bridge.
        at: PortId,
        /// VLAN.
        vlan: u16,
    },
    /// A message of IGMP or MLD on a bridge that snoops: not sent on before it is known to whom.
    Membership {
        /// The port by which it came into the bridge.
        at: PortId,
        /// VLAN.
        vlan: u16,
    },
    /// A BFD control packet that came in by this port, for its session.
    Bfd(PortId),
    /// Somebody captures what comes in by this port.
    CaptureRx(PortId),
    /// Somebody captures what goes out of this port.
    CaptureTx(PortId),
}

/// What a tunnel header says besides VNI or key, as far as the header's fields have room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TunnelMetadata {
    /// VXLAN-GBP: group policy ID (draft-smith-vxlan-group-policy); with 0 and no flags the header is a plain one.
    pub gbp_id: u16,
    /// VXLAN-GBP: flags, as they stand in the header's second byte.
    pub gbp_flags: u8,
    /// Geneve: bytes of options, which stand in front of the inner frame.
    pub options_len: u8,
    /// Geneve: one of the options is critical.
    pub critical: bool,
    /// Geneve: a control packet.
    pub oam: bool,
}

/// One step of a program.
///
/// Ops that set a field leave a packet alone that does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// Send out of a port.
    Output(PortId),
    /// Encapsulate with the adjacency's header and this VNI, and send out of the adjacency's port.
    Encap {
        /// Header and way out.
        adjacency: AdjacencyId,
        /// VNI or key.
        vni: u32,
        /// The rest of the header; [`TunnelMetadata::default`] where it says nothing else.
        metadata: TunnelMetadata,
        /// Geneve options, `metadata.options_len` bytes.
        options: Box<[u8]>,
    },
    /// Put a tag in front.
    PushVlan {
        /// EtherType of the tag: 0x8100 or 0x88a8.
        tpid: u16,
        /// TCI; its CFI bit is not sent.
        tci: u16,
    },
    /// Take the outermost tag off.
    PopVlan,
    /// Set the TCI of the outermost tag; the CFI bit of the value is not sent.
    SetVlan(u16),
    /// Set an Ethernet address.
    SetMac(Side, MacAddr),
    /// Set an IPv4 address.
    SetIpv4(Side, Ipv4Addr),
    /// Set an IPv6 address.
    SetIpv6(Side, Ipv6Addr),
    /// Set IPv4 TOS or IPv6 traffic class: DSCP and ECN.
    SetTos(u8),
    /// Set IPv4 TTL or IPv6 hop limit.
    SetTtl(u8),
    /// Set the IPv6 flow label, 20 bits.
    SetIpv6Label(u32),
    /// Set a TCP, UDP or SCTP port.
    SetPort(Side, u16),
    /// Set ICMP or ICMPv6 type.
    SetIcmpType(u8),
    /// Set ICMP or ICMPv6 code.
    SetIcmpCode(u8),
    /// Set the ARP opcode.
    SetArpOp(u16),
    /// Set the ARP sender's (`Src`) or target's hardware address.
    SetArpMac(Side, MacAddr),
    /// Set the ARP sender's (`Src`) or target's IPv4 address.
    SetArpIp(Side, Ipv4Addr),
    /// Set the target of an ND solicitation or advertisement.
    SetNdTarget(Ipv6Addr),
    /// Set the ND source (`Src`: solicitation) or target (`Dst`: advertisement) link-layer address option.
    SetNdLink(Side, MacAddr),
    /// Lower the maximum segment size that a TCP SYN offers to what fits the path to an adjacency's remote.
    ClampMss {
        /// The adjacency.
        adjacency: AdjacencyId,
        /// Bytes of Geneve options that stand in front of the frame there.
        options_len: u8,
    },
    /// Give a copy of the bytes to the slow path.
    Punt(PuntReason),
    /// Give a copy of the bytes to the slow path, which does the rest; where its in-port has given too many lately, run these
    /// ops on the packet instead.
    PuntOr(PuntReason, Box<[Op]>),
    /// Take tokens from a meter; a packet that finds none is dropped.
    Meter(MeterId),
    /// Hand the packet to the VTEP behind a bridge's LOCAL port: its outer headers come off, and the inner frame is
    /// looked up as one of its tunnel port.
    Terminate(PortId),
    /// Free the packet and count why.
    Drop(DropReason),
    /// Run these ops on a copy.
    Clone(Box<[Op]>),
    /// Run these ops on a copy of the packet's first bytes.
    Truncate {
        /// Bytes, from the Ethernet header on.
        max_len: u32,
        /// The ops.
        ops: Box<[Op]>,
    },
    /// Run the ops of one bucket, chosen by the flow's hash, on a copy.
    Select(Box<Select>),
    /// Run the ops for longer or for other packets on a copy.
    CheckLength(Box<CheckLength>),
}

/// What becomes of packets by their length.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckLength {
    /// Bytes of the packet as it is by then, from the Ethernet header on; of one that is to be divided, of its longest segment.
    pub length: u16,
    /// Of a packet with no more, and of one with more.
    pub branches: [Box<[Op]>; 2],
}

impl CheckLength {
    /// What becomes of a packet with so many bytes.
    #[inline]
    pub fn ops(&self, len: u32) -> &[Op] {
        &self.branches[usize::from(len > u32::from(self.length))]
    }
}

impl Op {
    /// The alternatives of which a packet takes one; none but for [`Op::Select`] and [`Op::CheckLength`].
    pub fn branches(&self) -> &[Box<[Op]>] {
        match self {
            Op::Select(select) => &select.buckets,
            Op::CheckLength(check) => &check.branches,
            _ => &[],
        }
    }
}

/// The buckets of a `select` group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Select {
    /// Bucket of each hash value: indices into `buckets`.
    pub slots: [u8; Select::SLOTS],
    /// What each bucket does. Without ops a bucket drops.
    pub buckets: Box<[Box<[Op]>]>,
    /// Where the packets of each bucket are counted.
    pub stats: Box<[StatsRef]>,
}

impl Select {
    /// Hash values that are told apart: weights hold to one in 256.
    pub const SLOTS: usize = 256;

    /// The ops of the bucket that a flow's hash falls to.
    #[inline]
    pub fn bucket(&self, flow_hash: u32) -> Option<&[Op]> {
        self.buckets.get(self.bucket_number(flow_hash)).map(|ops| &**ops)
    }

    /// Counts a packet of so many bytes for the bucket that its flow's hash falls to.
    #[inline]
    pub fn count(&self, flow_hash: u32, bytes: u64) {
        if let Some(stats) = self.stats.get(self.bucket_number(flow_hash)) {
            stats.0.add(PacketStats::new(1, bytes));
        }
    }

    /// The number of that bucket.
    #[inline]
    pub fn bucket_number(&self, flow_hash: u32) -> usize {
        // By the low bits: the high ones are the source port of tunnel packets.
        usize::from(self.slots[flow_hash as usize % Self::SLOTS])
    }
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

    /// Why the packet goes nowhere, if it does not.
    pub fn ends_in(&self) -> Option<DropReason> {
        match self.ops.last() {
            None => Some(self.drop),
            Some(Op::Drop(reason)) => Some(*reason),
            Some(_) => None,
        }
    }

    /// Whether the packet goes nowhere.
    pub fn is_drop(&self) -> bool {
        self.ops.is_empty()
    }
}
