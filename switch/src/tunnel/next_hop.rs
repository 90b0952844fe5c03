//! Next hops that rules ask for: adjacencies of tunnel ports with `remote_ip=flow` or `local_ip=flow`, one for each
//! pair of addresses that `tun_dst` and `tun_src` are set to. They live as long as a program names them, and a
//! little longer.

use super::{Tunnels, Underlay};
use flow::program::{AdjacencyId, Op, PortId, Program};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Adjacencies that rules have asked for at most. Packets choose among them where rules copy a field to `tun_dst`.
pub const MAX_DYNAMIC: usize = 16_384;
/// One that no program has named for so long is forgotten.
const IDLE: Duration = Duration::from_secs(10);
/// So long it stays even when there are too many: a program that names it may be on its way.
const IDLE_AT_LEAST: Duration = Duration::from_secs(1);
/// Adjacencies looked at in one turn of the timers.
const PER_TURN: usize = 512;

/// Since when no program has named an adjacency.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Counts only while there are no users.
    since: Instant,
    /// Whether it is in the queue of those to be looked at.
    queued: bool,
}

/// How many programs name an adjacency.
#[derive(Debug, Default)]
pub struct ProgramUse {
    users: Vec<u32>,
    /// Adjacencies that have lost their last user.
    left: Vec<AdjacencyId>,
}

impl ProgramUse {
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

/// All adjacencies that a program names, those on copies and in buckets too.
fn each_encap(ops: &[Op], call: &mut impl FnMut(AdjacencyId)) {
    for op in ops {
        match op {
            Op::Encap { adjacency, .. } | Op::ClampMss { adjacency, .. } => call(*adjacency),
            Op::Clone(ops) | Op::Truncate { ops, .. } | Op::PuntOr(_, ops) => each_encap(ops, call),
            op => op.branches().iter().for_each(|ops| each_encap(ops, call)),
        }
    }
}

impl<U: Underlay> Tunnels<U> {
    /// The adjacency of a tunnel port with `remote_ip=flow` or `local_ip=flow` to the remote that rules have set, from
    /// the local address if they set that too. `None` when there are [`MAX_DYNAMIC`]
    /// ([`DropReason::NoTunnelNextHop`](flow::drop::DropReason::NoTunnelNextHop)), and for any other port.
    pub fn resolve_next_hop(
        &mut self,
        underlay: &mut U,
        uses: &mut ProgramUse,
        (port, remote, local): (PortId, IpAddr, Option<IpAddr>),
        now: Instant,
    ) -> Option<AdjacencyId> {
        let tunnel = underlay.tunnel_port(port)?;
        if let Some(id) = tunnel.next_hops.get(&(remote, local)) {
            return Some(*id);
        }
        if !tunnel.has_next_hops() {
            return None;
        }
        if self.adjacencies.dynamic >= MAX_DYNAMIC {
            self.collect(underlay, uses, now, IDLE_AT_LEAST);
            if self.adjacencies.dynamic >= MAX_DYNAMIC {
                return None;
            }
        }
        let id = self.adjacencies.add(port, remote, local, uses)?;
        self.adjacencies.dynamic += 1;
        self.adjacencies.idle.push_back((id, now));
        if let Some(entry) = self.adjacencies.get_mut(id) {
            entry.idle = Some(Idle { since: now, queued: true });
        }
        if let Some(tunnel) = underlay.tunnel_port_mut(port) {
            tunnel.next_hops.insert((remote, local), id);
        }
        self.rebuild(underlay, id, now);
        Some(id)
    }

    /// Forgets adjacencies that rules have asked for and that no program has named for long.
    pub fn expire_next_hops(&mut self, underlay: &mut U, uses: &mut ProgramUse, now: Instant) {
        self.collect(underlay, uses, now, IDLE);
    }

    /// Forgets those without users for `idle`, the longest idle first; looks at a bounded number of them.
    fn collect(&mut self, underlay: &mut U, uses: &mut ProgramUse, now: Instant, idle: Duration) {
        for id in std::mem::take(&mut uses.left) {
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
        for _ in 0..PER_TURN {
            let Some(&(id, queued_at)) = self.adjacencies.idle.front() else { return };
            let in_use = uses.users(id) > 0;
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
                self.drop_next_hop(underlay, id);
            }
        }
    }

