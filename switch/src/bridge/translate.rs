//! Translation: what the rules, FDBs and tunnels of the moment make of one packet.
//!
//! It reads the [`World`] and changes nothing. On the way it records every bit of the key that it looked
//! at; packets that agree on these bits would be treated the same, so the result is a megaflow: a mask, a
//! program, and beside them what the packet teaches, whom its statistics belong to and what it depends on.

use super::fdb::Location;
use super::local::Heard;
use super::rules::Rule;
use super::vlan::{PRIORITY, Tag, tag_of};
use super::{Bridge, BridgeId, BridgePorts, Port, PortKind, VxlanPort, World};
use config::{FailMode, TunnelKey};
use flow::drop::DropReason;
use flow::ofp::{Action, Field, MatchKey, PortRef, format_actions};
use flow::program::{Op, PortId, Program, PuntReason};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FlowKey, FlowMask, VLAN_PRESENT};
use wire::proto::{ETH_ARP, ETH_IPV4, ETH_IPV6, IP_ICMP, IP_UDP};
use zerocopy::byteorder::network_endian::U16;

/// Levels of `resubmit`, as in Open vSwitch.
const MAX_DEPTH: usize = 64;
/// All resubmits of one packet, as in Open vSwitch: rules that resubmit twice each double with every level.
const MAX_RESUBMITS: usize = 4096;
/// Ops of one program: more is an amplifier, not a switch.
const MAX_OPS: usize = 4096;

/// A MAC address that a packet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learn {
    /// Whose FDB.
    pub bridge: BridgeId,
    /// VLAN.
    pub vlan: u16,
    /// Address.
    pub mac: MacAddr,
    /// Where it is.
    pub at: Location,
}

/// Something that a translation depends on besides rules, ports and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The FDB entry, or the absence of one, for an address.
    Fdb(BridgeId, u16, MacAddr),
}

/// The result.
#[derive(Debug, Clone)]
pub struct Translation {
    /// Bits of the key that mattered.
    pub mask: FlowMask,
    /// What to do with packets that agree on them.
    pub program: Program,
    /// What a packet of the flow teaches.
    pub learn: Option<Learn>,
    /// Rules that matched, in order.
    pub rules: Vec<Arc<Rule>>,
    /// What else the result depends on.
    pub tags: Vec<Dependency>,
}

/// One translation under way.
pub struct Translator<'w> {
    pub(super) world: &'w World,
    /// The packet as the actions have changed it so far; `in_port` is the OpenFlow number.
    pub(super) key: MatchKey,
    /// Datapath number of the input port.
    pub(super) in_port: PortId,
    /// Bits looked at.
    pub(super) wc: MatchKey,
    ops: Vec<Op>,
    /// Tag of the packet at this point of `ops`.
    tag: Tag,
    /// Why there is nothing to do, if there turns out to be nothing.
    pub(super) drop: DropReason,
    /// Whether an action set `tun_id`, or the packet brought one.
    has_tun_id: bool,
    /// Whether an action set it, in full.
    tun_id_was_set: bool,
    pub(super) learn: Option<Learn>,
    rules: Vec<Arc<Rule>>,
    pub(super) tags: Vec<Dependency>,
    depth: usize,
    resubmits: usize,
    /// A limit was passed: the packet is dropped, and nothing more is looked at.
    aborted: bool,
    trace: Option<Vec<String>>,
}

/// Translates a packet with this key, whose `in_port` is a datapath port number.
pub fn translate(world: &World, key: &FlowKey) -> Translation {
    Translator::new(world, key).finish(key)
}

/// The same, with an account of every step.
pub fn trace(world: &World, key: &FlowKey) -> (Translation, Vec<String>) {
    let mut translator = Translator::new(world, key);
    translator.trace = Some(Vec::new());
    translator.start(key);
    let lines = translator.trace.take().unwrap_or_default();
    (translator.result(), lines)
}

