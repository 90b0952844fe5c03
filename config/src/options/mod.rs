//! A port's `options` as types, one file a port type.

mod bfd;
mod dpdk;
mod patch;
mod system;
mod tap;
mod tunnel;
mod vhost;
mod vlan_vni;

use std::collections::BTreeMap;

pub use bfd::BfdOptions;
pub use dpdk::DpdkOptions;
pub use patch::PatchOptions;
pub(crate) use patch::none as no_options;
pub use system::SystemOptions;
pub use tap::TapOptions;
pub use vhost::VhostOptions;
pub(crate) use vhost::directory as vhost_directory;

pub use vlan_vni::VlanVni;

pub use tunnel::{Inheritable, LocalIp, RemoteIp, TunnelKey, TunnelOptions};

use crate::document::{Port, PortKind};
use crate::problem::one_of;
use crate::suggest::nearest;

/// One option that is wrong, missing or unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {message}")]
pub struct OptionError {
    /// Name of the option.
    pub option: String,
    /// What was found and what was expected.
    pub message: String,
    /// What sort of error it is.
    pub kind: OptionErrorKind,
}

/// What sort of error an option has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionErrorKind {
    /// A port of this type has no such option.
    Unknown,
    /// The option is required and not there.
    Missing,
    /// The value itself cannot be used.
    Value,
    /// The value does not go together with another option's.
    Conflict,
}

/// What is wrong with the options of a port by itself; empty for a type that is not known.
pub fn option_errors(port: &Port) -> Vec<OptionError> {
    let Ok(kind) = port.port_kind() else { return Vec::new() };
    let options = &port.options;
    match kind {
        PortKind::Dpdk => DpdkOptions::parse(options).err(),
        PortKind::DpdkVhostUserClient => VhostOptions::parse_client(options).err(),
        PortKind::DpdkVhostUser => VhostOptions::parse_server(options).err(),
        PortKind::Tap => TapOptions::parse(options).err(),
        PortKind::System => SystemOptions::parse(options).err(),
        PortKind::Internal => Some(no_options(options)),
        PortKind::Patch => PatchOptions::parse(options).err(),
        _ => TunnelOptions::of(port).and_then(Result::err),
    }
    .unwrap_or_default()
}

/// Reads one option after the other and collects what is wrong.
struct Reader<'a> {
    options: &'a BTreeMap<String, String>,
    errors: Vec<OptionError>,
}

impl<'a> Reader<'a> {
    /// Starts by refusing every option that is not in `known`.
    fn new(options: &'a BTreeMap<String, String>, known: &[&str]) -> Self {
        let mut reader = Self { options, errors: Vec::new() };
        for name in options.keys().filter(|name| !known.contains(&name.as_str())) {
            let hint = match nearest(name, known) {
                Some(near) => format!("; did you mean {near}? Expected {}", one_of(known)),
                None => format!(", expected {}", one_of(known)),
            };
            reader.push(OptionErrorKind::Unknown, name, format!("unknown option{hint}"));
        }
        reader
    }

    fn push(&mut self, kind: OptionErrorKind, option: &str, message: impl Into<String>) {
        self.errors.push(OptionError { option: option.to_owned(), message: message.into(), kind });
    }

    /// The option does not go together with another one.
    fn error(&mut self, option: &str, message: impl Into<String>) {
        self.push(OptionErrorKind::Conflict, option, message);
    }

    fn missing(&mut self, option: &str, expected: &str) {
        self.push(OptionErrorKind::Missing, option, format!("missing, expected {expected}"));
    }

    /// The option's value through `parse`; `None` when absent, or wrong and recorded.
    fn parse<T>(&mut self, option: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.options.get(option)?.trim();
        match parse(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.push(OptionErrorKind::Value, option, message);
                None
            }
        }
    }

    /// A number from `low` to `high`, decimal or hexadecimal.
    fn number(&mut self, option: &str, low: u64, high: u64) -> Option<u64> {
        self.parse(option, |text| number_in(text, low, high))
    }

    fn boolean(&mut self, option: &str) -> Option<bool> {
        self.parse(option, boolean)
    }

    fn finish<T>(self, value: T) -> Result<T, Vec<OptionError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }
}

/// A number, decimal or with `0x` hexadecimal.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = |text: &str, radix| {
        // `from_str_radix` takes a sign, which no option has.
        if text.starts_with('+') { None } else { u64::from_str_radix(text, radix).ok() }
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    }
}

/// A number from `low` to `high`, or what was expected.
pub(crate) fn number_in(text: &str, low: u64, high: u64) -> Result<u64, String> {
    match number(text) {
        Some(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("found {text:?}, expected a number from {low} to {high}")),
    }
}

/// `true` or `false`, or what was expected.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("found {text:?}, expected true or false")),
    }
}
