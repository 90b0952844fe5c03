//! Actions as bytes: what stands on the wire ([`wire`]), and what it means in the rule model ([`model`]).

mod context;
mod model;
mod wire;

pub use context::Context;

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error, NICIRA, ONF};
use flow::ofp::{Action, Field};
use model::{tci, to_model, to_wires};
use wire::{Kind, Wire};

/// Type of actions whose number is an experimenter's.
const EXPERIMENTER: u16 = 0xffff;

/// What actions of Nicira's are called that are known and not served.
const REFUSED: &[(u16, &str)] = &[
    (23, "push_mpls"),
    (24, "pop_mpls"),
    (25, "set_mpls_ttl"),
    (26, "dec_mpls_ttl"),
    (29, "sample"),
    (30, "set_mpls_label"),
    (31, "set_mpls_tc"),
    (35, "ct"),
    (36, "nat"),
    (37, "controller with pause or meter_id"),
    (38, "sample"),
    (41, "sample"),
    (43, "ct_clear"),
    (44, "resubmit(ct)"),
    (46, "encap"),
    (47, "decap"),
    (48, "dec_nsh_ttl"),
    (50, "delete_field"),
];

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
        match to_model(wire)? {
            // OpenFlow 1.0 says it with actions of its own.
            Action::SetField { field: Field::VlanTci, value, mask }
                if mask == Field::VlanTci.info().exact() && c.version() == Version::V10 =>
            {
                for part in
                    tci(value as u16, |vid, pcp| vec![Wire::SetVlanVid { vid }, Wire::SetVlanPcp { pcp }])
                {
                    actions.push(to_model(part)?);
                }
            }
            Action::SetField { field, value, mask } => {
                actions.push(Action::SetField { field: context.transport_field(field), value, mask });
            }
            action => actions.push(action),
        }
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

fn is_reader<C: Coder>(_: &C) -> bool {
    C::READS
}
