//! Where a packet is sent: ports by number and name, tunnels, patches, the bridge itself.

use super::{Bridge, MAX_DEPTH, MatchKey, Op, Port, Translator, TunnelNextHop};
use crate::bridge::local::Disposition;
use crate::bridge::vlan::{PRIORITY, Tag, TagChange, vid_of};
use crate::bridge::{PortConfig, PortKind};
use crate::tunnel::port::TunnelPort;
use config::{LocalIp, RemoteIp, TunnelKey};
use flow::drop::DropReason;
use flow::ofp::{
    Controller, Field, PORT_ALL, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_NORMAL, PortRef,
    Subfield,
};
use flow::program::{AdjacencyId, PortId, PuntReason, TunnelMetadata};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FRAG_LATER, FlowMask, TUN_OAM};
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_FRAGMENT, IP_ICMP, IP_IGMP, IP_TCP, IP_UDP};
use wire::tunnel::geneve::{self, TlvMap};
use wire::tunnel::{Transport, is_transport};
use wire::view::ALL_SYSTEMS;

/// The SYN flag of TCP.
const SYN: u16 = 2;

/// Type of ICMP "destination unreachable", one of which says that a path is too narrow.
const ICMP_UNREACHABLE: u16 = 3;

/// Who in the switch wants a packet for the kernel's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// A VTEP socket, and the kernel does not get it.
    Socket,
    /// The slow path.
    SlowPath,
    /// Nobody.
    None,
}

/// A port, and the only remote to send to where it is a tunnel with several.
pub(in crate::bridge) type To = (PortId, Option<IpAddr>);

impl<'w> Translator<'w> {
    /// `output:PORT` and the reserved ports' own actions.
    pub(super) fn output_ref(&mut self, bridge: &'w Bridge, port: &'w Port, to: PortRef) {
        match to {
            PortRef::Normal => self.normal(bridge, port),
            PortRef::Local => self.output_number(bridge, PORT_LOCAL),
            PortRef::InPort => self.output_to(bridge, PORT_IN_PORT),
            PortRef::All | PortRef::Flood => {
                let in_port = by_number(bridge, self.at.key.flow.in_port);
                let state = self.state;
                let takes = |id: PortId| to == PortRef::All || state.port(id).is_some_and(Port::is_flooded);
                for &id in bridge.ports.values() {
                    if Some(id) != in_port && !bridge.is_mirror_output(id) && takes(id) {
                        self.output((id, None));
                    }
                }
                if in_port != Some(bridge.local) && takes(bridge.local) {
                    self.output((bridge.local, None));
                }
            }
            PortRef::Port(number) => self.output_number(bridge, number),
            PortRef::Controller { max_len } => {
                self.send_to_controllers(&Controller {
                    max_len,
                    reason: self.sent_as,
                    ..Controller::default()
                });
            }
        }
    }

    /// A port by its number, LOCAL or IN_PORT.
    pub(super) fn output_to(&mut self, bridge: &'w Bridge, number: u32) {
        if number != PORT_IN_PORT {
            return self.output_number(bridge, number);
        }
        if let Some(id) = by_number(bridge, self.at.key.flow.in_port) {
            self.output((id, None));
        } else {
            self.drop = DropReason::NoBridgePort;
        }
    }

    /// `output(port=PORT,max_len=N)`: changes until here are made to the whole packet.
    pub(super) fn output_truncated(&mut self, bridge: &'w Bridge, number: u32, max_len: u32) {
        self.commit();
        let before = (self.at.clone(), self.in_port, self.edits);
        let ops = std::mem::take(&mut self.ops);
        self.output_to(bridge, number);
        (self.at, self.in_port, self.edits) = before;
        let inner = std::mem::replace(&mut self.ops, ops);
        if !inner.is_empty() {
            self.ops.push(Op::Truncate { max_len, ops: inner.into() });
        }
    }

