//! What would become of a packet: its way through the rules and, where its bytes are known, what the workers do with it
//! for its length, and its way on out of a tunnel.

use super::SlowPath;
use super::show::DatapathNames;
use super::walk::{Found, MAX_DEPTH};
use crate::bridge::translate::{Traced, trace, translate_actions};
use crate::bridge::{BridgeId, BridgePorts, PortKind};
use crate::tunnel::adjacency::output_ports;
use api::{Trace, TraceDrop};
use flow::drop::DropReason;
use flow::ofp::{
    Action, MatchKey, PORT_ANY, PORT_CONTROLLER, PORT_LOCAL, PortNames, format_key, format_megaflow,
};
use flow::program::{Op, PortId, Program};
use wire::ecn::{ECN_MASK, EcnDecap, ecn_decap};
use wire::fragment;
use wire::key::FlowKey;
use wire::parse::extract;
use wire::proto::{ETH_IPV4, ETH_IPV6};
use wire::tunnel::outer::{parse_outer, peek};

/// How a packet is followed.
#[derive(Debug, Clone, Copy)]
struct Follow {
    /// Makes adjacencies to remotes that actions choose, as the first packet to one does.
    makes_adjacencies: bool,
    /// Tunnels that it is in.
    depth: u8,
}

impl Follow {
    fn deeper(self) -> Follow {
        Follow { depth: self.depth + 1, ..self }
    }
}

impl SlowPath {
    /// What would become of a packet on a bridge; `key` has an OpenFlow `in_port`. `frame` is the packet if it is known,
    /// else nothing is said of its length. `None` when the bridge has no such port.
    pub fn trace_view(&mut self, bridge: BridgeId, key: &MatchKey, frame: Option<&[u8]>) -> Option<Trace> {
        self.make_adjacencies(bridge, key)?;
        match frame {
            Some(frame) => self.trace_at(bridge, key, frame, Follow { makes_adjacencies: true, depth: 0 }),
            None => self.trace_as_is(bridge, key),
        }
    }

    /// What has become of a packet that was seen.
    pub(super) fn trace_seen(&mut self, bridge: BridgeId, key: &MatchKey, frame: &[u8]) -> Option<Trace> {
        self.trace_at(bridge, key, frame, Follow { makes_adjacencies: false, depth: 0 })
    }

    /// As for a packet: adjacencies to remotes that actions choose are made when they are first wanted.
    fn make_adjacencies(&mut self, bridge: BridgeId, key: &MatchKey) -> Option<()> {
        let mut packet = key.flow;
        packet.in_port = self.in_port(bridge, key)?.0.into();
        let _ = self.translate(&packet);
        Some(())
    }

    /// The same without making anything: a remote that no packet went to yet is shown as not known.
    pub fn trace_as_is(&self, bridge: BridgeId, key: &MatchKey) -> Option<Trace> {
        let (mut trace, program) = self.traced(bridge, key)?;
        trace.steps.extend(self.mtu_steps(&program));
        Some(trace)
    }

    /// The same for a packet that a controller sends: it goes by `actions` instead of the bridge's rules.
    pub fn trace_packet_out(
        &mut self,
        bridge: BridgeId,
        key: &MatchKey,
        actions: &[Action],
    ) -> Option<Trace> {
        let mut packet = key.flow;
        packet.in_port = self.in_port(bridge, key)?.0.into();
        let missing = translate_actions(&self.state, &packet, reserved(key), actions).missing;
        self.resolve_missing(&missing);
        let (mut trace, program) = self.traced_by(bridge, key, Some(actions))?;
        trace.steps.extend(self.mtu_steps(&program));
        Some(trace)
    }

    fn trace_at(&mut self, bridge: BridgeId, key: &MatchKey, frame: &[u8], follow: Follow) -> Option<Trace> {
        if follow.makes_adjacencies {
            self.make_adjacencies(bridge, key)?;
        }
        let (mut trace, program) = self.traced(bridge, key)?;
        let in_port = self.in_port(bridge, key)?;
        let mut packet = key.flow;
        packet.in_port = in_port.0.into();
        if self.is_terminated_at(in_port, frame) {
            trace.actions = self.describe_op(&Op::Terminate(self.state.bridge(bridge)?.local));
            trace.reason = None;
            // A worker counts only what enters a bridge again.
            self.go_on_inside(in_port, frame, &mut trace, follow);
            return Some(trace);
        }
        let mut found = Found::default();
        self.walk(&program.ops, &packet, frame.to_vec(), &mut found);
        if let Some(reason) = found.dropped() {
            trace.reason = Some(dropped(reason));
        }
        trace.steps.append(&mut found.steps);
        (trace.headers, trace.sent) = (found.headers, found.sent);
        if let Some((local, outer)) = found.looked_up.first() {
            self.go_on_outside(*local, outer, &mut trace, follow.deeper());
        }
        // Copies for several VTEPs of one bridge do not happen but by a rule that says so twice.
        if let Some((local, outer)) = found.terminated.first() {
            self.go_on_inside(*local, outer, &mut trace, follow.deeper());
        }
        Some(trace)
    }

