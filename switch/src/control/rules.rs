//! Flows, groups and meters as text: checked before anything is changed, parsed when the ports have their numbers.

use crate::bridge::mirror::{Mirror, MirrorOutput};
use crate::bridge::rules::Rule;
pub use crate::bridge::rules::canonical;
use crate::bridge::{BridgeId, BridgePorts, SwitchState};
use crate::slowpath::SlowPath;
use crate::slowpath::settings::NoMeter;
use config::{Bridge, Document};
use config::{CheckRules, Rules};
use flow::ofp::{
    Action, FlowFilter, FlowSpec, GroupSpec, Match, MeterSpec, PortMap, PortNames, format_group,
    format_meter, parse_flow, parse_group, parse_meter,
};
use flow::program::PortId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use wire::tunnel::geneve::TlvMap;

/// PortMap and OpenFlow numbers of a bridge's running ports, to take to another thread.
pub fn names_of(state: &SwitchState, bridge: BridgeId) -> PortMap {
    let Some(bridge) = state.bridge(bridge) else { return PortMap::default() };
    let named = |(number, port): (&u32, &PortId)| Some((state.port(*port)?.name.clone(), *number));
    bridge.ports.iter().filter_map(named).collect::<PortMap>().with_tlvs(bridge.tlvs)
}

/// The ports of all bridges, by bridge.
pub fn names_of_all(state: &SwitchState) -> BTreeMap<String, PortMap> {
    state.bridges().map(|(id, bridge)| (bridge.name.clone(), names_of(state, id))).collect()
}

/// A bridge that does not run (yet), and the numbers of ports that it had: its own ports have names, and those that
/// went have only numbers.
struct Planned<'a> {
    bridge: &'a Bridge,
    tlvs: TlvMap,
    before: Option<&'a PortMap>,
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

    fn tlvs(&self) -> &TlvMap {
        &self.tlvs
    }
}

/// Parses a flow; otherwise says what is wrong and what was expected.
pub fn parse(text: &str, names: &dyn PortNames) -> Result<FlowSpec, String> {
    parse_flow(text, names).map_err(|error| error.to_string())
}

/// Judges a document's flows, groups and meters by the ports and meters of their bridge. Flows and groups may also
/// name ports that the bridge, by its name, has had.
#[derive(Debug, Clone, Copy, Default)]
pub struct Check<'a>(pub Option<&'a BTreeMap<String, PortMap>>);

impl CheckRules for Check<'_> {
    fn check(&self, bridge: &Bridge, wrong: &mut dyn FnMut(Rules, usize, String)) {
        let before = self.0.and_then(|all| all.get(&bridge.name));
        let mut meters = HashSet::new();
        for (at, text) in bridge.meters.iter().enumerate() {
            match parse_meter(text) {
                Ok(spec) if meters.insert(spec.id) => {}
                Ok(spec) => wrong(Rules::Meters, at, format!("meter={}: there is another one", spec.id)),
                Err(error) => wrong(Rules::Meters, at, error.to_string()),
            }
        }
        let mut groups = HashSet::new();
        for (at, text) in bridge.groups.iter().enumerate() {
            match read_planned(bridge, before, |names| parse_group(text, names).map_err(|e| e.to_string())) {
                Ok(spec) if groups.insert(spec.id) => {}
                Ok(spec) => wrong(Rules::Groups, at, format!("group_id={}: there is another one", spec.id)),
                Err(error) => wrong(Rules::Groups, at, error),
            }
        }
        for (at, text) in bridge.flows.iter().enumerate() {
            let spec = read_planned(bridge, before, |names| parse(text, names));
            let checked = spec.and_then(|spec| {
                check_references(&spec, |id| meters.contains(&id), |id| groups.contains(&id))
            });
            if let Err(error) = checked {
                wrong(Rules::Flows, at, error);
            }
        }
    }
}

/// Reads a text by the names that a bridge will have, else by those and the ones that it had.
fn read_planned<T>(
    bridge: &Bridge,
    before: Option<&PortMap>,
    read: impl Fn(&dyn PortNames) -> Result<T, String>,
) -> Result<T, String> {
    let tlvs = bridge.tlvs();
    read(&Planned { bridge, tlvs, before: None }).or_else(|error| match before {
        Some(_) => read(&Planned { bridge, tlvs, before }).map_err(|_| error),
        None => Err(error),
    })
}

/// The meters that a rule names. They stand in front of all other actions.
pub fn meters_of(spec: &FlowSpec) -> impl Iterator<Item = u32> + '_ {
    spec.actions.iter().filter_map(|action| match action {
        Action::Meter(id) => Some(*id),
        _ => None,
    })
}

