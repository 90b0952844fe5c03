//! The switch and the oracle side by side: every step is done to both.

mod packets;

use crate::frames::MACS;
use crate::plan::{Plan, Step, toml};
use crate::rings::{Net, Setup};
use crate::text;
use datapath::Worker;
use datapath::message::PortIo;
use flow::ofp::{Action as OfAction, Bucket, FlowFilter, FlowSpec, GroupSpec, parse_flow};
use oracle::{Action, Entry, Group, GroupKind, Kind, Rule, World};
use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use vxswitch::bridge::BridgeId;
use vxswitch::bridge::fdb::Location;
use vxswitch::bridge::mirror::{Mirror, MirrorOutput};
use vxswitch::bridge::vlan::VlanConfig;
use vxswitch::slowpath::SlowPath;
use vxswitch::slowpath::ports::WorkerQueues;
use wire::addr::MacAddr;

/// More combinations of `select` buckets than this are not tried.
const MAX_TRIALS: usize = 512;

/// Outer fragments that were put together, of all cases.
pub static DIVIDED: AtomicUsize = AtomicUsize::new(0);

/// Both.
pub struct Rig<'p> {
    net: Net,
    world: World,
    plan: &'p Plan,
    sent: u32,
    /// Tunnel packets sent in fragments.
    datagrams: u16,
    /// The source port of each frame's tunnel packets.
    source_ports: HashMap<usize, [u8; 2]>,
    /// The bucket that each frame took in a group, by the group's generation.
    buckets: HashMap<(usize, usize, u32, u32), usize>,
    generation: u32,
    removed: Vec<(usize, oracle::Port, Vec<PortIo>)>,
    /// Frames compared.
    pub frames: usize,
}

/// Runs a case; the error says where the two differ.
pub fn run(plan: &Plan) -> Result<usize, String> {
    let mut early = plan.world.clone();
    for bridge in &mut early.bridges {
        bridge.ports.retain(|port| !matches!(port.kind, Kind::Patch(_)));
    }
    // Few masks an in-port, so that most are widened.
    let masks = 2 + plan.steps.len() % 7;
    let workers = 1 + plan.frames.len() % 3;
    let mut net = Net::with(&toml(&early, plan.mtu), &Setup { masks, workers, ..Setup::default() });
    for bridge in &plan.world.bridges {
        let id = net.slow.state.bridge_named(&bridge.name).expect("bridge");
        for port in &bridge.ports {
            if let Kind::Patch(peer) = &port.kind {
                net.slow.add_patch(id, &text::port(port), peer).expect("patch port");
            }
        }
    }
    net.slow.settle();
    net.run();
    let mut rig = Rig {
        net,
        world: plan.world.clone(),
        plan,
        sent: 0,
        datagrams: 0,
        source_ports: HashMap::new(),
        buckets: HashMap::new(),
        generation: 0,
        removed: Vec::new(),
        frames: 0,
    };
    for (n, step) in plan.steps.iter().enumerate() {
        rig.step(step).map_err(|what| format!("step {n}: {step}\n{what}"))?;
        rig.net.assert_balanced();
        for worker in &rig.net.slow.workers {
            assert!(
                (0..64).all(|port| worker.flows.masks_of(port) <= masks),
                "more than {masks} masks a port"
            );
        }
    }
    let frames = rig.frames;
    rig.net.finish();
    Ok(frames)
}

/// The rule without what the parser refuses, such as `set_field` of a field that its match does not promise.
pub fn legal(rule: &Rule) -> Rule {
    let mut out = Rule { actions: Vec::new(), ..rule.clone() };
    for action in &rule.actions {
        out.actions.push(action.clone());
        if parse_flow(&text::rule(&out), &()).is_err() {
            out.actions.pop();
        }
    }
    out
}

/// An action of a bucket, which has no match that could promise it anything.
pub fn bucket_action(action: &Action) -> Option<OfAction> {
    const PROMISES: [&str; 9] = [
        "",
        "tcp,",
        "udp,",
        "icmp,",
        "tcp6,",
        "udp6,",
        "icmp6,icmp_type=135,",
        "icmp6,icmp_type=136,",
        "arp,",
    ];
    PROMISES
        .iter()
        .flat_map(|promise| ["", "vlan_tci=0x1000/0x1000,"].map(|tag| format!("{tag}{promise}")))
        .find_map(|promise| parse_flow(&format!("{promise}actions={}", text::action(action)), &()).ok())
        .map(|spec| spec.actions[0].clone())
}

