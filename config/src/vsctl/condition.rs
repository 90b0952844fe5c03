//! Conditions of `find` and `wait-until`: how a column compares with a value (`ovs-vsctl(8)`, "Database Commands").

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::value::{ColumnValue, atom, map, set, split};
use super::{Condition, Selector, VsctlError};

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// `=`, `{=}`: the same set, map or single value.
    #[serde(rename = "=")]
    Equal,
    /// `!=`, `{!=}`.
    #[serde(rename = "!=")]
    NotEqual,
    /// `<`, of single values.
    #[serde(rename = "<")]
    Less,
    /// `<=`.
    #[serde(rename = "<=")]
    AtMost,
    /// `>`.
    #[serde(rename = ">")]
    Greater,
    /// `>=`.
    #[serde(rename = ">=")]
    AtLeast,
    /// `{<}`: a proper subset.
    #[serde(rename = "{<}")]
    Within,
    /// `{<=}`, `{in}`: each element is one of the value's.
    #[serde(rename = "{<=}")]
    In,
    /// `{>}`: a proper superset.
    #[serde(rename = "{>}")]
    Around,
    /// `{>=}`: has each element of the value.
    #[serde(rename = "{>=}")]
    Has,
    /// `{not-in}`: has no element of the value.
    #[serde(rename = "{not-in}")]
    NotIn,
}

/// Longer ones before those that they begin with.
const OPERATORS: [(&str, Operator); 14] = [
    ("{not-in}", Operator::NotIn),
    ("{in}", Operator::In),
    ("{<=}", Operator::In),
    ("{>=}", Operator::Has),
    ("{!=}", Operator::NotEqual),
    ("{=}", Operator::Equal),
    ("{<}", Operator::Within),
    ("{>}", Operator::Around),
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// Cuts `COLUMN[:KEY]OPVALUE` into target, operator and value.
pub(super) fn cut(arg: &str) -> Option<(&str, Operator, &str)> {
    // Outside of the quotes that a key may have.
    let end = ['=', '<', '>', '!', '{'].into_iter().map(|c| split(arg, c)[0].len()).min()?;
    let (target, rest) = arg.split_at(end);
    let (text, operator) = OPERATORS.iter().find(|(text, _)| rest.starts_with(text))?;
    Some((target, *operator, &rest[text.len()..]))
}

/// The elements of a column: atoms, or pairs as `key=value`.
fn elements(value: &ColumnValue) -> BTreeSet<String> {
    match value {
        ColumnValue::Bool(flag) => [flag.to_string()].into(),
        ColumnValue::Number(number) => [number.to_string()].into(),
        ColumnValue::Text(text) => [text.clone()].into(),
        ColumnValue::Numbers(numbers) => numbers.iter().map(u64::to_string).collect(),
        ColumnValue::Texts(texts) => texts.iter().cloned().collect(),
        ColumnValue::Map(pairs) => pairs.iter().map(|(key, value)| format!("{key}={value}")).collect(),
    }
}

impl Condition {
    /// Whether a column's value (or, with a key, the value of the key; `None` when it is not there) is as it must be.
    pub fn holds(&self, value: Option<&ColumnValue>) -> Result<bool, VsctlError> {
        let wrong = |message: String| VsctlError::Value(format!("{}: {message}", self.selector.column));
        let Some(value) = value else {
            // As in OVS: a key that is not there differs from any value.
            return Ok(matches!(self.operator, Operator::NotEqual | Operator::NotIn));
        };
        let found = elements(value);
        if matches!(self.operator, Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast)
        {
            let wanted = atom(&self.value).map_err(wrong)?;
            let mut single = found.iter();
            let (Some(one), None) = (single.next(), single.next()) else { return Ok(false) };
            let order = match (one.parse::<u64>(), wanted.parse::<u64>()) {
                (Ok(one), Ok(wanted)) => one.cmp(&wanted),
                _ => one.cmp(&wanted),
            };
            return Ok(match self.operator {
                Operator::Less => order == Ordering::Less,
                Operator::AtMost => order != Ordering::Greater,
                Operator::Greater => order == Ordering::Greater,
                _ => order != Ordering::Less,
            });
        }
        let wanted: BTreeSet<String> = if matches!(value, ColumnValue::Map(_)) {
            map(&self.value)
                .map_err(wrong)?
                .into_iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect()
        } else {
            set(&self.value).map_err(wrong)?.into_iter().collect()
        };
        Ok(match self.operator {
            Operator::NotEqual => found != wanted,
            Operator::Within => found.is_subset(&wanted) && found != wanted,
            Operator::In => found.is_subset(&wanted),
            Operator::Around => found.is_superset(&wanted) && found != wanted,
            Operator::Has => found.is_superset(&wanted),
            Operator::NotIn => found.is_disjoint(&wanted),
            _ => found == wanted,
        })
    }

    /// What is compared.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, value: &ColumnValue) -> bool {
        let (column, operator, text) = cut(condition).unwrap();
        let selector = Selector { column: column.to_owned(), key: None };
        Condition { selector, operator, value: text.to_owned() }.holds(Some(value)).unwrap()
    }

    #[test]
    fn conditions_are_cut_at_their_operators() {
        assert_eq!(cut("type=vxlan"), Some(("type", Operator::Equal, "vxlan")));
        assert_eq!(
            cut("options:remote_ip!=1.2.3.4"),
            Some(("options:remote_ip", Operator::NotEqual, "1.2.3.4"))
        );
        assert_eq!(cut("trunks{>=}10,20"), Some(("trunks", Operator::Has, "10,20")));
        assert_eq!(cut("ofport>=3"), Some(("ofport", Operator::AtLeast, "3")));
        assert_eq!(cut("external_ids:\"a=b\"=c"), Some(("external_ids:\"a=b\"", Operator::Equal, "c")));
        assert_eq!(cut("name"), None);
        assert_eq!(cut("name!x"), None);
    }

    #[test]
    fn sets_maps_and_numbers_compare() {
        let trunks = ColumnValue::Numbers(vec![10, 20]);
        for condition in
            ["t=20,10", "t!=10", "t{>}10", "t{>=}[10,20]", "t{<=}10,20,30", "t{<}10,20,30", "t{not-in}30"]
        {
            assert!(holds(condition, &trunks), "{condition}");
        }
        for condition in ["t=10", "t{in}10", "t{>}10,20", "t{not-in}20,30", "t<30"] {
            assert!(!holds(condition, &trunks), "{condition}");
        }
        let number = ColumnValue::Number(9);
        assert!(holds("ofport<10", &number) && holds("ofport>=9", &number) && !holds("ofport>9", &number));
        assert!(holds("tag=[]", &ColumnValue::optional(None::<&str>)));
        let map =
            ColumnValue::Map([("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())].into());
        assert!(holds("m{>=}a=b", &map) && !holds("m=a=b", &map) && holds("m={c=d,a=b}", &map));
        let gone = Condition {
            selector: Selector { column: "m".into(), key: Some("x".into()) },
            operator: Operator::Equal,
            value: "1".into(),
        };
        assert!(!gone.holds(None).unwrap());
        assert!(Condition { operator: Operator::NotEqual, ..gone }.holds(None).unwrap());
    }
}
