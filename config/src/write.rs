//! Writes a document as TOML: a new text in the shape in which people write it, or what changed into the text that a
//! person has written, whose comments, order and spelling stay.
//!
//! Both are one thing: the document, serialised, is merged into a text, an empty one for a new text. So a field that
//! a document has is written without being named here.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use crate::document::{Bridge, Document, Mirror, Port};
use crate::read::understand;

/// Lists of which each entry has a table of its own, as `[[bridge]]`.
const TABLES: [&str; 3] = ["bridge", "port", "mirror"];
/// Lists with a line an entry.
const LINES: [&str; 5] = ["flows", "groups", "meters", "tlv_map", "fdb"];

impl Document {
    /// The document as TOML. Reads back as an equal document. What has its default value is left out.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = DocumentMut::new();
        merge(text.as_table_mut(), &inline_table(self), &inline_table(&Document::default()));
        text.to_string().trim_start_matches('\n').to_owned()
    }

    /// `text` with everything in it that is not so in this document changed. Comments, order and spelling of the rest
    /// stay; a text that cannot be kept so becomes [`Document::to_toml`]. Reads back as an equal document.
    #[must_use]
    pub fn update_toml(&self, text: &str) -> String {
        let Ok(mut parsed) = text.parse::<DocumentMut>() else { return self.to_toml() };
        merge(parsed.as_table_mut(), &inline_table(self), &inline_table(&Document::default()));
        let updated = parsed.to_string();
        if understand(&updated).as_ref() == Some(self) { updated } else { self.to_toml() }
    }
}

/// A part of a document as TOML values, all fields in their order.
fn inline_table<T: Serialize>(part: &T) -> InlineTable {
    let table = toml_edit::ser::to_document(part).map(|document| document.as_table().clone());
    // Texts, numbers, lists and maps by text: there is nothing that TOML cannot say.
    table.unwrap_or_default().into_inline_table()
}

/// The defaults of the tables that stand under this key.
fn default_of(key: &str, outer: &InlineTable) -> InlineTable {
    match key {
        "bridge" => inline_table(&Bridge::default()),
        "port" => inline_table(&Port::default()),
        "mirror" => inline_table(&Mirror::default()),
        _ => outer.get(key).and_then(Value::as_inline_table).cloned().unwrap_or_default(),
    }
}

/// Makes the table `old` say what `new` says. What is not there and has its default stays away.
fn merge(old: &mut dyn TableLike, new: &InlineTable, default: &InlineTable) {
    let gone: Vec<String> =
        old.iter().map(|(key, _)| key.to_owned()).filter(|key| !new.contains_key(key)).collect();
    for key in gone {
        old.remove(&key);
    }
    for (key, value) in new {
        match value {
            Value::Array(entries) if TABLES.contains(&key) => {
                merge_tables(old, key, entries, &default_of(key, default));
            }
            _ if default.get(key).is_some_and(|default| same(default, value)) && !old.contains_key(key) => {}
            // A table of settings: `[dpdk]`.
            Value::InlineTable(settings) if default.contains_key(key) => {
                // Behind the bridges where there are some: what a file begins with stays its beginning.
                let position = old.contains_key("bridge").then_some(isize::MAX);
                let table = old.entry(key).or_insert_with(|| {
                    let mut table = Table::new();
                    table.set_position(position);
                    Item::Table(table)
                });
                if let Some(table) = table.as_table_like_mut() {
                    merge(table, settings, &default_of(key, default));
                }
            }
            _ => match old.get_mut(key) {
                Some(item) => merge_item(item, value),
                None => {
                    old.insert(key, Item::Value(fresh(key, value)));
                }
            },
        }
    }
}

/// A value as it is written where there was none.
fn fresh(key: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(array) = &mut value
        && LINES.contains(&key)
    {
        for entry in array.iter_mut() {
            entry.decor_mut().set_prefix("\n    ");
        }
        array.set_trailing("\n");
        array.set_trailing_comma(true);
    }
    value
}

