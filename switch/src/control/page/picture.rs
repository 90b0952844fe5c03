//! The switch at a moment, with rates since the moment before.

use crate::control::app::App;
use crate::control::handlers::refused::Refused;
use crate::control::handlers::views::{bridge_rows, drop_rows, lcore_rows};
use api::{BridgeRow, DropRow, InterfaceRow, LcoreRow, UnknownTunnelRow};
use flow::drop::DropReason;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A picture is shown to all who ask within this time.
const FRESH: Duration = Duration::from_secs(1);
/// Time between two values of the drops' history.
const STEP: Duration = Duration::from_secs(5);
/// Values kept: 15 minutes.
const STEPS: usize = 180;
/// Ports of a bridge in the overview: patches, some in trouble, then the busiest.
const SHOWN: usize = 16;
/// Those in trouble among them.
const TROUBLED: usize = 6;

/// A port with its rates.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PortRow {
    #[serde(flatten)]
    pub interface: InterfaceRow,
    pub rates: Rates,
    /// Dropped coming in or going out, since the start.
    pub dropped: u64,
    /// Something is wrong: its device does not run, no link, no remote can be reached.
    pub trouble: bool,
}

/// Per second since the picture before, zeros in the first one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    pub rx_packets: f64,
    pub rx_bits: f64,
    pub tx_packets: f64,
    pub tx_bits: f64,
    pub dropped: f64,
}

impl Rates {
    /// Both ways together: what ports are sorted by.
    pub fn bits(&self) -> f64 {
        self.rx_bits + self.tx_bits
    }
}

/// A worker with what it did since the picture before.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerRow {
    #[serde(flatten)]
    lcore: LcoreRow,
    /// Share of cycles in busy loops, 0 to 100.
    busy: f64,
    rx_rate: f64,
    tx_rate: f64,
    drop_rate: f64,
    upcall_rate: f64,
    /// Share of lookups that the cache, the megaflow table and nothing answered, 0 to 100.
    lookups: [f64; 3],
    queues: Vec<QueueRow>,
}

/// An RX queue that a worker polls.
#[derive(Debug, Clone, Serialize)]
struct QueueRow {
    port: String,
    queue: usize,
    /// Packets per second, where the driver counts its queues.
    rate: f64,
}

/// A reason and its rate.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DropRate {
    #[serde(flatten)]
    row: DropRow,
    rate: f64,
}

/// The switch at a moment.
#[derive(Debug, Clone)]
pub(super) struct Picture {
    at: Instant,
    /// Seconds that rates are over; none in the first picture.
    over: Option<f64>,
    /// Bridges without their ports.
    pub bridges: Vec<BridgeRow>,
    /// All ports.
    pub ports: Vec<PortRow>,
    workers: Vec<WorkerRow>,
    drops: Vec<DropRate>,
    unknown: Vec<UnknownTunnelRow>,
    queues: BTreeMap<(String, usize), u64>,
}

/// A bridge in the overview.
#[derive(Debug, Serialize)]
struct BridgeBox<'a> {
    #[serde(flatten)]
    bridge: &'a BridgeRow,
    rates: Rates,
    /// Ports there are, and those in trouble.
    count: usize,
    trouble: usize,
    shown: Vec<&'a PortRow>,
}

/// `/page/overview`.
#[derive(Debug, Serialize)]
pub(super) struct Overview<'a> {
    version: &'static str,
    uptime: f64,
    over: Option<f64>,
    bridges: Vec<BridgeBox<'a>>,
    workers: &'a [WorkerRow],
    drops: Vec<&'a DropRate>,
    history: History,
    unknown_tunnels: &'a [UnknownTunnelRow],
}

/// Drops in the last minutes: packets per second in each step, the latest last; reasons that did not happen are left out.
#[derive(Debug, Serialize)]
struct History {
    step: u64,
    reasons: BTreeMap<&'static str, Vec<f64>>,
}

/// Looks at the switch when somebody asks, and counts drops all the time.
#[derive(Debug)]
pub(super) struct Watcher {
    app: Arc<App>,
    began: Instant,
    last: tokio::sync::Mutex<Option<Arc<Picture>>>,
    drops: Mutex<VecDeque<[u64; DropReason::COUNT]>>,
}

