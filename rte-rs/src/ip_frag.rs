//! IP fragmentation and reassembly: `librte_ip_frag`.

use crate::alive::Alive;
use crate::burst::Burst;
use crate::error::{Errno, Error};
use crate::mbuf::Mbuf;
use crate::mempool::{ANY_SOCKET, Mempool};
use crate::offload::TxOffload;
use crate::{log, time};
use dpdk_sys as sys;
use std::ptr::NonNull;
use std::time::Duration;

/// Most fragments that a datagram is divided into: 64 KiB in packets of 576 bytes, the least that IPv4 hosts take.
pub const MAX_FRAGMENTS: usize = 128;
/// Bytes of an IPv4 header without options, of an IPv6 header, and of the fragment header behind one.
const IPV4_LEN: usize = size_of::<sys::rte_ipv4_hdr>();
const IPV6_LEN: usize = size_of::<sys::rte_ipv6_hdr>();
const FRAGMENT_LEN: usize = size_of::<sys::rte_ipv6_fragment_ext>();
/// Longest Ethernet header with tags.
const MAX_L2_LEN: usize = 64;
/// Fragments in a bucket of a table, each datagram having two.
const BUCKET: u32 = 4;

/// Divides an IP datagram, whose header begins at `l3`, into packets of at most `mtu` bytes behind what is in front of that
/// header, which each gets a copy of. They are in mbufs of their own from `pool`, in order, without offloads; IPv4 header
/// checksums and IPv6 identifications are zero. The packet itself stays as it is.
///
/// `None` when there is no IP header at `l3`, it forbids fragments (DF), there would be more than [`MAX_FRAGMENTS`], or the
/// pool has no mbufs left.
pub fn fragment(mbuf: &mut Mbuf, l3: usize, mtu: u16, pool: &Mempool) -> Option<Burst<MAX_FRAGMENTS>> {
    let version = mbuf.data().get(l3)? >> 4;
    let header_len =
        if version == 4 { IPV4_LEN.max(usize::from(mbuf.data().get(l3)? & 0xf) * 4) } else { IPV6_LEN };
    // DPDK's functions read the header, and divide by what `mtu` leaves for payload.
    if mbuf.data_len() < l3 + header_len || usize::from(mtu) < header_len + FRAGMENT_LEN + 8 {
        return None;
    }
    let divide = match version {
        4 => sys::rte_ipv4_fragment_packet,
        6 => sys::rte_ipv6_fragment_packet,
        _ => return None,
    };
    let mut l2 = [0; MAX_L2_LEN];
    l2.get_mut(..l3)?.copy_from_slice(&mbuf.data()[..l3]);
    if !mbuf.adj(l3) {
        return None;
    }
    let mut made = [std::ptr::null_mut(); MAX_FRAGMENTS];
    // SAFETY: a valid packet whose first segment begins with its IP header; room for as many pointers as is said; a pool
    // that exists. What is made refers to the packet's bytes, and is freed before this function ends.
    let count = unsafe {
        divide(mbuf.as_mut_ptr(), made.as_mut_ptr(), MAX_FRAGMENTS as u16, mtu, pool.raw(), pool.raw())
    };
    let made = made.get(..usize::try_from(count).unwrap_or(0)).unwrap_or(&[]);
    let mut out = Burst::new();
    for &fragment in made {
        // SAFETY: a valid packet, only read; then it is freed, once.
        let copy = unsafe {
            let copy = sys::rte_pktmbuf_copy(fragment, pool.raw(), 0, u32::MAX);
            sys::vxs_pktmbuf_free(fragment);
            copy
        };
        // SAFETY: a fresh mbuf that nobody else has.
        let Some(mut copy) = NonNull::new(copy).map(|copy| unsafe { Mbuf::from_raw(copy) }) else { continue };
        copy.set_offload(0, TxOffload::default());
        if let Some(room) = copy.prepend_or_move(l3) {
            room.copy_from_slice(&l2[..l3]);
            // Cannot fail: as many as are made at most.
            let _ = out.push(copy);
        }
    }
    let restored = mbuf.prepend(l3).is_some();
    debug_assert!(restored, "the bytes were taken away above");
    (!made.is_empty() && out.len() == made.len()).then_some(out)
}

/// Where the headers of an IP fragment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// Bytes in front of the IP header.
    pub l2_len: u8,
    /// Whether it is IPv6, with the fragment header right behind its header.
    pub is_ipv6: bool,
}

