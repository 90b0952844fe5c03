//! The difference between two documents: what has to be done so that the one becomes the other.

use config::{Bridge, Document, Mirror, Port};
use std::collections::BTreeMap;

/// What to do, by names. Everything gone goes before anything new comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ports that go, or come back changed.
    pub remove_ports: Vec<String>,
    /// Bridges that go; their ports are in `remove_ports`.
    pub remove_bridges: Vec<String>,
    /// New bridges.
    pub add_bridges: Vec<String>,
    /// Bridges that stay with other settings.
    pub configure: Vec<String>,
    /// Ports that come, as bridge and port.
    pub add_ports: Vec<(String, String)>,
    /// Bridges whose LOCAL port gets a device of the kernel.
    pub add_locals: Vec<String>,
    /// Bridges whose LOCAL port loses it, bridges that go among them.
    pub remove_locals: Vec<String>,
    /// Ports that stay with other VLANs, `other_config` or `bfd`.
    pub set_vlan: Vec<String>,
    /// Ports that stay with another OpenFlow number.
    pub set_ofport: Vec<String>,
    /// Bridges whose static FDB entries have to be put again: they changed, or a port that they may name came.
    pub fdb: Vec<String>,
    /// Device ports, LOCAL ones among them, that stay with another MTU.
    pub set_mtu: Vec<String>,
    /// Bridges whose groups, meters and mirrors have to be read again: they changed, or a port that they may name came
    /// or went.
    pub policy: Vec<String>,
    /// Bridges whose rules have to be read again: they changed, or a port that they may name got a number.
    pub rules: Vec<String>,
}

impl Plan {
    /// What makes `new` of `old`.
    pub fn new(old: &Document, new: &Document) -> Plan {
        let mut plan = Plan::default();
        for (bridge, port) in old.ports() {
            let stays =
                new.port(&port.name).is_some_and(|(b, p)| b.name == bridge.name && !needs_new(port, p));
            if !stays {
                plan.remove_ports.push(port.name.clone());
            }
        }
        let gone = old.bridges.iter().filter(|b| new.bridge(&b.name).is_none());
        plan.remove_bridges = gone.map(|b| b.name.clone()).collect();
        let has = |document: &Document, name: &str| document.bridge(name).is_some_and(Bridge::has_device);
        let names = |of: &Document, without: &Document| {
            let only = |b: &&Bridge| b.has_device() && !has(without, &b.name);
            of.bridges.iter().filter(only).map(|b| b.name.clone()).collect()
        };
        plan.add_locals = names(new, old);
        plan.remove_locals = names(old, new);
        for bridge in &new.bridges {
            match old.bridge(&bridge.name) {
                None => plan.add_bridges.push(bridge.name.clone()),
                Some(before) if settings(&old.effective(before)) != settings(&new.effective(bridge)) => {
                    plan.configure.push(bridge.name.clone());
                }
                Some(_) => {}
            }
            let mut renumbered = false;
            for port in &bridge.ports {
                let before = old.port(&port.name).filter(|_| !plan.remove_ports.contains(&port.name));
                let Some((_, before)) = before else {
                    plan.add_ports.push((bridge.name.clone(), port.name.clone()));
                    renumbered = true;
                    continue;
                };
                let vlan = |p: &Port| {
                    let vlans = (p.tag, p.trunks.clone(), p.vlan_mode, p.cvlans.clone());
                    (vlans, p.other_config.clone(), p.bfd.clone())
                };
                if vlan(before) != vlan(port) {
                    plan.set_vlan.push(port.name.clone());
                }
                if before.ofport_request != port.ofport_request && port.ofport_request.is_some() {
                    plan.set_ofport.push(port.name.clone());
                    renumbered = true;
                }
                // As in Open vSwitch, where nobody asks for an MTU any more the device keeps what it has.
                if before.mtu != port.mtu
                    && port.mtu.is_some()
                    && matches!(
                        port.kind.as_str(),
                        "dpdk" | "dpdkvhostuser" | "dpdkvhostuserclient" | "internal" | "system" | "tap"
                    )
                {
                    plan.set_mtu.push(port.name.clone());
                }
            }
            let kept = old.bridge(&bridge.name).filter(|before| before.has_device() && bridge.has_device());
            if bridge.mtu.is_some() && kept.is_some_and(|before| before.mtu != bridge.mtu) {
                plan.set_mtu.push(bridge.name.clone());
            }
            let flows = old.bridge(&bridge.name).map_or(&[][..], |b| &b.flows);
            // Rules have the places of options that the TLV map gives them.
            let moved = old.bridge(&bridge.name).is_some_and(|b| b.tlv_map != bridge.tlv_map);
            if bridge.flows != flows || (renumbered || moved) && !bridge.flows.is_empty() {
                plan.rules.push(bridge.name.clone());
            }
            let before = old.bridge(&bridge.name);
            let fdb = before.map_or(&[][..], |b| &b.fdb);
            if bridge.fdb != fdb || renumbered && !bridge.fdb.is_empty() {
                plan.fdb.push(bridge.name.clone());
            }
            let lost = before.is_some_and(|b| b.ports.iter().any(|p| plan.remove_ports.contains(&p.name)));
            let changed =
                before.map_or(!policy(bridge).is_empty(), |before| policy(before) != policy(bridge));
            if changed || (renumbered || lost) && !policy(bridge).is_empty() {
                plan.policy.push(bridge.name.clone());
            }
        }
        plan
    }

