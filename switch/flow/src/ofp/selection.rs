//! How a `select` group chooses its bucket: `selection_method`, its parameter, and the fields that are hashed.

use super::error::ParseError;
use super::field::Field;
use super::port::PortNames;
use super::token::{Syntax, Token, Tokens};
use super::value::{self, number_up_to};
use std::fmt::Write;

/// `selection_method`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SelectionMethod {
    /// By a hash of the fields that are named.
    Hash,
    /// By the datapath's hash of the flow.
    DpHash,
}

impl SelectionMethod {
    /// As `selection_method=` has it.
    pub fn name(self) -> &'static str {
        match self {
            SelectionMethod::Hash => "hash",
            SelectionMethod::DpHash => "dp_hash",
        }
    }

    /// The method of this name.
    pub fn named(name: &str) -> Option<SelectionMethod> {
        [SelectionMethod::Hash, SelectionMethod::DpHash].into_iter().find(|method| method.name() == name)
    }
}

/// How a group says that it chooses.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Selection {
    /// The method.
    pub method: SelectionMethod,
    /// `selection_method_param`: what the hash begins with.
    pub param: u64,
    /// `fields(...)`: each with the bits that count, in the order of [`Field::all`].
    pub fields: Vec<(Field, u128)>,
}

/// The parts of a group's text that say how it chooses.
#[derive(Default)]
pub(super) struct SelectionParser {
    method: Option<SelectionMethod>,
    param: u64,
    fields: Vec<(Field, u128)>,
}

impl SelectionParser {
    /// Takes a token. `Ok(false)`: it is none of these.
    pub fn add(&mut self, token: &Token<'_>, names: &dyn PortNames) -> Result<bool, ParseError> {
        let value = token.value.unwrap_or("");
        match token.key {
            "selection_method" => {
                self.method = Some(
                    SelectionMethod::named(value)
                        .ok_or_else(|| token.error("selection_method=hash or selection_method=dp_hash"))?,
                );
            }
            "selection_method_param" => {
                self.param = number_up_to(value, u64::MAX.into()).map_err(|e| token.error(e))? as u64;
            }
            _ => {
                const OPENING: &str = "fields(";
                let (list, base) = match token.text.strip_prefix(OPENING) {
                    Some(list) => (
                        list.strip_suffix(')')
                            .ok_or_else(|| token.error("nothing behind the ) of fields(...)"))?,
                        token.position + OPENING.len(),
                    ),
                    None if token.key == "fields" => (value, token.value_position),
                    None => return Ok(false),
                };
                let mut tokens = Tokens::new(list, base, Syntax::Match);
                while let Some(field) = tokens.next()? {
                    self.field(&field, names)?;
                }
            }
        }
        Ok(true)
    }

    fn field(&mut self, token: &Token<'_>, names: &dyn PortNames) -> Result<(), ParseError> {
        let field = Field::named(token.key, names.tlvs()).map_err(|expected| {
            token.error(expected.unwrap_or_else(|| "the name of a field, such as ip_src".to_owned()))
        })?;
        let mask = match token.value {
            None => field.info().exact(),
            Some(text) => value::parse(field, text, names).map_err(|e| token.error(e))?.0,
        };
        if mask == 0 || self.fields.iter().any(|(other, _)| *other == field) {
            return Err(token.error("each field once, with a mask that is not zero"));
        }
        self.fields.push((field, mask));
        Ok(())
    }

    /// What they say together; nothing for a group that leaves it to the switch.
    pub fn finish(mut self) -> Option<Selection> {
        let place = |field: Field| Field::all().position(|other| other == field);
        self.fields.sort_by_key(|(field, _)| place(*field));
        Some(Selection { method: self.method?, param: self.param, fields: self.fields })
    }
}

/// Prints it as `dump-groups` does, with a comma before it.
pub(super) fn format(out: &mut String, selection: &Selection, names: &dyn PortNames) {
    // A String takes all that is written to it.
    let _ = write!(out, ",selection_method={}", selection.method.name());
    if selection.param != 0 {
        let _ = write!(out, ",selection_method_param={}", selection.param);
    }
    let fields: Vec<String> = selection
        .fields
        .iter()
        .map(|(field, mask)| {
            let mut text = field.name().to_owned();
            if *mask != field.info().exact() {
                text.push('=');
                value::format(&mut text, *field, *mask, field.info().exact(), names);
            }
            text
        })
        .collect();
    match &fields[..] {
        [] => {}
        [one] => {
            let _ = write!(out, ",fields={one}");
        }
        several => {
            let _ = write!(out, ",fields({})", several.join(","));
        }
    }
}
