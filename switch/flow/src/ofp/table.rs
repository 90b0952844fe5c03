//! The table of match fields: one row a field, in the order in which a match prints them.
//!
//! A row is everything that the switch knows of a field: the parser, the printers, the classifier, the translator
//! and OpenFlow's codec read it here, so a new field that the key has room for is a new row.

use super::field::Format::{Decimal, Fragment, Hexadecimal, Mac};
use super::field::Layer::{Arp, Ethernet, Icmp, Ip, Nd, Register, Transport, Tunnel, Vlan};
use super::field::{FieldInfo, Format, Layer, Order, Oxm, Place, Stage, row};
use super::key::MatchKey;
use super::prerequisite::Prerequisite as Needs;
use crate::program::Op;
use crate::program::Side::{Dst, Src};
use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::tunnel::geneve::Tlv;

/// A member of [`MatchKey`] and how it is stored: in network byte order, as a native integer (`host`), or as
/// native `u32`, the most significant one first (`words`).
macro_rules! at {
    ($($member:ident).+ $([$index:literal])? : $ty:ty) => {
        at!(@ $($member).+ $([$index])?, $ty, Order::Network)
    };
    ($($member:ident).+ $([$index:literal])? : $ty:ty, host) => {
        at!(@ $($member).+ $([$index])?, $ty, Order::Host { word: size_of::<$ty>() })
    };
    ($($member:ident).+ $([$index:literal])? : $ty:ty, words) => {
        at!(@ $($member).+ $([$index])?, $ty, Order::Host { word: 4 })
    };
    (@ $($member:ident).+, $ty:ty, $order:expr) => {
        Place { offset: offset_of!(MatchKey, $($member).+), size: size_of::<$ty>(), order: $order }
    };
    (@ $($member:ident).+ [$index:literal], $ty:ty, $order:expr) => {
        Place { offset: offset_of!(MatchKey, $($member).+) + 4 * $index, size: size_of::<$ty>(), order: $order }
    };
}

/// A name of OpenFlow's with the field's number in the class that the name begins with, and its length in bytes.
macro_rules! oxm {
    ($name:literal, $number:literal, $length:literal) => {
        Oxm { name: $name, number: $number, length: $length }
    };
}

/// Declares [`Field`] and its table.
macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $row:expr;)*) => {
        /// A field by its OVS meaning. Several may share storage (`tcp_src`, `udp_src`, `icmp_type`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Field {
            $($(#[$doc])* $variant,)*
            /// `tun_metadata0` to `tun_metadata63`: an option of Geneve, where the bridge's TLV map puts it.
            TunMetadata(Tlv),
        }

        /// The fields of the table by their numbers.
        #[derive(Clone, Copy)]
        enum Number { $($variant,)* }

        impl Field {
            /// In the order of the table.
            pub(super) const ALL: &[Field] = &[$(Field::$variant),*];

            /// Number of the field's row; `None` for a field that the table does not have.
            #[inline]
            pub(super) const fn number(self) -> Option<usize> {
                Some(match self {
                    $(Field::$variant => Number::$variant as usize,)*
                    Field::TunMetadata(_) => return None,
                })
            }
        }

        pub(super) static TABLE: &[FieldInfo] = &[$($row),*];
    };
}

fn ipv4(value: u128) -> Ipv4Addr {
    Ipv4Addr::from(value as u32)
}

fn ipv6(value: u128) -> Ipv6Addr {
    Ipv6Addr::from(value)
}

fn mac(value: u128) -> MacAddr {
    let [_, _, a, b, c, d, e, f] = (value as u64).to_be_bytes();
    MacAddr([a, b, c, d, e, f])
}

