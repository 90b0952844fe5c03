//! Translation: what the rules, groups, FDBs and tunnels of the moment make of one packet.
//!
//! It reads the [`SwitchState`] and changes nothing. On the way it records every bit of the packet that it looked
//! at; packets that agree on these bits would be treated the same, so the result is a megaflow: a mask, a
//! program, and beside them what the packet teaches, whom its statistics belong to and what it depends on.
//!
//! In the order in which a packet meets them: rules and their actions (here), changes to its fields ([`edit`]),
//! the learning switch ([`super::normal`]), groups ([`group`]), ports and tunnels ([`output`]), mirrors
//! ([`mirror`]), and how changes become ops ([`commit`]).

mod commit;
mod controller;
mod edit;
mod effects;
mod group;
mod length;
mod mirror;
mod output;
mod set;
mod spread;
mod vlan_vni;

use super::fdb::Location;
use super::group::GroupUse;
use super::rules::Rule;
use super::vlan::{Tag, tag_of};
use super::{Bridge, BridgeId, BridgePorts, Port, PortConfig, PortKind, SwitchState};
use commit::Tags;
use config::{FailMode, TunnelKey};
pub(super) use output::by_number;

pub use effects::{LearnedRule, RuleEffects, Shortened};
use flow::drop::DropReason;
use flow::ofp::{Action, Field, Layer, MatchKey, PacketReason, format_actions};
use flow::program::{Op, PortId, Program, PuntReason};
use flow::stats::PacketStats;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use wire::addr::MacAddr;
use wire::key::{FRAG_ANY, FlowKey, FlowMask, TUN_IPV6};

/// Levels of `resubmit`, as in Open vSwitch.
const MAX_DEPTH: usize = 64;
/// All resubmits of one packet, as in Open vSwitch: rules that resubmit twice each double with every level.
const MAX_RESUBMITS: usize = 4096;
/// Ops of one program: more is an amplifier, not a switch.
const MAX_OPS: usize = 4096;

/// What [`Translator::rule`] is for actions that are no rule's, as in Open vSwitch.
const NO_RULE: (u8, u64) = (0, u64::MAX);

/// Every bit of the fields that only rules write.
static REGISTERS: LazyLock<MatchKey> = LazyLock::new(|| Field::mask_of(|info| info.layer == Layer::Register));
/// Every bit of the fields of a tunnel's header.
static TUNNEL: LazyLock<MatchKey> = LazyLock::new(|| Field::mask_of(|info| info.layer == Layer::Tunnel));

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

/// What a packet teaches: mostly one bridge learns, more where patches join them.
pub type Learns = SmallVec<[Learn; 1]>;

/// Something that a translation depends on besides rules, ports and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// The FDB entry, or the absence of one, for an address.
    Fdb(BridgeId, u16, MacAddr),
    /// A group, or the absence of one.
    Group(BridgeId, u32),
    /// The members of a multicast group in a VLAN.
    McastGroup(BridgeId, u16, IpAddr),
    /// The multicast routers of a VLAN.
    McastRouters(BridgeId, u16),
}

/// A table that a translation looked a packet up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableDep {
    /// Whose table.
    pub bridge: BridgeId,
    /// Its number.
    pub table: u8,
    /// The packet was as it came: then a rule can only concern it if it can match the megaflow's key.
    pub pristine: bool,
}

/// A tunnel's remote that actions have chosen and that no adjacency leads to yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelNextHop {
    /// The tunnel port.
    pub port: PortId,
    /// The remote VTEP.
    pub remote: IpAddr,
    /// Source address, where actions chose that too.
    pub local: Option<IpAddr>,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Translation {
    /// Bits of the key that mattered.
    pub mask: FlowMask,
    /// What to do with packets that agree on them.
    pub program: Program,
    /// What a packet of the flow teaches.
    pub learn: Learns,
    /// What each packet of the flow does to rules, if that is anything.
    pub effects: Option<Box<RuleEffects>>,
    /// Rules that matched, in order, and what is counted for in place of those that were not found.
    pub rules: Vec<Arc<Rule>>,
    /// Groups that the packet came to, and which of their buckets.
    pub groups: Vec<GroupUse>,
    /// Tables that were looked into.
    pub tables: SmallVec<[TableDep; 2]>,
    /// What else the result depends on.
    pub deps: Vec<Dependency>,
    /// Adjacencies that are missing. With any, the program lacks what would go there: resolve them, and translate again.
    pub missing: Vec<TunnelNextHop>,
}

