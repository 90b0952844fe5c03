//! The few calls of the C library that the daemon makes itself. The only unsafe code of this crate.
#![allow(unsafe_code)]

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The calling thread.
const CALLER: Pid = Pid::from_raw(0);

/// CPUs that the calling thread may run on, in rising order.
pub fn affinity() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(CALLER)?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Restricts the calling thread to these CPUs.
pub fn set_affinity(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::count()) {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(CALLER, &set)?)
}

/// The calling thread's nice value.
pub fn nice() -> io::Result<i32> {
    Ok(rustix::process::getpriority_process(None)?)
}

/// Sets the calling thread's nice value: from -20, which has priority over others on a CPU, to 19.
pub fn set_nice(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// Lets sleeps of the calling thread end on time: the kernel's default is to wake it up to 50 microseconds late.
pub fn set_timer_slack(nanoseconds: u32) -> io::Result<()> {
    Ok(nix::sys::prctl::set_timerslack(nanoseconds.into())?)
}

/// Ends the process at once: no destructor, no handler runs, no other thread is waited for.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return and needs nothing of the process's state.
    unsafe { libc::_exit(status) }
}

/// Runs `f` such that files made meanwhile are for their owner only. The mask is the process's: for the start,
/// before there are other threads.
pub fn owner_only<R>(f: impl FnOnce() -> R) -> R {
    /// The mask before; set again also when `f` panics.
    struct Restore(Mode);
    impl Drop for Restore {
        fn drop(&mut self) {
            umask(self.0);
        }
    }
    let _restore = Restore(umask(Mode::from_bits_truncate(0o177)));
    f()
}

/// Asks for huge pages under a large array, and for its memory now: a lookup then needs few TLB entries, and no
/// worker takes a page fault for the first flow in a page. Declined requests change nothing but speed.
///
/// `region` is the address and length of memory that this process has mapped and that is in use as it is.
pub fn back_with_huge_pages(region: (*const u8, usize)) {
    const PAGE: usize = 4096;
    let (address, len) = region;
    if !address.addr().is_multiple_of(PAGE) || len < PAGE {
        return;
    }
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
        // SAFETY: both advices keep the contents of the pages; addresses that are not mapped are refused.
        unsafe { libc::madvise(address.cast_mut().cast(), len, advice) };
    }
}

/// A socket that requests about interfaces are made with.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Name of the network interface with this number in this process's network namespace; `None` when there is none.
pub fn interface_name(index: u32) -> Option<String> {
    rustix::net::netdevice::index_to_name(any_socket().ok()?, index).ok()
}

/// A request to the kernel about an interface.
fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid value of the structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays the NUL.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

/// A request for flags, or to set them.
fn flags_ioctl(request: &mut libc::ifreq, what: libc::Ioctl) -> io::Result<()> {
    let socket = any_socket()?;
    // SAFETY: the socket is open; the kernel reads and writes the structure, whose flags are there.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), what, std::ptr::from_mut(request)) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `IFF_*` of an interface, as a request has them after the kernel answered.
fn flags_of(request: &libc::ifreq) -> i32 {
    // SAFETY: requests for flags have flags, and all bits are valid ones.
    i32::from(unsafe { request.ifr_ifru.ifru_flags })
}

/// Whether the interface with this number is in this process's network namespace, up, and has a carrier.
pub fn interface_is_up(index: u32) -> bool {
    let Some(name) = interface_name(index) else { return false };
    let mut request = interface_request(&name);
    flags_ioctl(&mut request, libc::SIOCGIFFLAGS).is_ok()
        && flags_of(&request) & (libc::IFF_UP | libc::IFF_RUNNING) == libc::IFF_UP | libc::IFF_RUNNING
}

/// Takes an interface of this process's network namespace up or down.
///
/// # Errors
/// The kernel's reason.
pub fn set_interface_up(name: &str, up: bool) -> io::Result<()> {
    let mut request = interface_request(name);
    flags_ioctl(&mut request, libc::SIOCGIFFLAGS)?;
    let flags = flags_of(&request);
    let flags = if up { flags | libc::IFF_UP } else { flags & !libc::IFF_UP };
    // The field has 16 bits.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    flags_ioctl(&mut request, libc::SIOCSIFFLAGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_can_be_narrowed_and_is_the_threads_own() {
        let all = affinity().unwrap();
        assert!(!all.is_empty());
        let first = all[0];
        let narrowed = std::thread::spawn(move || {
            set_affinity(&[first]).unwrap();
            affinity().unwrap()
        });
        assert_eq!(narrowed.join().unwrap(), [first]);
        assert_eq!(affinity().unwrap(), all);
    }

    #[test]
    fn the_umask_is_as_before_also_after_a_panic() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim().to_owned()
        };
        // The mask is the process's, and other tests make files: a process of its own.
        const ALONE: &str = "VXSWITCH_TEST_UMASK";
        if std::env::var_os(ALONE).is_none() {
            let test = "control::sys::tests::the_umask_is_as_before_also_after_a_panic";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let output = alone.env(ALONE, "").args(["--exact", test]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let before = mask();
        assert_eq!(owner_only(mask), "0177");
        assert_eq!(mask(), before);
        assert!(std::panic::catch_unwind(|| owner_only(|| panic!("on purpose"))).is_err());
        assert_eq!(mask(), before);
    }

    #[test]
    fn interfaces_have_names_here() {
        // Every namespace has its loopback, and it is the first.
        assert_eq!(interface_name(1).as_deref(), Some("lo"));
        assert_eq!(interface_name(u32::MAX), None);
        assert!(!interface_is_up(u32::MAX));
    }
}
