//! Reads a document from TOML and reports every problem with its line.

mod reader;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document::{Bridge, Document, Mirror, Neighbour, Port, Route, StaticMac};
use crate::problem::{Errors, Kind, Site};
use crate::settings::Fields;
use crate::validate::{CheckFlow, range, validate_with};
use reader::Reader;

/// A larger file is not a configuration: refusing it keeps a wrong path (a device, a capture) from filling memory.
const MAX_FILE: u64 = 64 << 20;

const MAC: &str = "a MAC address such as \"02:00:00:00:0a:01\"";
const IP: &str = "an IP address such as \"192.168.1.254\"";
const NETWORK: &str = "an address with its prefix length such as \"192.168.1.1/24\"";

/// Reads and validates the file at `path`. `check_flow` judges each of a bridge's `flows`;
/// [`accept_flows`](crate::accept_flows) takes them as they are.
///
/// The error holds every problem, sorted by line; also that the file cannot be read.
pub fn parse_file(path: &Path, check_flow: CheckFlow<'_>) -> Result<Document, Errors> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    let message = match outcome {
        Err(error) => format!("cannot read the file: {error}"),
        Ok(_) if bytes.len() as u64 > MAX_FILE => format!("the file is larger than {MAX_FILE} bytes"),
        Ok(_) => match String::from_utf8(bytes) {
            Ok(text) => return parse_str(&name, &text, check_flow),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
                let mut problem = Site::default().problem(Kind::Syntax, "not UTF-8, expected a TOML file");
                (problem.file, problem.line) = (Some(name), Some(line));
                return Err(Errors(vec![problem]));
            }
        },
    };
    let mut problem = Site::default().problem(Kind::Syntax, message);
    problem.file = Some(name);
    Err(Errors(vec![problem]))
}

/// Reads and validates TOML text; `name` stands for the file in messages. See [`parse_file`].
pub fn parse_str(name: &str, text: &str, check_flow: CheckFlow<'_>) -> Result<Document, Errors> {
    let (document, mut reader) = read(text);
    reader.add_found(validate_with(&document, check_flow));
    let problems = reader.finish(name);
    if problems.is_empty() { Ok(document) } else { Err(Errors(problems)) }
}

/// The document that a text says, if nothing in it is unclear. It need not be valid.
pub(crate) fn understand(text: &str) -> Option<Document> {
    let (document, reader) = read(text);
    reader.finish("").is_empty().then_some(document)
}

/// The document as far as it can be understood, and what was wrong on the way.
fn read(text: &str) -> (Document, Reader) {
    let mut reader = Reader::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        reader.syntax(error);
    }
    let root = root.get_ref();
    let site = Site::default();
    reader.known_keys(&site, root, &["bridge", "dpdk", "datapath", "other_config", "evpn"]);
    let mut document = Document::default();
    settings(&mut reader, root, "dpdk", &mut document.dpdk);
    settings(&mut reader, root, "datapath", &mut document.datapath);
    document.other_config = reader.options(&site, root, "other_config");
    document.evpn = reader.options(&site, root, "evpn");
    for (index, (_, value)) in
        reader.array(&site, root, "bridge", "tables, as [[bridge]]").into_iter().enumerate()
    {
        let site = Site::bridge(index, name_of(value));
        reader.see_element(&site, value);
        // A bridge or port that cannot be read keeps its place, so that indices stay those of the file.
        document.bridges.push(bridge(&mut reader, &site, value).unwrap_or_default());
    }
    (document, reader)
}

fn settings(reader: &mut Reader, root: &DeTable<'_>, key: &str, into: &mut impl Fields) {
    let Some(value) = root.get(key) else { return };
    let site = Site::default().field(key);
    let fields = into.fields();
    let known: Vec<&str> = fields.iter().map(|(name, ..)| *name).collect();
    let Some(table) = reader.table(&site, value, &known) else { return };
    for (name, _, range) in fields {
        if let Some(number) = reader.integer(&site, table, name, range) {
            into.set(name, number);
        }
    }
}

/// The `name` of a bridge's or port's table, for messages; empty if there is none.
fn name_of<'v>(value: &'v Spanned<DeValue<'_>>) -> &'v str {
    value
        .get_ref()
        .as_table()
        .and_then(|table| table.get("name"))
        .and_then(|name| name.get_ref().as_str())
        .unwrap_or("")
}

