//! Checks of one bridge: its MAC, addresses, routes, neighbours and `other_config`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use wire::addr::MacAddr;

use super::{Check, range};
use crate::document::{Bridge, mac_table, mcast};
use crate::options::{TunnelOptions, boolean, number_in};
use crate::problem::{Site, one_of};
use crate::suggest::nearest;
use crate::tlv::TlvEntry;
use wire::tunnel::geneve::TlvMap;

/// Keys of a bridge's `other_config` that the switch knows.
pub const BRIDGE_OTHER_CONFIG: [&str; 14] = [
    "mac-aging-time",
    "mac-table-size",
    "mac-port-limit",
    "mac-learning-rate",
    "hwaddr",
    "datapath-id",
    "dp-desc",
    "dp-sn",
    "forward-bpdu",
    "evpn-netns",
    "neigh-suppress",
    "mcast-snooping-table-size",
    "mcast-snooping-aging-time",
    "mcast-snooping-disable-flood-unregistered",
];

/// Smallest and largest value of a key of a bridge's `other_config` that has a number.
pub fn bridge_number_range(key: &str) -> Option<(u64, u64)> {
    Some(match key {
        "mac-aging-time" => mac_table::AGING_RANGE,
        "mac-table-size" => mac_table::SIZE_RANGE,
        "mac-port-limit" => (1, mac_table::SIZE_RANGE.1),
        "mac-learning-rate" => mac_table::RATE_RANGE,
        "mcast-snooping-table-size" => mcast::SIZE_RANGE,
        "mcast-snooping-aging-time" => mcast::AGING_RANGE,
        _ => return None,
    })
}

/// A datapath ID as Open vSwitch reads it: 16 hexadecimal digits, or up to as many behind `0x`; 0 is none.
pub(crate) fn datapath_id(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = digits.or_else(|| Some(text).filter(|text| text.len() == 16))?;
    let is_hex = digits.len() <= 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|id| is_hex && *id != 0)
}

/// A name as `ip netns` takes it.
pub(super) fn netns(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!(
            "found {name:?}, expected the name of a network namespace, as ip netns list shows it"
        ));
    }
    Ok(())
}

