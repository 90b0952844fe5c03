//! Which multicast groups the switch is a member of on which underlay bridge: the host's side of IGMP (RFC 3376) and
//! MLD (RFC 3810), with the older versions where routers speak them.
//!
//! A pure state machine: time comes in as an argument, what to send comes out as [`Report`]s.

use flow::program::BridgeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::view::{GroupReport, GroupVersion};

/// How often a change is said (the Robustness Variable).
const ROBUSTNESS: u8 = 2;
/// Longest time between two reports of one change (the Unsolicited Report Interval).
const UNSOLICITED: Duration = Duration::from_secs(1);
/// So long after its last query a router of an older version counts as there (RFC 3376, section 8.12).
const OLDER_PRESENT: Duration = Duration::from_secs(260);

/// A report to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// On which bridge.
    pub bridge: BridgeId,
    /// Of which group.
    pub group: IpAddr,
    /// In which protocol version.
    pub version: GroupVersion,
    /// What it says.
    pub report: GroupReport,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    /// The switch has left; else it is a member.
    left: bool,
    /// How often the change is yet to be said, and when next.
    changes: u8,
    change_due: Instant,
    /// When a query is to be answered.
    answer_due: Option<Instant>,
}

/// All memberships.
#[derive(Debug)]
pub struct Memberships {
    members: BTreeMap<(BridgeId, IpAddr), Member>,
    /// Routers of older versions, by bridge and family (IPv6 or not), and until when they count.
    older: BTreeMap<(BridgeId, bool), (GroupVersion, Instant)>,
    /// State of a xorshift generator.
    random: u64,
}

impl Memberships {
    /// None yet; `seed` makes the delays.
    pub fn new(seed: u64) -> Memberships {
        Memberships { members: BTreeMap::new(), older: BTreeMap::new(), random: seed | 1 }
    }

    /// Makes the memberships exactly these. Says whether they are others now.
    pub fn set(&mut self, wanted: &BTreeSet<(BridgeId, IpAddr)>, now: Instant) -> bool {
        let mut changed = false;
        for (key, member) in &mut self.members {
            if !member.left && !wanted.contains(key) {
                *member = Member { left: true, changes: ROBUSTNESS, change_due: now, answer_due: None };
                changed = true;
            }
        }
        for key in wanted {
            if self.members.get(key).is_none_or(|member| member.left) {
                let joined = Member { left: false, changes: ROBUSTNESS, change_due: now, answer_due: None };
                self.members.insert(*key, joined);
                changed = true;
            }
        }
        changed
    }

    /// Says again that the switch is a member: a link of the bridge has come up.
    pub fn announce(&mut self, bridge: BridgeId, now: Instant) {
        for ((_, _), member) in self.members.iter_mut().filter(|((b, _), m)| *b == bridge && !m.left) {
            (member.changes, member.change_due) = (ROBUSTNESS, now);
        }
    }

    /// A router on a bridge asks for members of a group, or of all groups of a family.
    pub fn query(
        &mut self,
        bridge: BridgeId,
        (version, v6): (GroupVersion, bool),
        group: Option<IpAddr>,
        max_response: Duration,
        now: Instant,
    ) {
        if version < GroupVersion::V3 {
            let known = self.version(bridge, v6, now);
            self.older.insert((bridge, v6), (version.min(known), now + OLDER_PRESENT));
        }
        let concerned: Vec<IpAddr> = self
            .members
            .iter()
            .filter(|((b, g), member)| {
                *b == bridge && g.is_ipv6() == v6 && !member.left && group.is_none_or(|group| group == *g)
            })
            .map(|((_, group), _)| *group)
            .collect();
        for group in concerned {
            let due = now + self.delay(max_response);
            if let Some(member) = self.members.get_mut(&(bridge, group)) {
                // An answer that is due earlier is one to this query, too.
                member.answer_due = Some(member.answer_due.map_or(due, |before| before.min(due)));
            }
        }
    }

    /// The version that is spoken on a bridge: of the oldest router there.
    fn version(&self, bridge: BridgeId, v6: bool, now: Instant) -> GroupVersion {
        match self.older.get(&(bridge, v6)) {
            Some((version, until)) if *until > now => *version,
            _ => GroupVersion::V3,
        }
    }

