//! The desired state as types: bridges and their ports, named as in the Open_vSwitch database.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::tlv::TlvEntry;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use wire::addr::MacAddr;
use wire::tunnel::geneve::TlvMap;

use crate::settings::{DatapathSettings, DpdkSettings, Settings};
use crate::switch::{AutoLb, RxqAffinity, RxqAssign, SleepMax, auto_lb};

/// Limits and default of `other_config:mac-aging-time`, in seconds. OVS clamps to 15 to 3600; shorter times are
/// of use in tests, longer ones on quiet networks.
pub mod mac_table {
    /// Default ageing time, seconds (OVS and Linux: 300).
    pub const AGING_DEFAULT: u32 = 300;
    /// Shortest and longest ageing time, seconds.
    pub const AGING_RANGE: (u64, u64) = (1, 86_400);
    /// Default number of MACs a bridge learns. OVS has 8192; a VTEP carries more.
    pub const SIZE_DEFAULT: u32 = 262_144;
    /// Smallest and largest number of MACs a bridge learns (`other_config:mac-table-size`).
    pub const SIZE_RANGE: (u64, u64) = (10, 4_194_304);
    /// Default number of MACs a second that one port may teach.
    pub const RATE_DEFAULT: u32 = 20_000;
    /// Smallest and largest such number.
    pub const RATE_RANGE: (u64, u64) = (1, 10_000_000);
}

/// Everything the switch shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Document {
    /// `[dpdk]`: memory and rings.
    pub dpdk: DpdkSettings,
    /// `[datapath]`: limits of the workers' tables.
    pub datapath: DatapathSettings,
    /// `[other_config]`: OVS table `Open_vSwitch`, `other_config`; see [`SWITCH_OTHER_CONFIG`](crate::SWITCH_OTHER_CONFIG).
    pub other_config: BTreeMap<String, String>,
    /// `[evpn]`: what holds for bridges that do not say it themselves; see [`EVPN`](crate::EVPN).
    pub evpn: BTreeMap<String, String>,
    /// `[[bridge]]`, in the order of the file.
    #[serde(rename = "bridge")]
    pub bridges: Vec<Bridge>,
}

/// Keys of `[evpn]`, and those of a bridge's `other_config` that they stand for.
pub const EVPN: [(&str, &str); 2] = [("netns", "evpn-netns"), ("neigh-suppress", "neigh-suppress")];

/// Limits and defaults of multicast snooping.
pub mod mcast {
    /// Default ageing time of members, seconds (as in Open vSwitch).
    pub const AGING_DEFAULT: u32 = 300;
    /// Shortest and longest ageing time, seconds. OVS: 15 to 3600; shorter times are of use in tests.
    pub const AGING_RANGE: (u64, u64) = (1, 3600);
    /// Default number of groups (as in Open vSwitch).
    pub const SIZE_DEFAULT: u32 = 2048;
    /// Smallest and largest number of groups.
    pub const SIZE_RANGE: (u64, u64) = (10, 1_000_000);
}

impl Document {
    /// The global settings.
    pub fn settings(&self) -> Settings {
        Settings { dpdk: self.dpdk, datapath: self.datapath }
    }

    /// A bridge with what `[evpn]` says where the bridge itself says nothing.
    #[must_use]
    pub fn effective(&self, bridge: &Bridge) -> Bridge {
        let mut bridge = bridge.clone();
        for (key, name) in EVPN {
            if let (Some(value), false) = (self.evpn.get(key), bridge.other_config.contains_key(name)) {
                bridge.other_config.insert(name.to_owned(), value.clone());
            }
        }
        bridge
    }

