//! The control side of a running port.

use super::{PortId, PortInfo};
use crate::device::Device;
use crate::error::Error;
use crate::ethdev::check;
use crate::ethtool::LinkSettings;
use crate::queue::{RxQueue, TxQueue};
use dpdk_sys as sys;
use std::ffi::CStr;
use std::sync::{Arc, MutexGuard, PoisonError};

/// A running port, for everything but packets. May be used from any thread, also while the queues are polled.
pub struct PortHandle {
    device: Arc<Device>,
    tx_offloads: u64,
}

/// State of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Whether frames pass.
    pub up: bool,
    /// Mbit/s; `None` when the device does not know.
    pub speed: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
}

/// Queues that are counted one by one (`RTE_ETHDEV_QUEUE_STAT_CNTRS`).
pub const COUNTED_QUEUES: usize = 16;

/// Counters of a port since it started (`rte_eth_stats`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets that the device dropped because nobody fetched them in time.
    pub rx_missed: u64,
    /// Packets received in error.
    pub rx_errors: u64,
    /// Times that no mbuf was left to receive into.
    pub rx_nombuf: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that failed to be sent, as the driver counts: some count what `tx_burst` refused.
    pub tx_errors: u64,
    /// Packets received by each of the first RX queues; zeros where the driver does not count them apart.
    pub rx_queue_packets: [u64; COUNTED_QUEUES],
}

impl PortHandle {
    pub(super) fn new(device: Arc<Device>, tx_offloads: u64) -> PortHandle {
        PortHandle { device, tx_offloads }
    }

    /// What packets may ask of the device on transmission ([`crate::offload::capability`]): of what was wanted, what it
    /// can do.
    pub fn tx_offloads(&self) -> u64 {
        self.tx_offloads
    }

    fn raw(&self) -> u16 {
        self.id().0
    }

    fn control(&self) -> MutexGuard<'_, ()> {
        self.device.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port's number.
    pub fn id(&self) -> PortId {
        self.device.id()
    }

