//! The sockets that librte_vhost has open for a path, which it does not tell.
//!
//! One thread of it reads the messages of all connections, and waits for the rest of a message that has begun. So that one
//! who sends half a message, or takes no answers, does not hold up the others, its socket gives up after a while.

use std::ffi::c_int;
use std::os::fd::RawFd;
use std::time::Duration;

/// How long the rest of a message may take to come: a master sends it as a whole.
const REST: Duration = Duration::from_millis(100);
/// How long an answer may take to go: there is room for thousands.
const ANSWER: Duration = Duration::from_millis(1);

/// Sets the timeouts of every socket of this process that is bound or connected to `path`: which one librte_vhost has just got, it
/// does not say.
pub(super) fn set_timeouts(path: &[u8]) {
    for fd in with_path(path) {
        for (option, time) in [(libc::SO_RCVTIMEO, REST), (libc::SO_SNDTIMEO, ANSWER)] {
            let within = libc::timeval { tv_sec: 0, tv_usec: time.as_micros() as libc::suseconds_t };
            let len = size_of::<libc::timeval>() as libc::socklen_t;
            // SAFETY: the structure is read; a descriptor that is no socket any more is refused.
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, (&raw const within).cast(), len) };
        }
    }
}

/// Ends every connection over `path`, as if its other end had gone. A socket that listens stays.
pub(super) fn shut_down(path: &[u8]) {
    for fd in with_path(path).filter(|fd| path_at(libc::getpeername, *fd).is_some()) {
        // SAFETY: integers; a descriptor that is no socket any more is refused.
        unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
    }
}

/// The sockets with this path at one of their ends.
fn with_path(path: &[u8]) -> impl Iterator<Item = RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let descriptors = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    descriptors.filter(move |fd| has_path(*fd, path))
}

/// Whether a descriptor is a socket with this path at one of its ends.
fn has_path(fd: RawFd, path: &[u8]) -> bool {
    let is = |end: Option<Vec<u8>>| end.is_some_and(|end| end == path);
    is(path_at(libc::getsockname, fd)) || is(path_at(libc::getpeername, fd))
}

/// How the kernel says the name of an end.
type Name = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

/// The path of one end of a Unix socket, empty when it has none; `None` when there is no such end.
fn path_at(name: Name, fd: RawFd) -> Option<Vec<u8>> {
    // SAFETY: integers only, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: writes at most `len` bytes; what is no socket is refused.
    let code = unsafe { name(fd, (&raw mut address).cast(), &raw mut len) };
    let bytes = address.sun_path.map(|byte| byte as u8);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (code == 0 && c_int::from(address.sun_family) == libc::AF_UNIX).then(|| bytes[..end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn who_sends_nothing_is_not_waited_for_and_can_be_sent_away() {
        let path = std::env::temp_dir().join(format!("vhost-timeout-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut connected = UnixStream::connect(&path).expect("a connection");
        let (mut accepted, _) = listener.accept().expect("a connection");
        let (other, _end) = UnixStream::pair().expect("a pair");
        set_timeouts(path.as_os_str().as_encoded_bytes());
        for stream in [&mut connected, &mut accepted] {
            let error = stream.read(&mut [0]).expect_err("nothing comes");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
        assert_eq!(other.read_timeout().expect("a timeout"), None);
        shut_down(path.as_os_str().as_encoded_bytes());
        for stream in [&mut connected, &mut accepted] {
            assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
        }
        let _next = UnixStream::connect(&path).expect("a connection");
        listener.accept().expect("a connection");
        std::fs::remove_file(&path).expect("removed");
    }
}
