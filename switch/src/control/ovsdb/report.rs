//! What is written back to the database, as `ovs-vswitchd` does; only what differs from what was written last.

use super::document::Errors;
use super::rows::Rows;
use crate::control::openflow::controllers::Controllers;
use api::{BridgeRow, InterfaceRow};
use flow::ofp::PORT_LOCAL;
use ovsdb::{Datum, Transaction, Uuid};
use std::collections::BTreeMap;

/// Columns of a row.
type Columns = BTreeMap<&'static str, Datum>;

/// What was last written.
#[derive(Debug, Default)]
pub struct Written(BTreeMap<(&'static str, Uuid), Columns>);

impl Written {
    fn put(&mut self, transaction: &mut Transaction, table: &'static str, uuid: &str, columns: Columns) {
        let before = self.0.entry((table, uuid.to_owned())).or_default();
        let changed: Columns =
            columns.into_iter().filter(|(name, datum)| before.get(name) != Some(datum)).collect();
        if !changed.is_empty() {
            transaction.update(table, uuid, &changed);
            before.extend(changed);
        }
    }

    /// Nothing is known of what the database has: all is written next time.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether nothing has been written, or nothing is known of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds which controllers are connected.
    pub fn controllers(&mut self, transaction: &mut Transaction, rows: &Rows, controllers: &Controllers) {
        for bridge in rows.bridges.values() {
            for (uuid, target) in rows.controllers_of(bridge) {
                // As in Open vSwitch, nothing is said of who may come to a passive target.
                let is_connected = !target.is_passive() && controllers.is_connected(&bridge.name, &target);
                let state = if is_connected { "ACTIVE" } else { "BACKOFF" };
                let mut status = BTreeMap::new();
                if !target.is_passive() {
                    let last_error = controllers.last_error(&bridge.name, &target);
                    status.extend(last_error.map(|error| ("last_error", error)));
                    status.insert("state", state.to_owned());
                }
                let columns =
                    [("is_connected", Datum::boolean(is_connected)), ("status", Datum::text_map(status))];
                self.put(transaction, "Controller", uuid, columns.into());
            }
        }
    }

    /// What there is to write. Errors and `cur_cfg` go together: `ovs-vsctl` looks for the ones when it sees the other.
    /// `count`: with statistics, which need not be as new as the rest.
    pub fn differences(
        &mut self,
        rows: &Rows,
        errors: &Errors,
        bridges: &[BridgeRow],
        count: bool,
    ) -> Transaction {
        let mut transaction = Transaction::new();
        let uuids: BTreeMap<&str, &Uuid> =
            rows.interfaces.values().map(|row| (row.name.as_str(), &row.uuid)).collect();
        self.0.retain(|(table, uuid), _| match *table {
            "Interface" => rows.interfaces.contains_key(uuid),
            "Controller" => rows.controllers.contains_key(uuid),
            _ => true,
        });
        for running in bridges {
            if let Some(row) = rows.bridges.get(&running.name) {
                self.put(&mut transaction, "Bridge", &row.uuid, bridge(running));
            }
            for port in &running.ports {
                if let Some(uuid) = uuids.get(port.name.as_str()) {
                    let mut columns = interface(port, bridges, errors.get(&port.name));
                    if count {
                        columns.insert("statistics", statistics(port));
                    }
                    self.put(&mut transaction, "Interface", uuid, columns);
                }
            }
        }
        let runs = |name: &str| bridges.iter().flat_map(|bridge| &bridge.ports).any(|port| port.name == name);
        for (name, error) in errors.iter().filter(|(name, _)| !runs(name)) {
            if let Some(uuid) = uuids.get(name.as_str()) {
                self.put(&mut transaction, "Interface", uuid, failed(error));
            }
        }
        if let Some(root) = &rows.root {
            self.put(&mut transaction, "Open_vSwitch", &root.uuid, switch(root.next_cfg));
        }
        transaction
    }
}

/// An optional text.
fn text(text: Option<&str>) -> Datum {
    text.map_or_else(Datum::default, Datum::text)
}

/// An optional number.
fn number<T: TryInto<i64>>(number: Option<T>) -> Datum {
    number.and_then(|number| number.try_into().ok()).map_or_else(Datum::default, Datum::integer)
}

fn switch(next_cfg: i64) -> Columns {
    let types = [
        "dpdk",
        "dpdkvhostuser",
        "dpdkvhostuserclient",
        "geneve",
        "gre",
        "internal",
        "ip6gre",
        "patch",
        "system",
        "tap",
        "vxlan",
    ];
    [
        ("cur_cfg", Datum::integer(next_cfg)),
        ("datapath_types", Datum::texts(["netdev", "system"])),
        ("iface_types", Datum::texts(types)),
        ("dpdk_initialized", Datum::boolean(true)),
    ]
    .into()
}

fn bridge(row: &BridgeRow) -> Columns {
    [("datapath_id", Datum::text(&row.datapath_id)), ("datapath_version", Datum::text("<built-in>"))].into()
}

fn interface(row: &InterfaceRow, bridges: &[BridgeRow], error: Option<&String>) -> Columns {
    let mut status = BTreeMap::new();
    if let Some(driver) = &row.driver {
        status.insert("driver_name", driver.clone());
    }
    if let Some((rx, tx)) = row.queues {
        status.extend([("n_rxq", rx.to_string()), ("n_txq", tx.to_string())]);
    }
    status.extend(row.status.iter().map(|(key, value)| (key.as_str(), value.clone())));
    // The underlay that the source address is of.
    let source = row.remotes.iter().find_map(|remote| remote.source.as_deref());
    let has = |bridge: &&BridgeRow| {
        bridge.addresses.iter().any(|net| net.split('/').next().is_some_and(|ip| Some(ip) == source))
    };
    if let Some(underlay) = bridges.iter().find(has) {
        status.extend([
            ("tunnel_egress_iface", underlay.name.clone()),
            ("tunnel_egress_iface_carrier", "up".to_owned()),
        ]);
    }
    let error = error.map(String::as_str).or(row.error.as_deref());
    // A bridge goes on without the device that its LOCAL port is to be; ovs-vsctl looks at errors where there is no number.
    let lacks_device = row.ofport == PORT_LOCAL && row.driver.is_none() && error.is_some();
    let link = Some(row.link_state.as_str()).filter(|state| matches!(*state, "up" | "down"));
    [
        ("ofport", Datum::integer(if lacks_device { -1 } else { row.ofport.into() })),
        ("error", text(error)),
        ("admin_state", Datum::text(&row.admin_state)),
        ("link_state", text(link)),
        ("link_speed", number(row.link_speed)),
        ("mtu", number(row.mtu)),
        ("mac_in_use", text(row.mac_in_use.as_deref())),
        ("status", Datum::text_map(status)),
        ("bfd_status", Datum::text_map(row.bfd_status.iter().map(|(k, v)| (k.as_str(), v.clone())))),
    ]
    .into()
}

fn statistics(row: &InterfaceRow) -> Datum {
    Datum::counters(
        row.statistics.iter().map(|(name, n)| (name.as_str(), i64::try_from(*n).unwrap_or(i64::MAX))),
    )
}

/// An interface that does not run.
fn failed(error: &str) -> Columns {
    let none =
        ["admin_state", "link_state", "link_speed", "mtu", "mac_in_use"].map(|name| (name, Datum::default()));
    let empty = ["status", "statistics", "bfd_status"].map(|name| (name, Datum::Map(BTreeMap::new())));
    let said = [("ofport", Datum::integer(-1)), ("error", Datum::text(error))];
    none.into_iter().chain(empty).chain(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::rows::{Interface, OpenVSwitch};

    fn br0(ports: Vec<InterfaceRow>) -> [BridgeRow; 1] {
        [BridgeRow {
            name: "br0".into(),
            fail_mode: "secure".into(),
            mac: "02:00:00:00:00:01".into(),
            datapath_id: "0000020000000001".into(),
            addresses: Vec::new(),
            flows: 0,
            fdb_entries: 0,
            ports,
        }]
    }

    #[test]
    fn only_differences_are_written() {
        let mut rows = Rows {
            root: Some(OpenVSwitch { uuid: "r".into(), next_cfg: 3, ..OpenVSwitch::default() }),
            ..Rows::default()
        };
        for name in ["p0", "p1"] {
            let row = Interface { uuid: name.into(), name: name.into(), ..Interface::default() };
            rows.interfaces.insert(name.into(), row);
        }
        let mut port = InterfaceRow { name: "p0".into(), ofport: 1, ..InterfaceRow::default() };
        port.statistics.insert("rx_packets".into(), 1);
        let mut bridges = br0(vec![port]);
        let errors: Errors = [("p1".to_owned(), "no way".to_owned())].into();
        let mut written = Written::default();
        assert!(!written.differences(&rows, &errors, &bridges, true).is_empty());
        assert!(written.differences(&rows, &errors, &bridges, true).is_empty());
        // Statistics alone, and only when they are wanted.
        bridges[0].ports[0].statistics.insert("rx_packets".into(), 2);
        assert!(written.differences(&rows, &errors, &bridges, false).is_empty());
        assert!(!written.differences(&rows, &errors, &bridges, true).is_empty());
        rows.root.as_mut().unwrap().next_cfg = 4;
        assert!(!written.differences(&rows, &errors, &bridges, true).is_empty());
        // A port that failed and comes has its error taken away.
        let came = InterfaceRow { name: "p1".into(), ofport: 2, ..InterfaceRow::default() };
        bridges[0].ports.push(came);
        assert!(!written.differences(&rows, &Errors::new(), &bridges, false).is_empty());
        assert_eq!(written.0[&("Interface", "p1".to_owned())]["error"], Datum::default());
        // When nothing is known of the database, all is written.
        written.forget();
        assert!(!written.differences(&rows, &Errors::new(), &bridges, false).is_empty());
    }
}
