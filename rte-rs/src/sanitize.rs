//! Tells AddressSanitizer which mbufs are owned: all that Rust code reads or writes of any other is reported. DPDK's
//! libraries are not instrumented and may. Without the feature `asan` these functions are empty.

use dpdk_sys as sys;

#[cfg(feature = "asan")]
mod runtime {
    use std::ffi::c_void;

    // SAFETY: the sanitizer's runtime, which is linked with `-Zsanitizer=address`, has both with these types.
    unsafe extern "C" {
        pub fn __asan_poison_memory_region(address: *const c_void, size: usize);
        pub fn __asan_unpoison_memory_region(address: *const c_void, size: usize);
    }
}

/// Memory that once held mbufs is something else now, which Rust code reads.
///
/// # Safety
/// The memory is ours.
#[inline(always)]
#[cfg_attr(not(feature = "asan"), expect(unused_variables, reason = "empty"))]
pub(crate) unsafe fn readable<T>(address: *const T, size: usize) {
    #[cfg(feature = "asan")]
    // SAFETY: as promised by the caller.
    unsafe {
        runtime::__asan_unpoison_memory_region(address.cast(), size);
    }
}

/// A pool is about to be freed: its mbufs' memory can be anything next, which EAL fills with zeroes.
///
/// # Safety
/// The pool exists, and nobody has an mbuf of it.
#[inline(always)]
#[cfg_attr(not(feature = "asan"), expect(unused_variables, reason = "empty"))]
pub(crate) unsafe fn emptied(pool: *mut sys::rte_mempool) {
    #[cfg(feature = "asan")]
    {
        unsafe extern "C" fn free(
            _: *mut sys::rte_mempool,
            _: *mut std::ffi::c_void,
            object: *mut std::ffi::c_void,
            _: u32,
        ) {
            let mbuf = object.cast::<sys::rte_mbuf>();
            // SAFETY: an object of a pool of mbufs, whose buffer lies in the pool.
            unsafe {
                runtime::__asan_unpoison_memory_region(object, size_of::<sys::rte_mbuf>());
                runtime::__asan_unpoison_memory_region((*mbuf).buf_addr, (*mbuf).buf_len.into());
            }
        }
        // SAFETY: as promised by the caller.
        unsafe { sys::rte_mempool_obj_iter(pool, Some(free), std::ptr::null_mut()) };
    }
}

/// The packets are ours now.
///
/// # Safety
/// `mbufs` points to `count` valid mbufs that nobody else has.
#[inline(always)]
#[cfg_attr(not(feature = "asan"), expect(unused_variables, reason = "empty"))]
pub(crate) unsafe fn taken(mbufs: *const *mut sys::rte_mbuf, count: usize) {
    #[cfg(feature = "asan")]
    // SAFETY: as promised by the caller; a header is readable as soon as it is marked so.
    unsafe {
        for at in 0..count {
            let mut segment = *mbufs.add(at);
            while !segment.is_null() {
                runtime::__asan_unpoison_memory_region(segment.cast(), size_of::<sys::rte_mbuf>());
                let header = &*segment;
                runtime::__asan_unpoison_memory_region(header.buf_addr, header.buf_len.into());
                segment = header.next;
            }
        }
    }
}

/// The packets are about to be somebody else's. Before they are, because whoever gets them may hand them to another
/// thread at once, which takes them.
///
/// # Safety
/// `mbufs` points to `count` valid mbufs that are ours.
#[inline(always)]
#[cfg_attr(not(feature = "asan"), expect(unused_variables, reason = "empty"))]
pub(crate) unsafe fn given(mbufs: *const *mut sys::rte_mbuf, count: usize) {
    #[cfg(feature = "asan")]
    // SAFETY: as promised by the caller; a header is not read after it is marked.
    unsafe {
        for at in 0..count {
            let mut segment = *mbufs.add(at);
            while !segment.is_null() {
                let header = &*segment;
                let next = header.next;
                runtime::__asan_poison_memory_region(header.buf_addr, header.buf_len.into());
                runtime::__asan_poison_memory_region(segment.cast(), size_of::<sys::rte_mbuf>());
                segment = next;
            }
        }
    }
}
