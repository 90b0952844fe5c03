//! Devices: DPDK's, found or probed, taps of the kernel, and virtual machines; started with as many queues as the workers can use, and
//! shared out.

mod system;
mod vhost;

use super::interface::Interface;
use super::sys;
use crate::slowpath::ports::WorkerQueues;
use config::{DpdkOptions, DpdkSettings, SystemOptions, TapOptions, VhostOptions};
use crossbeam_queue::ArrayQueue;
use datapath::message::PortIo;
use datapath::retry::Retries;
use datapath::tx::{PortTx, TxPath};
use rte::port::{Link, LinkSettings, PortInfo, Stats, SystemPort};
use rte::{Mempool, PortConfig, PortHandle, TapConfig, TapPort, VhostPort};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Packets on their way from a worker without a TX queue to the one that owns it.
const HANDOVER: usize = 1024;
/// MTU of a port whose document does not say one, when it is taken back from another.
pub const DEFAULT_MTU: u16 = 1500;

/// MTUs of a tap, and of a virtual machine, in bytes: Linux' smallest, and 64 KiB less an Ethernet header.
pub(super) const TAP_MTU: (u16, u16) = (68, 65_521);
/// How long a tap is waited for that the kernel still has in use: what watched the queue of a port that was removed is ended
/// by the kernel a moment later.
const TAP_BUSY: Duration = Duration::from_secs(1);
/// A device cannot be used as the document says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {port}: {reason}")]
pub struct DeviceError {
    /// The port's name.
    pub port: String,
    /// DPDK's reason, or ours.
    pub reason: String,
}

/// Open queues of taps, by the interface's name.
type Inherited = BTreeMap<String, Vec<Arc<File>>>;

/// A worker, for those who share queues and settings out.
#[derive(Debug, Clone)]
pub struct WorkerPlace {
    /// Its lcore.
    pub lcore: u32,
    /// What it is told by.
    pub link: Arc<datapath::message::Link>,
    /// How long it may sleep at a time unless something else is said, microseconds.
    pub default_sleep: u32,
}

/// What devices share.
#[derive(Debug, Clone)]
pub struct Resources {
    /// Where received packets go.
    pub pool: Mempool,
    /// The workers.
    pub workers: Arc<[WorkerPlace]>,
    /// Descriptors, where the port does not say.
    pub dpdk: DpdkSettings,
    /// Where the switch makes sockets.
    pub rundir: Arc<Path>,
    /// Queues of taps that the process before this one had open, by the interface's name.
    pub inherited: Arc<Mutex<Inherited>>,
}

impl Resources {
    /// Makes these the queues of taps that are open already.
    pub fn inherit(&self, taps: Inherited) {
        *self.inherited() = taps;
    }

    fn inherited(&self) -> MutexGuard<'_, Inherited> {
        self.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which device, and how to start it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceOptions {
    /// An ethdev.
    Dpdk(DpdkOptions),
    /// A tap of the kernel.
    Tap {
        /// The interface.
        name: String,
        /// The port's options.
        options: TapOptions,
        /// It is set up, and not left to whoever gives it addresses.
        up: bool,
    },
    /// A network device of the kernel.
    System {
        /// The interface.
        interface: String,
        /// The port's options.
        options: SystemOptions,
    },
    /// A virtual machine.
    Vhost {
        /// The socket.
        path: String,
        /// The port's options.
        options: VhostOptions,
    },
}

impl DeviceOptions {
    /// The device's name.
    pub fn device(&self) -> &str {
        match self {
            DeviceOptions::Dpdk(options) => options.device(),
            DeviceOptions::Tap { name, .. } => name,
            DeviceOptions::System { interface, .. } => interface,
            DeviceOptions::Vhost { path, .. } => path,
        }
    }

