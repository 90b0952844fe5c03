//! BFD control packets (RFC 5880, section 4.1), without authentication.

use super::{ViewError, header, room};
use crate::bytes::put;

/// Places of the fields.
mod field {
    pub(super) const LENGTH: usize = 3;
    pub(super) const MY_DISCRIMINATOR: usize = 4;
    pub(super) const YOUR_DISCRIMINATOR: usize = 8;
    pub(super) const DESIRED_MIN_TX: usize = 12;
    pub(super) const REQUIRED_MIN_RX: usize = 16;
}

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATION: u8 = 0x04;
const MULTIPOINT: u8 = 0x01;

/// The state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BfdState {
    /// An operator holds it down.
    AdminDown,
    /// Nothing is heard from the other side.
    #[default]
    Down,
    /// The other side is heard, and does not say that it hears us.
    Init,
    /// Both sides hear each other.
    Up,
}

impl BfdState {
    /// As `ovs-vsctl` and `ovs-appctl` show it.
    pub const fn name(self) -> &'static str {
        match self {
            BfdState::AdminDown => "admin_down",
            BfdState::Down => "down",
            BfdState::Init => "init",
            BfdState::Up => "up",
        }
    }
}

/// Why a session's state changed last, or what is wrong beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BfdDiagnostic(pub u8);

impl BfdDiagnostic {
    /// Nothing.
    pub const NONE: BfdDiagnostic = BfdDiagnostic(0);
    /// Nothing was heard for the detection time.
    pub const EXPIRED: BfdDiagnostic = BfdDiagnostic(1);
    /// The other side said that it is down.
    pub const NEIGHBOUR_DOWN: BfdDiagnostic = BfdDiagnostic(3);
    /// The path is down.
    pub const PATH_DOWN: BfdDiagnostic = BfdDiagnostic(5);
    /// A path behind this one is down.
    pub const CONCATENATED_PATH_DOWN: BfdDiagnostic = BfdDiagnostic(6);
    /// The same the other way round.
    pub const REVERSE_CONCATENATED_PATH_DOWN: BfdDiagnostic = BfdDiagnostic(8);

    /// As `ovs-vsctl` and `ovs-appctl` show it.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            _ => "Unknown Diagnostic",
        }
    }
}

/// A control packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BfdControl {
    /// Sender's diagnostic, 5 bits.
    pub diagnostic: BfdDiagnostic,
    /// Sender's state.
    pub state: BfdState,
    /// The sender wants an answer with `is_final`.
    pub poll: bool,
    /// Answer to a packet with `poll`.
    pub is_final: bool,
    /// So many intervals without a packet mean that the sender is gone; not 0.
    pub detect_mult: u8,
    /// The sender's number for the session; not 0.
    pub my_discriminator: u32,
    /// The receiver's number for it; 0 while the sender does not know it.
    pub your_discriminator: u32,
    /// Shortest interval in which the sender likes to send, microseconds.
    pub desired_min_tx: u32,
    /// Shortest interval in which it takes packets, microseconds; 0: it wants none.
    pub required_min_rx: u32,
}

impl BfdControl {
    /// Bytes of a packet.
    pub const LEN: usize = 24;
    /// UDP port of single-hop sessions (RFC 5881).
    pub const PORT: u16 = 3784;

