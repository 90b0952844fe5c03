//! Messages about groups.

use crate::Version;
use crate::action::{self, Context};
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::field::{self, field_of, name_of};
use crate::property;
use flow::ofp::{Action, Bucket, Field, GroupKind, GroupSpec, Selection, SelectionMethod};
use std::time::Duration;

/// `OFPG_ALL`: every group.
pub const GROUP_ALL: u32 = 0xffff_fffc;
/// The first bucket of a group.
pub const BUCKET_FIRST: u32 = 0xffff_fffd;
/// The last bucket of a group.
pub const BUCKET_LAST: u32 = 0xffff_fffe;
/// All buckets of a group.
pub const BUCKET_ALL: u32 = 0xffff_ffff;

/// What a group mod does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GroupCommand {
    /// A new group.
    #[default]
    Add,
    /// Another content for a group.
    Modify,
    /// Removes a group, or all.
    Delete,
    /// More buckets (since OpenFlow 1.5).
    InsertBucket,
    /// Fewer buckets (since OpenFlow 1.5).
    RemoveBucket,
    /// A new group, or another content for it (Open vSwitch).
    AddOrModify,
}

/// `OFPT_GROUP_MOD`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupCommand,
    /// Where buckets go, or which: a number, or [`BUCKET_FIRST`] and its fellows.
    pub bucket: u32,
    /// The group. The number is [`GROUP_ALL`] to delete all.
    pub group: GroupSpec,
}

impl Default for GroupMod {
    fn default() -> GroupMod {
        GroupMod { command: GroupCommand::Add, bucket: BUCKET_ALL, group: nothing() }
    }
}

fn nothing() -> GroupSpec {
    GroupSpec { id: 0, kind: GroupKind::All, selection: None, buckets: Vec::new() }
}

fn kind(kind: &mut GroupKind, c: &mut impl Coder) -> Step {
    let all = [GroupKind::All, GroupKind::Select, GroupKind::Indirect, GroupKind::FastFailover];
    let mut number = all.iter().position(|one| one == kind).unwrap_or(0) as u8;
    c.u8(&mut number)?;
    let known = all.get(usize::from(number)).copied();
    *kind = known.ok_or_else(|| Error::new(Code::OfpgmfcBadType, format!("group type {number}")))?;
    Ok(())
}

impl GroupMod {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut command = match self.command {
            GroupCommand::Add => 0,
            GroupCommand::Modify => 1,
            GroupCommand::Delete => 2,
            GroupCommand::InsertBucket => 3,
            GroupCommand::RemoveBucket => 5,
            GroupCommand::AddOrModify => 0x8000,
        };
        c.u16(&mut command)?;
        // Nicira's group mod of OpenFlow 1.0 looks as that of 1.5.
        let new = matches!(c.version(), Version::V10 | Version::V15);
        self.command = match command {
            0 => GroupCommand::Add,
            1 => GroupCommand::Modify,
            2 => GroupCommand::Delete,
            3 if new => GroupCommand::InsertBucket,
            5 if new => GroupCommand::RemoveBucket,
            0x8000 => GroupCommand::AddOrModify,
            _ => return Err(Error::new(Code::OfpgmfcBadCommand, format!("group mod command {command}"))),
        };
        kind(&mut self.group.kind, c)?;
        c.pad(1)?;
        c.u32(&mut self.group.id)?;
        if !new {
            return buckets(&mut self.group, c, false);
        }
        let length = c.length16()?;
        c.pad(2)?;
        c.u32(&mut self.bucket)?;
        c.counted(length, |c| buckets(&mut self.group, c, true))?;
        let may_select =
            matches!(self.command, GroupCommand::Add | GroupCommand::Modify | GroupCommand::AddOrModify);
        properties(c, &mut self.group, may_select)
    }
}

/// Group properties: how it selects, which is for groups of type `select` that a message gives a content.
fn properties<C: Coder>(c: &mut C, group: &mut GroupSpec, may_select: bool) -> Step {
    const EXPERIMENTER: u16 = 0xffff;
    /// Netronome's numbers, the second as Open vSwitch 2.4 had it.
    const NTR: [u32; 2] = [0x154d, 0x1540];
    let may_select = may_select && group.kind == GroupKind::Select;
    let given = &mut group.selection;
    property::each(c, &[(EXPERIMENTER, given.is_some())], |c, kind| {
        if kind != EXPERIMENTER {
            return Err(Error::new(Code::OfpbpcBadType, format!("property {kind} of a group")));
        }
        let (mut experimenter, mut subtype) = (NTR[0], 1);
        c.u32(&mut experimenter)?;
        c.u32(&mut subtype)?;
        if !NTR.contains(&experimenter) || subtype != 1 {
            return Err(Error::new(Code::OfpbpcBadExperimenter, format!("experimenter {experimenter:#x}")));
        }
        if !may_select {
            let why = "a selection method is for groups of type select that come or change";
            return Err(Error::new(Code::OfpbpcBadValue, why));
        }
        selection(c, given)
    })
}

