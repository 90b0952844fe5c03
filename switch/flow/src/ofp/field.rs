//! The fields that rules match, set and move: one table for the parser, the printer and the translator.

use super::key::MatchKey;
use super::prerequisite::Prerequisite;
use std::mem::offset_of;
use wire::key::FlowKey;
use zerocopy::IntoBytes;

/// How a field's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Number, printed in decimal.
    Decimal,
    /// Number, printed as `0x..`.
    Hexadecimal,
    /// Port number, port name or `LOCAL`.
    Port,
    /// `02:00:00:00:0a:01`.
    Mac,
    /// `10.0.0.1`, masks as prefix length or dotted.
    Ipv4,
    /// `2001:db8::1`, masks as prefix length or address.
    Ipv6,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Fragment,
    /// `+syn-ack`, `syn|ack` or a number.
    TcpFlags,
    /// As [`Format::TcpFlags`], with the names of `wire::key::TUN_*`.
    TunnelFlags,
}

/// A row of the table of fields.
#[derive(Debug)]
pub struct FieldInfo {
    /// The field.
    pub field: Field,
    /// OVS's own name first, then what else it is called in matches and `set_field`.
    pub names: &'static [&'static str],
    /// Names in `load` and `move`; the first one is printed.
    pub nxm: &'static [&'static str],
    /// Width in bits as OpenFlow has it.
    pub bits: u8,
    /// How values are written.
    pub format: Format,
    /// What the field needs before an action may touch it.
    pub prerequisite: Prerequisite,
    /// Whether actions may change it.
    pub writable: bool,
    /// Byte offset in a [`MatchKey`].
    offset: usize,
    /// Length in bytes there.
    size: usize,
    /// How far left the value stands within those bytes.
    shift: u32,
    /// Bits of the value that the key has room for, or that belong to this field and not to a neighbour.
    stored: u128,
    /// Host byte order.
    host: bool,
}

/// Declares [`Field`] and its table. A row is: variant, names, NXM names, OpenFlow bits, format,
/// prerequisite, `rw` or `ro`, storage (member, byte order, shift, stored bits).
macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident $names:expr, $nxm:expr, $bits:literal $format:ident $prereq:ident
        $access:ident @ $($member:ident).+ $([$index:literal])? : $ty:ty, $order:ident, $shift:literal, $stored:expr;)*) => {
        /// A field by its OVS meaning. Several may share storage (`tcp_src`, `udp_src`, `icmp_type`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        static TABLE: &[FieldInfo] = &[$(FieldInfo {
            field: Field::$variant,
            names: &$names,
            nxm: &$nxm,
            bits: $bits,
            format: Format::$format,
            prerequisite: Prerequisite::$prereq,
            writable: fields!(@access $access),
            offset: offset_of!(MatchKey, $($member).+) $(+ $index * size_of::<$ty>())?,
            size: size_of::<$ty>(),
            shift: $shift,
            stored: $stored,
            host: fields!(@order $order),
        },)*];
    };
    (@access rw) => { true };
    (@access ro) => { false };
    (@order host) => { true };
    (@order net) => { false };
}

const M2: u128 = 3;
const M12: u128 = 0xfff;
const M16: u128 = 0xffff;
const M32: u128 = 0xffff_ffff;
const M48: u128 = 0xffff_ffff_ffff;

