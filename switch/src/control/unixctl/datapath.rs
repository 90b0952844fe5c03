//! `dpif/*`, `dpctl/*` and what else there is of the datapath and the process: counters, megaflows, memory.

use super::port_config;
use crate::control::app::App;
use crate::control::handlers::refused::Refused;
use crate::control::handlers::views::{drop_rows, interface_rows, lcore_rows};
use crate::slowpath::SlowPath;
use crate::slowpath::handle::Stopped;
use api::LcoreRow;
use flow::drop::DropReason;
use std::fmt::Write;
use std::sync::PoisonError;

/// The one datapath, as Open vSwitch has it in user space.
const DATAPATH: &str = "netdev@ovs-netdev";
/// `dpif/show-dp-features`: what of Open vSwitch's datapath the workers have. There is no recirculation and no connection
/// tracking, and packets with MPLS labels are forwarded as they are.
const FEATURES: &str = "\
Masked set action: Yes
Tunnel push pop: Yes
Ufid: No
Truncate action: Yes
Clone action: Yes
Sample nesting: 0
Conntrack eventmask: No
Conntrack clear: No
Max dp_hash algorithm: 0
Check pkt length action: Yes
Conntrack timeout policy: No
Explicit Drop action: Yes
Optimized Balance TCP mode: No
Conntrack all-zero IP SNAT: No
MPLS Label add: No
Max VLAN headers: 2
Max MPLS depth: 0
Recirc: No
CT state: No
CT zone: No
CT mark: No
CT label: No
CT state NAT: No
CT orig tuple: No
CT orig tuple for IPv6: No
IPv6 ND Extension: No
";
/// Megaflows shown at most.
const MEGAFLOWS: usize = 100_000;

/// Answers a command whose arguments are as many as it takes.
pub(super) async fn run(app: &App, command: &str, words: &[&str]) -> Result<String, String> {
    let stopping = |error: Stopped| error.to_string();
    let refused = |error: Refused| error.message().to_owned();
    match command {
        "dpif/show" => dpif_show(app).await.map_err(stopping),
        "dpif/dump-dps" => {
            let views = app.handle.call(|slow| slow.bridge_views()).await.map_err(stopping)?;
            Ok(views.iter().flat_map(|bridge| ["netdev@", &bridge.name, "\n"]).collect())
        }
        "dpctl/dump-dps" => Ok(DATAPATH.into()),
        "dpctl/show" => {
            let names = datapaths(words)?;
            dpctl_show(app, names.contains(&"-s")).await.map_err(refused)
        }
        "dpctl/dump-flows" => {
            datapaths(words)?;
            megaflows(app, None).await
        }
        "dpif/dump-flows" => {
            let bridge = words.iter().find(|word| !word.starts_with('-')).ok_or("no bridge is named")?;
            megaflows(app, Some((*bridge).to_owned())).await
        }
        "dpctl/dump-conntrack" | "dpctl/flush-conntrack" | "dpctl/ct-stats-show" => {
            Err("connections are not tracked: this switch has no action ct".into())
        }
        "dpif-netdev/pmd-stats-show" => {
            let switch = app.switch.lock().await;
            let mut rows = lcore_rows(app, &switch).await.map_err(refused)?;
            let cleared = app.cleared.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, before) in rows.iter_mut().zip(&*cleared) {
                since(row, before);
            }
            let mut text = String::new();
            for (row, worker) in rows.iter().zip(&app.workers) {
                let hits = row.cache_hits + row.megaflow_hits + row.no_key_hits;
                let all = (row.busy_cycles + row.idle_cycles).max(1) as f64;
                let _ = write!(
                    text,
                    "{}  packets received: {}\n  no-key hits: {}\n  cache hits: {}\n  megaflow hits: {}\n  \
                     miss with success upcall: {}\n  idle cycles: {} ({:.2}%)\n  processing cycles: {} ({:.2}%)\n  \
                     avg processing cycles per packet: {:.2} ({}/{})\n",
                    super::pmd_line(worker),
                    row.rx_packets,
                    row.no_key_hits,
                    row.cache_hits,
                    row.megaflow_hits,
                    row.misses,
                    row.idle_cycles,
                    100.0 * row.idle_cycles as f64 / all,
                    row.busy_cycles,
                    100.0 * row.busy_cycles as f64 / all,
                    row.busy_cycles as f64 / (hits + row.misses).max(1) as f64,
                    row.busy_cycles,
                    hits + row.misses,
                );
            }
            Ok(text)
        }
        "dpif-netdev/pmd-stats-clear" => {
            let switch = app.switch.lock().await;
            let rows = lcore_rows(app, &switch).await.map_err(refused)?;
            *app.cleared.lock().unwrap_or_else(PoisonError::into_inner) = rows;
            Ok(String::new())
        }
        "revalidator/purge" => {
            let purge = |slow: &mut SlowPath| {
                slow.flush_flows();
                slow.barrier();
            };
            app.handle.call(purge).await.map(|()| String::new()).map_err(stopping)
        }
        "upcall/set-flow-limit" => {
            let limit: usize = words[0].parse().map_err(|_| "expected a number of megaflows")?;
            let set = app.handle.call(move |slow| slow.set_flow_limit(limit)).await.map_err(stopping)?;
            Ok(format!("set flow_limit to {set}"))
        }
        "dpif/show-dp-features" => {
            let name = words[0].to_owned();
            let found = app.handle.call(move |slow| slow.state.bridge_named(&name).is_some());
            if found.await.map_err(stopping)? {
                Ok(FEATURES.to_owned())
            } else {
                Err("no such bridge".into())
            }
        }
        "upcall/show" => {
            let stats = app.handle.call(|slow| slow.upcall_view()).await.map_err(stopping)?;
            let lost: u64 = app.counters.iter().map(|c| c.drops_total(DropReason::UpcallQueueFull)).sum();
            Ok(format!(
                "{DATAPATH}:\n  flows         : (current {}) (limit {})\n  upcalls       : (answered {}) (lost {lost}) \
                 (no room {})\n  programs      : {}\n",
                stats.megaflows, stats.flow_limit, stats.upcalls, stats.flow_limit_hits, stats.programs
            ))
        }
        "coverage/show" => {
            let mut text = "Events since the start:\n".to_owned();
            let (hit, never): (Vec<_>, Vec<_>) = counters(app).await.into_iter().partition(|(_, n)| *n > 0);
            for (name, count) in hit {
                let _ = writeln!(text, "{name:<24} total: {count}");
            }
            let _ = writeln!(text, "{} events never hit", never.len());
            Ok(text)
        }
        "coverage/read-counter" => {
            let all = counters(app).await;
            let found = all.iter().find(|(name, _)| *name == words[0]);
            found.map(|(_, count)| count.to_string()).ok_or_else(|| "No such counter".into())
        }
        "memory/show" => {
            let views = app.handle.call(|slow| slow.bridge_views()).await.map_err(stopping)?;
            let stats = app.handle.call(|slow| slow.upcall_view()).await.map_err(stopping)?;
            let ports: usize = views.iter().map(|bridge| bridge.ports.len()).sum();
            let rules: usize = views.iter().map(|bridge| bridge.flows).sum();
            Ok(format!(
                "handlers:1 megaflows:{} pmds:{} ports:{ports} programs:{} revalidators:1 rules:{rules}",
                stats.megaflows,
                app.workers.len(),
                stats.programs
            ))
        }
        // Whatever was asked of the slow path before is done when it answers.
        "revalidator/wait" => app.handle.call(|_| ()).await.map(|()| String::new()).map_err(stopping),
        _ => Err(format!("\"{command}\" is not answered")),
    }
}

