//! Geneve (RFC 8926): a VNI, and options of type, length and value that only those who agreed on them understand.

use super::outer::OuterError;
use super::udp4::GENEVE;
use super::vxlan::{VNI_MAX, put_vni};
use super::{TunnelFormat, TunnelHeader, TunnelType};
use crate::bytes::{array, put};
use crate::key::TUN_OAM;
use crate::proto::IP_UDP;

/// Bytes of a Geneve header without options.
pub const GENEVE_LEN: usize = 8;
/// IANA's UDP port for Geneve.
pub const GENEVE_PORT: u16 = 6081;
/// Protocol type of what follows: an Ethernet frame.
pub const ETHERNET: u16 = 0x6558;
/// Second byte: a control packet, for the endpoint and not for the overlay's hosts.
pub const FLAG_OAM: u8 = 0x80;
/// Second byte: some options are critical.
pub const FLAG_CRITICAL: u8 = 0x40;
/// The most bytes of options that the header has a length for.
pub const OPTIONS_MAX_LEN: usize = 63 * 4;
/// Bytes of an option's header.
pub const OPTION_LEN: usize = 4;
/// The bit of an option's type that says that who does not know it must drop the packet.
pub const TYPE_CRITICAL: u8 = 0x80;

/// The port type `geneve`.
pub static TYPE: TunnelType = TunnelType {
    name: "geneve",
    formats: &[("", &FORMAT)],
    dst_port: Some(GENEVE_PORT),
    key_name: "VNI",
    key_max: VNI_MAX,
    csum_over_ipv6: true,
    options: &["dst_port"],
    only_ipv6: false,
};

/// The header.
pub static FORMAT: TunnelFormat = TunnelFormat {
    name: "geneve",
    protocol: IP_UDP,
    len: |_| GENEVE_LEN,
    checksum_at: None,
    init: |out, _| put(out, 2, ETHERNET.to_be_bytes()),
    patch: |out, _, patch| {
        let oam = if patch.oam { FLAG_OAM } else { 0 };
        let critical = if patch.critical { FLAG_CRITICAL } else { 0 };
        put(out, 0, [patch.options_len / 4, oam | critical]);
        put_vni(out, patch.vni);
    },
    read,
    pattern: Some(GENEVE),
    text: |out, _, patch| {
        write!(out, "geneve({}vni={}", if patch.oam { "oam," } else { "" }, patch.vni)?;
        if patch.options_len > 0 {
            write!(out, ",{} bytes of options", patch.options_len)?;
        }
        out.write_char(')')
    },
};

fn read(bytes: &[u8]) -> Result<TunnelHeader, OuterError> {
    let [version_and_len, flags, p0, p1, v0, v1, v2, _] = array(bytes, 0).ok_or(OuterError::Truncated)?;
    if version_and_len >> 6 != 0 {
        return Err(OuterError::GeneveVersion);
    }
    if u16::from_be_bytes([p0, p1]) != ETHERNET {
        return Err(OuterError::Protocol);
    }
    let options_len = usize::from(version_and_len & 0x3f) * 4;
    let len = GENEVE_LEN + options_len;
    let options = bytes.get(GENEVE_LEN..len).ok_or(OuterError::Truncated)?;
    let mut all = Options(options);
    let mut critical = false;
    for option in all.by_ref() {
        critical |= option.is_critical();
    }
    if !all.0.is_empty() {
        return Err(OuterError::GeneveOptions);
    }
    if critical {
        return Err(OuterError::GeneveCritical);
    }
    Ok(TunnelHeader {
        id: u32::from_be_bytes([0, v0, v1, v2]),
        flags: if flags & FLAG_OAM != 0 { TUN_OAM } else { 0 },
        len: len as u16,
        options_len: options_len as u16,
        ..TunnelHeader::default()
    })
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeneveOption<'a> {
    /// Who gives the types their meaning.
    pub class: u16,
    /// Type, with [`TYPE_CRITICAL`].
    pub kind: u8,
    /// Value: 0 to 124 bytes, a multiple of 4.
    pub data: &'a [u8],
}

impl GeneveOption<'_> {
    /// Whether who does not know it must drop the packet.
    pub const fn is_critical(&self) -> bool {
        self.kind & TYPE_CRITICAL != 0
    }
}

/// The options of a header, in order, until one that goes beyond its end.
#[derive(Debug, Clone)]
pub struct Options<'a>(pub &'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = GeneveOption<'a>;

    #[inline]
    fn next(&mut self) -> Option<GeneveOption<'a>> {
        let [c0, c1, kind, len] = array(self.0, 0)?;
        let len = usize::from(len & 0x1f) * 4;
        let data = self.0.get(OPTION_LEN..OPTION_LEN + len)?;
        self.0 = &self.0[OPTION_LEN + len..];
        Some(GeneveOption { class: u16::from_be_bytes([c0, c1]), kind, data })
    }
}
