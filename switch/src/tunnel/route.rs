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
    /// The bridge's own address to send from; `None`: the next hop's subnet says.
    pub source: Option<IpAddr>,
}

/// Answer of a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Whose MAC address the packet is sent to.
    pub next_hop: IpAddr,
    /// The bridge's own address on that link.
    pub source: IpAddr,
    /// Length of the prefix that matched.
    pub prefix_len: u8,
}

/// Longest-prefix match over the bridge's own subnets and its configured routes. A gateway must be on the link: in a
/// subnet, behind a route without one (a host route, mostly), or a static neighbour.
///
/// The tables are as small as a VTEP's are (a default route, a few prefixes), and are only looked at
/// when something changes, so a scan does.
pub fn lookup(
    addresses: &[IpNet],
    routes: &[Route],
    is_static_neighbour: impl Fn(IpAddr) -> bool,
    to: IpAddr,
) -> Option<Hop> {
    // Of several addresses in one subnet the first is the source, as in Linux; max_by_key keeps the last it sees.
    let subnet = |ip: IpAddr| {
        addresses.iter().rev().filter(|net| net.contains(&ip)).max_by_key(|net| net.prefix_len())
    };
    let connected =
        subnet(to).map(|net| Hop { next_hop: to, source: net.addr(), prefix_len: net.prefix_len() });
    // The first address of the family; behind the link, a link-local one is nobody's.
    let first = || {
        let of_family = |a: &&IpNet| a.addr().is_ipv4() == to.is_ipv4();
        addresses.iter().filter(of_family).find(|a| is_link_local(to) || !is_link_local(a.addr()))
    };
    let on_link_by_route = |ip: IpAddr| routes.iter().any(|r| r.via.is_none() && r.to.contains(&ip));
    let routed = routes.iter().filter(|r| r.to.contains(&to)).filter_map(|r| {
        let next_hop = r.via.unwrap_or(to);
        if let Some(own) = addresses.iter().find(|net| Some(net.addr()) == r.source) {
            return Some(Hop { next_hop, source: own.addr(), prefix_len: r.to.prefix_len() });
        }
        // A route without `via` to a prefix outside all subnets is on the link, and so are link-local routers.
        let source = if is_link_local(next_hop) && !is_link_local(to) {
            first()
        } else {
            subnet(next_hop).or_else(|| {
                let on_link = r.via.is_none() || on_link_by_route(next_hop) || is_static_neighbour(next_hop);
                if on_link { first() } else { None }
            })
        };
        Some(Hop { next_hop, source: source?.addr(), prefix_len: r.to.prefix_len() })
    });
    // At equal length the connected subnet wins: it comes last and max_by_key keeps the last.
    routed.chain(connected).max_by_key(|hop| hop.prefix_len)
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
            Route { to: "0.0.0.0/0".parse().unwrap(), via: Some(ip("192.168.1.254")), source: None },
            Route { to: "172.16.0.0/12".parse().unwrap(), via: Some(ip("10.0.0.2")), source: None },
            Route { to: "172.16.5.0/24".parse().unwrap(), via: Some(ip("8.8.8.8")), source: None },
        ];
        let hop = |to| lookup(&addresses, &routes, |_| false, ip(to)).map(|h| (h.next_hop, h.source));
        assert_eq!(hop("192.168.1.2"), Some((ip("192.168.1.2"), ip("192.168.1.1"))));
        assert_eq!(hop("172.20.0.1"), Some((ip("10.0.0.2"), ip("10.0.0.1"))));
        assert_eq!(hop("1.1.1.1"), Some((ip("192.168.1.254"), ip("192.168.1.1"))));
        // The longer route's next hop is unreachable: the shorter one serves.
        assert_eq!(hop("172.16.5.1"), Some((ip("10.0.0.2"), ip("10.0.0.1"))));
        let two = ["10.0.0.1/24".parse().unwrap(), "10.0.0.5/24".parse().unwrap()];
        assert_eq!(lookup(&two, &[], |_| false, ip("10.0.0.9")).map(|hop| hop.source), Some(ip("10.0.0.1")));
        assert_eq!(lookup(&addresses, &[], |_| false, ip("1.1.1.1")), None);
        assert_eq!(hop("2001:db8::1"), None);
    }

    #[test]
    fn a_route_can_say_its_source() {
        let addresses = ["192.168.1.1/24", "192.168.1.7/32"].map(|a| a.parse().unwrap());
        let route = |source| Route {
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(ip("192.168.1.254")),
            source: Some(ip(source)),
        };
        let source = |route| lookup(&addresses, &[route], |_| false, ip("1.1.1.1")).map(|hop| hop.source);
        assert_eq!(source(route("192.168.1.7")), Some(ip("192.168.1.7")));
        // One that has gone meanwhile is nobody's.
        assert_eq!(source(route("192.168.1.8")), Some(ip("192.168.1.1")));
    }

    #[test]
    fn ipv6_routers_are_link_local_and_the_source_is_not() {
        let addresses = ["fe80::1/64", "192.168.1.1/24", "2001:db8:1::1/64"].map(|a| a.parse().unwrap());
        let routes = [
            Route { to: "::/0".parse().unwrap(), via: Some(ip("fe80::ff")), source: None },
            Route { to: "2001:db8:2::/64".parse().unwrap(), via: Some(ip("2001:db8:1::2")), source: None },
            Route { to: "2001:db8:3::/64".parse().unwrap(), via: None, source: None },
        ];
        let hop = |to| lookup(&addresses, &routes, |_| false, ip(to)).map(|h| (h.next_hop, h.source));
        let global = ip("2001:db8:1::1");
        assert_eq!(hop("2001:db8:9::9"), Some((ip("fe80::ff"), global)));
        assert_eq!(hop("2001:db8:2::9"), Some((ip("2001:db8:1::2"), global)));
        assert_eq!(hop("2001:db8:3::9"), Some((ip("2001:db8:3::9"), global)));
        assert_eq!(hop("2001:db8:1::9"), Some((ip("2001:db8:1::9"), global)));
        assert_eq!(hop("fe80::9"), Some((ip("fe80::9"), ip("fe80::1"))));
        assert_eq!(hop("10.0.0.1"), None);
    }

    #[test]
    fn gateways_are_on_link_by_routes_and_static_neighbours_too() {
        let addresses = ["10.77.0.1/32", "2001:db8::1/128"].map(|a| a.parse().unwrap());
        let route =
            |to: &str, via: Option<&str>| Route { to: to.parse().unwrap(), via: via.map(ip), source: None };
        let by_host_route = [
            route("10.77.0.254/32", None),
            route("0.0.0.0/0", Some("10.77.0.254")),
            route("2001:db8::fe/128", None),
            route("::/0", Some("2001:db8::fe")),
        ];
        let hop = |routes: &[Route], to| {
            lookup(&addresses, routes, |_| false, ip(to)).map(|h| (h.next_hop, h.source))
        };
        let (own4, own6) = (ip("10.77.0.1"), ip("2001:db8::1"));
        assert_eq!(hop(&by_host_route, "1.1.1.1"), Some((ip("10.77.0.254"), own4)));
        assert_eq!(hop(&by_host_route, "10.77.0.254"), Some((ip("10.77.0.254"), own4)));
        assert_eq!(hop(&by_host_route, "2001:db8:9::9"), Some((ip("2001:db8::fe"), own6)));
        // Inside a wider route that is on the link.
        let nested = [route("10.77.0.0/16", None), route("10.77.9.0/24", Some("10.77.0.254"))];
        assert_eq!(hop(&nested, "10.77.9.9"), Some((ip("10.77.0.254"), own4)));
        assert_eq!(hop(&nested, "10.77.8.9"), Some((ip("10.77.8.9"), own4)));
        // A gateway behind another gateway is not on the link.
        let far = [route("0.0.0.0/0", Some("10.77.0.254")), route("1.0.0.0/8", Some("2.2.2.2"))];
        assert_eq!(hop(&far, "1.1.1.1"), None);
        let known = |gateway| ip("10.77.0.254") == gateway;
        let by_neighbour = lookup(&addresses, &far, known, ip("1.1.1.1")).map(|h| (h.next_hop, h.source));
        assert_eq!(by_neighbour, Some((ip("10.77.0.254"), own4)));
    }
}
