//! How many rules a table may have, and which go to make room: what `Flow_Table` of the database and OpenFlow's table mods
//! say of tables.

use super::{Gone, Rule, RuleNews, RuleTables};
use flow::ofp::{FlowSpec, Subfield};
use openflow::{TableReason, Vacancy};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What `Flow_Table` says of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableLimits {
    /// `flow_limit`.
    pub flow_limit: Option<usize>,
    /// `overflow_policy=evict`.
    pub evict: bool,
    /// `groups`: of rules that differ in these bits, those of the largest group go first.
    pub groups: Vec<Subfield>,
}

/// How a table is configured.
#[derive(Debug, Default)]
pub(super) struct TableSettings {
    limits: TableLimits,
    /// `OFPTC14_EVICTION`.
    evicts: bool,
    /// `OFPTC14_VACANCY_EVENTS`: which of the two table-status messages is sent next.
    vacancy: Option<(Vacancy, TableReason)>,
}

/// A table has as many rules as it may have, and none of them goes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("table {table} is full: it has {limit} rules")]
pub struct TableFull {
    /// The table.
    pub table: u8,
    /// Rules that it may have.
    pub limit: usize,
}

impl RuleTables {
    /// Lets tables have so many rules, the others as many as they like; those that are too many go, as far as they may. Says
    /// whether there were any.
    pub fn limit(&mut self, limits: BTreeMap<u8, TableLimits>, now: Instant) -> bool {
        self.settings.values_mut().for_each(|settings| settings.limits = TableLimits::default());
        let mut gone = false;
        for (table, limits) in limits {
            self.settings.entry(table).or_default().limits = limits;
            while self.excess(table) > 0 && self.evict(table, now).is_some() {
                gone = true;
            }
        }
        gone
    }

    /// Whether rules go to make room for others because OpenFlow says so.
    pub fn evicts(&self, table: u8) -> bool {
        self.settings.get(&table).is_some_and(|settings| settings.evicts)
    }

    /// Thresholds of a table in percent, if there are any, and what is free now.
    pub fn vacancy(&self, table: u8) -> Option<Vacancy> {
        let (vacancy, _) = self.settings.get(&table)?.vacancy?;
        Some(Vacancy { now: self.free(table), ..vacancy })
    }

    /// Sends a table-status message when a table becomes fuller or emptier than this from now on, or none.
    pub fn set_vacancy(&mut self, table: u8, vacancy: Option<Vacancy>) {
        let free = self.free(table);
        let settings = self.settings.entry(table).or_default();
        settings.vacancy = vacancy.map(|vacancy| {
            let first = if free < vacancy.up { TableReason::VacancyUp } else { TableReason::VacancyDown };
            (vacancy, settings.vacancy.map_or(first, |(_, next)| next))
        });
    }

    /// Percent of a table's room that are free.
    fn free(&self, table: u8) -> u8 {
        let limit = self.settings.get(&table).and_then(|settings| settings.limits.flow_limit);
        // A table without a limit has as much room as Open vSwitch counts.
        let limit = limit.unwrap_or(u32::MAX as usize);
        let free = limit.saturating_sub(self.rules_in(table)) * 100;
        free.checked_div(limit).unwrap_or(100) as u8
    }

    /// A rule came or went: sends a table-status message if the threshold that is next was crossed.
    pub(super) fn look_at_vacancy(&mut self, table: u8) {
        let Some((vacancy, next)) = self.settings.get(&table).and_then(|settings| settings.vacancy) else {
            return;
        };
        let now = self.free(table);
        let (is_it, then) = match next {
            TableReason::VacancyDown => (now < vacancy.down, TableReason::VacancyUp),
            TableReason::VacancyUp => (now > vacancy.up, TableReason::VacancyDown),
        };
        if is_it {
            self.settings.entry(table).or_default().vacancy = Some((vacancy, then));
            let news = RuleNews::Vacancy {
                table,
                evicts: self.evicts(table),
                reason: next,
                now: Vacancy { now, ..vacancy },
            };
            self.news.iter_mut().for_each(|all| all.push(news.clone()));
        }
    }

    /// Says whether they do.
    pub fn set_evicts(&mut self, table: u8, evicts: bool) {
        self.settings.entry(table).or_default().evicts = evicts;
    }

    /// Makes room for a rule in its table; returns those that went for that.
    ///
    /// # Errors
    /// There is none.
    pub fn make_room(&mut self, spec: &FlowSpec, now: Instant) -> Result<Vec<Arc<Rule>>, TableFull> {
        let table = spec.table;
        let limit = self.settings.get(&table).and_then(|settings| settings.limits.flow_limit);
        let Some(limit) = limit.filter(|_| self.at(table, spec.priority, &spec.matches).is_none()) else {
            return Ok(Vec::new());
        };
        let mut gone = Vec::new();
        while self.rules_in(table) >= limit {
            gone.push(self.evict(table, now).ok_or(TableFull { table, limit })?);
        }
        Ok(gone)
    }

