//! What actions are on the wire: one declaration each, and the layouts that several share.

use super::context::Context;
use super::{is_reader, list, unknown};
use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::field::{self, field_of, name_of, nothing, offset_bits};
use crate::learn;
use crate::matching::{from_wire, to_wire};
use crate::packet;
use crate::property;
use flow::ofp::{Action, Controller, Field, Learn, PacketReason, Subfield};

/// Where an action has its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// OpenFlow's own.
    Standard(u16),
    /// Nicira's (`NXAST_*`).
    Nicira(u16),
    /// The Open Networking Foundation's (`ONFACT_*`).
    Onf(u16),
}

/// A field with a value and a mask, as `set_field` has them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    pub(super) field: Field,
    pub(super) value: u128,
    pub(super) mask: u128,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting { field: Field::Reg0, value: 0, mask: 0 }
    }
}

/// A subfield that reads as nothing before it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bits(pub(super) Subfield);

impl Default for Bits {
    fn default() -> Bits {
        Bits(nothing())
    }
}

/// Declares what actions there are on the wire. A row is: variant with its parts, its numbers by versions, and its
/// layout behind type and length, read and written alike. The padding to eight bytes comes by itself.
macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident { $($part:ident : $ty:ty),* }
        [$($low:literal..=$high:literal $kind:ident($number:literal)),*] |$c:ident| $body:block)*) => {
        /// An action on the wire.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub(super) enum Wire { $($(#[$doc])* $variant { $($part: $ty),* },)* }

        impl Wire {
            /// Its number in a version.
            pub(super) fn kind(&self, version: Version) -> Option<Kind> {
                let rows: &[(u8, u8, Kind)] = match self {
                    $(Wire::$variant { .. } => &[$(($low, $high, Kind::$kind($number)),)*],)*
                };
                rows.iter().find(|row| (row.0..=row.1).contains(&version.number())).map(|row| row.2)
            }

            /// The action of this number, to be filled in.
            pub(super) fn blank(kind: Kind, version: Version) -> Option<Wire> {
                $(
                    let rows: &[(u8, u8, Kind)] = &[$(($low, $high, Kind::$kind($number)),)*];
                    let here = |row: &(u8, u8, Kind)| (row.0..=row.1).contains(&version.number()) && row.2 == kind;
                    if rows.iter().any(here) {
                        return Some(Wire::$variant { $($part: Default::default()),* });
                    }
                )*
                None
            }

            /// Reads or writes what stands behind the number.
            pub(super) fn body<C: Coder>(&mut self, coder: &mut C) -> Step {
                match self {
                    $(Wire::$variant { $($part),* } => {
                        let $c = coder;
                        $body
                    })*
                }
            }
        }
    };
}

