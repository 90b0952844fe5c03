//! Meters: what `meter:N` measures and limits (`ovs-ofctl(8)`, "Meter Syntax").

/// What a meter counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MeterUnit {
    /// `kbps`: kilobits a second.
    Kbps,
    /// `pktps`: packets a second.
    Pktps,
}

/// A meter with its one `drop` band, for `add-meter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeterSpec {
    /// 1 to 4294901760.
    pub id: u32,
    /// Unit of rate and burst.
    pub unit: MeterUnit,
    /// `rate` of the band: kilobits or packets a second.
    pub rate: u32,
    /// `burst_size` of the band, with the `burst` flag: kilobits or packets. Without one it is the rate's worth of a second.
    pub burst: Option<u32>,
    /// `stats` flag: kept for printing; statistics are always counted.
    pub stats: bool,
}
