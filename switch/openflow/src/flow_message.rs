//! Messages about flows: changes, dumps, aggregates, removals.

use crate::Version;
use crate::action::{self, Context};
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::instruction;
use crate::matching::{self, CookieMask};
use flow::ofp::{Action, FlowFilter, FlowSpec, Match};
use std::sync::Arc;
use std::time::Duration;

/// Tell when the flow goes (`OFPFF_SEND_FLOW_REM`).
pub const SEND_FLOW_REM: u16 = 1 << 0;
/// Refuse a flow that overlaps with another of the same priority (`OFPFF_CHECK_OVERLAP`).
pub const CHECK_OVERLAP: u16 = 1 << 1;
/// A flow that replaces another begins to count anew (`OFPFF12_RESET_COUNTS`).
pub const RESET_COUNTS: u16 = 1 << 2;
/// Packets need not be counted (`OFPFF13_NO_PKT_COUNTS`).
pub const NO_PACKET_COUNTS: u16 = 1 << 3;
/// Bytes need not be counted (`OFPFF13_NO_BYT_COUNTS`).
pub const NO_BYTE_COUNTS: u16 = 1 << 4;
/// No buffer: the packet itself comes with the message.
pub const NO_BUFFER: u32 = u32::MAX;

/// What a flow mod does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlowCommand {
    /// Adds a flow, or replaces the one in its place.
    #[default]
    Add,
    /// New actions for the flows within the match.
    Modify,
    /// New actions for the flow with this match and priority.
    ModifyStrict,
    /// Removes the flows within the match.
    Delete,
    /// Removes the flow with this match and priority.
    DeleteStrict,
}

impl FlowCommand {
    const ALL: [FlowCommand; 5] = [
        FlowCommand::Add,
        FlowCommand::Modify,
        FlowCommand::ModifyStrict,
        FlowCommand::Delete,
        FlowCommand::DeleteStrict,
    ];

    /// Whether only the very match and priority are meant.
    pub fn is_strict(self) -> bool {
        matches!(self, FlowCommand::ModifyStrict | FlowCommand::DeleteStrict)
    }

    fn from_number(number: u16) -> Result<FlowCommand, Error> {
        let command = FlowCommand::ALL.get(usize::from(number)).copied();
        command.ok_or_else(|| Error::new(Code::OfpfmfcBadCommand, format!("flow mod command {number}")))
    }
}

/// `OFPT_FLOW_MOD`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowCommand,
    /// `None`: every table, or the switch's choice for a new flow.
    pub table: Option<u8>,
    /// Higher wins.
    pub priority: u16,
    /// Which flows by their cookies; a mask of 0 means any.
    pub cookie: CookieMask,
    /// The cookie that flows get. `None`: a modification leaves theirs, and adds no flow.
    pub new_cookie: Option<u64>,
    /// Seconds, 0 for ever.
    pub idle_timeout: u16,
    /// Seconds, 0 for ever.
    pub hard_timeout: u16,
    /// A buffered packet; there are none here.
    pub buffer_id: u32,
    /// Only flows that output there.
    pub out_port: Option<u32>,
    /// Only flows that send there.
    pub out_group: Option<u32>,
    /// `OFPFF_*` as since OpenFlow 1.3.
    pub flags: u16,
    /// For eviction; since OpenFlow 1.4.
    pub importance: u16,
    /// Which packets.
    pub matches: Match,
    /// What to do with them; `drop` for none, also where there is nothing to say.
    pub actions: Vec<Action>,
}

impl FlowMod {
    /// The flow to add.
    pub fn spec(&self) -> FlowSpec {
        self.clone().into_spec()
    }

    /// The flow to add.
    pub fn into_spec(self) -> FlowSpec {
        FlowSpec {
            table: self.table.unwrap_or(0),
            priority: self.priority,
            cookie: self.new_cookie.unwrap_or(0),
            idle_timeout: self.idle_timeout,
            hard_timeout: self.hard_timeout,
            send_flow_rem: self.flags & SEND_FLOW_REM != 0,
            check_overlap: self.flags & CHECK_OVERLAP != 0,
            reset_counts: self.flags & RESET_COUNTS != 0,
            no_packet_counts: self.flags & NO_PACKET_COUNTS != 0,
            no_byte_counts: self.flags & NO_BYTE_COUNTS != 0,
            importance: self.importance,
            matches: self.matches,
            actions: self.actions,
        }
    }

    /// The flows that are meant.
    pub fn filter(&self) -> FlowFilter {
        FlowFilter {
            table: self.table,
            priority: Some(self.priority),
            cookie: self.cookie.0 & self.cookie.1,
            cookie_mask: self.cookie.1,
            out_port: self.out_port,
            out_group: self.out_group,
            matches: self.matches,
        }
    }

