//! The rule tables of a bridge.

use super::BridgePorts;
use super::stats::SharedStats;
use flow::classifier::Table;
use flow::ofp::{Action, FlowFilter, FlowMod, FlowSpec, Match, MatchKey, PortNames, format_flow};
use flow::stats::PacketStats;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A rule with its statistics.
#[derive(Debug)]
pub struct Rule {
    /// Table, priority, match, actions, timeouts.
    pub spec: FlowSpec,
    /// When it was added.
    pub created: Instant,
    stats: SharedStats,
    /// Milliseconds between `created` and the last packet seen.
    used: AtomicU64,
}

impl Rule {
    fn new(spec: &FlowSpec, now: Instant) -> Rule {
        Rule { spec: spec.clone(), created: now, stats: SharedStats::default(), used: AtomicU64::new(0) }
    }

    /// Packets and bytes of the megaflows made from it, as of their last collection.
    pub fn stats(&self) -> PacketStats {
        self.stats.get()
    }

    /// Adds what a megaflow counted.
    pub fn count(&self, new: PacketStats, now: Instant) {
        self.stats.add(new);
        self.used.store(now.saturating_duration_since(self.created).as_millis() as u64, Relaxed);
    }

    /// How long ago the last packet seen was, or else the rule was added.
    pub fn idle_age(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.created);
        age.saturating_sub(Duration::from_millis(self.used.load(Relaxed)))
    }

    /// Which of its timeouts has passed.
    fn over(&self, now: Instant) -> Option<Gone> {
        let age = now.saturating_duration_since(self.created);
        let idle = self.idle_age(now);
        let passed = |limit: u16, time: Duration| limit != 0 && time >= Duration::from_secs(limit.into());
        if passed(self.spec.hard_timeout, age) {
            Some(Gone::HardTimeout)
        } else {
            passed(self.spec.idle_timeout, idle).then_some(Gone::IdleTimeout)
        }
    }

    /// The rule as a user would type it.
    pub fn describe(&self, ports: &BridgePorts<'_>) -> String {
        format_flow(&self.spec, None, ports)
    }
}

/// Why a rule is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// No packet for so long.
    IdleTimeout,
    /// Its time was over.
    HardTimeout,
    /// Somebody removed it.
    Deleted,
}

/// What has happened to a rule.
#[derive(Debug, Clone)]
pub enum RuleNews {
    /// It came.
    Added(Arc<Rule>),
    /// It has other actions or another cookie.
    Modified(Arc<Rule>),
    /// It is gone.
    Removed(Arc<Rule>, Gone),
}

/// What has changed in a bridge's rules since somebody last asked.
#[derive(Debug, Clone, Default)]
pub struct RuleChanges {
    /// Tables and matches of the rules that came, went or got other actions.
    pub rules: Vec<(u8, Match)>,
    /// Too many to list.
    pub many: bool,
}

impl RuleChanges {
    /// Changes listed one by one: each is compared with every megaflow.
    const MOST: usize = 64;

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.many
    }

    fn add(&mut self, table: u8, what: &Match) {
        if self.rules.len() < Self::MOST {
            self.rules.push((table, *what));
        } else {
            self.many = true;
        }
    }
}

/// All rules of a bridge, by table.
#[derive(Debug, Default)]
pub struct RuleTables {
    tables: BTreeMap<u8, Table<Arc<Rule>>>,
    changes: RuleChanges,
    /// What those who watch have not taken yet; `None` while nobody does.
    news: Option<Vec<RuleNews>>,
}

impl RuleTables {
    /// What has happened since the last time that this was asked; nothing before the first time. Who has asked once goes on
    /// asking, for the news is kept for it.
    pub fn take_news(&mut self) -> Vec<RuleNews> {
        self.news.replace(Vec::new()).unwrap_or_default()
    }

    /// The rule for a packet; `wc` gains every bit that the choice depended on.
    pub fn lookup(&self, table: u8, key: &MatchKey, wc: &mut MatchKey) -> Option<&Arc<Rule>> {
        self.tables.get(&table)?.lookup(key, wc)
    }