    /// `output:FIELD[a..b]`.
    pub(super) fn output_field(&mut self, bridge: &'w Bridge, port: &'w Port, from: Subfield) {
        let number = u32::try_from(self.read(from)).unwrap_or(u32::MAX);
        let to = match number {
            PORT_IN_PORT => PortRef::InPort,
            PORT_NORMAL => PortRef::Normal,
            PORT_FLOOD => PortRef::Flood,
            PORT_ALL => PortRef::All,
            PORT_CONTROLLER => PortRef::Controller { max_len: u16::MAX },
            PORT_LOCAL => PortRef::Local,
            number => PortRef::Port(number),
        };
        self.output_ref(bridge, port, to);
    }

    pub(super) fn output_number(&mut self, bridge: &'w Bridge, number: u32) {
        // OpenFlow: a packet goes back to its input port only by IN_PORT.
        if number == self.at.key.flow.in_port {
            self.note(|| "skipping output to input port".into());
            self.drop = DropReason::SamePort;
            return;
        }
        if let Some(id) = by_number(bridge, number) {
            self.output((id, None));
        } else {
            self.note(|| format!("no port {number}"));
            self.drop = DropReason::NoBridgePort;
        }
    }

    /// Sends the packet as it is.
    pub(in crate::bridge) fn output(&mut self, (to, remote): To) {
        let state = self.state;
        let Some(port) = state.port(to) else {
            self.drop = DropReason::NoBridgePort;
            return;
        };
        if port.config.has(PortConfig::DOWN | PortConfig::NO_FORWARD) {
            self.note(|| format!("port {} is set down, or not to forward", port.name));
            self.drop = DropReason::PortDown;
            return;
        }
        if matches!(port.kind, PortKind::Device) && port.mtu.is_none() {
            self.note(|| format!("the device of port {} does not run", port.name));
            self.drop = DropReason::LinkDown;
            return;
        }
        if !matches!(port.kind, PortKind::Local) {
            self.mirror_egress(to, port);
        }
        match &port.kind {
            PortKind::Device => {
                self.before_output(to);
                self.push(Op::Output(to));
                self.delivered = true;
            }
            PortKind::Tunnel(tunnel) => match &tunnel.options.vlan_vni {
                Some(map) => self.encapsulate_vlan(to, port, tunnel, map, remote),
                None => self.encapsulate(to, port, tunnel, remote),
            },
            PortKind::Patch(peer) => self.patch(port, peer),
            PortKind::Local => {
                if let Some(bridge) = state.bridge(port.bridge) {
                    self.local(bridge);
                }
            }
        }
    }

    /// Everything that comes before the packet leaves by a port.
    fn before_output(&mut self, to: PortId) {
        self.commit();
        if self.state.observed.sent.contains(&to) {
            self.push(Op::Punt(PuntReason::CaptureTx(to)));
        }
    }

    /// Sends the packet to ports with its tags changed. What comes afterwards sees them as they were.
    pub(in crate::bridge) fn output_tagged(&mut self, to: &[To], change: TagChange) {
        let now = self.tag();
        if change == TagChange::Outermost(now) {
            for to in to {
                self.output(*to);
            }
            return;
        }
        // A tag that is put on has the priority of the one that the packet came with.
        if change != TagChange::Outermost(None) && now.is_some() {
            self.look_flow(&FlowMask { vlan_tci: PRIORITY.into(), ..FlowMask::ZERO });
        }
        let state = self.state;
        // Another bridge looks at the tags, and so does LOCAL; a device does not, and what it does not look at stays out of the mask.
        // A mirror looks at them too, and copies the packet as it leaves.
        let is_patch = |id: PortId| {
            state.port(id).is_some_and(|p| {
                matches!(p.kind, PortKind::Patch(_) | PortKind::Local)
                    || state.bridge(p.bridge).is_some_and(|b| !b.mirrors.is_empty())
            })
        };
        self.nested(|t| {
            for to in to.iter().filter(|(id, _)| !is_patch(*id)) {
                t.with_tags(now, change, |t| t.output(*to));
            }
        });
        for to in to.iter().filter(|(id, _)| is_patch(*id)) {
            self.nested(|t| {
                match change {
                    TagChange::Outermost(None) => t.pop_vlan(),
                    TagChange::Outermost(Some(tci)) => t.mod_vlan(tci, !wire::key::VLAN_PRESENT),
                    TagChange::Push { tpid, tci } => {
                        t.push_vlan(tpid);
                        t.mod_vlan(tci, !wire::key::VLAN_PRESENT);
                    }
                }
                t.output(*to);
            });
        }
    }

