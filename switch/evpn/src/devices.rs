//! The shadow devices of a VNI.

use crate::netlink::{Error, Netlink};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// UDP port of the shadow's socket: not the real one, which the kernel would claim.
const SHADOW_PORT: u16 = 14789;

/// Group of devices that are about to be deleted: a number that nobody else uses.
const LEAVING: u32 = 0x7678_736c;
/// VNIs whose devices are deleted at once: the kernel does nothing else with devices meanwhile.
const AT_ONCE: usize = 128;

/// The devices' interface numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Devices {
    /// The VTEP's address that zebra reads.
    pub local: Ipv4Addr,
    /// The bridge, whose neighbour table announces host addresses.
    pub bridge: u32,
    /// The `vxlan` device.
    pub vxlan: u32,
    /// The port on which local MAC addresses stand.
    pub advertise: u32,
}

fn bridge(vni: u32) -> String {
    format!("vxsbr{vni}")
}

fn vxlan(vni: u32) -> String {
    format!("vxsvx{vni}")
}

fn advertise(vni: u32) -> String {
    format!("vxsad{vni}")
}

fn peer(vni: u32) -> String {
    format!("vxsap{vni}")
}

/// All links that there are, by name: their numbers and, of a `vxlan` device, the VTEP's address.
pub fn links(netlink: &mut Netlink) -> Result<BTreeMap<String, (u32, Option<Ipv4Addr>)>, Error> {
    let mut links = BTreeMap::new();
    netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), "reading links", |message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return };
        let mut local = None;
        let mut name = None;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Data(InfoData::Vxlan(data)) = info {
                            local = data.iter().find_map(|one| match one {
                                InfoVxlan::Local(ip) => Some(*ip),
                                _ => None,
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(name) = name {
            links.insert(name, (link.header.index, local));
        }
    })?;
    Ok(links)
}

/// The VNIs whose shadow (or a part of it) is there.
pub fn shadows<'a>(links: impl Iterator<Item = &'a String>) -> impl Iterator<Item = u32> {
    links.filter_map(|name| name.strip_prefix("vxsbr").or_else(|| name.strip_prefix("vxsvx"))?.parse().ok())
}

fn link(name: &str, attributes: Vec<LinkAttribute>, up: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(attributes);
    message
}

/// No addresses of its own: what the devices say for themselves would be announced.
fn silent() -> LinkAttribute {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])])
}

fn kind(kind: InfoKind, data: InfoData) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
}

impl Netlink {
    fn make(&mut self, name: &str, attributes: Vec<LinkAttribute>) -> Result<(), Error> {
        let message = RouteNetlinkMessage::NewLink(link(name, attributes, false));
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, &format!("making {name}"))
    }

    fn set(&mut self, name: &str, attributes: Vec<LinkAttribute>, up: bool) -> Result<(), Error> {
        let message = RouteNetlinkMessage::SetLink(link(name, attributes, up));
        self.request(message, 0, &format!("setting up {name}"))
    }

    /// The number of a device; 0, which no device has, when there is none.
    fn index(&mut self, name: &str) -> Result<u32, Error> {
        let mut index = 0;
        let message = RouteNetlinkMessage::GetLink(link(name, Vec::new(), false));
        self.get(message, &format!("reading {name}"), |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                index = link.header.index;
            }
        })?;
        Ok(index)
    }

    fn set_group(&mut self, index: u32, group: u32, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Group(group));
        self.request(RouteNetlinkMessage::SetLink(message), 0, &format!("grouping {name}"))
    }

    /// Deletes all devices of a group at once.
    fn delete_group(&mut self, group: u32) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        self.request(RouteNetlinkMessage::DelLink(message), 0, "deleting devices")
    }
}

/// Makes the devices of a VNI. Nothing of them may be there.
pub fn make(netlink: &mut Netlink, vni: u32, local: Ipv4Addr) -> Result<(), Error> {
    let (bridge, vxlan, advertise, peer) = (bridge(vni), vxlan(vni), advertise(vni), peer(vni));
    let data = InfoData::Bridge(vec![InfoBridge::ForwardDelay(0)]);
    netlink.make(&bridge, vec![kind(InfoKind::Bridge, data)])?;
    netlink.set(&bridge, vec![silent()], false)?;
    let data = InfoData::Vxlan(vec![
        InfoVxlan::Id(vni),
        InfoVxlan::Local(local),
        InfoVxlan::Learning(false),
        InfoVxlan::Port(SHADOW_PORT),
    ]);
    netlink.make(&vxlan, vec![kind(InfoKind::Vxlan, data)])?;
    let data = InfoData::Veth(InfoVeth::Peer(link(&peer, Vec::new(), false)));
    netlink.make(&advertise, vec![kind(InfoKind::Veth, data)])?;
    let index = netlink.index(&bridge)?;
    let quiet = LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![
            InfoBridgePort::Learning(false),
            InfoBridgePort::UnicastFlood(false),
            InfoBridgePort::MulticastFlood(false),
            InfoBridgePort::BroadcastFlood(false),
        ])),
    ]);
    // The vxlan device first: zebra takes no MAC address on a bridge whose VNI it does not know.
    for name in [&vxlan, &advertise] {
        netlink.set(name, vec![silent(), LinkAttribute::Controller(index)], false)?;
        netlink.set(name, vec![quiet.clone()], false)?;
    }
    netlink.set(&peer, vec![silent()], true)?;
    for name in [&bridge, &vxlan, &advertise] {
        netlink.set(name, Vec::new(), true)?;
    }
    Ok(())
}

/// Removes what there is of these VNIs' devices, and takes them out of `links`.
///
/// For each request to delete the kernel waits until nobody uses what it deletes, some 10 ms for a device; so those that go
/// are made a group, and a group is deleted at once.
pub fn remove(
    netlink: &mut Netlink,
    vnis: &[u32],
    links: &mut BTreeMap<String, (u32, Option<Ipv4Addr>)>,
) -> Result<(), Error> {
    for some in vnis.chunks(AT_ONCE) {
        let mut any = false;
        for vni in some {
            for name in [advertise(*vni), vxlan(*vni), bridge(*vni)] {
                if let Some((index, _)) = links.remove(&name) {
                    netlink.set_group(index, LEAVING, &name)?;
                    any = true;
                }
            }
            links.remove(&peer(*vni));
        }
        if any {
            netlink.delete_group(LEAVING)?;
        }
    }
    Ok(())
}

/// The devices of a VNI, if all are there.
pub fn find(vni: u32, links: &BTreeMap<String, (u32, Option<Ipv4Addr>)>) -> Option<Devices> {
    let (vxlan, local) = *links.get(&vxlan(vni))?;
    let (advertise, _) = *links.get(&advertise(vni))?;
    let (bridge, _) = *links.get(&bridge(vni))?;
    Some(Devices { local: local?, bridge, vxlan, advertise })
}

/// What a dump of forwarding databases asks for.
pub const BRIDGE_FAMILY: AddressFamily = AddressFamily::Bridge;
