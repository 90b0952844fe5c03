//! A claimed ethdev: who may use it, what must outlive it, and how it ends.

use super::{MAX_PORTS, PortId, Release, list};
use crate::eal::Alive;
use crate::error::{Errno, Error};
use crate::mempool::Mempool;
use crate::ring::Ring;
use dpdk_sys as sys;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What DPDK does not keep itself. The lock also serialises what DPDK wants serialised: probing, claiming, removing.
pub(crate) struct Registry {
    claimed: [bool; MAX_PORTS],
    /// What a port's driver points to, ring ports' rings and RX pools: kept until the port is closed.
    rings: [Vec<Ring>; MAX_PORTS],
    pools: [Vec<Mempool>; MAX_PORTS],
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    claimed: [false; MAX_PORTS],
    rings: [const { Vec::new() }; MAX_PORTS],
    pools: [const { Vec::new() }; MAX_PORTS],
});

pub(crate) fn registry() -> MutexGuard<'static, Registry> {
    // Consistent after every statement, so a panic elsewhere does not spoil it.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Keeps the rings of a ring port until it is closed.
    pub(crate) fn keep_rings(&mut self, port: PortId, rings: Vec<Ring>) {
        self.rings[usize::from(port.0)] = rings;
    }
}

/// DPDK's return code as a result.
pub(crate) fn check(port: PortId, step: &'static str, code: i32) -> Result<(), Error> {
    if code >= 0 {
        return Ok(());
    }
    Err(Error::Port { name: port.name(), step, reason: Errno::from_code(code) })
}

/// The sole right to a port. Ends what was started when it is dropped.
pub(crate) struct Device {
    id: PortId,
    name: String,
    /// Whether the port's number is ours: not after it is closed, when another device may get it.
    claimed: bool,
    started: bool,
    release: Release,
    _alive: Alive,
    /// DPDK wants control calls on a port one at a time.
    pub(super) control: Mutex<()>,
}

impl Device {
    /// Takes the port, or [`Error::PortInUse`].
    pub(super) fn claim(id: PortId) -> Result<Device, Error> {
        let alive = Alive::new()?;
        let mut registry = registry();
        if !list().contains(&id) {
            return Err(Error::UnknownPort { name: id.name() });
        }
        let claimed = &mut registry.claimed[usize::from(id.0)];
        if std::mem::replace(claimed, true) {
            return Err(Error::PortInUse { name: id.name() });
        }
        // Until `set_release` says otherwise, giving up leaves the port as it was.
        let release = Release::Stop;
        Ok(Device {
            id,
            name: id.name(),
            claimed: true,
            started: false,
            release,
            _alive: alive,
            control: Mutex::new(()),
        })
    }

    pub(crate) fn id(&self) -> PortId {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Holds the pools that queues are about to be set up with, beside those of an earlier configuration, which the
    /// driver may refer to until then.
    pub(super) fn keep_pools(&mut self, pools: &[Mempool]) {
        registry().pools[usize::from(self.id.0)].extend_from_slice(pools);
    }

    /// Lets go of the pools of earlier configurations: the queues refer to the last `current` ones only.
    pub(super) fn forget_earlier_pools(&mut self, current: usize) {
        let mut registry = registry();
        let pools = &mut registry.pools[usize::from(self.id.0)];
        let kept = pools.split_off(pools.len().saturating_sub(current));
        let earlier = std::mem::replace(pools, kept);
        drop(registry);
        drop(earlier);
    }

    pub(super) fn start(&mut self) -> Result<(), Error> {
        // SAFETY: the port is claimed, configured, its queues set up, and nothing polls them yet.
        check(self.id, "starting", unsafe { sys::rte_eth_dev_start(self.id.0) })?;
        self.started = true;
        Ok(())
    }

    pub(super) fn set_release(&mut self, release: Release) {
        self.release = release;
    }

    pub(super) fn release_policy(&self) -> Release {
        self.release
    }

    /// Stops, closes and removes the port, as far as `release` goes. Nothing may poll it any more, which `&mut`
    /// proves: every queue holds the device. Goes on after an error and returns the first one.
    pub(super) fn release(&mut self, release: Release) -> Result<(), Error> {
        let mut result = Ok(());
        if std::mem::take(&mut self.started) {
            // SAFETY: the port is ours and started.
            result = check(self.id, "stopping", unsafe { sys::rte_eth_dev_stop(self.id.0) });
        }
        if release == Release::Stop || !self.claimed {
            return result;
        }
        self.release = Release::Stop;
        let mut registry = registry();
        let device = self.id.dev_info().map_or(std::ptr::null_mut(), |info| info.device);
        let siblings = |id: &PortId| *id != self.id && id.dev_info().is_ok_and(|info| info.device == device);
        // Removing the device takes all its ports: only when no other one is in use.
        let shared = list().iter().filter(|id| siblings(id)).any(|id| registry.claimed[usize::from(id.0)]);
        // SAFETY: the port is ours and stopped.
        let closed = check(self.id, "closing", unsafe { sys::rte_eth_dev_close(self.id.0) });
        let mut removed = Ok(());
        if release == Release::Remove && !device.is_null() && !shared {
            // SAFETY: the device outlives its ports until it is removed, here; the lock keeps others out.
            let code = unsafe { sys::rte_dev_remove(device) };
            if code < 0 {
                let reason = Errno::from_code(code);
                removed = Err(Error::Port { name: self.name.clone(), step: "removing", reason });
            }
        }
        // The driver refers to them no more. Dropped after the lock is released: their mbufs go home.
        let slot = usize::from(self.id.0);
        let kept = (std::mem::take(&mut registry.rings[slot]), std::mem::take(&mut registry.pools[slot]));
        // Under the same lock as the removal: whoever probes next finds the number free.
        registry.claimed[slot] = false;
        self.claimed = false;
        drop(registry);
        drop(kept);
        result.and(closed).and(removed)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = self.release(self.release) {
            // Nobody is left to return it to; `PortHandle::close` is the way to see it.
            eprintln!("{error}");
        }
        if self.claimed {
            registry().claimed[usize::from(self.id.0)] = false;
        }
    }
}