fields! {
    /// OpenFlow port the packet came in by.
    InPort ["in_port"], ["NXM_OF_IN_PORT", "OXM_OF_IN_PORT"], 16 Port None rw @ flow.in_port: u32, host, 0, M32;
    /// VNI. OpenFlow gives it 64 bits, VXLAN 24.
    TunId ["tun_id", "tunnel_id"], ["NXM_NX_TUN_ID", "OXM_OF_TUNNEL_ID"], 64 Hexadecimal None rw @ flow.tun_id: u32, host, 0, M32;
    /// Outer IPv4 source.
    TunSrc ["tun_src"], ["NXM_NX_TUN_IPV4_SRC"], 32 Ipv4 None rw @ flow.tun_src: u32, net, 0, M32;
    /// Outer IPv4 destination.
    TunDst ["tun_dst"], ["NXM_NX_TUN_IPV4_DST"], 32 Ipv4 None rw @ flow.tun_dst: u32, net, 0, M32;
    /// Outer IPv6 source.
    TunIpv6Src ["tun_ipv6_src"], ["NXM_NX_TUN_IPV6_SRC"], 128 Ipv6 None rw @ flow.tun_ipv6_src: u128, net, 0, u128::MAX;
    /// Outer IPv6 destination.
    TunIpv6Dst ["tun_ipv6_dst"], ["NXM_NX_TUN_IPV6_DST"], 128 Ipv6 None rw @ flow.tun_ipv6_dst: u128, net, 0, u128::MAX;
    /// VXLAN-GBP group policy ID.
    TunGbpId ["tun_gbp_id"], ["NXM_NX_TUN_GBP_ID"], 16 Decimal None rw @ flow.tun_gbp_id: u16, net, 0, M16;
    /// VXLAN-GBP flags.
    TunGbpFlags ["tun_gbp_flags"], ["NXM_NX_TUN_GBP_FLAGS"], 8 Hexadecimal None rw @ flow.tun_gbp_flags: u8, net, 0, 0xff;
    /// Outer TOS.
    TunTos ["tun_tos"], [], 8 Hexadecimal None ro @ flow.tun_tos: u8, net, 0, 0xff;
    /// Outer TTL.
    TunTtl ["tun_ttl"], [], 8 Decimal None ro @ flow.tun_ttl: u8, net, 0, 0xff;
    /// `wire::key::TUN_*`.
    TunFlags ["tun_flags"], ["NXM_NX_TUN_FLAGS"], 16 TunnelFlags None ro @ flow.tun_flags: u16, host, 0, M16;
    /// Pipeline metadata.
    Metadata ["metadata"], ["OXM_OF_METADATA"], 64 Hexadecimal None rw @ metadata: u64, host, 0, u64::MAX as u128;
    /// Register 0.
    Reg0 ["reg0"], ["NXM_NX_REG0"], 32 Hexadecimal None rw @ reg[0]: u32, host, 0, M32;
    /// Register 1.
    Reg1 ["reg1"], ["NXM_NX_REG1"], 32 Hexadecimal None rw @ reg[1]: u32, host, 0, M32;
    /// Register 2.
    Reg2 ["reg2"], ["NXM_NX_REG2"], 32 Hexadecimal None rw @ reg[2]: u32, host, 0, M32;
    /// Register 3.
    Reg3 ["reg3"], ["NXM_NX_REG3"], 32 Hexadecimal None rw @ reg[3]: u32, host, 0, M32;
    /// Register 4.
    Reg4 ["reg4"], ["NXM_NX_REG4"], 32 Hexadecimal None rw @ reg[4]: u32, host, 0, M32;
    /// Register 5.
    Reg5 ["reg5"], ["NXM_NX_REG5"], 32 Hexadecimal None rw @ reg[5]: u32, host, 0, M32;
    /// Register 6.
    Reg6 ["reg6"], ["NXM_NX_REG6"], 32 Hexadecimal None rw @ reg[6]: u32, host, 0, M32;
    /// Register 7.
    Reg7 ["reg7"], ["NXM_NX_REG7"], 32 Hexadecimal None rw @ reg[7]: u32, host, 0, M32;
    /// Ethernet source.
    EthSrc ["eth_src", "dl_src"], ["NXM_OF_ETH_SRC", "OXM_OF_ETH_SRC"], 48 Mac None rw @ flow.dl_src: [u8; 6], net, 0, M48;
    /// Ethernet destination.
    EthDst ["eth_dst", "dl_dst"], ["NXM_OF_ETH_DST", "OXM_OF_ETH_DST"], 48 Mac None rw @ flow.dl_dst: [u8; 6], net, 0, M48;
    /// EtherType.
    EthType ["eth_type", "dl_type"], ["NXM_OF_ETH_TYPE", "OXM_OF_ETH_TYPE"], 16 Hexadecimal None ro @ flow.dl_type: u16, net, 0, M16;
    /// The whole 802.1Q tag, with `VLAN_PRESENT` in the place of the DEI bit.
    VlanTci ["vlan_tci"], ["NXM_OF_VLAN_TCI"], 16 Hexadecimal None rw @ flow.vlan_tci: u16, net, 0, M16;
    /// VLAN ID.
    VlanVid ["vlan_vid", "dl_vlan"], ["OXM_OF_VLAN_VID"], 12 Decimal Vlan rw @ flow.vlan_tci: u16, net, 0, M12;
    /// VLAN priority.
    VlanPcp ["vlan_pcp", "dl_vlan_pcp"], ["OXM_OF_VLAN_PCP"], 3 Decimal Vlan rw @ flow.vlan_tci: u16, net, 13, 7;
    /// IPv4 source.
    IpSrc ["ip_src", "nw_src"], ["NXM_OF_IP_SRC", "OXM_OF_IPV4_SRC"], 32 Ipv4 Ipv4 rw @ flow.nw_src: u32, net, 0, M32;
    /// IPv4 destination.
    IpDst ["ip_dst", "nw_dst"], ["NXM_OF_IP_DST", "OXM_OF_IPV4_DST"], 32 Ipv4 Ipv4 rw @ flow.nw_dst: u32, net, 0, M32;
    /// IPv6 source.
    Ipv6Src ["ipv6_src"], ["NXM_NX_IPV6_SRC", "OXM_OF_IPV6_SRC"], 128 Ipv6 Ipv6 rw @ flow.ipv6_src: u128, net, 0, u128::MAX;
    /// IPv6 destination.
    Ipv6Dst ["ipv6_dst"], ["NXM_NX_IPV6_DST", "OXM_OF_IPV6_DST"], 128 Ipv6 Ipv6 rw @ flow.ipv6_dst: u128, net, 0, u128::MAX;
    /// IPv6 flow label.
    Ipv6Label ["ipv6_label"], ["NXM_NX_IPV6_LABEL", "OXM_OF_IPV6_FLABEL"], 20 Hexadecimal Ipv6 rw @ flow.ipv6_label: u32, net, 0, 0xf_ffff;
    /// IP protocol.
    IpProto ["nw_proto", "ip_proto"], ["NXM_OF_IP_PROTO", "OXM_OF_IP_PROTO"], 8 Decimal Ip ro @ flow.nw_proto: u8, net, 0, 0xff;
    /// DSCP in the upper six bits of eight, as it stands in the packet.
    NwTos ["nw_tos"], ["NXM_OF_IP_TOS"], 8 Decimal Ip rw @ flow.nw_tos: u8, net, 0, 0xfc;
    /// DSCP as a six bit number.
    IpDscp ["ip_dscp"], ["OXM_OF_IP_DSCP"], 6 Decimal Ip rw @ flow.nw_tos: u8, net, 2, 0x3f;
    /// ECN.
    NwEcn ["nw_ecn", "ip_ecn"], ["NXM_NX_IP_ECN", "OXM_OF_IP_ECN"], 2 Decimal Ip rw @ flow.nw_tos: u8, net, 0, M2;
    /// IPv4 TTL, IPv6 hop limit.
    NwTtl ["nw_ttl"], ["NXM_NX_IP_TTL"], 8 Decimal Ip rw @ flow.nw_ttl: u8, net, 0, 0xff;
    /// Whether, and which part of, a fragment.
    IpFrag ["ip_frag", "nw_frag"], ["NXM_NX_IP_FRAG"], 8 Fragment Ip ro @ flow.nw_frag: u8, net, 0, M2;
    /// Transport source port of whatever protocol; ICMP type.
    TpSrc ["tp_src"], [], 16 Decimal Transport rw @ flow.tp_src: u16, net, 0, M16;
    /// Transport destination port of whatever protocol; ICMP code.
    TpDst ["tp_dst"], [], 16 Decimal Transport rw @ flow.tp_dst: u16, net, 0, M16;
    /// TCP source port.
    TcpSrc ["tcp_src"], ["NXM_OF_TCP_SRC", "OXM_OF_TCP_SRC"], 16 Decimal Tcp rw @ flow.tp_src: u16, net, 0, M16;
    /// TCP destination port.
    TcpDst ["tcp_dst"], ["NXM_OF_TCP_DST", "OXM_OF_TCP_DST"], 16 Decimal Tcp rw @ flow.tp_dst: u16, net, 0, M16;
    /// TCP flags.
    TcpFlags ["tcp_flags"], ["NXM_NX_TCP_FLAGS", "OXM_OF_TCP_FLAGS"], 12 TcpFlags Tcp ro @ flow.tcp_flags: u16, net, 0, M12;
    /// UDP source port.
    UdpSrc ["udp_src"], ["NXM_OF_UDP_SRC", "OXM_OF_UDP_SRC"], 16 Decimal Udp rw @ flow.tp_src: u16, net, 0, M16;
    /// UDP destination port.
    UdpDst ["udp_dst"], ["NXM_OF_UDP_DST", "OXM_OF_UDP_DST"], 16 Decimal Udp rw @ flow.tp_dst: u16, net, 0, M16;
    /// SCTP source port.
    SctpSrc ["sctp_src"], ["OXM_OF_SCTP_SRC"], 16 Decimal Sctp rw @ flow.tp_src: u16, net, 0, M16;
    /// SCTP destination port.
    SctpDst ["sctp_dst"], ["OXM_OF_SCTP_DST"], 16 Decimal Sctp rw @ flow.tp_dst: u16, net, 0, M16;
    /// ICMP type.
    IcmpType ["icmp_type"], ["NXM_OF_ICMP_TYPE", "OXM_OF_ICMPV4_TYPE"], 8 Decimal Icmpv4 rw @ flow.tp_src: u16, net, 0, M16;
    /// ICMP code.
    IcmpCode ["icmp_code"], ["NXM_OF_ICMP_CODE", "OXM_OF_ICMPV4_CODE"], 8 Decimal Icmpv4 rw @ flow.tp_dst: u16, net, 0, M16;
    /// ICMPv6 type.
    Icmpv6Type ["icmpv6_type"], ["NXM_NX_ICMPV6_TYPE", "OXM_OF_ICMPV6_TYPE"], 8 Decimal Icmpv6 rw @ flow.tp_src: u16, net, 0, M16;
    /// ICMPv6 code.
    Icmpv6Code ["icmpv6_code"], ["NXM_NX_ICMPV6_CODE", "OXM_OF_ICMPV6_CODE"], 8 Decimal Icmpv6 rw @ flow.tp_dst: u16, net, 0, M16;
    /// Target of a neighbour solicitation or advertisement.
    NdTarget ["nd_target"], ["NXM_NX_ND_TARGET", "OXM_OF_IPV6_ND_TARGET"], 128 Ipv6 Nd rw @ flow.nd_target: u128, net, 0, u128::MAX;
    /// Source link-layer address of a neighbour solicitation.
    NdSll ["nd_sll"], ["NXM_NX_ND_SLL", "OXM_OF_IPV6_ND_SLL"], 48 Mac NdSolicit rw @ flow.arp_sha: [u8; 6], net, 0, M48;
    /// Target link-layer address of a neighbour advertisement.
    NdTll ["nd_tll"], ["NXM_NX_ND_TLL", "OXM_OF_IPV6_ND_TLL"], 48 Mac NdAdvert rw @ flow.arp_tha: [u8; 6], net, 0, M48;
    /// ARP opcode (its low byte, as in OVS).
    ArpOp ["arp_op"], ["NXM_OF_ARP_OP", "OXM_OF_ARP_OP"], 16 Decimal Arp rw @ flow.nw_proto: u8, net, 0, 0xff;
    /// ARP sender IPv4 address.
    ArpSpa ["arp_spa"], ["NXM_OF_ARP_SPA", "OXM_OF_ARP_SPA"], 32 Ipv4 Arp rw @ flow.nw_src: u32, net, 0, M32;
    /// ARP target IPv4 address.
    ArpTpa ["arp_tpa"], ["NXM_OF_ARP_TPA", "OXM_OF_ARP_TPA"], 32 Ipv4 Arp rw @ flow.nw_dst: u32, net, 0, M32;
    /// ARP sender hardware address.
    ArpSha ["arp_sha"], ["NXM_NX_ARP_SHA", "OXM_OF_ARP_SHA"], 48 Mac Arp rw @ flow.arp_sha: [u8; 6], net, 0, M48;
    /// ARP target hardware address.
    ArpTha ["arp_tha"], ["NXM_NX_ARP_THA", "OXM_OF_ARP_THA"], 48 Mac Arp rw @ flow.arp_tha: [u8; 6], net, 0, M48;
}

