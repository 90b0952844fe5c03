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
    /// ([`DropReason::TunnelWays`](flow::drop::DropReason::TunnelWays)), and for any other port.
    pub fn want_way(&mut self, port: PortId, remote: IpAddr, local: Option<IpAddr>) -> Option<AdjacencyId> {
        let Some(Port { kind: PortKind::Vxlan(vxlan), .. }) = self.world.port(port) else { return None };
        if let Some(id) = vxlan.ways.get(&(remote, local)) {
            return Some(*id);
        }
        let by_rules = vxlan.options.remote_ip == RemoteIp::Flow || vxlan.options.local_ip == LocalIp::Flow;
        if !by_rules {
            return None;
        }
        let now = Instant::now();
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
            if now.saturating_duration_since(queued_at) < idle {
                return;
            }
            self.adjacencies.idle.pop_front();
            let in_use = self.programs.ways.users(id) > 0;
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
