//! What the switch says and hears itself: ARP, ICMP echo.

use super::SlowPath;
use crate::bridge::BridgeId;
use crate::bridge::translate::translate;
use crate::datapath::message::{Command, Link, PacketBuffer};
use crate::tunnel::neighbour::Event;
use flow::program::PortId;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::outer::clear_tunnel;
use wire::parse::extract;
use wire::proto::{ETH_ARP, ETH_IPV4, IP_ICMP};
use wire::view::{ArpOp, ArpRepr, EthernetRepr, Icmpv4Repr, Ipv4Repr, build_arp, build_icmpv4};

impl SlowPath {
    /// A packet for the switch itself. Whatever is not understood is ignored: these bytes come off a wire.
    pub(super) fn punted(&mut self, buffer: &PacketBuffer, now: Instant) {
        let Some(bridge) = self.world.port(buffer.in_port).map(|port| port.bridge) else { return };
        let Ok((eth, payload)) = EthernetRepr::parse(buffer.bytes()) else { return };
        match eth.ethertype {
            ETH_ARP => {
                if let Ok(arp) = ArpRepr::parse(payload) {
                    self.arp(bridge, &eth, &arp, now);
                }
            }
            ETH_IPV4 => self.icmp(bridge, &eth, payload),
            _ => {}
        }
    }

    fn arp(&mut self, bridge: BridgeId, eth: &EthernetRepr, arp: &ArpRepr, now: Instant) {
        let Some(target) = self.world.bridge(bridge) else { return };
        let on_link = target.addresses.iter().any(|net| net.contains(&IpAddr::V4(arp.spa)));
        let (own_mac, for_us) = (target.mac, target.owns(IpAddr::V4(arp.tpa)));
        // Somebody else claims one of our addresses: not a neighbour to learn.
        if target.owns(IpAddr::V4(arp.spa)) {
            return self.address_conflict(arp, now);
        }
        // A request makes an entry only when it asks for us: then its sender is about to talk to us.
        let solicited = for_us && arp.op == ArpOp::Request;
        // Who is not on the link has no business here; with the table's bound that keeps forgers small.
        let known = solicited && on_link;
        let learned =
            self.neighbours.entry(bridge).or_default().learn(IpAddr::V4(arp.spa), arp.sha, known, now);
        if let Some(event) = learned {
            self.neighbour_event(bridge, event);
        }
        if solicited {
            let reply = arp.reply_from(own_mac);
            let head =
                EthernetRepr { dst: arp.sha, src: own_mac, vlan_tci: eth.vlan_tci, ethertype: ETH_ARP };
            self.send_from(bridge, |out| build_arp(out, &head, &reply).ok());
        }
    }

    /// Says so once a minute: the other host may go on for ever.
    fn address_conflict(&mut self, arp: &ArpRepr, now: Instant) {
        const EVERY: Duration = Duration::from_mins(1);
        if self.conflict_said.is_none_or(|then| now.saturating_duration_since(then) >= EVERY) {
            self.conflict_said = Some(now);
            tracing::warn!(address = %arp.spa, mac = %arp.sha, "address conflict: another host answers for a VTEP address");
        }
    }

    fn icmp(&mut self, bridge: BridgeId, eth: &EthernetRepr, payload: &[u8]) {
        let Some(own_mac) = self.world.bridge(bridge).map(|b| b.mac) else { return };
        let Ok((ip, payload)) = Ipv4Repr::parse(payload) else { return };
        if ip.proto != IP_ICMP || !self.world.bridge(bridge).is_some_and(|b| b.owns(IpAddr::V4(ip.dst))) {
            return;
        }
        if let Ok(Icmpv4Repr::EchoRequest { id, seq, data }) = Icmpv4Repr::parse(payload) {
            let head =
                EthernetRepr { dst: eth.src, src: own_mac, vlan_tci: eth.vlan_tci, ethertype: ETH_IPV4 };
            let reply = Icmpv4Repr::EchoReply { id, seq, data };
            self.send_from(bridge, |out| build_icmpv4(out, &head, ip.dst, ip.src, &reply).ok());
        }
    }

    /// Does what the neighbour table says.
    pub(super) fn neighbour_event(&mut self, bridge: BridgeId, event: Event) {
        match event {
            // Headers are made for next hops only; other neighbours have merely asked for us.
            Event::Changed(ip) => self.underlay_changed |= self.is_next_hop(bridge, ip),
            Event::Solicit(IpAddr::V4(ip), known) => self.send_arp_request(bridge, ip, known),
            // IPv6 neighbours are not asked for: VTEPs have IPv4 addresses only.
            Event::Solicit(IpAddr::V6(_), _) => {}
        }
    }

    fn send_arp_request(&mut self, id: BridgeId, ip: Ipv4Addr, known: Option<MacAddr>) {
        let Some(bridge) = self.world.bridge(id) else { return };
        let to = IpAddr::V4(ip);
        let source =
            bridge.addresses.iter().find(|net| net.contains(&to)).or_else(|| bridge.addresses.first());
        let Some(IpAddr::V4(spa)) = source.map(ipnet::IpNet::addr) else { return };
        let arp = ArpRepr { op: ArpOp::Request, sha: bridge.mac, spa, tha: MacAddr::ZERO, tpa: ip };
        let head = EthernetRepr {
            dst: known.unwrap_or(MacAddr::BROADCAST),
            src: bridge.mac,
            vlan_tci: None,
            ethertype: ETH_ARP,
        };
        self.send_from(id, |out| build_arp(out, &head, &arp).ok());
    }

    /// Asks for and forgets neighbours as time passes.
    pub(super) fn poll_neighbours(&mut self, now: Instant) {
        let bridges: Vec<BridgeId> = self.neighbours.keys().copied().collect();
        for bridge in bridges {
            let Some(mut table) = self.neighbours.remove(&bridge) else { continue };
            let events = table.poll(now, |ip| self.is_next_hop(bridge, ip));
            self.neighbours.insert(bridge, table);
            for event in events {
                self.neighbour_event(bridge, event);
            }
        }
    }

    /// Sends a frame out of a bridge's LOCAL port, through the bridge's rules.
    fn send_from(&mut self, bridge: BridgeId, build: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let Some(local) = self.world.bridge(bridge).map(|b| b.local) else { return };
        let mut bytes = [0; PacketBuffer::SIZE];
        if let Some(frame) = build(&mut bytes).and_then(|len| bytes.get(..len)) {
            self.packet_out(local, frame);
        }
    }

    /// Sends a frame as if it had come in on `in_port`.
    pub fn packet_out(&mut self, in_port: PortId, frame: &[u8]) {
        let mut key = FlowKey { in_port: in_port.0.into(), ..FlowKey::ZERO };
        clear_tunnel(&mut key);
        if extract(frame, &mut key).is_err() || self.workers.is_empty() {
            return;
        }
        let Some(program) = self.acquire(&translate(&self.world, &key).program) else { return };
        let mut buffer = PacketBuffer::new();
        buffer.in_port = in_port;
        if buffer.set(frame) {
            self.workers[0].send(Command::PacketOut(buffer, program));
        }
        self.release(program);
    }

    /// Gives a buffer back to the worker's pool of them, if that has room: packets out bring more.
    pub(super) fn recycle(&self, worker: usize, buffer: Box<PacketBuffer>) {
        let buffers = &self.workers[worker].link.buffers;
        if buffers.len() < Link::BUFFERS {
            drop(buffers.push(buffer));
        }
    }
}
