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
    /// Secret of the hashes that choose the UDP source port of a tunnel packet and the bucket of a `select` group. 0, the
    /// default: one is drawn when the switch starts, and is part of the running document, so that a saved one keeps it.
    pub hash_seed: u64,
    /// Different masks that the megaflows of one in-port may have on a worker (ours). Default 64.
    pub masks_per_port: u32,
}

impl Default for DatapathSettings {
    fn default() -> Self {
        Self {
            flow_limit: 200_000,
            cache_entries: 65_536,
            max_idle: 10_000,
            upcall_queue: 4096,
            hash_seed: 0,
            masks_per_port: 64,
        }
    }
}

/// A setting: its name in the file, its value, and its smallest and largest value.
pub(crate) type Field = (&'static str, u64, (u64, u64));

/// The settings of one global table, for whoever reads, checks or writes them all.
pub(crate) trait Fields {
    /// Every setting of the table.
    fn fields(&self) -> Vec<Field>;

    /// Sets the setting of this name to a value within its range.
    fn set(&mut self, name: &str, value: u64);
}

impl Fields for DpdkSettings {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("mbufs", self.mbufs.into(), (512, 1 << 24)),
            ("mbuf-size", self.mbuf_size.into(), (1664, 16_384)),
            ("rxd", self.rxd.into(), (32, 32_768)),
            ("txd", self.txd.into(), (32, 32_768)),
        ]
    }

    fn set(&mut self, name: &str, value: u64) {
        match name {
            "mbufs" => self.mbufs = value as u32,
            "mbuf-size" => self.mbuf_size = value as u32,
            "rxd" => self.rxd = value as u32,
            "txd" => self.txd = value as u32,
            _ => {}
        }
    }
}

impl Fields for DatapathSettings {
    fn fields(&self) -> Vec<Field> {
        vec![
            ("flow-limit", self.flow_limit.into(), (1, 1 << 24)),
            ("cache-entries", self.cache_entries.into(), (64, 1 << 26)),
            ("max-idle", self.max_idle.into(), (100, 3_600_000)),
            ("upcall-queue", self.upcall_queue.into(), (16, 1 << 20)),
            ("masks-per-port", self.masks_per_port.into(), (2, 4096)),
            ("hash-seed", self.hash_seed, (0, i64::MAX as u64)),
        ]
    }

    fn set(&mut self, name: &str, value: u64) {
        match name {
            "flow-limit" => self.flow_limit = value as u32,
            "cache-entries" => self.cache_entries = value as u32,
            "max-idle" => self.max_idle = value as u32,
            "upcall-queue" => self.upcall_queue = value as u32,
            "masks-per-port" => self.masks_per_port = value as u32,
            "hash-seed" => self.hash_seed = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_can_be_set() {
        fn check(mut settings: impl Fields) {
            for (name, value, (low, high)) in settings.fields() {
                assert!((low..=high).contains(&value), "{name}: the default is within the range");
                settings.set(name, high);
                assert!(settings.fields().contains(&(name, high, (low, high))), "{name}");
            }
        }
        check(DpdkSettings::default());
        check(DatapathSettings::default());
    }
}
