//! Commands to changes of a document, all or nothing.

use super::columns::{Edit, created, edit, no_row};
use super::rows::Rows;
use super::{Applied, Command, Output, Table, VsctlError};
use crate::document::{Bridge, Document, FailMode, Port};
use crate::validate::{CheckFlow, accept_flows, validate_with};

/// [`apply_with`], the bridges' flows taken as they are.
pub fn apply(document: &mut Document, commands: &[Command]) -> Result<Applied, VsctlError> {
    apply_with(document, commands, &accept_flows)
}

/// Does all `commands` in order and validates what comes out, `check_flow` judging each flow; on an error
/// `document` stays as it was. A transaction that changes nothing is not validated.
pub fn apply_with(
    document: &mut Document,
    commands: &[Command],
    check_flow: CheckFlow<'_>,
) -> Result<Applied, VsctlError> {
    let mut next = document.clone();
    let rows = Rows::of(commands)?;
    let outputs =
        commands.iter().map(|command| run(&mut next, command, &rows)).collect::<Result<Vec<_>, _>>()?;
    let changed = next != *document;
    if changed {
        let problems = validate_with(&next, check_flow);
        if !problems.is_empty() {
            return Err(VsctlError::Invalid(problems));
        }
        *document = next;
    }
    Ok(Applied { changed, outputs })
}

fn run(document: &mut Document, command: &Command, rows: &Rows<'_>) -> Result<Output, VsctlError> {
    match command {
        Command::Init => {}
        Command::AddBr { bridge, may_exist } => add_bridge(document, bridge, *may_exist)?,
        Command::DelBr { bridge, if_exists } => {
            let before = document.bridges.len();
            document.bridges.retain(|other| other.name != *bridge);
            if document.bridges.len() == before && !if_exists {
                return Err(no_bridge(bridge));
            }
        }
        Command::ListBr => {
            let mut names: Vec<String> = document.bridges.iter().map(|bridge| bridge.name.clone()).collect();
            names.sort();
            return Ok(Output::Lines(names));
        }
        Command::BrExists { bridge } => return Ok(Output::Exists(document.bridge(bridge).is_some())),
        Command::AddPort { bridge, port, may_exist, settings } => {
            let made = add_port(document, bridge, port, *may_exist)?;
            // As in OVS, one that is there stays as it is.
            for setting in settings.iter().filter(|_| made) {
                let change = Edit::Set(setting.key.as_deref(), &setting.value);
                edit(document, Table::Port, port, &setting.column, change, rows)?;
            }
        }
        Command::DelPort { bridge, port, if_exists } => {
            delete_port(document, bridge.as_deref(), port, *if_exists)?;
        }
        Command::ListPorts { bridge } => {
            let bridge = document.bridge(bridge).ok_or_else(|| no_bridge(bridge))?;
            let mut names: Vec<String> = bridge.ports.iter().map(|port| port.name.clone()).collect();
            names.sort();
            return Ok(Output::Lines(names));
        }
        Command::PortToBr { port } => {
            let (bridge, _) = document.port(port).ok_or_else(|| no_port(port))?;
            return Ok(Output::Lines(vec![bridge.name.clone()]));
        }
        Command::GetFailMode { bridge } => {
            let bridge = document.bridge(bridge).ok_or_else(|| no_bridge(bridge))?;
            return Ok(Output::Lines(vec![bridge.fail_mode.to_string()]));
        }
        Command::SetFailMode { bridge, mode } => bridge_named(document, bridge)?.fail_mode = *mode,
        Command::DelFailMode { bridge } => bridge_named(document, bridge)?.fail_mode = FailMode::default(),
        Command::Set { table, record, if_exists, settings } => {
            for setting in settings {
                let change = Edit::Set(setting.key.as_deref(), &setting.value);
                allow(*if_exists, edit(document, *table, record, &setting.column, change, rows))?;
            }
        }
        Command::Add { table, record, if_exists, column, values } => {
            allow(*if_exists, edit(document, *table, record, column, Edit::Add(values), rows))?;
        }
        Command::Remove { table, record, if_exists, column, values } => {
            allow(*if_exists, edit(document, *table, record, column, Edit::Remove(values), rows))?;
        }
        Command::Clear { table, record, if_exists, columns } => {
            for column in columns {
                allow(*if_exists, edit(document, *table, record, column, Edit::Clear, rows))?;
            }
        }
        // Checked, also when no bridge takes it.
        Command::Create { settings, .. } => drop(created(settings, rows)?),
        Command::Destroy { records, all, if_exists } => {
            if let Some(name) = records.iter().find(|name| document.mirror(name).is_none())
                && !if_exists
            {
                return Err(no_row(Table::Mirror, name));
            }
            for bridge in &mut document.bridges {
                bridge.mirrors.retain(|mirror| !all && !records.contains(&mirror.name));
            }
        }
        Command::BrSetExternalId { bridge, key, value } => {
            let ids = &mut bridge_named(document, bridge)?.external_ids;
            match value {
                Some(value) => ids.insert(key.clone(), value.clone()),
                None => ids.remove(key),
            };
        }
        Command::BrGetExternalId { bridge, key } => {
            let ids = &document.bridge(bridge).ok_or_else(|| no_bridge(bridge))?.external_ids;
            let lines = match key {
                Some(key) => ids.get(key).cloned().into_iter().collect(),
                None => ids.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            };
            return Ok(Output::Lines(lines));
        }
        Command::Show
        | Command::Get { .. }
        | Command::List { .. }
        | Command::Find { .. }
        | Command::WaitUntil { .. } => {
            return Ok(Output::Query(command.clone()));
        }
    }
    Ok(Output::None)
}