/// The groups that actions name.
fn groups_of(actions: &[Action], found: &mut Vec<u32>) {
    for action in actions {
        match action {
            Action::Group(id) => found.push(*id),
            Action::Clone(inner) | Action::WriteActions(inner) => groups_of(inner, found),
            _ => {}
        }
    }
}

/// Refuses a rule that names a meter or a group which is not there, as OVS does.
pub fn check_references(
    spec: &FlowSpec,
    has_meter: impl Fn(u32) -> bool,
    has_group: impl Fn(u32) -> bool,
) -> Result<(), String> {
    if let Some(id) = meters_of(spec).find(|id| !has_meter(*id)) {
        return Err(format!("meter:{id}: expected a meter of the bridge; add-meter adds one"));
    }
    let mut groups = Vec::new();
    groups_of(&spec.actions, &mut groups);
    match groups.into_iter().find(|id| !has_group(*id)) {
        Some(id) => Err(format!("group:{id}: expected a group of the bridge; add-group adds one")),
        None => Ok(()),
    }
}

/// Lets flows that name ports which the bridge no longer has go on by their numbers, as in Open vSwitch, where a
/// port can go whatever the rules say. `before` has the numbers. What still does not read stays as it is.
pub fn by_number(bridge: &mut Bridge, before: &PortMap) {
    let has = |name: &String| *name == bridge.name || bridge.ports.iter().any(|port| port.name == *name);
    if before.all_names().all(has) {
        return;
    }
    let mut groups = std::mem::take(&mut bridge.groups);
    for text in &mut groups {
        if parse_group(text, &Planned { bridge, tlvs: bridge.tlvs(), before: None }).is_err() {
            let names = Planned { bridge, tlvs: bridge.tlvs(), before: Some(before) };
            if let Ok(spec) = parse_group(text, &names) {
                *text = format_group(&spec, &names);
            }
        }
    }
    bridge.groups = groups;
    let mut flows = std::mem::take(&mut bridge.flows);
    flows.retain_mut(|text| {
        if parse(text, &Planned { bridge, tlvs: bridge.tlvs(), before: None }).is_ok() {
            return true;
        }
        let names = Planned { bridge, tlvs: bridge.tlvs(), before: Some(before) };
        let Ok(spec) = parse(text, &names) else { return true };
        if !is_timed(&spec) {
            *text = canonical(&spec, &names);
        }
        // A rule that goes by itself must not look new: it runs on as long as it lives.
        !is_timed(&spec)
    });
    bridge.flows = flows;
}

/// Flows, groups and meters that a bridge runs with.
#[derive(Debug)]
pub struct Running {
    names: PortMap,
    rules: Vec<Arc<Rule>>,
    groups: Vec<GroupSpec>,
    meters: Vec<MeterSpec>,
}

/// What a bridge of this name runs with.
pub fn running(state: &SwitchState, name: &str) -> Option<Running> {
    let id = state.bridge_named(name)?;
    let bridge = state.bridge(id)?;
    Some(Running {
        names: names_of(state, id),
        rules: bridge.tables.select(&FlowFilter::default(), false),
        groups: bridge.groups.values().map(|group| group.spec.clone()).collect(),
        meters: bridge.meters.values().map(|meter| meter.spec).collect(),
    })
}

impl Running {
    /// Flows, groups and meters as a document holds them.
    pub fn texts(&self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let stay = self.rules.iter().filter(|rule| !goes_by_itself(rule));
        let flows = stay.map(|rule| canonical(&rule.spec, &self.names));
        let groups = self.groups.iter().map(|group| format_group(group, &self.names));
        (flows.collect(), groups.collect(), self.meters.iter().map(format_meter).collect())
    }
}

/// Whether the rule goes by itself.
pub fn is_timed(spec: &FlowSpec) -> bool {
    spec.idle_timeout != 0 || spec.hard_timeout != 0
}

/// Whether packets make it, or make it go, or time does: then it is no document's.
fn goes_by_itself(rule: &Rule) -> bool {
    rule.is_learned || rule.is_timed()
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

/// Rules as they were read before the slow path needs them: it answers no first packets while it reads a hundred
/// thousand.
#[derive(Debug, Default)]
pub struct ReadAhead(HashMap<String, (PortMap, HashMap<String, FlowSpec>)>);

impl ReadAhead {
    /// The rules of bridges that read by these names of ports, by bridge. Others are read when their ports are there.
    pub fn new<'b>(
        bridges: impl Iterator<Item = &'b Bridge>,
        mut names: BTreeMap<String, PortMap>,
    ) -> ReadAhead {
        let read = |bridge: &'b Bridge| {
            let names = names.remove(&bridge.name).unwrap_or_default().with_tlvs(bridge.tlvs());
            let specs =
                bridge.flows.iter().filter_map(|text| Some((text.clone(), parse(text, &names).ok()?)));
            let specs = specs.collect();
            (bridge.name.clone(), (names, specs))
        };
        ReadAhead(bridges.map(read).collect())
    }

    /// The rules of a bridge, as long as all names stand for what they stood for.
    fn of(&self, bridge: &str, now: &dyn PortNames) -> Option<&HashMap<String, FlowSpec>> {
        let (names, specs) = self.0.get(bridge)?;
        let stays = |name: &String| names.number(name) == now.number(name);
        (names.tlvs() == now.tlvs() && names.all_names().all(stays)).then_some(specs)
    }
}