impl Check<'_> {
    pub(super) fn bridge(&mut self, site: &Site, bridge: &Bridge) {
        if let Some(mac) = bridge.hwaddr {
            self.station(&site.field("hwaddr"), mac);
        }
        if let Some(tag) = bridge.tag {
            self.number(&site.field("tag"), tag.into(), range::VLAN);
        }
        if let Some(mtu) = bridge.mtu {
            let site = site.field("mtu");
            self.number(&site, mtu.into(), range::MTU);
            if !bridge.has_device() {
                let why = "the LOCAL port has no device without addresses_from=kernel, expected none";
                self.invalid(&site, why.to_owned());
            }
        }
        self.other_config(&site.field("other_config"), bridge);
        if bridge.has_device() {
            self.kernel_has_them(site, bridge);
        } else {
            self.addresses(&site.field("address"), bridge);
            self.routes(&site.field("route"), bridge);
        }
        self.neighbours(&site.field("neighbour"), bridge);
        self.fdb(&site.field("fdb"), bridge);
        self.tlv_map(&site.field("tlv_map"), bridge);
    }

    fn tlv_map(&mut self, site: &Site, bridge: &Bridge) {
        let mut map = TlvMap::EMPTY;
        for (index, text) in bridge.tlv_map.iter().enumerate() {
            let added = TlvEntry::parse(text)
                .and_then(|entry| entry.add_to(&mut map).map_err(|error| format!("{text}: {error}")));
            if let Err(message) = added {
                self.invalid(&site.index(index), message);
            }
        }
    }

    /// A MAC that one station has.
    pub(super) fn station(&mut self, site: &Site, mac: MacAddr) {
        if mac.is_multicast() {
            self.invalid(site, format!("{mac} has the group bit set, expected a unicast MAC address"));
        } else if mac.is_zero() {
            self.invalid(site, format!("{mac} is no station's address, expected a unicast MAC address"));
        }
    }

    fn other_config(&mut self, site: &Site, bridge: &Bridge) {
        for (name, value) in &bridge.other_config {
            let site = site.field(name);
            if let Some(range) = bridge_number_range(name) {
                if let Err(message) = decimal_in(value, range) {
                    self.invalid(&site, message);
                }
                continue;
            }
            let outcome = match name.as_str() {
                "forward-bpdu" | "neigh-suppress" | "mcast-snooping-disable-flood-unregistered" => {
                    boolean(value).map(|_| ())
                }
                "evpn-netns" => netns(value),
                "dp-desc" | "dp-sn" => Ok(()),
                "datapath-id" => match datapath_id(value) {
                    Some(_) => Ok(()),
                    None => {
                        Err(format!("found {value:?}, expected 16 hexadecimal digits, not all of them 0"))
                    }
                },
                "hwaddr" => match value.parse::<MacAddr>() {
                    Ok(mac) => {
                        self.station(&site, mac);
                        match bridge.hwaddr {
                            Some(other) if other != mac => Err(format!(
                                "{mac} and the bridge's hwaddr {other} differ, expected one of them"
                            )),
                            _ => Ok(()),
                        }
                    }
                    Err(error) => Err(format!("found {value:?}, {error}")),
                },
                _ => Err(match nearest(name, &BRIDGE_OTHER_CONFIG) {
                    Some(near) => format!("unknown key; did you mean {near}?"),
                    None => format!("unknown key, expected {}", one_of(&BRIDGE_OTHER_CONFIG)),
                }),
            };
            if let Err(message) = outcome {
                self.invalid(&site, message);
            }
        }
    }

    /// Nothing of what the kernel says is said by the document, too.
    fn kernel_has_them(&mut self, site: &Site, bridge: &Bridge) {
        let name = &bridge.name;
        for (key, is_empty, command) in [
            ("address", bridge.address.is_empty(), "address add ADDRESS"),
            ("route", bridge.routes.is_empty(), "route add NETWORK via GATEWAY"),
        ] {
            if !is_empty {
                self.invalid(
                    &site.field(key),
                    format!(
                        "is the kernel's with addresses_from=kernel, expected none: ip {command} dev {name}"
                    ),
                );
            }
        }
    }

    fn addresses(&mut self, site: &Site, bridge: &Bridge) {
        let mut seen = BTreeSet::new();
        for (i, net) in bridge.address.iter().enumerate() {
            let site = site.index(i);
            if let Some(message) = no_host_address(net) {
                self.invalid(&site, message);
            } else if !seen.insert(net.addr()) {
                self.invalid(&site, format!("{} stands twice", net.addr()));
            }
        }
    }

    fn fdb(&mut self, site: &Site, bridge: &Bridge) {
        let mut seen = BTreeSet::new();
        for (i, entry) in bridge.fdb.iter().enumerate() {
            let site = site.index(i);
            self.station(&site.field("mac"), entry.mac);
            if !seen.insert((entry.vlan, entry.mac)) {
                self.invalid(&site, format!("{} in VLAN {} stands twice", entry.mac, entry.vlan));
            }
            let port = bridge.ports.iter().find(|port| port.name == entry.port);
            if port.is_none() && entry.port != bridge.name {
                let message = format!("{:?} is no port of the bridge, expected one of its ports", entry.port);
                self.invalid(&site.field("port"), message);
                continue;
            }
            let message = match (port.and_then(TunnelOptions::of), entry.remote) {
                (None, Some(ip)) => format!("{ip}: only a tunnel port has remotes"),
                (Some(Ok(options)), Some(ip)) if options.group().is_some() && !ip.is_multicast() => continue,
                (Some(Ok(options)), Some(ip)) if !options.remotes().contains(&ip) => {
                    format!("{ip} is not one of the tunnel port's remote_ip")
                }
                (Some(Ok(options)), None) if options.remotes().len() != 1 => {
                    "is missing, expected one of the tunnel port's remote_ip".to_owned()
                }
                // Options that do not read have been complained about at the port.
                _ => continue,
            };
            self.invalid(&site.field("remote"), message);
        }
    }

    /// Networks of two bridges must not overlap: a packet to both would have two ways out. Each overlap is told
    /// once, at the later bridge.
    pub(super) fn overlaps(&mut self) {
        let bridges = &self.document.bridges;
        let mut nets: Vec<(IpNet, usize, usize)> = Vec::new();
        for (owner, bridge) in bridges.iter().enumerate() {
            nets.extend(bridge.address.iter().enumerate().map(|(i, net)| (*net, owner, i)));
        }
        // Two prefixes are nested or apart, and `IpNet` sorts a network right before those that lie in it: a
        // stack of the networks that the present one lies in finds all overlaps in one pass.
        nets.sort_by_key(|(net, owner, i)| (net.network(), net.prefix_len(), *owner, *i));
        let mut around: Vec<(IpNet, usize, usize)> = Vec::new();
        for here in nets {
            while around.last().is_some_and(|(outer, ..)| !outer.contains(&here.0)) {
                around.pop();
            }
            if let Some(other) = around.iter().rev().find(|(_, owner, _)| *owner != here.1) {
                let (first, later) = if other.1 < here.1 { (*other, here) } else { (here, *other) };
                let site = Site::bridge(later.1, &bridges[later.1].name).field("address").index(later.2);
                self.problems.push(site.invalid(format!(
                    "{} overlaps {} of bridge {}, expected networks that do not overlap",
                    later.0, first.0, bridges[first.1].name
                )));
            }
            // Within a network of its own bridge it adds nothing to find, and the stack stays short.
            if around.last().is_none_or(|(_, owner, _)| *owner != here.1) {
                around.push(here);
            }
        }
    }

    fn routes(&mut self, site: &Site, bridge: &Bridge) {
        let mut seen = BTreeSet::new();
        for (i, route) in bridge.routes.iter().enumerate() {
            let site = site.index(i);
            if !seen.insert(route.to.trunc()) {
                self.invalid(&site.field("to"), format!("there is another route to {}", route.to.trunc()));
            }
            let Some(via) = route.via else {
                if !bridge.address.iter().any(|net| same_family(&net.addr(), &route.to.addr())) {
                    let message = "the bridge has no address of this family to send from";
                    self.invalid(&site.field("to"), message);
                }
                continue;
            };
            let site = site.field("via");
            if !same_family(&via, &route.to.addr()) {
                self.invalid(&site, format!("{via} is not of the address family of {}", route.to));
            } else if bridge.address.iter().any(|net| net.addr() == via) {
                self.invalid(&site, format!("{via} is this bridge's own address, expected a neighbour's"));
            } else if !on_link(bridge, &via) && !bridge.neighbours.iter().any(|n| n.ip == via) {
                self.invalid(
                    &site,
                    format!(
                        "{via} is not on-link, expected an address in {}, one that a route without via leads to, or \
                         that of a static neighbour",
                        networks(bridge)
                    ),
                );
            }
        }
    }

    fn neighbours(&mut self, site: &Site, bridge: &Bridge) {
        let mut seen = BTreeSet::new();
        for (i, neighbour) in bridge.neighbours.iter().enumerate() {
            let site = site.index(i);
            let (ip, mac) = (neighbour.ip, neighbour.mac);
            self.station(&site.field("mac"), mac);
            let site = site.field("ip");
            if !seen.insert((ip, neighbour.vlan)) {
                self.invalid(&site, format!("{ip} stands twice"));
            } else if bridge.address.is_empty() {
                // A host of an overlay.
            } else if neighbour.vlan != 0 {
                self.invalid(&site, "only a bridge without addresses has neighbours in VLANs");
            } else if bridge.address.iter().any(|net| net.addr() == ip) {
                self.invalid(&site, format!("{ip} is this bridge's own address, expected a neighbour's"));
            } else if !on_link(bridge, &ip) && !bridge.routes.iter().any(|route| route.via == Some(ip)) {
                self.invalid(
                    &site,
                    format!(
                        "{ip} is not on-link, expected an address in {}, or a gateway's",
                        networks(bridge)
                    ),
                );
            }
        }
    }
}

