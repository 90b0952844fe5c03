//! What ARP, neighbour discovery and DHCP packets of hosts say and ask. These bytes come off a wire: what is not understood
//! says nothing.

use crate::bridge::hosts::Claim;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMPV6, IP_UDP};
use wire::view::{ArpOp, ArpRepr, EthernetRepr, Icmpv6Repr, Ipv4Repr, Ipv6Repr, UdpRepr};

/// Who asks for which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// An ARP request that wants an answer: not a probe, not one that tells of the sender's own address.
    Arp(ArpRepr),
    /// A neighbour solicitation that is not for duplicate address detection.
    Nd {
        /// Who asks.
        from: Ipv6Addr,
        /// Its MAC address.
        mac: MacAddr,
        /// For whom.
        target: Ipv6Addr,
    },
}

impl Question {
    /// The address asked for.
    pub(super) fn target(&self) -> IpAddr {
        match self {
            Question::Arp(arp) => arp.tpa.into(),
            Question::Nd { target, .. } => (*target).into(),
        }
    }
}

/// What is in a packet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostMessage {
    /// What it says.
    pub claim: Option<Claim>,
    /// The claim is the sender's own, so its MAC address must be where the packet came from. A DHCP server's is another's.
    pub is_own: bool,
    /// What it asks.
    pub question: Option<Question>,
}

impl HostMessage {
    /// Reads a frame.
    pub(super) fn of(frame: &[u8]) -> HostMessage {
        let Ok((eth, payload)) = EthernetRepr::parse(frame) else { return HostMessage::default() };
        let read = match eth.ethertype {
            ETH_ARP => ArpRepr::parse(payload).ok().map(|arp| HostMessage::arp(&arp)),
            ETH_IPV6 => HostMessage::discovery(eth.src, payload),
            ETH_IPV4 => HostMessage::dhcp(payload),
            _ => None,
        };
        read.unwrap_or_default()
    }

    fn arp(arp: &ArpRepr) -> HostMessage {
        let claim = Claim { ip: arp.spa.into(), mac: arp.sha, router: Some(false), overrides: true };
        let is_question = arp.op == ArpOp::Request
            && !arp.spa.is_unspecified()
            && !arp.is_gratuitous()
            && is_host(arp.tpa.into());
        HostMessage {
            claim: is_station(&claim).then_some(claim),
            is_own: true,
            question: is_question.then_some(Question::Arp(*arp)),
        }
    }

    fn discovery(src: MacAddr, payload: &[u8]) -> Option<HostMessage> {
        let (ip, payload) = Ipv6Repr::parse(payload).ok()?;
        if ip.next_header != IP_ICMPV6 {
            return None;
        }
        let (claim, question) = match Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit).ok()? {
            Icmpv6Repr::NeighbourSolicit { target, sll } => {
                let mac = sll.unwrap_or(src);
                let claim = Claim { ip: ip.src.into(), mac, router: None, overrides: true };
                let asks = !ip.src.is_unspecified() && is_host(target.into());
                (claim, asks.then_some(Question::Nd { from: ip.src, mac, target }))
            }
            Icmpv6Repr::NeighbourAdvert { target, router, overrides, tll, .. } => {
                let mac = tll.unwrap_or(src);
                (Claim { ip: target.into(), mac, router: Some(router), overrides }, None)
            }
            _ => return None,
        };
        Some(HostMessage { claim: is_station(&claim).then_some(claim), is_own: true, question })
    }

    /// A DHCP server's acknowledgement (RFC 2131, section 2; options: RFC 2132).
    fn dhcp(payload: &[u8]) -> Option<HostMessage> {
        const REPLY: u8 = 2;
        const ETHERNET: [u8; 2] = [1, 6];
        const COOKIE: [u8; 4] = [99, 130, 83, 99];
        const MESSAGE_TYPE: u8 = 53;
        const ACK: u8 = 5;
        const OPTIONS: usize = 236 + 4;
        let (ip, payload) = Ipv4Repr::parse(payload).ok()?;
        if ip.proto != IP_UDP {
            return None;
        }
        let (udp, bootp) = UdpRepr::parse(payload, ip.src.into(), ip.dst.into()).ok()?;
        let is_reply = (udp.src_port, udp.dst_port) == (67, 68)
            && bootp.first() == Some(&REPLY)
            && bootp.get(1..3) == Some(&ETHERNET)
            && bootp.get(236..OPTIONS) == Some(&COOKIE);
        if !is_reply {
            return None;
        }
        let mut options = bootp.get(OPTIONS..)?;
        let kind = loop {
            match *options {
                [0, ref rest @ ..] => options = rest,
                [MESSAGE_TYPE, 1, kind, ..] => break kind,
                [255, ..] | [] | [_] => return None,
                [_, len, ref rest @ ..] => options = rest.get(usize::from(len)..)?,
            }
        };
        let address: [u8; 4] = bootp.get(16..20)?.try_into().ok()?;
        let mac = MacAddr(bootp.get(28..34)?.try_into().ok()?);
        let claim = Claim { ip: Ipv4Addr::from(address).into(), mac, router: Some(false), overrides: true };
        let claim = (kind == ACK && is_station(&claim)).then_some(claim);
        Some(HostMessage { claim, is_own: false, question: None })
    }
}

