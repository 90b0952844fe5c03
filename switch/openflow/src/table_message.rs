//! Messages about flow tables.

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::field;
use crate::property;
use flow::ofp::Field;

/// Counters of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableStats {
    /// Number.
    pub table: u8,
    /// Name (before OpenFlow 1.3).
    pub name: String,
    /// Flows that it has room for (before OpenFlow 1.3).
    pub max_entries: u32,
    /// Flows.
    pub active: u32,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched.
    pub matched: u64,
}

impl TableStats {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u8(&mut self.table)?;
        c.pad(3)?;
        if c.version() == Version::V10 {
            c.text(&mut self.name, 32)?;
            // OFPFW10_ALL: every field can be wild.
            c.u32(&mut { (1 << 22) - 1 })?;
            c.u32(&mut self.max_entries)?;
        }
        c.u32(&mut self.active)?;
        c.u64(&mut self.lookups)?;
        c.u64(&mut self.matched)
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<TableStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// What a table can (since OpenFlow 1.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TableFeatures {
    /// Number.
    pub table: u8,
    /// Name, at most 31 bytes of it.
    pub name: String,
    /// Metadata bits that it matches.
    pub metadata_match: u64,
    /// Metadata bits that it writes.
    pub metadata_write: u64,
    /// Flows that it has room for.
    pub max_entries: u32,
    /// Properties as they stand: type and content.
    pub properties: Vec<(u16, Vec<u8>)>,
}

impl TableFeatures {
    /// What the switch's tables can, all the same: every instruction, action and field, and every higher table next.
    pub fn of_switch(table: u8, tables: u8, version: Version) -> TableFeatures {
        let headers = |numbers: &[u16]| -> Vec<u8> {
            numbers.iter().flat_map(|number| [number.to_be_bytes(), 4_u16.to_be_bytes()].concat()).collect()
        };
        let oxm = |is_match: bool, has_masks: bool| -> Vec<u8> {
            let mut out = crate::coder::Writer::new(Vec::new(), &[], &crate::Dialect::new(version));
            // A writer takes everything.
            let mut list =
                |mut name, masked| drop(field::header(&mut out, &mut name, &mut { masked && has_masks }));
            for field in Field::all().filter(|field| is_match || field.info().writable) {
                // Its words stand for masks.
                let masked = field.is_maskable() || field == Field::IpFrag;
                field::listed(field, version).for_each(|name| list(name, masked));
            }
            field::tun_metadata().for_each(|name| list(name, true));
            if is_match {
                list(field::PACKET_TYPE, false);
            }
            out.into_bytes()
        };
        let goto: &[u16] = if table + 1 < tables { &[1] } else { &[] };
        let meter: &[u16] = if version < Version::V15 { &[6] } else { &[] };
        let instructions = headers(&[goto, &[2, 3, 4, 5], meter].concat());
        let next: Vec<u8> = (table + 1..tables).collect();
        let mut actions = vec![0, 17, 18, 22, 23, 24, 25];
        actions.extend(if version >= Version::V15 { &[28, 29][..] } else { &[] });
        let (actions, set) = (headers(&actions), oxm(false, false));
        let mut properties = Vec::new();
        for miss in [0, 1] {
            properties.push((miss, instructions.clone()));
            properties.push((2 + miss, next.clone()));
            // write_actions, and then apply_actions.
            for of in [0, 2] {
                properties.push((4 + of + miss, actions.clone()));
                properties.push((12 + of + miss, set.clone()));
            }
        }
        // What matches can have, and what they can do without.
        properties.push((8, oxm(true, true)));
        properties.push((10, oxm(true, false)));
        TableFeatures {
            table,
            // None, as in Open vSwitch: tools print the name of a table instead of its number.
            name: String::new(),
            metadata_match: u64::MAX,
            metadata_write: u64::MAX,
            max_entries: 1_000_000,
            properties,
        }
    }

    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.u8(&mut self.table)?;
            c.pad(5)?;
            c.text(&mut self.name, 32)?;
            c.u64(&mut self.metadata_match)?;
            c.u64(&mut self.metadata_write)?;
            c.pad(4)?;
            c.u32(&mut self.max_entries)?;
            c.list(&mut self.properties, |c, (kind, content)| {
                let start = c.offset();
                c.u16(kind)?;
                let length = c.length16()?;
                c.counted_from(start, length, |c| c.rest(content))?;
                c.align(start)
            })
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<TableFeatures>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// `OFPTC14_EVICTION`: flows may go to make room.
pub const EVICTION: u32 = 1 << 2;

/// `OFPTC14_VACANCY_EVENTS`: a table-status message is sent when the table has become fuller or emptier than [`Vacancy`] says.
pub const VACANCY_EVENTS: u32 = 1 << 3;

/// How a table is configured (since OpenFlow 1.4), and `OFPT_TABLE_MOD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableConfig {
    /// `None`: all tables, in a change.
    pub table: Option<u8>,
    /// `OFPTC_*`.
    pub config: u32,
    /// When to tell of its vacancy.
    pub vacancy: Option<Vacancy>,
}

/// When to tell how much of a table is free (`OFPTMPT14_VACANCY`), percent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vacancy {
    /// When less is free.
    pub down: u8,
    /// When more is.
    pub up: u8,
    /// What is free; 0 in a change.
    pub now: u8,
}

/// Type of the property that says by what flows go (`OFPTMPT14_EVICTION`).
const EVICTION_FLAGS: u16 = 2;
/// Type of the property with a [`Vacancy`].
const VACANCY: u16 = 3;
/// By their importance, their lifetime, and otherwise.
const BY_ALL: u32 = 7;

/// By what flows go is the switch's choice.
fn properties<C: Coder>(c: &mut C, vacancy: &mut Option<Vacancy>) -> Step {
    property::each(c, &[(EVICTION_FLAGS, true), (VACANCY, vacancy.is_some())], |c, kind| match kind {
        EVICTION_FLAGS => c.u32(&mut { BY_ALL }),
        VACANCY => {
            let of = vacancy.get_or_insert_default();
            c.u8(&mut of.down)?;
            c.u8(&mut of.up)?;
            c.u8(&mut of.now)?;
            c.pad(1)?;
            if of.down > of.up || of.up > 100 {
                let why = format!("vacancy from {} to {} percent", of.down, of.up);
                return Err(Error::new(Code::OfpbpcBadValue, why));
            }
            Ok(())
        }
        kind => property::unknown(c, kind),
    })
}

impl TableConfig {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.any_table(&mut self.table)?;
        c.pad(3)?;
        c.u32(&mut self.config)?;
        properties(c, &mut self.vacancy)
    }

    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.any_table(&mut self.table)?;
            c.pad(1)?;
            c.u32(&mut self.config)?;
            properties(c, &mut self.vacancy)
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<TableConfig>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// Why a table-status message is sent (`OFPTR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TableReason {
    /// Less of it is free than [`Vacancy::down`].
    #[default]
    VacancyDown = 3,
    /// More of it is free than [`Vacancy::up`].
    VacancyUp = 4,
}

/// A table has become fuller or emptier (`OFPT_TABLE_STATUS`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableStatus {
    /// Which.
    pub reason: TableReason,
    /// The table.
    pub table: TableConfig,
}

impl TableStatus {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut reason = self.reason as u8;
        c.u8(&mut reason)?;
        self.reason = match reason {
            3 => TableReason::VacancyDown,
            4 => TableReason::VacancyUp,
            _ => return Err(Error::new(Code::NxbrcBadReason, format!("reason {reason} of a table status"))),
        };
        c.pad(7)?;
        self.table.one(c)
    }
}
