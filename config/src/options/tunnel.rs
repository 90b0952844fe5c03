//! Options of tunnel ports, as OVS users write them (`ovs-vswitchd.conf.db(5)`, table Interface). What differs between
//! tunnel types is said by [`wire::tunnel`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{OptionError, Reader, VlanVni, number, number_in};
use crate::document::Port;
use crate::problem::one_of;
use wire::proto::IP_UDP;
use wire::tunnel::{HeaderOptions, Transport, TunnelFormat, TunnelType};

/// Options that all types have.
const COMMON: [&str; 14] = [
    "remote_ip",
    "local_ip",
    "dev",
    "key",
    "in_key",
    "out_key",
    "tos",
    "ttl",
    "df_default",
    "csum",
    "egress_pkt_mark",
    "split-horizon",
    "mss-clamp",
    "reassemble",
];
const DEFAULT_TTL: u8 = 64;
/// More remotes than this in one port's list is a mistake: each costs a copy of every flooded frame.
const MAX_REMOTES: usize = 1024;

/// Where a tunnel port sends, and from where it receives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RemoteIp {
    /// Fixed remote VTEPs, at least one and all of one family; with several, frames to many are
    /// replicated to each (head-end replication).
    Addrs(Vec<IpAddr>),
    /// `flow`: rules set `tun_dst`; any remote is received from.
    Flow,
    /// `evpn` (ours): remotes come from BGP EVPN, by FRR.
    Evpn,
    /// A multicast group (ours, as with Linux): frames to many go to it, and remotes are learned from what comes.
    Group(IpAddr),
}

/// The VTEP's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalIp {
    /// Not given: any of ours on receive, by route on transmit.
    Any,
    /// This one only.
    Addr(IpAddr),
    /// `flow`: rules set `tun_src`.
    Flow,
}

/// A VNI or key, or the flow table's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKey {
    /// Fixed: a VNI of 24 bits, or a GRE key of 32.
    Vni(u32),
    /// `flow`: matched and set as `tun_id`.
    Flow,
}

/// An outer header byte: a value, or copied from the inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inheritable {
    /// This value.
    Value(u8),
    /// `inherit`: the inner IP packet's.
    Inherit,
}

/// A tunnel port's options, typed and with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelOptions {
    /// The type's header, or that of its extension in `exts`. VXLAN's GBP and GPE use the same header bits, so there is at
    /// most one.
    pub format: &'static TunnelFormat,
    /// The type.
    pub tunnel_type: &'static TunnelType,
    /// `remote_ip`.
    pub remote_ip: RemoteIp,
    /// `local_ip`.
    pub local_ip: LocalIp,
    /// `dev` (ours, as with Linux): the underlay bridge that packets to the group go to, or a port of it.
    pub dev: Option<String>,
    /// `in_key`, else `key`, else 0: the VNI or key that received packets must carry. A GRE header without a key has 0.
    pub in_key: TunnelKey,
    /// `out_key`, else `key`, else 0: what sent packets carry.
    pub out_key: TunnelKey,
    /// IP protocol, and `dst_port`: UDP port sent to and listened on.
    pub transport: Transport,
    /// `tos`: outer TOS or traffic class; its ECN bits do not count, ECN is always inherited. Default 0.
    pub tos: Inheritable,
    /// `ttl`: outer TTL or hop limit, 1 to 255. Default 64.
    pub ttl: Inheritable,
    /// `df_default`: outer Don't Fragment. Default true.
    pub df_default: bool,
    /// What sent headers have. A GRE key: if `out_key` or `key` is given. `csum`: of UDP by default off over IPv4 and on
    /// over IPv6, of GRE by default off. `seq`: GRE sequence numbers, by default off.
    pub header: HeaderOptions,
    /// `egress_pkt_mark`: mark that routing may look at.
    pub egress_pkt_mark: u32,
    /// `split-horizon` (ours): no flooding from this tunnel to another that has it too. Default true.
    pub split_horizon: bool,
    /// `mss-clamp` (ours): TCP connections over this tunnel agree on segments that fit it, whatever MTU the hosts believe
    /// in. Default false.
    pub mss_clamp: bool,
    /// `udp6zerocsumrx`: take packets over IPv6 whose UDP checksum is zero (RFC 6935), as Linux calls it. Default false.
    pub udp6zerocsumrx: bool,
    /// `reassemble` (ours): take packets that come in IP fragments. Default true.
    pub reassemble: bool,
    /// `vlan-vni` (ours, of VXLAN): which VLAN of the bridge is which VNI. Then both keys are `flow`, and nobody else's business.
    pub vlan_vni: Option<VlanVni>,
}

