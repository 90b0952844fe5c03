//! Messages about ports and their queues.

use crate::Version;
use crate::coder::{Coder, Step};
use crate::error::{Code, Error};
use crate::property;
use std::time::Duration;

/// The operator turned the port off (`OFPPC_PORT_DOWN`).
pub const PORT_DOWN: u32 = 1 << 0;
/// Drop what comes in.
pub const NO_RECV: u32 = 1 << 2;
/// Not flooded to (`OFPPC10_NO_FLOOD`; OpenFlow 1.0 only).
pub const NO_FLOOD: u32 = 1 << 4;
/// Drop what goes out.
pub const NO_FWD: u32 = 1 << 5;
/// Nothing of it goes to controllers.
pub const NO_PACKET_IN: u32 = 1 << 6;
/// All bits of OpenFlow 1.0, of which those for STP, which there is none of, are kept and do nothing.
pub const PORT_CONFIG: u32 = 0x7f;
/// Those that OpenFlow has since 1.1.
const PORT_CONFIG11: u32 = PORT_DOWN | NO_RECV | NO_FWD | NO_PACKET_IN;
/// No link (`OFPPS_LINK_DOWN`).
pub const LINK_DOWN: u32 = 1 << 0;
/// Live, for groups (since OpenFlow 1.1).
pub const LIVE: u32 = 1 << 2;

/// Speeds and media, as bits of OpenFlow 1.1 (`OFPPF_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortFeatures(pub u32);

impl PortFeatures {
    /// `OFPPF_10GB_FD`.
    pub const TEN_GB_FD: u32 = 1 << 6;
    /// `OFPPF_OTHER`: a speed that has no bit.
    const OTHER: u32 = 1 << 10;
    /// `OFPPF_COPPER`.
    pub const COPPER: u32 = 1 << 11;
    /// `OFPPF_FIBER`.
    pub const FIBER: u32 = 1 << 12;
    /// `OFPPF_AUTONEG`.
    pub const AUTONEG: u32 = 1 << 13;
    /// `OFPPF_PAUSE`.
    pub const PAUSE: u32 = 1 << 14;
    /// `OFPPF_PAUSE_ASYM`.
    pub const PAUSE_ASYM: u32 = 1 << 15;
    /// The speeds in OpenFlow's bits: Mbit/s, and whether full duplex.
    const SPEEDS: [(u32, u32, bool); 10] = [
        (1 << 0, 10, false),
        (1 << 1, 10, true),
        (1 << 2, 100, false),
        (1 << 3, 100, true),
        (1 << 4, 1000, false),
        (1 << 5, 1000, true),
        (Self::TEN_GB_FD, 10_000, true),
        (1 << 7, 40_000, true),
        (1 << 8, 100_000, true),
        (1 << 9, 1_000_000, true),
    ];

    /// A link of so many Mbit/s.
    pub fn of_speed(mbps: u32, full_duplex: bool) -> PortFeatures {
        let is_it = |(_, speed, both): &&(u32, u32, bool)| (*speed, *both) == (mbps, full_duplex);
        let bit = Self::SPEEDS.iter().find(is_it).map(|(bit, ..)| *bit);
        PortFeatures(bit.unwrap_or(if mbps == 0 { 0 } else { Self::OTHER }))
    }

    /// The highest speed among these, Mbit/s; 0 without any.
    pub fn mbps(self) -> u32 {
        let speeds = Self::SPEEDS.iter().filter(|(bit, ..)| self.0 & bit != 0);
        speeds.map(|(_, mbps, _)| *mbps).max().unwrap_or(0)
    }

    fn code(&mut self, c: &mut impl Coder) -> Step {
        // OpenFlow 1.0 has the media where 1.1 has the speeds above 10 Gbit/s.
        if c.version() == Version::V10 {
            let mut bits = self.0 & 0x7f | self.0 >> 4 & 0xf80;
            c.u32(&mut bits)?;
            self.0 = bits & 0x7f | (bits & 0xf80) << 4;
            return Ok(());
        }
        c.u32(&mut self.0)
    }
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// OpenFlow number.
    pub number: u32,
    /// MAC address.
    pub hw_addr: [u8; 6],
    /// Name, at most 15 bytes of it.
    pub name: String,
    /// `OFPPC_*`.
    pub config: u32,
    /// `OFPPS_*`.
    pub state: u32,
    /// What it is now.
    pub curr: PortFeatures,
    /// What it advertises.
    pub advertised: PortFeatures,
    /// What it could be.
    pub supported: PortFeatures,
    /// What the other side advertises.
    pub peer: PortFeatures,
    /// Kbit/s (since OpenFlow 1.1).
    pub curr_speed: u32,
    /// Kbit/s (since OpenFlow 1.1).
    pub max_speed: u32,
}

