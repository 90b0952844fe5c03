//! The fields of a packet, by the names that `ovs-fields(7)` gives them.

use std::collections::BTreeMap;

/// What a packet must be for a field to mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// A tag.
    Tag,
    /// ARP.
    Arp,
    /// This EtherType.
    Type(u128),
    /// IPv4 or IPv6.
    Ip,
    /// This protocol over IPv4 or IPv6, with its header there.
    Proto(u128),
    /// This protocol over this EtherType.
    TypeProto(u128, u128),
    /// An ICMPv6 message of one of two types.
    Nd(u128, u128),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `0x..`.
    Hex,
    /// Decimal.
    Decimal,
    /// MAC address.
    Mac,
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
}

macro_rules! fields {
    ($($variant:ident $name:literal $nxm:literal $bits:literal $format:ident $needs:expr;)*) => {
        /// A field.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $(#[doc = $name] $variant,)* }

        impl Field {
            /// All of them.
            pub const ALL: &'static [Field] = &[$(Field::$variant),*];
            /// Its name in rules.
            pub fn name(self) -> &'static str { match self { $(Field::$variant => $name),* } }
            /// Its name in `load` and `move`.
            pub fn nxm(self) -> &'static str { match self { $(Field::$variant => $nxm),* } }
            /// Its width.
            pub fn bits(self) -> u8 { match self { $(Field::$variant => $bits),* } }
            /// How its values are written.
            pub fn format(self) -> Format { match self { $(Field::$variant => Format::$format),* } }
            /// What the packet must be.
            pub fn needs(self) -> Needs { match self { $(Field::$variant => $needs),* } }
        }
    };
}

use Needs::{Arp, Ip, Nd, Nothing, Proto, Tag, Type, TypeProto};

fields! {
    InPort "in_port" "NXM_OF_IN_PORT" 16 Decimal Nothing;
    TunId "tun_id" "NXM_NX_TUN_ID" 24 Hex Nothing;
    TunSrc "tun_src" "NXM_NX_TUN_IPV4_SRC" 32 Ipv4 Nothing;
    TunDst "tun_dst" "NXM_NX_TUN_IPV4_DST" 32 Ipv4 Nothing;
    TunGbpId "tun_gbp_id" "NXM_NX_TUN_GBP_ID" 16 Decimal Nothing;
    TunGbpFlags "tun_gbp_flags" "NXM_NX_TUN_GBP_FLAGS" 8 Hex Nothing;
    Metadata "metadata" "OXM_OF_METADATA" 64 Hex Nothing;
    Reg0 "reg0" "NXM_NX_REG0" 32 Hex Nothing;
    Reg1 "reg1" "NXM_NX_REG1" 32 Hex Nothing;
    Reg7 "reg7" "NXM_NX_REG7" 32 Hex Nothing;
    EthSrc "eth_src" "NXM_OF_ETH_SRC" 48 Mac Nothing;
    EthDst "eth_dst" "NXM_OF_ETH_DST" 48 Mac Nothing;
    EthType "eth_type" "NXM_OF_ETH_TYPE" 16 Hex Nothing;
    VlanTci "vlan_tci" "NXM_OF_VLAN_TCI" 16 Hex Nothing;
    VlanVid "vlan_vid" "OXM_OF_VLAN_VID" 12 Decimal Tag;
    VlanPcp "vlan_pcp" "OXM_OF_VLAN_PCP" 3 Decimal Tag;
    IpSrc "ip_src" "NXM_OF_IP_SRC" 32 Ipv4 Type(0x800);
    IpDst "ip_dst" "NXM_OF_IP_DST" 32 Ipv4 Type(0x800);
    Ipv6Src "ipv6_src" "NXM_NX_IPV6_SRC" 128 Ipv6 Type(0x86dd);
    Ipv6Dst "ipv6_dst" "NXM_NX_IPV6_DST" 128 Ipv6 Type(0x86dd);
    Ipv6Label "ipv6_label" "NXM_NX_IPV6_LABEL" 20 Hex Type(0x86dd);
    IpProto "nw_proto" "NXM_OF_IP_PROTO" 8 Decimal Ip;
    NwTos "nw_tos" "NXM_OF_IP_TOS" 8 Decimal Ip;
    NwEcn "nw_ecn" "NXM_NX_IP_ECN" 2 Decimal Ip;
    NwTtl "nw_ttl" "NXM_NX_IP_TTL" 8 Decimal Ip;
    IpFrag "ip_frag" "NXM_NX_IP_FRAG" 2 Decimal Ip;
    TcpSrc "tcp_src" "NXM_OF_TCP_SRC" 16 Decimal Proto(6);
    TcpDst "tcp_dst" "NXM_OF_TCP_DST" 16 Decimal Proto(6);
    TcpFlags "tcp_flags" "NXM_NX_TCP_FLAGS" 12 Hex Proto(6);
    UdpSrc "udp_src" "NXM_OF_UDP_SRC" 16 Decimal Proto(17);
    UdpDst "udp_dst" "NXM_OF_UDP_DST" 16 Decimal Proto(17);
    SctpSrc "sctp_src" "OXM_OF_SCTP_SRC" 16 Decimal Proto(132);
    SctpDst "sctp_dst" "OXM_OF_SCTP_DST" 16 Decimal Proto(132);
    IcmpType "icmp_type" "NXM_OF_ICMP_TYPE" 8 Decimal TypeProto(0x800, 1);
    IcmpCode "icmp_code" "NXM_OF_ICMP_CODE" 8 Decimal TypeProto(0x800, 1);
    Icmpv6Type "icmpv6_type" "NXM_NX_ICMPV6_TYPE" 8 Decimal TypeProto(0x86dd, 58);
    Icmpv6Code "icmpv6_code" "NXM_NX_ICMPV6_CODE" 8 Decimal TypeProto(0x86dd, 58);
    NdTarget "nd_target" "NXM_NX_ND_TARGET" 128 Ipv6 Nd(135, 136);
    NdSll "nd_sll" "NXM_NX_ND_SLL" 48 Mac Nd(135, 135);
    NdTll "nd_tll" "NXM_NX_ND_TLL" 48 Mac Nd(136, 136);
    ArpOp "arp_op" "NXM_OF_ARP_OP" 16 Decimal Arp;
    ArpSpa "arp_spa" "NXM_OF_ARP_SPA" 32 Ipv4 Arp;
    ArpTpa "arp_tpa" "NXM_OF_ARP_TPA" 32 Ipv4 Arp;
    ArpSha "arp_sha" "NXM_NX_ARP_SHA" 48 Mac Arp;
    ArpTha "arp_tha" "NXM_NX_ARP_THA" 48 Mac Arp;
}

