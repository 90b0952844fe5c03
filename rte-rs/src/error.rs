//! What can go wrong, in words that a user can act on, with DPDK's own reason.

use dpdk_sys as sys;
use std::ffi::CStr;
use std::fmt;

/// An error number of DPDK or the C library, positive. Displays as DPDK's text for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The device or resource is in use.
    pub const EBUSY: Errno = Errno(16);
    /// An argument that does not fit.
    pub const EINVAL: Errno = Errno(22);
    /// No such device.
    pub const ENODEV: Errno = Errno(19);
    /// The name is taken already.
    pub const EEXIST: Errno = Errno(17);
    /// The device does not offer this (`ENOTSUP`).
    pub const ENOTSUP: Errno = Errno(95);

    /// This thread's `rte_errno`.
    pub fn last() -> Errno {
        // SAFETY: reads a thread-local integer; needs no EAL.
        Errno(unsafe { sys::vxs_errno() })
    }

    /// From a DPDK return code: `-errno`, or -1 from functions that set `rte_errno` instead, or set nothing: then it is
    /// 0, if it was cleared before the call (as [`crate::log::listen`] does).
    pub(crate) fn from_code(code: i32) -> Errno {
        if code == -1 { Errno::last() } else { Errno(code.saturating_neg()) }
    }

    /// DPDK's text for the number (`rte_strerror`).
    pub fn text(self) -> String {
        // SAFETY: returns a NUL-terminated string in a per-thread buffer, copied before the next call on
        // this thread can overwrite it.
        unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) }.to_string_lossy().into_owned()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.text(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A reason, when there is one: some steps of `rte_eal_init` fail without an error number.
fn because(reason: Errno) -> String {
    if reason.0 == 0 { String::new() } else { format!(": {reason}") }
}

/// Any error of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// [`crate::Eal::init`] ran before in this process.
    #[error("DPDK's EAL is initialised already: once a process is all that DPDK allows")]
    AlreadyInitialised,
    /// Something was asked of DPDK before [`crate::Eal::init`] or after [`crate::Eal::cleanup`].
    #[error("DPDK's EAL is not running: initialise it first, and only once")]
    NotInitialised,
    /// `rte_eal_init` refused the arguments or the machine.
    #[error("EAL does not start with these arguments{}; its own lines on stderr say more", because(*reason))]
    Init {
        /// DPDK's reason.
        reason: Errno,
    },
    /// [`crate::Eal::cleanup`] while pools, ports, rings or lcores are still in use.
    #[error("EAL cannot be cleaned up: {live} pools, ports, rings or running lcores are still in use")]
    StillInUse {
        /// How many.
        live: usize,
    },
    /// A name or argument holds a NUL byte, or is longer than DPDK can store.
    #[error("{what} {value:?} cannot be passed to DPDK: expected no NUL byte and at most {max} bytes")]
    BadString {
        /// What it was to be.
        what: &'static str,
        /// The text.
        value: String,
        /// Longest that is accepted, in bytes.
        max: usize,
    },
    /// A DPDK object that is not a port (mempool, ring, packet capture) could not be made.
    #[error("{what} {name:?} cannot be created: {reason}{}{said}", if said.is_empty() { "" } else { "; " })]
    Create {
        /// What it was to be.
        what: &'static str,
        /// Its name.
        name: String,
        /// DPDK's reason.
        reason: Errno,
        /// What DPDK and the driver logged meanwhile; empty when nothing.
        said: String,
    },
    /// A device did not probe.
    #[error("device {devargs:?} cannot be probed: {}", why(said, *reason))]
    Probe {
        /// The device arguments as given.
        devargs: String,
        /// DPDK's reason.
        reason: Errno,
        /// What DPDK and the driver logged meanwhile; empty when nothing.
        said: String,
    },
    /// A device probed, but is no Ethernet device.
    #[error("device {devargs:?} was probed but has no Ethernet port")]
    NoPort {
        /// The device arguments as given.
        devargs: String,
    },
    /// No ethdev has this name.
    #[error("there is no DPDK port named {name:?}")]
    UnknownPort {
        /// The name asked for.
        name: String,
    },
    /// The text is no device that this switch probes.
    #[error("device {devargs:?} cannot be probed: {reason}")]
    Devargs {
        /// The device arguments as given.
        devargs: String,
        /// What is wrong, and what was expected.
        reason: &'static str,
    },
    /// No ethdev has this MAC address.
    #[error("there is no DPDK port with the MAC address {}", mac_text(*mac))]
    UnknownMac {
        /// The address asked for.
        mac: [u8; 6],
    },
    /// The buffers of a pool are too small for a port.
    #[error("port {name}: mbufs of {room} bytes, headroom included, are too small: expected at least {min}")]
    SmallBuffers {
        /// The port's name.
        name: String,
        /// Bytes of a buffer.
        room: usize,
        /// Bytes needed.
        min: usize,
    },
    /// The port, or another one of the same device, is in use.
    #[error("port {name} is in use already")]
    PortInUse {
        /// The port's name.
        name: String,
    },
    /// More queues than the device has, or none.
    #[error(
        "port {name} cannot have {rx} RX and {tx} TX queues: expected 1 to {max_rx} RX and 1 to {max_tx} TX queues"
    )]
    Queues {
        /// The port's name.
        name: String,
        /// RX queues asked for.
        rx: u16,
        /// TX queues asked for.
        tx: u16,
        /// RX queues the device has.
        max_rx: u16,
        /// TX queues the device has.
        max_tx: u16,
    },
    /// [`crate::PortConfig::pools`] does not fit the number of RX queues.
    #[error("port {name} has {queues} RX queues and {pools} mempools: expected one for all or one a queue")]
    Pools {
        /// The port's name.
        name: String,
        /// Pools given.
        pools: usize,
        /// RX queues asked for.
        queues: u16,
    },
    /// The MTU is outside what the device can do.
    #[error("port {name} cannot have an MTU of {mtu}: expected {min} to {max}")]
    Mtu {
        /// The port's name.
        name: String,
        /// The MTU asked for, in bytes without the Ethernet header.
        mtu: u16,
        /// Smallest.
        min: u16,
        /// Largest.
        max: u16,
    },
    /// A step of running a port failed.
    #[error("port {name}: {step} failed: {}", why(said, *reason))]
    Port {
        /// The port's name.
        name: String,
        /// What was being done, for example `start`.
        step: &'static str,
        /// DPDK's reason.
        reason: Errno,
        /// What DPDK and the driver logged meanwhile; empty when nothing.
        said: String,
    },
    /// A packet could not be made one segment: it is longer than the room of its first one.
    #[error("a packet of {len} bytes does not fit one segment of its pool: expected at most {room} bytes")]
    TooLong {
        /// Length of the packet in bytes.
        len: u32,
        /// Room from the start of the data to the end of the first segment, in bytes.
        room: usize,
    },
}

/// The reason in words: the driver's own, else DPDK's number for it.
fn why(said: &str, reason: Errno) -> String {
    match (said.is_empty(), reason.0) {
        (false, _) => said.to_owned(),
        (true, 0) => "DPDK says no reason".to_owned(),
        (true, _) => reason.to_string(),
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A C string of at most `max` bytes, or [`Error::BadString`].
pub(crate) fn c_string(what: &'static str, value: &str, max: usize) -> Result<std::ffi::CString, Error> {
    let bad = || Error::BadString { what, value: value.to_owned(), max };
    if value.len() > max {
        return Err(bad());
    }
    std::ffi::CString::new(value).map_err(|_| bad())
}
