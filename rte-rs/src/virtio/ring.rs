//! The device's side of a split virtqueue (virtio 1.2, section 2.7). The driver is not trusted: each of its words is read
//! once and checked, and nothing outside the memory that it shares is touched.

use super::memory::{Memory, Piece};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

/// Most pieces that a packet's buffers may be in.
pub const MAX_CHAIN: usize = 256;
/// Most descriptors in an indirect table: the bound of Linux' drivers for a queue, and so for a table.
const MAX_INDIRECT: u32 = 32_768;

/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Flag of the available ring: no interrupts. The same of the used ring: no notifications.
const NO_INTERRUPT: u16 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// Where a ring's three parts are in this process.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Descriptor table.
    pub desc: *mut u8,
    /// Available ring.
    pub avail: *mut u8,
    /// Used ring.
    pub used: *mut u8,
}

/// The driver wrote what no driver may write: the ring is not used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

/// A virtqueue. Chains are used in the order in which they were made available.
#[derive(Debug)]
pub struct SplitRing {
    memory: Arc<Memory>,
    desc: *const Descriptor,
    avail: *mut u16,
    used: *mut u16,
    size: u16,
    /// The driver says at which index it wants the next interrupt.
    event_idx: bool,
    /// Index of the next chain to use.
    next: u16,
    /// Index up to which the driver was last notified; `None` before the first notification.
    notified: Option<u16>,
    broken: bool,
}

