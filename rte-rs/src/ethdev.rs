//! Ethdevs as DPDK numbers and names them: which there are, before anybody uses one.

use crate::alive::Alive;
use crate::error::{Errno, Error, c_string};
use dpdk_sys as sys;
use std::ffi::CStr;

/// Largest number of ports in a process (`RTE_MAX_ETHPORTS`).
pub const MAX_PORTS: usize = sys::RTE_MAX_ETHPORTS as usize;

/// The number of an ethdev. Numbers are reused after a device is removed; the name tells devices apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub(crate) u16);

/// The port of this name, whether EAL (`--vdev`, `-a`) or [`probe`] made it.
///
/// # Errors
/// [`Error::UnknownPort`]; [`Error::BadString`]; [`Error::NotInitialised`].
pub fn by_name(name: &str) -> Result<PortId, Error> {
    let text = c_string("port name", name, sys::RTE_ETH_NAME_MAX_LEN as usize - 1)?;
    let _alive = Alive::new()?;
    let mut id = 0;
    // SAFETY: EAL runs (`_alive`); `id` is written on success only.
    match unsafe { sys::rte_eth_dev_get_port_by_name(text.as_ptr(), &raw mut id) } {
        0 => Ok(PortId(id)),
        _ => Err(Error::UnknownPort { name: name.to_owned() }),
    }
}

/// All ports there are, in order of number; none before EAL runs.
pub fn list() -> Vec<PortId> {
    let Ok(_alive) = Alive::new() else { return Vec::new() };
    // SAFETY: EAL runs (`_alive`); reads the table of ethdevs.
    let next = |id: u16| unsafe { sys::rte_eth_find_next(id) };
    std::iter::successors(Some(next(0)), |&id| Some(next(id + 1)))
        .take_while(|&id| usize::from(id) < MAX_PORTS)
        .map(PortId)
        .collect()
}

impl PortId {
    /// The number, as in [`crate::Mbuf::port`].
    #[inline(always)]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The ethdev's name, for example `net_tap0`; `port N` when there is none (any more).
    pub fn name(self) -> String {
        let mut name = [0; sys::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: writes at most RTE_ETH_NAME_MAX_LEN bytes with the NUL, the buffer's size; checks the number.
        let code = unsafe { sys::rte_eth_dev_get_name_by_port(self.0, name.as_mut_ptr()) };
        if code != 0 {
            return format!("port {}", self.0);
        }
        // SAFETY: written above, with its NUL.
        unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
    }

    pub(crate) fn dev_info(self) -> Result<sys::rte_eth_dev_info, Error> {
        let mut info = sys::rte_eth_dev_info::default();
        // SAFETY: writes the structure; checks the number.
        check(self, "device information", unsafe { sys::rte_eth_dev_info_get(self.0, &raw mut info) })?;
        Ok(info)
    }
}

impl std::fmt::Display for PortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// DPDK's return code as a result.
pub(crate) fn check(port: PortId, step: &'static str, code: i32) -> Result<(), Error> {
    if code >= 0 {
        return Ok(());
    }
    Err(Error::Port { name: port.name(), step, reason: Errno::from_code(code) })
}
