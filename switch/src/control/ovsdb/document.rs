//! The document that rows of a database ask for. A row that cannot be served gets an error, and the rest is served.

use super::rows::Rows;
use super::unserved;
use crate::control::rules;
use config::{AddressesFrom, Bridge, Document, FailMode, Mirror, Port, VlanMode};
use flow::ofp::PortMap;
use ovsdb::rows::{self, Interface};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Keys of a port's `other_config` that the switch knows; others are for others.
const PORT_OTHER_CONFIG: [&str; 2] = ["qinq-ethtype", "priority-tags"];
/// Key of a bridge's `other_config` with the VTEP's addresses, as `[[bridge]] address` has them (ours). Without it the bridge is
/// a device of the kernel, which has them.
const ADDRESS: &str = "address";

/// What is wrong with interfaces, by their names: `Interface` `error`.
pub type Errors = BTreeMap<String, String>;

/// OpenFlow numbers of ports by name, by bridge.
pub type Numbers = BTreeMap<String, PortMap>;

/// What rows ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What can be served of it.
    pub document: Document,
    /// What cannot.
    pub errors: Errors,
}

/// What `rows` ask for, where `running` is the document that runs: rules, routes and neighbours are not in the
/// database. `numbers` are those that bridges' ports have: rules that name a port which goes go on by its number.
pub fn asked(rows: &Rows, running: &Document, numbers: &Numbers) -> Asked {
    let mut document = Document { bridges: Vec::new(), other_config: other_config(rows), ..running.clone() };
    let mut errors = Errors::new();
    for row in rows.bridges.values() {
        if let Some(why) = unserved::datapath_type(row) {
            refuse(row, &why, rows, &mut errors);
            continue;
        }
        let requested = requests(rows, row);
        let mut bridge = bridge(row, running.bridge(&row.name), rows, &mut errors);
        for port_row in rows.ports_of(row) {
            let interfaces: Vec<&Interface> = rows.interfaces_of(port_row).collect();
            match interfaces.as_slice() {
                [] => {}
                // The bridge's LOCAL port.
                [one] if one.name == row.name => {
                    bridge.tag = port_row.tag.and_then(|tag| u16::try_from(tag).ok());
                }
                [one] => match port(port_row, one) {
                    Ok(mut port) => {
                        let before = running.port(&port.name).filter(|(b, _)| b.name == bridge.name);
                        port.ofport_request = number(one, before.map(|(_, port)| port), &requested);
                        bridge.ports.push(port);
                    }
                    Err(error) => drop(errors.insert(one.name.clone(), error)),
                },
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
    prune(&mut document, &mut errors, numbers);
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
    Asked { document, errors }
}

/// What the switch knows of `Open_vSwitch` `other_config`. What is wrong in it is said and left out, as in Open vSwitch.
fn other_config(rows: &Rows) -> BTreeMap<String, String> {
    let mut known = known(
        rows.root.as_ref().map_or(&BTreeMap::new(), |root| &root.other_config),
        &config::SWITCH_OTHER_CONFIG,
    );
    known.retain(|key, value| match config::check_switch_other_config(key, value) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%key, %error, "other_config of Open_vSwitch");
            false
        }
    });
    known
}

