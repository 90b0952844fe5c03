//! What routers have said of the paths to remotes (RFC 1191, RFC 8201).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long it counts: Linux' `mtu_expires`.
const EXPIRES: Duration = Duration::from_mins(10);
/// Less than this is not believed: Linux' `min_pmtu`, so that a forged message cannot stop a tunnel.
const MIN_V4: u32 = 552;
/// Smallest MTU of an IPv6 link (RFC 8200).
const MIN_V6: u32 = 1280;
/// Remotes that something is known of at most.
const MAX: usize = 4096;

/// Path MTUs by remote, in bytes behind the Ethernet header.
#[derive(Debug, Default)]
pub(super) struct PathMtus(BTreeMap<IpAddr, (u16, Instant)>);

impl PathMtus {
    /// What the path to a remote takes, if a router has said.
    pub(super) fn get(&self, remote: IpAddr) -> Option<u16> {
        self.0.get(&remote).map(|(mtu, _)| *mtu)
    }

    /// Notes what a router says; whether it is less than what was known.
    pub(super) fn learn(&mut self, remote: IpAddr, mtu: u32, now: Instant) -> bool {
        let least = if remote.is_ipv4() { MIN_V4 } else { MIN_V6 };
        let Ok(mtu) = u16::try_from(mtu.max(least)) else { return false };
        let is_full = self.0.len() == MAX;
        match self.0.get_mut(&remote) {
            Some((known, _)) if mtu > *known => return false,
            Some((known, since)) => {
                *since = now;
                return std::mem::replace(known, mtu) != mtu;
            }
            None if is_full => return false,
            None => self.0.insert(remote, (mtu, now)),
        };
        true
    }

    /// Forgets what was said long ago, and says of which remotes.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let old = |(_, since): &(u16, Instant)| now.saturating_duration_since(*since) >= EXPIRES;
        let gone: Vec<IpAddr> = self.0.iter().filter(|(_, entry)| old(entry)).map(|(ip, _)| *ip).collect();
        for remote in &gone {
            self.0.remove(remote);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_counts_for_ten_minutes_and_is_never_tiny() {
        let (mut mtus, t0) = (PathMtus::default(), Instant::now());
        let at = |minutes| t0 + Duration::from_mins(minutes);
        let (four, six) = ("10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(mtus.get(four), None);
        assert!(mtus.learn(four, 1400, t0));
        assert!(!mtus.learn(four, 1450, at(1)), "more than known");
        assert!(!mtus.learn(four, 1400, at(2)), "known already");
        assert!(mtus.learn(six, 68, at(3)) && mtus.learn(four, 0, at(3)));
        assert_eq!((mtus.get(four), mtus.get(six)), (Some(552), Some(1280)));
        assert!(mtus.expire(at(12)).is_empty(), "said again meanwhile");
        assert!(!mtus.learn(six, 1280, at(12)));
        assert_eq!(mtus.expire(at(13)), [four]);
        assert_eq!((mtus.get(four), mtus.get(six)), (None, Some(1280)));
        for n in 0..MAX as u32 + 5 {
            mtus.learn(IpAddr::V4(n.into()), 1400, at(13));
        }
        assert_eq!(mtus.0.len(), MAX);
    }
}
