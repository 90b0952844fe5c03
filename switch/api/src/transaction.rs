//! Command lines of `ovs-vsctl`, and what they answer.

use crate::Show;
use config::vsctl::{ColumnValue, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `POST /v1/transaction`: a command line in `ovs-vsctl`'s grammar, split into words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The words; commands are joined by `--`.
    pub args: Vec<String>,
}

/// Answer to a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionReply {
    /// Whether the document is another than before.
    pub changed: bool,
    /// One a command, in order.
    pub outputs: Vec<CommandOutput>,
    /// What happened besides: devices that had to be made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one command of a transaction answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandOutput {
    /// Nothing.
    None,
    /// Lines to print.
    Lines(Vec<String>),
    /// `br-exists`.
    Exists(bool),
    /// `show`.
    Show(Show),
    /// `get`: one value a selector.
    Values(Vec<Value>),
    /// `list`: columns of records.
    Records(Vec<Record>),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The table.
    pub table: Table,
    /// Columns in the order in which they are shown.
    pub columns: Vec<(String, Value)>,
}

/// A column's value: what was configured, or a map of counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// As configured, or a state.
    Column(ColumnValue),
    /// Counters.
    Counters(BTreeMap<String, u64>),
}

impl std::fmt::Display for Value {
    /// As `ovs-vsctl` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Column(value) => value.fmt(f),
            Value::Counters(map) => {
                let pairs: Vec<String> = map.iter().map(|(name, count)| format!("{name}={count}")).collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}
