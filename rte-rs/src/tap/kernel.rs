//! The kernel's side of a tap: `/dev/net/tun`, its ioctls, and the interface wherever it was moved.

use crate::error::{Errno, Error};
use crate::ethtool::LinkSettings;
use crate::virtio::header;
use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Longest name of an interface in bytes (`IFNAMSIZ` - 1).
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;
/// `TUN_F_UDP_TUNNEL_GSO` and `TUN_F_UDP_TUNNEL_GSO_CSUM`, since Linux 6.17.
const TUNNEL_GSO: c_uint = 0x80 | 0x100;
const USO: c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
const TSO: c_uint = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// Memory of packets that wait for the kernel's thread, in bytes: more than a TCP connection has in flight (`tcp_rmem`).
const SEND_BUFFER: c_int = 8 << 20;
/// Packets that the kernel gives a new tap's queue room for, and that wait in one where each is of the MTU's size: a TCP
/// connection's window.
const DEFAULT_QUEUE_LEN: c_int = 1000;
const QUEUE_LEN: c_int = 4096;
/// Network namespace of a tap's interface, as a file descriptor.
const TUNGETDEVNETNS: c_ulong = 0x54e3;

/// What the kernel may leave to us, and takes from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Features {
    /// Bytes of the virtio header.
    pub header_len: usize,
    /// Checksums.
    pub checksum: bool,
    /// TCP segments.
    pub tso: bool,
    /// UDP segments (Linux 6.2 and later).
    pub uso: bool,
    /// Both inside tunnels over UDP (Linux 6.17 and later).
    pub tunnel: bool,
}

/// An ioctl's result as an errno.
fn done(code: c_int) -> Result<(), Errno> {
    if code < 0 { Err(last()) } else { Ok(()) }
}

fn last() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A request for the interface `name`, all zero but that.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid value of the structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(MAX_NAME).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request.ifr_name.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Opens a queue of the tap `name`, which is made unless it is there; with `napi`, what is sent to it goes
/// through NAPI and GRO. Returns the file, and the name that it has: of `tap%d` the kernel makes one.
///
/// # Errors
/// The step that failed, and why.
pub(crate) fn open_queue(
    name: &str,
    several: bool,
    napi: bool,
) -> Result<(File, String), (&'static str, Errno)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options
        .open("/dev/net/tun")
        .map_err(|error| ("opening /dev/net/tun", Errno(error.raw_os_error().unwrap_or(0))))?;
    let attach = |several: bool| {
        let mut request = request(name);
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        flags |= if several { libc::IFF_MULTI_QUEUE } else { 0 } | if napi { libc::IFF_NAPI } else { 0 };
        request.ifr_ifru.ifru_flags = flags as i16;
        // SAFETY: the descriptor is open; the kernel reads and writes the structure.
        done(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        Ok(name_of(&request))
    };
    let name = match attach(several) {
        // One that is there was made for several queues, and is to be used with one.
        Err(Errno(libc::EINVAL)) if !several => attach(true),
        other => other,
    };
    Ok((file, name.map_err(|errno| ("attaching to the tap", errno))?))
}

/// Agrees with the kernel on headers and offloads: as much as it has, or as `offloads` allows.
pub(crate) fn negotiate(file: &File, offloads: bool) -> Result<Features, (&'static str, Errno)> {
    let fd = file.as_raw_fd();
    let set_len = |len: usize| {
        let len = len as c_int;
        // SAFETY: the descriptor is open; the kernel reads one integer.
        done(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const len) })
    };
    // SAFETY: the descriptor is open; the argument is a value.
    let allow = |flags: c_uint| done(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, c_ulong::from(flags)) });
    let none =
        Features { header_len: header::SHORT_LEN, checksum: false, tso: false, uso: false, tunnel: false };
    if offloads {
        let checksum = Features { checksum: true, ..none };
        let tso = Features { tso: true, ..checksum };
        let uso = Features { uso: true, ..tso };
        let tunnel = Features { header_len: header::LEN, tunnel: true, ..uso };
        let steps = [
            (tunnel, libc::TUN_F_CSUM | TSO | USO | TUNNEL_GSO),
            (uso, libc::TUN_F_CSUM | TSO | USO),
            (tso, libc::TUN_F_CSUM | TSO),
            (checksum, libc::TUN_F_CSUM),
        ];
        for (features, flags) in steps {
            // The header first: tunnels need the longer one.
            if set_len(features.header_len).and_then(|()| allow(flags)).is_ok() {
                return Ok(features);
            }
        }
    }
    set_len(none.header_len).map_err(|errno| ("setting the header's length", errno))?;
    allow(0).map_err(|errno| ("setting the offloads", errno))?;
    Ok(none)
}