fields! {
    /// Mark of the packet, for other parts of the system.
    PktMark = row(&["pkt_mark"], 32, Hexadecimal, Register, at!(pkt_mark: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_PKT_MARK", 33, 4)]);
    /// Which conjunction of rules the packet has met; zero but for the lookup that asks it.
    ConjId = row(&["conj_id"], 32, Decimal, Register, at!(conj_id: u32, host)).oxm(&[oxm!("NXM_NX_CONJ_ID", 37, 4)]);
    /// Register 0.
    Reg0 = row(&["reg0"], 32, Hexadecimal, Register, at!(reg[0]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG0", 0, 4)]);
    /// Register 1.
    Reg1 = row(&["reg1"], 32, Hexadecimal, Register, at!(reg[1]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG1", 1, 4)]);
    /// Register 2.
    Reg2 = row(&["reg2"], 32, Hexadecimal, Register, at!(reg[2]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG2", 2, 4)]);
    /// Register 3.
    Reg3 = row(&["reg3"], 32, Hexadecimal, Register, at!(reg[3]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG3", 3, 4)]);
    /// Register 4.
    Reg4 = row(&["reg4"], 32, Hexadecimal, Register, at!(reg[4]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG4", 4, 4)]);
    /// Register 5.
    Reg5 = row(&["reg5"], 32, Hexadecimal, Register, at!(reg[5]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG5", 5, 4)]);
    /// Register 6.
    Reg6 = row(&["reg6"], 32, Hexadecimal, Register, at!(reg[6]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG6", 6, 4)]);
    /// Register 7.
    Reg7 = row(&["reg7"], 32, Hexadecimal, Register, at!(reg[7]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG7", 7, 4)]);
    /// Register 8.
    Reg8 = row(&["reg8"], 32, Hexadecimal, Register, at!(reg[8]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG8", 8, 4)]);
    /// Register 9.
    Reg9 = row(&["reg9"], 32, Hexadecimal, Register, at!(reg[9]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG9", 9, 4)]);
    /// Register 10.
    Reg10 = row(&["reg10"], 32, Hexadecimal, Register, at!(reg[10]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG10", 10, 4)]);
    /// Register 11.
    Reg11 = row(&["reg11"], 32, Hexadecimal, Register, at!(reg[11]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG11", 11, 4)]);
    /// Register 12.
    Reg12 = row(&["reg12"], 32, Hexadecimal, Register, at!(reg[12]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG12", 12, 4)]);
    /// Register 13.
    Reg13 = row(&["reg13"], 32, Hexadecimal, Register, at!(reg[13]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG13", 13, 4)]);
    /// Register 14.
    Reg14 = row(&["reg14"], 32, Hexadecimal, Register, at!(reg[14]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG14", 14, 4)]);
    /// Register 15.
    Reg15 = row(&["reg15"], 32, Hexadecimal, Register, at!(reg[15]: u32, host)).masked().writable().oxm(&[oxm!("NXM_NX_REG15", 15, 4)]);
    /// Registers 0 and 1.
    Xreg0 = row(&["xreg0"], 64, Hexadecimal, Register, at!(reg[0]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG0", 0, 8)]);
    /// Registers 2 and 3.
    Xreg1 = row(&["xreg1"], 64, Hexadecimal, Register, at!(reg[2]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG1", 1, 8)]);
    /// Registers 4 and 5.
    Xreg2 = row(&["xreg2"], 64, Hexadecimal, Register, at!(reg[4]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG2", 2, 8)]);
    /// Registers 6 and 7.
    Xreg3 = row(&["xreg3"], 64, Hexadecimal, Register, at!(reg[6]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG3", 3, 8)]);
    /// Registers 8 and 9.
    Xreg4 = row(&["xreg4"], 64, Hexadecimal, Register, at!(reg[8]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG4", 4, 8)]);
    /// Registers 10 and 11.
    Xreg5 = row(&["xreg5"], 64, Hexadecimal, Register, at!(reg[10]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG5", 5, 8)]);
    /// Registers 12 and 13.
    Xreg6 = row(&["xreg6"], 64, Hexadecimal, Register, at!(reg[12]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG6", 6, 8)]);
    /// Registers 14 and 15.
    Xreg7 = row(&["xreg7"], 64, Hexadecimal, Register, at!(reg[14]: u64, words)).alias().masked().writable().oxm(&[oxm!("OXM_OF_PKT_REG7", 7, 8)]);
    /// Registers 0 to 3.
    Xxreg0 = row(&["xxreg0"], 128, Hexadecimal, Register, at!(reg[0]: u128, words)).alias().masked().writable().oxm(&[oxm!("NXM_NX_XXREG0", 111, 16)]);
    /// Registers 4 to 7.
    Xxreg1 = row(&["xxreg1"], 128, Hexadecimal, Register, at!(reg[4]: u128, words)).alias().masked().writable().oxm(&[oxm!("NXM_NX_XXREG1", 112, 16)]);
    /// Registers 8 to 11.
    Xxreg2 = row(&["xxreg2"], 128, Hexadecimal, Register, at!(reg[8]: u128, words)).alias().masked().writable().oxm(&[oxm!("NXM_NX_XXREG2", 113, 16)]);
    /// Registers 12 to 15.
    Xxreg3 = row(&["xxreg3"], 128, Hexadecimal, Register, at!(reg[12]: u128, words)).alias().masked().writable().oxm(&[oxm!("NXM_NX_XXREG3", 114, 16)]);
    /// VNI or key of the tunnel. OpenFlow gives it 64 bits, VXLAN and Geneve 24, GRE 32.
    TunId = row(&["tun_id", "tunnel_id"], 64, Hexadecimal, Tunnel, at!(flow.tun_id: u32, host)).megaflow("tun_id").masked().writable().oxm(&[oxm!("NXM_NX_TUN_ID", 16, 8), oxm!("OXM_OF_TUNNEL_ID", 38, 8)]);
    /// Outer IPv4 source.
    TunSrc = row(&["tun_src"], 32, Format::Ipv4, Tunnel, at!(flow.tun_src: u32)).megaflow("src").masked().writable().oxm(&[oxm!("NXM_NX_TUN_IPV4_SRC", 31, 4)]);
    /// Outer IPv4 destination.
    TunDst = row(&["tun_dst"], 32, Format::Ipv4, Tunnel, at!(flow.tun_dst: u32)).megaflow("dst").masked().writable().oxm(&[oxm!("NXM_NX_TUN_IPV4_DST", 32, 4)]);
    /// Outer IPv6 source.
    TunIpv6Src = row(&["tun_ipv6_src"], 128, Format::Ipv6, Tunnel, at!(flow.tun_ipv6_src: u128)).megaflow("ipv6_src").masked().writable().oxm(&[oxm!("NXM_NX_TUN_IPV6_SRC", 109, 16)]);
    /// Outer IPv6 destination.
    TunIpv6Dst = row(&["tun_ipv6_dst"], 128, Format::Ipv6, Tunnel, at!(flow.tun_ipv6_dst: u128)).megaflow("ipv6_dst").masked().writable().oxm(&[oxm!("NXM_NX_TUN_IPV6_DST", 110, 16)]);
    /// VXLAN-GBP group policy ID.
    TunGbpId = row(&["tun_gbp_id"], 16, Decimal, Tunnel, at!(flow.tun_gbp_id: u16)).megaflow("gbp_id").masked().writable().oxm(&[oxm!("NXM_NX_TUN_GBP_ID", 38, 2)]);
    /// VXLAN-GBP flags.
    TunGbpFlags = row(&["tun_gbp_flags"], 8, Hexadecimal, Tunnel, at!(flow.tun_gbp_flags: u8)).megaflow("gbp_flags").masked().writable().oxm(&[oxm!("NXM_NX_TUN_GBP_FLAGS", 39, 1)]);
    /// Outer TOS.
    TunTos = row(&["tun_tos"], 8, Hexadecimal, Tunnel, at!(flow.tun_tos: u8)).megaflow("tos").masked();
    /// Outer TTL.
    TunTtl = row(&["tun_ttl"], 8, Decimal, Tunnel, at!(flow.tun_ttl: u8)).megaflow("ttl").masked();
    /// `wire::key::TUN_*`.
    TunFlags = row(&["tun_flags"], 16, Format::TunnelFlags, Tunnel, at!(flow.tun_flags: u16, host)).megaflow("flags").masked().oxm(&[oxm!("NXM_NX_TUN_FLAGS", 104, 2)]);
    /// Pipeline metadata.
    Metadata = row(&["metadata"], 64, Hexadecimal, Register, at!(metadata: u64, host)).masked().writable().oxm(&[oxm!("OXM_OF_METADATA", 2, 8)]);
    /// OpenFlow port the packet came in by.
    InPort = row(&["in_port"], 16, Format::Port, Layer::Port, at!(flow.in_port: u32, host)).stored(0xffff_ffff).writable().oxm(&[oxm!("NXM_OF_IN_PORT", 0, 2), oxm!("OXM_OF_IN_PORT", 0, 4)]);
    /// The whole 802.1Q tag, with `VLAN_PRESENT` in the place of the DEI bit.
    VlanTci = row(&["vlan_tci"], 16, Hexadecimal, Vlan, at!(flow.vlan_tci: u16)).masked().writable().oxm(&[oxm!("NXM_OF_VLAN_TCI", 4, 2)]);
    /// VLAN ID.
    VlanVid = row(&["vlan_vid", "dl_vlan"], 12, Decimal, Vlan, at!(flow.vlan_tci: u16)).alias().masked().needs(Needs::Vlan).match_needs(Needs::None).writable().oxm(&[oxm!("OXM_OF_VLAN_VID", 6, 2)]);
    /// VLAN priority.
    VlanPcp = row(&["vlan_pcp", "dl_vlan_pcp"], 3, Decimal, Vlan, at!(flow.vlan_tci: u16)).shift(13).alias().needs(Needs::Vlan).match_needs(Needs::None).writable().oxm(&[oxm!("OXM_OF_VLAN_PCP", 7, 1)]);
    /// Ethernet source.
    EthSrc = row(&["eth_src", "dl_src"], 48, Mac, Ethernet, at!(flow.dl_src: [u8; 6])).shown("dl_src").megaflow("src").masked().set(|v| Op::SetMac(Src, mac(v))).oxm(&[oxm!("NXM_OF_ETH_SRC", 2, 6), oxm!("OXM_OF_ETH_SRC", 4, 6)]);
    /// Ethernet destination.
    EthDst = row(&["eth_dst", "dl_dst"], 48, Mac, Ethernet, at!(flow.dl_dst: [u8; 6])).shown("dl_dst").megaflow("dst").masked().set(|v| Op::SetMac(Dst, mac(v))).oxm(&[oxm!("NXM_OF_ETH_DST", 1, 6), oxm!("OXM_OF_ETH_DST", 3, 6)]);
    /// EtherType.
    EthType = row(&["eth_type", "dl_type"], 16, Hexadecimal, Ethernet, at!(flow.dl_type: u16)).shown("dl_type").oxm(&[oxm!("NXM_OF_ETH_TYPE", 3, 2), oxm!("OXM_OF_ETH_TYPE", 5, 2)]);
    /// ARP sender IPv4 address.
    ArpSpa = row(&["arp_spa"], 32, Format::Ipv4, Arp, at!(flow.nw_src: u32)).megaflow("sip").masked().needs(Needs::Arp).set(|v| Op::SetArpIp(Src, ipv4(v))).oxm(&[oxm!("NXM_OF_ARP_SPA", 16, 4), oxm!("OXM_OF_ARP_SPA", 22, 4)]);
    /// ARP target IPv4 address.
    ArpTpa = row(&["arp_tpa"], 32, Format::Ipv4, Arp, at!(flow.nw_dst: u32)).megaflow("tip").masked().needs(Needs::Arp).set(|v| Op::SetArpIp(Dst, ipv4(v))).oxm(&[oxm!("NXM_OF_ARP_TPA", 17, 4), oxm!("OXM_OF_ARP_TPA", 23, 4)]);
    /// ARP opcode (its low byte, as in OVS).
    ArpOp = row(&["arp_op"], 16, Decimal, Arp, at!(flow.nw_proto: u8)).megaflow("op").needs(Needs::Arp).set(|v| Op::SetArpOp(v as u16)).oxm(&[oxm!("NXM_OF_ARP_OP", 15, 2), oxm!("OXM_OF_ARP_OP", 21, 2)]);
    /// ARP sender hardware address.
    ArpSha = row(&["arp_sha"], 48, Mac, Arp, at!(flow.arp_sha: [u8; 6])).megaflow("sha").masked().needs(Needs::Arp).set(|v| Op::SetArpMac(Src, mac(v))).oxm(&[oxm!("NXM_NX_ARP_SHA", 17, 6), oxm!("OXM_OF_ARP_SHA", 24, 6)]);
    /// ARP target hardware address.
    ArpTha = row(&["arp_tha"], 48, Mac, Arp, at!(flow.arp_tha: [u8; 6])).megaflow("tha").masked().needs(Needs::Arp).set(|v| Op::SetArpMac(Dst, mac(v))).oxm(&[oxm!("NXM_NX_ARP_THA", 18, 6), oxm!("OXM_OF_ARP_THA", 25, 6)]);
    /// IPv4 source.
    IpSrc = row(&["ip_src", "nw_src"], 32, Format::Ipv4, Layer::Ipv4, at!(flow.nw_src: u32)).shown("nw_src").megaflow("src").masked().needs(Needs::Ipv4).match_needs(Needs::Ipv4OrArp).set(|v| Op::SetIpv4(Src, ipv4(v))).oxm(&[oxm!("NXM_OF_IP_SRC", 7, 4), oxm!("OXM_OF_IPV4_SRC", 11, 4)]);
    /// IPv4 destination.
    IpDst = row(&["ip_dst", "nw_dst"], 32, Format::Ipv4, Layer::Ipv4, at!(flow.nw_dst: u32)).shown("nw_dst").megaflow("dst").masked().needs(Needs::Ipv4).match_needs(Needs::Ipv4OrArp).set(|v| Op::SetIpv4(Dst, ipv4(v))).oxm(&[oxm!("NXM_OF_IP_DST", 8, 4), oxm!("OXM_OF_IPV4_DST", 12, 4)]);
    /// IPv6 source.
    Ipv6Src = row(&["ipv6_src"], 128, Format::Ipv6, Layer::Ipv6, at!(flow.ipv6_src: u128)).megaflow("src").masked().needs(Needs::Ipv6).set(|v| Op::SetIpv6(Src, ipv6(v))).oxm(&[oxm!("NXM_NX_IPV6_SRC", 19, 16), oxm!("OXM_OF_IPV6_SRC", 26, 16)]);
    /// IPv6 destination.
    Ipv6Dst = row(&["ipv6_dst"], 128, Format::Ipv6, Layer::Ipv6, at!(flow.ipv6_dst: u128)).megaflow("dst").masked().needs(Needs::Ipv6).set(|v| Op::SetIpv6(Dst, ipv6(v))).oxm(&[oxm!("NXM_NX_IPV6_DST", 20, 16), oxm!("OXM_OF_IPV6_DST", 27, 16)]);
    /// IPv6 flow label.
    Ipv6Label = row(&["ipv6_label"], 20, Hexadecimal, Layer::Ipv6, at!(flow.ipv6_label: u32)).megaflow("label").masked().needs(Needs::Ipv6).set(|v| Op::SetIpv6Label(v as u32)).oxm(&[oxm!("NXM_NX_IPV6_LABEL", 27, 4), oxm!("OXM_OF_IPV6_FLABEL", 28, 4)]);
    /// IP protocol.
    IpProto = row(&["nw_proto", "ip_proto"], 8, Decimal, Ip, at!(flow.nw_proto: u8)).megaflow("proto").needs(Needs::Ip).match_needs(Needs::IpOrArp).oxm(&[oxm!("NXM_OF_IP_PROTO", 6, 1), oxm!("OXM_OF_IP_PROTO", 10, 1)]);
    /// DSCP in the upper six bits of eight, as it stands in the packet. Its op sets the ECN bits, too.
    NwTos = row(&["nw_tos"], 8, Decimal, Ip, at!(flow.nw_tos: u8)).stored(0xfc).megaflow("tos").needs(Needs::Ip).set(|v| Op::SetTos(v as u8)).oxm(&[oxm!("NXM_OF_IP_TOS", 5, 1)]);
    /// DSCP as a six bit number.
    IpDscp = row(&["ip_dscp"], 6, Decimal, Ip, at!(flow.nw_tos: u8)).shift(2).alias().needs(Needs::Ip).writable().oxm(&[oxm!("OXM_OF_IP_DSCP", 8, 1)]);
    /// ECN.
    NwEcn = row(&["nw_ecn", "ip_ecn"], 2, Decimal, Ip, at!(flow.nw_tos: u8)).megaflow("ecn").needs(Needs::Ip).writable().oxm(&[oxm!("NXM_NX_IP_ECN", 28, 1), oxm!("OXM_OF_IP_ECN", 9, 1)]);
    /// IPv4 TTL, IPv6 hop limit.
    NwTtl = row(&["nw_ttl"], 8, Decimal, Ip, at!(flow.nw_ttl: u8)).megaflow("ttl").needs(Needs::Ip).set(|v| Op::SetTtl(v as u8)).oxm(&[oxm!("NXM_NX_IP_TTL", 29, 1)]);
    /// Whether, and which part of, a fragment.
    IpFrag = row(&["ip_frag", "nw_frag"], 8, Fragment, Ip, at!(flow.nw_frag: u8)).stored(3).shown("nw_frag").megaflow("frag").needs(Needs::Ip).oxm(&[oxm!("NXM_NX_IP_FRAG", 26, 1)]);
    /// Transport source port of whatever protocol.
    TpSrc = row(&["tp_src"], 16, Decimal, Transport, at!(flow.tp_src: u16)).megaflow("src").masked().needs(Needs::Transport).set(|v| Op::SetPort(Src, v as u16));
    /// Transport destination port of whatever protocol.
    TpDst = row(&["tp_dst"], 16, Decimal, Transport, at!(flow.tp_dst: u16)).megaflow("dst").masked().needs(Needs::Transport).set(|v| Op::SetPort(Dst, v as u16));
    /// TCP source port.
    TcpSrc = row(&["tcp_src"], 16, Decimal, Transport, at!(flow.tp_src: u16)).alias().masked().needs(Needs::Tcp).writable().oxm(&[oxm!("NXM_OF_TCP_SRC", 9, 2), oxm!("OXM_OF_TCP_SRC", 13, 2)]);
    /// TCP destination port.
    TcpDst = row(&["tcp_dst"], 16, Decimal, Transport, at!(flow.tp_dst: u16)).alias().masked().needs(Needs::Tcp).writable().oxm(&[oxm!("NXM_OF_TCP_DST", 10, 2), oxm!("OXM_OF_TCP_DST", 14, 2)]);
    /// UDP source port.
    UdpSrc = row(&["udp_src"], 16, Decimal, Transport, at!(flow.tp_src: u16)).alias().masked().needs(Needs::Udp).writable().oxm(&[oxm!("NXM_OF_UDP_SRC", 11, 2), oxm!("OXM_OF_UDP_SRC", 15, 2)]);
    /// UDP destination port.
    UdpDst = row(&["udp_dst"], 16, Decimal, Transport, at!(flow.tp_dst: u16)).alias().masked().needs(Needs::Udp).writable().oxm(&[oxm!("NXM_OF_UDP_DST", 12, 2), oxm!("OXM_OF_UDP_DST", 16, 2)]);
    /// SCTP source port.
    SctpSrc = row(&["sctp_src"], 16, Decimal, Transport, at!(flow.tp_src: u16)).alias().masked().needs(Needs::Sctp).writable().oxm(&[oxm!("OXM_OF_SCTP_SRC", 17, 2)]);
    /// SCTP destination port.
    SctpDst = row(&["sctp_dst"], 16, Decimal, Transport, at!(flow.tp_dst: u16)).alias().masked().needs(Needs::Sctp).writable().oxm(&[oxm!("OXM_OF_SCTP_DST", 18, 2)]);
    /// ICMP type.
    IcmpType = row(&["icmp_type"], 8, Decimal, Icmp, at!(flow.tp_src: u16)).stored(0xffff).megaflow("type").needs(Needs::Icmpv4).match_needs(Needs::Icmp).set(|v| Op::SetIcmpType(v as u8)).oxm(&[oxm!("NXM_OF_ICMP_TYPE", 13, 1), oxm!("OXM_OF_ICMPV4_TYPE", 19, 1)]);
    /// ICMP code.
    IcmpCode = row(&["icmp_code"], 8, Decimal, Icmp, at!(flow.tp_dst: u16)).stored(0xffff).megaflow("code").needs(Needs::Icmpv4).match_needs(Needs::Icmp).set(|v| Op::SetIcmpCode(v as u8)).oxm(&[oxm!("NXM_OF_ICMP_CODE", 14, 1), oxm!("OXM_OF_ICMPV4_CODE", 20, 1)]);
    /// ICMPv6 type.
    Icmpv6Type = row(&["icmpv6_type"], 8, Decimal, Icmp, at!(flow.tp_src: u16)).stored(0xffff).alias().needs(Needs::Icmpv6).writable().oxm(&[oxm!("NXM_NX_ICMPV6_TYPE", 21, 1), oxm!("OXM_OF_ICMPV6_TYPE", 29, 1)]);
    /// ICMPv6 code.
    Icmpv6Code = row(&["icmpv6_code"], 8, Decimal, Icmp, at!(flow.tp_dst: u16)).stored(0xffff).alias().needs(Needs::Icmpv6).writable().oxm(&[oxm!("NXM_NX_ICMPV6_CODE", 22, 1), oxm!("OXM_OF_ICMPV6_CODE", 30, 1)]);
    /// Target of a neighbour solicitation or advertisement.
    NdTarget = row(&["nd_target"], 128, Format::Ipv6, Nd, at!(flow.nd_target: u128)).megaflow("target").masked().needs(Needs::Nd).set(|v| Op::SetNdTarget(ipv6(v))).oxm(&[oxm!("NXM_NX_ND_TARGET", 23, 16), oxm!("OXM_OF_IPV6_ND_TARGET", 31, 16)]);
    /// Source link-layer address of a neighbour solicitation, in the place of ARP's.
    NdSll = row(&["nd_sll"], 48, Mac, Nd, at!(flow.arp_sha: [u8; 6])).at_stage(Stage::L3).megaflow("sll").masked().needs(Needs::NdSolicit).set(|v| Op::SetNdLink(Src, mac(v))).oxm(&[oxm!("NXM_NX_ND_SLL", 24, 6), oxm!("OXM_OF_IPV6_ND_SLL", 32, 6)]);
    /// Target link-layer address of a neighbour advertisement, in the place of ARP's.
    NdTll = row(&["nd_tll"], 48, Mac, Nd, at!(flow.arp_tha: [u8; 6])).at_stage(Stage::L3).megaflow("tll").masked().needs(Needs::NdAdvert).set(|v| Op::SetNdLink(Dst, mac(v))).oxm(&[oxm!("NXM_NX_ND_TLL", 25, 6), oxm!("OXM_OF_IPV6_ND_TLL", 33, 6)]);
    /// TCP flags.
    TcpFlags = row(&["tcp_flags"], 12, Format::TcpFlags, Transport, at!(flow.tcp_flags: u16)).masked().needs(Needs::Tcp).oxm(&[oxm!("NXM_NX_TCP_FLAGS", 34, 2), oxm!("OXM_OF_TCP_FLAGS", 42, 2), oxm!("ONFOXM_ET_TCP_FLAGS", 42, 2)]);
}
