//! Matches as bytes: lists of fields (NXM, OXM) and the fixed structure of OpenFlow 1.0.

use crate::Version;
use crate::coder::{Coder, Mark, Step};
use crate::error::{Code, Error};
use crate::field::{self, COOKIE, Name, PACKET_TYPE, field_of, fields, name_of};
use flow::ofp::{Field, Match, MatchKey};
use wire::key::VLAN_PRESENT;

/// Which cookies are meant: a value and the bits of it that matter.
pub type CookieMask = (u64, u64);

/// `ofp_match` of OpenFlow 1.2 and later: type, length, fields, and padding that the length does not count.
pub fn oxm<C: Coder>(c: &mut C, what: &mut Match) -> Step {
    let start = c.offset();
    unpadded(c, what)?;
    c.align(start)
}

/// [`oxm`] without its padding.
fn unpadded<C: Coder>(c: &mut C, what: &mut Match) -> Step {
    let start = c.offset();
    let mut kind = 1;
    c.u16(&mut kind)?;
    if kind != 1 {
        return Err(Error::new(Code::OfpbmcBadType, "matches are OXM fields"));
    }
    let length = c.length16()?;
    c.counted_from(start, length, |c| list(c, what, None, true))
}

/// [`oxm`] whose length also stood before.
pub fn oxm_counted<C: Coder>(c: &mut C, length: Mark, what: &mut Match) -> Step {
    let start = c.offset();
    c.counted(length, |c| unpadded(c, what))?;
    c.align(start)
}

/// The fields of Nicira's messages: their length stood before.
pub fn nxm<C: Coder>(c: &mut C, length: Mark, what: &mut Match, cookie: Option<&mut CookieMask>) -> Step {
    let start = c.offset();
    c.counted(length, |c| list(c, what, cookie, false))?;
    c.align(start)
}

/// Fields up to the end of what encloses them.
pub fn list<C: Coder>(c: &mut C, what: &mut Match, cookie: Option<&mut CookieMask>, oxm: bool) -> Step {
    if C::READS { read(c, what, cookie) } else { write(c, what, cookie, oxm) }
}

fn write(c: &mut impl Coder, what: &Match, cookie: Option<&mut CookieMask>, oxm: bool) -> Step {
    for field in fields() {
        // One storage, two ways to say it: the DSCP alone or in its byte, VLAN ID and priority together or apart.
        if matches!(field, Field::VlanVid | Field::VlanPcp | Field::IpDscp) && !oxm
            || field == Field::NwTos && oxm
        {
            continue;
        }
        let mask = field.get(what.mask());
        if mask == 0 || !field.info().prerequisite.is_met(what) {
            continue;
        }
        if field == Field::VlanTci && oxm {
            write_vlan(c, what)?;
            continue;
        }
        if oxm && matches!(field, Field::VlanVid | Field::VlanPcp) {
            continue;
        }
        let Some(mut name) = name_of(field, oxm, c.version()) else { continue };
        let mut value = to_wire(field, name, field.get(what.key()));
        let mut masked = mask != field.info().exact();
        if field == Field::IpFrag && (value, mask) == (2, 2) {
            (value, masked) = (FRAGMENT_LATER, false);
        }
        field::header(c, &mut name, &mut masked)?;
        c.bits(&mut value, name.bytes.into())?;
        if masked {
            c.bits(&mut { mask }, name.bytes.into())?;
        }
    }
    write_options(c, what)?;
    if let Some((cookie, mask)) = cookie.filter(|cookie| cookie.1 != 0) {
        let mut masked = *mask != u64::MAX;
        field::header(c, &mut { COOKIE }, &mut masked)?;
        c.u64(&mut { *cookie & *mask })?;
        if masked {
            c.u64(mask)?;
        }
    }
    Ok(())
}

/// `tun_metadata` fields: with a mask of nothing where it only matters that the option is there.
fn write_options(c: &mut impl Coder, what: &Match) -> Step {
    let present = what.key().flow.tun_metadata_present & what.mask().flow.tun_metadata_present;
    let tlvs = c.dialect().tlvs;
    for tlv in tlvs.tlvs().iter().filter(|tlv| present & tlv.bit() != 0) {
        let field = Field::TunMetadata(*tlv);
        let Some(mut name) = name_of(field, true, c.version()) else { continue };
        let mut mask = field.get(what.mask());
        let mut masked = mask != field.info().exact();
        field::header(c, &mut name, &mut masked)?;
        c.bits(&mut field.get(what.key()), name.bytes.into())?;
        if masked {
            c.bits(&mut mask, name.bytes.into())?;
        }
    }
    Ok(())
}