impl TunnelOptions {
    /// Reads the `options` of a tunnel port; `None` for a port of another kind.
    pub fn of(port: &Port) -> Option<Result<Self, Vec<OptionError>>> {
        let of = port.port_kind().ok()?.tunnel_type()?;
        Some(Self::parse(of, &port.options))
    }

    /// Reads the `options` of a port of this type; all errors at once.
    pub fn parse(
        of: &'static TunnelType,
        options: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<OptionError>> {
        let known: Vec<&str> = COMMON.iter().chain(of.options).copied().collect();
        let mut reader = Reader::new(options, &known);
        if !options.contains_key("remote_ip") {
            reader.missing(
                "remote_ip",
                "the remote VTEP's address, several joined by commas, a multicast group, \"flow\" or \"evpn\"",
            );
        }
        let remote_ip = reader.parse("remote_ip", remote_ip).unwrap_or(RemoteIp::Flow);
        let local_ip = reader.parse("local_ip", local_ip).unwrap_or(LocalIp::Any);
        let key = reader.parse("key", |text| tunnel_key(of, text)).unwrap_or(TunnelKey::Vni(0));
        let vlan_vni = reader.parse("vlan-vni", VlanVni::parse);
        // What is wrong with the map is said once.
        let has_map = options.contains_key("vlan-vni");
        let key = if has_map { TunnelKey::Flow } else { key };
        for name in ["key", "in_key", "out_key"] {
            if has_map && options.get(name).is_some_and(|text| text != "flow") {
                reader.error(name, "together with vlan-vni, expected none: the VLAN says the VNI");
            }
        }
        let in_key = reader.parse("in_key", |text| tunnel_key(of, text)).unwrap_or(key);
        let out_key = reader.parse("out_key", |text| tunnel_key(of, text)).unwrap_or(key);
        let default_port = of.dst_port.unwrap_or(0);
        let port = reader.number("dst_port", 1, 0xffff).map_or(default_port, |port| port as u16);
        let tos = reader.parse("tos", |text| inheritable(text, 0)).unwrap_or(Inheritable::Value(0));
        let ttl = reader.parse("ttl", |text| inheritable(text, 1)).unwrap_or(Inheritable::Value(DEFAULT_TTL));
        let df_default = reader.boolean("df_default").unwrap_or(true);
        let csum = reader.boolean("csum");
        let without_exts = of
            .formats
            .iter()
            .find(|(ext, _)| ext.is_empty())
            .map_or(&wire::tunnel::vxlan::FORMAT, |(_, f)| *f);
        let format = reader.parse("exts", |text| exts(of, text)).flatten().unwrap_or(without_exts);
        let sequence = reader.boolean("seq").unwrap_or(false);
        reader.parse("packet_type", |text| packet_type(format, text));
        let egress_pkt_mark = reader.parse("egress_pkt_mark", |text| {
            number(text)
                .and_then(|mark| u32::try_from(mark).ok())
                .ok_or_else(|| format!("found {text:?}, expected a number of 32 bits"))
        });
        let split_horizon = reader.boolean("split-horizon").unwrap_or(true);
        let mss_clamp = reader.boolean("mss-clamp").unwrap_or(false);
        let reassemble = reader.boolean("reassemble").unwrap_or(true);
        let udp6zerocsumrx = reader.boolean("udp6zerocsumrx").unwrap_or(false);

        let family = first(&remote_ip).map(IpAddr::is_ipv6);
        if let (LocalIp::Addr(local), Some(v6)) = (local_ip, family)
            && local.is_ipv6() != v6
        {
            reader.error("local_ip", format!("{local} is not of remote_ip's address family"));
        }
        if of.only_ipv6 && family == Some(false) {
            reader.error(
                "remote_ip",
                format!("found an IPv4 address, expected an IPv6 one: {} runs over IPv6", of.name),
            );
        }
        if of.only_ipv6 && matches!(local_ip, LocalIp::Addr(IpAddr::V4(_))) {
            reader.error(
                "local_ip",
                format!("found an IPv4 address, expected an IPv6 one: {} runs over IPv6", of.name),
            );
        }
        if let RemoteIp::Group(group) = remote_ip {
            multicast(&mut reader, of, group, local_ip);
        } else if options.contains_key("dev") {
            reader.error("dev", "expected none: only packets to a multicast group need one");
        }
        if remote_ip == RemoteIp::Evpn {
            evpn(&mut reader, of, local_ip, (in_key, out_key));
        }
        let over_v6 = family == Some(true) || matches!(local_ip, LocalIp::Addr(IpAddr::V6(_)));
        let header = HeaderOptions {
            key: options.contains_key("out_key") || options.contains_key("key"),
            csum: csum.unwrap_or(over_v6 && of.csum_over_ipv6),
            sequence,
        };
        reader.finish(Self {
            format,
            tunnel_type: of,
            remote_ip,
            local_ip,
            dev: options.get("dev").cloned(),
            in_key,
            out_key,
            transport: Transport { protocol: format.protocol, port },
            tos,
            ttl,
            df_default,
            header,
            egress_pkt_mark: egress_pkt_mark.unwrap_or(0),
            split_horizon,
            mss_clamp,
            udp6zerocsumrx,
            reassemble,
            vlan_vni,
        })
    }

    /// The fixed remotes; empty with `flow`, `evpn` and a group.
    pub fn remotes(&self) -> &[IpAddr] {
        match &self.remote_ip {
            RemoteIp::Addrs(addrs) => addrs,
            RemoteIp::Flow | RemoteIp::Evpn | RemoteIp::Group(_) => &[],
        }
    }

    /// The multicast group.
    pub fn group(&self) -> Option<IpAddr> {
        match self.remote_ip {
            RemoteIp::Group(group) => Some(group),
            RemoteIp::Flow | RemoteIp::Evpn | RemoteIp::Addrs(_) => None,
        }
    }

    /// Where frames to many are sent to, as far as that is fixed: the remotes, or the group.
    pub fn destinations(&self) -> &[IpAddr] {
        match &self.remote_ip {
            RemoteIp::Addrs(addrs) => addrs,
            RemoteIp::Group(group) => std::slice::from_ref(group),
            RemoteIp::Flow | RemoteIp::Evpn => &[],
        }
    }

    /// Whether it is a type in UDP.
    pub fn is_udp(&self) -> bool {
        self.transport.protocol == IP_UDP
    }

    /// Whether a packet could match both ports in such a way that nothing says which one it is for: same UDP port or IP
    /// protocol, same VNI or key (or both `flow`), a remote in common (or both `flow`) and the same local address. A
    /// specific value beats `flow`, so a mix of the two is told apart. `local_ip` not given and `flow` both take any
    /// address on receive: of two such ports one would never get a packet, so they count as the same.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let remote = match (&self.remote_ip, &other.remote_ip) {
            // With a group any remote is received from.
            (RemoteIp::Flow | RemoteIp::Group(_), RemoteIp::Flow | RemoteIp::Group(_))
            | (RemoteIp::Evpn, RemoteIp::Evpn) => true,
            (RemoteIp::Addrs(a), RemoteIp::Addrs(b)) => a.iter().any(|addr| b.contains(addr)),
            _ => false,
        };
        // Packets to the group are both ports', whatever their own addresses.
        let same_group = self.group().is_some() && self.group() == other.group();
        let local = match (self.local_ip, other.local_ip) {
            _ if same_group => true,
            (LocalIp::Addr(a), LocalIp::Addr(b)) => a == b,
            (LocalIp::Addr(_), _) | (_, LocalIp::Addr(_)) => false,
            _ => true,
        };
        self.transport == other.transport && self.in_key == other.in_key && remote && local
    }
}

