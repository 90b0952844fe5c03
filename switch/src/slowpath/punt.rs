//! What the switch sends and receives itself: ARP, neighbour discovery, ICMP and ICMPv6 echo.

use super::SlowPath;
use crate::bridge::translate::{Translation, translate, translate_actions};
use crate::bridge::{Bridge, BridgeId, SwitchState};
use datapath::message::{Command, Link, PacketBuffer};
use flow::ofp::Action;
use flow::program::PortId;
use flow::stats::PacketStats;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMP, IP_ICMPV6};
use wire::tunnel::outer::clear_tunnel;
use wire::view::{
    ALL_NODES, ArpOp, ArpRepr, EthernetRepr, Icmpv4Repr, Icmpv6Repr, Ipv4Repr, Ipv6Repr, build_arp,
    build_icmpv4, build_icmpv6, multicast_mac, solicited_node,
};

impl SlowPath {
    /// A packet for the switch itself, on the bridge with this LOCAL port. Whatever is not understood is ignored: these
    /// bytes come off a wire.
    pub(super) fn punted(&mut self, local: PortId, buffer: &PacketBuffer, now: Instant) {
        let Some(bridge) = self.state.port(local).map(|port| port.bridge) else { return };
        let Ok((eth, payload)) = EthernetRepr::parse(buffer.bytes()) else { return };
        // Flooded, because its destination is not known: it is another host's.
        if !eth.dst.is_multicast() && self.state.bridge(bridge).is_none_or(|bridge| bridge.mac != eth.dst) {
            return;
        }
        match eth.ethertype {
            ETH_ARP => {
                if let Ok(arp) = ArpRepr::parse(payload) {
                    self.arp(bridge, &eth, &arp, now);
                }
            }
            ETH_IPV4 => {
                self.icmp(bridge, &eth, payload, now);
                self.membership_query(bridge, eth.ethertype, payload, now);
            }
            ETH_IPV6 => {
                self.icmpv6(bridge, &eth, payload, now);
                self.membership_query(bridge, eth.ethertype, payload, now);
            }
            _ => {}
        }
    }

    fn arp(&mut self, bridge: BridgeId, eth: &EthernetRepr, arp: &ArpRepr, now: Instant) {
        let Some(target) = self.state.bridge(bridge) else { return };
        let on_link = target.addresses.iter().any(|net| net.contains(&IpAddr::V4(arp.spa)));
        let (own_mac, for_us) = (target.mac, target.owns(IpAddr::V4(arp.tpa)));
        // Somebody else claims one of our addresses, or that another's is behind our MAC: not a neighbour to learn.
        if target.owns(IpAddr::V4(arp.spa)) || arp.sha == own_mac {
            return self.address_conflict(arp.spa.into(), arp.sha, now);
        }
        // A request makes an entry only when it asks for us: then its sender is about to talk to us.
        let solicited = for_us && arp.op == ArpOp::Request;
        // Who is not on the link has no business here; with the table's bound that keeps forgers small.
        let known = solicited && on_link;
        let answers = solicited && target.device.is_none();
        self.learn_neighbour(bridge, arp.spa.into(), arp.sha, known, now);
        if answers {
            let reply = arp.reply_from(own_mac);
            let head =
                EthernetRepr { dst: arp.sha, src: own_mac, vlan_tci: eth.vlan_tci, ethertype: ETH_ARP };
            self.send_from(bridge, |out| build_arp(out, &head, &reply).ok());
        }
    }

    /// Says so once a minute: the other host may go on for ever.
    fn address_conflict(&mut self, address: IpAddr, mac: MacAddr, now: Instant) {
        const EVERY: Duration = Duration::from_mins(1);
        if self.conflict_said.is_none_or(|then| now.saturating_duration_since(then) >= EVERY) {
            self.conflict_said = Some(now);
            tracing::warn!(%address, %mac, "address conflict: another host answers for a VTEP address or with its MAC");
        }
    }

    fn icmp(&mut self, bridge: BridgeId, eth: &EthernetRepr, payload: &[u8], now: Instant) {
        let Some(own_mac) = self.state.bridge(bridge).map(|b| b.mac) else { return };
        let Ok((ip, payload)) = Ipv4Repr::parse(payload) else { return };
        if ip.proto != IP_ICMP || !self.state.bridge(bridge).is_some_and(|b| b.owns(IpAddr::V4(ip.dst))) {
            return;
        }
        match Icmpv4Repr::parse(payload) {
            Ok(Icmpv4Repr::EchoRequest { id, seq, data }) => {
                let head =
                    EthernetRepr { dst: eth.src, src: own_mac, vlan_tci: eth.vlan_tci, ethertype: ETH_IPV4 };
                let reply = Icmpv4Repr::EchoReply { id, seq, data };
                self.send_from(bridge, |out| build_icmpv4(out, &head, ip.dst, ip.src, &reply).ok());
            }
            Ok(Icmpv4Repr::FragNeeded { mtu, original }) => {
                self.path_too_narrow(bridge, original, mtu.into(), now);
            }
            _ => {}
        }
    }

