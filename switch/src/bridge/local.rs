//! What the bridge itself hears of IPv6: neighbour discovery and echo requests for its addresses.

use super::Bridge;
use super::translate::Translator;
use std::net::{IpAddr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FlowKey, FlowMask};
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_FRAGMENT, IP_ICMPV6, ND_ADVERT, ND_SOLICIT};
use wire::tunnel::is_transport;
use wire::view::{ALL_NODES, ALL_SYSTEMS, MLD_QUERY, group_mac, multicast_mac, solicited_node};

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
    /// A fragment of what may be a tunnel packet for one of the bridge's addresses or groups.
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
        let is_joined = bridge.joined.contains(&dst.into()) && {
            self.look_flow(&FlowMask { dl_dst: MacAddr::BROADCAST, ..FlowMask::ZERO });
            bridge.has_joined(dst.into(), key.dl_dst)
        };
        if !is_own && !is_joined && !listens(bridge, dst) {
            return Disposition::Ignored;
        }
        self.look_flow(&FlowMask { nw_proto: u8::MAX, nw_frag: u8::MAX, ..FlowMask::ZERO });
        let is_fragment = key.nw_frag & FRAG_ANY != 0;
        match key.nw_proto {
            // Of a later fragment nothing is known but that it is one.
            protocol
                if is_fragment
                    && (is_own || is_joined)
                    && (is_transport(protocol) || protocol == IP_FRAGMENT) =>
            {
                Disposition::TunnelFragment
            }
            protocol if (is_own || is_joined) && self.is_for_socket(protocol) => Disposition::Socket,
            IP_ICMPV6 if !is_fragment => {
                self.look_flow(&FlowMask { tp_src: u16::MAX.into(), ..FlowMask::ZERO });
                let kind = key.tp_src.get() as u8;
                let is_nd = matches!(kind, ND_SOLICIT | ND_ADVERT);
                // Where the bridge is a device of the kernel, that answers.
                let is_echo = kind == ECHO_REQUEST && bridge.device.is_none();
                let is_query = kind == MLD_QUERY && bridge.has_groups(true);
                if is_nd || is_query || is_own && (is_echo || kind == PACKET_TOO_BIG) {
                    Disposition::Taken
                } else {
                    Disposition::Ignored
                }
            }
            _ => Disposition::Ignored,
        }
    }
}

/// Whether a frame goes to a multicast group that the bridge listens to. All that is looked at are EtherType and
/// Ethernet destination.
pub(super) fn hears_group(bridge: &Bridge, key: &FlowKey) -> bool {
    let is_joined = |v6| {
        let mut groups = bridge.joined.iter().filter(|group| group.is_ipv6() == v6);
        groups.any(|group| key.dl_dst == group_mac(*group))
    };
    match key.dl_type.get() {
        ETH_IPV4 => {
            bridge.has_groups(false) && (key.dl_dst == group_mac(ALL_SYSTEMS.into()) || is_joined(false))
        }
        ETH_IPV6 => {
            key.dl_dst == multicast_mac(ALL_NODES) && own_v6(bridge).next().is_some()
                || own_v6(bridge).any(|own| key.dl_dst == multicast_mac(solicited_node(own)))
                || is_joined(true)
        }
        _ => false,
    }
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
