//! Metrics of the traffic of tunnels, by remote VTEP and by VNI.

use super::families::Families;
use crate::slowpath::SlowPath;
use crate::slowpath::traffic::{Directions, MAX_ROWS};
use flow::program::PortId;
use flow::stats::PacketStats;

/// Label of what has no row of its own.
const OTHER: &str = "other";

/// Port, remote VTEP or VNI, and what it is.
type Row = (String, String, Directions);

/// Traffic at one moment.
#[derive(Default)]
pub(super) struct TrafficSample {
    vteps: Vec<Row>,
    vnis: Vec<Row>,
}

impl TrafficSample {
    /// What the slow path has counted until now.
    pub fn take(slow: &mut SlowPath) -> TrafficSample {
        slow.collect_all();
        let name = |id: PortId| slow.state.port(id).map(|port| port.name.clone());
        let label = |of: Option<String>| of.unwrap_or_else(|| OTHER.to_owned());
        let vteps = slow.traffic.by_vtep();
        let vnis = slow.traffic.by_vni();
        TrafficSample {
            vteps: vteps
                .filter_map(|(port, ip, n)| Some((name(port)?, label(ip.map(|ip| ip.to_string())), n)))
                .collect(),
            vnis: vnis
                .filter_map(|(port, vni, n)| Some((name(port)?, label(vni.map(|vni| vni.to_string())), n)))
                .collect(),
        }
    }

    /// As metrics.
    pub fn collect(&self, out: &mut Families) {
        type Count = fn(&Directions) -> PacketStats;
        let directions: [(&str, &str, Count); 2] =
            [("rx", "decapsulated", |row| row.rx), ("tx", "encapsulated", |row| row.tx)];
        let tables = [("vtep", "remote", "remote VTEP", &self.vteps), ("vni", "vni", "VNI", &self.vnis)];
        for (table, label, of, rows) in tables {
            for (direction, verb, count) in directions {
                let mut family = |unit: &str, value: fn(PacketStats) -> u64, help: String| {
                    let rows: Vec<_> = rows
                        .iter()
                        .map(|(port, of, row)| (vec![port.as_str(), of.as_str()], value(count(row))))
                        .collect();
                    let name = format!("vxswitch_{table}_{direction}_{unit}_total");
                    out.counters(&name, &help, &["port", label], &rows);
                };
                family(
                    "packets",
                    |stats| stats.packets,
                    format!(
                        "Inner frames {verb} by megaflows of one {of}. At most {MAX_ROWS} have a line; \"{OTHER}\" is the rest of a port."
                    ),
                );
                family(
                    "bytes",
                    |stats| stats.bytes,
                    format!("Bytes of the inner frames {verb} by megaflows of one {of}."),
                );
            }
        }
    }
}
