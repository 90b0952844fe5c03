//! What rows ask for and the switch does not do: it is said, and the rest is served.

use super::rows::{ADDRESS, Rows};
use flow::ofp::parse_subfield;
use openflow::Version;
use ovsdb::rows::{Bridge, Interface, Port};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Types of datapath that a bridge may have: all are this one.
const DATAPATH_TYPES: [&str; 3] = ["", "netdev", "system"];

/// MTUs that the kernel has and this switch has not.
const LARGE_MTUS: RangeInclusive<i64> = config::MTU_RANGE.1 as i64 + 1..=65535;

/// What is wrong with a bridge's datapath type.
pub fn datapath_type(row: &Bridge) -> Option<String> {
    let known = DATAPATH_TYPES.contains(&row.datapath_type.as_str());
    (!known).then(|| format!("datapath_type: found {:?}, expected netdev or system", row.datapath_type))
}

/// Versions of OpenFlow that a bridge speaks by its column `protocols`: all if that is empty.
pub fn versions(row: &Bridge) -> Vec<Version> {
    let all = Version::all().into_iter();
    all.filter(|version| row.protocols.is_empty() || row.protocols.iter().any(|name| name == version.name()))
        .collect()
}

/// What of an interface is not served, though it runs: `Interface` `error`.
pub fn of_interface(row: &Interface) -> Option<String> {
    let columns = [
        ("ingress_policing_rate", row.ingress_policing_rate != 0),
        ("mtu_request", row.mtu_request.is_some_and(|mtu| LARGE_MTUS.contains(&mtu))),
        ("cfm_mpid", row.cfm_mpid.is_some()),
        ("lldp", row.lldp.get("enable").is_some_and(|text| text == "true")),
    ];
    let set: Vec<&str> = columns.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect();
    (!set.is_empty()).then(|| format!("not served: {}", set.join(", ")))
}

/// What of a bridge's own interface says nothing: its MAC address is the bridge's, and without a device it has no MTU.
fn of_local(row: &Interface, bridge: &Bridge) -> impl Iterator<Item = String> {
    let has_device = !bridge.other_config.contains_key(ADDRESS);
    [
        ("mac", row.mac.is_some(), "other_config:hwaddr of the bridge"),
        ("mtu_request", row.mtu_request.is_some() && !has_device, "a bridge that is a device of the kernel"),
    ]
    .into_iter()
    .filter(|(_, is_set, _)| *is_set)
    .map(|(column, _, instead)| format!("interface {}: {column} is ignored, expected {instead}", row.name))
}

fn of_port(row: &Port) -> impl Iterator<Item = String> {
    [("qos", !row.qos.0.is_empty()), ("protected", row.protected)]
        .into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| format!("port {}: {name} is not served", row.name))
}

fn of_bridge(rows: &Rows, row: &Bridge) -> Vec<String> {
    let columns = [
        ("netflow", !row.netflow.0.is_empty()),
        ("sflow", !row.sflow.0.is_empty()),
        ("ipfix", !row.ipfix.0.is_empty()),
        ("stp_enable", row.stp_enable),
        ("rstp_enable", row.rstp_enable),
        ("flood_vlans", !row.flood_vlans.is_empty()),
    ];
    let set = columns.into_iter().filter(|(_, is_set)| *is_set);
    let mut found: Vec<String> = set.map(|(name, _)| format!("{name} is not served")).collect();
    let spoken = |name: &String| Version::all().iter().any(|version| version.name() == name);
    let unspoken = row.protocols.iter().filter(|name| !spoken(name));
    found.extend(unspoken.map(|name| format!("protocols: {name} is not spoken")));
    for (number, uuid) in &row.flow_tables {
        for text in rows.flow_tables.get(uuid).iter().flat_map(|table| &table.groups) {
            if let Err(error) = parse_subfield(text, &()) {
                found.push(format!("flow table {number}: groups: {error}"));
            }
        }
    }
    for mirror in row.mirrors.0.iter().filter_map(|uuid| rows.mirrors.get(uuid)) {
        if mirror.snaplen.is_some() {
            found.push(format!("mirror {}: snaplen is not served", mirror.name));
        }
    }
    for port in rows.ports_of(row) {
        found.extend(of_port(port));
        found.extend(port_vlans(port));
        if let Some(local) = rows.interfaces_of(port).find(|one| one.name == row.name) {
            found.extend(of_local(local, row));
        }
        let interfaces = rows.interfaces_of(port);
        found.extend(
            interfaces.filter_map(|one| Some(format!("interface {}: {}", one.name, of_interface(one)?))),
        );
    }
    found.iter().map(|what| format!("bridge {}: {what}", row.name)).collect()
}

/// Which of a port's VLAN columns say nothing in its mode.
fn port_vlans(row: &Port) -> Option<String> {
    let column = match row.vlan_mode.as_deref() {
        Some("trunk") if row.tag.is_some() => "tag",
        Some("access" | "dot1q-tunnel") if !row.trunks.is_empty() => "trunks",
        None if row.tag.is_some() && !row.trunks.is_empty() => "trunks",
        _ => return None,
    };
    Some(format!("port {}: {column} is ignored in this vlan_mode", row.name))
}

/// What the rows ask for that is not served, in words for the log.
pub fn of_rows(rows: &Rows) -> BTreeSet<String> {
    rows.bridges.values().flat_map(|row| of_bridge(rows, row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::rows::{FlowTable, Rows as Uuids};

    #[test]
    fn what_is_not_served_is_named() {
        let mut rows = Rows::default();
        let mut bridge = Bridge {
            name: "br0".into(),
            netflow: Uuids(vec!["n".into()]),
            rstp_enable: true,
            protocols: vec!["OpenFlow11".into(), "OpenFlow13".into()],
            flow_tables: [("3".to_owned(), "t".to_owned())].into(),
            ports: Uuids(vec!["p".into()]),
            ..Bridge::default()
        };
        rows.flow_tables.insert(
            "t".into(),
            FlowTable { groups: vec!["NXM_OF_NONSENSE[]".into()], ..FlowTable::default() },
        );
        let port = Port {
            name: "p0".into(),
            qos: Uuids(vec!["q".into()]),
            interfaces: Uuids(vec!["i".into()]),
            vlan_mode: Some("access".into()),
            trunks: vec![1],
            ..Port::default()
        };
        rows.ports.insert("p".into(), port);
        let interface = Interface { name: "p0".into(), ingress_policing_rate: 1000, ..Interface::default() };
        rows.interfaces.insert("i".into(), interface);
        rows.bridges.insert("br0".into(), bridge.clone());
        let said: Vec<String> = of_rows(&rows).into_iter().collect();
        for (what, expected) in said.iter().zip([
            "bridge br0: flow table 3: groups: ",
            "bridge br0: interface p0: not served: ingress_policing_rate",
            "bridge br0: netflow is not served",
            "bridge br0: port p0: qos is not served",
            "bridge br0: port p0: trunks is ignored in this vlan_mode",
            "bridge br0: protocols: OpenFlow11 is not spoken",
            "bridge br0: rstp_enable is not served",
        ]) {
            assert!(what.starts_with(expected), "{what}, not {expected}");
        }
        assert_eq!(said.len(), 7, "{said:?}");
        assert_eq!(versions(&bridge), [Version::V13]);
        bridge.protocols.clear();
        assert_eq!(versions(&bridge), Version::all());
        for (kind, known) in [("", true), ("netdev", true), ("system", true), ("nonsense", false)] {
            bridge.datapath_type = kind.into();
            assert_eq!(datapath_type(&bridge).is_none(), known, "{kind}");
        }
    }
}
