//! The shadow of all VNIs in one network namespace.

use crate::devices::{self, BRIDGE_FAMILY, Devices};
use crate::hosts::{Host, HostChanges, Hosts};
use crate::netlink::{self, Error, Events, Netlink};
use crate::table::{Down, Keep, Kernel, Remote, Switch, Table, Up};
use crate::zebra::{Seen, Zebra};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// `RTNLGRP_NEIGH`: changes of forwarding databases.
const GROUP_NEIGHBOUR: u32 = 3;

/// How long what is kept waits for its other side.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// MAC addresses that an earlier process has announced stay announced for so long.
    pub keep: Duration,
    /// Remote MAC addresses and VTEPs stay for so long after zebra has started again.
    pub hold: Duration,
}

/// Whether routes are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    No,
    /// Zebra is gone.
    WhileGone,
    /// Zebra is back, and hears routes again.
    Until(Instant),
}

/// The shadow devices, and what was done with them.
#[derive(Debug)]
pub struct Shadow {
    netlink: Netlink,
    events: Events,
    vnis: BTreeMap<u32, (Devices, Table)>,
    /// Until when rows of an earlier process are kept; `None` when that time is over.
    keep_until: Option<Instant>,
    zebra: Zebra,
    hold: Hold,
    times: Times,
    /// The kernel refused a neighbour of IPv6.
    no_ipv6: bool,
}

impl Shadow {
    /// The shadow in a network namespace, or in ours.
    ///
    /// # Errors
    /// No such namespace, no permission.
    pub fn open(netns: Option<&str>, times: Times) -> Result<Shadow, Error> {
        let (netlink, events) = netlink::open(netns, &[GROUP_NEIGHBOUR])?;
        let zebra = Zebra::of(netns)?;
        let keep_until = Some(Instant::now() + times.keep);
        Ok(Shadow {
            netlink,
            events,
            vnis: BTreeMap::new(),
            keep_until,
            zebra,
            hold: Hold::No,
            times,
            no_ipv6: false,
        })
    }

    /// The process id of zebra in the namespace, if there is one that can be seen from here.
    pub fn zebra(&self) -> Option<u32> {
        self.zebra.pid()
    }

    /// Whether routes are kept that zebra has not installed again.
    pub fn is_holding(&self) -> bool {
        self.hold != Hold::No
    }

    /// How often the kernel had no room for events (`ENOBUFS`). That costs nothing but a look: all is decided from dumps.
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// Whether IPv6 addresses cannot be announced, because the namespace's devices have no IPv6
    /// (`net.ipv6.conf.default.disable_ipv6`).
    pub fn lacks_ipv6(&self) -> bool {
        self.no_ipv6
    }

    /// MAC addresses that more than one host seems to have, with their VNIs.
    pub fn duplicates(&self) -> BTreeSet<(u32, MacAddr)> {
        let now = Instant::now();
        let of = |(vni, (_, table)): (&u32, &(Devices, Table))| {
            let vni = *vni;
            table.duplicates(now).into_iter().map(move |mac| (vni, mac))
        };
        self.vnis.iter().flat_map(of).collect()
    }

    /// Makes the shadows exactly those of these VNIs, with the VTEP's address of each. Those that are there as they must
    /// be stay as they are.
    ///
    /// # Errors
    /// What the kernel refused first; the others are made all the same.
    pub fn set_vnis(&mut self, wanted: &BTreeMap<u32, Ipv4Addr>) -> Result<(), Error> {
        let mut links = devices::links(&mut self.netlink)?;
        let mut outcome = Ok(());
        let mut changed = false;
        let is_wrong = |vni: &u32| {
            devices::find(*vni, &links)
                .is_none_or(|devices| wanted.get(vni).is_none_or(|local| *local != devices.local))
        };
        let leaving: BTreeSet<u32> = devices::shadows(links.keys()).filter(is_wrong).collect();
        if !leaving.is_empty() {
            let vnis: Vec<u32> = leaving.into_iter().collect();
            outcome = devices::remove(&mut self.netlink, &vnis, &mut links);
            self.vnis.retain(|vni, _| !vnis.contains(vni));
            changed = true;
        }
        for (vni, local) in wanted {
            if devices::find(*vni, &links).is_none() {
                outcome = outcome.and(devices::make(&mut self.netlink, *vni, *local));
                changed = true;
            }
        }
        if changed {
            links = devices::links(&mut self.netlink)?;
        }
        for vni in wanted.keys() {
            if let Some(devices) = devices::find(*vni, &links) {
                self.vnis.entry(*vni).or_insert((devices, Table::default())).0 = devices;
            }
        }
        outcome
    }

