//! The packet buffer. The only file that looks into `struct rte_mbuf`.
//!
//! An [`Mbuf`] may be a chain of segments; `data` and `prepend` work on the first, `append` and `trim` on the last.
//! Invariant, kept by DPDK's drivers and by every function here: `data_off + data_len <= buf_len` in each segment,
//! `pkt_len` is the sum of all `data_len`, `nb_segs` counts the chain.

use crate::error::Error;
use crate::mempool::HEADROOM;
use crate::offload::TxOffload;
use crate::sanitize;
use crate::time;
use dpdk_sys as sys;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// A packet, exclusively owned. Dropping it gives it back to its pool; free many at once through
/// [`crate::Burst`], which is cheaper.
///
/// Exclusive means that nothing else reads or writes the buffer: nothing in this crate raises reference counts, drivers
/// hand over mbufs for good, and what a driver may have handed to several ports is copied when it is received.
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<sys::rte_mbuf>,
}

// SAFETY: an mbuf is plain memory that one owner uses at a time, and its pool takes it back from any thread. It is
// not Sync only because nothing needs that.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// Takes ownership of an mbuf.
    ///
    /// # Safety
    /// `raw` is a valid packet mbuf that nothing else owns, refers to or frees.
    #[inline(always)]
    pub unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Mbuf {
        // SAFETY: one valid mbuf that is ours.
        unsafe { sanitize::taken((&raw const raw).cast(), 1) };
        Mbuf { raw }
    }

    /// Gives up ownership: whoever gets the pointer has to free the mbuf.
    #[inline(always)]
    pub fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        let raw = self.raw;
        std::mem::forget(self);
        // SAFETY: one valid mbuf that was ours.
        unsafe { sanitize::given((&raw const raw).cast(), 1) };
        raw
    }

    /// For DPDK's functions that only read it.
    #[inline(always)]
    pub(crate) fn as_ptr(&self) -> *const sys::rte_mbuf {
        self.raw.as_ptr()
    }

    /// For DPDK's functions that work on a packet which stays ours.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut sys::rte_mbuf {
        self.raw.as_ptr()
    }

    /// The port that each segment came by, as [`Mbuf::set_port`] or the driver said.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.headers().map(|header| header.port)
    }

    #[inline(always)]
    fn header(&self) -> &sys::rte_mbuf {
        // SAFETY: valid and exclusively ours as long as self.
        unsafe { self.raw.as_ref() }
    }

    #[inline(always)]
    fn header_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: valid and exclusively ours as long as self.
        unsafe { self.raw.as_mut() }
    }

    /// Bytes of the packet, all segments.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.header().pkt_len
    }

    /// Whether the packet has no byte.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in the first segment.
    #[inline(always)]
    pub fn data_len(&self) -> usize {
        self.header().data_len.into()
    }

    /// Bytes of the first segment.
    #[inline(always)]
    pub fn data(&self) -> &[u8] {
        segment_data(self.header())
    }

    /// Bytes of the first segment.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        // SAFETY: data_off + data_len <= buf_len, so the range lies in the buffer, which is mapped, initialised
        // (EAL zeroes its memory) and exclusively ours as long as self.
        unsafe { std::slice::from_raw_parts_mut(data_start(header), header.data_len.into()) }
    }

    /// The bytes of the first segment, to change, and those of the others.
    #[inline]
    pub fn data_and_segments(&mut self) -> (&mut [u8], impl Iterator<Item = &[u8]>) {
        let header = self.header();
        let next = header.next;
        // SAFETY: as for `data_mut`.
        let first =
            unsafe { std::slice::from_raw_parts_mut(data_start(header), usize::from(header.data_len)) };
        // SAFETY: `next` is null or a segment of the chain, which lives as long as the first one; segments do not share
        // buffers, so nothing here overlaps with `first`.
        let rest =
            std::iter::successors(unsafe { next.as_ref() }, |segment| unsafe { segment.next.as_ref() });
        (first, rest.map(segment_data))
    }

    /// The bytes segment by segment; their lengths add up to [`Mbuf::len`].
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.headers().map(segment_data)
    }

    /// The segments' headers.
    #[inline]
    fn headers(&self) -> impl Iterator<Item = &sys::rte_mbuf> {
        // SAFETY: `next` is null or a segment of the chain, which lives as long as the first one.
        std::iter::successors(Some(self.header()), |segment| unsafe { segment.next.as_ref() })
    }

    /// Number of segments, 1 for all but large packets on ports that scatter.
    #[inline(always)]
    pub fn segment_count(&self) -> u16 {
        self.header().nb_segs
    }

    /// Moves all bytes into the first segment, so that [`Mbuf::data`] is the packet. Costs nothing when it is
    /// already. Where the first segment's tailroom is too short, its headroom is used: ask [`Mbuf::headroom`] anew.
    ///
    /// # Errors
    /// [`Error::TooLong`] when the packet is longer than the first segment's buffer; it is unchanged then.
    #[inline]
    pub fn linearize(&mut self) -> Result<(), Error> {
        if self.segment_count() == 1 { Ok(()) } else { self.linearize_chain() }
    }

    #[cold]
    fn linearize_chain(&mut self) -> Result<(), Error> {
        let len = self.len();
        let room = usize::from(self.header().buf_len);
        let too_long = Error::TooLong { len, room };
        if len as usize > room {
            return Err(too_long);
        }
        // rte_pktmbuf_linearize uses the tailroom only, and a driver fills a segment before it starts the next one.
        let data_len = self.data_len();
        let missing = (len as usize - data_len).saturating_sub(segment_tailroom(self.header()));
        if missing > 0 {
            // The bytes fit the buffer, so what the tailroom lacks the headroom has.
            let moved_up = self.prepend(missing).is_some();
            debug_assert!(moved_up, "missing <= headroom");
            self.data_mut().copy_within(missing.., 0);
            let header = self.header_mut();
            header.data_len -= missing as u16;
            header.pkt_len -= missing as u32;
        }
        // SAFETY: a valid mbuf with room for the rest of the chain behind its data; DPDK checks that again.
        match unsafe { sys::vxs_pktmbuf_linearize(self.raw.as_ptr()) } {
            0 => Ok(()),
            _ => Err(too_long),
        }
    }

    /// Free bytes before the data.
    #[inline(always)]
    pub fn headroom(&self) -> usize {
        self.header().data_off.into()
    }

    /// Free bytes after the data of the last segment.
    #[inline(always)]
    pub fn tailroom(&self) -> usize {
        // SAFETY: `last` gives a segment of this chain.
        segment_tailroom(unsafe { self.last().as_ref() })
    }

    /// Adds `n` bytes, of any content, before the data and returns them; `None` when the headroom is smaller.
    #[inline(always)]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let header = self.header_mut();
        if n > usize::from(header.data_off) {
            return None;
        }
        // n <= data_off, so both sums stay within buf_len and its u16.
        header.data_off -= n as u16;
        header.data_len += n as u16;
        header.pkt_len += n as u32;
        Some(&mut self.data_mut()[..n])
    }

    /// [`Mbuf::prepend`] that moves the first segment's data back when the headroom is smaller; `None` when the segment's
    /// buffer has no room for the bytes.
    #[inline(always)]
    pub fn prepend_or_move(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.headroom() && !self.move_back(n) {
            return None;
        }
        self.prepend(n)
    }

    /// Moves the first segment's data back so that there are `n` bytes of headroom, and as many as a new mbuf has for what
    /// comes next, if there is room for them.
    #[cold]
    fn move_back(&mut self, n: usize) -> bool {
        let len = self.data_len();
        let header = self.header_mut();
        let most = usize::from(header.buf_len).saturating_sub(len);
        let shift = most.min(n + HEADROOM as usize).saturating_sub(header.data_off.into());
        if most < n {
            return false;
        }
        // The data ends within the buffer wherever it begins up to `most`.
        header.data_len += shift as u16;
        self.data_mut().copy_within(..len, shift);
        let header = self.header_mut();
        header.data_len -= shift as u16;
        header.data_off += shift as u16;
        true
    }

    /// [`Mbuf::prepend`] for a number of bytes that is known when compiled.
    #[inline(always)]
    pub fn prepend_array<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        let header = self.header_mut();
        if N > usize::from(header.data_off) {
            return None;
        }
        // N <= data_off, so both sums stay within buf_len and its u16.
        header.data_off -= N as u16;
        header.data_len += N as u16;
        header.pkt_len += N as u32;
        let start = data_start(header);
        // SAFETY: the data begins with N bytes that were headroom: they lie in the buffer, which is mapped,
        // initialised (EAL zeroes its memory) and exclusively ours as long as self.
        Some(unsafe { &mut *start.cast::<[u8; N]>() })
    }

    /// Adds `n` bytes, of any content, at the end and returns them; `None` when the tailroom is smaller.
    #[inline(always)]
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        if n > self.tailroom() {
            return None;
        }
        let mut last = self.last();
        self.header_mut().pkt_len += n as u32;
        // SAFETY: `last` is a segment of this chain, borrowed through `&mut self` for the whole of this function and
        // the result; the header above is not used any more. The n bytes end within buf_len: n <= tailroom.
        unsafe {
            let last = last.as_mut();
            let end = data_start(last).add(last.data_len.into());
            last.data_len += n as u16;
            Some(std::slice::from_raw_parts_mut(end, n))
        }
    }

    /// Adds the segments of `tail` behind its own. What `tail` says of its packet (port, offloads) is forgotten.
    ///
    /// # Errors
    /// Gives `tail` back when the chain would have more than 65,535 segments or more than 4 GiB.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let (count, len) = (tail.segment_count(), tail.len());
        let header = self.header();
        let (Some(count), Some(len)) = (header.nb_segs.checked_add(count), header.pkt_len.checked_add(len))
        else {
            return Err(tail);
        };
        let mut last = self.last();
        // Not given away: it stays ours, as a part.
        let tail = std::mem::ManuallyDrop::new(tail).raw;
        // SAFETY: `last` is a segment of this chain, exclusively ours, and the last: it has no next one. `tail` is
        // owned by nobody but this chain from here on.
        unsafe { last.as_mut().next = tail.as_ptr() };
        let header = self.header_mut();
        header.nb_segs = count;
        header.pkt_len = len;
        Ok(())
    }

    /// Where bytes can be received into an empty mbuf, and how many.
    #[inline]
    pub(crate) fn room(&mut self) -> (*mut u8, usize) {
        let header = self.header();
        (data_start(header), usize::from(header.buf_len).saturating_sub(header.data_off.into()))
    }

    /// A packet of `len` bytes that were written into the rooms of these empty mbufs, each filled before the next;
    /// `None` when there is no mbuf.
    ///
    /// # Safety
    /// The mbufs are empty, of one segment each, and their rooms take `len` bytes.
    pub(crate) unsafe fn from_filled(mbufs: impl Iterator<Item = Mbuf>, len: usize) -> Option<Mbuf> {
        let (mut first, mut last): (Option<Mbuf>, Option<NonNull<sys::rte_mbuf>>) = (None, None);
        let mut left = len;
        let mut count = 0;
        for mut mbuf in mbufs {
            let filled = left.min(mbuf.room().1);
            mbuf.header_mut().data_len = filled as u16;
            left -= filled;
            count += 1;
            let raw = mbuf.raw;
            if let Some(mut last) = last {
                // SAFETY: the last segment of the chain that is being made, ours; the next one is its part from now on.
                unsafe { last.as_mut().next = std::mem::ManuallyDrop::new(mbuf).raw.as_ptr() };
            } else {
                first = Some(mbuf);
            }
            last = Some(raw);
        }
        debug_assert_eq!(left, 0, "the rooms take all");
        let mut packet = first?;
        let header = packet.header_mut();
        (header.pkt_len, header.nb_segs) = ((len - left) as u32, count);
        Some(packet)
    }

    /// Removes `n` bytes from the start; false, and nothing done, when the first segment has fewer.
    #[inline(always)]
    #[must_use = "false means that nothing was removed"]
    pub fn adj(&mut self, n: usize) -> bool {
        let header = self.header_mut();
        if n > usize::from(header.data_len) {
            return false;
        }
        header.data_off += n as u16;
        header.data_len -= n as u16;
        header.pkt_len -= n as u32;
        true
    }

    /// Removes `n` bytes from the end; false, and nothing done, when the last segment has fewer.
    #[inline(always)]
    #[must_use = "false means that nothing was removed"]
    pub fn trim(&mut self, n: usize) -> bool {
        let mut last = self.last();
        // SAFETY: `last` is a segment of this chain, exclusively ours; no other reference is alive.
        let last = unsafe { last.as_mut() };
        if n > usize::from(last.data_len) {
            return false;
        }
        last.data_len -= n as u16;
        self.header_mut().pkt_len -= n as u32;
        true
    }

    /// Id of the port that the packet came from (`PortId`'s number).
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.header().port
    }

    /// Sets what [`Mbuf::port`] returns.
    #[inline(always)]
    pub fn set_port(&mut self, port: u16) {
        self.header_mut().port = port;
    }

    /// Offload flags (`RTE_MBUF_F_*`): what a device found out on receipt, and what is asked of the one that sends, see
    /// [`crate::offload`].
    #[inline(always)]
    pub fn ol_flags(&self) -> u64 {
        self.header().ol_flags
    }

    /// Lengths of the headers, for what [`Mbuf::ol_flags`] asks; of no meaning when it asks nothing.
    #[inline(always)]
    pub fn tx_offload(&self) -> TxOffload {
        // SAFETY: every variant of the union is plain integers, so it can be read whatever was written.
        TxOffload::unpack(unsafe { self.header().__bindgen_anon_3.tx_offload })
    }

    /// Sets what is asked of the device that sends the packet. `flags` are those of [`crate::offload`] only; what the
    /// mbuf says of its buffers stays.
    #[inline(always)]
    pub fn set_offload(&mut self, flags: u64, lengths: TxOffload) {
        const BUFFERS: u64 = sys::VXS_MBUF_F_INDIRECT | sys::VXS_MBUF_F_EXTERNAL;
        let header = self.header_mut();
        header.ol_flags = header.ol_flags & BUFFERS | flags & !BUFFERS;
        header.__bindgen_anon_3.tx_offload = lengths.pack();
    }

    /// Completes a checksum in software: the Internet checksum of the packet's bytes from `start` to its end is stored
    /// at `field`, whose present content is part of the sum (that of a pseudo header, not complemented). False, and
    /// nothing done, when `field` does not lie behind `start` in the first segment.
    pub fn complete_checksum(&mut self, start: usize, field: usize) -> bool {
        if field < start || field + 2 > self.data_len() {
            return false;
        }
        let (mut sum, mut odd) = (0_u64, false);
        for (number, segment) in self.segments().enumerate() {
            let bytes = if number == 0 { &segment[start..] } else { segment };
            let part = u64::from(ones_complement_sum(bytes));
            // In a segment that begins at an odd place the bytes change their parts.
            sum += if odd { part.swap_bytes() >> 48 } else { part };
            odd ^= bytes.len() % 2 == 1;
        }
        let sum = match !fold(sum) {
            // Zero would say that there is no checksum.
            0 => 0xffff,
            sum => sum,
        };
        self.data_mut()[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        true
    }

    /// The device's RSS hash of the packet, when it gave one.
    #[inline(always)]
    pub fn rss_hash(&self) -> Option<u32> {
        let header = self.header();
        // SAFETY: every variant of the union is plain integers, so it can be read whatever was written.
        (header.ol_flags & crate::offload::RX_RSS_HASH != 0)
            .then_some(unsafe { header.__bindgen_anon_2.hash.rss })
    }

    /// Whether nobody else has any of the packet's segments or their buffers. Always so for an [`Mbuf`]; asked of what
    /// a driver delivers.
    pub(crate) fn is_unshared(&self) -> bool {
        self.headers().all(|segment| {
            let external = segment.ol_flags & sys::VXS_MBUF_F_EXTERNAL != 0;
            // SAFETY: a segment with an external buffer has the count of those that use it.
            let alone =
                || unsafe { segment.shinfo.as_ref() }.is_some_and(|shared| users(&shared.refcnt) == 1);
            users(&segment.refcnt) == 1
                && segment.ol_flags & sys::VXS_MBUF_F_INDIRECT == 0
                && (!external || alone())
        })
    }

    /// Fetches the header's first cache line, which everything but `tailroom` of a chain needs.
    #[inline(always)]
    pub fn prefetch_header(&self) {
        time::prefetch(self.raw.as_ptr());
    }

    /// Fetches the first cache line of the data. Reads the header: prefetch that before.
    #[inline(always)]
    pub fn prefetch_data(&self) {
        time::prefetch(data_start(self.header()));
    }

    /// The last segment. Stays valid as long as the chain.
    #[inline(always)]
    fn last(&self) -> NonNull<sys::rte_mbuf> {
        let mut last = self.raw;
        // The count is in the first cache line, `next` in the second, which most packets never touch.
        for _ in 1..self.header().nb_segs {
            // SAFETY: segments before the last have a next one.
            match NonNull::new(unsafe { last.as_ref() }.next) {
                Some(next) => last = next,
                None => break,
            }
        }
        last
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, hence freed once; the chain goes with it.
        unsafe { sanitize::given((&raw const self.raw).cast(), 1) };
        // SAFETY: as above.
        unsafe { sys::vxs_pktmbuf_free(self.raw.as_ptr()) };
    }
}

