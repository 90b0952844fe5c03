//! Match fields: what a row of the [table](super::table) says, and how values stand in a [`MatchKey`].

use super::key::MatchKey;
use super::prerequisite::Prerequisite;
pub use super::table::Field;
use super::table::TABLE;
use crate::program::Op;
use std::collections::HashMap;
use std::mem::offset_of;
use std::sync::LazyLock;
use wire::key::FlowKey;
use wire::key::TUN_METADATA_LEN;
use wire::tunnel::geneve::{TLV_FIELDS, TLV_MAX_LEN, Tlv, TlvMap};
use zerocopy::IntoBytes;

/// How a field's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Number, printed in decimal.
    Decimal,
    /// Number, printed as `0x..`.
    Hexadecimal,
    /// Port number, port name or `LOCAL`.
    Port,
    /// `02:00:00:00:0a:01`.
    Mac,
    /// `10.0.0.1`, masks as prefix length or dotted.
    Ipv4,
    /// `2001:db8::1`, masks as prefix length or address.
    Ipv6,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Fragment,
    /// `+syn-ack`, `syn|ack` or a number.
    TcpFlags,
    /// As [`Format::TcpFlags`], with the names of `wire::key::TUN_*`.
    TunnelFlags,
}

/// The header or the part of the pipeline that a field belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layer {
    /// Written by rules alone: zero when a packet enters the pipeline.
    Register,
    /// The port that the packet came in by.
    Port,
    /// The header of the tunnel that the packet came out of, or shall go into.
    Tunnel,
    /// Ethernet header.
    Ethernet,
    /// 802.1Q tag.
    Vlan,
    /// ARP message.
    Arp,
    /// IPv4 header.
    Ipv4,
    /// IPv6 header.
    Ipv6,
    /// What the headers of both IP versions have.
    Ip,
    /// TCP, UDP or SCTP header.
    Transport,
    /// ICMP or ICMPv6 message.
    Icmp,
    /// Neighbour solicitation or advertisement.
    Nd,
}

/// The stages in which the classifier looks at a packet, the cheapest to agree on first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Where the packet came from, the tunnel, registers.
    Metadata,
    /// Ethernet and VLAN.
    L2,
    /// IP and ARP.
    L3,
    /// What IP carries.
    L4,
}

impl Stage {
    /// Number of stages.
    pub const COUNT: usize = 4;
}

/// A name of a field in `load` and `move`, with its number in OpenFlow's extensible match (OXM, and NXM before it).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Oxm {
    /// `NXM_OF_ETH_DST` and the like. It begins with its class.
    pub name: &'static str,
    /// `oxm_field`, 7 bits.
    pub number: u8,
    /// Bytes of a value without a mask.
    pub length: u8,
}

/// What names begin with, class, experimenter (`ovs-fields(7)`, "NXM and OXM TLV"). The first that fits.
const CLASSES: &[(&str, u16, u32)] = &[
    ("NXM_OF_", 0x0000, 0),
    ("NXM_NX_", 0x0001, 0),
    ("OXM_OF_PKT_REG", 0x8001, 0),
    ("OXM_OF_", 0x8000, 0),
    ("ONFOXM_ET_", 0xffff, 0x4f4e_4600),
];

impl Oxm {
    /// `oxm_class`, and the experimenter of class 0xffff (0 in the others).
    pub fn class(&self) -> (u16, u32) {
        let class = CLASSES.iter().find(|(prefix, ..)| self.name.starts_with(prefix));
        class.map_or((u16::MAX, 0), |(_, class, experimenter)| (*class, *experimenter))
    }
}

