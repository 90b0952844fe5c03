//! DPDK devices: found or probed, started with as many queues as the workers can use, and shared out.

use super::sys;
use crate::slowpath::ports::WorkerQueues;
use config::{DpdkOptions, DpdkSettings};
use crossbeam_queue::ArrayQueue;
use datapath::message::PortIo;
use datapath::tx::{PortTx, TxPath};
use rte::port::{Link, PortInfo, Stats};
use rte::{Mempool, PortConfig, PortHandle};
use std::sync::Arc;

/// Packets on their way from a worker without a TX queue to the one that owns it.
const HANDOVER: usize = 1024;
/// MTU of a port whose document does not say one, when it is taken back from another.
pub const DEFAULT_MTU: u16 = 1500;

/// A device cannot be used as the document says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {port}: {reason}")]
pub struct DeviceError {
    /// The port's name.
    pub port: String,
    /// DPDK's reason, or ours.
    pub reason: String,
}

/// What devices share.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Where received packets go.
    pub pool: Mempool,
    /// Number of workers.
    pub workers: usize,
    /// Descriptors, where the port does not say.
    pub dpdk: DpdkSettings,
}

/// A started device.
#[derive(Debug)]
pub struct Device {
    handle: PortHandle,
    /// What it is.
    pub info: PortInfo,
    /// RX and TX queues in use.
    pub queues: (u16, u16),
    /// MAC address.
    pub mac: wire::addr::MacAddr,
    /// MTU, bytes.
    pub mtu: u16,
    /// Worker of each RX queue.
    pub pollers: Vec<usize>,
    /// Name that the kernel's side of the device had when it was started, when there is one.
    interface: Option<String>,
}

/// How many queues to start: what was asked for, else one a worker, as far as the device has them.
fn queue_counts(options: &DpdkOptions, workers: usize, info: &PortInfo) -> Result<(u16, u16), String> {
    let workers = u16::try_from(workers).unwrap_or(u16::MAX);
    let count = |asked: Option<u16>, max: u16, option: &str| match asked {
        Some(n) if n > max => Err(format!("{option}={n}: the device has {max}")),
        Some(n) => Ok(n),
        None => Ok(workers.min(max).max(1)),
    };
    let rx = count(options.n_rxq, info.max_rx_queues, "n_rxq")?;
    let tx = count(options.n_txq, info.max_tx_queues, "n_txq")?;
    // A tap has pairs: a file descriptor that is read and written.
    if info.driver == "net_tap" { Ok((rx.max(tx), rx.max(tx))) } else { Ok((rx, tx)) }
}

impl Device {
    /// Finds or probes the device of a port and starts it. `index` spreads the RX queues of different ports over the
    /// workers.
    ///
    /// # Errors
    /// With the port's name and DPDK's reason; nothing stays open then.
    pub fn open(
        port: &config::Port,
        options: &DpdkOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), DeviceError> {
        let fail = |reason: String| DeviceError { port: port.name.clone(), reason };
        let (id, probed) = if let Ok(id) = rte::port::by_name(options.device()) {
            (id, false)
        } else {
            let ports = rte::port::probe(&options.devargs).map_err(|e| fail(e.to_string()))?;
            // `probe` says NoPort rather than none.
            (ports.first().copied().ok_or_else(|| fail("no Ethernet port".to_owned()))?, true)
        };
        let opened = Self::start(id, port, options, resources, index);
        opened.map_err(|reason| {
            if probed && let Err(error) = id.remove() {
                tracing::warn!(port = %port.name, %error, "a device that did not start cannot be removed");
            }
            fail(reason)
        })
    }

    fn start(
        id: rte::PortId,
        port: &config::Port,
        options: &DpdkOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), String> {
        let text = |e: rte::Error| e.to_string();
        let info = id.info().map_err(text)?;
        let queues = queue_counts(options, resources.workers, &info)?;
        let config = PortConfig {
            rx_queues: queues.0,
            tx_queues: queues.1,
            rx_desc: options.n_rxq_desc.unwrap_or(resources.dpdk.rxd as u16),
            tx_desc: options.n_txq_desc.unwrap_or(resources.dpdk.txd as u16),
            mtu: port.mtu,
            ..PortConfig::new(resources.pool.clone())
        };
        let (handle, rx, tx) = id.configure_and_start(&config).map_err(text)?;
        let mac = wire::addr::MacAddr(handle.mac().map_err(text)?);
        let mtu = match port.mtu {
            Some(mtu) => mtu,
            None => handle.mtu().map_err(text)?,
        };
        let workers = resources.workers;
        let pollers: Vec<usize> = (0..rx.len()).map(|queue| (index + queue) % workers).collect();
        let shared = share_out(rx, tx, mtu, &pollers, workers);
        let interface = info.if_index.and_then(sys::interface_name);
        Ok((Device { handle, info, queues, mac, mtu, pollers, interface }, shared))
    }

