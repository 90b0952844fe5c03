//! Options of a port of type `tap`.

use std::collections::BTreeMap;

use super::{OptionError, Reader};

const KNOWN: [&str; 4] = ["n_rxq", "offloads", "persist", "gro"];
/// As many queues as the switch drives on one port.
const MAX_QUEUES: u64 = 64;

/// A tap of the kernel, named as the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapOptions {
    /// `n_rxq`: pairs of queues, 1 to 64. `None`: as the switch sees fit for its workers.
    pub n_rxq: Option<u16>,
    /// `offloads`: checksums and segmentation are left to whoever sends a packet last. Default: true.
    pub offloads: bool,
    /// `persist`: the interface lives on when the port is gone. Default: false; one that was there before stays anyway.
    pub persist: bool,
    /// `gro` (ours): TCP segments that are received in one burst are coalesced. Default: true.
    pub gro: bool,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self { n_rxq: None, offloads: true, persist: false, gro: true }
    }
}

impl TapOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        let n_rxq = reader.number("n_rxq", 1, MAX_QUEUES);
        let offloads = reader.boolean("offloads");
        let persist = reader.boolean("persist");
        let gro = reader.boolean("gro");
        reader.finish(Self {
            n_rxq: n_rxq.map(|n| n as u16),
            offloads: offloads.unwrap_or(true),
            persist: persist.unwrap_or(false),
            gro: gro.unwrap_or(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<TapOptions, Vec<String>> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TapOptions::parse(&options).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_option_has_a_default() {
        assert_eq!(parse(&[]), Ok(TapOptions::default()));
        assert_eq!(
            parse(&[("n_rxq", "2"), ("offloads", "false"), ("persist", "true"), ("gro", "false")]),
            Ok(TapOptions { n_rxq: Some(2), offloads: false, persist: true, gro: false })
        );
    }

    #[test]
    fn every_error_at_once() {
        let errors =
            parse(&[("n_rxq", "65"), ("offloads", "yes"), ("persist", "1"), ("n_txq", "1")]).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(
            errors[0].starts_with("n_txq: unknown option; did you mean n_rxq? Expected n_rxq, "),
            "{errors:?}"
        );
    }
}