impl<'w> Translator<'w> {
    fn new(world: &'w World, key: &FlowKey) -> Translator<'w> {
        let mut wc = MatchKey::ZERO;
        wc.flow.in_port = u32::MAX;
        Translator {
            world,
            key: MatchKey { flow: *key, ..MatchKey::ZERO },
            in_port: PortId(key.in_port as u16),
            wc,
            ops: Vec::new(),
            tag: tag_of(key.vlan_tci.get()),
            drop: DropReason::Rule,
            has_tun_id: false,
            tun_id_was_set: false,
            learn: None,
            rules: Vec::new(),
            tags: Vec::new(),
            depth: 0,
            resubmits: 0,
            aborted: false,
            trace: None,
        }
    }

    fn finish(mut self, key: &FlowKey) -> Translation {
        self.start(key);
        self.result()
    }

    fn result(self) -> Translation {
        Translation {
            mask: self.wc.flow,
            program: Program { ops: self.ops.into(), drop: self.drop },
            learn: self.learn,
            rules: self.rules,
            tags: self.tags,
        }
    }

    fn start(&mut self, key: &FlowKey) {
        if self.in_port == PortId::TUNNEL_MISS {
            // Nothing but that no port takes it was looked at: one megaflow drops them all, so that nobody can
            // fill the table by counting through VNIs.
            self.note(|| format!("no vxlan port takes VNI {} from this remote", key.tun_id));
            self.drop = DropReason::TunnelUnknown;
            return;
        }
        let world = self.world;
        let Some((port, bridge)) =
            world.port(self.in_port).and_then(|port| Some((port, world.bridge(port.bridge)?)))
        else {
            self.drop = DropReason::NotInBridge;
            return;
        };
        self.key.flow.in_port = port.ofport;
        // By the port, which is in every mask, and not by the packet's own flag: a megaflow is translated
        // again from its masked key.
        self.has_tun_id = port.is_tunnel();
        self.note(|| format!("bridge(\"{}\")", bridge.name));
        self.table(bridge, port, 0);
    }

    /// Records a step, when somebody wants to know. The text is made only then.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let depth = self.depth;
        if let Some(lines) = &mut self.trace {
            lines.push(format!("{:indent$}{}", "", text(), indent = depth * 4));
        }
    }

    /// Looks the packet up in a table and runs the actions of the rule that matches.
    fn table(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        let Some(rule) = bridge.tables.lookup(table, &self.key, &mut self.wc) else {
            return self.no_rule(bridge, port, table);
        };
        let rule = Arc::clone(rule);
        self.note(|| {
            format!("{table:2}. {}", rule.describe(&BridgePorts { world: self.world, bridge: port.bridge }))
        });
        self.rules.push(Arc::clone(&rule));
        self.depth += 1;
        self.actions(bridge, port, &rule.spec.actions);
        self.depth -= 1;
    }

    fn no_rule(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        if bridge.fail_mode == FailMode::Standalone && table == 0 {
            self.note(|| " 0. no match, fail_mode=standalone: NORMAL".into());
            self.normal(bridge, port);
        } else {
            self.note(|| format!("{table:2}. no match: drop"));
            self.drop = DropReason::NoMatch;
        }
    }

    fn actions(&mut self, bridge: &'w Bridge, port: &'w Port, actions: &[Action]) {
        for action in actions {
            if self.ops.len() > MAX_OPS {
                self.abort(|| format!("more than {MAX_OPS} datapath actions"));
            }
            if self.aborted {
                return;
            }
            self.note(|| {
                format_actions(
                    std::slice::from_ref(action),
                    &BridgePorts { world: self.world, bridge: port.bridge },
                )
            });
            match action {
                Action::Output(to) => self.output_ref(bridge, port, *to),
                Action::Drop => self.drop = DropReason::Rule,
                Action::SetTunnel(vni) => {
                    self.key.flow.tun_id = *vni as u32;
                    (self.has_tun_id, self.tun_id_was_set) = (true, true);
                }
                Action::Resubmit { port: None, table } => self.resubmit(bridge, port, table.unwrap_or(0)),
                Action::GotoTable(table) => self.resubmit(bridge, port, *table),
                Action::SetField { field, value, mask } if is_metadata(*field) => {
                    field.set_masked(&mut self.key, *value, *mask);
                    if *field == Field::TunId {
                        self.has_tun_id = true;
                        self.tun_id_was_set |= *mask == field.info().exact();
                    }
                }
                // Rules with other actions are refused when they are added.
                _ => self.drop = DropReason::UnsupportedAction,
            }
        }
    }

    fn resubmit(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        self.resubmits += 1;
        if self.depth >= MAX_DEPTH || self.resubmits > MAX_RESUBMITS {
            return self.abort(|| format!("resubmitted over {MAX_DEPTH} deep or {MAX_RESUBMITS} times"));
        }
        self.table(bridge, port, table);
    }

    /// Ends the translation: the packet goes nowhere.
    fn abort(&mut self, why: impl FnOnce() -> String) {
        self.note(why);
        self.aborted = true;
        self.ops.clear();
        self.drop = DropReason::RecursionLimit;
    }

    fn output_ref(&mut self, bridge: &'w Bridge, port: &'w Port, to: PortRef) {
        match to {
            PortRef::Normal => self.normal(bridge, port),
            PortRef::Local => self.local(bridge),
            PortRef::InPort => self.output(self.in_port, None),
            PortRef::All | PortRef::Flood => {
                for &id in bridge.ports.values() {
                    if id != self.in_port {
                        self.output(id, None);
                    }
                }
                if self.in_port != bridge.local {
                    self.local(bridge);
                }
            }
            PortRef::Port(number) => match bridge.ports.get(&number) {
                // OpenFlow: a packet goes back to its input port only by IN_PORT.
                Some(id) if *id == self.in_port => {
                    self.note(|| "skipping output to input port".into());
                    self.drop = DropReason::SamePort;
                }
                Some(id) => self.output(*id, None),
                None => {
                    self.note(|| format!("no port {number}"));
                    self.drop = DropReason::NoBridgePort;
                }
            },
            PortRef::Controller { .. } => self.drop = DropReason::UnsupportedAction,
        }
    }

