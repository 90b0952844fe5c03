//! Which packets somebody looks at: translation has copies of them made for the slow path, and of no others.

use super::{Port, PortKind};
use flow::program::{BridgeId, PortId};

/// The packets that captures and monitors want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Ports whose received packets are wanted.
    pub received: Vec<PortId>,
    /// Ports whose sent packets are wanted.
    pub sent: Vec<PortId>,
    /// What every device receives is wanted.
    pub all_devices: bool,
    /// Bridges whose packets for controllers are wanted.
    pub controllers: Vec<BridgeId>,
    /// Those of them whose controllers also want packets that no rule matches.
    pub misses: Vec<BridgeId>,
    /// Dropped packets are wanted: programs end in an op where workers copy them.
    pub drops: bool,
}

impl Observed {
    /// Whether packets are wanted that come in by a port.
    pub fn receives(&self, id: PortId, port: &Port) -> bool {
        self.all_devices && matches!(port.kind, PortKind::Device) || self.received.contains(&id)
    }
}