fn first(remote: &RemoteIp) -> Option<&IpAddr> {
    match remote {
        RemoteIp::Addrs(addrs) => addrs.first(),
        RemoteIp::Group(group) => Some(group),
        RemoteIp::Flow | RemoteIp::Evpn => None,
    }
}

/// What a port whose frames to many go to a multicast group cannot have.
fn multicast(reader: &mut Reader<'_>, of: &TunnelType, group: IpAddr, local_ip: LocalIp) {
    if of.name != "vxlan" {
        reader.error(
            "remote_ip",
            format!("multicast group {group} with type {}, expected type vxlan", of.name),
        );
    }
    // Switches flood these to every port, and nobody can be a member of them.
    let is_reserved = match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => {
            let segments = group.segments();
            segments[0] & 15 < 2 || segments[0] & 15 == 2 && segments[1..7] == [0; 6] && segments[7] < 0x100
        }
    };
    if is_reserved {
        reader.error(
            "remote_ip",
            format!("{group} is reserved for protocols of the link, expected another group, 239.1.1.1 say"),
        );
    }
    if local_ip == LocalIp::Flow {
        reader.error("local_ip", "flow with a multicast group, expected an address".to_owned());
    }
}

/// What a port whose remotes come from EVPN cannot have.
fn evpn(reader: &mut Reader<'_>, of: &TunnelType, local_ip: LocalIp, keys: (TunnelKey, TunnelKey)) {
    if of.name != "vxlan" {
        reader.error("remote_ip", format!("evpn with type {}, expected type vxlan", of.name));
    }
    match local_ip {
        LocalIp::Addr(ip) if ip.is_ipv6() => reader.error(
            "local_ip",
            format!("{ip} with remote_ip=evpn, expected an IPv4 address: FRR below 10.6 knows no IPv6 VTEPs"),
        ),
        LocalIp::Flow => reader.error("local_ip", "flow with remote_ip=evpn, expected an address".to_owned()),
        LocalIp::Any | LocalIp::Addr(_) => {}
    }
    if !matches!(keys, (TunnelKey::Vni(a), TunnelKey::Vni(b)) if a == b && a != 0) {
        reader.error(
            "remote_ip",
            "evpn without a VNI, expected one key, not 0, for both directions".to_owned(),
        );
    }
}

