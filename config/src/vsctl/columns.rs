//! Columns of the tables: how commands change them and how they are printed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::value::{ColumnValue, atom, map, set};
use super::{Table, VsctlError};
use crate::document::{Bridge, Document, Port};
use crate::options::number;
use crate::problem::one_of;

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

const BRIDGE: [&str; 6] = ["name", "fail_mode", "hwaddr", "address", "other_config", "datapath_type"];
const PORT: [&str; 4] = ["name", "tag", "trunks", "vlan_mode"];
const INTERFACE: [&str; 5] = ["name", "type", "options", "mtu_request", "ofport_request"];

fn known(table: Table) -> &'static [&'static str] {
    match table {
        Table::Bridge => &BRIDGE,
        Table::Port => &PORT,
        Table::Interface => &INTERFACE,
    }
}

/// Changes `column` of a record.
pub(super) fn edit(
    document: &mut Document,
    table: Table,
    record: &str,
    column: &str,
    edit: Edit<'_>,
) -> Result<(), VsctlError> {
    // Ours and the file's spelling of OVS's `mtu_request`.
    let column = if column == "mtu" { "mtu_request" } else { column };
    if !known(table).contains(&column) {
        return Err(no_column(table, column));
    }
    if column == "name" {
        return Err(VsctlError::Conflict(format!("cannot modify read-only column name in table {table}")));
    }
    let outcome = match table {
        Table::Bridge => edit_bridge(bridge(document, record)?, column, edit),
        Table::Port | Table::Interface => edit_port(port(document, table, record)?, column, edit),
    };
    outcome.map_err(|message| VsctlError::Value(format!("{table} {record}: {column}: {message}")))
}

/// `Interface does not contain a column ...`, and which table does.
fn no_column(table: Table, column: &str) -> VsctlError {
    let other = [Table::Bridge, Table::Port, Table::Interface]
        .into_iter()
        .find(|other| *other != table && known(*other).contains(&column));
    let hint = match other {
        Some(other) => format!("table {other} has it"),
        None => format!("expected {}", one_of(known(table))),
    };
    VsctlError::Usage(format!("{table} does not contain a column whose name matches \"{column}\"; {hint}"))
}

fn no_row(table: Table, record: &str) -> VsctlError {
    VsctlError::NotFound(format!("no row \"{record}\" in table {table}"))
}

fn bridge<'d>(document: &'d mut Document, record: &str) -> Result<&'d mut Bridge, VsctlError> {
    document.bridge_mut(record).ok_or_else(|| no_row(Table::Bridge, record))
}

fn port<'d>(document: &'d mut Document, table: Table, record: &str) -> Result<&'d mut Port, VsctlError> {
    if document.bridge(record).is_some() {
        return Err(VsctlError::Conflict(format!(
            "{record} is the local port of bridge {record}, which has no settings; set those of the bridge"
        )));
    }
    document.port_mut(record).ok_or_else(|| no_row(table, record))
}

fn edit_bridge(bridge: &mut Bridge, column: &str, edit: Edit<'_>) -> Result<(), String> {
    match column {
        "fail_mode" => {
            let mut mode = Some(bridge.fail_mode);
            scalar(&mut mode, edit, "standalone or secure")?;
            bridge.fail_mode = mode.unwrap_or_default();
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
        _ => table(&mut bridge.other_config, edit),
    }
}

fn edit_port(port: &mut Port, column: &str, edit: Edit<'_>) -> Result<(), String> {
    match column {
        "tag" => numeric(&mut port.tag, edit, "a VLAN from 0 to 4095"),
        "trunks" => list(&mut port.trunks, edit, "VLANs from 0 to 4095"),
        "vlan_mode" => scalar(&mut port.vlan_mode, edit, "access, trunk, native-tagged or native-untagged"),
        "mtu_request" => numeric(&mut port.mtu, edit, "a number from 68 to 9702"),
        "ofport_request" => numeric(&mut port.ofport_request, edit, "a number from 1 to 65279"),
        "type" => {
            let mut kind = Some(std::mem::take(&mut port.kind)).filter(|kind| !kind.is_empty());
            let outcome = scalar(&mut kind, edit, "dpdk or vxlan");
            port.kind = kind.unwrap_or_default();
            outcome
        }
        _ => table(&mut port.options, edit),
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

/// Changes a column that is a map.
fn table(slot: &mut BTreeMap<String, String>, edit: Edit<'_>) -> Result<(), String> {
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
            ("hwaddr", ColumnValue::optional(bridge.hwaddr)),
            ("address", texts(&bridge.address)),
            ("other_config", ColumnValue::Map(bridge.other_config.clone())),
            ("ports", texts(bridge.ports.iter().map(|port| &port.name))),
        ]);
    }
    let local = document.bridge(record).map(|bridge| Port {
        name: bridge.name.clone(),
        kind: "internal".into(),
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
        ]
    } else {
        vec![
            name,
            ("type", ColumnValue::Text(port.kind.clone())),
            ("options", ColumnValue::Map(port.options.clone())),
            ("mtu_request", ColumnValue::optional_number(port.mtu)),
            ("ofport_request", ColumnValue::optional_number(port.ofport_request)),
        ]
    })
}

fn texts<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> ColumnValue {
    ColumnValue::Texts(items.into_iter().map(|item| item.to_string()).collect())
}