    /// What has changed since the last time that this was asked.
    pub fn take_changes(&mut self) -> RuleChanges {
        std::mem::take(&mut self.changes)
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.tables.values().map(Table::len).sum()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a rule; one with the same table, match and priority is replaced, its statistics lost, as OpenFlow says.
    pub fn add(&mut self, spec: &FlowSpec, now: Instant) {
        let rule = Arc::new(Rule::new(spec, now));
        self.changes.add(spec.table, &spec.matches);
        self.news.iter_mut().for_each(|news| news.push(RuleNews::Added(Arc::clone(&rule))));
        self.tables.entry(spec.table).or_default().insert(spec.priority, &spec.matches, rule);
    }

    /// Takes the rules out of all tables that `condemned` says something of: why they go. Returns how many those are.
    fn remove(&mut self, condemned: impl Fn(&Rule) -> Option<Gone>) -> usize {
        let mut gone = 0;
        for (number, table) in &mut self.tables {
            for (_, what, rule) in table.extract(|_, _, rule| condemned(rule).is_some()) {
                self.changes.add(*number, &what);
                gone += 1;
                if let (Some(news), Some(why)) = (&mut self.news, condemned(&rule)) {
                    news.push(RuleNews::Removed(rule, why));
                }
            }
        }
        gone
    }

    /// The rule with this very table, priority and match.
    pub fn at(&self, table: u8, priority: u16, what: &Match) -> Option<Arc<Rule>> {
        self.tables.get(&table)?.get(priority, what).cloned()
    }

    /// Makes a place hold what it held before: a rule with its statistics, or none.
    pub fn put_back(&mut self, table: u8, priority: u16, what: &Match, rule: Option<Arc<Rule>>) {
        self.changes.add(table, what);
        let rules = self.tables.entry(table).or_default();
        match rule {
            Some(rule) => drop(rules.insert(priority, what, rule)),
            None => drop(rules.extract(|p, w, _| p == priority && w == what)),
        }
    }

    /// Gives the rules that a filter selects new actions and, if it says one, a new cookie; returns how many those
    /// are. Statistics and ages stay: read the megaflows' first ([`SlowPath::collect_all`]).
    ///
    /// [`SlowPath::collect_all`]: crate::slowpath::SlowPath::collect_all
    pub fn modify(&mut self, change: &FlowMod, strict: bool) -> usize {
        let rules = self.select(&change.filter, strict);
        for rule in &rules {
            let mut spec = rule.spec.clone();
            spec.actions.clone_from(&change.actions);
            spec.cookie = change.new_cookie.unwrap_or(spec.cookie);
            let (table, priority, matches) = (spec.table, spec.priority, spec.matches);
            self.changes.add(table, &matches);
            let rule = Rule {
                spec,
                created: rule.created,
                stats: rule.stats().into(),
                used: rule.used.load(Relaxed).into(),
            };
            let rule = Arc::new(rule);
            self.news.iter_mut().for_each(|news| news.push(RuleNews::Modified(Arc::clone(&rule))));
            self.tables.entry(table).or_default().insert(priority, &matches, rule);
        }
        rules.len()
    }

    /// Removes the rules that `condemned` says; returns how many those are.
    pub fn delete_where(&mut self, condemned: impl Fn(&FlowSpec) -> bool) -> usize {
        self.remove(|rule| condemned(&rule.spec).then_some(Gone::Deleted))
    }

    /// Removes the rules that a filter selects; `strict` takes only the one with its very match and priority.
    pub fn delete(&mut self, filter: &FlowFilter, strict: bool) -> usize {
        let in_table = |spec: &FlowSpec| filter.table.is_none_or(|table| table == spec.table);
        self.delete_where(|spec| in_table(spec) && filter.selects(spec, strict))
    }

    /// The rules that a filter selects, by table and falling priority.
    pub fn select(&self, filter: &FlowFilter, strict: bool) -> Vec<Arc<Rule>> {
        let mut rules: Vec<Arc<Rule>> = self
            .tables
            .iter()
            .filter(|(number, _)| filter.table.is_none_or(|t| t == **number))
            .flat_map(|(_, table)| table.iter())
            .filter(|(_, _, rule)| filter.selects(&rule.spec, strict))
            .map(|(_, _, rule)| Arc::clone(rule))
            .collect();
        rules.sort_by_key(|rule| (rule.spec.table, std::cmp::Reverse(rule.spec.priority), rule.created));
        rules
    }

    /// Makes the tables hold exactly `specs`. Rules that are there already stay, with their statistics.
    /// Says whether anything changed.
    pub fn replace(&mut self, specs: &[FlowSpec], now: Instant) -> bool {
        let mut wanted: BTreeMap<u8, Table<&FlowSpec>> = BTreeMap::new();
        for spec in specs {
            wanted.entry(spec.table).or_default().insert(spec.priority, &spec.matches, spec);
        }
        let is_wanted = |spec: &FlowSpec| {
            let place = wanted.get(&spec.table).and_then(|table| table.get(spec.priority, &spec.matches));
            place.is_some_and(|wanted| **wanted == *spec)
        };
        let mut changed = self.delete_where(|spec| !is_wanted(spec)) > 0;
        for spec in wanted.values().flat_map(Table::iter).map(|(_, _, spec)| *spec) {
            if self.tables.get(&spec.table).and_then(|t| t.get(spec.priority, &spec.matches)).is_none() {
                self.add(spec, now);
                changed = true;
            }
        }
        changed
    }

    /// Removes rules whose time is over; says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.remove(|rule| rule.over(now)) > 0
    }