/// `ntr_group_prop_selection_method`, behind its numbers.
fn selection<C: Coder>(c: &mut C, given: &mut Option<Selection>) -> Step {
    c.pad(4)?;
    let mut method = given.as_ref().map_or(String::new(), |given| given.method.name().to_owned());
    c.text(&mut method, 16)?;
    let method = SelectionMethod::named(&method)
        .ok_or_else(|| Error::new(Code::OfpbpcBadValue, format!("selection method {method:?}")))?;
    let given = given.get_or_insert(Selection { method, param: 0, fields: Vec::new() });
    c.u64(&mut given.param)?;
    let oxm = c.version() >= Version::V13;
    if !C::READS {
        return given.fields.iter_mut().try_for_each(|(field, mask)| hashed(c, field, mask, oxm));
    }
    while c.more(false) {
        let (mut field, mut mask) = (Field::Reg0, 0);
        hashed(c, &mut field, &mut mask, oxm)?;
        if given.fields.iter().any(|(other, _)| *other == field) {
            return Err(Error::new(Code::OfpbmcDupField, format!("{} twice", field.name())));
        }
        given.fields.push((field, mask));
    }
    let place = |field: Field| Field::all().position(|other| other == field);
    given.fields.sort_by_key(|(field, _)| place(*field));
    Ok(())
}

/// A field that is hashed: the bits that count stand in the place of its value.
fn hashed<C: Coder>(c: &mut C, field: &mut Field, mask: &mut u128, oxm: bool) -> Step {
    let mut name = name_of(*field, oxm, c.version()).unwrap_or(field::COOKIE);
    field::header(c, &mut name, &mut false)?;
    let length = usize::from(name.bytes);
    if length == 0 || length > 16 {
        return Err(Error::new(Code::OfpbmcBadLen, format!("{name} with {length} bytes")));
    }
    c.bits(mask, length)?;
    if C::READS {
        let unknown = || Error::new(Code::OfpbmcBadField, format!("{name} is not known"));
        *field = field_of(name, &c.dialect().tlvs).ok_or_else(unknown)?;
        *mask &= field.info().exact();
    }
    Ok(())
}

/// The buckets of a group. `new`: as in OpenFlow 1.5, with numbers and properties.
fn buckets<C: Coder>(group: &mut GroupSpec, c: &mut C, new: bool) -> Step {
    let select = group.kind == GroupKind::Select;
    let mut each = |c: &mut C, bucket: &mut Slot| bucket.code(c, new, select);
    let mut slots: Vec<Slot> = group.buckets.drain(..).map(Slot).collect();
    c.list(&mut slots, &mut each)?;
    group.buckets = slots.into_iter().map(|slot| slot.0).collect();
    if C::READS && !new {
        for (at, bucket) in group.buckets.iter_mut().enumerate() {
            bucket.id = at as u32;
        }
    }
    Ok(())
}

struct Slot(Bucket);

impl Default for Slot {
    fn default() -> Slot {
        let actions = vec![Action::Drop];
        Slot(Bucket { id: 0, weight: 0, watch_port: None, watch_group: None, actions })
    }
}

