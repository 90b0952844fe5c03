//! Checks of a document that hold wherever it came from: file, control API or transaction.

mod bridge;
mod mirror;
mod port;

pub(crate) use bridge::datapath_id;
pub use bridge::{BRIDGE_OTHER_CONFIG, bridge_number_range};
pub use port::check_port_other_config;

use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::tunnel::Transport;

use crate::document::{Bridge, Document, Port, PortKind};
use crate::options::{
    DpdkOptions, OptionError, OptionErrorKind, PatchOptions, RemoteIp, SystemOptions, TapOptions, TunnelKey,
    TunnelOptions, VhostOptions, boolean, no_options,
};
use crate::problem::{Kind, Problem, Site};
use crate::settings::Fields;
use crate::switch::check_switch_other_config;

/// Which list of a bridge a text stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rules {
    /// `flows`.
    Flows,
    /// `groups`.
    Groups,
    /// `meters`.
    Meters,
}

impl Rules {
    fn field(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Groups => "groups",
            Self::Meters => "meters",
        }
    }
}

/// Judges a bridge's flows, groups and meters, which are another crate's to understand.
pub trait CheckRules {
    /// Calls `wrong` for each text that is wrong: its list, its index there, and a message that says which token is
    /// wrong and what was expected.
    fn check(&self, bridge: &Bridge, wrong: &mut dyn FnMut(Rules, usize, String));
}

/// A function of a flow and its bridge judges flows alone.
impl<F: Fn(&str, &Bridge) -> Result<(), String>> CheckRules for F {
    fn check(&self, bridge: &Bridge, wrong: &mut dyn FnMut(Rules, usize, String)) {
        for (index, flow) in bridge.flows.iter().enumerate() {
            if let Err(message) = self(flow, bridge) {
                wrong(Rules::Flows, index, message);
            }
        }
    }
}

/// Whoever judges rules.
pub type CheckFlow<'a> = &'a dyn CheckRules;

/// A [`CheckFlow`] that takes every flow, group and meter as it is.
#[allow(clippy::unnecessary_wraps)] // The shape is that of a function of `CheckRules`.
pub fn accept_flows(_flow: &str, _bridge: &Bridge) -> Result<(), String> {
    Ok(())
}

/// Smallest and largest MTU of a port: IPv4's smallest (RFC 791) to DPDK's largest in use.
pub const MTU_RANGE: (u16, u16) = (68, 9702);

/// Smallest and largest values of a port's columns.
pub(crate) mod range {
    pub(crate) const MTU: (u64, u64) = (super::MTU_RANGE.0 as u64, super::MTU_RANGE.1 as u64);
    /// VLAN IDs as OVS takes them in `tag` and `trunks`.
    pub(crate) const VLAN: (u64, u64) = (0, 4095);
    /// OpenFlow 1.0's port numbers.
    pub(crate) const OFPORT: (u64, u64) = (1, 0xfeff);
}

/// Everything that is wrong with `document`, flows not looked at. Empty: the switch can be made so.
pub fn validate(document: &Document) -> Vec<Problem> {
    validate_with(document, &accept_flows)
}

/// Everything that is wrong with `document`; `check_flow` judges flows, groups and meters.
pub fn validate_with(document: &Document, check_flow: CheckFlow<'_>) -> Vec<Problem> {
    let mut check = Check { document, problems: Vec::new() };
    check.settings();
    check.switch();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    // All bridges first: a bridge's name is the name of its LOCAL port, so it wins over any port's.
    for (index, bridge) in document.bridges.iter().enumerate() {
        let site = Site::bridge(index, &bridge.name);
        check.name(&site, &bridge.name, 15);
        if names.contains_key(bridge.name.as_str()) && !bridge.name.is_empty() {
            check.invalid(&site.field("name"), format!("there is another bridge named {}", bridge.name));
        }
        names.entry(&bridge.name).or_insert_with(|| format!("bridge {}", bridge.name));
    }
    for (index, bridge) in document.bridges.iter().enumerate() {
        let site = Site::bridge(index, &bridge.name);
        check.bridge(&site, bridge);
        check_flow.check(bridge, &mut |list, index, message| {
            check.invalid(&site.field(list.field()).index(index), message);
        });
        check.mirrors(&site, bridge);
        for (index, port) in bridge.ports.iter().enumerate() {
            let site = site.port(index, &port.name);
            check.name(&site, &port.name, 31);
            if let Some(owner) = names.get(port.name.as_str()).filter(|_| !port.name.is_empty()) {
                check.invalid(&site.field("name"), format!("the name is taken by {owner}"));
            }
            names.entry(&port.name).or_insert_with(|| format!("another port of bridge {}", bridge.name));
        }
    }
    check.overlaps();
    check.ports();
    check.problems
}

/// A validation under way.
struct Check<'d> {
    document: &'d Document,
    problems: Vec<Problem>,
}

/// What a tunnel port receives: transport, VNI or key, and remote; `None` stands for `flow`.
type ReceiveMatch = (Transport, Option<u32>, Option<IpAddr>);

