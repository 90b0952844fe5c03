//! GRE (RFC 2784) with key and sequence number (RFC 2890), carrying Ethernet frames: the port types `gre`, over IPv4
//! or IPv6, and `ip6gre`, over IPv6.

use super::outer::OuterError;
use super::{HeaderOptions, TunnelFormat, TunnelHeader, TunnelType};
use crate::bytes::{array, put};

/// IP protocol: GRE.
pub const IP_GRE: u8 = 47;
/// Bytes of a header without optional fields.
pub const GRE_LEN: usize = 4;
/// Bytes of each optional field.
const FIELD_LEN: usize = 4;
/// Protocol type of what follows: an Ethernet frame.
pub const ETHERNET: u16 = 0x6558;
/// First two bytes: a checksum is there.
const CHECKSUM: u16 = 0x8000;
/// First two bytes: a key is there.
const KEY: u16 = 0x2000;
/// First two bytes: a sequence number is there.
const SEQUENCE: u16 = 0x1000;

/// The port type `gre`.
pub static TYPE: TunnelType = TunnelType {
    name: "gre",
    formats: &[("", &FORMAT)],
    dst_port: None,
    key_name: "key",
    key_max: u32::MAX,
    csum_over_ipv6: false,
    options: &["seq", "packet_type"],
    only_ipv6: false,
};

/// The port type `ip6gre`.
pub static TYPE_IPV6: TunnelType = TunnelType { name: "ip6gre", only_ipv6: true, ..TYPE };

/// The header.
pub static FORMAT: TunnelFormat = TunnelFormat {
    name: "gre",
    protocol: IP_GRE,
    len: |options| GRE_LEN + FIELD_LEN * fields(options),
    checksum_at: Some(GRE_LEN),
    init: |out, options| {
        let bit = |on, bit| if on { bit } else { 0 };
        let flags = bit(options.csum, CHECKSUM) | bit(options.key, KEY) | bit(options.sequence, SEQUENCE);
        put(out, 0, flags.to_be_bytes());
        put(out, 2, ETHERNET.to_be_bytes());
    },
    patch: |out, options, patch| {
        let mut at = GRE_LEN + if options.csum { FIELD_LEN } else { 0 };
        if options.key {
            put(out, at, patch.vni.to_be_bytes());
            at += FIELD_LEN;
        }
        if options.sequence {
            put(out, at, patch.sequence.to_be_bytes());
        }
    },
    read,
    pattern: None,
    text: |out, options, patch| {
        out.write_str("gre(proto=0x6558")?;
        if options.csum {
            out.write_str(",csum")?;
        }
        if options.key {
            write!(out, ",key={}", patch.vni)?;
        }
        out.write_str(if options.sequence { ",seq)" } else { ")" })
    },
};

fn fields(options: HeaderOptions) -> usize {
    usize::from(options.csum) + usize::from(options.key) + usize::from(options.sequence)
}

/// Bits that must be 0: routing, which RFC 2784 has done away with, reserved ones that change the format, version.
const UNKNOWN: u16 = !(CHECKSUM | KEY | SEQUENCE);

fn read(bytes: &[u8]) -> Result<TunnelHeader, OuterError> {
    let [f0, f1, p0, p1] = array(bytes, 0).ok_or(OuterError::Truncated)?;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & UNKNOWN != 0 {
        return Err(OuterError::GreFlags);
    }
    if u16::from_be_bytes([p0, p1]) != ETHERNET {
        return Err(OuterError::Protocol);
    }
    let has = |bit| flags & bit != 0;
    let options = HeaderOptions { key: has(KEY), csum: has(CHECKSUM), sequence: has(SEQUENCE) };
    let len = GRE_LEN + FIELD_LEN * fields(options);
    if bytes.len() < len {
        return Err(OuterError::Truncated);
    }
    let at = GRE_LEN + if options.csum { FIELD_LEN } else { 0 };
    let id = if options.key { array(bytes, at).map_or(0, u32::from_be_bytes) } else { 0 };
    Ok(TunnelHeader { id, len: len as u16, checksum: options.csum, ..TunnelHeader::default() })
}
