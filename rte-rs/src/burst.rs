//! Bursts: arrays of mbufs, what queues give and take.

use crate::mbuf::Mbuf;
use crate::sanitize;
use dpdk_sys as sys;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// Up to `N` (at most 65,535) mbufs in order. Derefs to `[Mbuf]`. Dropping it frees them in bulk.
///
/// Moving mbufs on is a copy of pointers: [`Burst::drain`] by value, [`Burst::append`] all, [`Burst::pop`] the last,
/// [`Burst::swap_remove`] any.
pub struct Burst<const N: usize> {
    len: usize,
    /// The first `len` are initialised, the others not.
    mbufs: [MaybeUninit<Mbuf>; N],
}

impl<const N: usize> Burst<N> {
    const FITS: () = assert!(N <= u16::MAX as usize, "DPDK counts a burst in 16 bits");

    /// An empty burst. Initialises nothing but the length.
    #[inline(always)]
    pub const fn new() -> Self {
        let () = Self::FITS;
        Burst { len: 0, mbufs: [const { MaybeUninit::uninit() }; N] }
    }

    /// How many mbufs fit.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Whether there is no room for another one.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Adds an mbuf at the end.
    ///
    /// # Errors
    /// Gives the mbuf back when the burst is full.
    #[inline(always)]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.mbufs.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes the last mbuf.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: it was below the length, hence initialised, and is now above it: read once.
        Some(unsafe { self.mbufs[self.len].assume_init_read() })
    }

    /// Takes the mbuf at `index` and puts the last one in its place.
    ///
    /// # Panics
    /// When `index` is not below the length, as slice indexing does.
    #[inline(always)]
    pub fn swap_remove(&mut self, index: usize) -> Mbuf {
        let last = self.len - 1;
        self.swap(index, last);
        self.len = last;
        // SAFETY: it was below the length, hence initialised, and is now above it: read once.
        unsafe { self.mbufs[last].assume_init_read() }
    }

    /// Takes the mbuf at `index`; those behind it move up.
    ///
    /// # Panics
    /// When `index` is not below the length, as slice indexing does.
    pub fn remove(&mut self, index: usize) -> Mbuf {
        self[index..].rotate_left(1);
        self.len -= 1;
        // SAFETY: it was below the length, hence initialised, and is now above it: read once.
        unsafe { self.mbufs[self.len].assume_init_read() }
    }

    /// Takes all mbufs, in order, by value. Those that the iterator did not yet give out are freed with it.
    #[inline(always)]
    pub fn drain(&mut self) -> Drain<'_> {
        let len = std::mem::take(&mut self.len);
        Drain { mbufs: &mut self.mbufs[..len], at: 0 }
    }

    /// Moves mbufs from the front of `other` to the end of this one, as many as fit, and returns how many; the
    /// others move up.
    #[inline]
    pub fn append<const M: usize>(&mut self, other: &mut Burst<M>) -> usize {
        let n = other.len.min(N - self.len);
        // SAFETY: n initialised slots of `other` are copied behind this length, where there is room for n, and
        // `remove_front` makes `other` forget them: each mbuf keeps one owner. Two `&mut` cannot overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(other.mbufs.as_ptr().cast::<Mbuf>(), self.spare(), n);
            self.len += n;
            other.forget_front(n);
        }
        n
    }

    /// Frees all but the first `len` mbufs, in bulk.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            let count = self.len - len;
            self.len = len;
            // SAFETY: `count` initialised mbufs of ours.
            unsafe { sanitize::given(self.spare_raw(), count) };
            // SAFETY: they lie above the length now: DPDK frees them, once.
            unsafe { sys::rte_pktmbuf_free_bulk(self.spare_raw(), count as u32) };
        }
    }

    /// Frees the first `n` mbufs, in bulk, or all when there are fewer; the others move to the front.
    #[inline]
    pub fn free_front(&mut self, n: usize) {
        let n = n.min(self.len);
        // SAFETY: n initialised mbufs of ours: DPDK frees them, and the burst forgets them.
        unsafe {
            sanitize::given(self.start_raw(), n);
            sys::rte_pktmbuf_free_bulk(self.start_raw(), n as u32);
            self.forget_front(n);
        }
    }

    /// Frees all mbufs, in bulk.
    #[inline]
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// The mbufs.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { std::slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }

    /// The mbufs, to change or reorder.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` slots are initialised.
        unsafe { std::slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }

    /// First slot behind the length.
    #[inline(always)]
    fn spare(&mut self) -> *mut Mbuf {
        // SAFETY: len <= N, so this is within the array or one past it.
        unsafe { self.mbufs.as_mut_ptr().cast::<Mbuf>().add(self.len) }
    }

    /// First slot behind the length, as DPDK wants it: `Mbuf` is a transparent pointer.
    #[inline(always)]
    pub(crate) fn spare_raw(&mut self) -> *mut *mut sys::rte_mbuf {
        self.spare().cast()
    }

    /// First slot, as DPDK wants it.
    #[inline(always)]
    pub(crate) fn start_raw(&mut self) -> *mut *mut sys::rte_mbuf {
        self.mbufs.as_mut_ptr().cast()
    }

    /// Sets the length.
    ///
    /// # Safety
    /// `len <= N`; the slots below it hold mbufs that this burst owns.
    #[inline(always)]
    pub(crate) unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= N);
        self.len = len;
    }

    /// Forgets the first `n` mbufs, which have a new owner, and moves the others to the front.
    ///
    /// # Safety
    /// `n` is at most the length, and the first `n` mbufs belong to someone else now.
    #[inline(always)]
    pub(crate) unsafe fn forget_front(&mut self, n: usize) {
        debug_assert!(n <= self.len);
        self.len -= n;
        if self.len > 0 && n > 0 {
            let start = self.mbufs.as_mut_ptr();
            // SAFETY: `len` slots from n on lie within the array; the ranges may overlap, which `copy` allows.
            unsafe { std::ptr::copy(start.add(n), start, self.len) };
        }
    }
}