/// A tunnel port whose options could be read.
struct Tunnel<'d> {
    site: Site,
    port: &'d Port,
    options: TunnelOptions,
}

impl Check<'_> {
    fn invalid(&mut self, site: &Site, message: impl Into<String>) {
        self.problems.push(site.invalid(message));
    }

    fn missing(&mut self, site: &Site, message: impl Into<String>) {
        self.problems.push(site.problem(Kind::Missing, message));
    }

    fn number(&mut self, site: &Site, value: u64, (low, high): (u64, u64)) {
        if !(low..=high).contains(&value) {
            self.invalid(site, format!("found {value}, expected a number from {low} to {high}"));
        }
    }

    fn name(&mut self, site: &Site, name: &str, longest: usize) {
        let site = site.field("name");
        let expected = format!("1 to {longest} letters, digits, '_', '.' or '-'");
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
        if name.is_empty() {
            self.missing(&site, format!("expected a name of {expected}"));
        } else if name.len() > longest || !name.bytes().all(allowed) || name.starts_with('-') {
            self.invalid(&site, format!("found {name:?}, expected {expected}, and no '-' in front"));
        }
    }

    fn settings(&mut self) {
        let (dpdk, datapath) = (self.document.dpdk, self.document.datapath);
        for (table, fields) in [("dpdk", dpdk.fields()), ("datapath", datapath.fields())] {
            let site = Site::default().field(table);
            for (name, value, range) in fields {
                self.number(&site.field(name), value, range);
                if matches!(name, "rxd" | "txd") && !value.is_power_of_two() {
                    self.invalid(&site.field(name), format!("found {value}, expected a power of two"));
                }
            }
        }
    }

    fn switch(&mut self) {
        let site = Site::default().field("other_config");
        for (key, value) in &self.document.other_config {
            if let Err(message) = check_switch_other_config(key, value) {
                self.invalid(&site.field(key), message);
            }
        }
        let site = Site::default().field("evpn");
        for (key, value) in &self.document.evpn {
            let outcome = match key.as_str() {
                "netns" => bridge::netns(value),
                "neigh-suppress" => boolean(value).map(drop),
                _ => Err("unknown key, expected netns or neigh-suppress".to_owned()),
            };
            if let Err(message) = outcome {
                self.invalid(&site.field(key), message);
            }
        }
    }

    /// What concerns ports: each by itself, then those of a kind among each other.
    fn ports(&mut self) {
        let document = self.document;
        let mut devices: BTreeMap<String, &str> = BTreeMap::new();
        // Taps of the kernel, which two drivers would share without a word.
        let mut taps: BTreeMap<String, &str> = BTreeMap::new();
        // What two sockets on one interface receive is divided, and each sends what the other has to forward.
        let mut interfaces: BTreeMap<String, &str> = BTreeMap::new();
        let own = document.bridges.iter().filter(|bridge| bridge.has_device());
        taps.extend(own.map(|bridge| (bridge.name.clone(), bridge.name.as_str())));
        let mut tunnels: Vec<Tunnel<'_>> = Vec::new();
        for (index, bridge) in document.bridges.iter().enumerate() {
            let site = Site::bridge(index, &bridge.name);
            let mut ofports: BTreeMap<u16, &str> = BTreeMap::new();
            for (index, port) in bridge.ports.iter().enumerate() {
                let site = site.port(index, &port.name);
                self.port(&site, port);
                if let Some(number) = port.ofport_request
                    && let Some(other) = ofports.insert(number, &port.name)
                {
                    self.invalid(
                        &site.field("ofport_request"),
                        format!("port {other} requests {number} too"),
                    );
                }
                match port.port_kind() {
                    Ok(PortKind::Dpdk) => match DpdkOptions::parse(&port.options) {
                        Ok(options) => {
                            let site = site.field("options").field("dpdk-devargs");
                            self.null_frames(&site, &options);
                            self.device(&site, options.device(), &port.name, &mut devices);
                            if let Some(tap) = options.tap() {
                                self.device(&site, tap, &port.name, &mut taps);
                            }
                            if let Some(interface) = options.kernel_interface() {
                                self.device(&site, interface, &port.name, &mut interfaces);
                            }
                        }
                        Err(errors) => self.option_errors(&site, errors),
                    },
                    Ok(PortKind::DpdkVhostUserClient) => match VhostOptions::parse_client(&port.options) {
                        Ok(options) => {
                            let site = site.field("options").field("vhost-server-path");
                            let path = options.path.as_deref().unwrap_or_default();
                            self.device(&site, path, &port.name, &mut devices);
                        }
                        Err(errors) => self.option_errors(&site, errors),
                    },
                    Ok(PortKind::DpdkVhostUser) => {
                        if let Err(errors) = VhostOptions::parse_server(&port.options) {
                            self.option_errors(&site, errors);
                        }
                    }
                    Ok(PortKind::Tap) => {
                        self.device(&site, &port.name, &port.name, &mut taps);
                        if let Err(errors) = TapOptions::parse(&port.options) {
                            self.option_errors(&site, errors);
                        }
                    }
                    Ok(PortKind::System) => {
                        self.device(&site, &port.name, &port.name, &mut interfaces);
                        if let Err(errors) = SystemOptions::parse(&port.options) {
                            self.option_errors(&site, errors);
                        }
                    }
                    Ok(PortKind::Internal) => {
                        self.device(&site, &port.name, &port.name, &mut taps);
                        self.option_errors(&site, no_options(&port.options));
                    }
                    Ok(PortKind::Patch) => match PatchOptions::parse(&port.options) {
                        Ok(options) if options.peer == port.name => {
                            let site = site.field("options").field("peer");
                            self.invalid(&site, "the port itself, expected the name of another patch port");
                        }
                        Ok(_) => {}
                        Err(errors) => self.option_errors(&site, errors),
                    },
                    Ok(_) => match TunnelOptions::of(port) {
                        Some(Ok(options)) => tunnels.push(Tunnel { site, port, options }),
                        Some(Err(errors)) => self.option_errors(&site, errors),
                        None => {}
                    },
                    Err(_) => {}
                }
            }
        }
        self.tunnels(&tunnels);
    }

    /// A device has one port.
    fn device<'d>(
        &mut self,
        site: &Site,
        device: &str,
        port: &'d str,
        devices: &mut BTreeMap<String, &'d str>,
    ) {
        if let Some(other) = devices.get(device) {
            self.invalid(site, format!("device {device} is in use by port {other}"));
        } else {
            devices.insert(device.to_owned(), port);
        }
    }

    fn tunnels(&mut self, tunnels: &[Tunnel<'_>]) {
        let mut owned: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for bridge in &self.document.bridges {
            owned.extend(bridge.address.iter().map(|net| (net.addr(), bridge.name.as_str())));
        }
        // Candidates for a clash share UDP port, VNI and a remote; comparing all pairs of thousands of tunnels would
        // be felt.
        let mut candidates: BTreeMap<ReceiveMatch, Vec<&Tunnel<'_>>> = BTreeMap::new();
        let mut sockets: BTreeMap<Transport, &Tunnel<'_>> = BTreeMap::new();
        for tunnel in tunnels {
            let Tunnel { site, options, .. } = tunnel;
            let options_site = site.field("options");
            for (addr, bridge) in options.remotes().iter().filter_map(|addr| owned.get_key_value(addr)) {
                let message =
                    format!("{addr} is this switch's own address (bridge {bridge}), expected another VTEP's");
                self.invalid(&options_site.field("remote_ip"), message);
            }
            let names = |bridge: &Bridge, dev: &str| {
                bridge.name == dev || bridge.ports.iter().any(|port| port.name == dev)
            };
            if let Some(dev) = &options.dev
                && !self.document.bridges.iter().any(|bridge| names(bridge, dev))
            {
                let message = format!("{dev:?} is no bridge and no port, expected an underlay bridge");
                self.invalid(&options_site.field("dev"), message);
            }
            let vni = match options.in_key {
                TunnelKey::Vni(vni) => Some(vni),
                TunnelKey::Flow => None,
            };
            let remotes: Vec<Option<IpAddr>> = match &options.remote_ip {
                RemoteIp::Addrs(addrs) => addrs.iter().copied().map(Some).collect(),
                RemoteIp::Flow | RemoteIp::Evpn | RemoteIp::Group(_) => vec![None],
            };
            let mut clashing = None;
            for remote in remotes {
                let same = candidates.entry((options.transport, vni, remote)).or_default();
                match same.iter().find(|other| other.options.clashes_with(options)) {
                    Some(other) => clashing = clashing.or(Some((*other, remote))),
                    None => same.push(tunnel),
                }
            }
            if let Some((other, remote)) = clashing {
                let message = format!(
                    "cannot be told apart on receive from port {}: both take {} from {} on {}; \
                     expected another in_key, remote_ip, local_ip{}",
                    other.port.name,
                    vni.map_or_else(
                        || format!("any {} (in_key=flow)", options.tunnel_type.key_name),
                        |vni| format!("{} {vni}", options.tunnel_type.key_name)
                    ),
                    remote.map_or_else(|| "any remote".to_owned(), |remote| remote.to_string()),
                    options.transport,
                    if options.is_udp() { " or dst_port" } else { "" },
                );
                self.invalid(site, message);
            }
            let first = *sockets.entry(options.transport).or_insert(tunnel);
            if first.options.format != options.format {
                let message = format!(
                    "port {} uses {} for {}, expected the same type and exts on one dst_port",
                    first.port.name, options.transport, first.options.format.name
                );
                let name = if tunnel.port.options.contains_key("exts") { "exts" } else { "dst_port" };
                self.invalid(&options_site.field(name), message);
            }
        }
    }

    fn option_errors(&mut self, site: &Site, errors: Vec<OptionError>) {
        for error in errors {
            let site = site.field("options").field(&error.option);
            let kind = if error.kind == OptionErrorKind::Missing { Kind::Missing } else { Kind::Invalid };
            self.problems.push(site.problem(kind, error.message));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