/// A row of the table of fields.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// OVS's own name first, then what else it is called in matches and `set_field`.
    pub names: &'static [&'static str],
    /// Name in a printed match; `None` where another field of the same bits is printed instead.
    pub match_name: Option<&'static str>,
    /// Name in a printed megaflow, within its header's parentheses.
    pub megaflow_name: Option<&'static str>,
    /// OpenFlow's names and numbers, empty for a field that OpenFlow has none for. The first is what is printed.
    pub oxm: &'static [Oxm],
    /// Width in bits as OpenFlow has it.
    pub bits: u8,
    /// How values are written.
    pub format: Format,
    /// Whether matches take a mask (`ovs-fields(7)`, "Masking"). `ip_frag` has words for that instead.
    pub maskable: bool,
    /// Where it belongs.
    pub layer: Layer,
    /// When the classifier looks at it.
    pub stage: Stage,
    /// What the field needs before an action may touch it.
    pub prerequisite: Prerequisite,
    /// What a match on it needs: where OpenFlow 1.0 knew no better, less than actions do.
    pub match_prerequisite: Prerequisite,
    /// Whether actions may change it.
    pub writable: bool,
    /// The datapath's op that gives all bits of the field's storage a value; `None` for a field that is not in
    /// the packet, or that is set by another one's op.
    pub setter: Option<fn(u128) -> Op>,
    place: Place,
    /// How far left the value stands within its bytes.
    shift: u32,
    /// Bits of the value that the key has room for, or that belong to this field and not to a neighbour.
    stored: u128,
}

/// Bytes of a [`MatchKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Offset of the first byte.
    pub offset: usize,
    /// Number of bytes.
    pub size: usize,
    /// How they make a number.
    pub order: Order,
}

/// Byte order of a member of [`MatchKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As on the wire.
    Network,
    /// A native integer, or several native `u32` with the most significant one first.
    Host {
        /// Bytes of one integer.
        word: usize,
    },
}

const fn ones(bits: usize) -> u128 {
    if bits == 0 { 0 } else { u128::MAX >> (128 - bits) }
}

/// A row: everything that a field must say. What it does not say afterwards is: no OpenFlow number, printed in
/// matches under its first name and not in megaflows, no prerequisite, neither masked nor written.
pub(super) const fn row(
    names: &'static [&'static str],
    bits: u8,
    format: Format,
    layer: Layer,
    place: Place,
) -> FieldInfo {
    let room = if place.size * 8 < bits as usize { place.size * 8 } else { bits as usize };
    FieldInfo {
        names,
        match_name: Some(names[0]),
        megaflow_name: None,
        oxm: &[],
        bits,
        format,
        maskable: false,
        layer,
        stage: match layer {
            Layer::Register | Layer::Port | Layer::Tunnel => Stage::Metadata,
            Layer::Ethernet | Layer::Vlan => Stage::L2,
            Layer::Arp | Layer::Ipv4 | Layer::Ipv6 | Layer::Ip => Stage::L3,
            Layer::Transport | Layer::Icmp | Layer::Nd => Stage::L4,
        },
        prerequisite: Prerequisite::None,
        match_prerequisite: Prerequisite::None,
        writable: false,
        setter: None,
        place,
        shift: 0,
        stored: ones(room),
    }
}

impl FieldInfo {
    /// OpenFlow's names and numbers.
    pub(super) const fn oxm(mut self, oxm: &'static [Oxm]) -> Self {
        self.oxm = oxm;
        self
    }

    /// Printed in matches under this name.
    pub(super) const fn shown(mut self, name: &'static str) -> Self {
        self.match_name = Some(name);
        self
    }

    /// Another name for bits of a field that is printed in its place.
    pub(super) const fn alias(mut self) -> Self {
        self.match_name = None;
        self
    }

    /// Printed in megaflows under this name.
    pub(super) const fn megaflow(mut self, name: &'static str) -> Self {
        self.megaflow_name = Some(name);
        self
    }

    /// Takes a mask in matches.
    pub(super) const fn masked(mut self) -> Self {
        self.maskable = true;
        self
    }

    /// Actions may write it.
    pub(super) const fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// Actions may write it, which this op does to the packet.
    pub(super) const fn set(mut self, setter: fn(u128) -> Op) -> Self {
        self.writable = true;
        self.setter = Some(setter);
        self
    }

    /// What the packet must be.
    pub(super) const fn needs(mut self, prerequisite: Prerequisite) -> Self {
        self.prerequisite = prerequisite;
        self.match_prerequisite = prerequisite;
        self
    }

    /// What the packet must be for a match on the field, where that differs from what actions need.
    pub(super) const fn match_needs(mut self, prerequisite: Prerequisite) -> Self {
        self.match_prerequisite = prerequisite;
        self
    }