    /// Does something with other tags on the packet, of which only its key does not know.
    fn with_tags(&mut self, now: Tag, change: TagChange, work: impl FnOnce(&mut Self)) {
        let before = (self.at.tags.clone(), self.at.leaving);
        self.at.leaving = Some(match change {
            TagChange::Push { tci, .. } => Some(tci),
            TagChange::Outermost(tag) => tag,
        });
        match (now, change) {
            (_, TagChange::Push { tpid, tci }) => self.at.tags.push(tpid, tci),
            (None, TagChange::Outermost(Some(tci))) => self.at.tags.push(wire::proto::ETH_VLAN, tci),
            (Some(_), TagChange::Outermost(Some(tci))) => self.at.tags.edit(tci),
            (Some(_), TagChange::Outermost(None)) => self.at.tags.pop(),
            (None, TagChange::Outermost(None)) => {}
        }
        work(self);
        (self.at.tags, self.at.leaving) = before;
    }

    /// Sends the packet into the bridge on the other side of a patch, where it starts anew.
    fn patch(&mut self, port: &'w Port, peer: &str) {
        self.resubmits += 1;
        if self.depth >= MAX_DEPTH || self.resubmits > super::MAX_RESUBMITS {
            return self.abort(|| format!("patches and tables over {MAX_DEPTH} deep"));
        }
        let state = self.state;
        let there = state
            .port_named(peer)
            .and_then(|id| Some((id, state.port(id)?)))
            .filter(|(_, there)| matches!(&there.kind, PortKind::Patch(back) if *back == port.name));
        let Some((id, there)) = there else {
            self.note(|| format!("patch {}: no port {peer} that names it as its peer", port.name));
            self.drop = DropReason::PatchPeer;
            return;
        };
        let Some(bridge) = state.bridge(there.bridge) else { return };
        self.nested(|t| {
            t.in_port = id;
            let state = &mut t.at;
            state.changed = true;
            state.key = MatchKey { metadata: 0, reg: [0; 16], ..state.key };
            state.set.metadata = u64::MAX;
            state.set.reg = [u32::MAX; 16];
            (state.action_set, state.stack) = (Vec::new(), Vec::new());
            // As in Open vSwitch, what a tunnel said stays on this side.
            (state.has_tun_id, state.has_tun_dst, state.has_tun_src) = (false, false, false);
            state.came_by_no_port = false;
            t.no_tunnel();
            t.depth += 1;
            t.enter(bridge, there);
            t.depth -= 1;
        });
    }

