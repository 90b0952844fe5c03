//! How often packets were looked up in tables, for `ovs-ofctl dump-tables`.

use super::{Rule, RuleTables};
use flow::ofp::FlowSpec;
use flow::stats::SharedStats;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What tables have counted, by number.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// Packets of all rules that the table has or has had.
    matched: BTreeMap<u8, Arc<SharedStats>>,
    /// Rules that are in no table, and count the packets that found none there.
    missed: RefCell<BTreeMap<u8, Arc<Rule>>>,
}

impl Lookups {
    /// Where the rules of a table count, each beside its own statistics.
    pub(super) fn matched(&mut self, table: u8) -> Arc<SharedStats> {
        Arc::clone(self.matched.entry(table).or_default())
    }
}

impl RuleTables {
    /// What packets count for that find no rule in a table.
    pub fn miss_rule(&self, table: u8) -> Arc<Rule> {
        let mut missed = self.lookups.missed.borrow_mut();
        let new = || {
            let spec = Arc::new(FlowSpec { table, ..FlowSpec::default() });
            Arc::new(Rule::new(spec, false, Arc::default(), Instant::now()))
        };
        Arc::clone(missed.entry(table).or_insert_with(new))
    }

    /// Packets that were looked up in a table, and those of them that a rule matched, as of the megaflows' last collection.
    pub fn lookups(&self, table: u8) -> (u64, u64) {
        let matched = self.lookups.matched.get(&table).map_or(0, |stats| stats.get().packets);
        let missed = self.lookups.missed.borrow().get(&table).map_or(0, |rule| rule.stats().packets);
        (matched + missed, matched)
    }
}
