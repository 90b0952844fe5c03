//! Columns of the tables: how commands change them and how they are printed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::rows::Rows;
use super::value::{ColumnValue, atom, map, set};
use super::{Setting, Table, VsctlError};
use crate::document::{Bridge, Document, Mirror, Port};
use crate::options::number;
use crate::problem::one_of;
use crate::switch::{INTERFACE_OTHER_CONFIG, PORT_OTHER_CONFIG};

/// What to do with a column.
#[derive(Clone, Copy)]
pub(super) enum Edit<'a> {
    /// `set`: a key of a map, or all of the column.
    Set(Option<&'a str>, &'a str),
    /// `add`.
    Add(&'a [String]),
    /// `remove`.
    Remove(&'a [String]),
    /// `clear`.
    Clear,
}

const BRIDGE: [&str; 10] = [
    "name",
    "fail_mode",
    "mcast_snooping_enable",
    "hwaddr",
    "addresses_from",
    "address",
    "mirrors",
    "other_config",
    "external_ids",
    "datapath_type",
];
const PORT: [&str; 7] = ["name", "tag", "trunks", "vlan_mode", "cvlans", "other_config", "external_ids"];
const INTERFACE: [&str; 9] = [
    "name",
    "type",
    "options",
    "mac",
    "mtu_request",
    "ofport_request",
    "bfd",
    "other_config",
    "external_ids",
];
const MIRROR: [&str; 7] =
    ["name", "output_port", "output_vlan", "select_all", "select_dst_port", "select_src_port", "select_vlan"];

const OPEN_VSWITCH: [&str; 1] = ["other_config"];
/// The one record of table `Open_vSwitch`.
pub const SWITCH_RECORD: &str = ".";

fn known(table: Table) -> &'static [&'static str] {
    match table {
        Table::Bridge => &BRIDGE,
        Table::Port => &PORT,
        Table::Interface => &INTERFACE,
        Table::Mirror => &MIRROR,
        Table::OpenVSwitch => &OPEN_VSWITCH,
    }
}

/// Changes `column` of a record.
pub(super) fn edit(
    document: &mut Document,
    table: Table,
    record: &str,
    column: &str,
    edit: Edit<'_>,
    rows: &Rows<'_>,
) -> Result<(), VsctlError> {
    // Ours and the file's spelling of OVS's `mtu_request`.
    let column = if column == "mtu" { "mtu_request" } else { column };
    if !known(table).contains(&column) {
        return Err(no_column(table, column));
    }
    if column == "name" {
        return Err(VsctlError::Conflict(format!("cannot modify read-only column name in table {table}")));
    }
    // Columns that hold rows of another table.
    let holds = match (table, column) {
        (Table::Bridge, "mirrors") => Some(Table::Mirror),
        (Table::Mirror, "output_port" | "select_src_port" | "select_dst_port") => Some(Table::Port),
        _ => None,
    };
    let (text, texts): (String, Vec<String>);
    let edit = match (edit, holds) {
        (Edit::Set(None, value), Some(held)) => {
            text = rows.resolve(held, value)?;
            Edit::Set(None, &text)
        }
        (Edit::Add(values), Some(held)) => {
            texts = values.iter().map(|value| rows.resolve(held, value)).collect::<Result<_, _>>()?;
            Edit::Add(&texts)
        }
        (Edit::Remove(values), Some(held)) => {
            texts = values.iter().map(|value| rows.resolve(held, value)).collect::<Result<_, _>>()?;
            Edit::Remove(&texts)
        }
        (edit, _) => edit,
    };
    if holds == Some(Table::Mirror) {
        return edit_mirrors(bridge(document, record)?, edit, rows);
    }
    let outcome = match table {
        Table::Mirror => edit_mirror(mirror(document, record)?, column, edit),
        Table::OpenVSwitch if record != SWITCH_RECORD => return Err(no_row(table, record)),
        Table::OpenVSwitch => map_column(&mut document.other_config, edit),
        Table::Bridge => edit_bridge(bridge(document, record)?, column, edit),
        Table::Port if column == "external_ids" => {
            map_column(&mut port(document, table, record)?.port_external_ids, edit)
        }
        Table::Port | Table::Interface if column == "other_config" => {
            part_of_map(&mut port(document, table, record)?.other_config, table == Table::Interface, edit)
        }
        Table::Port if column == "tag" && document.bridge(record).is_some() => {
            numeric(&mut bridge(document, record)?.tag, edit, "a VLAN from 0 to 4095")
        }
        Table::Port | Table::Interface => edit_port(port(document, table, record)?, column, edit),
    };
    outcome.map_err(|message| VsctlError::Value(format!("{table} {record}: {column}: {message}")))
}