/// A VTEP's address: unicast.
fn vtep(text: &str) -> Result<IpAddr, String> {
    let addr: IpAddr =
        text.parse().map_err(|_| format!("found {text:?}, expected an IPv4 or IPv6 address or \"flow\""))?;
    if addr.is_multicast() {
        return Err(format!("{addr} is a multicast group, expected a unicast address"));
    }
    let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    if addr.is_unspecified() || broadcast {
        return Err(format!("{addr} is no VTEP's address, expected a unicast address"));
    }
    Ok(addr)
}

fn remote_ip(text: &str) -> Result<RemoteIp, String> {
    match text {
        "flow" => return Ok(RemoteIp::Flow),
        "evpn" => return Ok(RemoteIp::Evpn),
        _ => {}
    }
    if let Ok(group) = text.trim().parse::<IpAddr>()
        && group.is_multicast()
    {
        return Ok(RemoteIp::Group(group));
    }
    let mut addrs = Vec::new();
    for part in text.split(',').map(str::trim) {
        let addr = vtep(part)?;
        if addrs.contains(&addr) {
            return Err(format!("{addr} stands twice"));
        }
        if addrs.first().is_some_and(|first: &IpAddr| first.is_ipv4() != addr.is_ipv4()) {
            return Err("IPv4 and IPv6 remotes in one port, expected addresses of one family".to_owned());
        }
        if addrs.len() == MAX_REMOTES {
            return Err(format!("expected {MAX_REMOTES} remotes at most"));
        }
        addrs.push(addr);
    }
    Ok(RemoteIp::Addrs(addrs))
}

fn local_ip(text: &str) -> Result<LocalIp, String> {
    if text == "flow" { Ok(LocalIp::Flow) } else { vtep(text).map(LocalIp::Addr) }
}

fn tunnel_key(of: &TunnelType, text: &str) -> Result<TunnelKey, String> {
    let expected = format!("expected 0 to {} or \"flow\"", of.key_max);
    if text == "flow" {
        return Ok(TunnelKey::Flow);
    }
    match number(text) {
        Some(key) if key <= of.key_max.into() => Ok(TunnelKey::Vni(key as u32)),
        Some(key) => Err(format!("{key} is over {} bits, {expected}", of.key_max.count_ones())),
        None => Err(format!("found {text:?}, {expected}")),
    }
}

fn inheritable(text: &str, low: u64) -> Result<Inheritable, String> {
    if text == "inherit" {
        return Ok(Inheritable::Inherit);
    }
    match number_in(text, low, 255) {
        Ok(value) => Ok(Inheritable::Value(value as u8)),
        Err(message) => Err(format!("{message} or \"inherit\"")),
    }
}

fn exts(of: &TunnelType, text: &str) -> Result<Option<&'static TunnelFormat>, String> {
    let known: Vec<&str> = of.formats.iter().map(|(ext, _)| *ext).filter(|ext| !ext.is_empty()).collect();
    let mut found: Option<(&str, &'static TunnelFormat)> = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((ext, format)) = of.formats.iter().find(|(ext, _)| *ext == part) else {
            return Err(format!("found {part:?}, expected {}", one_of(&known)));
        };
        if let Some((before, _)) = found
            && before != *ext
        {
            return Err(format!(
                "{before} and {ext} together, expected one of them: they use the same header bits"
            ));
        }
        found = Some((ext, format));
    }
    Ok(found.map(|(_, format)| format))
}

/// All but VXLAN as RFC 7348 has it can carry packets without an Ethernet header; a bridge's ports carry frames.
fn packet_type(format: &TunnelFormat, text: &str) -> Result<(), String> {
    match text {
        "legacy_l2" => Ok(()),
        // What carries nothing but frames is aware of the only type that there is.
        "ptap" if matches!(format.name, "vxlan" | "vxlan-gbp") => Ok(()),
        "legacy_l3" | "ptap" => {
            Err(format!("{text} carries packets without an Ethernet header, expected legacy_l2"))
        }
        _ => Err(format!("found {text:?}, expected legacy_l2")),
    }
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