fn bridge(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<Bridge> {
    const KNOWN: [&str; 19] = [
        "name",
        "fail_mode",
        "mcast_snooping_enable",
        "hwaddr",
        "tag",
        "mtu",
        "addresses_from",
        "address",
        "route",
        "neighbour",
        "fdb",
        "flows",
        "groups",
        "meters",
        "tlv_map",
        "mirror",
        "port",
        "other_config",
        "external_ids",
    ];
    let table = reader.table(site, value, &KNOWN)?;
    let mut bridge = Bridge {
        name: reader.string(site, table, "name").unwrap_or_default(),
        fail_mode: reader.parsed(site, table, "fail_mode", "standalone or secure").unwrap_or_default(),
        mcast_snooping_enable: reader.boolean(site, table, "mcast_snooping_enable").unwrap_or_default(),
        hwaddr: reader.parsed(site, table, "hwaddr", MAC),
        tag: reader.integer(site, table, "tag", range::VLAN).map(|tag| tag as u16),
        mtu: reader.integer(site, table, "mtu", range::MTU).map(|mtu| mtu as u16),
        addresses_from: reader
            .parsed(site, table, "addresses_from", "document or kernel")
            .unwrap_or_default(),
        other_config: reader.options(site, table, "other_config"),
        external_ids: reader.options(site, table, "external_ids"),
        ..Bridge::default()
    };
    for (site, value) in
        reader.array(site, table, "address", "an array of addresses such as [\"192.168.1.1/24\"]")
    {
        bridge.address.extend(reader.parse::<ipnet::IpNet>(&site, value, NETWORK));
    }
    for (site, value) in
        reader.array(site, table, "route", "an array of tables such as [{ to = \"0.0.0.0/0\" }]")
    {
        bridge.routes.extend(route(reader, &site, value));
    }
    for (site, value) in
        reader.array(site, table, "neighbour", "an array of tables such as [{ ip = \"..\", mac = \"..\" }]")
    {
        bridge.neighbours.extend(neighbour(reader, &site, value));
    }
    for (site, value) in
        reader.array(site, table, "fdb", "an array of tables such as [{ mac = \"..\", port = \"p0\" }]")
    {
        bridge.fdb.extend(static_mac(reader, &site, value));
    }
    for (key, list, expected) in [
        ("flows", &mut bridge.flows, "a flow as a string"),
        ("groups", &mut bridge.groups, "a group as a string"),
        ("meters", &mut bridge.meters, "a meter as a string"),
        ("tlv_map", &mut bridge.tlv_map, "an option and its field as a string"),
    ] {
        for (site, value) in reader.array(site, table, key, "an array of strings") {
            // One that is no string keeps its place: the indices in messages are those of the file.
            list.push(reader.text(&site, value, expected).unwrap_or_default());
        }
    }
    for (index, (_, value)) in
        reader.array(site, table, "mirror", "tables, as [[bridge.mirror]]").into_iter().enumerate()
    {
        let site = site.mirror(index, name_of(value));
        reader.see_element(&site, value);
        bridge.mirrors.push(mirror(reader, &site, value).unwrap_or_default());
    }
    for (index, (_, value)) in
        reader.array(site, table, "port", "tables, as [[bridge.port]]").into_iter().enumerate()
    {
        let site = site.port(index, name_of(value));
        reader.see_element(&site, value);
        bridge.ports.push(port(reader, &site, value).unwrap_or_default());
    }
    Some(bridge)
}

fn route(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<Route> {
    let table = reader.table(site, value, &["to", "via"])?;
    if !table.contains_key("to") {
        reader.invalid(site, "to is missing, expected a network such as \"0.0.0.0/0\"");
    }
    let to = reader.parsed(site, table, "to", "a network such as \"0.0.0.0/0\"");
    let via = reader.parsed(site, table, "via", IP);
    Some(Route { to: to?, via })
}

fn neighbour(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<Neighbour> {
    let table = reader.table(site, value, &["ip", "mac", "vlan"])?;
    for (key, expected) in [("ip", IP), ("mac", MAC)] {
        if !table.contains_key(key) {
            reader.invalid(site, format!("{key} is missing, expected {expected}"));
        }
    }
    let ip = reader.parsed(site, table, "ip", IP);
    let mac = reader.parsed(site, table, "mac", MAC);
    let vlan = reader.integer(site, table, "vlan", range::VLAN).map_or(0, |vlan| vlan as u16);
    Some(Neighbour { ip: ip?, mac: mac?, vlan })
}

fn static_mac(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<StaticMac> {
    let table = reader.table(site, value, &["mac", "vlan", "port", "remote"])?;
    for (key, expected) in [("mac", MAC), ("port", "the name of a port of the bridge")] {
        if !table.contains_key(key) {
            reader.invalid(site, format!("{key} is missing, expected {expected}"));
        }
    }
    let mac = reader.parsed(site, table, "mac", MAC);
    let vlan = reader.integer(site, table, "vlan", range::VLAN).map_or(0, |vlan| vlan as u16);
    let port = reader.string(site, table, "port");
    let remote = reader.parsed(site, table, "remote", IP);
    Some(StaticMac { mac: mac?, vlan, port: port?, remote })
}

fn mirror(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<Mirror> {
    const KNOWN: [&str; 7] = [
        "name",
        "select_all",
        "select_src_port",
        "select_dst_port",
        "select_vlan",
        "output_port",
        "output_vlan",
    ];
    let table = reader.table(site, value, &KNOWN)?;
    let mut mirror = Mirror {
        name: reader.string(site, table, "name").unwrap_or_default(),
        select_all: reader.boolean(site, table, "select_all").unwrap_or_default(),
        output_port: reader.string(site, table, "output_port"),
        output_vlan: reader.integer(site, table, "output_vlan", (1, 4095)).map(|vlan| vlan as u16),
        ..Mirror::default()
    };
    for (key, ports) in
        [("select_src_port", &mut mirror.select_src_port), ("select_dst_port", &mut mirror.select_dst_port)]
    {
        for (site, value) in reader.array(site, table, key, "an array of port names such as [\"p0\"]") {
            ports.extend(reader.text(&site, value, "the name of a port"));
        }
    }
    for (site, value) in reader.array(site, table, "select_vlan", "an array of VLANs such as [10, 20]") {
        mirror.select_vlan.extend(reader.integer_value(&site, value, range::VLAN).map(|vlan| vlan as u16));
    }
    Some(mirror)
}

fn port(reader: &mut Reader, site: &Site, value: &Spanned<DeValue<'_>>) -> Option<Port> {
    const KNOWN: [&str; 14] = [
        "name",
        "type",
        "options",
        "tag",
        "trunks",
        "vlan_mode",
        "cvlans",
        "other_config",
        "mtu",
        "mac",
        "ofport_request",
        "bfd",
        "external_ids",
        "port_external_ids",
    ];
    let table = reader.table(site, value, &KNOWN)?;
    let mut port = Port {
        name: reader.string(site, table, "name").unwrap_or_default(),
        kind: reader.string(site, table, "type").unwrap_or_default(),
        options: reader.options(site, table, "options"),
        tag: reader.integer(site, table, "tag", range::VLAN).map(|tag| tag as u16),
        vlan_mode: reader.parsed(
            site,
            table,
            "vlan_mode",
            "access, trunk, native-tagged, native-untagged or dot1q-tunnel",
        ),
        mtu: reader.integer(site, table, "mtu", range::MTU).map(|mtu| mtu as u16),
        mac: reader.parsed(site, table, "mac", MAC),
        ofport_request: reader.integer(site, table, "ofport_request", range::OFPORT).map(|port| port as u16),
        bfd: reader.options(site, table, "bfd"),
        external_ids: reader.options(site, table, "external_ids"),
        port_external_ids: reader.options(site, table, "port_external_ids"),
        trunks: Vec::new(),
        cvlans: Vec::new(),
        other_config: reader.options(site, table, "other_config"),
    };
    for (site, value) in reader.array(site, table, "trunks", "an array of VLANs such as [10, 20]") {
        port.trunks.extend(reader.integer_value(&site, value, range::VLAN).map(|vlan| vlan as u16));
    }
    for (site, value) in reader.array(site, table, "cvlans", "an array of VLANs such as [10, 20]") {
        port.cvlans.extend(reader.integer_value(&site, value, range::VLAN).map(|vlan| vlan as u16));
    }
    Some(port)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
