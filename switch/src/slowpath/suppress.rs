//! ARP and ND suppression: what is done with questions for hosts that were kept from ports with `neigh-suppress`, and what
//! is learned from what hosts say.
//!
//! An answer comes out of the port behind which the host is, as if the host had sent it, and goes through the bridge like
//! any packet from there.

use super::SlowPath;
use super::host_message::{HostMessage, Question};
use crate::bridge::fdb::Location;
use crate::bridge::hosts::{Host, Source, SuppressStats};
use crate::bridge::translate::{Further, translate, translate_further};
use crate::bridge::{Bridge, BridgeId, PortKind};
use api::{NeighbourEntry, SuppressRow};
use config::TunnelKey;
use datapath::message::PacketBuffer;
use flow::program::{Op, PortId, PuntReason};
use std::net::IpAddr;
use std::time::Instant;
use wire::addr::MacAddr;
use wire::key::{FlowKey, TUN_IPV6};
use wire::proto::{ETH_ARP, ETH_IPV6};
use wire::tunnel::outer::clear_tunnel;
use wire::view::{EthernetRepr, Icmpv6Repr, build_arp, build_icmpv6};

/// Hosts looked at for their age between two looks at timers.
const AGED_PER_LOOK: usize = 256;

/// What is done with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answer(Question, Host, Location),
    Local,
    Flood,
}

impl SlowPath {
    /// A question that a worker has flooded to ports without `neigh-suppress` only.
    pub(super) fn host_asked_for(&mut self, (at, vlan): (PortId, u16), buffer: &PacketBuffer, now: Instant) {
        let message = HostMessage::of(buffer.bytes());
        self.host_said((at, vlan), &message, now);
        let Some(id) = self.state.port(at).map(|port| port.bridge) else { return };
        let verdict = self.verdict(id, vlan, message.question);
        if let Some(bridge) = self.state.bridge_mut(id) {
            match verdict {
                Verdict::Answer(..) => bridge.suppressed.answered += 1,
                Verdict::Local => bridge.suppressed.local += 1,
                Verdict::Flood => bridge.suppressed.flooded += 1,
            }
        }
        match verdict {
            Verdict::Answer(question, host, location) => self.answer_for(&question, host, location, vlan),
            Verdict::Local => {}
            Verdict::Flood => {
                // Behind a patch port it came from another bridge, whose tunnel fields stay there.
                let mut key = FlowKey { in_port: at.0.into(), ..buffer.key };
                if at != buffer.in_port {
                    clear_tunnel(&mut key);
                }
                self.send_as(key, buffer.bytes(), |state, key| {
                    translate_further(state, key, (at, vlan), Further::Question)
                });
            }
        }
    }

    fn verdict(&self, id: BridgeId, vlan: u16, question: Option<Question>) -> Verdict {
        let decide = || {
            let (question, bridge) = (question?, self.state.bridge(id)?);
            let host = *bridge.hosts.get(vlan, question.target())?;
            // One whose MAC address is not known may be anywhere by now.
            let location = bridge.fdb.lookup(vlan, host.mac)?;
            let port = self.state.port(location.port)?;
            Some(if self.state.suppresses(port) {
                Verdict::Answer(question, host, location)
            } else {
                Verdict::Local
            })
        };
        decide().unwrap_or(Verdict::Flood)
    }

    /// Learns from what a host says, if it says it from where the bridge knows its MAC address to be.
    pub(super) fn host_snooped(&mut self, (at, vlan): (PortId, u16), buffer: &PacketBuffer, now: Instant) {
        self.host_said((at, vlan), &HostMessage::of(buffer.bytes()), now);
    }

    fn host_said(&mut self, (at, vlan): (PortId, u16), message: &HostMessage, now: Instant) {
        let Some(claim) = message.claim else { return };
        let Some(bridge) = self.state.port(at).map(|port| port.bridge) else { return };
        let Some(bridge) = self.state.bridge_mut(bridge) else { return };
        let Some(location) = bridge.fdb.lookup(vlan, claim.mac) else { return };
        if message.is_own && location.port != at {
            return;
        }
        bridge.suppressed.learned += u64::from(bridge.hosts.snoop(vlan, claim, location.port, now));
    }

    /// Answers for a host, by the port that it is behind.
    fn answer_for(&mut self, question: &Question, host: Host, location: Location, vlan: u16) {
        let Some(port) = self.state.port(location.port) else { return };
        let by_vni = matches!(&port.kind, PortKind::Tunnel(tunnel) if tunnel.options.vlan_vni.is_some());
        let is_untagged = by_vni || port.vlan.ingress(None).is_some_and(|own| own.vid == vlan);
        let vlan_tci = (!is_untagged).then_some(vlan);
        let mut bytes = [0; 128];
        let written = match question {
            Question::Arp(arp) => {
                let reply = arp.reply_from(host.mac);
                let head = EthernetRepr { dst: arp.sha, src: host.mac, vlan_tci, ethertype: ETH_ARP };
                build_arp(&mut bytes, &head, &reply)
            }
            Question::Nd { from, mac, target } => {
                let head = EthernetRepr { dst: *mac, src: host.mac, vlan_tci, ethertype: ETH_IPV6 };
                let advert = Icmpv6Repr::NeighbourAdvert {
                    target: *target,
                    router: host.router,
                    solicited: true,
                    overrides: true,
                    tll: Some(host.mac),
                };
                build_icmpv6(&mut bytes, &head, *target, *from, &advert)
            }
        };
        let key = self.key_from(location, vlan);
        if let Some(frame) = written.ok().and_then(|len| bytes.get(..len)) {
            self.send_as(key, frame, |state, key| {
                let mut translation = translate(state, key);
                // What we say ourselves is no news.
                let ops = translation.program.ops.into_vec();
                let is_news = |op: &Op| matches!(op, Op::Punt(PuntReason::Snoop { .. }));
                translation.program.ops = ops.into_iter().filter(|op| !is_news(op)).collect();
                translation
            });
        }
    }

