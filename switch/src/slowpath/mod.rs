//! The slow path: the one thread that owns all switching state. It answers upcalls with megaflows, keeps
//! megaflows true when something changes, resolves neighbours, and speaks for the switch itself (ARP, ICMP).
//!
//! Control reaches it with [`Handle::call`]: a closure that runs here, between two rounds of upcalls.

mod backlog;
pub mod bfd;
pub mod capture;
pub mod clock;
mod controller;
mod describe;
mod drops;
mod effects;
pub mod evpn;
pub mod flows;
pub mod handle;
mod host_message;
pub mod kernel;
mod limits;
mod masks;
mod mcast;
mod membership;
pub mod monitor;
mod observe;
pub mod operate;
pub mod ports;
pub mod programs;
mod punt;
pub mod queues;
pub mod restore;
mod revalidate;
pub mod settings;
pub mod show;
pub mod suppress;
mod too_big;
mod trace;
pub mod traffic;
mod tunnels;
mod unknown_tunnels;
mod upcall;
mod walk;
pub mod workers;

use crate::bridge::{BridgeId, SwitchState};
use crate::tunnel::Tunnels;
use crate::tunnel::membership::Memberships;
use clock::Clock;
use datapath::message::PortIo;
use datapath::meter::Meters;
use datapath::termination::Termination;
use flow::hash::FlowHasher;
use flow::program::{AdjacencyId, PortId};
pub use handle::Handle;
use programs::Programs;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use workers::WorkerSide;

/// Upcalls answered in a turn.
const UPCALLS_PER_TURN: usize = 256;
/// Upcalls answered between two looks at what else has come up.
const UPCALLS_AT_ONCE: usize = 32;
/// FDB entries of a bridge looked at for their age in a turn.
const AGED_PER_TURN: usize = 256;
/// Megaflow slots of one worker whose statistics are read in a turn.
const SLOTS_PER_TURN: usize = 4096;
/// Time in which the statistics of all megaflows are read once.
const COLLECT_EVERY: Duration = Duration::from_millis(500);
/// Time between two looks at neighbours and timeouts.
const TIMERS_EVERY: Duration = Duration::from_millis(50);
/// Turns without work before the thread sleeps between turns.
const SPIN_TURNS: u32 = 64;
/// How long it sleeps then. A new flow's first packet waits for so long at most; it is held meanwhile.
const NAP: Duration = Duration::from_micros(50);

/// Settings of the slow path.
#[derive(Debug, Clone, Copy)]
pub struct SlowPathConfig {
    /// Megaflows without a packet for so long are removed.
    pub max_idle: Duration,
    /// Different programs that the workers' tables hold.
    pub programs: usize,
    /// Different masks that the megaflows of one in-port have on a worker, at least 2.
    pub masks: usize,
    /// Seed of the hashes by which workers choose source ports and buckets, so that a trace names those of a packet.
    pub hash_seed: u64,
}

