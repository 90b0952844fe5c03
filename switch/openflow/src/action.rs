//! Actions as bytes: what stands on the wire, one declaration each, and what it means in the rule model.

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error, NICIRA, ONF};
use crate::field::{self, Name, field_of, name_of, nothing, offset_bits};
use crate::learn;
use crate::matching::{from_wire, to_wire};
use flow::ofp::{
    Action, Bundle, BundleAlgorithm, Conjunction, Field, HashFields, Learn, Match, Multipath,
    MultipathAlgorithm, PORT_ALL, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_MAX,
    PORT_NORMAL, PortRef, Prerequisite, Subfield,
};

/// `OFPP_TABLE`: in a packet-out, through the tables.
const PORT_TABLE: u32 = 0xfff9;
/// Type of actions whose number is an experimenter's.
const EXPERIMENTER: u16 = 0xffff;
/// `OFPR_ACTION`: the reason that an ordinary `CONTROLLER` gives.
const REASON_ACTION: u8 = 1;

/// Where an action has its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// OpenFlow's own.
    Standard(u16),
    /// Nicira's (`NXAST_*`).
    Nicira(u16),
    /// The Open Networking Foundation's (`ONFACT_*`).
    Onf(u16),
}

/// A field with a value and a mask, as `set_field` has them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Setting {
    field: Field,
    value: u128,
    mask: u128,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting { field: Field::Reg0, value: 0, mask: 0 }
    }
}

