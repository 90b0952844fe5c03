//! IGMP and MLD messages of a bridge that snoops: what they say of members and routers is noted, and they are sent on.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::fdb::Location;
use crate::bridge::mcast::McastChange;
use crate::bridge::translate::{Dependency, Further, translate_further};
use datapath::message::PacketBuffer;
use flow::program::PortId;
use std::time::Instant;
use wire::key::FlowKey;
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_IGMP};
use wire::tunnel::outer::clear_tunnel;
use wire::view::{EthernetRepr, GroupMessage, Ipv4Repr, Ipv6Repr};

/// The message in a frame, if it is one that is well formed.
fn message(frame: &[u8]) -> Option<(EthernetRepr, GroupMessage<'_>)> {
    let (eth, payload) = EthernetRepr::parse(frame).ok()?;
    let message = match eth.ethertype {
        ETH_IPV4 => match Ipv4Repr::parse(payload).ok()? {
            (ip, payload) if ip.proto == IP_IGMP => GroupMessage::parse_igmp(payload).ok()?,
            _ => return None,
        },
        ETH_IPV6 => {
            let (ip, payload) = Ipv6Repr::parse(payload).ok()?;
            GroupMessage::parse_mld(&ip, payload).ok()?
        }
        _ => return None,
    };
    Some((eth, message))
}

impl SlowPath {
    /// A message that came into a bridge by the port `at`.
    pub(super) fn membership_seen(&mut self, (at, vlan): (PortId, u16), buffer: &PacketBuffer, now: Instant) {
        let Some(id) = self.state.port(at).map(|port| port.bridge) else { return };
        let message = message(buffer.bytes());
        let is_report = matches!(message, Some((_, GroupMessage::Report(_))));
        if let (Some((eth, message)), Some(bridge)) = (message, self.state.bridge_mut(id)) {
            // Behind a tunnel it is the remote VTEP that the sender is known behind.
            let known = bridge.fdb.lookup(vlan, eth.src).filter(|known| known.port == at);
            let at = known.unwrap_or(Location { port: at, remote: None });
            let changes = match message {
                GroupMessage::Query { .. } => bridge.mcast.router(vlan, at, now),
                GroupMessage::Report(records) => records
                    .flat_map(|(group, is_member)| {
                        let key = (vlan, group);
                        if is_member { bridge.mcast.join(key, at, now) } else { bridge.mcast.leave(key, at) }
                    })
                    .collect(),
            };
            self.mcast_changed(id, changes);
        }
        // Behind a patch port it came from another bridge, whose tunnel fields stay there.
        let mut key = FlowKey { in_port: at.0.into(), ..buffer.key };
        if at != buffer.in_port {
            clear_tunnel(&mut key);
        }
        let further = Further::Membership { is_report };
        self.send_as(key, buffer.bytes(), |state, key| translate_further(state, key, (at, vlan), further));
    }

    /// Members or routers have come or gone: makes megaflows true that were chosen by them.
    pub(super) fn mcast_changed(&mut self, bridge: BridgeId, changes: Vec<McastChange>) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            let dependency = match change {
                McastChange::Group((vlan, group)) => Dependency::McastGroup(bridge, vlan, group),
                McastChange::Routers(vlan) => Dependency::McastRouters(bridge, vlan),
            };
            self.depended_on_changed(&dependency);
            self.rebuild_dependents(&dependency);
        }
        self.revalidate_changed();
    }

    /// Removes members and routers whose time is over.
    pub(super) fn expire_mcast(&mut self, now: Instant) {
        let expired: Vec<_> =
            self.state.bridges_mut().map(|(id, bridge)| (id, bridge.mcast.expire(now))).collect();
        for (id, changes) in expired {
            self.mcast_changed(id, changes);
        }
    }

    /// Forgets the members and routers of a bridge.
    pub fn mcast_flush(&mut self, id: BridgeId) {
        let changes = self.state.bridge_mut(id).map(|bridge| bridge.mcast.flush()).unwrap_or_default();
        self.mcast_changed(id, changes);
        self.barrier();
    }
}
