//! Match fields in bytes: the headers that say which field follows (NXM and OXM), by the numbers of the rule model's
//! table of fields.

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use flow::ofp::{Field, Layer, Oxm, Subfield};
use std::sync::LazyLock;
use wire::tunnel::geneve::{TLV_FIELDS, TlvMap};

/// `NXM_OF` and `NXM_NX`: the classes of Nicira's extension of OpenFlow 1.0.
const NXM: [u16; 2] = [0x0000, 0x0001];
/// Experimenters' fields, whose header has their number behind it.
const EXPERIMENTER: u16 = 0xffff;

/// What a field is called in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// Class.
    class: u16,
    /// Number in the class.
    number: u8,
    /// Experimenter of class 0xffff, else 0.
    experimenter: u32,
    /// Bytes of a value.
    pub bytes: u8,
}

/// The cookie, which stands among the fields of a match in NXM.
pub const COOKIE: Name = Name { class: NXM[1], number: 30, experimenter: 0, bytes: 8 };

/// `NXM_NX_TUN_METADATA0`, which the other fields of tunnel options follow.
const TUN_METADATA: u8 = 40;
/// Bytes of a tunnel option's value in a header that names the field of an option, whichever that is.
const OPTION_BYTES: u8 = 124;

/// `OXM_OF_PACKET_TYPE`: Ethernet's are all that a bridge has, and a match may say so.
pub const PACKET_TYPE: Name = Name { class: 0x8000, number: 44, experimenter: 0, bytes: 4 };

/// The fields that have numbers and are not another name of registers, prerequisites first.
static ORDER: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let rank = |field: &Field| match field.info().layer {
        Layer::Port => 0,
        Layer::Ethernet => 1,
        Layer::Vlan => 2,
        Layer::Ip => 3,
        Layer::Arp | Layer::Ipv4 | Layer::Ipv6 => 4,
        Layer::Transport | Layer::Icmp => 5,
        Layer::Nd => 6,
        Layer::Tunnel => 7,
        Layer::Register => 8,
    };
    let says = |field: &Field| {
        let info = field.info();
        !info.oxm.is_empty() && (info.layer != Layer::Register || info.match_name.is_some())
    };
    let mut all: Vec<Field> = Field::all().filter(says).collect();
    all.sort_by_key(rank);
    all
});

/// The fields that have numbers, prerequisites first.
pub fn fields() -> impl Iterator<Item = Field> {
    ORDER.iter().copied()
}

/// What the field is called. `oxm`: by its OXM name if it has one, else by its NXM name first.
pub fn name_of(field: Field, oxm: bool, version: Version) -> Option<Name> {
    let named = |name: &Oxm| {
        let (class, experimenter) = name.class();
        Name { class, experimenter, number: name.number, bytes: name.length }
    };
    let names = || field.info().oxm.iter().map(named);
    // OpenFlow 1.5 took fields over that were an experimenter's in 1.3 and 1.4.
    let experimental =
        (oxm && version < Version::V15).then(|| names().find(|name| name.class == EXPERIMENTER)).flatten();
    let preferred = experimental.or_else(|| names().find(|name| name.is_only_nxm() != oxm));
    preferred.or_else(|| names().next())
}

/// The names of the fields of tunnel options, those without an option too: a bridge's TLV map may give them one.
pub fn tun_metadata() -> impl Iterator<Item = Name> {
    let name = |number| Name { class: NXM[1], number, experimenter: 0, bytes: OPTION_BYTES };
    (0..TLV_FIELDS as u8).map(move |number| name(TUN_METADATA + number))
}

/// What the field is called in a list of fields, where `in_port` stands in both of its widths.
pub fn listed(field: Field, version: Version) -> impl Iterator<Item = Name> {
    let both = [field == Field::InPort, true].into_iter().zip([false, true]);
    both.filter_map(move |(is_listed, oxm)| name_of(field, oxm, version).filter(|_| is_listed))
}

/// The field with this name; which `tun_metadata` fields there are says the bridge's TLV map.
pub fn field_of(name: Name, tlvs: &TlvMap) -> Option<Field> {
    if name.class == NXM[1]
        && let Some(tlv) = name.number.checked_sub(TUN_METADATA).and_then(|number| tlvs.of_field(number))
    {
        return Some(Field::TunMetadata(*tlv));
    }
    Field::from_oxm(name.class, name.experimenter, name.number).map(|(field, _)| field)
}

impl Name {
    /// Whether numbers of the same field and class are meant.
    pub fn is(self, other: Name) -> bool {
        (self.class, self.number, self.experimenter) == (other.class, other.number, other.experimenter)
    }

    /// Whether it is one of the headers that Nicira's actions of a fixed length have room for.
    pub fn is_nxm(self) -> bool {
        self.class != EXPERIMENTER
    }