impl std::fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .field("port", &self.port())
            .finish()
    }
}

#[inline(always)]
fn data_start(segment: &sys::rte_mbuf) -> *mut u8 {
    // SAFETY: data_off <= buf_len, so the result is within the buffer or one past it.
    unsafe { segment.buf_addr.cast::<u8>().add(segment.data_off.into()) }
}

#[inline(always)]
fn segment_data(segment: &sys::rte_mbuf) -> &[u8] {
    // SAFETY: data_off + data_len <= buf_len, so the range lies in the buffer, which is mapped, initialised (EAL
    // zeroes its memory) and lives as long as the segment.
    unsafe { std::slice::from_raw_parts(data_start(segment), segment.data_len.into()) }
}

/// Sum of big-endian 16-bit words in ones' complement, folded; an odd last byte is followed by a zero.
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum += u64::from(u32::from_be_bytes(last));
    fold(sum)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A reference count, which others may lower meanwhile. When it is 1, what they did before is seen.
fn users(count: &u16) -> u16 {
    // SAFETY: DPDK, too, reads and writes the count as an atomic integer; it lives as long as the reference.
    unsafe { AtomicU16::from_ptr(std::ptr::from_ref(count).cast_mut()) }.load(Ordering::Acquire)
}

#[inline(always)]
fn segment_tailroom(segment: &sys::rte_mbuf) -> usize {
    usize::from(segment.buf_len).saturating_sub(usize::from(segment.data_off) + usize::from(segment.data_len))
}