/// `Interface does not contain a column ...`, and which table does.
fn no_column(table: Table, column: &str) -> VsctlError {
    let other = [Table::Bridge, Table::Port, Table::Interface, Table::Mirror, Table::OpenVSwitch]
        .into_iter()
        .find(|other| *other != table && known(*other).contains(&column));
    let hint = match other {
        Some(other) => format!("table {other} has it"),
        None => format!("expected {}", one_of(known(table))),
    };
    VsctlError::Usage(format!("{table} does not contain a column whose name matches \"{column}\"; {hint}"))
}

pub(super) fn no_row(table: Table, record: &str) -> VsctlError {
    VsctlError::NotFound(format!("no row \"{record}\" in table {table}"))
}

fn bridge<'d>(document: &'d mut Document, record: &str) -> Result<&'d mut Bridge, VsctlError> {
    document.bridge_mut(record).ok_or_else(|| no_row(Table::Bridge, record))
}

fn port<'d>(document: &'d mut Document, table: Table, record: &str) -> Result<&'d mut Port, VsctlError> {
    if document.bridge(record).is_some() {
        return Err(VsctlError::Conflict(format!(
            "{record} is the local port of bridge {record}, of which only tag is a setting; set those of the bridge"
        )));
    }
    document.port_mut(record).ok_or_else(|| no_row(table, record))
}

fn mirror<'d>(document: &'d mut Document, record: &str) -> Result<&'d mut Mirror, VsctlError> {
    let mut found = document.bridges.iter_mut().flat_map(|bridge| &mut bridge.mirrors);
    let first = found.find(|mirror| mirror.name == record).ok_or_else(|| no_row(Table::Mirror, record))?;
    if found.any(|mirror| mirror.name == record) {
        return Err(VsctlError::Conflict(format!("multiple rows in Mirror match \"{record}\"")));
    }
    Ok(first)
}

/// A bridge's `mirrors`, by name: those that it has, and those that the transaction creates.
fn edit_mirrors(bridge: &mut Bridge, edit: Edit<'_>, rows: &Rows<'_>) -> Result<(), VsctlError> {
    let mut names: Vec<String> = bridge.mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    list(&mut names, edit, "names of mirrors")
        .map_err(|message| VsctlError::Value(format!("Bridge {}: mirrors: {message}", bridge.name)))?;
    let mut before = std::mem::take(&mut bridge.mirrors);
    for name in names {
        let mirror = match (before.iter().position(|mirror| mirror.name == name), rows.created(&name)) {
            (_, Some(settings)) => created(settings, rows)?,
            (Some(at), None) => before.swap_remove(at),
            (None, None) => return Err(no_row(Table::Mirror, &name)),
        };
        bridge.mirrors.push(mirror);
    }
    Ok(())
}

/// The mirror that `create` makes.
pub(super) fn created(settings: &[Setting], rows: &Rows<'_>) -> Result<Mirror, VsctlError> {
    let mut document = Document { bridges: vec![Bridge::default()], ..Document::default() };
    let mut name = None;
    for setting in settings.iter().filter(|setting| setting.column == "name") {
        let change = Edit::Set(setting.key.as_deref(), &setting.value);
        scalar(&mut name, change, "a name").map_err(VsctlError::Value)?;
    }
    let name: String = name.unwrap_or_default();
    document.bridges[0].mirrors.push(Mirror { name: name.clone(), ..Mirror::default() });
    for setting in settings.iter().filter(|setting| setting.column != "name") {
        let change = Edit::Set(setting.key.as_deref(), &setting.value);
        edit(&mut document, Table::Mirror, &name, &setting.column, change, rows)?;
    }
    Ok(document.bridges.swap_remove(0).mirrors.swap_remove(0))
}

fn edit_mirror(mirror: &mut Mirror, column: &str, edit: Edit<'_>) -> Result<(), String> {
    match column {
        "select_all" => {
            let mut all = Some(mirror.select_all);
            scalar(&mut all, edit, "true or false")?;
            mirror.select_all = all.unwrap_or_default();
            Ok(())
        }
        "output_port" => scalar(&mut mirror.output_port, edit, "the name of a port"),
        "output_vlan" => numeric(&mut mirror.output_vlan, edit, "a VLAN from 1 to 4095"),
        "select_src_port" => list(&mut mirror.select_src_port, edit, "names of ports"),
        "select_dst_port" => list(&mut mirror.select_dst_port, edit, "names of ports"),
        _ => list(&mut mirror.select_vlan, edit, "VLANs from 0 to 4095"),
    }
}

