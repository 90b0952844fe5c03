//! `ovs-vsctl`'s command grammar as edits of a [`Document`](crate::Document).
//!
//! [`parse_transaction`] reads a command line (several commands joined by `--` are one transaction), [`apply`]
//! does all of it or nothing. Commands and their outputs serialise, so a client can parse and a daemon apply.
//! Messages read as those of `ovs-vsctl(8)`, as that is what users and their scripts know.

mod apply;
mod columns;
mod condition;
mod grammar;
mod rows;
mod value;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use apply::{apply, apply_with};
pub use columns::{SWITCH_RECORD, columns};
pub use condition::Operator;
pub use grammar::parse_transaction;
pub use value::ColumnValue;

use crate::document::FailMode;
use crate::problem::Problem;

/// A table of the Open_vSwitch database. A port has one interface of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Table {
    /// `Bridge`.
    Bridge,
    /// `Port`: VLANs.
    Port,
    /// `Interface`: type, options, MTU, statistics.
    Interface,
    /// `Mirror`: copies of what ports and VLANs carry.
    Mirror,
    /// `Open_vSwitch`: the switch as a whole, one record, `.`.
    #[serde(rename = "Open_vSwitch")]
    OpenVSwitch,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "Bridge",
            Self::Port => "Port",
            Self::Interface => "Interface",
            Self::Mirror => "Mirror",
            Self::OpenVSwitch => "Open_vSwitch",
        })
    }
}

/// `COLUMN=VALUE` or `COLUMN:KEY=VALUE`; the value is OVSDB syntax, not yet read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Column, in lower case and with `_`.
    pub column: String,
    /// Key in a column that is a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value as it was written.
    pub value: String,
}

/// `COLUMN[:KEY]OPVALUE` of `find` and `wait-until`; the value is OVSDB syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is compared.
    #[serde(flatten)]
    pub selector: Selector,
    /// How.
    pub operator: Operator,
    /// With what, as it was written.
    pub value: String,
}