actions! {
    /// To a port.
    Output { port: u32, max_len: u16 } [1..=6 Standard(0)] |c| {
        c.port(port)?;
        c.u16(max_len)
    }
    /// Some bytes of the packet to a port.
    OutputTrunc { port: u16, max_len: u32 } [1..=6 Nicira(39)] |c| {
        c.u16(port)?;
        c.u32(max_len)
    }
    /// By a queue of a port.
    Enqueue { port: u16, queue: u32 } [1..=1 Standard(11)] |c| {
        c.u16(port)?;
        c.pad(6)?;
        c.u32(queue)
    }
    /// `mod_vlan_vid` of OpenFlow 1.0, which makes a tag where there is none.
    SetVlanVid { vid: u16 } [1..=1 Standard(1)] |c| { c.u16(vid) }
    /// `mod_vlan_pcp`.
    SetVlanPcp { pcp: u8 } [1..=1 Standard(2)] |c| { c.u8(pcp) }
    /// Takes the outermost tag off.
    StripVlan {} [1..=1 Standard(3), 2..=6 Standard(18)] |_c| { Ok(()) }
    /// `mod_dl_src`.
    SetDlSrc { mac: u128 } [1..=1 Standard(4)] |c| { c.bits(mac, 6) }
    /// `mod_dl_dst`.
    SetDlDst { mac: u128 } [1..=1 Standard(5)] |c| { c.bits(mac, 6) }
    /// `mod_nw_src`.
    SetNwSrc { ip: u32 } [1..=1 Standard(6)] |c| { c.u32(ip) }
    /// `mod_nw_dst`.
    SetNwDst { ip: u32 } [1..=1 Standard(7)] |c| { c.u32(ip) }
    /// `mod_nw_tos`.
    SetNwTos { tos: u8 } [1..=1 Standard(8)] |c| { c.u8(tos) }
    /// `mod_tp_src`; after OpenFlow 1.0 for packets of whatever protocol.
    SetTpSrc { port: u16 } [1..=6 Standard(9)] |c| { c.u16(port) }
    /// `mod_tp_dst`; after OpenFlow 1.0 for packets of whatever protocol.
    SetTpDst { port: u16 } [1..=6 Standard(10)] |c| { c.u16(port) }
    /// A new outermost tag of this EtherType.
    PushVlan { kind: u16 } [2..=6 Standard(17)] |c| { c.u16(kind) }
    /// `mod_nw_ttl`.
    SetNwTtl { ttl: u8 } [2..=6 Standard(23)] |c| { c.u8(ttl) }
    /// TTL or hop limit less one.
    DecTtl {} [1..=1 Nicira(18), 2..=6 Standard(24)] |_c| { Ok(()) }
    /// A whole field, or since OpenFlow 1.5 some of its bits.
    SetField { set: Setting } [3..=6 Standard(25)] |c| { setting(c, set, c.version() >= Version::V15) }
    /// Bits of a field to another one.
    CopyField { from: Bits, to: Bits } [6..=6 Standard(28)] |c| {
        copied(c, &mut from.0, &mut to.0, 2)
    }
    /// As [`CopyField`](Wire::CopyField), before it was standard.
    OnfCopyField { from: Bits, to: Bits } [4..=5 Onf(3200)] |c| {
        c.pad(2)?;
        copied(c, &mut from.0, &mut to.0, 2)
    }
    /// Through a meter.
    Meter { id: u32 } [6..=6 Standard(29)] |c| { c.u32(id) }
    /// To a group.
    Group { id: u32 } [1..=1 Nicira(40), 2..=6 Standard(22)] |c| {
        if c.version() == Version::V10 {
            c.pad(2)?;
        }
        c.u32(id)
    }
    /// Looks up again, as if from another port.
    Resubmit { port: u16 } [1..=6 Nicira(1)] |c| { c.u16(port) }
    /// Looks up again, in a table.
    ResubmitTable { port: u16, table: u8 } [1..=6 Nicira(14)] |c| {
        c.u16(port)?;
        c.u8(table)
    }
    /// VNI of 32 bits.
    SetTunnel { id: u32 } [1..=6 Nicira(2)] |c| {
        c.pad(2)?;
        c.u32(id)
    }
    /// VNI of 64 bits.
    SetTunnel64 { id: u64 } [1..=6 Nicira(9)] |c| {
        c.pad(6)?;
        c.u64(id)
    }
    /// Bits of a field to another one.
    RegMove { from: Bits, to: Bits } [1..=5 Nicira(6)] |c| { copied(c, &mut from.0, &mut to.0, 0) }
    /// A value for some bits of a field.
    RegLoad { to: Bits, value: u64 } [1..=5 Nicira(7)] |c| {
        offset_bits(c, &mut to.0.start, &mut to.0.bits)?;
        field::subfield(c, &mut to.0)?;
        c.u64(value)
    }
    /// A value for some bits of a field, as `set_field` says it.
    RegLoad2 { set: Setting } [1..=5 Nicira(33)] |c| { setting(c, set, true) }
    /// To the port whose number a field holds.
    OutputReg { from: Bits, max_len: u16 } [1..=6 Nicira(15)] |c| {
        offset_bits(c, &mut from.0.start, &mut from.0.bits)?;
        field::subfield(c, &mut from.0)?;
        c.u16(max_len)?;
        c.pad(6)
    }
    /// As [`OutputReg`](Wire::OutputReg), for fields whose number is an experimenter's.
    OutputReg2 { from: Bits, max_len: u16 } [1..=6 Nicira(32)] |c| {
        offset_bits(c, &mut from.0.start, &mut from.0.bits)?;
        c.u16(max_len)?;
        field::subfield(c, &mut from.0)
    }
    /// To the controllers, with options.
    Controller { max_len: u16, id: u16, reason: u8 } [1..=6 Nicira(20)] |c| {
        c.u16(max_len)?;
        c.u16(id)?;
        c.u8(reason)?;
        c.pad(1)
    }
    /// To the controllers, with options that have no room in [`Controller`](Wire::Controller).
    Controller2 { controller: Controller } [1..=6 Nicira(37)] |c| {
        c.pad(6)?;
        controller2(c, controller)
    }
    /// TTL or hop limit less one; whom to send packets that go no further.
    DecTtlTo { ids: Vec<u16> } [1..=6 Nicira(21)] |c| {
        let mut count = ids.len() as u16;
        c.u16(&mut count)?;
        c.pad(4)?;
        if is_reader(c) {
            ids.resize(count.into(), 0);
        }
        ids.iter_mut().try_for_each(|id| c.u16(id))
    }
    /// No action more.
    Exit {} [1..=6 Nicira(17)] |_c| { Ok(()) }
    /// The queue of outputs from here on.
    SetQueue { queue: u32 } [1..=1 Nicira(4), 2..=6 Standard(21)] |c| {
        if c.version() == Version::V10 {
            c.pad(2)?;
        }
        c.u32(queue)
    }
    /// The queue is as it was at first.
    PopQueue {} [1..=6 Nicira(5)] |_c| { Ok(()) }
    /// `write_metadata` of OpenFlow 1.0.
    WriteMetadata { value: u64, mask: u64 } [1..=1 Nicira(22)] |c| {
        c.pad(6)?;
        c.u64(value)?;
        c.u64(mask)
    }
    /// Bits onto the stack.
    StackPush { bits: Bits } [1..=6 Nicira(27)] |c| { stacked(c, &mut bits.0) }
    /// Bits off the stack.
    StackPop { bits: Bits } [1..=6 Nicira(28)] |c| { stacked(c, &mut bits.0) }
    /// Nothing, for who reads the rule; at least six bytes, and filled up with zeros.
    Note { bytes: Vec<u8> } [1..=6 Nicira(8)] |c| { c.rest(bytes) }
    /// A link by a hash.
    Multipath { fields: u16, basis: u16, algorithm: u16, last: u16, arg: u32, to: Bits } [1..=6 Nicira(10)] |c| {
        c.u16(fields)?;
        c.u16(basis)?;
        c.pad(2)?;
        c.u16(algorithm)?;
        c.u16(last)?;
        c.u32(arg)?;
        c.pad(2)?;
        offset_bits(c, &mut to.0.start, &mut to.0.bits)?;
        field::subfield(c, &mut to.0)
    }
    /// To a member that is up.
    Bundle { choice: Choice, members: Vec<u8> } [1..=6 Nicira(12)] |c| {
        choice.code(c)?;
        c.pad(10)?;
        c.rest(members)
    }
    /// The number of a member that is up.
    BundleLoad { choice: Choice, to: Bits, members: Vec<u8> } [1..=6 Nicira(13)] |c| {
        choice.code(c)?;
        offset_bits(c, &mut to.0.start, &mut to.0.bits)?;
        field::subfield(c, &mut to.0)?;
        c.pad(4)?;
        c.rest(members)
    }
    /// The rule is part of a conjunction; parts are numbered from 0.
    Conjunction { clause: u8, clauses: u8, id: u32 } [1..=6 Nicira(34)] |c| {
        c.u8(clause)?;
        c.u8(clauses)?;
        c.u32(id)
    }
    /// Adds a flow made of the packet.
    Learn { learn: Learn } [1..=6 Nicira(16)] |c| { learn::code(c, learn, false) }
    /// The same with a limit and a result.
    Learn2 { learn: Learn } [1..=6 Nicira(45)] |c| { learn::code(c, learn, true) }
    /// Shortens the rule's timeouts when a connection ends.
    FinTimeout { idle: u16, hard: u16 } [1..=6 Nicira(19)] |c| {
        c.u16(idle)?;
        c.u16(hard)?;
        c.pad(2)
    }
    /// Whether the packet is longer.
    CheckPktLarger { length: u16, to: Bits } [1..=6 Nicira(49)] |c| {
        c.u16(length)?;
        let mut start = u16::from(to.0.start);
        c.u16(&mut start)?;
        to.0.start = u8::try_from(start)
            .map_err(|_| Error::new(Code::OfpbacBadSetLen, "no field has so many bits"))?;
        to.0.bits = 1;
        field::subfield(c, &mut to.0)
    }
    /// Does all this to a copy.
    Clone { actions: Vec<Action>, context: Context } [1..=6 Nicira(42)] |c| {
        c.pad(6)?;
        let context = *context;
        c.nested(|c| list(c, actions, context))
    }
}

