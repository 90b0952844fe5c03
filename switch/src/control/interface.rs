//! The kernel's interface behind a device, and its link: drivers ask by the name that it had, or say what they assume.

use super::sys;
use rte::port::TapInterface;

/// An interface of the kernel behind a device.
#[derive(Debug)]
pub enum Interface {
    /// A tap, wherever it is now.
    Tap(TapInterface),
    /// An interface that the device has a socket on, by its number. Moved to another network namespace, or deleted, it is lost for the
    /// device, whose socket the kernel has shut.
    Socket(u32),
}

impl Interface {
    /// The interface with this number, when it is one that the driver does not follow by itself.
    pub fn behind(driver: &str, index: u32) -> Option<Interface> {
        let name = sys::interface_name(index)?;
        match driver {
            "net_tap" => TapInterface::opened_here(&name).map(Interface::Tap),
            "net_af_packet" | "net_af_xdp" => Some(Interface::Socket(index)),
            _ => None,
        }
    }

    /// Whether the device has lost it for good.
    pub fn is_lost(&self) -> bool {
        match self {
            Interface::Tap(tap) => tap.is_gone(),
            Interface::Socket(index) => sys::interface_name(*index).is_none(),
        }
    }

    /// Whether frames pass; `None` when nobody says.
    pub fn up(&self) -> Option<bool> {
        match self {
            Interface::Tap(tap) => tap.up(),
            Interface::Socket(index) => Some(sys::interface_is_up(*index)),
        }
    }
}