    /// How long workers may sleep (`other_config:pmd-sleep-max`).
    pub fn sleep_max(&self) -> SleepMax {
        self.other_config.get("pmd-sleep-max").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// How RX queues are shared out when they are rebalanced (`other_config:pmd-rxq-assign`).
    pub fn rxq_assign(&self) -> RxqAssign {
        self.other_config.get("pmd-rxq-assign").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Whether a worker with an RX queue of its own by `pmd-rxq-affinity` has no others (`other_config:pmd-rxq-isolate`,
    /// default yes).
    pub fn rxq_isolate(&self) -> bool {
        self.other_config.get("pmd-rxq-isolate").is_none_or(|text| text != "false")
    }

    /// Directory of the sockets that the switch makes, within the run directory (`other_config:vhost-sock-dir`).
    pub fn vhost_sock_dir(&self) -> &str {
        self.other_config.get("vhost-sock-dir").map_or("", String::as_str)
    }

    /// When RX queues are rebalanced automatically (`other_config:pmd-auto-lb`); `None`: never.
    pub fn auto_lb(&self) -> Option<AutoLb> {
        auto_lb(&self.other_config)
    }

    /// The bridge of that name.
    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The bridge of that name, to edit.
    pub fn bridge_mut(&mut self, name: &str) -> Option<&mut Bridge> {
        self.bridges.iter_mut().find(|bridge| bridge.name == name)
    }

    /// The port of that name and its bridge. A bridge's LOCAL port is not among them.
    pub fn port(&self, name: &str) -> Option<(&Bridge, &Port)> {
        self.ports().find(|(_, port)| port.name == name)
    }

    /// The port of that name, to edit.
    pub fn port_mut(&mut self, name: &str) -> Option<&mut Port> {
        self.bridges.iter_mut().flat_map(|bridge| &mut bridge.ports).find(|port| port.name == name)
    }

    /// The mirror of that name and its bridge; of several the first.
    pub fn mirror(&self, name: &str) -> Option<(&Bridge, &Mirror)> {
        let mirrors = |bridge: &'_ Bridge| bridge.mirrors.iter().position(|mirror| mirror.name == name);
        self.bridges.iter().find_map(|bridge| Some((bridge, &bridge.mirrors[mirrors(bridge)?])))
    }

    /// All ports with their bridges.
    pub fn ports(&self) -> impl Iterator<Item = (&Bridge, &Port)> {
        self.bridges.iter().flat_map(|bridge| bridge.ports.iter().map(move |port| (bridge, port)))
    }
}

/// A bridge: OVS table `Bridge`, with the addresses that the host's kernel holds for OVS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bridge {
    /// Name, 1 to 15 characters; also the name of the bridge's LOCAL port.
    pub name: String,
    /// What happens to a packet that no rule matches.
    pub fail_mode: FailMode,
    /// OVS `mcast_snooping_enable`: packets to multicast groups go to their members.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mcast_snooping_enable: bool,
    /// MAC of the bridge. `None`: `other_config:hwaddr`, or derived; see [`Bridge::mac`].
    #[serde(with = "mac_text_option", skip_serializing_if = "Option::is_none")]
    pub hwaddr: Option<MacAddr>,
    /// `Port` `tag` of the LOCAL port: the VLAN that the bridge's own addresses are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<u16>,
    /// `Interface` `mtu_request` of the LOCAL port's device; only with `addresses_from = "kernel"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Where addresses, routes and their neighbours come from.
    pub addresses_from: AddressesFrom,
    /// Addresses of the LOCAL port with their prefix lengths; a bridge that has one is an underlay, and these
    /// are the VTEP's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<IpNet>,
    /// Routes out of this bridge besides those to its own networks.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Static neighbours.
    #[serde(rename = "neighbour", skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// Static FDB entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<StaticMac>,
    /// Rules in `ovs-ofctl add-flow` syntax.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<String>,
    /// Groups in `ovs-ofctl add-group` syntax.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Meters in `ovs-ofctl add-meter` syntax.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<String>,
    /// Which Geneve options are which `tun_metadata` fields, in `ovs-ofctl add-tlv-map` syntax.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tlv_map: Vec<String>,
    /// Mirrors.
    #[serde(rename = "mirror", skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Ports, in the order of the file.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// OVS `other_config`: `mac-aging-time`, `mac-table-size`, `mac-port-limit`, `mac-learning-rate`, `hwaddr`,
    /// `datapath-id`, `dp-desc`, `dp-sn`, `forward-bpdu`, `evpn-netns`, `neigh-suppress`, `mcast-snooping-table-size`, `mcast-snooping-aging-time`,
    /// `mcast-snooping-disable-flood-unregistered`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
    /// OVS `external_ids`: for who configures the switch, which does not look at them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
}

impl Bridge {
    /// An empty bridge.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Whether its LOCAL port is a network device of the kernel, which has its addresses.
    pub fn has_device(&self) -> bool {
        self.addresses_from == AddressesFrom::Kernel
    }

    /// The configured MAC: `hwaddr`, else `other_config:hwaddr`. `None` lets the switch derive one.
    pub fn mac(&self) -> Option<MacAddr> {
        self.hwaddr.or_else(|| self.other_config.get("hwaddr")?.parse().ok())
    }

    /// Its number as controllers know it (`other_config:datapath-id`); `None`: its MAC address.
    pub fn datapath_id(&self) -> Option<u64> {
        crate::validate::datapath_id(self.other_config.get("datapath-id")?)
    }

    /// What it is, for people (`other_config:dp-desc`).
    pub fn dp_desc(&self) -> Option<&str> {
        self.other_config.get("dp-desc").map(String::as_str)
    }

    /// Its serial number (`other_config:dp-sn`).
    pub fn dp_sn(&self) -> Option<&str> {
        self.other_config.get("dp-sn").map(String::as_str)
    }

    /// Seconds after which a learned MAC that was not seen goes (`other_config:mac-aging-time`).
    pub fn mac_aging_time(&self) -> u32 {
        self.number("mac-aging-time", mac_table::AGING_DEFAULT)
    }

    /// Most MACs that the bridge learns (`other_config:mac-table-size`).
    pub fn mac_table_size(&self) -> u32 {
        self.number("mac-table-size", mac_table::SIZE_DEFAULT)
    }

    /// Most MACs that one port of the bridge has learned (`other_config:mac-port-limit`, ours); all unless set.
    pub fn mac_port_limit(&self) -> u32 {
        self.number("mac-port-limit", self.mac_table_size())
    }

    /// Most MACs a second that one port of the bridge teaches (`other_config:mac-learning-rate`, ours).
    pub fn mac_learning_rate(&self) -> u32 {
        self.number("mac-learning-rate", mac_table::RATE_DEFAULT)
    }

    /// [`Self::tlv_map`] as a value; what is wrong in it is left out.
    pub fn tlvs(&self) -> TlvMap {
        let mut map = TlvMap::EMPTY;
        for entry in self.tlv_map.iter().filter_map(|text| TlvEntry::parse(text).ok()) {
            let _ = entry.add_to(&mut map);
        }
        map
    }

    /// Whether frames to 01:80:c2:00:00:0x are forwarded (`other_config:forward-bpdu`, default no).
    pub fn forward_bpdu(&self) -> bool {
        self.other_config.get("forward-bpdu").is_some_and(|text| text == "true")
    }

    /// Network namespace that FRR runs in (`other_config:evpn-netns`, ours); `None`: that of the switch.
    pub fn evpn_netns(&self) -> Option<&str> {
        self.other_config.get("evpn-netns").map(String::as_str)
    }

    /// Whether questions for hosts are kept from its tunnel ports (`other_config:neigh-suppress`, ours); `None`: from those
    /// whose remotes come from EVPN.
    pub fn neigh_suppress(&self) -> Option<bool> {
        self.other_config.get("neigh-suppress").map(|text| text == "true")
    }

    /// Most multicast groups that the bridge knows members of (`other_config:mcast-snooping-table-size`).
    pub fn mcast_table_size(&self) -> u32 {
        self.number("mcast-snooping-table-size", mcast::SIZE_DEFAULT)
    }

    /// Seconds that a member of a multicast group is one after its last report (`other_config:mcast-snooping-aging-time`).
    pub fn mcast_aging_time(&self) -> u32 {
        self.number("mcast-snooping-aging-time", mcast::AGING_DEFAULT)
    }

    /// Whether packets to multicast groups that nobody has joined are flooded
    /// (`other_config:mcast-snooping-disable-flood-unregistered`, default yes).
    pub fn mcast_flood_unregistered(&self) -> bool {
        self.other_config.get("mcast-snooping-disable-flood-unregistered").is_none_or(|text| text != "true")
    }

    fn number(&self, key: &str, default: u32) -> u32 {
        self.other_config.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

/// A mirror: OVS table `Mirror`. Ports by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// Name, unique in its bridge.
    pub name: String,
    /// Every packet that enters or leaves by any port.
    pub select_all: bool,
    /// Packets that enter by these ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select_src_port: Vec<String>,
    /// Packets that leave by these ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select_dst_port: Vec<String>,
    /// Of what the others select only packets in these VLANs; empty: all. Alone it selects nothing, as in Open vSwitch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub select_vlan: Vec<u16>,
    /// Port that the copies leave by; it carries nothing else. This or `output_vlan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_port: Option<String>,
    /// VLAN that the copies are flooded in (RSPAN). This or `output_port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_vlan: Option<u16>,
}

/// A route: packets to `to` leave through the bridge, by way of `via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination network; `0.0.0.0/0` and `::/0` are the default routes.
    pub to: IpNet,
    /// Next hop, on one of the bridge's networks; `None`: the destination itself is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
}

/// A static neighbour (ARP or ND entry that is not resolved and does not age).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its address, on one of the bridge's networks where the bridge has any. Where it has none, `neigh-suppress` answers
    /// with it.
    pub ip: IpAddr,
    /// Its MAC.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Its VLAN, on a bridge without addresses; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vlan: u16,
}

/// A static FDB entry: it is not learned, does not age and does not move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticMac {
    /// The station's address.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Its VLAN; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub vlan: u16,
    /// The port, of this bridge, that leads to it.
    pub port: String,
    /// The VTEP behind a tunnel port; may be left out where the port has one remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(vlan: &u16) -> bool {
    *vlan == 0
}

