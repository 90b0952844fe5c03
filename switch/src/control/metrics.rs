//! The metrics address: `/metrics`, `/healthz`, `/readyz`, and the page at `/`. Nothing there changes anything.
//!
//! Nothing is counted here. A scrape reads the workers' counters, and asks the slow path for its sizes.

mod families;
mod openmetrics;
mod state;
mod traffic;

use super::app::App;
use super::apply::Switch;
use super::handlers::refused::Refused;
use super::handlers::views::drop_rows;
use super::page::Page;
use super::serving;
use super::totals::Totals;
use crate::slowpath::show::TableView;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use datapath::counters::TIME_BOUNDS;
use families::Families;
use flow::stats::PacketStats;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};
use rte::port::Stats;
use state::Condition;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use traffic::TrafficSample;
use wire::parse::Anomaly;

/// Scrapers and browsers at a time.
const CONNECTIONS: usize = 64;
/// How long a scrape waits for the slow path, or for a change that is being made.
const PATIENCE: Duration = Duration::from_secs(5);

/// A port at one moment.
struct PortSample {
    name: String,
    bridge: String,
    kind: String,
    totals: Totals,
    device: Option<Stats>,
}

/// Everything that a scrape shows besides the workers' own counters.
#[derive(Default)]
struct Sample {
    ports: Vec<PortSample>,
    drops: Vec<(&'static str, String, u64)>,
    fdb: Vec<(String, usize)>,
    rules: Vec<(String, usize)>,
    /// Bridge, number, packets, bytes.
    groups: Vec<(String, String, u64, u64)>,
    /// Bridge, number, and what passed and what was dropped.
    meters: Vec<(String, String, PacketStats, PacketStats)>,
    captures_lost: u64,
    controller: u64,
    tables: Vec<TableView>,
    upcalls: u64,
    /// Families that the slow path keeps itself.
    kept: Vec<MetricFamily>,
    flow_limit_hits: u64,
    too_big_sent: u64,
    suppress: Vec<api::SuppressRow>,
    traffic: TrafficSample,
    state: Condition,
}

/// What the registry collects from.
struct Source {
    app: Arc<App>,
    sample: Mutex<Sample>,
    /// When the switch started, seconds since 1970.
    start: f64,
}

/// Registers with Prometheus what the last [`Sample`] and the workers say.
struct SwitchCollector(Arc<Source>);

/// The metrics endpoint.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    source: Arc<Source>,
}

impl Metrics {
    /// Of this switch.
    ///
    /// # Errors
    /// The registry's, which would be a bug.
    pub fn new(app: Arc<App>) -> Result<Metrics, prometheus::Error> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let source = Arc::new(Source { app, sample: Mutex::default(), start });
        let registry = Registry::new();
        registry.register(Box::new(SwitchCollector(Arc::clone(&source))))?;
        Ok(Metrics { registry, source })
    }

    /// Does everything once that a scrape does, so that nothing is done for the first time when packets come.
    pub async fn use_once(&self) {
        let answer = scrape(State(self.clone()), HeaderMap::new()).await;
        if !answer.status().is_success() {
            tracing::warn!(status = %answer.status(), "the first scrape fails");
        }
    }

    /// Serves the endpoint until the task is aborted.
    pub async fn serve(self, listener: tokio::net::TcpListener) {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .route("/healthz", get(health))
            .route("/readyz", get(ready))
            .with_state(self.clone());
        let page = Page::new(Arc::clone(&self.source.app));
        let router = router.merge(page.clone().router());
        tokio::select! {
            () = serving::serve(listener, router, CONNECTIONS) => {}
            () = page.remember() => {}
        }
    }
}

fn unavailable(text: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response()
}

/// Alive: every thread moves. Answered from what the watching thread saw last, so that nothing can hold it up.
async fn health(State(metrics): State<Metrics>) -> Response {
    let still = metrics.source.app.pulses.still(Instant::now());
    if still.is_empty() {
        "ok\n".into_response()
    } else {
        unavailable(&format!("{} stands still", still.join(", ")))
    }
}