impl Rig<'_> {
    fn id(&self, bridge: usize) -> BridgeId {
        self.net.slow.state.bridge_named(&self.world.bridges[bridge].name).expect("bridge")
    }

    fn spec(rule: &Rule) -> Result<FlowSpec, String> {
        parse_flow(&text::rule(rule), &()).map_err(|e| format!("{}: {e}", text::rule(rule)))
    }

    /// Does something on the slow path that waits for the workers.
    fn with_workers<R>(&mut self, work: impl FnOnce(&mut SlowPath) -> R) -> R {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (workers, slow) = self.net.workers();
        let result = std::thread::scope(|scope| {
            let run = |worker: &mut Worker| worker.run(&stop, true);
            let running: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(move || run(worker))).collect();
            let result = work(slow);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            for thread in running {
                thread.join().expect("worker");
            }
            result
        });
        self.net.run();
        result
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send { port, frame, outer, times } => {
                let bytes: Vec<Vec<u8>> = (0..*times).map(|_| self.packet(*frame, *outer, false)).collect();
                return self.send(port, *frame, &bytes, &[]);
            }
            Step::Burst { port, packets, cuts } => return self.burst(port, packets, cuts),
            Step::AddRule { bridge, rule } => self.add_rule(*bridge, rule)?,
            Step::DeleteRule { bridge, nth } => {
                let rules = &mut self.world.bridges[*bridge].rules;
                if rules.is_empty() {
                    return Ok(());
                }
                let rule = rules.remove(nth % rules.len());
                let spec = Self::spec(&rule)?;
                let filter = FlowFilter {
                    table: Some(spec.table),
                    priority: Some(spec.priority),
                    matches: spec.matches,
                    ..FlowFilter::default()
                };
                let id = self.id(*bridge);
                let gone =
                    self.net.slow.state.bridge_mut(id).expect("bridge").tables.delete(&filter, true).len();
                if gone != 1 {
                    return Err(format!("{gone} rules deleted, not one"));
                }
                self.net.slow.rules_changed();
            }
            Step::ModifyRule { bridge, nth, actions } => {
                let rules = &self.world.bridges[*bridge].rules;
                if rules.is_empty() {
                    return Ok(());
                }
                let rule = rules[nth % rules.len()].clone();
                self.add_rule(*bridge, &legal(&Rule { actions: actions.clone(), ..rule }))?;
            }
            Step::ReplaceRules { bridge, rules } => {
                self.world.bridges[*bridge].rules.clear();
                for rule in rules {
                    let rule = self.unique(*bridge, rule);
                    insert(&mut self.world.bridges[*bridge].rules, rule);
                }
                let specs: Result<Vec<FlowSpec>, String> =
                    self.world.bridges[*bridge].rules.iter().map(Self::spec).collect();
                let id = self.id(*bridge);
                self.net.slow.replace_rules(id, &specs?);
                self.net.slow.settle();
            }
            Step::SetGroups { bridge, groups } => {
                self.world.bridges[*bridge].groups.clone_from(groups);
                self.generation += 1;
                let specs: Vec<GroupSpec> = groups.iter().map(group_spec).collect();
                let id = self.id(*bridge);
                self.net.slow.set_groups(id, &specs);
                self.net.slow.settle();
            }
            Step::SetMirrors { bridge, mirrors } => {
                // Ports that are away just now cannot be mirrored.
                let mut mirrors = mirrors.clone();
                let present = |name: &String| self.world.port(name).is_some();
                mirrors.retain(|mirror| mirror.output_port.as_ref().is_none_or(present));
                for mirror in &mut mirrors {
                    mirror.src.retain(present);
                    mirror.dst.retain(present);
                }
                self.world.bridges[*bridge].mirrors.clone_from(&mirrors);
                let ports = |names: &[String]| names.iter().map(|name| self.net.port(name)).collect();
                let mirrors = mirrors
                    .iter()
                    .map(|mirror| Mirror {
                        name: mirror.name.clone(),
                        all: mirror.all,
                        src: ports(&mirror.src),
                        dst: ports(&mirror.dst),
                        vlans: mirror.vlans.clone(),
                        output: match &mirror.output_port {
                            Some(port) => MirrorOutput::Port(self.net.port(port)),
                            None => MirrorOutput::Vlan(mirror.output_vlan.unwrap_or(0)),
                        },
                    })
                    .collect();
                let id = self.id(*bridge);
                self.net.slow.set_mirrors(id, mirrors);
                self.net.slow.settle();
            }
            _ => self.change(step)?,
        }
        self.net.run();
        Ok(())
    }

    fn change(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::FlushFdb { bridge } => {
                self.world.bridges[*bridge].fdb.retain(|_, entry| entry.fixed);
                let id = self.id(*bridge);
                self.with_workers(|slow| slow.fdb_flush(id));
            }
            Step::AddFdb { bridge, vlan, mac, port } => {
                let ports = &self.world.bridges[*bridge].ports;
                let port = ports[port % ports.len()].clone();
                let remote = match &port.kind {
                    Kind::Tunnel(tunnel) => tunnel.remotes.first().copied(),
                    _ => None,
                };
                let entry = Entry { port: port.name.clone(), remote, fixed: true };
                self.world.bridges[*bridge].fdb.insert((*vlan, MACS[*mac]), entry);
                let at = Location { port: self.net.port(&port.name), remote: remote.map(Into::into) };
                let (id, mac) = (self.id(*bridge), MacAddr(MACS[*mac]));
                self.with_workers(|slow| slow.fdb_add(id, *vlan, mac, at));
            }
            Step::DeleteFdb { bridge, vlan, mac } => {
                let was = self.world.bridges[*bridge].fdb.remove(&(*vlan, MACS[*mac])).is_some();
                let (id, mac) = (self.id(*bridge), MacAddr(MACS[*mac]));
                if self.with_workers(|slow| slow.fdb_delete(id, *vlan, mac)) != was {
                    return Err(format!("the FDB entry was there: {was}, says the oracle"));
                }
            }
            Step::SetVlan { bridge, port, vlan } => {
                let bridge = &mut self.world.bridges[*bridge];
                let at = port % bridge.ports.len();
                bridge.ports[at].vlan = vlan.clone();
                let name = bridge.ports[at].name.clone();
                bridge.forget(&name, false);
                let id = self.net.port(&name);
                let settings = VlanConfig::of(&text::port(&bridge.ports[at]));
                self.net.slow.set_vlan(id, settings);
                self.net.slow.settle();
            }
            Step::SetTunnel { port, tunnel } => self.set_tunnel(*port, tunnel),
            Step::SetAlive { bridge, port, alive } => {
                let ports = &mut self.world.bridges[*bridge].ports;
                let at = port % ports.len();
                ports[at].alive = *alive;
                self.generation += 1;
                let id = self.net.port(&ports[at].name);
                self.net.slow.set_alive(id, *alive);
                self.net.slow.settle();
            }
            Step::RemovePort { bridge, port } => self.remove_port(*bridge, *port),
            Step::RestorePorts => self.restore_ports(),
            _ => {}
        }
        Ok(())
    }

    /// Rules of one priority that overlap are nobody's business: each has a priority of its own in its table.
    fn unique(&self, bridge: usize, rule: &Rule) -> Rule {
        let mut rule = legal(rule);
        let rules = &self.world.bridges[bridge].rules;
        let taken = |rule: &Rule| {
            rules.iter().any(|other| {
                (other.table, other.priority) == (rule.table, rule.priority) && other.matches != rule.matches
            })
        };
        while taken(&rule) {
            rule.priority += 1;
        }
        rule
    }

    fn add_rule(&mut self, bridge: usize, rule: &Rule) -> Result<(), String> {
        let rule = self.unique(bridge, rule);
        let spec = Self::spec(&rule)?;
        insert(&mut self.world.bridges[bridge].rules, rule);
        let id = self.id(bridge);
        self.net.slow.state.bridge_mut(id).expect("bridge").tables.add(spec, Instant::now());
        self.net.slow.rules_changed();
        Ok(())
    }

    fn set_tunnel(&mut self, nth: usize, tunnel: &oracle::tunnel::Tunnel) {
        let tunnels: Vec<(usize, usize)> = self
            .world
            .bridges
            .iter()
            .enumerate()
            .flat_map(|(at, bridge)| {
                let is_tunnel = |port: &oracle::Port| matches!(port.kind, Kind::Tunnel(_));
                (0..bridge.ports.len()).filter(move |n| is_tunnel(&bridge.ports[*n])).map(move |n| (at, n))
            })
            .collect();
        let Some(&(bridge, at)) = tunnels.get(nth % tunnels.len().max(1)) else { return };
        let clashes = tunnels.iter().any(|&(b, n)| {
            let Kind::Tunnel(other) = &self.world.bridges[b].ports[n].kind else { return false };
            (b, n) != (bridge, at) && clash(other, tunnel)
        });
        if clashes {
            return;
        }
        let port = &mut self.world.bridges[bridge].ports[at];
        port.kind = Kind::Tunnel(tunnel.clone());
        let port = port.clone();
        self.world.bridges[bridge].forget(&port.name, true);
        let (id, old) = (self.id(bridge), self.net.port(&port.name));
        let document = text::port(&port);
        let options = config::TunnelOptions::of(&document).expect("a tunnel port").expect("options");
        self.with_workers(|slow| {
            slow.remove_tunnel(old);
            slow.add_tunnel(id, &document, options).expect("tunnel port");
            slow.commit();
        });
    }

    fn remove_port(&mut self, bridge: usize, nth: usize) {
        let devices: Vec<usize> = (0..self.world.bridges[bridge].ports.len())
            .filter(|n| self.world.bridges[bridge].ports[*n].kind == Kind::Device)
            .collect();
        if devices.len() < 2 {
            return;
        }
        let at = devices[nth % devices.len()];
        let name = self.world.bridges[bridge].ports[at].name.clone();
        let mirrors = &self.world.bridges[bridge].mirrors;
        // Whoever removes a port tells its mirrors.
        let mirrored = |m: &oracle::Mirror| {
            m.src.contains(&name) || m.dst.contains(&name) || m.output_port.as_ref() == Some(&name)
        };
        if mirrors.iter().any(mirrored) {
            return;
        }
        let port = self.world.bridges[bridge].ports.remove(at);
        self.world.bridges[bridge].forget(&name, true);
        self.generation += 1;
        let id = self.net.port(&name);
        let io = self.with_workers(|slow| {
            let io = slow.remove_device(id);
            slow.commit();
            io
        });
        self.removed.push((bridge, port, io.into_iter().map(|io| *io).collect()));
    }

    fn restore_ports(&mut self) {
        for (bridge, port, io) in std::mem::take(&mut self.removed) {
            let id = self.id(bridge);
            let document = text::port(&port);
            let share =
                |io: PortIo| WorkerQueues { rx: io.rx, tx: io.tx.expect("its way"), mtu: 1500, gro: io.gro };
            let queues = io.into_iter().map(share).collect();
            self.with_workers(|slow| {
                slow.add_device(id, &document, queues).expect("device");
                slow.commit();
            });
            self.world.bridges[bridge].ports.push(oracle::Port { alive: true, ..port });
            self.world.bridges[bridge].ports.sort_by_key(|port| port.ofport);
            self.generation += 1;
        }
    }
}

