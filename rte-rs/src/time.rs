//! The time-stamp counter, and prefetching.

use dpdk_sys as sys;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch, _rdtsc};

/// The CPU's time-stamp counter, in ticks of [`tsc_hz`]. Constant rate on the CPUs that DPDK supports.
#[inline(always)]
pub fn cycles() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 CPU and reads nothing but the counter.
    unsafe { _rdtsc() }
}

/// Ticks of [`cycles`] in a second, as EAL measured them at its start; 0 before.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads one integer that EAL writes once, before it starts any thread.
    unsafe { sys::rte_get_tsc_hz() }
}

/// Asks the CPU to fetch the cache line at `address` into all levels. Any address is allowed.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    // SAFETY: PREFETCHT0 is a hint; it does not fault and changes nothing that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}
