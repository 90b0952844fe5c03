//! What must be known of a packet before a field of it means anything.

use super::key::Match;
use wire::key::VLAN_PRESENT;

/// What else must be known of a packet before a field means anything (`ovs-fields(7)`, "Prerequisites").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prerequisite {
    /// Nothing.
    None,
    /// An 802.1Q tag.
    Vlan,
    /// ARP or RARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv4 or, for the addresses that ARP carries, ARP: OpenFlow 1.0's reading of `nw_src`.
    Ipv4OrArp,
    /// IPv6.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// IPv4, IPv6 or ARP: OpenFlow 1.0's reading of `nw_proto`.
    IpOrArp,
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// SCTP over IPv4 or IPv6.
    Sctp,
    /// ICMP over IPv4.
    Icmpv4,
    /// ICMPv6.
    Icmpv6,
    /// ICMP or ICMPv6.
    Icmp,
    /// TCP, UDP or SCTP.
    Transport,
    /// Neighbour solicitation or advertisement.
    Nd,
    /// Neighbour solicitation.
    NdSolicit,
    /// Neighbour advertisement.
    NdAdvert,
}

const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_RARP: u16 = 0x8035;
const ETH_IPV6: u16 = 0x86dd;

impl Prerequisite {
    /// Whether every packet of `what` has it.
    pub fn is_met(self, what: &Match) -> bool {
        let (key, mask) = (&what.key().flow, &what.mask().flow);
        let dl_type = if mask.dl_type.get() == u16::MAX { key.dl_type.get() } else { 0 };
        let ip = dl_type == ETH_IPV4 || dl_type == ETH_IPV6;
        let arp = dl_type == ETH_ARP || dl_type == ETH_RARP;
        let proto = |wanted: u8| ip && mask.nw_proto == u8::MAX && key.nw_proto == wanted;
        let icmpv4 = dl_type == ETH_IPV4 && proto(1);
        let icmpv6 = dl_type == ETH_IPV6 && proto(58);
        let nd = |kind: u16| icmpv6 && mask.tp_src.get() == u16::MAX && key.tp_src.get() == kind;
        match self {
            Prerequisite::None => true,
            Prerequisite::Vlan => key.vlan_tci.get() & mask.vlan_tci.get() & VLAN_PRESENT != 0,
            Prerequisite::Arp => arp,
            Prerequisite::Ipv4 => dl_type == ETH_IPV4,
            Prerequisite::Ipv4OrArp => dl_type == ETH_IPV4 || arp,
            Prerequisite::Ipv6 => dl_type == ETH_IPV6,
            Prerequisite::Ip => ip,
            Prerequisite::IpOrArp => ip || arp,
            Prerequisite::Tcp => proto(6),
            Prerequisite::Udp => proto(17),
            Prerequisite::Sctp => proto(132),
            Prerequisite::Icmpv4 => icmpv4,
            Prerequisite::Icmpv6 => icmpv6,
            Prerequisite::Icmp => icmpv4 || icmpv6,
            Prerequisite::Transport => proto(6) || proto(17) || proto(132),
            Prerequisite::Nd => nd(135) || nd(136),
            Prerequisite::NdSolicit => nd(135),
            Prerequisite::NdAdvert => nd(136),
        }
    }

    /// What a user has to add to a match to meet it.
    pub fn needs(self) -> &'static str {
        match self {
            Prerequisite::None => "nothing",
            Prerequisite::Vlan => "a VLAN tag (dl_vlan or vlan_vid in the match, or push_vlan before)",
            Prerequisite::Arp => "arp or rarp in the match",
            Prerequisite::Ipv4 => "ip (dl_type=0x0800) in the match",
            Prerequisite::Ipv4OrArp => "ip (dl_type=0x0800) or arp in the match",
            Prerequisite::Ipv6 => "ipv6 (dl_type=0x86dd) in the match",
            Prerequisite::Ip => "ip or ipv6 in the match",
            Prerequisite::IpOrArp => "ip, ipv6 or arp in the match",
            Prerequisite::Tcp => "tcp or tcp6 in the match",
            Prerequisite::Udp => "udp or udp6 in the match",
            Prerequisite::Sctp => "sctp or sctp6 in the match",
            Prerequisite::Icmpv4 => "icmp in the match",
            Prerequisite::Icmpv6 => "icmp6 in the match",
            Prerequisite::Icmp => "icmp or icmp6 in the match",
            Prerequisite::Transport => "tcp, udp, sctp, tcp6, udp6 or sctp6 in the match",
            Prerequisite::Nd => "icmp6,icmp_type=135 or icmp6,icmp_type=136 in the match",
            Prerequisite::NdSolicit => "icmp6,icmp_type=135 in the match",
            Prerequisite::NdAdvert => "icmp6,icmp_type=136 in the match",
        }
    }
}