    /// The classifier looks at it then, and not when it looks at the rest of its layer.
    pub(super) const fn at_stage(mut self, stage: Stage) -> Self {
        self.stage = stage;
        self
    }

    /// Its value stands that many bits to the left.
    pub(super) const fn shift(mut self, shift: u32) -> Self {
        self.shift = shift;
        self
    }

    /// The bits of its value that mean anything, where that is not all for which OpenFlow and the key have room.
    pub(super) const fn stored(mut self, bits: u128) -> Self {
        self.stored = bits;
        self
    }

    /// The bits of a value that mean anything to the field: what an exact match's mask is. Narrower than
    /// [`bits`](Self::bits) for `tun_id` and `nw_tos`, wider for what shares a wider field's storage.
    pub fn exact(&self) -> u128 {
        self.stored
    }

    /// Largest value that may be written, from [`bits`](Self::bits).
    pub fn max(&self) -> u128 {
        ones(self.bits as usize)
    }

    /// The storage as a number.
    fn raw(&self, key: &MatchKey) -> u128 {
        let Place { offset, size, order } = self.place;
        let bytes = &key.as_bytes()[offset..offset + size];
        let fold = |value: u128, byte: &u8| value << 8 | u128::from(*byte);
        match order {
            Order::Host { word } if cfg!(target_endian = "little") => {
                bytes.chunks_exact(word).fold(0, |value, word| word.iter().rev().fold(value, fold))
            }
            _ => bytes.iter().fold(0, fold),
        }
    }

    /// Replaces the storage.
    fn set_raw(&self, key: &mut MatchKey, mut raw: u128) {
        let Place { offset, size, order } = self.place;
        let bytes = &mut key.as_mut_bytes()[offset..offset + size];
        let mut put = |byte: &mut u8| {
            *byte = raw as u8;
            raw >>= 8;
        };
        match order {
            Order::Host { word } if cfg!(target_endian = "little") => {
                bytes.chunks_exact_mut(word).rev().for_each(|word| word.iter_mut().for_each(&mut put));
            }
            _ => bytes.iter_mut().rev().for_each(&mut put),
        }
    }
}

/// Places where a value of an option can begin, and lengths that it can have.
const TLV_PLACES: usize = TUN_METADATA_LEN / 4 + 1;
const TLV_LENGTHS: usize = TLV_MAX_LEN as usize / 4 + 1;

/// Rows of the fields of Geneve options, by field, place and length: bridges differ in where they put them.
static TLV_ROWS: LazyLock<Vec<FieldInfo>> = LazyLock::new(|| {
    let mut rows = Vec::with_capacity(TLV_FIELDS * TLV_PLACES * TLV_LENGTHS);
    for number in 0..TLV_FIELDS {
        // These live as long as the program, as the table's do.
        let names: &'static [&'static str] = vec![&*format!("tun_metadata{number}").leak()].leak();
        let nxm: &'static str = format!("NXM_NX_TUN_METADATA{number}").leak();
        let oxm = [4, 4, 8, 12, 16]
            .map(|length| &*vec![Oxm { name: nxm, number: 40 + number as u8, length }].leak());
        for place in 0..TLV_PLACES {
            for (words, oxm) in oxm.iter().enumerate() {
                let offset = offset_of!(MatchKey, flow) + offset_of!(FlowKey, tun_metadata) + 4 * place;
                let place = Place { offset, size: 4 * words, order: Order::Network };
                let field = row(names, 32 * words as u8, Format::Hexadecimal, Layer::Tunnel, place);
                rows.push(field.masked().writable().oxm(oxm));
            }
        }
    }
    rows
});

fn tlv_row(tlv: Tlv) -> &'static FieldInfo {
    let place = usize::from(tlv.field) * TLV_PLACES + usize::from(tlv.offset / 4);
    &TLV_ROWS[place * TLV_LENGTHS + usize::from(tlv.len / 4)]
}

fn all_tun_metadata(mask: &mut MatchKey) {
    mask.flow.tun_metadata_present = u64::MAX;
    mask.flow.tun_metadata = [u8::MAX; TUN_METADATA_LEN];
}

