//! Answers as text for people.

use api::{
    BridgeRow, CommandOutput, Drops, Event, EvpnRow, FdbEntry, GroupRow, InterfaceRow, LcoreRow, MegaflowRow,
    MeterRow, MonitoredPacket, NeighbourEntry, RouteEntry, Show, Trace, UpcallStats,
};
use flow::ofp::PORT_LOCAL;
use std::fmt::Write as _;

/// Rows under their heads, columns as wide as needed. Columns whose name starts with `>` go to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.trim_start_matches('>').len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heads: Vec<String> = head.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for ((cell, width), name) in row.iter().zip(&widths).zip(head) {
            // Writing to a String cannot fail.
            let _ = if name.starts_with('>') {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn line(text: &mut String, indent: usize, content: impl std::fmt::Display) {
    let _ = writeln!(text, "{:indent$}{content}", "");
}

/// Something that happened, in a line.
pub fn event(event: &Event) -> String {
    let mut text = format!("{} {:>5} {}", event.time, event.level.to_uppercase(), event.message);
    for (name, value) in &event.fields {
        let _ = write!(text, " {name}={value}");
    }
    text + "\n"
}

/// Each on a line of its own.
pub fn each_line(items: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let mut text = String::new();
    for item in items {
        line(&mut text, 0, item);
    }
    text
}

/// One command's output.
pub fn output(output: &CommandOutput) -> String {
    match output {
        CommandOutput::None | CommandOutput::Exists(_) => String::new(),
        CommandOutput::Lines(lines) => each_line(lines),
        CommandOutput::Show(all) => show(all),
        CommandOutput::Values(values) => each_line(values),
        CommandOutput::Records(records) => {
            let text = |record: &api::Record| {
                each_line(record.columns.iter().map(|(name, value)| format!("{name:<20}: {value}")))
            };
            let texts: Vec<String> = records.iter().map(text).collect();
            texts.join("\n")
        }
    }
}

/// The same as JSON: records are objects, a single value stands for itself.
pub fn output_json(output: &CommandOutput) -> serde_json::Value {
    use serde_json::{Value, json};
    match output {
        CommandOutput::None => Value::Null,
        CommandOutput::Exists(exists) => json!(exists),
        CommandOutput::Lines(lines) => json!(lines),
        CommandOutput::Show(all) => json!(all),
        CommandOutput::Values(values) => match values.as_slice() {
            [one] => json!(one),
            many => json!(many),
        },
        CommandOutput::Records(records) => {
            let object = |columns: &[(String, api::Value)]| {
                columns
                    .iter()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect::<serde_json::Map<_, _>>()
            };
            json!(records.iter().map(|record| object(&record.columns)).collect::<Vec<_>>())
        }
    }
}

fn show(all: &Show) -> String {
    let mut text = String::new();
    for bridge in &all.bridges {
        show_bridge(&mut text, bridge);
    }
    line(&mut text, 0, format_args!("vxswitch {}", all.version));
    text
}

fn show_bridge(text: &mut String, bridge: &BridgeRow) {
    line(text, 0, format_args!("Bridge {}", bridge.name));
    line(text, 4, format_args!("fail_mode: {}", bridge.fail_mode));
    line(text, 4, format_args!("mac: {}", bridge.mac));
    if !bridge.addresses.is_empty() {
        line(text, 4, format_args!("address: {}", bridge.addresses.join(", ")));
    }
    for port in &bridge.ports {
        show_port(text, port);
        if let Some(warning) = cannot_fit(port, &bridge.ports) {
            line(text, 12, format_args!("warning: {warning}"));
        }
    }
}

/// Which ports of a tunnel's bridge bring longer packets than fit it, if any do.
fn cannot_fit(tunnel: &InterfaceRow, ports: &[InterfaceRow]) -> Option<String> {
    let fits = tunnel.remotes.iter().filter_map(|remote| remote.mtu).min()?;
    let too_large = ports.iter().filter_map(|port| Some((&port.name, port.mtu.filter(|mtu| *mtu > fits)?)));
    let divides = tunnel.options.get("df_default").is_some_and(|df| df == "false");
    let names: Vec<String> = too_large.map(|(name, mtu)| format!("{name} has MTU {mtu}")).collect();
    (!names.is_empty()).then(|| {
        format!(
            "packets of up to {fits} bytes fit this tunnel, but {}: {}",
            names.join(", "),
            if divides {
                "longer ones leave in outer fragments, and senders of IPv6, and of IPv4 with DF, are told by ICMP"
            } else {
                "longer ones are dropped, and their senders are told by ICMP"
            }
        )
    })
}

fn show_port(text: &mut String, port: &InterfaceRow) {
    line(text, 4, format_args!("Port {}", port.name));
    if let Some(tag) = port.tag {
        line(text, 8, format_args!("tag: {tag}"));
    }
    if !port.trunks.is_empty() {
        let trunks: Vec<String> = port.trunks.iter().map(u16::to_string).collect();
        line(text, 8, format_args!("trunks: [{}]", trunks.join(", ")));
    }
    line(text, 8, format_args!("Interface {}", port.name));
    line(text, 12, format_args!("type: {}", port.kind));
    if !port.options.is_empty() {
        let options: Vec<String> = port.options.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
        line(text, 12, format_args!("options: {{{}}}", options.join(", ")));
    }
    if let Some(error) = &port.error {
        line(text, 12, format_args!("error: {error:?}"));
    }
    if let Some(driver) = &port.driver {
        let (rx, tx) = port.queues.unwrap_or_default();
        let mtu = port.mtu.unwrap_or_default();
        let mac = port.mac_in_use.as_deref().unwrap_or("-");
        line(text, 12, format_args!("device: {driver}, MAC {mac}, MTU {mtu}, {rx} RX and {tx} TX queues"));
        line(text, 12, format_args!("link: {}", port.link_state));
    }
    if !port.bfd_status.is_empty() {
        let status = |key: &str| port.bfd_status.get(key).map_or("-", String::as_str);
        let is = if status("forwarding") == "true" { "forwarding" } else { "not forwarding" };
        let (state, remote) = (status("state"), status("remote_state"));
        line(text, 12, format_args!("bfd: {is}, {state} here, {remote} there ({})", status("diagnostic")));
    }
    for remote in &port.remotes {
        let mut state = format!("remote {}: {}", remote.ip, remote.state);
        if let (Some(source), Some(mac)) = (&remote.source, &remote.next_hop_mac) {
            let _ = write!(state, " from {source} by {mac}");
        }
        if let Some(hop) = &remote.next_hop {
            let _ = write!(state, ", asking for {hop}");
        }
        if let Some(mtu) = remote.mtu {
            let _ = write!(state, ", MTU {mtu}");
        }
        line(text, 12, state);
    }
}

/// `dump-ports`, in `ovs-ofctl`'s shape.
pub fn ports(rows: &[InterfaceRow]) -> String {
    let mut text = String::new();
    for row in rows {
        let count = |name: &str| row.statistics.get(name).copied().unwrap_or(0);
        let name = if row.ofport == PORT_LOCAL { "LOCAL" } else { &row.name };
        for way in ["rx", "tx"] {
            let start = if way == "rx" { format!("  port {name:>8}: ") } else { " ".repeat(17) };
            let _ = writeln!(
                text,
                "{start}{way} pkts={}, bytes={}, drop={}, errs={}",
                count(&format!("{way}_packets")),
                count(&format!("{way}_bytes")),
                count(&format!("{way}_dropped")),
                count(&format!("{way}_errors")),
            );
        }
    }
    text
}

/// `dump-group-stats`, as `ovs-ofctl` prints it.
pub fn group_stats(rows: &[GroupRow]) -> String {
    each_line(rows.iter().map(|row| {
        let bucket = |(at, (packets, bytes)): (usize, &(u64, u64))| {
            format!(",bucket{at}:packet_count={packets},byte_count={bytes}")
        };
        let buckets: String = row.buckets.iter().enumerate().map(bucket).collect();
        format!(
            " group_id={},duration={}s,ref_count={},packet_count={},byte_count={}{buckets}",
            row.id, row.duration, row.flows, row.packets, row.bytes
        )
    }))
}

/// `dump-meters`, as `ovs-ofctl` prints it.
pub fn meters(rows: &[MeterRow]) -> String {
    each_line(rows.iter().map(|row| match row.meter.split_once(",bands=") {
        Some((head, band)) => format!("{} bands=\n{band}", head.replace(',', " ")),
        None => row.meter.clone(),
    }))
}

/// `meter-stats`, as `ovs-ofctl` prints it. What the one band has counted is what was dropped.
pub fn meter_stats(rows: &[MeterRow]) -> String {
    each_line(rows.iter().map(|row| {
        format!(
            "meter:{} flow_count:{} packet_in_count:{} byte_in_count:{} duration:{}s bands:\n\
             0: packet_count:{} byte_count:{}",
            row.id,
            row.flows,
            row.passed_packets + row.dropped_packets,
            row.passed_bytes + row.dropped_bytes,
            row.duration,
            row.dropped_packets,
            row.dropped_bytes
        )
    }))
}

/// `fdb show`, as `ovs-appctl fdb/show` with the remote VTEP.
pub fn fdb(rows: &[FdbEntry]) -> String {
    let cells = rows.iter().map(|row| {
        let age = if row.fixed { "static".to_owned() } else { row.age.to_string() };
        let remote = row.remote.clone().unwrap_or_default();
        vec![row.port.clone(), row.vlan.to_string(), row.mac.clone(), age, remote]
    });
    table(&["port", ">VLAN", "MAC", ">Age", "remote"], &cells.collect::<Vec<_>>())
}

/// `neigh show`.
pub fn neighbours(rows: &[NeighbourEntry]) -> String {
    let cells = rows.iter().map(|row| {
        let mac = row.mac.clone().unwrap_or_else(|| "-".into());
        let at = match (&row.port, &row.remote) {
            (Some(port), Some(remote)) => format!("{port} {remote}"),
            (port, _) => port.clone().unwrap_or_default(),
        };
        let age = row.age.to_string();
        vec![row.bridge.clone(), row.vlan.to_string(), row.ip.clone(), mac, row.state.clone(), age, at]
    });
    table(&["bridge", ">VLAN", "IP", "MAC", "state", ">age", "at"], &cells.collect::<Vec<_>>())
}

/// `route show`, as `ip route` prints it.
pub fn routes(rows: &[RouteEntry]) -> String {
    let line = |row: &RouteEntry| {
        let via = row.via.as_ref().map_or_else(String::new, |via| format!(" via {via}"));
        let connected = if row.connected { " connected" } else { "" };
        format!("{}{via} dev {}{connected}\n", row.to, row.bridge)
    };
    rows.iter().map(line).collect()
}

/// A megaflow, as `ovs-dpctl dump-flows` prints it.
pub fn megaflow(row: &MegaflowRow) -> String {
    let used = row.used.map_or_else(|| "never".to_owned(), |used| format!("{used:.3}s"));
    let comma = if row.flow.is_empty() { "" } else { ", " };
    format!(
        "{}{comma}packets:{}, bytes:{}, used:{used}, actions:{}\n",
        row.flow, row.packets, row.bytes, row.actions
    )
}

/// A worker.
pub fn lcore(row: &LcoreRow) -> String {
    let mut text = String::new();
    line(&mut text, 0, format_args!("lcore {}:", row.lcore));
    let polled = if row.rx.is_empty() { "nothing".to_owned() } else { row.rx.join(" ") };
    let cycles = row.cycles_per_packet.map_or_else(|| "-".to_owned(), |c| format!("{c:.0}"));
    let all = (row.busy_cycles + row.idle_cycles).max(1);
    let asleep = format!(
        "{:.1} %, for at most {} us at a time (pmd-sleep-max)",
        100.0 * row.sleep_cycles as f64 / all as f64,
        row.sleep_max
    );
    let lookups = row.cache_hits + row.megaflow_hits + row.misses;
    let share = |n: u64| format!("{n} ({:.1} %)", 100.0 * n as f64 / lookups.max(1) as f64);
    for (name, value) in [
        ("polls (port/queue)", polled),
        ("iterations", row.iterations.to_string()),
        ("busy", format!("{:.1} %", row.busy_percent)),
        ("asleep", asleep),
        ("cycles a packet", cycles),
        ("packets", format!("rx {}, tx {}, dropped {}", row.rx_packets, row.tx_packets, row.dropped)),
        ("cache hits", share(row.cache_hits)),
        ("megaflow hits", share(row.megaflow_hits)),
        ("no-key hits", share(row.no_key_hits)),
        ("misses", share(row.misses)),
        ("upcalls", row.upcalls.to_string()),
        ("held", row.held.to_string()),
        ("merged", row.merged.to_string()),
        ("handed over", format!("out {}, in {}", row.tx_handoff_sent, row.tx_handoff_received)),
        ("megaflows", format!("{} with {} masks", row.megaflows, row.masks)),
        (
            "bytes",
            format!("{:.0} a megaflow, {} a cache entry", row.bytes_per_megaflow, row.bytes_per_cache_entry),
        ),
    ] {
        line(&mut text, 2, format_args!("{name:<20}{value}"));
    }
    text
}

/// A row of `evpn show`.
pub fn evpn(row: &EvpnRow) -> String {
    let mut text = String::new();
    line(&mut text, 0, format_args!("VNI {}: port {} of bridge {}", row.vni, row.port, row.bridge));
    let some = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let zebra = match (row.zebra, row.holding) {
        (Some(pid), false) => format!("process {pid}"),
        (Some(pid), true) => format!("process {pid}, new: routes of before are kept for a while"),
        (None, true) => "gone: its routes are kept".to_owned(),
        (None, false) => "not seen".to_owned(),
    };
    let vteps: Vec<String> = row
        .vteps
        .iter()
        .map(|v| if v.flood { v.ip.clone() } else { format!("{} (no flooding)", v.ip) })
        .collect();
    line(&mut text, 2, format_args!("{:<20}{}", "local VTEP", some(row.local.clone())));
    line(
        &mut text,
        2,
        format_args!(
            "{:<20}{}",
            "remote VTEPs",
            if vteps.is_empty() { "-".to_owned() } else { vteps.join(" ") }
        ),
    );
    line(
        &mut text,
        2,
        format_args!("{:<20}local {}, remote {}", "MAC addresses", row.local_macs, row.remote_macs),
    );
    line(
        &mut text,
        2,
        format_args!("{:<20}local {}, remote {}", "host addresses", row.local_hosts, row.remote_hosts),
    );
    line(&mut text, 2, format_args!("{:<20}{zebra}", "zebra"));
    if let Some(netns) = &row.netns {
        line(&mut text, 2, format_args!("{:<20}{netns}", "namespace"));
    }
    if !row.duplicates.is_empty() {
        line(&mut text, 2, format_args!("{:<20}{}", "duplicates", row.duplicates.join(" ")));
    }
    if let Some(error) = &row.error {
        line(&mut text, 2, format_args!("{:<20}{error}", "error"));
    }
    text
}

/// `upcall show`.
pub fn upcalls(stats: &UpcallStats) -> String {
    format!(
        "upcalls answered: {}, lost: {}\nmegaflows: {} (limit {} a worker, reached {} times)\nprograms: {}\n",
        stats.upcalls, stats.lost, stats.megaflows, stats.flow_limit, stats.flow_limit_hits, stats.programs
    )
}

/// `drops`; `all` shows reasons that never happened too.
pub fn drops(drops: &Drops, all: bool) -> String {
    let mut text = String::new();
    let rows: Vec<Vec<String>> = drops
        .drops
        .iter()
        .filter(|row| all || row.packets > 0)
        .map(|row| {
            let ports: Vec<String> = row.ports.iter().map(|(port, n)| format!("{port}:{n}")).collect();
            vec![row.reason.clone(), row.packets.to_string(), ports.join(" "), row.description.clone()]
        })
        .collect();
    if rows.is_empty() {
        text += "no drops\n";
    } else {
        text += &table(&["reason", ">packets", "ports", "description"], &rows);
    }
    let malformed: Vec<Vec<String>> = drops
        .malformed
        .iter()
        .filter(|row| all || row.packets > 0)
        .map(|row| vec![row.reason.clone(), row.packets.to_string(), row.description.clone()])
        .collect();
    if !malformed.is_empty() {
        text += "\nmalformed, switched by what could be read:\n";
        text += &table(&["kind", ">packets", "description"], &malformed);
    }
    let unknown: Vec<Vec<String>> = drops
        .unknown_tunnels
        .iter()
        .map(|row| {
            vec![row.key.to_string(), row.remote.clone(), row.local.clone(), format!("{:.0} s ago", row.age)]
        })
        .collect();
    if !unknown.is_empty() {
        text += "\nlast tunnel packets that no tunnel port takes (tunnel_unknown):\n";
        text += &table(&[">key", "from", "to", ">asked"], &unknown);
    }
    text
}

/// `monitor`: a packet, with the time of day (UTC).
pub fn monitored(packet: &MonitoredPacket) -> String {
    let micros = (packet.time * 1e6) as u64;
    let (seconds, micros) = (micros / 1_000_000 % 86_400, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let missed = match packet.missed {
        0 => String::new(),
        missed => format!("; {missed} packets before it are not shown"),
    };
    let mut text = format!(
        "{hour:02}:{minute:02}:{second:02}.{micros:06} {} ({}), {} bytes{missed}\n",
        packet.port, packet.bridge, packet.length
    );
    text += &packet.trace.as_ref().map_or_else(String::new, trace);
    if let Some(drop) = &packet.dropped {
        line(&mut text, 0, format_args!("Dropped on its way: {}: {}", drop.reason, drop.description));
    }
    text + "\n"
}

/// `trace`, as `ofproto/trace` prints it.
pub fn trace(trace: &Trace) -> String {
    let mut text = format!("Flow: {}\n\n", trace.flow);
    for step in &trace.steps {
        line(&mut text, 0, step);
    }
    let megaflow = if trace.megaflow.is_empty() { "any packet" } else { &trace.megaflow };
    let flow = if trace.final_flow.is_empty() { "unchanged" } else { &trace.final_flow };
    let _ = write!(text, "\nFinal flow: {flow}\nMegaflow: {megaflow}\nDatapath actions: {}\n", trace.actions);
    for header in &trace.headers {
        line(&mut text, 0, format_args!("Tunnel header: {header}"));
    }
    for sent in &trace.sent {
        line(&mut text, 0, format_args!("Sent: {sent}"));
    }
    if let Some(inner) = &trace.inner {
        return text + "\nInner frame:\n" + &self::trace(inner);
    }
    if let Some(outer) = &trace.outer {
        return text + "\nTunnel packet:\n" + &self::trace(outer);
    }
    if let Some(drop) = &trace.reason {
        line(&mut text, 0, format_args!("Drop reason: {}: {}", drop.reason, drop.description));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{DropRow, Record, UnknownTunnelRow, Value};
    use config::vsctl::{ColumnValue, Table};

    #[test]
    fn tables_align() {
        let rows =
            [vec!["a".into(), "100".into(), "x".into()], vec!["long".into(), "7".into(), String::new()]];
        assert_eq!(table(&["name", ">n", "z"], &rows), "name    n  z\na     100  x\nlong    7\n");
    }

    #[test]
    fn drops_hide_what_never_happened() {
        let row = |reason: &str, packets| DropRow {
            reason: reason.into(),
            packets,
            ports: vec![("p0".into(), packets)],
            description: "why".into(),
        };
        let all = Drops {
            drops: vec![row("rule", 3), row("tx_full", 0)],
            malformed: vec![row("ipv4_header", 0)],
            ..Drops::default()
        };
        let text = drops(&all, false);
        assert!(text.contains("rule") && text.contains("p0:3") && !text.contains("tx_full"), "{text}");
        assert!(drops(&all, true).contains("ipv4_header"));
        assert_eq!(drops(&Drops::default(), false), "no drops\n");
        let unknown = UnknownTunnelRow {
            key: 101,
            remote: "192.168.1.2".into(),
            local: "192.168.1.1".into(),
            age: 3.2,
        };
        let text = drops(&Drops { unknown_tunnels: vec![unknown], ..Drops::default() }, false);
        assert!(
            ["101", "192.168.1.2", "192.168.1.1", "3 s ago"].iter().all(|word| text.contains(word)),
            "{text}"
        );
    }

    #[test]
    fn a_megaflow_is_one_line() {
        let row = MegaflowRow {
            lcore: 0,
            bridge: None,
            flow: "in_port(p0)".into(),
            packets: 2,
            bytes: 120,
            used: Some(0.5),
            actions: "p1".into(),
        };
        assert_eq!(megaflow(&row), "in_port(p0), packets:2, bytes:120, used:0.500s, actions:p1\n");
    }

    #[test]
    fn records_are_objects_in_json() {
        let columns = vec![
            ("name".to_owned(), Value::Column(ColumnValue::Text("p0".into()))),
            ("statistics".to_owned(), Value::Counters([("rx_packets".to_owned(), 4)].into())),
        ];
        let records = CommandOutput::Records(vec![Record { table: Table::Interface, columns }]);
        assert_eq!(output_json(&records)[0]["statistics"]["rx_packets"], 4);
        assert!(output(&records).contains("{rx_packets=4}"));
    }
}
