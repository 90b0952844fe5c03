//! Packets to and from controllers.

use crate::Version;
use crate::action::{self, Context};
use crate::coder::{Coder, PORT_NONE, Step};
use crate::error::{Code, Error};
use crate::matching;
use crate::property;
use flow::ofp::{Action, Field, Match, MatchKey, PacketReason};

/// The number of a reason in a version: before OpenFlow 1.4 all actions were one, and before 1.3 a miss flow was none.
pub(crate) fn reason_number(reason: PacketReason, version: Version) -> u8 {
    match reason {
        PacketReason::NoMatch => 0,
        PacketReason::Action => 1,
        PacketReason::InvalidTtl => 2,
        PacketReason::ExplicitMiss => u8::from(version < Version::V13),
        _ if version < Version::V14 => 1,
        PacketReason::ActionSet => 3,
        PacketReason::Group => 4,
        PacketReason::PacketOut => 5,
    }
}

/// A reason with this number.
pub(crate) fn reason_of(number: u8) -> Result<PacketReason, Error> {
    let known = PacketReason::NUMBERED.get(usize::from(number)).copied();
    known.ok_or_else(|| Error::new(Code::NxbrcBadReason, format!("reason {number}")))
}

fn reason<C: Coder>(reason: &mut PacketReason, c: &mut C) -> Step {
    let mut number = reason_number(*reason, c.version());
    c.u8(&mut number)?;
    if C::READS {
        *reason = reason_of(number)?;
    }
    Ok(())
}

/// `OFPT_PACKET_IN`, `NXT_PACKET_IN`, `NXT_PACKET_IN2`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketIn {
    /// Length of the whole packet, of which `data` may be the beginning.
    pub total_len: u32,
    /// Why it comes.
    pub reason: PacketReason,
    /// Table of the rule that sent it.
    pub table: u8,
    /// Cookie of that rule, if known.
    pub cookie: Option<u64>,
    /// Port, tunnel, registers: each field whole, as a match.
    pub metadata: Match,
    /// The packet.
    pub data: Vec<u8>,
    /// What the rule's `controller(userdata=...)` said.
    pub userdata: Vec<u8>,
}

impl PacketIn {
    fn in_port(&self) -> u32 {
        if Field::InPort.get(self.metadata.mask()) == 0 {
            PORT_NONE
        } else {
            Field::InPort.get(self.metadata.key()) as u32
        }
    }

    fn set_in_port(&mut self, port: u32) {
        if port != PORT_NONE && port != self.in_port() {
            self.metadata = port_match(port);
        }
    }

    fn total16(&mut self, c: &mut impl Coder) -> Step {
        let mut short = self.total_len.min(0xffff) as u16;
        c.u16(&mut short)?;
        self.total_len = short.into();
        Ok(())
    }

    fn cookie64(&mut self, c: &mut impl Coder) -> Step {
        let mut cookie = self.cookie.unwrap_or(u64::MAX);
        c.u64(&mut cookie)?;
        self.cookie = (cookie != u64::MAX).then_some(cookie);
        Ok(())
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut { u32::MAX })?;
        self.total16(c)?;
        if c.version() == Version::V10 {
            let mut port = self.in_port();
            c.port(&mut port)?;
            self.set_in_port(port);
            reason(&mut self.reason, c)?;
            c.pad(1)?;
            return c.rest(&mut self.data);
        }
        reason(&mut self.reason, c)?;
        c.u8(&mut self.table)?;
        self.cookie64(c)?;
        matching::oxm(c, &mut self.metadata)?;
        c.pad(2)?;
        c.rest(&mut self.data)
    }

    pub(crate) fn code_nicira<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut { u32::MAX })?;
        self.total16(c)?;
        reason(&mut self.reason, c)?;
        c.u8(&mut self.table)?;
        self.cookie64(c)?;
        let length = c.length16()?;
        c.pad(6)?;
        matching::nxm(c, length, &mut self.metadata, None)?;
        c.pad(2)?;
        c.rest(&mut self.data)
    }

    /// `NXT_PACKET_IN2`: properties.
    pub(crate) fn code_nicira2<C: Coder>(&mut self, c: &mut C) -> Step {
        const PACKET: u16 = 0;
        const FULL_LEN: u16 = 1;
        const BUFFER_ID: u16 = 2;
        const TABLE_ID: u16 = 3;
        const COOKIE: u16 = 4;
        const REASON: u16 = 5;
        const METADATA: u16 = 6;
        const USERDATA: u16 = 7;
        let whole = self.total_len as usize == self.data.len();
        let present = [
            (PACKET, true),
            (FULL_LEN, !whole),
            (TABLE_ID, true),
            (COOKIE, self.cookie.is_some()),
            (REASON, true),
            (METADATA, true),
            (USERDATA, !self.userdata.is_empty()),
        ];
        let mut full = (!whole).then_some(self.total_len);
        property::each(c, &present, |c, kind| match kind {
            PACKET => c.rest(&mut self.data),
            FULL_LEN => c.u32(full.get_or_insert_default()),
            BUFFER_ID => c.pad(4),
            TABLE_ID => c.u8(&mut self.table),
            COOKIE => {
                c.pad(4)?;
                c.u64(self.cookie.get_or_insert_default())
            }
            REASON => reason(&mut self.reason, c),
            METADATA => {
                let oxm = c.version() >= Version::V13;
                matching::list(c, &mut self.metadata, None, oxm)
            }
            USERDATA => c.rest(&mut self.userdata),
            _ => property::unknown(c, kind),
        })?;
        self.total_len = full.unwrap_or(self.data.len() as u32);
        Ok(())
    }
}

/// A match on a port alone.
fn port_match(port: u32) -> Match {
    let (mut key, mut mask) = (MatchKey::ZERO, MatchKey::ZERO);
    Field::InPort.set(&mut key, port.into());
    Field::InPort.set(&mut mask, Field::InPort.info().exact());
    Match::new(&key, &mask)
}

/// `OFPT_PACKET_OUT`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PacketOut {
    /// A buffered packet; there are none here, [`NO_BUFFER`](crate::NO_BUFFER) is the one number that is good.
    pub buffer_id: u32,
    /// Port, and since OpenFlow 1.5 other pipeline fields, that the packet shall seem to have.
    pub metadata: Match,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The packet.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// The port that it shall seem to have come in by; `None` for none.
    pub fn in_port(&self) -> Option<u32> {
        let port = Field::InPort.get(self.metadata.key()) as u32;
        (Field::InPort.get(self.metadata.mask()) != 0 && port != PORT_NONE).then_some(port)
    }

    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.u32(&mut self.buffer_id)?;
        let length;
        if c.version() >= Version::V15 {
            length = c.length16()?;
            c.pad(2)?;
            matching::oxm(c, &mut self.metadata)?;
        } else {
            let mut port = self.in_port().unwrap_or(PORT_NONE);
            c.port(&mut port)?;
            if C::READS {
                self.metadata = port_match(port);
            }
            length = c.length16()?;
            if c.version() > Version::V10 {
                c.pad(6)?;
            }
        }
        c.counted(length, |c| action::list(c, &mut self.actions, Context::default()))?;
        c.rest(&mut self.data)
    }
}