/// A port with its one interface: OVS tables `Port` and `Interface`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// Name, 1 to 31 characters, unique in the switch.
    pub name: String,
    /// `Interface` `type`, as written; [`Port::port_kind`] is its typed form. Empty: not given.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Interface` `options`; see [`TunnelOptions`](crate::TunnelOptions), [`DpdkOptions`](crate::DpdkOptions),
    /// [`TapOptions`](crate::TapOptions) and [`PatchOptions`](crate::PatchOptions).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// `Port` `tag`: access VLAN, or the native VLAN with `native-*` modes. 0 to 4095.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<u16>,
    /// `Port` `trunks`: VLANs that a trunk carries. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<u16>,
    /// `Port` `vlan_mode` as written; [`Port::effective_vlan_mode`] is what holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_mode: Option<VlanMode>,
    /// `Port` `cvlans`: customer VLANs that a `dot1q-tunnel` port takes. Empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cvlans: Vec<u16>,
    /// `Port` `other_config`: `qinq-ethtype`, `priority-tags`, `neigh-suppress`, `mcast-snooping-flood`, `mcast-snooping-flood-reports`; and that of its `Interface`:
    /// [`INTERFACE_OTHER_CONFIG`](crate::INTERFACE_OTHER_CONFIG).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other_config: BTreeMap<String, String>,
    /// `Interface` `mtu_request`: largest Ethernet payload in bytes. 68 to 9702.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// `Interface` `mac`: address of an `internal` port's kernel device. `None`: the driver makes one up.
    #[serde(with = "mac_text_option", skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// `Interface` `ofport_request`: OpenFlow port number, 1 to 65279.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ofport_request: Option<u16>,
    /// `Interface` `bfd`; see [`BfdOptions`](crate::BfdOptions).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bfd: BTreeMap<String, String>,
    /// `Interface` `external_ids`: for who configures the switch, which does not look at them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_ids: BTreeMap<String, String>,
    /// `Port` `external_ids`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub port_external_ids: BTreeMap<String, String>,
}