/// All switching state.
pub struct SlowPath {
    /// Bridges and ports.
    pub state: SwitchState,
    /// Workers.
    pub workers: Vec<WorkerSide>,
    tunnels: Tunnels<SwitchState>,
    programs: Programs,
    config: SlowPathConfig,
    clock: Clock,
    bfd: bfd::Sessions,
    memberships: Memberships,
    /// Meters, shared with all workers.
    pub meters: Arc<Meters>,
    /// Something that tunnel headers depend on has changed.
    underlay_changed: bool,
    /// What megaflows have to be looked at again for.
    changes: revalidate::Changes,
    captures: capture::Captures,
    monitors: monitor::Monitors,
    /// Workers copy what they drop.
    drops_wanted: bool,
    /// Chooses source ports and buckets as the workers do.
    hasher: FlowHasher,
    /// Neighbours that an operator has set while the switch runs, until they are flushed.
    neighbours_set: BTreeSet<(BridgeId, IpAddr)>,
    backlog: backlog::Backlog,
    limits: limits::Limits,
    /// Where the reading of statistics is, as a slot number, and when it began.
    collected: usize,
    collecting_since: Instant,
    timers_due: Instant,
    /// Rules with timeouts exist.
    rule_timeouts: bool,
    affected: effects::Affected,
    /// Addresses that were not learned because their ports had taught too many.
    pub learning_limited: u64,
    /// Messages to senders whose packets did not fit a tunnel.
    pub too_big_sent: u64,
    /// Messages of routers looked at since the last look at timers.
    path_errors: u32,
    /// Upcalls answered.
    pub upcalls: u64,
    /// How long workers waited for the answers.
    pub answer_times: prometheus::Histogram,
    unknown_tunnels: unknown_tunnels::UnknownTunnels,
    /// Traffic of tunnels by VTEP and VNI.
    pub traffic: traffic::TunnelTraffic,
    /// Megaflows translated again because something had changed.
    pub revalidated: u64,
    /// Megaflows whose masks were widened because their in-port had all that it may have.
    pub masks_widened: u64,
    /// Megaflows not installed because the table was full.
    pub flow_limit_hits: u64,
    /// Adjacencies of removed ports, whose numbers are free once no worker uses them.
    leaving_adjacencies: Vec<AdjacencyId>,
    /// Ports on workers that transmit by another worker's queue.
    hands_over: Vec<(PortId, u32)>,
    /// Ports that workers get with the next commit, by index of the worker.
    arriving: Vec<(usize, Box<PortIo>)>,
    /// When an address conflict was last reported.
    conflict_said: Option<Instant>,
    /// Ports that workers have let go of.
    #[allow(clippy::vec_box, reason = "they come in boxes")]
    returned_ports: Vec<Box<PortIo>>,
    /// RX queues that workers have let go of.
    returned_queues: Vec<(PortId, rte::RxQueue)>,
    /// The tables by which workers know tunnel packets, as they have them.
    sent_termination: Option<Termination>,
    /// Slots to begin with when megaflows have to go.
    victims_from: usize,
}

impl SlowPath {
    /// A slow path without bridges.
    pub fn new(config: SlowPathConfig, workers: Vec<WorkerSide>, meters: Arc<Meters>) -> SlowPath {
        let now = Clock::system().now();
        SlowPath {
            state: SwitchState::default(),
            workers,
            tunnels: Tunnels::default(),
            programs: Programs::new(config.programs),
            config,
            clock: Clock::system(),
            bfd: bfd::Sessions::default(),
            memberships: Memberships::new(bfd::random()),
            meters,
            underlay_changed: false,
            changes: revalidate::Changes::default(),
            captures: capture::Captures::default(),
            monitors: monitor::Monitors::new(now),
            drops_wanted: false,
            hasher: FlowHasher::new(config.hash_seed),
            neighbours_set: BTreeSet::new(),
            backlog: backlog::Backlog::default(),
            limits: limits::Limits::default(),
            collected: 0,
            collecting_since: now,
            timers_due: now,
            rule_timeouts: false,
            affected: effects::Affected::default(),
            learning_limited: 0,
            too_big_sent: 0,
            path_errors: 0,
            upcalls: 0,
            answer_times: upcall::answer_times(),
            unknown_tunnels: unknown_tunnels::UnknownTunnels::default(),
            traffic: traffic::TunnelTraffic::default(),
            revalidated: 0,
            masks_widened: 0,
            flow_limit_hits: 0,
            leaving_adjacencies: Vec::new(),
            hands_over: Vec::new(),
            arriving: Vec::new(),
            conflict_said: None,
            returned_ports: Vec::new(),
            returned_queues: Vec::new(),
            sent_termination: None,
            victims_from: 0,
        }
    }

