//! Follows what the kernel has on the devices that bridges are (`addresses_from=kernel`): addresses, routes, neighbours. All is
//! read anew when the kernel says that something changed: an event that is lost costs time, not truth.

use super::app::App;
use crate::bridge::KernelNeighbour;
use crate::slowpath::kernel::KernelView;
use crate::tunnel::route::Route;
use evpn::netlink::packet::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use evpn::netlink::packet::link::{LinkAttribute, LinkFlags, LinkMessage};
use evpn::netlink::packet::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use evpn::netlink::packet::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use evpn::netlink::packet::{AddressFamily, RouteNetlinkMessage};
use evpn::netlink::{self, Error, Netlink};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use wire::addr::MacAddr;

/// `RTNLGRP_LINK`, `_NEIGH`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR` and `_IPV6_ROUTE`.
const GROUPS: &[u32] = &[1, 3, 5, 7, 9, 11];
/// How long more events are waited for before everything is read: `ip address add` alone makes four.
const SETTLE: Duration = Duration::from_millis(10);
/// How long after an error everything is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Metric of routes that do not say one.
const NO_METRIC: u32 = 0;

/// Follows the kernel until the task is aborted.
pub async fn run(app: Arc<App>) {
    let mut said = None;
    loop {
        if app.locals.names().is_empty() {
            app.locals.changed().await;
            continue;
        }
        match follow(&app).await {
            Ok(()) => said = None,
            Err(error) => {
                let text = error.to_string();
                if said.as_ref() != Some(&text) {
                    tracing::error!(target: "vxswitch::kernel", error = %text, "the kernel's addresses are not followed");
                }
                said = Some(text);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Follows the kernel as long as there are devices.
async fn follow(app: &App) -> Result<(), Error> {
    let (mut netlink, events) = netlink::open(None, GROUPS)?;
    netlink.set_strict()?;
    #[allow(deprecated, reason = "what replaces it is unsafe; these own their socket and never change it")]
    let mut events = AsyncFd::new(events).map_err(Error::Socket)?;
    let mut known: BTreeMap<String, KernelView> = BTreeMap::new();
    loop {
        let names = app.locals.names();
        if names.is_empty() {
            return Ok(());
        }
        // A table of routes can be long.
        let reading = tokio::task::spawn_blocking(move || {
            let views: Result<Vec<_>, Error> =
                names.into_iter().map(|name| Ok((view(&mut netlink, &name)?, name))).collect();
            (netlink, views)
        });
        let (back, views) = reading.await.map_err(|error| Error::Socket(std::io::Error::other(error)))?;
        netlink = back;
        for (view, name) in views? {
            if known.get(&name) != Some(&view) {
                tell(app, &name, view.clone()).await;
                known.insert(name, view);
            }
        }
        tokio::select! {
            () = app.locals.changed() => known.clear(),
            ready = events.readable_mut() => {
                let mut ready = ready.map_err(Error::Socket)?;
                tokio::time::sleep(SETTLE).await;
                ready.get_inner_mut().any();
                ready.clear_ready();
            }
        }
    }
}

/// Tells the slow path, and whoever shows the device.
async fn tell(app: &App, name: &str, view: KernelView) {
    let (mac, mtu, bridge) = (view.mac, view.mtu, name.to_owned());
    let applied = app.handle.call(move |slow| {
        if let Some(id) = slow.state.bridge_named(&bridge) {
            slow.follow_kernel(id, &view);
        }
    });
    // A switch that stops follows nobody.
    if applied.await.is_err() {
        return;
    }
    let mut switch = app.switch.lock().await;
    if let Some(device) = switch.ports.get_mut(name).and_then(|port| port.device.as_mut()) {
        device.mac = mac.unwrap_or(device.mac);
        device.mtu = mtu.unwrap_or(device.mtu);
    }
}

/// A link: its number, whether it is up, MAC address and MTU.
type Link = (u32, bool, Option<MacAddr>, Option<u16>);

/// What the kernel has on the device `name`; nothing when there is none.
fn view(netlink: &mut Netlink, name: &str) -> Result<KernelView, Error> {
    let Some((index, up, mac, mtu)) = link(netlink, name)? else { return Ok(KernelView::default()) };
    let mut view = KernelView { mac, mtu, ..KernelView::default() };
    if up {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            view.addresses.extend(addresses(netlink, family, index)?);
            view.neighbours.extend(neighbours(netlink, family, index)?);
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let connected = |route: &Route| {
                route.via.is_none() && view.addresses.iter().any(|net| net.trunc() == route.to)
            };
            let routes = routes(netlink, family, index)?;
            view.routes.extend(routes.into_iter().filter(|route| !connected(route)));
        }
    }
    Ok(view)
}

fn link(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut found = None;
    let asked = netlink.get(RouteNetlinkMessage::GetLink(request), "reading a device", |message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return };
        let (mut mac, mut mtu) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddr),
                LinkAttribute::Mtu(bytes) => mtu = u16::try_from(*bytes).ok(),
                _ => {}
            }
        }
        found = Some((link.header.index, link.header.flags.contains(LinkFlags::Up), mac, mtu));
    });
    match asked {
        Err(Error::Refused { error, .. }) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        other => other.map(|()| found),
    }
}

