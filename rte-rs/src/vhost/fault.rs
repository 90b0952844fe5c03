//! A guest's memory is a file that its master owns, and may make shorter while it is mapped here. Who touches what is no more gets
//! SIGBUS. The handler puts an empty page there, notes that this guest's memory is gone, and whoever touched it goes on: only
//! that guest's port ends. Any other SIGBUS does what it did before.
//!
//! EAL has a handler of its own for the moments in which it maps huge pages: who has no memory just then is not helped.
//!
//! The table of mapped memory is read by the handler, on any thread, so it takes no lock and allocates nothing.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, fence};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// Ranges that can be watched: 9 for a guest at most, its regions and its log.
const RANGES: usize = 16_384;
/// Sizes of pages: a mapping of huge pages is replaced by whole ones only.
const PAGES: [usize; 3] = [1 << 12, 1 << 21, 1 << 30];

/// Memory that is mapped from a master's file.
struct Range {
    start: AtomicUsize,
    /// 0 in a place that is free.
    len: AtomicUsize,
    /// Set when memory of it is gone.
    gone: AtomicPtr<AtomicBool>,
}

static TABLE: [Range; RANGES] = [const {
    Range { start: AtomicUsize::new(0), len: AtomicUsize::new(0), gone: AtomicPtr::new(ptr::null_mut()) }
}; RANGES];
/// Places from the first on that were ever in use.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Odd while the table is being written.
static VERSION: AtomicUsize = AtomicUsize::new(0);
/// Who writes the table.
static WRITER: Mutex<()> = Mutex::new(());
/// What a SIGBUS did before.
static mut BEFORE: MaybeUninit<libc::sigaction> = MaybeUninit::uninit();

thread_local! {
    /// This thread handles a message: what librte_vhost has just mapped is not in the table yet.
    static HANDLES_MESSAGE: Cell<bool> = const { Cell::new(false) };
    /// Memory that is not in the table was gone meanwhile.
    static MESSAGE_FAULTED: Cell<bool> = const { Cell::new(false) };
}

/// Watches ranges of memory until it is dropped, which has to be before they are unmapped.
#[derive(Debug)]
pub(super) struct Watch {
    places: Vec<usize>,
    /// What the places point to.
    _gone: Arc<AtomicBool>,
}

impl Watch {
    /// Watches these ranges, start and length, and sets `gone` when memory of one is gone; `None` when there are too many.
    pub(super) fn new(ranges: &[(usize, usize)], gone: &Arc<AtomicBool>) -> Option<Watch> {
        let mut watch = Watch { places: Vec::with_capacity(ranges.len()), _gone: Arc::clone(gone) };
        write(|| {
            let mut free = (0..RANGES).filter(|at| TABLE[*at].len.load(Relaxed) == 0);
            for (start, len) in ranges.iter().filter(|(_, len)| *len > 0) {
                let at = free.next()?;
                TABLE[at].start.store(*start, Relaxed);
                TABLE[at].len.store(*len, Relaxed);
                TABLE[at].gone.store(Arc::as_ptr(gone).cast_mut(), Relaxed);
                USED.fetch_max(at + 1, Relaxed);
                watch.places.push(at);
            }
            Some(())
        })?;
        Some(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        write(|| self.places.iter().for_each(|at| TABLE[*at].len.store(0, Relaxed)));
    }
}

/// Writes the table.
fn write<R>(change: impl FnOnce() -> R) -> R {
    let _writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    VERSION.fetch_add(1, AcqRel);
    fence(Release);
    let result = change();
    VERSION.fetch_add(1, Release);
    result
}

/// A message is going to be handled on this thread.
pub(super) fn message_begins() {
    HANDLES_MESSAGE.set(true);
    MESSAGE_FAULTED.set(false);
}

/// It was handled; whether memory was gone meanwhile that is not in the table.
pub(super) fn message_ends() -> bool {
    HANDLES_MESSAGE.set(false);
    MESSAGE_FAULTED.replace(false)
}

/// Has SIGBUS handled from now on, in the whole process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: integers, and a union of pointers, for which zero is a value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: one thread at a time comes here, and the handler, which reads it, is there only afterwards.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, (&raw mut BEFORE).cast()) };
    });
}