impl Translation {
    /// Counts packets that no megaflow counts for the rules and groups that they meet.
    pub fn count(&self, new: PacketStats, now: Instant) {
        for rule in &self.rules {
            rule.count(new, now);
        }
        for group in &self.groups {
            group.count(new);
        }
    }
}

/// The packet as the actions have made it so far.
///
/// Every bit of `key` that is not in `set` is the packet's own bit of the same place.
#[derive(Clone)]
pub(super) struct PacketState {
    /// Its fields; `in_port` is the OpenFlow number in the bridge that it is in.
    pub key: MatchKey,
    /// Bits of `key` that are the same for every packet of the megaflow, because an action wrote them or because they
    /// follow from what the mask has.
    set: MatchKey,
    /// Bits of `key` that differ from the packet as ops have made it.
    dirty: MatchKey,
    /// Its VLAN tags.
    tags: Tags,
    /// Its VLAN tags as ops have made them.
    sent: Tags,
    /// Its outermost tag, where it leaves with another than its key says.
    leaving: Option<Tag>,
    /// Whether actions have changed a field that rules can match on.
    changed: bool,
    /// Whether the packet brought a `tun_id`, or an action set it.
    has_tun_id: bool,
    /// Which of `tun_dst` and `tun_src` actions set.
    has_tun_dst: bool,
    has_tun_src: bool,
    /// It came from a controller, by no port: none is left out where it is sent to all, and nothing is learned.
    pub(in crate::bridge) came_by_no_port: bool,
    /// What `write_actions` wrote: done at the end.
    action_set: Vec<Action>,
    /// What `push` put, the last on top.
    stack: Vec<u128>,
}

/// One translation under way.
pub struct Translator<'w> {
    pub(super) state: &'w SwitchState,
    pub(super) at: PacketState,
    /// Datapath number of the input port of the bridge that the packet is in.
    pub(super) in_port: PortId,
    /// Table and cookie of the rule whose actions run.
    rule: (u8, u64),
    /// What a packet for controllers comes for, unless its action says otherwise.
    sent_as: PacketReason,
    /// That rule, if the actions are a rule's.
    acting: Option<Arc<Rule>>,
    /// Bits of the packet that were looked at.
    wc: MatchKey,
    ops: Vec<Op>,
    /// Ops that change the packet among `ops`.
    edits: usize,
    /// All ops so far, nested ones too.
    emitted: usize,
    /// Whether the packet goes anywhere but to mirrors and captures.
    pub(super) delivered: bool,
    /// Why there is nothing to do, if there turns out to be nothing.
    pub(super) drop: DropReason,
    pub(super) learn: Learns,
    effects: Option<Box<RuleEffects>>,
    rules: Vec<Arc<Rule>>,
    groups: Vec<GroupUse>,
    tables: SmallVec<[TableDep; 2]>,
    pub(super) deps: Vec<Dependency>,
    missing: Vec<TunnelNextHop>,
    /// Mirrors that have their copy: each takes a packet once.
    mirrored: Vec<(BridgeId, usize)>,
    depth: usize,
    resubmits: usize,
    /// `exit`: no action more, but for what comes behind the group, the clone or the patch that it was in.
    exited: bool,
    /// A limit was passed: the packet is dropped, and nothing more is looked at.
    aborted: bool,
    trace: Option<Vec<String>>,
}

/// Translates a packet with this key, whose `in_port` is a datapath port number.
pub fn translate(state: &SwitchState, key: &FlowKey) -> Translation {
    let mut translator = Translator::new(state, key);
    if state.restoring {
        translator.drop = DropReason::FlowRestoreWait;
    } else {
        translator.start();
    }
    translator.result()
}

