//! A message of vhost-user as librte_vhost 22.11 gives it to callbacks: its payload, and the files that came with it, which
//! librte_vhost leaves open where a callback answers, and where it cannot map memory.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;

/// Regions of memory, and files, that come with a message at most.
const MAX_FILES: usize = 8;
/// Longest payload that librte_vhost knows: that of a crypto session.
const PAYLOAD: usize = 632;

/// The message's numbers and payload, then the files, of which unused ones are negative.
#[repr(C, packed)]
struct Context {
    request: u32,
    flags: u32,
    len: u32,
    payload: [u8; PAYLOAD],
    files: [RawFd; MAX_FILES],
    count: c_int,
}

/// A message that is handled.
pub(super) struct Message(*mut Context);

impl Message {
    /// # Safety
    /// `message` is what librte_vhost gives a callback before it handles a message, and is used until that returns.
    pub(super) unsafe fn new(message: *mut c_void) -> Message {
        Message(message.cast())
    }

    /// What is asked.
    pub(super) fn request(&self) -> u32 {
        // SAFETY: as `new` demands.
        unsafe { (&raw const (*self.0).request).read_unaligned() }
    }

    /// A number of 64 bits of the payload.
    pub(super) fn number(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: as `new` demands; the payload is copied.
        let payload = unsafe { (&raw const (*self.0).payload).read_unaligned() };
        bytes.copy_from_slice(&payload[index * 8..index * 8 + 8]);
        u64::from_ne_bytes(bytes)
    }

    /// Makes it an answer that is a number.
    pub(super) fn answer(&mut self, number: u64) {
        // SAFETY: as `new` demands.
        unsafe {
            (&raw mut (*self.0).len).write_unaligned(8);
            (&raw mut (*self.0).payload).cast::<u64>().write_unaligned(number);
        }
    }

    /// Files that came with it.
    fn files(&self) -> Vec<RawFd> {
        // SAFETY: as `new` demands.
        let (files, count) = unsafe {
            ((&raw const (*self.0).files).read_unaligned(), (&raw const (*self.0).count).read_unaligned())
        };
        let count = usize::try_from(count).unwrap_or(0).min(MAX_FILES);
        let (used, unused) = files.split_at(count);
        // Otherwise this is not the layout, and nothing is done.
        let sound = used.iter().all(|file| *file > 2) && unused.iter().all(|file| *file < 0);
        if sound { used.to_vec() } else { Vec::new() }
    }

    /// Closes the files that came with it, for a message that librte_vhost does not handle.
    pub(super) fn close_files(&mut self) {
        for file in self.files() {
            // SAFETY: it came with the message, and librte_vhost does not use it.
            unsafe { libc::close(file) };
        }
        // SAFETY: as `new` demands.
        unsafe {
            (&raw mut (*self.0).files).write_unaligned([-1; MAX_FILES]);
            (&raw mut (*self.0).count).write_unaligned(0);
        }
    }

    /// Whether the regions of a message that is a memory table can be mapped: their number, then for each its address at the
    /// guest, size, address at the master, and offset in its file.
    pub(super) fn can_be_mapped(&self) -> bool {
        let files = self.files();
        // Not as many files as regions: librte_vhost refuses that itself.
        self.number(0) as u32 as usize != files.len()
            || files.iter().zip(0..).all(|(file, region)| {
                can_be_mapped(*file, self.number(region * 4 + 2), self.number(region * 4 + 4))
            })
    }
}

/// Whether a region of a file can be mapped as librte_vhost does it: from the file's beginning, in whole blocks.
fn can_be_mapped(file: RawFd, size: u64, offset: u64) -> bool {
    // SAFETY: all-zero is a valid value of the structure.
    let mut about: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    if unsafe { libc::fstat(file, &raw mut about) } < 0 {
        return false;
    }
    let block = u64::try_from(about.st_blksize).ok().filter(|block| block.is_power_of_two());
    let end = offset.checked_add(size);
    let length = end.zip(block).and_then(|(end, block)| end.checked_next_multiple_of(block));
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0)
    else {
        return false;
    };
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
    // SAFETY: a new mapping, which nobody uses.
    unsafe {
        let address = libc::mmap(std::ptr::null_mut(), length, access, flags, file, 0);
        address != libc::MAP_FAILED && libc::munmap(address, length) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};

    #[test]
    fn memory_is_a_file_that_can_be_mapped() {
        // SAFETY: the name is a string; the descriptor is new.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), 0)) };
        file.set_len(8192).expect("room");
        assert!(can_be_mapped(file.as_raw_fd(), 4096, 4096));
        assert!(!can_be_mapped(file.as_raw_fd(), u64::MAX, 4096), "past the end of all addresses");
        assert!(!can_be_mapped(file.as_raw_fd(), 1 << 50, 0), "more than there are addresses");
        assert!(!can_be_mapped(file.as_raw_fd(), 0, 0), "nothing");
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(!can_be_mapped(reader.as_raw_fd(), 4096, 0), "a pipe");
    }
}
