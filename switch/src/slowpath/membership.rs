//! The multicast groups of tunnel ports: the switch joins them on underlay bridges, answers routers' questions and leaves.

use super::SlowPath;
use crate::tunnel::membership::Report;
use flow::program::BridgeId;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;
use wire::addr::MacAddr;
use wire::proto::{ETH_IPV4, IP_IGMP};
use wire::view::{GroupMessage, Ipv4Repr, Ipv6Repr, build_group_report};

impl SlowPath {
    /// Makes the memberships those that tunnel ports ask for; reports are sent with the next look at timers.
    pub(super) fn settle_memberships(&mut self) {
        let wanted = self.tunnels.groups(&self.state);
        let now = self.now();
        if !self.memberships.set(&wanted, now) {
            return;
        }
        for (id, bridge) in self.state.bridges_mut() {
            let of = wanted.iter().filter(|(bridge, _)| *bridge == id).map(|(_, group)| *group);
            bridge.joined = of.collect::<BTreeSet<_>>();
        }
        self.everything_changed();
    }

    /// A link of a bridge has come up: who is behind it may not know.
    pub(super) fn announce_memberships(&mut self, bridge: BridgeId) {
        let now = self.now();
        self.memberships.announce(bridge, now);
    }

    /// Sends the reports that are due.
    pub(super) fn report_memberships(&mut self, now: Instant) {
        for Report { bridge, group, version, report } in self.memberships.poll(now) {
            let Some(running) = self.state.bridge(bridge) else { continue };
            let mac = running.mac;
            let mut own = running.addresses.iter().map(ipnet::IpNet::addr);
            let source = if group.is_ipv6() {
                let own = own.find(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
                Some(own.unwrap_or_else(|| link_local(mac).into()))
            } else {
                own.find(IpAddr::is_ipv4)
            };
            let Some(source) = source else { continue };
            self.send_from(bridge, |out| build_group_report(out, mac, source, group, (version, report)).ok());
        }
    }

    /// A packet that may be a router's question for members of a group.
    pub(super) fn membership_query(
        &mut self,
        bridge: BridgeId,
        ethertype: u16,
        payload: &[u8],
        now: Instant,
    ) {
        let (v6, message) = if ethertype == ETH_IPV4 {
            match Ipv4Repr::parse(payload) {
                Ok((ip, payload)) if ip.proto == IP_IGMP => (false, GroupMessage::parse_igmp(payload)),
                _ => return,
            }
        } else {
            match Ipv6Repr::parse(payload) {
                // A router asks from an address of the link (RFC 3810, section 5.1.14).
                Ok((ip, payload)) if ip.src.is_unicast_link_local() => {
                    (true, GroupMessage::parse_mld(&ip, payload))
                }
                _ => return,
            }
        };
        if let Ok(GroupMessage::Query { version, group, max_response }) = message {
            self.memberships.query(bridge, (version, v6), group, max_response, now);
        }
    }
}

/// The address of the link that a MAC address makes (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
