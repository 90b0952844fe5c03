//! Network devices of the kernel, by packet sockets.

use super::{Device, Handle, Resources, in_turn, own_info, share_out};
use crate::control::interface::Interface;
use crate::slowpath::ports::WorkerQueues;
use config::SystemOptions;
use rte::port::{MAX_SYSTEM_QUEUES, PortInfo, SystemConfig, SystemPort};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Device {
    /// Opens a port on an interface that is there.
    pub(super) fn open_system(
        interface: &str,
        port: &config::Port,
        options: &SystemOptions,
        resources: &Resources,
        index: usize,
    ) -> Result<(Device, Vec<WorkerQueues>), String> {
        let workers = resources.workers.len();
        let queues = (
            options.n_rxq.unwrap_or(1),
            u16::try_from(workers).unwrap_or(u16::MAX).clamp(1, MAX_SYSTEM_QUEUES),
        );
        let config = SystemConfig {
            interface: interface.to_owned(),
            rx_queues: queues.0,
            tx_queues: queues.1,
            pool: resources.pool.clone(),
        };
        let (system, rx, tx) = SystemPort::open(&config).map_err(|error| error_text(&error))?;
        let text = |error: rte::Error| error_text(&error);
        if let Some(mtu) = port.mtu {
            system.set_mtu(mtu).map_err(text)?;
        }
        let mtu = system.mtu().map_err(text)?;
        let mac = wire::addr::MacAddr(system.mac().map_err(text)?);
        let if_index = Some(system.index());
        let info = PortInfo { if_index, ..own_info("system", MAX_SYSTEM_QUEUES, system.tx_offloads()) };
        let pollers = in_turn(rx.len(), index, workers);
        let offloads = Arc::new(AtomicU64::new(info.tx_offloads));
        let shared = share_out(rx, tx, (mtu, options.gro), &offloads, &pollers, workers);
        let handle = Handle::System { behind: Interface::Socket(system.index()), port: system };
        Ok((Device { handle, info, queues, mac, mtu, pollers }, shared))
    }
}

/// Why an interface cannot be used; whose port it is is said around it.
fn error_text(error: &rte::Error) -> String {
    match error {
        rte::Error::Port { step: "finding the interface", reason, .. } => {
            format!(
                "there is no network device of this name ({reason}): expected one in the switch's network namespace"
            )
        }
        rte::Error::Port { step, reason, .. } => format!("{step} failed: {reason}"),
        _ => error.to_string(),
    }
}