/// Makes the tables under `key` those of `new`. A table is known by its name.
fn merge_tables(old: &mut dyn TableLike, key: &str, new: &Array, default: &InlineTable) {
    let mut before: Vec<Table> = match old.remove(key) {
        Some(Item::ArrayOfTables(tables)) => tables.into_iter().collect(),
        Some(Item::Value(Value::Array(values))) => values
            .into_iter()
            .filter_map(|value| match value {
                Value::InlineTable(table) => Some(table.into_table()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let mut tables = ArrayOfTables::new();
    for entry in new.iter().filter_map(Value::as_inline_table) {
        let name = entry.get("name").and_then(Value::as_str);
        let named = |table: &Table| table.get("name").and_then(Item::as_str) == name;
        let mut table = match before.iter().position(named) {
            Some(at) => before.remove(at),
            None => Table::new(),
        };
        merge(&mut table, entry, default);
        tables.push(table);
    }
    if !tables.is_empty() {
        old.insert(key, Item::ArrayOfTables(tables));
    }
}

/// Makes something that is not a list of tables say what `new` says.
fn merge_item(old: &mut Item, new: &Value) {
    if let (Some(table), Value::InlineTable(new)) = (old.as_table_like_mut(), new) {
        let gone: Vec<String> =
            table.iter().map(|(key, _)| key.to_owned()).filter(|key| !new.contains_key(key)).collect();
        for key in gone {
            table.remove(&key);
        }
        for (key, value) in new {
            match table.get_mut(key) {
                Some(item) => merge_item(item, value),
                None => {
                    table.insert(key, Item::Value(value.clone()));
                }
            }
        }
        return;
    }
    match (old, new) {
        (Item::Value(old), new) if same(old, new) => {}
        (Item::Value(Value::Array(old)), Value::Array(new)) => merge_array(old, new),
        (Item::Value(old), new) => {
            let decor = old.decor().clone();
            *old = new.clone();
            *old.decor_mut() = decor;
        }
        (old, new) => *old = Item::Value(new.clone()),
    }
}

/// Makes a list that of `new`; entries that stay are the same text, with the comments before them.
fn merge_array(old: &mut Array, new: &Array) {
    let template = old.iter().next().map(|value| value.decor().clone());
    let mut before: HashMap<String, VecDeque<Value>> = HashMap::new();
    for value in old.iter() {
        before.entry(text(value)).or_default().push_back(value.clone());
    }
    let several_lines = old.to_string().contains('\n');
    old.clear();
    for value in new {
        if let Some(value) = before.get_mut(&text(value)).and_then(VecDeque::pop_front) {
            old.push_formatted(value);
            continue;
        }
        let mut value = value.clone();
        match &template {
            Some(_) if several_lines => value.decor_mut().set_prefix("\n    "),
            Some(_) | None => value.decor_mut().set_prefix(if old.is_empty() { "" } else { " " }),
        }
        old.push_formatted(value);
    }
}

/// What a value says, however it is spelt: in options a number may stand for its text.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(value) => value.value().to_string(),
        Value::Datetime(time) => time.value().to_string(),
        Value::Array(array) => array.iter().fold(String::new(), |list, value| list + &text(value) + "\n"),
        Value::InlineTable(table) => {
            let mut entries: Vec<String> =
                table.iter().map(|(key, value)| format!("{key}={}\n", text(value))).collect();
            entries.sort_unstable();
            entries.concat()
        }
    }
}

/// Whether two values say the same.
fn same(a: &Value, b: &Value) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b) && text(a) == text(b)
        || a.is_str() != b.is_str() && !a.is_array() && !b.is_array() && text(a) == text(b)
}

#[cfg(test)]
mod tests {
    use crate::{Document, Neighbour, Port, accept_flows, parse_str};