/// A subfield that reads as nothing before it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Bits(Subfield);

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
        enum Wire { $($(#[$doc])* $variant { $($part: $ty),* },)* }

        impl Wire {
            /// Its number in a version.
            fn kind(&self, version: Version) -> Option<Kind> {
                let rows: &[(u8, u8, Kind)] = match self {
                    $(Wire::$variant { .. } => &[$(($low, $high, Kind::$kind($number)),)*],)*
                };
                rows.iter().find(|row| (row.0..=row.1).contains(&version.number())).map(|row| row.2)
            }

            /// The action of this number, to be filled in.
            fn blank(kind: Kind, version: Version) -> Option<Wire> {
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
            fn body<C: Coder>(&mut self, coder: &mut C) -> Step {
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
    /// `mod_tp_src`.
    SetTpSrc { port: u16 } [1..=1 Standard(9)] |c| { c.u16(port) }
    /// `mod_tp_dst`.
    SetTpDst { port: u16 } [1..=1 Standard(10)] |c| { c.u16(port) }
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
    RegLoad2 { set: Setting } [1..=5 Nicira(33)] |c| {
        c.pad(6)?;
        setting(c, set, true)
    }
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

/// What actions of Nicira's are called that are known and not served.
const REFUSED: &[(u16, &str)] = &[
    (4, "set_queue"),
    (5, "pop_queue"),
    (17, "exit"),
    (21, "dec_ttl(ids)"),
    (23, "push_mpls"),
    (24, "pop_mpls"),
    (25, "set_mpls_ttl"),
    (26, "dec_mpls_ttl"),
    (29, "sample"),
    (30, "set_mpls_label"),
    (31, "set_mpls_tc"),
    (35, "ct"),
    (36, "nat"),
    (37, "controller(...) with options"),
    (38, "sample"),
    (39, "output with max_len"),
    (41, "sample"),
    (43, "ct_clear"),
    (44, "resubmit(ct)"),
    (46, "encap"),
    (47, "decap"),
    (48, "dec_nsh_ttl"),
    (50, "delete_field"),
];

/// How `bundle` chooses among how many members, which are OpenFlow ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Choice {
    algorithm: u16,
    fields: u16,
    basis: u16,
    count: u16,
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

    /// With members, behind which there may be bytes that fill them up.
    fn bundle(self, members: &[u8], to: Option<Subfield>) -> Result<Action, Error> {
        let bad = |why: String| Error::new(Code::OfpbacBadArgument, format!("bundle: {why}"));
        let fields = HashFields::from_number(self.fields);
        let algorithm = BundleAlgorithm::from_number(self.algorithm);
        let (Some(fields), Some(algorithm)) = (fields, algorithm) else {
            return Err(bad(format!("fields {} or algorithm {} not known", self.fields, self.algorithm)));
        };
        let members = members.get(..usize::from(self.count) * 2);
        let Some(members) = members.filter(|_| self.count <= Bundle::MOST_MEMBERS) else {
            return Err(Error::new(Code::OfpbacBadLen, format!("bundle: {} members do not fit", self.count)));
        };
        if let Some(to) = to.filter(|to| to.bits < 16) {
            return Err(bad(format!("{} bits do not hold a port", to.bits)));
        }
        let members = members.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let members: Vec<u32> = members.collect();
        if let Some(member) = members.iter().find(|member| **member > PORT_MAX) {
            return Err(Error::new(Code::OfpbacBadOutPort, format!("bundle: {member:#x} is no port")));
        }
        Ok(Action::Bundle(Bundle { fields, basis: self.basis, algorithm, members, to }))
    }

    fn of(bundle: &Bundle) -> Wire {
        let choice = Choice {
            algorithm: bundle.algorithm.number(),
            fields: bundle.fields.number(),
            basis: bundle.basis,
            count: bundle.members.len() as u16,
        };
        let mut members: Vec<u8> =
            bundle.members.iter().flat_map(|port| (*port as u16).to_be_bytes()).collect();
        // A message's actions have a multiple of eight bytes.
        members.resize(members.len().next_multiple_of(8), 0);
        match bundle.to {
            Some(to) => Wire::BundleLoad { choice, to: Bits(to), members },
            None => Wire::Bundle { choice, members },
        }
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
    let field =
        field_of(name).ok_or_else(|| Error::new(Code::OfpbacBadSetType, format!("{name} is not known")))?;
    let lengths = [true, false].map(|oxm| name_of(field, oxm, c.version()).map(|n| n.bytes));
    if !lengths.contains(&Some(name.bytes)) {
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

fn is_reader<C: Coder>(_: &C) -> bool {
    C::READS
}

/// What the packets of a list of actions are known to be, where the form of an action depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// They have a VLAN tag.
    tagged: bool,
    /// What they carry, if that is one of these.
    transport: Option<Transport>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

impl Context {
    /// Of packets that match.
    pub fn of(what: &Match) -> Context {
        Context {
            tagged: Prerequisite::Vlan.is_met(what),
            transport: if Prerequisite::Udp.is_met(what) {
                Some(Transport::Udp)
            } else if Prerequisite::Sctp.is_met(what) {
                Some(Transport::Sctp)
            } else {
                Prerequisite::Tcp.is_met(what).then_some(Transport::Tcp)
            },
        }
    }

    /// The field of a protocol in place of one of any.
    fn transport_field(self, field: Field) -> Field {
        let (src, dst) = match self.transport {
            Some(Transport::Tcp) => (Field::TcpSrc, Field::TcpDst),
            Some(Transport::Udp) => (Field::UdpSrc, Field::UdpDst),
            Some(Transport::Sctp) => (Field::SctpSrc, Field::SctpDst),
            None => return field,
        };
        match field {
            Field::TpSrc => src,
            Field::TpDst => dst,
            field => field,
        }
    }
}

/// Actions up to the end of what encloses them. None at all is `drop`.
pub fn list(c: &mut impl Coder, actions: &mut Vec<Action>, mut context: Context) -> Step {
    if !is_reader(c) {
        let version = c.version();
        for action in actions {
            for mut wire in to_wires(action, version, &mut context) {
                one(c, &mut wire)?;
            }
        }
        return Ok(());
    }
    actions.clear();
    while c.more(false) {
        let mut wire = Wire::StripVlan {};
        one(c, &mut wire)?;
        actions.push(match to_model(wire)? {
            Action::SetField { field, value, mask } => {
                Action::SetField { field: context.transport_field(field), value, mask }
            }
            action => action,
        });
    }
    if actions.is_empty() {
        actions.push(Action::Drop);
    }
    Ok(())
}

/// One action: type, length, what it says, padding.
fn one<C: Coder>(c: &mut C, wire: &mut Wire) -> Step {
    let (start, version) = (c.offset(), c.version());
    let (mut number, mut experimenter, mut subtype) = match wire.kind(version) {
        Some(Kind::Standard(number)) => (number, 0, 0),
        Some(Kind::Nicira(subtype)) => (EXPERIMENTER, NICIRA, subtype),
        Some(Kind::Onf(subtype)) => (EXPERIMENTER, ONF, subtype),
        // What a version cannot say is left out, as Open vSwitch does.
        None => return Ok(()),
    };
    c.u16(&mut number)?;
    let length = c.length16()?;
    c.counted_from(start, length, |c| {
        let mut kind = Kind::Standard(number);
        if number == EXPERIMENTER {
            c.u32(&mut experimenter)?;
            c.u16(&mut subtype)?;
            kind = match experimenter {
                NICIRA => Kind::Nicira(subtype),
                ONF => Kind::Onf(subtype),
                _ => {
                    return Err(Error::new(Code::OfpbacBadVendor, format!("experimenter {experimenter:#x}")));
                }
            };
        }
        if is_reader(c) {
            *wire = Wire::blank(kind, version).ok_or_else(|| unknown(kind))?;
        }
        wire.body(c)?;
        c.align(start)
    })
    .map_err(|error| match error.code {
        Code::OfpbrcBadLen => Error { code: Code::OfpbacBadLen, ..error },
        _ => error,
    })
}

fn unknown(kind: Kind) -> Error {
    match kind {
        Kind::Standard(number) => Error::new(Code::OfpbacBadType, format!("action {number} is not served")),
        Kind::Nicira(subtype) => {
            let name = REFUSED.iter().find(|row| row.0 == subtype).map_or("an unknown action", |row| row.1);
            Error::new(Code::OfpbacBadVendorType, format!("{name} (Nicira's {subtype}) is not served"))
        }
        Kind::Onf(subtype) => Error::new(Code::OfpbacBadVendorType, format!("ONF's action {subtype}")),
    }
}

/// What an action on the wire means.
fn to_model(wire: Wire) -> Result<Action, Error> {
    let set = |field: Field, value: u128| {
        let mask = field.info().exact();
        let fits = value & !mask == 0;
        let bad = || Error::new(Code::OfpbacBadArgument, format!("{} cannot be {value:#x}", field.name()));
        if fits { Ok(Action::SetField { field, value, mask }) } else { Err(bad()) }
    };
    let table = |table: u8| (table != u8::MAX).then_some(table);
    let port = |port: u16| match u32::from(port) {
        PORT_IN_PORT => Ok(None),
        port @ (0..=PORT_MAX | PORT_LOCAL) => Ok(Some(port)),
        port => Err(Error::new(Code::OfpbacBadArgument, format!("no packet comes in by port {port}"))),
    };
    Ok(match wire {
        Wire::Output { port, max_len } => output(port, max_len)?,
        Wire::SetVlanVid { vid: vid @ 0..=0xfff } => Action::ModVlanVid(vid),
        Wire::SetVlanVid { vid } => {
            return Err(Error::new(Code::OfpbacBadArgument, format!("VLAN {vid} has more than 12 bits")));
        }
        Wire::SetVlanPcp { pcp: pcp @ 0..=7 } => Action::ModVlanPcp(pcp),
        Wire::SetVlanPcp { pcp } => {
            return Err(Error::new(Code::OfpbacBadArgument, format!("VLAN priority {pcp} is above 7")));
        }
        Wire::StripVlan {} => Action::PopVlan,
        Wire::SetDlSrc { mac } => set(Field::EthSrc, mac)?,
        Wire::SetDlDst { mac } => set(Field::EthDst, mac)?,
        Wire::SetNwSrc { ip } => set(Field::IpSrc, ip.into())?,
        Wire::SetNwDst { ip } => set(Field::IpDst, ip.into())?,
        Wire::SetNwTos { tos } => set(Field::NwTos, tos.into())?,
        Wire::SetTpSrc { port } => set(Field::TpSrc, port.into())?,
        Wire::SetTpDst { port } => set(Field::TpDst, port.into())?,
        Wire::SetNwTtl { ttl } => set(Field::NwTtl, ttl.into())?,
        Wire::PushVlan { kind: kind @ (0x8100 | 0x88a8) } => Action::PushVlan(kind),
        Wire::PushVlan { kind } => {
            return Err(Error::new(Code::OfpbacBadArgument, format!("EtherType {kind:#06x} is no VLAN's")));
        }
        Wire::DecTtl {} => Action::DecTtl,
        Wire::SetField { set } | Wire::RegLoad2 { set } => {
            Action::SetField { field: set.field, value: set.value, mask: set.mask }
        }
        Wire::CopyField { from, to } | Wire::OnfCopyField { from, to } | Wire::RegMove { from, to } => {
            Action::Move { from: from.0, to: to.0 }
        }
        Wire::Meter { id } => Action::Meter(id),
        Wire::Group { id } => Action::Group(id),
        Wire::Resubmit { port: number } => Action::Resubmit { port: port(number)?, table: None },
        Wire::ResubmitTable { port: number, table: to } => {
            Action::Resubmit { port: port(number)?, table: table(to) }
        }
        Wire::SetTunnel { id } => Action::SetTunnel(id.into()),
        Wire::SetTunnel64 { id } => Action::SetTunnel(id),
        Wire::RegLoad { to, value } => {
            if u128::from(value) & !to.0.max() != 0 {
                let why = format!("{value:#x} does not fit {} bits of {}", to.0.bits, to.0.field.name());
                return Err(Error::new(Code::OfpbacBadArgument, why));
            }
            Action::Load { value, to: to.0 }
        }
        Wire::OutputReg { from, .. } | Wire::OutputReg2 { from, .. } => Action::OutputField(from.0),
        Wire::Controller { max_len, id: 0, reason: REASON_ACTION } => {
            Action::Output(PortRef::Controller { max_len })
        }
        Wire::Controller { .. } => return Err(unknown(Kind::Nicira(37))),
        Wire::WriteMetadata { value, mask } => {
            Action::SetField { field: Field::Metadata, value: (value & mask).into(), mask: mask.into() }
        }
        Wire::Clone { actions, .. } => Action::Clone(actions),
        Wire::Learn { learn } | Wire::Learn2 { learn } => Action::Learn(Box::new(learn)),
        Wire::CheckPktLarger { length, to } => Action::CheckPktLarger { length, to: to.0 },
        Wire::FinTimeout { idle, hard } => Action::FinTimeout { idle, hard },
        Wire::Conjunction { clause, clauses: clauses @ 2..=64, id } if clause < clauses => {
            Action::Conjunction(Conjunction { id, clause: clause + 1, clauses })
        }
        Wire::Conjunction { clause, clauses, .. } => {
            let why = format!("conjunction: part {clause} (from 0) of {clauses}, which are 2 to 64");
            return Err(Error::new(Code::NxbacBadConjunction, why));
        }
        Wire::StackPush { bits } => Action::Push(bits.0),
        Wire::StackPop { bits } => Action::Pop(bits.0),
        Wire::Note { bytes } => Action::Note(bytes),
        Wire::Bundle { choice, members } => choice.bundle(&members, None)?,
        Wire::BundleLoad { choice, to, members } => choice.bundle(&members, Some(to.0))?,
        Wire::Multipath { fields, basis, algorithm, last, arg, to } => {
            let bad = |what: &str, number: u16| {
                Error::new(Code::OfpbacBadArgument, format!("multipath: {what} {number} is not known"))
            };
            let (fields, algorithm) = (
                HashFields::from_number(fields).ok_or_else(|| bad("fields", fields))?,
                MultipathAlgorithm::from_number(algorithm).ok_or_else(|| bad("algorithm", algorithm))?,
            );
            if u128::from(last) > to.0.max() {
                let why = format!("multipath: {} bits do not hold {last}", to.0.bits);
                return Err(Error::new(Code::OfpbacBadArgument, why));
            }
            let links = u32::from(last) + 1;
            Action::Multipath(Multipath { fields, basis, algorithm, links, arg, to: to.0 })
        }
    })
}

/// The model's port of an `output`.
fn output(port: u32, max_len: u16) -> Result<Action, Error> {
    Ok(Action::Output(match port {
        PORT_IN_PORT => PortRef::InPort,
        // From table 0 on, as a packet that came in.
        PORT_TABLE => return Ok(Action::Resubmit { port: None, table: Some(0) }),
        PORT_NORMAL => PortRef::Normal,
        PORT_FLOOD => PortRef::Flood,
        PORT_ALL => PortRef::All,
        PORT_CONTROLLER => PortRef::Controller { max_len },
        PORT_LOCAL => PortRef::Local,
        0..=PORT_MAX => PortRef::Port(port),
        _ => return Err(Error::new(Code::OfpbacBadOutPort, format!("{port:#x} is no port"))),
    }))
}

/// How a version says an action: as none where it cannot, as several where it has no one for it.
fn to_wires(action: &Action, version: Version, context: &mut Context) -> Vec<Wire> {
    let old = version == Version::V10;
    let in_port = |port: Option<u32>| port.unwrap_or(PORT_IN_PORT) as u16;
    let mut vlan = |out: Vec<Wire>| match (old, context.tagged) {
        (true, _) | (false, true) => out,
        (false, false) => {
            context.tagged = true;
            [vec![Wire::PushVlan { kind: 0x8100 }], out].concat()
        }
    };
    let whole = |field: Field, value: u128| Setting { field, value, mask: field.info().exact() };
    vec![match action {
        Action::Output(to) => Wire::Output {
            port: to.number(),
            max_len: if let PortRef::Controller { max_len } = to { *max_len } else { 0 },
        },
        Action::OutputField(from) => Wire::OutputReg { from: Bits(*from), max_len: u16::MAX },
        Action::SetTunnel(id) if !old => Wire::SetField { set: whole(Field::TunId, (*id).into()) },
        Action::SetTunnel(id) => match u32::try_from(*id) {
            Ok(id) => Wire::SetTunnel { id },
            Err(_) => Wire::SetTunnel64 { id: *id },
        },
        Action::Resubmit { port, table: None } => Wire::Resubmit { port: in_port(*port) },
        Action::Resubmit { port, table: Some(table) } => {
            Wire::ResubmitTable { port: in_port(*port), table: *table }
        }
        Action::GotoTable(table) if old => Wire::ResubmitTable { port: PORT_IN_PORT as u16, table: *table },
        Action::SetField { field, value, mask } => {
            let set = Setting { field: *field, value: *value, mask: *mask };
            return set_field(&set, version, *context);
        }
        Action::Load { value, to } if version >= Version::V15 => {
            let mask = (to.max() << to.start) & to.field.info().exact();
            Wire::SetField { set: Setting { field: to.field, value: u128::from(*value) << to.start, mask } }
        }
        Action::Load { value, to } => Wire::RegLoad { to: Bits(*to), value: *value },
        Action::Move { from, to } if version >= Version::V15 => {
            Wire::CopyField { from: Bits(*from), to: Bits(*to) }
        }
        Action::Move { from, to } => Wire::RegMove { from: Bits(*from), to: Bits(*to) },
        Action::PushVlan(kind) => {
            context.tagged = true;
            Wire::PushVlan { kind: *kind }
        }
        Action::PopVlan => {
            context.tagged = false;
            Wire::StripVlan {}
        }
        Action::ModVlanVid(vid) if old => Wire::SetVlanVid { vid: *vid },
        Action::ModVlanVid(vid) => {
            return vlan(vec![Wire::SetField { set: whole(Field::VlanVid, (*vid).into()) }]);
        }
        Action::ModVlanPcp(pcp) if old => Wire::SetVlanPcp { pcp: *pcp },
        Action::ModVlanPcp(pcp) => {
            return vlan(vec![Wire::SetField { set: whole(Field::VlanPcp, (*pcp).into()) }]);
        }
        Action::DecTtl => Wire::DecTtl {},
        Action::Group(id) => Wire::Group { id: *id },
        Action::Meter(id) => Wire::Meter { id: *id },
        Action::Clone(actions) => Wire::Clone { actions: actions.clone(), context: *context },
        Action::Learn(learn) if learn.limit != 0 || learn.result_dst.is_some() => {
            Wire::Learn2 { learn: (**learn).clone() }
        }
        Action::Learn(learn) => Wire::Learn { learn: (**learn).clone() },
        Action::CheckPktLarger { length, to } => Wire::CheckPktLarger { length: *length, to: Bits(*to) },
        Action::FinTimeout { idle, hard } => Wire::FinTimeout { idle: *idle, hard: *hard },
        Action::Conjunction(part) => {
            Wire::Conjunction { clause: part.clause - 1, clauses: part.clauses, id: part.id }
        }
        Action::Push(bits) => Wire::StackPush { bits: Bits(*bits) },
        Action::Pop(bits) => Wire::StackPop { bits: Bits(*bits) },
        Action::Note(bytes) => {
            // Ten bytes stand before them, and a message's actions have a multiple of eight.
            let mut bytes = bytes.clone();
            bytes.resize((bytes.len() + 10).next_multiple_of(8) - 10, 0);
            Wire::Note { bytes }
        }
        Action::Bundle(bundle) => Choice::of(bundle),
        Action::Multipath(multipath) => Wire::Multipath {
            fields: multipath.fields.number(),
            basis: multipath.basis,
            algorithm: multipath.algorithm.number(),
            last: (multipath.links - 1) as u16,
            arg: multipath.arg,
            to: Bits(multipath.to),
        },
        // Instructions, which OpenFlow 1.0 has not and which are written elsewhere; and what no rule has.
        Action::Drop | Action::GotoTable(_) | Action::WriteActions(_) | Action::ClearActions => {
            return Vec::new();
        }
    }]
}

/// `set_field` in a version: OpenFlow 1.0 has actions of their own for its fields, and before 1.5 masks need Nicira's.
fn set_field(set: &Setting, version: Version, context: Context) -> Vec<Wire> {
    let Setting { field, value, mask } = *set;
    let whole = mask == field.info().exact();
    if version >= Version::V13 && (whole || version >= Version::V15) {
        let set = match field {
            Field::NwTos => Setting { field: Field::IpDscp, value: value >> 2, mask: mask >> 2 },
            field => Setting { field: context.transport_field(field), value, mask },
        };
        if field == Field::VlanTci && whole {
            return tci(value as u16, |vid, pcp| {
                let part = |field: Field, value: u128| Wire::SetField {
                    set: Setting { field, value, mask: field.info().exact() },
                };
                vec![part(Field::VlanVid, vid.into()), part(Field::VlanPcp, pcp.into())]
            });
        }
        return vec![Wire::SetField { set }];
    }
    if version == Version::V10 {
        match field {
            Field::Metadata => return vec![Wire::WriteMetadata { value: value as u64, mask: mask as u64 }],
            Field::VlanTci if whole => {
                return tci(value as u16, |vid, pcp| {
                    vec![Wire::SetVlanVid { vid }, Wire::SetVlanPcp { pcp }]
                });
            }
            _ => {}
        }
        let one = match field {
            Field::VlanVid => Some(Wire::SetVlanVid { vid: value as u16 }),
            Field::VlanPcp => Some(Wire::SetVlanPcp { pcp: value as u8 }),
            Field::EthSrc => Some(Wire::SetDlSrc { mac: value }),
            Field::EthDst => Some(Wire::SetDlDst { mac: value }),
            Field::IpSrc => Some(Wire::SetNwSrc { ip: value as u32 }),
            Field::IpDst => Some(Wire::SetNwDst { ip: value as u32 }),
            Field::NwTos => Some(Wire::SetNwTos { tos: value as u8 }),
            Field::IpDscp => Some(Wire::SetNwTos { tos: (value as u8) << 2 }),
            Field::TpSrc | Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => {
                Some(Wire::SetTpSrc { port: value as u16 })
            }
            Field::TpDst | Field::TcpDst | Field::UdpDst | Field::SctpDst => {
                Some(Wire::SetTpDst { port: value as u16 })
            }
            _ => None,
        };
        if let Some(one) = one.filter(|_| whole) {
            return vec![one];
        }
    }
    let has_nxm = name_of(field, false, version).is_some_and(Name::is_nxm);
    if !has_nxm {
        return vec![Wire::RegLoad2 { set: Setting { field: context.transport_field(field), value, mask } }];
    }
    loads(field, value, if whole { field.info().max() & mask } else { mask })
}

/// A tag with its priority, or its absence.
fn tci(value: u16, set: impl FnOnce(u16, u8) -> Vec<Wire>) -> Vec<Wire> {
    if value & wire::key::VLAN_PRESENT == 0 {
        return vec![Wire::StripVlan {}];
    }
    set(value & 0xfff, (value >> 13) as u8)
}

/// A value with a mask as `load`s of adjacent bits, the highest first, at most 64 each.
fn loads(field: Field, value: u128, mask: u128) -> Vec<Wire> {
    let mut out = Vec::new();
    let mut at = 0_u32;
    while at < 128 && mask >> at != 0 {
        at += (mask >> at).trailing_zeros();
        let bits = (mask >> at).trailing_ones().min(64);
        let to = Subfield { field, start: at as u8, bits: bits as u8 };
        out.push(Wire::RegLoad { to: Bits(to), value: (value >> at & to.max()) as u64 });
        at += bits;
    }
    // A whole field's load says all of its bits, also those that the switch has no room for.
    if let [Wire::RegLoad { to, .. }] = &mut out[..]
        && mask == field.info().exact() & field.info().max()
        && to.0.start == 0
        && field.info().bits <= 64
    {
        to.0.bits = field.info().bits;
    }
    out.reverse();
    out
}
