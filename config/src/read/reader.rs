//! Takes values out of spanned TOML, remembering the line of each and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Kind, Problem, Site, one_of};
use crate::suggest::nearest;

/// The state of reading one file.
pub(super) struct Reader {
    /// Offsets at which lines start.
    starts: Vec<usize>,
    /// Line of every place that was seen.
    lines: BTreeMap<String, usize>,
    /// What is wrong so far.
    problems: Vec<Problem>,
    /// Places about which the user has been told, so that what follows from it is not told again.
    told: BTreeSet<String>,
}

impl Reader {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { starts, lines: BTreeMap::new(), problems: Vec::new(), told: BTreeSet::new() }
    }

    /// The line, from 1, of a byte offset.
    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Remembers the line of a place.
    fn see(&mut self, site: &Site, span: &Range<usize>) {
        let line = self.line(span.start);
        self.lines.insert(site.path().to_owned(), line);
    }

    /// A syntax error of the TOML parser.
    pub(super) fn syntax(&mut self, error: &toml::de::Error) {
        let mut problem = Site::default().problem(Kind::Syntax, error.message());
        problem.line = error.span().map(|span| self.line(span.start));
        self.problems.push(problem);
    }

    /// Records a problem at `site`, with its line.
    pub(super) fn invalid(&mut self, site: &Site, message: impl Into<String>) {
        self.told.insert(site.path().to_owned());
        let mut problem = site.invalid(message);
        problem.line = self.nearest_line(site.path());
        self.problems.push(problem);
    }

    /// Adds what validation found, unless the user has been told about that place or what it lies in.
    pub(super) fn add_found(&mut self, found: Vec<Problem>) {
        for mut problem in found {
            if ancestors(&problem.path).any(|path| self.told.contains(path)) {
                continue;
            }
            problem.line = self.nearest_line(&problem.path);
            self.problems.push(problem);
        }
    }

    /// All problems by line. Where the text is not TOML, what seems to be missing may be in the part that could
    /// not be read, and so may what seems wrong in the same line: only the syntax error is certain.
    pub(super) fn finish(mut self, file: &str) -> Vec<Problem> {
        let broken: BTreeSet<Option<usize>> =
            self.problems.iter().filter(|p| p.kind == Kind::Syntax).map(|p| p.line).collect();
        if !broken.is_empty() {
            self.problems.retain(|p| match p.kind {
                Kind::Syntax => true,
                Kind::Missing => false,
                Kind::Invalid => !broken.contains(&p.line),
            });
        }
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
        for problem in &mut self.problems {
            problem.file = Some(file.to_owned());
        }
        self.problems
    }

    /// The line of a place or, if it does not stand in the file, of what it would stand in.
    fn nearest_line(&self, path: &str) -> Option<usize> {
        ancestors(path).find_map(|path| self.lines.get(path)).copied()
    }

    /// `value` as a table, of which only the keys `known` may be there.
    pub(super) fn table<'t, 'i>(
        &mut self,
        site: &Site,
        value: &'t Spanned<DeValue<'i>>,
        known: &[&str],
    ) -> Option<&'t DeTable<'i>> {
        let table = self.any_table(site, value)?;
        self.known_keys(site, table, known);
        Some(table)
    }

    /// `value` as a table of any keys.
    fn any_table<'t, 'i>(&mut self, site: &Site, value: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(site, value.get_ref(), "a table");
        }
        table
    }

    /// Remembers the lines of a table's keys and refuses those that are not `known`.
    pub(super) fn known_keys(&mut self, site: &Site, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys() {
            let name: &str = key.get_ref();
            let field = site.field(name);
            self.see(&field, &key.span());
            if known.contains(&name) {
                continue;
            }
            let hint = match nearest(name, known) {
                // What is misspelt is not missing too.
                Some(near) => {
                    self.told.insert(site.field(near).path().to_owned());
                    format!("; did you mean {near}?")
                }
                None => format!(", expected {}", one_of(known)),
            };
            self.invalid(&field, format!("unknown key{hint}"));
        }
    }

    /// The elements of the array `key`, with their places; empty when absent or no array.
    pub(super) fn array<'t, 'i>(
        &mut self,
        site: &Site,
        table: &'t DeTable<'i>,
        key: &str,
        expected: &str,
    ) -> Vec<(Site, &'t Spanned<DeValue<'i>>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let site = site.field(key);
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(&site, value.get_ref(), expected);
            return Vec::new();
        };
        let elements: Vec<_> = array.iter().enumerate().map(|(i, value)| (site.index(i), value)).collect();
        for (site, value) in &elements {
            self.see(site, &value.span());
        }
        elements
    }

    /// The string `key`.
    pub(super) fn string(&mut self, site: &Site, table: &DeTable<'_>, key: &str) -> Option<String> {
        self.text(&site.field(key), table.get(key)?, "a string")
    }

    /// `value` as a string; `expected` says what it is for.
    pub(super) fn text(
        &mut self,
        site: &Site,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(site, value.get_ref(), expected);
        }
        text
    }

    /// The string `key` as a `T`; `expected` says how one is written.
    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        site: &Site,
        table: &DeTable<'_>,
        key: &str,
        expected: &str,
    ) -> Option<T> {
        self.parse(&site.field(key), table.get(key)?, expected)
    }

    /// The string `value` as a `T`; `expected` says how one is written.
    pub(super) fn parse<T: std::str::FromStr>(
        &mut self,
        site: &Site,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<T> {
        let text = self.text(site, value, expected)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.invalid(site, format!("found {text:?}, expected {expected}"));
        }
        parsed
    }

    /// The boolean `key`.
    pub(super) fn boolean(&mut self, site: &Site, table: &DeTable<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?.get_ref();
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong_type(&site.field(key), value, "true or false");
        }
        flag
    }

    /// The integer `key`, from `low` to `high`.
    pub(super) fn integer(
        &mut self,
        site: &Site,
        table: &DeTable<'_>,
        key: &str,
        range: (u64, u64),
    ) -> Option<u64> {
        self.integer_value(&site.field(key), table.get(key)?, range)
    }

    /// The integer `value`, from `low` to `high`.
    pub(super) fn integer_value(
        &mut self,
        site: &Site,
        value: &Spanned<DeValue<'_>>,
        (low, high): (u64, u64),
    ) -> Option<u64> {
        let expected = format!("a number from {low} to {high}");
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(site, value.get_ref(), &expected);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| (low..=high).contains(number));
        if number.is_none() {
            self.invalid(site, format!("found {integer}, expected {expected}"));
        }
        number
    }

    /// The table `key` of names and values; integers and booleans become text.
    pub(super) fn options(
        &mut self,
        site: &Site,
        table: &DeTable<'_>,
        key: &str,
    ) -> BTreeMap<String, String> {
        let mut options = BTreeMap::new();
        let Some(value) = table.get(key) else { return options };
        let site = site.field(key);
        let Some(table) = self.any_table(&site, value) else { return options };
        for (name, value) in table {
            let field = site.field(name.get_ref());
            self.see(&field, &name.span());
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => integer.to_string(),
                },
                other => {
                    self.wrong_type(&field, other, "a string, an integer or a boolean");
                    continue;
                }
            };
            options.insert(name.get_ref().to_string(), text);
        }
        options
    }

    fn wrong_type(&mut self, site: &Site, found: &DeValue<'_>, expected: &str) {
        let found = match found {
            DeValue::String(text) => format!("the string {:?}", text.as_ref()),
            DeValue::Integer(integer) => format!("the integer {integer}"),
            DeValue::Float(float) => format!("the float {float}"),
            DeValue::Boolean(flag) => format!("the boolean {flag}"),
            DeValue::Datetime(time) => format!("the date or time {time}"),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.invalid(site, format!("found {found}, expected {expected}"));
    }

    /// Remembers the line of an element of `[[bridge]]` or `[[bridge.port]]`.
    pub(super) fn see_element(&mut self, site: &Site, value: &Spanned<DeValue<'_>>) {
        self.see(site, &value.span());
    }
}

/// `a.b[1].c`, `a.b[1]`, `a.b`, `a`: a place and all that it lies in.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|at| &path[..at]))
}