    /// Stops and closes the device. `ios` are all its queues.
    ///
    /// # Errors
    /// DPDK's reason for the first step that failed.
    pub fn close(self, ios: Vec<PortIo>) -> Result<(), rte::Error> {
        drop(ios);
        self.handle.close(Vec::new(), Vec::new())
    }

    /// Sets the MTU while the device runs.
    ///
    /// # Errors
    /// What the device says; one that knows no MTU takes any that it could have been started with.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), String> {
        if !(self.info.min_mtu..=self.info.max_mtu).contains(&mtu) {
            return Err(format!("MTU {mtu}: expected {} to {}", self.info.min_mtu, self.info.max_mtu));
        }
        match self.handle.set_mtu(mtu) {
            Ok(()) | Err(rte::Error::Port { reason: rte::Errno::ENOTSUP, .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        self.mtu = mtu;
        Ok(())
    }

    /// The ethdev's name.
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// The link now; `None` when the device does not say, or cannot know.
    pub fn link(&self) -> Option<Link> {
        let link = self.handle.link().ok()?;
        let here = self.info.if_index.and_then(sys::interface_name);
        (!blind(&self.info.driver, link.up, self.interface.as_deref(), here.as_deref())).then_some(link)
    }

    /// The device's own counters; zeros when it has none.
    pub fn stats(&self) -> Stats {
        self.handle.stats().unwrap_or_default()
    }
}

/// Whether the driver takes a link for down only because it does not see the interface. `net_tap` asks the kernel by
/// the name that the interface had; moved to another network namespace, or renamed, it works on, and looks down.
fn blind(driver: &str, up: bool, had: Option<&str>, has: Option<&str>) -> bool {
    driver == "net_tap" && !up && had != has
}

/// Gives each worker its queues: RX queue q to `pollers[q]`; TX queue w to worker w. Workers beyond the TX queues
/// hand over to worker w modulo their number. TX queues beyond the workers stay unused.
fn share_out(
    rx: Vec<rte::RxQueue>,
    tx: Vec<rte::TxQueue>,
    mtu: u16,
    pollers: &[usize],
    workers: usize,
) -> Vec<WorkerQueues> {
    let owners = tx.len().min(workers);
    let handovers: Vec<Option<Arc<ArrayQueue<rte::Mbuf>>>> =
        (0..owners).map(|w| (w + owners < workers).then(|| Arc::new(ArrayQueue::new(HANDOVER)))).collect();
    let mut queues = tx.into_iter();
    let mut shared: Vec<WorkerQueues> = Vec::with_capacity(workers);
    for worker in 0..workers {
        let owner = worker % owners;
        let path = match (worker < owners).then(|| queues.next()).flatten() {
            Some(queue) => TxPath::Queue { queue, from_others: handovers[owner].clone() },
            // An owner is handed over to by exactly those whose number is its own plus a multiple of `owners`.
            None => match &handovers[owner] {
                Some(handover) => TxPath::Handover(Arc::clone(handover)),
                None => continue,
            },
        };
        let hands_over = matches!(path, TxPath::Handover(_));
        shared.push(WorkerQueues { rx: Vec::new(), tx: PortTx::new(path, mtu), hands_over });
    }
    for (queue, poller) in rx.into_iter().zip(pollers) {
        shared[*poller].rx.push(queue);
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(driver: &str, max_rx_queues: u16, max_tx_queues: u16) -> PortInfo {
        PortInfo {
            driver: driver.into(),
            if_index: None,
            max_rx_queues,
            max_tx_queues,
            min_mtu: 68,
            max_mtu: 9000,
            rss: 0,
            rx_offloads: 0,
            tx_offloads: 0,
        }
    }

    fn options(n_rxq: Option<u16>, n_txq: Option<u16>) -> DpdkOptions {
        DpdkOptions { devargs: "x".into(), n_rxq, n_txq, n_rxq_desc: None, n_txq_desc: None }
    }

    #[test]
    fn a_tap_in_another_namespace_is_not_down() {
        assert!(blind("net_tap", false, Some("tap0"), None));
        // The number is another interface's there.
        assert!(blind("net_tap", false, Some("tap0"), Some("eth0")));
        assert!(!blind("net_tap", false, Some("tap0"), Some("tap0")), "set down");
        assert!(!blind("net_tap", true, Some("tap0"), None));
        assert!(!blind("net_ixgbe", false, None, None));
    }

    #[test]
    fn queues_are_one_a_worker_as_far_as_there_are() {
        assert_eq!(queue_counts(&options(None, None), 4, &info("net_ixgbe", 64, 64)), Ok((4, 4)));
        assert_eq!(queue_counts(&options(None, None), 4, &info("net_pcap", 1, 2)), Ok((1, 2)));
        assert_eq!(queue_counts(&options(Some(2), None), 4, &info("net_ixgbe", 8, 8)), Ok((2, 4)));
        assert_eq!(queue_counts(&options(Some(1), None), 3, &info("net_tap", 16, 16)), Ok((3, 3)));
        let error = queue_counts(&options(Some(9), None), 1, &info("net_pcap", 1, 1)).unwrap_err();
        assert_eq!(error, "n_rxq=9: the device has 1");
    }
}
