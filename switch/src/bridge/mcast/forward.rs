//! Where NORMAL sends IP multicast in a bridge that snoops.

use super::is_local;
use crate::bridge::fdb::Location;
use crate::bridge::suppress::To;
use crate::bridge::translate::{Dependency, Translator};
use crate::bridge::vlan::{InVlan, Tag};
use crate::bridge::{Bridge, Port};
use flow::program::{Op, PortId, PuntReason};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FlowMask};
use wire::proto::{ETH_IPV4, ETH_IPV6, IP_ICMPV6, IP_IGMP};
use wire::view::{MLD_DONE, MLD_QUERY, MLD_REPORT, MLDV2_REPORT};

/// Ports that want a packet, and of a tunnel port which remote VTEPs; none named: all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::bridge) struct Receivers(BTreeMap<PortId, Vec<IpAddr>>);

impl Receivers {
    fn of(locations: impl Iterator<Item = Location>) -> Receivers {
        let mut ports: BTreeMap<PortId, Option<Vec<IpAddr>>> = BTreeMap::new();
        for at in locations {
            let remotes = ports.entry(at.port).or_insert_with(|| Some(Vec::new()));
            match (at.remote, remotes.as_mut()) {
                (Some(remote), Some(remotes)) if !remotes.contains(&remote) => remotes.push(remote),
                (None, _) => *remotes = None,
                _ => {}
            }
        }
        Receivers(ports.into_iter().map(|(port, remotes)| (port, remotes.unwrap_or_default())).collect())
    }

    /// Whether a port is among them.
    pub fn has(&self, port: PortId) -> bool {
        self.0.contains_key(&port)
    }

    /// The remote VTEPs of a port that is among them.
    pub fn remotes(&self, port: PortId) -> &[IpAddr] {
        self.0.get(&port).map_or(&[], Vec::as_slice)
    }
}

/// What a multicast packet is.
enum Kind {
    /// For everybody.
    Flooded,
    /// IGMP or MLD.
    Membership,
    /// For the members of a group.
    Group(IpAddr),
}

impl<'w> Translator<'w> {
    /// Sends a multicast packet to those who want it, if the bridge snoops and it is for some only; says whether that was so.
    pub(in crate::bridge) fn multicast(
        &mut self,
        bridge: &'w Bridge,
        in_port: &'w Port,
        vlan: InVlan,
        tag: Tag,
    ) -> bool {
        let is_broadcast = self.at.key.flow.dl_dst == MacAddr::BROADCAST;
        if !bridge.mcast.is_enabled() || is_broadcast || vlan.service.is_some() {
            return false;
        }
        match self.multicast_kind() {
            Kind::Flooded => false,
            Kind::Membership => {
                self.note(|| "a membership message: the slow path notes it and sends it on".into());
                self.commit();
                let otherwise = self.apart(|t| t.flood(bridge, in_port, vlan, tag, &To::All));
                let reason = PuntReason::Membership { at: self.in_port, vlan: vlan.vid };
                self.push(Op::PuntOr(reason, otherwise));
                self.delivered = true;
                true
            }
            Kind::Group(group) => {
                let key = (vlan.vid, group);
                self.deps.push(Dependency::McastGroup(in_port.bridge, vlan.vid, group));
                self.deps.push(Dependency::McastRouters(in_port.bridge, vlan.vid));
                let members = bridge.mcast.members(key);
                if members.is_none() && bridge.mcast.floods_unregistered() {
                    self.note(|| format!("nobody has joined {group} in VLAN {}: flood", vlan.vid));
                    return false;
                }
                self.note(|| format!("to members of {group} in VLAN {}", vlan.vid));
                let flooded = self.ports_where(bridge, |port| port.mcast_flood);
                let receivers =
                    members.into_iter().flatten().chain(bridge.mcast.routers(vlan.vid)).chain(flooded);
                let receivers = Receivers::of(receivers);
                self.flood(bridge, in_port, vlan, tag, &To::Receivers(receivers));
                true
            }
        }
    }

    /// Sends a membership message on that came into a bridge by its port `in_port`: a report to where routers are (RFC 4541,
    /// section 2.1.1), a query to everybody.
    pub(in crate::bridge) fn membership_further(
        &mut self,
        bridge: &'w Bridge,
        in_port: &'w Port,
        vlan: u16,
        is_report: bool,
    ) {
        let tag = self.tag();
        let to = if is_report {
            let flagged = self.ports_where(bridge, |port| port.mcast_flood_reports);
            To::Receivers(Receivers::of(bridge.mcast.routers(vlan).chain(flagged)))
        } else {
            To::All
        };
        self.flood(bridge, in_port, InVlan { vid: vlan, service: None }, tag, &to);
    }

    fn ports_where(&self, bridge: &Bridge, is: impl Fn(&Port) -> bool) -> Vec<Location> {
        let ports = bridge.ports.values().filter(|id| self.state.port(**id).is_some_and(&is));
        ports.map(|id| Location { port: *id, remote: None }).collect()
    }

    fn multicast_kind(&mut self) -> Kind {
        self.look_flow(&FlowMask { dl_type: u16::MAX.into(), ..FlowMask::ZERO });
        let key = self.at.key.flow;
        let v6 = match key.dl_type.get() {
            ETH_IPV4 => false,
            ETH_IPV6 => true,
            _ => return Kind::Flooded,
        };
        self.look_flow(&FlowMask { nw_proto: u8::MAX, ..FlowMask::ZERO });
        match (v6, key.nw_proto) {
            (false, IP_IGMP) => return Kind::Membership,
            (true, IP_ICMPV6) => {
                self.look_flow(&FlowMask { nw_frag: FRAG_ANY, tp_src: u16::MAX.into(), ..FlowMask::ZERO });
                let kind = key.tp_src.get() as u8;
                if key.nw_frag & FRAG_ANY == 0
                    && matches!(kind, MLD_QUERY | MLD_REPORT | MLD_DONE | MLDV2_REPORT)
                {
                    return Kind::Membership;
                }
            }
            _ => {}
        }
        let group: IpAddr = if v6 {
            Ipv6Addr::from(self.read_field(flow::ofp::Field::Ipv6Dst)).into()
        } else {
            Ipv4Addr::from(self.read_field(flow::ofp::Field::IpDst) as u32).into()
        };
        if group.is_multicast() && !is_local(group) { Kind::Group(group) } else { Kind::Flooded }
    }
}
