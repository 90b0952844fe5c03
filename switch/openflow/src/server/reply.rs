//! Replies that may be large: their bytes are made in steps, after the bridge is free for others again.

use super::events::update;
use crate::{Dialect, Error, FlowStats, Message, TableFeatures, UpdateEvent, encode, messages};
use flow::ofp::FlowSpec;
use std::ops::Range;
use std::sync::Arc;
use std::vec::IntoIter;

/// Flows that are encoded in one step.
pub(super) const FLOWS: usize = 128;
/// Table features that are encoded in one step, at more than a kilobyte each.
const TABLES: usize = 32;

/// What a reply lists.
#[derive(Debug)]
pub(super) enum Entries {
    /// Flows and their statistics.
    Flows(IntoIter<FlowStats>),
    /// Flows that a new monitor finds, and whether it wants their actions.
    Monitored(IntoIter<(UpdateEvent, Arc<FlowSpec>, bool)>),
    /// Features of tables: of these, and how many there are.
    Tables(Range<u8>, u8),
}

/// A multipart reply that is still to be encoded. Each item is the bytes of some parts; the last item ends the reply.
#[derive(Debug)]
pub struct Reply {
    entries: Entries,
    xid: u32,
    dialect: Dialect,
    ended: bool,
}

impl Reply {
    pub(super) fn new(entries: Entries, xid: u32, dialect: &Dialect) -> Reply {
        Reply { entries, xid, dialect: *dialect, ended: false }
    }

    /// A message of the next entries, and whether more are left.
    fn step(&mut self) -> (Message, bool) {
        match &mut self.entries {
            Entries::Flows(flows) => {
                let some = flows.by_ref().take(FLOWS).collect();
                (Message::FlowStatsReply(some), flows.len() > 0)
            }
            Entries::Monitored(flows) => {
                let some = flows.by_ref().take(FLOWS);
                let some = some.map(|(event, spec, actions)| update(event, FlowSpec::clone(&spec), actions));
                (Message::FlowMonitorReply(some.collect()), flows.len() > 0)
            }
            Entries::Tables(tables, all) => {
                let some = tables.by_ref().take(TABLES);
                let some = some.map(|table| TableFeatures::of_switch(table, *all, self.dialect.version));
                (Message::TableFeaturesReply(some.collect()), tables.start < tables.end)
            }
        }
    }
}

impl Iterator for Reply {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (message, more) = self.step();
        self.ended = !more;
        Some(encode(message, self.xid, self.dialect, Vec::new()).map(|mut bytes| {
            if more {
                let last = messages(&bytes).last().map_or(0, <[u8]>::len);
                // OFPSF_REPLY_MORE in the last part's flags.
                let flags = bytes.len() - last + 11;
                bytes[flags] |= 1;
            }
            bytes
        }))
    }
}
