//! Ports as OpenFlow describes and counts them.

use crate::bridge::{Bridge, PortConfig, SwitchState};
use crate::control::app::App;
use crate::control::apply::Switch;
use crate::control::device::Device;
use crate::control::handlers::views::interface_rows;
use api::InterfaceRow;
use flow::ofp::PORT_LOCAL;
use openflow::{LINK_DOWN, LIVE, PORT_DOWN, Port, PortFeatures, PortStats};
use rte::port::LinkSettings;
use std::collections::BTreeMap;
use std::time::Duration;

/// What devices say of themselves: nothing where nobody asked for ports.
#[derive(Debug, Default)]
pub struct Devices {
    rows: Vec<InterfaceRow>,
    /// Their links, by port, and how long the port has been there.
    running: BTreeMap<String, (Option<LinkSettings>, Duration)>,
}

impl Devices {
    /// Asks the devices of all ports.
    pub async fn of(app: &App, switch: &Switch) -> Devices {
        let running = switch.ports.iter().map(|(name, port)| {
            let settings = port.device.as_ref().and_then(Device::link_settings);
            (name.clone(), (settings, port.since.elapsed()))
        });
        Devices { running: running.collect(), rows: interface_rows(app, switch).await.unwrap_or_default() }
    }

    fn row(&self, port: &str) -> Option<&InterfaceRow> {
        self.rows.iter().find(|row| row.name == port)
    }

    /// The ports of a bridge, LOCAL among them.
    pub fn ports(&self, state: &SwitchState, bridge: &Bridge) -> Vec<Port> {
        let ids = bridge.ports.iter().map(|(number, id)| (*number, *id)).chain([(PORT_LOCAL, bridge.local)]);
        let port = |(number, id)| {
            let port = state.port(id)?;
            let row = self.row(&port.name);
            let settings =
                self.running.get(&port.name).and_then(|(settings, _)| *settings).unwrap_or_default();
            let is_down = row.map_or(!port.alive, |row| row.link_state == "down");
            let is_used = !port.config.has(PortConfig::DOWN) && port.bfd.is_none_or(|bfd| bfd.forwarding);
            let supported = PortFeatures(features(settings.supported));
            Some(Port {
                number,
                hw_addr: hw_addr(row.and_then(|row| row.mac_in_use.as_deref()), bridge),
                name: port.name.clone(),
                // A device of the kernel's that is down there is down, whoever said so.
                config: port.config.0
                    | if row.is_some_and(|row| row.admin_state == "down") { PORT_DOWN } else { 0 },
                state: if is_down {
                    LINK_DOWN
                } else if is_used {
                    LIVE
                } else {
                    0
                },
                curr: current(&settings),
                advertised: PortFeatures(features(settings.advertised)),
                supported,
                curr_speed: settings.speed.unwrap_or(0).saturating_mul(KBPS),
                max_speed: supported.mbps().saturating_mul(KBPS),
                ..Port::default()
            })
        };
        ids.filter_map(port).collect()
    }

    /// What the ports of a bridge have counted.
    pub fn stats(&self, state: &SwitchState, bridge: &Bridge) -> Vec<PortStats> {
        self.ports(state, bridge).iter().map(|port| self.stats_of(port)).collect()
    }

    fn stats_of(&self, port: &Port) -> PortStats {
        let row = self.row(&port.name);
        let counted = |name: &str| row.and_then(|row| row.statistics.get(name)).copied();
        // As in Open vSwitch a device has none of the errors that it does not count; a tunnel or a patch knows nothing of them.
        let unknown = if row.is_some_and(|row| row.driver.is_some()) { 0 } else { u64::MAX };
        let count = |name: &str| counted(name).unwrap_or(u64::MAX);
        let errors = |name: &str| counted(name).unwrap_or(unknown);
        PortStats {
            number: port.number,
            rx_packets: count("rx_packets"),
            tx_packets: count("tx_packets"),
            rx_bytes: count("rx_bytes"),
            tx_bytes: count("tx_bytes"),
            rx_dropped: count("rx_dropped"),
            tx_dropped: count("tx_dropped"),
            rx_errors: count("rx_errors"),
            tx_errors: count("tx_errors"),
            rx_frame_err: errors("rx_frame_err"),
            rx_over_err: errors("rx_over_err"),
            rx_crc_err: errors("rx_crc_err"),
            collisions: errors("collisions"),
            duration: self.running.get(&port.name).map_or(Duration::ZERO, |(_, duration)| *duration),
        }
    }
}

/// Kbit/s of a Mbit/s.
const KBPS: u32 = 1000;

/// A MAC address of a row, or the bridge's.
fn hw_addr(text: Option<&str>, bridge: &Bridge) -> [u8; 6] {
    text.and_then(|text| text.parse::<wire::addr::MacAddr>().ok()).map_or(bridge.mac.0, |mac| mac.0)
}

/// What a link is now.
fn current(link: &LinkSettings) -> PortFeatures {
    /// `PORT_TP` and `PORT_FIBRE` of ethtool.
    const MEDIA: [(u8, u32); 2] = [(0, PortFeatures::COPPER), (3, PortFeatures::FIBER)];
    let speed = PortFeatures::of_speed(link.speed.unwrap_or(0), link.full_duplex);
    let medium = MEDIA.iter().find(|(medium, _)| link.medium == Some(*medium)).map_or(0, |(_, bit)| *bit);
    PortFeatures(speed.0 | medium | if link.autoneg { PortFeatures::AUTONEG } else { 0 })
}

/// OpenFlow's bits for ethtool's of `SUPPORTED_*` and `ADVERTISED_*`, those that both have.
fn features(modes: u32) -> u32 {
    /// From 10baseT_Half on, speeds up to 1 Gbit/s have the same bits.
    const SAME: u32 = 0x3f;
    const OTHERS: [(u32, u32); 6] = [
        (1 << 6, PortFeatures::AUTONEG),
        (1 << 7, PortFeatures::COPPER),
        (1 << 10, PortFeatures::FIBER),
        (1 << 12, PortFeatures::TEN_GB_FD),
        (1 << 13, PortFeatures::PAUSE),
        (1 << 14, PortFeatures::PAUSE_ASYM),
    ];
    OTHERS.iter().filter(|(mode, _)| modes & mode != 0).fold(modes & SAME, |bits, (_, bit)| bits | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_ethtool_says() {
        let tap = LinkSettings {
            speed: Some(10_000),
            full_duplex: true,
            medium: Some(0),
            ..LinkSettings::default()
        };
        assert_eq!(current(&tap).0, PortFeatures::TEN_GB_FD | PortFeatures::COPPER);
        let old =
            LinkSettings { speed: Some(100), medium: Some(3), autoneg: true, ..LinkSettings::default() };
        assert_eq!(current(&old).0, 1 << 2 | PortFeatures::FIBER | PortFeatures::AUTONEG);
        assert_eq!(current(&LinkSettings::default()).0, 0, "a port without a device");
        // SUPPORTED_1000baseT_Full, SUPPORTED_TP, SUPPORTED_Autoneg, SUPPORTED_10000baseT_Full.
        let supported = PortFeatures(features(1 << 5 | 1 << 7 | 1 << 6 | 1 << 12));
        let bits = 1 << 5 | PortFeatures::COPPER | PortFeatures::AUTONEG | PortFeatures::TEN_GB_FD;
        assert_eq!((supported.0, supported.mbps()), (bits, 10_000));
    }
}
