//! What is written: operations that are done together or not at all (RFC 7047, 5.2).

use crate::value::Datum;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Operations.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Transaction {
    operations: Vec<Value>,
}

impl Transaction {
    /// Nothing yet.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The transaction shall fail if this client has lost its lock.
    pub fn assert_lock(&mut self, lock: &str) {
        self.operations.insert(0, json!({ "op": "assert", "lock": lock }));
    }

    /// Sets columns of a row.
    pub fn update(&mut self, table: &str, uuid: &str, columns: &BTreeMap<&'static str, Datum>) {
        let row: serde_json::Map<String, Value> =
            columns.iter().map(|(name, datum)| ((*name).to_owned(), datum.write())).collect();
        let condition = json!([["_uuid", "==", ["uuid", uuid]]]);
        self.operations.push(json!({ "op": "update", "table": table, "where": condition, "row": row }));
    }

    /// Why, for the server's log.
    pub fn comment(&mut self, text: &str) {
        self.operations.push(json!({ "op": "comment", "comment": text }));
    }

    /// The parameters of `transact`.
    pub(crate) fn parameters(self, database: &str) -> Vec<Value> {
        let mut out = vec![json!(database)];
        out.extend(self.operations);
        out
    }
}