/// `COLUMN` or `COLUMN:KEY`, to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Column, in lower case and with `_`.
    pub column: String,
    /// Key in a column that is a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One command of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// `init`: nothing to do; accepted for scripts.
    Init,
    /// `show`.
    Show,
    /// `[--may-exist] add-br BRIDGE`.
    AddBr {
        /// Bridge to make.
        bridge: String,
        /// An existing one is fine.
        #[serde(default)]
        may_exist: bool,
    },
    /// `[--if-exists] del-br BRIDGE`.
    DelBr {
        /// Bridge to delete, with its ports.
        bridge: String,
        /// None of that name is fine.
        #[serde(default)]
        if_exists: bool,
    },
    /// `list-br`.
    ListBr,
    /// `br-exists BRIDGE`.
    BrExists {
        /// Name to look for.
        bridge: String,
    },
    /// `[--may-exist] add-port BRIDGE PORT [COLUMN[:KEY]=VALUE]...`, columns of table `Port`.
    AddPort {
        /// Bridge to add to.
        bridge: String,
        /// Port to make.
        port: String,
        /// An existing one on that bridge is fine.
        #[serde(default)]
        may_exist: bool,
        /// Columns to set.
        #[serde(default)]
        settings: Vec<Setting>,
    },
    /// `[--if-exists] del-port [BRIDGE] PORT`.
    DelPort {
        /// Bridge that must have it.
        #[serde(default)]
        bridge: Option<String>,
        /// Port to delete.
        port: String,
        /// None of that name is fine.
        #[serde(default)]
        if_exists: bool,
    },
    /// `list-ports BRIDGE` (and `list-ifaces`).
    ListPorts {
        /// Bridge whose ports to list.
        bridge: String,
    },
    /// `port-to-br PORT` (and `iface-to-br`).
    PortToBr {
        /// Port to look for.
        port: String,
    },
    /// `get-fail-mode BRIDGE`.
    GetFailMode {
        /// Bridge to look at.
        bridge: String,
    },
    /// `set-fail-mode BRIDGE MODE`.
    SetFailMode {
        /// Bridge to change.
        bridge: String,
        /// New mode.
        mode: FailMode,
    },
    /// `del-fail-mode BRIDGE`: back to standalone.
    DelFailMode {
        /// Bridge to change.
        bridge: String,
    },
    /// `[--if-exists] set TABLE RECORD COLUMN[:KEY]=VALUE...`.
    Set {
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// No such record is fine.
        #[serde(default)]
        if_exists: bool,
        /// Columns to set.
        settings: Vec<Setting>,
    },
    /// `add TABLE RECORD COLUMN VALUE...`: adds to a set or map.
    Add {
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// No such record is fine.
        #[serde(default)]
        if_exists: bool,
        /// Column to change.
        column: String,
        /// Values, or `KEY=VALUE` for a map.
        values: Vec<String>,
    },
    /// `[--if-exists] remove TABLE RECORD COLUMN VALUE...`: removes from a set or map.
    Remove {
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// No such record is fine.
        #[serde(default)]
        if_exists: bool,
        /// Column to change.
        column: String,
        /// Values; for a map `KEY`, or `KEY=VALUE` to remove only that value.
        values: Vec<String>,
    },
    /// `[--if-exists] clear TABLE RECORD COLUMN...`.
    Clear {
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// No such record is fine.
        #[serde(default)]
        if_exists: bool,
        /// Columns to empty.
        columns: Vec<String>,
    },
    /// `[--if-exists] [--id=@NAME] get TABLE RECORD [COLUMN[:KEY]]...`.
    Get {
        /// Name by which other commands of the transaction know the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// A record, column or key that is not there is fine.
        #[serde(default)]
        if_exists: bool,
        /// What to print; may be a column of the running state, such as `statistics:rx_packets`.
        selectors: Vec<Selector>,
    },
    /// `[--id=@NAME] create mirror name=... COLUMN=VALUE...`. The mirror is its bridge's once `set` or `add` puts it
    /// into the bridge's `mirrors`; until then it is nowhere.
    Create {
        /// Name by which other commands of the transaction know the mirror, before and behind this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Columns to set.
        settings: Vec<Setting>,
    },
    /// `[--if-exists] destroy mirror NAME...`, `--all destroy mirror`.
    Destroy {
        /// Names.
        records: Vec<String>,
        /// All mirrors.
        #[serde(default)]
        all: bool,
        /// No such record is fine.
        #[serde(default)]
        if_exists: bool,
    },
    /// `br-set-external-id BRIDGE KEY [VALUE]`: without a value, the key goes.
    BrSetExternalId {
        /// Bridge to change.
        bridge: String,
        /// Key in its `external_ids`.
        key: String,
        /// New value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// `br-get-external-id BRIDGE [KEY]`.
    BrGetExternalId {
        /// Bridge to look at.
        bridge: String,
        /// One key; `None`: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// `[--columns=A,B] find TABLE [COLUMN[:KEY]OPVALUE]...`.
    Find {
        /// Table.
        table: Table,
        /// All must hold.
        #[serde(default)]
        conditions: Vec<Condition>,
        /// Columns; empty: all.
        #[serde(default)]
        columns: Vec<String>,
    },
    /// `[--if-exists] wait-until TABLE RECORD [COLUMN[:KEY]OPVALUE]...`: whether it is so now. Who waits asks again.
    WaitUntil {
        /// Table.
        table: Table,
        /// Name of the bridge or port.
        record: String,
        /// A record that is not there is as good as one for which all conditions hold.
        #[serde(default)]
        if_exists: bool,
        /// All must hold.
        #[serde(default)]
        conditions: Vec<Condition>,
    },
    /// `[--columns=A,B] list TABLE [RECORD]...`.
    List {
        /// Table.
        table: Table,
        /// Names; empty: all.
        #[serde(default)]
        records: Vec<String>,
        /// Columns; empty: all.
        #[serde(default)]
        columns: Vec<String>,
        /// Records that are not there are fine.
        #[serde(default)]
        if_exists: bool,
    },
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Nothing.
    None,
    /// Lines to print.
    Lines(Vec<String>),
    /// `br-exists`: exit status 0 or (as `ovs-vsctl`) 2.
    Exists(bool),
    /// `show`, `get`, `list`, `find` or `wait-until`: the running switch answers, as it knows statistics and states. Read it against the
    /// document after the transaction; [`columns`] gives the configured part.
    Query(Command),
}

/// The outcome of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Whether the document is another than before.
    pub changed: bool,
    /// One output a command, in order.
    pub outputs: Vec<Output>,
}

/// Why a transaction cannot be read or done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VsctlError {
    /// The command line is not in the grammar.
    #[error("{0}")]
    Usage(String),
    /// A bridge, port or record that is not there.
    #[error("{0}")]
    NotFound(String),
    /// The command contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// A value that the column cannot take.
    #[error("{0}")]
    Value(String),
    /// The document after the whole transaction would not be valid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