/// An op that sets fields, and what it sets.
#[derive(Debug, Clone, Copy)]
pub struct Setter {
    /// Whose header it is.
    pub layer: Layer,
    /// All bits that the op sets, of several fields where they share a byte of the packet.
    pub bits: u128,
    row: &'static FieldInfo,
    op: fn(u128) -> Op,
}

impl Setter {
    /// What `key` has in the place that the op sets.
    pub fn get(&self, key: &MatchKey) -> u128 {
        self.row.raw(key) & self.bits
    }

    /// ORs all bits that the op sets into `mask`.
    pub fn mark(&self, mask: &mut MatchKey) {
        self.row.set_raw(mask, self.row.raw(mask) | self.bits);
    }

    /// The op that gives the packet this value.
    pub fn op(&self, value: u128) -> Op {
        (self.op)(value)
    }
}

/// All names: OVS's, aliases, NXM and OXM.
static BY_NAME: LazyLock<HashMap<&'static str, Field>> = LazyLock::new(|| {
    let names =
        |field: Field| field.info().names.iter().copied().chain(field.info().oxm.iter().map(|o| o.name));
    Field::all().flat_map(|field| names(field).map(move |name| (name, field))).collect()
});

/// Class, experimenter and field number of a match field on the wire.
type OxmKey = (u16, u32, u8);

/// The fields by OpenFlow's numbers.
static BY_OXM: LazyLock<HashMap<OxmKey, (Field, Oxm)>> = LazyLock::new(|| {
    let numbers = |field: Field| field.info().oxm.iter().map(move |oxm| (field, *oxm));
    let all = Field::all().flat_map(numbers);
    let keyed = all.map(|(field, oxm)| {
        let (class, experimenter) = oxm.class();
        ((class, experimenter, oxm.number), (field, oxm))
    });
    keyed.collect()
});

static SETTERS: LazyLock<Vec<Setter>> = LazyLock::new(|| {
    let sharing = |row: &FieldInfo| {
        let same = TABLE.iter().filter(|other| other.place == row.place);
        same.fold(0, |bits, other| bits | other.stored << other.shift)
    };
    let mut all: Vec<Setter> = TABLE
        .iter()
        .filter_map(|row| Some(Setter { layer: row.layer, bits: sharing(row), row, op: row.setter? }))
        .collect();
    // The options of neighbour discovery are found by the message's type, so that changes last.
    all.sort_by_key(|setter| setter.layer == Layer::Icmp);
    all
});

impl Field {
    /// Every field.
    pub fn all() -> impl Iterator<Item = Field> {
        Field::ALL.iter().copied()
    }

