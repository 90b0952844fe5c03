//! Ways that rules ask for: adjacencies of vxlan ports with `remote_ip=flow` or `local_ip=flow`, one for each
//! pair of addresses that `tun_dst` and `tun_src` are set to. They live as long as a program names them, and a
//! little longer.

use super::SlowPath;
use crate::bridge::{Port, PortKind};
use config::{LocalIp, RemoteIp};
use flow::program::{AdjacencyId, Op, PortId, Program};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Ways that there are at most. Packets choose among them where rules copy a field to `tun_dst`.
pub const MAX_WAYS: usize = 16_384;
/// A way that no program has named for so long is forgotten.
const IDLE: Duration = Duration::from_secs(10);
/// So long it stays even when there are too many: a program that names it may be on its way.
const IDLE_AT_LEAST: Duration = Duration::from_secs(1);
/// Ways looked at in one turn of the timers.
const WAYS_PER_TURN: usize = 512;

/// Since when no program has named a way.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Counts only while there are no users.
    since: Instant,
    /// Whether it is in the queue of those to be looked at.
    queued: bool,
}

/// How many programs name an adjacency.
#[derive(Debug, Default)]
pub struct WayUse {
    users: Vec<u32>,
    /// Adjacencies that have lost their last user.
    left: Vec<AdjacencyId>,
}

impl WayUse {
    /// Programs that name `id`; one that names it twice counts twice.
    pub fn users(&self, id: AdjacencyId) -> u32 {
        self.users.get(id.0 as usize).copied().unwrap_or(0)
    }

    /// A program has got its first user.
    pub fn hold(&mut self, program: &Program) {
        each_encap(&program.ops, &mut |id| {
            let at = id.0 as usize;
            if at >= self.users.len() {
                self.users.resize(at + 1, 0);
            }
            self.users[at] += 1;
        });
    }

    /// A program has lost its last user.
    pub fn release(&mut self, program: &Program) {
        each_encap(&program.ops, &mut |id| {
            if let Some(users) = self.users.get_mut(id.0 as usize) {
                *users -= 1;
                if *users == 0 {
                    self.left.push(id);
                }
            }
        });
    }
}

/// All encapsulations of a program, those on copies and in buckets too.
fn each_encap(ops: &[Op], call: &mut impl FnMut(AdjacencyId)) {
    for op in ops {
        match op {
            Op::Encap { adjacency, .. } => call(*adjacency),
            Op::Clone(ops) => each_encap(ops, call),
            Op::Select(select) => select.buckets.iter().for_each(|ops| each_encap(ops, call)),
            _ => {}
        }
    }
}

impl SlowPath {
    /// The way of a vxlan port with `remote_ip=flow` or `local_ip=flow` to the remote that rules have set, from the
    /// local address if they set that too; workers know it from here on. `None` when there are [`MAX_WAYS`]
    /// ([`DropReason::NoWay`](flow::drop::DropReason::NoWay)), and for any other port.
    pub fn want_way(&mut self, port: PortId, remote: IpAddr, local: Option<IpAddr>) -> Option<AdjacencyId> {
        self.want_way_at(port, remote, local, Instant::now())
    }

    fn want_way_at(
        &mut self,
        port: PortId,
        remote: IpAddr,
        local: Option<IpAddr>,
        now: Instant,
    ) -> Option<AdjacencyId> {
        let Some(Port { kind: PortKind::Vxlan(vxlan), .. }) = self.world.port(port) else { return None };
        if let Some(id) = vxlan.ways.get(&(remote, local)) {
            return Some(*id);
        }
        let by_rules = vxlan.options.remote_ip == RemoteIp::Flow || vxlan.options.local_ip == LocalIp::Flow;
        if !by_rules {
            return None;
        }
        if self.adjacencies.dynamic >= MAX_WAYS {
            self.collect_ways(now, IDLE_AT_LEAST, WAYS_PER_TURN);
            if self.adjacencies.dynamic >= MAX_WAYS {
                return None;
            }
        }
        let id = self.adjacencies.add(port, remote, local, &self.programs.ways)?;
        self.adjacencies.dynamic += 1;
        self.adjacencies.idle.push_back((id, now));
        if let Some(entry) = self.adjacencies.get_mut(id) {
            entry.idle = Some(Idle { since: now, queued: true });
        }
        if let Some(Port { kind: PortKind::Vxlan(vxlan), .. }) = self.world.port_mut(port) {
            vxlan.ways.insert((remote, local), id);
        }
        self.rebuild_adjacency(id);
        Some(id)
    }