    /// Command and table in 16 bits: with Nicira's extension the table is the high byte.
    fn command16(&mut self, c: &mut impl Coder) -> Step {
        let extended = c.dialect().table_id;
        let mut both = self.command as u16;
        if extended {
            both |= u16::from(self.table.unwrap_or(u8::MAX)) << 8;
        }
        c.u16(&mut both)?;
        self.command = FlowCommand::from_number(if extended { both & 0xff } else { both })?;
        self.table = Some((both >> 8) as u8).filter(|table| extended && *table != u8::MAX);
        Ok(())
    }

    fn is_deletion(&self) -> bool {
        matches!(self.command, FlowCommand::Delete | FlowCommand::DeleteStrict)
    }

    /// Flags of OpenFlow 1.0, where counts are always reset.
    fn flags10(&mut self, c: &mut impl Coder) -> Step {
        let mut flags = self.flags & (SEND_FLOW_REM | CHECK_OVERLAP);
        c.u16(&mut flags)?;
        if flags & !(SEND_FLOW_REM | CHECK_OVERLAP) != 0 {
            return Err(Error::new(Code::OfpfmfcBadFlags, format!("flow mod flags {flags:#x}")));
        }
        self.flags = flags | RESET_COUNTS;
        Ok(())
    }

    fn new_cookie(&mut self, c: &mut impl Coder) -> Step {
        let mut cookie = self.new_cookie.unwrap_or(u64::MAX);
        c.u64(&mut cookie)?;
        self.new_cookie = (cookie != u64::MAX || self.command == FlowCommand::Add).then_some(cookie);
        Ok(())
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() == Version::V10 {
            matching::standard10(c, &mut self.matches)?;
            self.new_cookie(c)?;
            self.command16(c)?;
            self.middle(c)?;
            c.any_port(&mut self.out_port)?;
            self.flags10(c)?;
            return action::list(c, &mut self.actions, Context::of(&self.matches));
        }
        let adds = self.command == FlowCommand::Add;
        let (mut cookie, mut mask) =
            if adds { (self.new_cookie.unwrap_or(0), 0) } else { (self.cookie.0, self.cookie.1) };
        c.u64(&mut cookie)?;
        c.u64(&mut mask)?;
        c.any_table(&mut self.table)?;
        let mut command = self.command as u8;
        c.u8(&mut command)?;
        self.command = FlowCommand::from_number(command.into())?;
        (self.new_cookie, self.cookie) = match self.command {
            FlowCommand::Add => (Some(cookie), (0, 0)),
            _ => (None, (cookie, mask)),
        };
        self.middle(c)?;
        c.any_port(&mut self.out_port)?;
        c.any_group(&mut self.out_group)?;
        c.u16(&mut self.flags)?;
        if self.flags & !0x1f != 0 {
            return Err(Error::new(Code::OfpfmfcBadFlags, format!("flow mod flags {:#x}", self.flags)));
        }
        if c.version() >= Version::V14 {
            c.u16(&mut self.importance)?;
        } else {
            c.pad(2)?;
        }
        matching::oxm(c, &mut self.matches)?;
        instruction::list(c, &mut self.actions, Context::of(&self.matches))
    }

    fn middle(&mut self, c: &mut impl Coder) -> Step {
        c.u16(&mut self.idle_timeout)?;
        c.u16(&mut self.hard_timeout)?;
        c.u16(&mut self.priority)?;
        c.u32(&mut self.buffer_id)
    }

    /// `NXT_FLOW_MOD`.
    pub(crate) fn code_nicira<C: Coder>(&mut self, c: &mut C) -> Step {
        self.new_cookie(c)?;
        self.command16(c)?;
        self.middle(c)?;
        let mut port = self.out_port.unwrap_or(0xffff) as u16;
        c.u16(&mut port)?;
        self.out_port = (port != 0xffff).then_some(port.into());
        self.flags10(c)?;
        let length = c.length16()?;
        c.pad(6)?;
        matching::nxm(c, length, &mut self.matches, Some(&mut self.cookie))?;
        if self.command == FlowCommand::Add && self.cookie.1 != 0 {
            return Err(Error::new(Code::NxbrcNxmInvalid, "a new flow has a cookie, it does not match one"));
        }
        if self.command == FlowCommand::Add && C::READS {
            self.new_cookie = Some(self.new_cookie.unwrap_or(u64::MAX));
        }
        let context = Context::of(&self.matches);
        action::list(c, &mut self.actions, context)?;
        if self.is_deletion() && C::READS {
            self.new_cookie = None;
        }
        Ok(())
    }
}

