//! Messages about meters (since OpenFlow 1.3).

use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use flow::ofp::{MeterSpec, MeterUnit};
use std::time::Duration;

/// `OFPM13_ALL`: every meter.
pub const METER_ALL: u32 = u32::MAX;

const KBPS: u16 = 1 << 0;
const PKTPS: u16 = 1 << 1;
const BURST: u16 = 1 << 2;
const STATS: u16 = 1 << 3;
const BAND_DROP: u16 = 1;

/// What a meter mod does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MeterCommand {
    /// A new meter.
    #[default]
    Add,
    /// Another rate.
    Modify,
    /// Removes a meter, or all.
    Delete,
}

/// `OFPT_METER_MOD`. A deletion says only the number, which is [`METER_ALL`] for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterCommand,
    /// The meter.
    pub meter: MeterSpec,
}

fn nothing() -> MeterSpec {
    MeterSpec { id: 0, unit: MeterUnit::Kbps, rate: 0, burst: None, stats: false }
}

impl Default for MeterMod {
    fn default() -> MeterMod {
        MeterMod { command: MeterCommand::Add, meter: nothing() }
    }
}

fn flags(meter: &mut MeterSpec, c: &mut impl Coder) -> Step {
    let unit = if meter.unit == MeterUnit::Pktps { PKTPS } else { KBPS };
    let mut flags = unit | (u16::from(meter.burst.is_some()) * BURST) | (u16::from(meter.stats) * STATS);
    c.u16(&mut flags)?;
    if flags & !0xf != 0 || flags & (KBPS | PKTPS) == KBPS | PKTPS {
        return Err(Error::new(Code::OfpmmfcBadFlags, format!("meter flags {flags:#x}")));
    }
    meter.unit = if flags & PKTPS != 0 { MeterUnit::Pktps } else { MeterUnit::Kbps };
    meter.stats = flags & STATS != 0;
    Ok(())
}

/// The one band of a meter: drop.
fn bands<C: Coder>(meter: &mut MeterSpec, c: &mut C) -> Step {
    let mut count = 0;
    while c.more(count == 0) {
        count += 1;
        if count > 1 {
            return Err(Error::new(Code::OfpmmfcOutOfBands, "a meter has one band"));
        }
        let (start, mut kind) = (c.offset(), BAND_DROP);
        c.u16(&mut kind)?;
        let length = c.length16()?;
        if kind != BAND_DROP {
            return Err(Error::new(Code::OfpmmfcBadBand, format!("band type {kind} is not drop")));
        }
        c.counted_from(start, length, |c| {
            c.u32(&mut meter.rate)?;
            let mut burst = meter.burst.unwrap_or(0);
            c.u32(&mut burst)?;
            meter.burst = (burst > 0).then_some(burst);
            c.pad(4)
        })?;
    }
    Ok(())
}

impl MeterMod {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut command = self.command as u16;
        c.u16(&mut command)?;
        self.command = match command {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            _ => return Err(Error::new(Code::OfpmmfcBadCommand, format!("meter mod command {command}"))),
        };
        flags(&mut self.meter, c)?;
        c.u32(&mut self.meter.id)?;
        if self.command == MeterCommand::Delete {
            // Of a meter to be deleted only the number counts.
            self.meter = MeterSpec { id: self.meter.id, ..nothing() };
            return if C::READS { c.rest(&mut Vec::new()) } else { Ok(()) };
        }
        bands(&mut self.meter, c)?;
        if self.meter.rate == 0 {
            return Err(Error::new(Code::OfpmmfcBadRate, "a meter has a band with a rate"));
        }
        Ok(())
    }
}

/// Which meters a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeterRequest {
    /// A meter, or [`METER_ALL`].
    pub meter: u32,
}

impl Default for MeterRequest {
    fn default() -> MeterRequest {
        MeterRequest { meter: METER_ALL }
    }
}

impl MeterRequest {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.meter)?;
        c.pad(4)
    }
}

/// A meter as its configuration has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterConfig(pub MeterSpec);

impl Default for MeterConfig {
    fn default() -> MeterConfig {
        MeterConfig(nothing())
    }
}

impl MeterConfig {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            flags(&mut self.0, c)?;
            c.u32(&mut self.0.id)?;
            bands(&mut self.0, c)
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<MeterConfig>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// Counters of a meter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterStats {
    /// Number.
    pub meter: u32,
    /// Flows that use it.
    pub flows: u32,
    /// Packets that came.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Since it was added.
    pub duration: Duration,
    /// Packets and bytes of each band.
    pub bands: Vec<(u64, u64)>,
}

impl MeterStats {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        c.u32(&mut self.meter)?;
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.pad(6)?;
            c.u32(&mut self.flows)?;
            c.u64(&mut self.packets_in)?;
            c.u64(&mut self.bytes_in)?;
            c.duration(&mut self.duration)?;
            c.list(&mut self.bands, |c, (packets, bytes)| {
                c.u64(packets)?;
                c.u64(bytes)
            })
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<MeterStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// What meters can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MeterFeatures {
    /// Number of meters.
    pub max_meters: u32,
    /// Bits of band types.
    pub band_types: u32,
    /// `OFPMF13_*`.
    pub capabilities: u32,
    /// Bands of a meter.
    pub max_bands: u8,
    /// Colours.
    pub max_color: u8,
}

impl MeterFeatures {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.max_meters)?;
        c.u32(&mut self.band_types)?;
        c.u32(&mut self.capabilities)?;
        c.u8(&mut self.max_bands)?;
        c.u8(&mut self.max_color)?;
        c.pad(2)
    }
}