    /// The device as a user wrote it.
    pub fn text(&self) -> &str {
        match self {
            DeviceOptions::Dpdk(options) => &options.devargs,
            DeviceOptions::Tap { .. } => "tap",
            DeviceOptions::System { .. } => "system",
            DeviceOptions::Vhost { path, .. } => path,
        }
    }
}

/// A running device, for everything but packets.
#[derive(Debug)]
enum Handle {
    Ethdev {
        port: PortHandle,
        /// The kernel's interface behind it, when there is one.
        behind: Option<Interface>,
    },
    Tap(TapPort),
    System {
        port: SystemPort,
        behind: Interface,
    },
    Vhost {
        port: VhostPort,
        retries: Arc<Retries>,
    },
}

/// A started device.
#[derive(Debug)]
pub struct Device {
    handle: Handle,
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
}

/// Drivers whose device spreads packets over all the queues that it was made with, started or not, and the device
/// argument that says how many: what comes to a queue that nobody polls is lost.
const SPREADS_OVER_ALL: [(&str, &str); 4] = [
    ("net_af_packet", "qpairs"),
    ("net_af_xdp", "queue_count"),
    ("net_pcap", "rx_pcap"),
    ("net_vhost", "queues"),
];

/// Says which packets an AF_XDP port does not get: the kernel keeps what comes by queues of the interface beyond its own.
fn warn_of_other_queues(port: &str, info: &PortInfo) {
    let interface = info.if_index.filter(|_| info.driver == "net_af_xdp").and_then(sys::interface_name);
    let Some(interface) = interface else { return };
    let Ok(queues) = std::fs::read_dir(format!("/sys/class/net/{interface}/queues")) else { return };
    let is_rx = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("rx-"));
    let count = queues.flatten().filter(|entry| is_rx(&entry.file_name())).count();
    let own = usize::from(info.max_rx_queues);
    if count > own {
        tracing::warn!(
            port,
            interface,
            queues = count,
            "net_af_xdp takes what comes by {own} of the interface's queues, the kernel the rest: say queue_count={count}, or \
             `ethtool -L {interface} combined {own}` (of a veth pair `ethtool -L PEER tx {own}`)"
        );
    }
}

