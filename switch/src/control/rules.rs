//! Flows as text: checked before anything is changed, parsed when the ports have their numbers.

use crate::bridge::{BridgeId, BridgePorts, World};
use crate::slowpath::SlowPath;
use config::{Bridge, Document};
use flow::ofp::{FlowFilter, FlowSpec, Match, PortNames, format_flow, parse_flow};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Names and OpenFlow numbers of a bridge's running ports, to take to another thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: HashMap<u32, String>,
}

impl Names {
    /// The ports of one bridge.
    pub fn of(world: &World, bridge: BridgeId) -> Names {
        let ports = world.bridge(bridge).into_iter().flat_map(|bridge| &bridge.ports);
        ports.filter_map(|(number, port)| Some((world.port(*port)?.name.clone(), *number))).collect()
    }

    /// The ports of all bridges, by bridge.
    pub fn all(world: &World) -> BTreeMap<String, Names> {
        world.bridges().map(|(id, bridge)| (bridge.name.clone(), Names::of(world, id))).collect()
    }
}

impl FromIterator<(String, u32)> for Names {
    fn from_iter<I: IntoIterator<Item = (String, u32)>>(ports: I) -> Names {
        let mut all = Names::default();
        all.extend(ports);
        all
    }
}

impl Extend<(String, u32)> for Names {
    fn extend<I: IntoIterator<Item = (String, u32)>>(&mut self, ports: I) {
        for (name, number) in ports {
            self.names.insert(number, name.clone());
            self.numbers.insert(name, number);
        }
    }
}

impl PortNames for Names {
    fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn name(&self, number: u32) -> Option<String> {
        self.names.get(&number).cloned()
    }
}

/// A bridge that does not run (yet), and the numbers of ports that it had: its own ports have names, and those that
/// went have only numbers.
struct Planned<'a> {
    bridge: &'a Bridge,
    before: Option<&'a Names>,
}

impl PortNames for Planned<'_> {
    fn number(&self, name: &str) -> Option<u32> {
        if let Some(number) = self.before.and_then(|before| before.number(name)) {
            return Some(number);
        }
        // Numbers that no port can have: only that they are different matters.
        let at = self.bridge.ports.iter().position(|port| port.name == name)?;
        Some(flow::ofp::PORT_MAX - at as u32)
    }

    fn name(&self, number: u32) -> Option<String> {
        let named = |port: &&config::Port| self.number(&port.name) == Some(number);
        self.bridge.ports.iter().find(named).map(|port| port.name.clone())
    }
}

/// Parses a flow; otherwise says what is wrong and what was expected.
pub fn parse(text: &str, names: &dyn PortNames) -> Result<FlowSpec, String> {
    parse_flow(text, names).map_err(|error| error.to_string())
}

/// A [`config::CheckFlow`].
pub fn check(text: &str, bridge: &Bridge) -> Result<(), String> {
    parse(text, &Planned { bridge, before: None }).map(|_| ())
}

/// [`check`], but the flow may also name ports that the bridge has had.
pub fn check_with(text: &str, bridge: &Bridge, before: Option<&Names>) -> Result<(), String> {
    check(text, bridge).or_else(|error| match before {
        Some(_) => parse(text, &Planned { bridge, before }).map(|_| ()).map_err(|_| error),
        None => Err(error),
    })
}