    /// Whether the kernel's side may have changed since the last call, or what was kept is to go.
    ///
    /// # Errors
    /// What a zebra has left behind cannot be removed.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let mut changed = self.events.any();
        if self.keep_until.is_some_and(|until| now >= until) {
            self.keep_until = None;
            changed = true;
        }
        if matches!(self.hold, Hold::Until(until) if now >= until) {
            self.hold = Hold::No;
            changed = true;
        }
        match self.zebra.look(now) {
            Seen::Gone => {
                self.hold = Hold::WhileGone;
                self.purge()?;
                changed = true;
            }
            Seen::New if self.hold == Hold::WhileGone => self.hold = Hold::Until(now + self.times.hold),
            Seen::Same | Seen::New => {}
            Seen::Other => {
                self.hold = Hold::Until(now + self.times.hold);
                self.purge()?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Removes what a zebra that is gone has left behind, so that what is there again later is what the next one says: of
    /// itself it would never remove a row whose route has gone meanwhile.
    fn purge(&mut self) -> Result<(), Error> {
        let mut rows = Vec::new();
        let ports: BTreeSet<u32> = self.vnis.values().map(|(devices, _)| devices.vxlan).collect();
        self.dump_rows(|row| {
            let port = row.header.ifindex;
            let Row { mac: Some(mac), destination, in_bridge } = Row::of(&row) else { return };
            if !ports.contains(&port)
                || row.header.state == NeighbourState::Permanent && destination.is_none()
            {
                return;
            }
            let mut gone = NeighbourMessage::default();
            (gone.header.family, gone.header.ifindex) = (BRIDGE_FAMILY, port);
            gone.header.flags = if in_bridge { NeighbourFlags::Controller } else { NeighbourFlags::Own };
            gone.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
            gone.attributes.extend(destination.map(|ip| NeighbourAttribute::Destination(ip.into())));
            rows.push(gone);
        })?;
        let bridges: BTreeSet<u32> = self.vnis.values().map(|(devices, _)| devices.bridge).collect();
        self.dump_hosts(|HostRow { bridge, ip, host, is_zebras }| {
            if is_zebras && bridges.contains(&bridge) {
                rows.push(host_row(bridge, ip, host));
            }
        })?;
        for row in rows {
            self.remove(row, "removing what zebra has left")?;
        }
        Ok(())
    }

    fn remove(&mut self, row: NeighbourMessage, what: &str) -> Result<(), Error> {
        match self.netlink.request(RouteNetlinkMessage::DelNeighbour(row), 0, what) {
            // Zebra was quicker.
            Err(Error::Refused { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Reads the kernel's side, announces and withdraws there what the switch's side says, and returns what the switch
    /// has to do. VNIs that `switch` does not name count as empty.
    ///
    /// # Errors
    /// The kernel's tables cannot be read, or a row was refused. The next call tries again.
    pub fn sync(&mut self, switch: &BTreeMap<u32, Switch>) -> Result<BTreeMap<u32, Down>, Error> {
        let mut kernel = self.read()?;
        self.no_ipv6 = false;
        let now = Instant::now();
        let keep = Keep {
            announced: self.keep_until.is_some_and(|until| now < until),
            routes: self.hold != Hold::No,
        };
        let (mut downs, mut ups) = (BTreeMap::new(), Vec::new());
        let (nothing, no_rows) = (Switch::default(), Kernel::default());
        for (vni, (devices, table)) in &mut self.vnis {
            let rows = kernel.remove(vni);
            let rows = rows.as_ref().unwrap_or(&no_rows);
            let (down, up) = table.reconcile(switch.get(vni).unwrap_or(&nothing), rows, keep, now);
            if !down.is_empty() {
                downs.insert(*vni, down);
            }
            ups.push((*devices, up));
        }
        let mut hosts = Vec::new();
        for (devices, Up { announce, withdraw, hosts: of_vni }) in ups {
            let port = devices.advertise;
            hosts.push((devices.bridge, of_vni));
            for (mac, sticky) in announce {
                let row = RouteNetlinkMessage::NewNeighbour(row(port, mac, sticky));
                self.netlink.request(row, NLM_F_CREATE | NLM_F_REPLACE, &format!("announcing {mac}"))?;
            }
            for mac in withdraw {
                self.remove(row(port, mac, false), &format!("withdrawing {mac}"))?;
            }
        }
        // Afterwards: zebra takes an address for that of a local host whose MAC address it knows to be local.
        for (bridge, HostChanges { forget, put }) in hosts {
            for ip in forget {
                let nobody = Host { mac: MacAddr([0; 6]), router: false };
                self.remove(host_row(bridge, ip, nobody), &format!("withdrawing {ip}"))?;
            }
            for (ip, host) in put {
                let row = RouteNetlinkMessage::NewNeighbour(host_row(bridge, ip, host));
                let put =
                    self.netlink.request(row, NLM_F_CREATE | NLM_F_REPLACE, &format!("announcing {ip}"));
                match put {
                    Err(Error::Refused { error, .. })
                        if ip.is_ipv6() && error.kind() == std::io::ErrorKind::InvalidInput =>
                    {
                        self.no_ipv6 = true;
                    }
                    other => other?,
                }
            }
        }
        Ok(downs)
    }

    /// The neighbours of all devices of the namespace that somebody has put: zebra or we.
    fn dump_hosts(&mut self, mut each: impl FnMut(HostRow)) -> Result<(), Error> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            let request = RouteNetlinkMessage::GetNeighbour(request);
            self.netlink.dump(request, "reading neighbours", |message| {
                if let RouteNetlinkMessage::NewNeighbour(row) = message
                    && let Some(row) = HostRow::of(&row)
                {
                    each(row);
                }
            })?;
        }
        Ok(())
    }

    /// All forwarding databases of the namespace.
    fn dump_rows(&mut self, mut each: impl FnMut(NeighbourMessage)) -> Result<(), Error> {
        let mut request = NeighbourMessage::default();
        request.header.family = BRIDGE_FAMILY;
        let request = RouteNetlinkMessage::GetNeighbour(request);
        self.netlink.dump(request, "reading forwarding databases", |message| {
            if let RouteNetlinkMessage::NewNeighbour(row) = message {
                each(row);
            }
        })
    }

    /// All rows of all shadows.
    fn read(&mut self) -> Result<BTreeMap<u32, Kernel>, Error> {
        let by_vxlan: HashMap<u32, u32> = self.vnis.iter().map(|(vni, (d, _))| (d.vxlan, *vni)).collect();
        let by_port: HashMap<u32, u32> = self.vnis.iter().map(|(vni, (d, _))| (d.advertise, *vni)).collect();
        let mut tables: BTreeMap<u32, Kernel> = BTreeMap::new();
        let mut destinations: HashMap<(u32, MacAddr), IpAddr> = HashMap::new();
        let mut remotes: Vec<(u32, MacAddr, bool)> = Vec::new();
        self.dump_rows(|row| {
            let port = row.header.ifindex;
            let Row { mac: Some(mac), destination, in_bridge } = Row::of(&row) else { return };
            let is_entry = in_bridge && row.header.state != NeighbourState::Permanent;
            let sticky = row.header.flags.contains(NeighbourFlags::Sticky);
            if let Some(vni) = by_port.get(&port) {
                if is_entry {
                    tables.entry(*vni).or_default().local.insert(mac, sticky);
                }
            } else if let Some(vni) = by_vxlan.get(&port) {
                match destination {
                    Some(vtep) if mac == MacAddr([0; 6]) => {
                        tables.entry(*vni).or_default().flood.insert(vtep);
                    }
                    Some(vtep) => {
                        destinations.insert((*vni, mac), vtep);
                    }
                    None if is_entry => remotes.push((*vni, mac, sticky)),
                    None => {}
                }
            }
        })?;
        // The bridge's row says that the MAC address is remote, the vxlan device's where: one of the latter alone is
        // what stays behind when a host comes here.
        for (vni, mac, sticky) in remotes {
            if let Some(vtep) = destinations.get(&(vni, mac)) {
                tables.entry(vni).or_default().remote.insert(mac, Remote { vtep: *vtep, sticky });
            }
        }
        let by_bridge: HashMap<u32, u32> =
            self.vnis.iter().map(|(vni, (devices, _))| (devices.bridge, *vni)).collect();
        self.dump_hosts(|HostRow { bridge, ip, host, is_zebras }| {
            if let Some(vni) = by_bridge.get(&bridge) {
                let Hosts { local, remote, .. } = &mut tables.entry(*vni).or_default().hosts;
                (if is_zebras { remote } else { local }).insert(ip, host);
            }
        })?;
        Ok(tables)
    }
}

/// A neighbour of a bridge.
struct HostRow {
    bridge: u32,
    ip: IpAddr,
    host: Host,
    is_zebras: bool,
}

/// What [`host_row`] puts is known by this; zebra's own rows by `RTPROT_ZEBRA`.
const OURS: RouteProtocol = RouteProtocol::Static;

impl HostRow {
    /// `None` for what the kernel has put itself.
    fn of(message: &NeighbourMessage) -> Option<HostRow> {
        let (mut address, mut mac, mut protocol) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(destination) => address = ip(destination),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(MacAddr);
                }
                NeighbourAttribute::Protocol(of) => protocol = Some(*of),
                _ => {}
            }
        }
        let is_zebras = match protocol? {
            RouteProtocol::Zebra => true,
            protocol if protocol == OURS => false,
            _ => return None,
        };
        let router = message.header.flags.contains(NeighbourFlags::Router);
        let host = Host { mac: mac?, router };
        Some(HostRow { bridge: message.header.ifindex, ip: address?, host, is_zebras })
    }
}

/// A neighbour of the bridge. A permanent one: the kernel collects others when there are many.
fn host_row(bridge: u32, ip: IpAddr, host: Host) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = bridge;
    message.header.state = NeighbourState::Permanent;
    if host.router {
        message.header.flags = NeighbourFlags::Router;
    }
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    if !host.mac.is_zero() {
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(host.mac.0.to_vec()));
    }
    message.attributes.push(NeighbourAttribute::Protocol(OURS));
    message
}

/// What counts of a row.
struct Row {
    mac: Option<MacAddr>,
    destination: Option<IpAddr>,
    in_bridge: bool,
}

impl Row {
    fn of(message: &NeighbourMessage) -> Row {
        let mut row = Row { mac: None, destination: None, in_bridge: false };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    row.mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(MacAddr);
                }
                NeighbourAttribute::Destination(address) => row.destination = ip(address),
                NeighbourAttribute::Controller(_) => row.in_bridge = true,
                _ => {}
            }
        }
        row
    }
}

fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(&bytes[..])
            .map(|bytes| Ipv4Addr::from(bytes).into())
            .or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(|bytes| Ipv6Addr::from(bytes).into()))
            .ok(),
        _ => None,
    }
}

/// A static row of the bridge on the advertise port.
fn row(port: u32, mac: MacAddr, sticky: bool) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = BRIDGE_FAMILY;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    if sticky {
        message.header.flags |= NeighbourFlags::Sticky;
    }
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}
