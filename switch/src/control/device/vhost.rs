//! Devices of virtual machines, by vhost-user.

use super::{Arc, Device, Handle, Resources, in_turn, own_info, share_out};
use crate::slowpath::ports::WorkerQueues;
use config::VhostOptions;
use datapath::retry::Retries;
use rte::port::{VhostConfig, VhostMode, VhostPort};
use std::collections::BTreeMap;
use std::path::Path;

/// What is said when the file of a guest's memory was truncated.
pub(super) const MEMORY_GONE: &str =
    "memory that the virtual machine shares is not there: its file is shorter than what was mapped";

impl Device {
    /// Opens a port of a virtual machine, which may come later.
    pub(super) fn open_vhost(
        path: &str,
        port: &config::Port,
        options: &VhostOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), String> {
        let mode = if options.path.is_some() { VhostMode::Client } else { VhostMode::Server };
        let config = VhostConfig {
            queues: options.queues,
            offloads: options.offloads,
            ..VhostConfig::new(path, mode, resources.pool.clone())
        };
        if mode == VhostMode::Server
            && let Some(directory) = Path::new(path).parent()
        {
            std::fs::create_dir_all(directory)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        let (vhost, rx, tx) = VhostPort::open(&config).map_err(|error| error.to_string())?;
        let info = own_info("vhost-user", rte::port::MAX_VHOST_QUEUES, 0);
        let mtu = port.mtu.unwrap_or(super::DEFAULT_MTU);
        let workers = resources.workers.len();
        let pollers = in_turn(rx.len(), index, workers);
        let retries = Arc::new(Retries { max: options.tx_retries_max.into(), ..Retries::default() });
        let mut shared = share_out(rx, tx, (mtu, options.gro), &vhost.tx_offloads(), &pollers, workers);
        for queues in &mut shared {
            queues.tx.set_retries(&retries);
        }
        let queues = (options.queues, options.queues);
        // As in Open vSwitch: the address is the guest's to choose.
        let mac = wire::addr::MacAddr([0; 6]);
        let handle = Handle::Vhost { port: vhost, retries };
        Ok((Device { handle, info, queues, mac, mtu, pollers }, shared))
    }
}

/// What Open vSwitch says of such a port (`netdev_dpdk_vhost_user_get_status`).
pub(super) fn status(port: &VhostPort) -> BTreeMap<String, String> {
    let guest = port.guest();
    let mode = match port.mode() {
        VhostMode::Client => "client",
        VhostMode::Server => "server",
    };
    let mut status = BTreeMap::from([
        ("mode".to_owned(), mode.to_owned()),
        ("status".to_owned(), if guest.is_some() { "connected" } else { "disconnected" }.to_owned()),
        ("socket".to_owned(), port.path().to_owned()),
    ]);
    let Some(guest) = guest else { return status };
    status.insert("features".to_owned(), format!("{:#018x}", guest.features));
    status.insert("num_of_vrings".to_owned(), guest.vrings.len().to_string());
    if guest.numa >= 0 {
        status.insert("numa".to_owned(), guest.numa.to_string());
    }
    for (number, size) in guest.vrings.iter().enumerate() {
        status.insert(format!("vring_{number}_size"), size.to_string());
    }
    status
}