    /// Number of a table's rules.
    pub fn rules_in(&self, table: u8) -> usize {
        self.tables.get(&table).map_or(0, flow::classifier::Table::len)
    }

    /// Rules that a table has too many.
    fn excess(&self, table: u8) -> usize {
        let limit = self.settings.get(&table).and_then(|settings| settings.limits.flow_limit);
        limit.map_or(0, |limit| self.rules_in(table).saturating_sub(limit))
    }

    /// Removes the rule that goes first, if the table evicts: as in Open vSwitch one with a timeout, of the largest group,
    /// of the least importance, which would go soonest.
    fn evict(&mut self, table: u8, now: Instant) -> Option<Arc<Rule>> {
        let settings = self.settings.get(&table)?;
        if !settings.evicts && !settings.limits.evict {
            return None;
        }
        let mut groups: HashMap<Vec<u128>, Vec<(&Arc<Rule>, Instant)>> = HashMap::new();
        for rule in self.tables.get(&table)?.rules() {
            if let Some(due) = rule.due(now) {
                let key = rule.spec.matches.key();
                let group = settings.limits.groups.iter().map(|bits| bits.get(key)).collect();
                groups.entry(group).or_default().push((rule, due));
            }
        }
        let largest = groups.into_iter().max_by_key(|(bits, rules)| (rules.len(), bits.clone()))?.1;
        let first = largest.into_iter().min_by_key(|(rule, due)| (rule.spec.importance, *due))?;
        let rule = Arc::clone(first.0);
        self.tables.get_mut(&table)?.remove(rule.spec.priority, &rule.spec.matches);
        self.note_gone(&rule, Gone::Evicted);
        Some(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::ofp::{FlowFilter, parse_flow};
    use std::time::Duration;

    fn spec(text: &str) -> FlowSpec {
        parse_flow(text, &()).unwrap()
    }

    fn ports(tables: &RuleTables) -> Vec<u32> {
        let rules = tables.select(&FlowFilter::default(), false);
        let mut ports: Vec<u32> = rules.iter().map(|rule| rule.spec.matches.key().flow.in_port).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        tables
            .limit(BTreeMap::from([(3, TableLimits { flow_limit: Some(2), ..TableLimits::default() })]), now);
        for port in 1..=2 {
            let rule = spec(&format!("table=3,idle_timeout=9,in_port={port},actions=drop"));
            assert!(tables.make_room(&rule, now).is_ok_and(|gone| gone.is_empty()));
            tables.add(rule, now);
        }
        let third = spec("table=3,in_port=3,actions=drop");
        assert_eq!(tables.make_room(&third, now).unwrap_err(), TableFull { table: 3, limit: 2 });
        assert!(tables.make_room(&spec("table=3,in_port=2,actions=1"), now).is_ok(), "in its place");
        assert!(tables.make_room(&spec("table=2,in_port=3,actions=drop"), now).is_ok(), "another table");
        tables.set_evicts(3, true);
        assert_eq!(tables.make_room(&third, now).unwrap().len(), 1);
    }

    #[test]
    fn the_least_important_goes_and_of_these_the_one_that_would_go_soonest() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        for (port, more) in [
            (1, "importance=7,idle_timeout=1"),
            (2, "importance=5,hard_timeout=60"),
            (3, "importance=5,idle_timeout=30,hard_timeout=90"),
            (4, "importance=9,hard_timeout=1"),
            (5, "importance=0"),
        ] {
            tables.add(spec(&format!("{more},in_port={port},actions=drop")), now);
        }
        let mut limits = TableLimits { flow_limit: Some(4), evict: true, ..TableLimits::default() };
        assert!(tables.limit(BTreeMap::from([(0, limits.clone())]), now));
        assert_eq!(ports(&tables), [1, 2, 4, 5]);
        limits.flow_limit = Some(0);
        tables.limit(BTreeMap::from([(0, limits)]), now + Duration::from_secs(1));
        assert_eq!(ports(&tables), [5], "what has no timeout stays");
    }

    #[test]
    fn the_largest_group_loses() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        for (port, vlan) in [(1, 10), (2, 10), (3, 10), (4, 20), (5, 20)] {
            tables.add(spec(&format!("idle_timeout={port},in_port={port},dl_vlan={vlan},actions=drop")), now);
        }
        let groups = vec![Subfield::whole(flow::ofp::Field::VlanTci)];
        for (limit, left) in [(4, [2, 3, 4, 5].as_slice()), (2, &[3, 5])] {
            let limits = TableLimits { flow_limit: Some(limit), evict: true, groups: groups.clone() };
            tables.limit(BTreeMap::from([(0, limits)]), now);
            assert_eq!(ports(&tables), left);
        }
    }
}