    /// Forgets ways that no program has named for long.
    pub(super) fn expire_ways(&mut self, now: Instant) {
        self.collect_ways(now, IDLE, WAYS_PER_TURN);
    }

    /// Forgets ways without users for `idle`, the longest idle first; looks at `most` of them.
    fn collect_ways(&mut self, now: Instant, idle: Duration, most: usize) {
        for id in std::mem::take(&mut self.programs.ways.left) {
            // Gone already, a fixed remote, or in use again.
            let Some(Idle { since, queued }) = self.adjacencies.get_mut(id).and_then(|r| r.idle.as_mut())
            else {
                continue;
            };
            *since = now;
            if !*queued {
                *queued = true;
                self.adjacencies.idle.push_back((id, now));
            }
        }
        for _ in 0..most {
            let Some(&(id, queued_at)) = self.adjacencies.idle.front() else { return };
            let in_use = self.programs.ways.users(id) > 0;
            if !in_use && now.saturating_duration_since(queued_at) < idle {
                return;
            }
            self.adjacencies.idle.pop_front();
            let Some(entry) = self.adjacencies.get_mut(id).and_then(|r| r.idle.as_mut()) else { continue };
            if in_use {
                // Losing the last user brings it back.
                entry.queued = false;
            } else if entry.since > queued_at {
                let since = entry.since;
                self.adjacencies.idle.push_back((id, since));
            } else {
                self.drop_way(id);
            }
        }
    }

    fn drop_way(&mut self, id: AdjacencyId) {
        if let Some(remote) = self.adjacencies.get(id) {
            let (port, key) = (remote.port, (remote.ip, remote.local));
            if let Some(Port { kind: PortKind::Vxlan(vxlan), .. }) = self.world.port_mut(port) {
                vxlan.ways.remove(&key);
            }
        }
        self.drop_adjacency(id);
    }