impl Slot {
    fn code<C: Coder>(&mut self, c: &mut C, new: bool, select: bool) -> Step {
        const WEIGHT: u16 = 0;
        const WATCH_PORT: u16 = 1;
        const WATCH_GROUP: u16 = 2;
        let start = c.offset();
        let length = c.length16()?;
        let bucket = &mut self.0;
        let body = |c: &mut C| -> Step {
            if !new {
                c.u16(&mut bucket.weight)?;
                wide_port(c, &mut bucket.watch_port)?;
                c.any_group(&mut bucket.watch_group)?;
                c.pad(4)?;
                return action::list(c, &mut bucket.actions, Context::default());
            }
            let actions = c.length16()?;
            c.u32(&mut bucket.id)?;
            c.counted(actions, |c| action::list(c, &mut bucket.actions, Context::default()))?;
            if C::READS {
                bucket.weight = u16::from(select);
            }
            let present = [
                (WEIGHT, select),
                (WATCH_PORT, bucket.watch_port.is_some()),
                (WATCH_GROUP, bucket.watch_group.is_some()),
            ];
            property::each(c, &present, |c, kind| match kind {
                WEIGHT => {
                    c.u16(&mut bucket.weight)?;
                    c.pad(2)
                }
                WATCH_PORT => wide_port(c, &mut bucket.watch_port),
                WATCH_GROUP => c.any_group(&mut bucket.watch_group),
                _ => Err(Error::new(Code::OfpbpcBadType, format!("property {kind} of a bucket"))),
            })
        };
        c.counted_from(start, length, body).map_err(|error| match error.code {
            Code::OfpbrcBadLen => Error { code: Code::OfpgmfcBadBucket, ..error },
            _ => error,
        })
    }
}

/// A port of 32 bits in every version, or `OFPP_ANY`.
fn wide_port(c: &mut impl Coder, port: &mut Option<u32>) -> Step {
    let mut wide = match *port {
        None => u32::MAX,
        Some(port) if port >= 0xff00 => port | 0xffff_0000,
        Some(port) => port,
    };
    c.u32(&mut wide)?;
    *port = match wide {
        u32::MAX => None,
        0..0xff00 => Some(wide),
        0xffff_ff00.. => Some(wide & 0xffff),
        _ => return Err(Error::new(Code::OfpgmfcBadWatch, format!("{wide:#x} is no port"))),
    };
    Ok(())
}

/// Which groups a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupRequest {
    /// A group, or [`GROUP_ALL`].
    pub group: u32,
}

impl Default for GroupRequest {
    fn default() -> GroupRequest {
        GroupRequest { group: GROUP_ALL }
    }
}

impl GroupRequest {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.group)?;
        c.pad(4)
    }

    /// Of descriptions: between OpenFlow 1.1 and 1.4 always all.
    pub(crate) fn code_desc<C: Coder>(&mut self, c: &mut C) -> Step {
        if matches!(c.version(), Version::V10 | Version::V15) { self.code(c) } else { Ok(()) }
    }
}

/// A group as a description has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDesc(pub GroupSpec);

impl Default for GroupDesc {
    fn default() -> GroupDesc {
        GroupDesc(nothing())
    }
}

impl GroupDesc {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let new = matches!(c.version(), Version::V10 | Version::V15);
        let length = c.length16()?;
        let group = &mut self.0;
        c.counted_from(start, length, |c| {
            kind(&mut group.kind, c)?;
            c.pad(1)?;
            c.u32(&mut group.id)?;
            if !new {
                return buckets(group, c, false);
            }
            let length = c.length16()?;
            c.pad(6)?;
            c.counted(length, |c| buckets(group, c, true))?;
            properties(c, group, true)
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<GroupDesc>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// Counters of a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupStats {
    /// Number.
    pub group: u32,
    /// Flows and groups that send to it.
    pub references: u32,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since it was added.
    pub duration: Duration,
    /// Packets and bytes of each bucket.
    pub buckets: Vec<(u64, u64)>,
}

impl GroupStats {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.pad(2)?;
            c.u32(&mut self.group)?;
            c.u32(&mut self.references)?;
            c.pad(4)?;
            c.u64(&mut self.packets)?;
            c.u64(&mut self.bytes)?;
            // Nicira's message of OpenFlow 1.0 is that of 1.3.
            c.duration(&mut self.duration)?;
            c.list(&mut self.buckets, |c, (packets, bytes)| {
                c.u64(packets)?;
                c.u64(bytes)
            })
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<GroupStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// What groups can; in the order all, select, indirect, fast failover.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupFeatures {
    /// Bits of the types.
    pub types: u32,
    /// `OFPGFC_*`.
    pub capabilities: u32,
    /// Number of groups of each type.
    pub max_groups: [u32; 4],
    /// Bits of actions of each type.
    pub actions: [u32; 4],
}

impl GroupFeatures {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.types)?;
        c.u32(&mut self.capabilities)?;
        self.max_groups.iter_mut().try_for_each(|number| c.u32(number))?;
        self.actions.iter_mut().try_for_each(|number| c.u32(number))
    }
}
