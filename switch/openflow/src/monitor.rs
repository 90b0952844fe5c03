//! Flow monitors: a controller asks to hear of changes of flows (Nicira's, the ONF's for OpenFlow 1.3, and 1.4's own).

use crate::Version;
use crate::action::{self, Context};
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::flow_message::RemovedReason;
use crate::{instruction, matching};
use flow::ofp::{Action, Match};

/// What a monitor wants to hear (`NXFMF_*`; OpenFlow 1.4's [`NO_ABBREV`] has another bit).
pub mod flags {
    /// The flows that there are.
    pub const INITIAL: u16 = 1 << 0;
    /// New flows.
    pub const ADD: u16 = 1 << 1;
    /// Removed ones.
    pub const DELETE: u16 = 1 << 2;
    /// Modified ones.
    pub const MODIFY: u16 = 1 << 3;
    /// With their actions.
    pub const ACTIONS: u16 = 1 << 4;
    /// In full also for the connection's own changes.
    pub const OWN: u16 = 1 << 5;
}

/// A request for a monitor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MonitorRequest {
    /// Number that the controller gives it.
    pub id: u32,
    /// [`flags`].
    pub flags: u16,
    /// Only flows that output there.
    pub out_port: Option<u32>,
    /// Only flows that send there (since OpenFlow 1.4).
    pub out_group: Option<u32>,
    /// `None`: all tables.
    pub table: Option<u8>,
    /// 0 adds, 1 modifies, 2 deletes (since OpenFlow 1.4).
    pub command: u8,
    /// Only flows within this match.
    pub matches: Match,
}

impl MonitorRequest {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.id)?;
        if c.version() >= Version::V14 {
            c.any_port(&mut self.out_port)?;
            c.any_group(&mut self.out_group)?;
            c.u16(&mut self.flags)?;
            c.any_table(&mut self.table)?;
            c.u8(&mut self.command)?;
            if self.command > 2 {
                return Err(Error::new(Code::OfpmofcBadCommand, format!("monitor command {}", self.command)));
            }
            return matching::oxm(c, &mut self.matches);
        }
        c.u16(&mut self.flags)?;
        if c.version() == Version::V10 {
            c.any_port(&mut self.out_port)?;
            let length = c.length16()?;
            c.any_table(&mut self.table)?;
            c.pad(5)?;
            return matching::nxm(c, length, &mut self.matches, None);
        }
        let length = c.length16()?;
        c.any_port(&mut self.out_port)?;
        c.any_table(&mut self.table)?;
        c.pad(3)?;
        matching::oxm_counted(c, length, &mut self.matches)
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<MonitorRequest>, c: &mut C) -> Step {
        c.list(all, |c, one| one.one(c))
    }
}

/// What happened to a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpdateEvent {
    /// It was there when the monitor began.
    Initial,
    /// It is new.
    #[default]
    Added,
    /// It is gone.
    Removed,
    /// It has other actions.
    Modified,
    /// This connection's own change, by the number of its message.
    Abbreviated,
    /// From here on changes are not told: the connection is too slow (since OpenFlow 1.4).
    Paused,
    /// From here on they are again, the missed ones told as far as they still hold.
    Resumed,
}

/// An entry of a monitor's reply.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowUpdate {
    /// What happened.
    pub event: UpdateEvent,
    /// Why it was removed.
    pub reason: RemovedReason,
    /// Its priority.
    pub priority: u16,
    /// Seconds.
    pub idle_timeout: u16,
    /// Seconds.
    pub hard_timeout: u16,
    /// Its table.
    pub table: u8,
    /// Its cookie.
    pub cookie: u64,
    /// Its match.
    pub matches: Match,
    /// Its actions; `drop` if they were not asked for.
    pub actions: Vec<Action>,
    /// Number of the message, of an abbreviated update.
    pub xid: u32,
}

impl FlowUpdate {
    fn event(&mut self, c: &mut impl Coder) -> Step {
        use UpdateEvent::{Abbreviated, Added, Initial, Modified, Paused, Removed, Resumed};
        let events: &[UpdateEvent] = if c.version() >= Version::V14 {
            &[Initial, Added, Removed, Modified, Abbreviated, Paused, Resumed]
        } else {
            &[Added, Removed, Modified, Abbreviated]
        };
        let mut number = events.iter().position(|event| *event == self.event).unwrap_or(0) as u16;
        c.u16(&mut number)?;
        let event = events.get(usize::from(number)).copied();
        self.event =
            event.ok_or_else(|| Error::new(Code::NxbrcFmBadEvent, format!("event {number} of a monitor")))?;
        Ok(())
    }

    fn reason(&mut self, c: &mut impl Coder, wide: bool) -> Step {
        let mut reason = if self.event == UpdateEvent::Removed { self.reason as u16 } else { 0 };
        if wide {
            c.u16(&mut reason)?;
        } else {
            let mut narrow = reason as u8;
            c.u8(&mut narrow)?;
            reason = narrow.into();
        }
        if self.event == UpdateEvent::Removed {
            self.reason = RemovedReason::from_number(reason)?;
        }
        Ok(())
    }

    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            self.event(c)?;
            match self.event {
                UpdateEvent::Abbreviated => return c.u32(&mut self.xid),
                UpdateEvent::Paused | UpdateEvent::Resumed => return c.pad(4),
                _ => {}
            }
            let context = Context::of(&self.matches);
            if c.version() >= Version::V14 {
                c.u8(&mut self.table)?;
                self.reason(c, false)?;
                c.u16(&mut self.idle_timeout)?;
                c.u16(&mut self.hard_timeout)?;
                c.u16(&mut self.priority)?;
                c.pad(4)?;
                c.u64(&mut self.cookie)?;
                matching::oxm(c, &mut self.matches)?;
                return instruction::list(c, &mut self.actions, context);
            }
            self.reason(c, true)?;
            c.u16(&mut self.priority)?;
            c.u16(&mut self.idle_timeout)?;
            c.u16(&mut self.hard_timeout)?;
            let length = c.length16()?;
            c.u8(&mut self.table)?;
            c.pad(1)?;
            c.u64(&mut self.cookie)?;
            if c.version() == Version::V10 {
                matching::nxm(c, length, &mut self.matches, None)?;
                return action::list(c, &mut self.actions, context);
            }
            matching::oxm_counted(c, length, &mut self.matches)?;
            instruction::list(c, &mut self.actions, context)
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<FlowUpdate>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}
