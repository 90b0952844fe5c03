//! Ports made of rings (`net_ring`), so that tests put packets in and take them out in one process.

use crate::alive::Alive;
use crate::device::{Device, Release, registry};
use crate::error::{Errno, Error, c_string};
use crate::ethdev::PortId;
use crate::log;
use crate::mbuf::Mbuf;
use crate::mempool::ANY_SOCKET;
use dpdk_sys as sys;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest name of a ring in bytes.
pub const MAX_RING_NAME: usize = 28;
/// Longest name for [`port`] in bytes; the ethdev's name is `net_ring_` and this.
pub const MAX_PORT_NAME: usize = 20;

/// A handle of a bounded queue of mbufs; clones are handles of the same one. Mbufs that are in it when the last
/// handle goes are freed.
#[derive(Clone)]
pub struct Ring {
    inner: Arc<Inner>,
}

struct Inner {
    raw: NonNull<sys::rte_ring>,
    _alive: Alive,
}

// SAFETY: a ring made with flags 0 takes multi-producer, multi-consumer access.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

impl Ring {
    /// Makes a ring for `size - 1` mbufs; `size` is a power of two. Names are unique in the process.
    ///
    /// # Errors
    /// [`Error::Create`] with DPDK's reason; [`Error::BadString`] for a name longer than [`MAX_RING_NAME`];
    /// [`Error::NotInitialised`].
    pub fn create(name: &str, size: u32) -> Result<Ring, Error> {
        let text = c_string("ring name", name, MAX_RING_NAME)?;
        let alive = Alive::new()?;
        let (raw, said) = log::listen(|| {
            // SAFETY: EAL runs (`alive`); the name is copied.
            unsafe { sys::rte_ring_create(text.as_ptr(), size, ANY_SOCKET, 0) }
        });
        let Some(raw) = NonNull::new(raw) else {
            return Err(Error::Create { what: "ring", name: name.to_owned(), reason: Errno::last(), said });
        };
        Ok(Ring { inner: Arc::new(Inner { raw, _alive: alive }) })
    }

    /// Puts an mbuf in, at the end.
    ///
    /// # Errors
    /// Gives it back when the ring is full.
    pub fn enqueue(&self, mbuf: Mbuf) -> Result<(), Mbuf> {
        let raw = mbuf.into_raw();
        let object = raw.as_ptr().cast::<std::ffi::c_void>();
        // SAFETY: the ring exists as long as this handle; one pointer is read.
        match unsafe { sys::vxs_ring_enqueue_burst(self.raw(), &raw const object, 1) } {
            // SAFETY: the ring did not take it, so it is still ours.
            0 => Err(unsafe { Mbuf::from_raw(raw) }),
            _ => Ok(()),
        }
    }

    /// Takes the first mbuf.
    pub fn dequeue(&self) -> Option<Mbuf> {
        self.inner.dequeue()
    }

    /// Mbufs in the ring now.
    pub fn len(&self) -> usize {
        // SAFETY: the ring exists as long as this handle.
        unsafe { sys::vxs_ring_count(self.raw()) as usize }
    }

    /// Whether the ring has no mbuf now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn raw(&self) -> *mut sys::rte_ring {
        self.inner.raw.as_ptr()
    }
}

impl Inner {
    fn dequeue(&self) -> Option<Mbuf> {
        let mut object = std::ptr::null_mut();
        // SAFETY: the ring exists; one pointer is written when there is one.
        let count = unsafe { sys::vxs_ring_dequeue_burst(self.raw.as_ptr(), &raw mut object, 1) };
        let mbuf = NonNull::new(object.cast::<sys::rte_mbuf>()).filter(|_| count == 1)?;
        // SAFETY: only `enqueue` and drivers put something in: mbufs that they own and give away.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        while let Some(mbuf) = self.dequeue() {
            drop(mbuf);
        }
        // SAFETY: the last handle, those of ports included, is going.
        unsafe { sys::rte_ring_free(self.raw.as_ptr()) };
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} mbufs)", self.len())
    }
}

/// Makes an ethdev that receives from `rx` and sends to `tx`, one queue a ring. It keeps the rings until it is
/// closed: hold clones to put packets in and take them out. Its name is `net_ring_` and `name`.
///
/// # Errors
/// [`Error::Create`] with DPDK's reason; [`Error::BadString`] for a name longer than [`MAX_PORT_NAME`];
/// [`Error::NotInitialised`].
pub fn port(name: &str, rx: &[Ring], tx: &[Ring]) -> Result<PortId, Error> {
    let text = c_string("ring port name", name, MAX_PORT_NAME)?;
    let mut registry = registry();
    let _alive = Alive::new()?;
    let raw = |rings: &[Ring]| rings.iter().map(Ring::raw).collect::<Vec<_>>();
    let (rx_raw, tx_raw) = (raw(rx), raw(tx));
    let (code, said) = log::listen(|| {
        // SAFETY: EAL runs (`_alive`), the lock keeps other probes out, the name and the arrays are copied (DPDK checks
        // their lengths), and the rings live until the port is closed (`Registry::keep_rings`).
        unsafe {
            sys::rte_eth_from_rings(
                text.as_ptr(),
                rx_raw.as_ptr(),
                rx_raw.len() as u32,
                tx_raw.as_ptr(),
                tx_raw.len() as u32,
                0,
            )
        }
    });
    let Ok(id) = u16::try_from(code) else {
        let reason = Errno::from_code(code);
        return Err(Error::Create { what: "ring port", name: name.to_owned(), reason, said });
    };
    let rings: Vec<Ring> = rx.iter().chain(tx).cloned().collect();
    registry.keep_rings(PortId(id), Box::new(rings));
    Ok(PortId(id))
}

/// Makes two ethdevs, each of which receives what the other sends, with `queues` queues a side and rings for `size - 1`
/// packets (`size` is a power of two).
///
/// # Errors
/// As [`Ring::create`] and [`port`].
pub fn pair(name_a: &str, name_b: &str, size: u32, queues: u16) -> Result<(PortId, PortId), Error> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let rings = || {
        (0..queues)
            .map(|_| Ring::create(&format!("vxs_pair_{}", NEXT.fetch_add(1, Ordering::Relaxed)), size))
            .collect::<Result<Vec<_>, Error>>()
    };
    let (a_to_b, b_to_a) = (rings()?, rings()?);
    let a = port(name_a, &b_to_a, &a_to_b)?;
    match port(name_b, &a_to_b, &b_to_a) {
        Ok(b) => Ok((a, b)),
        Err(error) => {
            Device::claim(a)?.release(Release::Remove)?;
            Err(error)
        }
    }
}