/// A bounded table of datagrams some of whose fragments have come.
pub struct Reassembly {
    table: NonNull<sys::rte_ip_frag_tbl>,
    discarded: Box<sys::rte_ip_frag_death_row>,
    fragments: usize,
    _alive: Alive,
}

// SAFETY: the table lies in DPDK's heap, which all threads share; it has one owner at a time.
unsafe impl Send for Reassembly {}

impl Reassembly {
    /// Room for so many datagrams, each of which may take `timeout` from its first fragment to its last.
    ///
    /// # Errors
    /// [`Error::Create`] when DPDK's heap has no memory left.
    pub fn new(datagrams: u32, timeout: Duration) -> Result<Reassembly, Error> {
        let alive = Alive::new()?;
        let cycles = (timeout.as_secs_f64() * time::tsc_hz() as f64) as u64;
        let (table, said) = log::listen(|| {
            // SAFETY: EAL runs (`alive`). That the table was made need not be in the log.
            unsafe {
                let level = sys::rte_log_get_level(sys::RTE_LOGTYPE_USER1);
                let quiet = level.min(sys::RTE_LOG_NOTICE as i32) as u32;
                sys::rte_log_set_level(sys::RTE_LOGTYPE_USER1, quiet);
                let table =
                    sys::rte_ip_frag_table_create(datagrams / BUCKET, BUCKET, datagrams, cycles, ANY_SOCKET);
                sys::rte_log_set_level(sys::RTE_LOGTYPE_USER1, level as u32);
                table
            }
        });
        let refused = || Error::Create {
            what: "reassembly table",
            name: format!("of {datagrams} datagrams"),
            reason: Errno::last(),
            said,
        };
        let table = NonNull::new(table).ok_or_else(refused)?;
        Ok(Reassembly { table, discarded: Box::default(), fragments: 0, _alive: alive })
    }

    /// Fragments that wait for others of their datagram.
    pub fn fragments(&self) -> usize {
        self.fragments
    }

    /// Adds a fragment that came at `now`, in TSC cycles, and gives the datagram when it was the last that was missing: a chain
    /// with a segment a fragment, its header that of the whole but for an IPv4 checksum, which is zero. What it lets go, because
    /// it makes no sense or its time is over, is to be taken by [`Reassembly::take_discarded`].
    pub fn add(&mut self, fragment: Mbuf, header: FragmentHeader, now: u64) -> Option<Mbuf> {
        let mut fragment = fragment;
        let Some(l3_len) = network_len(&fragment, header).filter(|_| fragment.segment_count() == 1) else {
            self.discard(fragment);
            return None;
        };
        fragment.set_offload(
            0,
            TxOffload { l2_len: header.l2_len, l3_len: l3_len as u16, ..TxOffload::default() },
        );
        self.fragments += 1;
        let raw = fragment.into_raw().as_ptr();
        // SAFETY: the table is ours; the packet is one segment with the headers that its lengths tell, all of its datagram
        // lies within it, and it is the table's from here on; there is room for all that the table can let go at once.
        let whole = unsafe {
            let ip =
                (*raw).buf_addr.cast::<u8>().add(usize::from((*raw).data_off) + usize::from(header.l2_len));
            let (table, row) = (self.table.as_ptr(), &raw mut *self.discarded);
            if header.is_ipv6 {
                let fragment = ip.add(IPV6_LEN).cast();
                sys::rte_ipv6_frag_reassemble_packet(table, row, raw, now, ip.cast(), fragment)
            } else {
                sys::rte_ipv4_frag_reassemble_packet(table, row, raw, now, ip.cast())
            }
        };
        // SAFETY: a whole packet, which the table has let go.
        let mut whole = NonNull::new(whole).map(|whole| unsafe { Mbuf::from_raw(whole) })?;
        self.fragments = self.fragments.saturating_sub(usize::from(whole.segment_count()));
        whole.set_offload(0, TxOffload::default());
        Some(whole)
    }

    /// Lets datagrams go whose time is over at `now`, in TSC cycles: as many as there is room for at once. With `u64::MAX` it
    /// is over for all.
    pub fn expire(&mut self, now: u64) {
        // SAFETY: table and list are ours.
        unsafe {
            sys::rte_ip_frag_table_del_expired_entries(self.table.as_ptr(), &raw mut *self.discarded, now);
        }
    }

