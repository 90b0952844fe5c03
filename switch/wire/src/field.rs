//! Where the fields of headers stand: offsets in bytes from a header's first one.

/// Ethernet (IEEE 802.3). A tag, too, begins with an EtherType, so the offsets of what follows are those of the frame.
pub mod ethernet {
    /// Destination.
    pub const DST: usize = 0;
    /// Source.
    pub const SRC: usize = 6;
    /// EtherType, or that of the outermost tag (TPID).
    pub const TYPE: usize = 12;
    /// TCI of the outermost tag, if there is one.
    pub const TCI: usize = 14;
}

/// IPv4 (RFC 791).
pub mod ipv4 {
    /// Version and header length.
    pub const VERSION_IHL: usize = 0;
    /// TOS: DSCP and ECN.
    pub const TOS: usize = 1;
    /// Total length.
    pub const TOTAL_LEN: usize = 2;
    /// Identification.
    pub const ID: usize = 4;
    /// Flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// TTL.
    pub const TTL: usize = 8;
    /// Protocol.
    pub const PROTOCOL: usize = 9;
    /// Header checksum.
    pub const CHECKSUM: usize = 10;
    /// Source.
    pub const SRC: usize = 12;
    /// Destination.
    pub const DST: usize = 16;
}

/// IPv6 (RFC 8200).
pub mod ipv6 {
    /// Version, traffic class, flow label.
    pub const FLOW: usize = 0;
    /// Payload length.
    pub const PAYLOAD_LEN: usize = 4;
    /// Next header.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Source.
    pub const SRC: usize = 8;
    /// Destination.
    pub const DST: usize = 24;
}

/// TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260): both ports.
pub mod ports {
    /// Source port.
    pub const SRC: usize = 0;
    /// Destination port.
    pub const DST: usize = 2;
}

/// TCP (RFC 9293).
pub mod tcp {
    /// Sequence number.
    pub const SEQ: usize = 4;
    /// Acknowledgement number.
    pub const ACK: usize = 8;
    /// Data offset and flags.
    pub const FLAGS: usize = 12;
    /// Window.
    pub const WINDOW: usize = 14;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer.
    pub const URGENT: usize = 18;
}

/// UDP (RFC 768).
pub mod udp {
    /// Length.
    pub const LEN: usize = 4;
    /// Checksum.
    pub const CHECKSUM: usize = 6;
}

/// SCTP (RFC 9260).
pub mod sctp {
    /// CRC32c.
    pub const CHECKSUM: usize = 8;
}

/// ICMP (RFC 792), ICMPv6 (RFC 4443), IGMP.
pub mod icmp {
    /// Type.
    pub const TYPE: usize = 0;
    /// Code.
    pub const CODE: usize = 1;
    /// Checksum.
    pub const CHECKSUM: usize = 2;
}

/// Neighbour solicitations and advertisements (RFC 4861).
pub mod nd {
    /// Target.
    pub const TARGET: usize = 8;
    /// Options.
    pub const OPTIONS: usize = 24;
    /// Link-layer address in an option.
    pub const OPTION_MAC: usize = 2;
}

/// ARP for IPv4 over Ethernet (RFC 826).
pub mod arp {
    /// Opcode.
    pub const OP: usize = 6;
    /// Sender's hardware address.
    pub const SHA: usize = 8;
    /// Sender's IPv4 address.
    pub const SPA: usize = 14;
    /// Target's hardware address.
    pub const THA: usize = 18;
    /// Target's IPv4 address.
    pub const TPA: usize = 24;
}
