//! Options of a port of type `system`: a network device of the kernel that is there already.

use std::collections::BTreeMap;

use super::{OptionError, Reader};

const KNOWN: [&str; 2] = ["n_rxq", "gro"];
/// As many queues as the switch drives on one port.
const MAX_QUEUES: u64 = 64;

/// How a network device is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemOptions {
    /// `n_rxq`: queues over which the kernel spreads what it receives, by flow, 1 to 64. Default: 1.
    pub n_rxq: Option<u16>,
    /// `gro` (ours): TCP segments that are received in one burst are coalesced. Default: true.
    pub gro: bool,
}

impl Default for SystemOptions {
    fn default() -> Self {
        Self { n_rxq: None, gro: true }
    }
}

impl SystemOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        let n_rxq = reader.number("n_rxq", 1, MAX_QUEUES).map(|n| n as u16);
        let gro = reader.boolean("gro").unwrap_or(true);
        reader.finish(Self { n_rxq, gro })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_errors_named() {
        let parse =
            |name: &str, value: &str| SystemOptions::parse(&[(name.to_owned(), value.to_owned())].into());
        assert_eq!(SystemOptions::parse(&BTreeMap::new()), Ok(SystemOptions::default()));
        assert_eq!(parse("n_rxq", "2"), Ok(SystemOptions { n_rxq: Some(2), gro: true }));
        assert_eq!(parse("gro", "false"), Ok(SystemOptions { n_rxq: None, gro: false }));
        assert!(parse("n_rxq", "65").is_err());
        assert!(parse("iface", "eth0").unwrap_err()[0].to_string().contains("unknown option"));
    }
}
