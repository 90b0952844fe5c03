//! The document that rows of a database ask for. A row that cannot be served gets an error, and the rest is served.

use super::ignored::{self, Ignored};
use super::rows::{ADDRESS, Rows};
use super::unserved;
use crate::control::rules;
use config::{AddressesFrom, Bridge, Document, FailMode, Mirror, Port, VlanMode};
use flow::ofp::{PortMap, PortNames};
use ovsdb::rows::{self, Interface};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is wrong with interfaces, by their names: `Interface` `error`.
pub type Errors = BTreeMap<String, String>;

/// OpenFlow numbers of ports by name, by bridge.
pub type Numbers = BTreeMap<String, PortMap>;

/// OpenFlow numbers that ports had last, by bridge and port, those that are out of service among them.
pub type Ofports = BTreeMap<(String, String), u16>;

/// What there is besides the rows.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The document that runs: rules, routes and neighbours are not in the database.
    pub running: &'a Document,
    /// The numbers that bridges' ports have: rules that name a port which goes go on by its number.
    pub numbers: &'a Numbers,
    /// The numbers that ports had last: one that was out of service gets its own again.
    pub ofports: &'a Ofports,
}

/// What rows ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What can be served of it.
    pub document: Document,
    /// What cannot.
    pub errors: Errors,
    /// What of it is ignored.
    pub ignored: Ignored,
}

/// What `rows` ask for.
pub fn asked(rows: &Rows, known: Known<'_>) -> Asked {
    let Known { running, numbers, .. } = known;
    let (mut errors, mut ignored) = (Errors::new(), Ignored::new());
    let other_config = other_config(rows, &mut ignored);
    let mut document = Document { bridges: Vec::new(), other_config, ..running.clone() };
    for row in rows.bridges.values() {
        if let Some(why) = unserved::datapath_type(row) {
            refuse(row, &why, rows, &mut errors);
            continue;
        }
        let requested = requests(rows, row);
        let mut reserved = reserved(rows, row, known, &requested);
        let mut bridge = bridge(row, running.bridge(&row.name), rows, &mut errors, &mut ignored);
        for port_row in rows.ports_of(row) {
            let interfaces: Vec<&Interface> = rows.interfaces_of(port_row).collect();
            match interfaces.as_slice() {
                [] => {}
                // The bridge's LOCAL port.
                [one] if one.name == row.name => {
                    bridge.tag = port_row.tag.and_then(|tag| u16::try_from(tag).ok());
                    let before = running.bridge(&row.name).and_then(|before| before.mtu);
                    let mtu = ignored::mtu(one, before, &mut ignored);
                    bridge.mtu = mtu.filter(|_| bridge.has_device());
                }
                [one] => {
                    let before = running.port(&one.name).filter(|(b, _)| b.name == bridge.name);
                    let before = before.map(|(_, port)| port);
                    match port(port_row, one, before, &mut ignored) {
                        Ok(mut port) => {
                            let had = had(&bridge.name, one, known);
                            port.ofport_request = number(one, before, had, &requested);
                            if port.ofport_request.is_none() && before.is_none() {
                                port.ofport_request = reserved.take();
                            }
                            bridge.ports.push(port);
                        }
                        Err(error) => drop(errors.insert(one.name.clone(), error)),
                    }
                }
                bond => {
                    let why = "bonds are not served: expected one interface a port";
                    errors.extend(bond.iter().map(|one| (one.name.clone(), why.to_owned())));
                }
            }
        }
        let loses = |before: &Bridge| {
            before.ports.iter().any(|old| bridge.ports.iter().all(|port| port.name != old.name))
        };
        if running.bridge(&bridge.name).is_some_and(loses) {
            keep_rules(&mut bridge, numbers);
        }
        document.bridges.push(bridge);
    }
    prune(&mut document, &mut errors, &mut ignored, numbers);
    // What runs, but not with all that is asked for. An error of a bridge's own interface would say that it lacks its device.
    for row in
        rows.bridges.values().flat_map(|row| rows.ports_of(row)).flat_map(|row| rows.interfaces_of(row))
    {
        if !rows.bridges.contains_key(&row.name)
            && let Some(why) = unserved::of_interface(row)
        {
            errors.entry(row.name.clone()).or_insert(why);
        }
    }
    Asked { document, errors, ignored }
}

