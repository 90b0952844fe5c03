//! Mempools: where mbufs come from and go back to.

use crate::burst::Burst;
use crate::eal::Alive;
use crate::error::{Errno, Error, c_string};
use crate::mbuf::Mbuf;
use dpdk_sys as sys;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes in front of the data of a fresh mbuf (`RTE_PKTMBUF_HEADROOM`).
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;
/// Data room for frames up to 2,048 bytes, the headroom included (`RTE_MBUF_DEFAULT_BUF_SIZE`).
pub const DEFAULT_DATA_ROOM: u16 = sys::RTE_MBUF_DEFAULT_BUF_SIZE as u16;
/// No NUMA preference (`SOCKET_ID_ANY`).
pub const ANY_SOCKET: i32 = -1;
/// Longest name of a mempool in bytes: DPDK puts a prefix before it.
pub const MAX_NAME: usize = 25;

/// Mbufs that were missing when the last handle of their pool went, over all pools of the process.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// Mbufs that were missing when the last handle of their pool went, over all pools of this process. Zero unless
/// something lost or still holds mbufs; each case also writes a line to stderr.
pub fn leaked() -> u64 {
    LEAKED.load(Ordering::Relaxed)
}

/// A handle of a pool of mbufs; clones are handles of the same pool. Every port that receives into the pool
/// holds one too.
///
/// When the last handle goes, the pool is freed if it is full. Otherwise somebody still holds its mbufs: it is
/// leaked, counted in [`leaked`] and reported on stderr.
#[derive(Clone)]
pub struct Mempool {
    inner: Arc<Inner>,
}

struct Inner {
    raw: NonNull<sys::rte_mempool>,
    name: String,
    data_room: u16,
    alive: ManuallyDrop<Alive>,
}

// SAFETY: a pool made with flags 0 takes multi-producer, multi-consumer access; per-lcore caches are indexed by
// the calling thread's own lcore id, and threads that are no lcores go past them.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool of `count` mbufs (best 2^n - 1) with `data_room` bytes each, [`HEADROOM`] included, and a cache
    /// of `cache_size` mbufs for every lcore (at most 512 and at most `count` / 1.5), on NUMA node `socket` or
    /// [`ANY_SOCKET`].
    ///
    /// # Errors
    /// [`Error::Create`] with DPDK's reason (no memory, name taken, sizes); [`Error::BadString`] for a name longer
    /// than [`MAX_NAME`]; [`Error::NotInitialised`].
    pub fn create(
        name: &str,
        count: u32,
        cache_size: u32,
        data_room: u16,
        socket: i32,
    ) -> Result<Mempool, Error> {
        let text = c_string("mempool name", name, MAX_NAME)?;
        let alive = Alive::new()?;
        let refused = |reason| Error::Create { what: "mempool", name: name.to_owned(), reason };
        if data_room <= HEADROOM {
            return Err(refused(Errno(22)));
        }
        // SAFETY: EAL runs (`alive`); the name is copied.
        let raw =
            unsafe { sys::rte_pktmbuf_pool_create(text.as_ptr(), count, cache_size, 0, data_room, socket) };
        let raw = NonNull::new(raw).ok_or_else(|| refused(Errno::last()))?;
        let alive = ManuallyDrop::new(alive);
        Ok(Mempool { inner: Arc::new(Inner { raw, name: name.to_owned(), data_room, alive }) })
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// An empty mbuf with [`HEADROOM`] bytes of headroom, or `None` when the pool is exhausted.
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool exists as long as this handle.
        let mbuf = unsafe { sys::vxs_pktmbuf_alloc(self.raw()) };
        // SAFETY: what the pool gives out is a valid mbuf that nobody else has.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// An mbuf that holds a copy of `bytes`; `None` when the pool is exhausted or they do not fit one segment.
    pub fn alloc_with(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        mbuf.append(bytes.len())?.copy_from_slice(bytes);
        Some(mbuf)
    }

    /// Appends `n` empty mbufs to the burst: all of them and true, or none and false when the pool has fewer or the
    /// burst less room.
    #[inline]
    pub fn alloc_bulk<const N: usize>(&self, burst: &mut Burst<N>, n: usize) -> bool {
        if n > N - burst.len() {
            return false;
        }
        // SAFETY: the pool exists; there is room for n pointers behind the burst's length; on success DPDK wrote
        // n valid mbufs there that nobody else has, on failure none.
        unsafe {
            let ok = sys::vxs_pktmbuf_alloc_bulk(self.raw(), burst.spare_raw(), n as u32) == 0;
            if ok {
                burst.set_len(burst.len() + n);
            }
            ok
        }
    }

    /// Mbufs in the pool when it is full.
    pub fn capacity(&self) -> u32 {
        // SAFETY: the pool exists, and its size does not change.
        unsafe { (*self.raw()).size }
    }

    /// Mbufs that are in the pool now, those in lcores' caches included. Exact when no thread allocates or frees.
    pub fn available(&self) -> u32 {
        self.inner.available()
    }

    /// Mbufs that are out of the pool now. Exact when no thread allocates or frees.
    pub fn in_use(&self) -> u32 {
        self.capacity().saturating_sub(self.available())
    }

    /// Bytes of a segment, [`HEADROOM`] included.
    pub fn data_room(&self) -> u16 {
        self.inner.data_room
    }

    pub(crate) fn raw(&self) -> *mut sys::rte_mempool {
        self.inner.raw.as_ptr()
    }
}

impl Inner {
    fn available(&self) -> u32 {
        // SAFETY: the pool exists; the function only reads counts.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the pool exists, and its size does not change.
        let size = unsafe { self.raw.as_ref() }.size;
        let mut missing = size.saturating_sub(self.available());
        if missing == 0 && size > 0 {
            // The count is read from other lcores' caches, which raise it a moment before they store the pointer.
            // With no handle left nothing allocates, so after a pause long against that a full pool is at rest.
            std::thread::sleep(Duration::from_millis(1));
            missing = size.saturating_sub(self.available());
        }
        if missing == 0 {
            // SAFETY: the last handle is going and every mbuf is in the pool, so nothing refers to it any more.
            unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
            // SAFETY: dropped once, here. In the other case it stays, as the pool does: EAL must not be unmapped.
            unsafe { ManuallyDrop::drop(&mut self.alive) };
        } else {
            LEAKED.fetch_add(u64::from(missing), Ordering::Relaxed);
            eprintln!("mempool {:?} is leaked: {missing} of its {size} mbufs did not come back", self.name);
        }
    }
}

impl std::fmt::Debug for Mempool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mempool({:?}, {} of {} available)", self.name(), self.available(), self.capacity())
    }
}
