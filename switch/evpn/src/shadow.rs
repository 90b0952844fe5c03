//! The shadow of all VNIs in one network namespace.

use crate::devices::{self, BRIDGE_FAMILY, Devices};
use crate::netlink::{self, Error, Events, Netlink};
use crate::table::{Down, Kernel, Remote, Switch, Table, Up};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};
use wire::addr::MacAddr;

/// `RTNLGRP_NEIGH`: changes of forwarding databases.
const GROUP_NEIGHBOUR: u32 = 3;

/// The shadow devices, and what was done with them.
#[derive(Debug)]
pub struct Shadow {
    netlink: Netlink,
    events: Events,
    vnis: BTreeMap<u32, (Devices, Table)>,
    /// Until when rows of an earlier process are kept; `None` when that time is over.
    keep_until: Option<Instant>,
}

impl Shadow {
    /// The shadow in a network namespace, or in ours. For the time `keep`, MAC addresses stay announced that an earlier
    /// process has announced.
    ///
    /// # Errors
    /// No such namespace, no permission.
    pub fn open(netns: Option<&str>, keep: Duration) -> Result<Shadow, Error> {
        let (netlink, events) = netlink::open(netns, GROUP_NEIGHBOUR)?;
        Ok(Shadow { netlink, events, vnis: BTreeMap::new(), keep_until: Some(Instant::now() + keep) })
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
        let there: Vec<u32> = devices::shadows(links.keys()).collect();
        for vni in there {
            let right = devices::find(vni, &links)
                .is_some_and(|devices| wanted.get(&vni).is_some_and(|local| *local == devices.local));
            if !right {
                outcome = outcome.and(devices::remove(&mut self.netlink, vni, &links));
                links = devices::links(&mut self.netlink)?;
                self.vnis.remove(&vni);
                changed = true;
            }
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

    /// Whether the kernel's side may have changed since the last call, or rows of an earlier process are to go.
    pub fn changed(&mut self) -> bool {
        let is_over = self.keep_until.is_some_and(|until| Instant::now() >= until);
        if is_over {
            self.keep_until = None;
        }
        self.events.any() || is_over
    }

    /// Reads the kernel's side, announces and withdraws there what the switch's side says, and returns what the switch
    /// has to do. VNIs that `switch` does not name count as empty.
    ///
    /// # Errors
    /// The kernel's tables cannot be read, or a row was refused. The next call tries again.
    pub fn sync(&mut self, switch: &BTreeMap<u32, Switch>) -> Result<BTreeMap<u32, Down>, Error> {
        let mut kernel = self.read()?;
        let keep = self.keep_until.is_some_and(|until| Instant::now() < until);
        let (mut downs, mut ups) = (BTreeMap::new(), Vec::new());
        let (nothing, no_rows) = (Switch::default(), Kernel::default());
        for (vni, (devices, table)) in &mut self.vnis {
            let rows = kernel.remove(vni);
            let rows = rows.as_ref().unwrap_or(&no_rows);
            let (down, up) = table.reconcile(switch.get(vni).unwrap_or(&nothing), rows, keep);
            if !down.is_empty() {
                downs.insert(*vni, down);
            }
            ups.push((devices.advertise, up));
        }
        for (port, Up { announce, withdraw }) in ups {
            for mac in announce {
                let row = RouteNetlinkMessage::NewNeighbour(row(port, mac));
                self.netlink.request(row, NLM_F_CREATE | NLM_F_REPLACE, &format!("announcing {mac}"))?;
            }
            for mac in withdraw {
                let row = RouteNetlinkMessage::DelNeighbour(row(port, mac));
                match self.netlink.request(row, 0, &format!("withdrawing {mac}")) {
                    // Zebra was quicker.
                    Err(Error::Refused { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(downs)
    }

    /// All rows of all shadows.
    fn read(&mut self) -> Result<BTreeMap<u32, Kernel>, Error> {
        let mut request = NeighbourMessage::default();
        request.header.family = BRIDGE_FAMILY;
        let by_vxlan: HashMap<u32, u32> = self.vnis.iter().map(|(vni, (d, _))| (d.vxlan, *vni)).collect();
        let by_port: HashMap<u32, u32> = self.vnis.iter().map(|(vni, (d, _))| (d.advertise, *vni)).collect();
        let mut tables: BTreeMap<u32, Kernel> = BTreeMap::new();
        let mut destinations: HashMap<(u32, MacAddr), IpAddr> = HashMap::new();
        let mut remotes: Vec<(u32, MacAddr, bool)> = Vec::new();
        self.netlink.dump(
            RouteNetlinkMessage::GetNeighbour(request),
            "reading forwarding databases",
            |message| {
                let RouteNetlinkMessage::NewNeighbour(row) = message else { return };
                let port = row.header.ifindex;
                let Row { mac: Some(mac), destination, in_bridge } = Row::of(&row) else { return };
                if let Some(vni) = by_port.get(&port) {
                    if in_bridge && row.header.state != NeighbourState::Permanent {
                        tables.entry(*vni).or_default().local.insert(mac);
                    }
                } else if let Some(vni) = by_vxlan.get(&port) {
                    if let Some(destination) = destination {
                        if mac == MacAddr([0; 6]) {
                            tables.entry(*vni).or_default().flood.insert(destination);
                        } else {
                            destinations.insert((*vni, mac), destination);
                        }
                    } else if in_bridge && row.header.state != NeighbourState::Permanent {
                        remotes.push((*vni, mac, row.header.flags.contains(NeighbourFlags::Sticky)));
                    }
                }
            },
        )?;
        // The bridge's row says that the MAC address is remote, the vxlan device's where: one of the latter alone is
        // what stays behind when a host comes here.
        for (vni, mac, sticky) in remotes {
            if let Some(vtep) = destinations.get(&(vni, mac)) {
                tables.entry(vni).or_default().remote.insert(mac, Remote { vtep: *vtep, sticky });
            }
        }
        Ok(tables)
    }
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
fn row(port: u32, mac: MacAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = BRIDGE_FAMILY;
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message
}