/// The properties of `controller`.
fn controller2<C: Coder>(c: &mut C, controller: &mut Controller) -> Step {
    const MAX_LEN: u16 = 0;
    const CONTROLLER_ID: u16 = 1;
    const REASON: u16 = 2;
    const USERDATA: u16 = 3;
    const PAUSE: u16 = 4;
    const METER_ID: u16 = 5;
    let present = [
        (MAX_LEN, controller.max_len != u16::MAX),
        (CONTROLLER_ID, controller.id != 0),
        (REASON, controller.reason != PacketReason::Action),
        (USERDATA, !controller.userdata.is_empty()),
    ];
    property::each(c, &present, |c, kind| match kind {
        MAX_LEN => {
            c.u16(&mut controller.max_len)?;
            c.pad(2)
        }
        CONTROLLER_ID => {
            c.u16(&mut controller.id)?;
            c.pad(2)
        }
        REASON => {
            let mut number = packet::reason_number(controller.reason, Version::V14);
            c.u8(&mut number)?;
            controller.reason = packet::reason_of(number)?;
            Ok(())
        }
        USERDATA => c.rest(&mut controller.userdata),
        PAUSE | METER_ID => Err(unknown(Kind::Nicira(37))),
        _ => Err(Error::new(Code::OfpbpcBadType, format!("property {kind} of controller"))),
    })
}

