//! What `net_af_xdp` of DPDK 22.11 leaves behind when its port is closed: it unmaps its AF_XDP sockets' rings, but does not
//! close the sockets, which stay bound to their queues of the interface (the next port there would be refused with `EBUSY`),
//! and does not free the buffers that were in the rings.
//!
//! So sockets that appear while a port's queues are set up are noted. Before the port is closed the buffers in their rings are
//! read; when it is closed and the kernel writes to them no more, they go back to their pool, and the sockets are closed.

use crate::mempool::Mempool;
use dpdk_sys as sys;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering::Acquire};
use std::time::Duration;

/// The driver's name.
pub(crate) const DRIVER: &str = "net_af_xdp";
/// How long the kernel may take to let go of an interface's queue after its socket was closed: a worker of its own does it.
const UNBIND: Duration = Duration::from_millis(100);
/// Bits of a descriptor's address that are the buffer's; those above are an offset in it.
const ADDRESS: u64 = (1 << 48) - 1;
/// The driver rounds the pool's memory to pages.
const PAGE: usize = 4096;

/// An AF_XDP socket of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Socket {
    inode: u64,
    file: RawFd,
}

/// Buffers that were in the rings of a port's sockets, and the sockets.
pub(crate) struct Leftover {
    buffers: BTreeSet<usize>,
    sockets: Vec<Socket>,
}

/// All AF_XDP sockets of this process.
pub(crate) fn sockets() -> BTreeSet<Socket> {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let socket = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        let file = entry.file_name().to_str()?.parse().ok()?;
        (option(file, libc::SOL_SOCKET, libc::SO_DOMAIN, 0) == Some(libc::AF_XDP))
            .then_some(Socket { inode, file })
    };
    files.flatten().filter_map(socket).collect()
}

/// Reads the rings of a port's sockets. `rx_desc` is how many descriptors its RX and TX rings have, `pool` what its buffers are
/// from.
pub(crate) fn gather(sockets: Vec<Socket>, rx_desc: u16, pool: &Mempool) -> Leftover {
    let mut buffers = BTreeSet::new();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for socket in &sockets {
        let empty = libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
        let empty = libc::xdp_mmap_offsets { rx: empty, tx: empty, fr: empty, cr: empty };
        let Some(offsets) = option(socket.file, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, empty) else {
            continue;
        };
        // What the kernel moves meanwhile goes from the fill ring to the RX ring, and from the TX ring to the completion ring:
        // read in this order, nothing is missed, and what is seen twice is one element of the set.
        let rings = [
            (libc::XDP_UMEM_PGOFF_FILL_RING, offsets.fr, false),
            (libc::XDP_PGOFF_RX_RING as u64, offsets.rx, true),
            (libc::XDP_PGOFF_TX_RING as u64, offsets.tx, true),
            (libc::XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, false),
        ];
        for (offset, layout, descriptors) in rings {
            if let Some((start, length)) = mapping(&maps, socket.inode, offset) {
                // SAFETY: the driver has mapped the ring, and does not use it: the port is stopped, and its queues are gone.
                let addresses = unsafe { ring(start, length, &layout, descriptors, rx_desc.into()) };
                buffers.extend(addresses.into_iter().filter_map(|address| buffer(pool, address)));
            }
        }
    }
    Leftover { buffers, sockets }
}

impl Leftover {
    /// Frees the buffers, and closes those sockets that are still open.
    ///
    /// # Safety
    /// The port that they are from is closed.
    pub(crate) unsafe fn release(self) {
        let open = sockets();
        for socket in self.sockets.iter().filter(|socket| open.contains(socket)) {
            // SAFETY: it is the driver's, which has forgotten it: nobody else has its number.
            unsafe { libc::close(socket.file) };
        }
        let mut buffers: Vec<*mut sys::rte_mbuf> =
            self.buffers.iter().map(|address| std::ptr::with_exposed_provenance_mut(*address)).collect();
        // SAFETY: mbufs of a pool that were in a ring, so that nobody has them; the kernel does not write to them, as the
        // driver has deleted the socket.
        unsafe { sys::rte_pktmbuf_free_bulk(buffers.as_mut_ptr(), buffers.len() as u32) };
        std::thread::sleep(UNBIND);
    }
}

