//! What DPDK logs while it fails: the driver's own words for an error.

use dpdk_sys as sys;
use std::cell::RefCell;
use std::ffi::c_char;

/// More than that nobody reads.
const MOST: usize = 4096;
/// Lines that say nothing beside others, by their beginnings.
const GENERAL: [&str; 5] = [
    "EAL: Driver cannot attach the device",
    "EAL: Failed to attach device on primary process",
    "EAL: Failed to hotplug",
    "EAL: Failed to detach device on primary process",
    "EAL: Bus (",
];

thread_local! {
    /// What this thread logged since it began to listen.
    static HEARD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `f`, which calls DPDK, with `rte_errno` cleared, and returns what was logged on this thread meanwhile, as one
/// line. It also goes where it would have gone.
pub(crate) fn listen<R>(f: impl FnOnce() -> R) -> (R, String) {
    // SAFETY: writes a thread-local integer; needs no EAL.
    unsafe { sys::vxs_set_errno(0) };
    let before = HEARD.with_borrow_mut(|heard| heard.replace(String::new()));
    let result = f();
    let heard = HEARD.with_borrow_mut(|heard| std::mem::replace(heard, before)).unwrap_or_default();
    (result, summary(&heard))
}

/// The lines that say something, joined.
fn summary(heard: &str) -> String {
    let lines = || heard.lines().map(str::trim).filter(|line| !line.is_empty());
    let general = |line: &&str| GENERAL.iter().any(|start| line.starts_with(start));
    let mut chosen: Vec<&str> = lines().filter(|line| !general(line)).collect();
    if chosen.is_empty() {
        chosen = lines().take(1).collect();
    }
    chosen.dedup();
    let strip = |line: &&str| line.strip_prefix("EAL: ").unwrap_or(line).to_owned();
    chosen.iter().map(strip).collect::<Vec<_>>().join("; ")
}

/// Begins to hear. After EAL's start, which sets the log up. Without memory for it, errors lack the driver's words.
pub(crate) fn install() {
    // SAFETY: EAL runs; the hook is a function of this program.
    unsafe { sys::vxs_log_hook(Some(hear)) };
}

/// Called on the thread that logs, from within DPDK: does not panic.
unsafe extern "C" fn hear(text: *const c_char, size: usize) {
    // SAFETY: the stream gives `size` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) };
    // A thread that ends has no locals any more; one that is borrowing logs from within this function.
    let _ = HEARD.try_with(|heard| {
        if let Ok(mut heard) = heard.try_borrow_mut()
            && let Some(heard) = heard.as_mut()
            && heard.len() + size <= MOST
        {
            heard.push_str(&String::from_utf8_lossy(bytes));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_heard_before_eal() {
        let heard = "tap: cannot open\nEAL: Driver cannot attach the device (net_tap0)\n\nEAL: Failed to attach device on primary process\n";
        assert_eq!(summary(heard), "tap: cannot open");
        assert_eq!(summary("EAL: no driver\nEAL: no driver\nx\n"), "no driver; x");
        assert_eq!(
            summary("EAL: Driver cannot attach the device (a)\n"),
            "Driver cannot attach the device (a)"
        );
        assert_eq!(summary(""), "");
    }

    #[test]
    fn listening_is_the_threads_own_and_ends() {
        let hear_text = |text: &str| {
            // SAFETY: a valid text.
            unsafe { hear(text.as_ptr().cast(), text.len()) }
        };
        hear_text("nobody listens\n");
        let ((), heard) = listen(|| {
            hear_text("out");
            let ((), inner) = listen(|| hear_text("in\n"));
            assert_eq!(inner, "in");
            std::thread::spawn(move || hear_text("elsewhere\n")).join().unwrap();
            hear_text("er\n");
            hear_text(&"x".repeat(MOST));
        });
        assert_eq!(heard, "outer", "what is too long is left out");
        assert_eq!(listen(|| {}).1, "");
    }
}