// SAFETY: the memory is shared with another process anyway; `new` has its caller promise that it stays mapped.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// The ring of `size` descriptors at these addresses, which goes on at index `next`; `None` unless they are a ring that
    /// lies in the memory.
    ///
    /// # Safety
    /// The regions of `memory` are mapped, readable and writable, as long as this lives.
    pub unsafe fn new(
        memory: &Arc<Memory>,
        at: Addresses,
        size: u16,
        event_idx: bool,
        next: u16,
    ) -> Option<SplitRing> {
        let entries = usize::from(size);
        let within = |start: *mut u8, len: usize, align: usize| {
            start.addr().is_multiple_of(align) && memory.guest_address(start, len).is_some()
        };
        let good = size.is_power_of_two()
            && size <= 32_768
            && within(at.desc, entries * size_of::<Descriptor>(), 16)
            && within(at.avail, 6 + 2 * entries, 2)
            && within(at.used, 6 + 8 * entries, 4);
        let ring = SplitRing {
            memory: Arc::clone(memory),
            desc: at.desc.cast_const().cast(),
            avail: at.avail.cast(),
            used: at.used.cast(),
            size,
            event_idx,
            next,
            notified: None,
            broken: false,
        };
        good.then(|| {
            // The driver need not notify: the ring is polled. With event indices there is no such flag; it notifies
            // once in 65,536 chains.
            ring.word(ring.used, 0).store(NO_INTERRUPT, Ordering::Relaxed);
            ring
        })
    }

    /// A ring in memory of its own, whose parts are at these of the guest's addresses: descriptor table, available ring, used ring.
    pub fn in_own(memory: Memory, at: [u64; 3], size: u16, event_idx: bool, next: u16) -> Option<SplitRing> {
        memory.own.as_ref()?;
        let host = |address| memory.piece(address, 1).map(|piece| piece.host);
        let at = Addresses { desc: host(at[0])?, avail: host(at[1])?, used: host(at[2])? };
        // SAFETY: the memory's only region is its own, which it keeps.
        unsafe { SplitRing::new(&Arc::new(memory), at, size, event_idx, next) }
    }

    /// A word of one of the two rings.
    #[inline(always)]
    fn word(&self, ring: *mut u16, at: usize) -> &AtomicU16 {
        debug_assert!(at < 3 + 4 * usize::from(self.size));
        // SAFETY: within the ring: `new` checked that it lies in mapped memory, aligned, and callers stay below its length.
        // The driver reads and writes it atomically, too.
        unsafe { AtomicU16::from_ptr(ring.add(at)) }
    }

    /// How many chains the driver has made available that were not used yet.
    #[inline]
    pub fn available(&mut self) -> u16 {
        if self.broken {
            return 0;
        }
        let count = self.word(self.avail, 1).load(Ordering::Acquire).wrapping_sub(self.next);
        self.broken |= count > self.size;
        if self.broken { 0 } else { count }
    }

    /// Descriptors.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Index of the next chain to use.
    pub fn next(&self) -> u16 {
        self.next
    }

    /// Guest's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the driver wrote what no driver may write.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Appends to `pieces` the memory of the chain `ahead` places behind the next one to use, at most [`MAX_CHAIN`] together;
    /// all of it is there to be written by us, or all to be read. Returns the chain's number.
    ///
    /// # Errors
    /// [`Broken`], which it is from then on.
    #[inline]
    pub fn chain(&mut self, ahead: u16, writable: bool, pieces: &mut Vec<Piece>) -> Result<u16, Broken> {
        let at = 2 + usize::from(self.next.wrapping_add(ahead) & (self.size - 1));
        let head = self.word(self.avail, at).load(Ordering::Relaxed);
        let walked = self.walk(head, writable, pieces);
        self.broken |= walked.is_err();
        walked.map(|()| head)
    }

    fn walk(&self, head: u16, writable: bool, pieces: &mut Vec<Piece>) -> Result<(), Broken> {
        let (mut at, mut limit, mut table) = (u32::from(head), u32::from(self.size), None);
        // A chain longer than its table is a loop.
        let mut left = limit;
        loop {
            if at >= limit || left == 0 {
                return Err(Broken);
            }
            left -= 1;
            let descriptor = self.descriptor(table, at)?;
            if descriptor.flags & INDIRECT != 0 {
                let entries = descriptor.len / size_of::<Descriptor>() as u32;
                let whole = descriptor.len.is_multiple_of(size_of::<Descriptor>() as u32);
                let good = table.is_none() && whole && descriptor.flags & NEXT == 0;
                if !good || !(1..=MAX_INDIRECT).contains(&entries) {
                    return Err(Broken);
                }
                (at, limit, left, table) = (0, entries, entries, Some(descriptor.address));
                continue;
            }
            if (descriptor.flags & WRITE != 0) != writable {
                return Err(Broken);
            }
            let (mut address, mut len) = (descriptor.address, u64::from(descriptor.len));
            while len > 0 {
                let piece = self.memory.piece(address, len).ok_or(Broken)?;
                if pieces.len() >= MAX_CHAIN {
                    return Err(Broken);
                }
                pieces.push(piece);
                len -= piece.len as u64;
                address = address.wrapping_add(piece.len as u64);
            }
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            at = descriptor.next.into();
        }
    }

    /// Descriptor number `at` of the ring's table, or of the indirect one at a guest's address.
    #[inline(always)]
    fn descriptor(&self, table: Option<u64>, at: u32) -> Result<Descriptor, Broken> {
        let Some(table) = table else {
            // SAFETY: `walk` stays below the size, and `new` checked that the table lies in mapped memory, aligned.
            return Ok(unsafe { self.desc.add(at as usize).read_volatile() });
        };
        let len = size_of::<Descriptor>();
        let address = table.wrapping_add(u64::from(at) * len as u64);
        let piece = self.memory.piece(address, len as u64).filter(|piece| piece.len == len).ok_or(Broken)?;
        // SAFETY: as many bytes in mapped memory, by the contract of `new`; copied, as they may lie unaligned.
        Ok(unsafe { piece.host.cast::<Descriptor>().read_unaligned() })
    }

    /// Gives the next chain back, of which `len` bytes were written. The driver sees it with [`SplitRing::publish`].
    #[inline]
    pub fn give_back(&mut self, head: u16, len: u32) {
        let at = 2 + 4 * usize::from(self.next & (self.size - 1));
        // SAFETY: an entry of the used ring, which `new` checked to lie in mapped memory, aligned for its two halves.
        unsafe {
            let entry: *mut u32 = self.used.add(at).cast();
            AtomicU32::from_ptr(entry).store(head.into(), Ordering::Relaxed);
            AtomicU32::from_ptr(entry.add(1)).store(len, Ordering::Relaxed);
        }
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the driver what was given back; whether it wants to be interrupted for it.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.notified == Some(self.next) {
            return false;
        }
        self.word(self.used, 1).store(self.next, Ordering::Release);
        // The index has to be seen before the driver's wish is read: it writes its wish and then reads the index.
        fence(Ordering::SeqCst);
        let notified = self.notified.replace(self.next);
        if self.event_idx {
            let event = self.word(self.avail, 2 + usize::from(self.size)).load(Ordering::Relaxed);
            let passed = |notified: u16| {
                self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(notified)
            };
            return notified.is_none_or(passed);
        }
        self.word(self.avail, 0).load(Ordering::Relaxed) & NO_INTERRUPT == 0
    }

    /// Guest's addresses of what was written of the used ring since `from`: its index, and one range or, around its end, two.
    pub fn written_since(&self, from: u16) -> [Option<(u64, u64)>; 3] {
        let size = u64::from(self.size);
        let count = u64::from(self.next.wrapping_sub(from)).min(size);
        let first = u64::from(from) % size;
        let before_end = count.min(size - first);
        let start = self.memory.guest_address(self.used.cast(), 6 + 8 * usize::from(self.size));
        let range = |at: u64, len: u64| start.filter(|_| len > 0).map(|start| (start + at, len));
        [range(2, 2), range(4 + 8 * first, 8 * before_end), range(4, 8 * (count - before_end))]
    }
}

#[cfg(test)]
mod tests;