/// VLAN ID and priority as OXM has them: the ID with a bit that says that there is a tag.
fn write_vlan(c: &mut impl Coder, what: &Match) -> Step {
    let (key, mask) = (what.key().flow.vlan_tci.get(), what.mask().flow.vlan_tci.get());
    let with_bit = 0x0fff | VLAN_PRESENT;
    if mask & with_bit != 0
        && let Some(mut name) = name_of(Field::VlanVid, true, c.version())
    {
        let mut masked = mask & with_bit != with_bit;
        field::header(c, &mut name, &mut masked)?;
        c.u16(&mut { key & with_bit })?;
        if masked {
            c.u16(&mut { mask & with_bit })?;
        }
    }
    if key & VLAN_PRESENT != 0
        && mask & 0xe000 != 0
        && let Some(mut name) = name_of(Field::VlanPcp, true, c.version())
    {
        field::header(c, &mut name, &mut false)?;
        c.u8(&mut { (key >> 13) as u8 })?;
    }
    Ok(())
}

/// `nw_frag=later` on the wire, which has a later fragment also be a fragment.
const FRAGMENT_LATER: u128 = 3;

/// A value as the wire has it: OXM's ports have 32 bits.
pub fn to_wire(field: Field, name: Name, value: u128) -> u128 {
    if field == Field::InPort && name.bytes == 4 && value >= 0xff00 { value | 0xffff_0000 } else { value }
}

/// A value as the model has it.
pub fn from_wire(field: Field, name: Name, value: u128) -> Result<u128, Error> {
    if field == Field::InPort && name.bytes == 4 {
        return match value {
            0..0xff00 => Ok(value),
            0xffff_ff00.. => Ok(value & 0xffff),
            _ => Err(Error::new(Code::OfpbmcBadValue, "ports are below 0xff00 or from 0xffffff00 on")),
        };
    }
    Ok(value)
}

fn read(c: &mut impl Coder, what: &mut Match, mut cookie: Option<&mut CookieMask>) -> Step {
    let (mut key, mut mask) = (MatchKey::ZERO, MatchKey::ZERO);
    while c.more(false) {
        let (mut name, mut masked) = (COOKIE, false);
        field::header(c, &mut name, &mut masked)?;
        let length: usize = name.bytes.into();
        if length == 0 || length > 16 {
            return Err(Error::new(Code::OfpbmcBadLen, format!("{name} with {length} bytes")));
        }
        let (mut value, mut bits) = (0, u128::MAX >> (128 - 8 * length));
        let all = bits;
        c.bits(&mut value, length)?;
        if masked {
            c.bits(&mut bits, length)?;
            if value & !bits != 0 {
                return Err(Error::new(
                    Code::OfpbmcBadWildcards,
                    format!("{name}: bits outside of its mask"),
                ));
            }
        }
        if name.is(COOKIE) && length == 8 {
            let Some(cookie) = cookie.take() else {
                return Err(Error::new(
                    Code::NxbrcNxmInvalid,
                    "a cookie, once and where cookies choose flows",
                ));
            };
            *cookie = (value as u64, bits as u64);
            continue;
        }
        if name.is(PACKET_TYPE) && length == 4 {
            if value != 0 {
                return Err(Error::new(Code::OfpbmcBadValue, "packets are Ethernet's: packet_type=(0,0)"));
            }
            continue;
        }
        let Some(field) = field_of(name, &c.dialect().tlvs) else {
            return Err(Error::new(Code::OfpbmcBadField, format!("{name} is not known")));
        };
        if !name.fits(field, c.version()) {
            return Err(Error::new(Code::OfpbmcBadLen, format!("{} with {length} bytes", field.name())));
        }
        if !field.info().prerequisite.is_met(&Match::new(&key, &mask)) && field != Field::VlanVid {
            let needs = field.info().prerequisite.needs();
            return Err(Error::new(Code::OfpbmcBadPrereq, format!("{} needs {needs}", field.name())));
        }
        if let Field::TunMetadata(tlv) = field {
            key.flow.tun_metadata_present |= tlv.bit();
            mask.flow.tun_metadata_present |= tlv.bit();
            let bits = if masked { bits } else { field.info().exact() };
            put(&mut key, &mut mask, field, value, bits)?;
            continue;
        }
        add(&mut key, &mut mask, field, from_wire(field, name, value)?, (bits, all))?;
    }
    *what = Match::new(&key, &mask);
    Ok(())
}