/// Translates a packet that shall seem to have come in by a port, and goes by these actions instead of its rules. With `no_port`
/// it has come by no port of the bridge, and rules see this number: CONTROLLER's, NONE's, or that of a port which is not there.
pub fn translate_actions(
    state: &SwitchState,
    key: &FlowKey,
    no_port: Option<u32>,
    actions: &[Action],
) -> Translation {
    let mut translator = Translator::new(state, key);
    translator.start_by_actions(no_port, actions);
    translator.result()
}

/// Translates a packet of the switch's own that leaves by a port whatever the rules say: in a tunnel with key 0 where none is
/// fixed, and with the OAM bit if asked for.
pub fn translate_output(state: &SwitchState, key: &FlowKey, to: PortId, oam: bool) -> Translation {
    let mut translator = Translator::new(state, key);
    translator.no_tunnel();
    translator.at.has_tun_id = true;
    if oam {
        translator.at.key.flow.tun_flags |= wire::key::TUN_OAM;
    }
    translator.output((to, None));
    translator.result()
}

/// What the slow path sends on that it was given instead of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Further {
    /// A question for a host, to those ports only that it was kept from.
    Question,
    /// A message of IGMP or MLD.
    Membership {
        /// It is a host's report.
        is_report: bool,
    },
}

/// Translates a packet that came into a bridge by a port in a VLAN, and that the slow path sends on.
pub fn translate_further(
    state: &SwitchState,
    key: &FlowKey,
    (at, vlan): (PortId, u16),
    further: Further,
) -> Translation {
    let mut translator = Translator::new(state, key);
    if let Some(port) = state.port(at)
        && let Some(bridge) = state.bridge(port.bridge)
    {
        translator.at.has_tun_id = port.is_tunnel();
        if !port.is_tunnel() {
            translator.no_tunnel();
        }
        translator.in_port = at;
        translator.at.key.flow.in_port = port.ofport;
        translator.drop = DropReason::NoFloodPort;
        match further {
            Further::Question => translator.flood_further(bridge, port, vlan),
            Further::Membership { is_report } => {
                translator.membership_further(bridge, port, vlan, is_report);
            }
        }
    }
    translator.result()
}

/// A translation with an account of every step.
#[derive(Debug, Clone)]
pub struct Traced {
    /// The result.
    pub translation: Translation,
    /// The steps, indented by their depth.
    pub steps: Vec<String>,
    /// The packet's fields after the last action of its first bridge.
    pub last: MatchKey,
}

/// The same with an account of every step. With `reserved` the packet has come by no port of the bridge, and with `actions`
/// it goes by these instead of its rules, as in [`translate_actions`].
pub fn trace(
    state: &SwitchState,
    key: &FlowKey,
    reserved: Option<u32>,
    actions: Option<&[Action]>,
) -> Traced {
    let mut translator = Translator::new(state, key);
    translator.trace = Some(Vec::new());
    match (actions, reserved) {
        (Some(actions), _) => translator.start_by_actions(reserved, actions),
        (None, Some(number)) => translator.start_without_port(number),
        (None, None) => translator.start(),
    }
    let steps = translator.trace.take().unwrap_or_default();
    let last = translator.at.key;
    Traced { translation: translator.result(), steps, last }
}

