//! Devices of ports that stay: tried again, lost, or given to other ports.

use super::options::{device_options, local_options, local_port};
use super::{ChangeError, Ofports, Opened, Switch, close_all};
use crate::control::device::{Device, DeviceError, DeviceOptions};
use crate::control::plan::Plan;
use config::{Bridge, Document};

impl Switch {
    /// Tries the device of a port again that did not start.
    pub async fn retry(&mut self, name: &str) {
        if let Some(bridge) = self.document.bridge(name).filter(|bridge| bridge.has_device()).cloned() {
            let mut opened = Opened::new();
            if let Err(error) = self.open(&local_port(&bridge), &local_options(name), &mut opened).await {
                return self.fault(&error);
            }
            let plan = Plan::local_anew(&bridge, true);
            match self.carry_out(plan, self.document.clone(), opened, Ofports::new()).await {
                Ok(_) => {
                    self.faults.clear(name);
                    self.follow_mtus_again().await;
                    tracing::info!(target: "vxswitch::port", port = %name, "the device runs now");
                }
                Err(error) => {
                    tracing::error!(target: "vxswitch::port", port = %name, %error, "the device runs, its port does not");
                }
            }
            return;
        }
        let found = self.document.port(name).map(|(bridge, port)| (bridge.clone(), port.clone()));
        let Some((bridge, port)) = found else {
            self.faults.clear(name);
            return;
        };
        let Some(options) = device_options(&self.document, &port, &self.resources.rundir) else { return };
        let mut opened = Opened::new();
        if let Err(error) = self.open(&port, &options, &mut opened).await {
            return self.fault(&error);
        }
        match self.make_anew(&bridge, name, opened).await {
            Ok(()) => {
                self.place_queues().await;
                self.follow_mtus_again().await;
                tracing::info!(target: "vxswitch::port", port = %name, "the device runs now");
            }
            Err(error) => {
                tracing::error!(target: "vxswitch::port", port = %name, %error, "the device runs, its port does not");
            }
        }
    }

    /// Closes a device whose kernel interface is gone: it has no way back to one of the same name. Its port stays, and the
    /// device is tried again as one that did not start.
    pub async fn lose(&mut self, name: &str) {
        let made = if let Some(bridge) = self.document.bridge(name) {
            let plan = Plan::local_anew(bridge, false);
            self.carry_out(plan, self.document.clone(), Opened::new(), Ofports::new()).await.map(drop)
        } else {
            let Some((bridge, _)) = self.document.port(name) else { return };
            let bridge = bridge.clone();
            self.make_anew(&bridge, name, Opened::new()).await
        };
        match made {
            Ok(()) => self.fault(&DeviceError {
                port: name.to_owned(),
                reason: "its kernel interface was deleted or moved to another network namespace".to_owned(),
            }),
            Err(error) => {
                tracing::error!(target: "vxswitch::port", port = %name, %error, "the device is lost and cannot be closed");
            }
        }
    }

    /// A switch that stops follows nothing.
    async fn follow_mtus_again(&mut self) {
        let _ = self.follow_mtus().await;
    }

    /// Makes a port anew under its number, with the device that was opened for it or without one.
    async fn make_anew(&mut self, bridge: &Bridge, name: &str, opened: Opened) -> Result<(), ChangeError> {
        let id = self.ports.get(name).map(|port| port.id);
        let number =
            self.handle.call(move |slow| id.and_then(|id| Some(slow.state.port(id)?.ofport))).await?;
        let ofports =
            number.and_then(|n| Some((name.to_owned(), u16::try_from(n).ok()?))).into_iter().collect();
        let plan = Plan::anew(bridge, name);
        self.carry_out(plan, self.document.clone(), opened, ofports).await.map(drop)
    }

    /// Takes old ports off devices that new ones want, and starts the devices anew. When one does not start, the
    /// old ports come back.
    pub(super) async fn replace_devices(
        &mut self,
        plan: &Plan,
        later: &[(&config::Port, DeviceOptions)],
        opened: &mut Opened,
    ) -> Result<Ofports, ChangeError> {
        let wanted = |d: &Device| later.iter().any(|(_, o)| o.device() == d.name());
        let holders: Vec<String> = plan
            .remove_ports
            .iter()
            .filter(|name| self.ports.get(*name).and_then(|p| p.device.as_ref()).is_some_and(wanted))
            .cloned()
            .collect();
        let full = self.document.clone();
        let mut without = full.clone();
        for bridge in &mut without.bridges {
            bridge.ports.retain(|port| !holders.contains(&port.name));
            // Rules that name the port stay as they are, by its number, until the change is whole.
        }
        let removal = Plan { remove_ports: holders, ..Plan::default() };
        let ofports = self.carry_out(removal, without.clone(), Opened::new(), Ofports::new()).await?;
        for (port, options) in later {
            let Err(error) = self.open(port, options, opened).await else { continue };
            close_all(std::mem::take(opened));
            self.restore(without, full, ofports).await;
            return Err(error.into());
        }
        Ok(ofports)
    }

    /// Brings ports back that were removed for others that do not start. One whose old device does not start either
    /// is back without it, and tried again later.
    async fn restore(&mut self, without: Document, full: Document, ofports: Ofports) {
        let plan = Plan::new(&without, &full);
        let mut opened = Opened::new();
        let mut failed = Vec::new();
        for (_, name) in &plan.add_ports {
            let Some((_, port)) = full.port(name) else { continue };
            let Some(options) = device_options(&full, port, &self.resources.rundir) else { continue };
            if let Err(error) = self.open(port, &options, &mut opened).await {
                failed.push(error);
            }
        }
        if let Err(error) = self.carry_out(plan, full, opened, ofports).await {
            tracing::error!(target: "vxswitch::port", %error, "the earlier state cannot be restored");
        }
        for error in failed {
            self.fault(&error);
        }
    }
}