/// What the switch knows of `Open_vSwitch` `other_config`. What is wrong in it is said and left out, as in Open vSwitch.
fn other_config(rows: &Rows, ignored: &mut Ignored) -> BTreeMap<String, String> {
    let mut known = known(
        rows.root.as_ref().map_or(&BTreeMap::new(), |root| &root.other_config),
        &config::SWITCH_OTHER_CONFIG,
    );
    known.retain(|key, value| match config::check_switch_other_config(key, value) {
        Ok(()) => true,
        Err(error) => {
            ignored.insert(format!("other_config of Open_vSwitch: {key}: {error}: ignored"));
            false
        }
    });
    known
}

fn known(map: &BTreeMap<String, String>, keys: &[&str]) -> BTreeMap<String, String> {
    map.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn bridge(
    row: &rows::Bridge,
    running: Option<&Bridge>,
    rows: &Rows,
    errors: &mut Errors,
    ignored: &mut Ignored,
) -> Bridge {
    let mut bridge = Bridge {
        fail_mode: match row.fail_mode.as_deref() {
            Some("secure") => FailMode::Secure,
            _ => FailMode::Standalone,
        },
        mcast_snooping_enable: row.mcast_snooping_enable,
        other_config: known(&row.other_config, &config::BRIDGE_OTHER_CONFIG),
        external_ids: row.external_ids.clone(),
        ..running.cloned().unwrap_or_else(|| Bridge::new(&row.name))
    };
    ignored::numbers(&row.name, &mut bridge.other_config, ignored);
    ignored::datapath_id(&mut bridge, ignored);
    bridge.ports.clear();
    bridge.hwaddr = None;
    bridge.addresses_from = AddressesFrom::Document;
    if let Some(text) = row.other_config.get(ADDRESS) {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        if let Ok(addresses) = words.map(str::parse).collect() {
            bridge.address = addresses;
        } else {
            let why =
                format!("other_config:{ADDRESS}: found {text:?}, expected addresses with prefix lengths");
            errors.insert(row.name.clone(), why);
        }
    } else {
        bridge.addresses_from = AddressesFrom::Kernel;
        (bridge.address, bridge.routes) = (Vec::new(), Vec::new());
    }
    let mirrors = row.mirrors.0.iter().filter_map(|uuid| rows.mirrors.get(uuid));
    bridge.mirrors = mirrors.map(|row| mirror(row, rows, ignored)).collect();
    bridge
}

/// A bridge is not served: its interfaces have the error.
fn refuse(row: &rows::Bridge, why: &str, rows: &Rows, errors: &mut Errors) {
    for port in rows.ports_of(row) {
        for one in rows.interfaces_of(port) {
            let is_own = one.name == row.name;
            let why = if is_own { why.to_owned() } else { format!("bridge {}: {why}", row.name) };
            errors.insert(one.name.clone(), why);
        }
    }
}

/// Which interface of a bridge gets each OpenFlow number that is asked for: of several the one that has it, else the first.
fn requests<'a>(rows: &'a Rows, bridge: &rows::Bridge) -> BTreeMap<i64, &'a str> {
    let mut requests: BTreeMap<i64, &Interface> = BTreeMap::new();
    for port in rows.ports_of(bridge) {
        for row in rows.interfaces_of(port) {
            let Some(number) = row.ofport_request else { continue };
            let first = *requests.entry(number).or_insert(row);
            if first.ofport != Some(number) && row.ofport == Some(number) {
                requests.insert(number, row);
            }
        }
    }
    requests.into_iter().map(|(number, row)| (number, row.name.as_str())).collect()
}

/// VLANs of a column, whose type allows no others.
fn vlans(numbers: &[i64]) -> Vec<u16> {
    numbers.iter().filter_map(|vlan| u16::try_from(*vlan).ok()).collect()
}

fn mirror(row: &rows::Mirror, rows: &Rows, ignored: &mut Ignored) -> Mirror {
    Mirror {
        name: row.name.clone(),
        select_all: row.select_all,
        select_src_port: rows.port_names(&row.select_src_port.0),
        select_dst_port: rows.port_names(&row.select_dst_port.0),
        select_vlan: vlans(&row.select_vlan),
        output_port: rows.port_names(&row.output_port.0).pop(),
        output_vlan: ignored::output_vlan(row, ignored),
    }
}