/// With `--if-exists`, a record that is not there is no error.
fn allow(if_exists: bool, outcome: Result<(), VsctlError>) -> Result<(), VsctlError> {
    match outcome {
        Err(VsctlError::NotFound(_)) if if_exists => Ok(()),
        outcome => outcome,
    }
}

fn no_bridge(name: &str) -> VsctlError {
    VsctlError::NotFound(format!("no bridge named {name}"))
}

fn no_port(name: &str) -> VsctlError {
    VsctlError::NotFound(format!("no port named {name}"))
}

fn bridge_named<'d>(document: &'d mut Document, name: &str) -> Result<&'d mut Bridge, VsctlError> {
    document.bridge_mut(name).ok_or_else(|| no_bridge(name))
}

/// Refuses a name that a bridge or port has; `what` is to be made.
fn free_name(document: &Document, what: &str, name: &str) -> Result<(), VsctlError> {
    let taken = if document.bridge(name).is_some() {
        format!("a bridge named {name} already exists")
    } else if let Some((bridge, _)) = document.port(name) {
        format!("a port named {name} already exists on bridge {}", bridge.name)
    } else {
        return Ok(());
    };
    Err(VsctlError::Conflict(format!("cannot create a {what} named {name} because {taken}")))
}

fn add_bridge(document: &mut Document, name: &str, may_exist: bool) -> Result<(), VsctlError> {
    if may_exist && document.bridge(name).is_some() {
        return Ok(());
    }
    free_name(document, "bridge", name)?;
    document.bridges.push(Bridge::new(name));
    Ok(())
}

/// Whether the port was made.
fn add_port(document: &mut Document, bridge: &str, name: &str, may_exist: bool) -> Result<bool, VsctlError> {
    if document.bridge(bridge).is_none() {
        return Err(no_bridge(bridge));
    }
    if may_exist && let Some((owner, _)) = document.port(name) {
        if owner.name == bridge {
            return Ok(false);
        }
        return Err(VsctlError::Conflict(format!(
            "\"--may-exist add-port {bridge} {name}\" but {name} is actually attached to bridge {}",
            owner.name
        )));
    }
    free_name(document, "port", name)?;
    bridge_named(document, bridge)?.ports.push(Port { name: name.to_owned(), ..Port::default() });
    Ok(true)
}

fn delete_port(
    document: &mut Document,
    bridge: Option<&str>,
    name: &str,
    if_exists: bool,
) -> Result<(), VsctlError> {
    if let Some(bridge) = bridge.filter(|bridge| document.bridge(bridge).is_none()) {
        return if if_exists { Ok(()) } else { Err(no_bridge(bridge)) };
    }
    if document.bridge(name).is_some() {
        return Err(VsctlError::Conflict(format!(
            "cannot delete port {name} because it is the local port for bridge {name} \
             (deleting this port requires deleting the entire bridge)"
        )));
    }
    let Some(owner) = document.port(name).map(|(owner, _)| owner.name.clone()) else {
        return if if_exists { Ok(()) } else { Err(no_port(name)) };
    };
    if let Some(bridge) = bridge.filter(|bridge| *bridge != owner) {
        return Err(VsctlError::Conflict(format!(
            "bridge {bridge} does not have a port {name} (it is attached to bridge {owner})"
        )));
    }
    let bridge = bridge_named(document, &owner)?;
    bridge.ports.retain(|port| port.name != name);
    bridge.fdb.retain(|entry| entry.port != name);
    // As in OVS, where a mirror holds its ports weakly. One without an output has nothing to do.
    bridge.mirrors.retain(|mirror| mirror.output_port.as_deref() != Some(name));
    for mirror in &mut bridge.mirrors {
        mirror.select_src_port.retain(|port| port != name);
        mirror.select_dst_port.retain(|port| port != name);
    }
    Ok(())
}