impl Watcher {
    pub fn new(app: Arc<App>) -> Watcher {
        Watcher { app, began: Instant::now(), last: tokio::sync::Mutex::default(), drops: Mutex::default() }
    }

    pub async fn remember(&self) {
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            step.tick().await;
            let counters = &self.app.counters;
            let now = std::array::from_fn(|at| {
                counters.iter().map(|c| c.drops_total(DropReason::ALL[at])).sum::<u64>()
            });
            let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
            if drops.len() > STEPS {
                drops.pop_front();
            }
            drops.push_back(now);
        }
    }

    /// The switch now, or a moment ago.
    pub async fn picture(&self) -> Result<Arc<Picture>, Refused> {
        let mut last = self.last.lock().await;
        if let Some(picture) = last.as_ref().filter(|picture| picture.at.elapsed() < FRESH) {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(take(&self.app, last.as_deref()).await?);
        *last = Some(Arc::clone(&picture));
        Ok(picture)
    }

    fn history(&self) -> History {
        let drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = |at: usize| {
            let pairs = drops.iter().zip(drops.iter().skip(1));
            pairs.map(|(a, b)| b[at].saturating_sub(a[at]) as f64 / STEP.as_secs_f64()).collect::<Vec<_>>()
        };
        let all = DropReason::ALL.iter().enumerate().map(|(at, reason)| (reason.name(), rates(at)));
        let reasons = all.filter(|(_, rates)| rates.iter().any(|rate| *rate > 0.0)).collect();
        History { step: STEP.as_secs(), reasons }
    }

    /// What the page shows first.
    pub fn overview<'a>(&self, picture: &'a Picture) -> Overview<'a> {
        let bridges = picture.bridges.iter().map(|bridge| {
            let mut ports: Vec<&PortRow> =
                picture.ports.iter().filter(|port| port.interface.bridge == bridge.name).collect();
            let count = ports.len();
            let trouble = ports.iter().filter(|port| port.trouble).count();
            let mut rates = Rates::default();
            for port in &ports {
                rates.rx_packets += port.rates.rx_packets;
                rates.rx_bits += port.rates.rx_bits;
                rates.tx_packets += port.rates.tx_packets;
                rates.tx_bits += port.rates.tx_bits;
                rates.dropped += port.rates.dropped;
            }
            let busier = |a: &&PortRow, b: &&PortRow| b.rates.bits().total_cmp(&a.rates.bits());
            ports.sort_by(|a, b| {
                let kind = |port: &PortRow| port.interface.kind == "internal";
                busier(a, b).then(kind(a).cmp(&kind(b)))
            });
            let troubled: Vec<&PortRow> =
                ports.iter().filter(|port| port.trouble).take(TROUBLED).copied().collect();
            // What joins bridges is shown in any case.
            let rank = |port: &PortRow| {
                let troubled = || troubled.iter().any(|other| std::ptr::eq(*other, port));
                if port.interface.kind == "patch" {
                    0
                } else if troubled() {
                    1
                } else {
                    2
                }
            };
            ports.sort_by_key(|port| rank(port));
            ports.truncate(SHOWN);
            BridgeBox { bridge, rates, count, trouble, shown: ports }
        });
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.began.elapsed().as_secs_f64(),
            over: picture.over,
            bridges: bridges.collect(),
            workers: &picture.workers,
            drops: picture.drops.iter().filter(|drop| drop.row.packets > 0).collect(),
            history: self.history(),
            unknown_tunnels: &picture.unknown,
        }
    }
}

