//! What the three systems have in common.

use crate::process::{Process, cpu_nanoseconds};
use crate::topology::Topology;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How EAL gets its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// From hugepages, without files.
    Hugepages,
    /// From ordinary pages, of which it must be told how many MiB.
    Ordinary,
}

impl Memory {
    /// EAL options for so many packet buffers of usual size.
    pub fn eal(self, mbufs: usize) -> Vec<String> {
        match self {
            Memory::Hugepages => vec!["--in-memory".to_owned()],
            Memory::Ordinary => {
                let megabytes = ((mbufs * 2560) >> 20) + 192;
                vec!["--no-huge".to_owned(), "--no-shconf".to_owned(), "-m".to_owned(), megabytes.to_string()]
            }
        }
    }
}

/// What a system is started with.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Configuration and traffic.
    pub topology: &'a Topology,
    /// A directory of its own.
    pub dir: &'a Path,
    /// Memory.
    pub memory: Memory,
}

impl Setting<'_> {
    /// EAL's core options: workers on CPU 1, or on 1 and 0; the main lcore on 0, or wherever there is room.
    pub fn lcores(&self) -> [String; 2] {
        match self.topology.workers {
            1 => ["-l".to_owned(), "0,1".to_owned()],
            _ => ["--lcores".to_owned(), "0@(0,1),1@1,2@0".to_owned()],
        }
    }
}

/// Packets by port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortCount {
    /// Received from the device.
    pub rx: u64,
    /// Sent by the device.
    pub tx: u64,
    /// Freed instead of sent, on the way in or out; `None` when the system does not count them by port.
    pub dropped: Option<u64>,
}

/// A system that forwards packets.
pub trait Running {
    /// Counters of all devices by port name, as of now.
    fn ports(&mut self) -> Result<BTreeMap<String, PortCount>>;
    /// Megaflows that its workers have, as of now.
    fn flows(&mut self) -> Result<u64>;
    /// Its schedstat files and the process that they belong to.
    fn workers(&mut self) -> (&[PathBuf], &mut Process);

    /// CPU time of its workers, nanoseconds.
    fn cpu(&mut self) -> Result<u64> {
        let (threads, process) = self.workers();
        process.check()?;
        cpu_nanoseconds(threads)
    }

    /// Packets sent by the ports that count.
    fn sent(&mut self, sinks: &[&str]) -> Result<u64> {
        let ports = self.ports()?;
        Ok(sinks.iter().filter_map(|sink| ports.get(*sink)).map(|count| count.tx).sum())
    }
}

/// A switch that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// dpdk-testpmd, forward mode mac: the floor.
    Testpmd,
    /// Open vSwitch with its user space datapath.
    Ovs,
    /// Ours.
    Vxswitch,
    /// An older one of ours (`--before`).
    Before,
}

impl System {
    /// Those that are compared without being asked for, in their order in a round.
    pub const ALL: [System; 3] = [System::Testpmd, System::Ovs, System::Vxswitch];

    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            System::Testpmd => "testpmd mac",
            System::Ovs => "OVS-DPDK",
            System::Vxswitch => "vxswitch",
            System::Before => "before",
        }
    }
}