    /// Up to `max`, at random: members on one link do not all speak at once.
    fn delay(&mut self, max: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 32) as u32;
        Duration::from_micros((max.as_micros() as u64).saturating_mul(share.into()) >> 32)
    }

    /// What is to be sent by now.
    pub fn poll(&mut self, now: Instant) -> Vec<Report> {
        let mut reports = Vec::new();
        let due = |member: &Member| {
            member.changes > 0 && member.change_due <= now || member.answer_due.is_some_and(|due| due <= now)
        };
        let keys: Vec<_> = self.members.iter().filter(|(_, m)| due(m)).map(|(key, _)| *key).collect();
        for (bridge, group) in keys {
            let version = self.version(bridge, group.is_ipv6(), now);
            let again = now + self.delay(UNSOLICITED);
            let Some(member) = self.members.get_mut(&(bridge, group)) else { continue };
            let report = if member.changes > 0 && member.change_due <= now {
                member.changes -= 1;
                member.change_due = again;
                if member.left { GroupReport::Leave } else { GroupReport::Join }
            } else {
                GroupReport::Member
            };
            // Who says that the switch has joined says that it is a member.
            member.answer_due = None;
            if member.left && member.changes == 0 {
                self.members.remove(&(bridge, group));
            }
            // In IGMPv1 nobody leaves.
            if report != GroupReport::Leave || version > GroupVersion::V1 {
                reports.push(Report { bridge, group, version, report });
            }
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GroupReport::{Join, Leave, Member};

    const BRIDGE: BridgeId = BridgeId(1);
    const OTHER: BridgeId = BridgeId(2);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Memberships, and a clock that the test moves on.
    struct Rig {
        memberships: Memberships,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            Rig { memberships: Memberships::new(7), now: Instant::now() }
        }

        fn set(&mut self, wanted: &[(BridgeId, &str)]) -> bool {
            let wanted = wanted.iter().map(|(bridge, group)| (*bridge, ip(group))).collect();
            self.memberships.set(&wanted, self.now)
        }

        /// Reports of the next so many milliseconds.
        fn run(&mut self, ms: u64) -> Vec<Report> {
            let mut reports = Vec::new();
            for _ in 0..ms / 50 {
                reports.extend(self.memberships.poll(self.now));
                self.now += Duration::from_millis(50);
            }
            reports
        }

        fn query(&mut self, version: GroupVersion, v6: bool, group: Option<&str>) {
            let max = Duration::from_secs(10);
            self.memberships.query(BRIDGE, (version, v6), group.map(ip), max, self.now);
        }
    }

    fn said(reports: &[Report]) -> Vec<(IpAddr, GroupVersion, GroupReport)> {
        reports.iter().map(|r| (r.group, r.version, r.report)).collect()
    }

    #[test]
    fn joining_and_leaving_are_said_twice() {
        let mut rig = Rig::new();
        assert!(rig.set(&[(BRIDGE, "239.1.1.1")]));
        assert!(!rig.set(&[(BRIDGE, "239.1.1.1")]), "nothing new");
        let (group, version) = (ip("239.1.1.1"), GroupVersion::V3);
        assert_eq!(said(&rig.run(50)), [(group, version, Join)], "at once");
        assert_eq!(said(&rig.run(5000)), [(group, version, Join)]);
        assert!(rig.set(&[]));
        assert_eq!(said(&rig.run(5000)), [(group, version, Leave); 2]);
        assert!(rig.run(5000).is_empty());
        // Back before the second leave was sent.
        rig.set(&[(BRIDGE, "239.1.1.1")]);
        rig.run(5000);
        rig.set(&[]);
        assert_eq!(said(&rig.run(50)), [(group, version, Leave)]);
        rig.set(&[(BRIDGE, "239.1.1.1")]);
        assert_eq!(said(&rig.run(5000)), [(group, version, Join); 2]);
    }

    #[test]
    fn queries_are_answered_once_and_by_those_who_are_asked() {
        let mut rig = Rig::new();
        rig.set(&[(BRIDGE, "239.1.1.1"), (BRIDGE, "239.1.1.2"), (BRIDGE, "ff05::1:1"), (OTHER, "239.1.1.1")]);
        rig.run(5000);
        rig.query(GroupVersion::V3, false, None);
        rig.query(GroupVersion::V3, false, None);
        let answers = rig.run(11_000);
        assert!(answers.iter().all(|r| r.report == Member && r.bridge == BRIDGE));
        let mut groups: Vec<_> = answers.iter().map(|r| r.group).collect();
        groups.sort_unstable();
        assert_eq!(groups, [ip("239.1.1.1"), ip("239.1.1.2")]);
        rig.query(GroupVersion::V3, true, Some("ff05::1:1"));
        rig.query(GroupVersion::V3, true, Some("ff05::1:7"));
        assert_eq!(said(&rig.run(11_000)), [(ip("ff05::1:1"), GroupVersion::V3, Member)]);
    }

    #[test]
    fn the_oldest_router_of_a_link_says_the_version() {
        let mut rig = Rig::new();
        rig.set(&[(BRIDGE, "239.1.1.1")]);
        rig.run(5000);
        let group = ip("239.1.1.1");
        rig.query(GroupVersion::V2, false, None);
        assert_eq!(said(&rig.run(11_000)), [(group, GroupVersion::V2, Member)]);
        rig.query(GroupVersion::V1, false, None);
        rig.query(GroupVersion::V2, false, None);
        assert_eq!(said(&rig.run(11_000)), [(group, GroupVersion::V1, Member)]);
        rig.set(&[]);
        assert!(rig.run(5000).is_empty(), "IGMPv1 knows no leave");
        // The old router is gone.
        rig.now += OLDER_PRESENT;
        rig.set(&[(BRIDGE, "239.1.1.1")]);
        assert_eq!(said(&rig.run(50)), [(group, GroupVersion::V3, Join)]);
    }

    #[test]
    fn a_link_that_comes_up_is_told_again() {
        let mut rig = Rig::new();
        rig.set(&[(BRIDGE, "239.1.1.1"), (OTHER, "239.1.1.1")]);
        rig.run(5000);
        rig.memberships.announce(OTHER, rig.now);
        let reports = rig.run(5000);
        assert_eq!(reports.len(), 2);
        assert!(reports.iter().all(|r| r.bridge == OTHER && r.report == Join));
    }
}