/// A tag is there: this bit of a `vlan_tci`.
pub const TAG: u128 = 0x1000;

impl Field {
    /// All bits of it.
    pub fn ones(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits()))
    }
}

/// Field values; what is not there is 0, as in Open vSwitch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(BTreeMap<Field, u128>);

impl Fields {
    /// A field's value.
    pub fn get(&self, field: Field) -> u128 {
        match field {
            Field::VlanVid => self.get(Field::VlanTci) & 0xfff,
            Field::VlanPcp => self.get(Field::VlanTci) >> 13,
            _ => self.0.get(&field).copied().unwrap_or(0),
        }
    }

    /// Sets a field that is not part of another one.
    pub fn put(&mut self, field: Field, value: u128) {
        self.0.insert(field, value);
    }

    /// Whether the packet has the field.
    pub fn has(&self, field: Field) -> bool {
        let (kind, proto) = (self.get(Field::EthType), self.get(Field::IpProto));
        let ip = kind == 0x800 || kind == 0x86dd;
        let carries = |wanted| ip && proto == wanted && self.get(Field::IpFrag) & 2 == 0;
        match field.needs() {
            Nothing => true,
            Tag => self.get(Field::VlanTci) & TAG != 0,
            Arp => kind == 0x806 || kind == 0x8035,
            Type(wanted) => kind == wanted,
            Ip => ip,
            Proto(wanted) => carries(wanted),
            TypeProto(wanted, proto) => kind == wanted && carries(proto),
            Nd(a, b) => {
                let message = self.get(Field::Icmpv6Type);
                kind == 0x86dd && carries(58) && (message == a || message == b)
            }
        }
    }

    /// Whether all of `matches` hold.
    pub fn satisfy(&self, matches: &[(Field, u128, u128)]) -> bool {
        matches.iter().all(|(field, value, mask)| (self.get(*field) ^ value) & mask == 0)
    }
}
