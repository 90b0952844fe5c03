//! Geneve (RFC 8926): a VNI, and options of type, length and value that only those who agreed on them understand.

use super::outer::OuterError;
use super::udp4::GENEVE;
use super::vxlan::{VNI_MAX, put_vni};
use super::{TunnelFormat, TunnelHeader, TunnelType};
use crate::bytes::{array, put};
use crate::key::{FlowKey, TUN_METADATA_LEN, TUN_OAM};
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
    options: &["dst_port", "packet_type", "udp6zerocsumrx"],
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
    while all.next().is_some() {}
    if !all.0.is_empty() {
        return Err(OuterError::GeneveOptions);
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

/// Number of `tun_metadata` fields.
pub const TLV_FIELDS: usize = 64;
/// The longest value of an option that a field can have, in bytes.
pub const TLV_MAX_LEN: u8 = 16;

/// An option that has a field: which it is, and where its value stands in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tlv {
    /// Number of the field: `tun_metadata0` to `tun_metadata63`.
    pub field: u8,
    /// Option class.
    pub class: u16,
    /// Option type.
    pub kind: u8,
    /// Bytes of the value: a multiple of 4, [`TLV_MAX_LEN`] at most.
    pub len: u8,
    /// Offset of the value in [`FlowKey::tun_metadata`].
    pub offset: u8,
}

impl Tlv {
    /// The field's bit of [`FlowKey::tun_metadata_present`].
    pub const fn bit(&self) -> u64 {
        1 << (self.field % TLV_FIELDS as u8)
    }

    /// The value in a key; of a mask, its mask.
    pub fn value<'k>(&self, key: &'k FlowKey) -> &'k [u8] {
        let start = usize::from(self.offset);
        key.tun_metadata.get(start..start + usize::from(self.len)).unwrap_or(&[])
    }

    /// The header and the value of the option, in a buffer of 20 bytes of which so many count.
    pub fn write(&self, key: &FlowKey) -> ([u8; OPTION_LEN + TLV_MAX_LEN as usize], usize) {
        let mut out = [0; OPTION_LEN + TLV_MAX_LEN as usize];
        let value = self.value(key);
        let [c0, c1] = self.class.to_be_bytes();
        put(&mut out, 0, [c0, c1, self.kind, (value.len() / 4) as u8]);
        if let Some(to) = out.get_mut(OPTION_LEN..OPTION_LEN + value.len()) {
            to.copy_from_slice(value);
        }
        (out, OPTION_LEN + value.len())
    }
}

/// An option cannot have a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// There is no such field.
    #[error("expected tun_metadata0 to tun_metadata63")]
    Field,
    /// The length is none that an option, or a field, can have.
    #[error("expected len to be a multiple of 4 up to {TLV_MAX_LEN}")]
    Len,
    /// The field has another option.
    #[error("tun_metadata{0} has an option already, expected a field without one")]
    FieldTaken(u8),
    /// The option has another field.
    #[error("this option is tun_metadata{0} already")]
    OptionTaken(u8),
    /// No room for the value.
    #[error("all options together have {TUN_METADATA_LEN} bytes at most")]
    Full,
}

/// The options that have fields, in the order of the fields: a bridge's TLV map (`ovs-ofctl add-tlv-map`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlvMap {
    tlvs: [Tlv; TLV_FIELDS],
    len: u8,
}

impl TlvMap {
    /// No options.
    pub const EMPTY: TlvMap =
        TlvMap { tlvs: [Tlv { field: 0, class: 0, kind: 0, len: 0, offset: 0 }; TLV_FIELDS], len: 0 };

