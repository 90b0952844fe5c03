//! Numbers that headers carry: EtherTypes, IP protocols, ICMP types.

/// EtherType: IPv4.
pub const ETH_IPV4: u16 = 0x0800;
/// EtherType: ARP.
pub const ETH_ARP: u16 = 0x0806;
/// EtherType: RARP, parsed as ARP.
pub const ETH_RARP: u16 = 0x8035;
/// EtherType: 802.1Q customer tag.
pub const ETH_VLAN: u16 = 0x8100;
/// EtherType: IPv6.
pub const ETH_IPV6: u16 = 0x86dd;
/// EtherType: 802.1ad service tag.
pub const ETH_QINQ: u16 = 0x88a8;
/// The smallest EtherType; what is below is an 802.3 length.
pub const ETH_TYPE_MIN: u16 = 0x0600;
/// [`crate::key::FlowKey::dl_type`] of an 802.3 frame without a SNAP EtherType (OVS `FLOW_DL_TYPE_NONE`).
pub const ETH_NONE: u16 = 0x05ff;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an 802.1Q tag.
pub const VLAN_LEN: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_LEN: usize = 40;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;

/// IP protocol: ICMP.
pub const IP_ICMP: u8 = 1;
/// IP protocol: IGMP.
pub const IP_IGMP: u8 = 2;
/// IP protocol: TCP.
pub const IP_TCP: u8 = 6;
/// IP protocol: UDP.
pub const IP_UDP: u8 = 17;
/// IPv6 next header: hop-by-hop options.
pub const IP_HOPOPTS: u8 = 0;
/// IPv6 next header: routing.
pub const IP_ROUTING: u8 = 43;
/// IPv6 next header: fragment.
pub const IP_FRAGMENT: u8 = 44;
/// IP protocol: authentication header.
pub const IP_AH: u8 = 51;
/// IP protocol: ICMPv6.
pub const IP_ICMPV6: u8 = 58;
/// IPv6 next header: destination options.
pub const IP_DSTOPTS: u8 = 60;
/// IP protocol: SCTP.
pub const IP_SCTP: u8 = 132;

/// IPv4 flags and fragment offset: don't fragment.
pub const IPV4_DF: u16 = 0x4000;
/// IPv4 flags and fragment offset: more fragments.
pub const IPV4_MF: u16 = 0x2000;
/// IPv4 flags and fragment offset: the offset, in units of 8 bytes.
pub const IPV4_OFFSET: u16 = 0x1fff;

/// ICMPv6 type: neighbour solicitation.
pub const ND_SOLICIT: u8 = 135;
/// ICMPv6 type: neighbour advertisement.
pub const ND_ADVERT: u8 = 136;
/// ND option: source link-layer address.
pub const ND_OPT_SLL: u8 = 1;
/// ND option: target link-layer address.
pub const ND_OPT_TLL: u8 = 2;
