//! Memory of the lookup tables, and the slab of megaflow slots that worker and slow path share.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zerocopy::FromZeros;

/// Bytes of an x86 cache line.
const CACHE_LINE: usize = 64;
/// Bytes of an x86 huge page.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes from which an array is worth whole huge pages: small pages would take up a good part of the TLB.
const LARGE: usize = 256 << 10;

/// `count` records of `N` cells each, zeroed, a record beginning a cache line (when it is one or more
/// lines long), a large array filling whole huge pages (if whoever knows its region asks for them).
///
/// The memory is asked for as one zeroed block of the cells' small alignment, with room to move its
/// start: that is `calloc`, whose pages cost nothing until they are touched. Asking for it with the wanted
/// alignment would make the allocator write zeros over all of it.
pub(crate) struct Lines<T, const N: usize> {
    cells: Box<[T]>,
    start: usize,
    count: usize,
    /// Cells of the records, rounded up to whole lines or huge pages.
    whole: usize,
}

impl<T: FromZeros, const N: usize> Lines<T, N> {
    /// # Panics
    /// When there is no memory for it.
    pub(crate) fn new(count: usize) -> Self {
        let cell = size_of::<T>();
        let length = count.checked_mul(N).expect("more records than an address space holds");
        let align = if length * cell >= LARGE { HUGE_PAGE } else { CACHE_LINE };
        let whole = (length * cell).next_multiple_of(align) / cell;
        let Ok(cells) = <[T]>::new_box_zeroed_with_elems(whole + align / cell) else {
            panic!("no memory for {count} records of {} bytes", N * cell);
        };
        let offset = cells.as_ptr().addr() % align;
        let start = if offset == 0 { 0 } else { (align - offset) / cell };
        Lines { cells, start, count, whole }
    }

    /// The records.
    #[inline(always)]
    pub(crate) fn records(&self) -> &[[T; N]] {
        self.cells[self.start..][..self.count * N].as_chunks().0
    }

    /// The records, to write.
    #[inline(always)]
    pub(crate) fn records_mut(&mut self) -> &mut [[T; N]] {
        self.cells[self.start..][..self.count * N].as_chunks_mut().0
    }

    /// Where the records lie, for `madvise`: address and length in bytes, of large arrays in whole huge pages.
    pub(crate) fn region(&self) -> (*const u8, usize) {
        let cells = &self.cells[self.start..][..self.whole];
        (cells.as_ptr().cast(), size_of_val(cells))
    }

    /// Bytes of the records.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.records())
    }
}

/// One megaflow's cache line: [`STATE`], [`PACKETS`], [`BYTES`], then the first key words from [`WORDS`] on.
pub(super) type Line = [AtomicU64; 8];
/// Word of a [`Line`]: program (bits 0 to 31), subtable (32 to 47), [`VALID`].
pub(super) const STATE: usize = 0;
/// Word of a [`Line`]: packets.
pub(super) const PACKETS: usize = 1;
/// Word of a [`Line`]: bytes.
pub(super) const BYTES: usize = 2;
/// First of the five masked key words of a [`Line`].
pub(super) const WORDS: usize = 3;
/// Bit of [`STATE`]: the slot holds a megaflow.
pub(super) const VALID: u64 = 1 << 48;

/// The megaflow slots of one worker: a fixed number of cache lines, each a megaflow's masked key, program
/// and statistics.
///
/// Shared by two threads. The worker (through its [`MegaflowTable`](super::MegaflowTable)) is the only
/// writer, so it counts with plain loads and stores; the slow path reads the statistics whenever it
/// likes. The slow path also says which megaflow goes to which slot, but by a command to the worker.
pub struct Slab {
    lines: Lines<AtomicU64, 8>,
    claimed: AtomicBool,
}

impl Slab {
    /// A slab of `slots` free slots of 64 bytes. Memory is only used up when slots are.
    ///
    /// # Panics
    /// When `slots` does not fit in 31 bits or there is no memory for it.
    pub fn new(slots: usize) -> Self {
        assert!(slots < 1 << 31, "{slots} megaflow slots: expected fewer than 2^31");
        Slab { lines: Lines::new(slots), claimed: AtomicBool::new(false) }
    }

    /// Bytes of the slots.
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Number of slots, free or not.
    #[inline]
    pub fn slots(&self) -> usize {
        self.lines.count
    }

    /// Packets and bytes that the megaflow in `slot` has handled; zeros for a slot beyond the slab.
    ///
    /// Each number is exact at some moment, the two not necessarily at the same one. Those of a free slot are zero.
    #[inline]
    pub fn stats(&self, slot: u32) -> (u64, u64) {
        self.lines().get(slot as usize).map_or((0, 0), stats)
    }

    /// Where the slots lie, for `madvise`: address and length in bytes, 256 KiB and more as whole 2 MiB pages.
    pub fn region(&self) -> (*const u8, usize) {
        self.lines.region()
    }

    /// All lines.
    #[inline(always)]
    pub(super) fn lines(&self) -> &[Line] {
        self.lines.records()
    }

    /// Registers the writer.
    pub(super) fn claim(&self) {
        assert!(
            !self.claimed.swap(true, Ordering::Acquire),
            "this slab already has a megaflow table: expected one writer a slab"
        );
    }

    /// The writer is gone; it left every slot free.
    pub(super) fn release(&self) {
        self.claimed.store(false, Ordering::Release);
    }
}

/// Packets and bytes of a line.
#[inline]
pub(super) fn stats(line: &Line) -> (u64, u64) {
    (line[PACKETS].load(Ordering::Relaxed), line[BYTES].load(Ordering::Relaxed))
}

/// Counts packets and bytes in the line of `slot`, if there is one. The caller is the only writer: a load,
/// an add and a store, no lock prefix.
#[inline(always)]
pub(super) fn count(lines: &[Line], slot: u32, packets: u64, bytes: u64) {
    if let Some(line) = lines.get(slot as usize) {
        add(line, packets, bytes);
    }
}

/// [`count`] in a line that is known.
#[inline(always)]
pub(super) fn add(line: &Line, packets: u64, bytes: u64) {
    let add = |counter: &AtomicU64, amount: u64| {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    };
    add(&line[PACKETS], packets);
    add(&line[BYTES], bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_aligned_zeroed_and_counted() {
        for count in [0, 1, 100, 5_000, 40_000, 100_000] {
            let lines = Lines::<u64, 8>::new(count);
            let (address, bytes) = lines.region();
            let page = if count * 64 >= LARGE { HUGE_PAGE } else { CACHE_LINE };
            assert_eq!(lines.bytes(), count * 64);
            assert_eq!(bytes, (count * 64).next_multiple_of(page));
            assert_eq!(address.addr() % page, 0);
            assert_eq!(lines.records().len(), count);
            assert!(lines.records().iter().flatten().all(|&cell| cell == 0));
        }
        assert_eq!(Lines::<u32, 16>::new(3).region().0.addr() % CACHE_LINE, 0);
    }

    #[test]
    fn statistics_of_no_slot_are_zero() {
        let slab = Slab::new(4);
        assert_eq!((slab.slots(), slab.stats(3), slab.stats(4)), (4, (0, 0), (0, 0)));
    }
}
