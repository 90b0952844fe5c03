//! What has happened to rules, as connections hear it.

use crate::bridge::rules::{Gone, Rule, RuleNews};
use openflow::server::Event;
use openflow::{EVICTION, FlowRemoved, RemovedReason, TableConfig, TableStatus, UpdateEvent, VACANCY_EVENTS};
use std::time::Instant;

/// News of a rule as connections hear them.
pub(super) fn of_rule(news: &RuleNews, now: Instant) -> Vec<Event> {
    let flow = |event, rule: &Rule, reason| Event::Flow {
        event,
        spec: rule.current(),
        before: None,
        reason,
        origin: None,
    };
    match news {
        RuleNews::Added(rule) => vec![flow(UpdateEvent::Added, rule, RemovedReason::default())],
        RuleNews::Modified(rule) => vec![flow(UpdateEvent::Modified, rule, RemovedReason::default())],
        RuleNews::Vacancy { table, evicts, reason, now } => {
            let config = VACANCY_EVENTS | if *evicts { EVICTION } else { 0 };
            let table = TableConfig { table: Some(*table), config, vacancy: Some(*now) };
            vec![Event::Table(TableStatus { reason: *reason, table })]
        }
        RuleNews::Removed(rule, why) => {
            let reason = match why {
                Gone::IdleTimeout => RemovedReason::IdleTimeout,
                Gone::HardTimeout => RemovedReason::HardTimeout,
                Gone::Deleted => RemovedReason::Delete,
                Gone::Evicted => RemovedReason::Eviction,
            };
            let removed = removed(rule, reason, now);
            [flow(UpdateEvent::Removed, rule, reason)].into_iter().chain(removed).collect()
        }
    }
}

/// The message that a rule is gone, if it wanted one.
pub(super) fn removed(rule: &Rule, reason: RemovedReason, now: Instant) -> Option<Event> {
    let (stats, (idle_timeout, hard_timeout)) = (rule.stats(), rule.timeouts());
    rule.spec.send_flow_rem.then(|| {
        Event::Removed(Box::new(FlowRemoved {
            matches: rule.spec.matches,
            cookie: rule.spec.cookie,
            priority: rule.spec.priority,
            reason,
            table: rule.spec.table,
            duration: now.saturating_duration_since(rule.created),
            idle_timeout,
            hard_timeout,
            packets: stats.packets,
            bytes: stats.bytes,
        }))
    })
}