/// Lets a thread of the kernel take what is sent to a tap with NAPI: it finds several packets at once, and GRO coalesces them,
/// while each write by itself would have the whole stack process one packet. Does nothing where `/sys` is another network
/// namespace's, or may not be written: then it is so.
pub(crate) fn receive_by_thread(name: &str, file: &File) -> Result<(), Errno> {
    if std::fs::write(format!("/sys/class/net/{name}/threaded"), "1").is_err() {
        return Ok(());
    }
    let bytes = SEND_BUFFER;
    // SAFETY: the descriptor is open; the kernel reads one integer.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETSNDBUF, &raw const bytes) })
}

/// Lets the interface live on, or not, when its last queue is closed.
pub(crate) fn persist(file: &File, on: bool) -> Result<(), Errno> {
    // SAFETY: the descriptor is open; the argument is a value.
    done(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, c_ulong::from(on)) })
}

/// An interface, reached through one of its queues: it stays the same when it is renamed or moved to another network
/// namespace.
pub(crate) struct Interface {
    queue: File,
}

impl Interface {
    /// The interface with this number whose queue some code of this process has open (`net_tap`'s driver does), as seen
    /// in this thread's network namespace.
    pub(crate) fn opened_here(name: &str) -> Option<Interface> {
        let files = std::fs::read_dir("/proc/self/fd").ok()?;
        files.flatten().find_map(|entry| {
            if std::fs::read_link(entry.path()).ok()?.to_str()? != "/dev/net/tun" {
                return None;
            }
            let fd: RawFd = entry.file_name().to_str()?.parse().ok()?;
            // SAFETY: a descriptor of this process, duplicated at once; if it was closed or replaced meanwhile, the copy
            // is of something else, or fails, which the name tells.
            let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
            // SAFETY: a descriptor that the kernel just made for us.
            let queue = (copy >= 0).then(|| unsafe { File::from_raw_fd(copy) })?;
            let interface = Interface { queue };
            (interface.name().as_deref() == Ok(name)).then_some(interface)
        })
    }

    pub(crate) fn new(queue: &File) -> io::Result<Interface> {
        Ok(Interface { queue: queue.try_clone()? })
    }

    /// Its name now; `ENODEV` when it is gone (`EBADFD` in the kernel's words).
    pub(crate) fn name(&self) -> Result<String, Errno> {
        let mut request = request("");
        // SAFETY: the descriptor is open; the kernel writes the structure.
        match done(unsafe { libc::ioctl(self.queue.as_raw_fd(), libc::TUNGETIFF, &raw mut request) }) {
            Ok(()) => Ok(name_of(&request)),
            Err(Errno(libc::EBADFD)) => Err(Errno::ENODEV),
            Err(errno) => Err(errno),
        }
    }

    /// Asks or tells the kernel something of the interface.
    fn ask(&self, what: c_ulong, fill: impl FnOnce(&mut libc::ifreq)) -> Result<libc::ifreq, Errno> {
        let mut request = request(&self.name()?);
        fill(&mut request);
        self.with_socket(|socket| {
            // SAFETY: the descriptor is open; the kernel reads and writes the structure.
            done(unsafe { libc::ioctl(socket, what, &raw mut request) })
        })?;
        Ok(request)
    }

    /// `IFF_UP` and `IFF_RUNNING`.
    pub(crate) fn up(&self) -> Result<bool, Errno> {
        let request = self.ask(libc::SIOCGIFFLAGS, |_| {})?;
        // SAFETY: the kernel wrote this variant.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
    }

