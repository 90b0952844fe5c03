//! Ethernet ports: finding and starting them.

mod devargs;
mod follow;
mod handle;
mod system;
mod tap;
mod vhost;

pub use crate::device::Release;
pub use crate::ethdev::{MAX_PORTS, PortId, by_mac, by_name, list};
pub use crate::ethtool::LinkSettings;
pub use follow::TapInterface;
pub use handle::{COUNTED_QUEUES, Link, PortHandle, Stats};
pub use system::{MAX_QUEUES as MAX_SYSTEM_QUEUES, SystemConfig, SystemPort};
pub use tap::{MAX_NAME as MAX_TAP_NAME, MAX_QUEUES as MAX_TAP_QUEUES, TapConfig, TapPort};
pub use vhost::{MAX_QUEUES as MAX_VHOST_QUEUES, VhostConfig, VhostGuest, VhostMode, VhostPort};

use crate::alive::Alive;
use crate::device::{Device, registry};
use crate::error::{Errno, Error, c_string};
use crate::ethdev::check;
use crate::log;
use crate::mempool::Mempool;
use crate::offload::capability;
use crate::queue::{self, RxQueue, TxQueue};
use crate::xdp;
use dpdk_sys as sys;
use std::ffi::CStr;
use std::sync::Arc;

/// What a device is and can do (`rte_eth_dev_info`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Name of the driver, for example `net_tap`.
    pub driver: String,
    /// Kernel interface behind the device (`if_nametoindex`'s number), when there is one.
    pub if_index: Option<u32>,
    /// RX queues it can have.
    pub max_rx_queues: u16,
    /// TX queues it can have.
    pub max_tx_queues: u16,
    /// Smallest MTU in bytes, without the Ethernet header.
    pub min_mtu: u16,
    /// Largest MTU in bytes, without the Ethernet header, as far as the driver says.
    pub max_mtu: u16,
    /// RSS hash functions (`RTE_ETH_RSS_*`); 0 when it has none.
    pub rss: u64,
    /// RX offloads (`RTE_ETH_RX_OFFLOAD_*`).
    pub rx_offloads: u64,
    /// TX offloads (`RTE_ETH_TX_OFFLOAD_*`).
    pub tx_offloads: u64,
}

/// How to run a port. Nothing that a device lacks is required of it.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Where received packets go: one pool for all RX queues, or one each.
    pub pools: Vec<Mempool>,
    /// RX queues, at least 1. Some drivers (`net_tap`) want as many of both kinds.
    pub rx_queues: u16,
    /// TX queues, at least 1.
    pub tx_queues: u16,
    /// Descriptors an RX queue, adjusted to what the device allows.
    pub rx_desc: u16,
    /// Descriptors a TX queue, adjusted to what the device allows.
    pub tx_desc: u16,
    /// MTU in bytes without the Ethernet header; `None` leaves the device's.
    pub mtu: Option<u16>,
    /// Receive frames to any MAC. A device that cannot switch it (and always does) is fine.
    pub promiscuous: bool,
    /// With several RX queues, spread packets over them by IP and port, and deliver the hash, as far as the device
    /// does.
    pub rss: bool,
    /// Take and send packets in several segments, where the device does; for frames longer than a pool's buffer.
    pub multi_segment: bool,
    /// What packets may ask of the device on transmission ([`crate::offload::capability`]), as far as it can do it:
    /// [`PortHandle::tx_offloads`] says what came of it.
    pub tx_offloads: u64,
    /// What to do at the end.
    pub release: Release,
}

impl PortConfig {
    /// One queue each way, 1,024 descriptors, promiscuous, RSS, and the device removed at the end.
    pub fn new(pool: Mempool) -> PortConfig {
        PortConfig {
            pools: vec![pool],
            rx_queues: 1,
            tx_queues: 1,
            rx_desc: 1024,
            tx_desc: 1024,
            mtu: None,
            promiscuous: true,
            rss: true,
            multi_segment: false,
            tx_offloads: 0,
            release: Release::Remove,
        }
    }

    /// What the device will do of what is wanted.
    fn tx_offloads(&self, info: &sys::rte_eth_dev_info) -> u64 {
        let segments = if self.multi_segment { sys::VXS_TX_OFFLOAD_MULTI_SEGS } else { 0 };
        info.tx_offload_capa & (self.tx_offloads & capability::ALL | segments)
    }

