//! A probe of `net_virtio_user` waits for the other side of its socket, for ever: as a server for a connection, and with either role
//! for answers. Here it waits for a bounded time.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the other side may take: an end that connects again by itself does so every second.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the sockets are shut down again until the probe returns.
const AGAIN: Duration = Duration::from_millis(50);

/// A probe with a time limit.
pub(super) struct Waiting {
    path: String,
    /// The socket's file was there before.
    existed: bool,
    ends: Sender<()>,
    watch: JoinHandle<bool>,
}

impl Waiting {
    /// Watches over the probe of a device that has a socket; `None` when this has none.
    pub(super) fn begin(devargs: &str) -> Option<Waiting> {
        let mut arguments = devargs.strip_prefix("net_virtio_user")?.split(',').skip(1);
        let path = arguments.find_map(|argument| argument.strip_prefix("path="))?.to_owned();
        let existed = is_socket(&path)?;
        let (ends, ended) = channel();
        let socket = path.clone();
        let watch = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
            let (mut wait, mut over) = (PATIENCE, false);
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                (wait, over) = (AGAIN, true);
                for file in sockets(&socket) {
                    // SAFETY: an open socket, or no descriptor at all; whoever waits for it is woken up.
                    unsafe { libc::shutdown(file, libc::SHUT_RDWR) };
                }
            }
            over
        });
        Some(Waiting { path, existed, ends, watch: watch.ok()? })
    }

    /// The probe has ended, well or not. Why it was given up, if it was.
    pub(super) fn end(self, failed: bool) -> Option<String> {
        // It has ended when it does not listen.
        let _ = self.ends.send(());
        let over = self.watch.join().unwrap_or(false);
        if !failed || !over {
            return None;
        }
        for file in sockets(&self.path) {
            // SAFETY: the device is gone, and has left it behind.
            unsafe { libc::close(file) };
        }
        if !self.existed {
            // DPDK made it, and would not take it for the next try.
            let _ = fs::remove_file(&self.path);
        }
        Some(format!(
            "nobody answered on {} for {} s: start the other end first, one that connects again by itself if this one is the server",
            self.path,
            PATIENCE.as_secs()
        ))
    }
}

/// Whether a socket is there; `None` for something else, which is a device of the kernel's.
fn is_socket(path: &str) -> Option<bool> {
    match fs::metadata(path) {
        Ok(about) => about.file_type().is_socket().then_some(true),
        Err(_) => Some(false),
    }
}

/// Sockets of this process that are bound or connected to a path.
fn sockets(path: &str) -> Vec<RawFd> {
    let Ok(files) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let at = |file: &RawFd| [libc::getsockname, libc::getpeername].iter().any(|ask| is_at(*ask, *file, path));
    files.flatten().filter_map(number).filter(at).collect()
}

/// Asks a socket for an address.
type Ask = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn is_at(ask: Ask, file: RawFd, path: &str) -> bool {
    let mut address = MaybeUninit::<libc::sockaddr_un>::zeroed();
    let mut len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: writes at most that many bytes; a descriptor that is no socket is refused.
    if unsafe { ask(file, address.as_mut_ptr().cast(), &raw mut len) } < 0 {
        return false;
    }
    // SAFETY: all-zero is a valid value, and the kernel wrote an address over it.
    let address = unsafe { address.assume_init() };
    let bytes = address.sun_path.iter().map(|byte| byte.cast_unsigned()).take_while(|byte| *byte != 0);
    i32::from(address.sun_family) == libc::AF_UNIX && bytes.eq(path.bytes())
}