/// How `bundle` chooses among how many members, which are OpenFlow ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Choice {
    pub(super) algorithm: u16,
    pub(super) fields: u16,
    pub(super) basis: u16,
    pub(super) count: u16,
}

/// `NXM_OF_IN_PORT`, which says that members are ports: there are no others.
const MEMBERS_ARE_PORTS: u32 = 0x0000_0002;

impl Choice {
    fn code(&mut self, c: &mut impl Coder) -> Step {
        c.u16(&mut self.algorithm)?;
        c.u16(&mut self.fields)?;
        c.u16(&mut self.basis)?;
        let mut kind = MEMBERS_ARE_PORTS;
        c.u32(&mut kind)?;
        if kind != MEMBERS_ARE_PORTS {
            let why = format!("bundle: members of kind {kind:#x}, expected ports");
            return Err(Error::new(Code::OfpbacBadArgument, why));
        }
        c.u16(&mut self.count)
    }
}

/// Offsets and lengths of a `move`, then the fields; `pad` bytes between.
fn copied(c: &mut impl Coder, from: &mut Subfield, to: &mut Subfield, pad: usize) -> Step {
    let (mut bits, mut start, mut end) = (u16::from(from.bits), u16::from(from.start), u16::from(to.start));
    c.u16(&mut bits)?;
    c.u16(&mut start)?;
    c.u16(&mut end)?;
    c.pad(pad)?;
    let narrow = |wide: u16| {
        u8::try_from(wide).map_err(|_| Error::new(Code::OfpbacBadSetLen, "no field has so many bits"))
    };
    (from.bits, from.start) = (narrow(bits)?, narrow(start)?);
    (to.bits, to.start) = (narrow(bits)?, narrow(end)?);
    field::subfield(c, from)?;
    field::subfield(c, to)
}