    /// What it says of its link.
    pub(crate) fn settings(&self) -> Option<LinkSettings> {
        LinkSettings::read(|data| self.ask(libc::SIOCETHTOOL, |request| request.ifr_ifru.ifru_data = data))
    }

    pub(crate) fn mtu(&self) -> Result<u16, Errno> {
        let request = self.ask(libc::SIOCGIFMTU, |_| {})?;
        // SAFETY: the kernel wrote this variant.
        Ok(u16::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(u16::MAX))
    }

    pub(crate) fn set_mtu(&self, mtu: u16) -> Result<(), Errno> {
        self.ask(libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = mtu.into()).map(drop)
    }

    /// Makes queues long enough for packets of the MTU's size, unless somebody has chosen a length.
    pub(crate) fn lengthen_queues(&self) -> Result<(), Errno> {
        let request = self.ask(libc::SIOCGIFTXQLEN, |_| {})?;
        // SAFETY: the kernel wrote this variant.
        if unsafe { request.ifr_ifru.ifru_metric } != DEFAULT_QUEUE_LEN {
            return Ok(());
        }
        self.ask(libc::SIOCSIFTXQLEN, |request| request.ifr_ifru.ifru_metric = QUEUE_LEN).map(drop)
    }

    pub(crate) fn mac(&self) -> Result<[u8; 6], Errno> {
        let request = self.ask(libc::SIOCGIFHWADDR, |_| {})?;
        // SAFETY: the kernel wrote this variant.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(std::array::from_fn(|at| data[at].cast_unsigned()))
    }

    pub(crate) fn set_mac(&self, mac: [u8; 6]) -> Result<(), Errno> {
        self.ask(libc::SIOCSIFHWADDR, |request| {
            // SAFETY: all-zero is a valid value of the structure.
            let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
            address.sa_family = libc::ARPHRD_ETHER;
            address.sa_data.iter_mut().zip(mac).for_each(|(to, from)| *to = from.cast_signed());
            request.ifr_ifru.ifru_hwaddr = address;
        })
        .map(drop)
    }

    pub(crate) fn set_up(&self) -> Result<(), Errno> {
        let request = self.ask(libc::SIOCGIFFLAGS, |_| {})?;
        // SAFETY: the kernel wrote this variant.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        self.ask(libc::SIOCSIFFLAGS, |request| request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as i16)
            .map(drop)
    }

    /// Calls `f` with a socket in the interface's namespace. It is not kept: it would keep the namespace.
    fn with_socket<R>(&self, f: impl FnOnce(RawFd) -> Result<R, Errno>) -> Result<R, Errno> {
        // SAFETY: the descriptor is open; the call has no argument.
        let namespace = unsafe { libc::ioctl(self.queue.as_raw_fd(), TUNGETDEVNETNS) };
        if namespace < 0 {
            return Err(last());
        }
        // SAFETY: a descriptor that the kernel just made for us.
        let namespace = unsafe { File::from_raw_fd(namespace) };
        let inode = |file: io::Result<std::fs::Metadata>| file.ok().map(|file| file.ino());
        let here = inode(std::fs::metadata("/proc/thread-self/ns/net"));
        let socket = if here.is_some() && here == inode(namespace.metadata()) {
            socket()?
        } else {
            // The namespace is a thread's: one of its own enters it.
            let there = || enter(&namespace).and_then(|()| socket());
            std::thread::scope(|scope| scope.spawn(there).join()).map_err(|_| Errno(libc::EIO))??
        };
        f(socket.as_raw_fd())
    }
}

/// Makes another network namespace this thread's.
fn enter(namespace: &File) -> Result<(), Errno> {
    // SAFETY: the descriptor is a network namespace's.
    done(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn socket() -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: a descriptor that the kernel just made for us.
    if socket < 0 { Err(last()) } else { Ok(unsafe { OwnedFd::from_raw_fd(socket) }) }
}

/// The error of a step.
pub(crate) fn failed(name: &str, step: &'static str) -> impl FnOnce(Errno) -> Error {
    let name = name.to_owned();
    move |reason| Error::Port { name, step, reason, said: String::new() }
}
