//! Tunnel packets that no tunnel port takes: which were the last ones.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use wire::key::{FlowKey, TUN_IPV6};

/// How many are remembered.
const KEPT: usize = 16;
/// How many new ones in [`WINDOW`] have a megaflow each. When there are more, one megaflow drops all, so that nobody can
/// fill the table by counting through VNIs.
const APART: usize = 64;
/// See [`APART`].
const WINDOW: Duration = Duration::from_secs(10);

/// What was in the headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTunnel {
    /// VNI or key.
    pub tun_id: u32,
    /// Outer source.
    pub remote: IpAddr,
    /// Outer destination.
    pub local: IpAddr,
}

impl UnknownTunnel {
    fn of(key: &FlowKey) -> UnknownTunnel {
        let (remote, local) = if key.tun_flags & TUN_IPV6 != 0 {
            (Ipv6Addr::from(key.tun_ipv6_src).into(), Ipv6Addr::from(key.tun_ipv6_dst).into())
        } else {
            let ip = |ip: u32| IpAddr::V4(Ipv4Addr::from(ip));
            (ip(key.tun_src.get()), ip(key.tun_dst.get()))
        };
        UnknownTunnel { tun_id: key.tun_id, remote, local }
    }
}

/// The last ones, and how many come.
#[derive(Debug, Default)]
pub(super) struct UnknownTunnels {
    /// The latest first, each once.
    last: VecDeque<(UnknownTunnel, Instant)>,
    window: Option<Instant>,
    new: usize,
}

impl UnknownTunnels {
    /// Remembers one. True when more than [`APART`] were new in this [`WINDOW`]: one megaflow then drops them all.
    pub(super) fn note(&mut self, key: &FlowKey, now: Instant) -> bool {
        let unknown = UnknownTunnel::of(key);
        self.last.retain(|(other, _)| *other != unknown);
        self.last.truncate(KEPT - 1);
        self.last.push_front((unknown, now));
        if self.window.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            (self.window, self.new) = (Some(now), 0);
        }
        self.new += 1;
        self.new > APART
    }

    /// The last ones with the times when the slow path was asked about them, the latest first.
    pub(super) fn last(&self) -> impl Iterator<Item = &(UnknownTunnel, Instant)> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_a_flood_has_one_megaflow() {
        let mut unknown = UnknownTunnels::default();
        let now = Instant::now();
        let key = |vni: u32| FlowKey { tun_id: vni, ..FlowKey::ZERO };
        let apart = (0..1000).filter(|vni| !unknown.note(&key(*vni), now)).count();
        assert_eq!(apart, APART);
        let ids = |unknown: &UnknownTunnels| unknown.last().map(|(u, _)| u.tun_id).collect::<Vec<_>>();
        assert_eq!(ids(&unknown), (1000 - KEPT as u32..1000).rev().collect::<Vec<_>>());
        assert!(!unknown.note(&key(990), now + WINDOW), "the flood is over");
        assert_eq!((ids(&unknown).len(), ids(&unknown)[0]), (KEPT, 990), "each stands once");
    }
}