    fn in_port(&self, bridge: BridgeId, key: &MatchKey) -> Option<PortId> {
        let running = self.state.bridge(bridge)?;
        match key.flow.in_port {
            PORT_LOCAL | PORT_CONTROLLER | PORT_ANY => Some(running.local),
            ofport => running.ports.get(&ofport).copied(),
        }
    }

    /// The way through the rules, and the program at its end.
    fn traced(&self, bridge: BridgeId, key: &MatchKey) -> Option<(Trace, Program)> {
        self.traced_by(bridge, key, None)
    }

    fn traced_by(
        &self,
        bridge: BridgeId,
        key: &MatchKey,
        actions: Option<&[Action]>,
    ) -> Option<(Trace, Program)> {
        let id = self.in_port(bridge, key)?;
        let mut packet = key.flow;
        packet.in_port = id.0.into();
        // A controller's packet comes out of no tunnel.
        let decapsulated = if actions.is_some() { None } else { self.decapsulated(id, &mut packet) };
        let Traced { translation, mut steps, last } = trace(&self.state, &packet, reserved(key), actions);
        if let Some((step, _)) = &decapsulated {
            steps.insert(0, step.clone());
        }
        // A packet that is dropped before the lookup makes no megaflow.
        let dropped_before = decapsulated.and_then(|(_, drop)| drop);
        let program = dropped_before.map_or(translation.program, Program::dropping);
        let names = BridgePorts { state: &self.state, bridge };
        let trace = Trace {
            flow: format_key(key, &names),
            steps,
            megaflow: format_megaflow(&packet, &translation.mask, &DatapathNames(self, names.tlvs())),
            actions: self.describe(&program),
            headers: self.tunnel_headers(&program),
            sent: Vec::new(),
            final_flow: if last == *key { String::new() } else { format_key(&last, &names) },
            reason: program.ends_in().map(dropped),
            inner: None,
            outer: None,
        };
        Some((trace, program))
    }

    /// What decapsulation does to the congestion mark of a packet that came in by a tunnel port with this `tun_tos`: in
    /// words, and why it goes nowhere if it does.
    fn decapsulated(&self, in_port: PortId, packet: &mut FlowKey) -> Option<(String, Option<DropReason>)> {
        if self.state.port(in_port)?.is_tunnel() { marked(packet) } else { None }
    }

    /// What the MTUs of the ports that a program sends packets to mean for them, encapsulated ones apart.
    fn mtu_steps(&self, program: &Program) -> Vec<String> {
        let mut ports = Vec::new();
        output_ports(&program.ops, &mut ports);
        let mtu = |id: &PortId| Some((self.port_name(*id), self.state.port(*id)?.mtu?));
        let step = |(name, mtu)| format!("{name}: MTU {mtu}, a longer packet is dropped (mtu_exceeded)");
        ports.iter().filter_map(mtu).map(step).collect()
    }

    /// Follows a tunnel packet through the bridge that it leaves by.
    fn go_on_outside(&mut self, local: PortId, packet: &[u8], trace: &mut Trace, follow: Follow) {
        if follow.depth > MAX_DEPTH {
            trace.reason = Some(dropped(DropReason::RecursionLimit));
            return;
        }
        let Some(bridge) = self.state.port(local).map(|port| port.bridge) else { return };
        let mut flow = FlowKey { in_port: PORT_LOCAL, ..FlowKey::ZERO };
        if extract(packet, &mut flow).is_ok() {
            let key = MatchKey { flow, ..MatchKey::ZERO };
            trace.outer = self.trace_at(bridge, &key, packet, follow).map(Box::new);
            trace.reason = trace.outer.as_ref().and_then(|outer| outer.reason.clone());
        }
    }

