//! A tap that some driver opened, followed to wherever it is moved.

use crate::error::Errno;
use crate::tap::kernel::Interface;

/// The kernel's interface of a tap, known by a copy of a descriptor of its queue: it stays the same when it is renamed or
/// moved to another network namespace. It keeps the interface, as any queue does: drop it before the device is closed.
pub struct TapInterface(Interface);

impl TapInterface {
    /// The tap of this name that this process has open; `None` when it has none.
    pub fn opened_here(name: &str) -> Option<TapInterface> {
        Interface::opened_here(name).map(TapInterface)
    }

    /// Whether it is up and has a carrier; false when it was deleted, `None` when the kernel does not say.
    pub fn up(&self) -> Option<bool> {
        match self.0.up() {
            Err(Errno::ENODEV) => Some(false),
            other => other.ok(),
        }
    }

    /// Whether it was deleted: the device will never carry a packet again.
    pub fn is_gone(&self) -> bool {
        self.0.name() == Err(Errno::ENODEV)
    }
}

impl std::fmt::Debug for TapInterface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TapInterface({:?})", self.0.name())
    }
}