    /// The same by another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> SlowPath {
        let now = clock.now();
        (self.collecting_since, self.timers_due) = (now, now);
        self.monitors = monitor::Monitors::new(now);
        self.clock = clock;
        self
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// One turn: what came back, upcalls, statistics, timers. Says whether there was anything to do.
    pub fn turn(&mut self) -> bool {
        let now = self.now();
        let mut busy = false;
        for worker in 0..self.workers.len() {
            busy |= self.returns(worker, now);
        }
        busy |= self.answer_upcalls(now);
        busy |= self.take_dropped();
        self.settle_learned();
        busy |= self.run_bfd(now);
        busy |= self.collect(now);
        if now >= self.timers_due {
            self.timers_due = now + TIMERS_EVERY;
            self.timers(now);
        }
        self.settle_underlay();
        busy
    }

    /// Runs until all [`Handle`]s are gone.
    #[must_use]
    pub fn run(mut self, jobs: &handle::Jobs) -> SlowPath {
        let mut quiet = 0;
        loop {
            if !jobs.run_some(&mut self) {
                return self;
            }
            quiet = if self.turn() { 0 } else { quiet + 1 };
            if quiet > SPIN_TURNS {
                // The next job ends the nap. Looks for it between two naps would have others run first.
                jobs.wait(&mut self, NAP);
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Reads the statistics of some megaflows, such that all have their turn every [`COLLECT_EVERY`].
    fn collect(&mut self, now: Instant) -> bool {
        let slots = self.workers.iter().map(|w| w.flows.capacity()).max().unwrap_or(0);
        if self.collected >= slots {
            if now.saturating_duration_since(self.collecting_since) < COLLECT_EVERY {
                return false;
            }
            self.collected = 0;
            self.collecting_since = now;
        }
        self.collect_range(self.collected..self.collected + SLOTS_PER_TURN, now);
        self.collected += SLOTS_PER_TURN;
        true
    }

    fn collect_range(&mut self, range: std::ops::Range<usize>, now: Instant) {
        for at in 0..self.workers.len() {
            let (state, affected) = (&mut self.state, &mut self.affected);
            let idle = self.workers[at].flows.collect(range.clone(), self.config.max_idle, now, |flow| {
                for learn in &flow.learn {
                    if let Some(bridge) = state.bridge_mut(learn.bridge) {
                        bridge.fdb.refresh(learn.vlan, learn.mac, learn.at, now);
                    }
                }
                if let Some(effects) = &flow.effects {
                    effects::affect(state, effects, affected, now);
                }
            });
            for slot in idle {
                self.remove_flow(at, slot);
            }
        }
        self.count_tunnelled(now);
    }

    /// Reads the statistics of all megaflows, so that what rules show is what was forwarded until now.
    pub fn collect_all(&mut self) {
        let now = self.now();
        self.collect_range(0..usize::MAX, now);
    }

    fn timers(&mut self, now: Instant) {
        self.sweep_controller_messages();
        let mut gone = Vec::new();
        for (id, bridge) in self.state.bridges_mut() {
            let aged = bridge.fdb.expire(now, AGED_PER_TURN);
            if aged.len() == AGED_PER_TURN {
                // There may be more: in the next turn, after what waits for this one.
                self.timers_due = now;
            }
            gone.extend(aged.into_iter().map(|key| (id, key)));
        }
        let any_gone = !gone.is_empty();
        for (bridge, (vlan, mac)) in gone {
            self.fdb_changed(bridge, vlan, mac);
        }
        if any_gone {
            self.revalidate_changed();
        }
        if self.rule_timeouts {
            let mut changed = false;
            for (_, bridge) in self.state.bridges_mut() {
                changed |= bridge.tables.expire(now);
            }
            if changed {
                self.rules_changed();
            }
        }
        self.age_hosts(now);
        self.expire_mcast(now);
        self.report_memberships(now);
        self.tunnel_timers(now);
    }

    /// Waits until every worker has carried out every command so far.
    pub fn barrier(&mut self) -> bool {
        for worker in &mut self.workers {
            worker.start_barrier();
        }
        // Each is waited for, also when one does not answer.
        self.workers.iter_mut().map(WorkerSide::wait_barrier).fold(true, |all, one| all & one)
    }

    /// All megaflows in use, over all workers.
    pub fn megaflows(&self) -> usize {
        self.workers.iter().map(|w| w.flows.len()).sum()
    }
}
