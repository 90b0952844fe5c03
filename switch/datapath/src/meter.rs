//! Meters: rates that flows are held to. One table for all workers, because a rate is the switch's and not a
//! worker's; a meter is one number that workers move forward with a compare-and-swap, without a lock.
//!
//! The number is the time, in TSC cycles, at which the meter would be full again (the generic cell rate
//! algorithm, ITU-T I.371): a packet moves it on by its length over the rate, and one that would move it further
//! ahead of now than the burst takes is dropped. That is a token bucket with the burst for its depth.

use flow::ofp::{MeterSpec, MeterUnit};
use flow::program::MeterId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Meters that a switch has room for.
pub const MAX_METERS: usize = 1024;

/// Times are kept in 256ths of a cycle, so that a packet at 100 Gbit/s counts to a thousandth.
const FRACTION: u32 = 8;
/// Costs are kept in 2^-16 of those, for the same reason.
const COST_FRACTION: u32 = 16;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell {
    /// When it would be full again, in 256ths of a cycle; wraps.
    full_at: AtomicU64,
    /// Cost of a byte, or of a packet. 0 for a meter that is not in use: it lets everything pass.
    cost: AtomicU64,
    /// 1 when the cost is that of a byte.
    by_bytes: AtomicU64,
    /// How far ahead of now `full_at` may be.
    burst: AtomicU64,
}

/// All meters.
#[derive(Debug)]
pub struct Meters(Box<[Cell]>);

impl Default for Meters {
    fn default() -> Self {
        Meters((0..MAX_METERS).map(|_| Cell::default()).collect())
    }
}

impl Meters {
    /// Gives a meter rate and burst; its bucket is full then. `hz` is the frequency of the TSC.
    pub fn set(&self, id: MeterId, spec: &MeterSpec, hz: u64) {
        let Some(cell) = self.0.get(usize::from(id.0)) else { return };
        let units = f64::from(spec.rate.max(1));
        let burst = f64::from(spec.burst.unwrap_or(spec.rate).max(1));
        let second = hz as f64 * f64::from(1u32 << FRACTION);
        let (cost, by_bytes) = match spec.unit {
            MeterUnit::Kbps => (second * 8.0 / (units * 1000.0), 1),
            MeterUnit::Pktps => (second / units, 0),
        };
        cell.burst.store((second * burst / units) as u64, Relaxed);
        cell.by_bytes.store(by_bytes, Relaxed);
        cell.full_at.store(rte::cycles() << FRACTION, Relaxed);
        cell.cost.store(((cost * f64::from(1u32 << COST_FRACTION)) as u64).max(1), Relaxed);
    }

    /// Takes a meter out of use: it lets everything pass.
    pub fn clear(&self, id: MeterId) {
        if let Some(cell) = self.0.get(usize::from(id.0)) {
            cell.cost.store(0, Relaxed);
        }
    }

    /// Takes tokens for a packet of `len` bytes; false when there are not enough.
    #[inline]
    pub fn take(&self, id: MeterId, len: u32, now: u64) -> bool {
        let Some(cell) = self.0.get(usize::from(id.0)) else { return true };
        let cost = cell.cost.load(Relaxed);
        if cost == 0 {
            return true;
        }
        let units = if cell.by_bytes.load(Relaxed) == 1 { len } else { 1 };
        let cost = ((u128::from(cost) * u128::from(units)) >> COST_FRACTION) as u64;
        let (now, burst) = (now << FRACTION, cell.burst.load(Relaxed));
        let mut full_at = cell.full_at.load(Relaxed);
        loop {
            // Never further ahead than the burst: what looks so has passed, a year ago at the most.
            let ahead = full_at.wrapping_sub(now);
            let ahead = if ahead <= burst { ahead } else { 0 };
            let after = ahead.saturating_add(cost);
            if after > burst {
                return false;
            }
            match cell.full_at.compare_exchange_weak(full_at, now.wrapping_add(after), Relaxed, Relaxed) {
                Ok(_) => return true,
                // Another worker was first: look again. Each failure is some other packet's success.
                Err(other) => full_at = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000_000;

    fn meter(unit: MeterUnit, rate: u32, burst: Option<u32>) -> (Meters, u64) {
        let meters = Meters::default();
        meters.set(MeterId(3), &MeterSpec { id: 1, unit, rate, burst, stats: false }, HZ);
        let now = meters.0[3].full_at.load(Relaxed) >> FRACTION;
        (meters, now)
    }

    /// Packets that pass of one every `gap` cycles.
    fn passed(meters: &Meters, from: u64, count: u64, gap: u64, len: u32) -> usize {
        (0..count).filter(|n| meters.take(MeterId(3), len, from + n * gap)).count()
    }

    #[test]
    fn a_full_bucket_lets_its_burst_pass_and_then_the_rate() {
        let (meters, now) = meter(MeterUnit::Pktps, 1000, Some(50));
        assert_eq!(passed(&meters, now, 1000, 0, 64), 50, "all at once");
        // A second in which 10,000 come.
        let second = passed(&meters, now, 10_000, HZ / 10_000, 64);
        assert!((999..=1001).contains(&second), "{second}");
        // After a rest the bucket is full and no fuller.
        assert_eq!(passed(&meters, now + 10 * HZ, 1000, 0, 64), 50);
    }

    #[test]
    fn kilobits_count_bytes() {
        // 8,000 kbit/s is a million bytes a second; without a burst the bucket holds a second's worth.
        let (meters, now) = meter(MeterUnit::Kbps, 8000, None);
        let at_once = passed(&meters, now, 5000, 0, 1000);
        assert!((999..=1000).contains(&at_once), "{at_once}");
        let second = passed(&meters, now, 10_000, HZ / 10_000, 1000);
        assert!((999..=1001).contains(&second), "{second}");
    }

    #[test]
    fn a_meter_that_is_not_there_lets_everything_pass() {
        let (meters, now) = meter(MeterUnit::Pktps, 1, Some(1));
        assert!(meters.take(MeterId(4), 64, now));
        assert!(meters.take(MeterId(3), 64, now) && !meters.take(MeterId(3), 64, now));
        meters.clear(MeterId(3));
        assert!(meters.take(MeterId(3), 64, now));
    }

    #[test]
    fn a_hundred_gigabits_are_counted_finely_enough() {
        let (meters, now) = meter(MeterUnit::Kbps, 100_000_000, Some(1000));
        // 64 bytes at 100 Gbit/s are 5.12 ns: twice as many as fit come.
        let passed = (0..1_000_000u64).filter(|n| meters.take(MeterId(3), 64, now + n * 256 / 100)).count();
        assert!((499_000..503_000).contains(&passed), "{passed}");
    }
}
