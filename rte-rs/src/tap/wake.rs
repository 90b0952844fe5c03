//! Knowing without a system call that a tap has nothing: an io_uring whose one request completes when the descriptor
//! becomes readable. While it is pending, polling reads one word of memory that the kernel shares.

use io_uring::{IoUring, opcode, types};
use std::os::fd::RawFd;

/// How many reads find nothing, one after the other, before the io_uring is asked to watch: a read of an empty tap costs
/// a third of arming and being woken, so it pays only when nothing comes for a while.
const READS_BEFORE_WATCHING: u32 = 16;

thread_local! {
    /// Its address tells threads apart.
    static THREAD: u8 = const { 0 };
}

/// Whether a read may find something.
pub(super) struct Wake {
    /// None where the kernel has none, or does not allow it: then each poll reads.
    ring: Option<IoUring>,
    fd: RawFd,
    state: State,
    empty_reads: u32,
}

#[derive(PartialEq, Eq)]
enum State {
    /// Reads find out.
    Reading,
    /// The io_uring watches, for the thread at this address: a request ends with the thread that made it, or rather,
    /// may end a moment later, when another one polls already.
    Watching(usize),
    /// The descriptor is dead.
    Never,
}

fn this_thread() -> usize {
    THREAD.with(|byte| std::ptr::from_ref(byte).addr())
}

impl Wake {
    pub(super) fn new(fd: RawFd) -> Wake {
        Wake { ring: IoUring::new(2).ok(), fd, state: State::Reading, empty_reads: 0 }
    }

    /// Whether to read.
    #[inline]
    pub(super) fn pending(&mut self) -> bool {
        match self.state {
            State::Reading => true,
            State::Never => false,
            State::Watching(thread) => {
                let Some(ring) = &mut self.ring else { return true };
                let completed = ring.completion().count() > 0;
                if completed || thread != this_thread() {
                    self.state = State::Reading;
                    self.empty_reads = 0;
                    return true;
                }
                false
            }
        }
    }

    /// A read found nothing, after others that did in the same poll or not.
    pub(super) fn nothing(&mut self, after_some: bool) {
        self.empty_reads = if after_some { 0 } else { self.empty_reads + 1 };
        if self.empty_reads < READS_BEFORE_WATCHING {
            return;
        }
        let Some(ring) = &mut self.ring else { return };
        // An earlier request may still be pending, of another thread: its completion is one read too many, at most.
        let request = opcode::PollAdd::new(types::Fd(self.fd), libc::POLLIN as u32).build();
        // SAFETY: the request refers to no memory. The descriptor outlives the ring, or the request ends in an error.
        let pushed = unsafe { ring.submission().push(&request) }.is_ok();
        if pushed && ring.submit().is_ok() {
            self.state = State::Watching(this_thread());
        }
    }

    /// The descriptor is dead: nothing will come.
    pub(super) fn never(&mut self) {
        self.state = State::Never;
    }
}