impl<'w> Translator<'w> {
    fn new(state: &'w SwitchState, key: &FlowKey) -> Translator<'w> {
        let mut wc = MatchKey::ZERO;
        wc.flow.in_port = u32::MAX;
        let mut set = *REGISTERS;
        set.flow.in_port = u32::MAX;
        Translator {
            state,
            at: PacketState {
                key: MatchKey { flow: *key, ..MatchKey::ZERO },
                set,
                dirty: MatchKey::ZERO,
                tags: Tags::default(),
                sent: Tags::default(),
                leaving: None,
                changed: false,
                has_tun_id: false,
                has_tun_dst: false,
                has_tun_src: false,
                came_by_no_port: false,
                action_set: Vec::new(),
                stack: Vec::new(),
            },
            in_port: PortId(key.in_port as u16),
            rule: NO_RULE,
            sent_as: PacketReason::Action,
            acting: None,
            wc,
            ops: Vec::new(),
            edits: 0,
            emitted: 0,
            delivered: false,
            drop: DropReason::Rule,
            learn: Learns::new(),
            effects: None,
            rules: Vec::new(),
            groups: Vec::new(),
            tables: SmallVec::new(),
            deps: Vec::new(),
            missing: Vec::new(),
            mirrored: Vec::new(),
            depth: 0,
            resubmits: 0,
            exited: false,
            aborted: false,
            trace: None,
        }
    }

    fn result(mut self) -> Translation {
        if self.aborted {
            self.ops.clear();
            self.effects = None;
            self.drop = DropReason::RecursionLimit;
            self.delivered = false;
        }
        // Mirrored, captured or metered, but going nowhere: it is a drop all the same.
        if !self.delivered && (!self.ops.is_empty() || self.state.observed.drops) {
            self.ops.push(Op::Drop(self.drop));
        }
        // Behind the last op nobody needs the packet as it was.
        while let Some(Op::Clone(_)) = self.ops.last() {
            let Some(Op::Clone(inner)) = self.ops.pop() else { break };
            self.ops.extend(inner);
        }
        Translation {
            mask: self.wc.flow,
            program: Program { ops: self.ops.into(), drop: self.drop },
            learn: self.learn,
            effects: self.effects,
            rules: self.rules,
            groups: self.groups,
            tables: self.tables,
            deps: self.deps,
            missing: self.missing,
        }
    }

    fn start(&mut self) {
        if self.in_port == PortId::TUNNEL_MISS {
            // What is unknown stands in the megaflow, for people.
            if !self.state.merge_unknown_tunnels {
                let outer = FlowMask { tun_id: u32::MAX, tun_flags: TUN_IPV6, ..FlowMask::ZERO };
                self.look_flow(&if self.at.key.flow.tun_flags & TUN_IPV6 != 0 {
                    FlowMask { tun_ipv6_src: [0xff; 16], tun_ipv6_dst: [0xff; 16], ..outer }
                } else {
                    FlowMask { tun_src: u32::MAX.into(), tun_dst: u32::MAX.into(), ..outer }
                });
            }
            let vni = self.at.key.flow.tun_id;
            self.note(|| format!("no tunnel port takes VNI or key {vni} from this remote"));
            let has_key = |port: &Port| matches!(&port.kind, PortKind::Tunnel(t) if t.options.in_key == TunnelKey::Vni(vni));
            // One megaflow for all has not looked at the key.
            let is_ours =
                !self.state.merge_unknown_tunnels && self.state.ports().any(|(_, port)| has_key(port));
            self.drop = if is_ours { DropReason::TunnelRemoteUnknown } else { DropReason::TunnelUnknown };
            return;
        }
        let state = self.state;
        let Some((port, bridge)) =
            state.port(self.in_port).and_then(|port| Some((port, state.bridge(port.bridge)?)))
        else {
            self.drop = DropReason::NotInBridge;
            return;
        };
        // By the port, which is in every mask, and not by the packet's own flag: a megaflow is translated
        // again from its masked key.
        self.at.has_tun_id = port.is_tunnel();
        if !port.is_tunnel() {
            self.no_tunnel();
        }
        self.enter(bridge, port);
    }

    /// For a packet that goes by actions.
    fn start_by_actions(&mut self, no_port: Option<u32>, actions: &[Action]) {
        let state = self.state;
        if let Some(port) = state.port(self.in_port)
            && let Some(bridge) = state.bridge(port.bridge)
        {
            self.no_tunnel();
            self.at.key.flow.in_port = no_port.unwrap_or(port.ofport);
            self.at.came_by_no_port = no_port.is_some();
            self.sent_as = PacketReason::PacketOut;
            self.note(|| format!("bridge(\"{}\")", bridge.name));
            self.actions(bridge, port, actions);
        }
    }

    /// For a packet that has come by no port: rules see this number.
    fn start_without_port(&mut self, number: u32) {
        let state = self.state;
        if let Some(port) = state.port(self.in_port)
            && let Some(bridge) = state.bridge(port.bridge)
        {
            self.no_tunnel();
            self.at.key.flow.in_port = number;
            self.at.came_by_no_port = true;
            self.note(|| format!("bridge(\"{}\")", bridge.name));
            self.table(bridge, port, 0);
            self.finish_action_set(bridge, port);
        }
    }

    /// What a packet that came out of no tunnel has in its tunnel fields is nothing, whatever the packet.
    fn no_tunnel(&mut self) {
        for (word, tunnel) in self.at.key.words_mut().iter_mut().zip(TUNNEL.words()) {
            *word &= !tunnel;
        }
        self.at.set.or(&TUNNEL);
    }

    /// Whether the packet came by a port.
    pub(in crate::bridge) fn came_by(&self, port: PortId) -> bool {
        self.in_port == port && !self.at.came_by_no_port
    }

    /// Whether actions have chosen what the tunnel header of the packet will say.
    pub(super) fn chose_tunnel(&self) -> bool {
        let came_by_tunnel = self.state.port(self.in_port).is_some_and(Port::is_tunnel);
        self.at.has_tun_id && !came_by_tunnel || self.at.has_tun_dst || self.at.has_tun_src
    }

    /// The packet enters a bridge by a port of it.
    fn enter(&mut self, bridge: &'w Bridge, port: &'w Port) {
        self.at.key.flow.in_port = port.ofport;
        self.note(|| format!("bridge(\"{}\")", bridge.name));
        if port.config.has(PortConfig::DOWN | PortConfig::NO_RECEIVE) {
            self.note(|| format!("port {} is set down, or not to receive", port.name));
            self.drop = DropReason::PortDown;
            return;
        }
        if self.state.observed.receives(self.in_port, port) {
            self.push(Op::Punt(PuntReason::CaptureRx(self.in_port)));
        }
        if let Some(bfd) = &port.bfd
            && self.is_bfd(bfd)
        {
            self.note(|| "a BFD control packet: for the port's session".into());
            self.push(Op::Punt(PuntReason::Bfd(self.in_port)));
            self.delivered = true;
            return;
        }
        if let PortKind::Tunnel(tunnel) = &port.kind {
            self.clamp_received(port, tunnel);
        }
        if let PortKind::Tunnel(tunnel) = &port.kind
            && let Some(map) = &tunnel.options.vlan_vni
            && !self.tag_by_vni(port, map)
        {
            return;
        }
        self.mirror_ingress(bridge, port);
        self.table(bridge, port, 0);
        self.finish_action_set(bridge, port);
    }

    /// Records a step, when somebody wants to know. The text is made only then.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let depth = self.depth;
        if let Some(lines) = &mut self.trace {
            lines.push(format!("{:indent$}{}", "", text(), indent = depth * 4));
        }
    }