impl Port {
    fn features(&mut self, c: &mut impl Coder) -> Step {
        self.curr.code(c)?;
        self.advertised.code(c)?;
        self.supported.code(c)?;
        self.peer.code(c)
    }

    fn speeds(&mut self, c: &mut impl Coder) -> Step {
        c.u32(&mut self.curr_speed)?;
        c.u32(&mut self.max_speed)
    }

    fn middle(&mut self, c: &mut impl Coder) -> Step {
        c.fixed(&mut self.hw_addr)?;
        c.pad(2)?;
        c.text(&mut self.name, 16)?;
        // Read and written alike.
        self.config &= PORT_CONFIG11;
        c.u32(&mut self.config)?;
        self.config &= PORT_CONFIG11;
        c.u32(&mut self.state)
    }

    /// `ofp10_phy_port`, `ofp11_port` or `ofp14_port`.
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let (start, version) = (c.offset(), c.version());
        c.port(&mut self.number)?;
        if version == Version::V10 {
            c.fixed(&mut self.hw_addr)?;
            c.text(&mut self.name, 16)?;
            c.u32(&mut self.config)?;
            // The version has no such state: neither read nor written.
            self.state &= !LIVE;
            c.u32(&mut self.state)?;
            self.state &= !LIVE;
            return self.features(c);
        }
        let length = if version >= Version::V14 { Some(c.length16()?) } else { None };
        c.pad(if length.is_some() { 2 } else { 4 })?;
        let Some(length) = length else {
            self.middle(c)?;
            self.features(c)?;
            return self.speeds(c);
        };
        c.counted_from(start, length, |c| {
            self.middle(c)?;
            property::each(c, &[(0, true)], |c, kind| match kind {
                0 => {
                    c.pad(4)?;
                    self.features(c)?;
                    self.speeds(c)
                }
                _ => property::unknown(c, kind),
            })
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<Port>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.code(c))
    }
}

/// Which ports a request is about; since OpenFlow 1.5 for descriptions, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRequest {
    /// `None`: all.
    pub port: Option<u32>,
}

impl PortRequest {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.any_port(&mut self.port)?;
        c.pad(if c.version() == Version::V10 { 6 } else { 4 })
    }

    /// Of descriptions: before OpenFlow 1.5 always all.
    pub(crate) fn code_desc<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() >= Version::V15 { self.code(c) } else { Ok(()) }
    }
}

/// What happened to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PortReason {
    /// It is new.
    #[default]
    Add,
    /// It is gone.
    Delete,
    /// It is another than before.
    Modify,
}

/// `OFPT_PORT_STATUS`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortStatus {
    /// What happened.
    pub reason: PortReason,
    /// The port.
    pub port: Port,
}

impl PortStatus {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let mut reason = self.reason as u8;
        c.u8(&mut reason)?;
        self.reason = match reason {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(Error::new(Code::NxbrcBadReason, format!("reason {reason} of a port status"))),
        };
        c.pad(7)?;
        self.port.code(c)
    }
}

/// `OFPT_PORT_MOD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortMod {
    /// The port.
    pub port: u32,
    /// Its MAC address, which must be right; since OpenFlow 1.5 zeros are, too.
    pub hw_addr: [u8; 6],
    /// `OFPPC_*`.
    pub config: u32,
    /// Which bits of it are meant.
    pub mask: u32,
    /// What to advertise; zero to leave it.
    pub advertise: PortFeatures,
}

impl PortMod {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        let version = c.version();
        c.port(&mut self.port)?;
        if version > Version::V10 {
            c.pad(4)?;
        }
        c.fixed(&mut self.hw_addr)?;
        if version > Version::V10 {
            c.pad(2)?;
        }
        c.u32(&mut self.config)?;
        c.u32(&mut self.mask)?;
        if version >= Version::V14 {
            return property::each(c, &[(0, self.advertise.0 != 0)], |c, kind| match kind {
                0 => self.advertise.code(c),
                _ => property::unknown(c, kind),
            });
        }
        self.advertise.code(c)?;
        c.pad(4)
    }
}