    pub(super) fn encapsulate(
        &mut self,
        id: PortId,
        port: &'w Port,
        tunnel: &'w TunnelPort,
        remote: Option<IpAddr>,
    ) {
        let options = &tunnel.options;
        let vni = match options.out_key {
            TunnelKey::Vni(vni) => vni,
            TunnelKey::Flow if self.at.has_tun_id => {
                self.read_field(Field::TunId) as u32 & options.tunnel_type.key_max
            }
            TunnelKey::Flow => {
                self.note(|| format!("{}: out_key=flow, and no action set tun_id", port.name));
                self.drop = DropReason::TunnelKeyUnset;
                return;
            }
        };
        let mut metadata = TunnelMetadata::default();
        let mut tlvs = Vec::new();
        if *options.format == wire::tunnel::geneve::FORMAT {
            tlvs = self.tunnel_options(port);
            metadata.options_len = tlvs.len() as u8;
            metadata.critical = geneve::Options(&tlvs).any(|option| option.is_critical());
            self.look_flow(&FlowMask { tun_flags: TUN_OAM, ..FlowMask::ZERO });
            metadata.oam = self.at.key.flow.tun_flags & TUN_OAM != 0;
        }
        if *options.format == wire::tunnel::vxlan::FORMAT_GBP {
            metadata.gbp_id = self.read_field(Field::TunGbpId) as u16;
            metadata.gbp_flags = self.read_field(Field::TunGbpFlags) as u8;
        }
        let local = if options.local_ip == LocalIp::Flow {
            let Some(local) = self.chosen(self.at.has_tun_src, Field::TunSrc, Field::TunIpv6Src) else {
                self.note(|| format!("{}: local_ip=flow, and no action set tun_src", port.name));
                self.drop = DropReason::TunnelLocalUnset;
                return;
            };
            Some(local)
        } else {
            None
        };
        let clamp = options.mss_clamp && self.is_syn();
        let header = format!("{} {vni}", options.tunnel_type.key_name);
        let to = |ip: &IpAddr| match options.transport.port {
            0 => format!("{header} to {ip}"),
            port => format!("{header} to {}", SocketAddr::new(*ip, port)),
        };
        // Remotes behind a multicast group are those that the FDB has learned.
        let learned = remote.filter(|_| options.group().is_some());
        if options.remote_ip == RemoteIp::Flow || local.is_some() || learned.is_some() {
            let remotes: Vec<IpAddr> = if let Some(learned) = learned {
                vec![learned]
            } else if options.remote_ip == RemoteIp::Flow {
                // What the FDB knows is as good as an action's word; the packet's own tun_dst is our own address.
                let chosen = match remote {
                    Some(remote) => Some(remote),
                    None => self.chosen(self.at.has_tun_dst, Field::TunDst, Field::TunIpv6Dst),
                };
                let Some(chosen) = chosen else {
                    self.note(|| format!("{}: remote_ip=flow, and no action set tun_dst", port.name));
                    self.drop = DropReason::TunnelRemoteUnset;
                    return;
                };
                vec![chosen]
            } else {
                tunnel
                    .remotes
                    .iter()
                    .map(|(ip, _)| *ip)
                    .filter(|ip| remote.is_none_or(|r| r == *ip))
                    .collect()
            };
            for ip in remotes {
                self.note(|| format!("tunnel {}: {}", port.name, to(&ip)));
                if let Some(adjacency) = tunnel.next_hops.get(&(ip, local)) {
                    self.before_output(id);
                    self.push_encap(clamp, (*adjacency, vni, metadata), &tlvs);
                    self.delivered = true;
                } else {
                    self.missing.push(TunnelNextHop { port: id, remote: ip, local });
                    // Counted when there is no room for another one.
                    self.drop = DropReason::NoTunnelNextHop;
                }
            }
            return;
        }
        for (ip, adjacency) in &tunnel.remotes {
            if remote.map_or_else(|| !tunnel.unicast_only.contains(ip), |remote| remote == *ip) {
                self.note(|| format!("tunnel {}: {}", port.name, to(ip)));
                self.before_output(id);
                self.push_encap(clamp, (*adjacency, vni, metadata), &tlvs);
                self.delivered = true;
            }
        }
    }

    /// Appends an encapsulation; with `clamp` for a SYN that offers what fits, on a copy: other ports get it as it is.
    fn push_encap(
        &mut self,
        clamp: bool,
        (adjacency, vni, metadata): (AdjacencyId, u32, TunnelMetadata),
        tlvs: &[u8],
    ) {
        let encap = Op::Encap { adjacency, vni, metadata, options: tlvs.into() };
        let options_len = metadata.options_len;
        self.push(if clamp {
            Op::Clone([Op::ClampMss { adjacency, options_len }, encap].into())
        } else {
            encap
        });
    }