    /// Appends an op.
    pub(super) fn push(&mut self, op: Op) {
        self.emitted += 1;
        self.ops.push(op);
    }

    /// Records that the translation depends on bits of the packet: those of them that are still its own.
    pub(super) fn look(&mut self, bits: &MatchKey) {
        let own = bits.words().iter().zip(self.at.set.words());
        for (wc, (bits, set)) in self.wc.words_mut().iter_mut().zip(own) {
            *wc |= bits & !set;
        }
    }

    /// [`Translator::look`] at bits of the flow key.
    pub(super) fn look_flow(&mut self, bits: &FlowMask) {
        self.look(&MatchKey { flow: *bits, ..MatchKey::ZERO });
    }

    /// The packet's outermost tag as it is now, all of it looked at but the priority.
    pub(super) fn tag(&mut self) -> Tag {
        self.look_flow(&FlowMask { vlan_tci: (wire::key::VLAN_PRESENT | 0xfff).into(), ..FlowMask::ZERO });
        tag_of(self.at.key.flow.vlan_tci.get())
    }

    /// Does something to the packet that what comes afterwards does not see: changes that were made to it
    /// are made to a copy.
    fn nested(&mut self, work: impl FnOnce(&mut Self)) {
        let before = self.at.clone();
        let (in_port, exited) = (self.in_port, self.exited);
        let ops = std::mem::take(&mut self.ops);
        let edits = std::mem::take(&mut self.edits);
        work(self);
        self.exited = exited;
        let inner = std::mem::replace(&mut self.ops, ops);
        if self.edits > 0 {
            self.ops.push(Op::Clone(inner.into()));
        } else {
            self.ops.extend(inner);
        }
        (self.at, self.in_port, self.edits) = (before, in_port, edits);
    }

