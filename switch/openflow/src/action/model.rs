//! What actions on the wire mean in the rule model, and how a version says those of the model.

use super::context::Context;
use super::wire::{Bits, Choice, Setting, Wire};
use crate::Version;
use crate::error::{Code, Error};
use crate::field::{Name, name_of};
use crate::packet;
use flow::ofp::{
    Action, Bundle, BundleAlgorithm, Conjunction, Controller, Field, HashFields, Multipath,
    MultipathAlgorithm, PORT_ALL, PORT_CONTROLLER, PORT_FLOOD, PORT_IN_PORT, PORT_LOCAL, PORT_MAX,
    PORT_NORMAL, PortRef, Subfield,
};

/// `OFPP_TABLE`: in a packet-out, through the tables.
const PORT_TABLE: u32 = 0xfff9;

/// What an action on the wire means.
pub(super) fn to_model(wire: Wire) -> Result<Action, Error> {
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
    let sending = |port: u16| match u32::from(port) {
        port @ (0..=PORT_MAX | PORT_IN_PORT | PORT_LOCAL) => Ok(port),
        port => Err(Error::new(Code::OfpbacBadOutPort, format!("{port:#x} is no port"))),
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
        Wire::Exit {} => Action::Exit,
        Wire::SetQueue { queue } => Action::SetQueue(queue),
        Wire::PopQueue {} => Action::PopQueue,
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
        Wire::OutputTrunc { port, max_len } => Action::OutputTruncated { port: sending(port)?, max_len },
        Wire::Enqueue { port, queue } => Action::Enqueue { port: sending(port)?, queue },
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
        Wire::Controller { max_len, id, reason } => {
            let reason = packet::reason_of(reason)?;
            Controller { max_len, reason, id, userdata: Vec::new() }.action()
        }
        Wire::Controller2 { controller } => controller.action(),
        Wire::DecTtlTo { ids } if ids.is_empty() => {
            return Err(Error::new(Code::OfpbacBadArgument, "dec_ttl to no controller"));
        }
        Wire::DecTtlTo { ids } => Action::DecTtlTo(ids),
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
pub(super) fn to_wires(action: &Action, version: Version, context: &mut Context) -> Vec<Wire> {
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
        Action::OutputTruncated { port, max_len } => {
            Wire::OutputTrunc { port: *port as u16, max_len: *max_len }
        }
        Action::Enqueue { port, queue } if old => Wire::Enqueue { port: *port as u16, queue: *queue },
        Action::Enqueue { port, queue } => {
            let output = Wire::Output { port: *port, max_len: 0 };
            return vec![Wire::SetQueue { queue: *queue }, output, Wire::PopQueue {}];
        }
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
        Action::Exit => Wire::Exit {},
        Action::SetQueue(queue) => Wire::SetQueue { queue: *queue },
        Action::PopQueue => Wire::PopQueue {},
        Action::DecTtlTo(ids) => Wire::DecTtlTo { ids: ids.clone() },
        Action::Controller(controller) if controller.userdata.is_empty() => Wire::Controller {
            max_len: controller.max_len,
            id: controller.id,
            reason: packet::reason_number(controller.reason, Version::V14),
        },
        Action::Controller(controller) => Wire::Controller2 { controller: Controller::clone(controller) },
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
        match context.transport_field(field) {
            Field::TpSrc if whole => return vec![Wire::SetTpSrc { port: value as u16 }],
            Field::TpDst if whole => return vec![Wire::SetTpDst { port: value as u16 }],
            _ => {}
        }
        let set = match field {
            Field::NwTos => Setting { field: Field::IpDscp, value: value >> 2, mask: mask >> 2 },
            field => Setting { field: context.transport_field(field), value, mask },
        };
        return vec![Wire::SetField { set }];
    }
    if version == Version::V10 {
        if field == Field::VlanTci && whole {
            return tci(value as u16, |vid, pcp| vec![Wire::SetVlanVid { vid }, Wire::SetVlanPcp { pcp }]);
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
    // As in Open vSwitch, `load` is for fields of a fixed length.
    // A `write_metadata` of OpenFlow 1.0 would be an instruction, which may not stand everywhere.
    let is_metadata = version == Version::V10 && field == Field::Metadata;
    let is_loaded = is_metadata || has_nxm && !matches!(field, Field::TunMetadata(_));
    if !is_loaded {
        return vec![Wire::RegLoad2 { set: Setting { field: context.transport_field(field), value, mask } }];
    }
    loads(field, value, if whole { field.info().max() & mask } else { mask })
}

/// A tag with its priority, or its absence.
pub(super) fn tci(value: u16, set: impl FnOnce(u16, u8) -> Vec<Wire>) -> Vec<Wire> {
    if value & wire::key::VLAN_PRESENT == 0 {
        return vec![Wire::StripVlan {}];
    }
    set(value & 0xfff, (value >> 13) as u8)
}

/// A value with a mask as `load`s of adjacent bits, the lowest first, at most 64 each.
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
    out
}

impl Choice {
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
