//! Handlers that change the document: transactions, and whole documents.

use super::refused::{Answer, Refused};
use super::views::{interface_rows, show_all};
use crate::control::app::App;
use crate::control::apply::{ChangeError, Switch};
use crate::control::rules;
use api::{
    CommandOutput, DocumentBody, Done, InterfaceRow, Record, Saved, Transaction, TransactionReply, Value,
};
use axum::extract::State;
use axum::http::{HeaderMap, header::CONTENT_TYPE};
use axum::{Extension, Json};
use config::Document;
use config::vsctl::{self, ColumnValue, Command, Condition, Output, Selector, Table, VsctlError};
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::sync::Arc;

impl From<VsctlError> for Refused {
    fn from(error: VsctlError) -> Refused {
        match error {
            VsctlError::NotFound(message) => Refused::not_found(message),
            error => Refused::bad(error.to_string()),
        }
    }
}

/// Part of the answer to a transaction that only looked.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct OnlyLooked;

/// `POST /v1/transaction`: all commands, or none.
pub(in crate::control) async fn transaction(
    State(app): State<Arc<App>>,
    Json(body): Json<Transaction>,
) -> Result<(Option<Extension<OnlyLooked>>, Json<TransactionReply>), Refused> {
    let commands = vsctl::parse_transaction(&body.args)?;
    let mut switch = app.desired().await;
    let mut document = switch.document.clone();
    // Rules that name a port are no reason to keep it: they go on by its number.
    let before = if commands.iter().any(|command| matches!(command, Command::DelPort { .. })) {
        app.handle.call(|slow| rules::names_of_all(&slow.state)).await?
    } else {
        BTreeMap::new()
    };
    let mut notes = Vec::new();
    let applied = vsctl::apply_with(&mut document, &commands, &rules::Check(Some(&before)))?;
    if applied.changed {
        for bridge in &mut document.bridges {
            if let Some(before) = before.get(&bridge.name) {
                rules::by_number(bridge, before);
            }
        }
        let changed = switch.change(document).await?;
        notes.extend(changed.remade.iter().map(|port| format!("the device of port {port} was made anew")));
    }
    let mut outputs = Vec::with_capacity(applied.outputs.len());
    for output in applied.outputs {
        outputs.push(match output {
            Output::None => CommandOutput::None,
            Output::Lines(lines) => CommandOutput::Lines(lines),
            Output::Exists(exists) => CommandOutput::Exists(exists),
            Output::Query(command) => query(&app, &switch, command).await?,
        });
    }
    let only_looked = (!applied.changed).then_some(Extension(OnlyLooked));
    Ok((only_looked, Json(TransactionReply { changed: applied.changed, outputs, notes })))
}

async fn query(app: &App, switch: &Switch, command: Command) -> Result<CommandOutput, Refused> {
    let rows = interface_rows(app, switch).await?;
    let document = &switch.document;
    Ok(match command {
        Command::Get { table, record, if_exists, selectors, .. } => {
            let columns = match columns(document, &rows, table, &record) {
                Err(VsctlError::NotFound(_)) if if_exists => return Ok(CommandOutput::Values(Vec::new())),
                columns => columns?,
            };
            let values = selectors.iter().filter_map(|s| select(&columns, table, s, if_exists).transpose());
            CommandOutput::Values(values.collect::<Result<_, _>>()?)
        }
        Command::Find { table, conditions, columns: wanted } => {
            let mut out = Vec::new();
            for record in all_records(document, table) {
                let columns = columns(document, &rows, table, &record)?;
                if all_hold(&columns, table, &conditions)? {
                    out.push(Record { table, columns: chosen(columns, table, &wanted)? });
                }
            }
            CommandOutput::Records(out)
        }
        Command::WaitUntil { table, record, if_exists, conditions } => {
            CommandOutput::Exists(match columns(document, &rows, table, &record) {
                Err(VsctlError::NotFound(_)) => if_exists,
                columns => all_hold(&columns?, table, &conditions)?,
            })
        }
        Command::List { table, records, columns: wanted, if_exists } => {
            let records = if records.is_empty() { all_records(document, table) } else { records };
            let mut out = Vec::new();
            for record in records {
                let columns = match columns(document, &rows, table, &record) {
                    Err(VsctlError::NotFound(_)) if if_exists => continue,
                    columns => columns?,
                };
                out.push(Record { table, columns: chosen(columns, table, &wanted)? });
            }
            CommandOutput::Records(out)
        }
        _ => CommandOutput::Show(show_all(app, switch).await?),
    })
}