    /// Reads a UDP payload, with the checks of RFC 5880, section 6.8.6, that need no session.
    pub fn parse(bytes: &[u8]) -> Result<BfdControl, ViewError> {
        const WHAT: &str = "BFD";
        let malformed = |expected| Err(ViewError::Malformed { what: WHAT, expected });
        let head: [u8; BfdControl::LEN] = header(WHAT, bytes)?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (flags, length) = (head[1], usize::from(head[field::LENGTH]));
        if head[0] >> 5 != VERSION {
            return malformed("version 1");
        }
        if length < Self::LEN {
            return malformed("a length of 24 at least");
        }
        if length > bytes.len() {
            return Err(ViewError::Truncated { what: WHAT, needed: length, got: bytes.len() });
        }
        if flags & AUTHENTICATION != 0 {
            return malformed("no authentication");
        }
        let control = BfdControl {
            diagnostic: BfdDiagnostic(head[0] & 0x1f),
            state: match flags >> 6 {
                0 => BfdState::AdminDown,
                1 => BfdState::Down,
                2 => BfdState::Init,
                _ => BfdState::Up,
            },
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            detect_mult: head[2],
            my_discriminator: word(field::MY_DISCRIMINATOR),
            your_discriminator: word(field::YOUR_DISCRIMINATOR),
            desired_min_tx: word(field::DESIRED_MIN_TX),
            required_min_rx: word(field::REQUIRED_MIN_RX),
        };
        if control.detect_mult == 0 {
            return malformed("a detection multiplier that is not 0");
        }
        if flags & MULTIPOINT != 0 {
            return malformed("no multipoint bit");
        }
        if control.my_discriminator == 0 {
            return malformed("a discriminator that is not 0");
        }
        if control.your_discriminator == 0 && matches!(control.state, BfdState::Init | BfdState::Up) {
            return malformed("the receiver's discriminator in this state");
        }
        Ok(control)
    }

    /// Writes the packet.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, ViewError> {
        let out = room(out, Self::LEN)?;
        let state = match self.state {
            BfdState::AdminDown => 0,
            BfdState::Down => 1,
            BfdState::Init => 2,
            BfdState::Up => 3,
        };
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        put(out, 0, [VERSION << 5 | self.diagnostic.0 & 0x1f]);
        put(out, 1, [state << 6 | flag(self.poll, POLL) | flag(self.is_final, FINAL)]);
        put(out, 2, [self.detect_mult, Self::LEN as u8]);
        put(out, field::MY_DISCRIMINATOR, self.my_discriminator.to_be_bytes());
        put(out, field::YOUR_DISCRIMINATOR, self.your_discriminator.to_be_bytes());
        put(out, field::DESIRED_MIN_TX, self.desired_min_tx.to_be_bytes());
        put(out, field::REQUIRED_MIN_RX, self.required_min_rx.to_be_bytes());
        // No echo packets are taken.
        put(out, field::REQUIRED_MIN_RX + 4, [0; 4]);
        Ok(Self::LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn control()(diagnostic in 0u8..32, state in 0u8..4, flags in any::<(bool, bool)>(), detect_mult in 1u8..,
                     mine in 1u32.., yours in 1u32.., tx: u32, rx: u32) -> BfdControl {
            let states = [BfdState::AdminDown, BfdState::Down, BfdState::Init, BfdState::Up];
            BfdControl {
                diagnostic: BfdDiagnostic(diagnostic),
                state: states[usize::from(state)],
                poll: flags.0,
                is_final: flags.1,
                detect_mult,
                my_discriminator: mine,
                your_discriminator: yours,
                desired_min_tx: tx,
                required_min_rx: rx,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(control in control()) {
            let mut bytes = [0xff; BfdControl::LEN];
            prop_assert_eq!(control.emit(&mut bytes), Ok(BfdControl::LEN));
            prop_assert_eq!(BfdControl::parse(&bytes), Ok(control));
        }

        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(control) = BfdControl::parse(&bytes) {
                prop_assert!(control.detect_mult != 0 && control.my_discriminator != 0);
            }
        }
    }

    #[test]
    fn what_rfc_5880_discards_is_refused() {
        let good = BfdControl {
            diagnostic: BfdDiagnostic::NONE,
            state: BfdState::Down,
            poll: false,
            is_final: false,
            detect_mult: 3,
            my_discriminator: 7,
            your_discriminator: 0,
            desired_min_tx: 1_000_000,
            required_min_rx: 1_000_000,
        };
        let mut bytes = [0; BfdControl::LEN];
        good.emit(&mut bytes).unwrap();
        assert_eq!(BfdControl::parse(&bytes), Ok(good));
        // Version, length, multiplier, authentication, multipoint, discriminator, state without the other's.
        for (at, value) in [(0, 0), (3, 23), (3, 25), (2, 0), (1, 0x44), (1, 0x41), (7, 0), (1, 0xc0)] {
            let mut bad = bytes;
            bad[at] = value;
            assert!(BfdControl::parse(&bad).is_err(), "byte {at} is {value:#x}");
        }
        assert!(BfdControl::parse(&bytes[..23]).is_err());
    }
}