/// Ready: the whole file has been applied, every device in it runs, and every thread moves.
async fn ready(State(metrics): State<Metrics>) -> Response {
    if !metrics.source.app.ready.load(Relaxed) {
        return unavailable("starting");
    }
    let faults = metrics.source.app.faults.all();
    let ports = faults.iter().map(|(port, error)| format!("port {port}: {error}"));
    let unsaved = metrics.source.app.unsaved().map(|error| format!("changes are not saved: {error}"));
    let still = metrics.source.app.pulses.still(Instant::now());
    let still = still.into_iter().map(|thread| format!("{thread} stands still"));
    let lines: Vec<String> = ports.chain(unsaved).chain(still).collect();
    if lines.is_empty() {
        return "ready\n".into_response();
    }
    unavailable(&lines.join("\n"))
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let app = &metrics.source.app;
    let sample = async {
        let switch = app.switch.lock().await;
        take_sample(app, &switch).await
    };
    match tokio::time::timeout(PATIENCE, sample).await {
        Ok(Ok(sample)) => {
            *metrics.source.sample.lock().unwrap_or_else(PoisonError::into_inner) = sample;
        }
        Ok(Err(refused)) => return unavailable(refused.message()),
        Err(_) => return unavailable("the switch does not answer: see /healthz"),
    }
    let families = metrics.registry.gather();
    let vary = (VARY, "accept".to_owned());
    if headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(openmetrics::is_wanted) {
        let kind = (CONTENT_TYPE, openmetrics::CONTENT_TYPE.to_owned());
        return ([kind, vary], openmetrics::encode(&families)).into_response();
    }
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&families, &mut text) {
        Ok(()) => ([(CONTENT_TYPE, encoder.format_type().to_owned()), vary], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn take_sample(app: &App, switch: &Switch) -> Result<Sample, Refused> {
    let mut sample = app
        .handle
        .call(|slow| {
            let bridges = || slow.state.bridges().map(|(_, bridge)| bridge);
            Sample {
                fdb: bridges().map(|b| (b.name.clone(), b.fdb.len())).collect(),
                rules: bridges().map(|b| (b.name.clone(), b.tables.len())).collect(),
                groups: bridges()
                    .flat_map(|b| {
                        b.groups.iter().map(|(id, group)| (b.name.clone(), id.to_string(), group.stats()))
                    })
                    .map(|(bridge, id, stats)| (bridge, id, stats.packets, stats.bytes))
                    .collect(),
                meters: bridges()
                    .flat_map(|b| {
                        b.meters.iter().map(|(id, m)| (b.name.clone(), id.to_string(), slow.meter_stats(m)))
                    })
                    .map(|(bridge, id, (passed, dropped))| (bridge, id, passed, dropped))
                    .collect(),
                captures_lost: slow.captures_lost(),
                controller: slow.controller_packets(),
                tables: slow.table_views(),
                upcalls: slow.upcalls,
                kept: slow.answer_times.collect(),
                traffic: TrafficSample::take(slow),
                flow_limit_hits: slow.flow_limit_hits,
                too_big_sent: slow.too_big_sent,
                suppress: slow.suppress_view(),
                ..Sample::default()
            }
        })
        .await?;
    for (name, port) in &switch.ports {
        let (bridge, kind) = match switch.document.port(name) {
            Some((bridge, configured)) => (bridge.name.clone(), configured.kind.clone()),
            None => (name.clone(), "internal".to_owned()),
        };
        sample.ports.push(PortSample {
            name: name.clone(),
            bridge,
            kind,
            totals: Totals::read(&app.counters, port.id).since(&port.before),
            device: port.device.as_ref().map(super::device::Device::stats),
        });
    }
    sample.state = Condition::take(app, switch).await?;
    let reasons = flow::drop::DropReason::ALL.iter().map(|reason| reason.name());
    for (reason, row) in reasons.zip(drop_rows(app, switch)) {
        sample.drops.extend(row.ports.into_iter().map(|(port, packets)| (reason, port, packets)));
    }
    Ok(sample)
}

impl Collector for SwitchCollector {
    fn desc(&self) -> Vec<&Desc> {
        // Unchecked: which ports there are changes.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sample = self.0.sample.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Families(Vec::new());
        ports(&mut out, &sample.ports);
        workers(&mut out, &self.0.app);
        let drops: Vec<_> = sample.drops.iter().map(|(r, p, n)| (vec![*r, p.as_str()], *n)).collect();
        out.counters(
            "vxswitch_drops_total",
            "Packets freed instead of sent, by reason and input (or, on the way out, output) port.",
            &["reason", "port"],
            &drops,
        );
        malformed(&mut out, &self.0.app);
        let sizes = |rows: &'_ [(String, usize)]| {
            rows.iter().map(|(bridge, n)| (bridge.clone(), *n as f64)).collect::<Vec<_>>()
        };
        for (name, help, rows) in [
            ("vxswitch_fdb_entries", "MAC addresses in the FDB.", sizes(&sample.fdb)),
            ("vxswitch_rules", "Rules in all tables.", sizes(&sample.rules)),
        ] {
            let rows: Vec<_> = rows.iter().map(|(bridge, n)| (vec![bridge.as_str()], *n)).collect();
            out.gauges(name, help, &["bridge"], &rows);
        }
        let lcores: Vec<String> = sample.tables.iter().map(|table| table.lcore.to_string()).collect();
        let tables = |value: fn(&TableView) -> usize| {
            let rows = lcores.iter().zip(&sample.tables);
            rows.map(|(lcore, table)| (vec![lcore.as_str()], value(table) as f64)).collect::<Vec<_>>()
        };
        out.gauges("vxswitch_megaflows", "Megaflows in use.", &["lcore"], &tables(|t| t.megaflows));
        out.gauges(
            "vxswitch_megaflow_masks",
            "Different masks of megaflows.",
            &["lcore"],
            &tables(|t| t.masks),
        );
        let plain = |n| [(Vec::new(), n)];
        out.counters("vxswitch_slowpath_upcalls_total", "Upcalls answered.", &[], &plain(sample.upcalls));
        out.0.extend(sample.kept.iter().cloned());
        setup_times(&mut out, &self.0.app);
        let hits = plain(sample.flow_limit_hits);
        out.counters("vxswitch_flow_limit_hits_total", "Flows for which a table had no room.", &[], &hits);
        out.counters(
            "vxswitch_too_big_messages_total",
            "ICMP messages to senders whose packets did not fit a tunnel.",
            &[],
            &plain(sample.too_big_sent),
        );
        let questions: Vec<_> = sample
            .suppress
            .iter()
            .flat_map(|row| {
                let results = [("answered", row.answered), ("local", row.local), ("flooded", row.flooded)];
                results.map(|(result, n)| (vec![row.bridge.as_str(), result], n))
            })
            .collect();
        out.counters(
            "vxswitch_neigh_questions_total",
            "ARP requests and neighbour solicitations at neigh-suppress, by what became of them.",
            &["bridge", "result"],
            &questions,
        );
        let controller = plain(sample.controller);
        out.counters(
            "vxswitch_controller_packets_total",
            "Packets that rules sent to CONTROLLER.",
            &[],
            &controller,
        );
        let lost = plain(sample.captures_lost);
        out.counters(
            "vxswitch_captures_lost_total",
            "Captured packets that nobody took in time.",
            &[],
            &lost,
        );
        out.gauges(
            "vxswitch_build_info",
            "1, with the version of the switch.",
            &["version"],
            &[(vec![env!("CARGO_PKG_VERSION")], 1.0)],
        );
        out.gauges(
            "vxswitch_start_time_seconds",
            "When the switch started, seconds since 1970.",
            &[],
            &[(Vec::new(), self.0.start)],
        );
        sample.traffic.collect(&mut out);
        sample.state.collect(&mut out);
        groups(&mut out, &sample);
        meters(&mut out, &sample);
        out.0
    }
}

/// Of all workers together.
fn setup_times(out: &mut Families, app: &App) {
    let mut counts = [0; TIME_BOUNDS.len() + 1];
    let mut cycles = 0;
    for times in app.counters.iter().map(|counters| &counters.setup_times) {
        for (sum, bucket) in counts.iter_mut().zip(&times.buckets) {
            *sum += bucket.get();
        }
        cycles += times.cycles.get();
    }
    out.histogram(
        "vxswitch_flow_setup_seconds",
        "Time from a flow's first packet without a megaflow to when its packets went on.",
        &TIME_BOUNDS,
        &counts,
        cycles as f64 / rte::tsc_hz().max(1) as f64,
    );
}

fn ports(out: &mut Families, ports: &[PortSample]) {
    const LABELS: [&str; 3] = ["port", "bridge", "type"];
    type Count = fn(&PortSample) -> Option<u64>;
    let families: [(&str, &str, Count); 9] = [
        ("rx_packets", "Packets received; for a tunnel port, inner frames.", |p| Some(p.totals.rx_packets)),
        ("rx_bytes", "Bytes received, without FCS.", |p| Some(p.totals.rx_bytes)),
        ("tx_packets", "Packets sent; for a tunnel port, inner frames.", |p| Some(p.totals.tx_packets)),
        ("tx_bytes", "Bytes sent, without FCS.", |p| Some(p.totals.tx_bytes)),
        ("tx_dropped", "Packets for the port that were not sent.", |p| Some(p.totals.tx_dropped)),
        ("rx_missed", "Packets that the device dropped because nobody fetched them in time.", |p| {
            p.device.as_ref().map(|d| d.rx_missed)
        }),
        ("rx_nombuf", "Times that no mbuf was left to receive into.", |p| {
            p.device.as_ref().map(|d| d.rx_nombuf)
        }),
        ("rx_errors", "Packets received in error.", |p| p.device.as_ref().map(|d| d.rx_errors)),
        ("tx_errors", "Packets that the device failed to send.", |p| p.device.as_ref().map(|d| d.tx_errors)),
    ];
    for (name, help, count) in families {
        let rows: Vec<_> = ports
            .iter()
            .filter_map(|p| Some((vec![p.name.as_str(), p.bridge.as_str(), p.kind.as_str()], count(p)?)))
            .collect();
        out.counters(&format!("vxswitch_port_{name}_total"), help, &LABELS, &rows);
    }
}

fn groups(out: &mut Families, sample: &Sample) {
    type Count = fn(&(String, String, u64, u64)) -> u64;
    let families: [(&str, &str, Count); 2] = [
        ("packets", "Packets of the megaflows that use a group.", |group| group.2),
        ("bytes", "Bytes of the megaflows that use a group.", |group| group.3),
    ];
    for (name, help, count) in families {
        let rows: Vec<_> =
            sample.groups.iter().map(|g| (vec![g.0.as_str(), g.1.as_str()], count(g))).collect();
        out.counters(&format!("vxswitch_group_{name}_total"), help, &["bridge", "group"], &rows);
    }
}

fn meters(out: &mut Families, sample: &Sample) {
    type Count = fn(&(String, String, PacketStats, PacketStats)) -> u64;
    let families: [(&str, &str, Count); 4] = [
        ("passed_packets", "Packets that a meter let through.", |meter| meter.2.packets),
        ("passed_bytes", "Bytes that a meter let through.", |meter| meter.2.bytes),
        ("dropped_packets", "Packets that a meter dropped.", |meter| meter.3.packets),
        ("dropped_bytes", "Bytes that a meter dropped.", |meter| meter.3.bytes),
    ];
    for (name, help, count) in families {
        let rows: Vec<_> =
            sample.meters.iter().map(|m| (vec![m.0.as_str(), m.1.as_str()], count(m))).collect();
        out.counters(&format!("vxswitch_meter_{name}_total"), help, &["bridge", "meter"], &rows);
    }
}

/// Every kind has a line from the start on, so that the first frame shows as a rate.
fn malformed(out: &mut Families, app: &App) {
    let rows: Vec<_> = Anomaly::ALL
        .iter()
        .map(|kind| (vec![kind.name()], app.counters.iter().map(|c| c.anomalies(*kind)).sum()))
        .collect();
    out.counters(
        "vxswitch_malformed_frames_total",
        "Frames with a malformed header behind Ethernet, by what was wrong; they are bridged by what is known.",
        &["kind"],
        &rows,
    );
}

fn workers(out: &mut Families, app: &App) {
    use datapath::counters::{Counter, WorkerCounters};
    type Count = fn(&WorkerCounters) -> &Counter;
    let lcores: Vec<String> = app.workers.iter().map(|w| w.lcore.to_string()).collect();
    let families: [(&str, &str, Count); 16] = [
        ("worker_iterations", "Loops of a worker.", |c| &c.iterations),
        ("worker_busy_cycles", "TSC cycles of loops that did something.", |c| &c.busy_cycles),
        ("worker_idle_cycles", "TSC cycles of loops that found nothing to do, and of sleeps.", |c| {
            &c.idle_cycles
        }),
        ("worker_sleep_cycles", "TSC cycles of sleeps, which are among the idle ones.", |c| &c.sleep_cycles),
        ("worker_sleeps", "Sleeps of a worker that found nothing to do.", |c| &c.sleeps),
        ("worker_rx_packets", "Packets received from devices.", |c| &c.rx),
        ("worker_tx_packets", "Packets that devices took.", |c| &c.tx),
        ("worker_dropped_packets", "Packets freed instead of sent.", |c| &c.dropped),
        ("worker_merged_packets", "Packets that became part of another: reassembled, coalesced.", |c| {
            &c.merged
        }),
        ("worker_tx_handoff_packets", "Packets given to the worker with the TX queue.", |c| {
            &c.tx_handoff_sent
        }),
        ("cache_hits", "Lookups that the flow cache answered.", |c| &c.cache_hits),
        ("megaflow_hits", "Lookups that the megaflow table answered.", |c| &c.megaflow_hits),
        ("no_key_hits", "Lookups, of cache or table, that needed no key of the packet.", |c| &c.no_key_hits),
        ("misses", "Lookups that nothing answered.", |c| &c.misses),
        ("upcalls", "Keys sent to the slow path.", |c| &c.upcalls),
        ("punts_lost", "Packets for the switch itself that were lost.", |c| &c.punts_lost),
    ];
    let rows = |count: Count| {
        let each = lcores.iter().zip(&app.workers);
        each.map(|(lcore, w)| (vec![lcore.as_str()], count(&w.counters).get())).collect::<Vec<_>>()
    };
    for (name, help, count) in families {
        out.counters(&format!("vxswitch_{name}_total"), help, &["lcore"], &rows(count));
    }
    let held: Vec<_> = rows(|c| &c.held).into_iter().map(|(labels, n)| (labels, n as f64)).collect();
    out.gauges(
        "vxswitch_held_packets",
        "Packets that wait for a decision, a neighbour or other fragments.",
        &["lcore"],
        &held,
    );
}