/// Which flows a dump or an aggregate is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowRequest {
    /// `None`: all tables.
    pub table: Option<u8>,
    /// Only flows that output there.
    pub out_port: Option<u32>,
    /// Only flows that send there.
    pub out_group: Option<u32>,
    /// Which cookies.
    pub cookie: CookieMask,
    /// Only flows within this match.
    pub matches: Match,
}

impl FlowRequest {
    /// The flows that are meant.
    pub fn filter(&self) -> FlowFilter {
        FlowFilter {
            table: self.table,
            priority: None,
            cookie: self.cookie.0 & self.cookie.1,
            cookie_mask: self.cookie.1,
            out_port: self.out_port,
            out_group: self.out_group,
            matches: self.matches,
        }
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() == Version::V10 {
            matching::standard10(c, &mut self.matches)?;
            c.any_table(&mut self.table)?;
            c.pad(1)?;
            return c.any_port(&mut self.out_port);
        }
        c.any_table(&mut self.table)?;
        c.pad(3)?;
        c.any_port(&mut self.out_port)?;
        c.any_group(&mut self.out_group)?;
        c.pad(4)?;
        c.u64(&mut self.cookie.0)?;
        c.u64(&mut self.cookie.1)?;
        matching::oxm(c, &mut self.matches)
    }

    pub(crate) fn code_nicira<C: Coder>(&mut self, c: &mut C) -> Step {
        c.any_port(&mut self.out_port)?;
        let length = c.length16()?;
        c.any_table(&mut self.table)?;
        c.pad(3)?;
        matching::nxm(c, length, &mut self.matches, Some(&mut self.cookie))
    }
}

/// A flow of a dump.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowStats {
    /// The flow.
    pub spec: Arc<FlowSpec>,
    /// Since it was added.
    pub duration: Duration,
    /// Seconds since its last packet, if known.
    pub idle_age: Option<u32>,
    /// Seconds since it was added or modified, if known.
    pub hard_age: Option<u32>,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An age in 16 bits: one more than it is, 0 if it is not known.
fn age16(c: &mut impl Coder, age: &mut Option<u32>) -> Step {
    let mut plus_one = age.map_or(0, |age| age.saturating_add(1).min(0xffff)) as u16;
    c.u16(&mut plus_one)?;
    *age = plus_one.checked_sub(1).map(u32::from);
    Ok(())
}

impl FlowStats {
    /// Reads or writes the flow by a copy of it: a hundred thousand of a dump share theirs with the switch's tables.
    fn with_spec<C: Coder>(
        &mut self,
        c: &mut C,
        code: impl FnOnce(&mut Self, &mut C, &mut FlowSpec) -> Step,
    ) -> Step {
        let mut spec = FlowSpec::clone(&self.spec);
        code(self, c, &mut spec)?;
        if C::READS {
            self.spec = spec.into();
        }
        Ok(())
    }

    fn flags(c: &mut impl Coder, spec: &mut FlowSpec) -> Step {
        let mut flags = (u16::from(spec.send_flow_rem) * SEND_FLOW_REM)
            | (u16::from(spec.check_overlap) * CHECK_OVERLAP)
            | (u16::from(spec.reset_counts) * RESET_COUNTS)
            | (u16::from(spec.no_packet_counts) * NO_PACKET_COUNTS)
            | (u16::from(spec.no_byte_counts) * NO_BYTE_COUNTS);
        c.u16(&mut flags)?;
        spec.send_flow_rem = flags & SEND_FLOW_REM != 0;
        spec.check_overlap = flags & CHECK_OVERLAP != 0;
        spec.reset_counts = flags & RESET_COUNTS != 0;
        spec.no_packet_counts = flags & NO_PACKET_COUNTS != 0;
        spec.no_byte_counts = flags & NO_BYTE_COUNTS != 0;
        if c.version() >= Version::V14 { c.u16(&mut spec.importance) } else { c.pad(2) }
    }

    fn timeouts(c: &mut impl Coder, spec: &mut FlowSpec) -> Step {
        c.u16(&mut spec.priority)?;
        c.u16(&mut spec.idle_timeout)?;
        c.u16(&mut spec.hard_timeout)
    }

    fn counts(&mut self, c: &mut impl Coder, spec: &mut FlowSpec) -> Step {
        c.u64(&mut spec.cookie)?;
        c.u64(&mut self.packets)?;
        c.u64(&mut self.bytes)
    }