impl FieldInfo {
    /// The bits of a value that mean anything to the field: what an exact match's mask is. Narrower than
    /// [`bits`](Self::bits) for `tun_id` and `nw_tos`, wider for what shares a wider field's storage.
    pub fn exact(&self) -> u128 {
        self.stored
    }

    /// Largest value that may be written, from [`bits`](Self::bits).
    pub fn max(&self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits))
    }
}

impl Field {
    /// Every field.
    pub fn all() -> impl Iterator<Item = Field> {
        TABLE.iter().map(|info| info.field)
    }

    /// The field's row of the table.
    #[inline]
    pub fn info(self) -> &'static FieldInfo {
        &TABLE[self as usize]
    }

    /// Whether the field takes a mask (`ovs-fields(7)`, "Masking"). `ip_frag` has words for that instead.
    pub fn is_maskable(self) -> bool {
        !matches!(
            self,
            Field::InPort
                | Field::EthType
                | Field::VlanPcp
                | Field::IpProto
                | Field::NwTos
                | Field::IpDscp
                | Field::NwEcn
                | Field::NwTtl
                | Field::IpFrag
                | Field::IcmpType
                | Field::IcmpCode
                | Field::Icmpv6Type
                | Field::Icmpv6Code
                | Field::ArpOp
        )
    }

    /// OVS's name of the field.
    pub fn name(self) -> &'static str {
        self.info().names[0]
    }

    /// The field with this name, alias or NXM/OXM name.
    pub fn from_name(name: &str) -> Option<Field> {
        let row = TABLE.iter().find(|row| row.names.contains(&name) || row.nxm.contains(&name));
        row.map(|row| row.field)
    }

    /// The storage as a big-endian number.
    fn raw(self, key: &MatchKey) -> u128 {
        let info = self.info();
        let bytes = &key.as_bytes()[info.offset..info.offset + info.size];
        let fold = |value: u128, byte: &u8| value << 8 | u128::from(*byte);
        if info.host && cfg!(target_endian = "little") {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        }
    }

    /// The field's value in `key`, right-aligned. Of a mask, its mask.
    pub fn get(self, key: &MatchKey) -> u128 {
        self.raw(key) >> self.info().shift & self.info().stored
    }

    /// Sets the field. Bits that the field has no room for are lost: see [`FieldInfo::exact`].
    pub fn set(self, key: &mut MatchKey, value: u128) {
        let info = self.info();
        let mut raw = self.raw(key) & !(info.stored << info.shift) | (value & info.stored) << info.shift;
        let bytes = &mut key.as_mut_bytes()[info.offset..info.offset + info.size];
        let mut put = |byte: &mut u8| {
            *byte = raw as u8;
            raw >>= 8;
        };
        if info.host && cfg!(target_endian = "little") {
            bytes.iter_mut().for_each(&mut put);
        } else {
            bytes.iter_mut().rev().for_each(&mut put);
        }
    }

    /// Sets the bits of `mask` to those of `value`.
    pub fn set_masked(self, key: &mut MatchKey, value: u128, mask: u128) {
        self.set(key, self.get(key) & !mask | value & mask);
    }
}