async fn take(app: &App, last: Option<&Picture>) -> Result<Picture, Refused> {
    let switch = app.switch.lock().await;
    let mut bridges = bridge_rows(app, &switch).await?;
    let lcores = lcore_rows(app, &switch).await?;
    let unknown = app.handle.call(|slow| slow.unknown_tunnel_view()).await?;
    let drops = drop_rows(app, &switch);
    let mut queues = BTreeMap::new();
    for (name, port) in &switch.ports {
        let Some(device) = &port.device else { continue };
        let packets = device.stats().rx_queue_packets;
        queues.extend((0..device.pollers.len()).zip(packets).map(|(q, n)| ((name.clone(), q), n)));
    }
    drop(switch);
    let at = Instant::now();
    let over = last.map(|last| (at - last.at).as_secs_f64().max(0.001));
    let rate = |now: u64, before: Option<u64>| match (over, before) {
        (Some(over), Some(before)) => now.saturating_sub(before) as f64 / over,
        _ => 0.0,
    };
    let before: BTreeMap<&str, &PortRow> =
        last.iter().flat_map(|last| &last.ports).map(|port| (port.interface.name.as_str(), port)).collect();
    let mut ports = Vec::new();
    for bridge in &mut bridges {
        for interface in std::mem::take(&mut bridge.ports) {
            let of = |row: &InterfaceRow, name: &str| row.statistics.get(name).copied().unwrap_or(0);
            let old = before.get(interface.name.as_str()).copied();
            let per_second = |name: &str| rate(of(&interface, name), old.map(|old| of(&old.interface, name)));
            let dropped = of(&interface, "rx_dropped") + of(&interface, "tx_dropped");
            let rates = Rates {
                rx_packets: per_second("rx_packets"),
                rx_bits: per_second("rx_bytes") * 8.0,
                tx_packets: per_second("tx_packets"),
                tx_bits: per_second("tx_bytes") * 8.0,
                dropped: rate(dropped, old.map(|old| old.dropped)),
            };
            let resolving = interface.remotes.iter().any(|remote| remote.state == "resolving");
            let trouble = interface.error.is_some()
                || interface.link_state == "down" && !resolving
                || interface
                    .remotes
                    .iter()
                    .any(|remote| !matches!(remote.state.as_str(), "ready" | "resolving"));
            ports.push(PortRow { interface, rates, dropped, trouble });
        }
    }
    let workers = lcores.into_iter().map(|lcore| {
        let old = last.and_then(|last| last.workers.iter().find(|w| w.lcore.lcore == lcore.lcore));
        let since =
            |what: fn(&LcoreRow) -> u64| what(&lcore).saturating_sub(old.map_or(0, |old| what(&old.lcore)));
        let per_second = |what: fn(&LcoreRow) -> u64| rate(what(&lcore), old.map(|old| what(&old.lcore)));
        let (busy, idle) = (since(|l| l.busy_cycles), since(|l| l.idle_cycles));
        let answers = [since(|l| l.cache_hits), since(|l| l.megaflow_hits), since(|l| l.misses)];
        let looked = answers.iter().sum::<u64>().max(1) as f64;
        let polled = lcore.rx.iter().filter_map(|text| {
            let (port, queue) = text.rsplit_once('/')?;
            let key = (port.to_owned(), queue.parse().ok()?);
            let packets = queues.get(&key).copied().unwrap_or(0);
            let rate = rate(packets, last.and_then(|last| last.queues.get(&key).copied()));
            Some(QueueRow { port: key.0, queue: key.1, rate })
        });
        let mut polled: Vec<QueueRow> = polled.collect();
        polled.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        WorkerRow {
            busy: 100.0 * busy as f64 / (busy + idle).max(1) as f64,
            rx_rate: per_second(|l| l.rx_packets),
            tx_rate: per_second(|l| l.tx_packets),
            drop_rate: per_second(|l| l.dropped),
            upcall_rate: per_second(|l| l.upcalls),
            lookups: answers.map(|n| 100.0 * n as f64 / looked),
            queues: polled,
            lcore,
        }
    });
    let workers = workers.collect();
    let drops = drops.into_iter().map(|row| {
        let old = last.and_then(|last| last.drops.iter().find(|old| old.row.reason == row.reason));
        DropRate { rate: rate(row.packets, old.map(|old| old.row.packets)), row }
    });
    let drops = drops.collect();
    Ok(Picture { at, over, bridges, ports, workers, drops, unknown, queues })
}