    /// Whether what any rule does depends on which ports are up, groups aside.
    pub fn watch_ports(&self) -> bool {
        let watches = |rule: &Arc<Rule>| rule.spec.actions.iter().any(Action::watches_ports);
        self.tables.values().flat_map(Table::iter).any(|(_, _, rule)| watches(rule))
    }

    /// Whether any rule has a timeout.
    pub fn has_timeouts(&self) -> bool {
        self.tables
            .values()
            .flat_map(Table::iter)
            .any(|(_, _, rule)| rule.spec.idle_timeout != 0 || rule.spec.hard_timeout != 0)
    }
}

/// A flow as people write it and documents hold it: [`format_flow`] without what says nothing.
pub fn canonical(spec: &FlowSpec, names: &dyn PortNames) -> String {
    let text = format_flow(spec, None, names);
    let text = text.trim_start();
    let text = text.strip_prefix("cookie=0x0,").unwrap_or(text).trim_start();
    match text.split_once(" actions=") {
        Some((what, actions)) => format!("{what},actions={actions}"),
        // Nothing to match on and the default priority: only actions.
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::ofp::Action;
    use flow::ofp::{parse_flow, parse_flow_mod};

    #[test]
    fn modified_rules_keep_statistics_and_age() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        for text in ["priority=5,tcp,actions=1", "priority=6,udp,actions=1", "table=2,cookie=7,tcp,actions=1"]
        {
            tables.add(&parse_flow(text, &()).unwrap(), now);
        }
        let all = FlowFilter::default();
        for rule in tables.select(&all, false) {
            rule.count(PacketStats::new(3, 180), now + Duration::from_secs(1));
        }
        let change = |text| parse_flow_mod(text, &()).unwrap();
        assert_eq!(tables.modify(&change("tcp,cookie=9,actions=2"), false), 2);
        let rules = tables.select(&all, false);
        assert_eq!(rules.len(), 3);
        for rule in &rules {
            assert_eq!((rule.stats(), rule.created), (PacketStats::new(3, 180), now), "{:?}", rule.spec);
            assert_eq!(rule.idle_age(now + Duration::from_secs(3)), Duration::from_secs(2));
        }
        let cookies: Vec<u64> = rules.iter().map(|rule| rule.spec.cookie).collect();
        assert_eq!(cookies, [0, 9, 9]);
        assert_eq!(tables.modify(&change("priority=5,tcp,actions=drop"), true), 1);
        assert_eq!(tables.modify(&change("priority=4,tcp,actions=drop"), true), 0);
        assert_eq!(tables.select(&all, false)[1].spec.actions, [Action::Drop]);
    }
}
