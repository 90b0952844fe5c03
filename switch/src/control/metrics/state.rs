//! Metrics of what is up, and of what there is to use: links, tunnels, neighbours, RX queues, packet buffers.

use super::families::Families;
use crate::control::app::App;
use crate::control::apply::Switch;
use crate::control::handlers::refused::Refused;
use crate::control::handlers::views::bridge_rows;
use crate::control::loads;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// Most remotes that have a line of their own: rules can make as many as there are addresses.
const REMOTES: usize = 4096;

/// Those that have a line also where no neighbour is in them.
const NEIGHBOUR_STATES: [&str; 4] = ["PERMANENT", "REACHABLE", "INCOMPLETE", "FAILED"];

/// A port's link.
struct LinkSample {
    port: String,
    bridge: String,
    kind: String,
    up: bool,
}

/// A remote of a tunnel port.
struct TunnelSample {
    port: String,
    remote: String,
    /// As configured: a number or `flow`.
    key: String,
    state: String,
}

/// An RX queue.
struct QueueSample {
    port: String,
    queue: String,
    lcore: String,
    packets: u64,
    /// Share of the worker's time, 0 to 1; `None` before it has been measured.
    load: Option<f64>,
}

/// What is up, at one moment.
#[derive(Default)]
pub(super) struct Condition {
    links: Vec<LinkSample>,
    tunnels: Vec<TunnelSample>,
    /// By bridge and state.
    neighbours: BTreeMap<(String, String), usize>,
    queues: Vec<QueueSample>,
    /// Free and all.
    buffers: (u32, u32),
    /// Ports with devices, and whether the device does not run.
    faults: Vec<(String, bool)>,
    /// BFD sessions.
    bfd: Vec<api::BfdRow>,
}