    /// What takes a port of this bridge away and brings it back.
    pub fn anew(bridge: &Bridge, port: &str) -> Plan {
        let if_any = |any: bool| if any { vec![bridge.name.clone()] } else { Vec::new() };
        Plan {
            remove_ports: vec![port.to_owned()],
            add_ports: vec![(bridge.name.clone(), port.to_owned())],
            policy: if_any(!policy(bridge).is_empty()),
            rules: if_any(!bridge.flows.is_empty()),
            fdb: if_any(!bridge.fdb.is_empty()),
            ..Plan::default()
        }
    }

    /// What takes the device of a bridge's LOCAL port away, and gives it another if there `is` one.
    pub fn local_anew(bridge: &Bridge, is: bool) -> Plan {
        let names = vec![bridge.name.clone()];
        Plan {
            add_locals: if is { names.clone() } else { Vec::new() },
            remove_locals: names,
            ..Plan::default()
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Plan::default()
    }
}

/// What a bridge has besides ports and flows that names ports.
#[derive(PartialEq, Eq)]
struct Policy<'a>(&'a [String], &'a [String], &'a [Mirror]);

impl Policy<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty() && self.2.is_empty()
    }
}

fn policy(bridge: &Bridge) -> Policy<'_> {
    Policy(&bridge.groups, &bridge.meters, &bridge.mirrors)
}

/// Whether a changed port cannot be changed in place.
fn needs_new(old: &Port, new: &Port) -> bool {
    old.kind != new.kind || old.options != new.options || old.mac != new.mac
}

