//! Values of columns (RFC 7047, 5.1): atoms, sets, maps.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A row's number, as text.
pub type Uuid = String;

/// JSON that is no value of a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ValueError {
    /// What was expected.
    pub expected: &'static str,
    /// The beginning of what was there.
    pub found: String,
}

impl ValueError {
    /// `expected` instead of this.
    pub fn new(expected: &'static str, found: &Value) -> ValueError {
        let mut text = found.to_string();
        if let Some((at, _)) = text.char_indices().nth(60) {
            text.truncate(at);
        }
        ValueError { expected, found: text }
    }
}

/// A single value.
#[derive(Clone, PartialEq, Debug)]
pub enum Atom {
    /// Integer.
    Integer(i64),
    /// Real number.
    Real(f64),
    /// Truth.
    Boolean(bool),
    /// Text.
    String(String),
    /// A row.
    Uuid(Uuid),
}

impl Atom {
    /// From JSON.
    ///
    /// # Errors
    /// It is no atom.
    pub fn read(value: &Value) -> Result<Atom, ValueError> {
        Ok(match value {
            Value::Bool(truth) => Atom::Boolean(*truth),
            Value::String(text) => Atom::String(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Atom::Integer(integer),
                (None, Some(real)) => Atom::Real(real),
                _ => return Err(ValueError::new("a number", value)),
            },
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(kind), Value::String(uuid)] if kind == "uuid" || kind == "named-uuid" => {
                    Atom::Uuid(uuid.clone())
                }
                _ => return Err(ValueError::new("an atom", value)),
            },
            _ => return Err(ValueError::new("an atom", value)),
        })
    }

    /// To JSON.
    pub fn write(&self) -> Value {
        match self {
            Atom::Integer(number) => json!(number),
            Atom::Real(number) => json!(number),
            Atom::Boolean(truth) => json!(truth),
            Atom::String(text) => json!(text),
            Atom::Uuid(uuid) => json!(["uuid", uuid]),
        }
    }

    /// An order, so that sets compare.
    fn key(&self) -> (u8, i64, u64, &str) {
        match self {
            Atom::Integer(number) => (0, *number, 0, ""),
            Atom::Real(number) => (1, 0, number.to_bits(), ""),
            Atom::Boolean(truth) => (2, (*truth).into(), 0, ""),
            Atom::String(text) => (3, 0, 0, text),
            Atom::Uuid(uuid) => (4, 0, 0, uuid),
        }
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Atom) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Atom) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Integer(number) => number.fmt(f),
            Atom::Real(number) => number.fmt(f),
            Atom::Boolean(truth) => truth.fmt(f),
            Atom::String(text) | Atom::Uuid(text) => text.fmt(f),
        }
    }
}

/// A column's value. One atom is a set of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Datum {
    /// A set; empty for an optional column without a value.
    Set(BTreeSet<Atom>),
    /// A map.
    Map(BTreeMap<Atom, Atom>),
}

impl Default for Datum {
    fn default() -> Datum {
        Datum::Set(BTreeSet::new())
    }
}

impl Datum {
    /// From JSON.
    ///
    /// # Errors
    /// It is no value of a column.
    pub fn read(value: &Value) -> Result<Datum, ValueError> {
        if let Value::Array(pair) = value
            && let [Value::String(kind), Value::Array(elements)] = pair.as_slice()
        {
            match kind.as_str() {
                "set" => return Ok(Datum::Set(elements.iter().map(Atom::read).collect::<Result<_, _>>()?)),
                "map" => {
                    let pair = |element: &Value| match element.as_array().map(Vec::as_slice) {
                        Some([key, value]) => Ok((Atom::read(key)?, Atom::read(value)?)),
                        _ => Err(ValueError::new("a pair of key and value", element)),
                    };
                    return Ok(Datum::Map(elements.iter().map(pair).collect::<Result<_, _>>()?));
                }
                _ => {}
            }
        }
        Ok(Datum::Set([Atom::read(value)?].into()))
    }