    /// The field's row of the table.
    #[inline]
    pub fn info(self) -> &'static FieldInfo {
        match (self.number(), self) {
            (Some(number), _) => &TABLE[number],
            (None, Field::TunMetadata(tlv)) => tlv_row(tlv),
            (None, _) => &TABLE[0],
        }
    }

    /// Whether the field takes a mask.
    pub fn is_maskable(self) -> bool {
        self.info().maskable
    }

    /// OVS's name of the field.
    pub fn name(self) -> &'static str {
        self.info().names[0]
    }

    /// The field with this name, alias or NXM/OXM name; the bridge's TLV map says which options have fields.
    ///
    /// # Errors
    /// `None` for no field's name, else what to do about a `tun_metadata` field that has no option.
    pub fn named(name: &str, tlvs: &TlvMap) -> Result<Field, Option<String>> {
        if let Some(field) = Field::from_name(name) {
            return Ok(field);
        }
        let number = name.strip_prefix("tun_metadata").or_else(|| name.strip_prefix("NXM_NX_TUN_METADATA"));
        let number: u8 =
            number.and_then(|n| n.parse().ok()).filter(|n| usize::from(*n) < TLV_FIELDS).ok_or(None)?;
        tlvs.of_field(number).map(|tlv| Field::TunMetadata(*tlv)).ok_or_else(|| {
            Some(format!("a field that has an option: give tun_metadata{number} one by add-tlv-map first"))
        })
    }

    /// The field with this name, alias or NXM/OXM name, if the table has it.
    pub fn from_name(name: &str) -> Option<Field> {
        BY_NAME.get(name).copied()
    }

    /// The field with this number in OpenFlow's extensible match; `experimenter` is 0 but for class 0xffff.
    pub fn from_oxm(class: u16, experimenter: u32, number: u8) -> Option<(Field, Oxm)> {
        BY_OXM.get(&(class, experimenter, number)).copied()
    }

    /// The ops that set fields of a packet, in the order in which they must be done.
    pub fn setters() -> &'static [Setter] {
        &SETTERS
    }

    /// A mask of all fields of which `wanted` is true.
    pub fn mask_of(wanted: impl Fn(&FieldInfo) -> bool) -> MatchKey {
        let mut mask = MatchKey::ZERO;
        for field in Field::all().filter(|field| wanted(field.info())) {
            field.set(&mut mask, field.info().exact());
        }
        if wanted(Field::TunMetadata(Tlv::default()).info()) {
            all_tun_metadata(&mut mask);
        }
        mask
    }

    /// A mask of all bytes in which fields are that the classifier looks at in this stage.
    pub(crate) fn bytes_of(stage: Stage) -> MatchKey {
        let mut mask = MatchKey::ZERO;
        for row in TABLE.iter().filter(|row| row.stage == stage) {
            row.set_raw(&mut mask, u128::MAX);
        }
        if stage == Stage::Metadata {
            all_tun_metadata(&mut mask);
        }
        mask
    }

    /// The field's value in `key`, right-aligned. Of a mask, its mask.
    pub fn get(self, key: &MatchKey) -> u128 {
        let info = self.info();
        info.raw(key) >> info.shift & info.stored
    }

    /// Sets the field. Bits that the field has no room for are lost: see [`FieldInfo::exact`].
    pub fn set(self, key: &mut MatchKey, value: u128) {
        let info = self.info();
        let raw = info.raw(key) & !(info.stored << info.shift) | (value & info.stored) << info.shift;
        info.set_raw(key, raw);
    }

    /// Sets the bits of `mask` to those of `value`.
    pub fn set_masked(self, key: &mut MatchKey, value: u128, mask: u128) {
        self.set(key, self.get(key) & !mask | value & mask);
    }
}

/// Some adjacent bits of a field: `NXM_NX_REG0[0..15]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// Lowest bit, 0 being the least significant.
    pub start: u8,
    /// Number of bits, at least 1.
    pub bits: u8,
}

impl Subfield {
    /// All bits of a field.
    pub fn whole(field: Field) -> Subfield {
        Subfield { field, start: 0, bits: field.info().bits }
    }

    /// Largest value.
    pub fn max(self) -> u128 {
        ones(self.bits as usize)
    }

    /// The bits' value in `key`, right-aligned.
    pub fn get(self, key: &MatchKey) -> u128 {
        self.field.get(key) >> self.start & self.max()
    }

    /// Sets the bits to the low bits of `value`.
    pub fn set(self, key: &mut MatchKey, value: u128) {
        self.field.set_masked(key, (value & self.max()) << self.start, self.max() << self.start);
    }
}