fn edit_bridge(bridge: &mut Bridge, column: &str, edit: Edit<'_>) -> Result<(), String> {
    match column {
        "fail_mode" => {
            let mut mode = Some(bridge.fail_mode);
            scalar(&mut mode, edit, "standalone or secure")?;
            bridge.fail_mode = mode.unwrap_or_default();
            Ok(())
        }
        "mcast_snooping_enable" => {
            let mut enable = Some(bridge.mcast_snooping_enable);
            scalar(&mut enable, edit, "true or false")?;
            bridge.mcast_snooping_enable = enable.unwrap_or_default();
            Ok(())
        }
        "addresses_from" => {
            let mut from = Some(bridge.addresses_from);
            scalar(&mut from, edit, "document or kernel")?;
            bridge.addresses_from = from.unwrap_or_default();
            Ok(())
        }
        "hwaddr" => scalar(&mut bridge.hwaddr, edit, "a MAC address such as 02:00:00:00:0a:01"),
        "address" => {
            list(&mut bridge.address, edit, "an address with its prefix length such as 192.168.1.1/24")
        }
        // Scripts for OVS-DPDK say `datapath_type=netdev`: user space, which is all there is here.
        "datapath_type" => match edit {
            Edit::Set(None, text) if !matches!(atom(text)?.as_str(), "" | "netdev") => {
                Err(format!("found {text:?}, expected netdev"))
            }
            _ => Ok(()),
        },
        "external_ids" => map_column(&mut bridge.external_ids, edit),
        _ => map_column(&mut bridge.other_config, edit),
    }
}

fn edit_port(port: &mut Port, column: &str, edit: Edit<'_>) -> Result<(), String> {
    match column {
        "tag" => numeric(&mut port.tag, edit, "a VLAN from 0 to 4095"),
        "trunks" => list(&mut port.trunks, edit, "VLANs from 0 to 4095"),
        "vlan_mode" => {
            scalar(&mut port.vlan_mode, edit, "access, trunk, native-tagged, native-untagged or dot1q-tunnel")
        }
        "cvlans" => list(&mut port.cvlans, edit, "VLANs from 0 to 4095"),
        "mac" => scalar(&mut port.mac, edit, "a MAC address such as 02:00:00:00:0a:01"),
        "mtu_request" => numeric(&mut port.mtu, edit, "a number from 68 to 9702"),
        "ofport_request" => numeric(&mut port.ofport_request, edit, "a number from 1 to 65279"),
        "type" => {
            let mut kind = Some(std::mem::take(&mut port.kind)).filter(|kind| !kind.is_empty());
            let outcome = scalar(
                &mut kind,
                edit,
                "dpdk, dpdkvhostuserclient, dpdkvhostuser, tap, system, vxlan, geneve, gre, ip6gre, internal or patch",
            );
            port.kind = kind.unwrap_or_default();
            outcome
        }
        "bfd" => map_column(&mut port.bfd, edit),
        "external_ids" => map_column(&mut port.external_ids, edit),
        _ => options(&mut port.options, edit),
    }
}

fn parse<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("found {text:?}, expected {expected}"))
}

/// Changes a column that holds one value or none.
fn scalar<T: FromStr>(slot: &mut Option<T>, edit: Edit<'_>, expected: &str) -> Result<(), String> {
    match edit {
        Edit::Set(Some(key), _) => {
            return Err(format!("cannot specify key {key:?}, the column is not a map"));
        }
        Edit::Set(None, text) => {
            let values = set(text)?;
            *slot = match values.as_slice() {
                [] => None,
                [one] => Some(parse(one, expected)?),
                _ => return Err(format!("found {text:?}, expected one value: {expected}")),
            };
        }
        Edit::Add(_) => return Err("the column holds one value, use 'set'".to_owned()),
        Edit::Remove(_) | Edit::Clear => *slot = None,
    }
    Ok(())
}

/// As [`scalar`], for numbers, of which a single one may also be removed by value.
fn numeric(slot: &mut Option<u16>, edit: Edit<'_>, expected: &str) -> Result<(), String> {
    if let Edit::Remove(values) = edit {
        if values
            .iter()
            .any(|value| number(value).is_some_and(|n| slot.is_some_and(|held| u64::from(held) == n)))
        {
            *slot = None;
        }
        return Ok(());
    }
    scalar(slot, edit, expected)
}