/// Some adjacent bits of a field: `NXM_NX_REG0[0..15]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// Lowest bit, 0 being the least significant.
    pub start: u8,
    /// Number of bits, at least 1.
    pub bits: u8,
}

impl Subfield {
    /// All bits of a field.
    pub fn whole(field: Field) -> Subfield {
        Subfield { field, start: 0, bits: field.info().bits }
    }

    /// Largest value.
    pub fn max(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits))
    }

    /// The bits' value in `key`, right-aligned.
    pub fn get(self, key: &MatchKey) -> u128 {
        self.field.get(key) >> self.start & self.max()
    }

    /// Sets the bits to the low bits of `value`.
    pub fn set(self, key: &mut MatchKey, value: u128) {
        self.field.set_masked(key, (value & self.max()) << self.start, self.max() << self.start);
    }
}

const _: () = assert!(size_of::<FlowKey>() == offset_of!(MatchKey, metadata));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.field as usize, i);
            assert!(row.stored << row.shift >> row.shift == row.stored);
            assert!(row.size == 16 || row.stored << row.shift >> (row.size * 8) == 0, "{:?}", row.field);
            for name in row.names.iter().chain(row.nxm) {
                assert_eq!(Field::from_name(name), Some(row.field), "{name} is ambiguous");
            }
        }
        assert_eq!(Field::from_name("nw_source"), None);
    }

    #[test]
    fn get_and_set() {
        let mut key = MatchKey::ZERO;
        for field in Field::all() {
            let value = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef & field.info().exact();
            field.set(&mut key, value);
            assert_eq!(field.get(&key), value, "{field:?}");
        }
        let mut key = MatchKey::ZERO;
        Field::InPort.set(&mut key, 7);
        Field::IpSrc.set(&mut key, 0x0a00_0001);
        Field::VlanPcp.set(&mut key, 5);
        Field::VlanVid.set(&mut key, 0xfff);
        Field::IpDscp.set(&mut key, 46);
        Field::NwEcn.set(&mut key, 3);
        Field::Reg3.set(&mut key, 0xdead_beef);
        let flow = key.flow;
        assert_eq!((flow.in_port, flow.nw_src.get(), key.reg[3]), (7, 0x0a00_0001, 0xdead_beef));
        assert_eq!((flow.vlan_tci.get(), flow.nw_tos), (0xafff, 46 << 2 | 3));
        Field::NwTos.set(&mut key, 0xff);
        assert_eq!(key.flow.nw_tos, 0xff);
        Field::NwTos.set(&mut key, 0);
        assert_eq!(key.flow.nw_tos, 3, "ECN is another field");
    }

    #[test]
    fn subfields() {
        let mut key = MatchKey::ZERO;
        let high = Subfield { field: Field::Reg0, start: 16, bits: 16 };
        high.set(&mut key, 0x5_1234);
        assert_eq!((key.reg[0], high.get(&key)), (0x1234_0000, 0x1234));
        let tun = Subfield::whole(Field::TunId);
        tun.set(&mut key, 100);
        assert_eq!((tun.bits, tun.get(&key), key.flow.tun_id), (64, 100, 100));
    }
}