    /// The ethdev's name.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// What the device is and can do.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn info(&self) -> Result<PortInfo, Error> {
        let _one = self.control();
        self.id().info()
    }

    /// Name of the driver, for example `net_tap`.
    ///
    /// # Errors
    /// As [`PortHandle::info`].
    pub fn driver(&self) -> Result<String, Error> {
        self.info().map(|info| info.driver)
    }

    /// Most RX and most TX queues the device can have.
    ///
    /// # Errors
    /// As [`PortHandle::info`].
    pub fn max_queues(&self) -> Result<(u16, u16), Error> {
        self.info().map(|info| (info.max_rx_queues, info.max_tx_queues))
    }

    /// NUMA node of the device; `None` when it has none.
    pub fn socket(&self) -> Option<u32> {
        // SAFETY: the port exists as long as `device`; reads one integer.
        u32::try_from(unsafe { sys::rte_eth_dev_socket_id(self.raw()) }).ok()
    }

    /// MAC address.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let _one = self.control();
        let mut address = sys::rte_ether_addr::default();
        // SAFETY: the port exists as long as `device`; writes six bytes.
        check(self.id(), "reading the MAC address", || unsafe {
            sys::rte_eth_macaddr_get(self.raw(), &raw mut address)
        })?;
        Ok(address.addr_bytes)
    }

    /// MTU in bytes, without the Ethernet header.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn mtu(&self) -> Result<u16, Error> {
        let _one = self.control();
        let mut mtu = 0;
        // SAFETY: the port exists as long as `device`; writes one integer.
        check(self.id(), "reading the MTU", || unsafe {
            sys::rte_eth_dev_get_mtu(self.raw(), &raw mut mtu)
        })?;
        Ok(mtu)
    }

    /// Sets the MTU, in bytes without the Ethernet header, while the port runs.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason: some devices cannot at all, some not while they run.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let _one = self.control();
        // SAFETY: the port exists as long as `device`; a driver that cannot do it while queues are polled refuses.
        check(self.id(), "setting the MTU", || unsafe { sys::rte_eth_dev_set_mtu(self.raw(), mtu) }).map(drop)
    }

    /// The link now; does not wait for a negotiation.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn link(&self) -> Result<Link, Error> {
        let _one = self.control();
        let mut link = sys::rte_eth_link::default();
        // SAFETY: the port exists as long as `device`; writes the structure.
        check(self.id(), "reading the link", || unsafe {
            sys::rte_eth_link_get_nowait(self.raw(), &raw mut link)
        })?;
        let known = link.link_speed != 0 && link.link_speed != sys::RTE_ETH_SPEED_NUM_UNKNOWN;
        Ok(Link {
            up: link.link_status() != 0,
            speed: known.then_some(link.link_speed),
            full_duplex: link.link_duplex() != 0,
        })
    }

    /// What the device says of its link, as far as DPDK knows.
    pub fn settings(&self) -> Option<LinkSettings> {
        let Link { speed, full_duplex, .. } = self.link().ok()?;
        Some(LinkSettings { speed, full_duplex, ..LinkSettings::default() })
    }

    /// The port's counters.
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn stats(&self) -> Result<Stats, Error> {
        let _one = self.control();
        let mut stats = sys::rte_eth_stats::default();
        // SAFETY: the port exists as long as `device`; writes the structure.
        check(self.id(), "reading the statistics", || unsafe {
            sys::rte_eth_stats_get(self.raw(), &raw mut stats)
        })?;
        Ok(Stats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_nombuf: stats.rx_nombuf + self.device.nombuf(),
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
            rx_queue_packets: stats.q_ipackets,
        })
    }

    /// All counters that the driver has, with DPDK's names for them (`rte_eth_xstats_get`).
    ///
    /// # Errors
    /// [`Error::Port`] with DPDK's reason.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, Error> {
        let _one = self.control();
        let step = "reading the extended statistics";
        // SAFETY: null and 0 ask for the number.
        let count = check(self.id(), step, || unsafe {
            sys::rte_eth_xstats_get_names(self.raw(), std::ptr::null_mut(), 0)
        })?;
        let zero = sys::rte_eth_xstat_name { name: [0; 64] };
        let mut names = vec![zero; count as usize];
        let mut values = vec![sys::rte_eth_xstat::default(); count as usize];
        // SAFETY: DPDK writes at most as many entries as it is told that there are.
        check(self.id(), step, || unsafe {
            sys::rte_eth_xstats_get_names(self.raw(), names.as_mut_ptr(), count)
        })?;
        // SAFETY: the same.
        let valued = check(self.id(), step, || unsafe {
            sys::rte_eth_xstats_get(self.raw(), values.as_mut_ptr(), count)
        })?;
        values.truncate(valued as usize);
        Ok(values
            .iter()
            .filter_map(|value| {
                let bytes = names.get(value.id as usize)?.name.map(|c| c as u8);
                let name = CStr::from_bytes_until_nul(&bytes).ok()?;
                Some((name.to_string_lossy().into_owned(), value.value))
            })
            .collect())
    }

    /// Ends the port now, as [`super::PortConfig::release`] says, and returns what dropping could only print. Takes
    /// all its queues back: the compiler sees that nothing polls.
    ///
    /// # Errors
    /// [`Error::PortInUse`] when a queue of this port is still elsewhere: it ends with that one. Otherwise
    /// [`Error::Port`] with the first step that failed; the others were done all the same.
    pub fn close(self, rx: Vec<RxQueue>, tx: Vec<TxQueue>) -> Result<(), Error> {
        drop((rx, tx));
        let name = self.name().to_owned();
        let mut device = Arc::into_inner(self.device).ok_or(Error::PortInUse { name })?;
        let release = device.release_policy();
        device.release(release)
    }
}

impl std::fmt::Debug for PortHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortHandle({:?}, {})", self.name(), self.raw())
    }
}