/// The columns that were asked for; all if none was.
fn chosen(columns: Columns, table: Table, wanted: &[String]) -> Result<Columns, VsctlError> {
    if wanted.is_empty() {
        return Ok(columns);
    }
    let find = |name: &String| {
        let found = columns.iter().find(|(column, _)| column == name).cloned();
        found.ok_or_else(|| no_column(table, name))
    };
    wanted.iter().map(find).collect()
}

fn all_hold(columns: &Columns, table: Table, conditions: &[Condition]) -> Result<bool, VsctlError> {
    for condition in conditions {
        let key = condition.selector.key.is_some();
        let value = match select(columns, table, &condition.selector, key) {
            // A key that is not there is no value; a column that is not there is an error.
            Ok(None) if !columns.iter().any(|(name, _)| *name == condition.selector.column) => {
                return Err(no_column(table, &condition.selector.column));
            }
            value => value?,
        };
        let value = value.map(|value| match value {
            Value::Column(value) => value,
            Value::Counters(map) => {
                ColumnValue::Map(map.into_iter().map(|(name, count)| (name, count.to_string())).collect())
            }
        });
        if !condition.holds(value.as_ref())? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all_records(document: &Document, table: Table) -> Vec<String> {
    let bridges = document.bridges.iter().map(|bridge| bridge.name.clone());
    match table {
        Table::Bridge => bridges.collect(),
        Table::Mirror => document
            .bridges
            .iter()
            .flat_map(|bridge| &bridge.mirrors)
            .map(|mirror| mirror.name.clone())
            .collect(),
        Table::OpenVSwitch => vec![vsctl::SWITCH_RECORD.to_owned()],
        Table::Port | Table::Interface => {
            bridges.chain(document.ports().map(|(_, port)| port.name.clone())).collect()
        }
    }
}

fn no_column(table: Table, column: &str) -> VsctlError {
    VsctlError::Usage(format!("{table} does not contain a column whose name matches \"{column}\""))
}

type Columns = Vec<(String, Value)>;

/// What is configured of a record, and for an interface what it is.
fn columns(
    document: &Document,
    rows: &[InterfaceRow],
    table: Table,
    record: &str,
) -> Result<Columns, VsctlError> {
    let configured = vsctl::columns(document, table, record)?;
    let mut columns: Columns =
        configured.into_iter().map(|(name, value)| (name.to_owned(), Value::Column(value))).collect();
    if table == Table::Interface
        && let Some(row) = rows.iter().find(|row| row.name == record)
    {
        columns.extend(state(row));
    }
    Ok(columns)
}

/// The columns of `Interface` that the switch fills in.
fn state(row: &InterfaceRow) -> Columns {
    let text = |text: &Option<String>| ColumnValue::optional(text.as_ref());
    let mut status = BTreeMap::new();
    if let Some(driver) = &row.driver {
        status.insert("driver_name".to_owned(), driver.clone());
    }
    if let Some((rx, tx)) = row.queues {
        status.insert("n_rxq".to_owned(), rx.to_string());
        status.insert("n_txq".to_owned(), tx.to_string());
    }
    status.extend(row.status.clone());
    for remote in &row.remotes {
        status.insert(format!("remote_{}", remote.ip), remote.state.clone());
    }
    let column = |name: &str, value| (name.to_owned(), Value::Column(value));
    vec![
        column("ofport", ColumnValue::Number(row.ofport.into())),
        column("admin_state", ColumnValue::Text(row.admin_state.clone())),
        column("link_state", ColumnValue::Text(row.link_state.clone())),
        column("link_speed", ColumnValue::optional_number(row.link_speed)),
        column("mac_in_use", text(&row.mac_in_use)),
        column("mtu", ColumnValue::optional_number(row.mtu)),
        column("error", text(&row.error)),
        column("status", ColumnValue::Map(status)),
        column("bfd_status", ColumnValue::Map(row.bfd_status.clone())),
        ("statistics".to_owned(), Value::Counters(row.statistics.clone())),
    ]
}

/// One selected value; `None` when it is not there and need not be.
fn select(
    columns: &Columns,
    table: Table,
    selector: &Selector,
    if_exists: bool,
) -> Result<Option<Value>, VsctlError> {
    let found = columns.iter().find(|(name, _)| *name == selector.column);
    let Some((_, value)) = found else {
        return if if_exists { Ok(None) } else { Err(no_column(table, &selector.column)) };
    };
    let Some(key) = &selector.key else { return Ok(Some(value.clone())) };
    let entry = match value {
        Value::Counters(map) => map.get(key).map(|n| Value::Column(ColumnValue::Number(*n))),
        Value::Column(value) => value.get(key).map(|text| Value::Column(ColumnValue::Text(text.to_owned()))),
    };
    match entry {
        None if !if_exists => {
            Err(VsctlError::NotFound(format!("no key {key} in {table} column {}", selector.column)))
        }
        entry => Ok(entry),
    }
}

/// `GET /v1/document`.
pub(in crate::control) async fn document(State(app): State<Arc<App>>) -> Json<DocumentBody> {
    Json(DocumentBody { toml: app.desired().await.document.to_toml() })
}

/// `PUT /v1/document`: TOML, or JSON with the fields of the file when the content type says so.
pub(in crate::control) async fn replace(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: String,
) -> Answer<Done> {
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let document = if is_json {
        // A list would be taken for the fields in their order, and an empty one for a document without bridges.
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&body).map_err(|error| Refused::bad(error.to_string()))?;
        Document::deserialize(serde_json::Value::Object(object))
            .map_err(|error| Refused::bad(error.to_string()))?
    } else {
        config::parse_str("document", &body, &rules::Check(None))
            .map_err(|errors| Refused::from(ChangeError::Invalid(errors.0)))?
    };
    let mut switch = app.desired().await;
    let changed = usize::from(switch.document != document);
    switch.change(document).await?;
    Ok(Json(Done { changed }))
}

/// `POST /v1/save`: the document into the file that the daemon was started with.
pub(in crate::control) async fn save(State(app): State<Arc<App>>) -> Answer<Saved> {
    let file = app.file.as_ref().ok_or_else(|| {
        Refused::bad("started without a file: expected --config or --persist, or save FILE")
    })?;
    file.save(&app.switch).await.map_err(|error| Refused::broken(error.to_string()))?;
    Ok(Json(Saved { file: file.path().display().to_string() }))
}

/// `POST /v1/reload`: the file, as it is now, is what the switch shall be.
pub(in crate::control) async fn reload(State(app): State<Arc<App>>) -> Answer<Done> {
    let changed = read_again(&app).await?;
    Ok(Json(Done { changed: usize::from(changed) }))
}

/// Reads the file again and makes the switch so. What did not change is not touched; after an error all is as it was.
pub(in crate::control) async fn read_again(app: &App) -> Result<bool, Refused> {
    let file = app
        .file
        .as_ref()
        .ok_or_else(|| Refused::bad("started without a file: expected --config or --persist"))?;
    let mut switch = app.desired().await;
    let document = file
        .read(switch.document.settings())
        .map_err(|errors| Refused::from(ChangeError::Invalid(errors.0)))?;
    let changed = switch.document != document;
    switch.change(document).await?;
    Ok(changed)
}
