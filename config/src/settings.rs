//! Settings of the switch as a whole: the file's `[dpdk]` and `[datapath]` tables.

use serde::{Deserialize, Serialize};

/// The global tables of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// `[dpdk]`.
    pub dpdk: DpdkSettings,
    /// `[datapath]`.
    pub datapath: DatapathSettings,
}

/// `[dpdk]`: memory and rings. Read once, when the switch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct DpdkSettings {
    /// Packet buffers in the switch's mempool. Each costs `mbuf-size` bytes and about 250 more. Default
    /// 32767 (a power of two minus one uses a mempool best).
    pub mbufs: u32,
    /// Data room of one buffer in bytes, its headroom of 128 included. Default 2176.
    pub mbuf_size: u32,
    /// Descriptors of an RX ring, a power of two. Default 1024; a port's `n_rxq_desc` wins.
    pub rxd: u32,
    /// Descriptors of a TX ring, a power of two. Default 1024; a port's `n_txq_desc` wins.
    pub txd: u32,
}

impl Default for DpdkSettings {
    fn default() -> Self {
        Self { mbufs: 32767, mbuf_size: 2176, rxd: 1024, txd: 1024 }
    }
}

/// `[datapath]`: limits of what workers cache and of how long they keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatapathSettings {
    /// Most megaflows of one worker (OVS `other_config:flow-limit`). Default 200000.
    pub flow_limit: u32,
    /// Entries of a worker's flow cache. Default 65536.
    pub cache_entries: u32,
    /// Milliseconds after which an idle megaflow goes (OVS `other_config:max-idle`). Default 10000.
    pub max_idle: u32,
    /// Upcalls that wait for the slow path before more are dropped and counted. Default 4096.
    pub upcall_queue: u32,
}

impl Default for DatapathSettings {
    fn default() -> Self {
        Self { flow_limit: 200_000, cache_entries: 65_536, max_idle: 10_000, upcall_queue: 4096 }
    }
}

/// A setting: its name in the file, its value, and its smallest and largest value.
pub(crate) type Field<'a> = (&'static str, &'a mut u32, (u32, u32));

/// The settings of one global table, for whoever reads, checks or writes them all.
pub(crate) trait Fields {
    /// Every setting of the table.
    fn fields(&mut self) -> [Field<'_>; 4];
}

impl Fields for DpdkSettings {
    fn fields(&mut self) -> [Field<'_>; 4] {
        [
            ("mbufs", &mut self.mbufs, (512, 1 << 24)),
            ("mbuf-size", &mut self.mbuf_size, (1664, 16_384)),
            ("rxd", &mut self.rxd, (32, 32_768)),
            ("txd", &mut self.txd, (32, 32_768)),
        ]
    }
}

impl Fields for DatapathSettings {
    fn fields(&mut self) -> [Field<'_>; 4] {
        [
            ("flow-limit", &mut self.flow_limit, (1, 1 << 24)),
            ("cache-entries", &mut self.cache_entries, (64, 1 << 26)),
            ("max-idle", &mut self.max_idle, (100, 3_600_000)),
            ("upcall-queue", &mut self.upcall_queue, (16, 1 << 20)),
        ]
    }
}
