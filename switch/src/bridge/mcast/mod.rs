//! Multicast snooping of a bridge (RFC 4541): which ports want which groups of IP multicast, from the IGMP and MLD messages
//! that come in by them, and behind which ports there are multicast routers.
//!
//! Owned by the slow path. Behind a tunnel a member is a remote VTEP, so that a group's packets go to those only that want
//! them.

mod forward;
#[cfg(test)]
mod tests;

use super::fdb::Location;
use flow::program::PortId;
pub(super) use forward::Receivers;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A multicast router that asks no more is one for so long (as in Open vSwitch).
const ROUTER_AGEING: Duration = Duration::from_mins(3);
/// How often it is looked for what has expired: that is a pass over the whole table.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Members of one group, and routers of a bridge, at most; who comes later is not noted.
const MOST_MEMBERS: usize = 4096;

/// Settings of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct McastSettings {
    /// `mcast_snooping_enable`.
    pub enabled: bool,
    /// `other_config:mcast-snooping-table-size`: groups.
    pub size: usize,
    /// `other_config:mcast-snooping-aging-time`: so long a member is one after its last report.
    pub ageing: Duration,
    /// Packets to groups that nobody has joined are flooded (`other_config:mcast-snooping-disable-flood-unregistered`).
    pub flood_unregistered: bool,
}

impl Default for McastSettings {
    /// As in the document without settings.
    fn default() -> Self {
        McastSettings {
            enabled: false,
            size: config::mcast::SIZE_DEFAULT as usize,
            ageing: Duration::from_secs(config::mcast::AGING_DEFAULT.into()),
            flood_unregistered: true,
        }
    }
}

/// VLAN and address: what groups are known by.
pub type GroupKey = (u16, IpAddr);

/// What has changed: megaflows depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum McastChange {
    /// The members of a group.
    Group(GroupKey),
    /// The routers of a VLAN.
    Routers(u16),
}

#[derive(Debug, Clone, Copy)]
struct Member {
    at: Location,
    until: Instant,
}

/// One member or router, as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct McastRow {
    /// Where it is.
    pub at: Location,
    /// VLAN ID, 0 for none.
    pub vlan: u16,
    /// The group; `None`: a router.
    pub group: Option<IpAddr>,
    /// Time since its last report or query.
    pub age: Duration,
}

/// The groups and routers of a bridge.
#[derive(Debug, Default)]
pub struct Mcast {
    settings: McastSettings,
    /// Hashed with a secret: the keys are anybody's to choose.
    groups: HashMap<GroupKey, Vec<Member>>,
    routers: Vec<(u16, Member)>,
    /// When it was last looked for what has expired.
    looked: Option<Instant>,
}

/// Whether packets to a group stay on the link, and go to everybody: 224.0.0.0/24 and the group of all nodes (RFC 4541,
/// sections 2.1.2 and 3).
pub fn is_local(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group == wire::view::ALL_NODES,
    }
}

/// Adds a member or renews it; whether it is new. `None`: there is no room.
fn note(members: &mut Vec<Member>, at: Location, until: Instant) -> Option<bool> {
    if let Some(member) = members.iter_mut().find(|member| member.at == at) {
        member.until = until;
        return Some(false);
    }
    (members.len() < MOST_MEMBERS).then(|| members.push(Member { at, until })).map(|()| true)
}

impl Mcast {
    /// Changes the settings. What was learned goes when snooping is switched off.
    pub fn configure(&mut self, settings: McastSettings) {
        self.settings = settings;
        if !settings.enabled {
            self.groups.clear();
            self.routers.clear();
        }
    }

    /// Whether the bridge snoops.
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Whether packets to groups that nobody has joined are flooded.
    pub fn floods_unregistered(&self) -> bool {
        self.settings.flood_unregistered
    }