    /// The key of a packet that comes from where an FDB entry leads to, as far as its bytes do not say.
    fn key_from(&self, location: Location, vlan: u16) -> FlowKey {
        let mut key = FlowKey { in_port: location.port.0.into(), ..FlowKey::ZERO };
        clear_tunnel(&mut key);
        let Some(PortKind::Tunnel(tunnel)) = self.state.port(location.port).map(|port| &port.kind) else {
            return key;
        };
        if let TunnelKey::Vni(vni) = tunnel.options.in_key {
            key.tun_id = vni;
        }
        if let Some(vni) = tunnel.options.vlan_vni.as_ref().and_then(|map| map.vni(vlan)) {
            key.tun_id = vni;
        }
        let remote = location.remote.or_else(|| tunnel.remotes.first().map(|(ip, _)| *ip));
        match remote {
            Some(IpAddr::V4(remote)) => key.tun_src = u32::from(remote).into(),
            Some(IpAddr::V6(remote)) => {
                key.tun_ipv6_src = remote.octets();
                key.tun_flags |= TUN_IPV6;
            }
            None => {}
        }
        key
    }

    /// Looks at the age of some hosts.
    pub(super) fn age_hosts(&mut self, now: Instant) {
        for (_, bridge) in self.state.bridges_mut() {
            let Bridge { hosts, fdb, .. } = bridge;
            hosts.expire(now, AGED_PER_LOOK, |vlan, mac| fdb.lookup(vlan, mac).is_some());
        }
    }

    /// Puts the static hosts of a bridge's document entry.
    pub(super) fn configure_hosts(&mut self, id: BridgeId, of: &config::Bridge) {
        let now = self.now();
        let Some(bridge) = self.state.bridge_mut(id) else { return };
        bridge.hosts.remove_where(|_, host| host.source == Source::Static);
        // The VTEP's neighbours are the kernel's where its addresses are.
        if bridge.is_underlay() && bridge.device.is_none() {
            return;
        }
        for static_host in &of.neighbours {
            let key = (static_host.vlan, static_host.ip);
            bridge.hosts.put(key, static_host.mac, false, Source::Static, now);
        }
    }

    /// Forgets the hosts from packets of a bridge, or of all; or one of them. Says how many.
    pub fn hosts_flush(&mut self, only: Option<BridgeId>, ip: Option<IpAddr>) -> usize {
        let all = self.state.bridges_mut().filter(|(id, _)| only.is_none_or(|only| only == *id));
        all.map(|(_, bridge)| {
            bridge
                .hosts
                .remove_where(|key, host| host.source == Source::Snooped && ip.is_none_or(|ip| ip == key.1))
        })
        .sum()
    }

    /// The hosts of a bridge, or of all, by bridge, VLAN and address.
    pub fn host_view(&self, only: Option<BridgeId>) -> Vec<NeighbourEntry> {
        let now = self.now();
        let mut rows = Vec::new();
        for (_, bridge) in self.state.bridges().filter(|(id, _)| only.is_none_or(|only| only == *id)) {
            let mut hosts: Vec<_> = bridge.hosts.iter().collect();
            hosts.sort_unstable_by_key(|(key, _)| **key);
            for ((vlan, ip), host) in hosts {
                let (port, remote) = self.place(bridge, *vlan, host.mac);
                rows.push(NeighbourEntry {
                    bridge: bridge.name.clone(),
                    ip: ip.to_string(),
                    mac: Some(host.mac.to_string()),
                    state: match host.source {
                        Source::Snooped => "REACHABLE",
                        Source::Static => "PERMANENT",
                        Source::Route => "EXTERN_LEARN",
                    }
                    .into(),
                    age: now.saturating_duration_since(host.last_seen).as_secs(),
                    vlan: *vlan,
                    port,
                    remote,
                    router: host.router,
                });
            }
        }
        rows
    }

    fn place(&self, bridge: &Bridge, vlan: u16, mac: MacAddr) -> (Option<String>, Option<String>) {
        let at = bridge.fdb.lookup(vlan, mac);
        let port = at.and_then(|at| Some(self.state.port(at.port)?.name.clone()));
        (port, at.and_then(|at| at.remote).map(|ip| ip.to_string()))
    }

    /// What became of the questions of each bridge that has a port with `neigh-suppress`.
    pub fn suppress_view(&self) -> Vec<SuppressRow> {
        let row = |bridge: &Bridge| {
            let SuppressStats { answered, local, flooded, learned } = bridge.suppressed;
            SuppressRow { bridge: bridge.name.clone(), answered, local, flooded, learned }
        };
        self.state.bridges().filter(|(_, b)| b.has_suppressing).map(|(_, bridge)| row(bridge)).collect()
    }
}
