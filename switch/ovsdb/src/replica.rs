//! The replica: what the monitored part of the database is.

use crate::value::{Datum, Uuid, ValueError};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A row's monitored columns. A column that is not there has its default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row(pub BTreeMap<String, Datum>);

impl Row {
    /// A column; empty if the row does not say.
    pub fn get(&self, column: &str) -> Datum {
        self.0.get(column).cloned().unwrap_or_default()
    }
}

/// Rows by table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replica {
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
    /// Columns that hold at most one atom, by table: their changes come whole.
    scalars: BTreeMap<String, BTreeSet<String>>,
}

impl Replica {
    /// An empty replica of a database with this schema (the answer to `get_schema`).
    pub fn of_schema(schema: &Value) -> Replica {
        let mut scalars: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (table, content) in schema["tables"].as_object().into_iter().flatten() {
            for (column, content) in content["columns"].as_object().into_iter().flatten() {
                let kind = &content["type"];
                // A type by its name alone is one atom; else `max` says how many, one if it does not.
                let many = kind.get("max").is_some_and(|max| max.as_i64() != Some(1));
                if !many && kind.get("value").is_none() {
                    scalars.entry(table.clone()).or_default().insert(column.clone());
                }
            }
        }
        Replica { tables: BTreeMap::new(), scalars }
    }

    /// The rows of a table.
    pub fn table(&self, name: &str) -> impl Iterator<Item = (&Uuid, &Row)> {
        self.tables.get(name).into_iter().flatten()
    }

    /// A row.
    pub fn row(&self, table: &str, uuid: &str) -> Option<&Row> {
        self.tables.get(table)?.get(uuid)
    }

    fn read_row(columns: &Value) -> Result<Row, ValueError> {
        let columns = columns.as_object().ok_or_else(|| ValueError::new("an object of columns", columns))?;
        let columns = columns.iter().map(|(name, value)| Ok((name.clone(), Datum::read(value)?)));
        Ok(Row(columns.collect::<Result<_, _>>()?))
    }

    fn each(
        updates: &Value,
        mut change: impl FnMut(&str, &str, &serde_json::Map<String, Value>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let object = |value: &Value| {
            value.as_object().cloned().ok_or_else(|| ValueError::new("an object of updates", value))
        };
        for (table, rows) in object(updates)? {
            for (uuid, update) in object(&rows)? {
                change(&table, &uuid, &object(&update)?)?;
            }
        }
        Ok(())
    }

    /// Takes over the updates of `monitor_cond` (`update2`).
    ///
    /// # Errors
    /// What is no update. The replica may be half changed then: connect anew.
    pub fn update2(&mut self, updates: &Value) -> Result<(), ValueError> {
        Replica::each(updates, |table, uuid, update| {
            let scalars = self.scalars.get(table);
            let rows = self.tables.entry(table.to_owned()).or_default();
            if let Some(columns) = update.get("initial").or_else(|| update.get("insert")) {
                rows.insert(uuid.to_owned(), Replica::read_row(columns)?);
            } else if let Some(columns) = update.get("modify") {
                let row = rows.entry(uuid.to_owned()).or_default();
                for (name, difference) in Replica::read_row(columns)?.0 {
                    let is_scalar = scalars.is_some_and(|scalars| scalars.contains(&name));
                    match row.0.get_mut(&name) {
                        Some(datum) => datum.apply(&difference, is_scalar),
                        None => drop(row.0.insert(name, difference)),
                    }
                }
            } else if update.contains_key("delete") {
                rows.remove(uuid);
            }
            Ok(())
        })
    }

    /// Takes over the updates of `monitor` (RFC 7047, 4.1.6).
    ///
    /// # Errors
    /// What is no update.
    pub fn update(&mut self, updates: &Value) -> Result<(), ValueError> {
        Replica::each(updates, |table, uuid, update| {
            let rows = self.tables.entry(table.to_owned()).or_default();
            match update.get("new") {
                Some(columns) => drop(rows.insert(uuid.to_owned(), Replica::read_row(columns)?)),
                None => drop(rows.remove(uuid)),
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_of_sets_maps_and_scalars() {
        let schema = json!({"tables": {"T": {"columns": {
            "one": {"type": "integer"},
            "maybe": {"type": {"key": "string", "min": 0, "max": 1}},
            "set": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
            "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
        }}}});
        let mut replica = Replica::of_schema(&schema);
        replica
            .update2(&json!({"T": {"u": {"initial": {
                "one": 1, "set": ["set", [1, 2]], "map": ["map", [["a", "1"], ["b", "2"]]]}}}}))
            .unwrap();
        replica
            .update2(&json!({"T": {"u": {"modify": {
                "one": 5, "maybe": "x", "set": ["set", [2, 3]], "map": ["map", [["a", "1"], ["b", "9"], ["c", "3"]]]}}}}))
            .unwrap();
        let row = replica.row("T", "u").unwrap();
        assert_eq!(row.get("one"), Datum::integer(5));
        assert_eq!(row.get("maybe"), Datum::text("x"));
        assert_eq!(row.get("set").as_integers(), [1, 3]);
        assert_eq!(row.get("map"), Datum::text_map([("b", "9"), ("c", "3")]));
        replica.update2(&json!({"T": {"u": {"modify": {"maybe": ["set", []]}}}})).unwrap();
        assert_eq!(replica.row("T", "u").unwrap().get("maybe").as_text(), None);
        replica.update2(&json!({"T": {"u": {"delete": null}}})).unwrap();
        assert!(replica.row("T", "u").is_none());
        assert!(replica.update2(&json!({"T": {"u": {"modify": {"one": {}}}}})).is_err());
    }
}
