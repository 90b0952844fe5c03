//! Mempools: where mbufs come from and go back to.

use crate::alive::Alive;
use crate::burst::Burst;
use crate::error::{Errno, Error, c_string};
use crate::lcore;
use crate::log;
use crate::mbuf::Mbuf;
use crate::sanitize;
use dpdk_sys as sys;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// Pools without a handle that could not be freed yet, see [`Pool::at_rest`]. They are tried again whenever a pool is
/// made or goes, and by [`crate::Eal::cleanup`].
static PARKED: Mutex<Vec<Pool>> = Mutex::new(Vec::new());

/// A handle of a pool of mbufs; clones are handles of the same pool. Every port that receives into the pool
/// holds one too.
///
/// After the last handle went, the pool is freed as soon as every mbuf is in it and no lcore can still be putting one
/// back. If mbufs are missing when the last handle goes, somebody still holds them: they are counted in [`leaked`] and
/// reported on stderr, and the pool stays until they came back.
#[derive(Clone)]
pub struct Mempool {
    inner: Arc<Inner>,
}

/// What [`Mempool`]'s handles share.
struct Inner {
    pool: ManuallyDrop<Pool>,
    data_room: u16,
}

/// A pool that exists. Freed by hand: it must outlive its mbufs, and EAL must outlive it.
struct Pool {
    raw: NonNull<sys::rte_mempool>,
    name: String,
    _alive: Alive,
}

// SAFETY: a pool made with flags 0 takes multi-producer, multi-consumer access; per-lcore caches are indexed by
// the calling thread's own lcore id, and threads that are no lcores go past them.
unsafe impl Send for Pool {}
// SAFETY: as for Send.
unsafe impl Sync for Pool {}

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
        free_parked();
        let alive = Alive::new()?;
        let refused = |reason, said| Error::Create { what: "mempool", name: name.to_owned(), reason, said };
        if data_room <= HEADROOM {
            return Err(refused(Errno(22), format!("buffers of {data_room} bytes hold the headroom only")));
        }
        let (raw, said) = log::listen(|| {
            // SAFETY: EAL runs (`alive`); the name is copied.
            unsafe { sys::vxs_pktmbuf_pool_create(text.as_ptr(), count, cache_size, data_room, socket) }
        });
        let raw = NonNull::new(raw).ok_or_else(|| refused(Errno::last(), said))?;
        // SAFETY: the pool's own memory: its header and the caches that follow.
        unsafe {
            let caches = sys::RTE_MAX_LCORE as usize * size_of::<sys::rte_mempool_cache>();
            sanitize::readable(raw.as_ptr(), size_of::<sys::rte_mempool>() + caches);
        }
        let pool = ManuallyDrop::new(Pool { raw, name: name.to_owned(), _alive: alive });
        Ok(Mempool { inner: Arc::new(Inner { pool, data_room }) })
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.pool.name
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
                sanitize::taken(burst.spare_raw(), n);
                burst.set_len(burst.len() + n);
            }
            ok
        }
    }

    /// Mbufs in the pool when it is full.
    pub fn capacity(&self) -> u32 {
        self.inner.pool.size()
    }

    /// Mbufs that are in the pool now, those in lcores' caches included. Exact when no thread allocates or frees.
    pub fn available(&self) -> u32 {
        self.inner.pool.available()
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
        self.inner.pool.raw.as_ptr()
    }
}

impl Pool {
    fn size(&self) -> u32 {
        // SAFETY: the pool exists, and its size does not change.
        unsafe { self.raw.as_ref() }.size
    }

    fn available(&self) -> u32 {
        // SAFETY: the pool exists; the function only reads counts.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Whether every mbuf is in the pool and nobody is still busy putting it there. With all of them at home and no
    /// handle to take one out, nothing touches the pool again.
    ///
    /// The common store counts an mbuf by the last write of a put. The cache of an lcore counts it before the mbuf is
    /// stored, so it is believed only when that lcore runs nothing, or is this thread.
    fn at_rest(&self) -> bool {
        // SAFETY: the pool exists; the function only reads counts.
        let common = unsafe { sys::vxs_mempool_common_count(self.raw.as_ptr()) };
        let cached = |id: u32| {
            // SAFETY: a pool has a cache for each possible lcore, or of size 0 and none; an idle lcore does not write.
            unsafe {
                let pool = self.raw.as_ref();
                if pool.cache_size == 0 { 0 } else { (*pool.local_cache.add(id as usize)).len }
            }
        };
        let idle = (0..sys::RTE_MAX_LCORE).filter(|id| lcore::is_idle(*id));
        common + idle.map(cached).sum::<u32>() == self.size()
    }

    /// Frees the pool, or gives it back when it is not at rest.
    fn free(self) -> Result<(), Pool> {
        if !self.at_rest() {
            return Err(self);
        }
        // SAFETY: there is no handle, and nothing touches a pool at rest any more.
        unsafe { sanitize::emptied(self.raw.as_ptr()) };
        // SAFETY: as above.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
        Ok(())
    }
}

fn parked() -> MutexGuard<'static, Vec<Pool>> {
    // Consistent after every statement, so a panic elsewhere does not spoil it.
    PARKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees the pools without a handle that have come to rest.
pub(crate) fn free_parked() {
    let mut parked = parked();
    let waiting = std::mem::take(&mut *parked);
    parked.extend(waiting.into_iter().filter_map(|pool| pool.free().err()));
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let pool = unsafe { ManuallyDrop::take(&mut self.pool) };
        let Err(pool) = pool.free() else { return };
        let size = pool.size();
        // Zero when the mbufs are in the cache of an lcore that runs.
        let missing = size.saturating_sub(pool.available());
        if missing > 0 {
            LEAKED.fetch_add(u64::from(missing), Ordering::Relaxed);
            eprintln!("mempool {:?} is leaked: {missing} of its {size} mbufs did not come back", pool.name);
        }
        parked().push(pool);
        free_parked();
    }
}

impl Mbuf {
    /// A copy of bytes and metadata out of `pool`, in as many segments as it takes; `None` when the pool is
    /// exhausted or its buffers are shorter than this packet's headroom.
    pub fn copy_to(&self, pool: &Mempool) -> Option<Mbuf> {
        self.copy_front_to(pool, u32::MAX)
    }

    /// The same of the first `length` bytes, or all if there are fewer.
    pub fn copy_front_to(&self, pool: &Mempool, length: u32) -> Option<Mbuf> {
        // rte_pktmbuf_copy keeps the headroom and does not check it against a smaller buffer.
        if self.headroom() >= usize::from(pool.data_room()) {
            return None;
        }
        // SAFETY: a valid mbuf, only read, and a pool that exists.
        let copy = unsafe { sys::rte_pktmbuf_copy(self.as_ptr(), pool.raw(), 0, length) };
        // SAFETY: a fresh mbuf that nobody else has.
        NonNull::new(copy).map(|copy| unsafe { Mbuf::from_raw(copy) })
    }
}

impl std::fmt::Debug for Mempool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mempool({:?}, {} of {} available)", self.name(), self.available(), self.capacity())
    }
}
