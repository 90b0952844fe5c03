//! Instructions of OpenFlow 1.1 and later: what a flow does, as the rule model has it in one list of actions.

use crate::Version;
use crate::action::{self, Context};
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use flow::ofp::{Action, Field};

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;

/// The parts of a list of actions, in the order in which instructions are done.
#[derive(Default)]
struct Instructions {
    meter: Option<u32>,
    apply: Option<Vec<Action>>,
    clear: bool,
    write: Option<Vec<Action>>,
    metadata: Option<(u64, u64)>,
    goto: Option<u8>,
}

impl Instructions {
    /// Before OpenFlow 1.5 a meter is an instruction; `write_metadata` is one where nothing but `goto_table` follows.
    fn of(actions: &[Action], version: Version) -> Instructions {
        let mut parts = Instructions::default();
        let mut rest = actions;
        if let [Action::Meter(id), behind @ ..] = rest
            && version < Version::V15
        {
            (parts.meter, rest) = (Some(*id), behind);
        }
        if let [before @ .., Action::GotoTable(table)] = rest {
            (parts.goto, rest) = (Some(*table), before);
        }
        if let [before @ .., Action::SetField { field: Field::Metadata, value, mask }] = rest {
            (parts.metadata, rest) = (Some((*value as u64, *mask as u64)), before);
        }
        if let [before @ .., Action::WriteActions(actions)] = rest {
            (parts.write, rest) = (Some(actions.clone()), before);
        }
        if let [before @ .., Action::ClearActions] = rest {
            (parts.clear, rest) = (true, before);
        }
        if !rest.is_empty() && rest != [Action::Drop] {
            parts.apply = Some(rest.to_vec());
        }
        parts
    }

    fn into_actions(self) -> Vec<Action> {
        let mut out: Vec<Action> = self.meter.map(Action::Meter).into_iter().collect();
        out.extend(self.apply.into_iter().flatten().filter(|action| *action != Action::Drop));
        if self.clear {
            out.push(Action::ClearActions);
        }
        out.extend(self.write.map(Action::WriteActions));
        if let Some((value, mask)) = self.metadata {
            let (value, mask) = (u128::from(value & mask), u128::from(mask));
            out.push(Action::SetField { field: Field::Metadata, value, mask });
        }
        out.extend(self.goto.map(Action::GotoTable));
        if out.is_empty() {
            out.push(Action::Drop);
        }
        out
    }
}

/// Instructions up to the end of what encloses them.
pub fn list<C: Coder>(c: &mut C, actions: &mut Vec<Action>, context: Context) -> Step {
    if !C::READS {
        let mut parts = Instructions::of(actions, c.version());
        let present = [
            (METER, parts.meter.is_some()),
            (APPLY_ACTIONS, parts.apply.is_some()),
            (CLEAR_ACTIONS, parts.clear),
            (WRITE_ACTIONS, parts.write.is_some()),
            (WRITE_METADATA, parts.metadata.is_some()),
            (GOTO_TABLE, parts.goto.is_some()),
        ];
        for (kind, _) in present.into_iter().filter(|row| row.1) {
            one(c, &mut { kind }, &mut parts, context)?;
        }
        return Ok(());
    }
    let mut parts = Instructions::default();
    while c.more(false) {
        one(c, &mut 0, &mut parts, context)?;
    }
    *actions = parts.into_actions();
    Ok(())
}

/// One instruction of the kind.
fn one<C: Coder>(c: &mut C, kind: &mut u16, parts: &mut Instructions, context: Context) -> Step {
    let start = c.offset();
    c.u16(kind)?;
    let length = c.length16()?;
    let body = |c: &mut C| -> Step {
        let twice = match *kind {
            METER => parts.meter.is_some(),
            APPLY_ACTIONS => parts.apply.is_some(),
            CLEAR_ACTIONS => parts.clear,
            WRITE_ACTIONS => parts.write.is_some(),
            WRITE_METADATA => parts.metadata.is_some(),
            GOTO_TABLE => parts.goto.is_some(),
            _ => false,
        };
        if twice && C::READS {
            return Err(Error::new(Code::OfpbicDupInst, format!("instruction {kind} twice")));
        }
        match *kind {
            METER if c.version() < Version::V15 => c.u32(parts.meter.get_or_insert_default()),
            GOTO_TABLE => {
                c.u8(parts.goto.get_or_insert_default())?;
                c.pad(3)
            }
            WRITE_METADATA => {
                let (value, mask) = parts.metadata.get_or_insert_default();
                c.pad(4)?;
                c.u64(value)?;
                c.u64(mask)
            }
            APPLY_ACTIONS => {
                c.pad(4)?;
                action::list(c, parts.apply.get_or_insert_default(), context)
            }
            WRITE_ACTIONS => {
                c.pad(4)?;
                action::list(c, parts.write.get_or_insert_default(), context)
            }
            CLEAR_ACTIONS => {
                parts.clear = true;
                c.pad(4)
            }
            0xffff => Err(Error::new(Code::OfpbicBadExperimenter, "no experimenter's instruction is known")),
            _ => Err(Error::new(Code::OfpbicUnknownInst, format!("instruction {kind}"))),
        }
    };
    c.counted_from(start, length, body).map_err(|error| match error.code {
        Code::OfpbrcBadLen => Error { code: Code::OfpbicBadLen, ..error },
        _ => error,
    })
}
