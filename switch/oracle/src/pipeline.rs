//! Tables, actions, groups, outputs.

use crate::action::Action;
use crate::field::Field;
use crate::packet::Packet;
use crate::tunnel::{Arrival, Header, Local, Tunnel, encapsulate, terminate};
use crate::world::{Bridge, Bucket, GroupKind, Kind, Port, Vlan, World};
use std::net::Ipv4Addr;

/// OpenFlow number of LOCAL.
pub const LOCAL: u32 = 0xfffe;
/// Levels of tables, groups and patches.
const MAX_DEPTH: usize = 64;
/// Looks into tables, groups and patches of one packet.
const MAX_STEPS: usize = 4096;

/// A frame that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// By this port.
    pub port: String,
    /// The frame.
    pub bytes: Vec<u8>,
    /// A tunnel packet, of which the source port and perhaps the IP identification are the sender's to choose.
    pub header: Option<Header>,
    /// Of so many bytes at the end it is not defined which were changed: an action wrote to a malformed network header.
    /// Its Ethernet header and tags, all headers of a tunnel, and how many bytes there are, are defined.
    pub free: Option<usize>,
}

/// A bucket that a `select` group had to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Index of the bridge.
    pub bridge: usize,
    /// The group.
    pub group: u32,
    /// The buckets, by position, that may be chosen.
    pub buckets: Vec<usize>,
    /// Which of them was.
    pub taken: usize,
}

/// The choices of one packet, in order.
pub type Choices = Vec<Choice>;

/// A rule: index of the bridge, table, priority.
pub type RuleHit = (usize, u8, u16);

/// What came out.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// Frames, in the order in which they left.
    pub frames: Vec<Output>,
    /// A packet was sent to several ports at once, in no particular order.
    pub unordered: bool,
    /// What `select` groups chose.
    pub choices: Choices,
    /// The rules that the packet was given to, each as often as it was.
    pub rules: Vec<RuleHit>,
    /// How often a malformed header is seen at most: what no rule looks at need not be parsed.
    pub malformed: u64,
}

/// One packet under way.
pub(crate) struct Run<'w> {
    pub world: &'w mut World,
    pub out: Outputs,
    /// For each choice to come, which of its buckets to take.
    given: &'w [usize],
    /// Bridge and position of the mirrors that have had their copy.
    pub mirrored: Vec<(usize, usize)>,
    depth: usize,
    steps: usize,
    aborted: bool,
}

/// Where a packet is: index of the bridge, and the port that it entered it by (the bridge's own name for LOCAL).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub bridge: usize,
    pub port: String,
}

impl World {
    /// A frame comes in by a device. `given` says which bucket each `select` group takes, as an index into
    /// [`Choice::buckets`]; the first one where it says nothing.
    pub fn receive(&mut self, port: &str, frame: &[u8], given: &[usize]) -> Outputs {
        let Some((bridge, _)) = self.port(port) else { return Outputs::default() };
        let arrival = terminate(self, bridge, frame);
        let mut run = Run {
            world: self,
            out: Outputs::default(),
            given,
            mirrored: Vec::new(),
            depth: 0,
            steps: 0,
            aborted: false,
        };
        let (place, packet) = match arrival {
            Arrival::Dropped => {
                // What is in it may have been looked at before.
                run.out.malformed = 1;
                return run.out;
            }
            Arrival::Inner(place, packet) => (place, Some(*packet)),
            Arrival::Plain => (Place { bridge, port: port.to_owned() }, Packet::new(frame)),
        };
        run.out.malformed =
            packet.as_ref().is_none_or(|packet| packet.parsed.odd || packet.parsed.cut_tag).into();
        if let Some(mut packet) = packet {
            run.enter(&place, &mut packet);
        }
        if run.aborted {
            run.out.frames.clear();
        }
        run.out
    }
}

