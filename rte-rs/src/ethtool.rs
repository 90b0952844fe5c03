//! What the kernel says of an interface's link (`ETHTOOL_GSET`, ethtool(8)).

use crate::error::Errno;
use std::ffi::c_char;

/// Speed, medium and modes of an interface's link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkSettings {
    /// Mbit/s; `None` when there is no speed.
    pub speed: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
    /// `PORT_TP` (0), `PORT_FIBRE` (3) and the like; `None` when it is not known.
    pub medium: Option<u8>,
    /// The two sides agree on the speed.
    pub autoneg: bool,
    /// `SUPPORTED_*`.
    pub supported: u32,
    /// `ADVERTISED_*`, bits as of `supported`.
    pub advertised: u32,
}

/// The request that `SIOCETHTOOL` takes, as far as it is looked at (`struct ethtool_cmd`).
#[repr(C)]
#[derive(Default)]
struct Command {
    what: u32,
    supported: u32,
    advertised: u32,
    speed_low: u16,
    duplex: u8,
    port: u8,
    phy: [u8; 2],
    autoneg: u8,
    mdio: u8,
    limits: [u32; 2],
    speed_high: u16,
    mdix: [u8; 2],
    rest: [u32; 3],
}

impl LinkSettings {
    /// Has `ask` give the interface's `SIOCETHTOOL` this data; `None` when it refuses.
    pub(crate) fn read<T>(ask: impl FnOnce(*mut c_char) -> Result<T, Errno>) -> Option<LinkSettings> {
        const GSET: u32 = 1;
        const HALF: u8 = 0;
        let mut command = Command { what: GSET, ..Command::default() };
        ask((&raw mut command).cast()).ok()?;
        let speed = u32::from(command.speed_high) << 16 | u32::from(command.speed_low);
        Some(LinkSettings {
            speed: (speed != 0 && speed != u32::MAX && speed != u16::MAX.into()).then_some(speed),
            full_duplex: command.duplex != HALF,
            medium: Some(command.port),
            autoneg: command.autoneg != 0,
            supported: command.supported,
            advertised: command.advertised,
        })
    }
}