/// Makes a bridge's rules those of its document entry. Rules with timeouts are added when they are new in the
/// document, and stay as long as they live: they are not brought back.
///
/// # Errors
/// Which token of a rule is wrong and what was expected; nothing is changed then.
pub fn read(
    slow: &mut SlowPath,
    bridge: &Bridge,
    old: Option<&Bridge>,
    ahead: &ReadAhead,
) -> Result<(), String> {
    let Some(id) = slow.state.bridge_named(&bridge.name) else { return Ok(()) };
    let names = BridgePorts { state: &slow.state, bridge: id };
    let ahead = ahead.of(&bridge.name, &names);
    let all_read = ahead.is_some_and(|ahead| bridge.flows.iter().all(|text| ahead.contains_key(text)));
    if all_read && old.is_some_and(|old| old.flows == bridge.flows) {
        // They are what they were, and what they name has its number still.
        return Ok(());
    }
    // Sets, as there may be a hundred thousand rules, and no upcall is answered meanwhile.
    let before: HashSet<&String> = old.into_iter().flat_map(|b| &b.flows).collect();
    let now: HashSet<&String> = bridge.flows.iter().collect();
    let mut specs = Vec::with_capacity(bridge.flows.len());
    for text in &bridge.flows {
        let spec = ahead.and_then(|ahead| ahead.get(text)).cloned();
        let spec = spec.map_or_else(|| parse(text, &names), Ok)?;
        if !is_timed(&spec) || !before.contains(text) {
            specs.push(spec);
        }
    }
    // Those that the document no longer has may name ports that are gone, and then match nothing any more.
    let mut removed: HashMap<Place, Vec<FlowSpec>> = HashMap::new();
    let gone = before.difference(&now).filter(|text| text.contains("_timeout"));
    for spec in gone.filter_map(|text| parse(text, &names).ok()).filter(is_timed) {
        removed.entry(Place::of(&spec)).or_default().push(spec);
    }
    if let Some(running) = slow.state.bridge(id) {
        let places: HashSet<Place> = specs.iter().map(Place::of).collect();
        let stays = |rule: &&Arc<Rule>| {
            let place = Place::of(&rule.spec);
            let gone = removed.get(&place).is_some_and(|gone| gone.contains(&rule.spec));
            (is_timed(&rule.spec) || rule.is_learned) && !gone && !places.contains(&place)
        };
        let live = running.tables.select(&FlowFilter::default(), false);
        specs.extend(live.iter().filter(stays).map(|rule| FlowSpec::clone(&rule.spec)));
    }
    slow.replace_rules(id, &specs);
    Ok(())
}

/// What is wrong with a bridge's groups or meters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A text that does not read.
    #[error("{0}")]
    Text(String),
    /// The switch has no more meters.
    #[error(transparent)]
    NoMeter(#[from] NoMeter),
}

/// Makes a bridge's meters, groups and mirrors those of its document entry.
///
/// # Errors
/// What is wrong; nothing is changed then.
pub fn read_policy(slow: &mut SlowPath, bridge: &Bridge) -> Result<(), PolicyError> {
    let Some(id) = slow.state.bridge_named(&bridge.name) else { return Ok(()) };
    let text = |error: flow::ofp::ParseError| PolicyError::Text(error.to_string());
    let meters: Vec<MeterSpec> =
        bridge.meters.iter().map(|meter| parse_meter(meter)).collect::<Result<_, _>>().map_err(text)?;
    let names = BridgePorts { state: &slow.state, bridge: id };
    let groups: Vec<GroupSpec> = bridge
        .groups
        .iter()
        .map(|group| parse_group(group, &names))
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let port = |name: &String| slow.state.port_named(name);
    let mirrors = bridge.mirrors.iter().filter_map(|mirror| {
        // A port that did not come back: it was said so.
        let output = match (&mirror.output_port, mirror.output_vlan) {
            (Some(name), _) => MirrorOutput::Port(port(name)?),
            (None, vlan) => MirrorOutput::Vlan(vlan?),
        };
        Some(Mirror {
            name: mirror.name.clone(),
            all: mirror.select_all,
            src: mirror.select_src_port.iter().filter_map(port).collect(),
            dst: mirror.select_dst_port.iter().filter_map(port).collect(),
            vlans: mirror.select_vlan.clone(),
            output,
        })
    });
    let mirrors = mirrors.collect();
    slow.set_meters(id, &meters)?;
    slow.set_groups(id, &groups);
    slow.set_mirrors(id, mirrors);
    Ok(())
}

