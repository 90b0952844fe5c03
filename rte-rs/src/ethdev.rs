//! Ethdevs as DPDK numbers and names them: which there are, before anybody uses one.

use crate::alive::Alive;
use crate::error::{Errno, Error, c_string};
use crate::log;
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

/// The port with this MAC address, as Open vSwitch's `class=eth,mac=` names it. Of several the first.
///
/// # Errors
/// [`Error::UnknownMac`]; [`Error::NotInitialised`].
pub fn by_mac(mac: [u8; 6]) -> Result<PortId, Error> {
    let _alive = Alive::new()?;
    let has = |id: &PortId| {
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: EAL runs (`_alive`); writes six bytes; checks the number.
        unsafe { sys::rte_eth_macaddr_get(id.0, &raw mut address) == 0 && address.addr_bytes == mac }
    };
    list().into_iter().find(has).ok_or(Error::UnknownMac { mac })
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
        check(self, "device information", || unsafe { sys::rte_eth_dev_info_get(self.0, &raw mut info) })?;
        Ok(info)
    }
}

impl std::fmt::Display for PortId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// Calls DPDK: what it returns as a result, with the driver's words for an error.
pub(crate) fn check(port: PortId, step: &'static str, call: impl FnOnce() -> i32) -> Result<u32, Error> {
    let ((code, reason), said) = log::listen(|| {
        let code = call();
        (code, Errno::from_code(code))
    });
    u32::try_from(code).map_err(|_| Error::Port { name: port.name(), step, reason, said })
}