    fn icmpv6(&mut self, bridge: BridgeId, eth: &EthernetRepr, payload: &[u8], now: Instant) {
        let Some(own_mac) = self.state.bridge(bridge).map(|b| b.mac) else { return };
        let Ok((ip, payload)) = Ipv6Repr::parse(payload) else { return };
        if ip.next_header != IP_ICMPV6 {
            return;
        }
        match Icmpv6Repr::parse(payload, ip.src, ip.dst, ip.hop_limit) {
            Ok(Icmpv6Repr::EchoRequest { id, seq, data }) if self.owns(bridge, ip.dst) => {
                let reply = Icmpv6Repr::EchoReply { id, seq, data };
                let head = eth.reply_from(own_mac);
                self.send_from(bridge, |out| build_icmpv6(out, &head, ip.dst, ip.src, &reply).ok());
            }
            Ok(Icmpv6Repr::PacketTooBig { mtu, original }) if self.owns(bridge, ip.dst) => {
                self.path_too_narrow(bridge, original, mtu, now);
            }
            Ok(Icmpv6Repr::NeighbourSolicit { target, sll }) => {
                self.solicited(bridge, eth, &ip, target, sll, now);
            }
            Ok(Icmpv6Repr::NeighbourAdvert { target, overrides, tll, .. }) => {
                self.advertised(bridge, target, tll, overrides, now);
            }
            _ => {}
        }
    }

    fn owns(&self, bridge: BridgeId, ip: Ipv6Addr) -> bool {
        self.state.bridge(bridge).is_some_and(|b| b.owns(ip.into()))
    }

    /// Somebody asks for an address: who is on the link and asks for one of ours is a neighbour to learn.
    fn solicited(
        &mut self,
        bridge: BridgeId,
        eth: &EthernetRepr,
        ip: &Ipv6Repr,
        target: Ipv6Addr,
        sll: Option<MacAddr>,
        now: Instant,
    ) {
        let Some(running) = self.state.bridge(bridge) else { return };
        let (own_mac, answers) = (running.mac, running.device.is_none());
        let src = IpAddr::V6(ip.src);
        let for_us = running.owns(target.into()) && (ip.dst == target || ip.dst == solicited_node(target));
        let on_link =
            ip.src.is_unicast_link_local() || running.addresses.iter().any(|net| net.contains(&src));
        if running.owns(src) || sll == Some(own_mac) {
            return self.address_conflict(src, sll.unwrap_or(eth.src), now);
        }
        if let Some(mac) = sll {
            self.learn_neighbour(bridge, src, mac, for_us && on_link, now);
        }
        if !for_us || !answers {
            return;
        }
        let (mut to, mut head) = (ip.src, eth.reply_from(own_mac));
        let is_probe = ip.src.is_unspecified();
        if is_probe {
            // Somebody is about to take one of our addresses (RFC 4862, section 5.4): all shall hear that it is ours.
            (to, head.dst) = (ALL_NODES, multicast_mac(ALL_NODES));
        }
        let advert = Icmpv6Repr::NeighbourAdvert {
            target,
            router: false,
            solicited: !is_probe,
            overrides: true,
            tll: Some(own_mac),
        };
        self.send_from(bridge, |out| build_icmpv6(out, &head, target, to, &advert).ok());
    }

    /// Somebody says where an address is. Makes no entries: those are there from the time when we asked.
    fn advertised(
        &mut self,
        bridge: BridgeId,
        target: Ipv6Addr,
        tll: Option<MacAddr>,
        overrides: bool,
        now: Instant,
    ) {
        let target_ip = IpAddr::V6(target);
        let known = self.tunnels.neighbour_mac(bridge, target_ip);
        let claims_mac = tll.is_some() && tll == self.state.bridge(bridge).map(|bridge| bridge.mac);
        if self.owns(bridge, target) || claims_mac {
            return self.address_conflict(target_ip, tll.unwrap_or(MacAddr::ZERO), now);
        }
        // An answer to a unicast solicitation need not say the address again (RFC 4861, section 4.4), and one
        // without the override flag does not change it (section 7.2.5).
        let mac = if overrides { tll.or(known) } else { known.or(tll) };
        let contradicts = !overrides && tll.is_some() && tll != mac;
        if let Some(mac) = mac.filter(|_| !contradicts) {
            self.learn_neighbour(bridge, target_ip, mac, false, now);
        }
    }

    /// Asks on a bridge for an address: at the MAC address if one is given, else all.
    pub(super) fn solicit(&mut self, bridge: BridgeId, ip: IpAddr, known: Option<MacAddr>) {
        match ip {
            IpAddr::V4(ip) => self.send_arp_request(bridge, ip, known),
            IpAddr::V6(ip) => self.send_solicitation(bridge, ip, known),
        }
    }

