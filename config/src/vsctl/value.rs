//! Values as `ovs-vsctl` writes them: atoms, sets `[1, 2]` and maps `{a=b, c="d e"}`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The value of a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ColumnValue {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// A set of numbers; empty also where an optional number or text is not given.
    Numbers(Vec<u64>),
    /// A set of texts.
    Texts(Vec<String>),
    /// A map.
    Map(BTreeMap<String, String>),
}

impl ColumnValue {
    /// The value of a key, in a map.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Map(map) => map.get(key).map(String::as_str),
            _ => None,
        }
    }

    /// An optional text: `[]` when not given.
    pub fn optional(text: Option<impl fmt::Display>) -> Self {
        text.map_or(Self::Numbers(Vec::new()), |text| Self::Text(text.to_string()))
    }

    /// An optional number: `[]` when not given.
    pub fn optional_number(number: Option<impl Into<u64>>) -> Self {
        number.map_or(Self::Numbers(Vec::new()), |number| Self::Number(number.into()))
    }
}

impl fmt::Display for ColumnValue {
    /// As `ovs-vsctl` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |items: Vec<String>| items.join(", ");
        match self {
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Numbers(numbers) => write!(f, "[{}]", join(numbers.iter().map(u64::to_string).collect())),
            Self::Texts(texts) => match texts.as_slice() {
                [one] => f.write_str(&quoted(one)),
                texts => write!(f, "[{}]", join(texts.iter().map(|text| quoted(text)).collect())),
            },
            Self::Map(map) => {
                let pairs = map.iter().map(|(key, value)| format!("{}={}", quoted(key), quoted(value)));
                write!(f, "{{{}}}", join(pairs.collect()))
            }
        }
    }
}

/// A text, in quotes if it is not a plain word (OVSDB `<id>`).
pub(super) fn quoted(text: &str) -> String {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if starts && plain && !matches!(text, "true" | "false") {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

/// A text with its quotes, if any, taken off.
pub(super) fn atom(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.starts_with('"') {
        serde_json::from_str(text)
            .map_err(|_| format!("found {text}, expected a text that ends with its quote"))
    } else {
        Ok(text.to_owned())
    }
}

/// The elements of a set: `[1, 2]`, `1,2`, `[]`.
pub(super) fn set(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim();
    let inner = match text.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').ok_or_else(|| format!("found {text:?}, expected a ']' at the end"))?
        }
        None => text,
    };
    split(inner, ',').into_iter().filter(|part| !part.trim().is_empty()).map(atom).collect()
}

/// The pairs of a map: `{a=b, c="d e"}`, `a=b`, `{}`.
pub(super) fn map(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim();
    let inner = match text.strip_prefix('{') {
        Some(rest) => {
            rest.strip_suffix('}').ok_or_else(|| format!("found {text:?}, expected a '}}' at the end"))?
        }
        None => text,
    };
    split(inner, ',').into_iter().filter(|part| !part.trim().is_empty()).map(pair).collect()
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let key = split(text, '=').first().copied().unwrap_or_default();
    match text.get(key.len() + 1..) {
        Some(value) if !key.trim().is_empty() => Ok((atom(key)?, atom(value)?)),
        _ => Err(format!("found {text:?}, expected KEY=VALUE")),
    }
}

/// Splits at every `separator` outside quotes.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut in_quotes, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if in_quotes && c == '\\' {
            escaped = true;
        } else if c == '"' {
            in_quotes = !in_quotes;
        } else if c == separator && !in_quotes {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_maps() {
        assert_eq!(set("1,2").unwrap(), ["1", "2"]);
        assert_eq!(set("[ 1, \"a,b\" ]").unwrap(), ["1", "a,b"]);
        assert!(set("[]").unwrap().is_empty());
        assert!(set("[1").is_err());
        assert!(set("\"x").is_err());
        let pairs = map("{a=b, \"c=d\"=\"e, f\"}").unwrap();
        assert_eq!(pairs, [("a".into(), "b".into()), ("c=d".into(), "e, f".into())]);
        assert!(map("{a}").is_err());
        assert!(map("{=b}").is_err());
    }

    #[test]
    fn printed_as_ovs_does() {
        assert_eq!(ColumnValue::Text("vxlan".into()).to_string(), "vxlan");
        assert_eq!(ColumnValue::Text("192.168.1.2".into()).to_string(), "\"192.168.1.2\"");
        assert_eq!(ColumnValue::Numbers(vec![1, 2]).to_string(), "[1, 2]");
        assert_eq!(ColumnValue::optional(None::<&str>).to_string(), "[]");
        let map = [("key", "flow"), ("remote_ip", "1.2.3.4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(ColumnValue::Map(map.into()).to_string(), "{key=flow, remote_ip=\"1.2.3.4\"}");
    }
}