    fn one<C: Coder>(&mut self, c: &mut C, spec: &mut FlowSpec) -> Step {
        let (start, version) = (c.offset(), c.version());
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            if version >= Version::V15 {
                c.pad(2)?;
                c.u8(&mut spec.table)?;
                c.pad(1)?;
                FlowStats::timeouts(c, spec)?;
                FlowStats::flags(c, spec)?;
                c.u64(&mut spec.cookie)?;
                matching::oxm(c, &mut spec.matches)?;
                let mut totals = OxsStats {
                    duration: Some(self.duration),
                    idle_age: self.idle_age,
                    packets: Some(self.packets),
                    bytes: Some(self.bytes),
                    flows: None,
                };
                totals.code(c)?;
                (self.duration, self.idle_age) = (totals.duration.unwrap_or_default(), totals.idle_age);
                (self.packets, self.bytes) = (totals.packets.unwrap_or(0), totals.bytes.unwrap_or(0));
                return instruction::list(c, &mut spec.actions, Context::of(&spec.matches));
            }
            c.u8(&mut spec.table)?;
            c.pad(1)?;
            if version == Version::V10 {
                matching::standard10(c, &mut spec.matches)?;
            }
            c.duration(&mut self.duration)?;
            FlowStats::timeouts(c, spec)?;
            if version == Version::V10 {
                c.pad(6)?;
                self.counts(c, spec)?;
                return action::list(c, &mut spec.actions, Context::of(&spec.matches));
            }
            FlowStats::flags(c, spec)?;
            c.pad(2)?;
            self.counts(c, spec)?;
            matching::oxm(c, &mut spec.matches)?;
            instruction::list(c, &mut spec.actions, Context::of(&spec.matches))
        })
    }

    fn one_nicira<C: Coder>(&mut self, c: &mut C, spec: &mut FlowSpec) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.u8(&mut spec.table)?;
            c.pad(1)?;
            c.duration(&mut self.duration)?;
            FlowStats::timeouts(c, spec)?;
            let match_length = c.length16()?;
            age16(c, &mut self.idle_age)?;
            age16(c, &mut self.hard_age)?;
            self.counts(c, spec)?;
            matching::nxm(c, match_length, &mut spec.matches, None)?;
            action::list(c, &mut spec.actions, Context::of(&spec.matches))
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<FlowStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.with_spec(c, Self::one))
    }

    pub(crate) fn list_nicira<C: Coder>(all: &mut Vec<FlowStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.with_spec(c, Self::one_nicira))
    }
}

/// `oxs_stats` of OpenFlow 1.5: statistics that say what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OxsStats {
    /// Since it was added.
    pub duration: Option<Duration>,
    /// Seconds since the last packet.
    pub idle_age: Option<u32>,
    /// Flows.
    pub flows: Option<u32>,
    /// Packets.
    pub packets: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// `OFPXSC_OPENFLOW_BASIC`.
const OXS_CLASS: u16 = 0x8002;

impl OxsStats {
    fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        c.pad(2)?;
        let length = c.length16()?;
        c.counted_from(start, length, |c| if C::READS { self.read(c) } else { self.write(c) })?;
        c.align(start)
    }

    fn write(&self, c: &mut impl Coder) -> Step {
        let pair = |duration: Duration| duration.as_secs() << 32 | u64::from(duration.subsec_nanos());
        let wide = [
            (0, self.duration.map(pair)),
            (1, self.idle_age.map(|age| u64::from(age) << 32)),
            (4, self.packets),
            (5, self.bytes),
        ];
        for (field, value) in wide {
            if let Some(mut value) = value {
                c.constant16(OXS_CLASS)?;
                c.u8(&mut { field << 1 })?;
                c.u8(&mut 8)?;
                c.u64(&mut value)?;
            }
        }
        if let Some(mut flows) = self.flows {
            c.constant16(OXS_CLASS)?;
            c.u8(&mut { 3 << 1 })?;
            c.u8(&mut 4)?;
            c.u32(&mut flows)?;
        }
        Ok(())
    }

    fn read(&mut self, c: &mut impl Coder) -> Step {
        while c.more(false) {
            let (mut class, mut field, mut length) = (0, 0, 0);
            c.u16(&mut class)?;
            c.u8(&mut field)?;
            c.u8(&mut length)?;
            match (class, field >> 1, length) {
                (OXS_CLASS, 3, 4) => c.u32(self.flows.insert(0))?,
                (OXS_CLASS, field @ (0 | 1 | 4 | 5), 8) => {
                    let mut value = 0;
                    c.u64(&mut value)?;
                    match field {
                        0 => {
                            let nanos = (value as u32).min(999_999_999);
                            self.duration = Some(Duration::new(value >> 32, nanos));
                        }
                        1 => self.idle_age = Some((value >> 32) as u32),
                        4 => self.packets = Some(value),
                        _ => self.bytes = Some(value),
                    }
                }
                _ => c.pad(length.into())?,
            }
        }
        Ok(())
    }
}

