//! Flows as text: checked before anything is changed, parsed when the ports have their numbers.

use crate::bridge::rules::unsupported;
use config::{Bridge, Document};
use flow::ofp::{FlowSpec, PortNames, format_flow, parse_flow};
use std::collections::BTreeMap;

/// Port names of a bridge with their OpenFlow numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub BTreeMap<String, u32>);

impl Names {
    /// Numbers for the ports of a bridge that does not run (yet): only that they are different matters.
    pub fn of(bridge: &Bridge) -> Names {
        let mut next = 1;
        Names(
            bridge
                .ports
                .iter()
                .map(|port| {
                    next += 1;
                    (port.name.clone(), port.ofport_request.map_or(0x8000 + next, u32::from))
                })
                .collect(),
        )
    }
}

impl PortNames for Names {
    fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    fn name(&self, number: u32) -> Option<String> {
        self.0.iter().find(|(_, n)| **n == number).map(|(name, _)| name.clone())
    }
}

/// Parses a flow that this version can run; otherwise says what is wrong and what was expected.
pub fn parse(text: &str, names: &dyn PortNames) -> Result<FlowSpec, String> {
    let spec = parse_flow(text, names).map_err(|error| error.to_string())?;
    match unsupported(&spec.actions) {
        Some(what) => Err(what),
        None => Ok(spec),
    }
}

/// A [`config::CheckFlow`].
pub fn check(text: &str, bridge: &Bridge) -> Result<(), String> {
    parse(text, &Names::of(bridge)).map(|_| ())
}

/// A flow as people write it and documents hold it: [`format_flow`] without what says nothing.
pub fn canonical(spec: &FlowSpec, names: &dyn PortNames) -> String {
    let text = format_flow(spec, None, names);
    let text = text.trim_start();
    let text = text.strip_prefix("cookie=0x0,").unwrap_or(text).trim_start();
    match text.split_once(" actions=") {
        Some((what, actions)) => format!("{what},actions={actions}"),
        // Nothing to match on and the default priority: only actions.
        None => text.to_owned(),
    }
}

/// Whether the rule goes by itself.
pub fn is_timed(spec: &FlowSpec) -> bool {
    spec.idle_timeout != 0 || spec.hard_timeout != 0
}

/// Whether adding one of the rules replaces the other.
pub fn same_place(a: &FlowSpec, b: &FlowSpec) -> bool {
    a.table == b.table && a.priority == b.priority && a.matches == b.matches
}

/// Everything that is wrong with a document, its flows included.
pub fn problems(document: &Document) -> Vec<config::Problem> {
    config::validate_with(document, &check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_read_back_as_the_same_rule() {
        let names = Names([("p0".to_owned(), 1), ("p1".to_owned(), 2)].into());
        for (text, expected) in [
            ("in_port=p0,actions=output:p1", "in_port=p0,actions=output:p1"),
            ("in_port=1,priority=7 actions=2", "priority=7,in_port=p0,actions=output:p1"),
            ("actions=NORMAL", "actions=NORMAL"),
            ("table=2,cookie=0x5,ip,actions=drop", "cookie=0x5, table=2, ip,actions=drop"),
        ] {
            let spec = parse(text, &names).unwrap();
            let canonical = canonical(&spec, &names);
            assert_eq!(parse(&canonical, &names).unwrap(), spec, "{canonical}");
            assert_eq!(canonical, expected);
        }
    }

    #[test]
    fn flows_are_judged_by_the_ports_of_their_bridge() {
        let mut bridge = Bridge::new("br0");
        bridge.ports =
            ["p0", "p1"].map(|name| config::Port { name: name.into(), ..Default::default() }).into();
        check("in_port=p0,actions=output:p1", &bridge).unwrap();
        check("actions=NORMAL", &bridge).unwrap();
        let error = check("in_port=p9,actions=drop", &bridge).unwrap_err();
        assert!(error.starts_with("in_port=p9: expected"), "{error}");
        assert!(check("in_port=p0", &bridge).unwrap_err().contains("actions"));
        assert!(check("ip,actions=dec_ttl", &bridge).unwrap_err().contains("this version"));
    }
}