    /// The address of a bridge that a neighbour is asked from: one of the neighbour's subnet if there is one.
    fn source_towards(bridge: &Bridge, ip: IpAddr) -> Option<IpAddr> {
        let same_family = || bridge.addresses.iter().find(|net| net.addr().is_ipv4() == ip.is_ipv4());
        bridge.addresses.iter().find(|net| net.contains(&ip)).or_else(same_family).map(ipnet::IpNet::addr)
    }

    fn send_solicitation(&mut self, id: BridgeId, target: Ipv6Addr, known: Option<MacAddr>) {
        let Some(bridge) = self.state.bridge(id) else { return };
        let Some(IpAddr::V6(src)) = Self::source_towards(bridge, target.into()) else { return };
        let group = solicited_node(target);
        let (to, dst) = known.map_or((group, multicast_mac(group)), |mac| (target, mac));
        let head = EthernetRepr { dst, src: bridge.mac, vlan_tci: None, ethertype: ETH_IPV6 };
        let ask = Icmpv6Repr::NeighbourSolicit { target, sll: Some(bridge.mac) };
        self.send_from(id, |out| build_icmpv6(out, &head, src, to, &ask).ok());
    }

    fn send_arp_request(&mut self, id: BridgeId, ip: Ipv4Addr, known: Option<MacAddr>) {
        let Some(bridge) = self.state.bridge(id) else { return };
        let Some(IpAddr::V4(spa)) = Self::source_towards(bridge, ip.into()) else { return };
        let arp = ArpRepr { op: ArpOp::Request, sha: bridge.mac, spa, tha: MacAddr::ZERO, tpa: ip };
        let head = EthernetRepr {
            dst: known.unwrap_or(MacAddr::BROADCAST),
            src: bridge.mac,
            vlan_tci: None,
            ethertype: ETH_ARP,
        };
        self.send_from(id, |out| build_arp(out, &head, &arp).ok());
    }

    /// Sends a frame out of a bridge's LOCAL port, through the bridge's rules.
    pub(super) fn send_from(&mut self, bridge: BridgeId, build: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let Some(local) = self.state.bridge(bridge).map(|b| b.local) else { return };
        let mut bytes = [0; PacketBuffer::SIZE];
        if let Some(frame) = build(&mut bytes).and_then(|len| bytes.get(..len)) {
            self.packet_out(local, frame);
        }
    }

    /// Sends a frame as if it had come in on `in_port`.
    pub fn packet_out(&mut self, in_port: PortId, frame: &[u8]) {
        self.send_by(in_port, frame, translate);
    }

    /// Sends a frame by actions, as if it had come in on `in_port`; with `no_port` by no port of that bridge, and rules see this
    /// number.
    pub fn packet_out_by(&mut self, in_port: PortId, no_port: Option<u32>, frame: &[u8], actions: &[Action]) {
        self.send_by(in_port, frame, |state, key| translate_actions(state, key, no_port, actions));
    }

    fn send_by(
        &mut self,
        in_port: PortId,
        frame: &[u8],
        translate: impl FnOnce(&SwitchState, &FlowKey) -> Translation,
    ) {
        let mut key = FlowKey { in_port: in_port.0.into(), ..FlowKey::ZERO };
        clear_tunnel(&mut key);
        let (now, one) = (self.now(), PacketStats::new(1, frame.len() as u64));
        self.send_as(key, frame, |state, key| {
            let translation = translate(state, key);
            translation.count(one, now);
            translation
        });
    }

    /// Sends a frame as if it had come from where the key's `in_port` and `tun_*` fields say.
    pub(super) fn send_as(
        &mut self,
        mut key: FlowKey,
        frame: &[u8],
        translate: impl FnOnce(&SwitchState, &FlowKey) -> Translation,
    ) {
        let in_port = PortId(key.in_port as u16);
        if extract(frame, &mut key).is_err() || self.workers.is_empty() {
            return;
        }
        let translation = translate(&self.state, &key);
        if let Some(effects) = translation.effects.as_deref() {
            self.affect_rules(effects, self.now());
        }
        let Some(program) = self.acquire(&translation.program) else { return };
        let mut buffer = PacketBuffer::new();
        buffer.in_port = in_port;
        if buffer.set([frame]) {
            self.workers[0].send(Command::PacketOut(buffer, program));
        }
        self.programs.release(program);
    }

    /// Gives a buffer back to the worker's pool of them, if that has room: packets out bring more.
    pub(super) fn recycle(&self, worker: usize, buffer: Box<PacketBuffer>) {
        let buffers = &self.workers[worker].link.buffers;
        if buffers.len() < Link::BUFFERS {
            drop(buffers.push(buffer));
        }
    }
}