/// Changes a column that is a set.
fn list<T: FromStr + PartialEq>(slot: &mut Vec<T>, edit: Edit<'_>, expected: &str) -> Result<(), String> {
    let read = |texts: &[String]| -> Result<Vec<T>, String> {
        let mut values: Vec<T> = Vec::new();
        for text in texts {
            for element in set(text)? {
                let value = parse(&element, expected)?;
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        Ok(values)
    };
    match edit {
        Edit::Set(Some(key), _) => {
            return Err(format!("cannot specify key {key:?}, the column is not a map"));
        }
        Edit::Set(None, text) => *slot = read(&[text.to_owned()])?,
        Edit::Add(texts) => {
            for value in read(texts)? {
                if !slot.contains(&value) {
                    slot.push(value);
                }
            }
        }
        Edit::Remove(texts) => {
            let gone = read(texts)?;
            slot.retain(|value| !gone.contains(value));
        }
        Edit::Clear => slot.clear(),
    }
    Ok(())
}

/// Changes a port's options: as any map, but that `remote_ip` may hold several addresses, which come and go one by one.
fn options(slot: &mut BTreeMap<String, String>, edit: Edit<'_>) -> Result<(), String> {
    let (texts, adds) = match edit {
        Edit::Add(texts) => (texts, true),
        Edit::Remove(texts) => (texts, false),
        _ => return map_column(slot, edit),
    };
    for text in texts {
        let pairs = map(text).unwrap_or_default();
        let held = slot.get("remote_ip").filter(|held| !held.trim().is_empty() && *held != "flow");
        let [(key, value)] = pairs.as_slice() else {
            map_column(slot, with(adds, text))?;
            continue;
        };
        let Some(held) = held.filter(|_| key == "remote_ip" && value != "flow") else {
            map_column(slot, with(adds, text))?;
            continue;
        };
        let mut remotes: Vec<&str> = held.split(',').map(str::trim).collect();
        let named = value.split(',').map(str::trim);
        if adds {
            for remote in named {
                if !remotes.contains(&remote) {
                    remotes.push(remote);
                }
            }
        } else {
            let named: Vec<&str> = named.collect();
            remotes.retain(|remote| !named.contains(remote));
        }
        let left = remotes.join(",");
        if left.is_empty() {
            slot.remove("remote_ip");
        } else {
            slot.insert("remote_ip".to_owned(), left);
        }
    }
    Ok(())
}

fn with(adds: bool, text: &String) -> Edit<'_> {
    let one = std::slice::from_ref(text);
    if adds { Edit::Add(one) } else { Edit::Remove(one) }
}

/// Changes a column that is a map.
fn map_column(slot: &mut BTreeMap<String, String>, edit: Edit<'_>) -> Result<(), String> {
    match edit {
        Edit::Set(Some(key), value) => {
            slot.insert(key.to_owned(), atom(value)?);
        }
        Edit::Set(None, text) => *slot = map(text)?.into_iter().collect(),
        Edit::Add(texts) => {
            for text in texts {
                for (key, value) in map(text)? {
                    // As in OVS: `add` does not replace the value of a key that is there.
                    slot.entry(key).or_insert(value);
                }
            }
        }
        Edit::Remove(texts) => {
            for text in texts {
                match map(text) {
                    Ok(pairs) => slot.retain(|key, value| !pairs.iter().any(|(k, v)| k == key && v == value)),
                    Err(_) => {
                        for key in set(text)? {
                            slot.remove(&key);
                        }
                    }
                }
            }
        }
        Edit::Clear => slot.clear(),
    }
    Ok(())
}

/// Changes `other_config` of a port or of its interface, which are one map here.
fn part_of_map(map: &mut BTreeMap<String, String>, of_interface: bool, edit: Edit<'_>) -> Result<(), String> {
    let (mut own, others) = parted(map, of_interface);
    map_column(&mut own, edit)?;
    if let Some(key) = own.keys().find(|key| is_of_interface(key) != of_interface && known_of_ports(key)) {
        let table = if of_interface { Table::Port } else { Table::Interface };
        return Err(format!("{key} is a key of table {table}"));
    }
    *map = others;
    map.extend(own);
    Ok(())
}

fn is_of_interface(key: &str) -> bool {
    INTERFACE_OTHER_CONFIG.contains(&key)
}

/// Whether a key is one of either table; what is none is said when the document is checked.
fn known_of_ports(key: &str) -> bool {
    is_of_interface(key) || PORT_OTHER_CONFIG.contains(&key)
}

/// The part of a port's `other_config` that is of its interface or of the port, and the rest.
fn parted(
    map: &BTreeMap<String, String>,
    of_interface: bool,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    map.clone().into_iter().partition(|(key, _)| is_of_interface(key) == of_interface)
}

/// The configured columns of a record, in the order in which `list` shows them. A bridge's name is also a record
/// of `Port` and `Interface`: its LOCAL port. The error is `no row ...`.
pub fn columns(
    document: &Document,
    table: Table,
    record: &str,
) -> Result<Vec<(&'static str, ColumnValue)>, VsctlError> {
    let missing = || no_row(table, record);
    if table == Table::Bridge {
        let bridge = document.bridge(record).ok_or_else(missing)?;
        return Ok(vec![
            ("name", ColumnValue::Text(bridge.name.clone())),
            ("fail_mode", ColumnValue::optional(Some(bridge.fail_mode))),
            ("mcast_snooping_enable", ColumnValue::optional(Some(bridge.mcast_snooping_enable))),
            ("datapath_type", ColumnValue::Text("netdev".into())),
            ("hwaddr", ColumnValue::optional(bridge.hwaddr)),
            ("addresses_from", ColumnValue::optional(Some(bridge.addresses_from))),
            ("address", texts(&bridge.address)),
            ("other_config", ColumnValue::Map(bridge.other_config.clone())),
            ("external_ids", ColumnValue::Map(bridge.external_ids.clone())),
            ("mirrors", texts(bridge.mirrors.iter().map(|mirror| &mirror.name))),
            ("ports", texts(bridge.ports.iter().map(|port| &port.name))),
        ]);
    }
    if table == Table::OpenVSwitch {
        let other_config = ("other_config", ColumnValue::Map(document.other_config.clone()));
        return if record == SWITCH_RECORD { Ok(vec![other_config]) } else { Err(missing()) };
    }
    if table == Table::Mirror {
        let (_, mirror) = document.mirror(record).ok_or_else(missing)?;
        let vlans = mirror.select_vlan.iter().map(|vlan| u64::from(*vlan));
        return Ok(vec![
            ("name", ColumnValue::Text(mirror.name.clone())),
            ("output_port", ColumnValue::optional(mirror.output_port.as_ref())),
            ("output_vlan", ColumnValue::optional_number(mirror.output_vlan)),
            ("select_all", ColumnValue::Bool(mirror.select_all)),
            ("select_dst_port", texts(&mirror.select_dst_port)),
            ("select_src_port", texts(&mirror.select_src_port)),
            ("select_vlan", ColumnValue::Numbers(vlans.collect())),
        ]);
    }
    let local = document.bridge(record).map(|bridge| Port {
        name: bridge.name.clone(),
        kind: "internal".into(),
        tag: bridge.tag,
        ..Port::default()
    });
    let port = local.as_ref().or_else(|| document.port(record).map(|(_, port)| port)).ok_or_else(missing)?;
    let name = ("name", ColumnValue::Text(port.name.clone()));
    Ok(if table == Table::Port {
        vec![
            name,
            ("tag", ColumnValue::optional_number(port.tag)),
            ("trunks", ColumnValue::Numbers(port.trunks.iter().map(|vlan| u64::from(*vlan)).collect())),
            ("vlan_mode", ColumnValue::optional(port.vlan_mode)),
            ("cvlans", ColumnValue::Numbers(port.cvlans.iter().map(|vlan| u64::from(*vlan)).collect())),
            ("other_config", ColumnValue::Map(parted(&port.other_config, false).0)),
            ("external_ids", ColumnValue::Map(port.port_external_ids.clone())),
        ]
    } else {
        vec![
            name,
            ("type", ColumnValue::Text(port.kind.clone())),
            ("options", ColumnValue::Map(port.options.clone())),
            ("mac", ColumnValue::optional(port.mac)),
            ("mtu_request", ColumnValue::optional_number(port.mtu)),
            ("ofport_request", ColumnValue::optional_number(port.ofport_request)),
            ("other_config", ColumnValue::Map(parted(&port.other_config, true).0)),
            ("bfd", ColumnValue::Map(port.bfd.clone())),
            ("external_ids", ColumnValue::Map(port.external_ids.clone())),
        ]
    })
}

fn texts<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> ColumnValue {
    ColumnValue::Texts(items.into_iter().map(|item| item.to_string()).collect())
}