    /// Looks the packet up in a table and runs the actions of the rule that matches, or does what is done without one.
    fn table(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        let key = self.at.key;
        if !self.table_as(bridge, port, table, &key) {
            self.no_match(bridge, port, table);
        }
    }

    /// The same with a key that differs from the packet's in the input port alone; whether there was a rule.
    fn table_as(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8, key: &MatchKey) -> bool {
        let pristine = !self.at.changed && key.flow.in_port == port.ofport;
        let dep = TableDep { bridge: port.bridge, table, pristine };
        if !self.tables.contains(&dep) {
            self.tables.push(dep);
        }
        // Rules see no ports in any fragment, as only the first has them (`ovs-ofctl set-frags`, mode `normal`).
        let mut key = *key;
        let is_fragment = key.flow.nw_frag & FRAG_ANY != 0;
        if is_fragment {
            (key.flow.tp_src, key.flow.tp_dst) = (0.into(), 0.into());
        }
        let mut wc = MatchKey::ZERO;
        let found = bridge.tables.lookup(table, &key, &mut wc);
        if wc.flow.tp_src.get() | wc.flow.tp_dst.get() != 0 {
            wc.flow.nw_frag |= FRAG_ANY;
            if is_fragment {
                (wc.flow.tp_src, wc.flow.tp_dst) = (0.into(), 0.into());
            }
        }
        self.look(&wc);
        let Some(found) = found else {
            self.rules.push(bridge.tables.miss_rule(table));
            return false;
        };
        let ports = BridgePorts { state: self.state, bridge: port.bridge };
        for part in &found.parts {
            self.note(|| format!("{table:2}. met: {}", part.describe(&ports)));
        }
        let rule = Arc::clone(found.rule);
        self.note(|| format!("{table:2}. {}", rule.describe(&ports)));
        self.rules.push(Arc::clone(&rule));
        self.depth += 1;
        let outer = std::mem::replace(&mut self.rule, (rule.spec.table, rule.spec.cookie));
        let outer_rule = self.acting.replace(Arc::clone(&rule));
        self.actions(bridge, port, &rule.spec.actions);
        (self.rule, self.acting) = (outer, outer_rule);
        self.depth -= 1;
        true
    }

    /// No rule of a table matches that the packet was sent into as a whole.
    fn no_match(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        if bridge.fail_mode == FailMode::Standalone && table == 0 {
            self.note(|| " 0. no match, fail_mode=standalone: NORMAL".into());
            self.normal(bridge, port);
        } else if self.state.observed.misses.contains(&port.bridge)
            && !port.config.has(PortConfig::NO_PACKET_IN)
        {
            self.note(|| format!("{table:2}. no match: to controllers that speak OpenFlow 1.0"));
            self.tell_no_match(table);
        } else {
            self.no_rule(table);
        }
    }

    fn no_rule(&mut self, table: u8) {
        self.note(|| format!("{table:2}. no match: drop"));
        self.drop = DropReason::NoMatch;
    }