/// A bridge without ports, flows and what goes with them, which are looked at one by one.
fn settings(bridge: &Bridge) -> Bridge {
    Bridge {
        name: bridge.name.clone(),
        fail_mode: bridge.fail_mode,
        mcast_snooping_enable: bridge.mcast_snooping_enable,
        hwaddr: bridge.hwaddr,
        tag: bridge.tag,
        mtu: None,
        addresses_from: bridge.addresses_from,
        address: bridge.address.clone(),
        routes: bridge.routes.clone(),
        neighbours: bridge.neighbours.clone(),
        other_config: bridge.other_config.clone(),
        external_ids: BTreeMap::new(),
        fdb: Vec::new(),
        flows: Vec::new(),
        groups: Vec::new(),
        meters: Vec::new(),
        tlv_map: bridge.tlv_map.clone(),
        mirrors: Vec::new(),
        ports: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        config::parse_str("test", text, &config::accept_flows).unwrap()
    }

    const BASE: &str = r#"
        [[bridge]]
        name = "br0"
        flows = ["in_port=p0,actions=output:vx"]
        [[bridge.port]]
        name = "p0"
        type = "dpdk"
        options = { dpdk-devargs = "net_null0" }
        tag = 10
        [[bridge.port]]
        name = "vx"
        type = "vxlan"
        options = { remote_ip = "10.0.0.2", key = "5" }
        [[bridge]]
        name = "br1"
    "#;

    #[test]
    fn a_bridge_gets_and_loses_a_device_of_its_own() {
        let kernel = |document: &mut Document, from| {
            document.bridge_mut("br1").unwrap().addresses_from = from;
        };
        let added = plan(|document| kernel(document, config::AddressesFrom::Kernel));
        assert_eq!((added.add_locals, added.remove_locals), (vec!["br1".to_owned()], vec![]));
        assert_eq!(added.configure, ["br1"]);
        let mut old = document(BASE);
        kernel(&mut old, config::AddressesFrom::Kernel);
        let mut new = old.clone();
        new.bridges.pop();
        let gone = Plan::new(&old, &new);
        assert_eq!((gone.add_locals, gone.remove_locals), (vec![], vec!["br1".to_owned()]));
        assert!(Plan::new(&old, &old.clone()).is_empty());
    }

    fn plan(edit: impl FnOnce(&mut Document)) -> Plan {
        let old = document(BASE);
        let mut new = old.clone();
        edit(&mut new);
        Plan::new(&old, &new)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_same_document_needs_nothing() {
        assert!(plan(|_| {}).is_empty());
    }

    #[test]
    fn from_nothing_and_back() {
        let full = document(BASE);
        let up = Plan::new(&Document::default(), &full);
        assert_eq!(up.add_bridges, names(&["br0", "br1"]));
        assert_eq!(up.add_ports.len(), 2);
        assert_eq!(up.rules, names(&["br0"]));
        let down = Plan::new(&full, &Document::default());
        assert_eq!(down.remove_bridges, names(&["br0", "br1"]));
        assert_eq!(down.remove_ports, names(&["p0", "vx"]));
        assert!(down.add_ports.is_empty() && down.rules.is_empty());
    }

    #[test]
    fn vlans_and_mtu_change_in_place() {
        let plan = plan(|new| {
            let port = new.port_mut("p0").unwrap();
            (port.tag, port.mtu) = (None, Some(9000));
        });
        assert_eq!(plan, Plan { set_vlan: names(&["p0"]), set_mtu: names(&["p0"]), ..Plan::default() });
    }

    #[test]
    fn other_options_need_another_port_and_the_rules_that_name_it() {
        let plan = plan(|new| {
            new.port_mut("vx").unwrap().options.insert("key".into(), "6".into());
        });
        assert_eq!(plan.remove_ports, names(&["vx"]));
        assert_eq!(plan.add_ports, [("br0".to_owned(), "vx".to_owned())]);
        assert_eq!(plan.rules, names(&["br0"]));
    }

    #[test]
    fn a_port_that_changes_its_bridge_goes_and_comes() {
        let plan = plan(|new| {
            let port = new.bridges[0].ports.remove(0);
            new.bridges[1].ports.push(port);
            new.bridges[0].flows.clear();
        });
        assert_eq!(plan.remove_ports, names(&["p0"]));
        assert_eq!(plan.add_ports, [("br1".to_owned(), "p0".to_owned())]);
        assert_eq!(plan.rules, names(&["br0"]));
    }

    #[test]
    fn groups_and_mirrors_are_read_again_when_ports_come_or_go() {
        let meter = "meter=1,bands=type=drop rate=1".to_owned();
        let change = plan(|new| new.bridges[1].meters.push(meter.clone()));
        assert_eq!(change, Plan { policy: names(&["br1"]), ..Plan::default() });
        let mut old = document(BASE);
        old.bridges[0].groups.push("group_id=1,type=all".into());
        let mut new = old.clone();
        new.bridges[0].ports.retain(|port| port.name != "vx");
        new.bridges[0].flows.clear();
        let plan = Plan::new(&old, &new);
        assert_eq!(plan.policy, names(&["br0"]));
        new = old.clone();
        new.bridges[0].groups.clear();
        assert_eq!(Plan::new(&old, &new), Plan { policy: names(&["br0"]), ..Plan::default() });
    }

    #[test]
    fn settings_of_a_bridge() {
        let plan = plan(|new| new.bridges[1].address.push("10.0.0.1/24".parse().unwrap()));
        assert_eq!(plan, Plan { configure: names(&["br1"]), ..Plan::default() });
    }
}
