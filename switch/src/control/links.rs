//! Watches the links and MTUs of devices, and tells the slow path, where groups watch them. Devices whose kernel interfaces are
//! gone are closed.

use super::app::App;
use super::device::DEFAULT_MTU;
use flow::program::PortId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often links are looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Looks until the task is aborted. Ports without a link of their own (tunnels, patches) are up all the time, and so
/// are devices that do not say.
pub async fn watch(app: Arc<App>) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What the slow path knows. A port is up when it comes, and may come back with another number.
    let mut known: BTreeMap<String, (PortId, bool)> = BTreeMap::new();
    loop {
        timer.tick().await;
        let (changed, mtus, lost) = {
            let mut switch = app.switch.lock().await;
            known.retain(|name, (id, _)| switch.ports.get(name).is_some_and(|port| port.id == *id));
            let (mut changed, mut mtus, mut lost) = (Vec::new(), Vec::new(), Vec::new());
            for (name, port) in &mut switch.ports {
                let Some(device) = &mut port.device else { continue };
                if device.is_lost() {
                    lost.push(name.clone());
                    continue;
                }
                if let Some(why) = device.finds_breach() {
                    tracing::warn!(port = %name, "connection ended: {why}");
                }
                if let Some(mtu) = device.follow_mtu() {
                    mtus.push((name.clone(), port.id, mtu));
                }
                let up = device.link().is_none_or(|link| link.up);
                let before = known.insert(name.clone(), (port.id, up)).is_none_or(|(_, before)| before);
                if before != up {
                    changed.push((name.clone(), port.id, up));
                }
            }
            (changed, mtus, lost)
        };
        for name in lost {
            app.switch.lock().await.lose(&name).await;
        }
        if changed.is_empty() && mtus.is_empty() {
            continue;
        }
        let applied = app.handle.call(move |slow| {
            for (name, id, up) in changed {
                // It may have gone meanwhile, and the number be another's.
                if slow.state.port_named(&name) == Some(id) {
                    tracing::info!(port = %name, up, "link");
                    slow.set_alive(id, up);
                }
            }
            for (name, id, mtu) in mtus {
                if slow.state.port_named(&name) == Some(id) {
                    tracing::info!(port = %name, mtu, "MTU");
                    // What is longer than the kernel's user says is received all the same, as long as it is Ethernet's.
                    slow.set_mtu(id, mtu.max(DEFAULT_MTU));
                }
            }
        });
        if applied.await.is_err() {
            return;
        }
    }
}