/// How many queues to start: what was asked for, else one a worker, as far as the device has them.
fn queue_counts(options: &DpdkOptions, workers: usize, info: &PortInfo) -> Result<(u16, u16), String> {
    let workers = u16::try_from(workers).unwrap_or(u16::MAX);
    let spread = SPREADS_OVER_ALL.iter().find(|(driver, _)| *driver == info.driver);
    let all = info.max_rx_queues;
    if let (Some((driver, argument)), Some(n)) = (spread, options.n_rxq.filter(|n| *n < all)) {
        return Err(format!(
            "n_rxq={n}: {driver} spreads packets over all its {all} queues ({argument}): say n_rxq={all}, or leave it out"
        ));
    }
    let count = |asked: Option<u16>, max: u16, option: &str| match asked {
        Some(n) if n > max => Err(format!("{option}={n}: the device has {max}")),
        Some(n) => Ok(n),
        None => Ok(workers.min(max).max(1)),
    };
    let rx = count(options.n_rxq.or(spread.map(|_| all)), info.max_rx_queues, "n_rxq")?;
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
        options: &DeviceOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), DeviceError> {
        let fail = |reason: String| DeviceError { port: port.name.clone(), reason };
        let options = match options {
            DeviceOptions::Dpdk(options) => options,
            DeviceOptions::Tap { name, options, up } => {
                return Self::open_tap((name, *up), port, options, resources, index).map_err(fail);
            }
            DeviceOptions::System { interface, options } => {
                return Self::open_system(interface, port, options, resources, index).map_err(fail);
            }
            DeviceOptions::Vhost { path, options } => {
                return Self::open_vhost(path, port, options, resources, index).map_err(fail);
            }
        };
        let (id, probed) = if let Some(mac) = options.by_mac() {
            let found = rte::port::by_mac(mac.0);
            let hint = "EAL finds devices that it is told of with -a or --vdev";
            (found.map_err(|error| fail(format!("{error}; {hint}")))?, false)
        } else if let Ok(id) = rte::port::by_name(options.device()) {
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
        warn_of_other_queues(&port.name, &info);
        let queues = queue_counts(options, resources.workers.len(), &info)?;
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
        let workers = resources.workers.len();
        let pollers = in_turn(rx.len(), index, workers);
        // Ethdevs are given packets that ask for nothing: what is asked is done in software.
        let shared = share_out(rx, tx, (mtu, options.gro), &Arc::default(), &pollers, workers);
        let behind = info.if_index.and_then(|index| Interface::behind(&info.driver, index));
        let handle = Handle::Ethdev { port: handle, behind };
        Ok((Device { handle, info, queues, mac, mtu, pollers }, shared))
    }

    /// Opens a tap, which is made unless it is there.
    fn open_tap(
        (name, up): (&str, bool),
        port: &config::Port,
        options: &TapOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), String> {
        let workers = resources.workers.len();
        let mut config = TapConfig {
            queues: options.n_rxq.unwrap_or_else(|| (workers as u16).clamp(1, rte::port::MAX_TAP_QUEUES)),
            mtu: port.mtu,
            mac: port.mac.map(|mac| mac.0),
            persist: options.persist,
            up,
            offloads: options.offloads,
            opened: resources.inherited().remove(name).unwrap_or_default(),
            ..TapConfig::new(name, resources.pool.clone())
        };
        if !config.opened.is_empty() && options.n_rxq.is_none() {
            config.queues = config.opened.len() as u16;
        }
        let since = Instant::now();
        let (tap, rx, tx) = loop {
            match TapPort::open(&config) {
                // One that is there has one queue.
                Err(rte::Error::Port { reason: rte::Errno::EINVAL, .. })
                    if options.n_rxq.is_none() && config.queues > 1 =>
                {
                    config.queues = 1;
                }
                Err(rte::Error::Port { reason: rte::Errno::EBUSY, .. }) if since.elapsed() < TAP_BUSY => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => break opened.map_err(tap_error)?,
            }
        };
        let queues = config.queues;
        let info = own_info("tap", queues, tap.tx_offloads());
        let mac = wire::addr::MacAddr(tap.mac().map_err(|error| error.to_string())?);
        let mtu = tap.mtu().map_err(|error| error.to_string())?;
        let pollers = in_turn(rx.len(), index, workers);
        let offloads = Arc::new(AtomicU64::new(info.tx_offloads));
        let shared = share_out(rx, tx, (mtu, options.gro), &offloads, &pollers, workers);
        let queues = (queues, queues);
        Ok((Device { handle: Handle::Tap(tap), info, queues, mac, mtu, pollers }, shared))
    }

    /// Stops and closes the device. `ios` are all its queues.
    ///
    /// # Errors
    /// DPDK's reason for the first step that failed.
    pub fn close(self, ios: Vec<PortIo>) -> Result<(), rte::Error> {
        drop(ios);
        match self.handle {
            Handle::Ethdev { port, behind } => {
                // It keeps the interface.
                drop(behind);
                port.close(Vec::new(), Vec::new())
            }
            // It ends with its last handle.
            Handle::Tap(_) | Handle::System { .. } | Handle::Vhost { .. } => Ok(()),
        }
    }

    /// Sets the MTU while the device runs.
    ///
    /// # Errors
    /// What the device says; one that knows no MTU takes any that it could have been started with.
    pub fn set_mtu(&mut self, mtu: u16) -> Result<(), String> {
        if !(self.info.min_mtu..=self.info.max_mtu).contains(&mtu) {
            return Err(format!("MTU {mtu}: expected {} to {}", self.info.min_mtu, self.info.max_mtu));
        }
        let set = match &self.handle {
            Handle::Ethdev { port, .. } => port.set_mtu(mtu),
            Handle::Tap(tap) => tap.set_mtu(mtu),
            Handle::System { port, .. } => port.set_mtu(mtu),
            // The guest sets its own.
            Handle::Vhost { .. } => Ok(()),
        };
        match set {
            Ok(()) | Err(rte::Error::Port { reason: rte::Errno::ENOTSUP, .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        self.mtu = mtu;
        Ok(())
    }

    /// The ethdev's name, the tap's, or the path of the socket.
    pub fn name(&self) -> &str {
        match &self.handle {
            Handle::Ethdev { port, .. } => port.name(),
            Handle::Tap(tap) => tap.name(),
            Handle::System { port, .. } => port.interface(),
            Handle::Vhost { port, .. } => port.path(),
        }
    }

    /// Sets the MAC address of a tap while it runs; of another device nothing.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn set_mac(&mut self, mac: wire::addr::MacAddr) -> Result<(), String> {
        if let Handle::Tap(tap) = &self.handle {
            tap.set_mac(mac.0).map_err(|error| error.to_string())?;
            self.mac = mac;
        }
        Ok(())
    }

    /// Whether it is a device that the switch made in the kernel.
    pub fn is_tap(&self) -> bool {
        matches!(self.handle, Handle::Tap(_))
    }

    /// Descriptors of a tap's queues; none of another device.
    pub fn descriptors(&self) -> Vec<RawFd> {
        match &self.handle {
            Handle::Tap(tap) => tap.descriptors(),
            Handle::Ethdev { .. } | Handle::System { .. } | Handle::Vhost { .. } => Vec::new(),
        }
    }

    /// Whether its kernel interface is gone, and with it every frame.
    pub fn is_lost(&self) -> bool {
        match &self.handle {
            Handle::Ethdev { behind, .. } => behind.as_ref().is_some_and(Interface::is_lost),
            Handle::Tap(tap) => tap.is_gone(),
            Handle::System { port, behind } => port.is_gone() || behind.is_lost(),
            Handle::Vhost { .. } => false,
        }
    }

    /// What a virtual machine has done for which its connection was just ended; nothing mostly.
    pub fn finds_breach(&self) -> Option<&'static str> {
        match &self.handle {
            Handle::Vhost { port, .. } => port.finds_memory_gone().then_some(vhost::MEMORY_GONE),
            Handle::Ethdev { .. } | Handle::Tap(_) | Handle::System { .. } => None,
        }
    }

    /// The link now; `None` when the device does not say, or cannot know.
    pub fn link(&self) -> Option<Link> {
        let (port, behind) = match &self.handle {
            Handle::Ethdev { port, behind } => (port, behind),
            Handle::Tap(tap) => return tap.link().ok(),
            Handle::System { behind, .. } => {
                return behind.up().map(|up| Link { up, speed: None, full_duplex: true });
            }
            Handle::Vhost { port, .. } => return Some(port.link()),
        };
        let link = port.link().ok()?;
        match behind {
            // The driver asks by the name that the interface had, or not at all.
            Some(interface) => interface.up().map(|up| Link { up, ..link }),
            None => Some(link),
        }
    }

    /// Speed and medium of the link; `None` when the device does not say.
    pub fn link_settings(&self) -> Option<LinkSettings> {
        match &self.handle {
            Handle::Ethdev { port, .. } => port.settings(),
            Handle::Tap(tap) => tap.settings(),
            Handle::System { port, .. } => port.settings(),
            Handle::Vhost { .. } => None,
        }
    }

    /// The device's own counters; zeros when it has none.
    pub fn stats(&self) -> Stats {
        match &self.handle {
            Handle::Ethdev { port, .. } => port.stats().unwrap_or_default(),
            Handle::Tap(tap) => tap.stats(),
            Handle::System { port, .. } => port.stats(),
            Handle::Vhost { port, .. } => port.stats(),
        }
    }

    /// What its driver says of it, as Open vSwitch's `status` does.
    pub fn status(&self) -> BTreeMap<String, String> {
        match &self.handle {
            Handle::Vhost { port, .. } => vhost::status(port),
            Handle::Ethdev { .. } | Handle::Tap(_) | Handle::System { .. } => BTreeMap::new(),
        }
    }

    /// How often packets were offered again to a virtual machine without room; `None` of another device.
    pub fn tx_retries(&self) -> Option<u64> {
        match &self.handle {
            Handle::Vhost { retries, .. } => Some(retries.count.load(Relaxed)),
            Handle::Ethdev { .. } | Handle::Tap(_) | Handle::System { .. } => None,
        }
    }
}

/// Why a tap cannot be opened; whose port it is is said around it.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
fn tap_error(error: rte::Error) -> String {
    match &error {
        rte::Error::Port { step: "attaching to the tap", reason: rte::Errno::EINVAL, .. } => {
            "the interface of this name is no tap: expected a tap's name, or one that is free".to_owned()
        }
        rte::Error::Port { step, reason, .. } => format!("{step} failed: {reason}"),
        _ => error.to_string(),
    }
}

/// What is said of a device that is no ethdev: as many queues of each kind at most, and these offloads on transmission.
fn own_info(driver: &str, max_queues: u16, tx_offloads: u64) -> PortInfo {
    PortInfo {
        driver: driver.to_owned(),
        if_index: None,
        max_rx_queues: max_queues,
        max_tx_queues: max_queues,
        min_mtu: TAP_MTU.0,
        max_mtu: TAP_MTU.1,
        rss: 0,
        rx_offloads: 0,
        tx_offloads,
    }
}

/// A worker for each of a device's RX queues, until something else is said; `index` spreads those of different devices.
fn in_turn(queues: usize, index: usize, workers: usize) -> Vec<usize> {
    (0..queues).map(|queue| (index + queue) % workers).collect()
}

/// Gives each worker its queues: RX queue q to `pollers[q]`; TX queue w to worker w. Workers beyond the TX queues
/// hand over to worker w modulo their number. TX queues beyond the workers stay unused. Packets have `mtu` bytes at most, and
/// may ask for `offloads`, as they are at the time; with `gro`, what is received is coalesced.
fn share_out(
    rx: Vec<rte::RxQueue>,
    tx: Vec<rte::TxQueue>,
    (mtu, gro): (u16, bool),
    offloads: &Arc<AtomicU64>,
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
        let tx = PortTx::new(path, mtu).with_offloads(Arc::clone(offloads));
        shared.push(WorkerQueues { rx: Vec::new(), tx, mtu, gro });
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
        DpdkOptions { devargs: "x".into(), n_rxq, n_txq, n_rxq_desc: None, n_txq_desc: None, gro: false }
    }

    #[test]
    fn queues_that_packets_are_spread_over_are_all_polled() {
        let device = info("net_af_packet", 2, 2);
        assert_eq!(queue_counts(&options(None, None), 1, &device), Ok((2, 1)));
        assert_eq!(queue_counts(&options(None, None), 4, &device), Ok((2, 2)));
        assert_eq!(queue_counts(&options(Some(2), Some(1)), 1, &device), Ok((2, 1)));
        let error = queue_counts(&options(Some(1), None), 1, &device).unwrap_err();
        assert_eq!(
            error,
            "n_rxq=1: net_af_packet spreads packets over all its 2 queues (qpairs): say n_rxq=2, or leave it out"
        );
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