/// Addresses of a device in the order of the kernel, by which the first of a subnet is what is sent from. Those of the link
/// are left out: every device of IPv6 has one, and no tunnel.
fn addresses(netlink: &mut Netlink, family: AddressFamily, index: u32) -> Result<Vec<IpNet>, Error> {
    let mut request = AddressMessage::default();
    (request.header.family, request.header.index) = (family, index);
    let mut found = Vec::new();
    netlink.dump(RouteNetlinkMessage::GetAddress(request), "reading addresses", |message| {
        let RouteNetlinkMessage::NewAddress(row) = message else { return };
        let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
        if row.header.index != index || row.header.flags.intersects(unusable) {
            return;
        }
        let (mut own, mut peer) = (None, None);
        for attribute in &row.attributes {
            match attribute {
                AddressAttribute::Local(ip) => own = Some(*ip),
                AddressAttribute::Address(ip) => peer = Some(*ip),
                _ => {}
            }
        }
        let of_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if let Some(ip) = own.or(peer).filter(|ip| !of_link(ip)) {
            found.extend(IpNet::new(ip, row.header.prefix_len));
        }
    })?;
    Ok(found)
}

/// Unicast routes by a device, the one that the kernel prefers last.
fn routes(netlink: &mut Netlink, family: AddressFamily, index: u32) -> Result<Vec<Route>, Error> {
    let mut request = RouteMessage::default();
    (request.header.address_family, request.header.table) = (family, RouteHeader::RT_TABLE_MAIN);
    request.attributes.push(RouteAttribute::Oif(index));
    let mut found: Vec<(u32, Route)> = Vec::new();
    netlink.dump(RouteNetlinkMessage::GetRoute(request), "reading routes", |message| {
        if let RouteNetlinkMessage::NewRoute(row) = message {
            found.extend(route(&row, index));
        }
    })?;
    found.sort_by_key(|(metric, _)| std::cmp::Reverse(*metric));
    Ok(found.into_iter().map(|(_, route)| route).collect())
}

/// A route with its metric, if it leads out of the device.
fn route(row: &RouteMessage, index: u32) -> Option<(u32, Route)> {
    if row.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified = match row.header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let (mut to, mut via, mut source, mut metric) = (unspecified, None, None, NO_METRIC);
    let (mut table, mut leads) = (u32::from(row.header.table), false);
    for attribute in &row.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(address) => via = Some(ip(address)?),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Oif(out) => leads = *out == index,
            RouteAttribute::MultiPath(hops) => {
                let hop = hops.iter().find(|hop| hop.interface_index == index)?;
                leads = true;
                via = hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                });
            }
            // A gateway of the other family.
            RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    let of_link = matches!(to, IpAddr::V6(ip) if ip.is_unicast_link_local()) || to.is_multicast();
    if !leads || of_link || table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let to = IpNet::new(to, row.header.destination_prefix_length).ok()?;
    Some((metric, Route { to, via, source }))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// Neighbours on a device that an operator has put there, or that have answered the kernel lately.
fn neighbours(
    netlink: &mut Netlink,
    family: AddressFamily,
    index: u32,
) -> Result<BTreeMap<IpAddr, KernelNeighbour>, Error> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    request.attributes.push(NeighbourAttribute::IfIndex(index));
    let mut found = BTreeMap::new();
    netlink.dump(RouteNetlinkMessage::GetNeighbour(request), "reading neighbours", |message| {
        let RouteNetlinkMessage::NewNeighbour(row) = message else { return };
        let is_static = match row.header.state {
            NeighbourState::Permanent | NeighbourState::Noarp => true,
            NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => false,
            _ => return,
        };
        let (mut ip, mut mac) = (None, None);
        for attribute in &row.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => ip = Some(IpAddr::V4(*to)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => ip = Some(IpAddr::V6(*to)),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok().map(MacAddr);
                }
                _ => {}
            }
        }
        // The kernel lists groups and broadcast as well.
        if let (Some(ip), Some(mac)) = (ip, mac)
            && row.header.ifindex == index
            && !mac.is_multicast()
            && !mac.is_zero()
        {
            found.insert(ip, KernelNeighbour { mac, is_static });
        }
    })?;
    Ok(found)
}