    fn pool(&self, queue: u16) -> &Mempool {
        self.pools.get(usize::from(queue)).unwrap_or(&self.pools[0])
    }
}

/// Probes a device by EAL's device arguments, for example `net_tap0,iface=tap0` or `0000:03:00.0`, and returns its
/// ports, mostly one.
///
/// # Errors
/// [`Error::Devargs`] for what is no device; [`Error::Probe`] with the driver's reason (`File exists` when it was probed already: see [`by_name`]);
/// [`Error::NoPort`]; [`Error::BadString`]; [`Error::NotInitialised`].
pub fn probe(devargs: &str) -> Result<Vec<PortId>, Error> {
    devargs::check(devargs)?;
    let text = c_string("device arguments", devargs, 4096)?;
    let registry = registry();
    let alive = Alive::new()?;
    let before = list();
    let ((code, reason), said) = log::listen(|| {
        // SAFETY: EAL runs (`alive`), the text is copied, and the lock keeps other probes and removals out.
        let code = unsafe { sys::rte_dev_probe(text.as_ptr()) };
        (code, Errno::from_code(code))
    });
    drop(alive);
    if code != 0 {
        return Err(Error::Probe { devargs: devargs.to_owned(), reason, said });
    }
    let mut ports = list();
    ports.retain(|port| !before.contains(port));
    drop(registry);
    if ports.is_empty() {
        // DPDK says yes when the device is there already, and ignores the arguments: say so instead.
        let name = devargs.split(',').next().unwrap_or_default();
        return Err(match by_name(name) {
            Ok(_) => Error::Probe { devargs: devargs.to_owned(), reason: Errno::EEXIST, said: String::new() },
            Err(_) => Error::NoPort { devargs: devargs.to_owned() },
        });
    }
    Ok(ports)
}

impl PortId {
    /// What the device is and can do.
    ///
    /// # Errors
    /// [`Error::Port`] when there is no such port; [`Error::NotInitialised`].
    pub fn info(self) -> Result<PortInfo, Error> {
        let _alive = Alive::new()?;
        // Keeps the device from being removed meanwhile.
        let _registry = registry();
        let info = self.dev_info()?;
        Ok(PortInfo {
            driver: driver_name(&info),
            if_index: (info.if_index != 0).then_some(info.if_index),
            max_rx_queues: info.max_rx_queues,
            max_tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu: info.max_mtu,
            rss: info.flow_type_rss_offloads,
            rx_offloads: info.rx_offload_capa,
            tx_offloads: info.tx_offload_capa,
        })
    }

    /// Removes the device of a port that is not in use, with all its ports, so that its name can be probed again.
    ///
    /// # Errors
    /// [`Error::PortInUse`]; [`Error::Port`] with DPDK's reason.
    pub fn remove(self) -> Result<(), Error> {
        let mut device = Device::claim(self)?;
        device.release(Release::Remove)
    }

    /// Configures and starts the port. The handle and the queues keep it; when all of them are gone, it is released
    /// as [`PortConfig::release`] says. After an error it is as before, stopped, and can be tried again.
    ///
    /// # Errors
    /// [`Error::PortInUse`]; [`Error::Queues`], [`Error::Pools`], [`Error::Mtu`] for what the device cannot do;
    /// [`Error::Port`] with the step and DPDK's reason.
    pub fn configure_and_start(
        self,
        config: &PortConfig,
    ) -> Result<(PortHandle, Vec<RxQueue>, Vec<TxQueue>), Error> {
        let mut device = Device::claim(self)?;
        let info = self.dev_info()?;
        self.check_config(config, &info)?;
        let driver = driver_name(&info);
        queue::note_driver(&driver);
        device.keep_pools(&config.pools);
        self.configure(config, &info)?;
        let earlier = (driver == xdp::DRIVER).then(xdp::sockets);
        let set_up = self.set_up_queues(config);
        if let Some(earlier) = earlier {
            device.keep_sockets(&earlier, config.rx_desc);
        }
        set_up?;
        if let Some(mtu) = config.mtu {
            // SAFETY: the port is ours (`device`) and stopped.
            let set = check(self, "setting the MTU", || unsafe { sys::rte_eth_dev_set_mtu(self.0, mtu) });
            // Without the function (net_ring, net_null) there is nothing beyond what `configure` noted.
            unless_unsupported(set)?;
        }
        device.start()?;
        device.forget_earlier_pools(config.pools.len());
        if config.promiscuous {
            // SAFETY: the port is ours and started.
            let set = check(self, "promiscuous mode", || unsafe { sys::rte_eth_promiscuous_enable(self.0) });
            unless_unsupported(set)?;
        }
        device.set_release(config.release);
        let device = Arc::new(device);
        // SAFETY: queues 0 to rx_queues - 1 are set up and started; each gets one owner, here.
        let rx = (0..config.rx_queues)
            .map(|q| unsafe { RxQueue::new(q, device.clone(), config.pool(q).clone()) })
            .collect();
        // SAFETY: the same for the TX queues.
        let tx = (0..config.tx_queues).map(|q| unsafe { TxQueue::new(q, device.clone()) }).collect();
        Ok((PortHandle::new(device, config.tx_offloads(&info)), rx, tx))
    }

