//! A claimed ethdev: who may use it, what must outlive it, and how it ends.

use crate::alive::Alive;
use crate::error::{Errno, Error};
use crate::ethdev::{MAX_PORTS, PortId, check, list};
use crate::log;
use crate::mempool::Mempool;
use crate::time;
use crate::xdp;
use dpdk_sys as sys;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a port's driver points to. It has a type only for whoever gave it to be kept.
pub(crate) type Kept = Box<dyn Any + Send>;

/// What DPDK does not keep itself. The lock also serialises what DPDK wants serialised: probing, claiming, removing.
pub(crate) struct Registry {
    claimed: [bool; MAX_PORTS],
    /// What a port's driver points to, ring ports' rings and RX pools: kept until the port is closed.
    rings: [Vec<Kept>; MAX_PORTS],
    pools: [Vec<Mempool>; MAX_PORTS],
    /// AF_XDP sockets that a port's driver does not close, and the length of their rings.
    sockets: [(Vec<xdp::Socket>, u16); MAX_PORTS],
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    claimed: [false; MAX_PORTS],
    rings: [const { Vec::new() }; MAX_PORTS],
    pools: [const { Vec::new() }; MAX_PORTS],
    sockets: [const { (Vec::new(), 0) }; MAX_PORTS],
});

pub(crate) fn registry() -> MutexGuard<'static, Registry> {
    // Consistent after every statement, so a panic elsewhere does not spoil it.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Keeps the rings of a ring port until it is closed.
    pub(crate) fn keep_rings(&mut self, port: PortId, rings: Kept) {
        self.rings[usize::from(port.0)].push(rings);
    }
}

/// What happens to a port when its handle and all its queues are gone. It is stopped in every case: `net_pcap`
/// writes its files then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Release {
    /// Stop, close, and remove the device, so that its name can be probed again.
    #[default]
    Remove,
    /// Stop and close. The ethdev is gone; its device stays known to EAL.
    Close,
    /// Only stop: the port can be started again.
    Stop,
}

/// The sole right to a port. Ends what was started when it is dropped.
pub(crate) struct Device {
    id: PortId,
    name: String,
    /// Whether the port's number is ours: not after it is closed, when another device may get it.
    claimed: bool,
    started: bool,
    release: Release,
    /// Packets lost because the pool had no room for a copy, see `RxQueue::rx_burst`.
    nombuf: AtomicU64,
    _alive: Alive,
    /// DPDK wants control calls on a port one at a time.
    pub(crate) control: Mutex<()>,
}

