//! Rows that a transaction names by `--id=@NAME`: mirrors that it creates, and records that it looks up.

use std::collections::BTreeMap;

use super::value::{quoted, set};
use super::{Command, Setting, Table, VsctlError};

/// The named rows of a transaction. A name holds for all of it, also in front of the command that gives it.
#[derive(Debug, Default)]
pub(super) struct Rows<'c> {
    /// Table and name of the record, by `@NAME`.
    ids: BTreeMap<&'c str, (Table, String)>,
    /// Settings of created mirrors by their names.
    created: BTreeMap<String, &'c [Setting]>,
}

impl<'c> Rows<'c> {
    pub(super) fn of(commands: &'c [Command]) -> Result<Self, VsctlError> {
        let mut rows = Rows::default();
        for command in commands {
            let (id, table, name) = match command {
                Command::Get { id, table, record, .. } => (id, *table, record.clone()),
                Command::Create { id, settings } => {
                    let name = settings.iter().rev().find(|setting| setting.column == "name");
                    let name = name.map(|setting| set(&setting.value)).transpose();
                    let name = name.map_err(VsctlError::Value)?.unwrap_or_default();
                    let [name] = name.as_slice() else {
                        return Err(VsctlError::Usage("create mirror: expected name=NAME".to_owned()));
                    };
                    if rows.created.insert(name.clone(), settings).is_some() {
                        return Err(VsctlError::Conflict(format!("mirror {name} is created twice")));
                    }
                    (id, Table::Mirror, name.clone())
                }
                _ => continue,
            };
            if let Some(id) = id
                && rows.ids.insert(id, (table, name)).is_some()
            {
                return Err(VsctlError::Conflict(format!("row id \"{id}\" is given twice")));
            }
        }
        Ok(rows)
    }

    /// Columns of the mirror that the transaction creates under this name.
    pub(super) fn created(&self, name: &str) -> Option<&'c [Setting]> {
        self.created.get(name).copied()
    }

    /// `text`, a set of names of records of `table`, with the names instead of each `@NAME`.
    pub(super) fn resolve(&self, table: Table, text: &str) -> Result<String, VsctlError> {
        let names = set(text).map_err(VsctlError::Value)?.into_iter().map(|name| {
            if !name.starts_with('@') {
                return Ok(quoted(&name));
            }
            match self.ids.get(name.as_str()) {
                Some((found, record)) if *found == table => Ok(quoted(record)),
                Some((found, _)) => Err(VsctlError::Conflict(format!(
                    "row id \"{name}\" is a row of table {found}, expected one of {table}"
                ))),
                None => Err(VsctlError::NotFound(format!(
                    "row id \"{name}\" is given by no command, expected one with --id={name}"
                ))),
            }
        });
        Ok(format!("[{}]", names.collect::<Result<Vec<_>, _>>()?.join(",")))
    }
}