/// Whether an address can be one host's.
fn is_host(ip: IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_broadcast
}

/// Whether address and MAC address can be one host's.
fn is_station(claim: &Claim) -> bool {
    is_host(claim.ip) && !claim.mac.is_multicast() && !claim.mac.is_zero()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::view::{build_arp, build_icmpv6, build_udp, multicast_mac, solicited_node};

    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const ETH: EthernetRepr =
        EthernetRepr { dst: MacAddr::BROADCAST, src: HOST, vlan_tci: Some(7), ethertype: ETH_ARP };

    fn arp(op: ArpOp, spa: [u8; 4], tpa: [u8; 4]) -> HostMessage {
        let arp = ArpRepr { op, sha: HOST, spa: spa.into(), tha: MacAddr::ZERO, tpa: tpa.into() };
        let mut bytes = [0; 64];
        let len = build_arp(&mut bytes, &ETH, &arp).unwrap();
        HostMessage::of(&bytes[..len])
    }

    fn nd(src: Ipv6Addr, message: &Icmpv6Repr<'_>) -> HostMessage {
        let mut bytes = [0; 128];
        let to = solicited_node("fd00::2".parse().unwrap());
        let len = build_icmpv6(&mut bytes, &EthernetRepr { dst: multicast_mac(to), ..ETH }, src, to, message);
        HostMessage::of(&bytes[..len.unwrap()])
    }

    fn dhcp(kind: u8) -> Vec<u8> {
        let mut bootp = vec![0; 240];
        (bootp[0], bootp[1], bootp[2]) = (2, 1, 6);
        bootp[16..20].copy_from_slice(&[10, 0, 0, 5]);
        bootp[28..34].copy_from_slice(&HOST.0);
        bootp[236..].copy_from_slice(&[99, 130, 83, 99]);
        bootp.extend([0, 54, 4, 10, 0, 0, 1, 53, 1, kind, 255]);
        let mut bytes = [0; 512];
        let ips = [[10, 0, 0, 1], [255, 255, 255, 255]].map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
        let udp = UdpRepr { src_port: 67, dst_port: 68 };
        let len = build_udp(&mut bytes, &ETH, ips[0], ips[1], udp, &bootp).unwrap();
        bytes[..len].to_vec()
    }

    #[test]
    fn probes_and_announcements_ask_nothing() {
        let asked = arp(ArpOp::Request, [10, 0, 0, 1], [10, 0, 0, 2]);
        assert_eq!(asked.question.unwrap().target(), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(asked.claim.map(|claim| (claim.ip, claim.mac)), Some(([10, 0, 0, 1].into(), HOST)));
        let probe = arp(ArpOp::Request, [0; 4], [10, 0, 0, 2]);
        assert_eq!((probe.question, probe.claim), (None, None));
        let gratuitous = arp(ArpOp::Request, [10, 0, 0, 1], [10, 0, 0, 1]);
        assert!(gratuitous.question.is_none() && gratuitous.claim.is_some());
        assert!(arp(ArpOp::Reply, [10, 0, 0, 1], [10, 0, 0, 2]).question.is_none());
        assert!(arp(ArpOp::Request, [10, 0, 0, 1], [224, 0, 0, 1]).question.is_none());

        let (one, two) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let asked = nd(one, &Icmpv6Repr::NeighbourSolicit { target: two, sll: Some(HOST) });
        assert_eq!(asked.question, Some(Question::Nd { from: one, mac: HOST, target: two }));
        assert_eq!(asked.claim.unwrap().router, None);
        let detection = nd(Ipv6Addr::UNSPECIFIED, &Icmpv6Repr::NeighbourSolicit { target: two, sll: None });
        assert_eq!((detection.question, detection.claim), (None, None));
        let told = nd(
            one,
            &Icmpv6Repr::NeighbourAdvert {
                target: one,
                router: true,
                solicited: false,
                overrides: false,
                tll: Some(HOST),
            },
        );
        let claim = Claim { ip: one.into(), mac: HOST, router: Some(true), overrides: false };
        assert_eq!((told.question, told.claim), (None, Some(claim)));
    }

    #[test]
    fn only_acknowledged_addresses_are_bindings() {
        let acknowledged = HostMessage::of(&dhcp(5));
        let claim = acknowledged.claim.unwrap();
        assert_eq!((claim.ip, claim.mac, acknowledged.is_own), ([10, 0, 0, 5].into(), HOST, false));
        assert_eq!(HostMessage::of(&dhcp(2)).claim, None, "an offer");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(mut frame in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..320,
                                 at in 14usize..320, byte: u8) {
            let _ = HostMessage::of(&frame);
            let mut good = dhcp(5);
            good.truncate(cut);
            if let Some(place) = good.get_mut(at) {
                *place = byte;
            }
            let _ = HostMessage::of(&good);
            frame.splice(0..0, good);
            let _ = HostMessage::of(&frame);
        }
    }
}
