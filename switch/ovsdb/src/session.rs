//! The protocol of one connection, without I/O.

use crate::frame::{FrameError, Frames};
use crate::replica::Replica;
use crate::transaction::Transaction;
use crate::value::ValueError;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A table and the columns that matter of it.
pub type Monitored = (&'static str, &'static [&'static str]);

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Bytes that are no messages.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message that is no JSON.
    #[error("a message is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An update that is none.
    #[error("an update: {0}")]
    Update(#[from] ValueError),
    /// The server refuses what cannot be done without.
    #[error("the server refuses {0}: {1}")]
    Refused(&'static str, String),
    /// The server has no such database, or another one than the switch understands.
    #[error("the database {database} has no table {table}")]
    Schema {
        /// Its name.
        database: &'static str,
        /// What is missing.
        table: &'static str,
    },
}

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Number that [`Session::transact`] gave.
    pub id: u64,
    /// Why nothing of it was done.
    pub error: Option<String>,
}

/// What input meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The replica is there, or has changed.
    Changed,
    /// The lock is this client's, or no more.
    Locked(bool),
    /// A transaction is done, or not.
    Done(Outcome),
}

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Schema,
    Lock,
    MonitorCond,
    Monitor,
    Transaction(u64),
    Probe,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Session {
    database: &'static str,
    lock: &'static str,
    monitored: &'static [Monitored],
    frames: Frames,
    replica: Replica,
    /// Our requests by number, until they are answered.
    asked: BTreeMap<u64, Asked>,
    next: u64,
    locked: bool,
    ready: bool,
    /// The monitor of RFC 7047, for servers that know no other.
    old_monitor: bool,
    schema: Value,
}

impl Session {
    /// A session that will hold `lock` and replicate `monitored` of `database`.
    pub fn new(database: &'static str, lock: &'static str, monitored: &'static [Monitored]) -> Session {
        Session {
            database,
            lock,
            monitored,
            frames: Frames::default(),
            replica: Replica::default(),
            asked: BTreeMap::new(),
            next: 1,
            locked: false,
            ready: false,
            old_monitor: false,
            schema: Value::Null,
        }
    }

    /// What is sent first.
    pub fn start(&mut self) -> Vec<u8> {
        let mut out = self.ask("get_schema", &json!([self.database]), Asked::Schema);
        out.extend(self.ask("lock", &json!([self.lock]), Asked::Lock));
        out
    }

    /// What is known of the database; `None` before it is.
    pub fn replica(&self) -> Option<&Replica> {
        self.ready.then_some(&self.replica)
    }

    /// Whether the lock is held.
    pub fn locked(&self) -> bool {
        self.locked
    }

    fn ask(&mut self, method: &str, parameters: &Value, asked: Asked) -> Vec<u8> {
        let id = self.next;
        self.next += 1;
        self.asked.insert(id, asked);
        json!({ "method": method, "params": parameters, "id": id }).to_string().into_bytes()
    }

    /// An echo request, to see whether the server is there.
    pub fn probe(&mut self) -> Vec<u8> {
        self.ask("echo", &json!([]), Asked::Probe)
    }

    /// Bytes that do a transaction, and its number. It fails when the lock is lost.
    pub fn transact(&mut self, mut transaction: Transaction) -> (Vec<u8>, u64) {
        transaction.assert_lock(self.lock);
        let number = self.next;
        let parameters = Value::Array(transaction.parameters(self.database));
        (self.ask("transact", &parameters, Asked::Transaction(number)), number)
    }

    /// Takes bytes from the server; what is to be sent goes to `out`.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn input(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Vec<Input>, SessionError> {
        self.frames.push(bytes);
        let mut found = Vec::new();
        while let Some(message) = self.frames.next()? {
            let message: Value = serde_json::from_slice(&message)?;
            self.message(&message, out, &mut found)?;
        }
        // One change or many: it is the same replica that is looked at.
        let mut changed = false;
        found.retain(|input| *input != Input::Changed || !std::mem::replace(&mut changed, true));
        Ok(found)
    }

    fn message(
        &mut self,
        message: &Value,
        out: &mut Vec<u8>,
        found: &mut Vec<Input>,
    ) -> Result<(), SessionError> {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("echo") => {
                let answer = json!({ "id": message["id"], "result": parameters, "error": null });
                out.extend_from_slice(answer.to_string().as_bytes());
            }
            Some("update2") => {
                self.replica.update2(&parameters[1])?;
                found.push(Input::Changed);
            }
            Some("update") => {
                self.replica.update(&parameters[1])?;
                found.push(Input::Changed);
            }
            Some(event @ ("locked" | "stolen")) if parameters[0].as_str() == Some(self.lock) => {
                self.locked = event == "locked";
                found.push(Input::Locked(self.locked));
            }
            // Notices of what was not asked for.
            Some(_) => {}
            None => self.answer(message, out, found)?,
        }
        Ok(())
    }

    fn answer(
        &mut self,
        message: &Value,
        out: &mut Vec<u8>,
        found: &mut Vec<Input>,
    ) -> Result<(), SessionError> {
        let asked = message["id"].as_u64().and_then(|id| self.asked.remove(&id));
        let (result, error) = (&message["result"], &message["error"]);
        let Some(asked) = asked else { return Ok(()) };
        match asked {
            Asked::Schema if error.is_null() => {
                for (table, _) in self.monitored {
                    if result["tables"].get(table).is_none() {
                        return Err(SessionError::Schema { database: self.database, table });
                    }
                }
                self.schema = result.clone();
                self.replica = Replica::of_schema(&self.schema);
                let request = self.monitor();
                let parameters = json!([self.database, "vxswitch", request]);
                out.extend(self.ask("monitor_cond", &parameters, Asked::MonitorCond));
            }
            Asked::Schema => return Err(SessionError::Refused("get_schema", error.to_string())),
            Asked::Lock if error.is_null() => {
                self.locked = result["locked"].as_bool().unwrap_or(false);
                found.push(Input::Locked(self.locked));
            }
            Asked::Lock => return Err(SessionError::Refused("lock", error.to_string())),
            Asked::MonitorCond if !error.is_null() && !self.old_monitor => {
                self.old_monitor = true;
                let request = self.monitor();
                let parameters = json!([self.database, "vxswitch", request]);
                out.extend(self.ask("monitor", &parameters, Asked::Monitor));
            }
            Asked::MonitorCond | Asked::Monitor if !error.is_null() => {
                return Err(SessionError::Refused("monitor", error.to_string()));
            }
            Asked::MonitorCond => {
                self.replica.update2(result)?;
                self.ready = true;
                found.push(Input::Changed);
            }
            Asked::Monitor => {
                self.replica.update(result)?;
                self.ready = true;
                found.push(Input::Changed);
            }
            Asked::Transaction(id) => {
                // An operation that failed says so in its place, the transaction as a whole behind the last.
                let failed = result.as_array().into_iter().flatten().find(|one| one.get("error").is_some());
                let error = match failed {
                    Some(one) => Some(format!("{}: {}", one["error"], one["details"])),
                    None if error.is_null() => None,
                    None => Some(error.to_string()),
                };
                found.push(Input::Done(Outcome { id, error }));
            }
            Asked::Probe => {}
        }
        Ok(())
    }

    /// What is monitored, as far as the database has it: columns come and go with versions of Open vSwitch.
    fn monitor(&self) -> Value {
        let table = |(table, columns): &Monitored| {
            let known = &self.schema["tables"][*table]["columns"];
            let columns: Vec<&str> =
                columns.iter().copied().filter(|column| known.get(column).is_some()).collect();
            ((*table).to_owned(), json!([{ "columns": columns }]))
        };
        Value::Object(self.monitored.iter().map(table).collect())
    }
}