/// An offset, a field and a length, as `push` and `pop` have them.
fn stacked(c: &mut impl Coder, bits: &mut Subfield) -> Step {
    let (mut start, mut length) = (u16::from(bits.start), u16::from(bits.bits));
    c.u16(&mut start)?;
    field::field_header(c, &mut bits.field)?;
    c.u16(&mut length)?;
    let narrow = |wide: u16| {
        u8::try_from(wide).map_err(|_| Error::new(Code::OfpbacBadArgument, "no field has so many bits"))
    };
    (bits.start, bits.bits) = (narrow(start)?, narrow(length)?);
    field::check(*bits)
}

/// A field, its value and, where it may have one, its mask.
fn setting(c: &mut impl Coder, set: &mut Setting, may_mask: bool) -> Step {
    let (mut name, mut value, mut mask) = (None, set.value, set.mask);
    if let Some(known) = name_of(set.field, c.version() >= Version::V13, c.version()) {
        value = to_wire(set.field, known, value);
        name = Some(known);
    }
    let mut masked = mask != set.field.info().exact();
    if set.field == Field::VlanVid {
        // The bit that says that there is a tag, as there must be.
        (value, mask) = (value | 0x1000, mask | 0x1000);
    }
    let mut name = name.unwrap_or(field::COOKIE);
    field::header(c, &mut name, &mut masked)?;
    let length = usize::from(name.bytes);
    if length == 0 || length > 16 {
        return Err(Error::new(Code::OfpbacBadSetLen, format!("{name} with {length} bytes")));
    }
    c.bits(&mut value, length)?;
    if masked {
        c.bits(&mut mask, length)?;
    }
    if !is_reader(c) {
        return Ok(());
    }
    if masked && !may_mask {
        return Err(Error::new(Code::OfpbacBadSetMask, "set_field takes a mask since OpenFlow 1.5"));
    }
    let bad = |what: String| Error::new(Code::OfpbacBadSetArgument, what);
    let unknown = || Error::new(Code::OfpbacBadSetType, format!("{name} is not known"));
    let field = field_of(name, &c.dialect().tlvs).ok_or_else(unknown)?;
    if !name.fits(field, c.version()) {
        return Err(Error::new(Code::OfpbacBadSetLen, format!("{} with {length} bytes", field.name())));
    }
    let info = field.info();
    if field == Field::VlanVid {
        if value & 0x1000 == 0 || masked && mask & 0x1000 == 0 {
            return Err(bad("vlan_vid without the bit that says that there is a tag".into()));
        }
        (value, mask) = (value & !0x1000, mask & !0x1000);
    }
    value = from_wire(field, name, value)?;
    let whole = !masked || mask & info.max() == info.max();
    mask = if whole { info.exact() } else { mask & info.exact() };
    if value & !info.exact() != 0 || value & !info.max() != 0 {
        return Err(bad(format!("{} cannot be {value:#x}", field.name())));
    }
    *set = Setting { field, value: value & mask, mask };
    Ok(())
}