    /// A SYN out of a tunnel with `mss-clamp` offers what fits the path back.
    pub(super) fn clamp_received(&mut self, port: &Port, tunnel: &TunnelPort) {
        if !tunnel.options.mss_clamp || !self.is_syn() {
            return;
        }
        self.look_flow(&FlowMask {
            tun_src: u32::MAX.into(),
            tun_dst: u32::MAX.into(),
            tun_ipv6_src: [0xff; 16],
            tun_ipv6_dst: [0xff; 16],
            ..FlowMask::ZERO
        });
        let flow = &self.at.key.flow;
        let address = |v4: u32, v6: [u8; 16]| -> IpAddr {
            if v4 == 0 { Ipv6Addr::from(v6).into() } else { Ipv4Addr::from(v4).into() }
        };
        let remote = address(flow.tun_src.get(), flow.tun_ipv6_src);
        let local = (tunnel.options.local_ip == LocalIp::Flow)
            .then(|| address(flow.tun_dst.get(), flow.tun_ipv6_dst));
        let adjacency = if tunnel.has_next_hops() {
            tunnel.next_hops.get(&(remote, local)).copied()
        } else {
            tunnel.remotes.iter().find(|(ip, _)| *ip == remote).map(|(_, id)| *id)
        };
        if let Some(adjacency) = adjacency {
            self.note(|| format!("{}: the SYN's MSS is clamped", port.name));
            self.push(Op::ClampMss { adjacency, options_len: 0 });
        } else if tunnel.has_next_hops() {
            self.missing.push(TunnelNextHop { port: self.in_port, remote, local });
        }
    }

    /// Whether the packet opens a TCP connection, or agrees to.
    fn is_syn(&mut self) -> bool {
        self.look_flow(&FlowMask { dl_type: u16::MAX.into(), ..FlowMask::ZERO });
        if !matches!(self.at.key.flow.dl_type.get(), ETH_IPV4 | ETH_IPV6) {
            return false;
        }
        self.look_flow(&FlowMask { nw_proto: u8::MAX, ..FlowMask::ZERO });
        if self.at.key.flow.nw_proto != IP_TCP {
            return false;
        }
        self.look_flow(&FlowMask { tcp_flags: SYN.into(), ..FlowMask::ZERO });
        self.at.key.flow.tcp_flags.get() & SYN != 0
    }

    /// The Geneve options that the packet has, by the TLV map of the tunnel port's bridge, in the order of their fields.
    fn tunnel_options(&mut self, port: &Port) -> Vec<u8> {
        let state = self.state;
        let mut out = Vec::new();
        let tlvs = state.bridge(port.bridge).map_or(&TlvMap::EMPTY, |bridge| &bridge.tlvs);
        for tlv in tlvs.tlvs() {
            self.look_flow(&FlowMask { tun_metadata_present: tlv.bit(), ..FlowMask::ZERO });
            if self.at.key.flow.tun_metadata_present & tlv.bit() != 0 {
                self.read_field(Field::TunMetadata(*tlv));
                let (bytes, len) = tlv.write(&self.at.key.flow);
                out.extend_from_slice(&bytes[..len]);
            }
        }
        out
    }

    /// The address that actions chose; `None` when they did not, or chose nothing.
    fn chosen(&mut self, was_set: bool, v4: Field, v6: Field) -> Option<IpAddr> {
        if !was_set {
            return None;
        }
        let (a, b) = (self.read_field(v4) as u32, self.read_field(v6));
        match (a, b) {
            (0, 0) => None,
            (0, v6) => Some(Ipv6Addr::from(v6).into()),
            (v4, _) => Some(Ipv4Addr::from(v4).into()),
        }
    }