/// A number that [`Bridge`]'s typed getters read again, hence decimal only.
fn decimal_in(text: &str, (low, high): (u64, u64)) -> Result<(), String> {
    let number = number_in(text, low, high)?;
    if text == number.to_string() {
        Ok(())
    } else {
        Err(format!("found {text:?}, expected a decimal number, as {number}"))
    }
}

/// Why no host can have this address.
fn no_host_address(net: &IpNet) -> Option<String> {
    let addr = net.addr();
    if addr.is_multicast() || addr.is_unspecified() || addr.is_loopback() {
        return Some(format!("{addr} is no host's address, expected a unicast address"));
    }
    let wide = matches!(net, IpNet::V4(net) if net.prefix_len() < 31);
    if wide && (addr == net.network() || addr == net.broadcast()) {
        return Some(format!(
            "{addr} is the network's or broadcast address of {}, expected a host's",
            net.trunc()
        ));
    }
    None
}

fn same_family(a: &IpAddr, b: &IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// Whether `ip` is reached without a gateway: in a network of the bridge, behind a route without `via`, or link-local.
fn on_link(bridge: &Bridge, ip: &IpAddr) -> bool {
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) && !bridge.address.is_empty();
    link_local
        || bridge.address.iter().any(|net| net.contains(ip))
        || bridge.routes.iter().any(|route| route.via.is_none() && route.to.contains(ip))
}

fn networks(bridge: &Bridge) -> String {
    let networks: BTreeSet<String> = bridge.address.iter().map(|net| net.trunc().to_string()).collect();
    if networks.is_empty() {
        return "one of the bridge's networks, and it has none: give it an address".to_owned();
    }
    one_of(&networks.iter().map(String::as_str).collect::<Vec<_>>())
}
