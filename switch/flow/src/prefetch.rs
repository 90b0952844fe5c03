//! The two x86 instructions that the lookups want and safe Rust cannot say, and nothing else: the
//! crate's only unsafe code. Each has a portable twin, which other targets and Miri use.
#![allow(unsafe_code)]

/// Asks for the cache line where `items[index]` begins, for reading and soon; `index` may be any.
#[inline(always)]
pub(crate) fn prefetch_at<T>(items: &[T], index: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = items.as_ptr().wrapping_add(index).cast();
        // SAFETY: a prefetch is a hint; it never faults and changes no memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (items, index);
}

/// Which of eight lanes equal `value`: bit *i* is set when `lanes[i] == value`.
#[inline(always)]
pub(crate) fn equal_lanes(lanes: &[u32; 8], value: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2", not(miri)))]
    // SAFETY: the build enables AVX2 (the `cfg` above; the daemon checks the CPU at start), and the
    // unaligned load reads exactly the 32 bytes of `lanes`.
    return unsafe {
        use core::arch::x86_64::{
            _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_movemask_ps,
            _mm256_set1_epi32,
        };
        let lanes = _mm256_loadu_si256(lanes.as_ptr().cast());
        let equal = _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(value as i32));
        _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32
    };
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2", not(miri))))]
    equal_lanes_scalar(lanes, value)
}

/// Twin of [`equal_lanes`] in plain Rust; the vectoriser makes about three times the instructions of it.
#[cfg_attr(all(target_arch = "x86_64", target_feature = "avx2", not(miri)), cfg(test))]
fn equal_lanes_scalar(lanes: &[u32; 8], value: u32) -> u32 {
    lanes.iter().enumerate().fold(0, |mask, (i, &lane)| mask | u32::from(lane == value) << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn vector_and_scalar_agree(lanes in prop::array::uniform8(0u32..4), value in 0u32..4, high in any::<u32>()) {
            let lanes = lanes.map(|lane| lane ^ high);
            prop_assert_eq!(equal_lanes(&lanes, value ^ high), equal_lanes_scalar(&lanes, value ^ high));
        }
    }

    #[test]
    fn lanes_are_numbered_from_the_first() {
        assert_eq!(equal_lanes(&[7, 0, 7, 0, 0, 0, 0, u32::MAX], 7), 0b101);
        assert_eq!(equal_lanes(&[7, 0, 7, 0, 0, 0, 0, u32::MAX], u32::MAX), 0x80);
    }
}
