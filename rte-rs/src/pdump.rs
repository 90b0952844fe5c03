//! `dpdk-dumpcap` and `dpdk-pdump`: programs of DPDK that attach to this process and copy what its ethdevs receive and send.

use crate::alive::Alive;
use crate::error::{Errno, Error};
use crate::log;
use dpdk_sys as sys;
use std::ffi::{CStr, c_int, c_void};

/// Name of a handler that nobody calls.
const PROBE: &CStr = c"vxs_probe";

/// Why no such program can attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// EAL has no channel to other processes.
    #[error("EAL keeps no files for other processes (--in-memory or --no-shconf)")]
    NoChannel,
    /// They could not map the packet buffers.
    #[error("packet buffers are not in hugepages, so other processes cannot map them")]
    NoHugepages,
}

/// This process listens to such programs, until this is dropped.
pub struct PacketDump {
    _alive: Alive,
}

impl PacketDump {
    /// Begins to listen (`rte_pdump_init`), and says whether anybody can attach.
    ///
    /// # Errors
    /// [`Error::Create`] with DPDK's reason; [`Error::NotInitialised`].
    pub fn start() -> Result<(PacketDump, Result<(), Unreachable>), Error> {
        let alive = Alive::new()?;
        let refused = |code, said| Error::Create {
            what: "packet capture",
            name: "pdump".into(),
            reason: Errno::from_code(code),
            said,
        };
        // SAFETY: looks at symbols.
        if unsafe { sys::vxs_waits_for_callbacks() } == 0 {
            let said = "callbacks of queues could be taken out while they run".to_owned();
            return Err(refused(-libc::ENOTSUP, said));
        }
        // SAFETY: EAL runs (`alive`); the function registers one handler and reserves memory for counters.
        match log::listen(|| unsafe { sys::rte_pdump_init() }) {
            (0, _) => Ok((PacketDump { _alive: alive }, is_reachable())),
            (code, said) => Err(refused(code, said)),
        }
    }
}

impl Drop for PacketDump {
    fn drop(&mut self) {
        // SAFETY: EAL runs (`_alive`), and `start` has succeeded once for this call. It fails for nothing but a lack of that.
        unsafe { sys::rte_pdump_uninit() };
    }
}

/// Whether other processes can attach. EAL does not say, but refuses handlers where it has no channel; `rte_pdump_init`
/// takes that for a success.
fn is_reachable() -> Result<(), Unreachable> {
    unsafe extern "C" fn nothing(_: *const sys::rte_mp_msg, _: *const c_void) -> c_int {
        0
    }
    // SAFETY: EAL runs, as the callers' `Alive` proves; the name is a constant, the handler lives as long as the program,
    // and is registered for a moment.
    let registered = unsafe { sys::rte_mp_action_register(PROBE.as_ptr(), Some(nothing)) } == 0;
    if !registered {
        return Err(Unreachable::NoChannel);
    }
    // SAFETY: as above.
    let has_hugepages = unsafe {
        sys::rte_mp_action_unregister(PROBE.as_ptr());
        sys::rte_eal_has_hugepages() != 0
    };
    if has_hugepages { Ok(()) } else { Err(Unreachable::NoHugepages) }
}

#[cfg(test)]
mod tests {
    /// Else the end of dumpcap would be the end of a process whose worker has lost its CPU at the wrong moment.
    #[test]
    fn who_takes_a_callback_out_waits_for_its_end() {
        // SAFETY: looks at symbols.
        assert_ne!(unsafe { dpdk_sys::vxs_waits_for_callbacks() }, 0);
    }
}