/// Everything that is wrong with a document, its flows, groups and meters included.
pub fn problems(document: &Document) -> Vec<config::Problem> {
    config::validate_with(document, &Check(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_texts_read_back_as_the_same_rule() {
        let names: PortMap = [("p0".to_owned(), 1), ("p1".to_owned(), 2)].into_iter().collect();
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

    fn with_ports(names: &[&str]) -> Bridge {
        let ports = names.iter().map(|name| config::Port { name: (*name).into(), ..Default::default() });
        Bridge { ports: ports.collect(), ..Bridge::new("br0") }
    }

    /// What is wrong with a bridge's rules.
    fn wrong(bridge: &Bridge, before: Option<&PortMap>) -> Vec<(Rules, usize, String)> {
        let before = before.map(|names| [("br0".to_owned(), names.clone())].into());
        let mut found = Vec::new();
        Check(before.as_ref()).check(bridge, &mut |list, at, message| found.push((list, at, message)));
        found
    }

    #[test]
    fn rules_are_judged_by_ports_and_meters_of_their_bridge() {
        let mut bridge = with_ports(&["p0", "p1"]);
        bridge.meters = ["meter=1,bands=type=drop rate=1", "meter=x", "meter=1,bands=type=drop rate=2"]
            .map(str::to_owned)
            .into();
        bridge.groups = [
            "group_id=1,type=all,bucket=output:p1",
            "group_id=2,type=all,bucket=output:p9",
            "group_id=1,type=all,bucket=output:p1",
        ]
        .map(str::to_owned)
        .into();
        bridge.flows = [
            "in_port=p0,actions=meter:1,output:p1",
            "actions=NORMAL",
            "in_port=p9,actions=drop",
            "in_port=p0",
            "ip,actions=meter:2,dec_ttl,NORMAL",
            "ip,actions=clone(group:77)",
            "ip,actions=group:1",
        ]
        .map(str::to_owned)
        .into();
        let found = wrong(&bridge, None);
        let places: Vec<(Rules, usize)> = found.iter().map(|(list, at, _)| (*list, *at)).collect();
        use Rules::{Flows, Groups, Meters};
        assert_eq!(
            places,
            [
                (Meters, 1),
                (Meters, 2),
                (Groups, 1),
                (Groups, 2),
                (Flows, 2),
                (Flows, 3),
                (Flows, 4),
                (Flows, 5)
            ]
        );
        assert_eq!(found[1].2, "meter=1: there is another one");
        assert!(found[2].2.starts_with("output:p9: expected"), "{found:?}");
        assert_eq!(found[3].2, "group_id=1: there is another one");
        assert!(found[4].2.starts_with("in_port=p9: expected"), "{found:?}");
        assert!(found[5].2.contains("actions"), "{found:?}");
        assert_eq!(found[6].2, "meter:2: expected a meter of the bridge; add-meter adds one");
        assert_eq!(found[7].2, "group:77: expected a group of the bridge; add-group adds one");
    }

    #[test]
    fn rules_that_name_ports_which_went_go_on_by_number() {
        // p2 comes with the same change and has no number yet.
        let mut bridge = with_ports(&["p0", "p2"]);
        let lines = [
            "in_port=p0,actions=output:p1",
            "in_port=p1 actions=output:p2",
            "priority=7, ip,actions=drop",
            "idle_timeout=9,actions=output:p1",
            "in_port=p7,actions=drop",
        ];
        bridge.flows = lines.map(str::to_owned).into();
        bridge.groups = ["group_id=1,type=ff,bucket=watch_port:p1,2", "group_id=2,type=all,bucket=p2"]
            .map(str::to_owned)
            .into();
        let before: PortMap = [("p0".to_owned(), 1), ("p1".to_owned(), 2)].into_iter().collect();
        assert_eq!(wrong(&bridge, None).len(), 5);
        let found = wrong(&bridge, Some(&before));
        assert!(matches!(found.as_slice(), [(Rules::Flows, 4, _)]), "{found:?}");
        by_number(&mut bridge, &before);
        // Only what has to change does.
        let expected = ["in_port=p0,actions=output:2", "in_port=2,actions=output:p2", lines[2], lines[4]];
        assert_eq!(bridge.flows, expected);
        assert_eq!(
            bridge.groups,
            [
                "group_id=1,type=ff,bucket=bucket_id:0,watch_port:2,actions=output:2",
                "group_id=2,type=all,bucket=p2"
            ]
        );
    }
}