    /// A report says that somebody there is a member. In a full table another group goes for a new one: of those that
    /// somebody at the same port has joined, if there are such, the one whose last report is the oldest.
    pub fn join(&mut self, key: GroupKey, at: Location, now: Instant) -> Vec<McastChange> {
        if is_local(key.1) || !key.1.is_multicast() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        if !self.groups.contains_key(&key) && self.groups.len() >= self.settings.size {
            let expires = |members: &Vec<Member>| members.iter().map(|member| member.until).max();
            let oldest = |of_port: bool| {
                let groups = self.groups.iter().filter(|(_, members)| {
                    !of_port || members.iter().any(|member| member.at.port == at.port)
                });
                groups.min_by_key(|(_, members)| expires(members)).map(|(key, _)| *key)
            };
            let Some(victim) = oldest(true).or_else(|| oldest(false)) else { return changes };
            self.groups.remove(&victim);
            changes.push(McastChange::Group(victim));
        }
        let members = self.groups.entry(key).or_default();
        if note(members, at, now + self.settings.ageing) == Some(true) {
            changes.push(McastChange::Group(key));
        }
        changes
    }

    /// A report says that somebody there is no member any more.
    pub fn leave(&mut self, key: GroupKey, at: Location) -> Vec<McastChange> {
        let Some(members) = self.groups.get_mut(&key) else { return Vec::new() };
        let before = members.len();
        members.retain(|member| member.at != at);
        let has_changed = members.len() < before;
        if members.is_empty() {
            self.groups.remove(&key);
        }
        has_changed.then_some(McastChange::Group(key)).into_iter().collect()
    }

    /// A query says that there is a router.
    pub fn router(&mut self, vlan: u16, at: Location, now: Instant) -> Vec<McastChange> {
        let until = now + ROUTER_AGEING;
        if let Some((_, member)) = self.routers.iter_mut().find(|(of, member)| *of == vlan && member.at == at)
        {
            member.until = until;
            return Vec::new();
        }
        if self.routers.len() >= MOST_MEMBERS {
            return Vec::new();
        }
        self.routers.push((vlan, Member { at, until }));
        vec![McastChange::Routers(vlan)]
    }

    /// Where the members of a group are; `None`: nobody has joined it.
    pub fn members(&self, key: GroupKey) -> Option<impl Iterator<Item = Location> + '_> {
        self.groups.get(&key).map(|members| members.iter().map(|member| member.at))
    }

    /// Where the routers of a VLAN are.
    pub fn routers(&self, vlan: u16) -> impl Iterator<Item = Location> + '_ {
        self.routers.iter().filter(move |(of, _)| *of == vlan).map(|(_, router)| router.at)
    }

    /// Forgets those for whom `goes` holds.
    fn forget_where(&mut self, goes: impl Fn(&Member) -> bool) -> Vec<McastChange> {
        let mut changes = Vec::new();
        self.groups.retain(|key, members| {
            let before = members.len();
            members.retain(|member| !goes(member));
            if members.len() < before {
                changes.push(McastChange::Group(*key));
            }
            !members.is_empty()
        });
        self.routers.retain(|(vlan, router)| {
            let stays = !goes(router);
            if !stays {
                changes.push(McastChange::Routers(*vlan));
            }
            stays
        });
        changes
    }

    /// Removes members and routers whose time is over. Looks once a second, as the FDB does: an entry goes up to a second late.
    pub fn expire(&mut self, now: Instant) -> Vec<McastChange> {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK_EVERY) {
            return Vec::new();
        }
        self.looked = Some(now);
        self.forget_where(|member| member.until <= now)
    }

    /// Forgets who is behind a port.
    pub fn forget_port(&mut self, port: PortId) -> Vec<McastChange> {
        self.forget_where(|member| member.at.port == port)
    }

    /// Forgets everything.
    pub fn flush(&mut self) -> Vec<McastChange> {
        self.forget_where(|_| true)
    }

    /// Everything, in a fixed order: members by VLAN and group, then routers.
    pub fn rows(&self, now: Instant) -> Vec<McastRow> {
        let row = |vlan: u16, group: Option<IpAddr>, member: &Member, ageing: Duration| McastRow {
            at: member.at,
            vlan,
            group,
            age: ageing.saturating_sub(member.until.saturating_duration_since(now)),
        };
        let mut keys: Vec<_> = self.groups.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| **key);
        let members = keys.into_iter().flat_map(|((vlan, group), members)| {
            members.iter().map(|member| row(*vlan, Some(*group), member, self.settings.ageing))
        });
        let routers = self.routers.iter().map(|(vlan, router)| row(*vlan, None, router, ROUTER_AGEING));
        members.chain(routers).collect()
    }
}