    const FILE: &str = r#"# The switch in rack 7.

[dpdk]
rxd = 1024   # as the NIC's vendor says

# Overlay.
[[bridge]]
name = "br0"
fail_mode = "standalone" # said on purpose
flows = [
    # keep the storage apart
    "priority=10,in_port=p0,actions=output:p1",
    "priority=5,actions=drop",
]

# The first host.
[[bridge.port]]
type = "dpdk"
name = "p0"
options = { dpdk-devargs = "net_null0", n_rxq = 1 }

[[bridge.port]]
name = "p1" # the second
type = "dpdk"
options.dpdk-devargs = 'net_null1'

# Underlay.
[[bridge]]
name = "br-phy"
address = [ "192.168.1.1/24" ]
"#;

    fn read(text: &str) -> Document {
        parse_str("test", text, &accept_flows).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[track_caller]
    fn updated(edit: impl FnOnce(&mut Document)) -> String {
        let mut document = read(FILE);
        edit(&mut document);
        let text = document.update_toml(FILE);
        assert_eq!(read(&text), document, "{text}");
        text
    }

    #[test]
    fn nothing_changes_when_nothing_has_changed() {
        assert_eq!(updated(|_| {}), FILE);
    }

    #[test]
    fn only_what_changed_is_written() {
        let text = updated(|document| {
            document.dpdk.rxd = 2048;
            let bridge = &mut document.bridges[0];
            bridge.flows.insert(1, "priority=7,arp,actions=NORMAL".into());
            bridge.ports[1].tag = Some(10);
            bridge.ports[0].options.insert("n_rxq".into(), "2".into());
        });
        let expected = FILE
            .replace("rxd = 1024", "rxd = 2048")
            .replace("    \"priority=5", "    \"priority=7,arp,actions=NORMAL\",\n    \"priority=5")
            .replace("'net_null1'\n", "'net_null1'\ntag = 10\n")
            .replace("n_rxq = 1", "n_rxq = \"2\"");
        assert_eq!(text, expected);
    }

    #[test]
    fn what_comes_and_goes_leaves_the_rest_as_it_is() {
        let port = Port { name: "vx".into(), kind: "vxlan".into(), ..Port::default() };
        let port = Port { options: [("remote_ip".into(), "1.2.3.4".into())].into(), ..port };
        let text = updated(|document| {
            document.bridges[0].ports.push(port);
            document.bridges[1].neighbours = vec![Neighbour {
                ip: "192.168.1.2".parse().unwrap(),
                mac: "02:00:00:00:00:01".parse().unwrap(),
                vlan: 0,
            }];
        });
        let new = "[[bridge.port]]\nname = \"vx\"\ntype = \"vxlan\"\noptions = { remote_ip = \"1.2.3.4\" }\n";
        let at = text.find(new).unwrap_or_else(|| panic!("{text}"));
        assert!(text[..at].contains("net_null1") && text[at..].contains("# Underlay."), "{text}");
        assert_eq!(text.replace(&format!("\n{new}"), "").lines().count(), FILE.lines().count() + 1, "{text}");
        let text = updated(|document| {
            document.bridges[0].ports.remove(0);
            document.bridges[0].flows.clear();
        });
        assert!(!text.contains("p0") && text.contains("# the second") && text.contains("# said on purpose"));
        let text = updated(|document| document.bridges.truncate(1));
        assert!(!text.contains("br-phy") && text.contains("# The first host."), "{text}");
    }

    #[test]
    fn what_a_file_begins_with_stays_its_beginning() {
        let text = "# The switch in rack 7.\n\n[[bridge]] # the only one\nname = \"br0\"\n";
        let mut document = read(text);
        document.dpdk.rxd = 2048;
        document.bridges[0].ports.push(Port {
            name: "p0".into(),
            kind: "internal".into(),
            ..Port::default()
        });
        let updated = document.update_toml(text);
        assert!(updated.starts_with(text) && updated.ends_with("\n[dpdk]\nrxd = 2048\n"), "{updated}");
        assert_eq!(read(&updated), document);
    }

    #[test]
    fn an_order_that_no_longer_holds_is_written_anew() {
        let text = updated(|document| document.bridges[0].ports.swap(0, 1));
        assert!(text.find("\"p1\"") < text.find("\"p0\""), "{text}");
        assert_eq!(Document::default().update_toml("no = [toml"), "");
    }
}
