//! Rows of the database that reach the switch.

use crate::bridge::rules::TableLimits;
use crate::control::openflow::controllers::Target;
use flow::ofp::parse_subfield;
use ovsdb::rows::{Bridge, Controller, FlowTable, Interface, Mirror, OpenVSwitch, Port};
use ovsdb::{Replica, Uuid};
use std::collections::BTreeMap;

/// Key of a bridge's `other_config` with the VTEP's addresses, as `[[bridge]] address` has them (ours). Without it the bridge is
/// a device of the kernel, which has them.
pub const ADDRESS: &str = "address";

/// The rows of the switch, its bridges, their ports and interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The switch as a whole; `None`: nobody has initialized the database.
    pub root: Option<OpenVSwitch>,
    /// Bridges, by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// Ports.
    pub ports: BTreeMap<Uuid, Port>,
    /// Interfaces.
    pub interfaces: BTreeMap<Uuid, Interface>,
    /// Mirrors.
    pub mirrors: BTreeMap<Uuid, Mirror>,
    /// Controllers.
    pub controllers: BTreeMap<Uuid, Controller>,
    /// Tables of rules.
    pub flow_tables: BTreeMap<Uuid, FlowTable>,
}

impl Rows {
    /// What the replica has.
    pub fn read(replica: &Replica) -> Rows {
        let root = OpenVSwitch::all(replica).next();
        let bridges = root.iter().flat_map(|root| &root.bridges.0);
        let bridges: BTreeMap<String, Bridge> = bridges
            .filter_map(|uuid| Bridge::find(replica, uuid))
            .map(|bridge| (bridge.name.clone(), bridge))
            .collect();
        Rows {
            ports: Port::all(replica).map(|row| (row.uuid.clone(), row)).collect(),
            interfaces: Interface::all(replica).map(|row| (row.uuid.clone(), row)).collect(),
            mirrors: Mirror::all(replica).map(|row| (row.uuid.clone(), row)).collect(),
            controllers: Controller::all(replica).map(|row| (row.uuid.clone(), row)).collect(),
            flow_tables: FlowTable::all(replica).map(|row| (row.uuid.clone(), row)).collect(),
            bridges,
            root,
        }
    }

    /// The same without what the switch itself writes: equal rows ask for the same.
    #[must_use]
    pub fn asked(&self) -> Rows {
        let mut asked = self.clone();
        if let Some(root) = &mut asked.root {
            root.cur_cfg = 0;
        }
        for bridge in asked.bridges.values_mut() {
            bridge.datapath_id = None;
        }
        for interface in asked.interfaces.values_mut() {
            (interface.ofport, interface.error) = (None, None);
        }
        asked
    }

    /// Whether somebody restores rules, and nothing is to be sent by them meanwhile (`other_config:flow-restore-wait`).
    pub fn restores(&self) -> bool {
        let wait = self.root.as_ref().and_then(|root| root.other_config.get("flow-restore-wait"));
        wait.is_some_and(|text| text == "true")
    }

    /// The ports of a bridge in an order that does not change from one look to the next: by name.
    pub fn ports_of(&self, bridge: &Bridge) -> Vec<&Port> {
        let mut ports: Vec<&Port> = bridge.ports.0.iter().filter_map(|uuid| self.ports.get(uuid)).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }

    /// The interfaces of a port.
    pub fn interfaces_of<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = &'a Interface> {
        port.interfaces.0.iter().filter_map(|uuid| self.interfaces.get(uuid))
    }

    /// The controllers of a bridge, with their targets as far as they are served.
    pub fn controllers_of<'a>(&'a self, bridge: &'a Bridge) -> impl Iterator<Item = (&'a Uuid, Target)> {
        let rows = bridge.controller.0.iter().filter_map(|uuid| self.controllers.get(uuid));
        rows.filter_map(|row| match row.target.parse() {
            Ok(target) => Some((&row.uuid, target)),
            Err(error) => {
                tracing::warn!(bridge = %bridge.name, %error, "a controller is not served");
                None
            }
        })
    }

    /// What the tables of a bridge may have. As in Open vSwitch, bits that are not known group nothing.
    pub fn limits_of(&self, bridge: &Bridge) -> BTreeMap<u8, TableLimits> {
        let limits = |(number, uuid): (&String, &String)| {
            let row = self.flow_tables.get(uuid)?;
            let limits = TableLimits {
                flow_limit: row.flow_limit.and_then(|limit| usize::try_from(limit).ok()),
                evict: row.overflow_policy.as_deref() == Some("evict"),
                groups: row.groups.iter().filter_map(|text| parse_subfield(text, &()).ok()).collect(),
            };
            Some((number.parse().ok()?, limits))
        };
        bridge.flow_tables.iter().filter_map(limits).collect()
    }

    /// The names of ports that a mirror names by their rows.
    pub fn port_names(&self, uuids: &[Uuid]) -> Vec<String> {
        uuids.iter().filter_map(|uuid| Some(self.ports.get(uuid)?.name.clone())).collect()
    }
}