impl Port {
    /// Its BFD session, if it has one and the settings are good.
    pub fn bfd(&self) -> Option<crate::BfdOptions> {
        crate::BfdOptions::parse(&self.bfd).ok().flatten()
    }

    /// The typed form of `type`.
    pub fn port_kind(&self) -> Result<PortKind, UnknownName> {
        self.kind.parse()
    }

    /// The VLAN mode that holds: `vlan_mode`, or as in OVS `access` with a `tag` and `trunk` without one.
    pub fn effective_vlan_mode(&self) -> VlanMode {
        self.vlan_mode.unwrap_or(if self.tag.is_some() { VlanMode::Access } else { VlanMode::Trunk })
    }

    /// EtherType of the tag that a `dot1q-tunnel` port puts in front (`other_config:qinq-ethtype`, default 802.1ad).
    pub fn qinq_ethtype(&self) -> u16 {
        if self.other_config.get("qinq-ethtype").is_some_and(|text| text == "802.1q") {
            0x8100
        } else {
            0x88a8
        }
    }

    /// Whether it gets every multicast packet on a bridge that snoops (`other_config:mcast-snooping-flood`).
    pub fn mcast_flood(&self) -> bool {
        self.other_config.get("mcast-snooping-flood").is_some_and(|text| text == "true")
    }

    /// Whether it gets every membership report on a bridge that snoops (`other_config:mcast-snooping-flood-reports`).
    pub fn mcast_flood_reports(&self) -> bool {
        self.other_config.get("mcast-snooping-flood-reports").is_some_and(|text| text == "true")
    }

    /// Whether questions for hosts are kept from the port (`other_config:neigh-suppress`, ours); `None`: as its bridge says.
    pub fn neigh_suppress(&self) -> Option<bool> {
        self.other_config.get("neigh-suppress").map(|text| text == "true")
    }