fn known(map: &BTreeMap<String, String>, keys: &[&str]) -> BTreeMap<String, String> {
    map.iter().filter(|(key, _)| keys.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn bridge(row: &rows::Bridge, running: Option<&Bridge>, rows: &Rows, errors: &mut Errors) -> Bridge {
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
    bridge.mirrors = mirrors.map(|row| mirror(row, rows)).collect();
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

fn mirror(row: &rows::Mirror, rows: &Rows) -> Mirror {
    Mirror {
        name: row.name.clone(),
        select_all: row.select_all,
        select_src_port: rows.port_names(&row.select_src_port.0),
        select_dst_port: rows.port_names(&row.select_dst_port.0),
        select_vlan: vlans(&row.select_vlan),
        output_port: rows.port_names(&row.output_port.0).pop(),
        output_vlan: row.output_vlan.and_then(|vlan| u16::try_from(vlan).ok()),
    }
}

/// A port without its OpenFlow number; or why there is none.
fn port(row: &rows::Port, interface: &Interface) -> Result<Port, String> {
    let name = &interface.name;
    let (mut kind, mut options) = (interface.r#type.clone(), interface.options.clone());
    if matches!(kind.as_str(), "" | "system") {
        // A device of the kernel. Its name is a file's here.
        let known = !name.contains('/') && Path::new("/sys/class/net").join(name).exists();
        if !known {
            return Err(format!("could not open network device {name} (No such device)"));
        }
        "system".clone_into(&mut kind);
        options.retain(|option, _| option == "n_rxq");
    }
    let mac = match &interface.mac {
        Some(text) if matches!(kind.as_str(), "internal" | "tap") => {
            Some(text.parse().map_err(|error| format!("mac: found {text:?}, {error}"))?)
        }
        _ => None,
    };
    let mtu = match interface.mtu_request {
        Some(mtu) => {
            let expected = || format!("mtu_request: found {mtu}, expected a number from 68 to 9702");
            Some(u16::try_from(mtu).map_err(|_| expected())?)
        }
        None => None,
    };
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
    Ok(Port {
        name: name.clone(),
        kind,
        options,
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
            let mut both = known(&row.other_config, &PORT_OTHER_CONFIG);
            both.extend(known(&interface.other_config, &config::INTERFACE_OTHER_CONFIG));
            both
        },
    })
}

/// The OpenFlow number to ask for: what the row asks for, unless another port gets that, else what the port has, else, for a
/// port that is new to a switch that has just started, what it had before.
fn number(row: &Interface, running: Option<&Port>, requested: &BTreeMap<i64, &str>) -> Option<u16> {
    let of = |number: i64| u16::try_from(number).ok().filter(|number| (1..0xff00).contains(number));
    if let Some(number) = row.ofport_request
        && requested.get(&number).is_some_and(|name| *name == row.name)
    {
        return of(number);
    }
    match running {
        Some(port) => port.ofport_request,
        None => row.ofport.and_then(of),
    }
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
fn prune(document: &mut Document, errors: &mut Errors, numbers: &Numbers) {
    loop {
        let problems = rules::problems(document);
        let (mut bridges, mut ports) = (BTreeSet::new(), BTreeSet::new());
        let (mut mirrors, mut settings, mut flows) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for problem in &problems {
            let Some(at) = index(&problem.path, "bridge") else { continue };
            let Some(bridge) = document.bridges.get(at) else { continue };
            // What is wrong in it, without whose it is.
            let place = problem.place.split_once(": ").map_or("", |(_, field)| field);
            let why = if place.is_empty() {
                problem.message.clone()
            } else {
                format!("{place}: {}", problem.message)
            };
            if let Some(port) = index(&problem.path, "port") {
                if let Some(port) = bridge.ports.get(port) {
                    errors.entry(port.name.clone()).or_insert(why);
                }
                ports.insert((at, port));
            } else {
                errors.entry(bridge.name.clone()).or_insert(why);
                let (mirror, flow) = (index(&problem.path, "mirror"), index(&problem.path, "flows"));
                match (mirror, flow, problem.path.split_once(".other_config.")) {
                    (Some(mirror), ..) => drop(mirrors.insert((at, mirror))),
                    (_, Some(flow), _) => drop(flows.insert((at, flow))),
                    (.., Some((_, key))) => drop(settings.insert((at, key.to_owned()))),
                    _ => drop(bridges.insert(at)),
                }
            }
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
        let Asked { document, errors } = asked(&rows, &Document::default(), &Numbers::new());
        let bridge = document.bridge("br0").unwrap();
        assert_eq!(bridge.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert_eq!(bridge.fail_mode, FailMode::Secure);
        assert_eq!(bridge.other_config.keys().collect::<Vec<_>>(), ["forward-bpdu"]);
        assert_eq!(bridge.address[0].to_string(), "10.0.0.1/24");
        assert!(!bridge.has_device());
        assert_eq!(errors.keys().collect::<Vec<_>>(), ["br0", "key", "nosuchdev", "twin", "what"]);
        assert!(errors["key"].contains("24 bits"), "{errors:?}");
        assert!(errors["what"].contains("wormhole") && errors["what"].contains("expected"), "{errors:?}");
        assert_eq!(errors["nosuchdev"], "could not open network device nosuchdev (No such device)");
        assert!(errors["br0"].contains("mac-aging-time"), "{errors:?}");
        assert!(rules::problems(&document).is_empty());
    }

    #[test]
    fn a_bridge_is_a_device_of_the_kernel_unless_its_row_has_addresses() {
        let mut rows = rows(&[]);
        let Asked { mut document, errors } = asked(&rows, &Document::default(), &Numbers::new());
        assert!(document.bridge("br0").unwrap().has_device() && errors.is_empty());
        // What the document had before is the kernel's now.
        let bridge = document.bridge_mut("br0").unwrap();
        (bridge.addresses_from, bridge.address) =
            (AddressesFrom::Document, vec!["10.0.0.1/24".parse().unwrap()]);
        let host = r#"{ "ip": "10.0.0.9", "mac": "02:00:00:00:00:02" }"#;
        bridge.neighbours = vec![serde_json::from_str(host).unwrap()];
        let Asked { document: now, errors } = asked(&rows, &document, &Numbers::new());
        assert_eq!((now.bridge("br0").unwrap().address.len(), errors.len()), (0, 0));
        assert_eq!(now.bridge("br0").unwrap().neighbours.len(), 1, "a host of the overlay");
        assert!(rules::problems(&now).is_empty());
        rows.bridges.get_mut("br0").unwrap().other_config = [("address".into(), "10.0.0.1/24".into())].into();
        assert!(!asked(&rows, &document, &Numbers::new()).document.bridge("br0").unwrap().has_device());
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
        let Asked { document, errors } = asked(&rows, &Document::default(), &Numbers::new());
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
        let Asked { document, errors } = asked(&rows, &Document::default(), &Numbers::new());
        assert_eq!(document.bridges.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["br0"]);
        assert!(errors["vx"].contains("bridge a bridge's bad name"), "{errors:?}");
    }

    #[test]
    fn numbers_stay_with_their_ports() {
        let vxlan: Options<'_> = &[("remote_ip", "10.0.0.2"), ("key", "5")];
        let mut rows = rows(&[("vx", "vxlan", vxlan), ("vy", "vxlan", &[("remote_ip", "10.0.0.3")])]);
        let number = |rows: &Rows, running: &Document, name: &str| {
            asked(rows, running, &Numbers::new()).document.port(name).unwrap().1.ofport_request
        };
        let empty = Document::default();
        assert_eq!(number(&rows, &empty, "vx"), None);
        // After a restart of the switch: as before.
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(7);
        assert_eq!(number(&rows, &empty, "vx"), Some(7));
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(-1);
        assert_eq!(number(&rows, &empty, "vx"), None);
        // While it runs nothing changes by what was written.
        let running = asked(&rows, &empty, &Numbers::new()).document;
        rows.interfaces.get_mut("vx").unwrap().ofport = Some(7);
        assert_eq!(number(&rows, &running, "vx"), None);
        // Who asks goes before who had.
        rows.interfaces.get_mut("vy").unwrap().ofport_request = Some(7);
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (None, Some(7)));
        // Of two who ask the one that has it, else the first; the other gets what is free.
        rows.interfaces.get_mut("vx").unwrap().ofport_request = Some(7);
        rows.interfaces.get_mut("vx").unwrap().ofport = None;
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (Some(7), None));
        rows.interfaces.get_mut("vy").unwrap().ofport = Some(7);
        assert_eq!((number(&rows, &empty, "vx"), number(&rows, &empty, "vy")), (None, Some(7)));
    }

    #[test]
    fn rules_and_neighbours_are_not_the_databases() {
        let mut rows = rows(&[("vx", "vxlan", &[("remote_ip", "10.0.0.2"), ("key", "5")])]);
        let address = [("address".to_owned(), "10.0.0.1/24".to_owned())].into();
        rows.bridges.get_mut("br0").unwrap().other_config = address;
        let numbers: Numbers = [("br0".to_owned(), [("vx".to_owned(), 7)].into_iter().collect())].into();
        let mut running = asked(&rows, &Document::default(), &numbers).document;
        running.bridges[0].flows = vec!["in_port=vx,actions=drop".into()];
        running.bridges[0].address = vec!["10.0.0.1/24".parse().unwrap()];
        let again = asked(&rows, &running, &numbers);
        assert_eq!((&again.document, again.errors), (&running, Errors::new()));
        // Neither a port that goes nor one that cannot be served takes rules, or even its bridge, along.
        rows.interfaces.get_mut("vx").unwrap().options.insert("key".into(), "99999999".into());
        let broken = asked(&rows, &running, &numbers);
        assert_eq!(broken.document.bridges[0].flows, ["in_port=7,actions=drop"]);
        assert_eq!(broken.errors.keys().collect::<Vec<_>>(), ["vx"]);
        rows.bridges.get_mut("br0").unwrap().ports = Uuids::default();
        let gone = asked(&rows, &running, &numbers);
        assert_eq!(gone.document.bridges[0].flows, ["in_port=7,actions=drop"]);
        assert!(gone.errors.is_empty());
    }
}
