//! `learn` as bytes (`NXAST_LEARN`, `NXAST_LEARN2`).

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::field::{self, check, field_of, name_of, nothing};
use flow::ofp::{Learn, LearnSource, LearnTarget, Subfield};

/// `NX_LEARN_F_*`.
const SEND_FLOW_REM: u16 = 1;
const DELETE_LEARNED: u16 = 2;
const WRITE_RESULT: u16 = 4;

/// What a spec's first word says behind the number of its bits: where they come from, and what becomes of them.
const BITS: u16 = 0x07ff;
const TO_MATCH: u16 = 0;
const TO_LOAD: u16 = 1 << 11;
const TO_OUTPUT: u16 = 2 << 11;
const TO: u16 = 3 << 11;
const OF_VALUE: u16 = 1 << 13;

/// Reads or writes it; `long` with a limit and a bit for the result.
pub fn code(c: &mut impl Coder, learn: &mut Learn, long: bool) -> Step {
    c.u16(&mut learn.idle_timeout)?;
    c.u16(&mut learn.hard_timeout)?;
    c.u16(&mut learn.priority)?;
    c.u64(&mut learn.cookie)?;
    let mut flags = if learn.send_flow_rem { SEND_FLOW_REM } else { 0 }
        | if learn.delete_learned { DELETE_LEARNED } else { 0 }
        | if learn.result_dst.is_some() { WRITE_RESULT } else { 0 };
    c.u16(&mut flags)?;
    let known = SEND_FLOW_REM | DELETE_LEARNED | if long { WRITE_RESULT } else { 0 };
    if flags & !known != 0 {
        return Err(bad(&format!("flags {flags:#x} are not known")));
    }
    (learn.send_flow_rem, learn.delete_learned) = (flags & SEND_FLOW_REM != 0, flags & DELETE_LEARNED != 0);
    c.u8(&mut learn.table)?;
    c.pad(1)?;
    if learn.table == u8::MAX {
        return Err(bad("table 255 has no flows"));
    }
    c.u16(&mut learn.fin_idle_timeout)?;
    c.u16(&mut learn.fin_hard_timeout)?;
    if long {
        c.u32(&mut learn.limit)?;
        let mut bit = learn.result_dst.unwrap_or_else(nothing);
        let mut start = u16::from(bit.start);
        c.u16(&mut start)?;
        c.pad(2)?;
        if flags & WRITE_RESULT != 0 {
            bit = Subfield { start: narrow(start)?, bits: 1, ..bit };
            header(c, &mut bit)?;
            learn.result_dst = Some(bit);
        } else if start != 0 {
            return Err(bad("an offset of a result that is not asked for"));
        }
    }
    specs(c, learn)
}

/// The pieces of the match and the actions, and zeros behind them.
fn specs<C: Coder>(c: &mut C, learn: &mut Learn) -> Step {
    if !C::READS {
        return learn.specs.iter().try_for_each(|(from, to)| write(c, *from, *to));
    }
    learn.specs.clear();
    while c.more(false) {
        let mut first = 0;
        // What fills the action up may be no whole word only where it is broken.
        c.u16(&mut first)?;
        if first == 0 {
            let mut rest = Vec::new();
            c.rest(&mut rest)?;
            return if rest.iter().all(|byte| *byte == 0) {
                Ok(())
            } else {
                Err(bad("bytes behind the end"))
            };
        }
        learn.specs.push(read(c, first)?);
    }
    Ok(())
}

fn write(c: &mut impl Coder, from: LearnSource, to: LearnTarget) -> Step {
    let bits = match (from, to) {
        (LearnSource::Field(bits), _) | (_, LearnTarget::Match(bits) | LearnTarget::Load(bits)) => bits.bits,
        (LearnSource::Value(_), LearnTarget::Output) => 16,
    };
    let kind = match to {
        LearnTarget::Match(_) => TO_MATCH,
        LearnTarget::Load(_) => TO_LOAD,
        LearnTarget::Output => TO_OUTPUT,
    };
    let of_value = if matches!(from, LearnSource::Value(_)) { OF_VALUE } else { 0 };
    c.u16(&mut (u16::from(bits) | kind | of_value))?;
    match from {
        LearnSource::Field(mut bits) => subfield(c, &mut bits)?,
        LearnSource::Value(mut value) => c.bits(&mut value, value_bytes(bits))?,
    }
    match to {
        LearnTarget::Match(mut bits) | LearnTarget::Load(mut bits) => subfield(c, &mut bits),
        LearnTarget::Output => Ok(()),
    }
}

fn read(c: &mut impl Coder, first: u16) -> Result<(LearnSource, LearnTarget), Error> {
    let bits = narrow(first & BITS)?;
    if first & !(BITS | TO | OF_VALUE) != 0 || bits == 0 || bits > 128 {
        return Err(bad(&format!("a piece {first:#06x}")));
    }
    let of = |c: &mut _| {
        let mut of = Subfield { bits, ..nothing() };
        subfield(c, &mut of).map(|()| of)
    };
    let from = if first & OF_VALUE == 0 {
        LearnSource::Field(of(c)?)
    } else {
        let mut value = 0;
        c.bits(&mut value, value_bytes(bits))?;
        if bits < 128 && value >> bits != 0 {
            return Err(bad(&format!("{value:#x} has more than {bits} bits")));
        }
        LearnSource::Value(value)
    };
    let to = match first & TO {
        TO_MATCH => LearnTarget::Match(of(c)?),
        TO_LOAD => LearnTarget::Load(of(c)?),
        TO_OUTPUT => LearnTarget::Output,
        _ => return Err(bad(&format!("a piece {first:#06x}"))),
    };
    Ok((from, to))
}

/// Bytes of a value: it is counted in words of 16 bits.
fn value_bytes(bits: u8) -> usize {
    2 * usize::from(bits).div_ceil(16)
}

/// A field and the first of its bits, whose number is known.
fn subfield(c: &mut impl Coder, bits: &mut Subfield) -> Step {
    let mut header_only = *bits;
    field_name(c, &mut header_only)?;
    let mut start = u16::from(bits.start);
    c.u16(&mut start)?;
    *bits = Subfield { start: narrow(start)?, ..header_only };
    check(*bits)
}

fn header(c: &mut impl Coder, bits: &mut Subfield) -> Step {
    field_name(c, bits)?;
    check(*bits)
}

/// Always by Nicira's names where there are any, whose length is fixed.
fn field_name(c: &mut impl Coder, bits: &mut Subfield) -> Step {
    let no_number = || Error::new(Code::OfpbacBadSetType, format!("{} has no number", bits.field.name()));
    let mut name = name_of(bits.field, false, Version::V10).ok_or_else(no_number)?;
    field::header(c, &mut name, &mut false)?;
    let unknown = || Error::new(Code::OfpbacBadSetType, format!("{name} is not known"));
    bits.field = field_of(name, &c.dialect().tlvs).ok_or_else(unknown)?;
    Ok(())
}

fn narrow(wide: u16) -> Result<u8, Error> {
    u8::try_from(wide).map_err(|_| bad("no field has so many bits"))
}

fn bad(why: &str) -> Error {
    Error::new(Code::OfpbacBadArgument, format!("learn: {why}"))
}
