//! Tunnel types: how packets in tunnels are recognised, read and written.
//!
//! A type is one file: [`vxlan`], [`geneve`], [`gre`]. It says everything that is particular to the type as a
//! [`TunnelType`] (what the port type is called and which options it has) and one [`TunnelFormat`] or more (how its
//! header is read, written and told). [`TYPES`] lists them; nothing else in the switch knows a type by name. What all
//! types have in common is here too: the outer headers on receive ([`outer`], [`udp4`], [`same_header`]) and on
//! transmit ([`encap`]).

pub mod encap;
pub mod geneve;
pub mod gre;
pub mod outer;
pub mod same_header;
pub mod udp4;
pub mod vxlan;

use crate::proto::IP_UDP;
use core::fmt;
use encap::EncapPatch;
use outer::OuterError;

/// The types, as values of Interface `type`.
pub static TYPES: [&TunnelType; 4] = [&vxlan::TYPE, &geneve::TYPE, &gre::TYPE, &gre::TYPE_IPV6];

/// The longest tunnel header without options, in bytes.
pub const HEADER_MAX_LEN: usize = 16;

/// A port type of tunnels: what its options may be.
#[derive(Debug)]
pub struct TunnelType {
    /// Value of Interface `type`.
    pub name: &'static str,
    /// The format without `exts`, then those of the values of `exts`.
    pub formats: &'static [(&'static str, &'static TunnelFormat)],
    /// Default of `dst_port`; `None` for a type that has no UDP header, and then no such option.
    pub dst_port: Option<u16>,
    /// What a key is called: VNI, key.
    pub key_name: &'static str,
    /// The largest key.
    pub key_max: u32,
    /// Whether `csum` is on over IPv6 when it is not given.
    pub csum_over_ipv6: bool,
    /// Options that not all types have.
    pub options: &'static [&'static str],
    /// Whether remotes must be IPv6 addresses.
    pub only_ipv6: bool,
}

/// Types are the same when their names are: each is one static.
impl PartialEq for TunnelType {
    fn eq(&self, other: &TunnelType) -> bool {
        self.name == other.name
    }
}

impl Eq for TunnelType {}

/// The type of a name.
pub fn tunnel_type(name: &str) -> Option<&'static TunnelType> {
    TYPES.iter().find(|of| of.name == name).copied()
}

/// Whether packets of an IP protocol can be tunnel packets.
#[inline]
pub fn is_transport(protocol: u8) -> bool {
    protocol == IP_UDP || TYPES.iter().any(|of| of.formats.iter().any(|(_, f)| f.protocol == protocol))
}

/// How IP packets carry a tunnel's headers: what tells them from other packets to the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transport {
    /// IP protocol.
    pub protocol: u8,
    /// UDP destination port, host order; 0 for a protocol without ports.
    pub port: u16,
}

impl Transport {
    /// UDP to a port.
    pub const fn udp(port: u16) -> Transport {
        Transport { protocol: IP_UDP, port }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protocol == IP_UDP {
            write!(f, "UDP port {}", self.port)
        } else {
            write!(f, "IP protocol {}", self.protocol)
        }
    }
}

/// What a tunnel header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelHeader {
    /// VNI or key; 0 for a header without one.
    pub id: u32,
    /// `TUN_*` bits of [`crate::key`] that stand in this header.
    pub flags: u16,
    /// Group policy ID.
    pub gbp_id: u16,
    /// Group policy flags.
    pub gbp_flags: u8,
    /// Bytes of the header, options included.
    pub len: u16,
    /// Bytes of options at its end.
    pub options_len: u16,
    /// Whether the header has a checksum over itself and all behind it.
    pub checksum: bool,
}

/// What a port's options say about the header that it sends, where the type leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderOptions {
    /// Whether there is a key (GRE; others always have one).
    pub key: bool,
    /// Whether there is a checksum: the UDP header's, or the tunnel header's own (GRE).
    pub csum: bool,
    /// Whether there is a sequence number (GRE).
    pub sequence: bool,
}

impl HeaderOptions {
    /// None of them.
    pub const NONE: HeaderOptions = HeaderOptions { key: false, csum: false, sequence: false };
    /// A checksum.
    pub const CSUM: HeaderOptions = HeaderOptions { csum: true, ..HeaderOptions::NONE };
}

/// How the headers of a tunnel type, or of one of its extensions, are read, written and told.
pub struct TunnelFormat {
    /// As `trace` and `show` print it.
    pub name: &'static str,
    /// IP protocol that carries it.
    pub protocol: u8,
    /// Bytes of the header that is sent, without options; [`HEADER_MAX_LEN`] at most.
    pub len: fn(HeaderOptions) -> usize,
    /// Offset of a checksum in the header, where it has one of its own.
    pub checksum_at: Option<usize>,
    /// Writes what all headers of a port have in common; the slice is zero and of that length.
    pub init: fn(&mut [u8], HeaderOptions),
    /// Writes what a packet has of its own.
    pub patch: fn(&mut [u8], HeaderOptions, &EncapPatch),
    /// Reads the header from the first bytes of what the IP or UDP packet carries.
    pub read: fn(&[u8]) -> Result<TunnelHeader, OuterError>,
    /// Number of the [pattern](udp4::PATTERNS) by which ordinary headers are recognised, for a format that has one.
    pub pattern: Option<u8>,
    /// Prints the header that is sent, as in `vxlan(vni=5)`.
    pub text: fn(&mut dyn fmt::Write, HeaderOptions, &EncapPatch) -> fmt::Result,
}

/// Formats are the same when their names are: each is one static.
impl PartialEq for TunnelFormat {
    fn eq(&self, other: &TunnelFormat) -> bool {
        self.name == other.name
    }
}

impl Eq for TunnelFormat {}

impl fmt::Debug for TunnelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A header in words, for `trace` and `show`.
#[derive(Debug)]
pub struct HeaderText<'a>(pub &'static TunnelFormat, pub HeaderOptions, pub &'a EncapPatch);

impl fmt::Display for HeaderText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0.text)(f, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        for (at, of) in TYPES.iter().enumerate() {
            assert!(TYPES[..at].iter().all(|other| other.name != of.name), "{}", of.name);
            for (ext, format) in of.formats {
                let all = HeaderOptions { key: true, csum: true, sequence: true };
                assert!((format.len)(all) <= HEADER_MAX_LEN, "{} {ext}", of.name);
                assert_eq!(of.dst_port.is_some(), format.protocol == IP_UDP, "{} {ext}", of.name);
                assert!(is_transport(format.protocol));
            }
        }
        assert!(!is_transport(6) && tunnel_type("stt").is_none());
    }
}
