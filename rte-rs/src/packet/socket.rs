//! Packet sockets: opening them, and receiving with the VLAN tag that the kernel has taken out of the frame.

use crate::error::Errno;
use crate::ethtool::LinkSettings;
use std::ffi::{CStr, CString, c_int, c_uint};
use std::fs::File;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// `PACKET_IGNORE_OUTGOING`: what the host itself sends by the interface does not come back (Linux 4.20).
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING`: the same of a group of sockets (Linux 5.17).
const FANOUT_IGNORE_OUTGOING: c_uint = 0x4000;
/// Bytes that may wait in a socket: a burst of segments of 64 KiB.
const BUFFER: c_int = 8 << 20;
/// Room for the ancillary data of one message.
const CONTROL: usize = 64;

/// A step of opening that failed, and why.
pub(crate) type Failed = (&'static str, Errno);

fn last() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn set<T>(socket: &File, level: c_int, option: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: the descriptor is open; the kernel reads the value.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if code < 0 { Err(last()) } else { Ok(()) }
}

/// Number of the interface of this name, in this thread's network namespace.
pub(crate) fn interface_index(name: &str) -> Result<c_uint, Errno> {
    let text = CString::new(name).map_err(|_| Errno(libc::EINVAL))?;
    // SAFETY: a valid text.
    match unsafe { libc::if_nametoindex(CStr::as_ptr(&text)) } {
        0 => Err(last()),
        index => Ok(index),
    }
}

/// Name of the interface with this number, in this thread's network namespace.
fn interface_name(index: c_uint) -> Result<[libc::c_char; libc::IF_NAMESIZE], Errno> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has room for IF_NAMESIZE bytes, the most that is written.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() { Err(last()) } else { Ok(name) }
}

/// Asks or tells the kernel something of the interface with this number.
fn ask(index: c_uint, what: libc::Ioctl, fill: impl FnOnce(&mut libc::ifreq)) -> Result<libc::ifreq, Errno> {
    // SAFETY: all-zero is a valid value of the structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name = interface_name(index)?;
    fill(&mut request);
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(last());
    }
    // SAFETY: a descriptor that the kernel just made for us.
    let socket = unsafe { File::from_raw_fd(socket) };
    // SAFETY: the descriptor is open; the kernel reads and writes the structure.
    if unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) } < 0 {
        Err(last())
    } else {
        Ok(request)
    }
}

/// MTU of an interface.
pub(crate) fn mtu(index: c_uint) -> Result<u16, Errno> {
    let request = ask(index, libc::SIOCGIFMTU, |_| {})?;
    // SAFETY: the kernel wrote this variant.
    Ok(u16::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(u16::MAX))
}

/// Sets the MTU of an interface.
pub(crate) fn set_mtu(index: c_uint, mtu: u16) -> Result<(), Errno> {
    ask(index, libc::SIOCSIFMTU, |request| request.ifr_ifru.ifru_mtu = mtu.into()).map(drop)
}

/// What an interface says of its link.
pub(crate) fn settings(index: c_uint) -> Option<LinkSettings> {
    LinkSettings::read(|data| ask(index, libc::SIOCETHTOOL, |request| request.ifr_ifru.ifru_data = data))
}

/// MAC address of an interface.
pub(crate) fn mac(index: c_uint) -> Result<[u8; 6], Errno> {
    let request = ask(index, libc::SIOCGIFHWADDR, |_| {})?;
    // SAFETY: the kernel wrote this variant.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    Ok(std::array::from_fn(|at| data[at].cast_unsigned()))
}

/// Opens a socket on an interface: one that receives all frames that come by it, or, without `receives`, none.
pub(crate) fn open(index: c_uint, receives: bool) -> Result<File, Failed> {
    // Bound to no protocol it receives nothing before it is set up, and nothing of other interfaces.
    // SAFETY: no memory is involved.
    let socket = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0)
    };
    if socket < 0 {
        return Err(("opening a packet socket", last()));
    }
    // SAFETY: a descriptor that the kernel just made for us.
    let socket = unsafe { File::from_raw_fd(socket) };
    let one: c_int = 1;
    let step = |option, step| set(&socket, libc::SOL_PACKET, option, &one).map_err(|error| (step, error));
    step(libc::PACKET_VNET_HDR, "asking for virtio headers")?;
    if receives {
        step(libc::PACKET_AUXDATA, "asking for VLAN tags")?;
        step(PACKET_IGNORE_OUTGOING, "leaving out what the host sends")?;
        // As much as root may; less where that is not allowed.
        let _ = set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER)
            .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &BUFFER));
    } else {
        let _ = set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER)
            .or_else(|_| set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &BUFFER));
    }
    // SAFETY: all-zero is a valid value of the structure.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index.cast_signed();
    address.sll_protocol = if receives { (libc::ETH_P_ALL as u16).to_be() } else { 0 };
    // SAFETY: the kernel reads the structure.
    let code = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if code < 0 {
        return Err(("binding the packet socket", last()));
    }
    if receives {
        let membership = libc::packet_mreq {
            mr_ifindex: index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
            .map_err(|error| ("making the interface promiscuous", error))?;
    }
    Ok(socket)
}

/// Has the kernel spread what comes by flow over several sockets on an interface.
pub(crate) fn spread(sockets: &[File]) -> Result<(), Failed> {
    let failed = |error| ("sharing out over several packet sockets", error);
    let Some((first, others)) = sockets.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Ok(());
    };
    let flags = libc::PACKET_FANOUT_HASH | FANOUT_IGNORE_OUTGOING;
    let kind = (flags | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16;
    set(first, libc::SOL_PACKET, libc::PACKET_FANOUT, &kind).map_err(failed)?;
    let mut group: c_uint = 0;
    let mut len = size_of::<c_uint>() as libc::socklen_t;
    // SAFETY: the kernel writes one integer.
    let code = unsafe {
        libc::getsockopt(
            first.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut group).cast(),
            &raw mut len,
        )
    };
    if code < 0 {
        return Err(failed(last()));
    }
    let join = group & 0xffff | flags << 16;
    others
        .iter()
        .try_for_each(|socket| set(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &join).map_err(failed))
}

/// A VLAN tag: TPID and TCI.
pub(crate) type Tag = (u16, u16);

/// Receives a frame with its header into `pieces`; gives its length and the tag that was in it. Negative, with the error in
/// `errno`, as `recvmsg`. A frame that is longer than the pieces is an error, too (`EMSGSIZE`).
pub(crate) fn receive(socket: RawFd, pieces: &mut [libc::iovec]) -> io::Result<(usize, Option<Tag>)> {
    #[repr(C, align(8))]
    struct Control([MaybeUninit<u8>; CONTROL]);
    let mut control = Control([MaybeUninit::uninit(); CONTROL]);
    // SAFETY: all-zero is a valid value of the structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL;
    // SAFETY: the pieces are the caller's to be written to; the control buffer is as long as said.
    let read = unsafe { libc::recvmsg(socket, &raw mut message, 0) };
    if read < 0 {
        return Err(io::Error::last_os_error());
    }
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((read as usize, tag(&message)))
}

/// The tag in a received message's ancillary data.
fn tag(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: the kernel has filled the control buffer, as far as the message's length says.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref() }?;
    // SAFETY: computes a number of one.
    let wanted = unsafe { libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as c_uint) } as usize;
    let is_it = (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
        && header.cmsg_len >= wanted;
    if !is_it {
        return None;
    }
    // SAFETY: the data is that structure, whole, though not aligned to it.
    let data: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let has = |bit: u32| data.tp_status & bit != 0;
    let tpid = if has(libc::TP_STATUS_VLAN_TPID_VALID) { data.tp_vlan_tpid } else { 0x8100 };
    has(libc::TP_STATUS_VLAN_VALID).then_some((tpid, data.tp_vlan_tci))
}