    /// For the bridge itself: a VTEP socket takes tunnel packets, the slow path answers ARP and ICMP, nothing else is
    /// taken.
    pub(in crate::bridge) fn local(&mut self, bridge: &Bridge) {
        if bridge.device.is_some() {
            return self.local_device(bridge);
        }
        if !bridge.is_underlay() {
            self.drop = DropReason::LocalUnhandled;
            return;
        }
        // The bridge's addresses are those of an untagged LOCAL port.
        if vid_of(self.tag()) != 0 {
            self.note(|| format!("{} takes no tagged packets", bridge.name));
            self.drop = DropReason::LocalUnhandled;
            return;
        }
        let takes = match self.read_field(Field::EthType) as u16 {
            ETH_ARP => true,
            ETH_IPV4 => {
                let mask = FlowMask {
                    nw_dst: u32::MAX.into(),
                    nw_proto: u8::MAX,
                    nw_frag: u8::MAX,
                    ..FlowMask::ZERO
                };
                self.look_flow(&mask);
                let asks_members = self.asks_members(bridge);
                let is_joined = self.is_joined(bridge);
                let key = &self.at.key.flow;
                let (proto, is_own) =
                    (key.nw_proto, bridge.owns(IpAddr::V4(Ipv4Addr::from(key.nw_dst.get()))));
                if is_transport(proto) && key.nw_frag & FRAG_ANY != 0 {
                    return self.fragment(bridge, is_own || is_joined);
                }
                if (is_own || is_joined) && self.is_for_socket(proto) {
                    return self.terminate(bridge);
                }
                proto == IP_ICMP && is_own || asks_members
            }
            ETH_IPV6 => match self.local_v6(bridge) {
                Disposition::TunnelFragment => return self.fragment(bridge, true),
                Disposition::Socket => return self.terminate(bridge),
                disposition => disposition == Disposition::Taken,
            },
            _ => false,
        };
        if takes {
            self.note(|| format!("for {} itself", bridge.name));
            self.commit();
            self.push(Op::Punt(PuntReason::Local(bridge.local)));
            self.delivered = true;
        } else {
            self.drop = DropReason::LocalUnhandled;
        }
    }

    /// For the bridge itself, which is a device of the kernel: a VTEP socket takes tunnel packets to the kernel's addresses,
    /// the kernel everything else. The slow path hears of neighbours and of paths that are too narrow as well.
    fn local_device(&mut self, bridge: &Bridge) {
        if self.state.port(bridge.local).is_none_or(|local| local.mtu.is_none()) {
            self.note(|| format!("the device of {} does not run", bridge.name));
            self.drop = DropReason::LinkDown;
            return;
        }
        if bridge.is_underlay() && vid_of(self.tag()) == 0 {
            match self.of_interest(bridge) {
                Interest::Socket => return self.terminate(bridge),
                Interest::SlowPath => {
                    self.commit();
                    self.push(Op::Punt(PuntReason::Local(bridge.local)));
                }
                Interest::None => {}
            }
        }
        self.before_output(bridge.local);
        self.push(Op::Output(bridge.local));
        self.delivered = true;
    }

    /// Who in the switch wants an untagged packet that comes to the kernel's device.
    fn of_interest(&mut self, bridge: &Bridge) -> Interest {
        let wanted = match self.read_field(Field::EthType) as u16 {
            ETH_ARP => true,
            ETH_IPV4 => {
                self.look_flow(&FlowMask { nw_dst: u32::MAX.into(), ..FlowMask::ZERO });
                if self.asks_members(bridge) {
                    return Interest::SlowPath;
                }
                let is_own = bridge.owns(IpAddr::V4(Ipv4Addr::from(self.at.key.flow.nw_dst.get())));
                if !is_own && !self.is_joined(bridge) {
                    return Interest::None;
                }
                self.look_flow(&FlowMask { nw_proto: u8::MAX, nw_frag: u8::MAX, ..FlowMask::ZERO });
                let key = self.at.key.flow;
                if key.nw_frag & FRAG_ANY != 0 {
                    return self.fragment_of_interest();
                }
                if self.is_for_socket(key.nw_proto) {
                    return Interest::Socket;
                }
                is_own && key.nw_proto == IP_ICMP && {
                    self.look_flow(&FlowMask { tp_src: u16::MAX.into(), ..FlowMask::ZERO });
                    self.at.key.flow.tp_src.get() == ICMP_UNREACHABLE
                }
            }
            ETH_IPV6 => match self.local_v6(bridge) {
                Disposition::Socket => return Interest::Socket,
                Disposition::Taken => true,
                Disposition::TunnelFragment => return self.fragment_of_interest(),
                Disposition::Ignored => false,
            },
            _ => false,
        };
        if wanted { Interest::SlowPath } else { Interest::None }
    }