impl Device {
    /// Takes the port, or [`Error::PortInUse`].
    pub(crate) fn claim(id: PortId) -> Result<Device, Error> {
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
            nombuf: AtomicU64::new(0),
            _alive: alive,
            control: Mutex::new(()),
        })
    }

    pub(crate) fn id(&self) -> PortId {
        self.id
    }

    pub(crate) fn count_nombuf(&self) {
        self.nombuf.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn nombuf(&self) -> u64 {
        self.nombuf.load(Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Holds the pools that queues are about to be set up with, beside those of an earlier configuration, which the
    /// driver may refer to until then.
    pub(crate) fn keep_pools(&mut self, pools: &[Mempool]) {
        registry().pools[usize::from(self.id.0)].extend_from_slice(pools);
    }

    /// Lets go of the pools of earlier configurations: the queues refer to the last `current` ones only.
    pub(crate) fn forget_earlier_pools(&mut self, current: usize) {
        let mut registry = registry();
        let pools = &mut registry.pools[usize::from(self.id.0)];
        let kept = pools.split_off(pools.len().saturating_sub(current));
        let earlier = std::mem::replace(pools, kept);
        drop(registry);
        drop(earlier);
    }

    /// Notes the AF_XDP sockets that the driver has opened since there were `earlier` ones.
    pub(crate) fn keep_sockets(&mut self, earlier: &BTreeSet<xdp::Socket>, rx_desc: u16) {
        let new = xdp::sockets().difference(earlier).copied().collect();
        registry().sockets[usize::from(self.id.0)] = (new, rx_desc);
    }

    pub(crate) fn start(&mut self) -> Result<(), Error> {
        // SAFETY: the port is claimed, configured, its queues set up, and nothing polls them yet.
        check(self.id, "starting", || unsafe { sys::rte_eth_dev_start(self.id.0) })?;
        self.started = true;
        Ok(())
    }

    pub(crate) fn set_release(&mut self, release: Release) {
        self.release = release;
    }

    pub(crate) fn release_policy(&self) -> Release {
        self.release
    }

    /// Stops, closes and removes the port, as far as `release` goes. Nothing may poll it any more, which `&mut`
    /// proves: every queue holds the device. Goes on after an error and returns the first one.
    pub(crate) fn release(&mut self, release: Release) -> Result<(), Error> {
        let mut result = Ok(());
        if std::mem::take(&mut self.started) {
            // SAFETY: the port is ours and started.
            result = check(self.id, "stopping", || unsafe { sys::rte_eth_dev_stop(self.id.0) }).map(drop);
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
        let slot = usize::from(self.id.0);
        let (sockets, rx_desc) = std::mem::take(&mut registry.sockets[slot]);
        let leftover = registry.pools[slot]
            .last()
            .filter(|_| !sockets.is_empty())
            .map(|pool| xdp::gather(sockets, rx_desc, pool));
        // SAFETY: the port is ours and stopped.
        let closed = check(self.id, "closing", || unsafe { sys::rte_eth_dev_close(self.id.0) }).map(drop);
        let (mut removed, mut ended) = (Ok(()), closed.is_ok());
        if release == Release::Remove && !device.is_null() && !shared {
            let ((code, reason), said) = log::listen(|| {
                // SAFETY: the device outlives its ports until it is removed, here; the lock keeps others out.
                let code = unsafe { sys::rte_dev_remove(device) };
                (code, Errno::from_code(code))
            });
            ended |= code >= 0;
            if code < 0 {
                removed = Err(Error::Port { name: self.name.clone(), step: "removing", reason, said });
            }
        }
        let gone = !list().contains(&self.id);
        let (rings, pools) = if gone {
            (std::mem::take(&mut registry.rings[slot]), std::mem::take(&mut registry.pools[slot]))
        } else {
            // The driver still refers to them: they stay with the port, which can be claimed and closed again.
            (Vec::new(), Vec::new())
        };
        // Under the same lock as the removal: whoever probes next finds the number free.
        registry.claimed[slot] = false;
        self.claimed = false;
        // Dropped after the lock is released: their mbufs go home.
        drop(registry);
        if let Some(leftover) = leftover.filter(|_| gone && ended) {
            // SAFETY: the port is closed.
            unsafe { leftover.release() };
        }
        if gone && !ended {
            // The ethdev is gone, but its driver said that it could not end: it may still use what it had.
            eprintln!("port {}: its rings and mempools are leaked, as it did not close", self.name);
            std::mem::forget((rings, pools));
        }
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

/// Address of a port's entry in DPDK's table of burst functions, fetched ahead.
pub(crate) fn fast_path(port: PortId) -> *const sys::rte_eth_fp_ops {
    // SAFETY: the number of a port that exists is below RTE_MAX_ETHPORTS, the table's length; only the address is
    // taken.
    let entry = unsafe { (&raw const sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>().add(port.0.into()) };
    time::prefetch(entry);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{self, Ring};

    #[test]
    fn a_port_that_did_not_close_keeps_its_rings_and_pools() {
        crate::testing::eal();
        let pool = |name| Mempool::create(name, 255, 0, 256, crate::mempool::ANY_SOCKET);
        let ring = Ring::create("kept", 64).expect("a ring");
        let id =
            ring::port("kept", std::slice::from_ref(&ring), std::slice::from_ref(&ring)).expect("a port");
        let config =
            crate::PortConfig { release: Release::Stop, ..crate::PortConfig::new(pool("kept").unwrap()) };
        drop(id.configure_and_start(&config).expect("it starts"));
        drop((config, ring));
        // Behind our back: DPDK closes no port that runs.
        // SAFETY: the port is configured and stopped, and nobody polls it.
        assert_eq!(unsafe { sys::rte_eth_dev_start(id.0) }, 0);
        let failed = Device::claim(id).expect("not in use").release(Release::Close);
        assert!(matches!(failed, Err(Error::Port { step: "closing", .. })), "{failed:?}");
        assert!(pool("kept").is_err(), "the driver uses it: the name is still taken");
        assert!(Ring::create("kept", 64).is_err());

        // SAFETY: as above.
        assert_eq!(unsafe { sys::rte_eth_dev_stop(id.0) }, 0);
        Device::claim(id).expect("not in use").release(Release::Remove).expect("it closes now");
        assert!(pool("kept").is_ok(), "freed");
        assert!(Ring::create("kept", 64).is_ok());
    }
}