const _: () = assert!(size_of::<FlowKey>() == offset_of!(MatchKey, metadata));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_consistent() {
        for (i, field) in Field::all().enumerate() {
            let row = field.info();
            assert_eq!(field.number(), Some(i));
            assert!(row.stored << row.shift >> row.shift == row.stored);
            assert!(
                row.place.size == 16 || row.stored << row.shift >> (row.place.size * 8) == 0,
                "{field:?}"
            );
            for name in row.names.iter().copied().chain(row.oxm.iter().map(|oxm| oxm.name)) {
                assert_eq!(Field::from_name(name), Some(field), "{name} is ambiguous");
            }
            for oxm in row.oxm {
                let (class, experimenter) = oxm.class();
                assert_eq!(Field::from_oxm(class, experimenter, oxm.number), Some((field, *oxm)));
                assert!(class != u16::MAX || experimenter != 0, "{} is of no class", oxm.name);
                assert!(usize::from(oxm.length) * 8 >= usize::from(row.bits), "{}", oxm.name);
                assert!(oxm.number < 128, "{}", oxm.name);
            }
        }
        assert_eq!(Field::from_name("nw_source"), None);
        assert_eq!(Field::from_oxm(0x8000, 0, 34).map(|(field, _)| field), None, "there is no MPLS");
    }

    /// A field that another one writes over, or that another one is looked at with, is in the same stage.
    #[test]
    fn fields_that_share_bits_share_a_stage_and_are_printed_once() {
        for a in Field::all() {
            let mut bits = MatchKey::ZERO;
            a.set(&mut bits, a.info().exact());
            for b in Field::all().filter(|b| *b != a && b.get(&bits) != 0) {
                assert_eq!(a.info().stage, b.info().stage, "{a:?} {b:?}");
                let both_printed = a.info().match_name.is_some() && b.info().match_name.is_some();
                assert!(!both_printed || a.info().layer != b.info().layer, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn what_a_row_can_be_set_by_sets_all_of_it() {
        for field in Field::all().filter(|field| field.info().setter.is_some()) {
            assert!(field.info().writable, "{field:?}");
        }
        let of = |field: Field| {
            Field::setters().iter().find(|setter| std::ptr::eq(setter.row, field.info())).expect("a setter")
        };
        assert_eq!(of(Field::NwTos).bits, 0xff, "with the ECN bits, which have no op of their own");
        assert_eq!(of(Field::Ipv6Label).bits, 0xf_ffff);
        let mut mask = MatchKey::ZERO;
        of(Field::NwTos).mark(&mut mask);
        assert_eq!(mask.flow.nw_tos, 0xff);
    }

    #[test]
    fn get_and_set() {
        let mut key = MatchKey::ZERO;
        for field in Field::all() {
            let value = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef & field.info().exact();
            field.set(&mut key, value);
            assert_eq!(field.get(&key), value, "{field:?}");
        }
        let mut key = MatchKey::ZERO;
        Field::InPort.set(&mut key, 7);
        Field::IpSrc.set(&mut key, 0x0a00_0001);
        Field::VlanPcp.set(&mut key, 5);
        Field::VlanVid.set(&mut key, 0xfff);
        Field::IpDscp.set(&mut key, 46);
        Field::NwEcn.set(&mut key, 3);
        Field::Reg3.set(&mut key, 0xdead_beef);
        let flow = key.flow;
        assert_eq!((flow.in_port, flow.nw_src.get(), key.reg[3]), (7, 0x0a00_0001, 0xdead_beef));
        assert_eq!((flow.vlan_tci.get(), flow.nw_tos), (0xafff, 46 << 2 | 3));
        Field::NwTos.set(&mut key, 0xff);
        assert_eq!(key.flow.nw_tos, 0xff);
        Field::NwTos.set(&mut key, 0);
        assert_eq!(key.flow.nw_tos, 3, "ECN is another field");
    }

    /// As `ovs-fields(7)` has it: the first register is the most significant one.
    #[test]
    fn wide_registers_are_registers() {
        let mut key = MatchKey::ZERO;
        Field::Xxreg1.set(&mut key, 0x0000_0004_0000_0005_0000_0006_0000_0007);
        assert_eq!(key.reg, [0, 0, 0, 0, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Field::Xreg3.get(&key), 0x0000_0006_0000_0007);
        Field::Xreg7.set(&mut key, 0x0000_000e_0000_000f);
        assert_eq!((Field::Reg14.get(&key), Field::Reg15.get(&key)), (14, 15));
        assert_eq!(Field::Xxreg3.get(&key), 0x0000_000e_0000_000f);
    }

    #[test]
    fn subfields() {
        let mut key = MatchKey::ZERO;
        let high = Subfield { field: Field::Reg0, start: 16, bits: 16 };
        high.set(&mut key, 0x5_1234);
        assert_eq!((key.reg[0], high.get(&key)), (0x1234_0000, 0x1234));
        let tun = Subfield::whole(Field::TunId);
        tun.set(&mut key, 100);
        assert_eq!((tun.bits, tun.get(&key), key.flow.tun_id), (64, 100, 100));
    }
}