    fn drop_next_hop(&mut self, underlay: &mut U, id: AdjacencyId) {
        if let Some(remote) = self.adjacencies.get(id) {
            let key = (remote.ip, remote.local);
            if let Some(tunnel) = underlay.tunnel_port_mut(remote.port) {
                tunnel.next_hops.remove(&key);
            }
        }
        self.drop_adjacency(id);
    }

    /// Adjacencies that rules have asked for.
    pub fn dynamic(&self) -> usize {
        self.adjacencies.dynamic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::adjacency::ReachSpec;
    use crate::tunnel::port::TunnelPort;
    use crate::tunnel::{EgressDecision, Network};
    use config::TunnelOptions;
    use datapath::adjacency::Egress;
    use flow::drop::DropReason;
    use flow::program::{BridgeId, Select, TunnelMetadata};
    use ipnet::IpNet;
    use wire::addr::MacAddr;
    use wire::key::FlowKey;
    use wire::tunnel::encap::EncapAddrs;

    const BRIDGE: BridgeId = BridgeId(1);
    const PORT: PortId = PortId(9);

    /// One underlay bridge with one uplink, which sends by what it has learned of the destination, and a tunnel port.
    struct OneBridge {
        addresses: [IpNet; 1],
        tunnel: TunnelPort,
        mtu: u16,
    }

    impl Underlay for OneBridge {
        type Dep = MacAddr;
        type Counters = ();

        fn networks(&self) -> impl Iterator<Item = Network<'_>> {
            self.network(BRIDGE).into_iter()
        }

        fn network(&self, bridge: BridgeId) -> Option<Network<'_>> {
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            let network = Network { bridge, mac, local: PortId(1), addresses: &self.addresses, routes: &[] };
            (bridge == BRIDGE).then_some(network)
        }

        fn egress(&self, key: &FlowKey) -> EgressDecision<OneBridge> {
            let program = Program { ops: [Op::Output(PortId(2))].into(), drop: DropReason::Rule };
            EgressDecision {
                program,
                deps: vec![key.dl_dst],
                mask: FlowKey::ZERO,
                counters: (),
                affects_rules: false,
            }
        }

        fn egress_mtu(&self, _: &Egress) -> Option<u16> {
            Some(self.mtu)
        }

        fn bridge_of(&self, dev: &str) -> Option<BridgeId> {
            (dev == "br-phy").then_some(BRIDGE)
        }

        fn tunnel_port(&self, id: PortId) -> Option<&TunnelPort> {
            (id == PORT).then_some(&self.tunnel)
        }

        fn tunnel_port_mut(&mut self, id: PortId) -> Option<&mut TunnelPort> {
            (id == PORT).then_some(&mut self.tunnel)
        }
    }

    /// Tunnels over one bridge, and the programs that name them.
    struct Rig {
        underlay: OneBridge,
        tunnels: Tunnels<OneBridge>,
        uses: ProgramUse,
    }

    impl Rig {
        /// The port has these options.
        fn new(options: &[(&str, &str)]) -> Rig {
            let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let tunnel =
                TunnelPort::new(TunnelOptions::parse(&wire::tunnel::vxlan::TYPE, &options).expect("options"));
            let underlay = OneBridge { addresses: ["10.0.0.1/8".parse().unwrap()], tunnel, mtu: 1500 };
            let mut rig = Rig { underlay, tunnels: Tunnels::default(), uses: ProgramUse::default() };
            assert!(rig.tunnels.add_remotes(&mut rig.underlay, &rig.uses, PORT));
            rig
        }

        fn resolve(&mut self, n: usize, now: Instant) -> Option<AdjacencyId> {
            self.resolve_from(n, None, now)
        }

        fn resolve_from(&mut self, n: usize, local: Option<IpAddr>, now: Instant) -> Option<AdjacencyId> {
            let wanted = (PORT, remote(n), local);
            self.tunnels.resolve_next_hop(&mut self.underlay, &mut self.uses, wanted, now)
        }