/// A socket's option, whose type is `T`; `None` when it has none.
fn option<T: Copy>(file: RawFd, level: i32, name: i32, mut value: T) -> Option<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`; callers ask for integers and structures of them.
    let code = unsafe { libc::getsockopt(file, level, name, (&raw mut value).cast(), &raw mut length) };
    (code == 0 && length as usize == size_of::<T>()).then_some(value)
}

/// Where a socket is mapped at an offset, and how long.
fn mapping(maps: &str, inode: u64, offset: u64) -> Option<(usize, usize)> {
    maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (found, number) = (words.nth(1)?, words.nth(1)?);
        let same = u64::from_str_radix(found, 16) == Ok(offset) && number.parse() == Ok(inode);
        let start = usize::from_str_radix(start, 16).ok().filter(|_| same)?;
        Some((start, usize::from_str_radix(end, 16).ok()? - start))
    })
}

/// Addresses in a ring of descriptors, or in one of addresses (fill and completion).
///
/// # Safety
/// `length` bytes are mapped at `start` and have a ring with this layout.
unsafe fn ring(
    start: usize,
    length: usize,
    layout: &libc::xdp_ring_offset,
    descriptors: bool,
    rx_desc: usize,
) -> Vec<u64> {
    let word = size_of::<u64>();
    let step = if descriptors { size_of::<libc::xdp_desc>() } else { word };
    let (producer, consumer, first) =
        (layout.producer as usize, layout.consumer as usize, layout.desc as usize);
    if producer.max(consumer).max(first) + word > length {
        return Vec::new();
    }
    // The length of a mapping is rounded up to pages, the number of entries is a power of two.
    let room = (length - first) / step;
    let entries = if descriptors { rx_desc.next_power_of_two() } else { 1 << room.ilog2() };
    if entries > room {
        return Vec::new();
    }
    // SAFETY: inside of the mapping; the kernel writes these words, too.
    let counter =
        |at: usize| unsafe { (*std::ptr::with_exposed_provenance::<AtomicU32>(start + at)).load(Acquire) };
    let (from, to) = (counter(consumer), counter(producer));
    let count = to.wrapping_sub(from);
    if count as usize > entries {
        return Vec::new();
    }
    (0..count)
        .map(|n| {
            let at = start + first + (from.wrapping_add(n) as usize & (entries - 1)) * step;
            // SAFETY: the index is below the number of entries, which are inside of the mapping; an address comes first in a
            // descriptor.
            unsafe { std::ptr::with_exposed_provenance::<u64>(at).read_volatile() }
        })
        .collect()
}

/// The pool's buffer that the driver gave the kernel as this address: its distance from the page where the pool's memory begins,
/// without the element's header.
fn buffer(pool: &Mempool, address: u64) -> Option<usize> {
    // SAFETY: a pool has memory; the driver gives the kernel the first chunk, and needs it to be the only one.
    let (start, length, header, element) = unsafe {
        let pool = &*pool.raw();
        let chunk = pool.mem_list.stqh_first.as_ref()?;
        (chunk.addr.expose_provenance(), chunk.len, pool.header_size as usize, pool.elt_size as usize)
    };
    let at = (start & !(PAGE - 1)) + (address & ADDRESS) as usize + header;
    let inside = at >= start + header && at + element <= start + length;
    // SAFETY: inside of the pool's memory, and only compared.
    let own = inside
        && unsafe {
            let mbuf = std::ptr::with_exposed_provenance::<sys::rte_mbuf>(at);
            (&raw const (*mbuf).pool).read_unaligned() == pool.raw()
        };
    own.then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found_among_the_mappings_of_a_socket() {
        let maps = "\
            7ffb7f373000-7ffb7f378000 rw-s 80000000 00:09 146372                     socket:[146372]\n\
            7ffb7f378000-7ffb7f37d000 rw-s 00000000 00:09 146372                     socket:[146372]\n\
            7ffb7f382000-7ffb7f38b000 rw-s 100000000 00:09 146372                    socket:[146372]\n\
            7ffb7f38b000-7ffb7f38c000 r--p 100000000 00:09 1 /lib/x\n";
        assert_eq!(mapping(maps, 146_372, libc::XDP_UMEM_PGOFF_FILL_RING), Some((0x7ffb_7f38_2000, 0x9000)));
        assert_eq!(mapping(maps, 146_372, 0), Some((0x7ffb_7f37_8000, 0x5000)));
        assert_eq!(mapping(maps, 146_372, libc::XDP_UMEM_PGOFF_COMPLETION_RING), None);
        assert_eq!(mapping(maps, 2, 0), None);
    }

    #[test]
    fn a_ring_is_read_from_its_consumer_to_its_producer() {
        let layout = libc::xdp_ring_offset { producer: 0, consumer: 64, desc: 320, flags: 72 };
        // A page's room of 472 addresses: 256 entries.
        let mut page = vec![0_u64; 512];
        (page[0], page[8]) = (u64::from(1_u32), u64::from(u32::MAX));
        for (n, entry) in page[40..].iter_mut().enumerate() {
            *entry = n as u64;
        }
        let start = page.as_ptr().expose_provenance();
        // SAFETY: the page is such a ring.
        assert_eq!(unsafe { ring(start, 4096, &layout, false, 0) }, [255, 0]);
        // Descriptors have two words.
        // SAFETY: as above.
        assert_eq!(unsafe { ring(start, 4096, &layout, true, 128) }, [254, 0]);
        // More than it has room for: no such ring.
        page[0] = 1000;
        // SAFETY: as above.
        assert!(unsafe { ring(page.as_ptr().expose_provenance(), 4096, &layout, false, 0) }.is_empty());
    }
}
