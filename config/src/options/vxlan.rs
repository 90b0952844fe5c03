//! Options of a port of type `vxlan`, as OVS users write them (`ovs-vswitchd.conf.db(5)`, table Interface).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{OptionError, Reader, number, number_in};

const KNOWN: [&str; 13] = [
    "remote_ip",
    "local_ip",
    "key",
    "in_key",
    "out_key",
    "dst_port",
    "tos",
    "ttl",
    "df_default",
    "csum",
    "exts",
    "egress_pkt_mark",
    "split-horizon",
];
/// UDP port of VXLAN (RFC 7348 section 5).
const VXLAN_PORT: u16 = 4789;
const DEFAULT_TTL: u8 = 64;
const MAX_VNI: u64 = 0xff_ffff;
/// More remotes than this in one port's list is a mistake: each costs a copy of every flooded frame.
const MAX_REMOTES: usize = 1024;

/// Where a vxlan port sends, and from where it receives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RemoteIp {
    /// Fixed remote VTEPs, at least one and all of one family; with several, frames to many are
    /// replicated to each (head-end replication).
    Addrs(Vec<IpAddr>),
    /// `flow`: rules set `tun_dst`; any remote is received from.
    Flow,
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

/// A VNI, or the flow table's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKey {
    /// Fixed VNI, 24 bits.
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

/// A VXLAN extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ext {
    /// Group Based Policy (draft-smith-vxlan-group-policy).
    Gbp,
    /// Generic Protocol Extension (draft-ietf-nvo3-vxlan-gpe).
    Gpe,
}

/// A vxlan port's options, typed and with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanOptions {
    /// `remote_ip`.
    pub remote_ip: RemoteIp,
    /// `local_ip`.
    pub local_ip: LocalIp,
    /// `in_key`, else `key`, else VNI 0: what received packets must carry.
    pub in_key: TunnelKey,
    /// `out_key`, else `key`, else VNI 0: what sent packets carry.
    pub out_key: TunnelKey,
    /// `dst_port`: UDP port sent to and listened on. Host order. Default 4789.
    pub dst_port: u16,
    /// `tos`: outer TOS or traffic class; its ECN bits do not count, ECN is always inherited. Default 0.
    pub tos: Inheritable,
    /// `ttl`: outer TTL or hop limit, 1 to 255. Default 64.
    pub ttl: Inheritable,
    /// `df_default`: outer Don't Fragment. Default true.
    pub df_default: bool,
    /// `csum`: outer UDP checksum on transmit. Default off over IPv4, on over IPv6.
    pub csum: bool,
    /// `exts`. GBP and GPE use the same header bits, so there is at most one.
    pub ext: Option<Ext>,
    /// `egress_pkt_mark`: mark that routing may look at.
    pub egress_pkt_mark: u32,
    /// `split-horizon` (ours): no flooding from this tunnel to another that has it too. Default true.
    pub split_horizon: bool,
}

impl VxlanOptions {
    /// Reads a port's `options`; all errors at once.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Vec<OptionError>> {
        let mut reader = Reader::new(options, &KNOWN);
        if !options.contains_key("remote_ip") {
            reader.missing("remote_ip", "the remote VTEP's address, several joined by commas, or \"flow\"");
        }
        let remote_ip = reader.parse("remote_ip", remote_ip).unwrap_or(RemoteIp::Flow);
        let local_ip = reader.parse("local_ip", local_ip).unwrap_or(LocalIp::Any);
        let key = reader.parse("key", tunnel_key).unwrap_or(TunnelKey::Vni(0));
        let in_key = reader.parse("in_key", tunnel_key).unwrap_or(key);
        let out_key = reader.parse("out_key", tunnel_key).unwrap_or(key);
        let dst_port = reader.number("dst_port", 1, 0xffff).map_or(VXLAN_PORT, |port| port as u16);
        let tos = reader.parse("tos", |text| inheritable(text, 0)).unwrap_or(Inheritable::Value(0));
        let ttl = reader.parse("ttl", |text| inheritable(text, 1)).unwrap_or(Inheritable::Value(DEFAULT_TTL));
        let df_default = reader.boolean("df_default").unwrap_or(true);
        let csum = reader.boolean("csum");
        let ext = reader.parse("exts", exts).flatten();
        let egress_pkt_mark = reader.parse("egress_pkt_mark", |text| {
            number(text)
                .and_then(|mark| u32::try_from(mark).ok())
                .ok_or_else(|| format!("found {text:?}, expected a number of 32 bits"))
        });
        let split_horizon = reader.boolean("split-horizon").unwrap_or(true);