/// Puts a rule in the place of the one with its match and priority, or behind the others.
fn insert(rules: &mut Vec<Rule>, rule: Rule) {
    let place = |other: &Rule| (other.table, other.priority) == (rule.table, rule.priority);
    match rules.iter().position(place) {
        Some(at) => rules[at] = rule,
        None => rules.push(rule),
    }
}

/// Whether nothing tells two tunnels apart.
pub fn clash(a: &oracle::tunnel::Tunnel, b: &oracle::tunnel::Tunnel) -> bool {
    let remote = match (a.remotes.is_empty(), b.remotes.is_empty()) {
        (true, true) => true,
        (false, false) => a.remotes.iter().any(|ip| b.remotes.contains(ip)),
        _ => false,
    };
    let address = |v: &oracle::tunnel::Tunnel| match v.local {
        oracle::tunnel::Local::Address(ip) => Some(ip),
        _ => None,
    };
    // The format is a property of the socket.
    let socket = a.dst_port == b.dst_port;
    socket && (a.kind != b.kind || a.in_key == b.in_key && remote && address(a) == address(b))
}

fn group_spec(group: &Group) -> GroupSpec {
    let kind = match group.kind {
        GroupKind::All => flow::ofp::GroupKind::All,
        GroupKind::Select => flow::ofp::GroupKind::Select,
        GroupKind::Indirect => flow::ofp::GroupKind::Indirect,
        GroupKind::FastFailover => flow::ofp::GroupKind::FastFailover,
    };
    let bucket = |(n, bucket): (usize, &oracle::Bucket)| Bucket {
        id: n as u32,
        weight: bucket.weight,
        watch_port: bucket.watch_port,
        watch_group: bucket.watch_group,
        actions: bucket.actions.iter().filter_map(bucket_action).collect(),
    };
    GroupSpec {
        id: group.id,
        kind,
        selection: None,
        buckets: group.buckets.iter().enumerate().map(bucket).collect(),
    }
}
