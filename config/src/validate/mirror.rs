//! Checks of a bridge's mirrors.

use std::collections::BTreeSet;

use super::{Check, range};
use crate::document::Bridge;
use crate::problem::Site;

/// VLANs that copies can be flooded in.
const OUTPUT_VLAN: (u64, u64) = (1, 4095);

impl Check<'_> {
    pub(super) fn mirrors(&mut self, site: &Site, bridge: &Bridge) {
        let has = |name: &String| *name == bridge.name || bridge.ports.iter().any(|port| port.name == *name);
        let mut names = BTreeSet::new();
        for (index, mirror) in bridge.mirrors.iter().enumerate() {
            let site = site.mirror(index, &mirror.name);
            self.name(&site, &mirror.name, 31);
            if !names.insert(&mirror.name) && !mirror.name.is_empty() {
                let message = format!("there is another mirror named {}", mirror.name);
                self.invalid(&site.field("name"), message);
            }
            let lists =
                [("select_src_port", &mirror.select_src_port), ("select_dst_port", &mirror.select_dst_port)];
            for (field, ports) in lists {
                let mut seen = BTreeSet::new();
                for (index, port) in ports.iter().enumerate() {
                    let site = site.field(field).index(index);
                    if !has(port) {
                        self.invalid(&site, no_port(bridge, port));
                    } else if mirror.output_port.as_ref() == Some(port) {
                        self.invalid(&site, format!("{port} is the output_port, expected another port"));
                    } else if !seen.insert(port) {
                        self.invalid(&site, format!("{port} stands twice"));
                    }
                }
            }
            let mut seen = BTreeSet::new();
            for (index, vlan) in mirror.select_vlan.iter().enumerate() {
                let site = site.field("select_vlan").index(index);
                self.number(&site, (*vlan).into(), range::VLAN);
                if !seen.insert(vlan) {
                    self.invalid(&site, format!("VLAN {vlan} stands twice"));
                }
            }
            if let Some(port) = mirror.output_port.as_ref().filter(|port| !has(port)) {
                self.invalid(&site.field("output_port"), no_port(bridge, port));
            }
            if let Some(vlan) = mirror.output_vlan {
                self.number(&site.field("output_vlan"), vlan.into(), OUTPUT_VLAN);
            }
            match (&mirror.output_port, mirror.output_vlan) {
                (None, None) => self.missing(&site, "expected output_port or output_vlan"),
                (Some(_), Some(_)) => {
                    self.invalid(&site, "output_port and output_vlan, expected one of them")
                }
                _ => {}
            }
        }
    }
}

fn no_port(bridge: &Bridge, port: &str) -> String {
    format!("bridge {} has no port {port:?}", bridge.name)
}