/// A port without its OpenFlow number; or why there is none. `before`: as it runs.
fn port(
    row: &rows::Port,
    interface: &Interface,
    before: Option<&Port>,
    ignored: &mut Ignored,
) -> Result<Port, String> {
    let name = &interface.name;
    let mut kind = interface.r#type.clone();
    if matches!(kind.as_str(), "" | "system") {
        // A device of the kernel. Its name is a file's here. As in Open vSwitch a port that runs stays when its device goes.
        let known = !name.contains('/') && Path::new("/sys/class/net").join(name).exists();
        let runs = before.is_some_and(|before| before.kind == "system");
        if !known && !runs {
            return Err(format!("could not open network device {name} (No such device)"));
        }
        "system".clone_into(&mut kind);
    }
    let mac = match kind.as_str() {
        "internal" | "tap" => ignored::mac(interface, before, ignored),
        _ => None,
    };
    let mtu = ignored::mtu(interface, before.and_then(|port| port.mtu), ignored);
    let vlan_mode: Option<VlanMode> = match row.vlan_mode.as_deref() {
        Some(text) => Some(text.parse().map_err(|error| format!("vlan_mode: {error}"))?),
        None => None,
    };
    // As in Open vSwitch: a mode that has a VLAN has VLAN 0 unless `tag` says another, and what says nothing in a mode is ignored.
    let tag = row.tag.and_then(|tag| u16::try_from(tag).ok());
    let tag = match vlan_mode {
        Some(VlanMode::Trunk) => None,
        Some(_) => Some(tag.unwrap_or(0)),
        None => tag,
    };
    let trunks = match (vlan_mode, tag) {
        (None, Some(_)) | (Some(VlanMode::Access | VlanMode::Dot1qTunnel), _) => Vec::new(),
        _ => vlans(&row.trunks),
    };
    let mut port = Port {
        name: name.clone(),
        kind,
        options: interface.options.clone(),
        tag,
        trunks,
        cvlans: if vlan_mode == Some(VlanMode::Dot1qTunnel) { vlans(&row.cvlans) } else { Vec::new() },
        vlan_mode,
        mtu,
        mac,
        ofport_request: None,
        bfd: interface.bfd.clone(),
        external_ids: interface.external_ids.clone(),
        port_external_ids: row.external_ids.clone(),
        other_config: {
            let mut both = known(&row.other_config, &config::PORT_OTHER_CONFIG);
            both.extend(known(&interface.other_config, &config::INTERFACE_OTHER_CONFIG));
            both
        },
    };
    ignored::options(&mut port, ignored);
    ignored::bfd(&mut port, ignored);
    ignored::other_config(&mut port, ignored);
    Ok(port)
}

/// The OpenFlow number that a port had last: in the database after a restart of the switch, else as long as it was out of
/// service. `None` where another port has it by now.
fn had(bridge: &str, row: &Interface, known: Known<'_>) -> Option<u16> {
    let of = |number: i64| u16::try_from(number).ok().filter(|number| (1..0xff00).contains(number));
    let last = || known.ofports.get(&(bridge.to_owned(), row.name.clone())).copied();
    let number = row.ofport.and_then(of).or_else(last)?;
    let owner = known.numbers.get(bridge).and_then(|ports| ports.name(number.into()));
    owner.is_none_or(|owner| owner == row.name).then_some(number)
}

/// OpenFlow numbers of a bridge that no new port gets unasked.
#[derive(Debug)]
struct Reserved(BTreeSet<u16>);

impl Reserved {
    /// The lowest of the others, which is reserved then.
    fn take(&mut self) -> Option<u16> {
        let free = (1..0xff00).find(|number| !self.0.contains(number))?;
        self.0.insert(free);
        Some(free)
    }
}

/// Numbers that ports have, ask for, or had before they went out of service.
fn reserved(
    rows: &Rows,
    bridge: &rows::Bridge,
    known: Known<'_>,
    requested: &BTreeMap<i64, &str>,
) -> Reserved {
    let name = &bridge.name;
    let interfaces = rows.ports_of(bridge).into_iter().flat_map(|port| rows.interfaces_of(port));
    let mut numbers: BTreeSet<u16> = interfaces.filter_map(|row| had(name, row, known)).collect();
    numbers.extend(requested.keys().filter_map(|number| u16::try_from(*number).ok()));
    let running = known.numbers.get(name).into_iter();
    let running = running.flat_map(|ports| ports.all_names().filter_map(|name| ports.number(name)));
    numbers.extend(running.filter_map(|number| u16::try_from(number).ok()));
    Reserved(numbers)
}