/// Takes what was counted before from what is printed of it.
fn since(row: &mut LcoreRow, before: &LcoreRow) {
    for (now, before) in [
        (&mut row.rx_packets, before.rx_packets),
        (&mut row.no_key_hits, before.no_key_hits),
        (&mut row.cache_hits, before.cache_hits),
        (&mut row.megaflow_hits, before.megaflow_hits),
        (&mut row.misses, before.misses),
        (&mut row.idle_cycles, before.idle_cycles),
        (&mut row.busy_cycles, before.busy_cycles),
    ] {
        *now = now.saturating_sub(before);
    }
}

/// Checks that the only datapath is meant, where one is named; the words.
fn datapaths<'w>(words: &'w [&'w str]) -> Result<&'w [&'w str], String> {
    let known = |word: &&str| word.starts_with('-') || matches!(*word, "netdev@ovs-netdev" | "ovs-netdev");
    if words.iter().all(known) {
        return Ok(words);
    }
    // The second line is what Open vSwitch prints.
    Err("ovs-vswitchd: datapath not found (Invalid argument)".into())
}

/// Packets for which the workers knew what to do, and those for which they did not.
fn hits_and_misses(app: &App) -> (u64, u64) {
    let (mut hit, mut missed) = (0, 0);
    for counters in &app.counters {
        hit += counters.cache_hits.get() + counters.megaflow_hits.get() + counters.no_key_hits.get();
        missed += counters.misses.get();
    }
    (hit, missed)
}

/// The datapath's hits and misses, and ports by bridge, both by name: OpenFlow number, datapath number, type and options.
async fn dpif_show(app: &App) -> Result<String, Stopped> {
    let mut views = app.handle.call(|slow| slow.bridge_views()).await?;
    views.sort_by(|a, b| a.name.cmp(&b.name));
    let switch = app.switch.lock().await;
    let (hit, missed) = hits_and_misses(app);
    let mut text = format!("netdev@ovs-netdev: hit:{hit} missed:{missed}\n");
    for bridge in &mut views {
        let _ = writeln!(text, "  {}:", bridge.name);
        bridge.ports.sort_by(|a, b| a.name.cmp(&b.name));
        for view in &bridge.ports {
            let port = switch.document.port(&view.name).map(|(_, port)| port);
            let is_patch = port.is_some_and(|port| port.kind == "patch");
            // A patch is no port of the datapath.
            let number = if is_patch { "none".to_owned() } else { view.id.0.to_string() };
            let config = port_config::describe(port);
            let _ = writeln!(text, "    {} {}/{number}: ({config})", view.name, view.ofport);
        }
    }
    Ok(text)
}

/// `dpctl/show`: the datapath with all ports of all bridges.
async fn dpctl_show(app: &App, statistics: bool) -> Result<String, Refused> {
    let stats = app.handle.call(|slow| slow.upcall_view()).await?;
    let views = app.handle.call(|slow| slow.bridge_views()).await?;
    let switch = app.switch.lock().await;
    let rows = interface_rows(app, &switch).await?;
    let (hit, missed) = hits_and_misses(app);
    let lost: u64 = app.counters.iter().map(|c| c.drops_total(DropReason::UpcallQueueFull)).sum();
    let mut text = format!(
        "{DATAPATH}:\n  lookups: hit:{hit} missed:{missed} lost:{lost}\n  flows: {}\n",
        stats.megaflows
    );
    let mut ports: Vec<_> = views.iter().flat_map(|bridge| &bridge.ports).collect();
    ports.sort_by_key(|port| port.id);
    for port in ports {
        let row = rows.iter().find(|row| row.name == port.name);
        let config = switch.document.port(&port.name).map(|(_, port)| port);
        let kind = match port_config::describe(config) {
            // As in Open vSwitch, a device of the kernel is what needs no type.
            kind if kind == "system" => String::new(),
            kind => format!(" ({kind})"),
        };
        let _ = writeln!(text, "  port {}: {}{kind}", port.id.0, port.name);
        let Some(row) = row.filter(|_| statistics) else { continue };
        let count = |name: &str| row.statistics.get(name).map_or_else(|| "?".to_owned(), u64::to_string);
        let _ = write!(
            text,
            "    RX packets:{} errors:{} dropped:{} overruns:? frame:?\n    TX packets:{} errors:{} dropped:{} \
             aborted:? carrier:?\n    collisions:?\n    RX bytes:{}  TX bytes:{}\n",
            count("rx_packets"),
            count("rx_errors"),
            count("rx_dropped"),
            count("tx_packets"),
            count("tx_errors"),
            count("tx_dropped"),
            count("rx_bytes"),
            count("tx_bytes"),
        );
    }
    Ok(text)
}

/// `dump-flows`: the megaflows of each worker, those of one bridge if it is named.
async fn megaflows(app: &App, bridge: Option<String>) -> Result<String, String> {
    let rows = app.handle.call(move |slow| match bridge {
        None => Some(slow.megaflow_view(None, MEGAFLOWS)),
        Some(name) => Some(slow.megaflow_view(Some(slow.state.bridge_named(&name)?), MEGAFLOWS)),
    });
    let rows = rows.await.map_err(|error| error.to_string())?.ok_or("no such bridge")?;
    let (mut text, mut lcore) = (String::new(), None);
    for row in rows {
        if lcore.replace(row.lcore) != Some(row.lcore) {
            let _ = writeln!(text, "flow-dump from pmd on cpu core: {}", row.lcore);
        }
        let used = row.used.map_or_else(|| "never".to_owned(), |used| format!("{used:.3}s"));
        let comma = if row.flow.is_empty() { "" } else { ", " };
        let _ = writeln!(
            text,
            "{}{comma}packets:{}, bytes:{}, used:{used}, actions:{}",
            row.flow, row.packets, row.bytes, row.actions
        );
    }
    Ok(text)
}

/// Everything that is counted: what workers did, and drops by their reasons.
async fn counters(app: &App) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let sum = |count: fn(&datapath::counters::WorkerCounters) -> u64| -> u64 {
        app.counters.iter().map(|counters| count(counters)).sum()
    };
    for (name, count) in [
        ("rx_packets", sum(|c| c.rx.get())),
        ("tx_packets", sum(|c| c.tx.get())),
        ("cache_hit", sum(|c| c.cache_hits.get())),
        ("megaflow_hit", sum(|c| c.megaflow_hits.get())),
        ("no_key_hit", sum(|c| c.no_key_hits.get())),
        ("miss", sum(|c| c.misses.get())),
        ("upcall", sum(|c| c.upcalls.get())),
        ("punt", sum(|c| c.punted.get())),
    ] {
        all.push((name.to_owned(), count));
    }
    let switch = app.switch.lock().await;
    all.extend(drop_rows(app, &switch).into_iter().map(|row| (format!("drop_{}", row.reason), row.packets)));
    all
}