impl<const N: usize> Default for Burst<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Burst<N> {
    type Target = [Mbuf];

    #[inline(always)]
    fn deref(&self) -> &[Mbuf] {
        self.as_slice()
    }
}

impl<const N: usize> DerefMut for Burst<N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        self.as_mut_slice()
    }
}

impl<'a, const N: usize> IntoIterator for &'a Burst<N> {
    type Item = &'a Mbuf;
    type IntoIter = std::slice::Iter<'a, Mbuf>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}

impl<'a, const N: usize> IntoIterator for &'a mut Burst<N> {
    type Item = &'a mut Mbuf;
    type IntoIter = std::slice::IterMut<'a, Mbuf>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.as_mut_slice().iter_mut()
    }
}

impl<const N: usize> Drop for Burst<N> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl<const N: usize> std::fmt::Debug for Burst<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The mbufs of a burst by value, in order. See [`Burst::drain`].
pub struct Drain<'a> {
    /// What the burst had: initialised all.
    mbufs: &'a mut [MaybeUninit<Mbuf>],
    /// The first that was not given out yet; not beyond the length.
    at: usize,
}

impl Drain<'_> {
    /// The mbufs that were not given out yet, to change.
    #[inline(always)]
    pub fn rest_mut(&mut self) -> &mut [Mbuf] {
        let rest = &mut self.mbufs[self.at..];
        // SAFETY: `drain` took exactly the initialised slots, and those that are left were not read; `Mbuf` and
        // `MaybeUninit<Mbuf>` are laid out alike.
        unsafe { std::slice::from_raw_parts_mut(rest.as_mut_ptr().cast(), rest.len()) }
    }

    /// Takes the next `n` mbufs, or as many as there are, out of this iterator. Those that the result does not give out
    /// are freed with it: none of them comes back here.
    #[inline(always)]
    pub fn front(&mut self, n: usize) -> Drain<'_> {
        let start = self.at;
        let end = start + n.min(self.mbufs.len() - start);
        self.at = end;
        // These slots belong to the result from now on: this iterator goes on behind them.
        Drain { mbufs: &mut self.mbufs[start..end], at: 0 }
    }

    /// Moves the next `n` mbufs to the end of `to`, or as many as there are and as fit; returns how many.
    #[inline(always)]
    pub fn move_to<const M: usize>(&mut self, to: &mut Burst<M>, n: usize) -> usize {
        let n = n.min(self.len()).min(M - to.len);
        let moved = &self.mbufs[self.at..][..n];
        // SAFETY: n initialised slots that this iterator owns are copied behind the length of `to`, where there is
        // room for n; the iterator goes on behind them, so each mbuf keeps one owner.
        unsafe { std::ptr::copy_nonoverlapping(moved.as_ptr().cast::<Mbuf>(), to.spare(), n) };
        to.len += n;
        self.at += n;
        n
    }
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline(always)]
    fn next(&mut self) -> Option<Mbuf> {
        let slot = self.mbufs.get(self.at)?;
        self.at += 1;
        // SAFETY: `drain` took exactly the initialised slots and set the burst's length to 0, so this iterator is
        // the only owner, and visits each slot once.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline(always)]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.mbufs.len() - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// Frees mbufs from anywhere in bulk, 32 at a time.
pub fn free_bulk(mbufs: impl IntoIterator<Item = Mbuf>) {
    let mut burst = Burst::<32>::new();
    for mbuf in mbufs {
        if let Err(mbuf) = burst.push(mbuf) {
            burst.clear();
            // There is room now; if there were not, dropping the mbuf frees it all the same.
            drop(burst.push(mbuf));
        }
    }
}