    /// Whether an IPv4 packet is for a multicast group that the switch is a member of on the bridge. The destination has been
    /// looked at.
    fn is_joined(&mut self, bridge: &Bridge) -> bool {
        let dst = IpAddr::V4(Ipv4Addr::from(self.at.key.flow.nw_dst.get()));
        if !bridge.joined.contains(&dst) {
            return false;
        }
        self.look_flow(&FlowMask { dl_dst: MacAddr::BROADCAST, ..FlowMask::ZERO });
        bridge.has_joined(dst, self.at.key.flow.dl_dst)
    }

    /// Whether an IPv4 packet can be a router's question for members of the switch's groups. The destination has been looked at.
    fn asks_members(&mut self, bridge: &Bridge) -> bool {
        let dst = Ipv4Addr::from(self.at.key.flow.nw_dst.get());
        if !bridge.has_groups(false) || dst != ALL_SYSTEMS && !bridge.joined.contains(&dst.into()) {
            return false;
        }
        self.look_flow(&FlowMask { nw_proto: u8::MAX, ..FlowMask::ZERO });
        self.at.key.flow.nw_proto == IP_IGMP
    }

    /// Whether a packet of this IP protocol goes to a VTEP socket.
    pub(in crate::bridge) fn is_for_socket(&mut self, protocol: u8) -> bool {
        if !is_transport(protocol) {
            return false;
        }
        let mut port = 0;
        if protocol == IP_UDP {
            self.look_flow(&FlowMask { tp_dst: u16::MAX.into(), ..FlowMask::ZERO });
            port = self.at.key.flow.tp_dst.get();
        }
        self.state.ports().any(|(_, p)| match &p.kind {
            PortKind::Tunnel(tunnel) => tunnel.options.transport == Transport { protocol, port },
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => false,
        })
    }

    /// Whether tunnel packets of this IP protocol are taken in fragments.
    fn reassembles(&self, protocol: u8) -> bool {
        self.state.ports().any(|(_, port)| match &port.kind {
            PortKind::Tunnel(tunnel) => {
                // Of a later fragment of IPv6 nothing is known but that it is one.
                let may_be = protocol == IP_FRAGMENT || protocol == tunnel.options.transport.protocol;
                tunnel.options.reassemble && may_be
            }
            PortKind::Local | PortKind::Device | PortKind::Patch(_) => false,
        })
    }

    /// A fragment of what may be a tunnel packet: it waits for the others, if it is for the bridge.
    fn fragment(&mut self, bridge: &Bridge, is_ours: bool) {
        if is_ours && self.reassembles(self.at.key.flow.nw_proto) {
            self.note(|| "a fragment: the tunnel packet goes on when all are there".to_owned());
            self.terminate(bridge);
        } else {
            self.drop = DropReason::TunnelFragment;
        }
    }

    /// Whether a fragment that comes to the kernel's device is one of a tunnel packet, as far as it says. Only the first one
    /// says the UDP port: workers know whether they have seen it.
    fn fragment_of_interest(&mut self) -> Interest {
        let key = self.at.key.flow;
        let is_later = key.nw_frag & FRAG_LATER != 0;
        if self.reassembles(key.nw_proto) && (is_later || self.is_for_socket(key.nw_proto)) {
            Interest::Socket
        } else {
            Interest::None
        }
    }

    /// A tunnel packet for the bridge's VTEP: its outer headers come off, and the inner frame is one of its tunnel port.
    fn terminate(&mut self, bridge: &Bridge) {
        self.note(|| format!("tunnel packet for {}: decapsulate", bridge.name));
        self.commit();
        self.push(Op::Terminate(bridge.local));
        self.delivered = true;
    }
}

/// The datapath number of a port by its OpenFlow number.
/// The port of a bridge that has this number.
pub(in crate::bridge) fn by_number(bridge: &Bridge, number: u32) -> Option<PortId> {
    if number == PORT_LOCAL { Some(bridge.local) } else { bridge.ports.get(&number).copied() }
}