    /// To JSON.
    pub fn write(&self) -> Value {
        match self {
            Datum::Set(set) => match set.first() {
                Some(only) if set.len() == 1 => only.write(),
                _ => json!(["set", set.iter().map(Atom::write).collect::<Vec<_>>()]),
            },
            Datum::Map(map) => {
                json!(["map", map.iter().map(|(k, v)| [k.write(), v.write()]).collect::<Vec<_>>()])
            }
        }
    }

    /// What `modify` of an update2 makes of it (`ovsdb-server(7)`, "update2"): a set's difference is what is in one
    /// of the two alone, a map's has new, changed (by their new value) and removed (by their old value) keys. A column
    /// of at most one atom comes as its new value, which its type says and the message does not.
    pub fn apply(&mut self, difference: &Datum, is_scalar: bool) {
        match (&mut *self, difference) {
            (Datum::Map(map), Datum::Map(changes)) => {
                for (key, value) in changes {
                    if map.get(key) == Some(value) {
                        map.remove(key);
                    } else {
                        map.insert(key.clone(), value.clone());
                    }
                }
            }
            (Datum::Set(set), Datum::Set(changes)) if !is_scalar => {
                for atom in changes {
                    if !set.remove(atom) {
                        set.insert(atom.clone());
                    }
                }
            }
            _ => *self = difference.clone(),
        }
    }

    /// A set of one text.
    pub fn text(text: impl Into<String>) -> Datum {
        Datum::Set([Atom::String(text.into())].into())
    }

    /// A set of one number.
    pub fn integer(number: i64) -> Datum {
        Datum::Set([Atom::Integer(number)].into())
    }

    /// A set of one truth.
    pub fn boolean(truth: bool) -> Datum {
        Datum::Set([Atom::Boolean(truth)].into())
    }

    /// A set of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Datum {
        Datum::Set(texts.into_iter().map(|text| Atom::String(text.into())).collect())
    }

    /// A map of texts.
    pub fn text_map<K: Into<String>, V: Into<String>>(map: impl IntoIterator<Item = (K, V)>) -> Datum {
        let pair = |(key, value): (K, V)| (Atom::String(key.into()), Atom::String(value.into()));
        Datum::Map(map.into_iter().map(pair).collect())
    }

    /// A map of counters.
    pub fn counters<K: Into<String>>(map: impl IntoIterator<Item = (K, i64)>) -> Datum {
        let pair = |(key, value): (K, i64)| (Atom::String(key.into()), Atom::Integer(value));
        Datum::Map(map.into_iter().map(pair).collect())
    }

    /// The atoms of a set; none of a map.
    pub fn atoms(&self) -> impl Iterator<Item = &Atom> {
        match self {
            Datum::Set(set) => Some(set.iter()),
            Datum::Map(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// The only text.
    pub fn as_text(&self) -> Option<&str> {
        match self.atoms().next()? {
            Atom::String(text) => Some(text),
            _ => None,
        }
    }

    /// The only number.
    pub fn as_integer(&self) -> Option<i64> {
        match self.atoms().next()? {
            Atom::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The only truth.
    pub fn as_boolean(&self) -> Option<bool> {
        match self.atoms().next()? {
            Atom::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The rows of a set of rows.
    pub fn as_uuids(&self) -> Vec<Uuid> {
        let uuid = |atom: &Atom| match atom {
            Atom::Uuid(uuid) => Some(uuid.clone()),
            _ => None,
        };
        self.atoms().filter_map(uuid).collect()
    }

    /// The texts of a set of texts.
    pub fn as_texts(&self) -> Vec<String> {
        self.atoms()
            .filter_map(|atom| if let Atom::String(text) = atom { Some(text.clone()) } else { None })
            .collect()
    }

    /// The numbers of a set of numbers.
    pub fn as_integers(&self) -> Vec<i64> {
        self.atoms().filter_map(|atom| if let Atom::Integer(n) = atom { Some(*n) } else { None }).collect()
    }

    /// A map of texts; what is not text in it as text.
    pub fn as_text_map(&self) -> BTreeMap<String, String> {
        match self {
            Datum::Map(map) => map.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            Datum::Set(_) => BTreeMap::new(),
        }
    }
}