        let family = first(&remote_ip).map(IpAddr::is_ipv6);
        if let (LocalIp::Addr(local), Some(v6)) = (local_ip, family)
            && local.is_ipv6() != v6
        {
            reader.error("local_ip", format!("{local} is not of remote_ip's address family"));
        }
        let csum = csum.unwrap_or(family == Some(true) || matches!(local_ip, LocalIp::Addr(IpAddr::V6(_))));
        reader.finish(Self {
            remote_ip,
            local_ip,
            in_key,
            out_key,
            dst_port,
            tos,
            ttl,
            df_default,
            csum,
            ext,
            egress_pkt_mark: egress_pkt_mark.unwrap_or(0),
            split_horizon,
        })
    }

    /// The fixed remotes; empty with `flow`.
    pub fn remotes(&self) -> &[IpAddr] {
        match &self.remote_ip {
            RemoteIp::Addrs(addrs) => addrs,
            RemoteIp::Flow => &[],
        }
    }

    /// Whether a packet could match both ports in such a way that nothing says which one it is for: same UDP port,
    /// same VNI (or both `flow`), a remote in common (or both `flow`) and the same local address. A
    /// specific value beats `flow`, so a mix of the two is told apart. `local_ip` not given and `flow` both take any
    /// address on receive: of two such ports one would never get a packet, so they count as the same.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let remote = match (&self.remote_ip, &other.remote_ip) {
            (RemoteIp::Flow, RemoteIp::Flow) => true,
            (RemoteIp::Addrs(a), RemoteIp::Addrs(b)) => a.iter().any(|addr| b.contains(addr)),
            _ => false,
        };
        let local = match (self.local_ip, other.local_ip) {
            (LocalIp::Addr(a), LocalIp::Addr(b)) => a == b,
            (LocalIp::Addr(_), _) | (_, LocalIp::Addr(_)) => false,
            _ => true,
        };
        self.dst_port == other.dst_port && self.in_key == other.in_key && remote && local
    }
}

fn first(remote: &RemoteIp) -> Option<&IpAddr> {
    match remote {
        RemoteIp::Addrs(addrs) => addrs.first(),
        RemoteIp::Flow => None,
    }
}

/// A VTEP's address: unicast.
fn vtep(text: &str) -> Result<IpAddr, String> {
    let addr: IpAddr =
        text.parse().map_err(|_| format!("found {text:?}, expected an IPv4 or IPv6 address or \"flow\""))?;
    if addr.is_multicast() {
        return Err(format!("{addr} is a multicast group, expected a unicast address (as in Open vSwitch)"));
    }
    let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
    if addr.is_unspecified() || broadcast {
        return Err(format!("{addr} is no VTEP's address, expected a unicast address"));
    }
    Ok(addr)
}

fn remote_ip(text: &str) -> Result<RemoteIp, String> {
    if text == "flow" {
        return Ok(RemoteIp::Flow);
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

fn tunnel_key(text: &str) -> Result<TunnelKey, String> {
    const EXPECTED: &str = "expected 0 to 16777215 or \"flow\"";
    if text == "flow" {
        return Ok(TunnelKey::Flow);
    }
    match number(text) {
        Some(vni) if vni <= MAX_VNI => Ok(TunnelKey::Vni(vni as u32)),
        Some(vni) => Err(format!("{vni} is over 24 bits, {EXPECTED}")),
        None => Err(format!("found {text:?}, {EXPECTED}")),
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

fn exts(text: &str) -> Result<Option<Ext>, String> {
    let mut found = None;
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let ext = match part {
            "gbp" => Ext::Gbp,
            "gpe" => Ext::Gpe,
            _ => return Err(format!("found {part:?}, expected gbp or gpe")),
        };
        if found.is_some_and(|before| before != ext) {
            return Err(
                "gbp and gpe together, expected one of them: they use the same header bits".to_owned()
            );
        }
        found = Some(ext);
    }
    Ok(found)
}

#[cfg(test)]
#[path = "vxlan_tests.rs"]
mod tests;