/// The OpenFlow number to ask for: what the row asks for, unless another port gets that, else what the port has, else, for a
/// port that does not run yet, what it `had`.
fn number(
    row: &Interface,
    running: Option<&Port>,
    had: Option<u16>,
    requested: &BTreeMap<i64, &str>,
) -> Option<u16> {
    if let Some(number) = row.ofport_request
        && requested.get(&number).is_some_and(|name| *name == row.name)
    {
        return u16::try_from(number).ok().filter(|number| (1..0xff00).contains(number));
    }
    running
        .map_or(had, |port| port.ofport_request)
        .filter(|number| !requested.contains_key(&i64::from(*number)))
}

/// Rules that name a port which the bridge has no more go on by its number.
pub fn keep_rules(bridge: &mut Bridge, numbers: &Numbers) {
    if let Some(numbers) = numbers.get(&bridge.name) {
        rules::by_number(bridge, numbers);
    }
}

/// The number behind `list[` in a problem's path.
fn index(path: &str, list: &str) -> Option<usize> {
    let behind = &path[path.find(&format!("{list}["))? + list.len() + 1..];
    behind.split(']').next()?.parse().ok()
}

/// Takes out what cannot be served, until the rest is good.
fn prune(document: &mut Document, errors: &mut Errors, ignored: &mut Ignored, numbers: &Numbers) {
    loop {
        let problems = rules::problems(document);
        let (mut bridges, mut ports, mut flows) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut mirrors, mut selected, mut fdb) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut settings, mut sessions) = (BTreeSet::new(), BTreeSet::new());
        for problem in &problems {
            let path = problem.path.as_str();
            let Some(at) = index(path, "bridge") else { continue };
            let Some(bridge) = document.bridges.get(at) else { continue };
            // What is wrong in it, without whose it is.
            let place = problem.place.split_once(": ").map_or("", |(_, field)| field);
            let why = if place.is_empty() {
                problem.message.clone()
            } else {
                format!("{place}: {}", problem.message)
            };
            // A mirror's lists of ports have numbers, too.
            let mirror = index(path, "mirror");
            if let (None, Some(index)) = (mirror, index(path, "port")) {
                let Some(port) = bridge.ports.get(index) else { continue };
                if path.contains(".bfd.") {
                    // The port runs, without a session.
                    errors.entry(port.name.clone()).or_insert_with(|| format!("not served: {why}"));
                    sessions.insert((at, index));
                } else {
                    errors.entry(port.name.clone()).or_insert(why);
                    ports.insert((at, index));
                }
                continue;
            }
            if let Some(mirror) = mirror {
                let lists = ["select_src_port", "select_dst_port"];
                match lists.into_iter().find_map(|list| Some((list, index(path, list)?))) {
                    Some((list, port)) => drop(selected.insert((at, mirror, list, port))),
                    None => drop(mirrors.insert((at, mirror))),
                }
            } else if let Some((_, key)) = path.split_once(".other_config.") {
                settings.insert((at, key.to_owned()));
            } else if let Some(entry) = index(path, "fdb") {
                fdb.insert((at, entry));
            } else {
                errors.entry(bridge.name.clone()).or_insert(why);
                match index(path, "flows") {
                    Some(flow) => drop(flows.insert((at, flow))),
                    None => drop(bridges.insert(at)),
                }
                continue;
            }
            ignored.insert(format!("{}: {}: ignored", problem.place, problem.message));
        }
        for (bridge, port) in &sessions {
            document.bridges[*bridge].ports[*port].bfd.remove("enable");
        }
        // From the last to the first, so that numbers stay right.
        for (bridge, port) in ports.iter().rev() {
            document.bridges[*bridge].ports.remove(*port);
        }
        for (bridge, flow) in flows.iter().rev() {
            document.bridges[*bridge].flows.remove(*flow);
        }
        for bridge in ports.iter().map(|(bridge, _)| *bridge).collect::<BTreeSet<_>>() {
            keep_rules(&mut document.bridges[bridge], numbers);
        }
        for (bridge, entry) in fdb.iter().rev() {
            document.bridges[*bridge].fdb.remove(*entry);
        }
        for (bridge, mirror, list, port) in selected.iter().rev() {
            let mirror = &mut document.bridges[*bridge].mirrors[*mirror];
            let list = if *list == "select_src_port" {
                &mut mirror.select_src_port
            } else {
                &mut mirror.select_dst_port
            };
            list.remove(*port);
        }
        for (bridge, mirror) in mirrors.iter().rev() {
            document.bridges[*bridge].mirrors.remove(*mirror);
        }
        for (bridge, key) in &settings {
            document.bridges[*bridge].other_config.remove(key);
        }
        for bridge in bridges.iter().rev() {
            let gone = document.bridges.remove(*bridge);
            let why = errors.get(&gone.name).cloned().unwrap_or_default();
            for port in gone.ports {
                errors.entry(port.name).or_insert_with(|| format!("bridge {}: {why}", gone.name));
            }
        }
        let nothing = ports.is_empty() && mirrors.is_empty() && settings.is_empty() && flows.is_empty();
        let nothing = nothing && selected.is_empty() && fdb.is_empty() && sessions.is_empty();
        if nothing && bridges.is_empty() {
            for problem in problems {
                tracing::error!(%problem, "the database asks for what cannot be served");
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::rows::{OpenVSwitch, Rows as Uuids};

    fn uuids(names: &[&str]) -> Uuids {
        Uuids(names.iter().map(|name| (*name).to_owned()).collect())
    }

    type Options<'a> = &'a [(&'a str, &'a str)];

    /// Bridge br0 with these interfaces (name, type, options) on ports of the same names.
    fn rows(interfaces: &[(&str, &str, Options<'_>)]) -> Rows {
        let mut rows = Rows {
            root: Some(OpenVSwitch { bridges: uuids(&["b"]), ..OpenVSwitch::default() }),
            ..Rows::default()
        };
        for (name, kind, options) in interfaces {
            let uuid = (*name).to_owned();
            rows.interfaces.insert(
                uuid.clone(),
                Interface {
                    uuid: uuid.clone(),
                    name: uuid.clone(),
                    r#type: (*kind).to_owned(),
                    options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                    ..Interface::default()
                },
            );
            let port = rows::Port {
                uuid: uuid.clone(),
                name: uuid.clone(),
                interfaces: uuids(&[name]),
                ..Default::default()
            };
            rows.ports.insert(uuid, port);
        }
        let names: Vec<&str> = interfaces.iter().map(|(name, ..)| *name).collect();
        let bridge =
            rows::Bridge { uuid: "b".into(), name: "br0".into(), ports: uuids(&names), ..Default::default() };
        rows.bridges.insert("br0".into(), bridge);
        rows
    }

    fn asked_of(rows: &Rows, running: &Document, numbers: &Numbers) -> Asked {
        asked(rows, Known { running, numbers, ofports: &Ofports::new() })
    }

    fn asked_first(rows: &Rows) -> Asked {
        asked_of(rows, &Document::default(), &Numbers::new())
    }

    #[test]
    fn what_cannot_be_served_has_an_error_and_the_rest_is_served() {
        let mut rows = rows(&[
            ("br0", "internal", &[]),
            ("good", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "5")]),
            ("key", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "16777216")]),
            ("what", "wormhole", &[]),
            ("nosuchdev", "", &[]),
            ("twin", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "5")]),
        ]);
        let row = rows.bridges.get_mut("br0").unwrap();
        row.fail_mode = Some("secure".into());
        row.other_config = [
            ("mac-aging-time", "soon"),
            ("forward-bpdu", "true"),
            ("address", "10.0.0.1/24"),
            ("of-others", "x"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let Asked { document, errors, ignored } = asked_first(&rows);
        let bridge = document.bridge("br0").unwrap();
        assert_eq!(bridge.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert_eq!(bridge.fail_mode, FailMode::Secure);
        assert_eq!(bridge.other_config.keys().collect::<Vec<_>>(), ["forward-bpdu"]);
        assert_eq!(bridge.address[0].to_string(), "10.0.0.1/24");
        assert!(!bridge.has_device());
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["key", "nosuchdev", "twin", "what"]);
        assert!(errors["key"].contains("24 bits"), "{errors:?}");
        assert!(errors["what"].contains("wormhole") && errors["what"].contains("expected"), "{errors:?}");
        assert_eq!(errors["nosuchdev"], "could not open network device nosuchdev (No such device)");
        assert!(ignored.iter().any(|text| text.contains("mac-aging-time")), "{ignored:?}");
        assert!(rules::problems(&document).is_empty());
    }

    #[test]
    fn what_open_vswitch_ignores_takes_no_port_away() {
        let vxlan: Options<'_> =
            &[("remote_ip", "10.0.0.2"), ("key", "no number"), ("ttl", "9999"), ("x", "y")];
        let mut rows = rows(&[
            ("br0", "internal", &[]),
            ("vx", "vxlan", vxlan),
            ("in0", "internal", &[("n_rxq", "2")]),
            ("pa", "patch", &[("peer", "pb"), ("x", "y")]),
            ("gn", "geneve", &[("remote_ip", "nowhere")]),
        ]);
        let row = rows.interfaces.get_mut("in0").unwrap();
        (row.mac, row.mtu_request) = (Some("02:00:00:00:00:07".into()), Some(1400));
        let good = asked_first(&rows);
        let row = rows.interfaces.get_mut("in0").unwrap();
        (row.mac, row.mtu_request) = (Some("01:00:00:00:00:07".into()), Some(60000));
        let bfd = [("enable", "true"), ("min_rx", "soon"), ("mult", "0"), ("bfd_dst_ip", "x")];
        let strings = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        rows.interfaces.get_mut("vx").unwrap().bfd = strings(&bfd);
        rows.interfaces.get_mut("vx").unwrap().other_config = strings(&[("pmd-rxq-affinity", "x")]);
        rows.ports.get_mut("in0").unwrap().other_config =
            strings(&[("qinq-ethtype", "x"), ("mcast-snooping-flood", "true")]);
        rows.bridges.get_mut("br0").unwrap().other_config =
            strings(&[("hwaddr", "01:00:00:00:00:01"), ("mac-table-size", "5")]);
        let Asked { document, errors, ignored } = asked_of(&rows, &good.document, &Numbers::new());
        let (_, vx) = document.port("vx").unwrap();
        assert_eq!(vx.options, strings(&[("remote_ip", "10.0.0.2"), ("key", "0")]));
        assert_eq!(vx.bfd, strings(&[("enable", "true")]));
        let (_, in0) = document.port("in0").unwrap();
        assert_eq!((in0.mtu, in0.mac.unwrap().to_string().as_str()), (Some(1400), "02:00:00:00:00:07"));
        assert_eq!(in0.other_config, strings(&[("mcast-snooping-flood", "true")]));
        let bridge = document.bridge("br0").unwrap();
        assert_eq!(bridge.other_config, strings(&[("mac-table-size", "10")]));
        // Neither a patch port with what it does not know nor a tunnel to nowhere is there, as in Open vSwitch.
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["gn", "in0", "pa"]);
        assert_eq!(errors["in0"], "not served: mtu_request");
        for what in [
            "options:key",
            "options:ttl",
            "options:x",
            "options:n_rxq",
            "bfd:min_rx",
            "bfd:mult",
            "bfd:bfd_dst_ip",
            "mac:",
            "mtu_request",
            "pmd-rxq-affinity",
            "qinq-ethtype",
            "hwaddr",
            "mac-table-size",
        ] {
            assert_eq!(ignored.iter().filter(|text| text.contains(what)).count(), 1, "{what}: {ignored:?}");
        }
    }

    #[test]
    fn a_session_that_cannot_be_takes_no_port_away() {
        let options: Options<'_> = &[("remote_ip", "10.0.0.2,10.0.0.3")];
        let mut rows = rows(&[("vx", "vxlan", options), ("gone", "vxlan", &[("remote_ip", "x")])]);
        rows.interfaces.get_mut("vx").unwrap().bfd = [("enable".into(), "true".into())].into();
        let Asked { document, errors, .. } = asked_first(&rows);
        assert!(document.port("vx").is_some_and(|(_, port)| port.bfd.is_empty()));
        assert!(errors["vx"].starts_with("not served: bfd.enable: "), "{errors:?}");
    }

    #[test]
    fn a_mirror_goes_on_without_what_is_wrong_in_it() {
        let vxlan: Options<'_> = &[("remote_ip", "10.0.0.2")];
        let mut rows =
            rows(&[("a", "vxlan", vxlan), ("b", "patch", &[("peer", "c")]), ("out", "vxlan", &[])]);
        let mirror = |name: &str, to: &[&str]| rows::Mirror {
            name: name.to_owned(),
            select_src_port: uuids(&["a", "b", "out"]),
            output_port: uuids(to),
            output_vlan: Some(7),
            ..rows::Mirror::default()
        };
        rows.mirrors = [("m", mirror("m", &["b"])), ("n", mirror("n", &["out"]))]
            .map(|(uuid, row)| (uuid.to_owned(), row))
            .into();
        rows.bridges.get_mut("br0").unwrap().mirrors = uuids(&["m", "n"]);
        let Asked { document, errors, ignored } = asked_first(&rows);
        let [mirror] = &document.bridges[0].mirrors[..] else { panic!("{ignored:?}") };
        assert_eq!((mirror.name.as_str(), mirror.output_vlan), ("m", None));
        assert_eq!(mirror.select_src_port, ["a"]);
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["out"]);
    }

    #[test]
    fn a_port_that_was_out_of_service_gets_its_number_again_if_it_is_free() {
        let rows = rows(&[("vx", "vxlan", &[("remote_ip", "10.0.0.2")])]);
        let ofports: Ofports = [(("br0".to_owned(), "vx".to_owned()), 5)].into();
        let number = |numbers: &Numbers| {
            let known = Known { running: &Document::default(), numbers, ofports: &ofports };
            asked(&rows, known).document.port("vx").unwrap().1.ofport_request
        };
        assert_eq!(number(&Numbers::new()), Some(5));
        let taken: Numbers = [("br0".to_owned(), [("other".to_owned(), 5)].into_iter().collect())].into();
        assert_eq!(number(&taken), Some(1));
    }

    #[test]
    fn a_bridge_is_a_device_of_the_kernel_unless_its_row_has_addresses() {
        let mut rows = rows(&[]);
        let Asked { mut document, errors, .. } = asked_first(&rows);
        assert!(document.bridge("br0").unwrap().has_device() && errors.is_empty());
        // What the document had before is the kernel's now.
        let bridge = document.bridge_mut("br0").unwrap();
        (bridge.addresses_from, bridge.address) =
            (AddressesFrom::Document, vec!["10.0.0.1/24".parse().unwrap()]);
        let host = r#"{ "ip": "10.0.0.9", "mac": "02:00:00:00:00:02" }"#;
        bridge.neighbours = vec![serde_json::from_str(host).unwrap()];
        let Asked { document: now, errors, .. } = asked_of(&rows, &document, &Numbers::new());
        assert_eq!((now.bridge("br0").unwrap().address.len(), errors.len()), (0, 0));
        assert_eq!(now.bridge("br0").unwrap().neighbours.len(), 1, "a host of the overlay");
        assert!(rules::problems(&now).is_empty());
        rows.bridges.get_mut("br0").unwrap().other_config = [("address".into(), "10.0.0.1/24".into())].into();
        assert!(!asked_of(&rows, &document, &Numbers::new()).document.bridge("br0").unwrap().has_device());
    }

    #[test]
    fn vlans_of_ports_and_of_local_come_from_their_rows() {
        let options: Options<'_> = &[("remote_ip", "10.0.0.2"), ("key", "5")];
        let mut rows = rows(&[("br0", "internal", &[]), ("vx", "vxlan", options)]);
        rows.ports.get_mut("br0").unwrap().tag = Some(7);
        let port = rows.ports.get_mut("vx").unwrap();
        (port.tag, port.vlan_mode, port.cvlans) = (Some(9), Some("dot1q-tunnel".into()), vec![3, 4]);
        port.other_config = [("qinq-ethtype", "802.1q"), ("of-others", "x")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let Asked { document, errors, .. } = asked_first(&rows);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(document.bridge("br0").unwrap().tag, Some(7));
        let (_, port) = document.port("vx").unwrap();
        assert_eq!((port.tag, &port.cvlans[..], port.qinq_ethtype()), (Some(9), &[3, 4][..], 0x8100));
        assert_eq!(port.other_config.keys().collect::<Vec<_>>(), ["qinq-ethtype"]);
    }

    #[test]
    fn a_bridge_that_cannot_be_served_takes_only_its_own_ports_along() {
        let mut rows = rows(&[("vx", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "5")])]);
        let mut row = rows.bridges["br0"].clone();
        (row.name, row.ports) = ("a bridge's bad name".into(), uuids(&["vx"]));
        rows.bridges.get_mut("br0").unwrap().ports = Uuids::default();
        rows.bridges.insert(row.name.clone(), row);
        let Asked { document, errors, .. } = asked_first(&rows);
        assert_eq!(document.bridges.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["br0"]);
        assert!(errors["vx"].contains("bridge a bridge's bad name"), "{errors:?}");
    }

    #[test]
    fn numbers_stay_with_their_ports() {
        let vxlan: Options<'_> = &[("remote_ip", "10.0.0.2"), ("key", "5")];
        let mut rows = rows(&[("vx", "vxlan", vxlan), ("vy", "vxlan", &[("remote_ip", "10.0.0.3")])]);
        let number = |rows: &Rows, running: &Document, name: &str| {
            asked_of(rows, running, &Numbers::new()).document.port(name).unwrap().1.ofport_request
        };
        let empty = Document::default();
        assert_eq!(number(&rows, &empty, "vx"), Some(1));
        // After a restart of the switch: as before.
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(7);
        assert_eq!(number(&rows, &empty, "vx"), Some(7));
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(-1);
        assert_eq!(number(&rows, &empty, "vx"), Some(1));
        // While it runs nothing changes by what was written.
        let running = asked_of(&rows, &empty, &Numbers::new()).document;
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(7);
        assert_eq!(number(&rows, &running, "vx"), Some(1));
        // Who asks goes before who had.
        rows.interfaces.get_mut("vy").unwrap().ofport_request = Some(7);
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (Some(1), Some(7)));
        // Of two who ask the one that has it, else the first; the other gets what is free.
        rows.interfaces.get_mut("vx").unwrap().ofport_request = Some(7);
        rows.interfaces.get_mut("vx").unwrap().ofport = None;
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (Some(7), Some(1)));
        rows.interfaces.get_mut("vy").unwrap().ofport = Some(7);
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (Some(1), Some(7)));
    }

    #[test]
    fn a_new_port_gets_no_number_of_one_that_is_out_of_service() {
        let rows =
            rows(&[("vx", "vxlan", &[("remote_ip", "x")]), ("vy", "vxlan", &[("remote_ip", "10.0.0.3")])]);
        let ofports: Ofports = [(("br0".to_owned(), "vx".to_owned()), 1)].into();
        let known = Known { running: &Document::default(), numbers: &Numbers::new(), ofports: &ofports };
        let Asked { document, errors, .. } = asked(&rows, known);
        assert!(errors.contains_key("vx"));
        assert_eq!(document.port("vy").unwrap().1.ofport_request, Some(2));
    }

    #[test]
    fn rules_and_neighbours_are_not_the_databases() {
        let mut rows = rows(&[("vx", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "5")])]);
        let address = [("address".to_owned(), "10.0.0.1/24".to_owned())].into();
        rows.bridges.get_mut("br0").unwrap().other_config = address;
        let numbers: Numbers = [("br0".to_owned(), [("vx".to_owned(), 7)].into_iter().collect())].into();
        let mut running = asked_of(&rows, &Document::default(), &numbers).document;
        running.bridges[0].flows = vec!["in_port=vx,actions=drop".into()];
        running.bridges[0].address = vec!["10.0.0.1/24".parse().unwrap()];
        let again = asked_of(&rows, &running, &numbers);
        assert_eq!((&again.document, again.errors), (&running, Errors::new()));
        // Neither a port that goes nor one that cannot be served takes rules, or even its bridge, along.
        rows.interfaces.get_mut("vx").unwrap().options.insert("key".into(), "99999999".into());
        let broken = asked_of(&rows, &running, &numbers);
        assert_eq!(broken.document.bridges[0].flows, ["in_port=7,actions=drop"]);
        assert_eq!(broken.errors.keys().collect::<Vec<_>>(), ["vx"]);
        rows.bridges.get_mut("br0").unwrap().ports = Uuids::default();
        let gone = asked_of(&rows, &running, &numbers);
        assert_eq!(gone.document.bridges[0].flows, ["in_port=7,actions=drop"]);
        assert!(gone.errors.is_empty());
    }
}