impl Condition {
    /// Asks devices and the slow path.
    pub async fn take(app: &App, switch: &Switch) -> Result<Condition, Refused> {
        let mut state = Condition {
            buffers: (switch.pool().available(), switch.pool().capacity()),
            ..Condition::default()
        };
        let bridges = bridge_rows(app, switch).await?;
        for bridge in bridges.iter().filter(|bridge| !bridge.addresses.is_empty()) {
            for name in NEIGHBOUR_STATES {
                state.neighbours.insert((bridge.name.clone(), name.to_owned()), 0);
            }
        }
        for row in bridges.into_iter().flat_map(|bridge| bridge.ports) {
            if row.driver.is_some() || row.error.is_some() {
                state.faults.push((row.name.clone(), row.error.is_some()));
            }
            let key = row.options.get("key").map_or("0", String::as_str);
            for remote in &row.remotes {
                state.tunnels.push(TunnelSample {
                    port: row.name.clone(),
                    remote: remote.ip.clone(),
                    key: key.to_owned(),
                    state: remote.state.clone(),
                });
            }
            if row.link_state != "unknown" {
                let up = row.link_state == "up";
                state.links.push(LinkSample { port: row.name, bridge: row.bridge, kind: row.kind, up });
            }
        }
        state.bfd = app.handle.call(|slow| slow.bfd_view()).await?;
        for row in app.handle.call(|slow| slow.neighbour_view(None)).await? {
            *state.neighbours.entry((row.bridge, row.state)).or_default() += 1;
        }
        let loads = app.loads.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, port) in &switch.ports {
            let Some(device) = &port.device else { continue };
            let packets = device.stats().rx_queue_packets;
            for ((queue, worker), packets) in device.pollers.iter().enumerate().zip(packets) {
                let lcore = app.workers.get(*worker).map_or_else(String::new, |w| w.lcore.to_string());
                state.queues.push(QueueSample {
                    port: name.clone(),
                    queue: queue.to_string(),
                    lcore,
                    packets,
                    load: loads.of_queue(name, queue as u16, loads::EVERY).map(|percent| percent / 100.0),
                });
            }
        }
        Ok(state)
    }

    /// As metrics.
    pub fn collect(&self, out: &mut Families) {
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let links: Vec<_> = self
            .links
            .iter()
            .map(|l| (vec![l.port.as_str(), l.bridge.as_str(), l.kind.as_str()], flag(l.up)))
            .collect();
        out.gauges(
            "vxswitch_port_link_up",
            "Whether packets can pass: 1 or 0. A tunnel's link is up when packets can be sent to at least one remote.",
            &["port", "bridge", "type"],
            &links,
        );
        let faults: Vec<_> =
            self.faults.iter().map(|(port, fault)| (vec![port.as_str()], flag(*fault))).collect();
        out.gauges(
            "vxswitch_port_fault",
            "1 for a port whose device does not run, else 0.",
            &["port"],
            &faults,
        );
        let bfd = |value: fn(&api::BfdRow) -> f64| -> Vec<_> {
            self.bfd.iter().map(|row| (vec![row.interface.as_str()], value(row))).collect()
        };
        out.gauges(
            "vxswitch_bfd_forwarding",
            "Whether packets get to the other side of a port by its BFD session: 1 or 0.",
            &["port"],
            &bfd(|row| if row.forwarding { 1.0 } else { 0.0 }),
        );
        let flaps: Vec<_> =
            self.bfd.iter().map(|row| (vec![row.interface.as_str()], row.flap_count)).collect();
        out.counters(
            "vxswitch_bfd_flaps_total",
            "How often vxswitch_bfd_forwarding has changed.",
            &["port"],
            &flaps,
        );
        out.gauges(
            "vxswitch_bfd_detection_seconds",
            "Time without a control packet after which the other side of a port counts as gone.",
            &["port"],
            &bfd(|row| (row.rx_interval * u64::from(row.remote.mult.max(1))) as f64 / 1000.0),
        );
        let shown = &self.tunnels[..self.tunnels.len().min(REMOTES)];
        let tunnels: Vec<_> = shown
            .iter()
            .map(|t| (vec![t.port.as_str(), t.remote.as_str(), t.key.as_str()], flag(t.state == "ready")))
            .collect();
        out.gauges(
            "vxswitch_tunnel_ready",
            "Whether packets can be sent to a remote VTEP: 1 or 0. At most 4096 have a line.",
            &["port", "remote", "key"],
            &tunnels,
        );
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for tunnel in &self.tunnels {
            *states.entry(tunnel.state.as_str()).or_default() += 1;
        }
        let states: Vec<_> = states.into_iter().map(|(state, n)| (vec![state], n as f64)).collect();
        out.gauges(
            "vxswitch_tunnel_remotes",
            "Remote VTEPs by state: ready, resolving, or the reason why nothing can be sent.",
            &["state"],
            &states,
        );
        let neighbours: Vec<_> = self
            .neighbours
            .iter()
            .map(|((bridge, state), n)| (vec![bridge.as_str(), state.as_str()], *n as f64))
            .collect();
        out.gauges("vxswitch_neighbours", "Neighbours by state.", &["bridge", "state"], &neighbours);
        let queues: Vec<_> = self
            .queues
            .iter()
            .map(|q| (vec![q.port.as_str(), q.queue.as_str(), q.lcore.as_str()], q.packets))
            .collect();
        out.counters(
            "vxswitch_rx_queue_packets_total",
            "Packets received by an RX queue, as the driver counts its first 16; 0 where it does not.",
            &["port", "queue", "lcore"],
            &queues,
        );
        let loads: Vec<_> = self
            .queues
            .iter()
            .filter_map(|q| Some((vec![q.port.as_str(), q.queue.as_str(), q.lcore.as_str()], q.load?)))
            .collect();
        out.gauges(
            "vxswitch_rx_queue_load_ratio",
            "Share of its worker's time that an RX queue took in the last five seconds, measured in a thousand loops a second.",
            &["port", "queue", "lcore"],
            &loads,
        );
        let (free, all) = self.buffers;
        out.gauges(
            "vxswitch_mbufs",
            "Packet buffers of the pool.",
            &["state"],
            &[(vec!["free"], f64::from(free)), (vec!["used"], f64::from(all.saturating_sub(free)))],
        );
    }
}