    /// The options, in the order of their fields.
    pub fn tlvs(&self) -> &[Tlv] {
        self.tlvs.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// The option of a field.
    pub fn of_field(&self, field: u8) -> Option<&Tlv> {
        self.tlvs().iter().find(|tlv| tlv.field == field)
    }

    /// Gives an option a field. Others keep their places in keys.
    ///
    /// # Errors
    /// [`TlvError`]; the map is as it was.
    pub fn add(&mut self, (class, kind, len): (u16, u8, u8), field: u8) -> Result<(), TlvError> {
        if usize::from(field) >= TLV_FIELDS {
            return Err(TlvError::Field);
        }
        if len > TLV_MAX_LEN || !len.is_multiple_of(4) {
            return Err(TlvError::Len);
        }
        if self.of_field(field).is_some() {
            return Err(TlvError::FieldTaken(field));
        }
        if let Some(other) = self.tlvs().iter().find(|tlv| (tlv.class, tlv.kind) == (class, kind)) {
            return Err(TlvError::OptionTaken(other.field));
        }
        let offset = self.free(len).ok_or(TlvError::Full)?;
        let at = self.tlvs().partition_point(|tlv| tlv.field < field);
        let end = usize::from(self.len);
        // There is room: a field that is free is one of 64.
        self.tlvs.copy_within(at..end, (at + 1).min(TLV_FIELDS - (end - at)));
        self.tlvs[at] = Tlv { field, class, kind, len, offset };
        self.len += 1;
        Ok(())
    }

    /// The first place that is free for so many bytes.
    fn free(&self, len: u8) -> Option<u8> {
        (0..=TUN_METADATA_LEN as u8 - len).step_by(4).find(|offset| {
            let apart = |tlv: &Tlv| tlv.offset + tlv.len <= *offset || offset + len <= tlv.offset;
            len == 0 || self.tlvs().iter().all(apart)
        })
    }

    /// Takes a field from its option; false when it has none.
    pub fn remove(&mut self, field: u8) -> bool {
        let Some(at) = self.tlvs().iter().position(|tlv| tlv.field == field) else { return false };
        let end = usize::from(self.len);
        self.tlvs.copy_within(at + 1..end, at);
        self.len -= 1;
        self.tlvs[end - 1] = Tlv::default();
        true
    }

    /// Writes the options of a packet, which [`read`] has found to be in order, to the fields of its key.
    ///
    /// # Errors
    /// [`OuterError::GeneveCritical`] for a critical option without a field (RFC 8926, section 3.5),
    /// [`OuterError::GeneveOptions`] for one with another length than its field's.
    pub fn fill_key(&self, options: &[u8], key: &mut FlowKey) -> Result<(), OuterError> {
        for option in Options(options) {
            match self.tlvs().iter().find(|tlv| (tlv.class, tlv.kind) == (option.class, option.kind)) {
                Some(tlv) if usize::from(tlv.len) == option.data.len() => {
                    key.tun_metadata_present |= tlv.bit();
                    let start = usize::from(tlv.offset);
                    if let Some(to) = key.tun_metadata.get_mut(start..start + option.data.len()) {
                        to.copy_from_slice(option.data);
                    }
                }
                Some(_) => return Err(OuterError::GeneveOptions),
                None if option.is_critical() => return Err(OuterError::GeneveCritical),
                None => {}
            }
        }
        Ok(())
    }
}

impl Default for TlvMap {
    fn default() -> Self {
        TlvMap::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_get_fields_and_places_that_stay() {
        let mut map = TlvMap::EMPTY;
        map.add((0xffff, 1, 16), 9).unwrap();
        map.add((0xffff, 2, 4), 3).unwrap();
        map.add((0x102, 0x80, 8), 63).unwrap();
        let places = |map: &TlvMap| {
            map.tlvs().iter().map(|t| (t.field, t.offset, t.len)).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(places(&map), [(3, 16, 4), (9, 0, 16), (63, 20, 8)]);
        assert_eq!(map.add((0xffff, 1, 16), 4), Err(TlvError::OptionTaken(9)));
        assert_eq!(map.add((0xffff, 5, 16), 3), Err(TlvError::FieldTaken(3)));
        assert_eq!(map.add((0xffff, 5, 6), 5), Err(TlvError::Len));
        assert_eq!(map.add((0xffff, 5, 20), 5), Err(TlvError::Len));
        assert_eq!(map.add((0xffff, 5, 4), 64), Err(TlvError::Field));
        assert!(map.remove(9) && !map.remove(9));
        map.add((1, 1, 8), 0).unwrap();
        assert_eq!(places(&map), [(0, 0, 8), (3, 16, 4), (63, 20, 8)], "the freed place, and nobody moves");
        for n in 0..15 {
            map.add((2, n, 4), n + 10).unwrap();
        }
        assert_eq!(map.add((3, 0, 16), 40), Err(TlvError::Full));
        // Options without a value take no room.
        for n in 30..62 {
            map.add((4, n, 0), n).unwrap();
        }
        assert!(map.tlvs().is_sorted_by_key(|tlv| tlv.field));
        let mut all = TlvMap::EMPTY;
        for n in (0..64).rev() {
            all.add((1, n, 0), n).unwrap();
        }
        assert_eq!(all.tlvs().len(), 64);
    }

    #[test]
    fn options_are_read_and_written() {
        let mut map = TlvMap::EMPTY;
        map.add((0x102, 0x80, 8), 1).unwrap();
        map.add((0x102, 1, 0), 0).unwrap();
        let bytes = [1, 2, 0x80, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff, 1, 1, 9, 9, 9, 9, 1, 2, 1, 0];
        let mut key = FlowKey::ZERO;
        map.fill_key(&bytes, &mut key).unwrap();
        assert_eq!((key.tun_metadata_present, &key.tun_metadata[..9]), (3, &[1, 2, 3, 4, 5, 6, 7, 8, 0][..]));
        let written = |n: usize| {
            let (bytes, len) = map.tlvs()[n].write(&key);
            bytes[..len].to_vec()
        };
        assert_eq!((written(0), written(1)), (bytes[20..].to_vec(), bytes[..12].to_vec()));
        assert_eq!(map.fill_key(&[1, 2, 0x80, 1, 0, 0, 0, 0], &mut key), Err(OuterError::GeneveOptions));
        assert_eq!(map.fill_key(&[1, 3, 0x80, 0], &mut key), Err(OuterError::GeneveCritical));
    }
}