        fn expire(&mut self, now: Instant) {
            self.tunnels.expire_next_hops(&mut self.underlay, &mut self.uses, now);
        }
    }

    fn remote(n: usize) -> IpAddr {
        IpAddr::V4((0x0a00_0100 + n as u32).into())
    }

    fn program(ops: impl Into<Box<[Op]>>) -> Program {
        Program { ops: ops.into(), drop: DropReason::Rule }
    }

    fn encap(adjacency: AdjacencyId) -> Op {
        Op::Encap { adjacency, vni: 1, metadata: TunnelMetadata::default(), options: Box::default() }
    }

    #[test]
    fn a_next_hop_lives_as_long_as_a_program_names_it_and_a_little_longer() {
        let mut rig = Rig::new(&[("remote_ip", "flow"), ("key", "flow")]);
        let t0 = Instant::now();
        let at = |s| t0 + Duration::from_secs(s);
        let ids: [AdjacencyId; 4] = std::array::from_fn(|n| {
            let id = rig.resolve(n, t0).expect("room");
            assert_eq!(rig.resolve(n, t0), Some(id), "one a remote");
            id
        });
        let [direct, cloned, selected, unused] = ids;
        let buckets = [Box::from([encap(selected)]), Box::default()].into();
        let select = Op::Select(Box::new(Select { slots: [0; Select::SLOTS], buckets, stats: [].into() }));
        let all = program([encap(direct), Op::Clone([encap(cloned)].into()), select]);
        rig.uses.hold(&all);
        rig.expire(at(11));
        assert_eq!(rig.tunnels.dynamic(), 3, "the one that no program names is gone");
        assert!(rig.tunnels.remote(unused).is_none());
        rig.uses.release(&all);
        rig.expire(at(61));
        rig.expire(at(70));
        assert_eq!(rig.tunnels.dynamic(), 3, "not idle for long enough");
        // One is used again, and let go later.
        let again = program([encap(direct)]);
        rig.uses.hold(&again);
        rig.expire(at(71));
        assert_eq!(rig.tunnels.dynamic(), 1);
        rig.uses.release(&again);
        rig.expire(at(72));
        rig.expire(at(81));
        assert_eq!(rig.tunnels.dynamic(), 1);
        rig.expire(at(82));
        assert_eq!(rig.tunnels.dynamic(), 0);
        assert!(rig.underlay.tunnel.next_hops.is_empty());
    }

    #[test]
    fn a_flood_of_remotes_is_bounded_and_idle_ones_make_room() {
        let mut rig = Rig::new(&[("remote_ip", "flow"), ("key", "flow")]);
        let t0 = Instant::now();
        let mut programs = Vec::new();
        for n in 0..MAX_DYNAMIC {
            let id = rig.resolve(n, t0).expect("room");
            programs.push(program([encap(id)]));
            rig.uses.hold(&programs[n]);
        }
        let later = t0 + Duration::from_secs(5);
        assert_eq!(rig.resolve(MAX_DYNAMIC, later), None, "all are in use");
        rig.uses.release(&programs[77]);
        assert_eq!(rig.resolve(MAX_DYNAMIC, later), None, "somebody may be about to use it again");
        let even_later = later + IDLE_AT_LEAST;
        // In one turn not all that are in use are looked at; they need not be looked at twice.
        let found = (0..=MAX_DYNAMIC / PER_TURN).find_map(|_| rig.resolve(MAX_DYNAMIC, even_later));
        assert!(found.is_some());
        assert_eq!(rig.tunnels.dynamic(), MAX_DYNAMIC);
        assert_eq!(rig.resolve(77, even_later), None, "that one has gone");
    }