    /// Gives each packet that was let go: a fragment, or several of a datagram, a segment each.
    pub fn take_discarded(&mut self, mut take: impl FnMut(Mbuf)) {
        let count = std::mem::take(&mut self.discarded.cnt) as usize;
        for &raw in self.discarded.row.iter().take(count) {
            // SAFETY: DPDK puts packets there that nobody else has any more.
            if let Some(mbuf) = NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) }) {
                self.fragments = self.fragments.saturating_sub(usize::from(mbuf.segment_count()));
                take(mbuf);
            }
        }
    }

    fn discard(&mut self, mbuf: Mbuf) {
        self.fragments += usize::from(mbuf.segment_count());
        let at = self.discarded.cnt as usize;
        if let Some(place) = self.discarded.row.get_mut(at) {
            *place = mbuf.into_raw().as_ptr();
            self.discarded.cnt += 1;
        }
    }
}

impl Drop for Reassembly {
    fn drop(&mut self) {
        self.take_discarded(drop);
        // SAFETY: the table is ours, and nobody uses it any more. It frees the packets in it.
        unsafe { sys::rte_ip_frag_table_destroy(self.table.as_ptr()) };
    }
}

impl std::fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reassembly({} fragments)", self.fragments)
    }
}

/// Bytes of a fragment's network header, the fragment header of IPv6 among them; `None` when it is no fragment that lies within
/// the packet and within the longest datagram: DPDK's functions trust the header.
fn network_len(mbuf: &Mbuf, header: FragmentHeader) -> Option<usize> {
    let ip = mbuf.data().get(header.l2_len.into()..)?;
    let be16 = |at: usize| Some(usize::from(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?])));
    // Length of the header, of the packet, and the offset in units of 8 bytes.
    let (header_len, end, offset) = if header.is_ipv6 {
        (IPV6_LEN + FRAGMENT_LEN, IPV6_LEN + be16(4)?, be16(IPV6_LEN + 2)? >> 3)
    } else {
        (usize::from(ip.first()? & 0xf) * 4, be16(2)?, be16(6)? & 0x1fff)
    };
    let is_whole = ip.len() >= end && end > header_len && header_len >= IPV4_LEN;
    let fits = u16::try_from(offset * 8 + end).is_ok();
    (is_whole && fits).then_some(header_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mempool::DEFAULT_DATA_ROOM;

    const ETHERNET: usize = 14;

    fn pool(name: &str) -> Mempool {
        crate::testing::eal();
        Mempool::create(name, 255, 0, DEFAULT_DATA_ROOM, ANY_SOCKET).expect("a pool")
    }

    /// An Ethernet frame of an IP datagram with so many bytes of payload.
    fn datagram(pool: &Mempool, is_ipv6: bool, payload: usize) -> Mbuf {
        let mut head = vec![2; ETHERNET];
        if is_ipv6 {
            head.extend([0x60, 0, 0, 0]);
            head.extend((payload as u16).to_be_bytes());
            head.extend([17, 64]);
            head.extend([1; 16]);
            head.extend([3; 16]);
        } else {
            head.extend([0x45, 0]);
            head.extend((payload as u16 + 20).to_be_bytes());
            head.extend([0x12, 0x34, 0, 0, 64, 17, 0, 0]);
            head.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let bytes: Vec<u8> = head.into_iter().chain((0..payload).map(|n| (n % 251) as u8)).collect();
        let mut chunks = bytes.chunks(1500);
        let mut mbuf = pool.alloc_with(chunks.next().expect("a header")).expect("an mbuf");
        for chunk in chunks {
            mbuf.chain(pool.alloc_with(chunk).expect("an mbuf")).expect("a short chain");
        }
        mbuf
    }

    fn bytes(mbuf: &Mbuf) -> Vec<u8> {
        mbuf.segments().flatten().copied().collect()
    }

    fn one_segment(mut mbuf: Mbuf) -> Mbuf {
        mbuf.linearize().expect("it fits");
        mbuf
    }

    #[test]
    fn what_is_divided_is_put_together_again() {
        let pool = pool("frag_whole");
        let mut table = Reassembly::new(64, Duration::from_secs(1)).expect("a table");
        for is_ipv6 in [false, true] {
            for payload in [1400, 1481, 2000, 4000, 9000] {
                let mut whole = datagram(&pool, is_ipv6, payload);
                let before = bytes(&whole);
                let mut fragments = fragment(&mut whole, ETHERNET, 1500, &pool).expect("fragments");
                assert_eq!(bytes(&whole), before, "the packet itself stays");
                for fragment in &fragments {
                    assert!(fragment.len() as usize <= ETHERNET + 1500, "{}", fragment.len());
                    assert_eq!(fragment.data()[..ETHERNET], [2; ETHERNET]);
                }
                let count = fragments.len();
                // The last one first.
                let mut all: Vec<Mbuf> = fragments.drain().map(one_segment).collect();
                all.reverse();
                let header = FragmentHeader { l2_len: ETHERNET as u8, is_ipv6 };
                let mut again = None;
                for (n, fragment) in all.into_iter().enumerate() {
                    assert!(again.is_none(), "only the last makes it whole");
                    assert_eq!(table.fragments(), n);
                    again = table.add(fragment, header, 1);
                }
                if count == 1 {
                    // Of IPv4 it is no fragment any more than it was: of IPv6 it has the header of one.
                    table.expire(u64::MAX);
                    table.take_discarded(drop);
                    continue;
                }
                let again = again.expect("it is whole");
                let mut expected = before;
                if !is_ipv6 {
                    expected[ETHERNET + 10..ETHERNET + 12].fill(0);
                }
                assert_eq!(bytes(&again), expected, "ipv6: {is_ipv6}, {payload} bytes");
                assert_eq!((again.segment_count() as usize, table.fragments()), (count, 0));
            }
        }
        drop(table);
        assert_eq!(pool.available(), pool.capacity());
    }

    #[test]
    fn what_forbids_fragments_has_none() {
        let pool = pool("frag_df");
        let mut whole = datagram(&pool, false, 3000);
        whole.data_mut()[ETHERNET + 6] = 0x40;
        assert!(fragment(&mut whole, ETHERNET, 1500, &pool).is_none());
        whole.data_mut()[ETHERNET + 6] = 0;
        assert!(fragment(&mut whole, ETHERNET, 30, &pool).is_none(), "no room for payload");
        assert!(fragment(&mut whole, ETHERNET, 36, &pool).is_none(), "too many");
        assert!(fragment(&mut whole, 4000, 1500, &pool).is_none(), "no header there");
        assert!(fragment(&mut whole, ETHERNET, 576, &pool).is_some());
        drop(whole);
        assert_eq!(pool.available(), pool.capacity());
    }

    #[test]
    fn fragments_that_lie_are_let_go() {
        let pool = pool("frag_lies");
        let mut table = Reassembly::new(8, Duration::from_secs(1)).expect("a table");
        let header = FragmentHeader { l2_len: ETHERNET as u8, is_ipv6: false };
        let make = |change: fn(&mut [u8])| {
            let mut mbuf = datagram(&pool, false, 64);
            mbuf.data_mut()[ETHERNET + 6] = 0x20;
            change(&mut mbuf.data_mut()[ETHERNET..]);
            mbuf
        };
        let lies: [fn(&mut [u8]); 5] = [
            |ip| ip[2] = 0xff,
            |ip| ip[2..4].copy_from_slice(&[0, 20]),
            |ip| {
                ip[0] = 0x4f;
                ip[2..4].copy_from_slice(&[0, 50]);
            },
            |ip| ip[0] = 0x41,
            |ip| ip[6..8].copy_from_slice(&[0x1f, 0xff]),
        ];
        for (n, lie) in lies.into_iter().enumerate() {
            assert!(table.add(make(lie), header, 1).is_none());
            let mut gone = 0;
            table.take_discarded(|_| gone += 1);
            assert_eq!((gone, table.fragments()), (1, 0), "lie {n}");
        }
        let short = pool.alloc_with(&[0; 16]).expect("an mbuf");
        assert!(table.add(short, header, 1).is_none());
        assert!(table.add(datagram(&pool, false, 3000), header, 1).is_none(), "several segments");
        let mut gone = 0;
        table.take_discarded(|_| gone += 1);
        assert_eq!(gone, 2);
        // More first fragments than there is room for: each is kept or let go, and all go by time.
        for id in 0..20_u8 {
            let mut first = make(|_| {});
            first.data_mut()[ETHERNET + 5] = id;
            assert!(table.add(first, header, 1).is_none());
        }
        table.take_discarded(|_| gone += 1);
        assert_eq!(gone + table.fragments(), 2 + 20);
        assert!(table.fragments() > 0 && table.fragments() <= 8);
        table.expire(1);
        assert!(table.fragments() > 0);
        table.expire(u64::MAX);
        table.take_discarded(|_| gone += 1);
        assert_eq!((gone, table.fragments()), (22, 0));
        drop(table);
        assert_eq!(pool.available(), pool.capacity());
    }
}
