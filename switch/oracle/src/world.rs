//! The state: bridges, ports, rules, groups, what was learned.

use crate::action::Action;
use crate::field::Field;
use crate::tunnel::Tunnel;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its table.
    pub table: u8,
    /// Higher wins; of two that match with the same priority the first one counts, which OpenFlow leaves open.
    pub priority: u16,
    /// Field, value, mask: all have to hold. What a field needs to mean anything is among them.
    pub matches: Vec<(Field, u128, u128)>,
    /// What to do.
    pub actions: Vec<Action>,
}

/// Kinds of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// Every bucket.
    All,
    /// One bucket, always the same for a flow.
    Select,
    /// The only bucket.
    Indirect,
    /// The first live bucket.
    FastFailover,
}

/// A bucket of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// 0: never chosen by `select`.
    pub weight: u16,
    /// OpenFlow number of the port whose link has to be up.
    pub watch_port: Option<u32>,
    /// The group that has to have a live bucket.
    pub watch_group: Option<u32>,
    /// What to do.
    pub actions: Vec<Action>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// What it does with its buckets.
    pub kind: GroupKind,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

/// `vlan_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VlanMode {
    /// One VLAN, untagged.
    Access,
    /// Tagged VLANs.
    Trunk,
    /// A trunk that takes untagged frames as of its native VLAN, which it sends tagged.
    NativeTagged,
    /// The same, sent untagged.
    NativeUntagged,
    /// Puts all frames into its VLAN with a tag more, and takes that off.
    Tunnel,
}

/// VLANs of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The mode.
    pub mode: VlanMode,
    /// Access or native VLAN.
    pub tag: u16,
    /// VLANs of a trunk; empty for all.
    pub trunks: Vec<u16>,
    /// `cvlans` of a tunnel port; empty for all.
    pub cvlans: Vec<u16>,
    /// `qinq-ethtype=802.1q`.
    pub plain_qinq: bool,
    /// `priority-tags`: 0 never, 1 if-nonzero, 2 always.
    pub priority_tags: u8,
}

impl Default for Vlan {
    fn default() -> Vlan {
        Vlan {
            mode: VlanMode::Trunk,
            tag: 0,
            trunks: Vec::new(),
            cvlans: Vec::new(),
            plain_qinq: false,
            priority_tags: 0,
        }
    }
}

/// What is behind a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A device.
    Device,
    /// Tunnels.
    Tunnel(Tunnel),
    /// The patch port of this name.
    Patch(String),
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name, unique in the world.
    pub name: String,
    /// OpenFlow number.
    pub ofport: u32,
    /// VLANs.
    pub vlan: Vlan,
    /// Whether its link is up.
    pub alive: bool,
    /// What is behind it.
    pub kind: Kind,
}

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The port.
    pub port: String,
    /// The VTEP, behind a tunnel.
    pub remote: Option<Ipv4Addr>,
    /// Static.
    pub fixed: bool,
}

/// A mirror: ports by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirror {
    /// Name.
    pub name: String,
    /// `select_all`.
    pub all: bool,
    /// `select_src_port`.
    pub src: Vec<String>,
    /// `select_dst_port`.
    pub dst: Vec<String>,
    /// `select_vlan`.
    pub vlans: Vec<u16>,
    /// `output_port`.
    pub output_port: Option<String>,
    /// `output_vlan`.
    pub output_vlan: Option<u16>,
}

impl Mirror {
    /// Whether `select_all` means a port: any but its own output.
    pub(crate) fn selects_all(&self, port: &str) -> bool {
        self.all && self.output_port.as_deref() != Some(port)
    }
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bridge {
    /// Name.
    pub name: String,
    /// Its own address.
    pub mac: Mac,
    /// `fail_mode=standalone`: NORMAL where no rule of table 0 matches.
    pub standalone: bool,
    /// VTEP addresses; the first is the source of tunnel packets.
    pub addresses: Vec<Ipv4Addr>,
    /// Next hops: every remote is on the link.
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    /// `forward-bpdu`.
    pub forward_bpdu: bool,
    /// Ports.
    pub ports: Vec<Port>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Groups.
    pub groups: Vec<Group>,
    /// Mirrors.
    pub mirrors: Vec<Mirror>,
    /// Learned and static addresses, by VLAN and address.
    pub fdb: BTreeMap<(u16, Mac), Entry>,
}

impl Bridge {
    /// The port with an OpenFlow number.
    pub fn by_number(&self, ofport: u32) -> Option<&Port> {
        self.ports.iter().find(|port| port.ofport == ofport)
    }

    /// The port of a name.
    pub fn by_name(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// Whether a port is for a mirror's copies only.
    pub fn is_mirror_output(&self, name: &str) -> bool {
        self.mirrors.iter().any(|mirror| mirror.output_port.as_deref() == Some(name))
    }

    /// Forgets what was learned on a port; static entries too where it goes away.
    pub fn forget(&mut self, port: &str, fixed_too: bool) {
        self.fdb.retain(|_, entry| entry.port != port || entry.fixed && !fixed_too);
    }
}

/// The switch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct World {
    /// Its bridges; one with addresses is the underlay.
    pub bridges: Vec<Bridge>,
}

impl World {
    /// Bridge number and port of a name.
    pub fn port(&self, name: &str) -> Option<(usize, &Port)> {
        self.bridges.iter().enumerate().find_map(|(at, bridge)| Some((at, bridge.by_name(name)?)))
    }
}