    fn actions(&mut self, bridge: &'w Bridge, port: &'w Port, actions: &[Action]) {
        for (at, action) in actions.iter().enumerate() {
            if self.emitted > MAX_OPS {
                self.abort(|| format!("more than {MAX_OPS} datapath actions"));
            }
            if self.aborted || self.exited {
                return;
            }
            self.note(|| {
                format_actions(
                    std::slice::from_ref(action),
                    &BridgePorts { state: self.state, bridge: port.bridge },
                )
            });
            match action {
                Action::Output(to) => self.output_ref(bridge, port, *to),
                Action::OutputField(from) => self.output_field(bridge, port, *from),
                Action::OutputTruncated { port: to, max_len } => {
                    self.output_truncated(bridge, *to, *max_len);
                }
                // By the only queue that there is without QoS.
                Action::Enqueue { port: to, .. } => self.output_to(bridge, *to),
                Action::Drop => self.drop = DropReason::Rule,
                Action::SetTunnel(vni) => {
                    self.set_field(Field::TunId, u128::from(*vni), Field::TunId.info().exact());
                }
                // A packet-out to TABLE.
                Action::Resubmit { port: None, table: Some(0) }
                    if self.depth == 0 && self.sent_as == PacketReason::PacketOut =>
                {
                    self.goto(bridge, port, 0);
                }
                Action::Resubmit { port: as_port, table } => {
                    self.resubmit(bridge, port, *as_port, table.unwrap_or(0));
                }
                Action::GotoTable(table) => self.goto(bridge, port, *table),
                Action::SetField { field, value, mask } => self.set_field(*field, *value, *mask),
                Action::Load { value, to } => self.load(u128::from(*value), *to),
                Action::Move { from, to } => {
                    let value = self.read(*from);
                    self.load(value, *to);
                }
                Action::PushVlan(tpid) => self.push_vlan(*tpid),
                Action::PopVlan => self.pop_vlan(),
                Action::ModVlanVid(vid) => self.mod_vlan(*vid, 0xfff),
                Action::ModVlanPcp(pcp) => self.mod_vlan(u16::from(*pcp) << 13, 0xe000),
                Action::Controller(to) => self.send_to_controllers(to),
                Action::DecTtl | Action::DecTtlTo(_) => {
                    if !self.dec_ttl() {
                        self.tell_ttl_exceeded(port.bridge, action);
                        self.at.action_set.clear();
                        // The rest of this rule's actions do not see the packet any more.
                        return;
                    }
                }
                Action::Group(id) => self.group(bridge, port, *id),
                Action::Meter(id) => {
                    if let Some(meter) = bridge.meters.get(id) {
                        self.push(Op::Meter(meter.id));
                    }
                }
                Action::WriteActions(more) => self.at.action_set.extend(more.iter().cloned()),
                Action::ClearActions => self.at.action_set.clear(),
                Action::Push(bits) => self.push_bits(*bits),
                Action::Pop(bits) => {
                    if let Some(value) = self.at.stack.pop() {
                        self.load(value, *bits);
                    }
                }
                Action::Exit => self.exited = true,
                // Queues are the QoS's, of which there is none; a rule with a part of a conjunction is never the one for a packet.
                Action::Note(_) | Action::Conjunction(_) | Action::SetQueue(_) | Action::PopQueue => {}
                Action::Multipath(multipath) => self.multipath(multipath),
                Action::Bundle(bundle) => self.bundle(bridge, bundle),
                Action::Learn(learn) => self.learn_rule(bridge, port.bridge, learn),
                Action::FinTimeout { idle, hard } => self.fin_timeout(port.bridge, *idle, *hard),
                Action::CheckPktLarger { length, to } => {
                    return self.check_length(bridge, port, (*length, *to), &actions[at + 1..]);
                }
                Action::Clone(inner) => self.nested(|t| {
                    t.depth += 1;
                    t.actions(bridge, port, inner);
                    t.depth -= 1;
                }),
            }
        }
    }

    /// Looks up again, as if the packet had come from `as_port`: its actions see where it really came from.
    fn resubmit(&mut self, bridge: &'w Bridge, port: &'w Port, as_port: Option<u32>, table: u8) {
        if !self.goes_deeper() {
            return;
        }
        let mut key = self.at.key;
        if let Some(number) = as_port {
            key.flow.in_port = number;
        }
        if self.table_as(bridge, port, table, &key) {
            return;
        }
        // As in Open vSwitch a packet that `resubmit` finds no rule for is not one that controllers hear of.
        if table == 0 && bridge.fail_mode == FailMode::Standalone {
            self.no_match(bridge, port, table);
        } else {
            self.no_rule(table);
        }
    }

    /// Sends the packet into a table as a whole.
    fn goto(&mut self, bridge: &'w Bridge, port: &'w Port, table: u8) {
        if self.goes_deeper() {
            self.table(bridge, port, table);
        }
    }

    /// Whether a lookup more may follow from the one that the packet is in.
    fn goes_deeper(&mut self) -> bool {
        self.resubmits += 1;
        let may = self.depth < MAX_DEPTH && self.resubmits <= MAX_RESUBMITS;
        if !may {
            self.abort(|| format!("resubmitted over {MAX_DEPTH} deep or {MAX_RESUBMITS} times"));
        }
        may
    }

    /// Ends the translation: the packet goes nowhere.
    fn abort(&mut self, why: impl FnOnce() -> String) {
        self.note(why);
        self.aborted = true;
    }
}