    /// Lcores that shall poll single RX queues (`other_config:pmd-rxq-affinity` of the interface).
    pub fn rxq_affinity(&self) -> RxqAffinity {
        self.other_config.get("pmd-rxq-affinity").and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Whether frames leave with a tag for VLAN 0 (`other_config:priority-tags`, default never).
    pub fn priority_tags(&self) -> PriorityTags {
        let text = self.other_config.get("priority-tags").map_or("", String::as_str);
        text.parse().unwrap_or(PriorityTags::Never)
    }
}

/// The text is none of the names known at this place; the message lists them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is unknown, expected {expected}")]
pub struct UnknownName {
    /// What was found.
    pub found: String,
    /// The known names, as prose.
    pub expected: &'static str,
}

/// Names an enum's variants in text; used for files, JSON and commands alike.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $expected:literal, { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// The name as files and commands spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownName { found: text.to_owned(), expected: $expected }),
                }
            }
        }
    };
}

named! {
    /// `Interface` `type`: what kind of port it is.
    PortKind, "dpdk, dpdkvhostuserclient, dpdkvhostuser, tap, system, vxlan, geneve, gre, ip6gre, internal or patch", {
        /// A DPDK ethdev, by `options:dpdk-devargs`.
        Dpdk = "dpdk",
        /// A virtual machine, by the socket `options:vhost-server-path`.
        DpdkVhostUserClient = "dpdkvhostuserclient",
        /// A virtual machine, by a socket that the switch makes, named as the port.
        DpdkVhostUser = "dpdkvhostuser",
        /// A tap of the kernel named as the port, with offloads.
        Tap = "tap",
        /// A network device of the kernel named as the port, which is there already: a veth's end, or a NIC of the kernel's.
        System = "system",
        /// A VXLAN tunnel.
        Vxlan = "vxlan",
        /// A Geneve tunnel.
        Geneve = "geneve",
        /// A GRE tunnel over IPv4 or IPv6.
        Gre = "gre",
        /// A GRE tunnel over IPv6.
        Ip6gre = "ip6gre",
        /// A kernel network device (a tap) named as the port.
        Internal = "internal",
        /// One end of a pair that joins two bridges, by `options:peer`.
        Patch = "patch",
    }
}

impl PortKind {
    /// The tunnel type, of a tunnel port.
    pub fn tunnel_type(self) -> Option<&'static wire::tunnel::TunnelType> {
        wire::tunnel::tunnel_type(self.as_str())
    }
}

named! {
    /// `Port` `vlan_mode`.
    VlanMode, "access, trunk, native-tagged, native-untagged or dot1q-tunnel", {
        /// Carries VLAN `tag`, untagged.
        Access = "access",
        /// Carries `trunks` (all when empty), tagged.
        Trunk = "trunk",
        /// As a trunk; untagged ingress belongs to `tag`, which leaves tagged.
        NativeTagged = "native-tagged",
        /// As a trunk; untagged ingress belongs to `tag`, which leaves untagged.
        NativeUntagged = "native-untagged",
        /// Puts frames into VLAN `tag` with all their own tags (802.1ad, Q-in-Q); takes that tag off again.
        Dot1qTunnel = "dot1q-tunnel",
    }
}

named! {
    /// `Port` `other_config:priority-tags`.
    PriorityTags, "never, if-nonzero or always", {
        /// An access port's frames have no tag.
        Never = "never",
        /// They have a tag for VLAN 0 if they came with a priority.
        IfNonzero = "if-nonzero",
        /// The same, and a tag for VLAN 0 without a priority that a frame came with is kept, too.
        Always = "always",
    }
}

named! {
    /// `Bridge` `fail_mode`: what happens to a packet that no rule matches.
    FailMode, "standalone or secure", {
        /// `NORMAL`: the bridge learns and switches.
        Standalone = "standalone",
        /// The packet is dropped.
        Secure = "secure",
    }
}

// `derive(Default)` in the macro would need the variant marked in every use.
#[allow(clippy::derivable_impls)]
impl Default for FailMode {
    fn default() -> Self {
        Self::Standalone
    }
}

named! {
    /// Where a bridge's addresses, routes and neighbours come from.
    AddressesFrom, "document or kernel", {
        /// `address`, `route` and `neighbour`; the switch answers for the addresses itself.
        Document = "document",
        /// The kernel: the bridge's LOCAL port is a network device of the kernel with the bridge's name, and they are what the
        /// kernel has there, as with Open vSwitch.
        Kernel = "kernel",
    }
}

// As above.
#[allow(clippy::derivable_impls)]
impl Default for AddressesFrom {
    fn default() -> Self {
        Self::Document
    }
}

/// serde for a [`MacAddr`] as text; `wire` itself knows no serde.
mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use wire::addr::MacAddr;

    // serde's `with` passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// serde for an optional [`MacAddr`] as text.
mod mac_text_option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use wire::addr::MacAddr;

    // serde's `with` passes a reference to the field's own type.
    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match mac {
            Some(mac) => serializer.collect_str(mac),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<MacAddr>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
