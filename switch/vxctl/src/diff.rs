//! `diff-flows`: two lists of flows, each a bridge's or a file's.

use super::Failure;
use super::client::escape;
use super::commands::Session;
use super::flows::read_lines;
use api::{FlowRow, InterfaceRow};
use flow::ofp::{FlowSpec, PORT_MAX, PortMap, PortNames, format_actions, format_match, parse_flow};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Where flows come from.
pub struct Source {
    name: String,
    /// With the numbers of their lines, in a file.
    flows: Vec<(Option<usize>, String)>,
    /// Of a bridge.
    ports: Option<PortMap>,
}

impl Source {
    /// A file of this name if there is one (or `-`), else a bridge, as with `ovs-ofctl`.
    pub fn of(session: &Session<'_>, name: &str) -> Result<Source, Failure> {
        if name == "-" || std::fs::metadata(name).is_ok_and(|meta| !meta.is_dir()) {
            let flows = read_lines(name)?.into_iter().map(|(line, text)| (Some(line), text)).collect();
            return Ok(Source { name: name.to_owned(), flows, ports: None });
        }
        let rows: Vec<FlowRow> = session.client.get(&format!("/v1/flows/{}", escape(name)))?;
        let ports: Vec<InterfaceRow> = session.client.get("/v1/interfaces")?;
        let ports = ports.into_iter().filter(|port| port.bridge == name && port.ofport <= PORT_MAX);
        Ok(Source {
            name: name.to_owned(),
            flows: rows.into_iter().map(|row| (None, row.flow)).collect(),
            ports: Some(ports.map(|port| (port.name, port.ofport)).collect()),
        })
    }
}

/// PortMap of a bridge; without one, any name is a port's, and only that names are different matters.
struct Known<'a> {
    ports: Option<&'a PortMap>,
    invented: RefCell<Vec<String>>,
}

impl PortNames for Known<'_> {
    fn number(&self, name: &str) -> Option<u32> {
        if let Some(ports) = self.ports {
            return ports.number(name);
        }
        let plain = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        let mut invented = self.invented.borrow_mut();
        let at = invented.iter().position(|known| known == name).or_else(|| {
            let new = plain && !name.contains(['[', ']', '(', ')', ':', '=']) && invented.len() < 10_000;
            new.then(|| {
                invented.push(name.to_owned());
                invented.len() - 1
            })
        })?;
        Some(PORT_MAX - at as u32)
    }

    fn name(&self, number: u32) -> Option<String> {
        match self.ports {
            Some(ports) => ports.name(number),
            None => self.invented.borrow().get(PORT_MAX.checked_sub(number)? as usize).cloned(),
        }
    }
}

/// A flow as `ovs-ofctl diff-flows` prints it.
fn line(spec: &FlowSpec, names: &dyn PortNames) -> String {
    let mut out = String::new();
    // A String takes all that is written to it.
    if spec.table != 0 {
        let _ = write!(out, "table={} ", spec.table);
    }
    out.push_str(&format_match(&spec.matches, Some(spec.priority), names));
    if spec.cookie != 0 {
        let _ = write!(out, " cookie={:#x}", spec.cookie);
    }
    for (name, value) in [("idle_timeout", spec.idle_timeout), ("hard_timeout", spec.hard_timeout)] {
        if value != 0 {
            let _ = write!(out, " {name}={value}");
        }
    }
    let _ = write!(out, " actions={}", format_actions(&spec.actions, names));
    out.trim_start().to_owned()
}

/// The differences, `-` for the first and `+` for the second, by table and falling priority.
pub fn diff(sources: &[Source; 2]) -> Result<Vec<String>, Failure> {
    let names = Known {
        ports: sources.iter().find_map(|source| source.ports.as_ref()),
        invented: RefCell::default(),
    };
    // One line for each, where they have it, by what makes it the same flow.
    let mut found: BTreeMap<(u8, Reverse<u16>, String), [Option<String>; 2]> = BTreeMap::new();
    for (side, source) in sources.iter().enumerate() {
        for (number, text) in &source.flows {
            let spec = parse_flow(text, &names).map_err(|error| {
                let at = number.map_or_else(String::new, |number| format!(":{number}"));
                Failure::Refused(format!("{}{at}: {error}", source.name))
            })?;
            let what = format_match(&spec.matches, None, &names);
            // Of several for one place the last one holds.
            found.entry((spec.table, Reverse(spec.priority), what)).or_default()[side] =
                Some(line(&spec, &names));
        }
    }
    Ok(found
        .into_values()
        .filter(|[one, other]| one != other)
        .flat_map(|[one, other]| [one.map(|line| format!("-{line}")), other.map(|line| format!("+{line}"))])
        .flatten()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(flows: &[&str], ports: Option<PortMap>) -> Source {
        let flows = flows.iter().map(|flow| (Some(1), (*flow).to_owned())).collect();
        Source { name: "f".to_owned(), flows, ports }
    }

    #[test]
    fn differences_print_as_with_ovs_ofctl() {
        // Compared with `ovs-ofctl diff-flows` 3.1, which has another order of tables and priorities.
        let one = source(
            &[
                "priority=10,in_port=1,actions=output:2",
                "table=3,cookie=0x5,idle_timeout=4,ip,actions=drop",
                "tcp,actions=NORMAL",
                "actions=1",
            ],
            None,
        );
        let other =
            source(&["priority=10,in_port=1,actions=output:3", "table=3,ip,actions=drop", "actions=1"], None);
        assert_eq!(
            diff(&[one, other]).unwrap(),
            [
                "-tcp actions=NORMAL",
                "-priority=10,in_port=1 actions=output:2",
                "+priority=10,in_port=1 actions=output:3",
                "-table=3 ip cookie=0x5 idle_timeout=4 actions=drop",
                "+table=3 ip actions=drop",
            ]
        );
    }

    #[test]
    fn names_are_those_of_the_bridge_or_any() {
        let names: PortMap = [("p0".to_owned(), 1)].into_iter().collect();
        let file = || source(&["in_port=p0,actions=output:1"], None);
        let bridge = source(&["in_port=1,actions=output:p0"], Some(names.clone()));
        assert!(diff(&[file(), bridge]).unwrap().is_empty());
        assert!(diff(&[file(), file()]).unwrap().is_empty());
        let lines = diff(&[file(), source(&["in_port=p7,actions=output:1"], None)]).unwrap();
        assert_eq!(lines, ["-in_port=p0 actions=output:1", "+in_port=p7 actions=output:1"]);
        let bridge = source(&[], Some(names));
        let error = diff(&[bridge, source(&["in_port=p7,actions=drop"], None)]).unwrap_err().to_string();
        assert!(error.starts_with("f:1: in_port=p7: expected"), "{error}");
    }
}
