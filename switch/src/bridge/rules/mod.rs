//! The rule tables of a bridge.

mod limits;
mod lookups;
mod rule;

use flow::classifier::{Found, Table};
use flow::ofp::{
    Action, DEFAULT_PRIORITY, FlowFilter, FlowMod, FlowSpec, Learn, Match, MatchKey, PortNames, format_flow,
};
use limits::TableSettings;
pub use limits::{TableFull, TableLimits};
use lookups::Lookups;
use openflow::{TableReason, Vacancy};
pub use rule::{Gone, Rule};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What has happened to a rule.
#[derive(Debug, Clone)]
pub enum RuleNews {
    /// It came.
    Added(Arc<Rule>),
    /// It has other actions or another cookie.
    Modified(Arc<Rule>),
    /// It is gone.
    Removed(Arc<Rule>, Gone),
    /// A threshold of its vacancy was crossed.
    Vacancy {
        /// Number of the table.
        table: u8,
        /// Whether rules go to make room for others.
        evicts: bool,
        /// Which.
        reason: TableReason,
        /// What is free.
        now: Vacancy,
    },
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

/// How to undo a change of one rule.
#[derive(Debug)]
pub enum Undo {
    /// It came where there was none.
    Remove(Arc<FlowSpec>),
    /// It went, or another took its place.
    Restore(Arc<Rule>),
}

/// Nothing is learned into a table with so many rules: packets must not be able to fill the memory.
const MOST_LEARNED: usize = 200_000;

/// Table and cookie: how the rules that a `learn` has made are known.
type Learned = (u8, u64);

/// All rules of a bridge, by table.
#[derive(Debug, Default)]
pub struct RuleTables {
    tables: BTreeMap<u8, Table<Arc<Rule>>>,
    settings: BTreeMap<u8, TableSettings>,
    lookups: Lookups,
    changes: RuleChanges,
    /// What those who watch have not taken yet; `None` while nobody does.
    news: Option<Vec<RuleNews>>,
    /// Number of rules by table and cookie.
    by_cookie: BTreeMap<Learned, usize>,
    /// Number of actions `learn` with `delete_learned`, by the table and cookie of what they learn.
    keepers: BTreeMap<Learned, usize>,
    /// Of these the last one has gone.
    orphans: Vec<Learned>,
    /// Rules that have gone with the rule that learned them, in the last change.
    gone_along: Vec<Arc<Rule>>,
    /// When a rule may have to go; `None` while none has a timeout.
    due: Option<Instant>,
}

/// What all `learn` with `delete_learned` among the actions of a rule make.
fn keeps(actions: &[Action]) -> Vec<Learned> {
    fn add(actions: &[Action], found: &mut Vec<Learned>) {
        for action in actions {
            match action {
                Action::Learn(learn) if learn.delete_learned => found.push((learn.table, learn.cookie)),
                Action::Clone(inner) | Action::WriteActions(inner) => add(inner, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    add(actions, &mut found);
    found
}

/// One less of what is counted; says whether that was the last.
fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(key);
    }
    last
}

impl RuleTables {
    /// What has happened since the last time that this was asked; nothing before the first time. Who has asked once goes on
    /// asking, for the news is kept for it.
    pub fn take_news(&mut self) -> Vec<RuleNews> {
        self.news.replace(Vec::new()).unwrap_or_default()
    }

    /// The rule for a packet; `wc` gains every bit that the choice depended on.
    pub fn lookup(&self, table: u8, key: &MatchKey, wc: &mut MatchKey) -> Option<Found<'_, Arc<Rule>>> {
        self.tables.get(&table)?.lookup_conjunctive(key, wc, |rule| &rule.parts)
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
    pub fn add(&mut self, spec: impl Into<Arc<FlowSpec>>, now: Instant) -> Undo {
        self.gone_along.clear();
        let spec = spec.into();
        let matched = self.lookups.matched(spec.table);
        let old = self.put_new(Rule::new(Arc::clone(&spec), false, matched, now), now);
        self.remove_orphans();
        old.map_or(Undo::Remove(spec), Undo::Restore)
    }

    fn put_new(&mut self, rule: Rule, now: Instant) -> Option<Arc<Rule>> {
        let rule = Arc::new(rule);
        self.news.iter_mut().for_each(|news| news.push(RuleNews::Added(Arc::clone(&rule))));
        self.put(rule, now)
    }

    /// Puts a rule into its place; returns the one that was there.
    fn put(&mut self, rule: Arc<Rule>, now: Instant) -> Option<Arc<Rule>> {
        let spec = Arc::clone(&rule.spec);
        self.changes.add(spec.table, &spec.matches);
        *self.by_cookie.entry((spec.table, spec.cookie)).or_default() += 1;
        for kept in keeps(&spec.actions) {
            *self.keepers.entry(kept).or_default() += 1;
        }
        if let Some(at) = rule.due(now) {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
        let old = self.tables.entry(spec.table).or_default().insert(spec.priority, &spec.matches, rule);
        match &old {
            Some(old) => self.forget(old),
            None => self.look_at_vacancy(spec.table),
        }
        old
    }

    /// A rule is in its place no more.
    fn forget(&mut self, rule: &Rule) {
        less(&mut self.by_cookie, &(rule.spec.table, rule.spec.cookie));
        for kept in keeps(&rule.spec.actions) {
            if less(&mut self.keepers, &kept) {
                self.orphans.push(kept);
            }
        }
    }

    /// Removes what was learned by rules with `delete_learned` of which the last one is gone.
    fn remove_orphans(&mut self) {
        while let Some((table, cookie)) = self.orphans.pop() {
            if !self.keepers.contains_key(&(table, cookie)) {
                let is_orphan = |rule: &Rule| rule.spec.table == table && rule.spec.cookie == cookie;
                let gone = self.take_out(|rule| is_orphan(rule).then_some(Gone::Deleted));
                self.gone_along.extend(gone);
            }
        }
    }

    /// Takes the rules out of all tables that `condemned` says something of: why they go.
    fn take_out(&mut self, condemned: impl Fn(&Rule) -> Option<Gone>) -> Vec<Arc<Rule>> {
        let mut gone = Vec::new();
        for table in self.tables.values_mut() {
            gone.append(&mut table.extract(|rule| condemned(rule).is_some()));
        }
        for rule in &gone {
            self.note_gone(rule, condemned(rule).unwrap_or(Gone::Deleted));
        }
        gone
    }

    /// A rule was taken out of its table.
    fn note_gone(&mut self, rule: &Arc<Rule>, why: Gone) {
        self.changes.add(rule.spec.table, &rule.spec.matches);
        self.forget(rule);
        if let Some(news) = &mut self.news {
            news.push(RuleNews::Removed(Arc::clone(rule), why));
        }
        self.look_at_vacancy(rule.spec.table);
    }

    /// The same, and what goes along. Returns those that `condemned` says something of.
    fn remove(&mut self, condemned: impl Fn(&Rule) -> Option<Gone>) -> Vec<Arc<Rule>> {
        self.gone_along.clear();
        let gone = self.take_out(condemned);
        self.remove_orphans();
        gone
    }

    /// Rules that went in the last change because they had been learned by one that went or got other actions.
    pub fn take_gone_along(&mut self) -> Vec<Arc<Rule>> {
        std::mem::take(&mut self.gone_along)
    }

    /// The rule with this very table, priority and match.
    pub fn at(&self, table: u8, priority: u16, what: &Match) -> Option<Arc<Rule>> {
        self.tables.get(&table)?.get(priority, what).cloned()
    }

    /// Undoes a change; a rule comes back with its statistics.
    pub fn undo(&mut self, change: Undo, now: Instant) {
        match change {
            Undo::Restore(rule) => drop(self.put(rule, now)),
            Undo::Remove(spec) => {
                self.changes.add(spec.table, &spec.matches);
                let table = self.tables.entry(spec.table).or_default();
                if let Some(rule) = table.remove(spec.priority, &spec.matches) {
                    self.forget(&rule);
                }
            }
        }
        // What they had learned is put back by itself.
        self.orphans.clear();
    }

    /// Whether another rule of this table and priority may match the same packets.
    pub fn overlaps(&self, spec: &FlowSpec) -> bool {
        self.tables.get(&spec.table).is_some_and(|table| table.overlaps(spec.priority, &spec.matches))
    }

    /// Gives the rules that a filter selects new actions and, if it says one, a new cookie; returns how many those
    /// are. Statistics and ages stay: read the megaflows' first ([`SlowPath::collect_all`]).
    ///
    /// [`SlowPath::collect_all`]: crate::slowpath::SlowPath::collect_all
    pub fn modify(&mut self, change: &FlowMod, strict: bool, now: Instant) -> usize {
        self.gone_along.clear();
        let rules = self.select(&change.filter, strict);
        for rule in &rules {
            self.change(rule, &change.actions, change.new_cookie.unwrap_or(rule.spec.cookie), now);
        }
        self.remove_orphans();
        rules.len()
    }

    fn change(&mut self, rule: &Rule, actions: &[Action], cookie: u64, now: Instant) {
        let rule = Arc::new(rule.modified(actions, cookie, now));
        self.news.iter_mut().for_each(|news| news.push(RuleNews::Modified(Arc::clone(&rule))));
        drop(self.put(rule, now));
    }

    /// Does what `learn` does with a rule that it makes: adds it, gives the one in its place its actions and cookie, or begins
    /// its hard timeout anew. Says whether any rule is another one now.
    pub fn learn(&mut self, spec: &FlowSpec, now: Instant) -> bool {
        self.gone_along.clear();
        match self.at(spec.table, spec.priority, &spec.matches) {
            Some(rule) if is_as_learned(&rule, spec) => {
                rule.renew(now);
                return false;
            }
            Some(rule) => self.change(&rule, &spec.actions, spec.cookie, now),
            None if self.make_room(spec, now).is_err() => return false,
            None => {
                let matched = self.lookups.matched(spec.table);
                drop(self.put_new(Rule::new(spec.clone().into(), true, matched, now), now));
            }
        }
        self.remove_orphans();
        true
    }

    /// Whether the rule that `learn` makes is there already.
    pub fn knows(&self, spec: &FlowSpec) -> bool {
        self.at(spec.table, spec.priority, &spec.matches).is_some_and(|rule| is_as_learned(&rule, spec))
    }

    /// Whether `learn` may add one rule more to those that it has made, and `pending` that it is about to make.
    pub fn has_room(&self, learn: &Learn, pending: usize) -> bool {
        let there = self.by_cookie.get(&(learn.table, learn.cookie)).copied().unwrap_or(0);
        let in_table = self.tables.get(&learn.table).map_or(0, Table::len);
        in_table + pending < MOST_LEARNED && (learn.limit == 0 || there + pending < learn.limit as usize)
    }

    /// Lowers a rule's timeouts.
    pub fn shorten(&mut self, rule: &Rule, idle: u16, hard: u16, now: Instant) {
        if rule.shorten(idle, hard) {
            // Its time may be over already.
            self.due = Some(now);
        }
    }

    /// Removes the rules that `condemned` says, and returns them.
    pub fn delete_where(&mut self, condemned: impl Fn(&FlowSpec) -> bool) -> Vec<Arc<Rule>> {
        self.remove(|rule| condemned(&rule.spec).then_some(Gone::Deleted))
    }

    /// Removes the rules that a filter selects, and returns them; `strict` takes only those with its very match and priority.
    pub fn delete(&mut self, filter: &FlowFilter, strict: bool) -> Vec<Arc<Rule>> {
        if !strict && filter.matches == Match::ANY {
            return self.delete_where(|spec| filter.agrees(spec));
        }
        self.gone_along.clear();
        let chosen: Vec<Arc<Rule>> = self.chosen(filter, strict).map(Arc::clone).collect();
        for rule in &chosen {
            let table = self.tables.get_mut(&rule.spec.table);
            table.and_then(|table| table.remove(rule.spec.priority, &rule.spec.matches));
            self.note_gone(rule, Gone::Deleted);
        }
        self.remove_orphans();
        chosen
    }

    /// The rules that a filter selects, in no particular order.
    fn chosen<'a>(&'a self, filter: &'a FlowFilter, strict: bool) -> impl Iterator<Item = &'a Arc<Rule>> {
        let tables = self.tables.iter().filter(|(number, _)| filter.table.is_none_or(|t| t == **number));
        let priority = filter.priority.unwrap_or(DEFAULT_PRIORITY);
        let rules = tables.flat_map(move |(_, table)| {
            let one = strict.then(|| table.get(priority, &filter.matches)).flatten();
            let all = (!strict).then(|| table.filter(&filter.matches));
            one.into_iter().chain(all.into_iter().flatten())
        });
        rules.filter(|rule| filter.agrees(&rule.spec))
    }

    /// The rules that a filter selects, by table and falling priority.
    pub fn select(&self, filter: &FlowFilter, strict: bool) -> Vec<Arc<Rule>> {
        let mut rules: Vec<Arc<Rule>> = self.chosen(filter, strict).map(Arc::clone).collect();
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
        let mut changed = !self.delete_where(|spec| !is_wanted(spec)).is_empty();
        for spec in wanted.values().flat_map(Table::iter).map(|(_, _, spec)| *spec) {
            if self.tables.get(&spec.table).and_then(|t| t.get(spec.priority, &spec.matches)).is_none() {
                self.add(spec.clone(), now);
                changed = true;
            }
        }
        changed
    }

    /// Removes rules whose time is over; says whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let gone = !self.remove(|rule| rule.over(now)).is_empty();
        self.due = self.tables.values().flat_map(Table::rules).filter_map(|rule| rule.due(now)).min();
        gone
    }

    /// Whether what any rule does depends on which ports are up, groups aside.
    pub fn watch_ports(&self) -> bool {
        let watches = |rule: &Arc<Rule>| rule.spec.actions.iter().any(Action::watches_ports);
        self.tables.values().flat_map(Table::rules).any(watches)
    }

    /// Whether any rule has a timeout.
    pub fn has_timeouts(&self) -> bool {
        self.due.is_some()
    }
}

/// Whether a rule is what `learn` makes.
fn is_as_learned(rule: &Rule, spec: &FlowSpec) -> bool {
    rule.spec.actions == spec.actions && rule.spec.cookie == spec.cookie
}

/// A flow as people write it and documents hold it: [`format_flow`] without what says nothing.
pub fn canonical(spec: &FlowSpec, names: &dyn PortNames) -> String {
    let text = format_flow(&spec.without_mod_flags(), None, names);
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
    use flow::stats::PacketStats;
    use std::time::Duration;

    #[test]
    fn modified_rules_keep_statistics_and_age() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        for text in ["priority=5,tcp,actions=1", "priority=6,udp,actions=1", "table=2,cookie=7,tcp,actions=1"]
        {
            tables.add(parse_flow(text, &()).unwrap(), now);
        }
        let all = FlowFilter::default();
        for rule in tables.select(&all, false) {
            rule.count(PacketStats::new(3, 180), now + Duration::from_secs(1));
        }
        let change = |text| parse_flow_mod(text, &()).unwrap();
        assert_eq!(tables.modify(&change("tcp,cookie=9,actions=2"), false, now), 2);
        let rules = tables.select(&all, false);
        assert_eq!(rules.len(), 3);
        for rule in &rules {
            assert_eq!((rule.stats(), rule.created), (PacketStats::new(3, 180), now), "{:?}", rule.spec);
            assert_eq!(rule.idle_age(now + Duration::from_secs(3)), Duration::from_secs(2));
        }
        let cookies: Vec<u64> = rules.iter().map(|rule| rule.spec.cookie).collect();
        assert_eq!(cookies, [0, 9, 9]);
        assert_eq!(tables.modify(&change("priority=5,tcp,actions=drop"), true, now), 1);
        assert_eq!(tables.modify(&change("priority=4,tcp,actions=drop"), true, now), 0);
        assert_eq!(tables.select(&all, false)[1].spec.actions, [Action::Drop]);
    }

    fn spec(text: &str) -> FlowSpec {
        parse_flow(text, &()).unwrap()
    }

    #[test]
    fn what_is_learned_again_lives_longer() {
        let (mut tables, start) = (RuleTables::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let rule = spec("table=1,hard_timeout=10,tcp,actions=1");
        assert!(tables.learn(&rule, at(0)) && tables.knows(&rule) && tables.has_timeouts());
        assert!(!tables.learn(&rule, at(8)), "it is there");
        assert!(!tables.expire(at(17)));
        let other = spec("table=1,hard_timeout=10,tcp,actions=2");
        assert!(!tables.knows(&other) && tables.learn(&other, at(17)), "as mod-flows --strict");
        assert_eq!(
            tables.at(1, 32768, &rule.matches).map(|rule| (rule.created, rule.is_learned)),
            Some((at(0), true))
        );
        assert!(!tables.expire(at(26)));
        assert!(tables.expire(at(27)) && tables.is_empty());
        assert!(!tables.expire(at(99)) && !tables.has_timeouts());
    }

    #[test]
    fn a_changed_rule_begins_its_hard_timeout_anew() {
        let (mut tables, start) = (RuleTables::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        tables.add(spec("hard_timeout=10,tcp,actions=1"), at(0));
        tables.modify(&parse_flow_mod("tcp,actions=2", &()).unwrap(), false, at(9));
        assert!(!tables.expire(at(12)) && tables.expire(at(19)));
    }

    #[test]
    fn timeouts_are_shortened_and_never_longer() {
        let (mut tables, start) = (RuleTables::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for text in [
            "tcp,actions=1",
            "idle_timeout=5,udp,actions=1",
            "idle_timeout=50,hard_timeout=90,icmp,actions=1",
        ] {
            tables.add(spec(text), at(0));
        }
        for rule in tables.select(&FlowFilter::default(), false) {
            tables.shorten(&rule, 10, 0, at(1));
            tables.shorten(&rule, 20, 0, at(1));
        }
        let idle: Vec<(u16, u16)> =
            tables.select(&FlowFilter::default(), false).iter().map(|rule| rule.timeouts()).collect();
        assert_eq!(idle, [(10, 0), (5, 0), (10, 90)]);
        assert!(!tables.expire(at(4)) && tables.expire(at(5)));
        assert!(!tables.expire(at(9)) && tables.expire(at(10)) && tables.is_empty());
    }

    #[test]
    fn what_was_learned_goes_with_the_last_rule_that_learns_it() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        let learn = "actions=learn(table=1,cookie=7,delete_learned,in_port)";
        for text in [
            &format!("tcp,{learn}"),
            &format!("udp,clone({}),1", &learn[8..]).replacen("udp,", "udp,actions=", 1),
            "table=1,cookie=8,actions=1",
        ] {
            tables.add(spec(text), now);
        }
        for port in 1..4 {
            assert!(tables.learn(&spec(&format!("table=1,cookie=7,in_port={port},actions=drop")), now));
        }
        assert_eq!(
            tables
                .delete_where(|spec| spec.matches == parse_flow("tcp,actions=1", &()).unwrap().matches)
                .len(),
            1
        );
        assert_eq!((tables.len(), tables.take_gone_along().len()), (5, 0), "another rule learns");
        let before = tables.select(&FlowFilter::default(), false);
        tables.add(spec("udp,actions=1"), now);
        assert_eq!(tables.take_gone_along().len(), 3);
        let left: Vec<u64> =
            tables.select(&FlowFilter::default(), false).iter().map(|rule| rule.spec.cookie).collect();
        assert_eq!(left, [0, 8]);
        // And back: none of them goes by that.
        for rule in before {
            tables.undo(Undo::Restore(rule), now);
        }
        assert_eq!(tables.len(), 5);
        tables.delete_where(|spec| spec.table == 0);
        assert_eq!((tables.len(), tables.take_gone_along().len()), (1, 3));
    }

    #[test]
    fn a_limit_is_of_the_table_and_cookie() {
        let (mut tables, now) = (RuleTables::default(), Instant::now());
        let learn = |limit| Learn { table: 1, cookie: 7, limit, ..Learn::default() };
        for port in 1..4 {
            tables.learn(&spec(&format!("table=1,cookie=7,in_port={port},actions=drop")), now);
        }
        for (limit, pending, room) in
            [(0, 99, true), (3, 0, false), (4, 0, true), (4, 1, false), (9, 5, true), (9, 6, false)]
        {
            assert_eq!(tables.has_room(&learn(limit), pending), room, "{limit} {pending}");
        }
        tables.delete_where(|spec| spec.matches == parse_flow("in_port=1,actions=1", &()).unwrap().matches);
        assert!(tables.has_room(&learn(3), 0));
    }
}