/// Adds a field to a match.
fn add(
    key: &mut MatchKey,
    mask: &mut MatchKey,
    field: Field,
    value: u128,
    (bits, all): (u128, u128),
) -> Step {
    let info = field.info();
    if field == Field::VlanVid {
        let with_bit = u128::from(0x0fff | VLAN_PRESENT);
        if value & !with_bit != 0 {
            return Err(Error::new(Code::OfpbmcBadValue, "vlan_vid has 13 bits"));
        }
        return put(key, mask, Field::VlanTci, value, bits & with_bit);
    }
    let whole = bits == all || bits & info.max() == info.max();
    if !whole && !field.is_maskable() && field != Field::IpFrag {
        return Err(Error::new(Code::OfpbmcBadMask, format!("{} takes no mask", field.name())));
    }
    if value & !info.max() != 0 || value & !info.exact() != 0 {
        return Err(Error::new(Code::OfpbmcBadValue, format!("{} cannot be {value:#x}", field.name())));
    }
    if field == Field::IpFrag && whole && value == FRAGMENT_LATER {
        return put(key, mask, field, 2, 2);
    }
    put(key, mask, field, value, if whole { info.exact() } else { bits & info.exact() })
}

fn put(key: &mut MatchKey, mask: &mut MatchKey, field: Field, value: u128, bits: u128) -> Step {
    if field.get(mask) & bits != 0 {
        return Err(Error::new(Code::OfpbmcDupField, format!("{} twice", field.name())));
    }
    field.set_masked(key, value, bits);
    field.set_masked(mask, bits, bits);
    Ok(())
}

/// `ofp10_match`: wildcard bits, and fields of a fixed place.
pub fn standard10<C: Coder>(c: &mut C, what: &mut Match) -> Step {
    debug_assert_eq!(c.version(), Version::V10);
    let mut raw = Match10::of(what);
    raw.code(c)?;
    if C::READS {
        *what = raw.to_match()?;
    }
    Ok(())
}

#[derive(Default)]
struct Match10 {
    wildcards: u32,
    in_port: u16,
    dl_src: u128,
    dl_dst: u128,
    dl_vlan: u16,
    dl_vlan_pcp: u8,
    dl_type: u16,
    nw_tos: u8,
    nw_proto: u8,
    nw_src: u32,
    nw_dst: u32,
    tp_src: u16,
    tp_dst: u16,
}