    /// Ways that rules have asked for and that are still known.
    pub fn ways(&self) -> usize {
        self.adjacencies.dynamic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slowpath::SlowPathConfig;
    use config::VxlanOptions;
    use flow::drop::DropReason;
    use flow::program::{Policy, Select};
    use std::sync::Arc;
    use wire::addr::MacAddr;

    /// A slow path without workers, whose only vxlan port has these options.
    fn slow_path(options: &str) -> (SlowPath, PortId) {
        let toml = format!(
            "[[bridge]]\nname = \"br0\"\naddress = [\"10.0.0.1/8\"]\n[[bridge.port]]\nname = \"vx0\"\n\
             type = \"vxlan\"\noptions = {{ {options} }}\n"
        );
        let document = config::parse_str("test.toml", &toml, &config::accept_flows).expect("a document");
        let config = SlowPathConfig { max_idle: IDLE, programs: 1 << 16 };
        let mut slow = SlowPath::new(config, Vec::new(), Arc::default());
        let bridge = &document.bridges[0];
        let id = slow.add_bridge(bridge, MacAddr([2, 0, 0, 0, 0, 1])).expect("a bridge");
        let options = VxlanOptions::parse(&bridge.ports[0].options).expect("options");
        let port = slow.add_vxlan(id, &bridge.ports[0], options).expect("a port");
        slow.settle();
        (slow, port)
    }

    fn remote(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0100 + n).into())
    }

    fn program(ops: impl Into<Box<[Op]>>) -> Program {
        Program { ops: ops.into(), drop: DropReason::Rule }
    }

    fn encap(adjacency: AdjacencyId) -> Op {
        Op::Encap { adjacency, vni: 1, policy: Policy::default() }
    }

    #[test]
    fn a_way_lives_as_long_as_a_program_names_it_and_a_little_longer() {
        let (mut slow, port) = slow_path(r#"remote_ip = "flow", key = "flow""#);
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        let mut ids = [0u32; 4].map(|_| AdjacencyId(0));
        for (n, id) in ids.iter_mut().enumerate() {
            *id = slow.want_way_at(port, remote(n as u32), None, t0).expect("room");
            assert_eq!(slow.want_way_at(port, remote(n as u32), None, t0), Some(*id), "one way a remote");
        }
        let [plain, cloned, selected, unused] = ids;
        let buckets = [Box::from([encap(selected)]), Box::default()].into();
        let select = Op::Select(Box::new(Select { slots: [0; Select::SLOTS], buckets }));
        let all = program([encap(plain), Op::Clone([encap(cloned)].into()), select]);
        let (number, _) = slow.programs.acquire(&all).expect("room");
        slow.programs.acquire(&all).expect("room");
        slow.expire_ways(at(11));
        assert_eq!(slow.ways(), 3, "the one that no program names is gone");
        assert!(slow.adjacencies.get(unused).is_none());
        slow.programs.release(number);
        slow.expire_ways(at(60));
        assert_eq!(slow.ways(), 3, "a megaflow still has the program");
        slow.programs.release(number);
        slow.expire_ways(at(61));
        slow.expire_ways(at(70));
        assert_eq!(slow.ways(), 3, "not idle for long enough");
        // One is used again, and let go later.
        let again = program([encap(plain)]);
        let (number, _) = slow.programs.acquire(&again).expect("room");
        slow.expire_ways(at(71));
        assert_eq!(slow.ways(), 1);
        slow.programs.release(number);
        slow.expire_ways(at(72));
        slow.expire_ways(at(81));
        assert_eq!(slow.ways(), 1);
        slow.expire_ways(at(82));
        assert_eq!(slow.ways(), 0);
        let Some(PortKind::Vxlan(vxlan)) = slow.world.port(port).map(|p| &p.kind) else { panic!("no port") };
        assert!(vxlan.ways.is_empty());
    }

    #[test]
    fn a_flood_of_remotes_is_bounded_and_idle_ways_make_room() {
        let (mut slow, port) = slow_path(r#"remote_ip = "flow", key = "flow""#);
        let t0 = Instant::now();
        let want = |slow: &mut SlowPath, n: usize, now| slow.want_way_at(port, remote(n as u32), None, now);
        let mut numbers = Vec::new();
        for n in 0..MAX_WAYS {
            let id = want(&mut slow, n, t0).expect("room");
            numbers.push(slow.programs.acquire(&program([encap(id)])).expect("room").0);
        }
        let later = t0 + Duration::from_secs(5);
        assert_eq!(want(&mut slow, MAX_WAYS, later), None, "all are in use");
        slow.programs.release(numbers[77]);
        assert_eq!(want(&mut slow, MAX_WAYS, later), None, "somebody may be about to use it again");
        let even_later = later + IDLE_AT_LEAST;
        // In one turn not all ways in use are looked at; they need not be looked at twice.
        let found = (0..=MAX_WAYS / WAYS_PER_TURN).find_map(|_| want(&mut slow, MAX_WAYS, even_later));
        assert!(found.is_some());
        assert_eq!(slow.ways(), MAX_WAYS);
        assert_eq!(want(&mut slow, 77, even_later), None, "that one has gone");
    }

    #[test]
    fn a_number_that_a_program_names_is_nobody_elses() {
        let (mut slow, port) = slow_path(r#"remote_ip = "10.0.0.2,10.0.0.3", key = 1"#);
        assert_eq!(slow.want_way(port, remote(1), None), None, "a port with remotes of its own");
        let Some(PortKind::Vxlan(vxlan)) = slow.world.port(port).map(|p| &p.kind) else { panic!("no port") };
        let fixed: Vec<AdjacencyId> = vxlan.remotes.iter().map(|(_, id)| *id).collect();
        let (number, _) = slow.programs.acquire(&program([encap(fixed[0])])).expect("room");
        slow.expire_ways(Instant::now() + Duration::from_secs(100));
        assert!(slow.adjacencies.get(fixed[1]).is_some(), "fixed remotes are never collected");
        slow.forget_port(port);
        slow.settle();
        let uses = &slow.programs.ways;
        assert_eq!(slow.adjacencies.add(port, remote(1), None, uses), Some(fixed[1]));
        assert_eq!(slow.adjacencies.add(port, remote(2), None, uses), Some(AdjacencyId(2)));
        slow.programs.release(number);
        let uses = &slow.programs.ways;
        assert_eq!(slow.adjacencies.add(port, remote(3), None, uses), Some(fixed[0]));
    }

    #[test]
    fn local_addresses_that_rules_set_make_ways_of_their_own_and_go_with_their_port() {
        let (mut slow, port) = slow_path(r#"remote_ip = "10.0.0.2", local_ip = "flow", key = 1"#);
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        let one = slow.want_way(port, remote(1), Some(own));
        assert!(one.is_some());
        assert_ne!(one, slow.want_way(port, remote(1), None));
        assert_eq!(slow.ways(), 2);
        slow.forget_port(port);
        slow.settle();
        assert_eq!(slow.ways(), 0);
        slow.expire_ways(Instant::now() + Duration::from_secs(100));
    }
}
