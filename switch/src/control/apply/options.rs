//! What a valid document says of the devices, tunnels and addresses of its ports and bridges.

use crate::control::device::DeviceOptions;
use config::{
    Bridge, Document, DpdkOptions, PatchOptions, PortKind, SystemOptions, TapOptions, TunnelOptions,
    VhostOptions,
};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use wire::addr::MacAddr;

/// The typed options of a device port; `None` for other ports. The document is valid, and sockets that the switch makes lie in
/// `rundir`.
pub fn device_options(document: &Document, port: &config::Port, rundir: &Path) -> Option<DeviceOptions> {
    match port.port_kind() {
        Ok(PortKind::Dpdk) => DpdkOptions::parse(&port.options).ok().map(DeviceOptions::Dpdk),
        Ok(PortKind::DpdkVhostUserClient) => {
            let options = VhostOptions::parse_client(&port.options).ok()?;
            Some(DeviceOptions::Vhost { path: options.path.clone()?, options })
        }
        Ok(PortKind::DpdkVhostUser) => {
            let options = VhostOptions::parse_server(&port.options).ok()?;
            let path = rundir.join(document.vhost_sock_dir()).join(&port.name);
            Some(DeviceOptions::Vhost { path: path.to_string_lossy().into_owned(), options })
        }
        Ok(PortKind::Internal) => {
            Some(DeviceOptions::Tap { name: port.name.clone(), options: TapOptions::default(), up: true })
        }
        Ok(PortKind::System) => {
            let options = SystemOptions::parse(&port.options).ok()?;
            Some(DeviceOptions::System { interface: port.name.clone(), options })
        }
        Ok(PortKind::Tap) => {
            let options = TapOptions::parse(&port.options).ok()?;
            Some(DeviceOptions::Tap { name: port.name.clone(), options, up: true })
        }
        _ => None,
    }
}

/// A bridge's LOCAL port as one that has a device of the kernel. Whoever gives the device addresses sets it up, as with Open
/// vSwitch.
pub(super) fn local_port(bridge: &Bridge) -> config::Port {
    let (name, mac) = (bridge.name.clone(), Some(bridge_mac(bridge)));
    config::Port { name, kind: "internal".into(), mac, mtu: bridge.mtu, ..config::Port::default() }
}

pub(super) fn local_options(name: &str) -> DeviceOptions {
    DeviceOptions::Tap { name: name.to_owned(), options: TapOptions::default(), up: false }
}

/// The typed options of a patch port; `None` for other ports. The document is valid.
pub fn patch_options(port: &config::Port) -> Option<PatchOptions> {
    if port.kind == "patch" { PatchOptions::parse(&port.options).ok() } else { None }
}

/// The typed options of a tunnel port; `None` for other ports. The document is valid.
pub fn tunnel_options(port: &config::Port) -> Option<TunnelOptions> {
    TunnelOptions::of(port)?.ok()
}

/// The bridge's own MAC: as configured, else a local one that is the same after every start and different on every
/// machine, bridge and VTEP address.
pub(super) fn bridge_mac(bridge: &Bridge) -> MacAddr {
    bridge.mac().unwrap_or_else(|| {
        let machine = std::fs::read_to_string("/etc/machine-id")
            .or_else(|_| std::fs::read_to_string("/etc/hostname"))
            .unwrap_or_default();
        derived_mac(&machine, &bridge.name, bridge.address.first().map(ToString::to_string).as_deref())
    })
}

fn derived_mac(machine: &str, bridge: &str, address: Option<&str>) -> MacAddr {
    let mut hasher = DefaultHasher::new();
    (machine, bridge, address).hash(&mut hasher);
    let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
    MacAddr([0x02, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_addresses_are_local_stable_and_different() {
        let mac = derived_mac("m", "br0", None);
        assert_eq!(mac, derived_mac("m", "br0", None));
        assert_eq!(mac.0[0], 2);
        assert_ne!(mac, derived_mac("m", "br1", None));
        assert_ne!(mac, derived_mac("n", "br0", None));
        assert_ne!(mac, derived_mac("m", "br0", Some("192.168.1.1/24")));
    }
}
