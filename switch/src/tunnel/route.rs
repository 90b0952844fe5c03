//! Routes of an underlay bridge: which next hop leads to a remote VTEP, and from which address.

use ipnet::IpNet;
use std::net::IpAddr;

/// A route to a prefix; without `via` the destination is on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination prefix.
    pub to: IpNet,
    /// Next hop.
    pub via: Option<IpAddr>,
}

/// Answer of a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Whose MAC address the packet is sent to.
    pub next_hop: IpAddr,
    /// The bridge's own address on that link.
    pub source: IpAddr,
}

/// Longest-prefix match over the bridge's own subnets and its configured routes.
///
/// The tables are as small as a VTEP's are (a default route, a few prefixes), and are only looked at
/// when something changes, so a scan does.
pub fn lookup(addresses: &[IpNet], routes: &[Route], to: IpAddr) -> Option<Hop> {
    // Of several addresses in one subnet the first is the source, as in Linux; max_by_key keeps the last it sees.
    let on_link = |ip: IpAddr| {
        addresses.iter().rev().filter(|net| net.contains(&ip)).max_by_key(|net| net.prefix_len())
    };
    let connected = on_link(to).map(|net| (net.prefix_len(), Hop { next_hop: to, source: net.addr() }));
    // The first address of the family; behind the link, a link-local one is nobody's.
    let first = || {
        let of_family = |a: &&IpNet| a.addr().is_ipv4() == to.is_ipv4();
        addresses.iter().filter(of_family).find(|a| is_link_local(to) || !is_link_local(a.addr()))
    };
    let routed = routes.iter().filter(|r| r.to.contains(&to)).filter_map(|r| {
        let next_hop = r.via.unwrap_or(to);
        // A route without `via` to a prefix outside all subnets is on the link, and so are link-local routers.
        let source = if is_link_local(next_hop) && !is_link_local(to) {
            first()
        } else {
            on_link(next_hop).or_else(|| if r.via.is_none() { first() } else { None })
        };
        Some((r.to.prefix_len(), Hop { next_hop, source: source?.addr() }))
    });
    // At equal length the connected subnet wins: it comes last and max_by_key keeps the last.
    routed.chain(connected).max_by_key(|(len, _)| *len).map(|(_, hop)| hop)
}

/// Whether this is an IPv6 address of the link (RFC 4291, section 2.5.6).
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn longest_prefix_wins_and_next_hops_are_on_link() {
        let addresses = ["192.168.1.1/24".parse().unwrap(), "10.0.0.1/30".parse().unwrap()];
        let routes = [
            Route { to: "0.0.0.0/0".parse().unwrap(), via: Some(ip("192.168.1.254")) },
            Route { to: "172.16.0.0/12".parse().unwrap(), via: Some(ip("10.0.0.2")) },
            Route { to: "172.16.5.0/24".parse().unwrap(), via: Some(ip("8.8.8.8")) },
        ];
        let hop = |to| lookup(&addresses, &routes, ip(to));
        assert_eq!(hop("192.168.1.2"), Some(Hop { next_hop: ip("192.168.1.2"), source: ip("192.168.1.1") }));
        assert_eq!(hop("172.20.0.1"), Some(Hop { next_hop: ip("10.0.0.2"), source: ip("10.0.0.1") }));
        assert_eq!(hop("1.1.1.1"), Some(Hop { next_hop: ip("192.168.1.254"), source: ip("192.168.1.1") }));
        // The longer route's next hop is unreachable: the shorter one serves.
        assert_eq!(hop("172.16.5.1"), Some(Hop { next_hop: ip("10.0.0.2"), source: ip("10.0.0.1") }));
        let two = ["10.0.0.1/24".parse().unwrap(), "10.0.0.5/24".parse().unwrap()];
        assert_eq!(lookup(&two, &[], ip("10.0.0.9")).map(|hop| hop.source), Some(ip("10.0.0.1")));
        assert_eq!(lookup(&addresses, &[], ip("1.1.1.1")), None);
        assert_eq!(hop("2001:db8::1"), None);
    }

    #[test]
    fn ipv6_routers_are_link_local_and_the_source_is_not() {
        let addresses = ["fe80::1/64", "192.168.1.1/24", "2001:db8:1::1/64"].map(|a| a.parse().unwrap());
        let routes = [
            Route { to: "::/0".parse().unwrap(), via: Some(ip("fe80::ff")) },
            Route { to: "2001:db8:2::/64".parse().unwrap(), via: Some(ip("2001:db8:1::2")) },
            Route { to: "2001:db8:3::/64".parse().unwrap(), via: None },
        ];
        let hop = |to| lookup(&addresses, &routes, ip(to)).map(|h| (h.next_hop, h.source));
        let global = ip("2001:db8:1::1");
        assert_eq!(hop("2001:db8:9::9"), Some((ip("fe80::ff"), global)));
        assert_eq!(hop("2001:db8:2::9"), Some((ip("2001:db8:1::2"), global)));
        assert_eq!(hop("2001:db8:3::9"), Some((ip("2001:db8:3::9"), global)));
        assert_eq!(hop("2001:db8:1::9"), Some((ip("2001:db8:1::9"), global)));
        assert_eq!(hop("fe80::9"), Some((ip("fe80::9"), ip("fe80::1"))));
        assert_eq!(hop("10.0.0.1"), None);
    }
}
