//! `dump-flows`: how the flows are printed, and in which order.

use super::{Failure, print};
use api::{FlowRow, InterfaceRow};
use flow::ofp::{Field, FlowSpec, FlowStats, PortMap, PortNames, format_flow, parse_flow};
use std::cmp::Ordering;
use std::time::Duration;

/// A criterion of `--sort` or `--rsort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sort {
    /// `None`: the priority.
    field: Option<Field>,
    descending: bool,
}

/// Options of `dump-flows`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dump {
    no_stats: bool,
    numbers: bool,
    sort: Vec<Sort>,
}

impl Dump {
    /// Takes an option; `Ok(false)`: it is none of these.
    pub fn take(&mut self, option: &str) -> Result<bool, Failure> {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("--no-stats", None) => self.no_stats = true,
            ("--stats", None) => self.no_stats = false,
            ("--no-names", None) => self.numbers = true,
            ("--names", None) => self.numbers = false,
            ("--sort" | "--rsort", field) => {
                let field = match field {
                    None | Some("priority") => None,
                    Some(text) => match Field::from_name(text) {
                        Some(field) => Some(field),
                        None => return Failure::usage(format!("{name}: found {text:?}, expected a field")),
                    },
                };
                self.sort.push(Sort { field, descending: name == "--rsort" });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The lines of `dump-flows`.
    pub fn print(&self, mut rows: Vec<FlowRow>, ports: &[InterfaceRow]) -> String {
        let names: PortMap = ports.iter().map(|port| (port.name.clone(), port.ofport)).collect();
        let spec = |row: &FlowRow| parse_flow(&row.flow, &names).ok();
        if !self.sort.is_empty() {
            let mut keyed: Vec<_> = rows.into_iter().map(|row| (spec(&row), row)).collect();
            keyed.sort_by(|(a, _), (b, _)| match (a, b) {
                (Some(a), Some(b)) => self.compare(a, b),
                _ => Ordering::Equal,
            });
            rows = keyed.into_iter().map(|(_, row)| row).collect();
        }
        print::each_line(rows.iter().map(|row| format!(" {}", self.line(row, &names).trim_start())))
    }

    fn line(&self, row: &FlowRow, names: &PortMap) -> String {
        let Ok(spec) = parse_flow(&row.flow, names) else { return row.text.clone() };
        let none: &dyn PortNames = &();
        let shown = if self.numbers { none } else { names };
        if !self.no_stats {
            return if self.numbers {
                format_flow(&spec, Some(&stats(row)), shown)
            } else {
                row.text.clone()
            };
        }
        let line = format_flow(&spec, None, shown);
        // A cookie that nobody gave is not printed without statistics.
        line.trim_start().trim_start_matches("cookie=0x0, ").to_owned()
    }

    /// As `ovs-ofctl`: flows that do not say a field come last, whatever the order.
    fn compare(&self, a: &FlowSpec, b: &FlowSpec) -> Ordering {
        for Sort { field, descending } in &self.sort {
            let order = match field {
                None => a.priority.cmp(&b.priority),
                Some(field) => {
                    let says = |spec: &FlowSpec| field.get(spec.matches.mask()) != 0;
                    match (says(a), says(b)) {
                        (true, false) => return Ordering::Less,
                        (false, true) => return Ordering::Greater,
                        _ => field.get(a.matches.key()).cmp(&field.get(b.matches.key())),
                    }
                }
            };
            if order != Ordering::Equal {
                return if *descending { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    }
}

/// What a row counts, as it prints it.
fn stats(row: &FlowRow) -> FlowStats {
    let age =
        row.text.split_once("idle_age=").and_then(|(_, rest)| rest.split([',', ' ']).next()?.parse().ok());
    FlowStats {
        duration: Duration::try_from_secs_f64(row.duration).unwrap_or_default(),
        packets: row.packets,
        bytes: row.bytes,
        idle_age: age.map(Duration::from_secs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(flows: &[&str]) -> Vec<FlowRow> {
        let row = |flow: &&str| {
            let names = names();
            let stats = FlowStats { packets: 7, bytes: 700, ..FlowStats::default() };
            let spec = parse_flow(flow, &names).unwrap();
            FlowRow {
                flow: (*flow).to_owned(),
                packets: 7,
                bytes: 700,
                duration: 0.0,
                text: format_flow(&spec, Some(&stats), &names),
            }
        };
        flows.iter().map(row).collect()
    }

    fn names() -> PortMap {
        [("p1".to_owned(), 1), ("p2".to_owned(), 2)].into_iter().collect()
    }

    fn dump(options: &str, flows: &[&str]) -> Vec<String> {
        let mut dump = Dump::default();
        for option in options.split_whitespace() {
            assert!(dump.take(option).unwrap(), "{option}");
        }
        let port = |name: &str, ofport| {
            let json = serde_json::json!({ "name": name, "bridge": "br0", "ofport": ofport, "kind": "dpdk" });
            serde_json::from_value::<InterfaceRow>(json).unwrap()
        };
        let text = dump.print(rows(flows), &[port("p1", 1), port("p2", 2)]);
        text.lines().map(str::to_owned).collect()
    }

    /// Compared with `ovs-ofctl` 3.1.
    #[test]
    fn flows_print_as_asked() {
        let flows = ["priority=7,in_port=p1,actions=output:p2", "cookie=0x5,table=3,ip,actions=drop"];
        assert_eq!(
            dump("--no-stats", &flows),
            [" priority=7,in_port=p1 actions=output:p2", " cookie=0x5, table=3, ip actions=drop"]
        );
        assert_eq!(dump("--no-names --no-stats", &flows[..1]), [" priority=7,in_port=1 actions=output:2"]);
        assert_eq!(
            dump("--no-names", &flows[..1]),
            [
                " cookie=0x0, duration=0s, table=0, n_packets=7, n_bytes=700, priority=7,in_port=1 actions=output:2"
            ]
        );
        assert_eq!(dump("--no-stats --stats --no-names --names", &flows[..1]), dump("", &flows[..1]));
    }

    #[test]
    fn order_is_by_priority_or_by_fields() {
        let flows = [
            "priority=5,tcp,tp_dst=80,actions=drop",
            "priority=9,actions=drop",
            "priority=1,tcp,tp_dst=22,actions=drop",
        ];
        let order = |options: &str| {
            let line = |text: &String| text.trim()[9..10].to_owned();
            dump(&format!("--no-stats {options}"), &flows).iter().map(line).collect::<String>()
        };
        assert_eq!(order("--sort"), "159");
        assert_eq!(order("--rsort"), "951");
        assert_eq!(order("--sort=tcp_dst"), "159", "those without the field are last");
        assert_eq!(order("--rsort=tcp_dst"), "519", "those without the field are last");
        assert_eq!(order("--sort=nw_proto --rsort=priority"), "519");
        assert!(Dump::default().take("--sort=nw_source").is_err());
        assert!(!Dump::default().take("--strict").unwrap());
    }
}