    /// Sends the packet, tagged as it came, out of a port; towards `remote` alone if one is given and the
    /// port is a tunnel.
    pub(super) fn output(&mut self, to: PortId, remote: Option<IpAddr>) {
        let tag = tag_of(self.key.flow.vlan_tci.get());
        self.output_tagged(to, remote, tag);
    }

    /// Sends the packet with this tag.
    pub(super) fn output_tagged(&mut self, to: PortId, remote: Option<IpAddr>, tag: Tag) {
        let world = self.world;
        match world.port(to).map(|port| (&port.kind, port)) {
            Some((PortKind::Device, _)) => {
                self.retag(tag);
                self.ops.push(Op::Output(to));
            }
            Some((PortKind::Vxlan(vxlan), port)) => self.encapsulate(port, vxlan, remote, tag),
            Some((PortKind::Local, port)) => {
                if let Some(bridge) = world.bridge(port.bridge) {
                    self.local(bridge);
                }
            }
            Some((PortKind::Patch(_), _)) | None => self.drop = DropReason::NoBridgePort,
        }
    }

    fn encapsulate(&mut self, port: &Port, vxlan: &VxlanPort, remote: Option<IpAddr>, tag: Tag) {
        let vni = match vxlan.options.out_key {
            TunnelKey::Vni(vni) => vni,
            TunnelKey::Flow if self.has_tun_id => {
                // What an action set is the same for all packets; what they brought is not.
                if !self.tun_id_was_set {
                    self.wc.flow.tun_id = u32::MAX;
                }
                self.key.flow.tun_id & 0xff_ffff
            }
            TunnelKey::Flow => {
                self.note(|| format!("{}: out_key=flow, and no action set tun_id", port.name));
                self.drop = DropReason::TunnelKeyUnset;
                return;
            }
        };
        for (ip, adjacency) in &vxlan.remotes {
            if remote.is_none_or(|known| known == *ip) {
                self.retag(tag);
                self.note(|| format!("tunnel {}: VNI {vni} to {ip}:{}", port.name, vxlan.options.dst_port));
                self.ops.push(Op::Encap {
                    adjacency: *adjacency,
                    vni,
                    policy: flow::program::Policy::default(),
                });
            }
        }
    }

    /// Brings the packet's tag from what it is to what it shall be.
    fn retag(&mut self, tag: Tag) {
        // The tag's bits are in the program, so packets of the megaflow must share them.
        if tag != self.tag {
            self.wc.flow.vlan_tci |= U16::new(VLAN_PRESENT | 0xfff);
            // A tag that is put on has the priority of the one that the packet came with.
            if tag.is_some() && self.key.flow.has_vlan() {
                self.wc.flow.vlan_tci |= U16::new(PRIORITY);
            }
            if self.tag.is_some() {
                self.ops.push(Op::PopVlan);
            }
            if let Some(tci) = tag {
                self.ops.push(Op::PushVlan { tpid: 0x8100, tci });
            }
            self.tag = tag;
        }
    }

    /// For the bridge itself: the slow path answers ARP and ICMP, nothing else is taken.
    pub(super) fn local(&mut self, bridge: &Bridge) {
        if !bridge.is_underlay() {
            self.drop = DropReason::LocalUnhandled;
            return;
        }
        self.wc.flow.dl_type = U16::MAX_VALUE;
        let key = &self.key.flow;
        let takes = match key.dl_type.get() {
            ETH_ARP => true,
            ETH_IPV4 => {
                self.wc.flow.nw_dst = u32::MAX.into();
                self.wc.flow.nw_proto = u8::MAX;
                self.wc.flow.nw_frag = u8::MAX;
                if key.nw_proto == IP_UDP && key.nw_frag & FRAG_ANY != 0 {
                    self.drop = DropReason::TunnelFragment;
                    return;
                }
                key.nw_proto == IP_ICMP && bridge.owns(IpAddr::V4(Ipv4Addr::from(key.nw_dst.get())))
            }
            ETH_IPV6 => match self.local_v6(bridge) {
                Heard::TunnelFragment => return self.drop = DropReason::TunnelFragment,
                heard => heard == Heard::Taken,
            },
            _ => false,
        };
        if takes {
            self.note(|| format!("for {} itself", bridge.name));
            self.ops.push(Op::Punt(PuntReason::Local));
        } else {
            self.drop = DropReason::LocalUnhandled;
        }
    }
}

/// Fields that never stand in the packet: setting one costs no op.
pub(super) fn is_metadata(field: Field) -> bool {
    matches!(
        field,
        Field::TunId
            | Field::Metadata
            | Field::Reg0
            | Field::Reg1
            | Field::Reg2
            | Field::Reg3
            | Field::Reg4
            | Field::Reg5
            | Field::Reg6
            | Field::Reg7
    )
}
