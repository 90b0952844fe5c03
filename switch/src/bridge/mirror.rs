//! Mirrors (OVS table `Mirror`): copies of what selected ports and VLANs carry.

use flow::program::PortId;

/// Where a mirror's copies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorOutput {
    /// `output_port`: out of this port, which carries nothing else.
    Port(PortId),
    /// `output_vlan`: flooded in this VLAN (RSPAN).
    Vlan(u16),
}

/// A mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Name, unique in its bridge.
    pub name: String,
    /// `select_all`: every packet that enters or leaves.
    pub all: bool,
    /// `select_src_port`: packets that enter by these ports.
    pub src: Vec<PortId>,
    /// `select_dst_port`: packets that leave by these ports.
    pub dst: Vec<PortId>,
    /// `select_vlan`: only packets in these VLANs; empty for all.
    pub vlans: Vec<u16>,
    /// Where the copies go.
    pub output: MirrorOutput,
}

impl Mirror {
    /// Whether `select_all` selects what enters or leaves by this port. Its own output port is no source: what is sent
    /// there would come back to it for as long as somebody behind it answers.
    pub fn selects_all(&self, port: PortId) -> bool {
        self.all && self.output != MirrorOutput::Port(port)
    }
}