/// A field of the fixed structure that is there or not: its wildcard bit and the fields that it can be.
type Bit = (u32, &'static [Field]);

const IN_PORT: Bit = (1, &[Field::InPort]);
const DL_SRC: Bit = (1 << 2, &[Field::EthSrc]);
const DL_DST: Bit = (1 << 3, &[Field::EthDst]);
const DL_TYPE: Bit = (1 << 4, &[Field::EthType]);
const NW_PROTO: Bit = (1 << 5, &[Field::IpProto, Field::ArpOp]);
const TP_SRC: Bit = (1 << 6, &[Field::TcpSrc, Field::UdpSrc, Field::SctpSrc, Field::IcmpType]);
const TP_DST: Bit = (1 << 7, &[Field::TcpDst, Field::UdpDst, Field::SctpDst, Field::IcmpCode]);
const NW_TOS: Bit = (1 << 21, &[Field::NwTos]);
const NW_SRC: &[Field] = &[Field::IpSrc, Field::ArpSpa];
const NW_DST: &[Field] = &[Field::IpDst, Field::ArpTpa];
const DL_VLAN: u32 = 1 << 1;
const DL_VLAN_PCP: u32 = 1 << 20;
const VLAN_NONE: u16 = 0xffff;

impl Match10 {
    fn code(&mut self, c: &mut impl Coder) -> Step {
        c.u32(&mut self.wildcards)?;
        c.u16(&mut self.in_port)?;
        c.bits(&mut self.dl_src, 6)?;
        c.bits(&mut self.dl_dst, 6)?;
        c.u16(&mut self.dl_vlan)?;
        c.u8(&mut self.dl_vlan_pcp)?;
        c.pad(1)?;
        c.u16(&mut self.dl_type)?;
        c.u8(&mut self.nw_tos)?;
        c.u8(&mut self.nw_proto)?;
        c.pad(2)?;
        c.u32(&mut self.nw_src)?;
        c.u32(&mut self.nw_dst)?;
        c.u16(&mut self.tp_src)?;
        c.u16(&mut self.tp_dst)
    }

    /// What of a match has a place here; the rest is not matched on.
    fn of(what: &Match) -> Match10 {
        let mut raw = Match10 { wildcards: (1 << 22) - 1, ..Match10::default() };
        let met = |list: &[Field]| list.iter().copied().find(|f| f.info().prerequisite.is_met(what));
        let mut exact = |(bit, list): Bit| {
            let field = met(list).filter(|f| f.get(what.mask()) == f.info().exact());
            field.map_or(0, |field| {
                raw.wildcards &= !bit;
                field.get(what.key())
            })
        };
        let (in_port, dl_src, dl_dst) = (exact(IN_PORT) as u16, exact(DL_SRC), exact(DL_DST));
        let (dl_type, nw_proto) = (exact(DL_TYPE) as u16, exact(NW_PROTO) as u8);
        let (tp_src, tp_dst, nw_tos) = (exact(TP_SRC) as u16, exact(TP_DST) as u16, exact(NW_TOS) as u8);
        raw = Match10 { in_port, dl_src, dl_dst, dl_type, nw_tos, nw_proto, tp_src, tp_dst, ..raw };
        let prefix = |list: &[Field]| {
            let field = met(list)?;
            let mask = field.get(what.mask()) as u32;
            (mask.leading_ones() + mask.trailing_zeros() == 32)
                .then(|| (field.get(what.key()) as u32, mask.trailing_zeros()))
        };
        for (list, shift, is_source) in [(NW_SRC, 8, true), (NW_DST, 14, false)] {
            if let Some((address, wild)) = prefix(list).filter(|(_, wild)| *wild < 32) {
                raw.wildcards = raw.wildcards & !(63 << shift) | wild << shift;
                *(if is_source { &mut raw.nw_src } else { &mut raw.nw_dst }) = address;
            }
        }
        let (key, mask) = (what.key().flow.vlan_tci.get(), what.mask().flow.vlan_tci.get());
        if mask & VLAN_PRESENT != 0 && key & VLAN_PRESENT == 0 {
            raw.wildcards &= !DL_VLAN;
            raw.dl_vlan = VLAN_NONE;
        } else {
            if mask & 0xfff == 0xfff {
                raw.wildcards &= !DL_VLAN;
                raw.dl_vlan = key & 0xfff;
            }
            if mask & 0xe000 == 0xe000 {
                raw.wildcards &= !DL_VLAN_PCP;
                raw.dl_vlan_pcp = (key >> 13) as u8;
            }
        }
        raw
    }

    /// The match that is meant. Fields without what they need mean nothing and are left out, as Open vSwitch does.
    ///
    /// # Errors
    /// `OFPBMC_BAD_VALUE` for an ICMP type or code of more than 8 bits.
    fn to_match(&self) -> Result<Match, Error> {
        let (mut key, mut mask) = (MatchKey::ZERO, MatchKey::ZERO);
        let mut put = |list: &[Field], value: u128, bits: Option<u128>| -> Step {
            let so_far = Match::new(&key, &mask);
            let met = |field: &&Field| field.info().prerequisite.is_met(&so_far);
            if let Some(field) = list.iter().find(met) {
                if value & !field.info().max() != 0 {
                    let text = format!("{} cannot be {value:#x}", field.name());
                    return Err(Error::new(Code::OfpbmcBadValue, text));
                }
                let bits = bits.unwrap_or(field.info().exact());
                field.set_masked(&mut key, value, bits);
                field.set_masked(&mut mask, bits, bits);
            }
            Ok(())
        };
        let parts: [(Bit, u128); 8] = [
            (IN_PORT, self.in_port.into()),
            (DL_SRC, self.dl_src),
            (DL_DST, self.dl_dst),
            (DL_TYPE, self.dl_type.into()),
            (NW_PROTO, self.nw_proto.into()),
            (TP_SRC, self.tp_src.into()),
            (TP_DST, self.tp_dst.into()),
            (NW_TOS, (self.nw_tos & 0xfc).into()),
        ];
        for ((bit, list), value) in parts {
            if self.wildcards & bit == 0 {
                put(list, value, None)?;
            }
        }
        for (list, shift, address) in [(NW_SRC, 8, self.nw_src), (NW_DST, 14, self.nw_dst)] {
            let wild = self.wildcards >> shift & 63;
            if wild < 32 {
                let bits = u32::MAX << wild;
                put(list, u128::from(address & bits), Some(bits.into()))?;
            }
        }
        let (mut tci, mut bits) = (0, 0);
        if self.wildcards & DL_VLAN == 0 && self.dl_vlan == VLAN_NONE {
            bits = u16::MAX;
        } else {
            if self.wildcards & DL_VLAN == 0 {
                tci |= self.dl_vlan & 0xfff | VLAN_PRESENT;
                bits |= 0xfff | VLAN_PRESENT;
            }
            if self.wildcards & DL_VLAN_PCP == 0 {
                tci |= u16::from(self.dl_vlan_pcp & 7) << 13 | VLAN_PRESENT;
                bits |= 0xe000 | VLAN_PRESENT;
            }
        }
        put(&[Field::VlanTci], tci.into(), Some(bits.into()))?;
        Ok(Match::new(&key, &mask))
    }
}