/// Async-signal-safe: atomics, thread-locals without destructors, and system calls only.
unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: errno is this thread's; the kernel gives a `siginfo_t`, whose address is valid for a fault (`si_code` above 0).
    let (errno, address) = unsafe {
        let address = if (*info).si_code > 0 { (*info).si_addr().addr() } else { 0 };
        (*libc::__errno_location(), address)
    };
    let is_guests = if note(address) {
        true
    } else if HANDLES_MESSAGE.get() && address != 0 {
        MESSAGE_FAULTED.set(true);
        true
    } else {
        false
    };
    if !(is_guests && put_page(address)) {
        // SAFETY: written before the handler was there; it is blocked until this returns, and then does what it did before.
        unsafe {
            libc::sigaction(signal, (&raw const BEFORE).cast(), ptr::null_mut());
            libc::raise(signal);
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Notes that memory is gone at an address; false when it is in no range of the table.
fn note(address: usize) -> bool {
    loop {
        let version = VERSION.load(Acquire);
        let within =
            |range: &&Range| address.wrapping_sub(range.start.load(Relaxed)) < range.len.load(Relaxed);
        let gone = TABLE[..USED.load(Relaxed)].iter().find(within).map(|range| range.gone.load(Relaxed));
        fence(Acquire);
        // Writers touch no memory of guests, so none waits for this thread.
        if !version.is_multiple_of(2) || VERSION.load(Relaxed) != version {
            std::hint::spin_loop();
            continue;
        }
        let Some(gone) = gone else { return false };
        // SAFETY: whoever touches a range sees to it that it is mapped meanwhile, and so is still watched; the watch keeps this.
        unsafe { (*gone).store(true, Relaxed) };
        return true;
    }
}

/// Puts an empty page of this process where there is none.
fn put_page(address: usize) -> bool {
    for size in PAGES {
        let start = ptr::with_exposed_provenance_mut(address & !(size - 1));
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
        );
        // SAFETY: replaces a page of the guest's memory that cannot be read. That of a larger page is refused, not done in part.
        unsafe {
            if libc::mmap(start, size, protection, flags, -1, 0) != libc::MAP_FAILED {
                return true;
            }
            if *libc::__errno_location() != libc::EINVAL {
                return false;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// So many bytes of a new file of memory, mapped; its descriptor.
    fn mapped(len: usize) -> (*mut u8, c_int) {
        // SAFETY: makes a file and maps it.
        unsafe {
            let file = libc::memfd_create(c"guest".as_ptr(), 0);
            assert_eq!(libc::ftruncate(file, len as libc::off_t), 0);
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let at = libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, file, 0);
            assert_ne!(at, libc::MAP_FAILED);
            (at.cast(), file)
        }
    }

    fn shrink(file: c_int, len: usize) {
        // SAFETY: an integer.
        assert_eq!(unsafe { libc::ftruncate(file, len as libc::off_t) }, 0);
    }

    const LEN: usize = 4 << 12;

    #[test]
    fn memory_that_is_gone_is_empty_and_noted() {
        install();
        let (at, file) = mapped(LEN);
        let (other, _) = mapped(LEN);
        let flags = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
        let watch = Watch::new(&[(at.addr(), LEN)], &flags[0]).expect("there is room");
        let _other = Watch::new(&[(other.addr(), LEN)], &flags[1]).expect("there is room");
        // SAFETY: mapped; what is gone is put there by the handler.
        let touch = |offset: usize| unsafe {
            at.add(offset).write_volatile(7);
            at.add(offset).read_volatile()
        };
        assert_eq!(touch(LEN - 1), 7);
        shrink(file, 1 << 12);
        assert_eq!(touch(0), 7);
        assert!(!flags[0].load(Relaxed), "what was touched is there");
        // SAFETY: as above.
        assert_eq!(unsafe { at.add(LEN - 1).read_volatile() }, 0, "an empty page");
        assert_eq!((touch(LEN - 1), touch(LEN / 2)), (7, 7));
        assert_eq!(flags.map(|flag| flag.load(Relaxed)), [true, false]);
        drop(watch);
        assert!(!note(at.addr()));
    }

    /// Lets the kernel make huge pages as they are asked for, until it is dropped.
    struct HugePages(String);

    impl HugePages {
        const LIMIT: &'static str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages";

        fn allow() -> Option<HugePages> {
            let before = std::fs::read_to_string(Self::LIMIT).ok()?;
            std::fs::write(Self::LIMIT, "8").ok()?;
            Some(HugePages(before))
        }
    }

    impl Drop for HugePages {
        fn drop(&mut self) {
            let _ = std::fs::write(Self::LIMIT, &self.0);
        }
    }

    /// As guests have it whose memory is of huge pages.
    #[test]
    fn a_huge_page_is_replaced_as_a_whole() {
        const HUGE: usize = 1 << 21;
        install();
        let allowed = HugePages::allow();
        // SAFETY: makes a file and maps two pages of it, if there are so many.
        let mapped = unsafe {
            let file = libc::memfd_create(c"huge".as_ptr(), libc::MFD_HUGETLB);
            let made = file >= 0 && libc::ftruncate(file, 2 * HUGE as libc::off_t) == 0;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let map = || libc::mmap(ptr::null_mut(), 2 * HUGE, protection, libc::MAP_SHARED, file, 0);
            let at = if made { map() } else { libc::MAP_FAILED };
            (at != libc::MAP_FAILED).then(|| (at.cast::<u8>(), file))
        };
        let Some((at, file)) = mapped else {
            assert!(allowed.is_none(), "the kernel has no huge pages to give");
            eprintln!("SKIPPED: huge pages need root");
            return;
        };
        let gone = Arc::new(AtomicBool::new(false));
        let _watch = Watch::new(&[(at.addr(), 2 * HUGE)], &gone).expect("there is room");
        shrink(file, HUGE);
        // SAFETY: mapped; what is gone is put there by the handler.
        let byte = |offset: usize| unsafe {
            at.add(offset).write_volatile(9);
            at.add(offset).read_volatile()
        };
        assert_eq!((byte(0), gone.load(Relaxed)), (9, false));
        assert_eq!((byte(HUGE + 5), byte(2 * HUGE - 1), gone.load(Relaxed)), (9, 9, true));
    }

    #[test]
    fn memory_that_a_message_has_just_mapped_is_noted_by_its_thread() {
        install();
        let (at, file) = mapped(LEN);
        shrink(file, 0);
        message_begins();
        // SAFETY: mapped; what is gone is put there by the handler.
        assert_eq!(unsafe { at.read_volatile() }, 0);
        assert!(message_ends());
        assert!(!message_ends());
    }

    #[test]
    fn places_are_used_again() {
        let gone = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            // Beside those of other tests.
            let ranges: Vec<(usize, usize)> = (1..RANGES - 100).map(|at| (at << 48 >> 1, 1)).collect();
            let watch = Watch::new(&ranges, &gone).expect("there is room");
            assert!(Watch::new(&ranges[..200], &gone).is_none());
            drop(watch);
        }
    }

    /// Ends a process of its own, which runs the same test.
    #[test]
    fn another_fault_ends_the_process() {
        const NAME: &str = "VXS_TEST_FAULT";
        if std::env::var_os(NAME).is_some() {
            install();
            let (at, file) = mapped(LEN);
            shrink(file, 0);
            // SAFETY: mapped, but gone: it ends here.
            let byte = unsafe { at.read_volatile() };
            unreachable!("{byte} was read");
        }
        let test = "vhost::fault::tests::another_fault_ends_the_process";
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let output = command.args(["--exact", test]).env(NAME, "1").output().expect("it runs");
        assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    }
}
