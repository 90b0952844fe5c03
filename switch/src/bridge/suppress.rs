//! Ports with `neigh-suppress`: what of ARP, neighbour discovery and DHCP goes to the slow path, and what is not flooded
//! there (RFC 9161).

use super::mcast::Receivers;
use super::translate::Translator;
use super::vlan::{InVlan, Tag};
use super::{Bridge, Port, PortKind};
use config::RemoteIp;
use flow::program::{Op, PuntReason};
use wire::key::{FRAG_ANY, FlowMask};
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMPV6, IP_UDP, ND_ADVERT, ND_SOLICIT};

/// ARP operations.
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
/// UDP ports of DHCP.
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// Ports that a packet is flooded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    All,
    /// Those without `neigh-suppress`.
    Others,
    /// Those with it.
    Suppressing,
    /// These.
    Receivers(Receivers),
}

/// What a packet is to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Nothing in particular.
    No,
    /// It says where a host is.
    Says,
    /// It asks all hosts for one.
    Asks,
}

impl<'w> Translator<'w> {
    /// What a packet that NORMAL switches says or asks, as far as somebody wants to know: looks at no more than that needs.
    pub(super) fn hosts_message(&mut self, bridge: &Bridge, in_port: &Port, vlan: InVlan) -> Message {
        let is_customers = vlan.service.is_some();
        if !bridge.has_suppressing || is_customers || self.in_port == bridge.local {
            return Message::No;
        }
        // Of remote hosts routes speak.
        if matches!(&in_port.kind, PortKind::Tunnel(tunnel) if tunnel.options.remote_ip == RemoteIp::Evpn) {
            return Message::No;
        }
        self.look_flow(&FlowMask { dl_type: u16::MAX.into(), ..FlowMask::ZERO });
        let key = self.at.key.flow;
        let protocol = FlowMask { nw_proto: u8::MAX, ..FlowMask::ZERO };
        let whole = FlowMask { nw_frag: FRAG_ANY, ..FlowMask::ZERO };
        let asks = |is_question: bool| {
            let all = is_question && key.dl_dst.is_multicast() && !self.state.suppresses(in_port);
            if all && !self.chose_tunnel() { Message::Asks } else { Message::Says }
        };
        match key.dl_type.get() {
            ETH_ARP => {
                let message = match key.nw_proto {
                    op @ (ARP_REQUEST | ARP_REPLY) => asks(op == ARP_REQUEST),
                    _ => Message::No,
                };
                self.look_flow(&protocol);
                message
            }
            ETH_IPV6 if key.nw_proto == IP_ICMPV6 => {
                let kind = key.tp_src.get() as u8;
                let message = match kind {
                    ND_SOLICIT | ND_ADVERT if key.nw_frag & FRAG_ANY == 0 => asks(kind == ND_SOLICIT),
                    _ => Message::No,
                };
                self.look_flow(&protocol);
                self.look_flow(&whole);
                self.look_flow(&FlowMask { tp_src: u16::MAX.into(), ..FlowMask::ZERO });
                message
            }
            ETH_IPV4 => {
                self.look_flow(&protocol);
                if key.nw_proto == IP_UDP && self.is_port(key.tp_dst.get(), DHCP_CLIENT, false) {
                    self.look_flow(&whole);
                    if key.nw_frag & FRAG_ANY == 0 && self.is_port(key.tp_src.get(), DHCP_SERVER, true) {
                        return Message::Says;
                    }
                }
                Message::No
            }
            ETH_IPV6 => {
                self.look_flow(&protocol);
                Message::No
            }
            _ => Message::No,
        }
    }

    /// Whether a port of the packet is this one. Of another it looks at one bit that differs, so that flows stay few.
    pub(super) fn is_port(&mut self, port: u16, wanted: u16, is_source: bool) -> bool {
        let differs = port ^ wanted;
        let mask = differs.checked_ilog2().map_or(u16::MAX, |bit| 1 << bit);
        let mut look = FlowMask::ZERO;
        if is_source {
            look.tp_src = mask.into();
        } else {
            look.tp_dst = mask.into();
        }
        self.look_flow(&look);
        differs == 0
    }

    /// Floods a question, but to ports with `neigh-suppress` only if the slow path does not know the answer, or has no time.
    pub(super) fn flood_question(&mut self, bridge: &'w Bridge, in_port: &'w Port, vlan: InVlan, tag: Tag) {
        self.flood(bridge, in_port, vlan, tag, &To::Others);
        self.note(|| "a question for a host: the slow path answers it, or floods it further".into());
        self.commit();
        let otherwise = self.apart(|t| t.flood(bridge, in_port, vlan, tag, &To::Suppressing));
        let reason = PuntReason::Solicit { at: self.in_port, vlan: vlan.vid };
        self.push(Op::PuntOr(reason, otherwise));
        self.delivered = true;
    }

    /// A copy of what a host says for the slow path.
    pub(super) fn snoop(&mut self, vlan: InVlan) {
        self.commit();
        self.push(Op::Punt(PuntReason::Snoop { at: self.in_port, vlan: vlan.vid }));
    }

    /// Floods a question that came into a bridge by its port `in_port` to those ports that it was kept from.
    pub(super) fn flood_further(&mut self, bridge: &'w Bridge, in_port: &'w Port, vlan: u16) {
        let tag = self.tag();
        self.flood(bridge, in_port, InVlan { vid: vlan, service: None }, tag, &To::Suppressing);
    }
}