impl Run<'_> {
    pub fn bridge(&self, at: &Place) -> &Bridge {
        &self.world.bridges[at.bridge]
    }

    /// The port that the packet entered by; `None` for LOCAL.
    pub fn in_port(&self, at: &Place) -> Option<Port> {
        self.bridge(at).by_name(&at.port).cloned()
    }

    /// VLANs of that port.
    pub fn in_vlan(&self, at: &Place) -> Vlan {
        self.in_port(at).map(|port| port.vlan).unwrap_or_default()
    }

    pub fn enter(&mut self, at: &Place, packet: &mut Packet) {
        let number = self.in_port(at).map_or(LOCAL, |port| port.ofport);
        packet.parsed.fields.put(Field::InPort, number.into());
        if let Some(port) = self.in_port(at) {
            self.mirror(at.bridge, &port, packet, |mirror| {
                mirror.selects_all(&port.name) || mirror.src.contains(&port.name)
            });
        }
        self.table(at, 0, None, packet);
    }

    /// Goes one level down, unless that is too deep.
    fn descend(&mut self, work: impl FnOnce(&mut Self)) {
        self.steps += 1;
        if self.depth >= MAX_DEPTH || self.steps > MAX_STEPS {
            self.aborted = true;
        }
        if !self.aborted {
            self.depth += 1;
            work(self);
            self.depth -= 1;
        }
    }

    fn table(&mut self, at: &Place, table: u8, as_port: Option<u32>, packet: &mut Packet) {
        let mut seen = packet.parsed.fields.clone();
        if let Some(number) = as_port {
            seen.put(Field::InPort, number.into());
        }
        // Rules see no ports in any fragment (ovs-ofctl set-frags, mode normal).
        if seen.get(Field::IpFrag) != 0 {
            for field in [
                Field::TcpSrc,
                Field::TcpDst,
                Field::UdpSrc,
                Field::UdpDst,
                Field::SctpSrc,
                Field::SctpDst,
                Field::IcmpType,
                Field::IcmpCode,
                Field::Icmpv6Type,
                Field::Icmpv6Code,
            ] {
                seen.put(field, 0);
            }
        }
        let rules = &self.bridge(at).rules;
        let matching = rules.iter().filter(|rule| rule.table == table && seen.satisfy(&rule.matches));
        let best = matching.fold(None, |best: Option<&crate::world::Rule>, rule| match best {
            Some(best) if best.priority >= rule.priority => Some(best),
            _ => Some(rule),
        });
        let hit = best.map(|rule| ((at.bridge, table, rule.priority), rule.actions.clone()));
        match hit.map(|(rule, actions)| {
            self.out.rules.push(rule);
            actions
        }) {
            Some(actions) => self.descend(|run| run.actions(at, &actions, packet)),
            None if table == 0 && self.bridge(at).standalone => self.normal(at, packet),
            None => {}
        }
    }

    fn actions(&mut self, at: &Place, actions: &[Action], packet: &mut Packet) {
        for action in actions {
            if self.aborted {
                return;
            }
            match action {
                Action::Drop | Action::Local => {}
                Action::Output(number) => self.output_number(at, *number, packet),
                Action::OutputField(bits) => {
                    if let Some(number) = packet.read(*bits) {
                        self.output_any(at, number as u32, packet);
                    }
                }
                Action::InPort => self.output_in_port(at, packet),
                Action::Normal => self.normal(at, packet),
                Action::Flood | Action::All => self.all(at, packet),
                Action::Resubmit(port, table) => self.table(at, *table, *port, packet),
                Action::GotoTable(table) => self.table(at, *table, None, packet),
                Action::SetTunnel(vni) => packet.set(Field::TunId, u128::from(*vni), Field::TunId.ones()),
                Action::Set(field, value, mask) => packet.set(*field, *value, *mask),
                Action::SetTransport(source, port) => {
                    let fields = if *source {
                        [Field::TcpSrc, Field::UdpSrc, Field::SctpSrc]
                    } else {
                        [Field::TcpDst, Field::UdpDst, Field::SctpDst]
                    };
                    for field in fields {
                        packet.set(field, u128::from(*port), field.ones());
                    }
                }
                Action::Load(value, to) => packet.load(u128::from(*value), *to),
                Action::Move(from, to) => {
                    if let Some(value) = packet.read(*from) {
                        packet.load(value, *to);
                    }
                }
                Action::PushVlan(tpid) => packet.push_tag(*tpid, 0),
                Action::PopVlan => packet.pop_tag(),
                Action::ModVlanVid(vid) => packet.edit_or_push_tag(*vid, 0xfff),
                Action::ModVlanPcp(pcp) => packet.edit_or_push_tag(u16::from(*pcp) << 13, 0xe000),
                Action::DecTtl => {
                    if packet.parsed.fields.has(Field::NwTtl) {
                        let ttl = packet.get(Field::NwTtl);
                        if ttl <= 1 {
                            return;
                        }
                        packet.set(Field::NwTtl, ttl - 1, 0xff);
                    }
                }
                Action::Group(id) => self.descend(|run| run.group(at, *id, packet)),
                Action::Clone(inner) => self.actions(at, inner, &mut packet.clone()),
            }
        }
    }

    fn group(&mut self, at: &Place, id: u32, packet: &Packet) {
        let Some(group) = self.bridge(at).groups.iter().find(|group| group.id == id).cloned() else { return };
        let live: Vec<usize> =
            (0..group.buckets.len()).filter(|n| is_alive(self.bridge(at), &group.buckets[*n], 0)).collect();
        let chosen: Vec<usize> = match group.kind {
            GroupKind::All | GroupKind::Indirect => (0..group.buckets.len()).collect(),
            GroupKind::FastFailover => live.into_iter().take(1).collect(),
            GroupKind::Select => {
                let buckets: Vec<usize> = live.into_iter().filter(|n| group.buckets[*n].weight > 0).collect();
                let n = self.out.choices.len();
                let taken = buckets.get(self.given.get(n).copied().unwrap_or(0)).copied();
                if let Some(taken) = taken {
                    self.out.choices.push(Choice { bridge: at.bridge, group: id, buckets, taken });
                }
                taken.into_iter().collect()
            }
        };
        for n in chosen {
            self.actions(at, &group.buckets[n].actions, &mut packet.clone());
        }
    }

    fn output_any(&mut self, at: &Place, number: u32, packet: &mut Packet) {
        match number {
            0xfff8 => self.output_in_port(at, packet),
            0xfffa => self.normal(at, packet),
            0xfffb | 0xfffc => self.all(at, packet),
            _ => self.output_number(at, number, packet),
        }
    }

    fn output_number(&mut self, at: &Place, number: u32, packet: &Packet) {
        if u128::from(number) != packet.get(Field::InPort)
            && let Some(port) = self.bridge(at).by_number(number).cloned()
        {
            self.output(at.bridge, &port, None, packet);
        }
    }

    fn output_in_port(&mut self, at: &Place, packet: &Packet) {
        let number = packet.get(Field::InPort) as u32;
        if let Some(port) = self.bridge(at).by_number(number).cloned() {
            self.output(at.bridge, &port, None, packet);
        }
    }

    fn all(&mut self, at: &Place, packet: &Packet) {
        self.out.unordered = true;
        for port in self.bridge(at).ports.clone() {
            if u128::from(port.ofport) != packet.get(Field::InPort)
                && !self.bridge(at).is_mirror_output(&port.name)
            {
                self.output(at.bridge, &port, None, packet);
            }
        }
    }

    /// Sends the packet as it is by a port; by a tunnel with several remotes to `remote` alone, if that is known.
    pub fn output(&mut self, bridge: usize, port: &Port, remote: Option<Ipv4Addr>, packet: &Packet) {
        self.mirror(bridge, port, packet, |mirror| {
            mirror.selects_all(&port.name) || mirror.dst.contains(&port.name)
        });
        match &port.kind {
            Kind::Device if !port.alive => {}
            Kind::Device => {
                self.out.frames.push(Output {
                    port: port.name.clone(),
                    bytes: packet.bytes.clone(),
                    header: packet.header,
                    free: packet.free,
                });
            }
            Kind::Tunnel(tunnel) => self.send_by_tunnel(tunnel, remote, packet),
            Kind::Patch(peer) => {
                let there = self.world.port(peer);
                if let Some((bridge, there)) = there
                    && there.kind == Kind::Patch(port.name.clone())
                {
                    let place = Place { bridge, port: peer.clone() };
                    let mut packet = packet.clone();
                    packet.forget_metadata();
                    self.descend(|run| run.enter(&place, &mut packet));
                }
            }
        }
    }

    fn send_by_tunnel(&mut self, tunnel: &Tunnel, known: Option<Ipv4Addr>, packet: &Packet) {
        let vni = match tunnel.out_key {
            Some(vni) => vni,
            None if packet.has_vni => packet.get(Field::TunId) as u32,
            None => return,
        };
        let address =
            |field| Some(Ipv4Addr::from(packet.get(field) as u32)).filter(|ip| !ip.is_unspecified());
        let local = match tunnel.local {
            Local::Any => None,
            Local::Address(ip) => Some(ip),
            Local::Flow if packet.has_local => match address(Field::TunSrc) {
                Some(ip) => Some(ip),
                None => return,
            },
            Local::Flow => return,
        };
        let remotes: Vec<Ipv4Addr> = if !tunnel.remotes.is_empty() {
            tunnel.remotes.iter().copied().filter(|ip| known.is_none_or(|known| known == *ip)).collect()
        } else if known.is_some() {
            known.into_iter().collect()
        } else if packet.has_remote {
            address(Field::TunDst).into_iter().collect()
        } else {
            Vec::new()
        };
        let underlay = self.world.bridges.iter().position(|bridge| !bridge.addresses.is_empty());
        let Some(bridge) = underlay else { return };
        for remote in remotes {
            if let Some(mut outer) =
                encapsulate(&self.world.bridges[bridge], tunnel, packet, vni, local, remote)
            {
                let place = Place { bridge, port: self.world.bridges[bridge].name.clone() };
                self.enter(&place, &mut outer);
            }
        }
    }
}

/// Whether what a bucket watches is up.
fn is_alive(bridge: &Bridge, bucket: &Bucket, depth: usize) -> bool {
    let port = |number| bridge.by_number(number).is_some_and(|port| port.alive);
    let group = |id| {
        depth < MAX_DEPTH
            && bridge
                .groups
                .iter()
                .any(|group| group.id == id && group.buckets.iter().any(|b| is_alive(bridge, b, depth + 1)))
    };
    match (bucket.watch_port, bucket.watch_group) {
        (None, None) => true,
        (watched, watched_group) => watched.is_some_and(port) || watched_group.is_some_and(group),
    }
}