/// Counters of a port; what is not known is all ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// OpenFlow number.
    pub number: u32,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped at reception.
    pub rx_dropped: u64,
    /// Packets dropped at sending.
    pub tx_dropped: u64,
    /// Errors at reception.
    pub rx_errors: u64,
    /// Errors at sending.
    pub tx_errors: u64,
    /// Alignment errors.
    pub rx_frame_err: u64,
    /// Overruns.
    pub rx_over_err: u64,
    /// CRC errors.
    pub rx_crc_err: u64,
    /// Collisions.
    pub collisions: u64,
    /// Since the port was added (since OpenFlow 1.3).
    pub duration: Duration,
}

impl PortStats {
    fn main(&mut self, c: &mut impl Coder) -> Step {
        c.u64(&mut self.rx_packets)?;
        c.u64(&mut self.tx_packets)?;
        c.u64(&mut self.rx_bytes)?;
        c.u64(&mut self.tx_bytes)?;
        c.u64(&mut self.rx_dropped)?;
        c.u64(&mut self.tx_dropped)?;
        c.u64(&mut self.rx_errors)?;
        c.u64(&mut self.tx_errors)
    }

    fn ethernet(&mut self, c: &mut impl Coder) -> Step {
        c.u64(&mut self.rx_frame_err)?;
        c.u64(&mut self.rx_over_err)?;
        c.u64(&mut self.rx_crc_err)?;
        c.u64(&mut self.collisions)
    }

    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        if c.version() < Version::V14 {
            c.port(&mut self.number)?;
            c.pad(if c.version() == Version::V10 { 6 } else { 4 })?;
            self.main(c)?;
            self.ethernet(c)?;
            return if c.version() == Version::V10 { Ok(()) } else { c.duration(&mut self.duration) };
        }
        let start = c.offset();
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.pad(2)?;
            c.port(&mut self.number)?;
            c.duration(&mut self.duration)?;
            self.main(c)?;
            property::each(c, &[(0, true)], |c, kind| match kind {
                0 => {
                    c.pad(4)?;
                    self.ethernet(c)
                }
                _ => property::unknown(c, kind),
            })
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<PortStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// Which queues a request is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueRequest {
    /// `None`: of all ports.
    pub port: Option<u32>,
    /// `None`: all.
    pub queue: Option<u32>,
}

impl QueueRequest {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.any_port(&mut self.port)?;
        if c.version() == Version::V10 {
            c.pad(2)?;
            // OFPP_ALL was the number of all ports then.
            self.port = self.port.filter(|port| *port != flow::ofp::PORT_ALL);
        }
        c.any_group(&mut self.queue)
    }

    /// Of `OFPT_QUEUE_GET_CONFIG`: of one port.
    pub(crate) fn code_config<C: Coder>(&mut self, c: &mut C) -> Step {
        c.any_port(&mut self.port)?;
        c.pad(if c.version() == Version::V10 { 2 } else { 4 })
    }
}

/// Counters of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Its port.
    pub port: u32,
    /// Its number.
    pub queue: u32,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors.
    pub tx_errors: u64,
    /// Since it was made (since OpenFlow 1.3).
    pub duration: Duration,
}

impl QueueStats {
    fn one<C: Coder>(&mut self, c: &mut C) -> Step {
        let (start, version) = (c.offset(), c.version());
        let body = |c: &mut C| {
            c.port(&mut self.port)?;
            if version == Version::V10 {
                c.pad(2)?;
            }
            c.u32(&mut self.queue)?;
            c.u64(&mut self.tx_bytes)?;
            c.u64(&mut self.tx_packets)?;
            c.u64(&mut self.tx_errors)?;
            if version == Version::V10 { Ok(()) } else { c.duration(&mut self.duration) }
        };
        if version < Version::V14 {
            let mut body = body;
            return body(c);
        }
        let length = c.length16()?;
        c.counted_from(start, length, |c| {
            c.pad(6)?;
            let mut body = body;
            body(c)?;
            property::each(c, &[], |c, kind| property::unknown(c, kind))
        })
    }

    pub(crate) fn list<C: Coder>(all: &mut Vec<QueueStats>, c: &mut C) -> Step {
        c.entries(all, |c, one| one.one(c))
    }
}

/// Queues of a port: there are none that OpenFlow could configure, so only the port is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueConfig {
    /// The port.
    pub port: u32,
}

impl QueueConfig {
    pub(crate) fn code<C: Coder>(&mut self, c: &mut C) -> Step {
        c.port(&mut self.port)?;
        c.pad(if c.version() == Version::V10 { 6 } else { 4 })
    }
}
