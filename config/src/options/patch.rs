//! Options of a port of type `patch`, and those of type `internal`, which has none.

use std::collections::BTreeMap;

use super::{OptionError, OptionErrorKind, Reader};

/// One end of a patch, as in OVS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchOptions {
    /// `peer`: name of the port that is the other end. It may come later; packets pass when each names the other.
    pub peer: String,
}

impl PatchOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &["peer"]);
        if !options.contains_key("peer") {
            reader.missing("peer", "the name of the patch port that is the other end");
        }
        let peer = reader.parse("peer", |text| match text {
            "" => Err("found nothing, expected the name of a port".to_owned()),
            text => Ok(text.to_owned()),
        });
        reader.finish(Self { peer: peer.unwrap_or_default() })
    }
}

/// Refuses every option.
pub(crate) fn none(options: &BTreeMap<String, String>) -> Vec<OptionError> {
    let refuse = |option: &String| OptionError {
        option: option.clone(),
        message: "unknown option, a port of type internal has none".to_owned(),
        kind: OptionErrorKind::Unknown,
    };
    options.keys().map(refuse).collect()
}