    /// Whether a value of the field may have this length. Values of `tun_metadata` fields are as long as their first byte that
    /// is not zero makes them.
    pub fn fits(self, field: Field, version: Version) -> bool {
        let lengths = [true, false].map(|oxm| name_of(field, oxm, version).map(|name| name.bytes));
        let is_shorter = |length: Option<u8>| length.is_some_and(|length| self.bytes < length);
        lengths.contains(&Some(self.bytes))
            || matches!(field, Field::TunMetadata(_)) && lengths.into_iter().any(is_shorter)
    }

    /// Whether it is a name that only NXM has.
    pub fn is_only_nxm(self) -> bool {
        NXM.contains(&self.class)
    }
}

/// What fields of Nicira's are called that are known and not served.
const REFUSED: &[(u8, &str)] = &[
    (105, "ct_state"),
    (106, "ct_zone"),
    (107, "ct_mark"),
    (108, "ct_label"),
    (119, "ct_nw_proto"),
    (120, "ct_nw_src"),
    (121, "ct_nw_dst"),
    (122, "ct_ipv6_src"),
    (123, "ct_ipv6_dst"),
    (124, "ct_tp_src"),
    (125, "ct_tp_dst"),
];

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refused = REFUSED.iter().find(|row| self.class == NXM[1] && row.0 == self.number);
        if let Some((_, name)) = refused {
            write!(f, "{name}, ")?;
        }
        write!(f, "field {} of class {:#06x}", self.number, self.class)
    }
}

/// A header: which field, and whether a mask follows the value. The length counts both.
pub fn header(c: &mut impl Coder, name: &mut Name, masked: &mut bool) -> Step {
    let experimenter: u8 = if name.class == EXPERIMENTER { 4 } else { 0 };
    let mut number = name.number << 1 | u8::from(*masked);
    let mut length = experimenter + name.bytes * if *masked { 2 } else { 1 };
    c.u16(&mut name.class)?;
    c.u8(&mut number)?;
    c.u8(&mut length)?;
    (name.number, *masked) = (number >> 1, number & 1 != 0);
    if name.class == EXPERIMENTER {
        c.u32(&mut name.experimenter)?;
        length = length.checked_sub(4).ok_or_else(|| {
            Error::new(Code::OfpbmcBadLen, "an experimenter's field has the experimenter's number")
        })?;
    } else {
        name.experimenter = 0;
    }
    if *masked && !length.is_multiple_of(2) {
        return Err(Error::new(Code::OfpbmcBadLen, "a value and its mask have the same length"));
    }
    name.bytes = if *masked { length / 2 } else { length };
    Ok(())
}

/// Some bits of a field: only the header here, without a mask.
pub fn field_header(c: &mut impl Coder, field: &mut Field) -> Step {
    // NXM's `in_port` has the model's 16 bits, OXM's 32.
    let oxm = c.version() >= Version::V13 && *field != Field::InPort;
    let mut name = match name_of(*field, oxm, c.version()) {
        Some(name) => name,
        // Fields that belong to several protocols have no name of their own.
        None => match field {
            Field::TpSrc => name_of(Field::TcpSrc, oxm, c.version()),
            Field::TpDst => name_of(Field::TcpDst, oxm, c.version()),
            _ => None,
        }
        .ok_or_else(|| Error::new(Code::OfpbacBadSetType, format!("{} has no number", field.name())))?,
    };
    header(c, &mut name, &mut false)?;
    let unknown = || Error::new(Code::OfpbacBadSetType, format!("{name} is not known"));
    *field = field_of(name, &c.dialect().tlvs).ok_or_else(unknown)?;
    Ok(())
}

/// The width that OpenFlow gives the named form of a field, bits: the reach of subfields.
pub fn check(bits: Subfield) -> Step {
    let width = bits.field.info().bits;
    if bits.bits == 0 || u16::from(bits.start) + u16::from(bits.bits) > width.into() {
        return Err(Error::new(
            Code::OfpbacBadSetLen,
            format!("{} has {width} bits, not {} from {} on", bits.field.name(), bits.bits, bits.start),
        ));
    }
    Ok(())
}

/// `ofs_nbits`: six bits of offset and ... no field is longer than 64 bits there; then, elsewhere, the field.
pub fn offset_bits(c: &mut impl Coder, start: &mut u8, bits: &mut u8) -> Step {
    let mut both = u16::from(*start) << 6 | u16::from(bits.wrapping_sub(1) & 63);
    c.u16(&mut both)?;
    *start = u8::try_from(both >> 6)
        .map_err(|_| Error::new(Code::OfpbacBadSetLen, "no field has so many bits"))?;
    *bits = (both & 63) as u8 + 1;
    Ok(())
}

/// The field of a subfield whose offset and length are known.
pub fn subfield(c: &mut impl Coder, bits: &mut Subfield) -> Step {
    field_header(c, &mut bits.field)?;
    check(*bits)
}

/// A subfield to read into.
pub fn nothing() -> Subfield {
    Subfield { field: Field::Reg0, start: 0, bits: 1 }
}
