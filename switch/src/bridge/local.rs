//! What the bridge itself hears of IPv6: neighbour discovery and echo requests for its addresses.

use super::Bridge;
use super::translate::Translator;
use std::net::{IpAddr, Ipv6Addr};
use wire::key::{FRAG_ANY, FlowKey, FlowMask};
use wire::proto::{ETH_IPV6, IP_FRAGMENT, IP_ICMPV6, ND_ADVERT, ND_SOLICIT};
use wire::tunnel::is_transport;
use wire::view::{ALL_NODES, multicast_mac, solicited_node};

/// ICMPv6 type: echo request.
const ECHO_REQUEST: u8 = 128;
/// ICMPv6 type: packet too big, of a router.
const PACKET_TOO_BIG: u8 = 2;

/// What becomes of an IPv6 packet for the bridge itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    /// The slow path wants it.
    Taken,
    /// Nothing here takes it.
    Ignored,
    /// A piece of a tunnel packet.
    TunnelFragment,
    /// A VTEP socket takes it.
    Socket,
}

impl Translator<'_> {
    /// Looks at an IPv6 packet that came to the bridge's MAC address or to a group that it listens to.
    pub(super) fn local_v6(&mut self, bridge: &Bridge) -> Disposition {
        self.look_flow(&FlowMask { ipv6_dst: [0xff; 16], ..FlowMask::ZERO });
        let key = self.at.key.flow;
        let dst = Ipv6Addr::from(key.ipv6_dst);
        let is_own = bridge.owns(dst.into());
        if !is_own && !listens(bridge, dst) {
            return Disposition::Ignored;
        }
        self.look_flow(&FlowMask { nw_proto: u8::MAX, nw_frag: u8::MAX, ..FlowMask::ZERO });
        let is_fragment = key.nw_frag & FRAG_ANY != 0;
        match key.nw_proto {
            // Of a later fragment nothing is known but that it is one.
            protocol if is_fragment && (is_transport(protocol) || protocol == IP_FRAGMENT) => {
                Disposition::TunnelFragment
            }
            protocol if is_own && self.is_for_socket(protocol) => Disposition::Socket,
            IP_ICMPV6 if !is_fragment => {
                self.look_flow(&FlowMask { tp_src: u16::MAX.into(), ..FlowMask::ZERO });
                let kind = key.tp_src.get() as u8;
                let is_nd = matches!(kind, ND_SOLICIT | ND_ADVERT);
                // Where the bridge is a device of the kernel, that answers.
                let is_echo = kind == ECHO_REQUEST && bridge.device.is_none();
                if is_nd || is_own && (is_echo || kind == PACKET_TOO_BIG) {
                    Disposition::Taken
                } else {
                    Disposition::Ignored
                }
            }
            _ => Disposition::Ignored,
        }
    }
}

/// Whether a frame goes to a group of IPv6 that the bridge listens to. All that is looked at are EtherType and
/// Ethernet destination.
pub(super) fn hears_group(bridge: &Bridge, key: &FlowKey) -> bool {
    key.dl_type.get() == ETH_IPV6
        && (key.dl_dst == multicast_mac(ALL_NODES) && own_v6(bridge).next().is_some()
            || own_v6(bridge).any(|own| key.dl_dst == multicast_mac(solicited_node(own))))
}

fn listens(bridge: &Bridge, group: Ipv6Addr) -> bool {
    group == ALL_NODES || own_v6(bridge).any(|own| solicited_node(own) == group)
}

fn own_v6(bridge: &Bridge) -> impl Iterator<Item = Ipv6Addr> + '_ {
    bridge.addresses.iter().filter_map(|net| match net.addr() {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    })
}