/// Lets flows that name ports which the bridge no longer has go on by their numbers, as in Open vSwitch, where a
/// port can go whatever the rules say. `before` has the numbers. What still does not read stays as it is.
pub fn by_number(bridge: &mut Bridge, before: &Names) {
    let has = |name: &String| *name == bridge.name || bridge.ports.iter().any(|port| port.name == *name);
    if before.numbers.keys().all(has) {
        return;
    }
    let mut flows = std::mem::take(&mut bridge.flows);
    flows.retain_mut(|text| {
        if check(text, bridge).is_ok() {
            return true;
        }
        let names = Planned { bridge, before: Some(before) };
        let Ok(spec) = parse(text, &names) else { return true };
        if !is_timed(&spec) {
            *text = canonical(&spec, &names);
        }
        // A rule that goes by itself must not look new: it runs on as long as it lives.
        !is_timed(&spec)
    });
    bridge.flows = flows;
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

/// What a bridge has one rule for: table, priority and match. Adding a rule replaces the one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(u8, u16, Match);

impl Place {
    /// Of this rule.
    pub fn of(spec: &FlowSpec) -> Place {
        Place(spec.table, spec.priority, spec.matches)
    }
}

/// Makes a bridge's rules those of its document entry. Rules with timeouts are added when they are new in the
/// document, and stay as long as they live: they are not brought back.
///
/// # Errors
/// Which token of a rule is wrong and what was expected; nothing is changed then.
pub fn read(slow: &mut SlowPath, bridge: &Bridge, old: Option<&Bridge>) -> Result<(), String> {
    let Some(id) = slow.world.bridge_named(&bridge.name) else { return Ok(()) };
    let names = BridgePorts { world: &slow.world, bridge: id };
    // Sets, as there may be a hundred thousand rules, and no upcall is answered meanwhile.
    let before: HashSet<&String> = old.into_iter().flat_map(|b| &b.flows).collect();
    let now: HashSet<&String> = bridge.flows.iter().collect();
    let mut specs = Vec::with_capacity(bridge.flows.len());
    for text in &bridge.flows {
        let spec = parse(text, &names)?;
        if !is_timed(&spec) || !before.contains(text) {
            specs.push(spec);
        }
    }
    // Those that the document no longer has may name ports that are gone, and then match nothing any more.
    let mut removed: HashMap<Place, Vec<FlowSpec>> = HashMap::new();
    for spec in before.difference(&now).filter_map(|text| parse(text, &names).ok()).filter(is_timed) {
        removed.entry(Place::of(&spec)).or_default().push(spec);
    }
    if let Some(running) = slow.world.bridge(id) {
        let places: HashSet<Place> = specs.iter().map(Place::of).collect();
        let stays = |spec: &&FlowSpec| {
            let place = Place::of(spec);
            let gone = removed.get(&place).is_some_and(|gone| gone.contains(spec));
            is_timed(spec) && !gone && !places.contains(&place)
        };
        let live = running.tables.select(&FlowFilter::default(), false);
        specs.extend(live.iter().map(|rule| &rule.spec).filter(stays).cloned());
    }
    slow.replace_rules(id, &specs);
    Ok(())
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
        let names: Names = [("p0".to_owned(), 1), ("p1".to_owned(), 2)].into_iter().collect();
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
        check("ip,actions=dec_ttl", &bridge).unwrap();
    }

    #[test]
    fn flows_that_name_ports_which_went_go_on_by_number() {
        let mut bridge = Bridge::new("br0");
        // p2 comes with the same change and has no number yet.
        bridge.ports =
            ["p0", "p2"].map(|name| config::Port { name: name.into(), ..Default::default() }).into();
        let lines = [
            "in_port=p0,actions=output:p1",
            "in_port=p1 actions=output:p2",
            "priority=7, ip,actions=drop",
            "idle_timeout=9,actions=output:p1",
            "in_port=p7,actions=drop",
        ];
        bridge.flows = lines.map(str::to_owned).into();
        let before: Names = [("p0".to_owned(), 1), ("p1".to_owned(), 2)].into_iter().collect();
        assert!(check(lines[0], &bridge).is_err() && check_with(lines[0], &bridge, None).is_err());
        check_with(lines[0], &bridge, Some(&before)).unwrap();
        assert!(check_with(lines[4], &bridge, Some(&before)).is_err());
        by_number(&mut bridge, &before);
        // Only what has to change does.
        let expected = ["in_port=p0,actions=output:2", "in_port=2,actions=output:p2", lines[2], lines[4]];
        assert_eq!(bridge.flows, expected);
    }
}