/// Sums over flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Aggregate {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Flows.
    pub flows: u32,
}

impl Aggregate {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() >= Version::V15 {
            let mut totals = OxsStats {
                packets: Some(self.packets),
                bytes: Some(self.bytes),
                flows: Some(self.flows),
                ..OxsStats::default()
            };
            totals.code(c)?;
            *self = Aggregate {
                packets: totals.packets.unwrap_or(0),
                bytes: totals.bytes.unwrap_or(0),
                flows: totals.flows.unwrap_or(0),
            };
            return Ok(());
        }
        c.u64(&mut self.packets)?;
        c.u64(&mut self.bytes)?;
        c.u32(&mut self.flows)?;
        c.pad(4)
    }
}

/// Why a flow went (`OFPRR_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RemovedReason {
    /// No packet for so long.
    IdleTimeout,
    /// So long ago.
    HardTimeout,
    /// Somebody removed it.
    #[default]
    Delete,
    /// Its group went.
    GroupDelete,
    /// Its meter went.
    MeterDelete,
    /// To make room.
    Eviction,
}

impl RemovedReason {
    const ALL: [RemovedReason; 6] = [
        RemovedReason::IdleTimeout,
        RemovedReason::HardTimeout,
        RemovedReason::Delete,
        RemovedReason::GroupDelete,
        RemovedReason::MeterDelete,
        RemovedReason::Eviction,
    ];

    pub(crate) fn from_number(number: u16) -> Result<RemovedReason, Error> {
        let reason = RemovedReason::ALL.get(usize::from(number)).copied();
        reason.ok_or_else(|| Error::new(Code::NxbrcBadReason, format!("reason {number} of a removal")))
    }
}

/// `OFPT_FLOW_REMOVED`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowRemoved {
    /// Its match.
    pub matches: Match,
    /// Its cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// Why it went.
    pub reason: RemovedReason,
    /// Its table.
    pub table: u8,
    /// How long it was there.
    pub duration: Duration,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl FlowRemoved {
    fn reason(&mut self, c: &mut impl Coder) -> Step {
        let mut reason = self.reason as u8;
        c.u8(&mut reason)?;
        self.reason = RemovedReason::from_number(reason.into())?;
        Ok(())
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() >= Version::V15 {
            c.u8(&mut self.table)?;
            self.reason(c)?;
            c.u16(&mut self.priority)?;
            c.u16(&mut self.idle_timeout)?;
            c.u16(&mut self.hard_timeout)?;
            c.u64(&mut self.cookie)?;
            matching::oxm(c, &mut self.matches)?;
            let mut totals = OxsStats {
                duration: Some(self.duration),
                packets: Some(self.packets),
                bytes: Some(self.bytes),
                ..OxsStats::default()
            };
            totals.code(c)?;
            self.duration = totals.duration.unwrap_or_default();
            (self.packets, self.bytes) = (totals.packets.unwrap_or(0), totals.bytes.unwrap_or(0));
            return Ok(());
        }
        let old = c.version() == Version::V10;
        if old {
            matching::standard10(c, &mut self.matches)?;
        }
        c.u64(&mut self.cookie)?;
        c.u16(&mut self.priority)?;
        self.reason(c)?;
        if old {
            c.pad(1)?;
        } else {
            c.u8(&mut self.table)?;
        }
        c.duration(&mut self.duration)?;
        c.u16(&mut self.idle_timeout)?;
        if old {
            c.pad(2)?;
        } else {
            c.u16(&mut self.hard_timeout)?;
        }
        c.u64(&mut self.packets)?;
        c.u64(&mut self.bytes)?;
        if old { Ok(()) } else { matching::oxm(c, &mut self.matches) }
    }

    pub(crate) fn code_nicira<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u64(&mut self.cookie)?;
        c.u16(&mut self.priority)?;
        self.reason(c)?;
        // One more than the table, 0 if that is not known.
        let mut table = self.table.wrapping_add(1);
        c.u8(&mut table)?;
        self.table = table.wrapping_sub(1);
        c.duration(&mut self.duration)?;
        c.u16(&mut self.idle_timeout)?;
        let length = c.length16()?;
        c.u64(&mut self.packets)?;
        c.u64(&mut self.bytes)?;
        matching::nxm(c, length, &mut self.matches, None)
    }
}