    fn check_config(self, config: &PortConfig, info: &sys::rte_eth_dev_info) -> Result<(), Error> {
        let (rx, tx) = (config.rx_queues, config.tx_queues);
        let (max_rx, max_tx) = (info.max_rx_queues, info.max_tx_queues);
        if rx == 0 || tx == 0 || rx > max_rx || tx > max_tx {
            return Err(Error::Queues { name: self.name(), rx, tx, max_rx, max_tx });
        }
        let pools = config.pools.len();
        if pools != 1 && pools != usize::from(rx) {
            return Err(Error::Pools { name: self.name(), pools, queues: rx });
        }
        match config.mtu {
            Some(mtu) if mtu < info.min_mtu || mtu > info.max_mtu => {
                Err(Error::Mtu { name: self.name(), mtu, min: info.min_mtu, max: info.max_mtu })
            }
            _ => Ok(()),
        }
    }

    fn configure(self, config: &PortConfig, info: &sys::rte_eth_dev_info) -> Result<(), Error> {
        let mut conf = sys::rte_eth_conf::default();
        // 0 stands for the driver's own.
        conf.rxmode.mtu = config.mtu.unwrap_or(0).into();
        let rss = info.flow_type_rss_offloads & sys::VXS_RSS_WANTED;
        if config.rss && rss != 0 && config.rx_queues > 1 {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = rss;
            conf.rxmode.offloads |= info.rx_offload_capa & sys::VXS_RX_OFFLOAD_RSS_HASH;
        }
        if config.multi_segment {
            conf.rxmode.offloads |= info.rx_offload_capa & sys::VXS_RX_OFFLOAD_SCATTER;
        }
        conf.txmode.offloads |= config.tx_offloads(info);
        // SAFETY: the caller claimed the port, which is stopped; the structure is copied.
        check(self, "configuring", || unsafe {
            sys::rte_eth_dev_configure(self.0, config.rx_queues, config.tx_queues, &raw const conf)
        })
        .map(drop)
    }

    fn set_up_queues(self, config: &PortConfig) -> Result<(), Error> {
        let (mut rx_desc, mut tx_desc) = (config.rx_desc, config.tx_desc);
        // SAFETY: the caller claimed the port; both counts are read and written.
        check(self, "adjusting the number of descriptors", || unsafe {
            sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.0, &raw mut rx_desc, &raw mut tx_desc)
        })?;
        // SAFETY: reads the NUMA node; -1, for any, is what the functions below take too.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.0) } as u32;
        for queue in 0..config.rx_queues {
            let pool = config.pool(queue).raw();
            // SAFETY: the port is claimed, configured and stopped. `Device` holds a handle of every pool until the
            // port is closed or configured anew. Null stands for the driver's default configuration.
            check(self, "setting up an RX queue", || unsafe {
                sys::rte_eth_rx_queue_setup(self.0, queue, rx_desc, socket, std::ptr::null(), pool)
            })?;
        }
        for queue in 0..config.tx_queues {
            // SAFETY: as above.
            check(self, "setting up a TX queue", || unsafe {
                sys::rte_eth_tx_queue_setup(self.0, queue, tx_desc, socket, std::ptr::null())
            })?;
        }
        Ok(())
    }
}

/// What a device lacks is no error.
fn unless_unsupported(result: Result<u32, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Port { reason: Errno::ENOTSUP, .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn driver_name(info: &sys::rte_eth_dev_info) -> String {
    // SAFETY: a driver's name is a static string.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}