    /// Whether the outer headers come off where the packet comes in: its bridge would send every such packet to LOCAL.
    fn is_terminated_at(&self, in_port: PortId, frame: &[u8]) -> bool {
        let mut termination = self.termination();
        let view = termination.view(in_port).filter(|_| !self.is_local(in_port));
        view.is_some_and(|view| peek(frame).is_some_and(|peeked| view.is_ours(&peeked).is_some()))
    }

    fn is_local(&self, id: PortId) -> bool {
        self.state.port(id).is_some_and(|port| matches!(port.kind, PortKind::Local))
    }

    /// Takes the outer headers off a packet that has reached a bridge's LOCAL port, and follows the inner frame.
    fn go_on_inside(&mut self, at: PortId, outer: &[u8], trace: &mut Trace, follow: Follow) {
        if follow.depth > MAX_DEPTH {
            trace.reason = Some(dropped(DropReason::RecursionLimit));
            return;
        }
        if fragment::read(outer).is_some() {
            // It waits for the others.
            trace.reason = None;
            return;
        }
        match self.inside(at, outer) {
            Ok((bridge, key, inner)) => {
                trace.inner = self.trace_at(bridge, &key, inner, follow).map(Box::new);
                trace.reason = trace.inner.as_ref().and_then(|inner| inner.reason.clone());
            }
            Err(reason) => trace.reason = Some(dropped(reason)),
        }
    }

    /// The bridge, key and bytes of the frame inside a packet that is decapsulated at a port.
    fn inside<'p>(&self, at: PortId, outer: &'p [u8]) -> Result<(BridgeId, MatchKey, &'p [u8]), DropReason> {
        let mut termination = self.termination();
        let view = termination.view(at).ok_or(DropReason::LocalUnhandled)?;
        let format =
            peek(outer).and_then(|peeked| view.is_ours(&peeked)).ok_or(DropReason::LocalUnhandled)?;
        let header = parse_outer(outer, format, view.any_zero_checksums())?;
        let id = view.tunnel_of(&header)?.unwrap_or(PortId::TUNNEL_MISS);
        let mut flow = FlowKey::ZERO;
        header.fill_key(&mut flow);
        let start = header.options_offset();
        let options = outer.get(start..start + usize::from(header.options_len)).unwrap_or(&[]);
        view.tlvs(id).fill_key(options, &mut flow)?;
        let start = usize::from(header.inner_offset);
        let inner = outer.get(start..start + usize::from(header.inner_len)).unwrap_or(&[]);
        extract(inner, &mut flow).map_err(|_| DropReason::TunnelInnerTruncated)?;
        if id == PortId::TUNNEL_MISS {
            if let Some((_, Some(reason))) = marked(&mut flow) {
                return Err(reason);
            }
            flow.in_port = id.0.into();
            let dropped = trace(&self.state, &flow, None, None).translation.program.ends_in();
            return Err(dropped.unwrap_or(DropReason::TunnelUnknown));
        }
        let port = self.state.port(id).ok_or(DropReason::Internal)?;
        flow.in_port = port.ofport;
        Ok((port.bridge, MatchKey { flow, ..MatchKey::ZERO }, inner))
    }
}

/// The number that rules see of a packet that came by no port.
fn reserved(key: &MatchKey) -> Option<u32> {
    Some(key.flow.in_port).filter(|number| matches!(*number, PORT_CONTROLLER | PORT_ANY))
}

/// The same for a packet that is known to come out of a tunnel.
fn marked(packet: &mut FlowKey) -> Option<(String, Option<DropReason>)> {
    if !matches!(packet.dl_type.get(), ETH_IPV4 | ETH_IPV6) {
        return None;
    }
    match ecn_decap(packet.tun_tos, packet.nw_tos) {
        EcnDecap::Keep => None,
        EcnDecap::Set(ecn) => {
            packet.nw_tos = packet.nw_tos & !ECN_MASK | ecn;
            Some((format!("decapsulated: nw_ecn={ecn}, by the outer header's mark (RFC 6040)"), None))
        }
        EcnDecap::Drop => Some((
            "decapsulated: the outer header says congestion, inner transport cannot hear it (RFC 6040)"
                .into(),
            Some(DropReason::EcnNotCapable),
        )),
    }
}

fn dropped(reason: DropReason) -> TraceDrop {
    TraceDrop { reason: reason.name().into(), description: reason.description().into() }
}