    #[test]
    fn a_number_that_a_program_names_is_nobody_elses() {
        let mut rig = Rig::new(&[("remote_ip", "10.0.0.2,10.0.0.3"), ("key", "1")]);
        let t0 = Instant::now();
        assert_eq!(rig.resolve(1, t0), None, "a port with remotes of its own");
        let fixed: Vec<AdjacencyId> = rig.underlay.tunnel.adjacencies().collect();
        let named = program([encap(fixed[0])]);
        rig.uses.hold(&named);
        rig.expire(t0 + Duration::from_secs(100));
        assert!(rig.tunnels.remote(fixed[1]).is_some(), "fixed remotes are never collected");
        for id in &fixed {
            rig.tunnels.drop_adjacency(*id);
        }
        let add = |rig: &mut Rig| rig.tunnels.adjacencies.add(PORT, remote(1), None, &rig.uses);
        assert_eq!(add(&mut rig), Some(fixed[1]));
        assert_eq!(add(&mut rig), Some(AdjacencyId(2)));
        rig.uses.release(&named);
        assert_eq!(add(&mut rig), Some(fixed[0]));
    }

    #[test]
    fn local_addresses_that_rules_set_make_next_hops_of_their_own() {
        let mut rig = Rig::new(&[("remote_ip", "10.0.0.2"), ("local_ip", "flow"), ("key", "1")]);
        let (own, t0) = ("10.0.0.1".parse().unwrap(), Instant::now());
        let one = rig.resolve_from(1, Some(own), t0);
        assert!(one.is_some());
        assert_ne!(one, rig.resolve(1, t0));
        assert_eq!(rig.tunnels.dynamic(), 2);
    }

    #[test]
    fn a_group_is_sent_to_by_its_own_mac_address_without_asking_and_remotes_are_reached_as_ever() {
        let mut rig = Rig::new(&[("remote_ip", "239.1.1.1"), ("key", "1")]);
        let t0 = Instant::now();
        let (_, group) = rig.underlay.tunnel.remotes[0];
        rig.tunnels.rebuild_all(&rig.underlay, t0);
        let ready = |rig: &Rig, id| match &rig.tunnels.remote(id).expect("known").installed {
            Some(ReachSpec::Ready(header, ..)) => Some((header.eth_dst, header.addrs)),
            _ => None,
        };
        let addrs = EncapAddrs::new("10.0.0.1".parse().unwrap(), "239.1.1.1".parse().unwrap()).unwrap();
        assert_eq!(ready(&rig, group), Some((MacAddr([1, 0, 0x5e, 1, 1, 1]), addrs)));
        let one = rig.resolve(1, t0).expect("a remote that was learned");
        assert_ne!(one, group);
        assert_eq!(ready(&rig, one), None, "it is asked for");
        let wanted = [(BRIDGE, "239.1.1.1".parse().unwrap())].into();
        assert_eq!(rig.tunnels.groups(&rig.underlay), wanted);
        // No port of that name.
        rig.underlay.tunnel.options.dev = Some("br-other".into());
        rig.tunnels.rebuild_all(&rig.underlay, t0);
        assert_eq!(ready(&rig, group), None);
        assert!(rig.tunnels.groups(&rig.underlay).is_empty());
        rig.underlay.tunnel.options.dev = Some("br-phy".into());
        assert_eq!(rig.tunnels.groups(&rig.underlay), wanted);
    }

    #[test]
    fn only_what_an_adjacency_depends_on_makes_it_be_looked_at() {
        let mut rig = Rig::new(&[("remote_ip", "flow"), ("key", "1")]);
        let (mac, t0) = (MacAddr([2, 0, 0, 0, 0, 9]), Instant::now());
        let id = rig.resolve(1, t0).expect("room");
        let dependents = |rig: &Rig, mac| rig.tunnels.adjacencies.dependents_count(&mac);
        let put = |rig: &mut Rig, mac| {
            rig.tunnels.set_neighbour(BRIDGE, remote(1), mac, t0);
            rig.tunnels.rebuild_towards(&rig.underlay, BRIDGE, remote(1), t0);
        };
        put(&mut rig, mac);
        assert_eq!(dependents(&rig, mac), 1);
        // The neighbour moves, and the adjacency with it.
        let moved = MacAddr([2, 0, 0, 0, 0, 10]);
        put(&mut rig, moved);
        assert_eq!((dependents(&rig, mac), dependents(&rig, moved)), (0, 1));
        rig.tunnels.drop_next_hop(&mut rig.underlay, id);
        assert_eq!(dependents(&rig, moved), 0);
    }
}
